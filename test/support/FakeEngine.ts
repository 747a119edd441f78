/**
 * A ContainerEngine in memory, on a test's clock: instances start at once and run until the test, or a
 * signal, ends them. It outlives the manager that uses it, as the real one's files do.
 */
import { Readable } from "node:stream";
import type { Clock } from "../../src/kube/Clock.js";
import type {
  ContainerEnd,
  ContainerEngine,
  ContainerId,
  ContainerMemory,
  ContainerSpec,
  ContainerState,
  SandboxSpec,
  SandboxState,
} from "../../src/runtime/ContainerEngine.js";
import { StartError } from "../../src/runtime/ContainerEngine.js";
import type { ExecOptions, ExecResult, ExecSession } from "../../src/runtime/PodAccess.js";

/** Exit code of a program that a signal ended. */
const EXIT_CODES: Readonly<Record<string, number>> = { SIGTERM: 143, SIGQUIT: 131, SIGKILL: 137 };

export class FakeEngine implements ContainerEngine {
  /** What was started, in order. */
  readonly started: ContainerSpec[] = [];
  /** "CONTAINER SIGNAL", in order. */
  readonly signals: string[] = [];
  /** Commands that were run, in order. */
  readonly commands: string[] = [];
  /** Containers that only SIGKILL ends, by name. */
  readonly stubborn = new Set<string>();
  /** Why a container cannot be started, by name. */
  readonly startErrors = new Map<string, string>();
  /** How a command in a container ends; it is aborted as the real one's is. */
  onExec: (command: string) => ExecResult | Promise<ExecResult> = () => ({ code: 0 });

  private readonly pods = new Map<string, SandboxState>();
  private changed: (uid: string) => void = () => {};

  constructor(private readonly clock: Clock) {}

  async start(changed: (uid: string) => void): Promise<void> {
    this.changed = changed;
  }

  stop(): void {
    this.changed = () => {};
  }

  sandboxes(): SandboxState[] {
    return [...this.pods.keys()].map((uid) => this.sandbox(uid)!);
  }

  sandbox(uid: string): SandboxState | null {
    const found = this.pods.get(uid);
    return found === undefined ? null : structuredClone(found);
  }

  async createSandbox(spec: SandboxSpec): Promise<void> {
    const owner = [...this.pods.values()].find((each) => each.alive && each.spec.netns === spec.netns);
    if (owner !== undefined && owner.spec.uid !== spec.uid) throw new Error(`${spec.netns} is in use`);
    this.pods.set(spec.uid, { spec, alive: true, containers: this.pods.get(spec.uid)?.containers ?? [] });
  }

  async closeSandbox(uid: string): Promise<void> {
    const found = this.pods.get(uid);
    if (found?.containers.some(({ running }) => running)) throw new Error("something runs in it");
    if (found !== undefined) found.alive = false;
  }

  async removeSandbox(uid: string): Promise<void> {
    this.pods.delete(uid);
  }

  volume(uid: string, name: string): string {
    return `/volumes/${uid}/${name}`;
  }

  setAddress(): void {}

  async startContainer(spec: ContainerSpec): Promise<void> {
    const { uid, container, attempt, imageName, image } = spec;
    const now = this.clock.date().getTime();
    this.started.push(spec);
    const state: ContainerState = {
      ...{ uid, container, attempt, imageName },
      containerId: `fake://${uid}.${container}.${attempt}`,
      stopSignal: image.stopSignal,
      running: true,
      startedAt: now,
      end: null,
      memory: { started: false, ready: false },
    };
    this.pods.get(uid)!.containers.push(state);
    const message = this.startErrors.get(container);
    if (message === undefined) return;
    Object.assign(state, { running: false, startedAt: 0 });
    state.end = { exitCode: 128, reason: "StartError", message, finishedAt: now };
    throw new StartError(message);
  }

  signal(id: ContainerId, signal: string): void {
    this.signals.push(`${id.container} ${signal}`);
    if (this.stubborn.has(id.container) && signal !== "SIGKILL") return;
    const found = this.find(id);
    if (found?.running) this.finish(found, { exitCode: EXIT_CODES[signal] ?? 1, reason: "Error" });
  }

  remember(id: ContainerId, memory: ContainerMemory): void {
    const found = this.find(id);
    if (found !== undefined) found.memory = { ...memory };
  }

  async exec(_: ContainerId, { command }: ExecOptions, signal: AbortSignal): Promise<ExecSession> {
    const text = command.join(" ");
    this.commands.push(text);
    const aborted = new Promise<ExecResult>((resolve) =>
      signal.addEventListener("abort", () => resolve({ code: 129 }), { once: true }),
    );
    return {
      stdin: null,
      stdout: Readable.from([]),
      stderr: null,
      resize: () => {},
      ended: Promise.race([Promise.resolve(this.onExec(text)), aborted]),
      kill: () => {},
    };
  }

  async *log(): AsyncGenerator<Buffer> {}

  // ---- for tests ----------------------------------------------------------------------------

  /** Ends the instance of a container that runs. */
  exit(uid: string, container: string, exitCode: number, more: Partial<ContainerEnd> = {}): void {
    const found = this.pods.get(uid)?.containers.find((each) => each.container === container && each.running);
    if (found === undefined) throw new Error(`${container} of ${uid} does not run`);
    this.finish(found, { exitCode, reason: exitCode === 0 ? "Completed" : "Error", ...more });
  }

  /** Takes a sandbox's namespaces away, as a restart of the machine does. */
  breakSandbox(uid: string): void {
    this.pods.get(uid)!.alive = false;
  }

  /** Containers that run, as "UID/CONTAINER.ATTEMPT". */
  running(): string[] {
    return [...this.pods.values()]
      .flatMap(({ containers }) => containers.filter(({ running }) => running))
      .map(({ uid, container, attempt }) => `${uid}/${container}.${attempt}`);
  }

  private finish(
    state: ContainerState,
    end: Pick<ContainerEnd, "exitCode" | "reason"> & Partial<ContainerEnd>,
  ) {
    state.running = false;
    state.end = { message: "", finishedAt: this.clock.date().getTime(), ...end };
    this.changed(state.uid);
  }

  private find({ uid, container, attempt }: ContainerId): ContainerState | undefined {
    return this.pods
      .get(uid)
      ?.containers.find((each) => each.container === container && each.attempt === attempt);
  }
}
