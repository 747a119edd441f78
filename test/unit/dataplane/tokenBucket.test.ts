import { describe, expect, it } from "vitest";
import { TokenBucket } from "../../../src/dataplane/TokenBucket.js";

/** How many of `wanted` tokens there are at a time. */
function take(bucket: TokenBucket, nowMs: number, wanted: number): number {
  let taken = 0;
  while (taken < wanted && bucket.take(nowMs)) taken++;
  return taken;
}

describe("TokenBucket", () => {
  it("gives its burst at once, then its rate", () => {
    const bucket = new TokenBucket(1000, 50);
    expect(take(bucket, 0, 100)).toBe(50);
    expect(take(bucket, 0, 100)).toBe(0);
    expect(take(bucket, 1, 100)).toBe(1);
    expect(take(bucket, 21, 100)).toBe(20);
  });

  it("fills to its burst and no more, however long nobody asks", () => {
    for (const later of [2 ** 31 - 1, -(2 ** 31), -1]) {
      const bucket = new TokenBucket(1000, 50);
      expect(take(bucket, 0, 100)).toBe(50);
      expect(take(bucket, later, 100), String(later)).toBe(50);
    }
  });

  it("saves fractions of a token", () => {
    const bucket = new TokenBucket(10, 1);
    expect(take(bucket, 0, 1)).toBe(1);
    for (let now = 25; now < 100; now += 25) expect(take(bucket, now, 1)).toBe(0);
    expect(take(bucket, 100, 1)).toBe(1);
  });

  it("goes on where the clock turns negative, and where it passes zero again", () => {
    for (const start of [2 ** 31 - 5, -5]) {
      const bucket = new TokenBucket(1000, 50);
      expect(take(bucket, start, 100)).toBe(50);
      expect(take(bucket, (start + 10) | 0, 100)).toBe(10);
    }
  });
});
