/**
 * The flow table (connection tracking): open addressing over records that stand for both directions
 * of a flow (flowLayout.ts). It owns finding, inserting, removing, ageing and evicting; what a state
 * means and when it changes, the state machines in dataplane/ know. No clock: time is an argument,
 * in milliseconds of a monotonic clock, modulo 2^32.
 *
 * One or several threads, each with a FlowTable of its own over the same memory:
 *
 * - Index, lists, keys and FLOW_STATE are written under one spin lock, which is held for a few hundred
 *   nanoseconds by insert, remove, setState and by ageing for each flow that it removes. A packet of
 *   a flow in steady state takes no lock.
 * - Looking up takes no lock. An insertion shows a slot when its record is complete. A removal closes
 *   the gap in the index by moving slots, and HEADER_MOVES tells a lookup that missed meanwhile to
 *   look again. So there are no tombstones, and probes stay as short as the load allows.
 * - What was found stays readable for the rest of the breath, even if the flow is removed: a removed
 *   record is given out again only when every thread that was within a breath has left it
 *   (enterBreath, leaveBreath). The reserve of records stands in for those that wait.
 * - The other words of a record are single values: those of TCP belong to packets of one direction,
 *   FLOW_SEEN may be written by both, and either value is right.
 *
 * Control code reads through FlowReader at any time, and leaves removing to a thread of the dataplane.
 */

import { matchesFlow } from "./flowFilter.js";
import {
  EVICT_CLOSING,
  EVICT_NEVER,
  EVICT_UNREPLIED,
  EVICTION_OF,
  FLOW_BACKEND,
  FLOW_CREATED,
  FLOW_HEADER,
  FLOW_MAGIC,
  FLOW_NEXT,
  FLOW_ORIGINAL,
  FLOW_PREVIOUS,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_SEEN,
  FLOW_SEQUENCE,
  FLOW_SERVICE,
  FLOW_SHIFT,
  FLOW_STATE,
  FLOW_STATES,
  FLOW_THREADS,
  FLOW_VERSION,
  FLOW_WORDS,
  FlowCounter,
  flowRecords,
  flowTableBytes,
  HEADER_BREATHS,
  HEADER_CAPACITY,
  HEADER_COUNT,
  HEADER_COUNTERS,
  HEADER_FREE,
  HEADER_KEY_0,
  HEADER_KEY_1,
  HEADER_LIMBO,
  HEADER_LISTS,
  HEADER_LOCK,
  HEADER_MAGIC,
  HEADER_MOVES,
  HEADER_RECORD_WORDS,
  HEADER_RECORDS,
  HEADER_SEEN,
  HEADER_USED,
  HEADER_VERSION,
  HEADER_WAITING,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  KEY_TAG,
  KEY_WORDS,
  SLOT_WORDS,
  SLOTS_PER_FLOW,
  STATE_FREE,
  TOUCH_MS,
} from "./flowLayout.js";
import { flowTimeout } from "./flowTimeout.js";
import { hashFlow } from "./halfSipHash.js";

/** What insert returns instead of a record. */
export const INSERT_ORIGINAL_TAKEN = -1;
export const INSERT_REPLY_TAKEN = -2;
export const INSERT_FULL = -3;

/** Rows that are looked up together: their cache misses overlap. */
const CHUNK = 64;
/** Records that are searched for an expired flow before a living one is evicted. */
const EVICT_SCAN = 8;
/** Milliseconds in which ageing comes past every record. */
export const CYCLE_MS = 4000;
/** Times that a lookup looks again without the lock. */
const PATIENCE = 8;

