/** podwire on three nodes: agents from config files, a Service at a load-balancer address. */

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { AnnouncementReportStatus } from "../../src/agent/AnnouncementReport.js";
import { ask } from "../../src/agent/StatusServer.js";
import { inNetns, type Launcher } from "../command.js";
import { POD_POOL } from "../testbed/Agents.js";
import { awaitReach, STOP_GRACE_MS } from "../testbed/reach.js";
import { HTTP_PORT, REDIS_PORT, Servers } from "../testbed/Servers.js";
import { sleep } from "../testbed/session.js";
import { TestbedError } from "../testbed/TestbedError.js";
import { addNetns, ip, macOf, netnsPath, removeSets, workDirectory } from "../testbed/topology.js";
import { type Bed, FAULTS, type Fault } from "./Bed.js";
import { monotonicMs } from "./clock.js";
import {
  type BedNode,
  buildFailoverLan,
  type FailoverSet,
  NODES,
  nameFailoverSet,
  OWNER,
  PODS,
  VIP,
} from "./nodes.js";

/** Profiles of BFD, as the agent's config names them. */
export type Profile = "default" | "fast";
/** Whether endpoints that come and go are there. */
export type Endpoints = "all" | "steady";

/** Port of the echo servers. */
export const STREAM_PORT = 7000;
const WEB_CLUSTER_IP = "10.152.183.10";
const REDIS_CLUSTER_IP = "10.152.183.11";
/** Where redis is: not on the owner, nor on the node that takes over. */
const REDIS_NODE = NODES[2]!;
const SETTLE_TIMEOUT_MS = 30_000;
const SETTLE_STEP_MS = 20;
const LOG_TAIL = 600;
const ECHO = fileURLToPath(new URL("echo.js", import.meta.url));

export class PodwireBed implements Bed {
  readonly set: FailoverSet;
  readonly faults = FAULTS;
  readonly url = `http://${VIP}/`;
  private readonly agents = new Map<BedNode, ChildProcess>();
  private readonly logFiles = new Map<BedNode, string>();
  private readonly servers: Servers[] = [];
  private readonly echoes: ChildProcess[] = [];
  private readonly macs = new Map<string, string>();
  private starts = 0;

  /** @param program the agent's main.js; @param index number of the set */
  constructor(
    private readonly launcher: Launcher,
    private readonly program: string,
    private readonly index: number,
    private readonly profile: Profile,
  ) {
    this.set = nameFailoverSet(
      index,
      NODES.map(({ name }) => name),
      PODS.map(({ pod }) => pod.name),
    );
  }

  get pc(): string {
    return this.set.pc;
  }

  async up(): Promise<void> {
    buildFailoverLan(this.set, NODES.length);
    for (const { name } of NODES) this.macs.set(name, macOf(this.set[name]!, "e0"));
    for (const { pod } of PODS) addNetns(this.set[pod.name]!);
    this.setEndpoints("steady");
    for (const node of NODES) this.startAgent(node);
    await this.settled();
    for (const { pod } of PODS) this.serve(pod.name);
    for (const { node } of PODS.filter((each) => each.node !== OWNER))
      await awaitReach(this.launcher, this.set[OWNER.pod.name]!, node.pod.address, () => this.logs());
  }

  /**
   * Says in all config files which pods are endpoints. The agents watch them; a SIGHUP would end one that
   * has just been started.
   */
  setEndpoints(endpoints: Endpoints): void {
    for (const node of NODES) {
      const file = this.configFile(node);
      mkdirSync(dirname(file), { recursive: true });
      // JSON is YAML.
      writeFileSync(`${file}.new`, JSON.stringify(this.configOf(node, endpoints)));
      renameSync(`${file}.new`, file);
    }
  }

  async inject(fault: Fault): Promise<number> {
    const agent = this.agents.get(OWNER)!;
    const at = monotonicMs();
    if (fault === "link") ip(this.set.lan, `link set ${OWNER.bridgePort} down`);
    else agent.kill(fault === "kill" ? "SIGKILL" : fault === "freeze" ? "SIGSTOP" : "SIGTERM");
    return at;
  }

  async recover(fault: Fault): Promise<void> {
    if (fault === "link") ip(this.set.lan, `link set ${OWNER.bridgePort} up`);
    else if (fault === "freeze") this.agents.get(OWNER)!.kill("SIGCONT");
    else {
      const agent = this.agents.get(OWNER)!;
      if (agent.exitCode === null && agent.signalCode === null) await once(agent, "exit");
      this.startAgent(OWNER);
    }
    await this.settled();
  }

