/**
 * Which endpoints of a Service traffic on this node goes to: kube-proxy's rules
 * (pkg/proxy/topology.go, CategorizeEndpoints, and endpointslicecache.go). Pure.
 */
import type { Service, ServiceEndpoint, ServiceNode, ServicePort, ServiceSlice } from "../model/Service.js";

/** Where an endpoint of one service port is reached, as one number: address × 2¹⁶ + port. */
export type EndpointKey = number;

/** The endpoint's address, int32. */
export function keyAddress(key: EndpointKey): number {
  return Math.floor(key / 65536) | 0;
}

/** The endpoint's port. */
export function keyPort(key: EndpointKey): number {
  return key % 65536;
}

/** What traffic goes to under either policy. Keys in ascending order. */
export interface Categories {
  /** Policy Cluster. */
  cluster: EndpointKey[];
  /** Policy Local. */
  local: EndpointKey[];
  /** Somebody in the cluster could serve it. */
  any: boolean;
}

/**
 * All endpoints of a service port, in whichever slices, by key. While an endpoint moves between
 * slices both have it; then what says that it is on this node counts, else the first.
 */
export function endpointsOf(
  port: ServicePort,
  slices: Iterable<ServiceSlice>,
  node: string,
): Map<EndpointKey, ServiceEndpoint> {
  const found = new Map<EndpointKey, ServiceEndpoint>();
  for (const { ports, endpoints } of slices) {
    for (const { name, protocol, l4Port } of ports) {
      if (name !== port.name || protocol !== port.protocol) continue;
      for (const endpoint of endpoints) {
        const key = (endpoint.address >>> 0) * 65536 + l4Port;
        if (endpoint.node === node || !found.has(key)) found.set(key, endpoint);
      }
    }
  }
  return found;
}

/** Whether it can be reached by an address besides its cluster IP. */
function externallyAccessible(service: Service, port: ServicePort): boolean {
  return port.nodePort !== 0 || service.loadBalancerIps.length > 0 || service.externalIps.length > 0;
}

/**
 * Ready endpoints; where there are none, those that terminate and still serve, separately for each
 * policy. Policy Cluster follows topology hints. `sorted` has the keys of `endpoints` in order.
 */
export function categorize(
  service: Service,
  port: ServicePort,
  endpoints: ReadonlyMap<EndpointKey, ServiceEndpoint>,
  sorted: readonly EndpointKey[],
  node: ServiceNode,
): Categories {
  const external = externallyAccessible(service, port);
  // Policy Local towards the outside needs both: this node's own traffic is not bound by it.
  const usesCluster = service.internalPolicy === "Cluster" || external;
  const usesLocal = service.internalPolicy === "Local" || (service.externalPolicy === "Local" && external);
  const ready = sorted.filter((key) => endpoints.get(key)!.ready);
  const eligible = ready.length > 0 ? ready : sorted.filter((key) => isLeaving(endpoints.get(key)!));
  const cluster = usesCluster ? eligible.filter(availableFor(ready, endpoints, node)) : [];
  const here = (key: EndpointKey) => endpoints.get(key)!.node === node.name;
  const localReady = usesLocal ? ready.filter(here) : [];
  const local =
    localReady.length > 0 || !usesLocal
      ? localReady
      : sorted.filter((key) => here(key) && isLeaving(endpoints.get(key)!));
  return { cluster, local, any: eligible.length > 0 };
}

function isLeaving({ serving, terminating }: ServiceEndpoint): boolean {
  return serving && terminating;
}

/**
 * Hints count only where every ready endpoint has one of the kind, and one of them is for us: first
 * those for nodes, then those for zones.
 */
function availableFor(
  ready: readonly EndpointKey[],
  endpoints: ReadonlyMap<EndpointKey, ServiceEndpoint>,
  { name, zone }: ServiceNode,
): (key: EndpointKey) => boolean {
  if (ready.length === 0) return () => true;
  const every = (hints: (endpoint: ServiceEndpoint) => readonly string[], wanted: string) => {
    let one = false;
    for (const key of ready) {
      const given = hints(endpoints.get(key)!);
      if (given.length === 0) return false;
      one ||= given.includes(wanted);
    }
    return one;
  };
  if (every(({ nodes }) => nodes, name)) return (key) => endpoints.get(key)!.nodes.includes(name);
  if (every(({ zones }) => zones, zone)) return (key) => endpoints.get(key)!.zones.includes(zone);
  return () => true;
}
