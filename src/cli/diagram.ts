/** `podwire diagram`: draws the cluster as it is now. */
import { writeFile } from "node:fs/promises";
import { extname } from "node:path";
import { Command, Option } from "commander";
import { FORMATS, type Format } from "../explain/picture/formats.js";
import { STEPS, type Step } from "../explain/picture/selection.js";

interface Options {
  kubeconfig?: string;
  step?: Step;
  output?: Format;
  outputFile?: string;
  namespace?: string;
  service?: string[];
  dark?: true;
}

const EXTENSIONS: Readonly<Record<string, Format>> = {
  ".svg": "svg",
  ".png": "png",
  ".mmd": "mermaid",
  ".mermaid": "mermaid",
  ".txt": "text",
};

/** The subcommand. */
export function diagramCommand(): Command {
  return new Command("diagram")
    .description("Draw the cluster as it is now: nodes, pods, the overlay between them, Services.")
    .option("--kubeconfig <file>", "kubeconfig (default: KUBECONFIG, then ~/.kube/config)")
    .addOption(
      new Option("--step <step>", "what it is about (default: everything)").choices(
        STEPS as readonly string[],
      ),
    )
    .addOption(
      new Option("-o, --output <format>", "format (default: by the file's name, else text)").choices(
        FORMATS as readonly string[],
      ),
    )
    .option("--output-file <file>", "write it there (default: standard output)")
    .option("-n, --namespace <namespace>", "Services of this namespace alone")
    .option("--service <name...>", "these Services alone, by name or NAMESPACE/NAME")
    .option("--dark", "light on black")
    .action(run);
}

/** The format that is wanted: named, or by the file's name. */
function formatOf({ output, outputFile }: Pick<Options, "output" | "outputFile">): Format {
  return output ?? EXTENSIONS[extname(outputFile ?? "").toLowerCase()] ?? "text";
}

async function run(options: Options): Promise<void> {
  const format = formatOf(options);
  try {
    if (format === "png" && options.outputFile === undefined && process.stdout.isTTY)
      throw new Error("a PNG is nothing for a terminal; name a file with --output-file");
    const bytes = await draw(options, format);
    if (options.outputFile === undefined) process.stdout.write(bytes);
    else await writeFile(options.outputFile, bytes);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

async function draw(options: Options, format: Format): Promise<Buffer> {
  const { KubeClient } = await import("../kube/KubeClient.js");
  const { nodeReader, readCluster, readLiveState } = await import("../explain/readCluster.js");
  const { topologyOf } = await import("../explain/topology.js");
  const { render } = await import("../explain/picture/render.js");
  const { kubeconfig, step, namespace, service, dark } = options;
  const kube = await (kubeconfig === undefined ? KubeClient.fromDefault() : KubeClient.fromFile(kubeconfig));
  try {
    const objects = await readCluster(kube);
    const names = objects.nodes.flatMap(({ metadata }) => metadata.name ?? []);
    const topology = topologyOf(objects, await readLiveState(names, nodeReader(kube)));
    return await render(topology, format, {
      ...(step === undefined ? {} : { step }),
      ...(namespace === undefined ? {} : { namespace }),
      ...(service === undefined ? {} : { services: service }),
      ...(dark === undefined ? {} : { dark }),
    });
  } finally {
    kube.close();
  }
}
