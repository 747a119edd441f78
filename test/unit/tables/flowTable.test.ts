import { describe, expect, it } from "vitest";
import {
  CYCLE_MS,
  FlowTable,
  formatFlowTable,
  INSERT_FULL,
  INSERT_ORIGINAL_TAKEN,
  INSERT_REPLY_TAKEN,
} from "../../../src/tables/FlowTable.js";
import { flowTests } from "../../../src/tables/flowFilter.js";
import {
  echoPorts,
  FLOW_BACKEND,
  FLOW_MAGIC,
  FLOW_ORIGINAL,
  FLOW_REPLY,
  FLOW_SEEN,
  FLOW_SEQUENCE,
  FLOW_STATE,
  FLOW_VERSION,
  FLOW_WORDS,
  FlowCounter,
  flowTableBytes,
  HEADER_CAPACITY,
  HEADER_LOCK,
  HEADER_MAGIC,
  HEADER_RECORD_WORDS,
  HEADER_VERSION,
  KEY_SOURCE,
  STATE_FREE,
  TCP_CLOSE,
  TCP_ESTABLISHED,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
  TCP_TIME_WAIT,
  TIMEOUT_OF,
  turnedPorts,
  UDP_REPLIED,
  UDP_STREAM,
  UDP_UNREPLIED,
} from "../../../src/tables/flowLayout.js";
import { draft, find, type Key, newTable, portsOf, turned } from "../../support/flows.js";
import { address } from "../../support/frames.js";
import { Random } from "../../support/random.js";

const TCP = 6;
const UDP = 17;
const CLIENT: Key = {
  source: "192.168.2.10",
  destination: "192.168.2.36",
  sourcePort: 5000,
  destinationPort: 8080,
};
const POD_REPLY: Key = {
  source: "10.1.79.65",
  destination: "192.168.2.10",
  sourcePort: 80,
  destinationPort: 5000,
  tag: 0x1234567,
};

/** The nth of many keys. */
function key(n: number): Key {
  return { source: 0x0a000000 + n, destination: "10.152.183.7", sourcePort: n & 0xffff, destinationPort: 80 };
}

/** Inserts the nth flow; returns its record. */
function insert(table: FlowTable, n: number, state: number, nowMs: number, protocol = TCP): number {
  const original = key(n);
  const reply = { ...turned(original), source: "10.1.79.65" };
  return table.insert(draft(protocol, original, reply, state), nowMs);
}

