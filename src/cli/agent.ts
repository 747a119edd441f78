/** `podwire agent`: runs the node's agent until a signal ends it. */
import { Command, Option } from "commander";
import type { Agent } from "../agent/Agent.js";
import type { ConfigWatcher as Watcher } from "../agent/ConfigWatcher.js";
import type { LoadedConfig } from "../agent/config.js";

const EXIT_FAILED = 1;
const EXIT_CONFIG = 2;

interface Options {
  config: string;
  logLevel: string;
  check?: true;
}

/** The subcommand. */
export function agentCommand(): Command {
  return new Command("agent")
    .description(
      "Run this node's agent: pods' interfaces, podwire0 and the VXLAN tunnel, as a config file describes them.\n" +
        "A change of the file is taken over while it runs. SIGTERM ends it and leaves devices and routes for\n" +
        "the next agent; `podwire cleanup` removes them.",
    )
    .requiredOption("-c, --config <file>", "YAML description of this node")
    .option("--check", "only check the file, and say what is wrong with it")
    .addOption(
      new Option("--log-level <level>", "least level that is logged (JSON lines on stderr)")
        .choices(["trace", "debug", "info", "warn", "error", "fatal"])
        .default("info"),
    )
    .action(run);
}

async function run(options: Options): Promise<void> {
  // Loaded here: `podwire --help` needs none of it.
  const { ConfigError } = await import("../agent/ConfigError.js");
  const { parseConfig, readConfig } = await import("../agent/config.js");
  try {
    const text = await readConfig(options.config);
    const loaded = parseConfig(options.config, text);
    if (options.check) {
      process.stdout.write(`${options.config} is well-formed.\n`);
      return;
    }
    await serve(options, text, loaded);
  } catch (error) {
    const wrongConfig = error instanceof ConfigError && error.origin === "config";
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = wrongConfig ? EXIT_CONFIG : EXIT_FAILED;
  }
}

async function serve(options: Options, text: string, loaded: LoadedConfig): Promise<void> {
  const [
    { Agent },
    { ConfigWatcher },
    { NetlinkHost },
    { native },
    { startWorker },
    { buildTableImage },
    pino,
  ] = await Promise.all([
    import("../agent/Agent.js"),
    import("../agent/ConfigWatcher.js"),
    import("../host/NetlinkHost.js"),
    import("../binding/index.js"),
    import("../worker/Dataworker.js"),
    import("../tables/TableImage.js"),
    import("pino"),
  ]);
  // Synchronous: the last lines before an end must not get lost.
  const log = pino.default(
    {
      level: options.logLevel,
      base: { node: loaded.config.node },
      timestamp: pino.default.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.default.destination({ fd: 2, sync: true }),
  );
  // A fault of the control side must not stop the dataplane, which has a thread of its own.
  process.on("uncaughtException", (err) => log.error({ err }, "uncaught exception; forwarding goes on"));
  process.on("unhandledRejection", (err) => log.error({ err }, "unhandled rejection; forwarding goes on"));

  let stopAsked = false;
  let agent: Agent | null = null;
  let watcher: Watcher | null = null;
  const stop = async () => {
    stopAsked = true;
    if (agent === null) return;
    watcher?.stop();
    await agent.stop();
    // Nothing should be left to keep the process; if something does, it does not keep it long.
    setTimeout(() => process.exit(), 1000).unref();
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void stop());
  // Before the agent runs, a SIGHUP must not end it.
  process.on("SIGHUP", () => void watcher?.look(true));

  agent = await Agent.start(loaded, {
    host: new NetlinkHost(native),
    startWorker,
    buildImage: buildTableImage,
    log,
  });
  const running = agent;
  watcher = new ConfigWatcher(options.config, text, (changed) => running.reload(changed), log);
  watcher.start();
  // It may have changed while we started.
  await watcher.look(false);
  if (stopAsked) await stop();
}
