/** Compare-and-swap loops: run again on a conflict, with growing random pauses, and not for ever. */
import { backoff, type Clock, sleep } from "../kube/Clock.js";
import { isAlreadyExists, isConflict, isNotFound, isTransient } from "../kube/KubeError.js";
import { IpamError } from "./types.js";

export interface RetryOptions {
  /** How often a conflict is tried again. */
  conflicts: number;
  /** How often a request without an answer is repeated before the caller hears of it. */
  failures: number;
  /** First pause in milliseconds; it doubles up to `maxPause`. */
  pause: number;
  maxPause: number;
  /** 0 to 1. */
  random: () => number;
  /** Ends the pauses, and with them the repetitions. */
  signal: AbortSignal;
}

export const RETRY: RetryOptions = {
  conflicts: 60,
  failures: 4,
  pause: 5,
  maxPause: 1000,
  random: Math.random,
  signal: new AbortController().signal,
};

/** Thrown inside a loop: what was read is no longer so; begin anew. */
export class Stale extends Error {}

/**
 * Runs `attempt` until it does not meet a conflict. It must read anew each time: after a lost answer
 * what it wanted may already be done.
 */
export async function retrying<T>(
  what: string,
  clock: Clock,
  options: RetryOptions,
  attempt: () => Promise<T>,
): Promise<T> {
  let failures = 0;
  for (let count = 0; ; count++) {
    try {
      return await attempt();
    } catch (error) {
      const conflict = error instanceof Stale || isConflict(error) || isAlreadyExists(error);
      // Not found: a block that was just deleted; or the kind is not installed, and stays so.
      const mayPass = isTransient(error) || isNotFound(error);
      if (!conflict && (!mayPass || ++failures > options.failures)) throw error;
      if (count >= options.conflicts)
        throw new IpamError("Contention", `${what}: ${(error as Error).message}`);
      const { pause: first, maxPause: most, random, signal } = options;
      await sleep(clock, backoff(count + 1, { first, most }, random), signal);
      if (signal.aborted) throw error;
    }
  }
}