describe("FlowTable", () => {
  it("finds a flow by what arrives in either direction, and by nothing else", () => {
    const table = newTable(16);
    const record = table.insert(draft(TCP, CLIENT, POD_REPLY), 0);
    expect(record).toBeGreaterThanOrEqual(0);
    expect(find(table, TCP, CLIENT)).toBe(2 * record);
    expect(find(table, TCP, POD_REPLY)).toBe(2 * record + 1);
    const others: [number, Key][] = [
      [UDP, CLIENT],
      [TCP, { ...CLIENT, source: "192.168.2.11" }],
      [TCP, { ...CLIENT, destination: "192.168.2.37" }],
      [TCP, { ...CLIENT, sourcePort: 5001 }],
      [TCP, { ...CLIENT, destinationPort: 8081 }],
      [TCP, { ...CLIENT, tag: 1 }],
      [TCP, { ...POD_REPLY, tag: 0 }],
      [TCP, turned(CLIENT)],
    ];
    for (const [protocol, other] of others) expect(find(table, protocol, other)).toBe(-1);
    expect(table.size).toBe(1);
  });

  it("keeps apart what differs in the tag only", () => {
    const table = newTable(16);
    const pod: Key = {
      source: "192.168.2.10",
      destination: "10.1.79.65",
      sourcePort: 5000,
      destinationPort: 80,
    };
    const first = table.insert(draft(TCP, { ...pod, tag: 1 }), 0);
    // The same client and port to another VIP: its reply could not be told from the first one's.
    expect(table.insert(draft(TCP, { ...pod, tag: 2 }), 0)).toBe(INSERT_REPLY_TAKEN);
    expect(table.conflict).toBe(2 * first + 1);
    expect(table.size).toBe(1);
    // The caller rewrites the second one's source port.
    const second = table.insert(
      draft(TCP, { ...pod, tag: 2 }, { ...turned(pod), destinationPort: 61000 }),
      0,
    );
    expect(find(table, TCP, { ...pod, tag: 1 })).toBe(2 * first);
    expect(find(table, TCP, { ...pod, tag: 2 })).toBe(2 * second);
    expect(find(table, TCP, { ...turned(pod), destinationPort: 61000 })).toBe(2 * second + 1);
  });

  it("refuses a taken original key, and a flow that could not tell its directions apart", () => {
    const table = newTable(16);
    const record = table.insert(draft(TCP, CLIENT, POD_REPLY), 0);
    expect(table.insert(draft(TCP, CLIENT), 0)).toBe(INSERT_ORIGINAL_TAKEN);
    expect(table.conflict).toBe(2 * record);
    const self: Key = {
      source: "10.1.79.65",
      destination: "10.1.79.65",
      sourcePort: 80,
      destinationPort: 80,
    };
    expect(table.insert(draft(TCP, self), 0)).toBe(INSERT_REPLY_TAKEN);
    expect(table.conflict).toBe(-1);
    expect(find(table, TCP, self)).toBe(-1);
    expect(table.size).toBe(1);
  });

  it("an expired flow makes room for one with its key before ageing comes past", () => {
    const table = newTable(16);
    const first = insert(table, 1, UDP_UNREPLIED, 0, UDP);
    expect(insert(table, 1, UDP_UNREPLIED, 30_000, UDP)).toBe(INSERT_ORIGINAL_TAKEN);
    const second = insert(table, 1, UDP_UNREPLIED, 30_001, UDP);
    expect(second).toBeGreaterThanOrEqual(0);
    expect(find(table, UDP, key(1))).toBe(2 * second);
    expect(table.size).toBe(1);
    expect(first === second || table.words[table.base(first) + FLOW_STATE] === STATE_FREE).toBe(true);
  });

  it("removes both directions at once, and a second time not", () => {
    const table = newTable(16);
    const record = table.insert(draft(TCP, CLIENT, POD_REPLY), 0);
    expect(table.remove(record)).toBe(true);
    expect(table.remove(record)).toBe(false);
    expect([find(table, TCP, CLIENT), find(table, TCP, POD_REPLY), table.size]).toEqual([-1, -1, 0]);
    expect(table.setState(record, STATE_FREE, TCP_ESTABLISHED, 0)).toBe(false);
  });

  it("a removed record stays readable until the breath ends, and only then is given out again", () => {
    const table = newTable(2);
    table.enterBreath();
    const first = insert(table, 1, UDP_STREAM, 0, UDP);
    const second = insert(table, 2, UDP_STREAM, 0, UDP);
    const used = new Set([first, second]);
    table.remove(first);
    const third = insert(table, 3, UDP_STREAM, 0, UDP);
    expect(used.has(third)).toBe(false);
    expect(table.words[table.base(first) + FLOW_ORIGINAL + KEY_SOURCE]).toBe(0x0a000001);
    table.remove(second);
    const fourth = insert(table, 4, UDP_STREAM, 0, UDP);
    expect(used.has(fourth)).toBe(false);
    table.remove(third);
    // The reserve is used up as long as the breath lasts.
    expect(insert(table, 5, UDP_STREAM, 0, UDP)).toBe(INSERT_FULL);
    expect(table.counter(FlowCounter.refused)).toBe(1);
    table.leaveBreath();
    table.enterBreath();
    expect(used.has(insert(table, 5, UDP_STREAM, 0, UDP))).toBe(true);
    table.leaveBreath();
  });

  it("another thread within its breath keeps removed records, one that sleeps does not", () => {
    const buffer = new SharedArrayBuffer(flowTableBytes(2));
    formatFlowTable(buffer, 2, [1, 2]);
    const [a, b] = [new FlowTable(buffer, 0), new FlowTable(buffer, 1)];
    b.enterBreath();
    a.enterBreath();
    const removed = [1, 2, 3, 4].map((n) => {
      const record = insert(a, n, UDP_STREAM, 0, UDP);
      a.remove(record);
      a.leaveBreath();
      a.enterBreath();
      return record;
    });
    // Two of capacity, two in reserve: while b may hold them, none is given out again.
    expect(new Set(removed).size).toBe(4);
    expect(insert(a, 5, UDP_STREAM, 0, UDP)).toBe(INSERT_FULL);
    b.leaveBreath();
    a.leaveBreath();
    a.enterBreath();
    expect(removed).toContain(insert(a, 5, UDP_STREAM, 0, UDP));
    expect(removed).toContain(insert(a, 6, UDP_STREAM, 0, UDP));
  });

  it("looks up a batch as it finds single keys, in the rows asked for", () => {
    const table = newTable(512);
    const random = new Random(7);
    const flows = Array.from({ length: 300 }, (_, n) => insert(table, n, TCP_SYN_SENT, 0));
    const size = 256;
    const column = () => new Int32Array(size);
    const [source, destination, ports, protocol, tag] = [column(), column(), column(), column(), column()];
    const [record, direction] = [column().fill(-7), column().fill(-7)];
    const rows = column();
    let count = 0;
    const expected = new Map<number, number>();
    for (let i = 0; i < size; i++) {
      if (random.oneIn(5)) continue;
      const n = random.below(400);
      const k = random.oneIn(2) ? key(n) : { ...turned(key(n)), source: "10.1.79.65" };
      source[i] = typeof k.source === "string" ? address(k.source) : k.source;
      destination[i] = typeof k.destination === "string" ? address(k.destination) : k.destination;
      ports[i] = portsOf(k);
      protocol[i] = TCP;
      rows[count++] = i;
      expected.set(i, find(table, TCP, k));
      if (n < 300) expect(expected.get(i)! >> 1).toBe(flows[n]);
    }
    table.lookup(rows, count, source, destination, ports, protocol, tag, record, direction);
    for (let i = 0; i < size; i++) {
      const found = expected.get(i);
      expect(record[i], `row ${i}`).toBe(found === undefined ? -7 : found >> 1);
      if (found === undefined) expect(direction[i]).toBe(-7);
      else if (found >= 0) expect(direction[i]).toBe(found & 1);
    }
  });

  it("probes stay short in a full table, also after its flows were exchanged many times", () => {
    const table = newTable(4096);
    const lengths = (share: number) => {
      let sum = 0;
      let most = 0;
      for (let record = 0; record < 4096 * 2; record++) {
        if (table.words[table.base(record) + FLOW_STATE] === STATE_FREE) continue;
        for (const direction of [0, 1]) {
          const length = table.probeLength(record, direction);
          expect(length).toBeGreaterThan(0);
          sum += length;
          most = Math.max(most, length);
        }
      }
      return [sum / (2 * 4096 * share), most] as const;
    };
    let next = 0;
    const living: number[] = [];
    while (living.length < 3686) living.push(insert(table, next++, UDP_STREAM, 0, UDP));
    // Linear probing at a load of 0.45: 1.4 slots on average (Knuth 6.4).
    expect(lengths(0.9)[0]).toBeLessThan(1.6);
    for (let n = 0; n < 20_000; n++) {
      const which = (next * 7919) % living.length;
      table.remove(living[which]!);
      living[which] = insert(table, next++, UDP_STREAM, 0, UDP);
    }
    const [average, most] = lengths(0.9);
    expect(average).toBeLessThan(1.6);
    expect(most).toBeLessThan(40);
  });

  it.each([
    ["no magic", (w: Int32Array) => (w[HEADER_MAGIC] = FLOW_MAGIC + 1)],
    ["another version", (w: Int32Array) => (w[HEADER_VERSION] = FLOW_VERSION + 1)],
    ["other records", (w: Int32Array) => (w[HEADER_RECORD_WORDS] = FLOW_WORDS + 16)],
    ["a larger capacity than it has room for", (w: Int32Array) => (w[HEADER_CAPACITY] = 1024)],
    ["a capacity that is no power of two", (w: Int32Array) => (w[HEADER_CAPACITY] = 15)],
  ])("refuses a buffer with %s", (_, spoil) => {
    const buffer = new ArrayBuffer(flowTableBytes(16));
    formatFlowTable(buffer, 16, [1, 2]);
    expect(() => new FlowTable(buffer)).not.toThrow();
    spoil(new Int32Array(buffer));
    expect(() => new FlowTable(buffer)).toThrow(RangeError);
    expect(() => FlowTable.adopt(buffer)).toThrow(RangeError);
  });

  it("refuses capacities and buffers that do not fit", () => {
    for (const capacity of [0, 1, 3, 100, 2 ** 25]) {
      expect(() => formatFlowTable(new ArrayBuffer(flowTableBytes(128)), capacity, [1, 2])).toThrow(
        RangeError,
      );
    }
    expect(() => formatFlowTable(new ArrayBuffer(flowTableBytes(16) - 4), 16, [1, 2])).toThrow(RangeError);
  });

  it("echo: a request's reply is its key turned round", () => {
    expect(echoPorts(0, 0xbeef)).toBe(turnedPorts(echoPorts(8, 0xbeef)));
    expect(turnedPorts(echoPorts(0, 0xbeef))).toBe(echoPorts(8, 0xbeef));
    expect(echoPorts(8, 0xbeef) >>> 16).toBe(0xbeef);
    expect(echoPorts(3, 0xbeef)).toBe(0);
  });
});

