/** MetalLB's rules, one case a line: pools, who is there, who asks, and what it gets or is told. */
import { expect, test } from "vitest";
import type { IPAddressPool, Namespace, Service } from "../../../src/kube/types.js";
import { formatIpv4, parseIpv4 } from "../../../src/model/ipv4.js";
import { Allocator } from "../../../src/vip/Allocator.js";
import { converge } from "../../../src/vip/converge.js";
import { poolsOf } from "../../../src/vip/pools.js";
import { namespace, pool, type ServiceFacts, service } from "./objects.js";

interface Case {
  pools?: IPAddressPool[];
  namespaces?: Namespace[];
  /** Services that come first, in order; their names are a, b, c … */
  before?: ServiceFacts[];
  /** Pools that are put in place before the asker's turn. */
  later?: IPAddressPool[];
  /** Addresses that other devices have. */
  taken?: Record<string, string>;
  ask?: ServiceFacts;
  /** The address that x gets, or what its last Event says. */
  want: string;
}

const FIVE = [pool("default", "192.168.2.36-192.168.2.40")];
const ONE = [pool("default", "192.168.2.36/32")];
const share = (key = "k"): ServiceFacts => ({ annotations: { "metallb.io/allow-shared-ip": key } });
const from = (name: string): ServiceFacts => ({ annotations: { "metallb.io/address-pool": name } });
const wish = (addresses: string): ServiceFacts => ({
  annotations: { "metallb.io/loadBalancerIPs": addresses },
});
const local = (selector: Record<string, string> = {}) => ({
  spec: { externalTrafficPolicy: "Local", selector },
});
const failed = (why: string) => `AllocationFailed: Failed to allocate IP for "default/x": ${why}`;
const NONE = failed("no available IPs");
const red = { matchLabels: { color: "red" } };

