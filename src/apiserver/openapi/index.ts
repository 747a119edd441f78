/**
 * The catalog of schemas. The built-in kinds' come from openapi/kubernetes-VERSION.json (see
 * scripts/generate-openapi.mjs), the custom kinds' from customSchemas.ts. The file is read at first use;
 * documents are put together when asked for and not kept.
 */
import type { ResourceDefinition, SchemaCatalog } from "../resource.js";
import { RESOURCES } from "../resources/index.js";
import { Checker, type CheckResult } from "./check.js";
import { CUSTOM_SCHEMAS } from "./customSchemas.js";
import { readData } from "./dataFile.js";
import { pathsOf } from "./paths.js";
import { referenceOf, type Schema } from "./schema.js";

/** The Kubernetes version that the schemas are of. */
const KUBERNETES_VERSION = "v1.32.0";

const GROUP_PREFIXES: Record<string, string> = {
  "": "io.k8s.api.core",
  apps: "io.k8s.api.apps",
  "authentication.k8s.io": "io.k8s.api.authentication",
  "authorization.k8s.io": "io.k8s.api.authorization",
  autoscaling: "io.k8s.api.autoscaling",
  "coordination.k8s.io": "io.k8s.api.coordination",
  "discovery.k8s.io": "io.k8s.api.discovery",
  "events.k8s.io": "io.k8s.api.events",
  "metallb.io": "io.metallb",
  policy: "io.k8s.api.policy",
  "podwire.dev": "dev.podwire",
};
const CUSTOM_GROUPS = new Set(["metallb.io", "podwire.dev"]);
const META_V1 = "io.k8s.apimachinery.pkg.apis.meta.v1";

/** Kinds that every group-version can answer with or be sent. */
const COMMON = [`${META_V1}.Status`, `${META_V1}.DeleteOptions`, `${META_V1}.WatchEvent`];

/** The catalog of what is published, read from openapi/ when it is first asked for. */
export function loadSchemas(): SchemaCatalog {
  return new Catalog();
}

class Catalog implements SchemaCatalog {
  #schemas: Record<string, Schema> | undefined;

  document(groupVersionPath: string): object | undefined {
    const resources = RESOURCES.filter((resource) => pathOf(resource) === groupVersionPath);
    const first = resources[0];
    if (first === undefined) return undefined;
    const custom = CUSTOM_GROUPS.has(first.group);
    const roots = resources.flatMap((resource) => [schemaNameOf(resource), `${schemaNameOf(resource)}List`]);
    if (resources.some((resource) => resource.subresources.scale))
      roots.push("io.k8s.api.autoscaling.v1.Scale");
    if (groupVersionPath === "api/v1")
      roots.push("io.k8s.api.core.v1.Binding", "io.k8s.api.policy.v1.Eviction");
    return {
      openapi: "3.0.0",
      info: { title: "Kubernetes", version: KUBERNETES_VERSION },
      paths: pathsOf(`/${groupVersionPath}`, resources, schemaNameOf, !custom),
      components: { schemas: this.#reachable([...roots, ...COMMON], first.group, first.version) },
    };
  }

  paths(): string[] {
    return [...new Set(RESOURCES.map(pathOf))].sort();
  }

  check(group: string, version: string, kind: string, object: unknown): CheckResult {
    const checker = new Checker((name) => this.#find(name), CUSTOM_GROUPS.has(group));
    return checker.run(schemaName(group, version, kind), object);
  }

  patchStrategy(
    group: string,
    version: string,
    kind: string,
    path: string[],
  ): { strategy: "merge" | "replace" | "retainKeys"; mergeKey?: string } | undefined {
    let schema = this.#find(schemaName(group, version, kind));
    let field: Schema | undefined;
    for (const step of path) {
      field = schema?.properties?.[step] ?? schema?.additionalProperties;
      schema = field === undefined ? undefined : this.#target(field);
    }
    if (field === undefined) return undefined;
    const strategies = field["x-kubernetes-patch-strategy"]?.split(",") ?? [];
    const mergeKey = field["x-kubernetes-patch-merge-key"];
    if (strategies.includes("merge")) return { strategy: "merge", ...(mergeKey ? { mergeKey } : {}) };
    if (strategies.includes("retainKeys")) return { strategy: "retainKeys" };
    return field.type === "array" || strategies.includes("replace") ? { strategy: "replace" } : undefined;
  }

  #find(name: string): Schema | undefined {
    this.#schemas ??= { ...readSchemas(), ...CUSTOM_SCHEMAS };
    return this.#schemas[name];
  }

  /** The schema of a field's value: of the items, for a list. */
  #target(field: Schema): Schema | undefined {
    const inner = field.type === "array" ? field.items : field;
    if (inner === undefined) return undefined;
    const reference = referenceOf(inner);
    return reference === undefined ? inner : this.#find(reference);
  }

  #reachable(roots: string[], group: string, version: string): Record<string, Schema> {
    const found: Record<string, Schema> = {};
    const visit = (name: string): void => {
      const schema = this.#find(name);
      if (schema === undefined || found[name] !== undefined) return;
      found[name] = COMMON.includes(name) ? ofGroup(schema, group, version) : schema;
      for (const reference of references(schema)) visit(reference);
    };
    roots.forEach(visit);
    return Object.fromEntries(Object.entries(found).sort(([a], [b]) => (a < b ? -1 : 1)));
  }
}

/** DeleteOptions and WatchEvent belong to every group-version; Status to v1 alone. */
function ofGroup(schema: Schema, group: string, version: string): Schema {
  const kind = schema["x-kubernetes-group-version-kind"]?.[0]?.kind;
  if (kind === undefined || kind === "Status") return schema;
  return { ...schema, "x-kubernetes-group-version-kind": [{ group, kind, version }] };
}

function* references(schema: Schema): Generator<string> {
  const reference = referenceOf(schema);
  if (reference !== undefined) yield reference;
  const inner = [...Object.values(schema.properties ?? {}), schema.items, schema.additionalProperties];
  for (const part of inner) if (part !== undefined) yield* references(part);
}

function pathOf(resource: ResourceDefinition): string {
  return resource.group === "" ? `api/${resource.version}` : `apis/${resource.group}/${resource.version}`;
}

function schemaName(group: string, version: string, kind: string): string {
  return `${GROUP_PREFIXES[group] ?? group}.${version}.${kind}`;
}

function schemaNameOf(resource: ResourceDefinition): string {
  return schemaName(resource.group, resource.version, resource.kind);
}

function readSchemas(): Record<string, Schema> {
  return (readData(`kubernetes-${KUBERNETES_VERSION}.json`) as { schemas: Record<string, Schema> }).schemas;
}
