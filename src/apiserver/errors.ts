/** Errors of the API in Kubernetes' own words (k8s.io/apimachinery/pkg/api/errors). */
import { KubeError, type StatusBody } from "../kube/KubeError.js";
import type { FieldError } from "./resource.js";

/** Group and plural, as errors name a kind of object. */
export interface GroupResource {
  group: string;
  plural: string;
}

const qualified = ({ group, plural }: GroupResource) => (group === "" ? plural : `${plural}.${group}`);

function details({ group, plural }: GroupResource, name: string, more: object = {}): StatusBody["details"] {
  return {
    ...(name === "" ? {} : { name }),
    ...(group === "" ? {} : { group }),
    kind: plural,
    ...more,
  };
}

export function notFound(resource: GroupResource, name: string): KubeError {
  return new KubeError(
    404,
    "NotFound",
    `${qualified(resource)} "${name}" not found`,
    details(resource, name),
  );
}

export function alreadyExists(resource: GroupResource, name: string): KubeError {
  return new KubeError(
    409,
    "AlreadyExists",
    `${qualified(resource)} "${name}" already exists`,
    details(resource, name),
  );
}

export const MODIFIED =
  "the object has been modified; please apply your changes to the latest version and try again";

export function conflict(resource: GroupResource, name: string, why: string): KubeError {
  return new KubeError(
    409,
    "Conflict",
    `Operation cannot be fulfilled on ${qualified(resource)} "${name}": ${why}`,
    details(resource, name),
  );
}

/** `kind` "" and `name` "" for a request that is wrong before it is about an object. */
export function invalid(group: string, kind: string, name: string, faults: FieldError[]): KubeError {
  const texts = faults.map(({ field, detail }) => `${field}: ${detail}`);
  const text = texts.length === 1 ? texts[0] : `[${texts.join(", ")}]`;
  const qualifiedKind = group === "" ? kind : `${kind}.${group}`;
  return new KubeError(422, "Invalid", `${qualifiedKind} "${name}" is invalid: ${text}`, {
    ...(name === "" ? {} : { name }),
    ...(group === "" ? {} : { group }),
    ...(kind === "" ? {} : { kind }),
    causes: faults.map(({ type, field, detail }) => ({ reason: type, message: detail, field })),
  });
}

export function badRequest(message: string): KubeError {
  return KubeError.of("BadRequest", message);
}

export function unauthorized(): KubeError {
  return KubeError.of("Unauthorized", "Unauthorized");
}

export function forbidden(resource: GroupResource, name: string, why: string): KubeError {
  const what = name === "" ? qualified(resource) : `${qualified(resource)} "${name}"`;
  return new KubeError(403, "Forbidden", `${what} is forbidden: ${why}`, details(resource, name));
}

export function methodNotAllowed(): KubeError {
  return KubeError.of("MethodNotAllowed", "the server does not allow this method on the requested resource");
}

/** A path that leads nowhere. */
export function noSuchPath(): KubeError {
  return new KubeError(404, "NotFound", "the server could not find the requested resource", {});
}

export function unsupportedMediaType(accepted: string[]): KubeError {
  return KubeError.of(
    "UnsupportedMediaType",
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(", ")}`,
  );
}

export function notAcceptable(accepted: string[]): KubeError {
  return new KubeError(
    406,
    "NotAcceptable",
    `only the following media types are accepted: ${accepted.join(", ")}`,
  );
}

export function expired(asked: number, oldest: number): KubeError {
  return KubeError.of("Expired", `too old resource version: ${asked} (${oldest})`);
}

export function tooLargeRevision(asked: number, current: number): KubeError {
  return new KubeError(504, "Timeout", `Too large resource version: ${asked}, current: ${current}`, {
    causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
    retryAfterSeconds: 1,
  });
}

/** Body of an error answer. */
export function statusOf(error: unknown): StatusBody & { metadata: object } {
  const known =
    error instanceof KubeError
      ? error
      : KubeError.of("InternalError", `Internal error occurred: ${(error as Error)?.message ?? error}`);
  return {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message: known.message,
    reason: known.reason,
    ...(known.details === undefined ? {} : { details: known.details }),
    code: known.code,
  };
}
