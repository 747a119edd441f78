/**
 * Topology of the traffic tests: a LAN (a bridge), nodes on it, pods on the nodes. A node is run by
 * podwire, or has a kernel `vxlan` device with static entries, which knows nothing of us.
 *
 *                     192.168.2.0/24
 *   ┌── node A .30 ──┬────── br0 ──────┬── node B .31 ──┐
 *   10.1.235.192/26  │                 │    10.1.79.64/26
 *   pod a1 .211  a2 .212               host .40 (stranger)      pod b1 .75  b2 .76
 */
import { vtepMac } from "../../src/desired/mac.js";
import { startAgent, type TestAgent } from "./agent.js";
import { type TestNet, waitFor } from "./netns.js";

export const POD_POOL = "10.1.0.0/16";
export const VNI = 4096;
const LAN_LENGTH = 24;
/** VXLAN over IPv4: outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14. */
export const OVERHEAD = 50;

export interface NodePlan {
  name: string;
  address: string;
  block: string;
  tunnel: string;
  /** Pod name to address. */
  pods: Record<string, string>;
}

export const A: NodePlan = {
  name: "node-a",
  address: "192.168.2.30",
  block: "10.1.235.192/26",
  tunnel: "10.1.235.192",
  pods: { a1: "10.1.235.211", a2: "10.1.235.212" },
};
export const B: NodePlan = {
  name: "node-b",
  address: "192.168.2.31",
  block: "10.1.79.64/26",
  tunnel: "10.1.79.64",
  pods: { b1: "10.1.79.75", b2: "10.1.79.76" },
};
/** A host on the LAN that is no node. */
export const HOST = "192.168.2.40";

/** Namespaces by role. */
export interface Lan {
  lan: string;
  /** Namespace of a node, by its name. */
  node: Record<string, string>;
  host: string;
  /** Namespace of a pod, by its name. */
  pod: Record<string, string>;
  /** Ports of the bridge by the name of the node behind them. */
  port: Record<string, string>;
}

/** UDP port and VNI of the overlay where they are not the usual ones. */
export interface Tunnel {
  port: number;
  vni: number;
}
const USUAL: Tunnel = { port: 4789, vni: VNI };

export interface Dataplane {
  tunnelGso?: "auto" | "on" | "off";
  uso?: "auto" | "on" | "off";
  threads?: 1 | 2;
}

/** Makes the LAN, the nodes' namespaces with eth0, the host and the pods' empty namespaces. */
export async function makeLan(net: TestNet, nodes: NodePlan[] = [A, B], mtu = 1500): Promise<Lan> {
  const made: Lan = { lan: "", node: {}, host: await net.netns("host"), pod: {}, port: {} };
  const ends = [];
  for (const [i, node] of nodes.entries()) {
    const ns = await net.netns(node.name);
    made.node[node.name] = ns;
    made.port[node.name] = `p${i}`;
    for (const pod of Object.keys(node.pods)) made.pod[pod] = await net.netns(pod);
    ends.push({ ns, name: "eth0", address: `${node.address}/${LAN_LENGTH}`, mtu });
  }
  ends.push({ ns: made.host, name: "eth0", address: `${HOST}/${LAN_LENGTH}`, mtu });
  made.lan = await net.lan("lan", ends);
  return made;
}

/** Config of podwire on node `self`. */
export function nodeConfig(
  net: TestNet,
  lan: Lan,
  self: NodePlan,
  peers: (NodePlan & { mac?: string })[],
  dataplane: Dataplane = {},
  tunnel: Tunnel = USUAL,
): object {
  return {
    node: self.name,
    underlay: { address: self.address, ...tunnel },
    podPool: POD_POOL,
    blocks: [self.block],
    vteps: peers.map(({ name, address, block, mac }) => ({
      node: name,
      address,
      blocks: [block],
      ...(mac === undefined ? {} : { mac }),
    })),
    pods: Object.entries(self.pods).map(([name, address]) => ({
      name: `default/${name}`,
      netns: net.path(lan.pod[name]!),
      address,
    })),
    dataplane,
  };
}

/** Starts podwire on node `self` and waits until it is ready. */
export async function startNode(
  net: TestNet,
  lan: Lan,
  self: NodePlan,
  peers: (NodePlan & { mac?: string })[],
  dataplane: Dataplane = {},
  options: { stateDir?: string; tunnel?: Tunnel } = {},
): Promise<TestAgent> {
  const { tunnel, ...agentOptions } = options;
  const config = nodeConfig(net, lan, self, peers, dataplane, tunnel);
  const agent = startAgent(net, lan.node[self.name]!, config, agentOptions);
  await agent.ready();
  return agent;
}

/** MAC of the kernel's vxlan device on node `self`: any, but not the one that podwire would derive. */
export function kernelMac(self: NodePlan): string {
  return vtepMac(`${self.name}, kernel`);
}

/**
 * Makes node `self` a VTEP of the kernel's own: device `vx`, pods behind routed veth pairs.
 * `resolve`: no static entry for `peer`; the device finds its MAC by ARP, flooded to `peer`.
 * `udpChecksum` false: outer UDP checksums are left out.
 */
