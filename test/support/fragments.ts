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

/** ipfrag_time: what a host waits for the rest of a packet, from its first fragment on. */
const WAIT_US = 30_000_000;

interface Incomplete {
  sinceUs: number;
  parts: Packet[];
}

const startOf = (part: Packet) => (part.fragment & 0x1fff) * 8;
const endOf = (part: Packet) => startOf(part) + part.l4.length;
const isLast = (part: Packet) => (part.fragment & 0x2000) === 0;

/**
 * Puts packets together as a Linux host does (net/ipv4/ip_fragment.c, ip_frag_queue), whoever sent their
 * fragments: a packet that was lost in part may leave some to the next one with its identification.
 * A fragment that is there already is ignored; one that overlaps others, or that lies behind the end,
 * or says another end, ends the packet: all of its fragments are forgotten (RFC 5722 §3, applied to IPv4).
 */
export class Reassembly {
  readonly #incomplete = new Map<string, Incomplete>();

  /** Takes a fragment at `nowUs`. The packet that it completes, else undefined. */
  add(part: Packet, nowUs: number): Packet | undefined {
    const key = `${part.source} ${part.destination} ${part.protocol} ${part.id}`;
    const known = this.#incomplete.get(key);
    const kept = known !== undefined && nowUs - known.sinceUs <= WAIT_US ? known : undefined;
    const { sinceUs, parts } = kept ?? { sinceUs: nowUs, parts: [] };
    const before = Math.max(0, ...parts.map(endOf));
    const ended = parts.some(isLast);
    const corrupt = isLast(part)
      ? endOf(part) < before || (ended && endOf(part) !== before)
      : ended && endOf(part) > before;
    const met = parts.filter((each) => startOf(each) < endOf(part) && startOf(part) < endOf(each));
    const there = met.some((each) => startOf(each) <= startOf(part) && endOf(part) <= endOf(each));
    if (corrupt || (met.length > 0 && !there)) {
      this.#incomplete.delete(key);
      return undefined;
    }
    if (!there) parts.push(part);
    const bytes = parts.reduce((sum, each) => sum + each.l4.length, 0);
    if (!parts.some(isLast) || bytes !== Math.max(...parts.map(endOf))) {
      this.#incomplete.set(key, { sinceUs, parts });
      return undefined;
    }
    this.#incomplete.delete(key);
    return reassembled(parts);
  }
}
