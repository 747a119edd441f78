/**
 * Keeps the addresses of Services of type LoadBalancer: informers → queue of Services → converge →
 * probe → status, Events. One at a time writes Services (beside the embedded API server the only one
 * there is, else the leader). The decision is converge's and the state Allocator's; what is here is
 * when, and what must not happen in between.
 *
 * Order of a start: all copies are there → the pools → every Service that shows an address keeps it,
 * the oldest first → turns. So none is given away that somebody has.
 *
 * Order of a turn: the newest copy of the Service (our own write may be ahead of the watch; after a
 * failed write the server is asked) → converge → a new address is probed, and another one is looked for
 * if it is taken → status and annotation in one write that fails if the Service has changed → what it
 * gave up is free, Events are told, those that wait get a turn.
 */
import { type Clock, SYSTEM_CLOCK } from "../kube/Clock.js";
import { EventRecorder } from "../kube/EventRecorder.js";
import { Informer } from "../kube/Informer.js";
import type { KubeApi, KubeObject, ResourceRef } from "../kube/KubeApi.js";
import { isConflict, isNotFound } from "../kube/KubeError.js";
import { IPADDRESSPOOLS, L2ADVERTISEMENTS, NAMESPACES, SERVICES } from "../kube/resources.js";
import type { IPAddressPool, L2Advertisement, Namespace, Service } from "../kube/types.js";
import { WorkQueue } from "../kube/WorkQueue.js";
import { formatIpv4, parseIpv4 } from "../model/ipv4.js";
import { IP_ALLOCATED_FROM_POOL, METALLB_NAMESPACE, METALLB_PREFIXES } from "../model/metallb.js";
import { Allocator } from "./Allocator.js";
import { ConfigurationError } from "./addressRange.js";
import { converge, type ServiceEvent, type Step, statusAddresses } from "./converge.js";
import type { AddressProber } from "./NodeProber.js";
import { checkAdvertisement, PoolError, type Pools, poolsOf } from "./pools.js";
import { claimOf, isOurs, serviceKey } from "./request.js";

/** Who the Events are from. */
const COMPONENT = "podwire-controller";
/** Services in work at a time: each may wait for a probe. */
const CONCURRENCY = 8;
/** An address that is taken is probed again after this time, when somebody wants it. */
const TAKEN_MS = 300_000;
/** An address that was ours so recently is not probed: our own nodes may still answer for it. */
const OURS_MS = 60_000;
/** An advertisement is looked at so long after it came: its pools may come behind it. */
const ADVERTISEMENT_MS = 5_000;

export interface VipControllerOptions {
  /** Namespace of the pools and advertisements. Default metallb-system. */
  namespace?: string;
  /** Only Services of this class. Default: those without a class and those of ours. */
  loadBalancerClass?: string | undefined;
  /** Asked before an address is used for the first time. Without: none is asked. */
  prober?: AddressProber;
  clock?: Clock;
  random?: () => number;
  /** Told of what failed and is tried again; `key` is a Service, a pool or a kind. */
  onError?: (key: string, error: unknown) => void;
}

export class VipController {
  readonly #allocator = new Allocator();
  readonly #services: Informer<Service>;
  readonly #pools: Informer<IPAddressPool>;
  readonly #advertisements: Informer<L2Advertisement>;
  readonly #namespaces: Informer<Namespace>;
  readonly #queue: WorkQueue;
  readonly #poolQueue: WorkQueue;
  readonly #advertisementQueue: WorkQueue;
  readonly #recorder: EventRecorder;
  readonly #clock: Clock;
  readonly #random: () => number;

  /** Null until there is a configuration without fault; until then no Service is touched. */
  #configuration: Pools | null = null;
  /** Services as our last write of them left them, until the watch has caught up. */
  readonly #written = new Map<string, Service>();
  /** Services whose last write failed: it may have been carried out. */
  readonly #uncertain = new Set<string>();
  /** Uids of the Services that the allocator knows: one of the same name may be another. */
  readonly #uids = new Map<string, string>();
  /** Services that should have an address and have none, the one that waits longest first. */
  readonly #waiting = new Set<string>();
  /** Events of a Service that wait for its status to be written. */
  readonly #due = new Map<string, ServiceEvent[]>();
  /** Warnings that were told of an object (uid) and still hold. */
  readonly #warned = new Map<string, Set<string>>();
  /** Addresses that devices which are not ours have. */
  readonly #taken = new Map<number, { mac: string; until: number }>();
  /** Addresses that need no probe, until when. */
  readonly #proven = new Map<number, number>();
  readonly #probes = new Map<number, Promise<string | null>>();
  readonly #timers = new Set<() => void>();
  #started = false;
  #stopped = false;

