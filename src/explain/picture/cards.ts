/**
 * Owns what each box of a picture looks like inside: a node with its pods, its VTEP and its socket on the
 * LAN, a Service, the ways in. Each is composed at the origin and says where lines meet it; where the
 * boxes stand is ELK's business. Pure.
 */
import type { TopologyNode, TopologyPod, TopologyService } from "../topology.js";
import { fitted, textWidth } from "./measure.js";
import type { Paint, Point, Shape, TextShape } from "./scene.js";
import { shownPods } from "./selection.js";

/** A box, with the points on its left and right edge where lines meet it, from its top left. */
export interface Card {
  width: number;
  height: number;
  shapes: Shape[];
  /** By port: a Service's key, a pod and a Service. */
  west: Record<string, number>;
  east: Record<string, number>;
  anchors: Record<string, Point>;
}

const PAD = 14;
const SIZE = 13;
const SMALL = 11;

const HEADER = 34;
const POD_WIDTH = 226;
const POD_HEIGHT = 42;
const POD_GAP = 8;
const CABLE = 44;
const VTEP_WIDTH = 206;
const VTEP_HEIGHT = 126;
/** The node's socket on the LAN stands half outside. */
const SOCKET_WIDTH = 128;
const SOCKET_HEIGHT = 50;
export const SOCKET_OUTSIDE = SOCKET_WIDTH / 2;

/** Lines of text below one another. */
function text(x: number, y: number, value: string, more: Partial<TextShape> = {}): TextShape {
  return { kind: "text", x, y, text: value, size: SIZE, paint: "ink", ...more };
}

/** A pod's ports: ":80", ":80 :443". */
function portsText({ ports }: TopologyPod): string {
  const shown = ports.slice(0, 2).map(({ protocol, l4Port }) => {
    const suffix = protocol === "TCP" ? "" : `/${protocol.toLowerCase()}`;
    return `:${l4Port}${suffix}`;
  });
  return [...shown, ...(ports.length > 2 ? ["…"] : [])].join(" ");
}

/** A Service that leads to a pod, with its place among the colours. */
export interface Incoming {
  service: string;
  paint: Paint;
}

/** Name of the port where a Service's line meets a pod. */
export function podPort(pod: string, service: string): string {
  return `${pod} ${service}`;
}

/** Name of the port of a node's own address, where it is an endpoint itself. */
export function hostPort(service: string): string {
  return `host ${service}`;
}

/**
 * A node: pods at the left, its VTEP in the middle, its socket on the LAN at the right. `incoming` says which
 * Services lead to a pod (by its key), `toHost` which to the node itself.
 */
