/**
 * Owns the cluster as one value, for whoever draws or explains it: nodes with their VTEPs, blocks and
 * pods, and Services with the way in to them and the endpoints behind. Pure: objects of the API and
 * what the agents say of their tables in, plain values out; what neither says is null, never guessed.
 * Must not know how any of it is drawn.
 */
import type { EndpointSlice, Node, Pod, Service } from "../kube/types.js";
import { TUNNEL_ADDRESS, UNDERLAY_ADDRESS, VTEP_MAC, VXLAN_PORT } from "../model/annotations.js";
import { parseCidr, parseIpv4 } from "../model/ipv4.js";

/** What is read of an IPAMBlock. */
export interface BlockObject {
  metadata: { name?: string };
  spec: {
    cidr: string;
    node: string;
    allocations?: { ordinal: number; attributes?: { node?: string } }[];
  };
}

/** The objects that a topology is made of, as the API lists them. */
export interface ClusterObjects {
  nodes: readonly Node[];
  pods: readonly Pod[];
  services: readonly Service[];
  endpointSlices: readonly EndpointSlice[];
  blocks: readonly BlockObject[];
}

/** What an agent says of the table it forwards by: the part of its status that is read here. */
export interface NodeState {
  underlay: { address: string; port: number; vni: number; mtu: number };
  overlayMtu: number;
  vteps: readonly { node: string; address: string; port: number; tunnelAddress: string; mac: string }[];
}

/** What an agent says of load-balancer addresses: the part of its report that is read here. */
export interface NodeAnnouncement {
  /** `owner` is "" where there is none; `answers`: this node is the one that answers for it. */
  addresses: readonly { address: string; owner: string; since: string; answers: boolean }[];
  /** The nodes that it watches by BFD; names of states as in RFC 5880 §4.1. */
  neighbors: readonly { node: string; state: string; upSince: string }[];
}

/** What is known beside the API's objects. */
export interface LiveState {
  /** By node's name; a node whose agent did not answer is not in it. */
  nodes: ReadonlyMap<string, NodeState>;
  /** The node that answers for a load-balancer address on the LAN, by address. */
  owners: ReadonlyMap<string, string>;
}

/** Nothing but the API's objects. */
export const NO_LIVE_STATE: LiveState = { nodes: new Map(), owners: new Map() };

/** A block of pod addresses and how full it is. */
export interface TopologyBlock {
  cidr: string;
  /** Addresses in it. */
  size: number;
  /** Addresses given out, the tunnel address among them. */
  used: number;
}

/** A port that a pod listens on, as its containers or an EndpointSlice say. */
export interface TopologyPort {
  protocol: string;
  l4Port: number;
}

export interface TopologyPod {
  /** NAMESPACE/NAME. */
  key: string;
  name: string;
  /** The object that made it (a DaemonSet, a Deployment), or its own name: pods of one are alike. */
  workload: string;
  /** Empty until it has one. */
  address: string;
  ports: TopologyPort[];
  ready: boolean;
  /** Has the node's own address and is not attached to the overlay. */
  hostNetwork: boolean;
}

/** Where a node's end of the overlay is not as the others know it. */
export interface TunnelFault {
  /** The node whose table is wrong. */
  at: string;
  /** The node that the entry is about. */
  about: string;
  reason: string;
}

export interface TopologyNode {
  name: string;
  /** Address on the LAN, where VXLAN datagrams go to. */
  address: string;
  ready: boolean;
  /** Its VTEP; null as long as the node has announced none. */
  vtep: { tunnelAddress: string; mac: string; l4Port: number } | null;
  blocks: TopologyBlock[];
  /** In the order of their addresses. */
  pods: TopologyPod[];
  /** Whether the agent's own table was read. */
  live: boolean;
  /** Load-balancer addresses that it answers for. */
  owns: string[];
}

export interface TopologyServicePort {
  name: string;
  protocol: string;
  port: number;
  /** As the Service has it: a number, or a name that pods give a meaning. */
  targetPort: string;
  /** 0 where it has none. */
  nodePort: number;
}

/** Something that a Service's packets are sent to. */
export interface TopologyBackend {
  address: string;
  /** Its ports, one for each of the Service's. */
  ports: number[];
  /** Key of the pod; null where it is none of the cluster's. */
  pod: string | null;
  /** The node that it is on; null where unknown. */
  node: string | null;
  /** Takes new connections. */
  ready: boolean;
}

export interface TopologyService {
  /** NAMESPACE/NAME. */
  key: string;
  name: string;
  type: "ClusterIP" | "NodePort" | "LoadBalancer";
  clusterIp: string;
  ports: TopologyServicePort[];
  /** Load-balancer addresses, each with the node that answers for it where that is known. */
  loadBalancer: { address: string; owner: string | null }[];
  /** externalTrafficPolicy: Local. */
  local: boolean;
  backends: TopologyBackend[];
}

export interface Topology {
  /** VXLAN network identifier, UDP port and pods' MTU; null where no agent was asked. */
  overlay: { vni: number; l4Port: number; mtu: number } | null;
  nodes: TopologyNode[];
  /** In the order of their keys. */
  services: TopologyService[];
  /** Where the tables of agents disagree with what nodes announce. */
  faults: TunnelFault[];
}

