/**
 * A KubeApi in memory, with the API server's rules: one resourceVersion over everything, conflicts,
 * unique names, generateName, selectors, watches with history, finalizers and graceful deletion,
 * the status subresource. No validation, no defaults, no controllers, no rights.
 *
 * For tests, faults on demand:
 *   failNext       the request is refused, or never arrives
 *   loseResponse   the request is carried out, and the answer is lost
 *   delay          the request waits before it is carried out
 *   offline        every request fails, every watch breaks
 *   disconnectWatches, compact, sendBookmarks
 */
import type { KubeApi, KubeObject, ListOptions, PatchKind, ResourceRef, WatchEvent } from "./KubeApi.js";
import { KubeError } from "./KubeError.js";
import { applyPatch } from "./patch.js";
import { allowsUnconditionalUpdate, apiVersionOf, qualifiedName } from "./resources.js";
import { parseFieldSelector, parseLabelSelector } from "./selectors.js";

export type Verb = "get" | "list" | "create" | "update" | "patch" | "delete" | "watch";

/** Which requests a fault is for; what is left out matches all. */
export interface RequestMatch {
  verb?: Verb;
  plural?: string;
  name?: string;
  namespace?: string;
  subresource?: string;
}

export interface FakeKubeOptions {
  /** Wall clock. */
  now?: () => Date;
  /** From 0 to 1; for uids and generated names. */
  random?: () => number;
}

interface Request extends RequestMatch {
  verb: Verb;
  plural: string;
}

interface Fault {
  match: RequestMatch;
  left: number;
  /** Thrown before the request is carried out. */
  error?: KubeError;
  /** The answer is lost. */
  lost?: boolean;
  wait?: () => Promise<unknown>;
}

interface Change {
  version: number;
  resource: string;
  object: KubeObject;
  /** The object before; absent for a new one. */
  old?: KubeObject;
  removed: boolean;
}

interface Watcher {
  resource: string;
  accepts: (object: KubeObject) => boolean;
  onEvent: (event: WatchEvent<KubeObject>) => void;
  end: (error?: KubeError) => void;
}

/** What may be asked for beyond the KubeApi. */
const SUBRESOURCE_STATUS = new Set([
  "nodes",
  "pods",
  "services",
  "namespaces",
  "daemonsets",
  "deployments",
  "replicasets",
  "ipaddresspools",
]);
const NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789";
const DEFAULT_POD_GRACE = 30;

export class FakeKube implements KubeApi {
  /** Every request fails as if there were no server. Set by goOffline and goOnline. */
  private isOffline = false;
  private version = 0;
  /** Versions up to this one are forgotten by watches. */
  private compacted = 0;
  private readonly stores = new Map<string, Map<string, KubeObject>>();
  private history: Change[] = [];
  private readonly watchers = new Set<Watcher>();
  private faults: Fault[] = [];
  private readonly now: () => Date;
  private readonly random: () => number;
  /** Requests so far, as "verb plural" with the name where there is one: "update nodes k8s-master". */
  readonly requests: string[] = [];

  constructor(options: FakeKubeOptions = {}) {
    this.now = options.now ?? (() => new Date());
    this.random = options.random ?? Math.random;
  }

  // ---- KubeApi ------------------------------------------------------------------------------

  get<T extends KubeObject>(resource: ResourceRef, name: string, namespace?: string): Promise<T> {
    return this.request({ verb: "get", ...named(resource, namespace, name) }, () =>
      clone(this.find(resource, name, namespace) as T),
    );
  }

