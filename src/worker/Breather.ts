/**
 * One dataplane thread's loop body: poll, receive, run the stages, send; and what a frame must not
 * do to it. Owns the accounts; knows neither thread nor command.
 *
 *   breathe: send what was planned since ─▶ wait ─▶ receive                (one native call)
 *            rows ─▶ stages ─▶ plan, in batches of BATCH_CAPACITY ─▶ send   (another)
 *            announcement, waiting fragments, counters
 */
import type { NativeIo } from "../binding/types.js";
import { Dataplane, type TxSink } from "../dataplane/Dataplane.js";
import { runPipeline } from "../dataplane/pipeline.js";
import type { Arena } from "../packet/Arena.js";
import { BATCH_CAPACITY } from "../packet/Batch.js";
import {
  COUNT_ANSWERED,
  COUNT_BREATHS,
  COUNT_DROPS,
  COUNT_FORWARDED,
  COUNT_RECEIVED,
  COUNT_REPLIES_LOST,
  COUNT_RX_CALLS,
  COUNT_SLEEPS,
  COUNT_SPIN_HITS,
  COUNT_TAKEOVERS,
  COUNT_TX_CALLS,
  COUNT_UNMERGED,
  COUNT_WAKES,
  LOOP_BOUNDS_US,
  LOOP_COUNTS,
  LOOP_SUM_US,
} from "../packet/counters.js";
import { DROP_REASONS, DropReason } from "../packet/DropReason.js";
import {
  MSG_ERRNO,
  MSG_FRAMES,
  MSG_STRIDE,
  RX_FLAG_ERROR,
  RX_FLAGS,
  RX_LENGTH,
  RX_PEER_PORT,
  RX_PORT,
  RX_STRIDE,
  STATUS_FAILED,
  STATUS_NOW_US,
  STATUS_RX_CALLS,
  STATUS_SENT_US,
  STATUS_SLEEPS,
  STATUS_SPIN_HITS,
  STATUS_TX_CALLS,
  STATUS_UNMERGED,
  STATUS_WAKES,
} from "../packet/layout.js";
import { TxPlan } from "../packet/TxPlan.js";
import { receiveRaw } from "../port/RawPort.js";
import { receiveTap } from "../port/TapPort.js";
import { MAX_TRAIN, receiveVxlan } from "../port/VxlanPort.js";
import type { FlowTable } from "../tables/FlowTable.js";
import type { Tables } from "../tables/TableImage.js";
import type { Announcement } from "./Announcement.js";

/** Steps of announcement in a breath. */
const BEGIN = 0;
const RECEIVE = 1;
const END = 2;

const EIO = 5;
const EAGAIN = 11;
const ENODEV = 19;
const EBADFD = 77;
const ENOBUFS = 105;

/** Reports of a breath, made outside the packet path. */
export interface BreathReports {
  portFailed(port: number, errno: number): void;
  fault(error: unknown): void;
}

export class Breather implements TxSink {
  readonly dataplane: Dataplane;
  /** Null where another thread has it, or where it has failed. */
  announcement: Announcement | null = null;
  /** Sleeps that ended for announcement's sake alone. */
  ownSleeps = 0;
  /** In this breath there is something to do for announcement. */
  #announcing = false;
  /** COUNT_TAKEOVERS when announcements were last sent without delay. */
  #takeovers = 0;
  /** COUNT_FORWARDED when the plan was last empty. */
  #settled = 0;

  constructor(
    readonly arena: Arena,
    readonly io: NativeIo,
    readonly counters: Float64Array,
    tables: Tables,
    readonly flows: FlowTable,
    readonly reports: BreathReports,
    traffic?: Float64Array,
  ) {
    this.dataplane = new Dataplane(arena, counters, tables, this, flows, new TxPlan(arena), traffic);
  }

  /**
   * Waits up to `timeoutMs`, and sends on what arrives; first, what was planned since the breath before.
   * True if anything arrived.
   */
  breathe(timeoutMs: number, spinUs: number): boolean {
    const { dataplane, io, arena } = this;
    // What is refused is looked at before other bytes take its place.
    if (dataplane.tap !== null) this.execute();
    const received = io.breathe(dataplane.plan.messages, timeoutMs, spinUs);
    this.#settle();
    dataplane.nowUs = arena.status[STATUS_NOW_US];
    dataplane.nowMs = Math.floor(dataplane.nowUs / 1000) | 0;
    this.#announcing = false;
    if (this.announcement !== null && dataplane.nowUs >= this.announcement.due[0]) this.#beginAnnouncing();
    let frames = false;
    if (received > 0) {
      this.flows.enterBreath();
      frames = this.#handle(received);
      this.flows.leaveBreath();
      // Before all that nobody waits for: about a microsecond of each packet's way.
      this.execute();
      this.#noteLoop(arena.status[STATUS_SENT_US] - dataplane.nowUs);
    }
    if (this.#announcing) {
      this.#announce(END, 0);
      this.#hurry();
    }
    dataplane.fragments.expire(dataplane);
    this.#publishStatus(frames);
    return received > 0;
  }

