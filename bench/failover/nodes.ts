/**
 * Three nodes on a LAN with a pod each, a second pod on two of them that comes and goes as an endpoint,
 * and a computer that is no node. The address stands first with the first node.
 *
 *     podA                podB   podB2              podC   podC2             pc .10 asks
 *      │                    └──┬──┘                   └──┬──┘                 │
 *   k8s-master .30       k8s-worker01 .31         k8s-worker02 .32            │
 *      └─────────── e0 ────────┴────── br0, 192.168.2.0/24 ──────────────────┘
 */

import { hashNode, rendezvousOrder } from "../../src/announce/rendezvous.js";
import { formatIpv4, parseIpv4 } from "../../src/model/ipv4.js";
import {
  addBridge,
  addNetns,
  linkToLan,
  manySourcePorts,
  netnsName,
  PC_ADDRESS,
  SIDE_A,
  SIDE_B,
} from "../testbed/topology.js";

/** A pod: name (also its role in the set) and address. */
export interface BedPod {
  name: string;
  address: string;
}

export interface BedNode {
  /** Cluster node's name, also its role in the set. */
  name: string;
  address: string;
  block: string;
  /** Its link on the bridge. */
  bridgePort: string;
  /** An endpoint of the Services all the time. */
  pod: BedPod;
  /** One that comes and goes. */
  passing: BedPod | null;
}

export const NODES: readonly BedNode[] = [
  {
    name: SIDE_A.name,
    address: SIDE_A.address,
    block: SIDE_A.block,
    bridgePort: "to0",
    pod: { name: "podA", address: SIDE_A.podAddress },
    passing: null,
  },
  {
    name: SIDE_B.name,
    address: SIDE_B.address,
    block: SIDE_B.block,
    bridgePort: "to1",
    pod: { name: "podB", address: SIDE_B.podAddress },
    passing: { name: "podB2", address: "10.1.79.76" },
  },
  {
    name: "k8s-worker02",
    address: "192.168.2.32",
    block: "10.1.69.192/26",
    bridgePort: "to2",
    pod: { name: "podC", address: "10.1.69.201" },
    passing: { name: "podC2", address: "10.1.69.202" },
  },
];

/** The node that owns the address, and is hit. */
export const OWNER = NODES[0]!;

/** The address: the first from 192.168.2.36 on that belongs to OWNER while all are well. */
export const VIP = addressOwnedBy(
  OWNER.name,
  NODES.map(({ name }) => name),
);

/** Every pod with its node. */
export const PODS = NODES.flatMap((node) =>
  [node.pod, ...(node.passing === null ? [] : [node.passing])].map((pod) => ({ node, pod })),
);

/** Roles of the namespaces of a set beside nodes and pods. */
export type FailoverSet = Readonly<Record<string, string>> & { lan: string; pc: string };

/** Names of set number `index`: LAN, pc, the nodes called `nodes`, and `others`. */
export function nameFailoverSet(
  index: number,
  nodes: readonly string[],
  others: readonly string[],
): FailoverSet {
  const named = [...nodes, ...others].map((role) => [role, netnsName(index, role)] as const);
  return { ...Object.fromEntries(named), lan: netnsName(index, "lan"), pc: netnsName(index, "pc") };
}

/** Makes the LAN, the pc and the first `count` nodes, without anything that runs on them. */
export function buildFailoverLan(set: FailoverSet, count: number): void {
  addBridge(set.lan);
  addNetns(set.pc);
  linkToLan(set.lan, set.pc, "toPc", PC_ADDRESS);
  manySourcePorts(set.pc);
  for (const { name, address, bridgePort } of NODES.slice(0, count)) {
    addNetns(set[name]!);
    linkToLan(set.lan, set[name]!, bridgePort, address);
  }
}

function addressOwnedBy(owner: string, names: readonly string[]): string {
  const hashed = names.map(hashNode);
  for (let address = parseIpv4("192.168.2.36")!; ; address++)
    if (rendezvousOrder(hashed, address)[0]!.name === owner) return formatIpv4(address);
}
