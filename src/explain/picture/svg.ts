/** A scene as an SVG file that needs nothing beside it. Pure. */
import { LIGHT, type LineShape, type Point, type Scene, type Shape, type Theme } from "./scene.js";

/** Verdana's letters are as wide as DejaVu's, which boxes are measured by. */
export const FONTS = "DejaVu Sans, Verdana, Segoe UI, Helvetica, sans-serif";

/** The whole file. */
export function svgOf(scene: Scene, theme: Theme = LIGHT): string {
  const { width, height, title } = scene;
  const paint = (name: string) => theme[name] ?? theme.ink!;
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" font-family="${FONTS}">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="${paint("paper")}"/>`,
    ...scene.shapes.map((shape) => element(shape, paint)),
    "</svg>",
  ];
  return `${lines.join("\n")}\n`;
}

function escaped(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

/** Two digits are enough for pixels. */
function n(value: number): string {
  return String(Math.round(value * 100) / 100);
}

function element(shape: Shape, paint: (name: string) => string): string {
  const common = shape.opacity === undefined ? "" : ` opacity="${shape.opacity}"`;
  switch (shape.kind) {
    case "rect": {
      const { x, y, width, height, radius, fill, stroke, strokeWidth = 1, dashed } = shape;
      const edge =
        stroke === undefined
          ? ""
          : ` stroke="${paint(stroke)}" stroke-width="${strokeWidth}"${dashes(dashed)}`;
      const inside = fill === undefined ? "none" : paint(fill);
      return `<rect x="${n(x)}" y="${n(y)}" width="${n(width)}" height="${n(height)}" rx="${n(Math.max(0, radius))}" fill="${inside}"${edge}${common}/>`;
    }
    case "text": {
      const { x, y, text, size, bold, anchor = "start", turned } = shape;
      const weight = bold ? ' font-weight="bold"' : "";
      const turn = turned ? ` transform="rotate(90 ${n(x)} ${n(y)})"` : "";
      return `<text x="${n(x)}" y="${n(y)}" font-size="${size}"${weight} text-anchor="${anchor}" fill="${paint(shape.paint)}"${turn}${common}>${escaped(text)}</text>`;
    }
    case "line": {
      const { width, dashed } = shape;
      const colour = paint(shape.paint);
      const path = `<path d="${pathOf(shape)}" fill="none" stroke="${colour}" stroke-width="${width}" stroke-linejoin="round"${dashes(dashed)}${common}/>`;
      return shape.arrow ? `${path}<path d="${arrowOf(shape)}" fill="${colour}"${common}/>` : path;
    }
  }
}

function dashes(dashed: boolean | undefined): string {
  return dashed ? ' stroke-dasharray="6 4"' : "";
}

function towards(from: Point, to: Point, distance: number): Point {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  if (length === 0) return from;
  const part = Math.min(1, distance / length);
  return { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
}

const ARROW = 9;

/** Path data of a line with rounded corners; it ends before its arrow head. */
export function pathOf({ points, corner = 0, arrow, width }: LineShape): string {
  if (points.length < 2) return "";
  const last = points.length - 1;
  const end = arrow ? towards(points[last]!, points[last - 1]!, ARROW * headScale(width) - 1) : points[last]!;
  const parts = [`M${n(points[0]!.x)} ${n(points[0]!.y)}`];
  for (let i = 1; i < last; i++) {
    const [before, at, after] = [points[i - 1]!, points[i]!, points[i + 1]!];
    const room = Math.min(
      corner,
      Math.hypot(at.x - before.x, at.y - before.y) / 2,
      Math.hypot(after.x - at.x, after.y - at.y) / 2,
    );
    const [a, b] = [towards(at, before, room), towards(at, after, room)];
    parts.push(`L${n(a.x)} ${n(a.y)}Q${n(at.x)} ${n(at.y)} ${n(b.x)} ${n(b.y)}`);
  }
  parts.push(`L${n(end.x)} ${n(end.y)}`);
  return parts.join("");
}

function headScale(width: number): number {
  return Math.max(1, width / 3);
}

/** Path data of the head at a line's end. */
export function arrowOf({ points, width }: LineShape): string {
  const tip = points.at(-1);
  const before = points.at(-2);
  if (tip === undefined || before === undefined) return "";
  const scale = headScale(width);
  const base = towards(tip, before, ARROW * scale);
  const length = Math.hypot(tip.x - before.x, tip.y - before.y) || 1;
  const side = {
    x: (-(tip.y - before.y) / length) * 5 * scale,
    y: ((tip.x - before.x) / length) * 5 * scale,
  };
  return `M${n(tip.x)} ${n(tip.y)}L${n(base.x + side.x)} ${n(base.y + side.y)}L${n(base.x - side.x)} ${n(base.y - side.y)}Z`;
}
