/**
 * Random packets in random states of a cluster that runs: each is traced first, and then sent, as these
 * very bytes. What agents and kernels do with it has to be what the trace says, byte for byte:
 *
 *   at every node that it comes to by the tunnel     outer addresses and port, VXLAN header, inner frame
 *   where it ends                                    the packet: pod, program of a node, machine outside
 *   where it is dropped                              the counter of the reason, at the node, and no other
 *   where it is refused                              the reset or ICMP error, back at the sender
 *   where it was delivered                           the same of an answer, every other time; where a
 *                                                    program of a node gets TCP, of its kernel's reset
 *
 * In the end nothing may have been seen that was not foreseen: what ends in a kernel arrives nowhere.
 * Not compared: the identification of what an agent makes itself, and which egress port a flow gets.
 */
import { type Place, replyTo, type Walked, walk } from "../../src/explain/trace/journey.js";
import { sourceOfProgram } from "../../src/explain/trace/kernel.js";
import { packetView } from "../../src/explain/trace/packets.js";
import { TraceCluster } from "../../src/explain/trace/TraceCluster.js";
import type { EndpointSlice, Service } from "../../src/kube/types.js";
import { DROP_REASON_NAMES, DropReason } from "../../src/packet/DropReason.js";
import {
  ACK,
  address,
  concat,
  dotted,
  ethernet,
  FIN,
  GATEWAY,
  get16,
  get32,
  ICMP,
  IPV4,
  icmpPacket,
  PSH,
  put16,
  put32,
  RST,
  SYN,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
} from "./frames.js";
import { waitFor } from "./netns.js";
import { Random } from "./random.js";
import { MARK, type Sighting } from "./Station.js";
import { type Drops, NODE_NAMES, NODE_PORTS, NOISE, PC, TraceBed, VXLAN_PORT } from "./TraceBed.js";

export interface TraceSoakOptions {
  seed: number;
  /** Packets, answers among them. */
  count: number;
  /** Packets in one state of the cluster. */
  perState: number;
  say?: (line: string) => void;
  signal?: AbortSignal;
}

export interface TraceSoakResult {
  packets: number;
  /** How they ended: "delivered to pod", "dropped: noEndpoint", … */
  ends: Record<string, number>;
  /** By sender and what was asked. */
  kinds: Record<string, number>;
}

/**
 * Sends `count` packets. Throws, with the seed, at the first that goes another way than traced.
 *
 * @param given a bed without pods; without, one of its own
 */
export async function traceSoak(options: TraceSoakOptions, given?: TraceBed): Promise<TraceSoakResult> {
  const bed = given ?? (await TraceBed.start());
  try {
    return await new TraceSoak(bed, options).run();
  } catch (error) {
    throw new Error(`seed ${options.seed}: ${(error as Error).message}`, { cause: error });
  } finally {
    if (given === undefined) await bed.close();
  }
}

// ---- states ---------------------------------------------------------------------------------------

const MOST_SERVICES = 6;
const PODS_AT_FIRST = 2;
const MOST_PODS = 8;
const TARGET_PORTS = [8080, 8081];
const BACK_PORTS = { TCP: 0, UDP: 1 } as const;
/** In no node's block, but in the pool. */
const NO_BLOCK = "10.1.3.7";
const FREE_CLUSTER_IP = "10.152.183.250";

/** One packet that is about to be sent, and how. */
interface Case {
  kind: string;
  sender: Place;
  /** Name of the pod, node, or "pc". */
  at: string;
  packet: Uint8Array;
  /** By an ordinary socket: its kernel makes the packet. */
  datagram?: boolean;
}

/** Where a packet has to be seen. */
interface Expected {
  at: string;
  how: Sighting["how"];
  /** From the IPv4 header on; of a tunnel frame, the datagram behind the outer headers. */
  bytes: string;
  outer: string;
  /** Instead of bytes: any ICMP message of a kernel, of this type. */
  icmpType?: number;
}

/** What of a packet is not compared. */
interface Leniency {
  identification: boolean;
  /** A kernel made it: neither identification nor checksums, nor those that an ICMP error quotes. */
  kernel: boolean;
}

