/**
 * Whether this machine is fit for a config, and what the kernel's refusals mean in terms of the
 * config's fields. Looks only, changes nothing.
 */
import { NODE_DEVICE, podDeviceId } from "../desired/host.js";
import type { Host } from "../host/Host.js";
import { HostError } from "../host/HostError.js";
import type { PodConfig } from "../model/AgentConfig.js";
import { DeviceError } from "../reconcile/DeviceError.js";
import type { DevicePlace } from "../reconcile/device.js";
import { isOurs } from "../reconcile/device.js";
import { underlayMtu } from "../reconcile/Reconciler.js";
import { ConfigError, type FieldPath, type Problem } from "./ConfigError.js";
import { type LoadedConfig, MIN_UNDERLAY_MTU } from "./config.js";

/** Checks the machine. Throws a ConfigError that lists every problem found. */
export async function checkEnvironment(
  loaded: LoadedConfig,
  host: Host,
  recorded: DevicePlace[],
): Promise<void> {
  const problems = missingRights(loaded, host);
  // Without rights nothing else can be looked at.
  if (problems.length === 0) {
    problems.push(...checkTun(loaded, host));
    problems.push(...(await checkUnderlay(loaded, host)));
    problems.push(...(await checkDevice(loaded, host, recorded, null, 0)));
    for (const [i, pod] of loaded.config.pods.entries())
      problems.push(...(await checkDevice(loaded, host, recorded, pod, i)));
  }
  if (problems.length > 0) throw new ConfigError(problems, "environment");
}

/** Turns what a start or reload threw into a ConfigError where it concerns a field or the machine. */
export function explain(error: unknown, loaded: LoadedConfig): unknown {
  const problem =
    error instanceof DeviceError
      ? deviceProblem(error, loaded)
      : error instanceof HostError
        ? hostProblem(error, loaded)
        : null;
  return problem === null ? error : new ConfigError([problem], "environment");
}

function missingRights(loaded: LoadedConfig, host: Host): Problem[] {
  const missing = host.missingCapabilities();
  if (missing.length === 0) return [];
  return [
    machine(
      loaded,
      `the agent lacks ${missing.join(" and ")}`,
      "Run it as root, or give it these capabilities.",
    ),
  ];
}

function checkTun(loaded: LoadedConfig, host: Host): Problem[] {
  try {
    host.checkTun();
    return [];
  } catch (error) {
    return [tunProblem(error as HostError, loaded)];
  }
}

async function checkUnderlay(loaded: LoadedConfig, host: Host): Promise<Problem[]> {
  const { address, mtu } = loaded.config.underlay;
  const found = await underlayMtu(host, address);
  if (found === null) return [addressProblem(loaded)];
  if (mtu === null && found < MIN_UNDERLAY_MTU)
    return [
      loaded.problem(
        ["underlay", "address"],
        `the interface that has ${address} has an MTU of ${found}; VXLAN needs at least ${MIN_UNDERLAY_MTU}`,
        "Raise the interface's MTU, or set underlay.mtu if the path carries more.",
      ),
    ];
  if (mtu !== null && mtu > found)
    return [
      loaded.problem(
        ["underlay", "mtu"],
        `${mtu} is more than the MTU of the interface that has ${address} (${found})`,
        `Leave it out, or write at most ${found}.`,
      ),
    ];
  return [];
}

/** Whether a device of the config can be had: the node's (pod null), or that of pod number `i`. */
async function checkDevice(
  loaded: LoadedConfig,
  host: Host,
  recorded: DevicePlace[],
  pod: PodConfig | null,
  i: number,
): Promise<Problem[]> {
  const netns = pod?.netns ?? "";
  const name = pod?.interface ?? NODE_DEVICE;
  if (netns !== "" && host.netnsIdentity(netns) === null) return [netnsProblem(loaded, netns, i)];
  try {
    const link = await host.within(netns, (namespace) => namespace.link(name));
    const known = recorded.some((place) => place.netns === netns && place.name === name);
    if (link === null || isOurs(link, known)) return [];
    return [foreignProblem(loaded, pod, i, name, link.kind)];
  } catch (error) {
    const { message } = error as Error;
    return [loaded.problem(pod === null ? [] : ["pods", i, "netns"], message, "")];
  }
}

// ---- wording ----------------------------------------------------------------------------------

