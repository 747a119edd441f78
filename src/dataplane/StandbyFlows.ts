/**
 * Flows of load-balancer addresses that their owner has told this node of (FlowSharing, wire/flowShare),
 * since this node would be the next owner and the ring would not lead it to their backends. They wait in
 * the flow table as STATE_STANDBY, complete but asleep; the first packet wakes one (followFlow). A new
 * connection with the same ports begins a flow of its own instead.
 *
 *   hear   a message: checked, then its records become, or refresh, standby flows
 *   wake   a packet of one: it goes on as any flow; where the pod is this node's, in the place of the
 *          record by which its replies went to the old owner
 *   tend   between breaths: standby flows that a whole sweep of their teller did not name are removed,
 *          unless this node owns the address meanwhile, since then there is nobody else to tell of them
 *
 * Bound: standby flows are taken only while a quarter of the table is free, and are the first to give way
 * when it is full. What is told of real flows of this node changes those that are stale: it is believed
 * where this node is not the owner.
 */
import { ANSWERED } from "../packet/Batch.js";
import {
  COUNT_ANSWERED,
  COUNT_STANDBY_HEARD,
  COUNT_STANDBY_REFUSED,
  COUNT_STANDBY_WOKEN,
} from "../packet/counters.js";
import { DropReason } from "../packet/DropReason.js";
import { MAX_PEERS } from "../packet/layout.js";
import {
  FLAG_ADOPTED,
  FLAG_DNAT,
  FLOW_FLAGS,
  FLOW_INGRESS,
  FLOW_ORIGINAL,
  FLOW_OUT,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_SEEN,
  FLOW_STATE,
  FLOW_SWEEP,
  FLOW_WORDS,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  KEY_TAG,
  OUT_NODE,
  OUT_ROUTE,
  SCTP_CLOSED,
  SCTP_ESTABLISHED,
  STATE_FREE,
  STATE_STANDBY,
  TCP_ESTABLISHED,
  TCP_SYN_SENT,
  turnedPorts,
  UDP_STREAM,
} from "../tables/flowLayout.js";
import { identifyFlow } from "../tables/identifyFlow.js";
import { ROUTE_VTEP, routeTarget, routeTo } from "../tables/RouteTable.js";
import { THIS_NODE } from "../tables/VipTable.js";
import * as checksum from "../wire/checksum.js";
import * as flowShare from "../wire/flowShare.js";
import * as flowTag from "../wire/flowTag.js";
import * as ipv4 from "../wire/ipv4.js";
import * as udp from "../wire/udp.js";
import type { Dataplane } from "./Dataplane.js";
import { isOwn } from "./loadBalance.js";
import { replaceMoved } from "./movedIngress.js";
import { firstState } from "./trackRow.js";

/** Records that are looked at in one go for those that are told of no longer. */
const PURGE_RECORDS = 1024;
/** Microseconds from one look at all flows to the next for each record: a hundred times what it takes. */
const PURGE_US = 1;

/** Whether row `i`, which came by a VTEP for the node's tunnel address, is about flows. */
export function isFlowShare(dp: Dataplane, i: number): boolean {
  const { batch } = dp;
  return batch.protocol[i] === ipv4.PROTOCOL_UDP && (batch.ports[i] & 0xffff) === udp.PORT_FLOW_SHARE;
}

/**
 * Wakes the standby flow in the columns of row `i`. False where the packet begins another flow, or this
 * one cannot go on; it has then been removed.
 */
