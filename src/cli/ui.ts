/** `podwire ui`: serves the web page with the live picture of the cluster. */
import { Command } from "commander";
import type { Trace } from "../explain/trace/model.js";
import type { Asked } from "../explain/trace/question.js";
import { ipAddress, listeningPort } from "./arguments.js";
import { logLevelOption, makeLog } from "./log.js";

interface Options {
  kubeconfig?: string;
  address: string;
  port: number;
  socket?: string;
  logLevel: string;
}

/** Beside those of metrics. */
const DEFAULT_PORT = 9477;
/** Flows that the page shows of each node. */
const FLOWS_PER_NODE = 50;

/** The subcommand. */
export function uiCommand(): Command {
  return new Command("ui")
    .description(
      "Serve a web page with the cluster as it is: the pictures of `podwire diagram`, live. It changes nothing;\n" +
        "whoever reaches the address may read.",
    )
    .option("--kubeconfig <file>", "kubeconfig (default: KUBECONFIG, then ~/.kube/config)")
    .option("-a, --address <ip>", "address to listen on", ipAddress, "127.0.0.1")
    .option("-p, --port <port>", "port to listen on, 0 for any", listeningPort, DEFAULT_PORT)
    .option("--socket <path>", "listen on a unix socket instead")
    .addOption(logLevelOption())
    .action(run);
}

/** The tables are read anew for each question. */
async function trace(kubeconfig: string | undefined, asked: Asked): Promise<Trace> {
  const [{ openSources }, { TraceCluster }, { questionOf }, journey] = await Promise.all([
    import("./traceSources.js"),
    import("../explain/trace/TraceCluster.js"),
    import("../explain/trace/question.js"),
    import("../explain/trace/journey.js"),
  ]);
  const sources = await openSources(kubeconfig === undefined ? {} : { kubeconfig });
  try {
    const cluster = new TraceCluster(sources.nodes, sources.notes);
    return await journey.trace(cluster, questionOf(cluster, asked));
  } finally {
    sources.close();
  }
}

async function run(options: Options): Promise<void> {
  const [{ KubeClient }, { nodeReader }, { ClusterFeed }, { UiServer }, { readFlows }] = await Promise.all([
    import("../kube/KubeClient.js"),
    import("../explain/readCluster.js"),
    import("../ui/ClusterFeed.js"),
    import("../ui/UiServer.js"),
    import("../ui/flows.js"),
  ]);
  const log = await makeLog(options.logLevel);
  const kube =
    options.kubeconfig === undefined
      ? await KubeClient.fromDefault()
      : await KubeClient.fromFile(options.kubeconfig);
  const readNode = nodeReader(kube);
  const feed = new ClusterFeed({
    kube,
    readNode,
    onError: (error) => log.warn({ error: String(error) }, "the API does not answer; it is asked again"),
  });
  const server = new UiServer({
    feed,
    trace: (asked) => trace(options.kubeconfig, asked),
    flows: () =>
      readFlows(
        feed.topology().nodes.map(({ name }) => name),
        readNode,
        FLOWS_PER_NODE,
      ),
  });
  const { address, port, socket } = options;
  const at = await server.listen(socket === undefined ? { address, port } : { path: socket });
  if (socket === undefined) process.stdout.write(`${at}\n`);
  void feed.start();
  log.info({ at, cluster: kube.address }, "page served");
  let stopping = false;
  const end = async () => {
    if (stopping) return;
    stopping = true;
    await server.close();
    await feed.stop();
    kube.close();
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void end());
}
