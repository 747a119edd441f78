/**
 * What must hold over all pools, blocks, pods and nodes together; everything that does not, as a
 * list. Pure: the command, the tests and the recovery check give it what they have listed.
 */
import type { Node, Pod } from "../kube/types.js";
import { addressText, type Block, holdsTunnel, nodeLabel, readBlock } from "./block.js";
import { addressOf, blockName, comparePrefixes, overlaps, sizeOf } from "./blockMath.js";
import { type Cluster, clusterOf, isFinished, leakOf, podAddresses } from "./leak.js";
import { type Pool, poolOf, readPool } from "./pools.js";
import { type IPAMBlock, type IPPool, IpamError, tunnelHandle } from "./types.js";

export interface IpamObjects {
  pools: readonly IPPool[];
  blocks: readonly IPAMBlock[];
  pods: readonly Pod[];
  nodes: readonly Node[];
}

/**
 * error: two owners, or about to be: must never be seen.
 * leak: an address without owner; the collector takes it back.
 * warning: worth a look.
 */
export interface Finding {
  severity: "error" | "leak" | "warning";
  /** Stable name of the kind of finding. */
  kind: string;
  /** What it is about: an address, a block, a pool. */
  subject: string;
  message: string;
}

/** An allocation whose address can be released by what a report says of it. */
export interface LeakedAddress {
  address: string;
  handle: string;
  sequence: number;
  reason: string;
}

export interface CheckReport {
  counts: { pools: number; blocks: number; allocations: number; podAddresses: number };
  findings: Finding[];
  leaks: LeakedAddress[];
}

export function check(objects: IpamObjects): CheckReport {
  const report: CheckReport = {
    counts: { pools: objects.pools.length, blocks: objects.blocks.length, allocations: 0, podAddresses: 0 },
    findings: [],
    leaks: [],
  };
  const find = (severity: Finding["severity"], kind: string, subject: string, message: string) =>
    report.findings.push({ severity, kind, subject, message });
  const cluster = clusterOf(objects.pods, objects.nodes);
  const pools = checkPools(objects.pools, find);
  const blocks = checkBlocks(objects.blocks, pools, cluster, find);
  const owners = checkAllocations(blocks, cluster, report, find);
  checkTunnels(blocks, objects.nodes, find);
  checkPods(objects.pods, blocks, owners, pools, report, find);
  return report;
}

type Find = (severity: Finding["severity"], kind: string, subject: string, message: string) => void;

function checkPools(objects: readonly IPPool[], find: Find): Pool[] {
  const pools: Pool[] = [];
  for (const object of objects) {
    const name = object.metadata.name ?? "";
    try {
      pools.push(readPool(object));
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      find("error", "pool-malformed", name, error.message);
    }
  }
  for (const [i, pool] of pools.entries())
    for (const other of pools.slice(i + 1))
      if (overlaps(pool.prefix, other.prefix) && !pool.disabled && !other.disabled)
        find("warning", "pools-overlap", pool.name, `overlaps pool ${other.name}`);
  return pools;
}

function checkBlocks(objects: readonly IPAMBlock[], pools: Pool[], cluster: Cluster, find: Find): Block[] {
  const blocks: Block[] = [];
  for (const object of objects) {
    const name = object.metadata.name ?? "";
    let block: Block;
    try {
      block = readBlock(object);
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
      find("error", "block-malformed", name, error.message);
      continue;
    }
    blocks.push(block);
    const fault = faultOf(block, object);
    if (fault !== null) find("error", "block-malformed", name, fault);
    if (poolOf(pools, block.prefix) === undefined)
      find("warning", "block-outside-pools", name, "lies in no pool");
    if (!cluster.nodes.has(block.node) && !block.pinned)
      find("warning", "block-of-gone-node", name, `node ${block.node} is gone`);
    if (block.state !== "confirmed") find("warning", "block-unconfirmed", name, `is ${block.state}`);
    for (const { attributes } of block.allocations)
      if (attributes.node && object.metadata.labels?.[nodeLabel(attributes.node)] === undefined)
        find("error", "block-label", name, `lacks the label ${nodeLabel(attributes.node)}`);
  }
  blocks.sort((a, b) => comparePrefixes(a.prefix, b.prefix));
  // Ascending, and the larger first: what a block overlaps lies right before it.
  let last: Block | undefined;
  for (const block of blocks) {
    if (last !== undefined && overlaps(last.prefix, block.prefix))
      find(
        // One that is not confirmed gives out nothing, and withdraws.
        last.state === "pending" || block.state === "pending" ? "warning" : "error",
        "blocks-overlap",
        blockName(block.prefix),
        `overlaps block ${blockName(last.prefix)}`,
      );
    else last = block;
  }
  return blocks;
}

