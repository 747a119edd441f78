/**
 * Traces against what really happens: random packets in random states of a cluster, each traced on
 * copies of the nodes' tables and flows, and then sent through the nodes' dataplanes. Every hop must be
 * the same: who drops it and why, what leaves by which way, with which headers and tag.
 *
 * Left out of the comparison are identifications of packets that a node makes itself. The simulated kernel
 * leaves TTL alone, and has no route to podwire0 for a ClusterIP that no Service has.
 */
import { expect, test } from "vitest";
import { type Hop, type Place, replyTo, type Walked, walk } from "../../../src/explain/trace/journey.js";
import { packetView } from "../../../src/explain/trace/packets.js";
import { type NodeSource, TraceCluster } from "../../../src/explain/trace/TraceCluster.js";
import { DROP_REASON_NAMES } from "../../../src/packet/DropReason.js";
import { NODE_PORT, OTHER_POD_PORT, POD_PORT } from "../../support/dataplane.js";
import { address, dotted, l4ChecksumOk, readPacket } from "../../support/frames.js";
import { watchModel } from "../../support/model/model.js";
import { parsePacket, SCTP, sctpChecksumOk } from "../../support/model/packets.js";
import {
  type Journey,
  NODES,
  type Hop as RealHop,
  type Sender,
  type SimulatedCluster,
} from "../../support/model/SimulatedCluster.js";
import { sourcesOf } from "../../support/traceNodes.js";

interface Case {
  sender: Sender;
  packet: Uint8Array;
  sources: NodeSource[];
  journey: Journey;
}

const STEPS = 400;
const PER_RUN = 40;

/** Headers, without TTL and identification. Throws on a wrong checksum. */
function headers(bytes: Uint8Array, quoted = false): unknown {
  const packet = readPacket(bytes);
  if (!quoted) {
    const ok = packet.protocol === SCTP ? sctpChecksumOk(packet.l4) : l4ChecksumOk(packet);
    if (!ok) throw new Error("a wrong transport checksum");
  }
  const parsed = parsePacket(bytes, quoted);
  const { source, destination, sourcePort, destinationPort, protocol, tcp, sctp, icmp } = parsed;
  return {
    source,
    destination,
    protocol,
    ports: [sourcePort, destinationPort],
    tcp,
    sctp,
    icmp: icmp === null ? null : { ...icmp, quoted: null },
    quoted:
      icmp?.quoted == null
        ? null
        : [icmp.quoted.source, icmp.quoted.destination, icmp.quoted.sourcePort, icmp.quoted.destinationPort],
  };
}

function realHop({ node, from, dropped, leaves }: RealHop): unknown {
  return {
    node,
    by: from === "heard" ? "heard" : from in NODES || from === "k" ? "tunnel" : "tap",
    dropped,
    leaves: leaves.map(({ to, packet, tag }) => ({ to, tag, ...(headers(packet.bytes) as object) })),
  };
}

function tracedHop(cluster: TraceCluster, { node, record }: Hop): unknown {
  const taps: Record<number, string> = { [POD_PORT]: "pod", [OTHER_POD_PORT]: "other", [NODE_PORT]: "node" };
  return {
    node,
    by: record.arriving.by,
    dropped: record.drop < 0 ? [] : [DROP_REASON_NAMES[record.drop]],
    leaves: record.leaves.map((leaving) => {
      if (leaving.by === "tap")
        return { to: taps[leaving.port], tag: 0, ...(headers(leaving.packet) as object) };
      const { datagram } = leaving;
      const view = new DataView(datagram.buffer, datagram.byteOffset);
      const tag = view.getUint16(14) === 0x0274 ? view.getInt32(16) : 0;
      const to = cluster.nodes.get(node)!.tables.vteps[leaving.vtep]!.node;
      return { to, tag, ...(headers(datagram.slice(22)) as object) };
    }),
  };
}

function placeOf(sender: Sender): Place {
  if (sender.kind === "pod")
    return { kind: "pod", node: sender.pod[0]!, port: sender.pod[1] === "1" ? POD_PORT : OTHER_POD_PORT };
  if (sender.kind === "node") return { kind: "program", node: sender.node };
  return { kind: "lan", name: "LAN", via: sender.node };
}

