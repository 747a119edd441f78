/**
 * Patches of plain objects: JSON patch (RFC 6902), merge patch (RFC 7386), and the part of strategic
 * merge patch that podwire's own objects need: lists merged by key where Kubernetes merges them, and
 * the $patch: delete directive. Pure; inputs stay as they are.
 */
import jsonPatch, { type Operation } from "fast-json-patch";
import type { PatchKind } from "./KubeApi.js";
import { KubeError } from "./KubeError.js";

type Json = Record<string, unknown>;

/** Merge keys of lists by field name, as in Kubernetes' types (patchMergeKey). */
const MERGE_KEYS: Record<string, string> = {
  conditions: "type",
  addresses: "type",
  containers: "name",
  initContainers: "name",
  env: "name",
  volumes: "name",
  volumeMounts: "mountPath",
  ownerReferences: "uid",
  taints: "key",
  podIPs: "ip",
};

/** The object after the patch. Throws a KubeError where the patch does not fit. */
export function applyPatch<T>(object: T, kind: PatchKind, patch: unknown): T {
  if (kind === "json") return applyJsonPatch(object, patch);
  if (!isMap(patch)) throw KubeError.of("BadRequest", "a patch of this kind must be an object");
  return merge(object, patch, kind === "strategic") as T;
}

function applyJsonPatch<T>(object: T, patch: unknown): T {
  try {
    return jsonPatch.applyPatch(object, patch as Operation[], true, false).newDocument;
  } catch (error) {
    const { name, message } = error as Error;
    // "the server rejected our request due to an error in our request" is kubectl's word for both.
    throw name === "TEST_OPERATION_FAILED"
      ? KubeError.of("Invalid", `testing value failed: ${message.split("\n")[0]}`)
      : KubeError.of("Invalid", `the patch cannot be applied: ${message.split("\n")[0]}`);
  }
}

function merge(target: unknown, patch: Json, strategic: boolean): Json {
  const result: Json = isMap(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else if (isMap(value)) result[key] = merge(result[key], value, strategic);
    else if (strategic && Array.isArray(value)) result[key] = mergeList(key, result[key], value);
    else result[key] = value;
  }
  return result;
}

function mergeList(field: string, target: unknown, patch: unknown[]): unknown[] {
  const old = Array.isArray(target) ? target : [];
  if (field === "finalizers") return [...new Set([...old, ...patch])];
  const key = MERGE_KEYS[field] ?? (field === "ports" ? portKey(patch) : undefined);
  if (key === undefined || !patch.every(isMap)) return patch;
  const result = [...old] as Json[];
  for (const item of patch as Json[]) {
    if (item.$patch === "replace") return (patch as Json[]).filter((each) => each.$patch === undefined);
    const at = result.findIndex((each) => each[key] === item[key]);
    if (item.$patch === "delete") {
      if (at >= 0) result.splice(at, 1);
    } else if (at >= 0) result[at] = merge(result[at], item, true);
    else result.push(merge({}, item, true));
  }
  return result;
}

/** Services merge ports by "port", containers by "containerPort". */
function portKey(patch: unknown[]): string {
  return patch.some((each) => isMap(each) && "containerPort" in each) ? "containerPort" : "port";
}

function isMap(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
