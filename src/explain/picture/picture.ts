/**
 * Draws a topology: chooses what is shown, composes the boxes, has ELK lay them out, and adds what is the
 * same in every picture (title, LAN, legend, the packet below). From left to right:
 *
 *   who asks → load-balancer addresses → NodePorts → Services → pods in their nodes → VTEP → LAN
 *
 * Up to eight nodes and 64 pods are drawn one by one; more are small cards in a frame, and Services lead
 * to workloads. Must not know files, commands or the page.
 */
import type { Topology, TopologyNode, TopologyPod } from "../topology.js";
import {
  type Card,
  clientCard,
  doorCard,
  doorPort,
  hostPort,
  type Incoming,
  loadBalancerCard,
  nodeCard,
  podPort,
  SOCKET_OUTSIDE,
  serviceCard,
  smallNodeCard,
  workloadCard,
} from "./cards.js";
import { type Drawn, envelopeShapes } from "./envelope.js";
import { type Box, type Link, layered, packed } from "./layout.js";
import { textWidth } from "./measure.js";
import { moved, type Paint, type Point, type Scene, type Shape, servicePaint } from "./scene.js";
import { type Selection, type SelectionOptions, select, shownPods } from "./selection.js";

const MARGIN = 28;
const TITLE_HEIGHT = 64;
/** From a node's socket to the cable of the LAN, and the cable itself. */
const TO_LAN = 34;
const LAN_WIDTH = 76;
const TUBE_WIDTH = 34;
/** From the left edge of the cable to the tube in it. */
const TO_TUBE = 10;

/** Pictures and pages show Services in this order of colours. */
export function servicePaints(selection: Selection): Map<string, Paint> {
  return new Map(selection.services.map(({ key }, n) => [key, servicePaint(n)]));
}

/** Draws what `options` choose of a topology. */
export async function drawTopology(topology: Topology, options: SelectionOptions = {}): Promise<Scene> {
  const selection = select(topology, options);
  const paints = servicePaints(selection);
  const body = selection.grouped
    ? await groupedBody(topology, selection, paints)
    : await detailedBody(topology, selection, paints);
  return framed(topology, selection, paints, body);
}

/** What lies between title and legend. */
interface Body {
  width: number;
  height: number;
  shapes: Shape[];
  anchors: Record<string, Point>;
  /** The lower end of the LAN. */
  lan: Point;
}

// ---- the way to the Services: the same whether nodes are drawn one by one or not ---------------------------

interface Parts {
  boxes: Box[];
  links: Link[];
}

/** Who asks, load-balancer addresses, NodePorts and Services, with the lines between them. */
function entrance({ step, services, nodes }: Selection, paints: ReadonlyMap<string, Paint>): Parts {
  const boxes: Box[] = [];
  const links: Link[] = [];
  if (services.length === 0) return { boxes, links };
  const painted = services.map((service) => ({ service, paint: paints.get(service.key)! }));
  const balanced = painted.filter(({ service }) => service.type === "LoadBalancer");
  const ported = painted.filter(
    ({ service }) => service.type !== "ClusterIP" && service.ports.some(({ nodePort }) => nodePort !== 0),
  );
  const inner = painted.filter(({ service }) => service.type === "ClusterIP");
  const fromOutside = balanced.length + ported.length > 0;
  const balancedOnly = balanced.length > 0 && balanced.length === ported.length;
  const addressed = balanced.filter(({ service }) => service.loadBalancer.length > 0);
  const exits = [
    ...addressed.map(({ service }) => service.key),
    ...(ported.length > 0 && !balancedOnly ? ["door"] : []),
  ];
  if (fromOutside || step === "clusterip")
    boxes.push({ id: "client", card: clientCard(false, exits), column: "first" });
  if (inner.length > 0)
    boxes.push({
      id: "inside",
      card: clientCard(
        true,
        inner.map(({ service }) => service.key),
      ),
      column: "first",
    });
  for (const { service, paint } of balanced) {
    boxes.push({ id: `vip ${service.key}`, card: loadBalancerCard(service, paint) });
    if (service.loadBalancer.length > 0)
      links.push(link("client", service.key, `vip ${service.key}`, "in", { paint, ref: service.key }));
  }
  if (ported.length > 0) {
    boxes.push({ id: "door", card: doorCard(nodes, ported) });
    if (!balancedOnly) links.push(link("client", "door", "door", "in", { paint: "lan", width: 4 }));
  }
  for (const { service, paint } of painted) {
    const id = `service ${service.key}`;
    boxes.push({ id, card: serviceCard(service, paint) });
    const ref = service.key;
    if (service.type === "ClusterIP") links.push(link("inside", service.key, id, "in", { paint, ref }));
    const doors = service.ports.filter(({ nodePort }) => service.type !== "ClusterIP" && nodePort !== 0);
    for (const { nodePort, protocol } of doors)
      links.push(
        link("door", doorPort(service.key, nodePort, protocol), id, "in", { paint, ref, arrow: true }),
      );
    if (service.type === "LoadBalancer" && service.loadBalancer.length > 0) {
      // The walkthrough's chain: load-balancer address, NodePort, ClusterIP, pod.
      if (doors.length > 0)
        links.push(link(`vip ${service.key}`, "out", "door", service.key, { paint, ref }));
      else links.push(link(`vip ${service.key}`, "out", id, "in", { paint, ref, arrow: true }));
    }
  }
  return { boxes, links };
}

