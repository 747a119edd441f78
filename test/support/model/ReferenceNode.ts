/**
 * One node as DESIGN §3 and §5 describe it: packets are objects, flows lie in a Map, everything else is
 * looked up in plain lists. It says what must become of each packet, and is held against what did.
 * What a node may choose freely, the source port of a flow whose tuple is taken and that of egress, it
 * takes from the node under test and checks that the choice is allowed.
 *
 * The order: sources, later fragments, ICMP errors, flows, new flows, routes, TTL. What the node's raw
 * sockets hear is the kernel's, unless it belongs to a flow or asks for a NodePort.
 */
import * as flowTag from "../../../src/wire/flowTag.js";
import { ACK, address, FIN, ICMP, RST, SYN, TCP, UDP } from "../frames.js";
import { type Parsed, parsePacket, SCTP } from "./packets.js";
import {
  type Affinities,
  contains,
  type ReferenceServices,
  type ServicePortIdentity,
} from "./referenceServices.js";
import { firstStateOf, newTrack, type Track, timeoutOf, track } from "./referenceTracking.js";
import {
  type Attachment,
  type Hop,
  KERNEL_NODE,
  type Leaving,
  NODE_NAMES,
  NODES,
  type NodeName,
  POOL,
  SERVICE_RANGE,
  sameBlock,
  ZONES,
} from "./SimulatedCluster.js";

export interface Tuple {
  protocol: number;
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  tag: number;
}

/** Where packets of a flow go: by the routes, to the node's kernel, or to the VTEP it came through. */
type Out = "route" | "node" | "ingress";

interface Flow {
  /** What packets of either direction look like when they arrive. */
  original: Tuple;
  reply: Tuple;
  out: [Out, Out];
  /** Leaves the cluster behind a port of the node's. */
  egress: boolean;
  ingress: Attachment | "";
  identity: ServicePortIdentity | undefined;
  backend: string;
  track: Track;
}

interface Found {
  flow: Flow;
  direction: 0 | 1;
}

/** Follows a flow, or, an ICMP error, the addresses that its first fragment got. */
type Decision = "pass" | "drop" | Found | { about: Found };

/** What the first fragment of a packet decides for all of it; or the hops of those that wait for it. */
interface Fragmented {
  key: string;
  since: number;
  decision: Decision | undefined;
  waiting: Set<Hop>;
}

/** What must become of a packet. */
interface Verdict {
  dropped: string;
  /** It waits for the first fragment: so many older ones have given way. */
  displaced?: number;
  reply?: { type: "reset" } | { type: "icmp"; icmpType: number; code: number };
  leaves?: {
    to: Attachment;
    tuple: Tuple;
    ttl: number;
    /** An ICMP error: the source and destination of what it quotes. */
    quoted?: Tuple | undefined;
  };
}

const FRAGMENT_MS = 30_000;
/** Fragments that wait, at most: how many, and their bytes; and the bytes of one packet's. */
const MOST_WAITING = 1024;
const MOST_BYTES = 1 << 20;
const PACKET_BYTES = 3 << 16;
/** Room that a fragment takes besides itself, at most: headers, and what rounding up adds. */
const OVERHEAD = 16 + 63;
const LONGEST = 66_000;
const EGRESS_PORTS = [61_000, 65_534] as const;
const OTHER_PORTS = [1024, 29_023] as const;
/** An egress port is not used again towards a destination before this many others. */
const REST = 500;

function keyOf(t: Tuple): string {
  return `${t.protocol} ${t.source}:${t.sourcePort} ${t.destination}:${t.destinationPort} ${t.tag}`;
}

function turned(t: Tuple): Tuple {
  return {
    ...t,
    source: t.destination,
    destination: t.source,
    sourcePort: t.destinationPort,
    destinationPort: t.sourcePort,
  };
}

const inPool = (wanted: string) => contains(POOL, wanted);

/** A packet that came, and what must become of it. */
interface Judged {
  hop: Hop;
  packet: Parsed;
  arrived: Tuple;
  verdict: Verdict;
}

