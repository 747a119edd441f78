/**
 * The long versions of tests, by name:
 *
 *   npm run soak -- fuzz [--count N] [--seed S]     mutated frames into the dataplane (default: a
 *                                                   million, a seed of the clock)
 *   npm run soak -- model [--count N] [--seed S] [--steps N,N…]
 *                                                   packets and table changes against the reference
 *                                                   model (default: a million, a seed of the clock)
 *   npm run soak -- api [--seconds N] [--rate N] [--seed S]
 *                                                   churn on the API server, watched by kubectl and
 *                                                   client-node (default: 600 s, 200 changes/s)
 *   npm run soak -- cluster [--operations N] [--kills N] [--rounds N] [--seed S]
 *                                                   operations on a cluster whose API server and agents
 *                                                   are killed (default: 500, 20, 1); needs root
 *   npm run soak -- failover [--seconds N] [--profile default|fast]
 *                                                   full load on three nodes that all live: takeovers are
 *                                                   false ones (default: 3600 s, default); needs root
 *   npm run soak -- takeovers [--count N] [--seed S]
 *                                                   random failovers among four nodes, with a capture of
 *                                                   who claims which address (default: 200); needs root
 *   npm run soak -- trace [--count N] [--perState N] [--seed S]
 *                                                   random packets in random states of a cluster, each
 *                                                   traced before it is sent (default: 1000, 25); needs root
 *
 * Ends with status 1 on a finding, whose seed repeats it.
 */
import { apiSoakCommand } from "./api.js";
import { clusterSoakCommand } from "./cluster.js";
import { failoverSoakCommand } from "./failover.js";
import { fuzzSoak } from "./fuzz.js";
import { modelSoak } from "./model.js";
import { takeoversSoakCommand } from "./takeovers.js";
import { traceSoakCommand } from "./trace.js";

const SOAKS: Readonly<Record<string, (args: string[]) => void | Promise<void>>> = {
  api: apiSoakCommand,
  cluster: clusterSoakCommand,
  failover: failoverSoakCommand,
  fuzz: fuzzSoak,
  model: modelSoak,
  takeovers: takeoversSoakCommand,
  trace: traceSoakCommand,
};

async function main(argv: string[]): Promise<void> {
  const [name, ...rest] = argv;
  const soak = name === undefined ? undefined : SOAKS[name];
  if (soak === undefined) {
    console.error(`usage: npm run soak -- <${Object.keys(SOAKS).join("|")}> [options]`);
    process.exitCode = 2;
    return;
  }
  try {
    await soak(rest);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}

await main(process.argv.slice(2));
