import { expect, it } from "vitest";
import { fuzz } from "../../support/fuzz.js";

/** What mutations cannot bring about from outside. */
const NOT_FROM_OUTSIDE = ["truncated", "txFailed", "internalError"];

it("100,000 mutations: no crash, every frame accounted for, nothing wrong is sent", () => {
  const totals = fuzz(100_000, 20_240_601);
  expect(totals.forwarded).toBeGreaterThan(20_000);
  expect(totals.answered).toBeGreaterThan(500);
  // The mutations reach every check.
  const reached = Object.keys(totals.dropped).filter((name) => !NOT_FROM_OUTSIDE.includes(name));
  expect(reached.length).toBeGreaterThanOrEqual(25);
});