  /** A breath with packets took `us` microseconds, from its end of waiting until its frames were sent. */
  #noteLoop(us: number): void {
    const { counters } = this;
    let bucket = 0;
    while (bucket < LOOP_BOUNDS_US.length && us > LOOP_BOUNDS_US[bucket]) bucket++;
    counters[LOOP_COUNTS + bucket]++;
    counters[LOOP_SUM_US] += us;
  }

  /** TxSink: sends what is planned at once. */
  execute(): void {
    this.io.execute(this.dataplane.plan.messages);
    this.#settle();
  }

  /**
   * A step of announcement. Should it throw, which it never should, this node falls silent, so that
   * others take over.
   */
  #announce(step: number, d: number): void {
    const { announcement } = this;
    if (announcement === null) return;
    try {
      if (step === BEGIN) announcement.begin();
      else if (step === END) announcement.end();
      else announcement.receive(d);
    } catch (error) {
      this.announcement = null;
      this.reports.fault(error);
    }
  }

  /** A takeover is announced now, not after all that is tended to between two breaths. */
  #hurry(): void {
    const takeovers = this.counters[COUNT_TAKEOVERS];
    if (takeovers === this.#takeovers) return;
    this.#takeovers = takeovers;
    this.execute();
  }

  #beginAnnouncing(): void {
    if (this.#announcing) return;
    this.#announcing = true;
    this.#announce(BEGIN, 0);
  }

  /** Whether there was a frame among what was received. */
  #handle(received: number): boolean {
    const { dataplane, arena, counters } = this;
    const { batch } = dataplane;
    const { rx } = arena;
    let frames = false;
    const { tunnelPort, icmpPort, reassemblyPort } = dataplane.tables;
    for (let n = 0; n < received; n++) {
      const d = n * RX_STRIDE;
      const port = rx[d + RX_PORT];
      if ((rx[d + RX_FLAGS] & RX_FLAG_ERROR) !== 0) {
        this.reports.portFailed(port, rx[d + RX_LENGTH]);
        continue;
      }
      if (this.announcement?.takes(port) === true) {
        this.#beginAnnouncing();
        this.#announce(RECEIVE, d);
        continue;
      }
      frames = true;
      if (port === tunnelPort) {
        const first = batch.count;
        receiveVxlan(arena, d, batch, counters);
        if (dataplane.tap !== null) dataplane.tap.arrivedFrom(first, batch.count, rx[d + RX_PEER_PORT]);
      } else if (port === icmpPort || port === reassemblyPort) {
        receiveRaw(arena, d, batch, dataplane.tables.nodePort);
      } else {
        receiveTap(arena, d, batch);
      }
      if (batch.count > BATCH_CAPACITY - MAX_TRAIN) this.#run();
    }
    if (batch.count > 0) this.#run();
    dataplane.closeOpen();
    return frames;
  }

  #run(): void {
    try {
      runPipeline(this.dataplane);
    } catch (error) {
      this.#abandon(error);
    }
  }

  /**
   * The dataplane threw, which it should never do. What it had in hand, planned frames included, is
   * given up as dropped, since nobody knows how far it had come; the next batch starts clean.
   */
  #abandon(error: unknown): void {
    const { dataplane, counters } = this;
    counters[COUNT_FORWARDED] = this.#settled;
    this.#endCapture();
    dataplane.abandon();
    let accounted = counters[COUNT_FORWARDED] + counters[COUNT_ANSWERED];
    for (let reason = 0; reason < DROP_REASONS; reason++) accounted += counters[COUNT_DROPS + reason];
    counters[COUNT_DROPS + DropReason.internalError] += counters[COUNT_RECEIVED] - accounted;
    this.reports.fault(error);
  }

  /** A capture may be what threw. It is told of the batch, its last one in this thread. */
  #endCapture(): void {
    const { dataplane } = this;
    const { tap } = dataplane;
    dataplane.tap = null;
    try {
      tap?.abandoned(dataplane);
    } catch (error) {
      this.reports.fault(error);
    }
  }

  /** Accounts for messages that failed, and empties the plan. */
  #settle(): void {
    const { arena, dataplane } = this;
    if (arena.status[STATUS_FAILED] !== 0) this.#accountFailures(dataplane.plan.messages);
    dataplane.plan.reset();
    this.#settled = this.counters[COUNT_FORWARDED];
  }

  #accountFailures(messages: number): void {
    const { counters } = this;
    const { msg } = this.arena;
    for (let n = 0; n < messages; n++) {
      const m = n * MSG_STRIDE;
      const errno = msg[m + MSG_ERRNO];
      if (errno === 0) continue;
      const frames = msg[m + MSG_FRAMES];
      if (frames === 0) counters[COUNT_REPLIES_LOST]++;
      counters[COUNT_FORWARDED] -= frames;
      const reason = reasonOf(errno);
      counters[COUNT_DROPS + reason] += frames;
      this.dataplane.tap?.refused(this.dataplane, m, reason);
    }
    this.arena.status[STATUS_FAILED] = 0;
  }

  #publishStatus(frames: boolean): void {
    const { counters } = this;
    const { status } = this.arena;
    counters[COUNT_BREATHS]++;
    if (!frames && status[STATUS_SLEEPS] !== counters[COUNT_SLEEPS]) this.ownSleeps++;
    counters[COUNT_UNMERGED] = status[STATUS_UNMERGED];
    counters[COUNT_SLEEPS] = status[STATUS_SLEEPS];
    counters[COUNT_SPIN_HITS] = status[STATUS_SPIN_HITS];
    counters[COUNT_WAKES] = status[STATUS_WAKES];
    counters[COUNT_RX_CALLS] = status[STATUS_RX_CALLS];
    counters[COUNT_TX_CALLS] = status[STATUS_TX_CALLS];
  }
}

function reasonOf(errno: number): DropReason {
  if (errno === EAGAIN || errno === ENOBUFS) return DropReason.txBusy;
  if (errno === EIO || errno === ENODEV || errno === EBADFD) return DropReason.portDown;
  return DropReason.txFailed;
}
