/**
 * Agents that stop, die and start again under traffic.
 *
 *   node A: podwire                        node B: podwire
 *   ┌─────────────┐   192.168.2.0/24       ┌─────────────┐
 *   │ pod a1 ─TAP─┤ eth0 ── br0 ── eth0 ───┤─TAP─ pod b1  │
 *   └─────────────┘                        └─────────────┘
 *     a TCP stream each way, compared by SHA-256 at its end
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TestAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet, type TestProcess, waitFor } from "../support/netns.js";
import { A, B, type Dataplane, type Lan, makeLan, startNode } from "../support/overlay.js";
import { requirePrograms } from "../support/programs.js";
import { endStream, ping, startMeter, startStream } from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
/** Bytes per second, and bytes after which a stream counts as flowing. */
const RATE = 20e6;
const FLOW = 5e6;

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
        deadlineMs: 20_000,
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
