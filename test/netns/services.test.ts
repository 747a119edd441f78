/**
 * Services of the config file, through the built agent and its threads.
 *
 *   node A: podwire                        node B: podwire
 *   ┌─────────────┐   192.168.2.0/24       ┌─────────────┐
 *   │ pod a1 ─TAP─┤ eth0 ── br0 ── eth0 ───┤─TAP─ pod b1  │   answer on 8080 who they are
 *   │ pod a2 ─TAP─┤                        ├─TAP─ pod b2  │
 *   └─────────────┘                        └─────────────┘
 *     clients                                10.152.183.10:80 → 8080, TCP and UDP
 */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PODWIRE, startAgent, type TestAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet, type TestProcess, waitFor } from "../support/netns.js";
import { A, B, type Lan, makeLan, nodeConfig, startNode } from "../support/overlay.js";
import { requirePrograms } from "../support/programs.js";
import { ping, python, startServer } from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
const NAMES = fileURLToPath(new URL("../support/names.py", import.meta.url));
const VIP = "10.152.183.10";
/** Services before the one that is asked: several chunks of tables, and numbers that are not 1. */
const OTHERS = 3_000;

function service(name: string, clusterIP: string, backends: string[]): object {
  return {
    name,
    clusterIP,
    ports: [
      { name: "tcp", port: 80, targetPort: 8080 },
      { name: "udp", protocol: "UDP", port: 80, targetPort: 8080 },
    ],
    backends: backends.map((address) => ({ address })),
  };
}

