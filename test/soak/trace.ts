import { netnsUnavailable } from "../support/netns.js";
import { traceSoak } from "../support/traceSoak.js";
import { numberOptions } from "./options.js";

/** Random packets, each traced before it is sent through agents that run; prints the seed. */
export async function traceSoakCommand(args: string[]): Promise<void> {
  const reason = netnsUnavailable();
  if (reason !== "") throw new Error(`npm run soak -- trace ${reason}`);
  const { count, perState, seed } = numberOptions(args, {
    count: 1000,
    perState: 25,
    seed: Date.now() & 0x7fffffff,
  });
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupted.abort());
  console.log(`seed ${seed}: ${count} packets, ${perState} in each state`);
  const options = { seed, count, perState, signal: interrupted.signal };
  const { packets, ends, kinds } = await traceSoak({ ...options, say: (line) => console.log(`  ${line}`) });
  for (const counts of [kinds, ends])
    for (const [name, number] of Object.entries(counts).sort(([, a], [, b]) => b - a))
      console.log(`  ${String(number).padStart(5)} ${name}`);
  console.log(`  ${packets} packets went as traced`);
}
