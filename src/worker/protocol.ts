/** Messages between the control side and a dataplane thread. Types only. */
import type { MessagePort } from "node:worker_threads";
import type { CaptureSpec } from "../capture/layout.js";
import type { AnnouncementStatus, FlowMemory, WorkerEvent } from "./control.js";

/** What a thread receives on: everything, or one direction only. */
export type Direction = "both" | "fromTaps" | "fromTunnel";

/** Index into the control words: commands sent so far. The thread compares it once a breath. */
export const CONTROL_SENT = 0;
export const CONTROL_WORDS = 1;

export interface ThreadData {
  direction: Direction;
  spinUs: number;
  /** Whether it may keep processors from sleeping (CpuLatency). */
  cpuLatency: boolean;
  wakeFd: number;
  /** CONTROL_WORDS int32. */
  control: SharedArrayBuffer;
  /** COUNTERS doubles. */
  counters: SharedArrayBuffer;
  /** TRAFFIC doubles. */
  traffic: SharedArrayBuffer;
  /** The flow table, formatted (tables/FlowTable), and this thread's number in it. */
  flows: FlowMemory;
  thread: number;
  /** PEER_LIVENESS_BYTES (PeerLiveness), written by ANNOUNCING_THREAD. */
  liveness: SharedArrayBuffer;
  commands: MessagePort;
}

/** What a thread captures, and into which ring. */
export type ThreadCapture = CaptureSpec & { buffer: SharedArrayBuffer };

export type Command =
  | { id: number; do: "attach"; port: number; kind: number; fd: number }
  | { id: number; do: "detach"; port: number }
  | { id: number; do: "publish"; image: SharedArrayBuffer }
  /** Nothing but an answer. */
  | { id: number; do: "ping" }
  | {
      id: number;
      do: "services";
      /** The image's chunks from number `first` on: the thread has those before. */
      first: number;
      chunks: SharedArrayBuffer[];
      root: number;
      generation: number;
      /** Service ports that are gone: their counts are given up. */
      removed: readonly number[];
    }
  /** Answered with the number of flows when the last one is removed, some breaths later. */
  | { id: number; do: "flush"; tests: readonly Int32Array[] }
  /** Withdraw from every load-balancer address; answered when they are handed over. */
  | { id: number; do: "drain" }
  | { id: number; do: "announcement" }
  /** Null: no more. */
  | { id: number; do: "capture"; capture: ThreadCapture | null }
  | { id: number; do: "stop" };

/** The thread that runs BFD and answers for load-balancer addresses. */
export const ANNOUNCING_THREAD = 0;

/** Answers to commands, and reports. */
export type Answer =
  | { id: number; error: string | null; value: number; announcement?: AnnouncementStatus }
  | { report: Exclude<WorkerEvent, { type: "exit" }> };
