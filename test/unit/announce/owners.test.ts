import { describe, expect, it } from "vitest";
import { bfdPeers, FULL_MESH, REACH } from "../../../src/announce/neighbors.js";
import {
  type AnnouncedService,
  type AnnouncementInput,
  type AnnouncingNode,
  EXCLUDE_LABEL,
  type VipOrder,
  vipOrders,
} from "../../../src/announce/owners.js";
import { hashNode, rendezvousOrder } from "../../../src/announce/rendezvous.js";
import type { L2Advertisement } from "../../../src/kube/types.js";
import { address } from "../../support/frames.js";
import { Random } from "../../support/random.js";

const NODES = ["k8s-master", "k8s-worker01", "k8s-worker02", "k8s-worker03"];
const VIP = address("192.168.2.36");
const POOL = "default-addresspool";

function node(name: string, fields: Partial<AnnouncingNode> = {}): AnnouncingNode {
  return { name, labels: {}, lanInterface: "eth0", networkUnavailable: false, ...fields };
}

function advertisement(spec: NonNullable<L2Advertisement["spec"]>): L2Advertisement {
  return { metadata: { name: "default-advertise-all-pools", namespace: "metallb-system" }, spec };
}

function service(
  endpointNodes: string[],
  local = false,
  labels: Record<string, string> = {},
): AnnouncedService {
  return { labels, local, endpointNodes: new Set(endpointNodes) };
}

function input(fields: Partial<AnnouncementInput> = {}): AnnouncementInput {
  return {
    nodes: NODES.map((name) => node(name)),
    pools: new Map([[POOL, { zone: "east" }]]),
    advertisements: [advertisement({})],
    vips: [{ address: VIP, pool: POOL, services: [service(["k8s-worker01"])] }],
    ...fields,
  };
}

/** Names of the nodes that may own the only address, sorted; or what the problem is. */
function eligible(fields: Partial<AnnouncementInput>): string[] | string | null {
  const [order] = vipOrders(input(fields));
  return order!.problem ?? [...order!.nodes].sort();
}

const [MASTER, W1, W2, W3] = NODES as [string, string, string, string];
const inZone = (zone: string) => ({ matchLabels: { zone } });