describe("adoption", () => {
  function filled() {
    const table = newTable(64);
    for (let n = 0; n < 50; n++) insert(table, n, n % 2 === 0 ? TCP_ESTABLISHED : TCP_SYN_SENT, 0);
    for (let n = 0; n < 10; n++) table.remove(find(table, TCP, key(n)) >> 1);
    return table;
  }
  const present = (table: FlowTable) =>
    Array.from({ length: 50 }, (_, n) => find(table, TCP, key(n)) >= 0).map((yes, n) => (yes ? n : -1));
  const wanted = Array.from({ length: 50 }, (_, n) => (n < 10 ? -1 : n));

  it("the next one finds every flow, and gives up what the last one held", () => {
    const before = filled();
    before.enterBreath();
    before.remove(find(before, TCP, key(10)) >> 1);
    expect(FlowTable.adopt(before.words.buffer)).toBe(false);
    const after = new FlowTable(before.words.buffer);
    expect(present(after)).toEqual(wanted.map((n) => (n === 10 ? -1 : n)));
    // Every place can be used: nobody's breath holds one back.
    for (let n = 100; n < 125; n++) expect(insert(after, n, TCP_ESTABLISHED, 0)).toBeGreaterThanOrEqual(0);
    expect(after.size).toBe(64);
  });

  it("mends what a thread left that died while it changed the table", () => {
    const table = filled();
    const { words } = table;
    const half = find(table, TCP, key(11)) >> 1;
    words[table.base(half) + FLOW_SEQUENCE]++;
    words[HEADER_LOCK] = 1;
    // An index that is not to be believed.
    words.fill(0x7f, 64, 300);
    expect(FlowTable.adopt(words.buffer)).toBe(true);
    const after = new FlowTable(words.buffer);
    expect(present(after)).toEqual(wanted.map((n) => (n === 11 ? -1 : n)));
    expect(after.size).toBe(39);
    // Lists too: the unreplied ones go, the established ones stay.
    for (let n = 0; n < 200; n++) insert(after, 1000 + n, TCP_SYN_SENT, 0);
    for (let n = 10; n < 50; n += 2) expect(find(after, TCP, key(n))).toBeGreaterThanOrEqual(0);
    expect(after.size).toBe(64);
  });
});

