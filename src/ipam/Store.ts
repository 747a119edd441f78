/** Pools and blocks in the API: reading them as values, writing blocks by compare-and-swap. */
import type { KubeApi } from "../kube/KubeApi.js";
import { IPAMBLOCKS, IPPOOLS } from "../kube/resources.js";
import { type Block, nodeLabel, readBlock, type StoredBlock, writeBlock } from "./block.js";
import { blockName, comparePrefixes } from "./blockMath.js";
import { type Pool, readPools } from "./pools.js";
import { type IPAMBlock, type IPPool, IpamError } from "./types.js";

export class Store {
  constructor(readonly kube: KubeApi) {}

  async pools(): Promise<Pool[]> {
    return readPools((await this.kube.list<IPPool>(IPPOOLS)).items);
  }

  /** All blocks, ascending; malformed ones are left out, `check` reports them. */
  async blocks(): Promise<StoredBlock[]> {
    return readAll((await this.kube.list<IPAMBlock>(IPAMBLOCKS)).items);
  }

  /** Blocks that a node owns or borrows from, as their labels say; hand-written ones may lack the label. */
  async blocksOf(node: string): Promise<StoredBlock[]> {
    return readAll((await this.kube.list<IPAMBlock>(IPAMBLOCKS, { labelSelector: nodeLabel(node) })).items);
  }

  async create(block: Block): Promise<StoredBlock> {
    const object = await this.kube.create<IPAMBlock>(IPAMBLOCKS, writeBlock(block));
    return { block: readBlock(object), object };
  }

  /** Writes `block` in place of what was read; a Conflict where that has changed. */
  async update(read: StoredBlock, block: Block): Promise<StoredBlock> {
    if (block === read.block) return read;
    const object = await this.kube.update<IPAMBlock>(IPAMBLOCKS, writeBlock(block, read.object));
    return { block: readBlock(object), object };
  }

  /** Deletes what was read; a Conflict where that has changed. */
  async delete({ block, object }: StoredBlock): Promise<void> {
    const { uid, resourceVersion } = object.metadata;
    await this.kube.delete(IPAMBLOCKS, object.metadata.name ?? blockName(block.prefix), undefined, {
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    });
  }
}

/** Reads what can be read, ascending by prefix. A block under another name than its prefix's is none. */
export function readAll(objects: readonly IPAMBlock[]): StoredBlock[] {
  const stored: StoredBlock[] = [];
  for (const object of objects) {
    try {
      const block = readBlock(object);
      if (object.metadata.name === blockName(block.prefix)) stored.push({ block, object });
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
    }
  }
  return stored.sort((a, b) => comparePrefixes(a.block.prefix, b.block.prefix));
}
