/** The controllers against the embedded server's own verbs and rules (no HTTP, no certificates). */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LocalKube } from "../../../src/apiserver/LocalKube.js";
import { loadSchemas } from "../../../src/apiserver/openapi/index.js";
import { RESOURCES } from "../../../src/apiserver/resources/index.js";
import { Store } from "../../../src/apiserver/storage/Store.js";
import { Verbs } from "../../../src/apiserver/verbs/Verbs.js";
import { serviceAllocator } from "../../../src/cli/serviceAllocator.js";
import { type ControllerManager, startControllers } from "../../../src/controllers/startControllers.js";
import { FakeClock, settle } from "../../../src/kube/Clock.js";
import type { KubeObject, ResourceRef } from "../../../src/kube/KubeApi.js";
import {
  DAEMONSETS,
  DEPLOYMENTS,
  ENDPOINTS,
  ENDPOINTSLICES,
  EVENTS,
  LEASES,
  NAMESPACES,
  NODES as NODE_KIND,
  PODS,
  REPLICASETS,
  SERVICES,
} from "../../../src/kube/resources.js";
import type {
  DaemonSet,
  Deployment,
  EndpointSlice,
  Lease,
  Namespace,
  Node,
  Pod,
  Service,
} from "../../../src/kube/types.js";
import { NODES } from "./objects.js";

let directory: string;
let store: Store;
let kube: LocalKube;
let clock: FakeClock;
let manager: ControllerManager;
let failures: string[];
let addresses = 0;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "podwire-controllers-"));
  store = Store.open(directory);
  clock = new FakeClock();
  failures = [];
  const { allocator, apiAddress } = serviceAllocator("10.152.183.0/24");
  kube = new LocalKube(
    new Verbs({
      store,
      definitions: RESOURCES,
      schemas: loadSchemas(),
      allocators: [allocator],
      clock: () => clock.date(),
    }),
  );
  manager = startControllers(
    kube,
    {
      apiClusterIP: apiAddress,
      apiServers: [{ address: "192.168.2.30", port: 6443 }],
      onError: (controller, key, error) => failures.push(`${controller} ${key}: ${error}`),
    },
    clock,
  );
  await manager.ready;
  await calm();
  for (const { metadata, status } of NODES) {
    await kube.create<Node>(NODE_KIND, {
      metadata: { name: metadata.name!, labels: metadata.labels! },
      status: status!,
    } as Node);
    await kube.create<Lease>(LEASES, {
      metadata: { name: metadata.name!, namespace: "kube-node-lease" },
      spec: { holderIdentity: metadata.name! },
    } as Lease);
    const { status: now } = await kube.get<Node>(NODE_KIND, metadata.name!);
    if (!now?.conditions)
      await kube.patch(NODE_KIND, metadata.name!, undefined, "merge", { status: status! }, "status");
  }
  await calm();
});

afterEach(async () => {
  await manager.stop();
  await store.close();
  rmSync(directory, { recursive: true });
});

const all = async <T extends KubeObject>(resource: ResourceRef): Promise<T[]> =>
  (await kube.list<T>(resource)).items;

/** Starts and ends pods as agents would, until nobody has anything to do. */
async function calm(): Promise<void> {
  for (let quiet = 0; quiet < 3; ) {
    await manager.idle();
    await settle();
    let worked = false;
    for (const { metadata, spec, status } of await all<Pod>(PODS)) {
      const { name, namespace } = metadata;
      if (!spec?.nodeName) continue;
      worked = true;
      if (metadata.deletionTimestamp) await kube.delete(PODS, name!, namespace, { gracePeriodSeconds: 0 });
      else if (status?.phase === "Pending") {
        const podIP = `10.1.79.${++addresses}`;
        const conditions = [
          { type: "Ready", status: "True", lastTransitionTime: clock.date().toISOString() },
        ];
        const next = { phase: "Running", podIP, podIPs: [{ ip: podIP }], conditions };
        await kube.patch(PODS, name!, namespace, "strategic", { status: next }, "status");
      } else worked = false;
    }
    quiet = worked ? 0 : quiet + 1;
  }
}

const container = { name: "nginx", image: "nginx:latest", ports: [{ containerPort: 80 }] };
const workload = (name: string, spec: object = {}) => ({
  metadata: { name, namespace: "default" },
  spec: {
    selector: { matchLabels: { name } },
    template: { metadata: { labels: { name } }, spec: { containers: [container] } },
    ...spec,
  },
});

