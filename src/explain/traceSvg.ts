/**
 * A trace as a picture: a lane for each node, machine and pod, time going down, an arrow where the packet
 * changes lanes. Pure; text alone decides how high it gets. Readable without the terminal's text: every
 * step has what was decided, and in smaller letters why.
 */
import type { Trace, TraceStep, Way } from "./trace/model.js";
import { textOf } from "./trace/stages.js";
import { verdictText, wrapped } from "./trace/text.js";

const MARGIN = 24;
const LANE_WIDTH = 320;
const BOX_WIDTH = LANE_WIDTH - 20;
const PADDING = 8;
const LINE = 16;
const SMALL = 13;
const GAP = 10;
const ARROW = 26;
/** Characters that fit a box, in normal and in small letters (sans-serif, 12 and 11 px). */
const CHARACTERS = 41;
const SMALL_CHARACTERS = 45;
/** Pixels that a letter of a heading takes at most, on the average of a line. */
const HEAD_LETTER = 7.8;

const STYLE = `
  .page { fill: #ffffff } .lane { stroke: #d0d7de; stroke-dasharray: 3 4 }
  .head { fill: #24292f; font-weight: 600 } .box { fill: #f6f8fa; stroke: #d0d7de }
  .service .box { fill: #ddf4ff; stroke: #54aeff } .drop .box { fill: #ffebe9; stroke: #ff8182 }
  .deliver .box { fill: #dafbe1; stroke: #4ac26b } .encap .box, .decap .box { fill: #fff8c5; stroke: #d4a72c }
  text { fill: #24292f; font: 12px system-ui, sans-serif } .why { fill: #57606a; font-size: 11px }
  .stage { font-weight: 600 } .arrow { stroke: #57606a; stroke-width: 1.5; fill: none } .tip { fill: #57606a }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .lane { stroke: #30363d } .head, text { fill: #e6edf3 } .why { fill: #9198a1 }
    .box { fill: #161b22; stroke: #30363d } .service .box { fill: #0c2d6b; stroke: #388bfd }
    .drop .box { fill: #67060c; stroke: #f85149 } .deliver .box { fill: #033a16; stroke: #2ea043 }
    .encap .box, .decap .box { fill: #4b2900; stroke: #bb8009 } .arrow { stroke: #9198a1 } .tip { fill: #9198a1 }
  }`;

/** An SVG document. */
export function traceSvg(trace: Trace): string {
  const ways: [string, Way][] = [["", trace.request]];
  if (trace.reply !== null) ways.push([`The way back: ${textOf(trace.reply.packet)}`, trace.reply]);
  const lanes = [...new Set(ways.flatMap(([, { steps }]) => steps.map(({ lane }) => lane)))];
  const parts: string[] = [];
  const width = 2 * MARGIN + lanes.length * LANE_WIDTH;
  const title = `${trace.from} → ${trace.to}: ${textOf(trace.request.packet)}`;
  const head = (content: string, top: number): number => {
    const lines = wrapped(content, Math.floor((width - 2 * MARGIN) / HEAD_LETTER));
    lines.forEach((each, n) => {
      parts.push(text(MARGIN, top + n * LINE, "head", each));
    });
    return lines.length * LINE;
  };
  let y = MARGIN + 12;
  y += head(title, y) + LINE;
  lanes.forEach((lane, n) => {
    parts.push(text(center(n), y, "head", lane, "middle"));
  });
  const top = y + GAP;
  y = top + GAP;
  for (const [heading, { steps }] of ways) {
    if (heading !== "") {
      y += head(heading, y + LINE) + LINE + GAP;
    }
    for (const [n, step] of steps.entries()) {
      const before = steps[n - 1];
      if (before !== undefined && before.lane !== step.lane) {
        parts.push(arrow(center(lanes.indexOf(before.lane)), center(lanes.indexOf(step.lane)), y));
        y += ARROW;
      }
      const [drawn, height] = box(step, lanes.indexOf(step.lane), y);
      parts.push(drawn);
      y += height + GAP;
    }
  }
  const bottom = y;
  y += head(verdictText(trace), y + LINE) + LINE;
  const lines = lanes.map(
    (_, n) => `<line class="lane" x1="${center(n)}" y1="${top}" x2="${center(n)}" y2="${bottom}"/>`,
  );
  const height = y + MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${STYLE}</style>`,
    `<rect class="page" width="${width}" height="${height}"/>`,
    ...lines,
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}

/** One step's box, and its height. */
function box(step: TraceStep, lane: number, y: number): [string, number] {
  const x = center(lane) - BOX_WIDTH / 2;
  const lines: [string, string, number][] = [[step.stage, "stage", LINE]];
  for (const each of wrapped(step.what, CHARACTERS)) lines.push([each, "what", LINE]);
  for (const each of wrapped(step.because, SMALL_CHARACTERS)) lines.push([each, "why", SMALL]);
  for (const { address, l4Port, pod, node, dead, chosen } of step.service?.endpoints ?? []) {
    const where = [pod, node].filter((part) => part !== "").join(" on ");
    const who = dead ? `${where} (dead)` : where;
    for (const each of wrapped(`${chosen ? "▸" : "·"} ${address}:${l4Port} ${who}`, SMALL_CHARACTERS))
      lines.push([each, chosen ? "stage" : "why", SMALL]);
  }
  if (step.drop !== undefined)
    for (const each of wrapped(`What would change it: ${step.drop.remedy}`, SMALL_CHARACTERS))
      lines.push([each, "why", SMALL]);
  const height = lines.reduce((sum, [, , line]) => sum + line, 2 * PADDING);
  let at = y + PADDING;
  const drawn = lines.map(([content, kind, line]) => {
    at += line;
    return text(x + PADDING, at - 4, kind, content);
  });
  const frame = `<rect class="box" x="${x}" y="${y}" width="${BOX_WIDTH}" height="${height}" rx="6"/>`;
  return [`<g class="${step.stage}">${frame}${drawn.join("")}</g>`, height];
}

function arrow(from: number, to: number, y: number): string {
  const at = y + ARROW / 2 - 4;
  const tip = to > from ? -8 : 8;
  return (
    `<path class="arrow" d="M${from} ${y - GAP} V${at} H${to + tip / 2}"/>` +
    `<path class="tip" d="M${to} ${at} l${tip} -4 v8 z"/>`
  );
}

function center(lane: number): number {
  return MARGIN + lane * LANE_WIDTH + LANE_WIDTH / 2;
}

function text(x: number, y: number, kind: string, content: string, anchor = "start"): string {
  return `<text class="${kind}" x="${x}" y="${y}" text-anchor="${anchor}">${escaped(content)}</text>`;
}

function escaped(content: string): string {
  return content.replace(/[&<>"]/g, (each) => `&#${each.charCodeAt(0)};`);
}
