/**
 * The nodes of a cluster, as far as their agents tell of them: tables, names, and flows when a packet
 * comes by. Knows who has which address; must not know how agents are asked.
 */
import { formatIpv4, parseIpv4 } from "../../model/ipv4.js";
import { NODE_TABLES_VERSION, type NodeFlowRecords, type NodeTables } from "../../model/NodeTables.js";
import { FLOW_WORDS } from "../../tables/flowLayout.js";
import type { ServiceImage } from "../../tables/ServiceTable.js";
import { restoreServices } from "../../tables/serviceSnapshot.js";
import { Tables } from "../../tables/TableImage.js";
import { THIS_NODE } from "../../tables/VipTable.js";
import { type NodeCopy, TraceNode } from "./TraceNode.js";

/** A node whose agent answers. */
export interface NodeSource {
  tables: NodeTables;
  /** Records of flows that any of these addresses is in. */
  flows(addresses: string[]): Promise<NodeFlowRecords>;
  /** As NodeCopy has it. */
  egressPorts?: Uint16Array;
}

export interface PodPlace {
  /** namespace/name */
  name: string;
  node: string;
  address: string;
  port: number;
}

/** Who announces a load-balancer address. */
export interface Announcer {
  /** "" where nobody does. */
  node: string;
  because: string;
}

/** One node, before a packet comes by. */
export interface KnownNode {
  name: string;
  tables: NodeTables;
  image: Tables;
  services: ServiceImage | null;
}

export class TraceCluster {
  readonly nodes: ReadonlyMap<string, KnownNode>;
  readonly pods: readonly PodPlace[];
  /** What could not be looked at, or not whole. */
  readonly notes: string[];
  readonly #sources: ReadonlyMap<string, NodeSource>;
  readonly #images = new Map<string, ArrayBuffer>();
  readonly #running = new Map<string, TraceNode>();
  readonly #names = new Map<string, string>();
  readonly #machines = new Map<string, string>();
  readonly #podsByAddress: ReadonlyMap<string, PodPlace>;

  /**
   * @param notes what is known to be missing: nodes that do not answer
   * Throws an Error where an agent speaks another version.
   */
  constructor(sources: readonly NodeSource[], notes: readonly string[] = []) {
    this.notes = [...notes];
    const nodes = new Map<string, KnownNode>();
    for (const { tables } of sources) {
      const { node: name, version } = tables;
      if (version !== NODE_TABLES_VERSION)
        throw new Error(`node ${name} tells of its tables in version ${version}, not ${NODE_TABLES_VERSION}`);
      const bytes = wordsOf(tables.image).buffer;
      this.#images.set(name, bytes);
      const services = tables.services === "" ? null : restoreServices(wordsOf(tables.services));
      nodes.set(name, { name, tables, image: new Tables(bytes), services });
    }
    this.nodes = nodes;
    this.#sources = new Map(sources.map((source) => [source.tables.node, source]));
    this.pods = sources.flatMap(({ tables }) => tables.pods.map((pod) => ({ ...pod, node: tables.node })));
    this.#podsByAddress = new Map(this.pods.map((pod) => [pod.address, pod]));
    for (const { tables } of sources)
      for (const { node, address, tunnelAddress } of tables.vteps)
        for (const each of [address, tunnelAddress]) this.#names.set(each, node);
    for (const { name, image, tables } of nodes.values()) {
      const own = [image.underlayAddress, image.tunnelAddress].map(formatIpv4);
      for (const each of [...own, ...(tables.host?.addresses ?? [])])
        if (!each.startsWith("127.")) this.#names.set(each, name);
    }
  }

  /** The node's dataplane, made when the first packet comes by, which has `addresses`. Null where it is unknown. */
  async dataplane(name: string, addresses: readonly string[]): Promise<TraceNode | null> {
    const known = this.nodes.get(name);
    if (known === undefined) return null;
    const made = this.#running.get(name);
    if (made !== undefined) return made;
    const { image, tables, services } = known;
    // What may hold a tuple that this packet wants: its own, or one behind an address of the node.
    const own = [formatIpv4(image.tunnelAddress), formatIpv4(image.underlayAddress)];
    const wanted = new Set([...addresses, ...own, ...(tables.host?.addresses ?? [])]);
    const source = this.#sources.get(name)!;
    const { records, recordWords, affinities, nowMs, truncated } = await source.flows([...wanted]);
    if (recordWords !== FLOW_WORDS) throw new Error(`node ${name} keeps flows of another layout`);
    if (truncated) this.notes.push(`node ${name} has more flows than it hands out: one may be missing`);
    const node = new TraceNode({
      image: this.#images.get(name)!,
      services,
      flows: wordsOf(records),
      affinities: wordsOf(affinities),
      nowMs,
      ...numbersOf(known),
      ...(source.egressPorts === undefined ? {} : { egressPorts: source.egressPorts }),
    });
    this.#running.set(name, node);
    return node;
  }

