/** The agent's config from the API: registration, block, pods, what comes and goes, a server that is away. */
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Agent } from "../../../src/agent/Agent.js";
import { KubeSource } from "../../../src/agent/kubeSource.js";
import { readLastConfig, saveConfig } from "../../../src/agent/lastConfig.js";
import { readLastServices, saveServices } from "../../../src/agent/lastServices.js";
import type { Machine } from "../../../src/agent/machine.js";
import { SERVICE_HOST_DEFAULTS } from "../../../src/agent/serviceHost.js";
import { native } from "../../../src/binding/index.js";
import { loaded } from "../../../src/cli/agentKube.js";
import { vtepMac } from "../../../src/desired/mac.js";
import { FakeHost } from "../../../src/host/FakeHost.js";
import { Allocator } from "../../../src/ipam/Allocator.js";
import type { IPAMBlock, IPPool } from "../../../src/ipam/types.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { KubeError } from "../../../src/kube/KubeError.js";
import {
  ENDPOINTSLICES,
  EVENTS,
  IPADDRESSPOOLS,
  IPAMBLOCKS,
  IPPOOLS,
  L2ADVERTISEMENTS,
  LEASES,
  NODES,
  PODS,
  SERVICES,
} from "../../../src/kube/resources.js";
import type {
  EndpointSlice,
  Event,
  IPAddressPool,
  L2Advertisement,
  Node,
  Pod,
  Service,
} from "../../../src/kube/types.js";
import type { AgentConfig } from "../../../src/model/AgentConfig.js";
import { formatIpv4, parseIpv4 } from "../../../src/model/ipv4.js";
import { ServicePublisher } from "../../../src/reconcile/ServicePublisher.js";
import { ServiceTable } from "../../../src/tables/ServiceTable.js";
import { agentBase } from "../../support/agentBase.js";
import { FakeWorker } from "../../support/FakeWorker.js";
import { waitFor } from "../../support/netns.js";

let kube: FakeKube;
let base: string;
let sources: KubeSource[];
let agents: Agent[];
let logged: string[];
/** What onNodeEligible was told, in order. */
let eligible: boolean[];

type ServiceHost = AgentConfig["serviceHost"];
type Restored = Parameters<KubeSource["restore"]>;

const machine: Machine = {
  architecture: "amd64",
  kernelVersion: "5.15.0",
  osImage: "Ubuntu 22.04.3 LTS",
  machineId: "m",
  systemUuid: "s",
  bootId: "b",
  cpus: 2,
  memoryKib: 2048,
};

beforeEach(async () => {
  kube = new FakeKube();
  base = mkdtempSync(join(tmpdir(), "podwire-kube-"));
  sources = [];
  agents = [];
  logged = [];
  eligible = [];
  await kube.create<IPPool>(IPPOOLS, { metadata: { name: "default" }, spec: { cidr: "10.1.0.0/16" } });
  await pin("10.1.235.192/26", "k8s-master");
  await pin("10.1.79.64/26", "k8s-worker01");
});
afterEach(async () => {
  for (const source of sources) await source.stop();
  for (const agent of agents) await agent.stop();
  rmSync(base, { recursive: true, force: true });
});

function pin(cidr: string, node: string) {
  const name = cidr.replaceAll(/[./]/g, "-");
  const spec = { cidr, node, affinityState: "confirmed" as const, pinned: true };
  return kube.create<IPAMBlock>(IPAMBLOCKS, { metadata: { name }, spec });
}

function baseOf(node: string, address: string) {
  return agentBase(node, address, join(base, node));
}

/** A source that feeds nobody but a list, or nobody at all. */
function source(
  node: string,
  address: string,
  { feed = true, serviceHost = null as ServiceHost, restore = null as (() => Restored) | null } = {},
) {
  const say = (_: object, message: string) => void logged.push(message);
  const made = new KubeSource({
    api: kube,
    claimer: new Allocator(kube, node),
    base: { ...baseOf(node, address), serviceHost },
    podNetns: "/run/netns/{namespace}.{name}",
    description: { labels: { zone: "a" }, machine, version: "0.1.0", podPort: 10250 },
    saveServices: (services) => saveServices(baseOf(node, address), services),
    onNodeEligible: (now) => void eligible.push(now),
    log: { debug: () => {}, info: say, warn: say, error: say },
  });
  sources.push(made);
  if (restore !== null) made.restore(...restore());
  made.start();
  const configs: AgentConfig[] = [];
  const fed = made.ready.then((config) => {
    if (!feed) return;
    configs.push(config);
    return made.feed(config, async (next) => void configs.push(next));
  });
  return { source: made, configs, fed, last: () => configs.at(-1)! };
}

const vteps = (config: AgentConfig | undefined) =>
  (config?.vteps ?? []).map(({ node, address }) => `${node} ${address}`);

function bind(name: string, node: string): Promise<Pod> {
  const spec = { nodeName: node, containers: [{ name: "c", image: "nginx" }] };
  return kube.create<Pod>(PODS, { metadata: { name, namespace: "default" }, spec });
}
const podIp = (name: string) => kube.peek<Pod>(PODS, name, "default")?.status?.podIP;

const readiness = (node: string) =>
  kube.peek<Node>(NODES, node)?.status?.conditions?.find(({ type }) => type === "Ready")?.status;

