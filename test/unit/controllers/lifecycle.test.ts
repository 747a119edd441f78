import { describe, expect, test } from "vitest";
import type { Action } from "../../../src/controllers/actions.js";
import { collect } from "../../../src/controllers/garbage.js";
import { reconcileNamespace } from "../../../src/controllers/namespaces.js";
import {
  reconcileEviction,
  reconcileNode,
  reconcileOrphanedPod,
  untilEvicted,
  wantedTaints,
} from "../../../src/controllers/nodeLifecycle.js";
import type { KubeObject } from "../../../src/kube/KubeApi.js";
import { DEPLOYMENTS, PODS, REPLICASETS } from "../../../src/kube/resources.js";
import type { Namespace, Node, Taint } from "../../../src/kube/types.js";
import { at, brief, NOW, node, pod } from "./objects.js";

const patchOf = (action: Action | undefined) =>
  (action as Extract<Action, { verb: "patch" }>).patch as Partial<Node>;
const ready = (status: string) =>
  [{ type: "Ready", status }] as NonNullable<NonNullable<Node["status"]>["conditions"]>;

describe("node health", () => {
  test("alive: nothing, and the next look when it would be late", () => {
    const result = reconcileNode({ node: node("n"), pods: [], silentMs: 1000, now: NOW });
    expect(result).toEqual({ actions: [], againAfterMs: 39_000 });
  });

  test("silent for 40 s: unknown, event, pods not ready, then the taints", () => {
    const n = node("n");
    const first = reconcileNode({ node: n, pods: [pod("p", { ready: true })], silentMs: 40_000, now: NOW });
    expect(brief(first.actions)).toEqual([
      "patch nodes/status n",
      "event NodeNotReady",
      "patch pods/status p",
    ]);
    expect(patchOf(first.actions[0]).status!.conditions![0]).toMatchObject({
      type: "Ready",
      status: "Unknown",
      reason: "NodeStatusUnknown",
      message: "Kubelet stopped posting node status.",
    });
    expect(first.againAfterMs).toBe(0);
    const unknown = { ...n, status: patchOf(first.actions[0]).status! };
    const second = reconcileNode({ node: unknown, pods: [pod("p")], silentMs: 40_000, now: NOW });
    expect(brief(second.actions)).toEqual(["patch nodes n"]);
    expect(patchOf(second.actions[0]).spec!.taints).toEqual([
      { key: "node.kubernetes.io/unreachable", effect: "NoSchedule", timeAdded: at(0) },
      { key: "node.kubernetes.io/unreachable", effect: "NoExecute", timeAdded: at(0) },
    ]);
  });

  const keys = (taints: Taint[]) =>
    taints.map(({ key, effect }) => `${key.replace("node.kubernetes.io/", "")}:${effect}`);
  test.each<[string, Node, string[]]>([
    ["ready", node("n"), []],
    [
      "not ready",
      node("n", { status: { conditions: ready("False") } }),
      ["not-ready:NoSchedule", "not-ready:NoExecute"],
    ],
    ["never reported", node("n", { status: {} }), ["not-ready:NoSchedule", "not-ready:NoExecute"]],
    ["cordoned", node("n", { spec: { unschedulable: true } }), ["unschedulable:NoSchedule"]],
    [
      "no network",
      node("n", {
        status: { conditions: [...ready("True"), { type: "NetworkUnavailable", status: "True" }] },
      }),
      ["network-unavailable:NoSchedule"],
    ],
    [
      "back again",
      node("n", {
        spec: {
          taints: [
            { key: "mine", effect: "NoSchedule" },
            { key: "node.kubernetes.io/unreachable", effect: "NoExecute" },
          ],
        },
      }),
      ["mine:NoSchedule"],
    ],
  ])("taints when %s", (_, of, expected) =>
    expect(keys(wantedTaints(of, of.status?.conditions ?? [], NOW))).toEqual(expected),
  );
});

describe("eviction", () => {
  const unreachable = (since: number): Taint[] => [
    { key: "node.kubernetes.io/unreachable", effect: "NoExecute", timeAdded: at(since) },
  ];
  test.each<[string, object[], Taint[], number | undefined]>([
    ["300 s by default", [], unreachable(0), 300_000],
    ["counted from the taint", [], unreachable(-290), 10_000],
    ["over", [], unreachable(-301), 0],
    [
      "a toleration of its own",
      [
        {
          key: "node.kubernetes.io/unreachable",
          operator: "Exists",
          effect: "NoExecute",
          tolerationSeconds: 5,
        },
      ],
      unreachable(0),
      5000,
    ],
    [
      "a daemon",
      [{ key: "node.kubernetes.io/unreachable", operator: "Exists", effect: "NoExecute" }],
      unreachable(-900),
      undefined,
    ],
    ["another taint, at once", [], [{ key: "x", effect: "NoExecute" }], 0],
    ["NoSchedule does not evict", [], [{ key: "x", effect: "NoSchedule" }], undefined],
  ])("%s", (_, tolerations, taints, wait) =>
    expect(untilEvicted(pod("p", { spec: { tolerations } as object }), taints, NOW)).toBe(wait),
  );

  test("deletes with the event", () => {
    const result = reconcileEviction(
      pod("p", { node: "n" }),
      node("n", { spec: { taints: unreachable(-301) } }),
      NOW,
    );
    expect(result.actions).toMatchObject([
      {
        verb: "delete",
        done: { reason: "TaintManagerEviction", message: "Marking for deletion Pod default/p" },
      },
    ]);
  });
});

