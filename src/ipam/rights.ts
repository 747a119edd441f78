/**
 * What a node may write of blocks, for the API server: its own blocks, and in another node's block
 * its own allocations alone (the queue and the labels follow from those). Pure.
 *
 * Not allowed to nodes though IPAM could make use of it: to take over an empty block of another
 * node. The collector frees such blocks.
 */
import type { KubeObject } from "../kube/KubeApi.js";
import { type Block, nodeLabel, readBlock } from "./block.js";
import { type Allocation, type IPAMBlock, IpamError } from "./types.js";

/** Why `node` may not write this; undefined where it may. Without `old` it is created, without `object` deleted. */
export function mayWriteBlock(
  node: string,
  object: KubeObject | undefined,
  old: KubeObject | undefined,
): string | undefined {
  try {
    const before = old && readBlock(old as IPAMBlock);
    const after = object && readBlock(object as IPAMBlock);
    if (before === undefined) return after && refuseCreate(node, after);
    if (after === undefined) return refuseDelete(node, before);
    return refuseUpdate(node, after, before) ?? refuseLabels(node, before, object!, old!);
  } catch (error) {
    if (error instanceof IpamError) return error.message;
    throw error;
  }
}

function refuseCreate(node: string, after: Block): string | undefined {
  if (after.node !== node) return `node "${node}" may not claim a block for node "${after.node}"`;
  if (after.pinned) return "a node may not pin a block";
  return after.allocations.length > 0 ? "a new block holds no allocations" : undefined;
}

function refuseDelete(node: string, before: Block): string | undefined {
  if (before.node !== node) return `node "${node}" may not delete a block of node "${before.node}"`;
  if (before.pinned) return "a node may not delete a pinned block";
  return before.allocations.some((each) => ownerOf(each, before) !== node)
    ? "addresses of the block are borrowed by other nodes"
    : undefined;
}

function refuseUpdate(node: string, after: Block, before: Block): string | undefined {
  if (before.node !== after.node) return "a node may not give a block to another node";
  if (before.pinned !== after.pinned) return "a node may not pin a block";
  const foreign = (block: Block) =>
    JSON.stringify(block.allocations.filter((each) => ownerOf(each, block) !== node).map(comparable));
  if (foreign(before) !== foreign(after)) return `node "${node}" may change only its own allocations`;
  if (after.sequence < before.sequence) return "the sequence of a block does not go back";
  if (before.node === node) return undefined;
  const { state, strict, claimedAt } = before;
  if (after.state !== state || after.strict !== strict || after.claimedAt !== claimedAt)
    return `node "${node}" may change only its own allocations in a block of node "${before.node}"`;
  const taken = after.allocations.filter(
    (each) => !before.allocations.some((old) => old.ordinal === each.ordinal),
  );
  if (taken.length > 0 && (strict || state !== "confirmed"))
    return `node "${before.node}" does not lend addresses of this block`;
  // Free ordinals keep their places; what this node gives back comes behind them.
  const takenOrdinals = new Set(taken.map(({ ordinal }) => ordinal));
  const kept = before.unallocated.filter((ordinal) => !takenOrdinals.has(ordinal));
  return kept.every((ordinal, i) => after.unallocated[i] === ordinal)
    ? undefined
    : "the order of the free addresses may not be changed";
}

/** In another node's block, no label but its own; the owner's may come, where a block was written by hand. */
function refuseLabels(node: string, before: Block, object: KubeObject, old: KubeObject): string | undefined {
  if (before.node === node) return undefined;
  const others = (labels: Record<string, string>) =>
    JSON.stringify(
      Object.entries(labels)
        .filter(([key]) => key !== nodeLabel(node))
        .sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  const wanted = others(object.metadata.labels ?? {});
  const present = old.metadata.labels ?? {};
  const allowed = [present, { ...present, [nodeLabel(before.node)]: "owner" }].map(others);
  return allowed.includes(wanted) ? undefined : `node "${node}" may not change these labels`;
}

function ownerOf({ attributes }: Allocation, block: Block): string {
  return attributes.node ?? block.node;
}

/** With the keys in one order. */
function comparable({ ordinal, handle, sequence, attributes }: Allocation): unknown {
  return [ordinal, handle, sequence, Object.entries(attributes).sort(([a], [b]) => (a < b ? -1 : 1))];
}
