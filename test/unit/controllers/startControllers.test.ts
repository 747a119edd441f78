/** All controllers together against a server in memory, with agents that are a few lines of test. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ServiceAllocator } from "../../../src/controllers/ServiceAllocator.js";
import { type ControllerManager, startControllers } from "../../../src/controllers/startControllers.js";
import { FakeClock, settle } from "../../../src/kube/Clock.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import type { KubeObject, ResourceRef } from "../../../src/kube/KubeApi.js";
import { isNotFound, KubeError } from "../../../src/kube/KubeError.js";
import {
  CONFIGMAPS,
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
  Endpoints,
  Event,
  Lease,
  Namespace,
  Node,
  Pod,
  ReplicaSet,
  Service,
} from "../../../src/kube/types.js";
import { daemonSet, deployment, NODES, pod, service, template } from "./objects.js";

/** The embedded server's way with namespaces: two kinds of finalizers. */
class Server extends FakeKube {
  override update<T extends KubeObject>(resource: ResourceRef, object: T, subresource = ""): Promise<T> {
    if (subresource !== "finalize") return super.update(resource, object, subresource);
    return super.patch<T>(resource, object.metadata.name!, undefined, "merge", {
      metadata: { finalizers: null },
    });
  }
}

let clock: FakeClock;
let kube: Server;
let manager: ControllerManager;
let alive: Set<string>;
let failures: string[];
let addresses: number;

const options = {
  apiClusterIP: "10.152.183.1",
  apiServers: [{ address: "192.168.2.30", port: 6443 }],
  onError: (controller: string, key: string, error: unknown) =>
    failures.push(`${controller} ${key}: ${error}`),
};

/** What agents do: start what was bound to a living node, confirm what is to end. */
async function agentsWork(): Promise<boolean> {
  let worked = false;
  for (const each of kube.all<Pod>(PODS)) {
    const { name, namespace } = each.metadata;
    if (!each.spec?.nodeName || !alive.has(each.spec.nodeName)) continue;
    if (each.metadata.deletionTimestamp) await kube.delete(PODS, name!, namespace, { gracePeriodSeconds: 0 });
    else if (each.status?.phase === "Pending")
      await kube.patch(
        PODS,
        name!,
        namespace,
        "strategic",
        {
          status: {
            phase: "Running",
            podIP: `10.1.79.${++addresses}`,
            conditions: [{ type: "Ready", status: "True", lastTransitionTime: clock.date().toISOString() }],
          },
        },
        "status",
      );
    else continue;
    worked = true;
  }
  return worked;
}

/** Until nobody has anything to do. */
async function calm(): Promise<void> {
  do {
    await manager.idle();
    await settle();
    await manager.idle();
  } while (await agentsWork());
}

async function renewLeases(): Promise<void> {
  for (const name of alive)
    kube.put<Lease>(LEASES, {
      metadata: { name, namespace: "kube-node-lease" },
      spec: { renewTime: clock.date().toISOString() },
    } as Lease);
}

/** Time passes, ten seconds at a time, with heartbeats. */
async function pass(seconds: number): Promise<void> {
  for (let gone = 0; gone < seconds; gone += 10) {
    await clock.advance(10_000);
    await renewLeases();
    await calm();
  }
}

const pods = (): Pod[] => kube.all<Pod>(PODS);
const events = async (): Promise<string[]> => {
  await settle();
  return kube
    .all<Event>(EVENTS)
    .map(({ involvedObject, reason, message }) => `${involvedObject.kind} ${reason}: ${message}`);
};
const bare = <T extends KubeObject>(object: T): T => {
  const { uid: _uid, creationTimestamp: _time, generation: _generation, ...metadata } = object.metadata;
  return { ...object, metadata };
};

beforeEach(async () => {
  clock = new FakeClock();
  let seed = 1;
  const random = () => {
    seed = (seed * 48271) % 2147483647;
    return seed / 2147483647;
  };
  kube = new Server({ now: () => clock.date(), random });
  alive = new Set(NODES.map(({ metadata }) => metadata.name!));
  failures = [];
  addresses = 0;
  for (const node of NODES) kube.put<Node>(NODE_KIND, structuredClone(node));
  await renewLeases();
  manager = startControllers(kube, { ...options, random }, clock);
  await manager.ready;
  await calm();
});
afterEach(async () => {
  await manager.stop();
});

