import { describe, expect, test } from "vitest";
import { KubeError } from "../../../src/kube/KubeError.js";
import type { IPAddressPool, L2Advertisement, Node } from "../../../src/kube/types.js";
import { METALLB_NAMESPACE } from "../../../src/model/metallb.js";
import { formatPrefix, parseAddressRange } from "../../../src/vip/addressRange.js";
import { admitPools, type PoolRequest } from "../../../src/vip/admitPools.js";
import { checkAdvertisement, poolSize, poolsOf } from "../../../src/vip/pools.js";
import { pool } from "./objects.js";

const fault = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return (error as Error).message;
  }
  return "none";
};
const inPool = (range: string, why: string) =>
  `parsing address pool p: invalid CIDR ${JSON.stringify(range)} in pool "p": ${why}`;

test.each([
  ["192.168.2.36-192.168.2.40", ["192.168.2.36/30", "192.168.2.40/32"]],
  ["192.0.2.1-192.0.2.1", ["192.0.2.1/32"]],
  ["192.0.2.1-192.0.2.6", ["192.0.2.1/32", "192.0.2.2/31", "192.0.2.4/31", "192.0.2.6/32"]],
  ["0.0.0.0-255.255.255.255", ["0.0.0.0/0"]],
  ["192.0.2.77/24", ["192.0.2.0/24"]],
  ["2001:DB8:0:0::/64", ["2001:db8::/64"]],
  ["::ffff-::1:1", ["::ffff/128", "::0.1.0.0/127"]],
  ["fe80::1-fe80::3", ["fe80::1/128", "fe80::2/127"]],
  ["::/0", ["::/0"]],
])("the prefixes of %s", (text, want) => {
  expect(parseAddressRange(text).map(formatPrefix)).toEqual(want);
});

test.each([
  ["192.168.2.36", 'invalid CIDR "192.168.2.36"'],
  ["192.168.2.0/33", 'invalid CIDR "192.168.2.0/33"'],
  ["192.168.2.0/", 'invalid CIDR "192.168.2.0/"'],
  ["192.168.2.300/24", 'invalid CIDR "192.168.2.300/24"'],
  ["192.168.02.0/24", 'invalid CIDR "192.168.02.0/24"'],
  ["2001:db8::/129", 'invalid CIDR "2001:db8::/129"'],
  ["", 'invalid CIDR ""'],
  ["a-192.0.2.1", 'invalid IP range "a-192.0.2.1": invalid start IP "a"'],
  ["192.0.2.1- b", 'invalid IP range "192.0.2.1- b": invalid end IP " b"'],
  ["192.0.2.1-2-3", 'invalid IP range "192.0.2.1-2-3": invalid end IP "2-3"'],
  [
    "192.0.2.2-192.0.2.1",
    'invalid IP range "192.0.2.2-192.0.2.1": start IP "192.0.2.2" is after the end IP "192.0.2.1"',
  ],
  [
    "192.0.2.2-2001:db8::1",
    'invalid IP range "192.0.2.2-2001:db8::1": start IP and end IP are of different families',
  ],
])("a pool of %s is refused", (text, why) => {
  expect(fault(() => poolsOf([pool("p", text)], []))).toBe(inPool(text, why));
});

describe("pools", () => {
  const all = (...pools: IPAddressPool[]) => fault(() => poolsOf(pools, []));

  test("overlaps, within a pool and between pools", () => {
    const overlap = (pool: string, a: string, b: string) =>
      `CIDR "${a}" in pool "${pool}" overlaps with already defined CIDR "${b}"`;
    expect(all(pool("p", ["192.0.2.0/24", "192.0.2.7-192.0.2.8"]))).toBe(
      overlap("p", "192.0.2.7/32", "192.0.2.0/24"),
    );
    expect(all(pool("p", "192.0.2.7/32"), pool("q", "192.0.2.0/24"))).toBe(
      overlap("q", "192.0.2.0/24", "192.0.2.7/32"),
    );
    expect(all(pool("p", "2001:db8::/64"), pool("q", "2001:db8::5-2001:db8::5"))).toBe(
      overlap("q", "2001:db8::5/128", "2001:db8::/64"),
    );
    expect(all(pool("p", "192.0.2.0/25"), pool("q", "192.0.2.128/25"), pool("r", "::/0"))).toBe("none");
  });

  test("nothing in them, and names twice", () => {
    expect(all(pool("p", []))).toBe("parsing address pool p: pool has no prefixes defined");
    expect(all(pool("p", "192.0.2.0/24", { serviceAllocation: { namespaces: ["a", "b", "a"] } }))).toBe(
      "parsing address pool p: duplicate definition in namespaces field",
    );
    const red = { matchLabels: { color: "red", a: "b" } };
    const twice = [red, { matchLabels: {} }, red];
    expect(all(pool("p", "192.0.2.0/24", { serviceAllocation: { namespaceSelectors: twice } }))).toBe(
      'parsing address pool p: duplicate definition of namespaceSelectors {map["a":"b" "color":"red"] []}',
    );
    const isIn = (values: string[]) => ({ key: "k", operator: "In", values });
    const expressions = [{ matchExpressions: [isIn(["b", "a"]), isIn(["a", "b"])] }];
    expect(all(pool("p", "192.0.2.0/24", { serviceAllocation: { serviceSelectors: expressions } }))).toBe(
      'parsing address pool p: duplicate definition of match expressions {"k" "In" ["a" "b"]}',
    );
    const values = [{ matchExpressions: [isIn(["a", "a"])] }];
    expect(all(pool("p", "192.0.2.0/24", { serviceAllocation: { serviceSelectors: values } }))).toBe(
      'parsing address pool p: duplicate definition of match expression value in label selector "a"',
    );
    const unknown = [{ matchExpressions: [{ key: "k", operator: "Like" }] }];
    expect(all(pool("p", "192.0.2.0/24", { serviceAllocation: { serviceSelectors: unknown } }))).toBe(
      'parsing address pool p: "Like" is not a valid label selector operator',
    );
  });

  test.each([
    ["192.168.2.36-192.168.2.40", false, 5],
    ["192.0.2.0/24", true, 254],
    ["192.0.0.0/16", true, 65536 - 512],
    ["192.0.2.0/31", true, 1],
    ["192.0.2.255/32", true, 0],
    ["192.0.2.254/31", true, 1],
    ["192.0.2.8/29", true, 8],
    ["2001:db8::/64", false, 0],
  ])("%s with avoidBuggyIPs %s has %i addresses", (range, avoidBuggyIPs, size) => {
    expect(poolSize(poolsOf([pool("p", range, { avoidBuggyIPs })], []).get("p")!)).toBe(size);
  });
});

