/**
 * Figures as they come in, by series (a variant, or a way through one) and test. Every repetition in
 * which a test is made has its place in every series, whether it gave a figure or not.
 */

import { formatNumber } from "../table.js";
import type { CpuUse } from "./accounting.js";
import { type Measure, type Measured, MeasureError } from "./measures.js";

export interface Records {
  /** Figure by series and figure, one value per repetition. */
  values: Record<string, Record<string, (number | null)[]>>;
  /** CPU time by series and test. */
  cpu: Record<string, Record<string, (CpuUse | null)[]>>;
  /** What qualifies the figures, by series and test. */
  details: Record<string, Record<string, (Record<string, number | boolean> | null)[]>>;
  /** Tests that gave no figure; `variant` is the series. */
  errors: { repetition: number; test: string; variant: string; message: string }[];
}

export function emptyRecords(): Records {
  return { values: {}, cpu: {}, details: {}, errors: [] };
}

/**
 * Records one test of one series. A MeasureError of `work` leaves a gap and a note, any other error
 * is a fault of the benchmark's own and goes on. Returns a word for the progress line.
 */
export async function record(
  records: Records,
  where: { series: string; measure: Measure; repetition: number },
  work: () => Promise<Measured>,
): Promise<string> {
  const { series, measure, repetition } = where;
  let measured: Measured | null = null;
  try {
    measured = await work();
  } catch (error) {
    noteError(records, { repetition: repetition + 1, test: measure.key, variant: series, error });
  }
  for (const { key } of measure.figures) append(records.values, series, key, measured?.values[key] ?? null);
  append(records.cpu, series, measure.key, measured?.cpu ?? null);
  append(records.details, series, measure.key, measured?.details ?? null);
  const first = measure.figures[0];
  return `${series} ${formatNumber(measured?.values[first.key] ?? Number.NaN, first.decimals)}`;
}

/** Notes a MeasureError; throws any other one. */
export function noteError(
  records: Records,
  failure: { repetition: number; test: string; variant: string; error: unknown },
): void {
  const { error, ...where } = failure;
  if (!(error instanceof MeasureError)) throw error;
  records.errors.push({ ...where, message: error.message });
}

function append<T>(table: Record<string, Record<string, T[]>>, series: string, key: string, value: T): void {
  table[series] ??= {};
  table[series][key] ??= [];
  table[series][key].push(value);
}
