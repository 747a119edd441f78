/** More in one breath than a plan holds: it is sent in between, nothing is lost, order stays. */
import { describe, expect, it } from "vitest";
import {
  IOV_CAPACITY,
  MAX_IOV,
  MSG_CAPACITY,
  MSG_FRAMES,
  SCRATCH_SLOTS,
} from "../../../src/packet/layout.js";
import {
  fromVtep,
  MASTER,
  NODE_PORT,
  OTHER_POD_PORT,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  WORKER01,
} from "../../support/dataplane.js";
import {
  counting,
  datagrams,
  get16,
  get32,
  gro,
  kernelFrames,
  payloadOf,
  readFrame,
  readVxlan,
  TCP,
  tcpPacket,
  toHex,
  UDP,
  udpPacket,
  vnetPartial,
} from "../../support/frames.js";
import { verdictOf } from "./fixtures.js";

const { pod, otherPod } = MASTER;

/** Counts how often the plan was executed before its breath was over. */
function countExecutions(node: TestNode): () => number {
  let executions = 0;
  const execute = node.io.execute.bind(node.io);
  const breathe = node.io.breathe.bind(node.io);
  let breathing = false;
  node.io.execute = (messages) => {
    if (!breathing) executions++;
    return execute(messages);
  };
  node.io.breathe = (...args) => {
    breathing = true;
    const received = breathe(...args);
    breathing = false;
    // A breath that received ends with one.
    if (received > 0) executions--;
    return received;
  };
  return () => executions;
}

