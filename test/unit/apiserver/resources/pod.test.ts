import { describe, expect, test } from "vitest";
import { nodes } from "../../../../src/apiserver/resources/node.js";
import { pods } from "../../../../src/apiserver/resources/pod.js";
import { cells, created, faults, headers, refused, updated } from "./support.js";

const NGINX = {
  metadata: { name: "nginx-ds-4x2kq", labels: { name: "nginx" } },
  spec: { containers: [{ name: "nginx", image: "nginx:latest", ports: [{ containerPort: 80 }] }] },
};

/** A pod of one container in the given state. */
function podWith(status: object, extra: object = {}) {
  const pod = created(pods, NGINX);
  pod.status = status;
  return { ...pod, ...extra };
}

const running = {
  name: "nginx",
  ready: true,
  restartCount: 0,
  state: { running: { startedAt: "2024-05-01T11:56:00Z" } },
};

describe("defaults", () => {
  test("of a pod with one container", () => {
    const pod = created(pods, NGINX);
    expect(pod.spec).toEqual({
      containers: [
        {
          name: "nginx",
          image: "nginx:latest",
          ports: [{ containerPort: 80, protocol: "TCP" }],
          imagePullPolicy: "Always",
          resources: {},
          terminationMessagePath: "/dev/termination-log",
          terminationMessagePolicy: "File",
        },
      ],
      dnsPolicy: "ClusterFirst",
      enableServiceLinks: true,
      preemptionPolicy: "PreemptLowerPriority",
      priority: 0,
      restartPolicy: "Always",
      schedulerName: "default-scheduler",
      securityContext: {},
      terminationGracePeriodSeconds: 30,
      tolerations: ["not-ready", "unreachable"].map((what) => ({
        key: `node.kubernetes.io/${what}`,
        operator: "Exists",
        effect: "NoExecute",
        tolerationSeconds: 300,
      })),
    });
    expect(pod.status).toEqual({ phase: "Pending", qosClass: "BestEffort" });
  });

  test.each([
    ["redis", "Always"],
    ["redis:latest", "Always"],
    ["redis:7.2", "IfNotPresent"],
    ["registry:5000/redis", "Always"],
    ["registry:5000/redis:7", "IfNotPresent"],
    ["redis@sha256:0123", "IfNotPresent"],
  ])("image %s is pulled %s", (image, policy) => {
    const pod = created(pods, { metadata: { name: "p" }, spec: { containers: [{ name: "c", image }] } });
    expect(pod.spec.containers[0].imagePullPolicy).toBe(policy);
  });

  test("probes, limits, quality of service", () => {
    const pod = created(pods, {
      metadata: { name: "p" },
      spec: {
        containers: [
          {
            name: "c",
            image: "i",
            resources: { limits: { cpu: "1", memory: "1Gi" } },
            readinessProbe: { httpGet: { port: 80 } },
          },
        ],
      },
    });
    expect(pod.spec.containers[0].resources.requests).toEqual({ cpu: "1", memory: "1Gi" });
    expect(pod.spec.containers[0].readinessProbe).toEqual({
      httpGet: { port: 80, path: "/", scheme: "HTTP" },
      timeoutSeconds: 1,
      periodSeconds: 10,
      successThreshold: 1,
      failureThreshold: 3,
    });
    expect(pod.status.qosClass).toBe("Guaranteed");
  });
});

