/**
 * The two podwire agents of a set, each from a config file of its own. Owns their start, their
 * files and what can be learned of them from outside.
 */

import type { ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { AgentConfig } from "../../src/model/AgentConfig.js";
import { inNetns, type Launcher } from "../command.js";
import { type Memory, memoryOf } from "./accounting.js";
import { sleep } from "./session.js";
import { TestbedError } from "./TestbedError.js";
import { type NetSet, netnsPath, SIDES, type Side, workDirectory } from "./topology.js";

const READY_TIMEOUT_MS = 20_000;
const READY_STEP_MS = 200;
const LOG_TAIL = 600;
/** Pool of the pods of both nodes. */
export const POD_POOL = "10.1.0.0/16";

/** A config file's content, as far as both benchmarks write the same. */
export interface AgentFile {
  pods: { name: string; netns: string; address: string }[];
  [field: string]: unknown;
}

export class Agents {
  private readonly running = new Map<Side, ChildProcess>();

  /**
   * @param program the agent's main.js
   * @param index number of the set, for the names of files
   */
  constructor(
    private readonly launcher: Launcher,
    private readonly program: string,
    private readonly set: NetSet,
    private readonly index: number,
  ) {}

  /** What one node's file says: the other node as VTEP, and the pod of this side. */
  fileOf(side: Side, other: Side, dataplane: Partial<AgentConfig["dataplane"]>): AgentFile {
    return {
      node: side.name,
      stateDir: this.stateDirectory(side),
      underlay: { address: side.address },
      podPool: POD_POOL,
      blocks: [side.block],
      vteps: [{ node: other.name, address: other.address, blocks: [other.block] }],
      pods: [{ name: `bench/${side.pod}`, netns: netnsPath(this.set[side.pod]), address: side.podAddress }],
      dataplane,
    };
  }

  /** Writes a node's config file at one blow. Returns its path. */
  write(side: Side, content: AgentFile): string {
    this.prepare(side, content)();
    return this.configFile(side);
  }

  /** Writes a node's config file beside the one in force. Returns what puts it in its place. */
  prepare(side: Side, content: AgentFile): () => void {
    const file = this.configFile(side);
    mkdirSync(dirname(file), { recursive: true });
    // JSON is YAML.
    writeFileSync(`${file}.new`, JSON.stringify(content));
    return () => renameSync(`${file}.new`, file);
  }

  /** Runs an agent's command line inside its node, to its end. */
  run(side: Side, args: readonly string[], timeoutMs: number) {
    return this.launcher.run(this.commandLine(side, args), timeoutMs);
  }

  /** Starts the agents of both nodes, whose files are written, and waits for their answers. Throws TestbedError. */
  async start(): Promise<void> {
    for (const [side] of SIDES)
      this.running.set(
        side,
        this.launcher.start(
          this.commandLine(side, ["agent", "--config", this.configFile(side)]),
          this.logFile(side),
        ),
      );
    const deadline = performance.now() + READY_TIMEOUT_MS;
    for (const [side] of SIDES) await this.awaitAnswer(side, deadline);
  }

  /** Makes one agent read its file again, at once. */
  reload(side: Side): void {
    this.running.get(side)!.kill("SIGHUP");
  }

  /** The agents' processes; empty before the start. */
  processes(): ChildProcess[] {
    return [...this.running.values()];
  }

  pids(): number[] {
    return this.processes().map((agent) => agent.pid!);
  }

  /** Memory of each agent. */
  memory(): Memory[] {
    return this.pids()
      .map(memoryOf)
      .filter((memory) => memory !== null);
  }

  /** None has ended. */
  alive(): boolean {
    return this.processes().every((agent) => agent.exitCode === null && agent.signalCode === null);
  }

  /** The last words of each agent. */
  logs(): string {
    return [...this.running.keys()]
      .map((side) => `${side.node}: ${readFileSync(this.logFile(side), "utf8").trim().slice(-LOG_TAIL)}`)
      .join("\n");
  }

  /** Waits until an agent answers on its control socket. */
  private async awaitAnswer(side: Side, deadline: number): Promise<void> {
    for (;;) {
      if (!this.alive()) throw new TestbedError(`an agent ended\n${this.logs()}`);
      if (existsSync(join(this.stateDirectory(side), "agent.sock"))) {
        const status = ["status", "--state-dir", this.stateDirectory(side), "--json"];
        if ((await this.run(side, status, 5_000)).code === 0) return;
      }
      if (performance.now() > deadline) throw new TestbedError(`no status in time\n${this.logs()}`);
      await sleep(READY_STEP_MS);
    }
  }

  private commandLine(side: Side, args: readonly string[]): string[] {
    return inNetns(this.set[side.node], [process.execPath, this.program, ...args]);
  }

  /** In a directory of its own: the agent watches that, and would look at every file written there. */
  private configFile(side: Side): string {
    return join(workDirectory(), `${this.index}-${side.node}`, "config.yaml");
  }

  private logFile(side: Side): string {
    return join(workDirectory(), `${this.index}-${side.node}.log`);
  }

  private stateDirectory(side: Side): string {
    return join(workDirectory(), `${this.index}-state-${side.node}`);
  }
}
