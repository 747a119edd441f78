/** `podwire trace`: the path of one packet through the cluster, and why it takes it. */
import { Command, Option } from "commander";
import type { Trace } from "../explain/trace/model.js";
import { l4Port, seconds } from "./arguments.js";
import type { SourceOptions, TraceSources } from "./traceSources.js";

interface Options extends SourceOptions {
  proto?: "tcp" | "udp" | "icmp";
  sport?: number;
  via?: string;
  live?: true;
  wait: number;
  output: "text" | "json" | "svg";
}

/** What becomes of the packet, as exit status: nothing is wrong with the command where it is dropped. */
const EXIT_DROPPED = 3;

/** The subcommand; tests give other sources. */
export function traceCommand(open: (options: SourceOptions) => Promise<TraceSources> = openDefault): Command {
  return new Command("trace")
    .description(
      "Show the path of one packet through the cluster, and of the answer to it: at each node what is decided\n" +
        "and why. It runs the dataplane's own stages over the nodes' live tables; no packet is sent.\n" +
        "Exit status 3 if it is dropped or refused.",
    )
    .argument("<from>", "pc, an address, node/NAME, pod/NAME or NAMESPACE/POD (a name's beginning is enough)")
    .argument(
      "<to...>",
      "ADDRESS[:PORT], svc/[NAMESPACE/]NAME[:PORT], pod/NAME[:PORT], node/NAME[:PORT], nodeport NODE:PORT;\n" +
        "without a port a ping",
    )
    .addOption(
      new Option("--proto <name>", "default: the Service's, else tcp").choices(["tcp", "udp", "icmp"]),
    )
    .option("--sport <port>", "source port, or identifier of a ping (default: 40000, and 1)", l4Port)
    .option("--via <node>", "the node by which a machine outside has a route into the cluster")
    .option("--live", "wait for the next real connection like this one, and hold the trace against it")
    .option("--wait <seconds>", "how long to wait with --live", seconds(0.001, 86_400), 60)
    .addOption(
      new Option("-o, --output <format>", "text, json or svg")
        .choices(["text", "json", "svg"])
        .default("text"),
    )
    .option("--kubeconfig <file>", "kubeconfig (default: KUBECONFIG, then ~/.kube/config)")
    .option("-c, --config <file>", "config file of this node's agent: its tables alone are looked at")
    .option("-d, --state-dir <dir>", "state directory of this node's agent (default: /run/podwire)")
    .action((from: string, to: string[], options: Options) => run(from, to.join(" "), options, open));
}

async function openDefault(options: SourceOptions): Promise<TraceSources> {
  const { openSources } = await import("./traceSources.js");
  return openSources(options);
}

async function run(
  from: string,
  to: string,
  options: Options,
  open: (options: SourceOptions) => Promise<TraceSources>,
): Promise<void> {
  const [{ TraceCluster }, { questionOf }, { trace }, { liveTrace }] = await Promise.all([
    import("../explain/trace/TraceCluster.js"),
    import("../explain/trace/question.js"),
    import("../explain/trace/journey.js"),
    import("./traceLive.js"),
  ]);
  try {
    const sources = await open(options);
    try {
      const asked = { from, to, protocol: options.proto, sourcePort: options.sport, via: options.via };
      const cluster = new TraceCluster(sources.nodes, sources.notes);
      const result = options.live
        ? await liveTrace(sources, asked, options.wait * 1000, () =>
            process.stderr.write(`waiting ${options.wait} s for a connection from ${from} to ${to}\n`),
          )
        : await trace(cluster, questionOf(cluster, asked));
      process.stdout.write(await rendered(result, options.output));
      if (result.verdict === "dropped" || result.verdict === "refused") process.exitCode = EXIT_DROPPED;
    } finally {
      sources.close();
    }
  } catch (error) {
    process.stderr.write(`podwire trace: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

async function rendered(result: Trace, output: Options["output"]): Promise<string> {
  if (output === "json") return `${JSON.stringify(result, null, 2)}\n`;
  if (output === "svg") return (await import("../explain/traceSvg.js")).traceSvg(result);
  return (await import("../explain/trace/text.js")).traceText(result);
}
