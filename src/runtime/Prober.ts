/**
 * The probes of one instance of a container: when each is run, and what its results make of the
 * container (pkg/kubelet/prober). Until a startup probe has succeeded no other is run. Must not know
 * how a probe is done.
 */
import type * as core from "kubernetes-types/core/v1.js";
import type { Clock } from "../kube/Clock.js";
import type { ContainerMemory } from "./ContainerEngine.js";
import type { ProbeOutcome } from "./probe.js";

export type ProbeKind = "startup" | "readiness" | "liveness";

export interface ProberOptions {
  probes: Partial<Record<ProbeKind, core.Probe>>;
  /** Milliseconds since the epoch. */
  startedAt: number;
  /** What was known of this instance before. */
  memory: ContainerMemory;
  run: (probe: core.Probe) => Promise<ProbeOutcome>;
  clock: Clock;
  /** The container became started, ready, or not ready. */
  changed: (memory: ContainerMemory) => void;
  /** A probe has failed. */
  failed: (kind: ProbeKind, message: string) => void;
  /** Startup or liveness failed too often: the container is to be restarted. Called once. */
  unhealthy: (kind: ProbeKind) => void;
}

interface Worker {
  /** Results in a row. */
  ok: boolean;
  count: number;
  cancel: () => void;
}

export class Prober {
  private readonly workers = new Map<ProbeKind, Worker>();
  private memory: ContainerMemory;
  private stopped = false;

  constructor(private readonly options: ProberOptions) {
    const { probes, memory } = options;
    const started = memory.started || probes.startup === undefined;
    this.memory = { started, ready: started && (memory.ready || probes.readiness === undefined) };
    if (started !== memory.started || this.memory.ready !== memory.ready) options.changed(this.memory);
    if (started) this.startOthers();
    else this.schedule("startup", true);
  }

  stop(): void {
    this.stopped = true;
    for (const { cancel } of this.workers.values()) cancel();
  }

  private startOthers(): void {
    for (const kind of ["readiness", "liveness"] as const)
      if (this.options.probes[kind] !== undefined) this.schedule(kind, true);
  }

  private schedule(kind: ProbeKind, first: boolean): void {
    const { probes, clock, startedAt } = this.options;
    const { initialDelaySeconds = 0, periodSeconds = 10 } = probes[kind]!;
    const age = clock.date().getTime() - startedAt;
    const wait = first ? Math.max(0, initialDelaySeconds * 1000 - age) : periodSeconds * 1000;
    const worker = this.workers.get(kind) ?? { ok: false, count: 0, cancel: () => {} };
    worker.cancel = clock.after(wait, () => void this.probe(kind, worker));
    this.workers.set(kind, worker);
  }

  private async probe(kind: ProbeKind, worker: Worker): Promise<void> {
    const probe = this.options.probes[kind]!;
    const outcome = await this.options.run(probe);
    if (this.stopped) return;
    if (!outcome.ok) this.options.failed(kind, outcome.message);
    worker.count = worker.ok === outcome.ok ? worker.count + 1 : 1;
    worker.ok = outcome.ok;
    const threshold = outcome.ok ? (probe.successThreshold ?? 1) : (probe.failureThreshold ?? 3);
    if (worker.count >= threshold && !this.take(kind, outcome.ok)) return;
    this.schedule(kind, false);
  }

  /** A result that has come often enough. Whether the probe goes on. */
  private take(kind: ProbeKind, ok: boolean): boolean {
    if (kind === "readiness") {
      this.set({ ...this.memory, ready: ok });
      return true;
    }
    if (!ok) {
      this.stop();
      this.options.unhealthy(kind);
      return false;
    }
    if (kind === "liveness") return true;
    this.set({ started: true, ready: this.options.probes.readiness === undefined });
    this.startOthers();
    return false;
  }

  private set(memory: ContainerMemory): void {
    if (memory.ready === this.memory.ready && memory.started === this.memory.started) return;
    this.memory = memory;
    this.options.changed(memory);
  }
}
