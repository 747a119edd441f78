/**
 * What the dataplane knows of Services: which address, protocol and port is one, and the rings of
 * backends behind it. Much larger than a table image, and changed all the time, so it lives in a
 * SegmentArena of its own: a change of one service writes its ring, the page of its rows and a root.
 *
 * What the words mean: serviceLayout.
 *
 * Life of an image: `commit` → the worker calls `adopt` between two breaths and says so →
 * `acknowledge`: what only older images used is free again. References (rows, rings, backends) hold
 * until the next `adopt`; a flow keeps the backend's address and id instead.
 */
import { hashAddress } from "./hash.js";
import { MaglevRing, ringSize } from "./MaglevRing.js";
import { CHUNK_SHIFT, SegmentArena, WORD_MASK } from "./SegmentArena.js";
import {
  BACKEND_WORDS,
  BYTE_BACKENDS,
  type FrontendRow,
  type PageEntry,
  pageLength,
  RING_COUNT,
  RING_HEAD,
  RING_SLOTS,
  ROOT_ADDED,
  ROOT_FRONTENDS,
  ROOT_GENERATION,
  ROOT_HEAD,
  ROOT_LAST_PAGE,
  ROOT_MAGIC,
  ROOT_UDP_PORTS,
  ROOT_VERSION,
  ROW,
  ROW_AFFINITY,
  ROW_AFFINITY_KEY,
  ROW_FLAGS,
  ROW_INSIDE,
  ROW_OUTSIDE,
  ROW_RANGES,
  ROW_SERVICE,
  readPage,
  UDP_PORT_WORDS,
  writePage,
} from "./serviceLayout.js";

const MAGIC = 0x50775332; // "PwS2"
const VERSION = 2;
/** Keys in a page, on average, when the number of pages is doubled. */
const KEYS_PER_PAGE = 4;
const MIN_PAGES = 16;

/** Backends of one ring at most: what two bytes name. */
export const MAX_BACKENDS = 65536;

// Flags of a row: what kind of address it is, …
export const FRONTEND_CLUSTER_IP = 1;
export const FRONTEND_NODE_PORT = 2;
export const FRONTEND_LOAD_BALANCER = 4;
export const FRONTEND_EXTERNAL_IP = 8;
/** … and whether externalTrafficPolicy is Local: the ring of outside traffic is another on every node. */
export const FRONTEND_LOCAL = 16;

/**
 * Traffic of a service port is counted by the low bits of its number (packet/counters): of so many that
 * are there at a time, no two have the same. A power of two.
 */
export const SERVICE_SLOTS = 65_536;

/** The backend is on this node. */
export const BACKEND_LOCAL = 1;
/** Its address is in no pod pool (host network, hand-made slices): replies need source NAT to come back. */
export const BACKEND_OUTSIDE_POOL = 2;

// In place of a ring:
/** Nobody in the cluster serves it: ICMP port unreachable, or a TCP RST. */
export const RING_REJECT = -1;
/** Nobody on this node serves it and the policy is Local, or it is not to be reached this way. */
export const RING_DROP = -2;

/** One generation of the service table. `chunks` only ever grows. */
export interface ServiceImage {
  readonly chunks: readonly SharedArrayBuffer[];
  /** Reference of the root. */
  readonly root: number;
  readonly generation: number;
}

/** A ring or a list of ranges that rows name. */
interface Shared {
  segment: number;
  hash: number;
  users: number;
}

export class ServiceTableBuilder {
  readonly #arena = new SegmentArena();
  readonly #filler = new MaglevRing();
  /** Pages' segments, 0 for an empty one. */
  #pages = new Int32Array(MIN_PAGES);
  /** Pages that the next image has otherwise. */
  #drafts = new Map<number, PageEntry[]>();
  /** Rows of each address. */
  readonly #addresses = new Map<number, number>();
  readonly #byHash = new Map<number, Shared[]>();
  readonly #bySegment = new Map<number, Shared>();
  /** Those whose last user went since the last image. */
  readonly #unused = new Set<Shared>();
  /** Segments that no image from `generation` on uses. */
  #retired: { generation: number; segments: number[] }[] = [];
  #retiring: number[] = [];
  #frontends = 0;
  /** Frontends that were ever added, modulo 2^32. */
  #added = 0;
  readonly #udpPorts = new Int32Array(UDP_PORT_WORDS);
  #keys = 0;
  #generation = 0;
  #root = 0;
  #changed = true;
  /** Rings that were filled, not those that were found equal to one that was there. */
  ringsBuilt = 0;

  /** Bytes of shared memory: in segments, and in all. */
  get memory(): { used: number; reserved: number } {
    return this.#arena.memory;
  }

