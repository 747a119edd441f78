/**
 * A packet's way through a cluster, from who sends it to where it ends, and the way back of the answer.
 * At each node the dataplane itself decides (TraceNode); between nodes the rules and routes that agents
 * keep (kernel.ts), and on the LAN who has which address.
 *
 *   sender ─▶ kernel ─▶ podwire0 ─┐
 *   pod ──────────────────── TAP ─┼─▶ dataplane ─▶ tunnel ─▶ dataplane of another node ─▶ pod
 *   LAN ─▶ ARP ─▶ kernel ─────────┘             └▶ podwire0 ─▶ kernel ─▶ program, or LAN
 */
import { formatIpv4 } from "../../model/ipv4.js";
import { DropReason } from "../../packet/DropReason.js";
import { isHeard, type KernelInput, kernelWay } from "./kernel.js";
import type { DropView, End, Lane, Trace, TraceStep, Way } from "./model.js";
import { answerTo, forwarded, packetView } from "./packets.js";
import { encapStep, type HopPlace, hopSteps, innerPacket, textOf, tupleText } from "./stages.js";
import type { TraceCluster } from "./TraceCluster.js";
import type { Arriving, HopRecord, Leaving } from "./TraceNode.js";

/** Who sends a packet, or has received one. */
export type Place =
  | { kind: "pod"; node: string; port: number }
  | { kind: "program"; node: string }
  /** A machine on the LAN; `via`: the node that it has a route by, where it is not the one that is asked. */
  | { kind: "lan"; name: string; via?: string };

/** A hop as it was, for those who compare. */
export interface Hop {
  node: string;
  record: HopRecord;
}

export interface Walked {
  way: Way;
  hops: Hop[];
  /** Where it was delivered, and its bytes there; null where it was not. */
  arrived: { place: Place; packet: Uint8Array } | null;
  /** What a node said about it that it did not take: a reset, an ICMP error. */
  refusal: { node: string; leaving: Leaving } | null;
}

type Position =
  | { kind: "arriving"; node: string; arriving: Arriving; packet: Uint8Array }
  | { kind: "kernel"; node: string; from: KernelInput; packet: Uint8Array }
  | { kind: "lan"; packet: Uint8Array; from: Lane; via?: string | undefined };

/** More hops than any way has. */
const MOST_HOPS = 12;

/** What a trace is asked about. */
export interface Question {
  /** In the asker's words. */
  from: string;
  to: string;
  sender: Place;
  packet: Uint8Array;
}

/** Traces a packet and the answer to it. Rejects where an agent does not hand out its flows. */
export async function trace(cluster: TraceCluster, question: Question): Promise<Trace> {
  const { from, to, sender, packet } = question;
  const request = await walk(cluster, sender, packet);
  const reply = await replyTo(cluster, request);
  return {
    version: 1,
    from,
    to,
    live: null,
    request: request.way,
    reply: reply?.way ?? null,
    verdict: verdictOf(cluster, sender, packet, request, reply),
    notes: [...cluster.notes],
  };
}

/** The way of the answer, or of the refusal; null where there is none. */
export async function replyTo(cluster: TraceCluster, { arrived, refusal }: Walked): Promise<Walked | null> {
  if (refusal !== null) return walkRefusal(cluster, refusal.node, refusal.leaving);
  if (arrived === null) return null;
  const answer = answerTo(arrived.packet);
  return answer === null ? null : walk(cluster, arrived.place, answer);
}

/** The way of one packet that `sender` sends. */
export function walk(cluster: TraceCluster, sender: Place, packet: Uint8Array): Promise<Walked> {
  const sent: TraceStep = {
    lane: laneOf(cluster, sender),
    stage: "send",
    what: `sends ${textOf(packetView(packet))}`,
    because: sender.kind === "pod" ? "its default route leads to its TAP" : "",
    packet: packetView(packet),
  };
  const start: Position =
    sender.kind === "pod"
      ? { kind: "arriving", node: sender.node, arriving: { by: "tap", port: sender.port, packet }, packet }
      : sender.kind === "program"
        ? { kind: "kernel", node: sender.node, from: "program", packet }
        : { kind: "lan", packet, from: sender.name, via: sender.via };
  return new Walk(cluster, packet, [sent]).run(start);
}

/** The way of what a node's dataplane made itself about a packet. */
function walkRefusal(cluster: TraceCluster, node: string, leaving: Leaving): Promise<Walked> {
  const packet = leaving.by === "tap" ? leaving.packet : innerPacket(leaving.datagram);
  const sent: TraceStep = {
    lane: node,
    stage: "send",
    what: `answers itself: ${textOf(packetView(packet))}`,
    because: "so that who asked need not wait",
    packet: packetView(packet),
  };
  return new Walk(cluster, packet, [sent]).leave(node, leaving);
}

