/**
 * What the API says of announcements, for one node: watches pools and advertisements, compiles them with
 * Nodes and Services into the config's part, and tells in Events of Services what came of it. A cluster
 * need not have MetalLB's kinds; then nothing is announced, and nodes watch one another all the same.
 * Must not know the host or the worker.
 */
import type { Services } from "../desired/services.js";
import { type AnnouncedAddress, VipAnnouncements } from "../desired/vips.js";
import type { BackoffOptions, Clock } from "../kube/Clock.js";
import type { EventRecorder } from "../kube/EventRecorder.js";
import { Informer } from "../kube/Informer.js";
import type { KubeApi, KubeObject, ObjectMeta, ResourceRef } from "../kube/KubeApi.js";
import { isReason } from "../kube/KubeError.js";
import { IPADDRESSPOOLS, L2ADVERTISEMENTS, SERVICES } from "../kube/resources.js";
import type { IPAddressPool, L2Advertisement, Node } from "../kube/types.js";
import type { AnnounceConfig } from "../model/AgentConfig.js";
import { METALLB_NAMESPACE } from "../model/metallb.js";
import type { Log } from "../reconcile/Log.js";
import type { AddressReport } from "./AnnouncementReport.js";

/** A kind that the cluster has not, or that may not be read, is asked for again so often. */
const ABSENT: BackoffOptions = { first: 30_000, most: 30_000 };
/**
 * A node claims an address as soon as it may, and others may hear that before they know the node; and one
 * that leaves the cluster claims on until it knows of it. So long a claim of an unknown MAC waits until it is
 * told as a foreign device's, and so long the MAC of a node that has left is known.
 */
const FOREIGN_WAIT_MS = 5_000;
const LEFT_MS = 60_000;

export interface AnnouncementsOptions {
  api: KubeApi;
  /** Name of this node. */
  node: string;
  settings: Pick<AnnounceConfig, "interface" | "bfd">;
  /** Namespace of the pools and advertisements. Default metallb-system. */
  namespace?: string | undefined;
  /** Where the addresses come from. */
  services: Services;
  /** The Service as Events name it; undefined where it is gone. */
  identify: (namespace: string, name: string) => KubeObject | undefined;
  events: EventRecorder;
  log: Log;
  clock: Clock;
  random: () => number;
  backoff: BackoffOptions;
  onError: (error: unknown) => void;
  /** Something may have to be compiled again. */
  onChanged: () => void;
}

export class Announcements {
  private readonly desired: VipAnnouncements;
  private readonly informers: Informer<KubeObject>[];
  /** Kinds that cannot be had. */
  private readonly absent = new Set<string>();
  /** As they were compiled last. */
  private compiled: readonly AnnouncedAddress[] = [];
  /** Addresses that this node owns, with the Services (namespace/name) that were told so. */
  private readonly owned = new Map<string, Set<string>>();
  /** MACs of nodes that have left, or have another one since, and when. */
  private readonly left = new Map<string, number>();
  /** Claims of MACs that are no node's so far, by address and MAC: call to give one up. */
  private readonly waiting = new Map<string, () => void>();

  constructor(private readonly options: AnnouncementsOptions) {
    this.desired = new VipAnnouncements(options.node);
    this.informers = [
      this.follow<IPAddressPool>(
        IPADDRESSPOOLS,
        (pool) => this.desired.setPool(pool),
        (name) => this.desired.removePool(name),
      ),
      this.follow<L2Advertisement>(
        L2ADVERTISEMENTS,
        (advertisement) => this.desired.setAdvertisement(advertisement),
        (name) => this.desired.removeAdvertisement(name),
      ),
    ];
  }

  start(): void {
    for (const informer of this.informers) informer.start();
  }

  async stop(): Promise<void> {
    for (const cancel of this.waiting.values()) cancel();
    this.waiting.clear();
    await Promise.all(this.informers.map((informer) => informer.stop()));
  }

  /** Whether it is known which pools and advertisements there are. */
  get settled(): boolean {
    return this.informers.every(({ isSynced, resource }) => isSynced || this.absent.has(resource.plural));
  }

  /** Takes over a Node. Whether that changes anything. */
  setNode(node: Node): boolean {
    return this.noteMac(node.metadata?.name ?? "", () =>
      this.desired.setNode(node as Parameters<VipAnnouncements["setNode"]>[0]),
    );
  }

  removeNode(name: string): boolean {
    return this.noteMac(name, () => this.desired.removeNode(name));
  }

  /**
   * The config's part, of what is known now. Null until this node's own Node says that it announces: who
   * began without the other nodes would own everything until it had heard of them.
   */
  compile(): AnnounceConfig | null {
    const { nodes, vips } = this.desired.compile(this.options.services.loadBalancerVips());
    this.compiled = vips;
    this.tellOwned();
    if (!this.desired.has(this.options.node)) return null;
    const announced = vips.filter(({ problem }) => problem === null);
    return {
      ...this.options.settings,
      nodes,
      vips: announced.map((vip) => ({ address: vip.address, nodes: vip.nodes })),
    };
  }

