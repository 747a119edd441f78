/** Tables of a `service` run. Pure: from raw figures to text. */

import { judge, ratios, type Series, summarize, type Target } from "../stats.js";
import { formatNumber, formatSummary, renderTable } from "../table.js";
import type { Figure, Measure } from "../testbed/measures.js";
import { failureNotes, limitNotes, machineNotes } from "../testbed/notes.js";
import type { Records } from "../testbed/records.js";
import type { SpreadCheck } from "./check.js";
import { applies, WANTED_KEPT, WANTED_LOAD, WANTED_OF_POD, wantedRatio } from "./measures.js";
import { seriesKey, type Variant, WAY_TITLES, type Way, waysOf } from "./variants.js";

/** Everything measured at one number of Services; a series is a way through a variant. */
export interface LevelResult extends Records {
  services: number;
  /** Seconds until the Services were in effect, on each node, by variant. */
  loads: Record<string, number[]>;
  /** What the check saw, by variant. */
  checks: Record<string, SpreadCheck>;
  /** Cores that whatever else runs on the machine used, before each repetition. */
  otherCores: number[];
  /** Variants that did not come up, and why. */
  failed: Record<string, string>;
}

/** Ways that peers are compared over. */
const COMPARED: readonly Way[] = ["clusterIP", "nodePort"];

interface Row {
  way: Way;
  figure: Figure;
}

/** All tables of one number of Services. */
export function formatLevel(
  result: LevelResult,
  measures: readonly Measure[],
  variants: readonly Variant[],
): string {
  const shown = variants.filter(({ key }) => result.checks[key] !== undefined);
  const peers = shown.filter(({ translator }) => translator !== "podwire");
  const ours = shown.filter(({ translator }) => translator === "podwire");
  const services = result.services === 1 ? "1 service" : `${result.services} services`;
  const sections = [`## ${services}`, ...formatChecks(result, shown), formatLoads(result, shown, ours)];
  if (peers.length > 0 && ours.length > 0 && measures.length > 0)
    sections.push(
      "Ratio of podwire to the kernel: median of the repetitions' ratios [spread]. ✓ as wanted, ✗ not",
      formatRatios(result, rowsOf(measures, COMPARED), peers, ours),
    );
  if (ours.length > 0 && measures.length > 0)
    sections.push(
      "What a ClusterIP costs podwire: ratio of its figure to that from pod to pod",
      formatCost(result, rowsOf(measures, ["clusterIP"]), ours),
    );
  if (shown.length > 0 && measures.length > 0)
    sections.push("Figures: median [spread]", formatFigures(result, measures, shown));
  const series = shown.flatMap((variant) =>
    waysOf(variant).map((way) => ({
      key: seriesKey(variant, way),
      title: `${variant.title}, ${WAY_TITLES[way]}`,
    })),
  );
  sections.push(
    ...limitNotes(result, measures, series),
    ...machineNotes(result, result.otherCores),
    ...failureNotes(result, result.failed),
  );
  return sections.join("\n\n");
}

function formatChecks(result: LevelResult, shown: readonly Variant[]): string[] {
  const lines = shown.map(({ key, title }) => {
    const { backends, nodePortClients } = result.checks[key];
    const counts = Object.entries(backends).map(([backend, count]) => `${backend} ${count}`);
    return `- ${title}: ${counts.sort().join(", ")}; at the NodePort the pods saw ${nodePortClients.join(", ")}`;
  });
  return lines.length === 0 ? [] : [`Connections to the checked Service, by backend:\n${lines.join("\n")}`];
}

function formatLoads(result: LevelResult, shown: readonly Variant[], ours: readonly Variant[]): string {
  return renderTable({
    head: ["Loading the services of one node", "seconds", ...ours.map(({ title }) => `of ${title}`)],
    rows: shown.map((variant) => [
      variant.title,
      formatSummary(summarize(result.loads[variant.key] ?? []), 3),
      ...ours.map((our) => {
        if (variant.translator === "podwire") return "";
        const summary = summarize(ratios(result.loads[variant.key] ?? [], result.loads[our.key] ?? []));
        const wanted = result.services >= WANTED_LOAD.from ? WANTED_LOAD.target : null;
        return summary === null
          ? "–"
          : `× ${formatSummary(summary, 1)}${mark(summary.median, wanted, "higher")}`;
      }),
    ]),
  });
}

