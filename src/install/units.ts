/**
 * Texts of the systemd units and of the files that they read. Pure. Why they are shut in as they are
 * stands in DESIGN.md.
 */
import { dirname, join } from "node:path";
import { AGENT_ENV, AGENT_KUBECONFIG, APISERVER_ENV, APISERVER_UNIT } from "./files.js";

/** How a unit starts podwire: absolute paths. */
export interface Program {
  /** Node.js. */
  node: string;
  /** dist/cli/main.js */
  main: string;
}

export interface AgentSettings {
  node: string;
  /** Dotted decimal. */
  address: string;
  /** Whether the agent runs the node's pods itself. */
  runPods: boolean;
  serviceRange: string;
}

export interface ApiServerSettings {
  /** Dotted decimal. */
  address: string;
  port: number;
  serviceRange: string;
}

/** What the agent itself does: links, rules and sockets; raw sockets; namespaces. */
const AGENT_CAPABILITIES = ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"];

/** To enter namespaces of processes and to end them; runc's rlimits. */
const RUNTIME_CAPABILITIES = ["CAP_SYS_PTRACE", "CAP_SYS_RESOURCE"];

/** A container's by default, as Docker has them: what the agent may not have, nobody below it may. */
const CONTAINER_CAPABILITIES = [
  "CAP_AUDIT_WRITE",
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_KILL",
  "CAP_MKNOD",
  "CAP_NET_BIND_SERVICE",
  "CAP_SETFCAP",
  "CAP_SETGID",
  "CAP_SETPCAP",
  "CAP_SETUID",
  "CAP_SYS_CHROOT",
];

/** Common to services that start nothing: no way to anything but their own directories. */
const SHUT_IN = [
  "NoNewPrivileges=yes",
  "ProtectSystem=strict",
  "ProtectHome=yes",
  "PrivateTmp=yes",
  "ProtectControlGroups=yes",
  "ProtectKernelModules=yes",
  "ProtectKernelLogs=yes",
  "ProtectClock=yes",
  "ProtectHostname=yes",
  "LockPersonality=yes",
  "RestrictRealtime=yes",
  "RestrictSUIDSGID=yes",
  "SystemCallArchitectures=native",
  "SystemCallFilter=@system-service",
  "# What a newer Node.js tries (protection keys, io_uring) it does without.",
  "SystemCallErrorNumber=ENOSYS",
];

