/**
 * A cluster under random operations while its processes are killed with SIGKILL; afterwards
 * everything has to agree. What is done, and when something is killed, follows from the seed alone:
 * the plan is made before the first step, from a model and not from what the cluster answers.
 *
 *   operation   DaemonSets, Deployments and pods come, scale and go; nodes get labels, join, leave,
 *               and change their underlay address
 *   kill        the API server, one agent, or all of them, within the operation that follows; back
 *               after up to 1.5 s
 *
 * What is looked at in the end: every wanted pod runs, `podwire check` on every node, no address
 * twice (as the kernels of the pods have them), every pod pings every pod, every node every pod.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { KubeObject, ResourceRef } from "../../src/kube/KubeApi.js";
import { isAlreadyExists, isNotFound, isTransient, KubeError } from "../../src/kube/KubeError.js";
import { DAEMONSETS, DEPLOYMENTS, NODES, PODS } from "../../src/kube/resources.js";
import type { DaemonSet, Deployment, Pod } from "../../src/kube/types.js";
import { API_NODE, isReady, TestCluster } from "./cluster.js";
import { waitFor } from "./netns.js";
import { Random } from "./random.js";

export interface ClusterSoakOptions {
  seed: number;
  operations: number;
  /** Kills, spread over the operations. */
  kills: number;
  /** How long everything may take to come right in the end. */
  convergeMs: number;
  say?: (line: string) => void;
  /** Ends it early, with everything cleared. */
  signal?: AbortSignal;
}

export interface ClusterSoakResult {
  operations: Record<string, number>;
  kills: Record<string, number>;
  pods: number;
  pings: number;
  convergedMs: number;
}

// ---- plan -----------------------------------------------------------------------------------------

export type Operation =
  | { do: "create DaemonSet"; name: string; zone: boolean }
  | { do: "delete DaemonSet"; name: string }
  | { do: "create Deployment"; name: string; replicas: number }
  | { do: "scale Deployment"; name: string; replicas: number }
  | { do: "delete Deployment"; name: string }
  | { do: "create pod"; name: string; node: string }
  | { do: "delete pod"; name: string }
  | { do: "label node"; node: string; zone: string }
  | { do: "add node"; node: string }
  | { do: "remove node"; node: string }
  | { do: "renumber node"; node: string; address: string };

export interface Kill {
  /** During this operation. */
  at: number;
  /** Milliseconds after the operation began. */
  after: number;
  /** "api", "all", or the name of a node whose agent it is. */
  what: string;
  /** Until it is started again. */
  downMs: number;
}

export interface Plan {
  operations: Operation[];
  kills: Kill[];
}

const WORKERS = ["k8s-worker01", "k8s-worker02", "k8s-worker03"];
/** In the cluster one moment, out of it the next. */
const GUEST = "k8s-worker04";
const STEADY = [API_NODE, ...WORKERS];
const MOST = { DaemonSet: 2, Deployment: 3, pod: 6, replicas: 6 };

