/**
 * Random traffic and random changes in a simulated cluster, packet by packet against the reference
 * model (ReferenceNode), and from end to end: what a client and a server see of a connection. Every
 * step has random numbers of its own, so that a failing run can be repeated without the steps that do
 * not matter.
 *
 * A step is one of: a new connection, one more packet of a connection (in order, or far out of its
 * window), an echo, a fragmented datagram, ping or ICMP error, fragments without end, an ICMP error about a
 * packet that arrived, whole or in fragments, a stray segment, a forged source, a change of Services or endpoints, a node that the others hold for dead or no longer, or time that passes.
 */
import type { EndpointSliceObject, ServiceObject } from "../../../src/desired/serviceObjects.js";
import { fragmentsOf, reassembled } from "../fragments.js";
import {
  ACK,
  concat,
  counting,
  FIN,
  icmpPacket,
  ipv4,
  l4ChecksumOk,
  PSH,
  RST,
  SYN,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
} from "../frames.js";
import { Random } from "../random.js";
import {
  type Parsed,
  parsePacket,
  SCTP,
  SCTP_ABORT,
  SCTP_COOKIE_ACK,
  SCTP_COOKIE_ECHO,
  SCTP_DATA,
  SCTP_INIT,
  SCTP_INIT_ACK,
  SCTP_SHUTDOWN,
  SCTP_SHUTDOWN_ACK,
  SCTP_SHUTDOWN_COMPLETE,
  sctpPacket,
} from "./packets.js";
import { ReferenceNode } from "./ReferenceNode.js";
import { ReferenceServices, type ServicePortIdentity } from "./referenceServices.js";
import {
  type Arrival,
  type Journey,
  NODE_NAMES,
  NODES,
  type NodeName,
  nodeOf,
  PC,
  PODS,
  type PodName,
  SimulatedCluster,
} from "./SimulatedCluster.js";

export interface ModelTotals {
  steps: number;
  /** Packets that were sent, and hops that were compared. */
  packets: number;
  hops: number;
  changes: number;
  arrived: number;
  dropped: Record<string, number>;
}

const NOTHING = new Uint8Array(0);
const SERVICES = ["s0", "s1", "s2", "s3", "s4"] as const;
const POD_NAMES = ["a1", "a2", "b1", "b2", "c1", "c2"] as const;
/** Places that endpoints are at: pods, a pod behind a kernel VTEP, a node, no pod any more, outside. */
const ENDPOINTS: readonly string[] = [
  ...POD_NAMES.map((name) => PODS[name]),
  ...POD_NAMES.map((name) => PODS[name]),
  PODS.k1,
  NODES.b.underlay,
  "10.1.79.77",
  "192.0.2.20",
];
const OUTSIDE = ["198.51.100.1", "198.51.100.2"] as const;
const PROTOCOLS = { TCP, UDP, SCTP } as const;
/** Connections that are kept at once. */
const MOST = 40;
/** Milliseconds between steps: no budget runs out, and the flow table's clock is exact. */
const STEP_MS = 250;
const FLOWS = 3000;

interface Ends {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
}

interface Client {
  at: PodName | NodeName | "lan";
  address: string;
  /** Node by which a machine of the LAN comes in. */
  by: NodeName;
}

interface Connection {
  protocol: number;
  client: Client;
  ends: Ends;
  /** Where it arrived, and what it looked like. */
  server: { arrival: Arrival; ends: Ends } | undefined;
  /** Both sides have spoken. */
  answered: boolean;
  closed: boolean;
  /** Its ingress has moved: another endpoint may be right. */
  moved: boolean;
  /** Next numbers of client and server, and what each has seen of the other's. */
  next: [number, number];
  seen: [number, number];
  last: number;
  stage: number;
}

function turned({ source, destination, sourcePort, destinationPort }: Ends): Ends {
  return {
    source: destination,
    destination: source,
    sourcePort: destinationPort,
    destinationPort: sourcePort,
  };
}

function endsOf({ source, destination, sourcePort, destinationPort }: Parsed): Ends {
  return { source, destination, sourcePort, destinationPort };
}

function equal(a: Ends, b: Ends): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Whether a flow begins with a packet, for sure. */
function beginsFlow({ protocol, tcp, sctp }: Parsed): boolean {
  if (protocol === TCP) return tcp!.flags === SYN;
  return protocol === UDP || sctp?.chunk === SCTP_INIT;
}

/** Whether a flow's time starts again: not with a reset that closes nothing. */
function prolongs({ tcp }: Parsed): boolean {
  return tcp === null || (tcp.flags & RST) === 0;
}

/** One cluster and its model, with what random steps need to know of it. */
class Run {
  readonly totals: ModelTotals = { steps: 0, packets: 0, hops: 0, changes: 0, arrived: 0, dropped: {} };
  readonly cluster = new SimulatedCluster();
  readonly #services = new ReferenceServices(nodeOf);
  readonly #references: Record<NodeName, ReferenceNode>;
  #connections: Connection[] = [];
  #random: Random;
  #now = 0;
  #isn = 1000;

