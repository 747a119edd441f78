/**
 * Address ranges as an IPAddressPool writes them, CIDR or FIRST-LAST, cut into prefixes; with
 * MetalLB's words for what is wrong (internal/config ParseCIDR). Both families, since a pool may hold
 * both. Pure.
 */
import { isIPv4, isIPv6, SocketAddress } from "node:net";

/** A prefix of either family; bits beyond its length are clear. */
export interface AddressPrefix {
  family: 4 | 6;
  /** First address as a number. */
  address: bigint;
  length: number;
}

/** A configuration that MetalLB would refuse. */
export class ConfigurationError extends Error {
  override readonly name = "ConfigurationError";
  readonly code = "ConfigError";
}

interface Address {
  family: 4 | 6;
  value: bigint;
}

const BITS = { 4: 32, 6: 128 } as const;

/** Prefixes of a CIDR or of FIRST-LAST, ascending. Throws ConfigurationError. */
export function parseAddressRange(text: string): AddressPrefix[] {
  const dash = text.indexOf("-");
  if (dash < 0) return [parsePrefix(text)];
  const [from, to] = [text.slice(0, dash), text.slice(dash + 1)];
  const wrong = (why: string) => new ConfigurationError(`invalid IP range ${quoted(text)}: ${why}`);
  const first = parseAddress(from.trim());
  if (first === null) throw wrong(`invalid start IP ${quoted(from)}`);
  const last = parseAddress(to.trim());
  if (last === null) throw wrong(`invalid end IP ${quoted(to)}`);
  if (first.family !== last.family) throw wrong("start IP and end IP are of different families");
  if (first.value > last.value)
    throw wrong(
      `start IP ${quoted(formatAddress(first))} is after the end IP ${quoted(formatAddress(last))}`,
    );
  return summarize(first.family, first.value, last.value);
}

/** CIDR notation of a prefix, as Go writes it. */
export function formatPrefix({ family, address, length }: AddressPrefix): string {
  return `${formatAddress({ family, value: address })}/${length}`;
}

/** Whether two prefixes have an address in common: one of them contains the other. */
export function prefixesOverlap(a: AddressPrefix, b: AddressPrefix): boolean {
  return a.length <= b.length ? contains(a, b.family, b.address) : contains(b, a.family, a.address);
}

/** Whether an address, as text, lies in a prefix. */
export function prefixContains(prefix: AddressPrefix, text: string): boolean {
  const address = parseAddress(text);
  return address !== null && contains(prefix, address.family, address.value);
}

/** An address as Go prints it: IPv6 in the form of RFC 5952; null where it is none. */
export function canonicalAddress(text: string): string | null {
  const address = parseAddress(text);
  return address && formatAddress(address);
}

/** Go's %q of a text. */
export function quoted(text: string): string {
  return JSON.stringify(text);
}

function contains(prefix: AddressPrefix, family: 4 | 6, value: bigint): boolean {
  const rest = BigInt(BITS[family] - prefix.length);
  return prefix.family === family && prefix.address >> rest === value >> rest;
}

function parsePrefix(text: string): AddressPrefix {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const address = match && parseAddress(match[1]!);
  const length = Number(match?.[2]);
  if (!address || length > BITS[address.family]) throw new ConfigurationError(`invalid CIDR ${quoted(text)}`);
  const rest = BigInt(BITS[address.family] - length);
  return { family: address.family, address: (address.value >> rest) << rest, length };
}

function parseAddress(text: string): Address | null {
  if (isIPv4(text)) return { family: 4, value: decimal(text) };
  if (!isIPv6(text) || text.includes("%")) return null;
  // Without an IPv4 tail, and with all its zeros.
  const plain = text.replace(/(\d+\.\d+\.\d+\.\d+)$/, (tail) => {
    const value = decimal(tail);
    return `${(value >> 16n).toString(16)}:${(value & 0xffffn).toString(16)}`;
  });
  const [head, tail] = plain.split("::");
  const before = head ? head.split(":") : [];
  const after = tail ? tail.split(":") : [];
  const groups = [...before, ...Array<string>(8 - before.length - after.length).fill("0"), ...after];
  return { family: 6, value: groups.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n) };
}

function decimal(text: string): bigint {
  return text.split(".").reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
}

function formatAddress({ family, value }: Address): string {
  const part = (shift: number, mask: bigint) => (value >> BigInt(shift)) & mask;
  if (family === 4) return [24, 16, 8, 0].map((shift) => part(shift, 0xffn)).join(".");
  const groups = Array.from({ length: 8 }, (_, i) => part(112 - 16 * i, 0xffffn).toString(16));
  return new SocketAddress({ address: groups.join(":"), family: "ipv6" }).address;
}

/** The fewest prefixes that make up a range, ascending. */
function summarize(family: 4 | 6, first: bigint, last: bigint): AddressPrefix[] {
  const prefixes: AddressPrefix[] = [];
  for (let at = first; at <= last; ) {
    let rest = 0n;
    while (
      rest < BITS[family] &&
      (at & ((1n << (rest + 1n)) - 1n)) === 0n &&
      at + (1n << (rest + 1n)) - 1n <= last
    )
      rest++;
    prefixes.push({ family, address: at, length: BITS[family] - Number(rest) });
    at += 1n << rest;
  }
  return prefixes;
}
