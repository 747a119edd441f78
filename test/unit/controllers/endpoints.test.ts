import { describe, expect, test } from "vitest";
import type { Action } from "../../../src/controllers/actions.js";
import { MANAGED_BY, MANAGER, reconcileEndpoints, SERVICE_NAME } from "../../../src/controllers/endpoints.js";
import { reconcileKubernetesService } from "../../../src/controllers/kubernetesService.js";
import type { EndpointSlice, Endpoints, Node, Pod, Service } from "../../../src/kube/types.js";
import { brief, NODES, node, pod, service } from "./objects.js";

interface World {
  slices?: EndpointSlice[];
  endpoints?: Endpoints | undefined;
  nodes?: Node[];
}

const run = (
  of: Service,
  pods: Pod[],
  { slices = [], endpoints, nodes = NODES }: World = {},
): readonly Action[] =>
  reconcileEndpoints({
    service: of,
    pods,
    node: (name) => nodes.find(({ metadata }) => metadata.name === name),
    slices,
    endpoints,
  }).actions;

/** What is there after the actions. */
function apply(actions: readonly Action[], world: World): World {
  let serial = world.slices?.length ?? 0;
  const slices = new Map((world.slices ?? []).map((slice) => [slice.metadata.name!, slice]));
  let endpoints = world.endpoints;
  for (const action of actions) {
    if (action.verb === "event" || action.verb === "patch") continue;
    const object = structuredClone(action.object) as EndpointSlice & Endpoints;
    if (action.resource.plural === "endpoints") endpoints = object;
    else if (action.verb === "delete") slices.delete(object.metadata.name!);
    else {
      object.metadata.name ??= `slice-${++serial}`;
      slices.set(object.metadata.name, object);
    }
  }
  return { ...world, slices: [...slices.values()], endpoints };
}

const NGINX = [1, 2, 3, 4].map((n) =>
  pod(`nginx-${n}`, { node: NODES[n - 1]!.metadata.name!, ip: `10.1.79.${n}`, ready: true }),
);

