/** What the checks judge: a machine as it was found. Plain values. */
import type { AddressInfo, LinkInfo, RouteInfo, RuleInfo } from "../host/Host.js";
import type { Chain } from "./firewall.js";
import type { Listener } from "./sockets.js";

export interface Facts {
  /** What the agent is, or will be, on this machine. */
  wanted: Wanted;
  /** uname -r */
  kernel: string;
  /** Capabilities that an agent needs and this process has not. */
  missingCapabilities: string[];
  /** "" where /dev/net/tun opens; else the errno's name. */
  tunError: string;
  /** Programs that running pods needs and that are not in PATH, by name: the Debian package of each. */
  missingPrograms: Record<string, string>;
  links: LinkInfo[];
  addresses: AddressInfo[];
  /** Of every table but the local one. */
  routes: RouteInfo[];
  rules: RuleInfo[];
  /** Keys below /proc/sys. */
  sysctls: Record<string, string | null>;
  /** Assignments in sysctl.d(5), in the order in which they are made at boot. */
  sysctlFiles: { file: string; key: string; value: string }[];
  listeners: Listener[];
  /** Null where nothing could tell. */
  chains: Chain[] | null;
  /** Names of files in /etc/cni/net.d. */
  cniConfigs: string[];
  networkd: Networkd;
  /** ENABLED=yes of ufw. */
  ufw: boolean;
}

export interface Wanted {
  /** The node's address on the LAN, null where it is not known. */
  address: string | null;
  vxlanPort: number;
  /** The API server's port on a master, 0 elsewhere. */
  apiPort: number;
  runPods: boolean;
  podPool: string;
  serviceRange: string;
}

export interface Networkd {
  installed: boolean;
  running: boolean;
  /** Values of ManageForeignRoutes and ManageForeignRoutingPolicyRules in networkd.conf(5). */
  manageForeignRoutes: boolean;
  manageForeignRules: boolean;
}
