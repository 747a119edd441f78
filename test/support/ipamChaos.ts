/**
 * A world for the property tests of IPAM: an API in memory, and clients of it whose requests wait
 * at a gate until a seeded scheduler lets one of them pass. So every interleaving of requests can
 * happen, and the same seed repeats it. Requests get lost before or after they were carried out, or
 * are carried out long after the client has given up.
 */
import type { Clock } from "../../src/kube/Clock.js";
import type { KubeApi, KubeObject, ListOptions, ResourceRef } from "../../src/kube/KubeApi.js";
import { KubeError } from "../../src/kube/KubeError.js";
import { parseLabelSelector } from "../../src/kube/selectors.js";
import type { Random } from "./random.js";

/** Objects in memory, frozen, so that they need no copying; the API server's rules for versions. */
export class FrozenKube implements KubeApi {
  readonly #stores = new Map<string, Map<string, KubeObject>>();
  readonly #selectors = new Map<string, ReturnType<typeof parseLabelSelector>>();
  #version = 0;

  get<T extends KubeObject>(resource: ResourceRef, name: string, namespace?: string): Promise<T> {
    return attempt(() => this.read<T>(resource, name, namespace));
  }

  list<T extends KubeObject>(resource: ResourceRef, options: ListOptions = {}) {
    return attempt(() => {
      const text = options.labelSelector ?? "";
      const test = this.#selectors.get(text) ?? parseLabelSelector(text);
      this.#selectors.set(text, test);
      const items = [...this.#store(resource).values()].filter(({ metadata }) => test(metadata.labels));
      return { items: items as T[], resourceVersion: String(this.#version) };
    });
  }

  create<T extends KubeObject>(resource: ResourceRef, object: T): Promise<T> {
    return attempt(() => {
      const key = keyOf(object.metadata.name!, object.metadata.namespace);
      if (this.#store(resource).has(key)) throw KubeError.of("AlreadyExists", `${key} already exists`);
      return this.#put(resource, {
        ...object,
        metadata: { uid: `uid-${this.#version + 1}`, ...object.metadata },
      });
    });
  }

  update<T extends KubeObject>(resource: ResourceRef, object: T): Promise<T> {
    return attempt(() => {
      const old = this.read<T>(resource, object.metadata.name!, object.metadata.namespace);
      const { resourceVersion } = object.metadata;
      if (resourceVersion !== undefined && resourceVersion !== old.metadata.resourceVersion)
        throw KubeError.of("Conflict", `${object.metadata.name} has been modified`);
      return this.#put(resource, object);
    });
  }

  delete(
    resource: ResourceRef,
    name: string,
    namespace?: string,
    options: { uid?: string; resourceVersion?: string } = {},
  ): Promise<void> {
    return attempt(() => {
      const { uid, resourceVersion } = this.read(resource, name, namespace).metadata;
      if ((options.uid ?? uid) !== uid || (options.resourceVersion ?? resourceVersion) !== resourceVersion)
        throw KubeError.of("Conflict", `${name} has been modified`);
      this.#version++;
      this.#store(resource).delete(keyOf(name, namespace));
    });
  }

  patch(): Promise<never> {
    throw new Error("not used by IPAM");
  }

  watch(): Promise<never> {
    throw new Error("not used by IPAM");
  }

  read<T extends KubeObject>(resource: ResourceRef, name: string, namespace?: string): T {
    const object = this.#store(resource).get(keyOf(name, namespace));
    if (object === undefined) throw KubeError.of("NotFound", `${resource.plural} "${name}" not found`);
    return object as T;
  }

  all<T extends KubeObject>(resource: ResourceRef): T[] {
    return [...this.#store(resource).values()] as T[];
  }

  #put<T extends KubeObject>(resource: ResourceRef, object: T): T {
    const resourceVersion = String(++this.#version);
    const stored = deepFreeze({ ...object, metadata: { ...object.metadata, resourceVersion } });
    this.#store(resource).set(keyOf(object.metadata.name!, object.metadata.namespace), stored);
    return stored;
  }

  #store({ plural }: ResourceRef): Map<string, KubeObject> {
    const store = this.#stores.get(plural) ?? new Map<string, KubeObject>();
    this.#stores.set(plural, store);
    return store;
  }
}

/** Lets one waiting request after another pass, chosen by seed. Virtual time is the number of steps. */
export class Scheduler {
  #waiting: (() => void)[] = [];
  #steps = 0;

  constructor(readonly random: Random) {}

  readonly clock: Clock = {
    now: () => this.#steps,
    date: () => new Date(this.now()),
    // However long the pause: it ends when chance has it.
    after: (_ms, work) => {
      void this.gate().then(work);
      return () => {};
    },
  };

  now(): number {
    return 1_700_000_000_000 + this.#steps;
  }

  /** Resolves when it is this caller's turn. */
  gate(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Runs until nobody waits any more. `every`: called between two steps, now and then. */
  async run(every: { steps: number; call: () => void }): Promise<number> {
    const first = this.#steps;
    for (;;) {
      // All that the last step set off runs to its next gate.
      await new Promise(setImmediate);
      if (this.#waiting.length === 0) return this.#steps - first;
      const i = this.random.below(this.#waiting.length);
      const next = this.#waiting[i]!;
      this.#waiting[i] = this.#waiting[this.#waiting.length - 1]!;
      this.#waiting.pop();
      this.#steps++;
      next();
      if (this.#steps % every.steps === 0) every.call();
    }
  }
}

export interface Faults {
  /** Once in so many requests; 0 for never. */
  unsent: number;
  unanswered: number;
  late: number;
}

export const NO_FAULTS: Faults = { unsent: 0, unanswered: 0, late: 0 };

export type WriteRule = (
  resource: ResourceRef,
  object: KubeObject | undefined,
  old: KubeObject | undefined,
) => string | undefined;

/** A client's view of the API: each request waits its turn, and may meet a fault. */
export class ChaosClient implements KubeApi {
  /** A dead client's requests never come back. */
  isDead = false;

  constructor(
    private readonly kube: FrozenKube,
    private readonly scheduler: Scheduler,
    private readonly faults: Faults,
    /** Why this client may not write; asked when the request is carried out. */
    private readonly refuse: WriteRule = () => undefined,
  ) {}

  get<T extends KubeObject>(resource: ResourceRef, name: string, namespace?: string): Promise<T> {
    return this.#send(() => this.kube.get<T>(resource, name, namespace));
  }
  list<T extends KubeObject>(resource: ResourceRef, options?: ListOptions) {
    return this.#send(() => this.kube.list<T>(resource, options));
  }
  create<T extends KubeObject>(resource: ResourceRef, object: T): Promise<T> {
    return this.#send(() =>
      this.#allowed(resource, object, undefined, () => this.kube.create(resource, object)),
    );
  }
  update<T extends KubeObject>(resource: ResourceRef, object: T): Promise<T> {
    const { name, namespace } = object.metadata;
    return this.#send(() => {
      const old = this.kube.read(resource, name!, namespace);
      // What is stale conflicts, whatever it says.
      const isStale = (object.metadata.resourceVersion ?? "") !== old.metadata.resourceVersion;
      return this.#allowed(resource, isStale ? old : object, old, () => this.kube.update(resource, object));
    });
  }
  delete(
    resource: ResourceRef,
    name: string,
    namespace?: string,
    options?: { uid?: string; resourceVersion?: string },
  ): Promise<void> {
    return this.#send(() => {
      const old = this.kube.read(resource, name, namespace);
      const isStale = (options?.resourceVersion ?? "") !== old.metadata.resourceVersion;
      return this.#allowed(resource, isStale ? old : undefined, old, () =>
        this.kube.delete(resource, name, namespace, options),
      );
    });
  }
  patch(): Promise<never> {
    return this.kube.patch();
  }
  watch(): Promise<never> {
    return this.kube.watch();
  }

