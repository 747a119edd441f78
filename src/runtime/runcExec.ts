/**
 * A command inside a running container, through `runc exec`: pipes, or a pseudo-terminal. What runc
 * itself says (a program that is not there) is kept apart from what the command says: nothing is
 * passed on before runc has written the command's number.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { startTimeOf } from "./command.js";
import type { OciSpec } from "./oci.js";
import type { ExecOptions, ExecResult, ExecSession } from "./PodAccess.js";

/** Between SIGHUP and SIGKILL. */
const HANGUP_MS = 1_000;
const LOOK_MS = 10;
const NOT_RUN = 127;
const COLUMNS = 80;
const ROWS = 24;

export interface RuncExec {
  runcRoot: string;
  id: string;
  /** Of the container. */
  process: OciSpec["process"];
  /** For files of this call. */
  directory: string;
}

/** Runs a command in a container by `runc exec`; ended by `signal`. Rejects where it could not be started. */
export async function execInContainer(
  target: RuncExec,
  options: ExecOptions,
  signal: AbortSignal,
): Promise<ExecSession> {
  const files = mkdtempSync(join(target.directory, "exec-"));
  const spec = join(files, "process.json");
  const pidFile = join(files, "pid");
  const logFile = join(files, "log");
  const env = [...target.process.env];
  if (options.tty && !env.some((each) => each.startsWith("TERM="))) env.push("TERM=xterm");
  const args = [...options.command];
  // Without a size of its own a terminal begins with 0 by 0, and runc passes ours on only later.
  const size = options.tty ? { consoleSize: { width: COLUMNS, height: ROWS } } : {};
  writeFileSync(spec, JSON.stringify({ ...target.process, ...size, terminal: options.tty, env, args }));
  const command = ["--root", target.runcRoot, "--log", logFile, "--log-format", "json"];
  command.push("exec", "--process", spec, "--pid-file", pidFile, target.id);

  const commandPid = () => {
    try {
      return Number(readFileSync(pidFile, "utf8"));
    } catch {
      return 0;
    }
  };
  /** What runc says went wrong, where it did not start the command. */
  const result = (code: number): ExecResult => {
    const started = commandPid() > 0;
    const message = started ? "" : runcError(logFile);
    return started ? { code } : { code: NOT_RUN, message: message || "the command could not be started" };
  };
  const running = options.tty
    ? await withTerminal(command, commandPid)
    : withPipes(command, options, commandPid);
  const kill = () => hangUp(commandPid(), running.end);
  const onAbort = () => kill();
  if (signal.aborted) kill();
  signal.addEventListener("abort", onAbort, { once: true });
  const ended = running.exited.then((code) => {
    const outcome = result(code);
    signal.removeEventListener("abort", onAbort);
    rmSync(files, { recursive: true, force: true });
    return outcome;
  });
  return {
    stdin: options.stdin ? running.stdin : null,
    stdout: options.stdout || options.tty ? running.stdout : null,
    stderr: options.stderr && !options.tty ? running.stderr : null,
    resize: running.resize,
    ended,
    kill,
  };
}

interface Running {
  stdin: Writable | null;
  stdout: PassThrough;
  stderr: PassThrough | null;
  resize: (columns: number, rows: number) => void;
  /** Ends runc itself. */
  end: () => void;
  /** Exit code, after all output. */
  exited: Promise<number>;
}

function withPipes(command: string[], options: ExecOptions, commandPid: () => number): Running {
  const child: ChildProcess = spawn("runc", command, {
    stdio: [options.stdin ? "pipe" : "ignore", "pipe", "pipe"],
  });
  // A client that sends more than the command reads is no failure of ours.
  child.stdin?.on("error", () => {});
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  child.stdout!.pipe(stdout);
  const gate = new Gate(stderr, commandPid);
  child.stderr!.on("data", (chunk: Buffer) => gate.write(chunk));
  // Without a reader the command must not wait for one.
  if (!options.stdout) stdout.resume();
  if (!options.stderr) stderr.resume();
  const exited = new Promise<number>((resolve) => {
    child.on("error", () => resolve(NOT_RUN));
    child.on("close", (code, by) => {
      gate.end();
      resolve(code ?? 128 + constants.signals[by ?? "SIGKILL"]);
    });
  });
  return {
    stdin: child.stdin,
    stdout,
    stderr,
    resize: () => {},
    end: () => child.kill("SIGKILL"),
    exited,
  };
}

