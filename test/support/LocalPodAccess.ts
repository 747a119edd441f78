/** A runtime whose containers are this machine: logs are given lines, commands are true processes. */
import { type ChildProcess, spawn } from "node:child_process";
import { PassThrough, Readable, type Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import {
  AccessError,
  type ContainerRef,
  type ExecOptions,
  type ExecResult,
  type ExecSession,
  type LogOptions,
  type PodAccess,
} from "../../src/runtime/PodAccess.js";
import { requirePrograms } from "./programs.js";

export const PTY = fileURLToPath(new URL("pty.py", import.meta.url));
const SIGNAL_NUMBERS: Partial<Record<NodeJS.Signals, number>> = { SIGHUP: 1, SIGKILL: 9, SIGTERM: 15 };

export interface LogLine {
  /** Milliseconds since the epoch. */
  at: number;
  text: string;
}

export interface LocalContainer {
  lines: LogLine[];
  previous?: LogLine[];
  running: boolean;
}

export class LocalPodAccess implements PodAccess {
  /** By NAMESPACE/POD/CONTAINER. */
  readonly containers = new Map<string, LocalContainer>();
  /** Commands that run. */
  readonly running = new Set<ChildProcess>();
  private readonly followers = new Map<string, Set<PassThrough>>();

  constructor() {
    requirePrograms("python3");
  }

  /** Adds to a log, and to those who follow it. */
  say(key: string, text: string): void {
    const line = { at: Date.now(), text };
    this.containers.get(key)!.lines.push(line);
    for (const each of this.followers.get(key) ?? []) each.write(`${text}\n`);
  }

  /** The container ends: so do the logs that are followed. */
  endContainer(key: string): void {
    this.containers.get(key)!.running = false;
    for (const each of this.followers.get(key) ?? []) each.end();
  }

  /** How many follow a log. */
  following(key: string): number {
    return this.followers.get(key)?.size ?? 0;
  }

  async log(ref: ContainerRef, options: LogOptions, signal: AbortSignal): Promise<Readable> {
    const { key, container } = this.find(ref);
    if (options.previous && container.previous === undefined)
      throw new AccessError(
        "noPreviousInstance",
        `previous terminated container "${ref.container}" in pod "${ref.pod}" not found`,
      );
    let lines = (options.previous ? container.previous! : container.lines).filter(
      ({ at }) => at >= (options.sinceMs ?? 0),
    );
    if (options.tailLines !== undefined) lines = lines.slice(lines.length - options.tailLines);
    const text = lines
      .map(({ at, text }) => `${options.timestamps ? `${new Date(at).toISOString()} ` : ""}${text}\n`)
      .join("");
    const bytes = Buffer.from(text).subarray(0, options.limitBytes);
    if (!options.follow || !container.running) return Readable.from([bytes]);
    const stream = new PassThrough();
    stream.write(bytes);
    const followers = this.followers.get(key) ?? new Set();
    this.followers.set(key, followers.add(stream));
    stream.on("close", () => followers.delete(stream));
    signal.addEventListener("abort", () => stream.destroy());
    return stream;
  }

  async exec(ref: ContainerRef, options: ExecOptions, signal: AbortSignal): Promise<ExecSession> {
    const { container } = this.find(ref);
    if (!container.running)
      throw new AccessError("containerNotRunning", `container not found ("${ref.container}")`);
    const [program, ...args] = options.tty
      ? ["python3", PTY, "80", "24", ...options.command]
      : options.command;
    const child = spawn(program!, args, {
      stdio: [
        options.stdin || options.tty ? "pipe" : "ignore",
        "pipe",
        options.stderr ? "pipe" : "ignore",
        "pipe",
      ],
    });
    this.running.add(child);
    const kill = () => void child.kill(options.tty ? "SIGTERM" : "SIGHUP");
    signal.addEventListener("abort", kill);
    const ended = new Promise<ExecResult>((resolve) => {
      child.on("error", (error: NodeJS.ErrnoException) => {
        this.running.delete(child);
        const why = error.code === "ENOENT" ? "executable file not found in $PATH" : error.message;
        resolve({ code: 127, message: `exec: "${program}": ${why}` });
      });
      child.on("exit", () => this.running.delete(child));
      child.on("close", (code, name) => resolve({ code: code ?? 128 + (SIGNAL_NUMBERS[name!] ?? 0) }));
    });
    const sizes = child.stdio[3] as Writable;
    sizes.on("error", () => {});
    return {
      stdin: options.stdin ? child.stdin : null,
      stdout: options.stdout ? child.stdout : null,
      stderr: child.stderr,
      resize: (columns, rows) => void sizes.write(`${columns} ${rows}\n`),
      ended,
      kill,
    };
  }

  private find({ namespace, pod, container }: ContainerRef): { key: string; container: LocalContainer } {
    const key = `${namespace}/${pod}/${container}`;
    const found = this.containers.get(key);
    if (found === undefined) throw new AccessError("podNotFound", `pod "${pod}" not found on this node`);
    return { key, container: found };
  }
}
