/**
 * The lab as tests use it: its command line, kubectl on its API server's node, and what its agents
 * have recorded. One lab at a time per machine: files of namespace tests run one after another.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import type { Event, Pod } from "../../src/kube/types.js";
import {
  API_NODE,
  hostNamespace,
  inNamespace,
  kubeEnvironment,
  nodePaths,
  podNamespace,
} from "../../src/lab/plan.js";
import { type RecordedPod, recordedPods } from "../../src/runtime/recordedPods.js";
import { PODWIRE } from "./agent.js";
import { waitFor } from "./netns.js";

export interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

export const LONG = { deadlineMs: 60_000, intervalMs: 100 };
export const ENV = kubeEnvironment(process.env);

/** The command line of kubectl on the API server's node. */
export function kubectlCommand(args: readonly string[]): string[] {
  return inNamespace(hostNamespace(API_NODE.name), ["kubectl", ...args]);
}

export function run(command: readonly string[], input = ""): Promise<Result> {
  return new Promise((resolve) => {
    const child = spawn(command[0]!, command.slice(1), { env: ENV });
    const result = { code: -1, stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      result.stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      result.stderr += text;
    });
    child.on("close", (code) => resolve({ ...result, code: code ?? -1 }));
    child.stdin.on("error", () => {});
    child.stdin.end(input);
  });
}

export const raw = (...args: string[]) => run(kubectlCommand(args));

/** Output of a kubectl that has to succeed. */
export async function kubectl(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await raw(...args);
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: exit ${code}: ${stderr}`);
  return stdout;
}

export async function create(...objects: object[]): Promise<void> {
  const list = { apiVersion: "v1", kind: "List", items: objects };
  const { code, stderr } = await run(kubectlCommand(["create", "-f", "-"]), JSON.stringify(list));
  expect(code, stderr).toBe(0);
}

export function lab(...args: string[]): Result {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PODWIRE, "lab", ...args], {
    encoding: "utf8",
    timeout: 200_000,
  });
  return { code: status ?? -1, stdout, stderr };
}

export const podOf = async (name: string) =>
  JSON.parse(await kubectl("get", "pod", name, "-o", "json")) as Pod;
export const podsOf = async (selector: string) =>
  (JSON.parse(await kubectl("get", "pod", "-l", selector, "-o", "json")) as { items: Pod[] }).items;
export const containerOf = ({ status }: Pod) => status!.containerStatuses![0]!;

/** Waits until a pod is as it should be. */
export function until(name: string, what: string, condition: (pod: Pod) => unknown): Promise<Pod> {
  return waitFor(
    async () => {
      const pod = await podOf(name);
      return condition(pod) ? pod : null;
    },
    { ...LONG, what: `${name} ${what}` },
  );
}

export async function eventsOf(name: string): Promise<string[]> {
  const selector = `--field-selector=involvedObject.name=${name}`;
  const { items } = JSON.parse(await kubectl("get", "events", selector, "-o", "json")) as { items: Event[] };
  return items.map(({ type, reason, message }) => `${type} ${reason} ${message}`);
}

/** A pod of one container that runs a script of the shell. */
export function shellPod(name: string, script: string, container: object = {}, spec: object = {}): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: { app: name } },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [{ name: "main", image: "busybox", command: ["sh", "-c", script], ...container }],
      ...spec,
    },
  };
}

export const inside = (pod: string, script: string) => raw("exec", pod, "--", "sh", "-c", script);

export function recorded(node: string, name: string): RecordedPod {
  return recordedPods(nodePaths(node).runtimeDir).find((each) => each.name === name)!;
}

export function agentPid(node: string): number {
  const { agents } = JSON.parse(readFileSync("/run/podwire-lab/lab.json", "utf8")) as {
    agents: { node: string; pid: number }[];
  };
  return agents.find((each) => each.node === node)!.pid;
}

/** Processes in a pod's network namespace, as this machine numbers them. */
export function processesOf({ uid }: { uid: string }): string[] {
  const pids = execFileSync("ip", ["netns", "pids", podNamespace({ uid })], { encoding: "utf8" });
  return pids.split("\n").filter(Boolean).sort();
}
