/**
 * Who may announce which load-balancer address, and in which order (MetalLB's layer-2 mode). Pure;
 * every node computes the same from the same objects.
 *
 *   1. a Service of the address has an endpoint that can serve
 *   2. an L2Advertisement takes the address's pool, and a Service of it; its node selectors and
 *      interfaces choose nodes
 *   3. without nodes that are excluded from load balancers or have no network
 *   4. externalTrafficPolicy Local: nodes with such an endpoint only
 *   5. rendezvous order; in a large cluster only nodes that watch one another (neighbors)
 */

import { matchesSelector } from "../kube/selectors.js";
import type { L2Advertisement, LabelSelector } from "../kube/types.js";
import { FULL_MESH, MIN_CANDIDATES, REACH, ringDistance, ringOrder } from "./neighbors.js";
import { type HashedNode, hashNode, rendezvousOrder } from "./rendezvous.js";

/** A node with this label announces nothing, whatever its value (KEP-1143). */
export const EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers";

export interface AnnouncingNode {
  name: string;
  labels: Record<string, string>;
  /** Name of the interface it announces on; empty where it is not known. */
  lanInterface: string;
  /** Condition NetworkUnavailable. */
  networkUnavailable: boolean;
}

/** What matters of a Service that has the address. Services that share an address each have one. */
export interface AnnouncedService {
  labels: Record<string, string>;
  /** externalTrafficPolicy Local. */
  local: boolean;
  /** Names of the nodes that have an endpoint that is ready or serving; "" where one has no node. */
  endpointNodes: ReadonlySet<string>;
}

export interface AnnouncedVip {
  /** int32. */
  address: number;
  /** Name of the IPAddressPool that it is from. */
  pool: string;
  services: readonly AnnouncedService[];
}

export interface AnnouncementInput {
  nodes: readonly AnnouncingNode[];
  /** Labels of the IPAddressPools by name. */
  pools: ReadonlyMap<string, Record<string, string>>;
  advertisements: readonly L2Advertisement[];
  vips: readonly AnnouncedVip[];
}

export interface VipOrder {
  address: number;
  /** Names of the nodes that may own it, the first alive does. */
  nodes: string[];
  /** Why no node may; null where one may. */
  problem: VipProblem | null;
}

export type VipProblem =
  /** No Service of it has an endpoint that can serve. */
  | "noEndpoints"
  /** No L2Advertisement takes its pool and a Service of it. */
  | "notAdvertised"
  /** Selectors, exclusions and the traffic policy leave no node. */
  | "noNode";

/** The order of every address. Duplicates of an address must have been put together before. */
export function vipOrders(input: AnnouncementInput): VipOrder[] {
  const hashed = new Map(input.nodes.map(({ name }) => [name, hashNode(name)]));
  const ring = ringOrder([...hashed.values()]);
  const chosenBy = new Map<L2Advertisement, Set<AnnouncingNode>>();
  const nodesOf = (advertisement: L2Advertisement) => {
    const known = chosenBy.get(advertisement);
    const nodes = known ?? new Set(input.nodes.filter((node) => choosesNode(advertisement, node)));
    if (known === undefined) chosenBy.set(advertisement, nodes);
    return nodes;
  };
  return input.vips.map(({ address, pool, services }) => {
    const refuse = (problem: VipProblem): VipOrder => ({ address, nodes: [], problem });
    const active = services.filter(({ endpointNodes }) => endpointNodes.size > 0);
    if (active.length === 0) return refuse("noEndpoints");
    const labels = input.pools.get(pool);
    const mine = input.advertisements.filter(
      (each) => labels !== undefined && takesPool(each, pool, labels) && takesService(each, active),
    );
    if (mine.length === 0) return refuse("notAdvertised");
    const advertising = new Set(mine.flatMap((each) => [...nodesOf(each)]));
    const eligible = withEndpoints([...advertising], active).map(({ name }) => hashed.get(name)!);
    if (eligible.length === 0) return refuse("noNode");
    const order = watching(rendezvousOrder(eligible, address), ring);
    return { address, nodes: order.map(({ name }) => name), problem: null };
  });
}

/** Pools by name or label; all where neither says any. */
function takesPool({ spec }: L2Advertisement, pool: string, labels: Record<string, string>): boolean {
  const names = spec?.ipAddressPools ?? [];
  const selectors = spec?.ipAddressPoolSelectors ?? [];
  return (
    (names.length === 0 && selectors.length === 0) || names.includes(pool) || matchesAny(selectors, labels)
  );
}

function takesService({ spec }: L2Advertisement, services: readonly AnnouncedService[]): boolean {
  const selectors = spec?.serviceSelectors ?? [];
  return selectors.length === 0 || services.some(({ labels }) => matchesAny(selectors, labels));
}

function choosesNode({ spec }: L2Advertisement, node: AnnouncingNode): boolean {
  const selectors = spec?.nodeSelectors ?? [];
  const interfaces = spec?.interfaces ?? [];
  return (
    node.labels[EXCLUDE_LABEL] === undefined &&
    !node.networkUnavailable &&
    (selectors.length === 0 || matchesAny(selectors, node.labels)) &&
    (interfaces.length === 0 || interfaces.includes(node.lanInterface))
  );
}

function matchesAny(selectors: readonly LabelSelector[], labels: Record<string, string>): boolean {
  return selectors.some((selector) => matchesSelector(selector, labels));
}

/**
 * Under policy Local a node without an endpoint would drop what it attracts. Where several Services
 * share the address, a node must have one of each that is Local.
 */
function withEndpoints(nodes: AnnouncingNode[], services: AnnouncedService[]): AnnouncingNode[] {
  const local = services.filter((service) => service.local);
  return nodes.filter(({ name }) => local.every(({ endpointNodes }) => endpointNodes.has(name)));
}

/** What is left of an order when a node must have BFD sessions with all that it competes with. */
function watching(order: HashedNode[], ring: ReadonlyMap<string, number>): HashedNode[] {
  if (ring.size <= FULL_MESH) return order;
  const near = order.filter((node) => ringDistance(ring, order[0]!.name, node.name) <= REACH);
  return near.length >= MIN_CANDIDATES ? near : order.slice(0, MIN_CANDIDATES);
}
