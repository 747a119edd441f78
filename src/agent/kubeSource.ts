/**
 * The agent's config from a Kubernetes API: registers the node, claims its block, watches, and
 * compiles what it sees into the same AgentConfig that a file gives. Order at the start:
 *
 *   1. Node            registered, not yet ready
 *   2. block           claimed, with the tunnel address in it
 *   3. Node            announces the tunnel address
 *   4. list and watch  IPPools, IPAMBlocks, Nodes, this node's Pods; Services, EndpointSlices;
 *                      IPAddressPools, L2Advertisements where the cluster has these
 *   5. config          compiled, again after each change of these; a burst gives one config
 *   6. Node            Ready, once the agent forwards by a config
 *   7. Services        kept apart from the config, since there may be a thousand times as much of them;
 *                      what of them is the host's (addresses, health checks) comes into the config
 *   8. announcements   who may own which load-balancer address, into the config too: not before the
 *                      dataplane has the Services, since the other nodes hear by BFD that we may
 *
 * Without a server nothing changes: the last config stands, and is also kept in a file, so that an
 * agent which starts meanwhile forwards by it. Must not know the host or the worker.
 */

import { type BlockObject, Overlay, type PoolObject } from "../desired/nodes.js";
import { LocalPods, podName, wantsAddress } from "../desired/pods.js";
import type { EndpointSliceObject, ServiceObject } from "../desired/serviceObjects.js";
import { type SavedServices, Services } from "../desired/services.js";
import { backoff, type Clock, SYSTEM_CLOCK, sleep } from "../kube/Clock.js";
import { EventRecorder } from "../kube/EventRecorder.js";
import { Informer, type InformerOptions } from "../kube/Informer.js";
import type { KubeApi, KubeObject, ObjectMeta, ResourceRef } from "../kube/KubeApi.js";
import { isNotFound, KubeError } from "../kube/KubeError.js";
import { NodeHeartbeat } from "../kube/Lease.js";
import { ENDPOINTSLICES, IPAMBLOCKS, IPPOOLS, NODES, PODS, SERVICES } from "../kube/resources.js";
import type { Node, Pod } from "../kube/types.js";
import { WorkQueue } from "../kube/WorkQueue.js";
import type { AgentConfig, AnnounceConfig, PodConfig, ServiceHostConfig } from "../model/AgentConfig.js";
import { formatIpv4, type Ipv4Prefix, parseCidr } from "../model/ipv4.js";
import { MAX_PORTS } from "../packet/layout.js";
import type { Log } from "../reconcile/Log.js";
import { RESERVED_PORTS } from "../reconcile/Reconciler.js";
import { AddressProbes, type ProbeAddress } from "./AddressProbes.js";
import type { AddressReport } from "./AnnouncementReport.js";
import { Announcements } from "./announcements.js";
import { type LanInterface, type NodeDescription, NodeRegistration } from "./NodeRegistration.js";

/** Changes within this time make one config. */
const SETTLE_MS = 10;
/** A node catches up within this time once its server is back: a second, as with every other change. */
const RETRY = { first: 100, most: 1_000 };
/** Services that change all the time are kept this often: thousands of them take a second to write. */
const SAVE_SERVICES_MS = 5_000;
/** The Node's status is reported this often without a change (kubelet's nodeStatusReportFrequency). */
const STATUS_MS = 300_000;

/** Gives this node addresses; ipam's Allocator is one. */
export interface BlockClaimer {
  /** The node's tunnel address; claims a block where it has none. */
  tunnelAddress(): Promise<string>;
  /** An address for a handle; the same one if it has one. */
  assign(handle: string, attributes: { pod: string; namespace: string; uid: string }): Promise<string>;
  /** Frees what a handle holds. */
  release(handle: string): Promise<unknown>;
}

