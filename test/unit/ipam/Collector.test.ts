import { beforeEach, describe, expect, test } from "vitest";
import { Allocator } from "../../../src/ipam/Allocator.js";
import { readObjects, releaseAddress, splitPool } from "../../../src/ipam/admin.js";
import { blockWalk, prefixOf } from "../../../src/ipam/blockMath.js";
import { Collector } from "../../../src/ipam/Collector.js";
import { check } from "../../../src/ipam/check.js";
import { addressText, checkText, leaksOfReport, usages, usageTable } from "../../../src/ipam/report.js";
import type { IPAMBlock, IPPool } from "../../../src/ipam/types.js";
import type { Clock } from "../../../src/kube/Clock.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { IPAMBLOCKS, IPPOOLS, NODES, PODS } from "../../../src/kube/resources.js";
import type { Node, Pod } from "../../../src/kube/types.js";
import { formatCidr } from "../../../src/model/ipv4.js";

let kube: FakeKube;
let now: number;
let agent: Allocator;
let collector: Collector;

const clock: Clock = {
  now: () => now,
  date: () => new Date(now),
  after: (_ms, work) => {
    queueMicrotask(work);
    return () => {};
  },
};

beforeEach(async () => {
  kube = new FakeKube();
  now = Date.parse("2024-05-01T10:00:00Z");
  await kube.create<IPPool>(IPPOOLS, {
    metadata: { name: "default" },
    spec: { cidr: "10.1.0.0/24", blockSize: 29 },
  });
  await kube.create<Node>(NODES, nodeOf("a"));
  agent = new Allocator(kube, "a", clock);
  collector = new Collector(kube, clock);
  await agent.ensureBlock();
});

function nodeOf(name: string): Node {
  return { apiVersion: "v1", kind: "Node", metadata: { name } };
}

function podOf(name: string): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default" },
    spec: { nodeName: "a", containers: [] },
  };
}

async function pod(name: string): Promise<string> {
  const object = await kube.create<Pod>(PODS, podOf(name));
  const uid = object.metadata.uid!;
  const address = await agent.assign(uid, { pod: name, namespace: "default", uid });
  await kube.update<Pod>(PODS, { ...object, status: { phase: "Running", podIP: address } }, "status");
  return address;
}

async function gone(name: string): Promise<void> {
  await kube.delete(PODS, name, "default", { gracePeriodSeconds: 0 });
}

/** One round after the grace period. */
function later() {
  now += 60_000;
  return collector.collect();
}

const kinds = async () => check(await readObjects(kube)).findings.map(({ kind }) => kind);

