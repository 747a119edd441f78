import { describe, expect, it } from "vitest";
import { COUNT_FRAGMENTS } from "../../../src/packet/counters.js";
import {
  MASTER,
  OTHER_POD_PORT,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  WORKER01,
} from "../../support/dataplane.js";
import {
  concat,
  counting,
  datagrams,
  ipv4,
  l4ChecksumOk,
  type Packet,
  put16,
  readFrame,
  readPacket,
  readVxlan,
  tcpPacket,
  toHex,
  UDP,
  udpPacket,
  vnet,
  vnetPartial,
} from "../../support/frames.js";
import { verdictOf } from "./fixtures.js";

const { pod, otherPod } = MASTER;

/** The fragments that a node sent, each fit for the overlay. */
function fragments(sent: readonly { port: number; bytes: Uint8Array; gso: number }[]): Packet[] {
  return sent.flatMap((s) => {
    if (s.port !== TUNNEL_PORT) {
      expect(toHex(s.bytes.subarray(0, 10))).toBe(toHex(vnet()));
      return [readFrame(s.bytes.subarray(10)).packet!];
    }
    return datagrams(s.bytes, s.gso).map((d) => readFrame(readVxlan(d).frame).packet!);
  });
}

/** The plain reference: puts fragments together by their offsets (RFC 791 §3.2), last one included. */
function reassembled(parts: readonly Packet[]): Uint8Array {
  const data: number[] = [];
  for (const part of parts) {
    expect(part.bytes.length).toBeLessThanOrEqual(1450);
    expect([part.id, part.source, part.destination, part.ttl]).toEqual([
      parts[0].id,
      parts[0].source,
      parts[0].destination,
      parts[0].ttl,
    ]);
    const at = (part.fragment & 0x1fff) * 8;
    for (const [x, byte] of part.l4.entries()) {
      expect(data[at + x], "fragments overlap").toBeUndefined();
      data[at + x] = byte;
    }
    if (part.fragment & 0x2000) expect(part.l4.length % 8).toBe(0);
  }
  expect(parts.filter((p) => (p.fragment & 0x2000) === 0)).toHaveLength(1);
  expect(Object.keys(data).length, "holes").toBe(data.length);
  const whole = concat(parts[0].bytes.subarray(0, 20), Uint8Array.from(data));
  put16(whole, 2, whole.length);
  put16(whole, 6, 0);
  put16(whole, 10, 0);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += (whole[i] << 8) | whole[i + 1];
  put16(whole, 10, 0xffff - (sum % 0xffff));
  return whole;
}

describe("fragmentation of packets that are too long and have no DF", () => {
  it.each([
    ["one byte too long", 1423],
    ["two fragments of the most", 1424 + 1416],
    ["an odd rest", 5001],
    ["the longest packet", 65_507],
  ])("to a VTEP: %s", (_, payload) => {
    const fields = { source: pod, destination: WORKER01.pod, fragment: 0 };
    const node = new TestNode().fromPod(udpPacket(fields, counting(payload)));
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 1 });
    const parts = fragments(outcome.sent);
    expect(toHex(reassembled(parts))).toBe(toHex(udpPacket({ ...fields, ttl: 63 }, counting(payload))));
    expect(node.counters[COUNT_FRAGMENTS]).toBe(parts.length);
    expect(parts).toHaveLength(Math.ceil((payload + 8) / 1424));
  });

  it("to a pod of the node", () => {
    const fields = { source: pod, destination: otherPod, fragment: 0 };
    const outcome = new TestNode().fromPod(udpPacket(fields, counting(3000))).run();
    expect(new Set(outcome.sent.map((s) => s.port))).toEqual(new Set([OTHER_POD_PORT]));
    expect(toHex(reassembled(fragments(outcome.sent)))).toBe(
      toHex(udpPacket({ ...fields, ttl: 63 }, counting(3000))),
    );
  });

  it.each([2, 9000, 1453])("a partial checksum is completed first (%i bytes)", (payload) => {
    const fields = { source: pod, destination: WORKER01.pod, fragment: 0 };
    const packet = udpPacket({ ...fields, l4Checksum: "partial" }, counting(payload));
    const { sent } = new TestNode().fromPod(packet, vnetPartial(UDP)).run();
    const whole = readPacket(payload < 1423 ? fragments(sent)[0].bytes : reassembled(fragments(sent)));
    expect(l4ChecksumOk(whole)).toBe(true);
    expect(toHex(whole.bytes)).toBe(toHex(udpPacket({ ...fields, ttl: 63 }, counting(payload))));
  });

  it("TCP without offload, which nobody sends", () => {
    const fields = { source: pod, destination: WORKER01.pod, fragment: 0 };
    const { sent } = new TestNode().fromPod(tcpPacket(fields, counting(4000))).run();
    expect(toHex(reassembled(fragments(sent)))).toBe(
      toHex(tcpPacket({ ...fields, ttl: 63 }, counting(4000))),
    );
  });

  it("a fragment is fragmented further: offsets go on, and only the last is without MF", () => {
    const middle = ipv4({ source: pod, destination: WORKER01.pod, fragment: 0x2000 | 100 }, counting(2000));
    const parts = fragments(new TestNode().fromPod(middle).run().sent);
    expect(parts.map((p) => p.fragment)).toEqual([0x2000 | 100, 0x2000 | (100 + 178)]);
    expect(toHex(concat(...parts.map((p) => p.l4)))).toBe(toHex(counting(2000)));
  });

  it("frames to one VTEP keep their order around it", () => {
    const packet = (sourcePort: number, payload: number) =>
      udpPacket({ source: pod, destination: WORKER01.pod, fragment: 0, sourcePort }, counting(payload));
    const node = new TestNode().fromPod(packet(1, 50)).fromPod(packet(2, 2000)).fromPod(packet(3, 50));
    const parts = fragments(node.run().sent);
    expect(parts.filter((p) => (p.fragment & 0x1fff) === 0).map((p) => p.l4[1])).toEqual([1, 2, 3]);
    expect(parts.map((p) => p.fragment & 0x1fff)).toEqual([0, 0, 178, 0]);
  });

  it("frames to one pod keep their order around it", () => {
    const packet = (sourcePort: number, payload: number) =>
      udpPacket({ source: pod, destination: otherPod, fragment: 0, sourcePort }, counting(payload));
    const node = new TestNode().fromPod(packet(1, 50)).fromPod(packet(2, 2000)).fromPod(packet(3, 50));
    const parts = fragments(node.run().sent);
    expect(parts.map((p) => p.fragment & 0x1fff)).toEqual([0, 0, 178, 0]);
  });

  it("a failure costs the frame once", () => {
    const node = new TestNode().fromPod(
      udpPacket({ source: pod, destination: otherPod, fragment: 0 }, counting(5000)),
    );
    node.io.failures.set(OTHER_POD_PORT, 11);
    expect(verdictOf(node.run())).toEqual({ txBusy: 1 });
  });

  it("what the tunnel brought is not measured", () => {
    const packet = udpPacket({ source: WORKER01.pod, destination: pod, fragment: 0 }, counting(3000));
    const { sent } = new TestNode().fromWorker01(packet).run();
    expect(sent.map((s) => [s.port, s.bytes.length])).toEqual([[POD_PORT, 10 + 14 + 3028]]);
  });
});
