import { describe, expect, it } from "vitest";
import { COUNT_MERGED, COUNT_UNMERGED } from "../../../src/packet/counters.js";
import {
  fromVtep,
  MASTER,
  NODE_PORT,
  type NodeOptions,
  OTHER_POD_PORT,
  POD_PORT,
  TestNode,
  WORKER01,
} from "../../support/dataplane.js";
import {
  ACK,
  CWR,
  concat,
  counting,
  ECE,
  ethernet,
  FIN,
  GATEWAY,
  gro,
  hex,
  IPV4,
  ipv4,
  kernelFrames,
  PSH,
  patched,
  payloadOf,
  RST,
  readFrame,
  SYN,
  segments,
  TCP,
  type TcpFields,
  tcpPacket,
  toHex,
  UDP,
  type UdpFields,
  URG,
  udpPacket,
  vnet,
  vnetPartial,
} from "../../support/frames.js";
import { Random } from "../../support/random.js";
import { verdictOf } from "./fixtures.js";

const { pod, podMac, otherPod } = MASTER;
const FLOW = { source: WORKER01.pod, destination: pod };
const SEQUENCE = 5000;

/** Part `n` of a stream of parts of 100 bytes. */
function part(n: number, fields: Partial<TcpFields> = {}, size = 100): Uint8Array {
  return tcpPacket(
    { ...FLOW, sequence: SEQUENCE + n * 100, id: 100 + n, ...fields },
    counting(size, n * 100),
  );
}

function datagram(n: number, fields: Partial<UdpFields> = {}, size = 100): Uint8Array {
  return udpPacket({ ...FLOW, id: 100 + n, ...fields }, counting(size, n * 100));
}

/** The frame that the pod's kernel is to see of a packet. */
function delivered(packet: Uint8Array, mac = podMac): Uint8Array {
  const routed = patched(packet, 8, [packet[8] - 1]);
  const headerLength = (packet[0] & 15) * 4;
  routed.set([0, 0], 10);
  let sum = 0;
  for (let i = 0; i < headerLength; i += 2) sum += (routed[i] << 8) | routed[i + 1];
  sum = ~(sum % 0xffff || 0xffff) & 0xffff;
  routed.set([sum >> 8, sum & 0xff], 10);
  return ethernet(mac, GATEWAY, IPV4, routed);
}

function gsoSizes(sent: readonly { bytes: Uint8Array }[]): number[] {
  return sent.map((s) => s.bytes[4] | (s.bytes[5] << 8));
}

/** Packets from k8s-worker01, as trains where UDP_GRO makes them. */
function arrive(node: TestNode, packets: readonly Uint8Array[]): void {
  for (const { bytes, segment } of gro(packets.map((packet) => fromVtep(WORKER01, packet)))) {
    node.fromUnderlay(WORKER01.underlay, bytes, segment);
  }
}

/** Segments in each frame that was written. */
function written(packets: readonly Uint8Array[], options?: NodeOptions) {
  const node = new TestNode(options);
  arrive(node, packets);
  const outcome = node.run();
  expect(verdictOf(outcome)).toEqual({ forwarded: packets.length });
  return outcome.sent.map((s) => kernelFrames(s.bytes).length);
}

