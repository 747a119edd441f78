/**
 * What becomes of the later fragments of a packet: they carry no ports. The first fragment decides
 * (RFC 791 §3.2: addresses, protocol and identification say which belong together). Later ones that
 * come before it wait, in a part of the arena that a breath leaves alone (packet/layout, HELD_*), and
 * then go through the stages as though they came behind it.
 *
 *   later fragment ──▶ decided? ──yes──▶ follows: translated, passes, or dropped
 *                         │no
 *                         ▼
 *                  waits in the ring ──first fragment──▶ ready ──resume──▶ the stages, from the start
 *                         └──30 s, or displaced by younger ones──▶ dropped (fragmentOrphan)
 *
 * Bounded in every way: packets (an entry each, displaced within their set), frames, bytes, time, and
 * the bytes that one packet can have. A frame that waits is counted as received when it goes on.
 */
import { BATCH_CAPACITY, HELD, PENDING } from "../packet/Batch.js";
import { COUNT_DROPS, COUNT_RECEIVED, COUNT_RECEIVED_BYTES } from "../packet/counters.js";
import { DropReason } from "../packet/DropReason.js";
import { ARENA, HELD_BYTES } from "../packet/layout.js";
import type { FlowTable } from "../tables/FlowTable.js";
import { FLOW_SEQUENCE, FLOW_STATE, STATE_FREE } from "../tables/flowLayout.js";
import { hashAddress } from "../tables/hash.js";
import { ROUTE_PORT, routeTo } from "../tables/RouteTable.js";
import * as ipv4 from "../wire/ipv4.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";
import { applyFlow } from "./followFlow.js";
import { applyIcmpError } from "./icmpFlow.js";

// ---- packets whose fragments are known: a set-associative table --------------------------------
const SETS = 1024;
const WAYS = 4;
const ENTRY = 12;
const SOURCE = 0;
const DESTINATION = 1;
/** Protocol << 16 | identification. */
const WHICH = 2;
const ARRIVED = 3;
/** What the first fragment decided: one of the following, or FOLLOW + record. */
const DECISION = 4;
/** Of the flow, 0 or 1; with ABOUT where the packet is none of its own. */
const DIRECTION = 5;
const SEQUENCE = 6;
/** Milliseconds, of the first fragment or of the first that waits. */
const TIME = 7;
/** Frames that wait, slot + 1: the first and the last, and their bytes. */
const HEAD = 8;
const TAIL = 9;
const BYTES = 10;

const FREE = 0;
/** The first fragment has not come. */
const UNDECIDED = 1;
/** No flow's: passes as it is. */
const PASS = 2;
const DROP = 3;
const FOLLOW = 4;

/** Bit of DIRECTION: the packet is an ICMP error about one of the flow. */
const ABOUT = 2;

/** As long as Linux waits for the rest of a packet (ipfrag_time). */
const TIMEOUT_MS = 30_000;
/** Most bytes of a packet's fragments together: the longest packet, and headers. */
const PACKET_BYTES = 3 * 65_536;

// ---- frames that wait: a ring of slots over a ring of bytes, oldest first ----------------------
const SLOTS = 1024;
const SLOT = 11;
const OFFSET = 0;
/** Bytes of the ring that the slot takes, skipped ones at its end included. */
const TAKES = 1;
const LENGTH = 2;
const PORT = 3;
const PEER = 4;
/** Entry that it waits for. */
const OWNER = 5;
/** Slot + 1 of the next frame in the list that it is in. */
const NEXT = 6;
const STATE = 7;
const SINCE = 8;
/** TxPlan.resets when it was planned: once that has moved on, the bytes are free. */
const RESETS = 9;
/** Bytes from the Ethernet header on: what is counted as received. */
const FRAME = 10;

const GONE = 0;
const WAITING = 1;
const READY = 2;
/** In the batch. */
const TAKEN = 3;
/** In the plan, perhaps. */
const PLANNED = 4;

/** In front of each frame: what encap or coalesce write there. */
const HEADROOM = 16;

export class FragmentTable {
  readonly #entries = new Int32Array(SETS * WAYS * ENTRY);
  readonly #slots = new Int32Array(SLOTS * SLOT);
  /** Slots in use: from #first on, #count of them. */
  #first = 0;
  #count = 0;
  /** Next free byte of the ring, and how many are in use. */
  #write = 0;
  #used = 0;
  #waiting = 0;
  #readyHead = 0;
  #readyTail = 0;
  #taken = 0;

