/**
 * Addresses for the pods of one node, and its tunnel address. Holds nothing: whatever it did is in
 * the blocks, so that it may die at any moment and be asked again.
 *
 * Order in which a pod's address is looked for:
 *   1. the handle has one already           (the request is a repetition)
 *   2. a block of this node with a free one (pending blocks of its own are confirmed first)
 *   3. a new block, along the walk from the hash of the node's name
 *   4. an empty block of another node that has had it for a while
 *   5. borrowed from another node's block, unless strict
 *
 * Operations of one allocator run one after another: they would only conflict with one another.
 */
import { type Clock, SYSTEM_CLOCK } from "../kube/Clock.js";
import type { KubeApi, KubeObject } from "../kube/KubeApi.js";
import { isNotFound, isReason } from "../kube/KubeError.js";
import { NODES } from "../kube/resources.js";
import {
  addressText,
  allocationOf,
  assign,
  assignOrdinal,
  type Block,
  claimedBlock,
  holdsTunnel,
  nodeLabel,
  type Request,
  release,
  renew,
  type StoredBlock,
} from "./block.js";
import {
  addressOf,
  blockName,
  blockWalk,
  containsAddress,
  coversPrefix,
  hashName,
  type Ipv4Prefix,
  ordinalOf,
  overlaps,
} from "./blockMath.js";
import { isFor, type Pool, poolOf, selectsNodes } from "./pools.js";
import { RETRY, type RetryOptions, retrying, Stale } from "./retry.js";
import { Store } from "./Store.js";
import { type Allocation, type AllocationAttributes, IpamError, tunnelHandle } from "./types.js";

export interface AllocatorOptions {
  retry?: Partial<RetryOptions>;
  /** Blocks that one node may own. Default 20. */
  maxBlocks?: number;
  /** Milliseconds for which an empty block is safe from other nodes. Default 60000. */
  reclaimAge?: number;
}

export interface AssignOptions {
  /** Names of the pools to choose from. Default: all that are for this node. */
  pools?: string[];
}

/** What one operation reads first. */
interface View {
  /** Enabled, and for this node. */
  pools: Pool[];
  /** Owned by this node or borrowed from; ascending. */
  mine: StoredBlock[];
}

