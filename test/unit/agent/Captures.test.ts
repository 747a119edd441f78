/** Captures over a worker that is not there, and their way through the status socket. */
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type CaptureRequest, Captures } from "../../../src/agent/Captures.js";
import { ask, type OpenedStream, openStream, StatusServer } from "../../../src/agent/StatusServer.js";
import { RingWriter } from "../../../src/capture/CaptureRing.js";
import { both, compileFilter, ofPod } from "../../../src/capture/filter.js";
import {
  INTERFACE_DROPPED,
  POINT_DROPPED,
  POINT_INNER,
  RECORD_DIRECTION,
  RECORD_INTERFACE,
  RECORD_VTEP,
} from "../../../src/capture/layout.js";
import { Tally } from "../../../src/capture/Tally.js";
import { FakeWorker } from "../../support/FakeWorker.js";
import { address } from "../../support/frames.js";
import { waitFor } from "../../support/netns.js";

let base: string;
let path: string;
let server: StatusServer;
let worker: FakeWorker;
let captures: Captures;

beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), "podwire-capture-"));
  path = join(base, "s");
  worker = new FakeWorker();
  captures = new Captures({
    node: "node-a",
    os: "Linux",
    application: "podwire",
    worker: () => worker,
    threads: 2,
    ports: () => [
      { name: "podwire0", port: 0, address: "" },
      { name: "default/a", port: 2, address: "10.1.0.2" },
    ],
    vtepName: () => "",
    serviceName: () => "",
  });
  const nothing = () => null;
  server = new StatusServer({
    status: () => ({ well: true }),
    counters: nothing,
    announcement: nothing,
    tables: nothing,
    nodeTables: nothing,
    services: nothing,
    vteps: nothing,
    flows: nothing,
    flowRecords: nothing,
    flowStats: nothing,
    flushFlows: nothing,
    capture: (request) => captures.start(request),
  });
  await server.listen(path);
});
afterEach(async () => {
  await server.close();
  rmSync(base, { recursive: true });
});

const begin = (request: Partial<CaptureRequest> = {}) =>
  openStream<unknown>(path, "capture", { points: ["dropped"], ...request });
const refused = (request: object) => expect(begin(request)).rejects;

/** Packets as a dataplane thread would write them. */
function write(packets: number, thread = 0): void {
  const writer = new RingWriter(worker.capture!.buffers[thread]);
  for (let n = 0; n < packets; n++) {
    const record = writer.reserve(60);
    writer.words[record + RECORD_INTERFACE] = INTERFACE_DROPPED;
    writer.words[record + RECORD_VTEP] = -1;
    writer.words[record + RECORD_DIRECTION] = -1;
  }
  writer.commit();
}

async function rest(stream: OpenedStream<unknown>): Promise<Tally> {
  const tally = new Tally();
  for await (const piece of stream.bytes) tally.take(piece);
  return tally;
}

test("streams what threads write until it is told to stop, and then the rest", async () => {
  const stream = await begin();
  expect(stream.head).toEqual({ points: ["dropped"], node: "node-a" });
  expect(worker.capture).toMatchObject({ points: POINT_DROPPED, snapLength: 262_144, innerPort: -1 });
  expect(worker.capture!.buffers).toHaveLength(2);
  write(3);
  write(4, 1);
  // Others are answered meanwhile.
  expect(await ask(path, "status")).toEqual({ well: true });
  stream.stop();
  expect({ ...(await rest(stream)) }).toEqual({ packets: 7, lost: 0, complete: true });
  expect(worker.capture).toBeNull();
});

test("ends by itself after a number of packets, and after a time", async () => {
  const counted = await begin({ count: 5 });
  write(9);
  expect((await rest(counted)).packets).toBe(5);
  expect(worker.capture).toBeNull();
  const timed = await begin({ duration: 0.05 });
  expect((await rest(timed)).complete).toBe(true);
  expect(worker.capture).toBeNull();
});

test("one at a time; the next one may begin when the first has ended", async () => {
  const first = await begin();
  await refused({}).toThrow(/^another capture is under way, since 20.*: one at a time$/);
  first.stop();
  await rest(first);
  const second = await begin();
  second.stop();
  expect((await rest(second)).complete).toBe(true);
});

test("ends when whoever asked is gone, without a word and without having read anything", async () => {
  for (const reads of [true, false]) {
    const socket = connect(path);
    socket.write(`${JSON.stringify({ get: "capture", points: ["inner"] })}\n`);
    if (reads) await new Promise((resolve) => socket.once("data", resolve));
    else await new Promise((resolve) => socket.once("connect", resolve));
    socket.destroy();
    await waitFor(() => worker.commands.at(-1) === "stopCapture" && worker.capture === null, {
      what: "the capture's end",
    });
    worker.commands.length = 0;
  }
  await begin().then((stream) => stream.stop());
});

test("ends with the dataplane", async () => {
  const stream = await begin();
  write(1);
  captures.stop();
  expect({ ...(await rest(stream)) }).toEqual({ packets: 1, lost: 0, complete: true });
});

test("what the dataplane refuses leaves room for the next one", async () => {
  worker.failure = new Error("the dataplane thread has ended");
  await refused({}).toThrow("the dataplane thread has ended");
  worker.failure = null;
  (await begin()).stop();
});

test("a pod's packets, by its TAP and its address", async () => {
  const stream = await begin({ points: ["inner", "dropped"], pod: "a", filter: "tcp" });
  expect(worker.capture).toMatchObject({
    points: POINT_INNER | POINT_DROPPED,
    innerPort: 2,
    filter: both(ofPod(2, address("10.1.0.2")), compileFilter("tcp")),
  });
  stream.stop();
  await rest(stream);
});

test("says what is asked wrongly", async () => {
  await refused({ filter: "tcp prot 80" }).toThrow('filter: and, or, or the end expected, not "prot"');
  await refused({ pod: "x/a" }).toThrow("there is no pod x/a on this node");
  await refused({ points: ["middle"] }).toThrow(/^points\.0: .*"inner"/);
  await refused({ points: [] }).toThrow(/^points: /);
  await refused({ snapLength: 63 }).toThrow(/^snapLength: /);
  await refused({ buffer: 3 }).toThrow("buffer: is no power of two");
  await refused({ color: 1 }).toThrow(/color/);
  expect(worker.commands).toEqual([]);
});
