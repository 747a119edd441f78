/**
 * What the flow table needs besides packets: ageing, and removing flows that somebody asked to be
 * removed. A little of both after each breath, so that no packet waits for it, and more when there
 * was none. Knows no command; time is an argument.
 *
 * A table that was another agent's has flows of Services without numbers (forgetServices). They get
 * those of now as soon as the Services are known again; a UDP flow whose backend has gone meanwhile is
 * removed, as it would have been then. The same look at all flows is taken when an address or port
 * becomes a Service's: UDP flows that went there by another way end.
 */

import { AffinityTable } from "../tables/AffinityTable.js";
import type { FlowTable } from "../tables/FlowTable.js";
import { identifyFlow } from "../tables/identifyFlow.js";
import type { ServiceTable } from "../tables/ServiceTable.js";

/** Records looked at for expiry in a breath with packets: one to two microseconds. */
const BUSY_RECORDS = 512;
/** In a breath without: a millisecond; no more often than this. */
const IDLE_RECORDS = 262_144;
const IDLE_PAUSE_MS = 50;
/** Without a breath without packets for this long, ageing may be behind … */
const BEHIND_MS = 1000;
/** … and the thread sleeps no longer than this, so that there is one as soon as packets pause. */
const PAUSE_MS = 100;
/** Tests of records in a breath. */
const FLUSH_TESTS = 4096;

/** Affinities looked at in a breath: even with one breath a second, all of them in a day. */
const AFFINITIES = 128;
/** Records looked at in a breath for flows without numbers. */
const IDENTIFY_RECORDS = 512;

interface Flush {
  tests: readonly Int32Array[];
  /** Where it goes on. */
  record: number;
  removed: number;
  done: (removed: number) => void;
}

export class FlowUpkeep {
  readonly #flushes: Flush[] = [];
  /** The last breath without packets. */
  #idleMs = 0;
  /** Flows may lack their numbers; those found without in this round, and where it goes on (-1: none). */
  #anonymous = true;
  #unknown = 0;
  #identifying = -1;
  #services: ServiceTable | null = null;
  /** Of the Services that were looked for last. */
  #added = 0;
  readonly #affinities: AffinityTable;

  /** @param ages whether this thread is the one that removes expired flows */
  constructor(
    private readonly flows: FlowTable,
    private readonly ages: boolean,
  ) {
    this.#affinities = new AffinityTable(flows);
  }

  /** Removes flows that match any of `tests` (flowTests); `done` gets their number when all are gone. */
  flush(tests: readonly Int32Array[], done: (removed: number) => void): void {
    this.#flushes.push({ tests, record: 0, removed: 0, done });
  }

  /** Services have come or changed: flows without numbers may get theirs, or end. */
  identify(services: ServiceTable): void {
    if (!this.ages || (!this.#anonymous && services.added === this.#added)) return;
    this.#services = services;
    this.#added = services.added;
    this.#identifying = 0;
    this.#unknown = 0;
  }

  /** How long the thread may sleep, at most `longest` milliseconds. */
  longestWait(longest: number, nowMs: number): number {
    if (this.#flushes.length > 0 || this.#identifying >= 0) return 0;
    if (!this.ages || this.flows.size === 0) return longest;
    return ((nowMs - this.#idleMs) | 0) < BEHIND_MS ? longest : Math.min(longest, PAUSE_MS);
  }

  /** After a breath. `busy`: there were packets. */
  tend(nowMs: number, busy: boolean): void {
    // Breaths without packets may also follow one another fast: BFD has things to send.
    const idle = !busy && ((nowMs - this.#idleMs) | 0) >= IDLE_PAUSE_MS;
    if (this.ages && this.flows.size > 0) this.flows.age(nowMs, idle ? IDLE_RECORDS : BUSY_RECORDS);
    if (this.ages) this.#affinities.age(nowMs, AFFINITIES);
    if (idle) this.#idleMs = nowMs;
    // First, so that what is removed by number is known by it.
    if (this.#identifying >= 0) this.#identifySome();
    else if (this.#flushes.length > 0) this.#flushSome(this.#flushes[0]!);
  }

  #identifySome(): void {
    const { flows } = this;
    const end = Math.min(flows.used, this.#identifying + IDENTIFY_RECORDS);
    flows.enterBreath();
    for (let record = this.#identifying; record < end; record++) {
      if (!identifyFlow(flows, this.#services!, record)) this.#unknown++;
    }
    flows.leaveBreath();
    this.#identifying = end < flows.used ? end : -1;
    if (this.#identifying < 0) this.#anonymous = this.#unknown > 0;
  }

  #flushSome(flush: Flush): void {
    const { flows } = this;
    const budget = Math.max(1, Math.floor(FLUSH_TESTS / flush.tests.length));
    let next = -1;
    flows.enterBreath();
    for (const tests of flush.tests) {
      next = flows.flush(tests, flush.record, budget);
      flush.removed += flows.flushed;
    }
    flows.leaveBreath();
    flush.record = next;
    if (next >= 0) return;
    this.#flushes.shift();
    flush.done(flush.removed);
  }
}
