/**
 * The forms in which objects are answered: as they are, as a Table, or as their metadata only; chosen by
 * the Accept header. Pure.
 */
import type { KubeObject } from "../../kube/KubeApi.js";
import { notAcceptable } from "../errors.js";
import type { ResourceDefinition } from "../resource.js";
import type { ListResult } from "../verbs/Verbs.js";
import { groupVersionOf } from "./discovery.js";

/** "application/json;as=Table;v=v1;g=meta.k8s.io" */
export interface MediaType {
  type: string;
  parameters: Record<string, string>;
}

export interface Form {
  as: "object" | "Table" | "PartialObjectMetadata";
  includeObject: "None" | "Metadata" | "Object";
}

export function parseAccept(header: string | undefined): MediaType[] {
  return (header ?? "*/*").split(",").map((part) => {
    const [type, ...rest] = part.trim().split(";");
    const parameters = Object.fromEntries(
      rest.map((each) => each.trim().split("=") as [string, string]).filter(([key]) => key !== "q"),
    );
    return { type: type!.trim().toLowerCase(), parameters };
  });
}

const JSON_TYPES = ["application/json", "application/*", "*/*"];

/** The first form of the header that we have. Throws NotAcceptable. */
export function formOf(accept: string | undefined, includeObject: string | null): Form {
  const include = includeObject === "None" || includeObject === "Object" ? includeObject : "Metadata";
  for (const { type, parameters } of parseAccept(accept)) {
    if (!JSON_TYPES.includes(type)) continue;
    const as = parameters.as;
    if (as === undefined) return { as: "object", includeObject: include };
    if (parameters.g !== "meta.k8s.io" || parameters.v !== "v1") continue;
    if (as === "Table") return { as, includeObject: include };
    if (as === "PartialObjectMetadata" || as === "PartialObjectMetadataList")
      return { as: "PartialObjectMetadata", includeObject: include };
  }
  throw notAcceptable(["application/json"]);
}

export function represent(
  definition: ResourceDefinition,
  object: KubeObject,
  form: Form,
  now: Date,
  columns = true,
): object {
  if (form.as === "object") return object;
  if (form.as === "PartialObjectMetadata") return partial(object);
  const { resourceVersion } = object.metadata;
  return table(definition, [object], { resourceVersion: resourceVersion ?? "" }, form, now, columns);
}

export function representList(
  definition: ResourceDefinition,
  list: ListResult,
  form: Form,
  now: Date,
): object {
  const { items, resourceVersion, remainingItemCount } = list;
  const metadata = {
    resourceVersion,
    ...(list.continue === undefined ? {} : { continue: list.continue }),
    ...(remainingItemCount === undefined ? {} : { remainingItemCount }),
  };
  if (form.as === "Table") return table(definition, items, metadata, form, now, true);
  if (form.as === "PartialObjectMetadata")
    return {
      kind: "PartialObjectMetadataList",
      apiVersion: "meta.k8s.io/v1",
      metadata,
      items: items.map(partial),
    };
  return { kind: definition.listKind, apiVersion: groupVersionOf(definition), metadata, items };
}

/** Tells a watcher how far he is. */
export function bookmark(definition: ResourceDefinition, resourceVersion: string, form: Form): object {
  if (form.as === "Table")
    return {
      kind: "Table",
      apiVersion: "meta.k8s.io/v1",
      metadata: { resourceVersion },
      columnDefinitions: null,
      rows: [],
    };
  const partialForm = form.as === "PartialObjectMetadata";
  return {
    kind: partialForm ? "PartialObjectMetadata" : definition.kind,
    apiVersion: partialForm ? "meta.k8s.io/v1" : groupVersionOf(definition),
    metadata: { resourceVersion, creationTimestamp: null },
  };
}

function table(
  definition: ResourceDefinition,
  objects: KubeObject[],
  metadata: object,
  form: Form,
  now: Date,
  columns: boolean,
): object {
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata,
    // A watch names its columns once.
    columnDefinitions: columns
      ? definition.columns.map((column) => ({ ...column, format: column.format ?? "" }))
      : null,
    rows: objects.map((object) => ({
      cells: definition.row(object, now),
      ...(form.includeObject === "None"
        ? {}
        : { object: form.includeObject === "Object" ? object : partial(object) }),
    })),
  };
}

function partial({ metadata }: KubeObject): object {
  return { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata };
}