/** The API server's unit. */
export function apiserverUnit(program: Program): string {
  return unit({
    Unit: [
      "Description=podwire API server",
      "Wants=network-online.target",
      "After=network-online.target",
      "StartLimitIntervalSec=0",
    ],
    Service: [
      "Type=exec",
      `EnvironmentFile=${APISERVER_ENV}`,
      `ExecStart=${start(program)} apiserver $PODWIRE_APISERVER_OPTIONS`,
      "Restart=always",
      "RestartSec=1",
      "TimeoutStopSec=30",
      "StateDirectory=podwire podwire/apiserver",
      "StateDirectoryMode=0700",
      "UMask=0077",
      "LimitNOFILE=65536",
      "CapabilityBoundingSet=",
      ...SHUT_IN,
      "PrivateDevices=yes",
      "ProtectKernelTunables=yes",
      "ProtectProc=invisible",
      "RestrictNamespaces=yes",
      "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    ],
    Install: ["WantedBy=multi-user.target"],
  });
}

/**
 * The agent's unit.
 *
 * @param runPods whether it runs the node's pods: they are its children, and inherit what it is denied
 */
export function agentUnit(program: Program, runPods: boolean): string {
  const capabilities = runPods
    ? [...AGENT_CAPABILITIES, ...RUNTIME_CAPABILITIES, ...CONTAINER_CAPABILITIES]
    : AGENT_CAPABILITIES;
  return unit({
    Unit: [
      "Description=podwire agent",
      "Wants=network-online.target",
      `After=network-online.target ${APISERVER_UNIT}`,
      "StartLimitIntervalSec=0",
    ],
    Service: [
      "Type=exec",
      `EnvironmentFile=${AGENT_ENV}`,
      `ExecStart=${start(program)} agent --kubeconfig ${AGENT_KUBECONFIG} $PODWIRE_AGENT_OPTIONS`,
      "ExecReload=/bin/kill -HUP $MAINPID",
      "Restart=always",
      "RestartSec=2",
      "# A wrong option is not put right by starting again.",
      "RestartPreventExitStatus=2",
      "TimeoutStopSec=30",
      "# Stopping is not removing: devices, flows and pods are the next agent's.",
      "KillMode=process",
      "RuntimeDirectory=podwire",
      "RuntimeDirectoryPreserve=yes",
      "StateDirectory=podwire",
      "StateDirectoryMode=0700",
      "ConfigurationDirectory=podwire",
      "LimitNOFILE=1048576",
      "# Packets and BFD do not wait for other services (100 each).",
      "CPUWeight=1000",
      `CapabilityBoundingSet=${capabilities.join(" ")}`,
      ...(runPods ? RUNS_PODS : RUNS_NONE),
    ],
    Install: ["WantedBy=multi-user.target"],
  });
}

const RUNS_PODS = ["NoNewPrivileges=yes", "KeyringMode=private", "Delegate=yes", "TasksMax=infinity"];

const RUNS_NONE = [
  ...SHUT_IN,
  "DevicePolicy=closed",
  "DeviceAllow=/dev/net/tun rw",
  "DeviceAllow=/dev/cpu_dma_latency rw",
  "RestrictNamespaces=net",
  "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET",
];

/** What the API server's unit reads: its options. */
export function apiserverEnv({ address, port, serviceRange }: ApiServerSettings): string {
  return envFile("PODWIRE_APISERVER_OPTIONS", "podwire apiserver", APISERVER_UNIT, [
    ["--address", address],
    ["--port", String(port)],
    ["--service-range", serviceRange],
  ]);
}

/** What the agent's unit reads: its options. */
export function agentEnv({ node, address, runPods, serviceRange }: AgentSettings): string {
  return envFile("PODWIRE_AGENT_OPTIONS", "podwire agent", "podwire-agent.service", [
    ["--node", node],
    ["--underlay-address", address],
    ["--service-cidr", serviceRange],
    [runPods ? "--run-pods" : "--cni"],
  ]);
}

/** What keeps systemd-networkd from removing our routes and rules (networkd.conf(5)). */
export const NETWORKD_TEXT = `# podwire's routes and rules are not systemd-networkd's to remove.
[Network]
ManageForeignRoutes=no
ManageForeignRoutingPolicyRules=no
`;

/** The network that container runtimes attach pods to (CNI's network configuration list). */
export const CNI_CONFIG_TEXT = `${JSON.stringify(
  { cniVersion: "1.0.0", name: "podwire", plugins: [{ type: "podwire-cni" }] },
  null,
  2,
)}\n`;

/** The plugin that they call for that: a script, since a container runtime's PATH may have no Node.js. */
export function cniPlugin({ node, main }: Program): string {
  const quote = (path: string) => `'${path.replaceAll("'", "'\\''")}'`;
  const plugin = join(dirname(dirname(main)), "cni", "main.js");
  return `#!/bin/sh\n# podwire's CNI plugin; made by podwire install.\nexec ${quote(node)} ${quote(plugin)}\n`;
}

function envFile(name: string, command: string, unitName: string, options: (readonly string[])[]): string {
  const value = options.flat().join(" ");
  return `# Options of ${unitName}: \`${command} --help\` lists them.
# After a change: systemctl restart ${unitName.replace(/\.service$/, "")}
${name}=${value}
`;
}

function start({ node, main }: Program): string {
  return `${quoted(node)} ${quoted(main)}`;
}

/** A path in a command line of systemd: % and $ begin something there. */
function quoted(path: string): string {
  const text = path.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /[\s"'\\;]/.test(text) ? `"${text.replace(/["\\]/g, "\\$&")}"` : text;
}

function unit(sections: Record<string, string[]>): string {
  return Object.entries(sections)
    .map(([name, lines]) => `[${name}]\n${lines.join("\n")}\n`)
    .join("\n");
}