const DEADLINE_MS = 5_000;
const LOOK_MS = 20;
const PROTOCOLS = [TCP, TCP, UDP, UDP, ICMP];
const FLAGS = [SYN, SYN, SYN, ACK, PSH | ACK, FIN | ACK, RST, SYN | ACK];
const EGRESS = { first: 61_000, last: 65_534 };

class TraceSoak {
  private readonly random: Random;
  private readonly services = new Map<string, Service>();
  private readonly result: TraceSoakResult = { packets: 0, ends: {}, kinds: {} };
  private serial = 1;
  private made = 0;
  private drops: Drops = {};
  /** Cases of before, whose tuples may come again. */
  private history: Case[] = [];
  /** Who answers ARP, in this state. */
  private readonly answerers = new Map<string, string>();

  constructor(
    private readonly bed: TraceBed,
    private readonly options: TraceSoakOptions,
  ) {
    this.random = new Random(options.seed);
  }

  async run(): Promise<TraceSoakResult> {
    const { bed, options, result } = this;
    const { count, perState, say = () => {}, signal } = options;
    await bed.addPods(
      NODE_NAMES.flatMap((node) =>
        Array.from({ length: PODS_AT_FIRST }, () => ({ name: this.newName("pod"), node })),
      ),
    );
    while (result.packets < count && signal?.aborted !== true) {
      await this.change();
      this.drops = await bed.drops();
      for (const end = Math.min(count, result.packets + perState); result.packets < end; ) {
        const next = this.nextCase();
        const seen = await this.compare(next);
        this.history.push(next);
        if (seen !== null && this.random.oneIn(2) && result.packets < end) await this.compare(seen);
      }
      this.nothingElse();
      say(`${result.packets} packets; ${bed.pods.size} pods, ${this.services.size} Services`);
    }
    return result;
  }

  private newName(kind: string): string {
    return `${kind}-${this.made++}`;
  }

  /** Another state: pods and Services that come and go, endpoints that change. */
  private async change(): Promise<void> {
    const { bed, random, services } = this;
    if (services.size > 0 && random.oneIn(2)) {
      const names = [...bed.pods.keys()];
      if (names.length > NODE_NAMES.length && (names.length === MOST_PODS || random.oneIn(2)))
        await bed.removePod(random.pick(names));
      else await bed.addPods([{ name: this.newName("pod"), node: random.pick(NODE_NAMES) }]);
    }
    for (const name of [...services.keys()]) {
      if (random.oneIn(3)) {
        await bed.removeService(name);
        services.delete(name);
      } else if (random.oneIn(2)) await bed.setEndpoints(name, this.someEndpoints(services.get(name)!));
    }
    while (services.size < MOST_SERVICES) {
      const name = this.newName("svc");
      const spec = this.someSpec();
      services.set(name, await bed.addService(name, spec, this.someEndpoints({ spec })));
    }
    await bed.settled();
    this.answerers.clear();
  }

