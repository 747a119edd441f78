/**
 * The ring between a dataplane thread, which writes, and the control side, which reads: one writer,
 * one reader, no locks. What finds it full is counted and lost; nobody waits.
 *
 *     tail (reader)          head (committed)     next (writer's own)
 *      │                      │                    │
 *   ───▼──────────────────────▼────────────────────▼──────────────▶
 *       records to be read     records of this batch
 *
 * The records of a batch are shown to the reader together, when it is known what became of each.
 */
import {
  COUNTS,
  COUNTS_OFFSET,
  captureBytes,
  MAX_CAPACITY,
  MIN_CAPACITY,
  RECORD_BYTES,
  RECORD_CAPTURED,
  RECORD_WORDS,
  RING_OFFSET,
  WORD_HEAD,
  WORD_TAIL,
} from "./layout.js";

/** A zeroed buffer whose ring has `capacity` bytes: a power of two, MIN_CAPACITY to MAX_CAPACITY. */
export function newCaptureBuffer(capacity: number): SharedArrayBuffer {
  if (capacity < MIN_CAPACITY || capacity > MAX_CAPACITY || (capacity & (capacity - 1)) !== 0) {
    throw new RangeError(`a ring of ${capacity} bytes`);
  }
  return new SharedArrayBuffer(captureBytes(capacity));
}

/** The writer's end. Makes no garbage. */
export class RingWriter {
  readonly words: Int32Array;
  readonly view: DataView;
  readonly counts: Float64Array;
  readonly #capacity: number;
  #tail = 0;
  #head = 0;
  #next = 0;
  #walk = 0;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
    this.view = new DataView(buffer);
    this.counts = new Float64Array(buffer, COUNTS_OFFSET, COUNTS);
    this.#capacity = buffer.byteLength - RING_OFFSET;
    this.#tail = this.words[WORD_TAIL];
    this.#head = this.#next = this.words[WORD_HEAD];
  }

  /**
   * Room for a record with `captured` bytes of packet. Returns its first word's index, -1 where the
   * ring is full. RECORD_BYTES and RECORD_CAPTURED are set.
   */
  reserve(captured: number): number {
    const bytes = (RECORD_WORDS * 4 + captured + 7) & ~7;
    const left = this.#capacity - (this.#next & (this.#capacity - 1));
    const takes = bytes <= left ? bytes : left + bytes;
    if (((this.#next - this.#tail) | 0) + takes > this.#capacity) {
      this.#tail = Atomics.load(this.words, WORD_TAIL);
      if (((this.#next - this.#tail) | 0) + takes > this.#capacity) return -1;
    }
    if (bytes > left) {
      this.words[this.#index(this.#next) + RECORD_BYTES] = 0;
      this.#next = (this.#next + left) | 0;
    }
    const record = this.#index(this.#next);
    this.words[record + RECORD_BYTES] = bytes;
    this.words[record + RECORD_CAPTURED] = captured;
    this.#next = (this.#next + bytes) | 0;
    return record;
  }

  /** Begins a walk over the records that are not committed. */
  rewind(): void {
    this.#walk = this.#head;
  }

  /** The next record of the walk; -1 at its end. */
  walk(): number {
    if (this.#walk === this.#next) return -1;
    let record = this.#index(this.#walk);
    if (this.words[record + RECORD_BYTES] === 0) {
      this.#walk = (this.#walk + this.#capacity - (this.#walk & (this.#capacity - 1))) | 0;
      if (this.#walk === this.#next) return -1;
      record = this.#index(this.#walk);
    }
    this.#walk = (this.#walk + this.words[record + RECORD_BYTES]) | 0;
    return record;
  }

  /** Shows the reader what was written. */
  commit(): void {
    this.#head = this.#next;
    Atomics.store(this.words, WORD_HEAD, this.#head);
  }

  #index(at: number): number {
    return (RING_OFFSET + (at & (this.#capacity - 1))) >> 2;
  }
}

/** The reader's end. */
export class RingReader {
  readonly words: Int32Array;
  readonly view: DataView;
  readonly counts: Float64Array;
  readonly #bytes: Uint8Array;
  readonly #capacity: number;
  #tail = 0;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
    this.view = new DataView(buffer);
    this.counts = new Float64Array(buffer, COUNTS_OFFSET, COUNTS);
    this.#bytes = new Uint8Array(buffer);
    this.#capacity = buffer.byteLength - RING_OFFSET;
    this.#tail = this.words[WORD_TAIL];
  }

  /** Index of the oldest record's first word; -1 where there is none. It stays until `release`. */
  peek(): number {
    const head = Atomics.load(this.words, WORD_HEAD);
    if (head === this.#tail) return -1;
    const record = this.#index();
    if (this.words[record + RECORD_BYTES] !== 0) return record;
    this.#advance(this.#capacity - (this.#tail & (this.#capacity - 1)));
    return head === this.#tail ? -1 : this.#index();
  }

  /** The packet in `record`: a view, good until `release`. */
  data(record: number): Uint8Array {
    const start = (record + RECORD_WORDS) * 4;
    return this.#bytes.subarray(start, start + this.words[record + RECORD_CAPTURED]);
  }

  /** Gives the room of `record`, which `peek` returned, back to the writer. */
  release(record: number): void {
    this.#advance(this.words[record + RECORD_BYTES]);
  }

  #advance(bytes: number): void {
    this.#tail = (this.#tail + bytes) | 0;
    Atomics.store(this.words, WORD_TAIL, this.#tail);
  }

  #index(): number {
    return (RING_OFFSET + (this.#tail & (this.#capacity - 1))) >> 2;
  }
}
