/**
 * One node as DESIGN §3 and §5 describe it: packets are objects, flows lie in a Map, everything else is
 * looked up in plain lists. It says what must become of each packet, and is held against what did.
 * What a node may choose freely, the source port of a flow whose tuple is taken and that of egress, it
 * takes from the node under test and checks that the choice is allowed.
 *
 * The order: sources, later fragments, ICMP errors, flows, new flows, routes, TTL.
 */
import * as flowTag from "../../../src/wire/flowTag.js";
import { ACK, address, FIN, ICMP, RST, SYN, TCP, UDP } from "../frames.js";
import { type Parsed, parsePacket, SCTP } from "./packets.js";
import { contains, type ReferenceServices, type ServicePortIdentity } from "./referenceServices.js";
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
  ingress: Attachment | "";
  identity: ServicePortIdentity | undefined;
  backend: string;
  track: Track;
}

interface Found {
  flow: Flow;
  direction: 0 | 1;
}

/** What must become of a packet. */
interface Verdict {
  dropped: string;
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

/** The node under test's choice of the reply's tuple for a flow with this original one. */
export type PortOracle = (original: Tuple) => number | undefined;

export class ReferenceNode {
  now = 0;
  readonly #flows = new Map<string, Found>();
  readonly #fragments = new Map<string, Found & { since: number }>();
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

  pass(ms: number): void {
    this.now += ms;
    for (const { flow } of [...this.#flows.values()])
      if (this.now - flow.track.seen > timeoutOf(flow.track)) this.#remove(flow);
  }

  /** UDP flows of a service port to an endpoint that serves no longer. */
  clear(identity: ServicePortIdentity, backend: string): void {
    for (const { flow } of [...this.#flows.values()])
      if (flow.track.protocol === UDP && flow.identity === identity && flow.backend === backend)
        this.#remove(flow);
  }

  /** Says what must become of a packet, and throws where the node under test did something else. */
  check(hop: Hop): void {
    const packet = parsePacket(hop.packet);
    const arrived = tupleOf(packet, hop.tag);
    compare(this.#decide(hop, packet, arrived), hop, packet, arrived, NODES[this.name].tunnel);
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

    if (packet.later) {
      const found = this.#fragments.get(fragmentKey(hop, packet));
      if (found !== undefined && this.now - found.since <= FRAGMENT_MS && this.#living(found))
        return this.#goes(hop, packet, arrived, found);
      const plain = inPool(packet.source) && inPool(packet.destination);
      return plain && !this.services.isServiceAddress(packet.destination)
        ? this.#routed(hop, packet, arrived, "route", "")
        : { dropped: "fragmentOrphan" };
    }
    if (packet.icmp !== null) return this.#icmpError(hop, packet, arrived);

    const found = this.#flows.get(keyOf(arrived));
    if (found !== undefined) {
      if (track(found.flow.track, packet, found.direction, this.now)) {
        // The ingress of a connection may move: replies follow.
        if (found.direction === 0 && isVtep(from) && found.flow.out[1] === "ingress")
          found.flow.ingress = from;
        if (packet.fragmented) this.#fragments.set(fragmentKey(hop, packet), { ...found, since: this.now });
        return this.#goes(hop, packet, arrived, found);
      }
      this.#remove(found.flow);
    }
    return this.#begins(hop, packet, arrived);
  }

  // ---- new flows ------------------------------------------------------------------------------

  #begins(hop: Hop, packet: Parsed, arrived: Tuple): Verdict {
    const { from } = hop;
    const self = NODES[this.name];
    const { source, destination, protocol } = packet;
    const plain = () => this.#routed(hop, packet, arrived, "route", "");
    if (isVtep(from)) {
      if (inPool(source) || !this.#isPodHere(destination)) return plain();
      return this.#insert(hop, packet, arrived, {
        to: destination,
        port: packet.destinationPort,
        replyOut: "ingress",
      });
    }
    const own = (each: string) => each === self.underlay || each === self.tunnel;
    const fromNode = from === "node";
    const inside = !fromNode || own(source) || inPool(source);
    const replyOut = fromNode ? "node" : "route";
    const asked =
      packet.destinationPort === 0
        ? undefined
        : this.services.find(destination, protocol, packet.destinationPort, self.underlay);
    if (asked !== undefined) {
      const client = { address: source, port: packet.sourcePort, protocol };
      const node = { name: this.name, zone: ZONES[this.name] };
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
    if (inPool(destination)) {
      const noted = !inside || source === self.underlay || (this.services.any && isOpening(packet));
      if (!noted) return plain();
      return this.#insert(hop, packet, arrived, { to: destination, port: packet.destinationPort, replyOut });
    }
    if (fromNode || own(destination)) return plain();
    if (protocol === TCP && !isOpening(packet)) return { dropped: "noFlow" };
    return this.#insertEgress(hop, packet, arrived, {
      to: destination,
      port: packet.destinationPort,
      replyOut: "route",
    });
  }

  #insert(hop: Hop, packet: Parsed, arrived: Tuple, target: Target): Verdict {
    const source = target.keepSource ? packet.source : this.#sourceTowards(target.to, packet.source);
    const draft = this.#draft(hop, packet, arrived, target, source);
    if ("dropped" in draft) return draft;
    if (this.#flows.has(keyOf(draft.reply))) {
      const port = this.oracle(draft.original);
      if (port === undefined) throw new Error("no other source port was found");
      draft.reply.destinationPort = port;
      if (port < OTHER_PORTS[0] || port > OTHER_PORTS[1] || this.#flows.has(keyOf(draft.reply)))
        throw new Error(`source port ${port} instead of a taken one`);
    }
    return this.#start(hop, packet, arrived, draft);
  }

  #insertEgress(hop: Hop, packet: Parsed, arrived: Tuple, target: Target): Verdict {
    if (![TCP, UDP, SCTP].includes(packet.protocol)) return { dropped: "egressProtocol" };
    const draft = this.#draft(hop, packet, arrived, { ...target, out: "node" }, NODES[this.name].underlay);
    if ("dropped" in draft) return draft;
    const port = this.oracle(draft.original);
    if (port === undefined) throw new Error("no egress port");
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
      return this.#routed(hop, packet, arrived, "route", "");
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
      ingress: target.replyOut === "ingress" ? hop.from : "",
      identity: target.identity,
      backend: target.backend ?? "",
      track: newTrack(protocol, state, this.now),
    };
  }

  #start(hop: Hop, packet: Parsed, arrived: Tuple, flow: Flow): Verdict {
    this.#flows.set(keyOf(flow.original), { flow, direction: 0 });
    this.#flows.set(keyOf(flow.reply), { flow, direction: 1 });
    track(flow.track, packet, 0, this.now);
    const found: Found = { flow, direction: 0 };
    if (packet.fragmented) this.#fragments.set(fragmentKey(hop, packet), { ...found, since: this.now });
    return this.#goes(hop, packet, arrived, found);
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

  #goes(hop: Hop, packet: Parsed, arrived: Tuple, { flow, direction }: Found): Verdict {
    const leaves = turned(direction === 0 ? flow.reply : flow.original);
    if (
      packet.protocol === SCTP &&
      packet.fragmented &&
      !packet.later &&
      leaves.sourcePort !== arrived.sourcePort
    )
      return { dropped: "untranslatable" };
    const tuple = packet.later ? { ...leaves, sourcePort: 0, destinationPort: 0 } : leaves;
    return this.#routed(hop, packet, tuple, flow.out[direction], flow.ingress);
  }

