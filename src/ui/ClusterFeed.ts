/**
 * Owns what the page shows: the API's objects by watches, and looks at the agents while somebody watches
 * the page. Tells of changes; must not know HTTP.
 */
import { askNodes, type NodeTopic, type ReadNode } from "../explain/readCluster.js";
import {
  type BlockObject,
  type LiveState,
  NO_LIVE_STATE,
  type NodeAnnouncement,
  type NodeState,
  ownersOf,
  type Topology,
  topologyOf,
} from "../explain/topology.js";
import { type Clock, SYSTEM_CLOCK } from "../kube/Clock.js";
import { Informer } from "../kube/Informer.js";
import type { KubeApi, KubeObject, ResourceRef } from "../kube/KubeApi.js";
import { ENDPOINTSLICES, IPAMBLOCKS, NODES, PODS, SERVICES } from "../kube/resources.js";
import type { EndpointSlice, Node, Pod, Service } from "../kube/types.js";
import type { Traffic } from "./protocol.js";
import { type Look, type NodeCounters, trafficOf } from "./traffic.js";

/** Changes within this time are one. */
const SETTLE_MS = 150;
/** Between two looks at the agents. */
const LOOK_MS = 2_000;

export interface FeedOptions {
  kube: KubeApi;
  readNode: ReadNode;
  clock?: Clock;
  /** Told what goes wrong with lists, watches and looks at the agents. */
  onError?: (error: unknown) => void;
}

/** What is told to those who watch. */
export interface Watcher {
  changed(version: number): void;
  traffic(traffic: Traffic): void;
}

export class ClusterFeed {
  private readonly clock: Clock;
  private readonly nodes: Informer<Node>;
  private readonly pods: Informer<Pod>;
  private readonly services: Informer<Service>;
  private readonly endpointSlices: Informer<EndpointSlice>;
  private readonly blocks: Informer<KubeObject & BlockObject>;
  private readonly watchers = new Set<Watcher>();
  private live: LiveState = NO_LIVE_STATE;
  private last: Look | null = null;
  private looking = false;
  private looks: NodeJS.Timeout | null = null;
  private settling: NodeJS.Timeout | null = null;
  private current: Topology | null = null;
  private versions = 0;

  constructor(private readonly options: FeedOptions) {
    this.clock = options.clock ?? SYSTEM_CLOCK;
    this.nodes = this.informer(NODES);
    this.pods = this.informer(PODS);
    this.services = this.informer(SERVICES);
    this.endpointSlices = this.informer(ENDPOINTSLICES);
    this.blocks = this.informer(IPAMBLOCKS);
  }

  /** Resolves once everything was listed and every agent was asked. */
  async start(): Promise<void> {
    const all = this.informers();
    await Promise.all(all.map((each) => each.start().synced));
    await this.look();
  }

  async stop(): Promise<void> {
    if (this.looks !== null) clearTimeout(this.looks);
    if (this.settling !== null) clearTimeout(this.settling);
    this.looks = this.settling = null;
    this.watchers.clear();
    await Promise.all(this.informers().map((each) => each.stop()));
  }

  /** Counts up with each change. */
  get version(): number {
    return this.versions;
  }

  /** Whether what is shown follows the API. */
  get connected(): boolean {
    return this.informers().every(({ connected }) => connected);
  }

  /** The cluster as it is known now. */
  topology(): Topology {
    this.current ??= topologyOf(
      {
        nodes: this.nodes.list(),
        pods: this.pods.list(),
        services: this.services.list(),
        endpointSlices: this.endpointSlices.list(),
        blocks: this.blocks.list(),
      },
      this.live,
    );
    return this.current;
  }

  /** Tells `watcher` of changes until the returned function is called; agents are asked meanwhile. */
  watch(watcher: Watcher): () => void {
    this.watchers.add(watcher);
    if (!this.looking && this.looks === null) this.scheduleLook(0);
    return () => this.watchers.delete(watcher);
  }

  private informers(): Informer<KubeObject>[] {
    const { nodes, pods, services, endpointSlices, blocks } = this;
    return [nodes, pods, services, endpointSlices, blocks] as Informer<KubeObject>[];
  }

  private informer<T extends KubeObject>(resource: ResourceRef): Informer<T> {
    const { kube, onError } = this.options;
    const changed = () => this.changed();
    return new Informer<T>(kube, resource, {
      clock: this.clock,
      ...(onError === undefined ? {} : { onError }),
    }).addHandler({ added: changed, updated: changed, deleted: changed });
  }

  private changed(): void {
    this.current = null;
    if (this.settling !== null) return;
    this.settling = setTimeout(() => {
      this.settling = null;
      this.versions++;
      for (const watcher of this.watchers) watcher.changed(this.versions);
    }, SETTLE_MS);
  }

  private scheduleLook(delayMs: number): void {
    this.looks = setTimeout(() => {
      this.looks = null;
      void this.look().finally(() => {
        if (this.watchers.size > 0) this.scheduleLook(LOOK_MS);
      });
    }, delayMs);
  }

  /** Looks at the agents. Never rejects: what an agent of another version tells may be anything. */
  private async look(): Promise<void> {
    this.looking = true;
    try {
      await this.askAll();
    } catch (error) {
      this.options.onError?.(error);
    } finally {
      this.looking = false;
    }
  }

  /** Asks every agent for its table, its counters and its load-balancer addresses. */
  private async askAll(): Promise<void> {
    const names = this.nodes.list().flatMap(({ metadata }) => metadata.name ?? []);
    const ask = <T>(topic: NodeTopic) =>
      askNodes(names, async (node) => (await this.options.readNode(node, topic)) as T);
    const [states, counters, announcements] = await Promise.all([
      ask<NodeState>("status"),
      ask<NodeCounters>("counters"),
      ask<NodeAnnouncement>("announcement"),
    ]);
    const now: Look = { atMs: performance.now(), counters, announcements };
    const traffic = trafficOf(this.last, now);
    this.last = now;
    const live: LiveState = { nodes: states, owners: ownersOf(announcements.values()) };
    if (tablesOf(live) !== tablesOf(this.live)) {
      this.live = live;
      this.changed();
    }
    for (const watcher of this.watchers) watcher.traffic(traffic);
  }
}

/** What of the live state is drawn, to see whether it has changed. */
function tablesOf({ nodes, owners }: LiveState): string {
  const states = [...nodes].map(([name, { underlay, overlayMtu, vteps }]) => [
    name,
    underlay,
    overlayMtu,
    vteps,
  ]);
  return JSON.stringify([states, [...owners]]);
}
