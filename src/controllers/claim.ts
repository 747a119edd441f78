/**
 * Which objects belong to a controller: those it owns and whose labels it selects. Orphans that match
 * are adopted, owned ones that no longer match are let go. Pure.
 */
import type { KubeObject, ResourceRef } from "../kube/KubeApi.js";
import { matchesSelector } from "../kube/selectors.js";
import type { LabelSelector } from "../kube/types.js";
import type { Action } from "./actions.js";
import { controllerOf, controllerReference } from "./meta.js";
import { isTerminating } from "./pods.js";

export function claim<T extends KubeObject>(
  owner: KubeObject,
  ownerResource: ResourceRef,
  selector: LabelSelector | undefined,
  resource: ResourceRef,
  candidates: Iterable<T>,
): { owned: T[]; actions: Action[] } {
  const owned: T[] = [];
  const actions: Action[] = [];
  for (const object of candidates) {
    const controller = controllerOf(object);
    if (controller && controller.uid !== owner.metadata.uid) continue;
    const matches = matchesSelector(selector, object.metadata.labels);
    if (controller && matches) owned.push(object);
    else if (controller && !isTerminating(owner))
      actions.push(
        references(resource, object, (all) => all.filter(({ uid }) => uid !== owner.metadata.uid)),
      );
    else if (!controller && matches && !isTerminating(owner) && !isTerminating(object)) {
      actions.push(
        references(resource, object, (all) => [...all, controllerReference(owner, ownerResource)]),
      );
      owned.push(object);
    }
  }
  return { owned, actions };
}

type References = NonNullable<KubeObject["metadata"]["ownerReferences"]>;

function references(
  resource: ResourceRef,
  object: KubeObject,
  change: (all: References) => References,
): Action {
  return {
    verb: "patch",
    resource,
    object,
    kind: "merge",
    patch: {
      metadata: { uid: object.metadata.uid, ownerReferences: change(object.metadata.ownerReferences ?? []) },
    },
  };
}
