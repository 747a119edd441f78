/**
 * Namespaces, links and processes for tests that need a kernel. Owns whatever it made: cleanup()
 * ends the processes it started (by process id), deletes its namespaces and temporary directories.
 * Every namespace is called pwt-<pid>-<n>-<name>, so that test files never meet.
 *
 *   const net = new TestNet();
 *   afterAll(() => net.cleanup());
 *   const a = await net.netns("a");
 *   const b = await net.netns("b");
 *   await net.link({ ns: a, name: "eth0", address: "192.0.2.1/24" }, { ns: b, name: "eth0", address: "192.0.2.2/24" });
 *   await net.exec(a, "ping", ["-c1", "192.0.2.2"]);
 *
 * Must not know the product's code; `ip` is the independent observer here.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** What a finished command left. */
export interface ExecResult {
  /** Exit status; 128 + signal number is not used: a signal gives -1. */
  code: number;
  stdout: string;
  stderr: string;
}

/** One end of a veth pair. */
export interface LinkEnd {
  ns: string;
  name: string;
  /** CIDR address, e.g. 192.0.2.1/24. */
  address?: string;
  mtu?: number;
  mac?: string;
}

export interface SpawnOptions {
  env?: Record<string, string>;
  uid?: number;
  gid?: number;
  /** In a session of its own, as what systemd or a login starts: no share of the test's processor time. */
  detached?: boolean;
}

let counter = 0;

/** Why namespace tests cannot run here, or "" where they can: use with describe.skipIf. */
export function netnsUnavailable(): string {
  if (process.platform !== "linux") return "needs Linux";
  if (process.getuid?.() !== 0) return "needs root";
  if (!existsSync("/dev/net/tun")) return "needs /dev/net/tun";
  try {
    execFileSync("ip", ["-V"], { stdio: "ignore" });
  } catch {
    return "needs the ip command (iproute2)";
  }
  const probe = `pwt-${process.pid}-probe`;
  try {
    execFileSync("ip", ["netns", "add", probe], { stdio: "ignore" });
    execFileSync("ip", ["netns", "del", probe], { stdio: "ignore" });
  } catch {
    return "cannot create network namespaces";
  }
  return "";
}

/**
 * Calls `condition` until it returns something truthy, and returns that. A throw counts as "not yet".
 * Throws after `deadlineMs`, with what was awaited and the last error.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: { deadlineMs?: number; intervalMs?: number; what?: string } = {},
): Promise<NonNullable<T>> {
  const { deadlineMs = 30_000, intervalMs = 25, what = "condition" } = options;
  const end = Date.now() + deadlineMs;
  let last = "it stayed false";
  for (;;) {
    try {
      const value = await condition();
      if (value) return value;
    } catch (error) {
      last = (error as Error).message;
    }
    if (Date.now() >= end) throw new Error(`${what}: not within ${deadlineMs} ms (${last})`);
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  }
}

/** A process that a test started; its output is kept. */
export class TestProcess {
  stdout = "";
  stderr = "";
  /** Exit status once it ended (-1: by a signal), null while it runs. */
  code: number | null = null;
  readonly exited: Promise<number>;

  constructor(readonly child: ChildProcess) {
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.exited = new Promise((resolve) => {
      child.once("error", (error) => {
        this.stderr += `${error.message}\n`;
        this.code = -1;
        resolve(-1);
      });
      // "close" comes after the last output.
      child.once("close", (code) => {
        this.code = code ?? -1;
        resolve(this.code);
      });
    });
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  kill(signal: NodeJS.Signals = "SIGTERM"): void {
    if (this.code === null) this.child.kill(signal);
  }

  /** SIGTERM, and SIGKILL if it has not ended after `graceMs`. Returns the exit status. */
  async stop(graceMs = 5_000): Promise<number> {
    this.kill("SIGTERM");
    const timer = setTimeout(() => this.kill("SIGKILL"), graceMs);
    const code = await this.exited;
    clearTimeout(timer);
    return code;
  }
}

/** A set of namespaces that live as long as a test. */
export class TestNet {
  readonly prefix = `pwt-${process.pid}-${counter++}`;
  private readonly namespaces: string[] = [];
  private readonly processes: TestProcess[] = [];
  private readonly directories: string[] = [];
  private readonly finish: (() => unknown)[] = [];

  /** Makes a namespace with lo up and returns its full name. */
  async netns(name: string): Promise<string> {
    const full = `${this.prefix}-${name}`;
    await this.exec("", "ip", ["netns", "add", full]);
    this.namespaces.push(full);
    await this.exec(full, "ip", ["link", "set", "lo", "up"]);
    return full;
  }

  /** Path of a namespace, for setns. */
  path(ns: string): string {
    return `/run/netns/${ns}`;
  }

  /** Deletes a namespace before cleanup(). */
  async deleteNetns(ns: string): Promise<void> {
    await this.exec("", "ip", ["netns", "del", ns]);
    const at = this.namespaces.indexOf(ns);
    if (at >= 0) this.namespaces.splice(at, 1);
  }

