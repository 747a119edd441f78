import { describe, expect, it } from "vitest";
import {
  buildRouteTable,
  mask,
  NO_ROUTE,
  ROUTE_PORT,
  ROUTE_UNREACHABLE,
  ROUTE_VTEP,
  RouteTable,
  routeTarget,
  routeTo,
} from "../../../src/tables/RouteTable.js";
import type { TableInput } from "../../../src/tables/TableInput.js";
import { address, dotted } from "../../support/frames.js";
import { Random } from "../../support/random.js";

type Routes = TableInput["routes"];

const TO = { port: ROUTE_PORT, vtep: ROUTE_VTEP, unreachable: ROUTE_UNREACHABLE };

/** A table at an odd start inside its image, as TableImage places it. */
function table(routes: Routes): RouteTable {
  const section = buildRouteTable(routes);
  const image = new Int32Array(section.length + 7).fill(-1);
  image.set(section, 7);
  return new RouteTable(image, 7);
}

/** The plain reference: all routes, longest match. */
function plainLookup(routes: Routes, wanted: number): Routes[number] | null {
  let best: Routes[number] | null = null;
  for (const route of routes) {
    const hostBits = 2 ** (32 - route.length);
    const inside = Math.floor((wanted >>> 0) / hostBits) === Math.floor((route.address >>> 0) / hostBits);
    if (inside && (best === null || route.length > best.length)) best = route;
  }
  return best;
}

function randomRoutes(random: Random, count: number, lengths: readonly number[]): Routes {
  const seen = new Set<string>();
  const routes: Routes = [];
  // Close together, so that prefixes lie inside one another.
  const base = address("10.0.0.0");
  for (let n = 0; n < count; n++) {
    const length = random.pick(lengths);
    const near = base | (random.word() & (random.oneIn(4) ? -1 : 0x000fffff));
    const prefix = near & mask(length);
    const key = `${prefix}/${length}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const to = random.pick(["port", "vtep", "unreachable"] as const);
    routes.push({ address: prefix, length, to, target: random.below(0x1000000) });
  }
  return routes;
}

describe("RouteTable", () => {
  it("finds the longest prefix among the walkthrough's", () => {
    const routes = table([
      { address: address("10.1.235.192"), length: 32, to: "port", target: 0 },
      { address: address("10.1.235.193"), length: 32, to: "port", target: 2 },
      { address: address("10.1.235.192"), length: 26, to: "unreachable", target: 0 },
      { address: address("10.1.79.64"), length: 26, to: "vtep", target: 5 },
    ]);
    const answers = ["10.1.235.192", "10.1.235.193", "10.1.235.255", "10.1.79.64", "10.1.79.128"].map((a) => {
      const route = routes.lookup(address(a));
      return [a, routeTo(route), routeTarget(route)];
    });
    expect(answers).toEqual([
      ["10.1.235.192", ROUTE_PORT, 0],
      ["10.1.235.193", ROUTE_PORT, 2],
      ["10.1.235.255", ROUTE_UNREACHABLE, 0],
      ["10.1.79.64", ROUTE_VTEP, 5],
      ["10.1.79.128", routeTo(NO_ROUTE), 0],
    ]);
    expect(routes.lookup(address("10.1.79.128"))).toBe(NO_ROUTE);
  });

  it("an empty table has no route", () => {
    expect(table([]).lookup(0)).toBe(NO_ROUTE);
    expect(table([]).lookup(-1)).toBe(NO_ROUTE);
  });

  it("a default route takes what nothing else does, 0.0.0.0 and 255.255.255.255 included", () => {
    const routes = table([{ address: 0, length: 0, to: "vtep", target: 0xffffff }]);
    for (const wanted of [0, -1, address("192.0.2.1")]) {
      expect(routeTo(routes.lookup(wanted))).toBe(ROUTE_VTEP);
      expect(routeTarget(routes.lookup(wanted))).toBe(0xffffff);
    }
  });

  it("masks", () => {
    expect([0, 1, 8, 26, 31, 32].map((length) => mask(length) >>> 0)).toEqual([
      0, 0x80000000, 0xff000000, 0xffffffc0, 0xfffffffe, 0xffffffff,
    ]);
  });

  const all = Array.from({ length: 33 }, (_, length) => length);
  it.each([
    { seed: 1, count: 0, lengths: all },
    { seed: 2, count: 1, lengths: all },
    { seed: 3, count: 50, lengths: all },
    { seed: 4, count: 500, lengths: all },
    { seed: 5, count: 3000, lengths: [26, 32] },
    { seed: 6, count: 3000, lengths: all },
    { seed: 7, count: 200, lengths: [0, 1, 31, 32] },
  ])("equals the plain longest-prefix match: seed $seed, $count routes", ({ seed, count, lengths }) => {
    const random = new Random(seed);
    const routes = randomRoutes(random, count, lengths);
    const fast = table(routes);
    const wanted: number[] = [];
    for (let n = 0; n < 500; n++) wanted.push(address("10.0.0.0") | (random.word() & 0x000fffff));
    for (let n = 0; n < 100; n++) wanted.push(random.word());
    for (let n = 0; n < 400 && routes.length > 0; n++) {
      // Borders of prefixes: first, last, one before, one behind.
      const { address: prefix, length } = random.pick(routes);
      wanted.push(prefix, prefix | ~mask(length), (prefix - 1) | 0, ((prefix | ~mask(length)) + 1) | 0);
    }
    for (const a of wanted) {
      const expected = plainLookup(routes, a);
      const found = fast.lookup(a);
      const text = `${dotted(a)} ${found}`;
      if (expected === null) expect(found, text).toBe(NO_ROUTE);
      else {
        expect(routeTo(found), text).toBe(TO[expected.to]);
        expect(routeTarget(found), text).toBe(expected.target);
      }
    }
  });

  it.each([
    ["host bits", [{ address: address("10.1.0.1"), length: 16, to: "vtep", target: 0 }]],
    ["a target over 24 bits", [{ address: 0, length: 0, to: "vtep", target: 0x1000000 }]],
    ["a negative target", [{ address: 0, length: 0, to: "port", target: -1 }]],
    [
      "one prefix twice",
      [
        { address: address("10.1.0.0"), length: 16, to: "vtep", target: 0 },
        { address: address("10.1.0.0"), length: 16, to: "vtep", target: 1 },
      ],
    ],
  ] as [string, Routes][])("refuses %s", (_, routes) => {
    expect(() => buildRouteTable(routes)).toThrow(RangeError);
  });

  it("one address with two lengths is no duplicate", () => {
    const a = address("10.1.0.0");
    const routes = table([
      { address: a, length: 16, to: "vtep", target: 1 },
      { address: a, length: 32, to: "vtep", target: 2 },
    ]);
    expect(routeTarget(routes.lookup(a))).toBe(2);
    expect(routeTarget(routes.lookup(a + 1))).toBe(1);
  });
});