export function nodeCard(
  node: TopologyNode,
  incoming: ReadonlyMap<string, readonly Incoming[]>,
  toHost: readonly Incoming[],
  faults: readonly string[],
): Card {
  const pods = shownPods(node);
  const podsHeight = Math.max(0, pods.length * (POD_HEIGHT + POD_GAP) - POD_GAP);
  const inner = Math.max(podsHeight, VTEP_HEIGHT);
  const width = PAD + POD_WIDTH + CABLE + VTEP_WIDTH + CABLE + SOCKET_WIDTH - SOCKET_OUTSIDE;
  const height = HEADER + inner + PAD;
  const ref = `node:${node.name}`;
  const vtepX = PAD + POD_WIDTH + CABLE;
  const middle = HEADER + inner / 2;
  const socketX = vtepX + VTEP_WIDTH + CABLE;
  const west: Record<string, number> = {};
  const anchors: Record<string, Point> = {
    [`node:${node.name}`]: { x: width / 2, y: HEADER / 2 },
    [`vtep:${node.name}`]: { x: vtepX + 7, y: middle },
    [`lan:${node.name}`]: { x: socketX + SOCKET_WIDTH / 2, y: middle },
  };
  const shapes: Shape[] = [
    {
      kind: "rect",
      ref,
      x: 0,
      y: 0,
      width,
      height,
      radius: 10,
      fill: "card",
      stroke: "edge",
      strokeWidth: 1.5,
    },
    text(PAD, 23, node.name, { bold: true, size: 15, ref }),
  ];
  const badge = faults.length > 0 ? faults[0]! : node.ready ? "" : "not ready";
  if (badge !== "")
    shapes.push(
      text(vtepX + VTEP_WIDTH, 23, badge, { anchor: "end", size: SMALL, paint: "fault", bold: true, ref }),
    );

  const podsTop = HEADER + (inner - podsHeight) / 2;
  if (pods.length === 0)
    shapes.push(text(PAD + POD_WIDTH / 2, middle + 4, "no pods", { anchor: "middle", paint: "muted" }));
  for (const [n, pod] of pods.entries()) {
    const y = podsTop + n * (POD_HEIGHT + POD_GAP);
    const centre = y + POD_HEIGHT / 2;
    const lines = incoming.get(pod.key) ?? [];
    for (const [k, { service }] of lines.entries())
      west[podPort(pod.key, service)] = y + ((k + 1) * POD_HEIGHT) / (lines.length + 1);
    anchors[`pod:${pod.key}`] = { x: PAD + POD_WIDTH - 4, y: centre };
    shapes.push(
      {
        kind: "line",
        ref: `cable:${pod.key}`,
        points: [
          { x: PAD + POD_WIDTH, y: centre },
          { x: vtepX, y: Math.min(Math.max(centre, HEADER + 12), HEADER + inner - 12) },
        ],
        paint: "podEdge",
        width: 3,
      },
      ...podShapes(pod, PAD, y, lines),
    );
  }
  if (toHost.length > 0)
    for (const [k, { service }] of toHost.entries())
      west[hostPort(service)] = 8 + ((k + 1) * (HEADER - 12)) / (toHost.length + 1);

  shapes.push(
    {
      kind: "line",
      ref: `link:${node.name}`,
      points: [
        { x: vtepX + VTEP_WIDTH, y: middle },
        { x: socketX, y: middle },
      ],
      paint: "overlay",
      width: 5,
    },
    ...vtepShapes(node, vtepX, HEADER, inner),
    ...socketShapes(node, socketX, middle),
  );
  return { width, height, shapes, west, east: {}, anchors };
}

function podShapes(pod: TopologyPod, x: number, y: number, lines: readonly Incoming[]): Shape[] {
  const ref = `pod:${pod.key}`;
  const ports = portsText(pod);
  const box: Shape = {
    kind: "rect",
    ref,
    x,
    y,
    width: POD_WIDTH,
    height: POD_HEIGHT,
    radius: 6,
    fill: "pod",
    stroke: pod.ready ? "podEdge" : "fault",
    strokeWidth: 1.5,
    dashed: !pod.ready,
  };
  const stripe = lines.map(
    ({ paint }, n): Shape => ({
      kind: "rect",
      ref,
      x: x + 1,
      y: y + 4 + (n * (POD_HEIGHT - 8)) / lines.length,
      width: 5,
      height: (POD_HEIGHT - 8) / lines.length,
      radius: 0,
      fill: paint,
    }),
  );
  return [
    box,
    ...stripe,
    text(x + 12, y + 17, fitted(pod.name, POD_WIDTH - 20, SIZE), { ref }),
    text(x + 12, y + 34, pod.address, { size: 12, bold: true, ref }),
    text(x + 16 + textWidth(pod.address, 12, true), y + 34, ports, { size: 12, paint: "muted", ref }),
  ];
}

