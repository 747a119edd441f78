/**
 * Two nodes back to back: what leaves k8s-master arrives at k8s-worker01 as UDP_GRO would hand it
 * over, and what the pod there reads is what the pod here wrote.
 */
import { describe, expect, it } from "vitest";
import {
  FRAME,
  GSO_PORT,
  MASTER,
  type NodeOptions,
  OTHER_POD_PORT,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  WORKER01,
} from "../../support/dataplane.js";
import {
  ACK,
  datagrams,
  get16,
  get32,
  gro,
  kernelFrames,
  l4ChecksumOk,
  PSH,
  payloadOf,
  readFrame,
  readTunnelGso,
  readVxlan,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
  vnetPartial,
} from "../../support/frames.js";
import { Random } from "../../support/random.js";

/** A flow between two pods, with all that was written to it. */
interface Flow {
  protocol: number;
  port: number;
  source: string;
  destination: string;
  sourcePort: number;
  sequence: number;
  written: Uint8Array[];
  /** UDP: datagrams. */
  read: Uint8Array[];
}

function randomFlows(random: Random): Flow[] {
  return Array.from({ length: random.between(1, 12) }, (_, n) => {
    const first = random.oneIn(2);
    return {
      protocol: random.oneIn(2) ? TCP : UDP,
      port: first ? POD_PORT : OTHER_POD_PORT,
      source: first ? MASTER.pod : MASTER.otherPod,
      destination: random.oneIn(2) ? WORKER01.pod : WORKER01.otherPod,
      sourcePort: 1000 + n,
      sequence: random.word(),
      written: [],
      read: [],
    };
  });
}

/** Writes something to a flow: one frame, with or without GSO. */
function write(node: TestNode, random: Random, flow: Flow): void {
  const tcp = flow.protocol === TCP;
  const most = 1450 - (tcp ? 40 : 28);
  const size = random.oneIn(3) ? random.between(50, most) : most;
  const gso = random.oneIn(2);
  const length = gso ? random.between(1, Math.min(size * 60, 40_000)) : random.between(1, most);
  const payload = random.bytes(length);
  const header = random.oneIn(3) && !gso ? undefined : vnetPartial(flow.protocol, gso ? size : 0);
  const fields = {
    source: flow.source,
    destination: flow.destination,
    sourcePort: flow.sourcePort,
    destinationPort: 7,
    id: random.below(0x10000),
    l4Checksum: header === undefined ? "full" : "partial",
  } as const;
  if (tcp) {
    const flags = random.oneIn(5) ? ACK | PSH : ACK;
    const packet = tcpPacket({ ...fields, sequence: flow.sequence, flags }, payload);
    flow.sequence = (flow.sequence + length) | 0;
    flow.written.push(payload);
    node.fromPod(packet, header, flow.port);
  } else {
    node.fromPod(udpPacket(fields, payload), header, flow.port);
    for (let at = 0; at < length; at += gso ? size : length) {
      flow.written.push(payload.subarray(at, at + (gso ? size : length)));
    }
  }
}

/** Datagrams that a node put on the wire. */
function wire(node: TestNode): Uint8Array[] {
  return node.run().sent.flatMap((s) => {
    if (s.port === GSO_PORT) return readTunnelGso(s.bytes).datagrams;
    expect(s.port).toBe(TUNNEL_PORT);
    return datagrams(s.bytes, s.gso);
  });
}

const VARIANTS: [string, NodeOptions][] = [
  ["segmented here", {}],
  ["tunnel GSO", { gso: true }],
  ["without USO", { uso: false }],
];

describe("from pod to pod over two nodes", () => {
  it.each(VARIANTS)("every byte arrives, in order: %s", (_, options) => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = new Random(seed);
      const here = new TestNode(options);
      const there = new TestNode({ ...options, self: WORKER01, peers: [MASTER] });
      const flows = randomFlows(random);
      const bySourcePort = new Map(flows.map((flow) => [flow.sourcePort, flow]));
      for (let round = 0; round < 6; round++) {
        for (let n = random.between(1, 8); n > 0; n--) write(here, random, random.pick(flows));
        const received = wire(here);
        for (const datagram of received) {
          const { frame } = readVxlan(datagram);
          expect(frame.length).toBeLessThanOrEqual(FRAME);
          expect(l4ChecksumOk(readFrame(frame).packet!)).toBe(true);
        }
        for (const { bytes, segment } of gro(received, random.between(1, 64))) {
          there.fromUnderlay(MASTER.underlay, bytes, segment);
        }
        const outcome = there.run();
        expect(outcome.dropped).toEqual({});
        expect(outcome.forwarded).toBe(received.length);
        for (const s of outcome.sent) {
          for (const frame of kernelFrames(s.bytes)) {
            const packet = readFrame(frame).packet!;
            expect(l4ChecksumOk(packet)).toBe(true);
            const flow = bySourcePort.get(get16(packet.l4, 0))!;
            expect([packet.source, packet.destination, packet.ttl]).toEqual([
              flow.source,
              flow.destination,
              62,
            ]);
            expect(s.port).toBe(flow.destination === WORKER01.pod ? POD_PORT : OTHER_POD_PORT);
            if (packet.protocol === TCP) {
              const written = flow.written.reduce((sum, w) => sum + w.length, 0);
              const read = flow.read.reduce((sum, r) => sum + r.length, 0);
              expect(get32(packet.l4, 4)).toBe((flow.sequence - written + read) | 0);
            }
            flow.read.push(Uint8Array.from(payloadOf(packet)));
          }
        }
      }
      for (const flow of flows) {
        if (flow.protocol === UDP)
          expect(flow.read.map((r) => r.length)).toEqual(flow.written.map((w) => w.length));
        expect(Buffer.concat(flow.read).equals(Buffer.concat(flow.written)), `seed ${seed}`).toBe(true);
      }
      expect([...here.faults, ...there.faults]).toEqual([]);
    }
  });
});
