import { expect, test } from "vitest";
import { Backoffs } from "../../../src/runtime/Backoffs.js";
import { duration } from "../../../src/runtime/PodManager.js";

test("at once, then 10 s doubling to 300 s after the end", () => {
  const backoffs = new Backoffs();
  const waits: number[] = [];
  let now = 1_000_000;
  for (let restarts = 0; restarts < 8; restarts++) {
    const wait = backoffs.remaining("u/c", now, now);
    waits.push((wait?.leftMs ?? 0) / 1000);
    const end = now;
    now += wait?.leftMs ?? 0;
    expect(backoffs.remaining("u/c", end, now)).toBeNull();
    backoffs.next("u/c", end, now);
    now += 1000;
  }
  expect(waits).toEqual([0, 10, 20, 40, 80, 160, 300, 300]);
});

test("a container that ran ten minutes begins anew", () => {
  const backoffs = new Backoffs();
  for (let restarts = 0; restarts < 5; restarts++) backoffs.next("u/c", 0, 0);
  expect(backoffs.remaining("u/c", 600_000, 600_000)).toEqual({ delayMs: 160_000, leftMs: 160_000 });
  expect(backoffs.remaining("u/c", 600_001, 600_001)).toBeNull();
  backoffs.next("u/c", 600_001, 600_001);
  expect(backoffs.remaining("u/c", 601_000, 601_000)).toEqual({ delayMs: 10_000, leftMs: 10_000 });
});

test("a pod's are forgotten with it", () => {
  const backoffs = new Backoffs();
  backoffs.next("u/c", 0, 0);
  backoffs.next("v/c", 0, 0);
  backoffs.forget("u");
  expect(backoffs.remaining("u/c", 0, 0)).toBeNull();
  expect(backoffs.remaining("v/c", 0, 0)).not.toBeNull();
});

test.each([
  [10_000, "10s"],
  [80_000, "1m20s"],
  [300_000, "5m0s"],
])("%i ms as Go prints it", (ms, text) => expect(duration(ms)).toBe(text));
