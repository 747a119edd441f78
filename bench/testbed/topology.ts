/**
 * The namespaces that are measured in: for each variant two nodes on a LAN bridge and a pod on
 * each of them, with the addresses of the walkthrough. Knows no agent: podwire's pods come up
 * empty, the agents make what belongs into them. A benchmark may add a second pod on a node and a
 * computer of the LAN that is no node.
 *
 *      podA                nodeA                    lan                    nodeB               podB
 *   ┌────────┐   ┌──────────────────────┐   ┌────────────────┐   ┌──────────────────────┐   ┌────────┐
 *   │  eth0  ├───┤ veth        e0       ├───┤ toA   br0  toB ├───┤ e0          veth     ├───┤ eth0   │
 *   └────────┘   │ (kernel) 192.168.2.30│   └────────────────┘   │192.168.2.31 (kernel) │   └────────┘
 *  10.1.235.211  └──────────────────────┘                        └──────────────────────┘  10.1.79.75
 *
 * Names are pwb-PID-SET-ROLE with the benchmark's process id, so that several runs do not meet and
 * what a crashed run left is known as such.
 */

import { readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attempt, inNetns, must } from "../command.js";

/** Parts of a set. */
const ROLES = ["lan", "nodeA", "nodeB", "podA", "podB"] as const;
export type Role = (typeof ROLES)[number];

/** One variant's namespaces: name by role. */
export type NetSet = Record<Role, string>;

/** Any benchmark's namespaces: name by role. */
export type Namespaces = Readonly<Record<string, string>>;

/** A set with a second pod on node A and a computer of the LAN that is no node. */
export type ServiceSet = NetSet & { podC: string; pc: string };

/** The LAN links: as veth has them, or cutting every frame to the MTU before it leaves. */
export type LanKind = "as-is" | "no-offload";
export const LAN_KINDS: readonly LanKind[] = ["as-is", "no-offload"];

/** What belongs to one side. */
export interface Side {
  node: "nodeA" | "nodeB";
  pod: "podA" | "podB";
  /** Cluster node's name. */
  name: string;
  /** Address on the LAN. */
  address: string;
  block: string;
  /** First address of the block. */
  tunnelAddress: string;
  podAddress: string;
  /** VTEP MAC in the kernel's vxlan set. */
  vtepMac: string;
  /** Name of the link to this node on the bridge. */
  bridgePort: string;
}

export const SIDE_A: Side = {
  node: "nodeA",
  pod: "podA",
  name: "k8s-master",
  address: "192.168.2.30",
  block: "10.1.235.192/26",
  tunnelAddress: "10.1.235.192",
  podAddress: "10.1.235.211",
  vtepMac: "66:00:00:00:00:0a",
  bridgePort: "toA",
};
export const SIDE_B: Side = {
  node: "nodeB",
  pod: "podB",
  name: "k8s-worker01",
  address: "192.168.2.31",
  block: "10.1.79.64/26",
  tunnelAddress: "10.1.79.64",
  podAddress: "10.1.79.75",
  vtepMac: "66:00:00:00:00:0b",
  bridgePort: "toB",
};
/** Both, each with the other. */
export const SIDES: readonly (readonly [Side, Side])[] = [
  [SIDE_A, SIDE_B],
  [SIDE_B, SIDE_A],
];

/** The second pod, on node A. */
export const POD_C_ADDRESS = "10.1.235.212";
/** The computer of the LAN. */
export const PC_ADDRESS = "192.168.2.10";

/** The LAN's MTU, and the pods': less 50 for IPv4, UDP, VXLAN and Ethernet. */
export const LAN_MTU = 1500;
const POD_MTU = LAN_MTU - 50;
const VNI = 4096;
const VXLAN_PORT = 4789;

const PREFIX = "pwb";
/** Every way in which a link may be handed more than one frame's worth of data. */
const SEGMENTATION_FEATURES = [
  "tso",
  "gso",
  "gro",
  "tx-tcp-segmentation",
  "tx-tcp6-segmentation",
  "tx-tcp-ecn-segmentation",
  "tx-tcp-mangleid-segmentation",
  "tx-tcp-accecn-segmentation",
  "tx-gre-segmentation",
  "tx-gre-csum-segmentation",
  "tx-ipxip4-segmentation",
  "tx-ipxip6-segmentation",
  "tx-udp_tnl-segmentation",
  "tx-udp_tnl-csum-segmentation",
  "tx-udp-segmentation",
  "tx-sctp-segmentation",
  "tx-gso-list",
];

