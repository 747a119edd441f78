import { describe, expect, it } from "vitest";
import { MASTER, TestNode, TUNNEL_PORT, toVtep, WORKER01, WORKER02 } from "../../support/dataplane.js";
import { concat, counting, datagrams, toHex, udpPacket } from "../../support/frames.js";

const { pod, otherPod } = MASTER;
/** VXLAN, Ethernet, IPv4 and UDP headers. */
const HEADERS = 8 + 14 + 20 + 8;

let flow = 0;
function packet(payload: number, destination = WORKER01.pod) {
  flow = (flow + 1) & 0xff;
  return { source: pod, destination, sourcePort: 1000 + flow, payload: counting(payload, flow) };
}
type Sent = ReturnType<typeof packet>;

const encapsulated = (p: Sent, vtep = WORKER01) => toVtep(vtep, udpPacket({ ...p, ttl: 63 }, p.payload));

/** Sends these payload sizes to one VTEP and tells the sizes of the messages. */
function messages(sizes: readonly number[]): number[][] {
  const node = new TestNode();
  const packets = sizes.map((size) => packet(size));
  for (const p of packets) node.fromPod(udpPacket(p, p.payload));
  const { sent, forwarded } = node.run();
  expect(forwarded).toBe(sizes.length);
  const wire = sent.flatMap((s) => datagrams(s.bytes, s.gso));
  // Nothing lost, nothing changed, nothing out of order.
  expect(wire.map(toHex)).toEqual(packets.map((p) => toHex(encapsulated(p))));
  return sent.map((s) => datagrams(s.bytes, s.gso).map((d) => d.length - HEADERS));
}

describe("trains", () => {
  it("frames of equal size leave in one call, whichever flows they belong to", () => {
    const node = new TestNode();
    const packets = [packet(100), packet(100), packet(100)];
    for (const p of packets) node.fromPod(udpPacket(p, p.payload));
    const { sent } = node.run();
    expect(sent).toHaveLength(1);
    expect(sent[0]).toMatchObject({ port: TUNNEL_PORT, peer: 0, gso: 100 + HEADERS });
    expect(toHex(sent[0].bytes)).toBe(toHex(concat(...packets.map((p) => encapsulated(p)))));
  });

  it("one frame goes without UDP_SEGMENT", () => {
    const node = new TestNode();
    const p = packet(100);
    expect(node.fromPod(udpPacket(p, p.payload)).run().sent[0].gso).toBe(0);
  });

  it.each([
    [
      "a shorter one is the last",
      [100, 100, 60, 100, 100],
      [
        [100, 100, 60],
        [100, 100],
      ],
    ],
    [
      "a shorter one directly behind the first",
      [100, 60, 60, 60],
      [
        [100, 60],
        [60, 60],
      ],
    ],
    [
      "a longer one begins a new train",
      [60, 60, 100, 100],
      [
        [60, 60],
        [100, 100],
      ],
    ],
    [
      "falling sizes",
      [100, 90, 80, 70],
      [
        [100, 90],
        [80, 70],
      ],
    ],
    ["rising sizes", [70, 80, 90], [[70], [80], [90]]],
    ["a payload of one byte less", [100, 99, 100], [[100, 99], [100]]],
  ])("%s", (_, sizes, expected) => {
    expect(messages(sizes)).toEqual(expected);
  });

  it("64 frames are the most", () => {
    expect(messages(Array(130).fill(20)).map((m) => m.length)).toEqual([64, 64, 2]);
  });

  it("65507 bytes are the most", () => {
    // 1450 + 22 bytes each: 44 are 64768 bytes, 45 would be 66240.
    expect(messages(Array(50).fill(1422)).map((m) => m.length)).toEqual([44, 6]);
  });

  it("65507 bytes are the most, to the byte", () => {
    // 33 + 50 = 83 bytes do not divide it; 48 of 1364 are 65472, and 35 bytes of room are too few.
    expect(messages([...Array(48).fill(1314), 1]).map((m) => m.length)).toEqual([48, 1]);
    // 48 of 1363 are 65424: a frame of 83 bytes makes exactly 65507.
    expect(messages([...Array(48).fill(1313), 33]).map((m) => m.length)).toEqual([49]);
    expect(messages([...Array(48).fill(1313), 34]).map((m) => m.length)).toEqual([48, 1]);
  });

  it("each VTEP has a train of its own", () => {
    const node = new TestNode();
    const to01 = [packet(50), packet(50), packet(50)];
    const to02 = [packet(50, WORKER02.pod), packet(70, WORKER02.pod), packet(70, WORKER02.pod)];
    for (let n = 0; n < 3; n++) {
      node.fromPod(udpPacket(to01[n], to01[n].payload));
      node.fromPod(udpPacket(to02[n], to02[n].payload));
    }
    const { sent } = node.run();
    const sizes = (peer: number) =>
      sent.filter((s) => s.peer === peer).map((s) => datagrams(s.bytes, s.gso).length);
    expect(sizes(0)).toEqual([3]);
    expect(sizes(1)).toEqual([1, 2]);
  });

  it("frames of several pods and of the node share a train", () => {
    const node = new TestNode();
    const fields = { destination: WORKER01.pod };
    node.fromPod(udpPacket({ source: pod, ...fields }, counting(40)));
    node.fromPod(udpPacket({ source: otherPod, ...fields }, counting(40)), undefined, 3);
    node.fromNode(udpPacket({ source: MASTER.tunnel, ...fields }, counting(40)));
    const { sent } = node.run();
    expect(sent.map((s) => datagrams(s.bytes, s.gso).length)).toEqual([3]);
  });

  it("a train does not outlive its breath", () => {
    const node = new TestNode();
    const send = () => {
      const p = packet(100);
      return node.fromPod(udpPacket(p, p.payload)).run().sent.length;
    };
    expect([send(), send()]).toEqual([1, 1]);
  });

  it("checksums of a train's frames are completed one by one", () => {
    const node = new TestNode();
    const packets = [packet(33), packet(33), packet(33)];
    for (const p of packets) {
      const header = Uint8Array.of(1, 0, 0, 0, 0, 0, 34, 0, 6, 0);
      node.fromPod(udpPacket({ ...p, l4Checksum: "partial" }, p.payload), header);
    }
    const { sent } = node.run();
    expect(toHex(sent[0].bytes)).toBe(toHex(concat(...packets.map((p) => encapsulated(p)))));
  });

  it("a UDP checksum of zero is sent as 0xffff", () => {
    // Two bytes of payload that make the sum 0xffff, so that its complement is 0.
    const fields = { source: pod, destination: WORKER01.pod };
    const probe = udpPacket(fields, Uint8Array.of(0, 0));
    const missing = (probe[26] << 8) | probe[27];
    const packet = udpPacket(
      { ...fields, l4Checksum: "partial" },
      Uint8Array.of(missing >> 8, missing & 0xff),
    );
    const header = Uint8Array.of(1, 0, 0, 0, 0, 0, 34, 0, 6, 0);
    const { sent } = new TestNode().fromPod(packet, header).run();
    expect(toHex(sent[0].bytes.subarray(22 + 20 + 6, 22 + 20 + 8))).toBe("ffff");
  });
});
