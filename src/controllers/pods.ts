/** What several controllers need to know of a pod. Pure. */
import type { KubeObject, ObjectMeta, ResourceRef } from "../kube/KubeApi.js";
import { PODS } from "../kube/resources.js";
import type { Pod, PodTemplateSpec } from "../kube/types.js";
import type { Action } from "./actions.js";
import { controllerReference, millisecondsOf } from "./meta.js";

/** Whether an object is being deleted. */
export function isTerminating({ metadata }: KubeObject): boolean {
  return metadata.deletionTimestamp !== undefined;
}

/** Whether all containers of a pod have ended for good. */
export function isFinished(pod: Pod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

/** Neither ended nor being deleted. */
export function isActive(pod: Pod): boolean {
  return !isFinished(pod) && !isTerminating(pod);
}

/** Condition Ready. */
export function isReady(pod: Pod): boolean {
  return readyCondition(pod)?.status === "True";
}

function readyCondition(pod: Pod) {
  return pod.status?.conditions?.find(({ type }) => type === "Ready");
}

/** Milliseconds until the pod counts as available: 0 when it does, undefined when it is not ready. */
function untilAvailable(pod: Pod, minReadySeconds: number, now: number): number | undefined {
  if (!isReady(pod)) return undefined;
  if (minReadySeconds === 0) return 0;
  const since = millisecondsOf(readyCondition(pod)?.lastTransitionTime as string | undefined);
  return Math.max(0, since + minReadySeconds * 1000 - now);
}

/** Whether a pod has been ready for `minReadySeconds` at `now` (Unix time, milliseconds). */
export function isAvailable(pod: Pod, minReadySeconds: number, now: number): boolean {
  return untilAvailable(pod, minReadySeconds, now) === 0;
}

/** Time the soonest of these ready pods takes to become available; undefined when none is waiting. */
export function nextAvailable(pods: Iterable<Pod>, minReadySeconds: number, now: number): number | undefined {
  let next: number | undefined;
  for (const pod of pods) {
    const wait = untilAvailable(pod, minReadySeconds, now);
    if (wait !== undefined && wait > 0 && (next === undefined || wait < next)) next = wait;
  }
  return next;
}

/** A pod from a controller's template; the Runner completes its name. */
export function podFromTemplate(
  owner: KubeObject,
  resource: ResourceRef,
  template: PodTemplateSpec,
  labels: Record<string, string> = {},
): Pod {
  const metadata: ObjectMeta = {
    generateName: `${owner.metadata.name}-`,
    namespace: owner.metadata.namespace!,
    labels: { ...template.metadata?.labels, ...labels },
    ownerReferences: [controllerReference(owner, resource)],
  };
  if (template.metadata?.annotations) metadata.annotations = { ...template.metadata.annotations };
  if (template.metadata?.finalizers) metadata.finalizers = [...template.metadata.finalizers];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata,
    spec: structuredClone(template.spec ?? { containers: [] }),
  };
}

/** Creation of a pod with Kubernetes' events. */
export function createPod(owner: KubeObject, pod: Pod): Action {
  return {
    verb: "create",
    resource: PODS,
    object: pod,
    done: { about: owner, type: "Normal", reason: "SuccessfulCreate", message: "Created pod: {name}" },
    failed: { about: owner, type: "Warning", reason: "FailedCreate", message: "Error creating: {error}" },
  };
}

/** The deletion of a pod, with the owner's Event about it. */
export function deletePod(owner: KubeObject, pod: Pod): Action {
  return {
    verb: "delete",
    resource: PODS,
    object: pod,
    done: { about: owner, type: "Normal", reason: "SuccessfulDelete", message: "Deleted pod: {name}" },
    failed: { about: owner, type: "Warning", reason: "FailedDelete", message: "Error deleting: {error}" },
  };
}
