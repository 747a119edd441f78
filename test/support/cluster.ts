/**
 * A cluster in a test's namespaces, of the built programs: `podwire apiserver` on the first node, an
 * agent on each, joined by token. Pods are empty namespaces, whose kernel answers pings; PodKeeper is
 * what a kubelet is elsewhere. With `runPods` the agents run them instead, and there is none.
 *
 *                lan: br0, 192.168.2.0/24
 *      ┌──────────────┬──────────────┬───────────── …
 *   .30 k8s-master  .31 k8s-worker01  .32 k8s-worker02
 *   apiserver, agent   agent             agent
 *
 * Needs `npm run build` before.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AgentStatus } from "../../src/agent/Agent.js";
import { ask } from "../../src/agent/StatusServer.js";
import type { IPPool } from "../../src/ipam/types.js";
import { Informer } from "../../src/kube/Informer.js";
import { KubeClient } from "../../src/kube/KubeClient.js";
import { isConflict, isNotFound } from "../../src/kube/KubeError.js";
import { IPPOOLS, NODES, PODS } from "../../src/kube/resources.js";
import type { Node, Pod } from "../../src/kube/types.js";
import { WorkQueue } from "../../src/kube/WorkQueue.js";
import { type ContainerView, podStatus } from "../../src/runtime/podStatus.js";
import { PODWIRE } from "./agent.js";
import { type ExecResult, TestNet, type TestProcess, waitFor } from "./netns.js";
import { Relay } from "./relay.js";

export const API_PORT = 6443;
/** Its node is the API server's, and keeps its address. */
export const API_NODE = "k8s-master";
export const API_ADDRESS = "192.168.2.30";

export interface ClusterOptions {
  nodes?: number;
  /** Of podwire apiserver. */
  apiArguments?: string[];
  /** Pods are run by the agents, as processes. */
  runPods?: boolean;
}

/** A machine on the LAN: its namespace is there whether it is in the cluster or not. */
export class ClusterNode {
  agent: TestProcess | null = null;

  constructor(
    readonly name: string,
    readonly ns: string,
    /** Underlay address. */
    public address: string,
    private readonly directory: string,
  ) {}

  get kubeconfig(): string {
    return join(this.directory, `${this.name}.kubeconfig`);
  }

  get stateDir(): string {
    return join(this.directory, this.name);
  }

  /** Of the pods that its agent runs. */
  get runtimeDir(): string {
    return join(this.directory, `${this.name}.pods`);
  }

  /** What its agent says; rejects where none answers. */
  status(): Promise<AgentStatus> {
    return ask<AgentStatus>(join(this.stateDir, "agent.sock"), "status");
  }
}

export class TestCluster {
  readonly net = new TestNet();
  readonly directory = this.net.directory();
  readonly nodes = new Map<string, ClusterNode>();
  /** The administrator's. */
  kube!: KubeClient;
  /** Null where agents run the pods. */
  keeper: PodKeeper | null = null;
  /** From this process to the API server. */
  relay!: Relay;
  private lan = "";
  private api: TestProcess | null = null;

  private constructor(
    private readonly apiArguments: string[],
    private readonly runPods: boolean,
  ) {}

