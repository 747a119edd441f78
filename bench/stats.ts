/**
 * Statistics of benchmark figures. Pure. A repetition that failed is null: it keeps its place, so
 * that the n-th value of one series and the n-th of another come from the same repetition.
 */

/** One figure per repetition. */
export type Series = readonly (number | null)[];

/** What a table shows of a series. */
export interface Summary {
  /** Repetitions that gave a figure. */
  n: number;
  median: number;
  min: number;
  max: number;
}

/**
 * Quantile `q` (0 to 1) of `values`, with linear interpolation between neighbours; NaN where there
 * are no values.
 */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const position = (sorted.length - 1) * q;
  const below = Math.floor(position);
  const above = Math.ceil(position);
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below);
}

/** Median, NaN of nothing. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Median and spread of the repetitions that gave a figure; null where none did. */
export function summarize(series: Series): Summary | null {
  const values = series.filter((value): value is number => value !== null && Number.isFinite(value));
  if (values.length === 0) return null;
  return {
    n: values.length,
    median: median(values),
    min: Math.min(...values),
    max: Math.max(...values),
  };
}

/**
 * Ratio of each repetition to the base's figure in the same repetition. The machine's noise is
 * slower than one repetition, so that most of it cancels here, where a ratio of two medians keeps it.
 */
export function ratios(series: Series, base: Series): (number | null)[] {
  return series.map((value, repetition) => {
    const reference = base[repetition] ?? null;
    return value === null || reference === null || reference === 0 ? null : value / reference;
  });
}

/** What a ratio to the peer must reach, and what it is meant to reach. */
export interface Target {
  floor: number;
  goal: number;
}

/** How a ratio stands to its target. */
export type Verdict = "goal" | "floor" | "missed";

/** Judges `ratio`; `better` says which direction of the figure is the good one. */
export function judge(ratio: number, target: Target, better: "higher" | "lower"): Verdict {
  const reaches = (limit: number) => (better === "higher" ? ratio >= limit : ratio <= limit);
  if (reaches(target.goal)) return "goal";
  return reaches(target.floor) ? "floor" : "missed";
}
