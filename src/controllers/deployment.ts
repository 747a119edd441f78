/**
 * Deployment → ReplicaSets. Pure; one step at a time, as Kubernetes: scaling the new ReplicaSet, or the
 * old ones, then the status, and the next step when the ReplicaSets have answered.
 *
 * 1. claim ReplicaSets; the new one is the one with the Deployment's template
 * 2. paused, or the number of replicas was changed: scale only, in proportion
 * 3. Recreate: old down, wait until their pods are gone, new up
 *    RollingUpdate: new up within maxSurge, old down within maxUnavailable
 * 4. remove old ReplicaSets beyond revisionHistoryLimit
 * 5. revision annotation, status with conditions Available and Progressing
 *
 * A rollback is kubectl's: it writes an old ReplicaSet's template back, which makes that one new again.
 */
import { DEPLOYMENTS, REPLICASETS } from "../kube/resources.js";
import type { Deployment, Pod, PodTemplateSpec, ReplicaSet } from "../kube/types.js";
import { type Action, type Outcome, outcome } from "./actions.js";
import { claim } from "./claim.js";
import {
  canonicalJson,
  controllerReference,
  millisecondsOf,
  sameJson,
  scaled,
  templateHash,
  timestamp,
} from "./meta.js";
import { isFinished, isTerminating } from "./pods.js";

export interface DeploymentState {
  deployment: Deployment;
  /** ReplicaSets of the namespace: at least its own, and those without a controller. */
  replicaSets: Iterable<ReplicaSet>;
  /** Pods of a ReplicaSet, ended and terminating ones included. */
  podsOf(replicaSet: ReplicaSet): Iterable<Pod>;
  now: number;
}

export const HASH_LABEL = "pod-template-hash";
export const REVISION = "deployment.kubernetes.io/revision";
const REVISION_HISTORY = "deployment.kubernetes.io/revision-history";
const DESIRED = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM = "deployment.kubernetes.io/max-replicas";
/** Annotations that a ReplicaSet does not take over from its Deployment. */
const OWN_ANNOTATIONS = new Set([
  "kubectl.kubernetes.io/last-applied-configuration",
  "deprecated.deployment.rollback.to",
  REVISION,
  REVISION_HISTORY,
  DESIRED,
  MAXIMUM,
]);

type Status = NonNullable<Deployment["status"]>;
type Condition = NonNullable<Status["conditions"]>[number];

/** What one Deployment wants done, and its status (Kubernetes: pkg/controller/deployment). */
export function reconcileDeployment(state: DeploymentState): Outcome {
  return new Rollout(state).run();
}

class Rollout {
  readonly #d: Deployment;
  readonly #spec: NonNullable<Deployment["spec"]>;
  readonly #now: number;
  readonly #wanted: number;
  readonly #maxSurge: number;
  readonly #maxUnavailable: number;
  readonly #actions: Action[] = [];
  /** Sizes as this run leaves them, by uid. */
  readonly #sizes = new Map<ReplicaSet, number>();
  #all: ReplicaSet[] = [];
  #fresh: ReplicaSet | undefined;
  #old: ReplicaSet[] = [];
  #conditions: Condition[];
  /** Revision that the Deployment's annotation shall show. */
  #revision: string | undefined;

