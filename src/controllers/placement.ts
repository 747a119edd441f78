/**
 * Placement: which node a new pod goes to, or why to none, in the scheduler's own words. Pure.
 * Filters: unschedulable, taints, selectors and affinity, requested resources. Then the node with the
 * fewest pods of the same controller, then the fewest pods, then the first by name. No preemption.
 */
import { parseQuantity } from "../kube/quantity.js";
import { PODS } from "../kube/resources.js";
import type { Node, Pod, PodCondition, Toleration } from "../kube/types.js";
import type { Action } from "./actions.js";
import { controllerOf, keyOf, timestamp } from "./meta.js";
import { matchesNode, tolerates, untolerated } from "./nodeFit.js";
import { isFinished, isTerminating } from "./pods.js";

export interface NodeLoad {
  node: Node;
  /** Pods bound to it that have not ended. */
  pods: readonly Pod[];
}

export type Placement = { node: string } | { unschedulable: string };

export function needsPlacement(pod: Pod): boolean {
  const { nodeName, schedulerName, schedulingGates } = pod.spec ?? { containers: [] };
  return (
    !nodeName &&
    !isTerminating(pod) &&
    !isFinished(pod) &&
    (schedulerName ?? "default-scheduler") === "default-scheduler" &&
    !schedulingGates?.length
  );
}

export function placePod(pod: Pod, loads: readonly NodeLoad[]): Placement {
  if (loads.length === 0) return { unschedulable: "no nodes available to schedule pods" };
  const refusals = new Map<string, number>();
  let helpless = 0;
  let best: NodeLoad | undefined;
  let bestRank: number[] = [];
  const owner = controllerOf(pod)?.uid;
  for (const load of loads) {
    const refusal = refuse(pod, load);
    if (refusal) {
      for (const reason of refusal.reasons) refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
      if (!refusal.preemptible) helpless++;
      continue;
    }
    const siblings = owner ? load.pods.filter((other) => controllerOf(other)?.uid === owner).length : 0;
    const rank = [siblings, load.pods.length];
    if (!best || compare(rank, bestRank, load.node.metadata.name!, best.node.metadata.name!) < 0) {
      best = load;
      bestRank = rank;
    }
  }
  if (best) return { node: best.node.metadata.name! };
  const all = loads.length;
  const reasons = [...refusals].map(([reason, count]) => `${count} ${reason}`).sort();
  const preemption = [
    ...(helpless > 0 ? [`${helpless} Preemption is not helpful for scheduling`] : []),
    ...(all > helpless ? [`${all - helpless} No preemption victims found for incoming pod`] : []),
  ].sort();
  return {
    unschedulable: `0/${all} nodes are available: ${reasons.join(", ")}. preemption: 0/${all} nodes are available: ${preemption.join(", ")}.`,
  };
}

/** Binding, or the condition and the event that say why there is none. */
export function placementActions(pod: Pod, placement: Placement, now: number): Action[] {
  if ("node" in placement) {
    const message = `Successfully assigned ${keyOf(pod)} to ${placement.node}`;
    return [
      {
        verb: "patch",
        resource: PODS,
        object: pod,
        kind: "merge",
        patch: {
          metadata: { uid: pod.metadata.uid, resourceVersion: pod.metadata.resourceVersion },
          spec: { nodeName: placement.node },
        },
        done: { about: pod, type: "Normal", reason: "Scheduled", message },
      },
      condition(pod, { type: "PodScheduled", status: "True", lastTransitionTime: timestamp(now) }),
    ];
  }
  const message = placement.unschedulable;
  const old = pod.status?.conditions?.find(({ type }) => type === "PodScheduled");
  const actions: Action[] = [
    { verb: "event", event: { about: pod, type: "Warning", reason: "FailedScheduling", message } },
  ];
  if (old?.status !== "False" || old.message !== message)
    actions.push(
      condition(pod, {
        type: "PodScheduled",
        status: "False",
        reason: "Unschedulable",
        message,
        lastTransitionTime:
          old?.status === "False" && old.lastTransitionTime ? old.lastTransitionTime : timestamp(now),
      }),
    );
  return actions;
}

function condition(pod: Pod, value: PodCondition): Action {
  return {
    verb: "patch",
    resource: PODS,
    object: pod,
    kind: "strategic",
    patch: { metadata: { uid: pod.metadata.uid }, status: { conditions: [value] } },
    subresource: "status",
  };
}

function refuse(pod: Pod, load: NodeLoad): { reasons: string[]; preemptible: boolean } | undefined {
  const { node } = load;
  const spec = pod.spec!;
  const tolerations: Toleration[] = spec.tolerations ?? [];
  const taints = node.spec?.taints ?? [];
  const unschedulable = { key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" };
  if (node.spec?.unschedulable && !tolerations.some((each) => tolerates(each, unschedulable)))
    return { reasons: ["node(s) were unschedulable"], preemptible: false };
  const taint = untolerated(tolerations, taints, "NoSchedule", "NoExecute");
  if (taint)
    return {
      reasons: [`node(s) had untolerated taint {${taint.key}: ${taint.value ?? ""}}`],
      preemptible: false,
    };
  if (!matchesNode(spec, node))
    return { reasons: ["node(s) didn't match Pod's node affinity/selector"], preemptible: false };
  const reasons = lacks(pod, load);
  return reasons.length > 0 ? { reasons, preemptible: true } : undefined;
}

/** What the node has too little of. What it does not declare is not counted. */
function lacks(pod: Pod, load: NodeLoad): string[] {
  const { node } = load;
  const allocatable = (node.status?.allocatable ?? {}) as Record<string, string>;
  const reasons: string[] = [];
  if (allocatable.pods !== undefined && load.pods.length + 1 > amount(allocatable.pods))
    reasons.push("Too many pods");
  for (const name of ["cpu", "memory"]) {
    const asked = requested(pod, name);
    if (asked === 0 || allocatable[name] === undefined) continue;
    const used = load.pods.reduce((sum, other) => sum + requested(other, name), 0);
    if (used + asked > amount(allocatable[name])) reasons.push(`Insufficient ${name}`);
  }
  return reasons;
}

function requested(pod: Pod, name: string): number {
  const of = (container: { resources?: { requests?: unknown } }): number => {
    const requests = (container.resources?.requests ?? {}) as Record<string, string>;
    return requests[name] === undefined ? 0 : amount(requests[name]);
  };
  const running = (pod.spec?.containers ?? []).reduce((sum, container) => sum + of(container), 0);
  return Math.max(running, ...(pod.spec?.initContainers ?? []).map(of));
}

/** A quantity as a number; what cannot be read counts as nothing. */
function amount(text: string | number): number {
  return parseQuantity(text) || 0;
}

function compare(a: number[], b: number[], nameA: string, nameB: string): number {
  for (const [index, value] of a.entries()) if (value !== b[index]) return value - b[index]!;
  return nameA < nameB ? -1 : 1;
}
