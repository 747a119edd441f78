/** `podwire check`: whether objects, addresses, tables, devices and routes agree. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import type { Disagreement } from "../check/disagreement.js";
import type { AgentFacts } from "../check/node.js";
import type { Host } from "../host/Host.js";
import type { KubeApi } from "../kube/KubeApi.js";
import { DEFAULT_STATE_DIR } from "../model/stateDir.js";
import { seconds } from "./arguments.js";

/** Between two looks of --wait. */
const LOOK_MS = 250;

interface Options {
  kubeconfig?: string;
  stateDir?: string;
  /** False with --no-node. */
  node: boolean;
  wait: number;
  json?: true;
}

/** What the command looks at; tests give others. */
export interface CheckSources {
  connect: (kubeconfig: string | undefined) => Promise<{ kube: KubeApi; close: () => void }>;
  /** Asks the agent of a state directory. */
  agent: (stateDir: string) => Promise<AgentFacts>;
  host: () => Promise<Host>;
}

/** The subcommand. */
export function checkCommand(sources: CheckSources = SYSTEM): Command {
  return new Command("check")
    .description(
      "Check that pods, nodes and address blocks in the API agree, and, where an agent runs here, that its\n" +
        "tables and this host's devices, addresses and routes are what the API says. Prints a line for each\n" +
        "disagreement: what, where, and what to do. Exit status 1 if there is one. Changes nothing.",
    )
    .option("--kubeconfig <file>", "kubeconfig (default: KUBECONFIG, then ~/.kube/config)")
    .option("-d, --state-dir <dir>", "state directory of this node's agent (default: /run/podwire)")
    .option("--no-node", "only the API's objects, whether an agent runs here or not")
    .option("--wait <seconds>", "what disagrees may take so long to come right", seconds(0), 0)
    .option("--json", "print JSON")
    .action((options: Options) => run(options, sources));
}

async function run(options: Options, sources: CheckSources): Promise<void> {
  try {
    const { disagreementText } = await import("../check/disagreement.js");
    const stateDir = options.stateDir ?? DEFAULT_STATE_DIR;
    // Where nobody named an agent, there need not be one.
    const node = options.node && (options.stateDir !== undefined || existsSync(socketOf(stateDir)));
    const { kube, close } = await sources.connect(options.kubeconfig);
    try {
      const found = await looked(kube, node ? stateDir : null, options.wait, sources);
      const wrong = found.filter(({ severity }) => severity !== "warning");
      if (options.json) process.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
      else {
        for (const each of found) process.stdout.write(`${disagreementText(each)}\n`);
        const scope = node ? "The API and this node" : "The objects of the API";
        const outcome =
          wrong.length === 0 ? "agree" : `disagree in ${wrong.length} point${wrong.length === 1 ? "" : "s"}`;
        process.stdout.write(`${scope} ${outcome}.\n`);
      }
      if (wrong.length > 0) process.exitCode = 1;
    } finally {
      close();
    }
  } catch (error) {
    process.stderr.write(`podwire check: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

/** Looks until all agrees or the time is over; an API or agent that does not answer counts as not agreeing. */
async function looked(
  kube: KubeApi,
  stateDir: string | null,
  seconds: number,
  sources: CheckSources,
): Promise<Disagreement[]> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const last = performance.now() >= end;
    try {
      const found = await look(kube, stateDir, sources);
      if (last || found.every(({ severity }) => severity === "warning")) return found;
    } catch (error) {
      if (last) throw error;
    }
    await sleep(LOOK_MS);
  }
}

async function look(kube: KubeApi, stateDir: string | null, sources: CheckSources): Promise<Disagreement[]> {
  const { readObjects } = await import("../ipam/admin.js");
  const { checkCluster } = await import("../check/cluster.js");
  const objects = await readObjects(kube);
  const found = checkCluster(objects);
  if (stateDir === null) return found;
  const { checkNode } = await import("../check/node.js");
  const facts = await sources.agent(stateDir);
  return [...found, ...(await checkNode(objects, facts, await sources.host()))];
}

const SYSTEM: CheckSources = {
  connect: async (kubeconfig) => {
    const { KubeClient } = await import("../kube/KubeClient.js");
    const kube = await (kubeconfig === undefined
      ? KubeClient.fromDefault()
      : KubeClient.fromFile(kubeconfig));
    return { kube, close: () => kube.close() };
  },
  agent: async (stateDir) => {
    const { ask } = await import("../agent/StatusServer.js");
    const socket = socketOf(stateDir);
    try {
      const [status, tables] = await Promise.all([
        ask<AgentFacts["status"]>(socket, "status"),
        ask<AgentFacts["tables"]>(socket, "tables"),
      ]);
      return { status, tables };
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const none = code === "ENOENT" || code === "ECONNREFUSED";
      throw new Error(none ? `no agent runs on ${stateDir}; start one with podwire agent` : message);
    }
  },
  host: async () => {
    const { NetlinkHost } = await import("../host/NetlinkHost.js");
    const { native } = await import("../binding/index.js");
    return new NetlinkHost(native);
  },
};

function socketOf(stateDir: string): string {
  return join(stateDir, "agent.sock");
}
