/** Tables of a `net` run. Pure: from raw figures to text. */

import { judge, ratios, type Series, summarize, type Verdict } from "../stats.js";
import { formatNumber, formatSummary, renderTable } from "../table.js";
import type { CpuUse, Memory } from "../testbed/accounting.js";
import type { Figure, Measure } from "../testbed/measures.js";
import { failureNotes, limitNotes, machineNotes } from "../testbed/notes.js";
import type { Records } from "../testbed/records.js";
import type { LanKind } from "../testbed/topology.js";
import { TARGETS } from "./measures.js";
import { BASE_KEY, type Variant } from "./variants.js";
import { LONGEST_WIRE_FRAME, type WireCheck } from "./wire.js";

/** Everything measured over one kind of LAN; a series is a variant. */
export interface LanResult extends Records {
  kind: LanKind;
  /** What crossed the LAN under each variant. */
  wire: Record<string, WireCheck>;
  /** Cores used by all agents together while nothing was sent. */
  idleCores: number;
  /** Cores that whatever else runs on the machine used, before each repetition. */
  otherCores: number[];
  /** Variants that did not come up, and why. */
  failed: Record<string, string>;
  /** Memory of a variant's agents at the end. */
  memory: Record<string, Memory[]>;
}

const MARKS: Record<Verdict, string> = { goal: "✓✓", floor: "✓", missed: "✗" };

/** All tables of one LAN kind. */
export function formatLan(
  result: LanResult,
  measures: readonly Measure[],
  variants: readonly Variant[],
): string {
  const shown = variants.filter((variant) => result.values[variant.key] !== undefined);
  const sections = [`## LAN links ${describeLan(result.kind)}`, formatWire(result, shown)];
  if (shown.length > 1) {
    sections.push(
      "Ratio to kernel vxlan: median of the repetitions' ratios [spread]. ✓✓ goal, ✓ floor, ✗ below the floor",
      formatRatios(result, measures, shown),
    );
  }
  const paired = shown.filter(({ unscraped }) => shown.some(({ key }) => key === unscraped));
  if (paired.length > 0) {
    sections.push(
      "Metrics read each second, ratio to metrics off: median of the repetitions' ratios [spread]",
      formatScraped(result, measures, paired),
    );
  }
  sections.push("Figures: median [spread]", formatFigures(result, measures, shown));
  sections.push(
    "Busy cores during the run, median: agents / whole machine",
    formatCpu(result, measures, shown),
  );
  const memory = formatMemory(result, shown);
  if (memory !== "") sections.push(memory);
  sections.push(...formatNotes(result, measures, shown));
  return sections.join("\n\n");
}

function describeLan(kind: LanKind): string {
  return kind === "as-is" ? "as they are (veth)" : "with segmentation offloads off";
}

function formatWire(result: LanResult, shown: readonly Variant[]): string {
  const checks = shown.flatMap((variant) => {
    const check = result.wire[variant.key];
    return check === undefined
      ? []
      : [`${variant.title} ${check.longest} B in ${check.frames} frames${wireVerdict(result.kind, check)}`];
  });
  return `Longest frame on the LAN: ${checks.join(", ") || "not looked at"}`;
}

/** On a LAN that is to carry MTU-sized frames, says whether it did. */
function wireVerdict(kind: LanKind, check: WireCheck): string {
  if (kind === "as-is") return "";
  return wireHolds(check) ? " ✓" : ` ✗ (above ${LONGEST_WIRE_FRAME})`;
}

/** Frames were seen, and none was longer than the MTU allows. */
export function wireHolds(check: WireCheck): boolean {
  return check.frames > 0 && check.longest <= LONGEST_WIRE_FRAME;
}

/** Each variant's figures in proportion to the kernel's, beside what is wanted of those that have targets. */
export function formatRatios(
  result: Records,
  measures: readonly Measure[],
  variants: readonly Variant[],
): string {
  const columns = variants.filter((variant) => variant.key !== BASE_KEY);
  const targeted = columns.some(({ target }) => target !== null);
  return renderTable({
    head: ["", ...columns.map((variant) => variant.title), ...(targeted ? ["floor", "goal"] : [])],
    rows: figuresOf(measures).map((figure) => [
      figure.title,
      ...columns.map((variant) => {
        const summary = summarize(ratios(series(result, variant, figure), baseSeries(result, figure)));
        if (summary === null) return "–";
        const target = variant.target === null ? undefined : TARGETS[figure.key]?.[variant.target];
        const mark = target === undefined ? "" : ` ${MARKS[judge(summary.median, target, figure.better)]}`;
        return formatSummary(summary, 2) + mark;
      }),
      ...(targeted ? formatTargets(figure, columns) : []),
    ]),
  });
}

