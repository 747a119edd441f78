/**
 * SCTP headers (RFC 9260 §3).
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
