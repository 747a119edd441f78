import { beforeEach, describe, expect, test } from "vitest";
import { Allocator, type AllocatorOptions } from "../../../src/ipam/Allocator.js";
import { addressText } from "../../../src/ipam/block.js";
import type { IPAMBlock, IPPool } from "../../../src/ipam/types.js";
import type { Clock } from "../../../src/kube/Clock.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { KubeError } from "../../../src/kube/KubeError.js";
import { IPAMBLOCKS, IPPOOLS, NODES } from "../../../src/kube/resources.js";
import type { Node } from "../../../src/kube/types.js";

let kube: FakeKube;
let now: number;

/** Pauses end at once, and time goes on by as much. */
const clock: Clock = {
  now: () => now,
  date: () => new Date(now),
  after: (ms, work) => {
    now += ms;
    queueMicrotask(work);
    return () => {};
  },
};

beforeEach(() => {
  kube = new FakeKube();
  now = Date.parse("2024-05-01T10:00:00Z");
});

function allocator(node: string, options?: AllocatorOptions): Allocator {
  return new Allocator(kube, node, clock, options);
}

async function pool(spec: IPPool["spec"], name = "default"): Promise<void> {
  await kube.create<IPPool>(IPPOOLS, { metadata: { name }, spec });
}

async function pin(cidr: string, node: string): Promise<void> {
  const name = cidr.replaceAll(/[./]/g, "-");
  await kube.create<IPAMBlock>(IPAMBLOCKS, {
    metadata: { name },
    spec: { cidr, node, affinityState: "confirmed", pinned: true },
  });
}

async function blocks(): Promise<IPAMBlock[]> {
  return (await kube.list<IPAMBlock>(IPAMBLOCKS)).items;
}

const code = (wanted: string) => expect.objectContaining({ code: wanted });

describe("the walkthrough's blocks", () => {
  const PINS: [string, string][] = [
    ["k8s-master", "10.1.235.192"],
    ["k8s-worker01", "10.1.79.64"],
    ["k8s-worker02", "10.1.69.192"],
    ["k8s-worker03", "10.1.39.192"],
  ];

  test.each(PINS)("%s adopts its pinned block; pods from the second address on", async (node, first) => {
    await pool({ cidr: "10.1.0.0/16" });
    for (const [name, address] of PINS) await pin(`${address}/26`, name);
    const agent = allocator(node);
    expect(await agent.tunnelAddress()).toBe(first);
    const [prefix, last] = [first.slice(0, first.lastIndexOf(".")), Number(first.split(".")[3])];
    for (const i of [1, 2, 3]) expect(await agent.assign(`pod-${i}`)).toBe(`${prefix}.${last + i}`);
    expect((await agent.blocks()).length).toBe(1);
    expect((await blocks()).length).toBe(4);
  });

  test("a pin is adopted by a node that never asked for its block first", async () => {
    await pool({ cidr: "10.1.0.0/16" });
    await pin("10.1.235.192/26", "k8s-master");
    expect(await allocator("k8s-master").assign("pod")).toBe("10.1.235.193");
    expect((await blocks()).length).toBe(1);
  });
});