/** The node under test's choice of the reply's tuple for a flow with this original one. */
export type PortOracle = (original: Tuple) => number | undefined;

export class ReferenceNode {
  now = 0;
  readonly #flows = new Map<string, Found>();
  readonly #affinities: Affinities = new Map();
  readonly #fragments = new Map<string, Fragmented>();
  /** Fragments that wait or have waited, as far back as the oldest that does. */
  #held: { packet: Fragmented; hop: Hop }[] = [];
  /** Fragments whose first one has just come. */
  #ready: Hop[] = [];
  /** Ports that were used lately, by destination. */
  readonly #egress = new Map<string, number[]>();

  constructor(
    readonly name: NodeName,
    readonly services: ReferenceServices,
    readonly oracle: PortOracle,
  ) {}

  get size(): number {
    return this.#flows.size / 2;
  }

  /** All flows, as lines that say everything about their tuples. */
  lines(): string[] {
    return [...this.#flows.values()]
      .filter(({ direction }) => direction === 0)
      .map(({ flow }) => `${keyOf(flow.original)} | ${keyOf(flow.reply)}`)
      .sort();
  }

  /** The service port with which the flow of a packet that arrives like this began. */
  identityOf(arrives: Tuple): ServicePortIdentity | undefined {
    const found = this.#flows.get(keyOf(arrives));
    return found?.direction === 0 ? found.flow.identity : undefined;
  }

  /** Time goes by. Returns how many fragments have waited too long. */
  pass(ms: number): number {
    this.now += ms;
    let late = 0;
    for (const packet of [...this.#fragments.values()])
      if (this.now - packet.since > FRAGMENT_MS) late += this.#giveUp(packet);
    for (const { flow } of [...this.#flows.values()])
      if (this.now - flow.track.seen > timeoutOf(flow.track)) this.#remove(flow);
    return late;
  }

  /** UDP flows of a service port to an endpoint that serves no longer. */
  clear(identity: ServicePortIdentity, backend: string): void {
    for (const { flow } of [...this.#flows.values()])
      if (flow.track.protocol === UDP && flow.identity === identity && flow.backend === backend)
        this.#remove(flow);
  }

  /** UDP flows that began before what they ask for became a Service's. */
  clearStale(): void {
    for (const { flow } of [...this.#flows.values()]) {
      const { protocol, destination, destinationPort } = flow.original;
      if (protocol !== UDP || flow.identity !== undefined) continue;
      if (this.services.find(destination, UDP, destinationPort, "") !== undefined) this.#remove(flow);
    }
  }

  /** Says what must become of a packet, and throws where the node under test did something else. */
  check(hop: Hop): void {
    this.#ready = [];
    const verdicts = [this.#judge(hop)];
    // What waited goes the whole way, behind the first fragment.
    for (const each of this.#ready) verdicts.push(this.#judge(each));
    const gone = verdicts.filter(({ verdict }) => verdict.displaced === undefined);
    const drops = gone.map(({ verdict }) => verdict.dropped).filter((name) => name !== "");
    const displaced = verdicts.reduce((sum, { verdict }) => sum + (verdict.displaced ?? 0), 0);
    expectSame(
      "drops",
      [...hop.dropped].sort(),
      [...drops, ...Array(displaced).fill("fragmentOrphan")].sort(),
    );
    expectSame("packets received", hop.received, gone.length + displaced);
    const leaving = gone.filter(({ verdict: { leaves, reply } }) => (leaves ?? reply) !== undefined);
    expectSame("packets that leave", hop.leaves.length, leaving.length);
    for (const [n, each] of leaving.entries()) compare(each, hop.leaves[n]!, NODES[this.name].tunnel);
  }

  #judge(hop: Hop): Judged {
    const packet = parsePacket(hop.packet);
    const arrived = tupleOf(packet, hop.tag);
    return { hop, packet, arrived, verdict: this.#decide(hop, packet, arrived) };
  }

  #remove(flow: Flow): void {
    this.#flows.delete(keyOf(flow.original));
    this.#flows.delete(keyOf(flow.reply));
  }

  #living({ flow }: Found): boolean {
    return this.#flows.get(keyOf(flow.original))?.flow === flow;
  }

  #decide(hop: Hop, packet: Parsed, arrived: Tuple): Verdict {
    const { from } = hop;
    const self = NODES[this.name];
    if (
      (from === "pod" && packet.source !== self.pod) ||
      (from === "other" && packet.source !== self.otherPod)
    )
      return { dropped: "forgedSource" };
    if (isVtep(from) && !belongsBehind(from, packet.source)) return { dropped: "vtepSource" };

    if (packet.later) return this.#later(hop, packet, arrived);
    if (packet.icmp !== null) return this.#icmpError(hop, packet, arrived);
    const found = this.#flows.get(keyOf(arrived));
    if (found !== undefined) {
      if (track(found.flow.track, packet, found.direction, this.now)) {
        // The ingress of a connection may move: replies follow.
        if (found.direction === 0 && isVtep(from) && from !== "k" && found.flow.out[1] === "ingress")
          found.flow.ingress = from;
        return this.#goes(hop, packet, arrived, found);
      }
      this.#remove(found.flow);
    }
    // Unless something begins with it.
    this.#note(hop, packet, "drop");
    return this.#begins(hop, packet, arrived);
  }

  // ---- fragments ------------------------------------------------------------------------------

  /** A first fragment decides; those that wait are next. */
  #note(hop: Hop, packet: Parsed, decision: Decision): void {
    if (!packet.fragmented) return;
    const key = fragmentKey(hop, packet);
    const known = this.#fragments.get(key);
    this.#ready.push(...(known?.waiting ?? []));
    known?.waiting.clear();
    this.#fragments.set(key, { key, since: this.now, decision, waiting: new Set() });
    this.#trim();
  }

  #later(hop: Hop, packet: Parsed, arrived: Tuple): Verdict {
    const key = fragmentKey(hop, packet);
    const known = this.#fragments.get(key);
    const pass = () => this.#routed(hop, packet, arrived, "route", "");
    if (known === undefined && this.#passesAlone(packet)) return pass();
    const { decision } = known ?? {};
    if (decision === undefined) return this.#wait(hop, key);
    if (decision === "pass") return pass();
    if (decision === "drop") return { dropped: "fragmentOrphan" };
    const found = "about" in decision ? decision.about : decision;
    if (!this.#living(found)) return { dropped: "fragmentOrphan" };
    return found === decision
      ? this.#goes(hop, packet, arrived, found)
      : this.#goesAbout(hop, packet, arrived, found);
  }

  /** Between pods, but not to one of ours, or the node, that may be a Service's client or seen with another address. */
  #passesAlone({ source, destination }: Parsed): boolean {
    if (!inPool(source) || !inPool(destination)) return false;
    const toUs = ["pod", "other", "node"].includes(this.#route(destination));
    return !toUs && !this.services.isServiceAddress(destination);
  }

  #wait(hop: Hop, key: string): Verdict {
    const others = this.#fragments.get(key)?.waiting ?? [];
    const bytes = [...others].reduce((sum, each) => sum + frameBytes(each), frameBytes(hop));
    if (bytes > PACKET_BYTES) return { dropped: "fragmentOrphan" };
    // When the oldest give way is the node's choice, within its bounds.
    const displaced = hop.dropped.length;
    for (let left = displaced; left > 0; ) {
      const room = this.#held.reduce((sum, each) => sum + frameBytes(each.hop) + OVERHEAD, 0);
      const [oldest] = this.#held;
      if (oldest === undefined || (this.#held.length < MOST_WAITING && room < MOST_BYTES - 2 * LONGEST))
        throw new Error(`${left} fragments given up with ${this.#held.length} that wait`);
      left -= this.#giveUp(oldest.packet);
      if (left < 0) throw new Error("a packet was given up in part");
    }
    const packet = this.#fragments.get(key) ?? {
      key,
      since: this.now,
      decision: undefined,
      waiting: new Set(),
    };
    this.#fragments.set(key, packet);
    packet.waiting.add(hop);
    this.#held.push({ packet, hop });
    const room = this.#held.reduce((sum, each) => sum + frameBytes(each.hop), 0);
    if (this.#held.length > MOST_WAITING || room > MOST_BYTES)
      throw new Error(`${this.#held.length} fragments wait, ${room} bytes`);
    return { dropped: "", displaced };
  }

  /** Forgets a packet. Returns how many fragments have waited in vain. */
  #giveUp(packet: Fragmented): number {
    const { size } = packet.waiting;
    this.#fragments.delete(packet.key);
    packet.waiting.clear();
    this.#trim();
    return size;
  }

  #trim(): void {
    const first = this.#held.findIndex(({ packet, hop }) => packet.waiting.has(hop));
    this.#held.splice(0, first < 0 ? this.#held.length : first);
  }

  // ---- new flows ------------------------------------------------------------------------------

  #begins(hop: Hop, packet: Parsed, arrived: Tuple): Verdict {
    const { from } = hop;
    const self = NODES[this.name];
    const { source, destination, protocol } = packet;
    const plain = () => this.#passes(hop, packet, arrived);
    if (isVtep(from)) {
      if (inPool(source) || !this.#isPodHere(destination)) return plain();
      return this.#insert(hop, packet, arrived, {
        to: destination,
        port: packet.destinationPort,
        replyOut: "ingress",
      });
    }
    const own = (each: string) => each === self.underlay || each === self.tunnel;
    const fromNode = from === "node" || from === "heard";
    const inside = !fromNode || own(source) || inPool(source);
    const replyOut = fromNode ? "node" : "route";
    const asked =
      packet.destinationPort === 0
        ? undefined
        : this.services.find(destination, protocol, packet.destinationPort, self.underlay);
    if (from === "heard" && (asked === undefined || protocol !== UDP)) return { dropped: "notOurs" };
    if (asked !== undefined) {
      const client = { address: source, port: packet.sourcePort, protocol };
      const node = {
        name: this.name,
        zone: ZONES[this.name],
        affinities: this.#affinities,
        now: this.now,
      };
      const choice = this.services.choose(asked, client, inside, node);
      if ("refused" in choice) {
        if (choice.refused !== "noEndpoint") return { dropped: choice.refused };
        return { dropped: "noEndpoint", ...refusal(packet) };
      }
      const { backend } = choice;
      const service = { identity: asked.identity, backend: `${backend.address}:${backend.port}` };
      const target = { to: backend.address, port: backend.port, replyOut, ...service } as const;
      if (inPool(backend.address)) return this.#insert(hop, packet, arrived, target);
      if (own(backend.address) && !fromNode)
        return this.#insert(hop, packet, arrived, { ...target, out: "node", keepSource: true });
      return this.#insertEgress(hop, packet, arrived, target);
    }
    if (this.services.isServiceAddress(destination)) return { dropped: "noServicePort", ...refusal(packet) };
    if (!inPool(destination) && contains(SERVICE_RANGE, destination))
      return { dropped: "unallocatedClusterIp" };
    if (inPool(destination)) {
      const noted =
        !inside ||
        source === self.underlay ||
        (this.services.any && isOpening(packet)) ||
        (protocol === UDP && this.services.isUdpEndpointPort(packet.destinationPort));
      if (!noted) return plain();
      return this.#insert(hop, packet, arrived, { to: destination, port: packet.destinationPort, replyOut });
    }
    if (fromNode || own(destination)) return plain();
    if (protocol === TCP && !isOpening(packet)) return { dropped: "noFlow" };
    if (protocol === ICMP && !packet.asksEcho) return { dropped: "noFlow" };
    return this.#insertEgress(hop, packet, arrived, {
      to: destination,
      port: packet.destinationPort,
      replyOut: "route",
    });
  }

  /** A packet of no flow that is routed as it is. */
  #passes(hop: Hop, packet: Parsed, arrived: Tuple): Verdict {
    this.#note(hop, packet, "pass");
    return this.#routed(hop, packet, arrived, "route", "");
  }

  #insert(hop: Hop, packet: Parsed, arrived: Tuple, target: Target): Verdict {
    const source = target.keepSource ? packet.source : this.#sourceTowards(target.to, packet.source);
    const draft = this.#draft(hop, packet, arrived, target, source);
    if ("dropped" in draft) return draft;
    this.#replaceMoved(hop, draft, target.replyOut);
    if (this.#flows.has(keyOf(draft.reply))) {
      const port = this.oracle(draft.original);
      if (port === undefined) throw new Error("no other source port was found");
      draft.reply.destinationPort = port;
      if (port < OTHER_PORTS[0] || port > OTHER_PORTS[1] || this.#flows.has(keyOf(draft.reply)))
        throw new Error(`source port ${port} instead of a taken one`);
    }
    return this.#start(hop, packet, arrived, draft);
  }

  /** A connection from outside that came in by the LAN and comes by another node now, or the other way round. */
  #replaceMoved(hop: Hop, draft: Flow, replyOut: Out): void {
    const { original, reply } = draft;
    const other =
      replyOut === "ingress" ? this.#localForm(hop, draft) : replyOut === "node" && this.#tunnelForm(draft);
    if (!other) return;
    const over = other.track.state === "TIME_WAIT" || other.track.state === "CLOSE";
    if (!over || draft.track.state !== "SYN_SENT")
      draft.track = { ...other.track, created: this.now, seen: this.now };
    reply.destinationPort = other.reply.destinationPort;
    this.#remove(other);
    if (this.#flows.has(keyOf(original))) throw new Error("two flows of one connection");
  }

  #tunnelForm({ original, reply }: Flow): Flow | undefined {
    const { source, destination, destinationPort, protocol } = original;
    if (reply.destination !== source || reply.source === destination) return undefined;
    const tag = flowTag.of(address(destination), destinationPort, protocol);
    const arrives = { ...original, destination: reply.source, destinationPort: reply.sourcePort, tag };
    const found = this.#flows.get(keyOf(arrives));
    return found?.direction === 0 && found.flow.out[1] === "ingress" ? found.flow : undefined;
  }

