/**
 * The host's part of Services: what is routed to podwire0 and what is not, how it comes back, that
 * it is repaired, and that cleanup leaves nothing.
 *
 *   pc 192.0.2.10 ── eth0 192.0.2.30 node ── podwire0 ── a stand-in for the dataplane
 *                    eth1 198.51.100.30 ── pc 198.51.100.10
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PODWIRE, startAgent, type TestAgent } from "../support/agent.js";
import { ACK, macBytes, RST, tcpPacket, udpPacket } from "../support/frames.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";
import { type Answer, type Routed, StandIn } from "../support/standIn.js";

const NODE = "192.0.2.30";
const SECOND = "198.51.100.30";
const TUNNEL = "10.1.235.192";
const PC = "192.0.2.10";
const VIP = "192.0.2.36";
/** A port of a listener of the node's own in the NodePort range. */
const OWN = 30500;

/** Sends one datagram, and prints what comes back and from where. Arguments: address, port, source. */
const UDP_CLIENT = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
if sys.argv[3]: s.bind((sys.argv[3], 0))
s.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
data, (address, port) = s.recvfrom(100)
print(data.decode(), address, port)
`;
/** Answers datagrams on the port given from a socket that it has connected to the first sender. */
const UDP_SERVER = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
data, sender = s.recvfrom(100)
s.connect(sender)
while True:
    s.send(b"own " + data)
    data = s.recv(100)
`;
/** Sends two datagrams one after another from one socket, and prints both answers. */
const UDP_TWICE = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((sys.argv[1], int(sys.argv[2])))
for word in (b"one", b"two"):
    s.send(word)
    print(s.recv(100).decode())
`;
/** Prints the automatic source ports of as many sockets as there are in a range of 64. */
const AUTOMATIC_PORTS = `
import socket
sockets = []
while True:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try: s.bind(("", 0))
    except OSError: break
    sockets.append(s)