export class Allocator {
  readonly #store: Store;
  readonly #retry: RetryOptions;
  readonly #maxBlocks: number;
  readonly #reclaimAge: number;
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    kube: KubeApi,
    readonly node: string,
    private readonly clock: Clock = SYSTEM_CLOCK,
    options: AllocatorOptions = {},
  ) {
    this.#store = new Store(kube);
    this.#retry = { ...RETRY, ...options.retry };
    this.#maxBlocks = options.maxBlocks ?? 20;
    this.#reclaimAge = options.reclaimAge ?? 60_000;
  }

  /**
   * The node's first block, confirmed and with the tunnel address in it. Adopts blocks that were
   * written by hand, and those of an earlier life.
   */
  ensureBlock(): Promise<Block> {
    return this.#exclusive("ensure a block", async () => (await this.#firstBlock()).block);
  }

  /** The node's tunnel address; makes it where there is none. */
  async tunnelAddress(): Promise<string> {
    const block = await this.ensureBlock();
    return addressText(block, allocationOf(block, this.node, tunnelHandle(this.node))!.ordinal);
  }

  /** This node's blocks, confirmed ones only, ascending. */
  async blocks(): Promise<Block[]> {
    const all = await this.#store.blocks();
    return all
      .map(({ block }) => block)
      .filter((block) => block.node === this.node && block.state === "confirmed");
  }

  /** An address for a handle; the same one if it has one. IpamError: NoPool, Exhausted, Contention. */
  assign(
    handle: string,
    attributes: AllocationAttributes = {},
    options: AssignOptions = {},
  ): Promise<string> {
    return this.#exclusive(`assign ${handle}`, async () => {
      const request = this.#request(handle, attributes);
      const { pools, mine } = await this.#view(options.pools);
      return (
        (await this.#existing(mine, request)) ??
        (await this.#fromOwn(pools, mine, request, mine)) ??
        (await this.#fromElsewhere(pools, request))
      );
    });
  }

  /** A certain address for a handle, reserved or not. IpamError: AddressInUse, HandleInUse, NoPool. */
  async assignSpecific(
    handle: string,
    address: string,
    attributes: AllocationAttributes = {},
  ): Promise<string> {
    const wanted = addressOf(address);
    return this.#exclusive(`assign ${address} to ${handle}`, async () => {
      const request = this.#request(handle, attributes);
      const { pools, mine } = await this.#view();
      const existing = await this.#existing(mine, request);
      if (existing === address) return address;
      if (existing !== undefined) throw new IpamError("HandleInUse", `${handle} has the address ${existing}`);
      const all = await this.#store.blocks();
      let stored = all.find(({ block }) => containsAddress(block.prefix, wanted));
      const pool = pools.find(({ prefix }) => containsAddress(prefix, wanted));
      if (pool === undefined)
        throw new IpamError("NoPool", `no enabled pool for ${this.node} holds ${address}`);
      if (stored === undefined) {
        const mask = -1 << (32 - pool.blockSize);
        const prefix = { address: wanted & mask, length: pool.blockSize };
        stored = await this.#confirm(await this.#claim(prefix, pool));
      } else if (stored.block.node === this.node) stored = await this.#confirm(stored, all);
      else if (!mayBorrow(stored.block, pool, all))
        throw new IpamError(
          "AddressInUse",
          `${address} belongs to ${stored.block.node}, which does not lend it`,
        );
      const given = assignOrdinal(stored.block, ordinalOf(stored.block.prefix, wanted), request);
      if (given === null) throw new IpamError("AddressInUse", `${address} is in use`);
      await this.#store.update(stored, given.block);
      return address;
    });
  }

  /**
   * Frees what a handle holds on this node; gives those addresses. Nothing where it holds none.
   *
   * @param sequence only the allocation with this sequence
   */
  release(handle: string, sequence?: number): Promise<string[]> {
    const freed = new Set<string>();
    return this.#exclusive(`release ${handle}`, async () => {
      for (const stored of await this.#store.blocksOf(this.node)) {
        let { block } = stored;
        for (const allocation of stored.block.allocations) {
          const ours =
            allocation.handle === handle && (allocation.attributes.node ?? block.node) === this.node;
          if (!ours || (sequence !== undefined && allocation.sequence !== sequence)) continue;
          block = release(block, allocation);
          freed.add(addressText(block, allocation.ordinal));
        }
        await this.#store.update(stored, block);
      }
      return [...freed];
    });
  }

  #request(handle: string, attributes: AllocationAttributes): Request {
    return { handle, attributes: { ...attributes, node: this.node }, now: this.clock.date().getTime() };
  }

  async #view(names?: string[]): Promise<View> {
    const all = await this.#store.pools();
    const labels = all.some(selectsNodes) ? await this.#nodeLabels() : {};
    const pools = all.filter((pool) => isFor(pool, labels) && (names?.includes(pool.name) ?? true));
    return { pools, mine: await this.#store.blocksOf(this.node) };
  }

  async #nodeLabels(): Promise<Record<string, string>> {
    try {
      return (await this.#store.kube.get<KubeObject>(NODES, this.node)).metadata.labels ?? {};
    } catch (error) {
      if (isNotFound(error)) return {};
      throw error;
    }
  }

  /** What the handle has; renewed where it is another pod's now, so that nobody frees it for the old one. */
  async #existing(mine: StoredBlock[], { handle, attributes, now }: Request): Promise<string | undefined> {
    const held = await this.#held(mine, handle);
    if (held === undefined) return undefined;
    const { stored, allocation } = held;
    if (attributes.uid !== undefined && allocation.attributes.uid !== attributes.uid)
      await this.#store.update(stored, renew(stored.block, allocation.ordinal, attributes, now));
    return addressText(stored.block, allocation.ordinal);
  }

  /**
   * A handle's allocation. There are two where a request was given up, was carried out nevertheless,
   * but only after its repetition had found room in another block. The younger one is the one that
   * was answered: the older ones go.
   */
  async #held(
    blocks: StoredBlock[],
    handle: string,
  ): Promise<{ stored: StoredBlock; allocation: Allocation } | undefined> {
    const [youngest, ...others] = blocks
      .flatMap((stored) => {
        const allocation = allocationOf(stored.block, this.node, handle);
        return allocation === undefined ? [] : [{ stored, allocation }];
      })
      .sort((a, b) => b.allocation.sequence - a.allocation.sequence);
    for (const { stored, allocation } of others)
      await this.#store.update(stored, release(stored.block, allocation));
    return youngest;
  }

  /** From one of `blocks`; `known` holds at least all blocks of this node. */
  async #fromOwn(
    pools: Pool[],
    blocks: StoredBlock[],
    request: Request,
    known: StoredBlock[],
  ): Promise<string | undefined> {
    for (const stored of oldestFirst(blocks.filter(({ block }) => block.node === this.node))) {
      const pool = poolOf(pools, stored.block.prefix);
      // Before it takes a writing request to confirm a block: would it help?
      if (pool === undefined || assign(stored.block, request, pool.reserved) === null) continue;
      const confirmed = await this.#confirm(stored, known);
      const given = assign(confirmed.block, request, pool.reserved);
      if (given === null) continue;
      await this.#store.update(confirmed, given.block);
      return given.address;
    }
    return undefined;
  }

  async #fromElsewhere(pools: Pool[], request: Request): Promise<string> {
    if (pools.length === 0) throw new IpamError("NoPool", `no enabled pool is for node ${this.node}`);
    const all = await this.#store.blocks();
    const owned = all.filter(({ block }) => block.node === this.node);
    // Written by hand, and without a label until we write it.
    if (owned.some(({ object }) => !isLabelled(object.metadata.labels, this.node))) {
      const address =
        (await this.#existing(owned, request)) ?? (await this.#fromOwn(pools, owned, request, all));
      if (address !== undefined) return address;
    }
    if (owned.length < this.#maxBlocks) {
      const block = await this.#newBlock(pools, all);
      const address = block && (await this.#fromOwn(pools, [block], request, [...all, block]));
      // All of it went to the tunnel address (/32): the next attempt claims another.
      if (block !== undefined && address === undefined) throw new Stale("the new block is full");
      if (address !== undefined) return address;
    }
    const borrowed = await this.#borrow(pools, all, request);
    if (borrowed === undefined) throw new IpamError("Exhausted", `no free address for node ${this.node}`);
    return borrowed;
  }

  async #firstBlock(): Promise<StoredBlock> {
    const { pools } = await this.#view();
    const all = await this.#store.blocks();
    const owned = oldestFirst(all.filter(({ block }) => block.node === this.node));
    const tunnel = await this.#held(owned, tunnelHandle(this.node));
    if (tunnel !== undefined) return this.#confirm(tunnel.stored, all);
    for (const stored of owned) {
      const pool = poolOf(pools, stored.block.prefix);
      if (pool === undefined || stored.block.unallocated.length === 0) continue;
      const confirmed = await this.#confirm(stored, all);
      if (holdsTunnel(confirmed.block)) return confirmed;
    }
    if (pools.length === 0) throw new IpamError("NoPool", `no enabled pool is for node ${this.node}`);
    const block = await this.#newBlock(pools, all);
    if (block === undefined) throw new IpamError("Exhausted", `no free block for node ${this.node}`);
    if (!holdsTunnel(block.block)) throw new Stale("the tunnel address is in another block");
    return block;
  }

  /** A new block, or an empty one that another node does not need; confirmed. */
  async #newBlock(pools: Pool[], all: StoredBlock[]): Promise<StoredBlock | undefined> {
    const names = new Set(all.map(({ block }) => blockName(block.prefix)));
    for (const pool of pools) {
      const others = all
        .map(({ block }) => block.prefix)
        .filter(({ length }) => length !== pool.blockSize)
        .filter((prefix) => overlaps(prefix, pool.prefix));
      for (const prefix of blockWalk(pool.prefix, pool.blockSize, this.node)) {
        if (names.has(blockName(prefix)) || others.some((other) => overlaps(other, prefix))) continue;
        if (coversPrefix(pool.reserved, prefix)) continue;
        return this.#confirm(await this.#claim(prefix, pool));
      }
    }
    return this.#reclaim(pools, all);
  }

  #claim(prefix: Ipv4Prefix, pool: Pool): Promise<StoredBlock> {
    return this.#store.create(claimedBlock(prefix, this.node, pool.strict, this.clock.date().getTime()));
  }

  async #reclaim(pools: Pool[], all: StoredBlock[]): Promise<StoredBlock | undefined> {
    const oldEnough = this.clock.date().getTime() - this.#reclaimAge;
    for (const stored of all) {
      const { block } = stored;
      const pool = poolOf(pools, block.prefix);
      if (block.node === this.node || block.pinned || block.state !== "confirmed" || pool === undefined)
        continue;
      if (block.allocations.length > 0 || coversPrefix(pool.reserved, block.prefix)) continue;
      if (Date.parse(block.claimedAt) > oldEnough) continue;
      const ours = claimedBlock(block.prefix, this.node, pool.strict, this.clock.date().getTime());
      const sequence = Math.max(block.sequence, ours.sequence);
      try {
        return await this.#confirm(await this.#store.update(stored, { ...ours, sequence }));
      } catch (error) {
        // A server that lets nodes write only their own: then the collector has to free blocks.
        if (!isReason(error, "Forbidden")) throw error;
      }
    }
    return undefined;
  }

  /**
   * Makes a block of this node ready for use: pending (and pendingDeletion: the node is back) becomes
   * confirmed once no other block overlaps it, and the node's first block gets the tunnel address.
   *
   * Whoever claims creates first and looks afterwards. Of two that overlap, at least one sees the
   * other; whoever sees one withdraws. So never are both confirmed.
   *
   * @param known at least all blocks of this node, where the caller has read them
   */
  async #confirm(stored: StoredBlock, known?: StoredBlock[]): Promise<StoredBlock> {
    const { block } = stored;
    if (block.state === "confirmed" && holdsTunnel(block)) return stored;
    const all = block.state === "pending" || known === undefined ? await this.#store.blocks() : known;
    const name = blockName(block.prefix);
    if (block.state === "pending") {
      const other = all.find(
        (each) => blockName(each.block.prefix) !== name && overlaps(each.block.prefix, block.prefix),
      );
      if (other !== undefined) {
        await this.#store.delete(stored);
        throw new Stale(`${name} overlaps ${blockName(other.block.prefix)}`);
      }
    }
    const tunnelElsewhere = all.some((each) => each.block.node === this.node && holdsTunnel(each.block));
    return this.#store.update(stored, this.#ready(block, tunnelElsewhere, await this.#reservedIn(block)));
  }

  #ready(block: Block, hasTunnel: boolean, reserved: Pool["reserved"]): Block {
    const confirmed: Block = block.state === "confirmed" ? block : { ...block, state: "confirmed" };
    if (hasTunnel) return confirmed;
    const request = this.#request(tunnelHandle(this.node), {});
    return (assignOrdinal(confirmed, 0, request) ?? assign(confirmed, request, reserved))?.block ?? confirmed;
  }

  async #reservedIn(block: Block): Promise<Pool["reserved"]> {
    return poolOf(await this.#store.pools(), block.prefix)?.reserved ?? [];
  }

  async #borrow(pools: Pool[], all: StoredBlock[], request: Request): Promise<string | undefined> {
    const start = all.length === 0 ? 0 : hashName(this.node) % all.length;
    for (const stored of [...all.slice(start), ...all.slice(0, start)]) {
      const pool = poolOf(pools, stored.block.prefix);
      if (stored.block.node === this.node || pool === undefined || !mayBorrow(stored.block, pool, all))
        continue;
      const given = assign(stored.block, request, pool.reserved);
      if (given === null) continue;
      await this.#store.update(stored, given.block);
      return given.address;
    }
    return undefined;
  }

  /** One operation after another, each tried again until it meets no conflict. */
  #exclusive<T>(what: string, attempt: () => Promise<T>): Promise<T> {
    const run = this.#last.then(() => retrying(what, this.clock, this.#retry, attempt));
    this.#last = run.catch(() => {});
    return run;
  }
}

/** A block lends while confirmed and not strict, and not before its node has taken its tunnel address. */
function mayBorrow(block: Block, pool: Pool, all: readonly StoredBlock[]): boolean {
  if (block.state !== "confirmed" || block.strict || pool.strict) return false;
  return all.some((each) => each.block.node === block.node && holdsTunnel(each.block));
}

function isLabelled(labels: Record<string, string> | undefined, node: string): boolean {
  return labels?.[nodeLabel(node)] !== undefined;
}

/** In the order in which they were claimed; hand-written ones first; then ascending. */
function oldestFirst(blocks: StoredBlock[]): StoredBlock[] {
  return blocks.toSorted((a, b) =>
    a.block.claimedAt < b.block.claimedAt ? -1 : a.block.claimedAt > b.block.claimedAt ? 1 : 0,
  );
}
