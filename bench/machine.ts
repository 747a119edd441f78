/** What the figures were made on: machine, kernel, versions, commit. Printed above every table. */

import { cpus, loadavg, release, totalmem } from "node:os";
import { attempt } from "./command.js";

/** One benchmark run's surroundings. */
export interface Machine {
  date: string;
  cpu: string;
  cores: number;
  memoryGiB: number;
  kernel: string;
  node: string;
  /** Load average of the last minute before the run. */
  load: number;
  /** Commit of the checkout, with "+" where it has uncommitted changes; "" outside a checkout. */
  commit: string;
  /** Versions of the programs used. */
  programs: Record<string, string>;
}

/** Looks at this machine. `root` is the checkout; `programs` are name and command that prints a version. */
export function describeMachine(root: string, programs: Record<string, readonly string[]>): Machine {
  const processors = cpus();
  const head = attempt(["git", "-C", root, "rev-parse", "--short", "HEAD"]).trim();
  const changed = attempt(["git", "-C", root, "status", "--porcelain"]).trim() !== "";
  const versions: Record<string, string> = {};
  for (const [name, argv] of Object.entries(programs)) {
    versions[name] = firstVersion(attempt(["sh", "-c", `${argv.join(" ")} 2>&1 || true`]));
  }
  return {
    date: new Date().toISOString().slice(0, 16).replace("T", " "),
    cpu: processors[0]?.model.trim() ?? "unknown",
    cores: processors.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    load: Math.round(loadavg()[0] * 100) / 100,
    commit: head + (head !== "" && changed ? "+" : ""),
    programs: versions,
  };
}

/** The machine in two lines. */
export function formatMachine(machine: Machine): string {
  const programs = Object.entries(machine.programs).map(([name, version]) => `${name} ${version}`);
  return [
    `${machine.date} UTC, commit ${machine.commit || "unknown"}, ${machine.cpu}, ${machine.cores} cores, ` +
      `${machine.memoryGiB} GiB, load ${machine.load.toFixed(2)} before`,
    [`kernel ${machine.kernel}`, `Node ${machine.node}`, ...programs].join(", "),
  ].join("\n");
}

/** The first thing in `text` that looks like a version. */
function firstVersion(text: string): string {
  return /\d+(?:\.\d+)+(?:-\S+)?|\b\d{8}\b/.exec(text)?.[0] ?? "unknown";
}