const CASES: Record<string, Case> = {
  "no pool at all": { pools: [], want: NONE },
  "the first of a range": { pools: FIVE, want: "192.168.2.36" },
  "the next of a range": { pools: FIVE, before: [{}, {}], want: "192.168.2.38" },
  "a range that is full": { pools: ONE, before: [{}], want: NONE },
  "a CIDR from its first address": { pools: [pool("p", "192.0.2.0/29")], want: "192.0.2.0" },
  "a CIDR with bits behind its length": { pools: [pool("p", "192.0.2.5/29")], want: "192.0.2.0" },
  "a range that begins and ends at odds": {
    pools: [pool("p", "192.0.2.3-192.0.2.5")],
    before: [{}, {}],
    want: "192.0.2.5",
  },
  "spaces around the dash": { pools: [pool("p", "192.0.2.3 - 192.0.2.5")], want: "192.0.2.3" },
  "ranges in their order, not by number": {
    pools: [pool("p", ["192.0.2.9/32", "192.0.2.1/32"])],
    want: "192.0.2.9",
  },
  "the second range when the first is full": {
    pools: [pool("p", ["192.0.2.9/32", "192.0.2.1/32"])],
    before: [{}],
    want: "192.0.2.1",
  },
  "the last address of all": { pools: [pool("p", "255.255.255.255/32")], want: "255.255.255.255" },
  "nothing behind the last address of all": {
    pools: [pool("p", "255.255.255.255/32")],
    before: [{}],
    want: NONE,
  },
  "IPv6 ranges are passed over": { pools: [pool("p", ["2001:db8::/64", "192.0.2.1/32"])], want: "192.0.2.1" },
  "only IPv6 ranges": { pools: [pool("p", "2001:db8::/64")], want: NONE },

  "avoidBuggyIPs: .0 is left out": {
    pools: [pool("p", "192.0.2.0/30", { avoidBuggyIPs: true })],
    want: "192.0.2.1",
  },
  "avoidBuggyIPs: .255 is left out": {
    pools: [pool("p", "192.0.2.254/31", { avoidBuggyIPs: true })],
    before: [{}],
    want: NONE,
  },
  "avoidBuggyIPs: .0 is not had by asking": {
    pools: [pool("p", "192.0.2.0/30", { avoidBuggyIPs: true })],
    ask: wish("192.0.2.0"),
    want: failed('["192.0.2.0"] is not allowed in config'),
  },
  "without avoidBuggyIPs .255 is one like others": {
    pools: [pool("p", "192.0.2.254/31")],
    before: [{}],
    want: "192.0.2.255",
  },
  "avoidBuggyIPs switched on under .0: another one": {
    pools: [pool("p", "192.0.2.0/30")],
    later: [pool("p", "192.0.2.0/30", { avoidBuggyIPs: true })],
    ask: { has: ["192.0.2.0"] },
    want: "192.0.2.1",
  },

  "autoAssign off: not by itself": { pools: [pool("p", "192.0.2.0/30", { autoAssign: false })], want: NONE },
  "autoAssign off: by its name": {
    pools: [pool("p", "192.0.2.0/30", { autoAssign: false })],
    ask: from("p"),
    want: "192.0.2.0",
  },
  "autoAssign off: by its address": {
    pools: [pool("p", "192.0.2.0/30", { autoAssign: false })],
    ask: wish("192.0.2.2"),
    want: "192.0.2.2",
  },
  "autoAssign off under a live Service: it keeps its address": {
    pools: [pool("p", "192.0.2.0/30")],
    later: [pool("p", "192.0.2.0/30", { autoAssign: false })],
    ask: { has: ["192.0.2.2"] },
    want: "192.0.2.2",
  },
  "the pool whose turn it is has autoAssign": {
    pools: [pool("a", "192.0.2.0/30", { autoAssign: false }), pool("b", "198.51.100.0/30")],
    want: "198.51.100.0",
  },

  "a pool by annotation": {
    pools: [...FIVE, pool("other", "192.0.2.7/32")],
    ask: from("other"),
    want: "192.0.2.7",
  },
  "a pool by the old annotation": {
    pools: [...FIVE, pool("other", "192.0.2.7/32")],
    ask: { annotations: { "metallb.universe.tf/address-pool": "other" } },
    want: "192.0.2.7",
  },
  "both annotations: the new one": {
    pools: [...FIVE, pool("other", "192.0.2.7/32")],
    ask: {
      annotations: { "metallb.universe.tf/address-pool": "default", "metallb.io/address-pool": "other" },
    },
    want: "192.0.2.7",
  },
  "an unknown pool": { pools: FIVE, ask: from("nix"), want: failed('unknown pool "nix"') },
  "a pool by annotation that is full": {
    pools: [...FIVE, pool("other", "192.0.2.7/32")],
    before: [from("other")],
    ask: from("other"),
    want: failed("no available IPs in pool other for ipv4 IPFamily"),
  },
  "another pool than the one it has": {
    pools: [...FIVE, pool("other", "192.0.2.7/32")],
    ask: { ...from("other"), has: ["192.168.2.36"] },
    want: "192.0.2.7",
  },

  "an address by spec.loadBalancerIP": {
    pools: FIVE,
    ask: { spec: { loadBalancerIP: "192.168.2.39" } },
    want: "192.168.2.39",
  },
  "an address by annotation": { pools: FIVE, ask: wish("192.168.2.40"), want: "192.168.2.40" },
  "an address by the old annotation": {
    pools: FIVE,
    ask: { annotations: { "metallb.universe.tf/loadBalancerIPs": "192.168.2.40" } },
    want: "192.168.2.40",
  },
  "an address by both": {
    pools: FIVE,
    ask: { ...wish("192.168.2.40"), spec: { loadBalancerIP: "192.168.2.40" } },
    want: failed("service can not have both metallb.io/loadBalancerIPs and svc.Spec.LoadBalancerIP"),
  },
  "an address that is none": {
    pools: FIVE,
    ask: { spec: { loadBalancerIP: "192.168.2" } },
    want: failed('invalid spec.loadBalancerIP "192.168.2"'),
  },
  "an annotation that is no address": {
    pools: FIVE,
    ask: wish("192.168.2.036"),
    want: failed('invalid metallb.io/loadBalancerIPs: "192.168.2.036"'),
  },
  "an address outside every pool": {
    pools: FIVE,
    ask: wish("192.168.2.41"),
    want: failed('["192.168.2.41"] is not allowed in config'),
  },
  "an address that another has": {
    pools: FIVE,
    before: [{}],
    ask: wish("192.168.2.36"),
    want: failed('can\'t change sharing key for "default/x", address also in use by default/a'),
  },
  "an address of another pool than asked for": {
    pools: [...FIVE, pool("other", "192.0.2.7/32")],
    ask: { annotations: { "metallb.io/loadBalancerIPs": "192.0.2.7", "metallb.io/address-pool": "default" } },
    want: failed(
      'requested loadBalancer IP(s) ["192.0.2.7"] is not compatible with requested address pool default',
    ),
  },
  "an address of the pool asked for": {
    pools: [...FIVE, pool("other", "192.0.2.7/32")],
    ask: { annotations: { "metallb.io/loadBalancerIPs": "192.0.2.7", "metallb.io/address-pool": "other" } },
    want: "192.0.2.7",
  },
  "another address than the one it has": {
    pools: FIVE,
    ask: { ...wish("192.168.2.38"), has: ["192.168.2.36"] },
    want: "192.168.2.38",
  },
  "a wish that is wrong: it keeps what it has, and is told": {
    pools: FIVE,
    ask: { ...wish("x"), has: ["192.168.2.38"] },
    want: 'LoadBalancerFailed: invalid requested loadbalancer IPs: invalid metallb.io/loadBalancerIPs: "x"',
  },

  "two families wanted on a Service of one": {
    pools: FIVE,
    ask: wish("192.168.2.36, 2001:DB8::0:1"),
    want: failed(
      'requested loadBalancer IP(s) ["192.168.2.36" "2001:db8::1"] does not match the ipFamily of the service',
    ),
  },
  "an IPv6 address wanted on an IPv4 Service": {
    pools: FIVE,
    ask: wish("2001:db8::1"),
    want: failed('requested loadBalancer IP(s) ["2001:db8::1"] does not match the ipFamily of the service'),
  },
  "two addresses of one family": {
    pools: FIVE,
    ask: wish("192.168.2.36,192.168.2.37"),
    want: failed('IPFamilyForAddresses: same address family ["192.168.2.36" "192.168.2.37"]'),
  },
  "three addresses": {
    pools: FIVE,
    ask: wish("192.168.2.36,192.168.2.37,::1"),
    want: failed('IPFamilyForAddresses: invalid ips length 3 ["192.168.2.36" "192.168.2.37" "::1"]'),
  },
  RequireDualStack: {
    pools: FIVE,
    ask: { spec: { ipFamilyPolicy: "RequireDualStack", clusterIPs: ["10.152.183.10", "fd00::1"] } },
    want: failed("dual-stack is not supported, only IPv4 addresses are given out"),
  },
  "PreferDualStack gets IPv4": {
    pools: FIVE,
    ask: { spec: { ipFamilyPolicy: "PreferDualStack", clusterIPs: ["10.152.183.10", "fd00::1"] } },
    want: "192.168.2.36",
  },
  "an IPv6 Service": {
    pools: FIVE,
    ask: { spec: { clusterIP: "fd00::1", clusterIPs: ["fd00::1"] } },
    want: failed("IPv6 is not supported, only IPv4 addresses are given out"),
  },
  "no ClusterIP yet": { pools: FIVE, ask: { spec: { clusterIP: "", clusterIPs: [] } }, want: "nothing" },

  "shared by key": {
    pools: ONE,
    before: [{ ...share(), ports: ["80"] }],
    ask: { ...share(), ports: ["443"] },
    want: "192.168.2.36",
  },
  "shared by the old key annotation": {
    pools: ONE,
    before: [{ ...share(), ports: ["80"] }],
    ask: { annotations: { "metallb.universe.tf/allow-shared-ip": "k" }, ports: ["443"] },
    want: "192.168.2.36",
  },
  "shared by protocol": {
    pools: ONE,
    before: [{ ...share(), ports: ["53"] }],
    ask: { ...share(), ports: ["53/UDP"] },
    want: "192.168.2.36",
  },
  "shared by three": {
    pools: ONE,
    before: [
      { ...share(), ports: ["80"] },
      { ...share(), ports: ["81"] },
    ],
    ask: { ...share(), ports: ["82"] },
    want: "192.168.2.36",
  },
  "the same key and the same port: the next address": {
    pools: FIVE,
    before: [share()],
    ask: share(),
    want: "192.168.2.37",
  },
  "the same key and one port of many: none": {
    pools: ONE,
    before: [{ ...share(), ports: ["80", "443"] }],
    ask: { ...share(), ports: ["8080", "443"] },
    want: NONE,
  },
  "the same port on the address asked for": {
    pools: FIVE,
    before: [share()],
    ask: {
      annotations: { "metallb.io/allow-shared-ip": "k", "metallb.io/loadBalancerIPs": "192.168.2.36" },
    },
    want: failed('port TCP/80 is already in use on "192.168.2.36"'),
  },
  "another key": {
    pools: FIVE,
    before: [share()],
    ask: { ...share("other"), ports: ["81"] },
    want: "192.168.2.37",
  },
  "no key beside one with a key": {
    pools: FIVE,
    before: [share()],
    ask: { ports: ["81"] },
    want: "192.168.2.37",
  },
  "an empty key is none": {
    pools: FIVE,
    before: [share("")],
    ask: { ...share(""), ports: ["81"] },
    want: "192.168.2.37",
  },
  "a key beside one without": {
    pools: FIVE,
    before: [{}],
    ask: { ...share(), ports: ["81"] },
    want: "192.168.2.37",
  },
  "policies Cluster and Local do not share": {
    pools: FIVE,
    before: [share()],
    ask: { ...share(), ...local({ app: "x" }), ports: ["81"] },
    want: "192.168.2.37",
  },
  "Local shares with the same pods": {
    pools: ONE,
    before: [{ ...share(), ...local({ app: "x", tier: "y" }) }],
    ask: { ...share(), ...local({ tier: "y", app: "x" }), ports: ["81"] },
    want: "192.168.2.36",
  },
  "Local does not share with other pods": {
    pools: ONE,
    before: [{ ...share(), ...local({ app: "x" }) }],
    ask: { ...share(), ...local({ app: "y" }), ports: ["81"] },
    want: NONE,
  },
  "Cluster shares whatever the pods": {
    pools: ONE,
    before: [{ ...share(), spec: { selector: { app: "x" } } }],
    ask: { ...share(), spec: { selector: { app: "y" } }, ports: ["81"] },
    want: "192.168.2.36",
  },
  "a new key on an address of one's own": {
    pools: ONE,
    ask: { ...share("new"), has: ["192.168.2.36"] },
    want: "192.168.2.36",
  },
  "a new port on a shared address that is another's: it moves": {
    pools: FIVE,
    before: [share()],
    ask: { ...share(), has: ["192.168.2.36"] },
    want: "192.168.2.37",
  },

  "a pool for its namespace comes first": {
    pools: [...FIVE, pool("z", "192.0.2.7/32", { serviceAllocation: { namespaces: ["default"] } })],
    want: "192.0.2.7",
  },
  "a pool for another namespace": {
    pools: [pool("z", "192.0.2.7/32", { serviceAllocation: { namespaces: ["other"] } })],
    want: NONE,
  },
  "an address of a pool for another namespace": {
    pools: [pool("z", "192.0.2.7/32", { serviceAllocation: { namespaces: ["other"] } })],
    ask: wish("192.0.2.7"),
    want: failed("pool z not compatible for ip assignment"),
  },
  "a pool by name that is for another namespace": {
    pools: [pool("z", "192.0.2.7/32", { serviceAllocation: { namespaces: ["other"] } })],
    ask: from("z"),
    want: failed("pool z not compatible for ip assignment"),
  },
  "a pool for namespaces by label": {
    pools: [...FIVE, pool("z", "192.0.2.7/32", { serviceAllocation: { namespaceSelectors: [red] } })],
    namespaces: [namespace("default", { color: "red" })],
    want: "192.0.2.7",
  },
  "a pool for namespaces with another label": {
    pools: [pool("z", "192.0.2.7/32", { serviceAllocation: { namespaceSelectors: [red] } })],
    namespaces: [namespace("default", { color: "blue" })],
    want: NONE,
  },
  "a pool for Services by label": {
    pools: [...FIVE, pool("z", "192.0.2.7/32", { serviceAllocation: { serviceSelectors: [red] } })],
    ask: { labels: { color: "red" } },
    want: "192.0.2.7",
  },
  "a pool for Services with another label": {
    pools: [...FIVE, pool("a", "192.0.2.7/32", { serviceAllocation: { serviceSelectors: [red] } })],
    want: "192.168.2.36",
  },
  "namespace and label both count": {
    pools: [
      pool("z", "192.0.2.7/32", { serviceAllocation: { namespaces: ["other"], serviceSelectors: [red] } }),
    ],
    ask: { labels: { color: "red" } },
    want: NONE,
  },
  "two pools by priority: the lower number": {
    pools: [
      pool("a", "192.0.2.1/32", { serviceAllocation: { priority: 20, namespaces: ["default"] } }),
      pool("b", "192.0.2.2/32", { serviceAllocation: { priority: 10, namespaces: ["default"] } }),
    ],
    want: "192.0.2.2",
  },
  "two pools by priority: the second when the first is full": {
    pools: [
      pool("a", "192.0.2.1/32", { serviceAllocation: { priority: 20, namespaces: ["default"] } }),
      pool("b", "192.0.2.2/32", { serviceAllocation: { priority: 10, namespaces: ["default"] } }),
    ],
    before: [{}],
    want: "192.0.2.1",
  },
  "no priority is the last": {
    pools: [
      pool("a", "192.0.2.1/32", { serviceAllocation: { namespaces: ["default"] } }),
      pool("b", "192.0.2.2/32", { serviceAllocation: { priority: 10, serviceSelectors: [{}] } }),
    ],
    want: "192.0.2.2",
  },
  "pools for everybody when those kept for it are full": {
    pools: [...FIVE, pool("z", "192.0.2.7/32", { serviceAllocation: { namespaces: ["default"] } })],
    before: [{}],
    want: "192.168.2.36",
  },
  "a pool with a priority and for nobody": {
    pools: [pool("z", "192.0.2.7/32", { serviceAllocation: { priority: 1 } })],
    want: NONE,
  },
  "a pool kept for it without autoAssign": {
    pools: [
      ...FIVE,
      pool("z", "192.0.2.7/32", { autoAssign: false, serviceAllocation: { namespaces: ["default"] } }),
    ],
    want: "192.168.2.36",
  },

  "what it has, it keeps": { pools: FIVE, ask: { has: ["192.168.2.39"] }, want: "192.168.2.39" },
  "a pool shrunk under a live Service": {
    pools: FIVE,
    later: [pool("default", "192.168.2.36-192.168.2.38")],
    ask: { has: ["192.168.2.39"] },
    want: "192.168.2.36",
  },
  "a pool deleted under a live Service": {
    pools: FIVE,
    later: [],
    ask: { has: ["192.168.2.39"] },
    want: NONE,
  },
  "a pool renamed under a live Service": {
    pools: FIVE,
    later: [pool("other", "192.168.2.36-192.168.2.40")],
    ask: { has: ["192.168.2.39"] },
    want: "192.168.2.39",
  },
  "a pool that is no longer for a live Service": {
    pools: FIVE,
    later: [
      pool("default", "192.168.2.36-192.168.2.40", { serviceAllocation: { namespaces: ["other"] } }),
      pool("z", "192.0.2.7/32"),
    ],
    ask: { has: ["192.168.2.39"] },
    want: "192.0.2.7",
  },
  "an address that an older Service shows too": {
    pools: FIVE,
    before: [{ has: ["192.168.2.39"] }],
    ask: { has: ["192.168.2.39"] },
    want: "192.168.2.36",
  },
  "two addresses in the status": {
    pools: FIVE,
    ask: { has: ["192.168.2.39", "192.168.2.40"] },
    want: "192.168.2.36",
  },

  "one that is in use on the LAN is left out": {
    pools: FIVE,
    taken: { "192.168.2.36": "02:00:00:00:00:01" },
    want: "192.168.2.37",
  },
  "one that is in use on the LAN, asked for": {
    pools: FIVE,
    taken: { "192.168.2.36": "02:00:00:00:00:01" },
    ask: wish("192.168.2.36"),
    want: failed('"192.168.2.36" is in use by 02:00:00:00:00:01 on the LAN'),
  },
  "one that it has stays, whoever claims it": {
    pools: FIVE,
    taken: { "192.168.2.36": "02:00:00:00:00:01" },
    ask: { has: ["192.168.2.36"] },
    want: "192.168.2.36",
  },
};

