/**
 * Owns the packet below a picture: one example out of the cluster, with the addresses that it carries where
 * it begins and on the wire, header within header. Pure.
 */
import type { Topology, TopologyBackend, TopologyNode, TopologyPod, TopologyService } from "../topology.js";
import { textWidth } from "./measure.js";
import type { Paint, Shape } from "./scene.js";
import { type Selection, shownPods } from "./selection.js";

interface Flow {
  from: string;
  to: string;
  protocol: string;
  l4Port: number;
}

/** One packet at one place. */
interface Stage {
  where: string;
  inner: Flow;
  /** The Service that the packet goes to. */
  service?: string;
  /** Set where it travels inside VXLAN. */
  outer?: { from: TopologyNode; to: TopologyNode };
}

/** An example of what a picture is about; empty where the cluster has none (one node, no pods). */
function exampleStages({ step, services, nodes }: Selection): Stage[] {
  const withPods = nodes.filter((node) => node.vtep !== null && shownPods(node).length > 0);
  if (withPods.length < 2) return [];
  if (step === "overlay") return podToPod(withPods);
  const service = services.find(({ backends }) => backends.some(({ pod }) => pod !== null));
  return service === undefined ? (step === "all" ? podToPod(withPods) : []) : toService(service, nodes);
}

function podToPod([a, b]: readonly TopologyNode[]): Stage[] {
  const client = shownPods(a!)[0]!;
  // Another program's where there is one.
  const server =
    shownPods(b!).find(({ workload, ports }) => workload !== client.workload && ports.length > 0) ??
    shownPods(b!)[0]!;
  const port = server.ports[0] ?? { protocol: "TCP", l4Port: 0 };
  const inner = { from: client.address, to: server.address, ...port };
  return [
    {
      where: `A packet from ${client.name} to ${server.name}, on the LAN`,
      inner,
      outer: { from: a!, to: b! },
    },
  ];
}

interface Ingress {
  node: TopologyNode;
  from: string;
  to: string;
  l4Port: number;
  said: string;
}

function toService(service: TopologyService, nodes: readonly TopologyNode[]): Stage[] {
  const port = service.ports[0];
  const ingress = port === undefined ? null : ingressOf(service, nodes);
  if (port === undefined || ingress === null) return [];
  const { node, from, to, l4Port } = ingress;
  const far = (backend: TopologyBackend) =>
    backend.pod !== null && backend.node !== node.name && backend.ready;
  const backend = service.backends.find(far);
  const target = nodes.find(({ name }) => name === backend?.node);
  if (backend === undefined || target === undefined) return [];
  const { protocol } = port;
  const inner = { from, to: backend.address, protocol, l4Port: backend.ports[0] ?? port.port };
  return [
    { where: ingress.said, inner: { from, to, protocol, l4Port }, service: service.key },
    {
      service: service.key,
      where: `${node.name} picks a pod, here one on ${target.name}. The packet on the LAN`,
      inner,
      outer: { from: node, to: target },
    },
  ];
}

/** Who asks, at which address, and the node where the packet meets podwire first. */
function ingressOf(service: TopologyService, nodes: readonly TopologyNode[]): Ingress | null {
  const [first] = nodes;
  const port = service.ports[0]!;
  const [vip] = service.loadBalancer;
  if (first === undefined) return null;
  const client = { from: "a computer on the LAN" };
  if (vip !== undefined) {
    const owner = nodes.find(({ name }) => name === vip.owner) ?? first;
    return { node: owner, ...client, to: vip.address, l4Port: port.port, said: "What the computer sends" };
  }
  if (service.type !== "ClusterIP" && port.nodePort !== 0)
    return {
      node: first,
      ...client,
      to: first.address,
      l4Port: port.nodePort,
      said: `What the computer sends to ${first.name}`,
    };
  const pod = clientPod(first, service);
  if (pod === undefined) return null;
  return {
    node: first,
    from: pod.address,
    to: service.clusterIp,
    l4Port: port.port,
    said: `What ${pod.name} sends`,
  };
}

/** A pod that is not behind the Service, where there is one. */
function clientPod(node: TopologyNode, { backends }: TopologyService): TopologyPod | undefined {
  const pods = shownPods(node);
  return pods.find(({ key }) => !backends.some(({ pod }) => pod === key)) ?? pods[0];
}

const PAD = 12;
const SIZE = 13;
const SMALL = 11;

interface Field {
  label: string;
  values: string[];
  /** Of the last value; what a Service changes. */
  paint?: Paint;
}

function widthOf({ label, values }: Field): number {
  return Math.max(textWidth(label, SMALL), ...values.map((value) => textWidth(value, SIZE, true))) + 2 * PAD;
}