function formatRatios(
  result: LevelResult,
  rows: readonly Row[],
  peers: readonly Variant[],
  ours: readonly Variant[],
): string {
  const columns = ours.flatMap((our) => peers.map((peer) => ({ our, peer })));
  return renderTable({
    head: ["", ...columns.map(({ our, peer }) => `${our.key} / ${peer.key}`), "wanted"],
    rows: rows.map(({ way, figure }) => [
      `${WAY_TITLES[way]}, ${figure.title}`,
      ...columns.map(({ our, peer }) => {
        const wanted = wantedRatio(figure.key, peer.translator, result.services);
        return formatRatio(
          seriesOf(result, our, way, figure),
          seriesOf(result, peer, way, figure),
          wanted,
          figure.better,
        );
      }),
      formatWanted(
        peers.map(({ translator }) => wantedRatio(figure.key, translator, result.services)),
        figure.better,
      ),
    ]),
  });
}

function formatCost(result: LevelResult, rows: readonly Row[], ours: readonly Variant[]): string {
  return renderTable({
    head: ["", ...ours.map(({ title }) => title), "wanted"],
    rows: rows.map(({ figure }) => {
      const wanted = WANTED_OF_POD[figure.better];
      return [
        figure.title,
        ...ours.map((our) =>
          formatRatio(
            seriesOf(result, our, "clusterIP", figure),
            seriesOf(result, our, "pod", figure),
            wanted,
            figure.better,
          ),
        ),
        formatWanted([wanted], figure.better),
      ];
    }),
  });
}

function formatFigures(result: LevelResult, measures: readonly Measure[], shown: readonly Variant[]): string {
  const ways: Way[] = shown.some((variant) => waysOf(variant).includes("pod"))
    ? [...COMPARED, "pod"]
    : [...COMPARED];
  return renderTable({
    head: ["", "unit", ...shown.map(({ title }) => title)],
    rows: rowsOf(measures, ways).map(({ way, figure }) => [
      `${WAY_TITLES[way]}, ${figure.title}`,
      figure.unit,
      ...shown.map((variant) => {
        const summary = summarize(seriesOf(result, variant, way, figure));
        const wanted = figure.key === "httpKept" && variant.translator === "podwire" ? WANTED_KEPT : null;
        return (
          formatSummary(summary, figure.decimals) +
          (summary === null ? "" : mark(summary.median, wanted, figure.better))
        );
      }),
    ]),
  });
}

function formatRatio(series: Series, base: Series, wanted: Target | null, better: Figure["better"]): string {
  const summary = summarize(ratios(series, base));
  return summary === null ? "–" : formatSummary(summary, 2) + mark(summary.median, wanted, better);
}

/** " ✓" or " ✗" where something is wanted. */
function mark(value: number, wanted: Target | null, better: Figure["better"]): string {
  if (wanted === null) return "";
  return judge(value, wanted, better) === "missed" ? " ✗" : " ✓";
}

function formatWanted(wanted: readonly (Target | null)[], better: Figure["better"]): string {
  const bounds = [
    ...new Set(wanted.filter((each) => each !== null).map(({ goal }) => formatNumber(goal, 2))),
  ];
  return bounds.length === 0 ? "" : `${better === "higher" ? "≥" : "≤"} ${bounds.join(", ")}`;
}

function rowsOf(measures: readonly Measure[], ways: readonly Way[]): Row[] {
  return ways.flatMap((way) =>
    measures
      .filter((measure) => applies(measure, way))
      .flatMap(({ figures }) => figures.map((figure) => ({ way, figure }))),
  );
}

function seriesOf(result: LevelResult, variant: Variant, way: Way, figure: Figure): Series {
  return result.values[seriesKey(variant, way)]?.[figure.key] ?? [];
}
