/**
 * Pods and the outside, as ordinary programs on ordinary kernels see it: who is behind the node's
 * address, what comes back, and what routers on the way say.
 *
 *   pod a1 ── node A .30 ──┐                           podwire, rules and egress as configured
 *   pod b1 ── node B .31 ──┴─ br0 ── router .40 ── 198.51.100.1 ── far 198.51.100.9
 *                          192.168.2.0/24        (MTU 1300)
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startAgent, type TestAgent } from "../support/agent.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";
import { A, B, HOST, type Lan, makeLan, type NodePlan, nodeConfig } from "../support/overlay.js";
import { requirePrograms } from "../support/programs.js";
import { PAGE_BYTES, startNginx } from "../support/servers.js";
import { iperfUdp, ping, pingOutput, python, startIperf, startServer } from "../support/traffic.js";

const why = netnsUnavailable();
const FAR = "198.51.100.9";
const ROUTER_FAR = "198.51.100.1";
const NARROW = 1300;
const UDP_PORT = 7000;
const NODE_PORT = 30700;
const CLUSTER_IP = "10.152.183.7";

/** Echoes datagrams, and prints from where they came. */
const UDP_SERVER = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
while True:
    data, sender = s.recvfrom(70000)
    print(len(data), *sender, flush=True)
    s.sendto(data, sender)