/** Makes an empty table in `buffer` (zeroed, flowTableBytes(capacity) bytes). The key must be random. */
export function formatFlowTable(
  buffer: ArrayBufferLike,
  capacity: number,
  key: readonly [number, number],
): void {
  if (!Number.isInteger(Math.log2(capacity)) || capacity < 2 || capacity > 1 << 24) {
    throw new RangeError("the capacity of a flow table is a power of two, 2 … 2^24");
  }
  const words = new Int32Array(buffer);
  if (words.length * 4 < flowTableBytes(capacity)) throw new RangeError("too small a buffer");
  words[HEADER_VERSION] = FLOW_VERSION;
  words[HEADER_CAPACITY] = capacity;
  words[HEADER_RECORDS] = flowRecords(capacity);
  words[HEADER_RECORD_WORDS] = FLOW_WORDS;
  words[HEADER_KEY_0] = key[0];
  words[HEADER_KEY_1] = key[1];
  // Last: what has no magic was never finished.
  Atomics.store(words, HEADER_MAGIC, FLOW_MAGIC);
}

/** Memory with an empty table for `capacity` flows, a power of two, and a key of its own. */
export function newFlowTable(capacity: number): SharedArrayBuffer {
  const buffer = new SharedArrayBuffer(flowTableBytes(capacity));
  const [key0, key1] = globalThis.crypto.getRandomValues(new Int32Array(2));
  formatFlowTable(buffer, capacity, [key0, key1]);
  return buffer;
}

/** Throws RangeError where `words` is no flow table of this version. */
export function checkFlowTable(words: Int32Array): void {
  const capacity = words[HEADER_CAPACITY];
  if (
    words.length < FLOW_HEADER ||
    words[HEADER_MAGIC] !== FLOW_MAGIC ||
    words[HEADER_VERSION] !== FLOW_VERSION ||
    words[HEADER_RECORD_WORDS] !== FLOW_WORDS ||
    capacity < 2 ||
    (capacity & (capacity - 1)) !== 0 ||
    words[HEADER_RECORDS] !== flowRecords(capacity) ||
    words.length * 4 < flowTableBytes(capacity)
  ) {
    throw new RangeError(`not a flow table of version ${FLOW_VERSION}`);
  }
}

/**
 * Forgets which Services and backends flows belong to, in a table of an agent that has ended: the
 * numbers are its own. Before threads wrap it.
 */
export function forgetServices(buffer: ArrayBufferLike): void {
  const table = new FlowTable(buffer);
  for (let record = 0; record < table.used; record++) {
    const base = table.base(record);
    table.words[base + FLOW_SERVICE] = 0;
    table.words[base + FLOW_BACKEND] = 0;
  }
}

export class FlowTable {
  /** The whole table. Stages read records here, from base(record) on. */
  readonly words: Int32Array;
  /** Flows at most. */
  readonly capacity: number;
  /** After INSERT_*_TAKEN: who has the key, as find returns it; -1 where both keys are the same. */
  conflict = -1;
  /** Flows that the last flush removed. */
  flushed = 0;
  readonly #counters: Float64Array;
  readonly #thread: number;
  readonly #key0: number;
  readonly #key1: number;
  readonly #slots: number;
  readonly #lastSlot: number;
  readonly #records: number;
  readonly #recordCount: number;
  readonly #hashes = new Int32Array(CHUNK);
  /** Where what was loaded ahead goes, so that the compiler does not leave the loads out. */
  readonly #ahead = new Int32Array(1);
  /** Where the search for expired flows goes on. */
  #evictHand = 0;
  /** Where ageing goes on, and when its round began. */
  #ageHand = 0;
  #roundMs = 0;

  /**
   * A thread's view of the table in `buffer`, which was formatted, and adopted if somebody else had
   * it before. `thread` is 0 … FLOW_THREADS - 1, another one for each thread. Throws RangeError on a
   * buffer that is no flow table of this version.
   */
  constructor(buffer: ArrayBufferLike, thread = 0) {
    if (thread < 0 || thread >= FLOW_THREADS) throw new RangeError("no such thread of a flow table");
    const words = new Int32Array(buffer);
    checkFlowTable(words);
    this.words = words;
    this.capacity = words[HEADER_CAPACITY];
    this.#counters = new Float64Array(buffer, HEADER_COUNTERS * 4, Object.keys(FlowCounter).length);
    this.#thread = thread;
    this.#key0 = words[HEADER_KEY_0];
    this.#key1 = words[HEADER_KEY_1];
    this.#slots = FLOW_HEADER;
    this.#lastSlot = this.capacity * SLOTS_PER_FLOW - 1;
    this.#records = FLOW_HEADER + this.capacity * SLOTS_PER_FLOW * SLOT_WORDS;
    this.#recordCount = words[HEADER_RECORDS];
  }

