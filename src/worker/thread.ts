/**
 * Entry of a dataplane thread: breathes until told to stop. Between two breaths it compares one word
 * of memory; only when that has changed does it look for commands. The thread's event loop never
 * runs, so commands are received synchronously.
 */
import { randomInt } from "node:crypto";
import { receiveMessageOnPort, workerData } from "node:worker_threads";
import { native } from "../binding/index.js";
import { RingWriter } from "../capture/CaptureRing.js";
import { PacketCapture } from "../capture/PacketCapture.js";
import { FlowSharing } from "../dataplane/FlowSharing.js";
import { Arena } from "../packet/Arena.js";
import {
  COUNT_CPU_LATENCY_REQUESTS,
  COUNT_RECEIVED,
  COUNT_SERVICE_SWAPS,
  COUNT_SLEEPS,
  COUNT_TABLE_SWAPS,
  serviceTraffic,
  TRAFFIC_WORDS,
} from "../packet/counters.js";
import { ARENA, BFD_PEERS, MAX_PEERS, PORT_UDP } from "../packet/layout.js";
import { FlowTable } from "../tables/FlowTable.js";
import { buildTableImage, Tables } from "../tables/TableImage.js";
import { Announcement } from "./Announcement.js";
import { Breather, type BreathReports } from "./Breather.js";
import { CpuDmaLatency, CpuLatency, LATENCY_WINDOW_MS } from "./CpuLatency.js";
import { EMPTY_TABLES } from "./emptyTables.js";
import { FlowUpkeep } from "./FlowUpkeep.js";
import { PeerLiveness } from "./PeerLiveness.js";
import { ownSession, raiseThread, SessionPriority } from "./priority.js";
import { ANNOUNCING_THREAD, type Answer, CONTROL_SENT, type Command, type ThreadData } from "./protocol.js";

/** Longest sleep; a wake-up by the event descriptor ends it early. */
const SLEEP_MS = 1000;
/** Longest sleep while a drain waits for its answer. */
const DRAIN_LOOK_MS = 10;
/** Destination of BFD control packets (RFC 5881 §4). */
const BFD_UDP_PORT = 3784;

const data = workerData as ThreadData;
const control = new Int32Array(data.control);
const arena = new Arena(native.createArena(ARENA.bytes));
const io = native.createIo(arena.buffer, data.wakeFd);
const counters = new Float64Array(data.counters);
const traffic = new Float64Array(data.traffic);
const flows = new FlowTable(
  data.flows instanceof SharedArrayBuffer ? data.flows : native.mapFile(data.flows.file, data.flows.bytes),
  data.thread,
);
// One thread is enough, for as many as there are.
const upkeep = new FlowUpkeep(flows, data.thread === 0);
/** Chunks of the service table. */
const chunks: SharedArrayBuffer[] = [];
// One thread's to say: another would take back what it raised.
const priority = data.thread === ANNOUNCING_THREAD ? new SessionPriority(ownSession()) : null;
const latency = new CpuLatency(data.cpuLatency ? new CpuDmaLatency() : null);
const reports: BreathReports = {
  portFailed: (port, errno) => answer({ report: { type: "portFailed", port, errno } }),
  fault: (error) => {
    const { message, stack } = error instanceof Error ? error : new Error(String(error));
    answer({ report: { type: "fault", message, stack: stack ?? "" } });
  },
};
const tables = new Tables(buildTableImage(EMPTY_TABLES));
const breather = new Breather(arena, io, counters, tables, flows, reports, traffic);
breather.dataplane.liveness = new PeerLiveness(data.liveness);
let sharing: FlowSharing | null = null;
/** Numbers of the drains that are to be answered. */
const draining: number[] = [];
if (data.thread === ANNOUNCING_THREAD) {
  const report = (event: Extract<Answer, { report: unknown }>["report"]) => answer({ report: event });
  const announcement = new Announcement(
    breather.dataplane,
    {
      ownerChanged: (address, owner) =>
        report({ type: "vipOwner", address, owner, atUs: breather.dataplane.nowUs }),
      conflict: (address, claimant, hi, lo, yielded) =>
        report({ type: "vipConflict", address, claimant, mac: { hi, lo }, yielded }),
      sessionChanged: (peer, from, to, diagnostic) =>
        report({ type: "bfdSession", peer, from, to, diagnostic }),
    },
    randomInt(2 ** 32),
    new PeerLiveness(data.liveness),
  );
  breather.announcement = announcement;
  sharing = new FlowSharing(breather.dataplane, announcement.ownership.announcer, randomInt(2 ** 32) | 0);
}

function answer(message: Answer): void {
  data.commands.postMessage(message);
}

/** Whether this thread receives on ports of a kind. It may send on all. */
function receivesOn(kind: number): boolean {
  if (data.direction === "both") return true;
  return (kind === PORT_UDP) === (data.direction === "fromTunnel");
}