function vtepShapes(node: TopologyNode, x: number, y: number, height: number): Shape[] {
  const ref = `vtep:${node.name}`;
  const { vtep, blocks } = node;
  const top = y + (height - VTEP_HEIGHT) / 2;
  const box: Shape = {
    kind: "rect",
    ref,
    x,
    y,
    width: VTEP_WIDTH,
    height,
    radius: 6,
    fill: "overlaySoft",
    stroke: "overlay",
    strokeWidth: 2,
    dashed: vtep === null,
  };
  if (vtep === null)
    return [
      box,
      text(x + VTEP_WIDTH / 2, y + height / 2, "no VTEP yet", { anchor: "middle", paint: "muted" }),
    ];
  const left = x + 12;
  const shown = blocks.slice(0, 1).flatMap((block): Shape[] => [
    text(left, top + 94, block.cidr, { size: 12, bold: true, ref }),
    text(x + VTEP_WIDTH - 12, top + 94, blocks.length > 1 ? `+${blocks.length - 1}` : "", {
      size: SMALL,
      anchor: "end",
      paint: "muted",
      ref,
    }),
    {
      kind: "rect",
      x: left,
      y: top + 103,
      width: 76,
      height: 8,
      radius: 4,
      fill: "paper",
      stroke: "podEdge",
      strokeWidth: 1,
    },
    {
      kind: "rect",
      ref: `block:${block.cidr}`,
      x: left,
      y: top + 103,
      width: Math.max(4, (76 * block.used) / block.size),
      height: 8,
      radius: 4,
      fill: "podEdge",
    },
    text(left + 84, top + 111, `${block.used} of ${block.size} in use`, { size: SMALL, paint: "muted", ref }),
  ]);
  return [
    box,
    text(left, top + 20, "VXLAN device (VTEP)", { bold: true, ref }),
    text(left, top + 40, "podwire0", { size: SMALL, paint: "muted", ref }),
    text(left + 62, top + 40, vtep.tunnelAddress, { size: 12, bold: true, ref }),
    text(left, top + 58, "MAC", { size: SMALL, paint: "muted", ref }),
    text(left + 62, top + 58, vtep.mac, { size: SMALL, ref }),
    text(left, top + 77, "addresses of its pods", { size: SMALL, paint: "muted", ref }),
    ...shown,
  ];
}

function socketShapes(node: TopologyNode, x: number, middle: number): Shape[] {
  const { name, address, vtep } = node;
  const ref = `lan:${name}`;
  const centre = x + SOCKET_WIDTH / 2;
  return [
    ...ownedShapes(node, x, middle + SOCKET_HEIGHT / 2),
    {
      kind: "rect",
      ref,
      x,
      y: middle - SOCKET_HEIGHT / 2,
      width: SOCKET_WIDTH,
      height: SOCKET_HEIGHT,
      radius: 6,
      fill: "lanSoft",
      stroke: "lan",
      strokeWidth: 2,
    },
    text(centre, middle - 3, address, { anchor: "middle", bold: true, size: SIZE, ref }),
    text(centre, middle + 14, vtep === null ? "on the LAN" : `UDP port ${vtep.l4Port}`, {
      anchor: "middle",
      size: SMALL,
      paint: "muted",
      ref,
    }),
  ];
}

/** Lines of load-balancer addresses below a socket. */
const OWNED_LINES = 3;

/** A plate that hangs from a socket: the load-balancer addresses that the node answers for. */
function ownedShapes({ name, owns }: TopologyNode, x: number, top: number): Shape[] {
  if (owns.length === 0) return [];
  const listed = owns.length > OWNED_LINES ? OWNED_LINES - 1 : owns.length;
  const centre = x + SOCKET_WIDTH / 2;
  const line = (n: number, content: string, more: Parameters<typeof text>[3]) =>
    text(centre, top + 15 + n * 14, content, { anchor: "middle", size: SMALL, ...more });
  const lines = [
    line(0, "answers for", { paint: "muted" }),
    ...owns.slice(0, listed).map((owned, n) => line(n + 1, owned, { bold: true, ref: `vip:${owned}` })),
    ...(owns.length > listed
      ? [line(listed + 1, `and ${owns.length - listed} more`, { paint: "muted" })]
      : []),
  ];
  return [
    {
      kind: "rect",
      ref: `lan:${name}`,
      x: x + 6,
      y: top - 6,
      width: SOCKET_WIDTH - 12,
      height: 6 + 15 + (lines.length - 1) * 14 + 6,
      radius: 6,
      fill: "paper",
      stroke: "lan",
      strokeWidth: 1,
    },
    ...lines,
  ];
}

const MINI_WIDTH = 184;
const MINI_HEIGHT = 66;
const DOT = 9;
/** Dots of a small node in a line. */
const DOTS = 14;

