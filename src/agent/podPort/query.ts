/** Paths and queries of a kubelet's server (k8s.io/kubernetes pkg/kubelet/server). Pure. */
import type { ContainerRef, ExecOptions, LogOptions } from "../../runtime/PodAccess.js";
import { isTopic, type StateTopic } from "./nodeState.js";
import { HttpRefusal } from "./refusals.js";

export type PodRequest =
  | { kind: "healthz" }
  | { kind: "state"; topic: StateTopic; query: URLSearchParams }
  | { kind: "logs"; container: ContainerRef; options: LogOptions }
  | { kind: "exec"; container: ContainerRef; options: ExecOptions };

/** Reads the URL of a request; `now` in milliseconds since the epoch. Throws an HttpRefusal. */
export function parseRequest(url: string, now: number): PodRequest {
  const { pathname, searchParams: query } = new URL(url, "https://node");
  if (pathname === "/healthz") return { kind: "healthz" };
  const topic = /^\/podwire\/([a-z]+)$/.exec(pathname)?.[1];
  if (topic !== undefined && isTopic(topic)) return { kind: "state", topic, query };
  const [verb, namespace, pod, container, ...more] = pathname.split("/").slice(1).map(decode);
  const known = verb === "containerLogs" || verb === "exec";
  if (!known || !namespace || !pod || !container || more.length > 0)
    throw new HttpRefusal(404, "404 page not found");
  const ref = { namespace, pod, container };
  if (verb === "containerLogs") return { kind: "logs", container: ref, options: logOptions(query, now) };
  return { kind: "exec", container: ref, options: execOptions(query) };
}

function logOptions(query: URLSearchParams, now: number): LogOptions {
  const sinceSeconds = wholeNumber(query, "sinceSeconds", 1);
  const sinceTime = query.get("sinceTime");
  if (sinceSeconds !== undefined && sinceTime !== null)
    throw new HttpRefusal(400, "at most one of `sinceTime` or `sinceSeconds` may be specified");
  const sinceMs = sinceTime === null ? undefined : Date.parse(sinceTime);
  if (Number.isNaN(sinceMs)) throw new HttpRefusal(400, `sinceTime: ${sinceTime} is no RFC 3339 time`);
  return {
    follow: flag(query, "follow"),
    previous: flag(query, "previous"),
    timestamps: flag(query, "timestamps"),
    tailLines: wholeNumber(query, "tailLines", 0),
    limitBytes: wholeNumber(query, "limitBytes", 1),
    sinceMs: sinceSeconds === undefined ? sinceMs : now - sinceSeconds * 1000,
  };
}

function execOptions(query: URLSearchParams): ExecOptions {
  const command = query.getAll("command");
  const tty = flag(query, "tty");
  const options = {
    command,
    tty,
    stdin: flag(query, "input"),
    stdout: flag(query, "output"),
    // A terminal has one output.
    stderr: flag(query, "error") && !tty,
  };
  if (command.length === 0) throw new HttpRefusal(400, "you must specify a command");
  if (!options.stdin && !options.stdout && !options.stderr)
    throw new HttpRefusal(400, "you must specify at least 1 of stdin, stdout, stderr");
  return options;
}

/** As Go's strconv.ParseBool and a kubelet's "1". */
function flag(query: URLSearchParams, name: string): boolean {
  return ["1", "t", "true"].includes((query.get(name) ?? "").toLowerCase());
}

function wholeNumber(query: URLSearchParams, name: string, least: number): number | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < least)
    throw new HttpRefusal(400, `${name}: "${text}" must be a whole number of at least ${least}`);
  return value;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new HttpRefusal(400, "the path is no URL path");
  }
}
