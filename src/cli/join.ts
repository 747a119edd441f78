/** `podwire join`: gets this node a certificate, and writes the kubeconfig that its agent uses. */
import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { Command } from "commander";

const DEFAULT_KUBECONFIG = "/etc/podwire/kubeconfig";
const TOKEN = /^[a-z0-9]{6}\.[a-z0-9]{16}$/;

/** With what a node joins. */
export type JoinLine = Pick<Options, "server" | "token" | "caHash">;

interface Options {
  server: string;
  token: string;
  caHash: string;
  node: string;
  kubeconfig: string;
  force?: true;
}

/** The subcommand. */
export function joinCommand(): Command {
  return new Command("join")
    .description(
      "Get this node a certificate from the cluster's API server, and write the kubeconfig for\n" +
        "`podwire agent --kubeconfig`. The key is made here and stays here.",
    )
    .requiredOption("--server <url>", "the API server, e.g. https://192.168.2.30:6443")
    .requiredOption("--token <id.secret>", "a join token that is still good")
    .requiredOption("--ca-hash <sha256:hex>", "hash of the public key of the cluster's CA")
    .option("--node <name>", "this node's name", hostname().toLowerCase())
    .option("--kubeconfig <file>", "file to write, readable by its owner only", DEFAULT_KUBECONFIG)
    .option("--force", "replace the file")
    .action(run);
}

async function run(options: Options): Promise<void> {
  const { node, kubeconfig: file } = options;
  try {
    checkJoinLine(options);
    if (existsSync(file) && options.force !== true)
      throw new Error(`${file} exists already: this node has joined; --force replaces the file`);
    writePrivate(file, await joinedKubeconfig(options, node));
    process.stdout.write(
      `${node} has joined. Start its agent:\n  podwire agent --kubeconfig ${file} --node ${node} --underlay-address THIS-NODES-LAN-ADDRESS\n`,
    );
  } catch (error) {
    process.stderr.write(`podwire join: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

/** Throws an Error that names the option which cannot be right. */
export function checkJoinLine({ server, token }: JoinLine): void {
  if (!/^https:\/\//.test(server)) throw new Error(`--server: ${server} must begin with https://`);
  if (!TOKEN.test(token))
    throw new Error("--token: a token is six characters, a dot and sixteen characters, a-z and 0-9");
}

/** Gets a node its certificate; the text of the kubeconfig with it. Rejects with an Error that says what to do. */
export async function joinedKubeconfig({ server, token, caHash }: JoinLine, node: string): Promise<string> {
  const [{ join }, { kubeconfig }, { isReason }] = await Promise.all([
    import("../kube/join.js"),
    import("../apiserver/pki/kubeconfig.js"),
    import("../kube/KubeError.js"),
  ]);
  try {
    const { caCertificate, certificate, key } = await join({ server, token, caHash, node });
    return kubeconfig({ server, caCertificate, user: `system:node:${node}`, certificate, key });
  } catch (error) {
    const hint = isReason(error, "Unauthorized")
      ? " (the token is wrong or has expired: `podwire token create` makes a new one)"
      : "";
    throw new Error(`${(error as Error).message}${hint}`);
  }
}

/** Whole or not at all, and for nobody else at any moment. */
function writePrivate(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const temporary = `${file}.${process.pid}.new`;
  writeFileSync(temporary, text, { mode: 0o600, flag: "wx" });
  renameSync(temporary, file);
}
