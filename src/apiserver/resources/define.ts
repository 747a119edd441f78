/**
 * Makes a ResourceDefinition out of what is peculiar to a kind. The rest is the same for all: metadata,
 * keeping status and spec apart, counting generations.
 */
import type { KubeObject } from "../../kube/KubeApi.js";
import type {
  FieldError,
  RequestContext,
  ResourceDefinition,
  ReviewContext,
  TableColumn,
} from "../resource.js";
import { age } from "./format.js";
import { type Loose, loose, sameJson } from "./loose.js";
import { validateMetadata } from "./metadata.js";
import { isDnsSubdomain, type NameCheck } from "./names.js";

/** What a kind says of itself; everything but its names may be absent. */
export interface KindOptions {
  group: string;
  version: string;
  kind: string;
  plural: string;
  singular?: string;
  shortNames?: string[];
  categories?: string[];
  namespaced: boolean;
  verbs?: readonly string[];
  /** The kind is a question; its answer. */
  review?(object: Loose, context: ReviewContext): KubeObject;
  /** Has a /status, whose writes leave all but status and metadata alone, and the other way round. */
  status?: boolean;
  /** A create may bring its status. */
  statusOnCreate?: boolean;
  scale?: { specReplicas: string; statusReplicas: string; selector: string };
  /** metadata.generation counts changes of these fields; none: not counted. */
  generationOf?: string[];
  /** … and changes of the annotations. */
  generationOfAnnotations?: boolean;
  name?: NameCheck;
  defaults?(object: Loose): void;
  /** After the common part, on create and on update. */
  prepareCreate?(object: Loose): void;
  prepareUpdate?(object: Loose, old: Loose): void;
  /** After the common part of a status write. */
  prepareStatus?(object: Loose): void;
  validate?(object: Loose, old: Loose | undefined, context: RequestContext): FieldError[];
  selectable?(object: Loose): Record<string, string>;
  columns?: TableColumn[];
  row?(object: Loose, now: Date): (string | number | boolean)[];
  gracePeriod?(object: Loose): number | null;
}

export const NAME_COLUMN: TableColumn = {
  name: "Name",
  type: "string",
  format: "name",
  description: "Name must be unique within a namespace.",
  priority: 0,
};

export const AGE_COLUMN: TableColumn = {
  name: "Age",
  type: "string",
  description: "CreationTimestamp is a timestamp representing the server time when this object was created.",
  priority: 0,
};

export function column(
  name: string,
  description: string,
  type: TableColumn["type"] = "string",
  priority = 0,
): TableColumn {
  return { name, type, description, priority };
}

/** A column of -o wide. */
export function wide(name: string, description: string): TableColumn {
  return column(name, description, "string", 1);
}

export function defineResource(options: KindOptions): ResourceDefinition {
  const name = options.name ?? isDnsSubdomain;
  const counted = options.generationOf ?? [];

  function prepareCreate(object: Loose): void {
    if (options.status && !options.statusOnCreate) delete object.status;
    delete object.metadata.deletionTimestamp;
    delete object.metadata.deletionGracePeriodSeconds;
    if (counted.length > 0) object.metadata.generation = 1;
    else delete object.metadata.generation;
    options.prepareCreate?.(object);
  }

  function prepareUpdate(object: Loose, old: Loose): void {
    keepServerMetadata(object.metadata, old.metadata);
    if (options.status) keep(object, old, "status");
    options.prepareUpdate?.(object, old);
    if (counted.length === 0) keep(object.metadata, old.metadata, "generation");
    else {
      const changed =
        counted.some((field) => !sameJson(object[field], old[field])) ||
        (options.generationOfAnnotations === true &&
          !sameJson(object.metadata.annotations ?? {}, old.metadata.annotations ?? {}));
      object.metadata.generation = (old.metadata.generation ?? 0) + (changed ? 1 : 0);
    }
  }

  /** Only status, labels, annotations and finalizers of a status write count. */
  function prepareStatus(object: Loose, old: Loose): void {
    keepServerMetadata(object.metadata, old.metadata);
    keep(object.metadata, old.metadata, "generation");
    keep(object.metadata, old.metadata, "ownerReferences");
    for (const field of new Set([...Object.keys(object), ...Object.keys(old)])) {
      if (!["apiVersion", "kind", "metadata", "status"].includes(field)) keep(object, old, field);
    }
    options.prepareStatus?.(object);
  }

  return {
    group: options.group,
    version: options.version,
    kind: options.kind,
    listKind: `${options.kind}List`,
    plural: options.plural,
    singular: options.singular ?? options.kind.toLowerCase(),
    shortNames: options.shortNames ?? [],
    categories: options.categories ?? [],
    namespaced: options.namespaced,
    subresources: {
      ...(options.status ? { status: true } : {}),
      ...(options.scale ? { scale: options.scale } : {}),
    },
    ...(options.verbs ? { verbs: options.verbs } : {}),
    ...(options.review ? { review: options.review } : {}),
    applyDefaults(object: KubeObject): void {
      options.defaults?.(loose(object));
    },
    prepare(object, old, subresource): void {
      if (old === undefined) prepareCreate(loose(object));
      else if (subresource === "status") prepareStatus(loose(object), loose(old));
      else prepareUpdate(loose(object), loose(old));
    },
    validate(object, old, context): FieldError[] {
      return [
        ...validateMetadata(object, old, options.namespaced, name),
        ...(options.validate?.(loose(object), old === undefined ? undefined : loose(old), context) ?? []),
      ];
    },
    selectableFields(object): Record<string, string> {
      return options.selectable?.(loose(object)) ?? {};
    },
    columns: options.columns ?? [NAME_COLUMN, AGE_COLUMN],
    row(object, now): (string | number | boolean)[] {
      return options.row?.(loose(object), now) ?? [object.metadata.name ?? "", age(object, now)];
    },
    gracePeriod(object): number | null {
      return options.gracePeriod?.(loose(object)) ?? null;
    },
  };
}

/** What only the server writes; a client may leave it out but not change it by leaving it out. */
function keepServerMetadata(meta: Loose, old: Loose): void {
  for (const field of ["deletionTimestamp", "deletionGracePeriodSeconds", "generateName"]) {
    keep(meta, old, field);
  }
  for (const field of ["uid", "creationTimestamp"]) {
    if (!meta[field]) keep(meta, old, field);
  }
}

function keep(to: Loose, from: Loose, field: string): void {
  if (from[field] === undefined) delete to[field];
  else to[field] = from[field];
}