/** What is wrong within one block; null where nothing is. */
function faultOf(block: Block, object: IPAMBlock): string | null {
  if (object.metadata.name !== blockName(block.prefix)) return `should be named ${blockName(block.prefix)}`;
  const size = sizeOf(block.prefix);
  const ordinals = [...block.allocations.map(({ ordinal }) => ordinal), ...block.unallocated];
  if (ordinals.some((ordinal) => !Number.isInteger(ordinal) || ordinal < 0 || ordinal >= size))
    return "has an ordinal beyond its size";
  if (new Set(ordinals).size !== ordinals.length) return "has an ordinal twice";
  if (ordinals.length !== size) return `lacks ${size - ordinals.length} of its ordinals`;
  const sequences = block.allocations.map(({ sequence }) => sequence);
  if (new Set(sequences).size !== sequences.length) return "has a sequence twice";
  if (sequences.some((sequence) => sequence > block.sequence)) return "has a sequence beyond its own";
  if (block.state === "pending" && sequences.length > 0) return "is pending, but holds allocations";
  return null;
}

/** Handles by address. */
function checkAllocations(
  blocks: readonly Block[],
  cluster: Cluster,
  report: CheckReport,
  find: Find,
): Map<string, string> {
  const owners = new Map<string, string>();
  const byHandle = new Map<string, string>();
  for (const block of blocks) {
    for (const allocation of block.allocations) {
      report.counts.allocations++;
      const address = addressText(block, allocation.ordinal);
      const { handle, sequence } = allocation;
      const node = allocation.attributes.node ?? block.node;
      const other = owners.get(address);
      if (other !== undefined) find("error", "two-owners", address, `is given to ${other} and to ${handle}`);
      owners.set(address, handle);
      const second = byHandle.get(`${node} ${handle}`);
      if (second !== undefined)
        find("warning", "two-addresses", address, `${handle} on ${node} has ${second} too`);
      byHandle.set(`${node} ${handle}`, address);
      if (block.strict && node !== block.node)
        find("warning", "borrowed-from-strict", address, `is lent to ${node}`);
      const reason = leakOf(block, allocation, cluster);
      if (reason === null) continue;
      report.leaks.push({ address, handle, sequence, reason });
      find("leak", "leaked", address, reason);
    }
  }
  return owners;
}

function checkTunnels(blocks: readonly Block[], nodes: readonly Node[], find: Find): void {
  const withTunnel = new Set(blocks.filter(holdsTunnel).map(({ node }) => node));
  for (const { metadata } of nodes)
    if (!withTunnel.has(metadata.name!))
      find("warning", "no-tunnel-address", metadata.name!, "has no tunnel address");
  const counts = new Map<string, number>();
  for (const block of blocks)
    for (const { handle } of block.allocations)
      if (handle === tunnelHandle(block.node)) counts.set(block.node, (counts.get(block.node) ?? 0) + 1);
  for (const [node, count] of counts)
    if (count > 1) find("warning", "two-tunnel-addresses", node, `has ${count} tunnel addresses`);
}

function checkPods(
  pods: readonly Pod[],
  blocks: readonly Block[],
  owners: ReadonlyMap<string, string>,
  pools: readonly Pool[],
  report: CheckReport,
  find: Find,
): void {
  const uids = new Map<string, { uid?: string; pod: string }>();
  for (const block of blocks)
    for (const { ordinal, attributes } of block.allocations)
      if (attributes.pod !== undefined)
        uids.set(addressText(block, ordinal), {
          pod: `${attributes.namespace}/${attributes.pod}`,
          ...(attributes.uid === undefined ? {} : { uid: attributes.uid }),
        });
  const users = new Map<string, string>();
  for (const pod of pods) {
    // One that is being deleted may have given its address back already.
    if (isFinished(pod) || pod.spec?.hostNetwork || pod.metadata.deletionTimestamp !== undefined) continue;
    const name = `${pod.metadata.namespace}/${pod.metadata.name}`;
    for (const address of podAddresses(pod)) {
      report.counts.podAddresses++;
      const other = users.get(address);
      if (other !== undefined)
        find("error", "two-pods", address, `is the address of ${other} and of ${name}`);
      users.set(address, name);
      if (!owners.has(address)) {
        if (poolOf(pools, { address: addressOf(address), length: 32 }) !== undefined)
          find("error", "not-allocated", address, `pod ${name} has it, and no block gives it`);
        continue;
      }
      const owner = uids.get(address);
      if (owner !== undefined && (owner.pod !== name || (owner.uid ?? pod.metadata.uid) !== pod.metadata.uid))
        find("error", "wrong-owner", address, `pod ${name} has it, and it is given to ${owner.pod}`);
    }
  }
}
