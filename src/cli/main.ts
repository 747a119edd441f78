#!/usr/bin/env node
/**
 * The `podwire` command. Wires the subcommands, and loads only the one that runs: an agent must
 * not carry the lab in its memory.
 *
 * Exit status: 0 done, 1 it failed, 2 the command line or the config is wrong.
 */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";

const EXIT_USAGE = 2;

/** Subcommands by name: what each is for, and how to load it. */
const COMMANDS: Record<string, { summary: string; load: () => Promise<Command> }> = {
  agent: {
    summary: "run this node's agent",
    load: async () => (await import("./agent.js")).agentCommand(),
  },
  join: {
    summary: "get this node a certificate from the cluster's API server",
    load: async () => (await import("./join.js")).joinCommand(),
  },
  status: {
    summary: "show what the agent on this node does",
    load: async () => (await import("./status.js")).statusCommand(),
  },
  get: {
    summary: "list flows, Services, nodes and drops with their counts",
    load: async () => (await import("./get.js")).getCommand(),
  },
  top: {
    summary: "show rates per Service and link, drops, and how long the dataplane's loop takes",
    load: async () => (await import("./top.js")).topCommand(),
  },
  conntrack: {
    summary: "show, count and remove the flows that the agent on this node tracks",
    load: async () => (await import("./conntrack.js")).conntrackCommand(),
  },
  capture: {
    summary: "capture packets on their way through this node",
    load: async () => (await import("./capture.js")).captureCommand(),
  },
  announce: {
    summary: "show who owns which load-balancer address on the LAN",
    load: async () => (await import("./announce.js")).announceCommand(),
  },
  trace: {
    summary: "show the path of a packet through the cluster, and why it takes it",
    load: async () => (await import("./trace.js")).traceCommand(),
  },
  cleanup: {
    summary: "remove what an agent left on this node",
    load: async () => (await import("./cleanup.js")).cleanupCommand(),
  },
  apiserver: {
    summary: "run the embedded Kubernetes API",
    load: async () => (await import("./apiserver.js")).apiserverCommand(),
  },
  controller: {
    summary: "give load-balancer addresses to the Services of a Kubernetes cluster",
    load: async () => (await import("./controller.js")).controllerCommand(),
  },
  install: {
    summary: "make podwire services of this machine",
    load: async () => (await import("./install.js")).installCommand(),
  },
  uninstall: {
    summary: "remove podwire's services and every trace of them",
    load: async () => (await import("./uninstall.js")).uninstallCommand(),
  },
  doctor: {
    summary: "look for what on this machine is in podwire's way",
    load: async () => (await import("./doctor.js")).doctorCommand(),
  },
  token: {
    summary: "make, list and delete the tokens with which nodes join",
    load: async () => (await import("./token.js")).tokenCommand(),
  },
  diagram: {
    summary: "draw the cluster as it is now",
    load: async () => (await import("./diagram.js")).diagramCommand(),
  },
  ui: {
    summary: "serve a web page with the live picture of the cluster",
    load: async () => (await import("./ui.js")).uiCommand(),
  },
  check: {
    summary: "check that the API, this node's tables and its routes agree",
    load: async () => (await import("./check.js")).checkCommand(),
  },
  ipam: {
    summary: "show, check and mend the addresses of pods",
    load: async () => (await import("./ipam.js")).ipamCommand(),
  },
  lab: {
    summary: "run a cluster of network namespaces on this machine",
    load: async () => (await import("./lab.js")).labCommand(),
  },
};

/** The program, with the subcommand that `args` are about loaded and the others only named. */
async function program(args: string[]): Promise<Command> {
  const wanted = args.find((arg) => !arg.startsWith("-") && arg !== "help");
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  const podwire = new Command("podwire")
    .description("VXLAN overlay between Kubernetes nodes, in userspace")
    .version(version)
    .showHelpAfterError("(podwire --help lists the commands)");
  for (const [name, { summary, load }] of Object.entries(COMMANDS))
    podwire.addCommand(name === wanted ? await load() : new Command(name).description(summary));
  exitByException(podwire);
  helpAfterErrors(podwire, "");
  return podwire;
}

/** Lets commander throw instead of exiting, in every subcommand too. */
function exitByException(command: Command): void {
  command.exitOverride();
  for (const each of command.commands) exitByException(each);
}

/** After an error in a subcommand's options, where to read which there are. */
function helpAfterErrors(command: Command, parents: string): void {
  const name = `${parents}${command.name()}`;
  for (const each of command.commands) {
    each.showHelpAfterError(`(${name} ${each.name()} --help tells how it is used)`);
    helpAfterErrors(each, `${name} `);
  }
}

const args = process.argv.slice(2);
try {
  const podwire = await program(args);
  if (args.length === 0) podwire.help({ error: true });
  await podwire.parseAsync(args, { from: "user" });
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  else {
    process.stderr.write(`podwire: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
