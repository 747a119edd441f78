/**
 * Owns the lab's control plane as its user would make it: the API server, joining nodes, and kubectl.
 * Must not know namespaces' making, programs or the command line.
 */
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { TUNNEL_ADDRESS } from "../model/annotations.js";
import { PODWIRE } from "./agents.js";
import { LabError } from "./errors.js";
import {
  ADMIN_KUBECONFIG,
  API_DIRECTORY,
  API_LOG,
  API_NODE,
  API_PORT,
  apiServerArguments,
  hostNamespace,
  inNamespace,
  joinArguments,
  kubeEnvironment,
  manifest,
} from "./plan.js";
import {
  type CommandResult,
  isAlive,
  isListening,
  type ProcessId,
  run,
  runOrThrow,
  startDetached,
  tail,
} from "./processes.js";
import {
  ADDRESS_POOL_MANIFEST,
  applicationOf,
  DAEMON_SETS,
  IMAGES,
  type LabPod,
  labelOf,
  NODES,
  SERVICE_MANIFESTS,
  SERVICES,
  type ServiceStep,
} from "./walkthrough.js";

const API_TIMEOUT_MS = 20_000;
const KUBECTL_TIMEOUT_MS = 20_000;
const ROLLOUT_SECONDS = 20;
/** How long Services may take to get their addresses, which are probed on the LAN before. */
const ADDRESSES_MS = 20_000;

// ---- API server and joining --------------------------------------------------------------------

/** Starts the API server on its node. */
export function startApiServer(): ProcessId {
  const command = [process.execPath, PODWIRE, ...apiServerArguments()];
  return startDetached(inNamespace(hostNamespace(API_NODE.name), command), API_LOG);
}

/** Waits until it listens. */
export async function waitForApiServer(id: ProcessId, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + API_TIMEOUT_MS;
  while (!existsSync(ADMIN_KUBECONFIG) || !isListening(id, API_PORT)) {
    const dead = !isAlive(id);
    if (dead || performance.now() > deadline) {
      throw new LabError(
        `the API server ${dead ? "ended" : `does not listen after ${API_TIMEOUT_MS / 1000} s`}; its log ends with:\n${tail(API_LOG, 15)}`,
        "LAB_API_FAILED",
      );
    }
    await sleep(30, undefined, { signal });
  }
}

/** Lets all nodes join, with one token. */
export async function joinNodes(signal: AbortSignal): Promise<void> {
  const podwire = [process.execPath, PODWIRE];
  const create = [...podwire, "token", "create", "-d", API_DIRECTORY, "--ttl", "10m", "--description", "lab"];
  const [token = "", caHash = ""] = (await runOrThrow(create, { signal })).trim().split(" ");
  await Promise.all(
    NODES.map((node) => {
      const command = [...podwire, ...joinArguments(node, token, caHash)];
      return runOrThrow(inNamespace(hostNamespace(node.name), command), { signal });
    }),
  );
}

// ---- kubectl -----------------------------------------------------------------------------------

interface KubectlOptions {
  signal?: AbortSignal;
  timeoutMs?: number;
}

/** Runs kubectl on the API server's node, as its administrator. */
function kubectl(args: readonly string[], options: KubectlOptions = {}): Promise<CommandResult> {
  return run(inNamespace(hostNamespace(API_NODE.name), ["kubectl", ...args]), {
    timeoutMs: KUBECTL_TIMEOUT_MS,
    ...options,
    env: kubeEnvironment(process.env),
  });
}

/** Runs a kubectl that has to succeed; returns its output. */
export async function kubectlOrThrow(args: readonly string[], options: KubectlOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await kubectl(args, options);
  if (code !== 0) {
    throw new LabError(
      `kubectl ${args.join(" ")}: ${stderr.trim() || `exit code ${code}`}`,
      "LAB_KUBECTL_FAILED",
    );
  }
  return stdout;
}

/** Makes the pool, and the nodes' blocks before the nodes are there. */
export async function pinBlocks(signal: AbortSignal): Promise<void> {
  await kubectlOrThrow(["create", "-f", manifest("pool")], { signal });
}

/**
 * Applies the DaemonSets, each when the pods of the last one are ready: so a node's pods get their
 * addresses in this order.
 */
export async function applyDaemonSets(signal: AbortSignal): Promise<void> {
  for (const { name } of DAEMON_SETS) {
    await kubectlOrThrow(["apply", "-f", manifest(name)], { signal });
    const rollout = ["rollout", "status", `daemonset/${name}`, `--timeout=${ROLLOUT_SECONDS}s`];
    const { code, stderr } = await kubectl(rollout, { signal, timeoutMs: (ROLLOUT_SECONDS + 5) * 1000 });
    signal.throwIfAborted();
    if (code === 0) continue;
    const pods = await kubectl(["get", "pod", "-o", "wide"]);
    throw new LabError(
      `the pods of ${name} do not become ready: ${stderr.trim()}\n${pods.stdout}${pods.stderr}`.trimEnd(),
      "LAB_PODS_FAILED",
    );
  }
}

/** Applies the Services of a step; returns what kubectl says. */
export function applyServices(step: ServiceStep, signal: AbortSignal): Promise<string> {
  return kubectlOrThrow(["apply", "-f", manifest(SERVICE_MANIFESTS[step])], { signal });
}

