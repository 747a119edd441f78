/** Tables of a `failover` run. Pure: from raw figures to text. */

import { type Series, summarize } from "../stats.js";
import { formatNumber, formatSummary, renderTable } from "../table.js";
import { FAULT_TITLES, type Fault } from "./Bed.js";
import type { Churn, Kept, Trial } from "./trial.js";
import { type Variant, wantedGapMs } from "./variants.js";

/** One row of trials: a fault of a variant, once for each repetition; null where it gave nothing. */
export interface Case {
  variant: string;
  fault: Fault;
  endpoints: Churn;
  trials: (Trial | null)[];
}

/** Everything measured. */
export interface FailoverResult {
  cases: Case[];
  /** Cores that whatever else runs on the machine used, before each repetition. */
  otherCores: number[];
  errors: { repetition: number; where: string; message: string }[];
  /** Variants that did not come up, and why. */
  failed: Record<string, string>;
}

/** Starts further apart than this say little about gaps of 20 ms. */
const COARSE_STEP_MS = 15;
/** Cores used by others above which the figures say more about them than about us. */
const BUSY_MACHINE = 0.15;

/** All tables. */
export function formatFailover(result: FailoverResult, variants: readonly Variant[]): string {
  const shown = variants.filter(({ key }) => result.cases.some((each) => each.variant === key));
  if (shown.length === 0) return notesOf(result).join("\n\n");
  return [
    "Gap in milliseconds, from the start of the last good curl before to that of the first good one after: median [spread], stable and changing endpoints together. ✓ as wanted, ✗ not",
    formatGaps(result, shown),
    "The same on the way back to the owner",
    formatBack(result, shown),
    "After the fault: new connections in a row that failed, and long-lived ones (TCP streams with checked data, a redis client) that went on intact, there and back",
    formatKept(result, shown),
    ...notesOf(result),
  ].join("\n\n");
}

/** What is not as wanted, in words; empty where all is. */
export function missed(result: FailoverResult, variants: readonly Variant[]): string[] {
  const found: string[] = [];
  for (const variant of variants) {
    for (const fault of faultsOf(result)) {
      const wanted = wantedGapMs(variant, fault);
      const gap = summarize(gapsOf(result, variant, fault));
      if (wanted !== null && gap !== null && gap.median > wanted)
        found.push(`${variant.key}, ${fault}: a gap of ${formatNumber(gap.median, 0)} ms`);
    }
  }
  for (const { variant, fault, endpoints, trials } of result.cases) {
    const where = `${variant}, ${fault}, ${endpoints} endpoints`;
    const given = trials.filter((each) => each !== null);
    const refused = given.reduce((sum, each) => sum + each.refused, 0);
    if (refused > 0) found.push(`${where}: ${refused} new connections failed`);
    const living = sumKept(given.map((each) => each.living));
    if (living.intact < living.connections)
      found.push(`${where}: ${living.connections - living.intact} connections to living nodes did not go on`);
  }
  return found;
}

function formatGaps(result: FailoverResult, shown: readonly Variant[]): string {
  return renderTable({
    head: ["", ...shown.map(({ title }) => title), "wanted"],
    rows: faultsOf(result).map((fault) => [
      FAULT_TITLES[fault],
      ...shown.map((variant) => {
        const summary = summarize(gapsOf(result, variant, fault));
        const wanted = wantedGapMs(variant, fault);
        const mark = summary === null || wanted === null ? "" : summary.median <= wanted ? " ✓" : " ✗";
        return formatSummary(summary, 0) + mark;
      }),
      `≤ ${[...new Set(shown.map((variant) => wantedGapMs(variant, fault)).filter((ms) => ms !== null))].join(", ")}`,
    ]),
  });
}

