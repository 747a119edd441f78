/**
 * Owns processes: running a command to its end, starting one that outlives us, telling whether it
 * still lives, and ending it. Must not know what the commands are for.
 *
 * A process is known by its number and its start time, as numbers are used again.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError } from "./errors.js";

export interface ProcessId {
  pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks since boot. */
  startTime: number;
}

export interface CommandResult {
  /** Exit code; 128 + n after signal n; 127 if the command could not be started. */
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  input?: string;
  timeoutMs?: number;
  env?: NodeJS.ProcessEnv;
  /** Ends the command. */
  signal?: AbortSignal;
}

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
};

/** The exit code a shell would give. */
export function exitCode(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (SIGNAL_NUMBERS[signal ?? ""] ?? 0);
}

/** Runs a command to its end and never throws: a command that cannot start ends with 127. */
export function run(command: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = spawn(command[0]!, command.slice(1), {
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs, killSignal: "SIGKILL" }),
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    let stdout = "";
    let stderr = "";
    child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", (error) => resolve({ code: 127, stdout, stderr: stderr + error.message }));
    child.on("close", (code, signal) => resolve({ code: exitCode(code, signal), stdout, stderr }));
    // A command that ends without reading its input is no failure of ours.
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.input);
  });
}

/** Runs a command that has to succeed; returns its output. */
export async function runOrThrow(command: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await run(command, options);
  if (code !== 0) {
    throw new LabError(`${command.join(" ")}: ${stderr.trim() || `exit code ${code}`}`, "LAB_COMMAND_FAILED");
  }
  return stdout;
}

/** Runs a command on our own terminal and returns its exit code. */
export function runAttached(command: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve) => {
    // The terminal sends Ctrl-C to the command too; what it means is the command's to decide.
    const ignore = () => {};
    process.on("SIGINT", ignore);
    process.on("SIGQUIT", ignore);
    const child = spawn(command[0]!, command.slice(1), { stdio: "inherit", env });
    const forward = (signal: NodeJS.Signals) => child.kill(signal);
    process.on("SIGTERM", forward);
    process.on("SIGHUP", forward);
    const end = (code: number) => {
      process.off("SIGINT", ignore).off("SIGQUIT", ignore).off("SIGTERM", forward).off("SIGHUP", forward);
      resolve(code);
    };
    child.on("error", (error) => {
      console.error(`podwire lab: ${command[0]}: ${error.message}`);
      end(127);
    });
    child.on("exit", (code, signal) => end(exitCode(code, signal)));
  });
}

/** Starts a command in a session of its own, its output appended to a file. */
export function startDetached(command: readonly string[], log: string): ProcessId {
  const descriptor = openSync(log, "a", 0o644);
  try {
    const child = spawn(command[0]!, command.slice(1), {
      detached: true,
      stdio: ["ignore", descriptor, descriptor],
      cwd: "/",
    });
    // Whether it started shows in the log and when it is waited for.
    child.on("error", () => {});
    child.unref();
    if (child.pid === undefined) throw new LabError(`cannot start ${command.join(" ")}`);
    return { pid: child.pid, startTime: startTimeOf(child.pid) ?? 0 };
  } finally {
    closeSync(descriptor);
  }
}

/** Start time of a living process, or null. A zombie does not live. */
export function startTimeOf(pid: number): number | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return null;
  }
  // The second field is the name in parentheses and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return null;
  return Number(fields[19]);
}

/** Name of a process's program, at most 15 characters of it; "" where it does not live. */
export function programOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "utf8").trimEnd();
  } catch {
    return "";
  }
}

/** Our own process. */
export function self(): ProcessId {
  return { pid: process.pid, startTime: startTimeOf(process.pid) ?? 0 };
}

export function isAlive(id: ProcessId): boolean {
  return startTimeOf(id.pid) === id.startTime;
}

const TCP_LISTEN = "0A";

/** Whether somebody listens on a TCP port, told from the text of /proc/net/tcp. */
export function listensOn(procNetTcp: string, l4Port: number): boolean {
  const port = l4Port.toString(16).toUpperCase().padStart(4, "0");
  return procNetTcp.split("\n").some((line) => {
    const [, local, , state] = line.trim().split(/\s+/);
    return state === TCP_LISTEN && local?.endsWith(`:${port}`);
  });
}

/** Whether a process lives and somebody in its network namespace listens on a TCP port. */
export function isListening(id: ProcessId, l4Port: number): boolean {
  try {
    // This file shows the namespace which the process is in; before that, it is ours or none.
    return isAlive(id) && listensOn(readFileSync(`/proc/${id.pid}/net/tcp`, "utf8"), l4Port);
  } catch {
    return false;
  }
}

/** Ourselves and the processes we descend from: nobody ends these by clearing a namespace. */
export function ancestors(): Set<number> {
  const pids = new Set<number>();
  for (let pid = process.pid; pid > 0 && !pids.has(pid); ) {
    pids.add(pid);
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      pid = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    } catch {
      break;
    }
  }
  return pids;
}

function signal(id: ProcessId, name: NodeJS.Signals): void {
  if (!isAlive(id)) return;
  try {
    process.kill(id.pid, name);
  } catch {
    // It ended in between.
  }
}

/** Waits until all have ended; false if some still live after the time. */
export async function waitForEnd(ids: readonly ProcessId[], timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (ids.some(isAlive)) {
    if (performance.now() > deadline) return false;
    await sleep(20);
  }
  return true;
}

/** Ends processes: SIGTERM, then SIGKILL for those that stay. Returns those that outlive even that. */
export async function endAll(ids: readonly ProcessId[], graceMs: number): Promise<ProcessId[]> {
  for (const id of ids) signal(id, "SIGTERM");
  if (await waitForEnd(ids, graceMs)) return [];
  for (const id of ids) signal(id, "SIGKILL");
  await waitForEnd(ids, 5000);
  return ids.filter(isAlive);
}

/** The last lines of a file, or what kept us from reading it. */
export function tail(file: string, lines: number): string {
  try {
    return readFileSync(file, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  } catch (error) {
    return (error as Error).message;
  }
}
