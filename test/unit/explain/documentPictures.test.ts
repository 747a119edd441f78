/**
 * The pictures in docs/pictures are what the code draws today: of the cluster that README's walkthrough
 * shows, as objects of the API. Where drawing changes, `npx vitest run -u` on this file writes them anew.
 */
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { vtepMac } from "../../../src/desired/mac.js";
import { render } from "../../../src/explain/picture/render.js";
import type { Step } from "../../../src/explain/picture/selection.js";
import { topologyOf } from "../../../src/explain/topology.js";
import { read } from "../../support/documents.js";
import {
  type ClusterShape,
  clusterOf,
  DAEMON_SETS,
  liveOf,
  STEP_SERVICES,
  WALKTHROUGH_NODES,
} from "../../support/topology.js";

/** By DaemonSet, in the order of the nodes. */
const ENDINGS = [
  ["nkzkx", "c29dm", "ww8dx", "kbb8t"],
  ["k6bvz", "6lcqd", "62dwx", "vn8jt"],
  ["rwz2q", "9x5gd", "jc88b", "9b7jp"],
];
const CLUSTER_IPS = ["10.152.183.34", "10.152.183.223", "10.152.183.41"];
const OWNERS = {
  "192.168.2.36": "k8s-worker02",
  "192.168.2.37": "k8s-worker03",
  "192.168.2.38": "k8s-worker02",
};

const CLUSTER: ClusterShape = {
  nodes: WALKTHROUGH_NODES.map((node) => ({ ...node, mac: vtepMac(node.name) })),
  daemonSets: DAEMON_SETS.map((set, i) => ({ ...set, endings: ENDINGS[i]! })),
  services: STEP_SERVICES.loadbalancer.map((service, i) => ({ ...service, clusterIp: CLUSTER_IPS[i]! })),
};

/** Of the walk's first step, which has no Service yet, and of its last. */
test.each<[Step, ClusterShape, Record<string, string>]>([
  ["overlay", { ...CLUSTER, services: [] }, {}],
  ["loadbalancer", CLUSTER, OWNERS],
])("%s.svg", async (step, cluster, owners) => {
  const svg = await render(topologyOf(clusterOf(cluster), liveOf(cluster, owners)), "svg", { step });
  const file = fileURLToPath(new URL(`../../../docs/pictures/${step}.svg`, import.meta.url));
  await expect(svg.toString("utf8")).toMatchFileSnapshot(file);
});

test("README's text is about the same cluster", () => {
  const readme = read("README.md");
  for (const [i, { name, address, port }] of CLUSTER.services.entries()) {
    const row = new RegExp(`^${name} +LoadBalancer +${CLUSTER_IPS[i]} +${address} +${port}:`, "m");
    expect(readme).toMatch(row);
  }
  for (const [address, owner] of Object.entries(OWNERS))
    expect(readme).toContain(`${address} is announced by ${owner} (`);
  const sets = ["nginx", "apache", "redis"].map((set, i) => [set, ENDINGS[i]!] as const);
  for (const [, set, ending] of readme.matchAll(/\b(nginx|apache|redis)-ds-([a-z0-9]{5})\b/g))
    expect(sets.find(([name]) => name === set)![1], `${set}-ds-${ending}`).toContain(ending);
});
