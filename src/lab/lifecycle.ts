/**
 * Owns the life of the lab: up, down, and what a crashed run left. Order of up: namespaces, then
 * programs and agents side by side, then waiting for both. Order of down: processes, namespaces,
 * files. Must not know the command line.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { type AgentHealth, agentHealth, PODWIRE, startAgent, waitForAgent } from "./agents.js";
import { Interrupted, LabError } from "./errors.js";
import { existingNamespaces, makeNamespaces, processesInside, removeNamespaces } from "./namespaces.js";
import { BIN_DIRECTORY } from "./plan.js";
import { ancestors, endAll, isAlive, type ProcessId, self, waitForEnd } from "./processes.js";
import { startProgram, waitForProgram } from "./programs.js";
import { ensurePrograms, ensureTun } from "./requirements.js";
import { judge, type LabState, readState, removeState, type Verdict, withLock, writeState } from "./state.js";
import { type LabNode, type LabPod, NODES, PODS } from "./walkthrough.js";

export type Say = (line: string) => void;

export interface UpOptions {
  /** Whether missing programs may be installed. */
  install: boolean;
  /** Whether the lab lives with this process, and counts as crashed once it is gone. */
  owned: boolean;
  /** Whether we are root in a user namespace only. */
  rootless: boolean;
  signal: AbortSignal;
  say: Say;
}

const PROGRAM_TIMEOUT_MS = 20_000;
const AGENT_TIMEOUT_MS = 20_000;
/** An agent needs a moment to end well; nothing else in the lab does. */
const GRACE_MS = 3000;
/** How long the owner of a lab may take to clear it. */
const OWNER_TIMEOUT_MS = 30_000;

/** What state the lab is in. */
export function examine(): Verdict {
  return judge(readState(), existingNamespaces().length, isAlive);
}

/** Brings the lab up; returns the seconds from the first namespace until all was ready. */
export async function up(options: UpOptions): Promise<number> {
  await ensureTun();
  await ensurePrograms(options.install, options.say);
  return withLock(async () => {
    const verdict = examine();
    if (verdict === "running") {
      throw new LabError('the lab is up already; "podwire lab down" ends it', "LAB_RUNNING");
    }
    if (verdict === "crashed") {
      const { namespaces, processes } = await clear();
      options.say(
        `Cleared what an earlier run had left: ${namespaces} namespaces, ${processes} processes still alive.`,
      );
    }
    try {
      return await build(options);
    } catch (error) {
      await clear();
      throw options.signal.aborted ? new Interrupted() : error;
    }
  });
}

async function build({ owned, rootless, signal, say }: UpOptions): Promise<number> {
  const begin = performance.now();
  const timed = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    signal.throwIfAborted();
    const start = performance.now();
    const result = await work();
    say(`  ${what.padEnd(34)} ${((performance.now() - start) / 1000).toFixed(1)} s`);
    return result;
  };
  const state: LabState = {
    version: 1,
    phase: "starting",
    owner: self(),
    startedAt: new Date().toISOString(),
    agents: [],
    programs: [],
  };
  writeState(state);
  await timed("namespaces and LAN", makeNamespaces);
  signal.throwIfAborted();

  mkdirSync(BIN_DIRECTORY, { recursive: true });
  writeFileSync(`${BIN_DIRECTORY}/podwire`, `#!/bin/sh\nexec "${process.execPath}" "${PODWIRE}" "$@"\n`, {
    mode: 0o755,
  });
  const agents = NODES.map((node): [LabNode, ProcessId] => [node, startAgent(node)]);
  const programs = PODS.map((pod): [LabPod, ProcessId] => [pod, startProgram(pod, rootless)]);
  state.agents = agents.map(([node, id]) => ({ node: node.name, ...id }));
  state.programs = programs.map(([pod, id]) => ({ pod: pod.name, ...id }));
  writeState(state);

  await timed(`${programs.length} programs listening`, () =>
    Promise.all(programs.map(([pod, id]) => waitForProgram(pod, id, PROGRAM_TIMEOUT_MS, signal))),
  );
  await timed(`${agents.length} agents ready`, () =>
    Promise.all(agents.map(([node, id]) => waitForAgent(node, id, AGENT_TIMEOUT_MS, signal))),
  );
  signal.throwIfAborted();
  writeState({ ...state, phase: "up", owner: owned ? state.owner : null });
  return (performance.now() - begin) / 1000;
}

export interface Cleared {
  namespaces: number;
  processes: number;
}

/** Ends every process of the lab, removes its namespaces and files. To be called under the lock. */
async function clear(): Promise<Cleared> {
  const state = readState();
  if (state !== null) writeState({ ...state, phase: "stopping" });
  const namespaces = existingNamespaces();
  const spared = ancestors();
  const recorded = state === null ? [] : [...state.agents, ...state.programs];
  const processes = new Map<number, ProcessId>();
  for (const id of [...recorded.filter(isAlive), ...(await processesInside(namespaces))]) {
    if (!spared.has(id.pid)) processes.set(id.pid, { pid: id.pid, startTime: id.startTime });
  }
  const left = await endAll([...processes.values()], GRACE_MS);
  // Children that were started while their parents ended.
  const late = (await processesInside(namespaces)).filter((id) => !spared.has(id.pid));
  left.push(...(await endAll(late, 0)));
  if (left.length > 0) {
    throw new LabError(`processes that cannot be ended: ${left.map(({ pid }) => pid).join(", ")}`);
  }
  await removeNamespaces(namespaces);
  removeState();
  return { namespaces: namespaces.length, processes: processes.size };
}

/** Takes the lab down, whoever brought it up; harmless when there is none. */
export async function down(say: Say): Promise<Cleared> {
  const owner = readState()?.owner;
  if (owner && owner.pid !== process.pid && isAlive(owner)) {
    say(`Asking the run that holds the lab (process ${owner.pid}) to end it.`);
    process.kill(owner.pid, "SIGTERM");
    if (!(await waitForEnd([owner], OWNER_TIMEOUT_MS))) await endAll([owner], 0);
  }
  return withLock(clear);
}

export interface NodeReport {
  node: LabNode;
  alive: boolean;
  /** What the agent says of itself; null if it does not answer. */
  health: AgentHealth | null;
}

export interface PodReport {
  pod: LabPod;
  alive: boolean;
}

export interface LabReport {
  verdict: Verdict;
  startedAt: string | null;
  nodes: NodeReport[];
  pods: PodReport[];
}

/** Looks at all agents and programs. */
export async function report(): Promise<LabReport> {
  const state = readState();
  const agents = new Map(state?.agents.map((agent) => [agent.node, agent]));
  const programs = new Map(state?.programs.map((program) => [program.pod, program]));
  const lives = (id: ProcessId | undefined) => id !== undefined && isAlive(id);
  return {
    verdict: examine(),
    startedAt: state?.startedAt ?? null,
    nodes: await Promise.all(
      NODES.map(async (node) => {
        const alive = lives(agents.get(node.name));
        return { node, alive, health: alive ? await agentHealth(node.name) : null };
      }),
    ),
    pods: PODS.map((pod) => ({ pod, alive: lives(programs.get(pod.name)) })),
  };
}

/** Names of the nodes whose agents have ended. */
export function deadAgents(): string[] {
  return (readState()?.agents ?? []).filter((agent) => !isAlive(agent)).map((agent) => agent.node);
}
