/**
 * Starts the built `podwire agent` in a test's namespace and talks to its status socket. Needs
 * `npm run build` before.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { type SpawnOptions, type TestNet, type TestProcess, waitFor } from "./netns.js";

/** Where the built command line program can be: we run from the sources, or from dist-bench/test/support. */
const PLACES = ["../../dist/cli/main.js", "../../../dist/cli/main.js"].map((path) =>
  fileURLToPath(new URL(path, import.meta.url)),
);
/** The built command line program. */
export const PODWIRE = PLACES.find(existsSync) ?? PLACES[0]!;

export interface AgentOptions extends SpawnOptions {
  /** State directory; default: a new temporary one. Written into the config unless it has one. */
  stateDir?: string;
  /** Further arguments of `podwire agent`. */
  args?: string[];
}

/** A running `podwire agent`. */
export class TestAgent {
  constructor(
    readonly process: TestProcess,
    readonly stateDir: string,
    readonly configFile: string,
  ) {}

  /** Waits until this very process says it is ready; throws with its log if it ends before. */
  async ready(deadlineMs = 30_000): Promise<void> {
    await waitFor(
      () => {
        if (this.process.code !== null) return true;
        return readyPid(this.stateDir) === this.process.pid;
      },
      { deadlineMs, what: "agent ready" },
    );
    if (this.process.code !== null)
      throw new Error(`agent ended with ${this.process.code}:\n${this.process.stderr}`);
  }

  /** One request on the status socket. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look at whatever field they are about.
  request(get: "status" | "counters" | "announcement"): Promise<any> {
    return new Promise((resolve, reject) => {
      const socket = connect(join(this.stateDir, "agent.sock"));
      let text = "";
      socket.setEncoding("utf8");
      socket.on("error", reject);
      socket.on("data", (chunk) => {
        text += chunk;
      });
      socket.on("end", () => resolve(JSON.parse(text)));
      socket.end(`${JSON.stringify({ get })}\n`);
    });
  }

  /** Writes a new config file in place. */
  rewrite(config: object | string): void {
    writeFileSync(this.configFile, typeof config === "string" ? config : stringify(config));
  }

  stop(): Promise<number> {
    return this.process.stop();
  }
}

/** Starts an agent in namespace `ns` with `config` (an object, or YAML text). Does not wait. */
export function startAgent(
  net: TestNet,
  ns: string,
  config: object | string,
  options: AgentOptions = {},
): TestAgent {
  const directory = net.directory();
  const stateDir = options.stateDir ?? join(directory, "state");
  const configFile = join(directory, "agent.yaml");
  const text = typeof config === "string" ? config : stringify({ stateDir, ...config });
  writeFileSync(configFile, text);
  const args = [PODWIRE, "agent", "--config", configFile, ...(options.args ?? [])];
  return new TestAgent(
    net.spawn(ns, process.execPath, args, { detached: true, ...options }),
    stateDir,
    configFile,
  );
}

function readyPid(stateDir: string): number {
  const file = join(stateDir, "ready");
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as { pid: number }).pid : -1;
}
