/**
 * Owns what the lab is going to make: names of namespaces and files, lines for `ip -batch`, and command
 * lines. Pure; must not know processes.
 */
import { fileURLToPath } from "node:url";
import type { LabNode, LabPod } from "./walkthrough.js";
import { applicationOf, LAN_MTU, LAN_PREFIX_LENGTH, labelOf, NODES, PC } from "./walkthrough.js";

export const LAN_NAMESPACE = "podwire-lan";
const BRIDGE = "br0";

/** Where the lab keeps everything it writes. */
export const LAB_DIRECTORY = "/run/podwire-lab";

/** Holds a `podwire` command, first in PATH for `shell` and `exec`. */
export const BIN_DIRECTORY = `${LAB_DIRECTORY}/bin`;

/** Where the API server keeps its objects and certificates. */
export const API_DIRECTORY = `${LAB_DIRECTORY}/apiserver`;

/** The administrator's kubeconfig, which the API server writes. */
export const ADMIN_KUBECONFIG = `${API_DIRECTORY}/admin.kubeconfig`;

/** What kubectl remembers of the server: not in the user's home, where another cluster may have this address. */
const KUBE_CACHE = `${LAB_DIRECTORY}/kubectl-cache`;

/** The node that the API server runs on. */
export const API_NODE = NODES[0]!;
export const API_PORT = 6443;
const API_URL = `https://${API_NODE.address}:${API_PORT}`;

export const API_LOG = `${LAB_DIRECTORY}/apiserver.log`;

/** A manifest that comes with podwire. */
export function manifest(name: string): string {
  return fileURLToPath(new URL(`../../manifests/lab/${name}.yaml`, import.meta.url));
}

/** The environment in which kubectl finds the lab's API server. */
export function kubeEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  // A proxy of the machine's cannot reach into the lab.
  const direct = [env.NO_PROXY ?? env.no_proxy, API_NODE.address].filter(Boolean).join(",");
  return {
    ...env,
    KUBECONFIG: ADMIN_KUBECONFIG,
    KUBECACHEDIR: KUBE_CACHE,
    NO_PROXY: direct,
    no_proxy: direct,
  };
}

/** Path under which iproute2 keeps a namespace of that name. */
export function namespacePath(namespace: string): string {
  return `/run/netns/${namespace}`;
}

/** Namespace of a node or of the pc. */
export function hostNamespace(name: string): string {
  return `podwire-${name}`;
}

const POD_PREFIX = "podwire-pod-";

/** Where the agents make pods' namespaces: a pod does not wait for the end of another of its name. */
const POD_NETNS_PATTERN = `/run/netns/${POD_PREFIX}{uid}`;

/** Network namespace of a pod. */
export function podNamespace({ uid }: { uid: string }): string {
  return `${POD_PREFIX}${uid}`;
}

/** Every namespace that the lab has from the start. */
export function fixedNamespaces(): string[] {
  return [LAN_NAMESPACE, ...NODES.map((node) => hostNamespace(node.name)), hostNamespace(PC.name)];
}

/** Of these namespaces those of the lab; pods last, so that clearing in reverse order ends them first. */
export function ourNamespaces(present: readonly string[]): string[] {
  const pods = present.filter((name) => name.startsWith(POD_PREFIX)).sort();
  return [...fixedNamespaces().filter((name) => present.includes(name)), ...pods];
}

interface NodePaths {
  directory: string;
  kubeconfig: string;
  log: string;
  stateDir: string;
  /** The pods that the agent runs. */
  runtimeDir: string;
}

/** Files of one node's agent. */
export function nodePaths(node: string): NodePaths {
  const directory = `${LAB_DIRECTORY}/nodes/${node}`;
  return {
    directory,
    kubeconfig: `${directory}/kubeconfig`,
    log: `${directory}/agent.log`,
    stateDir: `${directory}/state`,
    runtimeDir: `${directory}/runtime`,
  };
}

/** A locally administered MAC made of an IPv4 address, so that captures of two runs look alike. */
export function macOf(address: string): string {
  const octets = address.split(".").map((octet) => Number(octet).toString(16).padStart(2, "0"));
  return ["02", "00", ...octets].join(":");
}

