import { describe, expect, it } from "vitest";
import { COUNT_FORWARDED, COUNT_SEGMENTS } from "../../../src/packet/counters.js";
import {
  MASTER,
  OTHER_POD_PORT,
  TestNode,
  TUNNEL_PORT,
  toVtep,
  VNI,
  WORKER01,
} from "../../support/dataplane.js";
import {
  ACK,
  CWR,
  counting,
  datagrams,
  ECE,
  ethernet,
  FIN,
  GATEWAY,
  hex,
  IPV4,
  kernelFrames,
  l4ChecksumOk,
  PSH,
  readFrame,
  readVxlan,
  segments,
  TCP,
  type TcpFields,
  tcpPacket,
  toHex,
  UDP,
  type UdpFields,
  udpPacket,
  vnetPartial,
} from "../../support/frames.js";
import { Random } from "../../support/random.js";
import { verdictOf } from "./fixtures.js";

const { pod, otherPod, otherPodMac } = MASTER;
const TIMESTAMPS = hex("0101080a 00000011 00000022");

const tcp = (f: Partial<TcpFields>, payload: Uint8Array, l4Checksum: "full" | "partial") =>
  tcpPacket({ source: pod, destination: WORKER01.pod, l4Checksum, ...f }, payload);
const udp = (f: Partial<UdpFields>, payload: Uint8Array, l4Checksum: "full" | "partial") =>
  udpPacket({ source: pod, destination: WORKER01.pod, l4Checksum, ...f }, payload);

/** Inner frames that a node's sent messages put on the wire, each checked by a third party's eyes. */
function onWire(sent: readonly { port: number; bytes: Uint8Array; gso: number }[]): Uint8Array[] {
  return sent.flatMap((message) => {
    expect(message.port).toBe(TUNNEL_PORT);
    return datagrams(message.bytes, message.gso).map((datagram) => {
      const { vni, frame } = readVxlan(datagram);
      expect(vni).toBe(VNI);
      expect(l4ChecksumOk(readFrame(frame).packet!)).toBe(true);
      return frame;
    });
  });
}

/** Frames that the reference makes of a packet that was routed to k8s-worker01. */
function expected(packet: Uint8Array, size: number): Uint8Array[] {
  return segments(ethernet(WORKER01.vtepMac, MASTER.vtepMac, IPV4, packet), size);
}

type TcpCase = { name: string; fields?: Partial<TcpFields>; payload: number; size: number };

const TCP_CASES: TcpCase[] = [
  { name: "two full segments", payload: 2820, size: 1410 },
  { name: "a short last one", payload: 3000, size: 1410 },
  { name: "a last one of one byte", payload: 1411, size: 1410 },
  { name: "64 KiB less headers", payload: 65_495, size: 1410 },
  { name: "timestamps", fields: { tcpOptions: TIMESTAMPS }, payload: 9000, size: 1398 },
  {
    name: "options of 40 bytes",
    fields: { tcpOptions: new Uint8Array(40).fill(1) },
    payload: 5000,
    size: 1370,
  },
  { name: "IPv4 options", fields: { options: hex("94040000") }, payload: 5000, size: 1400 },
  { name: "PSH on the last segment only", fields: { flags: ACK | PSH }, payload: 4000, size: 1410 },
  { name: "FIN on the last segment only", fields: { flags: ACK | FIN | PSH }, payload: 4000, size: 1410 },
  {
    name: "CWR on the first segment only, ECE on all",
    fields: { flags: ACK | CWR | ECE },
    payload: 4000,
    size: 1410,
  },
  { name: "identification wraps", fields: { id: 0xfffe }, payload: 7000, size: 1410 },
  { name: "sequence wraps", fields: { sequence: 0xfffffff0 }, payload: 7000, size: 1410 },
  { name: "sequence passes 2^31", fields: { sequence: 0x7ffffff0 }, payload: 7000, size: 1410 },
  { name: "no DF", fields: { fragment: 0 }, payload: 4000, size: 1410 },
  { name: "ECN and DSCP", fields: { tos: 0xbb }, payload: 4000, size: 1410 },
  { name: "odd segment size", payload: 4000, size: 333 },
  { name: "the smallest MSS", payload: 2000, size: 48 },
  { name: "segments of one byte", payload: 70, size: 1 },
];