  #localForm({ from, tag }: Hop, { original, reply }: Flow): Flow | undefined {
    const found = this.#flows.get(keyOf(reply));
    if (tag === 0 || from === "k" || found?.direction !== 1 || found.flow.out[1] !== "node") return undefined;
    const { source, sourcePort, destination, destinationPort, protocol } = found.flow.original;
    const same =
      source === original.source &&
      sourcePort === original.sourcePort &&
      flowTag.of(address(destination), destinationPort, protocol) === tag;
    return same ? found.flow : undefined;
  }

  #insertEgress(hop: Hop, packet: Parsed, arrived: Tuple, target: Target): Verdict {
    if (![TCP, UDP, SCTP, ICMP].includes(packet.protocol)) return { dropped: "egressProtocol" };
    const draft = this.#draft(hop, packet, arrived, { ...target, out: "node" }, NODES[this.name].underlay);
    if ("dropped" in draft) return draft;
    const port = this.oracle(draft.original);
    if (port === undefined) throw new Error("no egress port");
    draft.egress = true;
    draft.reply.destinationPort = port;
    const group = `${packet.protocol} ${target.to}:${target.port}`;
    const used = this.#egress.get(group) ?? [];
    if (port < EGRESS_PORTS[0] || port > EGRESS_PORTS[1]) throw new Error(`egress port ${port}`);
    if (this.#flows.has(keyOf(draft.reply)) || used.includes(port))
      throw new Error(`egress port ${port} again`);
    this.#egress.set(group, [...used, port].slice(-REST));
    return this.#start(hop, packet, arrived, draft);
  }

  /** A flow that is not yet in; or what becomes of a packet that cannot begin one. */
  #draft(hop: Hop, packet: Parsed, arrived: Tuple, target: Target, source: string): Flow | Verdict {
    const state = firstStateOf(packet);
    if (state === "") {
      if (target.identity !== undefined) return { dropped: "noFlow" };
      return this.#passes(hop, packet, arrived);
    }
    const { protocol, destination, destinationPort } = packet;
    const tagged = !inPool(source) && isVtep(this.#route(target.to));
    return {
      original: arrived,
      reply: {
        protocol,
        source: target.to,
        destination: source,
        sourcePort: target.port,
        destinationPort: packet.sourcePort,
        tag: tagged ? flowTag.of(address(destination), destinationPort, protocol) : 0,
      },
      out: [target.out ?? "route", target.replyOut],
      egress: false,
      ingress: target.replyOut === "ingress" && isVtep(hop.from) ? hop.from : "",
      identity: target.identity,
      backend: target.backend ?? "",
      track: newTrack(protocol, state, this.now),
    };
  }

  #start(hop: Hop, packet: Parsed, arrived: Tuple, flow: Flow): Verdict {
    this.#flows.set(keyOf(flow.original), { flow, direction: 0 });
    this.#flows.set(keyOf(flow.reply), { flow, direction: 1 });
    track(flow.track, packet, 0, this.now);
    return this.#goes(hop, packet, arrived, { flow, direction: 0 });
  }

  /** The source with which the reply comes back to us. */
  #sourceTowards(to: string, source: string): string {
    const self = NODES[this.name];
    if (to === source) return self.tunnel;
    if (inPool(source)) return source;
    const out = this.#route(to);
    if (!isVtep(out)) return source;
    const ofNode = [...NODE_NAMES.map((name) => NODES[name]), KERNEL_NODE].some(
      ({ underlay }) => underlay === source,
    );
    return ofNode || out === "k" ? self.tunnel : source;
  }

  // ---- flows ----------------------------------------------------------------------------------

  #goes(hop: Hop, packet: Parsed, arrived: Tuple, found: Found): Verdict {
    const { flow, direction } = found;
    const leaves = turned(direction === 0 ? flow.reply : flow.original);
    if (!packet.later) this.#note(hop, packet, found);
    if (
      packet.protocol === SCTP &&
      packet.fragmented &&
      !packet.later &&
      (leaves.sourcePort !== arrived.sourcePort || leaves.destinationPort !== arrived.destinationPort)
    ) {
      this.#note(hop, packet, "drop");
      return { dropped: "untranslatable" };
    }
    if (staysAtNode(hop, found)) return { dropped: "notOurs" };
    const tuple = packet.later ? { ...leaves, sourcePort: 0, destinationPort: 0 } : leaves;
    return this.#routed(hop, packet, tuple, flow.out[direction], flow.ingress);
  }

  #icmpError(hop: Hop, packet: Parsed, arrived: Tuple): Verdict {
    const { quoted } = packet.icmp!;
    const found =
      quoted === null || quoted.later
        ? undefined
        : this.#flows.get(keyOf(turned({ ...tupleOf(quoted, hop.tag) })));
    if (hop.from === "heard" && (found === undefined || staysAtNode(hop, found)))
      return { dropped: "notOurs" };
    this.#note(hop, packet, found === undefined ? "pass" : { about: found });
    if (found === undefined) {
      const verdict = this.#routed(hop, packet, arrived, "route", "");
      if (verdict.leaves !== undefined && quoted !== null) verdict.leaves.quoted = tupleOf(quoted, 0);
      return verdict;
    }
    const verdict = this.#goesAbout(hop, packet, arrived, found);
    if (verdict.leaves !== undefined) verdict.leaves.quoted = { ...cameAs(found), tag: 0 };
    return verdict;
  }

  /** An ICMP error about a packet of a flow, whole or in part. */
  #goesAbout(hop: Hop, packet: Parsed, arrived: Tuple, found: Found): Verdict {
    const { flow, direction } = found;
    const came = cameAs(found);
    const sent = turned(direction === 0 ? flow.original : flow.reply);
    const from = packet.source === sent.destination ? came.destination : packet.source;
    const tuple = { ...arrived, source: from, destination: came.source, tag: came.tag };
    return this.#routed(hop, packet, tuple, flow.out[direction], flow.ingress);
  }

  // ---- routes ---------------------------------------------------------------------------------

  #isPodHere(wanted: string): boolean {
    const { pod, otherPod } = NODES[this.name];
    return wanted === pod || wanted === otherPod;
  }

  #route(wanted: string): Attachment | "unreachable" | "" {
    const self = NODES[this.name];
    if (wanted === self.tunnel || wanted === self.underlay) return "node";
    if (wanted === self.pod) return "pod";
    if (wanted === self.otherPod) return "other";
    if (sameBlock(self.block, wanted)) return "unreachable";
    if (sameBlock(KERNEL_NODE.block, wanted)) return "k";
    return NODE_NAMES.find((name) => sameBlock(NODES[name].block, wanted)) ?? "";
  }

  #routed(hop: Hop, packet: Parsed, tuple: Tuple, out: Out, ingress: Attachment | ""): Verdict {
    const { from } = hop;
    const byRoute = this.#route(tuple.destination);
    const to = out === "node" ? "node" : out === "ingress" ? ingress : byRoute;
    if (to === "") return { dropped: "noRoute", ...icmpReply(packet, 3, 0) };
    if (to === "unreachable") return { dropped: "hostUnreachable", ...icmpReply(packet, 3, 1) };
    const back = out !== "route" || tuple.destination === NODES[this.name].underlay;
    if ((isVtep(from) && isVtep(to)) || (from === "node" && to === "node" && !back))
      return { dropped: "transit" };
    let { ttl } = packet;
    if (from === "heard" || (from !== "node" && to !== "node")) {
      if (ttl <= 1) return { dropped: "ttlExceeded", ...icmpReply(packet, 11, 0) };
      ttl--;
    }
    return { dropped: "", leaves: { to, tuple, ttl } };
  }
}