  constructor(private readonly state: DeploymentState) {
    this.#d = state.deployment;
    this.#spec = state.deployment.spec!;
    this.#now = state.now;
    this.#wanted = this.#spec.replicas ?? 1;
    this.#conditions = [...(this.#d.status?.conditions ?? [])];
    const rolling =
      this.#spec.strategy?.type === "Recreate" ? undefined : (this.#spec.strategy?.rollingUpdate ?? {});
    if (rolling) {
      this.#maxSurge = scaled((rolling.maxSurge ?? "25%") as number | string, this.#wanted, "up");
      const down = scaled((rolling.maxUnavailable ?? "25%") as number | string, this.#wanted, "down");
      // With both at 0 nothing could ever move.
      this.#maxUnavailable = Math.min(this.#maxSurge === 0 && down === 0 ? 1 : down, this.#wanted);
    } else {
      this.#maxSurge = 0;
      this.#maxUnavailable = 0;
    }
  }

  run(): Outcome {
    const d = this.#d;
    if (sameJson(this.#spec.selector, {})) {
      const message = "This deployment is selecting all pods. A non-empty selector is required.";
      return outcome([
        { verb: "event", event: { about: d, type: "Warning", reason: "SelectingAll", message } },
      ]);
    }
    const claimed = claim(d, DEPLOYMENTS, this.#spec.selector, REPLICASETS, this.state.replicaSets);
    this.#actions.push(...claimed.actions);
    this.#all = claimed.owned.sort(byCreation);
    // The oldest match, should there be several.
    this.#fresh = this.#all.find((rs) => sameTemplate(rs.spec?.template, this.#spec.template));
    this.#old = this.#all.filter((rs) => rs !== this.#fresh);
    if (isTerminating(d)) {
      this.#syncStatus(false);
      return outcome(this.#actions);
    }
    this.#pausedCondition();
    if (this.#spec.paused || this.#scalingAsked()) {
      this.#syncFresh(false);
      this.#scale();
      if (this.#spec.paused) this.#cleanUp();
      this.#syncStatus(false);
      return outcome(this.#actions);
    }
    if (this.#spec.strategy?.type === "Recreate") this.#recreate();
    else this.#roll();
    this.#syncStatus(true);
    return outcome(this.#actions, this.#untilDeadline());
  }

  // Step 3.

  #recreate(): void {
    this.#syncFresh(false);
    const active = this.#old.filter((rs) => this.#size(rs) > 0);
    for (const rs of active) this.#resize(rs, 0);
    if (active.length > 0) return;
    if (this.#old.some((rs) => [...this.state.podsOf(rs)].some((pod) => !isFinished(pod)))) return;
    this.#syncFresh(true);
    if (this.#fresh) this.#resize(this.#fresh, this.#wanted);
    this.#cleanUp();
  }

  #roll(): void {
    this.#syncFresh(true);
    if (this.#fresh && this.#rollUp(this.#fresh)) return;
    if (this.#rollDown()) return;
    this.#cleanUp();
  }

  #rollUp(fresh: ReplicaSet): boolean {
    const size = this.#size(fresh);
    if (size === this.#wanted) return false;
    return this.#resize(fresh, size > this.#wanted ? this.#wanted : this.#grownSize(size));
  }

  /** How large the new ReplicaSet may become now. */
  #grownSize(size: number): number {
    const room = this.#wanted + this.#maxSurge - sum(this.#all, (rs) => this.#size(rs));
    return room <= 0 ? size : size + Math.min(room, this.#wanted - size);
  }

  #rollDown(): boolean {
    const old = this.#old.filter((rs) => this.#size(rs) > 0);
    if (old.length === 0) return false;
    const least = this.#wanted - this.#maxUnavailable;
    const freshMissing = this.#fresh ? this.#size(this.#fresh) - availableOf(this.#fresh) : 0;
    let room = sum(this.#all, (rs) => this.#size(rs)) - least - freshMissing;
    if (room <= 0) return false;
    let scaledDown = false;
    // Unhealthy ones first: they do not cost availability.
    for (const rs of old) {
      const unhealthy = this.#size(rs) - availableOf(rs);
      const count = Math.min(room, unhealthy);
      if (count <= 0) continue;
      this.#resize(rs, this.#size(rs) - count);
      room -= count;
      scaledDown = true;
    }
    let surplus = sum(this.#all, availableOf) - least;
    for (const rs of old) {
      const count = Math.min(this.#size(rs), surplus);
      if (count <= 0) continue;
      this.#resize(rs, this.#size(rs) - count);
      surplus -= count;
      scaledDown = true;
    }
    return scaledDown;
  }

  // Step 2.

  /** The number of replicas differs from the one the active ReplicaSets were sized for. */
  #scalingAsked(): boolean {
    return this.#all.some((rs) => {
      const desired = rs.metadata.annotations?.[DESIRED];
      return this.#size(rs) > 0 && desired !== undefined && Number(desired) !== this.#wanted;
    });
  }

  #scale(): void {
    const active = this.#all.filter((rs) => this.#size(rs) > 0);
    if (active.length <= 1) {
      const only = active[0] ?? this.#fresh ?? this.#old.at(-1);
      if (only) this.#resize(only, this.#wanted);
      return;
    }
    const fresh = this.#fresh;
    const saturated =
      fresh !== undefined &&
      this.#size(fresh) === this.#wanted &&
      Number(fresh.metadata.annotations?.[DESIRED]) === this.#wanted &&
      availableOf(fresh) === this.#wanted;
    if (saturated) {
      for (const rs of this.#old) this.#resize(rs, 0);
      return;
    }
    if (this.#spec.strategy?.type === "Recreate") return;
    this.#scaleInProportion(active);
  }

  #scaleInProportion(active: ReplicaSet[]): void {
    const limit = this.#wanted > 0 ? this.#wanted + this.#maxSurge : 0;
    const toAdd = limit - sum(active, (rs) => this.#size(rs));
    // The largest first; among equals the newest when growing, the oldest when shrinking.
    const newest = toAdd > 0 ? -1 : 1;
    const order = [...active].sort((a, b) => this.#size(b) - this.#size(a) || newest * byCreation(a, b));
    const sizes = new Map<ReplicaSet, number>();
    let added = 0;
    for (const rs of order) {
      let part = 0;
      if (toAdd !== 0) {
        const fraction = this.#fraction(rs);
        const left = toAdd - added;
        part = toAdd > 0 ? Math.min(fraction, left) : Math.max(fraction, left);
      }
      sizes.set(rs, this.#size(rs) + part);
      added += part;
    }
    if (order[0]) sizes.set(order[0], Math.max(0, sizes.get(order[0])! + toAdd - added));
    for (const rs of order) this.#resize(rs, sizes.get(rs)!);
  }

  /** A ReplicaSet's share of a change of size. */
  #fraction(rs: ReplicaSet): number {
    const size = this.#size(rs);
    if (this.#wanted === 0) return -size;
    const before = Number(rs.metadata.annotations?.[MAXIMUM]) || this.#d.status?.replicas || size;
    return Math.round((size * (this.#wanted + this.#maxSurge)) / before) - size;
  }

  // The new ReplicaSet.

  /** Its annotations and revision; creates it where it is missing and allowed. */
  #syncFresh(create: boolean): void {
    const revision = String(Math.max(0, ...this.#old.map(revisionOf)) + 1);
    if (this.#fresh) {
      this.#syncAnnotations(this.#fresh, revision);
      this.#revision = String(Math.max(revisionOf(this.#fresh), Number(revision)));
      if (this.#hasDeadline && !this.#condition("Progressing"))
        this.#setCondition(
          "Progressing",
          "True",
          "FoundNewReplicaSet",
          `Found new replica set "${this.#fresh.metadata.name}"`,
        );
      return;
    }
    if (!create) return;
    const hash = templateHash(this.#spec.template, this.#d.status?.collisionCount ?? 0);
    const labels = { ...this.#spec.template.metadata?.labels, [HASH_LABEL]: hash };
    const fresh: ReplicaSet = {
      apiVersion: "apps/v1",
      kind: "ReplicaSet",
      metadata: {
        name: `${this.#d.metadata.name}-${hash}`,
        namespace: this.#d.metadata.namespace!,
        labels,
        annotations: { ...inherited(this.#d), [REVISION]: revision, ...this.#sizeAnnotations() },
        ownerReferences: [controllerReference(this.#d, DEPLOYMENTS)],
      },
      spec: {
        replicas: 0,
        ...(this.#spec.minReadySeconds && { minReadySeconds: this.#spec.minReadySeconds }),
        selector: {
          ...this.#spec.selector,
          matchLabels: { ...this.#spec.selector.matchLabels, [HASH_LABEL]: hash },
        },
        template: {
          ...this.#spec.template,
          metadata: { ...this.#spec.template.metadata, labels },
        },
      },
    };
    const size = this.#spec.strategy?.type === "Recreate" ? this.#wanted : this.#grownSize(0);
    fresh.spec!.replicas = size;
    const clash = this.#all.find(({ metadata }) => metadata.name === fresh.metadata.name);
    if (clash) {
      // Another template with the same hash: count up, and name it anew next time.
      this.#collisions = (this.#d.status?.collisionCount ?? 0) + 1;
      return;
    }
    this.#revision = revision;
    this.#actions.push({
      verb: "create",
      resource: REPLICASETS,
      object: fresh,
      ...(size > 0 && { done: this.#scaleEvent(fresh, 0, size) }),
      failed: {
        about: this.#d,
        type: "Warning",
        reason: "ReplicaSetCreateError",
        message: `Failed to create new replica set "${fresh.metadata.name}": {error}`,
      },
    });
    this.#created = fresh;
    if (this.#hasDeadline)
      this.#setCondition(
        "Progressing",
        "True",
        "NewReplicaSetCreated",
        `Created new replica set "${fresh.metadata.name}"`,
      );
  }

  #created: ReplicaSet | undefined;
  #collisions: number | undefined;

  #syncAnnotations(rs: ReplicaSet, revision: string): void {
    const own = rs.metadata.annotations ?? {};
    const annotations: Record<string, string> = { ...own, ...inherited(this.#d) };
    if (revisionOf(rs) < Number(revision)) {
      const previous = own[REVISION];
      annotations[REVISION] = revision;
      // It was new once before: a rollback.
      if (previous)
        annotations[REVISION_HISTORY] = own[REVISION_HISTORY]
          ? `${own[REVISION_HISTORY]},${previous}`
          : previous;
    }
    const minReady = this.#spec.minReadySeconds ?? 0;
    if (sameJson(annotations, own) && (rs.spec?.minReadySeconds ?? 0) === minReady) return;
    this.#actions.push({
      verb: "patch",
      resource: REPLICASETS,
      object: rs,
      kind: "merge",
      patch: { metadata: { uid: rs.metadata.uid, annotations }, spec: { minReadySeconds: minReady } },
    });
  }

  // Sizes.

  #size(rs: ReplicaSet): number {
    return this.#sizes.get(rs) ?? rs.spec?.replicas ?? 1;
  }

  #sizeAnnotations(): Record<string, string> {
    return { [DESIRED]: String(this.#wanted), [MAXIMUM]: String(this.#wanted + this.#maxSurge) };
  }

  /** Whether there was something to change. */
  #resize(rs: ReplicaSet, size: number): boolean {
    const before = this.#size(rs);
    const annotations = this.#sizeAnnotations();
    const stale = Object.entries(annotations).some(
      ([key, value]) => rs.metadata.annotations?.[key] !== value,
    );
    if (before === size && !stale) return false;
    this.#sizes.set(rs, size);
    this.#actions.push({
      verb: "patch",
      resource: REPLICASETS,
      object: rs,
      kind: "merge",
      patch: { metadata: { uid: rs.metadata.uid, annotations }, spec: { replicas: size } },
      ...(before !== size && { done: this.#scaleEvent(rs, before, size) }),
    });
    return before !== size;
  }

  #scaleEvent(rs: ReplicaSet, from: number, to: number) {
    const direction = to > from ? "up" : "down";
    const message = `Scaled ${direction} replica set ${rs.metadata.name} from ${from} to ${to}`;
    return { about: this.#d, type: "Normal" as const, reason: "ScalingReplicaSet", message };
  }

  // Step 4.

  #cleanUp(): void {
    const limit = this.#spec.revisionHistoryLimit ?? 10;
    const idle = this.#old.filter((rs) => !isTerminating(rs));
    for (const rs of idle.slice(0, Math.max(0, idle.length - limit))) {
      const busy =
        (rs.status?.replicas ?? 0) !== 0 ||
        this.#size(rs) !== 0 ||
        (rs.metadata.generation ?? 0) > (rs.status?.observedGeneration ?? 0);
      if (!busy) this.#actions.push({ verb: "delete", resource: REPLICASETS, object: rs });
    }
  }

  // Step 5.

  get #hasDeadline(): boolean {
    const deadline = this.#spec.progressDeadlineSeconds;
    return deadline !== undefined && deadline !== 2 ** 31 - 1;
  }

  #condition(type: string): Condition | undefined {
    return this.#conditions.find((condition) => condition.type === type);
  }

  /** Same status and reason: untouched. Same status: the transition is as old as it was. */
  #setCondition(type: string, status: string, reason: string, message: string, always = false): void {
    const current = this.#condition(type);
    if (!always && current?.status === status && current.reason === reason) return;
    const now = timestamp(this.#now);
    const condition = {
      type,
      status,
      lastUpdateTime: now,
      lastTransitionTime:
        current?.status === status && current.lastTransitionTime ? current.lastTransitionTime : now,
      reason,
      message,
    } as Condition;
    this.#conditions = [...this.#conditions.filter((other) => other.type !== type), condition];
  }

  #pausedCondition(): void {
    if (!this.#hasDeadline) return;
    const reason = this.#condition("Progressing")?.reason;
    if (reason === "ProgressDeadlineExceeded") return;
    if (this.#spec.paused && reason !== "DeploymentPaused")
      this.#setCondition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused");
    else if (!this.#spec.paused && reason === "DeploymentPaused")
      this.#setCondition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed");
  }

  #syncStatus(estimate: boolean): void {
    const d = this.#d;
    const total = sum(this.#all, (rs) => rs.status?.replicas ?? 0);
    const updated = this.#fresh?.status?.replicas ?? 0;
    const ready = sum(this.#all, (rs) => rs.status?.readyReplicas ?? 0);
    const available = sum(this.#all, availableOf);
    const unavailable = Math.max(0, sum(this.#all, (rs) => this.#size(rs)) - available);
    const collisions = this.#collisions ?? d.status?.collisionCount;
    const numbers: Status = {
      ...(d.metadata.generation && { observedGeneration: d.metadata.generation }),
      ...(total && { replicas: total }),
      ...(updated && { updatedReplicas: updated }),
      ...(ready && { readyReplicas: ready }),
      ...(available && { availableReplicas: available }),
      ...(unavailable && { unavailableReplicas: unavailable }),
      ...(collisions && { collisionCount: collisions }),
    };
    if (available >= this.#wanted - this.#maxUnavailable)
      this.#setCondition(
        "Available",
        "True",
        "MinimumReplicasAvailable",
        "Deployment has minimum availability.",
      );
    else
      this.#setCondition(
        "Available",
        "False",
        "MinimumReplicasUnavailable",
        "Deployment does not have minimum availability.",
      );
    if (!this.#hasDeadline) this.#conditions = this.#conditions.filter(({ type }) => type !== "Progressing");
    else if (estimate) this.#estimateProgress(numbers);
    const status: Status = {
      ...numbers,
      ...(this.#conditions.length > 0 && { conditions: this.#conditions }),
    };
    if (this.#revision !== undefined && d.metadata.annotations?.[REVISION] !== this.#revision)
      this.#actions.push({
        verb: "patch",
        resource: DEPLOYMENTS,
        object: d,
        kind: "merge",
        patch: { metadata: { uid: d.metadata.uid, annotations: { [REVISION]: this.#revision } } },
      });
    if (!sameJson(d.status, status))
      // A patch, and null for what is gone, so that the annotation's new resourceVersion is no conflict.
      this.#actions.push({
        verb: "patch",
        resource: DEPLOYMENTS,
        object: d,
        kind: "merge",
        patch: { metadata: { uid: d.metadata.uid }, status: { ...absent(d.status, status), ...status } },
        subresource: "status",
      });
  }

  #estimateProgress(now: Status): void {
    const before = this.#d.status ?? {};
    const current = this.#condition("Progressing");
    if ((now.replicas ?? 0) === (now.updatedReplicas ?? 0) && current?.reason === "NewReplicaSetAvailable")
      return;
    const rs = this.#fresh ?? this.#created;
    const subject = rs ? `ReplicaSet "${rs.metadata.name}"` : `Deployment "${this.#d.metadata.name}"`;
    const count = (
      status: Status,
      key: "replicas" | "updatedReplicas" | "readyReplicas" | "availableReplicas",
    ) => status[key] ?? 0;
    const oldPods = (status: Status): number => count(status, "replicas") - count(status, "updatedReplicas");
    const complete =
      this.#created === undefined &&
      count(now, "updatedReplicas") === this.#wanted &&
      count(now, "replicas") === this.#wanted &&
      count(now, "availableReplicas") === this.#wanted;
    if (complete) {
      this.#setCondition(
        "Progressing",
        "True",
        "NewReplicaSetAvailable",
        `${subject} has successfully progressed.`,
      );
      return;
    }
    const progressing =
      count(now, "updatedReplicas") > count(before, "updatedReplicas") ||
      oldPods(now) < oldPods(before) ||
      count(now, "readyReplicas") > count(before, "readyReplicas") ||
      count(now, "availableReplicas") > count(before, "availableReplicas");
    if (progressing) {
      this.#setCondition("Progressing", "True", "ReplicaSetUpdated", `${subject} is progressing.`, true);
      return;
    }
    if (current && current.reason !== "NewReplicaSetAvailable" && this.#deadlineOf(current) < this.#now)
      this.#setCondition(
        "Progressing",
        "False",
        "ProgressDeadlineExceeded",
        `${subject} has timed out progressing.`,
      );
  }

  #deadlineOf(condition: Condition): number {
    return (
      millisecondsOf(condition.lastUpdateTime as string | undefined) +
      this.#spec.progressDeadlineSeconds! * 1000
    );
  }

  #untilDeadline(): number | undefined {
    const current = this.#condition("Progressing");
    if (!this.#hasDeadline || !current) return undefined;
    if (current.reason === "NewReplicaSetAvailable" || current.reason === "ProgressDeadlineExceeded")
      return undefined;
    return Math.max(0, this.#deadlineOf(current) - this.#now) + 1000;
  }
}

function availableOf(rs: ReplicaSet): number {
  return rs.status?.availableReplicas ?? 0;
}

function revisionOf(rs: ReplicaSet): number {
  return Number(rs.metadata.annotations?.[REVISION] ?? 0) || 0;
}

function inherited(d: Deployment): Record<string, string> {
  return Object.fromEntries(
    Object.entries(d.metadata.annotations ?? {}).filter(([key]) => !OWN_ANNOTATIONS.has(key)),
  );
}

/** Equal but for the hash label. */
function sameTemplate(a: PodTemplateSpec | undefined, b: PodTemplateSpec | undefined): boolean {
  return plainTemplate(a) === plainTemplate(b);
}

function plainTemplate(template: PodTemplateSpec | undefined): string {
  const { [HASH_LABEL]: _hash, ...labels } = template?.metadata?.labels ?? {};
  const { creationTimestamp: _none, ...metadata } = template?.metadata ?? {};
  return canonicalJson({ ...template, metadata: { ...metadata, labels } });
}

/** null for every field that goes. */
function absent(before: object | undefined, after: object): Record<string, null> {
  const gone = Object.keys(before ?? {}).filter((key) => !(key in after));
  return Object.fromEntries(gone.map((key) => [key, null]));
}

function sum<T>(items: Iterable<T>, value: (item: T) => number): number {
  let total = 0;
  for (const item of items) total += value(item);
  return total;
}

function byCreation(a: ReplicaSet, b: ReplicaSet): number {
  return (
    millisecondsOf(a.metadata.creationTimestamp) - millisecondsOf(b.metadata.creationTimestamp) ||
    (a.metadata.name! < b.metadata.name! ? -1 : 1)
  );
}
