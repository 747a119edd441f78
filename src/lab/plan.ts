/**
 * Owns what the lab is going to make: names of namespaces and files, lines for `ip -batch`, command
 * lines, and the configuration of the programs in the pods. Pure; must not know processes.
 */
import { fileURLToPath } from "node:url";
import type { Application, LabNode, LabPod } from "./walkthrough.js";
import { LAN_MTU, LAN_PREFIX_LENGTH, labelOf, NODES, PC } from "./walkthrough.js";

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
export const API_URL = `https://${API_NODE.address}:${API_PORT}`;

/** Logs of what runs once. */
export const API_LOG = `${LAB_DIRECTORY}/apiserver.log`;
export const POD_RUNNER_LOG = `${LAB_DIRECTORY}/pod-runner.log`;

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

export interface PodKey {
  namespace: string;
  name: string;
}

const POD_PREFIX = "podwire-pod-";

/** What the agents look for pods' namespaces by. */
export const POD_NETNS_PATTERN = `/run/netns/${POD_PREFIX}{namespace}.{name}`;

/** Namespace of a pod. */
export function podNamespace({ namespace, name }: PodKey): string {
  return `${POD_PREFIX}${namespace}.${name}`;
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
}

interface PodPaths {
  directory: string;
  config: string;
  log: string;
  html: string;
  run: string;
}

/** Files of one node's agent. */
export function nodePaths(node: string): NodePaths {
  const directory = `${LAB_DIRECTORY}/nodes/${node}`;
  return {
    directory,
    kubeconfig: `${directory}/kubeconfig`,
    log: `${directory}/agent.log`,
    stateDir: `${directory}/state`,
  };
}

/** Files of one pod's program. */
export function podPaths({ namespace, name }: PodKey): PodPaths {
  const directory = `${LAB_DIRECTORY}/pods/${namespace}.${name}`;
  return {
    directory,
    config: `${directory}/program.conf`,
    log: `${directory}/program.log`,
    html: `${directory}/html`,
    run: `${directory}/run`,
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

/** Makes a namespace ready for a pod's program; its eth0 is the agent's to make. */
export const POD_NAMESPACE_SCRIPT =
  // As container runtimes do, so that a program needs no privilege for port 80.
  "ip link set dev lo up && echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start";

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
  const { kubeconfig, stateDir } = nodePaths(node.name);
  const options = {
    kubeconfig,
    node: node.name,
    "underlay-address": node.address,
    "state-dir": stateDir,
    "pod-netns": POD_NETNS_PATTERN,
  };
  return ["agent", ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, value])];
}

/** What a pod's web server answers, and how the walk recognises it. */
export function pageOf(pod: LabPod): string {
  return `${pod.name} on ${pod.node}\n`;
}

/** The configuration of the program in a pod: everything it writes stays in the pod's directory. */
export function programConfig(pod: LabPod): string {
  return CONFIGS[pod.application](pod);
}

const CONFIGS: Readonly<Record<Application, (pod: LabPod) => string>> = {
  nginx: nginxConfig,
  apache: apacheConfig,
  redis: redisConfig,
};

function nginxConfig(pod: LabPod): string {
  const { directory, html, run } = podPaths(pod);
  // One process only: a master would try to change to another user, which a user namespace forbids.
  return `daemon off;
master_process off;
pid ${run}/nginx.pid;
error_log ${directory}/error.log;
events { worker_connections 256; }
http {
  access_log ${directory}/access.log;
  client_body_temp_path ${run}/body;
  proxy_temp_path ${run}/proxy;
  fastcgi_temp_path ${run}/fastcgi;
  uwsgi_temp_path ${run}/uwsgi;
  scgi_temp_path ${run}/scgi;
  default_type text/plain;
  server {
    listen 0.0.0.0:${pod.l4Port};
    server_name ${pod.name};
    root ${html};
    index index.txt;
  }
}
`;
}

function apacheConfig(pod: LabPod): string {
  const { directory, html, run } = podPaths(pod);
  const modules = "/usr/lib/apache2/modules";
  return `ServerRoot "${directory}"
ServerName ${pod.name}
DefaultRuntimeDir "${run}"
PidFile "${run}/apache2.pid"
Mutex file:${run}
LoadModule mpm_event_module ${modules}/mod_mpm_event.so
LoadModule authz_core_module ${modules}/mod_authz_core.so
LoadModule dir_module ${modules}/mod_dir.so
ServerLimit 1
StartServers 1
ThreadsPerChild 16
ThreadLimit 16
MinSpareThreads 1
MaxSpareThreads 16
MaxRequestWorkers 16
Listen 0.0.0.0:${pod.l4Port}
ErrorLog "${directory}/error.log"
LogFormat "%h %r %>s" short
CustomLog "${directory}/access.log" short
DocumentRoot "${html}"
DirectoryIndex index.txt
<Directory "${html}">
  Require all granted
</Directory>
`;
}

function redisConfig(pod: LabPod): string {
  return `bind 0.0.0.0
port ${pod.l4Port}
protected-mode no
daemonize no
save ""
appendonly no
databases 1
logfile ""
dir ${podPaths(pod).run}
`;
}

/** Command line of the program in a pod, with the configuration of `programConfig`. */
export function programCommand(pod: LabPod): string[] {
  const { config, directory } = podPaths(pod);
  switch (pod.application) {
    case "nginx":
      return ["nginx", "-p", directory, "-c", config];
    case "apache":
      return ["apache2", "-d", directory, "-f", config, "-D", "FOREGROUND"];
    case "redis":
      return ["redis-server", config];
  }
}

/** User and group of the programs: nobody, nogroup. */
export const PROGRAM_UID = 65534;

/**
 * Puts a command under nobody. Root changes the user. In a user namespace only one identity is
 * mapped, so a second namespace gives that identity another number: apache2 refuses to run as 0.
 */
export function asNobody(command: readonly string[], rootless: boolean): string[] {
  const prefix = rootless
    ? ["unshare", "--user", `--map-user=${PROGRAM_UID}`, `--map-group=${PROGRAM_UID}`, "--"]
    : [
        "setpriv",
        `--reuid=${PROGRAM_UID}`,
        `--regid=${PROGRAM_UID}`,
        "--clear-groups",
        "--no-new-privs",
        "--",
      ];
  return [...prefix, ...command];
}

/** Puts a command into a namespace. */
export function inNamespace(namespace: string, command: readonly string[]): string[] {
  return ["ip", "netns", "exec", namespace, ...command];
}

/** A place that `shell` and `exec` can go to. */
export interface Place {
  name: string;
  namespace: string;
}

/** Finds a node, the pc, the LAN or a pod by its name, a pod also by an unambiguous beginning or its label. */
export function findPlace(name: string, labPods: readonly LabPod[]): Place | { problem: string } {
  const hosts = [...NODES.map((node) => node.name), PC.name].map((host) => ({
    name: host,
    namespace: hostNamespace(host),
  }));
  const pods = labPods.map((pod) => ({
    name: pod.namespace === "default" ? pod.name : `${pod.namespace}/${pod.name}`,
    namespace: podNamespace(pod),
    label: labelOf(pod.application, pod.node),
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

/** Whether a place is a node: kubectl works there. */
export function isNode(place: Place): boolean {
  return NODES.some((node) => node.name === place.name);
}
