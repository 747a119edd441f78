/**
 * A train is the same as its datagrams one by one: the plain reference of runs (packet/run), which
 * take consecutive datagrams through the stages as one row.
 */
import { describe, expect, it } from "vitest";
import {
  COUNT_FORWARDED,
  COUNT_FORWARDED_BYTES,
  COUNT_ICMP_ERRORS,
  COUNT_RECEIVED,
  COUNT_RECEIVED_BYTES,
} from "../../../src/packet/counters.js";
import {
  accounted,
  fromVtep,
  MASTER,
  type NodeOptions,
  type Outcome,
  TestNode,
  WORKER01,
} from "../../support/dataplane.js";
import {
  ACK,
  CWR,
  concat,
  counting,
  FIN,
  gro,
  hex,
  icmpPacket,
  ipv4,
  kernelFrames,
  onesSum,
  PSH,
  patched,
  put16,
  type TcpFields,
  tcpPacket,
  toHex,
  type UdpFields,
  URG,
  udpPacket,
} from "../../support/frames.js";
import { Random } from "../../support/random.js";

const { pod, otherPod, tunnel } = MASTER;
const FLOW = { source: WORKER01.pod, destination: pod };
const OPTIONS = hex("0101080a 0000000a 0000000b");

const part = (n: number, fields: Partial<TcpFields> = {}, size = 100) =>
  tcpPacket(
    { ...FLOW, sequence: 5000 + n * 100, id: 7 + n, tcpOptions: OPTIONS, ...fields },
    counting(size, n),
  );
const datagram = (n: number, fields: Partial<UdpFields> = {}, size = 100) =>
  udpPacket({ ...FLOW, id: 7 + n, ...fields }, counting(size, n));

/** What reaches TAPs, frame by frame, in order within each flow; ICMP errors of our own aside. */
function delivered(outcome: Outcome): Record<string, string[]> {
  const flows: Record<string, string[]> = {};
  for (const s of outcome.sent) {
    if (s.port === 1) continue;
    for (const frame of kernelFrames(s.bytes, false)) {
      const protocol = frame[23];
      const key = `${s.port} ${protocol} ${protocol === 1 ? "" : toHex(frame.subarray(34, 38))}`;
      flows[key] ??= [];
      flows[key].push(toHex(frame));
    }
  }
  return flows;
}

/** Sends datagrams as trains and one by one; both must come to the same. */
function expectSame(received: readonly Uint8Array[], options?: NodeOptions, what = ""): Outcome {
  const together = new TestNode(options);
  for (const { bytes, segment } of gro(received)) together.fromUnderlay(WORKER01.underlay, bytes, segment);
  const alone = new TestNode(options);
  for (const bytes of received) alone.fromUnderlay(WORKER01.underlay, bytes);
  const [a, b] = [together.run(), alone.run()];
  expect(together.faults, what).toEqual([]);
  expect(delivered(a), what).toEqual(delivered(b));
  expect({ ...a, sent: [] }, what).toEqual({ ...b, sent: [] });
  expect(accounted(a), what).toBe(true);
  for (const count of [COUNT_RECEIVED, COUNT_FORWARDED, COUNT_RECEIVED_BYTES, COUNT_FORWARDED_BYTES]) {
    expect(together.counters[count], what).toBe(alone.counters[count]);
  }
  // One error for a run is enough; none is too few.
  expect(together.counters[COUNT_ICMP_ERRORS] > 0).toBe(alone.counters[COUNT_ICMP_ERRORS] > 0);
  return a;
}

const vxlans = (packets: readonly Uint8Array[]) => packets.map((p) => fromVtep(WORKER01, p));

