/** `podwire cleanup`: removes what agents left on this node. */
import { Command } from "commander";

interface Options {
  config?: string;
  stateDir?: string;
  force?: true;
}

/** The subcommand. */
export function cleanupCommand(): Command {
  return new Command("cleanup")
    .description(
      "End the pods that the agent runs, remove every device (with its addresses, routes and neighbours) that\n" +
        "agents on a state directory made, in this node's namespace and in the pods', and bring rules and sysctls\n" +
        "back to what they were. May be repeated.",
    )
    .option("-c, --config <file>", "config file that names the state directory")
    .option("-d, --state-dir <dir>", "the state directory (default: /run/podwire)")
    .option("-f, --force", "even while an agent runs there (which will make its devices again)")
    .action(run);
}

/** Pods that `agent --run-pods` left running. */
async function removePods(directory: string, force: boolean): Promise<void> {
  const { LockedError, StateDir } = await import("../agent/StateDir.js");
  const holder = new StateDir(directory).holder();
  if (holder !== 0 && !force) throw new LockedError(directory, holder);
  const { removePods } = await import("../agent/podRuntime.js");
  for (const pod of await removePods(directory)) process.stdout.write(`removed pod ${pod}\n`);
}

async function run(options: Options): Promise<void> {
  const { stateDirectory } = await import("./stateDirectory.js");
  const { cleanup } = await import("../agent/cleanup.js");
  const { NetlinkHost } = await import("../host/NetlinkHost.js");
  const { native } = await import("../binding/index.js");
  const { LockedError } = await import("../agent/StateDir.js");
  try {
    const directory = await stateDirectory(options);
    await removePods(directory, options.force === true);
    const report = await cleanup(directory, new NetlinkHost(native), options.force === true);
    for (const device of report.removed) process.stdout.write(`removed ${device}\n`);
    for (const change of report.restored) process.stdout.write(`restored ${change}\n`);
    for (const device of report.gone) process.stdout.write(`${device} was gone already\n`);
    for (const { device, message } of report.failed)
      process.stderr.write(`could not remove ${device}: ${message}\n`);
    const { removed, gone, failed, restored } = report;
    if (removed.length + gone.length + failed.length + restored.length === 0)
      process.stdout.write(`nothing is recorded in ${directory}\n`);
    if (report.failed.length > 0) process.exitCode = 1;
  } catch (error) {
    const remedy = error instanceof LockedError ? ". Stop it first, or use --force." : "";
    process.stderr.write(`${(error as Error).message}${remedy}\n`);
    process.exitCode = 1;
  }
}
