/**
 * With which address of the node a pod's packet leaves the cluster: the one that the kernel's own
 * route to that destination prefers (what `ip route get` shows as src). Pure: the main table's routes
 * and the node's addresses in, the egress section of a table image out.
 *
 * How the kernel chooses (fib_info_update_nhc_saddr and inet_select_addr in net/ipv4): the longest
 * prefix, of these the lowest metric; the route's prefsrc; else of the output link's primary
 * addresses the first whose subnet has the gateway, or the first one; else the first of any link.
 * The node's address on the underlay plays no part: a VirtualBox VM leaves by its NAT adapter with
 * 10.0.2.15, which every such VM has, and is answered there.
 */
import type { Ipv4Prefix } from "../model/ipv4.js";
import type { TableInput } from "../tables/TableInput.js";

/** A route of the main table. */
export interface EgressRoute {
  destination: Ipv4Prefix;
  /** Link that it leaves by, 0 where it leads nowhere (blackhole, unreachable, prohibit, throw). */
  link: number;
  /** int32, null where the destination is on the link. */
  gateway: number | null;
  /** prefsrc, int32, null without. */
  source: number | null;
  metric: number;
}

/** An address of the node, in the kernel's order. */
export interface EgressAddress {
  link: number;
  /** int32. */
  address: number;
  /** Prefix length of its subnet. */
  length: number;
  secondary: boolean;
  /** rtm_scope: 0 universe, 253 link, 254 host. */
  scope: number;
}

const SCOPE_UNIVERSE = 0;
const SCOPE_LINK = 253;
/** Where no packet goes, or never to another host. */
const NOT_OUTSIDE: Ipv4Prefix[] = [
  { address: 0x7f000000, length: 8 },
  { address: 0xe0000000 | 0, length: 4 },
  { address: 0xf0000000 | 0, length: 4 },
];

function maskOf(length: number): number {
  return length === 0 ? 0 : -1 << (32 - length);
}

function covers({ address, length }: Ipv4Prefix, other: number): boolean {
  return (other & maskOf(length)) === (address & maskOf(length));
}

/**
 * The egress table: a source address for each prefix, 0 where a packet to it does not leave. A prefix
 * that says what the one around it says is left out, so that a table of thousands of routes by one
 * gateway has few entries.
 *
 * @param routes the main table
 * @param addresses all addresses of the node
 * @param ownLinks links of ours: what they lead to is no egress
 */
export function egressTable(
  routes: readonly EgressRoute[],
  addresses: readonly EgressAddress[],
  ownLinks: ReadonlySet<number>,
): TableInput["egress"] {
  const best = new Map<number, EgressRoute>();
  for (const route of routes) {
    if (NOT_OUTSIDE.some((prefix) => covers(prefix, route.destination.address))) {
      if (route.destination.length > 0) continue;
    }
    const key = keyOf(route.destination.address, route.destination.length);
    const other = best.get(key);
    if (other === undefined || route.metric < other.metric) best.set(key, route);
  }
  const sorted = [...best.values()].sort(
    (a, b) =>
      a.destination.length - b.destination.length ||
      (a.destination.address >>> 0) - (b.destination.address >>> 0),
  );
  const kept = new Map<number, number>();
  const table: TableInput["egress"] = [];
  for (const route of sorted) {
    const { address, length } = route.destination;
    const source = ownLinks.has(route.link) ? 0 : sourceOf(route, addresses);
    if (source === around(kept, address, length)) continue;
    kept.set(keyOf(address, length), source);
    table.push({ address, length, source });
  }
  return table;
}

/** What the longest kept prefix around this one says; 0 without one. */
function around(kept: ReadonlyMap<number, number>, address: number, length: number): number {
  for (let n = length - 1; n >= 0; n--) {
    const source = kept.get(keyOf(address & maskOf(n), n));
    if (source !== undefined) return source;
  }
  return 0;
}

/** Both in one number, since there may be thousands. */
function keyOf(address: number, length: number): number {
  return (address >>> 0) * 64 + length;
}

function sourceOf(route: EgressRoute, addresses: readonly EgressAddress[]): number {
  if (route.link === 0) return 0;
  if (route.source !== null) return route.source;
  const scope = route.gateway === null ? SCOPE_LINK : SCOPE_UNIVERSE;
  const fit = addresses.filter((each) => !each.secondary && each.scope <= scope);
  const here = fit.filter(({ link }) => link === route.link);
  const near = here.find((each) => route.gateway !== null && covers(each, route.gateway));
  return (near ?? here[0] ?? fit.find((each) => each.scope !== SCOPE_LINK))?.address ?? 0;
}
