/**
 * A DaemonSet's history: one ControllerRevision per template that it has had, numbered upwards, the newest
 * of which is the present one. `kubectl rollout history | undo` reads them. Pure.
 */
import { CONTROLLERREVISIONS, DAEMONSETS } from "../kube/resources.js";
import type { ControllerRevision, DaemonSet, Pod, PodTemplateSpec } from "../kube/types.js";
import type { Action } from "./actions.js";
import { claim } from "./claim.js";
import { canonicalJson, controllerReference, sameJson, templateHash } from "./meta.js";

/** Label of pods and revisions that ties them together. */
export const REVISION_LABEL = "controller-revision-hash";
/** spec.revisionHistoryLimit, where it is not set. */
const DEFAULT_LIMIT = 10;

export interface History {
  /** Value of the pods' label for the present template. */
  hash: string;
  actions: Action[];
  /** The hash belongs to another template: nothing can be done before status.collisionCount is one more. */
  collided: boolean;
}

/**
 * The present template's revision, made or moved to the top where it is not there, and the end of those
 * that are too many. `revisions`: at least those of the namespace that it owns or that nobody does;
 * `pods`: its own.
 */
export function historyOf(
  daemonSet: DaemonSet,
  revisions: Iterable<ControllerRevision>,
  pods: readonly Pod[],
): History {
  const all = [...revisions];
  const spec = daemonSet.spec!;
  const { owned, actions } = claim(daemonSet, DAEMONSETS, spec.selector, CONTROLLERREVISIONS, all);
  const data = snapshot(spec.template);
  const present = owned
    .filter((each) => sameJson(each.data, data))
    .sort(byRevision)
    .at(-1);
  const old = owned.filter((each) => each !== present).sort(byRevision);
  const next = (old.at(-1)?.revision ?? 0) + 1;
  let hash = present?.metadata.labels?.[REVISION_LABEL];
  if (present === undefined || hash === undefined) {
    hash = templateHash(spec.template, daemonSet.status?.collisionCount ?? 0);
    const name = `${daemonSet.metadata.name}-${hash}`;
    if (all.some(({ metadata }) => metadata.name === name)) return { hash, actions: [], collided: true };
    const { annotations } = daemonSet.metadata;
    const object: ControllerRevision = {
      apiVersion: "apps/v1",
      kind: "ControllerRevision",
      metadata: {
        name,
        namespace: daemonSet.metadata.namespace!,
        labels: { ...spec.template.metadata?.labels, [REVISION_LABEL]: hash },
        ...(annotations === undefined ? {} : { annotations }),
        ownerReferences: [controllerReference(daemonSet, DAEMONSETS)],
      },
      data,
      revision: next,
    };
    actions.push({ verb: "create", resource: CONTROLLERREVISIONS, object });
  } else if (present.revision < next)
    actions.push({
      verb: "patch",
      resource: CONTROLLERREVISIONS,
      object: present,
      kind: "merge",
      patch: { metadata: { uid: present.metadata.uid }, revision: next },
    });
  actions.push(...surplus(old, pods, spec.revisionHistoryLimit ?? DEFAULT_LIMIT));
  return { hash, actions, collided: false };
}

/**
 * The patch that goes back to this template. kubectl compares its text with what Go's encoder makes of the
 * DaemonSet's template (`rollout undo` to the present revision is skipped): keys in order, and a
 * creationTimestamp always.
 */
function snapshot(template: PodTemplateSpec): object {
  const metadata = { ...template.metadata, creationTimestamp: null };
  return JSON.parse(
    canonicalJson({ spec: { template: { ...template, metadata, $patch: "replace" } } }),
  ) as object;
}

/** Deletions of the oldest beyond the limit, without those that a pod still runs by. */
function surplus(old: readonly ControllerRevision[], pods: readonly Pod[], limit: number): Action[] {
  const live = new Set(pods.map(({ metadata }) => metadata.labels?.[REVISION_LABEL]));
  return old
    .slice(0, Math.max(0, old.length - limit))
    .filter(({ metadata }) => !live.has(metadata.labels?.[REVISION_LABEL]))
    .map((object): Action => ({ verb: "delete", resource: CONTROLLERREVISIONS, object }));
}

function byRevision(a: ControllerRevision, b: ControllerRevision): number {
  return a.revision - b.revision;
}
