import { describe, expect, test } from "vitest";
import { type FlowTable, newFlowTable, FlowTable as Table } from "../../../src/tables/FlowTable.js";
import { type FlowFilter, flowTests } from "../../../src/tables/flowFilter.js";
import {
  FLAG_DNAT,
  FLOW_BACKEND,
  FLOW_SERVICE,
  FLOW_STATE,
  STATE_FREE,
  TCP_ESTABLISHED,
  TIMEOUT_OF,
  UDP_UNREPLIED,
} from "../../../src/tables/flowLayout.js";
import {
  FRONTEND_CLUSTER_IP,
  FRONTEND_NODE_PORT,
  RING_DROP,
  RING_REJECT,
  ServiceTable,
  ServiceTableBuilder,
} from "../../../src/tables/ServiceTable.js";
import { FlowUpkeep } from "../../../src/worker/FlowUpkeep.js";
import { draft } from "../../support/flows.js";

const UDP = 17;

/** A table of UDP flows, each with another client port; `of(n)` says service and backend. */
function filled(flows: number, of: (n: number) => [number, number], nowMs = 0): FlowTable {
  const table = new Table(newFlowTable(65_536));
  for (let n = 0; n < flows; n++) {
    const words = draft(
      UDP,
      {
        source: 0x0a010001 + (n >> 15),
        destination: 0x0a98b701,
        sourcePort: 1024 + (n & 0x7fff),
        destinationPort: 53,
      },
      undefined,
      UDP_UNREPLIED,
    );
    [words[FLOW_SERVICE], words[FLOW_BACKEND]] = of(n);
    if (table.insert(words, nowMs) < 0) throw new Error("not inserted");
  }
  return table;
}

const backend = (service: number, number: number): Int32Array =>
  flowTests({ protocol: UDP, service, backend: number } satisfies FlowFilter);

describe("flush", () => {
  test("goes on over breaths, without sleep, until all are gone, one request after another", () => {
    const table = filled(40_000, (n) => [1 + (n & 1), 1 + (n % 10)]);
    const upkeep = new FlowUpkeep(table, false);
    const done: number[] = [];
    expect(upkeep.longestWait(1000, 0)).toBe(1000);
    // Service 1 has the odd backends, service 2 the even ones.
    upkeep.flush([backend(1, 1), backend(2, 4), backend(2, 3)], (removed) => done.push(removed));
    upkeep.flush([flowTests({ service: 2 })], (removed) => done.push(removed));
    let breaths = 0;
    for (; done.length < 2; breaths++) {
      expect(upkeep.longestWait(1000, 0)).toBe(0);
      const before = table.size;
      upkeep.tend(0, true);
      // 4096 tests a breath.
      expect(before - table.size).toBeLessThanOrEqual(4096);
    }
    expect(breaths).toBeGreaterThan(30);
    expect(done).toEqual([8_000, 16_000]);
    expect(table.size).toBe(16_000);
    expect(upkeep.longestWait(1000, 0)).toBe(1000);
  });

  test("an empty table is done at once", () => {
    const upkeep = new FlowUpkeep(new Table(newFlowTable(16)), true);
    let done = -1;
    upkeep.flush([flowTests({})], (removed) => {
      done = removed;
    });
    upkeep.tend(0, false);
    expect(done).toBe(0);
  });
});

