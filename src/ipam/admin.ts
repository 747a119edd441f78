/** What an administrator does by hand: read everything, release an address, split a pool. */
import { SYSTEM_CLOCK } from "../kube/Clock.js";
import type { KubeApi } from "../kube/KubeApi.js";
import { isAlreadyExists } from "../kube/KubeError.js";
import { IPAMBLOCKS, IPPOOLS, NODES, PODS } from "../kube/resources.js";
import type { Node, Pod } from "../kube/types.js";
import { formatCidr } from "../model/ipv4.js";
import { type Block, release } from "./block.js";
import { addressOf, containsAddress, ordinalOf, rangeOf } from "./blockMath.js";
import type { IpamObjects } from "./check.js";
import { readPool } from "./pools.js";
import { RETRY, retrying } from "./retry.js";
import { Store } from "./Store.js";
import { type Allocation, type IPAMBlock, type IPPool, IpamError } from "./types.js";

/** Everything that IPAM is about; blocks before pods, as the collector lists them. */
export async function readObjects(kube: KubeApi): Promise<IpamObjects> {
  const { items: blocks } = await kube.list<IPAMBlock>(IPAMBLOCKS);
  const { items: pools } = await kube.list<IPPool>(IPPOOLS);
  const { items: pods } = await kube.list<Pod>(PODS);
  const { items: nodes } = await kube.list<Node>(NODES);
  return { pools, blocks, pods, nodes };
}

/** Pools and blocks alone. */
export async function readPoolsAndBlocks(kube: KubeApi): Promise<Pick<IpamObjects, "pools" | "blocks">> {
  const { items: blocks } = await kube.list<IPAMBlock>(IPAMBLOCKS);
  const { items: pools } = await kube.list<IPPool>(IPPOOLS);
  return { pools, blocks };
}

/** The block and the allocation of an address, as far as there are any. */
export async function findAddress(
  kube: KubeApi,
  address: string,
): Promise<{ block?: Block; allocation?: Allocation }> {
  const value = addressOf(address);
  const all = await new Store(kube).blocks();
  const block = all.find((each) => containsAddress(each.block.prefix, value))?.block;
  if (block === undefined) return {};
  const ordinal = ordinalOf(block.prefix, value);
  const allocation = block.allocations.find((each) => each.ordinal === ordinal);
  return allocation === undefined ? { block } : { block, allocation };
}

/**
 * Frees one address. With `expected` (from a report) only while it is still that allocation's.
 *
 * @returns what was freed; null where there was nothing to free
 */
export async function releaseAddress(
  kube: KubeApi,
  address: string,
  expected?: { handle: string; sequence: number },
): Promise<Allocation | null> {
  const value = addressOf(address);
  const store = new Store(kube);
  return retrying(`release ${address}`, SYSTEM_CLOCK, RETRY, async () => {
    const stored = (await store.blocks()).find(({ block }) => containsAddress(block.prefix, value));
    const ordinal = stored && ordinalOf(stored.block.prefix, value);
    const allocation = stored?.block.allocations.find((each) => each.ordinal === ordinal);
    if (stored === undefined || allocation === undefined) return null;
    const block = release(stored.block, { ...allocation, ...expected });
    if (block === stored.block) return null;
    await store.update(stored, block);
    return allocation;
  });
}

/**
 * Splits a pool into `parts` equal ones, named NAME-0 and so on. Blocks and allocations belong to
 * addresses, not to pools, and stay as they are. The new pools are there before the old one goes, so
 * that at no moment an address lies in none; run again after an interruption, it finishes.
 */
export async function splitPool(kube: KubeApi, name: string, parts: number): Promise<IPPool[]> {
  const parent = await kube.get<IPPool>(IPPOOLS, name);
  const children = partsOf(parent, parts);
  for (const child of children) {
    try {
      await kube.create(IPPOOLS, child);
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const present = await kube.get<IPPool>(IPPOOLS, child.metadata.name!);
      if (present.spec.cidr !== child.spec.cidr)
        throw new IpamError(
          "Invalid",
          `pool ${child.metadata.name} exists already, with ${present.spec.cidr}`,
        );
    }
  }
  const { uid, resourceVersion } = parent.metadata;
  await kube.delete(IPPOOLS, name, undefined, {
    ...(uid === undefined ? {} : { uid }),
    ...(resourceVersion === undefined ? {} : { resourceVersion }),
  });
  return children;
}

/** The pools that a pool splits into. Pure; throws an IpamError where it cannot be split so. */
export function partsOf(parent: IPPool, parts: number): IPPool[] {
  const { prefix, blockSize, name } = readPool(parent);
  const bits = Math.log2(parts);
  if (!Number.isInteger(bits) || parts < 2)
    throw new IpamError("Invalid", `a pool splits into a power of 2, not into ${parts}`);
  const length = prefix.length + bits;
  if (length > blockSize)
    throw new IpamError(
      "Invalid",
      `${parent.spec.cidr} has no ${parts} parts of at least a block (/${blockSize})`,
    );
  return Array.from({ length: parts }, (_, i) => {
    const part = { address: (prefix.address + i * 2 ** (32 - length)) | 0, length };
    const range = rangeOf(formatCidr(part));
    const { reservedRanges, ...spec } = parent.spec;
    const reserved = (reservedRanges ?? []).filter((text) => {
      const { first, last } = rangeOf(text);
      return first <= range.last && last >= range.first;
    });
    return {
      apiVersion: parent.apiVersion ?? "podwire.dev/v1alpha1",
      kind: "IPPool",
      metadata: {
        name: `${name}-${i}`,
        ...(parent.metadata.labels === undefined ? {} : { labels: parent.metadata.labels }),
      },
      spec: {
        ...spec,
        cidr: formatCidr(part),
        blockSize,
        ...(reserved.length === 0 ? {} : { reservedRanges: reserved }),
      },
    };
  });
}

/** The pool with this CIDR; throws an IpamError. */
export function poolByCidr(pools: readonly IPPool[], cidr: string): IPPool {
  const pool = pools.find((each) => each.spec.cidr === cidr);
  if (pool !== undefined) return pool;
  const known = pools.map((each) => each.spec.cidr).join(", ");
  throw new IpamError(
    "NotFound",
    `no pool has the CIDR ${cidr}${known === "" ? "" : `; there are ${known}`}`,
  );
}