test("a new cluster has its namespaces and the kubernetes Service", () => {
  expect(kube.all<Namespace>(NAMESPACES).map(({ metadata }) => metadata.name)).toEqual([
    "default",
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "metallb-system",
  ]);
  expect(kube.peek<Service>(SERVICES, "kubernetes", "default")!.spec!.clusterIP).toBe("10.152.183.1");
  expect(kube.peek<Endpoints>(ENDPOINTS, "kubernetes", "default")!.subsets![0]!.addresses).toEqual([
    { ip: "192.168.2.30" },
  ]);
  expect(kube.peek<EndpointSlice>(ENDPOINTSLICES, "kubernetes", "default")!.endpoints[0]!.addresses).toEqual([
    "192.168.2.30",
  ]);
  expect(failures).toEqual([]);
});

describe("DaemonSet with a Service", () => {
  beforeEach(async () => {
    await kube.create(SERVICES, bare(service("clusterip-nginx-ds")));
    await kube.create(DAEMONSETS, bare(daemonSet()));
    await calm();
  });

  test("a pod on every node, with events; the Service finds them", async () => {
    expect(
      pods()
        .map(({ spec }) => spec!.nodeName)
        .sort(),
    ).toEqual(NODES.map(({ metadata }) => metadata.name));
    for (const each of pods())
      expect(each.metadata.name).toMatch(/^nginx-ds-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    expect(kube.peek<DaemonSet>(DAEMONSETS, "nginx-ds", "default")!.status).toMatchObject({
      desiredNumberScheduled: 4,
      numberReady: 4,
      numberAvailable: 4,
      updatedNumberScheduled: 4,
    });
    const [slice] = kube
      .all<EndpointSlice>(ENDPOINTSLICES)
      .filter(({ metadata }) => metadata.name !== "kubernetes");
    expect(slice!.endpoints).toHaveLength(4);
    const seen = await events();
    expect(
      seen.filter((line) => line.startsWith("DaemonSet SuccessfulCreate: Created pod: nginx-ds-")),
    ).toHaveLength(4);
    expect(
      seen.filter((line) => /^Pod Scheduled: Successfully assigned default\/nginx-ds-\w+ to k8s-/.test(line)),
    ).toHaveLength(4);
    expect(failures).toEqual([]);
  });

  test("a node comes, a node goes", async () => {
    kube.put<Node>(NODE_KIND, { ...structuredClone(NODES[0]!), metadata: { name: "k8s-worker04" } } as Node);
    alive.add("k8s-worker04");
    await calm();
    expect(pods()).toHaveLength(5);
    alive.delete("k8s-worker04");
    await kube.delete(NODE_KIND, "k8s-worker04");
    await calm();
    await pass(50);
    expect(pods().map(({ spec }) => spec!.nodeName)).not.toContain("k8s-worker04");
    expect(pods()).toHaveLength(4);
  });

  test("a deleted pod is replaced after its end", async () => {
    const victim = pods()[0]!;
    await kube.delete(PODS, victim.metadata.name!, "default");
    await manager.idle();
    expect(pods()).toHaveLength(4);
    await calm();
    expect(pods()).toHaveLength(4);
    expect(pods().map(({ metadata }) => metadata.uid)).not.toContain(victim.metadata.uid);
  });

  test("a rolling update changes one pod at a time", async () => {
    const least: number[] = [];
    const next = kube.peek<DaemonSet>(DAEMONSETS, "nginx-ds", "default")!;
    next.spec!.template = template("nginx:2");
    await kube.update(DAEMONSETS, next);
    do {
      await manager.idle();
      await settle();
      await manager.idle();
      least.push(
        pods().filter(({ metadata, status }) => !metadata.deletionTimestamp && status?.phase === "Running")
          .length,
      );
    } while (await agentsWork());
    expect(Math.min(...least)).toBe(3);
    expect(pods().map(({ spec }) => spec!.containers[0]!.image)).toEqual(Array(4).fill("nginx:2"));
  });

  test("deletion takes the pods along, and the Service its slices and Endpoints", async () => {
    await kube.delete(DAEMONSETS, "nginx-ds", "default");
    await kube.delete(SERVICES, "clusterip-nginx-ds", "default");
    await calm();
    expect(pods()).toEqual([]);
    expect(kube.all(ENDPOINTSLICES).map(({ metadata }) => metadata.name)).toEqual(["kubernetes"]);
    expect(kube.all(ENDPOINTS).map(({ metadata }) => metadata.name)).toEqual(["kubernetes"]);
  });

  test("foreground deletion waits for the pods", async () => {
    await kube.patch(DAEMONSETS, "nginx-ds", "default", "merge", {
      metadata: { finalizers: ["foregroundDeletion"] },
    });
    await kube.delete(DAEMONSETS, "nginx-ds", "default");
    await manager.idle();
    expect(pods().every(({ metadata }) => metadata.deletionTimestamp)).toBe(true);
    expect(kube.peek(DAEMONSETS, "nginx-ds", "default")).toBeDefined();
    await calm();
    expect(pods()).toEqual([]);
    expect(kube.peek(DAEMONSETS, "nginx-ds", "default")).toBeUndefined();
  });

  test("orphaning leaves the pods without owner", async () => {
    await kube.patch(DAEMONSETS, "nginx-ds", "default", "merge", { metadata: { finalizers: ["orphan"] } });
    await kube.delete(DAEMONSETS, "nginx-ds", "default");
    await calm();
    expect(kube.peek(DAEMONSETS, "nginx-ds", "default")).toBeUndefined();
    expect(pods().map(({ metadata }) => metadata.ownerReferences)).toEqual(Array(4).fill(undefined));
    // And a DaemonSet of the same selector takes them over.
    await kube.create(DAEMONSETS, bare(daemonSet()));
    await calm();
    expect(pods()).toHaveLength(4);
    expect(pods().every(({ metadata }) => metadata.ownerReferences?.length === 1)).toBe(true);
  });

  test("a silent node: not ready, out of the endpoints, back again", async () => {
    alive.delete("k8s-worker01");
    await pass(60);
    const node = kube.peek<Node>(NODE_KIND, "k8s-worker01")!;
    expect(node.status!.conditions!.find(({ type }) => type === "Ready")!.status).toBe("Unknown");
    expect(node.spec!.taints!.map(({ key, effect }) => `${key}:${effect}`)).toEqual([
      "node.kubernetes.io/unreachable:NoSchedule",
      "node.kubernetes.io/unreachable:NoExecute",
    ]);
    const [slice] = kube
      .all<EndpointSlice>(ENDPOINTSLICES)
      .filter(({ metadata }) => metadata.name !== "kubernetes");
    expect(slice!.endpoints.filter(({ conditions }) => conditions!.ready)).toHaveLength(3);
    expect(await events()).toContain("Node NodeNotReady: Node k8s-worker01 status is now: NodeNotReady");
    await pass(400);
    expect(pods()).toHaveLength(4);
    alive.add("k8s-worker01");
    await kube.patch(
      NODE_KIND,
      "k8s-worker01",
      undefined,
      "strategic",
      { status: { conditions: [{ type: "Ready", status: "True", lastHeartbeatTime: "now" }] } },
      "status",
    );
    await calm();
    expect(kube.peek<Node>(NODE_KIND, "k8s-worker01")!.spec!.taints).toBeUndefined();
  });
});

describe("Deployment", () => {
  beforeEach(async () => {
    await kube.create(DEPLOYMENTS, bare(deployment()));
    await calm();
  });
  const current = (): Deployment => kube.peek<Deployment>(DEPLOYMENTS, "web", "default")!;
  const setImage = async (image: string): Promise<void> => {
    const next = current();
    next.spec!.template = template(image);
    await kube.update(DEPLOYMENTS, next);
    await calm();
  };
  const images = () => pods().map(({ spec }) => spec!.containers[0]!.image);

  test("spread over the nodes, and complete", async () => {
    expect(new Set(pods().map(({ spec }) => spec!.nodeName)).size).toBe(3);
    expect(current().status).toMatchObject({
      replicas: 3,
      updatedReplicas: 3,
      availableReplicas: 3,
      observedGeneration: 1,
    });
    expect(current().metadata.annotations).toEqual({ "deployment.kubernetes.io/revision": "1" });
    expect(await events()).toContainEqual(
      expect.stringMatching(/^Deployment ScalingReplicaSet: Scaled up replica set web-\w+ from 0 to 3$/),
    );
    expect(failures).toEqual([]);
  });

  test("rollout and rollback", async () => {
    await setImage("nginx:2");
    expect(images()).toEqual(Array(3).fill("nginx:2"));
    expect(
      kube
        .all<ReplicaSet>(REPLICASETS)
        .map(({ spec }) => spec!.replicas)
        .sort(),
    ).toEqual([0, 3]);
    await setImage("nginx:latest");
    expect(images()).toEqual(Array(3).fill("nginx:latest"));
    expect(kube.all(REPLICASETS)).toHaveLength(2);
    expect(current().metadata.annotations!["deployment.kubernetes.io/revision"]).toBe("3");
    expect(
      current()
        .status!.conditions!.map(({ reason }) => reason)
        .sort(),
    ).toEqual(["MinimumReplicasAvailable", "NewReplicaSetAvailable"]);
  });

  test.each([0, 1, 5])("scale to %i", async (replicas) => {
    await kube.patch(DEPLOYMENTS, "web", "default", "merge", { spec: { replicas } });
    await calm();
    expect(pods()).toHaveLength(replicas);
    expect(current().status!.replicas ?? 0).toBe(replicas);
  });

  test("lost answers make no double pods", async () => {
    kube.loseResponse({ verb: "create", plural: "pods" }, 2);
    await kube.patch(DEPLOYMENTS, "web", "default", "merge", { spec: { replicas: 6 } });
    for (let i = 0; i < 5; i++) {
      await calm();
      await clock.advance(1000);
    }
    expect(pods()).toHaveLength(6);
  });

  test("pods of a silent node move after 300 s; the old ones end when the node is back", async () => {
    const name = pods()[0]!.spec!.nodeName!;
    alive.delete(name);
    await pass(200);
    expect(pods()).toHaveLength(3);
    await pass(180);
    const running = pods().filter(({ metadata }) => !metadata.deletionTimestamp);
    expect(running).toHaveLength(3);
    expect(running.map(({ spec }) => spec!.nodeName)).not.toContain(name);
    expect(pods().filter(({ metadata }) => metadata.deletionTimestamp)).toHaveLength(1);
    alive.add(name);
    await calm();
    expect(pods()).toHaveLength(3);
  });

  test("deletion takes ReplicaSets and pods along", async () => {
    await kube.delete(DEPLOYMENTS, "web", "default");
    await calm();
    expect(kube.all(REPLICASETS)).toEqual([]);
    expect(pods()).toEqual([]);
  });

  test("another manager finds nothing to do", async () => {
    await manager.stop();
    const before = kube.resourceVersion;
    manager = startControllers(kube, options, clock);
    await manager.ready;
    await calm();
    expect(kube.resourceVersion).toBe(before);
  });
});

test("a pod that fits nowhere says why, and goes when a node fits", async () => {
  const { metadata: _, ...rest } = pod("p", { spec: { nodeSelector: { disk: "ssd" } } });
  await kube.create<Pod>(PODS, { ...rest, metadata: { name: "p", namespace: "default" } });
  await calm();
  expect(await events()).toContain(
    "Pod FailedScheduling: 0/4 nodes are available: 4 node(s) didn't match Pod's node affinity/selector. preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.",
  );
  await kube.patch(NODE_KIND, "k8s-worker02", undefined, "merge", { metadata: { labels: { disk: "ssd" } } });
  await calm();
  expect(kube.peek<Pod>(PODS, "p", "default")!.spec!.nodeName).toBe("k8s-worker02");
});

test("a namespace is emptied before it goes", async () => {
  kube.put<Namespace>(NAMESPACES, {
    metadata: { name: "shop", finalizers: ["kubernetes"] },
    spec: { finalizers: ["kubernetes"] },
  } as Namespace);
  await kube.create(CONFIGMAPS, { metadata: { name: "c", namespace: "shop" } });
  const set = bare(daemonSet());
  await kube.create(DAEMONSETS, { ...set, metadata: { ...set.metadata, namespace: "shop" } });
  await calm();
  expect(pods()).toHaveLength(4);
  await kube.delete(NAMESPACES, "shop");
  for (let i = 0; i < 5; i++) {
    await calm();
    await clock.advance(1000);
  }
  expect(kube.peek(NAMESPACES, "shop")).toBeUndefined();
  expect(pods()).toEqual([]);
  expect(kube.all(CONFIGMAPS)).toEqual([]);
});

test("a system namespace comes back", async () => {
  await kube.delete(NAMESPACES, "kube-public");
  await calm();
  expect(kube.peek(NAMESPACES, "kube-public")).toBeDefined();
});

test("the repair takes the allocations from the store", async () => {
  await manager.stop();
  const allocator = new ServiceAllocator({ serviceRange: "10.152.183.0/24" });
  manager = startControllers(
    kube,
    { ...options, repair: { allocator, services: () => kube.all<Service>(SERVICES) } },
    clock,
  );
  await manager.ready;
  expect(allocator.allocate(service("mine", { clusterIP: "10.152.183.1" }))).toHaveLength(1);
});

test("the repair frees what no Service holds, and tells of addresses that two have", async () => {
  await manager.stop();
  const allocator = new ServiceAllocator({ serviceRange: "10.152.183.0/24" });
  for (const name of ["a", "b"])
    await kube.create(
      SERVICES,
      bare(service(name, { clusterIP: "10.152.183.9", clusterIPs: ["10.152.183.9"] })),
    );
  // As a create that was never undone leaves it.
  expect(allocator.allocate(service("leaked", { clusterIP: "10.152.183.8" }))).toEqual([]);
  const again = service("next", { clusterIP: "10.152.183.8" });
  expect(allocator.allocate(again)).toHaveLength(1);
  const faults: string[] = [];
  manager = startControllers(
    kube,
    {
      ...options,
      onError: (controller, key) => faults.push(`${controller} ${key}`),
      repair: { allocator, services: () => kube.all<Service>(SERVICES) },
    },
    clock,
  );
  await manager.ready;
  expect(allocator.allocate(again)).toEqual([]);
  await clock.advance(180_000);
  await manager.idle();
  expect(faults).toEqual(["repair default/b"]);
  expect(allocator.allocate(service("later", { clusterIP: "10.152.183.8" }))).toEqual([]);
  const events = kube.all<Event>(EVENTS).filter(({ reason }) => reason === "ClusterIPAlreadyAllocated");
  expect(events).toMatchObject([
    {
      type: "Warning",
      involvedObject: { kind: "Service", name: "b" },
      message: "Cluster IP [IPv4]:10.152.183.9 was assigned to multiple services; please recreate service",
      source: { component: "ipallocator-repair-controller" },
      count: 2,
    },
  ]);
});

test.each([1, 2, 3])(
  "whatever is refused or lost in between, the end is the same (seed %i)",
  async (seed) => {
    let state = seed * 7919;
    const random = (below: number): number => {
      state = (state * 48271) % 2147483647;
      return state % below;
    };
    await kube.create(SERVICES, bare(service("s")));
    await kube.create(
      DAEMONSETS,
      bare(
        daemonSet({ selector: { matchLabels: { name: "nginx", of: "ds" } }, template: labelled("ds", 1) }),
      ),
    );
    await kube.create(
      DEPLOYMENTS,
      bare(
        deployment({ selector: { matchLabels: { name: "nginx", of: "web" } }, template: labelled("web", 1) }),
      ),
    );
    let replicas = 3;
    let image = 1;
    for (let round = 0; round < 40; round++) {
      const verbs = ["create", "update", "patch", "delete"] as const;
      const match = { verb: verbs[random(4)]! };
      if (random(2)) kube.failNext(match, KubeError.of("ServiceUnavailable", "not now"), 1 + random(3));
      else kube.loseResponse(match, 1 + random(3));
      if (random(5) === 0) kube.disconnectWatches();
      if (random(10) === 0) kube.compact();
      const choice = random(4);
      if (choice === 0) replicas = random(7);
      else if (choice === 1) image++;
      const victim = pods()[random(Math.max(1, pods().length))];
      await stubborn(async () => {
        await kube.patch(DEPLOYMENTS, "web", "default", "merge", {
          spec: { replicas, template: labelled("web", image) },
        });
        if (choice === 2 && victim) await kube.delete(PODS, victim.metadata.name!, "default").catch(ifGone);
        if (choice === 3)
          await kube.patch(DAEMONSETS, "nginx-ds", "default", "merge", {
            spec: { template: labelled("ds", image) },
          });
      });
      await clock.advance(random(3000));
      await renewLeases();
      await stubborn(agentsWork);
    }
    for (let i = 0; i < 15; i++) {
      await clock.advance(10_000);
      await renewLeases();
      await stubborn(agentsWork);
    }
    await calm();
    const of = (value: string): Pod[] => pods().filter(({ metadata }) => metadata.labels!.of === value);
    expect(of("web")).toHaveLength(replicas);
    expect(of("web").every(({ spec }) => spec!.containers[0]!.image === `nginx:${image}`)).toBe(true);
    expect(
      of("ds")
        .map(({ spec }) => spec!.nodeName)
        .sort(),
    ).toEqual(NODES.map(({ metadata }) => metadata.name));
    const listed = kube
      .all<EndpointSlice>(ENDPOINTSLICES)
      .filter(({ metadata }) => metadata.name !== "kubernetes")
      .flatMap(({ endpoints }) => endpoints.map(({ targetRef }) => targetRef!.uid));
    expect(listed.sort()).toEqual(
      pods()
        .map(({ metadata }) => metadata.uid)
        .sort(),
    );
  },
);

const labelled = (of: string, image: number) => {
  const made = template(`nginx:${image}`);
  return { ...made, metadata: { labels: { name: "nginx", of } } };
};

const ifGone = (error: unknown): void => {
  if (!isNotFound(error)) throw error;
};

/** A client that tries again. */
async function stubborn(work: () => Promise<unknown>): Promise<void> {
  for (let tries = 0; tries < 50; tries++)
    try {
      await work();
      return;
    } catch {
      await settle();
    }
}
