/** `podwire token`: tokens with which nodes join the cluster. */
import { Command, InvalidArgumentError } from "commander";
import { DEFAULT_DATA_DIR } from "./apiserver.js";

const UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** The subcommand. */
export function tokenCommand(): Command {
  const command = new Command("token").description("Make, list and delete the tokens with which nodes join");
  const dataDir = [
    "-d, --data-dir <directory>",
    "the API server's data directory",
    DEFAULT_DATA_DIR,
  ] as const;
  command
    .command("create")
    .description("Make a token; prints it with the hash of the cluster CA that goes with it")
    .option(...dataDir)
    .option("--ttl <duration>", "how long it is good: 30m, 24h, 7d", parseDuration, 86_400)
    .option("--description <text>", "what it is for", "")
    .action(create);
  command
    .command("list")
    .description("List the tokens that are good")
    .option(...dataDir)
    .action(list);
  command
    .command("delete")
    .description("Delete a token")
    .argument("<token>", "the token, or its part before the dot")
    .option(...dataDir)
    .action(remove);
  return command;
}

async function create(options: { dataDir: string; ttl: number; description: string }): Promise<void> {
  const { token, caHash } = await createToken(options.dataDir, options.ttl, options.description);
  process.stdout.write(`${token} ${caHash}\n`);
}

/** Makes a token that is good for `ttl` seconds; with it the hash of the cluster's CA. */
export async function createToken(
  dataDir: string,
  ttl: number,
  description: string,
): Promise<{ token: string; caHash: string }> {
  const { ClusterCa } = await import("../apiserver/pki/ClusterCa.js");
  const tokens = await open(dataDir);
  const { join } = await import("node:path");
  const ca = await ClusterCa.open(join(dataDir, "pki"));
  return { token: tokens.create(ttl, description), caHash: ca.hash };
}

async function list(options: { dataDir: string }): Promise<void> {
  const rows = (await open(options.dataDir)).list();
  process.stdout.write("ID      EXPIRES                   DESCRIPTION\n");
  for (const { id, expires, description } of rows)
    process.stdout.write(`${id}  ${expires}  ${description}\n`);
}

async function remove(token: string, options: { dataDir: string }): Promise<void> {
  const [id] = token.split(".");
  if (!(await open(options.dataDir)).delete(token)) throw new Error(`token "${id}" not found`);
  process.stdout.write(`token "${id}" deleted\n`);
}

async function open(dataDir: string) {
  const { JoinTokens } = await import("../apiserver/auth/JoinTokens.js");
  return new JoinTokens(dataDir);
}

/** "24h" in seconds. */
function parseDuration(text: string): number {
  const match = /^(\d+)([smhd])$/.exec(text);
  const seconds = match === null ? 0 : Number(match[1]) * UNITS[match[2]!]!;
  if (seconds <= 0) throw new InvalidArgumentError("Want a duration such as 30m, 24h or 7d.");
  return seconds;
}