  list<T extends KubeObject>(
    resource: ResourceRef,
    options: ListOptions = {},
  ): Promise<{ items: T[]; resourceVersion: string }> {
    return this.request({ verb: "list", ...named(resource, options.namespace) }, () => {
      const accepts = selection(resource, options);
      const items = [...this.store(resource).entries()]
        .filter(([, object]) => accepts(object))
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([, object]) => clone(object as T));
      return { items, resourceVersion: String(this.version) };
    });
  }

  create<T extends KubeObject>(resource: ResourceRef, object: T): Promise<T> {
    const { namespace, name } = object.metadata;
    return this.request({ verb: "create", ...named(resource, namespace, name) }, () => {
      if (resource.namespaced !== (namespace !== undefined && namespace !== ""))
        throw KubeError.of(
          "BadRequest",
          resource.namespaced ? "an object of this kind needs a namespace" : "this kind has no namespaces",
        );
      const created = this.withDefaults(resource, clone(object));
      const store = this.store(resource);
      const key = keyOf(created);
      if (store.has(key))
        throw KubeError.of(
          "AlreadyExists",
          `${qualifiedName(resource)} "${created.metadata.name}" already exists`,
        );
      this.record(resource, created, undefined, false);
      return clone(created as T);
    });
  }

  update<T extends KubeObject>(resource: ResourceRef, object: T, subresource = ""): Promise<T> {
    const { namespace, name = "" } = object.metadata;
    return this.request({ verb: "update", ...named(resource, namespace, name), subresource }, () =>
      this.replace(resource, this.find(resource, name, namespace), clone(object), subresource),
    );
  }

  patch<T extends KubeObject>(
    resource: ResourceRef,
    name: string,
    namespace: string | undefined,
    kind: PatchKind,
    patch: unknown,
    subresource = "",
  ): Promise<T> {
    return this.request({ verb: "patch", ...named(resource, namespace, name), subresource }, () => {
      const old = this.find(resource, name, namespace);
      const patched = applyPatch(clone(old as T), kind, clone(patch));
      return this.replace(resource, old, patched, subresource);
    });
  }

  delete(
    resource: ResourceRef,
    name: string,
    namespace?: string,
    options: { gracePeriodSeconds?: number; uid?: string; resourceVersion?: string } = {},
  ): Promise<void> {
    return this.request({ verb: "delete", ...named(resource, namespace, name) }, () => {
      const old = this.find(resource, name, namespace);
      const { uid, resourceVersion } = options;
      if (
        (uid !== undefined && uid !== old.metadata.uid) ||
        (resourceVersion !== undefined && resourceVersion !== old.metadata.resourceVersion)
      )
        throw conflict(resource, name, "the precondition does not hold");
      const grace = gracePeriod(resource, old, options.gracePeriodSeconds);
      const held = (old.metadata.finalizers ?? []).length > 0;
      if (!held && grace === 0) return this.record(resource, old, old, true);
      if (old.metadata.deletionTimestamp !== undefined) {
        if (grace >= (old.metadata.deletionGracePeriodSeconds ?? 0)) return;
      }
      const object = clone(old);
      object.metadata.deletionTimestamp = timestamp(new Date(this.now().getTime() + grace * 1000));
      object.metadata.deletionGracePeriodSeconds = grace;
      this.record(resource, object, old, false);
    });
  }

  watch<T extends KubeObject>(
    resource: ResourceRef,
    options: ListOptions & { resourceVersion: string },
    onEvent: (event: WatchEvent<T>) => void,
    signal: AbortSignal,
  ): Promise<void> {
    return this.request({ verb: "watch", ...named(resource, options.namespace) }, () => {
      const accepts = selection(resource, options);
      const since = Number(options.resourceVersion || "0");
      if (since > 0 && since < this.compacted)
        throw KubeError.of("Expired", `too old resource version: ${since} (${this.compacted})`);
      return new Promise<void>((resolve, reject) => {
        if (signal.aborted) return resolve();
        const aborted = () => watcher.end();
        const watcher: Watcher = {
          resource: resourceKey(resource),
          accepts,
          onEvent: onEvent as Watcher["onEvent"],
          end: (error) => {
            this.watchers.delete(watcher);
            signal.removeEventListener("abort", aborted);
            if (error === undefined) resolve();
            else reject(error);
          },
        };
        if (since === 0)
          for (const object of this.store(resource).values())
            if (accepts(object)) this.tell(watcher, { type: "ADDED", object: clone(object) });
        for (const change of this.history)
          if (since > 0 && change.version > since) this.deliver(watcher, change);
        this.watchers.add(watcher);
        signal.addEventListener("abort", aborted, { once: true });
      });
    });
  }

  // ---- for tests ----------------------------------------------------------------------------

  /** Refuses the next matching requests. `error` undefined: the request never arrives. */
  failNext(match: RequestMatch, error?: KubeError, times = 1): void {
    this.faults.push({
      match,
      left: times,
      error: error ?? KubeError.unreachable("connect ECONNREFUSED (fault)"),
    });
  }

  /** Carries out the next matching requests and loses the answers. */
  loseResponse(match: RequestMatch, times = 1): void {
    this.faults.push({ match, left: times, lost: true });
  }

  /** The next matching requests wait for `wait` (milliseconds, or a promise) before they are carried out. */
  delay(match: RequestMatch, wait: number | Promise<unknown>, times = 1): void {
    const waiting =
      typeof wait === "number" ? () => new Promise((resolve) => setTimeout(resolve, wait)) : () => wait;
    this.faults.push({ match, left: times, wait: waiting });
  }

  /** Ends every watch, as when a connection breaks: with an error, or by its end. */
  disconnectWatches(plural?: string, error?: KubeError): void {
    for (const watcher of [...this.watchers])
      if (plural === undefined || watcher.resource.startsWith(`${plural}.`)) watcher.end(error);
  }

  goOffline(): void {
    this.isOffline = true;
    this.disconnectWatches(undefined, KubeError.unreachable("connection reset (offline)"));
  }

  goOnline(): void {
    this.isOffline = false;
  }

  /** Forgets the history: watches from before now get 410. */
  compact(): void {
    this.history = [];
    this.compacted = this.version;
  }

  /** Sends every watch a bookmark. */
  sendBookmarks(): void {
    for (const watcher of this.watchers)
      this.tell(watcher, { type: "BOOKMARK", resourceVersion: String(this.version) });
  }

  /** Writes an object as it is, status included, past every rule; creates or replaces it. */
  put<T extends KubeObject>(resource: ResourceRef, object: T): T {
    const old = this.store(resource).get(keyOf(object));
    const copy = this.withDefaults(resource, clone(object));
    if (old !== undefined) {
      const { uid, creationTimestamp } = old.metadata;
      Object.assign(copy.metadata, { uid, creationTimestamp });
    }
    const { status } = object as { status?: unknown };
    if (status !== undefined) (copy as { status?: unknown }).status = clone(status);
    this.record(resource, copy, old, false);
    return clone(copy as T);
  }

  /** The object, or undefined; without a request. */
  peek<T extends KubeObject>(resource: ResourceRef, name: string, namespace?: string): T | undefined {
    const object = this.store(resource).get(`${namespace ?? ""}/${name}`);
    return object === undefined ? undefined : clone(object as T);
  }

  /** All objects of a kind, without a request. */
  all<T extends KubeObject>(resource: ResourceRef): T[] {
    return [...this.store(resource).values()].map((object) => clone(object as T));
  }

  /** Watches that are open. */
  get openWatches(): number {
    return this.watchers.size;
  }

  get resourceVersion(): string {
    return String(this.version);
  }

  // ---- rules --------------------------------------------------------------------------------

  private withDefaults(resource: ResourceRef, object: KubeObject): KubeObject {
    const { metadata } = object;
    if (!metadata.name) {
      if (!metadata.generateName) throw KubeError.of("Invalid", "name or generateName is required");
      do metadata.name = metadata.generateName + this.letters(5);
      while (this.store(resource).has(keyOf(object)));
    }
    metadata.uid = this.uid();
    metadata.creationTimestamp = timestamp(this.now());
    delete metadata.resourceVersion;
    delete metadata.deletionTimestamp;
    delete metadata.deletionGracePeriodSeconds;
    if (resource.group !== "") metadata.generation = 1;
    object.apiVersion = apiVersionOf(resource);
    object.kind = resource.kind;
    const withStatus = object as { status?: unknown };
    if (resource.plural === "pods") withStatus.status = { phase: "Pending" };
    // A kubelet registers its Node together with the status.
    else if (hasStatus(resource) && resource.plural !== "nodes") delete withStatus.status;
    return object;
  }

  private replace<T extends KubeObject>(
    resource: ResourceRef,
    old: KubeObject,
    object: T,
    subresource: string,
  ): T {
    const { name = "", uid, resourceVersion } = object.metadata;
    if (uid !== undefined && uid !== old.metadata.uid)
      throw conflict(resource, name, `the UID in the precondition (${uid}) is not that of the object`);
    if (!resourceVersion && !allowsUnconditionalUpdate(resource))
      throw KubeError.of(
        "Invalid",
        `${qualifiedName(resource)} "${name}" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update`,
      );
    if (resourceVersion && resourceVersion !== old.metadata.resourceVersion)
      throw conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
      );
    if (subresource !== "" && subresource !== "status")
      throw KubeError.of("NotFound", "the server could not find the requested resource");

    const next: KubeObject & { status?: unknown } =
      subresource === "status"
        ? {
            ...clone(old),
            metadata: statusMetadata(resource, old, object),
            ...("status" in object ? { status: object.status } : {}),
          }
        : object;
    if (subresource === "" && hasStatus(resource)) {
      const { status } = old as { status?: unknown };
      if (status === undefined) delete next.status;
      else next.status = clone(status);
    }
    next.apiVersion = apiVersionOf(resource);
    next.kind = resource.kind;
    const kept = old.metadata;
    Object.assign(next.metadata, {
      uid: kept.uid,
      creationTimestamp: kept.creationTimestamp,
      resourceVersion: kept.resourceVersion,
    });
    for (const field of ["deletionTimestamp", "deletionGracePeriodSeconds", "generation"] as const) {
      if (kept[field] === undefined) delete next.metadata[field];
      else Object.assign(next.metadata, { [field]: kept[field] });
    }
    if (same(next, old)) return clone(old as T);
    if (kept.generation !== undefined && !same(specOf(next), specOf(old)))
      next.metadata.generation = kept.generation + 1;
    const gone =
      kept.deletionTimestamp !== undefined &&
      (next.metadata.finalizers ?? []).length === 0 &&
      (kept.deletionGracePeriodSeconds ?? 0) === 0;
    this.record(resource, next, old, gone);
    return clone(next as T);
  }

  /** Writes a change to the store and the history, and tells the watches. */
  private record(
    resource: ResourceRef,
    object: KubeObject,
    old: KubeObject | undefined,
    removed: boolean,
  ): void {
    const version = ++this.version;
    const written = removed ? clone(object) : object;
    written.metadata.resourceVersion = String(version);
    const store = this.store(resource);
    if (removed) store.delete(keyOf(object));
    else store.set(keyOf(object), written);
    const change: Change = { version, resource: resourceKey(resource), object: written, removed };
    if (old !== undefined) change.old = old;
    this.history.push(change);
    for (const watcher of this.watchers) this.deliver(watcher, change);
  }

  private deliver(watcher: Watcher, { resource, object, old, removed }: Change): void {
    if (resource !== watcher.resource) return;
    const before = old !== undefined && watcher.accepts(old);
    const after = !removed && watcher.accepts(object);
    if (!before && !after) return;
    // An object that no longer matches the selector has gone, as far as this watch is concerned.
    const type = !before ? "ADDED" : after ? "MODIFIED" : "DELETED";
    this.tell(watcher, { type, object: clone(object) });
  }

  /** Delivers later, in order, and not to a watch that has ended by then. */
  private tell(watcher: Watcher, event: WatchEvent<KubeObject>): void {
    queueMicrotask(() => {
      if (this.watchers.has(watcher)) watcher.onEvent(event);
    });
  }

  private find(resource: ResourceRef, name: string, namespace: string | undefined): KubeObject {
    const object = this.store(resource).get(`${namespace ?? ""}/${name}`);
    if (object === undefined)
      throw KubeError.of("NotFound", `${qualifiedName(resource)} "${name}" not found`);
    return object;
  }

  private store(resource: ResourceRef): Map<string, KubeObject> {
    const key = resourceKey(resource);
    const store = this.stores.get(key) ?? new Map<string, KubeObject>();
    this.stores.set(key, store);
    return store;
  }

  private async request<T>(request: Request, work: () => T | Promise<T>): Promise<T> {
    const { verb, plural, name } = request;
    this.requests.push([verb, plural, name].filter((part) => part).join(" "));
    await Promise.resolve();
    const faults = this.faults.filter((fault) => fault.left > 0 && fits(request, fault.match));
    for (const fault of faults) {
      fault.left--;
      if (fault.wait !== undefined) await fault.wait();
    }
    if (this.isOffline) throw KubeError.unreachable("connect ECONNREFUSED (offline)");
    const refused = faults.find((fault) => fault.error !== undefined);
    if (refused !== undefined) throw refused.error;
    const result = await work();
    if (faults.some((fault) => fault.lost)) throw KubeError.unreachable("socket hang up (fault)");
    return result;
  }

  private uid(): string {
    const digits = (n: number) =>
      Array.from({ length: n }, () => Math.floor(this.random() * 16).toString(16)).join("");
    return `${digits(8)}-${digits(4)}-4${digits(3)}-8${digits(3)}-${digits(12)}`;
  }

  private letters(n: number): string {
    return Array.from(
      { length: n },
      () => NAME_LETTERS[Math.floor(this.random() * NAME_LETTERS.length)],
    ).join("");
  }
}

