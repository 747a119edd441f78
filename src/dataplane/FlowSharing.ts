/**
 * The owner of a load-balancer address tells the node that would own it next of its established flows:
 * of those that last, and of younger ones too where the ring would already lead elsewhere, since their
 * backends were chosen from other endpoints, or while another node was dead. What the other node does
 * with it: StandbyFlows. The form of messages: wire/flowShare.
 *
 * Telling of those alone that the present ring leads elsewhere is not enough. Endpoints also change after
 * the owner has died and before the next one is heard: then nobody is left to tell of the flows that
 * agreed until then. Nodes see a change at different times; and a connection that is silent over a
 * takeover may speak when the ring is another one. Short exchanges are not worth a record: they go by the
 * ring.
 *
 * A sweep is one look at all flows, some records after each breath, one batch of messages at most. It
 * begins so often that it takes a hundredth of a thread: after at least SWEEP_MS, or SWEEP_GAP_MS where
 * Services or tables have changed, and longer the more there is to look at and to tell; at once where
 * nodes have come or gone, and with them who is to be told. So what was lost comes again, and what has
 * ended is no longer named. Each node that was told of anything in this sweep, or would be, gets its end,
 * with the number of records. Connections under policy Local are not shared: they end where their address
 * moves. Nor are those with another source port than the client's.
 */
import { COUNT_FLOWS_SHARED } from "../packet/counters.js";
import {
  CSUM_REQUEST,
  CSUM_TO_END,
  CSUM_UDP,
  MAX_PEERS,
  MSG_FRAMES,
  SCRATCH_BYTES,
} from "../packet/layout.js";
import {
  FLAG_DNAT,
  FLAG_SNAT,
  FLOW_CREATED,
  FLOW_FLAGS,
  FLOW_ORIGINAL,
  FLOW_OUT,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_STATE,
  FLOW_STATES,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  OUT_NODE,
  SCTP_ESTABLISHED,
  STATE_STANDBY,
  TCP_ADOPTED,
  TCP_CLOSE_WAIT,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT,
  UDP_STREAM,
} from "../tables/flowLayout.js";
import { FRONTEND_LOCAL } from "../tables/ServiceTable.js";
import type { Tables } from "../tables/TableImage.js";
import { NO_NODE, THIS_NODE } from "../tables/VipTable.js";
import * as checksum from "../wire/checksum.js";
import * as ethernet from "../wire/ethernet.js";
import * as flowShare from "../wire/flowShare.js";
import * as ipv4 from "../wire/ipv4.js";
import * as udp from "../wire/udp.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";
import { chooseBackend, clientHash } from "./loadBalance.js";

/** Milliseconds from the start of a sweep to that of the next at least, where nothing has changed. */
export const SWEEP_MS = 200;
/** And where much does. */
export const SWEEP_GAP_MS = 20;
/** Microseconds for each record that the last sweep looked at, and for each that it told of: a hundred times what it takes. */
const LOOK_US = 4;
const TELL_US = 20;
/** Age in milliseconds from which on a flow is told of whatever the ring says. */
export const LASTING_MS = 250;
/** Records looked at after a breath with packets, and after one without: 10 and 500 µs at most. */
const BUSY_RECORDS = 256;
const IDLE_RECORDS = 16_384;
/** Records that wait to be sent, for all receivers. */
const STAGED = 1024;
const STAGED_WORDS = 6;
/** Records of one scratch slot, and of one message at most. */
const SLOT_RECORDS = Math.floor(SCRATCH_BYTES / flowShare.RECORD);
const MESSAGE_SLOTS = 11;
const MESSAGE_RECORDS = MESSAGE_SLOTS * SLOT_RECORDS;
const TTL = 64;
const HEADERS = ipv4.HEADER_MIN + udp.HEADER + flowShare.HEADER;

/** States of flows that are shared: those that carry data, half-closed ones too, and those told of by others. */
const SHARED = new Uint8Array(FLOW_STATES);
for (const state of [
  TCP_ADOPTED,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT,
  TCP_CLOSE_WAIT,
  UDP_STREAM,
  SCTP_ESTABLISHED,
  STATE_STANDBY,
]) {
  SHARED[state] = 1;
}

