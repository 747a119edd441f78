/** Who frees what: garbage collection, worker threads that end or are ended, several environments at once. */

import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { native } from "../../../src/binding/index.js";
import * as L from "../../../src/packet/layout.js";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc") as () => void;
const BINDING = join(process.cwd(), "build", "Release", "podwire.node");

const openFds = () => readdirSync("/proc/self/fd").length;
const residentPages = () => Number(readFileSync("/proc/self/statm", "utf8").split(" ")[1]);
const PAGES_PER_ARENA = L.ARENA.bytes / 4096;

async function collectGarbage(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    gc();
    await turn();
  }
}

/** A worker that breathes until it is told to stop, or for ever. */
function startWorker(wakeFd: number, timeoutMs: number): Worker {
  const code = `
    const { parentPort, workerData: d } = require("node:worker_threads");
    const native = require(d.binding);
    const arena = native.createArena(d.bytes);
    const io = native.createIo(arena, d.wakeFd);
    const status = new Float64Array(arena, d.status, ${L.STATUS_LENGTH});
    parentPort.postMessage("ready");
    while (status[${L.STATUS_WAKES}] === 0) io.breathe(0, d.timeoutMs, 0);
    parentPort.postMessage("woken");`;
  const workerData = { binding: BINDING, bytes: L.ARENA.bytes, status: L.ARENA.status, wakeFd, timeoutMs };
  return new Worker(code, { eval: true, workerData });
}

test("an Io that nobody refers to closes its epoll set and lets its arena go", async () => {
  const wakeFd = native.openEvent();
  const make = () => {
    for (let i = 0; i < 20; i++) native.createIo(native.createArena(L.ARENA.bytes), wakeFd);
  };
  make();
  await collectGarbage();
  const [fds, pages] = [openFds(), residentPages()];
  for (let round = 0; round < 5; round++) {
    make();
    await collectGarbage();
  }
  expect(openFds()).toBe(fds);
  expect(residentPages() - pages).toBeLessThan(20 * PAGES_PER_ARENA);
  native.close(wakeFd);
});

test("one function of an Io keeps all of it alive, its arena too", async () => {
  const wakeFd = native.openEvent();
  const { breathe } = native.createIo(native.createArena(L.ARENA.bytes), wakeFd);
  await collectGarbage();
  native.signalEvent(wakeFd);
  expect(breathe(0, 1000, 0)).toBe(0);
  native.close(wakeFd);
});

test("the main thread wakes a worker that sleeps for ever", async () => {
  const wakeFd = native.openEvent();
  const worker = startWorker(wakeFd, -1);
  await once(worker, "message");
  const woken = once(worker, "message");
  native.signalEvent(wakeFd);
  expect((await woken)[0]).toBe("woken");
  await once(worker, "exit");
  native.close(wakeFd);
});

test("workers that end or are terminated leave no descriptors and no memory", async () => {
  const wakeFd = native.openEvent();
  const generation = async () => {
    const workers = [1, 2].map(() => startWorker(wakeFd, 5));
    await Promise.all(workers.map((worker) => once(worker, "message")));
    await Promise.all(workers.map((worker) => worker.terminate()));
  };
  await generation();
  const [fds, pages] = [openFds(), residentPages()];
  for (let i = 0; i < 10; i++) await generation();
  expect(openFds()).toBe(fds);
  expect(residentPages() - pages).toBeLessThan(10 * PAGES_PER_ARENA);
  native.close(wakeFd);
});

test("failures in a worker that set no error class are plain errors with the same fields", async () => {
  const code = `
    const { parentPort, workerData } = require("node:worker_threads");
    try { require(workerData).close(-1); } catch (e) {
      parentPort.postMessage({ message: e.message, code: e.code, errno: e.errno, syscall: e.syscall });
    }`;
  const worker = new Worker(code, { eval: true, workerData: BINDING });
  const [error] = await once(worker, "message");
  expect(error).toEqual({
    message: "close: EBADF, Bad file descriptor",
    code: "EBADF",
    errno: 9,
    syscall: "close",
  });
  await once(worker, "exit");
});
