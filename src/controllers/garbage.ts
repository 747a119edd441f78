/**
 * Garbage collection by ownerReferences. Pure.
 *   background   the owner is gone: its dependents follow
 *   foreground   the owner waits with a finalizer until the dependents that block it are gone
 *   orphan       the owner waits with a finalizer until the dependents have forgotten it
 */
import type { KubeObject, OwnerReference, ResourceRef } from "../kube/KubeApi.js";
import { type Action, type Outcome, outcome } from "./actions.js";
import { isTerminating } from "./pods.js";

export const FOREGROUND = "foregroundDeletion";
export const ORPHAN = "orphan";

export interface Item {
  resource: ResourceRef;
  object: KubeObject;
}

export interface GarbageState extends Item {
  /** "waiting": being deleted in the foreground. "unknown": of a kind that is not watched; counts as there. */
  owners: { reference: OwnerReference; state: "solid" | "absent" | "waiting" | "unknown" }[];
  /** Objects with an ownerReference to this one. */
  dependents: Item[];
}

export function collect({ resource, object, owners, dependents }: GarbageState): Outcome {
  const finalizers = object.metadata.finalizers ?? [];
  if (isTerminating(object)) {
    if (finalizers.includes(ORPHAN))
      return outcome([
        ...dependents.map((dependent) => dropOwners(dependent, (uid) => uid === object.metadata.uid)),
        dropFinalizer(resource, object, ORPHAN),
      ]);
    if (finalizers.includes(FOREGROUND)) {
      const blocking = dependents.some(({ object: dependent }) =>
        dependent.metadata.ownerReferences?.some(
          ({ uid, blockOwnerDeletion }) => uid === object.metadata.uid && blockOwnerDeletion,
        ),
      );
      // The dependents are looked at by themselves: they see their owner waiting.
      return outcome(blocking ? [] : [dropFinalizer(resource, object, FOREGROUND)]);
    }
    return outcome([]);
  }
  if (owners.length === 0) return outcome([]);
  const gone = owners.filter(({ state }) => state === "absent" || state === "waiting");
  if (gone.length === 0) return outcome([]);
  if (gone.length < owners.length) {
    const uids = new Set(gone.map(({ reference }) => reference.uid));
    return outcome([dropOwners({ resource, object }, (uid) => uids.has(uid))]);
  }
  const foreground = owners.some(({ state }) => state === "waiting") && dependents.length > 0;
  const actions: Action[] = [];
  if (foreground && !finalizers.includes(FOREGROUND))
    actions.push({
      verb: "patch",
      resource,
      object,
      kind: "merge",
      patch: { metadata: { uid: object.metadata.uid, finalizers: [...finalizers, FOREGROUND] } },
    });
  actions.push({ verb: "delete", resource, object });
  return outcome(actions);
}

/** Changes metadata of this very object, as it was seen: uid and resourceVersion are preconditions. */
function patchMetadata(resource: ResourceRef, object: KubeObject, change: object): Action {
  const { uid, resourceVersion } = object.metadata;
  return {
    verb: "patch",
    resource,
    object,
    kind: "merge",
    patch: { metadata: { uid, resourceVersion, ...change } },
  };
}

function dropOwners({ resource, object }: Item, drop: (uid: string) => boolean): Action {
  const left = (object.metadata.ownerReferences ?? []).filter(({ uid }) => !drop(uid));
  return patchMetadata(resource, object, { ownerReferences: left.length > 0 ? left : null });
}

function dropFinalizer(resource: ResourceRef, object: KubeObject, finalizer: string): Action {
  const left = (object.metadata.finalizers ?? []).filter((each) => each !== finalizer);
  return patchMetadata(resource, object, { finalizers: left.length > 0 ? left : null });
}
