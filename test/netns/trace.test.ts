/**
 * Traces against agents that run: random packets in random states of a cluster go where the trace says,
 * byte for byte, or are dropped for the reason that it says (the long version is `npm run soak -- trace`);
 * `--live` sees a connection of two packets; and the page draws the way that a packet takes.
 */
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ask } from "../../src/agent/StatusServer.js";
import { trace } from "../../src/explain/trace/journey.js";
import type { Trace } from "../../src/explain/trace/model.js";
import { type Asked, questionOf } from "../../src/explain/trace/question.js";
import { TraceCluster } from "../../src/explain/trace/TraceCluster.js";
import { ClusterFeed } from "../../src/ui/ClusterFeed.js";
import { UiServer } from "../../src/ui/UiServer.js";
import { PODWIRE } from "../support/agent.js";
import { BROWSER, launchBrowser, openPage } from "../support/browser.js";
import { ethernet, IPV4, RST, SYN, tcpPacket, udpPacket } from "../support/frames.js";
import { netnsUnavailable, waitFor } from "../support/netns.js";
import { requirePrograms } from "../support/programs.js";
import { MARK } from "../support/Station.js";
import { NODE_NAMES, PC, TraceBed } from "../support/TraceBed.js";
import { traceSoak } from "../support/traceSoak.js";
import { OUTPUT } from "../support/ui.js";

const reason = netnsUnavailable();
const SEED = 7;
const PACKETS = 75;
const NODE = NODE_NAMES[1];
/** The page's modules, as `npm run build` leaves them. */
const BUILT = fileURLToPath(new URL("../../dist", import.meta.url));
const NONE = new Uint8Array(0);