function formatBack(result: FailoverResult, shown: readonly Variant[]): string {
  return renderTable({
    head: ["", ...shown.map(({ title }) => title)],
    rows: faultsOf(result).map((fault) => [
      FAULT_TITLES[fault],
      ...shown.map((variant) =>
        formatSummary(
          summarize(trialsOf(result, variant, fault).map((trial) => trial?.back.gapMs ?? null)),
          0,
        ),
      ),
    ]),
  });
}

function formatKept(result: FailoverResult, shown: readonly Variant[]): string {
  return renderTable({
    head: [
      "",
      "endpoints",
      "connections failed",
      "backend on a living node",
      "longest silence",
      "backend on the node that was hit",
    ],
    rows: shown.flatMap((variant) =>
      result.cases
        .filter((each) => each.variant === variant.key)
        .map(({ fault, endpoints, trials }) => {
          const given = trials.filter((each) => each !== null);
          const tried = given.reduce((sum, each) => sum + each.connections, 0);
          const refused = given.reduce((sum, each) => sum + each.refused, 0);
          const living = sumKept(given.map((each) => each.living));
          const hit = sumKept(given.map((each) => each.hit));
          const silences = given.map((each) => each.living?.silenceMs ?? null);
          return [
            `${variant.key}, ${fault}`,
            variant.profile === null ? "" : endpoints,
            tried === 0 ? "–" : `${refused} of ${tried}${verdict(refused === 0)}`,
            living.connections === 0
              ? ""
              : `${living.intact} of ${living.connections}${verdict(living.intact === living.connections)}`,
            living.connections === 0 ? "" : `${formatSummary(summarize(silences), 0)} ms`,
            hit.connections === 0 ? "" : `${hit.intact} of ${hit.connections}`,
          ];
        }),
    ),
  });
}

function verdict(well: boolean): string {
  return well ? " ✓" : " ✗";
}

function notesOf(result: FailoverResult): string[] {
  const notes: string[] = [];
  const trials = result.cases.flatMap((each) => each.trials).filter((each) => each !== null);
  const steps = summarize(trials.map(({ outage }) => (outage.failed === 0 ? outage.stepMs : null)));
  if (steps !== null && steps.median > COARSE_STEP_MS)
    notes.push(
      `Where no curl failed, they started up to ${formatSummary(steps, 0)} ms apart: the machine was too busy for one every 10 ms, and shorter gaps cannot be told.`,
    );
  const other = summarize(result.otherCores);
  if (other !== null && other.median > BUSY_MACHINE)
    notes.push(
      `The machine was busy with something else (${formatSummary(other, 2)} cores between the trials): do not trust this.`,
    );
  for (const { variant, fault, endpoints, trials: of } of result.cases) {
    const errors = new Set(of.flatMap((trial) => trial?.living?.errors ?? []));
    if (errors.size > 0)
      notes.push(`${variant}, ${fault}, ${endpoints} endpoints: ${[...errors].join("; ")}`);
  }
  return [
    ...notes,
    ...Object.entries(result.failed).map(([key, reason]) => `${key} did not come up: ${reason}`),
    ...result.errors.map(
      ({ repetition, where, message }) => `No figure: ${where}, repetition ${repetition}: ${message}`,
    ),
  ];
}

function faultsOf({ cases }: FailoverResult): Fault[] {
  return [...new Set(cases.map(({ fault }) => fault))];
}

function trialsOf({ cases }: FailoverResult, variant: Variant, fault: Fault): (Trial | null)[] {
  return cases
    .filter((each) => each.variant === variant.key && each.fault === fault)
    .flatMap(({ trials }) => trials);
}

function gapsOf(result: FailoverResult, variant: Variant, fault: Fault): Series {
  return trialsOf(result, variant, fault).map((trial) => trial?.outage.gapMs ?? null);
}

function sumKept(kept: readonly (Kept | null)[]): { connections: number; intact: number } {
  const given = kept.filter((each) => each !== null);
  return {
    connections: given.reduce((sum, each) => sum + each.connections, 0),
    intact: given.reduce((sum, each) => sum + each.intact, 0),
  };
}
