/**
 * `podwire check` on a small cluster that is well, and on the same one broken in one place at a time:
 * each kind of disagreement is found, told in one line, and nothing else with it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Agent } from "../../../src/agent/Agent.js";
import { KubeSource } from "../../../src/agent/kubeSource.js";
import { ask } from "../../../src/agent/StatusServer.js";
import { SERVICE_HOST_DEFAULTS } from "../../../src/agent/serviceHost.js";
import { native } from "../../../src/binding/index.js";
import { checkCluster } from "../../../src/check/cluster.js";
import { type AgentFacts, checkNode } from "../../../src/check/node.js";
import { checkCommand } from "../../../src/cli/check.js";
import { FakeHost, type FakeNamespace } from "../../../src/host/FakeHost.js";
import { Allocator } from "../../../src/ipam/Allocator.js";
import { readObjects } from "../../../src/ipam/admin.js";
import type { IPAMBlock, IPPool } from "../../../src/ipam/types.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { IPAMBLOCKS, IPPOOLS, PODS } from "../../../src/kube/resources.js";
import type { Node, Pod } from "../../../src/kube/types.js";
import { parseIpv4 } from "../../../src/model/ipv4.js";
import { FakeWorker } from "../../support/FakeWorker.js";
import { waitFor } from "../../support/netns.js";

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };
const MASTER = "k8s-master";
const WORKER = "k8s-worker01";

let base: string;
let kube: FakeKube;
let host: FakeHost;
let own: FakeNamespace;
let pod: FakeNamespace;
let closing: (() => Promise<unknown>)[];

beforeEach(async () => {
  base = mkdtempSync(join(tmpdir(), "podwire-check-"));
  closing = [];
  kube = new FakeKube();
  host = new FakeHost();
  own = host.namespaces.get("")!;
  const eth0 = own.addLink("eth0", { up: true });
  own.addressTable.push({ index: eth0.index, address: parseIpv4("192.168.2.30")!, length: 24 });
  pod = host.addNamespace("/run/netns/default.a");
  await kube.create<IPPool>(IPPOOLS, { metadata: { name: "default" }, spec: { cidr: "10.1.0.0/16" } });
  for (const [cidr, node] of [
    ["10.1.235.192/26", MASTER],
    ["10.1.79.64/26", WORKER],
  ] as const) {
    const spec = { cidr, node, affinityState: "confirmed" as const, pinned: true };
    await kube.create<IPAMBlock>(IPAMBLOCKS, {
      metadata: { name: cidr.replaceAll(/[./]/g, "-"), labels: { [`nodes.podwire.dev/${node}`]: "owner" } },
      spec,
    });
  }
  await source(WORKER, "192.168.2.31").ready;
  const here = source(MASTER, "192.168.2.30");
  const config = await here.ready;
  const worker = new FakeWorker();
  const agent = await Agent.start(
    {
      config,
      file: "kubeconfig",
      problem: () => ({ file: "", line: 0, column: 0, field: "", message: "", remedy: "" }),
    },
    {
      host,
      startWorker: async () => worker,
      buildImage: worker.buildImage,
      mapFile: native.mapFile,
      log: SILENT,
      lenientPods: true,
    },
  );
  closing.push(() => agent.stop());
  await here.feed(config, (next) => agent.update(next));
  await bind("a", MASTER);
  await bind("b", WORKER);
  await waitFor(async () => (await found()).length === 0, { what: "a cluster that is well" });
});
afterEach(async () => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  for (const close of closing) await close();
  rmSync(base, { recursive: true, force: true });
});

function source(node: string, address: string): KubeSource {
  const made = new KubeSource({
    api: kube,
    claimer: new Allocator(kube, node),
    base: {
      node,
      stateDir: join(base, node),
      underlay: { address, port: 4789, vni: 4096, mtu: null },
      serviceHost: { ...SERVICE_HOST_DEFAULTS, healthz: null },
      metrics: null,
      dataplane: {
        tunnelGso: "off",
        uso: "auto",
        threads: 1,
        spinMicroseconds: 50,
        cpuLatency: "off",
        maxFlows: 1024,
      },
    },
    podNetns: "/run/netns/{namespace}.{name}",
    description: {
      labels: {},
      version: "0.1.0",
      machine: {
        architecture: "amd64",
        kernelVersion: "",
        osImage: "",
        machineId: "",
        systemUuid: "",
        bootId: "",
        cpus: 2,
        memoryKib: 2048,
      },
    },
    log: SILENT,
  });
  closing.unshift(() => made.stop());
  made.start();
  return made;
}

function bind(name: string, node: string): Promise<Pod> {
  const spec = { nodeName: node, containers: [{ name: "c", image: "nginx" }] };
  return kube.create<Pod>(PODS, { metadata: { name, namespace: "default" }, spec });
}

async function factsOf(): Promise<AgentFacts> {
  const socket = join(base, MASTER, "agent.sock");
  return { status: await ask(socket, "status"), tables: await ask(socket, "tables") };
}

/** "kind subject" of everything that disagrees. */
async function found(facts?: AgentFacts): Promise<string[]> {
  const objects = await readObjects(kube);
  return names([...checkCluster(objects), ...(await checkNode(objects, facts ?? (await factsOf()), host))]);
}

