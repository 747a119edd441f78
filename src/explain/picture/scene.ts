/**
 * A picture as plain shapes with coordinates (pixels, from the top left) and the names of paints, so that
 * a file and a web page show the same in colours of their own. Shapes come in the order in which they are
 * painted. Pure; must not know what a shape stands for beyond its `ref`.
 */

/** What a thing is painted with; a theme gives it a colour. `service0` and on: one for each Service. */
export type Paint =
  | "paper"
  | "ink"
  | "muted"
  | "card"
  | "edge"
  | "pod"
  | "podEdge"
  | "overlay"
  | "overlaySoft"
  | "lan"
  | "lanSoft"
  | "fault"
  | "onColour"
  | `service${number}`;

interface Common {
  /** What the shape shows, such as "pod:default/web-1" or "service:default/web"; several may share one. */
  ref?: string;
  opacity?: number;
}

export interface RectShape extends Common {
  kind: "rect";
  x: number;
  y: number;
  width: number;
  height: number;
  radius: number;
  fill?: Paint;
  stroke?: Paint;
  strokeWidth?: number;
  dashed?: boolean;
}

export interface TextShape extends Common {
  kind: "text";
  /** Of the anchor, and of the base line. */
  x: number;
  y: number;
  text: string;
  size: number;
  paint: Paint;
  bold?: boolean;
  anchor?: "start" | "middle" | "end";
  /** Clockwise quarter turn about the anchor. */
  turned?: boolean;
}

export interface LineShape extends Common {
  kind: "line";
  points: readonly Point[];
  paint: Paint;
  width: number;
  dashed?: boolean;
  /** An arrow head at the last point. */
  arrow?: boolean;
  /** Radius of its corners. */
  corner?: number;
}

export type Shape = RectShape | TextShape | LineShape;

export interface Point {
  x: number;
  y: number;
}

export interface Scene {
  width: number;
  height: number;
  /** For those who cannot see it. */
  title: string;
  shapes: Shape[];
  /**
   * Points to lead a path of a packet through, by what is there: "pod:KEY", "vtep:NODE" and "lan:NODE" (its
   * socket), "lan" (the cable) and "lanEnd" (its lower end), "client", "service:KEY", "vip:ADDRESS", "nodes".
   */
  anchors: Record<string, Point>;
}

/** Number of Services that have a colour of their own; further ones are dashed. */
const SERVICE_COLOURS = 8;

/** Colours by paint, as CSS writes them. */
export type Theme = Readonly<Record<string, string>>;

// Services: told apart with the common forms of colour blindness too (Okabe and Ito, darkened for lines on
// white, and lightened for lines on black).
const LIGHT_SERVICES = [
  "#0072b2",
  "#b84a00",
  "#00805e",
  "#a23b83",
  "#7a5c00",
  "#3f8fbf",
  "#c0392b",
  "#5b4bb0",
];
const DARK_SERVICES = [
  "#56b4e9",
  "#f28c4b",
  "#2fc79a",
  "#e08fc4",
  "#e0b93f",
  "#8fd0f5",
  "#ff7f73",
  "#a99bff",
];

function withServices(theme: Theme, colours: readonly string[]): Theme {
  return { ...theme, ...Object.fromEntries(colours.map((colour, n) => [`service${n}`, colour])) };
}

export const LIGHT: Theme = withServices(
  {
    paper: "#ffffff",
    ink: "#1c2430",
    muted: "#5d6876",
    card: "#f5f7fa",
    edge: "#aab4c0",
    pod: "#e3f2e1",
    podEdge: "#5f9a56",
    overlay: "#e08a00",
    overlaySoft: "#fdf0d8",
    lan: "#7d8794",
    lanSoft: "#dfe4ea",
    fault: "#c62828",
    onColour: "#ffffff",
  },
  LIGHT_SERVICES,
);

export const DARK: Theme = withServices(
  {
    paper: "#12161c",
    ink: "#e8ecf1",
    muted: "#9aa6b4",
    card: "#1b222b",
    edge: "#465260",
    pod: "#20362a",
    podEdge: "#6fae66",
    overlay: "#f0a020",
    overlaySoft: "#3a2d14",
    lan: "#8b97a5",
    lanSoft: "#2b333d",
    fault: "#ff6b60",
    onColour: "#10151b",
  },
  DARK_SERVICES,
);

/** The paint of the n-th Service. */
export function servicePaint(n: number): Paint {
  return `service${n % SERVICE_COLOURS}`;
}

/** Moves shapes. */
export function moved(shapes: readonly Shape[], dx: number, dy: number): Shape[] {
  return shapes.map((shape) =>
    shape.kind === "line"
      ? { ...shape, points: shape.points.map(({ x, y }) => ({ x: x + dx, y: y + dy })) }
      : { ...shape, x: shape.x + dx, y: shape.y + dy },
  );
}
