/**
 * `podwire trace --live`: waits for the next real flow that is like the one asked about, traces its first
 * packet as though it were new, and holds what the trace says against what the nodes' flow tables say.
 * Costs the dataplane nothing: flow tables are read from outside. A flow of a single packet is not missed:
 * its record stays for seconds after the last one (tables/flowLayout), and says when it began.
 *
 * What begins no flow (UDP between pods, what is dropped) cannot be seen this way.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { FlowQuery, FlowView } from "../agent/flowReport.js";
import { type Place, type Question, trace } from "../explain/trace/journey.js";
import type { LiveView, Trace } from "../explain/trace/model.js";
import { packetView, type TraceProtocol } from "../explain/trace/packets.js";
import { type Asked, QuestionError, questionOf } from "../explain/trace/question.js";
import { type NodeSource, TraceCluster } from "../explain/trace/TraceCluster.js";
import { parseIpv4 } from "../model/ipv4.js";
import {
  FLOW_ORIGINAL,
  FLOW_REPLY,
  FLOW_WORDS,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  STATE_NAMES,
  STATE_STANDBY,
} from "../tables/flowLayout.js";
import { line } from "./conntrack.js";
import type { TraceSources } from "./traceSources.js";

/** Between two looks at the flow tables; no flow ends sooner than 3 s after its last packet. */
const LOOK_MS = 100;
/** Another node's flow, kept here for the day when that one dies: nothing of it came by. */
const STANDBY = STATE_NAMES[STATE_STANDBY];
const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, icmp: 1 } as const;

/**
 * Rejects with a QuestionError where none comes within `waitMs`. `onWaiting` is called as soon as no flow
 * that begins from now on is missed.
 */
export async function liveTrace(
  sources: TraceSources,
  asked: Asked,
  waitMs: number,
  onWaiting: () => void = () => {},
): Promise<Trace> {
  const guess = new TraceCluster(sources.nodes, sources.notes);
  const question = questionOf(guess, asked);
  const { node, flow } = await nextFlow(sources, guess, question, asked, waitMs, onWaiting);
  // As it was before this flow began.
  const before = sources.nodes.map((source) => withoutFlow(source, flow));
  const cluster = new TraceCluster(before, sources.notes);
  const exact = { ...asked, sourcePort: flow.original.sourcePort };
  if (question.sender.kind === "lan") {
    exact.pc = flow.original.source;
    exact.to = targetText(flow);
    exact.protocol = flow.protocol as TraceProtocol;
  }
  const result = await trace(cluster, questionOf(cluster, exact));
  return { ...result, to: asked.to, live: await liveView(sources, node, flow, result) };
}

/** The first flow of the question's kind that was not there at the beginning. */
async function nextFlow(
  sources: TraceSources,
  cluster: TraceCluster,
  { packet, sender }: Question,
  asked: Asked,
  waitMs: number,
  onWaiting: () => void,
): Promise<{ node: string; flow: FlowView }> {
  const { protocol, source, destination, destinationPort } = packetView(packet);
  // Which machine the pc is, nobody knows beforehand.
  const anybody = asked.from === "pc";
  const query: FlowQuery = {
    protocol: PROTOCOL_NUMBERS[protocol as keyof typeof PROTOCOL_NUMBERS],
    ...(anybody ? {} : { source }),
    destination,
    ...(protocol === "icmp" ? {} : { destinationPort }),
    ...(asked.sourcePort === undefined ? {} : { sourcePort: asked.sourcePort }),
  };
  const nodes = entryNodes(cluster, sender);
  const look = async () => {
    const found = await Promise.all(
      nodes.map(async (node) => (await sources.flows(node, query)).map((flow) => ({ node, flow }))),
    );
    // Where it came in it came through no other node.
    return found.flat().filter(({ flow: { ingress, original, state } }) => {
      const outside = cluster.podOf(original.source) === undefined && cluster.nodeOf(original.source) === "";
      return ingress === "" && state !== STANDBY && (!anybody || outside);
    });
  };
  // One that takes the place of another with the same tuple began at another time.
  const known = new Set((await look()).map(({ node, flow }) => `${keyOf(node, flow)} ${flow.began}`));
  onWaiting();
  for (const deadline = performance.now() + waitMs; performance.now() < deadline; await sleep(LOOK_MS)) {
    const next = (await look()).find(({ node, flow }) => !known.has(`${keyOf(node, flow)} ${flow.began}`));
    if (next !== undefined) return next;
  }
  throw new QuestionError(
    `no flow from ${anybody ? "outside" : source} to ${destination}${destinationPort === 0 ? "" : `:${destinationPort}`} began within ${waitMs / 1000} s`,
  );
}

