import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/agent/config.js";
import { announceTables, arpFilter, lanSpec, NO_LAN_PORTS } from "../../../src/desired/lan.js";
import { parseIpv4 } from "../../../src/model/ipv4.js";
import { THIS_NODE } from "../../../src/tables/VipTable.js";
import { ARP, address, arp, BROADCAST, ethernet, NO_MAC } from "../../support/frames.js";

const MAC = "52:54:00:00:00:31";
const CONFIG = `
node: k8s-master
underlay: { address: 192.168.2.30 }
podPool: 10.1.0.0/16
blocks: [10.1.235.192/26]
vteps:
  - { node: k8s-worker01, address: 192.168.2.31, blocks: [10.1.79.64/26], lanMac: "${MAC}" }
  - { node: k8s-worker02, address: 192.168.2.32, blocks: [10.1.69.192/26] }
  - { node: switch, address: 192.168.2.50, peer: vxlan, blocks: [10.1.40.0/26] }
announce:
  bfd: fast
  addresses:
    - { address: 192.168.2.36, nodes: [k8s-worker01, k8s-master] }
    - { address: 192.168.2.37 }
`;
const LAN = { name: "eth0", index: 2, mac: "52:54:00:00:00:30" };
const { config } = parseConfig("test.yaml", CONFIG);

/** Runs classic BPF over a frame, with the VLAN tag that the kernel took off it. */
function run(program: number[], frame: Uint8Array, vlan = 0): number {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let a = 0;
  for (let pc = 0; pc < program.length / 4; pc++) {
    const [code, jt, jf, k] = program.slice(pc * 4, pc * 4 + 4) as [number, number, number, number];
    const jump = (taken: boolean) => {
      pc += taken ? jt : jf;
    };
    if (code === 0x06) return k;
    // A load from outside the frame ends the program with 0 (bpf(4)).
    if (code === 0x20 && k !== 0xfffff02c && k + 4 > frame.length) return 0;
    if (code === 0x28 && k + 2 > frame.length) return 0;
    if (code === 0x20) a = k === 0xfffff02c ? vlan : view.getUint32(k);
    else if (code === 0x28) a = view.getUint16(k);
    else if (code === 0x54) a = (a & k) >>> 0;
    else if (code === 0x15) jump(a === k);
    else if (code === 0x35) jump(a >= k);
    else if (code === 0x25) jump(a > k);
    else throw new Error(`instruction ${code}`);
  }
  throw new Error("no end");
}

const frame = (sender: string, target: string) =>
  ethernet(BROADCAST, MAC, ARP, arp({ operation: 1, senderMac: MAC, sender, targetMac: NO_MAC, target }));

describe("what the packet socket hears", () => {
  const vips = ["192.168.2.36", "192.168.2.37", "192.168.2.40", "240.0.0.1"];
  const program = arpFilter(vips.map(address));

  test.each([
    ["a request for an address", "192.168.2.99", "192.168.2.37", true],
    ["a claim of one", "192.168.2.40", "192.168.2.40", true],
    ["a word of its owner to somebody", "192.168.2.36", "192.168.2.99", true],
    ["one with the highest bit set", "192.168.2.99", "240.0.0.1", true],
    ["a probe", "0.0.0.0", "192.168.2.36", true],
    ["a neighbour of the range", "192.168.2.99", "192.168.2.38", false],
    ["the one before", "192.168.2.99", "192.168.2.35", false],
    ["others among themselves", "192.168.2.99", "192.168.2.1", false],
  ])("%s", (_what, sender, target, heard) => {
    expect(run(program, frame(sender, target)) !== 0).toBe(heard);
  });

  test("nothing of another VLAN, another protocol, or too short", () => {
    const request = frame("192.168.2.99", "192.168.2.36");
    expect(run(program, request, 0x2005)).toBe(0);
    // A priority without a VLAN (802.1p).
    expect(run(program, request, 0x6000)).not.toBe(0);
    const other = request.slice();
    other[16] = 0x86;
    expect(run(program, other)).toBe(0);
    expect(run(program, request.subarray(0, 30))).toBe(0);
  });

  test("of many addresses that are not together, all between the first and the last", () => {
    const many = arpFilter(Array.from({ length: 1000 }, (_, n) => address("192.0.2.0") + 2 * n));
    expect(many.length / 4).toBeLessThan(4096);
    expect(run(many, frame("198.51.100.1", "192.0.2.1"))).not.toBe(0);
    expect(run(many, frame("198.51.100.1", "192.0.1.255"))).toBe(0);
    // The most that are tested one by one.
    const most = arpFilter(Array.from({ length: 64 }, (_, n) => address("192.0.2.0") + 2 * n));
    expect(run(most, frame("198.51.100.1", "192.0.2.126"))).not.toBe(0);
    expect(run(most, frame("198.51.100.1", "192.0.2.125"))).toBe(0);
  });

  test("nothing without addresses", () => {
    expect(run(arpFilter([]), frame("192.168.2.99", "0.0.0.0"))).toBe(0);
  });
});

describe("announcement of a config file", () => {
  test("watches the nodes that podwire runs on; addresses without nodes may be owned by all of these", () => {
    expect(config.announce).toMatchObject({
      interface: null,
      bfd: { intervalMs: 10, multiplier: 3 },
      nodes: [
        { node: "k8s-worker01", mac: MAC, watched: true },
        { node: "k8s-worker02", mac: "", watched: true },
      ],
      vips: [{ address: "192.168.2.36", nodes: ["k8s-worker01", "k8s-master"] }, { address: "192.168.2.37" }],
    });
    expect(config.announce!.vips[1]!.nodes.toSorted()).toEqual([
      "k8s-master",
      "k8s-worker01",
      "k8s-worker02",
    ]);
  });

  test("sockets on the LAN interface; none without one, or where nothing is announced", () => {
    expect(lanSpec(config, LAN)).toMatchObject({ interface: LAN, address: "192.168.2.30" });
    expect(lanSpec(config, null)).toBe(null);
    expect(lanSpec({ ...config, announce: null }, LAN)).toBe(null);
    expect(run(lanSpec(config, LAN)!.filter, frame("192.168.2.99", "192.168.2.37"))).not.toBe(0);
  });

  test("tables: nodes by VTEP index, without those that have none", () => {
    const vteps = new Map([["k8s-worker01", 5]]);
    const { announce, bfd } = announceTables(config, LAN, { lan: 9, bfd: 8 }, vteps);
    expect(announce).toMatchObject({
      port: 9,
      mac: { hi: 0x5254, lo: 0x30 },
      nodes: [{ node: 5, mac: { hi: 0x5254, lo: 0x31 } }],
    });
    expect(announce.vips[0]).toEqual({ address: parseIpv4("192.168.2.36"), order: [5, THIS_NODE] });
    expect(announce.vips[1]!.order.toSorted()).toEqual([5, THIS_NODE]);
    expect(bfd).toEqual({
      sendPort: 8,
      desiredMinTxUs: 10_000,
      requiredMinRxUs: 10_000,
      detectMult: 3,
      peers: [5],
    });
    expect(announceTables(config, LAN, NO_LAN_PORTS, vteps).bfd.peers).toEqual([]);
  });
});
