/**
 * Owns the facts of the walkthrough: machines, addresses, blocks, DaemonSets and pods. Plain
 * values; must not know how they are brought to life, and imports nothing.
 */

export const LAN_PREFIX_LENGTH = 24;
export const LAN_SUBNET = "192.168.2.0/24";
export const LAN_MTU = 1500;
export const POD_POOL = "10.1.0.0/16";

export interface LabNode {
  name: string;
  /** Address on the LAN. */
  address: string;
  /** Block of pod addresses. */
  block: string;
  /** Address of podwire0: the block's first. */
  tunnelAddress: string;
}

export type Application = "nginx" | "apache" | "redis";

export interface DaemonSet {
  name: string;
  application: Application;
  /** The port it listens on. */
  l4Port: number;
  /** Distance of its pods' addresses from the start of the block. */
  offset: number;
}

export interface LabPod {
  /** Name as kubectl shows it. */
  name: string;
  /** Short name in the matrix: first letter of the application, index of the node. */
  label: string;
  daemonSet: string;
  application: Application;
  l4Port: number;
  address: string;
  /** Name of the node it runs on. */
  node: string;
}

export interface LabPc {
  name: string;
  address: string;
}

export const NODES: readonly LabNode[] = [
  { name: "k8s-master", address: "192.168.2.30", block: "10.1.235.192/26", tunnelAddress: "10.1.235.192" },
  { name: "k8s-worker01", address: "192.168.2.31", block: "10.1.79.64/26", tunnelAddress: "10.1.79.64" },
  { name: "k8s-worker02", address: "192.168.2.32", block: "10.1.69.192/26", tunnelAddress: "10.1.69.192" },
  { name: "k8s-worker03", address: "192.168.2.33", block: "10.1.39.192/26", tunnelAddress: "10.1.39.192" },
];

/** The client outside the cluster, on the same LAN. */
export const PC: LabPc = { name: "pc", address: "192.168.2.10" };

export const DAEMON_SETS: readonly DaemonSet[] = [
  { name: "nginx-ds", application: "nginx", l4Port: 80, offset: 1 },
  { name: "apache-ds", application: "apache", l4Port: 90, offset: 2 },
  { name: "redis-ds", application: "redis", l4Port: 6379, offset: 3 },
];

/**
 * What a DaemonSet controller would append to its name, one for each node in the order of NODES.
 * Fixed, so that two runs of the lab print the same table.
 */
const SUFFIXES: Readonly<Record<Application, readonly string[]>> = {
  nginx: ["x7k2p", "m4qzd", "t9w5c", "hb6vj"],
  apache: ["zr2fn", "8kxlp", "q5gdw", "v7cts"],
  redis: ["l6h9b", "d2xmk", "4wpzr", "nf8gq"],
};

function addressAt(block: string, offset: number): string {
  const octets = block.slice(0, block.indexOf("/")).split(".").map(Number);
  octets[3]! += offset;
  return octets.join(".");
}

/** The twelve pods: DaemonSet by DaemonSet, within each in the order of NODES. */
export const PODS: readonly LabPod[] = DAEMON_SETS.flatMap((daemonSet) =>
  NODES.map((node, index) => ({
    name: `${daemonSet.name}-${SUFFIXES[daemonSet.application][index]}`,
    label: `${daemonSet.application.charAt(0)}${index}`,
    daemonSet: daemonSet.name,
    application: daemonSet.application,
    l4Port: daemonSet.l4Port,
    address: addressAt(node.block, daemonSet.offset),
    node: node.name,
  })),
);