describe("merging TCP", () => {
  it("three segments become one frame; the pod's kernel sees the three", () => {
    const packets = [part(0), part(1), part(2)];
    const node = new TestNode().trainFromWorker01(packets);
    const { sent } = node.run();
    expect(sent).toHaveLength(1);
    const merged = delivered(
      tcpPacket({ ...FLOW, sequence: SEQUENCE, id: 100, l4Checksum: "partial" }, counting(300)),
    );
    expect(toHex(sent[0].bytes)).toBe(toHex(concat(vnetPartial(TCP, 100), merged)));
    expect(kernelFrames(sent[0].bytes).map(toHex)).toEqual(packets.map((p) => toHex(delivered(p))));
    expect(node.counters[COUNT_MERGED]).toBe(2);
    expect(node.counters[COUNT_UNMERGED]).toBe(0);
  });

  it("a single segment keeps its own checksum and an empty header", () => {
    const { sent } = new TestNode().fromWorker01(part(0)).run();
    expect(toHex(sent[0].bytes)).toBe(toHex(concat(vnet(), delivered(part(0)))));
  });

  it("also to the node, with its TTL", () => {
    const to = { destination: MASTER.tunnel };
    const { sent } = new TestNode().trainFromWorker01([part(0, to), part(1, to)]).run();
    expect(sent.map((s) => s.port)).toEqual([NODE_PORT]);
    expect(kernelFrames(sent[0].bytes).map((f) => readFrame(f).packet!.ttl)).toEqual([64, 64]);
  });

  it("with timestamps that are equal", () => {
    const tcpOptions = hex("0101080a 0000000a 0000000b");
    expect(written([part(0, { tcpOptions }), part(1, { tcpOptions })])).toEqual([2]);
  });

  it("PSH ends the frame and is kept", () => {
    const packets = [part(0), part(1, { flags: ACK | PSH }), part(2), part(3)];
    const node = new TestNode().trainFromWorker01(packets);
    const { sent } = node.run();
    expect(sent.flatMap((s) => kernelFrames(s.bytes)).map(toHex)).toEqual(
      packets.map((p) => toHex(delivered(p))),
    );
    expect(gsoSizes(sent)).toEqual([100, 100]);
  });

  it("PSH on the first segment leaves it alone", () => {
    expect(written([part(0, { flags: ACK | PSH }), part(1), part(2)])).toEqual([1, 2]);
  });

  it("a shorter segment is the last", () => {
    const short = part(1, {}, 60);
    const next = (n: number) => tcpPacket({ ...FLOW, sequence: SEQUENCE + 160 + 100 * n }, counting(100));
    expect(written([part(0), short, next(0), next(1)])).toEqual([2, 2]);
  });

  it("a longer segment begins a new frame", () => {
    const next = tcpPacket({ ...FLOW, sequence: SEQUENCE + 100 }, counting(101));
    expect(written([part(0), next])).toEqual([1, 1]);
  });

  it("sequence numbers wrap", () => {
    const at = (sequence: number) => tcpPacket({ ...FLOW, sequence }, counting(100));
    expect(written([at(-150), at(-50), at(50)])).toEqual([3]);
    expect(written([at(0x7fffffff - 99), at(0x80000000 | 0), at(-0x7fffff9c)])).toEqual([3]);
  });

  it.each<[string, Partial<TcpFields>]>([
    ["acknowledgement", { acknowledgement: 2001 }],
    ["window, which would be lost", { window: 513 }],
    ["TOS", { tos: 1 }],
    ["TTL", { ttl: 63 }],
    ["DF", { fragment: 0 }],
    ["options of the same length", { tcpOptions: hex("0101080a 0000000a 0000000c") }],
    ["length of options", { tcpOptions: hex("01010101") }],
    ["source port", { sourcePort: 40_001 }],
    ["destination port", { destinationPort: 81 }],
    ["sequence: a gap", { sequence: SEQUENCE + 101 }],
    ["sequence: a repetition", { sequence: SEQUENCE }],
    ["partial checksum", { l4Checksum: "partial" }],
    ["no ACK", { flags: 0 }],
    ["FIN", { flags: ACK | FIN }],
    ["SYN", { flags: ACK | SYN }],
    ["RST", { flags: ACK | RST }],
    ["URG", { flags: ACK | URG }],
    ["ECE", { flags: ACK | ECE }],
    ["CWR", { flags: ACK | CWR }],
    ["IPv4 options", { options: hex("94040000") }],
    ["a fragment", { fragment: 0x2000 }],
  ])("a change ends the frame: %s", (_, change) => {
    const tcpOptions = hex("0101080a 0000000a 0000000b");
    const packets = [part(0, { tcpOptions }), part(1, { tcpOptions, ...change })];
    const node = new TestNode();
    for (const packet of packets) node.fromWorker01(packet);
    const { sent } = node.run();
    expect(sent).toHaveLength(2);
    // Both reach the pod as they came; a partial checksum is completed there.
    const full = [part(0, { tcpOptions }), part(1, { tcpOptions, ...change, l4Checksum: "full" })];
    expect(sent.flatMap((s) => kernelFrames(s.bytes)).map(toHex)).toEqual(
      full.map((p) => toHex(delivered(p))),
    );
  });

  it.each<[string, Uint8Array, Uint8Array?]>([
    ["an acknowledgement without payload", part(1, {}, 0)],
    ["a FIN", part(1, { flags: ACK | FIN })],
    ["IPv4 options", part(1, { options: hex("94040000") })],
    ["a fragment", part(1, { fragment: 0x2000 })],
    [
      "a later fragment",
      ipv4({ ...FLOW, protocol: TCP, fragment: 5 }, counting(100)),
      part(2, { id: 0x1234, fragment: 0x2000 }, 20),
    ],
  ])("nothing overtakes %s", (_, odd, first) => {
    // Part 1 follows part 0 whatever came in between; it must not join it.
    const packets = [...(first === undefined ? [] : [first]), part(0), odd, part(1)];
    const node = new TestNode();
    for (const packet of packets) node.fromWorker01(packet);
    const { sent } = node.run();
    expect(sent.flatMap((s) => kernelFrames(s.bytes)).map(toHex)).toEqual(
      packets.map((p) => toHex(delivered(p))),
    );
  });

  it("65535 bytes are the most", () => {
    const at = (n: number) => tcpPacket({ ...FLOW, sequence: n * 1300 }, counting(1300));
    const packets = Array.from({ length: 60 }, (_, n) => at(n));
    // 40 + 50 × 1300 = 65040 would fit, but a run (here: what one datagram of 64 KiB held) is not divided.
    expect(written(packets)).toEqual([48, 12]);
  });

  it("255 segments are the most, in undivided runs of 64", () => {
    const at = (n: number) => tcpPacket({ ...FLOW, sequence: n * 10 }, counting(10));
    expect(written(Array.from({ length: 300 }, (_, n) => at(n)))).toEqual([192, 108]);
  });

  it("interleaved flows merge each for itself", () => {
    const packets: Uint8Array[] = [];
    for (let n = 0; n < 4; n++) {
      for (const sourcePort of [1, 2, 3]) packets.push(part(n, { sourcePort }));
    }
    const node = new TestNode().trainFromWorker01(packets);
    const { sent } = node.run();
    expect(sent).toHaveLength(3);
    for (const [index, sourcePort] of [1, 2, 3].entries()) {
      const own = packets.filter((p) => p[21] === sourcePort);
      expect(kernelFrames(sent[index].bytes).map(toHex)).toEqual(own.map((p) => toHex(delivered(p))));
    }
  });

  it("two hundred interleaved flows collide in the table: each keeps its order, nothing is lost", () => {
    const random = new Random(5);
    const flows = Array.from({ length: 200 }, (_, n) => ({ sourcePort: 1000 + n, next: 0 }));
    const packets: Uint8Array[] = [];
    for (let n = 0; n < 2000; n++) {
      const flow = random.oneIn(3) ? random.pick(flows) : flows[n % 20];
      packets.push(part(flow.next++, { sourcePort: flow.sourcePort }));
    }
    const node = new TestNode();
    arrive(node, packets);
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 2000 });
    expect(node.counters[COUNT_MERGED]).toBeGreaterThan(100);
    const byFlow = (frames: readonly Uint8Array[]) => {
      const map = new Map<number, string[]>();
      for (const f of frames) {
        const key = (f[34] << 8) | f[35];
        map.set(key, [...(map.get(key) ?? []), toHex(f)]);
      }
      return map;
    };
    expect(byFlow(outcome.sent.flatMap((s) => kernelFrames(s.bytes)))).toEqual(
      byFlow(packets.map((p) => delivered(p))),
    );
  });

  it("same ports and source, two destinations: no frame goes to the wrong pod", () => {
    const packets = [
      part(0),
      part(0, { destination: otherPod }),
      part(1),
      part(1, { destination: otherPod }),
    ];
    const { sent } = new TestNode().trainFromWorker01(packets).run();
    expect(sent.map((s) => s.port)).toEqual([POD_PORT, OTHER_POD_PORT, POD_PORT, OTHER_POD_PORT]);
  });

  it.each([0, 1, 2])("a wrong checksum in segment %i: every segment by itself, as it came", (bad) => {
    const packets = [part(0), part(1), part(2)];
    packets[bad] = patched(packets[bad], 60, [packets[bad][60] ^ 1]);
    const node = new TestNode().trainFromWorker01(packets);
    const outcome = node.run();
    expect(outcome.sent.map((s) => toHex(s.bytes))).toEqual(
      packets.map((p) => toHex(concat(vnet(), delivered(p)))),
    );
    expect(verdictOf(outcome)).toEqual({ forwarded: 3 });
    expect(node.counters[COUNT_UNMERGED]).toBe(1);
  });

  it("two errors that cancel each other out in a merged sum are noticed, too", () => {
    const packets = [part(0), part(1)];
    packets[0] = patched(packets[0], 50, [packets[0][50] + 1]);
    packets[1] = patched(packets[1], 50, [packets[1][50] - 1]);
    const { sent } = new TestNode().trainFromWorker01(packets).run();
    expect(sent).toHaveLength(2);
  });

  it("partial checksums merge without being verified", () => {
    const packets = [part(0, { l4Checksum: "partial" }), part(1, { l4Checksum: "partial" })];
    const { sent } = new TestNode().trainFromWorker01(packets).run();
    expect(sent.flatMap((s) => kernelFrames(s.bytes)).map(toHex)).toEqual(
      [part(0), part(1)].map((p) => toHex(delivered(p))),
    );
    expect(gsoSizes(sent)).toEqual([100]);
  });

  it("a merged frame does not outlive its breath", () => {
    const node = new TestNode();
    expect(node.fromWorker01(part(0)).run().sent).toHaveLength(1);
    expect(node.fromWorker01(part(1)).run().sent).toHaveLength(1);
  });

  it("Ethernet padding is not merged into the stream", () => {
    const packets = [part(0, {}, 4), tcpPacket({ ...FLOW, sequence: SEQUENCE + 4 }, counting(4))];
    const node = new TestNode();
    for (const p of packets) node.fromWorker01(concat(p, new Uint8Array(8).fill(0xa5)));
    const { sent } = node.run();
    const streams = sent.flatMap((s) => kernelFrames(s.bytes)).map((f) => payloadOf(readFrame(f).packet!));
    expect(streams.map(toHex)).toEqual(["00010203", "00010203"]);
  });
});

