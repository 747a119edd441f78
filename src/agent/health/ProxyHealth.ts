/**
 * Whether this node carries Services well, with kube-proxy's semantics (pkg/proxy/healthcheck,
 * proxy_health.go, Kubernetes 1.28 and later): healthy unless something that was asked of the
 * dataplane has been waiting for longer than it may. Pure state; time is an argument.
 *
 *   queued(what)  →  done(what)      in time: healthy, and lastUpdated is "now"
 *   queued(what)  →  …               too late: unhealthy, and lastUpdated is when it was done last
 */
import type { Clock } from "../../kube/Clock.js";

/** What can be waited for, with the time that it may take in milliseconds. */
const PATIENCE_MS = {
  /** The tables, after a change. Twice kube-proxy's syncPeriod, as there. */
  tables: 60_000,
  /** Services, after a change. */
  services: 60_000,
  /** An answer of the dataplane's threads. */
  dataplane: 15_000,
} as const;

export type HealthConcern = keyof typeof PATIENCE_MS;

export interface ProxyHealthState {
  /** Everything was done in time. */
  healthy: boolean;
  /** Now, where healthy; else when what is late was done last, null for never. */
  lastUpdated: Date | null;
  currentTime: Date;
  /** False where the node is going to be removed: load balancers should not send it anything new. */
  nodeEligible: boolean;
}

export class ProxyHealth {
  /** When the oldest request that waits was made, monotonic, by concern. */
  private readonly waiting = new Map<HealthConcern, number>();
  private readonly updated = new Map<HealthConcern, Date>();
  private eligible = true;

  constructor(private readonly clock: Clock) {}

  /** Something was asked for. */
  queued(concern: HealthConcern): void {
    if (!this.waiting.has(concern)) this.waiting.set(concern, this.clock.now());
  }

  /** All that was asked for is done. */
  done(concern: HealthConcern): void {
    this.waiting.delete(concern);
    this.updated.set(concern, this.clock.date());
  }

  setNodeEligible(eligible: boolean): void {
    this.eligible = eligible;
  }

  /** Whether the dataplane does its work; says nothing of the node. */
  get healthy(): boolean {
    return this.late() === null;
  }

  state(): ProxyHealthState {
    const late = this.late();
    const currentTime = this.clock.date();
    return {
      healthy: late === null,
      lastUpdated: late === null ? currentTime : (this.updated.get(late) ?? null),
      currentTime,
      nodeEligible: this.eligible,
    };
  }

  private late(): HealthConcern | null {
    const now = this.clock.now();
    for (const [concern, since] of this.waiting) if (now - since >= PATIENCE_MS[concern]) return concern;
    return null;
  }
}
