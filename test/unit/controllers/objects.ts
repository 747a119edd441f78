/** Objects for the controllers' tests, with what a server would have filled in. */
import type { Action } from "../../../src/controllers/actions.js";
import { historyOf } from "../../../src/controllers/revisions.js";
import type {
  ControllerRevision,
  DaemonSet,
  Deployment,
  Node,
  Pod,
  PodTemplateSpec,
  ReplicaSet,
  Service,
} from "../../../src/kube/types.js";

export const NOW = Date.parse("2024-01-01T00:00:00Z");
export const at = (seconds: number): string =>
  new Date(NOW + seconds * 1000).toISOString().replace(".000Z", "Z");

export const template = (image = "nginx:latest", spec: Partial<Pod["spec"]> = {}): PodTemplateSpec =>
  ({
    metadata: { labels: { name: "nginx" } },
    spec: { containers: [{ name: "nginx", image, ports: [{ name: "http", containerPort: 80 }] }], ...spec },
  }) as PodTemplateSpec;

export function node(name: string, change: Partial<Node> = {}): Node {
  return {
    kind: "Node",
    metadata: { name, uid: `uid-${name}`, labels: { "kubernetes.io/hostname": name } },
    spec: {},
    status: { conditions: [{ type: "Ready", status: "True" }] },
    ...change,
  } as Node;
}

export const NODES = ["k8s-master", "k8s-worker01", "k8s-worker02", "k8s-worker03"].map((name) => node(name));

interface PodFacts {
  node?: string;
  labels?: Record<string, string>;
  owner?: { metadata: { name?: string; uid?: string }; kind?: string };
  ready?: boolean;
  readySince?: number;
  phase?: string;
  ip?: string;
  terminating?: boolean;
  created?: number;
  spec?: Partial<Pod["spec"]>;
}

export function pod(name: string, facts: PodFacts = {}): Pod {
  const { owner, ip } = facts;
  return {
    kind: "Pod",
    metadata: {
      name,
      namespace: "default",
      uid: `uid-${name}`,
      resourceVersion: "1",
      labels: facts.labels ?? { name: "nginx" },
      creationTimestamp: at(facts.created ?? -600),
      ...(facts.terminating && { deletionTimestamp: at(0) }),
      ...(owner && {
        ownerReferences: [
          {
            apiVersion: "apps/v1",
            kind: owner.kind!,
            name: owner.metadata.name!,
            uid: owner.metadata.uid!,
            controller: true,
          },
        ],
      }),
    },
    spec: {
      containers: template().spec!.containers,
      ...(facts.node && { nodeName: facts.node }),
      ...facts.spec,
    },
    status: {
      phase: facts.phase ?? (facts.ready ? "Running" : "Pending"),
      ...(ip && { podIP: ip, podIPs: [{ ip }] }),
      conditions: [
        {
          type: "Ready",
          status: facts.ready ? "True" : "False",
          lastTransitionTime: at(facts.readySince ?? -300),
        },
      ],
    },
  } as Pod;
}

const workload = (kind: string, name: string) => ({
  kind,
  apiVersion: "apps/v1",
  metadata: { name, namespace: "default", uid: `uid-${name}`, generation: 1, creationTimestamp: at(-3600) },
});
const selector = { matchLabels: { name: "nginx" } };

export function daemonSet(spec: Partial<DaemonSet["spec"]> = {}): DaemonSet {
  return {
    ...workload("DaemonSet", "nginx-ds"),
    spec: {
      selector,
      template: template(),
      updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } },
      ...spec,
    },
  } as DaemonSet;
}

/** The present template's ControllerRevision, as the server keeps it. */
export function revisionOf(set: DaemonSet, change: Partial<ControllerRevision> = {}): ControllerRevision {
  const [create] = historyOf(set, [], []).actions;
  if (create?.verb !== "create") throw new Error("the history is not empty");
  const object = create.object as ControllerRevision;
  return { ...object, ...change, metadata: { ...object.metadata, uid: `uid-${object.metadata.name}` } };
}

export function replicaSet(name: string, spec: Partial<ReplicaSet["spec"]> = {}): ReplicaSet {
  return {
    ...workload("ReplicaSet", name),
    spec: { replicas: 1, selector, template: template(), ...spec },
  } as ReplicaSet;
}

export function deployment(spec: Partial<Deployment["spec"]> = {}): Deployment {
  return {
    ...workload("Deployment", "web"),
    spec: {
      replicas: 3,
      selector,
      template: template(),
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: "25%", maxUnavailable: "25%" } },
      revisionHistoryLimit: 10,
      progressDeadlineSeconds: 600,
      ...spec,
    },
  } as Deployment;
}

export function service(name: string, spec: Partial<Service["spec"]> = {}): Service {
  return {
    kind: "Service",
    apiVersion: "v1",
    metadata: { name, namespace: "default", uid: `uid-${name}` },
    spec: {
      type: "ClusterIP",
      ports: [{ port: 80, protocol: "TCP", targetPort: 80 }],
      selector: { name: "nginx" },
      ...spec,
    },
  } as Service;
}

/** Actions in a line each: "create pods nginx-ds-", "delete pods a", "patch replicasets web-1", "event Reason". */
export function brief(actions: readonly Action[]): string[] {
  return actions.map((action) => {
    if (action.verb === "event") return `event ${action.event.reason}`;
    const { name, generateName } = action.object.metadata;
    const sub = "subresource" in action && action.subresource ? `/${action.subresource}` : "";
    return `${action.verb} ${action.resource.plural}${sub} ${name ?? generateName}`;
  });
}

/** The same without status writes. */
export const effects = (actions: readonly Action[]): string[] =>
  brief(actions).filter((line) => !line.includes("/status"));
