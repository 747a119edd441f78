/**
 * A block as a plain value, and what can be done to it. Every function gives a new value (or the
 * same one where nothing changes) and touches nothing else; the callers write values back with
 * compare-and-swap.
 *
 *   unallocated: [5, 6, 7, 2]   5 goes out next; 2 was released last
 */
import { formatCidr, formatIpv4 } from "../model/ipv4.js";
import {
  type AddressRange,
  addressAt,
  blockName,
  coversPrefix,
  hashName,
  type Ipv4Prefix,
  inRanges,
  prefixOf,
  sizeOf,
} from "./blockMath.js";
import {
  type Allocation,
  type AllocationAttributes,
  type BlockAffinityState,
  IPAM_API_VERSION,
  type IPAMBlock,
  tunnelHandle,
} from "./types.js";

export interface Block {
  readonly prefix: Ipv4Prefix;
  readonly node: string;
  readonly state: BlockAffinityState;
  readonly strict: boolean;
  readonly pinned: boolean;
  /** "" where it is not known. */
  readonly claimedAt: string;
  readonly sequence: number;
  /** Ascending by ordinal. */
  readonly allocations: readonly Allocation[];
  readonly unallocated: readonly number[];
}

/** A value and the object it was read from. */
export interface StoredBlock {
  block: Block;
  object: IPAMBlock;
}

/** Labels of a block that say which nodes have to do with it: nodes.podwire.dev/NODE=owner|borrower. */
const NODE_LABEL_PREFIX = "nodes.podwire.dev/";

/** Key of the label for a node; a name too long for a label is shortened by hash. */
export function nodeLabel(node: string): string {
  return (
    NODE_LABEL_PREFIX + (node.length <= 63 ? node : `${node.slice(0, 54)}.${hashName(node).toString(16)}`)
  );
}

/** Reads an object; fills in what a hand-written one leaves out. Throws an IpamError where it is malformed. */
export function readBlock(object: IPAMBlock): Block {
  const { spec } = object;
  const prefix = prefixOf(spec.cidr);
  const allocations = spec.allocations ?? [];
  return {
    prefix,
    node: spec.node,
    state: spec.affinityState ?? "confirmed",
    strict: spec.strictAffinity ?? false,
    pinned: spec.pinned ?? false,
    claimedAt: spec.claimedAt ?? "",
    sequence: spec.sequence ?? 0,
    allocations,
    unallocated: spec.unallocated ?? freeOrdinals(prefix, allocations),
  };
}

/** The object of a value, with the metadata of the one it replaces. */
export function writeBlock(block: Block, replaced?: IPAMBlock): IPAMBlock {
  const labels = Object.fromEntries(
    Object.entries(replaced?.metadata.labels ?? {}).filter(([key]) => !key.startsWith(NODE_LABEL_PREFIX)),
  );
  for (const { attributes } of block.allocations)
    if (attributes.node !== undefined) labels[nodeLabel(attributes.node)] = "borrower";
  labels[nodeLabel(block.node)] = "owner";
  return {
    apiVersion: IPAM_API_VERSION,
    kind: "IPAMBlock",
    metadata: { ...replaced?.metadata, name: blockName(block.prefix), labels },
    spec: {
      cidr: formatCidr(block.prefix),
      node: block.node,
      affinityState: block.state,
      ...(block.strict ? { strictAffinity: true } : {}),
      ...(block.pinned ? { pinned: true } : {}),
      ...(block.claimedAt === "" ? {} : { claimedAt: block.claimedAt }),
      sequence: block.sequence,
      allocations: [...block.allocations],
      unallocated: [...block.unallocated],
    },
  };
}

/** A block that a node has just claimed. */
export function claimedBlock(prefix: Ipv4Prefix, node: string, strict: boolean, now: number): Block {
  return {
    prefix,
    node,
    state: "pending",
    strict,
    pinned: false,
    claimedAt: new Date(now).toISOString(),
    sequence: now * 1000,
    allocations: [],
    unallocated: freeOrdinals(prefix, []),
  };
}

