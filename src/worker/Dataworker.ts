/**
 * The control side's end of the dataplane threads: starts them, sends commands, adds up counters.
 * Several threads take every command alike; they differ in what they receive on.
 */
import { MessageChannel, Worker } from "node:worker_threads";
import { native } from "../binding/index.js";
import {
  COUNT_ANSWERED,
  COUNT_DROPS,
  COUNT_FORWARDED,
  COUNT_RECEIVED,
  COUNTERS,
  LOOP_BOUNDS_US,
  LOOP_COUNTS,
  LOOP_SUM_US,
  OTHER_COUNTERS,
  serviceTraffic,
  TRAFFIC,
  TRAFFIC_WORDS,
} from "../packet/counters.js";
import { DROP_REASON_NAMES } from "../packet/DropReason.js";
import type { ServiceImage } from "../tables/ServiceTable.js";
import type {
  AnnouncementStatus,
  CaptureOptions,
  CounterSnapshot,
  ServiceTraffic,
  TrafficCount,
  VtepTraffic,
  WorkerControl,
  WorkerEvent,
  WorkerOptions,
} from "./control.js";
import { PEER_LIVENESS_BYTES } from "./PeerLiveness.js";
import {
  ANNOUNCING_THREAD,
  type Answer,
  CONTROL_SENT,
  CONTROL_WORDS,
  type Command,
  type Direction,
  type ThreadData,
} from "./protocol.js";

/** Command without its number. */
type Order = Command extends infer C ? (C extends { id: number } ? Omit<C, "id"> : never) : never;

type Reply = Extract<Answer, { id: number }>;

/** One thread. */
class DataplaneThread {
  readonly counters = new SharedArrayBuffer(COUNTERS * 8);
  /** Pages that nobody writes take no memory. */
  readonly traffic = new SharedArrayBuffer(TRAFFIC * 8);
  readonly #control = new Int32Array(new SharedArrayBuffer(CONTROL_WORDS * 4));
  readonly #wakeFd = native.openEvent();
  readonly #channel = new MessageChannel();
  readonly #waiting = new Map<number, { resolve: (answer: Reply) => void; reject: (error: Error) => void }>();
  readonly #worker: Worker;
  #lastId = 0;
  /** Chunks of the service table that the thread has. */
  #chunks = 0;
  #stopping = false;
  #ended = false;
  #stopped: Promise<void> | null = null;

