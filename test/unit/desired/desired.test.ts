import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/agent/config.js";
import { desiredHost, TUN_F_USO } from "../../../src/desired/host.js";
import { IndexAllocator } from "../../../src/desired/IndexAllocator.js";
import { NO_LAN_PORTS } from "../../../src/desired/lan.js";
import { macOf, parseMac, podMac, vtepMac } from "../../../src/desired/mac.js";
import { tableInput } from "../../../src/desired/tables.js";
import { formatCidr, formatIpv4, parseIpv4 } from "../../../src/model/ipv4.js";
import { buildTableImage } from "../../../src/tables/TableImage.js";

const CONFIG = `node: k8s-master
underlay: { address: 192.168.2.30 }
podPool: 10.1.0.0/16
blocks: [10.1.235.192/26]
vteps:
  - { node: k8s-worker01, address: 192.168.2.31, blocks: [10.1.79.64/26] }
  - { node: k8s-worker02, address: 192.168.2.32, blocks: [10.1.69.192/26], port: 8472 }
pods:
  - { name: default/nginx, netns: /run/netns/a, address: 10.1.235.193 }
  - { name: default/redis, netns: /run/netns/b, address: 10.1.235.194, interface: net0 }
`;
const parse = (text = CONFIG) => parseConfig("f", text).config;

describe("MAC addresses", () => {
  test("of a VTEP: 'f' and five bytes of SHA-1 of the node's name", () => {
    // printf k8s-worker01 | sha1sum: c1177792d189…
    expect(vtepMac("k8s-worker01")).toBe("66:c1:17:77:92:d1");
  });
  test("of a pod: from its address", () => {
    expect(podMac(parseIpv4("10.1.235.193")!)).toBe("02:70:0a:01:eb:c1");
  });
  test("in the tables' form", () => {
    expect(macOf("66:c1:17:77:92:d1")).toEqual({ hi: 0x66c1, lo: 0x177792d1 });
    expect(macOf("02:70:ff:01:eb:c1").lo).toBe(0xff01ebc1 | 0);
    expect(parseMac("66:c1:17:77:92")).toBeNull();
    expect(() => macOf("x")).toThrow(RangeError);
  });
});

describe("IndexAllocator", () => {
  test("keeps a number until it is released", () => {
    const numbers = new IndexAllocator(3, 6, "number");
    expect(["a", "b", "a"].map((key) => numbers.acquire(key))).toEqual([3, 4, 3]);
    numbers.release("a");
    numbers.release("unknown");
    expect(numbers.get("a")).toBeUndefined();
    expect(numbers.acquire("c")).toBe(3);
    expect(numbers.acquire("d")).toBe(5);
    expect(() => numbers.acquire("e")).toThrow(/no number left/);
    expect(numbers.keys()).toEqual(["b", "c", "d"]);
  });
  test("gives out first what was released first", () => {
    const numbers = new IndexAllocator(0, 8, "number");
    for (const key of ["a", "b", "c"]) numbers.acquire(key);
    numbers.release("b");
    numbers.release("a");
    expect(numbers.acquire("x")).toBe(1);
    expect(numbers.acquire("y")).toBe(0);
  });
});

describe("desired host state", () => {
  const host = desiredHost(parse(), { underlayMtu: 1500, addresses: [] });

  test("podwire0 has the tunnel address and the route of the pool", () => {
    expect(host.node).toMatchObject({
      netns: "",
      name: "podwire0",
      mac: vtepMac("k8s-master"),
      mtu: 1450,
      tap: { vnetHeader: 10, offloads: 0x0f, optionalOffloads: [TUN_F_USO], persist: true },
      addresses: [{ address: parseIpv4("10.1.235.192"), length: 32 }],
      routes: [
        {
          destination: { address: parseIpv4("10.1.0.0"), length: 16 },
          gateway: "169.254.1.1",
          source: "10.1.235.192",
        },
      ],
    });
    expect(host.node.sysctls.map(({ key, value }) => `${key.split("/").at(-1)}=${value}`)).toEqual([
      "disable_ipv6=1",
      "accept_local=1",
      "rp_filter=2",
      "forwarding=1",
      "route_localnet=0",
    ]);
    expect(host.routing).toBeNull();
  });

  test("a pod has its address and a default route", () => {
    expect(host.pods[1]).toMatchObject({
      id: "pod default/redis",
      netns: "/run/netns/b",
      name: "net0",
      mac: "02:70:0a:01:eb:c2",
      mtu: 1450,
      addresses: [{ address: parseIpv4("10.1.235.194"), length: 32 }],
      routes: [{ table: 254, destination: { address: 0, length: 0 }, gateway: "169.254.1.1", source: null }],
      neighbours: [{ address: "169.254.1.1", mac: "ee:ee:ee:ee:ee:ee" }],
      loopbackUp: true,
    });
  });

  test("the tunnel GSO device is asked for unless it is off", () => {
    expect(host.gso).toMatchObject({ name: "podwire-tx", tap: { vnetHeader: 24, persist: false } });
    const off = parse(`${CONFIG}dataplane: { tunnelGso: off }\n`);
    expect(desiredHost(off, { underlayMtu: 1500, addresses: [] }).gso).toBeNull();
  });

  test.each([
    ["on", 0x6f, []],
    ["off", 0x0f, []],
    ["auto", 0x0f, [TUN_F_USO]],
  ])("uso: %s", (uso, offloads, optionalOffloads) => {
    const parsed = parse(`${CONFIG}dataplane: { uso: "${uso}" }\n`);
    const { node } = desiredHost(parsed, { underlayMtu: 9000, addresses: [] });
    expect(node.tap).toMatchObject({ offloads, optionalOffloads });
    expect(node.mtu).toBe(8950);
  });
});

