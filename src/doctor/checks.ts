/**
 * The checks, in the order in which they are printed: each takes the facts and gives findings. Pure.
 * An error is what keeps podwire from starting or from carrying something.
 */
import { NODE_DEVICE } from "../desired/host.js";
import { SERVICE_TABLE } from "../desired/routing.js";
import type { LinkInfo, RouteInfo } from "../host/Host.js";
import { RT_TABLE_MAIN } from "../host/Host.js";
import {
  containsAddress,
  formatCidr,
  formatIpv4,
  networkOf,
  overlaps,
  parseCidr,
  parseIpv4,
} from "../model/ipv4.js";
import { POD_PORT } from "../model/podPort.js";
import type { Facts, Wanted } from "./facts.js";
import { type Chain, seesIpv4 } from "./firewall.js";
import type { Listener } from "./sockets.js";

export type Severity = "ok" | "advice" | "warning" | "error";

export interface Finding {
  /** Name of the check. */
  check: string;
  severity: Severity;
  message: string;
  /** What to do: sentences, or commands to type. Empty where nothing is. */
  remedy: string[];
}

const HEALTHZ_PORT = 10256;
const BFD_PORT = 3784;
const METRICS_PORT = 9475;
const CLUSTER_METRICS_PORT = 9476;
const PAGE_PORT = 9477;
const LOOPBACK_ADDRESS = "127.0.0.1";
/** VXLAN, UDP, IPv4 and the inner Ethernet header. */
const VXLAN_OVERHEAD = 50;
/** What an IPv4 host must be able to take, and the overhead. */
const LEAST_MTU = 576 + VXLAN_OVERHEAD;
/** Pods below this cannot have IPv6 one day, and many paths assume it. */
const FAIR_MTU = 1280 + VXLAN_OVERHEAD;

type Check = (facts: Facts) => Omit<Finding, "check">[];

/** Runs every check; one that found nothing wrong gives a finding that says what is fine. */
export function examine(facts: Facts): Finding[] {
  return Object.entries(CHECKS).flatMap(([check, run]) => run(facts).map((found) => ({ check, ...found })));
}

const ok = (message: string) => [{ severity: "ok" as const, message, remedy: [] }];
const error = (message: string, ...remedy: string[]) => ({ severity: "error" as const, message, remedy });
const warning = (message: string, ...remedy: string[]) => ({ severity: "warning" as const, message, remedy });
const advice = (message: string, ...remedy: string[]) => ({ severity: "advice" as const, message, remedy });

const kernel: Check = ({ kernel: release }) => {
  const [major = 0, minor = 0] = release.split(".").map((part) => Number.parseInt(part, 10));
  const atLeast = (a: number, b: number) => major > a || (major === a && minor >= b);
  // UDP_GRO (5.0) is the newest thing that there is no way around.
  if (!atLeast(5, 0))
    return [
      error(
        `kernel ${release} is too old: podwire needs 5.0 (UDP_GRO)`,
        "Install a newer kernel, on Ubuntu e.g. apt-get install linux-generic-hwe-22.04",
      ),
    ];
  if (!atLeast(5, 15))
    return [
      warning(`kernel ${release}: podwire is made for 5.15 and newer`, "Expect surprises, or update it."),
    ];
  const extras = [
    `UDP segmentation on TAP devices ${atLeast(6, 2) ? "yes" : "no (6.2)"}`,
    `tunnel GSO ${atLeast(6, 17) ? "yes" : "no (6.17)"}`,
  ];
  return ok(`kernel ${release}; ${extras.join(", ")}`);
};

const rights: Check = ({ missingCapabilities }) =>
  missingCapabilities.length === 0
    ? ok("the rights an agent needs")
    : [error(`this process lacks ${missingCapabilities.join(" and ")}`, "Run as root: sudo podwire doctor")];

const tun: Check = ({ tunError }) => {
  if (tunError === "") return ok("/dev/net/tun opens");
  const remedies: Record<string, string> = {
    ENOENT: "modprobe tun; in a container also: mkdir -p /dev/net && mknod /dev/net/tun c 10 200",
    ENODEV: "modprobe tun, or a kernel with CONFIG_TUN",
    EACCES: "Run as root",
    EPERM: "In a container: allow the device (c 10:200 rw) and CAP_NET_ADMIN",
  };
  return [error(`/dev/net/tun does not open: ${tunError}`, remedies[tunError] ?? "modprobe tun")];
};

