/**
 * Leases (coordination.k8s.io): a node's heartbeat, and the election of one leader among several.
 * Times of other machines are never compared with ours: what counts is how long we have seen a
 * lease unchanged, by our own clock.
 */
import { type Clock, SYSTEM_CLOCK } from "./Clock.js";
import type { KubeApi, OwnerReference } from "./KubeApi.js";
import { isAlreadyExists, isConflict, isNotFound } from "./KubeError.js";
import { LEASES } from "./resources.js";
import type { Lease } from "./types.js";

/** Namespace of the nodes' leases. */
const NODE_LEASE_NAMESPACE = "kube-node-lease";
/** kubelet's: renewed every 10 s, a node without for 40 s is not ready. */
const NODE_LEASE_SECONDS = 40;
const NODE_RENEW_MS = 10_000;
const NODE_RETRY_MS = 1_000;

export interface LeaseOptions {
  clock?: Clock;
  onError?: (error: unknown) => void;
}

/** Keeps a node's lease fresh. */
export class NodeHeartbeat {
  private readonly clock: Clock;
  private cancel = () => {};
  private work: Promise<void> = Promise.resolve();
  private stopped = false;
  private lease: Lease | null = null;

  /** @param owner reference to the Node, so that the lease goes with it */
  constructor(
    private readonly api: KubeApi,
    private readonly node: string,
    private readonly owner: () => OwnerReference | undefined,
    private readonly options: LeaseOptions = {},
  ) {
    this.clock = options.clock ?? SYSTEM_CLOCK;
  }

  start(): void {
    this.work = this.beat();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.cancel();
    await this.work;
  }

  private async beat(): Promise<void> {
    let next = NODE_RENEW_MS;
    try {
      await this.renew();
    } catch (error) {
      this.lease = null;
      next = NODE_RETRY_MS;
      this.options.onError?.(error);
    }
    if (this.stopped) return;
    this.cancel = this.clock.after(next, () => {
      this.work = this.beat();
    });
  }

  private async renew(): Promise<void> {
    const renewTime = microTime(this.clock.date());
    const spec = { holderIdentity: this.node, leaseDurationSeconds: NODE_LEASE_SECONDS, renewTime };
    this.lease ??= await this.read();
    if (this.lease === null) {
      const owner = this.owner();
      const lease: Lease = {
        metadata: {
          name: this.node,
          namespace: NODE_LEASE_NAMESPACE,
          ...(owner === undefined ? {} : { ownerReferences: [owner] }),
        },
        spec,
      };
      try {
        this.lease = await this.api.create(LEASES, lease);
        return;
      } catch (error) {
        // Our own, whose answer was lost.
        if (!isAlreadyExists(error)) throw error;
        this.lease = await this.api.get<Lease>(LEASES, this.node, NODE_LEASE_NAMESPACE);
      }
    }
    this.lease = await this.api.update(LEASES, { ...this.lease, spec: { ...this.lease.spec, ...spec } });
  }

  private async read(): Promise<Lease | null> {
    try {
      return await this.api.get<Lease>(LEASES, this.node, NODE_LEASE_NAMESPACE);
    } catch (error) {
      if (isNotFound(error)) return null;
      throw error;
    }
  }
}

export interface LeaderOptions extends LeaseOptions {
  namespace: string;
  name: string;
  /** Unique among the candidates. */
  identity: string;
  /** Others wait this long for a silent leader. Default 15 s. */
  durationMs?: number;
  /** A leader that could not renew for this long gives up. Default 10 s. */
  renewMs?: number;
  /** Time between attempts. Default 2 s. */
  retryMs?: number;
  onStarted: () => void;
  /** Called once for each onStarted: at the latest when another may lead. */
  onStopped: () => void;
}

/** Leads while it holds a lease; client-go's rules. */
export class LeaderElector {
  private readonly clock: Clock;
  private readonly durationMs: number;
  private readonly renewMs: number;
  private readonly retryMs: number;
  /** The lease as we saw it last, and since when it has been so. */
  private seen: { text: string; at: number } | null = null;
  private renewedAt = 0;
  private leads = false;
  private stopped = false;
  private cancel = () => {};
  private cancelDeadline = () => {};
  private work: Promise<void> = Promise.resolve();