  #icmpError(hop: Hop, packet: Parsed, arrived: Tuple): Verdict {
    const { quoted } = packet.icmp!;
    const found =
      quoted === null || quoted.later
        ? undefined
        : this.#flows.get(keyOf(turned({ ...tupleOf(quoted, hop.tag) })));
    if (found === undefined) {
      const verdict = this.#routed(hop, packet, arrived, "route", "");
      if (verdict.leaves !== undefined && quoted !== null) verdict.leaves.quoted = tupleOf(quoted, 0);
      return verdict;
    }
    const { flow, direction } = found;
    // What was quoted left as the turned key of this direction, and came as the other one.
    const came = direction === 0 ? flow.reply : flow.original;
    const from = packet.source === quoted!.destination ? came.destination : packet.source;
    const tuple = { ...arrived, source: from, destination: came.source, tag: came.tag };
    const verdict = this.#routed(hop, packet, tuple, flow.out[direction], flow.ingress);
    if (verdict.leaves !== undefined) verdict.leaves.quoted = { ...came, tag: 0 };
    return verdict;
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
    if (from !== "node" && to !== "node") {
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

function isVtep(attachment: string): boolean {
  return attachment !== "" && "abck".includes(attachment);
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

function compare(verdict: Verdict, hop: Hop, packet: Parsed, arrived: Tuple, tunnel: string): void {
  const { leaves, dropped, reply } = verdict;
  expectSame("verdict", hop.dropped, dropped);
  const [out] = hop.leaves;
  expectSame("packets that leave", hop.leaves.length, leaves !== undefined || reply !== undefined ? 1 : 0);
  if (out === undefined) return;
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
  expectSame("way of the reply", [out.to, out.tag], [hop.from, isVtep(hop.from) ? hop.tag : 0]);
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