function names(all: { kind: string; subject: string }[]): string[] {
  return all.map(({ kind, subject }) => `${kind} ${subject}`).sort();
}

describe("objects", () => {
  type Objects = {
    pools: IPPool[];
    blocks: IPAMBlock[];
    pods: Pod[];
    nodes: Node[];
  };
  const node = (objects: Objects, name: string) =>
    objects.nodes.find(({ metadata }) => metadata.name === name)!;
  const annotate = (name: string, key: string, value: string | undefined) => (objects: Objects) => {
    const { annotations } = node(objects, name).metadata;
    if (value === undefined) delete annotations![`podwire.dev/${key}`];
    else annotations![`podwire.dev/${key}`] = value;
  };
  const podOf = (objects: Objects, name: string) =>
    objects.pods.find(({ metadata }) => metadata.name === name)!;
  const setStatus = (name: string, status: Pod["status"]) => (objects: Objects) => {
    Object.assign(podOf(objects, name).status!, status);
  };
  const ofWorker = (objects: Objects) => objects.blocks.find(({ spec }) => spec.node === WORKER)!;

  test.each<[string, (objects: Objects) => void, string[]]>([
    [
      "two pods with one address",
      setStatus("b", { podIP: "10.1.235.193", podIPs: [] }),
      ["leaked 10.1.79.65", "two-pods 10.1.235.193", "wrong-owner 10.1.235.193"],
    ],
    [
      "an address that no block gives",
      setStatus("b", { podIP: "10.1.79.99", podIPs: [] }),
      ["leaked 10.1.79.65", "not-allocated 10.1.79.99"],
    ],
    [
      "an address without pod",
      (objects) => objects.pods.splice(0, objects.pods.length, podOf(objects, "a")),
      ["leaked 10.1.79.65"],
    ],
    [
      "blocks that overlap",
      (objects) => {
        const block = structuredClone(ofWorker(objects));
        block.metadata.name = "10-1-79-64-27";
        block.spec = { cidr: "10.1.79.64/27", node: MASTER, pinned: true };
        objects.blocks.push(block);
      },
      ["blocks-overlap 10-1-79-64-27"],
    ],
    [
      "a block that is no block",
      (objects) => {
        ofWorker(objects).spec.unallocated!.pop();
      },
      ["block-malformed 10-1-79-64-26"],
    ],
    [
      "a tunnel address that no block gives",
      annotate(WORKER, "tunnel-address", "10.1.79.70"),
      [`node-tunnel node ${WORKER}`],
    ],
    ["no tunnel address", annotate(WORKER, "tunnel-address", undefined), [`node-tunnel node ${WORKER}`]],
    [
      "an underlay address in the pool",
      annotate(WORKER, "underlay-address", "10.1.2.3"),
      [`node-underlay node ${WORKER}`, "pod-host-address pod default/b"],
    ],
    [
      "an underlay address that is none",
      annotate(WORKER, "underlay-address", "here"),
      [`node-underlay node ${WORKER}`, "pod-host-address pod default/b"],
    ],
    [
      "one underlay address for two nodes",
      annotate(WORKER, "underlay-address", "192.168.2.30"),
      [`node-underlay node ${WORKER}`, "pod-host-address pod default/b"],
    ],
    [
      "one VTEP MAC for two nodes",
      (objects) => {
        annotate(
          WORKER,
          "vtep-mac",
          node(objects, MASTER).metadata.annotations!["podwire.dev/vtep-mac"],
        )(objects);
      },
      [`node-mac node ${WORKER}`],
    ],
    [
      "a pod without address",
      (objects) => {
        podOf(objects, "b").status = {};
      },
      ["pod-no-address pod default/b"],
    ],
    [
      "a pod whose address is none",
      setStatus("b", { podIP: "fe80::1", podIPs: [] }),
      ["pod-address pod default/b"],
    ],
    [
      "a pod that names another host",
      setStatus("b", { hostIP: "192.168.2.30" }),
      ["pod-host-address pod default/b"],
    ],
    [
      "a pod on a node that is gone",
      (objects) => {
        objects.nodes.splice(0, objects.nodes.length, node(objects, MASTER));
      },
      ["pod-node-gone pod default/b"],
    ],
  ])("%s", async (_, breaking, expected) => {
    const objects = structuredClone(await readObjects(kube)) as Objects;
    expect(checkCluster(objects)).toEqual([]);
    breaking(objects);
    const all = checkCluster(objects);
    expect(names(all.sort((a, b) => (a.kind < b.kind ? -1 : 1)))).toEqual(expected.toSorted());
    for (const each of all)
      expect(each).toMatchObject({ where: "cluster", remedy: expect.stringMatching(/\w.+[.`]$|.+\.$/) });
  });
});

describe("a node", () => {
  test.each<[string, (facts: AgentFacts) => void, string[]]>([
    ["a pod that the agent missed", ({ status }) => void status.pods.pop(), ["agent-pod pod default/a"]],
    [
      "a pod that is gone and still carried",
      ({ status }) => {
        status.pods.push({ ...status.pods[0]!, name: "default/x" });
      },
      ["agent-pod pod default/x"],
    ],
    [
      "a pod with another address",
      ({ status }) => {
        status.pods[0]!.address = "10.1.235.200";
      },
      ["agent-pod pod default/a"],
    ],
    [
      "a VTEP that the agent missed",
      ({ status }) => void status.vteps.pop(),
      [`agent-vtep VTEP of ${WORKER}`],
    ],
    [
      "a VTEP at its old address",
      ({ status }) => {
        status.vteps[0]!.address = "192.168.2.99";
      },
      [`agent-vtep VTEP of ${WORKER}`],
    ],
    [
      "a VTEP without its block",
      ({ status }) => {
        status.vteps[0]!.blocks = [];
      },
      [`agent-vtep VTEP of ${WORKER}`],
    ],
    [
      "another pool",
      ({ status }) => {
        status.podPool = ["10.2.0.0/16"];
      },
      ["agent-pool pool 10.1.0.0/16", "agent-pool pool 10.2.0.0/16"],
    ],
    [
      "another block",
      ({ status }) => {
        status.blocks = [];
      },
      ["agent-block block 10.1.235.192/26"],
    ],
    [
      "a device that failed",
      ({ status }) => {
        status.devices[0]!.state = "failed";
      },
      ["device-failed device of node"],
    ],
    [
      "a route that the tables lack",
      ({ tables }) => {
        tables.routes = tables.routes.filter(({ address }) => address !== parseIpv4("10.1.79.64"));
      },
      ["table-route route 10.1.79.64/26", "table-route route 10.1.79.64/32"],
    ],
    [
      "a route to nowhere",
      ({ tables }) => {
        tables.routes.find(({ to }) => to === "vtep")!.to = "unreachable";
      },
      ["table-route route 10.1.79.64/26"],
    ],
    [
      "a route of a pod that is gone",
      ({ tables }) => {
        tables.routes.push({ address: parseIpv4("10.1.235.201")!, length: 32, to: "port", target: 9 });
      },
      ["table-route route 10.1.235.201/32"],
    ],
    [
      "a VTEP with another MAC",
      ({ tables }) => {
        tables.vteps[0]!.mac.lo ^= 1;
      },
      ["table-vtep VTEP 192.168.2.31"],
    ],
    [
      "a port with another address",
      ({ tables }) => {
        tables.ports.find(({ role }) => role === "pod")!.address++;
      },
      ["table-port port 3"],
    ],
    [
      "another VNI",
      ({ tables }) => {
        tables.node.vni = 7;
      },
      ["table-node node table's vni"],
    ],
    [
      "a pool that the tables lack",
      ({ tables }) => {
        tables.pools = [];
      },
      ["table-pool pool 10.1.0.0/16"],
    ],
  ])("%s", async (_, breaking, expected) => {
    const facts = await factsOf();
    breaking(facts);
    expect(await found(facts)).toEqual(expected.toSorted());
  });

  const index = (namespace: FakeNamespace, name: string) =>
    namespace.linkTable.find((link) => link.name === name)!.index;
  const POD_DEVICE = "host-device device eth0 in /run/netns/default.a";
  const NODE_DEVICE = "host-device device podwire0";
  test.each<[string, () => void, string[]]>([
    [
      "no route to the pods",
      () => {
        own.routeTable = [];
      },
      [NODE_DEVICE],
    ],
    [
      "a route of ours elsewhere",
      () => {
        const route = own.routeTable[0]!;
        own.routeTable.push({ ...route, destination: { address: 0, length: 0 }, index: index(own, "eth0") });
      },
      ["host-route route 0.0.0.0/0"],
    ],
    [
      "no rules for NodePorts, and no forwarding",
      () => {
        own.ruleTable = own.ruleTable.filter(({ preference }) => preference !== 50);
        own.sysctls.set("net/ipv4/conf/eth0/forwarding", "0");
      },
      ["host-routing routing for Services"],
    ],
    [
      "a pod without default route",
      () => {
        pod.routeTable = [];
      },
      [POD_DEVICE],
    ],
    [
      "a pod with another address",
      () => {
        pod.addressTable[0]!.address++;
      },
      [POD_DEVICE],
    ],
    [
      "a pod without neighbour",
      () => {
        pod.neighbourTable = [];
      },
      [POD_DEVICE],
    ],
    [
      "a device that is down",
      () => {
        own.linkTable.find(({ name }) => name === "podwire0")!.up = false;
      },
      [NODE_DEVICE],
    ],
    [
      "a sysctl",
      () => {
        own.sysctls.set("net/ipv4/conf/podwire0/rp_filter", "0");
      },
      [NODE_DEVICE],
    ],
    ["a device that is gone", () => pod.drop(index(pod, "eth0")), [POD_DEVICE]],
    [
      "a device of somebody else",
      () => {
        pod.linkTable.find(({ name }) => name === "eth0")!.kind = "veth";
      },
      [POD_DEVICE],
    ],
    [
      "a namespace that is gone",
      () => {
        host.namespaces.delete("/run/netns/default.a");
      },
      [POD_DEVICE],
    ],
    [
      "no underlay address",
      () => {
        own.addressTable = own.addressTable.filter(({ index: at }) => at !== index(own, "eth0"));
      },
      // What comes for it is routed to podwire0 no longer.
      ["host-routing routing for Services", "host-underlay host"],
    ],
    [
      "a smaller MTU",
      () => {
        own.linkTable.find(({ name }) => name === "eth0")!.mtu = 1400;
      },
      ["host-underlay host"],
    ],
  ])("%s", async (_, breaking, expected) => {
    const before = host.actions.length;
    breaking();
    expect(await found()).toEqual(expected);
    // It looked, and touched nothing.
    expect(host.actions.slice(before)).toEqual([]);
  });

  test("a Node that is gone, and one that says something else", async () => {
    const facts = await factsOf();
    const objects = structuredClone(await readObjects(kube));
    const here = objects.nodes.find(({ metadata }) => metadata.name === MASTER)!;
    const others = objects.nodes.filter((each) => each !== here);
    expect(names(await checkNode({ ...objects, nodes: others }, facts, host))).toEqual([
      `node-unregistered node ${MASTER}`,
    ]);
    here.metadata.annotations!["podwire.dev/underlay-address"] = "192.168.2.99";
    here.status!.addresses = [];
    expect(names(await checkNode(objects, facts, host))).toEqual([
      `node-annotation node ${MASTER}`,
      `node-annotation node ${MASTER}`,
    ]);
  });
});

describe("the command", () => {
  async function run(...args: string[]): Promise<{ out: string; err: string; status: number }> {
    const text = { out: "", err: "" };
    const into = (key: "out" | "err") => (chunk: unknown) => {
      text[key] += String(chunk);
      return true;
    };
    vi.spyOn(process.stdout, "write").mockImplementation(into("out"));
    vi.spyOn(process.stderr, "write").mockImplementation(into("err"));
    const command = checkCommand({
      connect: async () => ({ kube, close() {} }),
      agent: factsOf,
      host: async () => host,
    });
    await command.parseAsync(args, { from: "user" });
    vi.restoreAllMocks();
    const status = Number(process.exitCode ?? 0);
    process.exitCode = undefined;
    return { ...text, status };
  }
  const stateDir = () => join(base, MASTER);

  test("says that all agree", async () => {
    expect(await run("-d", stateDir())).toEqual({
      out: "The API and this node agree.\n",
      err: "",
      status: 0,
    });
    expect((await run("--no-node")).out).toBe("The objects of the API agree.\n");
  });

  test("says in one line what, where and what to do", async () => {
    pod.routeTable = [];
    const { out, status } = await run("-d", stateDir());
    expect(status).toBe(1);
    expect(out).toMatch(
      /^error: node k8s-master: device eth0 in \S+ \(pod default\/a\) is not as it should be: route 0\.0\.0\.0\/0 \[host-device\]\. The agent mends this .+ kill -HUP \d+\.\nThe API and this node disagree in 1 point\.\n$/,
    );
    expect(JSON.parse((await run("-d", stateDir(), "--json")).out)).toMatchObject([{ kind: "host-device" }]);
    expect((await run("--no-node")).status).toBe(0);
  });

  test("waits for what comes right", async () => {
    const routes = pod.routeTable;
    pod.routeTable = [];
    const waiting = run("-d", stateDir(), "--wait", "30");
    setTimeout(() => {
      pod.routeTable = routes;
    }, 300);
    expect((await waiting).status).toBe(0);
  });
});
