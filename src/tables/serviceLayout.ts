/**
 * The words of a service image (ServiceTable), and its pages as plain values, for those who write them
 * and those who look at an image from afar (serviceSnapshot).
 *
 *   root     magic, version, generation, frontends, pages - 1, frontends ever added,
 *            a bit for each UDP port that an endpoint has, page × pages
 *   page     count, count × [address, protocol << 16 | port], count × row
 *            (of a hash table; an empty one is reference 0)
 *   row      flags, affinity timeout and key, ring inside, ring outside, source ranges, service id
 *   ring     slots, count, count × [address, port, flags, id], slots × number of a backend in this
 *            ring, one byte each up to 256 backends, else two
 *   ranges   count, count × [address, mask]
 *
 * Key (address, 0) says that the address has some service; a node port has address 0. Rings of equal
 * sets of backends are one segment.
 */

// Words of the root.
export const ROOT_MAGIC = 0;
export const ROOT_VERSION = 1;
export const ROOT_GENERATION = 2;
export const ROOT_FRONTENDS = 3;
/** Number of pages - 1. */
export const ROOT_LAST_PAGE = 4;
export const ROOT_ADDED = 5;
export const ROOT_UDP_PORTS = 6;
/** A bit for each UDP port. */
export const UDP_PORT_WORDS = 2048;
export const ROOT_HEAD = ROOT_UDP_PORTS + UDP_PORT_WORDS;

/** Words of a row. */
export const ROW = 7;
export const ROW_FLAGS = 0;
export const ROW_AFFINITY = 1;
export const ROW_INSIDE = 2;
export const ROW_OUTSIDE = 3;
export const ROW_RANGES = 4;
export const ROW_SERVICE = 5;
export const ROW_AFFINITY_KEY = 6;

export const RING_SLOTS = 0;
export const RING_COUNT = 1;
export const RING_HEAD = 2;

/** Words of a backend: address, port, flags, id. */
export const BACKEND_WORDS = 4;
/** Up to here a slot is a byte. */
export const BYTE_BACKENDS = 256;

/** What a client may address, and what becomes of it. */
export interface FrontendRow {
  /** FRONTEND_*. */
  flags: number;
  /** Timeout of ClientIP affinity in seconds; 0 without. */
  affinitySeconds: number;
  /** The service port in the AffinityTable, not 0: the same after a restart. Of no use without timeout. */
  affinityKey: number;
  /** Ring for traffic of this node's pods and of the node itself; RING_REJECT or RING_DROP. */
  inside: number;
  /** Ring for everybody else's. */
  outside: number;
  /** From `acquireRanges`; 0: every source. */
  ranges: number;
  /** Number of the service port. */
  service: number;
}

/** A row with what it is found by. */
export interface PageEntry extends FrontendRow {
  /** int32; 0: a node port, on every address of the node. */
  address: number;
  /** IANA protocol number << 16 | port; 0: the row says only that the address has some Service. */
  key: number;
}

/** Words of a page of so many entries. */
export function pageLength(entries: number): number {
  return 1 + entries * (2 + ROW);
}

/** The entries of the page at word `at`. */
export function readPage(words: Int32Array, at: number): PageEntry[] {
  const count = words[at];
  return Array.from({ length: count }, (_, i) => {
    const key = at + 1 + 2 * i;
    const row = at + 1 + 2 * count + ROW * i;
    return {
      address: words[key],
      key: words[key + 1],
      flags: words[row + ROW_FLAGS],
      affinitySeconds: words[row + ROW_AFFINITY],
      affinityKey: words[row + ROW_AFFINITY_KEY],
      inside: words[row + ROW_INSIDE],
      outside: words[row + ROW_OUTSIDE],
      ranges: words[row + ROW_RANGES],
      service: words[row + ROW_SERVICE],
    };
  });
}

/** Writes a page of pageLength words at word `at`. */
export function writePage(words: Int32Array, at: number, entries: readonly PageEntry[]): void {
  const count = entries.length;
  words[at] = count;
  entries.forEach((entry, i) => {
    const key = at + 1 + 2 * i;
    const row = at + 1 + 2 * count + ROW * i;
    words[key] = entry.address;
    words[key + 1] = entry.key;
    words[row + ROW_FLAGS] = entry.flags;
    words[row + ROW_AFFINITY] = entry.affinitySeconds;
    words[row + ROW_AFFINITY_KEY] = entry.affinityKey;
    words[row + ROW_INSIDE] = entry.inside;
    words[row + ROW_OUTSIDE] = entry.outside;
    words[row + ROW_RANGES] = entry.ranges;
    words[row + ROW_SERVICE] = entry.service;
  });
}
