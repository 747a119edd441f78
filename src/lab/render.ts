/**
 * Owns the lab's printed tables: plain columns as kubectl prints them, and the matrix of a walk.
 * Pure: results in, text out.
 */
import type { NodeFacts } from "./cluster.js";
import { REQUESTS, type ServiceResult, type Spread } from "./serviceWalk.js";
import type { WalkResult } from "./walk.js";
import type { LabPod } from "./walkthrough.js";

const GREEN = "\u001b[32m";
const RED = "\u001b[31m";
const DIM = "\u001b[2m";
const RESET = "\u001b[0m";

/** Columns padded to their widest cell, three blanks between them, as kubectl does. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("   ")
        .trimEnd(),
    )
    .join("\n");
}

/** The nodes with their blocks and tunnel addresses. */
export function nodeTable(nodes: readonly NodeFacts[]): string {
  return table(
    ["NAME", "ADDRESS", "BLOCK", "TUNNEL"],
    nodes.map((node) => [node.name, node.address, node.blocks.join(","), node.tunnelAddress]),
  );
}

/**
 * The matrix of a walk: a row for each asking pod, a column for each pod asked.
 * Rows carry label and name, columns the label only.
 */
export function matrix(pods: readonly LabPod[], results: readonly WalkResult[], colour: boolean): string {
  const paint = (code: string, text: string) => (colour ? `${code}${text}${RESET}` : text);
  const cells = new Map(results.map((result) => [`${result.from.name} ${result.to.name}`, result.ok]));
  const labelWidth = Math.max(...pods.map((pod) => pod.label.length));
  const nameWidth = Math.max(...pods.map((pod) => pod.name.length));
  const indent = " ".repeat(labelWidth + 2 + nameWidth);
  const head = `${indent}  ${paint(DIM, pods.map((pod) => pod.label.padEnd(labelWidth)).join(" "))}`;
  const rows = pods.map((from) => {
    const marks = pods.map((to) => {
      const ok = cells.get(`${from.name} ${to.name}`);
      const [code, mark] = ok === undefined ? [DIM, "·"] : ok ? [GREEN, "✓"] : [RED, "✗"];
      return paint(code, mark) + " ".repeat(labelWidth - 1);
    });
    return `${from.label.padEnd(labelWidth)}  ${from.name.padEnd(nameWidth)}  ${marks.join(" ").trimEnd()}`;
  });
  return [head, ...rows].join("\n");
}

/** The closing line of a walk. */
export function total(results: readonly { reason: string }[], seconds: number): string {
  const passed = results.filter(({ reason }) => reason === "").length;
  return `${passed} of ${results.length} passed in ${seconds.toFixed(1)} s`;
}

/**
 * Who answered in a walk of Services: a row for each place that asks (and address that it asks, where a
 * Service has several), a column for each Service, in it the labels of the pods that answered.
 */
export function answerMatrix(results: readonly ServiceResult[], colour: boolean): string {
  const services = [...new Set(results.map(({ service }) => service))];
  const several = results.some(({ service, address }) =>
    results.some((other) => other.service === service && other.address !== address),
  );
  const rowOf = ({ from, address }: ServiceResult) => {
    const name = from.label === "" ? from.name : `${from.label}  ${from.name}`;
    return several ? `${name} → ${address}` : name;
  };
  const rows = [...new Set(results.map(rowOf))];
  const cells = new Map(results.map((result) => [`${rowOf(result)} ${result.service.name}`, result]));
  const column = (name: string) => Math.max(name.length, 3 * REQUESTS - 1);
  const width = Math.max(...rows.map((row) => row.length));
  const head = services.map(({ name }) => name.padEnd(column(name))).join("  ");
  const lines = rows.map((row) => {
    const answers = services.map(({ name }) => {
      const result = cells.get(`${row} ${name}`)!;
      const text =
        result.reason === "" ? result.pods.map(({ label }) => label).join(" ") || "no answer" : "✗";
      const shown = colour ? `${result.reason === "" ? GREEN : RED}${text}${RESET}` : text;
      return shown + " ".repeat(Math.max(0, column(name) - text.length));
    });
    return `${row.padEnd(width)}  ${answers.join("  ").trimEnd()}`;
  });
  return [`${" ".repeat(width)}  ${head.trimEnd()}`, ...lines].join("\n");
}

/** How often each pod answered, a line for each Service. */
export function spreadLines(spread: readonly Spread[]): string {
  const width = Math.max(...spread.map(({ service }) => service.name.length));
  return spread
    .map(({ service, answers }) => {
      const counts = answers.map(({ pod, count }) => `${pod.label} ${count}`).join(", ");
      return `${service.name.padEnd(width)}  ${counts}`;
    })
    .join("\n");
}

/** A command at its prompt, and what it printed, for the first who asks each Service. */
export function examples(results: readonly ServiceResult[]): string {
  return results
    .filter((result, index) => results.findIndex(({ service }) => service === result.service) === index)
    .map(({ from, service, address, l4Port, said }) => {
      const command =
        service.application === "redis"
          ? `redis-cli -h ${address} -p ${l4Port} GET pod`
          : `curl http://${address}:${l4Port}/`;
      return `${from.name}$ ${command}\n${said.trimEnd()}`;
    })
    .join("\n");
}

/** A request that did not go well, and why. */
export interface Failure {
  from: string;
  to: string;
  /** ADDRESS:PORT. */
  at: string;
  reason: string;
}

export function failuresOf(results: readonly (WalkResult | ServiceResult)[]): Failure[] {
  return results
    .filter(({ reason }) => reason !== "")
    .map((result) => {
      const { address, l4Port } = "to" in result ? result.to : result;
      const to = "to" in result ? result.to.name : result.service.name;
      return { from: result.from.name, to, at: `${address}:${l4Port}`, reason: result.reason };
    });
}

/** The first failures of a walk, a line each. */
export function failures(results: readonly (WalkResult | ServiceResult)[], limit: number): string[] {
  const failed = failuresOf(results);
  const lines = failed
    .slice(0, limit)
    .map(({ from, to, at, reason }) => `${from} → ${to} (${at}): ${reason}`);
  if (failed.length > limit) lines.push(`… and ${failed.length - limit} more`);
  return lines;
}
