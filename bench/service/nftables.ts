/**
 * Services as nftables rules, in the shape of kube-proxy's nftables mode: one lookup in a verdict
 * map leads to the Service's chain. Pure: text for nft -f, one transaction.
 */

import { chainHash, MASQUERADE_MARK, type PortRules, portsOf } from "./ruleNames.js";
import type { BenchService } from "./services.js";

const TABLE = "ip kube-proxy";
/** Element lines hold so many elements: one a line takes nft several times as long. */
const ELEMENTS_PER_LINE = 500;

export interface NftSurroundings {
  /** The pods' addresses, which are not masqueraded towards ClusterIPs. */
  podCidr: string;
  /** ClusterIPs that no Service has are dropped. */
  serviceCidr: string;
  /** The node's addresses that take NodePort traffic. */
  nodePortAddresses: readonly string[];
}

/** The rules of one node. The endpoints' chains have counters, which kube-proxy's have not. */
export function nftRules(services: readonly BenchService[], surroundings: NftSurroundings): string {
  const ports = portsOf(services);
  const chains: string[] = [];
  const rules: string[] = [];
  for (const each of ports) {
    chains.push(serviceChain(each), ...each.service.backends.map((_, i) => endpointChain(each, i)));
    if (each.port.nodePort !== undefined) chains.push(externalChain(each));
    rules.push(...rulesOf(each, surroundings.podCidr));
  }
  const nodePorts = ports.filter(({ port }) => port.nodePort !== undefined);
  return `${[
    ...baseOf(surroundings),
    ...chains.map((chain) => `add chain ${TABLE} ${chain}`),
    ...rules,
    ...elements("nodeport-ips", surroundings.nodePortAddresses),
    ...elements("cluster-ips", [...new Set(services.map(({ clusterIP }) => clusterIP))]),
    ...elements(
      "service-ips",
      ports.map(
        (each) =>
          `${each.service.clusterIP} . ${each.protocol} . ${each.port.port} : goto ${serviceChain(each)}`,
      ),
    ),
    ...elements(
      "service-nodeports",
      nodePorts.map((each) => `${each.protocol} . ${each.port.nodePort} : goto ${externalChain(each)}`),
    ),
  ].join("\n")}\n`;
}

/** Chain of one backend; its counter says how many connections went to it. */
export function endpointChain({ service, title, protocol }: PortRules, backend: number): string {
  const { address, port } = service.backends[backend];
  return chainOf("endpoint", `${pathOf(title, protocol)}__${address}/${port}`);
}

function serviceChain({ title, protocol }: PortRules): string {
  return chainOf("service", pathOf(title, protocol));
}

function externalChain({ title, protocol }: PortRules): string {
  return chainOf("external", pathOf(title, protocol));
}

/** kube-proxy's names: what it is, a hash of the path, the path. */
function chainOf(kind: string, path: string): string {
  return `${kind}-${chainHash(path, 8)}-${path}`;
}

/** namespace/name:port as namespace/name/protocol/port. */
function pathOf(title: string, protocol: string): string {
  return title.replace(":", `/${protocol}/`);
}

function rulesOf(each: PortRules, podCidr: string): string[] {
  const { service, port, protocol } = each;
  const chain = serviceChain(each);
  const rule = (to: string, text: string) => `add rule ${TABLE} ${to} ${text}`;
  const verdicts = service.backends.map((_, i) => `${i} : goto ${endpointChain(each, i)}`);
  const rules = [
    rule(
      chain,
      `ip daddr ${service.clusterIP} ${protocol} dport ${port.port} ip saddr != ${podCidr} jump mark-for-masquerade`,
    ),
    rule(chain, `numgen random mod ${verdicts.length} vmap { ${verdicts.join(" , ")} }`),
  ];
  if (port.nodePort !== undefined)
    rules.push(
      rule(externalChain(each), "jump mark-for-masquerade"),
      rule(externalChain(each), `goto ${chain}`),
    );
  service.backends.forEach(({ address, port: l4Port }, i) => {
    rules.push(
      rule(endpointChain(each, i), `ip saddr ${address} jump mark-for-masquerade`),
      rule(endpointChain(each, i), `meta l4proto ${protocol} counter dnat to ${address}:${l4Port}`),
    );
  });
  return rules;
}

