/** Objects as a server would take them in: defaults, preparation, validation. */
import type { RequestContext, ResourceDefinition } from "../../../../src/apiserver/resource.js";
import type { Loose } from "../../../../src/apiserver/resources/loose.js";

export const NOW = new Date("2024-05-01T12:00:00Z");

const CONTEXT: RequestContext = {
  now: NOW,
  user: "kubernetes-admin",
  groups: ["system:masters"],
  lookup: () => undefined,
};

/** Created with defaults; asserts nothing about its validity. */
export function created(definition: ResourceDefinition, object: Loose): Loose {
  const copy = structuredClone(object);
  copy.metadata.namespace ??= definition.namespaced ? "default" : undefined;
  if (!definition.namespaced) delete copy.metadata.namespace;
  definition.applyDefaults(copy);
  definition.prepare(copy, undefined, "");
  copy.metadata.creationTimestamp ??= "2024-05-01T11:55:00Z";
  return copy;
}

/** `old` after an update that `change` makes to it. */
export function updated(definition: ResourceDefinition, old: Loose, change: (object: Loose) => void): Loose {
  const copy = structuredClone(old);
  change(copy);
  definition.applyDefaults(copy);
  definition.prepare(copy, structuredClone(old), "");
  return copy;
}

/** Faults as kubectl prints them. */
export function faults(definition: ResourceDefinition, object: Loose, old?: Loose): string[] {
  return definition.validate(object, old, CONTEXT).map(({ field, detail }) => `${field}: ${detail}`);
}

/** Faults of creating an object. */
export function refused(definition: ResourceDefinition, object: Loose): string[] {
  return faults(definition, created(definition, object));
}

/** Cells of the columns that `kubectl get` prints, without and with -o wide. */
export function cells(definition: ResourceDefinition, object: Loose, wide = false): unknown[] {
  const row = definition.row(object, NOW);
  return row.filter((_, i) => wide || definition.columns[i]!.priority === 0);
}

export function headers(definition: ResourceDefinition, wide = false): string[] {
  return definition.columns
    .filter((column) => wide || column.priority === 0)
    .map((column) => column.name.toUpperCase());
}
