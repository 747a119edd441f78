/**
 * The ContainerEngine on runc and conmon. runc makes and enters the namespaces; conmon, one per
 * instance, is its parent: it writes the log and the exit code, whether we live or not. What else
 * has to survive us lies in files (layout.ts), each replaced by rename. Must not know Pods of the API.
 *
 * Starting an instance: root file system → record → conmon, which has runc create it → runc start →
 * record with the process. One whose record has no process when we come back never ran.
 */
import { spawn } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  type FSWatcher,
  constants as fsConstants,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  watch,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type {
  ContainerEnd,
  ContainerEngine,
  ContainerId,
  ContainerMemory,
  ContainerSpec,
  ContainerState,
  SandboxSpec,
  SandboxState,
} from "./ContainerEngine.js";
import { StartError } from "./ContainerEngine.js";
import { identify, isRunning, type ProcessId, run, runOrThrow } from "./command.js";
import { logRecords, readLog } from "./criLog.js";
import { Layout, runcId } from "./layout.js";
import { lookAtMachine } from "./machine.js";
import { CGROUP_PARENT, type Machine, type OciSpec, ociSpec, podCgroup } from "./oci.js";
import type { ExecOptions, ExecSession, LogOptions } from "./PodAccess.js";
import { layRootfs } from "./rootfs.js";
import { execInContainer } from "./runcExec.js";

/** Ends that no notification told of, logs that have grown. */
const LOOK_MS = 1_000;
/**
 * A log is put aside at this size, and one such file is kept. conmon's own limit is not used: it throws
 * the log away, and its count goes on over a rotation of ours.
 */
const LOG_BYTES = 10 * 1024 * 1024;
/** Instances of a container whose logs are kept. */
const KEPT = 2;
const START_ERROR = 128;
const UNKNOWN_END = 137;
const KILLED_MS = 10_000;
const MOST_MESSAGE_BYTES = 4096;
/** Of a log that stands in for a termination message. */
const LOG_MESSAGE = { bytes: 2048, lines: 80 };
/** conmon's control message "reopen the log". */
const REOPEN_LOG = "2 0 0\n";

/** record.json of an instance. */
interface ContainerRecord {
  imageName: string;
  stopSignal: string;
  messageFromLog: boolean;
  createdAt: number;
  startedAt: number;
  /** First process, null before it was started. */
  process: ProcessId | null;
  end: ContainerEnd | null;
  memory: ContainerMemory;
}

interface Instance extends ContainerId {
  record: ContainerRecord;
}

interface Sandbox {
  spec: SandboxSpec;
  /** Oldest first. */
  instances: Instance[];
}

export class RuncEngine implements ContainerEngine {
  private readonly layout: Layout;
  private readonly known = new Map<string, Sandbox>();
  private machine: Machine | null = null;
  private watcher: FSWatcher | null = null;
  private timer: NodeJS.Timeout | null = null;
  private changed: (uid: string) => void = () => {};
  /** runc's clean-up after instances, by id. */
  private readonly cleaning = new Map<string, Promise<unknown>>();

  /** @param root absolute path of the runtime's directory */
  constructor(root: string) {
    this.layout = new Layout(root);
  }

  /** Rejects with RuntimeUnavailable where this machine cannot run pods. */
  async start(changed: (uid: string) => void): Promise<void> {
    this.machine = await lookAtMachine();
    this.changed = changed;
    const { root, exits, pods } = this.layout;
    // Logs and Secrets of pods are nobody else's to read.
    mkdirSync(root, { recursive: true, mode: 0o700 });
    chmodSync(root, 0o700);
    for (const each of [exits, pods]) mkdirSync(each, { recursive: true, mode: 0o700 });
    for (const uid of readdirSync(pods)) await this.recover(uid);
    this.watcher = watch(exits, () => this.look());
    this.watcher.on("error", () => {});
    this.timer = setInterval(() => this.look(), LOOK_MS);
    this.look();
  }

  stop(): void {
    this.watcher?.close();
    if (this.timer !== null) clearInterval(this.timer);
  }