function link(
  fromBox: string,
  fromPort: string,
  toBox: string,
  toPort: string,
  more: { paint: Paint; ref?: string; width?: number; arrow?: boolean; dashed?: boolean },
): Link {
  const { ref, ...rest } = more;
  return {
    id: `${fromBox} ${fromPort} > ${toBox} ${toPort}`,
    from: { box: fromBox, port: fromPort },
    to: { box: toBox, port: toPort },
    ...rest,
    ...(ref === undefined ? {} : { ref: `flow:${ref}` }),
  };
}

// ---- nodes one by one --------------------------------------------------------------------------------------

async function detailedBody(
  topology: Topology,
  selection: Selection,
  paints: ReadonlyMap<string, Paint>,
): Promise<Body> {
  const { nodes, services } = selection;
  const { boxes, links } = entrance(selection, paints);
  const podLines = new Map<string, Incoming[]>();
  const hostLines = new Map<string, Incoming[]>();
  const add = (lines: Map<string, Incoming[]>, key: string, service: string) =>
    lines.set(key, [...(lines.get(key) ?? []), { service, paint: paints.get(service)! }]);
  const shown = new Map(nodes.flatMap((node) => shownPods(node).map(({ key }) => [key, node.name])));
  for (const { key, backends } of services)
    for (const { pod, address, ready } of backends) {
      const more = { paint: paints.get(key)!, ref: key, arrow: true, dashed: !ready };
      const host = nodes.find((node) => node.address === address);
      if (pod !== null && shown.has(pod)) {
        add(podLines, pod, key);
        links.push(link(`service ${key}`, "out", `node ${shown.get(pod)}`, podPort(pod, key), more));
      } else if (host !== undefined) {
        add(hostLines, host.name, key);
        links.push(link(`service ${key}`, "out", `node ${host.name}`, hostPort(key), more));
      }
    }
  for (const node of nodes)
    boxes.push({
      id: `node ${node.name}`,
      card: nodeCard(node, podLines, hostLines.get(node.name) ?? [], faultsAt(topology, node)),
      column: "last",
    });
  const layout = await layered(boxes, links);
  const shapes = placedShapes(boxes, links, layout);
  const anchors = placedAnchors(boxes, layout);
  const wire = lanShapes(topology, nodes, layout.width + SOCKET_OUTSIDE + TO_LAN, layout.height, anchors);
  const lanX = layout.width + SOCKET_OUTSIDE + TO_LAN + TO_TUBE + TUBE_WIDTH / 2;
  return {
    lan: { x: lanX, y: layout.height },
    width: layout.width + SOCKET_OUTSIDE + TO_LAN + LAN_WIDTH,
    height: layout.height,
    shapes: [...wire, ...shapes],
    anchors: { ...anchors, lan: { x: lanX, y: layout.height / 2 } },
  };
}