export function wakeStandby(dp: Dataplane, i: number): boolean {
  const { batch, flows, tables } = dp;
  const { words } = flows;
  const record = batch.flow[i];
  const base = flows.base(record);
  const first = batch.direction[i] === 0 ? firstState(dp, i) : 0;
  if (first === TCP_SYN_SENT || first === SCTP_CLOSED) {
    flows.remove(record);
    return false;
  }
  const established = establishedState(words[base + FLOW_PROTOCOL]);
  if (routeTo(tables.routes.lookup(words[base + FLOW_REPLY + KEY_SOURCE])) !== ROUTE_VTEP) {
    if (!wakeHere(dp, i, established)) return false;
  } else {
    words[base + FLOW_INGRESS] = 0;
    words[base + FLOW_SWEEP] = 0;
    // Where another thread was faster, it is awake as well.
    flows.setState(record, STATE_STANDBY, established, dp.nowMs);
  }
  dp.counters[COUNT_STANDBY_WOKEN]++;
  identifyFlow(flows, dp.services, batch.flow[i]);
  return words[flows.base(batch.flow[i]) + FLOW_STATE] !== STATE_FREE;
}

/** The pod is here: its replies have the key of a local flow, and another record has it so far. */
function wakeHere(dp: Dataplane, i: number, established: number): boolean {
  const { batch, flows, draft } = dp;
  const { words } = flows;
  const base = flows.base(batch.flow[i]);
  for (let w = 0; w < FLOW_WORDS; w++) draft[w] = words[base + w];
  draft[FLOW_STATE] = established;
  draft[FLOW_REPLY + KEY_TAG] = 0;
  draft[FLOW_INGRESS] = 0;
  draft[FLOW_SWEEP] = 0;
  flows.remove(batch.flow[i]);
  replaceMoved(dp, i);
  const record = flows.insert(draft, dp.nowMs);
  if (record >= 0) batch.flow[i] = record;
  return record >= 0;
}

function establishedState(protocol: number): number {
  if (protocol === ipv4.PROTOCOL_TCP) return TCP_ESTABLISHED;
  return protocol === ipv4.PROTOCOL_SCTP ? SCTP_ESTABLISHED : UDP_STREAM;
}

export class StandbyFlows {
  readonly #dp: Dataplane;
  /** Of each teller: the sweep that is being heard, its records so far, the last one heard whole. */
  readonly #sweep = new Int32Array(MAX_PEERS);
  readonly #records = new Int32Array(MAX_PEERS);
  readonly #whole = new Int32Array(MAX_PEERS);
  /** 1: heard whole since the last look at all flows; 2: this look removes what it did not name. */
  readonly #due = new Uint8Array(MAX_PEERS);
  #isDue = false;
  /** Where the look goes on, -1 without. */
  #hand = -1;
  /** When the last look ended, and how long none begins then. */
  #endedMs = 0;
  #restMs = 0;

  constructor(dp: Dataplane) {
    this.#dp = dp;
  }

  /** Takes row `i`, a datagram (or a run of them) to the port for messages about flows. */
  hear(i: number): void {
    const dp = this.#dp;
    const { batch, tables, view } = dp;
    const vtep = batch.vtep[i];
    const known = tables.fdb.tags(vtep) && batch.source[i] === tables.fdb.tunnelAddress(vtep);
    if (!known || batch.fragment[i] !== 0 || !this.#isIntact(i)) {
      dp.drop(i, DropReason.flowShare);
      return;
    }
    for (let n = 0; n < batch.segments[i]; n++)
      this.#take(view, batch.l4[i] + n * batch.stride[i] + udp.HEADER, vtep);
    batch.verdict[i] = ANSWERED;
    dp.counters[COUNT_ANSWERED] += batch.segments[i];
  }

