/**
 * What control code sees of the flow table: records as plain objects, read at any time beside the
 * threads that write. A record is copied and its sequence compared before and after, so that two
 * flows are never mixed into one; state and time are as of some moment during the copy. Writes
 * nothing and holds up nobody.
 */
import * as ipv4 from "../wire/ipv4.js";
import { copyAffinities } from "./AffinityTable.js";
import { checkFlowTable } from "./FlowTable.js";
import { type FlowFilter, flowTests, matchesFlow } from "./flowFilter.js";
import {
  EVICT_UNREPLIED,
  EVICTION_OF,
  FLAG_ADOPTED,
  FLAG_DNAT,
  FLAG_EGRESS,
  FLAG_HAIRPIN,
  FLAG_PORT_COLLISION,
  FLAG_SNAT,
  FLOW_BACKEND,
  FLOW_COUNTER_NAMES,
  FLOW_CREATED,
  FLOW_FLAGS,
  FLOW_HEADER,
  FLOW_INGRESS,
  FLOW_ORIGINAL,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_SEEN,
  FLOW_SEQUENCE,
  FLOW_SERVICE,
  FLOW_SHIFT,
  FLOW_STATE,
  FLOW_WORDS,
  FlowCounter,
  HEADER_CAPACITY,
  HEADER_COUNT,
  HEADER_COUNTERS,
  HEADER_USED,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  KEY_TAG,
  SLOT_WORDS,
  SLOTS_PER_FLOW,
  STATE_FREE,
  STATE_NAMES,
} from "./flowLayout.js";
import { flowTimeout } from "./flowTimeout.js";

/** One direction's key: what arrives in this direction looks like it. */
export interface FlowKey {
  /** Addresses as int32. */
  source: number;
  destination: number;
  /** 0 where the protocol has no ports; for ICMP echo see echoPorts. */
  sourcePort: number;
  destinationPort: number;
  /** Tag of the inner source MAC, unsigned; 0 without. */
  tag: number;
}

export interface FlowRecord {
  /** Number of the record. */
  record: number;
  protocol: number;
  /** tcp, udp, icmp, sctp, or the number. */
  protocolName: string;
  state: number;
  stateName: string;
  /** Nothing came back so far, or the handshake is not complete. */
  unreplied: boolean;
  original: FlowKey;
  reply: FlowKey;
  /** Names of the FLAG_* that are set. */
  flags: string[];
  service: number;
  backend: number;
  /** Underlay address of the VTEP that the flow came through, 0 without. */
  ingress: number;
  ageMs: number;
  /** Until the flow ends, if no packet comes. 0: it is due. */
  remainingMs: number;
}

/** By IPv4 protocol number, of those that have state machines. */
export const PROTOCOL_NAMES: Readonly<Record<number, string>> = {
  [ipv4.PROTOCOL_ICMP]: "icmp",
  [ipv4.PROTOCOL_TCP]: "tcp",
  [ipv4.PROTOCOL_UDP]: "udp",
  [ipv4.PROTOCOL_SCTP]: "sctp",
};

/** Names of FLAG_* bits. */
const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [FLAG_DNAT, "dnat"],
  [FLAG_SNAT, "snat"],
  [FLAG_HAIRPIN, "hairpin"],
  [FLAG_EGRESS, "egress"],
  [FLAG_PORT_COLLISION, "portCollision"],
  [FLAG_ADOPTED, "adopted"],
];

/** Names of the FLAG_* that are set in a flow's flags. */
export function flagNames(flags: number): string[] {
  return FLAG_NAMES.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
}

/** Times that a record is read again when it changed meanwhile. */
const TRIES = 4;

export class FlowReader {
  readonly #words: Int32Array;
  readonly #records: number;
  readonly #copy = new Int32Array(FLOW_WORDS);