/** What is going to happen: a function of its arguments alone. */
export function planOf({ seed, operations: count, kills: killCount }: ClusterSoakOptions): Plan {
  const random = new Random(seed);
  const live: Record<"DaemonSet" | "Deployment" | "pod", string[]> = {
    DaemonSet: [],
    Deployment: [],
    pod: [],
  };
  let serial = 0;
  let guest = false;
  let address = 100;
  const create = (kind: keyof typeof live): string => {
    const name = `${kind.toLowerCase()}-${serial++}`;
    live[kind].push(name);
    return name;
  };
  const remove = (kind: keyof typeof live): string =>
    live[kind].splice(random.below(live[kind].length), 1)[0]!;
  const next = (): Operation => {
    const roll = random.below(100);
    if (roll < 2) {
      guest = !guest;
      return { do: guest ? "add node" : "remove node", node: GUEST };
    }
    if (roll < 4)
      return { do: "renumber node", node: random.pick(WORKERS), address: `192.168.2.${address++}` };
    if (roll < 14) return { do: "label node", node: random.pick(STEADY), zone: random.pick(["a", "b"]) };
    if (roll < 24) {
      return live.DaemonSet.length < MOST.DaemonSet
        ? { do: "create DaemonSet", name: create("DaemonSet"), zone: random.oneIn(2) }
        : { do: "delete DaemonSet", name: remove("DaemonSet") };
    }
    if (roll < 62 && live.Deployment.length > 0) {
      if (roll < 32) return { do: "delete Deployment", name: remove("Deployment") };
      const name = random.pick(live.Deployment);
      return { do: "scale Deployment", name, replicas: random.below(MOST.replicas + 1) };
    }
    if (roll < 72 && live.Deployment.length < MOST.Deployment) {
      const replicas = random.between(1, MOST.replicas);
      return { do: "create Deployment", name: create("Deployment"), replicas };
    }
    if (live.pod.length === MOST.pod || (live.pod.length > 0 && random.oneIn(2)))
      return { do: "delete pod", name: remove("pod") };
    return { do: "create pod", name: create("pod"), node: random.pick(STEADY) };
  };
  const operations = Array.from({ length: count }, next);
  const targets = ["api", "api", "agent", "agent", "all"];
  const kills = Array.from({ length: killCount }, (_, i): Kill => {
    // One in each stretch: what is killed gets to run in between.
    const stretch = Math.floor(count / killCount);
    // Each kind once before any comes by chance.
    const kind = i < 3 ? ["api", "agent", "all"][i]! : random.pick(targets);
    return {
      at: i * stretch + random.below(Math.max(1, stretch - 1)),
      after: random.below(60),
      what: kind === "agent" ? random.pick(STEADY) : kind,
      downMs: random.below(1500),
    };
  });
  return { operations, kills };
}

/** An operation that waits so long for its answer is told of. */
const SLOW_MS = 5_000;

// ---- run ------------------------------------------------------------------------------------------

/** Runs the plan of `options`. Throws, with the seed, at what does not come right. */
export async function clusterSoak(options: ClusterSoakOptions): Promise<ClusterSoakResult> {
  const cluster = await TestCluster.start({ apiArguments: ["--address-grace", "2"] });
  try {
    await cluster.addMachine(GUEST, "192.168.2.34");
    return await Promise.race([new Soak(cluster, options).run(), aborted(options.signal)]);
  } catch (error) {
    throw new Error(`seed ${options.seed}: ${(error as Error).message}\n${cluster.logs()}`, { cause: error });
  } finally {
    await cluster.close();
  }
}

/** Rejects when the signal comes. */
function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const end = () => reject(new Error("interrupted"));
    if (signal?.aborted) end();
    signal?.addEventListener("abort", end, { once: true });
  });
}

class Soak {
  private readonly plan: Plan;
  private readonly counts: Record<string, number> = {};
  private readonly killed: Record<string, number> = {};
  /** What still happens to a node: one thing after another. */
  private readonly busy = new Map<string, Promise<void>>();
  private api: Promise<void> = Promise.resolve();
  private readonly members = new Set(STEADY);
  private failure: unknown;

  constructor(
    private readonly cluster: TestCluster,
    private readonly options: ClusterSoakOptions,
  ) {
    this.plan = planOf(options);
  }

