import { describe, expect, test } from "vitest";
import {
  allocationOf,
  assign,
  assignOrdinal,
  type Block,
  claimedBlock,
  freeCount,
  holdsTunnel,
  nodeLabel,
  readBlock,
  release,
  renew,
  writeBlock,
} from "../../../src/ipam/block.js";
import {
  blockName,
  blockWalk,
  coversPrefix,
  hashName,
  ordinalOf,
  prefixOf,
  rangeOf,
} from "../../../src/ipam/blockMath.js";
import { tunnelHandle } from "../../../src/ipam/types.js";
import { formatCidr, parseIpv4 } from "../../../src/model/ipv4.js";

const NOW = Date.parse("2024-05-01T10:00:00Z");
const request = (handle: string, now = NOW) => ({ handle, attributes: { node: "k8s-master" }, now });

function block(cidr = "10.1.235.192/29"): Block {
  return { ...claimedBlock(prefixOf(cidr), "k8s-master", false, NOW), state: "confirmed" };
}

/** Assigns and hands on. */
function given(from: Block, handle: string): [Block, string] {
  const result = assign(from, request(handle))!;
  return [result.block, result.address];
}

describe("arithmetic", () => {
  test("names", () => {
    expect(blockName(prefixOf("10.1.235.192/26"))).toBe("10-1-235-192-26");
    expect(() => prefixOf("10.1.235.193/26")).toThrow("has bits beyond its prefix length");
    expect(() => prefixOf("fd00::/122")).toThrow("IPv6 is not supported yet");
  });

  test("ordinals across the sign of int32", () => {
    expect(ordinalOf(prefixOf("192.0.2.0/24"), parseIpv4("192.0.2.255")!)).toBe(255);
    expect(ordinalOf(prefixOf("127.255.255.192/26"), parseIpv4("127.255.255.255")!)).toBe(63);
  });

  test("a node walks all blocks of a pool once, from the hash of its name", () => {
    const pool = prefixOf("10.1.0.0/24");
    const walk = [...blockWalk(pool, 26, "k8s-worker01")].map(formatCidr);
    expect(walk.toSorted()).toEqual(["10.1.0.0/26", "10.1.0.128/26", "10.1.0.192/26", "10.1.0.64/26"]);
    expect(walk[0]).toBe(`10.1.0.${(hashName("k8s-worker01") % 4) * 64}/26`);
    expect([...blockWalk(prefixOf("10.1.0.0/26"), 26, "a")]).toHaveLength(1);
  });

  test("names of nodes spread over a pool", () => {
    const starts = new Set<number>();
    for (let i = 0; i < 100; i++)
      starts.add(blockWalk(prefixOf("10.1.0.0/16"), 26, `node-${i}`).next().value!.address);
    expect(starts.size).toBeGreaterThan(90);
  });

  test("reserved ranges", () => {
    expect(rangeOf("192.0.2.4-192.0.2.6")).toEqual({ first: 0xc0000204, last: 0xc0000206 });
    expect(rangeOf("192.0.2.4")).toEqual({ first: 0xc0000204, last: 0xc0000204 });
    expect(() => rangeOf("192.0.2.6-192.0.2.4")).toThrow("is no range");
    const prefix = prefixOf("192.0.2.0/29");
    expect(coversPrefix([rangeOf("192.0.2.4/30"), rangeOf("192.0.2.0-192.0.2.3")], prefix)).toBe(true);
    expect(coversPrefix([rangeOf("192.0.2.5-192.0.2.7"), rangeOf("192.0.2.0-192.0.2.3")], prefix)).toBe(
      false,
    );
  });
});

