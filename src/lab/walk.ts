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

const TIMEOUT_SECONDS = 5;
/** Enough to keep two cores busy without making the probes time each other out. */
const CONCURRENCY = 8;

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
    command: [
      "curl",
      "--silent",
      "--show-error",
      "--noproxy",
      "*",
      "--max-time",
      String(TIMEOUT_SECONDS),
      `http://${to.address}:${to.l4Port}/`,
    ],
    expected: pageOf(to),
  };
}

/** Judges what a probe's command said: an empty string if all went well, else the reason. */
export function judgeProbe(expected: string, result: CommandResult): string {
  if (result.code === 0 && result.stdout === expected) return "";
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

/** A redis server does not know which pod it is in: it is told over its own loopback. */
async function nameServer(pod: LabPod): Promise<void> {
  const set = ["redis-cli", "-h", "127.0.0.1", "-p", String(pod.l4Port), "SET", "pod", pod.name];
  // Whether it took it shows in the walk.
  await run(inNamespace(podNamespace(pod), set), { timeoutMs: TIMEOUT_SECONDS * 1000 });
}

/** Walks all pairs, a few at a time; results come row by row in the order of `pods`. */
export async function walk(pods: readonly LabPod[], signal: AbortSignal): Promise<WalkResult[]> {
  await Promise.all(pods.filter(({ application }) => application === "redis").map(nameServer));
  const pairs = pods.flatMap((from) => pods.map((to) => ({ from, to })));
  const results = new Array<WalkResult>(pairs.length);
  let next = 0;
  const worker = async () => {
    while (next < pairs.length) {
      signal.throwIfAborted();
      const index = next++;
      const { from, to } = pairs[index]!;
      results[index] = await walkPair(from, to);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return results;
}