  async run(): Promise<ClusterSoakResult> {
    const { say = () => {} } = this.options;
    const { operations, kills } = this.plan;
    const strikes: Promise<void>[] = [];
    const begin = performance.now();
    for (const [i, operation] of operations.entries()) {
      if (this.options.signal?.aborted) break;
      for (const kill of kills) if (kill.at === i) strikes.push(this.strike(kill));
      const started = performance.now();
      await this.perform(operation);
      if (performance.now() - started > SLOW_MS)
        say(`operation ${i} (${operation.do}) took ${seconds(started)} s`);
      this.counts[operation.do] = (this.counts[operation.do] ?? 0) + 1;
      if (this.failure !== undefined) throw this.failure;
      if ((i + 1) % 100 === 0)
        say(`${i + 1} operations, ${this.cluster.keeper?.size ?? 0} pods, ${seconds(begin)} s`);
    }
    await Promise.all([...strikes, ...this.busy.values(), this.api]);
    if (this.failure !== undefined) throw this.failure;
    const done = performance.now();
    const { pods, pings } = await this.verify(done + this.options.convergeMs);
    const convergedMs = Math.round(performance.now() - done);
    return { operations: this.counts, kills: this.killed, pods, pings, convergedMs };
  }

  // ---- operations ---------------------------------------------------------------------------

  private async perform(operation: Operation): Promise<void> {
    switch (operation.do) {
      case "create DaemonSet":
        return this.create(DAEMONSETS, daemonSet(operation.name, operation.zone));
      case "create Deployment":
        return this.create(DEPLOYMENTS, deployment(operation.name, operation.replicas));
      case "create pod":
        return this.create(PODS, pod(operation.name, operation.node));
      case "delete DaemonSet":
        return this.remove(DAEMONSETS, operation.name);
      case "delete Deployment":
        return this.remove(DEPLOYMENTS, operation.name);
      case "delete pod":
        return this.remove(PODS, operation.name);
      case "scale Deployment": {
        const patch = { spec: { replicas: operation.replicas } };
        return this.insist(() => this.patch(DEPLOYMENTS, operation.name, "default", patch));
      }
      case "label node": {
        const patch = { metadata: { labels: { zone: operation.zone } } };
        return this.insist(() => this.patch(NODES, operation.node, undefined, patch));
      }
      case "add node":
      case "remove node":
      case "renumber node":
        // Takes as long as an agent takes to start; the others go on.
        return this.onNode(operation.node, () => this.change(operation));
    }
  }

  private async change(operation: Operation & { node: string }): Promise<void> {
    const { cluster } = this;
    const { node } = operation;
    if (operation.do === "renumber node") return cluster.renumber(node, operation.address);
    if (operation.do === "add node") {
      // The certificate of the first time is still good.
      if (!this.joined.has(node)) await this.insist(() => cluster.join(node));
      this.joined.add(node);
      this.members.add(node);
      cluster.startAgent(node);
      return;
    }
    this.members.delete(node);
    await this.insist(() => cluster.removeNode(node));
  }

  private readonly joined = new Set(STEADY);

  private create(resource: ResourceRef, object: KubeObject): Promise<void> {
    return this.insist(async () => {
      try {
        await this.cluster.kube.create(resource, object);
      } catch (error) {
        // The answer to an earlier attempt was lost with the server.
        if (!isAlreadyExists(error)) throw error;
      }
    });
  }

  private remove(resource: ResourceRef, name: string): Promise<void> {
    return this.insist(async () => {
      try {
        await this.cluster.kube.delete(resource, name, "default");
      } catch (error) {
        if (!isNotFound(error)) throw error;
      }
    });
  }

  private async patch(
    resource: ResourceRef,
    name: string,
    namespace: string | undefined,
    patch: object,
  ): Promise<void> {
    await this.cluster.kube.patch(resource, name, namespace, "merge", patch);
  }

