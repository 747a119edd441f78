import { describe, expect, it } from "vitest";
import { TokenBucket } from "../../../src/dataplane/TokenBucket.js";

/** How many of `wanted` tokens there are at a time. */
function take(bucket: TokenBucket, nowUs: number, wanted: number): number {
  let taken = 0;
  while (taken < wanted && bucket.take(nowUs)) taken++;
  return taken;
}

describe("TokenBucket", () => {
  it("gives its burst at once, then its rate", () => {
    const bucket = new TokenBucket(1000, 50);
    expect(take(bucket, 0, 100)).toBe(50);
    expect(take(bucket, 999, 100)).toBe(0);
    expect(take(bucket, 1000, 100)).toBe(1);
    expect(take(bucket, 21_000, 100)).toBe(20);
  });

  it("fills to its burst and no more, however long nobody asks", () => {
    const bucket = new TokenBucket(1000, 50);
    expect(take(bucket, 2 ** 50, 100)).toBe(50);
  });

  it("saves fractions of a token", () => {
    const bucket = new TokenBucket(10, 1);
    expect(take(bucket, 0, 1)).toBe(1);
    for (let now = 25_000; now < 100_000; now += 25_000) expect(take(bucket, now, 1)).toBe(0);
    expect(take(bucket, 100_000, 1)).toBe(1);
  });

  it("a time that goes back gives nothing and takes nothing", () => {
    const bucket = new TokenBucket(1000, 50);
    take(bucket, 1_000_000, 50);
    expect(take(bucket, 0, 1)).toBe(0);
    expect(take(bucket, 1_001_000, 5)).toBe(1);
  });
});
