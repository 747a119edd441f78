/**
 * Rates out of two looks at the agents' counters, which are totals since each agent's start. Pure. An agent
 * that has started again between the two has counted back: it has no rate then.
 */
import type { NodeAnnouncement } from "../explain/topology.js";
import type { Rate, Traffic } from "./protocol.js";

/** Packets and bytes. */
export interface Count {
  packets: number;
  bytes: number;
}

/** What is read of an agent's counters; older agents count by node alone. */
export interface NodeCounters {
  received: number;
  forwarded: number;
  dropped: Readonly<Record<string, number>>;
  /** Milliseconds of the agent's own clock. */
  takenAtMs?: number;
  vteps?: readonly { node: string; sent: Count; received: Count }[];
  services?: readonly { namespace: string; name: string; requests: Count; replies: Count }[];
}

/** One look at all agents. */
export interface Look {
  /** Of our own clock, where an agent does not name its own. */
  atMs: number;
  counters: ReadonlyMap<string, NodeCounters>;
  announcements: ReadonlyMap<string, NodeAnnouncement>;
}

const NONE: Count = { packets: 0, bytes: 0 };

/** What went by between two looks. `before` is null at the first one. */
export function trafficOf(before: Look | null, now: Look): Traffic {
  const services = new Map<string, Rate>();
  const traffic: Traffic = {
    seconds: before === null ? 0 : (now.atMs - before.atMs) / 1000,
    nodes: [],
    links: [],
    services: [],
    drops: [],
    addresses: addressesOf(now),
    bfd: [...now.announcements].flatMap(([node, { neighbors }]) =>
      neighbors.map(({ node: neighbor, state, upSince }) => ({ node, neighbor, state, upSince })),
    ),
  };
  for (const [node, counters] of now.counters) {
    const old = before?.counters.get(node);
    const seconds = old === undefined || before === null ? 0 : secondsBetween(before, old, now, counters);
    const rate = (count: number, past: number | undefined) => perSecond(count, past, seconds);
    const rates = (count: Count, past: Count | undefined): Rate => ({
      packetsPerSecond: rate(count.packets, past?.packets),
      bitsPerSecond: 8 * rate(count.bytes, past?.bytes),
    });
    traffic.nodes.push({
      node,
      received: rate(counters.received, old?.received),
      forwarded: rate(counters.forwarded, old?.forwarded),
      dropped: rate(sum(counters.dropped), old && sum(old.dropped)),
    });
    for (const [reason, total] of Object.entries(counters.dropped))
      if (total > 0)
        traffic.drops.push({
          node,
          reason,
          total,
          perSecond: rate(total, old && (old.dropped[reason] ?? 0)),
        });
    for (const { node: to, sent } of counters.vteps ?? [])
      traffic.links.push({
        from: node,
        to,
        ...rates(sent, old?.vteps?.find((each) => each.node === to)?.sent),
      });
    for (const { namespace, name, requests, replies } of counters.services ?? []) {
      const key = `${namespace}/${name}`;
      const past = old?.services?.find((each) => each.namespace === namespace && each.name === name);
      // A Service that had nothing at the last look was not in its list.
      const both = [
        rates(requests, past?.requests ?? (old && NONE)),
        rates(replies, past?.replies ?? (old && NONE)),
      ];
      for (const each of both) services.set(key, plus(services.get(key), each));
    }
  }
  traffic.services = [...services].map(([key, rate]) => ({ key, ...rate }));
  return traffic;
}

function secondsBetween(before: Look, old: NodeCounters, now: Look, counters: NodeCounters): number {
  const own = (counters.takenAtMs ?? Number.NaN) - (old.takenAtMs ?? Number.NaN);
  return (Number.isNaN(own) ? now.atMs - before.atMs : own) / 1000;
}

/** 0 without a past, and where the count went back. */
function perSecond(count: number, past: number | undefined, seconds: number): number {
  return past === undefined || seconds <= 0 || count < past ? 0 : (count - past) / seconds;
}

function sum(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((total, each) => total + each, 0);
}

function plus(a: Rate | undefined, b: Rate): Rate {
  return {
    packetsPerSecond: (a?.packetsPerSecond ?? 0) + b.packetsPerSecond,
    bitsPerSecond: (a?.bitsPerSecond ?? 0) + b.bitsPerSecond,
  };
}

/** Each address once: as the node says that answers for it, else as any says. */
function addressesOf({ announcements }: Look): Traffic["addresses"] {
  const found = new Map<string, Traffic["addresses"][number]>();
  const all = [...announcements.values()].flatMap(({ addresses }) => addresses);
  for (const { address, owner, since } of [...all.filter(({ answers }) => answers), ...all])
    if (!found.has(address)) found.set(address, { address, owner, since });
  return [...found.values()];
}