  sandboxes(): SandboxState[] {
    return [...this.known.keys()].map((uid) => this.sandbox(uid)!);
  }

  sandbox(uid: string): SandboxState | null {
    const found = this.known.get(uid);
    if (found === undefined) return null;
    return {
      spec: found.spec,
      alive: this.isPinned(found.spec),
      containers: found.instances.map((each) => stateOf(each)),
    };
  }

  // ---- sandbox ------------------------------------------------------------------------------

  async createSandbox(spec: SandboxSpec): Promise<void> {
    const { uid, netns } = spec;
    for (const other of this.known.values())
      if (other.spec.netns === netns && other.spec.uid !== uid && this.isPinned(other.spec))
        throw new Error(`${netns} still belongs to a pod of the same name that is ending`);
    const paths = this.layout.pod(uid);
    mkdirSync(paths.ns, { recursive: true, mode: 0o700 });
    for (const [file, text] of [
      [paths.hosts, hostsFile(spec.hostname, null)],
      [paths.hostname, `${spec.hostname}\n`],
      [paths.resolvConf, spec.resolvConf],
    ] as const)
      writeFileSync(file, text, { mode: 0o644 });
    writeRecord(paths.record, spec);
    this.known.set(uid, { spec, instances: this.known.get(uid)?.instances ?? [] });
    if (this.isPinned(spec)) return;
    await this.unpin(spec);
    mkdirSync(join(netns, ".."), { recursive: true, mode: 0o755 });
    for (const file of [netns, paths.ipc, paths.uts]) closeSync(openSync(file, "a", 0o600));
    const pins = [`--net=${netns}`, `--ipc=${paths.ipc}`, `--uts=${paths.uts}`];
    // As container runtimes do, so that a program needs no privilege for port 80.
    const script = "ip link set dev lo up && echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start";
    await runOrThrow(["unshare", ...pins, "sh", "-c", script]);
  }

  async closeSandbox(uid: string): Promise<void> {
    const found = this.known.get(uid);
    if (found !== undefined) await this.unpin(found.spec);
  }