/** Who knows which load-balancer addresses this node answers for (Announcer). */
export interface VipOwner {
  owns(address: number): boolean;
}

export class FlowSharing {
  readonly #dp: Dataplane;
  readonly #owner: VipOwner;
  /** Number of the sweep; where it goes on, -1 between two. */
  #sweep: number;
  #hand = -1;
  #startedMs = 0;
  /** Milliseconds that the last sweep's work is worth. */
  #restMs = 0;
  /** Records told in this sweep, to all receivers. */
  #told = 0;
  /** What the last sweep went by. */
  #tables: Tables | null = null;
  #generation = -1;
  #changes = -1;
  /** The node to tell of each row's flows, NO_NODE without. */
  #heirs = new Int32Array(0);
  /** By VTEP index: 1 where this sweep has something to tell, 2 where the last one had. */
  readonly #receivers = new Uint8Array(MAX_PEERS);
  /** Records told in this sweep, by VTEP index. */
  readonly #totals = new Int32Array(MAX_PEERS);
  /** [VTEP index, client, asked, backend, ports, port of the backend << 16 | protocol]; index -1: sent. */
  readonly #staged = new Int32Array(STAGED * STAGED_WORDS);
  #stagedCount = 0;
  readonly #picked = new Int32Array(MESSAGE_RECORDS);

  /** `seed`: any int32; another one after a restart, so that sweeps of before are told from those after. */
  constructor(dp: Dataplane, owner: VipOwner, seed: number) {
    this.#dp = dp;
    this.#owner = owner;
    this.#sweep = seed;
  }

  /** Whether a sweep is not at its end. */
  get sweeping(): boolean {
    return this.#hand >= 0;
  }

