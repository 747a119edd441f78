/** `podwire install`: makes podwire services of this machine. */
import { realpathSync } from "node:fs";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { DEFAULT_DATA_DIR } from "./apiserver.js";
import { ipv4Address } from "./arguments.js";
import { checkJoinLine, type JoinLine, joinedKubeconfig } from "./join.js";
import { createToken } from "./token.js";

/** The first start makes keys and reads schemas: seconds; an emulated machine on a busy host took seven minutes. */
const SERVER_TIMEOUT_MS = 900_000;
/** After which time it is said that, and what, is waited for. */
const SERVER_PATIENCE_MS = 10_000;
const OWN_TOKEN_SECONDS = 600;

interface Options {
  role: "master" | "node";
  address: string;
  node: string;
  server?: string;
  token?: string;
  caHash?: string;
  apiPort: number;
  serviceRange: string;
  runPods: boolean;
  start: boolean;
  force?: true;
  root: string;
}

/** The subcommand. */
export function installCommand(): Command {
  return new Command("install")
    .description(
      "Make podwire services of this machine: units of systemd, their options in /etc/podwire, and on a master\n" +
        "the API server, which the node joins by itself. Another node needs --server, --token and --ca-hash, as\n" +
        "`podwire token create` prints them on the master. May be repeated, also for a newer version: options and\n" +
        "certificate stay, unless --force is given.",
    )
    .addOption(
      new Option("-r, --role <role>", "master: API server and agent; node: agent")
        .choices(["master", "node"])
        .makeOptionMandatory(),
    )
    .requiredOption("-a, --address <ip>", "this machine's address on the LAN", ipv4Address)
    .option("--node <name>", "this node's name", hostname().toLowerCase())
    .option("--server <url>", "the API server to join, e.g. https://192.168.2.30:6443")
    .option("--token <id.secret>", "a join token that is still good")
    .option("--ca-hash <sha256:hex>", "hash of the public key of the cluster's CA")
    .option("--api-port <number>", "port of a master's API server", Number, 6443)
    .option("--service-range <cidr>", "where ClusterIPs come from, the same on all nodes", "10.152.183.0/24")
    .option(
      "--no-run-pods",
      "a kubelet runs the pods here: the agent attaches them as its runtime asks by CNI",
    )
    .option("--no-start", "only write files")
    .option("--root <directory>", "write below this directory, and start nothing", "/")
    .option("-f, --force", "write options anew and join anew, where that was done before")
    .action(run);
}

async function run(options: Options): Promise<void> {
  const [{ install }, { RealSystem }] = await Promise.all([
    import("../install/install.js"),
    import("../install/System.js"),
  ]);
  try {
    const { role, node, address, apiPort: port, serviceRange, runPods, start, root } = options;
    if (root === "/" && process.getuid?.() !== 0) throw new Error("only root can install services");
    await install(
      {
        program: {
          node: process.execPath,
          main: realpathSync(fileURLToPath(new URL("main.js", import.meta.url))),
        },
        agent: { node, address, serviceRange, runPods },
        apiserver: role === "master" ? { address, port, serviceRange } : null,
        join: joinLineOf(options),
        start,
        force: options.force === true,
      },
      new RealSystem(root),
      {
        waitForServer,
        ownToken: () => createToken(DEFAULT_DATA_DIR, OWN_TOKEN_SECONDS, `${node}'s own`),
        join: joinedKubeconfig,
      },
      (line) => process.stdout.write(`${line}\n`),
    );
  } catch (error) {
    process.stderr.write(`podwire install: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

/** Null where none of its options is there. Throws an Error where some are. */
function joinLineOf({ role, server, token, caHash }: Options): JoinLine | null {
  if (server === undefined && token === undefined && caHash === undefined) return null;
  if (role === "master")
    throw new Error("a master joins its own API server: --server, --token and --ca-hash are for nodes");
  if (server === undefined || token === undefined || caHash === undefined)
    throw new Error("joining takes all of --server, --token and --ca-hash");
  checkJoinLine({ server, token, caHash });
  return { server, token, caHash };
}

/** Until the API server hands out its CA. */
async function waitForServer(url: string): Promise<void> {
  const { request } = await import("node:https");
  const start = performance.now();
  const where = `${url}; what it says: journalctl -u podwire-apiserver -n 50`;
  let told = false;
  const answers = () =>
    new Promise<boolean>((resolve) => {
      // Whose certificate it is does not matter yet: joining checks it against the CA's hash.
      const asked = request(
        `${url}/join/v1/ca`,
        { rejectUnauthorized: false, timeout: 5_000 },
        (response) => {
          response.resume();
          resolve(response.statusCode === 200);
        },
      );
      asked.on("timeout", () => asked.destroy());
      asked.on("error", () => resolve(false));
      asked.end();
    });
  while (!(await answers())) {
    const waited = performance.now() - start;
    if (waited > SERVER_TIMEOUT_MS) throw new Error(`the API server does not answer at ${where}`);
    if (waited > SERVER_PATIENCE_MS && !told) {
      told = true;
      process.stderr.write(`Still waiting for the API server at ${where}\n`);
    }
    await sleep(200);
  }
}
