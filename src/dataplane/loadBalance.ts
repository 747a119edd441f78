/**
 * Which Service a destination is, and which backend a new flow gets: kube-proxy's rules over the
 * rows that desired/services compiled. Every node comes to the same backend for the same client.
 */

import { ringHash } from "../tables/MaglevRing.js";
import { ROUTE_PORT, ROUTE_VTEP, routeOf, routeTarget, routeTo } from "../tables/RouteTable.js";
import { FRONTEND_CLUSTER_IP, RING_DROP, RING_REJECT, type ServiceTable } from "../tables/ServiceTable.js";
import type { Tables } from "../tables/TableImage.js";
import * as ipv4 from "../wire/ipv4.js";
import type { Dataplane } from "./Dataplane.js";

/** What loadBalance returns instead of a backend. */
export const BALANCE_REJECT = -1;
export const BALANCE_NO_LOCAL_ENDPOINT = -2;
export const BALANCE_OUTSIDE_CLUSTER = -3;
export const BALANCE_SOURCE_RANGE = -4;

/**
 * The Service row that row `i` asks for, -1 where its destination is none. Addresses of Services come
 * first; then a NodePort at an address of the node's at which NodePorts answer.
 */
export function frontendOf(dp: Dataplane, i: number): number {
  const { batch, services } = dp;
  const l4Port = batch.ports[i] & 0xffff;
  // Key 0 stands for the address itself: no port of a Service has it.
  if (l4Port === 0) return -1;
  const row = services.find(batch.destination[i], batch.protocol[i], l4Port);
  return row >= 0 ? row : nodePortOf(dp, i);
}

/** The same for a row whose destination is no Service's own address: only NodePorts are left. */
export function nodePortOf(dp: Dataplane, i: number): number {
  const { batch, services, tables } = dp;
  const destination = batch.destination[i];
  const l4Port = batch.ports[i] & 0xffff;
  if (l4Port === 0) return -1;
  const own = ipv4.isLoopback(destination) ? isLoopbackOfNode(dp, i) : tables.hasNodePorts(destination);
  return own ? services.findNodePort(batch.protocol[i], l4Port) : -1;
}

/**
 * Whether row `i` goes from the node to its 127/8, with whichever of its addresses the kernel chose:
 * pods have a 127/8 of their own, and none leaves the node or comes in from outside.
 */
export function isLoopbackOfNode(dp: Dataplane, i: number): boolean {
  const { batch, tables } = dp;
  return (
    ipv4.isLoopback(batch.destination[i]) &&
    batch.vtep[i] < 0 &&
    batch.port[i] === tables.nodePort &&
    isOwn(tables, batch.source[i])
  );
}

/** Whether an address is one of this node. */
export function isOwn(tables: Tables, address: number): boolean {
  if (address === tables.underlayAddress || address === tables.tunnelAddress) return true;
  return ipv4.isLoopback(address) || tables.routes.lookup(address) === routeOf(ROUTE_PORT, tables.nodePort);
}

/** The backend for row `i`, which asks for Service row `row`; or one of BALANCE_*. */
export function loadBalance(dp: Dataplane, i: number, row: number, inside: boolean): number {
  const { batch, services } = dp;
  const source = batch.source[i];
  if (!inside && (services.flags(row) & FRONTEND_CLUSTER_IP) !== 0) return BALANCE_OUTSIDE_CLUSTER;
  const ring = inside ? services.insideRing(row) : services.outsideRing(row);
  if (ring === RING_REJECT) return BALANCE_REJECT;
  if (!services.accepts(row, source)) return BALANCE_SOURCE_RANGE;
  if (ring === RING_DROP) return BALANCE_NO_LOCAL_ENDPOINT;
  if (services.affinitySeconds(row) > 0) return affineBackend(dp, row, ring, source);
  return chooseBackend(dp, ring, ringHash(source, batch.ports[i] >>> 16, batch.protocol[i]));
}

