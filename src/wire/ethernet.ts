/**
 * Ethernet II frames (IEEE 802.3 §3, RFC 894).
 *
 *    0      6      12   14
 *   ┌──────┬──────┬────┬─────────
 *   │ dst  │ src  │type│ payload
 *   └──────┴──────┴────┴─────────
 *
 * A MAC is two numbers: `hi`, its first two bytes, and `lo`, its last four as int32.
 */
export const HEADER = 14;
export const DESTINATION = 0;
export const SOURCE = 6;
export const TYPE = 12;

export const TYPE_IPV4 = 0x0800;
export const TYPE_ARP = 0x0806;
export const TYPE_IPV6 = 0x86dd;

/** ee:ee:ee:ee:ee:ee, the gateway that every pod sees behind its interface. */
export const GATEWAY_HI = 0xeeee;
export const GATEWAY_LO = 0xeeeeeeee | 0;
export const BROADCAST_HI = 0xffff;
export const BROADCAST_LO = -1;

/** EtherType of the frame at `o`. */
export function type(view: DataView, o: number): number {
  return view.getUint16(o + TYPE);
}

/** Whether the destination is exactly this MAC. */
export function isTo(view: DataView, o: number, hi: number, lo: number): boolean {
  return view.getInt32(o + 2) === lo && view.getUint16(o) === hi;
}

/** Whether the destination is a group address (the broadcast address is one). */
export function isMulticast(view: DataView, o: number): boolean {
  return (view.getUint8(o) & 1) !== 0;
}

/** Writes both MACs; the type stays. */
export function setMacs(
  view: DataView,
  o: number,
  dstHi: number,
  dstLo: number,
  srcHi: number,
  srcLo: number,
): void {
  view.setUint16(o, dstHi);
  view.setInt32(o + 2, dstLo);
  view.setUint16(o + 6, srcHi);
  view.setInt32(o + 8, srcLo);
}

/** Writes a whole header. */
export function emit(
  view: DataView,
  o: number,
  dstHi: number,
  dstLo: number,
  srcHi: number,
  srcLo: number,
  etherType: number,
): void {
  setMacs(view, o, dstHi, dstLo, srcHi, srcLo);
  view.setUint16(o + TYPE, etherType);
}
