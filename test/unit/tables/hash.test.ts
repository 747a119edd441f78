import { expect, it } from "vitest";
import { bucketsFor, hashAddress } from "../../../src/tables/hash.js";
import { address } from "../../support/frames.js";

it.each([
  [0, 4],
  [1, 4],
  [2, 4],
  [3, 8],
  [4, 8],
  [5, 16],
  [1000, 2048],
  [1024, 2048],
  [1025, 4096],
])("bucketsFor(%i) is %i: a power of two, at most half full", (n, buckets) => {
  expect(bucketsFor(n)).toBe(buckets);
});

it("neighbouring addresses spread: no bucket of 1024 gets more than 10 of 1024 block addresses", () => {
  const filled = new Int32Array(1024);
  for (let n = 0; n < 1024; n++) filled[hashAddress(address("10.1.0.0") + 64 * n) & 1023]++;
  expect(Math.max(...filled)).toBeLessThanOrEqual(10);
  // Random placement leaves about 1/e of the buckets empty.
  expect(filled.filter((n) => n === 0).length).toBeLessThan(1024 * 0.45);
});