print(*sorted(s.getsockname()[1] for s in sockets))
`;

const reason = netnsUnavailable();

describe.skipIf(reason !== "")(`the node's routing for Services ${reason}`, () => {
  const net = new TestNet();
  let node: string;
  let pc: string;
  let stateDir: string;
  let before: Record<string, string>;

  const config = {
    node: "k8s-master",
    underlay: { address: NODE },
    podPool: "10.1.0.0/16",
    blocks: ["10.1.235.192/26"],
    serviceHost: { vips: [VIP] },
  };

  /** Everything that an agent changes outside of its own devices. */
  async function state(): Promise<Record<string, string>> {
    const run = async (...args: string[]) => (await net.exec(node, args[0]!, args.slice(1))).stdout;
    const sysctls = await run("sysctl", "-a", "--pattern", "^net.ipv4");
    return {
      // Rules of one preference select different packets: their order says nothing.
      rules: (await run("ip", "-details", "rule")).split("\n").sort().join("\n"),
      routes: await run("ip", "-4", "-details", "route", "show", "table", "all"),
      links: await run("ip", "-brief", "link"),
      sysctls: sysctls
        .split("\n")
        .filter((line) => !/podwire/.test(line))
        .join("\n"),
    };
  }
  const rules = async () => (await net.exec(node, "ip", ["rule"])).stdout;
  const sysctl = async (key: string) => (await net.exec(node, "sysctl", ["-n", key])).stdout.trim();
  const start = async (): Promise<TestAgent> => {
    const agent = startAgent(net, node, config, { stateDir });
    await agent.ready();
    return agent;
  };

  beforeAll(async () => {
    node = await net.netns("node");
    pc = await net.netns("pc");
    stateDir = join(net.directory(), "state");
    await net.link(
      { ns: node, name: "eth0", address: `${NODE}/24` },
      { ns: pc, name: "eth0", address: `${PC}/24` },
    );
    await net.link(
      { ns: node, name: "eth1", address: `${SECOND}/24` },
      { ns: pc, name: "eth1", address: "198.51.100.10/24" },
    );
    await net.exec(pc, "ip", ["route", "add", `${VIP}/32`, "via", NODE]);
    await net.exec(node, "sysctl", ["-qw", "net.ipv4.ip_local_reserved_ports=8080,31000"]);
    // As strict as it gets: replies of podwire0 must pass nevertheless.
    await net.exec(node, "sysctl", ["-qw", "net.ipv4.conf.all.rp_filter=1"]);
    before = await state();
  });
  afterAll(() => net.cleanup());

  describe("while the agent runs", () => {
    let agent: TestAgent;
    let wanted: Record<string, string>;
    beforeAll(async () => {
      agent = await start();
      wanted = await state();
    });
    afterAll(() => agent.stop());

    test("rules, routes and sysctls are as they should be", async () => {
      const captured = (preference: number, address: string, ports: string) =>
        ["tcp", "udp", "sctp"].map(
          (protocol) =>
            `${preference}:\tfrom all to ${address} ipproto ${protocol} dport ${ports} lookup 4789 `,
        );
      expect((await rules()).split("\n").filter((line) => line !== "")).toEqual(
        [
          "40:\tfrom all iif podwire0 lookup local ",
          ...captured(50, NODE, "30000-32767"),
          ...captured(50, "127.0.0.1", "30000-32767"),
          ...captured(60, NODE, "61000-65534"),
          ...captured(60, SECOND, "61000-65534"),
          "100:\tfrom all lookup local ",
          "32766:\tfrom all lookup main ",
          "32767:\tfrom all lookup default ",
        ].map((line) => expect.stringMatching(new RegExp(`^${line.trim().replaceAll(".", "\\.")}`))),
      );
      // systemd-networkd leaves alone what the kernel is said to have made.
      for (const rule of await net.ipJson(node, "rule")) expect(rule.protocol).toBe("kernel");
      for (const [destination, table] of [
        ["10.1.0.0/16", "main"],
        ["10.152.183.0/24", "main"],
        [VIP, "main"],
        ["default", "4789"],
      ])
        expect(
          await net.ipJson(node, "-4", "route", "show", "table", table!, "exact", destination!),
        ).toMatchObject([{ gateway: "169.254.1.1", dev: "podwire0", prefsrc: TUNNEL, protocol: "112" }]);
      expect(await sysctl("net.ipv4.conf.eth0.forwarding")).toBe("1");
      expect(await sysctl("net.ipv4.conf.podwire0.route_localnet")).toBe("1");
      expect(await sysctl("net.ipv4.ip_local_reserved_ports")).toBe("8080,30000-32767,61000-65534");
    });

    test.each([
      [
        "rules",
        ["50", "50", "60", "40"].map((preference) => ["ip", "rule", "del", "preference", preference]),
      ],
      ["a local table in front", [["ip", "rule", "add", "preference", "0", "lookup", "local"]]],
      [
        "routes",
        [
          ["ip", "route", "del", VIP],
          ["ip", "route", "flush", "table", "4789"],
        ],
      ],
      ["forwarding", [["sysctl", "-qw", "net.ipv4.conf.eth0.forwarding=0"]]],
    ])("%s that somebody changed are mended", async (_, commands) => {
      for (const [command, ...args] of commands) await net.exec(node, command!, args);
      await waitFor(
        async () => {
          expect(await state()).toEqual(wanted);
          return true;
        },
        // Without a notification it would be the resync, 30 s after the last.
        { what: "mended", deadlineMs: 30_000 },
      );
    });

    test("its health, and that of a Service, as load balancers ask for it", async () => {
      const check = { namespace: "default", name: "web", port: 20256, localEndpoints: 2 };
      agent.rewrite({ ...config, stateDir, serviceHost: { ...config.serviceHost, healthChecks: [check] } });
      const ask = (url: string) => net.tryExec(pc, "curl", ["-s", "-m", "5", "-w", "\n%{http_code}", url]);
      const { stdout } = await ask(`http://${NODE}:10256/healthz`);
      expect(stdout).toMatch(
        /^\{"lastUpdated": "[^"]+ \+0000 UTC","currentTime": "[^"]+", "nodeEligible": true\}\n200$/,
      );
      await waitFor(async () => (await ask(`http://${NODE}:20256/`)).stdout.endsWith("\n200"));
      // Where NodePorts do not answer, health checks do not either.
      expect((await ask(`http://${SECOND}:20256/`)).code).toBe(7);
      agent.rewrite({ ...config, stateDir });
      await waitFor(async () => (await ask(`http://${NODE}:20256/`)).code === 7);
    });

    test("an address that the node gets is captured, and given up again", async () => {
      await net.exec(node, "ip", ["addr", "add", "192.0.2.31/24", "dev", "eth0"]);
      await waitFor(async () => /to 192\.0\.2\.31 .*dport 61000-65534/.test(await rules()));
      await net.exec(node, "ip", ["addr", "del", "192.0.2.31/24", "dev", "eth0"]);
      await waitFor(async () => !/192\.0\.2\.31/.test(await rules()));
    });

    test("a range that is changed", async () => {
      agent.rewrite({
        ...config,
        stateDir,
        serviceHost: { nodePorts: "30000-30999", localhostNodePorts: false },
      });
      await waitFor(async () => /dport 30000-30999/.test(await rules()));
      await waitFor(async () => !/32767 lookup|127\.0\.0\.1/.test(await rules()));
      expect(await sysctl("net.ipv4.ip_local_reserved_ports")).toBe("8080,30000-31000,61000-65534");
      await waitFor(async () => (await net.ipJson(node, "route", "show", VIP)).length === 0);
      agent.rewrite({ ...config, stateDir });
      await waitFor(async () => JSON.stringify(await state()) === JSON.stringify(wanted));
    });

    test("no Services any more: everything is as before, but podwire0", async () => {
      const { serviceHost: _, ...rest } = config;
      agent.rewrite({ ...rest, stateDir });
      await waitFor(async () => (await rules()).startsWith("0:"));
      await waitFor(async () => (await state()).sysctls === before.sysctls);
      expect((await state()).rules).toBe(before.rules);
      agent.rewrite({ ...config, stateDir });
      await waitFor(async () => JSON.stringify(await state()) === JSON.stringify(wanted));
    });
  });

  describe("what is routed where, with a stand-in for the dataplane", () => {
    let dataplane: StandIn;
    const python = (ns: string, program: string, ...args: (string | number)[]) =>
      net.exec(ns, "python3", ["-c", program, ...args.map(String)]);
    const curl = (ns: string, url: string) =>
      net.tryExec(ns, "curl", ["-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url]);
    /** Services answer: UDP with the data, TCP with a reset. What is no service's goes back. */
    const answer: Answer = ({ protocol, source, destination, sourcePort, destinationPort, packet }) => {
      if (destinationPort === OWN) return "back";
      const ends = {
        source: destination,
        destination: source,
        sourcePort: destinationPort,
        destinationPort: sourcePort,
      };
      if (protocol === "udp") return udpPacket(ends, Buffer.from(`echo ${packet.subarray(28)}`));
      if (protocol !== "tcp") return null;
      const acknowledgement = packet.readUInt32BE(24) + 1;
      return tcpPacket({ ...ends, sequence: 0, acknowledgement, flags: RST | ACK }, Buffer.alloc(0));
    };
    const last = (port: number): Routed | undefined => dataplane.to(port).at(-1);

    beforeAll(async () => {
      // It leaves all of it in place.
      const [link] = await net.ipJson(node, "link", "show", "podwire0");
      dataplane = new StandIn(net.path(node), macBytes(link.address), answer);
      await waitFor(
        async () => (await net.ipJson(node, "link", "show", "podwire0"))[0].flags.includes("LOWER_UP"),
        { what: "podwire0 has its carrier again" },
      );
      for (const port of [OWN, 8022]) {
        net.spawn(node, "python3", ["-m", "http.server", String(port), "--directory", "/proc/self/fdinfo"]);
        await waitFor(async () => (await net.exec(node, "ss", ["-ltnH"])).stdout.includes(`:${port} `));
      }
    });
    afterAll(() => dataplane.close());

    test("UDP from outside to a NodePort, and back", async () => {
      const { stdout } = await python(pc, UDP_CLIENT, NODE, 30080, PC);
      expect(stdout.trim()).toBe(`echo hello ${NODE} 30080`);
      expect(last(30080)).toMatchObject({ protocol: "udp", source: PC, destination: NODE });
    });

    test("TCP from outside to a NodePort, and back", async () => {
      const result = await net.tryExec(pc, "curl", ["-sv", "-m", "5", `http://${NODE}:30081/`]);
      expect(result.stderr).toMatch(/refused/);
      expect(last(30081)).toMatchObject({ protocol: "tcp", source: PC, destination: NODE });
    });

    test("a NodePort answers at the chosen addresses only", async () => {
      const result = await net.tryExec(pc, "curl", ["-sv", "-m", "5", `http://${SECOND}:30082/`]);
      expect(result.stderr).toMatch(/refused/);
      expect(dataplane.to(30082)).toEqual([]);
    });

    test("the node itself to a NodePort at its address, and at 127.0.0.1", async () => {
      for (const [address, port] of [
        [NODE, 30083],
        ["127.0.0.1", 30084],
      ] as const) {
        const { stdout } = await python(node, UDP_CLIENT, address, port, "");
        expect(stdout.trim()).toBe(`echo hello ${address} ${port}`);
        expect(last(port)).toMatchObject({ source: TUNNEL, destination: address });
        const tcp = await net.tryExec(node, "curl", ["-sv", "-m", "5", `http://${address}:${port}/`]);
        expect(tcp.stderr).toMatch(/refused/);
        expect(last(port)).toMatchObject({ protocol: "tcp", source: TUNNEL, destination: address });
      }
    });

    test("the node itself from an address that it chose", async () => {
      for (const [address, port] of [
        [NODE, 30085],
        ["127.0.0.1", 30086],
      ] as const) {
        const { stdout } = await python(node, UDP_CLIENT, address, port, address);
        expect(stdout.trim()).toBe(`echo hello ${address} ${port}`);
        expect(last(port)).toMatchObject({ source: address, destination: address });
      }
    });

    test("a listener of the node's own in the range, from everywhere", async () => {
      const seen = dataplane.to(OWN).length;
      for (const [ns, address] of [
        [pc, NODE],
        [node, NODE],
        [node, "127.0.0.1"],
      ] as const)
        expect((await curl(ns, `http://${address}:${OWN}/`)).stdout).toBe("200");
      expect(dataplane.to(OWN).length).toBeGreaterThan(seen);
      // At another address it is reached directly.
      expect((await curl(pc, `http://${SECOND}:${OWN}/`)).stdout).toBe("200");
    });

    test("the same for a connected UDP socket", async () => {
      const server = net.spawn(node, "python3", ["-c", UDP_SERVER, String(OWN)]);
      await waitFor(() => server.stdout.includes("ready"));
      const { stdout } = await python(pc, UDP_TWICE, NODE, OWN);
      expect(stdout).toBe("own one\nown two\n");
      await server.stop();
    });

    test("ClusterIPs and load-balancer addresses", async () => {
      const cluster = await python(node, UDP_CLIENT, "10.152.183.10", 53, "");
      expect(cluster.stdout.trim()).toBe("echo hello 10.152.183.10 53");
      expect(last(53)).toMatchObject({ source: TUNNEL, destination: "10.152.183.10" });
      for (const [ns, source] of [
        [pc, PC],
        [node, TUNNEL],
      ] as const) {
        const { stdout } = await python(ns, UDP_CLIENT, VIP, 8080, "");
        expect(stdout.trim()).toBe(`echo hello ${VIP} 8080`);
        expect(last(8080)).toMatchObject({ source, destination: VIP });
      }
    });

    test.each([NODE, SECOND])(
      "answers to egress from %s come back, other traffic does not",
      async (address) => {
        const outside = address === NODE ? PC : "198.51.100.10";
        const server = net.spawn(pc, "python3", ["-c", UDP_SERVER, "7000"]);
        await waitFor(() => server.stdout.includes("ready"));
        const ends = { source: address, destination: outside, sourcePort: 61005, destinationPort: 7000 };
        const count = dataplane.to(61005).length;
        dataplane.write(udpPacket(ends, Buffer.from("out")));
        const reply = await waitFor(() => dataplane.to(61005)[count]);
        expect(reply).toMatchObject({ source: outside, sourcePort: 7000, destination: address });
        await server.stop();
      },
    );

    test("the node's own traffic is not touched", async () => {
      const seen = dataplane.seen.length;
      expect((await curl(pc, `http://${NODE}:8022/`)).stdout).toBe("200");
      expect((await curl(node, `http://${NODE}:8022/`)).stdout).toBe("200");
      expect((await curl(node, "http://127.0.0.1:8022/")).stdout).toBe("200");
      await net.exec(pc, "ping", ["-c1", "-W10", NODE]);
      await net.exec(node, "ping", ["-c1", "-W10", PC]);
      expect(dataplane.seen.length).toBe(seen);
    });

    test("the node chooses none of the ports by itself", async () => {
      const range = await sysctl("net.ipv4.ip_local_port_range");
      await net.exec(node, "sysctl", ["-qw", "net.ipv4.ip_local_port_range=60968 61031"]);
      const { stdout } = await python(node, AUTOMATIC_PORTS);
      await net.exec(node, "sysctl", ["-qw", `net.ipv4.ip_local_port_range=${range}`]);
      const ports = stdout.trim().split(" ").map(Number);
      expect(ports).toHaveLength(32);
      expect(ports.at(-1)).toBe(60999);
    });
  });

  test("cleanup after a crash leaves everything as it was", async () => {
    const agent = await start();
    agent.process.kill("SIGKILL");
    await agent.process.exited;
    expect(await rules()).toMatch(/^40:/);
    const { stdout } = await net.exec(node, process.execPath, [PODWIRE, "cleanup", "--state-dir", stateDir]);
    expect(stdout).toMatch(/^restored rule 0: lookup local$/m);
    expect(stdout).toMatch(/^removed podwire0$/m);
    const after = await state();
    for (const [part, text] of Object.entries(before)) expect(after[part], part).toBe(text);
    expect(() => readFileSync(join(stateDir, "state.json"))).toThrow(/ENOENT/);
  });
});
