/**
 * IPv4 addresses and prefixes as plain numbers. An address is the big-endian number as int32
 * (192.168.2.30 is 0xc0a8021e | 0), which is how the tables hold it. Pure.
 */

export interface Ipv4Prefix {
  /** First address, int32. */
  address: number;
  /** Prefix length, 0-32. */
  length: number;
}

/** Parses strict dotted decimal (no leading zeros, four parts) to int32; null where it is none. */
export function parseIpv4(text: string): number | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return null;
  let value = 0;
  for (let i = 1; i <= 4; i++) {
    const part = match[i]!;
    if (Number(part) > 255 || (part.length > 1 && part[0] === "0")) return null;
    value = (value << 8) | Number(part);
  }
  return value;
}

/** Dotted decimal of an int32 address. */
export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** Netmask of a prefix length (0-32) as int32. */
export function maskOf(length: number): number {
  return length === 0 ? 0 : -1 << (32 - length);
}

/**
 * Parses CIDR notation. Bits beyond the prefix length stay in `address`: hasHostBits tells, and
 * networkOf clears them. Null where the text is no IPv4 CIDR.
 */
export function parseCidr(text: string): Ipv4Prefix | null {
  const match = /^([\d.]+)\/(\d{1,2})$/.exec(text);
  if (match === null) return null;
  const address = parseIpv4(match[1]!);
  const length = Number(match[2]);
  return address === null || length > 32 ? null : { address, length };
}

/** Whether the address has bits beyond the prefix length: 10.0.0.1/24. */
export function hasHostBits(prefix: Ipv4Prefix): boolean {
  return (prefix.address & ~maskOf(prefix.length)) !== 0;
}

/** The prefix with the bits beyond its length cleared. */
export function networkOf(prefix: Ipv4Prefix): Ipv4Prefix {
  return { address: prefix.address & maskOf(prefix.length), length: prefix.length };
}

/** CIDR notation of a prefix. */
export function formatCidr(prefix: Ipv4Prefix): string {
  return `${formatIpv4(prefix.address)}/${prefix.length}`;
}

/** Whether `address` lies in `prefix`. */
export function containsAddress(prefix: Ipv4Prefix, address: number): boolean {
  return ((prefix.address ^ address) & maskOf(prefix.length)) === 0;
}

/** Whether all of `inner` lies in `outer`. */
export function containsPrefix(outer: Ipv4Prefix, inner: Ipv4Prefix): boolean {
  return inner.length >= outer.length && containsAddress(outer, inner.address);
}

/** Whether two prefixes have an address in common: one of them contains the other. */
export function overlaps(a: Ipv4Prefix, b: Ipv4Prefix): boolean {
  return containsAddress(a.length <= b.length ? a : b, a.length <= b.length ? b.address : a.address);
}