export interface KubeSourceOptions {
  api: KubeApi;
  claimer: BlockClaimer;
  /** What the config takes over as it is. */
  base: Pick<AgentConfig, "node" | "stateDir" | "underlay" | "serviceHost" | "metrics" | "dataplane">;
  /** Path of a pod's network namespace; see desired/pods netnsPath. */
  podNetns: string;
  /** Services may have external addresses in these alone. Default: in none. */
  externalIpRanges?: readonly Ipv4Prefix[];
  /** How load-balancer addresses are announced. Default: none are, and no node is watched. */
  announce?: Pick<AnnounceConfig, "interface" | "bfd">;
  /** Namespace of MetalLB's objects. Default metallb-system. */
  metallbNamespace?: string | undefined;
  /** What a container runtime has asked for by CNI. With it the Node and its pods are a kubelet's. */
  attachments?: { pods(): PodConfig[] } | undefined;
  /** Asks the LAN for the controller whether somebody has an address. */
  probe?: ProbeAddress;
  description: Omit<NodeDescription, "node" | "underlayAddress" | "vxlanPort" | "pods" | "kubelet">;
  /** Keeps the last config; called when it has changed. */
  save?: (config: AgentConfig) => void;
  /** Keeps the last Services; called some seconds after they have changed, and at the end. */
  saveServices?: (services: SavedServices) => void;
  /** Told when it changes whether load balancers may send this node anything new. */
  onNodeEligible?: (eligible: boolean) => void;
  log: Log;
  clock?: Clock;
  random?: () => number;
}

/** Taint of a Node that the cluster autoscaler is going to remove. */
const TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler";

/** Pods that one node can have. */
export const MAX_PODS = MAX_PORTS - RESERVED_PORTS;

export class KubeSource {
  private readonly api: KubeApi;
  private readonly log: Log;
  private readonly clock: Clock;
  private readonly overlay: Overlay;
  private readonly localPods: LocalPods;
  /** The Services that are watched; the agent has them compiled. */
  readonly services: Services;
  private readonly registration: NodeRegistration;
  private readonly heartbeat: NodeHeartbeat;
  private readonly events: EventRecorder;
  private readonly informers: Informer<KubeObject>[];
  private readonly pods: Informer<Pod>;
  private readonly serviceNames: Informer<KubeObject>;
  private readonly announcements: Announcements | null;
  private readonly probes: AddressProbes | null;
  private readonly addresses: WorkQueue;
  private readonly nodeWork: WorkQueue;
  private readonly abort = new AbortController();
  private tunnelAddress = "";
  private apply: ((config: AgentConfig) => Promise<void>) | null = null;
  private applyServices: (() => Promise<void>) | null = null;
  private servicesChanged = true;
  /** What of Services is the host's, of those that the dataplane has; null before the first ones. */
  private hosted: ServiceHostConfig | null = null;
  /** Who may own which address, of the Services that the dataplane has; null before the first ones. */
  private announced: AnnounceConfig | null = null;
  private announcementsChanged = true;
  private cancelCompile: (() => void) | null = null;
  private cancelSaveServices: (() => void) | null = null;
  private applying: Promise<void> = Promise.resolve();
  private applied = "";
  private saved = "";
  private reachable = true;
  private lastRefusal = "";
  private readonly told = new Set<string>();
  /** Resolves when the first config from the API is there; never rejects. */
  readonly ready: Promise<AgentConfig>;
  private reportReady!: (config: AgentConfig) => void;
  private running: Promise<void> = Promise.resolve();

