/** The log of commands that go on running: JSON lines on stderr. */
import { Option } from "commander";
import type { Logger } from "pino";

/** The option that says what is logged. */
export function logLevelOption(): Option {
  return new Option("--log-level <level>", "least level that is logged (JSON lines on stderr)")
    .choices(["trace", "debug", "info", "warn", "error", "fatal"])
    .default("info");
}

/** A log from `level` on. `base` is in every line; left out, process and host. */
export async function makeLog(level: string, base?: Record<string, string>): Promise<Logger> {
  // Loaded here: `podwire --help` needs none of it.
  const { default: pino } = await import("pino");
  // Synchronous: the last lines before an end must not get lost.
  return pino(
    {
      level,
      ...(base === undefined ? {} : { base }),
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ fd: 2, sync: true }),
  );
}
