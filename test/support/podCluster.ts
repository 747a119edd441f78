/** An API server, one node's pod port over a LocalPodAccess, and kubectl, on loopback. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { join as joinPath } from "node:path";
import type { ExecTimes } from "../../src/agent/podPort/ExecConnection.js";
import { type PodPort, startPodPort } from "../../src/agent/podPort/startPodPort.js";
import type { ApiServer } from "../../src/apiserver/ApiServer.js";
import { ClusterCa, type Subject } from "../../src/apiserver/pki/ClusterCa.js";
import { join } from "../../src/kube/join.js";
import { KubeClient } from "../../src/kube/KubeClient.js";
import { NODES, PODS } from "../../src/kube/resources.js";
import { servingCertificate } from "../../src/kube/servingCertificate.js";
import type { Node, Pod } from "../../src/kube/types.js";
import { SILENT } from "../../src/reconcile/Log.js";
import type { FlowTable } from "../../src/tables/FlowTable.js";
import { startApiServer, temporaryDirectory } from "./apiserver.js";
import { newTable } from "./flows.js";
import { LocalPodAccess } from "./LocalPodAccess.js";
import { fakeNodeState } from "./nodeState.js";

export const NODE = "n1";
const HOST = "127.0.0.1";

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface PodCluster {
  server: ApiServer;
  access: LocalPodAccess;
  /** Flows that the node tells of. */
  flows: FlowTable;
  ca: ClusterCa;
  directory: string;
  podPort: PodPort;
  /** TCP port of the pod port. */
  port: number;
  /** Makes a Pod, bound to NODE unless `spec` says otherwise; its containers log and run. */
  pod(
    name: string,
    containers: string[],
    more?: { spec?: object; labels?: Record<string, string> },
  ): Promise<Pod>;
  /** Runs kubectl to its end. */
  kubectl(...args: string[]): Promise<Outcome>;
  /** Arguments that make any kubectl ours. */
  arguments: string[];
  start(...args: string[]): ChildProcess;
  stop(): Promise<void>;
}

/** A client of the API as node `name` that has joined. */
export async function nodeClient(server: ApiServer, name: string): Promise<KubeClient> {
  const address = `https://${HOST}:${server.port}`;
  const joined = await join({
    server: address,
    token: server.tokens.create(60),
    caHash: server.caHash,
    node: name,
  });
  return new KubeClient({
    getCurrentCluster: () => ({ server: address }),
    applyToHTTPSOptions: async (options) => {
      Object.assign(options, { ca: joined.caCertificate, cert: joined.certificate, key: joined.key });
    },
  });
}

export async function startPodCluster(times?: ExecTimes): Promise<PodCluster> {
  const directory = temporaryDirectory();
  const server = await startApiServer(directory.path);
  const ca = await ClusterCa.open(joinPath(directory.path, "pki"));
  const access = new LocalPodAccess();
  const flows = newTable(64);
  const client = await nodeClient(server, NODE);
  const podPort = startPodPort({
    address: HOST,
    port: 0,
    tls: () => servingCertificate(client, NODE, [HOST]),
    access,
    state: fakeNodeState(flows),
    log: SILENT,
    ...(times === undefined ? {} : { times }),
  });
  const port = await podPort.opened;
  await server.kube.create<Node>(NODES, nodeAt(NODE, HOST, port));
  const kubeArguments = ["--kubeconfig", server.kubeconfigFile, `--cache-dir=${directory.path}/cache`];
  return {
    server,
    access,
    flows,
    ca,
    directory: directory.path,
    podPort,
    port,
    arguments: kubeArguments,
    async pod(name, containers, { spec = {}, labels = {} } = {}) {
      for (const each of containers)
        access.containers.set(`default/${name}/${each}`, { lines: [], running: true });
      return server.kube.create<Pod>(PODS, {
        metadata: { name, namespace: "default", labels },
        spec: {
          nodeName: NODE,
          containers: containers.map((each) => ({ name: each, image: each })),
          ...spec,
        },
      });
    },
    kubectl: (...args) =>
      new Promise((resolve) => {
        execFile(
          "kubectl",
          [...kubeArguments, ...args],
          { timeout: 40_000, maxBuffer: 64 << 20 },
          (error, stdout, stderr) =>
            resolve({
              code: error === null ? 0 : ((error.code as number | undefined) ?? null),
              stdout,
              stderr,
            }),
        );
      }),
    start: (...args) => spawn("kubectl", [...kubeArguments, ...args]),
    async stop() {
      await podPort.close();
      client.close();
      await server.stop();
      directory.remove();
    },
  };
}

/** A Node that says where its pod port is. */
export function nodeAt(name: string, address: string, port: number): Node {
  return {
    metadata: { name },
    spec: {},
    status: {
      addresses: [{ type: "InternalIP", address }],
      daemonEndpoints: { kubeletEndpoint: { Port: port } },
    },
  };
}

/** A client certificate of the cluster's CA, as node:https takes it. */
export async function clientOf(
  ca: ClusterCa,
  subject: Subject,
): Promise<{ cert: string; key: string; ca: string }> {
  const { certificate, key } = await ca.issue(subject);
  return { cert: certificate, key, ca: ca.certificate };
}
