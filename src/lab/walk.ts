/**
 * Owns the walk of step 1: every pod asks every pod, itself included, by the program that the other
 * one runs. Must not know how the lab came up, nor how results are printed.
 */
import { inNamespace, pageOf, podNamespace } from "./plan.js";
import { type CommandResult, run } from "./processes.js";
import type { LabPod } from "./walkthrough.js";

export interface Probe {
  command: string[];
  /** Lines for the command's standard input. */
  input?: string;
  /** Standard output of a probe that went well. */
  expected: string;
}

export interface WalkResult {
  from: LabPod;
  to: LabPod;
  ok: boolean;
  /** Why not; empty if ok. */
  reason: string;
  milliseconds: number;
}

export const TIMEOUT_SECONDS = 5;
/** Enough to keep two cores busy without making the probes time each other out. */
const CONCURRENCY = 8;

/** Gets the page that a web server has. */
export function fetchPage(address: string, l4Port: number, timeoutSeconds: number): string[] {
  const options = ["--silent", "--show-error", "--noproxy", "*", "--max-time", String(timeoutSeconds)];
  return ["curl", ...options, `http://${address}:${l4Port}/`];
}

/** How `from` asks `to`. */
export function probe(from: LabPod, to: LabPod): Probe {
  if (to.application === "redis") {
    const key = `walk:${from.name}`;
    return {
      command: ["redis-cli", "-h", to.address, "-p", String(to.l4Port)],
      input: `PING\nSET ${key} ${from.address}\nGET ${key}\nGET pod\n`,
      expected: `PONG\nOK\n${from.address}\n${to.name}\n`,
    };
  }
  return {
    command: fetchPage(to.address, to.l4Port, TIMEOUT_SECONDS),
    expected: pageOf(to),
  };
}

/** Judges what a probe's command said: an empty string if all went well, else the reason. */
export function judgeProbe(expected: string, result: CommandResult): string {
  return result.code === 0 && result.stdout === expected ? "" : complaintOf(result);
}

/** Why what a probe's command said is not what it should have. */
export function complaintOf(result: CommandResult): string {
  if (result.code === 137) return `no answer within ${TIMEOUT_SECONDS} s`;
  const said = result.stderr.trim() || (result.stdout.trim() && `answered ${JSON.stringify(result.stdout)}`);
  return said || `exit code ${result.code}`;
}

async function walkPair(from: LabPod, to: LabPod): Promise<WalkResult> {
  const { command, input, expected } = probe(from, to);
  const begin = performance.now();
  const result = await run(inNamespace(podNamespace(from), command), {
    timeoutMs: (TIMEOUT_SECONDS + 1) * 1000,
    ...(input === undefined ? {} : { input }),
  });
  const reason = judgeProbe(expected, result);
  return { from, to, ok: reason === "", reason, milliseconds: performance.now() - begin };
}

/** Redis servers do not know which pod they are in: they are told over their own loopback. */
export async function nameServers(pods: readonly LabPod[]): Promise<void> {
  const redis = pods.filter(({ application }) => application === "redis");
  // Whether they took it shows in the walk.
  await inTurn(redis, new AbortController().signal, (pod) => {
    const set = ["redis-cli", "-h", "127.0.0.1", "-p", String(pod.l4Port), "SET", "pod", pod.name];
    return run(inNamespace(podNamespace(pod), set), { timeoutMs: TIMEOUT_SECONDS * 1000 });
  });
}

/** Does `work` for each, a few at a time; results come in the order of `all`. */
export async function inTurn<T, R>(
  all: readonly T[],
  signal: AbortSignal,
  work: (each: T) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(all.length);
  let next = 0;
  const worker = async () => {
    while (next < all.length) {
      signal.throwIfAborted();
      const index = next++;
      results[index] = await work(all[index]!);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return results;
}

/** Walks all pairs; results come row by row in the order of `pods`. */
export async function walk(pods: readonly LabPod[], signal: AbortSignal): Promise<WalkResult[]> {
  await nameServers(pods);
  const pairs = pods.flatMap((from) => pods.map((to) => ({ from, to })));
  return inTurn(pairs, signal, ({ from, to }) => walkPair(from, to));
}