  constructor(private readonly options: KubeSourceOptions) {
    const { base, api, log } = options;
    const { node, underlay } = base;
    this.api = api;
    this.log = log;
    this.clock = options.clock ?? SYSTEM_CLOCK;
    const { clock } = this;
    const random = options.random ?? Math.random;
    this.overlay = new Overlay({ node, underlayAddress: underlay.address, vxlanPort: underlay.port });
    this.localPods = new LocalPods(options.podNetns, MAX_PODS);
    this.services = new Services({ node, externalIpRanges: options.externalIpRanges ?? [] });
    const kubelet = options.attachments !== undefined;
    const named = {
      node,
      underlayAddress: underlay.address,
      vxlanPort: underlay.port,
      pods: MAX_PODS,
      kubelet,
    };
    this.registration = new NodeRegistration(api, { ...options.description, ...named }, () => clock.date());
    const onError = (error: unknown) => this.failed(error);
    this.heartbeat = new NodeHeartbeat(api, node, () => this.registration.owner, { clock, onError });
    this.events = new EventRecorder(api, { component: "podwire-agent", host: node, clock, onError });
    const common = { clock, random, backoff: RETRY, onError };
    this.pods = this.followPods(common);
    this.serviceNames = this.followServices<KubeObject & ServiceObject>(
      SERVICES,
      common,
      (service) => this.services.setService(service),
      ({ namespace = "", name = "" }) => this.services.removeService(namespace, name),
    );
    this.announcements =
      options.announce === undefined
        ? null
        : new Announcements({
            ...common,
            api,
            node,
            settings: options.announce,
            namespace: options.metallbNamespace,
            services: this.services,
            identify: (namespace, name) => this.serviceNames.get(name, namespace),
            events: this.events,
            log,
            onChanged: () => this.changedAnnouncements(),
          });
    const { probe } = options;
    this.probes =
      probe === undefined ? null : new AddressProbes({ api, node, probe, clock, random, onError });
    this.informers = [
      this.follow<KubeObject & PoolObject>(
        IPPOOLS,
        common,
        (pool) => this.overlay.setPool(pool),
        (name) => this.overlay.removePool(name),
      ),
      this.follow<KubeObject & BlockObject>(
        IPAMBLOCKS,
        { ...common, transform: slimBlock },
        (block) => this.overlay.setBlock(block),
        (name) => this.overlay.removeBlock(name),
      ),
      this.followNodes(common),
      this.pods as unknown as Informer<KubeObject>,
      this.serviceNames,
      this.followServices<KubeObject & EndpointSliceObject>(
        ENDPOINTSLICES,
        common,
        (slice) => this.services.setSlice(slice),
        ({ namespace = "", name = "" }) => this.services.removeSlice(namespace, name),
      ),
    ];
    const queue = { clock, random, backoff: RETRY };
    this.addresses = new WorkQueue({
      ...queue,
      process: (key) => this.settleAddress(key),
      onError: (pod, error) => this.failed(error, { pod }),
    });
    this.nodeWork = new WorkQueue({
      ...queue,
      process: (key) => this.reportNode(key),
      onError: (_, error) => onError(error),
    });
    this.ready = new Promise((resolve) => {
      this.reportReady = resolve;
    });
  }

  /**
   * Takes over what was kept of the last agent's, before the start: Services that are compiled until the
   * API's are all there.
   */
  restore({ podPool }: AgentConfig, services: SavedServices): void {
    this.services.setPools(podPool.map((pool) => parseCidr(pool)!));
    this.services.restore(services);
  }

  /** Starts all of it; goes on trying for as long as there is no server. */
  start(): void {
    this.running = this.run();
  }

  /**
   * From now on `apply` gets every config that differs from the last, one at a time. `current` is
   * what is in effect already: the node is reported Ready. `applyServices` is called when `services`
   * have changed, after the config of the same moment.
   */
  async feed(
    current: AgentConfig,
    apply: (config: AgentConfig) => Promise<void>,
    applyServices: () => Promise<void> = async () => {},
  ): Promise<void> {
    this.apply = apply;
    // From here on pods here are reached: not before is the node Ready.
    this.registration.setForwarding();
    if (this.tunnelAddress !== "") this.nodeWork.add("look");
    this.applyServices = applyServices;
    this.applied = JSON.stringify(current);
    this.save(current);
    if (this.synced) this.changed();
  }

  /**
   * Has the agent take over at once what `attachments` says. Rejects before the API has said what there is.
   */
  async applyAttachments(): Promise<void> {
    if (!this.synced || this.apply === null) throw new Error("the API server has not answered yet");
    this.applying = this.applying.then(() => this.compileAndApply());
    await this.applying;
  }

  /** Whether the watches are open. */
  get connected(): boolean {
    return this.informers.every((informer) => informer.connected);
  }

  /** An Event of a Service, as kube-proxy writes it where it cannot serve a health check. */
  reportServiceHealthFailed(namespace: string, name: string, message: string): void {
    const metadata = { namespace, name, uid: `${namespace}/${name}` };
    this.events.record(SERVICES, { metadata }, "Warning", "FailedToStartServiceHealthcheck", message);
  }

