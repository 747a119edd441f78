/** The walkthrough's cluster, and larger ones, as objects of the API. */
import type { BlockObject, ClusterObjects, LiveState, NodeState } from "../../src/explain/topology.js";
import type { EndpointSlice, Node, Pod, Service } from "../../src/kube/types.js";

export interface ClusterShape {
  /** `mac` of its VTEP: without, macAt's. */
  nodes: readonly { name: string; address: string; block: string; tunnelAddress: string; mac?: string }[];
  /** One pod of each on every node, in this order. `endings` of their names, by node: without, made up. */
  daemonSets: readonly { name: string; l4Port: number; endings?: readonly string[] }[];
  services: readonly ServiceShape[];
}

export interface ServiceShape {
  name: string;
  type: "ClusterIP" | "NodePort" | "LoadBalancer";
  clusterIp: string;
  /** Name of the DaemonSet behind it. */
  behind: string;
  port: number;
  nodePort?: number;
  address?: string;
}

export const WALKTHROUGH_NODES = [
  { name: "k8s-master", address: "192.168.2.30", block: "10.1.235.192/26", tunnelAddress: "10.1.235.192" },
  { name: "k8s-worker01", address: "192.168.2.31", block: "10.1.79.64/26", tunnelAddress: "10.1.79.64" },
  { name: "k8s-worker02", address: "192.168.2.32", block: "10.1.69.192/26", tunnelAddress: "10.1.69.192" },
  { name: "k8s-worker03", address: "192.168.2.33", block: "10.1.39.192/26", tunnelAddress: "10.1.39.192" },
];

export const DAEMON_SETS = [
  { name: "nginx-ds", l4Port: 80 },
  { name: "apache-ds", l4Port: 90 },
  { name: "redis-ds", l4Port: 6379 },
];

const service = (
  type: ServiceShape["type"],
  name: string,
  clusterIp: string,
  behind: string,
  port: number,
  more: Partial<ServiceShape> = {},
): ServiceShape => ({ type, name, clusterIp, behind, port, ...more });

export const STEP_SERVICES = {
  clusterip: [
    service("ClusterIP", "clusterip-nginx-ds", "10.152.183.226", "nginx-ds", 80),
    service("ClusterIP", "clusterip-apache2-ds", "10.152.183.181", "apache-ds", 90),
    service("ClusterIP", "clusterip-redis-ds", "10.152.183.34", "redis-ds", 6379),
  ],
  nodeport: [
    service("NodePort", "nodeport-nginx-ds", "10.152.183.81", "nginx-ds", 80, { nodePort: 30080 }),
    service("NodePort", "nodeport-apache2-ds", "10.152.183.20", "apache-ds", 90, { nodePort: 30090 }),
    service("NodePort", "nodeport-redis-ds", "10.152.183.250", "redis-ds", 6379, { nodePort: 30379 }),
  ],
  loadbalancer: [
    service("LoadBalancer", "lb-nginx-ds", "10.152.183.7", "nginx-ds", 8080, {
      nodePort: 30800,
      address: "192.168.2.36",
    }),
    service("LoadBalancer", "lb-apache-ds", "10.152.183.8", "apache-ds", 9090, {
      nodePort: 30900,
      address: "192.168.2.37",
    }),
    service("LoadBalancer", "lb-redis-ds", "10.152.183.9", "redis-ds", 6379, {
      nodePort: 30379,
      address: "192.168.2.38",
    }),
  ],
} as const;

/** The MAC that the tests give a node's VTEP. */
function macAt(n: number): string {
  return `66:00:00:00:00:${n.toString(16).padStart(2, "0")}`;
}

function plus(address: string, n: number): string {
  const [a, b, c, d] = address.split(".").map(Number);
  return `${a}.${b}.${c}.${d! + n}`;
}

