/**
 * podwire against the kernel's own VXLAN, which we did not write.
 *
 *   node A: podwire                          node B: ip link add vx type vxlan id 4096
 *   ┌─────────────┐    192.168.2.0/24        ┌──────────────────────────────────┐
 *   │ pod a1 ─TAP─┤ eth0 ──── br0 ──── eth0 ─┤ vx ── routing ── veth ─ pod b1    │
 *   └─────────────┘                          └──────────────────────────────────┘
 *
 * Both send modes, with frames of 64 KiB and of MTU size, over a LAN of virtual links, over what a
 * cable shows, and with GRO at the receivers. Transfers are compared by SHA-256, datagrams byte for
 * byte and one by one.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { vtepMac } from "../../src/desired/mac.js";
import type { TestAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet } from "../support/netns.js";
import {
  A,
  B,
  evenCounters,
  expectSound,
  kernelMac,
  LAN_PROFILES,
  type Lan,
  type LanProfile,
  lanReceived,
  makeLan,
  setLanProfile,
  setPodOffloads,
  startKernelNode,
  startNode,
} from "../support/overlay.js";
import { requirePrograms, SEND_MODES } from "../support/programs.js";
import {
  echo,
  echoTrains,
  iperfUdp,
  kernelCounter,
  type Peer,
  ping,
  pingOutput,
  startCable,
  startIperf,
  startServers,
  transferBothWays,
} from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
const kernelB = { ...B, mac: kernelMac(B) };
const TRANSFER = 20_000_000;
/** Payload of the longest datagram that one frame holds: 1450 - 20 - 8. */
const LONGEST = 1422;

describe.skipIf(why !== "").each(SEND_MODES)(`a kernel vxlan peer, tunnelGso %s${skipped}`, (tunnelGso) => {
  const net = new TestNet();
  let lan: Lan;
  let agent: TestAgent;
  let a1: Peer;
  let b1: Peer;

  async function use(profile: LanProfile, podOffloads: "on" | "off"): Promise<void> {
    await setLanProfile(net, lan, profile);
    for (const { ns } of [a1, b1]) await setPodOffloads(net, ns, podOffloads);
  }

  beforeAll(async () => {
    requirePrograms("bridge", "ethtool", "iperf3", "ping", "python3", "sysctl");
    lan = await makeLan(net);
    await startKernelNode(net, lan, B, A);
    agent = await startNode(net, lan, A, [kernelB], { tunnelGso });
    a1 = { ns: lan.pod.a1!, address: A.pods.a1! };
    b1 = { ns: lan.pod.b1!, address: B.pods.b1! };
    await startServers(net, a1.ns, b1.ns);
  });
  afterAll(() => net.cleanup());

  it("runs in the mode that was asked for", async () => {
    const { dataplane } = await agent.request("status");
    expect(dataplane.send).toBe(tunnelGso === "on" ? "tunnel-gso" : "udp-segment");
  });

  it("ICMP in both directions, fragments included", async () => {
    await use("virtual", "on");
    const sizes = [0, 56, 1400, 8000];
    await ping(net, a1.ns, b1.address, sizes);
    await ping(net, b1.ns, a1.address, sizes);
    await ping(net, a1.ns, b1.address, [LONGEST], ["-M", "do"]);
  });

  it("IPv4 options pass", async () => {
    // Record route, and timestamps.
    for (const option of [["-R"], ["-T", "tsonly"]]) {
      await ping(net, a1.ns, b1.address, [56, 1300], option);
      await ping(net, b1.ns, a1.address, [56, 1300], option);
    }
  });

  it("says that a packet with DF is too long", async () => {
    const longer = ["-M", "do", "-s", String(LONGEST + 1)];
    expect(await pingOutput(net, a1.ns, b1.address, longer)).toMatch(/message too long, mtu=1450/);
    expect(await pingOutput(net, b1.ns, a1.address, longer)).toMatch(/message too long, mtu=1450/);
  });

  it("reaches the nodes' tunnel addresses", async () => {
    await ping(net, a1.ns, B.tunnel);
    await ping(net, b1.ns, A.tunnel);
    await ping(net, lan.node[A.name]!, b1.address);
    await ping(net, lan.node[B.name]!, a1.address);
    await ping(net, lan.node[B.name]!, A.tunnel);
  });

  describe.each(LAN_PROFILES)("over a %s LAN", (profile) => {
    it.each(["on", "off"] as const)("TCP in both directions, pods' offloads %s", async (offloads) => {
      await use(profile, offloads);
      const before = [await lanReceived(net, lan, A), await lanReceived(net, lan, B)];
      await transferBothWays(net, a1, b1, TRANSFER);
      const after = [await lanReceived(net, lan, A), await lanReceived(net, lan, B)];
      // The LAN is what its name says.
      const [toA, toB] = after.map(
        ({ bytes, packets }, i) => (bytes - before[i]!.bytes) / (packets - before[i]!.packets),
      );
      if (profile === "virtual") expect(toB).toBeGreaterThan(1514);
      else expect(Math.max(toA!, toB!)).toBeLessThanOrEqual(1514);
    });

    it.each(["on", "off"] as const)("UDP in both directions, pods' offloads %s", async (offloads) => {
      await use(profile, offloads);
      for (const [from, to] of [
        [a1, b1],
        [b1, a1],
      ] as const) {
        await echo(net, from.ns, to.address, 20, [0, 1, 64, 1400, LONGEST, LONGEST + 1, 8000, 60_000]);
        await echo(net, from.ns, to.address, 20, [1, 1400, LONGEST], "unsummed");
      }
    });

    it("UDP that leaves the sender in trains (UDP_SEGMENT)", async () => {
      await use(profile, "on");
      for (const [from, to] of [
        [a1, b1],
        [b1, a1],
      ] as const) {
        await echoTrains(net, from.ns, to.address, 10, [
          { size: 100, count: 60, last: 100 },
          { size: 1400, count: 45, last: 1400 },
          { size: LONGEST, count: 40, last: 7 },
          { size: 1001, count: 2, last: 1000 },
        ]);
      }
    });
  });

  it("paced UDP loses nothing", async () => {
    await use("virtual", "on");
    await startIperf(net, b1.ns);
    for (const reverse of [false, true]) {
      const options = { rate: 5e6, length: 1400, seconds: 1, mayLose: 0, reverse };
      const sum = await iperfUdp(net, a1.ns, b1.address, options);
      expect(sum.packets).toBeGreaterThan(400);
      expect(sum.lost_packets).toBe(0);
    }
  });

  it("dropped nothing, and its accounts are even", async () => {
    await expectSound(agent);
    const { other } = await agent.request("counters");
    if (tunnelGso === "on") expect(other.tunnelGso).toBeGreaterThan(100);
    else expect(other.tunnelGso).toBe(0);
    expect(other.segments).toBeGreaterThan(100);
    expect(other.merged).toBeGreaterThan(100);
  });
});