/** What is wrong at a node, for its card: one line for all the nodes that its table misses. */
function faultsAt({ faults }: Topology, { name }: TopologyNode): string[] {
  const own = faults.filter(({ at }) => at === name);
  return own.length === 0 ? [] : [`table wrong for ${own.map(({ about }) => about).join(", ")}`];
}

/** The cable of the LAN at the right with the tube of VXLAN in it, and every node's way into both. */
function lanShapes(
  { overlay }: Topology,
  nodes: readonly TopologyNode[],
  x: number,
  height: number,
  anchors: Readonly<Record<string, Point>>,
): Shape[] {
  const tubeX = x + TO_TUBE;
  const centre = tubeX + TUBE_WIDTH / 2;
  const plugs = nodes.flatMap((node): Shape[] => {
    const at = anchors[`lan:${node.name}`];
    if (at === undefined) return [];
    const run = (to: number, paint: Paint, width: number): Shape => ({
      kind: "line",
      ref: `wire:${node.name}`,
      points: [at, { x: to, y: at.y }],
      paint,
      width,
    });
    return [run(x + 2, "lan", 16), ...(node.vtep === null ? [] : [run(centre, "overlay", 6)])];
  });
  // In the tube between one node's way in and the next.
  const heights = nodes.flatMap(({ name }) => anchors[`lan:${name}`]?.y ?? []).sort((a, b) => a - b);
  const gaps = heights.slice(1).map((y, n) => (y + heights[n]!) / 2);
  const turned = (text: string, at: Point, bold: boolean): Shape => ({
    kind: "text",
    ...at,
    text,
    size: 13,
    bold,
    anchor: "middle",
    paint: "ink",
    turned: true,
  });
  const port = overlay?.l4Port ?? nodes.find(({ vtep }) => vtep !== null)?.vtep?.l4Port;
  return [
    {
      kind: "rect",
      ref: "lan",
      x,
      y: 0,
      width: LAN_WIDTH,
      height,
      radius: 22,
      fill: "lanSoft",
      stroke: "lan",
      strokeWidth: 2,
    },
    {
      kind: "rect",
      ref: "vxlan",
      x: tubeX,
      y: 14,
      width: TUBE_WIDTH,
      height: height - 28,
      radius: TUBE_WIDTH / 2,
      fill: "overlaySoft",
      stroke: "overlay",
      strokeWidth: 2,
    },
    ...plugs,
    ...gaps.map((y) => turned(vxlanName(overlay), { x: centre - 5, y }, true)),
    turned(
      port === undefined ? "LAN" : `LAN: datagrams to UDP port ${port}, with the pods' packets inside`,
      { x: tubeX + TUBE_WIDTH + 11, y: height / 2 },
      false,
    ),
  ];
}

function vxlanName(overlay: Topology["overlay"]): string {
  return overlay === null ? "VXLAN" : `VXLAN, VNI ${overlay.vni}`;
}

// ---- many nodes -------------------------------------------------------------------------------------------

const FRAME = 26;