function named(resource: ResourceRef, namespace: string | undefined, name?: string): Omit<Request, "verb"> {
  return {
    plural: resource.plural,
    ...(namespace === undefined ? {} : { namespace }),
    ...(name === undefined ? {} : { name }),
  };
}

function fits(request: Request, match: RequestMatch): boolean {
  return (Object.keys(match) as (keyof RequestMatch)[]).every(
    (key) => match[key] === undefined || match[key] === (request[key] ?? ""),
  );
}

function selection(resource: ResourceRef, options: ListOptions): (object: KubeObject) => boolean {
  const labels = parseLabelSelector(options.labelSelector);
  const fields = parseFieldSelector(options.fieldSelector);
  const namespace = resource.namespaced ? options.namespace : undefined;
  return (object) =>
    (!namespace || object.metadata.namespace === namespace) &&
    labels(object.metadata.labels) &&
    fields(object);
}

function gracePeriod(resource: ResourceRef, object: KubeObject, asked: number | undefined): number {
  if (resource.plural !== "pods") return 0;
  const { spec, status } = object as {
    spec?: { nodeName?: string; terminationGracePeriodSeconds?: number };
    status?: { phase?: string };
  };
  // Nobody runs it, or nothing of it runs any more.
  if (!spec?.nodeName || status?.phase === "Succeeded" || status?.phase === "Failed") return 0;
  return asked ?? spec.terminationGracePeriodSeconds ?? DEFAULT_POD_GRACE;
}