class Walk {
  readonly #hops: Hop[] = [];
  #refusal: Walked["refusal"] = null;
  #arrived: Walked["arrived"] = null;

  constructor(
    private readonly cluster: TraceCluster,
    private readonly first: Uint8Array,
    private readonly steps: TraceStep[],
  ) {}

  async run(start: Position): Promise<Walked> {
    let position: Position | End = start;
    for (let n = 0; n < MOST_HOPS; n++) {
      const next: Position | End =
        position.kind === "arriving"
          ? await this.#atDataplane(position)
          : position.kind === "kernel"
            ? this.#atKernel(position)
            : position.kind === "lan"
              ? this.#onLan(position)
              : position;
      if (isEnd(next)) return this.#finish(next);
      position = next;
    }
    return this.#finish(
      this.#drop("", "loop", "the packet goes round in circles", "podwire check on each node."),
    );
  }

  /** Goes on with what leaves a node. */
  async leave(node: string, leaving: Leaving): Promise<Walked> {
    const place = await this.#place(node, this.first);
    if (place === null) return this.#finish(this.#unseen(node, this.first));
    const next = this.#left(place, leaving);
    return isEnd(next) ? this.#finish(next) : this.run(next);
  }

  #finish(end: End): Walked {
    const packet = packetView(this.first);
    const last = this.steps.findLast((step) => step.packet !== undefined)?.packet ?? packet;
    const way = { packet, packetAtEnd: last, steps: this.steps, end };
    return { way, hops: this.#hops, arrived: this.#arrived, refusal: this.#refusal };
  }

  // ---- a node's dataplane -----------------------------------------------------------------------

  async #place(name: string, packet: Uint8Array): Promise<HopPlace | null> {
    const { source, destination } = packetView(packet);
    const node = await this.cluster.dataplane(name, [source, destination]);
    return node === null ? null : { cluster: this.cluster, known: this.cluster.nodes.get(name)!, node };
  }

  async #atDataplane({ node, arriving, packet }: Position & { kind: "arriving" }): Promise<Position | End> {
    const place = await this.#place(node, packet);
    if (place === null) return this.#unseen(node, packet);
    const record = place.node.receive(arriving);
    this.#hops.push({ node, record });
    const ignored = record.drop === DropReason.notOurs && arriving.by === "heard";
    if (!ignored) this.steps.push(...hopSteps(place, record));
    const going = record.leaves.find(({ answer }) => !answer);
    if (going !== undefined) return this.#left(place, going);
    // The kernel has what was heard as well.
    if (ignored) return this.#toProgram(node, packet);
    const refusal = record.leaves.find(({ answer }) => answer);
    if (refusal !== undefined) this.#refusal = { node, leaving: refusal };
    const drop = this.steps.at(-1)?.drop;
    if (drop === undefined) throw new Error(`node ${node} neither sent nor dropped a packet`);
    return { kind: "dropped", lane: node, drop };
  }

  #left(place: HopPlace, leaving: Leaving): Position | End {
    const { known, node, cluster } = place;
    if (leaving.by === "tunnel") {
      this.steps.push(encapStep(place, leaving));
      const address = formatIpv4(node.tables.fdb.address(leaving.vtep));
      const packet = innerPacket(leaving.datagram);
      const to = cluster.nodeOf(address);
      if (!cluster.nodes.has(to)) return this.#unseen(to === "" ? address : to, packet);
      const peer = node.tables.underlayAddress;
      return {
        kind: "arriving",
        node: to,
        arriving: { by: "tunnel", peer, datagram: leaving.datagram },
        packet,
      };
    }
    const { packet, port } = leaving;
    if (port === node.tables.nodePort) return { kind: "kernel", node: known.name, from: "podwire0", packet };
    const place_: Place = { kind: "pod", node: known.name, port };
    return this.#deliver(place_, packet, "written to its TAP, eth0 in the pod");
  }

  // ---- a node's kernel --------------------------------------------------------------------------

  #atKernel({ node, from, packet }: Position & { kind: "kernel" }): Position | End {
    const known = this.cluster.nodes.get(node);
    if (known === undefined) return this.#unseen(node, packet);
    const view = packetView(packet);
    const way = kernelWay(known, from, view);
    const onward = way.forwarded && way.to !== "program" ? forwarded(packet) : packet;
    const targets = {
      podwire0: "podwire0",
      program: "a program of the node",
      lan: "the LAN",
      nowhere: "nowhere",
    };
    this.steps.push({
      lane: node,
      stage: "kernel",
      what: `the kernel takes it to ${targets[way.to]}`,
      because: way.because,
      ...(onward === null || onward === packet ? {} : { packet: packetView(onward) }),
    });
    if (onward === null)
      return this.#drop(node, "ttlExceeded", "the packet's time to live is over", "Raise the sender's TTL.");
    if (way.to === "nowhere") return this.#drop(node, "martian", way.because, "Use another address.");
    if (way.to === "lan") return { kind: "lan", packet: onward, from: node };
    if (way.to === "podwire0") {
      const port = known.image.nodePort;
      return { kind: "arriving", node, arriving: { by: "tap", port, packet: onward }, packet: onward };
    }
    if (from !== "podwire0" && isHeard(known, view))
      return { kind: "arriving", node, arriving: { by: "heard", packet }, packet };
    return this.#toProgram(node, packet);
  }

  #toProgram(node: string, packet: Uint8Array): End {
    return this.#deliver({ kind: "program", node }, packet, "whichever program has that address and port");
  }

  // ---- the LAN ----------------------------------------------------------------------------------

  #onLan({ packet, from, via }: Position & { kind: "lan" }): Position | End {
    const { cluster } = this;
    const { destination } = packetView(packet);
    if (via !== undefined) {
      this.#onTheLan(`goes to ${via}`, `${from} has a route by it`);
      return { kind: "kernel", node: via, from: "lan", packet };
    }
    const node = cluster.nodeOf(destination);
    if (node !== "" && !cluster.isInside(destination)) {
      this.#onTheLan(`${node} answers ARP for ${destination}`, "its own address");
      return { kind: "kernel", node, from: "lan", packet };
    }
    if (cluster.isVirtual(destination)) {
      const { node: owner, because } = cluster.announcerOf(destination);
      if (owner === "") {
        this.#onTheLan(`nobody answers ARP for ${destination}`, because);
        return this.#drop(
          "LAN",
          "noArpReply",
          `no node announces ${destination} on the LAN: ${because}`,
          "Is there an L2Advertisement for its pool, and are agents allowed to announce? kubectl get l2advertisement -A",
        );
      }
      this.#onTheLan(`${owner} answers ARP for ${destination}`, because);
      return { kind: "kernel", node: owner, from: "lan", packet };
    }
    if (cluster.isInside(destination))
      return this.#drop(
        from,
        "noRouteFromOutside",
        `${destination} is an address of the cluster's inside, to which machines of the LAN have no route`,
        "Ask a NodePort or a load-balancer address of a Service.",
      );
    const name = cluster.machineName(destination);
    return this.#deliver({ kind: "lan", name }, packet, "by the LAN, or beyond it");
  }

  #onTheLan(what: string, because: string): void {
    this.steps.push({ lane: "LAN", stage: "arp", what, because });
  }

  // ---- ends -------------------------------------------------------------------------------------

  #deliver(place: Place, packet: Uint8Array, because: string): End {
    const lane = laneOf(this.cluster, place);
    const view = packetView(packet);
    const to =
      place.kind === "pod" ? `pod ${lane}` : place.kind === "program" ? `a program of ${lane}` : lane;
    this.steps.push({ lane, stage: "deliver", what: `receives ${textOf(view)}`, because, packet: view });
    this.#arrived = { place, packet };
    return { kind: "delivered", lane, to, packet: view };
  }

  #drop(lane: Lane, reason: string, why: string, remedy: string): End {
    const drop: DropView = { reason, why, remedy };
    this.steps.push({ lane, stage: "drop", what: `ends here: ${reason}`, because: why, drop });
    return { kind: "dropped", lane, drop };
  }

  #unseen(node: string, packet: Uint8Array): End {
    const why = `nothing tells of ${node}'s tables: it is no podwire agent, or does not answer`;
    return { kind: "unseen", lane: node, why, packet: packetView(packet) };
  }
}