function fieldShapes({ label, values, paint = "ink" }: Field, x: number, y: number): Shape[] {
  return [
    { kind: "text", x: x + PAD, y: y + 16, text: label, size: SMALL, paint: "muted" },
    ...values.map(
      (value, n): Shape => ({
        kind: "text",
        x: x + PAD,
        y: y + 35 + n * 18,
        text: value,
        size: SIZE,
        bold: true,
        paint: n === values.length - 1 ? paint : "ink",
      }),
    ),
  ];
}

const BOX = 66;
/** How far a header's box stands out over the one inside it. */
const RIM = 11;

/** Shapes from the origin on; the box of the last packet ends at the lower right corner. */
export interface Drawn {
  width: number;
  height: number;
  boxHeight: number;
  shapes: Shape[];
}

/** One packet: its headers as boxes, each around what it carries. */
function stageShapes(
  { where, inner, outer, service }: Stage,
  { overlay }: Topology,
  paints: ReadonlyMap<string, Paint>,
): Drawn {
  const payload: Field = { label: "", values: ["data"] };
  const innerField: Field = {
    label: outer === undefined ? "IP packet" : "inner: IP packet",
    values: [`${inner.from} →`, `${inner.to}, ${inner.protocol} port ${inner.l4Port}`],
    paint: (service !== undefined && paints.get(service)) || "ink",
  };
  const innerWidth = widthOf(innerField);
  const dataWidth = 64;
  const rims = outer === undefined ? 0 : 2;
  const top = 26 + rims * RIM;
  const shapes: Shape[] = [{ kind: "text", x: 0, y: 14, text: where, size: 12, paint: "muted", bold: true }];
  const box = (x: number, y: number, width: number, height: number, fill: Paint, stroke: Paint): Shape => ({
    kind: "rect",
    x,
    y,
    width,
    height,
    radius: 6,
    fill,
    stroke,
    strokeWidth: 2,
  });
  let x = 0;
  if (outer !== undefined) {
    const { from, to } = outer;
    const lanField: Field = {
      label: "outer: UDP datagram between the nodes",
      values: [`${from.address} → ${to.address}`, `UDP → port ${to.vtep?.l4Port ?? ""}`],
    };
    const vxlanField: Field = {
      label: overlay === null ? "VXLAN" : `VXLAN, VNI ${overlay.vni}`,
      values: [`${from.vtep?.mac ?? ""} →`, to.vtep?.mac ?? ""],
    };
    const lanWidth = widthOf(lanField);
    const vxlanWidth = widthOf(vxlanField);
    const whole = lanWidth + vxlanWidth + innerWidth + dataWidth + 2 * RIM;
    shapes.push(
      box(0, top - 2 * RIM, whole, BOX + 4 * RIM, "lanSoft", "lan"),
      ...fieldShapes(lanField, 0, top),
      box(lanWidth, top - RIM, whole - lanWidth - RIM, BOX + 2 * RIM, "overlaySoft", "overlay"),
      ...fieldShapes(vxlanField, lanWidth, top),
    );
    x = lanWidth + vxlanWidth;
  }
  shapes.push(
    box(x, top, innerWidth + dataWidth, BOX, "pod", "podEdge"),
    ...fieldShapes(innerField, x, top),
    {
      kind: "line",
      points: [
        { x: x + innerWidth, y: top },
        { x: x + innerWidth, y: top + BOX },
      ],
      paint: "podEdge",
      width: 1,
      dashed: true,
    },
    ...fieldShapes(payload, x + innerWidth, top),
  );
  return {
    width: x + innerWidth + dataWidth + rims * RIM,
    height: top + BOX + rims * RIM,
    boxHeight: BOX + 2 * rims * RIM,
    shapes,
  };
}

/** The example's packets one after another, as wide as they are; null where there is no example. */
export function envelopeShapes(
  selection: Selection,
  topology: Topology,
  paints: ReadonlyMap<string, Paint>,
): Drawn | null {
  const stages = exampleStages(selection);
  if (stages.length === 0) return null;
  const drawn = stages.map((stage) => stageShapes(stage, topology, paints));
  const height = Math.max(...drawn.map((each) => each.height));
  const gap = 64;
  const shapes: Shape[] = [];
  let x = 0;
  for (const [n, stage] of drawn.entries()) {
    // All inner packets stand at the same height; the label stays above its own.
    const dy = (height - stage.height) / 2;
    for (const shape of stage.shapes)
      shapes.push(
        shape.kind === "line"
          ? { ...shape, points: shape.points.map((point) => ({ x: point.x + x, y: point.y + dy })) }
          : { ...shape, x: shape.x + x, y: shape.y + dy },
      );
    x += stage.width;
    if (n === drawn.length - 1) continue;
    const middle = height / 2 + 13;
    shapes.push({
      kind: "line",
      points: [
        { x: x + 10, y: middle },
        { x: x + gap - 10, y: middle },
      ],
      paint: "ink",
      width: 3,
      arrow: true,
    });
    x += gap;
  }
  return { width: x, height, boxHeight: drawn.at(-1)!.boxHeight, shapes };
}