export async function startKernelNode(
  net: TestNet,
  lan: Lan,
  self: NodePlan,
  peer: NodePlan,
  options: { resolve?: boolean; udpChecksum?: boolean; tunnel?: Tunnel } = {},
): Promise<void> {
  const { port, vni } = options.tunnel ?? USUAL;
  const ns = lan.node[self.name]!;
  const mtu = 1500 - OVERHEAD;
  const ip = (...args: string[]) => net.exec(ns, "ip", args);
  await net.exec(ns, "sysctl", ["-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"]);
  for (const [pod, address] of Object.entries(self.pods)) {
    const inside = { ns: lan.pod[pod]!, name: "eth0", mtu, address: `${address}/32` };
    await net.link(inside, { ns, name: `cali-${pod}`, mtu });
    const [link] = await net.ipJson(ns, "link", "show", `cali-${pod}`);
    for (const args of [
      ["route", "add", "169.254.1.1", "dev", "eth0", "scope", "link"],
      ["route", "add", "default", "via", "169.254.1.1"],
      ["neigh", "replace", "169.254.1.1", "lladdr", link.address, "dev", "eth0"],
    ])
      await net.exec(inside.ns, "ip", args);
    await ip("route", "add", `${address}/32`, "dev", `cali-${pod}`);
  }
  const device = ["type", "vxlan", "id", String(vni), "dstport", String(port)];
  device.push("local", self.address, "nolearning");
  if (options.udpChecksum === false) device.push("noudpcsum");
  await ip("link", "add", "vx", "address", kernelMac(self), ...device);
  await ip("address", "add", `${self.tunnel}/32`, "dev", "vx");
  await ip("link", "set", "vx", "mtu", String(mtu), "up");
  await ip("route", "add", peer.block, "via", peer.tunnel, "dev", "vx", "onlink", "src", self.tunnel);
  const fdb = (mac: string) =>
    net.exec(ns, "bridge", ["fdb", "append", mac, "dev", "vx", "dst", peer.address]);
  if (options.resolve === true) await fdb("00:00:00:00:00:00");
  else {
    await ip("neigh", "add", peer.tunnel, "lladdr", vtepMac(peer.name), "dev", "vx");
    await fdb(vtepMac(peer.name));
  }
}

/**
 * How the LAN's links treat packets:
 *   virtual  as veth pairs come: nothing is ever segmented or summed, frames of 64 KiB cross
 *   wire     no offload anywhere: what crosses is what a cable would show
 *   nic      as wire, but nodes gather what they receive (GRO), as a network card's driver does
 */
export type LanProfile = "virtual" | "wire" | "nic";
export const LAN_PROFILES: LanProfile[] = ["virtual", "wire", "nic"];

const SEND_OFFLOADS = ["tx", "sg", "tso", "gso"];

export async function setLanProfile(net: TestNet, lan: Lan, profile: LanProfile): Promise<void> {
  const send = SEND_OFFLOADS.flatMap((name) => [name, profile === "virtual" ? "on" : "off"]);
  for (const [node, ns] of Object.entries(lan.node)) {
    await net.exec(ns, "ethtool", ["-K", "eth0", ...send, "gro", profile === "nic" ? "on" : "off"]);
    await net.exec(lan.lan, "ethtool", ["-K", lan.port[node]!, ...send, "gro", "off"]);
  }
}

/** Makes a pod's own kernel build MTU-sized frames with complete checksums, or up to 64 KiB. */
export async function setPodOffloads(net: TestNet, ns: string, state: "on" | "off"): Promise<void> {
  await net.exec(ns, "ethtool", [
    "-K",
    "eth0",
    ...["tx", "sg", "tso", "gso", "gro"].flatMap((name) => [name, state]),
  ]);
}

/** Bytes and frames that came in by a node's eth0; a GSO frame on a virtual link is one. */
export async function lanReceived(
  net: TestNet,
  lan: Lan,
  node: NodePlan,
): Promise<{ bytes: number; packets: number }> {
  const [link] = await net.ipJson(lan.node[node.name]!, "-s", "link", "show", "eth0");
  return link.stats64.rx;
}

/** Counters once the accounts are even, as they are whenever no frame is under way. */
// biome-ignore lint/suspicious/noExplicitAny: tests look at whatever field they are about.
export async function evenCounters(agent: TestAgent): Promise<any> {
  return waitFor(
    async () => {
      const counters = await agent.request("counters");
      const dropped = Object.values<number>(counters.dropped).reduce((sum, n) => sum + n, 0);
      return counters.received === counters.forwarded + counters.answered + dropped ? counters : null;
    },
    { what: `received = forwarded + answered + dropped in agent ${agent.process.pid}` },
  );
}

/**
 * Throws unless the agent is well: it runs, its accounts are even, the dataplane never threw, and
 * frames were dropped for the given reasons only.
 */
export async function expectSound(agent: TestAgent, allowed: readonly string[] = []): Promise<void> {
  if (agent.process.code !== null) throw new Error(`the agent ended: ${agent.process.stderr}`);
  const { dropped } = await evenCounters(agent);
  // What a kernel says by itself when a device comes up.
  const usual = ["arpIgnored", "multicast", "etherType", ...allowed];
  const unexpected = Object.entries(dropped).filter(([reason]) => !usual.includes(reason));
  if (unexpected.length > 0)
    throw new Error(`frames were dropped: ${unexpected.map(([reason, n]) => `${n} ${reason}`).join(", ")}`);
  const faults = agent.process.stderr.split("\n").filter((line) => /"level":"(error|fatal)"/.test(line));
  if (faults.length > 0) throw new Error(`the agent logged errors:\n${faults.join("\n")}`);
}