describe("TCP segmentation", () => {
  it.each(TCP_CASES)("$name", ({ fields = {}, payload, size }) => {
    const data = counting(payload);
    const header = vnetPartial(TCP, size, 34 + (fields.options?.length ?? 0));
    const node = new TestNode().fromPod(tcp(fields, data, "partial"), header);
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 1 });
    const reference = expected(tcp({ ...fields, ttl: 63 }, data, "full"), size);
    expect(onWire(outcome.sent).map(toHex)).toEqual(reference.map(toHex));
    expect(node.counters[COUNT_SEGMENTS]).toBe(reference.length);
  });

  it("a GSO frame that is one segment is none", () => {
    const node = new TestNode().fromPod(tcp({}, counting(1410), "partial"), vnetPartial(TCP, 1410));
    const { sent } = node.run();
    expect(onWire(sent).map(toHex)).toEqual([
      toHex(toVtep(WORKER01, tcp({ ttl: 63 }, counting(1410), "full")).subarray(8)),
    ]);
    expect(node.counters[COUNT_SEGMENTS]).toBe(0);
  });

  it("a GSO frame without payload is an ordinary acknowledgement", () => {
    const node = new TestNode().fromPod(tcp({}, counting(0), "partial"), vnetPartial(TCP, 1410));
    expect(onWire(node.run().sent)).toHaveLength(1);
  });

  it("without DF, segments over the MTU are made smaller", () => {
    const data = counting(5000);
    const node = new TestNode().fromPod(tcp({ fragment: 0 }, data, "partial"), vnetPartial(TCP, 2000));
    const { sent } = node.run();
    const reference = expected(tcp({ fragment: 0, ttl: 63 }, data, "full"), 1410);
    expect(onWire(sent).map(toHex)).toEqual(reference.map(toHex));
  });

  it("segments of several frames join one train while they are of one size", () => {
    const node = new TestNode();
    for (let n = 0; n < 3; n++) {
      node.fromPod(tcp({ sequence: n * 4000 }, counting(4000), "partial"), vnetPartial(TCP, 1000));
    }
    const { sent } = node.run();
    expect(sent.map((s) => datagrams(s.bytes, s.gso).length)).toEqual([12]);
  });

  it("frames from TAPs around it keep their order", () => {
    const node = new TestNode();
    node.fromPod(udp({ sourcePort: 1 }, counting(1402), "full"));
    node.fromPod(tcp({}, counting(2820), "partial"), vnetPartial(TCP, 1410));
    node.fromPod(udp({ sourcePort: 2 }, counting(1402), "full"));
    const ports = onWire(node.run().sent).map((f) => (f[34] << 8) | f[35]);
    expect(ports).toEqual([1, 40_000, 40_000, 2]);
  });

  it("random frames equal the reference", () => {
    const random = new Random(7);
    for (let n = 0; n < 60; n++) {
      const options = new Uint8Array(4 * random.below(11)).fill(1);
      const payload = random.between(1, random.oneIn(5) ? 60_000 : 6000);
      const size = random.between(Math.max(60, Math.ceil(payload / 1000)), 1410 - options.length);
      const fields = {
        tcpOptions: options,
        sequence: random.word(),
        acknowledgement: random.word(),
        id: random.below(0x10000),
        flags: ACK | random.pick([0, PSH, FIN, CWR, ECE, PSH | FIN | CWR]),
        window: random.below(0x10000),
        tos: random.below(256),
      };
      const data = random.bytes(payload);
      const node = new TestNode().fromPod(tcp(fields, data, "partial"), vnetPartial(TCP, size));
      const reference =
        payload <= size
          ? [ethernet(WORKER01.vtepMac, MASTER.vtepMac, IPV4, tcp({ ...fields, ttl: 63 }, data, "full"))]
          : expected(tcp({ ...fields, ttl: 63 }, data, "full"), size);
      expect(onWire(node.run().sent).map(toHex)).toEqual(reference.map(toHex));
    }
  });
});

describe("UDP segmentation", () => {
  it.each([
    { name: "equal datagrams", payload: 4000, size: 1000 },
    { name: "a short last one", payload: 4100, size: 1000 },
    { name: "odd sizes", payload: 3333, size: 111 },
    { name: "no DF", payload: 4000, size: 1000, fields: { fragment: 0 } },
    { name: "IPv4 options", payload: 4000, size: 1000, fields: { options: hex("94040000") } },
    { name: "identification wraps", payload: 4000, size: 1000, fields: { id: 0xfffe } },
  ] as { name: string; payload: number; size: number; fields?: Partial<UdpFields> }[])(
    "to a VTEP: $name",
    ({ payload, size, fields = {} }) => {
      const data = counting(payload);
      const header = vnetPartial(UDP, size, 34 + (fields.options?.length ?? 0));
      const outcome = new TestNode().fromPod(udp(fields, data, "partial"), header).run();
      expect(verdictOf(outcome)).toEqual({ forwarded: 1 });
      const reference = expected(udp({ ...fields, ttl: 63 }, data, "full"), size);
      expect(onWire(outcome.sent).map(toHex)).toEqual(reference.map(toHex));
    },
  );

  it("one of its datagrams with a checksum of zero carries 0xffff", () => {
    // Segment 2 of two bytes: find the payload for which the sum is 0xffff.
    const base = udp({ ttl: 63, id: 0x1235 }, Uint8Array.of(0, 0), "full");
    const missing = (base[26] << 8) | base[27];
    const data = Uint8Array.of(9, 9, missing >> 8, missing & 0xff);
    const node = new TestNode().fromPod(udp({}, data, "partial"), vnetPartial(UDP, 2));
    const frames = onWire(node.run().sent);
    expect(toHex(frames[1].subarray(40, 42))).toBe("ffff");
  });

  it.each([false, true])("from pod to pod, TAPs with USO: %s", (uso) => {
    const data = counting(2500);
    const packet = udpPacket({ source: pod, destination: otherPod, l4Checksum: "partial" }, data);
    const node = new TestNode({ uso }).fromPod(packet, vnetPartial(UDP, 1000));
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 1 });
    expect(outcome.sent.map((s) => s.port)).toEqual(Array(uso ? 1 : 3).fill(OTHER_POD_PORT));
    const routed = udpPacket({ source: pod, destination: otherPod, ttl: 63 }, data);
    const reference = segments(ethernet(otherPodMac, GATEWAY, IPV4, routed), 1000);
    expect(outcome.sent.flatMap((s) => kernelFrames(s.bytes)).map(toHex)).toEqual(reference.map(toHex));
    expect(node.counters[COUNT_FORWARDED]).toBe(1);
  });
});