/** A node of many: address, block, a dot for each pod. */
export function smallNodeCard(
  node: TopologyNode,
  paintOf: (pod: TopologyPod) => Paint,
  faults: readonly string[],
): Card {
  const ref = `node:${node.name}`;
  const pods = shownPods(node);
  const fits = pods.length > 2 * DOTS ? 2 * DOTS - 3 : pods.length;
  const rows = Math.ceil(Math.min(pods.length, 2 * DOTS) / DOTS);
  const height = MINI_HEIGHT + Math.max(0, rows - 1) * (DOT + 3);
  const bad = !node.ready || faults.length > 0;
  const shapes: Shape[] = [
    {
      kind: "rect",
      ref,
      x: 0,
      y: 0,
      width: MINI_WIDTH,
      height,
      radius: 7,
      fill: "card",
      stroke: bad ? "fault" : "edge",
      strokeWidth: 1.5,
    },
    text(9, 17, fitted(node.name, MINI_WIDTH - 18, 12, true), { size: 12, bold: true, ref }),
    text(9, 32, node.address, { size: SMALL, ref }),
    text(MINI_WIDTH - 9, 32, node.blocks[0]?.cidr ?? "", { size: 10, anchor: "end", paint: "muted", ref }),
  ];
  for (const [n, pod] of pods.slice(0, fits).entries())
    shapes.push({
      kind: "rect",
      ref: `pod:${pod.key}`,
      x: 9 + (n % DOTS) * (DOT + 3),
      y: 43 + Math.floor(n / DOTS) * (DOT + 3),
      width: DOT,
      height: DOT,
      radius: 3,
      fill: paintOf(pod),
    });
  if (pods.length > fits)
    shapes.push(
      text(9 + (fits % DOTS) * (DOT + 3), 52 + DOT + 3, `+${pods.length - fits}`, {
        size: SMALL,
        paint: "muted",
      }),
    );
  const centre = { x: MINI_WIDTH / 2, y: height / 2 };
  return {
    width: MINI_WIDTH,
    height,
    shapes,
    west: {},
    east: {},
    anchors: Object.fromEntries([
      ...["node", "vtep", "lan"].map((each) => [`${each}:${node.name}`, centre] as const),
      ...pods.slice(0, fits).map(
        ({ key }, n) =>
          [
            `pod:${key}`,
            {
              x: 9 + (n % DOTS) * (DOT + 3) + DOT / 2,
              y: 43 + Math.floor(n / DOTS) * (DOT + 3) + DOT / 2,
            },
          ] as const,
      ),
    ]),
  };
}

const SERVICE_WIDTH = 232;

/** A Service with its address and ports. */
export function serviceCard(service: TopologyService, paint: Paint): Card {
  const ref = `service:${service.key}`;
  const ready = service.backends.filter((backend) => backend.ready).length;
  const ports = service.ports.slice(0, 3);
  const height = 58 + ports.length * 17 + (ready === 0 ? 17 : 0);
  const shapes: Shape[] = [
    {
      kind: "rect",
      ref,
      x: 0,
      y: 0,
      width: SERVICE_WIDTH,
      height,
      radius: 8,
      fill: "card",
      stroke: paint,
      strokeWidth: 2.5,
    },
    { kind: "rect", ref, x: 0, y: 0, width: 9, height, radius: 4, fill: paint },
    text(18, 20, fitted(service.name, SERVICE_WIDTH - 26, SIZE, true), { bold: true, ref }),
    text(18, 40, "ClusterIP", { size: SMALL, paint: "muted", ref }),
    text(76, 40, service.clusterIp, { size: SIZE, bold: true, paint, ref }),
    ...ports.flatMap((port, n): Shape[] => {
      const name = `${port.protocol === "TCP" ? "" : `${port.protocol} `}port ${port.port}`;
      return [text(18, 59 + n * 17, `${name} → pods' port ${port.targetPort}`, { size: 12, ref })];
    }),
    ...(ready === 0
      ? [text(18, 59 + ports.length * 17, "no endpoint", { size: 12, paint: "fault", bold: true, ref })]
      : []),
  ];
  const middle = height / 2;
  return {
    width: SERVICE_WIDTH,
    height,
    shapes,
    west: { in: middle },
    east: { out: middle },
    anchors: { [ref]: { x: SERVICE_WIDTH / 2, y: middle } },
  };
}

const VIP_WIDTH = 196;

