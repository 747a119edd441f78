/**
 * Hash lookups at 1 to 1,000,000 entries, in random order. A flow table comes with service
 * translation; until then the route table and the FDB, which probe in the same way, stand for it.
 */

import { buildFdb, Fdb } from "../../src/tables/Fdb.js";
import { buildRouteTable, RouteTable } from "../../src/tables/RouteTable.js";
import { blackHole, type MicroCase, type MicroSuite } from "./suite.js";

const SIZES = [1, 1_000, 100_000, 1_000_000];
/** Lookups in a call. */
const LOOKUPS = 4096;
/** Addresses drawn; every call goes on where the last one stopped, so that caches hold no answer ready. */
const DRAWN = 1 << 20;
const MAC = { hi: 0x6600, lo: 1 };
/** Targets must fit 24 bits. */
const TARGETS = 1 << 20;

export function lookupSuite(): MicroSuite {
  return {
    title: "Hash lookup, random hits",
    unit: "lookup",
    cumulative: false,
    cases: [...SIZES.map(routeCase), ...SIZES.map(fdbCase)],
  };
}

/** Distinct addresses without an order: an odd multiplier permutes the 32-bit numbers. */
function addressOf(index: number): number {
  return Math.imul(index + 1, 0x9e3779b1);
}

/** Addresses to look up, drawn with a fixed seed. */
function draw(entries: number): Int32Array {
  let state = 1;
  return Int32Array.from({ length: DRAWN }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return addressOf((state >>> 0) % entries);
  });
}

function routeCase(entries: number): MicroCase {
  const routes = Array.from({ length: entries }, (_, index) => ({
    address: addressOf(index),
    length: 32,
    to: "vtep" as const,
    target: index % TARGETS,
  }));
  const table = new RouteTable(buildRouteTable(routes), 0);
  const keys = draw(entries);
  let next = 0;
  return {
    name: `route table, ${entries.toLocaleString("en")} routes`,
    operations: LOOKUPS,
    run() {
      let sum = 0;
      const end = next + LOOKUPS;
      for (; next < end; next++) sum += table.lookup(keys[next]);
      next &= DRAWN - 1;
      blackHole.value = sum;
    },
  };
}

function fdbCase(entries: number): MicroCase {
  const vteps = Array.from({ length: entries }, (_, index) => ({
    index,
    address: addressOf(index),
    udpPort: 4789,
    mac: MAC,
    tunnelAddress: addressOf(index),
  }));
  const table = new Fdb(buildFdb(vteps), 0);
  const keys = draw(entries);
  let next = 0;
  return {
    name: `FDB, ${entries.toLocaleString("en")} VTEPs`,
    operations: LOOKUPS,
    run() {
      let sum = 0;
      const end = next + LOOKUPS;
      for (; next < end; next++) sum += table.byUnderlay(keys[next]);
      next &= DRAWN - 1;
      blackHole.value = sum;
    },
  };
}
