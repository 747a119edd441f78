/**
 * The agent's directory: who runs here, what was made on the host, and how to ask.
 *
 *   agent.lock   {pid, startTime} of the agent that runs; whoever holds it may write the rest
 *   state.json   devices made, or about to be made, and what else was changed, with its former values:
 *                written before each change, for cleanup
 *   agent.sock   status socket
 *   ready        {pid, node}, while the agent is ready
 *   runtime      path of the directory of the pods that this agent runs itself, where it does
 *   flows-BOOT   the flow table, for the next agent; BOOT is from this boot's id (proc(5), boot_id)
 *   cni.json     interfaces that a container runtime has asked for, and cni.sock, where it does
 *   config.json  the last config that came from an API server, for a start while that is away
 */
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { DevicePlace } from "../reconcile/device.js";
import type { HostRecord } from "../reconcile/Reconciler.js";
import type { RoutingRecord } from "../reconcile/routing.js";

const RECORD_VERSION = 1;
/** Beginning of the name of files with flow tables. */
const FLOWS = "flows-";

/** The state directory belongs to an agent that runs. */
export class LockedError extends Error {
  override readonly name = "LockedError";

  constructor(
    readonly directory: string,
    readonly pid: number,
  ) {
    super(`${directory} belongs to a running agent (process ${pid})`);
  }
}

/** A file in the state directory cannot be used. */
export class StateError extends Error {
  override readonly name = "StateError";
}

interface Owner {
  pid: number;
  /** Field 22 of /proc/PID/stat: tells a process from a later one with the same number. */
  startTime: string;
}

/** What state.json holds. */
export interface Recorded {
  /** Name of the node, "" without a record. */
  node: string;
  /**
   * Identity of the network namespace that the agent ran in, "" without a record. Devices whose
   * netns is "" are in that one: in another, a podwire0 is somebody else's.
   */
  netns: string;
  devices: DevicePlace[];
  /** What was changed of that namespace's routing; null for nothing. */
  routing: RoutingRecord | null;
}

/** The record in state.json. */
export class StateRecord implements HostRecord {
  private list: DevicePlace[];
  private changedRouting: RoutingRecord | null;

  /**
   * Reads the record, without what an agent in another namespace left in its own. Throws a
   * StateError.
   *
   * @param netns identity of the namespace that this agent runs in
   */
  constructor(
    private readonly file: string,
    private readonly node: string,
    private readonly netns: string,
  ) {
    const recorded = readRecord(file);
    this.list = devicesIn(recorded, netns);
    this.changedRouting = recorded.netns === netns ? recorded.routing : null;
  }

  devices(): DevicePlace[] {
    return this.list;
  }

  routing(): RoutingRecord | null {
    return this.changedRouting;
  }

  write(devices: DevicePlace[]): void {
    this.save(devices, this.changedRouting);
    this.list = devices;
  }

  writeRouting(routing: RoutingRecord | null): void {
    this.save(this.list, routing);
    this.changedRouting = routing;
  }

  /** Replaced by rename, after its content is on disk: a reader sees the old or the new record. */
  private save(devices: DevicePlace[], routing: RoutingRecord | null): void {
    const { node, netns } = this;
    const record = { version: RECORD_VERSION, node, netns, devices, routing };
    writeDurably(this.file, `${JSON.stringify(record, null, 2)}\n`);
  }
}

/** The recorded devices that an agent in namespace `netns` (identity) can reach. */
export function devicesIn(recorded: Recorded, netns: string): DevicePlace[] {
  return recorded.devices.filter((place) => place.netns !== "" || recorded.netns === netns);
}

/** Reads a record file; an empty record where there is no file. Throws a StateError. */
export function readRecord(file: string): Recorded {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT")
      return { node: "", netns: "", devices: [], routing: null };
    throw new StateError(`${file} cannot be read: ${(error as Error).message}`);
  }
  try {
    // Older agents changed no routing, and wrote nothing of it.
    const {
      version,
      node,
      netns,
      devices,
      routing = null,
    } = JSON.parse(text) as Recorded & { version: number };
    if (version !== RECORD_VERSION) throw new Error(`version ${version}, not ${RECORD_VERSION}`);
    return {
      node,
      netns,
      devices: devices.map((each) => ({ netns: String(each.netns), name: String(each.name) })),
      routing,
    };
  } catch (error) {
    throw new StateError(
      `${file} is damaged (${(error as Error).message}). Remove it, and podwire's devices by hand (\`ip -d link\` shows their alias "podwire: …").`,
    );
  }
}

export class StateDir {
  readonly recordFile: string;
  readonly socketFile: string;
  readonly readyFile: string;
  readonly configFile: string;
  readonly servicesFile: string;
  readonly runtimeFile: string;
  readonly cniFile: string;
  readonly cniSocketFile: string;
  readonly flowsFile: string;
  private readonly lockFile: string;
  /** Uppermost directory that create() made, "" where all existed. */
  private made = "";
  private locked = false;

