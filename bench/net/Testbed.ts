/**
 * One variant, set up and ready to be measured: its namespaces, the agents where it has some, and
 * the servers in the remote pod (iperf3, nginx). Owns their start and end.
 */

import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import type { Launcher } from "../command.js";
import { inNetns } from "../command.js";
import { Agents } from "../testbed/Agents.js";
import type { Memory } from "../testbed/accounting.js";
import type { RateProbe } from "../testbed/rateSearch.js";
import { awaitReach, STOP_GRACE_MS } from "../testbed/reach.js";
import { HTTP_PORT, SERVERS_OF_POD_B, Servers } from "../testbed/Servers.js";
import type { TestPath } from "../testbed/TestPath.js";
import {
  buildKernelVxlan,
  buildLan,
  buildPlainRouting,
  buildRoutedPods,
  type LanKind,
  type NetSet,
  nameSet,
  removeSets,
  SIDES,
  workDirectory,
} from "../testbed/topology.js";
import type { Variant } from "./variants.js";

const METRICS = "127.0.0.1:9475";
/** A scrape that fails, or is no text of podwire's, ends it. */
const SCRAPER = `
setInterval(async () => {
  const answer = await fetch(process.argv[1]).then((r) => r.text()).catch(String);
  if (!answer.includes("podwire_frames_received_total")) { console.error(answer.slice(0, 500)); process.exit(1); }
}, 1000)`;

export class Testbed implements TestPath {
  readonly variant: Variant;
  readonly set: NetSet;
  readonly target = SERVERS_OF_POD_B;
  readonly unpaced = new Map<number, RateProbe>();
  readonly lastRate = new Map<number, number>();

  private readonly launcher: Launcher;
  private readonly agents: Agents;
  private readonly servers: Servers;
  private readonly scrapers: ChildProcess[] = [];

  /** @param index number of the set; @param agentProgram the agent's main.js */
  constructor(
    launcher: Launcher,
    variant: Variant,
    private readonly index: number,
    agentProgram: string,
  ) {
    this.launcher = launcher;
    this.variant = variant;
    this.set = nameSet(index);
    this.agents = new Agents(launcher, agentProgram, this.set, index);
    this.servers = new Servers(launcher, this.set.podB, `${index}-podB`);
  }

  /** Builds everything and waits until the pods reach each other. Throws TestbedError. */
  async up(lan: LanKind): Promise<void> {
    buildLan(this.set, lan);
    if (this.variant.overlay === "podwire") {
      for (const [side, other] of SIDES)
        this.agents.write(side, {
          ...this.agents.fileOf(side, other, this.variant.dataplane),
          metrics: this.variant.scraped ? METRICS : "off",
        });
      await this.agents.start();
      if (this.variant.scraped) this.startScrapers();
    } else {
      buildRoutedPods(this.set);
      if (this.variant.overlay === "vxlan") buildKernelVxlan(this.set);
      else buildPlainRouting(this.set);
    }
    await awaitReach(this.launcher, this.set.podA, this.target.iperf.address, () => this.agents.logs());
    this.servers.startIperf();
    this.servers.startNginx([{ port: HTTP_PORT, answer: "ok" }]);
  }

  /** Reads each agent's metrics once a second, as Prometheus would from elsewhere. */
  private startScrapers(): void {
    for (const [side] of SIDES)
      this.scrapers.push(
        this.launcher.start(
          inNetns(this.set[side.node], [process.execPath, "-e", SCRAPER, `http://${METRICS}/metrics`]),
          join(workDirectory(), `${this.index}-scraper-${side.node}.log`),
        ),
      );
  }

  /** Ends the programs and removes the namespaces. */
  async down(): Promise<void> {
    await this.launcher.stop(
      [...this.scrapers, ...this.servers.processes(), ...this.agents.processes()],
      STOP_GRACE_MS,
    );
    removeSets([this.set]);
  }

  agentPids(): number[] {
    return this.agents.pids();
  }

  /** Memory of each agent. */
  agentMemory(): Memory[] {
    return this.agents.memory();
  }

  /** The agents have not ended, nor has one who reads their metrics. */
  agentsAlive(): boolean {
    return this.agents.alive() && this.scrapers.every(({ exitCode }) => exitCode === null);
  }

  /** The last words of each agent. */
  agentLogs(): string {
    return this.agents.logs();
  }

  /** A client program as run in pod A. */
  inClient(argv: readonly string[]): string[] {
    return inNetns(this.set.podA, argv);
  }

  restartIperf(): Promise<void> {
    return this.servers.restartIperf();
  }
}