  /** LAN, API server, pool; then the nodes join, and all are Ready. */
  static async start({
    nodes = 4,
    apiArguments = [],
    runPods = false,
  }: ClusterOptions = {}): Promise<TestCluster> {
    const cluster = new TestCluster(apiArguments, runPods);
    try {
      cluster.lan = await cluster.net.lan("lan", []);
      const names = Array.from({ length: nodes }, (_, i) => (i === 0 ? API_NODE : `k8s-worker0${i}`));
      for (const [i, name] of names.entries()) await cluster.addMachine(name, `192.168.2.${30 + i}`);
      await cluster.startApi();
      const { net } = cluster;
      cluster.relay = await Relay.into(net, cluster.node(API_NODE).ns, API_ADDRESS, API_PORT);
      cluster.kube = await KubeClient.fromFile(cluster.outerKubeconfig(cluster.relay.port));
      await cluster.kube.create<IPPool>(IPPOOLS, {
        metadata: { name: "default" },
        spec: { cidr: "10.1.0.0/16" },
      });
      if (!runPods) cluster.keeper = new PodKeeper(cluster);
      await Promise.all(
        names.map(async (name) => {
          await cluster.join(name);
          cluster.startAgent(name);
        }),
      );
      await waitFor(() => cluster.ready(names), { deadlineMs: 60_000, what: "nodes Ready" });
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  node(name: string): ClusterNode {
    return this.nodes.get(name)!;
  }

  /** A namespace with an address on the LAN. */
  async addMachine(name: string, address: string): Promise<ClusterNode> {
    const ns = await this.net.netns(name);
    const port = `p${this.nodes.size}`;
    await this.net.link({ ns, name: "eth0", address: `${address}/24` }, { ns: this.lan, name: port });
    await this.net.exec(this.lan, "ip", ["link", "set", port, "master", "br0"]);
    const node = new ClusterNode(name, ns, address, this.directory);
    this.nodes.set(name, node);
    return node;
  }

  // ---- API server ---------------------------------------------------------------------------

  get apiDirectory(): string {
    return join(this.directory, "apiserver");
  }

  /** The administrator's kubeconfig, as it is good on the LAN. */
  get adminKubeconfig(): string {
    return join(this.apiDirectory, "admin.kubeconfig");
  }

  get apiPid(): number {
    return this.api?.pid ?? -1;
  }

  async startApi(): Promise<void> {
    const args = ["apiserver", "-a", API_ADDRESS, "-p", String(API_PORT), "-d", this.apiDirectory];
    const api = this.net.spawn(this.node(API_NODE).ns, process.execPath, [
      PODWIRE,
      ...args,
      ...this.apiArguments,
    ]);
    this.api = api;
    await waitFor(() => api.stderr.includes("API server ready") || api.code !== null, {
      deadlineMs: 60_000,
      what: "API server",
    });
    if (api.code !== null) throw new Error(`the API server ended with ${api.code}:\n${api.stderr}`);
  }

  /** SIGKILL. */
  async killApi(): Promise<void> {
    this.api?.kill("SIGKILL");
    await this.api?.exited;
    this.api = null;
  }

  /** The administrator's kubeconfig for a relay of ours. */
  outerKubeconfig(port: number): string {
    const file = join(this.directory, `relay-${port}.kubeconfig`);
    const text = readFileSync(this.adminKubeconfig, "utf8");
    writeFileSync(file, text.replace(/https:\/\/[\d.]+:\d+/, `https://127.0.0.1:${port}`), { mode: 0o600 });
    return file;
  }

  /** Runs kubectl on the API server's node. */
  kubectl(args: string[], kubeconfig = this.adminKubeconfig): Promise<ExecResult> {
    return this.net.tryExec(this.node(API_NODE).ns, "env", [
      `KUBECONFIG=${kubeconfig}`,
      `KUBECACHEDIR=${join(this.directory, "kubectl-cache")}`,
      "kubectl",
      ...args,
    ]);
  }

  // ---- nodes --------------------------------------------------------------------------------

  /** A join token and the CA's hash. */
  async token(ttl = "1h"): Promise<{ token: string; caHash: string }> {
    const { stdout } = await this.podwire(API_NODE, [
      "token",
      "create",
      "-d",
      this.apiDirectory,
      "--ttl",
      ttl,
    ]);
    const [token = "", caHash = ""] = stdout.trim().split(" ");
    return { token, caHash };
  }

  /** `podwire join` on a node; throws where it is refused. */
  async join(name: string): Promise<void> {
    const { code, stderr } = await this.tryJoin(name, await this.token());
    if (code !== 0) throw new Error(`${name} could not join: ${stderr}`);
  }

  /** `podwire join` on a node. */
  tryJoin(name: string, { token, caHash }: { token: string; caHash: string }): Promise<ExecResult> {
    const { kubeconfig } = this.node(name);
    const server = `https://${API_ADDRESS}:${API_PORT}`;
    const options = { server, token, "ca-hash": caHash, node: name, kubeconfig };
    return this.podwire(name, [
      "join",
      ...Object.entries(options).flatMap(([key, value]) => [`--${key}`, value]),
    ]);
  }

  /** Runs a podwire command on a node. */
  podwire(name: string, args: string[]): Promise<ExecResult> {
    const [command = "", ...rest] = this.onNode(name, [PODWIRE, ...args]);
    return this.net.tryExec("", command, rest);
  }

  /** @param more options of the agent */
  startAgent(name: string, more: readonly string[] = []): void {
    const node = this.node(name);
    const options = {
      kubeconfig: node.kubeconfig,
      node: name,
      "underlay-address": node.address,
      "state-dir": node.stateDir,
      "pod-netns": this.net.path(this.podNamespace("{uid}")),
    };
    const args = [
      PODWIRE,
      "agent",
      ...Object.entries(options).flatMap(([key, value]) => [`--${key}`, value]),
    ];
    args.push(...more);
    if (this.runPods) args.push("--run-pods", "--runtime-dir", node.runtimeDir);
    const [command = "", ...rest] = this.onNode(name, args);
    node.agent = this.net.spawn("", command, rest, { detached: true });
  }

  /**
   * How node is run on a machine. Where agents run pods, in the machine's network only: `ip netns exec`
   * would hide its cgroups.
   */
  private onNode(name: string, args: string[]): string[] {
    const { ns } = this.node(name);
    const enter = this.runPods ? ["nsenter", `--net=${this.net.path(ns)}`] : ["ip", "netns", "exec", ns];
    return [...enter, process.execPath, ...args];
  }

  async endAgent(name: string, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const { agent } = this.node(name);
    agent?.kill(signal);
    await agent?.exited;
  }

  /** Another address on the LAN for a node: its agent is started anew with it. */
  async renumber(name: string, address: string): Promise<void> {
    const node = this.node(name);
    await this.endAgent(name, "SIGTERM");
    // The old one first: with the first address of a device the kernel removes those after it.
    await this.net.exec(node.ns, "ip", ["addr", "del", `${node.address}/24`, "dev", "eth0"]);
    await this.net.exec(node.ns, "ip", ["addr", "add", `${address}/24`, "dev", "eth0"]);
    node.address = address;
    this.startAgent(name);
  }

  /** Takes a node out of the cluster; the machine stays. */
  async removeNode(name: string): Promise<void> {
    const node = this.node(name);
    await this.endAgent(name, "SIGTERM");
    node.agent = null;
    const { code, stderr } = await this.podwire(name, ["cleanup", "-d", node.stateDir]);
    if (code !== 0) throw new Error(`cleanup on ${name}: ${stderr}`);
    await this.kube.delete(NODES, name).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }

  /** Whether all of these are Ready. */
  async ready(names: Iterable<string>): Promise<boolean> {
    const { items } = await this.kube.list<Node>(NODES);
    return [...names].every((name) =>
      items
        .find(({ metadata }) => metadata.name === name)
        ?.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True"),
    );
  }

  /** `podwire check` on a node, API and node side. */
  check(name: string, waitSeconds: number): Promise<ExecResult> {
    const { stateDir } = this.node(name);
    return this.podwire(name, [
      "check",
      "--kubeconfig",
      this.adminKubeconfig,
      "-d",
      stateDir,
      "--wait",
      String(waitSeconds),
    ]);
  }

  // ---- pods ---------------------------------------------------------------------------------

  /** Name of the namespace of a pod. */
  podNamespace(uid: string): string {
    return `${this.net.prefix}-${uid}`;
  }

  /** What the programs wrote last, for a failure's report. */
  logs(lines = 15): string {
    const tail = (name: string, from: TestProcess | null) =>
      `--- ${name} (${from === null ? "none" : (from.code ?? "runs")})\n${from?.stderr.trimEnd().split("\n").slice(-lines).join("\n") ?? ""}`;
    return [tail("apiserver", this.api), ...[...this.nodes.values()].map((n) => tail(n.name, n.agent))].join(
      "\n",
    );
  }

  async close(): Promise<void> {
    await this.keeper?.stop();
    this.kube?.close();
    this.relay?.close();
    await this.net.cleanup();
  }
}

/** How often a pod that is not attached yet is looked at. */
const LOOK_MS = 100;

/** Gives pods their namespaces, says that they run once their agent has attached them, and lets them go. */
export class PodKeeper {
  /** Namespaces by uid of the pod. */
  private readonly namespaces = new Map<string, string>();
  private readonly pods: Informer<Pod>;
  private readonly queue: WorkQueue;

  constructor(private readonly cluster: TestCluster) {
    const backoff = { first: 50, most: 500 };
    this.queue = new WorkQueue({ process: (key) => this.settle(key), concurrency: 4, backoff });
    this.pods = new Informer<Pod>(cluster.kube, PODS, { backoff });
    const key = ({ metadata: { namespace, name, uid } }: Pod) => `${namespace}/${name}/${uid}`;
    const look = (pod: Pod) => this.queue.add(key(pod));
    this.pods.addHandler({ added: look, updated: look, deleted: look });
    this.pods.start();
  }

  async stop(): Promise<void> {
    await Promise.all([this.pods.stop(), this.queue.stop()]);
  }

  /** Pods that have a namespace now. */
  get size(): number {
    return this.namespaces.size;
  }

  private async settle(key: string): Promise<void> {
    const [namespace = "", name = "", uid = ""] = key.split("/");
    const { kube, net } = this.cluster;
    const pod = this.pods.get(name, namespace);
    const present = pod?.metadata.uid === uid ? pod : undefined;
    if (present === undefined || present.metadata.deletionTimestamp !== undefined) {
      const ns = this.namespaces.get(uid);
      if (ns !== undefined) {
        await net.deleteNetns(ns);
        this.namespaces.delete(uid);
      }
      if (present === undefined || !present.spec?.nodeName) return;
      await kube.delete(PODS, name, namespace, { gracePeriodSeconds: 0, uid }).catch((error) => {
        if (!isNotFound(error) && !isConflict(error)) throw error;
      });
      return;
    }
    const node = this.cluster.nodes.get(present.spec?.nodeName ?? "");
    if (node === undefined) return;
    if (!this.namespaces.has(uid)) this.namespaces.set(uid, await net.netns(uid));
    if (isReady(present)) return;
    const attached = await node.status().then(
      ({ pods }) => pods.some((each) => each.name === `${namespace}/${name}` && each.state === "up"),
      () => false,
    );
    if (!attached || !present.status?.podIP) return this.queue.addAfter(key, LOOK_MS);
    const status = podStatus(
      present,
      { init: [], containers: runningContainers(present) },
      { network: true, over: false },
      new Date(),
    );
    await kube
      .patch(PODS, name, namespace, "strategic", { metadata: { uid }, status }, "status")
      .catch((error) => {
        if (!isNotFound(error) && !isConflict(error)) throw error;
      });
  }
}

/** The containers of a pod, as if all of them ran. */
function runningContainers({ metadata: { uid = "" }, spec }: Pod): ContainerView[] {
  return (spec?.containers ?? []).map(({ name, image = "" }) => ({
    name,
    image,
    last: {
      uid,
      container: name,
      attempt: 0,
      imageName: image,
      containerId: `test://${uid}`,
      stopSignal: "SIGTERM",
      running: true,
      startedAt: Date.now(),
      end: null,
      memory: { started: true, ready: true },
    },
    before: null,
    waiting: null,
  }));
}

/** Whether the pod's condition says so. */
export function isReady({ status }: Pod): boolean {
  return status?.conditions?.some((each) => each.type === "Ready" && each.status === "True") === true;
}