async function groupedBody(
  topology: Topology,
  selection: Selection,
  paints: ReadonlyMap<string, Paint>,
): Promise<Body> {
  const { nodes, services, step } = selection;
  const workloads = workloadsOf(nodes);
  const { boxes, links } = entrance(selection, paints);
  const workloadOfPod = new Map(
    workloads.flatMap((each) => each.pods.map(({ key }) => [key, each] as const)),
  );
  const incoming = new Map<Workload, Incoming[]>();
  for (const { key, backends } of services) {
    const behind = new Set(backends.flatMap(({ pod }) => (pod && workloadOfPod.get(pod)) || []));
    for (const workload of behind)
      incoming.set(workload, [...(incoming.get(workload) ?? []), { service: key, paint: paints.get(key)! }]);
  }
  const colours = podPaints(workloads, incoming);
  const small: Box[] = nodes.map((node) => ({
    id: node.name,
    card: smallNodeCard(node, ({ key }) => colours.get(key) ?? "muted", faultsAt(topology, node)),
  }));
  const grid = await packed(small, step === "overlay" ? 1.7 : 1.1);
  const gridShapes = placedShapes(small, [], grid);
  const gridAnchors = placedAnchors(small, grid);

  for (const [workload, lines] of incoming) {
    const on = new Set(workload.nodes).size;
    const id = `workload ${workload.name}`;
    boxes.push({ id, card: workloadCard(workload.name, workload.pods.length, on, lines) });
    for (const { service, paint } of lines)
      links.push(link(`service ${service}`, "out", id, service, { paint, ref: service, arrow: true }));
    links.push(link(id, "out", "grid", workload.name, { paint: lines[0]!.paint, width: 5, arrow: true }));
  }
  const heads = [...incoming.keys()];
  const region = regionCard(topology, grid, heads);
  boxes.push({ id: "grid", card: region, column: "last" });
  const layout = await layered(boxes, links);
  const at = layout.boxes.get("grid")!;
  const inside = { x: at.x + FRAME, y: at.y + FRAME + REGION_HEAD };
  const anchors = placedAnchors(boxes, layout);
  for (const [name, { x, y }] of Object.entries(gridAnchors))
    anchors[name] = { x: x + inside.x, y: y + inside.y };
  const legend = services.length > 0 ? [] : workloads;
  const workloadLegend = workloadLegendShapes(legend, colours, layout.width, layout.height + 14);
  return {
    lan: { x: at.x + region.width / 2, y: at.y + region.height },
    width: layout.width,
    height: layout.height + workloadLegend.height,
    shapes: [
      ...placedShapes(boxes, links, layout),
      ...moved(gridShapes, inside.x, inside.y),
      ...workloadLegend.shapes,
    ],
    anchors: { ...anchors, lan: { x: at.x + region.width / 2, y: at.y + FRAME / 2 } },
  };
}

interface Workload {
  name: string;
  pods: TopologyPod[];
  /** The node of each pod. */
  nodes: string[];
}

function workloadsOf(nodes: readonly TopologyNode[]): Workload[] {
  const found = new Map<string, Workload>();
  for (const node of nodes)
    for (const pod of shownPods(node)) {
      const namespace = pod.key.slice(0, pod.key.indexOf("/"));
      const name = namespace === "default" ? pod.workload : `${namespace}/${pod.workload}`;
      const workload = found.get(name) ?? { name, pods: [], nodes: [] };
      workload.pods.push(pod);
      workload.nodes.push(node.name);
      found.set(name, workload);
    }
  return [...found.values()].sort((a, b) => b.pods.length - a.pods.length || (a.name < b.name ? -1 : 1));
}

/** Pods have the colour of a Service that leads to them; without Services, one by workload. */
function podPaints(
  workloads: readonly Workload[],
  incoming: ReadonlyMap<Workload, readonly Incoming[]>,
): Map<string, Paint> {
  const paints = new Map<string, Paint>();
  for (const [n, workload] of workloads.entries()) {
    const paint = incoming.size === 0 ? servicePaint(n) : (incoming.get(workload)?.[0]?.paint ?? "edge");
    for (const { key } of workload.pods) paints.set(key, paint);
  }
  return paints;
}

const REGION_HEAD = 30;

