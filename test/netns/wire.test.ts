/**
 * What a third party sees on the cable: tcpdump between the nodes, tshark as judge.
 *
 *   node A: podwire                             node B: podwire
 *   ┌─────────────┐       192.168.2.0/24        ┌─────────────┐
 *   │ pod a1 ─TAP─┤ eth0 ── p0 br0 p1 ── eth0 ──┤─TAP─ pod b1  │
 *   └─────────────┘         ▲    └─ host .40    └─────────────┘
 *                      capture       (sends what is wrong, so that the judge is judged)
 *
 * Every offload of the LAN's links is off, so that checksums are filled in and frames are as long as
 * a cable's. The pods keep theirs: what their kernels leave open is podwire's to complete.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { vtepMac } from "../../src/desired/mac.js";
import type { TestAgent } from "../support/agent.js";
import { dissect, type Frame, faultOf, startCapture } from "../support/capture.js";
import { ethernet, IPV4, tcpPacket, udpPacket, vxlan } from "../support/frames.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";
import {
  A,
  B,
  expectSound,
  HOST,
  type Lan,
  makeLan,
  setLanProfile,
  startNode,
  VNI,
} from "../support/overlay.js";
import { requirePrograms, SEND_MODES } from "../support/programs.js";
import { PAGE_BYTES, startNginx, startRedis } from "../support/servers.js";
import {
  echo,
  echoTrains,
  type Peer,
  ping,
  pingOutput,
  python,
  sendDatagrams,
  startServers,
  transferBothWays,
} from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
const LAN_MTU = 1500;
const TRANSFER = 8_000_000;
const NOBODY = "10.1.79.100";

describe.skipIf(why !== "").each(SEND_MODES)(`frames on the wire, tunnelGso %s${skipped}`, (tunnelGso) => {
  const net = new TestNet();
  let lan: Lan;
  const agents: TestAgent[] = [];
  let a1: Peer;
  let b1: Peer;
  /** All that crossed the port. */
  let frames: Frame[];
  /** Between the nodes. */
  let ours: Frame[];

  async function mixedTraffic(): Promise<void> {
    await transferBothWays(net, a1, b1, TRANSFER);
    for (const [from, to] of [
      [a1, b1],
      [b1, a1],
    ] as const) {
      await echo(net, from.ns, to.address, 20, [0, 1, 33, 1400, 1422, 8000]);
      await echoTrains(net, from.ns, to.address, 5, [
        { size: 101, count: 50, last: 3 },
        { size: 1400, count: 40, last: 1400 },
      ]);
      await ping(net, from.ns, to.address, [0, 56, 1400, 8000]);
    }
    for (let n = 0; n < 5; n++) {
      const { stdout } = await net.exec(a1.ns, "curl", ["-sf", `http://${b1.address}/page`]);
      expect(stdout).toHaveLength(PAGE_BYTES);
    }
    await net.exec(b1.ns, "redis-benchmark", [
      "-h",
      a1.address,
      "-n",
      "500",
      "-c",
      "5",
      "-t",
      "set,get,mset",
    ]);
  }

  async function errors(): Promise<void> {
    // Made by node B and sent through the tunnel.
    expect(await pingOutput(net, a1.ns, NOBODY, [])).toContain("Destination Host Unreachable");
    expect(await pingOutput(net, a1.ns, b1.address, ["-t", "2"])).toContain("Time to live exceeded");
    // Made by the pod's kernel: no server on this port.
    const { code } = await net.tryExec(a1.ns, python(), [
      "-c",
      `import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.settimeout(5); s.connect(("${b1.address}", 9)); s.send(b"x"); s.recv(1)`,
    ]);
    expect(code).not.toBe(0);
  }

  /**
   * A pod with a longer MTU than the overlay's, which sets no DF: its node fragments. Again and again,
   * since the agent repairs the MTU at times.
   */
  async function fragments(): Promise<void> {
    const count = async () => (await agents[0]!.request("counters")).other.fragments;
    await net.exec(a1.ns, "sysctl", ["-qw", "net.ipv4.ip_no_pmtu_disc=1"]);
    await waitFor(
      async () => {
        const before = await count();
        await net.exec(a1.ns, "ip", ["link", "set", "eth0", "mtu", "2000"]);
        await ping(net, a1.ns, b1.address, [1801], ["-M", "dont"]);
        await echo(net, a1.ns, b1.address, 5, [1701, 1900]);
        return (await count()) - before === 2 * (3 + 5 * 2);
      },
      { what: "fragments made by the node" },
    );
    await net.exec(a1.ns, "ip", ["link", "set", "eth0", "mtu", "1450"]);
  }

  /** Three datagrams that are wrong inside, and one that is right, from a host that is no node. */
  async function control(): Promise<void> {
    const ends = { source: "10.1.5.1", destination: "10.1.5.2", sourcePort: 4000, destinationPort: 4001 };
    const data = Buffer.from("what a judge should find");
    const right = ethernet(vtepMac(A.name), vtepMac(B.name), IPV4, tcpPacket(ends, data));
    const cut = right.subarray(0, right.length - data.length - 12);
    const wrongTcp = tcpPacket({ ...ends, l4Checksum: 0x1234 }, data);
    const wrongIp = udpPacket({ ...ends, checksum: 0x1234 }, data);
    const [host, port] = [{ ns: lan.host, address: HOST }, 4789];
    await sendDatagrams(net, host, port, A.address, port, [
      vxlan(VNI, right),
      vxlan(VNI, cut),
      vxlan(VNI, ethernet(vtepMac(A.name), vtepMac(B.name), IPV4, wrongTcp)),
      vxlan(VNI, ethernet(vtepMac(A.name), vtepMac(B.name), IPV4, wrongIp)),
    ]);
  }

  beforeAll(async () => {
    requirePrograms("curl", "ethtool", "nginx", "ping", "python3", "redis-benchmark", "redis-server");
    requirePrograms("sysctl", "tcpdump", "tshark");
    lan = await makeLan(net, [A, B], LAN_MTU);
    await setLanProfile(net, lan, "wire");
    agents.push(await startNode(net, lan, A, [B], { tunnelGso }));
    agents.push(await startNode(net, lan, B, [A], { tunnelGso }));
    a1 = { ns: lan.pod.a1!, address: A.pods.a1! };
    b1 = { ns: lan.pod.b1!, address: B.pods.b1! };
    await startServers(net, a1.ns, b1.ns);
    await startNginx(net, b1.ns);
    await startRedis(net, a1.ns);
    const capture = await startCapture(net, lan.lan, lan.port[A.name]!);
    await mixedTraffic();
    await errors();
    await fragments();
    await control();
    frames = await dissect(net, await capture.stop({ ns: lan.host, address: HOST }, A.address));
    const nodes = [A.address, B.address];
    ours = frames.filter(
      ({ sources, destinations }) => nodes.includes(sources[0]!) && nodes.includes(destinations[0]!),
    );
  });
  afterAll(() => net.cleanup());

  it("the judge finds what is wrong in the control, and only that", () => {
    const sent = frames.filter(({ sources, vni }) => sources[0] === HOST && vni === VNI);
    expect(sent.map(faultOf)).toEqual(["", expect.stringContaining("malformed"), "tcp error", "ip error"]);
  });

  it("frames are VXLAN of our VNI, both ways, and no longer than the LAN's MTU", () => {
    expect(ours.length).toBeGreaterThan(12_000);
    expect(ours.filter(({ vni }) => vni !== VNI)).toEqual([]);
    for (const { address } of [A, B])
      expect(ours.filter(({ sources }) => sources[0] === address).length).toBeGreaterThan(5_000);
    expect(Math.max(...frames.map(({ length }) => length))).toBe(LAN_MTU + 14);
  });

  it("nothing is malformed, no checksum is wrong", () => {
    const wrong = ours.filter((frame) => faultOf(frame) !== "");
    expect(wrong.slice(0, 5)).toEqual([]);
  });

  it("every checksum is there and was verified, outside and inside", () => {
    const count = (name: "ip" | "udp" | "tcp" | "icmp", at: number) =>
      ours.filter((frame) => frame[name][at] === "good").length;
    expect(count("ip", 0)).toBe(ours.length);
    expect(count("ip", 1)).toBe(ours.filter(({ protocols }) => !protocols.includes(":arp")).length);
    // By tunnel GSO and by UDP_SEGMENT: the outer UDP checksum, too.
    expect(count("udp", 0)).toBe(ours.length);
    expect(count("tcp", 0)).toBeGreaterThan(11_000);
    expect(count("tcp", 0)).toBe(ours.filter(({ protocols }) => protocols.includes(":tcp")).length);
    expect(count("udp", 1)).toBeGreaterThan(1_000);
    expect(count("icmp", 0)).toBeGreaterThan(40);
  });

  it("the capture holds every kind of traffic", () => {
    const kinds = {
      http: ({ protocols }: Frame) => protocols.includes(":http"),
      redis: ({ protocols }: Frame) => protocols.includes(":resp"),
      fragment: ({ fragment }: Frame) => fragment,
      portUnreachable: ({ icmpTypes }: Frame) => icmpTypes[0] === 3,
      timeExceeded: ({ icmpTypes }: Frame) => icmpTypes[0] === 11,
    };
    for (const [kind, is] of Object.entries(kinds)) expect(ours.some(is), kind).toBe(true);
  });

  it("the agents dropped only what the tests are about", async () => {
    await expectSound(agents[0]!, ["unknownVtep"]);
    await expectSound(agents[1]!, ["hostUnreachable", "ttlExceeded"]);
    const sent = await Promise.all(agents.map(async (agent) => (await agent.request("counters")).other));
    for (const { tunnelGso: frames } of sent)
      if (tunnelGso === "on") expect(frames).toBeGreaterThan(100);
      else expect(frames).toBe(0);
  });
});
