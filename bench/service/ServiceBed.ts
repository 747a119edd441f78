/**
 * One variant at one number of Services, set up and ready to be measured: two nodes, pods A and C on
 * the first and B on the second, a computer of the LAN, and the servers. Owns their start and end.
 */

import { inNetns, type Launcher } from "../command.js";
import { Agents } from "../testbed/Agents.js";
import { awaitReach, STOP_GRACE_MS } from "../testbed/reach.js";
import { HTTP_PORT, SERVERS_OF_POD_B, Servers } from "../testbed/Servers.js";
import type { Target, TestPath } from "../testbed/TestPath.js";
import {
  buildLan,
  buildServiceEnds,
  nameServiceSet,
  POD_C_ADDRESS,
  removeSets,
  type ServiceSet,
  SIDE_A,
  SIDES,
} from "../testbed/topology.js";
import { SPREAD_ANSWER } from "./check.js";
import { iptablesTranslator, nftablesTranslator } from "./kernel.js";
import type { IptablesKind } from "./options.js";
import { PodwireTranslator } from "./podwire.js";
import { type BenchService, CLUSTER_IP_TARGET, NODE_PORT_TARGET, SPREAD_PORTS } from "./services.js";
import type { Translator } from "./Translator.js";
import type { Variant, Way } from "./variants.js";

export class ServiceBed {
  readonly set: ServiceSet;
  readonly translator: Translator;
  private readonly agents: Agents;
  private readonly serversB: Servers;
  private readonly serversC: Servers;
  private readonly paths: Record<Way, TestPath>;

  /** @param index number of the set; @param agentProgram the agent's main.js */
  constructor(
    private readonly launcher: Launcher,
    readonly variant: Variant,
    index: number,
    agentProgram: string,
    iptables: IptablesKind,
  ) {
    this.set = nameServiceSet(index);
    this.agents = new Agents(launcher, agentProgram, this.set, index);
    this.serversB = new Servers(launcher, this.set.podB, `${index}-podB`);
    this.serversC = new Servers(launcher, this.set.podC, `${index}-podC`);
    this.translator = {
      iptables: () => iptablesTranslator(launcher, this.set, index, iptables),
      nftables: () => nftablesTranslator(launcher, this.set, index),
      podwire: () => new PodwireTranslator(launcher, this.set, index, this.agents, variant),
    }[variant.translator]();
    this.paths = {
      clusterIP: this.path(CLUSTER_IP_TARGET, (argv) => this.inPod(argv)),
      nodePort: this.path(NODE_PORT_TARGET, (argv) => this.inPc(argv)),
      pod: this.path(SERVERS_OF_POD_B, (argv) => this.inPod(argv)),
    };
  }

  /** Builds everything but the Services, and waits until the pods reach each other. Throws TestbedError. */
  async up(): Promise<void> {
    buildLan(this.set, "as-is");
    buildServiceEnds(this.set);
    await this.translator.build();
    const logs = () => this.agents.logs();
    await awaitReach(this.launcher, this.set.podA, SERVERS_OF_POD_B.iperf.address, logs);
    await awaitReach(this.launcher, this.set.podB, POD_C_ADDRESS, logs);
    await awaitReach(this.launcher, this.set.pc, SIDE_A.address, logs);
    const spread = SPREAD_PORTS.map((port) => ({ port, answer: SPREAD_ANSWER }));
    this.serversB.startIperf();
    this.serversB.startRedis();
    this.serversB.startNginx([{ port: HTTP_PORT, answer: "ok" }, ...spread]);
    this.serversC.startNginx(spread);
  }

  /** Puts the Services into effect, on one node after the other. Returns the seconds of each. Throws TestbedError. */
  async load(services: readonly BenchService[]): Promise<number[]> {
    const seconds: number[] = [];
    for (const [side] of SIDES) seconds.push(await this.translator.load(side, services));
    return seconds;
  }

  pathOf(way: Way): TestPath {
    return this.paths[way];
  }

  /** Forgets what a repetition's tests handed to one another. */
  nextRepetition(): void {
    for (const path of Object.values(this.paths)) path.unpaced.clear();
  }

  /** A program as run in the client pod, on node A. */
  inPod(argv: readonly string[]): string[] {
    return inNetns(this.set.podA, argv);
  }

  /** A program as run on the computer of the LAN. */
  inPc(argv: readonly string[]): string[] {
    return inNetns(this.set.pc, argv);
  }

  agentPids(): number[] {
    return this.agents.pids();
  }

  /** The agents have not ended. */
  agentsAlive(): boolean {
    return this.agents.alive();
  }

  /** The last words of each agent. */
  agentLogs(): string {
    return this.agents.logs();
  }

  /** Ends the programs and removes the namespaces. */
  async down(): Promise<void> {
    const servers = [...this.serversB.processes(), ...this.serversC.processes()];
    await this.launcher.stop([...servers, ...this.agents.processes()], STOP_GRACE_MS);
    removeSets([this.set]);
  }

  private path(target: Target, inClient: TestPath["inClient"]): TestPath {
    return {
      target,
      unpaced: new Map(),
      lastRate: new Map(),
      inClient,
      agentPids: () => this.agentPids(),
      restartIperf: () => this.serversB.restartIperf(),
    };
  }
}