/** Names of set number `index` of this process. */
export function nameSet(index: number): NetSet {
  const name = (role: Role) => netnsName(index, role);
  return {
    lan: name("lan"),
    nodeA: name("nodeA"),
    nodeB: name("nodeB"),
    podA: name("podA"),
    podB: name("podB"),
  };
}

/** Names of set number `index` of this process, with what services need beside. */
export function nameServiceSet(index: number): ServiceSet {
  return { ...nameSet(index), podC: netnsName(index, "podC"), pc: netnsName(index, "pc") };
}

/** Name of a namespace of set number `index` of this process. */
export function netnsName(index: number, role: string): string {
  return `${PREFIX}-${process.pid}-${index}${role}`;
}

/** Path of a namespace, as other programs open it. */
export function netnsPath(netns: string): string {
  return `/run/netns/${netns}`;
}

/** This process's directory for configurations, logs and state. */
export function workDirectory(): string {
  return join(tmpdir(), `${PREFIX}-${process.pid}`);
}

/** Makes the namespaces of `set`, the LAN and the nodes' links on it. */
export function buildLan(set: NetSet, kind: LanKind): void {
  for (const role of ROLES) if (role !== "lan") addNetns(set[role]);
  addBridge(set.lan);
  for (const [side] of SIDES) {
    const node = set[side.node];
    linkToLan(set.lan, node, side.bridgePort, side.address);
    if (kind === "no-offload") {
      dropSegmentation(node, "e0");
      dropSegmentation(set.lan, side.bridgePort);
    }
  }
  for (const pod of [set.podA, set.podB]) prepareEnd(pod);
  manySourcePorts(set.podA);
}

/** Makes the computer of the LAN and the namespace of the second pod, beside what buildLan made. */
export function buildServiceEnds(set: ServiceSet): void {
  addNetns(set.pc);
  addNetns(set.podC);
  linkToLan(set.lan, set.pc, "toPc", PC_ADDRESS);
  for (const end of [set.pc, set.podC]) prepareEnd(end);
  manySourcePorts(set.pc);
}

/** Makes a namespace. */
export function addNetns(netns: string): void {
  must(["ip", "netns", "add", netns]);
  ip(netns, "link set lo up");
}

/** Makes the LAN: a namespace with a bridge. */
export function addBridge(lan: string): void {
  addNetns(lan);
  ip(lan, "link add br0 type bridge");
  ip(lan, "link set br0 up");
}

/** Gives a machine its link to the LAN's bridge, and its address. */
export function linkToLan(lan: string, netns: string, bridgePort: string, address: string): void {
  ip(netns, `link add e0 type veth peer name ${bridgePort} netns ${lan}`);
  ip(lan, `link set ${bridgePort} master br0 up`);
  ip(netns, `addr add ${address}/24 dev e0`);
  ip(netns, "link set e0 up");
}

/**
 * iperf3 names its congestion control after it has connected. A socket that began with BBR, the
 * default of some machines, then keeps BBR's pacing: a timer for every 64 KiB, which would be measured.
 */
function prepareEnd(netns: string): void {
  setSysctls(netns, { "net/ipv4/tcp_congestion_control": "reno" });
}

/** Enough source ports for thousands of new connections a second. */
export function manySourcePorts(netns: string): void {
  setSysctls(netns, { "net/ipv4/ip_local_port_range": "1024 65535", "net/ipv4/tcp_tw_reuse": "1" });
}

/** Pods on veth pairs, routed by their nodes: the peers' pods. */
export function buildRoutedPods(set: NetSet): void {
  for (const [side] of SIDES) {
    const node = set[side.node];
    const pod = set[side.pod];
    setSysctls(node, {
      "net/ipv4/ip_forward": "1",
      "net/ipv4/conf/all/rp_filter": "0",
      "net/ipv4/conf/default/rp_filter": "0",
    });
    buildRoutedPod(node, "pod0", pod, side.podAddress);
  }
}

