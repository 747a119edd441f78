/**
 * What Services need of the node's kernel: defaults, and what its parts must be to each other and to
 * the rest of a config. Pure; used for a config file and for the command line alike.
 */
import type { ServiceHostConfig } from "../model/AgentConfig.js";
import { formatIpv4, type Ipv4Prefix, overlaps, parseCidr, parseIpv4 } from "../model/ipv4.js";
import { formatPortRange, type PortRange, parsePortRange, portRangesOverlap } from "../model/portRanges.js";

/** The API server's default range of ClusterIPs. */
const DEFAULT_SERVICE_RANGE = "10.152.183.0/24";

/** What is not said otherwise. */
export const SERVICE_HOST_DEFAULTS: ServiceHostConfig = {
  ranges: [DEFAULT_SERVICE_RANGE],
  nodePorts: { first: 30000, last: 32767 },
  egressPorts: { first: 61000, last: 65534 },
  egress: "masquerade",
  nodePortAddresses: [],
  localhostNodePorts: true,
  vips: [],
  udpNodePorts: [],
  healthChecks: [],
  healthz: "0.0.0.0:10256",
};

/** Ports below are for the node's own servers. */
const FIRST_PORT = 1024;
/** A rule's range of ports cannot end with 65535 (fib_rule_port_range_valid). */
const LAST_PORT = 65534;

/** A range of ports that rules can name; null where the text names none. */
export function parseRulePorts(text: string): PortRange | null {
  const range = parsePortRange(text);
  return range !== null && range.first >= FIRST_PORT && range.last <= LAST_PORT ? range : null;
}

/** Whether a text is ADDRESS:PORT, with an IPv4 address. */
export function isSocketAddress(text: string): boolean {
  const [, address = "", port = ""] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  return parseIpv4(address) !== null && Number(port) >= 1 && Number(port) <= 65535;
}

/** What is wrong with a text that parseRulePorts does not take. */
export const RULE_PORTS_MESSAGE = `is no range of ports from ${FIRST_PORT} to ${LAST_PORT}`;

/** A part that does not go with another. */
export interface ServiceHostFinding {
  part: keyof ServiceHostConfig;
  message: string;
  remedy: string;
}

/**
 * What does not go together, an entry each.
 *
 * @param config the rest of the config that matters; no pools where they are not known yet
 */
export function checkServiceHost(
  services: ServiceHostConfig,
  config: { podPool: string[]; underlay: { address: string; port: number } },
): ServiceHostFinding[] {
  const { nodePorts, egressPorts } = services;
  const { port, address } = config.underlay;
  const findings: ServiceHostFinding[] = [];
  const say = (part: keyof ServiceHostConfig, message: string, remedy: string) =>
    findings.push({ part, message, remedy });
  if (portRangesOverlap(nodePorts, egressPorts))
    say(
      "egressPorts",
      `${formatPortRange(egressPorts)} and the NodePorts ${formatPortRange(nodePorts)} overlap`,
      "Choose ranges that have no port in common.",
    );
  for (const part of ["nodePorts", "egressPorts"] as const)
    if (portRangesOverlap(services[part], { first: port, last: port }))
      say(
        part,
        `${formatPortRange(services[part])} contains the VXLAN port ${port}`,
        "What comes for these ports is routed to the dataplane; VXLAN must not be.",
      );
  const known = (texts: string[]) => texts.map(parseCidr).filter((each): each is Ipv4Prefix => each !== null);
  const taken = [
    ...known(config.podPool).map((prefix) => ({ prefix, use: "the pod pool" })),
    { prefix: { address: parseIpv4(address) ?? 0, length: 32 }, use: "this node's own address" },
  ];
  for (const range of known(services.ranges))
    for (const { prefix, use } of taken)
      if (overlaps(range, prefix))
        say(
          "ranges",
          `${formatIpv4(range.address)}/${range.length} overlaps ${use}`,
          "Choose the range that the API server takes ClusterIPs from (--service-range), outside of it.",
        );
  return findings;
}
