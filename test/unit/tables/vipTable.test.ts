import { describe, expect, it } from "vitest";
import type { AnnounceInput } from "../../../src/tables/TableInput.js";
import { buildVipTable, NO_NODE, THIS_NODE, VipTable } from "../../../src/tables/VipTable.js";
import { address, macNumbers } from "../../support/frames.js";
import { Random } from "../../support/random.js";

function table(input: Partial<AnnounceInput>): VipTable {
  const section = buildVipTable({ port: -1, mac: { hi: 0, lo: 0 }, nodes: [], vips: [], ...input });
  const image = new Int32Array(section.length + 7).fill(-1);
  image.set(section, 7);
  return new VipTable(image, 7);
}

function up(...nodes: number[]): Uint8Array {
  const isUp = new Uint8Array(THIS_NODE + 1);
  for (const node of nodes) isUp[node] = 1;
  return isUp;
}

const NGINX = address("192.168.2.36");
const APACHE = address("192.168.2.37");
const VIPS = [
  { address: NGINX, order: [2, THIS_NODE, 0] },
  { address: APACHE, order: [] },
  { address: 0, order: [THIS_NODE] },
];

describe("VipTable", () => {
  it("finds addresses and knows their orders", () => {
    const vips = table({ vips: VIPS });
    expect(vips.size).toBe(3);
    expect([NGINX, APACHE, 0].map((a) => vips.find(a))).toEqual([0, 1, 2]);
    expect(vips.find(address("192.168.2.38"))).toBe(-1);
    expect(vips.address(1)).toBe(APACHE);
    expect([0, 1, 2].map((row) => vips.candidates(row))).toEqual([3, 0, 1]);
    expect([0, 1, 2].map((place) => vips.candidate(0, place))).toEqual([2, THIS_NODE, 0]);
    expect([2, THIS_NODE, 0, 1].map((node) => vips.place(0, node))).toEqual([0, 1, 2, -1]);
  });

  it.each([
    [[], NO_NODE],
    [[0], 0],
    [[0, THIS_NODE], THIS_NODE],
    [[0, 1, 2, THIS_NODE], 2],
    [[1], NO_NODE],
  ])("of %j the owner is %i", (alive, owner) => {
    expect(table({ vips: VIPS }).owner(0, up(...alive))).toBe(owner);
    expect(table({ vips: VIPS }).owner(1, up(...alive))).toBe(NO_NODE);
  });

  it("an empty table finds nothing", () => {
    expect(table({}).find(NGINX)).toBe(-1);
    expect(table({}).nodeOfMac(0, 0)).toBe(NO_NODE);
  });

  it("knows nodes by their MAC on the LAN", () => {
    const mac = macNumbers("52:54:00:ab:cd:ef");
    const vips = table({
      nodes: [
        { node: 3, mac },
        { node: 0, mac: { hi: mac.hi, lo: 1 } },
      ],
    });
    expect(vips.nodeOfMac(mac.hi, mac.lo)).toBe(3);
    expect(vips.nodeOfMac(mac.hi, 1)).toBe(0);
    expect(vips.nodeOfMac(mac.hi + 1, mac.lo)).toBe(NO_NODE);
  });

  it.each<[string, Partial<AnnounceInput>]>([
    ["an address twice", { vips: [VIPS[0], VIPS[0]] }],
    ["a node twice in an order", { vips: [{ address: 1, order: [1, 2, 1] }] }],
    ["a node beyond THIS_NODE", { vips: [{ address: 1, order: [THIS_NODE + 1] }] }],
    ["a negative node", { vips: [{ address: 1, order: [-1] }] }],
    ["a MAC of nobody", { nodes: [{ node: -1, mac: { hi: 0, lo: 0 } }] }],
  ])("refuses %s", (_, input) => {
    expect(() => table(input)).toThrow(RangeError);
  });

  it("equals a plain search for 2000 random addresses", () => {
    const random = new Random(1);
    const orders = new Map<number, number[]>();
    while (orders.size < 2000) {
      const nodes = [0, 1, 2, 3, THIS_NODE].filter(() => random.oneIn(2));
      orders.set(
        random.word(),
        nodes.sort(() => random.below(3) - 1),
      );
    }
    const vips = table({ vips: [...orders].map(([a, order]) => ({ address: a, order })) });
    for (let n = 0; n < 5000; n++) {
      const wanted = n < 2000 ? [...orders.keys()][n] : random.word();
      const alive = [0, 1, 2, 3, THIS_NODE].filter(() => random.oneIn(2));
      const row = vips.find(wanted);
      const order = orders.get(wanted);
      expect(row >= 0).toBe(order !== undefined);
      if (order === undefined) continue;
      expect(vips.owner(row, up(...alive))).toBe(order.find((node) => alive.includes(node)) ?? NO_NODE);
    }
  });
});
