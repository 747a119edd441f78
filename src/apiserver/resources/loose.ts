/**
 * Objects as the strategies see them. What arrives here has passed the schema check (openapi/), so every
 * field is absent or of its declared type; the strategies only ask what a schema cannot say.
 */
import type { KubeObject } from "../../kube/KubeApi.js";

// biome-ignore lint/suspicious/noExplicitAny: types were verified against the published schema
export type Loose = any;

/** The object without its static type. */
export function loose(object: KubeObject): Loose {
  return object;
}

/** Deep equality of JSON values; an absent field equals null and an undefined one. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (a === undefined || a === null || b === undefined || b === null) return (a ?? null) === (b ?? null);
  if (typeof a !== "object" || typeof b !== "object") return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((item, i) => sameJson(item, b[i]));
  }
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  for (const key of Object.keys(left)) if (!sameJson(left[key], right[key])) return false;
  for (const key of Object.keys(right)) if (!(key in left) && !sameJson(undefined, right[key])) return false;
  return true;
}

/** Sets `object[field]` where it is absent, null or (for strings) empty. */
export function setDefault(object: Loose, field: string, value: unknown): void {
  const now = object[field];
  if (now === undefined || now === null || (now === "" && typeof value === "string")) object[field] = value;
}

/** Empty for an absent list. */
export function items(list: Loose): Loose[] {
  return Array.isArray(list) ? list : [];
}
