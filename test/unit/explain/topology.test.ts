/** Objects of the API and agents' tables to one value. */
import { expect, test } from "vitest";
import { type ClusterObjects, NO_LIVE_STATE, topologyOf } from "../../../src/explain/topology.js";
import { clusterOf, DAEMON_SETS, liveOf, STEP_SERVICES, WALKTHROUGH_NODES } from "../../support/topology.js";

const SHAPE = {
  nodes: WALKTHROUGH_NODES,
  daemonSets: DAEMON_SETS,
  services: [...STEP_SERVICES.nodeport, ...STEP_SERVICES.loadbalancer],
};

test("the walkthrough's nodes: addresses, VTEPs, blocks, pods in the order of their addresses", () => {
  const { nodes, overlay, faults } = topologyOf(clusterOf(SHAPE), liveOf(SHAPE));
  expect(overlay).toEqual({ vni: 4096, l4Port: 4789, mtu: 1450 });
  expect(faults).toEqual([]);
  expect(nodes.map(({ name, address }) => [name, address])).toEqual([
    ["k8s-master", "192.168.2.30"],
    ["k8s-worker01", "192.168.2.31"],
    ["k8s-worker02", "192.168.2.32"],
    ["k8s-worker03", "192.168.2.33"],
  ]);
  const worker = nodes[1]!;
  expect(worker.vtep).toEqual({ tunnelAddress: "10.1.79.64", mac: "66:00:00:00:00:01", l4Port: 4789 });
  expect(worker.blocks).toEqual([{ cidr: "10.1.79.64/26", size: 64, used: 4 }]);
  expect(worker.pods.map(({ workload, address, ports }) => [workload, address, ports[0]?.l4Port])).toEqual([
    ["nginx-ds", "10.1.79.65", 80],
    ["apache-ds", "10.1.79.66", 90],
    ["redis-ds", "10.1.79.67", 6379],
  ]);
  expect(worker).toMatchObject({ ready: true, live: true });
});

test("a Service has its ways in, and the pods behind it with their nodes", () => {
  const live = liveOf(SHAPE, { "192.168.2.36": "k8s-worker02" });
  const { services, nodes } = topologyOf(clusterOf(SHAPE), live);
  const nginx = services.find(({ name }) => name === "lb-nginx-ds")!;
  expect(nginx).toMatchObject({
    key: "default/lb-nginx-ds",
    type: "LoadBalancer",
    clusterIp: "10.152.183.7",
    ports: [{ protocol: "TCP", port: 8080, targetPort: "80", nodePort: 30800 }],
    loadBalancer: [{ address: "192.168.2.36", owner: "k8s-worker02" }],
  });
  expect(nginx.backends.map(({ address, node }) => [address, node])).toEqual([
    ["10.1.39.193", "k8s-worker03"],
    ["10.1.69.193", "k8s-worker02"],
    ["10.1.79.65", "k8s-worker01"],
    ["10.1.235.193", "k8s-master"],
  ]);
  const pods = nodes.flatMap((node) => node.pods.map(({ key }) => key));
  expect(nginx.backends.every(({ pod }) => pod !== null && pods.includes(pod))).toBe(true);
  expect(nodes[2]!.owns).toEqual(["192.168.2.36"]);
  expect(services.find(({ name }) => name === "lb-redis-ds")!.loadBalancer[0]!.owner).toBeNull();
});

test("what nobody says is null: no agent asked, no VTEP announced, no block, no address", () => {
  const objects: ClusterObjects = {
    nodes: [
      { metadata: { name: "new" }, status: { addresses: [{ type: "InternalIP", address: "192.0.2.1" }] } },
    ],
    pods: [{ metadata: { name: "waits" }, spec: { nodeName: "new", containers: [] } }],
    services: [],
    endpointSlices: [],
    blocks: [],
  };
  const { overlay, nodes } = topologyOf(objects, NO_LIVE_STATE);
  expect(overlay).toBeNull();
  expect(nodes).toEqual([
    expect.objectContaining({ address: "192.0.2.1", vtep: null, blocks: [], live: false, ready: false }),
  ]);
  expect(nodes[0]!.pods).toEqual([expect.objectContaining({ address: "", ports: [], workload: "waits" })]);
});

test.each([
  ["not in the table", () => null],
  ["datagrams go to 192.0.2.9, not 192.168.2.32", { address: "192.0.2.9" }],
  ["MAC 66:00:00:00:00:99, not 66:00:00:00:00:02", { mac: "66:00:00:00:00:99" }],
  ["tunnel address 10.1.0.1, not 10.1.69.192", { tunnelAddress: "10.1.0.1" }],
])("a table that is wrong: %s", (reason, change) => {
  const live = liveOf(SHAPE);
  const state = live.nodes.get("k8s-worker01")!;
  const vteps = state.vteps.flatMap((entry) =>
    entry.node !== "k8s-worker02" ? entry : typeof change === "function" ? [] : { ...entry, ...change },
  );
  const nodes = new Map(live.nodes).set("k8s-worker01", { ...state, vteps });
  const { faults } = topologyOf(clusterOf(SHAPE), { ...live, nodes });
  expect(faults).toEqual([{ at: "k8s-worker01", about: "k8s-worker02", reason }]);
});

test("left out: ended pods, headless Services, ExternalName, slices of IPv6", () => {
  const objects = clusterOf({ ...SHAPE, services: [STEP_SERVICES.clusterip[0]] });
  const [pod] = objects.pods;
  const [slice] = objects.endpointSlices;
  const { nodes, services } = topologyOf({
    ...objects,
    pods: [...objects.pods, { ...pod!, metadata: { name: "done" }, status: { phase: "Succeeded" } }],
    services: [
      ...objects.services,
      { metadata: { name: "headless" }, spec: { clusterIP: "None" } },
      { metadata: { name: "elsewhere" }, spec: { type: "ExternalName", externalName: "example.org" } },
    ],
    endpointSlices: [slice!, { ...slice!, addressType: "IPv6", endpoints: [{ addresses: ["2001:db8::1"] }] }],
  });
  expect(nodes.flatMap(({ pods }) => pods)).toHaveLength(12);
  expect(services.map(({ name, backends }) => [name, backends.length])).toEqual([["clusterip-nginx-ds", 4]]);
});

test("the pods of a Deployment are alike, whichever of its ReplicaSets made them", () => {
  const objects = clusterOf({ ...SHAPE, services: [] });
  const owned = (hash: string) => ({
    metadata: {
      name: `echo-${hash}-x`,
      labels: { "pod-template-hash": hash },
      ownerReferences: [
        { apiVersion: "apps/v1", kind: "ReplicaSet", name: `echo-${hash}`, uid: hash, controller: true },
      ],
    },
    spec: { nodeName: "k8s-master", containers: [] },
    status: { podIP: "10.1.235.200" },
  });
  const { nodes } = topologyOf({ ...objects, pods: [owned("66b4"), owned("7c5d")] });
  expect(nodes[0]!.pods.map(({ workload }) => workload)).toEqual(["echo", "echo"]);
});