describe("collector", () => {
  test("frees a leaked address at the second observation", async () => {
    const address = await pod("x");
    await collector.collect();
    await gone("x");
    expect(await kinds()).toEqual(["leaked"]);
    expect((await later()).released).toEqual([]);
    expect((await later()).released).toMatchObject([{ address, reason: "pod default/x is gone" }]);
    expect(await kinds()).toEqual([]);
  });

  test("waits for the grace period, however often it looks", async () => {
    await pod("x");
    await gone("x");
    for (let i = 0; i < 5; i++) expect((await collector.collect()).released).toEqual([]);
    expect((await later()).released.length).toBe(1);
  });

  test("a suspicion does not pass on to the next allocation of the address", async () => {
    await pod("x");
    await gone("x");
    await collector.collect();
    await releaseAddress(kube, (await leaks())[0]!.address);
    for (let i = 0; i < 7; i++) await pod(`y-${i}`);
    for (let i = 0; i < 7; i++) await gone(`y-${i}`);
    expect((await later()).released).toEqual([]);
    expect((await later()).released.length).toBe(7);
  });

  const leaks = async () => check(await readObjects(kube)).leaks;

  test("a pod that has finished, and one that came back under its name", async () => {
    await pod("x");
    const object = await kube.get<Pod>(PODS, "x", "default");
    await kube.update<Pod>(PODS, { ...object, status: { ...object.status, phase: "Succeeded" } }, "status");
    await pod("y");
    await gone("y");
    const second = await pod("y");
    await collector.collect();
    const { released } = await later();
    expect(released.map(({ reason }) => reason)).toEqual([
      "pod default/x has finished",
      "pod default/y is another one now",
    ]);
    expect(released.map(({ address }) => address)).not.toContain(second);
  });

  test("leaves what was given out by hand, and pods without an address", async () => {
    await agent.assign("by-hand");
    const { uid } = (await kube.create<Pod>(PODS, podOf("z"))).metadata;
    await agent.assign(uid!, { pod: "z", namespace: "default", uid: uid! });
    await collector.collect();
    expect((await later()).released).toEqual([]);
  });

  test("blocks of a node that is gone go when they are empty; pinned ones stay", async () => {
    const other = new Allocator(kube, "b", clock);
    await kube.create<Node>(NODES, nodeOf("b"));
    await other.ensureBlock();
    await other.assign("by-hand");
    const free = [...blockWalk(prefixOf("10.1.0.0/24"), 29, "a")].at(-1)!;
    await kube.create<IPAMBlock>(IPAMBLOCKS, {
      metadata: { name: formatCidr(free).replaceAll(/[./]/g, "-") },
      spec: { cidr: formatCidr(free), node: "not-yet-there", pinned: true },
    });
    await kube.delete(NODES, "b");
    await collector.collect();
    expect(await later()).toMatchObject({ released: [{ handle: "tunnel-b" }], deleted: [] });
    await expect(other.release("by-hand")).resolves.toHaveLength(1);
    expect((await later()).deleted).toHaveLength(1);
    const { items } = await kube.list<IPAMBlock>(IPAMBLOCKS);
    expect(items.map(({ spec }) => spec.node).toSorted()).toEqual(["a", "not-yet-there"]);
  });

  test("a node that comes back in time takes its block up again", async () => {
    const before = await agent.tunnelAddress();
    await agent.assign("by-hand");
    await kube.delete(NODES, "a");
    await collector.collect();
    await later();
    expect((await agent.blocks()).length).toBe(0);
    await kube.create<Node>(NODES, nodeOf("a"));
    const block = await agent.ensureBlock();
    expect(block.state).toBe("confirmed");
    expect(block.unallocated).not.toContain(
      block.allocations.find(({ handle }) => handle === "tunnel-a")!.ordinal,
    );
    expect(before).toMatch(/^10\.1\.0\./);
  });

  test("an empty block of a node that has others goes", async () => {
    for (let i = 0; i < 8; i++) await agent.assign(`x-${i}`);
    expect((await agent.blocks()).length).toBe(2);
    await agent.release("x-7");
    await collector.collect();
    expect((await later()).deleted.length).toBe(1);
    expect((await agent.blocks()).length).toBe(1);
  });
});