  private someSpec(): NonNullable<Service["spec"]> {
    const { random } = this;
    const type = random.pick(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]);
    const protocols = random.pick([["TCP"], ["UDP"], ["TCP", "UDP"]]);
    const ports = protocols.map((protocol) => ({ name: protocol.toLowerCase(), protocol, port: 80 }));
    return {
      type,
      ports,
      internalTrafficPolicy: random.oneIn(3) ? "Local" : "Cluster",
      ...(random.oneIn(3) ? { sessionAffinity: "ClientIP" } : {}),
      ...(type === "ClusterIP" ? {} : { externalTrafficPolicy: random.oneIn(3) ? "Local" : "Cluster" }),
      ...(type === "LoadBalancer" && random.oneIn(3)
        ? { loadBalancerSourceRanges: random.pick([[`${PC}/32`], ["198.51.100.0/24"]]) }
        : {}),
    };
  }

  /** Any pods, in any condition; seldom none, or somebody outside of the pod pool. */
  private someEndpoints({ spec }: Pick<Service, "spec">): Pick<EndpointSlice, "ports" | "endpoints"> {
    const { random, bed } = this;
    const ports = (spec?.ports ?? []).map(({ name = "", protocol = "TCP" }) => ({
      name,
      protocol,
      port: TARGET_PORTS[BACK_PORTS[protocol as keyof typeof BACK_PORTS]]!,
    }));
    if (random.oneIn(6)) return { ports, endpoints: [] };
    const pods = [...bed.pods.values()].filter(() => random.oneIn(2));
    const endpoints = pods.map(({ address: ip, node }) => {
      const ready = !random.oneIn(5);
      const conditions = { ready, serving: ready || random.oneIn(2), terminating: !ready };
      return { addresses: [ip], nodeName: node, conditions };
    });
    return { ports, endpoints: random.oneIn(6) ? [...endpoints, { addresses: [PC] }] : endpoints };
  }

  // ---- packets ------------------------------------------------------------------------------------

  private nextCase(): Case {
    const { random, history } = this;
    const again = random.oneIn(5) ? this.again(history) : null;
    if (again !== null) return again;
    const roll = random.below(10);
    if (roll < 5) return this.fromPod();
    if (roll < 7) return this.fromNode();
    return this.fromOutside();
  }

  /** The tuple of an earlier packet, by the same way: a flow may be there. */
  private again(history: readonly Case[]): Case | null {
    if (history.length === 0) return null;
    const old = this.random.pick(history);
    if (old.datagram === true || (old.sender.kind === "pod" && !this.bed.pods.has(old.at))) return null;
    const { protocol, source, destination, sourcePort, destinationPort, icmpType } = packetView(old.packet);
    if (icmpType !== undefined && icmpType !== ECHO_REQUEST) return null;
    // Who has an address of the LAN that is no Service's any more, no trace can know.
    if (isPooled(destination) && !this.virtualAddresses().includes(destination)) return null;
    const number = { tcp: TCP, udp: UDP, icmp: ICMP }[protocol]!;
    const ends = { source, destination, sourcePort, destinationPort };
    return { ...old, kind: "again", packet: this.packet(number, ends, 64) };
  }

  private fromPod(): Case {
    const { random, bed } = this;
    const pod = random.pick([...bed.pods.values()]);
    const place: Place = { kind: "pod", node: pod.node, port: -1 };
    const make = (kind: string, to: [string, number], source = pod.address, ttl = 64): Case => ({
      kind: `pod → ${kind}`,
      sender: place,
      at: pod.name,
      packet: this.somePacket(source, to, ttl),
    });
    const [kind, to] = this.target(pod.node);
    const roll = random.below(12);
    if (roll === 0) return make("forged source", to, random.pick([NO_BLOCK, PC, bed.addressOf(pod.node)]));
    if (roll === 1) return make(`${kind}, TTL over`, to, pod.address, random.pick([1, 2]));
    if (roll === 2) return make("nowhere", [random.pick(NOWHERE), 80]);
    if (roll === 3) {
      const port = random.pick([VXLAN_PORT, NODE_PORTS[0], NODE_PORTS[1]]);
      return make("node", [bed.addressOf(random.pick(NODE_NAMES)), port]);
    }
    if (roll === 4) return make("outside", [PC, 80]);
    return make(kind, to);
  }

  private fromNode(): Case {
    const { random, bed } = this;
    const node = random.pick(NODE_NAMES);
    const sender: Place = { kind: "program", node };
    const [kind, to] = this.target();
    const nodePorts = this.nodePorts("UDP");
    if (nodePorts.length > 0 && random.oneIn(3)) {
      const at = random.pick([bed.addressOf(node), "127.0.0.1", bed.addressOf(random.pick(NODE_NAMES))]);
      // The source is the kernel's choice: it is filled in when the tables are there.
      const packet = this.udp("0.0.0.0", [at, random.pick(nodePorts)], 64);
      return { kind: "node → NodePort", sender, at: node, packet, datagram: true };
    }
    return { kind: `node → ${kind}`, sender, at: node, packet: this.somePacket("0.0.0.0", to, 64) };
  }

  private fromOutside(): Case {
    const { random, bed } = this;
    const node = random.pick(NODE_NAMES);
    const ttl = random.oneIn(10) ? random.pick([1, 2]) : 64;
    const make = (kind: string, to: [string, number], via?: string): Case => ({
      kind: `pc → ${kind}`,
      sender: { kind: "lan", name: "pc", ...(via === undefined ? {} : { via }) },
      at: "pc",
      packet: this.somePacket(PC, to, ttl),
    });
    const nodePorts = [...this.nodePorts("TCP"), ...this.nodePorts("UDP")];
    const roll = random.below(8);
    if (roll < 3 && nodePorts.length > 0)
      return make("NodePort", [bed.addressOf(node), random.pick(nodePorts)]);
    if (roll === 3) return make("node", [bed.addressOf(node), random.pick(NODE_PORTS)]);
    if (roll === 4) {
      const [kind, to] = this.target();
      return make(`${kind} by a node`, to, node);
    }
    const virtual = [...this.services.values()].flatMap(({ spec, status }) =>
      (status?.loadBalancer?.ingress ?? []).map(({ ip }): [string, number] => [
        ip!,
        random.oneIn(6) ? 81 : spec!.ports![0]!.port,
      ]),
    );
    if (virtual.length > 0) return make("load balancer", random.pick(virtual));
    return make("node", [bed.addressOf(node), NODE_PORTS[0]]);
  }

  /** A pod's address or a Service's, sometimes with a port that it does not have; of NodePorts that of `node`. */
  private target(node = ""): [string, [string, number]] {
    const { random, bed } = this;
    const roll = random.below(10);
    const pod = random.pick([...bed.pods.values()]);
    if (roll < 2) return ["pod", [pod.address, random.pick(TARGET_PORTS)]];
    if (roll === 2) return ["no such ClusterIP", [FREE_CLUSTER_IP, 80]];
    if (roll === 3) {
      const block = address(pod.address) & ~63;
      return ["no such pod", [random.oneIn(2) ? NO_BLOCK : dotted(block | 62), 80]];
    }
    const { spec, status } = random.pick([...this.services.values()]);
    const port = random.oneIn(8) ? 81 : random.pick(spec!.ports!).port;
    const [ingress] = status?.loadBalancer?.ingress ?? [];
    if (roll === 4 && ingress !== undefined) return ["load balancer", [ingress.ip!, port]];
    const { nodePort } = spec!.ports![0]!;
    // Behind another node's NodePort the egress port decides, which nobody can foresee.
    if (roll === 5 && nodePort !== undefined && node !== "")
      return ["NodePort", [bed.addressOf(node), nodePort]];
    return ["ClusterIP", [spec!.clusterIP!, port]];
  }

  /** Load-balancer addresses that Services have now. */
  private virtualAddresses(): string[] {
    return [...this.services.values()].flatMap(({ status }) =>
      (status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip!),
    );
  }

  private nodePorts(protocol: string): number[] {
    return [...this.services.values()].flatMap(({ spec }) =>
      spec!
        .ports!.filter((port) => port.nodePort !== undefined && port.protocol === protocol)
        .map((port) => port.nodePort!),
    );
  }

  private somePacket(
    source: string,
    [destination, destinationPort]: [string, number],
    ttl: number,
  ): Uint8Array {
    const ends = { source, destination, destinationPort, sourcePort: this.random.between(2_000, 29_000) };
    return this.packet(this.random.pick(PROTOCOLS), ends, ttl);
  }

  private packet(protocol: number, ends: Ends, ttl: number): Uint8Array {
    if (protocol === UDP) return udpPacket({ ...ends, ttl, id: this.serial & 0xffff }, this.payload());
    const id = this.serial & 0xffff;
    if (protocol === TCP) {
      const payload = this.payload();
      const flags = this.random.pick(FLAGS);
      // A reset has no payload: its numbers are those of one packet alone.
      const sequence = Math.imul(this.serial, 1000);
      return tcpPacket({ ...ends, ttl, id, flags, sequence, acknowledgement: sequence }, payload);
    }
    const rest = (ends.sourcePort << 16) | 1;
    return icmpPacket({ ...ends, ttl, id, type: ECHO_REQUEST, rest }, this.payload());
  }

  private udp(source: string, [destination, destinationPort]: [string, number], ttl: number): Uint8Array {
    const sourcePort = this.random.between(2_000, 29_000);
    return udpPacket({ source, destination, sourcePort, destinationPort, ttl }, this.payload());
  }

  /** The mark, with a number that no other packet has. */
  private payload(): Uint8Array {
    const number = new Uint8Array(4);
    put32(number, 0, this.serial++);
    return concat(MARK, number, this.random.bytes(this.random.below(40)));
  }

  // ---- comparison ---------------------------------------------------------------------------------

  /** Traces a packet, sends it, and holds one against the other. Returns an answer to it, where one would come. */
  private async compare(given: Case): Promise<Case | null> {
    const { bed, result } = this;
    const cluster = new TraceCluster(await bed.sources());
    const each = withSource(cluster, given);
    const walked = await walk(cluster, placeOf(bed, cluster, each), each.packet);
    const back = walked.refusal === null ? null : await replyTo(cluster, walked);
    const reset = await this.resetWalk(cluster, walked);
    const ways = [walked, back, reset].filter((each) => each !== null);
    const lenient = { identification: each.datagram === true, kernel: each.datagram === true };
    const expected = [
      ...this.expectedOf(cluster, walked, lenient),
      // What an agent makes has an identification of its own.
      ...(back === null ? [] : this.expectedOf(cluster, back, { ...lenient, identification: true })),
      ...(reset === null ? [] : this.expectedOf(cluster, reset, lenient)),
      ...kernelError(each, walked),
    ];
    const end = endOf(walked, back);
    result.packets++;
    result.kinds[each.kind] = (result.kinds[each.kind] ?? 0) + 1;
    result.ends[end] = (result.ends[end] ?? 0) + 1;
    try {
      await this.send(each, walked);
      const arrived = await this.expect(expected, lenient, back !== null);
      await this.expectDrops(ways);
      const over = arrived === null || back !== null || reset !== null || walked.arrived === null;
      return over ? null : answerTo(bed, walked, arrived, this.payload());
    } catch (error) {
      const steps = ways.flatMap(({ way }) =>
        way.steps.map(({ lane, stage, what }) => `  ${lane} ${stage}: ${what}`),
      );
      throw new Error(
        `packet ${result.packets}, ${each.kind}: ${(error as Error).message}\ntraced (${end}):\n${steps.join("\n")}`,
        { cause: error },
      );
    }
  }

  /** The way of the reset by which a node's kernel answers TCP (RFC 9293 §3.10.7.1); null where there is none. */
  private async resetWalk(cluster: TraceCluster, { arrived }: Walked): Promise<Walked | null> {
    if (arrived?.place.kind !== "program") return null;
    const packet = resetOf(arrived.packet);
    return packet === null ? null : walk(cluster, arrived.place, packet);
  }

  private async send(each: Case, { way, arrived }: Walked): Promise<void> {
    const { bed } = this;
    const { station } = bed;
    if (arrived?.place.kind === "program") {
      const { protocol, destinationPort } = packetView(arrived.packet);
      // Else its kernel would call the port unreachable.
      if (protocol === "udp") await station.listen(arrived.place.node, destinationPort);
    }
    const { at, packet, sender } = each;
    if (sender.kind === "pod") {
      await station.sendFrame(at, ethernet(GATEWAY, bed.pods.get(at)!.mac, IPV4, packet));
    } else if (sender.kind === "lan") {
      const node = way.steps.find(({ stage }) => stage === "kernel")?.lane ?? "";
      if (sender.via === undefined) await this.expectAnswerer(packetView(packet).destination, node);
      if (node !== "") await station.sendFrame(at, ethernet(bed.macs.get(node)!, bed.pcMac, IPV4, packet));
    } else if (each.datagram === true) {
      const { sourcePort, destination, destinationPort } = packetView(packet);
      await station.sendDatagram(at, sourcePort, [destination, destinationPort], packet.subarray(28));
    } else await station.sendPacket(at, packet);
  }

  /** That of all machines `node` answers ARP for an address; nobody, where it is "". */
  private async expectAnswerer(target: string, node: string): Promise<void> {
    const { bed, answerers } = this;
    let answering = answerers.get(target);
    if (answering === undefined) {
      const mac = await bed.station.whoHas("pc", PC, target, node !== "");
      answering = NODE_NAMES.find((name) => bed.macs.get(name) === mac) ?? mac;
      answerers.set(target, answering);
    }
    if (answering !== node)
      throw new Error(`"${answering}" answers ARP for ${target}, the trace says "${node}"`);
  }

  /** Where a traced packet has to be seen. */
  private expectedOf(cluster: TraceCluster, { hops, arrived }: Walked, lenient: Leniency): Expected[] {
    const tunnelled = hops.flatMap(({ node, record: { arriving, drop } }): Expected[] => {
      // What the agent hears, programs get as well.
      if (arriving.by === "heard" && drop !== DropReason.notOurs)
        return [{ at: node, how: "program", bytes: text(arriving.packet, 0, lenient), outer: "" }];
      if (arriving.by !== "tunnel") return [];
      const bytes = text(arriving.datagram, TUNNELLED, lenient);
      const outer = `${dotted(arriving.peer)} → ${this.bed.addressOf(node)}:${VXLAN_PORT}`;
      return [{ at: node, how: "tunnel", bytes, outer }];
    });
    if (arrived === null) return tunnelled;
    const { place, packet } = arrived;
    const at =
      place.kind === "lan"
        ? "pc"
        : place.kind === "program"
          ? place.node
          : cluster.podAt(place.node, place.port)!.name.replace("default/", "");
    const how = place.kind === "program" ? "program" : "frame";
    return [...tunnelled, { at, how, bytes: text(packet, 0, lenient), outer: "" }];
  }

  /** Waits for all of them; returns the bytes of the last. Null where none is expected. */
  private async expect(
    expected: Expected[],
    lenient: Leniency,
    refused: boolean,
  ): Promise<Uint8Array | null> {
    const { seen } = this.bed.station;
    let last: Uint8Array | null = null;
    const missing = [...expected];
    const take = (): boolean => {
      for (let n = 0; n < seen.length; ) {
        const sighting = seen[n]!;
        const found = missing.findIndex((each) => isIt(each, sighting, lenient, refused));
        if (found < 0) n++;
        else {
          if (missing[found] === expected.at(-1)) last = sighting.bytes;
          missing.splice(found, 1);
          seen.splice(n, 1);
        }
      }
      return missing.length === 0;
    };
    for (const end = performance.now() + DEADLINE_MS; !take(); ) {
      if (performance.now() > end) {
        const lines = missing.map(({ at, how, bytes, outer }) => `  ${at}, ${how} ${outer}: ${bytes}`);
        throw new Error(`not seen within ${DEADLINE_MS} ms:\n${lines.join("\n")}\nbut\n${this.strays()}`);
      }
      await this.bed.station.anotherOrLater(LOOK_MS);
    }
    return last === null || expected.at(-1)!.how !== "frame" ? last : (last as Uint8Array).subarray(14);
  }

  /** The drop counters go up by what the trace says, and by nothing else. */
  private async expectDrops(ways: readonly Walked[]): Promise<void> {
    const wanted: Drops = structuredClone(this.drops);
    for (const { node, record } of ways.flatMap(({ hops }) => hops)) {
      if (record.drop < 0) continue;
      const reason = DROP_REASON_NAMES[record.drop]!;
      if (NOISE.includes(reason)) continue;
      wanted[node]![reason] = (wanted[node]![reason] ?? 0) + 1;
    }
    const text = sorted(wanted);
    let now: Drops = {};
    try {
      await waitFor(
        async () => {
          now = await this.bed.drops();
          return sorted(now) === text;
        },
        { deadlineMs: DEADLINE_MS, intervalMs: 5 },
      );
    } catch {
      throw new Error(`dropped ${sorted(now)}, not ${text}\n${this.strays()}`);
    }
    this.drops = now;
  }

  /** Throws where something was seen that no trace had foreseen. */
  private nothingElse(): void {
    const { seen } = this.bed.station;
    // What kernels say of a TTL that is over reaches pods too, and behind egress on a way of its own.
    const others = seen.filter((each) => !isKernelsTimeExceeded(innerOf(each)));
    seen.splice(0, seen.length, ...others);
    if (seen.length > 0) throw new Error(`seen, but not foreseen:\n${this.strays()}`);
  }

  private strays(): string {
    const all = { identification: false, kernel: false };
    return this.bed.station.seen
      .map((each) => `  ${each.at}, ${each.how} ${outerOf(each)}: ${seenText(each, all)}`)
      .join("\n");
  }
}