  /** Throws RangeError on a buffer that is no flow table of this version. */
  constructor(buffer: ArrayBufferLike) {
    this.#words = new Int32Array(buffer);
    checkFlowTable(this.#words);
    this.#records = FLOW_HEADER + this.#words[HEADER_CAPACITY] * SLOTS_PER_FLOW * SLOT_WORDS;
  }

  get capacity(): number {
    return this.#words[HEADER_CAPACITY];
  }

  /** Flows in the table. */
  get size(): number {
    return this.#words[HEADER_COUNT];
  }

  /** The table's counters, since it was made. */
  counters(): Record<keyof typeof FlowCounter, number> {
    const doubles = new Float64Array(this.#words.buffer, HEADER_COUNTERS * 4, FLOW_COUNTER_NAMES.length);
    return Object.fromEntries(FLOW_COUNTER_NAMES.map((name) => [name, doubles[FlowCounter[name]]])) as Record<
      keyof typeof FlowCounter,
      number
    >;
  }

  /** The flow in a record; null where there is none, or where it keeps changing. */
  read(record: number, nowMs: number): FlowRecord | null {
    return this.#snapshot(record) ? this.#decode(record, nowMs) : null;
  }

  /** The flows that match, in no order. What is inserted or removed meanwhile may be missed or shown. */
  *list(filter: FlowFilter, nowMs: number): Generator<FlowRecord> {
    const tests = flowTests(filter);
    for (let record = 0; record < this.#words[HEADER_USED]; record++) {
      if (this.#snapshot(record) && matchesFlow(this.#copy, 0, tests)) yield this.#decode(record, nowMs);
    }
  }

  /** How many flows match: a look at each record, and nothing made of it. */
  count(filter: FlowFilter): number {
    const tests = flowTests(filter);
    let count = 0;
    for (let record = 0; record < this.#words[HEADER_USED]; record++) {
      const base = this.#records + (record << FLOW_SHIFT);
      if (this.#words[base + FLOW_STATE] !== STATE_FREE && matchesFlow(this.#words, base, tests)) count++;
    }
    return count;
  }

  /**
   * The records, whole, of flows that any of `addresses` (int32) is in, or of all: at most `most`, one
   * after another. `truncated`: there were more.
   */
  copy(addresses: ReadonlySet<number> | null, most: number): { words: Int32Array; truncated: boolean } {
    const found: Int32Array[] = [];
    let truncated = false;
    for (let record = 0; record < this.#words[HEADER_USED] && !truncated; record++) {
      if (!this.#snapshot(record) || (addresses !== null && !this.#involves(addresses))) continue;
      if (found.length === most) truncated = true;
      else found.push(this.#copy.slice());
    }
    const words = new Int32Array(found.length * FLOW_WORDS);
    found.forEach((record, i) => {
      words.set(record, i * FLOW_WORDS);
    });
    return { words, truncated };
  }

  /** Affinities of clients, or all (copyAffinities). */
  affinities(clients: ReadonlySet<number> | null, most: number): Int32Array {
    return copyAffinities(this.#words, this.capacity, clients, most);
  }

  #involves(addresses: ReadonlySet<number>): boolean {
    const copy = this.#copy;
    return [FLOW_ORIGINAL, FLOW_REPLY].some(
      (key) => addresses.has(copy[key + KEY_SOURCE]) || addresses.has(copy[key + KEY_DESTINATION]),
    );
  }

  /** Copies a record. False where it holds no flow or changed each time. */
  #snapshot(record: number): boolean {
    const words = this.#words;
    const copy = this.#copy;
    const base = this.#records + (record << FLOW_SHIFT);
    for (let n = 0; n < TRIES; n++) {
      const sequence = Atomics.load(words, base + FLOW_SEQUENCE);
      if ((sequence & 1) !== 0) continue;
      for (let w = 0; w < FLOW_WORDS; w++) copy[w] = words[base + w];
      if (Atomics.load(words, base + FLOW_SEQUENCE) === sequence) return copy[FLOW_STATE] !== STATE_FREE;
    }
    return false;
  }

  #decode(record: number, nowMs: number): FlowRecord {
    const copy = this.#copy;
    const protocol = copy[FLOW_PROTOCOL];
    const state = copy[FLOW_STATE];
    const idle = Math.max(0, (nowMs - copy[FLOW_SEEN]) | 0);
    return {
      record,
      protocol,
      protocolName: PROTOCOL_NAMES[protocol] ?? String(protocol),
      state,
      stateName: STATE_NAMES[state],
      unreplied: EVICTION_OF[state] === EVICT_UNREPLIED,
      original: this.#key(FLOW_ORIGINAL),
      reply: this.#key(FLOW_REPLY),
      flags: flagNames(copy[FLOW_FLAGS]),
      service: copy[FLOW_SERVICE],
      backend: copy[FLOW_BACKEND],
      ingress: copy[FLOW_INGRESS],
      ageMs: Math.max(0, (nowMs - copy[FLOW_CREATED]) | 0),
      remainingMs: Math.max(0, flowTimeout(copy, 0) - idle),
    };
  }

  #key(at: number): FlowKey {
    const copy = this.#copy;
    return {
      source: copy[at + KEY_SOURCE],
      destination: copy[at + KEY_DESTINATION],
      sourcePort: copy[at + KEY_PORTS] >>> 16,
      destinationPort: copy[at + KEY_PORTS] & 0xffff,
      tag: copy[at + KEY_TAG] >>> 0,
    };
  }
}