const programs: Check = ({ wanted, missingPrograms }) => {
  if (!wanted.runPods) return [];
  const names = Object.keys(missingPrograms);
  if (names.length === 0) return ok("the programs that run pods");
  const packages = [...new Set(Object.values(missingPrograms))].join(" ");
  return [error(`running pods needs ${names.join(", ")}`, `apt-get install ${packages}`)];
};

const underlay: Check = (facts) => {
  const { wanted, addresses } = facts;
  if (wanted.address === null)
    return [
      warning(
        `the node's address on the LAN is not known; this machine has ${lanAddresses(facts).join(", ") || "none"}`,
        "podwire doctor --address IP looks at the rest, too",
      ),
    ];
  const link = underlayLink(facts);
  if (link === null)
    return [
      error(
        `no interface has ${wanted.address}; there are ${lanAddresses(facts).join(", ") || "none"}`,
        "Name the address at which the other nodes reach this one: podwire install --address IP",
      ),
    ];
  if (!link.up)
    return [error(`${link.name}, which has ${wanted.address}, is down`, `ip link set ${link.name} up`)];
  const length = addresses.find(({ index }) => index === link.index)?.length ?? 32;
  return ok(`${link.name} has ${wanted.address}/${length}`);
};

const mtu: Check = (facts) => {
  const link = underlayLink(facts);
  if (link === null) return [];
  const inner = link.mtu - VXLAN_OVERHEAD;
  if (link.mtu < LEAST_MTU)
    return [
      error(
        `${link.name} has an MTU of ${link.mtu}; VXLAN needs at least ${LEAST_MTU}`,
        `ip link set ${link.name} mtu 1500`,
      ),
    ];
  if (link.mtu < FAIR_MTU)
    return [
      warning(
        `${link.name} has an MTU of ${link.mtu}: pods get ${inner}, less than the 1280 that many paths take for granted`,
        `ip link set ${link.name} mtu 1500, if the LAN carries that`,
      ),
    ];
  return ok(`${link.name} has an MTU of ${link.mtu}: pods get ${inner}. All nodes should say the same`);
};

/** A port that podwire listens on. */
interface NeededPort {
  protocol: Listener["protocol"];
  l4Port: number;
  purpose: string;
  /** How to have another one; "" where there is no choice. */
  choice: string;
  /** Where it listens: on the LAN, or for this machine alone. */
  on: "lan" | "loopback";
  /** Whether the node works without: only what the port is for is missing. */
  optional: boolean;
}

/** What listens here: an agent, on a master also the API server, and the page for whoever starts it. */
function neededPorts({ vxlanPort, runPods, apiPort }: Wanted): NeededPort[] {
  const lan = { on: "lan", optional: false } as const;
  const loopback = { protocol: "tcp", on: "loopback", optional: true } as const;
  const vxlan = "Choose another port on all nodes: --vxlan-port";
  const healthz = "Serve it elsewhere: --healthz-bind-address";
  const ports: NeededPort[] = [
    { protocol: "udp", l4Port: vxlanPort, purpose: "VXLAN", choice: vxlan, ...lan },
    { protocol: "udp", l4Port: BFD_PORT, purpose: "BFD between nodes", choice: "", ...lan },
    { protocol: "tcp", l4Port: HEALTHZ_PORT, purpose: "/healthz", choice: healthz, ...lan },
  ];
  if (runPods) {
    const choice = "Choose another: --pod-port";
    ports.push({ protocol: "tcp", l4Port: POD_PORT, purpose: "pods' logs and commands", choice, ...lan });
  }
  if (apiPort !== 0) {
    const choice = "Choose another: podwire install --api-port";
    ports.push({ protocol: "tcp", l4Port: apiPort, purpose: "the API server", choice, ...lan });
  }
  const metrics = "Serve them elsewhere: --metrics 127.0.0.1:PORT";
  ports.push({ l4Port: METRICS_PORT, purpose: "the agent's metrics", choice: metrics, ...loopback });
  if (apiPort !== 0) {
    const purpose = "the API server's metrics";
    ports.push({ l4Port: CLUSTER_METRICS_PORT, purpose, choice: metrics, ...loopback });
  }
  const page = "Serve it elsewhere: podwire ui --port PORT";
  ports.push({ l4Port: PAGE_PORT, purpose: "the page of podwire ui", choice: page, ...loopback });
  return ports;
}