describe("eviction", () => {
  it("takes expired, then unreplied, then closing flows, each oldest first, and never an established one", () => {
    const table = newTable(8);
    const states = [
      TCP_ESTABLISHED,
      TCP_TIME_WAIT,
      TCP_SYN_SENT,
      UDP_STREAM,
      TCP_CLOSE,
      TCP_SYN_RECV,
      TCP_ESTABLISHED,
      TCP_ESTABLISHED,
    ];
    for (const [n, state] of states.entries()) insert(table, n, state, n);
    const left = () => states.map((_, n) => n).filter((n) => find(table, TCP, key(n)) >= 0);
    const now = 9000;
    // TCP_CLOSE lasts ten seconds.
    expect(insert(table, 100, TCP_ESTABLISHED, 10_005)).toBeGreaterThanOrEqual(0);
    expect(left()).toEqual([0, 1, 2, 3, 5, 6, 7]);
    expect(table.counter(FlowCounter.evictedExpired)).toBe(1);
    insert(table, 101, TCP_ESTABLISHED, now);
    expect(left()).toEqual([0, 1, 3, 5, 6, 7]);
    insert(table, 102, TCP_ESTABLISHED, now);
    expect(left()).toEqual([0, 1, 3, 6, 7]);
    expect(table.counter(FlowCounter.evictedUnreplied)).toBe(2);
    insert(table, 103, TCP_ESTABLISHED, now);
    expect(left()).toEqual([0, 3, 6, 7]);
    expect(table.counter(FlowCounter.evictedClosing)).toBe(1);
    expect(insert(table, 104, TCP_ESTABLISHED, now)).toBe(INSERT_FULL);
    expect(table.counter(FlowCounter.refused)).toBe(1);
    expect(left()).toEqual([0, 3, 6, 7]);
    expect(table.size).toBe(8);
  });

  it("a flow that changes its state changes its place", () => {
    const table = newTable(4);
    const [a, b, c] = [0, 1, 2].map((n) => insert(table, n, TCP_SYN_SENT, 0));
    expect(table.setState(a!, TCP_SYN_SENT, TCP_ESTABLISHED, 0)).toBe(true);
    expect(table.setState(a!, TCP_SYN_SENT, TCP_CLOSE, 0)).toBe(false);
    table.setState(b!, TCP_SYN_SENT, TCP_ESTABLISHED, 0);
    table.setState(b!, TCP_ESTABLISHED, TCP_TIME_WAIT, 0);
    insert(table, 3, UDP_REPLIED, 0);
    insert(table, 4, TCP_ESTABLISHED, 1);
    expect(find(table, TCP, key(2))).toBe(-1);
    expect(c).toBeGreaterThanOrEqual(0);
    insert(table, 5, TCP_ESTABLISHED, 1);
    expect(find(table, TCP, key(1))).toBe(-1);
    insert(table, 6, TCP_ESTABLISHED, 1);
    expect(find(table, TCP, key(3))).toBe(-1);
    expect(insert(table, 7, TCP_ESTABLISHED, 1)).toBe(INSERT_FULL);
  });

  it("a flood of 1,000,000 SYNs takes none of 10,000 established flows, and lookups stay short", () => {
    const table = newTable(65_536);
    const random = new Random(3);
    const established = Array.from({ length: 10_000 }, (_, n) => insert(table, n, TCP_ESTABLISHED, 0));
    const packet = draft(TCP, key(0));
    let refused = 0;
    for (let n = 0; n < 1_000_000; n++) {
      if (n % 256 === 0) table.enterBreath();
      packet[FLOW_ORIGINAL + KEY_SOURCE] = random.word();
      packet[FLOW_ORIGINAL + 2] = random.word();
      packet[FLOW_REPLY + 1] = packet[FLOW_ORIGINAL + KEY_SOURCE];
      packet[FLOW_REPLY + 2] = turnedPorts(packet[FLOW_ORIGINAL + 2]!);
      if (table.insert(packet, n >> 10) === INSERT_FULL) refused++;
      if (n % 256 === 255) table.leaveBreath();
    }
    expect(refused).toBe(0);
    expect(table.size).toBe(65_536);
    let most = 0;
    let sum = 0;
    for (const [n, record] of established.entries()) {
      expect(find(table, TCP, key(n))).toBe(2 * record);
      most = Math.max(most, table.probeLength(record, 0), table.probeLength(record, 1));
      sum += table.probeLength(record, 0);
    }
    expect(sum / established.length).toBeLessThan(2);
    expect(most).toBeLessThan(100);
    expect(table.counter(FlowCounter.evictedUnreplied)).toBeGreaterThan(900_000);
    expect(table.counter(FlowCounter.evictedClosing)).toBe(0);
  });
});