  async removeSandbox(uid: string): Promise<void> {
    const found = this.known.get(uid);
    if (found === undefined) return;
    for (const each of found.instances) {
      const { record } = each;
      if (record.end === null && record.process !== null) send(record.process, "SIGKILL");
    }
    const deadline = performance.now() + KILLED_MS;
    for (const each of found.instances) {
      while (each.record.process !== null && isRunning(each.record.process)) {
        if (performance.now() > deadline) throw new Error(`${runcId(each)} does not end`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      await this.clean(each);
      rmSync(this.layout.container(each).exit, { force: true });
    }
    await this.unpin(found.spec);
    rmSync(this.layout.pod(uid).directory, { recursive: true, force: true });
    // runc removes a container's cgroups; those of its pod are ours.
    if (this.machine!.cgroups) removeHierarchies(podCgroup(uid));
    this.known.delete(uid);
  }

  volume(uid: string, name: string, files: Readonly<Record<string, string>> | null): string {
    const directory = this.layout.volume(uid, name);
    if (mkdirSync(directory, { recursive: true }) !== undefined || files !== null) {
      chmodSync(directory, files === null ? 0o777 : 0o755);
      for (const [key, content] of Object.entries(files ?? {})) {
        const file = join(directory, key);
        writeFileSync(file, Buffer.from(content, "base64"), { mode: 0o644 });
      }
    }
    return directory;
  }

  setAddress(uid: string, address: string): void {
    const found = this.known.get(uid);
    if (found !== undefined)
      writeFileSync(this.layout.pod(uid).hosts, hostsFile(found.spec.hostname, address));
  }

  private isPinned(spec: SandboxSpec): boolean {
    const { ipc, uts } = this.layout.pod(spec.uid);
    return isNamespace(spec.netns) && isNamespace(ipc) && isNamespace(uts);
  }

  private async unpin(spec: SandboxSpec): Promise<void> {
    const { ipc, uts } = this.layout.pod(spec.uid);
    for (const path of [spec.netns, ipc, uts]) {
      if (isNamespace(path)) await runOrThrow(["umount", "--lazy", path]);
      rmSync(path, { force: true });
    }
  }

  /** Removes every pod and the directory; for when no agent uses it any more. Returns the pods' names. */
  async removeAll(): Promise<string[]> {
    const names = this.sandboxes().map(({ spec }) => `${spec.namespace}/${spec.name}`);
    for (const uid of [...this.known.keys()]) await this.removeSandbox(uid);
    this.stop();
    removeHierarchies(CGROUP_PARENT);
    rmSync(this.layout.root, { recursive: true, force: true });
    return names;
  }

  // ---- recovery -----------------------------------------------------------------------------

  private async recover(uid: string): Promise<void> {
    const paths = this.layout.pod(uid);
    const spec = readJson<SandboxSpec>(paths.record);
    if (spec === null) {
      // Begun and never recorded: nothing was started in it.
      for (const path of [paths.ipc, paths.uts]) if (isNamespace(path)) await run(["umount", "--lazy", path]);
      rmSync(paths.directory, { recursive: true, force: true });
      return;
    }
    const instances: Instance[] = [];
    for (const container of namesIn(paths.containers))
      for (const attempt of namesIn(this.layout.attempts({ uid, container })).map(Number)) {
        const id = { uid, container, attempt };
        const record = readJson<ContainerRecord>(this.layout.container(id).record);
        if (record !== null) instances.push({ ...id, record });
        else rmSync(this.layout.container(id).bundle, { recursive: true, force: true });
      }
    instances.sort((a, b) => a.attempt - b.attempt);
    this.known.set(uid, { spec, instances });
    for (const each of instances)
      if (each.record.process === null && each.record.end === null) {
        await this.clean(each);
        this.finish(each, startError("the agent ended while the container was being started", Date.now()));
      } else if (each.record.end === null) this.finishRotation(each);
    await this.pinAgain(spec, instances);
  }

  /**
   * An agent in a mount namespace of its own took its pins with it; the namespaces are those of
   * whatever runs in them.
   */
  private async pinAgain(spec: SandboxSpec, instances: Instance[]): Promise<void> {
    const alive = instances.find(({ record }) => record.process !== null && isRunning(record.process));
    if (alive === undefined) return;
    const { ipc, uts } = this.layout.pod(spec.uid);
    const from = `/proc/${alive.record.process!.pid}/ns`;
    for (const [path, kind] of [
      [spec.netns, "net"],
      [ipc, "ipc"],
      [uts, "uts"],
    ] as const) {
      if (isNamespace(path)) continue;
      mkdirSync(join(path, ".."), { recursive: true });
      closeSync(openSync(path, "a", 0o600));
      await runOrThrow(["mount", "--bind", `${from}/${kind}`, path]);
    }
  }

  // ---- containers ---------------------------------------------------------------------------

  async startContainer(spec: ContainerSpec): Promise<void> {
    const { uid, container, attempt, image, imageName } = spec;
    const found = this.known.get(uid);
    if (found === undefined) throw new StartError("the pod has no sandbox");
    const machine = this.machine!;
    const id: ContainerId = { uid, container, attempt };
    const paths = this.layout.container(id);
    rmSync(paths.bundle, { recursive: true, force: true });
    mkdirSync(paths.bundle, { recursive: true, mode: 0o711 });
    layRootfs(paths.rootfs, found.spec, spec, machine);
    writeFileSync(paths.termination, "", { mode: 0o666 });
    chmodSync(paths.termination, 0o666);
    const oci = ociSpec(found.spec, spec, this.layout.pod(uid), paths.termination, machine);
    writeFileSync(paths.spec, JSON.stringify(oci));
    const instance: Instance = {
      ...id,
      record: {
        imageName,
        stopSignal: image.stopSignal,
        messageFromLog: spec.messageFromLog,
        createdAt: Date.now(),
        startedAt: 0,
        process: null,
        end: null,
        memory: { started: false, ready: false },
      },
    };
    this.keep(instance);
    found.instances.push(instance);
    await this.forgetOld(found, container);
    try {
      const pid = await this.create(id, spec.tty);
      const child = identify(pid);
      await this.runc("start", runcId(id));
      instance.record.process = child ?? { pid, startTime: "" };
      instance.record.startedAt = Date.now();
      this.keep(instance);
    } catch (error) {
      const said = (error as Error).message;
      const message = `OCI runtime create failed: ${said}`;
      this.finish(instance, startError(message, instance.record.createdAt));
      throw new StartError(message);
    }
  }

  signal(id: ContainerId, signal: string): void {
    const { process: target } = this.instance(id)?.record ?? {};
    if (target) send(target, signal);
  }

  remember(id: ContainerId, memory: ContainerMemory): void {
    const instance = this.instance(id);
    if (instance === undefined) return;
    const { started, ready } = instance.record.memory;
    if (started === memory.started && ready === memory.ready) return;
    instance.record.memory = memory;
    this.keep(instance);
  }

  async exec(id: ContainerId, options: ExecOptions, signal: AbortSignal): Promise<ExecSession> {
    const paths = this.layout.container(id);
    const { process: containerProcess } = JSON.parse(readFileSync(paths.spec, "utf8")) as OciSpec;
    return execInContainer(
      { runcRoot: this.layout.runc, id: runcId(id), process: containerProcess, directory: paths.bundle },
      options,
      signal,
    );
  }

  log(id: ContainerId, options: LogOptions, signal: AbortSignal): AsyncIterable<Buffer> {
    const running = () => {
      const instance = this.instance(id);
      return instance !== undefined && instance.record.end === null;
    };
    return readLog(this.layout.container(id).log, options, running, signal);
  }

  /** Has conmon have runc create the instance. The number of its first process. */
  private async create(id: ContainerId, terminal: boolean): Promise<number> {
    const paths = this.layout.container(id);
    const name = runcId(id);
    const runc = (await run(["sh", "-c", "command -v runc"])).stdout.trim();
    // Flags that conmon 2.0.25 has too.
    const options: string[] = ["--api-version", "1", "--cid", name, "--cuuid", name, "--name", name];
    options.push("--runtime", runc, "--runtime-arg", `--root=${this.layout.runc}`);
    options.push("--bundle", paths.bundle, "--persist-dir", paths.bundle, "--exit-dir", this.layout.exits);
    options.push("--container-pidfile", paths.pid, "--conmon-pidfile", paths.conmonPid);
    options.push("--log-path", `k8s-file:${paths.log}`);
    options.push("--socket-dir-path", paths.bundle, "--full-attach");
    if (terminal) options.push("--terminal");
    const child = spawn("conmon", options, {
      cwd: "/",
      stdio: ["ignore", "ignore", "pipe", "pipe"],
      env: { PATH: process.env.PATH, _OCI_SYNCPIPE: "3" },
    });
    let said = "";
    let errors = "";
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      errors += text;
    });
    const sync = child.stdio[3] as NodeJS.ReadableStream & { destroy(): void };
    const line = await new Promise<string>((resolve) => {
      sync.setEncoding("utf8");
      sync.on("data", (text: string) => {
        said += text;
        if (said.includes("\n")) resolve(said);
      });
      sync.on("end", () => resolve(said));
      sync.on("error", () => resolve(said));
      child.on("error", (error) => {
        errors += error.message;
        resolve(said);
      });
    });
    sync.destroy();
    child.stderr!.destroy();
    const answer = parseSync(line);
    if (answer.pid > 0) return answer.pid;
    throw new Error(answer.message || errors.trim() || "conmon ended without a word");
  }