function isEnd(next: Position | End): next is End {
  return next.kind === "delivered" || next.kind === "dropped" || next.kind === "unseen";
}

function laneOf(cluster: TraceCluster, place: Place): Lane {
  if (place.kind === "lan") return place.name;
  if (place.kind === "program") return place.node;
  return cluster.podAt(place.node, place.port)?.name ?? `port ${place.port} of ${place.node}`;
}

function verdictOf(
  cluster: TraceCluster,
  sender: Place,
  packet: Uint8Array,
  request: Walked,
  reply: Walked | null,
): Trace["verdict"] {
  const { end } = request.way;
  if (end.kind === "unseen") return "unseen";
  if (end.kind === "dropped") return request.refusal === null ? "dropped" : "refused";
  if (reply === null) return "delivered";
  const back = reply.way.end;
  if (back.kind === "unseen") return "unseen";
  const asked = packetView(packet);
  const mirrored = { ...asked, source: asked.destination, destination: asked.source };
  const turned = { ...mirrored, sourcePort: asked.destinationPort, destinationPort: asked.sourcePort };
  const right =
    back.kind === "delivered" &&
    back.lane === laneOf(cluster, sender) &&
    tupleText({ ...turned, icmpType: back.packet.icmpType ?? 0 }) ===
      tupleText({ ...back.packet, icmpType: back.packet.icmpType ?? 0 });
  return right ? "answered" : "delivered";
}
