import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiSoak, judgeMemory } from "../support/apiSoak.js";
import { numberOptions } from "./options.js";

/** Churn on the API server, watched by kubectl and client-node; prints what they saw. */
export async function apiSoakCommand(args: string[]): Promise<void> {
  const { seconds, rate, seed } = numberOptions(args, {
    seconds: 600,
    rate: 200,
    seed: Date.now() & 0x7fffffff,
  });
  console.log(`seed ${seed}: ${seconds} s, ${rate} changes/s`);
  const directory = mkdtempSync(join(tmpdir(), "podwire-soak-"));
  try {
    const result = await apiSoak({ seed, seconds, rate, directory, say: (line) => console.log(`  ${line}`) });
    for (const { name, events, resumed, relisted } of result.watchers)
      console.log(`  ${name}: ${events} events, ${resumed} watches, ${relisted} lists anew`);
    const { first, last, bytesPerChange } = result.memory;
    console.log(
      `  ${result.changes} changes in ${result.seconds.toFixed(0)} s; memory ${first} to ${last} MiB, ${bytesPerChange} bytes/change`,
    );
    judgeMemory(result);
    console.log("nothing missed, nothing twice, memory stable");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
