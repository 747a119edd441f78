/**
 * Which backend each client of a Service with ClientIP affinity has: a bounded table behind the
 * records of the flow table, in the same memory and under the same lock, so that all threads and the
 * next agent have it. It is asked where a flow of such a Service begins, and at no other time. A
 * backend is kept as its address and port, and a service port by a key that the next agent gives it
 * as well.
 *
 *   bucket   AFFINITY_WAYS entries, found by a hash of client and service port
 *   entry    key of the service port (0: empty), client, backend's address and port, last use
 *
 * In a full bucket the entry that was not used for the longest time gives way: its client gets what
 * the ring says, which without a change of endpoints is the same backend. No clock: time is an
 * argument, in milliseconds, as for the flow table. How long an entry holds, its Service says when it
 * is asked for; `age` removes what is older than any timeout may be, before times come round.
 */
import type { FlowTable } from "./FlowTable.js";
import {
  AFFINITY_WAYS,
  AFFINITY_WORDS,
  affinityEntries,
  affinityStart,
  HEADER_KEY_0,
  HEADER_KEY_1,
} from "./flowLayout.js";
import { hashFlow } from "./halfSipHash.js";

const KEY = 0;
const CLIENT = 1;
const ADDRESS = 2;
const L4_PORT = 3;
const USED = 4;

/** Longest timeout that the API allows (ClientIPConfig.timeoutSeconds), in milliseconds. */
const LONGEST_MS = 86_400_000;

export class AffinityTable {
  /** Backend that the last `find` found. */
  address = 0;
  l4Port = 0;
  readonly #flows: FlowTable;
  readonly #words: Int32Array;
  readonly #start: number;
  readonly #entries: number;
  readonly #lastBucket: number;
  /** Where ageing goes on. */
  #hand = 0;

  /** A thread's view of the affinities in a flow table's memory. */
  constructor(flows: FlowTable) {
    this.#flows = flows;
    this.#words = flows.words;
    this.#start = affinityStart(flows.capacity);
    this.#entries = affinityEntries(flows.capacity);
    this.#lastBucket = this.#entries / AFFINITY_WAYS - 1;
  }

  /**
   * Whether a client of the service port `key` (not 0) has a backend and used it less than
   * `timeoutSeconds` ago; then it is in `address` and `l4Port`.
   */
  find(key: number, client: number, timeoutSeconds: number, nowMs: number): boolean {
    const words = this.#words;
    this.#flows.lock();
    const at = this.#entry(this.#bucket(key, client), key, client);
    const found =
      at >= 0 && !isOver(words[at + USED], nowMs) && ((nowMs - words[at + USED]) | 0) < timeoutSeconds * 1000;
    if (found) {
      this.address = words[at + ADDRESS];
      this.l4Port = words[at + L4_PORT];
    }
    this.#flows.unlock();
    return found;
  }

  /** Notes that a client of the service port `key` (not 0) uses a backend. */
  note(key: number, client: number, address: number, l4Port: number, nowMs: number): void {
    const words = this.#words;
    this.#flows.lock();
    const bucket = this.#bucket(key, client);
    let at = this.#entry(bucket, key, client);
    if (at < 0) at = this.#oldest(bucket, nowMs);
    words[at + KEY] = key;
    words[at + CLIENT] = client;
    words[at + ADDRESS] = address;
    words[at + L4_PORT] = l4Port;
    words[at + USED] = nowMs;
    this.#flows.unlock();
  }

  /** Takes over entries that copyAffinities made. */
  restore(entries: Int32Array): void {
    for (let at = 0; at < entries.length; at += AFFINITY_WORDS) {
      const [key, client, address, l4Port, used] = entries.subarray(at, at + AFFINITY_WORDS);
      this.note(key!, client!, address!, l4Port!, used!);
    }
  }

  /** Removes entries that no timeout can keep among the next `budget`. One thread does this. */
  age(nowMs: number, budget: number): void {
    const words = this.#words;
    for (let n = Math.min(budget, this.#entries); n > 0; n--) {
      const at = this.#start + this.#hand * AFFINITY_WORDS;
      this.#hand = this.#hand + 1 === this.#entries ? 0 : this.#hand + 1;
      if (words[at + KEY] === 0 || !isOver(words[at + USED], nowMs)) continue;
      this.#flows.lock();
      // Another thread may have used it.
      if (isOver(words[at + USED], nowMs)) words[at + KEY] = 0;
      this.#flows.unlock();
    }
  }

  /** Entries in use; for tests and reports. */
  count(): number {
    let count = 0;
    for (let n = 0; n < this.#entries; n++) {
      if (this.#words[this.#start + n * AFFINITY_WORDS + KEY] !== 0) count++;
    }
    return count;
  }

  /** First word of the bucket. */
  #bucket(key: number, client: number): number {
    const words = this.#words;
    const hash = hashFlow(words[HEADER_KEY_0], words[HEADER_KEY_1], client, key, 0, 0, 0);
    return this.#start + (hash & this.#lastBucket) * AFFINITY_WAYS * AFFINITY_WORDS;
  }

  /** First word of an entry in a bucket, -1 where it is not there. */
  #entry(bucket: number, key: number, client: number): number {
    const words = this.#words;
    for (let at = bucket, n = 0; n < AFFINITY_WAYS; at += AFFINITY_WORDS, n++) {
      if (words[at + KEY] === key && words[at + CLIENT] === client) return at;
    }
    return -1;
  }

  /** First word of the entry of a bucket that a new one may have. */
  #oldest(bucket: number, nowMs: number): number {
    const words = this.#words;
    let oldest = bucket;
    for (let at = bucket, n = 0; n < AFFINITY_WAYS; at += AFFINITY_WORDS, n++) {
      if (words[at + KEY] === 0) return at;
      if (((nowMs - words[at + USED]) | 0) > ((nowMs - words[oldest + USED]) | 0)) oldest = at;
    }
    return oldest;
  }
}

/**
 * The entries of clients (int32; null for all) in a flow table's memory, AFFINITY_WORDS each, `most` at
 * most. For control code: takes no lock, and leaves out what changes while it looks.
 */
export function copyAffinities(
  words: Int32Array,
  capacity: number,
  clients: ReadonlySet<number> | null,
  most: number,
): Int32Array {
  const found: number[] = [];
  const start = affinityStart(capacity);
  const end = start + affinityEntries(capacity) * AFFINITY_WORDS;
  for (let at = start; at < end && found.length < most * AFFINITY_WORDS; at += AFFINITY_WORDS) {
    if (words[at + KEY] === 0 || (clients !== null && !clients.has(words[at + CLIENT]))) continue;
    const entry = words.slice(at, at + AFFINITY_WORDS);
    if (entry.every((word, i) => words[at + i] === word)) found.push(...entry);
  }
  return Int32Array.from(found);
}

/** Whether a time lies further back than any timeout, or so far that it looks like one to come. */
function isOver(usedMs: number, nowMs: number): boolean {
  const age = (nowMs - usedMs) | 0;
  return age > LONGEST_MS || age < -LONGEST_MS;
}
