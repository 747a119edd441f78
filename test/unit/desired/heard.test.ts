/** The raw sockets' filters, run by a plain interpreter of the instructions that they use. */
import { describe, expect, it } from "vitest";
import { heardElsewhere, icmpFilter, udpFilter } from "../../../src/desired/heard.js";
import { icmpPacket, udpPacket } from "../../support/frames.js";

/** How many bytes of a packet that came in by an interface a program accepts (linux/filter.h, bpf_common.h). */
function run(program: number[], packet: Uint8Array, ifindex = 1): number {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  let a = 0;
  let x = 0;
  for (let pc = 0; ; pc++) {
    const [code, jt, jf, k] = program.slice(4 * pc, 4 * pc + 4) as [number, number, number, number];
    if (code === 0xb1) x = 4 * (view.getUint8(k) & 15);
    else if (code === 0x20 && k === 0xfffff008) a = ifindex;
    else if (code === 0x50) a = view.getUint8(x + k);
    else if (code === 0x48) a = view.getUint16(x + k);
    else if (code === 0x15) pc += a === k ? jt : jf;
    else if (code === 0x35) pc += a >= k ? jt : jf;
    else if (code === 0x25) pc += a > k ? jt : jf;
    else if (code === 0x06) return k;
    else throw new Error(`instruction ${code} at ${pc}`);
  }
}

const ENDS = { source: "203.0.113.9", destination: "192.168.2.30" };
const OPTIONS = new Uint8Array([1, 1, 1, 0]);

describe.each([
  ["without options", new Uint8Array(0)],
  ["with options", OPTIONS],
])("a packet %s", (_, options) => {
  it.each([
    [0, 60_999, false],
    [0, 61_000, true],
    [0, 65_534, true],
    [0, 65_535, false],
    [8, 61_000, false],
    [3, 0, true],
    [4, 0, true],
    [5, 0, false],
    [11, 0, true],
    [12, 0, true],
    [13, 61_000, false],
  ])("ICMP type %i, identifier %i: %s", (type, id, heard) => {
    const packet = icmpPacket({ ...ENDS, type, rest: (id << 16) | 1, options }, OPTIONS);
    expect(run(icmpFilter({ first: 61_000, last: 65_534 }), packet) > 0).toBe(heard);
  });

  it.each([
    [29_999, false],
    [30_000, true],
    [32_767, true],
    [32_768, false],
    [60_999, false],
    [61_000, true],
    [65_534, true],
    [65_535, false],
    [4789, false],
  ])("UDP to port %i: %s", (destinationPort, heard) => {
    const ranges = [
      { first: 30_000, last: 32_767 },
      { first: 61_000, last: 65_534 },
    ];
    const packet = udpPacket({ ...ENDS, destinationPort, options }, OPTIONS);
    expect(run(udpFilter(ranges), packet) > 0).toBe(heard);
    expect(run(udpFilter([ranges[0]!]), packet) > 0).toBe(heard && destinationPort < 61_000);
  });
});

it("what came by one interface is left out", () => {
  const filter = heardElsewhere(icmpFilter({ first: 61_000, last: 65_534 }), 7);
  const error = icmpPacket({ ...ENDS, type: 3 }, OPTIONS);
  const question = icmpPacket({ ...ENDS, type: 8 }, OPTIONS);
  expect([6, 7, 8].map((ifindex) => run(filter, error, ifindex) > 0)).toEqual([true, false, true]);
  expect([6, 7].map((ifindex) => run(filter, question, ifindex) > 0)).toEqual([false, false]);
});
