/** How a command reaches the agent of this node. */
import { join } from "node:path";
import type { Command } from "commander";

export interface DirectoryOptions {
  config?: string;
  stateDir?: string;
}

/** Adds the options that say which agent. */
export function directoryOptions(command: Command): Command {
  return command
    .option("-c, --config <file>", "config file that names the state directory")
    .option("--state-dir <dir>", "the state directory (default: /run/podwire)");
}

/** Does `work` with the agent's socket; what fails is told on stderr, and the exit status is 1. */
export async function withAgent(
  options: DirectoryOptions,
  work: (socket: string) => Promise<void>,
): Promise<void> {
  const { stateDirectory } = await import("./stateDirectory.js");
  try {
    const directory = await stateDirectory(options);
    await work(join(directory, "agent.sock")).catch((error: NodeJS.ErrnoException) => {
      const none = error.code === "ENOENT" || error.code === "ECONNREFUSED";
      throw none ? new Error(`no agent runs on ${directory}; start one with podwire agent`) : error;
    });
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

/** Writes to stdout; resolves when there is room for more. A reader that has gone (head) is an EPIPE error. */
export function write(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
  });
}