/** The frame around many nodes: the LAN, and the VXLAN inside it. */
function regionCard(
  { overlay, nodes }: Topology,
  grid: { width: number; height: number },
  workloads: readonly Workload[],
): Card {
  const width = grid.width + 2 * FRAME;
  const height = grid.height + 2 * FRAME + REGION_HEAD;
  const frame = (inset: number, fill: Paint, stroke: Paint): Shape => ({
    kind: "rect",
    ref: stroke === "lan" ? "lan" : "vxlan",
    x: inset,
    y: inset,
    width: width - 2 * inset,
    height: height - 2 * inset,
    radius: 16 - inset / 2,
    fill,
    stroke,
    strokeWidth: 2,
  });
  const tunnels = nodes.filter(({ vtep }) => vtep !== null).length;
  return {
    width,
    height,
    shapes: [
      frame(0, "lanSoft", "lan"),
      frame(10, "overlaySoft", "overlay"),
      {
        kind: "text",
        x: FRAME,
        y: 35,
        text: `${vxlanName(overlay)}: every one of ${tunnels} nodes reaches every other, inside UDP on the LAN`,
        size: 13,
        bold: true,
        paint: "ink",
      },
    ],
    west: Object.fromEntries(
      workloads.map(({ name }, n) => [name, ((n + 1) * height) / (workloads.length + 1)]),
    ),
    east: {},
    anchors: {},
  };
}

function workloadLegendShapes(
  workloads: readonly Workload[],
  paints: ReadonlyMap<string, Paint>,
  width: number,
  top: number,
): { height: number; shapes: Shape[] } {
  const shapes: Shape[] = [];
  let x = 0;
  let y = top;
  for (const { name, pods } of workloads.slice(0, 16)) {
    const label = `${name}  (${pods.length})`;
    const room = textWidth(label, 12) + 44;
    if (x > 0 && x + room > width) {
      x = 0;
      y += 22;
    }
    shapes.push(
      { kind: "rect", x, y, width: 12, height: 12, radius: 3, fill: paints.get(pods[0]!.key)! },
      { kind: "text", x: x + 18, y: y + 11, text: label, size: 12, paint: "ink" },
    );
    x += room;
  }
  return { height: shapes.length === 0 ? 0 : y - top + 36, shapes };
}

// ---- put together -----------------------------------------------------------------------------------------

type Placed = Awaited<ReturnType<typeof layered>>;

function placedShapes(boxes: readonly Box[], links: readonly Link[], layout: Placed): Shape[] {
  const lines = links.map((each): Shape => {
    const { id, paint, width = 2.5, dashed = false, arrow = false, ref } = each;
    return {
      kind: "line",
      points: layout.links.get(id) ?? [],
      paint,
      width,
      dashed,
      arrow,
      corner: 8,
      ...(ref === undefined ? {} : { ref }),
    };
  });
  const cards = boxes.flatMap(({ id, card }) => {
    const { x, y } = layout.boxes.get(id)!;
    return moved(card.shapes, x, y);
  });
  // Lines over boxes: their ends lie on the boxes' edges.
  return [...cards, ...lines];
}

function placedAnchors(boxes: readonly Box[], layout: Placed): Record<string, Point> {
  const anchors: Record<string, Point> = {};
  for (const { id, card } of boxes) {
    const at = layout.boxes.get(id)!;
    for (const [name, { x, y }] of Object.entries(card.anchors)) anchors[name] = { x: x + at.x, y: y + at.y };
  }
  return anchors;
}

interface Key {
  /** Drawn at the origin, 26 by 14. */
  sign: Shape[];
  label: string;
}

function keysOf({ services, grouped, omitted }: Selection, paints: ReadonlyMap<string, Paint>): Key[] {
  const sign = (fill: Paint, stroke: Paint): Shape[] => [
    { kind: "rect", x: 0, y: 0, width: 26, height: 14, radius: 3, fill, stroke, strokeWidth: 1.5 },
  ];
  const stroke = (paint: Paint, width: number): Shape => ({
    kind: "line",
    points: [
      { x: 0, y: 7 },
      { x: 26, y: 7 },
    ],
    paint,
    width,
  });
  const block: Shape = { kind: "text", x: 1, y: 11, text: "…/26", size: 10, paint: "muted" };
  const dot: Shape = { kind: "rect", x: 9, y: 2, width: 10, height: 10, radius: 3, fill: "muted" };
  return [
    ...(grouped
      ? [
          { sign: [dot], label: "a pod" },
          { sign: [block], label: "addresses of a node's pods" },
        ]
      : [
          { sign: sign("pod", "podEdge"), label: "pod" },
          { sign: sign("overlaySoft", "overlay"), label: "VXLAN device: end of the tunnels" },
        ]),
    { sign: sign("lanSoft", "lan"), label: "the LAN between the nodes" },
    ...(grouped
      ? []
      : [{ sign: [stroke("lan", 12), stroke("overlay", 5)], label: "pods' packets inside UDP" }]),
    ...services.map(({ key, name }) => ({
      sign: [stroke(paints.get(key)!, 3)],
      label: key.startsWith("default/") ? name : key,
    })),
    ...(omitted > 0 ? [{ sign: [], label: `and ${omitted} more Services (choose with --service)` }] : []),
  ];
}

