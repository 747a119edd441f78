/** Where the tables of the nodes come from: every agent by way of the API, or the one on this node. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { FlowQuery, FlowView } from "../agent/flowReport.js";
import type { NodeSource } from "../explain/trace/TraceCluster.js";
import type { KubeClient } from "../kube/KubeClient.js";
import type { Node } from "../kube/types.js";
import type { NodeFlowRecords, NodeTables } from "../model/NodeTables.js";

export interface TraceSources {
  nodes: NodeSource[];
  /** Nodes that did not answer, and why. */
  notes: string[];
  /** Flows of a node, by a query. */
  flows(node: string, query: FlowQuery): Promise<FlowView[]>;
  close(): void;
}

export interface SourceOptions {
  kubeconfig?: string;
  config?: string;
  stateDir?: string;
}

/** By what the command line says; without, the API as kubectl finds it, else this node's agent. */
export async function openSources(options: SourceOptions): Promise<TraceSources> {
  const named = options.stateDir !== undefined || options.config !== undefined;
  if (named || (options.kubeconfig === undefined && !hasKubeconfig())) return agentSources(options);
  return apiSources(options.kubeconfig);
}

/** Whether kubectl would find an API without being told. */
function hasKubeconfig(): boolean {
  const inPod = process.env.KUBERNETES_SERVICE_HOST !== undefined;
  return inPod || process.env.KUBECONFIG !== undefined || existsSync(join(homedir(), ".kube/config"));
}

async function apiSources(kubeconfig: string | undefined): Promise<TraceSources> {
  const [{ KubeClient: Client }, { NODES }, { readNode }] = await Promise.all([
    import("../kube/KubeClient.js"),
    import("../kube/resources.js"),
    import("../kube/nodeProxy.js"),
  ]);
  const api: KubeClient = await (kubeconfig === undefined
    ? Client.fromDefault()
    : Client.fromFile(kubeconfig));
  try {
    const { items } = await api.list<Node>(NODES);
    const names = items.map(({ metadata }) => metadata.name!);
    const asked = await Promise.allSettled(
      names.map((name) => readNode<NodeTables>(api, name, "podwire/tables")),
    );
    const notes: string[] = [];
    const nodes = asked.flatMap((answer, i) => {
      const name = names[i]!;
      if (answer.status === "rejected") {
        notes.push(`node ${name} does not tell of its tables: ${(answer.reason as Error).message}`);
        return [];
      }
      const flows = (addresses: string[]) =>
        readNode<NodeFlowRecords>(
          api,
          name,
          "podwire/records",
          queryOf(addresses.map((address) => ["address", address])),
        );
      return [{ tables: answer.value, flows }];
    });
    return {
      nodes,
      notes,
      flows: async (node, query) => {
        const search = queryOf(Object.entries(query));
        const { flows } = await readNode<{ flows: FlowView[] }>(api, node, "podwire/flows", search);
        return flows;
      },
      close: () => api.close(),
    };
  } catch (error) {
    api.close();
    throw error;
  }
}

function queryOf(entries: [string, string | number | undefined][]): URLSearchParams {
  const query = new URLSearchParams();
  for (const [name, value] of entries) if (value !== undefined) query.append(name, String(value));
  return query;
}

async function agentSources(options: SourceOptions): Promise<TraceSources> {
  const { stateDirectory } = await import("./stateDirectory.js");
  const { ask, askAll } = await import("../agent/StatusServer.js");
  const directory = await stateDirectory(options);
  const socket = join(directory, "agent.sock");
  const tables = await ask<NodeTables>(socket, "nodeTables").catch((error: NodeJS.ErrnoException) => {
    const none = error.code === "ENOENT" || error.code === "ECONNREFUSED";
    throw none
      ? new Error(`no agent runs on ${directory}; name it with --state-dir, or an API with --kubeconfig`)
      : error;
  });
  const node: NodeSource = {
    tables,
    flows: (addresses) => ask<NodeFlowRecords>(socket, "flowRecords", { addresses }),
  };
  const others = tables.vteps.length;
  return {
    nodes: [node],
    notes: others === 0 ? [] : [`only ${tables.node} is looked at: the other nodes need --kubeconfig`],
    flows: async (_, query) => {
      const found: FlowView[] = [];
      for await (const flow of askAll<FlowView>(socket, "flows", query)) found.push(flow);
      return found;
    },
    close: () => {},
  };
}