  constructor(
    direction: Direction,
    thread: number,
    liveness: SharedArrayBuffer,
    { spinUs, cpuLatency, flows, onEvent }: WorkerOptions,
  ) {
    const workerData: ThreadData = {
      direction,
      spinUs,
      cpuLatency,
      wakeFd: this.#wakeFd,
      control: this.#control.buffer as SharedArrayBuffer,
      counters: this.counters,
      traffic: this.traffic,
      flows,
      thread,
      liveness,
      commands: this.#channel.port2,
    };
    this.#worker = new Worker(new URL("./thread.js", import.meta.url), {
      name: `dataplane ${direction}`,
      workerData,
      transferList: [this.#channel.port2],
      // The steady state makes no garbage; a small young generation keeps the process small.
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 64 },
    });
    this.#channel.port1.on("message", (answer: Answer) => {
      if ("report" in answer) onEvent(answer.report);
      else this.#settle(answer);
    });
    this.#worker.on("error", (error) => this.#end(onEvent, error.message));
    this.#worker.on("exit", (code) => {
      this.#ended = true;
      this.#end(onEvent, `thread exited with code ${code}`);
    });
  }

  /** Resolves when the thread has carried it out, to what it answers; rejects with what it threw. */
  order(order: Order): Promise<Reply> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      if (this.#stopping) {
        reject(new Error("the dataplane thread has ended"));
        return;
      }
      this.#waiting.set(id, { resolve, reject });
      this.#channel.port1.postMessage({ ...order, id });
      Atomics.add(this.#control, CONTROL_SENT, 1);
      native.signalEvent(this.#wakeFd);
    });
  }

  /** Only chunks that the thread has not are sent: a large table has dozens, and a change touches few. */
  async publishServices(
    { chunks, root, generation }: ServiceImage,
    removed: readonly number[],
  ): Promise<void> {
    const first = this.#chunks;
    this.#chunks = chunks.length;
    await this.order({ do: "services", first, chunks: chunks.slice(first), root, generation, removed });
  }

  /** Ends the thread, waits until it is gone, and closes what was between it and us. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    if (!this.#ended) {
      const gone = new Promise<void>((resolve) => this.#worker.once("exit", () => resolve()));
      // The thread's end is the answer; its message may be lost with it.
      this.order({ do: "stop" }).catch(() => {});
      this.#stopping = true;
      await gone;
    }
    this.#channel.port1.close();
    native.close(this.#wakeFd);
  }

  #settle(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.error === null) waiting?.resolve(reply);
    else waiting?.reject(new Error(reply.error));
  }

  #end(onEvent: (event: WorkerEvent) => void, message: string): void {
    const expected = this.#stopping;
    this.#stopping = true;
    for (const { reject } of this.#waiting.values()) reject(new Error(message));
    this.#waiting.clear();
    if (!expected) onEvent({ type: "exit", message });
  }
}

class Dataworker implements WorkerControl {
  constructor(readonly threads: DataplaneThread[]) {}

  async attachPort(port: number, kind: number, fd: number): Promise<void> {
    await this.#all({ do: "attach", port, kind, fd });
  }

  async detachPort(port: number): Promise<void> {
    await this.#all({ do: "detach", port });
  }

  async publish(image: SharedArrayBuffer): Promise<void> {
    await this.#all({ do: "publish", image });
  }

  async ping(): Promise<void> {
    await this.#all({ do: "ping" });
  }

  async publishServices(image: ServiceImage, removed: readonly number[]): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.publishServices(image, removed)));
  }

  /** All threads share the table: one is enough. */
  async flushFlows(tests: readonly Int32Array[]): Promise<number> {
    return (await this.threads[0]!.order({ do: "flush", tests })).value;
  }

  async drain(): Promise<void> {
    await this.threads[ANNOUNCING_THREAD]!.order({ do: "drain" });
  }

  async announcement(): Promise<AnnouncementStatus> {
    const { announcement } = await this.threads[ANNOUNCING_THREAD]!.order({ do: "announcement" });
    if (announcement === undefined) throw new Error("announcement has failed in the dataplane");
    return announcement;
  }

  counters(): CounterSnapshot {
    const sum = new Float64Array(COUNTERS);
    for (const thread of this.threads) {
      const own = new Float64Array(thread.counters);
      for (let i = 0; i < COUNTERS; i++) sum[i] += own[i];
    }
    const dropped: Record<string, number> = {};
    DROP_REASON_NAMES.forEach((name, reason) => {
      if (sum[COUNT_DROPS + reason] !== 0) dropped[name] = sum[COUNT_DROPS + reason];
    });
    return {
      received: sum[COUNT_RECEIVED],
      forwarded: sum[COUNT_FORWARDED],
      answered: sum[COUNT_ANSWERED],
      dropped,
      other: Object.fromEntries(Object.entries(OTHER_COUNTERS).map(([name, i]) => [name, sum[i]])),
      loop: {
        boundsUs: LOOP_BOUNDS_US,
        counts: [...sum.subarray(LOOP_COUNTS, LOOP_COUNTS + LOOP_BOUNDS_US.length + 1)],
        sumUs: sum[LOOP_SUM_US],
      },
    };
  }

  vtepTraffic(index: number): VtepTraffic {
    const [received, sent] = this.#traffic(index * TRAFFIC_WORDS);
    return { received, sent };
  }

  serviceTraffic(service: number): ServiceTraffic {
    const [requests, replies] = this.#traffic(serviceTraffic(service));
    return { requests, replies };
  }

  /** Both directions of what counts from `at` on, over all threads. */
  #traffic(at: number): [TrafficCount, TrafficCount] {
    const sum = new Float64Array(TRAFFIC_WORDS);
    for (const { traffic } of this.threads) {
      const own = new Float64Array(traffic, at * 8, TRAFFIC_WORDS);
      for (let i = 0; i < TRAFFIC_WORDS; i++) sum[i] += own[i];
    }
    const [packets, bytes, otherPackets, otherBytes] = sum;
    return [
      { packets, bytes },
      { packets: otherPackets, bytes: otherBytes },
    ];
  }

  async startCapture({ buffers, ...capture }: CaptureOptions): Promise<void> {
    if (buffers.length !== this.threads.length) throw new RangeError("one ring for each thread");
    await Promise.all(
      this.threads.map((thread, n) =>
        thread.order({ do: "capture", capture: { ...capture, buffer: buffers[n] } }),
      ),
    );
  }

  async stopCapture(): Promise<void> {
    await this.#all({ do: "capture", capture: null });
  }

  clockOffsetNs(): bigint {
    return native.clockOffset();
  }

  async stop(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.stop()));
  }

  async #all(order: Order): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.order(order)));
  }
}

/** Starts the dataplane: one thread, or one for each direction. Rejects where a thread does not start. */
export async function startWorker(options: WorkerOptions): Promise<WorkerControl> {
  const directions: Direction[] = options.threads === 2 ? ["fromTaps", "fromTunnel"] : ["both"];
  const liveness = new SharedArrayBuffer(PEER_LIVENESS_BYTES);
  const threads = directions.map((d, thread) => new DataplaneThread(d, thread, liveness, options));
  const worker = new Dataworker(threads);
  // Once it is answered, the threads breathe.
  await worker.ping();
  return worker;
}
