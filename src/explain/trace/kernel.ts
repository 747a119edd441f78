/**
 * What a node's kernel does with a packet, by the rules and routes that the agent keeps (desired/routing,
 * desired/host): to podwire0, to a program of the node, or out. Everything else of the node's routing is
 * the main table's, of which only "to the LAN" is said. Pure.
 *
 *   40   iif podwire0                    local table
 *   50   to NODE-ADDRESS dport NODEPORTS podwire0
 *   60   to NODE-ADDRESS dport EGRESS    podwire0
 *   100  local table
 *   main pools, ClusterIPs, load-balancer addresses: podwire0
 */
import { formatIpv4, parseIpv4 } from "../../model/ipv4.js";
import type { PortRange } from "../../model/portRanges.js";
import * as icmp from "../../wire/icmp.js";
import type { PacketView } from "./model.js";
import { covers, type KnownNode } from "./TraceCluster.js";

/** Where a packet comes from, as the node's kernel sees it. */
export type KernelInput = "program" | "lan" | "podwire0";

export interface KernelWay {
  to: "podwire0" | "program" | "lan" | "nowhere";
  because: string;
  /** The kernel forwards it, and counts its TTL down. */
  forwarded: boolean;
}

const LOCALHOST = "127.0.0.1";
/** desired/heard: ICMP errors that the raw socket's filter lets in. */
const ERRORS_HEARD: readonly number[] = [
  icmp.UNREACHABLE,
  icmp.SOURCE_QUENCH,
  icmp.TIME_EXCEEDED,
  icmp.PARAMETER_PROBLEM,
];
const WITH_PORTS = ["tcp", "udp", "sctp"];

/** What a packet's way through a node's kernel depends on. */
type Asked = Pick<PacketView, "destination" | "destinationPort" | "protocol">;

/** Where the kernel of `node` takes a packet that comes from `from`. */
export function kernelWay(node: KnownNode, from: KernelInput, packet: Asked): KernelWay {
  const { destination, destinationPort, protocol } = packet;
  const { host } = node.tables;
  const forwarded = from !== "program";
  const local = isLoopback(destination) || ownAddresses(node).includes(destination);
  if (from === "podwire0" && local)
    return { to: "program", because: "rule 40: iif podwire0 lookup local", forwarded: false };
  if (from === "lan" && isLoopback(destination))
    return { to: "nowhere", because: "loopback addresses never come from outside", forwarded };
  const ported = WITH_PORTS.includes(protocol);
  if (host !== null && ported && from !== "podwire0") {
    const nodePorts = [...host.nodePortAddresses, ...(host.localhostNodePorts ? [LOCALHOST] : [])];
    if (nodePorts.includes(destination) && within(host.nodePorts, destinationPort)) {
      const because = `rule 50: to ${destination} ipproto ${protocol} dport ${rangeText(host.nodePorts)} lookup 4789`;
      return { to: "podwire0", because, forwarded };
    }
    if (host.egress && host.addresses.includes(destination) && within(host.egressPorts, destinationPort)) {
      const because = `rule 60: to ${destination} ipproto ${protocol} dport ${rangeText(host.egressPorts)} lookup 4789`;
      return { to: "podwire0", because, forwarded };
    }
  }
  if (local) return { to: "program", because: "an address of the node: local table", forwarded: false };
  const route = routeToPodwire0(node, destination);
  if (route !== null) return { to: "podwire0", because: `route ${route} dev podwire0`, forwarded };
  return { to: "lan", because: "the node's own routes", forwarded };
}

/**
 * The source address that the kernel gives a program's packet, where the program does not choose one: of
 * what goes to podwire0, by whichever rule or route, the tunnel address that this device has.
 */
export function sourceOfProgram(node: KnownNode, packet: Asked): string {
  const { destination } = packet;
  const { image } = node;
  if (kernelWay(node, "program", packet).to === "podwire0") return formatIpv4(image.tunnelAddress);
  if (isLoopback(destination)) return LOCALHOST;
  if (ownAddresses(node).includes(destination)) return destination;
  const egress = image.egressSource(parseIpv4(destination)!);
  return formatIpv4(egress !== 0 ? egress : image.underlayAddress);
}

/**
 * Whether a raw socket of the agent hears a packet that the kernel gives to the node's programs, and that did
 * not come from podwire0: ICMP errors, echo replies to egress identifiers, and UDP of the captured ports
 * (desired/heard).
 */
export function isHeard({ tables }: KnownNode, { protocol, icmpType, destinationPort }: PacketView): boolean {
  const { host } = tables;
  if (host === null) return false;
  if (protocol === "udp")
    return (
      within(host.nodePorts, destinationPort) || (host.egress && within(host.egressPorts, destinationPort))
    );
  if (icmpType === icmp.ECHO_REPLY) return within(host.egressPorts, destinationPort);
  return icmpType !== undefined && ERRORS_HEARD.includes(icmpType);
}

function routeToPodwire0({ image, tables }: KnownNode, destination: string): string | null {
  if (image.inPool(parseIpv4(destination)!)) return "of the pod pool";
  const range = tables.host?.ranges.find((each) => covers(each, destination));
  if (range !== undefined) return range;
  return tables.host?.vips.includes(destination) ? `${destination}/32` : null;
}

function ownAddresses({ image, tables }: KnownNode): string[] {
  return [
    formatIpv4(image.underlayAddress),
    formatIpv4(image.tunnelAddress),
    ...(tables.host?.addresses ?? []),
  ];
}

function isLoopback(address: string): boolean {
  return address.startsWith("127.");
}

function within({ first, last }: PortRange, port: number): boolean {
  return port >= first && port <= last;
}

function rangeText({ first, last }: PortRange): string {
  return `${first}-${last}`;
}