interface Target {
  to: string;
  port: number;
  out?: Out;
  replyOut: Out;
  keepSource?: boolean;
  identity?: ServicePortIdentity;
  backend?: string;
}

function isVtep(attachment: string): attachment is NodeName | "k" {
  return attachment !== "" && "abck".includes(attachment);
}

/** Whether the kernel would be given back what podwire0 gave it: a raw socket would hear it for ever. */
function staysAtNode({ from }: Hop, { flow, direction }: Found): boolean {
  return from === "heard" && flow.out[direction] === "node" && !flow.egress;
}

/** What an ICMP error is about left as this direction's key turned round, and came as the other one. */
function cameAs({ flow, direction }: Found): Tuple {
  return direction === 0 ? flow.reply : flow.original;
}

/** Bytes of the frame, from the VXLAN header on. */
function frameBytes({ from, packet }: Hop): number {
  return packet.length + (isVtep(from) ? 22 : 14);
}

function tupleOf(packet: Parsed, tag: number): Tuple {
  const { protocol, source, destination, sourcePort, destinationPort } = packet;
  return { protocol, source, destination, sourcePort, destinationPort, tag };
}

function fragmentKey({ from, tag }: Hop, { source, destination, protocol, id }: Parsed): string {
  return `${isVtep(from) ? `tunnel ${tag}` : from} ${source} ${destination} ${protocol} ${id}`;
}

