import { describe, expect, it } from "vitest";
import { examine, type Finding } from "../../../src/doctor/checks.js";
import type { Facts } from "../../../src/doctor/facts.js";
import { parseIptables, parseNft } from "../../../src/doctor/firewall.js";
import { parseSockets } from "../../../src/doctor/sockets.js";
import type { LinkInfo, RouteInfo, RuleInfo } from "../../../src/host/Host.js";
import { parseCidr, parseIpv4 } from "../../../src/model/ipv4.js";

const link = (index: number, name: string, fields: Partial<LinkInfo> = {}): LinkInfo => ({
  index,
  name,
  mac: "02:00:00:00:00:01",
  mtu: 1500,
  txQueueLength: 1000,
  up: true,
  kind: "",
  alias: "",
  ...fields,
});
const route = (destination: string, index: number, fields: Partial<RouteInfo> = {}): RouteInfo => ({
  table: 254,
  destination: parseCidr(destination)!,
  index,
  gateway: null,
  source: null,
  protocol: 4,
  priority: 0,
  ...fields,
});
const rule = (preference: number, table: number, fields: Partial<RuleInfo> = {}): RuleInfo => ({
  preference,
  to: null,
  inputLink: "",
  ipProtocol: 0,
  ports: null,
  table,
  protocol: 2,
  special: false,
  ...fields,
});

/** A worker as Vagrant makes it, with nothing in the way: the LAN is eth1, the way out eth0's NAT. */
const WELL: Facts = {
  wanted: {
    address: "192.168.2.31",
    vxlanPort: 4789,
    apiPort: 0,
    runPods: true,
    podPool: "10.1.0.0/16",
    serviceRange: "10.152.183.0/24",
  },
  kernel: "5.15.0-91-generic",
  missingCapabilities: [],
  tunError: "",
  missingPrograms: {},
  links: [link(1, "lo", { mtu: 65536 }), link(2, "eth0"), link(3, "eth1")],
  addresses: [
    { index: 1, address: parseIpv4("127.0.0.1")!, length: 8 },
    { index: 2, address: parseIpv4("10.0.2.15")!, length: 24 },
    { index: 3, address: parseIpv4("192.168.2.31")!, length: 24 },
  ],
  routes: [
    route("0.0.0.0/0", 2, { gateway: "10.0.2.2", priority: 100 }),
    route("10.0.2.0/24", 2),
    route("192.168.2.0/24", 3),
  ],
  rules: [rule(0, 255), rule(32766, 254), rule(32767, 253)],
  sysctls: { "net/ipv4/ip_local_port_range": "32768\t60999", "net/ipv4/ip_local_reserved_ports": "" },
  sysctlFiles: [],
  listeners: [],
  chains: [],
  cniConfigs: [],
  networkd: { installed: true, running: false, manageForeignRoutes: true, manageForeignRules: true },
  ufw: false,
};

const found = (changes: Partial<Facts>, check: string): Finding[] =>
  examine({ ...WELL, ...changes }).filter((each) => each.check === check);
const only = (changes: Partial<Facts>, check: string): Finding => {
  const findings = found(changes, check);
  expect(findings, JSON.stringify(findings)).toHaveLength(1);
  return findings[0]!;
};

const DOCKER = `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
COMMIT
`;

const KUBE_PROXY = `*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
COMMIT
`;

describe("a machine with nothing in the way", () => {
  it("has no error and no warning, and every check speaks", () => {
    const findings = examine(WELL);
    expect(findings.filter(({ severity }) => severity === "error" || severity === "warning")).toEqual([]);
    for (const check of [
      "kernel",
      "rights",
      "tun",
      "programs",
      "underlay",
      "mtu",
      "ports",
      "sysctls",
      "forward",
    ])
      expect(findings.filter((each) => each.check === check).map(({ severity }) => severity)).toEqual(["ok"]);
  });
});

describe("kernel, rights and programs", () => {
  it.each([
    ["4.19.0-27-amd64", "error"],
    ["5.4.0-100", "warning"],
    ["5.15.0-91-generic", "ok"],
    ["6.18.44", "ok"],
    ["10.0.1", "ok"],
  ])("kernel %s: %s", (kernel, severity) => expect(only({ kernel }, "kernel").severity).toBe(severity));

  it("names the capabilities that lack", () => {
    expect(only({ missingCapabilities: ["CAP_NET_ADMIN"] }, "rights")).toMatchObject({
      severity: "error",
      message: expect.stringContaining("CAP_NET_ADMIN"),
    });
  });

  it.each(["ENOENT", "ENODEV", "EACCES", "EPERM"])("says what to do about %s of /dev/net/tun", (tunError) => {
    const { severity, remedy } = only({ tunError }, "tun");
    expect(severity).toBe("error");
    expect(remedy[0]).not.toBe("");
  });

  it("names packages once, and asks for none where a kubelet runs pods", () => {
    const missingPrograms = { runc: "runc", unshare: "util-linux", nsenter: "util-linux" };
    expect(only({ missingPrograms }, "programs").remedy).toEqual(["apt-get install runc util-linux"]);
    expect(found({ missingPrograms, wanted: { ...WELL.wanted, runPods: false } }, "programs")).toEqual([]);
  });
});