describe("pods whose end nobody confirms", () => {
  const outOfService = node("n", {
    spec: { taints: [{ key: "node.kubernetes.io/out-of-service", effect: "NoExecute" }] },
  });
  test.each<[string, ReturnType<typeof pod>, Node | undefined, boolean]>([
    ["on its node", pod("p", { node: "n" }), node("n"), false],
    ["terminating on its node: the agent's", pod("p", { node: "n", terminating: true }), node("n"), false],
    ["terminating on a node out of service", pod("p", { node: "n", terminating: true }), outOfService, true],
    ["its node is gone", pod("p", { node: "n" }), undefined, true],
    ["never placed", pod("p"), undefined, false],
    ["never placed, terminating", pod("p", { terminating: true }), undefined, true],
  ])("%s", (_, what, on, gone) =>
    expect(reconcileOrphanedPod(what, on).actions).toMatchObject(
      gone ? [{ verb: "delete", gracePeriodSeconds: 0 }] : [],
    ),
  );
});

describe("garbage", () => {
  const reference = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    name: "web",
    uid: "u1",
    blockOwnerDeletion: true,
  };
  const object = (change: object = {}): KubeObject => ({
    metadata: {
      name: "x",
      namespace: "default",
      uid: "ux",
      ownerReferences: [reference, { ...reference, uid: "u2" }],
      ...change,
    },
  });
  const dying = (finalizer: string) =>
    object({ deletionTimestamp: at(0), finalizers: [finalizer], ownerReferences: [] });
  const child = {
    resource: PODS,
    object: pod("child", { owner: { kind: "ReplicaSet", metadata: { name: "x", uid: "ux" } } }),
  };
  const blocking = {
    ...child,
    object: { metadata: { ...child.object.metadata, ownerReferences: [{ ...reference, uid: "ux" }] } },
  };
  type Owner = "solid" | "absent" | "waiting" | "unknown";
  test.each<[string, KubeObject, [Owner, Owner], (typeof child | typeof blocking)[], string[]]>([
    ["owners there", object(), ["solid", "solid"], [], []],
    ["of a kind nobody watches", object(), ["unknown", "absent"], [], ["patch replicasets x"]],
    ["one owner gone", object(), ["solid", "absent"], [], ["patch replicasets x"]],
    ["all owners gone", object(), ["absent", "absent"], [], ["delete replicasets x"]],
    ["foreground, without dependents", object(), ["waiting", "absent"], [], ["delete replicasets x"]],
    [
      "foreground, with dependents of its own",
      object(),
      ["waiting", "absent"],
      [child],
      ["patch replicasets x", "delete replicasets x"],
    ],
    ["waiting for a dependent", dying("foregroundDeletion"), ["solid", "solid"], [blocking], []],
    [
      "no dependent that blocks",
      dying("foregroundDeletion"),
      ["solid", "solid"],
      [child],
      ["patch replicasets x"],
    ],
    ["orphan", dying("orphan"), ["solid", "solid"], [child], ["patch pods child", "patch replicasets x"]],
  ])("%s", (_, of, states, dependents, expected) => {
    const owners = (of.metadata.ownerReferences ?? []).map((each, index) => ({
      reference: each,
      state: states[index]!,
    }));
    expect(brief(collect({ resource: REPLICASETS, object: of, owners, dependents }).actions)).toEqual(
      expected,
    );
  });
});

describe("namespaces", () => {
  const namespace = (terminating: boolean): Namespace =>
    ({
      metadata: { name: "ns", uid: "u", ...(terminating && { deletionTimestamp: at(0) }) },
      spec: { finalizers: ["kubernetes"] },
    }) as Namespace;
  const content = (objects: KubeObject[]) => [
    { resource: DEPLOYMENTS, objects: [] },
    { resource: PODS, objects },
  ];
  test("alive: nothing", () =>
    expect(reconcileNamespace({ namespace: namespace(false), content: content([pod("p")]) }).actions).toEqual(
      [],
    ));
  test("its content goes first", () => {
    const result = reconcileNamespace({
      namespace: namespace(true),
      content: content([pod("p"), pod("q", { terminating: true })]),
    });
    expect(brief(result.actions)).toEqual(["delete pods p"]);
    expect(result.againAfterMs).toBe(1000);
  });
  test("empty: the finalizer goes", () => {
    const result = reconcileNamespace({ namespace: namespace(true), content: content([]) });
    expect(brief(result.actions)).toEqual(["update namespaces/finalize ns"]);
    expect((result.actions[0] as Extract<Action, { verb: "update" }>).object).toMatchObject({
      spec: { finalizers: [] },
    });
  });
});
