import { parseArgs } from "node:util";
import { BFD_INTERVAL_MS, type Profile } from "../support/announceBed.js";
import { failoverSoak } from "../support/failoverSoak.js";
import { netnsUnavailable } from "../support/netns.js";
import { numberOptions } from "./options.js";

/** Full load and nobody hurt: with the default profile there may be no takeover, with the fast one they are counted. */
export async function failoverSoakCommand(args: string[]): Promise<void> {
  const reason = netnsUnavailable();
  if (reason !== "") throw new Error(`npm run soak -- failover ${reason}`);
  const { profile, rest } = profileOption(args);
  const { seconds } = numberOptions(rest, { seconds: 3600 });
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => interrupted.abort());
  console.log(`full load for ${seconds} s, BFD ${BFD_INTERVAL_MS[profile]} ms × 3`);
  const result = await failoverSoak({
    seconds,
    profile,
    say: (line) => console.log(`  ${line}`),
    signal: interrupted.signal,
  });
  const perHour = (count: number) => ((count * 3600) / result.seconds).toFixed(1);
  const rate = (count: number) => Math.round(count / result.seconds);
  console.log(
    `  load: ${rate(result.forwarded)} frames/s forwarded, ${rate(result.connections)} connections/s at NodePorts`,
  );
  const { over, longest } = result.stalls;
  console.log(
    `  processes that might run were woken late: ${over.map(({ ms, count }) => `${count} times by more than ${ms} ms`).join(", ")}; ${longest.toFixed(1)} ms at the most`,
  );
  console.log(
    `  false takeovers: ${result.takeovers} (${perHour(result.takeovers)} an hour); sessions lost: ${result.sessionsLost} (${perHour(result.sessionsLost)} an hour)`,
  );
  if (profile === "default" && result.takeovers > 0)
    throw new Error("addresses changed their owner though no node had failed");
}

function profileOption(args: string[]): { profile: Profile; rest: string[] } {
  const { values, tokens } = parseArgs({
    args,
    options: { profile: { type: "string", default: "default" } },
    strict: false,
    tokens: true,
  });
  const at = tokens.find((token) => token.kind === "option" && token.name === "profile");
  const length = at?.kind === "option" && at.inlineValue === false ? 2 : 1;
  const rest = at === undefined ? args : args.toSpliced(at.index, length);
  const { profile } = values;
  if (profile !== "default" && profile !== "fast") throw new RangeError("--profile wants default or fast");
  return { profile, rest };
}
