/**
 * Where boxes stand and how lines go between them: asks ELK (elkjs), layer by layer from left to right,
 * lines at right angles. Must not know what a box shows.
 */
import Elk, { type ElkExtendedEdge, type ElkNode } from "elkjs/lib/elk.bundled.js";
import type { Card } from "./cards.js";
import type { Paint, Point } from "./scene.js";

/** A box to be placed. */
export interface Box {
  id: string;
  card: Card;
  /** Stands with its like in the column at the far left or right. */
  column?: "first" | "last";
}

/** A line between two boxes' ports. */
export interface Link {
  id: string;
  from: { box: string; port: string };
  to: { box: string; port: string };
  paint: Paint;
  dashed?: boolean;
  width?: number;
  arrow?: boolean;
  ref?: string;
}

export interface Layout {
  width: number;
  height: number;
  /** Top left of each box, by its id. */
  boxes: Map<string, Point>;
  /** Corners of each line, by its id. */
  links: Map<string, Point[]>;
}

// A CommonJS module, whose types speak of its default export.
const elk = new Elk.default();

const LAYERED: Record<string, string> = {
  "elk.algorithm": "layered",
  "elk.direction": "RIGHT",
  "elk.edgeRouting": "ORTHOGONAL",
  // Boxes that no line joins stand in their column all the same.
  "elk.separateConnectedComponents": "false",
  // In the order given: nodes of a cluster have one that people know.
  "elk.layered.considerModelOrder.strategy": "NODES_AND_EDGES",
  "elk.layered.crossingMinimization.forceNodeModelOrder": "true",
  "elk.layered.nodePlacement.strategy": "BRANDES_KOEPF",
  "elk.layered.nodePlacement.bk.fixedAlignment": "BALANCED",
  "elk.spacing.nodeNode": "22",
  "elk.spacing.edgeEdge": "10",
  "elk.spacing.edgeNode": "14",
  "elk.layered.spacing.nodeNodeBetweenLayers": "52",
  "elk.layered.spacing.edgeEdgeBetweenLayers": "9",
  "elk.layered.spacing.edgeNodeBetweenLayers": "16",
  "elk.padding": "[top=0,left=0,bottom=0,right=0]",
};

/** Lays boxes and lines out from left to right. */
export async function layered(boxes: readonly Box[], links: readonly Link[]): Promise<Layout> {
  const graph: ElkNode = {
    id: "root",
    layoutOptions: LAYERED,
    children: boxes.map(elkNode),
    edges: links.map(
      ({ id, from, to }): ElkExtendedEdge => ({
        id,
        sources: [`${from.box} east ${from.port}`],
        targets: [`${to.box} west ${to.port}`],
      }),
    ),
  };
  return laidOut(await elk.layout(graph));
}

/** Packs boxes into rows, in the order given, about as wide as `aspect` times as high. */
export async function packed(boxes: readonly Box[], aspect: number): Promise<Layout> {
  const graph: ElkNode = {
    id: "root",
    layoutOptions: {
      "elk.algorithm": "rectpacking",
      "elk.aspectRatio": String(aspect),
      "elk.spacing.nodeNode": "12",
      "elk.padding": "[top=0,left=0,bottom=0,right=0]",
    },
    children: boxes.map(({ id, card }) => ({ id, width: card.width, height: card.height })),
  };
  return laidOut(await elk.layout(graph));
}

const CONSTRAINTS = { first: "FIRST", last: "LAST" } as const;

function elkNode({ id, card, column }: Box): ElkNode {
  const port = (side: "west" | "east", name: string, y: number) => ({
    id: `${id} ${side} ${name}`,
    x: side === "west" ? 0 : card.width,
    y,
    width: 0,
    height: 0,
    layoutOptions: { "elk.port.side": side === "west" ? "WEST" : "EAST" },
  });
  return {
    id,
    width: card.width,
    height: card.height,
    layoutOptions: {
      "elk.portConstraints": "FIXED_POS",
      ...(column === undefined ? {} : { "elk.layered.layering.layerConstraint": CONSTRAINTS[column] }),
    },
    ports: [
      ...Object.entries(card.west).map(([name, y]) => port("west", name, y)),
      ...Object.entries(card.east).map(([name, y]) => port("east", name, y)),
    ],
  };
}

function laidOut(graph: ElkNode): Layout {
  return {
    width: graph.width ?? 0,
    height: graph.height ?? 0,
    boxes: new Map((graph.children ?? []).map(({ id, x, y }) => [id, { x: x ?? 0, y: y ?? 0 }])),
    links: new Map(
      (graph.edges ?? []).map(({ id, sections }) => [
        id,
        (sections ?? []).flatMap(({ startPoint, bendPoints, endPoint }) => [
          startPoint,
          ...(bendPoints ?? []),
          endPoint,
        ]),
      ]),
    ),
  };
}
