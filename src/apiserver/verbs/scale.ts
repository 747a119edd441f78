/** The scale subresource: an autoscaling/v1 Scale as a window on an object. Pure. */
import type { KubeObject, ObjectMeta } from "../../kube/KubeApi.js";
import { badRequest, conflict, invalid, MODIFIED, methodNotAllowed } from "../errors.js";
import type { ResourceDefinition } from "../resource.js";

type JsonMap = Record<string, unknown>;

/** ".spec.replicas" and "spec.replicas" alike. */
const steps = (path: string) => path.split(".").filter((step) => step !== "");

function at(object: object, path: string): unknown {
  let value: unknown = object;
  for (const step of steps(path)) value = (value as JsonMap | undefined)?.[step];
  return value;
}

export function scaleOf(definition: ResourceDefinition, object: KubeObject): KubeObject {
  const paths = definition.subresources.scale;
  if (paths === undefined) throw methodNotAllowed();
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selector = selectorText(at(object, paths.selector));
  const scale = {
    kind: "Scale",
    apiVersion: "autoscaling/v1",
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp } as ObjectMeta,
    spec: { replicas: (at(object, paths.specReplicas) as number | undefined) ?? 0 },
    status: {
      replicas: (at(object, paths.statusReplicas) as number | undefined) ?? 0,
      ...(selector === "" ? {} : { selector }),
    },
  };
  return scale;
}

/** The object with the replicas of a Scale. `before`: the Scale that a patch started from. */
export function withScale(
  definition: ResourceDefinition,
  object: KubeObject,
  scale: object,
  before: KubeObject | undefined,
): KubeObject {
  const paths = definition.subresources.scale;
  if (paths === undefined) throw methodNotAllowed();
  const { metadata, spec } = scale as { metadata?: ObjectMeta; spec?: { replicas?: unknown } };
  const name = object.metadata.name!;
  if (metadata?.name !== undefined && metadata.name !== name)
    throw badRequest(
      `the name of the object (${metadata.name}) does not match the name on the URL (${name})`,
    );
  const revision = metadata?.resourceVersion;
  if (revision && revision !== (before ?? object).metadata.resourceVersion)
    throw conflict(definition, name, MODIFIED);
  const replicas = spec?.replicas ?? 0;
  if (typeof replicas !== "number" || !Number.isInteger(replicas))
    throw badRequest(
      'Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal into Go struct field ScaleSpec.spec.replicas of type int32',
    );
  if (replicas < 0)
    throw invalid("autoscaling", "Scale", name, [
      {
        type: "FieldValueInvalid",
        field: "spec.replicas",
        detail: `Invalid value: ${replicas}: must be greater than or equal to 0`,
      },
    ]);
  const scaled = structuredClone(object) as unknown as JsonMap;
  const path = steps(paths.specReplicas);
  let parent = scaled;
  for (const step of path.slice(0, -1)) {
    parent[step] ??= {};
    parent = parent[step] as JsonMap;
  }
  parent[path.at(-1)!] = replicas;
  return scaled as unknown as KubeObject;
}

function selectorText(selector: unknown): string {
  if (typeof selector === "string") return selector;
  const { matchLabels, matchExpressions } = (selector ?? {}) as {
    matchLabels?: Record<string, string>;
    matchExpressions?: { key: string; operator: string; values?: string[] }[];
  };
  const parts = Object.entries(matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  for (const { key, operator, values = [] } of matchExpressions ?? []) {
    if (operator === "In") parts.push(`${key} in (${values.join(",")})`);
    else if (operator === "NotIn") parts.push(`${key} notin (${values.join(",")})`);
    else parts.push(operator === "Exists" ? key : `!${key}`);
  }
  return parts.sort().join(",");
}
