/**
 * IPAddressPools and L2Advertisements checked and boiled down, by MetalLB's rules and with its words
 * (internal/config poolsFor, l2AdvertisementFromCR). Pure.
 */

import { matchesSelector } from "../kube/selectors.js";
import type { IPAddressPool, L2Advertisement, LabelSelector, Namespace, Node } from "../kube/types.js";
import { containsAddress, type Ipv4Prefix } from "../model/ipv4.js";
import {
  type AddressPrefix,
  ConfigurationError,
  formatPrefix,
  parseAddressRange,
  prefixContains,
  prefixesOverlap,
  quoted,
} from "./addressRange.js";

/** A pool that addresses are given out from. */
export interface Pool {
  name: string;
  /** Its IPv4 prefixes in the order in which addresses go out. */
  prefixes: readonly Ipv4Prefix[];
  /** Addresses that end in .0 and .255 stay out. */
  avoidBuggyIps: boolean;
  /** False: only for Services that ask for it. */
  autoAssign: boolean;
  /** Whom it is kept for; null: everybody. */
  allocation: {
    /** The lowest goes first; 0, none, goes last. */
    priority: number;
    /** Null: every namespace. */
    namespaces: ReadonlySet<string> | null;
    /** Empty: every Service. */
    serviceSelectors: readonly LabelSelector[];
  } | null;
}

/** Pools by name, ordered by name. */
export type Pools = ReadonlyMap<string, Pool>;

/** A pool that is at fault. */
export class PoolError extends ConfigurationError {
  constructor(
    readonly pool: string,
    message: string,
  ) {
    super(message);
  }
}

/**
 * All pools of a configuration; of two at odds with each other the latter is at fault. No pool may contain an address of `nodes` (InternalIP); none given:
 * not checked, as MetalLB does once a pool is admitted. Throws PoolError at the first fault.
 */
