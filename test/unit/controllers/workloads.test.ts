import { describe, expect, test } from "vitest";
import type { Action } from "../../../src/controllers/actions.js";
import { daemonOnNode, daemonPod, reconcileDaemonSet } from "../../../src/controllers/daemonSet.js";
import { HASH_LABEL, REVISION, reconcileDeployment } from "../../../src/controllers/deployment.js";
import { reconcileReplicaSet } from "../../../src/controllers/replicaSet.js";
import { historyOf } from "../../../src/controllers/revisions.js";
import type { DaemonSet, Deployment, Pod, ReplicaSet, Taint } from "../../../src/kube/types.js";
import {
  at,
  brief,
  daemonSet,
  deployment,
  effects,
  NODES,
  NOW,
  node,
  pod,
  replicaSet,
  revisionOf,
  template,
} from "./objects.js";

const statusOf = (actions: readonly Action[]) => {
  const action = actions.find((each) => "subresource" in each && each.subresource === "status");
  if (action?.verb === "update") return (action.object as DaemonSet).status;
  return action?.verb === "patch" ? (action.patch as { status: Deployment["status"] }).status : undefined;
};

const orphan = (of: Pod): Pod => ({ ...of, metadata: { ...of.metadata, ownerReferences: [] } });

describe("DaemonSet", () => {
  const ds = daemonSet();
  const run = (pods: Pod[], set = ds, nodes = NODES) =>
    reconcileDaemonSet({ daemonSet: set, pods, revisions: [revisionOf(set)], nodes, now: NOW });
  const hash = (set: DaemonSet) => historyOf(set, [], []).hash;
  /** A current, available pod on each node. */
  const current = (set = ds, nodes = NODES, facts: object = { ready: true }): Pod[] =>
    nodes.map(({ metadata: { name } }) =>
      pod(`p-${name}`, {
        node: name!,
        owner: set,
        labels: { ...daemonPod(set, name!, hash(set)).metadata.labels! },
        ...facts,
      }),
    );

  test("a pod for every node, pinned by name, with the tolerations of a daemon", () => {
    const { actions } = run([]);
    expect(effects(actions)).toEqual(Array(4).fill("create pods nginx-ds-"));
    const [first] = actions as Extract<Action, { verb: "create" }>[] as unknown as { object: Pod }[];
    expect(first!.object.spec!.affinity!.nodeAffinity).toEqual({
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [
          { matchFields: [{ key: "metadata.name", operator: "In", values: ["k8s-master"] }] },
        ],
      },
    });
    expect(
      first!.object.spec!.tolerations!.map(({ key }) => key!.replace("node.kubernetes.io/", "")),
    ).toEqual([
      "not-ready",
      "unreachable",
      "disk-pressure",
      "memory-pressure",
      "pid-pressure",
      "unschedulable",
    ]);
    expect(first!.object.metadata.labels).toMatchObject({
      name: "nginx",
      "controller-revision-hash": expect.stringMatching(/^[a-z0-9]+$/),
    });
    expect(statusOf(actions)).toEqual({
      currentNumberScheduled: 0,
      numberMisscheduled: 0,
      desiredNumberScheduled: 4,
      numberReady: 0,
      numberUnavailable: 4,
      observedGeneration: 1,
    });
  });

  test("all there: only the status, then nothing", () => {
    const { actions } = run(current());
    expect(brief(actions)).toEqual(["update daemonsets/status nginx-ds"]);
    const settled = { ...ds, status: statusOf(actions) } as DaemonSet;
    expect(settled.status).toMatchObject({ numberReady: 4, numberAvailable: 4, updatedNumberScheduled: 4 });
    expect(run(current(), settled).actions).toEqual([]);
  });

  const taint = (effect: string, key = "role"): { spec: { taints: Taint[] } } => ({
    spec: { taints: [{ key, effect }] },
  });
  test.each([
    ["no taint", {}, {}, true, true],
    ["NoSchedule", taint("NoSchedule"), {}, false, true],
    ["NoExecute", taint("NoExecute"), {}, false, false],
    ["PreferNoSchedule", taint("PreferNoSchedule"), {}, true, true],
    ["tolerated", taint("NoExecute"), { tolerations: [{ key: "role", operator: "Exists" }] }, true, true],
    ["tolerated everything", taint("NoExecute"), { tolerations: [{ operator: "Exists" }] }, true, true],
    ["unreachable", taint("NoExecute", "node.kubernetes.io/unreachable"), {}, true, true],
    ["cordoned", taint("NoSchedule", "node.kubernetes.io/unschedulable"), {}, true, true],
    ["other node by selector", {}, { nodeSelector: { disk: "ssd" } }, false, false],
    ["own hostname by selector", {}, { nodeSelector: { "kubernetes.io/hostname": "n" } }, true, true],
  ])("%s", (_, change, spec, wantRun, wantStay) => {
    const set = daemonSet({ template: template("nginx", spec as Partial<Pod["spec"]>) });
    expect(daemonOnNode(set, node("n", change))).toEqual({ run: wantRun, stay: wantStay });
  });

  test.each<[string, () => Pod[], string[]]>([
    [
      "doubles go, the oldest stays",
      () => [...current(), pod("young", { node: "k8s-master", owner: ds, created: 0, ready: true })],
      ["delete pods young"],
    ],
    [
      "a failed one goes",
      () => [...current().slice(1), pod("bad", { node: "k8s-master", owner: ds, phase: "Failed" })],
      ["event FailedDaemonPod", "delete pods bad"],
    ],
    [
      "nothing beside a terminating one",
      () => [...current().slice(1), pod("old", { node: "k8s-master", owner: ds, terminating: true })],
      [],
    ],
    [
      "an orphan is adopted",
      () => [orphan(current()[0]!), ...current().slice(1)],
      ["patch pods p-k8s-master"],
    ],
    [
      "one that lost its label is let go",
      () => [...current().slice(1), pod("p-k8s-master", { node: "k8s-master", owner: ds, labels: {} })],
      ["patch pods p-k8s-master", "create pods nginx-ds-"],
    ],
    [
      "one for a node that is gone",
      () => [
        ...current(),
        { ...daemonPod(ds, "gone", hash(ds)), metadata: { ...pod("x", { owner: ds }).metadata } },
      ],
      ["delete pods x"],
    ],
  ])("%s", (_, pods, expected) => expect(effects(run(pods()).actions)).toEqual(expected));

  describe("update", () => {
    const next = daemonSet({ template: template("nginx:2") });
    const old = (facts = {}) => current(ds, NODES, { ready: true, ...facts });

    test("one at a time", () => {
      expect(effects(run(old(), next).actions)).toEqual(["delete pods p-k8s-master"]);
      const [first, ...rest] = old();
      expect(
        effects(
          run([{ ...first!, metadata: { ...first!.metadata, deletionTimestamp: at(0) } }, ...rest], next)
            .actions,
        ),
      ).toEqual([]);
      expect(effects(run(rest, next).actions)).toEqual(["create pods nginx-ds-"]);
    });

    test("broken old ones at once", () => {
      expect(effects(run(old({ ready: false }), next).actions)).toHaveLength(4);
    });

    test("maxUnavailable as a percentage", () => {
      const half = daemonSet({
        template: template("nginx:2"),
        updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "50%" } },
      });
      expect(effects(run(old(), half).actions)).toHaveLength(2);
    });

    test("OnDelete waits for the user", () => {
      const manual = daemonSet({ template: template("nginx:2"), updateStrategy: { type: "OnDelete" } });
      expect(effects(run(old(), manual).actions)).toEqual([]);
      expect(statusOf(run(old(), manual).actions)).not.toHaveProperty("updatedNumberScheduled");
    });

    test("a surge starts the new one first", () => {
      const surge = daemonSet({
        template: template("nginx:2"),
        updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      });
      expect(effects(run(old(), surge).actions)).toEqual(["create pods nginx-ds-"]);
      const fresh = pod("new", {
        node: "k8s-master",
        owner: surge,
        created: 0,
        ready: true,
        labels: daemonPod(surge, "k8s-master", hash(surge)).metadata.labels!,
      });
      expect(effects(run([...old(), fresh], surge).actions)).toContain("delete pods p-k8s-master");
    });

    test("minReadySeconds: looks again when the youngest is available", () => {
      const slow = daemonSet({ minReadySeconds: 10 });
      expect(run(current(slow, NODES, { ready: true, readySince: -4 }), slow).againAfterMs).toBe(6000);
    });
  });
});