  private async runc(...command: string[]): Promise<void> {
    const { code, stderr } = await run(["runc", "--root", this.layout.runc, ...command]);
    if (code !== 0) throw new Error(`runc ${command[0]}: ${ociMessage(stderr)}`);
  }

  private instance({ uid, container, attempt }: ContainerId): Instance | undefined {
    return this.known
      .get(uid)
      ?.instances.find((each) => each.container === container && each.attempt === attempt);
  }

  private keep(instance: Instance): void {
    writeRecord(this.layout.container(instance).record, instance.record);
  }

  /** Only the instance before this one keeps its log. */
  private async forgetOld(sandbox: Sandbox, container: string): Promise<void> {
    const all = sandbox.instances.filter((each) => each.container === container);
    for (const old of all.slice(0, -KEPT)) {
      await this.clean(old);
      rmSync(this.layout.container(old).bundle, { recursive: true, force: true });
      sandbox.instances.splice(sandbox.instances.indexOf(old), 1);
    }
  }

  // ---- ends ---------------------------------------------------------------------------------

  /** Looks for instances that have ended, and for logs that are too long. */
  private look(): void {
    for (const { instances } of this.known.values())
      for (const each of instances) {
        if (each.record.end !== null || each.record.process === null) continue;
        const end = this.endOf(each);
        if (end !== null) {
          this.finish(each, end);
          this.changed(each.uid);
        } else this.rotate(each);
      }
  }