function deviceProblem(error: DeviceError, loaded: LoadedConfig): Problem {
  const { spec, fault, message } = error;
  const i = loaded.config.pods.findIndex((pod) => podDeviceId(pod.name) === spec.id);
  const pod = loaded.config.pods[i] ?? null;
  const device = pod === null ? [] : ["pods", i, "interface"];
  switch (fault) {
    case "netns-missing":
    case "lost":
      return pod === null ? machine(loaded, message, "") : netnsProblem(loaded, spec.netns, i);
    case "foreign-device":
      return foreignProblem(loaded, pod, i, spec.name, "");
    case "device-busy":
      return loaded.problem(
        device,
        message,
        "Stop the other agent first: `podwire status --state-dir DIR` finds it.",
      );
    case "no-tunnel-gso":
      return loaded.problem(["dataplane", "tunnelGso"], message, "It needs Linux 6.17. Write auto or off.");
    case "no-uso":
      return loaded.problem(["dataplane", "uso"], message, "It needs Linux 6.2. Write auto or off.");
    case "route-taken":
      return loaded.problem(
        pod === null ? ["podPool"] : ["pods", i, "netns"],
        message,
        pod === null
          ? "Another network plugin uses this range: remove its route, or choose another pool."
          : "Remove that route: the pod's traffic goes through podwire.",
      );
    case "failed": {
      const { cause } = error;
      const host = cause instanceof HostError ? hostProblem(cause, loaded) : null;
      return host ?? loaded.problem(pod === null ? [] : ["pods", i], message, "");
    }
  }
}

/** Null where an error has no other meaning than its own words. */
function hostProblem(error: HostError, loaded: LoadedConfig): Problem | null {
  const { address, port } = loaded.config.underlay;
  switch (error.code) {
    case "EADDRINUSE":
      return loaded.problem(
        ["underlay", "port"],
        `UDP port ${port} of ${address} is in use`,
        `Another VXLAN (a kernel vxlan device, flannel, Calico) or another agent uses it: find it by \`ss -ulpn\` and \`ip -d link show type vxlan\`, or choose another port on all nodes.`,
      );
    case "EADDRNOTAVAIL":
      return addressProblem(loaded);
    case "EPERM":
    case "EACCES":
      return error.action === "open /dev/net/tun"
        ? tunProblem(error, loaded)
        : machine(loaded, error.message, "The agent needs CAP_NET_ADMIN and CAP_SYS_ADMIN: run it as root.");
    default:
      return /\/dev\/net\/tun/.test(`${error.action} ${error.detail}`) ? tunProblem(error, loaded) : null;
  }
}

function tunProblem(error: HostError, loaded: LoadedConfig): Problem {
  const remedy =
    error.code === "ENOENT"
      ? "Load the driver: `modprobe tun`; in a container also `mkdir -p /dev/net && mknod /dev/net/tun c 10 200`."
      : error.code === "ENODEV" || error.code === "ENXIO"
        ? "The node exists but not the driver: `modprobe tun`, or a kernel with CONFIG_TUN."
        : "Run the agent as root, or `chmod 0666 /dev/net/tun`.";
  return machine(loaded, `/dev/net/tun cannot be opened: ${error.code || error.detail}`, remedy);
}

function addressProblem(loaded: LoadedConfig): Problem {
  const { address } = loaded.config.underlay;
  return loaded.problem(
    ["underlay", "address"],
    `no interface of this node has ${address}`,
    "Write the address that the other nodes reach this node at; `ip -4 address` lists what there is.",
  );
}

function netnsProblem(loaded: LoadedConfig, netns: string, i: number): Problem {
  return loaded.problem(
    ["pods", i, "netns"],
    `there is no network namespace at ${netns}`,
    "Make it first (`ip netns add NAME` makes /run/netns/NAME), or remove the pod.",
  );
}

function foreignProblem(
  loaded: LoadedConfig,
  pod: PodConfig | null,
  i: number,
  name: string,
  kind: string,
): Problem {
  const what = `${kind === "" ? "" : `${kind} `}device ${name}`;
  if (pod === null)
    return machine(
      loaded,
      `${what} exists already and is not podwire's`,
      `Remove it: \`ip link delete ${name}\`.`,
    );
  const path: FieldPath = ["pods", i, "interface"];
  return loaded.problem(
    path,
    `the namespace of pod ${pod.name} has a ${what} already that is not podwire's`,
    `Remove it (\`nsenter --net=${pod.netns} ip link delete ${name}\`), or name another interface.`,
  );
}

function machine(loaded: LoadedConfig, message: string, remedy: string): Problem {
  return { file: loaded.file, line: 0, column: 0, field: "", message, remedy };
}