async function withTerminal(command: string[], commandPid: () => number): Promise<Running> {
  // Loaded here: few agents ever open a terminal.
  const pty = (await import("@lydell/node-pty")).default;
  const terminal = pty.spawn("runc", command, { cols: COLUMNS, rows: ROWS, encoding: null });
  const stdout = new PassThrough();
  const gate = new Gate(stdout, commandPid);
  terminal.onData((chunk) => gate.write(Buffer.from(chunk)));
  let over = false;
  const exited = new Promise<number>((resolve) => {
    terminal.onExit(({ exitCode, signal = 0 }) => {
      over = true;
      gate.end();
      resolve(signal > 0 ? 128 + signal : exitCode);
    });
  });
  const guarded = (work: () => void) => {
    if (over) return;
    try {
      work();
    } catch {
      // It ended in the meantime.
    }
  };
  /** Writes once runc reads: before, its own terminal would echo what comes, and take ^D for its end. */
  let isRead = false;
  const type = (chunk: Buffer | string, done: () => void) => {
    isRead ||= over || commandPid() > 0;
    if (!isRead) {
      setTimeout(type, LOOK_MS, chunk, done);
      return;
    }
    // Bytes go to the socket as they are; the type of this older release names text only.
    guarded(() => terminal.write(chunk as string));
    done();
  };
  const stdin = new Writable({
    write: (chunk: Buffer, _, done) => type(chunk, done),
    // The end of the input is what the keyboard would send: ^D.
    final: (done) => type("\x04", done),
  });
  return {
    stdin,
    stdout,
    stderr: null,
    resize: (columns, rows) => {
      if (columns > 0 && rows > 0) guarded(() => terminal.resize(columns, rows));
    },
    end: () => guarded(() => terminal.kill("SIGKILL")),
    exited,
  };
}

/** Keeps what comes until the command runs; where it never does, that was runc's, and goes nowhere. */
class Gate {
  private kept: Buffer[] = [];
  private open = false;
  private timer: NodeJS.Timeout | null = null;

  constructor(
    private readonly output: PassThrough,
    private readonly commandPid: () => number,
  ) {}

  write(chunk: Buffer): void {
    if (!this.open) {
      this.kept.push(chunk);
      this.look();
    } else this.output.write(chunk);
  }

  end(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    if (!this.open && this.commandPid() > 0) this.pass();
    this.output.end();
  }

  private look(): void {
    if (this.commandPid() > 0) this.pass();
    else
      this.timer ??= setTimeout(() => {
        this.timer = null;
        if (!this.open) this.look();
      }, LOOK_MS);
  }

  private pass(): void {
    this.open = true;
    for (const chunk of this.kept.splice(0)) this.output.write(chunk);
  }
}

/** SIGHUP to the command, SIGKILL if that does not end it; `end` where there is no command yet. */
function hangUp(pid: number, end: () => void): void {
  const startTime = pid > 0 ? startTimeOf(pid) : "";
  if (startTime === "") {
    end();
    return;
  }
  send(pid, "SIGHUP");
  setTimeout(() => {
    if (startTimeOf(pid) === startTime) send(pid, "SIGKILL");
  }, HANGUP_MS).unref();
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended in the meantime.
  }
}

/** The last error in runc's log of JSON lines. */
function runcError(logFile: string): string {
  let text: string;
  try {
    text = readFileSync(logFile, "utf8");
  } catch {
    return "";
  }
  const messages = text.split("\n").flatMap((line) => {
    try {
      const { level, msg } = JSON.parse(line) as { level?: string; msg?: string };
      return level === "error" && msg !== undefined ? [msg] : [];
    } catch {
      return [];
    }
  });
  return messages.at(-1) ?? "";
}