/** Whether an address is in the load-balancer pool. */
function isPooled(ip: string): boolean {
  return LOAD_BALANCER_POOL.first <= address(ip) && address(ip) <= LOAD_BALANCER_POOL.last;
}

interface Ends {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
}

const LOAD_BALANCER_POOL = { first: address("192.168.2.200"), last: address("192.168.2.230") };
const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;
const TIME_EXCEEDED = 11;
const NOWHERE = ["127.0.0.1", "224.0.0.1", "240.0.0.1", "0.0.0.1", "255.255.255.255"];
/** VXLAN and Ethernet header before the inner packet. */
const TUNNELLED = 8 + 14;
/** Ethernet, IPv4 and UDP header before a VXLAN header. */
const OUTER = 14 + 20 + 8;

/** A program's packet has the source that the node's kernel prefers. */
function withSource(cluster: TraceCluster, each: Case): Case {
  if (each.sender.kind !== "program") return each;
  const view = packetView(each.packet);
  if (view.source !== "0.0.0.0") return each;
  const own = sourceOfProgram(cluster.nodes.get(each.sender.node)!, view);
  return { ...each, packet: sentFrom(each.packet, own) };
}

/** The same packet with another source address. */
function sentFrom(packet: Uint8Array, source: string): Uint8Array {
  const { destination, sourcePort, destinationPort, ttl, protocol } = packetView(packet);
  const ends = { source, destination, sourcePort, destinationPort, ttl, id: get16(packet, 4) };
  if (protocol === "udp") return udpPacket(ends, packet.subarray(28));
  if (protocol === "tcp") {
    const [flags, sequence] = [packet[33]!, get32(packet, 24)];
    return tcpPacket({ ...ends, flags, sequence, acknowledgement: sequence }, packet.subarray(40));
  }
  return icmpPacket({ ...ends, type: packet[20]!, rest: get32(packet, 24) }, packet.subarray(28));
}

