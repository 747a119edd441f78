/**
 * `podwire capture` at each point of the way, read by tshark.
 *
 *   node A: podwire                        node B: podwire
 *   ┌─────────────┐   192.168.2.0/24       ┌─────────────┐
 *   │ pod a1 ─TAP─┤ eth0 ── br0 ── eth0 ───┤─TAP─ pod b1  │   answers on 8080
 *   │ pod a2 ─TAP─┤                        ├─TAP─ pod b2  │
 *   └─────────────┘                        └─────────────┘
 *     captures here                          10.152.183.10:80 → b1:8080, .11:80 → nobody
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PODWIRE, startAgent, type TestAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet, type TestProcess, waitFor } from "../support/netns.js";
import { A, B, type Lan, makeLan, nodeConfig, startNode, VNI } from "../support/overlay.js";
import { requirePrograms } from "../support/programs.js";
import { ping, python, startServer } from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
const NAMES = fileURLToPath(new URL("../support/names.py", import.meta.url));
const VIP = "10.152.183.10";
const EMPTY = "10.152.183.11";
const a1 = A.pods.a1!;
const b1 = B.pods.b1!;

const FIELDS = [
  "frame.interface_name",
  "frame.comment",
  "frame.time_epoch",
  "frame.packet_flags_direction",
  "ip.src",
  "ip.dst",
  "tcp.srcport",
  "tcp.dstport",
  "vxlan.vni",
  "_ws.malformed",
];

interface Packet {
  at: string;
  comment: string;
  time: number;
  outbound: boolean;
  /** Of all IPv4 headers, the outermost first. */
  sources: string[];
  destinations: string[];
  ports: [string, string];
  vni: string;
}

function packetsOf(stdout: string): Packet[] {
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const values = line.split("\t");
      const field = (name: string) => values[FIELDS.indexOf(name)] ?? "";
      expect(field("_ws.malformed"), line).toBe("");
      return {
        at: field("frame.interface_name"),
        comment: field("frame.comment"),
        time: Number(field("frame.time_epoch")),
        outbound: Number(field("frame.packet_flags_direction")) === 2,
        sources: field("ip.src").split(","),
        destinations: field("ip.dst").split(","),
        ports: [field("tcp.srcport"), field("tcp.dstport")],
        vni: field("vxlan.vni"),
      };
    });
}

const TSHARK = ["-n", "-T", "fields", "-E", "separator=/t", ...FIELDS.flatMap((name) => ["-e", name])];

