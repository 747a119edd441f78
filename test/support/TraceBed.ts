/**
 * A cluster whose agents run, for traces that are held against what really happens: three nodes that joined
 * an API server, pods of which only the network is there, a machine outside, and a station that sends and
 * sees packets everywhere. The kernels of pods and of the outside say nothing by themselves: what moves
 * was sent by a test, or by an agent.
 *
 *   k8s-master .30 (API server) ─┬─ br0 ─┬─ k8s-worker01 .31      pods on each
 *   pc .10 ──────────────────────┘       └─ k8s-worker02 .32      load-balancer addresses .200-.230
 */
import { ask } from "../../src/agent/StatusServer.js";
import type { NodeSource } from "../../src/explain/trace/TraceCluster.js";
import { isAlreadyExists, isNotFound } from "../../src/kube/KubeError.js";
import {
  ENDPOINTSLICES,
  IPADDRESSPOOLS,
  L2ADVERTISEMENTS,
  NAMESPACES,
  PODS,
  SERVICES,
} from "../../src/kube/resources.js";
import type { EndpointSlice, IPAddressPool, Pod, Service } from "../../src/kube/types.js";
import type { NodeFlowRecords, NodeTables } from "../../src/model/NodeTables.js";
import { API_PORT, isReady, TestCluster } from "./cluster.js";
import { waitFor } from "./netns.js";
import { Station } from "./Station.js";

export const NODE_NAMES = ["k8s-master", "k8s-worker01", "k8s-worker02"] as const;
export const PC = "192.168.2.10";
export const VXLAN_PORT = 4789;
/** Ports of nodes. The last two are in the ranges of NodePorts and of egress. */
export const NODE_PORTS = [9000, 9001, 32_767, 65_000] as const;
const METALLB = "metallb-system";
const SETTLE = { deadlineMs: 60_000, intervalMs: 50 };
/** Its slice is written last, so that who knows it knows everything. */
const LAST = "last-word";
/** Frames that kernels send by themselves, and what agents hear beside it. */
export const NOISE: readonly string[] = ["etherType", "multicast", "arpIgnored", "notOurs"];

export interface BedPod {
  name: string;
  node: string;
  address: string;
  mac: string;
}

/** What each node dropped, by reason. */
export type Drops = Record<string, Record<string, number>>;

export class TraceBed {
  readonly pods = new Map<string, BedPod>();
  /** MACs of the nodes' LAN devices. */
  readonly macs = new Map<string, string>();
  pcMac = "";
  #words = 1000;

  private constructor(
    readonly cluster: TestCluster,
    readonly station: Station,
  ) {}