/** Lines for `ip -n podwire-lan -batch -`: the bridge, and a cable to each node and the pc. */
export function lanBatch(): string[] {
  const cables = [...NODES, PC].flatMap(({ name, address }) => [
    `link add name ${name} mtu ${LAN_MTU} type veth peer name eth0 mtu ${LAN_MTU} ` +
      `address ${macOf(address)} netns ${hostNamespace(name)}`,
    `link set dev ${name} master ${BRIDGE} up`,
  ]);
  return [
    "link set dev lo up",
    `link add name ${BRIDGE} type bridge mcast_snooping 0`,
    `link set dev ${BRIDGE} up`,
    ...cables,
  ];
}

/** Lines for `ip -n NAMESPACE -batch -` in a node or the pc. */
export function hostBatch(address: string): string[] {
  return [
    "link set dev lo up",
    `address add ${address}/${LAN_PREFIX_LENGTH} brd + dev eth0`,
    "link set dev eth0 up",
  ];
}

/** Arguments of `podwire` for the API server. */
export function apiServerArguments(): string[] {
  return ["apiserver", "-a", API_NODE.address, "-p", String(API_PORT), "-d", API_DIRECTORY];
}

/** Arguments of `podwire` with which a node joins. */
export function joinArguments(node: LabNode, token: string, caHash: string): string[] {
  const { kubeconfig } = nodePaths(node.name);
  const options = { server: API_URL, token, "ca-hash": caHash, node: node.name, kubeconfig };
  return ["join", ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, value])];
}

/** Arguments of `podwire` for a node's agent. */
export function agentArguments(node: LabNode): string[] {
  const { kubeconfig, stateDir, runtimeDir } = nodePaths(node.name);
  const options = {
    kubeconfig,
    node: node.name,
    "underlay-address": node.address,
    "state-dir": stateDir,
    "pod-netns": POD_NETNS_PATTERN,
    "runtime-dir": runtimeDir,
  };
  return ["agent", "--run-pods", ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, value])];
}

/** What a pod's web server answers, and how the walk recognises it. */
export function pageOf(pod: LabPod): string {
  return `${pod.name} on ${pod.node}\n`;
}

/**
 * Puts a command into a network namespace and leaves it among our mounts: what an agent pins there has
 * to outlast it.
 */
export function inNetwork(namespace: string, command: readonly string[]): string[] {
  return ["nsenter", `--net=${namespacePath(namespace)}`, "--", ...command];
}

/** Puts a command into a namespace, with a /sys that shows it. */
export function inNamespace(namespace: string, command: readonly string[]): string[] {
  return ["ip", "netns", "exec", namespace, ...command];
}

/** A place that `shell` and `exec` can go to. */
export interface Place {
  name: string;
  namespace: string;
}

/** What is known of a pod that an agent of the lab runs. */
export interface PlacedPod {
  uid: string;
  namespace: string;
  name: string;
  node: string;
  containers: readonly { image: string }[];
}

/** Finds a node, the pc, the LAN or a pod by its name, a pod also by an unambiguous beginning or its label. */
export function findPlace(name: string, placed: readonly PlacedPod[]): Place | { problem: string } {
  const hosts = [...NODES.map((node) => node.name), PC.name].map((host) => ({
    name: host,
    namespace: hostNamespace(host),
  }));
  const pods = placed.map((pod) => ({
    name: pod.namespace === "default" ? pod.name : `${pod.namespace}/${pod.name}`,
    namespace: podNamespace(pod),
    label: placedLabel(pod),
  }));
  const places: Place[] = [...hosts, { name: "lan", namespace: LAN_NAMESPACE }, ...pods];
  const found = ({ name, namespace }: Place) => ({ name, namespace });
  const exact = places.find((place) => place.name === name);
  if (exact) return found(exact);
  const labelled = pods.filter((pod) => pod.label === name.toLowerCase());
  const matches =
    labelled.length > 0 ? labelled : name === "" ? [] : places.filter((place) => place.name.startsWith(name));
  if (matches.length === 1) return found(matches[0]!);
  if (matches.length > 1) {
    return { problem: `"${name}" could be ${matches.map((match) => match.name).join(", ")}` };
  }
  return { problem: `no "${name}" here; there are ${places.map((place) => place.name).join(", ")}` };
}

function placedLabel({ node, containers }: PlacedPod): string | null {
  const application = applicationOf(containers[0]?.image ?? "");
  return application === null ? null : labelOf(application, node);
}

/** Whether a place is a node: kubectl works there. */
export function isNode(place: Place): boolean {
  return NODES.some((node) => node.name === place.name);
}
