/**
 * A traced packet as the page shows it: its decisions in words, and the points of the picture that it goes
 * through. Reads what `podwire trace` answers; pure.
 */
import type { Topology } from "../explain/topology.js";
import type { Path, PathStep, TraceView } from "./protocol.js";

interface Packet {
  source: string;
  destination: string;
}

/** The part of a way (explain/trace/model) that is read here. */
export interface TracedWay {
  packet: Packet;
  steps: readonly PathStep[];
  end:
    | { kind: "delivered"; lane: string; to: string; packet: Packet }
    | { kind: "dropped"; lane: string; drop: { reason: string; why: string; remedy: string } }
    | { kind: "unseen"; lane: string; why: string; packet: Packet };
}

/** The part of a trace that is read here. */
export interface Traced {
  verdict: string;
  request: TracedWay;
  reply: TracedWay | null;
  notes: readonly string[];
}

/** What the page draws of a trace. */
export function traceView(topology: Topology, traced: Traced): TraceView {
  return {
    verdict: traced.verdict,
    request: pathOf(topology, traced.request),
    reply: traced.reply === null ? null : pathOf(topology, traced.reply),
    notes: [...traced.notes],
  };
}

function pathOf(topology: Topology, { packet, steps, end }: TracedWay): Path {
  const nodes = new Map(topology.nodes.map((node) => [node.name, node]));
  const pods = new Map(
    topology.nodes.flatMap((node) => node.pods.map(({ key, address }) => [address, key] as const)),
  );
  const through: string[] = [];
  const go = (...anchors: string[]) => {
    for (const anchor of anchors) if (through.at(-1) !== anchor) through.push(anchor);
  };
  /** A pod's own box, a node's socket on the LAN, or somebody outside. */
  const placeOf = (address: string) => {
    const pod = pods.get(address);
    if (pod !== undefined) return `pod:${pod}`;
    const node = topology.nodes.find(
      (each) => each.address === address || each.vtep?.tunnelAddress === address,
    );
    return node === undefined ? "client" : `lan:${node.name}`;
  };
  const lanes = steps
    .map(({ lane }) => lane)
    .filter((lane, n, all) => nodes.has(lane) && lane !== all[n - 1]);
  go(placeOf(packet.source));
  for (const [n, lane] of lanes.entries()) {
    // Between two nodes it goes over the LAN; into the first one only if it came from there.
    if (n > 0 || !through[0]!.startsWith("pod:")) go(`lan:${lane}`);
    go(`vtep:${lane}`);
    if (n < lanes.length - 1) go(`lan:${lane}`, "lan");
  }
  if (end.kind !== "dropped") go(...arrival(placeOf(end.packet.destination), lanes.at(-1)));
  return {
    steps: steps.map(({ lane, stage, what, because }) => ({ lane, stage, what, because })),
    end: endText(end),
    through,
  };
}

/** To somebody outside a packet leaves by the LAN of the last node. */
function arrival(place: string, lane: string | undefined): string[] {
  return place.startsWith("pod:") || lane === undefined ? [place] : [`lan:${lane}`, place];
}

function endText(end: TracedWay["end"]): string {
  switch (end.kind) {
    case "delivered":
      return `delivered to ${end.to}`;
    case "dropped":
      return `dropped (${end.drop.reason}): ${end.drop.why}. ${end.drop.remedy}`;
    case "unseen":
      return end.why;
  }
}
