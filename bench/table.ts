/** Text tables (Markdown's pipe tables with padded columns) and the forms of their numbers. Pure. */

import type { Summary } from "./stats.js";

/** One table: a heading row and rows of as many cells. The first column is left-aligned. */
export interface Table {
  head: readonly string[];
  rows: readonly (readonly string[])[];
}

/** Renders `table`, columns padded to their widest cell. */
export function renderTable(table: Table): string {
  const widths = table.head.map((cell, column) =>
    Math.max(width(cell), 3, ...table.rows.map((row) => width(row[column] ?? ""))),
  );
  const line = (cells: readonly string[]) =>
    `| ${widths.map((w, column) => pad(cells[column] ?? "", w, column === 0)).join(" | ")} |`;
  const rule = `|${widths.map((w, column) => (column === 0 ? `${"-".repeat(w + 2)}` : `${"-".repeat(w + 1)}:`)).join("|")}|`;
  return [line(table.head), rule, ...table.rows.map(line)].join("\n");
}

/** `median [min–max]` with `decimals` places, or a dash. */
export function formatSummary(summary: Summary | null, decimals: number): string {
  if (summary === null) return "–";
  const form = (value: number) => formatNumber(value, decimals);
  if (summary.n === 1) return form(summary.median);
  return `${form(summary.median)} [${form(summary.min)}–${form(summary.max)}]`;
}

/** A number with `decimals` places; NaN is a dash. */
export function formatNumber(value: number, decimals: number): string {
  return Number.isFinite(value) ? value.toFixed(decimals) : "–";
}

/** Seconds as a person would say them: "45 s", "17 min". */
export function formatDuration(seconds: number): string {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

/** Columns on a terminal: every character that we print is one column wide. */
function width(text: string): number {
  return [...text].length;
}

function pad(text: string, to: number, left: boolean): string {
  const blanks = " ".repeat(Math.max(0, to - width(text)));
  return left ? text + blanks : blanks + text;
}
