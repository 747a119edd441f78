/** The pictures' colours as a style sheet: paints as variables, and classes that fill and stroke with them. Pure. */
import { DARK, LIGHT, type Theme } from "../explain/picture/scene.js";

/** The whole sheet. `data-theme` of the root says light or dark; anything else follows the system. */
export function themeCss(): string {
  const classes = Object.keys(LIGHT).map(
    (paint) => `.f-${paint}{fill:var(--${paint})}.s-${paint}{stroke:var(--${paint})}`,
  );
  return [
    `:root{${variables(LIGHT)}}`,
    `@media (prefers-color-scheme:dark){:root:not([data-theme="light"]){${variables(DARK)}}}`,
    `:root[data-theme="dark"]{${variables(DARK)}}`,
    ".f-none{fill:none}.s-none{stroke:none}",
    ...classes,
    "",
  ].join("\n");
}

function variables(theme: Theme): string {
  const scheme = theme === DARK ? "dark" : "light";
  const colours = Object.entries(theme).map(([paint, colour]) => `--${paint}:${colour};`);
  return `color-scheme:${scheme};${colours.join("")}`;
}
