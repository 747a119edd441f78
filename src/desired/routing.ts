/**
 * How traffic for Services gets from the node's routing to podwire0, as rules and sysctls. Pure.
 * Must not know how they are brought about (host/, reconcile/routing).
 *
 *   40     iif podwire0                          lookup local    what the dataplane hands back
 *   50     to NODE-ADDRESS ipproto … dport 30000-32767  lookup 4789    NodePorts
 *   60     to ANY-ADDRESS  ipproto … dport 61000-65534  lookup 4789    answers to masqueraded egress
 *   100    lookup local                                          the kernel's own rule 0, moved
 *
 * Table 4789 has one route: default by podwire0. ClusterIPs and load-balancer addresses are no
 * addresses of the node, so that ordinary routes of the main table lead them there.
 */
import type { AgentConfig, ServiceHostConfig } from "../model/AgentConfig.js";
import { containsAddress, type Ipv4Prefix, parseCidr, parseIpv4 } from "../model/ipv4.js";
import { formatPortRange, type PortRange } from "../model/portRanges.js";

/** Table of local addresses (rtnetlink's RT_TABLE_LOCAL). */
export const LOCAL_TABLE = 255;
/** Table of ordinary routes (RT_TABLE_MAIN). */
export const MAIN_TABLE = 254;
/** Our own table. Nobody else uses it: it marks rules as ours. */
export const SERVICE_TABLE = 4789;
/** Preference of the rule for what the dataplane hands back to the node. */
export const HAND_BACK_PREFERENCE = 40;
/** Where the local table is looked up instead of at 0, behind the rules that capture. */
export const LOCAL_PREFERENCE = 100;

const NODEPORT_PREFERENCE = 50;
const EGRESS_PREFERENCE = 60;
/** TCP, UDP, SCTP. */
const IP_PROTOCOLS = [6, 17, 132];
const LOOPBACK: Ipv4Prefix = { address: 0x7f000000, length: 8 };
const LOCALHOST = 0x7f000001;

/** An address that the node has, and the link that it is on. */
export interface NodeAddress {
  /** int32. */
  address: number;
  link: string;
}

/** A policy rule that looks up a table. */
export interface RuleSpec {
  preference: number;
  /** Null for every destination. */
  to: Ipv4Prefix | null;
  /** "" for every input link. */
  inputLink: string;
  /** 0 for every protocol. */
  ipProtocol: number;
  /** Destination ports, null for all. */
  ports: PortRange | null;
  table: number;
}

/** A key below /proc/sys. */
export interface SysctlSpec {
  /** Path below /proc/sys. */
  key: string;
  value: string;
  /** Nothing to do where the kernel has no such key (IPv6 not built in; a link that went). */
  optional: boolean;
}

/** What is wanted of the node's routing beyond what hangs on our own devices. */
export interface RoutingSpec {
  /** Without the local table's, which is moved from 0 to LOCAL_PREFERENCE. */
  rules: RuleSpec[];
  /** Keys that are not ours: what they were before is restored one day. */
  sysctls: SysctlSpec[];
  /** Ports that the node must not choose by itself, in the form of ip_local_reserved_ports. */
  reservedPorts: string;
}

/**
 * At which addresses NodePorts answer: the configured prefixes' of the node's, or underlay.address.
 * 127.0.0.1 is not among them. int32, in the order of `addresses`.
 */
export function nodePortAddresses(
  config: AgentConfig,
  services: ServiceHostConfig,
  addresses: readonly NodeAddress[],
): number[] {
  const primary = parseIpv4(config.underlay.address)!;
  if (services.nodePortAddresses.length === 0) return [primary];
  const prefixes = services.nodePortAddresses.map((text) => parseCidr(text)!);
  const chosen = addresses
    .map(({ address }) => address)
    .filter((address) => !containsAddress(LOOPBACK, address))
    .filter((address) => prefixes.some((prefix) => containsAddress(prefix, address)));
  return [...new Set(chosen)];
}

/**
 * The rules and sysctls that `services` asks for.
 *
 * @param addresses the node's addresses on other links than ours
 * @param nodeLink name of the node's own TAP
 */
export function desiredRouting(
  config: AgentConfig,
  services: ServiceHostConfig,
  addresses: readonly NodeAddress[],
  nodeLink: string,
): RoutingSpec {
  const outside = addresses.filter(({ address }) => !containsAddress(LOOPBACK, address));
  const nodePorts = nodePortAddresses(config, services, outside);
  if (services.localhostNodePorts) nodePorts.push(LOCALHOST);
  const masquerades = services.egress === "masquerade";
  const egress = masquerades ? [...new Set(outside.map(({ address }) => address))] : [];
  const links = [...new Set(outside.map(({ link }) => link))].filter((link) => link !== "lo");
  return {
    rules: [
      {
        preference: HAND_BACK_PREFERENCE,
        to: null,
        inputLink: nodeLink,
        ipProtocol: 0,
        ports: null,
        table: LOCAL_TABLE,
      },
      ...nodePorts.flatMap((address) => capture(NODEPORT_PREFERENCE, address, services.nodePorts)),
      ...egress.flatMap((address) => capture(EGRESS_PREFERENCE, address, services.egressPorts)),
    ],
    sysctls: [
      // What the rules capture is forwarded, from the link that it came in by to podwire0.
      ...links.map((link) => ({ key: `net/ipv4/conf/${link}/forwarding`, value: "1", optional: true })),
      // The kernel looks for a socket before it looks for a route, and drops what is forwarded and
      // has a socket (ip_forward): a connection of the node's own listener in a captured range,
      // which comes back by rule 40, would get no further than its SYN.
      { key: "net/ipv4/tcp_early_demux", value: "0", optional: true },
      { key: "net/ipv4/udp_early_demux", value: "0", optional: true },
    ],
    reservedPorts: [services.nodePorts, ...(masquerades ? [services.egressPorts] : [])]
      .map(formatPortRange)
      .join(","),
  };
}

function capture(preference: number, address: number, ports: PortRange): RuleSpec[] {
  return IP_PROTOCOLS.map((ipProtocol) => ({
    preference,
    to: { address, length: 32 },
    inputLink: "",
    ipProtocol,
    ports,
    table: SERVICE_TABLE,
  }));
}
