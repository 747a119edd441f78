/**
 * Three podwire nodes, a node with a kernel vxlan device, and a machine on the LAN, without kernel:
 * each podwire node is a TestNode with tables, flow table and compiled Services of its own. What one
 * sends into the tunnel arrives at the other; what it hands to its node's kernel goes where the
 * node's routes and rules send it (DESIGN §1).
 *
 *   a  k8s-master   192.168.2.30   pods a1 10.1.235.193, a2 .194   tunnel 10.1.235.192   zone east
 *   b  k8s-worker01 192.168.2.31   pods b1 10.1.79.65,   b2 .66    tunnel 10.1.79.64     zone east
 *   c  k8s-worker02 192.168.2.32   pods c1 10.1.69.193,  c2 .194   tunnel 10.1.69.192    zone west
 *   k  kernel vxlan 192.168.2.33   pod  k1 10.1.44.1               tunnel 10.1.44.0
 *   pc              192.168.2.99
 *
 * Objects of the API go in as the API server would deliver them; UDP flows to endpoints that serve no
 * longer are cleared, as the agent does with what the compiler reports.
 */
import { FlowSharing } from "../../../src/dataplane/FlowSharing.js";
import type { EndpointSliceObject, ServiceObject } from "../../../src/desired/serviceObjects.js";
import { Services, type ServicesChange } from "../../../src/desired/services.js";
import { parseCidr } from "../../../src/model/ipv4.js";
import { SERVICE_PROTOCOLS } from "../../../src/model/Service.js";
import { flowTests } from "../../../src/tables/flowFilter.js";
import {
  FLOW_ORIGINAL,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_STATE,
  HEADER_USED,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  KEY_TAG,
  STATE_FREE,
} from "../../../src/tables/flowLayout.js";
import { identifyFlow } from "../../../src/tables/identifyFlow.js";
import { THIS_NODE } from "../../../src/tables/VipTable.js";
import {
  accounted,
  ICMP_PORT,
  MASTER,
  NODE_PORT,
  type NodeAddresses,
  OTHER_POD_PORT,
  type Outcome,
  POD_PORT,
  REASSEMBLY_PORT,
  TestNode,
  TUNNEL_PORT,
  VNI,
  WORKER01,
  WORKER02,
} from "../dataplane.js";
import { Reassembly } from "../fragments.js";
import {
  address,
  datagrams,
  dotted,
  ethernet,
  GATEWAY,
  get16,
  ICMP,
  IPV4,
  kernelFrames,
  l4ChecksumOk,
  type Packet,
  readFrame,
  readPacket,
  readVxlan,
  TCP,
  UDP,
  vxlan,
} from "../frames.js";
import { SCTP, sctpChecksumOk } from "./packets.js";

export type NodeName = "a" | "b" | "c";
export type PodName = "a1" | "a2" | "b1" | "b2" | "c1" | "c2" | "k1";

/** The node whose VTEP is a kernel vxlan device. */
export const KERNEL_NODE: NodeAddresses = {
  underlay: "192.168.2.33",
  tunnel: "10.1.44.0",
  block: "10.1.44.0",
  vtepMac: "66:21:00:00:00:21",
  pod: "10.1.44.1",
  podMac: "02:70:0a:01:2c:01",
  otherPod: "10.1.44.2",
  otherPodMac: "02:70:0a:01:2c:02",
};

export const PC = "192.168.2.99";
export const NODES: Readonly<Record<NodeName, NodeAddresses>> = { a: MASTER, b: WORKER01, c: WORKER02 };
export const NODE_NAMES = ["a", "b", "c"] as const;
export const PODS: Readonly<Record<PodName, string>> = {
  a1: MASTER.pod,
  a2: MASTER.otherPod,
  b1: WORKER01.pod,
  b2: WORKER01.otherPod,
  c1: WORKER02.pod,
  c2: WORKER02.otherPod,
  k1: KERNEL_NODE.pod,
};
export const ZONES: Readonly<Record<NodeName, string>> = { a: "east", b: "east", c: "west" };
export const POOL = "10.1.0.0/16";
export const SERVICE_RANGE = "10.152.183.0/24";
export const EXTERNAL_RANGE = "203.0.113.0/28";

/** Where a frame comes from or goes to: a TAP of the node, or a VTEP. */
export type Attachment = "pod" | "other" | "node" | NodeName | "k";

