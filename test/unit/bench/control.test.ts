import { expect, test } from "vitest";
import { clusterTexts } from "../../../bench/control/cluster.js";
import { measure } from "../../../bench/control/run.js";

test("the control benchmark still fits: every change reaches the tables", async () => {
  const figures = await measure(clusterTexts(5, 3), 5, 3, 2);
  expect(figures).toHaveLength(6);
  for (const { milliseconds } of figures) expect(milliseconds.length).toBeGreaterThan(0);
});
