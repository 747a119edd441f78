/**
 * What real agents count: both ends of a link agree, a Service's packets are counted where they are
 * translated, and the same figures are on the socket, on paper and at /metrics.
 *
 *   node A: podwire   192.168.2.0/24   node B: podwire
 *   pod a1 ─TAP─ eth0 ── br0 ── eth0 ─TAP─ pod b1    10.152.183.10:80 → b1:8080
 */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ServiceView, VtepView } from "../../src/agent/counterReport.js";
import { PODWIRE, startAgent, type TestAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";
import { A, B, type Lan, makeLan, nodeConfig, startNode } from "../support/overlay.js";
import { requirePrograms } from "../support/programs.js";
import { ping, python, startServer } from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
const NAMES = fileURLToPath(new URL("../support/names.py", import.meta.url));
const VIP = "10.152.183.10";
const SCRAPE = "fetch(process.argv[1]).then((r) => r.text()).then((t) => process.stdout.write(t))";

describe.skipIf(why !== "").each([1, 2] as const)(`counts, %s threads${skipped}`, (threads) => {
  const net = new TestNet();
  let lan: Lan;
  let a: TestAgent;
  let b: TestAgent;

  const podwire = async (agent: TestAgent, ...args: string[]) =>
    (await net.exec("", process.execPath, [PODWIRE, ...args, "--state-dir", agent.stateDir])).stdout;
  const get = async <T>(agent: TestAgent, what: string): Promise<T[]> =>
    (await podwire(agent, "get", what, "-o", "json"))
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as T);
  const ask = async () => (await net.exec(lan.pod.a1!, python(), [NAMES, "tcp", VIP, "80"])).stdout.trim();

  beforeAll(async () => {
    requirePrograms("python3", "ping");
    lan = await makeLan(net);
    const services = [
      {
        name: "default/who",
        clusterIP: VIP,
        ports: [{ name: "tcp", port: 80, targetPort: 8080 }],
        backends: [{ address: B.pods.b1 }],
      },
      { name: "default/idle", clusterIP: "10.152.183.11", ports: [{ port: 80 }], backends: [] },
    ];
    const config = { ...nodeConfig(net, lan, A, [B], { threads }), serviceRange: "10.152.0.0/16", services };
    a = startAgent(net, lan.node[A.name]!, config);
    await a.ready();
    b = await startNode(net, lan, B, [A], { threads });
    await startServer(net, lan.pod.b1!, python(), [NAMES, "serve", "8080", "b1"], "ready");
    await ping(net, lan.pod.a1!, B.pods.b1!);
  });
  afterAll(() => net.cleanup());

  it("both ends of a link have counted the same", async () => {
    for (let n = 0; n < 5; n++) expect(await ask()).toBe("b1");
    const ends = await waitFor(
      async () => {
        const [[fromA], [fromB]] = await Promise.all([get<VtepView>(a, "vteps"), get<VtepView>(b, "vteps")]);
        const even =
          JSON.stringify([fromA!.sent, fromA!.received]) === JSON.stringify([fromB!.received, fromB!.sent]);
        return even ? { a: fromA!, b: fromB! } : null;
      },
      { what: "the same counts" },
    );
    expect([ends.a.node, ends.b.node]).toEqual([B.name, A.name]);
    // A handshake, a question and an end, five times, and pings.
    expect(ends.a.sent.packets).toBeGreaterThan(5 * 4);
    expect(ends.a.sent.bytes).toBeGreaterThan(54 * ends.a.sent.packets);
  });

  it("a Service is counted by the node that translates it", async () => {
    const [who, idle] = await get<ServiceView>(a, "services");
    expect(who).toMatchObject({ name: "who", port: "tcp", clusterIP: VIP, endpoints: 1 });
    expect(who!.requests.packets).toBeGreaterThan(5 * 4);
    expect(who!.replies.packets).toBeGreaterThan(5 * 3);
    expect(idle).toMatchObject({ name: "idle", requests: { packets: 0 }, replies: { packets: 0 } });
    expect(await get(b, "services")).toEqual([]);
    const table = await podwire(a, "get", "services");
    expect(table).toMatch(/^NAMESPACE +NAME +PORT /);
    expect(table).toContain(VIP);
    expect(await podwire(a, "get", "flows", "--service", "who")).toMatch(
      new RegExp(
        `^PROTO .*\ntcp +[A-Z_]+ +${A.pods.a1}:\\d+ +${VIP}:80 +${B.pods.b1}:8080 +default/who:tcp `,
      ),
    );
  });

  it("drops by reason", async () => {
    await net.exec(lan.pod.a1!, "ping", ["-c1", "-W1", "10.1.235.250"]).catch(() => {});
    await waitFor(
      async () =>
        (await get<{ reason: string; frames: number }>(a, "drops")).some(({ frames }) => frames > 0),
      { what: "a drop" },
    );
  });

  it("Prometheus reads the same, at the loopback of the node alone", async () => {
    const scrape = async (ns: string, address: string) =>
      (await net.exec(ns, process.execPath, ["-e", SCRAPE, `http://${address}:9475/metrics`])).stdout;
    const text = await scrape(lan.node[A.name]!, "127.0.0.1");
    const [{ requests }] = (await get<ServiceView>(a, "services")) as [ServiceView];
    expect(text).toContain(
      `podwire_service_packets_total{namespace="default",service="who",port="tcp",protocol="TCP",direction="request"} ${requests.packets}\n`,
    );
    expect(text).not.toContain('service="idle"');
    expect(text).toMatch(/^podwire_table_swaps_total\{table="services"\} [1-9]/m);
    // Breaths with packets took time, and none of them minutes.
    const value = (name: string) => Number(new RegExp(`^${name} (.*)$`, "m").exec(text)?.[1]);
    const loops = value("podwire_loop_duration_seconds_count");
    expect(loops).toBeGreaterThan(20);
    expect(value("podwire_loop_duration_seconds_sum") / loops).toBeGreaterThan(1e-6);
    expect(value("podwire_loop_duration_seconds_sum") / loops).toBeLessThan(1);
    await expect(scrape(lan.node[A.name]!, A.address)).rejects.toThrow();
  });

  it("top prints one snapshot where there is no terminal", async () => {
    const text = await podwire(a, "top", "--interval", "0.2");
    expect(text).toMatch(new RegExp(`^podwire top {2}${A.name} `));
    expect(text).toMatch(/\ndefault\/who +80\/TCP +/);
    expect(text).toMatch(new RegExp(`\n${B.name} +${B.address} +`));
    expect(text).not.toContain("\x1b");
  });
});
