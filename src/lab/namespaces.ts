/**
 * Owns network namespaces: making those of the plan, finding and removing what is left of them.
 * Everything goes through iproute2. Must not know agents.
 *
 * No link of the lab is ever made in the namespace we run in: each cable starts in podwire-lan and
 * ends in the namespace of its machine.
 */
import { readdirSync } from "node:fs";
import { LabError } from "./errors.js";
import { fixedNamespaces, hostBatch, hostNamespace, LAN_NAMESPACE, lanBatch, ourNamespaces } from "./plan.js";
import { type ProcessId, run, runOrThrow, startTimeOf } from "./processes.js";
import { NODES, PC } from "./walkthrough.js";

/** Names of the lab's namespaces that exist now. */
export function existingNamespaces(): string[] {
  try {
    return ourNamespaces(readdirSync("/run/netns"));
  } catch {
    return [];
  }
}

function batch(namespace: string, lines: readonly string[]): Promise<string> {
  return runOrThrow(["ip", "-n", namespace, "-batch", "-"], { input: `${lines.join("\n")}\n` });
}

/** Makes all namespaces but the pods' (which are the agents' to make), the LAN and the addresses of its machines. */
export async function makeNamespaces(): Promise<void> {
  const lines = fixedNamespaces().map((name) => `netns add ${name}`);
  const made = await run(["ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
  if (made.code !== 0) {
    const forbidden = /not permitted|denied/i.test(made.stderr);
    throw new LabError(
      `cannot create network namespaces: ${made.stderr.trim()}` +
        (forbidden ? "\nA container needs --privileged for this; a virtual machine works too." : ""),
      "LAB_NO_NAMESPACES",
    );
  }
  await batch(LAN_NAMESPACE, lanBatch());
  await Promise.all(
    [...NODES, PC].map(({ name, address }) => batch(hostNamespace(name), hostBatch(address))),
  );
}

/** All processes inside the lab's namespaces, whoever started them. */
export async function processesInside(namespaces: readonly string[]): Promise<ProcessId[]> {
  const outputs = await Promise.all(namespaces.map((name) => run(["ip", "netns", "pids", name])));
  const pids = new Set(outputs.flatMap(({ stdout }) => stdout.split("\n").filter(Boolean).map(Number)));
  return [...pids].flatMap((pid) => {
    const startTime = startTimeOf(pid);
    return startTime === null ? [] : [{ pid, startTime }];
  });
}

/** Removes namespaces; with them go their links, routes and rules. */
export async function removeNamespaces(namespaces: readonly string[]): Promise<void> {
  for (const name of [...namespaces].reverse()) {
    await runOrThrow(["ip", "netns", "delete", name]);
  }
}