  /**
   * Takes over a table that nobody uses any more, before threads wrap it: what the threads of before
   * held is given up, and where one died while it was changing the table, index and lists are made
   * anew from the records. Returns whether that was needed. Throws RangeError on a foreign buffer.
   */
  static adopt(buffer: ArrayBufferLike): boolean {
    const table = new FlowTable(buffer);
    const { words } = table;
    const torn = words[HEADER_LOCK] !== 0;
    words.fill(0, HEADER_BREATHS, HEADER_BREATHS + FLOW_THREADS);
    if (torn) table.#rebuild();
    words[HEADER_LOCK] = 0;
    return torn;
  }

  /** Flows in the table. */
  get size(): number {
    return this.words[HEADER_COUNT];
  }

  /** Records that were ever used: flows are in none after these. */
  get used(): number {
    return this.words[HEADER_USED];
  }

  /** A counter (FlowCounter), over all threads and agents since the table was made. */
  counter(which: number): number {
    return this.#counters[which];
  }

  /** Index of a record's first word. */
  base(record: number): number {
    return this.#records + (record << FLOW_SHIFT);
  }

  /** Says that this thread may hold records from now on. Frees what was removed in earlier breaths. */
  enterBreath(): void {
    const { words } = this;
    if ((words[HEADER_LIMBO] | words[HEADER_WAITING]) !== 0) {
      this.lock();
      this.#reclaim();
      this.unlock();
    }
    Atomics.add(this.words, HEADER_BREATHS + this.#thread, 1);
  }

  /** Says that this thread holds no record any more. It need not be in a breath to wait or sleep. */
  leaveBreath(): void {
    Atomics.add(this.words, HEADER_BREATHS + this.#thread, 1);
  }

  // ---- looking up ---------------------------------------------------------------------------

  /**
   * Looks up the rows listed in rows[0 … count - 1]: columns source, destination, ports, protocol
   * and tag are the key, and record (-1: no flow) and direction are written, all by row number.
   */
  lookup(
    rows: Int32Array,
    count: number,
    source: Int32Array,
    destination: Int32Array,
    ports: Int32Array,
    protocol: Int32Array,
    tag: Int32Array,
    record: Int32Array,
    direction: Int32Array,
  ): void {
    const { words } = this;
    const slots = this.#slots;
    const last = this.#lastSlot;
    const records = this.#records;
    const hashes = this.#hashes;
    for (let from = 0; from < count; from += CHUNK) {
      const chunk = Math.min(CHUNK, count - from);
      const moves = Atomics.load(words, HEADER_MOVES);
      // Loops of their own, so that the misses of one row do not wait for another's, nor for its hash.
      for (let n = 0; n < chunk; n++) {
        const i = rows[from + n];
        hashes[n] = hashFlow(
          this.#key0,
          this.#key1,
          source[i],
          destination[i],
          ports[i],
          tag[i],
          protocol[i],
        );
      }
      let touched = 0;
      for (let n = 0; n < chunk; n++) touched ^= words[slots + SLOT_WORDS * (hashes[n] & last)];
      for (let n = 0; n < chunk; n++) {
        const reference = words[slots + SLOT_WORDS * (hashes[n] & last) + 1];
        touched ^= words[records + (((reference - 1) >> 1) << FLOW_SHIFT)];
      }
      this.#ahead[0] = touched;
      let missed = false;
      for (let n = 0; n < chunk; n++) {
        const i = rows[from + n];
        const found = this.#probe(hashes[n], source[i], destination[i], ports[i], tag[i], protocol[i]);
        record[i] = found >> 1;
        direction[i] = found & 1;
        if (found < 0) missed = true;
      }
      if (missed && ((moves & 1) !== 0 || Atomics.load(words, HEADER_MOVES) !== moves)) {
        for (let n = 0; n < chunk; n++) {
          const i = rows[from + n];
          if (record[i] >= 0) continue;
          const found = this.#find(hashes[n], source[i], destination[i], ports[i], tag[i], protocol[i]);
          record[i] = found >> 1;
          direction[i] = found & 1;
        }
      }
    }
  }

  /** Looks up one key. Returns 2 × record + direction, -1 where there is no flow. */
  find(source: number, destination: number, ports: number, protocol: number, tag: number): number {
    const h = hashFlow(this.#key0, this.#key1, source, destination, ports, tag, protocol);
    return this.#find(h, source, destination, ports, tag, protocol);
  }

  #find(
    h: number,
    source: number,
    destination: number,
    ports: number,
    tag: number,
    protocol: number,
  ): number {
    const { words } = this;
    for (let n = 0; n < PATIENCE; n++) {
      const moves = Atomics.load(words, HEADER_MOVES);
      const found = this.#probe(h, source, destination, ports, tag, protocol);
      if (found >= 0 || ((moves & 1) === 0 && Atomics.load(words, HEADER_MOVES) === moves)) return found;
    }
    this.lock();
    const found = this.#probe(h, source, destination, ports, tag, protocol);
    this.unlock();
    return found;
  }

  /** One look: what it finds is right; what it does not find may have been on the move. */
  #probe(
    h: number,
    source: number,
    destination: number,
    ports: number,
    tag: number,
    protocol: number,
  ): number {
    const { words } = this;
    const last = this.#lastSlot;
    // The bound only matters to a look at slots that move: a table has many free slots.
    for (let s = h & last, n = 0; n <= last; s = (s + 1) & last, n++) {
      const slot = this.#slots + SLOT_WORDS * s;
      const reference = words[slot + 1];
      if (reference === 0) return -1;
      if (words[slot] !== h) continue;
      const base = this.#records + (((reference - 1) >> 1) << FLOW_SHIFT);
      const key = base + FLOW_ORIGINAL + ((reference - 1) & 1) * KEY_WORDS;
      if (
        words[key + KEY_SOURCE] === source &&
        words[key + KEY_DESTINATION] === destination &&
        words[key + KEY_PORTS] === ports &&
        words[key + KEY_TAG] === tag &&
        words[base + FLOW_PROTOCOL] === protocol &&
        words[base + FLOW_STATE] !== STATE_FREE
      ) {
        return reference - 1;
      }
    }
    return -1;
  }

  /** Slots that a lookup of one direction of a record looks at. */
  probeLength(record: number, direction: number): number {
    const { words } = this;
    const last = this.#lastSlot;
    const wanted = 2 * record + direction + 1;
    let s = this.#hashOf(record, direction) & last;
    for (let n = 1; ; n++, s = (s + 1) & last) {
      const reference = words[this.#slots + SLOT_WORDS * s + 1];
      if (reference === wanted) return n;
      if (reference === 0) return -1;
    }
  }

  // ---- inserting and removing -----------------------------------------------------------------

  /**
   * Inserts a flow: `draft` is a record (FLOW_WORDS words) with protocol, both keys, state, flags and
   * whatever the stages keep; links, sequence and times are filled in here. Both directions are there
   * at once, or neither.
   *
   * Returns the record, INSERT_ORIGINAL_TAKEN or INSERT_REPLY_TAKEN where a key belongs to a living
   * flow (`conflict`; an expired one makes room), or INSERT_FULL (counted).
   */
  insert(draft: Int32Array, nowMs: number): number {
    const { words } = this;
    const protocol = draft[FLOW_PROTOCOL];
    const h0 = this.#hashKey(draft, FLOW_ORIGINAL, protocol);
    const h1 = this.#hashKey(draft, FLOW_REPLY, protocol);
    this.conflict = -1;
    if (h0 === h1 && sameKeys(draft)) return INSERT_REPLY_TAKEN;
    this.lock();
    let result = 0;
    if (this.#taken(h0, draft, FLOW_ORIGINAL, protocol, nowMs)) result = INSERT_ORIGINAL_TAKEN;
    else if (this.#taken(h1, draft, FLOW_REPLY, protocol, nowMs)) result = INSERT_REPLY_TAKEN;
    else if (!this.#makeRoom(nowMs)) result = INSERT_FULL;
    else {
      const link = this.#takeRecord();
      if (link === 0) result = INSERT_FULL;
      else {
        result = link - 1;
        this.#fill(this.base(result), draft, nowMs);
        this.#append(EVICTION_OF[draft[FLOW_STATE]], link);
        this.#show(h0, 2 * result + 1);
        this.#show(h1, 2 * result + 2);
        words[HEADER_COUNT]++;
        this.#counters[FlowCounter.inserted]++;
      }
    }
    if (result === INSERT_FULL) this.#counters[FlowCounter.refused]++;
    this.unlock();
    return result;
  }

  /**
   * Removes a flow that was found in this breath; it stays readable until the breath ends. Returns
   * false where it was removed already.
   */
  remove(record: number): boolean {
    return this.#removeAs(record, FlowCounter.removed);
  }

  /**
   * Changes the state of a flow found in this breath from `from` to `to`, and with it what eviction
   * makes of it. Returns false, and changes nothing, where the state is another by now.
   */
  setState(record: number, from: number, to: number, nowMs: number): boolean {
    const { words } = this;
    const base = this.base(record);
    this.lock();
    const done = words[base + FLOW_STATE] === from && from !== STATE_FREE;
    if (done) {
      const list = EVICTION_OF[to];
      if (EVICTION_OF[from] !== list) {
        this.#unlink(EVICTION_OF[from], record + 1);
        this.#append(list, record + 1);
      }
      words[base + FLOW_STATE] = to;
      words[base + FLOW_SEEN] = nowMs;
    }
    this.unlock();
    return done;
  }

  /** Notes a packet: the flow's time starts again. */
  touch(base: number, nowMs: number): void {
    const { words } = this;
    if (((nowMs - words[base + FLOW_SEEN]) | 0) >= TOUCH_MS) words[base + FLOW_SEEN] = nowMs;
  }

  // ---- time -----------------------------------------------------------------------------------

  /** Whether the flow at `base` has seen no packet for its timeout. */
  expired(base: number, nowMs: number): boolean {
    return ((nowMs - this.words[base + FLOW_SEEN]) | 0) > flowTimeout(this.words, base);
  }

  /**
   * Removes expired flows among the next records: as many as are due for a round in CYCLE_MS, at most
   * `budget`. One thread does this, once a breath. Returns the number of flows removed.
   */
  age(nowMs: number, budget: number): number {
    const { words } = this;
    const used = words[HEADER_USED];
    let elapsed = (nowMs - this.#roundMs) | 0;
    if (elapsed < 0 || (elapsed >= CYCLE_MS && this.#ageHand >= used)) {
      this.#ageHand = 0;
      this.#roundMs = nowMs;
      elapsed = 0;
    }
    const due = elapsed >= CYCLE_MS ? used : Math.ceil((elapsed / CYCLE_MS) * used);
    const end = Math.min(due, this.#ageHand + budget);
    let removed = 0;
    while (this.#ageHand < end) {
      const record = this.#ageHand++;
      const base = this.base(record);
      if (words[base + FLOW_STATE] === STATE_FREE || !this.expired(base, nowMs)) continue;
      this.lock();
      // Another thread may have seen a packet of it.
      if (words[base + FLOW_STATE] !== STATE_FREE && this.expired(base, nowMs)) {
        this.#detach(record);
        this.#counters[FlowCounter.expired]++;
        removed++;
      }
      this.unlock();
    }
    return removed;
  }

  /**
   * Removes the flows that match `tests` (flowTests) among `budget` records from `start` on. Returns
   * where to go on, -1 at the end; how many went is in `flushed`. Within a breath, so that no record
   * is given to another flow between the look at it and its removal.
   */
  flush(tests: Int32Array, start: number, budget: number): number {
    const { words } = this;
    this.flushed = 0;
    const end = Math.min(words[HEADER_USED], start + budget);
    for (let record = start; record < end; record++) {
      const base = this.base(record);
      if (words[base + FLOW_STATE] !== STATE_FREE && matchesFlow(words, base, tests)) {
        if (this.remove(record)) this.flushed++;
      }
    }
    return end >= words[HEADER_USED] ? -1 : end;
  }

  // ---- under the lock -------------------------------------------------------------------------

  /** Takes the lock, for a few hundred nanoseconds (AffinityTable has the same one). */
  lock(): void {
    const { words } = this;
    while (Atomics.compareExchange(words, HEADER_LOCK, 0, this.#thread + 1) !== 0) {
      while (Atomics.load(words, HEADER_LOCK) !== 0);
    }
  }

  /** Gives it back. */
  unlock(): void {
    Atomics.store(this.words, HEADER_LOCK, 0);
  }

  #removeAs(record: number, counter: number): boolean {
    this.lock();
    const living = this.words[this.base(record) + FLOW_STATE] !== STATE_FREE;
    if (living) {
      this.#detach(record);
      this.#counters[counter]++;
    }
    this.unlock();
    return living;
  }

  #hashKey(words: Int32Array, key: number, protocol: number): number {
    return hashFlow(
      this.#key0,
      this.#key1,
      words[key + KEY_SOURCE],
      words[key + KEY_DESTINATION],
      words[key + KEY_PORTS],
      words[key + KEY_TAG],
      protocol,
    );
  }

  #hashOf(record: number, direction: number): number {
    const base = this.base(record);
    return this.#hashKey(
      this.words,
      base + FLOW_ORIGINAL + direction * KEY_WORDS,
      this.words[base + FLOW_PROTOCOL],
    );
  }

  /** Whether a living flow has the key at `key` of the draft; an expired one is removed. */
  #taken(h: number, draft: Int32Array, key: number, protocol: number, nowMs: number): boolean {
    const found = this.#probe(
      h,
      draft[key + KEY_SOURCE],
      draft[key + KEY_DESTINATION],
      draft[key + KEY_PORTS],
      draft[key + KEY_TAG],
      protocol,
    );
    if (found < 0) return false;
    if (this.expired(this.base(found >> 1), nowMs)) {
      this.#detach(found >> 1);
      this.#counters[FlowCounter.expired]++;
      return false;
    }
    this.conflict = found;
    return true;
  }

  /** Makes sure that there are fewer flows than the capacity. False: nothing may go. */
  #makeRoom(nowMs: number): boolean {
    const { words } = this;
    if (words[HEADER_COUNT] < this.capacity) return true;
    const used = words[HEADER_USED];
    for (let n = 0; n < EVICT_SCAN; n++) {
      if (this.#evictHand >= used) this.#evictHand = 0;
      const record = this.#evictHand++;
      const base = this.base(record);
      if (words[base + FLOW_STATE] !== STATE_FREE && this.expired(base, nowMs)) {
        this.#detach(record);
        this.#counters[FlowCounter.evictedExpired]++;
        return true;
      }
    }
    let counter: number = FlowCounter.evictedUnreplied;
    let oldest = words[HEADER_LISTS + 2 * EVICT_UNREPLIED];
    if (oldest === 0) {
      counter = FlowCounter.evictedClosing;
      oldest = words[HEADER_LISTS + 2 * EVICT_CLOSING];
    }
    if (oldest === 0) return false;
    this.#detach(oldest - 1);
    this.#counters[counter]++;
    return true;
  }

  /** A record to fill, as a link; 0 where all wait for the end of a breath. */
  #takeRecord(): number {
    const { words } = this;
    if (words[HEADER_FREE] === 0) this.#reclaim();
    const free = words[HEADER_FREE];
    if (free !== 0) {
      words[HEADER_FREE] = words[this.base(free - 1) + FLOW_NEXT];
      return free;
    }
    if (words[HEADER_USED] === this.#recordCount) return 0;
    return ++words[HEADER_USED];
  }

  /** Frees the removed records that nobody can hold any more, and lets the next ones wait. */
  #reclaim(): void {
    const { words } = this;
    // Twice: what nobody can hold need not wait.
    for (let n = 0; n < 2; n++) {
      if (words[HEADER_WAITING] !== 0) {
        for (let t = 0; t < FLOW_THREADS; t++) {
          const seen = words[HEADER_SEEN + t];
          if ((seen & 1) !== 0 && Atomics.load(words, HEADER_BREATHS + t) === seen) return;
        }
        words[this.base(words[HEADER_WAITING + 1] - 1) + FLOW_NEXT] = words[HEADER_FREE];
        words[HEADER_FREE] = words[HEADER_WAITING];
      }
      words[HEADER_WAITING] = words[HEADER_LIMBO];
      words[HEADER_WAITING + 1] = words[HEADER_LIMBO + 1];
      words[HEADER_LIMBO] = 0;
      words[HEADER_LIMBO + 1] = 0;
      for (let t = 0; t < FLOW_THREADS; t++) {
        words[HEADER_SEEN + t] = Atomics.load(words, HEADER_BREATHS + t);
      }
    }
  }

  #fill(base: number, draft: Int32Array, nowMs: number): void {
    const { words } = this;
    const sequence = words[base + FLOW_SEQUENCE];
    Atomics.store(words, base + FLOW_SEQUENCE, sequence + 1);
    for (let w = FLOW_PROTOCOL; w < FLOW_WORDS; w++) words[base + w] = draft[w];
    words[base + FLOW_SEEN] = nowMs;
    words[base + FLOW_CREATED] = nowMs;
    words[base + FLOW_NEXT] = 0;
    words[base + FLOW_PREVIOUS] = 0;
    Atomics.store(words, base + FLOW_SEQUENCE, sequence + 2);
  }

  /** Puts a reference into the index. There is always a free slot. */
  #show(h: number, reference: number): void {
    const { words } = this;
    const last = this.#lastSlot;
    let s = h & last;
    while (words[this.#slots + SLOT_WORDS * s + 1] !== 0) s = (s + 1) & last;
    const slot = this.#slots + SLOT_WORDS * s;
    words[slot] = h;
    // Last: the slot shows a record that is complete.
    Atomics.store(words, slot + 1, reference);
  }

  /** Takes a flow out of index and lists. Its record stays as it is until nobody can hold it. */
  #detach(record: number): void {
    const { words } = this;
    const base = this.base(record);
    Atomics.store(words, HEADER_MOVES, words[HEADER_MOVES] + 1);
    this.#hide(this.#hashOf(record, 0), 2 * record + 1);
    this.#hide(this.#hashOf(record, 1), 2 * record + 2);
    Atomics.store(words, HEADER_MOVES, words[HEADER_MOVES] + 1);
    this.#unlink(EVICTION_OF[words[base + FLOW_STATE]], record + 1);
    words[base + FLOW_STATE] = STATE_FREE;
    words[HEADER_COUNT]--;
    const tail = words[HEADER_LIMBO + 1];
    words[base + FLOW_NEXT] = 0;
    if (tail === 0) words[HEADER_LIMBO] = record + 1;
    else words[this.base(tail - 1) + FLOW_NEXT] = record + 1;
    words[HEADER_LIMBO + 1] = record + 1;
  }

  /** Takes a reference out of the index and closes the gap (Knuth, TAOCP vol. 3, 6.4, algorithm R). */
  #hide(h: number, reference: number): void {
    const { words } = this;
    const last = this.#lastSlot;
    const slots = this.#slots;
    let gap = h & last;
    while (words[slots + SLOT_WORDS * gap + 1] !== reference) gap = (gap + 1) & last;
    for (let s = (gap + 1) & last; ; s = (s + 1) & last) {
      const slot = slots + SLOT_WORDS * s;
      if (words[slot + 1] === 0) break;
      // One that started behind the gap stays where it is.
      if (((s - words[slot]) & last) < ((s - gap) & last)) continue;
      words[slots + SLOT_WORDS * gap] = words[slot];
      words[slots + SLOT_WORDS * gap + 1] = words[slot + 1];
      gap = s;
    }
    words[slots + SLOT_WORDS * gap + 1] = 0;
  }

