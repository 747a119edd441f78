/** ReplicaSet → Pods: as many active pods as asked for; those least worth keeping go first. Pure. */
import { PODS, REPLICASETS } from "../kube/resources.js";
import type { Pod, ReplicaSet } from "../kube/types.js";
import { type Action, type Outcome, outcome } from "./actions.js";
import { claim } from "./claim.js";
import { millisecondsOf, sameJson } from "./meta.js";
import {
  createPod,
  deletePod,
  isActive,
  isAvailable,
  isReady,
  isTerminating,
  nextAvailable,
  podFromTemplate,
} from "./pods.js";

export interface ReplicaSetState {
  replicaSet: ReplicaSet;
  /** Pods of the namespace: at least its own, and those without a controller. */
  pods: Iterable<Pod>;
  now: number;
}

/** Most pods created or deleted in one go. */
const BURST = 500;

/** What one ReplicaSet wants done, and its status (Kubernetes: pkg/controller/replicaset). */
export function reconcileReplicaSet({ replicaSet, pods, now }: ReplicaSetState): Outcome {
  const spec = replicaSet.spec!;
  const claimed = claim(replicaSet, REPLICASETS, spec.selector, PODS, [...pods].filter(isActive));
  const owned = claimed.owned;
  const actions: Action[] = [...claimed.actions];
  const wanted = spec.replicas ?? 1;
  if (!isTerminating(replicaSet)) {
    for (let count = Math.min(wanted - owned.length, BURST); count > 0; count--)
      actions.push(createPod(replicaSet, podFromTemplate(replicaSet, REPLICASETS, spec.template ?? {})));
    const surplus = Math.min(owned.length - wanted, BURST);
    if (surplus > 0)
      for (const pod of leastWorthKeeping(owned).slice(0, surplus)) actions.push(deletePod(replicaSet, pod));
  }
  const minReady = spec.minReadySeconds ?? 0;
  const templateLabels = Object.entries(spec.template?.metadata?.labels ?? {});
  const fullyLabeled = owned.filter((pod) =>
    templateLabels.every(([key, value]) => pod.metadata.labels?.[key] === value),
  ).length;
  const ready = owned.filter(isReady).length;
  const available = owned.filter((pod) => isAvailable(pod, minReady, now)).length;
  const status: ReplicaSet["status"] = {
    replicas: owned.length,
    ...(fullyLabeled && { fullyLabeledReplicas: fullyLabeled }),
    ...(ready && { readyReplicas: ready }),
    ...(available && { availableReplicas: available }),
    ...(replicaSet.metadata.generation && { observedGeneration: replicaSet.metadata.generation }),
    ...(replicaSet.status?.conditions && { conditions: replicaSet.status.conditions }),
  };
  if (!sameJson(replicaSet.status, status))
    actions.push({
      verb: "update",
      resource: REPLICASETS,
      object: { ...replicaSet, status } as ReplicaSet,
      subresource: "status",
    });
  return outcome(actions, nextAvailable(owned, minReady, now));
}

/** Pods in the order of Kubernetes' ActivePodsWithRanks: the first ones go first. */
function leastWorthKeeping(pods: readonly Pod[]): Pod[] {
  const perNode = new Map<string, number>();
  const nodeOf = (pod: Pod): string => pod.spec?.nodeName ?? "";
  for (const pod of pods) perNode.set(nodeOf(pod), (perNode.get(nodeOf(pod)) ?? 0) + 1);
  const phases = ["Pending", "Unknown", "Running"];
  const cost = (pod: Pod): number =>
    Number(pod.metadata.annotations?.["controller.kubernetes.io/pod-deletion-cost"] ?? 0) || 0;
  const readySince = (pod: Pod): number =>
    millisecondsOf(
      pod.status?.conditions?.find(({ type }) => type === "Ready")?.lastTransitionTime as string | undefined,
    );
  const restarts = (pod: Pod): number =>
    Math.max(0, ...(pod.status?.containerStatuses ?? []).map(({ restartCount }) => restartCount));
  // Every rank: smaller goes first.
  const ranks: ((pod: Pod) => number)[] = [
    (pod) => (nodeOf(pod) === "" ? 0 : 1),
    (pod) => phases.indexOf(pod.status?.phase ?? "Pending"),
    (pod) => (isReady(pod) ? 1 : 0),
    cost,
    (pod) => -perNode.get(nodeOf(pod))!,
    (pod) => (isReady(pod) ? -readySince(pod) : 0),
    (pod) => -restarts(pod),
    (pod) => -millisecondsOf(pod.metadata.creationTimestamp),
  ];
  return [...pods].sort((a, b) => {
    for (const rank of ranks) {
      const difference = rank(a) - rank(b);
      if (difference !== 0) return difference;
    }
    return a.metadata.name! < b.metadata.name! ? -1 : 1;
  });
}
