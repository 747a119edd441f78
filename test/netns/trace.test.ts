/**
 * Traces against agents that run: random packets in random states of a cluster go where the trace says,
 * byte for byte, or are dropped for the reason that it says (the long version is `npm run soak -- trace`);
 * and `--live` sees a connection of two packets.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Trace } from "../../src/explain/trace/model.js";
import { PODWIRE } from "../support/agent.js";
import { ethernet, IPV4, RST, SYN, tcpPacket, udpPacket } from "../support/frames.js";
import { netnsUnavailable, waitFor } from "../support/netns.js";
import { requirePrograms } from "../support/programs.js";
import { NODE_NAMES, PC, TraceBed } from "../support/TraceBed.js";
import { traceSoak } from "../support/traceSoak.js";

const reason = netnsUnavailable();
const SEED = 7;
const PACKETS = 75;
const NODE = NODE_NAMES[1];
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

  describe("--live", () => {
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
    ] as const)("a single short flow of %s is seen, and went as traced", async (protocol, sourcePort) => {
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
    });
  });
});
