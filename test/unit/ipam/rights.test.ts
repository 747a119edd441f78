import { describe, expect, test } from "vitest";
import {
  assign,
  type Block,
  claimedBlock,
  nodeLabel,
  release,
  renew,
  writeBlock,
} from "../../../src/ipam/block.js";
import { prefixOf } from "../../../src/ipam/blockMath.js";
import { mayWriteBlock } from "../../../src/ipam/rights.js";

const NOW = Date.parse("2024-05-01T10:00:00Z");
const fresh = claimedBlock(prefixOf("10.1.0.0/29"), "a", false, NOW);
const own = give(give({ ...fresh, state: "confirmed" }, "tunnel-a", "a"), "pod-b", "b");

function give(block: Block, handle: string, node: string): Block {
  return assign(block, { handle, attributes: { node }, now: NOW })!.block;
}

/** The rule for a node that writes `after` over `before`. */
function rule(node: string, after: Block | undefined, before: Block | undefined): string | undefined {
  const old = before && writeBlock(before);
  return mayWriteBlock(node, after && writeBlock(after, old), old);
}

describe("own blocks", () => {
  test("claim, confirm, assign, release, delete", () => {
    expect(rule("a", fresh, undefined)).toBeUndefined();
    expect(rule("a", give({ ...fresh, state: "confirmed" }, "tunnel-a", "a"), fresh)).toBeUndefined();
    expect(rule("a", give(own, "pod", "a"), own)).toBeUndefined();
    expect(rule("a", release(own, own.allocations[0]!), own)).toBeUndefined();
    expect(rule("a", undefined, fresh)).toBeUndefined();
  });

  test("not: a block for another, a pin, what others have borrowed, an older sequence", () => {
    expect(rule("b", fresh, undefined)).toContain("may not claim");
    expect(rule("a", { ...fresh, pinned: true }, undefined)).toContain("may not pin");
    expect(rule("a", { ...own, pinned: true }, own)).toContain("may not pin");
    expect(rule("a", release(own, own.allocations[1]!), own)).toContain("only its own allocations");
    expect(rule("a", undefined, own)).toContain("borrowed by other nodes");
    expect(rule("a", { ...own, node: "b" }, own)).toContain("may not give");
    expect(rule("a", { ...own, sequence: 1 }, own)).toContain("does not go back");
  });
});

describe("another node's block", () => {
  test("its own allocations: borrow, renew, give back", () => {
    expect(rule("b", give(own, "pod-2", "b"), own)).toBeUndefined();
    expect(rule("c", give(own, "pod", "c"), own)).toBeUndefined();
    expect(rule("b", renew(own, 1, { node: "b", uid: "2" }, NOW), own)).toBeUndefined();
    expect(rule("b", release(own, own.allocations[1]!), own)).toBeUndefined();
  });

  test("nothing else", () => {
    expect(rule("b", release(own, own.allocations[0]!), own)).toContain("only its own allocations");
    expect(rule("b", give(own, "pod", "a"), own)).toContain("only its own allocations");
    expect(rule("b", { ...own, node: "b" }, own)).toContain("may not give");
    expect(rule("b", { ...own, state: "pendingDeletion" }, own)).toContain("only its own allocations");
    expect(rule("b", undefined, own)).toContain("may not delete");
    expect(rule("b", { ...own, unallocated: own.unallocated.toReversed() }, own)).toContain("order");
    const strict = { ...own, strict: true };
    expect(rule("b", give(strict, "pod", "b"), strict)).toContain("does not lend");
    const old = writeBlock(own);
    const labelled = { ...old, metadata: { ...old.metadata, labels: { ...old.metadata.labels, x: "1" } } };
    expect(mayWriteBlock("b", labelled, old)).toContain("labels");
    const { [nodeLabel("a")]: _, ...rest } = old.metadata.labels!;
    const unlabelled = { ...old, metadata: { ...old.metadata, labels: rest } };
    expect(mayWriteBlock("b", unlabelled, old)).toContain("labels");
    expect(mayWriteBlock("b", old, unlabelled)).toBeUndefined();
  });
});
