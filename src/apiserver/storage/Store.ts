/**
 * The objects of the cluster, durable, with one revision counter for all of them.
 *
 * Order of a write: `transact` runs its function at once against the latest state (acknowledged or
 * not), so that transactions never interleave; all transactions of one turn of the event loop are
 * committed in one synced LMDB transaction; only then do readers and watchers see them and does
 * the promise of `transact` resolve. A write that was acknowledged survives kill -9, and nothing that
 * was not durable has ever been shown to anybody.
 *
 * On disk: ["o", resource, namespace, name] → object; ["e", revision] → event, the last `historyLimit`;
 * ["m", …] → revision and identity. Objects are shared: nobody may change one after handing it in.
 */
import { randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { open, type RootDatabase } from "lmdb";
import type { KubeObject } from "../../kube/KubeApi.js";
import { type StoreEvent, WatchHistory } from "./WatchHistory.js";

/** An object as of one revision. */
export interface Entry {
  /** "namespace/name", or "name" for cluster-scoped kinds. */
  readonly key: string;
  readonly revision: number;
  readonly object: KubeObject;
}

/** What a transaction may do. */
export interface Transaction {
  get(resource: string, key: string): Entry | undefined;
  /** Entries of a resource, in no particular order. */
  all(resource: string): Entry[];
  /** Stores; sets metadata.resourceVersion. */
  put(resource: string, key: string, object: KubeObject): Entry;
  remove(resource: string, key: string): Entry | undefined;
}

export interface StoreOptions {
  /** Events kept for watchers. */
  historyLimit?: number;
}

interface Collection {
  entries: Map<string, Entry>;
  /** Keys in order; undefined after a key came or went. */
  sorted: string[] | undefined;
}

interface Pending {
  event: StoreEvent;
}

type PersistedEvent = { t: StoreEvent["type"]; r: string; k: string; o: string; p?: string };

const DEFAULT_HISTORY = 10_000;

export class Store {
  private readonly collections = new Map<string, Collection>();
  /** Latest state of keys whose writes are not yet durable; undefined: removed. */
  private readonly overlay = new Map<string, Map<string, Entry | undefined>>();
  private readonly listeners = new Map<string, Set<(event: StoreEvent) => void>>();
  private readonly history: WatchHistory;
  private queue: Pending[] = [];
  private waiting: { resolve: () => void; reject: (error: unknown) => void }[] = [];
  private scheduled = false;
  private failed: unknown;
  private committed: number;
  private next: number;
  /** Of this cluster's data; continue tokens and resource versions mean something only within it. */
  readonly id: string;

  private constructor(
    private readonly database: RootDatabase<string, (string | number)[]>,
    private readonly historyLimit: number,
  ) {
    this.committed = Number(database.get(["m", "revision"]) ?? 0);
    this.next = this.committed;
    this.id = database.get(["m", "id"]) ?? randomUUID();
    for (const { key, value } of database.getRange({ start: ["o"], end: ["p"] })) {
      const object = JSON.parse(value) as KubeObject;
      this.collection(String(key[1])).entries.set(String(key[2]), {
        key: String(key[2]),
        revision: Number(object.metadata.resourceVersion),
        object,
      });
    }
    const events = [...database.getRange({ start: ["e"], end: ["f"] })];
    this.history = new WatchHistory(
      historyLimit,
      events.length === 0 ? this.committed : Number(events[0]!.key[1]) - 1,
    );
    for (const { key, value } of events) {
      const { t, r, k, o, p } = JSON.parse(value) as PersistedEvent;
      const entryOf = (text: string): Entry => {
        const object = JSON.parse(text) as KubeObject;
        return { key: k, revision: Number(object.metadata.resourceVersion), object };
      };
      this.history.push({
        type: t,
        resource: r,
        entry: { ...entryOf(o), revision: Number(key[1]) },
        previous: p === undefined ? undefined : entryOf(p),
      });
    }
    if (this.committed === 0) {
      // Revision 0 means "any" in the API: the first object gets 2, and an empty list says 1.
      this.committed = this.next = 1;
      database.transactionSync(() => {
        database.put(["m", "revision"], "1");
        database.put(["m", "id"], this.id);
      });
    }
  }

  /** Opens or makes the database in `directory`. */
  static open(directory: string, options: StoreOptions = {}): Store {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const database = open<string, (string | number)[]>({
      path: join(directory, "objects.lmdb"),
      encoding: "string",
      // A commit returns after the sync to disk, not before.
      overlappingSync: false,
    });
    return new Store(database, options.historyLimit ?? DEFAULT_HISTORY);
  }

  /** Revision of the newest durable write. */
  get revision(): number {
    return this.committed;
  }

  /** Who has seen at least this revision can resume. */
  get oldestRevision(): number {
    return this.history.oldest;
  }

  get(resource: string, key: string): Entry | undefined {
    return this.collections.get(resource)?.entries.get(key);
  }

  /** Durable entries in order of their keys. */
  list(resource: string): Entry[] {
    const collection = this.collection(resource);
    collection.sorted ??= [...collection.entries.keys()].sort(compare);
    return collection.sorted.map((key) => collection.entries.get(key)!);
  }

  /** Entries as they were at `revision`; undefined where that is too long ago. */
  listAt(resource: string, revision: number): Entry[] | undefined {
    const events = this.history.since(resource, revision);
    if (events === undefined) return undefined;
    if (events.length === 0) return this.list(resource);
    const entries = new Map(this.collection(resource).entries);
    for (const { type, entry, previous } of events.reverse())
      if (type === "ADDED") entries.delete(entry.key);
      else entries.set(entry.key, previous!);
    return [...entries.values()].sort((a, b) => compare(a.key, b.key));
  }

  /** Runs `body` now, in one piece with what it writes; resolves when that is durable. Rejects with what `body` throws. */
  async transact<T>(body: (transaction: Transaction) => T): Promise<T> {
    if (this.failed !== undefined) throw this.failed;
    const changes: Pending[] = [];
    const undo: (() => void)[] = [];
    const before = this.next;
    let result: T;
    try {
      result = body(this.transaction(changes, undo));
    } catch (error) {
      for (const step of undo.reverse()) step();
      this.next = before;
      throw error;
    }
    if (changes.length === 0) return result;
    this.queue.push(...changes);
    await new Promise<void>((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      if (this.scheduled) return;
      this.scheduled = true;
      setImmediate(() => this.commit());
    });
    return result;
  }

  /** Calls `listener` for every durable change of a resource from now on; returns what ends it. */
  subscribe(resource: string, listener: (event: StoreEvent) => void): () => void {
    const listeners = this.listeners.get(resource) ?? new Set();
    this.listeners.set(resource, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** Changes of a resource after `revision`; undefined where they are no longer all known. */
  since(resource: string, revision: number): StoreEvent[] | undefined {
    return this.history.since(resource, revision);
  }

  async close(): Promise<void> {
    if (this.queue.length > 0) this.commit();
    this.failed = new Error("the store is closed");
    await this.database.close();
  }

  /** All of a kind as the next transaction would see them: written, durable or not. */
  latest(resource: string): Entry[] {
    const overlay = this.overlay.get(resource);
    const durable = this.collection(resource).entries;
    if (overlay === undefined || overlay.size === 0) return [...durable.values()];
    return [...new Map([...durable, ...overlay]).values()].filter((entry) => entry !== undefined);
  }

  private transaction(changes: Pending[], undo: (() => void)[]): Transaction {
    const latest = (resource: string, key: string): Entry | undefined => {
      const overlay = this.overlay.get(resource);
      return overlay?.has(key) ? overlay.get(key) : this.get(resource, key);
    };
    const set = (resource: string, key: string, entry: Entry | undefined) => {
      const overlay = this.overlay.get(resource) ?? new Map<string, Entry | undefined>();
      this.overlay.set(resource, overlay);
      const had = overlay.has(key);
      const old = overlay.get(key);
      undo.push(() => (had ? overlay.set(key, old) : overlay.delete(key)));
      overlay.set(key, entry);
    };
    const stamp = (key: string, object: KubeObject): Entry => {
      const revision = ++this.next;
      object.metadata.resourceVersion = String(revision);
      return { key, revision, object };
    };
    return {
      get: latest,
      all: (resource) => this.latest(resource),
      put: (resource, key, object) => {
        const previous = latest(resource, key);
        const entry = stamp(key, object);
        set(resource, key, entry);
        changes.push({
          event: { type: previous === undefined ? "ADDED" : "MODIFIED", resource, entry, previous },
        });
        return entry;
      },
      remove: (resource, key) => {
        const previous = latest(resource, key);
        if (previous === undefined) return undefined;
        const last = { ...previous.object, metadata: { ...previous.object.metadata } };
        const entry = stamp(key, last);
        set(resource, key, undefined);
        changes.push({ event: { type: "DELETED", resource, entry, previous } });
        return entry;
      },
    };
  }

  private commit(): void {
    const queue = this.queue;
    const waiting = this.waiting;
    this.queue = [];
    this.waiting = [];
    this.scheduled = false;
    try {
      this.persist(queue);
    } catch (error) {
      // The state in memory is ahead of the disk: nothing may be served from it any more.
      this.failed = error;
      for (const each of waiting) each.reject(error);
      return;
    }
    for (const { event } of queue) {
      this.apply(event);
      this.history.push(event);
      this.committed = event.entry.revision;
    }
    this.overlay.clear();
    for (const { event } of queue)
      for (const listener of [...(this.listeners.get(event.resource) ?? [])]) tell(listener, event);
    for (const each of waiting) each.resolve();
  }

  private persist(queue: Pending[]): void {
    const database = this.database;
    database.transactionSync(() => {
      for (const { event } of queue) {
        const { entry, previous, resource, type } = event;
        const text = JSON.stringify(entry.object);
        if (type === "DELETED") database.remove(["o", resource, entry.key]);
        else database.put(["o", resource, entry.key], text);
        const persisted: PersistedEvent = { t: type, r: resource, k: entry.key, o: text };
        if (previous !== undefined) persisted.p = JSON.stringify(previous.object);
        database.put(["e", entry.revision], JSON.stringify(persisted));
        database.remove(["e", entry.revision - this.historyLimit]);
      }
      database.put(["m", "revision"], String(queue.at(-1)!.event.entry.revision));
    });
  }

  private apply({ type, resource, entry }: StoreEvent): void {
    const collection = this.collection(resource);
    if (type === "DELETED") collection.entries.delete(entry.key);
    else collection.entries.set(entry.key, entry);
    if (type !== "MODIFIED") collection.sorted = undefined;
  }

  private collection(resource: string): Collection {
    const known = this.collections.get(resource);
    if (known !== undefined) return known;
    const collection: Collection = { entries: new Map(), sorted: undefined };
    this.collections.set(resource, collection);
    return collection;
  }
}

/** A listener that fails must not keep others from hearing, nor a writer from his answer. */
function tell(listener: (event: StoreEvent) => void, event: StoreEvent): void {
  try {
    listener(event);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

/** Byte order, as in etcd, for the ASCII names that objects have. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
