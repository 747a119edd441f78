/** Hash lookups at 1 to 1,000,000 entries, in random order. */

import { buildFdb, Fdb } from "../../src/tables/Fdb.js";
import { FlowTable, formatFlowTable } from "../../src/tables/FlowTable.js";
import {
  FLOW_ORIGINAL,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_STATE,
  FLOW_WORDS,
  flowTableBytes,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  TCP_ESTABLISHED,
} from "../../src/tables/flowLayout.js";
import { buildRouteTable, RouteTable } from "../../src/tables/RouteTable.js";
import { blackHole, type MicroCase, type MicroSuite } from "./suite.js";

const SIZES = [1, 1_000, 100_000, 1_000_000];
/** VTEP indices are 16 bits, and a VTEP has one node. */
const VTEPS = [1, 1_000, 65_536];
/** Lookups in a call. */
const LOOKUPS = 4096;
/** Addresses drawn; every call goes on where the last one stopped, so that caches hold no answer ready. */
const DRAWN = 1 << 20;
/** Rows of a batch of flow lookups. */
const BATCH = 64;
const TCP = 6;
const VIP = 0x0a98b707;
const FLOW_PORTS = (5000 << 16) | 80;
const REPLY_PORTS = (80 << 16) | 5000;
const MAC = { hi: 0x6600, lo: 1 };
/** Targets must fit 24 bits. */
const TARGETS = 1 << 20;

export function lookupSuite(): MicroSuite {
  return {
    title: "Hash lookup, random hits",
    unit: "lookup",
    cumulative: false,
    cases: [
      ...SIZES.map(routeCase),
      ...VTEPS.map(fdbCase),
      ...SIZES.map((flows) => flowCase(flows, BATCH)),
      ...SIZES.map((flows) => flowCase(flows, 1)),
    ],
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
    tags: true,
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

/** Flows of one VIP from `entries` clients, half of the lookups by the reply; in batches of `batch` rows. */
function flowCase(entries: number, batch: number): MicroCase {
  let capacity = 2;
  while (capacity < entries) capacity *= 2;
  const buffer = new SharedArrayBuffer(flowTableBytes(capacity));
  formatFlowTable(buffer, capacity, [0x01234567, 0x89abcdef | 0]);
  const table = new FlowTable(buffer);
  const draft = new Int32Array(FLOW_WORDS);
  draft[FLOW_PROTOCOL] = TCP;
  draft[FLOW_STATE] = TCP_ESTABLISHED;
  draft[FLOW_ORIGINAL + KEY_DESTINATION] = VIP;
  draft[FLOW_ORIGINAL + KEY_PORTS] = FLOW_PORTS;
  draft[FLOW_REPLY + KEY_SOURCE] = VIP;
  draft[FLOW_REPLY + KEY_PORTS] = REPLY_PORTS;
  for (let index = 0; index < entries; index++) {
    draft[FLOW_ORIGINAL + KEY_SOURCE] = addressOf(index);
    draft[FLOW_REPLY + KEY_DESTINATION] = addressOf(index);
    if (table.insert(draft, 0) < 0) throw new Error("the flow table is full");
  }
  const column = () => new Int32Array(batch);
  const rows = Int32Array.from({ length: batch }, (_, row) => row);
  const [source, destination, ports, tag, record, direction] = [
    column(),
    column(),
    column(),
    column(),
    column(),
    column(),
  ];
  const protocol = column().fill(TCP);
  const clients = draw(entries);
  let next = 0;
  return {
    name: `flow table, ${entries.toLocaleString("en")} flows, ${batch === 1 ? "one by one" : `batches of ${batch}`}`,
    operations: LOOKUPS,
    run() {
      let sum = 0;
      for (let done = 0; done < LOOKUPS; done += batch) {
        for (let row = 0; row < batch; row++) {
          const client = clients[next++];
          const reply = (client & 1) !== 0;
          source[row] = reply ? VIP : client;
          destination[row] = reply ? client : VIP;
          ports[row] = reply ? REPLY_PORTS : FLOW_PORTS;
        }
        table.lookup(rows, batch, source, destination, ports, protocol, tag, record, direction);
        for (let row = 0; row < batch; row++) sum += record[row];
      }
      next &= DRAWN - 1;
      blackHole.value = sum;
    },
  };
}
