/**
 * What the control side sees of the dataplane worker: descriptors in, table images in, counters
 * and faults out. The two sides meet here and nowhere else.
 */

import type { CaptureSpec } from "../capture/layout.js";
import type { ServiceImage } from "../tables/ServiceTable.js";
import type { Mac } from "../tables/TableInput.js";

/** Snapshot of a worker's counters. All are totals since the worker started. */
export interface CounterSnapshot {
  /** Frames received from pods, the node and the tunnel (each datagram of a train is one). */
  received: number;
  /** Frames handed on. */
  forwarded: number;
  /** Frames answered by the dataplane itself (ARP). */
  answered: number;
  /** Frames dropped, by DropReason name; reasons that never occurred are left out. */
  dropped: Record<string, number>;
  /** Other counts by name: calls, sleeps, bytes, ICMP errors sent, … */
  other: Record<string, number>;
  loop: LoopCounts;
}

/** How long breaths with packets took, from waking up until the last frame was sent. */
export interface LoopCounts {
  /** Upper bounds of `counts`, inclusive, in microseconds; the last count has what is longer. */
  boundsUs: readonly number[];
  /** Breaths in each interval. */
  counts: number[];
  /** Microseconds of all of them. */
  sumUs: number;
}

/** Packets on the wire, and their bytes from the Ethernet header on. */
export interface TrafficCount {
  packets: number;
  bytes: number;
}

/** Traffic with a VTEP. Totals since the worker started, or since the VTEP has its index. */
export interface VtepTraffic {
  /** What was accepted from it, whatever became of it. */
  received: TrafficCount;
  /** What was handed to the kernel for it, or lost there (drops txBusy, txFailed). */
  sent: TrafficCount;
}

/** What was forwarded of a Service's flows on the node that translates them. Totals. */
export interface ServiceTraffic {
  /** From clients. */
  requests: TrafficCount;
  /** To clients. */
  replies: TrafficCount;
}

/** A load-balancer address as this node sees it. */
export interface VipStatus {
  /** int32. */
  address: number;
  /** VTEP index of its owner, THIS_NODE or NO_NODE (tables/VipTable). */
  owner: number;
  /** Whether this node answers ARP for it: also while it waits for its heir to be heard. */
  answers: boolean;
  /** For how long the owner has been the owner, as this node knows. */
  forMs: number;
}

/** A BFD session; numbers are those of wire/bfd. */
export interface BfdSessionStatus {
  /** VTEP index. */
  peer: number;
  state: number;
  remoteState: number;
  diagnostic: number;
  remoteDiagnostic: number;
  /** The dataplane holds the peer for dead: new flows pass over the endpoints on it. */
  down: boolean;
  /** For how long it has been Up; 0 while it is not. */
  upForMs: number;
  /** Microseconds between packets that are sent, and without one after which the peer is given up. */
  transmitUs: number;
  detectionUs: number;
}

/** What a worker says of announcement. */
export interface AnnouncementStatus {
  /** The LAN interface has a carrier. */
  carrier: boolean;
  drained: boolean;
  /** The peers are known; before that this node owns nothing. */
  settled: boolean;
  vips: VipStatus[];
  sessions: BfdSessionStatus[];
}

/** Something that the worker reports by itself. */
export type WorkerEvent =
  | { type: "portFailed"; port: number; errno: number }
  /** The dataplane threw on a batch. The batch is counted as dropped; the worker goes on. */
  | { type: "fault"; message: string; stack: string }
  /**
   * Another node, this one (THIS_NODE) or nobody (NO_NODE) owns an address from now on; `atUs` is the time
   * of the breath that decided it, CLOCK_MONOTONIC in microseconds.
   */
  | { type: "vipOwner"; address: number; owner: number; atUs: number }
  /**
   * Somebody claims an address that this node owns: a node, or NO_NODE for a device that is none of the
   * cluster. `yielded`: this node has given it up.
   */
  | { type: "vipConflict"; address: number; claimant: number; mac: Mac; yielded: boolean }
  /** A BFD session has changed its state (numbers of wire/bfd). */
  | { type: "bfdSession"; peer: number; from: number; to: number; diagnostic: number }
  /** The thread ended without having been asked to. */
  | { type: "exit"; message: string };

/** Commands to the worker. Each resolves once the worker has carried it out. */
export interface WorkerControl {
  /** Starts polling descriptor `fd` as port `port` (kinds: PORT_* of packet/layout). */
  attachPort(port: number, kind: number, fd: number): Promise<void>;
  /** Stops using a port; afterwards its descriptor may be closed. */
  detachPort(port: number): Promise<void>;
  /** Swaps to a new table image (tables/TableImage) between two breaths. */
  publish(image: SharedArrayBuffer): Promise<void>;
  /** Changes nothing: resolves when every thread has come to its next breath. */
  ping(): Promise<void>;
  /**
   * The same for Services; once resolved, the image before may be acknowledged. Counts of the service
   * ports `removed` are given up.
   */
  publishServices(image: ServiceImage, removed: readonly number[]): Promise<void>;
  /**
   * Removes the flows that match any of `tests` (tables/flowFilter flowTests), a few in each breath.
   * Resolves to their number. What begins after publishServices resolved has a backend of that image.
   */
  flushFlows(tests: readonly Int32Array[]): Promise<number>;
  /**
   * Withdraws this node from every load-balancer address. Resolves when others have been heard to
   * claim them, or after a second at the latest.
   */
  drain(): Promise<void>;
  announcement(): Promise<AnnouncementStatus>;
  counters(): CounterSnapshot;
  /** Traffic with the VTEP that has an index. */
  vtepTraffic(index: number): VtepTraffic;
  /** Traffic of the service port that has a number; of flows of no Service for 0. */
  serviceTraffic(service: number): ServiceTraffic;
  /** Copies packets into rings from now on, in the place of a capture of before. */
  startCapture(capture: CaptureOptions): Promise<void>;
  /** Once resolved, nothing more is written. */
  stopCapture(): Promise<void>;
  /** CLOCK_REALTIME less the clock of the dataplane's times (CLOCK_MONOTONIC), in nanoseconds, as of now. */
  clockOffsetNs(): bigint;
  /** Ends the thread; descriptors stay open and are the caller's to close. */
  stop(): Promise<void>;
}

/** What is to be captured, and where to. */
export interface CaptureOptions extends CaptureSpec {
  /** A ring for each thread (capture/CaptureRing). */
  buffers: readonly SharedArrayBuffer[];
}

/** Memory of a flow table: shared by this process, or a file that outlives it and that each thread maps. */
export type FlowMemory = SharedArrayBuffer | { file: string; bytes: number };

export interface WorkerOptions {
  /** Spinning under load before the thread blocks, in microseconds. */
  spinUs: number;
  /** Whether processors may be kept from sleeping while packets go back and forth (CpuLatency). */
  cpuLatency: boolean;
  /** 1, or 2: one thread for each direction. */
  threads: 1 | 2;
  /** The flow table that the threads work on, formatted (tables/FlowTable) and adopted. */
  flows: FlowMemory;
  onEvent: (event: WorkerEvent) => void;
}