describe("ageing", () => {
  it.each([
    ["SYN_SENT", TCP_SYN_SENT, 120],
    ["SYN_RECV", TCP_SYN_RECV, 60],
    ["ESTABLISHED", TCP_ESTABLISHED, 86_400],
    ["FIN_WAIT", 4, 120],
    ["CLOSE_WAIT", 5, 60],
    ["LAST_ACK", 6, 30],
    ["TIME_WAIT", TCP_TIME_WAIT, 120],
    ["CLOSE", TCP_CLOSE, 10],
    ["UDP unreplied", UDP_UNREPLIED, 30],
    ["UDP replied", UDP_REPLIED, 30],
    ["UDP stream", UDP_STREAM, 120],
    ["ICMP", 14, 30],
    ["SCTP established", 19, 210],
    ["others", 24, 600],
  ])("%s lasts as long as in Linux, across the wrap of the clock", (_, state, seconds) => {
    for (const start of [0, 0x7fffff00, -0x100]) {
      const table = newTable(16);
      insert(table, 1, state, start);
      for (const [after, size] of [
        [seconds * 1000, 1],
        [seconds * 1000 + 2 * CYCLE_MS + 1, 0],
      ] as const) {
        const now = (start + after) | 0;
        table.age((now - CYCLE_MS) | 0, 100);
        table.age(now, 100);
        expect(table.size, `${start} + ${after}`).toBe(size);
      }
    }
  });

  it("goes round in CYCLE_MS in even parts, within the budget", () => {
    const table = newTable(1024);
    for (let n = 0; n < 1000; n++) insert(table, n, TCP_CLOSE, 0);
    table.age(0, 1000);
    const start = 20_000;
    table.age(start, 0);
    const removed: number[] = [];
    // One round may be under way: two at the most.
    for (let now = start; now <= start + 2 * CYCLE_MS; now += 40) removed.push(table.age(now, 64));
    expect(removed.reduce((sum, n) => sum + n)).toBe(1000);
    expect(Math.max(...removed)).toBeLessThanOrEqual(64);
    expect(table.counter(FlowCounter.expired)).toBe(1000);
  });

  it("a packet starts the time again", () => {
    const table = newTable(16);
    const record = insert(table, 1, UDP_UNREPLIED, 0, UDP);
    for (let now = 0; now < 200_000; now += 1000) {
      table.touch(table.base(record), now);
      table.age(now, 100);
    }
    expect(table.size).toBe(1);
    // Small steps are not written, but never add up.
    for (let now = 200_000; now < 240_000; now += 100) {
      table.touch(table.base(record), now);
      expect(now - table.words[table.base(record) + FLOW_SEEN]).toBeLessThan(250);
    }
  });
});

