/**
 * Owns the life of the lab: up, down, and what a crashed run left. Order of up: namespaces, API server,
 * pinned blocks and nodes' certificates, agents, DaemonSets. Order of down: agents and API server, pods,
 * whatever else runs in the namespaces, namespaces, files. Must not know the command line.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import type { RecordedPod } from "../runtime/recordedPods.js";
import {
  type AgentHealth,
  agentHealth,
  PODWIRE,
  recordedLabPods,
  removeAllPods,
  startAgent,
  waitForAgent,
} from "./agents.js";
import { applyDaemonSets, joinNodes, pinBlocks, startApiServer, waitForApiServer } from "./cluster.js";
import { Interrupted, LabError } from "./errors.js";
import { existingNamespaces, makeNamespaces, processesInside, removeNamespaces } from "./namespaces.js";
import { API_LOG, BIN_DIRECTORY, fixedNamespaces, nodePaths } from "./plan.js";
import { ancestors, endAll, isAlive, type ProcessId, programOf, self, waitForEnd } from "./processes.js";
import { ensureKubectl, ensurePrograms, ensureTun } from "./requirements.js";
import { judge, type LabState, readState, removeState, type Verdict, withLock, writeState } from "./state.js";
import { DAEMON_SETS, type LabNode, NODES } from "./walkthrough.js";

export type Say = (line: string) => void;

export interface UpOptions {
  /** Whether missing programs may be installed. */
  install: boolean;
  /** Whether the lab lives with this process, and counts as crashed once it is gone. */
  owned: boolean;
  signal: AbortSignal;
  say: Say;
}

const AGENT_TIMEOUT_MS = 20_000;
/** An agent needs a moment to end well. */
const GRACE_MS = 3000;
/** What else runs in the lab: shells, and what they have started. */
const LEFTOVER_GRACE_MS = 1000;
/** What a container's parent is called: it lives in its node's namespace, and ends with the container. */
const CONTAINER_PARENT = "conmon";
/** How long the owner of a lab may take to clear it. */
const OWNER_TIMEOUT_MS = 30_000;

/** What state the lab is in. */
export function examine(): Verdict {
  return judge(readState(), existingNamespaces().length, isAlive);
}

/** Brings the lab up; returns the seconds from the first namespace until all was ready. */
export async function up(options: UpOptions): Promise<number> {
  await ensureTun();
  ensureKubectl();
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

async function build({ owned, signal, say }: UpOptions): Promise<number> {
  const begin = performance.now();
  const timed = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    signal.throwIfAborted();
    const start = performance.now();
    const result = await work();
    signal.throwIfAborted();
    say(`  ${what.padEnd(34)} ${((performance.now() - start) / 1000).toFixed(1)} s`);
    return result;
  };
  const state: LabState = {
    version: 2,
    phase: "starting",
    owner: self(),
    startedAt: new Date().toISOString(),
    agents: [],
    services: [],
  };
  writeState(state);
  mkdirSync(BIN_DIRECTORY, { recursive: true });
  writeFileSync(`${BIN_DIRECTORY}/podwire`, `#!/bin/sh\nexec "${process.execPath}" "${PODWIRE}" "$@"\n`, {
    mode: 0o755,
  });
  await timed("namespaces and LAN", makeNamespaces);
  await timed("API server", async () => {
    const id = startApiServer();
    state.services.push({ name: API_SERVER, ...id });
    writeState(state);
    await waitForApiServer(id, signal);
  });
  await timed(`${NODES.length} blocks pinned, nodes joined`, () =>
    Promise.all([pinBlocks(signal), joinNodes(signal)]),
  );
  await timed(`${NODES.length} agents ready`, async () => {
    const agents = NODES.map((node): [LabNode, ProcessId] => [node, startAgent(node)]);
    state.agents = agents.map(([node, id]) => ({ node: node.name, ...id }));
    writeState(state);
    await Promise.all(agents.map(([node, id]) => waitForAgent(node, id, AGENT_TIMEOUT_MS, signal)));
  });
  await timed(`${DAEMON_SETS.length} DaemonSets applied, pods ready`, () => applyDaemonSets(signal));
  writeState({ ...state, phase: "up", owner: owned ? state.owner : null });
  return (performance.now() - begin) / 1000;
}

