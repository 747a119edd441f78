import { beforeEach, expect, test } from "vitest";
import { FakeClock, settle } from "../../../src/kube/Clock.js";
import { WorkQueue } from "../../../src/kube/WorkQueue.js";

let clock: FakeClock;
let started: string[];
let finish: (() => void)[];

beforeEach(() => {
  clock = new FakeClock();
  started = [];
  finish = [];
});

function queue(concurrency = 1): WorkQueue {
  return new WorkQueue({
    clock,
    concurrency,
    process: (key) => {
      started.push(key);
      return new Promise((resolve) => finish.push(resolve));
    },
  });
}

test("a key waits once, and is not worked on twice at a time", async () => {
  const work = queue(2);
  for (const key of ["a", "a", "b", "c", "c"]) work.add(key);
  expect(started).toEqual(["a", "b"]);
  work.add("a");
  finish[1]!();
  await settle();
  expect(started).toEqual(["a", "b", "c"]);
  finish[2]!();
  await settle();
  expect(started).toEqual(["a", "b", "c"]);
  finish[0]!();
  await settle();
  expect(started).toEqual(["a", "b", "c", "a"]);
  const idle = work.idle();
  finish[3]!();
  await idle;
  expect(work.size).toBe(0);
});

test("failures come back later each time, and are forgotten after a success", async () => {
  const at: number[] = [];
  let fails = 3;
  const work = new WorkQueue({
    clock,
    random: () => 1,
    backoff: { first: 10, most: 25 },
    process: async () => {
      at.push(clock.now());
      if (fails-- > 0) throw new Error("not yet");
    },
  });
  work.add("a");
  await clock.advance(1000);
  expect(at).toEqual([0, 10, 30, 55]);
  fails = 1;
  work.add("a");
  await clock.advance(1000);
  expect(at.slice(4)).toEqual([1000, 1010]);
});

test("addAfter: the earliest counts, and add is earlier still", async () => {
  const work = queue();
  work.addAfter("a", 100);
  work.addAfter("a", 50);
  work.addAfter("a", 80);
  work.addAfter("b", 60);
  work.add("b");
  expect(started).toEqual(["b"]);
  finish[0]!();
  await clock.advance(49);
  expect(started).toEqual(["b"]);
  await clock.advance(1);
  expect(started).toEqual(["b", "a"]);
  finish[1]!();
  await clock.advance(1000);
  expect(started).toEqual(["b", "a"]);
});

test("stop forgets what waits", async () => {
  const work = queue();
  for (const key of ["a", "b"]) work.add(key);
  work.addAfter("c", 10);
  const stopped = work.stop();
  finish[0]!();
  await stopped;
  await clock.advance(100);
  expect(started).toEqual(["a"]);
  expect(clock.waiting).toBe(0);
});
