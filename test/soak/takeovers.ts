import { quantile } from "../../bench/stats.js";
import { BFD_INTERVAL_MS } from "../support/announceBed.js";
import { netnsUnavailable } from "../support/netns.js";
import { ANNOUNCE_MS, takeoverFindings, takeoverSoak } from "../support/takeoverSoak.js";
import { numberOptions } from "./options.js";

/** Random failovers among four nodes, with a capture of who claims which address. */
export async function takeoversSoakCommand(args: string[]): Promise<void> {
  const reason = netnsUnavailable();
  if (reason !== "") throw new Error(`npm run soak -- takeovers ${reason}`);
  const { count, seed } = numberOptions(args, { count: 200, seed: Date.now() & 0x7fffffff });
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupted.abort());
  console.log(`seed ${seed}: ${count} faults among four nodes`);
  const result = await takeoverSoak({
    seed,
    count,
    profile: "default",
    say: (line) => console.log(`  ${line}`),
    signal: interrupted.signal,
  });
  const { decisions, secondAnswers } = result;
  const announcedMs = decisions.map((each) => each.ms).filter((each) => each !== null);
  const ms = (q: number) => quantile(announcedMs, q).toFixed(2);
  console.log(`  ${JSON.stringify(result.faults)}`);
  console.log(
    `  ${decisions.length} takeovers; request and reply on the LAN after ${ms(0.5)} ms (median), ${ms(1)} ms at most (wanted: ${ANNOUNCE_MS})`,
  );
  console.log(
    `  the owner before answered until ${Math.max(0, ...secondAnswers.map((each) => each.ms)).toFixed(1)} ms after the new one's decision, at the latest (wanted: ${BFD_INTERVAL_MS.default})`,
  );
  const findings = takeoverFindings(result, "default");
  if (findings.length > 0) throw new Error(findings.join("\n"));
}
