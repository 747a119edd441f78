/**
 * Keys that stand twice in one object of a body. JSON.parse and YAML take the last of them without a word;
 * strict field validation names them as Kubernetes' decoders do. Pure.
 */
import { parseDocument } from "yaml";

/** Position in a text that JSON.parse has accepted. */
interface Cursor {
  text: string;
  at: number;
  found: string[];
}

/** 'duplicate field "spec.replicas"', in the order of the text (sigs.k8s.io/json). `text` must be valid JSON. */
export function duplicatesInJson(text: string): string[] {
  const cursor: Cursor = { text, at: 0, found: [] };
  value(cursor, "");
  return [...new Set(cursor.found)].map((path) => `duplicate field ${JSON.stringify(path)}`);
}

/** A YAML body and its doubles, as go-yaml tells them. Throws what yaml throws for any other fault. */
export function parseYamlBody(text: string): { body: unknown; duplicates: string[] } {
  const document = parseDocument(text);
  const doubles = document.errors.filter(({ code }) => code === "DUPLICATE_KEY");
  const other = document.errors.find(({ code }) => code !== "DUPLICATE_KEY");
  if (other !== undefined) throw other;
  const lines = doubles.map(({ pos, linePos }) => {
    const key = /^(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^:\s,}]+))/.exec(text.slice(pos[0]));
    return `  line ${linePos?.[0].line}: key ${JSON.stringify(key?.[1] ?? key?.[2] ?? key?.[3] ?? "")} already set in map`;
  });
  return {
    body: document.toJS() as unknown,
    duplicates: lines.length === 0 ? [] : [`yaml: unmarshal errors:\n${lines.join("\n")}`],
  };
}

function value(cursor: Cursor, path: string): void {
  const first = next(cursor);
  if (first === "{") members(cursor, path);
  else if (first === "[") elements(cursor, path);
  else if (first === '"') string(cursor);
  else while (cursor.at < cursor.text.length && !/[,\]}\s]/.test(cursor.text[cursor.at]!)) cursor.at++;
}

function members(cursor: Cursor, path: string): void {
  cursor.at++;
  const seen = new Set<string>();
  while (next(cursor) !== "}") {
    const key = string(cursor);
    const inner = path === "" ? key : `${path}.${key}`;
    if (seen.has(key)) cursor.found.push(inner);
    seen.add(key);
    // The colon.
    next(cursor);
    cursor.at++;
    value(cursor, inner);
    if (next(cursor) === ",") cursor.at++;
  }
  cursor.at++;
}

function elements(cursor: Cursor, path: string): void {
  cursor.at++;
  for (let i = 0; next(cursor) !== "]"; i++) {
    value(cursor, `${path}[${i}]`);
    if (next(cursor) === ",") cursor.at++;
  }
  cursor.at++;
}

function string(cursor: Cursor): string {
  const start = cursor.at++;
  while (cursor.text[cursor.at] !== '"') cursor.at += cursor.text[cursor.at] === "\\" ? 2 : 1;
  cursor.at++;
  return JSON.parse(cursor.text.slice(start, cursor.at)) as string;
}

/** The next character that is no white space. */
function next(cursor: Cursor): string {
  while (/\s/.test(cursor.text[cursor.at] ?? "x")) cursor.at++;
  return cursor.text[cursor.at] ?? "";
}