  logs(): string {
    return [...this.logFiles]
      .map(([{ name }, file]) => `${name}: ${readFileSync(file, "utf8").trim().slice(-LOG_TAIL)}`)
      .join("\n");
  }

  async down(): Promise<void> {
    const agents = [...this.agents.values()];
    for (const agent of agents) agent.kill("SIGCONT");
    const servers = this.servers.flatMap((each) => each.processes());
    await this.launcher.stop([...servers, ...this.echoes, ...agents], STOP_GRACE_MS);
    removeSets([this.set]);
  }

  /** Waits until every node knows every other and the address is at its owner. */
  private async settled(): Promise<void> {
    const deadline = performance.now() + SETTLE_TIMEOUT_MS;
    for (;;) {
      const seen = await Promise.all(NODES.map((node) => this.status(node)));
      const well = seen.every(
        (status) =>
          status !== null &&
          status.neighbors.length === NODES.length - 1 &&
          status.neighbors.every(({ state }) => state === "Up") &&
          status.addresses.every(
            ({ owner, answers }) => owner === OWNER.name && answers === (status.node === OWNER.name),
          ),
      );
      if (well) return;
      if (performance.now() > deadline)
        throw new TestbedError(`the address is not at its owner in time\n${this.logs()}`);
      await sleep(SETTLE_STEP_MS);
    }
  }

  /** What a node says of announcement; null where it does not answer. */
  private async status(node: BedNode): Promise<AnnouncementReportStatus | null> {
    try {
      return await ask<AnnouncementReportStatus>(
        join(this.stateDirectory(node), "agent.sock"),
        "announcement",
      );
    } catch {
      return null;
    }
  }

  private startAgent(node: BedNode): void {
    const log = join(workDirectory(), `${this.index}-${node.name}-${this.starts++}.log`);
    const argv = [process.execPath, this.program, "agent", "--config", this.configFile(node)];
    this.agents.set(node, this.launcher.startService(inNetns(this.set[node.name]!, argv), log));
    this.logFiles.set(node, log);
  }

  private serve(pod: string): void {
    const netns = this.set[pod]!;
    const servers = new Servers(this.launcher, netns, `${this.index}-${pod}`);
    servers.startNginx([{ port: HTTP_PORT, answer: pod }]);
    if (pod === REDIS_NODE.pod.name) servers.startRedis();
    this.servers.push(servers);
    const argv = inNetns(netns, [process.execPath, ECHO, String(STREAM_PORT), pod]);
    this.echoes.push(this.launcher.start(argv, join(workDirectory(), `${this.index}-${pod}-echo.log`)));
  }

  private configOf(self: BedNode, endpoints: Endpoints): object {
    const backends = PODS.filter(({ node, pod }) => endpoints === "all" || node.passing !== pod).map(
      ({ pod }) => ({ address: pod.address }),
    );
    return {
      node: self.name,
      stateDir: this.stateDirectory(self),
      underlay: { address: self.address },
      podPool: POD_POOL,
      blocks: [self.block],
      vteps: NODES.filter((node) => node !== self).map(({ name, address, block }) => ({
        node: name,
        address,
        blocks: [block],
        lanMac: this.macs.get(name)!,
      })),
      pods: PODS.filter(({ node }) => node === self).map(({ pod }) => ({
        name: `bench/${pod.name}`,
        netns: netnsPath(this.set[pod.name]!),
        address: pod.address,
      })),
      services: [
        {
          name: "bench/web",
          clusterIP: WEB_CLUSTER_IP,
          loadBalancerIPs: [VIP],
          ports: [
            { name: "http", port: 80, targetPort: HTTP_PORT },
            { name: "stream", port: STREAM_PORT },
          ],
          backends,
        },
        {
          name: "bench/redis",
          clusterIP: REDIS_CLUSTER_IP,
          loadBalancerIPs: [VIP],
          ports: [{ port: REDIS_PORT }],
          backends: [{ address: REDIS_NODE.pod.address }],
        },
      ],
      announce: { bfd: this.profile },
    };
  }

  /** In a directory of its own: the agent watches that, and would look at every file written there. */
  private configFile(node: BedNode): string {
    return join(workDirectory(), `${this.index}-${node.name}`, "config.yaml");
  }

  private stateDirectory(node: BedNode): string {
    return join(workDirectory(), `${this.index}-state-${node.name}`);
  }
}
