import { expect, test } from "vitest";
import { clusterTexts } from "../../../bench/control/cluster.js";
import { measure } from "../../../bench/control/run.js";
import { measureServices } from "../../../bench/control/services.js";

test("the control benchmark still fits: every change reaches the tables", async () => {
  const figures = await measure(clusterTexts(5, 3), 5, 3, 2);
  expect(figures).toHaveLength(6);
  for (const { milliseconds } of figures) expect(milliseconds.length).toBeGreaterThan(0);
});

test("so does its part with services", () => {
  const { memory, ...figures } = measureServices(5, 3, 1, 2);
  for (const milliseconds of Object.values(figures)) expect(milliseconds.length).toBeGreaterThan(0);
  // One ring of 131,071 slots of two bytes, and 16 bytes for each backend.
  expect(memory.used).toBeGreaterThan(2 * 131_071 + 16 * 1000);
  expect(memory.used).toBeLessThan(400_000);
});
