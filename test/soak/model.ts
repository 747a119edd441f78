import { type ModelTotals, repeatModel, runModel } from "../support/model/model.js";
import { numberOptions } from "./options.js";

const REPORT_MS = 10_000;
/** Steps under one seed; then the next seed, with a cluster anew. */
const ROUND = 20_000;

/**
 * Random packets and changes of tables against the reference model, for as long as one likes; prints
 * the seed of every round. With --steps 3,17,200 and a seed, those steps alone.
 */
export function modelSoak(args: string[]): void {
  const at = args.indexOf("--steps");
  const only = at < 0 ? undefined : args.splice(at, 2)[1]?.split(",").map(Number);
  const { count, seed } = numberOptions(args, { count: 1_000_000, seed: Date.now() & 0x7fffffff });
  if (only !== undefined) {
    console.log(line(seed, repeatModel(seed, only)));
    return;
  }
  const started = Date.now();
  let reported = started;
  let done = 0;
  for (let round = 0; done < count; round++) {
    const own = seed + round;
    const before = done;
    const totals = runModel(own, ROUND, (so) => {
      if (Date.now() - reported < REPORT_MS) return;
      reported = Date.now();
      console.log(line(own, so));
    });
    done = before + totals.packets + totals.changes;
    console.log(line(own, totals));
  }
  console.log(`${done} packets and changes in ${((Date.now() - started) / 1000).toFixed(1)} s: all agree`);
}

function line(seed: number, { packets, hops, changes, arrived, dropped }: ModelTotals): string {
  const drops = Object.entries(dropped)
    .sort((a, b) => b[1] - a[1])
    .map(([name, count]) => `${name} ${count}`);
  return `seed ${seed}: ${packets} packets, ${hops} hops, ${changes} changes, ${arrived} arrived; ${drops.join(", ")}`;
}
