/**
 * The long versions of tests, by name:
 *
 *   npm run soak -- fuzz [--count N] [--seed S]     mutated frames into the dataplane (default: a
 *                                                   million, a seed of the clock)
 *
 * Ends with status 1 on a finding, whose seed repeats it.
 */
import { fuzzSoak } from "./fuzz.js";

const SOAKS: Readonly<Record<string, (args: string[]) => void>> = { fuzz: fuzzSoak };

function main(argv: string[]): void {
  const [name, ...rest] = argv;
  const soak = name === undefined ? undefined : SOAKS[name];
  if (soak === undefined) {
    console.error(`usage: npm run soak -- <${Object.keys(SOAKS).join("|")}> [options]`);
    process.exitCode = 2;
    return;
  }
  try {
    soak(rest);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}

main(process.argv.slice(2));