`;
/** Sends one datagram of seeded bytes and prints whether the same came back. Arguments: to, port, bytes, TTL. */
const UDP_CLIENT = `
import random, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: no DF
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, int(sys.argv[4]))
to = (sys.argv[1], int(sys.argv[2]))
s.connect(to)
data = random.Random(int(sys.argv[3])).randbytes(int(sys.argv[3]))
s.sendto(data, to)
try: print("same" if s.recvfrom(70000) == (data, to) else "other")
except OSError as error: print(type(error).__name__)
`;
/** One hop of traceroute -U: a datagram with a TTL, and who says what about it. Arguments: to, TTL. */
const HOP = `
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, int(sys.argv[2]))
s.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
s.settimeout(5)
s.connect((sys.argv[1], 33434))
s.send(b"hop")
import select
p = select.poll(); p.register(s, select.POLLERR)
if not p.poll(5000): print("nothing"); sys.exit()
_, control, _, _ = s.recvmsg(100, 1000, 0x2000)  # MSG_ERRQUEUE
data = next(c[2] for c in control if c[:2] == (socket.IPPROTO_IP, 11))
_, origin, kind, code = struct.unpack_from("=IBBB", data)
print(socket.inet_ntoa(data[20:24]), kind, code)
`;

describe.skipIf(why !== "")(`egress ${why}`, () => {
  const net = new TestNet();
  let lan: Lan;
  let far: string;
  let a1: string;
  let nodeA: string;
  let agentA: TestAgent;

  const start = (self: NodePlan, peer: NodePlan): TestAgent =>
    startAgent(net, lan.node[self.name]!, {
      ...nodeConfig(net, lan, self, [peer]),
      serviceRange: "10.152.183.0/24",
      services: [
        {
          name: "default/echo",
          clusterIP: CLUSTER_IP,
          ports: [{ name: "echo", protocol: "UDP", port: 80, targetPort: UDP_PORT, nodePort: NODE_PORT }],
          backends: [{ address: B.pods.b1 }],
        },
      ],
    });
  const counters = async (): Promise<Record<string, number>> => {
    return (await agentA.request("counters")).dropped;
  };
  const udp = async (to: string, bytes: number, ttl = 64, port = UDP_PORT) =>
    (
      await net.exec(a1, python(), ["-c", UDP_CLIENT, to, String(port), String(bytes), String(ttl)])
    ).stdout.trim();

  beforeAll(async () => {
    requirePrograms("curl", "nginx", "ping", "python3", "iperf3");
    lan = await makeLan(net);
    far = await net.netns("far");
    nodeA = lan.node[A.name]!;
    a1 = lan.pod.a1!;
    await net.link(
      { ns: lan.host, name: "far0", address: `${ROUTER_FAR}/24`, mtu: NARROW },
      { ns: far, name: "eth0", address: `${FAR}/24`, mtu: NARROW },
    );
    await net.exec(lan.host, "sysctl", ["-qw", "net.ipv4.ip_forward=1"]);
    await net.exec(far, "ip", ["route", "add", "default", "via", ROUTER_FAR]);
    for (const name of [A.name, B.name])
      await net.exec(lan.node[name]!, "ip", ["route", "add", "default", "via", HOST]);
    agentA = start(A, B);
    await Promise.all([agentA.ready(), start(B, A).ready(20_000)]);
    for (const ns of [far, lan.host]) await startNginx(net, ns);
  });
  afterAll(() => net.cleanup());

  it.each([
    ["on the LAN", HOST],
    ["behind a router with a smaller MTU", FAR],
  ])("TCP to a host %s", async (_, to) => {
    for (const ns of [a1, lan.pod.b1!]) {
      const args = ["-sS", "-m", "10", "-o", "/dev/null", "-w", "%{size_download}", `http://${to}/page`];
      expect((await net.exec(ns, "curl", args)).stdout).toBe(String(PAGE_BYTES));
    }
  });

  it("the outside sees the node's address and an egress port", async () => {
    const server = await startServer(net, far, python(), ["-c", UDP_SERVER, String(UDP_PORT)], "ready");
    expect(await udp(FAR, 100)).toBe("same");
    const [, address, port] = server.stdout.trim().split("\n").at(-1)!.split(" ");
    expect(address).toBe(A.address);
    expect(Number(port)).toBeGreaterThanOrEqual(61_000);
    expect(Number(port)).toBeLessThanOrEqual(65_534);
  });

  it.each([1400, 8192, 60_000])("a datagram of %i bytes, and the same back", async (bytes) => {
    expect(await udp(FAR, bytes)).toBe("same");
  });

  it("another node's address is outside, but not its VXLAN port", async () => {
    const nodeB = lan.node[B.name]!;
    const server = await startServer(net, nodeB, python(), ["-c", UDP_SERVER, String(UDP_PORT)], "ready");
    expect(await udp(B.address, 50)).toBe("same");
    expect(server.stdout.trim().split("\n").at(-1)).toMatch(new RegExp(`^50 ${A.address} 6`));
    const before = (await counters()).podVxlan ?? 0;
    expect(await udp(B.address, 50, 64, 4789)).toBe("TimeoutError");
    expect((await counters()).podVxlan).toBe(before + 1);
  });

  it.each([1000, 8192, 60_000])("a Service's answers to %i bytes", async (bytes) => {
    const b1 = lan.pod.b1!;
    const server = await startServer(net, b1, python(), ["-c", UDP_SERVER, String(UDP_PORT)], "ready");
    expect(await udp(CLUSTER_IP, bytes, 64, 80)).toBe("same");
    expect(server.stdout.trim().split("\n").at(-1)).toMatch(new RegExp(`^${bytes} ${A.pods.a1} `));
    // Connected: the node's kernel, which puts the fragments together, must not call the port unreachable.
    const args = [A.address, NODE_PORT, bytes, 64].map(String);
    const { stdout } = await net.exec(lan.host, python(), ["-c", UDP_CLIENT, ...args]);
    expect(stdout.trim()).toBe("same");
    // The endpoint sees the client itself.
    expect(server.stdout.trim().split("\n").at(-1)).toMatch(new RegExp(`^${bytes} ${HOST} `));
    await server.stop();
  });

  it("UDP at a rate, both ways", async () => {
    await startIperf(net, far);
    for (const reverse of [false, true]) {
      const options = { rate: 20e6, length: 1000, seconds: 2, mayLose: 0.01, reverse };
      const sum = await iperfUdp(net, a1, FAR, options);
      expect(sum.packets).toBeGreaterThan(4000);
      expect(sum.lost_packets / sum.packets).toBeLessThanOrEqual(options.mayLose);
    }
  });

  it("ping, large ones too, from two pods at once", async () => {
    await Promise.all([a1, lan.pod.a2!].map((ns) => ping(net, ns, FAR, [56, 1400, 8000], ["-M", "dont"])));
    // The node's own still gets its answers.
    await ping(net, nodeA, FAR);
  });

  it("hops: the node, the router, the host", async () => {
    const hop = async (ttl: number) =>
      (await net.exec(a1, python(), ["-c", HOP, FAR, String(ttl)])).stdout.trim();
    const [address, type, code] = (await hop(1)).split(" ");
    expect([type, code]).toEqual(["11", "0"]);
    expect([A.address, A.tunnel]).toContain(address);
    expect(await hop(2)).toBe(`${HOST} 11 0`);
    expect(await hop(3)).toBe(`${FAR} 3 3`);
    expect(await pingOutput(net, a1, FAR, ["-t", "2"])).toMatch(
      new RegExp(`^From ${HOST} icmp_seq=1 Time to live exceeded$`, "m"),
    );
    expect(await pingOutput(net, a1, "198.51.100.77", ["-W", "10"])).toMatch(/Destination Host Unreachable/);
  });

  it("the MTU of the way is learned", async () => {
    const text = await pingOutput(net, a1, FAR, ["-M", "do", "-s", "1400"]);
    expect(text).toMatch(
      new RegExp(`^From ${HOST} icmp_seq=1 Frag needed and DF set \\(mtu = ${NARROW}\\)$`, "m"),
    );
    const { stdout } = await net.exec(a1, "ip", ["route", "get", FAR]);
    expect(stdout).toContain(`mtu ${NARROW}`);
  });

  it("follows the node's routes", async () => {
    await net.exec(nodeA, "ip", ["addr", "add", "192.168.2.130/24", "dev", "eth0"]);
    await net.exec(nodeA, "ip", ["route", "replace", "198.51.100.0/24", "via", HOST, "src", "192.168.2.130"]);
    const server = await startServer(net, far, python(), ["-c", UDP_SERVER, "7001"], "ready");
    await waitFor(
      async () => {
        await udp(FAR, 20, 64, 7001);
        return server.stdout.trim().endsWith("ready")
          ? false
          : / 192\.168\.2\.130 /.test(server.stdout.split("\n").at(-2)!);
      },
      { deadlineMs: 30_000, what: "the other source address" },
    );
    expect(await udp(FAR, 20, 64, 7001)).toBe("same");
    await net.exec(nodeA, "ip", ["route", "replace", "unreachable", "198.51.100.0/24"]);
    await waitFor(async () => /Net Unreachable/.test(await pingOutput(net, a1, FAR, ["-W", "1"])), {
      deadlineMs: 30_000,
      what: "network unreachable",
    });
    await net.exec(nodeA, "ip", ["route", "del", "unreachable", "198.51.100.0/24"]);
    await waitFor(async () => (await udp(FAR, 20)) === "same", { deadlineMs: 30_000, what: "the way back" });
  });
});