describe("ReplicaSet", () => {
  const rs = replicaSet("web-1", { replicas: 3 });
  const run = (pods: Pod[], set = rs) => reconcileReplicaSet({ replicaSet: set, pods, now: NOW });
  const own = (name: string, facts = {}) =>
    pod(name, { owner: rs, ready: true, node: "k8s-master", ...facts });

  test.each<[string, Pod[], string[]]>([
    ["none", [], Array(3).fill("create pods web-1-")],
    [
      "ended and terminating ones do not count",
      [own("a", { phase: "Succeeded" }), own("b", { terminating: true }), own("c"), own("d")],
      ["create pods web-1-"],
    ],
    [
      "one unscheduled too many",
      [own("a"), own("b"), own("c"), own("d", { node: undefined, ready: false })],
      ["delete pods d"],
    ],
    [
      "an unready one too many",
      [own("a"), own("b", { ready: false }), own("c"), own("d")],
      ["delete pods b"],
    ],
    [
      "the one that shares a node",
      [
        own("a", { node: "n1" }),
        own("b", { node: "n2" }),
        own("c", { node: "n3" }),
        own("d", { node: "n3" }),
      ],
      ["delete pods c"],
    ],
    ["the youngest", [own("a"), own("b"), own("c", { created: -1 }), own("d")], ["delete pods c"]],
    [
      "somebody else's are left alone",
      [own("a"), own("b"), own("c"), pod("x", { owner: replicaSet("other") })],
      [],
    ],
  ])("%s", (_, pods, expected) => expect(effects(run(pods).actions)).toEqual(expected));

  test("status", () => {
    expect(statusOf(run([own("a"), own("b", { ready: false })]).actions) as ReplicaSet["status"]).toEqual({
      replicas: 2,
      fullyLabeledReplicas: 2,
      readyReplicas: 1,
      availableReplicas: 1,
      observedGeneration: 1,
    });
  });
});

