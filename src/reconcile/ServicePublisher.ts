/**
 * Brings Services to the worker: compiles what has changed, publishes the image, lets go of what
 * only older images used, and then removes the flows that must not go on. One at a time; what is
 * asked for meanwhile is done in one go afterwards. Must not know where the objects come from.
 *
 *   compile ─▶ all threads adopt ─▶ acknowledge ─▶ UDP flows to backends that are gone
 *
 * The flows come last: as long as a thread has the image of before, it could begin another to the
 * same backend. Routes to backends are the table image's matter; who has a new one of both publishes
 * that first, so that no Service leads where there is no route yet; but for a new worker, which forwards
 * nothing before its first tables. An endpoint leaves its Service
 * before its pod ends, so that the other way round nothing is to be gained.
 */
import type { RemovedBackend, Services } from "../desired/services.js";
import { SERVICE_PROTOCOLS } from "../model/Service.js";
import { flowTests } from "../tables/flowFilter.js";
import type { ServiceImage } from "../tables/ServiceTable.js";
import type { WorkerControl } from "../worker/control.js";
import { type Log, SILENT } from "./Log.js";

/** Told of passes, for metrics. */
export interface PublishObserver {
  /** A pass was asked for. */
  queued(): void;
  /**
   * A pass is over that took so many milliseconds and brought everything to the dataplane. `triggers`:
   * when what it brought had happened, Unix milliseconds.
   */
  published(durationMs: number, triggers: readonly number[]): void;
}

const NOBODY: PublishObserver = { queued: () => {}, published: () => {} };

export class ServicePublisher {
  private queue: Promise<void> = Promise.resolve();
  private waiting: Promise<void> | null = null;
  /** What all threads of the worker have. */
  private adopted: ServiceImage | null = null;
  /** Backends that are gone and whose flows may still be there. */
  private removed: RemovedBackend[] = [];
  /** Service ports that are gone and whose counts the worker may still have. */
  private removedServices: number[] = [];
  /** Of changes that are compiled and not all published. */
  private triggers: number[] = [];
  private readonly told = new Set<string>();
  private failed = false;

  constructor(
    private readonly services: Services,
    private worker: WorkerControl,
    private readonly log: Log = SILENT,
    private readonly observer: PublishObserver = NOBODY,
  ) {}

  /**
   * Publishes everything up to now. What fails is logged and tried again with the next call. Never
   * rejects.
   */
  publish(): Promise<void> {
    this.observer.queued();
    this.waiting ??= this.enqueue(async () => {
      this.waiting = null;
      try {
        await this.pass();
        this.failed = false;
      } catch (error) {
        this.failed = true;
        this.log.error({ err: error }, "could not bring the Services to the dataplane; will try again");
      }
    });
    return this.waiting;
  }

  /** The image that the dataplane has, null before the first. Its segments hold until the next turn of the loop. */
  get image(): ServiceImage | null {
    return this.adopted;
  }

  /** Whether the dataplane has everything that was to be published. */
  get upToDate(): boolean {
    return this.waiting === null && !this.failed;
  }

  /** Goes on with a new worker, which gets everything. */
  replaceWorker(worker: WorkerControl): Promise<void> {
    void this.enqueue(async () => {
      this.worker = worker;
      this.adopted = null;
    });
    // One that waits already comes before it.
    this.waiting = null;
    return this.publish();
  }

  private enqueue(work: () => Promise<void>): Promise<void> {
    this.queue = this.queue.then(work);
    return this.queue;
  }

  private async pass(): Promise<void> {
    const start = performance.now();
    await this.bring();
    this.observer.published(performance.now() - start, this.triggers);
    this.triggers = [];
  }

  private async bring(): Promise<void> {
    const { triggers, image, removedBackends, removedServices, services, problems } = this.services.compile();
    this.removedServices.push(...removedServices);
    this.triggers.push(...triggers);
    for (const backend of removedBackends) if (backend.protocol === "UDP") this.removed.push(backend);
    this.tell(problems);
    if (image.generation !== this.adopted?.generation) {
      await this.worker.publishServices(image, this.removedServices);
      this.removedServices = [];
      this.services.acknowledge(image);
      this.adopted = image;
      this.log.debug({ changed: services.length, generation: image.generation }, "published Services");
    }
    if (this.removed.length === 0) return;
    const { removed } = this;
    const flows = await this.worker.flushFlows(removed.map(testsOf));
    this.removed = [];
    this.log.debug({ backends: removed.length, flows }, "removed UDP flows to endpoints that are gone");
  }

  /** Each problem once, until it is over. */
  private tell(problems: string[]): void {
    for (const problem of problems) if (!this.told.has(problem)) this.log.warn({}, problem);
    this.told.clear();
    for (const problem of problems) this.told.add(problem);
  }
}

function testsOf({ service, backend, protocol }: RemovedBackend): Int32Array {
  return flowTests({ protocol: SERVICE_PROTOCOLS[protocol], service, backend });
}
