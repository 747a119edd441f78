/**
 * Owns the programs in the pods: their files, their start, and whether they listen.
 * Must not know the API, agents or the walk.
 */
import { chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
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
  const { directory, config, log, html, run } = podPaths(pod);
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

/** Whether a process lives and somebody in its namespace listens on a TCP port. */
export function isListening(id: ProcessId, l4Port: number): boolean {
  try {
    // This file shows the namespace which the process is in; before that, it is ours or none.
    return isAlive(id) && listensOn(readFileSync(`/proc/${id.pid}/net/tcp`, "utf8"), l4Port);
  } catch {
    return false;
  }
}

/** Whether the text of /proc/net/route has a default route: the agent has attached the pod. */
export function hasDefaultRoute(procNetRoute: string): boolean {
  return procNetRoute.split("\n").some((line) => {
    const [device, destination, , , , , , mask] = line.trim().split(/\s+/);
    return device === "eth0" && destination === "00000000" && mask === "00000000";
  });
}

/** Whether a program's pod has its interface. */
export function isAttached(id: ProcessId): boolean {
  try {
    return isAlive(id) && hasDefaultRoute(readFileSync(`/proc/${id.pid}/net/route`, "utf8"));
  } catch {
    return false;
  }
}

/** Tells a program that listens whose it is, where its files do not say so. */
export async function nameProgram(pod: LabPod): Promise<void> {
  if (pod.application !== "redis") return;
  const set = ["redis-cli", "-p", String(pod.l4Port), "SET", "pod", pod.name];
  await runOrThrow(inNamespace(podNamespace(pod), set), { timeoutMs: 5000 });
}

/** The last that a program said. */
export function lastWords(pod: LabPod): string {
  const { directory, log } = podPaths(pod);
  const files = pod.application === "redis" ? [log] : [log, `${directory}/error.log`];
  return files
    .map((file) => tail(file, 10))
    .join("\n")
    .trim();
}