  /** Null while it runs, and until conmon has written what it knows. */
  private endOf(instance: Instance): ContainerEnd | null {
    const paths = this.layout.container(instance);
    const text = readText(paths.exit);
    if (text !== null && text !== "") {
      const exitCode = Number.parseInt(text, 10);
      const killedForMemory = existsSync(join(paths.bundle, "oom"));
      const finishedAt = Math.round(statSync(paths.exit).mtimeMs);
      const reason = exitCode === 0 ? "Completed" : killedForMemory ? "OOMKilled" : "Error";
      const said = lastWords(paths.termination);
      const message =
        said === "" && exitCode !== 0 && instance.record.messageFromLog ? logEnd(paths.log) : said;
      return { exitCode, reason, message, finishedAt };
    }
    if (isRunning(instance.record.process!)) return null;
    const conmon = Number(readText(paths.conmonPid) ?? 0);
    if (identify(conmon) !== null && readText(`/proc/${conmon}/comm`) === "conmon\n") return null;
    return {
      exitCode: UNKNOWN_END,
      reason: "ContainerStatusUnknown",
      message: "The container could not be located when the pod was terminated",
      finishedAt: Date.now(),
    };
  }

  private finish(instance: Instance, end: ContainerEnd): void {
    instance.record.end = end;
    this.keep(instance);
    rmSync(this.layout.container(instance).exit, { force: true });
    void this.clean(instance);
  }

  /** What runc keeps of it, and its root file system. */
  private clean(instance: Instance): Promise<unknown> {
    const id = runcId(instance);
    const before = this.cleaning.get(id) ?? Promise.resolve();
    const work = before.then(async () => {
      await run(["runc", "--root", this.layout.runc, "delete", "--force", id]);
      if (instance.record.end !== null)
        rmSync(this.layout.container(instance).rootfs, { recursive: true, force: true });
    });
    this.cleaning.set(id, work);
    void work.finally(() => {
      if (this.cleaning.get(id) === work) this.cleaning.delete(id);
    });
    return work;
  }

  /** Puts a log aside. Until conmon has begun another one it writes to where that is now. */
  private rotate(instance: Instance): void {
    const { log } = this.layout.container(instance);
    try {
      if (statSync(log).size < LOG_BYTES) return;
      this.reopenLog(instance, () => renameSync(log, `${log}.1`));
    } catch {
      // No log yet, or conmon is about to end.
    }
  }

  /** Tells conmon to begin another log, after `first`. Throws where there is no conmon. */
  private reopenLog(instance: Instance, first: () => void): void {
    // Not waiting for a reader: without conmon there is none.
    const { ctl } = this.layout.container(instance);
    const fd = openSync(ctl, fsConstants.O_WRONLY | fsConstants.O_NONBLOCK);
    try {
      first();
      writeSync(fd, REOPEN_LOG);
    } finally {
      closeSync(fd);
    }
  }

