/**
 * What a reconcile core asks for. The cores only compute; Runner carries these out in order, and a
 * failed one ends the rest (the key is tried again later).
 */
import type { KubeObject, PatchKind, ResourceRef } from "../kube/KubeApi.js";

/** An event to write about an object. `{name}` is the created object's name, `{error}` the refusal. */
export interface EventText {
  about: KubeObject;
  type: "Normal" | "Warning";
  reason: string;
  message: string;
}

export type Action =
  | { verb: "create"; resource: ResourceRef; object: KubeObject; done?: EventText; failed?: EventText }
  | { verb: "update"; resource: ResourceRef; object: KubeObject; subresource?: string; done?: EventText }
  | {
      verb: "patch";
      resource: ResourceRef;
      /** Whose name and namespace; a Conflict where its uid is another's. */
      object: KubeObject;
      kind: PatchKind;
      patch: unknown;
      subresource?: string;
      done?: EventText;
    }
  | {
      verb: "delete";
      resource: ResourceRef;
      object: KubeObject;
      gracePeriodSeconds?: number;
      done?: EventText;
      failed?: EventText;
    }
  | { verb: "event"; event: EventText };

/** Result of a reconcile core. */
export interface Outcome {
  actions: Action[];
  /** Look again after this long, though nothing changed. */
  againAfterMs?: number;
}

/** The sooner of two moments to look again. */
export function sooner(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined) return b;
  return b === undefined ? a : Math.min(a, b);
}

export function outcome(actions: Action[], againAfterMs?: number): Outcome {
  return againAfterMs === undefined ? { actions } : { actions, againAfterMs };
}
