/** Whatever a reader must know before believing a run's tables. Pure. */

import { type Series, summarize } from "../stats.js";
import { formatNumber, formatSummary } from "../table.js";
import type { Measure } from "./measures.js";
import type { Records } from "./records.js";

/** Cores used by others above which the figures say more about them than about us. */
const BUSY_MACHINE = 0.15;
/** Share of a core taken by the hypervisor that is worth a word. */
const STOLEN_SHARE = 0.02;

/** A series as it is called in a sentence. */
export interface NamedSeries {
  key: string;
  title: string;
}

/** Where a test's sender was the limit, and where no rate was good enough. */
export function limitNotes(
  records: Records,
  measures: readonly Measure[],
  series: readonly NamedSeries[],
): string[] {
  const notes: string[] = [];
  for (const measure of measures) {
    const title = measure.figures[0].title;
    const having = ({ key }: NamedSeries, detail: string) =>
      (records.details[key]?.[measure.key] ?? []).filter((details) => details?.[detail] === true).length;
    for (const each of series) {
      const count = having(each, "noRate");
      if (count > 0)
        notes.push(
          `${title}: for ${each.title} every rate tried lost more in ${count} repetitions, which count as 0.`,
        );
    }
    const limited = series.filter((each) => having(each, "senderLimited") > 0);
    if (limited.length > 0)
      notes.push(
        `${title}: iperf3's sender was the limit for ${limited
          .map((each) => each.title)
          .join(", ")} (nothing lost at the most it could offer).`,
      );
  }
  return notes;
}

/** What else the machine did meanwhile; `otherCores` are cores used by others, before each repetition. */
export function machineNotes(records: Records, otherCores: Series): string[] {
  const notes: string[] = [];
  const other = summarize(otherCores);
  if (other !== null && other.median > BUSY_MACHINE) {
    const cores = formatSummary(other, 2);
    notes.push(
      `The machine was busy with something else (${cores} cores between the tests): do not trust this.`,
    );
  }
  const uses = Object.values(records.cpu).flatMap((tests) => Object.values(tests).flat());
  const stolen = uses.reduce((sum, use) => sum + (use?.stolen ?? 0), 0);
  const seconds = uses.reduce((sum, use) => sum + (use?.seconds ?? 0), 0);
  if (stolen > STOLEN_SHARE * seconds)
    notes.push(`The hypervisor took ${formatNumber((100 * stolen) / seconds, 1)} % of a core away.`);
  return notes;
}

/** Variants that did not come up (by key, with the reason), and tests that gave no figure. */
export function failureNotes(records: Records, failed: Readonly<Record<string, string>>): string[] {
  return [
    ...Object.entries(failed).map(([key, reason]) => `${key} did not come up: ${reason}`),
    ...records.errors.map(
      ({ test, variant, repetition, message }) =>
        `No figure: ${test}, ${variant}, repetition ${repetition}: ${message}`,
    ),
  ];
}