describe("table input", () => {
  const facts = {
    underlayMtu: 1500,
    tunnelPort: 0,
    node: { port: 1, uso: true },
    gsoPort: 2,
    pods: new Map([["default/nginx", { port: 3, uso: false }]]),
    vteps: new Map([
      ["k8s-worker01", 5],
      ["k8s-worker02", 0],
    ]),
    addresses: ["192.168.2.30", "10.0.2.15", "127.0.0.1"].map((text) => parseIpv4(text)!),
    nodePortAddresses: ["192.168.2.30", "10.0.2.15"].map((text) => parseIpv4(text)!),
    egress: [],
    icmpPort: 3,
    reassemblyPort: 4,
    lan: null,
    lanPorts: NO_LAN_PORTS,
  };
  const input = tableInput(parse(), facts);
  const routes = input.routes.map((r) => `${formatIpv4(r.address)}/${r.length} ${r.to} ${r.target}`);

  test("routes: own addresses, attached pods, own blocks, other nodes", () => {
    expect(routes).toEqual([
      "10.1.235.192/32 port 1",
      "192.168.2.30/32 port 1",
      "10.0.2.15/32 port 1",
      "10.1.235.193/32 port 3",
      "10.1.235.192/26 unreachable 0",
      "10.1.79.64/26 vtep 5",
      "10.1.79.64/32 vtep 5",
      "10.1.69.192/26 vtep 0",
      "10.1.69.192/32 vtep 0",
    ]);
  });

  test("a pod that is not attached is part of its unreachable block", () => {
    expect(routes.some((route) => route.startsWith("10.1.235.194/32"))).toBe(false);
    expect(input.ports.map(({ port, role, uso }) => ({ port, role, uso }))).toEqual([
      { port: 1, role: "node", uso: true },
      { port: 3, role: "pod", uso: false },
    ]);
  });

  test("VTEPs with index, address and port", () => {
    expect(input.vteps.map(({ index, address, udpPort }) => [index, formatIpv4(address), udpPort])).toEqual([
      [5, "192.168.2.31", 4789],
      [0, "192.168.2.32", 8472],
    ]);
  });

  test("the numbers of the node", () => {
    expect(input.node).toMatchObject({
      vni: 4096,
      vxlanPort: 4789,
      mtu: 1450,
      nodePort: 1,
      tunnelPort: 0,
      gsoPort: 2,
    });
    expect(tableInput(parse(), { ...facts, node: null }).node.nodePort).toBe(-1);
  });

  test("ranges of ClusterIPs and NodePorts' addresses; neither without Services", () => {
    expect(input.serviceRanges).toEqual([]);
    const config = parse(`${CONFIG}serviceRange: [10.152.183.0/24, 10.96.0.0/16]\n`);
    expect(tableInput(config, facts).serviceRanges.map(formatCidr)).toEqual([
      "10.152.183.0/24",
      "10.96.0.0/16",
    ]);
    expect(input.nodePortAddresses.map(formatIpv4)).toEqual(["192.168.2.30", "10.0.2.15"]);
  });

  test("a block of one address gives one route, and the image takes it", () => {
    const config = parse(CONFIG.replace("[10.1.79.64/26]", "[10.1.79.64/32]"));
    const small = tableInput(config, facts);
    const of = small.routes.filter((route) => route.address === parseIpv4("10.1.79.64"));
    expect(of).toEqual([{ address: parseIpv4("10.1.79.64"), length: 32, to: "vtep", target: 5 }]);
    expect(() => buildTableImage(small)).not.toThrow();
  });
});
