/**
 * Agents that stop, die and start again under traffic: streams between pods, and new connections through
 * NodePorts.
 *
 *   node A: podwire                        node B: podwire
 *   ┌─────────────┐   192.168.2.0/24       ┌─────────────┐
 *   │ pod a1 ─TAP─┤ eth0 ── br0 ── eth0 ───┤─TAP─ pod b1  │
 *   └─────────────┘                        └─────────────┘
 *     a TCP stream each way, compared by SHA-256 at its end
 *     a host of the LAN asks for a NodePort at both nodes, 20 times a second; a1 and b1 answer
 */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startAgent, type TestAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet, type TestProcess, waitFor } from "../support/netns.js";
import {
  A,
  B,
  type Dataplane,
  type Lan,
  makeLan,
  type NodePlan,
  nodeConfig,
  startNode,
} from "../support/overlay.js";
import { requirePrograms } from "../support/programs.js";
import { endStream, ping, python, startMeter, startServer, startStream } from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
/** Bytes per second, and bytes after which a stream counts as flowing. */
const RATE = 20e6;
const FLOW = 5e6;
const NAMES = fileURLToPath(new URL("../support/names.py", import.meta.url));
const NODE_PORT = 30_080;
/** Seconds that a request may take: a SYN that is lost goes again after 1, 3, 7 and 15 s. */
const LIMIT = 20;

describe.skipIf(why !== "").each([1, 2] as const)(
  `restarts under traffic, %s threads${skipped}`,
  (threads) => {
    const net = new TestNet();
    const dataplane: Dataplane = { threads };
    let lan: Lan;
    let agentA: TestAgent;
    let agentB: TestAgent;
    let streams: TestProcess[];
    let meters: (() => number)[];

    /** Waits until both streams have brought FLOW bytes more. */
    async function flowing(): Promise<void> {
      const goals = meters.map((meter) => meter() + FLOW);
      await waitFor(() => meters.every((meter, i) => meter() >= goals[i]!), {
        deadlineMs: 30_000,
        what: `streams at ${meters.map((meter) => meter())}, exit ${streams.map(({ code }) => code)}`,
      });
    }

    beforeAll(async () => {
      requirePrograms("ping", "python3");
      lan = await makeLan(net);
      agentA = await startNode(net, lan, A, [B], dataplane);
      agentB = await startNode(net, lan, B, [A], dataplane);
      const [a1, b1] = [lan.pod.a1!, lan.pod.b1!];
      await ping(net, a1, B.pods.b1!);
      meters = [await startMeter(net, b1), await startMeter(net, a1)];
      streams = [startStream(net, a1, B.pods.b1!, RATE), startStream(net, b1, A.pods.a1!, RATE)];
      await flowing();
    });
    afterAll(() => net.cleanup());

    it("stopped and started", async () => {
      expect(await agentA.stop()).toBe(0);
      agentA = await startNode(net, lan, A, [B], dataplane, agentA);
      await flowing();
    });

    it("killed and started", async () => {
      agentA.process.kill("SIGKILL");
      await agentA.process.exited;
      agentA = await startNode(net, lan, A, [B], dataplane, agentA);
      await flowing();
    });

    it("both killed at once", async () => {
      for (const { process } of [agentA, agentB]) process.kill("SIGKILL");
      await Promise.all([agentA.process.exited, agentB.process.exited]);
      [agentA, agentB] = await Promise.all([
        startNode(net, lan, A, [B], dataplane, agentA),
        startNode(net, lan, B, [A], dataplane, agentB),
      ]);
      await flowing();
    });

    it("the streams lost and changed nothing", async () => {
      const bytes = await Promise.all(streams.map(endStream));
      expect(Math.min(...bytes)).toBeGreaterThan(4 * FLOW);
    });
  },
);

describe.skipIf(why !== "").each([1, 2] as const)(
  `NodePort requests while all agents start again, %s threads${skipped}`,
  (threads) => {
    const net = new TestNet();
    const plans: [NodePlan, NodePlan][] = [
      [A, B],
      [B, A],
    ];
    const macs: Record<string, string> = {};
    let lan: Lan;
    let agents: TestAgent[];
    let requests: TestProcess;

    async function start(self: NodePlan, other: NodePlan, before?: TestAgent): Promise<TestAgent> {
      const base = nodeConfig(net, lan, self, [other], { threads }) as { vteps: object[] };
      const config = {
        ...base,
        vteps: base.vteps.map((vtep) => ({ ...vtep, lanMac: macs[other.name] })),
        services: [
          {
            name: "default/who",
            clusterIP: "10.152.183.10",
            ports: [{ port: 80, targetPort: 8080, nodePort: NODE_PORT }],
            backends: [{ address: A.pods.a1! }, { address: B.pods.b1! }],
          },
        ],
        // With BFD, so that each agent has a say about the endpoints of the other's node.
        announce: {},
      };
      const stateDir = before?.stateDir;
      const agent = startAgent(net, lan.node[self.name]!, config, stateDir === undefined ? {} : { stateDir });
      await agent.ready();
      return agent;
    }
    const startAll = async () => {
      agents = await Promise.all(plans.map(([self, other], n) => start(self, other, agents[n])));
    };

    /** Waits until both pods have answered requests that were made from now on. */
    async function answering(): Promise<void> {
      const from = requests.stdout.length;
      await waitFor(
        () => ["a1", "b1"].every((name) => requests.stdout.slice(from).split(`${name}\n`).length > 20),
        { deadlineMs: 40_000, what: "answers of both pods" },
      );
    }

    beforeAll(async () => {
      requirePrograms("ping", "python3");
      lan = await makeLan(net);
      for (const { name } of [A, B]) {
        const [link] = await net.ipJson(lan.node[name]!, "link", "show", "eth0");
        macs[name] = link.address;
      }
      agents = [];
      await startAll();
      for (const pod of ["a1", "b1"])
        await startServer(net, lan.pod[pod]!, python(), [NAMES, "serve", "8080", pod], "ready");
      await ping(net, lan.pod.a1!, B.pods.b1!);
      const args = [NODE_PORT, LIMIT, A.address, B.address].map(String);
      requests = net.spawn(lan.host, python(), [NAMES, "many", ...args]);
      await answering();
    });
    afterAll(() => net.cleanup());

    it("one after another: stopped and started", async () => {
      for (const [n, [self, other]] of plans.entries()) {
        expect(await agents[n]!.stop()).toBe(0);
        agents[n] = await start(self, other, agents[n]);
        await answering();
      }
    });

    it("all stopped and started at once", async () => {
      expect(await Promise.all(agents.map((agent) => agent.stop()))).toEqual([0, 0]);
      await startAll();
      await answering();
    });

    it("all killed and started at once", async () => {
      for (const { process } of agents) process.kill("SIGKILL");
      await Promise.all(agents.map(({ process }) => process.exited));
      await startAll();
      await answering();
    });

    it("no request was lost or refused", async () => {
      const code = await requests.stop((LIMIT + 5) * 1000);
      expect(requests.stdout.split("\n").filter((line) => line.includes("failed"))).toEqual([]);
      expect(code, requests.stderr).toBe(0);
    });
  },
);