describe.skipIf(why !== "").each([1, 2] as const)(`Services, %s threads${skipped}`, (threads) => {
  const net = new TestNet();
  let lan: Lan;
  let agent: TestAgent;
  let stateDir = "";
  let others: object[];

  const config = (backends: string[]) => ({
    ...nodeConfig(net, lan, A, [B], { threads }),
    stateDir,
    serviceRange: "10.152.0.0/16",
    services: [...others, service("default/who", VIP, backends)],
  });
  const podwire = async (...args: string[]) => {
    const line = [PODWIRE, "conntrack", ...args, "--state-dir", agent.stateDir];
    return (await net.exec("", process.execPath, line)).stdout;
  };
  const client = (pod: string, ...args: string[]) => net.spawn(lan.pod[pod]!, python(), [NAMES, ...args]);
  const ask = async (pod: string) =>
    (await net.exec(lan.pod[pod]!, python(), [NAMES, "tcp", VIP, "80"])).stdout.trim();
  /** Waits until a client's answers end with `name`, several times over. */
  const answered = (process: TestProcess, name: string) => {
    const wanted = `${`${name}\n`.repeat(3)}`;
    return waitFor(() => process.stdout.endsWith(wanted), {
      what: `answers of ${name}`,
    });
  };
  const changes = () => agent.process.stderr.split("took over the new config").length;
  /** Writes a config that differs from the last, and waits until the agent goes by it. */
  const change = async (backends: string[]) => {
    const before = changes();
    agent.rewrite(JSON.stringify(config(backends)));
    await waitFor(() => changes() > before, { what: "the new config" });
  };

  beforeAll(async () => {
    requirePrograms("python3", "ping");
    stateDir = `${net.directory()}/state`;
    lan = await makeLan(net);
    others = Array.from({ length: OTHERS }, (_, n) =>
      service(`default/other-${n}`, `10.152.${n >> 8}.${n & 255 || 1}`, [`10.1.79.${n % 60}`, "10.1.79.75"]),
    ).filter((_, n) => (n & 255) > 1);
    agent = startAgent(net, lan.node[A.name]!, JSON.stringify(config([B.pods.b1!])), { stateDir });
    await agent.ready();
    await startNode(net, lan, B, [A], { threads });
    for (const pod of ["b1", "b2"])
      await startServer(net, lan.pod[pod]!, python(), [NAMES, "serve", "8080", pod], "ready");
    for (const pod of ["a1", "a2"]) await ping(net, lan.pod[pod]!, B.pods.b1!);
  });
  afterAll(() => net.cleanup());

  it("are there when the agent is ready", async () => {
    expect((await agent.request("status")).services.count).toBe(others.length + 1);
    expect(await ask("a1")).toBe("b1");
    expect(await ask("a2")).toBe("b1");
  });

  it("conntrack list shows their flows; filters, JSON and stats", async () => {
    const asking = client("a1", "udp", VIP, "80", "5000");
    await answered(asking, "b1");
    expect(await podwire("list", "-p", "udp", "--service", "who")).toMatch(
      new RegExp(
        `^udp      17 \\d+ src=${A.pods.a1} dst=${VIP} sport=5000 dport=80 src=${B.pods.b1} dst=${A.pods.a1} sport=8080 dport=5000 service=default/who:udp\n$`,
      ),
    );
    const json = (
      await podwire("list", "-o", "json", "--orig-dst", "10.152.183.0/24", "--dport", "80")
    ).trim();
    const flows = json.split("\n").map((line) => JSON.parse(line) as { protocol: string });
    expect(new Set(flows.map(({ protocol }) => protocol))).toEqual(new Set(["tcp", "udp"]));
    expect(await podwire("list", "--orig-src", "10.1.1.1")).toBe("");
    expect(await podwire("stats")).toMatch(/^flows +\d+\ncapacity +131072\n/);
    await asking.stop();
    expect(await podwire("flush", "--sport", "5000")).toBe("1 flow removed\n");
    expect(await podwire("list", "--sport", "5000")).toBe("");
  });

  it("UDP moves when its pod is replaced; TCP stays until it ends, and new connections go to the new one", async () => {
    const datagrams = client("a1", "udp", VIP, "80", "5001");
    const connection = client("a2", "keep", VIP, "80");
    await answered(datagrams, "b1");
    await answered(connection, "b1");
    await change([B.pods.b2!]);
    await answered(datagrams, "b2");
    await answered(connection, "b1");
    expect(connection.stdout).not.toContain("b2");
    expect(await ask("a2")).toBe("b2");
    // Without any endpoint nobody answers; with one again somebody does, to the same client.
    await change([]);
    await answered(datagrams, "nobody");
    await change([B.pods.b1!, B.pods.b2!]);
    await waitFor(() => /b[12]\n$/.test(datagrams.stdout), { what: "an answer" });
    await Promise.all([datagrams.stop(), connection.stop()]);
  });

  it("agents that stop, and die: connections go on, and UDP moves to the endpoint of then", async () => {
    await change([B.pods.b1!]);
    const connection = client("a2", "keep", VIP, "80");
    const datagrams = client("a1", "udp", VIP, "80", "5003");
    await answered(connection, "b1");
    await answered(datagrams, "b1");
    const restart = async (backends: string[]) => {
      const text = JSON.stringify(config(backends));
      agent = startAgent(net, lan.node[A.name]!, text, { stateDir });
      await agent.ready();
    };
    // New connections would get another backend: the old one goes on by the table of before.
    expect(await agent.stop()).toBe(0);
    await restart([B.pods.b2!]);
    await answered(connection, "b1");
    await answered(datagrams, "b2");
    expect(await podwire("list", "--service", "who", "-p", "tcp", "--reply-src", B.pods.b1!)).toMatch(
      / ESTABLISHED .* service=default\/who:tcp\n/,
    );
    agent.process.kill("SIGKILL");
    await agent.process.exited;
    await restart([B.pods.b2!]);
    await answered(connection, "b1");
    await answered(datagrams, "b2");
    expect(await ask("a2")).toBe("b2");
    expect(connection.stdout).not.toContain("b2");
    expect(connection.code).toBeNull();
    await Promise.all([datagrams.stop(), connection.stop()]);
  });

  // One thread ages, however many there are: half a minute once is enough.
  it.runIf(threads === 1)(
    "flows that nobody uses are gone after a while, without any packet",
    async () => {
      await change([B.pods.b1!]);
      const asking = client("a1", "udp", VIP, "80", "5002");
      await answered(asking, "b1");
      await asking.stop();
      expect(await podwire("list", "--sport", "5002")).not.toBe("");
      await waitFor(async () => (await podwire("list", "--sport", "5002")) === "", {
        deadlineMs: 60_000,
        what: "the flow's end (30 s without a packet)",
      });
    },
    90_000,
  );
});
