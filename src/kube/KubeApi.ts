/**
 * What everything above the Kubernetes client needs of it: a few verbs over plain objects. The real
 * one (KubeClient) talks HTTPS with @kubernetes/client-node; FakeKube keeps objects in memory with
 * the same rules (resourceVersion, conflicts, watch events). Types only.
 */

/** apiVersion and plural name of a kind of object, e.g. {"group": "apps", "version": "v1", "plural": "daemonsets"}. */
export interface ResourceRef {
  /** "" for the core group. */
  group: string;
  version: string;
  plural: string;
  kind: string;
  namespaced: boolean;
}

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}

export interface ObjectMeta {
  name?: string;
  generateName?: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: OwnerReference[];
}

/** Any Kubernetes object. */
export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
}

export interface ListOptions {
  /** Empty or absent: all namespaces. */
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
}

export type WatchEvent<T> =
  | { type: "ADDED" | "MODIFIED" | "DELETED"; object: T }
  | { type: "BOOKMARK"; resourceVersion: string };

export type PatchKind = "json" | "merge" | "strategic";

/** An error answer of the API: `code` is the HTTP status, `reason` Kubernetes' own ("Conflict", "NotFound", …). */
export interface ApiErrorFields {
  code: number;
  reason: string;
  message: string;
}

/** Every method rejects with KubeError (ApiErrorFields); network trouble has code 0 and reason "Unreachable". */
export interface KubeApi {
  get<T extends KubeObject>(resource: ResourceRef, name: string, namespace?: string): Promise<T>;
  list<T extends KubeObject>(
    resource: ResourceRef,
    options?: ListOptions,
  ): Promise<{ items: T[]; resourceVersion: string }>;
  create<T extends KubeObject>(resource: ResourceRef, object: T): Promise<T>;
  /** Replaces; conflicts (409) where metadata.resourceVersion is given and old. `subresource`: "status". */
  update<T extends KubeObject>(resource: ResourceRef, object: T, subresource?: string): Promise<T>;
  patch<T extends KubeObject>(
    resource: ResourceRef,
    name: string,
    namespace: string | undefined,
    kind: PatchKind,
    patch: unknown,
    subresource?: string,
  ): Promise<T>;
  /** `uid`, `resourceVersion`: preconditions. */
  delete(
    resource: ResourceRef,
    name: string,
    namespace?: string,
    options?: { gracePeriodSeconds?: number; uid?: string; resourceVersion?: string },
  ): Promise<void>;
  /**
   * Watches from a resourceVersion until `signal` aborts (resolves) or the server ends it (resolves) or
   * refuses (rejects; 410 "Expired" asks for a new list). Bookmarks are asked for.
   */
  watch<T extends KubeObject>(
    resource: ResourceRef,
    options: ListOptions & { resourceVersion: string },
    onEvent: (event: WatchEvent<T>) => void,
    signal: AbortSignal,
  ): Promise<void>;
}