function belongsBehind(vtep: Attachment, source: string): boolean {
  const nodes = { ...NODES, k: KERNEL_NODE } as Record<string, { block: string; underlay: string }>;
  if (inPool(source)) return sameBlock(nodes[vtep]!.block, source);
  return !Object.values(nodes).some(({ underlay }) => underlay === source);
}

function isOpening({ protocol, tcp }: Parsed): boolean {
  return protocol === TCP && (tcp!.flags & (SYN | ACK | RST)) === SYN;
}

function refusal(packet: Parsed): Pick<Verdict, "reply"> {
  if (packet.protocol !== TCP) return icmpReply(packet, 3, 3);
  return packet.fragmented || (packet.tcp!.flags & RST) !== 0 ? {} : { reply: { type: "reset" } };
}

/** No ICMP error about a later fragment or another error. */
function icmpReply(packet: Parsed, icmpType: number, code: number): Pick<Verdict, "reply"> {
  return packet.later || packet.icmp !== null ? {} : { reply: { type: "icmp", icmpType, code } };
}

// ---- comparing ----------------------------------------------------------------------------------

function compare({ verdict, hop, packet, arrived }: Judged, out: Leaving, tunnel: string): void {
  const { leaves, reply } = verdict;
  if (leaves !== undefined) {
    const left = parsePacket(out.packet.bytes);
    expectSame("way", out.to, leaves.to);
    // Nothing but the tunnel between podwire nodes carries tags.
    const tuple = { ...leaves.tuple, tag: isVtep(leaves.to) ? leaves.tuple.tag : 0 };
    expectSame("tuple", tupleOf(left, out.tag), tuple);
    expectSame("TTL, id", [left.ttl, left.id], [leaves.ttl, packet.id]);
    expectSame("UDP without checksum", left.unchecked, packet.unchecked);
    expectSame("TCP", left.tcp, packet.tcp);
    expectSame("SCTP", left.sctp, packet.sctp);
    if (packet.icmp === null) expectBytes(left.payload, packet.payload);
    else if (leaves.quoted !== undefined)
      expectSame("quotation", tupleOf(left.icmp!.quoted!, 0), leaves.quoted);
  } else if (reply !== undefined) compareReply(reply, out, hop, packet, arrived, tunnel);
}