describe("plan overflow", () => {
  it("more segments than scratch slots: the stream stays whole and in order", () => {
    const node = new TestNode();
    const executions = countExecutions(node);
    const size = 60_000;
    for (let n = 0; n < 4; n++) {
      const fields = { source: pod, destination: WORKER01.pod, sequence: n * size };
      node.fromPod(tcpPacket({ ...fields, l4Checksum: "partial" }, counting(size, n)), vnetPartial(TCP, 48));
    }
    expect((4 * size) / 48).toBeGreaterThan(SCRATCH_SLOTS);
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 4 });
    expect(executions()).toBeGreaterThan(0);
    let next = 0;
    const stream: Uint8Array[] = [];
    for (const s of outcome.sent) {
      for (const d of datagrams(s.bytes, s.gso)) {
        const packet = readFrame(readVxlan(d).frame).packet!;
        expect(get32(packet.l4, 4)).toBe(next);
        stream.push(payloadOf(packet));
        next += payloadOf(packet).length;
      }
    }
    const sent = Buffer.concat(stream);
    for (let n = 0; n < 4; n++) {
      expect(sent.subarray(n * size, (n + 1) * size).equals(counting(size, n))).toBe(true);
    }
  });

  it("more datagrams than messages: to a TAP without USO", () => {
    const node = new TestNode({ uso: false });
    const executions = countExecutions(node);
    for (let n = 0; n < 4; n++) {
      const packet = udpPacket(
        { source: pod, destination: otherPod, l4Checksum: "partial" },
        counting(60_000, n),
      );
      node.fromPod(packet, vnetPartial(UDP, 60));
    }
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 4 });
    expect(outcome.sent.length).toBe(4000);
    expect(outcome.sent.length).toBeGreaterThan(MSG_CAPACITY);
    expect(executions()).toBeGreaterThan(0);
    const payloads = outcome.sent.map((s) => payloadOf(readFrame(kernelFrames(s.bytes)[0]).packet!));
    const expected = [0, 1, 2, 3].map((n) => Buffer.from(counting(60_000, n)));
    expect(Buffer.concat(payloads).equals(Buffer.concat(expected))).toBe(true);
  });

  it("many flows from the tunnel, several batches: each flow in order", () => {
    const node = new TestNode();
    const received: Uint8Array[] = [];
    for (let n = 0; n < 16 * 64; n++) {
      const sourcePort = 1 + ((n * 7) % 100);
      received.push(
        fromVtep(
          WORKER01,
          tcpPacket(
            { source: WORKER01.pod, destination: pod, sourcePort, sequence: n },
            counting(n % 3 === 0 ? 10 : 20),
          ),
        ),
      );
    }
    for (const { bytes, segment } of gro(received)) node.fromUnderlay(WORKER01.underlay, bytes, segment);
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: received.length });
    const last = new Map<number, number>();
    for (const s of outcome.sent) {
      for (const f of kernelFrames(s.bytes)) {
        const { l4 } = readFrame(f).packet!;
        expect(get32(l4, 4)).toBeGreaterThan(last.get(get16(l4, 0)) ?? -1);
        last.set(get16(l4, 0), get32(l4, 4));
      }
    }
  });

  it.each([
    ["pieces", IOV_CAPACITY - 3],
    ["pieces, by one more", IOV_CAPACITY - 4],
  ])("a frame that grows while the plan runs out of %s", (_, filled) => {
    const node = new TestNode();
    fillPlan(node, filled);
    const packets = [0, 1, 2, 3, 4].map((n) =>
      tcpPacket({ source: WORKER01.pod, destination: pod, sequence: 100 * n, id: n }, counting(100, n)),
    );
    // One by one: each asks for room of its own.
    for (const packet of packets) node.fromWorker01(packet);
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 5 });
    const frames = outcome.sent
      .filter((s) => s.port === POD_PORT)
      .flatMap((s) => kernelFrames(s.bytes))
      .map((f) => readFrame(f).packet!);
    expect(frames.map((p) => p.id)).toEqual([0, 1, 2, 3, 4]);
    expect(frames.map((p) => toHex(payloadOf(p)))).toEqual(
      [0, 1, 2, 3, 4].map((n) => toHex(counting(100, n))),
    );
  });

  it("a train that grows while the plan runs out of pieces", () => {
    const node = new TestNode();
    fillPlan(node, IOV_CAPACITY - 2);
    for (let n = 0; n < 4; n++) {
      node.fromPod(udpPacket({ source: pod, destination: WORKER01.pod, id: n }, counting(50, n)));
    }
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 4 });
    const trains = outcome.sent.filter((s) => s.port === TUNNEL_PORT).map((s) => datagrams(s.bytes, s.gso));
    expect(trains.map((t) => t.length)).toEqual([2, 2]);
    const ids = trains.flat().map((d) => readFrame(readVxlan(d).frame).packet!.id);
    expect(ids).toEqual([0, 1, 2, 3]);
  });

  it("replies, errors and frames between them, each sent once", () => {
    const node = new TestNode();
    fillPlan(node, IOV_CAPACITY - 1);
    node.fromPod(udpPacket({ source: pod, destination: "203.0.113.1" }, counting(10)));
    node.fromPod(udpPacket({ source: pod, destination: otherPod }, counting(10)));
    node.fromPod(udpPacket({ source: pod, destination: WORKER01.pod }, counting(10)));
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 2, noRoute: 1 });
    expect(outcome.sent.map((s) => s.port).filter((port) => port !== NODE_PORT)).toEqual([
      POD_PORT,
      TUNNEL_PORT,
      OTHER_POD_PORT,
    ]);
  });
});

/** Fills the plan of the next breath, once it has begun, with empty messages to the node. */
function fillPlan(node: TestNode, pieces: number): void {
  const { dataplane } = node.breather;
  const { tables, plan } = dataplane;
  Object.defineProperty(dataplane, "tables", {
    configurable: true,
    get: () => {
      Object.defineProperty(dataplane, "tables", { value: tables, writable: true });
      let m = 0;
      for (let n = 0; n < pieces; n++) {
        if (n % MAX_IOV === 0) {
          m = plan.message(NODE_PORT, 0, 0, 0, 0);
          plan.msg[m + MSG_FRAMES] = 0;
        } else plan.append(m, 0, 0, 0);
      }
      return tables;
    },
  });
}