  constructor(
    private readonly api: KubeApi,
    private readonly options: LeaderOptions,
  ) {
    this.clock = options.clock ?? SYSTEM_CLOCK;
    this.durationMs = options.durationMs ?? 15_000;
    this.renewMs = options.renewMs ?? 10_000;
    this.retryMs = options.retryMs ?? 2_000;
  }

  get isLeader(): boolean {
    return this.leads;
  }

  start(): void {
    this.work = this.attempt();
  }

  /** Gives the lease up, so that another need not wait. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.cancel();
    await this.work;
    const led = this.leads;
    this.end();
    if (led) await this.release().catch((error: unknown) => this.options.onError?.(error));
  }

  private async attempt(): Promise<void> {
    const started = this.clock.now();
    try {
      if (await this.acquire()) {
        // Counted from before the request: the others count from after it.
        this.renewedAt = started;
        this.begin();
      } else this.end();
    } catch (error) {
      this.options.onError?.(error);
    }
    if (this.stopped) return;
    this.cancel = this.clock.after(this.retryMs, () => {
      this.work = this.attempt();
    });
  }

  /** Whether the lease is ours now. */
  private async acquire(): Promise<boolean> {
    const { namespace, name, identity } = this.options;
    const renewTime = microTime(this.clock.date());
    const fresh = {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(this.durationMs / 1000),
      renewTime,
    };
    let lease: Lease;
    try {
      lease = await this.api.get<Lease>(LEASES, name, namespace);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      const spec = { ...fresh, acquireTime: renewTime, leaseTransitions: 0 };
      try {
        await this.api.create<Lease>(LEASES, { metadata: { name, namespace }, spec });
        return true;
      } catch (created) {
        if (isAlreadyExists(created)) return false;
        throw created;
      }
    }
    const { spec = {} } = lease;
    const text = JSON.stringify([spec.holderIdentity, spec.renewTime, spec.leaseTransitions]);
    if (this.seen?.text !== text) this.seen = { text, at: this.clock.now() };
    const ours = spec.holderIdentity === identity;
    const free = !spec.holderIdentity || this.clock.now() - this.seen.at > leaseMs(spec, this.durationMs);
    if (!ours && !free) return false;
    const change = ours
      ? fresh
      : { ...fresh, acquireTime: renewTime, leaseTransitions: (spec.leaseTransitions ?? 0) + 1 };
    try {
      await this.api.update<Lease>(LEASES, { ...lease, spec: { ...spec, ...change } });
      return true;
    } catch (error) {
      if (isConflict(error)) return false;
      throw error;
    }
  }

  private begin(): void {
    this.cancelDeadline();
    const left = this.renewedAt + this.renewMs - this.clock.now();
    // The answer took so long that another may think the lease free by now.
    if (left <= 0) {
      this.end();
      return;
    }
    this.cancelDeadline = this.clock.after(left, () => this.end());
    if (this.leads) return;
    this.leads = true;
    this.options.onStarted();
  }

  private end(): void {
    this.cancelDeadline();
    if (!this.leads) return;
    this.leads = false;
    this.options.onStopped();
  }

  private async release(): Promise<void> {
    const { namespace, name, identity } = this.options;
    const lease = await this.api.get<Lease>(LEASES, name, namespace);
    if (lease.spec?.holderIdentity !== identity) return;
    await this.api.update<Lease>(LEASES, { ...lease, spec: { ...lease.spec, holderIdentity: "" } });
  }
}

function leaseMs(spec: { leaseDurationSeconds?: number }, otherwise: number): number {
  return spec.leaseDurationSeconds === undefined ? otherwise : spec.leaseDurationSeconds * 1000;
}

/** metav1.MicroTime: always six digits. */
export function microTime(date: Date): string {
  return date.toISOString().replace("Z", "000Z");
}