/** What metrics cost: each variant beside the same without. */
function formatScraped(result: LanResult, measures: readonly Measure[], paired: readonly Variant[]): string {
  return renderTable({
    head: ["", ...paired.map(({ title }) => title)],
    rows: figuresOf(measures).map((figure) => [
      figure.title,
      ...paired.map((variant) => {
        const without = result.values[variant.unscraped ?? ""]?.[figure.key] ?? [];
        const summary = summarize(ratios(series(result, variant, figure), without));
        return summary === null ? "–" : formatSummary(summary, 3);
      }),
    ]),
  });
}

/** Floor and goal of a row: portable / tunnel where they differ. */
function formatTargets(figure: Figure, columns: readonly Variant[]): [string, string] {
  const targets = columns
    .map((variant) => (variant.target === null ? undefined : TARGETS[figure.key]?.[variant.target]))
    .filter((target) => target !== undefined);
  const bound = figure.better === "higher" ? "≥" : "≤";
  const joined = (values: number[]) => {
    const distinct = [...new Set(values)];
    return distinct.length === 0 ? "" : `${bound} ${distinct.join(" / ")}`;
  };
  return [joined(targets.map((target) => target.floor)), joined(targets.map((target) => target.goal))];
}

/** The figures themselves. */
export function formatFigures(
  result: Records,
  measures: readonly Measure[],
  variants: readonly Variant[],
): string {
  return renderTable({
    head: ["", "unit", ...variants.map((variant) => variant.title)],
    rows: figuresOf(measures).map((figure) => [
      figure.title,
      figure.unit,
      ...variants.map((variant) =>
        formatSummary(summarize(series(result, variant, figure)), figure.decimals),
      ),
    ]),
  });
}

function formatCpu(result: LanResult, measures: readonly Measure[], variants: readonly Variant[]): string {
  return renderTable({
    head: ["", ...variants.map((variant) => variant.title)],
    rows: measures.map((measure) => [
      measure.figures[0].title,
      ...variants.map((variant) => {
        const uses = result.cpu[variant.key]?.[measure.key] ?? [];
        const cores = (part: (use: CpuUse) => number) =>
          formatNumber(summarize(uses.map((use) => use && part(use) / use.seconds))?.median ?? Number.NaN, 2);
        const machine = cores((use) => use.machine);
        return variant.overlay === "podwire" ? `${cores((use) => use.processes)} / ${machine}` : machine;
      }),
    ]),
  });
}

function formatMemory(result: LanResult, variants: readonly Variant[]): string {
  const lines = variants.flatMap((variant) => {
    const memory = result.memory[variant.key] ?? [];
    if (memory.length === 0) return [];
    const each = (part: (of: Memory) => number) =>
      memory.map((of) => formatNumber(part(of), 0)).join(" and ");
    return [`${variant.title} RSS ${each((of) => of.rss)}, PSS ${each((of) => of.pss)}`];
  });
  return lines.length === 0 ? "" : `Memory of the two agents afterwards, MiB: ${lines.join("; ")}`;
}

/** Whatever a reader must know before believing the tables. */
function formatNotes(
  result: LanResult,
  measures: readonly Measure[],
  variants: readonly Variant[],
): string[] {
  const idle = variants.some((variant) => variant.overlay === "podwire")
    ? [`Idle, all agents together used ${formatNumber(result.idleCores, 3)} cores.`]
    : [];
  return [
    ...limitNotes(result, measures, variants),
    ...idle,
    ...machineNotes(result, result.otherCores),
    ...failureNotes(result, result.failed),
  ];
}

function figuresOf(measures: readonly Measure[]): Figure[] {
  return measures.flatMap((measure) => measure.figures);
}

function series(result: Records, variant: Variant, figure: Figure): Series {
  return result.values[variant.key]?.[figure.key] ?? [];
}

function baseSeries(result: Records, figure: Figure): Series {
  return result.values[BASE_KEY]?.[figure.key] ?? [];
}