describe.skipIf(reason !== "")(`trace and agents ${reason}`, () => {
  let bed: TraceBed;
  beforeAll(async () => {
    requirePrograms("python3");
    bed = await TraceBed.start();
  });
  afterAll(() => bed?.close());

  test(`${PACKETS} random packets go as traced`, async () => {
    const { packets, ends } = await traceSoak({ seed: SEED, count: PACKETS, perState: 25 }, bed);
    expect(packets).toBe(PACKETS);
    const ways = Object.keys(ends).map((end) => end.split(":")[0]!);
    // A run has a bit of everything, or it says nothing.
    for (const way of ["delivered to pod", "delivered to lan", "dropped", "refused"])
      expect(ways, JSON.stringify(ends)).toContain(way);
  });

  test("the station sends from a port where it listens, too", async () => {
    const { station } = bed;
    await station.listen(NODE, 20_000);
    await station.sendDatagram(NODE, 20_000, [PC, 9], MARK);
    const arrived = () => station.seen.findIndex(({ at, how }) => at === "pc" && how === "frame");
    await waitFor(() => arrived() >= 0, { deadlineMs: 30_000, what: "the datagram" });
    station.seen.splice(arrived(), 1);
  });

  describe("a Service of one pod", () => {
    const nodePorts = new Map<string, number>();
    beforeAll(async () => {
      // That of the node itself: its agent alone is asked.
      await bed.addPods([{ name: "live", node: NODE }]);
      const { address } = bed.pods.get("live")!;
      const ports = ["TCP", "UDP"].map((protocol) => ({ name: protocol.toLowerCase(), protocol, port: 80 }));
      const service = await bed.addService(
        "live",
        { type: "NodePort", ports },
        { ports, endpoints: [{ addresses: [address], nodeName: NODE }] },
      );
      for (const { protocol, nodePort } of service.spec!.ports!) nodePorts.set(protocol!, nodePort!);
      await bed.settled();
    });

    test.each([
      ["tcp", 20_001],
      ["udp", 20_002],
    ] as const)(
      "--live sees a single short flow of %s, and it went as traced",
      async (protocol, sourcePort) => {
        const destinationPort = nodePorts.get(protocol.toUpperCase())!;
        const { stateDir, ns } = bed.cluster.node(NODE);
        const to = ["nodeport", `${NODE}:${destinationPort}`, "--proto", protocol];
        const options = ["--live", "--wait", "60", "-o", "json", "--state-dir", stateDir];
        const command = [PODWIRE, "trace", "pc", ...to, ...options];
        const live = bed.cluster.net.spawn(ns, process.execPath, command);
        await waitFor(() => live.stderr.startsWith("waiting ") || live.code !== null, {
          deadlineMs: 30_000,
          what: "the command waits",
        });
        const ends = { source: PC, destination: bed.addressOf(NODE), sourcePort, destinationPort };
        const packets =
          protocol === "udp"
            ? [udpPacket(ends, NONE)]
            : [
                tcpPacket({ ...ends, flags: SYN, sequence: 1 }, NONE),
                tcpPacket({ ...ends, flags: RST, sequence: 2 }, NONE),
              ];
        for (const packet of packets)
          await bed.station.sendFrame("pc", ethernet(bed.macs.get(NODE)!, bed.pcMac, IPV4, packet));
        expect(await live.exited, live.stderr).toBe(0);
        const { request, live: seen } = JSON.parse(live.stdout) as Trace;
        expect(request.packet).toMatchObject({ protocol, source: PC, sourcePort, destinationPort });
        expect(seen).toMatchObject({ agrees: true, difference: "" });
        expect(seen!.flows[0]!.line).toContain(`src=${bed.pods.get("live")!.address} dst=${PC} `);
      },
    );

    async function tracer(asked: Asked): Promise<Trace> {
      const cluster = new TraceCluster(await bed.sources());
      return trace(cluster, questionOf(cluster, asked));
    }

    test.skipIf(BROWSER === undefined)("the page draws the way that the packet then takes", async () => {
      const [ingress] = NODE_NAMES;
      const destinationPort = nodePorts.get("TCP")!;
      const asked = { from: PC, to: `nodeport ${ingress}:${destinationPort}` };
      const traced = await tracer(asked);
      expect(traced.verdict).toBe("answered");

      const feed = new ClusterFeed({
        kube: bed.cluster.kube,
        readNode: (node, topic) => ask(bed.socket(node), topic),
      });
      await feed.start();
      onTestFinished(() => feed.stop());
      const server = new UiServer({ feed, trace: tracer, flows: async () => [], modules: BUILT });
      const address = await server.listen({ address: "127.0.0.1", port: 0 });
      onTestFinished(() => server.close());
      const browser = await launchBrowser();
      onTestFinished(() => browser.close());
      const { page, problems } = await openPage(browser, address, { hash: "nodeport" });
      page.setDefaultTimeout(60_000);
      await page.locator('svg.picture [data-ref="pod:default/live"]').first().waitFor();
      await page.locator('input[name="from"]').fill(asked.from);
      await page.locator('input[name="to"]').fill(asked.to);
      await page.getByRole("button", { name: "Trace" }).click();
      await page.locator('svg.picture g[data-path="request"]').waitFor({ state: "attached" });
      await page.locator('svg.picture g[data-path="reply"]').waitFor({ state: "attached" });
      const told = (await page.locator("section.trace .ways").textContent())!;
      for (const { what } of [...traced.request.steps, ...traced.reply!.steps]) expect(told).toContain(what);
      mkdirSync(`${OUTPUT}/ui`, { recursive: true });
      await page.screenshot({ path: `${OUTPUT}/ui/trace-of-agents.png`, fullPage: true });
      expect(problems).toEqual([]);

      const { sourcePort } = traced.request.packet;
      const ends = { source: PC, destination: bed.addressOf(ingress), sourcePort, destinationPort };
      const packet = tcpPacket({ ...ends, flags: SYN, sequence: 1 }, MARK);
      const { station } = bed;
      station.seen.splice(0);
      await station.sendFrame("pc", ethernet(bed.macs.get(ingress)!, bed.pcMac, IPV4, packet));
      // By the tunnel, as drawn, to the pod.
      await waitFor(() => station.seen.length === 2, { deadlineMs: 30_000, what: "it arrives" });
      expect(station.seen.map(({ at, how }) => `${at} ${how}`).sort()).toEqual(
        [`${NODE} tunnel`, "live frame"].sort(),
      );
    });
  });
});
