/**
 * What the control side sees of the dataplane worker: descriptors in, table images in, counters
 * and faults out. The two sides meet here and nowhere else.
 */

import type { ServiceImage } from "../tables/ServiceTable.js";

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
}

/** Something that the worker reports by itself. */
export type WorkerEvent =
  | { type: "portFailed"; port: number; errno: number }
  /** The dataplane threw on a batch. The batch is counted as dropped; the worker goes on. */
  | { type: "fault"; message: string; stack: string }
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
  /** The same for Services; once resolved, the image before may be acknowledged. */
  publishServices(image: ServiceImage): Promise<void>;
  /**
   * Removes the flows that match any of `tests` (tables/flowFilter flowTests), a few in each breath.
   * Resolves to their number. What begins after publishServices resolved has a backend of that image.
   */
  flushFlows(tests: readonly Int32Array[]): Promise<number>;
  counters(): CounterSnapshot;
  /** Ends the thread; descriptors stay open and are the caller's to close. */
  stop(): Promise<void>;
}

/** Memory of a flow table: shared by this process, or a file that outlives it and that each thread maps. */
export type FlowMemory = SharedArrayBuffer | { file: string; bytes: number };

export interface WorkerOptions {
  /** Spinning before the thread blocks, in microseconds. */
  spinUs: number;
  /** Whether processors may be kept from sleeping while packets go back and forth (CpuLatency). */
  cpuLatency: boolean;
  /** 1, or 2: one thread for each direction. */
  threads: 1 | 2;
  /** The flow table that the threads work on, formatted (tables/FlowTable) and adopted. */
  flows: FlowMemory;
  onEvent: (event: WorkerEvent) => void;
}