describe("flows of an agent before", () => {
  const [TCP, VIP] = [6, 0x0a98b701];
  const [FIRST, SECOND, GONE] = [0x0a014f41, 0x0a014f42, 0x0a014f43];

  /** Port 80 of VIP and node port 30080, with the first two backends at 8080. */
  function services(): ServiceTable {
    const builder = new ServiceTableBuilder();
    const ring = builder.acquireRing(Int32Array.of(FIRST, 8080, 0, 11, SECOND, 8080, 0, 12));
    const row = { affinitySeconds: 0, affinityKey: 0, inside: ring, outside: RING_DROP, ranges: 0 };
    for (const protocol of [TCP, UDP]) {
      builder.setFrontend(VIP, protocol, 80, { ...row, flags: FRONTEND_CLUSTER_IP, service: protocol });
      builder.setFrontend(0, protocol, 30080, {
        ...row,
        inside: RING_REJECT,
        outside: ring,
        flags: FRONTEND_NODE_PORT,
        service: protocol,
      });
    }
    const table = new ServiceTable();
    table.adopt(builder.commit());
    return table;
  }

  const asked = (
    protocol: number,
    port: number,
    to: number,
    l4Port: number,
    backend: number,
    flags: number,
  ) =>
    draft(
      protocol,
      { source: 0x0a01ebd1, destination: to, sourcePort: port, destinationPort: l4Port },
      { source: backend, destination: 0x0a01ebd1, sourcePort: 8080, destinationPort: port },
      protocol === UDP ? UDP_UNREPLIED : TCP_ESTABLISHED,
      flags,
    );

  test("get the numbers of now; UDP to a backend that went meanwhile ends", () => {
    const table = new Table(newFlowTable(65_536));
    const flow = (...args: Parameters<typeof asked>) => table.insert(asked(...args), 0);
    const dnat = FLAG_DNAT;
    // More than one breath's worth in front of them.
    for (let n = 0; n < 2_000; n++) flow(TCP, n, FIRST, 9, FIRST, 0);
    const records = {
      udp: flow(UDP, 1, VIP, 80, FIRST, dnat),
      tcp: flow(TCP, 1, VIP, 80, SECOND, dnat),
      nodePort: flow(UDP, 2, 0xc0a8021e | 0, 30080, SECOND, dnat),
      udpGone: flow(UDP, 3, VIP, 80, GONE, dnat),
      tcpGone: flow(TCP, 3, VIP, 80, GONE, dnat),
      plain: flow(UDP, 4, FIRST, 80, FIRST, 0),
      deleted: flow(UDP, 5, VIP + 1, 80, GONE, dnat),
      noSuchPort: flow(UDP, 6, VIP, 30080, FIRST, dnat),
    };
    const upkeep = new FlowUpkeep(table, true);
    const identify = (known: ServiceTable) => {
      upkeep.identify(known);
      let breaths = 0;
      for (; upkeep.longestWait(1000, 0) === 0; breaths++) upkeep.tend(0, true);
      return breaths;
    };
    // Before anything is known of Services nothing is decided.
    expect(identify(new ServiceTable())).toBe(4);
    expect(table.size).toBe(2_008);
    expect(identify(services())).toBe(4);
    const seen = Object.entries(records).map(([name, record]) => {
      const base = table.base(record);
      const living = table.words[base + FLOW_STATE] !== STATE_FREE;
      return [name, living ? [table.words[base + FLOW_SERVICE], table.words[base + FLOW_BACKEND]] : "gone"];
    });
    expect(Object.fromEntries(seen)).toEqual({
      udp: [UDP, 11],
      tcp: [TCP, 12],
      nodePort: [UDP, 12],
      udpGone: "gone",
      tcpGone: [TCP, 0],
      plain: [0, 0],
      deleted: [0, 0],
      noSuchPort: [0, 0],
    });
  });

  test("UDP flows to what becomes a Service's address end, those of other protocols go on", () => {
    const table = new Table(newFlowTable(1024));
    const around = (protocol: number, to: number, port: number) => {
      const own = { source: 0x0a01ebd1, destination: to, sourcePort: 7, destinationPort: port };
      const egress = { source: to, destination: 0xc0a8021e | 0, sourcePort: port, destinationPort: 61_007 };
      return table.insert(
        draft(protocol, own, egress, protocol === UDP ? UDP_UNREPLIED : TCP_ESTABLISHED),
        0,
      );
    };
    const upkeep = new FlowUpkeep(table, true);
    const identify = (known: ServiceTable) => {
      upkeep.identify(known);
      while (upkeep.longestWait(1000, 0) === 0) upkeep.tend(0, true);
    };
    const [stale, tcp] = [around(UDP, VIP, 80), around(TCP, VIP, 80)];
    const [otherPort, other] = [around(UDP, VIP, 81), around(UDP, VIP + 1, 80)];
    // Nothing is looked for once all flows have their numbers, until a frontend is added.
    identify(new ServiceTable());
    expect(table.size).toBe(4);
    identify(services());
    const living = (record: number) => table.words[table.base(record) + FLOW_STATE] !== STATE_FREE;
    expect([stale, tcp, otherPort, other].map(living)).toEqual([false, true, true, true]);
  });

  test("are looked for until none is left", () => {
    const table = new Table(newFlowTable(1024));
    table.insert(asked(UDP, 1, VIP, 80, FIRST, FLAG_DNAT), 0);
    const upkeep = new FlowUpkeep(table, true);
    for (const known of [new ServiceTable(), services()]) {
      upkeep.identify(known);
      expect(upkeep.longestWait(1000, 0)).toBe(0);
      upkeep.tend(0, true);
    }
    // One frontend more and one less is a change; a ring or nothing at all is none.
    const known = services();
    upkeep.identify(known);
    upkeep.tend(0, true);
    upkeep.identify(known);
    expect(upkeep.longestWait(1000, 0)).toBe(1000);
  });
});

describe("ageing", () => {
  const later = TIMEOUT_OF[UDP_UNREPLIED] + 1;

  test("a sleeping thread removes what has expired", () => {
    const table = filled(20_000, () => [0, 0], -100);
    const upkeep = new FlowUpkeep(table, true);
    for (let now = 0; now < later - 100; now += 1000) upkeep.tend(now, false);
    expect(table.size).toBe(20_000);
    // A round takes four seconds.
    for (let now = later; now <= later + 8_000; now += 1000) upkeep.tend(now, false);
    expect(table.size).toBe(0);
  });

  test("a busy thread does so too, a few in each breath", () => {
    const table = filled(20_000, () => [0, 0]);
    const upkeep = new FlowUpkeep(table, true);
    for (let now = later; now <= later + 8_000; now++) {
      const before = table.size;
      upkeep.tend(now, true);
      expect(before - table.size).toBeLessThanOrEqual(512);
    }
    expect(table.size).toBe(0);
  });

  test("packets that come seldom do not hold it up: the thread takes a breath between them", () => {
    const table = filled(20_000, () => [0, 0]);
    const upkeep = new FlowUpkeep(table, true);
    let now = later;
    for (let packets = 0; packets < 60; packets++) {
      // The next packet is 200 ms away; the thread wakes before where it asked for that.
      const wait = upkeep.longestWait(1000, now);
      if (wait < 200) upkeep.tend(now + wait, false);
      now += 200;
      upkeep.tend(now, true);
    }
    expect(table.size).toBe(0);
  });

  test("only one thread does it", () => {
    const table = filled(100, () => [0, 0]);
    const upkeep = new FlowUpkeep(table, false);
    for (let now = later; now <= later + 10_000; now += 100) upkeep.tend(now, false);
    expect(table.size).toBe(100);
    expect(upkeep.longestWait(1000, later + 100_000)).toBe(1000);
  });
});
