/**
 * Nodes on a LAN that announce load-balancer addresses, and what may happen to them. Agents have a config
 * file each; two pods on every node.
 *
 *   ┌── node-a .30 ──┬── node-b .31 ──┬── br0 ──┬── node-c .32 ──┬── node-d .33 ──┐
 *                                     host .40: watches
 */
import { fileURLToPath } from "node:url";
import { hashNode, rendezvousOrder } from "../../src/announce/rendezvous.js";
import { startAgent, type TestAgent } from "./agent.js";
import { address } from "./frames.js";
import { type TestNet, type TestProcess, waitFor } from "./netns.js";
import { A, B, HOST, type Lan, makeLan, type NodePlan, nodeConfig } from "./overlay.js";
import { python } from "./traffic.js";

/** Python programs stay among the sources; we run from there, or from dist-bench/test/support. */
export function support(name: string): string {
  const here = fileURLToPath(new URL(".", import.meta.url));
  return `${here.replace(/dist-bench\/test\/support\/$/, "test/support/")}${name}`;
}

export const NODES: readonly NodePlan[] = [
  A,
  B,
  {
    name: "node-c",
    address: "192.168.2.32",
    block: "10.1.69.192/26",
    tunnel: "10.1.69.192",
    pods: { c1: "10.1.69.201", c2: "10.1.69.202" },
  },
  {
    name: "node-d",
    address: "192.168.2.33",
    block: "10.1.200.0/26",
    tunnel: "10.1.200.0",
    pods: { d1: "10.1.200.11", d2: "10.1.200.12" },
  },
];

/** Milliseconds between BFD packets of a profile. */
export const BFD_INTERVAL_MS = { default: 100, fast: 10 } as const;
export type Profile = keyof typeof BFD_INTERVAL_MS;

/** What may happen to a node. */
export const FAULTS = ["kill", "freeze", "link", "drain"] as const;
export type Fault = (typeof FAULTS)[number];

/** A frame that says who has an address. */
export interface Claim {
  /** CLOCK_MONOTONIC, microseconds. */
  atUs: number;
  /** An answer to somebody who asked, or a gratuitous request or reply. */
  kind: "answer" | "request" | "reply";
  address: string;
  mac: string;
}

/** A node's decision to announce an address, as its log has it. */
export interface Decision {
  node: string;
  address: string;
  /** CLOCK_MONOTONIC, microseconds. */
  atUs: number;
}

const SETTLE_MS = 30_000;
const READY_MS = 20_000;
/** Port of the one Service and of its pods, and its NodePort. */
export const SERVICE_PORT = 80;
export const NODE_PORT = 30080;

export class AnnounceBed {
  readonly macs: Readonly<Record<string, string>>;
  /** Each node's address, by its name: the one that it owns while all are well. */
  readonly vips: Readonly<Record<string, string>>;
  private readonly agents = new Map<string, TestAgent>();
  private readonly stateDirs: Readonly<Record<string, string>>;
  /** Logs of agents that have ended. */
  private ended = "";

  private constructor(
    readonly net: TestNet,
    readonly lan: Lan,
    readonly nodes: readonly NodePlan[],
    private readonly profile: Profile,
    macs: Record<string, string>,
  ) {
    this.macs = macs;
    this.vips = Object.fromEntries(nodes.map(({ name }) => [name, this.addressOwnedBy(name)]));
    this.stateDirs = Object.fromEntries(nodes.map(({ name }) => [name, `${net.directory()}/state`]));
  }

  /** Starts the first `count` of NODES and waits until each owns its address. */
  static async start(net: TestNet, count: number, profile: Profile): Promise<AnnounceBed> {
    const nodes = NODES.slice(0, count);
    const lan = await makeLan(net, [...nodes]);
    const macs: Record<string, string> = {};
    for (const { name } of nodes) {
      const [link] = await net.ipJson(lan.node[name]!, "link", "show", "eth0");
      macs[name] = link.address;
    }
    const bed = new AnnounceBed(net, lan, nodes, profile, macs);
    await Promise.all(nodes.map(({ name }) => bed.startAgent(name)));
    await bed.agreed(new Set(nodes.map(({ name }) => name)));
    return bed;
  }

  agent(node: string): TestAgent {
    return this.agents.get(node)!;
  }

  /** Starts a watch of who claims the addresses. */
  async watch(): Promise<LanWatch> {
    const args = [support("arp.py"), "watch", "eth0", HOST, ...Object.values(this.vips)];
    const process = this.net.spawn(this.lan.host, python(), args);
    await waitFor(() => process.stdout.includes("ready\n"), { what: "the watch of the LAN" });
    return new LanWatch(process);
  }

  /** Does it to a node. */
  async inject(node: string, fault: Fault): Promise<void> {
    const agent = this.agent(node);
    if (fault === "link") await this.setLink(node, "down");
    else if (fault === "freeze") agent.process.kill("SIGSTOP");
    else if (fault === "drain") await agent.stop();
    else {
      agent.process.kill("SIGKILL");
      await agent.process.exited;
    }
  }

  /** Undoes it. The node is not yet known to the others then. */
  async recover(node: string, fault: Fault): Promise<void> {
    if (fault === "link") await this.setLink(node, "up");
    else if (fault === "freeze") this.agent(node).process.kill("SIGCONT");
    else await this.startAgent(node);
  }

