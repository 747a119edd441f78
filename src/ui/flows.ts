/** Some flows of every node, as the agents tell them, in the page's words. */
import { askNodes, type ReadNode } from "../explain/readCluster.js";
import type { FlowRow } from "./protocol.js";

/** One direction of a flow. */
interface Tuple {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
}

/** What is read of a flow (agent/flowReport FlowView). */
interface FlowView {
  protocol: string | number;
  state?: string;
  original: Tuple;
  reply: Tuple;
}

/** At most `limit` flows of each node; nodes that do not answer have none. Rejects where no node answers. */
export async function readFlows(nodes: readonly string[], read: ReadNode, limit: number): Promise<FlowRow[]> {
  const answers = await askNodes(
    nodes,
    async (node) => (await read(node, "flows", { limit: String(limit) })) as { flows: FlowView[] },
  );
  if (answers.size === 0 && nodes.length > 0) throw new Error("no agent tells its flows");
  return [...answers].flatMap(([node, { flows }]) => flows.map((flow) => rowOf(node, flow)));
}

function rowOf(node: string, { protocol, state = "", original, reply }: FlowView): FlowRow {
  const target = `${original.destination}:${original.destinationPort}`;
  // The answer comes from where the packet went.
  const reached = `${reply.source}:${reply.sourcePort}`;
  return {
    node,
    protocol: String(protocol),
    source: `${original.source}:${original.sourcePort}`,
    destination: target,
    translated: reached === target ? "" : reached,
    state,
  };
}