const API_SERVER = "API server";

export interface Cleared {
  namespaces: number;
  processes: number;
}

/** Ends every process of the lab, removes its pods, namespaces and files. To be called under the lock. */
async function clear(): Promise<Cleared> {
  const state = readState();
  if (state !== null) writeState({ ...state, phase: "stopping" });
  const spared = ancestors();
  const found = async (namespaces = existingNamespaces()) =>
    (await processesInside(namespaces)).filter((id) => !spared.has(id.pid));
  const recorded = state === null ? [] : [...state.services, ...state.agents];
  const started = recorded.filter((id) => isAlive(id) && !spared.has(id.pid));
  const seen = new Set([...started, ...(await found())].map(({ pid }) => pid));
  // Agents first, also those that a user has started: they would start pods again.
  const machines = existingNamespaces().filter((name) => fixedNamespaces().includes(name));
  const inMachines = (await found(machines)).filter(({ pid }) => programOf(pid) !== CONTAINER_PARENT);
  const left = await endAll([...started, ...inMachines], GRACE_MS);
  const namespaces = existingNamespaces();
  await removeAllPods();
  left.push(...(await endAll(await found(), LEFTOVER_GRACE_MS)));
  // What was started while the others ended.
  left.push(...(await endAll(await found(), 0)));
  if (left.length > 0) {
    throw new LabError(`processes that cannot be ended: ${left.map(({ pid }) => pid).join(", ")}`);
  }
  await removeNamespaces(existingNamespaces());
  removeState();
  return { namespaces: namespaces.length, processes: seen.size };
}

/** Ends a node's agent, if it runs, and starts it again; its pods go on meanwhile. */
export async function restartAgent(node: LabNode): Promise<void> {
  await withLock(async () => {
    const state = readState();
    if (state === null) throw new LabError("the lab is not up", "LAB_DOWN");
    const running = state.agents.filter((agent) => agent.node === node.name && isAlive(agent));
    const left = await endAll(running, GRACE_MS);
    if (left.length > 0) throw new LabError(`the agent of ${node.name} cannot be ended`);
    const id = startAgent(node);
    const others = state.agents.filter((agent) => agent.node !== node.name);
    writeState({ ...state, agents: [...others, { node: node.name, ...id }] });
    await waitForAgent(node, id, AGENT_TIMEOUT_MS, new AbortController().signal);
  });
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

export interface ServiceReport {
  name: string;
  alive: boolean;
}

export interface LabReport {
  verdict: Verdict;
  startedAt: string | null;
  services: ServiceReport[];
  nodes: NodeReport[];
  pods: RecordedPod[];
}

/** Looks at the API server, all agents and their pods. */
export async function report(): Promise<LabReport> {
  const state = readState();
  const agents = new Map(state?.agents.map((agent) => [agent.node, agent]));
  const lives = (id: ProcessId | undefined) => id !== undefined && isAlive(id);
  return {
    verdict: examine(),
    startedAt: state?.startedAt ?? null,
    services: (state?.services ?? []).map((service) => ({ name: service.name, alive: isAlive(service) })),
    nodes: await Promise.all(
      NODES.map(async (node) => {
        const health = await agentHealth(node.name);
        // One that answers lives, whoever has started it.
        return { node, alive: health !== null || lives(agents.get(node.name)), health };
      }),
    ),
    pods: recordedLabPods(),
  };
}

/** What should run and has ended, by name, with its log. */
export function endedProcesses(): { name: string; log: string }[] {
  const { agents = [], services = [] } = readState() ?? {};
  return [
    ...agents
      .filter((agent) => !isAlive(agent))
      .map(({ node }) => ({ name: `agent of ${node}`, log: nodePaths(node).log })),
    ...services.filter((service) => !isAlive(service)).map(({ name }) => ({ name, log: API_LOG })),
  ];
}
