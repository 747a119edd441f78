/**
 * DaemonSet → Pods: one pod on every node that the template's selectors and tolerations allow. Pure.
 *
 * 1. claim pods                         4. old pods give way to new ones (RollingUpdate, OnDelete)
 * 2. sort them by the node they are for 5. status
 * 3. create and delete per node
 *
 * Before all that the template's ControllerRevision (revisions.ts), whose hash the pods carry.
 */
import { DAEMONSETS, PODS } from "../kube/resources.js";
import type { ControllerRevision, DaemonSet, Node, Pod, PodTemplateSpec, Toleration } from "../kube/types.js";
import { type Action, type Outcome, outcome, sooner } from "./actions.js";
import { claim } from "./claim.js";
import { keyOf, millisecondsOf, sameJson, scaled } from "./meta.js";
import { matchesNode, pinnedNode, untolerated } from "./nodeFit.js";
import {
  createPod,
  deletePod,
  isAvailable,
  isReady,
  isTerminating,
  nextAvailable,
  podFromTemplate,
} from "./pods.js";
import { historyOf, REVISION_LABEL } from "./revisions.js";

export interface DaemonSetState {
  daemonSet: DaemonSet;
  /** Pods of the namespace: at least its own, and those without a controller. */
  pods: Iterable<Pod>;
  /** ControllerRevisions of the namespace: at least its own, and those without a controller. */
  revisions: Iterable<ControllerRevision>;
  nodes: readonly Node[];
  now: number;
}

const GENERATION_LABEL = "pod-template-generation";
const GENERATION_ANNOTATION = "deprecated.daemonset.template.generation";
/** A failed pod is replaced no sooner than this after its creation, so that a crash loop does not spin. */
const FAILED_POD_MS = 5000;

/** Nothing of this kind keeps a daemon away. */
const AUTOMATIC: Toleration[] = [
  { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/unreachable", operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/disk-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/memory-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/pid-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/unschedulable", operator: "Exists", effect: "NoSchedule" },
];
const AUTOMATIC_HOST_NETWORK: Toleration = {
  key: "node.kubernetes.io/network-unavailable",
  operator: "Exists",
  effect: "NoSchedule",
};

/** What one DaemonSet wants done, and its status (Kubernetes: pkg/controller/daemon). */
export function reconcileDaemonSet({ daemonSet, pods, revisions, nodes, now }: DaemonSetState): Outcome {
  const spec = daemonSet.spec!;
  if (isTerminating(daemonSet)) return outcome([]);
  if (sameJson(spec.selector, {})) {
    const message = "This daemon set is selecting all pods. A non-empty selector is required.";
    return outcome([
      { verb: "event", event: { about: daemonSet, type: "Warning", reason: "SelectingAll", message } },
    ]);
  }
  const claimed = claim(daemonSet, DAEMONSETS, spec.selector, PODS, pods);
  const history = historyOf(daemonSet, revisions, claimed.owned);
  const plan = new Plan(daemonSet, claimed.owned, nodes, history.hash, now);
  if (!history.collided) {
    plan.manage();
    plan.update();
  }
  const actions = [...claimed.actions, ...history.actions, ...plan.actions];
  const status = plan.status();
  if (history.collided) status.collisionCount = (status.collisionCount ?? 0) + 1;
  if (!sameJson(daemonSet.status, status))
    actions.push({
      verb: "update",
      resource: DAEMONSETS,
      object: { ...daemonSet, status } as DaemonSet,
      subresource: "status",
    });
  return outcome(
    actions,
    sooner(plan.againAfterMs, nextAvailable(claimed.owned, spec.minReadySeconds ?? 0, now)),
  );
}

/** Whether a daemon belongs on the node, and whether one that is there may stay. */
export function daemonOnNode(daemonSet: DaemonSet, node: Node): { run: boolean; stay: boolean } {
  return fits(templateWithTolerations(daemonSet.spec!.template), node);
}

function fits({ spec }: PodTemplateSpec, node: Node): { run: boolean; stay: boolean } {
  if (spec!.nodeName && spec!.nodeName !== node.metadata.name) return { run: false, stay: false };
  if (!matchesNode(spec!, node)) return { run: false, stay: false };
  const tolerations = spec!.tolerations ?? [];
  const taints = node.spec?.taints ?? [];
  if (!untolerated(tolerations, taints, "NoExecute", "NoSchedule")) return { run: true, stay: true };
  return { run: false, stay: !untolerated(tolerations, taints, "NoExecute") };
}

/** The pod for one node; `revision`: the hash of the template's ControllerRevision. */
export function daemonPod(daemonSet: DaemonSet, nodeName: string, revision: string): Pod {
  const template = templateWithTolerations(daemonSet.spec!.template);
  const labels: Record<string, string> = { [REVISION_LABEL]: revision };
  const generation = daemonSet.metadata.annotations?.[GENERATION_ANNOTATION];
  if (generation !== undefined) labels[GENERATION_LABEL] = generation;
  const pod = podFromTemplate(daemonSet, DAEMONSETS, template, labels);
  pinToNode(pod, nodeName);
  return pod;
}