  constructor(
    private readonly kube: KubeApi,
    private readonly options: VipControllerOptions = {},
  ) {
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#random = options.random ?? Math.random;
    const namespace = options.namespace ?? METALLB_NAMESPACE;
    this.#services = this.#informer<Service>(SERVICES);
    this.#pools = this.#informer<IPAddressPool>(IPADDRESSPOOLS, namespace);
    this.#advertisements = this.#informer<L2Advertisement>(L2ADVERTISEMENTS, namespace);
    this.#namespaces = this.#informer<Namespace>(NAMESPACES);
    this.#recorder = new EventRecorder(kube, {
      component: COMPONENT,
      clock: this.#clock,
      onError: (error) => this.#failed("events", error),
    });
    this.#queue = this.#workQueue((key) => this.#turn(key), CONCURRENCY);
    this.#poolQueue = this.#workQueue((name) => this.#writePoolStatus(name));
    this.#advertisementQueue = this.#workQueue(async (name) => this.#lookAtAdvertisement(name));

    const ofService = (service: Service) => this.#queue.add(serviceKey(service));
    this.#services.addHandler({
      added: ofService,
      updated: ofService,
      deleted: (service) => {
        this.#forgetWritten(service);
        ofService(service);
      },
    });
    const reconfigure = () => this.#reconfigure();
    const ofPool = (pool: IPAddressPool) => {
      reconfigure();
      this.#poolQueue.add(pool.metadata.name!);
      for (const { metadata } of this.#advertisements.list())
        this.#advertisementQueue.addAfter(metadata.name!, ADVERTISEMENT_MS);
    };
    this.#pools.addHandler({
      added: ofPool,
      updated: ofPool,
      deleted: (pool) => {
        this.#warned.delete(pool.metadata.uid!);
        ofPool(pool);
      },
    });
    this.#namespaces.addHandler({ added: reconfigure, updated: reconfigure, deleted: reconfigure });
    const ofAdvertisement = ({ metadata }: L2Advertisement) =>
      this.#advertisementQueue.addAfter(metadata.name!, ADVERTISEMENT_MS);
    this.#advertisements.addHandler({
      added: ofAdvertisement,
      updated: ofAdvertisement,
      deleted: ({ metadata }) => this.#warned.delete(metadata.uid!),
    });
  }

  /** Starts; resolves when the first list of everything was taken over. */
  async start(): Promise<void> {
    const informers = [this.#services, this.#pools, this.#advertisements, this.#namespaces];
    for (const informer of informers) informer.start();
    await Promise.all(informers.map(({ synced }) => synced));
    if (this.#stopped) return;
    const services = this.#services.list().sort(byAge);
    for (const service of services) this.#adopt(service);
    this.#started = true;
    this.#reconfigure();
    for (const service of services) this.#queue.add(serviceKey(service));
    for (const { metadata } of this.#pools.list()) this.#poolQueue.add(metadata.name!);
  }

  /** Resolves when nothing is left to do now, and the Events are written. */
  async idle(): Promise<void> {
    while (this.size > 0) {
      await Promise.all([this.#queue.idle(), this.#poolQueue.idle(), this.#advertisementQueue.idle()]);
    }
    await this.#recorder.flush();
  }

  /** Addresses that Services have and that are left, by pool; none while no configuration holds. */
  usage(): { pool: string; assigned: number; available: number }[] {
    return [...(this.#configuration?.keys() ?? [])].map((pool) => ({
      pool,
      ...this.#allocator.counters(pool),
    }));
  }

  /** Turns that wait or are in work. */
  get size(): number {
    return this.#queue.size + this.#poolQueue.size + this.#advertisementQueue.size;
  }

  /** Ends everything. What Services have stays theirs. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const cancel of this.#timers) cancel();
    await Promise.all([this.#queue.stop(), this.#poolQueue.stop(), this.#advertisementQueue.stop()]);
    const informers = [this.#services, this.#pools, this.#advertisements, this.#namespaces];
    await Promise.all(informers.map((informer) => informer.stop()));
    await this.#recorder.flush();
  }

  // ---- configuration ------------------------------------------------------------------------

  /** Takes the pools over; keeps the last good ones where they are at fault, as MetalLB does. */
  #reconfigure(): void {
    if (!this.#started) return;
    const objects = this.#pools.list();
    let pools: Pools;
    try {
      pools = poolsOf(objects, this.#namespaces.list());
    } catch (error) {
      if (!(error instanceof PoolError)) throw error;
      const about = objects.find(({ metadata }) => metadata.name === error.pool)!;
      this.#warn(IPADDRESSPOOLS, about, "ConfigError", `failed to parse configuration: ${error.message}`);
      return;
    }
    for (const { metadata } of objects) this.#warned.delete(metadata.uid!);
    if (this.#configuration && sameConfiguration(this.#configuration, pools)) return;
    this.#configuration = pools;
    this.#allocator.setPools(pools);
    // Who has an address keeps it before others get one; then in the order in which they wait.
    const services = this.#services.list().sort(byAge);
    for (const service of services)
      if (statusAddresses(service).length > 0) this.#queue.add(serviceKey(service));
    this.#wakeWaiting();
    for (const service of services) this.#queue.add(serviceKey(service));
    for (const name of pools.keys()) this.#poolQueue.add(name);
  }

  async #writePoolStatus(name: string): Promise<void> {
    const pool = this.#pools.get(name, this.options.namespace ?? METALLB_NAMESPACE);
    if (!pool || !this.#configuration?.has(name)) return;
    const { assigned, available } = this.#allocator.counters(name);
    const status = { assignedIPv4: assigned, assignedIPv6: 0, availableIPv4: available, availableIPv6: 0 };
    const known = pool.status ?? {};
    if (Object.entries(status).every(([field, value]) => known[field] === value)) return;
    const { namespace, uid } = pool.metadata;
    const patch = { metadata: { uid }, status };
    try {
      await this.kube.patch<IPAddressPool>(IPADDRESSPOOLS, name, namespace, "merge", patch, "status");
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  /** MetalLB ignores pools that an advertisement names and that are not there; we say so. */
  #lookAtAdvertisement(name: string): void {
    const advertisement = this.#advertisements.get(name, this.options.namespace ?? METALLB_NAMESPACE);
    if (!advertisement) return;
    let fault: [reason: string, message: string] | null = null;
    try {
      checkAdvertisement(advertisement);
      const known = new Set(this.#pools.list().map(({ metadata }) => metadata.name));
      const unknown = (advertisement.spec?.ipAddressPools ?? []).filter((pool) => !known.has(pool));
      if (unknown.length > 0) fault = ["UnknownPool", `no IPAddressPool of this name: ${unknown.join(", ")}`];
    } catch (error) {
      if (!(error instanceof ConfigurationError)) throw error;
      fault = ["ConfigError", `failed to parse configuration: ${error.message}`];
    }
    if (fault === null) this.#warned.delete(advertisement.metadata.uid!);
    else this.#warn(L2ADVERTISEMENTS, advertisement, ...fault);
  }

  // ---- services -----------------------------------------------------------------------------

  /** At the start: what a Service shows is its own, unless an older one has it. */
  #adopt(service: Service): void {
    if (!this.#isBalanced(service)) return;
    const [shown, ...more] = statusAddresses(service);
    const address = shown === undefined || more.length > 0 ? null : parseIpv4(shown);
    if (address === null) return;
    if (this.#allocator.adopt(claimOf(service), address)) {
      this.#uids.set(serviceKey(service), service.metadata.uid!);
      this.#proven.set(address, Number.POSITIVE_INFINITY);
    }
  }

  #isBalanced(service: Service): boolean {
    return service.spec?.type === "LoadBalancer" && isOurs(service, this.options.loadBalancerClass);
  }

  async #turn(key: string): Promise<void> {
    if (!this.#started) return;
    const service = await this.#newest(key);
    if (service?.metadata.uid !== this.#uids.get(key)) this.#release(key);
    if (!service) return;
    if (!this.#isBalanced(service)) {
      // Its class goes with its type, so it may not be ours by that any more.
      const had = this.#allocator.addressOf(key) !== null;
      const ours = had || isOurs(service, this.options.loadBalancerClass);
      if (service.spec?.type !== "LoadBalancer" && ours) await this.#write(service, null);
      return this.#release(key);
    }
    this.#uids.set(key, service.metadata.uid!);
    if (this.#configuration === null) return;
    const before = this.#allocator.allocationKey(key);
    const step = await this.#decide(service);
    if (step === null) return;
    if (step.address === null) this.#waiting.add(key);
    else this.#waiting.delete(key);
    if (step.events.length > 0) this.#due.set(key, step.events);
    await this.#write(service, step.address);
    this.#tellDue(service, step.address !== null);
    const freed = this.#allocator.settle(key);
    this.#rememberFreed(before);
    const changed = before !== this.#allocator.allocationKey(key);
    if (freed || changed) this.#countPools();
    // Others may fit where something went, or where they may share.
    if (freed || (changed && (before !== "" || claimOf(service).sharingKey !== ""))) this.#wakeWaiting();
  }

  /** Null where we were stopped meanwhile. */
  async #decide(service: Service): Promise<Step | null> {
    const key = serviceKey(service);
    for (;;) {
      const step = converge(service, this.#allocator, { taken: (address) => this.#takenBy(address) });
      const { address } = step;
      if (address === null || !step.isNew) return step;
      const mac = await this.#probe(address);
      if (this.#stopped) return null;
      if (mac === null) return step;
      this.#allocator.unassign(key);
      const message = `IP ${JSON.stringify(formatIpv4(address))} is in use by ${mac} on the LAN, it is left out`;
      this.#warn(SERVICES, service, "AddressInUse", message);
      this.#later(TAKEN_MS, () => this.#wakeWaiting());
    }
  }

  /** The Service as it is by all that we know; undefined: it is gone. */
  async #newest(key: string): Promise<Service | undefined> {
    const [namespace, name] = key.split("/") as [string, string];
    if (this.#uncertain.has(key)) {
      try {
        this.#written.set(key, await this.kube.get<Service>(SERVICES, name, namespace));
      } catch (error) {
        if (!isNotFound(error)) throw error;
        this.#written.delete(key);
        this.#uncertain.delete(key);
        return undefined;
      }
      this.#uncertain.delete(key);
    }
    const watched = this.#services.get(name, namespace);
    const written = this.#written.get(key);
    if (!written) return watched;
    if (watched && version(watched) >= version(written)) {
      this.#written.delete(key);
      return watched;
    }
    return written;
  }

  #forgetWritten(service: Service): void {
    const key = serviceKey(service);
    if (this.#written.get(key)?.metadata.uid === service.metadata.uid) this.#written.delete(key);
  }

  /** Writes what the Service shall show, if it does not: status, and the annotation of the pool. */
  async #write(service: Service, address: number | null): Promise<void> {
    const key = serviceKey(service);
    const { name, namespace, uid, resourceVersion } = service.metadata;
    const pool = address === null ? null : this.#allocator.poolOf(key);
    const annotations = annotationChange(service, pool);
    const ingress = address === null ? null : [{ ip: formatIpv4(address), ipMode: "VIP" }];
    if (annotations === null && showsOnly(service, address)) return;
    const patch = {
      metadata: { uid, resourceVersion, ...(annotations && { annotations }) },
      status: { loadBalancer: { ingress } },
    };
    try {
      const answer = await this.kube.patch<Service>(SERVICES, name!, namespace, "merge", patch, "status");
      this.#written.set(key, answer);
      const watched = this.#services.get(name!, namespace);
      // Its end may have come before the answer.
      if (!watched || watched.metadata.uid !== uid) this.#uncertain.add(key);
    } catch (error) {
      this.#uncertain.add(key);
      throw error;
    }
  }

  /** The Service is gone, or no longer ours. */
  #release(key: string): void {
    const uid = this.#uids.get(key);
    if (uid !== undefined) this.#warned.delete(uid);
    this.#uids.delete(key);
    this.#waiting.delete(key);
    this.#due.delete(key);
    const before = this.#allocator.allocationKey(key);
    this.#allocator.unassign(key);
    const freed = this.#allocator.settle(key);
    this.#rememberFreed(before);
    if (!freed && before === "") return;
    this.#wakeWaiting();
    this.#countPools();
  }

  #countPools(): void {
    for (const name of this.#configuration?.keys() ?? []) this.#poolQueue.add(name);
  }

  #wakeWaiting(): void {
    for (const key of this.#waiting) this.#queue.add(key);
  }

  // ---- probes -------------------------------------------------------------------------------

  /** MAC of the device that has the address, null where it can be used. */
  #probe(address: number): Promise<string | null> {
    const proven = this.#proven.get(address);
    if (proven !== undefined && proven > this.#clock.now()) {
      this.#proven.set(address, Number.POSITIVE_INFINITY);
      return Promise.resolve(null);
    }
    const running = this.#probes.get(address);
    if (running) return running;
    const probe = this.#ask(address).finally(() => this.#probes.delete(address));
    this.#probes.set(address, probe);
    return probe;
  }

  async #ask(address: number): Promise<string | null> {
    const result = (await this.options.prober?.probe(formatIpv4(address))) ?? { state: "unknown" };
    if (result.state === "taken") {
      this.#taken.set(address, { mac: result.mac, until: this.#clock.now() + TAKEN_MS });
      return result.mac;
    }
    this.#proven.set(address, Number.POSITIVE_INFINITY);
    return null;
  }

  #takenBy(address: number): string | null {
    const taken = this.#taken.get(address);
    if (taken && taken.until > this.#clock.now()) return taken.mac;
    this.#taken.delete(address);
    return null;
  }

  /** `before`: an allocationKey. */
  #rememberFreed(before: string): void {
    if (before === "") return;
    const [address] = JSON.parse(before) as [number];
    if (this.#allocator.servicesOn(address).size > 0) return;
    this.#proven.set(address, this.#clock.now() + OURS_MS);
  }

  #later(ms: number, work: () => void): void {
    const cancel = this.#clock.after(ms, () => {
      this.#timers.delete(cancel);
      work();
    });
    this.#timers.add(cancel);
  }

  // ---- events -------------------------------------------------------------------------------

  /** Tells what waited for the status. A Service that has its address may be warned anew later. */
  #tellDue(service: Service, served: boolean): void {
    const key = serviceKey(service);
    const events = this.#due.get(key) ?? [];
    this.#due.delete(key);
    for (const { type, reason, message } of events)
      if (type === "Warning") this.#warn(SERVICES, service, reason, message);
      else this.#recorder.record(SERVICES, service, type, reason, message);
    const failed = events.some(({ type }) => type === "Warning");
    if (served && !failed) this.#warned.delete(service.metadata.uid!);
  }

  /** Says it once, for as long as it holds. */
  #warn(resource: ResourceRef, about: KubeObject, reason: string, message: string): void {
    const uid = about.metadata.uid!;
    const texts = this.#warned.get(uid) ?? new Set();
    if (texts.has(message)) return;
    this.#warned.set(uid, texts.add(message));
    this.#recorder.record(resource, about, "Warning", reason, message);
  }

  // ---- machinery ----------------------------------------------------------------------------

  #informer<T extends KubeObject>(resource: ResourceRef, namespace?: string): Informer<T> {
    return new Informer<T>(this.kube, resource, {
      clock: this.#clock,
      random: this.#random,
      ...(namespace !== undefined && { namespace }),
      onError: (error) => this.#failed(resource.plural, error),
    });
  }

  #workQueue(process: (key: string) => Promise<void>, concurrency = 1): WorkQueue {
    return new WorkQueue({
      process,
      concurrency,
      clock: this.#clock,
      random: this.#random,
      onError: (key, error) => {
        // The usual race with another writer; the next turn sees its change.
        if (!isConflict(error)) this.#failed(key, error);
      },
    });
  }

  #failed(key: string, error: unknown): void {
    this.options.onError?.(key, error);
  }
}

