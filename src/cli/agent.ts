/** `podwire agent`: runs the node's agent until a signal ends it. */
import { Command, Option } from "commander";
import type { Agent } from "../agent/Agent.js";
import type { ConfigWatcher as Watcher } from "../agent/ConfigWatcher.js";
import type { LoadedConfig } from "../agent/config.js";
import { logLevelOption } from "./log.js";

const EXIT_FAILED = 1;
const EXIT_CONFIG = 2;

interface Options {
  config?: string;
  kubeconfig?: string;
  logLevel: string;
  check?: true;
  localhostNodeports: boolean;
}

/** The subcommand. */
export function agentCommand(): Command {
  return new Command("agent")
    .description(
      "Run this node's agent: pods' interfaces, podwire0 and the VXLAN tunnel, as a config file or a Kubernetes\n" +
        "API describes them. Changes are taken over while it runs. SIGTERM ends it and leaves devices and routes\n" +
        "for the next agent; `podwire cleanup` removes them.",
    )
    .option("-c, --config <file>", "YAML description of this node; no API server is used")
    .option("--check", "only check the config file, and say what is wrong with it")
    .addOption(
      new Option("--kubeconfig <file>", "live from the Kubernetes API that this file names").conflicts([
        "config",
        "check",
      ]),
    )
    .option("--node <name>", "this node's name (default: the host name; with --kubeconfig, like all below)")
    .option("--underlay-address <ip>", "this node's address on the LAN")
    .option("--vxlan-port <port>", "UDP port of VXLAN (default: 4789)")
    .option("--vni <number>", "VXLAN network identifier, the same on all nodes (default: 4096)")
    .option("--underlay-mtu <bytes>", "MTU of the underlay (default: that of the interface with the address)")
    .option("--state-dir <dir>", "the agent's directory (default: /run/podwire)")
    .option(
      "--pod-netns <path>",
      "network namespace of a pod (default: /run/netns/{namespace}.{name}; {uid} is known too)",
    )
    .option(
      "--pod-port <port>",
      "TCP port for pods' logs and commands, where the agent runs pods (default: 10250)",
    )
    .option(
      "--run-pods",
      "run this node's pods as processes, with runc and conmon, where there is no kubelet",
    )
    .addOption(
      new Option(
        "--cni",
        "a kubelet runs here: it makes the Node, and its container runtime asks for pods' interfaces by CNI",
      ).conflicts(["runPods", "config"]),
    )
    .option("--runtime-dir <dir>", "directory of those pods (default: /var/lib/podwire/runtime)")
    .option("--images <file>", "table of what runs for which image (default: /etc/podwire/images.yaml)")
    .option("--node-label <key=value...>", "labels of the Node")
    .option("--service-cidr <cidr>", "where ClusterIPs come from (default: 10.152.183.0/24)")
    .option("--node-ports <first-last>", "ports of NodePort Services (default: 30000-32767)")
    .option("--egress-ports <first-last>", "source ports of masqueraded egress (default: 61000-65534)")
    .addOption(
      new Option("--egress <mode>", "how pods reach the outside (default: masquerade)").choices([
        "masquerade",
        "off",
      ]),
    )
    .option(
      "--nodeport-addresses <cidr...>",
      "NodePorts answer at the node's addresses in these ranges (default: at --underlay-address)",
    )
    .option("--no-localhost-nodeports", "NodePorts do not answer at 127.0.0.1")
    .option(
      "--healthz-bind-address <ip:port>",
      'where /healthz is served (default: 0.0.0.0:10256); "" for nowhere',
    )
    .option("--metrics <ip:port>", 'where metrics are served (default: 127.0.0.1:9475); "off" for nowhere')
    .option(
      "--external-ip-range <cidr...>",
      "ranges in which Services may have external addresses (default: none, since whoever may write a\n" +
        "Service could capture any address)",
    )
    .option(
      "--lan-interface <name>",
      "interface on which load-balancer addresses are announced (default: the one with --underlay-address)",
    )
    .option(
      "--bfd <profile>",
      "how soon a node counts as dead, the same on all: default (100x3: 100 ms, three times), fast (10x3), or\n" +
        "another interval and multiplier",
    )
    .option("--metallb-namespace <name>", "namespace of MetalLB's objects (default: metallb-system)")
    .option("--max-flows <n>", "flows that are tracked at once, a power of two (default: 131072)")
    .addOption(new Option("--tunnel-gso <mode>", "tunnel GSO device").choices(["auto", "on", "off"]))
    .addOption(new Option("--uso <mode>", "UDP segmentation on TAP devices").choices(["auto", "on", "off"]))
    .addOption(new Option("--threads <n>", "dataplane threads").choices(["1", "2"]))
    .option("--spin <us>", "spinning before a dataplane thread blocks, in microseconds")
    .addOption(
      new Option(
        "--cpu-latency <mode>",
        "keep idle processors awake while packets go back and forth",
      ).choices(["auto", "off"]),
    )
    .addOption(logLevelOption())
    .action(run);
}

async function run(options: Options): Promise<void> {
  // Loaded here: `podwire --help` needs none of it.
  const { ConfigError } = await import("../agent/ConfigError.js");
  const { parseConfig, readConfig } = await import("../agent/config.js");
  try {
    if (options.kubeconfig !== undefined) {
      // Loaded here: an agent without an API server carries nothing of it.
      const { serveFromKube } = await import("./agentKube.js");
      await serveFromKube({ ...options, kubeconfig: options.kubeconfig });
      return;
    }
    if (options.config === undefined)
      throw new ConfigError([
        {
          file: "podwire agent",
          line: 0,
          column: 0,
          field: "",
          message: "nothing says what this node is",
          remedy: "Name a config file with --config, or a Kubernetes API with --kubeconfig.",
        },
      ]);
    const text = await readConfig(options.config);
    const loaded = parseConfig(options.config, text);
    if (options.check) {
      process.stdout.write(`${options.config} is well-formed.\n`);
      return;
    }
    await serve({ ...options, config: options.config }, text, loaded);
  } catch (error) {
    const wrongConfig = error instanceof ConfigError && error.origin === "config";
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = wrongConfig ? EXIT_CONFIG : EXIT_FAILED;
  }
}

async function serve(
  options: Options & { config: string },
  text: string,
  loaded: LoadedConfig,
): Promise<void> {
  const [{ Agent }, { ConfigWatcher }, { agentParts, onSignals }] = await Promise.all([
    import("../agent/Agent.js"),
    import("../agent/ConfigWatcher.js"),
    import("./agentProcess.js"),
  ]);
  const parts = await agentParts(loaded.config.node, options.logLevel);
  let agent: Agent | null = null;
  let watcher: Watcher | null = null;
  const stopping = onSignals({
    stop: async () => {
      if (agent === null) return;
      watcher?.stop();
      await agent.stop();
    },
    // Before the agent runs, a SIGHUP must not end it.
    reload: () => void watcher?.look(true),
  });
  agent = await Agent.start(loaded, parts);
  const running = agent;
  watcher = new ConfigWatcher(options.config, text, (changed) => running.reload(changed), parts.log);
  watcher.start();
  // It may have changed while we started.
  await watcher.look(false);
  await stopping.ifAsked();
}