/** With the port number that a pod's TAP has now. */
function placeOf(bed: TraceBed, cluster: TraceCluster, { sender, at }: Case): Place {
  if (sender.kind !== "pod") {
    if (sender.kind === "lan") cluster.nameMachine(PC, "pc");
    return sender;
  }
  const { port } = cluster.podOf(bed.pods.get(at)!.address)!;
  return { ...sender, port };
}

/** What whoever received a request sends back; null where it was none, or nobody answers there. */
function answerTo(bed: TraceBed, { arrived }: Walked, packet: Uint8Array, payload: Uint8Array): Case | null {
  const { place } = arrived!;
  const at =
    place.kind === "lan"
      ? "pc"
      : place.kind === "program"
        ? place.node
        : [...bed.pods.values()].find((pod) => pod.address === packetView(packet).destination)!.name;
  const view = packetView(packet);
  const ends = {
    source: view.destination,
    destination: view.source,
    sourcePort: view.destinationPort,
    destinationPort: view.sourcePort,
    id: get16(packet, 4),
  };
  const of = (answer: Uint8Array): Case => ({ kind: "answer", sender: place, at, packet: answer });
  if (view.protocol === "udp") return of(udpPacket(ends, payload));
  if (view.protocol === "icmp")
    return view.icmpType === ECHO_REQUEST
      ? of(icmpPacket({ ...ends, type: ECHO_REPLY, rest: get32(packet, 24) }, payload))
      : null;
  const sequence = Math.imul(get32(payload, 4), 1000);
  return of(
    tcpPacket({ ...ends, flags: SYN | ACK, sequence, acknowledgement: get32(packet, 24) + 1 }, payload),
  );
}