  /**
   * A ring over backends: `words` holds BACKEND_WORDS for each, ordered by address (unsigned) and
   * port without duplicates. To be given back with `release`. Equal sets have one ring. Throws
   * RangeError on none, or more than MAX_BACKENDS.
   */
  acquireRing(words: Int32Array): number {
    const count = words.length / BACKEND_WORDS;
    if (count < 1 || count > MAX_BACKENDS) throw new RangeError(`a ring of ${count} backends`);
    const size = ringSize(count);
    const wide = count > BYTE_BACKENDS;
    const length = RING_HEAD + words.length + ((size * (wide ? 2 : 1) + 3) >>> 2);
    return this.#acquire(Int32Array.of(size, count), words, length, (memory, at) => {
      const bytes = (at + RING_HEAD + words.length) * 4;
      const slots = wide
        ? new Uint16Array(memory.buffer, bytes, size)
        : new Uint8Array(memory.buffer, bytes, size);
      this.ringsBuilt++;
      this.#filler.fill(slots, words, 0, BACKEND_WORDS, count);
    });
  }

  /** Source ranges, `words` holds address and mask of each. To be given back with `release`. */
  acquireRanges(words: Int32Array): number {
    return this.#acquire(Int32Array.of(words.length / 2), words, 1 + words.length, null);
  }

  /** Gives back what was acquired; REJECT, DROP and 0 are ignored. */
  release(segment: number): void {
    if (segment <= 0) return;
    const shared = this.#bySegment.get(segment)!;
    if (--shared.users === 0) this.#unused.add(shared);
  }

  /** Adds or replaces a row. `address` 0: on every address of the node. */
  setFrontend(address: number, protocol: number, l4Port: number, row: FrontendRow): void {
    const { flags, affinitySeconds, affinityKey, inside, outside, ranges, service } = row;
    const key = (protocol << 16) | l4Port;
    const entry = { address, key, flags, affinitySeconds, affinityKey, inside, outside, ranges, service };
    if (!this.#put(entry)) return;
    this.#frontends++;
    this.#added = (this.#added + 1) | 0;
    if (address === 0) return;
    const rows = this.#addresses.get(address) ?? 0;
    this.#addresses.set(address, rows + 1);
    if (rows === 0) this.#put({ ...EMPTY_ROW, address, key: 0 });
  }

  /** Removes a row that is there. */
  removeFrontend(address: number, protocol: number, l4Port: number): void {
    this.#remove(address, (protocol << 16) | l4Port);
    this.#frontends--;
    if (address === 0) return;
    const rows = this.#addresses.get(address)! - 1;
    if (rows > 0) this.#addresses.set(address, rows);
    else {
      this.#addresses.delete(address);
      this.#remove(address, 0);
    }
  }

  /** Says whether any Service has an endpoint at this UDP port. */
  setUdpPort(l4Port: number, used: boolean): void {
    const bits = this.#udpPorts;
    const before = bits[l4Port >>> 5];
    bits[l4Port >>> 5] = used ? before | (1 << l4Port) : before & ~(1 << l4Port);
    if (bits[l4Port >>> 5] !== before) this.#changed = true;
  }

  /** The image of everything up to now; the last one where nothing has changed. */
  commit(): ServiceImage {
    if (this.#changed) {
      this.#generation++;
      for (const [page, entries] of this.#drafts) {
        if (this.#pages[page] !== 0) this.#retiring.push(this.#pages[page]);
        this.#pages[page] = this.#writePage(entries);
      }
      this.#drafts = new Map();
      for (const shared of this.#unused) this.#forget(shared);
      this.#unused.clear();
      if (this.#root !== 0) this.#retiring.push(this.#root);
      this.#root = this.#writeRoot();
      this.#retired.push({ generation: this.#generation, segments: this.#retiring });
      this.#retiring = [];
      this.#changed = false;
    }
    return { chunks: [...this.#arena.chunks], root: this.#root, generation: this.#generation };
  }

  /** Every reader has adopted `image`, or a later one. */
  acknowledge(image: ServiceImage): void {
    const free = this.#retired.filter(({ generation }) => generation <= image.generation);
    this.#retired = this.#retired.filter(({ generation }) => generation > image.generation);
    for (const { segments } of free) for (const segment of segments) this.#arena.free(segment);
  }

  // ---- shared segments ----------------------------------------------------------------------

  #acquire(
    head: Int32Array,
    words: Int32Array,
    length: number,
    rest: ((memory: Int32Array, at: number) => void) | null,
  ): number {
    const hash = hashWords(hashWords(0, head), words);
    const same = this.#byHash.get(hash)?.find(({ segment }) => this.#holds(segment, head, words));
    if (same !== undefined) {
      if (same.users++ === 0) this.#unused.delete(same);
      return same.segment;
    }
    const segment = this.#arena.allocate(length);
    const memory = this.#arena.words[segment >>> CHUNK_SHIFT];
    const at = segment & WORD_MASK;
    memory.set(head, at);
    memory.set(words, at + head.length);
    rest?.(memory, at);
    const shared = { segment, hash, users: 1 };
    const others = this.#byHash.get(hash);
    if (others === undefined) this.#byHash.set(hash, [shared]);
    else others.push(shared);
    this.#bySegment.set(segment, shared);
    return segment;
  }

  #holds(segment: number, head: Int32Array, words: Int32Array): boolean {
    const memory = this.#arena.words[segment >>> CHUNK_SHIFT];
    const at = segment & WORD_MASK;
    return (
      head.every((word, i) => memory[at + i] === word) &&
      words.every((word, i) => memory[at + head.length + i] === word)
    );
  }

  #forget(shared: Shared): void {
    const others = this.#byHash.get(shared.hash)!.filter((other) => other !== shared);
    if (others.length > 0) this.#byHash.set(shared.hash, others);
    else this.#byHash.delete(shared.hash);
    this.#bySegment.delete(shared.segment);
    this.#retiring.push(shared.segment);
  }

  // ---- pages --------------------------------------------------------------------------------

  /** The entries of a page, to be changed. */
  #draft(page: number): PageEntry[] {
    this.#changed = true;
    let entries = this.#drafts.get(page);
    if (entries === undefined) {
      entries = this.#readPage(this.#pages[page]);
      this.#drafts.set(page, entries);
    }
    return entries;
  }

  /** Whether it is a new key. */
  #put(entry: PageEntry): boolean {
    const entries = this.#draft(pageOf(entry.address, entry.key) & (this.#pages.length - 1));
    const i = entries.findIndex(({ address, key }) => address === entry.address && key === entry.key);
    if (i >= 0) {
      entries[i] = entry;
      return false;
    }
    entries.push(entry);
    this.#keys++;
    if (this.#keys > KEYS_PER_PAGE * this.#pages.length) this.#enlarge();
    return true;
  }

  #remove(address: number, key: number): void {
    const entries = this.#draft(pageOf(address, key) & (this.#pages.length - 1));
    const i = entries.findIndex((entry) => entry.address === address && entry.key === key);
    if (i < 0) throw new RangeError("no such frontend");
    entries.splice(i, 1);
    this.#keys--;
  }

  /** Twice as many pages. */
  #enlarge(): void {
    const all = Array.from(this.#pages, (_, page) => this.#draft(page)).flat();
    for (const segment of this.#pages) if (segment !== 0) this.#retiring.push(segment);
    this.#pages = new Int32Array(2 * this.#pages.length);
    this.#drafts = new Map();
    for (const entry of all)
      this.#draft(pageOf(entry.address, entry.key) & (this.#pages.length - 1)).push(entry);
  }

  #readPage(segment: number): PageEntry[] {
    return segment === 0 ? [] : readPage(this.#arena.words[segment >>> CHUNK_SHIFT], segment & WORD_MASK);
  }

  #writePage(entries: readonly PageEntry[]): number {
    if (entries.length === 0) return 0;
    const segment = this.#arena.allocate(pageLength(entries.length));
    writePage(this.#arena.words[segment >>> CHUNK_SHIFT], segment & WORD_MASK, entries);
    return segment;
  }

  #writeRoot(): number {
    const root = this.#arena.allocate(ROOT_HEAD + this.#pages.length);
    const words = this.#arena.words[root >>> CHUNK_SHIFT];
    const at = root & WORD_MASK;
    words[at + ROOT_MAGIC] = MAGIC;
    words[at + ROOT_VERSION] = VERSION;
    words[at + ROOT_GENERATION] = this.#generation;
    words[at + ROOT_FRONTENDS] = this.#frontends;
    words[at + ROOT_LAST_PAGE] = this.#pages.length - 1;
    words[at + ROOT_ADDED] = this.#added;
    words.set(this.#udpPorts, at + ROOT_UDP_PORTS);
    words.set(this.#pages, at + ROOT_HEAD);
    return root;
  }
}

const EMPTY_ROW: FrontendRow = {
  flags: 0,
  affinitySeconds: 0,
  affinityKey: 0,
  inside: RING_REJECT,
  outside: RING_REJECT,
  ranges: 0,
  service: 0,
};

/** Reader for the stages. Makes no garbage but in `adopt`. */
export class ServiceTable {
  readonly #words: Int32Array[] = [];
  readonly #bytes: Uint8Array[] = [];
  readonly #halves: Uint16Array[] = [];
  /** The root's chunk, and where the bits of UDP ports and the pages begin in it. */
  #root: Int32Array = NO_ROOT;
  #udpPorts = 0;
  #pages = UDP_PORT_WORDS;
  #last = 0;
  /** Frontends in the table: without any, no packet needs a lookup. */
  size = 0;
  generation = 0;
  /** Changes whenever a frontend was added. */
  added = 0;

  /** Takes over an image of the same builder, later than the last one. Throws RangeError on another. */
  adopt(image: ServiceImage): void {
    for (let i = this.#words.length; i < image.chunks.length; i++) {
      const chunk = image.chunks[i]!;
      this.#words.push(new Int32Array(chunk));
      this.#bytes.push(new Uint8Array(chunk));
      this.#halves.push(new Uint16Array(chunk));
    }
    const words = this.#words[image.root >>> CHUNK_SHIFT];
    const at = image.root & WORD_MASK;
    if (words?.[at + ROOT_MAGIC] !== MAGIC || words[at + ROOT_VERSION] !== VERSION)
      throw new RangeError(`not a service table of version ${VERSION}`);
    this.generation = words[at + ROOT_GENERATION];
    this.size = words[at + ROOT_FRONTENDS];
    this.#last = words[at + ROOT_LAST_PAGE];
    this.added = words[at + ROOT_ADDED];
    this.#root = words;
    this.#udpPorts = at + ROOT_UDP_PORTS;
    this.#pages = at + ROOT_HEAD;
  }

  /** The row of an address, protocol (IANA number) and port; -1 without. */
  find(address: number, protocol: number, l4Port: number): number {
    return this.#find(address, (protocol << 16) | l4Port);
  }

  /** The row of a node port; the caller has looked whether the address is the node's. -1 without. */
  findNodePort(protocol: number, l4Port: number): number {
    return this.#find(0, (protocol << 16) | l4Port);
  }

  /** Whether any service has this address: what none of its ports takes is rejected, never routed on. */
  isServiceAddress(address: number): boolean {
    return address !== 0 && this.#find(address, 0) >= 0;
  }

  /** Whether any Service has an endpoint at this UDP port, whatever its address. */
  isUdpEndpointPort(l4Port: number): boolean {
    return ((this.#root[this.#udpPorts + (l4Port >>> 5)] >>> l4Port) & 1) !== 0;
  }

  /** Calls `visit` with address, protocol << 16 | port, and row of each frontend. Reads the whole table. */
  forEachFrontend(visit: (address: number, key: number, row: number) => void): void {
    for (let p = 0; p <= this.#last; p++) {
      const page = this.#root[this.#pages + p];
      if (page === 0) continue;
      const words = this.#words[page >>> CHUNK_SHIFT];
      const at = (page & WORD_MASK) + 1;
      const count = words[at - 1];
      for (let i = 0; i < count; i++) {
        if (words[at + 2 * i + 1] === 0) continue;
        visit(words[at + 2 * i], words[at + 2 * i + 1], page + 1 + 2 * count + ROW * i);
      }
    }
  }

  /** FRONTEND_* of a row. */
  flags(row: number): number {
    return this.#words[row >>> CHUNK_SHIFT][(row & WORD_MASK) + ROW_FLAGS];
  }

  /** Timeout of ClientIP affinity in seconds, 0 without; with it, hash the client's address alone. */
  affinitySeconds(row: number): number {
    return this.#words[row >>> CHUNK_SHIFT][(row & WORD_MASK) + ROW_AFFINITY];
  }

  /** The service port in the AffinityTable. */
  affinityKey(row: number): number {
    return this.#words[row >>> CHUNK_SHIFT][(row & WORD_MASK) + ROW_AFFINITY_KEY];
  }

  /** Number of the service port: one for all of its addresses, never given to another. */
  service(row: number): number {
    return this.#words[row >>> CHUNK_SHIFT][(row & WORD_MASK) + ROW_SERVICE];
  }

  /** Ring for traffic of this node's pods and of the node itself; RING_REJECT or RING_DROP instead. */
  insideRing(row: number): number {
    return this.#words[row >>> CHUNK_SHIFT][(row & WORD_MASK) + ROW_INSIDE];
  }

  /** Ring for traffic of all others; RING_REJECT or RING_DROP instead. */
  outsideRing(row: number): number {
    return this.#words[row >>> CHUNK_SHIFT][(row & WORD_MASK) + ROW_OUTSIDE];
  }

  /** Whether loadBalancerSourceRanges let a source in: else drop. Asked after the ring: a reject stays one. */
  accepts(row: number, source: number): boolean {
    const ranges = this.#words[row >>> CHUNK_SHIFT][(row & WORD_MASK) + ROW_RANGES];
    if (ranges === 0) return true;
    const words = this.#words[ranges >>> CHUNK_SHIFT];
    const at = ranges & WORD_MASK;
    for (let i = at + 1, end = at + 1 + 2 * words[at]; i < end; i += 2) {
      if ((source & words[i + 1]) === words[i]) return true;
    }
    return false;
  }

  /** Slots of a ring. */
  slots(ring: number): number {
    return this.#words[ring >>> CHUNK_SHIFT][(ring & WORD_MASK) + RING_SLOTS];
  }

  /** Backends of a ring. */
  count(ring: number): number {
    return this.#words[ring >>> CHUNK_SHIFT][(ring & WORD_MASK) + RING_COUNT];
  }

  /** The i-th backend of a ring, in order of address and port. */
  member(ring: number, i: number): number {
    return ring + RING_HEAD + BACKEND_WORDS * i;
  }

  /** The backend of a ring that has this address and port, -1 where none has. */
  memberAt(ring: number, address: number, l4Port: number): number {
    let low = 0;
    let high = this.count(ring);
    while (low < high) {
      const middle = (low + high) >>> 1;
      const backend = this.member(ring, middle);
      const order = (this.address(backend) >>> 0) - (address >>> 0) || this.l4Port(backend) - l4Port;
      if (order === 0) return backend;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return -1;
  }

  /** The slot of a `ringHash`. */
  slot(ring: number, hash: number): number {
    return hash % this.slots(ring);
  }

  /** The backend in a slot. */
  pick(ring: number, slot: number): number {
    const chunk = ring >>> CHUNK_SHIFT;
    const count = this.#words[chunk][(ring & WORD_MASK) + RING_COUNT];
    const slots = (ring & WORD_MASK) + RING_HEAD + BACKEND_WORDS * count;
    const i =
      count > BYTE_BACKENDS ? this.#halves[chunk][2 * slots + slot] : this.#bytes[chunk][4 * slots + slot];
    return ring + RING_HEAD + BACKEND_WORDS * i;
  }

  /**
   * The slot after a slot, for a backend that cannot be reached: the same order on every node. It
   * comes around after `slots`; whether any backend can be reached is cheaper asked of `member`s.
   */
  next(ring: number, slot: number): number {
    return slot + 1 === this.slots(ring) ? 0 : slot + 1;
  }

  /** Address of a backend. */
  address(backend: number): number {
    return this.#words[backend >>> CHUNK_SHIFT][backend & WORD_MASK];
  }

  /** TCP, UDP or SCTP port of a backend. */
  l4Port(backend: number): number {
    return this.#words[backend >>> CHUNK_SHIFT][(backend & WORD_MASK) + 1];
  }

  /** BACKEND_* of a backend. */
  backendFlags(backend: number): number {
    return this.#words[backend >>> CHUNK_SHIFT][(backend & WORD_MASK) + 2];
  }

  /** Number of a backend (address and port): one in all services, never given to another. */
  backendId(backend: number): number {
    return this.#words[backend >>> CHUNK_SHIFT][(backend & WORD_MASK) + 3];
  }

  #find(address: number, key: number): number {
    const page = this.#root[this.#pages + (pageOf(address, key) & this.#last)];
    if (page === 0) return -1;
    const words = this.#words[page >>> CHUNK_SHIFT];
    const at = (page & WORD_MASK) + 1;
    const count = words[at - 1];
    for (let i = 0; i < count; i++) {
      if (words[at + 2 * i] === address && words[at + 2 * i + 1] === key)
        return page + 1 + 2 * count + ROW * i;
    }
    return -1;
  }
}

/** A table before the first image: no port, and one empty page. */
const NO_ROOT = new Int32Array(UDP_PORT_WORDS + 1);

function pageOf(address: number, key: number): number {
  return hashAddress(address ^ Math.imul(key, 0x9e3779b1));
}

/** Two 32-bit sums of words, in one number of 52 bits: equal sets are found by it. */
function hashWords(seed: number, words: Int32Array): number {
  let a = seed | 0;
  let b = ~seed;
  for (let i = 0; i < words.length; i++) {
    a = Math.imul(a ^ words[i], 0x85ebca6b);
    a ^= a >>> 15;
    b = (Math.imul(b, 31) + words[i]) | 0;
  }
  return (hashAddress(a) >>> 6) * 2 ** 26 + (hashAddress(b) >>> 6);
}
