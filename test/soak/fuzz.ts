import { type FuzzTotals, fuzz } from "../support/fuzz.js";
import { numberOptions } from "./options.js";

const REPORT_MS = 10_000;
/** Mutations under one seed; then the next seed, with nodes anew. */
const ROUND = 200_000;

/** Mutated frames for as long as one likes; prints the seed of every round. */
export function fuzzSoak(args: string[]): void {
  const { count, seed } = numberOptions(args, { count: 1_000_000, seed: Date.now() & 0x7fffffff });
  const started = Date.now();
  let reported = started;
  let done = 0;
  for (let round = 0; done < count; round++) {
    const own = seed + round;
    const totals = fuzz(Math.min(ROUND, count - done), own, (so) => {
      if (Date.now() - reported < REPORT_MS) return;
      reported = Date.now();
      console.log(line(own, done + so.mutations, so));
    });
    done += totals.mutations;
    console.log(line(own, done, totals));
  }
  console.log(`${done} mutations in ${((Date.now() - started) / 1000).toFixed(1)} s: nothing found`);
}

function line(seed: number, done: number, totals: FuzzTotals): string {
  const drops = Object.entries(totals.dropped)
    .sort((a, b) => b[1] - a[1])
    .map(([name, count]) => `${name} ${count}`);
  return `seed ${seed}: ${done} so far; forwarded ${totals.forwarded}, answered ${totals.answered}, ${drops.join(", ")}`;
}