function compareReply(
  reply: NonNullable<Verdict["reply"]>,
  out: Leaving,
  hop: Hop,
  packet: Parsed,
  arrived: Tuple,
  tunnel: string,
): void {
  const left = parsePacket(out.packet.bytes);
  expectSame(
    "way of the reply",
    [out.to, out.tag],
    [hop.from === "heard" ? "node" : hop.from, isVtep(hop.from) ? hop.tag : 0],
  );
  if (reply.type === "reset") {
    expectSame("reset", tupleOf(left, hop.tag), turned(arrived));
    const { flags, sequence, acknowledgement, length } = packet.tcp!;
    const end = sequence + length + ((flags & SYN) !== 0 ? 1 : 0) + ((flags & FIN) !== 0 ? 1 : 0);
    const numbers = (flags & ACK) !== 0 ? [RST, acknowledgement, 0] : [RST | ACK, 0, end];
    expectSame("reset's numbers", [left.tcp!.flags, left.tcp!.sequence, left.tcp!.acknowledgement], numbers);
  } else {
    expectSame(
      "ICMP error",
      [left.protocol, left.icmp!.type, left.icmp!.code, left.source, left.destination],
      [ICMP, reply.icmpType, reply.code, tunnel, arrived.source],
    );
    // As its sender sent it, and no further.
    expectBytes(out.packet.l4.subarray(8), hop.packet.subarray(0, 548), [8, 10, 11]);
  }
}

function expectSame(what: string, is: unknown, wanted: unknown): void {
  const [a, b] = [JSON.stringify(is), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a} instead of ${b}`);
}

/** `changed`: places that a router may change. */
function expectBytes(is: Uint8Array, wanted: Uint8Array, changed: readonly number[] = []): void {
  const same =
    is.length === wanted.length && is.every((byte, i) => byte === wanted[i] || changed.includes(i));
  if (!same)
    throw new Error(
      `payload ${Buffer.from(is).toString("hex")} instead of ${Buffer.from(wanted).toString("hex")}`,
    );
}
