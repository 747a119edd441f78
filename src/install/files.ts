/**
 * Every path that installing writes, and that the services leave. Pure. Paths are those on the
 * machine; System puts the root directory before them.
 */
import { DEFAULT_STATE_DIR } from "../model/stateDir.js";

const UNIT_DIRECTORY = "/etc/systemd/system";
export const APISERVER_UNIT = "podwire-apiserver.service";
export const AGENT_UNIT = "podwire-agent.service";

const CONFIG_DIRECTORY = "/etc/podwire";
export const APISERVER_ENV = `${CONFIG_DIRECTORY}/apiserver.env`;
export const AGENT_ENV = `${CONFIG_DIRECTORY}/agent.env`;
export const AGENT_KUBECONFIG = `${CONFIG_DIRECTORY}/kubeconfig`;

/** What outlives a reboot: the API server's objects and keys, pods' logs. */
const DATA_DIRECTORY = "/var/lib/podwire";
export const ADMIN_KUBECONFIG = `${DATA_DIRECTORY}/apiserver/admin.kubeconfig`;

export const NETWORKD_DROPIN = "/etc/systemd/networkd.conf.d/podwire.conf";
/** One of these is there where systemd-networkd is installed. */
export const NETWORKD_UNITS = [
  "/usr/lib/systemd/system/systemd-networkd.service",
  "/lib/systemd/system/systemd-networkd.service",
] as const;

/** Where container runtimes look for networks and for plugins, unless they are told otherwise. */
export const CNI_CONFIG = "/etc/cni/net.d/10-podwire.conflist";
export const CNI_PLUGIN = "/opt/cni/bin/podwire-cni";

/** In the order in which they are stopped: agents first. */
export const UNITS = [AGENT_UNIT, APISERVER_UNIT] as const;

/** Where the unit of that name is written. */
export function unitPath(unit: string): string {
  return `${UNIT_DIRECTORY}/${unit}`;
}

/** Every file that installing may have written outside of our own directories. */
export const FILES: readonly string[] = [...UNITS.map(unitPath), NETWORKD_DROPIN, CNI_CONFIG, CNI_PLUGIN];

/** Ours alone, with all that is in them. */
export const DIRECTORIES: readonly string[] = [CONFIG_DIRECTORY, DATA_DIRECTORY, DEFAULT_STATE_DIR];

/** Directories of others that installing may have made: removed where they are empty. */
export const PARENT_DIRECTORIES: readonly string[] = [
  "/etc/systemd/networkd.conf.d",
  "/etc/cni/net.d",
  "/etc/cni",
  "/opt/cni/bin",
  "/opt/cni",
];
