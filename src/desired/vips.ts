/**
 * Nodes, pools and advertisements as the API describes them, compiled with the Services' addresses into
 * who may announce what, and who watches whom. Objects come one by one and are boiled down at once. Pure;
 * the rules are announce/'s. What is compiled is the same on every node, but for whose sessions it names.
 *
 * An address is looked at again when something changed for it; nodes, pools and advertisements concern
 * all of them.
 */
import { bfdPeers } from "../announce/neighbors.js";
import { type AnnouncingNode, type VipOrder, type VipProblem, vipOrders } from "../announce/owners.js";
import type { IPAddressPool, L2Advertisement } from "../kube/types.js";
import { LAN_INTERFACE, LAN_MAC } from "../model/annotations.js";
import { formatIpv4 } from "../model/ipv4.js";
import { isUnicastMac } from "./mac.js";
import type { ServiceVip } from "./services.js";

/** What is read of a Node. */
export interface AnnouncingNodeObject {
  metadata: { name?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  status?: { conditions?: { type: string; status: string }[] };
}

/** An address, and who may own it. */
export interface AnnouncedAddress {
  /** Dotted decimal. */
  address: string;
  /** IPAddressPool that it is from. */
  pool: string;
  /** namespace/name of the Services that have it, the oldest first. */
  services: string[];
  /** The nodes that may own it; the first alive does. */
  nodes: string[];
  /** Why no node may; null where one may. */
  problem: VipProblem | null;
}

export interface Announcements {
  /** The other nodes that announce, by name. */
  nodes: {
    node: string;
    /** Of its LAN interface. */
    mac: string;
    /** Whether this node has a BFD session with it. */
    watched: boolean;
  }[];
  /** By address, ascending. */
  vips: AnnouncedAddress[];
}

interface NodeFacts extends AnnouncingNode {
  mac: string;
}

export class VipAnnouncements {
  readonly #nodes = new Map<string, NodeFacts>();
  readonly #pools = new Map<string, Record<string, string>>();
  readonly #advertisements = new Map<string, L2Advertisement>();
  /** Orders by address, with what they were made of: for as long as nothing else changes. */
  #orders = new Map<number, { from: string; order: VipOrder }>();

  /** `node`: name of this node. */
  constructor(private readonly node: string) {}

  /** Takes over a Node. Whether that changes anything. One whose agent names no LAN interface announces nothing. */
  setNode({ metadata, status }: AnnouncingNodeObject): boolean {
    const { name = "", labels = {}, annotations = {} } = metadata;
    const mac = annotations[LAN_MAC]?.toLowerCase() ?? "";
    if (!isUnicastMac(mac)) return this.removeNode(name);
    const networkUnavailable = (status?.conditions ?? []).some(
      (each) => each.type === "NetworkUnavailable" && each.status === "True",
    );
    const lanInterface = annotations[LAN_INTERFACE] ?? "";
    return this.#put(this.#nodes, name, { name, labels, lanInterface, networkUnavailable, mac });
  }

  removeNode(name: string): boolean {
    return this.#remove(this.#nodes, name);
  }

  /** Whether a node announces. */
  has(name: string): boolean {
    return this.#nodes.has(name);
  }

  /** MAC of the LAN interface of a node that announces, lower case. */
  macOf(name: string): string | undefined {
    return this.#nodes.get(name)?.mac;
  }

  /** Whether a MAC, lower case, is that of a node that announces. */
  hasMac(mac: string): boolean {
    for (const node of this.#nodes.values()) if (node.mac === mac) return true;
    return false;
  }

  setPool({ metadata }: IPAddressPool): boolean {
    return this.#put(this.#pools, metadata.name ?? "", metadata.labels ?? {});
  }

  removePool(name: string): boolean {
    return this.#remove(this.#pools, name);
  }

  setAdvertisement({ metadata, spec }: L2Advertisement): boolean {
    const { name = "" } = metadata;
    return this.#put(this.#advertisements, name, { metadata: { name }, ...(spec && { spec }) });
  }

  removeAdvertisement(name: string): boolean {
    return this.#remove(this.#advertisements, name);
  }

  /** Everything together, for the addresses that Services show. */
  compile(vips: readonly ServiceVip[]): Announcements {
    const orders = this.#ordersOf(vips);
    const names = [...this.#nodes.keys()];
    const watched = new Set(this.#nodes.has(this.node) ? bfdPeers(this.node, names, orders) : []);
    const others = [...this.#nodes.values()].filter(({ name }) => name !== this.node);
    return {
      nodes: others
        .map(({ name, mac }) => ({ node: name, mac, watched: watched.has(name) }))
        .sort((a, b) => (a.node < b.node ? -1 : 1)),
      vips: vips.map(({ address, pool, services }, i) => ({
        address: formatIpv4(address),
        pool,
        services: services.map(({ name }) => name),
        nodes: orders[i]!.nodes,
        problem: orders[i]!.problem,
      })),
    };
  }

  #ordersOf(vips: readonly ServiceVip[]): VipOrder[] {
    const known = this.#orders;
    const from = new Map(vips.map((vip) => [vip.address, inputOf(vip)]));
    const stale = vips.filter(({ address }) => known.get(address)?.from !== from.get(address));
    const made = vipOrders({
      nodes: [...this.#nodes.values()],
      pools: this.#pools,
      advertisements: [...this.#advertisements.values()],
      vips: stale,
    });
    for (const order of made) known.set(order.address, { from: from.get(order.address)!, order });
    for (const address of known.keys()) if (!from.has(address)) known.delete(address);
    return vips.map(({ address }) => known.get(address)!.order);
  }

  #put<T>(map: Map<string, T>, name: string, value: T): boolean {
    const old = map.get(name);
    if (old !== undefined && JSON.stringify(old) === JSON.stringify(value)) return false;
    map.set(name, value);
    this.#orders.clear();
    return true;
  }

  #remove(map: Map<string, unknown>, name: string): boolean {
    if (!map.delete(name)) return false;
    this.#orders.clear();
    return true;
  }
}

/** What of an address its order depends on: nodes with endpoints matter under policy Local alone. */
function inputOf({ pool, services }: ServiceVip): string {
  return JSON.stringify([
    pool,
    services.map(({ labels, local, endpointNodes }) => [
      labels,
      endpointNodes.size > 0,
      local ? [...endpointNodes].sort() : null,
    ]),
  ]);
}