describe.skipIf(why !== "")(`a kernel vxlan peer over a bad cable${skipped}`, () => {
  const net = new TestNet();
  afterAll(() => net.cleanup());

  it("what arrives is what was sent", async () => {
    requirePrograms("bridge", "ethtool", "python3", "sysctl");
    const lan = await makeLan(net);
    // Without outer checksums nobody but us and the pod stands between a wrong bit and the data.
    await startKernelNode(net, lan, B, A, { udpChecksum: false });
    const agent = await startNode(net, lan, A, [kernelB]);
    await setLanProfile(net, lan, "wire");
    const [a1, b1] = [lan.pod.a1!, lan.pod.b1!];
    for (const ns of [a1, b1]) await net.exec(ns, "sysctl", ["-qw", "net.ipv4.tcp_ecn=1"]);
    await startServers(net, a1, b1);
    const ports: [string, string] = [lan.port[A.name]!, lan.port[B.name]!];
    for (const port of ports) await net.exec(lan.lan, "ip", ["link", "set", port, "nomaster"]);
    const end = await startCable(net, lan.lan, ports, 100);
    await transferBothWays(net, { ns: a1, address: A.pods.a1! }, { ns: b1, address: B.pods.b1! }, 5_000_000);
    const { passed, ...fates } = await end();
    expect(passed).toBeGreaterThan(7000);
    for (const [fate, frames] of Object.entries(fates)) expect(frames, fate).toBeGreaterThan(10);
    // They came through to where they are judged.
    expect(await kernelCounter(net, a1, "Tcp", "InCsumErrors")).toBeGreaterThan(0);
    for (const ns of [a1, b1])
      expect(await kernelCounter(net, ns, "IpExt", "InCEPkts"), ns).toBeGreaterThan(0);
    // A bit may be wrong in any header.
    const { dropped } = await evenCounters(agent);
    expect(dropped).not.toHaveProperty("internalError");
  });
});

describe.skipIf(why !== "")(`a kernel vxlan peer without static neighbours${skipped}`, () => {
  const net = new TestNet();
  afterAll(() => net.cleanup());

  it("learns our MAC by ARP through the tunnel", async () => {
    requirePrograms("bridge", "ping", "sysctl");
    const lan = await makeLan(net);
    // And another UDP port and VNI, while we are here.
    const tunnel = { port: 8472, vni: 0xabcdef };
    await startKernelNode(net, lan, B, A, { resolve: true, tunnel });
    const agent = await startNode(net, lan, A, [kernelB], {}, { tunnel });
    await ping(net, lan.pod.b1!, A.pods.a1!);
    await ping(net, lan.pod.a1!, B.pods.b1!);
    const [neighbour] = await net.ipJson(lan.node[B.name]!, "neigh", "show", A.tunnel, "dev", "vx");
    expect(neighbour).toMatchObject({ dst: A.tunnel, lladdr: vtepMac(A.name) });
    const { answered } = await agent.request("counters");
    expect(answered).toBeGreaterThan(0);
    await expectSound(agent);
  });
});
