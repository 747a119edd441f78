/**
 * The accounts of manifests/agent and manifests/controller: they may do all that agent and controller do,
 * and nothing besides. A right that is missing is refused, and one too many is never used.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KubeSource } from "../../../src/agent/kubeSource.js";
import type { Machine } from "../../../src/agent/machine.js";
import { Allocator } from "../../../src/ipam/Allocator.js";
import type { IPAMBlock, IPPool } from "../../../src/ipam/types.js";
import { FakeClock, settle } from "../../../src/kube/Clock.js";
import { EventRecorder } from "../../../src/kube/EventRecorder.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import type { KubeApi } from "../../../src/kube/KubeApi.js";
import { LeaderElector } from "../../../src/kube/Lease.js";
import {
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
import type { Event, L2Advertisement, Lease, Node, Pod, Service } from "../../../src/kube/types.js";
import {
  ADDRESS_PROBE,
  PROBE_REQUEST,
  PROBE_RESULT,
  readProbeRequests,
} from "../../../src/model/addressProbe.js";
import { METALLB_NAMESPACE } from "../../../src/model/metallb.js";
import { DEFAULT_IMAGES } from "../../../src/runtime/images.js";
import { PodManager } from "../../../src/runtime/PodManager.js";
import { startLoadBalancer } from "../../../src/vip/startLoadBalancer.js";
import { agentBase } from "../../support/agentBase.js";
import { read } from "../../support/documents.js";
import { FakeEngine } from "../../support/FakeEngine.js";
import { boundPod } from "../../support/pods.js";
import { grantsOf, RbacKube } from "../../support/rbac.js";
import { pool, service } from "../vip/objects.js";

const NODE = "n1";
const MAC = "02:00:5e:00:53:01";
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

let clock: FakeClock;
let kube: FakeKube;
let stops: (() => Promise<unknown>)[];

beforeEach(() => {
  clock = new FakeClock();
  kube = new FakeKube({ now: () => clock.date() });
  stops = [];
  kube.put<IPPool>(IPPOOLS, {
    metadata: { name: "default" },
    spec: { cidr: "10.1.0.0/16" },
  });
  kube.put(IPADDRESSPOOLS, pool("default", "192.168.2.36-192.168.2.40"));
  kube.put<L2Advertisement>(L2ADVERTISEMENTS, { metadata: { name: "all", namespace: METALLB_NAMESPACE } });
});
afterEach(async () => {
  await Promise.all(stops.map((stop) => stop()));
});

/** The API as the account of these manifests has it. */
function as(name: string, ...files: string[]): RbacKube {
  return new RbacKube(kube, grantsOf(files.map(read), { name, namespace: "kube-system" }));
}

/** Lets time pass, and everything run that it starts: requests and turns take a few rounds. */
async function pass(ms: number): Promise<void> {
  for (let i = 0; i < 10; i++) await settle();
  await clock.advance(ms);
  for (let i = 0; i < 10; i++) await settle();
}

/** An agent's source, from its start until its Node is as it should be, with what it does meanwhile. */
async function serve(api: KubeApi, kubelet: boolean): Promise<KubeSource> {
  const source = new KubeSource({
    api,
    clock,
    claimer: new Allocator(api, NODE, clock),
    base: agentBase(NODE, "192.168.2.31"),
    podNetns: "/run/netns/{uid}",
    attachments: kubelet ? { pods: () => [] } : undefined,
    announce: { interface: null, bfd: { intervalMs: 100, multiplier: 3 } },
    probe: async () => MAC,
    description: { labels: {}, machine, version: "0.1.0" },
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
  });
  stops.push(() => source.stop());
  source.start();
  await pass(2_000);
  await source.feed(await source.ready, async () => {});
  source.setLan({ name: "eth0", mac: MAC });
  await pass(2_000);
  const probed = { [PROBE_REQUEST]: JSON.stringify({ "192.168.2.36": "1" }) };
  await kube.patch(NODES, NODE, undefined, "merge", { metadata: { annotations: probed } });
  // Twice: the second one counts the first one's Event up.
  for (let i = 0; i < 2; i++) source.reportServiceHealthFailed("default", "web", "port in use");
  await pass(2_000);
  return source;
}

const nodeNow = () => kube.peek<Node>(NODES, NODE)!;
const isReady = () => nodeNow().status?.conditions?.find(({ type }) => type === "Ready")?.status === "True";
const blocksOfNode = () => kube.all<IPAMBlock>(IPAMBLOCKS).filter(({ spec }) => spec.node === NODE);

/** A claim that an earlier life of the node could not finish, in a block that another has by now. */
function putClaim(): void {
  const spec = { strictAffinity: false, allocations: [] };
  const put = (name: string, cidr: string, node: string, affinityState: "pending" | "confirmed") =>
    kube.put<IPAMBlock>(IPAMBLOCKS, {
      metadata: { name, labels: { "podwire.dev/node": node } },
      spec: { ...spec, cidr, node, affinityState },
    });
  put("10-1-9-0-26", "10.1.9.0/26", NODE, "pending");
  put("10-1-9-0-25", "10.1.9.0/25", "n2", "confirmed");
}