describe("assign", () => {
  test("claims a block by hash, with the tunnel address first", async () => {
    await pool({ cidr: "10.1.0.0/16" });
    const agent = allocator("k8s-worker01");
    const block = await agent.ensureBlock();
    expect(block).toMatchObject({ node: "k8s-worker01", state: "confirmed", pinned: false });
    expect(block.prefix.length).toBe(26);
    expect(block.allocations).toMatchObject([{ ordinal: 0, handle: "tunnel-k8s-worker01" }]);
    expect(await agent.ensureBlock()).toEqual(block);
    expect(await allocator("k8s-worker01").tunnelAddress()).toBe(await agent.tunnelAddress());
  });

  test("is idempotent by handle, also where the answer was lost", async () => {
    await pool({ cidr: "10.1.0.0/16" });
    const agent = allocator("a");
    await agent.ensureBlock();
    kube.loseResponse({ verb: "update", plural: "ipamblocks" });
    const first = await agent.assign("pod");
    expect(await agent.assign("pod")).toBe(first);
    expect(await allocator("a").assign("pod")).toBe(first);
    expect((await agent.ensureBlock()).allocations.length).toBe(2);
  });

  test("of two addresses that one handle came to have, the younger counts, and the older goes", async () => {
    await pool({ cidr: "10.1.0.0/28", blockSize: 29 });
    const agent = allocator("a");
    for (let i = 0; i < 8; i++) await agent.assign(`pod-${i}`);
    await agent.release("pod-0");
    // A request that was given up long ago is carried out after its repetition got an address.
    const object = (await blocks()).find(({ spec }) => spec.allocations!.length === 7)!;
    const late = { ordinal: 1, handle: "pod-7", sequence: 1, attributes: { node: "a" } };
    const allocations = [...object.spec.allocations!.filter(({ ordinal }) => ordinal !== 1), late];
    await kube.update<IPAMBlock>(IPAMBLOCKS, {
      ...object,
      spec: { ...object.spec, allocations, unallocated: [] },
    });
    const other = (await agent.blocks()).find(({ allocations }) => allocations.length === 1)!;
    expect(await agent.assign("pod-7")).toBe(addressText(other, other.allocations[0]!.ordinal));
    expect(
      (await agent.blocks()).flatMap(({ allocations }) => allocations).filter((a) => a.handle === "pod-7")
        .length,
    ).toBe(1);
  });

  test("a claim whose answer was lost is taken up again", async () => {
    await pool({ cidr: "10.1.0.0/16" });
    kube.loseResponse({ verb: "create", plural: "ipamblocks" });
    await allocator("a").assign("pod");
    expect((await blocks()).length).toBe(1);
  });

  test("conflicts are tried again, a dead server is reported", async () => {
    await pool({ cidr: "10.1.0.0/16" });
    const agent = allocator("a");
    await agent.ensureBlock();
    for (let i = 0; i < 10; i++)
      kube.failNext({ verb: "update", plural: "ipamblocks" }, KubeError.of("Conflict", "modified"));
    expect(await agent.assign("pod")).toMatch(/^10\.1\./);
    kube.goOffline();
    await expect(agent.assign("other")).rejects.toEqual(
      code("Unreachable") && expect.objectContaining({ code: 0 }),
    );
    kube.goOnline();
    expect(await agent.assign("other")).toMatch(/^10\.1\./);
  });

  test("concurrent requests of one node get different addresses, of one handle the same", async () => {
    await pool({ cidr: "10.1.0.0/16" });
    const agent = allocator("a");
    const handles = Array.from({ length: 30 }, (_, i) => `pod-${i % 15}`);
    const addresses = await Promise.all(handles.map((handle) => agent.assign(handle)));
    expect(new Set(addresses).size).toBe(15);
  });

  test("a full block is followed by another, and that by borrowing", async () => {
    await pool({ cidr: "10.1.0.0/28", blockSize: 29 });
    const [a, b] = [allocator("a"), allocator("b")];
    await a.ensureBlock();
    await b.ensureBlock();
    for (let i = 0; i < 7; i++) await a.assign(`a-${i}`);
    const borrowed = await a.assign("a-7");
    const lender = (await blocks()).find(({ spec }) => spec.node === "b")!;
    expect(lender.spec.allocations).toMatchObject([
      { handle: "tunnel-b" },
      { handle: "a-7", attributes: { node: "a" } },
    ]);
    expect(lender.metadata.labels).toEqual({
      "nodes.podwire.dev/a": "borrower",
      "nodes.podwire.dev/b": "owner",
    });
    // Idempotent though its own block has room again.
    await a.release("a-0");
    expect(await a.assign("a-7")).toBe(borrowed);
    expect(await a.release("a-7")).toEqual([borrowed]);
    expect((await blocks()).find(({ spec }) => spec.node === "b")!.metadata.labels).toEqual({
      "nodes.podwire.dev/b": "owner",
    });
  });

  test("a strict pool does not lend", async () => {
    await pool({ cidr: "10.1.0.0/28", blockSize: 29, strictAffinity: true });
    const [a, b] = [allocator("a"), allocator("b")];
    await b.ensureBlock();
    await a.ensureBlock();
    for (let i = 0; i < 7; i++) await a.assign(`a-${i}`);
    await expect(a.assign("a-7")).rejects.toEqual(code("Exhausted"));
  });

  test("an empty block changes hands after a while, not at once", async () => {
    await pool({ cidr: "10.1.0.0/28", blockSize: 29 });
    const a = allocator("a");
    for (let i = 0; i < 8; i++) await a.assign(`a-${i}`);
    for (let i = 0; i < 8; i++) await a.release(`a-${i}`);
    await expect(allocator("b").ensureBlock()).rejects.toEqual(code("Exhausted"));
    now += 61_000;
    expect((await allocator("b").ensureBlock()).node).toBe("b");
    expect((await blocks()).map(({ spec }) => spec.node).toSorted()).toEqual(["a", "b"]);
  });

  test("reserved ranges are for those who ask for them", async () => {
    await pool({ cidr: "10.1.0.0/29", blockSize: 29, reservedRanges: ["10.1.0.1-10.1.0.5"] });
    const agent = allocator("a");
    expect(await agent.tunnelAddress()).toBe("10.1.0.0");
    expect(await agent.assign("x")).toBe("10.1.0.6");
    expect(await agent.assignSpecific("y", "10.1.0.3")).toBe("10.1.0.3");
  });

  test("node selector, disabled, named pools", async () => {
    await kube.create<Node>(NODES, {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "a", labels: { rack: "1" } },
    });
    await kube.create<Node>(NODES, {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "b", labels: { rack: "2" } },
    });
    await pool({ cidr: "10.1.0.0/24", nodeSelector: { matchLabels: { rack: "1" } } }, "one");
    await pool({ cidr: "10.2.0.0/24", nodeSelector: { matchLabels: { rack: "2" } } }, "two");
    await pool({ cidr: "10.3.0.0/24" }, "zzz");
    await pool({ cidr: "10.0.0.0/24", disabled: true }, "off");
    expect(await allocator("a").assign("x")).toMatch(/^10\.1\./);
    expect(await allocator("b").assign("x")).toMatch(/^10\.2\./);
    expect(await allocator("b").assign("y", {}, { pools: ["zzz"] })).toMatch(/^10\.3\./);
    await expect(allocator("b").assign("z", {}, { pools: ["one"] })).rejects.toEqual(code("NoPool"));
  });

  test("a pool that is disabled keeps its addresses and gives no new ones", async () => {
    await pool({ cidr: "10.1.0.0/24" });
    const agent = allocator("a");
    const address = await agent.assign("x");
    const object = await kube.get<IPPool>(IPPOOLS, "default");
    await kube.update<IPPool>(IPPOOLS, { ...object, spec: { ...object.spec, disabled: true } });
    expect(await agent.assign("x")).toBe(address);
    expect(await agent.tunnelAddress()).toMatch(/^10\.1\./);
    await expect(agent.assign("y")).rejects.toEqual(code("NoPool"));
  });

  test("a pool that nobody can read does not stop the others", async () => {
    await pool({ cidr: "10.1.0.0" }, "bad");
    await pool({ cidr: "10.2.0.0/24" }, "good");
    expect(await allocator("a").assign("x")).toMatch(/^10\.2\./);
  });
});

