/**
 * What the checks of a config file look at: values of the raw document with their places. Pure.
 */
import {
  containsAddress,
  hasHostBits,
  type Ipv4Prefix,
  networkOf,
  parseCidr,
  parseIpv4,
} from "../model/ipv4.js";
import { type FieldPath, fieldName } from "./ConfigError.js";

/** A problem without its place in the file. */
export interface Finding {
  path: FieldPath;
  /** The key is meant, not its value. */
  atKey?: boolean;
  message: string;
  remedy: string;
}

/** A value, and where it stands. */
export interface Site<T> {
  path: FieldPath;
  value: T;
  /** The node that it belongs to. */
  owner: string;
}

/** Values that checks of several fields compare. */
export interface Sites {
  pools: Site<Ipv4Prefix>[];
  blocks: Site<Ipv4Prefix>[];
  /** Nodes by path of their entry, [] being this one. */
  names: Site<string>[];
  underlay: Site<number>[];
  tunnel: Site<number>[];
  macs: Site<string>[];
  /** Other nodes that have neither blocks nor a tunnel address. */
  unreachable: Site<null>[];
  pods: { index: number; name?: string; address?: number; place?: string }[];
  /** Name of this node in messages. */
  own: string;
}

/** Address ranges that no pod may be in, with what they are for. */
export const RESERVED: { prefix: Ipv4Prefix; use: string }[] = [
  { prefix: parseCidr("0.0.0.0/8")!, use: "this network" },
  { prefix: parseCidr("127.0.0.0/8")!, use: "loopback" },
  { prefix: parseCidr("169.254.0.0/16")!, use: "link-local" },
  { prefix: parseCidr("224.0.0.0/3")!, use: "multicast and reserved" },
];

/** Use of the reserved range that `address` lies in, null where it is an ordinary one. */
export function reservedUse(address: number): string | null {
  return RESERVED.find(({ prefix }) => containsAddress(prefix, address))?.use ?? null;
}

/** A finding for each value that another field has already. */
export function duplicates(sites: Site<string>[], what: string, remedy: string): Finding[] {
  const first = new Map<string, FieldPath>();
  const findings: Finding[] = [];
  for (const { path, value } of sites) {
    const earlier = first.get(value);
    if (earlier === undefined) first.set(value, path);
    else
      findings.push({ path, message: `${what} ${value} is taken already by ${fieldName(earlier)}`, remedy });
  }
  return findings;
}

/** What stands at `path` of a document; undefined where nothing does. */
export function at(raw: unknown, path: FieldPath): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined,
    raw,
  );
}

/** Nothing, or a list without entries. */
export function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (Array.isArray(value) && value.length === 0);
}

/** The list at a key; an empty one where there is none. */
export function list(raw: unknown, key: string): unknown[] {
  const value = at(raw, [key]);
  return Array.isArray(value) ? value : [];
}

/** The text at a key, unless it is empty. */
export function text(raw: unknown, key: string): string | undefined {
  const value = at(raw, [key]);
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** An IPv4 address as int32. */
export function address(value: unknown): number | undefined {
  return typeof value === "string" ? (parseIpv4(value) ?? undefined) : undefined;
}

/** The prefixes of a list, those with host bits as their network. */
export function prefixes(value: unknown, path: FieldPath, owner: string): Site<Ipv4Prefix>[] {
  return (Array.isArray(value) ? value : []).flatMap((item, i) => {
    const prefix = typeof item === "string" ? parseCidr(item) : null;
    // Host bits are told by the schema; for the other checks the network is what counts.
    return prefix === null
      ? []
      : [{ path: [...path, i], value: hasHostBits(prefix) ? networkOf(prefix) : prefix, owner }];
  });
}