/** Where a packet comes from: a raw socket of the node hears some, too. */
export type Arriving = Attachment | "heard";

/** A packet that leaves a node: by which way, and with which tag (0: none). */
export interface Leaving {
  to: Attachment;
  packet: Packet;
  tag: number;
}

/** One packet at one node: what came in, and what became of it. */
export interface Hop {
  node: NodeName;
  from: Arriving;
  packet: Uint8Array;
  tag: number;
  /** Packets that count as received: this one and those that waited for it, none where it waits itself. */
  received: number;
  /** Names of drop reasons, one for each packet that was dropped. */
  dropped: string[];
  leaves: Leaving[];
}

/** Where a packet ends: a pod, a node's own program, or the LAN. */
export interface Arrival {
  at: PodName | NodeName | "lan";
  packet: Packet;
}

export interface Journey {
  hops: Hop[];
  arrivals: Arrival[];
}

/** Who sends a packet into the cluster. */
export type Sender =
  | { kind: "pod"; pod: PodName }
  | { kind: "node"; node: NodeName }
  | { kind: "lan"; node: NodeName };

const MOST_HOPS = 8;
/** The clock begins shortly before the flow table's milliseconds turn negative. */
const START_US = (2 ** 31 - 60_000) * 1000;

function podAt(node: NodeName, attachment: "pod" | "other"): PodName {
  return `${node}${attachment === "pod" ? 1 : 2}` as PodName;
}

/** What a node's routes lead to podwire0, besides the addresses of Services: pods and ClusterIPs. */
const POOLS = ["10.1.", "10.152.183."];

/** A packet on its way: the node, how it comes in, its bytes and tag. */
type Queue = [NodeName, Arriving, Uint8Array, number][];

/** Ports that a node's rules bring to podwire0: NodePorts, and those of egress. */
function isRuledPort(port: number): boolean {
  return (port >= 30_000 && port <= 32_767) || isEgressPort(port);
}

function isEgressPort(port: number): boolean {
  return port >= 61_000 && port <= 65_534;
}

/** Whether a rule brings a packet to a node's address to podwire0: by its port. */
function isRuled({ protocol, l4, fragment }: Packet): boolean {
  if ((fragment & 0x3fff) !== 0) return false;
  return (protocol === TCP || protocol === UDP || protocol === SCTP) && isRuledPort(get16(l4, 2));
}

/**
 * Whether a raw socket hears a packet that the kernel delivers to the node, and that did not come from
 * podwire0: ICMP errors, echo replies by their identifier, and UDP by its port (put together from
 * fragments, which no rule sees).
 */
function isHeard({ protocol, l4 }: Packet): boolean {
  if (protocol === UDP) return isRuledPort(get16(l4, 2));
  if (protocol !== ICMP) return false;
  return [3, 4, 11, 12].includes(l4[0]) || (l4[0] === 0 && isEgressPort(get16(l4, 4)));
}

/** A load-balancer address, and the nodes that may own it, in their order. */
export interface SimulatedVip {
  address: string;
  order: readonly NodeName[];
}

export class SimulatedNode {
  readonly test: TestNode;
  readonly services: Services;
  readonly peers: readonly (NodeName | "k")[];
  readonly sharing: FlowSharing;
  /** Addresses that it still answers for although another node stands before it and is up. */
  readonly handingOver = new Set<string>();
  /** Changes of Services and endpoints reach its dataplane later: by `compile`. */
  late = false;

