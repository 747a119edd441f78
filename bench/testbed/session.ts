/** What every run over namespaces begins and ends with: rights, programs, leftovers, clearing up. */

import { mkdirSync, rmSync } from "node:fs";
import { attempt, type Launcher } from "../command.js";
import { clearLeftovers, type Namespaces, removeSets, workDirectory } from "./topology.js";

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/**
 * What stands in the way of benchmark `name`, null for nothing. `programs` are the programs that it
 * runs, with the Debian packages that have them.
 */
export function obstacle(name: string, programs: Readonly<Record<string, string>>): string | null {
  if (process.getuid?.() !== 0) return `bench ${name} makes network namespaces: it needs root`;
  const absent = Object.entries(programs).filter(
    ([program]) => attempt(["sh", "-c", `command -v ${program}`]) === "",
  );
  if (absent.length === 0) return null;
  const packages = [...new Set(absent.map(([, from]) => from))].join(" ");
  return `missing: ${absent.map(([program]) => program).join(", ")}. On Debian and Ubuntu: sh scripts/setup.sh bench, or apt-get install ${packages}`;
}

/** Removes what killed runs left, and says so. */
export function clearEarlierRuns(): void {
  const cleared = clearLeftovers();
  if (cleared > 0) console.error(`cleared ${cleared} namespaces of an earlier run`);
}

/**
 * Runs `work` with a work directory. However that ends (result, error, signal, exit), the programs of
 * `launcher`, the namespaces that `sets` then names and the work directory are gone afterwards.
 */
export async function inSession<T>(
  launcher: Launcher,
  sets: () => readonly Namespaces[],
  work: () => Promise<T>,
): Promise<T> {
  mkdirSync(workDirectory(), { recursive: true, mode: 0o700 });
  const clear = () => {
    launcher.killAll();
    removeSets(sets());
    rmSync(workDirectory(), { recursive: true, force: true });
  };
  const handlers = Object.entries(SIGNALS).map(([signal, code]) => {
    const handler = () => process.exit(code);
    process.on(signal, handler);
    return [signal, handler] as const;
  });
  process.on("exit", clear);
  try {
    return await work();
  } finally {
    clear();
    process.off("exit", clear);
    for (const [signal, handler] of handlers) process.off(signal, handler);
  }
}

/** Resolves after `ms` milliseconds. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
