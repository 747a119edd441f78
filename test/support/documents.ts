/**
 * The documents as tests read them: fenced blocks, the commands in them, and what these are shown to
 * print. The convention: `sh` blocks are commands, `text` blocks are parts of what the lab's walk prints,
 * `console` blocks are commands at the prompt of a place of the lab (`PLACE$ `) with their output. A line
 * with `…` alone stands for lines left out.
 */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Whose commands and links are checked. */
export const DOCUMENTS: readonly string[] = [
  "README.md",
  ...readdirSync(`${ROOT}docs`)
    .filter((name) => name.endsWith(".md"))
    .sort()
    .map((name) => `docs/${name}`),
  "vagrant/README.md",
];

/** Text of a file of the repository, by its path from the root. */
export function read(path: string): string {
  return readFileSync(`${ROOT}${path}`, "utf8");
}

/** A fenced block. */
export interface Fence {
  /** FILE:LINE of its first line. */
  place: string;
  /** Its info string; "" without one. */
  language: string;
  lines: string[];
}

/** The fenced blocks of a document, in its order. */
export function fences(file: string): Fence[] {
  const found: Fence[] = [];
  let open: Fence | null = null;
  for (const [i, line] of read(file).split("\n").entries()) {
    if (!line.startsWith("```")) open?.lines.push(line);
    else if (open === null) open = { place: `${file}:${i + 2}`, language: line.slice(3), lines: [] };
    else {
      found.push(open);
      open = null;
    }
  }
  if (open !== null) throw new Error(`${open.place}: a block without an end`);
  return found;
}

/** A document without its fenced blocks, a line each. */
export function prose(file: string): string[] {
  let inside = false;
  return read(file)
    .split("\n")
    .filter((line) => {
      const fence = line.startsWith("```");
      if (fence) inside = !inside;
      return !fence && !inside;
    });
}

/** A command and where it stands. */
export interface ShownCommand {
  /** FILE:LINE. */
  place: string;
  /** As typed, without prompt; may hold `&&`, pipes and a comment. */
  text: string;
  /** Before `$ `: a place of the lab, or "". */
  prompt: string;
  /** What it is shown to print; null in `sh` blocks, where nothing is shown. */
  output: string[] | null;
}

const PROMPT = /^([a-z0-9-]*)\$ (.+)$/;

/** The commands of a block with what each is shown to print. */
export function commandsOf({ place, language, lines }: Fence): ShownCommand[] {
  const [file, first] = place.split(":") as [string, string];
  const at = (i: number) => `${file}:${Number(first) + i}`;
  if (language === "sh")
    return lines.flatMap((text, i) =>
      text.trim() === "" ? [] : [{ place: at(i), text, prompt: "", output: null }],
    );
  const found: (ShownCommand & { output: string[] })[] = [];
  if (language !== "console" && language !== "text") return found;
  for (const [i, line] of lines.entries()) {
    const match = PROMPT.exec(line);
    if (match !== null) found.push({ place: at(i), prompt: match[1]!, text: match[2]!, output: [] });
    else found.at(-1)?.output.push(line);
  }
  return found;
}

/** Words of a command line as a shell splits them; `&&`, `|` and `>` are words. Comments are left out. */
export function words(text: string): string[] {
  const found: string[] = [];
  for (const [, quoted, double, comment, plain] of text.matchAll(
    /'([^']*)'|"([^"]*)"|((?<=^|\s)#.*$)|([^\s'"]+)/g,
  )) {
    if (comment === undefined) found.push(quoted ?? double ?? plain!);
  }
  return found;
}

/** The simple commands of a line: split at `&&` and `|`, without redirections. */
export function simpleCommands(text: string): string[][] {
  const commands: string[][] = [[]];
  const rest = words(text);
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === "&&" || word === "|") commands.push([]);
    else if (word === ">") rest.shift();
    else commands.at(-1)!.push(word);
  }
  return commands.filter((command) => command.length > 0);
}

/**
 * A line of output without what differs from one run of the lab to the next: the ends of pods' names,
 * ClusterIPs, times, which of a DaemonSet's pods is listed where, which pod answered and how often, who owns an address at this moment, what curl calls
 * an error, and how wide columns are.
 */
export function normalise(line: string): string {
  return line
    .replace(/\b(nginx|apache|redis)-ds-[a-z0-9]{5}\b/g, "$1-ds-*")
    .replace(/\b10\.152\.183\.(?![01]\b)\d+/g, "10.152.183.*")
    .replace(/\b(\d+[hms])+\b/g, "#s")
    .replace(/\b\d+\.\d+ s\b/g, "# s")
    .replace(/ after \d+ ms: .*/, "")
    .replace(/\b([nar]\d) \d+(?=,|$)/g, "$1 #")
    .replace(/\b([nar])\d( \1\d){2}\b/g, "$1? $1? $1?")
    .replace(/^(\S+-ds-\*) on k8s-\w+$/, "$1 on *")
    .replace(/is announced by .*/, "is announced by *")
    .replace(/\s+/g, " ")
    .replace(/^(\S+-ds-\* 1\/1 Running) .*/, "$1 *")
    .trim();
}

/**
 * The first of `shown` that `printed` does not have, in their order and with others between where a `…`
 * stands; null where all are there. Both are normalised. Empty lines are no matter.
 */
export function missing(shown: readonly string[], printed: string): string | null {
  const lines = printed
    .split("\n")
    .map(normalise)
    .filter((line) => line !== "");
  let at = -1;
  let gap = true;
  for (const line of shown.map(normalise).filter((each) => each !== "")) {
    if (line === "…") {
      gap = true;
      continue;
    }
    const next = gap ? lines.indexOf(line, at + 1) : lines[at + 1] === line ? at + 1 : -1;
    if (next === -1) return line;
    at = next;
    gap = false;
  }
  return null;
}