  constructor(
    readonly name: NodeName,
    vips: readonly SimulatedVip[] = [],
    readonly addresses = NODES[name],
  ) {
    const others = NODE_NAMES.filter((other) => other !== name);
    this.peers = [...others, "k"];
    const peers = [...others.map((other) => NODES[other]), KERNEL_NODE];
    const announce = Object.fromEntries(
      vips.map((vip) => [vip.address, vip.order.map((node) => this.number(node))]),
    );
    this.test = new TestNode({
      self: addresses,
      peers,
      kernelPeers: [KERNEL_NODE],
      egress: true,
      ...(vips.length > 0 && { announce }),
    });
    this.test.io.nowUs = START_US;
    const { dataplane } = this.test.breather;
    this.sharing = new FlowSharing(dataplane, { owns: (each) => this.#owns(each) }, 7);
    this.services = new Services({ node: name, externalIpRanges: [parseCidr(EXTERNAL_RANGE)!] });
    this.services.setPools([parseCidr(POOL)!]);
    this.services.setNode({
      metadata: { name, labels: { "topology.kubernetes.io/zone": ZONES[name] } },
    });
    this.compile();
  }

  #owns(each: number): boolean {
    const { tables, liveness } = this.test.breather.dataplane;
    const row = tables.vips.find(each);
    return (
      this.handingOver.has(dotted(each)) || (row >= 0 && tables.vips.owner(row, liveness.up) === THIS_NODE)
    );
  }

  /** What it has to tell others of its flows, after `ms`. */
  tell(ms: number): Leaving[] {
    const { test, sharing } = this;
    test.io.nowUs += ms * 1000;
    test.run();
    do sharing.tend(true);
    while (sharing.sweeping);
    return this.#leaving(test.run());
  }

  /** Forgets what it is told of no longer. */
  forget(): void {
    const { test } = this;
    const { standby } = test.breather.dataplane;
    const longest = 1000;
    for (let wait = standby.longestWait(longest); wait < longest; wait = standby.longestWait(longest)) {
      test.io.nowUs += wait * 1000;
      if (wait > 0) test.run();
      standby.tend();
    }
  }

  /** The number by which this node knows a node. */
  number(node: NodeName | "k"): number {
    return node === this.name ? THIS_NODE : this.peers.indexOf(node);
  }

  /** Brings the service table up to date, and clears the UDP flows to endpoints that are gone. */
  compile(): ServicesChange {
    const { breather, flows } = this.test;
    const change = this.services.compile();
    breather.dataplane.services.adopt(change.image);
    this.services.acknowledge(change.image);
    for (const { protocol, service, backend } of change.removedBackends)
      if (protocol === "UDP")
        flows.flush(flowTests({ protocol: SERVICE_PROTOCOLS[protocol], service, backend }), 0, 1 << 30);
    for (let record = 0; record < flows.used; record++)
      identifyFlow(flows, breather.dataplane.services, record);
    return change;
  }

  /** Removes the flows whose time is over, all at once; the number of fragments that are given up. */
  expire(): number {
    const { flows, io, breather } = this.test;
    const nowMs = Math.floor(io.nowUs / 1000) | 0;
    for (let record = 0; record < flows.words[HEADER_USED]; record++) {
      const base = flows.base(record);
      if (flows.words[base + FLOW_STATE] !== STATE_FREE && flows.expired(base, nowMs)) flows.remove(record);
    }
    breather.dataplane.affinities.age(nowMs, flows.capacity);
    if (breather.dataplane.fragments.waiting === 0) return 0;
    const { received, sent, dropped } = this.test.run();
    const givenUp = dropped.fragmentOrphan ?? 0;
    if (received !== givenUp || sent.length > 0) throw new Error("time alone did more than drop fragments");
    return givenUp;
  }

  /** The port that replies of a flow go to, by what its first packet looked like; undefined without flow. */
  replyPort(original: {
    source: string;
    destination: string;
    sourcePort: number;
    destinationPort: number;
    protocol: number;
    tag: number;
  }): number | undefined {
    const { flows } = this.test;
    const { source, destination, sourcePort, destinationPort, protocol, tag } = original;
    const ports = (sourcePort << 16) | destinationPort;
    const found = flows.find(address(source), address(destination), ports, protocol, tag);
    return found < 0 ? undefined : flows.words[flows.base(found >> 1) + FLOW_REPLY + KEY_PORTS] & 0xffff;
  }

  /** All flows, as lines that say everything about their tuples. */
  lines(): string[] {
    const { flows } = this.test;
    const { words } = flows;
    const lines: string[] = [];
    for (let record = 0; record < words[HEADER_USED]; record++) {
      const base = flows.base(record);
      if (words[base + FLOW_STATE] === STATE_FREE) continue;
      const key = (at: number) => {
        const ports = words[at + KEY_PORTS];
        const source = `${dotted(words[at + KEY_SOURCE])}:${ports >>> 16}`;
        const destination = `${dotted(words[at + KEY_DESTINATION])}:${ports & 0xffff}`;
        return `${words[base + FLOW_PROTOCOL]} ${source} ${destination} ${words[at + KEY_TAG]}`;
      };
      lines.push(`${key(base + FLOW_ORIGINAL)} | ${key(base + FLOW_REPLY)}`);
    }
    return lines.sort();
  }

  /** One packet in. */
  receive(from: Arriving, packet: Uint8Array, tag = 0): Hop {
    const { test, addresses } = this;
    if (from === "heard") {
      test.heard(packet, packet[9] === ICMP ? ICMP_PORT : REASSEMBLY_PORT);
    } else if (from === "pod" || from === "other" || from === "node") {
      const [port, mac] = {
        pod: [POD_PORT, addresses.podMac] as const,
        other: [OTHER_POD_PORT, addresses.otherPodMac] as const,
        node: [NODE_PORT, addresses.vtepMac] as const,
      }[from];
      test.fromTap(port, ethernet(GATEWAY, mac, IPV4, packet));
    } else {
      const peer = from === "k" ? KERNEL_NODE : NODES[from];
      const hex = (tag >>> 0).toString(16).padStart(8, "0");
      const mac = tag === 0 ? peer.vtepMac : `02:74:${hex.match(/../g)!.join(":")}`;
      test.fromUnderlay(peer.underlay, vxlan(VNI, ethernet(addresses.vtepMac, mac, IPV4, packet)));
    }
    const outcome = test.run();
    if (test.faults.length > 0) throw test.faults[0];
    const { received } = outcome;
    if (!accounted(outcome)) throw new Error(`accounts: ${JSON.stringify({ ...outcome, sent: [] })}`);
    const dropped = Object.entries(outcome.dropped).flatMap(([name, n]) => Array<string>(n).fill(name));
    return { node: this.name, from, packet, tag, received, dropped, leaves: this.#leaving(outcome) };
  }

  #leaving(outcome: Outcome): Leaving[] {
    const names: Record<number, "pod" | "other" | "node"> = {
      [POD_PORT]: "pod",
      [OTHER_POD_PORT]: "other",
      [NODE_PORT]: "node",
    };
    return outcome.sent.flatMap(({ port, peer, bytes, gso }) => {
      const tunnel = port === TUNNEL_PORT;
      const frames = tunnel
        ? datagrams(bytes, gso).map((each) => readVxlan(each).frame)
        : kernelFrames(bytes);
      return frames.map((frame) => {
        const { packet, sourceMac } = readFrame(frame);
        if (packet === null) throw new Error("no IPv4 packet");
        if (!checksumOk(packet)) throw new Error("transport checksum of what leaves");
        const tag = sourceMac.startsWith("02:74:")
          ? Number.parseInt(sourceMac.slice(6).replaceAll(":", ""), 16) | 0
          : 0;
        return { to: tunnel ? this.peers[peer]! : names[port]!, packet, tag };
      });
    });
  }
}

function checksumOk(packet: Packet): boolean {
  if ((packet.fragment & 0x3fff) !== 0) return true;
  return packet.protocol === SCTP ? sctpChecksumOk(packet.l4) : l4ChecksumOk(packet);
}

export class SimulatedCluster {
  readonly nodes: Readonly<Record<NodeName, SimulatedNode>>;
  /** Nodes that are up and may own load-balancer addresses. */
  owners: readonly NodeName[] = [];
  /** Told of every packet at every node. */
  onHop: (hop: Hop) => void = () => {};
  /** Told of every packet before it is sent; what it returns, of where it went. */
  onSend: (sender: Sender, packet: Uint8Array) => ((journey: Journey) => void) | null = () => null;
  /** Fragments that nodes' kernels have. */
  readonly #reassembly = { a: new Reassembly(), b: new Reassembly(), c: new Reassembly() };