/** Whether a socket keeps ours from its port. */
function holds(listener: Listener, { protocol, l4Port, on }: NeededPort, { address }: Wanted): boolean {
  if (listener.protocol !== protocol || listener.l4Port !== l4Port || isOurs(listener)) return false;
  if (listener.address === "0.0.0.0") return true;
  if (on === "loopback") return listener.address === LOOPBACK_ADDRESS;
  return address === null || listener.address === address;
}

const ports: Check = ({ wanted, links, listeners }) => {
  const vxlan = links.filter(({ kind }) => kind === "vxlan").map(({ name }) => name);
  const needed = neededPorts(wanted);
  const taken = needed.flatMap((port) => {
    const holder = listeners.find((listener) => holds(listener, port, wanted));
    if (holder === undefined) return [];
    const { protocol, l4Port, purpose, choice, optional } = port;
    const kernels = holder.owner === null && protocol === "udp" && vxlan.length > 0;
    const who = kernels
      ? `the kernel's vxlan device ${vxlan.join(", ")}`
      : holder.owner !== null
        ? `${holder.owner.command} (process ${holder.owner.pid})`
        : "a process that cannot be seen from here";
    const free = kernels ? `ip link delete ${vxlan[0]}` : "Stop it, or move it.";
    const found = optional ? warning : error;
    return [
      found(
        `${protocol} port ${l4Port} (${purpose}) is taken by ${who}`,
        free,
        ...(choice === "" ? [] : [choice]),
      ),
    ];
  });
  return taken.length > 0
    ? taken
    : ok(`ports ${needed.map(({ protocol, l4Port }) => `${protocol} ${l4Port}`).join(", ")}`);
};

const sysctls: Check = (facts) => {
  const found = [];
  const off = facts.sysctlFiles.filter(
    ({ key, value }) =>
      /^net\/ipv4\/(ip_forward|conf\/(all|default)\/forwarding)$/.test(key) && value === "0",
  );
  for (const { file, key } of off)
    found.push(
      warning(
        `${file} turns forwarding off (${key.replaceAll("/", ".")}=0): NodePorts and pods' way out need it. The agent turns it on for its links, and this file turns it off whenever it is applied`,
        `Take the line out of ${file}`,
      ),
    );
  const reserved = facts.sysctls["net/ipv4/ip_local_reserved_ports"] ?? "";
  const [first = 0, last = 0] = (facts.sysctls["net/ipv4/ip_local_port_range"] ?? "")
    .split(/\s+/)
    .map(Number);
  if (reserved === "" && first < 30_000 && last > 30_000)
    found.push(
      advice(
        `this machine's own connections may begin at ports from ${first} on (net.ipv4.ip_local_port_range): the agent keeps NodePorts out of that from its start on. A connection that is older keeps its port`,
        "Restart what has long-lived connections from ports 30000-32767 after the first start of the agent",
      ),
    );
  return found.length > 0 ? found : ok("sysctls");
};

const KUBE_PROXY = /^KUBE-(SERVICES|NODEPORTS|SVC-|SEP-)/;

const kubeProxy: Check = ({ chains, links }) => {
  const found = [];
  const ours = (chains ?? []).filter(
    ({ family, table, name }) => KUBE_PROXY.test(name) || (family !== "ip6" && table === "kube-proxy"),
  );
  if (ours.length > 0) {
    const [{ program, table }] = ours as [Chain];
    found.push(
      error(
        `kube-proxy's rules are here (${program}, table ${table}, ${ours.length} chains): they translate ClusterIPs and NodePorts before podwire sees them`,
        "Take kube-proxy out of the cluster (kubectl -n kube-system delete ds kube-proxy; k3s: --disable-kube-proxy), then on each node:",
        table === "kube-proxy"
          ? "nft delete table ip kube-proxy; nft delete table ip6 kube-proxy"
          : `${program}-save | grep -v KUBE- | ${program}-restore`,
      ),
    );
  }
  if (links.some(({ name }) => name === "kube-ipvs0"))
    found.push(
      error(
        "kube-proxy in its IPVS mode is here (device kube-ipvs0): this machine takes ClusterIPs for its own addresses",
        "Take kube-proxy out of the cluster, then on each node: kube-proxy --cleanup, or ipvsadm -C; ip link delete kube-ipvs0",
      ),
    );
  return found.length > 0 || chains === null ? found : ok("no rules of kube-proxy");
};

