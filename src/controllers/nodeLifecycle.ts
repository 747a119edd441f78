/**
 * Node health: a node whose Lease is not renewed for 40 s becomes Ready Unknown; conditions become
 * taints; taints drive pods away. Pure. The caller remembers when, by its own clock, it last saw a sign
 * of life: clocks of other machines are not compared.
 */
import { NODES, PODS } from "../kube/resources.js";
import type { Node, NodeCondition, Pod, Taint, Toleration } from "../kube/types.js";
import { type Action, type Outcome, outcome, sooner } from "./actions.js";
import { keyOf, millisecondsOf, sameJson, timestamp } from "./meta.js";
import { tolerates } from "./nodeFit.js";
import { isReady, isTerminating } from "./pods.js";

const NODE_GRACE_MS = 40_000;
const DEFAULT_TOLERATION_SECONDS = 300;
const NOT_READY = "node.kubernetes.io/not-ready";
const UNREACHABLE = "node.kubernetes.io/unreachable";
const OUT_OF_SERVICE = "node.kubernetes.io/out-of-service";

export interface NodeState {
  node: Node;
  /** Pods bound to it. */
  pods: Iterable<Pod>;
  /** Milliseconds since the last sign of life. */
  silentMs: number;
  now: number;
}

/** What a node that was silent for `silentMs` wants done: conditions, taints, and its pods' end. */
export function reconcileNode({ node, pods, silentMs, now }: NodeState): Outcome {
  if (isTerminating(node)) return outcome([]);
  const actions: Action[] = [];
  const silent = silentMs >= NODE_GRACE_MS;
  const conditions = silent ? unknownConditions(node, now) : (node.status?.conditions ?? []);
  const ready = conditions.find(({ type }) => type === "Ready");
  const before = node.status?.conditions?.find(({ type }) => type === "Ready");
  if (silent && !sameJson(conditions, node.status?.conditions))
    actions.push({
      verb: "patch",
      resource: NODES,
      object: node,
      kind: "strategic",
      patch: { metadata: { uid: node.metadata.uid }, status: { conditions } },
      subresource: "status",
    });
  if (ready?.status !== "True" && before?.status === "True")
    actions.push(event(node, `Node ${node.metadata.name} status is now: NodeNotReady`));
  if (ready && ready.status !== "True")
    for (const pod of pods) if (isReady(pod)) actions.push(...markNotReady(pod, now));
  const taints = wantedTaints(node, conditions, now);
  if (!sameJson(taints, node.spec?.taints ?? []))
    actions.push({
      verb: "patch",
      resource: NODES,
      object: node,
      kind: "merge",
      patch: {
        metadata: { uid: node.metadata.uid, resourceVersion: node.metadata.resourceVersion },
        spec: { taints: taints.length > 0 ? taints : null },
      },
    });
  // Taints after the condition: the condition's write changed the resourceVersion that they are bound to.
  if (actions.some((action) => action.verb === "patch" && action.subresource === "status")) {
    const later = actions.filter(
      (action) => !(action.verb === "patch" && action.resource === NODES && !action.subresource),
    );
    return outcome(later, later.length < actions.length ? 0 : undefined);
  }
  return outcome(actions, silent ? undefined : NODE_GRACE_MS - silentMs);
}

function event(node: Node, message: string): Action {
  return { verb: "event", event: { about: node, type: "Normal", reason: "NodeNotReady", message } };
}

