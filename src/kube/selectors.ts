/** Label and field selectors, as text and as objects. Pure. */
import type { KubeObject } from "./KubeApi.js";
import { KubeError } from "./KubeError.js";
import type { LabelSelector } from "./types.js";

type Labels = Record<string, string> | undefined;

/** Parses a label selector ("app=web,tier in (a, b),!old") to a test. Throws a KubeError (BadRequest). */
export function parseLabelSelector(text: string | undefined): (labels: Labels) => boolean {
  if (text === undefined || text.trim() === "") return () => true;
  const tests = splitOutsideParentheses(text).map(parseRequirement);
  return (labels) => tests.every((test) => test(labels ?? {}));
}

/** Test for a LabelSelector object; an absent one matches nothing, an empty one everything. */
export function matchesSelector(selector: LabelSelector | undefined, labels: Labels): boolean {
  if (selector === undefined) return false;
  const own = labels ?? {};
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) if (own[key] !== value) return false;
  return (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    const value = own[key];
    if (operator === "In") return value !== undefined && values.includes(value);
    if (operator === "NotIn") return value === undefined || !values.includes(value);
    if (operator === "Exists") return value !== undefined;
    return operator === "DoesNotExist" && value === undefined;
  });
}

/** Parses a field selector ("spec.nodeName=a,status.phase!=Failed") to a test over an object. */
export function parseFieldSelector(text: string | undefined): (object: KubeObject) => boolean {
  if (text === undefined || text.trim() === "") return () => true;
  const tests = text.split(",").map((part) => {
    const match = /^\s*([^=!\s]+)\s*(==|=|!=)\s*(.*?)\s*$/.exec(part);
    if (match === null) throw badSelector(text, `cannot understand "${part}"`);
    const [, path, operator, wanted] = match;
    const equal = operator !== "!=";
    return (object: KubeObject) => (fieldOf(object, path!) === wanted) === equal;
  });
  return (object) => tests.every((test) => test(object));
}

function fieldOf(object: KubeObject, path: string): string {
  let value: unknown = object;
  for (const key of path.split("."))
    value = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[key] : undefined;
  return value === undefined || value === null ? "" : String(value);
}

function parseRequirement(text: string): (labels: Record<string, string>) => boolean {
  const part = text.trim();
  const set = /^([^\s!=(),]+)\s+(in|notin)\s+\(([^()]*)\)$/.exec(part);
  if (set !== null) {
    const [, key, operator, list] = set;
    const values = list!.split(",").map((value) => value.trim());
    return operator === "in"
      ? (labels) => labels[key!] !== undefined && values.includes(labels[key!]!)
      : (labels) => labels[key!] === undefined || !values.includes(labels[key!]!);
  }
  const equality = /^([^\s!=(),]+)\s*(==|=|!=)\s*([^\s!=(),]*)$/.exec(part);
  if (equality !== null) {
    const [, key, operator, value] = equality;
    return operator === "!=" ? (labels) => labels[key!] !== value : (labels) => labels[key!] === value;
  }
  const existence = /^(!?)\s*([^\s!=(),]+)$/.exec(part);
  if (existence === null) throw badSelector(text, `cannot understand "${part}"`);
  const [, not, key] = existence;
  return (labels) => (labels[key!] === undefined) === (not === "!");
}

function splitOutsideParentheses(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "(") depth++;
    else if (text[i] === ")") depth--;
    else if (text[i] === "," && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  return [...parts, text.slice(start)];
}

function badSelector(text: string, why: string): KubeError {
  return KubeError.of("BadRequest", `unable to parse requirement: ${why} in "${text}"`);
}
