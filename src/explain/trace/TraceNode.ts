/**
 * One node's dataplane over copies of its live tables and flows, for one packet at a time: its own
 * stages, run one by one over a batch of one row, with what the row says before and after each. What
 * the packet begins (a flow) stays for the answer to it. Decides nothing itself, and writes to nothing
 * that a worker has.
 */

import { Dataplane, type NodeLiveness } from "../../dataplane/Dataplane.js";
import { clientHash, frontendOf, isFromInside, keptBackend, slotOf } from "../../dataplane/loadBalance.js";
import { STAGES } from "../../dataplane/pipeline.js";
import { Arena } from "../../packet/Arena.js";
import { KIND_IPV4, PENDING } from "../../packet/Batch.js";
import { COUNT_DROPS, COUNTERS } from "../../packet/counters.js";
import { DROP_REASONS, type DropReason } from "../../packet/DropReason.js";
import { ARENA, HEADROOM, MSG_FRAMES, MSG_PEER, MSG_PORT, MSG_STRIDE } from "../../packet/layout.js";
import { finishChecksums, piecesOf, plannedBytes } from "../../packet/planned.js";
import { FlowReader, type FlowRecord } from "../../tables/FlowReader.js";
import { FlowTable, newFlowTable } from "../../tables/FlowTable.js";
import { FLOW_CREATED, FLOW_SEEN, FLOW_WORDS } from "../../tables/flowLayout.js";
import type { ServiceImage } from "../../tables/ServiceTable.js";
import { Tables } from "../../tables/TableImage.js";
import { THIS_NODE } from "../../tables/VipTable.js";
import * as ethernet from "../../wire/ethernet.js";
import * as ipv4 from "../../wire/ipv4.js";
import * as virtioNet from "../../wire/virtioNet.js";

export type StageName = keyof typeof STAGES;
export const STAGE_NAMES = Object.keys(STAGES) as readonly StageName[];

/** Flows beside those that were there: what one packet and its answer begin. */
const SPARE_FLOWS = 16;

/** What is copied of a node. */
export interface NodeCopy {
  /** Table image (tables/TableImage). */
  image: ArrayBufferLike;
  /** Null where it has no Services. */
  services: ServiceImage | null;
  /** Records of the flow table, FLOW_WORDS each. */
  flows: Int32Array;
  /** Entries of the affinity table, AFFINITY_WORDS each. */
  affinities: Int32Array;
  /** The flow table's clock, milliseconds modulo 2^32. */
  nowMs: number;
  /** Node numbers (VTEP index, THIS_NODE) of those that may own addresses, and VTEP indices of the dead. */
  up: readonly number[];
  down: readonly number[];
  /** Which egress port is next (EgressPorts.state); the first ones where it is not known. */
  egressPorts?: Uint16Array;
}

/** How a packet comes in: from a TAP, out of the tunnel, or heard by a raw socket of the node. */
export type Arriving =
  | { by: "tap"; port: number; packet: Uint8Array }
  /** `datagram` from the VXLAN header on, `peer` the underlay address that it comes from. */
  | { by: "tunnel"; peer: number; datagram: Uint8Array }
  | { by: "heard"; packet: Uint8Array };

/** What leaves. `answer`: made by the dataplane itself (ICMP error, TCP reset). */
export type Leaving =
  | { by: "tap"; port: number; packet: Uint8Array; frame: Uint8Array; answer: boolean }
  | { by: "tunnel"; vtep: number; datagram: Uint8Array; answer: boolean };

/** The row's columns, as numbers. */
export interface Row {
  verdict: number;
  length: number;
  vtep: number;
  tag: number;
  kind: number;
  protocol: number;
  source: number;
  destination: number;
  ports: number;
  flow: number;
  direction: number;
  via: number;
  out: number;
  /** Bytes from the Ethernet header on, as they are at this moment. */
  frame: Uint8Array;
}

export interface StageRecord {
  stage: StageName;
  before: Row;
  after: Row;
  /** Why the packet was dropped here, -1 where it was not. */
  drop: DropReason | -1;
  /** The packet's flow before and after conntrack, where there is one. */
  flowBefore: FlowRecord | null;
  flowAfter: FlowRecord | null;
  /** Conntrack: the Service that a packet without flow asks for. */
  choice: ServiceChoice | null;
}

