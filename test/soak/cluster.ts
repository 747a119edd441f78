import { clusterSoak } from "../support/clusterSoak.js";
import { netnsUnavailable } from "../support/netns.js";
import { numberOptions } from "./options.js";

/** Random operations on a cluster whose processes are killed; prints the seed of every round. */
export async function clusterSoakCommand(args: string[]): Promise<void> {
  const reason = netnsUnavailable();
  if (reason !== "") throw new Error(`npm run soak -- cluster ${reason}`);
  const { operations, kills, seed, rounds } = numberOptions(args, {
    operations: 500,
    kills: 20,
    seed: Date.now() & 0x7fffffff,
    rounds: 1,
  });
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupted.abort());
  for (let round = 0; round < rounds; round++) {
    const own = seed + round;
    console.log(`seed ${own}: ${operations} operations, ${kills} kills`);
    const options = { seed: own, operations, kills, convergeMs: 180_000, signal: interrupted.signal };
    const result = await clusterSoak({ ...options, say: (line) => console.log(`  ${line}`) });
    console.log(`  ${JSON.stringify(result.operations)}`);
    console.log(`  killed ${JSON.stringify(result.kills)}`);
    console.log(
      `  all agrees after ${(result.convergedMs / 1000).toFixed(1)} s: ${result.pods} pods, ${result.pings} pings`,
    );
  }
}
