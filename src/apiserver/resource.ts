/**
 * What the API server knows of a kind of object. The registry (resources/) holds one definition per
 * kind; verbs, storage, discovery, OpenAPI and tables are generic over it. Types only.
 */
import type { KubeObject } from "../kube/KubeApi.js";

/** A fault in an object, as Kubernetes words it (k8s.io/apimachinery/pkg/util/validation/field). */
export interface FieldError {
  /** "FieldValueInvalid", "FieldValueRequired", "FieldValueNotSupported", "FieldValueForbidden", "FieldValueDuplicate", "FieldValueTooLong", "FieldValueTypeInvalid" … */
  type: string;
  /** "spec.ports[0].nodePort" */
  field: string;
  /** Whole text behind the field: "Invalid value: 80: provided port is not in the valid range. …" */
  detail: string;
}

/** A column of a Table (meta.k8s.io/v1). */
export interface TableColumn {
  name: string;
  type: "string" | "integer" | "number" | "date" | "boolean";
  format?: string;
  description: string;
  /** 0: always; > 0: only with -o wide. */
  priority: number;
}

/** Request context for strategies. */
export interface RequestContext {
  /** Wall clock. */
  now: Date;
  /** Name of the user, and groups. */
  user: string;
  groups: string[];
  /** Other objects: read-only access for cross-object validation and allocation. */
  lookup(plural: string, group: string, namespace: string | undefined, name: string): KubeObject | undefined;
}

/** What the answer to a question (ResourceDefinition.review) rests on. */
export interface ReviewContext {
  user: { name: string; groups: string[] };
  /** Every kind that is served. */
  definitions: readonly ResourceDefinition[];
  /** The pods that are bound to a node, of one namespace. */
  podsOn(node: string, namespace: string): readonly KubeObject[];
}

export interface ResourceDefinition {
  group: string;
  version: string;
  kind: string;
  listKind: string;
  plural: string;
  singular: string;
  shortNames: string[];
  categories: string[];
  namespaced: boolean;
  subresources: {
    status?: boolean;
    scale?: { specReplicas: string; statusReplicas: string; selector: string };
  };
  /** Kubernetes' verbs that the kind has; all where absent. */
  verbs?: readonly string[];
  /** A kind that is a question: what a create answers. Nothing is stored. Throws a KubeError. */
  review?(object: KubeObject, context: ReviewContext): KubeObject;
  /** The objects are kept as another kind's: another version of the same. Both functions leave their argument alone. */
  stored?: {
    definition: ResourceDefinition;
    toStored(object: KubeObject): KubeObject;
    fromStored(object: KubeObject): KubeObject;
  };
  /** Fills in defaults, in place, after decoding (SetDefaults_* of Kubernetes). */
  applyDefaults(object: KubeObject): void;
  /** Clears what clients may not set, keeps status from the old object, counts generation. `old`: undefined on create. In place. */
  prepare(object: KubeObject, old: KubeObject | undefined, subresource: "" | "status"): void;
  /** All faults; empty for none. */
  validate(object: KubeObject, old: KubeObject | undefined, context: RequestContext): FieldError[];
  /** Field selectors beyond metadata.name and metadata.namespace: name to value. */
  selectableFields(object: KubeObject): Record<string, string>;
  columns: TableColumn[];
  /** Cells of one row, in the order of `columns`. */
  row(object: KubeObject, now: Date): (string | number | boolean)[];
  /** Graceful deletion: seconds for this object unless the request says otherwise; null: at once. */
  gracePeriod(object: KubeObject): number | null;
}

/** OpenAPI v3 schemas and strict decoding, generated from the published API types. */
export interface SchemaCatalog {
  /** Document of /openapi/v3/<path>, e.g. "api/v1" or "apis/apps/v1", as JSON. */
  document(groupVersionPath: string): object | undefined;
  /** Group-version paths that have documents. */
  paths(): string[];
  /**
   * Checks an object against its kind's schema: unknown and duplicate fields (for fieldValidation
   * Strict and Warn: 'unknown field "spec.prots"') and wrong types (always an error). Does not change it.
   */
  check(
    group: string,
    version: string,
    kind: string,
    object: unknown,
  ): { unknown: string[]; invalid: FieldError[] };
  /** Merge key and strategy of a list or map field for strategic merge patch; path of field names from the kind's root. */
  patchStrategy(
    group: string,
    version: string,
    kind: string,
    path: string[],
  ): { strategy: "merge" | "replace" | "retainKeys"; mergeKey?: string } | undefined;
}