describe("a train is the same as its datagrams one by one", () => {
  it.each([true, false])("TCP segments, TAPs with USO: %s", (uso) => {
    const outcome = expectSame(vxlans([0, 1, 2, 3].map((n) => part(n))), { uso });
    expect(outcome.sent).toHaveLength(1);
  });

  it.each([true, false])("UDP datagrams, TAPs with USO: %s", (uso) => {
    const outcome = expectSame(vxlans([0, 1, 2, 3].map((n) => datagram(n))), { uso });
    expect(outcome.sent).toHaveLength(uso ? 1 : 4);
  });

  it.each<[string, Partial<TcpFields>]>([
    ["acknowledgement", { acknowledgement: 2001 }],
    ["window", { window: 513 }],
    ["TOS", { tos: 1 }],
    ["TTL", { ttl: 63 }],
    ["TTL that runs out", { ttl: 1 }],
    ["DF", { fragment: 0 }],
    ["options", { tcpOptions: hex("0101080a 0000000a 0000000c") }],
    ["source port", { sourcePort: 40_001 }],
    ["destination port", { destinationPort: 81 }],
    ["another pod", { destination: otherPod }],
    ["the node", { destination: tunnel }],
    ["another source", { source: WORKER01.otherPod }],
    ["a forged source", { source: pod }],
    ["no route", { destination: "203.0.113.1" }],
    ["a gap", { sequence: 5201 }],
    ["a wrong IPv4 checksum", { checksum: 0x1234 }],
    ["a wrong checksum", { l4Checksum: 0x1234 }],
    ["a partial checksum", { l4Checksum: "partial" }],
    ["PSH", { flags: ACK | PSH }],
    ["FIN", { flags: ACK | FIN }],
    ["URG", { flags: ACK | URG }],
    ["CWR", { flags: ACK | CWR }],
    ["no flags", { flags: 0 }],
    ["data offset", { dataOffset: 7 }],
    ["a data offset that is too small", { dataOffset: 4 }],
    ["reserved bits", {}],
    ["a fragment", { fragment: 0x2000 }],
    ["a total length that is too long", { total: 200 }],
    ["a total length that is too short", { total: 120 }],
    ["version", { version: 6 }],
  ])("one TCP segment differs, first, in the middle and last: %s", (what, change) => {
    for (const at of [0, 2, 4]) {
      const packets = [0, 1, 2, 3, 4].map((n) => part(n, n === at ? change : {}));
      if (what === "reserved bits") packets[at] = patched(packets[at], 32, [packets[at][32] | 0x02]);
      expectSame(vxlans(packets), {}, `${what} in segment ${at}`);
    }
  });

  it.each<[string, Partial<UdpFields>]>([
    ["TTL", { ttl: 9 }],
    ["no checksum", { l4Checksum: 0 }],
    ["a wrong checksum", { l4Checksum: 0x4321 }],
    ["a partial checksum", { l4Checksum: "partial" }],
    ["UDP length", { udpLength: 107 }],
    ["UDP length too long", { udpLength: 109 }],
    ["a wrong IPv4 checksum", { checksum: 0 }],
    ["a fragment", { fragment: 0x2000 }],
    ["a later fragment", { fragment: 3 }],
  ])("one UDP datagram differs, first, in the middle and last: %s", (what, change) => {
    for (const uso of [true, false]) {
      for (const at of [0, 2, 4]) {
        const packets = [0, 1, 2, 3, 4].map((n) => datagram(n, n === at ? change : {}));
        expectSame(vxlans(packets), { uso }, `${what} in datagram ${at}`);
      }
    }
  });

  it.each([
    ["all have TTL 1", { ttl: 1 }],
    ["all go nowhere", { destination: "203.0.113.1" }],
    ["all are forged", { source: pod }],
    ["all have wrong IPv4 checksums", { checksum: 1 }],
    ["all have wrong checksums", { l4Checksum: 1 }],
    ["all are partial", { l4Checksum: "partial" as const }],
    ["all go to the node", { destination: tunnel }],
    ["all differ in nothing but IPv4 options", { options: hex("94040000") }],
  ])("%s", (_, fields) => {
    expectSame(vxlans([0, 1, 2, 3, 4, 5].map((n) => part(n, fields))));
    expectSame(vxlans([0, 1, 2, 3, 4, 5].map((n) => datagram(n, fields))));
    expectSame(vxlans([0, 1, 2, 3, 4, 5].map((n) => part(n, fields, n === 5 ? 40 : 100))));
  });

  it("a run of shorter frames behind one of longer ones", () => {
    const tcp = (sequence: number, size: number) =>
      tcpPacket({ ...FLOW, sequence, id: sequence }, counting(size, sequence));
    const sizes = [100, 100, 60, 60, 60, 100, 100, 20];
    let sequence = 0;
    expectSame(
      vxlans(
        sizes.map((size) => {
          const packet = tcp(sequence, size);
          sequence += size;
          return packet;
        }),
      ),
    );
    const packets = sizes.map((size, n) => datagram(n, {}, size));
    expectSame(vxlans(packets));
    // UDP_GRO ends a train with its first shorter datagram: only a train of its own holds a run of them.
    const node = new TestNode();
    node.trainFromWorker01([tcp(0, 100), tcp(100, 100)]);
    node.trainFromWorker01([tcp(200, 60), tcp(260, 60), tcp(320, 60)]);
    node.trainFromWorker01([datagram(0), datagram(1)]);
    node.trainFromWorker01([datagram(2, {}, 60), datagram(3, {}, 60), datagram(4, {}, 60)]);
    const payloads = node.run().sent.map((s) => kernelFrames(s.bytes).map((f) => f.length - 34));
    expect(payloads).toEqual([
      [120, 120],
      [80, 80, 80],
      [108, 108],
      [68, 68, 68],
    ]);
  });

  it("VXLAN or Ethernet headers differ", () => {
    for (const [at, value] of [
      [0, 0],
      [4, 9],
      [6, 1],
      [8, 0x02],
      [13, 0xee],
      [14, 0x77],
      [20, 0x86],
    ]) {
      for (const n of [0, 2]) {
        const received = vxlans([0, 1, 2, 3].map((x) => part(x)));
        received[n] = patched(received[n], at, [value]);
        expectSame(received, {}, `byte ${at}`);
      }
    }
  });

  it("Ethernet padding", () => {
    const padded = [0, 1, 2].map((n) => concat(part(n, {}, 90), new Uint8Array(6).fill(0x5a)));
    expectSame(vxlans(padded));
  });

  it("frames larger than the overlay, partial, in one train", () => {
    const packets = [0, 1, 2].map((n) =>
      part(n, { l4Checksum: "partial", sequence: n * 2000 }, n === 2 ? 700 : 2000),
    );
    expectSame(vxlans(packets));
  });

  it("random trains with random damage", () => {
    for (let seed = 1; seed <= 400; seed++) {
      const random = new Random(seed);
      const size = random.pick([1, 2, 33, 100, 300]);
      let sequence = random.word();
      const packets = Array.from({ length: random.between(2, 16) }, (_, n) => {
        const kind = random.below(20);
        const fields = {
          ...FLOW,
          id: random.oneIn(3) ? random.below(0x10000) : 50 + n,
          ttl: random.oneIn(12) ? random.between(0, 3) : 64,
          sourcePort: random.oneIn(8) ? 2 : 1,
          destination: random.oneIn(10) ? random.pick([otherPod, tunnel]) : pod,
          l4Checksum: random.oneIn(8) ? ("partial" as const) : ("full" as const),
        };
        const data = random.bytes(random.oneIn(9) ? random.between(1, size) : size);
        if (kind === 0) return icmpPacket({ ...fields, type: 8 }, data);
        if (kind === 1) return ipv4({ ...fields, protocol: 17, fragment: 5 }, data);
        if (seed % 2 === 0) return udpPacket(fields, data);
        const packet = tcpPacket(
          {
            ...fields,
            sequence,
            flags: random.oneIn(6) ? ACK | PSH : ACK,
            window: random.oneIn(20) ? 7 : 512,
            acknowledgement: random.oneIn(20) ? 8 : 2000,
          },
          data,
        );
        sequence = (sequence + data.length) | 0;
        return packet;
      });
      const received = vxlans(packets).map((bytes) => {
        if (!random.oneIn(12)) return bytes;
        const at = random.below(Math.min(bytes.length, 80));
        const damaged = patched(bytes, at, [bytes[at] ^ (1 << random.below(8))]);
        if (random.oneIn(2) && damaged.length >= 42) {
          put16(damaged, 32, 0);
          put16(damaged, 32, 0xffff - onesSum(damaged.subarray(22, 42)));
        }
        return damaged;
      });
      expectSame(received, { uso: !random.oneIn(3) }, `seed ${seed}`);
    }
  });
});