/** A Service's addresses on the LAN, with who answers for them. */
export function loadBalancerCard(service: TopologyService, paint: Paint): Card {
  const rows = service.loadBalancer;
  const height = rows.length === 0 ? 48 : 30 + rows.length * 36;
  const ref = `service:${service.key}`;
  const ports = service.ports
    .slice(0, 2)
    .map(({ port }) => `:${port}`)
    .join(" ");
  const shapes: Shape[] = [
    {
      kind: "rect",
      ref,
      x: 0,
      y: 0,
      width: VIP_WIDTH,
      height,
      radius: 8,
      fill: "lanSoft",
      stroke: paint,
      strokeWidth: 2.5,
      dashed: rows.length === 0,
    },
    text(12, 19, rows.length === 0 ? "<pending>" : "address on the LAN", {
      size: SMALL,
      paint: "muted",
      ref,
    }),
    ...(rows.length === 0 ? [text(12, 37, "no address yet", { size: 12, ref })] : []),
    ...rows.flatMap(({ address, owner }, n): Shape[] => [
      text(12, 38 + n * 36, `${address} ${ports}`, { bold: true, paint, ref: `vip:${address}` }),
      text(12, 54 + n * 36, owner === null ? "" : fitted(`${owner} answers`, VIP_WIDTH - 20, SMALL), {
        size: SMALL,
        ref: `vip:${address}`,
      }),
    ]),
  ];
  const anchors = Object.fromEntries(
    rows.map(({ address }, n) => [`vip:${address}`, { x: VIP_WIDTH / 2, y: 36 + n * 36 }]),
  );
  return {
    width: VIP_WIDTH,
    height,
    shapes,
    west: { in: height / 2 },
    east: { out: height / 2 },
    anchors,
  };
}

const DOOR_WIDTH = 206;
const CHIP_WIDTH = 76;
const CHIP_HEIGHT = 26;
/** Addresses of nodes that are listed. */
const DOOR_ADDRESSES = 8;

/** Every node's address with the ports at which Services are reached there. */
export function doorCard(
  nodes: readonly TopologyNode[],
  services: readonly { service: TopologyService; paint: Paint }[],
): Card {
  const chips = services.flatMap(({ service, paint }) =>
    service.ports
      .filter(({ nodePort }) => nodePort !== 0)
      .map(({ nodePort, protocol }) => ({ service, paint, nodePort, protocol })),
  );
  const listed = nodes.length > DOOR_ADDRESSES ? DOOR_ADDRESSES - 2 : nodes.length;
  const lines = [
    ...nodes.slice(0, listed).map(({ address }) => address),
    ...(nodes.length > listed ? ["…", nodes.at(-1)!.address] : []),
  ];
  const top = 44;
  const body = Math.max(lines.length * 18, chips.length * (CHIP_HEIGHT + 10) - 10);
  const height = top + body + 14;
  const east: Record<string, number> = {};
  // What comes from a load-balancer address goes straight to its port.
  const west: Record<string, number> = {};
  const shapes: Shape[] = [
    {
      kind: "rect",
      ref: "nodes",
      x: 0,
      y: 0,
      width: DOOR_WIDTH,
      height,
      radius: 8,
      fill: "lanSoft",
      stroke: "lan",
      strokeWidth: 2,
    },
    text(12, 20, nodes.length === 1 ? "The node" : `Any of the ${nodes.length} nodes`, { bold: true }),
    text(12, 36, "NodePort", { size: SMALL, paint: "muted" }),
    ...lines.map((line, n) =>
      text(12, top + 14 + (body - lines.length * 18) / 2 + n * 18, line, { size: 12 }),
    ),
  ];
  for (const [n, { service, paint, nodePort, protocol }] of chips.entries()) {
    const y = top + (body - (chips.length * (CHIP_HEIGHT + 10) - 10)) / 2 + n * (CHIP_HEIGHT + 10);
    const ref = `service:${service.key}`;
    east[doorPort(service.key, nodePort, protocol)] = y + CHIP_HEIGHT / 2;
    if (service.type === "LoadBalancer") west[service.key] ??= y + CHIP_HEIGHT / 2;
    shapes.push(
      {
        kind: "rect",
        ref,
        x: DOOR_WIDTH - CHIP_WIDTH,
        y,
        width: CHIP_WIDTH,
        height: CHIP_HEIGHT,
        radius: 5,
        fill: paint,
      },
      text(DOOR_WIDTH - CHIP_WIDTH / 2, y + 18, `:${nodePort}`, {
        anchor: "middle",
        bold: true,
        paint: "onColour",
        ref,
      }),
    );
  }
  return {
    width: DOOR_WIDTH,
    height,
    shapes,
    west: { in: height / 2, ...west },
    east,
    anchors: { nodes: { x: DOOR_WIDTH / 2, y: height / 2 } },
  };
}

