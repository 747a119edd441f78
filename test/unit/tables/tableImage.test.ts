import { describe, expect, it } from "vitest";
import { ROLE_NODE, ROLE_POD } from "../../../src/tables/PortTable.js";
import { ROUTE_VTEP, routeTarget, routeTo } from "../../../src/tables/RouteTable.js";
import { buildTableImage, Tables } from "../../../src/tables/TableImage.js";
import { EMPTY_TABLES } from "../../../src/worker/emptyTables.js";
import { tableInput, WORKER02 } from "../../support/dataplane.js";
import { address } from "../../support/frames.js";

describe("TableImage", () => {
  it("every field of the node survives", () => {
    const node = {
      tunnelAddress: address("10.1.235.192"),
      underlayAddress: address("192.168.2.30"),
      mac: { hi: 0xfffe, lo: -2 },
      vni: 4096,
      vxlanPort: 4789,
      mtu: 1450,
      nodePort: 11,
      tunnelPort: 12,
      icmpPort: 3,
      reassemblyPort: 4,
      gsoPort: -1,
      gsoMac: { hi: 0x0250, lo: 0x57000001 },
    };
    const tables = new Tables(buildTableImage({ ...EMPTY_TABLES, node }));
    expect({
      tunnelAddress: tables.tunnelAddress,
      underlayAddress: tables.underlayAddress,
      mac: { hi: tables.macHi, lo: tables.macLo },
      vni: tables.vni,
      vxlanPort: tables.vxlanPort,
      mtu: tables.mtu,
      nodePort: tables.nodePort,
      tunnelPort: tables.tunnelPort,
      icmpPort: tables.icmpPort,
      reassemblyPort: tables.reassemblyPort,
      gsoPort: tables.gsoPort,
      gsoMac: { hi: tables.gsoMacHi, lo: tables.gsoMacLo },
    }).toEqual(node);
  });

  it("each section is found where it lies", () => {
    const tables = new Tables(buildTableImage(tableInput()));
    expect([tables.ports.role(0), tables.ports.role(2)]).toEqual([ROLE_NODE, ROLE_POD]);
    expect(tables.fdb.byUnderlay(address(WORKER02.underlay))).toBe(1);
    const route = tables.routes.lookup(address(WORKER02.pod));
    expect([routeTo(route), routeTarget(route)]).toEqual([ROUTE_VTEP, 1]);
  });

  it("ranges of ClusterIPs, and where NodePorts answer", () => {
    const input = {
      ...tableInput(),
      serviceRanges: [
        { address: address("10.152.183.0"), length: 24 },
        { address: address("203.0.113.128"), length: 25 },
      ],
      nodePortAddresses: ["192.168.2.30", "10.0.2.15"].map(address),
    };
    const tables = new Tables(buildTableImage(input));
    const inside = ["10.152.183.0", "10.152.183.255", "203.0.113.200"];
    const outside = ["10.152.182.255", "203.0.113.127", "10.1.0.1", "0.0.0.0"];
    expect(inside.map((each) => tables.inServiceRange(address(each)))).toEqual([true, true, true]);
    expect(outside.map((each) => tables.inServiceRange(address(each)))).toEqual([false, false, false, false]);
    const asked = ["192.168.2.30", "10.0.2.15", "10.0.2.16", "0.0.0.0", "10.1.235.192"];
    expect(asked.map((each) => tables.hasNodePorts(address(each)))).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
    const none = new Tables(buildTableImage({ ...input, serviceRanges: [], nodePortAddresses: [] }));
    expect([none.inServiceRange(0), none.hasNodePorts(0)]).toEqual([false, false]);
  });

  it("knows between which two ports all VTEPs listen for VXLAN", () => {
    const input = tableInput();
    const range = (ports: number[]) => {
      const vteps = input.vteps.map((vtep, n) => ({ ...vtep, udpPort: ports[n] }));
      const { firstVxlanPort, lastVxlanPort } = new Tables(buildTableImage({ ...input, vteps }));
      return [firstVxlanPort, lastVxlanPort];
    };
    expect(range([4789, 4789])).toEqual([4789, 4789]);
    expect(range([8472, 4789])).toEqual([4789, 8472]);
    expect(range([8472, 250])).toEqual([250, 8472]);
    const alone = new Tables(buildTableImage({ ...input, vteps: [], routes: [] }));
    expect([alone.firstVxlanPort, alone.lastVxlanPort]).toEqual([4789, 4789]);
  });

  it.each([
    ["10.1.0.0", true],
    ["10.1.255.255", true],
    ["10.2.0.0", false],
    ["10.0.255.255", false],
    ["198.51.100.77", true],
    ["198.51.100.128", false],
  ])("inPool(%s) among two pools", (text, expected) => {
    const pools = [
      { address: address("10.1.0.0"), length: 16 },
      { address: address("198.51.100.0"), length: 25 },
    ];
    const tables = new Tables(buildTableImage({ ...EMPTY_TABLES, pools }));
    expect(tables.inPool(address(text))).toBe(expected);
  });

  it("no pool holds anything; a pool of length 0 holds all", () => {
    expect(new Tables(buildTableImage(EMPTY_TABLES)).inPool(0)).toBe(false);
    const tables = new Tables(buildTableImage({ ...EMPTY_TABLES, pools: [{ address: 0, length: 0 }] }));
    expect(tables.inPool(address("203.0.113.9"))).toBe(true);
  });

  it.each([
    ["another magic", (words: Int32Array) => words.fill(0x12345678, 0, 1)],
    ["another version", (words: Int32Array) => words.fill(1, 1, 2)],
    ["a length that is not its own", (words: Int32Array) => words.fill(words.length + 1, 2, 3)],
  ])("refuses %s", (_, spoil) => {
    const image = buildTableImage(tableInput());
    expect(() => new Tables(image)).not.toThrow();
    spoil(new Int32Array(image));
    expect(() => new Tables(image)).toThrow(RangeError);
  });

  it.each([0, 3, 64])("refuses a buffer of %i bytes", (bytes) => {
    expect(() => new Tables(new SharedArrayBuffer(bytes))).toThrow(RangeError);
  });

  it("refuses an image that was cut off", () => {
    const whole = new Int32Array(buildTableImage(tableInput()));
    expect(() => new Tables(whole.slice(0, -1).buffer)).toThrow(RangeError);
  });
});
