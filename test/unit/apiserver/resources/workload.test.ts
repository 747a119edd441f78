import { describe, expect, test } from "vitest";
import { daemonSets } from "../../../../src/apiserver/resources/daemonSet.js";
import { deployments, replicaSets } from "../../../../src/apiserver/resources/deployment.js";
import type { Loose } from "../../../../src/apiserver/resources/loose.js";
import { cells, created, faults, headers, refused, updated } from "./support.js";

const workload = (spec: object = {}, name = "nginx-ds"): Loose => ({
  metadata: { name },
  spec: {
    selector: { matchLabels: { name: "nginx" } },
    template: {
      metadata: { labels: { name: "nginx" } },
      spec: { containers: [{ name: "nginx", image: "nginx:latest" }] },
    },
    ...spec,
  },
});

describe("DaemonSet", () => {
  test("defaults", () => {
    const daemonSet = created(daemonSets, workload());
    expect(daemonSet).toMatchObject({
      metadata: { generation: 1, annotations: { "deprecated.daemonset.template.generation": "1" } },
      spec: {
        revisionHistoryLimit: 10,
        updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1, maxSurge: 0 } },
        template: { spec: { restartPolicy: "Always", terminationGracePeriodSeconds: 30 } },
      },
      status: { currentNumberScheduled: 0, desiredNumberScheduled: 0, numberMisscheduled: 0, numberReady: 0 },
    });
    expect(refused(daemonSets, workload())).toEqual([]);
  });

  test("generations count changes of the spec and of the template", () => {
    const first = created(daemonSets, workload());
    const same = updated(daemonSets, first, (object) => {
      object.metadata.labels = { team: "web" };
    });
    expect(same.metadata.generation).toBe(1);
    const second = updated(daemonSets, same, (object) => {
      object.spec.minReadySeconds = 5;
    });
    expect(second.metadata.generation).toBe(2);
    expect(second.metadata.annotations).toEqual({ "deprecated.daemonset.template.generation": "1" });
    const third = updated(daemonSets, second, (object) => {
      object.spec.template.spec.containers[0].image = "nginx:1.27";
      delete object.metadata.annotations;
    });
    expect(third.metadata.generation).toBe(3);
    expect(third.metadata.annotations).toEqual({ "deprecated.daemonset.template.generation": "2" });
  });

  test("selector and template", () => {
    expect(refused(daemonSets, workload({ selector: undefined }))).toEqual(["spec.selector: Required value"]);
    expect(refused(daemonSets, workload({ selector: { matchLabels: { name: "apache" } } }))).toEqual([
      'spec.template.metadata.labels: Invalid value: map[string]string{"name":"nginx"}: `selector` does not match template `labels`',
    ]);
    expect(refused(daemonSets, workload({ selector: {} }))).toEqual([
      "spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string(nil), MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: empty selector is invalid for daemonset",
    ]);
    const never = workload();
    never.spec.template.spec.restartPolicy = "Never";
    expect(refused(daemonSets, never)).toEqual([
      'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ]);
    const old = created(daemonSets, workload());
    const other = updated(daemonSets, old, (object) => {
      object.spec.selector = { matchLabels: { name: "apache" } };
      object.spec.template.metadata.labels = { name: "apache" };
    });
    expect(faults(daemonSets, other, old)).toEqual([
      'spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string{"name":"apache"}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: field is immutable',
    ]);
  });

  test("kubectl get ds -o wide", () => {
    const daemonSet = created(daemonSets, workload());
    daemonSet.status = {
      desiredNumberScheduled: 4,
      currentNumberScheduled: 4,
      numberReady: 3,
      updatedNumberScheduled: 4,
      numberAvailable: 3,
    };
    expect(headers(daemonSets, true)).toEqual([
      "NAME",
      "DESIRED",
      "CURRENT",
      "READY",
      "UP-TO-DATE",
      "AVAILABLE",
      "NODE SELECTOR",
      "AGE",
      "CONTAINERS",
      "IMAGES",
      "SELECTOR",
    ]);
    expect(cells(daemonSets, daemonSet, true)).toEqual([
      "nginx-ds",
      4,
      4,
      3,
      4,
      3,
      "<none>",
      "5m",
      "nginx",
      "nginx:latest",
      "name=nginx",
    ]);
  });
});

describe("Deployment", () => {
  test("defaults and table", () => {
    const deployment = created(deployments, workload({}, "web"));
    expect(deployment.spec).toMatchObject({
      replicas: 1,
      revisionHistoryLimit: 10,
      progressDeadlineSeconds: 600,
      strategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "25%", maxSurge: "25%" } },
    });
    expect(headers(deployments)).toEqual(["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]);
    expect(cells(deployments, deployment)).toEqual(["web", "0/1", 0, 0, "5m"]);
  });

  test("generation counts annotations too", () => {
    const old = created(deployments, workload());
    const annotated = updated(deployments, old, (object) => {
      object.metadata.annotations = { "kubernetes.io/change-cause": "test" };
    });
    expect(annotated.metadata.generation).toBe(2);
  });

  test("what users get wrong", () => {
    expect(refused(deployments, workload({ replicas: -1 }))).toEqual([
      "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
    ]);
    const rollingUpdate = { maxUnavailable: 0, maxSurge: 0 };
    expect(refused(deployments, workload({ strategy: { rollingUpdate } }))).toEqual([
      "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
    ]);
    expect(refused(deployments, workload({ strategy: { type: "Recreate", rollingUpdate } }))).toEqual([
      "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
    ]);
  });
});

test("ReplicaSet", () => {
  const replicaSet = created(replicaSets, workload({ replicas: 3 }, "web-5d4f"));
  expect(replicaSet.status).toEqual({ replicas: 0 });
  expect(headers(replicaSets)).toEqual(["NAME", "DESIRED", "CURRENT", "READY", "AGE"]);
  expect(cells(replicaSets, replicaSet)).toEqual(["web-5d4f", 3, 0, 0, "5m"]);
  expect(replicaSets.subresources.scale).toEqual({
    specReplicas: ".spec.replicas",
    statusReplicas: ".status.replicas",
    selector: ".status.selector",
  });
});