/** What load balancing has to choose from. */
export interface ServiceChoice {
  /** Row of the service table. */
  row: number;
  /** Of inside traffic or of outside traffic; RING_REJECT or RING_DROP instead. */
  ring: number;
  inside: boolean;
  /** Slot that the client is led to, -1 where there is no ring. */
  slot: number;
  /** The slot taken: the same, or the next one whose endpoint's node is not dead. */
  taken: number;
  /** The client has an endpoint from before (session affinity). */
  kept: boolean;
}

/** One packet's way through one node. */
export interface HopRecord {
  arriving: Arriving;
  /** Stages that had something to do. */
  stages: StageRecord[];
  drop: DropReason | -1;
  leaves: Leaving[];
}

export class TraceNode {
  readonly dataplane: Dataplane;
  readonly tables: Tables;
  readonly #arena = new Arena(new ArrayBuffer(ARENA.bytes));
  readonly #counters = new Float64Array(COUNTERS);
  readonly #reader: FlowReader;
  #leaves: Leaving[] = [];

  /** Throws RangeError where the copy is none of this version. */
  constructor({ image, services, flows, affinities, nowMs, up, down, egressPorts }: NodeCopy) {
    this.tables = new Tables(image);
    const table = copyOf(flows, nowMs);
    this.#reader = new FlowReader(table.words.buffer);
    this.dataplane = new Dataplane(
      this.#arena,
      this.#counters,
      this.tables,
      { execute: () => this.#take() },
      table,
    );
    if (services !== null) this.dataplane.services.adopt(services);
    this.dataplane.liveness = livenessOf(up, down);
    if (egressPorts !== undefined) this.dataplane.egressPorts.restore(egressPorts);
    this.dataplane.affinities.restore(affinities);
    this.dataplane.nowMs = nowMs;
    this.dataplane.nowUs = (nowMs >>> 0) * 1000;
  }

  /** Takes one packet through all stages. */
  receive(arriving: Arriving): HopRecord {
    const { dataplane } = this;
    const { batch, flows } = dataplane;
    this.#leaves = [];
    flows.enterBreath();
    this.#put(arriving);
    const stages: StageRecord[] = [];
    let drop: DropReason | -1 = -1;
    for (const stage of STAGE_NAMES) {
      const before = this.#row();
      const flowBefore = stage === "conntrack" ? this.#flowOf(before) : null;
      const choice = stage === "conntrack" && flowBefore === null ? this.#choiceOf(before) : null;
      const dropsBefore = this.#counters.slice(COUNT_DROPS, COUNT_DROPS + DROP_REASONS);
      STAGES[stage](dataplane);
      const after = this.#row();
      const dropped = dropsBefore.findIndex(
        (count, reason) => this.#counters[COUNT_DROPS + reason] !== count,
      );
      if (dropped >= 0) drop = dropped as DropReason;
      const flowAfter =
        stage === "conntrack" && after.flow >= 0 ? this.#reader.read(after.flow, dataplane.nowMs) : null;
      if (concerns(stage, before, after))
        stages.push({
          stage,
          before,
          after,
          drop: dropped as DropReason | -1,
          flowBefore,
          flowAfter,
          choice,
        });
    }
    batch.count = 0;
    dataplane.closeOpen();
    this.#take();
    flows.leaveBreath();
    return { arriving, stages, drop, leaves: this.#leaves };
  }

  /** The bytes into the arena, a row into the batch: what ports do. */
  #put(arriving: Arriving): void {
    const { batch } = this.dataplane;
    const { bytes, view } = this.#arena;
    const { tables } = this;
    if (arriving.by === "tunnel") {
      const at = ARENA.rxUdp + HEADROOM + 2;
      bytes.set(arriving.datagram, at);
      const i = batch.push(at, arriving.datagram.length, tables.tunnelPort);
      batch.peer[i] = arriving.peer;
      return;
    }
    const at = ARENA.rxTap + HEADROOM + virtioNet.HEADER;
    const port = arriving.by === "tap" ? arriving.port : tables.nodePort;
    ethernet.emit(
      view,
      at,
      ethernet.GATEWAY_HI,
      ethernet.GATEWAY_LO,
      arriving.by === "tap" ? tables.ports.macHi(port) : 0,
      arriving.by === "tap" ? tables.ports.macLo(port) : 0,
      ethernet.TYPE_IPV4,
    );
    bytes.set(arriving.packet, at + ethernet.HEADER);
    const i = batch.push(at, ethernet.HEADER + arriving.packet.length, port);
    if (arriving.by === "heard") batch.heard[i] = 1;
  }

  /** The flow that a row's packet belongs to; null without. */
  #flowOf({ kind, protocol, source, destination, ports, tag }: Row): FlowRecord | null {
    if (kind === 0 || (protocol === ipv4.PROTOCOL_ICMP && ports === 0)) return null;
    const { flows, nowMs } = this.dataplane;
    const found = flows.find(source, destination, ports, protocol, tag);
    return found < 0 ? null : this.#reader.read(found >> 1, nowMs);
  }