/** Devices of other pod networks, and whose they are. */
const CNI_LINKS: readonly [RegExp, string][] = [
  [/^flannel/, "flannel"],
  [/^cni0$/, "the CNI bridge plugin"],
  [/^(vxlan\.calico|tunl0$|cali[0-9a-f]{11}$)/, "Calico"],
  [/^cilium_/, "Cilium"],
  [/^(weave|vethwe-)/, "Weave"],
  [/^(antrea-|ovn-k8s)/, "an Open vSwitch network"],
];
const CNI_CHAINS = /^(cali-|FLANNEL-|CILIUM_|WEAVE-|CNI-)/;

const otherNetworks: Check = ({ wanted, chains, links, routes, cniConfigs }) => {
  const found = [];
  for (const [pattern, owner] of CNI_LINKS) {
    // Calico's module makes a tunl0 that is down wherever it is loaded.
    const names = links.filter(({ name, up }) => pattern.test(name) && up).map(({ name }) => name);
    if (names.length === 0) continue;
    found.push(
      warning(
        `devices of ${owner} are here: ${names.slice(0, 3).join(", ")}${names.length > 3 ? ", …" : ""}`,
        `Take ${owner} out of the cluster and restart the node, or ip link delete each of them`,
      ),
    );
  }
  const names = [
    ...new Set((chains ?? []).filter(({ name }) => CNI_CHAINS.test(name)).map(({ name }) => name)),
  ];
  if (names.length > 0)
    found.push(
      warning(
        `rules of another pod network are here (chains ${names.slice(0, 3).join(", ")}${names.length > 3 ? ", …" : ""}): they may drop or masquerade what podwire carries`,
        "Remove them with the network they belong to; a restart of the node clears them",
      ),
    );
  const others = cniConfigs.filter((name) => !/podwire/.test(name));
  if (others.length > 0)
    found.push(
      warning(
        `/etc/cni/net.d has ${others.join(", ")}: a kubelet takes the first file by name`,
        `mv /etc/cni/net.d/${others[0]} /root/`,
      ),
    );
  for (const [text, what] of [
    [wanted.podPool, "pods' addresses"],
    [wanted.serviceRange, "ClusterIPs"],
  ] as const) {
    const range = parseCidr(text);
    if (range === null) continue;
    const taken = routes.filter(
      ({ table, destination, index }) =>
        table === RT_TABLE_MAIN &&
        destination.length > 0 &&
        overlaps(destination, range) &&
        !links.some((link) => link.index === index && link.name === NODE_DEVICE),
    );
    for (const route of taken)
      found.push(
        error(
          `${text} (${what}) overlaps with a route of this machine: ${routeText(route, links)}`,
          "Choose another range for the cluster, or remove that route",
        ),
      );
  }
  return found.length > 0 ? found : ok("no other pod network");
};

const FORWARD_REMEDY = [
  `iptables -I DOCKER-USER -i ${NODE_DEVICE} -j ACCEPT; iptables -I DOCKER-USER -o ${NODE_DEVICE} -j ACCEPT`,
];

const forward: Check = ({ chains }) => {
  if (chains === null)
    return [
      warning(
        "packet filters could not be read: kube-proxy's rules and Docker's policy may be there",
        "Run as root, with nft (package nftables) or iptables-save (package iptables) in PATH",
      ),
    ];
  const dropping = chains.filter(
    (chain) =>
      chain.hook === "forward" && chain.policy === "drop" && seesIpv4(chain) && !letsForward(chain, chains),
  );
  if (dropping.length === 0) return ok("nothing drops what is forwarded");
  return dropping.map((chain) => {
    const docker = chains.some(({ program, name }) => program === chain.program && name === "DOCKER-USER");
    const because = docker ? ", as Docker sets it" : "";
    const what = `${chain.program}: chain ${chain.name} of table ${chain.table} drops what is forwarded${because}: NodePorts, load-balancer addresses and pods' way out go from a link to ${NODE_DEVICE} and back`;
    if (docker)
      return error(
        what,
        ...FORWARD_REMEDY,
        'Docker keeps DOCKER-USER; make it last by a unit of your own, or set "ip-forward-no-drop": true in /etc/docker/daemon.json (Docker 28)',
      );
    return error(what, ...acceptCommands(chain));
  });
};