  /** Tries again for as long as the server is away. */
  private async insist(work: () => Promise<void>): Promise<void> {
    const end = performance.now() + 30_000;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const away =
          error instanceof KubeError
            ? error.code === 0 || isTransient(error)
            : /could not join/.test(String(error));
        if (!away || performance.now() > end) throw error;
        await sleep(50);
      }
    }
  }

  // ---- kills --------------------------------------------------------------------------------

  private async strike({ after, what, downMs }: Kill): Promise<void> {
    await sleep(after);
    const kind = what === "api" || what === "all" ? what : "agent";
    this.killed[kind] = (this.killed[kind] ?? 0) + 1;
    const agents = what === "api" ? [] : what === "all" ? [...this.members] : [what];
    for (const node of agents) void this.onNode(node, () => this.killAgent(node, downMs));
    if (kind !== "agent") {
      this.api = this.noting(async () => {
        await this.cluster.killApi();
        await sleep(downMs);
        await this.cluster.startApi();
      }, this.api);
      await this.api;
    }
  }

  private async killAgent(node: string, downMs: number): Promise<void> {
    if (!this.members.has(node)) return;
    await this.cluster.endAgent(node, "SIGKILL");
    await sleep(downMs);
    this.cluster.startAgent(node);
  }

  /** Does something to a node after what is being done to it; does not wait for it. */
  private async onNode(node: string, work: () => Promise<void>): Promise<void> {
    this.busy.set(node, this.noting(work, this.busy.get(node) ?? Promise.resolve()));
  }

  private async noting(work: () => Promise<void>, before: Promise<void>): Promise<void> {
    await before;
    try {
      await work();
    } catch (error) {
      this.failure ??= error;
    }
  }

  // ---- what must hold in the end ------------------------------------------------------------

  private async verify(end: number): Promise<{ pods: number; pings: number }> {
    const left = () => Math.max(1, end - performance.now());
    const { cluster } = this;
    await waitFor(() => cluster.ready(this.members), { deadlineMs: left(), what: "nodes Ready" });
    const pods = await waitFor(() => this.settled(), {
      deadlineMs: left(),
      intervalMs: 200,
      what: "pods as wanted",
    });
    for (const node of this.members) {
      const { code, stdout, stderr } = await cluster.check(node, Math.ceil(left() / 1000));
      if (code !== 0) throw new Error(`podwire check on ${node}:\n${stdout}${stderr}`);
    }
    await this.lookAtAddresses(pods);
    return { pods: pods.length, pings: await this.pingAll(pods) };
  }

  /** The pods, if all that are wanted are there and ready and no others; throws what is still missing. */
  private async settled(): Promise<Pod[]> {
    const { kube } = this.cluster;
    const { items: pods } = await kube.list<Pod>(PODS);
    const { items: deployments } = await kube.list<Deployment>(DEPLOYMENTS);
    const { items: daemonSets } = await kube.list<DaemonSet>(DAEMONSETS);
    const unready = pods.filter((each) => !isReady(each) || each.metadata.deletionTimestamp !== undefined);
    if (unready.length > 0)
      throw new Error(
        `not ready: ${unready.map(({ metadata, status }) => `${metadata.name} (${status?.podIP})`)}`,
      );
    const named = (prefix: string) => pods.filter(({ metadata }) => metadata.name!.startsWith(`${prefix}-`));
    const wanted = modelOf(this.plan.operations);
    for (const { metadata } of [...deployments, ...daemonSets])
      if (!wanted.has(metadata.name!)) throw new Error(`${metadata.name} is there still`);
    for (const [name, { replicas, zone, single }] of wanted) {
      const count = single
        ? pods.filter(({ metadata }) => metadata.name === name).length
        : named(name).length;
      const expected = replicas ?? (await this.nodesOf(zone));
      if (count !== expected) throw new Error(`${name} has ${count} pods of ${expected}`);
    }
    return pods;
  }

  /** How many nodes a DaemonSet is for. */
  private async nodesOf(zone: boolean): Promise<number> {
    const { items } = await this.cluster.kube.list(NODES);
    return items.filter(({ metadata }) => !zone || metadata.labels?.zone === "a").length;
  }

  /** The addresses that the kernels have: one for each pod, its own, and none twice. */
  private async lookAtAddresses(pods: readonly Pod[]): Promise<void> {
    const owners = new Map<string, string>();
    const claim = (address: string, owner: string) => {
      const other = owners.get(address);
      if (other !== undefined) throw new Error(`${address} is the address of ${other} and of ${owner}`);
      owners.set(address, owner);
    };
    const addressesOf = async (ns: string, device: string): Promise<string[]> => {
      const links = await this.cluster.net.ipJson(ns, "-4", "addr", "show", "dev", device);
      return links.flatMap((link) => (link.addr_info ?? []).map(({ local }: { local: string }) => local));
    };
    for (const { metadata, status } of pods) {
      const found = await addressesOf(this.cluster.podNamespace(metadata.uid!), "eth0");
      if (found.length !== 1 || found[0] !== status?.podIP)
        throw new Error(`pod ${metadata.name} has ${found} in its kernel, ${status?.podIP} in the API`);
      claim(found[0], metadata.name!);
    }
    for (const node of this.members)
      for (const address of await addressesOf(this.cluster.node(node).ns, "podwire0")) claim(address, node);
  }

  /** Every pod pings every pod, and every node every pod. Returns how many pings that were. */
  private async pingAll(pods: readonly Pod[]): Promise<number> {
    const addresses = pods.map(({ status }) => status!.podIP!);
    const script =
      'for a; do ping -n -q -c1 -W2 "$a" >/dev/null || ping -n -q -c2 -W2 "$a" >/dev/null || echo "$a"; done';
    const from = [
      ...pods.map(({ metadata }) => [metadata.name!, this.cluster.podNamespace(metadata.uid!)] as const),
      ...[...this.members].map((node) => [node, this.cluster.node(node).ns] as const),
    ];
    for (const [name, ns] of from) {
      const { stdout } = await this.cluster.net.exec(ns, "sh", ["-c", script, "sh", ...addresses]);
      const silent = stdout.trim().split("\n").filter(Boolean);
      if (silent.length > 0) throw new Error(`${name} gets no answer from ${silent.join(", ")}`);
    }
    return from.length * addresses.length;
  }
}

