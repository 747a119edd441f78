/**
 * Services as iptables rules, in the shape of kube-proxy's iptables mode (its syncProxyRules, full
 * sync). Pure: text for iptables-restore --noflush.
 */

import { chainHash, MASQUERADE_MARK, type PortRules, portsOf } from "./ruleNames.js";
import type { BenchService } from "./services.js";

/** Number of endpoints above which kube-proxy leaves out the comments of endpoints. */
const LARGE_CLUSTER_ENDPOINTS = 1000;
const MARKED = `${MASQUERADE_MARK}/${MASQUERADE_MARK}`;

/** The rules of one node. `podCidr` holds the pods' addresses, which are not masqueraded towards ClusterIPs. */
export function iptablesRules(services: readonly BenchService[], podCidr: string): string {
  const ports = portsOf(services);
  const endpoints = ports.reduce((sum, { service }) => sum + service.backends.length, 0);
  const comments = endpoints <= LARGE_CLUSTER_ENDPOINTS;
  const chains = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"];
  const rules = [
    `-A PREROUTING ${comment("kubernetes service portals")} -j KUBE-SERVICES`,
    `-A OUTPUT ${comment("kubernetes service portals")} -j KUBE-SERVICES`,
    `-A POSTROUTING ${comment("kubernetes postrouting rules")} -j KUBE-POSTROUTING`,
    `-A KUBE-POSTROUTING -m mark ! --mark ${MARKED} -j RETURN`,
    `-A KUBE-POSTROUTING -j MARK --xor-mark ${MASQUERADE_MARK}`,
    `-A KUBE-POSTROUTING ${comment("kubernetes service traffic requiring SNAT")} -j MASQUERADE --random-fully`,
    `-A KUBE-MARK-MASQ -j MARK --or-mark ${MASQUERADE_MARK}`,
  ];
  for (const each of ports) {
    chains.push(serviceChain(each), ...each.service.backends.map((_, i) => endpointChain(each, i)));
    if (each.port.nodePort !== undefined) chains.push(externalChain(each));
    rules.push(...rulesOf(each, podCidr, comments));
  }
  rules.push(
    `-A KUBE-SERVICES ${comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`,
  );
  return `${[...FILTER, "*nat", ...chains.map((chain) => `:${chain} - [0:0]`), ...rules, "COMMIT"].join("\n")}\n`;
}

/** Chain of one backend; its counters say how many connections went to it. */
export function endpointChain({ service, title, protocol }: PortRules, backend: number): string {
  const { address, port } = service.backends[backend];
  return `KUBE-SEP-${chainHash(`${title}${protocol}${address}:${port}`, 16)}`;
}

function serviceChain({ title, protocol }: PortRules): string {
  return `KUBE-SVC-${chainHash(title + protocol, 16)}`;
}

function externalChain({ title, protocol }: PortRules): string {
  return `KUBE-EXT-${chainHash(title + protocol, 16)}`;
}

function rulesOf(each: PortRules, podCidr: string, comments: boolean): string[] {
  const { service, port, title, protocol } = each;
  const chain = serviceChain(each);
  const optional = (text: string) => (comments ? `${comment(text)} ` : "");
  const toClusterIp = `${comment(`${title} cluster IP`)} -m ${protocol} -p ${protocol} -d ${service.clusterIP} --dport ${port.port}`;
  const rules = [
    `-A KUBE-SERVICES ${toClusterIp} -j ${chain}`,
    `-A ${chain} ${toClusterIp} ! -s ${podCidr} -j KUBE-MARK-MASQ`,
  ];
  if (port.nodePort !== undefined) {
    const external = externalChain(each);
    rules.push(
      `-A KUBE-NODEPORTS ${comment(title)} -m ${protocol} -p ${protocol} --dport ${port.nodePort} -j ${external}`,
      `-A ${external} ${comment(`masquerade traffic for ${title} external destinations`)} -j KUBE-MARK-MASQ`,
      `-A ${external} -j ${chain}`,
    );
  }
  const { backends } = service;
  backends.forEach((backend, i) => {
    const endpoint = endpointChain(each, i);
    const left = backends.length - i;
    const share = left === 1 ? "" : `-m statistic --mode random --probability ${(1 / left).toFixed(10)} `;
    rules.push(
      `-A ${chain} ${optional(`${title} -> ${backend.address}:${backend.port}`)}${share}-j ${endpoint}`,
      `-A ${endpoint} ${optional(title)}-s ${backend.address} -j KUBE-MARK-MASQ`,
      `-A ${endpoint} ${optional(title)}-m ${protocol} -p ${protocol} -j DNAT --to-destination ${backend.address}:${backend.port}`,
    );
  });
  return rules;
}

function comment(text: string): string {
  return `-m comment --comment "${text}"`;
}

/** The filter table, with the chains that kube-proxy hooks in whether a Service needs them or not. */
const NEW = "-m conntrack --ctstate NEW";
const FILTER: readonly string[] = [
  "*filter",
  ":KUBE-SERVICES - [0:0]",
  ":KUBE-EXTERNAL-SERVICES - [0:0]",
  ":KUBE-NODEPORTS - [0:0]",
  ":KUBE-FORWARD - [0:0]",
  ":KUBE-PROXY-FIREWALL - [0:0]",
  ...["INPUT", "FORWARD", "OUTPUT"].map(
    (hook) => `-A ${hook} ${NEW} ${comment("kubernetes load balancer firewall")} -j KUBE-PROXY-FIREWALL`,
  ),
  `-A INPUT ${comment("kubernetes health check service ports")} -j KUBE-NODEPORTS`,
  `-A INPUT ${NEW} ${comment("kubernetes externally-visible service portals")} -j KUBE-EXTERNAL-SERVICES`,
  `-A FORWARD ${comment("kubernetes forwarding rules")} -j KUBE-FORWARD`,
  `-A FORWARD ${NEW} ${comment("kubernetes service portals")} -j KUBE-SERVICES`,
  `-A FORWARD ${NEW} ${comment("kubernetes externally-visible service portals")} -j KUBE-EXTERNAL-SERVICES`,
  `-A OUTPUT ${NEW} ${comment("kubernetes service portals")} -j KUBE-SERVICES`,
  "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
  `-A KUBE-FORWARD ${comment("kubernetes forwarding rules")} -m mark --mark ${MARKED} -j ACCEPT`,
  `-A KUBE-FORWARD ${comment("kubernetes forwarding conntrack rule")} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
  "COMMIT",
];