  /** What a packet that begins a flow asks for; null where it is no Service's, or came by the tunnel. */
  #choiceOf({ verdict, kind, vtep, source, ports, protocol }: Row): ServiceChoice | null {
    const { dataplane } = this;
    const { services } = dataplane;
    if (verdict !== PENDING || kind !== KIND_IPV4 || vtep >= 0 || services.size === 0) return null;
    const row = frontendOf(dataplane, 0);
    if (row < 0) return null;
    const inside = isFromInside(dataplane, 0);
    const ring = inside ? services.insideRing(row) : services.outsideRing(row);
    if (ring < 0) return { row, ring, inside, slot: -1, taken: -1, kept: false };
    const hash = clientHash(services, row, source, ports >>> 16, protocol);
    const slot = services.slot(ring, hash);
    const taken = slotOf(dataplane, ring, hash);
    const kept = services.affinitySeconds(row) > 0 && keptBackend(dataplane, row, ring, source) >= 0;
    return { row, ring, inside, slot, taken, kept };
  }

  #row(): Row {
    const { batch } = this.dataplane;
    const offset = batch.offset[0];
    return {
      verdict: batch.verdict[0],
      length: batch.length[0],
      vtep: batch.vtep[0],
      tag: batch.tag[0],
      kind: batch.kind[0],
      protocol: batch.protocol[0],
      source: batch.source[0],
      destination: batch.destination[0],
      ports: batch.ports[0],
      flow: batch.flow[0],
      direction: batch.direction[0],
      via: batch.via[0],
      out: batch.out[0],
      frame: this.#arena.bytes.slice(offset, offset + batch.length[0]),
    };
  }

  /** TxSink: what is planned has left. */
  #take(): void {
    const { plan, trains } = this.dataplane;
    const { msg } = this.#arena;
    for (let n = 0; n < plan.messages; n++) {
      const m = n * MSG_STRIDE;
      const pieces = piecesOf(this.#arena, m);
      if (pieces === null) throw new RangeError("a planned message outside the arena");
      finishChecksums(this.#arena, pieces);
      const bytes = plannedBytes(this.#arena, pieces);
      const port = msg[m + MSG_PORT];
      const answer = msg[m + MSG_FRAMES] === 0;
      if (port === this.tables.tunnelPort) {
        this.#leaves.push({ by: "tunnel", vtep: msg[m + MSG_PEER], datagram: bytes, answer });
      } else {
        const frame = bytes.slice(virtioNet.HEADER);
        this.#leaves.push({ by: "tap", port, packet: frame.slice(ethernet.HEADER), frame, answer });
      }
    }
    trains.reset();
    plan.reset();
  }
}

function livenessOf(up: readonly number[], down: readonly number[]): NodeLiveness {
  // Another than a dataplane has seen, so that it looks.
  const changes = Int32Array.of(1);
  const liveness = { changes, up: new Uint8Array(THIS_NODE + 1), down: new Uint8Array(THIS_NODE) };
  for (const node of up) liveness.up[node] = 1;
  for (const vtep of down) liveness.down[vtep] = 1;
  return liveness;
}

/** A flow table with these records. */
function copyOf(records: Int32Array, nowMs: number): FlowTable {
  const count = records.length / FLOW_WORDS;
  let capacity = 64;
  while (capacity < count + SPARE_FLOWS) capacity *= 2;
  const table = new FlowTable(newFlowTable(capacity));
  for (let n = 0; n < count; n++) {
    const record = records.slice(n * FLOW_WORDS, (n + 1) * FLOW_WORDS);
    const inserted = table.insert(record, nowMs);
    // Two of one key cannot have been in the table at once: the one came while the other was copied.
    if (inserted < 0) continue;
    const base = table.base(inserted);
    for (const word of [FLOW_SEEN, FLOW_CREATED]) table.words[base + word] = record[word];
  }
  return table;
}

/** Whether a stage looked at the packet at all. */
function concerns(stage: StageName, before: Row, after: Row): boolean {
  if (before.verdict !== after.verdict) return true;
  if (stage === "decap") return after.vtep >= 0;
  if (stage === "encap") return false;
  if (stage === "coalesce") return false;
  if (stage === "neighbor") return false;
  return before.verdict === PENDING;
}
