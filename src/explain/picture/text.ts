/**
 * A topology as lines of text, for a terminal: what the picture shows, as compact as a table. Pure.
 *
 *   k8s-master   192.168.2.30 ═══╗
 *     podwire0   10.1.235.192    ║   nginx-ds-x  10.1.235.193:80
 */
import type { Topology, TopologyPod } from "../topology.js";
import { type SelectionOptions, select, shownPods } from "./selection.js";

const MOST_NODES = 12;

/** Lines, each of them ended. */
export function textOf(topology: Topology, options: SelectionOptions = {}): string {
  const { nodes, services, omitted } = select(topology, options);
  const { overlay } = topology;
  const lines: string[] = [];
  const nameWidth = Math.max(0, ...services.map(({ name }) => name.length));
  for (const { name, type, clusterIp, ports, loadBalancer, backends } of services) {
    const outside = ports.flatMap(({ nodePort, port }) => [
      ...loadBalancer.map(
        ({ address, owner }) => `${address}:${port}${owner === null ? "" : ` (${owner} answers)`}`,
      ),
      ...(type !== "ClusterIP" && nodePort !== 0 ? [`any node:${nodePort}`] : []),
    ]);
    const inside = ports.map(({ port }) => `${clusterIp}:${port}`).join(" ");
    const ready = backends.filter((backend) => backend.ready);
    const behind = [...new Set(ready.map(({ pod, address }) => pod?.slice(pod.indexOf("/") + 1) ?? address))];
    lines.push(
      `${name.padEnd(nameWidth)}  ${[...outside, inside].join(" → ")} → ${behind.length === 0 ? "nobody" : listed(behind)}`,
    );
  }
  if (omitted > 0) lines.push(`… and ${omitted} more Services`);
  if (services.length > 0) lines.push("");

  const port = overlay?.l4Port ?? nodes.find(({ vtep }) => vtep !== null)?.vtep?.l4Port ?? "";
  const rows = nodes.slice(0, MOST_NODES).map((node) => ({
    node,
    left: `${node.name}  VTEP ${node.vtep?.tunnelAddress ?? "none"} ${node.vtep?.mac ?? ""}`.trimEnd(),
    pods: shownPods(node).map(podText),
  }));
  const leftWidth = Math.max(
    0,
    ...rows.map(({ left }) => left.length),
    ...rows.flatMap(({ pods }) => pods.map((each) => each.length + 4)),
  );
  const addressWidth = Math.max(0, ...rows.map(({ node }) => node.address.length));
  lines.push(
    `${" ".repeat(leftWidth + addressWidth + 6)}LAN, UDP ${port}: VXLAN${overlay === null ? "" : ` ${overlay.vni}`}`,
  );
  for (const [n, { node, left, pods }] of rows.entries()) {
    const joint = n === 0 ? "╗" : n === rows.length - 1 ? "╝" : "╣";
    const cable = n === rows.length - 1 ? "" : "║";
    lines.push(
      `${left.padEnd(leftWidth, " ")} ═ ${node.address.padEnd(addressWidth)} ══${rows.length === 1 ? "" : joint}`,
    );
    for (const [k, pod] of pods.entries()) {
      const branch = k === pods.length - 1 ? "└" : "├";
      lines.push(
        `  ${branch} ${pod}`
          .padEnd(leftWidth + addressWidth + 6)
          .concat(cable)
          .trimEnd(),
      );
    }
  }
  if (nodes.length > rows.length) lines.push(`… and ${nodes.length - rows.length} more nodes`);
  for (const { at, about, reason } of topology.faults) lines.push(`${at}'s table, ${about}: ${reason}`);
  return `${lines.join("\n")}\n`;
}

function podText({ name, address, ports, ready }: TopologyPod): string {
  const listens = ports.map(({ l4Port }) => `:${l4Port}`).join(" ");
  return `${name}  ${address}${listens}${ready ? "" : " (not ready)"}`;
}

function listed(names: readonly string[]): string {
  const most = 4;
  const shown = names.slice(0, most).join(", ");
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}