/** What a flow's client asked for, as a target of a question. */
function targetText({ original, protocol }: FlowView): string {
  return protocol === "icmp" ? original.destination : `${original.destination}:${original.destinationPort}`;
}

/** Where a sender's flows are tracked first: on its node, or on any that it may come in by. */
function entryNodes(cluster: TraceCluster, sender: Place): string[] {
  return sender.kind === "lan" && sender.via === undefined
    ? [...cluster.nodes.keys()]
    : [sender.kind === "lan" ? sender.via! : sender.node];
}

function keyOf(node: string, { protocol, original }: FlowView): string {
  return JSON.stringify([node, protocol, original]);
}

/** A node's records but for those of a flow: on whichever side of a translation its client's port stands. */
function withoutFlow(source: NodeSource, { original, reply }: FlowView): NodeSource {
  const ends = [
    [original.source, original.sourcePort],
    [reply.destination, reply.destinationPort],
  ].map(([address, port]) => [parseIpv4(address as string)!, port as number] as const);
  const isEnd = (address: number, port: number) => ends.some(([a, p]) => a === address && p === port);
  return {
    ...source,
    flows: async (addresses) => {
      const answer = await source.flows(addresses);
      const words = new Int32Array(new Uint8Array(Buffer.from(answer.records, "base64")).buffer);
      const kept: number[] = [];
      for (let at = 0; at < words.length; at += FLOW_WORDS) {
        const client = [FLOW_ORIGINAL, FLOW_REPLY].some(
          (key) =>
            isEnd(words[at + key + KEY_SOURCE], words[at + key + KEY_PORTS] >>> 16) ||
            isEnd(words[at + key + KEY_DESTINATION], words[at + key + KEY_PORTS] & 0xffff),
        );
        if (!client) kept.push(...words.subarray(at, at + FLOW_WORDS));
      }
      return { ...answer, records: Buffer.from(Int32Array.from(kept).buffer).toString("base64") };
    },
  };
}

/** What each node says of the flow, and whether its endpoint is the traced one. */
async function liveView(
  sources: TraceSources,
  entry: string,
  flow: FlowView,
  { request, reply }: Trace,
): Promise<LiveView> {
  const lanes = new Set([...request.steps, ...(reply?.steps ?? [])].map(({ lane }) => lane));
  const nodes = sources.nodes
    .map(({ tables }) => tables.node)
    .filter((node) => lanes.has(node) && node !== entry);
  const query: FlowQuery = {
    protocol: flow.protocolNumber,
    source: flow.reply.destination,
    ...(flow.protocol === "icmp" ? {} : { sourcePort: flow.reply.destinationPort }),
  };
  const others = await Promise.all(
    nodes.map(async (node) => (await sources.flows(node, query)).map((each) => ({ node, flow: each }))),
  );
  // Its state may have gone on meanwhile.
  const again = await sources.flows(entry, { protocol: flow.protocolNumber, source: flow.original.source });
  const now = again.find((each) => keyOf(entry, each) === keyOf(entry, flow)) ?? flow;
  const flows = [{ node: entry, flow: now }, ...others.flat()].map(({ node, flow: each }) => ({
    node,
    line: line(each, true),
  }));
  const step = request.steps.find(({ lane, stage }) => lane === entry && stage === "translate");
  const traced = step?.packet ?? request.packet;
  const real = `${flow.reply.source}:${flow.reply.sourcePort}`;
  const wanted = `${traced.destination}:${flow.protocol === "icmp" ? flow.reply.sourcePort : traced.destinationPort}`;
  const agrees = real === wanted;
  return { flows, agrees, difference: agrees ? "" : `the flow goes to ${real}, the trace to ${wanted}` };
}