/** Names the Service that an EndpointSlice belongs to. */
const SERVICE_NAME = "kubernetes.io/service-name";

/** The owner of each address: as the node says that answers for it, else as any other does. */
export function ownersOf(announcements: Iterable<NodeAnnouncement>): Map<string, string> {
  const owners = new Map<string, string>();
  const all = [...announcements].flatMap(({ addresses }) => addresses).filter(({ owner }) => owner !== "");
  for (const { address, owner } of [...all.filter(({ answers }) => answers), ...all])
    if (!owners.has(address)) owners.set(address, owner);
  return owners;
}

/** Puts the objects and the live state together. */
export function topologyOf(objects: ClusterObjects, live: LiveState = NO_LIVE_STATE): Topology {
  const slices = slicesByService(objects.endpointSlices);
  const pods = objects.pods.filter(isThere);
  const podOf = new Map(
    pods.filter(({ spec }) => !spec?.hostNetwork).map((pod) => [pod.status?.podIP ?? "", keyOf(pod)]),
  );
  const services = objects.services
    .flatMap((service) => serviceOf(service, slices.get(keyOf(service)) ?? [], podOf, live.owners))
    .sort(byKey);
  const served = servedPorts(services);
  const podsOf = grouped(pods, ({ spec }) => spec?.nodeName ?? "");
  const blocksOf = grouped(objects.blocks, ({ spec }) => spec.node);
  const nodes = objects.nodes
    .map((node) => {
      const name = node.metadata.name ?? "";
      return nodeOf(node, blocksOf.get(name) ?? [], podsOf.get(name) ?? [], served, live);
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  return { overlay: overlayOf(live), nodes, services, faults: tunnelFaults(nodes, live) };
}

function keyOf({ metadata }: { metadata: { namespace?: string; name?: string } }): string {
  return `${metadata.namespace ?? "default"}/${metadata.name ?? ""}`;
}

function byKey(a: { key: string }, b: { key: string }): number {
  return a.key < b.key ? -1 : 1;
}

/** Neither ended nor without a node. */
function isThere({ spec, status }: Pod): boolean {
  return spec?.nodeName !== undefined && status?.phase !== "Succeeded" && status?.phase !== "Failed";
}

/** What there is of each key, in the order given. */
function grouped<T>(all: readonly T[], keyOf: (each: T) => string): Map<string, T[]> {
  const found = new Map<string, T[]>();
  for (const each of all) {
    const key = keyOf(each);
    const group = found.get(key);
    if (group === undefined) found.set(key, [each]);
    else group.push(each);
  }
  return found;
}

function slicesByService(slices: readonly EndpointSlice[]): Map<string, EndpointSlice[]> {
  const usable = slices.filter(
    ({ metadata, addressType }) => metadata.labels?.[SERVICE_NAME] && addressType === "IPv4",
  );
  return grouped(
    usable,
    ({ metadata }) => `${metadata.namespace ?? "default"}/${metadata.labels?.[SERVICE_NAME]}`,
  );
}

/** A Service with an address; none for a headless one and for an ExternalName. */
function serviceOf(
  object: Service,
  slices: readonly EndpointSlice[],
  podOf: ReadonlyMap<string, string>,
  owners: ReadonlyMap<string, string>,
): TopologyService[] {
  const { spec, status } = object;
  const type = spec?.type ?? "ClusterIP";
  const clusterIp = spec?.clusterIP ?? "";
  if (type === "ExternalName" || parseIpv4(clusterIp) === null) return [];
  const ports = (spec?.ports ?? []).map((port) => ({
    name: port.name ?? "",
    protocol: port.protocol ?? "TCP",
    port: port.port,
    targetPort: String(port.targetPort ?? port.port),
    nodePort: port.nodePort ?? 0,
  }));
  const addresses = (status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => ip ?? []);
  return [
    {
      key: keyOf(object),
      name: object.metadata.name ?? "",
      type: type as TopologyService["type"],
      clusterIp,
      ports,
      loadBalancer: addresses.map((address) => ({ address, owner: owners.get(address) ?? null })),
      local: spec?.externalTrafficPolicy === "Local",
      backends: backendsOf(slices, podOf),
    },
  ];
}

function backendsOf(slices: readonly EndpointSlice[], podOf: ReadonlyMap<string, string>): TopologyBackend[] {
  const found = new Map<string, TopologyBackend>();
  for (const slice of slices) {
    const ports = (slice.ports ?? []).flatMap(({ port }) => port ?? []);
    for (const { addresses, nodeName, conditions } of slice.endpoints ?? []) {
      for (const address of addresses) {
        const before = found.get(address);
        found.set(address, {
          address,
          ports: [...new Set([...(before?.ports ?? []), ...ports])],
          pod: podOf.get(address) ?? null,
          node: nodeName ?? null,
          // Absent means true (discovery.k8s.io/v1 EndpointConditions).
          ready: (before?.ready ?? false) || conditions?.ready !== false,
        });
      }
    }
  }
  return [...found.values()].sort((a, b) => (parseIpv4(a.address) ?? 0) - (parseIpv4(b.address) ?? 0));
}

/** The ports that Services send to, by the pod's key. */
function servedPorts(services: readonly TopologyService[]): Map<string, TopologyPort[]> {
  const served = new Map<string, TopologyPort[]>();
  for (const { backends, ports } of services)
    for (const backend of backends)
      if (backend.pod !== null)
        served.set(backend.pod, [
          ...(served.get(backend.pod) ?? []),
          ...backend.ports.map((l4Port, n) => ({ protocol: ports[n]?.protocol ?? "TCP", l4Port })),
        ]);
  return served;
}

function nodeOf(
  { metadata, status }: Node,
  blocks: readonly BlockObject[],
  pods: readonly Pod[],
  served: ReadonlyMap<string, TopologyPort[]>,
  live: LiveState,
): TopologyNode {
  const name = metadata.name ?? "";
  const annotations = metadata.annotations ?? {};
  const tunnelAddress = annotations[TUNNEL_ADDRESS];
  const mac = annotations[VTEP_MAC];
  return {
    name,
    address:
      annotations[UNDERLAY_ADDRESS] ??
      status?.addresses?.find(({ type }) => type === "InternalIP")?.address ??
      "",
    ready: status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") ?? false,
    vtep:
      tunnelAddress === undefined || mac === undefined
        ? null
        : {
            tunnelAddress,
            mac,
            l4Port: Number(annotations[VXLAN_PORT] ?? live.nodes.get(name)?.underlay.port),
          },
    blocks: blocks.flatMap(blockOf),
    pods: pods
      .map((pod) => podOf(pod, served))
      .sort((a, b) => order(a.address) - order(b.address) || byKey(a, b)),
    live: live.nodes.has(name),
    owns: [...live.owners].filter(([, owner]) => owner === name).map(([address]) => address),
  };
}

/** Sorts addresses; what has none comes last. */
function order(address: string): number {
  const value = parseIpv4(address);
  return value === null ? Number.MAX_SAFE_INTEGER : value >>> 0;
}

function blockOf({ spec }: BlockObject): TopologyBlock[] {
  const prefix = parseCidr(spec.cidr);
  if (prefix === null) return [];
  return [{ cidr: spec.cidr, size: 2 ** (32 - prefix.length), used: spec.allocations?.length ?? 0 }];
}

function podOf(pod: Pod, served: ReadonlyMap<string, TopologyPort[]>): TopologyPod {
  const { metadata, spec, status } = pod;
  const key = keyOf(pod);
  const declared = (spec?.containers ?? [])
    .flatMap(({ ports }) => ports ?? [])
    .map(({ containerPort, protocol }) => ({ protocol: protocol ?? "TCP", l4Port: containerPort }));
  const ports = [...declared, ...(served.get(key) ?? [])];
  return {
    key,
    name: metadata.name ?? "",
    workload: workloadOf(pod),
    address: status?.podIP ?? "",
    ports: ports.filter(
      (port, n) =>
        ports.findIndex((each) => each.l4Port === port.l4Port && each.protocol === port.protocol) === n,
    ),
    ready: status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") ?? false,
    hostNetwork: spec?.hostNetwork === true,
  };
}

/** A ReplicaSet's name ends with its template's hash, which is left out: it is the Deployment's then. */
function workloadOf({ metadata }: Pod): string {
  const owner = metadata.ownerReferences?.find(({ controller }) => controller === true);
  if (owner === undefined) return metadata.name ?? "";
  const hash = metadata.labels?.["pod-template-hash"];
  return hash !== undefined && owner.name.endsWith(`-${hash}`)
    ? owner.name.slice(0, -hash.length - 1)
    : owner.name;
}

function overlayOf({ nodes }: LiveState): Topology["overlay"] {
  const [state] = nodes.values();
  if (state === undefined) return null;
  return { vni: state.underlay.vni, l4Port: state.underlay.port, mtu: state.overlayMtu };
}

/** Holds each agent's table against what the other nodes announce. */
function tunnelFaults(nodes: readonly TopologyNode[], { nodes: states }: LiveState): TunnelFault[] {
  const faults: TunnelFault[] = [];
  for (const { name: at } of nodes) {
    const state = states.get(at);
    if (state === undefined) continue;
    for (const { name: about, vtep, address } of nodes) {
      if (about === at || vtep === null) continue;
      const entry = state.vteps.find(({ node }) => node === about);
      const say = (reason: string) => faults.push({ at, about, reason });
      if (entry === undefined) say("not in the table");
      else if (entry.address !== address) say(`datagrams go to ${entry.address}, not ${address}`);
      else if (entry.mac !== vtep.mac) say(`MAC ${entry.mac}, not ${vtep.mac}`);
      else if (entry.tunnelAddress !== vtep.tunnelAddress)
        say(`tunnel address ${entry.tunnelAddress}, not ${vtep.tunnelAddress}`);
    }
  }
  return faults;
}