  /** Frames that wait for their first fragment. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Row `i`, a first fragment whose columns are as it arrived, belongs to the flow in its columns. */
  noteFlow(dp: Dataplane, i: number): void {
    const { batch } = dp;
    this.#noteRecord(dp, i, batch.flow[i], batch.direction[i]);
  }

  /** Row `i`, a first fragment whose columns are as it arrived, is an ICMP error that travels in `direction` of a flow. */
  noteError(dp: Dataplane, i: number, record: number, direction: number): void {
    this.#noteRecord(dp, i, record, direction | ABOUT);
  }

  #noteRecord(dp: Dataplane, i: number, record: number, direction: number): void {
    const { flows } = dp;
    const e = this.#decide(dp, i, FOLLOW + record);
    this.#entries[e + DIRECTION] = direction;
    this.#entries[e + SEQUENCE] = flows.words[flows.base(record) + FLOW_SEQUENCE];
  }

  /** Whether a record still holds the flow that it had at `sequence`. */
  #livesOn(flows: FlowTable, record: number, sequence: number): boolean {
    const { words } = flows;
    const at = flows.base(record);
    return words[at + FLOW_SEQUENCE] === sequence && words[at + FLOW_STATE] !== STATE_FREE;
  }

  /** Row `i`, a first fragment of no flow, passes or was dropped: so do the others. */
  noteVerdict(dp: Dataplane, i: number): void {
    const passes = dp.batch.verdict[i] === PENDING;
    // Those of an older packet with this identification may have left a decision.
    if (passes && passesAlone(dp, i) && this.#find(dp, i) < 0) return;
    this.#decide(dp, i, passes ? PASS : DROP);
  }

  /** Takes row `i`, a later fragment, along with its packet; keeps it where that is not decided. */
  follow(dp: Dataplane, i: number): void {
    const { batch, flows } = dp;
    const entries = this.#entries;
    let e = this.#find(dp, i);
    if (e < 0) {
      if (passesAlone(dp, i)) return;
      e = this.#enter(dp, i);
      entries[e + DECISION] = UNDECIDED;
    }
    const decision = entries[e + DECISION];
    if (decision === PASS) return;
    if (decision === UNDECIDED) {
      this.#hold(dp, i, e);
      return;
    }
    const record = decision - FOLLOW;
    if (decision === DROP || !this.#livesOn(flows, record, entries[e + SEQUENCE])) {
      dp.drop(i, DropReason.fragmentOrphan);
      return;
    }
    const direction = entries[e + DIRECTION];
    if ((direction & ABOUT) !== 0) {
      applyIcmpError(dp, i, record, direction & ~ABOUT);
      return;
    }
    batch.flow[i] = record;
    batch.direction[i] = direction;
    applyFlow(dp, i);
  }

  /**
   * Puts frames whose first fragment has come into the empty batch. False where there are none. The
   * batch before has gone through the stages.
   */
  resume(dp: Dataplane): boolean {
    this.settleTaken(dp);
    if (this.#readyHead === 0) return false;
    const { batch } = dp;
    const slots = this.#slots;
    while (this.#readyHead !== 0 && batch.count < BATCH_CAPACITY) {
      const s = (this.#readyHead - 1) * SLOT;
      const i = batch.push(slots[s + OFFSET], slots[s + LENGTH], slots[s + PORT]);
      batch.peer[i] = slots[s + PEER];
      this.#readyHead = slots[s + NEXT];
      slots[s + STATE] = TAKEN;
      this.#taken++;
    }
    return true;
  }

  /** Frames that were in the batch are in the plan, or nowhere. */
  settleTaken(dp: Dataplane): void {
    const slots = this.#slots;
    for (let n = 0; this.#taken > 0 && n < this.#count; n++) {
      const s = ((this.#first + n) & (SLOTS - 1)) * SLOT;
      if (slots[s + STATE] !== TAKEN) continue;
      slots[s + STATE] = PLANNED;
      slots[s + RESETS] = dp.plan.resets;
      this.#taken--;
    }
  }

  /** Drops what has waited too long. Once a breath. */
  expire(dp: Dataplane): void {
    const slots = this.#slots;
    while (this.#count > 0) {
      const s = this.#first * SLOT;
      const state = slots[s + STATE];
      if (state === WAITING && ((dp.nowMs - slots[s + SINCE]) | 0) > TIMEOUT_MS) {
        this.#abandon(dp, slots[s + OWNER]);
      } else if (state !== GONE && !(state === PLANNED && slots[s + RESETS] !== dp.plan.resets)) {
        return;
      }
      this.#dropFirst();
    }
  }

  // ---- entries --------------------------------------------------------------------------------

  /** The entry of row `i`'s packet, -1 without. */
  #find(dp: Dataplane, i: number): number {
    const entries = this.#entries;
    const which = whichOf(dp, i);
    const start = setOf(dp, i, which);
    for (let e = start; e < start + WAYS * ENTRY; e += ENTRY) {
      if (entries[e + DECISION] === FREE || !isOf(entries, e, dp, i, which)) continue;
      if (((dp.nowMs - entries[e + TIME]) | 0) > TIMEOUT_MS) return -1;
      return e;
    }
    return -1;
  }

  /** An entry for row `i`'s packet: its own, or the oldest of its set, emptied. */
  #enter(dp: Dataplane, i: number): number {
    const entries = this.#entries;
    const which = whichOf(dp, i);
    const start = setOf(dp, i, which);
    let at = start;
    let oldest = -1;
    for (let e = start; e < start + WAYS * ENTRY; e += ENTRY) {
      if (entries[e + DECISION] !== FREE && isOf(entries, e, dp, i, which)) {
        at = e;
        break;
      }
      const age = entries[e + DECISION] === FREE ? 0x7fffffff : (dp.nowMs - entries[e + TIME]) | 0;
      if (age > oldest) {
        at = e;
        oldest = age;
      }
    }
    this.#abandon(dp, at);
    entries[at + SOURCE] = dp.batch.source[i];
    entries[at + DESTINATION] = dp.batch.destination[i];
    entries[at + WHICH] = which;
    entries[at + ARRIVED] = arrival(dp, i);
    entries[at + TIME] = dp.nowMs;
    return at;
  }

  /** Row `i` is a first fragment: what it decides for its packet. What waits goes on. */
  #decide(dp: Dataplane, i: number, decision: number): number {
    const entries = this.#entries;
    let e = this.#find(dp, i);
    if (e >= 0 && entries[e + DECISION] === UNDECIDED) this.#makeReady(e);
    else e = this.#enter(dp, i);
    entries[e + DECISION] = decision;
    entries[e + TIME] = dp.nowMs;
    return e;
  }

  #makeReady(e: number): void {
    const entries = this.#entries;
    const slots = this.#slots;
    const head = entries[e + HEAD];
    for (let next = head; next !== 0; next = slots[(next - 1) * SLOT + NEXT]) {
      slots[(next - 1) * SLOT + STATE] = READY;
      this.#waiting--;
    }
    if (head !== 0) {
      if (this.#readyHead === 0) this.#readyHead = head;
      else slots[(this.#readyTail - 1) * SLOT + NEXT] = head;
      this.#readyTail = entries[e + TAIL];
    }
    entries[e + HEAD] = 0;
    entries[e + BYTES] = 0;
  }

  /** Frees an entry; frames that wait for it are dropped. */
  #abandon(dp: Dataplane, e: number): void {
    const entries = this.#entries;
    const slots = this.#slots;
    for (let next = entries[e + HEAD]; next !== 0; ) {
      const s = (next - 1) * SLOT;
      slots[s + STATE] = GONE;
      this.#waiting--;
      dp.counters[COUNT_RECEIVED]++;
      dp.counters[COUNT_RECEIVED_BYTES] += slots[s + FRAME];
      dp.counters[COUNT_DROPS + DropReason.fragmentOrphan]++;
      if (dp.tap !== null) {
        const frame = slots[s + OFFSET] + slots[s + LENGTH] - slots[s + FRAME];
        dp.tap.gaveUp(dp, frame, slots[s + FRAME], slots[s + PORT], DropReason.fragmentOrphan);
      }
      next = slots[s + NEXT];
    }
    entries[e + DECISION] = FREE;
    entries[e + HEAD] = 0;
    entries[e + BYTES] = 0;
  }

  // ---- frames that wait -----------------------------------------------------------------------

  /** Copies row `i` out of receive memory, behind what waits for entry `e`. */
  #hold(dp: Dataplane, i: number, e: number): void {
    const { batch, arena, counters } = dp;
    const entries = this.#entries;
    const slots = this.#slots;
    const fromTunnel = batch.vtep[i] >= 0;
    const front = fromTunnel ? vxlan.HEADER : 0;
    const start = batch.offset[i] - front;
    const bytes = batch.length[i] + front;
    // Adding may empty the entry, where what waits for it is the oldest.
    if (entries[e + BYTES] + bytes > PACKET_BYTES || !this.#makeRoom(dp, HEADROOM + bytes)) {
      dp.drop(i, DropReason.fragmentOrphan);
      return;
    }
    const slot = (this.#first + this.#count++) & (SLOTS - 1);
    const takes = (HEADROOM + bytes + 63) & ~63;
    const at = ARENA.held + this.#write + HEADROOM;
    this.#write += takes;
    this.#used += takes;
    arena.bytes.copyWithin(at, start, start + bytes);
    const s = slot * SLOT;
    slots[s + OFFSET] = at;
    slots[s + TAKES] = takes;
    slots[s + LENGTH] = bytes;
    slots[s + PORT] = batch.port[i];
    slots[s + PEER] = batch.peer[i];
    slots[s + OWNER] = e;
    slots[s + NEXT] = 0;
    slots[s + STATE] = WAITING;
    slots[s + SINCE] = dp.nowMs;
    slots[s + FRAME] = batch.length[i];
    entries[e + DECISION] = UNDECIDED;
    if (entries[e + HEAD] === 0) {
      entries[e + HEAD] = slot + 1;
      entries[e + TIME] = dp.nowMs;
    } else slots[(entries[e + TAIL] - 1) * SLOT + NEXT] = slot + 1;
    entries[e + TAIL] = slot + 1;
    entries[e + BYTES] += bytes;
    this.#waiting++;
    batch.verdict[i] = HELD;
    counters[COUNT_RECEIVED]--;
    counters[COUNT_RECEIVED_BYTES] -= batch.length[i];
  }

  /** Makes a slot and `bytes` in one piece free, at the cost of the oldest. False where it cannot be. */
  #makeRoom(dp: Dataplane, bytes: number): boolean {
    const slots = this.#slots;
    const takes = (bytes + 63) & ~63;
    for (;;) {
      const left = HELD_BYTES - this.#write;
      if (this.#count === 0) {
        this.#write = 0;
        this.#used = 0;
        return takes <= HELD_BYTES;
      }
      const wraps = left < takes;
      const skip = wraps ? left : 0;
      if (this.#count < SLOTS && this.#used + skip + takes <= HELD_BYTES) {
        if (wraps) {
          const last = ((this.#first + this.#count - 1) & (SLOTS - 1)) * SLOT;
          slots[last + TAKES] += skip;
          this.#used += skip;
          this.#write = 0;
        }
        return true;
      }
      const s = this.#first * SLOT;
      const state = slots[s + STATE];
      if (state === READY || state === TAKEN) return false;
      if (state === WAITING) this.#abandon(dp, slots[s + OWNER]);
      else if (state === PLANNED && slots[s + RESETS] === dp.plan.resets) {
        dp.closeOpen();
        dp.sink.execute();
      }
      this.#dropFirst();
    }
  }

  #dropFirst(): void {
    this.#used -= this.#slots[this.#first * SLOT + TAKES];
    this.#slots[this.#first * SLOT + STATE] = GONE;
    this.#first = (this.#first + 1) & (SLOTS - 1);
    this.#count--;
  }
}

/**
 * Whether fragments of row `i`'s packet may pass without being decided about: between pods, and not
 * towards a client of ours, a pod or the node, for whom it may be the answer of a Service's endpoint, or
 * to what the node sent behind its tunnel address. Services may be gone before the flows that they began.
 */
function passesAlone(dp: Dataplane, i: number): boolean {
  const { batch, tables, services } = dp;
  const destination = batch.destination[i];
  if (!tables.inPool(batch.source[i]) || !tables.inPool(destination)) return false;
  return !services.isServiceAddress(destination) && routeTo(tables.routes.lookup(destination)) !== ROUTE_PORT;
}

function whichOf(dp: Dataplane, i: number): number {
  const { batch, view } = dp;
  return (batch.protocol[i] << 16) | view.getUint16(batch.l3[i] + ipv4.IDENTIFICATION);
}

function arrival(dp: Dataplane, i: number): number {
  return dp.batch.vtep[i] >= 0 ? dp.batch.tag[i] : ~dp.batch.port[i];
}

function setOf(dp: Dataplane, i: number, which: number): number {
  const { source, destination } = dp.batch;
  const h = hashAddress(source[i] ^ hashAddress(destination[i] ^ hashAddress(which)));
  return (h & (SETS - 1)) * WAYS * ENTRY;
}

function isOf(entries: Int32Array, e: number, dp: Dataplane, i: number, which: number): boolean {
  const { source, destination } = dp.batch;
  return (
    entries[e + SOURCE] === source[i] &&
    entries[e + DESTINATION] === destination[i] &&
    entries[e + WHICH] === which &&
    entries[e + ARRIVED] === arrival(dp, i)
  );
}