/** An agent on a host where only the pod default/a has a namespace. */
async function attachedAgent(): Promise<{ config: AgentConfig }> {
  const host = new FakeHost();
  const own = host.namespaces.get("")!;
  const eth0 = own.addLink("eth0", { up: true });
  own.addressTable.push({ index: eth0.index, address: parseIpv4("192.168.2.30")!, length: 24 });
  host.addNamespace("/run/netns/default.a");
  const { source: made } = source("k8s-master", "192.168.2.30", { feed: false });
  await waitFor(() => podIp("a") !== undefined, { what: "address" });
  const config = await made.ready;
  const say = (_: object, message: string) => void logged.push(message);
  const worker = new FakeWorker();
  const agent = await Agent.start(loaded({ kubeconfig: "kubeconfig" }, config), {
    host,
    startWorker: async () => worker,
    buildImage: worker.buildImage,
    mapFile: native.mapFile,
    log: { debug: say, info: say, warn: say, error: say },
    lenientPods: true,
  });
  agents.push(agent);
  await made.feed(config, (next) => agent.update(next));
  await waitFor(() => agent.status().pods.length === 1, { what: "pod a" });
  return { config: { ...config, pods: agent.status().pods } };
}

describe("registration", () => {
  test("the node is Ready once the agent forwards, not before", async () => {
    const made = source("k8s-master", "192.168.2.30", { feed: false });
    const config = await made.source.ready;
    expect(readiness("k8s-master")).toBe("False");
    await made.source.feed(config, async () => {});
    await waitFor(() => readiness("k8s-master") === "True", { what: "Ready" });
  });

  test("the Node says what the others and kubectl need", async () => {
    const { fed } = source("k8s-master", "192.168.2.30");
    await fed;
    await waitFor(() => readiness("k8s-master") === "True", { what: "Ready" });
    expect(kube.peek<Node>(NODES, "k8s-master")).toMatchObject({
      metadata: {
        labels: {
          "kubernetes.io/hostname": "k8s-master",
          "kubernetes.io/os": "linux",
          "kubernetes.io/arch": "amd64",
          zone: "a",
        },
        annotations: {
          "podwire.dev/vtep-mac": vtepMac("k8s-master"),
          "podwire.dev/tunnel-address": "10.1.235.192",
          "podwire.dev/underlay-address": "192.168.2.30",
          "podwire.dev/vxlan-port": "4789",
        },
      },
      status: {
        addresses: [
          { type: "InternalIP", address: "192.168.2.30" },
          { type: "Hostname", address: "k8s-master" },
        ],
        capacity: { cpu: "2", memory: "2048Ki", pods: "1015" },
        conditions: [
          { type: "NetworkUnavailable", status: "False" },
          { type: "Ready", status: "True" },
        ],
        daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
        nodeInfo: { osImage: "Ubuntu 22.04.3 LTS", kernelVersion: "5.15.0" },
      },
    });
    await waitFor(() => kube.peek(LEASES, "k8s-master", "kube-node-lease") !== undefined, { what: "lease" });
  });

  test("lost answers and conflicts on the way", async () => {
    kube.loseResponse({ verb: "create", plural: "nodes" });
    kube.loseResponse({ verb: "patch", plural: "nodes" });
    kube.failNext({ plural: "ipamblocks" }, undefined, 2);
    kube.failNext({ verb: "list", plural: "pods" });
    const { fed, last } = source("k8s-master", "192.168.2.30");
    await fed;
    expect(last().tunnelAddress).toBe("10.1.235.192");
    expect(kube.all(NODES)).toHaveLength(1);
  });

  test("where a kubelet runs, only annotations and NetworkUnavailable are ours", async () => {
    const status = { conditions: [{ type: "Ready", status: "True", reason: "KubeletReady" }] };
    await kube.create<Node>(NODES, { metadata: { name: "k8s-master", labels: { own: "yes" } }, status });
    await bind("a", "k8s-master");
    const { fed } = source("k8s-master", "192.168.2.30");
    await fed;
    const reasons = () =>
      kube.peek<Node>(NODES, "k8s-master")!.status!.conditions!.map(({ reason }) => reason);
    await waitFor(() => reasons().includes("PodwireIsUp"), { what: "network" });
    const node = kube.peek<Node>(NODES, "k8s-master")!;
    expect(node.metadata.labels).toEqual({ own: "yes" });
    expect(node.metadata.annotations!["podwire.dev/tunnel-address"]).toBe("10.1.235.192");
    expect(node.status!.conditions!.map(({ type, reason }) => `${type} ${reason}`)).toEqual([
      "Ready KubeletReady",
      "NetworkUnavailable PodwireIsUp",
    ]);
    expect(kube.all(LEASES)).toEqual([]);
    expect(podIp("a")).toBeUndefined();
  });

  test("what somebody takes from the Node comes back; a deleted Node does not", async () => {
    const { fed } = source("k8s-master", "192.168.2.30");
    await fed;
    const annotations = { "podwire.dev/tunnel-address": null };
    await kube.patch(NODES, "k8s-master", undefined, "merge", { metadata: { annotations } });
    const tunnel = () =>
      kube.peek<Node>(NODES, "k8s-master")?.metadata.annotations?.["podwire.dev/tunnel-address"];
    await waitFor(() => tunnel() === "10.1.235.192", { what: "annotation" });
    await kube.delete(NODES, "k8s-master");
    await waitFor(() => logged.some((line) => /was deleted/.test(line)), { what: "word about it" });
    expect(kube.all(NODES)).toEqual([]);
  });
});

