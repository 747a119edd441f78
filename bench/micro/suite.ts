/** What a suite is, and how benny runs one. */

import * as benny from "benny";
import { median } from "../stats.js";

/** One thing to time. */
export interface MicroCase {
  name: string;
  /** Operations in one call of `run`: packets, lookups, sums. */
  operations: number;
  run: () => void;
}

/** Cases shown together. */
export interface MicroSuite {
  title: string;
  /** What one operation is. */
  unit: string;
  /** Each case does what the one before does and something more: the table shows the steps. */
  cumulative: boolean;
  cases: MicroCase[];
}

/** Time of one operation. */
export interface MicroResult {
  name: string;
  /** Median and extremes over benny's samples, in nanoseconds. */
  nanoseconds: number;
  min: number;
  max: number;
  samples: number;
}

/** Runs the cases of `suite` for about `seconds` each. */
export async function runSuite(suite: MicroSuite, seconds: number): Promise<MicroResult[]> {
  const options = { minSamples: 10, maxTime: seconds, minTime: seconds / 20 };
  const summary = await benny.suite(
    suite.title,
    ...suite.cases.map((each) => benny.add(each.name, () => each.run, options)),
  );
  return summary.results.map((result, index) => {
    const nanoseconds = result.details.sampleResults.map(
      (time) => (time * 1e9) / suite.cases[index].operations,
    );
    return {
      name: result.name,
      nanoseconds: median(nanoseconds),
      min: Math.min(...nanoseconds),
      max: Math.max(...nanoseconds),
      samples: result.samples,
    };
  });
}

/** Somewhere for results to go, so that no compiler may leave the work out. */
export const blackHole = { value: 0 };
