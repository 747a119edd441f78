/**
 * What the agent's pod port asks of the runtime: a container's log, and a command run inside it.
 * Types only; the runtime provides it, agent/podPort serves it, tests fake it.
 */
import type { Readable, Writable } from "node:stream";

/** Which container. Without a name, the pod's only one or its `kubectl.kubernetes.io/default-container`. */
export interface ContainerRef {
  namespace: string;
  pod: string;
  container?: string | undefined;
}

/** As PodLogOptions of the Kubernetes API. */
export interface LogOptions {
  follow: boolean;
  /** The instance before the last restart. */
  previous: boolean;
  /** Each line begins with its RFC 3339 time. */
  timestamps: boolean;
  tailLines?: number | undefined;
  limitBytes?: number | undefined;
  /** Only lines at or after this time, milliseconds since the epoch. */
  sinceMs?: number | undefined;
}

/** As PodExecOptions of the Kubernetes API. */
export interface ExecOptions {
  command: readonly string[];
  stdin: boolean;
  stdout: boolean;
  /** Never with a terminal, which merges it into stdout. */
  stderr: boolean;
  tty: boolean;
}

/** How a command ended. `code` is 128 + signal number where a signal ended it. */
export interface ExecResult {
  code: number;
  /** Set where it could not be run at all ("exec: \"foo\": executable file not found in $PATH"). */
  message?: string;
}

/** A running command. Destroying `stdin` or aborting ends it with SIGHUP, then SIGKILL. */
export interface ExecSession {
  stdin: Writable | null;
  stdout: Readable | null;
  stderr: Readable | null;
  /** Window size of the terminal; nothing without one. */
  resize(columns: number, rows: number): void;
  /** Settles after both outputs have ended. Never rejects. */
  readonly ended: Promise<ExecResult>;
  /** Ends the command; what was waiting gets its end. */
  kill(): void;
}

export type AccessRefusal =
  | "podNotFound"
  | "containerNotFound"
  | "containerNotRunning"
  | "noPreviousInstance"
  | "badRequest";

/** Why there is no log or no session, in a kubelet's words. */
export class AccessError extends Error {
  constructor(
    readonly refusal: AccessRefusal,
    message: string,
  ) {
    super(message);
    this.name = "AccessError";
  }
}

export interface PodAccess {
  /** The log as bytes. With `follow` it ends when the container does, or on abort. Rejects with AccessError. */
  log(container: ContainerRef, options: LogOptions, signal: AbortSignal): Promise<Readable>;
  /** Starts a command in a running container. Rejects with AccessError. */
  exec(container: ContainerRef, options: ExecOptions, signal: AbortSignal): Promise<ExecSession>;
}
