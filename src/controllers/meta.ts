/** Small helpers over metadata: keys, owners, equality, hashes, times. Pure. */
import type { KubeObject, OwnerReference, ResourceRef } from "../kube/KubeApi.js";
import { apiVersionOf } from "../kube/resources.js";

/** "namespace/name", or "name" for what has no namespace. */
export function keyOf({ metadata }: KubeObject): string {
  return metadata.namespace ? `${metadata.namespace}/${metadata.name}` : metadata.name!;
}

/** The owner that manages this object, if any. */
export function controllerOf(object: KubeObject): OwnerReference | undefined {
  return object.metadata.ownerReferences?.find(({ controller }) => controller === true);
}

export function controllerReference(owner: KubeObject, resource: ResourceRef): OwnerReference {
  return {
    apiVersion: apiVersionOf(resource),
    kind: resource.kind,
    name: owner.metadata.name!,
    uid: owner.metadata.uid!,
    controller: true,
    blockOwnerDeletion: true,
  };
}

/** Time as Kubernetes writes it: "2024-05-01T10:00:00Z". */
export function timestamp(ms: number): string {
  return new Date(Math.floor(ms / 1000) * 1000).toISOString().replace(".000Z", "Z");
}

export function millisecondsOf(time: string | undefined): number {
  return time === undefined ? 0 : Date.parse(time);
}

/** Equal as JSON: an undefined field is no field, order of keys does not count. */
export function sameJson(a: unknown, b: unknown): boolean {
  return canonicalJson(a) === canonicalJson(b);
}

/** JSON with keys in order. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    part !== null && typeof part === "object" && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

/** Letters and digits that spell no words, as Kubernetes uses them. */
const SAFE = "bcdfghjklmnpqrstvwxz2456789";

/** Five random letters for a generated name. */
export function randomSuffix(random: () => number): string {
  return Array.from({ length: 5 }, () => SAFE[Math.floor(random() * SAFE.length)]).join("");
}

/**
 * Short hash of a pod template (FNV-1a, 32 bits, in safe letters). Kubernetes hashes a dump of its Go
 * structure, which nobody else can: equality of templates is decided by comparing them, not by this.
 */
export function templateHash(template: unknown, collisions = 0): string {
  let hash = 0x811c9dc5;
  const text = canonicalJson(template) + (collisions > 0 ? String(collisions) : "");
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return Array.from(String(hash >>> 0), (digit) => SAFE[digit.charCodeAt(0) % SAFE.length]).join("");
}

/** A count that may be a percentage of a whole: 25% of 10 is 3 rounded up, 2 rounded down. */
export function scaled(value: number | string | undefined, whole: number, round: "up" | "down"): number {
  if (value === undefined) return 0;
  if (typeof value === "number") return value;
  const part = (Number.parseInt(value, 10) * whole) / 100;
  return round === "up" ? Math.ceil(part) : Math.floor(part);
}