  /** Milliseconds that the thread may sleep, at most `longest`. */
  longestWait(longest: number): number {
    if (this.#hand >= 0) return 0;
    return this.#isDue ? Math.min(longest, this.#remainingMs()) : longest;
  }

  /** Between two breaths: looks at some flows. */
  tend(): void {
    if (this.#hand < 0) {
      if (!this.#isDue || this.#remainingMs() > 0) return;
      this.#isDue = false;
      for (let vtep = 0; vtep < MAX_PEERS; vtep++) this.#due[vtep] <<= 1;
      this.#hand = 0;
    }
    const { flows } = this.#dp;
    const end = Math.min(flows.used, this.#hand + PURGE_RECORDS);
    flows.enterBreath();
    while (this.#hand < end) this.#purge(this.#hand++);
    flows.leaveBreath();
    if (end < flows.used) return;
    this.#hand = -1;
    this.#endedMs = this.#dp.nowMs;
    this.#restMs = Math.ceil((flows.used * PURGE_US) / 1000);
    for (let vtep = 0; vtep < MAX_PEERS; vtep++) this.#due[vtep] &= 1;
  }

  /** Milliseconds until the next look may begin. */
  #remainingMs(): number {
    return Math.max(0, (this.#endedMs + this.#restMs - this.#dp.nowMs) | 0);
  }

  // ---- messages -------------------------------------------------------------------------------

  /** Whether each datagram of row `i` is a whole message with the right checksum. */
  #isIntact(i: number): boolean {
    const { batch, view } = this.#dp;
    const pseudo = checksum.pseudo4(batch.source[i], batch.destination[i], ipv4.PROTOCOL_UDP);
    for (let n = 0; n < batch.segments[i]; n++) {
      const l4 = batch.l4[i] + n * batch.stride[i];
      const short = n + 1 === batch.segments[i] ? batch.short[i] : 0;
      const length = view.getUint16(l4 + udp.LENGTH);
      if (length !== batch.end[i] - batch.l4[i] - short) return false;
      if (checksum.fold(checksum.sum(view, l4, length, pseudo + length)) !== 0xffff) return false;
      if (!flowShare.isValid(view, l4 + udp.HEADER, length - udp.HEADER)) return false;
    }
    return true;
  }

  #take(view: DataView, o: number, vtep: number): void {
    const count = view.getUint16(o + flowShare.COUNT);
    const sweep = view.getInt32(o + flowShare.SWEEP);
    if (this.#sweep[vtep] !== sweep) {
      this.#sweep[vtep] = sweep;
      this.#records[vtep] = 0;
    }
    this.#records[vtep] += count;
    for (let n = 0; n < count; n++)
      this.#takeRecord(view, o + flowShare.HEADER + n * flowShare.RECORD, vtep, sweep);
    const last = (view.getUint8(o + flowShare.FLAGS) & flowShare.LAST) !== 0;
    // Where one was lost, what it named must not be removed.
    if (last && view.getInt32(o + flowShare.TOTAL) === this.#records[vtep]) {
      this.#whole[vtep] = sweep;
      this.#due[vtep] |= 1;
      this.#isDue = true;
    }
  }

  #takeRecord(view: DataView, o: number, vtep: number, sweep: number): void {
    const { counters } = this.#dp;
    counters[COUNT_STANDBY_HEARD]++;
    const taken = this.#insert(
      view.getInt32(o + flowShare.CLIENT_ADDRESS),
      view.getInt32(o + flowShare.ASKED_ADDRESS),
      view.getInt32(o + flowShare.BACKEND_ADDRESS),
      view.getInt32(o + flowShare.PORTS),
      view.getUint16(o + flowShare.BACKEND_PORT),
      view.getUint8(o + flowShare.PROTOCOL),
      vtep,
      sweep,
    );
    if (!taken) counters[COUNT_STANDBY_REFUSED]++;
  }

  #insert(
    client: number,
    asked: number,
    backend: number,
    ports: number,
    backendPort: number,
    protocol: number,
    vtep: number,
    sweep: number,
  ): boolean {
    const { tables, flows, draft, liveness, nowMs } = this.#dp;
    const row = tables.vips.find(asked);
    if (row < 0 || tables.vips.place(row, THIS_NODE) < 0 || !isSensible(client, ports, backendPort, protocol))
      return false;
    if (!tables.inPool(backend) || tables.inPool(client) || isOwn(tables, client)) return false;
    const route = tables.routes.lookup(backend);
    if (routeTo(route) === ROUTE_VTEP && !tables.fdb.tags(routeTarget(route))) return false;
    const { words } = flows;
    const teller = tables.fdb.address(vtep);
    const found = flows.find(client, asked, ports, protocol, 0);
    if (found >= 0) {
      const base = flows.base(found >> 1);
      const standby = words[base + FLOW_STATE] === STATE_STANDBY;
      const same =
        (found & 1) === 0 &&
        words[base + FLOW_REPLY + KEY_SOURCE] === backend &&
        words[base + FLOW_REPLY + KEY_PORTS] >>> 16 === backendPort;
      if (same && standby) {
        words[base + FLOW_SWEEP] = sweep;
        words[base + FLOW_INGRESS] = teller;
        words[base + FLOW_SEEN] = nowMs;
      }
      if (same) return true;
      if (!standby && tables.vips.owner(row, liveness.up) === THIS_NODE) return false;
      flows.remove(found >> 1);
    }
    if (flows.size * 4 >= flows.capacity * 3) return false;
    draft.fill(0);
    draft[FLOW_PROTOCOL] = protocol;
    draft[FLOW_STATE] = STATE_STANDBY;
    draft[FLOW_ORIGINAL + KEY_SOURCE] = client;
    draft[FLOW_ORIGINAL + KEY_DESTINATION] = asked;
    draft[FLOW_ORIGINAL + KEY_PORTS] = ports;
    draft[FLOW_REPLY + KEY_SOURCE] = backend;
    draft[FLOW_REPLY + KEY_DESTINATION] = client;
    draft[FLOW_REPLY + KEY_PORTS] = turnedPorts((ports & ~0xffff) | backendPort);
    // Also of a pod of this node: the record by which it answers until then has the key without.
    draft[FLOW_REPLY + KEY_TAG] = flowTag.of(asked, ports & 0xffff, protocol);
    draft[FLOW_FLAGS] = FLAG_DNAT | FLAG_ADOPTED;
    draft[FLOW_OUT] = OUT_ROUTE;
    draft[FLOW_OUT + 1] = OUT_NODE;
    draft[FLOW_INGRESS] = teller;
    draft[FLOW_SWEEP] = sweep;
    return flows.insert(draft, nowMs) >= 0;
  }