  constructor(readonly seed: number) {
    this.#random = new Random(seed);
    const reference = (name: NodeName) =>
      new ReferenceNode(name, this.#services, (original) => this.cluster.nodes[name].replyPort(original));
    this.#references = { a: reference("a"), b: reference("b"), c: reference("c") };
    this.cluster.onHop = (hop) => {
      this.totals.hops++;
      for (const name of hop.dropped) this.#countDrops(name, 1);
      try {
        this.#references[hop.node].check(hop);
      } catch (error) {
        const { source, destination, sourcePort, destinationPort, protocol } = parsePacket(hop.packet);
        throw new Error(
          `node ${hop.node}, from ${hop.from} tag ${hop.tag}: ${protocol} ${source}:${sourcePort} → ${destination}:${destinationPort}: ${(error as Error).message}`,
        );
      }
    };
    for (const name of SERVICES) this.#changeService(name);
    this.totals.changes = 0;
  }

  step(n: number): void {
    this.#random = new Random(Math.imul(this.seed, 0x9e3779b1) ^ Math.imul(n + 1, 0x85ebca6b));
    const random = this.#random;
    const what = random.below(1000);
    if (what < 180) this.#open();
    else if (what < 780) this.#goOn();
    else if (what < 810) this.#echo();
    else if (what < 859) this.#fragments();
    else if (what < 860) {
      if (random.oneIn(4)) this.#flood();
    } else if (what < 910) this.#error();
    else if (what < 940) this.#stray();
    else if (what < 945) this.#forge();
    else if (what < 965) this.#changeSlice(random.pick(SERVICES));
    else if (what < 970) this.#changeService(random.pick(SERVICES));
    else if (what < 972) this.#removeService(random.pick(SERVICES));
    else if (what < 974) this.#setAlive(random.pick([...NODE_NAMES, "k"]), random.oneIn(2));
    else this.#pass(random.pick([1000, 3000, 5000, 5000, 11_000, 31_000, 61_000, 121_000, 301_000]));
    this.#pass(STEP_MS);
    this.totals.steps++;
    this.#compareFlows(n % 256 === 0);
  }

  #pass(ms: number): void {
    this.#now += ms;
    const late = this.cluster.pass(ms);
    for (const name of NODE_NAMES) {
      const wanted = this.#references[name].pass(ms);
      if (late[name] !== wanted)
        throw new Error(`node ${name} gave up ${late[name]} fragments instead of ${wanted}`);
      if (wanted > 0) this.#countDrops("fragmentOrphan", wanted);
    }
  }