/** What leads a client of Service row `row` to a slot of its rings: with ClientIP affinity its address alone. */
export function clientHash(
  services: ServiceTable,
  row: number,
  source: number,
  l4Port: number,
  protocol: number,
): number {
  return services.affinitySeconds(row) > 0 ? ringHash(source, 0, 0) : ringHash(source, l4Port, protocol);
}

/** The backend that a new flow of a client with this `clientHash` gets from a ring. */
export function chooseBackend(dp: Dataplane, ring: number, hash: number): number {
  return dp.services.pick(ring, slotOf(dp, ring, hash));
}

/**
 * The slot whose backend that is. Where its node is dead, the first slot behind it, in the order of slots
 * that all nodes share, whose node is not; so nodes that hold the same ones for dead agree, and what the
 * dead ones had spreads over all others. Where all are dead, the ring's own choice.
 */
export function slotOf(dp: Dataplane, ring: number, hash: number): number {
  const { services } = dp;
  const slot = services.slot(ring, hash);
  const backend = services.pick(ring, slot);
  if (!dp.someDown || isReachable(dp, backend) || !hasReachable(dp, ring)) return slot;
  for (let next = services.next(ring, slot); ; next = services.next(ring, next)) {
    const other = services.pick(ring, next);
    if (other !== backend && isReachable(dp, other)) return next;
  }
}

/** Whether row `i`, which the tunnel did not bring, comes from a pod or from the node itself. */
export function isFromInside({ batch, tables }: Dataplane, i: number): boolean {
  const source = batch.source[i];
  return batch.port[i] !== tables.nodePort || isOwn(tables, source) || tables.inPool(source);
}

function hasReachable(dp: Dataplane, ring: number): boolean {
  const { services } = dp;
  const count = services.count(ring);
  for (let n = 0; n < count; n++) if (isReachable(dp, services.member(ring, n))) return true;
  return false;
}

/** Whether a backend is on no node that is known to be dead: a pod of its blocks, or a program of its own. */
export function isReachable(dp: Dataplane, backend: number): boolean {
  const { tables } = dp;
  const address = dp.services.address(backend);
  const route = tables.routes.lookup(address);
  const vtep = routeTo(route) === ROUTE_VTEP ? routeTarget(route) : tables.fdb.find(address);
  return vtep < 0 || dp.liveness.down[vtep] === 0;
}

/**
 * The backend of a ring that a client's last connection to Service row `row`, which has ClientIP affinity,
 * got; -1 where the client began none within the timeout, that backend's node is dead, or it is not of
 * this ring.
 */
export function keptBackend(dp: Dataplane, row: number, ring: number, source: number): number {
  const { services, affinities, nowMs } = dp;
  if (!affinities.find(services.affinityKey(row), source, services.affinitySeconds(row), nowMs)) return -1;
  const backend = services.memberAt(ring, affinities.address, affinities.l4Port);
  return backend >= 0 && dp.someDown && !isReachable(dp, backend) ? -1 : backend;
}

/**
 * The same where the row has ClientIP affinity, by kube-proxy's rules: a client's new connections to a
 * service port, whichever of its addresses they ask for, go to the endpoint of the one before, until
 * the client has begun none for the timeout, that endpoint's node is dead, or this traffic may not go to
 * it any more. Each ingress node keeps its own, as with kube-proxy; they agree while endpoints do not change, since a new
 * client gets what the ring says for its address.
 */
function affineBackend(dp: Dataplane, row: number, ring: number, source: number): number {
  const { services, affinities, nowMs } = dp;
  const key = services.affinityKey(row);
  let backend = keptBackend(dp, row, ring, source);
  if (backend < 0) backend = chooseBackend(dp, ring, ringHash(source, 0, 0));
  affinities.note(key, source, services.address(backend), services.l4Port(backend), nowMs);
  return backend;
}
