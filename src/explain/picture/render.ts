/** A topology in the forms that it can be given out in. */
import type { Topology } from "../topology.js";
import type { Format } from "./formats.js";
import { mermaidOf } from "./mermaid.js";
import { drawTopology } from "./picture.js";
import { DARK, LIGHT } from "./scene.js";
import type { SelectionOptions } from "./selection.js";
import { svgOf } from "./svg.js";
import { textOf } from "./text.js";

export interface RenderOptions extends SelectionOptions {
  /** Light on black. */
  dark?: boolean;
}

/** The bytes of a file in that format; text as UTF-8. */
export async function render(topology: Topology, format: Format, options: RenderOptions): Promise<Buffer> {
  if (format === "mermaid") return Buffer.from(mermaidOf(topology, options));
  if (format === "text") return Buffer.from(textOf(topology, options));
  const svg = svgOf(await drawTopology(topology, options), options.dark ? DARK : LIGHT);
  if (format === "svg") return Buffer.from(svg);
  // Only who wants a PNG loads the rasteriser.
  const { pngOf } = await import("./png.js");
  return pngOf(svg);
}