test.each(Object.entries(CASES))("%s", (_name, { pools = [], namespaces = [], before = [], ...rest }) => {
  const allocator = new Allocator();
  const lan = { taken: (address: number) => rest.taken?.[formatIpv4(address)] ?? null };
  const turn = (asker: Service) => {
    const step = converge(asker, allocator, lan);
    allocator.settle(`default/${asker.metadata.name}`);
    return step;
  };
  allocator.setPools(poolsOf(pools, namespaces));
  for (const [i, facts] of before.entries()) {
    const { address } = turn(service("abc"[i]!, facts));
    expect(address, "those who came before").not.toBeNull();
  }
  const asker = service("x", rest.ask);
  const { later } = rest;
  if (later) {
    expect(turn(asker).address).toBe(parseIpv4(rest.ask!.has![0]!));
    allocator.setPools(poolsOf(later, namespaces));
  }
  const { address, events } = turn(asker);
  const last = events.at(-1);
  const told = last?.type === "Warning" ? `${last.reason}: ${last.message}` : undefined;
  expect(told ?? (address === null ? "nothing" : formatIpv4(address))).toBe(rest.want);
  // What it does not have is free for others.
  if (address === null) expect(allocator.addressOf("default/x")).toBeNull();
});

test("words of the Events", () => {
  const allocator = new Allocator();
  allocator.setPools(poolsOf(FIVE, []));
  const lan = { taken: () => null };
  expect(converge(service("x"), allocator, lan).events).toEqual([
    { type: "Normal", reason: "IPAllocated", message: 'Assigned IP ["192.168.2.36"]' },
  ]);
  expect(converge(service("x", { has: ["192.168.2.36"] }), allocator, lan).events).toEqual([]);
  expect(converge(service("y", { has: ["192.0.2.1"] }), allocator, lan).events).toEqual([
    {
      type: "Normal",
      reason: "ClearAssignment",
      message:
        'current IP for "default/y" not allowed by config, will attempt for new IP assignment: ["192.0.2.1"] is not allowed in config',
    },
    { type: "Normal", reason: "IPAllocated", message: 'Assigned IP ["192.168.2.37"]' },
  ]);
});
