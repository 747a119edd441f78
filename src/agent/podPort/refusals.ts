/** What a refusal of the runtime is in HTTP, and as a Status. Pure. */
import { STATUS_CODES } from "../../kube/KubeError.js";
import { AccessError, type AccessRefusal } from "../../runtime/PodAccess.js";
import { failure } from "./remoteCommand.js";

const REASONS: Record<AccessRefusal, keyof typeof STATUS_CODES> = {
  podNotFound: "NotFound",
  containerNotFound: "NotFound",
  containerNotRunning: "BadRequest",
  noPreviousInstance: "BadRequest",
  badRequest: "BadRequest",
};

/** A request that the pod port does not take. `code` is the HTTP status. */
export class HttpRefusal extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
    this.name = "HttpRefusal";
  }
}

/** HTTP status and text for whatever was thrown. */
export function httpOfError(error: unknown): { code: number; text: string } {
  if (error instanceof HttpRefusal) return { code: error.code, text: error.message };
  if (error instanceof AccessError)
    return { code: STATUS_CODES[REASONS[error.refusal]], text: error.message };
  return { code: 500, text: messageOf(error) };
}

/** The Status of an exec session that could not begin. */
export function statusOfError(error: unknown): object {
  if (!(error instanceof AccessError))
    return failure("InternalError", `Internal error occurred: ${messageOf(error)}`, 500);
  const reason = REASONS[error.refusal];
  return failure(reason, error.message, STATUS_CODES[reason]);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