/** What a kernel without a listener answers to a segment; null to a reset, and to what is no TCP. */
function resetOf(packet: Uint8Array): Uint8Array | null {
  const { protocol, source, destination, sourcePort, destinationPort } = packetView(packet);
  const flags = packet[33]!;
  if (protocol !== "tcp" || (flags & RST) !== 0) return null;
  const ends = {
    source: destination,
    destination: source,
    sourcePort: destinationPort,
    destinationPort: sourcePort,
  };
  const common = { ...ends, id: 0, window: 0 };
  const none = new Uint8Array(0);
  if ((flags & ACK) !== 0)
    return tcpPacket({ ...common, flags: RST, sequence: get32(packet, 28), acknowledgement: 0 }, none);
  const length = packet.length - 40 + ((flags & SYN) === 0 ? 0 : 1) + ((flags & FIN) === 0 ? 0 : 1);
  return tcpPacket(
    { ...common, flags: RST | ACK, sequence: 0, acknowledgement: get32(packet, 24) + length },
    none,
  );
}

/** Kernels send ICMP errors with the precedence of network control (RFC 1812 §4.3.2.5), agents do not. */
function isKernelsTimeExceeded(packet: Uint8Array): boolean {
  return packet[1] === 0xc0 && packetView(packet).icmpType === TIME_EXCEEDED;
}

