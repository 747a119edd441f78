/** `podwire announce`: what the running agent says of load-balancer addresses. */
import { join } from "node:path";
import { Command, Option } from "commander";
import type { AnnounceStatus } from "../agent/announceStatus.js";

interface Options {
  config?: string;
  stateDir?: string;
  output?: "json";
}

/** The subcommand. */
export function announceCommand(): Command {
  const announce = new Command("announce").description("Load-balancer addresses on the LAN.");
  announce
    .command("status")
    .description(
      "Show each load-balancer address as this node sees it: who owns it, why, since when; and the nodes that\n" +
        "are watched by BFD.",
    )
    .option("-c, --config <file>", "config file that names the state directory")
    .option("-d, --state-dir <dir>", "the state directory (default: /run/podwire)")
    .addOption(new Option("-o, --output <format>", "print JSON").choices(["json"]))
    .action(run);
  return announce;
}

async function run(options: Options): Promise<void> {
  const { stateDirectory } = await import("./stateDirectory.js");
  const { ask } = await import("../agent/StatusServer.js");
  const { announcementText } = await import("../agent/announcementText.js");
  try {
    const directory = await stateDirectory(options);
    const status = await ask<AnnounceStatus>(join(directory, "agent.sock"), "announcement").catch(
      (error: NodeJS.ErrnoException) => {
        const none = error.code === "ENOENT" || error.code === "ECONNREFUSED";
        throw new Error(none ? `no agent runs on ${directory}; start one with podwire agent` : error.message);
      },
    );
    const json = options.output === "json";
    process.stdout.write(
      json ? `${JSON.stringify(status, null, 2)}\n` : announcementText(status, new Date()),
    );
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
