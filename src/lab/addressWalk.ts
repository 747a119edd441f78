/**
 * Owns what step 4 shows beside requests: who answers for each load-balancer address on the LAN, as the pc
 * has learned it and as the agents say. Must not know how it is printed.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { AnnounceStatus } from "../agent/announceStatus.js";
import { ask } from "../agent/StatusServer.js";
import { hostNamespace, inNamespace, macOf, nodePaths } from "./plan.js";
import { type CommandResult, run } from "./processes.js";
import { NODES, PC } from "./walkthrough.js";

/** How long the agents may take to agree. */
const AGREE_MS = 5_000;
const TIMEOUT_MS = 5_000;

/** Who answers for a load-balancer address. */
export interface AddressOwner {
  address: string;
  /** Name of the node that all agents name; "" where they do not agree. */
  owner: string;
  /** The MAC that the pc has for it; "" for none. */
  mac: string;
  /** Why this is not as it should be; empty if it is. */
  reason: string;
}

/** What the agents and the pc's neighbour table say about addresses. */
export async function ownersOf(addresses: readonly string[], signal: AbortSignal): Promise<AddressOwner[]> {
  const deadline = performance.now() + AGREE_MS;
  for (;;) {
    const [views, neighbours] = await Promise.all([agentViews(), pcNeighbours()]);
    const owners = addresses.map((address) => judgeOwner(address, views, neighbours.get(address) ?? ""));
    if (owners.every(({ reason }) => reason === "") || performance.now() > deadline) return owners;
    await sleep(100, undefined, { signal });
  }
}

/** An agent's owner of each address, by node; null where the agent does not answer. */
export type AgentViews = ReadonlyMap<string, ReadonlyMap<string, string> | null>;

/** Whether all agents name one owner, and the pc has that one's MAC. */
export function judgeOwner(address: string, views: AgentViews, mac: string): AddressOwner {
  const named = [...views].map(([node, view]) => [node, view?.get(address) ?? ""] as const);
  const owners = new Set(named.map(([, owner]) => owner));
  const [owner = ""] = owners;
  const says = ([node, other]: readonly [string, string]) => `${node} says ${other || "nobody"}`;
  if (owners.size > 1 || owner === "")
    return { address, owner: "", mac, reason: `the agents name no one owner: ${named.map(says).join(", ")}` };
  const node = NODES.find(({ name }) => name === owner);
  const expected = node === undefined ? "" : macOf(node.address);
  const reason = mac === expected ? "" : `${owner} has the MAC ${expected}, and the pc ${mac || "none"}`;
  return { address, owner, mac, reason };
}

async function agentViews(): Promise<AgentViews> {
  const views = NODES.map(async ({ name }) => {
    const socket = join(nodePaths(name).stateDir, "agent.sock");
    const view = await ask<AnnounceStatus>(socket, "announcement").then(
      ({ addresses }) => new Map(addresses.map(({ address, owner }) => [address, owner])),
      () => null,
    );
    return [name, view] as const;
  });
  return new Map(await Promise.all(views));
}

async function pcNeighbours(): Promise<Map<string, string>> {
  const { stdout } = await onPc(["ip", "-json", "neigh", "show"]);
  const found = JSON.parse(stdout || "[]") as { dst: string; lladdr?: string }[];
  return new Map(found.flatMap(({ dst, lladdr }) => (lladdr === undefined ? [] : [[dst, lladdr]])));
}

/** The pc's neighbour table as people look at it: the command, and what it printed. */
export async function neighbourTable(): Promise<{ command: string; output: string }> {
  const arp = await onPc(["arp", "-n"]);
  // Without net-tools.
  if (arp.code === 0) return { command: "arp -n", output: arp.stdout };
  return { command: "ip neigh", output: (await onPc(["ip", "neigh"])).stdout };
}

function onPc(command: string[]): Promise<CommandResult> {
  return run(inNamespace(hostNamespace(PC.name), command), { timeoutMs: TIMEOUT_MS });
}