test("advertisements", () => {
  const check = (spec: L2Advertisement["spec"]) =>
    fault(() => checkAdvertisement({ metadata: { name: "a" }, ...(spec && { spec }) }));
  expect(check(undefined)).toBe("none");
  expect(check({ ipAddressPools: ["a", "nix"], interfaces: ["eth0"] })).toBe("none");
  expect(check({ ipAddressPools: ["a", "a"] })).toBe('duplicate definition of ipAddressPools "a"');
  const node = { matchLabels: { a: "b" } };
  expect(check({ nodeSelectors: [node, node] })).toBe(
    'duplicate definition of nodeSelectors {map["a":"b"] []}',
  );
});

describe("admission", () => {
  const there = pool("there", "192.0.2.0/25");
  const node = {
    metadata: { name: "n" },
    status: { addresses: [{ type: "InternalIP", address: "198.51.100.7" }] },
  } as Node;
  const lists: Record<string, object[]> = { ipaddresspools: [there], namespaces: [], nodes: [node] };
  const request = (object: PoolRequest["object"], change: Partial<PoolRequest> = {}): PoolRequest => ({
    operation: "CREATE",
    definition: { group: "metallb.io", plural: "ipaddresspools" },
    subresource: "",
    object,
    view: { list: (_group, plural) => lists[plural] as ReturnType<PoolRequest["view"]["list"]> },
    ...change,
  });
  const refusal = (object: PoolRequest["object"], change: Partial<PoolRequest> = {}) =>
    fault(() => admitPools(request(object, change)));
  const denied = (why: string, kind = "ipaddresspool") =>
    `admission webhook "${kind}validationwebhook.metallb.io" denied the request: ${why}`;

  test("refuses what the configuration would not bear, as MetalLB's webhooks do", () => {
    expect(refusal(pool("new", "192.0.2.128/25"))).toBe("none");
    expect(refusal(pool("new", "192.0.2.127/32"))).toBe(
      denied('CIDR "192.0.2.127/32" in pool "new" overlaps with already defined CIDR "192.0.2.0/25"'),
    );
    expect(refusal(pool("a", "192.0.2.127/32"))).toContain('in pool "a" overlaps');
    expect(refusal(pool("new", "198.51.100.0/24"))).toBe(
      denied('pool cidr "198.51.100.0/24" contains nodeIp "198.51.100.7"'),
    );
    expect(refusal({ ...there, metadata: { name: "x", namespace: "default" } } as IPAddressPool)).toBe(
      denied(`resource must be created in ${METALLB_NAMESPACE} namespace`),
    );
    expect(() => admitPools(request(pool("new", "x")))).toThrow(KubeError);
  });

  test("an update stands in the place of what was there; status and deletions pass", () => {
    expect(refusal(pool("there", "192.0.2.0/24"), { operation: "UPDATE" })).toBe("none");
    expect(refusal(pool("there", "x"), { operation: "UPDATE" })).toContain('invalid CIDR "x"');
    expect(refusal(pool("there", "x"), { operation: "UPDATE", subresource: "status" })).toBe("none");
    expect(refusal(undefined, { operation: "DELETE" })).toBe("none");
    const other = { definition: { group: "", plural: "services" } };
    expect(refusal({ metadata: { name: "s", namespace: "default" } }, other)).toBe("none");
  });

  test("advertisements", () => {
    const definition = { group: "metallb.io", plural: "l2advertisements" };
    const twice = {
      metadata: { name: "a", namespace: METALLB_NAMESPACE },
      spec: { ipAddressPools: ["p", "p"] },
    } as L2Advertisement;
    expect(refusal(twice, { definition })).toBe(
      denied('duplicate definition of ipAddressPools "p"', "l2advertisement"),
    );
  });
});
