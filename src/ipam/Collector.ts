/**
 * Takes back what nobody uses any more. One runs in a cluster (two do no harm). It acts on what it
 * saw in two rounds at least a grace period apart, unchanged in between (the allocation's sequence
 * is part of what it saw), and by compare-and-swap.
 *
 *   an allocation whose pod or node is gone                        → freed
 *   a block of a node that is gone                                 → pendingDeletion, deleted once empty
 *   an empty block of a node that has others, or in no enabled pool → the same
 *
 * Blocks are listed before pods and nodes: whoever owns an address was there before it.
 * Pinned blocks stay; leaked allocations in them do not.
 */
import { type Clock, SYSTEM_CLOCK } from "../kube/Clock.js";
import type { KubeApi } from "../kube/KubeApi.js";
import { isConflict, isNotFound } from "../kube/KubeError.js";
import { NODES, PODS } from "../kube/resources.js";
import type { Node, Pod } from "../kube/types.js";
import { addressText, type Block, release, type StoredBlock } from "./block.js";
import { blockName } from "./blockMath.js";
import { type Cluster, clusterOf, leakOf } from "./leak.js";
import { type Pool, poolOf } from "./pools.js";
import { Store } from "./Store.js";
import type { Allocation } from "./types.js";

export interface CollectorOptions {
  /** Milliseconds between the first observation and the act. Default 60000. */
  grace?: number;
}

export interface Collected {
  /** Addresses that were freed, with the reason. */
  released: { address: string; handle: string; reason: string }[];
  /** CIDR names of deleted blocks. */
  deleted: string[];
  /** Seen in this round, to be looked at again. */
  suspected: number;
}

export class Collector {
  readonly #store: Store;
  readonly #grace: number;
  /** Suspicions of the last round: when each was first seen. */
  #seen = new Map<string, number>();

  constructor(
    kube: KubeApi,
    private readonly clock: Clock = SYSTEM_CLOCK,
    options: CollectorOptions = {},
  ) {
    this.#store = new Store(kube);
    this.#grace = options.grace ?? 60_000;
  }

  /** One round. What conflicts is left to the next one; other errors of the API reject. */
  async collect(): Promise<Collected> {
    const blocks = await this.#store.blocks();
    const pools = (await this.#store.pools()).filter(({ disabled }) => !disabled);
    const { items: pods } = await this.#store.kube.list<Pod>(PODS);
    const { items: nodes } = await this.#store.kube.list<Node>(NODES);
    const cluster = clusterOf(pods, nodes);
    const round = new Round(this.#seen, this.clock.date().getTime(), this.#grace);
    const result: Collected = { released: [], deleted: [], suspected: 0 };
    const keep = new Keep(blocks);
    for (const stored of blocks) {
      try {
        await this.#collectBlock(stored, pools, cluster, round, keep, result);
      } catch (error) {
        if (!isConflict(error) && !isNotFound(error)) throw error;
      }
    }
    this.#seen = round.seen;
    result.suspected = round.seen.size;
    return result;
  }

  async #collectBlock(
    stored: StoredBlock,
    pools: Pool[],
    cluster: Cluster,
    round: Round,
    keep: Keep,
    result: Collected,
  ): Promise<void> {
    const name = blockName(stored.block.prefix);
    const released: Collected["released"] = [];
    let { block } = stored;
    for (const allocation of stored.block.allocations) {
      const reason = leakOf(stored.block, allocation, cluster);
      if (reason === null || !round.isDue(allocationKey(name, allocation))) continue;
      block = release(block, allocation);
      released.push({ address: addressText(block, allocation.ordinal), handle: allocation.handle, reason });
    }
    // A deletion that somebody began: the node itself undoes it if it comes back.
    const going = stored.block.state === "pendingDeletion";
    if (!going && this.#isUnneeded(block, pools, cluster, keep) && round.isDue(`${name} ${block.sequence}`)) {
      block = { ...block, state: "pendingDeletion" };
      keep.drop(block);
    }
    const written = await this.#store.update(stored, block);
    result.released.push(...released);
    if (written.block.state !== "pendingDeletion" || written.block.allocations.length > 0) return;
    await this.#store.delete(written);
    result.deleted.push(name);
  }

  #isUnneeded(block: Block, pools: Pool[], cluster: Cluster, keep: Keep): boolean {
    if (block.pinned) return false;
    if (!cluster.nodes.has(block.node)) return true;
    if (block.allocations.length > 0 || block.state !== "confirmed") return false;
    return poolOf(pools, block.prefix) === undefined || keep.hasOthers(block);
  }
}

/** What one round sees, against what the last one saw. */
class Round {
  readonly seen = new Map<string, number>();

  constructor(
    private readonly before: ReadonlyMap<string, number>,
    private readonly now: number,
    private readonly grace: number,
  ) {}

  /** Notes a suspicion; whether it was there before, and for long enough. */
  isDue(key: string): boolean {
    const since = this.before.get(key);
    this.seen.set(key, since ?? this.now);
    return since !== undefined && this.now - since >= this.grace;
  }
}

/** How many confirmed blocks each node has left: the last one stays with it. */
class Keep {
  readonly #left = new Map<string, number>();

  constructor(blocks: readonly StoredBlock[]) {
    for (const { block } of blocks)
      if (block.state === "confirmed") this.#left.set(block.node, (this.#left.get(block.node) ?? 0) + 1);
  }

  hasOthers(block: Block): boolean {
    return (this.#left.get(block.node) ?? 0) > 1;
  }

  drop(block: Block): void {
    this.#left.set(block.node, (this.#left.get(block.node) ?? 1) - 1);
  }
}

function allocationKey(name: string, { ordinal, sequence, handle }: Allocation): string {
  return `${name} ${ordinal} ${sequence} ${handle}`;
}