function hasStatus(resource: ResourceRef): boolean {
  return SUBRESOURCE_STATUS.has(resource.plural);
}

function conflict(resource: ResourceRef, name: string, why: string): KubeError {
  return KubeError.of(
    "Conflict",
    `Operation cannot be fulfilled on ${qualifiedName(resource)} "${name}": ${why}`,
  );
}

function resourceKey(resource: ResourceRef): string {
  return `${resource.plural}.${resource.group}`;
}

function keyOf(object: KubeObject): string {
  return `${object.metadata.namespace ?? ""}/${object.metadata.name}`;
}

function specOf(object: KubeObject): object {
  const { metadata: _, status: __, ...spec } = object as KubeObject & { status?: unknown };
  return spec;
}

function timestamp(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, "Z");
}

/** Through JSON, as objects come over the wire: what is undefined is gone. */
function clone<T>(value: T): T {
  return JSON.parse(JSON.stringify(value)) as T;
}

/** Equal as JSON, whatever the order of the keys. */
function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  const keys = Object.keys(left).filter((key) => left[key] !== undefined);
  return (
    keys.length === Object.keys(right).filter((key) => right[key] !== undefined).length &&
    keys.every((key) => same(left[key], right[key]))
  );
}

/** A status write changes labels and annotations too, except of custom resources. */
function statusMetadata(resource: ResourceRef, old: KubeObject, object: KubeObject): KubeObject["metadata"] {
  if (!allowsUnconditionalUpdate(resource)) return clone(old.metadata);
  const { labels, annotations, ...rest } = clone(old.metadata);
  return {
    ...rest,
    ...(object.metadata.labels && { labels: object.metadata.labels }),
    ...(object.metadata.annotations && { annotations: object.metadata.annotations }),
  };
}
