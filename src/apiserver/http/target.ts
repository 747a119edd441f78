/** The URL grammar of the Kubernetes API: which kind, which object, which subresource. Pure. */
import type { ResourceDefinition } from "../resource.js";

export interface Target {
  definition: ResourceDefinition;
  namespace: string | undefined;
  name: string | undefined;
  subresource: string;
  /** /api/v1/watch/…, the old form of ?watch=1. */
  watch: boolean;
}

/** undefined where the path is about no kind that is served. */
export function targetOf(path: string, definitions: readonly ResourceDefinition[]): Target | undefined {
  const parts = path.split("/").slice(1).map(decode);
  const root = parts.shift();
  const group = root === "apis" ? parts.shift() : root === "api" ? "" : undefined;
  const version = parts.shift();
  if (group === undefined || version === undefined) return undefined;
  const watch = parts[0] === "watch";
  if (watch) parts.shift();
  const find = (plural: string | undefined) =>
    definitions.find((each) => each.group === group && each.version === version && each.plural === plural);
  // /namespaces/NAME/status is about the namespace itself, /namespaces/NAME/pods about what is in it.
  if (parts[0] === "namespaces" && parts.length >= 3) {
    const definition = find(parts[2]);
    if (definition?.namespaced) return target(definition, parts[1], parts.slice(3), watch);
  }
  const definition = find(parts[0]);
  return definition === undefined ? undefined : target(definition, undefined, parts.slice(1), watch);
}

function target(
  definition: ResourceDefinition,
  namespace: string | undefined,
  rest: string[],
  watch: boolean,
): Target | undefined {
  const [name, ...subresource] = rest.filter((part) => part !== "");
  if (definition.namespaced && namespace === undefined && name !== undefined) return undefined;
  return { definition, namespace, name, subresource: subresource.join("/"), watch };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
