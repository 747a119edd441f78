/**
 * Owns the facts of the walkthrough: machines, addresses, blocks, DaemonSets and images (the objects
 * themselves are in manifests/lab). Plain values; must not know how they are brought to life, and
 * imports nothing.
 */

export const LAN_PREFIX_LENGTH = 24;
export const LAN_MTU = 1500;
export const POD_POOL = "10.1.0.0/16";

export interface LabNode {
  name: string;
  /** Address on the LAN. */
  address: string;
  /** Block of pod addresses. */
  block: string;
  /** Address of podwire0: the block's first. */
  tunnelAddress: string;
}

export type Application = "nginx" | "apache" | "redis";

export interface DaemonSet {
  name: string;
  application: Application;
}

/** A pod of the walkthrough, as the API describes it. */
export interface LabPod {
  uid: string;
  namespace: string;
  name: string;
  /** Short name in the matrix: first letter of the application, index of the node. */
  label: string;
  application: Application;
  l4Port: number;
  /** Empty until the agent has given it one. */
  address: string;
  /** Name of the node it runs on. */
  node: string;
}

export interface LabPc {
  name: string;
  address: string;
}

export const NODES: readonly LabNode[] = [
  { name: "k8s-master", address: "192.168.2.30", block: "10.1.235.192/26", tunnelAddress: "10.1.235.192" },
  { name: "k8s-worker01", address: "192.168.2.31", block: "10.1.79.64/26", tunnelAddress: "10.1.79.64" },
  { name: "k8s-worker02", address: "192.168.2.32", block: "10.1.69.192/26", tunnelAddress: "10.1.69.192" },
  { name: "k8s-worker03", address: "192.168.2.33", block: "10.1.39.192/26", tunnelAddress: "10.1.39.192" },
];

/** The client outside the cluster, on the same LAN. */
export const PC: LabPc = { name: "pc", address: "192.168.2.10" };

/** In the order in which they are applied, which is that of their pods' addresses. */
export const DAEMON_SETS: readonly DaemonSet[] = [
  { name: "nginx-ds", application: "nginx" },
  { name: "apache-ds", application: "apache" },
  { name: "redis-ds", application: "redis" },
];

interface Image {
  /** Without registry, tag and digest. */
  repository: string;
  /** The port that the program in it listens on. */
  l4Port: number;
}

/** What is in the DaemonSets. */
export const IMAGES: Readonly<Record<Application, Image>> = {
  nginx: { repository: "nginx", l4Port: 80 },
  apache: { repository: "shotaohtsuka/my-httpd-image", l4Port: 90 },
  redis: { repository: "redis", l4Port: 6379 },
};

/** The application of an image such as "nginx:latest" or "docker.io/library/redis"; null for others. */
export function applicationOf(image: string): Application | null {
  const repository = image
    .replace(/@.*$/, "")
    .replace(/:[^/]*$/, "")
    .replace(/^(index\.)?docker\.io\//, "")
    .replace(/^library\//, "");
  const names = Object.keys(IMAGES) as Application[];
  return names.find((name) => IMAGES[name].repository === repository) ?? null;
}

/** n0, a3: unique among the walkthrough's pods only. */
export function labelOf(application: Application, node: string): string {
  return `${application.charAt(0)}${NODES.findIndex(({ name }) => name === node)}`;
}

/** A Service of steps 2 to 4; its object is in the step's manifest. */
export interface LabService {
  name: string;
  application: Application;
  l4Port: number;
  /** 0 where it has none. */
  nodePort: number;
}

export type ServiceStep = 2 | 3 | 4;

/** What kubectl applies at a step, by its name in manifests/lab. */
export const SERVICE_MANIFESTS: Readonly<Record<ServiceStep, string>> = {
  2: "clusterip",
  3: "nodeport",
  4: "loadbalancer",
};

/** The pool of load-balancer addresses, by its name in manifests/lab. */
export const ADDRESS_POOL_MANIFEST = "addresspool";

export const SERVICES: Readonly<Record<ServiceStep, readonly LabService[]>> = {
  2: [
    { name: "clusterip-nginx-ds", application: "nginx", l4Port: 80, nodePort: 0 },
    { name: "clusterip-apache2-ds", application: "apache", l4Port: 90, nodePort: 0 },
    { name: "clusterip-redis-ds", application: "redis", l4Port: 6379, nodePort: 0 },
  ],
  3: [
    { name: "nodeport-nginx-ds", application: "nginx", l4Port: 80, nodePort: 30080 },
    { name: "nodeport-apache2-ds", application: "apache", l4Port: 90, nodePort: 30090 },
    { name: "nodeport-redis-ds", application: "redis", l4Port: 6379, nodePort: 30379 },
  ],
  4: [
    { name: "lb-nginx-ds", application: "nginx", l4Port: 8080, nodePort: 30800 },
    { name: "lb-apache-ds", application: "apache", l4Port: 9090, nodePort: 30900 },
    { name: "lb-redis-ds", application: "redis", l4Port: 6379, nodePort: 30379 },
  ],
};