export interface Request {
  handle: string;
  attributes: AllocationAttributes;
  /** Milliseconds since 1970. */
  now: number;
}

/** Gives out the first free address that is not reserved; null where there is none. */
export function assign(
  block: Block,
  request: Request,
  reserved: readonly AddressRange[] = [],
): { block: Block; address: string } | null {
  const ordinal = block.unallocated.find(
    (each) => reserved.length === 0 || !inRanges(reserved, addressAt(block.prefix, each)),
  );
  return ordinal === undefined ? null : assignOrdinal(block, ordinal, request);
}

/** Gives out one certain address; null where it is taken. */
export function assignOrdinal(
  block: Block,
  ordinal: number,
  request: Request,
): { block: Block; address: string } | null {
  if (!block.unallocated.includes(ordinal)) return null;
  const sequence = nextSequence(block, request.now);
  const allocation: Allocation = {
    ordinal,
    handle: request.handle,
    sequence,
    attributes: { timestamp: new Date(request.now).toISOString(), ...request.attributes },
  };
  return {
    block: {
      ...block,
      sequence,
      allocations: [...block.allocations, allocation].sort((a, b) => a.ordinal - b.ordinal),
      unallocated: block.unallocated.filter((each) => each !== ordinal),
    },
    address: addressText(block, ordinal),
  };
}

/** Frees an address, to the back of the queue, if it is still this allocation's; else the block as it was. */
export function release(
  block: Block,
  allocation: Pick<Allocation, "ordinal" | "handle" | "sequence">,
): Block {
  const { ordinal, handle, sequence } = allocation;
  const present = block.allocations.find((each) => each.ordinal === ordinal);
  if (present === undefined || present.handle !== handle || present.sequence !== sequence) return block;
  return {
    ...block,
    allocations: block.allocations.filter((each) => each !== present),
    unallocated: [...block.unallocated, ordinal],
  };
}

/** Gives an allocation new attributes and a new sequence: what was known of the old one no longer frees it. */
export function renew(block: Block, ordinal: number, attributes: AllocationAttributes, now: number): Block {
  const sequence = nextSequence(block, now);
  return {
    ...block,
    sequence,
    allocations: block.allocations.map((each) =>
      each.ordinal === ordinal
        ? { ...each, sequence, attributes: { timestamp: new Date(now).toISOString(), ...attributes } }
        : each,
    ),
  };
}

/** The allocation of a node's handle. An allocation without a node counts for the block's. */
export function allocationOf(block: Block, node: string, handle: string): Allocation | undefined {
  return block.allocations.find(
    (each) => each.handle === handle && (each.attributes.node ?? block.node) === node,
  );
}

/** Number of addresses that would be given out by themselves. */
export function freeCount(block: Block, reserved: readonly AddressRange[] = []): number {
  if (reserved.length === 0) return block.unallocated.length;
  if (coversPrefix(reserved, block.prefix)) return 0;
  return block.unallocated.filter((ordinal) => !inRanges(reserved, addressAt(block.prefix, ordinal))).length;
}

/** Whether the block holds its own node's tunnel address. */
export function holdsTunnel(block: Block): boolean {
  return allocationOf(block, block.node, tunnelHandle(block.node)) !== undefined;
}

/** Dotted decimal of an ordinal. */
export function addressText(block: Block, ordinal: number): string {
  return formatIpv4(addressAt(block.prefix, ordinal));
}

/** The clock moves sequences on too: a block that was deleted and made again never repeats one. */
function nextSequence(block: Block, now: number): number {
  return Math.max(block.sequence + 1, now * 1000);
}

function freeOrdinals(prefix: Ipv4Prefix, allocations: readonly Allocation[]): number[] {
  const taken = new Set(allocations.map(({ ordinal }) => ordinal));
  return Array.from({ length: sizeOf(prefix) }, (_, ordinal) => ordinal).filter((each) => !taken.has(each));
}
