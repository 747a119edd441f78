/** What the simulated hosts of the model put together, as Linux's ip_frag_queue does. */
import { expect, it } from "vitest";
import { fragmentsOf, Reassembly } from "../../support/fragments.js";
import { counting, type Packet, readPacket, toHex, udpPacket } from "../../support/frames.js";

const SECOND_US = 1_000_000;
const [PC, NODE] = ["192.168.2.99", "192.168.2.30"];
const datagram = udpPacket({ source: PC, destination: NODE, id: 7, fragment: 0 }, counting(112));
/** Bytes 0-47, 48-95 and 96-119 of the packet's data. */
const [first, middle, last] = fragmentsOf(datagram, 68).map(readPacket) as [Packet, Packet, Packet];

/** What each of `parts` completes, in hex; "" where nothing. */
function put(reassembly: Reassembly, ...parts: Packet[]): string[] {
  return parts.map((part) => {
    const whole = reassembly.add(part, 0);
    return whole === undefined ? "" : toHex(whole.bytes);
  });
}

it.each([[[first, middle, last]], [[last, middle, first]], [[middle, first, last]]])(
  "a packet is whole with its last missing fragment, in any order",
  (parts) => {
    const wanted = toHex(datagram);
    expect(put(new Reassembly(), ...parts)).toEqual(["", "", wanted]);
  },
);

it("a fragment that comes twice is not counted twice", () => {
  const wanted = toHex(datagram);
  // The bytes of first and first are those of first and middle.
  expect(put(new Reassembly(), last, first, first, middle)).toEqual(["", "", "", wanted]);
});

it("what a packet left behind goes into the next one with its identification", () => {
  const reassembly = new Reassembly();
  const next = udpPacket(
    { source: PC, destination: NODE, id: 7, fragment: 0, sourcePort: 41_000 },
    counting(112),
  );
  const [newFirst, newMiddle] = fragmentsOf(next, 68).map(readPacket);
  expect(put(reassembly, last, newFirst!, newMiddle!)).toEqual(["", "", toHex(next)]);
});

it("an overlap ends the packet", () => {
  const reassembly = new Reassembly();
  const [, wider] = fragmentsOf(datagram, 20 + 32).map(readPacket);
  expect(put(reassembly, first, wider!, middle, last)).toEqual(["", "", "", ""]);
  // Of the four, two were forgotten.
  expect(put(reassembly, first)).toEqual([toHex(datagram)]);
});

it("two ends end the packet", () => {
  const reassembly = new Reassembly();
  const [, shorter] = fragmentsOf(
    udpPacket({ source: PC, destination: NODE, id: 7, fragment: 0 }, counting(60)),
    68,
  );
  expect(put(reassembly, last, readPacket(shorter!))).toEqual(["", ""]);
  expect(put(reassembly, first, middle)).toEqual(["", ""]);
  expect(put(reassembly, last)).toEqual([toHex(datagram)]);
});

it("the rest of a packet is waited for 30 s", () => {
  const reassembly = new Reassembly();
  reassembly.add(first, 0);
  reassembly.add(middle, 30 * SECOND_US);
  expect(reassembly.add(last, 30 * SECOND_US + 1)).toBeUndefined();
  expect(put(reassembly, first, middle)).toEqual(["", toHex(datagram)]);
});