function unknownConditions(node: Node, now: number): NodeCondition[] {
  const conditions = node.status?.conditions ?? [];
  const types = new Set(["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]);
  const result = conditions.map((condition): NodeCondition => {
    if (!types.delete(condition.type) || condition.status === "Unknown") return condition;
    return {
      ...condition,
      status: "Unknown",
      reason: "NodeStatusUnknown",
      message: "Kubelet stopped posting node status.",
      lastTransitionTime: timestamp(now),
    };
  });
  for (const type of types)
    result.push({
      type,
      status: "Unknown",
      reason: "NodeStatusNeverUpdated",
      message: "Kubelet never posted node status.",
      lastHeartbeatTime: node.metadata.creationTimestamp ?? timestamp(now),
      lastTransitionTime: timestamp(now),
    });
  return result;
}

/** A pod on a node that is not ready serves nobody. */
function markNotReady(pod: Pod, now: number): Action[] {
  const old = pod.status!.conditions!.find(({ type }) => type === "Ready")!;
  const condition = { ...old, status: "False", lastTransitionTime: timestamp(now) };
  const about = pod;
  return [
    {
      verb: "patch",
      resource: PODS,
      object: pod,
      kind: "strategic",
      patch: { metadata: { uid: pod.metadata.uid }, status: { conditions: [condition] } },
      subresource: "status",
      done: { about, type: "Warning", reason: "NodeNotReady", message: "Node is not ready" },
    },
  ];
}

/** Taints of others stay as they are; ours follow the conditions. */
export function wantedTaints(node: Node, conditions: readonly NodeCondition[], now: number): Taint[] {
  const status = (type: string): string | undefined => conditions.find((each) => each.type === type)?.status;
  const ready = status("Ready");
  const wanted: Taint[] = [];
  const both = (key: string): void => {
    wanted.push({ key, effect: "NoSchedule" }, { key, effect: "NoExecute" });
  };
  if (ready === "Unknown") both(UNREACHABLE);
  // A node that has not reported yet takes no pods.
  else if (ready !== "True") both(NOT_READY);
  const only = (key: string, when: boolean): void => {
    if (when) wanted.push({ key: `node.kubernetes.io/${key}`, effect: "NoSchedule" });
  };
  only("network-unavailable", status("NetworkUnavailable") === "True");
  only("memory-pressure", status("MemoryPressure") === "True");
  only("disk-pressure", status("DiskPressure") === "True");
  only("pid-pressure", status("PIDPressure") === "True");
  only("unschedulable", node.spec?.unschedulable === true);
  const ours = new Set([
    NOT_READY,
    UNREACHABLE,
    ...["network-unavailable", "memory-pressure", "disk-pressure", "pid-pressure", "unschedulable"].map(
      (key) => `node.kubernetes.io/${key}`,
    ),
  ]);
  const present = node.spec?.taints ?? [];
  const same = (a: Taint, b: Taint): boolean => a.key === b.key && a.effect === b.effect;
  const kept = present.filter((taint) => !ours.has(taint.key) || wanted.some((each) => same(each, taint)));
  const added = wanted
    .filter((taint) => !present.some((each) => same(each, taint)))
    .map((taint) => ({ ...taint, timeAdded: timestamp(now) }));
  return [...kept, ...added];
}

/** Milliseconds until the node's taints evict the pod: 0 is now, undefined never. */
export function untilEvicted(pod: Pod, taints: readonly Taint[], now: number): number | undefined {
  let soonest: number | undefined;
  for (const taint of taints) {
    if (taint.effect !== "NoExecute") continue;
    const matching = tolerationsOf(pod).filter((toleration) => tolerates(toleration, taint));
    if (matching.length === 0) return 0;
    const limits = matching.flatMap(({ tolerationSeconds }) =>
      tolerationSeconds === undefined ? [] : [tolerationSeconds],
    );
    if (limits.length === 0) continue;
    const since = taint.timeAdded ? millisecondsOf(taint.timeAdded as string) : now;
    soonest = sooner(soonest, Math.max(0, since + Math.max(0, Math.min(...limits)) * 1000 - now));
  }
  return soonest;
}

/** With the 300 s that admission gives every pod which says nothing about these two. */
function tolerationsOf(pod: Pod): Toleration[] {
  const own = pod.spec?.tolerations ?? [];
  const missing = [NOT_READY, UNREACHABLE].filter(
    (key) =>
      !own.some((each) => (!each.key || each.key === key) && (!each.effect || each.effect === "NoExecute")),
  );
  return [
    ...own,
    ...missing.map((key) => ({
      key,
      operator: "Exists",
      effect: "NoExecute",
      tolerationSeconds: DEFAULT_TOLERATION_SECONDS,
    })),
  ];
}

/** Eviction by taints. */
export function reconcileEviction(pod: Pod, node: Node | undefined, now: number): Outcome {
  if (isTerminating(pod) || !node) return outcome([]);
  const wait = untilEvicted(pod, node.spec?.taints ?? [], now);
  if (wait !== 0) return outcome([], wait);
  return outcome([
    {
      verb: "delete",
      resource: PODS,
      object: pod,
      done: {
        about: pod,
        type: "Normal",
        reason: "TaintManagerEviction",
        message: `Marking for deletion Pod ${keyOf(pod)}`,
      },
    },
  ]);
}

/**
 * Pods that nobody is left to confirm the end of: bound to a node that is gone, being deleted without
 * ever having had one, or being deleted on a node that somebody declared out of service. A node that is
 * merely unreachable may still run its pods: those keep their addresses until it is back or deleted.
 */
export function reconcileOrphanedPod(pod: Pod, node: Node | undefined): Outcome {
  const bound = Boolean(pod.spec?.nodeName);
  const terminating = isTerminating(pod);
  const outOfService = node?.spec?.taints?.some(({ key }) => key === OUT_OF_SERVICE) === true;
  const abandoned = bound ? !node || (terminating && outOfService) : terminating;
  if (!abandoned) return outcome([]);
  return outcome([{ verb: "delete", resource: PODS, object: pod, gracePeriodSeconds: 0 }]);
}
