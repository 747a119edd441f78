/** The three kinds of patch that the API takes, applied to a plain object. Pure. */
import jsonpatch from "fast-json-patch";
import type { PatchKind } from "../../kube/KubeApi.js";
import { KubeError } from "../../kube/KubeError.js";
import { badRequest } from "../errors.js";
import { type StrategyOf, strategicMerge } from "./strategicMerge.js";

export const PATCH_TYPES: Record<string, PatchKind> = {
  "application/json-patch+json": "json",
  "application/merge-patch+json": "merge",
  "application/strategic-merge-patch+json": "strategic",
};

type JsonMap = Record<string, unknown>;

/** Returns the patched object; `original` stays as it is. */
export function applyPatch(
  original: object,
  kind: PatchKind,
  patch: unknown,
  strategyOf: StrategyOf,
): JsonMap {
  if (kind === "json") return jsonPatch(original, patch);
  if (typeof patch !== "object" || patch === null || Array.isArray(patch))
    throw badRequest("json: cannot unmarshal the patch into Go value of type map[string]interface {}");
  if (kind === "merge") return mergePatch(original, patch) as JsonMap;
  return strategicMerge(original as JsonMap, patch as JsonMap, strategyOf);
}

/** RFC 7386. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const base = typeof target === "object" && target !== null && !Array.isArray(target) ? target : {};
  const merged: JsonMap = { ...base };
  for (const [key, value] of Object.entries(patch))
    if (value === null) delete merged[key];
    else merged[key] = mergePatch(merged[key], value);
  return merged;
}

/** RFC 6902. */
function jsonPatch(original: object, patch: unknown): JsonMap {
  if (!Array.isArray(patch))
    throw badRequest(
      "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch",
    );
  if (patch.length > 10_000)
    throw KubeError.of(
      "BadRequest",
      `The allowed maximum operations in a JSON patch is 10000, got ${patch.length}`,
    );
  try {
    return jsonpatch.applyPatch(structuredClone(original), patch, true).newDocument as JsonMap;
  } catch {
    throw new KubeError(422, "Invalid", "the server rejected our request due to an error in our request", {});
  }
}