  constructor(vips: readonly SimulatedVip[] = []) {
    this.nodes = {
      a: new SimulatedNode("a", vips),
      b: new SimulatedNode("b", vips),
      c: new SimulatedNode("c", vips),
    };
    this.setOwners(NODE_NAMES);
  }

  get all(): SimulatedNode[] {
    return NODE_NAMES.map((name) => this.nodes[name]);
  }

  /** Milliseconds pass on all nodes; flows whose time is over go. Returns the fragments given up by each. */
  pass(ms: number): Record<NodeName, number> {
    const { a, b, c } = this.nodes;
    for (const { test } of this.all) test.io.nowUs += ms * 1000;
    return { a: a.expire(), b: b.expire(), c: c.expire() };
  }

  /** All other nodes hold a node for dead, or no longer. */
  setAlive(name: NodeName | "k", alive: boolean): void {
    for (const { test, peers } of this.all) {
      const vtep = peers.indexOf(name);
      const { changes, down } = test.breather.dataplane.liveness;
      if (vtep >= 0) down[vtep] = alive ? 0 : 1;
      changes[0]++;
    }
  }

  /** These nodes are up and may own load-balancer addresses, as all nodes see it. */
  setOwners(names: readonly NodeName[]): void {
    this.owners = names;
    for (const node of this.all) {
      const { changes, up } = node.test.breather.dataplane.liveness;
      up.fill(0);
      for (const name of names) up[node.number(name)] = 1;
      changes[0]++;
    }
  }

