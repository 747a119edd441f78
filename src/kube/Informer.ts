/**
 * A local copy of the objects of one kind, kept up to date: list, then watch from there. What breaks
 * is taken up again where it stopped; only where the server no longer keeps that point (410) is
 * there a new list, and then what differs is told as changes. Handlers see every change of the copy
 * in order, each after the copy has it. Must not know what the objects are for.
 */
import { type BackoffOptions, backoff, type Clock, SYSTEM_CLOCK, sleep } from "./Clock.js";
import type { KubeApi, KubeObject, ListOptions, ResourceRef, WatchEvent } from "./KubeApi.js";
import { isExpired } from "./KubeError.js";

/** A watch that ends sooner than this without an event counts as a failure. */
const SHORT_WATCH_MS = 1000;
const BACKOFF: BackoffOptions = { first: 100, most: 10_000 };

export interface Handler<T> {
  added?: (object: T) => void;
  /** Also called by resync, then with the same object twice. */
  updated?: (object: T, old: T) => void;
  /** The last state that was seen of it. */
  deleted?: (object: T) => void;
}

export interface InformerOptions<T> extends ListOptions {
  /** Values under which `byIndex` finds an object, by name of the index. */
  indices?: Record<string, (object: T) => string[]>;
  /** Tells handlers of every object anew, every so many milliseconds. 0 (default): never. */
  resyncMs?: number;
  /** Makes an object smaller before it is kept. */
  transform?: (object: T) => T;
  /**
   * What is kept of an object when the handlers have been told of it: at least its metadata's name,
   * namespace, uid and resourceVersion. For handlers that keep what they need themselves.
   */
  retain?: (object: T) => T;
  backoff?: BackoffOptions;
  clock?: Clock;
  random?: () => number;
  /** Told when a list or watch fails, and when a handler throws. */
  onError?: (error: unknown) => void;
}

export class Informer<T extends KubeObject> {
  private readonly objects = new Map<string, T>();
  private readonly indices = new Map<string, { values: (object: T) => string[]; keys: Index }>();
  private readonly handlers: Handler<T>[] = [];
  private readonly clock: Clock;
  private readonly abort = new AbortController();
  private running: Promise<void> | null = null;
  private version = "";
  private hasSynced = false;
  private isConnected = false;
  private reportSynced!: () => void;
  private cancelResync = () => {};
  /** Resolves after the first list was taken over, handlers included. */
  readonly synced = new Promise<void>((resolve) => {
    this.reportSynced = resolve;
  });

  constructor(
    private readonly api: KubeApi,
    readonly resource: ResourceRef,
    private readonly options: InformerOptions<T> = {},
  ) {
    this.clock = options.clock ?? SYSTEM_CLOCK;
    for (const [name, values] of Object.entries(options.indices ?? {}))
      this.indices.set(name, { values, keys: new Map() });
  }

  /** Adds a handler; it is told at once of what is there already. */
  addHandler(handler: Handler<T>): this {
    this.handlers.push(handler);
    for (const object of this.objects.values()) this.call(() => handler.added?.(object));
    return this;
  }

  start(): this {
    if (this.running === null && !this.abort.signal.aborted) {
      this.running = this.run();
      this.scheduleResync();
    }
    return this;
  }

  /** Ends the watch. The copy stays readable. */
  async stop(): Promise<void> {
    this.cancelResync();
    this.abort.abort();
    await this.running;
  }

  // ---- the copy -----------------------------------------------------------------------------

  get(name: string, namespace = ""): T | undefined {
    return this.objects.get(`${namespace}/${name}`);
  }

  /** All objects; not to be changed. */
  list(): T[] {
    return [...this.objects.values()];
  }

  byIndex(index: string, value: string): T[] {
    const keys = this.indices.get(index)?.keys.get(value);
    return keys === undefined ? [] : [...keys].map((key) => this.objects.get(key)!);
  }

  get size(): number {
    return this.objects.size;
  }

  /** A list came, or a watch is open and has not failed since. */
  get connected(): boolean {
    return this.isConnected;
  }

  get isSynced(): boolean {
    return this.hasSynced;
  }

  // ---- list and watch -----------------------------------------------------------------------

