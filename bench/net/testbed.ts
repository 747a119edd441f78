/**
 * One variant, set up and ready to be measured: its namespaces, the agents where it has some, and
 * the servers in the remote pod (iperf3, nginx). Owns their start and end.
 */

import type { ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inNetns, type Launcher } from "../command.js";
import { type Memory, memoryOf } from "./accounting.js";
import type { RateProbe } from "./rateSearch.js";
import {
  buildKernelVxlan,
  buildLan,
  buildPlainRouting,
  buildRoutedPods,
  type LanKind,
  type NetSet,
  nameSet,
  netnsPath,
  removeSets,
  SIDE_A,
  SIDE_B,
  SIDES,
  type Side,
  workDirectory,
} from "./topology.js";
import type { Variant } from "./variants.js";

/** Address that the client pod talks to. */
export const SERVER = SIDE_B.podAddress;
export const HTTP_PORT = 8080;

const READY_TIMEOUT_MS = 20_000;
const READY_STEP_MS = 200;
const STOP_GRACE_MS = 3_000;
const LOG_TAIL = 600;

/** A variant could not be brought up. */
export class TestbedError extends Error {
  override name = "TestbedError";
}

export class Testbed {
  readonly variant: Variant;
  readonly set: NetSet;
  /** What UDP tests hand to one another within a repetition: the unpaced run by payload length. */
  readonly unpaced = new Map<number, RateProbe>();
  /** The highest rate found in the repetition before, by payload length. */
  readonly lastRate = new Map<number, number>();

  private readonly launcher: Launcher;
  private readonly index: number;
  private readonly agents: ChildProcess[] = [];
  private iperf: ChildProcess | null = null;
  private nginx: ChildProcess | null = null;

  constructor(launcher: Launcher, variant: Variant, index: number) {
    this.launcher = launcher;
    this.variant = variant;
    this.index = index;
    this.set = nameSet(index);
  }

  /** Builds everything and waits until the pods reach each other. Throws TestbedError. */
  async up(lan: LanKind, agentProgram: string): Promise<void> {
    buildLan(this.set, lan);
    if (this.variant.overlay === "podwire") {
      for (const [side, other] of SIDES) this.startAgent(side, other, agentProgram);
      await this.awaitAgents(agentProgram);
    } else {
      buildRoutedPods(this.set);
      if (this.variant.overlay === "vxlan") buildKernelVxlan(this.set);
      else buildPlainRouting(this.set);
    }
    await this.awaitPing();
    this.startIperf();
    this.startNginx();
  }

  /** Ends the programs and removes the namespaces. */
  async down(): Promise<void> {
    const servers = [this.iperf, this.nginx].filter((server) => server !== null);
    await this.launcher.stop([...servers, ...this.agents], STOP_GRACE_MS);
    removeSets([this.set]);
  }

  /** Process ids of the agents; empty where the kernel does the work. */
  agentPids(): number[] {
    return this.agents.map((agent) => agent.pid!);
  }

  /** Memory of each agent. */
  agentMemory(): Memory[] {
    return this.agentPids()
      .map(memoryOf)
      .filter((memory) => memory !== null);
  }

  /** The agents have not ended. */
  agentsAlive(): boolean {
    return this.agents.every((agent) => agent.exitCode === null && agent.signalCode === null);
  }

  /** A client program as run in pod A. */
  inClient(argv: readonly string[]): string[] {
    return inNetns(this.set.podA, argv);
  }

  /** Ends and restarts the iperf3 server: after a client that failed it may still wait for it. */
  async restartIperf(): Promise<void> {
    if (this.iperf !== null) await this.launcher.stop([this.iperf], STOP_GRACE_MS);
    this.startIperf();
    await sleep(300);
  }

  private startIperf(): void {
    this.iperf = this.launcher.start(
      inNetns(this.set.podB, ["iperf3", "-s", "--forceflush"]),
      this.file("iperf3.log"),
    );
  }

  private startNginx(): void {
    const directory = this.file("nginx");
    mkdirSync(directory, { recursive: true });
    const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
      (name) => `${name}_temp_path ${directory}/${name};`,
    );
    writeFileSync(
      join(directory, "nginx.conf"),
      `worker_processes 2;
daemon off;
pid ${directory}/nginx.pid;
error_log ${directory}/error.log;
events { worker_connections 4096; }
http {
  access_log off;
  ${paths.join("\n  ")}
  server { listen ${HTTP_PORT} backlog=4096; location / { return 200 "ok\\n"; } }
}
`,
    );
    this.nginx = this.launcher.start(
      inNetns(this.set.podB, ["nginx", "-e", `${directory}/error.log`, "-c", `${directory}/nginx.conf`]),
      this.file("nginx.log"),
    );
  }

  private startAgent(side: Side, other: Side, program: string): void {
    const config = {
      node: side.name,
      stateDir: this.stateDirectory(side),
      underlay: { address: side.address },
      podPool: "10.1.0.0/16",
      blocks: [side.block],
      vteps: [{ node: other.name, address: other.address, blocks: [other.block] }],
      pods: [{ name: `bench/${side.pod}`, netns: netnsPath(this.set[side.pod]), address: side.podAddress }],
      dataplane: this.variant.dataplane,
    };
    const file = this.file(`${side.node}.yaml`);
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(config, null, 2));
    this.agents.push(
      this.launcher.start(
        inNetns(this.set[side.node], [process.execPath, program, "agent", "--config", file]),
        this.agentLog(side),
      ),
    );
  }

  /** Waits until both agents answer on their control sockets. */
  private async awaitAgents(program: string): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    for (const [side] of SIDES) {
      const status = [
        process.execPath,
        program,
        "status",
        "--state-dir",
        this.stateDirectory(side),
        "--json",
      ];
      for (;;) {
        if (!this.agentsAlive()) throw new TestbedError(`an agent ended\n${this.agentLogs()}`);
        if (existsSync(join(this.stateDirectory(side), "agent.sock"))) {
          const result = await this.launcher.run(inNetns(this.set[side.node], status), 5_000);
          if (result.code === 0) break;
        }
        if (performance.now() > deadline) throw new TestbedError(`no status in time\n${this.agentLogs()}`);
        await sleep(READY_STEP_MS);
      }
    }
  }

  private async awaitPing(): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    for (;;) {
      const ping = this.inClient(["ping", "-n", "-q", "-c", "1", "-W", "1", SERVER]);
      if ((await this.launcher.run(ping, 5_000)).code === 0) return;
      if (performance.now() > deadline)
        throw new TestbedError(`pods do not reach each other\n${this.agentLogs()}`);
      await sleep(READY_STEP_MS);
    }
  }

  /** The last words of each agent. */
  agentLogs(): string {
    if (this.agents.length === 0) return "";
    return [SIDE_A, SIDE_B]
      .map((side) => `${side.node}: ${readFileSync(this.agentLog(side), "utf8").trim().slice(-LOG_TAIL)}`)
      .join("\n");
  }

  private agentLog(side: Side): string {
    return this.file(`${side.node}.log`);
  }

  private stateDirectory(side: Side): string {
    return this.file(`state-${side.node}`);
  }

  /** A path of this set's own in the work directory. */
  private file(name: string): string {
    return join(workDirectory(), `${this.index}-${name}`);
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