describe("underlay and MTU", () => {
  it("lists what there is where the address is unknown or nobody's", () => {
    const unknown = only({ wanted: { ...WELL.wanted, address: null } }, "underlay");
    expect(unknown).toMatchObject({ severity: "warning" });
    expect(unknown.message).toContain("10.0.2.15 (eth0), 192.168.2.31 (eth1)");
    expect(only({ wanted: { ...WELL.wanted, address: "192.168.2.77" } }, "underlay").severity).toBe("error");
  });

  it("finds a link that is down", () => {
    const links = [WELL.links[0]!, WELL.links[1]!, link(3, "eth1", { up: false })];
    expect(only({ links }, "underlay")).toMatchObject({
      severity: "error",
      remedy: ["ip link set eth1 up"],
    });
  });

  it.each([
    [600, "error"],
    [1300, "warning"],
    [1400, "ok"],
    [9000, "ok"],
  ])("MTU %i: %s", (mtu, severity) => {
    expect(only({ links: [link(3, "eth1", { mtu })] }, "mtu").severity).toBe(severity);
  });
});

describe("ports", () => {
  const listener = { protocol: "udp" as const, address: "0.0.0.0", l4Port: 4789, inode: 7, owner: null };

  it("names who holds one", () => {
    const owner = { pid: 812, command: "/opt/flanneld --ip-masq" };
    const { severity, message } = only({ listeners: [{ ...listener, owner }] }, "ports");
    expect(severity).toBe("error");
    expect(message).toContain("/opt/flanneld --ip-masq (process 812)");
  });

  it("takes a socket of the kernel's for a vxlan device's", () => {
    const links = [...WELL.links, link(9, "vxlan.calico", { kind: "vxlan" })];
    const { message, remedy } = only({ listeners: [listener], links }, "ports");
    expect(message).toContain("the kernel's vxlan device vxlan.calico");
    expect(remedy[0]).toBe("ip link delete vxlan.calico");
  });

  it("does not mind our own, other addresses', and an API server's where there is none", () => {
    const owner = {
      pid: 9,
      command: "/usr/bin/node /usr/lib/node_modules/podwire/dist/cli/main.js agent --node a",
    };
    const api = { protocol: "tcp" as const, address: "0.0.0.0", l4Port: 6443, inode: 8, owner: null };
    const listeners = [{ ...listener, owner }, { ...listener, address: "10.0.2.15" }, api];
    expect(only({ listeners }, "ports").severity).toBe("ok");
    expect(only({ listeners, wanted: { ...WELL.wanted, apiPort: 6443 } }, "ports").message).toContain("6443");
  });

  const tcp = (l4Port: number, address: string) => ({
    ...listener,
    protocol: "tcp" as const,
    l4Port,
    address,
    owner: { pid: 5, command: "/usr/bin/prometheus" },
  });

  it.each([
    [3784, "udp", "error", "BFD"],
    [10250, "tcp", "error", "logs"],
    [9475, "tcp", "warning", "the agent's metrics"],
    [9476, "tcp", "warning", "the API server's metrics"],
    [9477, "tcp", "warning", "podwire ui"],
  ] as const)("%i (%s) in other hands: %s", (l4Port, protocol, severity, purpose) => {
    const wanted = { ...WELL.wanted, apiPort: 6443 };
    const finding = only({ wanted, listeners: [{ ...tcp(l4Port, "0.0.0.0"), protocol }] }, "ports");
    expect(finding.severity).toBe(severity);
    expect(finding.message).toContain(purpose);
    expect(finding.message).toContain("/usr/bin/prometheus (process 5)");
  });

  it("looks on loopback for what is served there alone, and on a master for the API server's", () => {
    const master = { ...WELL.wanted, apiPort: 6443 };
    expect(only({ listeners: [tcp(9475, "192.168.2.31"), tcp(9477, "10.0.2.15")] }, "ports").severity).toBe(
      "ok",
    );
    expect(only({ listeners: [tcp(9475, "127.0.0.1")] }, "ports").message).toContain("9475");
    expect(only({ listeners: [tcp(10250, "127.0.0.1")] }, "ports").severity).toBe("ok");
    expect(only({ listeners: [tcp(9476, "127.0.0.1")] }, "ports").severity).toBe("ok");
    expect(only({ wanted: master, listeners: [tcp(9476, "127.0.0.1")] }, "ports").message).toContain("9476");
    const ui = { pid: 6, command: "/usr/bin/node /opt/podwire/dist/cli/main.js lab ui" };
    expect(only({ listeners: [{ ...tcp(9477, "127.0.0.1"), owner: ui }] }, "ports").severity).toBe("ok");
  });
});