  /** Waits until the nodes of `well` know one another and agree on the owner of each address. */
  async agreed(well: ReadonlySet<string>): Promise<void> {
    await waitFor(async () => (await this.disagreement(well)) === "", {
      what: `agreement of ${[...well].join(", ")}`,
      deadlineMs: SETTLE_MS,
      intervalMs: 20,
    }).catch(async (error: Error) => {
      throw new Error(`${error.message}: ${await this.disagreement(well)}`);
    });
  }

  /** Who is to own an address while the nodes of `well` are. */
  ownerOf(vip: string, well: ReadonlySet<string>): string {
    return this.order(vip).find((name) => well.has(name))!;
  }

  /** Every decision to announce an address that the logs have. */
  decisions(): Decision[] {
    const found: Decision[] = [];
    for (const line of this.logLines()) {
      if (!line.includes('"announces the address"')) continue;
      const {
        node,
        address: vip,
        decidedUs,
      } = JSON.parse(line) as Record<string, string> & { decidedUs: number };
      found.push({ node: node!, address: vip!, atUs: decidedUs });
    }
    return found;
  }

  /** How often a node gave up a peer by BFD. */
  sessionsLost(): number {
    return this.logLines().filter((line) => line.includes('"BFD: the node is down"')).length;
  }

  /** Ends what is frozen, so that it can be stopped. */
  thaw(): void {
    for (const agent of this.agents.values()) agent.process.kill("SIGCONT");
  }

  private async disagreement(well: ReadonlySet<string>): Promise<string> {
    for (const node of well) {
      const { addresses, neighbors } = await this.agent(node).request("announcement");
      for (const { node: peer, state } of neighbors)
        if (well.has(peer) && state !== "Up") return `${node} has no session with ${peer}`;
      for (const { address: vip, owner, answers } of addresses) {
        const expected = this.ownerOf(vip, well);
        if (owner !== expected) return `${node} takes ${owner} for the owner of ${vip}, not ${expected}`;
        if (answers !== (node === expected)) return `${node} answers for ${vip}: ${answers}`;
      }
    }
    return "";
  }

  private async startAgent(node: string): Promise<void> {
    const self = this.nodes.find(({ name }) => name === node)!;
    const before = this.agents.get(node);
    if (before !== undefined) this.ended += before.process.stderr;
    const agent = startAgent(this.net, this.lan.node[node]!, this.config(self), {
      stateDir: this.stateDirs[node]!,
    });
    this.agents.set(node, agent);
    await agent.ready(READY_MS);
  }

  private config(self: NodePlan): object {
    const others = this.nodes.filter((each) => each !== self);
    const base = nodeConfig(this.net, this.lan, self, [...others]) as { vteps: object[] };
    return {
      ...base,
      vteps: base.vteps.map((vtep, n) => ({ ...vtep, lanMac: this.macs[others[n]!.name] })),
      stateDir: this.stateDirs[self.name],
      services: this.nodes.map(({ name, pods }, n) => ({
        name: `default/lb-${n}`,
        clusterIP: `10.152.183.${10 + n}`,
        loadBalancerIPs: [this.vips[name]!],
        ports: [{ port: SERVICE_PORT, ...(n === 0 ? { nodePort: NODE_PORT } : {}) }],
        backends:
          n === 0
            ? this.nodes.map((each) => ({ address: Object.values(each.pods)[0]! }))
            : [{ address: Object.values(pods)[0]! }],
      })),
      announce: { bfd: this.profile },
    };
  }

  private async setLink(node: string, state: "up" | "down"): Promise<void> {
    await this.net.exec(this.lan.lan, "ip", ["link", "set", this.lan.port[node]!, state]);
  }

  private order(vip: string): string[] {
    const hashed = this.nodes.map(({ name }) => hashNode(name));
    return rendezvousOrder(hashed, address(vip)).map(({ name }) => name);
  }

  private addressOwnedBy(node: string): string {
    for (let last = 100; ; last++) {
      const vip = `192.168.2.${last}`;
      if (this.order(vip)[0] === node) return vip;
    }
  }

  private logLines(): string[] {
    const running = [...this.agents.values()].map(({ process }) => process.stderr);
    // The last line may not be complete yet.
    return [this.ended, ...running]
      .join("\n")
      .split("\n")
      .filter((line) => line.endsWith("}"));
  }
}

/** A running watch of the LAN. */
export class LanWatch {
  private readonly seen: Claim[] = [];

  constructor(private readonly process: TestProcess) {}

  /** All claims so far, in the order in which they came. */
  claims(): readonly Claim[] {
    if (this.process.code !== null) throw new Error(`the watch of the LAN ended: ${this.process.stderr}`);
    const { stdout } = this.process;
    const end = stdout.lastIndexOf("\n") + 1;
    // What has been read is not kept as text too.
    this.process.stdout = stdout.slice(end);
    for (const line of stdout.slice(0, end).split("\n")) {
      const [at, kind, vip, mac] = line.split(" ");
      if (mac === undefined) continue;
      this.seen.push({ atUs: Number(at), kind: kind as Claim["kind"], address: vip!, mac });
    }
    return this.seen;
  }
}
