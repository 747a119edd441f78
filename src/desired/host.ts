/**
 * What the host should look like for a config: the TAP devices with everything that hangs on them
 * (addresses, neighbours, routes, sysctls), the tunnel socket, and the node's routing for Services
 * (routing.ts). Pure: a config and facts in,
 * plain values out. Must not know how it is brought about (reconcile/, host/).
 */
import type { AgentConfig, PodConfig, ServiceHostConfig } from "../model/AgentConfig.js";
import { formatCidr, type Ipv4Prefix, parseCidr, parseIpv4 } from "../model/ipv4.js";
import { ICMP, icmpFilter, UDP, udpFilter } from "./heard.js";
import { GATEWAY_MAC, GSO_MAC, podMac, vtepMac } from "./mac.js";
import {
  desiredRouting,
  MAIN_TABLE,
  type NodeAddress,
  type RoutingSpec,
  SERVICE_TABLE,
  type SysctlSpec,
} from "./routing.js";

/** The node's own TAP. */
export const NODE_DEVICE = "podwire0";
/** The tunnel GSO TAP. */
export const GSO_DEVICE = "podwire-tx";
/** Outer IPv4 (20), UDP (8), VXLAN (8) and inner Ethernet (14) headers. */
export const VXLAN_OVERHEAD = 50;
/** Smallest MTU an IPv4 host must be able to receive (RFC 791). */
export const MIN_OVERLAY_MTU = 576;
/** Next hop of every route to the dataplane: link-local, the same everywhere, owned by nobody. */
export const GATEWAY_ADDRESS = "169.254.1.1";
/**
 * Address of the tunnel GSO device. Nobody talks to it: loose reverse path filtering (rp_filter 2)
 * drops what enters by a device that has no address at all (fib_validate_source).
 */
const GSO_ADDRESS = "169.254.1.2";
/** Our number in rtm_protocol (/etc/iproute2/rt_protos); marks routes as ours. */
export const ROUTE_PROTOCOL = 112;
/** Start of the ifalias of every device of ours. */
export const ALIAS_PREFIX = "podwire:";

// Offload flags of TUNSETOFFLOAD (linux/if_tun.h).
export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
const TUN_F_TSO_ECN = 0x08;
/** TUN_F_USO4 | TUN_F_USO6: the kernel takes them only together. */
export const TUN_F_USO = 0x60;
export const TUN_F_UDP_TUNNEL_GSO = 0x80;
export const TUN_F_UDP_TUNNEL_GSO_CSUM = 0x100;

const VNET_HEADER = 10;
const VNET_HEADER_TUNNEL = 24;
const SEGMENT_OFFLOADS = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

const EVERYTHING: Ipv4Prefix = { address: 0, length: 0 };

/** What the config alone does not say. */
export interface HostFacts {
  /** MTU of the underlay interface in bytes. */
  underlayMtu: number;
  /** The node's addresses on other links than ours. */
  addresses: readonly NodeAddress[];
}

export interface RouteSpec {
  table: number;
  destination: Ipv4Prefix;
  /** Dotted decimal; reached on the device itself (onlink). */
  gateway: string;
  /** Preferred source address, null for none. */
  source: string | null;
  /** The device is of no use where somebody else has this route already. */
  required: boolean;
}

/** One TAP device and all that belongs to it. */
export interface DeviceSpec {
  /** Stable name of the device's role: "node", "gso" or "pod NAMESPACE/NAME". */
  id: string;
  role: "node" | "gso" | "pod";
  /** Path of the network namespace; "" is the agent's own. */
  netns: string;
  name: string;
  mac: string;
  mtu: number;
  txQueueLength: number;
  alias: string;
  tap: {
    vnetHeader: number;
    /** TUN_F_* that must be accepted. */
    offloads: number;
    /** TUN_F_* groups that may be refused. */
    optionalOffloads: number[];
    /** The device outlives the agent. */
    persist: boolean;
  };
  addresses: Ipv4Prefix[];
  /** Permanent neighbours. */
  neighbours: { address: string; mac: string }[];
  routes: RouteSpec[];
  sysctls: SysctlSpec[];
  /** Set lo up in the namespace. */
  loopbackUp: boolean;
}

/** The VXLAN socket. */
export interface TunnelSpec {
  address: string;
  port: number;
}

/** A raw socket by which the dataplane hears what the kernel delivers to the node (heard.ts). */
export interface RawSocketSpec {
  protocol: number;
  /** But what podwire0 gave the node (heardElsewhere). */
  filter: number[];
}

export interface HostState {
  tunnel: TunnelSpec;
  node: DeviceSpec;
  /** Null where tunnel GSO is off. */
  gso: DeviceSpec | null;
  pods: DeviceSpec[];
  /** Null where the node carries no Services. */
  routing: RoutingSpec | null;
  rawSockets: RawSocketSpec[];
}

/** MTU of the overlay for an underlay MTU, in bytes. */
export function overlayMtu(underlayMtu: number): number {
  return underlayMtu - VXLAN_OVERHEAD;
}

/** Id of a pod's device. */
export function podDeviceId(name: string): string {
  return `pod ${name}`;
}

/** The host state that `config` (validated) asks for. */
export function desiredHost(config: AgentConfig, facts: HostFacts): HostState {
  const mtu = overlayMtu(facts.underlayMtu);
  return {
    tunnel: { address: config.underlay.address, port: config.underlay.port },
    node: nodeDevice(config, mtu),
    gso: config.dataplane.tunnelGso === "off" ? null : gsoDevice(config),
    pods: config.pods.map((pod) => podDevice(config, pod, mtu)),
    routing:
      config.serviceHost === null
        ? null
        : desiredRouting(config, config.serviceHost, facts.addresses, NODE_DEVICE),
    rawSockets: config.serviceHost === null ? [] : rawSockets(config.serviceHost),
  };
}