describe("manifests/agent", () => {
  test("rbac.yaml: what an agent beside a kubelet does", async () => {
    const api = as("podwire-agent", "manifests/agent/rbac.yaml");
    kube.put<Node>(NODES, { metadata: { name: NODE }, status: {} });
    kube.put(PODS, { ...boundPod("web", [{}]), status: {} });
    putClaim();
    await serve(api, true);
    expect(api.refused).toEqual([]);
    expect(blocksOfNode().map(({ spec }) => spec.affinityState)).toEqual(["confirmed"]);
    expect(nodeNow().metadata.annotations).toMatchObject({
      "podwire.dev/lan-interface": "eth0",
      [PROBE_RESULT]: JSON.stringify({ "192.168.2.36": { id: "1", mac: MAC } }),
    });
    expect(nodeNow().status?.conditions).toMatchObject([{ type: "NetworkUnavailable", status: "False" }]);
    expect(kube.all<Event>(EVENTS).map(({ count }) => count)).toEqual([2]);
    expect(api.unused).toEqual([]);
  });

  test("with runtime.yaml: what an agent without one does", async () => {
    const api = as("podwire-agent", "manifests/agent/rbac.yaml", "manifests/agent/runtime.yaml");
    putClaim();
    await serve(api, false);
    expect(isReady()).toBe(true);
    await pass(10_000);
    const renewed = () => kube.peek<Lease>(LEASES, NODE, "kube-node-lease")!.spec!.renewTime;
    const before = renewed();
    await pass(10_000);
    expect(renewed()).not.toBe(before);

    const manager = new PodManager({
      api,
      engine: new FakeEngine(clock),
      node: NODE,
      nodeAddress: "192.168.2.31",
      netnsOf: ({ metadata }) => `/run/netns/${metadata.uid}`,
      attached: async () => true,
      images: () => DEFAULT_IMAGES,
      imageFile: "/etc/podwire/images.yaml",
      resolvConf: () => "",
      onError: (error) => expect.fail(String(error)),
      clock,
      random: () => 0.5,
    });
    stops.push(() => manager.stop());
    await manager.start();
    kube.put(PODS, { ...boundPod("web", [{}]), status: {} });
    await pass(2_000);
    const web = () => kube.peek<Pod>(PODS, "web", "default");
    expect(web()?.status).toMatchObject({ phase: "Running", hostIP: "192.168.2.31" });
    await kube.delete(PODS, "web", "default", { gracePeriodSeconds: 1 });
    await pass(2_000);
    expect(web()).toBeUndefined();
    expect(api.refused).toEqual([]);
    expect(api.unused).toEqual([]);
  });

  test("a right less is noticed, and one in another namespace is none", async () => {
    const text = read("manifests/agent/rbac.yaml")
      .replace("verbs: [get, list, watch, patch]", "verbs: [get, list, watch]")
      .replaceAll("namespace: metallb-system", "namespace: other");
    const api = new RbacKube(kube, grantsOf([text], { name: "podwire-agent", namespace: "kube-system" }));
    kube.put<Node>(NODES, { metadata: { name: NODE }, status: {} });
    const claimer = new Allocator(api, NODE, clock);
    await claimer.tunnelAddress();
    await expect(
      api.patch(NODES, NODE, undefined, "merge", { metadata: { labels: { a: "b" } } }),
    ).rejects.toMatchObject({ code: 403 });
    await expect(api.list(IPADDRESSPOOLS, { namespace: METALLB_NAMESPACE })).rejects.toMatchObject({
      code: 403,
    });
    expect(api.refused).toEqual([
      "cannot patch /nodes in all namespaces",
      "cannot list metallb.io/ipaddresspools in metallb-system",
    ]);
    expect(api.unused).toContain("list /services in *");
  });
});

describe("manifests/controller", () => {
  test("rbac.yaml: what the controller does", async () => {
    const api = as("podwire-controller", "manifests/controller/rbac.yaml");
    kube.put<Node>(NODES, {
      metadata: { name: NODE, annotations: { [ADDRESS_PROBE]: "true" } },
      status: { conditions: [{ type: "Ready", status: "True" }] },
    });
    const failures: string[] = [];
    const onError = (what: string, error: unknown) => void failures.push(`${what}: ${error}`);
    const elector = new LeaderElector(api, {
      namespace: "kube-system",
      name: "podwire-controller",
      identity: "here",
      clock,
      onStarted: () => {
        const balancer = startLoadBalancer(api, { clock, random: () => 0.5, onError });
        stops.push(() => balancer.stop());
      },
      onStopped: () => {},
      onError: (error) => onError("lease", error),
    });
    stops.push(() => elector.stop());
    elector.start();
    await pass(2_000);
    kube.put(SERVICES, service("web"));
    await pass(2_000);
    // The node's agent answers that nobody has the address.
    const [[address, id]] = Object.entries(
      readProbeRequests(nodeNow().metadata.annotations?.[PROBE_REQUEST]),
    ) as [[string, string]];
    const answer = { [PROBE_RESULT]: JSON.stringify({ [address]: { id, mac: "" } }) };
    // After a lost answer it reads what it has written.
    kube.loseResponse({ verb: "patch", plural: "services" });
    await kube.patch(NODES, NODE, undefined, "merge", { metadata: { annotations: answer } });
    await pass(2_000);
    expect(failures.map((failure) => failure.split(":")[0])).toEqual(["default/web"]);
    expect(kube.peek<Service>(SERVICES, "web", "default")!.status?.loadBalancer?.ingress).toMatchObject([
      { ip: address },
    ]);
    // An Event that comes again is counted.
    const recorder = new EventRecorder(api, { component: "podwire-controller", clock });
    for (let i = 0; i < 2; i++)
      recorder.record(SERVICES, service("web"), "Normal", "IPAllocated", "Assigned IP");
    await recorder.flush();
    expect(api.refused).toEqual([]);
    expect(api.unused).toEqual([]);
  });
});
