/**
 * IPv4 (RFC 791; TOS as DS field and ECN: RFC 2474, RFC 3168). An address is one number: the four
 * bytes as a big-endian int32.
 *
 *    0       1     2        4    6        8     9     10       12     16     20
 *   ┌───────┬─────┬────────┬────┬────────┬─────┬─────┬────────┬──────┬──────┬────────
 *   │ver,ihl│ tos │ length │ id │fl,frag │ ttl │proto│checksum│ src  │ dst  │options…
 *   └───────┴─────┴────────┴────┴────────┴─────┴─────┴────────┴──────┴──────┴────────
 */
import * as checksum from "./checksum.js";

export const HEADER_MIN = 20;
export const HEADER_MAX = 60;
export const VERSION_IHL = 0;
export const TOS = 1;
export const TOTAL_LENGTH = 2;
export const IDENTIFICATION = 4;
export const FRAGMENT = 6;
export const TTL = 8;
export const PROTOCOL = 9;
export const CHECKSUM = 10;
export const SOURCE = 12;
export const DESTINATION = 16;

/** Bits of the fragment word. */
export const DONT_FRAGMENT = 0x4000;
export const MORE_FRAGMENTS = 0x2000;
export const FRAGMENT_OFFSET = 0x1fff;

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_SCTP = 132;

/** Bytes, options included; nothing is checked. */
export function headerLength(view: DataView, o: number): number {
  return (view.getUint8(o) & 15) << 2;
}

/** Bytes, header included. */
export function totalLength(view: DataView, o: number): number {
  return view.getUint16(o + TOTAL_LENGTH);
}

/** The fragment word: DONT_FRAGMENT, MORE_FRAGMENTS and the offset in units of 8 bytes. */
export function fragment(view: DataView, o: number): number {
  return view.getUint16(o + FRAGMENT);
}

/** Time to live: routers that may still pass it on. */
export function ttl(view: DataView, o: number): number {
  return view.getUint8(o + TTL);
}

/** IANA number of what is inside. */
export function protocol(view: DataView, o: number): number {
  return view.getUint8(o + PROTOCOL);
}

/** int32. */
export function source(view: DataView, o: number): number {
  return view.getInt32(o + SOURCE);
}

/** int32. */
export function destination(view: DataView, o: number): number {
  return view.getInt32(o + DESTINATION);
}

/** Unfolded sum of a header of HEADER_MIN bytes, which are these five words of 32 bits. */
export function headerSum(w0: number, w1: number, w2: number, w3: number, w4: number): number {
  const high = (w0 >>> 16) + (w1 >>> 16) + (w2 >>> 16) + (w3 >>> 16) + (w4 >>> 16);
  return high + (w0 & 0xffff) + (w1 & 0xffff) + (w2 & 0xffff) + (w3 & 0xffff) + (w4 & 0xffff);
}

/** Whether a header of `length` bytes, whose first HEADER_MIN bytes have the sum `sum`, has a right checksum. */
export function checksumOk(view: DataView, o: number, length: number, sum: number): boolean {
  if (length > HEADER_MIN) sum = checksum.sum(view, o + HEADER_MIN, length - HEADER_MIN, sum);
  return checksum.fold(sum) === 0xffff;
}

/** Computes and stores the header checksum. */
export function setChecksum(view: DataView, o: number, length: number): void {
  view.setUint16(o + CHECKSUM, 0);
  view.setUint16(o + CHECKSUM, checksum.finish(checksum.sum(view, o, length, 0)));
}

/** Decrements the TTL (which must not be 0) and updates the checksum (RFC 1141, RFC 1624). */
export function decrementTtl(view: DataView, o: number): void {
  // TTL, protocol and checksum are one word. A TTL that is one less adds 0x0100 to the checksum, with
  // the carry added at the end, and 0xffff made 0 (as Linux: ip_decrease_ttl).
  const old = view.getInt32(o + TTL);
  const sum = (old & 0xffff) + 0x100;
  view.setInt32(o + TTL, ((old & -0x10000) - 0x1000000) | ((sum + ((sum + 1) >>> 16)) & 0xffff));
}

/** Writes a header without options, its checksum included. `fragmentWord` is usually DONT_FRAGMENT or 0. */
export function emit(
  view: DataView,
  o: number,
  total: number,
  id: number,
  fragmentWord: number,
  timeToLive: number,
  proto: number,
  src: number,
  dst: number,
): void {
  view.setUint16(o, 0x4500);
  view.setUint16(o + TOTAL_LENGTH, total);
  view.setUint16(o + IDENTIFICATION, id);
  view.setUint16(o + FRAGMENT, fragmentWord);
  view.setUint16(o + TTL, (timeToLive << 8) | proto);
  view.setUint16(o + CHECKSUM, 0);
  view.setInt32(o + SOURCE, src);
  view.setInt32(o + DESTINATION, dst);
  view.setUint16(o + CHECKSUM, checksum.finish(checksum.sum(view, o, HEADER_MIN, 0)));
}

/** 224.0.0.0/4 (RFC 5771). */
export function isMulticast(address: number): boolean {
  return address >>> 28 === 0xe;
}

/** 127.0.0.0/8 (RFC 1122 §3.2.1.3). */
export function isLoopback(address: number): boolean {
  return address >>> 24 === 127;
}

/** 169.254.0.0/16 (RFC 3927). */
export function isLinkLocal(address: number): boolean {
  return address >>> 16 === 0xa9fe;
}

/** 0.0.0.0/8, which is never a destination, and a source only before a host has an address (RFC 1122). */
export function isThisNetwork(address: number): boolean {
  return address >>> 24 === 0;
}

/** 240.0.0.0/4 with the limited broadcast address (RFC 1112 §4, RFC 919). */
export function isReserved(address: number): boolean {
  return address >>> 28 === 0xf;
}

/** Dotted decimal. */
export function format(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}
