/**
 * Namespaces: those that every cluster has, and the emptying of one that is being deleted. Pure.
 */
import type { KubeObject, ResourceRef } from "../kube/KubeApi.js";
import { NAMESPACES } from "../kube/resources.js";
import type { Namespace } from "../kube/types.js";
import { METALLB_NAMESPACE } from "../model/metallb.js";
import { type Outcome, outcome } from "./actions.js";
import { isTerminating } from "./pods.js";

/** Kubernetes' own, and the one that MetalLB's objects live in. */
export const SYSTEM_NAMESPACES = [
  "default",
  "kube-system",
  "kube-public",
  "kube-node-lease",
  METALLB_NAMESPACE,
] as const;
const NAMESPACE_FINALIZER = "kubernetes";
/** Between two looks at a namespace that is not empty yet. */
const AGAIN_MS = 1000;

export interface NamespaceState {
  namespace: Namespace;
  /** Everything in it, in the order in which it shall go. */
  content: { resource: ResourceRef; objects: readonly KubeObject[] }[];
}

/** Whether a namespace is being deleted and still has our finalizer. */
export function needsEmptying(namespace: Namespace): boolean {
  return isTerminating(namespace) && (namespace.spec?.finalizers ?? []).includes(NAMESPACE_FINALIZER);
}

/** What the deletion of one namespace wants done: its content first, then our finalizer. */
export function reconcileNamespace({ namespace, content }: NamespaceState): Outcome {
  if (!needsEmptying(namespace)) return outcome([]);
  const actions = content.flatMap(({ resource, objects }) =>
    objects
      .filter((object) => !isTerminating(object))
      .map((object) => ({ verb: "delete" as const, resource, object })),
  );
  if (content.some(({ objects }) => objects.length > 0)) return outcome(actions, AGAIN_MS);
  const finalizers = (namespace.spec?.finalizers ?? []).filter((each) => each !== NAMESPACE_FINALIZER);
  return outcome([
    {
      verb: "update",
      resource: NAMESPACES,
      object: { ...namespace, spec: { ...namespace.spec, finalizers } } as Namespace,
      subresource: "finalize",
    },
  ]);
}

/** One of the namespaces that every cluster has, to be created. */
export function systemNamespace(name: string): Namespace {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name } };
}