  /**
   * Nodes tell each other of flows, after `ms` that pass for them alone; `passes` says which messages
   * arrive. Returns what arrived, with what became of it.
   */
  tell(names: readonly NodeName[], ms = 20, passes: (leaving: Leaving) => boolean = () => true): Hop[] {
    const hops: Hop[] = [];
    for (const name of names) {
      for (const leaving of this.nodes[name].tell(ms)) {
        if (leaving.to in this.nodes && passes(leaving))
          hops.push(this.nodes[leaving.to as NodeName].receive(name, leaving.packet.bytes, leaving.tag));
      }
    }
    for (const node of this.all) node.forget();
    return hops;
  }

  /** Adds or replaces objects on every node. */
  apply(services: readonly ServiceObject[], slices: readonly EndpointSliceObject[]): void {
    for (const node of this.all) {
      for (const service of services) node.services.setService(service);
      for (const slice of slices) node.services.setSlice(slice);
      if (!node.late) node.compile();
    }
  }

  /** Removes objects by name from every node. */
  remove(services: readonly string[], slices: readonly string[]): void {
    for (const node of this.all) {
      for (const name of services) node.services.removeService("default", name);
      for (const name of slices) node.services.removeSlice("default", name);
      node.compile();
    }
  }

  /** A pod sends a packet. */
  fromPod(pod: PodName, packet: Uint8Array): Journey {
    return this.#watched({ kind: "pod", pod }, packet, () => this.#fromPod(pod, packet));
  }

  #watched(sender: Sender, packet: Uint8Array, send: () => Journey): Journey {
    const tell = this.onSend(sender, packet);
    const journey = send();
    tell?.(journey);
    return journey;
  }

