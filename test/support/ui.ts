/** A page's server over a cluster in memory, with agents that tell what tests let them. */
import { execFileSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { ReadNode } from "../../src/explain/readCluster.js";
import type { NodeAnnouncement } from "../../src/explain/topology.js";
import { FakeKube } from "../../src/kube/FakeKube.js";
import type { KubeObject, ResourceRef } from "../../src/kube/KubeApi.js";
import { ENDPOINTSLICES, IPAMBLOCKS, NODES, PODS, SERVICES } from "../../src/kube/resources.js";
import { ClusterFeed } from "../../src/ui/ClusterFeed.js";
import type { FlowRow } from "../../src/ui/protocol.js";
import type { NodeCounters } from "../../src/ui/traffic.js";
import { type Tracer, UiServer } from "../../src/ui/UiServer.js";
import { type ClusterShape, clusterOf, liveOf } from "./topology.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** Where tests leave what they make; git-ignored. */
export const OUTPUT = `${ROOT}test-output`;

/** Compiles the page's modules as the build does; returns their folder. */
export function compilePage(): string {
  const folder = `${OUTPUT}/dist`;
  const tsc = `${ROOT}node_modules/.bin/tsc`;
  execFileSync(tsc, ["-p", `${ROOT}tsconfig.ui.json`, "--outDir", folder], { cwd: ROOT });
  copyFileSync(`${ROOT}src/ui/page/style.css`, `${folder}/ui/page/style.css`);
  return folder;
}

/** What agents tell; may be changed while the page runs. */
export interface FakeAgents {
  counters: Map<string, NodeCounters>;
  announcements: Map<string, NodeAnnouncement>;
}

export interface TestPage {
  kube: FakeKube;
  agents: FakeAgents;
  /** What the feed told of. */
  errors: readonly unknown[];
  /** http://127.0.0.1:PORT */
  address: string;
  close(): Promise<void>;
}

/** Serves a cluster. */
export async function servePage(
  shape: ClusterShape,
  options: { modules: string; trace?: Tracer; flows?: () => Promise<FlowRow[]> },
): Promise<TestPage> {
  const kube = new FakeKube();
  await fill(kube, shape);
  const agents: FakeAgents = { counters: new Map(), announcements: new Map() };
  const states = liveOf(shape).nodes;
  const topics: Record<string, ReadonlyMap<string, unknown>> = {
    status: states,
    counters: agents.counters,
    announcement: agents.announcements,
  };
  const readNode: ReadNode = async (node, topic) => {
    const answer = topics[topic]?.get(node);
    if (answer === undefined) throw new Error(`${node} does not tell its ${topic}`);
    return answer;
  };
  const errors: unknown[] = [];
  const feed = new ClusterFeed({ kube, readNode, onError: (error) => errors.push(error) });
  await feed.start();
  const { modules, trace = null, flows = async () => [] } = options;
  const server = new UiServer({ feed, trace, flows, modules });
  const address = await server.listen({ address: "127.0.0.1", port: 0 });
  return {
    kube,
    agents,
    errors,
    address,
    close: async () => {
      await server.close();
      await feed.stop();
    },
  };
}

/** Creates an object, then gives it its status, which a create leaves out. */
export async function createWithStatus(
  kube: FakeKube,
  resource: ResourceRef,
  object: KubeObject & { status?: unknown },
): Promise<void> {
  const made = await kube.create(resource, object);
  if (object.status !== undefined) await kube.update(resource, { ...made, status: object.status }, "status");
}

async function fill(kube: FakeKube, shape: ClusterShape): Promise<void> {
  const { nodes, pods, services, endpointSlices, blocks } = clusterOf(shape);
  const create = async (resource: ResourceRef, objects: readonly KubeObject[]) => {
    for (const object of objects) await createWithStatus(kube, resource, object);
  };
  await create(NODES, nodes);
  await create(PODS, pods);
  await create(SERVICES, services);
  await create(ENDPOINTSLICES, endpointSlices);
  await create(IPAMBLOCKS, blocks);
}