  #countDrops(name: string, count: number): void {
    this.totals.dropped[name] = (this.totals.dropped[name] ?? 0) + count;
  }

  #compareFlows(all: boolean): void {
    for (const name of NODE_NAMES) {
      const { size } = this.cluster.nodes[name].test.flows;
      const reference = this.#references[name];
      if (size !== reference.size || all) {
        const [is, wanted] = [this.cluster.nodes[name].lines(), reference.lines()];
        const extra = is.filter((line) => !wanted.includes(line));
        const missing = wanted.filter((line) => !is.includes(line));
        if (extra.length + missing.length > 0 || size !== reference.size)
          throw new Error(
            `node ${name}: flows too many ${JSON.stringify(extra)}, missing ${JSON.stringify(missing)}`,
          );
      }
      if (size > FLOWS) this.#pass(2 * 86_400_000);
    }
  }

  // ---- the cluster's state --------------------------------------------------------------------

  #port(protocol: keyof typeof PROTOCOLS): { name: string; l4Port: number; target: number } {
    return {
      TCP: { name: "tcp", l4Port: 80, target: 8080 },
      UDP: { name: "udp", l4Port: 53, target: 5353 },
      SCTP: { name: "sctp", l4Port: 99, target: 9000 },
    }[protocol];
  }

  #changeService(name: (typeof SERVICES)[number]): void {
    const random = this.#random;
    const i = SERVICES.indexOf(name);
    const type = random.pick(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]);
    const policy = () => (random.oneIn(3) ? "Local" : "Cluster");
    const kept = (["TCP", "UDP", "SCTP"] as const).filter(() => !random.oneIn(4));
    const protocols = kept.length > 0 ? kept : (["TCP"] as const);
    const ports = protocols.map((protocol) => ({
      name: this.#port(protocol).name,
      protocol,
      port: this.#port(protocol).l4Port,
      ...(type !== "ClusterIP" && { nodePort: 30_000 + i }),
    }));
    const ranges = random.oneIn(6) ? [random.pick(["192.168.2.0/24", "10.1.0.0/16", "198.51.100.0/24"])] : [];
    const service: ServiceObject = {
      metadata: { name, namespace: "default" },
      spec: {
        type,
        clusterIP: `10.152.183.${10 + i}`,
        ports,
        externalIPs: random.oneIn(3) ? [`203.0.113.${1 + i}`] : [],
        internalTrafficPolicy: random.oneIn(5) ? "Local" : "Cluster",
        ...(type !== "ClusterIP" && { externalTrafficPolicy: policy() }),
        sessionAffinity: random.oneIn(3) ? "ClientIP" : "None",
        ...(random.oneIn(2) && {
          sessionAffinityConfig: { clientIP: { timeoutSeconds: random.pick([10, 60]) } },
        }),
        loadBalancerSourceRanges: ranges,
      },
      status: { loadBalancer: type === "LoadBalancer" ? { ingress: [{ ip: `192.168.2.${100 + i}` }] } : {} },
    };
    this.#services.services.set(name, service);
    const slice = this.#slice(name);
    this.#services.slices.set(name, slice);
    this.cluster.apply([service], [slice]);
    this.#changed();
  }

  #slice(name: (typeof SERVICES)[number]): EndpointSliceObject {
    const random = this.#random;
    const addresses = new Set(
      Array.from({ length: random.pick([0, 1, 1, 2, 3, 5]) }, () => random.pick(ENDPOINTS)),
    );
    const hints = random.oneIn(5);
    return {
      metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": name } },
      addressType: "IPv4",
      ports: (["TCP", "UDP", "SCTP"] as const).map((protocol) => ({
        name: this.#port(protocol).name,
        protocol,
        port: this.#port(protocol).target,
      })),
      endpoints: [...addresses].map((address) => {
        const pod = POD_NAMES.find((each) => PODS[each] === address);
        const node = pod?.[0] ?? (address === NODES.b.underlay ? "b" : undefined);
        const conditions = random.pick([
          { ready: true, serving: true, terminating: false },
          { ready: true, serving: true, terminating: false },
          { ready: true },
          { ready: false, serving: true, terminating: true },
          { ready: false, serving: false, terminating: true },
          { ready: true, serving: false, terminating: false },
        ]);
        return {
          addresses: [address],
          ...(node !== undefined && { nodeName: node }),
          conditions,
          ...(hints && {
            hints: {
              forZones: [{ name: random.pick(["east", "west"]) }],
              ...(random.oneIn(2) && { forNodes: [{ name: random.pick(NODE_NAMES) }] }),
            },
          }),
        };
      }),
    };
  }

  #changeSlice(name: (typeof SERVICES)[number]): void {
    const slice = this.#slice(name);
    this.#services.slices.set(name, slice);
    this.cluster.apply([], [slice]);
    this.#changed();
  }

  #setAlive(name: NodeName | "k", alive: boolean): void {
    if (alive) this.#services.dead.delete(name);
    else this.#services.dead.add(name);
    this.cluster.setAlive(name, alive);
    this.totals.changes++;
  }

  #removeService(name: (typeof SERVICES)[number]): void {
    this.#services.services.delete(name);
    this.cluster.remove([name], []);
    this.#changed();
  }

  #changed(): void {
    this.totals.changes++;
    for (const { identity, backend } of this.#services.update())
      for (const name of NODE_NAMES) this.#references[name].clear(identity, backend);
    for (const name of NODE_NAMES) this.#references[name].clearStale();
    // A UDP flow may be another's from now on.
    for (const connection of this.#connections)
      if (connection.protocol !== TCP && connection.protocol !== SCTP) connection.server = undefined;
  }

  // ---- who talks to whom ----------------------------------------------------------------------

  #client(): Client {
    const random = this.#random;
    const by = random.pick(NODE_NAMES);
    const kind = random.below(10);
    if (kind < 5) {
      const pod = random.pick(POD_NAMES);
      return { at: pod, address: PODS[pod], by };
    }
    if (kind < 7) return { at: by, address: random.oneIn(2) ? NODES[by].tunnel : NODES[by].underlay, by };
    return { at: "lan", address: PC, by };
  }

  #target(client: Client, protocol: keyof typeof PROTOCOLS): [string, number] {
    const random = this.#random;
    const i = random.below(SERVICES.length);
    const { l4Port, target } = this.#port(protocol);
    const other = random.oneIn(20) ? 1 : 0;
    const kind = random.below(20);
    if (kind < 7) return [`10.152.183.${10 + i}`, l4Port + other];
    if (kind < 11) return [`192.168.2.${100 + i}`, l4Port + other];
    if (kind < 12) return [`203.0.113.${1 + i}`, l4Port];
    if (kind < 16) {
      // A machine of the LAN comes in by the node whose address it asks.
      const node = client.at === "lan" ? client.by : random.pick(NODE_NAMES);
      const overLan = client.at in NODES && client.at !== node;
      // Over the LAN a node goes with its LAN address.
      if (overLan) client.address = NODES[client.at as NodeName].underlay;
      return [NODES[node].underlay, 30_000 + i + 10 * other];
    }
    if (kind < 18 || client.at === "lan" || client.at in NODES) return [PODS[random.pick(POD_NAMES)], target];
    if (kind < 19) return [NODES[random.pick(NODE_NAMES)].underlay, 10_250];
    return [random.pick(OUTSIDE), 443];
  }

  #send(client: Client, packet: Uint8Array): Journey {
    this.totals.packets++;
    const { at } = client;
    const journey =
      at === "lan"
        ? this.cluster.fromLan(client.by, packet)
        : at in PODS
          ? this.cluster.fromPod(at as PodName, packet)
          : this.cluster.fromNode(at as NodeName, packet);
    this.totals.arrived += journey.arrivals.length;
    return journey;
  }

  #answer(arrival: Arrival, packet: Uint8Array): Journey {
    this.totals.packets++;
    const journey = this.cluster.fromArrival(arrival, packet);
    this.totals.arrived += journey.arrivals.length;
    return journey;
  }

  #identityOf(client: Client, protocol: number, ends: Ends): ServicePortIdentity | undefined {
    const { destination, destinationPort } = ends;
    const at = NODE_NAMES.map((name) => NODES[name].underlay).includes(destination)
      ? destination
      : NODES[client.by].underlay;
    return this.#services.find(destination, protocol, destinationPort, at)?.identity;
  }

  // ---- connections ----------------------------------------------------------------------------

  #open(): void {
    const random = this.#random;
    const name = random.pick(["TCP", "TCP", "TCP", "UDP", "UDP", "SCTP"] as const);
    const client = this.#client();
    const [destination, destinationPort] = this.#target(client, name);
    const protocol = PROTOCOLS[name];
    const own = client.address === destination && client.at !== "lan";
    if (own && client.at in PODS) return;
    // Few ports, so that tuples meet; a range for each protocol and each way to a pod without a Service.
    const direct = POD_NAMES.some((pod) => PODS[pod] === destination) && name !== "TCP";
    // Without connections, a node's two addresses are told apart by nothing.
    const lan = client.at in NODES && client.address === NODES[client.at as NodeName].underlay;
    const sourcePort = (direct ? (lan ? 55_000 : 50_000) : 40_000) + random.below(12);
    const ends = { source: client.address, destination, sourcePort, destinationPort };
    this.#connections = this.#connections.filter(
      (each) => each.protocol !== protocol || !equal(each.ends, ends),
    );
    if (this.#connections.length >= MOST) this.#connections.splice(random.below(MOST), 1);
    this.#isn += 1000;
    const connection: Connection = {
      protocol,
      client,
      ends,
      server: undefined,
      answered: false,
      closed: false,
      moved: false,
      next: [this.#isn, this.#isn + 500],
      seen: [0, 0],
      last: this.#now,
      stage: 0,
    };
    this.#connections.push(connection);
    this.#fromClient(connection, this.#packet(connection, 0, "open"));
  }

  #goOn(): void {
    const random = this.#random;
    if (this.#connections.length === 0) return;
    const connection = random.pick(this.#connections);
    if (
      connection.client.at === "lan" &&
      random.oneIn(60) &&
      !Object.values(NODES).some(({ underlay }) => underlay === connection.ends.destination)
    ) {
      connection.client = { ...connection.client, by: random.pick(NODE_NAMES) };
      connection.moved = true;
    }
    const what = random.below(100);
    const kind =
      what < 78 ? "next" : what < 84 ? "again" : what < 92 ? "wild" : what < 97 ? "close" : "reset";
    if (random.oneIn(2) && connection.server !== undefined)
      this.#fromServer(connection, this.#packet(connection, 1, kind));
    else this.#fromClient(connection, this.#packet(connection, 0, kind));
  }

  /** A packet of a connection; ends are put in by who sends. */
  #packet(
    connection: Connection,
    side: 0 | 1,
    kind: "open" | "next" | "again" | "wild" | "close" | "reset",
  ): (ends: Ends) => Uint8Array {
    const random = this.#random;
    const ttl = random.oneIn(40) ? random.between(1, 3) : 64;
    const payload = counting(random.below(40), random.below(200));
    const { protocol } = connection;
    if (protocol === UDP)
      return (ends) => udpPacket({ ...ends, ttl, ...(random.oneIn(10) && { l4Checksum: 0 }) }, payload);
    if (protocol === SCTP) return this.#sctp(connection, side, kind, ttl);
    const { next, seen } = connection;
    const other = (1 - side) as 0 | 1;
    const sequence = next[side];
    const opening = side === 0 ? kind === "open" || !connection.answered : !connection.answered;
    let flags = ACK;
    let data: Uint8Array = NOTHING;
    let advance = 0;
    let shift = 0;
    if (kind === "reset") {
      flags = random.oneIn(2) ? RST : RST | ACK;
      connection.closed = true;
    } else if (kind === "wild") {
      shift = 1 << 30;
      // In a handshake the number of a reset is not looked at.
      flags = random.pick([ACK, ACK | PSH, opening ? ACK : RST | ACK, ACK | FIN]);
      data = (flags & RST) === 0 ? payload : NOTHING;
    } else if (opening) {
      flags = side === 0 ? SYN : SYN | ACK;
      advance = 1;
    } else if (kind === "close") {
      flags = FIN | ACK;
      advance = 1;
      connection.closed = true;
    } else {
      flags = ACK | PSH;
      data = payload;
      advance = kind === "next" ? data.length : 0;
    }
    const fields = {
      ttl,
      flags,
      sequence: sequence + shift,
      acknowledgement: (flags & ACK) === 0 ? 0 : seen[side],
      window: 8000,
    };
    // The other side has it when it arrives; till then it is sent again.
    this.#pending = { connection, side, advance, opening: (flags & SYN) !== 0 };
    if (side === 0 && kind === "open") seen[other] = 0;
    return (ends) => tcpPacket({ ...ends, ...fields }, data);
  }

  #pending: { connection: Connection; side: 0 | 1; advance: number; opening: boolean } | undefined;

  /** What was sent last has arrived. */
  #arrived(): void {
    if (this.#pending === undefined) return;
    const { connection, side, advance, opening } = this.#pending;
    const end = connection.next[side] + advance;
    connection.seen[1 - side] = Math.max(connection.seen[1 - side]!, end);
    // A SYN that is sent again has the same number.
    if (!opening) connection.next[side] = end;
    else if (side === 1) {
      connection.next = [connection.next[0] + 1, end];
      connection.answered = true;
    }
  }

  #sctp(connection: Connection, side: 0 | 1, kind: string, ttl: number): (ends: Ends) => Uint8Array {
    const random = this.#random;
    const tags = [connection.next[0] + 7, connection.next[1] + 9];
    const verificationTag = tags[1 - side]!;
    if (kind === "wild")
      return (ends) =>
        sctpPacket(
          { ...ends, ttl, chunk: random.pick([SCTP_ABORT, SCTP_DATA]), verificationTag: 3 },
          counting(8),
        );
    if (kind === "reset")
      return (ends) => sctpPacket({ ...ends, ttl, chunk: SCTP_ABORT, verificationTag }, NOTHING);
    if (kind === "close") {
      const chunk = random.pick([SCTP_SHUTDOWN, SCTP_SHUTDOWN_ACK, SCTP_SHUTDOWN_COMPLETE]);
      return (ends) => sctpPacket({ ...ends, ttl, chunk, verificationTag }, counting(4));
    }
    const handshake = [
      [SCTP_INIT, SCTP_INIT_ACK],
      [SCTP_COOKIE_ECHO, SCTP_COOKIE_ACK],
      [SCTP_DATA, SCTP_DATA],
    ];
    const chunk = handshake[Math.min(connection.stage, 2)]![side]!;
    if (side === 1) connection.stage++;
    if (chunk === SCTP_INIT)
      return (ends) => sctpPacket({ ...ends, ttl, chunk, initiateTag: tags[0]! }, NOTHING);
    if (chunk === SCTP_INIT_ACK)
      return (ends) => sctpPacket({ ...ends, ttl, chunk, initiateTag: tags[1]!, verificationTag }, NOTHING);
    return (ends) => sctpPacket({ ...ends, ttl, chunk, verificationTag }, counting(20));
  }

  /** Whether the flows of a connection must still be there, wherever it goes through. */
  #lives(connection: Connection): boolean {
    const { protocol, answered, closed, moved, last } = connection;
    const idle = this.#now - last;
    if (closed || moved) return false;
    if (protocol === TCP) return idle < (answered ? 50_000 : 8000);
    return idle < (protocol === UDP ? 25_000 : 2000);
  }

  #fromClient(connection: Connection, make: (ends: Ends) => Uint8Array): void {
    const { client, ends, server } = connection;
    const lives = this.#lives(connection);
    const packet = make(ends);
    const { arrivals } = this.#send(client, packet);
    const arrival = arrivals[0];
    if (arrival === undefined) {
      this.#pending = undefined;
      return;
    }
    const seen = parsePacket(arrival.packet.bytes);
    if (arrivals.length !== 1) throw new Error(`${arrivals.length} packets of one`);
    // A refusal, or an error of a router.
    if (seen.icmp !== null || seen.protocol !== connection.protocol || this.#isReset(seen, connection)) {
      if (arrival.at !== client.at) throw new Error(`a refusal for ${client.at} went to ${arrival.at}`);
      this.#pending = undefined;
      return;
    }
    // A node has no route to podwire0 for an address that is no Service's any more.
    const withdrawn = client.at in NODES && !this.#services.isServiceAddress(ends.destination);
    if (withdrawn && arrival.at === "lan") connection.moved = true;
    else this.#checkArrival(connection, arrival, seen, lives);
    this.#arrived();
    this.#pending = undefined;
    // What has no flow any more may go on, taken up in mid-stream, or find none: nothing is sure of it.
    if ((lives && prolongs(seen)) || beginsFlow(seen)) connection.last = this.#now;
    // No flow holds what goes to a node's own program, or from a node to the LAN, when a Service takes
    // the address and port.
    const untouched =
      arrival.at === "lan" ? equal(ends, endsOf(seen)) : seen.destination === ends.destination;
    if (!(arrival.at in PODS) && untouched) connection.moved = true;
    const same = server !== undefined && server.arrival.at === arrival.at && equal(server.ends, endsOf(seen));
    if (!same) connection.server = { arrival, ends: endsOf(seen) };
  }

  #isReset(seen: Parsed, { ends }: Connection): boolean {
    return seen.tcp !== null && (seen.tcp.flags & RST) !== 0 && equal(endsOf(seen), turned(ends));
  }

  #checkArrival(connection: Connection, arrival: Arrival, seen: Parsed, lives: boolean): void {
    const { client, ends, server, protocol } = connection;
    const what = `connection ${ends.source}:${ends.sourcePort} → ${ends.destination}:${ends.destinationPort} (${protocol})`;
    if (
      lives &&
      server !== undefined &&
      (server.arrival.at !== arrival.at || !equal(server.ends, endsOf(seen)))
    )
      throw new Error(`${what} moved from ${server.arrival.at} to ${arrival.at}`);
    // The client's address is kept towards pods of podwire's nodes, but for what went out of the cluster.
    const otherNode =
      NODE_NAMES.some((name) => NODES[name].underlay === ends.destination) && client.at !== "lan";
    const kept =
      arrival.at in PODS &&
      arrival.at !== "k1" &&
      arrival.at !== client.at &&
      !otherNode &&
      !NODE_NAMES.some((name) => NODES[name].underlay === client.address);
    if (kept && seen.source !== client.address) throw new Error(`${what}: ${arrival.at} sees ${seen.source}`);
    // A UDP flow goes to an endpoint that serves, as long as the Service that it began with is there.
    const identity = this.#identityOf(client, protocol, ends);
    const began = NODE_NAMES.map((name) => this.#references[name].identityOf({ ...ends, protocol, tag: 0 }));
    if (protocol === UDP && identity !== undefined && began.includes(identity)) {
      const backend = `${seen.destination}:${seen.destinationPort}`;
      if (!identity.serving.has(backend)) throw new Error(`${what} goes to ${backend}, which is gone`);
    }
  }

  #fromServer(connection: Connection, make: (ends: Ends) => Uint8Array): void {
    const { server, client, ends } = connection;
    const lives = this.#lives(connection);
    const packet = make(turned(server!.ends));
    const { arrivals, hops } = this.#answer(server!.arrival, packet);
    const arrival = arrivals[0];
    const what = `answer of ${server!.arrival.at} to ${ends.source}:${ends.sourcePort} → ${ends.destination}:${ends.destinationPort}`;
    const pending = this.#pending;
    this.#pending = undefined;
    if (arrival === undefined) {
      const dropped = hops.at(-1)?.dropped ?? [];
      if (lives && !dropped.includes("ttlExceeded")) throw new Error(`${what} was dropped: ${dropped}`);
      return;
    }
    const seen = parsePacket(arrival.packet.bytes);
    if (seen.icmp !== null) return;
    if (lives && (arrival.at !== client.at || !equal(endsOf(seen), turned(ends))))
      throw new Error(`${what} came to ${arrival.at} as ${JSON.stringify(endsOf(seen))}`);
    if (arrival.at !== client.at || !equal(endsOf(seen), turned(ends))) return;
    this.#pending = pending;
    this.#arrived();
    this.#pending = undefined;
    if (lives && prolongs(seen)) connection.last = this.#now;
  }

  // ---- other packets --------------------------------------------------------------------------

  #echo(): void {
    const random = this.#random;
    const client = this.#client();
    const destination = random.pick([
      ...POD_NAMES.map((pod) => PODS[pod]),
      `10.152.183.${10 + random.below(5)}`,
      OUTSIDE[0],
    ]);
    if (destination === client.address || (!(client.at in PODS) && destination === OUTSIDE[0])) return;
    const rest = (random.between(1, 4) << 16) | 1;
    const [arrival] = this.#send(
      client,
      icmpPacket({ source: client.address, destination, type: 8, rest }, counting(24)),
    ).arrivals;
    if (arrival === undefined || arrival.packet.l4[0] !== 8) return;
    const { source, destination: asked, l4 } = arrival.packet;
    const id = (l4[4]! << 24) | (l4[5]! << 16) | 1;
    const [back] = this.#answer(
      arrival,
      icmpPacket({ source: asked, destination: source, type: 0, rest: id }, counting(24)),
    ).arrivals;
    const right =
      back?.at === client.at &&
      back.packet.source === destination &&
      back.packet.l4[5] === ((rest >> 16) & 255);
    if (!right)
      throw new Error(
        `echo reply of ${destination} to ${client.address} came to ${back?.at} from ${back?.packet.source}`,
      );
  }

  /**
   * A datagram, a ping or an ICMP error in fragments, in any order, of which some may not come; between them time
   * passes and Services change.
   */
  #fragments(): void {
    const random = this.#random;
    const whole = this.#large();
    if (whole === undefined) return;
    const [sends, packet] = whole;
    const parts = fragmentsOf(packet, 20 + random.pick([48, 104, 120]));
    const order = random.below(3);
    if (order === 0) parts.reverse();
    else if (order === 1) parts.push(...parts.splice(random.below(parts.length), 1));
    const losing = random.oneIn(3);
    for (const part of parts) {
      if (losing && random.oneIn(4)) continue;
      if (random.oneIn(12)) this.#changeSlice(random.pick(SERVICES));
      if (random.oneIn(60)) this.#changeService(random.pick(SERVICES));
      if (random.oneIn(60)) this.#removeService(random.pick(SERVICES));
      if (random.oneIn(12)) this.#pass(random.pick([1000, 29_000, 31_000]));
      sends(part);
    }
  }

  /** Something to fragment, and who sends it. */
  #large(): [(packet: Uint8Array) => Journey, Uint8Array] | undefined {
    const random = this.#random;
    // Few identifications, so that they come again within the time that fragments are waited for.
    const id = random.oneIn(3) ? random.below(3) : random.below(1 << 16);
    if (random.oneIn(6)) {
      const client = this.#client();
      const destination = random.pick([...POD_NAMES.map((pod) => PODS[pod]), OUTSIDE[0], "10.152.183.11"]);
      if (destination === client.address || (!(client.at in PODS) && destination === OUTSIDE[0])) return;
      const rest = (random.between(1, 4) << 16) | 1;
      const ask = icmpPacket({ source: client.address, destination, type: 8, rest, id }, counting(200));
      return [(packet) => this.#send(client, packet), ask];
    }
    if (random.oneIn(6)) {
      const connection = this.#reached();
      if (connection === undefined) return;
      const { arrival } = connection.server!;
      return [(packet) => this.#answer(arrival, packet), this.#errorAbout(connection, 200, id)];
    }
    const name = random.pick([UDP, UDP, UDP, SCTP]);
    const some = this.#connections.filter(({ protocol }) => protocol === name);
    if (some.length === 0) return;
    const { client, ends, server } = random.pick(some);
    const packet = (of: Ends) =>
      name === UDP
        ? udpPacket({ ...of, id }, counting(200))
        : sctpPacket({ ...of, id, chunk: SCTP_DATA, verificationTag: 1 }, counting(200));
    if (server === undefined || random.oneIn(2)) return [(part) => this.#send(client, part), packet(ends)];
    return [(part) => this.#answer(server.arrival, part), packet(turned(server.ends))];
  }

  /** Later fragments of packets whose first one does not come: more than may wait, by number or bytes. */
  #flood(): void {
    const random = this.#random;
    const client = this.#client();
    const destination = random.pick([OUTSIDE[1], "10.152.183.12", PODS.b1]);
    if (!(client.at in PODS) && destination === OUTSIDE[1]) return;
    const packets = random.between(1, 40);
    const bytes = random.pick([8, 8, 8, 200, 1400, 1400]);
    const count = bytes === 1400 ? random.between(600, 900) : random.between(1000, 1200);
    const way = { source: client.address, destination, protocol: UDP };
    for (let n = 0; n < count; n++) {
      const fragment = 0x2000 | (1 + random.below(200));
      this.#send(client, ipv4({ ...way, id: random.below(packets), fragment }, counting(bytes)));
    }
  }

  /** An ICMP error about what arrived at a server, or about what a server answered. */
  #error(): void {
    const random = this.#random;
    const connection = this.#reached();
    if (connection === undefined) return;
    const { client, ends, server } = connection;
    const lives = this.#lives(connection);
    const fragmented = random.oneIn(3);
    const error = this.#errorAbout(connection, fragmented ? 120 : 0, random.below(1 << 16));
    const parts = fragmented ? fragmentsOf(error, 68) : [error];
    if (random.oneIn(2)) parts.reverse();
    const arrivals = parts.flatMap((part) => this.#answer(server!.arrival, part).arrivals);
    if (!lives) return;
    const at = [...new Set(arrivals.map((arrival) => arrival.at))].join();
    const back = arrivals.length === 0 ? null : reassembled(arrivals.map(({ packet }) => packet));
    const quoted = back === null ? null : parsePacket(back.bytes).icmp?.quoted;
    if (at !== client.at || !quoted || !equal(endsOf(quoted), ends) || !l4ChecksumOk(back!))
      throw new Error(
        `an error for ${client.at} about ${JSON.stringify(ends)} came to ${at} about ${JSON.stringify(quoted && endsOf(quoted))}`,
      );
  }

  /** A connection of which a server has heard. */
  #reached(): Connection | undefined {
    const reached = this.#connections.filter(({ server }) => server !== undefined);
    return reached.length === 0 ? undefined : this.#random.pick(reached);
  }

  /** An ICMP error about what arrived at a connection's server, with `more` bytes behind the quoted headers. */
  #errorAbout({ server }: Connection, more: number, id: number): Uint8Array {
    const random = this.#random;
    const { arrival, ends: seen } = server!;
    const cause = arrival.packet.bytes.subarray(0, 20 + random.pick([8, 20]));
    const [type, code] = random.pick([
      [3, 3],
      [3, 4],
      [11, 0],
    ] as const);
    return icmpPacket(
      { source: seen.destination, destination: seen.source, type, code, id },
      concat(cause, counting(more)),
    );
  }

  /** A segment of no connection. */
  #stray(): void {
    const random = this.#random;
    const client = this.#client();
    const [destination, destinationPort] = this.#target(client, "TCP");
    if (destination === client.address) return;
    const ends = {
      source: client.address,
      destination,
      sourcePort: 41_000 + random.below(500),
      destinationPort,
    };
    const flags = random.pick([ACK, ACK | PSH, FIN | ACK, RST, RST | ACK, SYN | ACK, FIN, SYN | FIN]);
    this.#send(client, tcpPacket({ ...ends, flags }, counting(3)));
  }

  /** A pod with another's address. */
  #forge(): void {
    const random = this.#random;
    const [pod, other] = [random.pick(POD_NAMES), random.pick(POD_NAMES)];
    const source = random.oneIn(2) ? PODS[other] : random.pick([PC, NODES.a.tunnel, "10.152.183.10"]);
    const packet = random.oneIn(2)
      ? udpPacket({ source, destination: "10.152.183.11", destinationPort: 53 }, counting(5))
      : icmpPacket({ source, destination: PODS.c1, type: 8, rest: 1 << 20 }, counting(5));
    if (PODS[pod] === source) return;
    const { arrivals } = this.#send({ at: pod, address: source, by: "a" }, packet);
    if (arrivals.length > 0) throw new Error(`a forged source ${source} came through`);
  }
}

