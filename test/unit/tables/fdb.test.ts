import { describe, expect, it } from "vitest";
import { buildFdb, Fdb } from "../../../src/tables/Fdb.js";
import type { TableInput } from "../../../src/tables/TableInput.js";
import { address, macNumbers } from "../../support/frames.js";
import { Random } from "../../support/random.js";

type Vteps = TableInput["vteps"];

function fdb(vteps: Vteps): Fdb {
  const section = buildFdb(vteps);
  const image = new Int32Array(section.length + 5).fill(-1);
  image.set(section, 5);
  return new Fdb(image, 5);
}

function vtep(index: number, underlay: string, tunnel: string): Vteps[number] {
  return {
    index,
    address: address(underlay),
    udpPort: 4789 + index,
    mac: macNumbers(`66:00:00:00:ff:${index.toString(16).padStart(2, "0")}`),
    tunnelAddress: address(tunnel),
    tags: true,
  };
}

const WORKERS = [
  vtep(0, "192.168.2.31", "10.1.79.64"),
  vtep(3, "192.168.2.33", "10.1.39.192"),
  vtep(1, "192.168.2.32", "10.1.69.192"),
];

describe("Fdb", () => {
  it("finds by underlay and by tunnel address", () => {
    const table = fdb(WORKERS);
    expect(table.find(address("192.168.2.33"))).toBe(3);
    expect(table.find(address("10.1.39.192"))).toBe(3);
    expect(table.find(address("192.168.2.34"))).toBe(-1);
    expect(table.find(0)).toBe(-1);
  });

  it("byUnderlay does not find by tunnel address", () => {
    const table = fdb(WORKERS);
    expect(table.byUnderlay(address("192.168.2.32"))).toBe(1);
    expect(table.byUnderlay(address("10.1.69.192"))).toBe(-1);
    expect(table.byUnderlay(address("203.0.113.1"))).toBe(-1);
  });

  it("has each row's fields, and knows which indices are in use", () => {
    const table = fdb(WORKERS);
    expect(table.size).toBe(4);
    expect([0, 1, 2, 3].map((index) => table.used(index))).toEqual([true, true, false, true]);
    expect(table.address(3)).toBe(address("192.168.2.33"));
    expect(table.tunnelAddress(3)).toBe(address("10.1.39.192"));
    expect(table.udpPort(3)).toBe(4792);
    expect(table.macHi(3)).toBe(0x6600);
    expect(table.macLo(3)).toBe(0xff03);
  });

  it("an empty table finds nothing", () => {
    expect(fdb([]).size).toBe(0);
    expect(fdb([]).find(address("192.168.2.31"))).toBe(-1);
  });

  it("a VTEP whose two addresses are one is found by it", () => {
    const table = fdb([vtep(0, "192.0.2.1", "192.0.2.1")]);
    expect(table.byUnderlay(address("192.0.2.1"))).toBe(0);
  });

  it("0.0.0.0 is an address like others", () => {
    expect(fdb([vtep(2, "0.0.0.0", "10.1.0.0")]).byUnderlay(0)).toBe(2);
  });

  it.each([
    ["one index twice", [vtep(0, "192.0.2.1", "10.0.0.1"), vtep(0, "192.0.2.2", "10.0.0.2")]],
    ["one underlay address twice", [vtep(0, "192.0.2.1", "10.0.0.1"), vtep(1, "192.0.2.1", "10.0.0.2")]],
    ["one tunnel address twice", [vtep(0, "192.0.2.1", "10.0.0.1"), vtep(1, "192.0.2.2", "10.0.0.1")]],
    [
      "an underlay address that is another's tunnel address",
      [vtep(0, "192.0.2.1", "10.0.0.1"), vtep(1, "10.0.0.1", "10.0.0.2")],
    ],
  ])("refuses %s", (_, vteps) => {
    expect(() => buildFdb(vteps)).toThrow(RangeError);
  });

  it("equals a Map for 4000 random VTEPs", () => {
    const random = new Random(1);
    const plain = new Map<number, number>();
    const vteps: Vteps = [];
    for (let index = 0; index < 4000; index++) {
      const [underlay, tunnel] = [random.word(), random.word()];
      if (plain.has(underlay) || plain.has(tunnel) || underlay === tunnel) continue;
      plain.set(underlay, index);
      plain.set(tunnel, index);
      vteps.push({
        index,
        address: underlay,
        udpPort: 4789,
        mac: { hi: 1, lo: index },
        tunnelAddress: tunnel,
        tags: true,
      });
    }
    const table = fdb(vteps);
    for (const [key, index] of plain) expect(table.find(key)).toBe(index);
    for (const v of vteps) {
      expect(table.byUnderlay(v.address)).toBe(v.index);
      expect(table.byUnderlay(v.tunnelAddress)).toBe(-1);
    }
    for (let n = 0; n < 4000; n++) {
      const wanted = random.word();
      expect(table.find(wanted)).toBe(plain.get(wanted) ?? -1);
    }
  });
});