/** Objects of a cluster, as the API lists them. */
export function clusterOf({ nodes, daemonSets, services }: ClusterShape): ClusterObjects {
  const pods = nodes.flatMap((node, n) =>
    daemonSets.map(
      ({ name, l4Port, endings }, k): Pod => ({
        metadata: {
          namespace: "default",
          name: `${name}-${endings?.[n] ?? `${"bcdfghjklm"[n % 10]}${"npqrs"[k % 5]}x${String(n).padStart(2, "0")}`}`,
          uid: `${name}-${n}`,
          ownerReferences: [{ apiVersion: "apps/v1", kind: "DaemonSet", name, uid: name, controller: true }],
        },
        spec: { nodeName: node.name, containers: [{ name, ports: [{ containerPort: l4Port }] }] },
        status: {
          phase: "Running",
          podIP: plus(node.tunnelAddress, k + 1),
          conditions: [{ type: "Ready", status: "True" }],
        },
      }),
    ),
  );
  return {
    nodes: nodes.map(
      (node, n): Node => ({
        metadata: {
          name: node.name,
          annotations: {
            "podwire.dev/vtep-mac": node.mac ?? macAt(n),
            "podwire.dev/tunnel-address": node.tunnelAddress,
            "podwire.dev/underlay-address": node.address,
            "podwire.dev/vxlan-port": "4789",
          },
        },
        status: { conditions: [{ type: "Ready", status: "True" }] },
      }),
    ),
    pods,
    services: services.map(
      ({ name, type, clusterIp, behind, port, nodePort, address }): Service => ({
        metadata: { namespace: "default", name },
        spec: {
          type,
          clusterIP: clusterIp,
          ports: [
            {
              port,
              targetPort: daemonSets.find((each) => each.name === behind)!.l4Port,
              ...(nodePort === undefined ? {} : { nodePort }),
            },
          ],
        },
        ...(address === undefined ? {} : { status: { loadBalancer: { ingress: [{ ip: address }] } } }),
      }),
    ),
    endpointSlices: services.map(
      ({ name, behind }): EndpointSlice => ({
        metadata: {
          namespace: "default",
          name: `${name}-1`,
          labels: { "kubernetes.io/service-name": name },
        },
        addressType: "IPv4",
        ports: [{ port: daemonSets.find((each) => each.name === behind)!.l4Port }],
        endpoints: pods
          .filter(({ metadata }) => metadata.ownerReferences?.[0]?.name === behind)
          .map(({ spec, status }) => ({
            addresses: [status!.podIP!],
            nodeName: spec!.nodeName!,
            conditions: { ready: true },
          })),
      }),
    ),
    blocks: nodes.map(
      ({ name, block }): BlockObject => ({
        metadata: { name: block },
        spec: {
          cidr: block,
          node: name,
          allocations: Array.from({ length: daemonSets.length + 1 }, (_, ordinal) => ({ ordinal })),
        },
      }),
    ),
  };
}

/** A cluster of `count` nodes with three DaemonSets' pods each. */
export function manyNodes(count: number): ClusterShape["nodes"] {
  return Array.from({ length: count }, (_, n) => ({
    name: `worker-${String(n + 1).padStart(3, "0")}`,
    address: `192.168.${2 + (n >> 7)}.${30 + (n & 127)}`,
    block: `10.1.${n >> 2}.${(n & 3) * 64}/26`,
    tunnelAddress: `10.1.${n >> 2}.${(n & 3) * 64}`,
  }));
}

/** What agents say whose tables are as the nodes announce. */
export function liveOf({ nodes }: ClusterShape, owners: Readonly<Record<string, string>> = {}): LiveState {
  const states = nodes.map((self): [string, NodeState] => [
    self.name,
    {
      underlay: { address: self.address, port: 4789, vni: 4096, mtu: 1500 },
      overlayMtu: 1450,
      vteps: nodes.flatMap((node, n) =>
        node === self
          ? []
          : [
              {
                node: node.name,
                address: node.address,
                port: 4789,
                tunnelAddress: node.tunnelAddress,
                mac: node.mac ?? macAt(n),
              },
            ],
      ),
    },
  ]);
  return { nodes: new Map(states), owners: new Map(Object.entries(owners)) };
}