const input: Check = (facts) => {
  const { chains, wanted, ufw } = facts;
  const link = underlayLink(facts)?.name ?? "LINK";
  const found = [];
  const tcp = [POD_PORT, ...(wanted.apiPort === 0 ? [] : [wanted.apiPort])];
  if (ufw)
    found.push(
      error(
        "ufw is on: it drops what the other nodes send, and what is forwarded",
        `ufw allow in on ${link} proto udp to any port ${wanted.vxlanPort},${BFD_PORT}`,
        `ufw allow in on ${link} proto tcp to any port ${tcp.join(",")}`,
        `ufw allow in on ${NODE_DEVICE}`,
        `ufw route allow in on ${NODE_DEVICE}; ufw route allow out on ${NODE_DEVICE}`,
      ),
    );
  for (const chain of chains ?? []) {
    if (chain.hook !== "input" || chain.policy !== "drop" || !seesIpv4(chain) || ufw) continue;
    const open = chain.rules.some(
      (rule) => new RegExp(`\\b${wanted.vxlanPort}\\b`).test(rule) && accepts(rule),
    );
    if (open) continue;
    found.push(
      warning(
        `${chain.program}: chain ${chain.name} of table ${chain.table} drops what no rule accepts, and none speaks of UDP ${wanted.vxlanPort}`,
        chain.program === "nft"
          ? `nft insert rule ${chain.family} ${chain.table} ${chain.name} iifname ${link} udp dport { ${wanted.vxlanPort}, ${BFD_PORT} } accept`
          : `${chain.program} -I ${chain.name} -i ${link} -p udp -m multiport --dports ${wanted.vxlanPort},${BFD_PORT} -j ACCEPT`,
        `And TCP ${tcp.join(" and ")} from the other nodes`,
      ),
    );
  }
  return found.length > 0 || chains === null ? found : ok("no firewall in the way of the other nodes");
};

const networkd: Check = ({ networkd: state }) => {
  if (!state.running) return ok(state.installed ? "systemd-networkd does not run" : "no systemd-networkd");
  const managed = [
    ...(state.manageForeignRoutes ? ["ManageForeignRoutes"] : []),
    ...(state.manageForeignRules ? ["ManageForeignRoutingPolicyRules"] : []),
  ];
  if (managed.length === 0) return ok("systemd-networkd leaves routes and rules of others alone");
  return [
    warning(
      `systemd-networkd removes routes and rules that are not its own when it configures a link again (${managed.join(", ")})`,
      `mkdir -p /etc/systemd/networkd.conf.d; printf '[Network]\\n${managed.map((key) => `${key}=no`).join("\\n")}\\n' > /etc/systemd/networkd.conf.d/podwire.conf (podwire install does that)`,
      "systemctl restart systemd-networkd",
    ),
  ];
};

const routing: Check = (facts) => {
  const { routes, rules, links, wanted } = facts;
  const found = [];
  const defaults = routes.filter(
    ({ table, destination }) => table === RT_TABLE_MAIN && destination.length === 0,
  );
  const least = Math.min(...defaults.map(({ priority }) => priority));
  const first = defaults.filter(({ priority }) => priority === least);
  const link = underlayLink(facts);
  if (first.length > 1)
    found.push(
      warning(
        `${first.length} default routes have the same metric (${first.map((route) => routeText(route, links)).join("; ")}): which one pods leave by is chance`,
        "Give all but one a higher metric",
      ),
    );
  else if (first.length === 1 && link !== null && first[0]!.index !== link.index) {
    found.push(
      advice(
        `the default route does not lead by ${link.name}, the node's LAN, but ${routeText(first[0]!, links)}, as with a NAT interface of a virtual machine. Pods leave by it; the node's address is ${wanted.address}, and has to be said (--address)`,
      ),
    );
  }
  const foreign = rules.filter(
    ({ preference, table, special, inputLink }) =>
      ![0, 100, 32766, 32767].includes(preference) &&
      table !== SERVICE_TABLE &&
      inputLink !== NODE_DEVICE &&
      (special || table !== 0),
  );
  if (foreign.length > 0)
    found.push(
      warning(
        `policy rules of others are here (preference ${[...new Set(foreign.map(({ preference }) => preference))].join(", ")}): podwire's own, at 40 to 100, go before them, and pods' way out follows the main table only`,
        "ip rule shows them. If a VPN or a second uplink needs them for pods too, that will not work",
      ),
    );
  return found.length > 0 ? found : ok("one way out");
};