/** Runs `steps` (default: 0 … count - 1) under a seed. Throws Error with the step on the first disagreement. */
function run(
  seed: number,
  steps: Iterable<number>,
  progress: (totals: ModelTotals) => void = () => {},
  prepare: (cluster: SimulatedCluster) => void = () => {},
): ModelTotals {
  const world = new Run(seed);
  prepare(world.cluster);
  for (const n of steps) {
    try {
      world.step(n);
    } catch (error) {
      throw Object.assign(
        new Error(`seed ${seed}, step ${n}: ${(error as Error).message}`, { cause: error }),
        { step: n },
      );
    }
    if (world.totals.steps % 1000 === 0) progress(world.totals);
  }
  return world.totals;
}

function* numbers(count: number): Generator<number> {
  for (let n = 0; n < count; n++) yield n;
}

/** Steps that are enough to fail, few of those up to the one that failed: halves, quarters … are left out. */
export function shrink(
  fails: (steps: readonly number[]) => boolean,
  all: readonly number[],
  tries: number,
): number[] {
  let steps = [...all];
  for (let size = steps.length >> 1; size >= 1; size >>= 1) {
    for (let at = 0; at < steps.length && tries > 0; ) {
      const fewer = [...steps.slice(0, at), ...steps.slice(at + size)];
      tries--;
      if (fails(fewer)) steps = fewer;
      else at += size;
    }
  }
  return steps;
}