  constructor(readonly path: string) {
    this.recordFile = join(path, "state.json");
    this.socketFile = join(path, "agent.sock");
    this.readyFile = join(path, "ready");
    this.configFile = join(path, "config.json");
    this.servicesFile = join(path, "services.jsonl");
    this.runtimeFile = join(path, "runtime");
    this.cniFile = join(path, "cni.json");
    this.cniSocketFile = join(path, "cni.sock");
    this.flowsFile = join(path, `${FLOWS}${bootId()}`);
    this.lockFile = join(path, "agent.lock");
  }

  /** Makes the directory and takes the lock. Throws a LockedError or a StateError. */
  acquire(): void {
    try {
      this.made = mkdirSync(this.path, { recursive: true, mode: 0o755 }) ?? "";
      this.lock();
    } catch (error) {
      this.removeMade();
      if (error instanceof LockedError) throw error;
      throw new StateError(`${this.path} cannot be used: ${(error as Error).message}`);
    }
    this.locked = true;
    // What an agent that was killed left behind.
    rmSync(this.socketFile, { force: true });
    rmSync(this.cniSocketFile, { force: true });
    rmSync(this.readyFile, { force: true });
    for (const file of this.flowsFiles()) if (file !== this.flowsFile) rmSync(file, { force: true });
  }

  /** Process that holds the lock and runs, 0 without one. */
  holder(): number {
    const owner = readOwner(this.lockFile);
    return owner !== null && isRunning(owner) ? owner.pid : 0;
  }

  setReady(node: string): void {
    writeDurably(this.readyFile, `${JSON.stringify({ pid: process.pid, node })}\n`);
  }

  /** Gives the lock back; the record stays. */
  release(): void {
    rmSync(this.readyFile, { force: true });
    rmSync(this.socketFile, { force: true });
    rmSync(this.cniSocketFile, { force: true });
    if (this.locked) rmSync(this.lockFile, { force: true });
    this.locked = false;
  }

  /** release(), and removes a record that lists nothing and what acquire() made. */
  undo(): void {
    if (this.locked) {
      const { devices, routing } = readRecord(this.recordFile);
      if (devices.length === 0 && routing === null)
        for (const file of [this.recordFile, this.flowsFile]) rmSync(file, { force: true });
    }
    this.release();
    this.removeMade();
  }

  /** Removes every file of ours, and the directory if it is empty then. */
  remove(): void {
    const { recordFile, socketFile, readyFile, configFile, servicesFile, runtimeFile, lockFile } = this;
    const { cniFile, cniSocketFile } = this;
    const files = [recordFile, socketFile, readyFile, configFile, servicesFile, runtimeFile, lockFile];
    files.push(cniFile, cniSocketFile);
    for (const file of [...files, ...this.flowsFiles()]) rmSync(file, { force: true });
    removeEmpty(this.path);
  }

  /** Of this boot and of others. */
  private flowsFiles(): string[] {
    try {
      const names = readdirSync(this.path).filter((name) => name.startsWith(FLOWS));
      return names.map((name) => join(this.path, name));
    } catch {
      return [];
    }
  }

  private removeMade(): void {
    if (this.made === "") return;
    for (let each = this.path; removeEmpty(each) && each !== this.made; each = dirname(each));
  }

  /**
   * link(2) makes the lock with its content or not at all. A stale one is renamed away, which one
   * process only can do; should it have caught a fresh one instead, that is put back.
   */
  private lock(): void {
    const own: Owner = { pid: process.pid, startTime: startTimeOf(process.pid) };
    const mine = `${this.lockFile}.${process.pid}`;
    const stale = `${mine}.stale`;
    writeFileSync(mine, JSON.stringify(own));
    try {
      for (let attempt = 0; attempt < 10; attempt++) {
        try {
          linkSync(mine, this.lockFile);
          return;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
        }
        const owner = readOwner(this.lockFile);
        if (owner !== null && isRunning(owner)) throw new LockedError(this.path, owner.pid);
        try {
          renameSync(this.lockFile, stale);
          const caught = readOwner(stale);
          if (caught !== null && isRunning(caught)) linkSync(stale, this.lockFile);
        } catch (error) {
          const { code } = error as NodeJS.ErrnoException;
          if (code !== "ENOENT" && code !== "EEXIST") throw error;
        }
      }
      throw new StateError("the lock is contended");
    } finally {
      rmSync(mine, { force: true });
      rmSync(stale, { force: true });
    }
  }
}

/** Enough of this boot's id to tell it from others. */
function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").slice(0, 8);
  } catch {
    return "0";
  }
}

function readOwner(file: string): Owner | null {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Owner;
  } catch {
    return null;
  }
}

function isRunning(owner: Owner): boolean {
  return owner.startTime !== "" && startTimeOf(owner.pid) === owner.startTime;
}

/** Start time of a process in clock ticks since boot, "" where it does not run. */
function startTimeOf(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may contain anything; state is field 3, start time field 22.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? "" : (fields[19] ?? "");
  } catch {
    return "";
  }
}

/** Replaces a file by rename, after its content is on disk. */
export function writeDurably(file: string, text: string, mode = 0o644): void {
  const temporary = `${file}.new`;
  const fd = openSync(temporary, "w", mode);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, file);
}

/** Whether the directory was empty, and is removed. */
function removeEmpty(directory: string): boolean {
  try {
    rmdirSync(directory);
    return true;
  } catch {
    return false;
  }
}
