/**
 * From a config to what a table image is built from. Pure. Routes, in the order of their kinds:
 * own addresses to the node's port, own pods to their ports, the rest of own blocks unreachable,
 * and every other node's blocks and tunnel address to its VTEP.
 */
import type { AgentConfig } from "../model/AgentConfig.js";
import { containsAddress, type Ipv4Prefix, parseCidr, parseIpv4 } from "../model/ipv4.js";
import type { TableInput } from "../tables/TableInput.js";
import { overlayMtu } from "./host.js";
import { announceTables, type LanInterface, type LanPorts } from "./lan.js";
import { GSO_MAC, macOf, podMac, vtepMac } from "./mac.js";

/** A TAP that is attached to the worker. */
export interface AttachedPort {
  port: number;
  /** The kernel took the USO offloads on it. */
  uso: boolean;
}

/** What the config alone does not say. */
export interface TableFacts {
  /** MTU of the underlay interface in bytes. */
  underlayMtu: number;
  /** Port number of the VXLAN socket. */
  tunnelPort: number;
  /** podwire0; null while it is gone, and then nothing is delivered to the node. */
  node: AttachedPort | null;
  /** Port numbers of the raw sockets, -1 without. */
  icmpPort: number;
  reassemblyPort: number;
  /** Port number of the tunnel GSO TAP, -1 without. */
  gsoPort: number;
  /** Attached pods by name; pods that are not in it have no port and are unreachable. */
  pods: ReadonlyMap<string, AttachedPort>;
  /** Index of each VTEP by node name; VTEPs that are not in it are left out. */
  vteps: ReadonlyMap<string, number>;
  /** The node's addresses on other links than ours, int32. */
  addresses: readonly number[];
  /** Those of them at which NodePorts answer (nodePortAddresses). */
  nodePortAddresses: readonly number[];
  /** The LAN interface, null where it is gone, and the ports of announcement. */
  lan: LanInterface | null;
  lanPorts: LanPorts;
  /** Source addresses of what leaves for the outside (egressTable). */
  egress: TableInput["egress"];
}

/** Port number in TableInput where there is no such port. */
const NO_PORT = -1;
const NO_PORTS = { first: 0, last: 0 };
const LOOPBACK: Ipv4Prefix = { address: 0x7f000000, length: 8 };
/** Target of a route that leads nowhere. */
const NO_TARGET = 0;

/** What the worker's tables should hold for `config` (validated). */
export function tableInput(config: AgentConfig, facts: TableFacts): TableInput {
  const tunnelAddress = parseIpv4(config.tunnelAddress)!;
  const underlayAddress = parseIpv4(config.underlay.address)!;
  const mac = macOf(vtepMac(config.node));
  const input: TableInput = {
    node: {
      tunnelAddress,
      underlayAddress,
      mac,
      vni: config.underlay.vni,
      vxlanPort: config.underlay.port,
      mtu: overlayMtu(facts.underlayMtu),
      nodePort: facts.node?.port ?? NO_PORT,
      tunnelPort: facts.tunnelPort,
      icmpPort: facts.icmpPort,
      reassemblyPort: facts.reassemblyPort,
      gsoPort: facts.gsoPort,
      gsoMac: macOf(GSO_MAC),
    },
    pools: config.podPool.map((pool) => parseCidr(pool)!),
    serviceRanges: (config.serviceHost?.ranges ?? []).map((range) => parseCidr(range)!),
    nodePortAddresses: facts.nodePortAddresses.slice(),
    ports: [],
    vteps: [],
    routes: [],
    egress: facts.egress,
    egressPorts: config.serviceHost?.egressPorts ?? NO_PORTS,
    ...announceTables(config, facts.lan, facts.lanPorts, facts.vteps),
  };
  if (facts.node !== null) {
    const { port, uso } = facts.node;
    input.ports.push({ port, role: "node", mac, address: tunnelAddress, uso });
    input.routes.push({ address: tunnelAddress, length: 32, to: "port", target: port });
    input.routes.push({ address: underlayAddress, length: 32, to: "port", target: port });
    for (const address of facts.addresses) {
      if (containsAddress(LOOPBACK, address)) continue;
      input.routes.push({ address, length: 32, to: "port", target: port });
    }
  }
  for (const pod of config.pods) {
    const attached = facts.pods.get(pod.name);
    if (attached === undefined) continue;
    const address = parseIpv4(pod.address)!;
    const { port, uso } = attached;
    input.ports.push({ port, role: "pod", mac: macOf(podMac(address)), address, uso });
    input.routes.push({ address, length: 32, to: "port", target: port });
  }
  for (const block of config.blocks)
    input.routes.push({ ...parseCidr(block)!, to: "unreachable", target: NO_TARGET });
  for (const vtep of config.vteps) {
    const index = facts.vteps.get(vtep.node);
    if (index === undefined) continue;
    const tunnel = parseIpv4(vtep.tunnelAddress)!;
    input.vteps.push({
      index,
      address: parseIpv4(vtep.address)!,
      udpPort: vtep.port,
      mac: macOf(vtep.mac),
      tunnelAddress: tunnel,
      tags: vtep.peer === "podwire",
    });
    for (const block of vtep.blocks) input.routes.push({ ...parseCidr(block)!, to: "vtep", target: index });
    input.routes.push({ address: tunnel, length: 32, to: "vtep", target: index });
  }
  input.routes = firstOfEachPrefix(input.routes);
  return input;
}

/** A block of one address has the same prefix as the pod or VTEP in it: the former route counts. */
function firstOfEachPrefix(routes: TableInput["routes"]): TableInput["routes"] {
  const seen = new Set<number>();
  return routes.filter(({ address, length }) => {
    // Both in one number, since there are thousands.
    const prefix = address * 64 + length;
    return seen.has(prefix) ? false : seen.add(prefix);
  });
}