/** Names of the manifests whose objects are in the way of a step. */
export function obstaclesOf(step: ServiceStep): string[] {
  const { 2: clusterIp, 3: nodePort, 4: loadBalancer } = SERVICE_MANIFESTS;
  // Steps 3 and 4 have a NodePort in common; step 4 begins without addresses.
  if (step === 4) return [clusterIp, nodePort, loadBalancer, ADDRESS_POOL_MANIFEST];
  return step === 3 ? [loadBalancer] : [];
}

/** Deletes the objects of manifests, as far as they are there; returns what kubectl says. */
export function deleteManifests(names: readonly string[], signal: AbortSignal): Promise<string> {
  const files = names.flatMap((name) => ["-f", manifest(name)]);
  return kubectlOrThrow(["delete", "--ignore-not-found", ...files], { signal });
}

/** Creates the pool of load-balancer addresses; returns what kubectl says. */
export function applyAddressPool(signal: AbortSignal): Promise<string> {
  return kubectlOrThrow(["apply", "-f", manifest(ADDRESS_POOL_MANIFEST)], { signal });
}

/** What kubectl shows of the Services. */
export function servicesWide(): Promise<string> {
  return kubectlOrThrow(["get", "svc", "-o", "wide"]);
}

/** What kubectl shows of the pods. */
export function podsWide(): Promise<string> {
  return kubectlOrThrow(["get", "pod", "-o", "wide"]);
}

// ---- what the API says -------------------------------------------------------------------------

interface Item {
  kind: string;
  metadata: {
    namespace?: string;
    name: string;
    uid: string;
    annotations?: Record<string, string>;
    deletionTimestamp?: string;
    ownerReferences?: { kind: string; name: string }[];
  };
  spec: {
    nodeName?: string;
    containers?: { image?: string }[];
    cidr?: string;
    node?: string;
    clusterIP?: string;
  };
  status?: {
    podIP?: string;
    addresses?: { type: string; address: string }[];
    loadBalancer?: { ingress?: { ip?: string }[] };
  };
}

async function items(args: readonly string[]): Promise<Item[]> {
  return (JSON.parse(await kubectlOrThrow(["get", ...args, "-o", "json"])) as { items: Item[] }).items;
}

/** The pods of the walkthrough's DaemonSets: DaemonSet by DaemonSet, within each in the order of nodes. */
export async function walkthroughPods(): Promise<LabPod[]> {
  return podsOf(await items(["pod"]));
}

/** Pure part of walkthroughPods. */
export function podsOf(found: readonly Item[]): LabPod[] {
  return DAEMON_SETS.flatMap((daemonSet) =>
    NODES.flatMap((node) =>
      found
        .filter(
          ({ metadata, spec }) =>
            spec.nodeName === node.name &&
            metadata.deletionTimestamp === undefined &&
            metadata.ownerReferences?.some(
              ({ kind, name }) => kind === "DaemonSet" && name === daemonSet.name,
            ),
        )
        .flatMap(({ metadata, spec, status }): LabPod[] => {
          const application = applicationOf(spec.containers?.[0]?.image ?? "");
          if (application === null) return [];
          const { namespace = "default", name, uid } = metadata;
          const { l4Port } = IMAGES[application];
          const label = labelOf(application, node.name);
          const address = status?.podIP ?? "";
          return [{ uid, namespace, name, label, application, l4Port, address, node: node.name }];
        }),
    ),
  );
}

/** The ClusterIP of each Service of a step, by its name. */
export async function clusterIps(step: ServiceStep): Promise<Map<string, string>> {
  const names = SERVICES[step].map(({ name }) => name);
  const found = await items(["svc", ...names]);
  return new Map(found.map(({ metadata, spec }) => [metadata.name, spec.clusterIP ?? ""]));
}

/** The load-balancer address of each Service of a step, by its name; "" for one that has none (yet). */
export async function externalIps(step: ServiceStep): Promise<Map<string, string>> {
  const names = SERVICES[step].map(({ name }) => name);
  const found = await items(["svc", ...names]);
  return new Map(
    found.map(({ metadata, status }) => [metadata.name, status?.loadBalancer?.ingress?.[0]?.ip ?? ""]),
  );
}

/** Waits until each Service of a step has its load-balancer address; returns them, as far as they have. */
export async function awaitExternalIps(step: ServiceStep, signal: AbortSignal): Promise<Map<string, string>> {
  const deadline = performance.now() + ADDRESSES_MS;
  for (;;) {
    const found = await externalIps(step);
    if (![...found.values()].includes("") || performance.now() > deadline) return found;
    await sleep(100, undefined, { signal });
  }
}

export interface NodeFacts {
  name: string;
  address: string;
  blocks: string[];
  tunnelAddress: string;
}

/** The nodes with their blocks. */
export async function nodeFacts(): Promise<NodeFacts[]> {
  const all = await items(["nodes,ipamblocks.podwire.dev"]);
  const blocks = all.filter(({ kind }) => kind === "IPAMBlock");
  return all
    .filter(({ kind }) => kind === "Node")
    .map(({ metadata: { name, annotations }, status }) => ({
      name,
      address: status?.addresses?.find(({ type }) => type === "InternalIP")?.address ?? "",
      blocks: blocks.filter(({ spec }) => spec.node === name).map(({ spec }) => spec.cidr ?? ""),
      tunnelAddress: annotations?.[TUNNEL_ADDRESS] ?? "",
    }));
}