  /** A veth pair between two namespaces, both ends up. */
  async link(a: LinkEnd, b: LinkEnd): Promise<void> {
    const veth = [
      "link",
      "add",
      a.name,
      "netns",
      a.ns,
      "type",
      "veth",
      "peer",
      "name",
      b.name,
      "netns",
      b.ns,
    ];
    await this.exec("", "ip", veth);
    for (const end of [a, b]) {
      if (end.mtu !== undefined)
        await this.exec(end.ns, "ip", ["link", "set", end.name, "mtu", String(end.mtu)]);
      if (end.mac !== undefined) await this.exec(end.ns, "ip", ["link", "set", end.name, "address", end.mac]);
      if (end.address !== undefined)
        await this.exec(end.ns, "ip", ["addr", "add", end.address, "dev", end.name]);
      await this.exec(end.ns, "ip", ["link", "set", end.name, "up"]);
    }
  }

  /** A bridge in a namespace of its own, with one veth to each end: a LAN. Returns the namespace. */
  async lan(name: string, ends: LinkEnd[]): Promise<string> {
    const ns = await this.netns(name);
    await this.exec(ns, "ip", ["link", "add", "br0", "type", "bridge"]);
    await this.exec(ns, "ip", ["link", "set", "br0", "up"]);
    for (let i = 0; i < ends.length; i++) {
      await this.link(ends[i]!, { ns, name: `p${i}`, ...mtuOf(ends[i]!) });
      await this.exec(ns, "ip", ["link", "set", `p${i}`, "master", "br0"]);
    }
    return ns;
  }

  /** Runs a command in a namespace ("" for the test's own); throws unless it exits with 0. */
  async exec(ns: string, command: string, args: string[]): Promise<ExecResult> {
    const result = await this.tryExec(ns, command, args);
    if (result.code !== 0)
      throw new Error(
        `${command} ${args.join(" ")} in "${ns}": exit ${result.code}: ${result.stderr || result.stdout}`,
      );
    return result;
  }

  /** Like exec, whatever the exit status. */
  tryExec(ns: string, command: string, args: string[]): Promise<ExecResult> {
    const line = inNetns(ns, command, args);
    return new Promise((resolve) => {
      execFile(line[0]!, line.slice(1), { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === "number" ? error.code : -1;
        resolve({ code, stdout, stderr: stderr || (code === -1 ? String(error?.message) : "") });
      });
    });
  }

  /** Output of `ip -json ARGS` in a namespace, parsed. */
  // biome-ignore lint/suspicious/noExplicitAny: iproute2's JSON has no types here.
  async ipJson(ns: string, ...args: string[]): Promise<any[]> {
    const { stdout } = await this.exec(ns, "ip", ["-json", "-details", ...args]);
    return stdout.trim() === "" ? [] : JSON.parse(stdout);
  }

  /** Starts a command in a namespace ("" for the test's own); cleanup() ends it. */
  spawn(ns: string, command: string, args: string[], options: SpawnOptions = {}): TestProcess {
    const line = inNetns(ns, command, args);
    const child = spawn(line[0]!, line.slice(1), {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...options.env },
      ...(options.uid === undefined ? {} : { uid: options.uid }),
      ...(options.gid === undefined ? {} : { gid: options.gid }),
      detached: options.detached ?? false,
    });
    const started = new TestProcess(child);
    this.processes.push(started);
    return started;
  }

  /** A temporary directory, removed by cleanup(). */
  directory(): string {
    const made = mkdtempSync(join(tmpdir(), `${this.prefix}-`));
    this.directories.push(made);
    return made;
  }

  /** Something else to do at cleanup(), before the namespaces go. */
  onCleanup(action: () => unknown): void {
    this.finish.push(action);
  }

  /** Ends processes, deletes namespaces and directories. Never throws. */
  async cleanup(): Promise<void> {
    for (const action of this.finish.splice(0).reverse()) await Promise.resolve(action()).catch(() => {});
    await Promise.all(this.processes.splice(0).map((each) => each.stop(3_000)));
    for (const ns of this.namespaces.splice(0).reverse()) {
      // What a started command left behind in the namespace is ours too, and would pin it.
      const { stdout } = await this.tryExec("", "ip", ["netns", "pids", ns]);
      for (const pid of stdout.split(/\s+/).filter(Boolean)) {
        try {
          process.kill(Number(pid), "SIGKILL");
        } catch {
          // It ended in the meantime.
        }
      }
      await this.tryExec("", "ip", ["netns", "del", ns]);
    }
    for (const made of this.directories.splice(0)) rmSync(made, { recursive: true, force: true });
  }
}

function mtuOf(end: LinkEnd): { mtu?: number } {
  return end.mtu === undefined ? {} : { mtu: end.mtu };
}

function inNetns(ns: string, command: string, args: string[]): string[] {
  return ns === "" ? [command, ...args] : ["ip", "netns", "exec", ns, command, ...args];
}
