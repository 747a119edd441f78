/**
 * Reads what a topology is made of: objects from the API, and from each node's agent the table that it
 * forwards by. A node that does not answer is left out of the live state; the objects have to be there.
 */
import type { KubeApi } from "../kube/KubeApi.js";
import { readNode } from "../kube/nodeProxy.js";
import { ENDPOINTSLICES, IPAMBLOCKS, NODES, PODS, SERVICES } from "../kube/resources.js";
import type { EndpointSlice, Node, Pod, Service } from "../kube/types.js";
import {
  type BlockObject,
  type ClusterObjects,
  type LiveState,
  type NodeAnnouncement,
  type NodeState,
  ownersOf,
} from "./topology.js";

/** What is asked for here. */
export type NodeTopic = "status" | "announcement" | "counters" | "flows";

/** Asks a node's agent for one of the things that it tells about itself; `query` is the topic's own. */
export type ReadNode = (node: string, topic: NodeTopic, query?: Record<string, string>) => Promise<unknown>;

/** Nodes that are asked at the same time. */
const CONCURRENCY = 16;

/** Lists everything once. Rejects with a KubeError. */
export async function readCluster(kube: KubeApi): Promise<ClusterObjects> {
  const [nodes, pods, services, endpointSlices, blocks] = await Promise.all([
    kube.list<Node>(NODES),
    kube.list<Pod>(PODS),
    kube.list<Service>(SERVICES),
    kube.list<EndpointSlice>(ENDPOINTSLICES),
    kube.list<BlockObject>(IPAMBLOCKS),
  ]);
  return {
    nodes: nodes.items,
    pods: pods.items,
    services: services.items,
    endpointSlices: endpointSlices.items,
    blocks: blocks.items,
  };
}

/** Asks every node for the same, a few at a time: the answers by node, without those that gave none. */
export async function askNodes<T>(
  nodes: readonly string[],
  ask: (node: string) => Promise<T>,
): Promise<Map<string, T>> {
  const answers = new Map<string, T>();
  const waiting = [...nodes];
  const worker = async () => {
    for (let node = waiting.shift(); node !== undefined; node = waiting.shift()) {
      try {
        answers.set(node, await ask(node));
      } catch {
        // An agent that is down, or a cluster without a way in to them: the picture says so.
      }
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return answers;
}

/** The tables of all nodes, and who owns which load-balancer address. */
export async function readLiveState(nodes: readonly string[], read: ReadNode): Promise<LiveState> {
  const [states, announcements] = await Promise.all([
    askNodes(nodes, async (node) => (await read(node, "status")) as NodeState),
    askNodes(nodes, async (node) => (await read(node, "announcement")) as NodeAnnouncement),
  ]);
  return { nodes: states, owners: ownersOf(announcements.values()) };
}

/** Asks by way of the API server. */
export function nodeReader(api: Parameters<typeof readNode>[0]): ReadNode {
  return (node, topic, query = {}) => readNode(api, node, `podwire/${topic}`, new URLSearchParams(query));
}
