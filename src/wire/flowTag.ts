/**
 * The tag that tells apart two connections whose translated tuples are equal: one client port towards
 * two virtual addresses, or two nodes' NodePorts, that have the same backend. Between our VTEPs it
 * travels in the inner source MAC, of which nothing else depends: locally administered, a prefix of
 * our own, then the 32 bits of the tag.
 *
 *    02:74 │ tag
 */
import * as ethernet from "./ethernet.js";

export const HI = 0x0274;

/** The tag of the frame at `o`, 0 without. */
export function read(view: DataView, o: number): number {
  return view.getUint16(o + ethernet.SOURCE) === HI ? view.getInt32(o + ethernet.SOURCE + 2) : 0;
}

/** Tag for what a client asked for: never 0. An avalanche of all bits (MurmurHash3's finalizer). */
export function of(destination: number, l4Port: number, protocol: number): number {
  let h = destination ^ Math.imul((protocol << 16) | l4Port, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  h ^= h >>> 16;
  return h === 0 ? 1 : h;
}