describe("validation", () => {
  test("of the walkthrough's pods finds nothing", () => {
    expect(refused(pods, NGINX)).toEqual([]);
  });

  test("what users get wrong", () => {
    expect(refused(pods, { metadata: { name: "p" }, spec: {} })).toEqual(["spec.containers: Required value"]);
    expect(
      refused(pods, {
        metadata: { name: "p" },
        spec: {
          restartPolicy: "Sometimes",
          containers: [
            { name: "c", ports: [{ containerPort: 70000, protocol: "tcp" }] },
            { name: "c", image: "i", volumeMounts: [{ name: "data", mountPath: "/data" }] },
          ],
        },
      }),
    ).toEqual([
      "spec.containers[0].image: Required value",
      "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
      'spec.containers[0].ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"',
      'spec.containers[1].name: Duplicate value: "c"',
      'spec.containers[1].volumeMounts[0].name: Not found: "data"',
      'spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"',
    ]);
    const greedy = { limits: { cpu: "500m" }, requests: { cpu: "1" } };
    expect(
      refused(pods, {
        metadata: { name: "p" },
        spec: { containers: [{ name: "c", image: "i", resources: greedy }] },
      }),
    ).toEqual([
      'spec.containers[0].resources.requests: Invalid value: "1": must be less than or equal to cpu limit of 500m',
    ]);
  });

  test("tolerations", () => {
    const spec = { containers: [{ name: "c", image: "i" }] };
    expect(
      refused(pods, { metadata: { name: "p" }, spec: { ...spec, tolerations: [{ effect: "Never" }] } }),
    ).toEqual([
      'spec.tolerations[0].operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"',
      'spec.tolerations[0].effect: Unsupported value: "Never": supported values: "NoExecute", "NoSchedule", "PreferNoSchedule"',
    ]);
    expect(
      refused(pods, { metadata: { name: "p" }, spec: { ...spec, tolerations: [{ operator: "Exists" }] } }),
    ).toEqual([]);
  });

  test("a pod may be placed once, and its image changed", () => {
    const old = created(pods, NGINX);
    const placed = updated(pods, old, (pod) => {
      pod.spec.nodeName = "k8s-master";
      pod.spec.containers[0].image = "nginx:1.27";
    });
    expect(faults(pods, placed, old)).toEqual([]);
    const moved = updated(pods, placed, (pod) => {
      pod.spec.nodeName = "k8s-worker01";
    });
    expect(faults(pods, moved, placed)).toEqual([
      "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    ]);
  });
});

describe("status and spec are written apart", () => {
  test("an update keeps the status, a status write the spec", () => {
    const old = podWith({ phase: "Running", podIP: "10.1.235.193" });
    const changed = updated(pods, old, (pod) => {
      pod.status = { phase: "Failed" };
    });
    expect(changed.status).toEqual({ phase: "Running", podIP: "10.1.235.193" });
    const reported = structuredClone(old);
    reported.spec.nodeName = "elsewhere";
    reported.status.phase = "Succeeded";
    pods.prepare(reported, old, "status");
    expect(reported.spec).toEqual(old.spec);
    expect(reported.status.phase).toBe("Succeeded");
  });

  test("grace", () => {
    const pod = created(pods, NGINX);
    expect(pods.gracePeriod(pod)).toBe(0);
    pod.spec.nodeName = "k8s-master";
    expect(pods.gracePeriod(pod)).toBe(30);
    pod.status.phase = "Succeeded";
    expect(pods.gracePeriod(pod)).toBe(0);
  });
});

describe("table", () => {
  test("kubectl get pod -o wide", () => {
    const pod = podWith({
      phase: "Running",
      podIP: "10.1.235.193",
      podIPs: [{ ip: "10.1.235.193" }],
      containerStatuses: [running],
    });
    pod.spec.nodeName = "k8s-master";
    expect(headers(pods, true)).toEqual([
      "NAME",
      "READY",
      "STATUS",
      "RESTARTS",
      "AGE",
      "IP",
      "NODE",
      "NOMINATED NODE",
      "READINESS GATES",
    ]);
    expect(cells(pods, pod, true)).toEqual([
      "nginx-ds-4x2kq",
      "1/1",
      "Running",
      "0",
      "5m",
      "10.1.235.193",
      "k8s-master",
      "<none>",
      "<none>",
    ]);
  });

  const columns = (pod: never) => cells(pods, pod).slice(1, 4);

  test.each([
    ["pending", { phase: "Pending" }, ["0/1", "Pending", "0"]],
    [
      "being made",
      {
        phase: "Pending",
        containerStatuses: [{ name: "nginx", state: { waiting: { reason: "ContainerCreating" } } }],
      },
      ["0/1", "ContainerCreating", "0"],
    ],
    [
      "crashing",
      {
        phase: "Running",
        containerStatuses: [
          {
            name: "nginx",
            restartCount: 4,
            state: { waiting: { reason: "CrashLoopBackOff" } },
            lastState: { terminated: { finishedAt: "2024-05-01T11:59:15Z" } },
          },
        ],
      },
      ["0/1", "CrashLoopBackOff", "4 (45s ago)"],
    ],
    [
      "completed",
      {
        phase: "Succeeded",
        containerStatuses: [{ name: "nginx", state: { terminated: { reason: "Completed", exitCode: 0 } } }],
      },
      ["0/1", "Completed", "0"],
    ],
    [
      "ended without a reason",
      { phase: "Failed", containerStatuses: [{ name: "nginx", state: { terminated: { exitCode: 3 } } }] },
      ["0/1", "ExitCode:3", "0"],
    ],
    ["evicted", { phase: "Failed", reason: "Evicted" }, ["0/1", "Evicted", "0"]],
    [
      "gated",
      {
        phase: "Pending",
        conditions: [{ type: "PodScheduled", status: "False", reason: "SchedulingGated" }],
      },
      ["0/1", "SchedulingGated", "0"],
    ],
  ])("a pod that is %s", (_, status, expected) => {
    expect(columns(podWith(status) as never)).toEqual(expected);
  });

  test("init containers", () => {
    const pod = created(pods, {
      ...NGINX,
      spec: {
        ...NGINX.spec,
        initContainers: [
          { name: "a", image: "i" },
          { name: "b", image: "i" },
        ],
      },
    });
    pod.status = {
      phase: "Pending",
      initContainerStatuses: [
        { name: "a", state: { terminated: { exitCode: 0, reason: "Completed" } } },
        { name: "b", state: { running: {} } },
      ],
    };
    expect(columns(pod as never)).toEqual(["0/1", "Init:1/2", "0"]);
    pod.status.initContainerStatuses[1].state = { terminated: { exitCode: 1, reason: "Error" } };
    expect(columns(pod as never)).toEqual(["0/1", "Init:Error", "0"]);
  });

  test("deletion", () => {
    const pod = podWith({ phase: "Running", containerStatuses: [running] });
    pod.metadata.deletionTimestamp = "2024-05-01T11:59:59Z";
    expect(columns(pod as never)).toEqual(["1/1", "Terminating", "0"]);
    pod.status.reason = "NodeLost";
    expect(columns(pod as never)).toEqual(["1/1", "Unknown", "0"]);
  });
});

test("field selectors", () => {
  const pod = podWith({ phase: "Running", podIP: "10.1.235.193" });
  pod.spec.nodeName = "k8s-master";
  expect(pods.selectableFields(pod)).toMatchObject({
    "spec.nodeName": "k8s-master",
    "status.phase": "Running",
    "status.podIP": "10.1.235.193",
  });
});

describe("Node", () => {
  const node = created(nodes, {
    metadata: { name: "k8s-master", labels: { "node-role.kubernetes.io/control-plane": "" } },
    status: {
      addresses: [
        { type: "InternalIP", address: "192.168.2.30" },
        { type: "Hostname", address: "k8s-master" },
      ],
      conditions: [{ type: "Ready", status: "True" }],
      nodeInfo: {
        kubeletVersion: "v1.32.0",
        osImage: "Ubuntu 22.04.4 LTS",
        kernelVersion: "5.15.0-105-generic",
        containerRuntimeVersion: "podwire://0.1.0",
      },
    },
  });

  test("kubectl get node -o wide", () => {
    expect(headers(nodes, true)).toEqual([
      "NAME",
      "STATUS",
      "ROLES",
      "AGE",
      "VERSION",
      "INTERNAL-IP",
      "EXTERNAL-IP",
      "OS-IMAGE",
      "KERNEL-VERSION",
      "CONTAINER-RUNTIME",
    ]);
    expect(cells(nodes, node, true)).toEqual([
      "k8s-master",
      "Ready",
      "control-plane",
      "5m",
      "v1.32.0",
      "192.168.2.30",
      "<none>",
      "Ubuntu 22.04.4 LTS",
      "5.15.0-105-generic",
      "podwire://0.1.0",
    ]);
  });

  test("status words", () => {
    const lost = structuredClone(node);
    lost.status.conditions[0].status = "Unknown";
    lost.spec.unschedulable = true;
    expect(cells(nodes, lost)[1]).toBe("NotReady,SchedulingDisabled");
    lost.status.conditions = [];
    expect(cells(nodes, lost)[1]).toBe("Unknown,SchedulingDisabled");
    expect(cells(nodes, { metadata: { name: "n" } })).toEqual(["n", "Unknown", "<none>", "<unknown>", ""]);
  });

  test("taints", () => {
    expect(
      refused(nodes, { metadata: { name: "n" }, spec: { taints: [{ key: "a", effect: "NoRun" }] } }),
    ).toEqual([
      'spec.taints[0].effect: Unsupported value: "NoRun": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"',
    ]);
  });
});
