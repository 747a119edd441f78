/**
 * A service image as words that can be sent elsewhere, and back: the segments that its root leads to,
 * at their own references, and nothing of what else lies in the arena. For those who look at a
 * node's tables from afar; the worker gets images whole (ServiceTable.adopt).
 *
 *   words: version, root, then for each segment: reference, length, content
 *
 * Taken between two commits, so that no segment is freed meanwhile.
 */
import { CHUNK_SHIFT, WORD_MASK } from "./SegmentArena.js";
import type { ServiceImage } from "./ServiceTable.js";
import {
  BACKEND_WORDS,
  BYTE_BACKENDS,
  type FrontendRow,
  pageLength,
  RING_COUNT,
  RING_HEAD,
  RING_SLOTS,
  ROOT_GENERATION,
  ROOT_HEAD,
  ROOT_LAST_PAGE,
  readPage,
} from "./serviceLayout.js";

const VERSION = 1;
const HEAD = 2;
/** A row of an address alone says that it has some Service. */
const KEY_OF_ADDRESS = 0;

/** A row of the table with what it is found by. */
export interface Frontend extends FrontendRow {
  /** int32; 0: a node port, on every address of the node. */
  address: number;
  /** IANA number. */
  protocol: number;
  l4Port: number;
}

interface Segment {
  /** Words of its chunk, and where it begins in them. */
  words: Int32Array;
  at: number;
}

/** Every frontend of an image, in no order. */
export function frontendsOf(image: ServiceImage): Frontend[] {
  const segment = opened(image);
  return pagesOf(segment(image.root)).flatMap((page) => rowsOf(segment(page)));
}

/** The words of an image. */
export function snapshotServices(image: ServiceImage): Int32Array {
  const segment = opened(image);
  const lengths = new Map<number, number>();
  const root = segment(image.root);
  const pages = pagesOf(root);
  lengths.set(image.root, ROOT_HEAD + root.words[root.at + ROOT_LAST_PAGE] + 1);
  for (const page of pages) {
    const { words, at } = segment(page);
    lengths.set(page, pageLength(words[at]));
    // Rows of addresses alone have no ring.
    for (const { inside, outside, ranges } of rowsOf(segment(page))) {
      for (const ring of [inside, outside]) if (ring > 0) lengths.set(ring, ringLength(segment(ring)));
      if (ranges !== 0) lengths.set(ranges, rangesLength(segment(ranges)));
    }
  }
  const total = [...lengths.values()].reduce((sum, length) => sum + HEAD + length, HEAD);
  const snapshot = new Int32Array(total);
  snapshot.set([VERSION, image.root]);
  let to = HEAD;
  for (const [reference, length] of lengths) {
    const { words, at } = segment(reference);
    snapshot.set([reference, length], to);
    snapshot.set(words.subarray(at, at + length), to + HEAD);
    to += HEAD + length;
  }
  return snapshot;
}

/** An image with the content of a snapshot, in memory of its own. Throws RangeError on words that are none. */
export function restoreServices(snapshot: Int32Array): ServiceImage {
  if (snapshot[0] !== VERSION) throw new RangeError(`not a service snapshot of version ${VERSION}`);
  const ends: number[] = [];
  for (const { reference, length } of segmentsOf(snapshot)) {
    const chunk = reference >>> CHUNK_SHIFT;
    while (ends.length <= chunk) ends.push(0);
    ends[chunk] = Math.max(ends[chunk]!, (reference & WORD_MASK) + length);
  }
  const chunks = ends.map((end) => new SharedArrayBuffer(4 * end));
  const views = chunks.map((chunk) => new Int32Array(chunk));
  for (const { reference, at, length } of segmentsOf(snapshot))
    views[reference >>> CHUNK_SHIFT].set(snapshot.subarray(at, at + length), reference & WORD_MASK);
  const root = snapshot[1];
  const generation = views[root >>> CHUNK_SHIFT]?.[(root & WORD_MASK) + ROOT_GENERATION];
  if (generation === undefined) throw new RangeError("a service snapshot without its root");
  return { chunks, root, generation };
}

function* segmentsOf(snapshot: Int32Array): Generator<{ reference: number; at: number; length: number }> {
  for (let at = HEAD; at < snapshot.length; ) {
    const length = snapshot[at + 1];
    if (snapshot[at] <= 0 || length === undefined || length < 0 || at + HEAD + length > snapshot.length)
      throw new RangeError("a service snapshot that was cut");
    yield { reference: snapshot[at], at: at + HEAD, length };
    at += HEAD + length;
  }
}

function opened({ chunks }: ServiceImage): (reference: number) => Segment {
  const views = chunks.map((chunk) => new Int32Array(chunk));
  return (reference) => ({ words: views[reference >>> CHUNK_SHIFT], at: reference & WORD_MASK });
}

/** References of the pages that are not empty. */
function pagesOf({ words, at }: Segment): number[] {
  const count = words[at + ROOT_LAST_PAGE] + 1;
  return [...words.subarray(at + ROOT_HEAD, at + ROOT_HEAD + count)].filter((page) => page !== 0);
}

function rowsOf({ words, at }: Segment): Frontend[] {
  return readPage(words, at)
    .filter(({ key }) => key !== KEY_OF_ADDRESS)
    .map(({ key, ...row }) => ({ ...row, protocol: key >>> 16, l4Port: key & 0xffff }));
}

function ringLength({ words, at }: Segment): number {
  const count = words[at + RING_COUNT];
  const bytes = words[at + RING_SLOTS] * (count > BYTE_BACKENDS ? 2 : 1);
  return RING_HEAD + BACKEND_WORDS * count + ((bytes + 3) >>> 2);
}

function rangesLength({ words, at }: Segment): number {
  return 1 + 2 * words[at];
}
