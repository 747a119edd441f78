/**
 * Runs other programs. A measured program writes to a file, not to a pipe: each line through a
 * pipe would wake this process in the middle of a measurement.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** What a program left behind. */
export interface CommandResult {
  /** Exit code; null where it was ended by a signal. */
  code: number | null;
  /** Standard output. */
  output: string;
  /** Standard error. */
  errors: string;
  /** Had to be killed, being late. */
  timedOut: boolean;
}

/** A program could not do its work. The message says which, and what it printed. */
export class CommandError extends Error {
  constructor(argv: readonly string[], detail: string) {
    super(`${argv.join(" ")}: ${detail.trim().slice(-400)}`);
    this.name = "CommandError";
  }
}

/** `argv` as run inside the named network namespace. The program keeps the process id of `ip`. */
export function inNetns(netns: string, argv: readonly string[]): string[] {
  return ["ip", "netns", "exec", netns, ...argv];
}

/** Runs a short program and waits. Throws CommandError where it fails. Returns its output. */
export function must(argv: readonly string[]): string {
  const result = spawnSync(argv[0], argv.slice(1), { encoding: "utf8", maxBuffer: 1 << 26 });
  if (result.error) throw new CommandError(argv, result.error.message);
  if (result.status !== 0) throw new CommandError(argv, result.stderr || `exit code ${result.status}`);
  return result.stdout;
}

/** Runs a short program whose failure does not matter; returns its output, "" where it failed. */
export function attempt(argv: readonly string[]): string {
  const result = spawnSync(argv[0], argv.slice(1), { encoding: "utf8", maxBuffer: 1 << 26 });
  return result.status === 0 ? result.stdout : "";
}

/** Runs programs with their output in files of one directory, and remembers those still running. */
export class Launcher {
  private readonly directory: string;
  private readonly running = new Set<ChildProcess>();
  private serial = 0;

  constructor(directory: string) {
    this.directory = directory;
  }

  /** Runs `argv` to its end; kills it after `timeoutMs`. Never throws for what the program does. */
  async run(argv: readonly string[], timeoutMs: number): Promise<CommandResult> {
    const outputFile = join(this.directory, `out-${this.serial}`);
    const errorFile = join(this.directory, `err-${this.serial}`);
    this.serial = (this.serial + 1) % 16;
    const child = this.spawn(argv, outputFile, errorFile, false);
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    const code = await exitOf(child);
    clearTimeout(timer);
    return {
      code,
      output: readFileSync(outputFile, "utf8"),
      errors: readFileSync(errorFile, "utf8"),
      timedOut,
    };
  }

  /** Starts a program that stays. Both of its outputs go to `logFile`. */
  start(argv: readonly string[], logFile: string): ChildProcess {
    return this.spawn(argv, logFile, logFile, false);
  }

  /** The same in a session of its own, as systemd starts services: for agents, which raise theirs. */
  startService(argv: readonly string[], logFile: string): ChildProcess {
    return this.spawn(argv, logFile, logFile, true);
  }

  /** Asks `children` to end, waits for them, and kills those that do not within `graceMs`. */
  async stop(children: readonly ChildProcess[], graceMs: number): Promise<void> {
    for (const child of children) child.kill("SIGTERM");
    const timer = setTimeout(() => {
      for (const child of children) child.kill("SIGKILL");
    }, graceMs);
    await Promise.all(children.map(exitOf));
    clearTimeout(timer);
  }

  /** Kills whatever still runs, without waiting: for a process that is about to end. */
  killAll(): void {
    for (const child of this.running) child.kill("SIGKILL");
  }

  private spawn(
    argv: readonly string[],
    outputFile: string,
    errorFile: string,
    detached: boolean,
  ): ChildProcess {
    const output = openSync(outputFile, "w");
    const errors = errorFile === outputFile ? output : openSync(errorFile, "w");
    const child = spawn(argv[0], argv.slice(1), { stdio: ["ignore", output, errors], detached });
    closeSync(output);
    if (errors !== output) closeSync(errors);
    this.running.add(child);
    const forget = () => this.running.delete(child);
    child.once("exit", forget);
    child.once("error", forget);
    return child;
  }
}

/** Waits for a program's end. */
function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
    return Promise.resolve(child.exitCode);
  }
  return new Promise((resolve) => {
    child.once("exit", (code) => resolve(code));
    child.once("error", () => resolve(null));
  });
}
