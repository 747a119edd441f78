/** Pools as values: which are for a node, what they reserve, which one an address belongs to. Pure. */
import { matchesSelector } from "../kube/selectors.js";
import {
  type AddressRange,
  containsPrefix,
  DEFAULT_BLOCK_SIZE,
  type Ipv4Prefix,
  MAX_BLOCK_SIZE,
  MIN_BLOCK_SIZE,
  prefixOf,
  rangeOf,
} from "./blockMath.js";
import { type IPPool, IpamError } from "./types.js";

export interface Pool {
  name: string;
  prefix: Ipv4Prefix;
  blockSize: number;
  disabled: boolean;
  strict: boolean;
  reserved: AddressRange[];
  nodeSelector: IPPool["spec"]["nodeSelector"];
}

/** Reads an object; throws an IpamError where it is malformed. */
export function readPool({ metadata, spec }: IPPool): Pool {
  const prefix = prefixOf(spec.cidr);
  const blockSize = spec.blockSize ?? Math.max(DEFAULT_BLOCK_SIZE[4], prefix.length);
  if (blockSize < Math.max(MIN_BLOCK_SIZE, prefix.length) || blockSize > MAX_BLOCK_SIZE)
    throw new IpamError("Invalid", `blockSize ${blockSize} does not fit ${spec.cidr}`);
  return {
    name: metadata.name ?? "",
    prefix,
    blockSize,
    disabled: spec.disabled ?? false,
    strict: spec.strictAffinity ?? false,
    reserved: (spec.reservedRanges ?? []).map(rangeOf),
    nodeSelector: spec.nodeSelector,
  };
}

/** Reads all that can be read, by name; a malformed one is `check`'s to report, and stops nobody. */
export function readPools(objects: readonly IPPool[]): Pool[] {
  const pools: Pool[] = [];
  for (const object of objects) {
    try {
      pools.push(readPool(object));
    } catch (error) {
      if (!(error instanceof IpamError)) throw error;
    }
  }
  return pools.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Whether a pool asks for the labels of nodes at all. */
export function selectsNodes({ nodeSelector }: Pool): boolean {
  return (
    Object.keys(nodeSelector?.matchLabels ?? {}).length > 0 ||
    (nodeSelector?.matchExpressions ?? []).length > 0
  );
}

/** Whether a node with these labels gets new addresses from this pool. */
export function isFor(pool: Pool, labels: Record<string, string>): boolean {
  return !pool.disabled && (!selectsNodes(pool) || matchesSelector(pool.nodeSelector, labels));
}

/** The first pool that holds all of a prefix. */
export function poolOf(pools: readonly Pool[], prefix: Ipv4Prefix): Pool | undefined {
  return pools.find((pool) => containsPrefix(pool.prefix, prefix));
}
