/**
 * Which flow the later fragments of a packet belong to: they carry no ports. A first fragment notes
 * its addresses and identification (RFC 791 §3.2) with its flow, the others look it up. Bounded: a
 * new entry may displace an old one of the same set.
 */
import { DropReason } from "../packet/DropReason.js";
import { FLOW_SEQUENCE } from "../tables/flowLayout.js";
import { hashAddress } from "../tables/hash.js";
import * as ipv4 from "../wire/ipv4.js";
import type { Dataplane } from "./Dataplane.js";
import { applyFlow } from "./followFlow.js";

const SETS = 1024;
const WAYS = 4;
const ENTRY = 8;
const SOURCE = 0;
const DESTINATION = 1;
/** Protocol << 16 | identification. */
const WHICH = 2;
const ARRIVED = 3;
const FLOW = 4;
const DIRECTION = 5;
const SEQUENCE = 6;
/** Milliseconds, when it was noted; 0 in the flow's place marks a free entry. */
const TIME = 7;
/** As long as Linux waits for the rest of a packet (ipfrag_time). */
const TIMEOUT_MS = 30_000;

export class FragmentTable {
  readonly #entries = new Int32Array(SETS * WAYS * ENTRY);

  /** Notes row `i`, a first fragment whose columns are still as it arrived, with its flow. */
  note(dp: Dataplane, i: number): void {
    const { batch, flows, view, nowMs } = dp;
    const entries = this.#entries;
    const which = (batch.protocol[i] << 16) | view.getUint16(batch.l3[i] + ipv4.IDENTIFICATION);
    const start = setOf(batch.source[i], batch.destination[i], which);
    let at = start;
    let oldest = -1;
    for (let e = start; e < start + WAYS * ENTRY; e += ENTRY) {
      const age = entries[e + FLOW] === 0 ? 0x7fffffff : (nowMs - entries[e + TIME]) | 0;
      const same = matches(entries, e, batch.source[i], batch.destination[i], which, arrival(dp, i));
      if (same || age > oldest) {
        at = e;
        oldest = same ? 0x7fffffff : age;
        if (same) break;
      }
    }
    entries[at + SOURCE] = batch.source[i];
    entries[at + DESTINATION] = batch.destination[i];
    entries[at + WHICH] = which;
    entries[at + ARRIVED] = arrival(dp, i);
    entries[at + FLOW] = batch.flow[i] + 1;
    entries[at + DIRECTION] = batch.direction[i];
    entries[at + SEQUENCE] = flows.words[flows.base(batch.flow[i]) + FLOW_SEQUENCE];
    entries[at + TIME] = nowMs;
  }

  /** Takes row `i`, a later fragment, along with its packet's flow; drops what would need one. */
  follow(dp: Dataplane, i: number): void {
    const { batch, flows, view, nowMs } = dp;
    const entries = this.#entries;
    const which = (batch.protocol[i] << 16) | view.getUint16(batch.l3[i] + ipv4.IDENTIFICATION);
    const start = setOf(batch.source[i], batch.destination[i], which);
    for (let e = start; e < start + WAYS * ENTRY; e += ENTRY) {
      if (entries[e + FLOW] === 0 || ((nowMs - entries[e + TIME]) | 0) > TIMEOUT_MS) continue;
      if (!matches(entries, e, batch.source[i], batch.destination[i], which, arrival(dp, i))) continue;
      const record = entries[e + FLOW] - 1;
      if (flows.words[flows.base(record) + FLOW_SEQUENCE] !== entries[e + SEQUENCE]) break;
      batch.flow[i] = record;
      batch.direction[i] = entries[e + DIRECTION];
      applyFlow(dp, i);
      return;
    }
    const { tables, services } = dp;
    const untracked = tables.inPool(batch.source[i]) && tables.inPool(batch.destination[i]);
    if (!untracked || services.isServiceAddress(batch.destination[i])) dp.drop(i, DropReason.fragmentOrphan);
  }
}

function arrival(dp: Dataplane, i: number): number {
  return dp.batch.vtep[i] >= 0 ? dp.batch.tag[i] : ~dp.batch.port[i];
}

function setOf(source: number, destination: number, which: number): number {
  const h = hashAddress(source ^ hashAddress(destination ^ hashAddress(which)));
  return (h & (SETS - 1)) * WAYS * ENTRY;
}

function matches(
  entries: Int32Array,
  e: number,
  source: number,
  destination: number,
  which: number,
  arrived: number,
): boolean {
  return (
    entries[e + SOURCE] === source &&
    entries[e + DESTINATION] === destination &&
    entries[e + WHICH] === which &&
    entries[e + ARRIVED] === arrived
  );
}
