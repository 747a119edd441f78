/**
 * What one breath sends: messages (a system call each), whose pieces are linked into chains, so
 * that several messages can grow at the same time, and scratch slots for headers. The plan is
 * executed and reset once a breath, or in between when it is nearly full.
 *
 *   msg ──▶ iov ──▶ iov ──▶ iov        MSG_TAIL remembers the last one
 */
import type { Arena } from "./Arena.js";
import {
  ARENA,
  IOV_CAPACITY,
  IOV_CSUM,
  IOV_LENGTH,
  IOV_NEXT,
  IOV_OFFSET,
  IOV_STRIDE,
  MSG_CAPACITY,
  MSG_ERRNO,
  MSG_FLAGS,
  MSG_FRAMES,
  MSG_GSO,
  MSG_IOV,
  MSG_IOV_COUNT,
  MSG_PEER,
  MSG_PORT,
  MSG_STRIDE,
  SCRATCH_BYTES,
  SCRATCH_SLOTS,
} from "./layout.js";

/** Index of the last piece of a message (not read by native). */
const MSG_TAIL = 11;
/** Bytes of all frames in the message (not read by native). */
export const MSG_BYTES = 12;
/** Datagrams in the message (not read by native). MSG_FRAMES is less where segments share a frame. */
export const MSG_SEGMENTS = 13;

/** A scratch slot that is always zero: the virtio-net header of a frame without offloads. */
export const ZERO_SLOT = ARENA.scratch;

export class TxPlan {
  messages = 0;
  /** How often it was emptied: what a message of an earlier count pointed to is no longer needed. */
  resets = 0;
  #pieces = 0;
  #slots = 1;
  readonly msg: Int32Array;
  readonly iov: Int32Array;

  constructor(arena: Arena) {
    this.msg = arena.msg;
    this.iov = arena.iov;
  }

  /** Whether this much more fits. */
  fits(messages: number, pieces: number, slots: number): boolean {
    return (
      this.messages + messages <= MSG_CAPACITY &&
      this.#pieces + pieces <= IOV_CAPACITY &&
      this.#slots + slots <= SCRATCH_SLOTS
    );
  }

  /** Takes a scratch slot and returns its offset in the arena. Its content is undefined. */
  slot(): number {
    return ARENA.scratch + this.#slots++ * SCRATCH_BYTES;
  }

  /** Opens a message with a first piece. Returns its base index into `msg`. */
  message(port: number, peer: number, offset: number, length: number, csum: number): number {
    const m = this.messages++ * MSG_STRIDE;
    const { msg } = this;
    const p = this.#piece(offset, length, csum);
    msg[m + MSG_PORT] = port;
    msg[m + MSG_IOV] = p;
    msg[m + MSG_IOV_COUNT] = 1;
    msg[m + MSG_PEER] = peer;
    msg[m + MSG_GSO] = 0;
    msg[m + MSG_FLAGS] = 0;
    msg[m + MSG_FRAMES] = 1;
    msg[m + MSG_ERRNO] = 0;
    msg[m + MSG_TAIL] = p;
    msg[m + MSG_BYTES] = length;
    msg[m + MSG_SEGMENTS] = 1;
    return m;
  }

  /** Appends a piece to message `m` (a base index). */
  append(m: number, offset: number, length: number, csum: number): void {
    const { msg } = this;
    const p = this.#piece(offset, length, csum);
    this.iov[msg[m + MSG_TAIL] * IOV_STRIDE + IOV_NEXT] = p;
    msg[m + MSG_TAIL] = p;
    msg[m + MSG_IOV_COUNT]++;
    msg[m + MSG_BYTES] += length;
  }

  /** Forgets everything. What was planned has been executed. */
  reset(): void {
    this.messages = 0;
    this.#pieces = 0;
    this.#slots = 1;
    this.resets = (this.resets + 1) | 0;
  }

  #piece(offset: number, length: number, csum: number): number {
    const p = this.#pieces++;
    const i = p * IOV_STRIDE;
    const { iov } = this;
    iov[i + IOV_OFFSET] = offset;
    iov[i + IOV_LENGTH] = length;
    iov[i + IOV_NEXT] = -1;
    iov[i + IOV_CSUM] = csum;
    return p;
  }
}