describe("packet filters", () => {
  it("finds Docker's policy, and is content when podwire0 is let through", () => {
    const dropping = only({ chains: parseIptables(DOCKER, "iptables") }, "forward");
    expect(dropping).toMatchObject({ severity: "error" });
    expect(dropping.message).toContain("as Docker sets it");
    expect(dropping.remedy[0]).toContain("iptables -I DOCKER-USER -i podwire0 -j ACCEPT");
    const half = DOCKER.replace("-A DOCKER-USER", "-A DOCKER-USER -i podwire0 -j ACCEPT\n-A DOCKER-USER");
    expect(only({ chains: parseIptables(half, "iptables") }, "forward").severity).toBe("error");
    const both = half.replace("-A DOCKER-USER", "-A DOCKER-USER -o podwire0 -j ACCEPT\n-A DOCKER-USER");
    expect(only({ chains: parseIptables(both, "iptables") }, "forward").severity).toBe("ok");
  });

  it("finds nftables' policy, and is content when podwire0 is let through", () => {
    const chain = { family: "inet", table: "filter", name: "forward", hook: "forward", policy: "drop" };
    const accept = (key: string) => ({
      rule: {
        family: "inet",
        table: "filter",
        chain: "forward",
        expr: [{ match: { op: "==", left: { meta: { key } }, right: "podwire0" } }, { accept: null }],
      },
    });
    const chains = (...rules: object[]) =>
      parseNft(JSON.stringify({ nftables: [{ chain }, ...rules] }), false);
    expect(only({ chains: chains() }, "forward").remedy).toEqual([
      "nft insert rule inet filter forward iifname podwire0 accept",
      "nft insert rule inet filter forward oifname podwire0 accept",
    ]);
    expect(only({ chains: chains(accept("iifname")) }, "forward").severity).toBe("error");
    expect(only({ chains: chains(accept("iifname"), accept("oifname")) }, "forward").severity).toBe("ok");
  });

  it("counts iptables' tables once", () => {
    const nftables = [
      { chain: { family: "ip", table: "filter", name: "FORWARD", hook: "forward", policy: "drop" } },
    ];
    const text = JSON.stringify({ nftables });
    expect(parseNft(text, true)).toEqual([]);
    expect(parseNft(text, false)).toHaveLength(1);
  });

  it("says that it does not know", () => {
    expect(only({ chains: null }, "forward").severity).toBe("warning");
    expect(found({ chains: null }, "kube-proxy")).toEqual([]);
  });

  it("finds kube-proxy of each kind", () => {
    expect(only({ chains: parseIptables(KUBE_PROXY, "iptables") }, "kube-proxy")).toMatchObject({
      severity: "error",
      remedy: expect.arrayContaining(["iptables-save | grep -v KUBE- | iptables-restore"]),
    });
    const nft = { nftables: [{ chain: { family: "ip", table: "kube-proxy", name: "services" } }] };
    expect(only({ chains: parseNft(JSON.stringify(nft), true) }, "kube-proxy").remedy[1]).toContain(
      "nft delete table ip kube-proxy",
    );
    expect(only({ links: [...WELL.links, link(5, "kube-ipvs0")] }, "kube-proxy").message).toContain("IPVS");
  });

  it("names ufw's commands with the node's link", () => {
    expect(only({ ufw: true }, "input").remedy[0]).toBe(
      "ufw allow in on eth1 proto udp to any port 4789,3784",
    );
  });

  it("finds an input policy that drops VXLAN, unless a rule lets it in", () => {
    const closed = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n";
    expect(only({ chains: parseIptables(closed, "iptables") }, "input").severity).toBe("warning");
    const open = closed.replace("COMMIT", "-A INPUT -p udp --dport 4789 -j ACCEPT\nCOMMIT");
    expect(only({ chains: parseIptables(open, "iptables") }, "input").severity).toBe("ok");
  });

  it("suggests a filter of the underlay, unless there is one", () => {
    const { severity, remedy } = only({}, "trust");
    expect(severity).toBe("advice");
    expect(remedy.at(-1)).toContain("ip saddr != 192.168.2.0/24 drop");
    const own =
      "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT ! -s 192.168.2.0/24 -p udp --dport 4789 -j DROP\nCOMMIT\n";
    expect(only({ chains: parseIptables(own, "iptables") }, "trust").severity).toBe("ok");
  });
});