export function poolsOf(
  objects: readonly IPAddressPool[],
  namespaces: readonly Namespace[],
  nodes: readonly Node[] = [],
): Pools {
  const pools = new Map<string, Pool>();
  const known: AddressPrefix[] = [];
  const nodeAddresses = nodes.flatMap(({ status }) =>
    (status?.addresses ?? []).filter(({ type }) => type === "InternalIP").map(({ address }) => address),
  );
  for (const object of objects) {
    const name = object.metadata.name!;
    const prefixes = prefixesOf(object);
    const allocation = attempt(name, () => allocationOf(object, namespaces));
    for (const prefix of prefixes) {
      const other = known.find((each) => prefixesOverlap(prefix, each));
      if (other)
        throw new PoolError(
          name,
          `CIDR ${quoted(formatPrefix(prefix))} in pool ${quoted(name)} overlaps with already defined CIDR ${quoted(formatPrefix(other))}`,
        );
      const node = nodeAddresses.find((address) => prefixContains(prefix, address));
      if (node)
        throw new PoolError(
          name,
          `pool cidr ${quoted(formatPrefix(prefix))} contains nodeIp ${quoted(node)}`,
        );
      known.push(prefix);
    }
    pools.set(name, {
      name,
      prefixes: prefixes
        .filter(({ family }) => family === 4)
        .map(({ address, length }) => ({ address: Number(address) | 0, length })),
      avoidBuggyIps: object.spec.avoidBuggyIPs ?? false,
      autoAssign: object.spec.autoAssign ?? true,
      allocation,
    });
  }
  return new Map([...pools].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Throws ConfigurationError where MetalLB would not take the advertisement. */
export function checkAdvertisement({ spec = {} }: L2Advertisement): void {
  refuseDuplicates(spec.ipAddressPools ?? [], "ipAddressPools");
  checkSelectors(spec.ipAddressPoolSelectors, "ipAddressPoolSelectors");
  checkSelectors(spec.nodeSelectors, "nodeSelectors");
  checkSelectors(spec.serviceSelectors, "serviceSelectors");
}

/** Whether the pool has this address (int32) to give out. */
export function poolHas(pool: Pool, address: number): boolean {
  if (pool.avoidBuggyIps && confusesBuggyFirmware(address)) return false;
  return pool.prefixes.some((prefix) => containsAddress(prefix, address));
}

/** Number of IPv4 addresses that the pool has to give out. */
export function poolSize(pool: Pool): number {
  let size = 0;
  for (const { address, length } of pool.prefixes) {
    const count = 2 ** (32 - length);
    size += count;
    if (!pool.avoidBuggyIps) continue;
    if (length <= 24) size -= 2 * 2 ** (24 - length);
    else
      for (const each of new Set([address, (address + count - 1) | 0]))
        if (confusesBuggyFirmware(each)) size--;
  }
  return size;
}

/** Whether a Service of this namespace with these labels may have an address of the pool. */
export function poolFits(
  { allocation }: Pool,
  namespace: string,
  labels: Record<string, string> | undefined,
): boolean {
  if (allocation === null) return true;
  if (allocation.namespaces !== null && !allocation.namespaces.has(namespace)) return false;
  const { serviceSelectors } = allocation;
  return (
    serviceSelectors.length === 0 || serviceSelectors.some((selector) => matchesSelector(selector, labels))
  );
}

/** Old routers take .0 and .255 for broadcasts and drop what comes for them (smurf protection). */
export function confusesBuggyFirmware(address: number): boolean {
  const last = address & 255;
  return last === 0 || last === 255;
}

function prefixesOf({ metadata, spec }: IPAddressPool): AddressPrefix[] {
  const name = metadata.name!;
  return attempt(name, () => {
    if ((spec.addresses ?? []).length === 0) throw new ConfigurationError("pool has no prefixes defined");
    return spec.addresses.flatMap((text) => {
      try {
        return parseAddressRange(text);
      } catch (error) {
        throw new ConfigurationError(
          `invalid CIDR ${quoted(text)} in pool ${quoted(name)}: ${(error as Error).message}`,
        );
      }
    });
  });
}

function attempt<T>(pool: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    throw new PoolError(pool, `parsing address pool ${pool}: ${error.message}`);
  }
}

function allocationOf({ spec }: IPAddressPool, namespaces: readonly Namespace[]): Pool["allocation"] {
  const wish = spec.serviceAllocation;
  if (!wish) return null;
  const names = wish.namespaces ?? [];
  if (new Set(names).size < names.length)
    throw new ConfigurationError("duplicate definition in namespaces field");
  checkSelectors(wish.namespaceSelectors, "namespaceSelectors");
  checkSelectors(wish.serviceSelectors, "serviceSelectors");
  const selectors = wish.namespaceSelectors ?? [];
  const selected = namespaces
    .filter(({ metadata }) => selectors.some((selector) => matchesSelector(selector, metadata.labels)))
    .map(({ metadata }) => metadata.name!);
  return {
    priority: wish.priority ?? 0,
    // Selectors that match no namespace (yet) keep everybody out, not nobody.
    namespaces: names.length + selectors.length > 0 ? new Set([...names, ...selected]) : null,
    serviceSelectors: wish.serviceSelectors ?? [],
  };
}

const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"];

function checkSelectors(selectors: readonly LabelSelector[] = [], field: string): void {
  const seen = new Set<string>();
  for (const selector of selectors) {
    const expressions = new Set<string>();
    for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
      if (!OPERATORS.includes(operator))
        throw new ConfigurationError(`${quoted(operator)} is not a valid label selector operator`);
      refuseDuplicates(values, "match expression value in label selector");
      const text = goExpression({ key, operator, values });
      if (expressions.has(text))
        throw new ConfigurationError(`duplicate definition of match expressions ${text}`);
      expressions.add(text);
    }
    const text = goSelector(selector);
    if (seen.has(text)) throw new ConfigurationError(`duplicate definition of ${field} ${text}`);
    seen.add(text);
  }
}

function refuseDuplicates(texts: readonly string[], what: string): void {
  const twice = texts.find((text, i) => texts.indexOf(text) !== i);
  if (twice !== undefined) throw new ConfigurationError(`duplicate definition of ${what} ${quoted(twice)}`);
}

/** Go's %q of a LabelSelector. */
function goSelector({ matchLabels = {}, matchExpressions = [] }: LabelSelector): string {
  const labels = Object.entries(matchLabels)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${quoted(key)}:${quoted(value)}`);
  return `{map[${labels.join(" ")}] [${matchExpressions.map(goExpression).join(" ")}]}`;
}

function goExpression({ key, operator, values = [] }: { key: string; operator: string; values?: string[] }) {
  return `{${quoted(key)} ${quoted(operator)} [${[...values].sort().map(quoted).join(" ")}]}`;
}
