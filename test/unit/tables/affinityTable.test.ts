import { describe, expect, it } from "vitest";
import { AffinityTable } from "../../../src/tables/AffinityTable.js";
import { FlowTable } from "../../../src/tables/FlowTable.js";
import { newTable } from "../../support/flows.js";
import { address } from "../../support/frames.js";
import { Random } from "../../support/random.js";

const CLIENT = address("192.168.2.99");
const POD = address("10.1.79.65");
const OTHER = address("10.1.69.193");
const KEY = -77;
const MINUTE = 60;
/** Shortly before milliseconds turn negative. */
const NOW = 2 ** 31 - 1000;
const DAY_MS = 86_400_000;

/** Address and port that a client has, "" where none. */
function has(table: AffinityTable, key: number, client: number, nowMs: number, seconds = MINUTE): string {
  return table.find(key, client, seconds, nowMs | 0) ? `${table.address}:${table.l4Port}` : "";
}

describe("AffinityTable", () => {
  it("keeps what was noted last, by client and service port", () => {
    const table = new AffinityTable(newTable(1024));
    expect(has(table, KEY, CLIENT, NOW)).toBe("");
    table.note(KEY, CLIENT, POD, 80, NOW);
    table.note(KEY, CLIENT + 1, OTHER, 80, NOW);
    table.note(KEY + 1, CLIENT, OTHER, 81, NOW);
    table.note(KEY, CLIENT, OTHER, 443, NOW);
    expect(has(table, KEY, CLIENT, NOW)).toBe(`${OTHER}:443`);
    expect(has(table, KEY, CLIENT + 1, NOW)).toBe(`${OTHER}:80`);
    expect(has(table, KEY + 1, CLIENT, NOW)).toBe(`${OTHER}:81`);
    expect(has(table, KEY + 1, CLIENT + 1, NOW)).toBe("");
    expect(table.count()).toBe(3);
  });

  it("until the timeout since the last use, over the turn of the clock", () => {
    const table = new AffinityTable(newTable(1024));
    table.note(KEY, CLIENT, POD, 80, NOW);
    expect(has(table, KEY, CLIENT, NOW + 59_999)).not.toBe("");
    expect(has(table, KEY, CLIENT, NOW + 60_000)).toBe("");
    // Asking is no use.
    table.note(KEY, CLIENT, POD, 80, (NOW + 59_000) | 0);
    expect(has(table, KEY, CLIENT, NOW + 118_999)).not.toBe("");
    expect(has(table, KEY, CLIENT, NOW + 119_000)).toBe("");
    // Another timeout counts as soon as the Service has it.
    expect(has(table, KEY, CLIENT, NOW + 119_000, 3 * MINUTE)).not.toBe("");
  });

  it("another thread, and the next agent, have the same", () => {
    const flows = newTable(1024);
    new AffinityTable(flows).note(KEY, CLIENT, POD, 80, NOW);
    expect(has(new AffinityTable(new FlowTable(flows.words.buffer, 1)), KEY, CLIENT, NOW)).toBe(`${POD}:80`);
    // The agent before died while it held the lock.
    flows.lock();
    expect(FlowTable.adopt(flows.words.buffer)).toBe(true);
    expect(has(new AffinityTable(new FlowTable(flows.words.buffer)), KEY, CLIENT, NOW)).toBe(`${POD}:80`);
  });

  it("where there is no room, who has not been seen for longest gives way", () => {
    // One bucket of eight.
    const table = new AffinityTable(newTable(2));
    for (let n = 0; n < 8; n++) table.note(KEY, CLIENT + n, POD, 80, NOW + n);
    table.note(KEY, CLIENT, POD, 80, NOW + 8);
    table.note(KEY, OTHER, POD, 80, NOW + 9);
    expect(table.count()).toBe(8);
    expect(has(table, KEY, CLIENT + 1, NOW + 9)).toBe("");
    for (const client of [CLIENT, CLIENT + 2, CLIENT + 7, OTHER])
      expect(has(table, KEY, client, NOW + 9)).toBe(`${POD}:80`);
  });

  it("ages: what no timeout can keep is removed, in as many steps as one likes", () => {
    const table = new AffinityTable(newTable(1024));
    for (let n = 0; n < 100; n++) table.note(KEY, n, POD, 80, (NOW + (n < 50 ? 0 : DAY_MS)) | 0);
    const later = (NOW + DAY_MS + 1) | 0;
    for (let n = 0; n < 512; n += 8) table.age(later, 8);
    expect(table.count()).toBe(50);
    expect(has(table, KEY, 99, later)).toBe(`${POD}:80`);
    table.age((NOW + 40 * DAY_MS) | 0, 1 << 20);
    expect(table.count()).toBe(0);
  });

  it("what looks like a time to come is over", () => {
    const table = new AffinityTable(newTable(1024));
    table.note(KEY, CLIENT, POD, 80, NOW);
    expect(has(table, KEY, CLIENT, NOW + 30 * DAY_MS, 86_400)).toBe("");
    // The other thread's clock was read a little later.
    expect(has(table, KEY, CLIENT, NOW - 2)).not.toBe("");
  });

  it("seeded clients against a Map, with room for all", () => {
    const table = new AffinityTable(newTable(65_536));
    const random = new Random(7);
    const wanted = new Map<string, string>();
    for (let n = 0; n < 5000; n++) {
      const key = 1 + random.below(5);
      const client = (CLIENT + random.below(800)) | 0;
      const l4Port = random.below(65_536);
      if (random.oneIn(2)) {
        table.note(key, client, POD, l4Port, NOW);
        wanted.set(`${key} ${client}`, `${POD}:${l4Port}`);
      } else expect(has(table, key, client, NOW)).toBe(wanted.get(`${key} ${client}`) ?? "");
    }
    expect(table.count()).toBe(wanted.size);
  });
});
