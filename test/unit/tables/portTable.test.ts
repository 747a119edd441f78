import { describe, expect, it } from "vitest";
import { buildPortTable, PortTable, ROLE_NODE, ROLE_NONE, ROLE_POD } from "../../../src/tables/PortTable.js";
import type { TableInput } from "../../../src/tables/TableInput.js";
import { address, macNumbers } from "../../support/frames.js";

const PORTS: TableInput["ports"] = [
  {
    port: 4,
    role: "pod",
    mac: macNumbers("02:70:0a:01:eb:c1"),
    address: address("10.1.235.193"),
    uso: false,
  },
  {
    port: 1,
    role: "node",
    mac: macNumbers("ff:fe:80:00:00:01"),
    address: address("10.1.235.192"),
    uso: true,
  },
];

function table(ports: TableInput["ports"]): PortTable {
  const section = buildPortTable(ports);
  const image = new Int32Array(section.length + 3).fill(-1);
  image.set(section, 3);
  return new PortTable(image, 3);
}

describe("PortTable", () => {
  it("has each port's fields", () => {
    const ports = table(PORTS);
    expect([ports.role(1), ports.role(4)]).toEqual([ROLE_NODE, ROLE_POD]);
    expect([ports.uso(1), ports.uso(4)]).toEqual([true, false]);
    expect(ports.address(4)).toBe(address("10.1.235.193"));
    expect([ports.macHi(1), ports.macLo(1)]).toEqual([0xfffe, 0x80000001 | 0]);
  });

  it.each([-1, 0, 2, 3, 5, 1000])("port %i has no role", (port) => {
    expect(table(PORTS).role(port)).toBe(ROLE_NONE);
  });

  it("an empty table has no roles", () => {
    expect(table([]).role(0)).toBe(ROLE_NONE);
  });

  it("refuses one number twice", () => {
    expect(() => buildPortTable([PORTS[0], { ...PORTS[1], port: 4 }])).toThrow(RangeError);
  });
});