/** One pod on a veth pair, whose end in the node is `link`; the node forwards already. */
export function buildRoutedPod(node: string, link: string, pod: string, address: string): void {
  ip(node, `link add ${link} type veth peer name eth0 netns ${pod}`);
  ip(node, `link set ${link} mtu ${POD_MTU} up`);
  ip(pod, `link set eth0 mtu ${POD_MTU} up`);
  ip(pod, `addr add ${address}/32 dev eth0`);
  ip(pod, "route add 169.254.1.1 dev eth0 scope link");
  ip(pod, "route add default via 169.254.1.1");
  ip(pod, `neigh replace 169.254.1.1 lladdr ${macOf(node, link)} dev eth0`);
  ip(node, `route add ${address}/32 dev ${link}`);
}

/** Kernel vxlan devices between the nodes: no learning, static FDB and neighbours. */
export function buildKernelVxlan(set: NetSet): void {
  for (const [side, other] of SIDES) {
    const node = set[side.node];
    ip(
      node,
      `link add vx address ${side.vtepMac} type vxlan id ${VNI} dstport ${VXLAN_PORT} ` +
        `local ${side.address} dev e0 nolearning`,
    );
    ip(node, `addr add ${side.tunnelAddress}/32 dev vx`);
    ip(node, `link set vx mtu ${POD_MTU} up`);
    ip(node, `route add ${other.block} via ${other.tunnelAddress} dev vx onlink`);
    ip(node, `neigh add ${other.tunnelAddress} lladdr ${other.vtepMac} dev vx`);
    must(["bridge", "-n", node, "fdb", "add", other.vtepMac, "dev", "vx", "dst", other.address]);
  }
}

/** Routes over the LAN itself, without any tunnel. */
export function buildPlainRouting(set: NetSet): void {
  for (const [side, other] of SIDES) ip(set[side.node], `route add ${other.block} via ${other.address}`);
}

/** Deletes the namespaces of `sets` and ends what still runs in them; absent ones are passed over. */
export function removeSets(sets: readonly Namespaces[]): void {
  for (const set of sets) for (const netns of Object.values(set)) removeNetns(netns);
}

/**
 * Clears what benchmark processes left that are no longer alive: their programs, namespaces and
 * directories. Returns the number of namespaces removed.
 */
export function clearLeftovers(): number {
  let removed = 0;
  for (const line of attempt(["ip", "netns", "list"]).split("\n")) {
    const netns = line.split(" ")[0];
    if (!isLeftover(netns)) continue;
    removeNetns(netns);
    removed++;
  }
  for (const entry of readdirSync(tmpdir())) {
    if (isLeftover(entry)) rmSync(join(tmpdir(), entry), { recursive: true, force: true });
  }
  return removed;
}

/** A namespace lives on as long as a program runs in it: nginx's workers outlive a killed master. */
function removeNetns(netns: string): void {
  for (const pid of attempt(["ip", "netns", "pids", netns]).split("\n")) {
    if (pid.trim() !== "") kill(Number(pid));
  }
  attempt(["ip", "netns", "del", netns]);
}

/** A name of ours whose process is gone. */
function isLeftover(name: string): boolean {
  const match = new RegExp(`^${PREFIX}-(\\d+)(?:-|$)`).exec(name);
  return match !== null && !isAlive(Number(match[1]));
}

/** A process that runs; one that has ended and was not yet waited for does not. */
function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2)[0] !== "Z";
  } catch {
    return false;
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone already.
  }
}

/** `ip -n NETNS ARGUMENTS`; the arguments hold no blanks of their own. Throws CommandError. */
export function ip(netns: string, args: string): void {
  must(["ip", "-n", netns, ...args.split(" ")]);
}

/** MAC of a link. */
export function macOf(netns: string, link: string): string {
  const shown = must(["ip", "-n", netns, "-o", "link", "show", link]);
  return /link\/ether (\S+)/.exec(shown)![1];
}

function setSysctls(netns: string, values: Record<string, string>): void {
  const writes = Object.entries(values).map(([key, value]) => `echo '${value}' > /proc/sys/${key}`);
  must(inNetns(netns, ["sh", "-ec", writes.join("\n")]));
}

/** Switches each feature off by itself: a kernel that lacks one must still drop the others. */
function dropSegmentation(netns: string, link: string): void {
  const commands = SEGMENTATION_FEATURES.map((feature) => `ethtool -K ${link} ${feature} off || true`);
  must(inNetns(netns, ["sh", "-c", `(${commands.join("\n")}) >/dev/null 2>&1`]));
}