describe("other nodes", () => {
  test("come, move and go", async () => {
    const master = source("k8s-master", "192.168.2.30");
    await master.fed;
    expect(vteps(master.last())).toEqual([]);
    const worker = source("k8s-worker01", "192.168.2.31");
    await worker.fed;
    await waitFor(() => vteps(master.last()).length === 1, { what: "the worker" });
    expect(master.last().vteps).toEqual([
      {
        node: "k8s-worker01",
        address: "192.168.2.31",
        port: 4789,
        tunnelAddress: "10.1.79.64",
        mac: vtepMac("k8s-worker01"),
        peer: "podwire",
        blocks: ["10.1.79.64/26"],
      },
    ]);
    await waitFor(() => vteps(worker.last()).length === 1, { what: "the master" });
    await worker.source.stop();
    const moved = source("k8s-worker01", "192.168.2.41");
    await moved.fed;
    await waitFor(() => vteps(master.last())[0] === "k8s-worker01 192.168.2.41", { what: "the move" });
    await kube.delete(NODES, "k8s-worker01");
    await waitFor(() => vteps(master.last()).length === 0, { what: "its end" });
  });

  test("a burst makes few configs, and heartbeats none", async () => {
    const master = source("k8s-master", "192.168.2.30");
    await master.fed;
    for (let i = 0; i < 50; i++) {
      await pin(`10.1.${i}.0/26`, `n${i}`);
      const annotations = {
        "podwire.dev/underlay-address": `192.168.3.${i}`,
        "podwire.dev/tunnel-address": `10.1.${i}.0`,
      };
      await kube.create<Node>(NODES, { metadata: { name: `n${i}`, annotations } });
    }
    await waitFor(() => vteps(master.last()).length === 50, { what: "all nodes" });
    const before = master.configs.length;
    expect(before).toBeLessThan(20);
    for (let i = 0; i < 50; i++) {
      const conditions = [{ type: "Ready", status: "True", lastHeartbeatTime: String(i) }];
      await kube.patch(NODES, `n${i}`, undefined, "merge", { status: { conditions } }, "status");
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(master.configs.length).toBe(before);
  });

  test("a node that claims what is another's is left out, with a word", async () => {
    const master = source("k8s-master", "192.168.2.30");
    await master.fed;
    await pin("10.1.1.0/26", "thief");
    const annotations = {
      "podwire.dev/underlay-address": "192.168.2.30",
      "podwire.dev/tunnel-address": "10.1.1.0",
    };
    await kube.create<Node>(NODES, { metadata: { name: "thief", annotations } });
    await waitFor(() => logged.includes("node thief has an address of k8s-master"), { what: "word" });
    expect(vteps(master.last())).toEqual([]);
  });
});

describe("pods", () => {
  test("one that cannot be attached is named as it is now, not as another was at the start", async () => {
    await bind("a", "k8s-master");
    const { config } = await attachedAgent();
    await kube.delete(PODS, "a", "default", { gracePeriodSeconds: 0 });
    await bind("z", "k8s-master");
    await waitFor(() => logged.some((line) => line.includes("no network namespace")), { what: "log" });
    const lines = logged.filter((line) => line.includes("no network namespace"));
    expect(lines.filter((line) => !line.startsWith("podwire agent: pod default/z:"))).toEqual([]);
    expect(config.pods).toHaveLength(1);
  });

  test("get consecutive addresses and give them back", async () => {
    await bind("a", "k8s-master");
    await bind("b", "k8s-master");
    await bind("elsewhere", "k8s-worker01");
    const master = source("k8s-master", "192.168.2.30");
    await master.fed;
    await waitFor(() => master.last().pods.length === 2, { what: "two pods" });
    expect(master.last().pods).toEqual([
      { name: "default/a", netns: "/run/netns/default.a", address: "10.1.235.193", interface: "eth0" },
      { name: "default/b", netns: "/run/netns/default.b", address: "10.1.235.194", interface: "eth0" },
    ]);
    expect(kube.peek<Pod>(PODS, "a", "default")!.status).toMatchObject({
      podIPs: [{ ip: "10.1.235.193" }],
      hostIP: "192.168.2.30",
    });
    expect(podIp("elsewhere")).toBeUndefined();
    await kube.delete(PODS, "a", "default", { gracePeriodSeconds: 0 });
    await waitFor(() => master.last().pods.length === 1, { what: "one pod" });
    const allocated = () =>
      kube
        .peek<IPAMBlock>(IPAMBLOCKS, "10-1-235-192-26")!
        .spec.allocations!.map(({ ordinal }) => ordinal)
        .sort();
    await waitFor(() => allocated().length === 2, { what: "release" });
    expect(allocated()).toEqual([0, 2]);
    await kube.patch(PODS, "b", "default", "merge", { status: { phase: "Succeeded" } }, "status");
    await waitFor(() => allocated().length === 1, { what: "release of the one that has ended" });
    expect(master.last().pods).toEqual([]);
  });

  test("keep their address when their node's changes, and name the new one", async () => {
    await bind("a", "k8s-master");
    const before = source("k8s-master", "192.168.2.30");
    await waitFor(() => podIp("a") !== undefined, { what: "address" });
    const address = podIp("a");
    await before.source.stop();
    source("k8s-master", "192.168.2.99");
    const hostIp = () => kube.peek<Pod>(PODS, "a", "default")!.status!.hostIP;
    await waitFor(() => hostIp() === "192.168.2.99", { what: "the node's new address" });
    expect(podIp("a")).toBe(address);
  });

  test("lost answers give no pod two addresses", async () => {
    const master = source("k8s-master", "192.168.2.30");
    await master.fed;
    kube.loseResponse({ verb: "update", plural: "ipamblocks" });
    kube.loseResponse({ verb: "patch", plural: "pods" });
    await bind("a", "k8s-master");
    await waitFor(() => podIp("a") !== undefined, { what: "address" });
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { allocations } = kube.peek<IPAMBlock>(IPAMBLOCKS, "10-1-235-192-26")!.spec;
    expect(allocations).toHaveLength(2);
  });
});

describe("a server that is away", () => {
  test("the last config stands, and it catches up", async () => {
    // No agent runs there, which would correct its Node.
    await pin("10.1.69.192/26", "k8s-worker02");
    const put = (address: string) =>
      kube.put(NODES, {
        metadata: {
          name: "k8s-worker02",
          annotations: {
            "podwire.dev/underlay-address": address,
            "podwire.dev/tunnel-address": "10.1.69.192",
          },
        },
      });
    put("192.168.2.32");
    const master = source("k8s-master", "192.168.2.30");
    await master.fed;
    expect(vteps(master.last())).toEqual(["k8s-worker02 192.168.2.32"]);
    kube.goOffline();
    await waitFor(() => logged.some((line) => /does not answer.*forwarding goes on/.test(line)), {
      what: "word",
    });
    expect(vteps(master.last())).toEqual(["k8s-worker02 192.168.2.32"]);
    put("192.168.2.51");
    kube.compact();
    kube.goOnline();
    await waitFor(() => vteps(master.last())[0] === "k8s-worker02 192.168.2.51", { what: "catching up" });
    expect(logged).toContain("the API server answers again");
  });

  test("a pool that is deleted takes nothing along", async () => {
    const master = source("k8s-master", "192.168.2.30");
    await master.fed;
    await kube.delete(IPPOOLS, "default");
    await waitFor(() => logged.some((line) => /no pool any more/.test(line)), { what: "word" });
    expect(master.last().podPool).toEqual(["10.1.0.0/16"]);
  });

  test("says when load balancers should send the node nothing new", async () => {
    const master = source("k8s-master", "192.168.2.30");
    await master.fed;
    expect(eligible.at(-1)).toBe(true);
    const taint = (key: string) =>
      kube.patch(NODES, "k8s-master", undefined, "merge", {
        spec: { taints: [{ key, effect: "NoSchedule" }] },
      });
    await taint("ToBeDeletedByClusterAutoscaler");
    await waitFor(() => eligible.at(-1) === false, { what: "the taint" });
    await taint("node.kubernetes.io/unschedulable");
    await waitFor(() => eligible.at(-1) === true, { what: "another taint" });
    await kube.delete(NODES, "k8s-master");
    await waitFor(() => eligible.at(-1) === false, { what: "the Node's end" });
  });

  test("a health check that cannot be served becomes an Event of the Service", async () => {
    const master = source("k8s-master", "192.168.2.30");
    await master.fed;
    master.source.reportServiceHealthFailed("default", "web", "port in use");
    const event = await waitFor(
      async () =>
        (await kube.list<Event>(EVENTS, { namespace: "default" })).items.find(
          ({ message }) => message === "port in use",
        ),
      { what: "the Event" },
    );
    expect(event).toMatchObject({
      type: "Warning",
      reason: "FailedToStartServiceHealthcheck",
      involvedObject: { kind: "Service", namespace: "default", name: "web" },
    });
  });

  test("addresses of Services outlive a start without the API, the rest comes from the command line", async () => {
    const { fed, last } = source("k8s-master", "192.168.2.30");
    await fed;
    const mine = { ...baseOf("k8s-master", "192.168.2.30"), serviceHost: SERVICE_HOST_DEFAULTS };
    mkdirSync(mine.stateDir);
    saveConfig({
      ...last(),
      serviceHost: { ...SERVICE_HOST_DEFAULTS, ranges: ["10.9.0.0/24"], vips: ["192.168.2.36"] },
    });
    expect(readLastConfig(mine)!.serviceHost).toEqual({ ...SERVICE_HOST_DEFAULTS, vips: ["192.168.2.36"] });
  });

  test("the config that is kept is only for the same node at the same place", async () => {
    const { fed, last } = source("k8s-master", "192.168.2.30");
    await fed;
    const mine = baseOf("k8s-master", "192.168.2.30");
    expect(readLastConfig(mine)).toBeNull();
    mkdirSync(mine.stateDir);
    saveConfig(last());
    expect(readLastConfig(mine)).toEqual(last());
    expect(statSync(join(mine.stateDir, "config.json")).mode & 0o777).toBe(0o600);
    expect(readLastConfig({ ...baseOf("other", "192.168.2.30"), stateDir: mine.stateDir })).toBeNull();
    expect(readLastConfig({ ...mine, underlay: { ...mine.underlay, address: "192.168.2.31" } })).toBeNull();
  });
});

test("feeds the agent: tables and devices follow the API", async () => {
  const host = new FakeHost();
  const own = host.namespaces.get("")!;
  const eth0 = own.addLink("eth0", { up: true });
  own.addressTable.push({ index: eth0.index, address: parseIpv4("192.168.2.30")!, length: 24 });
  host.addNamespace("/run/netns/default.a");
  const worker = new FakeWorker();
  const say = (_: object, message: string) => void logged.push(message);
  await bind("a", "k8s-master");
  await bind("absent", "k8s-master");
  const master = source("k8s-master", "192.168.2.30");
  const config = await master.source.ready;
  const agent = await Agent.start(
    {
      config,
      file: "",
      problem: (_, message) => ({ file: "", line: 0, column: 0, field: "", message, remedy: "" }),
    },
    {
      host,
      startWorker: async () => worker,
      buildImage: worker.buildImage,
      mapFile: native.mapFile,
      log: { debug: say, info: say, warn: say, error: say },
      lenientPods: true,
      services: master.source.services,
    },
  );
  agents.push(agent);
  await master.source.feed(
    config,
    (next) => agent.update(next),
    () => agent.publishServices(),
  );
  const up = () =>
    agent
      .status()
      .pods.filter(({ state }) => state === "up")
      .map(({ name }) => name);
  await waitFor(() => up().length === 1, { what: "pod a" });
  const other = source("k8s-worker01", "192.168.2.31");
  await other.fed;
  await waitFor(() => worker.tables.vteps.length === 1, { what: "the VTEP in the tables" });
  expect(worker.tables.vteps[0]!.address).toBe(parseIpv4("192.168.2.31"));
  await kube.delete(PODS, "a", "default", { gracePeriodSeconds: 0 });
  await waitFor(() => up().length === 0, { what: "pod a's end" });
  await kube.delete(NODES, "k8s-worker01");
  await waitFor(() => worker.tables.vteps.length === 0, { what: "the VTEP's end" });
  expect(worker.breaches).toEqual([]);
});

describe("Services", () => {
  const VIP = parseIpv4("10.152.183.10")!;
  const serviceOf = (name: string, clusterIP: string) =>
    kube.create<Service>(SERVICES, {
      metadata: { name, namespace: "default" },
      spec: { clusterIP, clusterIPs: [clusterIP], ports: [{ port: 80, protocol: "TCP" }] },
    });
  const sliceOf = (name: string, service: string, addresses: string[], zones?: string[]): EndpointSlice => ({
    metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": service } },
    addressType: "IPv4",
    ports: [{ port: 80, protocol: "TCP" }],
    endpoints: addresses.map((address, i) => ({
      addresses: [address],
      nodeName: "k8s-worker01",
      ...(zones === undefined ? {} : { hints: { forZones: [{ name: zones[i]! }] } }),
    })),
  });

  test("a start while the API is away: those of before count until its own are all there", async () => {
    await serviceOf("web", "10.152.183.10");
    await serviceOf("gone", "10.152.183.11");
    for (const name of ["web", "gone"])
      await kube.create<EndpointSlice>(ENDPOINTSLICES, sliceOf(`${name}-1`, name, ["10.1.79.65"]));
    const before = source("k8s-master", "192.168.2.30", { feed: false });
    const config = await before.source.ready;
    mkdirSync(config.stateDir);
    await before.source.feed(
      config,
      async () => {},
      async () => void before.source.services.compile(),
    );
    await waitFor(() => before.source.services.size === 2, { what: "the Services" });
    await waitFor(() => before.source.services.nameOf(2) !== undefined, { what: "their compilation" });
    // Stopping keeps them without waiting for the next time.
    await before.source.stop();
    const kept = readLastServices(config)!;
    expect([...kept.services].map(({ key }) => key).sort()).toEqual(["default/gone", "default/web"]);

    kube.goOffline();
    const after = source("k8s-master", "192.168.2.30", { feed: false, restore: () => [config, kept] });
    const { services } = after.source;
    const table = new ServiceTable();
    const compile = () => {
      const { image } = services.compile();
      table.adopt(image);
      services.acknowledge(image);
    };
    const leads = (to: string) => {
      const row = table.find(parseIpv4(to)!, 6, 80);
      if (row < 0) return "";
      const ring = table.insideRing(row);
      return formatIpv4(table.address(table.member(ring, 0)));
    };
    compile();
    expect([leads("10.152.183.10"), leads("10.152.183.11")]).toEqual(["10.1.79.65", "10.1.79.65"]);

    await kube.goOnline();
    await kube.delete(SERVICES, "gone", "default");
    await kube.delete(ENDPOINTSLICES, "gone-1", "default");
    await after.source.ready;
    compile();
    expect([leads("10.152.183.10"), leads("10.152.183.11")]).toEqual(["10.1.79.65", ""]);
    expect(services.size).toBe(1);
  });

  /** A source whose Services go to a worker, and a reader of that. `calls` says what was applied, in order. */
  async function fed() {
    const worker = new FakeWorker();
    const calls: string[] = [];
    const { source: made } = source("k8s-master", "192.168.2.30");
    const config = await made.ready;
    const publisher = new ServicePublisher(made.services, worker);
    await made.feed(
      config,
      async (next) => void calls.push(`config with ${next.vteps.length} VTEPs`),
      async () => {
        calls.push("services");
        await publisher.publish();
      },
    );
    const backends = () => {
      const row = worker.services.find(VIP, 6, 80);
      const ring = row < 0 ? -1 : worker.services.insideRing(row);
      if (ring < 0) return row < 0 ? "no service" : "none";
      return Array.from({ length: worker.services.count(ring) }, (_, i) =>
        formatIpv4(worker.services.address(worker.services.member(ring, i))),
      ).join(" ");
    };
    const become = (wanted: string) =>
      waitFor(() => backends() === wanted, { what: `${wanted}, not ${backends()}` });
    return { made, worker, calls, become };
  }

  test("come, change and go, whichever of their objects comes first", async () => {
    const { become } = await fed();
    await kube.create(ENDPOINTSLICES, sliceOf("web-1", "web", ["10.1.79.65", "10.1.79.66"]));
    await become("no service");
    await serviceOf("web", "10.152.183.10");
    await become("10.1.79.65 10.1.79.66");
    await kube.create(ENDPOINTSLICES, sliceOf("web-2", "web", ["10.1.79.67"]));
    await become("10.1.79.65 10.1.79.66 10.1.79.67");
    await kube.delete(ENDPOINTSLICES, "web-1", "default");
    await become("10.1.79.67");
    await kube.delete(ENDPOINTSLICES, "web-2", "default");
    await become("none");
    await kube.delete(SERVICES, "web", "default");
    await become("no service");
  });

  test("are published after the config of the same moment, and a burst gives one image", async () => {
    await serviceOf("web", "10.152.183.10");
    await kube.create(ENDPOINTSLICES, sliceOf("web-1", "web", ["10.1.79.65"]));
    const { made, worker, calls, become } = await fed();
    await become("10.1.79.65");
    expect(calls).toEqual(["services"]);
    // A node and endpoints on it, within the settle time.
    await Promise.all([
      kube.create<Node>(NODES, {
        metadata: {
          name: "k8s-worker01",
          annotations: {
            "podwire.dev/tunnel-address": "10.1.79.64",
            "podwire.dev/underlay-address": "192.168.2.31",
          },
        },
      }),
      ...Array.from({ length: 20 }, (_, i) =>
        kube.create(ENDPOINTSLICES, sliceOf(`more-${i}`, "web", [`10.1.79.${70 + i}`])),
      ),
    ]);
    await waitFor(() => calls.length >= 3, { what: "config and Services" });
    expect(calls[1]).toBe("config with 1 VTEPs");
    expect(calls[2]).toBe("services");
    await waitFor(
      () => worker.services.count(worker.services.insideRing(worker.services.find(VIP, 6, 80))) === 21,
      {
        what: "all endpoints",
      },
    );
    expect(worker.commands.length).toBeLessThan(10);
    // Somebody else's change is none of theirs.
    const images = worker.commands.length;
    await kube.delete(NODES, "k8s-worker01");
    await waitFor(() => calls.at(-1) === "config with 0 VTEPs", { what: "the node's end" });
    expect(worker.commands.length).toBe(images);
    await made.stop();
  });

  test("their addresses and health checks become the host's, once the dataplane has them", async () => {
    const balanced = (ip: string): Service => ({
      metadata: { name: "lb", namespace: "default" },
      spec: {
        type: "LoadBalancer",
        clusterIP: "10.152.183.20",
        clusterIPs: ["10.152.183.20"],
        externalTrafficPolicy: "Local",
        healthCheckNodePort: 31000,
        ports: [{ port: 80, protocol: "TCP" }],
      },
      status: { loadBalancer: { ingress: [{ ip }] } },
    });
    const { status: first, ...unserved } = balanced("192.168.2.36");
    await kube.create<Service>(SERVICES, unserved);
    await kube.patch(SERVICES, "lb", "default", "merge", { status: first }, "status");
    const { source: made } = source("k8s-master", "192.168.2.30", {
      feed: false,
      serviceHost: SERVICE_HOST_DEFAULTS,
    });
    // One of before leads there already: it must not be taken away by a start.
    const config = await made.ready;
    expect(config.serviceHost!.vips).toEqual(["192.168.2.36"]);
    const calls: string[] = [];
    const publisher = new ServicePublisher(made.services, new FakeWorker());
    const applied = async ({ serviceHost }: AgentConfig) => {
      const { vips, healthChecks } = serviceHost!;
      calls.push(`${vips} ${healthChecks.map(({ port, localEndpoints }) => `${port}:${localEndpoints}`)}`);
    };
    await made.feed(config, applied, async () => {
      calls.push("services");
      await publisher.publish();
    });
    await waitFor(() => calls.length > 0, { what: "the first Services" });
    expect(calls.splice(0)).toEqual(["services"]);
    const { status } = balanced("192.168.2.37");
    await kube.patch(SERVICES, "lb", "default", "merge", { status }, "status");
    await waitFor(() => calls.length > 1, { what: "another address" });
    expect(calls.splice(0)).toEqual(["services", "192.168.2.37 31000:0"]);
    await kube.create(ENDPOINTSLICES, {
      ...sliceOf("lb-1", "lb", []),
      endpoints: [{ addresses: ["10.1.235.200"], nodeName: "k8s-master" }],
    });
    await waitFor(() => calls.length > 1, { what: "an endpoint here" });
    expect(calls.splice(0)).toEqual(["services", "192.168.2.37 31000:1"]);
    // What is nothing to the host is no config.
    await kube.create(ENDPOINTSLICES, sliceOf("lb-2", "lb", ["10.1.79.70"]));
    await waitFor(() => calls.length > 0, { what: "an endpoint elsewhere" });
    await kube.delete(SERVICES, "lb", "default");
    await waitFor(() => calls.length > 2, { what: "its end" });
    expect(calls).toEqual(["services", "services", " "]);
  });

  test("topology hints follow this node's zone", async () => {
    const { become } = await fed();
    await serviceOf("web", "10.152.183.10");
    await kube.create(ENDPOINTSLICES, sliceOf("web-1", "web", ["10.1.79.65", "10.1.79.66"], ["a", "b"]));
    await become("10.1.79.65 10.1.79.66");
    await kube.patch(NODES, "k8s-master", undefined, "merge", {
      metadata: { labels: { "topology.kubernetes.io/zone": "b" } },
    });
    await become("10.1.79.66");
  });
});

describe("announcements", () => {
  const ANNOUNCE = { interface: null, bfd: { intervalMs: 100, multiplier: 3 } };
  const POOL = "default-addresspool";
  const MAC = "02:00:c0:a8:02:1e";

  /** A source that announces; `calls` says what was applied, in order. */
  async function announcing(node = "k8s-master", address = "192.168.2.30") {
    const say = (_: object, message: string) => void logged.push(message);
    const made = new KubeSource({
      api: kube,
      claimer: new Allocator(kube, node),
      base: { ...baseOf(node, address), serviceHost: null },
      podNetns: "/run/netns/{namespace}.{name}",
      announce: ANNOUNCE,
      probe: async () => "02:00:5e:00:53:01",
      description: { labels: {}, machine, version: "0.1.0" },
      log: { debug: () => {}, info: say, warn: say, error: say },
    });
    sources.push(made);
    made.start();
    const config = await made.ready;
    const calls: string[] = [];
    let announce: AgentConfig["announce"] = config.announce;
    const services = new ServicePublisher(made.services, new FakeWorker());
    await made.feed(
      config,
      async (next) => {
        ({ announce } = next);
        calls.push(`announce ${announce?.vips.map((vip) => `${vip.address} ${vip.nodes.length}`)}`);
      },
      async () => {
        await services.publish();
        calls.push("services");
      },
    );
    return { made, first: config, calls, now: () => announce };
  }

  const annotate = (name: string, mac: string) =>
    kube.create<Node>(NODES, {
      metadata: {
        name,
        annotations: { "podwire.dev/lan-mac": mac, "podwire.dev/lan-interface": "eth0" },
      },
    });

  async function balanced(name = "lb", ip = "192.168.2.36"): Promise<void> {
    await kube.create<Service>(SERVICES, {
      metadata: { name, namespace: "default", annotations: { "metallb.io/ip-allocated-from-pool": POOL } },
      spec: {
        type: "LoadBalancer",
        clusterIP: "10.152.183.20",
        clusterIPs: ["10.152.183.20"],
        ports: [{ port: 80, protocol: "TCP" }],
      },
    });
    await kube.patch(
      SERVICES,
      name,
      "default",
      "merge",
      { status: { loadBalancer: { ingress: [{ ip }] } } },
      "status",
    );
    await kube.create<EndpointSlice>(ENDPOINTSLICES, {
      metadata: { name: `${name}-1`, namespace: "default", labels: { "kubernetes.io/service-name": name } },
      addressType: "IPv4",
      ports: [{ port: 80, protocol: "TCP" }],
      endpoints: [{ addresses: ["10.1.79.65"], nodeName: "k8s-worker01" }],
    });
  }

  async function advertised(): Promise<void> {
    const metadata = { name: POOL, namespace: "metallb-system" };
    await kube.create<IPAddressPool>(IPADDRESSPOOLS, {
      metadata,
      spec: { addresses: ["192.168.2.36-192.168.2.40"] },
    });
    await kube.create<L2Advertisement>(L2ADVERTISEMENTS, { metadata: { ...metadata, name: "all" } });
  }

  const eventsOf = (name: string) =>
    kube
      .all<Event>(EVENTS)
      .filter(({ involvedObject }) => involvedObject.name === name)
      .map(({ type, reason, message }) => `${type} ${reason}: ${message}`);

  test("nobody is watched and nothing announced before the dataplane has the Services", async () => {
    await annotate("k8s-worker01", "02:00:c0:a8:02:1f");
    await advertised();
    await balanced();
    const { made, first, calls, now } = await announcing();
    expect(first.announce).toBeNull();
    made.setLan({ name: "eth0", mac: MAC });
    await waitFor(() => now()?.vips[0]?.nodes.length === 2, { what: "both nodes" });
    expect(calls[0]).toBe("services");
    expect(now()).toEqual({
      ...ANNOUNCE,
      nodes: [{ node: "k8s-worker01", mac: "02:00:c0:a8:02:1f", watched: true }],
      vips: [
        {
          address: "192.168.2.36",
          nodes: expect.arrayContaining(["k8s-master", "k8s-worker01"]) as string[],
        },
      ],
    });
    expect(made.announcedAddresses).toMatchObject([{ pool: POOL, services: ["default/lb"], problem: null }]);
  });

  test("the Node says on which interface, and whether the LAN can be asked", async () => {
    const { made } = await announcing();
    const annotations = () => kube.peek<Node>(NODES, "k8s-master")!.metadata.annotations!;
    expect(annotations()).not.toHaveProperty("podwire.dev/lan-mac");
    made.setLan({ name: "eth0", mac: MAC });
    await waitFor(() => annotations()["podwire.dev/lan-mac"] === MAC, { what: "MAC" });
    expect(annotations()).toMatchObject({
      "podwire.dev/lan-interface": "eth0",
      "podwire.dev/address-probe": "true",
    });
    made.setLan(null);
    await waitFor(() => annotations()["podwire.dev/address-probe"] === "false", { what: "its end" });
    expect(annotations()["podwire.dev/lan-mac"]).toBe("");
  });

  test("the controller's question is answered", async () => {
    await announcing();
    const request = { "podwire.dev/address-probe-request": '{"192.168.2.36":"7"}' };
    await kube.patch(NODES, "k8s-master", undefined, "merge", { metadata: { annotations: request } });
    const answer = () =>
      kube.peek<Node>(NODES, "k8s-master")!.metadata.annotations!["podwire.dev/address-probe-result"];
    await waitFor(answer, { what: "answer" });
    expect(JSON.parse(answer()!)).toEqual({ "192.168.2.36": { id: "7", mac: "02:00:5e:00:53:01" } });
  });

  test("pools, advertisements, labels and conditions count as they come and go", async () => {
    const { made, now } = await announcing();
    made.setLan({ name: "eth0", mac: MAC });
    await balanced();
    await waitFor(() => made.announcedAddresses.length === 1, { what: "the address" });
    expect(made.announcedAddresses[0]!.problem).toBe("notAdvertised");
    expect(now()!.vips).toEqual([]);
    await advertised();
    await waitFor(() => now()?.vips.length === 1, { what: "announcement" });
    const label = (value: string | null) =>
      kube.patch(NODES, "k8s-master", undefined, "merge", {
        metadata: { labels: { "node.kubernetes.io/exclude-from-external-load-balancers": value } },
      });
    await label("");
    await waitFor(() => made.announcedAddresses[0]?.problem === "noNode", { what: "exclusion" });
    expect(now()!.vips).toEqual([]);
    await label(null);
    await waitFor(() => now()?.vips.length === 1, { what: "its end" });
    await kube.delete(L2ADVERTISEMENTS, "all", "metallb-system");
    await waitFor(() => now()?.vips.length === 0, { what: "the end of the advertisement" });
  });

  test.each(["NotFound", "Forbidden"] as const)(
    "where MetalLB's kinds are %s the nodes watch one another all the same",
    async (reason) => {
      for (const plural of ["ipaddresspools", "l2advertisements"])
        kube.failNext({ verb: "list", plural }, KubeError.of(reason, "refused"), Number.POSITIVE_INFINITY);
      await annotate("k8s-worker01", "02:00:c0:a8:02:1f");
      const { made, now } = await announcing();
      made.setLan({ name: "eth0", mac: MAC });
      await waitFor(() => now()?.nodes[0]?.watched === true, { what: "the other node" });
      expect(now()!.vips).toEqual([]);
      expect(logged).toContain("no IPAddressPools can be read: nothing is announced");
    },
  );

  test("Events of Services: who announces, who claims the address too", async () => {
    await advertised();
    await balanced();
    const { made } = await announcing();
    made.reportAddress({ type: "owner", address: "192.168.2.36", owned: true });
    const assigned = 'Normal nodeAssigned: announcing from node "k8s-master" with protocol "layer2"';
    await waitFor(() => eventsOf("lb").length === 1, { what: "Event" });
    expect(eventsOf("lb")).toEqual([assigned]);
    // Who comes to share it is told too; the first one not again.
    await balanced("second");
    await waitFor(() => eventsOf("second").length === 1, { what: "Event of the second" });
    expect(eventsOf("second")).toEqual([assigned]);
    made.reportAddress({
      type: "conflict",
      address: "192.168.2.36",
      node: "k8s-worker01",
      mac: "02:00:c0:a8:02:1f",
      yielded: true,
    });
    await waitFor(() => eventsOf("lb").length === 2, { what: "conflict" });
    expect(eventsOf("lb").slice(1)).toEqual([
      'Warning AddressConflict: node "k8s-worker01" claims 192.168.2.36 too: node "k8s-master" stands behind it and yields',
    ]);
    const { involvedObject } = kube.all<Event>(EVENTS)[0]!;
    expect(involvedObject.uid).toBe(kube.peek<Service>(SERVICES, "lb", "default")!.metadata.uid);
    // Given up and taken over again: an Event again, counted with the first.
    made.reportAddress({ type: "owner", address: "192.168.2.36", owned: false });
    made.reportAddress({ type: "owner", address: "192.168.2.36", owned: true });
    const first = () => kube.all<Event>(EVENTS).find(({ involvedObject: { name } }) => name === "lb")!;
    await waitFor(() => first().count === 2, { what: "second count" });
  });
});
