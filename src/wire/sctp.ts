/**
 * SCTP headers (RFC 9260 §3), and the checksum: CRC32c over the whole packet (§6.8, appendix A).
 *
 *    0    2    4      8        12     13      14       16
 *   ┌────┬────┬──────┬────────┬──────┬───────┬────────┬─────────
 *   │ sp │ dp │ vtag │ CRC32c │ type │ flags │ length │ value …     chunks, each padded to 4 bytes
 *   └────┴────┴──────┴────────┴──────┴───────┴────────┴─────────
 */
export const HEADER = 12;
export const VERIFICATION_TAG = 4;
export const CHECKSUM = 8;

/** Offsets within a chunk. */
export const CHUNK_TYPE = 0;
export const CHUNK_FLAGS = 1;
export const CHUNK_LENGTH = 2;
export const CHUNK_HEADER = 4;
/** INIT and INIT ACK: the tag that packets to their sender carry. */
export const INITIATE_TAG = 4;

/** Chunk types. */
export const DATA = 0;
export const INIT = 1;
export const INIT_ACK = 2;
export const SACK = 3;
export const HEARTBEAT = 4;
export const HEARTBEAT_ACK = 5;
export const ABORT = 6;
export const SHUTDOWN = 7;
export const SHUTDOWN_ACK = 8;
export const ERROR = 9;
export const COOKIE_ECHO = 10;
export const COOKIE_ACK = 11;
export const SHUTDOWN_COMPLETE = 14;

/** ABORT and SHUTDOWN COMPLETE: the verification tag is the receiver's own, reflected. */
export const FLAG_T = 1;

export function verificationTag(view: DataView, o: number): number {
  return view.getInt32(o + VERIFICATION_TAG);
}

/** Offset of the chunk behind the one at `c`; `end` or more behind the last. */
export function nextChunk(view: DataView, c: number): number {
  return c + ((Math.max(view.getUint16(c + CHUNK_LENGTH), CHUNK_HEADER) + 3) & ~3);
}

/** Reflected polynomial of CRC32c (Castagnoli). */
const POLYNOMIAL = 0x82f63b78;

const TABLE = Int32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = (c & 1) !== 0 ? (c >>> 1) ^ POLYNOMIAL : c >>> 1;
  return c;
});

/** CRC32c of `length` bytes at `o`, as int32. */
export function crc32c(view: DataView, o: number, length: number): number {
  let c = -1;
  for (let at = o, end = o + length; at < end; at++) c = TABLE[(c ^ view.getUint8(at)) & 0xff] ^ (c >>> 8);
  return ~c;
}

/**
 * Gives the packet of `length` bytes at `o` other ports (source << 16 | destination) and the checksum
 * that belongs to them. One that was wrong stays wrong by the same bits.
 */
export function setPorts(view: DataView, o: number, length: number, ports: number): void {
  const stored = view.getInt32(o + CHECKSUM, true);
  view.setInt32(o + CHECKSUM, 0);
  const error = stored ^ crc32c(view, o, length);
  view.setInt32(o, ports);
  view.setInt32(o + CHECKSUM, crc32c(view, o, length) ^ error, true);
}
