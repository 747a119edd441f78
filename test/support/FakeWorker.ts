/**
 * A WorkerControl without threads. It holds the control side to the contract: a published table
 * names only ports that are attached, and a port is detached only when no table names it.
 */
import { FlowTable, newFlowTable } from "../../src/tables/FlowTable.js";
import { type ServiceImage, ServiceTable } from "../../src/tables/ServiceTable.js";
import type { TableInput } from "../../src/tables/TableInput.js";
import type {
  AnnouncementStatus,
  CaptureOptions,
  CounterSnapshot,
  ServiceTraffic,
  VtepTraffic,
  WorkerControl,
} from "../../src/worker/control.js";

export class FakeWorker implements WorkerControl {
  /** Descriptor and kind by port number. */
  readonly ports = new Map<number, { kind: number; fd: number }>();
  /** Every command, in order: "attach 3", "detach 3", "publish". */
  readonly commands: string[] = [];
  /** Every published input, in order. */
  readonly published: TableInput[] = [];
  /** Breaches of the contract. */
  readonly breaches: string[] = [];
  stopped = false;
  private refusing = false;
  /** What services and flows are asked for ends with this. */
  failure: Error | null = null;
  /** What was published of Services. */
  readonly services = new ServiceTable();
  private readonly inputs: Map<SharedArrayBuffer, TableInput>;

  /**
   * @param former takes images that the former one's buildImage made
   * @param flows the table that flushFlows works on
   */
  constructor(
    former?: FakeWorker,
    public flows = new FlowTable(newFlowTable(64)),
  ) {
    this.inputs = former?.inputs ?? new Map();
  }

  /** To be given as buildImage. */
  readonly buildImage = (input: TableInput): SharedArrayBuffer => {
    const image = new SharedArrayBuffer(8);
    this.inputs.set(image, structuredClone(input));
    return image;
  };

  /** The input published last. */
  get tables(): TableInput {
    const last = this.published.at(-1);
    if (last === undefined) throw new Error("nothing was published");
    return last;
  }

  async attachPort(port: number, kind: number, fd: number): Promise<void> {
    this.commands.push(`attach ${port}`);
    if (this.ports.has(port)) this.breaches.push(`port ${port} attached twice`);
    this.ports.set(port, { kind, fd });
  }

  async detachPort(port: number): Promise<void> {
    this.commands.push(`detach ${port}`);
    const named = this.published.at(-1)?.ports.some((each) => each.port === port) === true;
    if (named) this.breaches.push(`port ${port} detached while the table names it`);
    this.ports.delete(port);
  }

  async publishServices(image: ServiceImage, removed: readonly number[] = []): Promise<void> {
    this.commands.push("publishServices");
    if (this.failure !== null) throw this.failure;
    this.services.adopt(image);
    for (const service of removed) this.served.delete(service);
  }

  async flushFlows(tests: readonly Int32Array[]): Promise<number> {
    this.commands.push("flushFlows");
    if (this.failure !== null) throw this.failure;
    let removed = 0;
    for (const each of tests) {
      for (let at = 0; at >= 0; removed += this.flows.flushed) at = this.flows.flush(each, at, 1 << 20);
    }
    return removed;
  }

  async publish(image: SharedArrayBuffer): Promise<void> {
    this.commands.push("publish");
    if (this.refusing) throw new Error("refused");
    const input = this.inputs.get(image);
    if (input === undefined) throw new Error("an image that buildImage did not make");
    for (const { port } of input.ports)
      if (!this.ports.has(port)) this.breaches.push(`port ${port} published but not attached`);
    this.published.push(input);
  }

  async ping(): Promise<void> {}

  /** Takes no table, until the returned function is called. */
  refuse(): () => void {
    this.refusing = true;
    return () => {
      this.refusing = false;
    };
  }

  async drain(): Promise<void> {
    this.commands.push("drain");
  }

  /** What it says of announcement; an error where it does not answer. */
  announces: AnnouncementStatus | Error = {
    carrier: true,
    drained: false,
    settled: true,
    vips: [],
    sessions: [],
  };

  async announcement(): Promise<AnnouncementStatus> {
    if (this.announces instanceof Error) throw this.announces;
    return this.announces;
  }

  counters(): CounterSnapshot {
    const loop = { boundsUs: [10, 100], counts: [2, 1, 0], sumUs: 60 };
    return { received: 7, forwarded: 5, answered: 1, dropped: { noRoute: 1 }, other: {}, loop };
  }

  /** Traffic by VTEP index, and by number of service port. */
  readonly vteps = new Map<number, VtepTraffic>();
  readonly served = new Map<number, ServiceTraffic>();

  vtepTraffic(index: number): VtepTraffic {
    const none = { packets: 0, bytes: 0 };
    return this.vteps.get(index) ?? { received: none, sent: none };
  }

  serviceTraffic(service: number): ServiceTraffic {
    const none = { packets: 0, bytes: 0 };
    return this.served.get(service) ?? { requests: none, replies: none };
  }

  /** What is captured, null for nothing. */
  capture: CaptureOptions | null = null;

  async startCapture(capture: CaptureOptions): Promise<void> {
    this.commands.push("startCapture");
    if (this.failure !== null) throw this.failure;
    this.capture = capture;
  }

  async stopCapture(): Promise<void> {
    this.commands.push("stopCapture");
    this.capture = null;
  }

  clockOffsetNs(): bigint {
    return 1_700_000_000_000_000_000n - process.hrtime.bigint();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.ports.clear();
  }
}
