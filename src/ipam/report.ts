/** Text and JSON of `podwire ipam`: usage of pools and blocks, one address, the check. Pure. */
import { formatCidr } from "../model/ipv4.js";
import { type Block, freeCount } from "./block.js";
import { addressAt, containsPrefix, inRanges, sizeOf } from "./blockMath.js";
import type { CheckReport, IpamObjects, LeakedAddress } from "./check.js";
import { type Pool, readPools } from "./pools.js";
import { readAll } from "./Store.js";
import { type Allocation, IpamError } from "./types.js";

/** One line of `ipam show`. */
export interface Usage {
  grouping: "IP Pool" | "Block";
  cidr: string;
  total: number;
  inUse: number;
  free: number;
  /** Of a block. */
  node?: string;
  state?: string;
  /** Of a block: addresses that other nodes have borrowed. */
  borrowed?: number;
}

/** Pools, each with its blocks behind it; blocks in no pool come last. */
export function usages(objects: Pick<IpamObjects, "pools" | "blocks">): Usage[] {
  const blocks = readAll(objects.blocks).map(({ block }) => block);
  const pools = readPools(objects.pools);
  const lines: Usage[] = [];
  const rest = new Set(blocks);
  for (const pool of pools) {
    const inPool = blocks.filter((block) => containsPrefix(pool.prefix, block.prefix));
    lines.push(poolUsage(pool, inPool));
    for (const block of inPool) if (rest.delete(block)) lines.push(blockUsage(block, pool));
  }
  for (const block of rest) lines.push(blockUsage(block));
  return lines;
}

function poolUsage(pool: Pool, blocks: readonly Block[]): Usage {
  const total = sizeOf(pool.prefix);
  const inUse = blocks.reduce((sum, { allocations }) => sum + allocations.length, 0);
  return {
    grouping: "IP Pool",
    cidr: formatCidr(pool.prefix),
    total,
    inUse,
    free: total - inUse - reservedFree(pool, blocks),
  };
}

/** Reserved addresses that are not in use all the same. */
function reservedFree({ prefix, reserved }: Pool, blocks: readonly Block[]): number {
  if (reserved.length === 0) return 0;
  const used = blocks.flatMap((block) =>
    block.allocations.map(({ ordinal }) => addressAt(block.prefix, ordinal)),
  );
  const first = prefix.address >>> 0;
  const last = first + sizeOf(prefix) - 1;
  let count = 0;
  let next = first;
  for (const range of reserved.toSorted((a, b) => a.first - b.first)) {
    const from = Math.max(next, range.first);
    const to = Math.min(last, range.last);
    if (to < from) continue;
    count += to - from + 1;
    next = to + 1;
  }
  return count - used.filter((address) => inRanges(reserved, address)).length;
}

function blockUsage(block: Block, pool?: Pool): Usage {
  return {
    grouping: "Block",
    cidr: formatCidr(block.prefix),
    total: sizeOf(block.prefix),
    inUse: block.allocations.length,
    free: freeCount(block, pool?.reserved),
    node: block.node,
    state: block.state,
    borrowed: block.allocations.filter(({ attributes }) => (attributes.node ?? block.node) !== block.node)
      .length,
  };
}

/** The table of `ipam show`. */
export function usageTable(lines: readonly Usage[], showBlocks: boolean): string {
  const share = (part: number, total: number) => `${part} (${Math.round((100 * part) / total)}%)`;
  const head = ["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS FREE"];
  if (showBlocks) head.push("NODE", "STATE", "BORROWED");
  const rows = lines
    .filter(({ grouping }) => showBlocks || grouping === "IP Pool")
    .map((line) => {
      const { grouping, cidr, total, inUse, free, node = "", state = "", borrowed } = line;
      const cells = [grouping, cidr, String(total), share(inUse, total), share(free, total)];
      return showBlocks ? [...cells, node, state, borrowed === undefined ? "" : String(borrowed)] : cells;
    });
  return table(head, rows);
}

/** The text of `ipam show --ip`. */
export function addressText(
  address: string,
  block: Block | undefined,
  allocation: Allocation | undefined,
): string {
  if (allocation === undefined) return `IP ${address} is not currently assigned\n`;
  const { handle, attributes } = allocation;
  const lines = [`IP ${address} is in use`, "Attributes:", `  handle: ${handle}`];
  for (const [key, value] of Object.entries(attributes)) if (value) lines.push(`  ${key}: ${value}`);
  if (block !== undefined) {
    lines.push(`Block: ${formatCidr(block.prefix)} of ${block.node}`);
    if (attributes.node !== undefined && attributes.node !== block.node)
      lines.push(`Borrowed by ${attributes.node}`);
  }
  return `${lines.join("\n")}\n`;
}

/** The text of `ipam check`. */
export function checkText({ counts, findings }: CheckReport): string {
  const many = (count: number, one: string) => `${count} ${one}${count === 1 ? "" : "s"}`;
  const summary = [
    many(counts.pools, "pool"),
    many(counts.blocks, "block"),
    many(counts.allocations, "allocation"),
    `${counts.podAddresses} addresses of pods`,
  ].join(", ");
  if (findings.length === 0) return `${summary}: no problem found\n`;
  const rows = findings.map(({ severity, kind, subject, message }) => [severity, kind, subject, message]);
  const totals = (["error", "leak", "warning"] as const).map((severity) =>
    many(findings.filter((each) => each.severity === severity).length, severity),
  );
  return `${table(["SEVERITY", "KIND", "SUBJECT", "PROBLEM"], rows)}\n${summary}: ${totals.join(", ")}\n`;
}

/** Leaked addresses in a report that `ipam check --output` wrote; throws an IpamError where it is none. */
export function leaksOfReport(text: string): LeakedAddress[] {
  let leaks: unknown;
  try {
    leaks = (JSON.parse(text) as { leaks?: unknown }).leaks;
  } catch (error) {
    throw new IpamError("Invalid", `no report of podwire ipam check: ${(error as Error).message}`);
  }
  const isLeak = (each: Partial<LeakedAddress> | null) =>
    typeof each?.address === "string" && typeof each.handle === "string" && typeof each.sequence === "number";
  if (!Array.isArray(leaks) || !leaks.every(isLeak))
    throw new IpamError("Invalid", "no report of podwire ipam check: it has no list of leaks");
  return leaks as LeakedAddress[];
}

/** Columns as wide as their widest cell, two blanks between. */
function table(head: readonly string[], rows: readonly string[][]): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join("  ")
      .trimEnd();
  return `${[head, ...rows].map(line).join("\n")}\n`;
}