describe("merging with errors", () => {
  it("random flows, sizes and flipped bits: every segment reaches the pod as it came", () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = new Random(seed);
      const flows = Array.from({ length: random.between(1, 6) }, (_, n) => ({
        tcp: random.oneIn(2),
        sourcePort: 1 + n,
        id: random.below(0x10000),
        sequence: random.word(),
      }));
      const packets = Array.from({ length: random.between(2, 200) }, () => {
        const flow = random.pick(flows);
        const data = random.bytes(random.oneIn(8) ? random.between(1, 300) : 300);
        const fields = { ...FLOW, sourcePort: flow.sourcePort, id: flow.id++ & 0xffff };
        const packet = flow.tcp
          ? tcpPacket({ ...fields, sequence: flow.sequence, flags: random.oneIn(9) ? ACK | PSH : ACK }, data)
          : udpPacket(fields, data);
        flow.sequence = (flow.sequence + data.length) | 0;
        // A flipped bit behind ports and UDP length: in the sequence, checksum or data, but not in TCP's
        // data offset, with which the segment would be malformed.
        const at = random.between(26, packet.length - 1);
        const spoilt = random.oneIn(25) && at !== 32;
        return spoilt ? patched(packet, at, [packet[at] ^ (1 << random.below(8))]) : packet;
      });
      const node = new TestNode();
      arrive(node, packets);
      const { sent } = node.run();
      const own = (frames: readonly Uint8Array[], port: number) =>
        frames.filter((f) => f[35] === port).map(toHex);
      const frames = sent.flatMap((s) => kernelFrames(s.bytes));
      for (const { sourcePort } of flows) {
        const arrived = packets.map((p) => delivered(p));
        expect(own(frames, sourcePort), `seed ${seed}`).toEqual(own(arrived, sourcePort));
      }
      expect(node.faults).toEqual([]);
    }
  });
});

