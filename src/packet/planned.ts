/**
 * What a planned message would put on the wire, for those who execute a plan without a kernel
 * (port/MemoryIo, explain/): its pieces, their checksums finished as native does it, and the bytes.
 */
import * as checksum from "../wire/checksum.js";
import type { Arena } from "./Arena.js";
import {
  CSUM_NEXT,
  CSUM_REQUEST,
  CSUM_TO_END,
  CSUM_UDP,
  IOV_CSUM,
  IOV_LENGTH,
  IOV_NEXT,
  IOV_OFFSET,
  IOV_STRIDE,
  MSG_IOV,
  MSG_IOV_COUNT,
} from "./layout.js";

/** Base indices into `arena.iov` of the pieces of message `m` (a base index); null where one lies outside the arena. */
export function piecesOf({ msg, iov, bytes }: Arena, m: number): number[] | null {
  const pieces: number[] = [];
  for (let p = msg[m + MSG_IOV]; p !== -1 && pieces.length < msg[m + MSG_IOV_COUNT]; ) {
    const i = p * IOV_STRIDE;
    if (iov[i + IOV_OFFSET] < 0 || iov[i + IOV_OFFSET] + iov[i + IOV_LENGTH] > bytes.length) return null;
    pieces.push(i);
    p = iov[i + IOV_NEXT];
  }
  return pieces;
}

/** Carries out the checksum requests of a message's pieces, one byte pair at a time. */
export function finishChecksums({ iov, view }: Arena, pieces: readonly number[]): void {
  pieces.forEach((i, n) => {
    const request = iov[i + IOV_CSUM];
    if ((request & CSUM_REQUEST) === 0) return;
    const start = iov[i + IOV_OFFSET] + (request & 0xff);
    const rest =
      (request & CSUM_TO_END) !== 0
        ? pieces.slice(n + 1)
        : (request & CSUM_NEXT) !== 0
          ? pieces.slice(n + 1, n + 2)
          : [];
    let s = checksum.sum(view, start, iov[i + IOV_LENGTH] - (request & 0xff), 0);
    for (const r of rest) s = checksum.sum(view, iov[r + IOV_OFFSET], iov[r + IOV_LENGTH], checksum.fold(s));
    let value = checksum.finish(s);
    if (value === 0 && (request & CSUM_UDP) !== 0) value = 0xffff;
    view.setUint16(start + ((request >>> 8) & 0xff), value);
  });
}

/** The pieces of a message, put together. */
export function plannedBytes({ iov, bytes }: Arena, pieces: readonly number[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, i) => sum + iov[i + IOV_LENGTH], 0));
  let at = 0;
  for (const i of pieces) {
    whole.set(bytes.subarray(iov[i + IOV_OFFSET], iov[i + IOV_OFFSET] + iov[i + IOV_LENGTH]), at);
    at += iov[i + IOV_LENGTH];
  }
  return whole;
}
