/** Runs the programs that the runtime is made of (runc, mount, …) and tells processes apart. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

export interface CommandResult {
  /** Exit code; 127 where the program could not be started, 137 where it was killed. */
  code: number;
  stdout: string;
  stderr: string;
}

/** Longest that a command of ours may take. */
const LIMIT_MS = 60_000;

/** Runs a command to its end. Never rejects. */
export function run(command: readonly string[]): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = spawn(command[0]!, command.slice(1), {
      stdio: ["ignore", "pipe", "pipe"],
      timeout: LIMIT_MS,
      killSignal: "SIGKILL",
    });
    const result: CommandResult = { code: 127, stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      result.stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      result.stderr += text;
    });
    child.on("error", (error) => resolve({ ...result, code: 127, stderr: error.message }));
    child.on("close", (code) => resolve({ ...result, code: code ?? 137 }));
  });
}

/** Runs a command that has to succeed. Rejects with what it said. */
export async function runOrThrow(command: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command);
  if (code !== 0) throw new Error(`${command.join(" ")}: ${stderr.trim() || `exit code ${code}`}`);
  return stdout;
}

/** Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), "" where it does not run. */
export function startTimeOf(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may contain anything.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? "" : (fields[19] ?? "");
  } catch {
    return "";
  }
}

/** A process: numbers are used again, start times with them are not. */
export interface ProcessId {
  pid: number;
  startTime: string;
}

/** Null where it does not run. */
export function identify(pid: number): ProcessId | null {
  const startTime = startTimeOf(pid);
  return startTime === "" ? null : { pid, startTime };
}

export function isRunning({ pid, startTime }: ProcessId): boolean {
  return startTimeOf(pid) === startTime;
}
