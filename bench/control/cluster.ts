/** A cluster of made-up objects, as JSON texts of lists, as an API server sends them. Pure. */

import { formatIpv4 } from "../../src/model/ipv4.js";

export interface ClusterTexts {
  nodes: string;
  blocks: string;
  /** All pods. */
  pods: string;
  /** Pods of node 0. */
  ownPods: string;
}

const POOL = 0x0a000000;
const UNDERLAY = 0xac100000 | 0;
const BLOCK = 64;

export function nodeName(n: number): string {
  return `node-${String(n).padStart(4, "0")}`;
}

/** Address of node `n` on the underlay. */
export function underlayAddress(n: number): string {
  return formatIpv4(UNDERLAY + n + 1);
}

/** Tunnel address of node `n`: the first of its block. */
export function tunnelAddress(n: number): string {
  return formatIpv4(POOL + n * BLOCK);
}

export function node(n: number, underlay = underlayAddress(n)): object {
  const conditions = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable", "Ready"];
  return {
    metadata: metadata(nodeName(n), undefined, {
      "podwire.dev/underlay-address": underlay,
      "podwire.dev/tunnel-address": tunnelAddress(n),
      "podwire.dev/vxlan-port": "4789",
    }),
    status: {
      addresses: [
        { type: "InternalIP", address: underlay },
        { type: "Hostname", address: nodeName(n) },
      ],
      capacity: { cpu: "8", memory: "32Gi", pods: "110" },
      conditions: conditions.map((type) => ({
        type,
        status: "True",
        reason: "Benchmark",
        message: "a sentence that is as long as such sentences are",
        lastHeartbeatTime: "2024-01-01T00:00:00Z",
        lastTransitionTime: "2024-01-01T00:00:00Z",
      })),
      nodeInfo: { kernelVersion: "5.15.0-91-generic", osImage: "Ubuntu 22.04.3 LTS", architecture: "amd64" },
    },
  };
}

export function block(n: number, pods: number): object {
  const allocation = (ordinal: number) => ({
    ordinal,
    handle: `u-${n}-${ordinal}`,
    sequence: ordinal,
    attributes: {
      pod: podName(n, ordinal),
      namespace: "default",
      node: nodeName(n),
      uid: `u-${n}-${ordinal}`,
    },
  });
  return {
    metadata: metadata(`block-${n}`),
    spec: {
      cidr: `${tunnelAddress(n)}/26`,
      node: nodeName(n),
      affinityState: "confirmed",
      allocations: Array.from({ length: pods + 1 }, (_, ordinal) => allocation(ordinal)),
    },
  };
}

export function pod(n: number, ordinal: number): object {
  const podIP = formatIpv4(POOL + n * BLOCK + ordinal);
  return {
    metadata: {
      ...metadata(podName(n, ordinal), "default"),
      labels: { app: `app-${ordinal % 10}`, "pod-template-hash": "6d4cf56db6" },
      ownerReferences: [{ apiVersion: "apps/v1", kind: "ReplicaSet", name: `app-${ordinal % 10}`, uid: "r" }],
    },
    spec: {
      nodeName: nodeName(n),
      containers: [
        { name: "main", image: "registry.example/main:1.0", ports: [{ name: "http", containerPort: 8080 }] },
      ],
      tolerations: [{ key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute" }],
    },
    status: {
      phase: "Running",
      podIP,
      podIPs: [{ ip: podIP }],
      hostIP: underlayAddress(n),
      conditions: [
        { type: "Ready", status: "True", lastTransitionTime: "2024-01-01T00:00:00Z" },
        { type: "PodScheduled", status: "True", lastTransitionTime: "2024-01-01T00:00:00Z" },
      ],
      containerStatuses: [
        { name: "main", ready: true, restartCount: 0, image: "registry.example/main:1.0", imageID: "" },
      ],
    },
  };
}

/** `nodes` nodes, each with a /26 block and `pods` pods. */
export function clusterTexts(nodes: number, pods: number): ClusterTexts {
  const numbers = Array.from({ length: nodes }, (_, n) => n);
  const podsOf = (n: number) => Array.from({ length: pods }, (_, i) => pod(n, i + 1));
  return {
    nodes: JSON.stringify(numbers.map((n) => node(n))),
    blocks: JSON.stringify(numbers.map((n) => block(n, pods))),
    pods: JSON.stringify(numbers.flatMap(podsOf)),
    ownPods: JSON.stringify(podsOf(0)),
  };
}

function podName(n: number, ordinal: number): string {
  return `app-${ordinal % 10}-6d4cf56db6-${n}-${ordinal}`;
}

function metadata(name: string, namespace?: string, annotations: Record<string, string> = {}) {
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    uid: `uid-${name}`,
    resourceVersion: "1",
    creationTimestamp: "2024-01-01T00:00:00Z",
    annotations,
  };
}