/** What a node's kernel says where it finds a packet's TTL over. */
function kernelError({ at, sender }: Case, { way, hops }: Walked): Expected[] {
  const over =
    way.end.kind === "dropped" &&
    way.end.drop.reason === "ttlExceeded" &&
    way.steps.at(-2)?.stage === "kernel";
  if (!over || hops.length > 0) return [];
  return [
    {
      at,
      how: sender.kind === "program" ? "program" : "frame",
      bytes: "",
      outer: "",
      icmpType: TIME_EXCEEDED,
    },
  ];
}

function endOf({ way, arrived }: Walked, back: Walked | null): string {
  if (back !== null) return `refused: ${way.end.kind === "dropped" ? way.end.drop.reason : way.end.kind}`;
  if (way.end.kind === "dropped") return `dropped: ${way.end.drop.reason}`;
  return way.end.kind === "delivered" ? `delivered to ${arrived!.place.kind}` : way.end.kind;
}

/** Whether a sighting is what was expected. */
function isIt(expected: Expected, sighting: Sighting, lenient: Leniency, refused: boolean): boolean {
  if (expected.at !== sighting.at || expected.how !== sighting.how) return false;
  if (expected.outer !== "" && expected.outer !== outerOf(sighting)) return false;
  if (expected.icmpType !== undefined) return packetView(innerOf(sighting)).icmpType === expected.icmpType;
  if (expected.bytes === seenText(sighting, lenient)) return true;
  return refused && expected.bytes === seenText(sighting, { ...lenient, identification: true });
}