function rawSockets({ nodePorts, egressPorts, egress }: ServiceHostConfig): RawSocketSpec[] {
  const ranges = egress === "off" ? [nodePorts] : [nodePorts, egressPorts];
  return [
    { protocol: ICMP, filter: icmpFilter(egressPorts) },
    { protocol: UDP, filter: udpFilter(ranges) },
  ];
}

function nodeDevice(config: AgentConfig, mtu: number): DeviceSpec {
  return {
    id: "node",
    role: "node",
    netns: "",
    name: NODE_DEVICE,
    mac: vtepMac(config.node),
    mtu,
    txQueueLength: 1000,
    alias: `${ALIAS_PREFIX} node ${config.node}, VNI ${config.underlay.vni}`,
    tap: segmentTap(config),
    addresses: [hostPrefix(config.tunnelAddress)],
    neighbours: [{ address: GATEWAY_ADDRESS, mac: GATEWAY_MAC }],
    routes: nodeRoutes(config),
    sysctls: [
      ...ingressSysctls(NODE_DEVICE),
      // Traffic of 127.0.0.1 crosses the device only for NodePorts.
      {
        key: `net/ipv4/conf/${NODE_DEVICE}/route_localnet`,
        value: config.serviceHost?.localhostNodePorts === true ? "1" : "0",
        optional: false,
      },
    ],
    loopbackUp: false,
  };
}

/** Pod pools, ClusterIPs and load-balancer addresses, and what the rules capture. */
function nodeRoutes(config: AgentConfig): RouteSpec[] {
  const route = (destination: Ipv4Prefix, required: boolean, table = MAIN_TABLE): RouteSpec => ({
    table,
    destination,
    gateway: GATEWAY_ADDRESS,
    source: config.tunnelAddress,
    required,
  });
  const routes = config.podPool.map((pool) => route(parseCidr(pool)!, true));
  if (config.serviceHost === null) return routes;
  const { ranges, vips } = config.serviceHost;
  const there = new Set(routes.map(({ destination }) => formatCidr(destination)));
  for (const destination of [...ranges.map((range) => parseCidr(range)!), ...vips.map(hostPrefix)]) {
    const key = formatCidr(destination);
    if (!there.has(key)) routes.push(route(destination, false));
    there.add(key);
  }
  routes.push(route(EVERYTHING, false, SERVICE_TABLE));
  return routes;
}

function gsoDevice(config: AgentConfig): DeviceSpec {
  return {
    id: "gso",
    role: "gso",
    netns: "",
    name: GSO_DEVICE,
    mac: GSO_MAC,
    mtu: 65000,
    txQueueLength: 1000,
    alias: `${ALIAS_PREFIX} tunnel GSO of node ${config.node}`,
    tap: {
      vnetHeader: VNET_HEADER_TUNNEL,
      offloads: TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
      optionalOffloads: [TUN_F_UDP_TUNNEL_GSO, TUN_F_UDP_TUNNEL_GSO_CSUM],
      persist: false,
    },
    addresses: [hostPrefix(GSO_ADDRESS)],
    neighbours: [],
    routes: [],
    sysctls: ingressSysctls(GSO_DEVICE),
    loopbackUp: false,
  };
}

function podDevice(config: AgentConfig, pod: PodConfig, mtu: number): DeviceSpec {
  return {
    id: podDeviceId(pod.name),
    role: "pod",
    netns: pod.netns,
    name: pod.interface,
    mac: podMac(parseIpv4(pod.address)!),
    mtu,
    txQueueLength: 1000,
    alias: `${ALIAS_PREFIX} pod ${pod.name} of node ${config.node}`,
    tap: segmentTap(config),
    addresses: [hostPrefix(pod.address)],
    neighbours: [{ address: GATEWAY_ADDRESS, mac: GATEWAY_MAC }],
    routes: [
      {
        table: MAIN_TABLE,
        destination: EVERYTHING,
        gateway: GATEWAY_ADDRESS,
        source: null,
        required: true,
      },
    ],
    sysctls: [noIpv6(pod.interface)],
    loopbackUp: true,
  };
}

function segmentTap(config: AgentConfig): DeviceSpec["tap"] {
  const { uso } = config.dataplane;
  return {
    vnetHeader: VNET_HEADER,
    offloads: uso === "on" ? SEGMENT_OFFLOADS | TUN_F_USO : SEGMENT_OFFLOADS,
    optionalOffloads: uso === "auto" ? [TUN_F_USO] : [],
    persist: true,
  };
}

/**
 * A device through which packets with a local source address come in: accept_local lets them,
 * and rp_filter=2 (loose) is needed since the larger of this and conf.all.rp_filter counts.
 */
function ingressSysctls(device: string): SysctlSpec[] {
  const key = (name: string) => `net/ipv4/conf/${device}/${name}`;
  return [
    noIpv6(device),
    { key: key("accept_local"), value: "1", optional: false },
    { key: key("rp_filter"), value: "2", optional: false },
    { key: key("forwarding"), value: "1", optional: false },
  ];
}

function noIpv6(device: string): SysctlSpec {
  return { key: `net/ipv6/conf/${device}/disable_ipv6`, value: "1", optional: true };
}

function hostPrefix(address: string): Ipv4Prefix {
  return { address: parseIpv4(address)!, length: 32 };
}
