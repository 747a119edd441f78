/**
 * The state that the stages share: packet memory, the batch, the plan of what to send, counters,
 * the tables in force, and what is still open within a breath (trains to VTEPs, merged frames to
 * TAPs). Time is an argument. Owns no descriptor and makes no system call: the sink executes.
 */
import type { Arena } from "../packet/Arena.js";
import { BATCH_CAPACITY, Batch, DROPPED } from "../packet/Batch.js";
import { COUNT_DROPS, TRAFFIC } from "../packet/counters.js";
import type { DropReason } from "../packet/DropReason.js";
import { TxPlan } from "../packet/TxPlan.js";
import { AffinityTable } from "../tables/AffinityTable.js";
import type { FlowTable } from "../tables/FlowTable.js";
import { FLOW_WORDS } from "../tables/flowLayout.js";
import { ServiceTable } from "../tables/ServiceTable.js";
import type { Tables } from "../tables/TableImage.js";
import { THIS_NODE } from "../tables/VipTable.js";
import { VipTags } from "../tables/VipTags.js";
import { EgressPorts } from "./EgressPorts.js";
import { FragmentTable } from "./FragmentTable.js";
import { MergeTable } from "./MergeTable.js";
import type { PacketTap } from "./PacketTap.js";
import { StandbyFlows } from "./StandbyFlows.js";
import { TokenBucket } from "./TokenBucket.js";
import { TrainTable } from "./TrainTable.js";

/** Executes the plan, accounts for failures and resets it. */
export interface TxSink {
  execute(): void;
}

/**
 * What is known of nodes, by node number (VTEP index, or THIS_NODE), in memory that another thread may
 * write.
 */
export interface NodeLiveness {
  /** One number, raised after each change of the others. */
  readonly changes: Int32Array;
  /** 1 where a node is alive and may own load-balancer addresses; THIS_NODE's included. */
  readonly up: Uint8Array;
  /** 1 where a node is known to be dead, by VTEP index. */
  readonly down: Uint8Array;
}

/** ICMP errors per second, and at once (Linux: icmp_msgs_per_sec, icmp_msgs_burst). */
const ICMP_RATE = 1000;
const ICMP_BURST = 50;

export class Dataplane {
  readonly view: DataView;
  readonly batch = new Batch();
  readonly plan: TxPlan;
  readonly trains = new TrainTable();
  readonly merges = new MergeTable();
  readonly services = new ServiceTable();
  readonly vipTags = new VipTags(this.services);
  readonly fragments = new FragmentTable();
  readonly egressPorts = new EgressPorts();
  readonly affinities: AffinityTable;
  readonly standby = new StandbyFlows(this);
  /**
   * Scratch of conntrack: rows that may have flows, 1 for each that is like the one before it, the
   * rows to look up, and the record of a flow that begins.
   */
  readonly rows = new Int32Array(BATCH_CAPACITY);
  readonly repeats = new Uint8Array(BATCH_CAPACITY);
  readonly keys = new Int32Array(BATCH_CAPACITY);
  readonly draft = new Int32Array(FLOW_WORDS);
  /** A flow that goes to sleep while the one in `draft` begins. */
  readonly sleeper = new Int32Array(FLOW_WORDS);
  readonly icmpBudget = new TokenBucket(ICMP_RATE, ICMP_BURST);
  /** What is known of other nodes: until somebody runs BFD, that none is dead, and none may own addresses. */
  liveness: NodeLiveness = {
    changes: new Int32Array(1),
    up: new Uint8Array(THIS_NODE + 1),
    down: new Uint8Array(THIS_NODE),
  };
  /** `liveness.changes` when `#someDown` was right. */
  #livenessSeen = 0;
  #someDown = false;
  /** While somebody captures. */
  tap: PacketTap | null = null;
  /** Identification field of packets that the dataplane makes itself. */
  identification = 0;
  /** Monotonic time of this breath in microseconds. */
  nowUs = 0;
  /** The same in milliseconds, modulo 2^32: the flow table's clock. */
  nowMs = 0;
  tables: Tables;

  /** `counters`: COUNTERS doubles; `traffic`: TRAFFIC doubles. */
  constructor(
    readonly arena: Arena,
    readonly counters: Float64Array,
    tables: Tables,
    readonly sink: TxSink,
    readonly flows: FlowTable,
    plan: TxPlan = new TxPlan(arena),
    readonly traffic: Float64Array = new Float64Array(TRAFFIC),
  ) {
    this.view = arena.view;
    this.plan = plan;
    this.tables = tables;
    this.affinities = new AffinityTable(flows);
  }

  /** Whether any node is known to be dead: while none is, no backend needs to be looked at. */
  get someDown(): boolean {
    const { changes, down } = this.liveness;
    if (changes[0] !== this.#livenessSeen) {
      this.#livenessSeen = changes[0];
      this.#someDown = down.includes(1);
    }
    return this.#someDown;
  }

  /** Drops row `i`, with all the frames it stands for. */
  drop(i: number, reason: DropReason): void {
    this.batch.verdict[i] = DROPPED;
    this.batch.out[i] = reason;
    this.counters[COUNT_DROPS + reason] += this.batch.segments[i];
  }

  /**
   * Makes sure that the plan has room for this much more; where it has not, everything that is open
   * is closed, and what was planned is sent.
   */
  reserve(messages: number, pieces: number, slots: number): void {
    if (!this.plan.fits(messages, pieces, slots)) {
      this.closeOpen();
      this.sink.execute();
    }
  }

  /** Closes trains and merged frames, so that the plan may be executed. */
  closeOpen(): void {
    this.trains.reset();
    this.merges.closeAll(this);
  }

  /** Forgets batch and plan without sending: what is in hand cannot be trusted. */
  abandon(): void {
    this.batch.count = 0;
    this.trains.reset();
    this.merges.discard();
    this.plan.reset();
    this.fragments.settleTaken(this);
  }

  /** Next value for the identification field of an IPv4 packet of our own. */
  nextIdentification(): number {
    this.identification = (this.identification + 1) & 0xffff;
    return this.identification;
  }
}
