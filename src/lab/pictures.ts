/**
 * Owns the pictures of the walk: after each step the cluster as it is then, as lines of text and as an SVG
 * file. Asks kubectl for the objects and each agent for its table; what they show is explain's.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { ask } from "../agent/StatusServer.js";
import { render } from "../explain/picture/render.js";
import type { Step } from "../explain/picture/selection.js";
import { readLiveState } from "../explain/readCluster.js";
import {
  type BlockObject,
  type ClusterObjects,
  type LiveState,
  type Topology,
  topologyOf,
} from "../explain/topology.js";
import type { EndpointSlice, Node, Pod, Service } from "../kube/types.js";
import { kubectlOrThrow } from "./cluster.js";
import { nodePaths } from "./plan.js";
import { NODES } from "./walkthrough.js";

/** What each step of the walk is a picture of. */
const STEPS: readonly Step[] = ["overlay", "clusterip", "nodeport", "loadbalancer"];

/** The kinds that a topology is made of, as kubectl calls them. */
const KINDS = "nodes,pods,services,endpointslices.discovery.k8s.io,ipamblocks.podwire.dev";

type Item =
  | (Node & { kind: "Node" })
  | (Pod & { kind: "Pod" })
  | (Service & { kind: "Service" })
  | (EndpointSlice & { kind: "EndpointSlice" })
  | (BlockObject & { kind: "IPAMBlock" });

/** Sorts what kubectl lists by kind. */
function objectsOf(items: readonly Item[]): ClusterObjects {
  return {
    nodes: items.filter((item) => item.kind === "Node"),
    pods: items.filter((item) => item.kind === "Pod"),
    services: items.filter((item) => item.kind === "Service"),
    endpointSlices: items.filter((item) => item.kind === "EndpointSlice"),
    blocks: items.filter((item) => item.kind === "IPAMBlock"),
  };
}

/** The lab's cluster as it is now. */
async function labTopology(): Promise<Topology> {
  const listed = await kubectlOrThrow(["get", KINDS, "--all-namespaces", "-o", "json"]);
  const { items } = JSON.parse(listed) as { items: Item[] };
  return topologyOf(objectsOf(items), await liveState());
}

function liveState(): Promise<LiveState> {
  return readLiveState(
    NODES.map(({ name }) => name),
    (node, topic) => ask(join(nodePaths(node).stateDir, "agent.sock"), topic),
  );
}

/** What came of a step's picture. */
export interface StepPicture {
  text: string;
  /** Path of the SVG file; null where it could not be written. */
  file: string | null;
  /** Why not. */
  problem: string;
}

/** Draws a step (1 and on): the file is STEP-NAME.svg in `directory`, which is made if it is missing. */
export async function drawStep(step: number, directory: string): Promise<StepPicture> {
  const topic = STEPS[step - 1];
  if (topic === undefined) throw new RangeError(`no picture of step ${step}`);
  const topology = await labTopology();
  const text = (await render(topology, "text", { step: topic })).toString("utf8");
  const file = resolve(directory, `${step}-${topic}.svg`);
  try {
    await mkdir(directory, { recursive: true });
    await writeFile(file, await render(topology, "svg", { step: topic }));
  } catch (error) {
    return { text, file: null, problem: (error as Error).message };
  }
  return { text, file, problem: "" };
}
