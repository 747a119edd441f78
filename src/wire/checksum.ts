/**
 * The Internet checksum (RFC 1071) and its incremental update (RFC 1624), for headers. Payload is
 * summed by the native binding. Sums are of big-endian 16-bit words and may grow to 31 bits before
 * they are folded: 64 KiB of data fit.
 */

/** Adds `length` bytes at `offset` to `initial`; an odd last byte counts as the high half of a word. */
export function sum(view: DataView, offset: number, length: number, initial: number): number {
  let s = initial;
  const end = offset + (length & ~1);
  for (let o = offset; o < end; o += 2) s += view.getUint16(o);
  if ((length & 1) !== 0) s += view.getUint8(end) << 8;
  return s;
}

/** Folds a sum of up to 32 bits into 16. */
export function fold(s: number): number {
  s = (s & 0xffff) + (s >>> 16);
  return (s & 0xffff) + (s >>> 16);
}

/** The checksum field for a sum: its folded complement. */
export function finish(s: number): number {
  return ~fold(s) & 0xffff;
}

/** Unfolded sum of an IPv4 pseudo-header without its length (RFC 9293 §3.1, RFC 768). */
export function pseudo4(source: number, destination: number, protocol: number): number {
  return (
    (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + (protocol & 0xff)
  );
}

/**
 * RFC 1624 equation 3: the checksum after one 16-bit word of the data changed.
 * HC' = ~(~HC + ~m + m')
 */
export function update(checksum: number, oldWord: number, newWord: number): number {
  return ~fold((~checksum & 0xffff) + (~oldWord & 0xffff) + newWord) & 0xffff;
}