  static async start(): Promise<TraceBed> {
    const cluster = await TestCluster.start({ nodes: NODE_NAMES.length });
    try {
      const bed = new TraceBed(cluster, await Station.start(cluster.net, API_PORT));
      await bed.prepare();
      return bed;
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${cluster.logs()}`, { cause: error });
    }
  }

  close(): Promise<void> {
    return this.cluster.close();
  }

  /** Underlay address of a node. */
  addressOf(node: string): string {
    return this.cluster.node(node).address;
  }

  // ---- what agents say --------------------------------------------------------------------------

  /** The nodes as a trace asks them: tables now, flows when a packet comes by. */
  sources(): Promise<NodeSource[]> {
    return Promise.all(
      NODE_NAMES.map(async (name) => ({
        tables: await this.tables(name),
        flows: (addresses) => ask<NodeFlowRecords>(this.socket(name), "flowRecords", { addresses }),
      })),
    );
  }

  /** By node; without what comes by itself. */
  async drops(): Promise<Drops> {
    const entries = NODE_NAMES.map(async (name) => {
      const { dropped } = await ask<{ dropped: Record<string, number> }>(this.socket(name), "counters");
      return [name, Object.fromEntries(Object.entries(dropped).filter(([why]) => !NOISE.includes(why)))];
    });
    return Object.fromEntries(await Promise.all(entries)) as Drops;
  }

  socket(node: string): string {
    return `${this.cluster.node(node).stateDir}/agent.sock`;
  }

  private tables(node: string): Promise<NodeTables> {
    return ask<NodeTables>(this.socket(node), "nodeTables");
  }

  // ---- changes ----------------------------------------------------------------------------------

  /** Pods that are attached when this resolves. */
  async addPods(wanted: readonly { name: string; node: string }[]): Promise<void> {
    const { kube } = this.cluster;
    await Promise.all(
      wanted.map(({ name, node }) =>
        kube.create<Pod>(PODS, {
          metadata: { name, namespace: "default" },
          spec: { nodeName: node, containers: [{ name: "pause", image: "pause" }] },
        }),
      ),
    );
    await Promise.all(
      wanted.map(async ({ name, node }) => {
        const pod = await waitFor(
          async () => {
            const found = await kube.get<Pod>(PODS, name, "default");
            return isReady(found) ? found : null;
          },
          { ...SETTLE, what: `pod ${name}` },
        );
        const ns = this.cluster.podNamespace(pod.metadata.uid!);
        await this.silence(ns);
        const mac = await this.station.open(name, this.cluster.net.path(ns), "eth0");
        this.pods.set(name, { name, node, address: pod.status!.podIP!, mac });
      }),
    );
  }

  async removePod(name: string): Promise<void> {
    const { node } = this.pods.get(name)!;
    this.pods.delete(name);
    await this.station.close(name);
    await this.cluster.kube.delete(PODS, name, "default", { gracePeriodSeconds: 0 });
    await waitFor(
      async () => (await this.tables(node)).pods.every((each) => each.name !== `default/${name}`),
      {
        ...SETTLE,
        what: `pod ${name} gone`,
      },
    );
  }

  /** A Service with a slice of hand-made endpoints; returned as the API completed it. */
  async addService(
    name: string,
    spec: NonNullable<Service["spec"]>,
    slice: Pick<EndpointSlice, "ports" | "endpoints">,
  ): Promise<Service> {
    const { kube } = this.cluster;
    const made = await kube.create<Service>(SERVICES, { metadata: { name, namespace: "default" }, spec });
    await kube.create<EndpointSlice>(ENDPOINTSLICES, sliceOf(name, slice));
    if (spec.type !== "LoadBalancer") return made;
    return waitFor(
      async () => {
        const found = await kube.get<Service>(SERVICES, name, "default");
        return found.status?.loadBalancer?.ingress?.length ? found : null;
      },
      { ...SETTLE, what: `an address of ${name}` },
    );
  }

  async setEndpoints(name: string, slice: Pick<EndpointSlice, "ports" | "endpoints">): Promise<void> {
    const { kube } = this.cluster;
    const { metadata } = await kube.get<EndpointSlice>(ENDPOINTSLICES, name, "default");
    const { resourceVersion } = metadata;
    const wanted = sliceOf(name, slice);
    await kube.update<EndpointSlice>(ENDPOINTSLICES, {
      ...wanted,
      metadata: { ...wanted.metadata, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
    });
  }

  async removeService(name: string): Promise<void> {
    const { kube } = this.cluster;
    await kube.delete(SERVICES, name, "default");
    await kube.delete(ENDPOINTSLICES, name, "default").catch((error) => {
      // Who deletes a Service's slices was quicker.
      if (!isNotFound(error)) throw error;
    });
  }

  /**
   * Waits until every agent goes by all that was written before, has its routes, and all agree about who
   * answers for the load-balancer addresses.
   */
  async settled(): Promise<void> {
    const word = ++this.#words;
    const { kube } = this.cluster;
    const last = await kube.get<Service>(SERVICES, LAST, "default");
    await kube.update<Service>(SERVICES, { ...last, spec: { ...last.spec, ports: [{ port: word }] } });
    await this.setEndpoints(LAST, lastSlice(word));
    const { items } = await kube.list<Service>(SERVICES);
    const addresses = items.flatMap(({ status }) =>
      (status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip!),
    );
    for (const name of NODE_NAMES) {
      await waitFor(
        async () => {
          const tables = await this.tables(name);
          const port = tables.servicePorts.find(({ service }) => service === `default/${LAST}`);
          const heard = port?.l4Port === word && port.endpoints.every(({ l4Port }) => l4Port === word);
          return heard && (await this.hasRoutes(name, tables, addresses));
        },
        { ...SETTLE, what: `${name} knows everything` },
      );
    }
    await waitFor(async () => (await this.announcements()).every((each) => each), {
      ...SETTLE,
      what: "agreement about owners",
    });
  }

  /** Whether the nodes agree about each address that somebody knows. */
  private async announcements(): Promise<boolean[]> {
    const tables = await Promise.all(NODE_NAMES.map((name) => this.tables(name)));
    const known = new Set(tables.flatMap(({ announced }) => announced.map(({ address }) => address)));
    return [...known].map((address) => {
      const views = tables.map(({ node, announced }) => ({
        node,
        view: announced.find((each) => each.address === address),
      }));
      const owners = new Set(views.map(({ view }) => view?.owner));
      const answering = views.filter(({ view }) => view?.answers === true).map(({ node }) => node);
      const [owner] = owners;
      return owners.size === 1 && answering.join() === owner;
    });
  }

  /** Whether the node's kernel leads the load-balancer addresses, and no others, to podwire0. */
  private async hasRoutes(node: string, { host }: NodeTables, wanted: string[]): Promise<boolean> {
    const vips = [...(host?.vips ?? [])].sort().join();
    if (vips !== [...new Set(wanted)].sort().join()) return false;
    const { ns } = this.cluster.node(node);
    const routes = await this.cluster.net.ipJson(ns, "route", "show", "dev", "podwire0");
    const single = routes.map(({ dst }) => String(dst)).filter((dst) => dst.startsWith("192.168.2."));
    return single.sort().join() === vips;
  }

  // ---- making -----------------------------------------------------------------------------------

  private async prepare(): Promise<void> {
    const { cluster, station } = this;
    const { net, kube } = cluster;
    const { ns } = await cluster.addMachine("pc", PC);
    await this.silence(ns);
    this.pcMac = await station.open("pc", net.path(ns), "eth0");
    for (const name of NODE_NAMES) {
      const node = cluster.node(name);
      await this.prepareNode(node.ns);
      await station.openNode(name, net.path(node.ns), "eth0", VXLAN_PORT);
      const [link] = await net.ipJson(node.ns, "link", "show", "eth0");
      this.macs.set(name, link.address);
    }
    await ensure(kube.create(NAMESPACES, { metadata: { name: METALLB } }));
    const pool = { metadata: { name: "pool", namespace: METALLB } };
    const spec = { addresses: ["192.168.2.200-192.168.2.230"] };
    await kube.create<IPAddressPool>(IPADDRESSPOOLS, { ...pool, spec });
    await kube.create(L2ADVERTISEMENTS, pool);
    await this.addService(LAST, { ports: [{ port: this.#words }] }, lastSlice(this.#words));
  }

  /** Nothing leaves by the routes of a namespace: what is received is not answered. */
  private async silence(ns: string): Promise<void> {
    await this.cluster.net.exec(ns, "ip", ["rule", "add", "pref", "1", "blackhole"]);
  }

  /** A node's kernel answers no echo, and makes ICMP errors as often as there is reason. */
  private async prepareNode(ns: string): Promise<void> {
    const keys = ["icmp_echo_ignore_all=1", "icmp_ratelimit=0"].map((key) => `net.ipv4.${key}`);
    await this.cluster.net.exec(ns, "sysctl", ["-qw", ...keys]);
  }
}

/** Somebody else may have made it. */
async function ensure(made: Promise<unknown>): Promise<void> {
  await made.catch((error: unknown) => {
    if (!isAlreadyExists(error)) throw error;
  });
}

function sliceOf(service: string, slice: Pick<EndpointSlice, "ports" | "endpoints">): EndpointSlice {
  return {
    metadata: {
      name: service,
      namespace: "default",
      labels: { "kubernetes.io/service-name": service },
    },
    addressType: "IPv4",
    ...slice,
  };
}

function lastSlice(port: number): Pick<EndpointSlice, "ports" | "endpoints"> {
  return { ports: [{ port, protocol: "TCP" }], endpoints: [{ addresses: [PC] }] };
}
