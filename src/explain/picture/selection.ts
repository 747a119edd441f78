/**
 * What of a topology a picture shows: which step of the walkthrough it is about, which Services belong to
 * that, and whether nodes are drawn one by one or as a group. Pure.
 */
import type { Topology, TopologyNode, TopologyPod, TopologyService } from "../topology.js";

/** The walkthrough's pictures, and everything at once. */
export const STEPS = ["overlay", "clusterip", "nodeport", "loadbalancer"] as const;
export type Step = (typeof STEPS)[number];

export interface SelectionOptions {
  /** Default: everything. */
  step?: Step;
  /** Services of this namespace alone. */
  namespace?: string;
  /** These Services alone, by name or NAMESPACE/NAME. */
  services?: readonly string[];
}

export interface Selection {
  step: Step | "all";
  title: string;
  subtitle: string;
  nodes: readonly TopologyNode[];
  services: readonly TopologyService[];
  /** Services that would belong here, and are too many. */
  omitted: number;
  /** Nodes are small, and pods stand together by workload. */
  grouped: boolean;
}

/** More Services in one picture are lines that nobody can follow. */
const MOST_SERVICES = 16;
/** As many nodes and pods are drawn one by one. */
const MOST_NODES = 8;
const MOST_PODS = 64;

/** The API server's own Service: it is there in every cluster, and its endpoint is no pod. */
const KUBERNETES = "default/kubernetes";

const TYPES: Readonly<Record<Step, TopologyService["type"] | null>> = {
  overlay: null,
  clusterip: "ClusterIP",
  nodeport: "NodePort",
  loadbalancer: "LoadBalancer",
};

const TITLES: Readonly<Record<Step | "all", readonly [string, string]>> = {
  overlay: [
    "Pods, and the VXLAN between the nodes",
    "Behind a node's VXLAN device are its pods. A packet to another node's pod travels inside a UDP datagram.",
  ],
  clusterip: [
    "ClusterIP",
    "Inside the cluster one address stands for all pods of a Service. From outside it does not answer.",
  ],
  nodeport: ["NodePort", "From the LAN the same port at any node leads to the pods, wherever they are."],
  loadbalancer: [
    "LoadBalancer",
    "An address of the LAN belongs to the Service. One node answers for it and sends packets on to the pods.",
  ],
  all: [
    "The cluster",
    "Services, the ways in to them, the pods behind, and the overlay that joins the nodes.",
  ],
};

/** Chooses what a picture shows. */
export function select(topology: Topology, options: SelectionOptions = {}): Selection {
  const step = options.step ?? "all";
  const named = options.services;
  const fits = ({ key, name, type }: TopologyService) => {
    if (named !== undefined) return named.includes(key) || named.includes(name);
    if (key === KUBERNETES) return false;
    if (options.namespace !== undefined && !key.startsWith(`${options.namespace}/`)) return false;
    return step === "all" || type === TYPES[step];
  };
  // In the order of the pods behind them, so that their lines cross little.
  const services = (step === "overlay" ? [] : topology.services.filter(fits)).sort(
    (a, b) => firstPod(topology, a) - firstPod(topology, b),
  );
  const shown = services.slice(0, MOST_SERVICES);
  const addresses = new Set(shown.flatMap(({ loadBalancer }) => loadBalancer.map(({ address }) => address)));
  const pods = topology.nodes.reduce((sum, node) => sum + shownPods(node).length, 0);
  return {
    step,
    title: TITLES[step][0],
    subtitle: TITLES[step][1],
    // Of what they answer for, that of Services in the picture.
    nodes: topology.nodes.map((node) => ({
      ...node,
      owns: node.owns.filter((address) => addresses.has(address)),
    })),
    services: shown,
    omitted: Math.max(0, services.length - MOST_SERVICES),
    grouped: topology.nodes.length > MOST_NODES || pods > MOST_PODS,
  };
}

/** The pods that are on the overlay. */
export function shownPods({ pods }: TopologyNode): readonly TopologyPod[] {
  return pods.filter(({ hostNetwork, address }) => !hostNetwork && address !== "");
}

/** Where the first of a Service's pods stands on its node; what has none comes last. */
function firstPod({ nodes }: Topology, { backends }: TopologyService): number {
  const keys = new Set(backends.flatMap(({ pod }) => pod ?? []));
  const places = nodes.map((node) => shownPods(node).findIndex(({ key }) => keys.has(key)));
  return Math.min(...places.filter((place) => place >= 0), Number.MAX_SAFE_INTEGER);
}
