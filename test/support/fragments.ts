/** Fragments of IPv4 packets, and what a host makes of them again (RFC 791 §3.2). Nothing of src/. */
import { concat, get16, onesSum, type Packet, put16, readPacket } from "./frames.js";

const HEADER = 20;

/** A packet without options as fragments of at most `mtu` bytes. */
export function fragmentsOf(packet: Uint8Array, mtu: number): Uint8Array[] {
  const step = (mtu - HEADER) & ~7;
  const parts: Uint8Array[] = [];
  for (let at = HEADER; at < packet.length; at += step) {
    const end = Math.min(at + step, packet.length);
    const part = concat(packet.subarray(0, HEADER), packet.subarray(at, end));
    put16(part, 2, part.length);
    put16(part, 6, (end < packet.length ? 0x2000 : 0) | ((at - HEADER) >>> 3));
    put16(part, 10, 0);
    put16(part, 10, 0xffff - onesSum(part.subarray(0, HEADER)));
    parts.push(part);
  }
  return parts;
}

/** Whether fragments of one packet are all of it; none is there twice. */
export function isWhole(fragments: readonly Packet[]): boolean {
  const bytes = fragments.reduce((sum, each) => sum + each.l4.length, 0);
  const last = fragments.find((each) => (each.fragment & 0x2000) === 0);
  return last !== undefined && (last.fragment & 0x1fff) * 8 + last.l4.length === bytes;
}

/**
 * The packet of which `fragments` are all the fragments, in any order. Throws where they are not those
 * of one packet, leave a gap, or overlap.
 */
export function reassembled(fragments: readonly Packet[]): Packet {
  const sorted = [...fragments].sort((a, b) => (a.fragment & 0x1fff) - (b.fragment & 0x1fff));
  const first = sorted[0]!;
  const parts: Uint8Array[] = [];
  let at = 0;
  sorted.forEach((each, n) => {
    const key = (p: Packet) => `${p.source} ${p.destination} ${p.protocol} ${p.id}`;
    if (key(each) !== key(first)) throw new Error(`a fragment of ${key(each)} among ${key(first)}`);
    if ((each.fragment & 0x1fff) * 8 !== at) throw new Error(`a gap or an overlap at byte ${at}`);
    if (((each.fragment & 0x2000) === 0) !== (n === sorted.length - 1)) throw new Error("not the last one");
    const part = each.bytes.subarray(HEADER, get16(each.bytes, 2));
    parts.push(part);
    at += part.length;
  });
  const whole = concat(first.bytes.subarray(0, HEADER), ...parts);
  put16(whole, 2, whole.length);
  put16(whole, 6, 0);
  put16(whole, 10, 0);
  put16(whole, 10, 0xffff - onesSum(whole.subarray(0, HEADER)));
  return readPacket(whole);
}
