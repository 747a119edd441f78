/**
 * Pools and blocks as objects of the API (podwire.dev/v1alpha1), and what this folder says when
 * something cannot be done. A block is one object: its affinity to a node, the allocations and the
 * queue of free addresses change together, by compare-and-swap on its resourceVersion.
 */
import type { KubeObject } from "../kube/KubeApi.js";
import type { LabelSelector } from "../kube/types.js";

export const IPAM_API_VERSION = "podwire.dev/v1alpha1";

/** A range that pods get their addresses from. */
export interface IPPool extends KubeObject {
  spec: {
    /** 10.1.0.0/16 */
    cidr: string;
    /** Prefix length of its blocks. Default 26 (IPv4), 122 (IPv6). */
    blockSize?: number;
    /** Nodes that take addresses from it. Absent or empty: all. */
    nodeSelector?: LabelSelector;
    /** No new allocations; existing ones stay. */
    disabled?: boolean;
    /** CIDRs and FIRST-LAST ranges that are not given out by themselves (they may be asked for by name). */
    reservedRanges?: string[];
    /** No node borrows from another's block in this pool. */
    strictAffinity?: boolean;
  };
}

/**
 * pending: claimed, not yet known to be free of overlap; holds no allocation. confirmed: in use.
 * pendingDeletion: to go once empty; no new allocation.
 */
export type BlockAffinityState = "pending" | "confirmed" | "pendingDeletion";

/** Who an address was given to. */
export interface AllocationAttributes {
  pod?: string;
  namespace?: string;
  /** uid of the pod: tells it from a later one of the same name. */
  uid?: string;
  /** The node that asked; not that of the block where the address is borrowed. */
  node?: string;
  /** ISO 8601. */
  timestamp?: string;
}

export interface Allocation {
  /** Position in the block: its first address has 0. */
  ordinal: number;
  /** Unique per node: the pod's uid, or "tunnel-NODE". */
  handle: string;
  /** Another one for each allocation, so that a late release cannot free the next owner's address. */
  sequence: number;
  attributes: AllocationAttributes;
}

/** A block; only cidr and node are needed in one that is written by hand. */
export interface IPAMBlock extends KubeObject {
  spec: {
    cidr: string;
    /** The node that this block belongs to. */
    node: string;
    /** Default confirmed. */
    affinityState?: BlockAffinityState;
    /** No other node borrows from this block. */
    strictAffinity?: boolean;
    /** Made by hand, and not to be collected. */
    pinned?: boolean;
    /** When the node claimed it; ISO 8601. */
    claimedAt?: string;
    /** The highest sequence given out. */
    sequence?: number;
    allocations?: Allocation[];
    /** Free ordinals in the order in which they go out. Default: all that are not allocated, ascending. */
    unallocated?: number[];
  };
}

/**
 * NoPool: no enabled pool is for this node (or holds this address). Exhausted: no free address.
 * AddressInUse, HandleInUse: somebody else has it. Contention: too many conflicts in a row.
 * Invalid: a value that cannot be.
 */
export type IpamErrorCode =
  | "NoPool"
  | "Exhausted"
  | "AddressInUse"
  | "HandleInUse"
  | "Contention"
  | "NotFound"
  | "Invalid";

export class IpamError extends Error {
  override readonly name = "IpamError";

  constructor(
    readonly code: IpamErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** Handle of a node's tunnel address. */
export function tunnelHandle(node: string): string {
  return `tunnel-${node}`;
}
