import { describe, expect, it } from "vitest";
import { judge, median, quantile, ratios, summarize } from "../../../bench/stats.js";

describe("quantile", () => {
  it("interpolates between neighbours, whatever the order", () => {
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([10, 20], 0.25)).toBe(12.5);
    expect(quantile([5, 1, 9], 0)).toBe(1);
    expect(quantile([5, 1, 9], 1)).toBe(9);
  });

  it("sorts numbers as numbers and leaves its argument alone", () => {
    const values = [10, 9, 100];
    expect(median(values)).toBe(10);
    expect(values).toEqual([10, 9, 100]);
  });

  it("is NaN for nothing", () => {
    expect(median([])).toBeNaN();
  });
});

describe("summarize", () => {
  it("leaves failed repetitions out", () => {
    expect(summarize([3, null, 1, 2])).toEqual({ n: 3, median: 2, min: 1, max: 3 });
  });

  it("is null where nothing was measured", () => {
    expect(summarize([])).toBeNull();
    expect(summarize([null, Number.NaN])).toBeNull();
  });
});

describe("ratios", () => {
  it("pairs the figures of one repetition", () => {
    expect(ratios([2, 30, 4], [1, 10, 8])).toEqual([2, 3, 0.5]);
  });

  it("has none where either is missing", () => {
    expect(ratios([2, null, 4, 5], [1, 10, null, 0])).toEqual([2, null, null, null]);
    expect(ratios([2, 3], [1])).toEqual([2, null]);
  });

  it("is not the ratio of the medians: slow repetitions cancel", () => {
    const base = [10, 2, 10];
    const twice = base.map((value) => 2 * value);
    expect(summarize(ratios(twice, base))).toEqual({ n: 3, median: 2, min: 2, max: 2 });
  });
});

describe("judge", () => {
  it.each([
    [0.7, "missed"],
    [0.75, "floor"],
    [0.99, "floor"],
    [1, "goal"],
  ] as const)("higher is better: %d is %s", (ratio, verdict) => {
    expect(judge(ratio, { floor: 0.75, goal: 1 }, "higher")).toBe(verdict);
  });

  it.each([
    [5, "missed"],
    [4, "floor"],
    [2, "goal"],
  ] as const)("lower is better: %d is %s", (ratio, verdict) => {
    expect(judge(ratio, { floor: 4, goal: 2 }, "lower")).toBe(verdict);
  });
});
