/**
 * Shared memory in which tables are changed piece by piece: a table is a tree of segments, and a
 * change writes new segments and a new root beside the old ones. A segment is written once, before
 * anybody is told of it, and is free again when nobody reads the last root that led to it.
 *
 *   chunk (4 MiB of words)   segment
 *   ┌────┬────┬─────┬──┐     ┌──────────────┬─────────┐
 *   │ s  │ s  │ s   │  │     │ size (words) │ content │
 *   └────┴────┴─────┴──┘     └──────────────┴─────────┘
 *                                           ↑ reference: chunk << 20 | word in it; 0 is none
 *
 * Sizes are rounded up by an eighth at most, so that a freed segment fits the next of its kind. A
 * chunk is never given back; untouched pages of it take no memory.
 */

export const CHUNK_SHIFT = 20;
const CHUNK_WORDS = 1 << CHUNK_SHIFT;
export const WORD_MASK = CHUNK_WORDS - 1;
/** References are int32, and not negative. */
const MAX_CHUNKS = 2047;
/** The longest content. */
const MAX_SEGMENT_WORDS = CHUNK_WORDS - 2;
/** What is left of a chunk is forgotten when it is less than this. */
const MIN_REGION = 32;

/** Part of a chunk that no segment has been cut from: from `at` to before `end`, references. */
interface Region {
  at: number;
  end: number;
}

export class SegmentArena {
  readonly chunks: SharedArrayBuffer[] = [];
  /** Views of the chunks. */
  readonly words: Int32Array[] = [];
  readonly #regions: Region[] = [];
  /** Segments to be had again, by size. */
  readonly #free = new Map<number, number[]>();
  #usedWords = 0;

  /** Bytes in segments that are in use, and bytes of the chunks. */
  get memory(): { used: number; reserved: number } {
    return { used: this.#usedWords * 4, reserved: this.chunks.length * CHUNK_WORDS * 4 };
  }

  /** A segment with room for `length` words, of undefined content. Throws RangeError when all is full. */
  allocate(length: number): number {
    if (length > MAX_SEGMENT_WORDS) throw new RangeError(`a segment of ${length} words`);
    const size = roundUp(length + 1);
    const start = this.#free.get(size)?.pop() ?? this.#cut(size) ?? this.#split(size) ?? this.#grow(size);
    this.words[start >>> CHUNK_SHIFT][start & WORD_MASK] = size;
    this.#usedWords += size;
    return start + 1;
  }

  /** Makes a segment free. Only when nobody reads it any more. */
  free(segment: number): void {
    const start = segment - 1;
    const size = this.words[start >>> CHUNK_SHIFT][start & WORD_MASK];
    this.#usedWords -= size;
    this.#keep(start, size);
  }

  #keep(start: number, size: number): void {
    const list = this.#free.get(size);
    if (list === undefined) this.#free.set(size, [start]);
    else list.push(start);
  }

  /** From the first region with room. */
  #cut(size: number): number | undefined {
    const i = this.#regions.findIndex(({ at, end }) => end - at >= size);
    if (i < 0) return undefined;
    const region = this.#regions[i]!;
    const start = region.at;
    region.at += size;
    if (region.end - region.at < MIN_REGION) this.#regions.splice(i, 1);
    return start;
  }

  /** From the smallest larger segment that is free; the rest of it becomes a region. */
  #split(size: number): number | undefined {
    let best = 0;
    for (const [other, list] of this.#free) {
      if (other > size && list.length > 0 && (best === 0 || other < best)) best = other;
    }
    if (best === 0) return undefined;
    const start = this.#free.get(best)!.pop()!;
    if (best - size >= MIN_REGION) this.#regions.push({ at: start + size, end: start + best });
    return start;
  }

  #grow(size: number): number {
    const chunk = this.chunks.length;
    if (chunk === MAX_CHUNKS) throw new RangeError("no room left for tables");
    const buffer = new SharedArrayBuffer(CHUNK_WORDS * 4);
    this.chunks.push(buffer);
    this.words.push(new Int32Array(buffer));
    const start = chunk << CHUNK_SHIFT;
    this.#regions.push({ at: start, end: start + CHUNK_WORDS });
    return this.#cut(size)!;
  }
}

/** To a multiple of 4, and to one of eight sizes between two powers of two. */
function roundUp(size: number): number {
  const step = Math.max(4, 1 << Math.max(0, 28 - Math.clz32(size - 1)));
  return (size + step - 1) & -step;
}