function elements(set: string, all: readonly string[]): string[] {
  const lines: string[] = [];
  for (let from = 0; from < all.length; from += ELEMENTS_PER_LINE)
    lines.push(`add element ${TABLE} ${set} { ${all.slice(from, from + ELEMENTS_PER_LINE).join(", ")} }`);
  return lines;
}

/** Sets, maps, hooks and the chains that every packet of a new connection goes through. */
function baseOf({ serviceCidr }: NftSurroundings): string[] {
  const ADDRESS_MAP = "{ type ipv4_addr . inet_proto . inet_service : verdict ; }";
  const PORT_MAP = "{ type inet_proto . inet_service : verdict ; }";
  const hooks: Record<string, string> = {
    "filter-prerouting-pre-dnat": "{ type filter hook prerouting priority -110 ; }",
    "filter-output-pre-dnat": "{ type filter hook output priority -110 ; }",
    "filter-forward": "{ type filter hook forward priority 0 ; }",
    "filter-input": "{ type filter hook input priority 0 ; }",
    "filter-output": "{ type filter hook output priority 0 ; }",
    "nat-prerouting": "{ type nat hook prerouting priority -100 ; }",
    "nat-output": "{ type nat hook output priority -100 ; }",
    "nat-postrouting": "{ type nat hook postrouting priority 100 ; }",
  };
  const plain = [
    "cluster-ips-check",
    "firewall-check",
    "mark-for-masquerade",
    "masquerading",
    "nodeport-endpoints-check",
    "reject-chain",
    "services",
    "service-endpoints-check",
  ];
  const rules: [chain: string, text: string][] = [
    ["cluster-ips-check", "ip daddr @cluster-ips reject"],
    ["cluster-ips-check", `ip daddr { ${serviceCidr} } drop`],
    ["filter-prerouting-pre-dnat", "ct state new jump firewall-check"],
    ["filter-output-pre-dnat", "ct state new jump firewall-check"],
    ["filter-forward", "ct state new jump service-endpoints-check"],
    ["filter-forward", "ct state new jump cluster-ips-check"],
    ["filter-input", "ct state new jump nodeport-endpoints-check"],
    ["filter-input", "ct state new jump service-endpoints-check"],
    ["filter-output", "ct state new jump service-endpoints-check"],
    ["filter-output", "ct state new jump cluster-ips-check"],
    ["firewall-check", "ip daddr . meta l4proto . th dport vmap @firewall-ips"],
    ["mark-for-masquerade", `mark set mark or ${MASQUERADE_MARK}`],
    ["masquerading", `mark and ${MASQUERADE_MARK} == 0 return`],
    ["masquerading", `mark set mark xor ${MASQUERADE_MARK}`],
    ["masquerading", "masquerade fully-random"],
    ["nat-output", "jump services"],
    ["nat-prerouting", "jump services"],
    ["nat-postrouting", "jump masquerading"],
    [
      "nodeport-endpoints-check",
      "ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports",
    ],
    ["reject-chain", "reject"],
    ["services", "ip daddr . meta l4proto . th dport vmap @service-ips"],
    ["services", "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports"],
    ["service-endpoints-check", "ip daddr . meta l4proto . th dport vmap @no-endpoint-services"],
  ];
  return [
    `add table ${TABLE}`,
    ...["cluster-ips", "nodeport-ips"].map((set) => `add set ${TABLE} ${set} { type ipv4_addr ; }`),
    ...["firewall-ips", "no-endpoint-services", "service-ips"].map(
      (map) => `add map ${TABLE} ${map} ${ADDRESS_MAP}`,
    ),
    ...["no-endpoint-nodeports", "service-nodeports"].map((map) => `add map ${TABLE} ${map} ${PORT_MAP}`),
    ...plain.map((chain) => `add chain ${TABLE} ${chain}`),
    ...Object.entries(hooks).map(([chain, hook]) => `add chain ${TABLE} ${chain} ${hook}`),
    ...rules.map(([chain, text]) => `add rule ${TABLE} ${chain} ${text}`),
  ];
}
