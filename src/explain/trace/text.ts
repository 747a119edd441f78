/** A trace as people read it in a terminal. Pure. */
import type { End, ServiceView, Trace, TraceStep, Way } from "./model.js";
import { textOf, tupleText } from "./stages.js";

const STAGE_WIDTH = 11;
const INDENT = " ".repeat(2 + STAGE_WIDTH);
/** Columns of a line, where words allow it. */
const WIDTH = 118;

/** Lines of text; the last says in one sentence what becomes of the packet. */
export function traceText(trace: Trace): string {
  const { from, to, request, reply, live, notes } = trace;
  const lines = [`${from} → ${to}: ${textOf(request.packet)}`, "", ...wayLines(request)];
  if (reply !== null) lines.push("", `The way back: ${textOf(reply.packet)}`, "", ...wayLines(reply));
  if (live !== null) {
    lines.push("", "What really happened:");
    for (const { node, line } of live.flows) lines.push(`  ${node}: ${line}`);
    lines.push(`  ${live.agrees ? "as traced" : `not as traced: ${live.difference}`}`);
  }
  if (notes.length > 0) lines.push("", ...notes.map((note) => `Note: ${note}`));
  return `${[...lines, "", verdictText(trace)].join("\n")}\n`;
}

/** What becomes of the packet, in one sentence or two. */
export function verdictText({ verdict, request, reply }: Trace): string {
  const end = endText(request.end);
  switch (verdict) {
    case "answered":
      return `Answered: ${end}, and the answer comes back as ${tupleText((reply as Way).packetAtEnd)}.`;
    case "refused":
      return `Refused: ${end} ${reply === null ? "" : `Who asked is told by ${textOf(reply.packet)}.`}`.trim();
    case "delivered":
      return reply === null
        ? `Delivered: ${end}; no answer is expected.`
        : `Delivered, but not answered: ${end}; of the answer: ${endText(reply.end)}`;
    case "dropped":
      return `Dropped: ${end}`;
    case "unseen":
      return `Out of sight: ${endText(request.end.kind === "unseen" || reply === null ? request.end : reply.end)}`;
  }
}

function wayLines({ steps }: Way): string[] {
  return steps.flatMap((step, n) => [
    ...(steps[n - 1]?.lane === step.lane ? [] : [step.lane]),
    ...stepLines(step),
  ]);
}

function stepLines({ stage, what, because, service, drop }: TraceStep): string[] {
  const reason = because === "" ? "" : `: ${because}`;
  const [first = "", ...more] = wrapped(`${what}${reason}`, WIDTH - INDENT.length);
  const remedy =
    drop === undefined ? [] : wrapped(`What would change it: ${drop.remedy}`, WIDTH - INDENT.length);
  return [
    `  ${stage.padEnd(STAGE_WIDTH)}${first}`,
    ...more.map((each) => `${INDENT}${each}`),
    ...(service === undefined ? [] : endpointLines(service)),
    ...remedy.map((each) => `${INDENT}${each}`),
  ];
}

function endpointLines({ endpoints }: ServiceView): string[] {
  return endpoints.map(({ address, l4Port, pod, node, dead, chosen }) => {
    const who = [pod, node === "" ? "" : `on ${node}`, dead ? "(node is dead)" : ""]
      .filter((part) => part !== "")
      .join(" ");
    return `${INDENT}${chosen ? "▸" : " "} ${address}:${l4Port}${who === "" ? "" : ` ${who}`}`;
  });
}

function endText(end: End): string {
  switch (end.kind) {
    case "delivered":
      return `${end.to} receives ${tupleText(end.packet)}`;
    case "dropped":
      return `${end.lane}: ${end.drop.why} (${end.drop.reason}). ${end.drop.remedy}`;
    case "unseen":
      return `it goes to ${end.lane}; ${end.why}.`;
  }
}

/** Lines of at most `most` characters, broken between words where that can be. */
export function wrapped(content: string, most: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of content.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > most) {
      lines.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
    for (; line.length > most; line = line.slice(most)) lines.push(line.slice(0, most));
  }
  return line === "" ? lines : [...lines, line];
}
