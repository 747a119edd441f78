import { expect, test } from "vitest";
import { native } from "../../../src/binding/index.js";

test("the clock's offset turns hrtime into the time of day", () => {
  const before = Date.now();
  const ns = process.hrtime.bigint() + native.clockOffset();
  const after = Date.now();
  // Date.now() is cut to milliseconds.
  expect(ns >= BigInt(before) * 1_000_000n - 1_000_000n).toBe(true);
  expect(ns <= BigInt(after + 2) * 1_000_000n).toBe(true);
});