  private async run(): Promise<void> {
    const { signal } = this.abort;
    const { backoff: limits = BACKOFF, random = Math.random } = this.options;
    let failures = 0;
    while (!signal.aborted) {
      const started = this.clock.now();
      let events = 0;
      const listing = this.version === "";
      try {
        if (listing) await this.relist();
        if (signal.aborted) return;
        this.isConnected = true;
        await this.api.watch<T>(
          this.resource,
          { ...this.selection(), resourceVersion: this.version },
          (event) => {
            events++;
            failures = 0;
            this.take(event);
          },
          signal,
        );
        const short = events === 0 && this.clock.now() - started < SHORT_WATCH_MS;
        failures = short ? failures + 1 : 0;
      } catch (error) {
        if (signal.aborted) return;
        this.isConnected = false;
        failures = events > 0 || this.clock.now() - started >= SHORT_WATCH_MS ? 1 : failures + 1;
        const expired = isExpired(error);
        if (expired) this.version = "";
        this.options.onError?.(error);
        // The server is there and only wants us to list: no reason to wait, unless we just did.
        if (expired && !listing) continue;
      }
      if (failures > 0) await sleep(this.clock, backoff(failures, limits, random), signal);
    }
  }

  private async relist(): Promise<void> {
    const { items, resourceVersion } = await this.api.list<T>(this.resource, this.selection());
    if (this.abort.signal.aborted) return;
    const present = new Set(items.map(keyOf));
    for (const [key, object] of [...this.objects]) if (!present.has(key)) this.remove(key, object);
    for (const object of items) {
      const known = this.objects.get(keyOf(object));
      const { resourceVersion: version } = object.metadata;
      if (known === undefined || known.metadata.resourceVersion !== version) this.put(object);
    }
    this.version = resourceVersion;
    if (!this.hasSynced) {
      this.hasSynced = true;
      this.reportSynced();
    }
  }

  private take(event: WatchEvent<T>): void {
    if (event.type === "BOOKMARK") {
      this.version = event.resourceVersion;
      return;
    }
    const { object } = event;
    if (event.type === "DELETED") this.remove(keyOf(object), object);
    else this.put(object);
    this.version = object.metadata.resourceVersion ?? this.version;
  }

  private put(given: T): void {
    const object = this.options.transform?.(given) ?? given;
    const key = keyOf(object);
    const old = this.objects.get(key);
    // Deleted and made again while we did not look: the old one's end is an event of its own.
    if (old !== undefined && old.metadata.uid !== object.metadata.uid) {
      this.remove(key, old);
      this.put(given);
      return;
    }
    if (old !== undefined) this.unindex(key, old);
    const kept = this.options.retain?.(object) ?? object;
    this.objects.set(key, kept);
    this.index(key, kept);
    for (const handler of this.handlers)
      this.call(() => (old === undefined ? handler.added?.(object) : handler.updated?.(object, old)));
  }

  private remove(key: string, last: T): void {
    const old = this.objects.get(key);
    if (old === undefined) return;
    this.unindex(key, old);
    this.objects.delete(key);
    const object = last === old ? old : (this.options.transform?.(last) ?? last);
    for (const handler of this.handlers) this.call(() => handler.deleted?.(object));
  }

  private index(key: string, object: T): void {
    for (const { values, keys } of this.indices.values())
      for (const value of values(object)) {
        const set = keys.get(value);
        if (set === undefined) keys.set(value, new Set([key]));
        else set.add(key);
      }
  }

  private unindex(key: string, object: T): void {
    for (const { values, keys } of this.indices.values())
      for (const value of values(object)) {
        const set = keys.get(value);
        set?.delete(key);
        if (set?.size === 0) keys.delete(value);
      }
  }

  /** A handler that throws must not end the watch. */
  private call(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.options.onError?.(error);
    }
  }

  private scheduleResync(): void {
    const { resyncMs = 0 } = this.options;
    if (resyncMs === 0) return;
    this.cancelResync = this.clock.after(resyncMs, () => {
      for (const object of this.list())
        for (const handler of this.handlers) this.call(() => handler.updated?.(object, object));
      this.scheduleResync();
    });
  }

  private selection(): ListOptions {
    const { namespace, labelSelector, fieldSelector } = this.options;
    return {
      ...(namespace === undefined ? {} : { namespace }),
      ...(labelSelector === undefined ? {} : { labelSelector }),
      ...(fieldSelector === undefined ? {} : { fieldSelector }),
    };
  }
}

/** Keys of objects by value of an index. */
type Index = Map<string, Set<string>>;

/** "NAMESPACE/NAME", "/NAME" without a namespace. */
export function keyOf(object: KubeObject): string {
  return `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
}