  // ---- what is told of no longer --------------------------------------------------------------

  #purge(record: number): void {
    const { flows, tables, liveness } = this.#dp;
    const { words } = flows;
    const base = flows.base(record);
    if (words[base + FLOW_STATE] !== STATE_STANDBY) return;
    const vtep = tables.fdb.byUnderlay(words[base + FLOW_INGRESS]);
    if (vtep < 0 || (this.#due[vtep] & 2) === 0) return;
    const sweep = words[base + FLOW_SWEEP];
    // The next sweep may have begun meanwhile.
    if (sweep === this.#whole[vtep] || sweep === this.#sweep[vtep]) return;
    const row = tables.vips.find(words[base + FLOW_ORIGINAL + KEY_DESTINATION]);
    if (row >= 0 && tables.vips.owner(row, liveness.up) === THIS_NODE) return;
    flows.remove(record);
  }
}

/** Whether a flow may look like this: a unicast client, ports, a protocol that has them. */
function isSensible(client: number, ports: number, backendPort: number, protocol: number): boolean {
  if (protocol !== ipv4.PROTOCOL_TCP && protocol !== ipv4.PROTOCOL_UDP && protocol !== ipv4.PROTOCOL_SCTP)
    return false;
  if (ports >>> 16 === 0 || (ports & 0xffff) === 0 || backendPort === 0) return false;
  return (
    !ipv4.isLoopback(client) &&
    !ipv4.isThisNetwork(client) &&
    !ipv4.isMulticast(client) &&
    !ipv4.isReserved(client)
  );
}
