/**
 * Owns the life of the lab: up, down, and what a crashed run left. Order of up: namespaces, API server,
 * pinned blocks and nodes' certificates, agents and pod runner, DaemonSets. Order of down: processes,
 * namespaces, files. Must not know the command line.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { type AgentHealth, agentHealth, PODWIRE, startAgent, waitForAgent } from "./agents.js";
import { applyDaemonSets, joinNodes, pinBlocks, startApiServer, waitForApiServer } from "./cluster.js";
import { Interrupted, LabError } from "./errors.js";
import { existingNamespaces, makeNamespaces, processesInside, removeNamespaces } from "./namespaces.js";
import {
  API_LOG,
  API_NODE,
  BIN_DIRECTORY,
  hostNamespace,
  namespacePath,
  nodePaths,
  POD_RUNNER_LOG,
} from "./plan.js";
import { labPod, type PodRecord, readPods } from "./podRecords.js";
import { ancestors, endAll, isAlive, type ProcessId, self, startDetached, waitForEnd } from "./processes.js";
import { ensureKubectl, ensurePrograms, ensureTun } from "./requirements.js";
import { judge, type LabState, readState, removeState, type Verdict, withLock, writeState } from "./state.js";
import { DAEMON_SETS, type LabNode, type LabPod, NODES } from "./walkthrough.js";

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
    state.services.push({ name: POD_RUNNER, ...startPodRunner() });
    writeState(state);
    await Promise.all(agents.map(([node, id]) => waitForAgent(node, id, AGENT_TIMEOUT_MS, signal)));
  });
  await timed(`${DAEMON_SETS.length} DaemonSets applied, pods ready`, () => applyDaemonSets(signal));
  writeState({ ...state, phase: "up", owner: owned ? state.owner : null });
  return (performance.now() - begin) / 1000;
}

const API_SERVER = "API server";
const POD_RUNNER = "pod runner";

/**
 * In the network of the API server's node, but among our own mounts: a namespace that is made behind
 * `ip netns exec` would be seen there only.
 */
function startPodRunner(): ProcessId {
  const network = namespacePath(hostNamespace(API_NODE.name));
  const command = ["nsenter", `--net=${network}`, "--", process.execPath, PODWIRE, "lab", "serve-pods"];
  return startDetached(command, POD_RUNNER_LOG);
}

export interface Cleared {
  namespaces: number;
  processes: number;
}

/** Ends every process of the lab, removes its namespaces and files. To be called under the lock. */
async function clear(): Promise<Cleared> {
  const state = readState();
  if (state !== null) writeState({ ...state, phase: "stopping" });
  const spared = ancestors();
  const recorded = state === null ? [] : [...state.services, ...state.agents, ...readPods()];
  const processes = new Map<number, ProcessId>();
  for (const id of [...recorded.filter(isAlive), ...(await processesInside(existingNamespaces()))]) {
    if (!spared.has(id.pid)) processes.set(id.pid, { pid: id.pid, startTime: id.startTime });
  }
  const left = await endAll([...processes.values()], GRACE_MS);
  // What was started, and pods' namespaces that were made, while the others ended.
  const namespaces = existingNamespaces();
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

export interface ServiceReport {
  name: string;
  alive: boolean;
}

export interface LabReport {
  verdict: Verdict;
  startedAt: string | null;
  services: ServiceReport[];
  nodes: NodeReport[];
  pods: PodReport[];
}

/** The pods that programs were started in. */
export function labPods(): LabPod[] {
  return readPods().map(labPod);
}

/** Looks at all agents and programs, and at what serves them. */
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
        const alive = lives(agents.get(node.name));
        return { node, alive, health: alive ? await agentHealth(node.name) : null };
      }),
    ),
    pods: readPods().map((record: PodRecord) => ({ pod: labPod(record), alive: isAlive(record) })),
  };
}

/** What should run and has ended, by name, with its log. */
export function endedProcesses(): { name: string; log: string }[] {
  const { agents = [], services = [] } = readState() ?? {};
  return [
    ...agents
      .filter((agent) => !isAlive(agent))
      .map(({ node }) => ({ name: `agent of ${node}`, log: nodePaths(node).log })),
    ...services
      .filter((service) => !isAlive(service))
      .map(({ name }) => ({ name, log: name === API_SERVER ? API_LOG : POD_RUNNER_LOG })),
  ];
}