describe("merging UDP", () => {
  it("datagrams of one flow and size become one frame", () => {
    const packets = [datagram(0), datagram(1), datagram(2)];
    const { sent } = new TestNode().trainFromWorker01(packets).run();
    expect(sent).toHaveLength(1);
    const merged = delivered(
      udpPacket(
        { ...FLOW, id: 100, l4Checksum: "partial" },
        concat(counting(100), counting(100, 100), counting(100, 200)),
      ),
    );
    expect(toHex(sent[0].bytes)).toBe(toHex(concat(vnetPartial(UDP, 100), merged)));
    expect(kernelFrames(sent[0].bytes).map(toHex)).toEqual(packets.map((p) => toHex(delivered(p))));
  });

  it("not to a TAP without USO", () => {
    const packets = [datagram(0), datagram(1)];
    const { sent } = new TestNode({ uso: false }).trainFromWorker01(packets).run();
    expect(sent.map((s) => toHex(s.bytes))).toEqual(packets.map((p) => toHex(concat(vnet(), delivered(p)))));
  });

  it("TCP merges without USO", () => {
    expect(written([part(0), part(1)], { uso: false })).toEqual([2]);
  });

  it("a shorter one is the last", () => {
    expect(written([datagram(0), datagram(1, {}, 99), datagram(2), datagram(3)])).toEqual([2, 2]);
  });

  it("64 datagrams are the most", () => {
    expect(written(Array.from({ length: 70 }, (_, n) => datagram(n)))).toEqual([64, 6]);
  });

  it("65535 bytes are the most", () => {
    // 28 + 46 × 1422 = 65440 would fit; a run is not divided.
    expect(written(Array.from({ length: 50 }, (_, n) => datagram(n, {}, 1422)))).toEqual([44, 6]);
  });

  it.each<[string, Partial<UdpFields>]>([
    ["TOS", { tos: 4 }],
    ["TTL", { ttl: 63 }],
    ["DF", { fragment: 0 }],
    ["no checksum", { l4Checksum: 0 }],
    ["partial checksum", { l4Checksum: "partial" }],
    ["UDP length less than the packet's", { udpLength: 100 }],
    ["IPv4 options", { options: hex("94040000") }],
    ["a fragment", { fragment: 0x2000 }],
  ])("a change ends the frame: %s", (_, change) => {
    const packets = [datagram(0), datagram(1, change), datagram(2)];
    const node = new TestNode();
    for (const packet of packets) node.fromWorker01(packet);
    const { sent } = node.run();
    const full = change.l4Checksum === "partial" ? datagram(1) : packets[1];
    expect(sent.flatMap((s) => kernelFrames(s.bytes)).map(toHex)).toEqual(
      [packets[0], full, packets[2]].map((p) => toHex(delivered(p))),
    );
    expect(sent.length).toBeGreaterThan(1);
  });

  it("datagrams without checksum are never merged: nothing could verify them", () => {
    expect(written([datagram(0, { l4Checksum: 0 }), datagram(1, { l4Checksum: 0 })])).toEqual([1, 1]);
  });

  it("empty datagrams are delivered one by one", () => {
    expect(written([datagram(0, {}, 0), datagram(1, {}, 0)])).toEqual([1, 1]);
  });

  it("a wrong checksum: every datagram by itself, as it came", () => {
    const packets = [datagram(0), datagram(1, { l4Checksum: 0x1234 }), datagram(2)];
    const { sent } = new TestNode().trainFromWorker01(packets).run();
    expect(sent.map((s) => toHex(s.bytes))).toEqual(packets.map((p) => toHex(concat(vnet(), delivered(p)))));
  });

  it("a TCP flow with the same addresses and ports is another flow", () => {
    const tcp = (n: number) => part(n, { destinationPort: 5201 });
    const packets = [datagram(0), tcp(0), datagram(1), tcp(1)];
    expect(written(packets)).toEqual([1, 1, 1, 1]);
  });
});