describe("block", () => {
  test("addresses go out ascending; released ones to the back of the queue", () => {
    let [value, first] = given(block(), "a");
    expect(first).toBe("10.1.235.192");
    let address: string;
    [value, address] = given(value, "b");
    expect(address).toBe("10.1.235.193");
    value = release(value, value.allocations[0]!);
    expect(value.unallocated).toEqual([2, 3, 4, 5, 6, 7, 0]);
    for (const last of [194, 195, 196, 197, 198, 199, 192]) {
      [value, address] = given(value, `c${last}`);
      expect(address).toBe(`10.1.235.${last}`);
    }
    expect(assign(value, request("d"))).toBeNull();
  });

  test("nothing changes the value it is given", () => {
    const value = Object.freeze({
      ...block(),
      allocations: Object.freeze([]),
      unallocated: Object.freeze([3, 1]),
    });
    const next = assign(value, request("a"))!;
    release(next.block, next.block.allocations[0]!);
    expect(value.unallocated).toEqual([3, 1]);
  });

  test("reserved addresses are passed over, and keep their place", () => {
    const reserved = [rangeOf("10.1.235.192/31")];
    const { address, block: next } = assign(block(), request("a"), reserved)!;
    expect(address).toBe("10.1.235.194");
    expect(next.unallocated).toEqual([0, 1, 3, 4, 5, 6, 7]);
    expect(freeCount(next, reserved)).toBe(5);
    expect(assignOrdinal(next, 0, request("b"))!.address).toBe("10.1.235.192");
    expect(assignOrdinal(next, 2, request("b"))).toBeNull();
  });

  test("a late release frees nobody else's address", () => {
    let value = assignOrdinal(block(), 3, request("a"))!.block;
    const old = value.allocations[0]!;
    value = release(value, old);
    value = assignOrdinal(value, 3, request("a"))!.block;
    expect(value.allocations[0]!.sequence).toBeGreaterThan(old.sequence);
    expect(release(value, old)).toBe(value);
    expect(release(value, { ...value.allocations[0]!, handle: "b" })).toBe(value);
  });

  test("a renewed allocation keeps its address, and is not freed for the old owner", () => {
    const value = assign(block(), request("a"))!.block;
    const old = value.allocations[0]!;
    const renewed = renew(value, 0, { uid: "2", node: "k8s-master" }, NOW);
    expect(renewed.allocations[0]).toMatchObject({ ordinal: 0, handle: "a", attributes: { uid: "2" } });
    expect(release(renewed, old)).toBe(renewed);
  });

  test("a block that is deleted and made again repeats no sequence", () => {
    const before = assign(block(), request("a", NOW))!.block;
    const { block: after } = assign(
      claimedBlock(block().prefix, "b", false, NOW + 1),
      request("a", NOW + 2),
    )!;
    expect(after.sequence).toBeGreaterThan(before.sequence);
  });

  test("what a hand-written block leaves out", () => {
    const value = readBlock({
      metadata: { name: "10-1-79-64-26" },
      spec: { cidr: "10.1.79.64/26", node: "k8s-worker01", pinned: true },
    });
    expect(value).toMatchObject({ state: "confirmed", pinned: true, strict: false, sequence: 0 });
    expect(value.unallocated).toEqual(Array.from({ length: 64 }, (_, i) => i));
  });

  test("object and value are the same thing twice; labels name owner and borrowers", () => {
    const value = assign(block(), { handle: "b", attributes: { node: "k8s-worker02" }, now: NOW })!.block;
    const object = writeBlock(value, {
      metadata: { name: "x", resourceVersion: "7", labels: { mine: "1", [nodeLabel("gone")]: "borrower" } },
      spec: { cidr: "10.1.235.192/29", node: "k8s-master" },
    });
    expect(readBlock(object)).toEqual(value);
    expect(object.metadata).toEqual({
      name: "10-1-235-192-29",
      resourceVersion: "7",
      labels: {
        mine: "1",
        "nodes.podwire.dev/k8s-master": "owner",
        "nodes.podwire.dev/k8s-worker02": "borrower",
      },
    });
  });

  test("a label of a long node name is a valid one", () => {
    const name = nodeLabel("n".repeat(200)).split("/")[1]!;
    expect(name).toMatch(/^[a-z0-9][-a-z0-9.]{0,61}[a-z0-9]$/);
    expect(nodeLabel("n".repeat(201))).not.toBe(nodeLabel("n".repeat(200)));
  });

  test("a handle belongs to a node", () => {
    const value = assign(block(), request(tunnelHandle("k8s-master")))!.block;
    expect(holdsTunnel(value)).toBe(true);
    expect(allocationOf(value, "k8s-worker01", tunnelHandle("k8s-master"))).toBeUndefined();
  });
});
