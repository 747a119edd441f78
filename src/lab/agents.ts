/**
 * Owns the agents of the lab: their start, what they answer when asked how they are, and the pods that
 * they run.
 */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { AgentStatus } from "../agent/Agent.js";
import { removePods } from "../agent/podRuntime.js";
import { ask } from "../agent/StatusServer.js";
import { type RecordedPod, recordedPods } from "../runtime/recordedPods.js";
import type { CounterSnapshot } from "../worker/control.js";
import { LabError } from "./errors.js";
import { agentArguments, hostNamespace, inNetwork, nodePaths } from "./plan.js";
import { isAlive, type ProcessId, startDetached, tail } from "./processes.js";
import { type LabNode, NODES } from "./walkthrough.js";

/** The program that we are part of. */
export const PODWIRE = fileURLToPath(new URL("../cli/main.js", import.meta.url));

/** What an agent says of itself. */
export interface AgentHealth {
  /** Whether everything of its configuration is in place. */
  ready: boolean;
  /** What is not, a line each. */
  problems: string[];
  /** Frames dropped, by reason. */
  dropped: Record<string, number>;
}

/** Starts the agent of a node that has joined. */
export function startAgent(node: LabNode): ProcessId {
  const { log, stateDir } = nodePaths(node.name);
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const command = [process.execPath, PODWIRE, ...agentArguments(node)];
  return startDetached(inNetwork(hostNamespace(node.name), command), log);
}

/** Asks a node's agent how it is; null if it does not answer. */
export async function agentHealth(node: string): Promise<AgentHealth | null> {
  const socket = join(nodePaths(node).stateDir, "agent.sock");
  try {
    const [status, counters] = await Promise.all([
      ask<AgentStatus>(socket, "status"),
      ask<CounterSnapshot>(socket, "counters"),
    ]);
    const problems = status.devices
      .filter((device) => device.state !== "up")
      .map((device) => `${device.id}: ${device.message}`);
    return { ready: problems.length === 0, problems, dropped: counters.dropped };
  } catch {
    return null;
  }
}

/** Waits until an agent says that it is ready. */
export async function waitForAgent(
  node: LabNode,
  id: ProcessId,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const health = await agentHealth(node.name);
    if (health?.ready) return;
    const dead = !isAlive(id);
    if (dead || performance.now() > deadline) {
      const problems = health === null ? [] : health.problems;
      const what = dead ? "ended" : [`is not ready after ${timeoutMs / 1000} s`, ...problems].join("; ");
      throw new LabError(
        `the agent of ${node.name} ${what}; its log ends with:\n${tail(nodePaths(node.name).log, 15)}`,
        "LAB_AGENT_FAILED",
      );
    }
    await sleep(50, undefined, { signal });
  }
}

/** The pods that have a network, as the agents' runtimes have recorded them: node by node. */
export function recordedLabPods(): RecordedPod[] {
  const all = NODES.flatMap(({ name }) => recordedPods(nodePaths(name).runtimeDir));
  return all.filter(({ netns }) => existsSync(netns));
}

/** Ends every pod of the agents, which must have ended, and removes what belongs to it. */
export async function removeAllPods(): Promise<void> {
  await Promise.all(NODES.map(({ name }) => removePods(nodePaths(name).stateDir)));
}