describe("vipOrders", () => {
  it("is the same whatever order nodes come in, and has all of them", () => {
    const [order] = vipOrders(input());
    expect([...order!.nodes].sort()).toEqual(NODES);
    for (let n = 0; n < 20; n++) {
      const random = new Random(n);
      const nodes = NODES.map((name) => node(name)).sort(() => random.below(3) - 1);
      expect(vipOrders(input({ nodes }))).toEqual([order]);
    }
  });

  it("never changes from release to release: nodes of two versions must agree", () => {
    const vips = [36, 37, 38].map((last) => ({ ...input().vips[0]!, address: address(`192.168.2.${last}`) }));
    // Computed apart: MurmurHash3's finaliser of (its finaliser of address ^ high) ^ low, SHA-256's first words.
    expect(vipOrders(input({ vips })).map(({ nodes }) => nodes)).toEqual([
      [W2, MASTER, W3, W1],
      [W3, W2, MASTER, W1],
      [W2, W3, W1, MASTER],
    ]);
  });

  it.each<[string, Partial<AnnouncementInput>, string[] | string]>([
    ["an empty advertisement", {}, NODES],
    ["an advertisement without spec", { advertisements: [{ metadata: { name: "all" } }] }, NODES],
    ["the pool by name", { advertisements: [advertisement({ ipAddressPools: [POOL] })] }, NODES],
    ["another pool by name", { advertisements: [advertisement({ ipAddressPools: ["b"] })] }, "notAdvertised"],
    [
      "the pool by labels",
      { advertisements: [advertisement({ ipAddressPoolSelectors: [inZone("east")] })] },
      NODES,
    ],
    [
      "other labels",
      { advertisements: [advertisement({ ipAddressPoolSelectors: [inZone("west")] })] },
      "notAdvertised",
    ],
    [
      "name or labels",
      {
        advertisements: [advertisement({ ipAddressPools: [POOL], ipAddressPoolSelectors: [inZone("west")] })],
      },
      NODES,
    ],
    ["no advertisement", { advertisements: [] }, "notAdvertised"],
    ["a pool that is gone", { pools: new Map() }, "notAdvertised"],
    ["no Service", { vips: [{ address: VIP, pool: POOL, services: [] }] }, "noEndpoints"],
    ["no endpoint", { vips: [{ address: VIP, pool: POOL, services: [service([])] }] }, "noEndpoints"],
    ["an endpoint of no node", { vips: [{ address: VIP, pool: POOL, services: [service([""])] }] }, NODES],
    ["policy Local", { vips: [{ address: VIP, pool: POOL, services: [service([W1, W3], true)] }] }, [W1, W3]],
    [
      "policy Local, no node",
      { vips: [{ address: VIP, pool: POOL, services: [service([""], true)] }] },
      "noNode",
    ],
    [
      "two Services, one of them Local",
      { vips: [{ address: VIP, pool: POOL, services: [service([MASTER]), service([W2, W3], true)] }] },
      [W2, W3],
    ],
    [
      "two Local Services",
      { vips: [{ address: VIP, pool: POOL, services: [service([W1, W2], true), service([W2, W3], true)] }] },
      [W2],
    ],
    [
      "two Local Services, one without endpoints",
      { vips: [{ address: VIP, pool: POOL, services: [service([W1], true), service([], true)] }] },
      [W1],
    ],
    [
      "an excluded node",
      { nodes: [node(MASTER, { labels: { [EXCLUDE_LABEL]: "" } }), node(W1), node(W2)] },
      [W1, W2],
    ],
    [
      "exclusion whatever the label's value",
      { nodes: [node(MASTER, { labels: { [EXCLUDE_LABEL]: "false" } }), node(W1)] },
      [W1],
    ],
    ["no network on a node", { nodes: [node(MASTER, { networkUnavailable: true }), node(W1)] }, [W1]],
    ["all nodes excluded", { nodes: [node(MASTER, { labels: { [EXCLUDE_LABEL]: "" } })] }, "noNode"],
    [
      "a node selector",
      {
        nodes: [node(MASTER), node(W1, { labels: { rack: "a" } }), node(W2, { labels: { rack: "b" } })],
        advertisements: [advertisement({ nodeSelectors: [{ matchLabels: { rack: "a" } }] })],
      },
      [W1],
    ],
    [
      "two node selectors: either",
      {
        nodes: [node(MASTER), node(W1, { labels: { rack: "a" } }), node(W2, { labels: { rack: "b" } })],
        advertisements: [
          advertisement({
            nodeSelectors: [
              { matchLabels: { rack: "a" } },
              { matchExpressions: [{ key: "rack", operator: "In", values: ["b", "c"] }] },
            ],
          }),
        ],
      },
      [W1, W2],
    ],
    [
      "two advertisements: the nodes of both",
      {
        nodes: [node(MASTER), node(W1, { labels: { rack: "a" } }), node(W2, { labels: { rack: "b" } })],
        advertisements: ["a", "b"].map((rack) =>
          advertisement({ nodeSelectors: [{ matchLabels: { rack } }] }),
        ),
      },
      [W1, W2],
    ],
    [
      "a service selector",
      {
        advertisements: [advertisement({ serviceSelectors: [{ matchLabels: { app: "web" } }] })],
        vips: [{ address: VIP, pool: POOL, services: [service([W1], false, { app: "web" })] }],
      },
      NODES,
    ],
    [
      "a service selector that takes another Service",
      { advertisements: [advertisement({ serviceSelectors: [{ matchLabels: { app: "web" } }] })] },
      "notAdvertised",
    ],
    [
      "a service selector that takes one of two Services",
      {
        advertisements: [advertisement({ serviceSelectors: [{ matchLabels: { app: "web" } }] })],
        vips: [{ address: VIP, pool: POOL, services: [service([W1]), service([W2], false, { app: "web" })] }],
      },
      NODES,
    ],
    [
      "a service selector that takes the one of two Services that has no endpoint",
      {
        advertisements: [advertisement({ serviceSelectors: [{ matchLabels: { app: "web" } }] })],
        vips: [{ address: VIP, pool: POOL, services: [service([W1]), service([], false, { app: "web" })] }],
      },
      "notAdvertised",
    ],
    [
      "service selectors of two advertisements, each with nodes of its own",
      {
        nodes: [node(MASTER), node(W1, { labels: { rack: "a" } }), node(W2, { labels: { rack: "b" } })],
        advertisements: ["a", "b"].map((rack) =>
          advertisement({
            nodeSelectors: [{ matchLabels: { rack } }],
            serviceSelectors: [{ matchLabels: { for: rack } }],
          }),
        ),
        vips: [{ address: VIP, pool: POOL, services: [service([MASTER], false, { for: "b" })] }],
      },
      [W2],
    ],
    [
      "an interface that one node has",
      {
        nodes: [node(MASTER), node(W1, { lanInterface: "eth1" })],
        advertisements: [advertisement({ interfaces: ["eth1", "eth2"] })],
      },
      [W1],
    ],
    [
      "interface and node selector of one advertisement together",
      {
        nodes: [node(MASTER, { labels: { rack: "a" } }), node(W1, { lanInterface: "eth1" })],
        advertisements: [
          advertisement({ interfaces: ["eth1"], nodeSelectors: [{ matchLabels: { rack: "a" } }] }),
        ],
      },
      "noNode",
    ],
  ])("%s", (_, fields, expected) => {
    expect(eligible(fields)).toEqual(expected);
  });
});