describe("EndpointSlices", () => {
  test("one for four pods, with owner and labels, and nothing the second time", () => {
    const s = service("clusterip-nginx-ds");
    const actions = run(s, NGINX);
    expect(brief(actions)).toEqual([
      "create endpointslices clusterip-nginx-ds-",
      "create endpoints clusterip-nginx-ds",
    ]);
    const { slices, endpoints } = apply(actions, {});
    const [slice] = slices!;
    expect(slice).toMatchObject({
      addressType: "IPv4",
      metadata: {
        labels: { [SERVICE_NAME]: "clusterip-nginx-ds", [MANAGED_BY]: MANAGER },
        ownerReferences: [
          { kind: "Service", name: "clusterip-nginx-ds", controller: true, blockOwnerDeletion: true },
        ],
      },
      ports: [{ name: "", port: 80, protocol: "TCP" }],
    });
    expect(slice!.endpoints[0]).toEqual({
      addresses: ["10.1.79.1"],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: "k8s-master",
      targetRef: { kind: "Pod", namespace: "default", name: "nginx-1", uid: "uid-nginx-1" },
    });
    expect(endpoints!.subsets).toMatchObject([
      { addresses: [{ ip: "10.1.79.1" }, {}, {}, {}], ports: [{ port: 80, protocol: "TCP" }] },
    ]);
    expect(run(s, NGINX, { slices: slices!, endpoints })).toEqual([]);
  });

  test.each<[string, object, object, object | undefined, "addresses" | "notReadyAddresses" | undefined]>([
    ["ready", { ready: true }, {}, { ready: true, serving: true, terminating: false }, "addresses"],
    [
      "unready",
      { ready: false },
      {},
      { ready: false, serving: false, terminating: false },
      "notReadyAddresses",
    ],
    [
      "terminating, still serving",
      { ready: true, terminating: true },
      {},
      { ready: false, serving: true, terminating: true },
      undefined,
    ],
    [
      "unready, published",
      { ready: false },
      { publishNotReadyAddresses: true },
      { ready: true, serving: false, terminating: false },
      "addresses",
    ],
    [
      "terminating, published",
      { ready: false, terminating: true },
      { publishNotReadyAddresses: true },
      { ready: true, serving: false, terminating: true },
      "addresses",
    ],
    ["ended", { phase: "Failed" }, {}, undefined, undefined],
    ["without address", { ready: true, ip: "" }, {}, undefined, undefined],
    ["on a node that is gone", { ready: true, node: "gone" }, {}, undefined, undefined],
  ])("%s", (_, facts, spec, conditions, list) => {
    const p = pod("p", { node: "k8s-master", ip: "10.1.79.9", ...facts });
    const { slices, endpoints } = apply(run(service("s", spec), [p]), {});
    expect(slices).toHaveLength(1);
    expect(slices![0]!.endpoints[0]?.conditions).toEqual(conditions);
    expect(Object.keys(endpoints!.subsets?.[0] ?? {}).filter((key) => key !== "ports")).toEqual(
      list ? [list] : [],
    );
  });

  test("named ports that differ make two slices, an unknown name none", () => {
    const s = service("s", { ports: [{ name: "web", port: 80, protocol: "TCP", targetPort: "http" }] });
    const other = pod("other", {
      ip: "10.1.79.8",
      ready: true,
      spec: { containers: [{ name: "c", ports: [{ name: "http", containerPort: 8080 }] }] },
    });
    const { slices, endpoints } = apply(run(s, [NGINX[0]!, other]), {});
    expect(slices!.map(({ ports }) => ports![0]!.port).sort()).toEqual([80, 8080]);
    expect(endpoints!.subsets).toHaveLength(2);
    const unknown = service("s", { ports: [{ port: 80, targetPort: "no" }] });
    expect(apply(run(unknown, [NGINX[0]!]), {}).endpoints!.subsets).toBeUndefined();
  });

  test("a hundred in a slice; little churn", () => {
    const s = service("s");
    const many = Array.from({ length: 250 }, (_, n) =>
      pod(`p${n}`, { ip: `10.1.${n >> 6}.${n & 63}`, ready: true }),
    );
    let world = apply(run(s, many), {});
    expect(world.slices!.map(({ endpoints }) => endpoints.length)).toEqual([100, 100, 50]);
    // One goes from a full slice: that slice only, no refilling from others.
    const fewer = many.filter((_, n) => n !== 5);
    let actions: readonly Action[] = run(s, fewer, world).filter(({ verb }) => verb !== "event");
    expect(brief(actions).filter((line) => line.includes("slices"))).toEqual([
      "update endpointslices slice-1",
    ]);
    world = apply(actions, world);
    // A new one takes the free place.
    actions = run(s, [...fewer, pod("new", { ip: "10.1.9.9", ready: true })], world);
    expect(brief(actions).filter((line) => line.includes("slices"))).toEqual([
      "update endpointslices slice-1",
    ]);
    world = apply(actions, world);
    // All go: one empty slice stays.
    world = apply(run(s, [], world), world);
    expect(world.slices).toMatchObject([{ endpoints: [], ports: [] }]);
    expect(run(s, [], world)).toEqual([]);
  });

  test("zone hints for trafficDistribution PreferClose", () => {
    const zoned = node("k8s-master", {
      metadata: { name: "k8s-master", labels: { "topology.kubernetes.io/zone": "z1" } },
    });
    const { slices } = apply(
      run(service("s", { trafficDistribution: "PreferClose" } as object), [NGINX[0]!], { nodes: [zoned] }),
      {},
    );
    expect(slices![0]!.endpoints[0]).toMatchObject({ zone: "z1", hints: { forZones: [{ name: "z1" }] } });
  });

  test("headless: the label", () => {
    const { slices, endpoints } = apply(run(service("s", { clusterIP: "None" }), NGINX), {});
    for (const object of [slices![0]!, endpoints!])
      expect(object.metadata.labels).toHaveProperty(["service.kubernetes.io/headless"]);
  });

  test.each([
    ["without selector", { selector: {} }],
    ["ExternalName", { type: "ExternalName" as const }],
  ])("%s: left alone", (_, spec) => expect(run(service("s", spec), NGINX)).toEqual([]));
});

describe("the kubernetes Service", () => {
  const servers = [{ address: "192.168.2.30", port: 6443 }];
  test("is made once, with its endpoints", () => {
    const none = { service: undefined, endpoints: undefined, slice: undefined };
    const { actions } = reconcileKubernetesService({ clusterIP: "10.152.183.1", servers, ...none });
    expect(brief(actions)).toEqual([
      "create services kubernetes",
      "create endpoints kubernetes",
      "create endpointslices kubernetes",
    ]);
    const [made, endpoints, slice] = actions.map(
      (action) => (action as Extract<Action, { verb: "create" }>).object,
    );
    expect(made).toMatchObject({
      spec: { clusterIP: "10.152.183.1", ports: [{ name: "https", port: 443, targetPort: 6443 }] },
    });
    const there = {
      service: made as Service,
      endpoints: endpoints as Endpoints,
      slice: slice as EndpointSlice,
    };
    expect(reconcileKubernetesService({ clusterIP: "10.152.183.1", servers, ...there }).actions).toEqual([]);
    const moved = [{ address: "192.168.2.31", port: 6443 }];
    expect(
      brief(reconcileKubernetesService({ clusterIP: "10.152.183.1", servers: moved, ...there }).actions),
    ).toEqual(["update endpoints kubernetes", "update endpointslices kubernetes"]);
  });
});
