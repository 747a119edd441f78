/**
 * Where others take part in writes, all synchronous and within the transaction that writes:
 * admission (who may write what, beyond the verb) and allocation (what the server fills in and must give
 * back if the write fails). Types only.
 */
import type { KubeObject } from "../../kube/KubeApi.js";
import type { FieldError, ResourceDefinition } from "../resource.js";

/** Who asks. */
export interface User {
  name: string;
  groups: string[];
}

/** Read access to the latest state, written but not yet durable objects included. */
export interface View {
  get(group: string, plural: string, namespace: string | undefined, name: string): KubeObject | undefined;
  list(group: string, plural: string): KubeObject[];
}

export interface AdmissionRequest {
  operation: "CREATE" | "UPDATE" | "DELETE";
  definition: ResourceDefinition;
  subresource: "" | "status" | "scale" | "binding" | "finalize";
  /** As it would be written; undefined for DELETE. */
  object: KubeObject | undefined;
  /** As it is; undefined for CREATE. */
  old: KubeObject | undefined;
  user: User;
  view: View;
}

/** Throws a KubeError (usually Forbidden) to refuse a write. Changes nothing. */
export type Admission = (request: AdmissionRequest) => void;

/** What the server hands out with an object: addresses and ports of a Service. */
export interface Allocator {
  group: string;
  plural: string;
  /** After defaults, before validation. In place. */
  prepare?(object: KubeObject, old: KubeObject | undefined): void;
  /** After validation. Fills in what is missing, in place; changes nothing where it returns faults. */
  allocate(object: KubeObject, old: KubeObject | undefined): FieldError[];
  /** The write did not happen after all (or was a dry run). */
  revert(object: KubeObject, old: KubeObject | undefined): void;
  /** An update was written. */
  committed(object: KubeObject, old: KubeObject): void;
  /** The object is gone. */
  release(object: KubeObject): void;
  /** At start: what is there already. */
  rebuild(objects: KubeObject[]): void;
}
