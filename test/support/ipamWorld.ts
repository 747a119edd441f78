/**
 * Nodes, pods and their agents over ipamChaos: random operations, and a model of who owns which
 * address that is asked after each.
 */
import { Allocator } from "../../src/ipam/Allocator.js";
import { readObjects } from "../../src/ipam/admin.js";
import { Collector } from "../../src/ipam/Collector.js";
import { check } from "../../src/ipam/check.js";
import { mayWriteBlock } from "../../src/ipam/rights.js";
import { type IPAMBlock, type IPPool, IpamError, tunnelHandle } from "../../src/ipam/types.js";
import { KubeError } from "../../src/kube/KubeError.js";
import { IPAMBLOCKS, IPPOOLS, NODES, PODS } from "../../src/kube/resources.js";
import type { Node, Pod } from "../../src/kube/types.js";
import { ChaosClient, type Faults, FrozenKube, NO_FAULTS, Scheduler, type WriteRule } from "./ipamChaos.js";
import { Random } from "./random.js";

export interface WorldOptions {
  seed: number;
  operations: number;
  pools: IPPool["spec"][];
  faults: Faults;
  nodes?: number;
  podsPerNode?: number;
  /** Agents may write only what the API server lets a node write. */
  rights?: boolean;
}

export interface WorldResult {
  steps: number;
  counts: Record<string, number>;
  allocations: number;
  pods: number;
}

const GRACE = 150;

/** One agent and what it knows of its pods. */
interface Agent {
  node: string;
  client: ChaosClient;
  allocator: Allocator;
  /** Counts the lives of this agent: what an earlier one started no longer speaks. */
  life: number;
}

export class World {
  readonly kube = new FrozenKube();
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly counts: Record<string, number> = {};
  /** Address to uid of the pod that was told to have it and has not been told to go. */
  readonly owners = new Map<string, string>();
  /** uid to address. */
  readonly addresses = new Map<string, string>();
  #left: number;
  #serial = 0;
  #failure: unknown;
  #quiet = false;

  constructor(readonly options: WorldOptions) {
    this.random = new Random(options.seed);
    this.scheduler = new Scheduler(this.random);
    this.#left = options.operations;
  }

  async run(): Promise<WorldResult> {
    const { nodes = 8, pools } = this.options;
    for (const [i, spec] of pools.entries())
      await this.kube.create<IPPool>(IPPOOLS, { metadata: { name: `pool-${i}` }, spec });
    const names = Array.from({ length: nodes }, (_, i) => `node-${i}`);
    for (const name of names) await this.kube.create<Node>(NODES, nodeOf(name));
    let working = names.length;
    const workers = names.map(async (name) => {
      await this.#work(name);
      working--;
    });
    // Two, though one is enough: they must do no harm to each other either.
    const collectors = [1, 2].map(() => this.#collect(() => working > 0));
    const all = Promise.all([...workers, ...collectors]).catch((error) => {
      this.#failure ??= error;
    });
    const steps = await this.scheduler.run({ steps: 500, call: () => this.#verify() });
    if (this.#failure !== undefined) throw this.#failure;
    await all;
    await this.#settle(names);
    const allocations = this.#allocations().length;
    return { steps, counts: this.counts, allocations, pods: this.kube.all(PODS).length };
  }

  // ---- agents ---------------------------------------------------------------------------------

  #boot(node: string, life: number): Agent {
    const client = new ChaosClient(
      this.kube,
      this.scheduler,
      this.#quiet ? NO_FAULTS : this.options.faults,
      (resource, object, old) => this.#refusal(node, resource, object, old),
    );
    const allocator = new Allocator(client, node, this.scheduler.clock, {
      retry: { random: () => 0.5, conflicts: 400 },
      reclaimAge: 300,
    });
    return { node, client, allocator, life };
  }

  #refusal(node: string, ...[resource, object, old]: Parameters<WriteRule>): string | undefined {
    if (!this.options.rights || resource !== IPAMBLOCKS) return undefined;
    const why = mayWriteBlock(node, object, old);
    // To take over an empty block is all that an allocator tries without the right.
    if (why !== undefined && why !== "a node may not give a block to another node")
      this.#fail(new Error(why));
    if (why !== undefined) this.#count("refused");
    return why;
  }

  async #work(node: string): Promise<void> {
    let agent = this.#boot(node, 0);
    while (this.#left > 0 && this.#failure === undefined) {
      this.#left--;
      const dice = this.random.below(100);
      if (dice === 0) {
        // The agent dies in the middle of something, and another starts.
        this.#count("crash");
        void this.#operate(agent).catch((error) => this.#fail(error));
        for (let i = this.random.below(12); i > 0; i--) await this.scheduler.gate();
        agent.client.isDead = true;
        agent = this.#boot(node, agent.life + 1);
      } else if (dice === 1 && this.random.oneIn(10)) await this.#loseNode(agent);
      else await this.#operate(agent);
    }
  }

  async #operate(agent: Agent): Promise<void> {
    const pods = this.#podsOf(agent.node);
    const dice = this.random.below(100);
    try {
      if (dice < 3) {
        this.#count("ensure");
        await agent.allocator.ensureBlock();
      } else if (dice < 5) {
        this.#count("release of nothing");
        await agent.allocator.release(`gone-${this.random.below(1000)}`);
      } else if (pods.length === 0 || (dice < 55 && pods.length < (this.options.podsPerNode ?? 14)))
        await this.#start(agent, this.#newPod(agent.node));
      else if (dice < 72) await this.#start(agent, this.random.pick(pods));
      else await this.#stop(agent, this.random.pick(pods));
    } catch (error) {
      this.#tolerate(error);
    }
  }