describe("what a virtual link hands over whole", () => {
  it.each([
    ["", {}],
    [" with TCP options", { tcpOptions: hex("0101080a0000000a0000000b") }],
    [" with IPv4 options", { options: hex("94040000") }],
  ] as [string, Partial<TcpFields>][])("a TSO frame%s gets our segment size", (_, fields) => {
    const packet = tcpPacket({ ...FLOW, ...fields, l4Checksum: "partial" }, counting(8000));
    const { sent } = new TestNode().fromWorker01(packet).run();
    const options = (fields.options?.length ?? 0) + (fields.tcpOptions?.length ?? 0);
    const whole = tcpPacket({ ...FLOW, ...fields }, counting(8000));
    expect(sent.flatMap((s) => kernelFrames(s.bytes)).map(toHex)).toEqual(
      segments(delivered(whole), 1410 - options).map(toHex),
    );
    expect(gsoSizes(sent)).toEqual([1410 - options]);
  });

  it("a TSO frame with a whole checksum is one long segment", () => {
    const packet = tcpPacket(FLOW, counting(8000));
    const { sent } = new TestNode().fromWorker01(packet).run();
    expect(sent.map((s) => toHex(s.bytes))).toEqual([toHex(concat(vnet(), delivered(packet)))]);
  });

  it.each([
    ["TCP", tcpPacket({ ...FLOW, l4Checksum: "partial" }, counting(50)), tcpPacket(FLOW, counting(50))],
    ["UDP", udpPacket({ ...FLOW, l4Checksum: "partial" }, counting(50)), udpPacket(FLOW, counting(50))],
    [
      "TCP behind IPv4 options",
      tcpPacket({ ...FLOW, options: hex("94040000"), l4Checksum: "partial" }, counting(50)),
      tcpPacket({ ...FLOW, options: hex("94040000") }, counting(50)),
    ],
  ])("a partial checksum is passed on as one: %s", (_, packet, whole) => {
    for (const uso of [true, false]) {
      const { sent } = new TestNode({ uso }).fromWorker01(packet).run();
      expect(sent.map((s) => s.bytes[0])).toEqual([1]);
      expect(kernelFrames(sent[0].bytes).map(toHex)).toEqual([toHex(delivered(whole))]);
    }
  });

  it.each([
    ["to a TAP with USO", true, {}],
    ["to a TAP without USO", false, {}],
    ["with IPv4 options to a TAP with USO", true, { options: hex("94040000") }],
    ["with IPv4 options to a TAP without USO", false, { options: hex("94040000") }],
  ])("a UDP GSO frame %s", (_, uso, fields) => {
    const packet = udpPacket({ ...FLOW, ...fields, l4Checksum: "partial" }, counting(2500));
    const node = new TestNode({ uso }).fromUnderlay(WORKER01.underlay, fromVtep(WORKER01, packet), 1000);
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 1 });
    expect(gsoSizes(outcome.sent)).toEqual(uso ? [1000] : [0, 0, 0]);
    const whole = udpPacket({ ...FLOW, ...fields }, counting(2500));
    expect(outcome.sent.flatMap((s) => kernelFrames(s.bytes)).map(toHex)).toEqual(
      segments(delivered(whole), 1000).map(toHex),
    );
  });

  it("later datagrams of the flow do not overtake a UDP GSO frame", () => {
    const gso = udpPacket({ ...FLOW, id: 200, l4Checksum: "partial" }, counting(1000));
    const node = new TestNode()
      .fromWorker01(datagram(0))
      .fromUnderlay(WORKER01.underlay, fromVtep(WORKER01, gso), 500)
      .fromWorker01(datagram(1));
    const lengths = node
      .run()
      .sent.flatMap((s) => kernelFrames(s.bytes))
      .map((f) => payloadOf(readFrame(f).packet!).length);
    expect(lengths).toEqual([100, 500, 500, 100]);
  });
});