  /** An agent that ended between the two steps of a rotation left conmon without a log to rotate. */
  private finishRotation(instance: Instance): void {
    const { log } = this.layout.container(instance);
    if (existsSync(log) || !existsSync(`${log}.1`)) return;
    try {
      this.reopenLog(instance, () => {});
    } catch {
      // conmon has ended.
    }
  }
}

function stateOf({ uid, container, attempt, record }: Instance): ContainerState {
  const { imageName, stopSignal, startedAt, process: first, end, memory } = record;
  const id = { uid, container, attempt };
  const running = first !== null && end === null;
  return {
    ...id,
    imageName,
    containerId: `runc://${runcId(id)}`,
    stopSignal,
    running,
    startedAt,
    end,
    memory,
  };
}

function startError(message: string, at: number): ContainerEnd {
  return { exitCode: START_ERROR, reason: "StartError", message, finishedAt: at };
}

/** conmon's line on its sync pipe: {"data": PID} or {"data": -1, "message": "…"} (before API 1: "pid"). */
function parseSync(line: string): { pid: number; message: string } {
  try {
    const { data, pid = data ?? -1, message = "" } = JSON.parse(line) as Record<string, never>;
    return { pid: Number(pid), message: ociMessage(String(message)) };
  } catch {
    return { pid: -1, message: line.trim() };
  }
}

/** What of runc's log lines (`time="…" level=error msg="…"`) is the message. */
function ociMessage(text: string): string {
  const found = [...text.matchAll(/level=(?:error|fatal) msg="((?:[^"\\]|\\.)*)"/g)].at(-1)?.[1];
  return (found?.replace(/\\(.)/g, "$1") ?? text).trim();
}

function hostsFile(hostname: string, address: string | null): string {
  const own = address === null ? "" : `${address}\t${hostname}\n`;
  return `# Managed by podwire.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n${own}`;
}

/** Whether a namespace is pinned at a path: it then lies in the same file system as our own. */
function isNamespace(path: string): boolean {
  try {
    return statSync(path).dev === statSync("/proc/self/ns/net").dev;
  } catch {
    return false;
  }
}

function send(target: ProcessId, signal: string): void {
  if (!isRunning(target)) return;
  try {
    process.kill(target.pid, signal as NodeJS.Signals);
  } catch {
    // It ended in the meantime.
  }
}

/** What the container wrote to say why it ended; it may have made the file huge. */
function lastWords(file: string): string {
  return endOfFile(file, MOST_MESSAGE_BYTES).toString("utf8");
}

/** The last lines of a log, as a kubelet's FallbackToLogsOnError takes them. */
function logEnd(file: string): string {
  const { bytes, lines } = LOG_MESSAGE;
  const records = logRecords(endOfFile(file, bytes * 4)).slice(-lines);
  const text = records.map(({ content, full }) => `${content}${full ? "\n" : ""}`).join("");
  return Buffer.from(text).subarray(-bytes).toString("utf8");
}

/** At most so many bytes of a file's end; nothing where there is no file. */
function endOfFile(file: string, most: number): Buffer {
  let fd: number;
  try {
    fd = openSync(file, "r");
  } catch {
    return Buffer.alloc(0);
  }
  try {
    const { size } = fstatSync(fd);
    const bytes = Buffer.alloc(Math.min(size, most));
    readSync(fd, bytes, 0, bytes.length, size - bytes.length);
    return bytes;
  } finally {
    closeSync(fd);
  }
}

function readText(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}

function readJson<T>(file: string): T | null {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as T;
  } catch {
    return null;
  }
}

/** Replaced by rename: a reader sees the old or the new content. */
function writeRecord(file: string, value: object): void {
  writeFileSync(`${file}.new`, JSON.stringify(value), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Removes an empty cgroup from every hierarchy that has it. */
function removeHierarchies(path: string): void {
  for (const hierarchy of ["", ...namesIn("/sys/fs/cgroup")])
    try {
      rmdirSync(join("/sys/fs/cgroup", hierarchy, path));
    } catch {
      // Not there, or not empty: another agent's.
    }
}
