/**
 * Who watches whom by BFD. Up to FULL_MESH nodes: everybody everybody. In a larger cluster the nodes
 * stand in a ring, in the order of their names' hashes, and each has sessions with those that are at
 * most 2 × REACH places away; an address's candidates are the first of its order and who is within
 * REACH of that one, so that any two candidates watch each other. Where selectors leave fewer than
 * MIN_CANDIDATES of these, its first few have sessions for its sake. Pure, and alike on every node.
 */
import type { VipOrder } from "./owners.js";
import { type HashedNode, hashNode } from "./rendezvous.js";

export const FULL_MESH = 64;
/** Places on the ring between the first candidate of an address and the others. */
export const REACH = 15;
/** Candidates that an address has at least, as far as there are nodes that may own it. */
export const MIN_CANDIDATES = 3;

/** Place of each node on the ring, by name. */
export function ringOrder(nodes: readonly HashedNode[]): Map<string, number> {
  const sorted = [...nodes].sort((a, b) => a.high - b.high || a.low - b.low || (a.name < b.name ? -1 : 1));
  return new Map(sorted.map(({ name }, place) => [name, place]));
}

/** Places between two nodes, the shorter way round. */
export function ringDistance(ring: ReadonlyMap<string, number>, a: string, b: string): number {
  const there = Math.abs(ring.get(a)! - ring.get(b)!);
  return Math.min(there, ring.size - there);
}

/**
 * Names of the nodes with which `self` has BFD sessions, of all `nodes` (names, `self` among them),
 * in ascending order. `orders` are those of owners.vipOrders for the same nodes.
 */
export function bfdPeers(self: string, nodes: readonly string[], orders: readonly VipOrder[]): string[] {
  const others = nodes.filter((name) => name !== self);
  if (nodes.length <= FULL_MESH) return others.sort();
  const ring = ringOrder(nodes.map(hashNode));
  const peers = new Set(others.filter((name) => ringDistance(ring, self, name) <= 2 * REACH));
  for (const { nodes: order } of orders) if (order.includes(self)) for (const name of order) peers.add(name);
  peers.delete(self);
  return [...peers].sort();
}
