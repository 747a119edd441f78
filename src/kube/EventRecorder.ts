/**
 * Writes Events about objects. The same event again becomes a higher count of the first one, as
 * kubectl's "x5 over 2m" shows it, and one object cannot flood the server. Never throws and never
 * waits: an Event that cannot be written is only logged.
 */
import { createHash } from "node:crypto";
import { type Clock, SYSTEM_CLOCK } from "./Clock.js";
import type { KubeApi, KubeObject, ResourceRef } from "./KubeApi.js";
import { isAlreadyExists, isNotFound } from "./KubeError.js";
import { apiVersionOf, EVENTS } from "./resources.js";
import type { Event, ObjectReference } from "./types.js";

/** The same event later than this after the last one is a new Event. */
const AGGREGATE_MS = 600_000;
/** Events of one object from one source: this many at once, then one each REFILL_MS (client-go's limits). */
const BURST = 25;
const REFILL_MS = 300_000;
/** Different events remembered, and written but not acknowledged. */
const MOST_REMEMBERED = 4096;
const MOST_QUEUED = 1000;

export interface EventRecorderOptions {
  /** Who reports: "podwire-agent". */
  component: string;
  /** Node that it runs on. */
  host?: string;
  clock?: Clock;
  onError?: (error: unknown) => void;
}

interface Remembered {
  name: string;
  namespace: string;
  count: number;
  first: string;
  last: number;
}

export class EventRecorder {
  private readonly remembered = new Map<string, Remembered>();
  private readonly tokens = new Map<string, { left: number; at: number }>();
  private readonly clock: Clock;
  private queue: Promise<void> = Promise.resolve();
  private queued = 0;

  constructor(
    private readonly api: KubeApi,
    private readonly options: EventRecorderOptions,
  ) {
    this.clock = options.clock ?? SYSTEM_CLOCK;
  }

  /** Reports that `reason` (CamelCase) happened to an object. */
  record(
    resource: ResourceRef,
    object: KubeObject,
    type: "Normal" | "Warning",
    reason: string,
    message: string,
  ): void {
    const { name = "", namespace, uid, resourceVersion } = object.metadata;
    const about: ObjectReference = {
      apiVersion: apiVersionOf(resource),
      kind: resource.kind,
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    };
    const id = `${about.kind}/${namespace ?? ""}/${name}/${uid ?? ""}`;
    if (this.queued >= MOST_QUEUED || !this.allows(id)) return;
    this.queued++;
    this.queue = this.queue
      .then(() => this.write(about, type, reason, message))
      .catch((error: unknown) => this.options.onError?.(error))
      .finally(() => {
        this.queued--;
      });
  }

  /** Resolves when everything reported so far is written, or has failed. */
  flush(): Promise<void> {
    return this.queue;
  }

  private async write(
    about: ObjectReference,
    type: "Normal" | "Warning",
    reason: string,
    message: string,
  ): Promise<void> {
    const key = JSON.stringify([about.kind, about.namespace, about.name, about.uid, type, reason, message]);
    const known = this.remembered.get(key);
    const now = this.clock.now();
    const time = seconds(this.clock.date());
    if (known !== undefined && now - known.last <= AGGREGATE_MS) {
      known.count++;
      known.last = now;
      try {
        const patch = { count: known.count, lastTimestamp: time };
        await this.api.patch(EVENTS, known.name, known.namespace, "merge", patch);
        return;
      } catch (error) {
        // It has expired on the server: a new one.
        if (!isNotFound(error)) throw error;
      }
    }
    await this.create(key, about, type, reason, message, time);
  }

  private async create(
    key: string,
    about: ObjectReference,
    type: "Normal" | "Warning",
    reason: string,
    message: string,
    time: string,
  ): Promise<void> {
    const { component, host } = this.options;
    const now = this.clock.now();
    const namespace = about.namespace ?? "default";
    const stamp = this.clock.date().getTime().toString(16).padStart(12, "0");
    const digest = createHash("sha1").update(key).digest("hex").slice(0, 6);
    const name = `${about.name}.${stamp}${digest}`;
    const event: Event = {
      metadata: { name, namespace },
      involvedObject: about,
      type,
      reason,
      message,
      source: { component, ...(host === undefined ? {} : { host }) },
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
      reportingComponent: component,
      reportingInstance: host ?? "",
    };
    try {
      await this.api.create(EVENTS, event);
    } catch (error) {
      // The answer to a first attempt was lost, or a clock stands still: it is there.
      if (!isAlreadyExists(error)) throw error;
    }
    this.remembered.delete(key);
    this.remembered.set(key, { name, namespace, count: 1, first: time, last: now });
    forgetOldest(this.remembered);
  }

  private allows(id: string): boolean {
    const now = this.clock.now();
    const bucket = this.tokens.get(id) ?? { left: BURST, at: now };
    const left = Math.min(BURST, bucket.left + (now - bucket.at) / REFILL_MS);
    this.tokens.delete(id);
    this.tokens.set(id, { left: left >= 1 ? left - 1 : left, at: now });
    forgetOldest(this.tokens);
    return left >= 1;
  }
}

function forgetOldest(map: Map<string, unknown>): void {
  if (map.size <= MOST_REMEMBERED) return;
  for (const key of map.keys()) {
    map.delete(key);
    return;
  }
}

function seconds(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, "Z");
}
