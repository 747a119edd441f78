/**
 * podwire against itself with every combination of what newer kernels offer, each switched on and
 * off, and with one thread and two; then two nodes that differ.
 *
 *   node A: podwire                            node B: podwire
 *   ┌──────────────────┐   192.168.2.0/24      ┌──────────────────┐
 *   │ pods a1, a2 ─TAP─┤ eth0 ── br0 ── eth0 ──┤─TAP─ pods b1, b2  │
 *   └──────────────────┘                       └──────────────────┘
 *
 * tunnelGso: off, uso: off is what Linux 5.15 has. Each combination takes over the devices that the
 * one before left.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { TestAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet } from "../support/netns.js";
import {
  A,
  B,
  type Dataplane,
  expectSound,
  type Lan,
  makeLan,
  type NodePlan,
  OVERHEAD,
  setLanProfile,
  startNode,
} from "../support/overlay.js";
import { kernelAtLeast, requirePrograms, SEND_MODES } from "../support/programs.js";
import {
  echo,
  echoTrains,
  type Peer,
  ping,
  pingOutput,
  startServers,
  transferBothWays,
} from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
const TRANSFER = 8_000_000;
const USO_MODES = kernelAtLeast(6, 2) ? (["off", "on"] as const) : (["off"] as const);
const OLD: Dataplane = { tunnelGso: "off", uso: "off", threads: 1 };

const COMBINATIONS = SEND_MODES.flatMap((tunnelGso) =>
  USO_MODES.flatMap((uso) => ([1, 2] as const).map((threads) => ({ tunnelGso, uso, threads }))),
);

describe.skipIf(why !== "")(`offloads and threads${skipped}`, () => {
  const net = new TestNet();
  const stateDirs = new Map<string, string>();
  let lan: Lan;
  let agents: TestAgent[] = [];
  let a1: Peer;
  let a2: Peer;
  let b1: Peer;

  async function start(self: NodePlan, peer: NodePlan, dataplane: Dataplane): Promise<void> {
    const stateDir = stateDirs.get(self.name);
    const options = stateDir === undefined ? {} : { stateDir };
    const agent = await startNode(net, lan, self, [peer], dataplane, options);
    stateDirs.set(self.name, agent.stateDir);
    agents.push(agent);
    const { dataplane: is } = await agent.request("status");
    expect(is).toEqual({
      send: dataplane.tunnelGso === "on" ? "tunnel-gso" : "udp-segment",
      uso: dataplane.uso === "on",
      threads: dataplane.threads,
    });
    // What the pod's kernel makes of it.
    for (const pod of Object.keys(self.pods)) {
      const { stdout } = await net.exec(lan.pod[pod]!, "ethtool", ["-k", "eth0"]);
      expect(stdout).toMatch(new RegExp(`tx-udp-segmentation: ${dataplane.uso}`));
      expect(stdout).toMatch(/tx-tcp-segmentation: on/);
    }
  }

  async function everything(): Promise<void> {
    const pairs = [
      [a1, b1],
      [b1, a1],
      [a1, a2],
    ] as const;
    for (const [from, to] of pairs) {
      await ping(net, from.ns, to.address, [56, 8000]);
      await echo(net, from.ns, to.address, 10, [0, 1, 1422, 1423, 8000, 60_000]);
      await echoTrains(net, from.ns, to.address, 5, [
        { size: 100, count: 60, last: 100 },
        { size: 1422, count: 45, last: 7 },
      ]);
    }
    await transferBothWays(net, a1, b1, TRANSFER);
    await transferBothWays(net, a1, a2, TRANSFER);
    await setLanProfile(net, lan, "nic");
    await transferBothWays(net, a1, b1, TRANSFER);
    await echoTrains(net, a1.ns, b1.address, 5, [{ size: 1422, count: 45, last: 7 }]);
    await setLanProfile(net, lan, "virtual");
    for (const agent of agents) await expectSound(agent);
  }

  beforeAll(async () => {
    requirePrograms("ethtool", "ping", "python3");
    lan = await makeLan(net);
    a1 = { ns: lan.pod.a1!, address: A.pods.a1! };
    a2 = { ns: lan.pod.a2!, address: A.pods.a2! };
    b1 = { ns: lan.pod.b1!, address: B.pods.b1! };
    await startServers(net, a1.ns, a2.ns, b1.ns);
  });
  afterEach(async () => {
    const codes = await Promise.all(agents.splice(0).map((agent) => agent.stop()));
    expect(codes.every((code) => code === 0)).toBe(true);
  });
  afterAll(async () => {
    agents = [];
    await net.cleanup();
  });

  it.each(COMBINATIONS)("tunnelGso $tunnelGso, uso $uso, $threads threads", async (dataplane) => {
    await Promise.all([start(A, B, dataplane), start(B, A, dataplane)]);
    await everything();
  });

  it("a node of an old kernel and one of a new", async () => {
    const newest: Dataplane = { tunnelGso: SEND_MODES.at(-1)!, uso: USO_MODES.at(-1)!, threads: 2 };
    await Promise.all([start(A, B, newest), start(B, A, OLD)]);
    await everything();
  });
});

describe.skipIf(why !== "").each([1280, 9000])(`a LAN with an MTU of %s${skipped}`, (mtu) => {
  const net = new TestNet();
  afterAll(() => net.cleanup());

  it("is used to the full, and no more", async () => {
    requirePrograms("ethtool", "ping", "python3");
    const lan = await makeLan(net, [A, B], mtu);
    await setLanProfile(net, lan, "nic");
    const agents = await Promise.all([startNode(net, lan, A, [B]), startNode(net, lan, B, [A])]);
    const a1 = { ns: lan.pod.a1!, address: A.pods.a1! };
    const b1 = { ns: lan.pod.b1!, address: B.pods.b1! };
    await startServers(net, a1.ns, b1.ns);
    const longest = mtu - OVERHEAD - 28;
    await ping(net, a1.ns, b1.address, [56, longest], ["-M", "do"]);
    expect(await pingOutput(net, a1.ns, b1.address, ["-M", "do", "-s", String(longest + 1)])).toContain(
      `message too long, mtu=${mtu - OVERHEAD}`,
    );
    await transferBothWays(net, a1, b1, TRANSFER);
    await echo(net, a1.ns, b1.address, 10, [1, longest, longest + 1, 20_000]);
    const count = Math.min(64, Math.floor(65_000 / longest));
    await echoTrains(net, a1.ns, b1.address, 5, [{ size: longest, count, last: 7 }]);
    for (const agent of agents) await expectSound(agent);
  });
});