describe("other networks", () => {
  it.each([
    ["flannel.1", "flannel"],
    ["cali1a2b3c4d5e6", "Calico"],
    ["cilium_host", "Cilium"],
  ])("finds %s of %s", (name, owner) => {
    expect(only({ links: [...WELL.links, link(8, name)] }, "other networks").message).toContain(owner);
  });

  it("does not mind a tunl0 that is down", () => {
    const links = [...WELL.links, link(8, "tunl0", { up: false })];
    expect(only({ links }, "other networks").severity).toBe("ok");
  });

  it("finds CNI files, chains and routes in our ranges, but not our own", () => {
    expect(only({ cniConfigs: ["10-calico.conflist"] }, "other networks").message).toContain(
      "10-calico.conflist",
    );
    const chains = parseIptables("*filter\n:cali-FORWARD - [0:0]\nCOMMIT\n", "iptables");
    expect(only({ chains }, "other networks").message).toContain("cali-FORWARD");
    const routes = [...WELL.routes, route("10.1.3.0/24", 2)];
    expect(only({ routes }, "other networks")).toMatchObject({ severity: "error" });
    const own = {
      links: [...WELL.links, link(8, "podwire0")],
      routes: [...WELL.routes, route("10.1.0.0/16", 8)],
    };
    expect(only(own, "other networks").severity).toBe("ok");
  });
});

describe("the machine's own routing", () => {
  it("finds what systemd-networkd would remove, while it runs", () => {
    const running = { ...WELL.networkd, running: true };
    const { severity, remedy } = only({ networkd: running }, "networkd");
    expect(severity).toBe("warning");
    expect(remedy[0]).toContain("ManageForeignRoutes=no\\nManageForeignRoutingPolicyRules=no");
    const told = { ...running, manageForeignRoutes: false, manageForeignRules: false };
    expect(only({ networkd: told }, "networkd").severity).toBe("ok");
  });

  it("says that a default route by another link than the LAN's is not the node's address", () => {
    expect(only({}, "routing")).toMatchObject({ severity: "advice" });
    const routes = [route("0.0.0.0/0", 3, { gateway: "192.168.2.1" })];
    expect(only({ routes }, "routing").severity).toBe("ok");
  });

  it("finds two default routes of one metric, and not two of different ones", () => {
    const second = (priority: number) => [
      route("0.0.0.0/0", 3, { gateway: "192.168.2.1", priority }),
      route("0.0.0.0/0", 2, { gateway: "10.0.2.2", priority: 100 }),
    ];
    expect(only({ routes: second(100) }, "routing").severity).toBe("warning");
    expect(only({ routes: second(50) }, "routing").severity).toBe("ok");
  });

  it("finds policy rules of others, but not ours and the kernel's", () => {
    const routes = [route("0.0.0.0/0", 3)];
    const ours = [rule(40, 255, { inputLink: "podwire0" }), rule(50, 4789), rule(100, 255), rule(32766, 254)];
    expect(only({ routes, rules: ours }, "routing").severity).toBe("ok");
    expect(only({ routes, rules: [...ours, rule(220, 220)] }, "routing").message).toContain("220");
  });

  it("finds a file that turns forwarding off", () => {
    const sysctlFiles = [{ file: "/etc/sysctl.d/99-hard.conf", key: "net/ipv4/ip_forward", value: "0" }];
    expect(only({ sysctlFiles }, "sysctls").message).toContain("/etc/sysctl.d/99-hard.conf");
  });

  it("speaks of ephemeral ports that reach into NodePorts", () => {
    const sysctls = { ...WELL.sysctls, "net/ipv4/ip_local_port_range": "1024\t65535" };
    expect(only({ sysctls }, "sysctls").severity).toBe("advice");
  });
});

describe("sockets", () => {
  const HEAD =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

  it("are read from proc's tables", () => {
    const tcp = `${HEAD}
   0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1234 1 0
   1: 1F02A8C0:192B 1E02A8C0:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1235 1 0
`;
    expect(parseSockets(tcp, "tcp")).toEqual([
      { protocol: "tcp", address: "127.0.0.1", l4Port: 25, inode: 1234 },
    ]);
    const udp6 = `${HEAD}
   0: 00000000000000000000000000000000:12B5 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0
`;
    expect(parseSockets(udp6, "udp")).toEqual([
      { protocol: "udp", address: "0.0.0.0", l4Port: 4789, inode: 0 },
    ]);
  });
});
