/**
 * Owns the programs in the pods: their files, their start, and whether they listen.
 * Must not know agents or the walk.
 */
import { chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { LabError } from "./errors.js";
import {
  asNobody,
  inNamespace,
  PROGRAM_UID,
  pageOf,
  podNamespace,
  podPaths,
  programCommand,
  programConfig,
} from "./plan.js";
import { isAlive, type ProcessId, runOrThrow, startDetached, tail } from "./processes.js";
import type { LabPod } from "./walkthrough.js";

/** Writes a pod's files and starts its program. */
export function startProgram(pod: LabPod, rootless: boolean): ProcessId {
  const { directory, config, log, html, run } = podPaths(pod.name);
  for (const path of [directory, html, run]) mkdirSync(path, { recursive: true });
  writeFileSync(config, programConfig(pod));
  writeFileSync(`${html}/index.txt`, pageOf(pod));
  if (!rootless) for (const path of [directory, run]) chownSync(path, PROGRAM_UID, PROGRAM_UID);
  return startDetached(inNamespace(podNamespace(pod), asNobody(programCommand(pod), rootless)), log);
}

const TCP_LISTEN = "0A";

/** Whether somebody listens on a TCP port, told from the text of /proc/net/tcp. */
export function listensOn(procNetTcp: string, l4Port: number): boolean {
  const port = l4Port.toString(16).toUpperCase().padStart(4, "0");
  return procNetTcp.split("\n").some((line) => {
    const [, local, , state] = line.trim().split(/\s+/);
    return state === TCP_LISTEN && local?.endsWith(`:${port}`);
  });
}

function isListening(id: ProcessId, l4Port: number): boolean {
  try {
    // This file shows the namespace which the process is in; before that, it is ours or none.
    return isAlive(id) && listensOn(readFileSync(`/proc/${id.pid}/net/tcp`, "utf8"), l4Port);
  } catch {
    return false;
  }
}

/** Waits until a pod's program listens; tells redis whose it is. */
export async function waitForProgram(
  pod: LabPod,
  id: ProcessId,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  const { directory, log } = podPaths(pod.name);
  while (!isListening(id, pod.l4Port)) {
    const dead = !isAlive(id);
    if (dead || performance.now() > deadline) {
      throw new LabError(
        `${pod.application} of ${pod.name} ${dead ? "ended" : "does not listen"}:\n` +
          `${tail(log, 10)}\n${pod.application === "redis" ? "" : tail(`${directory}/error.log`, 10)}`.trimEnd(),
        "LAB_PROGRAM_FAILED",
      );
    }
    await sleep(30, undefined, { signal });
  }
  if (pod.application === "redis") {
    const set = ["redis-cli", "-p", String(pod.l4Port), "SET", "pod", pod.name];
    await runOrThrow(inNamespace(podNamespace(pod), set), { timeoutMs: 5000 });
  }
}