  #append(list: number, link: number): void {
    if (list === EVICT_NEVER) return;
    const { words } = this;
    const base = this.base(link - 1);
    const head = HEADER_LISTS + 2 * list;
    const tail = words[head + 1];
    words[base + FLOW_NEXT] = 0;
    words[base + FLOW_PREVIOUS] = tail;
    if (tail === 0) words[head] = link;
    else words[this.base(tail - 1) + FLOW_NEXT] = link;
    words[head + 1] = link;
  }

  #unlink(list: number, link: number): void {
    if (list === EVICT_NEVER) return;
    const { words } = this;
    const base = this.base(link - 1);
    const head = HEADER_LISTS + 2 * list;
    const next = words[base + FLOW_NEXT];
    const previous = words[base + FLOW_PREVIOUS];
    if (previous === 0) words[head] = next;
    else words[this.base(previous - 1) + FLOW_NEXT] = next;
    if (next === 0) words[head + 1] = previous;
    else words[this.base(next - 1) + FLOW_PREVIOUS] = previous;
  }

  /** Makes index and lists anew from the records; one that was being written is given up. */
  #rebuild(): void {
    const { words } = this;
    words.fill(0, this.#slots, this.#records);
    words.fill(0, HEADER_FREE, HEADER_BREATHS);
    words[HEADER_MOVES] = 0;
    words[HEADER_COUNT] = 0;
    for (let record = 0; record < this.#recordCount; record++) {
      const base = this.base(record);
      const state = words[base + FLOW_STATE];
      if ((words[base + FLOW_SEQUENCE] & 1) !== 0) words[base + FLOW_SEQUENCE]++;
      else if (state > STATE_FREE && state < FLOW_STATES && !this.#known(record)) {
        this.#append(EVICTION_OF[state], record + 1);
        this.#show(this.#hashOf(record, 0), 2 * record + 1);
        this.#show(this.#hashOf(record, 1), 2 * record + 2);
        words[HEADER_COUNT]++;
        continue;
      }
      words[base + FLOW_STATE] = STATE_FREE;
      if (record >= words[HEADER_USED]) continue;
      words[base + FLOW_NEXT] = words[HEADER_FREE];
      words[HEADER_FREE] = record + 1;
    }
  }

  /** Whether another record in the index has one of this one's keys. */
  #known(record: number): boolean {
    const { words } = this;
    const base = this.base(record);
    for (let direction = 0; direction < 2; direction++) {
      const key = base + FLOW_ORIGINAL + direction * KEY_WORDS;
      const found = this.find(
        words[key + KEY_SOURCE],
        words[key + KEY_DESTINATION],
        words[key + KEY_PORTS],
        words[base + FLOW_PROTOCOL],
        words[key + KEY_TAG],
      );
      if (found >= 0) return true;
    }
    return false;
  }
}

/** Whether both keys of a draft are equal: such a flow could not tell its directions apart. */
function sameKeys(draft: Int32Array): boolean {
  for (let w = 0; w < KEY_WORDS; w++) {
    if (draft[FLOW_ORIGINAL + w] !== draft[FLOW_REPLY + w]) return false;
  }
  return true;
}