  /** The interface on which the agent announces, null for none. Other nodes learn it from the Node. */
  setLan(lan: LanInterface | null): void {
    this.registration.setLan(lan);
    if (this.tunnelAddress !== "") this.nodeWork.add("look");
  }

  /** What became of a load-balancer address, for Events of its Services. */
  reportAddress(report: AddressReport): void {
    this.announcements?.report(report);
  }

  /** Every load-balancer address, also those that nobody may announce, as they were compiled last. */
  get announcedAddresses(): Announcements["addresses"] {
    return this.announcements?.addresses ?? [];
  }

  async stop(): Promise<void> {
    this.abort.abort();
    this.cancelCompile?.();
    await Promise.all([
      this.running,
      this.heartbeat.stop(),
      this.addresses.stop(),
      this.nodeWork.stop(),
      this.announcements?.stop(),
      this.probes?.stop(),
      ...this.informers.map((informer) => informer.stop()),
    ]);
    await this.applying;
    if (this.cancelSaveServices === null) return;
    this.cancelSaveServices();
    this.saveServices();
  }

  // ---- start --------------------------------------------------------------------------------

  private async run(): Promise<void> {
    const { signal } = this.abort;
    await this.until("register the node", () => this.registration.register());
    if (signal.aborted) return;
    if (this.registration.owned) this.heartbeat.start();
    await this.until("claim a block", async () => {
      this.tunnelAddress = await this.options.claimer.tunnelAddress();
    });
    await this.until("announce the tunnel address", () => this.registration.announce(this.tunnelAddress));
    if (signal.aborted) return;
    for (const informer of this.informers) informer.start();
    this.announcements?.start();
    this.scheduleStatus();
    await Promise.race([
      Promise.all(this.informers.map((informer) => informer.synced)),
      new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true })),
    ]);
    if (signal.aborted) return;
    this.services.forgetRestored();
    this.changed();
  }

  /** Tries until it works, or until stop(). */
  private async until(what: string, work: () => Promise<unknown>): Promise<void> {
    const { signal } = this.abort;
    const random = this.options.random ?? Math.random;
    for (let failures = 0; !signal.aborted; ) {
      try {
        await work();
        this.succeeded();
        return;
      } catch (error) {
        failures++;
        this.failed(error, { what });
        await sleep(this.clock, backoff(failures, RETRY, random), signal);
      }
    }
  }

  // ---- what is watched ----------------------------------------------------------------------

  private follow<T extends KubeObject>(
    resource: ResourceRef,
    options: InformerOptions<T>,
    set: (object: T) => boolean,
    remove: (name: string) => boolean,
  ): Informer<KubeObject> {
    const take = (object: T) => {
      this.succeeded();
      if (set(object)) this.changed();
    };
    const informer = new Informer<T>(this.api, resource, options);
    informer.addHandler({
      added: take,
      updated: take,
      deleted: ({ metadata }) => {
        if (remove(metadata.name ?? "")) this.changed();
      },
    });
    return informer as unknown as Informer<KubeObject>;
  }

  /** What is kept of these, `services` keeps: the informer only who there is. */
  private followServices<T extends KubeObject>(
    resource: ResourceRef,
    common: InformerOptions<T>,
    set: (object: T) => boolean,
    remove: (metadata: ObjectMeta) => boolean,
  ): Informer<KubeObject> {
    const take = (object: T) => {
      this.succeeded();
      if (set(object)) this.changedServices();
    };
    const informer = new Informer<T>(this.api, resource, { ...common, retain: identityOf });
    informer.addHandler({
      added: take,
      updated: take,
      deleted: ({ metadata }) => {
        if (remove(metadata)) this.changedServices();
      },
    });
    return informer as unknown as Informer<KubeObject>;
  }

  private followNodes(common: InformerOptions<Node>): Informer<KubeObject> {
    const { node } = this.options.base;
    const informer = this.follow<Node>(
      NODES,
      { ...common, transform: slimNode },
      (object) => {
        if (this.services.setNode(object)) this.changedServices();
        if (this.announcements?.setNode(object)) this.changedAnnouncements();
        return this.overlay.setNode(object);
      },
      (name) => {
        if (this.announcements?.removeNode(name)) this.changedAnnouncements();
        return this.overlay.removeNode(name);
      },
    );
    informer.addHandler({
      added: (object) => {
        this.noteEligible(object);
        if (object.metadata.name === node) this.probes?.take(object);
      },
      updated: (object) => {
        this.noteEligible(object);
        if (object.metadata.name !== node) return;
        this.nodeWork.add("look");
        this.probes?.take(object);
      },
      deleted: ({ metadata }) => {
        if (metadata.name !== node) return;
        this.options.onNodeEligible?.(false);
        this.log.warn(
          { node },
          "this node's Node was deleted; the agent registers again when it is started anew",
        );
      },
    });
    return informer;
  }

  /** As kube-proxy's NodeEligible: not where the Node is being deleted, or is about to be. */
  private noteEligible({ metadata, spec }: Node): void {
    if (metadata.name !== this.options.base.node) return;
    const leaving = metadata.deletionTimestamp !== undefined || (spec?.taints ?? []).length > 0;
    this.options.onNodeEligible?.(!leaving);
  }

  private followPods(common: InformerOptions<Pod>): Informer<Pod> {
    const fieldSelector = `spec.nodeName=${this.options.base.node}`;
    const informer = new Informer<Pod>(this.api, PODS, { ...common, fieldSelector, transform: slimPod });
    const take = (pod: Pod) => {
      this.succeeded();
      if (this.localPods.set(pod)) this.changed();
      if (wantsAddress(pod) ? !this.isReported(pod) : pod.status?.podIP !== undefined)
        this.addresses.add(`${podName(pod)} ${pod.metadata.uid}`);
    };
    return informer.addHandler({
      added: take,
      updated: take,
      deleted: (pod) => {
        if (this.localPods.remove(pod)) this.changed();
        this.addresses.add(`${podName(pod)} ${pod.metadata.uid}`);
      },
    });
  }

  /** Whether the pod's status has an address, and this node's as its host's. */
  private isReported({ status }: Pod): boolean {
    return Boolean(status?.podIP) && status?.hostIP === this.options.base.underlay.address;
  }

  /** A pod that wants an address and has none gets one; one that has ended or is gone gives its own back. */
  private async settleAddress(key: string): Promise<void> {
    // Where a kubelet runs, it asks our CNI plugin, and writes the status.
    if (!this.registration.owned) return;
    const [fullName = "", uid = ""] = key.split(" ");
    const [namespace = "", name = ""] = fullName.split("/");
    const present = () => {
      const pod = this.pods.get(name, namespace);
      return pod?.metadata.uid === uid && wantsAddress(pod) ? pod : undefined;
    };
    const { claimer, base } = this.options;
    const pod = present();
    if (pod === undefined) {
      await claimer.release(uid);
      return;
    }
    if (this.isReported(pod)) return;
    // One that has an address keeps it; the node's own is another since it was written.
    const address = pod.status?.podIP || (await claimer.assign(uid, { pod: name, namespace, uid }));
    const hostIP = base.underlay.address;
    const status = { podIP: address, podIPs: [{ ip: address }], hostIP, hostIPs: [{ ip: hostIP }] };
    try {
      // The uid is a precondition: a pod of the same name may have taken its place.
      await this.api.patch(PODS, name, namespace, "merge", { metadata: { uid }, status }, "status");
    } catch (error) {
      if (!isNotFound(error) && present() !== undefined) throw error;
    }
    if (present() === undefined) await claimer.release(uid);
  }

  // ---- this node's Node ---------------------------------------------------------------------

  private async reportNode(key: string): Promise<void> {
    try {
      const { node } = this.options.base;
      await this.registration.refresh(await this.api.get<Node>(NODES, node), key === "status");
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  private scheduleStatus(): void {
    const cancel = this.clock.after(STATUS_MS, () => {
      this.abort.signal.removeEventListener("abort", cancel);
      if (this.abort.signal.aborted) return;
      this.nodeWork.add("status");
      this.scheduleStatus();
    });
    this.abort.signal.addEventListener("abort", cancel, { once: true });
  }

  // ---- config -------------------------------------------------------------------------------

  private get synced(): boolean {
    return this.informers.every((informer) => informer.isSynced);
  }

  /** Something is not as it was compiled: again, soon. */
  private changed(): void {
    if (this.cancelCompile !== null || !this.synced || this.abort.signal.aborted) return;
    this.cancelCompile = this.clock.after(SETTLE_MS, () => {
      this.cancelCompile = null;
      this.applying = this.applying.then(() => this.compileAndApply());
    });
  }

  private changedAnnouncements(): void {
    this.announcementsChanged = true;
    this.changed();
  }

  private changedServices(): void {
    this.servicesChanged = true;
    this.changed();
  }

  private async compileAndApply(): Promise<void> {
    const config = this.compile();
    if (config !== null) {
      const pools = config.podPool.map((pool) => parseCidr(pool)!);
      if (this.services.setPools(pools)) this.servicesChanged = true;
      this.reportReady(config);
      await this.applyConfig(config);
    }
    if (this.applyServices === null) return;
    // The host leads to an address what comes for it, and the LAN hears of it, when the dataplane knows it.
    const hosted = this.servicesChanged ? this.hostedNow() : this.hosted;
    const announced = this.announcedNow();
    if (this.servicesChanged) {
      this.servicesChanged = false;
      // After the routes to what they lead to.
      await this.applyServices();
      this.cancelSaveServices ??= this.clock.after(SAVE_SERVICES_MS, () => this.saveServices());
    }
    const led = [hosted, announced];
    if (JSON.stringify(led) === JSON.stringify([this.hosted, this.announced])) return;
    [this.hosted, this.announced] = [hosted, announced];
    const next = this.compile();
    if (next !== null) await this.applyConfig(next);
  }

  private announcedNow(): AnnounceConfig | null {
    const { announcements } = this;
    if (announcements === null || !announcements.settled) return this.announced;
    if (!this.announcementsChanged && !this.servicesChanged) return this.announced;
    this.announcementsChanged = false;
    return announcements.compile();
  }

  private hostedNow(): ServiceHostConfig | null {
    const { serviceHost } = this.options.base;
    if (serviceHost === null) return null;
    const vips = this.services.virtualAddresses().map(formatIpv4);
    const udpNodePorts = this.services.udpNodePorts();
    return { ...serviceHost, vips, udpNodePorts, healthChecks: this.services.healthChecks() };
  }

  private async applyConfig(config: AgentConfig): Promise<void> {
    const text = JSON.stringify(config);
    if (this.apply === null || text === this.applied) return;
    try {
      await this.apply(config);
      this.applied = text;
      this.save(config);
    } catch (error) {
      this.log.error({ err: error }, "could not take over what the API says; will try again");
      this.clock.after(1000, () => this.changed());
    }
  }

  /** Null where the API does not describe this node fully: the last config stands. */
  private compile(): AgentConfig | null {
    const { node, stateDir, underlay, metrics, dataplane } = this.options.base;
    const { podPool, blocks, vteps, problems } = this.overlay.compile();
    const { attachments } = this.options;
    const { pods, problems: podProblems } =
      attachments === undefined
        ? this.localPods.compile(podPool)
        : { pods: attachments.pods(), problems: [] };
    const lacking =
      podPool.length === 0
        ? ["there is no pool any more; the last config stands"]
        : blocks.length === 0
          ? ["this node has no block any more; the last config stands"]
          : [];
    this.tell([...problems, ...podProblems, ...lacking]);
    if (lacking.length > 0) return null;
    // At the start from what is watched: what the last agent led here goes on being led here.
    this.hosted ??= this.hostedNow();
    const { tunnelAddress, hosted: serviceHost, announced: announce } = this;
    const compiled = { podPool, blocks, tunnelAddress, vteps, pods, services: [] };
    return { node, stateDir, underlay, ...compiled, serviceHost, announce, metrics, dataplane };
  }

  private save(config: AgentConfig): void {
    const text = JSON.stringify(config);
    if (text === this.saved) return;
    this.saved = text;
    try {
      this.options.save?.(config);
    } catch (error) {
      this.log.warn({ err: error }, "could not keep the config for a start without the API server");
    }
  }

  private saveServices(): void {
    this.cancelSaveServices = null;
    try {
      this.options.saveServices?.(this.services.saved());
    } catch (error) {
      this.log.warn({ err: error }, "could not keep the Services for a start without the API server");
    }
  }

  // ---- what is said -------------------------------------------------------------------------

  /** Each problem once, in the log and as an Event of the Node. */
  private tell(problems: string[]): void {
    const node = this.registration.node;
    for (const problem of problems) {
      if (this.told.has(problem)) continue;
      this.log.warn({}, problem);
      if (node !== null) this.events.record(NODES, node, "Warning", "Unusable", problem);
    }
    this.told.clear();
    for (const problem of problems) this.told.add(problem);
  }

  private failed(error: unknown, fields: object = {}): void {
    const { message } = error as Error;
    if (error instanceof KubeError && error.code === 0) {
      if (this.reachable)
        this.log.warn(fields, `the API server does not answer (${message}); forwarding goes on`);
      this.reachable = false;
    } else if (error instanceof KubeError && error.code === 410) this.log.debug(fields, "listing anew");
    else if (error instanceof KubeError || isRefusal(error)) {
      // The same again is tried again, and not said again.
      if (message !== this.lastRefusal) this.log.warn(fields, `${message}; will try again`);
      this.lastRefusal = message;
    } else this.log.error({ ...fields, err: error }, "unexpected; will try again");
  }

  private succeeded(): void {
    if (!this.reachable) this.log.info({}, "the API server answers again");
    this.reachable = true;
  }
}

/** Errors of the claimer carry a code of their own (NoPool, Exhausted). */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && typeof (error as { code?: unknown }).code === "string";
}