  #fromPod(pod: PodName, packet: Uint8Array): Journey {
    if (pod === "k1") return this.#fromKernelNode(packet);
    return this.#travel(pod[0] as NodeName, pod[1] === "1" ? "pod" : "other", packet);
  }

  /** A program of a node sends a packet, which goes where the node's routes and rules lead it. */
  fromNode(node: NodeName, bytes: Uint8Array): Journey {
    return this.#watched({ kind: "node", node }, bytes, () => this.#fromNode(node, bytes));
  }

  #fromNode(node: NodeName, bytes: Uint8Array): Journey {
    const packet = readPacket(bytes);
    if (this.#isByPodwire0(node, packet)) return this.#travel(node, "node", bytes);
    const journey: Journey = { hops: [], arrivals: [] };
    const queue: Queue = [];
    this.#byKernel(node, "program", packet, journey, queue);
    return this.#walk(journey, queue);
  }

  /** Who a packet arrived at sends one; a machine of the LAN sends to a node's address, or by node a. */
  fromArrival({ at }: Arrival, packet: Uint8Array): Journey {
    if (at in PODS) return this.fromPod(at as PodName, packet);
    if (at !== "lan") return this.fromNode(at as NodeName, packet);
    const { destination } = readPacket(packet);
    return this.fromLan(NODE_NAMES.find((name) => NODES[name].underlay === destination) ?? "a", packet);
  }

  /**
   * A machine on the LAN sends a packet that arrives at a node: its address is the destination, or it
   * announces it, or the sender has a route by it.
   */
  fromLan(node: NodeName, bytes: Uint8Array): Journey {
    return this.#watched({ kind: "lan", node }, bytes, () => this.#fromLan(node, bytes));
  }

  #fromLan(node: NodeName, bytes: Uint8Array): Journey {
    const packet = readPacket(bytes);
    const { underlay, tunnel } = NODES[node];
    if (packet.destination !== tunnel && packet.destination !== underlay)
      return this.#travel(node, "node", bytes);
    const journey: Journey = { hops: [], arrivals: [] };
    const queue: Queue = [];
    this.#deliver(node, packet, journey, queue);
    return this.#walk(journey, queue);
  }

  /** The node with the kernel's vxlan routes by destination: a pod's block is behind its VTEP. */
  #fromKernelNode(packet: Uint8Array): Journey {
    const to = Array.from(packet.subarray(16, 20)).join(".");
    const name = NODE_NAMES.find((node) => sameBlock(NODES[node].block, to));
    if (name === undefined) throw new Error(`the kernel node has no route to ${to}`);
    return this.#travel(name, "k", packet);
  }

  #isByPodwire0(node: NodeName, packet: Packet): boolean {
    const { destination } = packet;
    if (destination === NODES[node].tunnel) return false;
    if (destination === NODES[node].underlay) return isRuled(packet);
    const virtual = this.nodes[node].services.virtualAddresses().map(dotted);
    return POOLS.some((prefix) => destination.startsWith(prefix)) || virtual.includes(destination);
  }

  #travel(node: NodeName, from: Attachment, packet: Uint8Array): Journey {
    return this.#walk({ hops: [], arrivals: [] }, [[node, from, packet, 0]]);
  }

  #walk(journey: Journey, queue: Queue): Journey {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      if (journey.hops.length === MOST_HOPS) throw new Error("a packet goes round in circles");
      const [at, by, bytes, tag] = next;
      const hop = this.nodes[at].receive(by, bytes, tag);
      journey.hops.push(hop);
      this.onHop(hop);
      // The kernel has what was heard as well; nobody listens where it belongs to podwire.
      if (by === "heard" && hop.dropped.includes("notOurs"))
        journey.arrivals.push({ at, packet: readPacket(bytes) });
      for (const { to, packet: out, tag: outTag } of hop.leaves) {
        if (to === "pod" || to === "other") journey.arrivals.push({ at: podAt(at, to), packet: out });
        else if (to === "k") journey.arrivals.push({ at: "k1", packet: out });
        else if (to === "node") this.#byKernel(at, "podwire0", out, journey, queue);
        else queue.push([to, at, out.bytes, outTag]);
      }
    }
    return journey;
  }

  /** What a node's kernel does with a packet from podwire0, or from a program of the node. */
  #byKernel(
    node: NodeName,
    from: "podwire0" | "program",
    packet: Packet,
    journey: Journey,
    queue: Queue,
  ): void {
    const { destination } = packet;
    const own = NODES[node];
    if (destination === own.underlay || destination === own.tunnel) {
      // Rules are for what comes from elsewhere.
      this.#toNode(node, from, packet, journey, queue);
      return;
    }
    const other = NODE_NAMES.find((name) => NODES[name].underlay === destination);
    if (other === undefined) journey.arrivals.push({ at: "lan", packet });
    else this.#deliver(other, packet, journey, queue);
  }

  /** What comes from the LAN to a node's address. */
  #deliver(node: NodeName, packet: Packet, journey: Journey, queue: Queue): void {
    if (packet.destination === NODES[node].underlay && isRuled(packet))
      queue.push([node, "node", packet.bytes, 0]);
    else this.#toNode(node, "lan", packet, journey, queue);
  }

  /** The kernel gives a packet to the node's own programs, put together again. */
  #toNode(
    node: NodeName,
    from: "podwire0" | "program" | "lan",
    packet: Packet,
    { arrivals }: Journey,
    queue: Queue,
  ): void {
    const { nowUs } = this.nodes[node].test.io;
    const fragmented = (packet.fragment & 0x3fff) !== 0;
    const whole = fragmented ? this.#reassembly[node].add(packet, nowUs) : packet;
    if (whole === undefined) return;
    if (from !== "podwire0" && isHeard(whole)) queue.push([node, "heard", whole.bytes, 0]);
    else arrivals.push({ at: node, packet: whole });
  }
}

/** The node that has an address, or a block with it. */
export function nodeOf(wanted: string): NodeName | "k" | undefined {
  const all = { ...NODES, k: KERNEL_NODE };
  return ([...NODE_NAMES, "k"] as const).find((name) => {
    const { block, underlay } = all[name];
    return wanted === underlay || sameBlock(block, wanted);
  });
}

/** Whether two addresses lie in one block of 64. */
export function sameBlock(a: string, b: string): boolean {
  const prefix = (text: string) => text.split(".").slice(0, 3).join(".");
  return prefix(a) === prefix(b) && Number(a.split(".")[3]) >> 6 === Number(b.split(".")[3]) >> 6;
}