  /** Milliseconds that the thread may sleep, at most `longest`. */
  longestWait(longest: number): number {
    if (this.#hand >= 0) return 0;
    if (this.#tables === null) return 0;
    const wait = this.#startedMs + this.#gapMs() - this.#dp.nowMs;
    return Math.min(longest, Math.max(0, wait | 0));
  }

  /** Between two breaths: looks at some flows, and plans messages. `busy`: the breath had packets. */
  tend(busy: boolean): void {
    const { flows } = this.#dp;
    if (this.#hand < 0 && (!this.#isDue() || !this.#start())) return;
    const end = Math.min(flows.used, this.#hand + (busy ? BUSY_RECORDS : IDLE_RECORDS));
    flows.enterBreath();
    while (this.#hand < end && this.#stagedCount < STAGED) this.#look(flows.base(this.#hand++));
    flows.leaveBreath();
    if (this.#stagedCount === STAGED) this.#flush();
    if (this.#hand < flows.used) return;
    this.#flush();
    this.#end();
    this.#restMs = Math.ceil((flows.used * LOOK_US + this.#told * TELL_US) / 1000);
    this.#hand = -1;
  }

  // ---- a sweep --------------------------------------------------------------------------------

  #isDue(): boolean {
    if (this.#tables === null) return true;
    return ((this.#dp.nowMs - this.#startedMs) | 0) >= this.#gapMs();
  }

  /** Milliseconds from the start of the last sweep to that of the next, as things are now. */
  #gapMs(): number {
    const { tables, services, liveness } = this.#dp;
    if (this.#changes !== liveness.changes[0]) return SWEEP_GAP_MS;
    const isStale = this.#tables !== tables || this.#generation !== services.generation;
    return Math.max(isStale ? SWEEP_GAP_MS : SWEEP_MS, this.#restMs);
  }

  /** Begins a sweep. False where nobody is to be told of anything. */
  #start(): boolean {
    const { tables, services, liveness, nowMs } = this.#dp;
    const { vips } = tables;
    this.#startedMs = nowMs;
    this.#tables = tables;
    this.#generation = services.generation;
    this.#changes = liveness.changes[0];
    if (this.#heirs.length !== vips.size) this.#heirs = new Int32Array(vips.size);
    let told = false;
    for (let row = 0; row < vips.size; row++) {
      const heir = this.#owner.owns(vips.address(row)) ? this.#heirOf(row) : NO_NODE;
      this.#heirs[row] = heir;
      if (heir === NO_NODE) continue;
      this.#receivers[heir] |= 1;
      told = true;
    }
    // Who owns nothing, or is alone, has nobody to tell, and nobody forgets what it told.
    if (!told) return false;
    this.#sweep = (this.#sweep + 1) | 0;
    this.#totals.fill(0);
    this.#told = 0;
    this.#hand = 0;
    return true;
  }

  /** The node that owns a row if this one dies; while it hands over to one that stands before it, that one. */
  #heirOf(row: number): number {
    const { tables, liveness } = this.#dp;
    const { vips, fdb } = tables;
    const count = vips.candidates(row);
    for (let place = 0; place < count; place++) {
      const node = vips.candidate(row, place);
      if (
        node !== THIS_NODE &&
        liveness.up[node] !== 0 &&
        node < fdb.size &&
        fdb.used(node) &&
        fdb.tags(node)
      )
        return node;
    }
    return NO_NODE;
  }

  /** Stages the flow at `base` where it is to be told of. */
  #look(base: number): void {
    const dp = this.#dp;
    const { words } = dp.flows;
    if (SHARED[words[base + FLOW_STATE]] === 0) return;
    if ((words[base + FLOW_FLAGS] & (FLAG_DNAT | FLAG_SNAT)) !== FLAG_DNAT) return;
    if (words[base + FLOW_OUT + 1] !== OUT_NODE) return;
    const asked = words[base + FLOW_ORIGINAL + KEY_DESTINATION];
    const row = dp.tables.vips.find(asked);
    // Tables may have come in the middle of the sweep: another one follows.
    if (row < 0 || dp.tables !== this.#tables || this.#heirs[row] === NO_NODE) return;
    const client = words[base + FLOW_ORIGINAL + KEY_SOURCE];
    const ports = words[base + FLOW_ORIGINAL + KEY_PORTS];
    const protocol = words[base + FLOW_PROTOCOL];
    const backend = words[base + FLOW_REPLY + KEY_SOURCE];
    const backendPort = words[base + FLOW_REPLY + KEY_PORTS] >>> 16;
    const age = (dp.nowMs - words[base + FLOW_CREATED]) | 0;
    if (!this.#needsTelling(client, asked, ports, protocol, backend, backendPort, age)) return;
    const at = this.#stagedCount++ * STAGED_WORDS;
    const staged = this.#staged;
    staged[at] = this.#heirs[row];
    staged[at + 1] = client;
    staged[at + 2] = asked;
    staged[at + 3] = backend;
    staged[at + 4] = ports;
    staged[at + 5] = (backendPort << 16) | protocol;
  }

  /** Whether the next owner has to be told of a flow of `age` milliseconds. */
  #needsTelling(
    client: number,
    asked: number,
    ports: number,
    protocol: number,
    backend: number,
    backendPort: number,
    age: number,
  ): boolean {
    const dp = this.#dp;
    const { services } = dp;
    const frontend = services.find(asked, protocol, ports & 0xffff);
    if (frontend < 0) return true;
    if ((services.flags(frontend) & FRONTEND_LOCAL) !== 0) return false;
    if (age >= LASTING_MS) return true;
    const ring = services.outsideRing(frontend);
    if (ring < 0 || !services.accepts(frontend, client)) return true;
    const hash = clientHash(services, frontend, client, ports >>> 16, protocol);
    const choice = chooseBackend(dp, ring, hash);
    return services.address(choice) !== backend || services.l4Port(choice) !== backendPort;
  }

  // ---- messages -------------------------------------------------------------------------------

  /** Plans messages with all that is staged. */
  #flush(): void {
    const staged = this.#staged;
    for (let n = 0; n < this.#stagedCount; n++) {
      const vtep = staged[n * STAGED_WORDS];
      if (vtep < 0) continue;
      const most = this.#mostRecords();
      let count = 0;
      for (let other = n; other < this.#stagedCount; other++) {
        if (staged[other * STAGED_WORDS] !== vtep) continue;
        staged[other * STAGED_WORDS] = -1;
        this.#picked[count++] = other * STAGED_WORDS;
        if (count < most) continue;
        this.#send(vtep, 0, count, 0);
        count = 0;
      }
      if (count > 0) this.#send(vtep, 0, count, 0);
    }
    this.#stagedCount = 0;
  }

  /** Ends the sweep for all who were told, or were the last time. */
  #end(): void {
    const receivers = this.#receivers;
    const { fdb } = this.#dp.tables;
    for (let vtep = 0; vtep < MAX_PEERS; vtep++) {
      if (receivers[vtep] === 0) continue;
      if (vtep < fdb.size && fdb.used(vtep)) this.#send(vtep, flowShare.LAST, 0, this.#totals[vtep]);
      receivers[vtep] = (receivers[vtep] & 1) << 1;
    }
  }

  /** Records that fit into a message. */
  #mostRecords(): number {
    const room = Math.floor((this.#dp.tables.mtu - HEADERS) / flowShare.RECORD);
    return Math.max(1, Math.min(MESSAGE_RECORDS, room));
  }

  /** Plans a message with `count` of the picked records. */
  #send(vtep: number, flags: number, count: number, total: number): void {
    const dp = this.#dp;
    const { plan, tables, view } = dp;
    const slots = Math.ceil(count / SLOT_RECORDS);
    dp.reserve(1, 1 + slots, 1 + slots);
    const slot = plan.slot();
    const l4 = this.#emitHeaders(slot, vtep, HEADERS + count * flowShare.RECORD);
    flowShare.emitHeader(view, l4 + udp.HEADER, flags, count, this.#sweep, total);
    const csum = CSUM_REQUEST | CSUM_TO_END | CSUM_UDP | (l4 - slot) | (udp.CHECKSUM << 8);
    const bytes = l4 - slot + udp.HEADER + flowShare.HEADER;
    const m = plan.message(tables.tunnelPort, vtep, slot, bytes, csum);
    dp.trains.close(vtep);
    for (let n = 0; n < count; n += SLOT_RECORDS) {
      const records = Math.min(SLOT_RECORDS, count - n);
      const at = plan.slot();
      for (let r = 0; r < records; r++) this.#emitStaged(at + r * flowShare.RECORD, this.#picked[n + r]);
      plan.append(m, at, records * flowShare.RECORD, 0);
    }
    plan.msg[m + MSG_FRAMES] = 0;
    this.#totals[vtep] += count;
    this.#told += count;
    dp.counters[COUNT_FLOWS_SHARED] += count;
  }

  /** VXLAN to UDP, with the sum of the pseudo-header as checksum; `total`: bytes from IPv4 on. Where UDP begins. */
  #emitHeaders(slot: number, vtep: number, total: number): number {
    const dp = this.#dp;
    const { tables, view } = dp;
    const { fdb } = tables;
    const frame = slot + vxlan.HEADER;
    const l3 = frame + ethernet.HEADER;
    const l4 = l3 + ipv4.HEADER_MIN;
    const source = tables.tunnelAddress;
    const destination = fdb.tunnelAddress(vtep);
    vxlan.emit(view, slot, tables.vni);
    ethernet.emit(
      view,
      frame,
      fdb.macHi(vtep),
      fdb.macLo(vtep),
      tables.macHi,
      tables.macLo,
      ethernet.TYPE_IPV4,
    );
    ipv4.emit(view, l3, total, dp.nextIdentification(), 0, TTL, ipv4.PROTOCOL_UDP, source, destination);
    const length = total - ipv4.HEADER_MIN;
    view.setUint16(l4 + udp.SOURCE_PORT, udp.PORT_FLOW_SHARE);
    view.setUint16(l4 + udp.DESTINATION_PORT, udp.PORT_FLOW_SHARE);
    view.setUint16(l4 + udp.LENGTH, length);
    const pseudo = checksum.pseudo4(source, destination, ipv4.PROTOCOL_UDP);
    view.setUint16(l4 + udp.CHECKSUM, checksum.fold(pseudo + length));
    return l4;
  }

  #emitStaged(o: number, at: number): void {
    const staged = this.#staged;
    const rest = staged[at + 5];
    flowShare.emitRecord(
      this.#dp.view,
      o,
      staged[at + 1],
      staged[at + 2],
      staged[at + 3],
      staged[at + 4],
      rest >>> 16,
      rest & 0xff,
    );
  }
}
