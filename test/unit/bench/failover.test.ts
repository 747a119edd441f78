import { describe, expect, it } from "vitest";
import { type Attempt, outageOf } from "../../../bench/failover/gap.js";
import { parseFailoverOptions } from "../../../bench/failover/options.js";
import { type FailoverResult, formatFailover, missed } from "../../../bench/failover/report.js";
import type { Trial } from "../../../bench/failover/trial.js";
import { VARIANTS } from "../../../bench/failover/variants.js";

/** An attempt every 10 ms from 0 on; those in `bad` (by their number) fail. */
function attempts(count: number, bad: readonly number[] = []): Attempt[] {
  return Array.from({ length: count }, (_, n) => ({ at: n * 10, good: !bad.includes(n) }));
}
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => from + n);

describe("the gap", () => {
  it("goes from the last good start before to the first good one after", () => {
    expect(outageOf(attempts(100, range(50, 80)), 505)).toEqual({ gapMs: 310, failed: 30, stepMs: 10 });
  });

  it("counts what was begun before the fault and hit by it", () => {
    expect(outageOf(attempts(100, range(48, 80)), 505)?.gapMs).toBe(330);
  });

  it("is the time between two starts where nothing failed", () => {
    expect(outageOf(attempts(100), 505)).toEqual({ gapMs: 10, failed: 0, stepMs: 10 });
  });

  it("is the longest, where it comes in parts", () => {
    expect(outageOf(attempts(200, [50, ...range(60, 70), 90]), 495)?.gapMs).toBe(110);
  });

  it("is not a pause of who asks, while all is well", () => {
    const paused = attempts(100).filter(({ at }) => at < 700 || at > 900);
    expect(outageOf(paused, 505)?.gapMs).toBe(10);
  });

  it("is not what failed long before", () => {
    expect(outageOf(attempts(100, range(5, 20)), 805)?.gapMs).toBe(10);
  });

  it("is not known without an answer before or after", () => {
    expect(outageOf(attempts(100, range(50, 100)), 505)).toBeNull();
    expect(outageOf(attempts(100, range(0, 80)), 505)).toBeNull();
    expect(outageOf([], 505)).toBeNull();
  });
});

describe("the report", () => {
  const trial = (gapMs: number, more: Partial<Trial> = {}): Trial => ({
    at: 1000,
    backAt: 3000,
    outage: { gapMs, failed: 5, stepMs: 10 },
    back: { gapMs: 10, failed: 0, stepMs: 10 },
    connections: 1000,
    refused: 0,
    living: { connections: 8, intact: 8, silenceMs: 600, errors: [] },
    hit: { connections: 3, intact: 0, silenceMs: 3000, errors: ["podA: read ECONNRESET"] },
    ...more,
  });
  const result = (trials: (Trial | null)[], fault: "kill" | "drain" = "kill"): FailoverResult => ({
    cases: [{ variant: "default", fault, endpoints: "stable", trials }],
    otherCores: [0],
    errors: [],
    failed: {},
  });
  const ours = VARIANTS.filter(({ key }) => key === "default");

  it("judges the median", () => {
    const well = result([trial(300), trial(390), trial(900)]);
    expect(formatFailover(well, ours)).toContain("390 [300–900] ✓");
    expect(missed(well, ours)).toEqual([]);
    const late = result([trial(300), trial(410), trial(900)]);
    expect(formatFailover(late, ours)).toContain("410 [300–900] ✗");
    expect(missed(late, ours)).toEqual(["default, kill: a gap of 410 ms"]);
    expect(missed(result([trial(25)], "drain"), ours)).toEqual(["default, drain: a gap of 25 ms"]);
  });

  it("misses nothing that failed: not on the node that was hit, but on living ones and for new connections", () => {
    const living = { connections: 8, intact: 6, silenceMs: 600, errors: ["podB: read ECONNRESET"] };
    const bad = result([trial(300), null, trial(300, { living, refused: 7 })]);
    expect(missed(bad, ours)).toEqual([
      "default, kill, stable endpoints: 7 new connections failed",
      "default, kill, stable endpoints: 2 connections to living nodes did not go on",
    ]);
    const text = formatFailover(bad, ours);
    expect(text).toContain("7 of 2000 ✗");
    expect(text).toContain("14 of 16 ✗");
    expect(text).toContain("podB: read ECONNRESET");
  });
});

it("options: a short run, and what is none", () => {
  const short = parseFailoverOptions(["--quick", "--faults", "kill,drain", "--variants", "fast"]);
  expect(short).toMatchObject({ repetitions: 1, connections: 200, faults: ["kill", "drain"] });
  expect(() => parseFailoverOptions(["--faults", "fire"])).toThrow(/--faults/);
  expect(() => parseFailoverOptions(["--endpoints", "some"])).toThrow(/--endpoints/);
  expect(() => parseFailoverOptions(["--variants", "vrrp"])).toThrow(/variant/);
});