// What is kept of each object: a cluster has thousands, and most of each is read by nobody here.

function slimMetadata({ name, namespace, uid, resourceVersion, creationTimestamp, annotations }: ObjectMeta) {
  const kept = { name, namespace, uid, resourceVersion, creationTimestamp, annotations };
  return JSON.parse(JSON.stringify(kept)) as ObjectMeta;
}

function slimNode({ metadata, spec, status }: Node): Node {
  const { deletionTimestamp, labels } = metadata;
  const taints = (spec?.taints ?? []).filter(({ key }) => key === TO_BE_DELETED);
  return {
    metadata: {
      ...slimMetadata(metadata),
      ...(labels === undefined ? {} : { labels }),
      ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
    },
    ...(taints.length === 0 ? {} : { spec: { taints } }),
    status: {
      addresses: status?.addresses ?? [],
      conditions: (status?.conditions ?? []).filter(({ type }) => type === "NetworkUnavailable"),
    },
  };
}

function identityOf<T extends KubeObject>({ metadata }: T): T {
  const { name, namespace, uid, resourceVersion } = metadata;
  return {
    metadata: JSON.parse(JSON.stringify({ name, namespace, uid, resourceVersion })) as ObjectMeta,
  } as T;
}

function slimBlock({ metadata, spec }: KubeObject & BlockObject): KubeObject & BlockObject {
  const { cidr, node, affinityState = "confirmed", allocations = [] } = spec;
  const borrowed = allocations.filter(({ attributes }) => (attributes?.node ?? node) !== node);
  return { metadata: slimMetadata(metadata), spec: { cidr, node, affinityState, allocations: borrowed } };
}

function slimPod({ metadata, spec, status }: Pod): Pod {
  return {
    metadata: slimMetadata({ ...metadata, annotations: {} }),
    spec: { containers: [], hostNetwork: spec?.hostNetwork === true },
    status: {
      ...(status?.phase === undefined ? {} : { phase: status.phase }),
      ...(status?.podIP === undefined ? {} : { podIP: status.podIP }),
      ...(status?.hostIP === undefined ? {} : { hostIP: status.hostIP }),
    },
  };
}