test("the walkthrough's DaemonSet and its Services", async () => {
  await kube.create(DAEMONSETS, workload("nginx-ds") as DaemonSet);
  const ports = [{ port: 80, targetPort: 80, nodePort: 30080 }];
  const made = await kube.create<Service>(SERVICES, {
    metadata: { name: "nodeport-nginx-ds", namespace: "default" },
    spec: { type: "NodePort", selector: { name: "nginx-ds" }, ports },
  } as Service);
  expect(made.spec!.clusterIP).toMatch(/^10\.152\.183\.\d+$/);
  await calm();
  const pods = await all<Pod>(PODS);
  expect(pods.map(({ spec }) => spec!.nodeName).sort()).toEqual(NODES.map(({ metadata }) => metadata.name));
  const slices = await all<EndpointSlice>(ENDPOINTSLICES);
  expect(slices.map(({ endpoints }) => endpoints.length).sort()).toEqual([1, 4]);
  const { status } = await kube.get<DaemonSet>(DAEMONSETS, "nginx-ds", "default");
  expect(status).toMatchObject({ numberReady: 4, numberAvailable: 4, updatedNumberScheduled: 4 });
  await expect(
    kube.create<Service>(SERVICES, {
      metadata: { name: "other", namespace: "default" },
      spec: { type: "NodePort", ports },
    } as Service),
  ).rejects.toThrow("spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated");
  expect((await kube.get<Service>(SERVICES, "kubernetes", "default")).spec!.clusterIP).toBe("10.152.183.1");
  // Settled: another look at everything writes nothing.
  const before = (await kube.list(EVENTS)).resourceVersion;
  await calm();
  expect((await kube.list(EVENTS)).resourceVersion).toBe(before);
  await kube.delete(DAEMONSETS, "nginx-ds", "default");
  await kube.delete(SERVICES, "nodeport-nginx-ds", "default");
  await calm();
  expect(await all(PODS)).toEqual([]);
  expect((await all(ENDPOINTS)).map(({ metadata }) => metadata.name)).toEqual(["kubernetes"]);
  expect(failures).toEqual([]);
});

test("a Deployment's rollout", async () => {
  await kube.create(DEPLOYMENTS, workload("web", { replicas: 3 }) as Deployment);
  await calm();
  const image = (name: string) => ({
    spec: { template: { spec: { containers: [{ name: "nginx", image: name }] } } },
  });
  await kube.patch(DEPLOYMENTS, "web", "default", "strategic", image("nginx:2"));
  await calm();
  const images = (await all<Pod>(PODS)).map(({ spec }) => spec!.containers[0]!.image);
  expect(images).toEqual(Array(3).fill("nginx:2"));
  expect(await all(REPLICASETS)).toHaveLength(2);
  const { status, metadata } = await kube.get<Deployment>(DEPLOYMENTS, "web", "default");
  expect(status).toMatchObject({ replicas: 3, updatedReplicas: 3, availableReplicas: 3 });
  expect(status).not.toHaveProperty("unavailableReplicas");
  expect(metadata.annotations).toMatchObject({ "deployment.kubernetes.io/revision": "2" });
  await kube.delete(DEPLOYMENTS, "web", "default");
  await calm();
  expect(await all(PODS)).toEqual([]);
  expect(failures).toEqual([]);
});

test("a namespace is emptied and goes", async () => {
  await kube.create<Namespace>(NAMESPACES, { metadata: { name: "shop" } } as Namespace);
  const set = workload("nginx-ds");
  await kube.create(DAEMONSETS, { ...set, metadata: { ...set.metadata, namespace: "shop" } } as DaemonSet);
  await calm();
  expect(await all(PODS)).toHaveLength(4);
  await kube.delete(NAMESPACES, "shop");
  for (let i = 0; i < 4; i++) {
    await calm();
    await clock.advance(1000);
  }
  expect((await all(NAMESPACES)).map(({ metadata }) => metadata.name)).not.toContain("shop");
  expect(await all(PODS)).toEqual([]);
});

test("a silent node is tainted, and cleared when it reports again", async () => {
  await clock.advance(50_000);
  await calm();
  const node = await kube.get<Node>(NODE_KIND, "k8s-worker01");
  expect(node.spec!.taints!.map(({ effect }) => effect)).toEqual(["NoSchedule", "NoExecute"]);
  const conditions = [{ type: "Ready", status: "True", lastHeartbeatTime: clock.date().toISOString() }];
  await kube.patch(NODE_KIND, "k8s-worker01", undefined, "strategic", { status: { conditions } }, "status");
  await calm();
  expect((await kube.get<Node>(NODE_KIND, "k8s-worker01")).spec?.taints ?? []).toEqual([]);
  expect(failures).toEqual([]);
});