describe.skipIf(why !== "").each([1, 2] as const)(`podwire capture, %s threads${skipped}`, (threads) => {
  const net = new TestNet();
  let lan: Lan;
  let agent: TestAgent;

  /** Starts a capture and waits until it is under way. */
  const start = async (...args: string[]): Promise<{ process: TestProcess; file: string }> => {
    const file = join(net.directory(), "capture.pcapng");
    const line = [PODWIRE, "capture", "--state-dir", agent.stateDir, "-w", file, ...args];
    const process_ = net.spawn("", process.execPath, line);
    await waitFor(() => process_.stderr.includes("capturing") || process_.code !== null, { what: "capture" });
    expect(process_.stderr).toMatch(/^capturing .* on node-a\n$/);
    return { process: process_, file };
  };
  const read = async (file: string): Promise<Packet[]> =>
    packetsOf((await net.exec("", "tshark", ["-r", file, ...TSHARK])).stdout);
  /** What a capture holds of what happens during `work`. */
  const capture = async (args: string[], work: () => Promise<unknown>): Promise<Packet[]> => {
    const { process: running, file } = await start(...args);
    await work();
    running.kill("SIGINT");
    expect(await running.exited, running.stderr).toBe(0);
    const packets = await read(file);
    expect(running.stderr).toContain(
      `\n${packets.length} packets captured, 0 lost since the ring was full\n`,
    );
    return packets;
  };
  const ask = async () =>
    expect((await net.exec(lan.pod.a1!, python(), [NAMES, "tcp", VIP, "80"])).stdout.trim()).toBe("b1");
  const service = (name: string, clusterIP: string, backends: string[]) => ({
    name,
    clusterIP,
    ports: [{ name: "http", port: 80, targetPort: 8080 }],
    backends: backends.map((address) => ({ address })),
  });

  beforeAll(async () => {
    requirePrograms("python3", "ping", "tshark", "curl");
    lan = await makeLan(net);
    agent = startAgent(net, lan.node[A.name]!, {
      ...nodeConfig(net, lan, A, [B], { threads }),
      serviceRange: "10.152.0.0/16",
      services: [service("default/web", VIP, [b1]), service("default/empty", EMPTY, [])],
    });
    await agent.ready();
    await startNode(net, lan, B, [A]);
    await startServer(net, lan.pod.b1!, python(), [NAMES, "serve", "8080", "b1"], "ready");
    await ping(net, lan.pod.a1!, b1);
  });
  afterAll(() => net.cleanup());

  const flow = `src=${a1} dst=${VIP} sport=\\d+ dport=80 src=${b1} dst=${a1} sport=8080 dport=\\d+ flags=dnat service=default/web:http backend=${b1}:8080`;
  const asked = new RegExp(`^from=default/a1 verdict=tunnel to=node-b tcp \\w+ original ${flow}`);
  const answered = new RegExp(`^from=node-b verdict=deliver to=default/a1 tcp \\w+ reply ${flow}`);
  const filter = ["--filter", `tcp and host ${VIP}`];

  it("inner: what a pod sends and gets, at its own interface, when it was", async () => {
    const before = Date.now() / 1000;
    const packets = await capture([...filter, "--point", "inner"], ask);
    const after = Date.now() / 1000;
    expect(packets.length).toBeGreaterThanOrEqual(6);
    expect(new Set(packets.map(({ at }) => at))).toEqual(new Set(["inner:default/a1"]));
    for (const { outbound, sources, destinations, comment, time } of packets) {
      expect([sources, destinations]).toEqual(outbound ? [[VIP], [a1]] : [[a1], [VIP]]);
      expect(comment).toMatch(outbound ? answered : asked);
      // The clock may be slewed while the capture keeps its offset.
      expect(time).toBeGreaterThan(before - 0.01);
      expect(time).toBeLessThan(after + 0.01);
    }
    expect(packets[0]).toMatchObject({ outbound: false });
    expect(packets[0]!.comment).toContain(" tcp SYN_SENT original ");
    expect(packets.some(({ outbound }) => outbound)).toBe(true);
  });

  it("outer: VXLAN with its headers, both ways", async () => {
    const packets = await capture([...filter, "--point", "outer"], ask);
    expect(new Set(packets.map(({ outbound }) => outbound))).toEqual(new Set([true, false]));
    for (const { at, outbound, sources, destinations, comment, vni } of packets) {
      expect(at).toBe("outer");
      expect(vni).toBe(String(VNI));
      if (outbound)
        expect([sources, destinations]).toEqual([
          [A.address, a1],
          [B.address, b1],
        ]);
      else
        expect([sources, destinations]).toEqual([
          [B.address, b1],
          [A.address, a1],
        ]);
      expect(comment).toMatch(outbound ? asked : answered);
    }
  });

  it("before and after: both sides of a ClusterIP's translation, packet by packet", async () => {
    const packets = await capture([...filter, "--point", "before", "after"], ask);
    const at = (name: string, comment: RegExp) =>
      packets.filter((packet) => packet.at === name && comment.test(packet.comment));
    for (const comment of [asked, answered]) {
      expect(at("before", comment).length).toBeGreaterThanOrEqual(3);
      expect(at("after", comment)).toHaveLength(at("before", comment).length);
    }
    expect(packets).toHaveLength(2 * (at("before", asked).length + at("before", answered).length));
    for (const { sources, destinations, ports } of at("before", asked))
      expect([sources, destinations, ports[1]]).toEqual([[a1], [VIP], "80"]);
    for (const { sources, destinations, ports } of at("after", asked))
      expect([sources, destinations, ports[1]]).toEqual([[a1], [b1], "8080"]);
    for (const { sources, destinations, ports } of at("before", answered))
      expect([sources, destinations, ports[0]]).toEqual([[b1], [a1], "8080"]);
    for (const { sources, destinations, ports } of at("after", answered))
      expect([sources, destinations, ports[0]]).toEqual([[VIP], [a1], "80"]);
  });

  it("dropped: with the reason; and what the dataplane answered", async () => {
    const packets = await capture(["--pod", "a1", "--point", "dropped", "inner"], async () => {
      const { code } = await net.tryExec(lan.pod.a1!, "curl", ["-s", "-m", "5", `http://${EMPTY}/`]);
      expect(code).toBe(7);
      await net.exec(lan.pod.a1!, "ip", ["addr", "add", "10.1.9.9/32", "dev", "lo"]);
      await net.tryExec(lan.pod.a1!, "ping", ["-n", "-c", "1", "-W", "1", "-I", "10.1.9.9", b1]);
      await net.exec(lan.pod.a1!, "ip", ["addr", "del", "10.1.9.9/32", "dev", "lo"]);
    });
    const dropped = packets.filter(({ at }) => at === "dropped");
    const refused = dropped.find(({ destinations }) => destinations[0] === EMPTY);
    expect(refused?.comment).toBe("from=default/a1 verdict=dropped reason=noEndpoint checksum=partial");
    const forged = dropped.find(({ sources }) => sources[0] === "10.1.9.9");
    expect(forged?.comment).toBe("from=default/a1 verdict=dropped reason=forgedSource");
    const reset = packets.find(({ sources }) => sources[0] === EMPTY);
    expect(reset).toMatchObject({ at: "inner:default/a1", outbound: true });
    expect(reset?.comment).toMatch(
      /^made-by=podwire in-answer-to: from=default\/a1 verdict=dropped reason=noEndpoint/,
    );
  });

  it("streams into tshark, and ends after a number of packets", async () => {
    const podwire = `"${process.execPath}" "${PODWIRE}" capture --state-dir "${agent.stateDir}"`;
    const pipe = `${podwire} -c 6 -w - ${`--filter 'icmp and host ${b1}'`} | tshark -r - ${TSHARK.join(" ")}`;
    const running = net.spawn("", "sh", ["-c", pipe]);
    await waitFor(() => running.stderr.includes("capturing inner on node-a"), { what: "capture" });
    await ping(net, lan.pod.a1!, b1);
    expect(await running.exited, running.stderr).toBe(0);
    // Three requests and three answers, in whichever order they passed.
    const outbound = packetsOf(running.stdout).filter((packet) => packet.outbound);
    expect(outbound).toHaveLength(3);
    expect(running.stderr).toContain("6 packets captured, 0 lost");
  });

  it("one at a time, and one that is killed makes room", async () => {
    const { process: first } = await start();
    const line = [PODWIRE, "capture", "--state-dir", agent.stateDir, "-w", "/dev/null"];
    const second = await net.tryExec("", process.execPath, line);
    expect(second.code).toBe(1);
    expect(second.stderr).toMatch(/^another capture is under way, since .*: one at a time\n$/);
    first.kill("SIGKILL");
    await first.exited;
    await waitFor(
      async () => (await net.tryExec("", process.execPath, [...line, "--duration", "0.1"])).code === 0,
      {
        what: "room for another capture",
      },
    );
  });

  it("says what is wrong with a filter; and without a capture all is as before", async () => {
    const line = [
      PODWIRE,
      "capture",
      "--state-dir",
      agent.stateDir,
      "-w",
      "/dev/null",
      "--filter",
      "prot 80",
    ];
    const { code, stderr } = await net.tryExec("", process.execPath, line);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: 'filter: an address, host, net, port, or a protocol expected, not "prot"\n',
    });
    await ask();
    expect(agent.process.stderr).not.toMatch(/"level":"(error|fatal)"/);
  });
});
