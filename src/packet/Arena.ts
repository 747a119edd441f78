/**
 * Views over one worker's packet memory (layout.ts). Owns no policy: what a frame is, the
 * dataplane knows.
 */
import {
  ARENA,
  IOV_CAPACITY,
  IOV_STRIDE,
  MSG_CAPACITY,
  MSG_STRIDE,
  RX_CAPACITY,
  RX_STRIDE,
  STATUS_LENGTH,
} from "./layout.js";

export class Arena {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** Receive descriptors. */
  readonly rx: Int32Array;
  /** Transmit messages. */
  readonly msg: Int32Array;
  /** Pieces of messages. */
  readonly iov: Int32Array;
  readonly status: Float64Array;

  /** `buffer` has at least ARENA.bytes bytes, zeroed. */
  constructor(readonly buffer: ArrayBuffer) {
    if (buffer.byteLength < ARENA.bytes) {
      throw new RangeError(`arena of ${buffer.byteLength} bytes, ${ARENA.bytes} are needed`);
    }
    this.view = new DataView(buffer);
    this.bytes = new Uint8Array(buffer);
    this.rx = new Int32Array(buffer, ARENA.rx, RX_CAPACITY * RX_STRIDE);
    this.msg = new Int32Array(buffer, ARENA.msg, MSG_CAPACITY * MSG_STRIDE);
    this.iov = new Int32Array(buffer, ARENA.iov, IOV_CAPACITY * IOV_STRIDE);
    this.status = new Float64Array(buffer, ARENA.status, STATUS_LENGTH);
  }
}