describe("check", () => {
  test("finds nothing in a cluster that is well", async () => {
    await pod("x");
    expect(await kinds()).toEqual([]);
    expect(checkText(check(await readObjects(kube)))).toBe(
      "1 pool, 1 block, 2 allocations, 1 addresses of pods: no problem found\n",
    );
  });

  test("two owners, in whatever way", async () => {
    const address = await pod("x");
    await pod("y");
    const y = await kube.get<Pod>(PODS, "y", "default");
    await kube.update<Pod>(PODS, { ...y, status: { podIP: address } }, "status");
    expect((await kinds()).toSorted()).toEqual(["leaked", "two-pods", "wrong-owner"]);
    const { items } = await kube.list<IPAMBlock>(IPAMBLOCKS);
    const { spec } = items[0]!;
    await kube.create<IPAMBlock>(IPAMBLOCKS, {
      metadata: { name: spec.cidr.replaceAll(/[./]/g, "-").replace(/29$/, "28") },
      spec: { ...spec, cidr: spec.cidr.replace(/29$/, "28"), unallocated: [] },
    });
    expect(await kinds()).toEqual(expect.arrayContaining(["block-malformed"]));
  });

  test("malformed blocks and pools, gone nodes, addresses that no block gives", async () => {
    const { items } = await kube.list<IPAMBlock>(IPAMBLOCKS);
    const { spec } = items[0]!;
    await kube.update<IPAMBlock>(IPAMBLOCKS, {
      ...items[0]!,
      spec: { ...spec, unallocated: [1, 1, 2, 3, 4, 5, 6] },
    });
    await kube.create<IPPool>(IPPOOLS, { metadata: { name: "bad" }, spec: { cidr: "10.9.0.1/16" } });
    const z = await kube.create<Pod>(PODS, podOf("z"));
    await kube.update<Pod>(PODS, { ...z, status: { podIP: "10.1.0.200" } }, "status");
    await kube.delete(NODES, "a");
    const { findings } = check(await readObjects(kube));
    expect(findings.map(({ kind, severity }) => `${severity} ${kind}`).toSorted()).toEqual([
      "error block-malformed",
      "error not-allocated",
      "error pool-malformed",
      "leak leaked",
      "warning block-of-gone-node",
    ]);
  });
});

describe("by hand", () => {
  test("a report's leaks are released, unless the address has a new owner", async () => {
    await pod("x");
    await gone("x");
    const report = JSON.stringify(check(await readObjects(kube)));
    const [leak] = leaksOfReport(report);
    expect(await releaseAddress(kube, leak!.address, leak!)).toMatchObject({ handle: leak!.handle });
    expect(await releaseAddress(kube, leak!.address, leak!)).toBeNull();
    await agent.assignSpecific("new", leak!.address);
    expect(await releaseAddress(kube, leak!.address, leak!)).toBeNull();
    expect(() => leaksOfReport("{}")).toThrow("no list of leaks");
    expect(() => leaksOfReport("x")).toThrow("no report");
  });

  test("split: blocks and addresses stay as they are", async () => {
    const address = await agent.assign("x");
    await splitPool(kube, "default", 4);
    const pools = (await kube.list<IPPool>(IPPOOLS)).items;
    expect(pools.map(({ metadata, spec }) => [metadata.name, spec.cidr, spec.blockSize])).toEqual([
      ["default-0", "10.1.0.0/26", 29],
      ["default-1", "10.1.0.64/26", 29],
      ["default-2", "10.1.0.128/26", 29],
      ["default-3", "10.1.0.192/26", 29],
    ]);
    expect(await agent.assign("x")).toBe(address);
    expect(await kinds()).toEqual([]);
    await expect(splitPool(kube, "default-0", 3)).rejects.toMatchObject({ code: "Invalid" });
    await expect(splitPool(kube, "default-0", 16)).rejects.toMatchObject({ code: "Invalid" });
  });

  test("show", async () => {
    await pod("x");
    const objects = await readObjects(kube);
    const { cidr, node } = objects.blocks[0]!.spec;
    const [pool, block] = usages(objects);
    expect(pool).toEqual({ grouping: "IP Pool", cidr: "10.1.0.0/24", total: 256, inUse: 2, free: 254 });
    expect(block).toMatchObject({ grouping: "Block", cidr, node, total: 8, inUse: 2, free: 6, borrowed: 0 });
    expect(usageTable(usages(objects), false)).toBe(
      "GROUPING  CIDR         IPS TOTAL  IPS IN USE  IPS FREE\n" +
        "IP Pool   10.1.0.0/24  256        2 (1%)      254 (99%)\n",
    );
    expect(usageTable(usages(objects), true)).toContain("confirmed");
    expect(addressText("10.1.0.9", undefined, undefined)).toBe("IP 10.1.0.9 is not currently assigned\n");
  });
});