/** The node a daemon's pod runs on or is meant for. */
function nodeOfDaemonPod(pod: Pod): string | undefined {
  return pod.spec?.nodeName || (pod.spec ? pinnedNode(pod.spec) : undefined);
}

class Plan {
  readonly actions: Action[] = [];
  againAfterMs: number | undefined;
  readonly #byNode = new Map<string, Pod[]>();
  readonly #minReady: number;
  readonly #surge: number;
  readonly #maxUnavailable: number;
  readonly #wanted: Map<string, { run: boolean; stay: boolean }>;
  readonly #deleted = new Set<Pod>();

  constructor(
    private readonly daemonSet: DaemonSet,
    owned: Pod[],
    nodes: readonly Node[],
    private readonly revision: string,
    private readonly now: number,
  ) {
    const spec = daemonSet.spec!;
    this.#minReady = spec.minReadySeconds ?? 0;
    const template = templateWithTolerations(spec.template);
    this.#wanted = new Map(nodes.map((node) => [node.metadata.name!, fits(template, node)]));
    const desired = [...this.#wanted.values()].filter(({ run }) => run).length;
    const rolling = spec.updateStrategy?.type === "OnDelete" ? undefined : spec.updateStrategy?.rollingUpdate;
    this.#surge = scaled(rolling?.maxSurge as number | string | undefined, desired, "up");
    this.#maxUnavailable = scaled((rolling?.maxUnavailable ?? 1) as number | string, desired, "up");
    for (const pod of owned) {
      const name = nodeOfDaemonPod(pod);
      if (name === undefined) continue;
      const there = this.#byNode.get(name);
      if (there) there.push(pod);
      else this.#byNode.set(name, [pod]);
    }
    for (const there of this.#byNode.values()) there.sort(byAge);
  }

  /** Every node gets what it lacks and loses what it should not have. */
  manage(): void {
    const create: string[] = [];
    for (const [name, { run, stay }] of this.#wanted) {
      const there = this.#byNode.get(name) ?? [];
      if (run && there.length === 0) create.push(name);
      else if (!stay) for (const pod of there) this.#delete(pod);
      else this.#thinOut(name, there, run, create);
    }
    // Pods for a node that is gone and that nobody started; started ones are pod garbage collection's.
    for (const [name, there] of this.#byNode)
      if (!this.#wanted.has(name)) for (const pod of there) if (!pod.spec?.nodeName) this.#delete(pod);
    for (const name of create) this.#create(name);
  }

  /** Ended pods are replaced, doubles removed; a surge may keep one old and one new. */
  #thinOut(name: string, there: Pod[], run: boolean, create: string[]): void {
    const running: Pod[] = [];
    for (const pod of there) {
      if (isTerminating(pod)) continue;
      const phase = pod.status?.phase;
      if (phase !== "Failed" && phase !== "Succeeded") {
        running.push(pod);
        continue;
      }
      const wait = millisecondsOf(pod.metadata.creationTimestamp) + FAILED_POD_MS - this.now;
      if (phase === "Failed" && wait > 0) {
        this.againAfterMs = sooner(this.againAfterMs, wait);
        continue;
      }
      const [type, reason, what] =
        phase === "Failed"
          ? (["Warning", "FailedDaemonPod", "failed"] as const)
          : (["Normal", "SucceededDaemonPod", "succeeded"] as const);
      const message = `Found ${what} daemon pod ${keyOf(pod)} on node ${name}, will try to ${phase === "Failed" ? "kill" : "delete"} it`;
      this.actions.push({ verb: "event", event: { about: this.daemonSet, type, reason, message } });
      this.#delete(pod);
    }
    if (this.#surge === 0) for (const pod of running.slice(1)) this.#delete(pod);
    else {
      for (const group of [
        running.filter((pod) => this.#isNew(pod)),
        running.filter((pod) => !this.#isNew(pod)),
      ])
        for (const pod of group.slice(1)) this.#delete(pod);
      // With a surge nothing waits for a terminating pod.
      if (run && running.length === 0 && there.every(isTerminating)) create.push(name);
    }
  }

  update(): void {
    if (this.daemonSet.spec!.updateStrategy?.type === "OnDelete") return;
    const nodes = [...this.#byNode].filter(([name]) => this.#wanted.get(name)?.run);
    if (this.#surge > 0) this.#updateWithSurge(nodes);
    else this.#updateInPlace(nodes);
  }

  #updateInPlace(nodes: [string, Pod[]][]): void {
    let unavailable = [...this.#wanted].filter(([name, { run }]) => run && !this.#byNode.has(name)).length;
    const broken: Pod[] = [];
    const candidates: Pod[] = [];
    for (const [, there] of nodes) {
      const alive = there.filter((pod) => !isTerminating(pod) && !this.#deleted.has(pod));
      const [pod] = alive;
      const available = alive.length === 1 && this.#available(pod!);
      if (!available) unavailable++;
      if (alive.length !== 1 || this.#isNew(pod!)) continue;
      (available ? candidates : broken).push(pod!);
    }
    const room = Math.max(0, this.#maxUnavailable - unavailable);
    for (const pod of [...broken, ...candidates.slice(0, room)]) this.#delete(pod);
  }

  #updateWithSurge(nodes: [string, Pod[]][]): void {
    let surging = 0;
    const urgent: string[] = [];
    const candidates: string[] = [];
    for (const [name, there] of nodes) {
      const alive = there.filter((pod) => !isTerminating(pod) && !this.#deleted.has(pod));
      const fresh = alive.find((pod) => this.#isNew(pod));
      const old = alive.find((pod) => !this.#isNew(pod));
      if (!old) continue;
      if (!fresh) (this.#available(old) ? candidates : urgent).push(name);
      else if (this.#available(fresh)) this.#delete(old);
      else surging++;
    }
    const room = Math.max(0, this.#surge - surging);
    for (const name of [...urgent, ...candidates.slice(0, room)]) this.#create(name);
  }

  status(): NonNullable<DaemonSet["status"]> {
    let desired = 0;
    let current = 0;
    let misscheduled = 0;
    let ready = 0;
    let available = 0;
    let updated = 0;
    for (const [name, { run }] of this.#wanted) {
      const [pod] = this.#byNode.get(name) ?? [];
      if (run) desired++;
      if (!pod) continue;
      if (!run) {
        misscheduled++;
        continue;
      }
      current++;
      if (isReady(pod)) ready++;
      if (this.#available(pod)) available++;
      if (this.#isNew(pod)) updated++;
    }
    const old = this.daemonSet.status;
    return {
      currentNumberScheduled: current,
      numberMisscheduled: misscheduled,
      desiredNumberScheduled: desired,
      numberReady: ready,
      ...(this.daemonSet.metadata.generation && { observedGeneration: this.daemonSet.metadata.generation }),
      ...(updated && { updatedNumberScheduled: updated }),
      ...(available && { numberAvailable: available }),
      ...(desired - available && { numberUnavailable: desired - available }),
      ...(old?.collisionCount && { collisionCount: old.collisionCount }),
      ...(old?.conditions && { conditions: old.conditions }),
    };
  }

  #isNew(pod: Pod): boolean {
    if (pod.metadata.labels?.[REVISION_LABEL] === this.revision) return true;
    const generation = this.daemonSet.metadata.annotations?.[GENERATION_ANNOTATION];
    return generation !== undefined && pod.metadata.labels?.[GENERATION_LABEL] === generation;
  }

  #available(pod: Pod): boolean {
    return isAvailable(pod, this.#minReady, this.now);
  }

  #create(name: string): void {
    this.actions.push(createPod(this.daemonSet, daemonPod(this.daemonSet, name, this.revision)));
  }

  #delete(pod: Pod): void {
    if (isTerminating(pod) || this.#deleted.has(pod)) return;
    this.#deleted.add(pod);
    this.actions.push(deletePod(this.daemonSet, pod));
  }
}

/** Oldest first. */
function byAge(a: Pod, b: Pod): number {
  return (
    millisecondsOf(a.metadata.creationTimestamp) - millisecondsOf(b.metadata.creationTimestamp) ||
    (a.metadata.name! < b.metadata.name! ? -1 : 1)
  );
}

function templateWithTolerations(template: PodTemplateSpec): PodTemplateSpec {
  const spec = template.spec ?? { containers: [] };
  const tolerations = [...(spec.tolerations ?? [])];
  for (const toleration of [...AUTOMATIC, ...(spec.hostNetwork ? [AUTOMATIC_HOST_NETWORK] : [])])
    if (!tolerations.some((own) => sameJson(own, toleration))) tolerations.push(toleration);
  return { ...template, spec: { ...spec, tolerations } };
}

/** A required node affinity by name beside whatever the template asks; placement does the rest. */
function pinToNode(pod: Pod, nodeName: string): void {
  const matchFields = [{ key: "metadata.name", operator: "In", values: [nodeName] }];
  const spec = pod.spec!;
  spec.affinity ??= {};
  spec.affinity.nodeAffinity ??= {};
  const affinity = spec.affinity.nodeAffinity;
  const terms = affinity.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  affinity.requiredDuringSchedulingIgnoredDuringExecution = {
    nodeSelectorTerms:
      terms.length === 0 ? [{ matchFields }] : terms.map((term) => ({ ...term, matchFields })),
  };
}