  #allowed<T>(
    resource: ResourceRef,
    object: KubeObject | undefined,
    old: KubeObject | undefined,
    request: () => Promise<T>,
  ): Promise<T> {
    const why = this.refuse(resource, object, old);
    if (why !== undefined) throw KubeError.of("Forbidden", why);
    return request();
  }

  async #send<T>(request: () => Promise<T>): Promise<T> {
    const { random } = this.scheduler;
    const meets = (fault: number) => fault > 0 && random.oneIn(fault);
    const fate = meets(this.faults.unsent)
      ? "unsent"
      : meets(this.faults.unanswered)
        ? "unanswered"
        : meets(this.faults.late)
          ? "late"
          : "fine";
    await this.scheduler.gate();
    if (fate === "late") void this.#late(request);
    const answer = fate === "unsent" || fate === "late" ? undefined : await settled(request);
    await this.scheduler.gate();
    // What it sent before it died was carried out; it never hears of it.
    if (this.isDead) return new Promise(() => {});
    if (answer === undefined || fate === "unanswered") throw KubeError.unreachable(`${fate} request`);
    if ("error" in answer) throw answer.error;
    return answer.value;
  }

  async #late(request: () => Promise<unknown>): Promise<void> {
    for (let left = this.scheduler.random.below(40); left > 0; left--) await this.scheduler.gate();
    await settled(request);
  }
}

async function settled<T>(request: () => Promise<T>): Promise<{ value: T } | { error: unknown }> {
  try {
    return { value: await request() };
  } catch (error) {
    return { error };
  }
}

async function attempt<T>(action: () => T): Promise<T> {
  return action();
}

function keyOf(name: string, namespace = ""): string {
  return `${namespace}/${name}`;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const each of Object.values(value)) deepFreeze(each);
  }
  return value;
}