  /** Every load-balancer address as it was compiled last, also those that nobody may announce. */
  get addresses(): readonly AnnouncedAddress[] {
    return this.compiled;
  }

  /** Takes what the agent says, for Events of the Services that have the address. */
  report(report: AddressReport): void {
    const { address } = report;
    if (report.type === "owner") {
      if (!report.owned) this.owned.delete(address);
      else if (!this.owned.has(address)) this.owned.set(address, new Set());
      this.tellOwned();
      return;
    }
    const { mac, yielded } = report;
    if (report.node !== null) this.tellConflict(address, `node "${report.node}"`, yielded);
    else this.tellForeign(address, mac.toLowerCase(), yielded);
  }

  /** Tells of a claim of a MAC that is no node's, unless it turns out to be one's. */
  private tellForeign(address: string, mac: string, yielded: boolean): void {
    const key = `${address} ${mac}`;
    if (this.waiting.has(key)) return;
    const tell = () => {
      this.waiting.delete(key);
      if (!this.isNodes(mac)) this.tellConflict(address, `the device ${mac}`, yielded);
    };
    this.waiting.set(key, this.options.clock.after(FOREIGN_WAIT_MS, tell));
  }

  private tellConflict(address: string, claimant: string, yielded: boolean): void {
    const { node } = this.options;
    const outcome = yielded
      ? `node "${node}" stands behind it and yields`
      : `node "${node}" goes on announcing it`;
    for (const service of this.servicesOf(address))
      this.record(service, "Warning", "AddressConflict", `${claimant} claims ${address} too: ${outcome}`);
  }

  /** Whether a MAC is that of a node, or was until a moment ago. */
  private isNodes(mac: string): boolean {
    const leftAt = this.left.get(mac);
    return this.desired.hasMac(mac) || (leftAt !== undefined && this.options.clock.now() < leftAt + LEFT_MS);
  }

  /** Takes over a change of a node, and remembers the MAC that it has no longer. */
  private noteMac(name: string, change: () => boolean): boolean {
    const before = this.desired.macOf(name);
    const changed = change();
    if (before === undefined || this.desired.macOf(name) === before) return changed;
    const now = this.options.clock.now();
    for (const [mac, leftAt] of this.left) if (now >= leftAt + LEFT_MS) this.left.delete(mac);
    this.left.set(before, now);
    return changed;
  }

  /** Each Service of an owned address once, as MetalLB's speaker does. */
  private tellOwned(): void {
    for (const [address, told] of this.owned)
      for (const service of this.servicesOf(address)) {
        if (told.has(service)) continue;
        const message = `announcing from node "${this.options.node}" with protocol "layer2"`;
        if (this.record(service, "Normal", "nodeAssigned", message)) told.add(service);
      }
  }

  private servicesOf(address: string): readonly string[] {
    return this.compiled.find((each) => each.address === address)?.services ?? [];
  }

  /** Whether the Service is there. */
  private record(service: string, type: "Normal" | "Warning", reason: string, message: string): boolean {
    const [namespace = "", name = ""] = service.split("/");
    const object = this.options.identify(namespace, name);
    if (object !== undefined) this.options.events.record(SERVICES, object, type, reason, message);
    return object !== undefined;
  }

  private follow<T extends KubeObject>(
    resource: ResourceRef,
    set: (object: T) => boolean,
    remove: (name: string) => boolean,
  ): Informer<KubeObject> {
    const { api, namespace = METALLB_NAMESPACE, clock, random, backoff, onChanged } = this.options;
    const pace = { ...backoff };
    const take = (object: T) => {
      if (set(object)) onChanged();
    };
    const onError = (error: unknown) => {
      const absent = isReason(error, "NotFound", "Forbidden");
      Object.assign(pace, absent ? ABSENT : backoff);
      if (!absent) this.options.onError(error);
      else if (!this.absent.has(resource.plural)) {
        this.absent.add(resource.plural);
        const { message } = error as Error;
        this.options.log.info({ reason: message }, `no ${resource.kind}s can be read: nothing is announced`);
        onChanged();
      }
    };
    const informer = new Informer<T>(api, resource, {
      namespace,
      clock,
      random,
      backoff: pace,
      transform: ({ metadata: { name, namespace: place, labels, uid, resourceVersion }, ...rest }) => {
        const metadata = { name, namespace: place, labels, uid, resourceVersion };
        return { ...rest, metadata: JSON.parse(JSON.stringify(metadata)) as ObjectMeta } as T;
      },
      onError,
    });
    informer.addHandler({
      added: take,
      updated: take,
      deleted: ({ metadata }) => {
        if (remove(metadata.name ?? "")) onChanged();
      },
    });
    return informer as unknown as Informer<KubeObject>;
  }
}
