/** Tables of a `net` run. Pure: from raw figures to text. */

import { judge, ratios, type Series, summarize, type Verdict } from "../stats.js";
import { formatNumber, formatSummary, renderTable } from "../table.js";
import type { CpuUse, Memory } from "./accounting.js";
import type { Figure, Measure } from "./measures.js";
import type { LanKind } from "./topology.js";
import { BASE_KEY, type Variant } from "./variants.js";
import { LONGEST_WIRE_FRAME, type WireCheck } from "./wire.js";

/** Everything measured over one kind of LAN. */
export interface LanResult {
  kind: LanKind;
  /** What crossed the LAN under each variant. */
  wire: Record<string, WireCheck>;
  /** Cores used by all agents together while nothing was sent. */
  idleCores: number;
  /** Cores that whatever else runs on the machine used, before each repetition. */
  otherCores: number[];
  /** Variants that did not come up, and why. */
  failed: Record<string, string>;
  /** Figure by variant and figure, one value per repetition. */
  values: Record<string, Record<string, (number | null)[]>>;
  /** CPU time by variant and test. */
  cpu: Record<string, Record<string, (CpuUse | null)[]>>;
  /** What qualifies the figures, by variant and test. */
  details: Record<string, Record<string, (Record<string, number | boolean> | null)[]>>;
  /** Memory of a variant's agents at the end. */
  memory: Record<string, Memory[]>;
  /** Tests that gave no figure. */
  errors: { repetition: number; test: string; variant: string; message: string }[];
}

/** Cores used by others above which the figures say more about them than about us. */
const BUSY_MACHINE = 0.15;
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

function formatRatios(result: LanResult, measures: readonly Measure[], variants: readonly Variant[]): string {
  const columns = variants.filter((variant) => variant.key !== BASE_KEY);
  return renderTable({
    head: ["", ...columns.map((variant) => variant.title), "floor", "goal"],
    rows: figuresOf(measures).map((figure) => [
      figure.title,
      ...columns.map((variant) => {
        const summary = summarize(ratios(series(result, variant, figure), baseSeries(result, figure)));
        if (summary === null) return "–";
        const target = variant.target === null ? undefined : figure.targets?.[variant.target];
        const mark = target === undefined ? "" : ` ${MARKS[judge(summary.median, target, figure.better)]}`;
        return formatSummary(summary, 2) + mark;
      }),
      ...formatTargets(figure, columns),
    ]),
  });
}

/** Floor and goal of a row: portable / tunnel where they differ. */
function formatTargets(figure: Figure, columns: readonly Variant[]): [string, string] {
  const targets = columns
    .map((variant) => (variant.target === null ? undefined : figure.targets?.[variant.target]))
    .filter((target) => target !== undefined);
  const bound = figure.better === "higher" ? "≥" : "≤";
  const joined = (values: number[]) => {
    const distinct = [...new Set(values)];
    return distinct.length === 0 ? "" : `${bound} ${distinct.join(" / ")}`;
  };
  return [joined(targets.map((target) => target.floor)), joined(targets.map((target) => target.goal))];
}

function formatFigures(
  result: LanResult,
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
  const notes: string[] = [];
  for (const measure of measures) {
    const having = (variant: Variant, detail: string) =>
      (result.details[variant.key]?.[measure.key] ?? []).filter((details) => details?.[detail] === true)
        .length;
    const limited = variants.filter((variant) => having(variant, "senderLimited") > 0);
    for (const variant of variants.filter((each) => having(each, "noRate") > 0)) {
      notes.push(
        `${measure.figures[0].title}: for ${variant.title} every rate tried lost more in ` +
          `${having(variant, "noRate")} repetitions, which count as 0.`,
      );
    }
    if (limited.length > 0) {
      notes.push(
        `${measure.figures[0].title}: iperf3's sender was the limit for ${limited
          .map((variant) => variant.title)
          .join(", ")} (nothing lost at the most it could offer).`,
      );
    }
  }
  if (variants.some((variant) => variant.overlay === "podwire")) {
    notes.push(`Idle, all agents together used ${formatNumber(result.idleCores, 3)} cores.`);
  }
  const other = summarize(result.otherCores);
  if (other !== null && other.median > BUSY_MACHINE) {
    const cores = formatSummary(other, 2);
    notes.push(
      `The machine was busy with something else (${cores} cores between the tests): do not trust this.`,
    );
  }
  const uses = Object.values(result.cpu).flatMap((tests) => Object.values(tests).flat());
  const stolen = uses.reduce((sum, use) => sum + (use?.stolen ?? 0), 0);
  const seconds = uses.reduce((sum, use) => sum + (use?.seconds ?? 0), 0);
  if (stolen > 0.02 * seconds) {
    notes.push(`The hypervisor took ${formatNumber((100 * stolen) / seconds, 1)} % of a core away.`);
  }
  for (const [key, reason] of Object.entries(result.failed)) notes.push(`${key} did not come up: ${reason}`);
  for (const error of result.errors) {
    notes.push(
      `No figure: ${error.test}, ${error.variant}, repetition ${error.repetition}: ${error.message}`,
    );
  }
  return notes;
}

function figuresOf(measures: readonly Measure[]): Figure[] {
  return measures.flatMap((measure) => measure.figures);
}

function series(result: LanResult, variant: Variant, figure: Figure): Series {
  return result.values[variant.key]?.[figure.key] ?? [];
}

function baseSeries(result: LanResult, figure: Figure): Series {
  return result.values[BASE_KEY]?.[figure.key] ?? [];
}