/** Name of the port where a NodePort leaves the nodes' box. */
export function doorPort(service: string, nodePort: number, protocol: string): string {
  return `${service} ${protocol} ${nodePort}`;
}

const CLIENT_WIDTH = 132;

/**
 * Somebody who asks: a pod or node of the cluster (`inside`), or a machine outside. `exits` name the lines
 * that leave it; from outside with none of them it is not answered.
 */
export function clientCard(inside: boolean, exits: readonly string[]): Card {
  const ref = inside ? "inside" : "client";
  const height = 92;
  const refused = !inside && exits.length === 0;
  const centre = CLIENT_WIDTH / 2;
  const screen: Shape[] = inside
    ? [
        {
          kind: "rect",
          ref,
          x: centre - 36,
          y: 10,
          width: 32,
          height: 24,
          radius: 5,
          fill: "pod",
          stroke: "podEdge",
          strokeWidth: 2,
        },
        {
          kind: "rect",
          ref,
          x: centre + 4,
          y: 10,
          width: 32,
          height: 24,
          radius: 5,
          fill: "card",
          stroke: "edge",
          strokeWidth: 2,
        },
      ]
    : [
        {
          kind: "rect",
          ref,
          x: centre - 22,
          y: 8,
          width: 44,
          height: 28,
          radius: 3,
          fill: "lanSoft",
          stroke: "ink",
          strokeWidth: 2,
        },
        { kind: "rect", ref, x: centre - 30, y: 37, width: 60, height: 5, radius: 2, fill: "ink" },
      ];
  const cross: Shape[] = refused
    ? [
        line([CLIENT_WIDTH - 34, 24, CLIENT_WIDTH + 4, 24], "lan", 3),
        line([CLIENT_WIDTH - 6, 13, CLIENT_WIDTH + 16, 35], "fault", 4),
        line([CLIENT_WIDTH + 16, 13, CLIENT_WIDTH - 6, 35], "fault", 4),
      ]
    : [];
  return {
    width: CLIENT_WIDTH,
    height,
    shapes: [
      ...screen,
      text(centre, 62, inside ? "any pod" : "a computer", { anchor: "middle", bold: true, ref }),
      text(centre, 79, inside ? "or node" : "on the LAN", { anchor: "middle", ref }),
      ...cross,
    ],
    west: {},
    east: Object.fromEntries(exits.map((name, n) => [name, 24 + (n - (exits.length - 1) / 2) * 9])),
    anchors: { [ref]: { x: centre, y: 24 } },
  };
}

function line(
  [x1, y1, x2, y2]: readonly [number, number, number, number],
  paint: Paint,
  width: number,
): Shape {
  return {
    kind: "line",
    points: [
      { x: x1, y: y1 },
      { x: x2, y: y2 },
    ],
    paint,
    width,
  };
}

const WORKLOAD_WIDTH = 190;

/** The pods of a workload, where there are too many to draw each. */
export function workloadCard(name: string, pods: number, nodes: number, incoming: readonly Incoming[]): Card {
  const ref = `workload:${name}`;
  const height = Math.max(48, incoming.length * 14 + 14);
  return {
    width: WORKLOAD_WIDTH,
    height,
    shapes: [
      {
        kind: "rect",
        ref,
        x: 0,
        y: 0,
        width: WORKLOAD_WIDTH,
        height,
        radius: 6,
        fill: "pod",
        stroke: "podEdge",
        strokeWidth: 1.5,
      },
      text(12, height / 2 - 4, fitted(name, WORKLOAD_WIDTH - 20, SIZE, true), { bold: true, ref }),
      text(
        12,
        height / 2 + 14,
        `${pods} ${pods === 1 ? "pod" : "pods"} on ${nodes} ${nodes === 1 ? "node" : "nodes"}`,
        {
          size: 12,
          paint: "muted",
          ref,
        },
      ),
    ],
    west: Object.fromEntries(
      incoming.map(({ service }, k) => [service, ((k + 1) * height) / (incoming.length + 1)]),
    ),
    east: { out: height / 2 },
    anchors: { [ref]: { x: WORKLOAD_WIDTH / 2, y: height / 2 } },
  };
}
