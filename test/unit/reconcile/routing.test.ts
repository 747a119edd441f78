import { beforeEach, describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/agent/config.js";
import { desiredHost } from "../../../src/desired/host.js";
import type { RoutingSpec } from "../../../src/desired/routing.js";
import { FakeHost, type FakeNamespace } from "../../../src/host/FakeHost.js";
import type { RuleInfo } from "../../../src/host/Host.js";
import { formatCidr, parseIpv4 } from "../../../src/model/ipv4.js";
import { applyRouting, type RoutingRecord, restoreRouting } from "../../../src/reconcile/routing.js";

const ADDRESSES = [
  { address: parseIpv4("127.0.0.1")!, link: "lo" },
  { address: parseIpv4("192.168.2.30")!, link: "eth0" },
  { address: parseIpv4("10.0.2.15")!, link: "eth1" },
];

function wanted(services: Record<string, unknown> = {}): RoutingSpec {
  const { config } = parseConfig(
    "f",
    JSON.stringify({
      node: "k8s-master",
      underlay: { address: "192.168.2.30" },
      podPool: "10.1.0.0/16",
      blocks: ["10.1.235.192/26"],
      serviceHost: services,
    }),
  );
  return desiredHost(config, { underlayMtu: 1500, addresses: ADDRESSES }).routing!;
}

let host: FakeHost;
let own: FakeNamespace;
let record: RoutingRecord | null;
/** What was recorded at the moment of each change. */
let recordedBefore: { action: string; record: RoutingRecord | null }[];
const store = {
  routing: () => record,
  writeRouting: (next: RoutingRecord | null) => {
    record = structuredClone(next);
  },
};

beforeEach(() => {
  host = new FakeHost();
  own = host.namespaces.get("")!;
  own.addLink("eth0");
  own.addLink("eth1");
  record = null;
  recordedBefore = [];
  const act = host.act.bind(host);
  host.act = (action, netns) => {
    recordedBefore.push({ action, record: structuredClone(record) });
    act(action, netns);
  };
});

const text = ({ preference, to, inputLink, ipProtocol, ports, table }: RuleInfo) =>
  [
    preference,
    to === null ? "" : formatCidr(to),
    inputLink,
    ipProtocol || "",
    ports === null ? "" : `${ports.first}-${ports.last}`,
    table,
  ]
    .filter((word) => word !== "")
    .join(" ");
const rules = () => own.ruleTable.map(text);
const state = () => structuredClone({ rules: own.ruleTable, sysctls: own.sysctls });

describe("the rules", () => {
  test("of a node with two addresses", async () => {
    await applyRouting(host, wanted(), store);
    const captured = (preference: number, address: string, ports: string) =>
      [6, 17, 132].map((protocol) => `${preference} ${address}/32 ${protocol} ${ports} 4789`);
    expect(rules()).toEqual([
      "40 podwire0 255",
      ...captured(50, "192.168.2.30", "30000-32767"),
      ...captured(50, "127.0.0.1", "30000-32767"),
      ...captured(60, "192.168.2.30", "61000-65534"),
      ...captured(60, "10.0.2.15", "61000-65534"),
      "100 255",
      "32766 254",
      "32767 253",
    ]);
  });

  test("NodePorts at the addresses that were named", async () => {
    const services = { nodePortAddresses: ["10.0.0.0/8", "127.0.0.0/8"], localhostNodePorts: false };
    await applyRouting(host, wanted(services), store);
    expect(rules().filter((rule) => rule.startsWith("50 "))).toEqual(
      [6, 17, 132].map((protocol) => `50 10.0.2.15/32 ${protocol} 30000-32767 4789`),
    );
  });

  test("the local table is looked up in every moment", async () => {
    await applyRouting(host, wanted(), store);
    const at = (action: string) => recordedBefore.findIndex((each) => each.action === action);
    expect(at("add rule 100 lookup 255")).toBeLessThan(at("delete rule 0 lookup 255"));
    expect(at("add rule 40 lookup 255")).toBeLessThan(at("add rule 50 lookup 4789"));
    recordedBefore = [];
    await restoreRouting(host, store);
    expect(at("add rule 0 lookup 255")).toBe(0);
    expect(at("delete rule 100 lookup 255")).toBeGreaterThan(at("delete rule 50 lookup 4789"));
  });

  test("of a changed range replace the old ones", async () => {
    await applyRouting(host, wanted(), store);
    await applyRouting(host, wanted({ nodePorts: "30000-30099" }), store);
    expect(rules().filter((rule) => rule.includes("30000-32767"))).toEqual([]);
    expect(rules().filter((rule) => rule.includes("30000-30099"))).toHaveLength(6);
    expect(own.sysctls.get("net/ipv4/ip_local_reserved_ports")).toBe("30000-30099,61000-65534");
  });

  test("of others stay", async () => {
    const others: RuleInfo[] = [
      { ...own.ruleTable[0]!, preference: 50, to: { address: 0x0a000000, length: 8 }, table: 7 },
      { ...own.ruleTable[0]!, preference: 40, inputLink: "eth0" },
      { ...own.ruleTable[0]!, preference: 100, special: true },
    ];
    own.ruleTable.push(...others);
    await applyRouting(host, wanted(), store);
    await restoreRouting(host, store);
    expect(own.ruleTable).toEqual(expect.arrayContaining(others));
    expect(rules().filter((rule) => rule.endsWith(" 4789"))).toEqual([]);
  });
});

test("where all is as desired, nothing is written", async () => {
  expect(await applyRouting(host, wanted(), store)).not.toEqual([]);
  const before = host.actions.length;
  expect(await applyRouting(host, wanted(), store)).toEqual([]);
  expect(host.actions.length).toBe(before);
});

test("restoring finds back to what was", async () => {
  own.sysctls.set("net/ipv4/ip_local_reserved_ports", "8080,31000");
  own.sysctls.set("net/ipv4/conf/eth1/forwarding", "1");
  const before = state();
  await applyRouting(host, wanted(), store);
  expect(own.sysctls.get("net/ipv4/ip_local_reserved_ports")).toBe("8080,30000-32767,61000-65534");
  expect(own.sysctls.get("net/ipv4/tcp_early_demux")).toBe("0");
  expect(own.sysctls.get("net/ipv4/conf/eth0/forwarding")).toBe("1");
  await restoreRouting(host, store);
  expect(state()).toEqual(before);
  expect(record).toBeNull();
  expect(await restoreRouting(host, store)).toEqual([]);
});

test("what others set since stays", async () => {
  await applyRouting(host, wanted(), store);
  own.sysctls.set("net/ipv4/tcp_early_demux", "2");
  own.sysctls.set("net/ipv4/ip_local_reserved_ports", "8080,30000-32767,61000-65534");
  await restoreRouting(host, store);
  expect(own.sysctls.get("net/ipv4/tcp_early_demux")).toBe("2");
  expect(own.sysctls.get("net/ipv4/ip_local_reserved_ports")).toBe("8080");
});

test("a local rule that somebody had moved before is left where it was", async () => {
  own.ruleTable[0]!.preference = 100;
  await applyRouting(host, wanted(), store);
  await restoreRouting(host, store);
  expect(rules()).toEqual(["100 255", "32766 254", "32767 253"]);
});

test("the forwarding of a link that is no longer concerned is given back", async () => {
  await applyRouting(host, wanted(), store);
  const spec = wanted();
  await applyRouting(host, { ...spec, sysctls: spec.sysctls.filter(({ key }) => !/eth1/.test(key)) }, store);
  expect(own.sysctls.get("net/ipv4/conf/eth1/forwarding")).toBe("0");
  expect(Object.keys(record!.sysctls)).not.toContain("net/ipv4/conf/eth1/forwarding");
  // One that has gone with its link is forgotten.
  own.drop(own.linkTable.find(({ name }) => name === "eth0")!.index);
  await restoreRouting(host, store);
  expect(record).toBeNull();
});

describe("a crash", () => {
  /** Where a first attempt changes something. */
  const steps = async () => {
    await applyRouting(host, wanted(), store);
    return recordedBefore.length;
  };

  test("at any step leaves what can be restored, and what goes on where it ended", async () => {
    const before = state();
    const count = await steps();
    expect(count).toBeGreaterThan(15);
    await restoreRouting(host, store);
    for (const then of ["restore", "go on"])
      for (let at = 0; at < count; at++) {
        let left = at;
        const act = host.act.bind(host);
        host.act = (action, netns) => {
          if (left-- === 0) throw new Error("crash");
          act(action, netns);
        };
        await expect(applyRouting(host, wanted(), store)).rejects.toThrow("crash");
        host.act = act;
        // In no moment without the local table.
        expect(own.ruleTable.some((rule) => text(rule) === "0 255" || text(rule) === "100 255")).toBe(true);
        if (then === "go on") {
          await applyRouting(host, wanted(), store);
          expect(rules()).toHaveLength(16);
        }
        await restoreRouting(host, store);
        expect(state()).toEqual(before);
      }
  });

  test("everything is recorded before it is changed", async () => {
    await steps();
    for (const { action, record: then } of recordedBefore) {
      expect(then).not.toBeNull();
      const key = /^sysctl (.*)$/.exec(action)?.[1];
      if (key === "net/ipv4/ip_local_reserved_ports") expect(then!.reservedPorts).not.toBe("");
      else if (key !== undefined) expect(Object.keys(then!.sysctls)).toContain(key);
    }
  });
});
