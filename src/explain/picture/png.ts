/** SVG to PNG, by resvg, with a font that comes along: a server has none. */
import { fileURLToPath } from "node:url";
import { Resvg } from "@resvg/resvg-js";

const FONT_FILES = ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf"].map((name) =>
  fileURLToPath(import.meta.resolve(`dejavu-fonts-ttf/ttf/${name}`)),
);

/** PNG bytes, `scale` pixels for each of the SVG's. */
export function pngOf(svg: string, scale = 2): Buffer {
  const image = new Resvg(svg, {
    fitTo: { mode: "zoom", value: scale },
    font: { fontFiles: FONT_FILES, loadSystemFonts: false, defaultFontFamily: "DejaVu Sans" },
  });
  return image.render().asPng();
}