describe("rendezvousOrder", () => {
  const nodes = Array.from({ length: 10 }, (_, i) => hashNode(`node-${i}`));
  const addresses = Array.from({ length: 5000 }, (_, i) => (VIP + i) | 0);
  const first = (among: typeof nodes) => addresses.map((a) => rendezvousOrder(among, a)[0]!.name);

  it("spreads addresses evenly", () => {
    const counts = new Map<string, number>();
    for (const name of first(nodes)) counts.set(name, (counts.get(name) ?? 0) + 1);
    // 500 each, with a standard deviation of 21.
    for (const { name } of nodes) expect(Math.abs(counts.get(name)! - 500)).toBeLessThan(100);
  });

  it("a node that goes moves its own addresses only, and evenly to the others", () => {
    const before = first(nodes);
    const after = first(nodes.slice(1));
    const heirs = new Map<string, number>();
    before.forEach((owner, i) => {
      if (owner !== "node-0") expect(after[i]).toBe(owner);
      else heirs.set(after[i]!, (heirs.get(after[i]!) ?? 0) + 1);
    });
    expect(heirs.size).toBe(9);
  });
});

describe("bfdPeers", () => {
  const names = (count: number) => Array.from({ length: count }, (_, i) => `node-${i}`);

  it("is everybody else up to the full mesh", () => {
    expect(bfdPeers(W1, NODES, [])).toEqual([MASTER, W2, W3]);
    expect(bfdPeers("node-5", names(FULL_MESH), [])).toHaveLength(FULL_MESH - 1);
  });

  it.each([FULL_MESH + 1, 300])(
    "with %i nodes each watches its neighbours, and is watched by them",
    (count) => {
      const all = names(count);
      const peers = new Map(all.map((name) => [name, bfdPeers(name, all, [])]));
      for (const [name, list] of peers) {
        expect(list).toHaveLength(4 * REACH);
        for (const other of list) expect(peers.get(other)).toContain(name);
      }
    },
  );

  it("in a large cluster any two candidates of an address watch each other", () => {
    const all = names(300);
    const random = new Random(3);
    const vips = Array.from({ length: 60 }, (_, i) => ({
      address: (VIP + i) | 0,
      pool: POOL,
      // Some with an endpoint on a few nodes only.
      services: [
        i % 3 === 0 ? service([random.pick(all), random.pick(all), random.pick(all)], true) : service(all),
      ],
    }));
    const orders: VipOrder[] = vipOrders(input({ nodes: all.map((name) => node(name)), vips }));
    const peers = new Map(all.map((name) => [name, new Set(bfdPeers(name, all, orders))]));
    orders.forEach(({ nodes }, i) => {
      expect(nodes.length).toBeGreaterThanOrEqual(Math.min(3, vips[i]!.services[0]!.endpointNodes.size));
      for (const a of nodes) for (const b of nodes) if (a !== b) expect(peers.get(a)!.has(b)).toBe(true);
    });
  });
});