const trust: Check = (facts) => {
  const { chains, wanted, addresses } = facts;
  const link = underlayLink(facts);
  if (chains === null || link === null || wanted.address === null) return [];
  const guarded = chains.some(
    ({ hook, name, rules }) =>
      (hook === "input" || hook === "prerouting" || /input|podwire/i.test(name)) &&
      rules.some((rule) => new RegExp(`\\b${wanted.vxlanPort}\\b`).test(rule) && /drop/i.test(rule)),
  );
  if (guarded) return ok("VXLAN is filtered by source");
  const lan = addresses.find(
    ({ index, address }) => index === link.index && address === parseIpv4(wanted.address!),
  );
  const prefix = lan === undefined ? wanted.address : formatCidr(networkOf(lan));
  return [
    advice(
      `whoever can send to UDP ${wanted.vxlanPort} of this machine with a node's address as source can speak as a pod, as with every VXLAN. Let in what comes from the nodes' LAN by ${link.name} only`,
      "nft add table inet podwire_underlay",
      "nft add chain inet podwire_underlay input '{ type filter hook input priority -10; }'",
      `nft add rule inet podwire_underlay input udp dport '{ ${wanted.vxlanPort}, ${BFD_PORT} }' iifname != ${link.name} drop`,
      `nft add rule inet podwire_underlay input udp dport '{ ${wanted.vxlanPort}, ${BFD_PORT} }' ip saddr != ${prefix} drop`,
    ),
  ];
};

/** By name, in the order of printing. */
const CHECKS: Record<string, Check> = {
  kernel,
  rights,
  tun,
  programs,
  underlay,
  mtu,
  ports,
  sysctls,
  "kube-proxy": kubeProxy,
  "other networks": otherNetworks,
  forward,
  input,
  networkd,
  routing,
  trust,
};

// ---- helpers ----------------------------------------------------------------------------------

function underlayLink({ wanted, addresses, links }: Facts): LinkInfo | null {
  if (wanted.address === null) return null;
  const wantedAddress = parseIpv4(wanted.address);
  const found = addresses.find(({ address }) => address === wantedAddress);
  return links.find(({ index }) => index === found?.index) ?? null;
}

const LOOPBACK = parseCidr("127.0.0.0/8")!;

/** Addresses that a node could be reached at, with their links. */
function lanAddresses({ addresses, links }: Facts): string[] {
  return addresses
    .filter(({ address }) => !containsAddress(LOOPBACK, address))
    .flatMap(({ index, address }) => {
      const link = links.find((each) => each.index === index);
      return link === undefined || link.name === NODE_DEVICE ? [] : [`${formatIpv4(address)} (${link.name})`];
    });
}

function routeText({ destination, gateway, index }: RouteInfo, links: readonly LinkInfo[]): string {
  const words = [destination.length === 0 ? "default" : formatCidr(destination)];
  if (gateway !== null) words.push(`via ${gateway}`);
  const link = links.find((each) => each.index === index);
  if (link !== undefined) words.push(`dev ${link.name}`);
  return words.join(" ");
}

/** One of podwire's that listen: `… dist/cli/main.js agent …`, or `podwire agent …`. */
const OURS = /(podwire|cli\/main\.js)\S* (agent|apiserver|controller|(lab )?ui)\b/;

function isOurs({ owner }: Listener): boolean {
  return owner !== null && OURS.test(owner.command);
}

/** Whether a rule of either program accepts. */
function accepts(rule: string): boolean {
  return /-j ACCEPT\b/.test(rule) || /"accept":/.test(rule);
}

/** Whether the chain, or one that Docker leads to first, accepts what goes to and from our device. */
function letsForward(chain: Chain, chains: readonly Chain[]): boolean {
  const leading = chains.filter(
    (each) =>
      each === chain ||
      (each.program === chain.program && each.table === chain.table && each.name === "DOCKER-USER"),
  );
  const rules = leading
    .flatMap((each) => each.rules)
    .filter((rule) => rule.includes(NODE_DEVICE) && accepts(rule));
  const inward = rules.some((rule) => /(^|\s)-o |"oif/.test(rule));
  const outward = rules.some((rule) => /(^|\s)-i |"iif/.test(rule));
  return inward && outward;
}

function acceptCommands({ program, family, table, name }: Chain): string[] {
  if (program !== "nft")
    return [
      `${program} -I ${name} -i ${NODE_DEVICE} -j ACCEPT; ${program} -I ${name} -o ${NODE_DEVICE} -j ACCEPT`,
    ];
  return ["iifname", "oifname"].map(
    (key) => `nft insert rule ${family} ${table} ${name} ${key} ${NODE_DEVICE} accept`,
  );
}
