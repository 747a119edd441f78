/**
 * IPv4 routes by longest prefix: one open-addressing table for each prefix length in use, longest
 * first. A cluster has two or three lengths (/32 pods and nodes, /26 blocks), so a lookup is two or
 * three probes, whatever the number of nodes.
 *
 *   section: [number of lengths] then per length [mask, buckets - 1, start of buckets]
 *   bucket:  [address, route]      route 0: empty
 *   route:   to << 24 | target
 */
import { bucketsFor, hashAddress } from "./hash.js";
import type { TableInput } from "./TableInput.js";

export const ROUTE_PORT = 1;
export const ROUTE_VTEP = 2;
export const ROUTE_UNREACHABLE = 3;

/** No route at all. */
export const NO_ROUTE = 0;

const TO = { port: ROUTE_PORT, vtep: ROUTE_VTEP, unreachable: ROUTE_UNREACHABLE } as const;

/** The mask of a prefix length 0 … 32, as int32. */
export function mask(length: number): number {
  return length === 0 ? 0 : -1 << (32 - length);
}

/** A route that leads to a port number (ROUTE_PORT) or a VTEP's index (ROUTE_VTEP). */
export function routeOf(to: number, target: number): number {
  return (to << 24) | target;
}

/** What a route leads to: ROUTE_PORT, ROUTE_VTEP or ROUTE_UNREACHABLE. */
export function routeTo(route: number): number {
  return route >>> 24;
}

/** Port number or VTEP index of a route. */
export function routeTarget(route: number): number {
  return route & 0xffffff;
}

/** Builds the section. Throws RangeError on a target over 24 bits, host bits or a duplicate prefix. */
export function buildRouteTable(routes: TableInput["routes"]): Int32Array {
  const lengths = [...new Set(routes.map((r) => r.length))].sort((a, b) => b - a);
  const groups = lengths.map((length) => routes.filter((r) => r.length === length));
  const head = 1 + 3 * lengths.length;
  const section = new Int32Array(head + groups.reduce((sum, g) => sum + 2 * bucketsFor(g.length), 0));
  section[0] = lengths.length;
  let at = head;
  groups.forEach((group, g) => {
    const m = mask(lengths[g]);
    const buckets = bucketsFor(group.length);
    section.set([m, buckets - 1, at], 1 + 3 * g);
    for (const route of group) {
      if ((route.address & m) !== route.address) throw new RangeError("route with host bits");
      if (route.target < 0 || route.target > 0xffffff) throw new RangeError("route target out of range");
      let b = hashAddress(route.address) & (buckets - 1);
      while (section[at + 2 * b + 1] !== 0) {
        if (section[at + 2 * b] === route.address) throw new RangeError("two routes for one prefix");
        b = (b + 1) & (buckets - 1);
      }
      section[at + 2 * b] = route.address;
      section[at + 2 * b + 1] = routeOf(TO[route.to], route.target);
    }
    at += 2 * buckets;
  });
  return section;
}

export class RouteTable {
  readonly #image: Int32Array;
  readonly #start: number;

  constructor(image: Int32Array, start: number) {
    this.#image = image;
    this.#start = start;
  }

  /** Length of the longest prefix that has a route for an address, -1 without one. For explanations. */
  prefixLength(address: number): number {
    const image = this.#image;
    const start = this.#start;
    for (let g = start + 1, end = start + 1 + 3 * image[start]; g < end; g += 3) {
      const key = address & image[g];
      const buckets = start + image[g + 2];
      for (let b = 0; b <= image[g + 1]; b++) {
        const at = buckets + 2 * b;
        if (image[at + 1] !== 0 && image[at] === key) return Math.clz32(~image[g]);
      }
    }
    return -1;
  }

  /** The route of the longest matching prefix, NO_ROUTE without one. */
  lookup(address: number): number {
    const image = this.#image;
    const start = this.#start;
    const end = start + 1 + 3 * image[start];
    for (let g = start + 1; g < end; g += 3) {
      const key = address & image[g];
      const last = image[g + 1];
      const buckets = start + image[g + 2];
      let b = hashAddress(key) & last;
      for (;;) {
        const at = buckets + 2 * b;
        const route = image[at + 1];
        if (route === 0) break;
        if (image[at] === key) return route;
        b = (b + 1) & last;
      }
    }
    return NO_ROUTE;
  }
}