/** Whether the status shows this address as a virtual one, and nothing else. */
function showsOnly(service: Service, address: number | null): boolean {
  const ingress = service.status?.loadBalancer?.ingress ?? [];
  if (address === null) return ingress.length === 0;
  const [one, ...more] = ingress;
  return more.length === 0 && one?.ip === formatIpv4(address) && (one.ipMode ?? "VIP") === "VIP";
}

/** What to change so that the annotation names `pool` (null: none); null where nothing is. */
function annotationChange({ metadata }: Service, pool: string | null): Record<string, string | null> | null {
  const [prefix, old] = METALLB_PREFIXES;
  const wish = { [`${prefix}/${IP_ALLOCATED_FROM_POOL}`]: pool, [`${old}/${IP_ALLOCATED_FROM_POOL}`]: null };
  const changed = Object.entries(wish).filter(
    ([name, value]) => (metadata.annotations?.[name] ?? null) !== value,
  );
  return changed.length === 0 ? null : Object.fromEntries(changed);
}

function version({ metadata }: KubeObject): number {
  return Number(metadata.resourceVersion ?? 0);
}

/** The oldest first; created in the same second, by name. */
function byAge(a: Service, b: Service): number {
  const text = (service: Service) => `${service.metadata.creationTimestamp ?? ""} ${serviceKey(service)}`;
  return text(a) < text(b) ? -1 : 1;
}

function sameConfiguration(a: Pools, b: Pools): boolean {
  const text = (pools: Pools) =>
    JSON.stringify([...pools.values()], (_key, value: unknown) =>
      value instanceof Set ? [...value].sort() : value,
    );
  return text(a) === text(b);
}