interface Wanted {
  /** Undefined: one on each node. */
  replicas?: number;
  /** Only on nodes with zone=a. */
  zone: boolean;
  /** A pod without controller. */
  single: boolean;
}

/** What must be there after all operations, by name. */
function modelOf(operations: readonly Operation[]): Map<string, Wanted> {
  const wanted = new Map<string, Wanted>();
  for (const operation of operations)
    switch (operation.do) {
      case "create DaemonSet":
        wanted.set(operation.name, { zone: operation.zone, single: false });
        break;
      case "create Deployment":
      case "scale Deployment":
        wanted.set(operation.name, { replicas: operation.replicas, zone: false, single: false });
        break;
      case "create pod":
        wanted.set(operation.name, { replicas: 1, zone: false, single: true });
        break;
      case "delete DaemonSet":
      case "delete Deployment":
      case "delete pod":
        wanted.delete(operation.name);
    }
  return wanted;
}

const CONTAINERS = [{ name: "pause", image: "pause" }];

function template(name: string, nodeSelector?: Record<string, string>) {
  const spec = { containers: CONTAINERS, ...(nodeSelector === undefined ? {} : { nodeSelector }) };
  return { metadata: { labels: { app: name } }, spec };
}

function daemonSet(name: string, zone: boolean): DaemonSet {
  const selector = { matchLabels: { app: name } };
  const spec = { selector, template: template(name, zone ? { zone: "a" } : undefined) };
  return { metadata: { name, namespace: "default" }, spec };
}

function deployment(name: string, replicas: number): Deployment {
  const selector = { matchLabels: { app: name } };
  return { metadata: { name, namespace: "default" }, spec: { replicas, selector, template: template(name) } };
}

function pod(name: string, node: string): Pod {
  return { metadata: { name, namespace: "default" }, spec: { nodeName: node, containers: CONTAINERS } };
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}