describe("flush", () => {
  it("removes what matches, in pieces", () => {
    const table = newTable(256);
    for (let n = 0; n < 200; n++) {
      const d = draft(n % 2 === 0 ? UDP : TCP, key(n), undefined, UDP_STREAM);
      d[FLOW_BACKEND] = n % 10;
      table.insert(d, 0);
    }
    const tests = flowTests({ protocol: UDP, backend: 4 });
    let pieces = 0;
    for (let at = 0; at >= 0; pieces++) at = table.flush(tests, at, 64);
    expect(pieces).toBe(4);
    expect(table.size).toBe(180);
    for (let n = 0; n < 200; n++) {
      expect(find(table, n % 2 === 0 ? UDP : TCP, key(n)) >= 0, `${n}`).toBe(n % 10 !== 4);
    }
    for (let at = 0; at >= 0; ) at = table.flush(flowTests({}), at, 1000);
    expect(table.size).toBe(0);
  });
});

describe("against a Map", () => {
  interface Plain {
    n: number;
    state: number;
    seen: number;
    keys: [string, string];
  }
  const STATES = [TCP_SYN_SENT, TCP_ESTABLISHED, TCP_TIME_WAIT, TCP_CLOSE, UDP_UNREPLIED, UDP_STREAM];

  it.each([1, 2, 3, 4, 5])("100,000 operations, seed %i", (seed) => {
    const random = new Random(seed);
    const capacity = 128;
    const table = newTable(capacity, [random.word(), random.word()]);
    const plain = new Map<string, Plain>();
    const records = new Map<Plain, number>();
    let now = 0x7fff0000;
    const expired = (flow: Plain) => ((now - flow.seen) | 0) > TIMEOUT_OF[flow.state]!;
    const text = (k: Key) =>
      JSON.stringify([k.source, k.destination, k.sourcePort, k.destinationPort, k.tag ?? 0]);
    const forget = (flow: Plain) => {
      for (const k of flow.keys) plain.delete(k);
      records.delete(flow);
    };
    const keysOf = (n: number): [Key, Key] => {
      const original = { ...key(n), tag: n % 3 };
      // Collisions of replies: two flows to one backend from one client's port.
      return [original, { ...turned(key(n - (n % 4))), source: 5, tag: 0 }];
    };
    /** Flows that the table has removed without being asked: they must have had a reason. */
    const reconcile = (mayEvict: number) => {
      for (const [flow, record] of records) {
        if (table.words[table.base(record) + FLOW_STATE] !== STATE_FREE) continue;
        if (!expired(flow)) {
          expect(mayEvict--, `${seed}: flow ${flow.n} in state ${flow.state} went`).toBeGreaterThan(0);
          expect([TCP_ESTABLISHED, UDP_STREAM]).not.toContain(flow.state);
        }
        forget(flow);
      }
    };
    for (let operation = 0; operation < 100_000; operation++) {
      if (operation % 50 === 0) {
        table.leaveBreath();
        table.enterBreath();
      } else if (operation === 1) table.enterBreath();
      const n = random.below(600);
      const [original, reply] = keysOf(n);
      const what = random.below(100);
      if (what < 40) {
        const state = random.pick(STATES);
        const before = [text(original), text(reply)].map((k) => plain.get(k));
        const full = records.size >= capacity;
        const result = table.insert(draft(TCP, original, reply, state), now);
        if (before[0] !== undefined && !expired(before[0])) expect(result).toBe(INSERT_ORIGINAL_TAKEN);
        else if (before[1] !== undefined && !expired(before[1])) expect(result).toBe(INSERT_REPLY_TAKEN);
        reconcile(full && result >= 0 ? 1 : 0);
        if (result >= 0) {
          const flow = { n, state, seen: now, keys: [text(original), text(reply)] } as Plain;
          for (const k of flow.keys) {
            expect(plain.has(k)).toBe(false);
            plain.set(k, flow);
          }
          records.set(flow, result);
        } else if (result === INSERT_FULL) {
          const firm = [...records.keys()].filter(
            (f) => f.state === TCP_ESTABLISHED || f.state === UDP_STREAM,
          );
          expect(firm.length).toBe(capacity);
        }
      } else if (what < 80) {
        for (const [d, k] of [original, reply].entries()) {
          const flow = plain.get(text(k));
          const found = find(table, TCP, k);
          if (flow === undefined) expect(found).toBe(-1);
          else expect([found >> 1, found & 1]).toEqual([records.get(flow), text(k) === flow.keys[0] ? 0 : 1]);
          if (flow !== undefined && d === 0) expect(flow.n).toBe(n);
        }
      } else if (what < 88) {
        const flow = plain.get(text(original));
        if (flow !== undefined) {
          expect(table.remove(records.get(flow)!)).toBe(true);
          forget(flow);
        }
      } else if (what < 94) {
        const flow = plain.get(text(original));
        const to = random.pick(STATES);
        if (flow !== undefined) {
          expect(table.setState(records.get(flow)!, flow.state, to, now)).toBe(true);
          flow.state = to;
          flow.seen = now;
        }
      } else if (what < 98) {
        now = (now + random.below(300)) | 0;
        table.age(now, random.below(60));
        reconcile(0);
      } else if (random.oneIn(50)) now = (now + 86_400_000) | 0;
      expect(table.size).toBe(records.size);
      expect(table.size).toBeLessThanOrEqual(capacity);
    }
    expect(table.counter(FlowCounter.evictedUnreplied)).toBeGreaterThan(100);
    expect(table.counter(FlowCounter.expired)).toBeGreaterThan(100);
  });
});