describe("Deployment", () => {
  const run = (d: Deployment, sets: ReplicaSet[], podsOf: (rs: ReplicaSet) => Pod[] = () => []) =>
    reconcileDeployment({ deployment: d, replicaSets: sets, podsOf, now: NOW });
  /** A ReplicaSet of the deployment with so many replicas wanted and available. */
  const set = (
    name: string,
    image: string,
    replicas: number,
    available = replicas,
    revision = 1,
    d = deployment(),
  ): ReplicaSet => {
    const rs = replicaSet(name, { replicas, template: template(image) });
    rs.metadata.labels = { name: "nginx", [HASH_LABEL]: name };
    rs.metadata.ownerReferences = [
      { apiVersion: "apps/v1", kind: "Deployment", name: "web", uid: "uid-web", controller: true },
    ];
    rs.metadata.annotations = {
      [REVISION]: String(revision),
      "deployment.kubernetes.io/desired-replicas": String(d.spec!.replicas),
      "deployment.kubernetes.io/max-replicas": String(d.spec!.replicas! + Math.ceil(d.spec!.replicas! / 4)),
    };
    rs.metadata.creationTimestamp = at(-3600 + revision);
    rs.status = { replicas, availableReplicas: available, readyReplicas: available, observedGeneration: 1 };
    return rs;
  };
  const sizes = (actions: readonly Action[]) =>
    Object.fromEntries(
      actions.flatMap((action) =>
        action.verb === "patch" &&
        action.resource.plural === "replicasets" &&
        (action.patch as ReplicaSet).spec?.replicas !== undefined
          ? [[action.object.metadata.name, (action.patch as ReplicaSet).spec!.replicas]]
          : [],
      ),
    );

  test("a new ReplicaSet, labelled with the template's hash", () => {
    const { actions, againAfterMs } = run(deployment(), []);
    expect(effects(actions)).toEqual([
      expect.stringMatching(/^create replicasets web-[a-z0-9]+$/),
      "patch deployments web",
    ]);
    const create = actions[0] as Extract<Action, { verb: "create" }>;
    const rs = create.object as ReplicaSet;
    const hash = rs.metadata.labels![HASH_LABEL]!;
    expect(rs.metadata.name).toBe(`web-${hash}`);
    expect(rs.spec).toMatchObject({
      replicas: 3,
      selector: { matchLabels: { name: "nginx", [HASH_LABEL]: hash } },
      template: { metadata: { labels: { name: "nginx", [HASH_LABEL]: hash } } },
    });
    expect(rs.metadata.annotations).toMatchObject({
      [REVISION]: "1",
      "deployment.kubernetes.io/desired-replicas": "3",
      "deployment.kubernetes.io/max-replicas": "4",
    });
    expect(create.done).toMatchObject({
      reason: "ScalingReplicaSet",
      message: `Scaled up replica set web-${hash} from 0 to 3`,
    });
    expect(statusOf(actions)!.conditions!.map(({ type, status, reason }) => [type, status, reason])).toEqual([
      ["Progressing", "True", "NewReplicaSetCreated"],
      ["Available", "False", "MinimumReplicasUnavailable"],
    ]);
    expect(againAfterMs).toBe(601_000);
  });

  test("complete", () => {
    const d = {
      ...deployment(),
      status: {
        conditions: [
          { type: "Progressing", status: "True", reason: "ReplicaSetUpdated", lastUpdateTime: at(-1) },
        ],
      },
    } as Deployment;
    const { actions, againAfterMs } = run(d, [set("web-1", "nginx:latest", 3)]);
    expect(statusOf(actions)).toMatchObject({ replicas: 3, updatedReplicas: 3, availableReplicas: 3 });
    expect(statusOf(actions)!.conditions!.map(({ reason }) => reason)).toEqual([
      "MinimumReplicasAvailable",
      "NewReplicaSetAvailable",
    ]);
    expect(againAfterMs).toBeUndefined();
  });

  test.each<[string, Partial<Deployment["spec"]>, ReplicaSet[], Record<string, number>]>([
    [
      "new grows into the surge",
      {},
      [set("old", "nginx:1", 3), set("new", "nginx:latest", 0, 0, 2)],
      { new: 1 },
    ],
    [
      "old shrinks by what is available",
      {},
      [set("old", "nginx:1", 3), set("new", "nginx:latest", 1, 1, 2)],
      { old: 2 },
    ],
    ["waits for the new one", {}, [set("old", "nginx:1", 3), set("new", "nginx:latest", 1, 0, 2)], {}],
    ["broken old ones first", {}, [set("old", "nginx:1", 3, 1), set("new", "nginx:latest", 1, 0, 2)], {}],
    [
      "broken old ones beyond what must be there",
      {},
      [set("old", "nginx:1", 3, 2), set("new", "nginx:latest", 1, 1, 2)],
      { old: 2 },
    ],
    ["new is too large", {}, [set("new", "nginx:latest", 5, 5)], { new: 3 }],
    [
      "no surge, one unavailable",
      { strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } } },
      [set("old", "nginx:1", 3), set("new", "nginx:latest", 0, 0, 2)],
      { old: 2 },
    ],
    ["Recreate: old down first", { strategy: { type: "Recreate" } }, [set("old", "nginx:1", 3)], { old: 0 }],
  ])("%s", (_, spec, sets, expected) => {
    const { actions } = run(deployment(spec), sets);
    const changed = sizes(actions);
    // Annotations may be refreshed with the same size.
    for (const rs of sets)
      if (changed[rs.metadata.name!] === rs.spec!.replicas) delete changed[rs.metadata.name!];
    expect(changed).toEqual(expected);
  });

  test("Recreate waits until the old pods are gone", () => {
    const d = deployment({ strategy: { type: "Recreate" } });
    const old = set("old", "nginx:1", 0);
    expect(effects(run(d, [old], () => [pod("a", { terminating: true })]).actions)).toEqual([]);
    expect(effects(run(d, [old]).actions)[0]).toMatch(/^create replicasets web-/);
  });

  test("scaling in the middle of a rollout is shared in proportion", () => {
    const d = deployment({ replicas: 10 });
    const before = deployment({ replicas: 5 });
    const { actions } = run(d, [
      set("old", "nginx:1", 4, 4, 1, before),
      set("new", "nginx:latest", 3, 3, 2, before),
    ]);
    // 7 of at most 7 become 13 of at most 13.
    expect(sizes(actions)).toEqual({ old: 7, new: 6 });
  });

  test("paused: scaled, but not rolled", () => {
    const d = deployment({ paused: true, replicas: 5, template: template("nginx:3") });
    const { actions } = run(d, [set("old", "nginx:1", 3)]);
    expect(sizes(actions)).toEqual({ old: 5 });
    expect(effects(actions).some((line) => line.startsWith("create"))).toBe(false);
    expect(statusOf(actions)!.conditions![0]).toMatchObject({
      type: "Progressing",
      status: "Unknown",
      reason: "DeploymentPaused",
    });
  });

  test("rollback: the old ReplicaSet becomes the newest revision", () => {
    const d = deployment({ template: template("nginx:1") });
    const { actions } = run(d, [set("one", "nginx:1", 0, 0, 1), set("two", "nginx:2", 3, 3, 2)]);
    const patches = actions.filter((each) => each.verb === "patch");
    expect(patches[0]!.patch).toMatchObject({
      metadata: { annotations: { [REVISION]: "3", "deployment.kubernetes.io/revision-history": "1" } },
    });
    expect(
      patches.find(({ resource, subresource }) => resource.plural === "deployments" && !subresource)!.patch,
    ).toMatchObject({
      metadata: { annotations: { [REVISION]: "3" } },
    });
  });

  test("history beyond the limit goes, the oldest first", () => {
    const sets = [1, 2, 3].map((n) => set(`old${n}`, `nginx:${n}`, 0, 0, n));
    const { actions } = run(deployment({ revisionHistoryLimit: 1 }), [
      ...sets,
      set("new", "nginx:latest", 3, 3, 4),
    ]);
    expect(brief(actions).filter((line) => line.startsWith("delete"))).toEqual([
      "delete replicasets old1",
      "delete replicasets old2",
    ]);
  });

  test("a rollout that does not move for progressDeadlineSeconds has failed", () => {
    const stuck = {
      ...deployment(),
      status: {
        replicas: 4,
        updatedReplicas: 1,
        readyReplicas: 3,
        availableReplicas: 3,
        conditions: [
          { type: "Progressing", status: "True", reason: "ReplicaSetUpdated", lastUpdateTime: at(-601) },
        ],
      },
    } as Deployment;
    const { actions } = run(stuck, [set("old", "nginx:1", 3), set("new", "nginx:latest", 1, 0, 2)]);
    expect(statusOf(actions)!.conditions!.find(({ type }) => type === "Progressing")).toMatchObject({
      status: "False",
      reason: "ProgressDeadlineExceeded",
      message: 'ReplicaSet "new" has timed out progressing.',
    });
  });
});