function legendShapes(keys: readonly Key[], width: number): { height: number; shapes: Shape[] } {
  const shapes: Shape[] = [];
  let x = 0;
  let y = 0;
  for (const { sign, label } of keys) {
    const room = 34 + textWidth(label, 12) + 26;
    if (x > 0 && x + room > width) {
      x = 0;
      y += 24;
    }
    shapes.push(...moved(sign, x, y), {
      kind: "text",
      x: x + 34,
      y: y + 11.5,
      text: label,
      size: 12,
      paint: "ink",
    });
    x += room;
  }
  return { height: y + 20, shapes };
}

function framed(
  topology: Topology,
  selection: Selection,
  paints: ReadonlyMap<string, Paint>,
  body: Body,
): Scene {
  const envelope = envelopeShapes(selection, topology, paints);
  const inner = Math.max(body.width, envelope?.width ?? 0, 640, textWidth(selection.subtitle, 14));
  const bodyX = MARGIN + (inner - body.width) / 2;
  const bodyY = MARGIN + TITLE_HEIGHT;
  const legend = legendShapes(keysOf(selection, paints), inner);
  const envelopeY = bodyY + body.height + 30;
  const legendY = envelopeY + (envelope === null ? 0 : envelope.height + 28);
  const shapes: Shape[] = [
    { kind: "text", x: MARGIN, y: MARGIN + 22, text: selection.title, size: 24, bold: true, paint: "ink" },
    { kind: "text", x: MARGIN, y: MARGIN + 45, text: selection.subtitle, size: 14, paint: "muted" },
    ...moved(body.shapes, bodyX, bodyY),
    ...(envelope === null
      ? []
      : [leader(body.lan, bodyX, bodyY, envelope, envelopeY), ...moved(envelope.shapes, MARGIN, envelopeY)]),
    ...moved(legend.shapes, MARGIN, legendY),
  ];
  const anchors = Object.fromEntries(
    Object.entries({ ...body.anchors, lanEnd: body.lan }).map(([name, { x, y }]) => [
      name,
      { x: x + bodyX, y: y + bodyY },
    ]),
  );
  return {
    width: Math.ceil(inner + 2 * MARGIN),
    height: Math.ceil(legendY + legend.height + MARGIN),
    title: `${selection.title}. ${selection.subtitle}`,
    shapes,
    anchors,
  };
}

/** From the LAN to the packet that is drawn below it. */
function leader(lan: Point, bodyX: number, bodyY: number, envelope: Drawn, top: number): Shape {
  const from = { x: lan.x + bodyX, y: lan.y + bodyY };
  const right = MARGIN + envelope.width;
  // Not upon the box's corner.
  const beside = from.x > right + LAN_WIDTH / 2;
  const x = Math.min(from.x, right - 16);
  const middle = top + envelope.height - envelope.boxHeight / 2;
  return {
    kind: "line",
    points: beside
      ? [from, { x: from.x, y: middle }, { x: right + 3, y: middle }]
      : [
          { x, y: from.y },
          { x, y: top + envelope.height - envelope.boxHeight - 3 },
        ],
    paint: "lan",
    width: 3,
    dashed: true,
    arrow: true,
    corner: 10,
  };
}