describe("assignSpecific", () => {
  beforeEach(() => pool({ cidr: "10.1.0.0/24" }));

  test("claims the block where nobody has it, and repeats itself", async () => {
    const agent = allocator("a");
    expect(await agent.assignSpecific("x", "10.1.0.77")).toBe("10.1.0.77");
    expect(await agent.assignSpecific("x", "10.1.0.77")).toBe("10.1.0.77");
    expect(await agent.tunnelAddress()).toBe("10.1.0.64");
  });

  test("refusals", async () => {
    const agent = allocator("a");
    await agent.assignSpecific("x", "10.1.0.77");
    await expect(agent.assignSpecific("y", "10.1.0.77")).rejects.toEqual(code("AddressInUse"));
    await expect(agent.assignSpecific("x", "10.1.0.78")).rejects.toEqual(code("HandleInUse"));
    await expect(agent.assignSpecific("y", "192.0.2.1")).rejects.toEqual(code("NoPool"));
    await expect(agent.assignSpecific("y", "192.0.2")).rejects.toEqual(code("Invalid"));
  });
});

describe("release", () => {
  beforeEach(() => pool({ cidr: "10.1.0.0/24" }));

  test("is idempotent, and goes by sequence where one is given", async () => {
    const agent = allocator("a");
    const address = await agent.assign("x");
    const { sequence } = (await agent.ensureBlock()).allocations.find(({ handle }) => handle === "x")!;
    expect(await agent.release("x", sequence - 1)).toEqual([]);
    expect(await agent.release("x", sequence)).toEqual([address]);
    expect(await agent.release("x")).toEqual([]);
    expect(await agent.release("never")).toEqual([]);
  });

  test("frees only what this node holds under the handle", async () => {
    const [a, b] = [allocator("a"), allocator("b")];
    await a.assign("x");
    const address = await b.assign("x");
    await a.release("x");
    expect(await b.assign("x")).toBe(address);
  });
});

test("overlapping blocks are never both confirmed: who sees another withdraws", async () => {
  await pool({ cidr: "10.1.0.0/26", blockSize: 26 });
  await kube.create<IPAMBlock>(IPAMBLOCKS, {
    metadata: { name: "10-1-0-0-27" },
    spec: { cidr: "10.1.0.0/27", node: "b", affinityState: "pending" },
  });
  await expect(allocator("a").ensureBlock()).rejects.toEqual(code("Exhausted"));
  expect((await blocks()).map(({ metadata }) => metadata.name)).toEqual(["10-1-0-0-27"]);
});