/** The outer addresses of a tunnel frame as `Expected` has them, "" for other sightings. */
function outerOf({ how, bytes }: Sighting): string {
  if (how !== "tunnel") return "";
  return `${dotted(get32(bytes, 26))} → ${dotted(get32(bytes, 30))}:${get16(bytes, 36)}`;
}

function seenText(sighting: Sighting, lenient: Leniency): string {
  const { how, bytes } = sighting;
  if (how === "tunnel") return text(bytes.subarray(OUTER), TUNNELLED, lenient);
  return text(innerOf(sighting), 0, lenient);
}

/** The packet of a sighting, from its IPv4 header on. */
function innerOf({ how, bytes }: Sighting): Uint8Array {
  return how === "program" ? bytes : bytes.subarray(how === "frame" ? 14 : OUTER + TUNNELLED);
}

/** Bytes in hexadecimal, `at` being where the IPv4 header begins; without what is not compared. */
function text(bytes: Uint8Array, at: number, lenient: Leniency): string {
  const copy = Uint8Array.from(bytes);
  blank(copy.subarray(at), lenient);
  return Buffer.from(copy).toString("hex");
}

/** Makes fields zero that are not compared. */
function blank(packet: Uint8Array, { identification, kernel }: Leniency): void {
  const { protocol, icmpType, sourcePort, destinationPort } = packetView(packet);
  const l4 = (packet[0]! & 15) * 4;
  const isEgress = (port: number) =>
    port >= EGRESS.first && port <= EGRESS.last && port !== NODE_PORTS.at(-1);
  const quotes = icmpType !== undefined && icmpType !== ECHO_REQUEST && icmpType !== ECHO_REPLY;
  const isIcmp = protocol === "icmp";
  if (identification) for (const field of [4, 10]) put16(packet, field, 0);
  if (isEgress(sourcePort)) put16(packet, isIcmp ? l4 + 4 : l4, 0);
  if (isEgress(destinationPort)) put16(packet, isIcmp ? l4 + 4 : l4 + 2, 0);
  if (quotes && kernel) blank(packet.subarray(l4 + 8), { identification: true, kernel });
  const checksum = { tcp: 16, udp: 6, icmp: 2 }[protocol] ?? -1;
  if (checksum > 0 && (kernel || isEgress(sourcePort) || isEgress(destinationPort)))
    put16(packet, l4 + checksum, 0);
}

function sorted(drops: Drops): string {
  const nodes = Object.entries(drops).map(([node, reasons]) => [node, Object.entries(reasons).sort()]);
  return JSON.stringify(nodes.sort());
}