function publish(image: SharedArrayBuffer): void {
  const tables = new Tables(image);
  const { fdb } = tables;
  if (fdb.size > MAX_PEERS) throw new RangeError(`more than ${MAX_PEERS} VTEPs`);
  const before = breather.dataplane.tables.fdb;
  for (let i = 0; i < fdb.size; i++) {
    if (!fdb.used(i)) continue;
    io.setPeer(i, fdb.address(i), fdb.udpPort(i));
    io.setPeer(BFD_PEERS + i, fdb.address(i), BFD_UDP_PORT);
    // Another node's now.
    if (before.byUnderlay(fdb.address(i)) !== i) forget(i * TRAFFIC_WORDS);
  }
  breather.dataplane.tables = tables;
  breather.announcement?.adopt(tables);
  noteSwap(COUNT_TABLE_SWAPS);
}

/** Sets the counts of a VTEP or a Service to zero. */
function forget(counts: number): void {
  traffic.fill(0, counts, counts + TRAFFIC_WORDS);
}

/** All threads swap; one counts. */
function noteSwap(counter: number): void {
  if (data.thread === 0) counters[counter]++;
}

/** Answers drains whose addresses are handed over. */
function answerDrains(): void {
  if (draining.length === 0) return;
  if (breather.announcement?.handedOver() === false) return;
  for (const id of draining.splice(0)) answer({ id, error: null, value: 0 });
}

/** Carries out one command. False: stop. */
function carryOut(command: Command): boolean {
  const { id } = command;
  let error: string | null = null;
  if (command.do === "flush") {
    upkeep.flush(command.tests, (value) => answer({ id, error, value }));
    return true;
  }
  if (command.do === "drain") {
    breather.announcement?.drain(true);
    draining.push(id);
    return true;
  }
  if (command.do === "announcement") {
    const announcement = breather.announcement?.status();
    answer({ id, error, value: 0, ...(announcement === undefined ? {} : { announcement }) });
    return true;
  }
  if (command.do === "stop") {
    breather.announcement?.ownership.takeLeave(breather.dataplane.nowUs);
    breather.execute();
    answer({ id, error, value: 0 });
    return false;
  }
  try {
    if (command.do === "attach") {
      io.addPort(command.port, command.kind, command.fd, receivesOn(command.kind));
      breather.announcement?.attach(command.port, command.kind);
    } else if (command.do === "detach") {
      io.removePort(command.port);
      breather.announcement?.detach(command.port);
    } else if (command.do === "capture") {
      const { capture } = command;
      breather.dataplane.tap =
        capture === null ? null : new PacketCapture(new RingWriter(capture.buffer), capture);
    } else if (command.do === "publish") publish(command.image);
    else if (command.do === "services") {
      const { first, root, generation } = command;
      chunks.splice(first, chunks.length, ...command.chunks);
      breather.dataplane.services.adopt({ chunks, root, generation });
      upkeep.identify(breather.dataplane.services);
      for (const service of command.removed) forget(serviceTraffic(service));
      noteSwap(COUNT_SERVICE_SWAPS);
    }
  } catch (e) {
    error = e instanceof Error ? e.message : String(e);
  }
  // Answered last: what the command asked for has happened.
  answer({ id, error, value: 0 });
  return true;
}

/** What announcement has to do may be due sooner than anything else, a drain's answer within milliseconds. */
function longestWait(most: number): number {
  let longest = draining.length > 0 ? Math.min(most, DRAIN_LOOK_MS) : most;
  longest = breather.dataplane.standby.longestWait(longest);
  if (sharing !== null) longest = sharing.longestWait(longest);
  return breather.announcement?.longestWait(longest) ?? longest;
}

function run(): void {
  let seen = 0;
  for (;;) {
    const longest = latency.held ? LATENCY_WINDOW_MS : SLEEP_MS;
    const timeout = longestWait(upkeep.longestWait(longest, breather.dataplane.nowMs));
    // A thread that has yielded is not woken by what arrives: it comes back when whoever runs instead
    // gives way, or with the next tick. Under load that makes for long trains, else only for delay.
    const busy = breather.breathe(timeout, timeout === 0 || !latency.underLoad ? 0 : data.spinUs);
    priority?.look(breather.dataplane.nowMs, timeout);
    upkeep.tend(breather.dataplane.nowMs, busy);
    breather.dataplane.standby.tend();
    sharing?.tend(busy);
    // Nobody waits for BFD's own wake-ups.
    const sleeps = counters[COUNT_SLEEPS] - breather.ownSleeps;
    latency.look(breather.dataplane.nowUs, sleeps, counters[COUNT_RECEIVED]);
    answerDrains();
    counters[COUNT_CPU_LATENCY_REQUESTS] = latency.requests;
    if (control[CONTROL_SENT] === seen) continue;
    seen = Atomics.load(control, CONTROL_SENT);
    // What is planned was planned for the ports and tables of before.
    breather.execute();
    for (let m = receiveMessageOnPort(data.commands); m; m = receiveMessageOnPort(data.commands)) {
      if (!carryOut(m.message as Command)) return;
    }
  }
}

raiseThread();

try {
  run();
} finally {
  latency.release();
  priority?.release();
  io.close();
  data.commands.close();
}