  /** The node that has an address of its own, "" where none has. */
  nodeOf(address: string): string {
    return this.#names.get(address) ?? "";
  }

  podOf(address: string): PodPlace | undefined {
    return this.#podsByAddress.get(address);
  }

  /** The pod whose TAP has a port number on a node. */
  podAt(node: string, port: number): PodPlace | undefined {
    return this.pods.find((pod) => pod.node === node && pod.port === port);
  }

  /** Gives a machine outside of the cluster a name. */
  nameMachine(address: string, name: string): void {
    this.#machines.set(address, name);
  }

  /** The name of a machine outside of the cluster, its address where it was given none. */
  machineName(address: string): string {
    return this.#machines.get(address) ?? address;
  }

  /** An address with the name of who has it, where that is known. */
  named(address: string): string {
    const pod = this.podOf(address);
    if (pod !== undefined) return `${address} (${pod.name})`;
    const node = this.nodeOf(address) || (this.#machines.get(address) ?? "");
    return node === "" ? address : `${address} (${node})`;
  }

  /** Whether an address is one that only the cluster's inside has routes to: a pod's or a ClusterIP. */
  isInside(address: string): boolean {
    const number = parseIpv4(address)!;
    for (const { image, tables } of this.nodes.values()) {
      if (image.inPool(number)) return true;
      if (tables.host?.ranges.some((range) => covers(range, address))) return true;
    }
    return false;
  }

  /** Whether some node routes an address to podwire0 as a load-balancer or external one. */
  isVirtual(address: string): boolean {
    return [...this.nodes.values()].some(({ tables }) => tables.host?.vips.includes(address) === true);
  }

  /**
   * Who answers ARP for a load-balancer address: the node that says so of itself, else the one that
   * another holds for its owner, else the first of the order in a node's tables.
   */
  announcerOf(address: string): Announcer {
    const views = [...this.nodes.values()].flatMap(({ name, tables }) =>
      tables.announced.filter((each) => each.address === address).map((each) => ({ name, ...each })),
    );
    const answering = views.find(({ answers }) => answers);
    const view = answering ?? views.find(({ owner }) => owner !== "") ?? views[0];
    if (view === undefined) return { node: "", because: "no node knows it for an address to be announced" };
    const order = view.order.map(({ node, up }) => (up ? node : `${node} (down)`)).join(", ");
    const owner = answering?.name ?? view.owner;
    if (owner !== "") return { node: owner, because: `the first that is up of ${order}` };
    if (view.problem !== "") return { node: "", because: view.problem };
    return { node: "", because: order === "" ? "no node may announce it" : `none is up of ${order}` };
  }
}

/** Whether a CIDR has an address. */
export function covers(cidr: string, address: string): boolean {
  const [base, length] = cidr.split("/");
  const bits = Number(length);
  const mask = bits === 0 ? 0 : -1 << (32 - bits);
  return (parseIpv4(base!)! & mask) === (parseIpv4(address)! & mask);
}

/** Whom a node holds for alive and for dead, by node number; names that its tables do not have are left out. */
function numbersOf({ name, tables, image }: KnownNode): Pick<NodeCopy, "up" | "down"> {
  const numbers = new Map(tables.vteps.map((vtep) => [vtep.node, image.fdb.find(parseIpv4(vtep.address)!)]));
  numbers.set(name, THIS_NODE);
  const of = (names: readonly string[]) =>
    names.map((each) => numbers.get(each) ?? -1).filter((number) => number >= 0);
  return { up: of(tables.liveness.up), down: of(tables.liveness.down) };
}

/** int32 words of base64, in memory of their own. */
function wordsOf(base64: string): Int32Array<ArrayBuffer> {
  return new Int32Array(new Uint8Array(Buffer.from(base64, "base64")).buffer);
}
