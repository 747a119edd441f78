/**
 * An error answer of the Kubernetes API, or the lack of an answer. `code` and `reason` are stable:
 * callers decide by them, never by the message. Reasons are those of k8s.io/apimachinery metav1.StatusReason.
 */
import type { ApiErrorFields } from "./KubeApi.js";

/** HTTP status of each reason. */
export const STATUS_CODES = {
  BadRequest: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  MethodNotAllowed: 405,
  AlreadyExists: 409,
  Conflict: 409,
  Expired: 410,
  Gone: 410,
  UnsupportedMediaType: 415,
  Invalid: 422,
  TooManyRequests: 429,
  InternalError: 500,
  ServiceUnavailable: 503,
  Timeout: 504,
} as const;

/** Body of an error answer (meta/v1 Status). */
export interface StatusBody {
  kind: "Status";
  apiVersion: "v1";
  status: "Success" | "Failure";
  message?: string;
  reason?: string;
  code?: number;
  details?: {
    name?: string;
    group?: string;
    kind?: string;
    causes?: { reason?: string; message?: string; field?: string }[];
    retryAfterSeconds?: number;
  };
}

export class KubeError extends Error implements ApiErrorFields {
  override readonly name = "KubeError";

  constructor(
    readonly code: number,
    readonly reason: string,
    message: string,
    readonly details?: StatusBody["details"],
    options?: { cause: unknown },
  ) {
    super(message, options);
  }

  /** An error with the HTTP status that belongs to `reason`. */
  static of(reason: keyof typeof STATUS_CODES, message: string): KubeError {
    return new KubeError(STATUS_CODES[reason], reason, message);
  }

  /** From a Status, as an answer's body or in a watch stream. */
  static ofStatus(status: Partial<StatusBody>, httpCode = 500): KubeError {
    const code = status.code ?? httpCode;
    return new KubeError(
      code,
      status.reason ?? reasonOf(code),
      status.message ?? `status ${code}`,
      status.details,
    );
  }

  /** No answer came: whether the request was carried out is not known. */
  static unreachable(message: string, cause?: unknown): KubeError {
    return new KubeError(0, "Unreachable", message, undefined, { cause });
  }
}

/** Whether `error` is a KubeError with this reason. */
export function isReason(error: unknown, ...reasons: string[]): error is KubeError {
  return error instanceof KubeError && reasons.includes(error.reason);
}

export const isNotFound = (error: unknown): error is KubeError => isReason(error, "NotFound");
export const isConflict = (error: unknown): error is KubeError => isReason(error, "Conflict");
export const isAlreadyExists = (error: unknown): error is KubeError => isReason(error, "AlreadyExists");
/** The resourceVersion asked for is no longer kept: list anew. */
export const isExpired = (error: unknown): error is KubeError =>
  error instanceof KubeError && error.code === 410;

/** Whether the same request may succeed later by itself: no answer, or the server asks for patience. */
export function isTransient(error: unknown): error is KubeError {
  return error instanceof KubeError && (error.code === 0 || error.code === 429 || error.code >= 500);
}

function reasonOf(code: number): string {
  return Object.entries(STATUS_CODES).find(([, each]) => each === code)?.[0] ?? "Unknown";
}
