/**
 * Owns the lab's printed tables: plain columns as kubectl prints them, and the matrix of a walk.
 * Pure: results in, text out.
 */
import type { NodeFacts } from "./cluster.js";
import type { WalkResult } from "./walk.js";
import type { LabPod } from "./walkthrough.js";

const GREEN = "\u001b[32m";
const RED = "\u001b[31m";
const DIM = "\u001b[2m";
const RESET = "\u001b[0m";

/** Columns padded to their widest cell, three blanks between them, as kubectl does. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("   ")
        .trimEnd(),
    )
    .join("\n");
}

/** The nodes with their blocks and tunnel addresses. */
export function nodeTable(nodes: readonly NodeFacts[]): string {
  return table(
    ["NAME", "ADDRESS", "BLOCK", "TUNNEL"],
    nodes.map((node) => [node.name, node.address, node.blocks.join(","), node.tunnelAddress]),
  );
}

/**
 * The matrix of a walk: a row for each asking pod, a column for each pod asked.
 * Rows carry label and name, columns the label only.
 */
export function matrix(pods: readonly LabPod[], results: readonly WalkResult[], colour: boolean): string {
  const paint = (code: string, text: string) => (colour ? `${code}${text}${RESET}` : text);
  const cells = new Map(results.map((result) => [`${result.from.name} ${result.to.name}`, result.ok]));
  const labelWidth = Math.max(...pods.map((pod) => pod.label.length));
  const nameWidth = Math.max(...pods.map((pod) => pod.name.length));
  const indent = " ".repeat(labelWidth + 2 + nameWidth);
  const head = `${indent}  ${paint(DIM, pods.map((pod) => pod.label.padEnd(labelWidth)).join(" "))}`;
  const rows = pods.map((from) => {
    const marks = pods.map((to) => {
      const ok = cells.get(`${from.name} ${to.name}`);
      const [code, mark] = ok === undefined ? [DIM, "·"] : ok ? [GREEN, "✓"] : [RED, "✗"];
      return paint(code, mark) + " ".repeat(labelWidth - 1);
    });
    return `${from.label.padEnd(labelWidth)}  ${from.name.padEnd(nameWidth)}  ${marks.join(" ").trimEnd()}`;
  });
  return [head, ...rows].join("\n");
}

/** The closing line of a walk. */
export function total(results: readonly WalkResult[], seconds: number): string {
  const passed = results.filter((result) => result.ok).length;
  return `${passed} of ${results.length} passed in ${seconds.toFixed(1)} s`;
}

/** The first failures of a walk, a line each. */
export function failures(results: readonly WalkResult[], limit: number): string[] {
  const failed = results.filter((result) => !result.ok);
  const lines = failed
    .slice(0, limit)
    .map(({ from, to, reason }) => `${from.name} → ${to.name} (${to.address}:${to.l4Port}): ${reason}`);
  if (failed.length > limit) lines.push(`… and ${failed.length - limit} more`);
  return lines;
}
