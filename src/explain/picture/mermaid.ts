/**
 * A topology as a Mermaid flowchart, for wikis and pages that draw those: the same selection as the picture's,
 * without its drawing. Pure.
 */
import type { Topology } from "../topology.js";
import { LIGHT, type Paint, servicePaint } from "./scene.js";
import { type SelectionOptions, select, shownPods } from "./selection.js";

/** Mermaid text. */
export function mermaidOf(topology: Topology, options: SelectionOptions = {}): string {
  const selection = select(topology, options);
  const { nodes, services, grouped, title } = selection;
  const ids = new Map<string, string>();
  const id = (kind: string, key: string) => {
    const name = `${kind} ${key}`;
    const known = ids.get(name) ?? `${kind}${ids.size}`;
    ids.set(name, known);
    return known;
  };
  const vxlan = topology.overlay === null ? "VXLAN" : `VXLAN, VNI ${topology.overlay.vni}`;
  const lines = ["---", `title: ${title}`, "---", "flowchart LR"];
  const edges: { text: string; paint: Paint | null }[] = [];
  const shown = new Map<string, string>();
  for (const node of nodes) {
    const { vtep } = node;
    lines.push(`  subgraph ${id("node", node.name)}["${label(node.name, node.address)}"]`);
    for (const pod of shownPods(node)) {
      // Of many pods the nodes alone are drawn.
      shown.set(pod.key, grouped ? id("node", node.name) : id("pod", pod.key));
      if (grouped) continue;
      const ports = pod.ports.map(({ l4Port }) => `:${l4Port}`).join(" ");
      lines.push(`    ${id("pod", pod.key)}["${label(pod.name, `${pod.address} ${ports}`)}"]`);
      if (vtep !== null)
        edges.push({ text: `${id("pod", pod.key)} --- ${id("vtep", node.name)}`, paint: null });
    }
    if (vtep !== null) {
      lines.push(`    ${id("vtep", node.name)}[/"${label("podwire0", vtep.tunnelAddress, vtep.mac)}"/]`);
      edges.push({ text: `${id("vtep", node.name)} === vxlan`, paint: null });
    }
    lines.push("  end");
  }
  lines.push(`  vxlan{{"${label(vxlan, `inside UDP ${topology.overlay?.l4Port ?? ""} on the LAN`)}"}}`);
  for (const [n, service] of services.entries()) {
    const paint = servicePaint(n);
    const own = id("service", service.key);
    const ports = service.ports.map(({ port, targetPort }) => `${port} → ${targetPort}`).join(", ");
    lines.push(`  ${own}(["${label(service.name, `${service.clusterIp} ${ports}`)}"])`);
    const nodePorts =
      service.type === "ClusterIP" ? [] : service.ports.filter(({ nodePort }) => nodePort !== 0);
    for (const { nodePort } of nodePorts) {
      const door = id("door", `${service.key} ${nodePort}`);
      lines.push(`  ${door}>"any node :${nodePort}"]`);
      edges.push({ text: `${door} --> ${own}`, paint });
    }
    for (const { address, owner } of service.loadBalancer) {
      const vip = id("vip", `${service.key} ${address}`);
      lines.push(`  ${vip}>"${label(address, ...(owner === null ? [] : [`${owner} answers`]))}"]`);
      const first = nodePorts[0];
      const next = first === undefined ? own : id("door", `${service.key} ${first.nodePort}`);
      edges.push({ text: `${vip} --> ${next}`, paint });
    }
    const targets = new Set(service.backends.flatMap(({ pod }) => (pod && shown.get(pod)) || []));
    for (const target of targets) edges.push({ text: `${own} --> ${target}`, paint });
  }
  for (const [n, { text, paint }] of edges.entries()) {
    lines.push(`  ${text}`);
    if (paint !== null) lines.push(`  linkStyle ${n} stroke:${LIGHT[paint]},stroke-width:2px`);
  }
  return `${lines.join("\n")}\n`;
}

/** Lines of a label; Mermaid's quotes are entities. */
function label(...lines: string[]): string {
  return lines.map((line) => line.replaceAll('"', "#quot;")).join("<br>");
}