const SHRINK_TRIES = 400;
/** What a run of this many steps is tried to be repeated from. */
const SHRINK_STEPS = 20_000;

/**
 * Runs `count` random steps under `seed`. Throws on the first disagreement, with the seed, the step, and
 * the fewest steps found that lead to one.
 */
export function runModel(seed: number, count: number, progress?: (totals: ModelTotals) => void): ModelTotals {
  try {
    return run(seed, numbers(count), progress);
  } catch (error) {
    const { step } = error as { step?: number };
    if (step === undefined || step > SHRINK_STEPS) throw error;
    let last = error as Error;
    const fails = (steps: readonly number[]) => {
      try {
        run(seed, steps);
        return false;
      } catch (other) {
        last = other as Error;
        return true;
      }
    };
    const steps = shrink(fails, [...numbers(step + 1)], SHRINK_TRIES);
    fails(steps);
    throw new Error(
      `${(error as Error).message}\nand with the steps ${steps.join(" ")} alone: ${last.message}`,
      { cause: last },
    );
  }
}

/** Runs `count` random steps under `seed`, with something to be done to the cluster before. Throws as runModel. */
export function watchModel(
  seed: number,
  count: number,
  prepare: (cluster: SimulatedCluster) => void,
): ModelTotals {
  return run(seed, numbers(count), () => {}, prepare);
}

/** Repeats the given steps alone. */
export function repeatModel(seed: number, steps: readonly number[]): ModelTotals {
  return run(seed, steps);
}