/** Whole packets that can be traced, whose way through the node's kernel the simulation knows as well. */
function isComparable(cluster: SimulatedCluster, sender: Sender, packet: Uint8Array): boolean {
  if (sender.kind === "pod" && sender.pod === "k1") return false;
  const { ttl, fragment, destination, source } = readPacket(packet);
  if (ttl < 10 || (fragment & 0x3fff) !== 0 || source === destination) return false;
  const services = cluster.nodes.a.test.breather.dataplane.services;
  if (destination.startsWith("10.152.183.") && !services.isServiceAddress(address(destination))) return false;
  if (sender.kind !== "lan") return true;
  const { underlay, tunnel } = NODES[sender.node];
  const routed = ["10.1.", "10.152.183."].some((prefix) => destination.startsWith(prefix));
  const virtual = cluster.nodes[sender.node].services.virtualAddresses().map(dotted);
  return routed || virtual.includes(destination) || destination === underlay || destination === tunnel;
}

/** Random packets of a run, with what the nodes held when each was sent, and where it went. */
function casesOf(seed: number): Case[] {
  const cases: Case[] = [];
  let countdown = 5;
  watchModel(seed, STEPS, (cluster) => {
    cluster.onSend = (sender, packet) => {
      if (--countdown > 0 || cases.length === PER_RUN || !isComparable(cluster, sender, packet)) return null;
      countdown = 6;
      const sources = sourcesOf(cluster);
      const copy = packet.slice();
      return (journey) => void cases.push({ sender, packet: copy, sources, journey });
    };
  });
  return cases;
}

/** Whether a node's kernel was handed what its routes lead back to podwire0: the simulated one sends it to the LAN. */
function comesBack(cluster: TraceCluster, { hops }: Journey): boolean {
  return hops.some(({ leaves }) =>
    leaves.some(
      ({ to, packet: { destination } }) =>
        to === "node" && (cluster.isVirtual(destination) || destination.startsWith("10.152.183.")),
    ),
  );
}

async function compare({ sender, packet, sources, journey }: Case): Promise<Walked> {
  const cluster = new TraceCluster(sources);
  const walked = await walk(cluster, placeOf(sender), packet);
  // The simulation goes on with what a node answers itself.
  const refusal = walked.refusal === null ? null : await replyTo(cluster, walked);
  const hops = [...walked.hops, ...(refusal?.hops ?? [])];
  const real = journey.hops.map(realHop);
  const traced = hops.map((hop) => tracedHop(cluster, hop));
  if (comesBack(cluster, journey)) {
    expect(traced.slice(0, real.length)).toEqual(real);
    return walked;
  }
  expect(traced).toEqual(real);
  const last = refusal ?? walked;
  const [arrival] = journey.arrivals;
  const { end } = last.way;
  if (arrival === undefined) expect(end.kind).toBe("dropped");
  else if (arrival.at === "k1") expect(end).toMatchObject({ kind: "unseen", lane: "k" });
  else {
    expect(end.kind).toBe("delivered");
    expect(headers(last.arrived!.packet)).toEqual(headers(arrival.packet.bytes));
    const { place } = last.arrived!;
    const at =
      place.kind === "lan"
        ? "lan"
        : place.kind === "program"
          ? place.node
          : `${place.node}${place.port === POD_PORT ? 1 : 2}`;
    expect(at).toBe(arrival.at);
  }
  // What is told is what was done.
  if (walked.refusal === null && end.kind === "dropped" && walked.hops.length > 0) {
    const { drop } = walked.hops.at(-1)!.record;
    if (drop >= 0) expect(end.drop.reason).toBe(DROP_REASON_NAMES[drop]);
  }
  const chosen = walked.way.steps
    .flatMap(({ service }) => service?.endpoints ?? [])
    .filter((each) => each.chosen);
  if (chosen.length > 0 && end.kind === "delivered" && walked.refusal === null)
    expect([chosen[0]!.address, chosen[0]!.l4Port]).toEqual([
      end.packet.destination,
      end.packet.destinationPort,
    ]);
  return walked;
}

test.each(Array.from({ length: 28 }, (_, i) => 100 + 37 * i))(
  "40 random packets of seed %d",
  async (seed) => {
    const cases = casesOf(seed);
    expect(cases.length).toBe(PER_RUN);
    const seen = new Set<string>();
    for (const [n, each] of cases.entries()) {
      try {
        const { way } = await compare(each);
        for (const { stage } of way.steps) seen.add(stage);
      } catch (error) {
        const { source, sourcePort, destination, destinationPort, protocol } = packetView(each.packet);
        const what = `${protocol} ${source}:${sourcePort} → ${destination}:${destinationPort}`;
        throw new Error(`case ${n}, ${JSON.stringify(each.sender)}, ${what}: ${(error as Error).message}`, {
          cause: error,
        });
      }
    }
    // A run has a bit of everything, or it says nothing.
    for (const stage of ["conntrack", "service", "translate", "encap", "decap", "deliver", "drop"])
      expect([...seen]).toContain(stage);
  },
);
