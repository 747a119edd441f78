/**
 * Paints a scene as SVG in the page's colours, and upon it what goes on: traffic on links and Services, the
 * path of a traced packet. Decides nothing about where things are.
 */
import type { Point, Scene, Shape } from "../../explain/picture/scene.js";
import { arrowOf, FONTS, pathOf } from "../../explain/picture/svg.js";
import type { Path, TraceView, Traffic } from "../protocol.js";
import { bitRate } from "./format.js";

interface Props {
  scene: Scene;
  traffic: Traffic | null;
  trace: TraceView | null;
}

export function Picture({ scene, traffic, trace }: Props) {
  const { width, height, shapes, title } = scene;
  const busy = busyRefs(traffic);
  return (
    <svg
      class="picture"
      viewBox={`0 0 ${width} ${height}`}
      style={{ maxWidth: `${width * 1.25}px` }}
      role="img"
      aria-label={title}
      font-family={FONTS}
    >
      {shapes.map((shape, n) => (
        <Drawn key={n} shape={shape} busy={shape.ref !== undefined && busy.has(shape.ref)} />
      ))}
      <LinkRates scene={scene} traffic={traffic} />
      {trace?.reply && <PathLine scene={scene} path={trace.reply} name="reply" offset={5} />}
      {trace && <PathLine scene={scene} path={trace.request} name="request" offset={-4} />}
    </svg>
  );
}

/** What has traffic now, by the `ref` of its lines. */
function busyRefs(traffic: Traffic | null): Set<string> {
  const busy = new Set<string>();
  for (const { key, packetsPerSecond } of traffic?.services ?? [])
    if (packetsPerSecond > 0) busy.add(`flow:${key}`);
  for (const { from, to, packetsPerSecond } of traffic?.links ?? [])
    if (packetsPerSecond > 0) for (const node of [from, to]) busy.add(`wire:${node}`).add(`link:${node}`);
  return busy;
}

function Drawn({ shape, busy }: { shape: Shape; busy: boolean }) {
  const ref = shape.ref;
  switch (shape.kind) {
    case "rect": {
      const { x, y, width, height, radius, fill, stroke, strokeWidth = 1, dashed } = shape;
      return (
        <rect
          data-ref={ref}
          x={x}
          y={y}
          width={width}
          height={height}
          rx={Math.max(0, radius)}
          class={`f-${fill ?? "none"} s-${stroke ?? "none"}`}
          stroke-width={strokeWidth}
          stroke-dasharray={dashed ? "6 4" : undefined}
        />
      );
    }
    case "text": {
      const { x, y, text, size, bold, anchor = "start", turned, paint } = shape;
      return (
        <text
          data-ref={ref}
          x={x}
          y={y}
          font-size={size}
          font-weight={bold ? "bold" : undefined}
          text-anchor={anchor}
          class={`f-${paint}`}
          transform={turned ? `rotate(90 ${x} ${y})` : undefined}
        >
          {text}
        </text>
      );
    }
    case "line": {
      const { paint, width, dashed, arrow } = shape;
      const d = pathOf(shape);
      return (
        <g data-ref={ref}>
          <path
            d={d}
            class={`line s-${paint}`}
            stroke-width={width}
            stroke-dasharray={dashed ? "6 4" : undefined}
          />
          {arrow && <path d={arrowOf(shape)} class={`f-${paint}`} />}
          {busy && <path d={d} class="busy" stroke-width={Math.max(2, width - 1)} />}
        </g>
      );
    }
  }
}

/** What a node sends and gets over the overlay, above its socket. */
function LinkRates({ scene, traffic }: { scene: Scene; traffic: Traffic | null }) {
  if (traffic === null) return null;
  const sums = new Map<string, { sent: number; received: number }>();
  const of = (node: string) => {
    const known = sums.get(node) ?? { sent: 0, received: 0 };
    sums.set(node, known);
    return known;
  };
  for (const { from, to, bitsPerSecond } of traffic.links) {
    of(from).sent += bitsPerSecond;
    of(to).received += bitsPerSecond;
  }
  return (
    <g>
      {[...sums].map(([node, { sent, received }]) => {
        const at = scene.anchors[`lan:${node}`];
        const small = at === undefined || same(at, scene.anchors[`node:${node}`]);
        if (small || sent + received === 0) return null;
        return (
          <text key={node} x={at.x} y={at.y - 33} class="f-muted rate" font-size={11} text-anchor="middle">
            {`→ ${bitRate(sent)}  ← ${bitRate(received)}`}
          </text>
        );
      })}
    </g>
  );
}

function same(a: Point, b: Point | undefined): boolean {
  return b !== undefined && a.x === b.x && a.y === b.y;
}

/** The path of a packet: a line through the anchors that it passes, as far as the picture has them. */
function PathLine({ scene, path, name, offset }: { scene: Scene; path: Path; name: string; offset: number }) {
  const points = pathPoints(scene, path.through).map(({ x, y }) => ({ x: x + offset, y: y + offset }));
  const [start] = points;
  if (start === undefined) return null;
  const line = { kind: "line", points, paint: "ink", width: 4.5, arrow: true, corner: 10 } as const;
  return (
    <g class={`path ${name}`} data-path={name}>
      <path d={pathOf(line)} class="core" />
      <path d={arrowOf(line)} class="head" />
      <circle cx={start.x} cy={start.y} r={6} class="head" />
    </g>
  );
}

/** Corners of a path: level and upright lines between anchors; from outside it comes by the LAN's cable. */
function pathPoints({ anchors }: Scene, through: readonly string[]): Point[] {
  const points: Point[] = [];
  const known = through.filter((anchor) => anchors[anchor] !== undefined);
  const { lan, lanEnd } = anchors;
  for (const [n, anchor] of known.entries()) {
    const at = anchors[anchor]!;
    const before = points.at(-1);
    const last = known[n - 1] ?? "";
    const outside = [anchor, last].includes("client");
    if (before === undefined || lan === undefined || lanEnd === undefined) points.push(at);
    else if (outside) {
      const below = lanEnd.y + 14;
      const cable = [
        { x: before.x, y: below },
        { x: lan.x, y: below },
        { x: lan.x, y: at.y },
      ];
      // The other way round: up from the socket, over the cable and below the picture.
      const back = [
        { x: lan.x, y: before.y },
        { x: lan.x, y: below },
        { x: at.x, y: below },
      ];
      points.push(...(last === "client" ? cable : back), at);
    } else if (anchor === "lan") points.push({ x: at.x, y: before.y });
    else if (last === "lan") points.push({ x: before.x, y: at.y }, at);
    // Inside a node first level, then up or down along the edge of the VTEP.
    else if (anchor.startsWith("pod:")) points.push({ x: before.x, y: at.y }, at);
    else points.push({ x: at.x, y: before.y }, at);
  }
  return points.filter(({ x, y }, n) => n === 0 || x !== points[n - 1]!.x || y !== points[n - 1]!.y);
}
