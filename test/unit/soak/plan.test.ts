import { expect, test } from "vitest";
import { planOf } from "../../support/clusterSoak.js";

test("a seed gives the same operations and kills every time, another seed others", () => {
  const plan = (seed: number) => planOf({ seed, operations: 500, kills: 20, convergeMs: 0 });
  expect(plan(7)).toEqual(plan(7));
  expect(plan(7)).not.toEqual(plan(8));
  for (let seed = 1; seed <= 50; seed++) {
    const { operations, kills } = plan(seed);
    expect(operations).toHaveLength(500);
    expect(kills).toHaveLength(20);
    // Every kill falls into an operation, and each kind of kill comes.
    expect(kills.every(({ at }) => at >= 0 && at < 500)).toBe(true);
    expect(kills.some(({ what }) => what === "api") && kills.some(({ what }) => what === "all")).toBe(true);
    expect(new Set(operations.map((each) => each.do)).size).toBe(11);
  }
});