  /** Half the pods have names of their own and their uid for a handle; half come back under their name. */
  #newPod(node: string): Pod {
    const stable = this.random.oneIn(2);
    const name = stable ? `web-${node}-${this.random.below(6)}` : `job-${++this.#serial}`;
    const present = this.#podsOf(node).find(({ metadata }) => metadata.name === name);
    if (present !== undefined) return present;
    const uid = `pod-${++this.#serial}`;
    const pod: Pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default", uid },
      spec: { nodeName: node, containers: [] },
    };
    void this.kube.create<Pod>(PODS, pod);
    return pod;
  }

  async #start(agent: Agent, pod: Pod): Promise<void> {
    const uid = pod.metadata.uid!;
    if (!this.#isAlive(pod)) return;
    this.#count("assign");
    const attributes = { pod: pod.metadata.name!, namespace: "default", uid };
    const handle = handleOf(pod);
    const specific = this.random.oneIn(20) && !this.addresses.has(uid) ? this.#someAddress() : undefined;
    const address =
      specific === undefined
        ? await agent.allocator.assign(handle, attributes)
        : await agent.allocator.assignSpecific(handle, specific, attributes);
    // Deleted by somebody meanwhile: nobody uses the address.
    if (!this.#isAlive(pod) || agent.client.isDead) return;
    this.#own(address, uid);
    if (this.random.oneIn(3)) await this.scheduler.gate();
    if (!this.#isAlive(pod) || agent.client.isDead) return;
    const now = this.kube.read<Pod>(PODS, pod.metadata.name!, "default");
    void this.kube.update<Pod>(PODS, { ...now, status: { phase: "Running", podIP: address } });
  }

  async #stop(agent: Agent, pod: Pod): Promise<void> {
    if (!this.#isAlive(pod)) return;
    const { name } = pod.metadata;
    this.#count("stop");
    const now = this.kube.read<Pod>(PODS, name!, "default");
    const deletionTimestamp = new Date(this.scheduler.now()).toISOString();
    void this.kube.update<Pod>(PODS, { ...now, metadata: { ...now.metadata, deletionTimestamp } });
    this.#disown(pod);
    try {
      // Some forget.
      if (!this.random.oneIn(5)) {
        await agent.allocator.release(handleOf(pod));
        if (this.random.oneIn(4)) await agent.allocator.release(handleOf(pod));
      } else this.#count("forgotten release");
    } finally {
      if (!agent.client.isDead) this.#remove(pod);
    }
  }

  /** The node goes with all its pods, and comes back later. */
  async #loseNode(agent: Agent): Promise<void> {
    this.#count("lost node");
    await this.kube.delete(NODES, agent.node);
    for (const pod of this.#podsOf(agent.node)) {
      this.#disown(pod);
      this.#remove(pod);
    }
    for (let i = this.random.below(3 * GRACE); i > 0; i--) await this.scheduler.gate();
    await this.kube.create<Node>(NODES, nodeOf(agent.node));
  }

  async #collect(isOn: () => boolean): Promise<void> {
    const client = new ChaosClient(this.kube, this.scheduler, this.options.faults);
    const collector = new Collector(client, this.scheduler.clock, { grace: GRACE });
    while (isOn() && this.#failure === undefined) {
      try {
        const { released, deleted } = await collector.collect();
        this.#count("collected addresses", released.length);
        this.#count("collected blocks", deleted.length);
      } catch (error) {
        this.#tolerate(error);
      }
      for (let i = this.random.below(20); i > 0; i--) await this.scheduler.gate();
    }
  }

  // ---- the model ------------------------------------------------------------------------------

  #own(address: string, uid: string): void {
    const owner = this.owners.get(address);
    if (owner !== undefined && owner !== uid)
      throw new Error(`${address} is given to ${uid}, and ${owner} has it`);
    const before = this.addresses.get(uid);
    if (before !== undefined && before !== address)
      throw new Error(`${uid} has ${before}, and is given ${address}`);
    this.owners.set(address, uid);
    this.addresses.set(uid, address);
  }

  #disown(pod: Pod): void {
    const address = this.addresses.get(pod.metadata.uid!);
    if (address === undefined) return;
    this.owners.delete(address);
    this.addresses.delete(pod.metadata.uid!);
  }

  #remove(pod: Pod): void {
    const present = this.kube.all<Pod>(PODS).find(({ metadata }) => metadata.uid === pod.metadata.uid);
    if (present !== undefined) void this.kube.delete(PODS, present.metadata.name!, "default");
  }

  #podsOf(node: string): Pod[] {
    return this.kube.all<Pod>(PODS).filter(({ spec }) => spec?.nodeName === node);
  }

  /** There, not on its way out, and the same one. */
  #isAlive(pod: Pod): boolean {
    try {
      const { uid, deletionTimestamp } = this.kube.read<Pod>(PODS, pod.metadata.name!, "default").metadata;
      return uid === pod.metadata.uid && deletionTimestamp === undefined;
    } catch {
      return false;
    }
  }

  #someAddress(): string {
    const { cidr } = this.random.pick(this.options.pools);
    const [a, b, c, d] = cidr.split("/")[0]!.split(".").map(Number);
    return `${a}.${b}.${c}.${d! + this.random.below(64)}`;
  }

  #allocations(): IPAMBlock["spec"]["allocations"] & {} {
    return this.kube.all<IPAMBlock>(IPAMBLOCKS).flatMap(({ spec }) => spec.allocations ?? []);
  }

  /** Between two requests, whatever is under way: never two owners, and every owner is in its block. */
  #verify(): void {
    const report = check({
      pools: this.kube.all<IPPool>(IPPOOLS),
      blocks: this.kube.all<IPAMBlock>(IPAMBLOCKS),
      pods: this.kube.all<Pod>(PODS),
      nodes: this.kube.all<Node>(NODES),
    });
    if (this.kube.all<IPAMBlock>(IPAMBLOCKS).some(isLent)) this.#count("seen borrowed");
    const errors = report.findings.filter(({ severity }) => severity === "error");
    if (errors.length > 0) this.#fail(new Error(`seed ${this.options.seed}: ${JSON.stringify(errors)}`));
  }

  /** Quiet, everybody finishes what was begun, the collector runs: nothing may be left over. */
  async #settle(names: string[]): Promise<void> {
    this.#quiet = true;
    for (const pod of this.kube.all<Pod>(PODS))
      if (pod.metadata.deletionTimestamp !== undefined) this.#remove(pod);
    const all = (async () => {
      for (const name of names) {
        const agent = this.#boot(name, -1);
        // Others may have taken all blocks while it was gone.
        await agent.allocator.ensureBlock().catch((error) => this.#tolerate(error));
        for (const pod of this.#podsOf(name)) {
          try {
            await this.#start(agent, pod);
          } catch (error) {
            this.#tolerate(error);
            this.#remove(pod);
            await agent.allocator.release(handleOf(pod));
          }
        }
      }
      const collector = new Collector(this.kube, this.scheduler.clock, { grace: 0 });
      await collector.collect();
      await collector.collect();
    })().catch((error) => this.#fail(error));
    await this.scheduler.run({ steps: 500, call: () => this.#verify() });
    await all;
    if (this.#failure !== undefined) throw this.#failure;
    const report = check(await readObjects(this.kube));
    const bad = report.findings.filter(
      ({ kind, severity }) => severity !== "warning" || kind === "two-addresses",
    );
    if (bad.length > 0) throw new Error(`seed ${this.options.seed}, at the end: ${JSON.stringify(bad)}`);
    const handles = this.#allocations().map(({ handle }) => handle);
    const tunnels = new Set(names.map(tunnelHandle));
    const wanted = [
      ...handles.filter((handle) => tunnels.delete(handle)),
      ...this.kube.all<Pod>(PODS).map(handleOf),
    ];
    if (handles.sort().join() !== wanted.sort().join())
      throw new Error(`seed ${this.options.seed}: allocated ${handles.join()}\nwanted ${wanted.join()}`);
  }

  #tolerate(error: unknown): void {
    const known =
      (error instanceof KubeError && error.reason === "Unreachable") ||
      (error instanceof IpamError &&
        ["Exhausted", "AddressInUse", "HandleInUse", "NoPool"].includes(error.code));
    if (!known) this.#fail(error);
    this.#count((error as KubeError | IpamError).code === 0 ? "gave up" : String((error as IpamError).code));
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
  }

  #count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }
}

function handleOf({ metadata }: Pod): string {
  return metadata.name!.startsWith("web-") ? `default/${metadata.name}` : metadata.uid!;
}

/** Every second node has the label parity=odd. */
function nodeOf(name: string): Node {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { parity: Number(name.split("-")[1]) % 2 === 1 ? "odd" : "even" } },
  };
}

function isLent({ spec }: IPAMBlock): boolean {
  return (spec.allocations ?? []).some(({ attributes }) => attributes.node !== spec.node);
}
