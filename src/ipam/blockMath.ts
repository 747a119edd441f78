/**
 * Arithmetic of pools and blocks: names, ordinals, the order in which a node tries the blocks of a
 * pool, reserved ranges. Pure. IPv4; an IPv6 text gets an IpamError that says so.
 */
import {
  containsAddress,
  containsPrefix,
  formatIpv4,
  hasHostBits,
  type Ipv4Prefix,
  overlaps,
  parseCidr,
  parseIpv4,
} from "../model/ipv4.js";
import { IpamError } from "./types.js";

export { containsAddress, containsPrefix, type Ipv4Prefix, overlaps };

/** Prefix length of a block where the pool does not say. */
export const DEFAULT_BLOCK_SIZE = { 4: 26, 6: 122 } as const;

/** Range of block sizes, as Calico has it. */
export const MIN_BLOCK_SIZE = 20;
export const MAX_BLOCK_SIZE = 32;

/** Parses a CIDR without host bits; throws an IpamError. */
export function prefixOf(cidr: string): Ipv4Prefix {
  if (cidr.includes(":")) throw new IpamError("Invalid", `${cidr}: IPv6 is not supported yet`);
  const prefix = parseCidr(cidr);
  if (prefix === null) throw new IpamError("Invalid", `${cidr} is no CIDR`);
  if (hasHostBits(prefix)) throw new IpamError("Invalid", `${cidr} has bits beyond its prefix length`);
  return prefix;
}

/** Parses an address; throws an IpamError. */
export function addressOf(text: string): number {
  const address = parseIpv4(text);
  if (address === null) throw new IpamError("Invalid", `${text} is no IPv4 address`);
  return address;
}

/** Number of addresses in a prefix. */
export function sizeOf(prefix: Ipv4Prefix): number {
  return 2 ** (32 - prefix.length);
}

/** Name of the IPAMBlock of a prefix: 10-1-235-192-26. */
export function blockName(prefix: Ipv4Prefix): string {
  return `${formatIpv4(prefix.address).replaceAll(".", "-")}-${prefix.length}`;
}

/** Address of an ordinal, int32. */
export function addressAt(prefix: Ipv4Prefix, ordinal: number): number {
  return (prefix.address + ordinal) | 0;
}

/** Ordinal of an address that lies in the prefix. */
export function ordinalOf(prefix: Ipv4Prefix, address: number): number {
  return (address - prefix.address) >>> 0;
}

/** Ascending order of prefixes: by address, then the larger block first. */
export function comparePrefixes(a: Ipv4Prefix, b: Ipv4Prefix): number {
  return (a.address >>> 0) - (b.address >>> 0) || a.length - b.length;
}

/** 32-bit FNV-1a over the UTF-16 units of a text, as an unsigned number. */
export function hashName(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** All blocks of a pool in the order in which a node tries them: from a hash of its name, around. */
export function* blockWalk(pool: Ipv4Prefix, blockSize: number, node: string): Generator<Ipv4Prefix> {
  const count = 2 ** (blockSize - pool.length);
  const start = hashName(node) % count;
  const step = 2 ** (32 - blockSize);
  for (let i = 0; i < count; i++)
    yield { address: (pool.address + ((start + i) % count) * step) | 0, length: blockSize };
}

/** Addresses from `first` to `last`, both included, as unsigned numbers. */
export interface AddressRange {
  first: number;
  last: number;
}

/** Parses "10.1.0.0/28", "10.1.0.1" or "10.1.0.1-10.1.0.9"; throws an IpamError. */
export function rangeOf(text: string): AddressRange {
  if (text.includes("/")) {
    const prefix = prefixOf(text);
    const first = prefix.address >>> 0;
    return { first, last: first + sizeOf(prefix) - 1 };
  }
  const [from, to = from, ...rest] = text.split("-").map((part) => part.trim());
  const range = { first: addressOf(from!) >>> 0, last: addressOf(to!) >>> 0 };
  if (rest.length > 0 || range.last < range.first)
    throw new IpamError("Invalid", `${text} is no range of addresses`);
  return range;
}

/** Whether an address (int32) lies in one of the ranges. */
export function inRanges(ranges: readonly AddressRange[], address: number): boolean {
  const value = address >>> 0;
  return ranges.some(({ first, last }) => value >= first && value <= last);
}

/** Whether the ranges leave no address of the prefix. */
export function coversPrefix(ranges: readonly AddressRange[], prefix: Ipv4Prefix): boolean {
  let next = prefix.address >>> 0;
  const end = next + sizeOf(prefix);
  for (const { first, last } of ranges.toSorted((a, b) => a.first - b.first))
    if (first <= next && last >= next) next = last + 1;
  return next >= end;
}
