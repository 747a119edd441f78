/** What `podwire top` shows: the difference of two reports as rates. Pure. */
import type { AgentStatus } from "../agent/Agent.js";
import type { CounterReport } from "../agent/counterReport.js";
import type { LoopCounts, TrafficCount } from "../worker/control.js";
import { duration, rate } from "./getViews.js";
import { table } from "./table.js";

/** What is shown of an agent's status. */
export type TopStatus = Pick<AgentStatus, "node" | "flows" | "counters"> & { startedAt: string };

export interface TopSize {
  columns: number;
  /** Lines that there is room for; Infinity where it is no screen. */
  rows: number;
}

interface Section {
  head: string[];
  rows: string[][];
  /** Rows that are left out last. */
  right: ReadonlySet<number>;
}

/**
 * The screen for the time between two looks at one agent. Lines beyond `rows` are left out where they
 * matter least: each list keeps its busiest, and a word about the others.
 */
export function topScreen(before: TopStatus, now: TopStatus, time: Date, size: TopSize): string[] {
  const { node, startedAt, flows, counters } = now;
  // A dataplane that was started again counts from zero.
  const restarted = counters.received < before.counters.received;
  const old = restarted ? zeroOf(counters) : before.counters;
  const seconds = Math.max(1e-3, (counters.takenAtMs - before.counters.takenAtMs) / 1000);
  const per = (after: number, earlier: number) => Math.max(0, after - earlier) / seconds;
  const up = Math.max(0, Math.floor((time.getTime() - Date.parse(startedAt)) / 1000));
  const other = (name: string) => per(counters.other[name] ?? 0, old.other[name] ?? 0);
  const drops = dropRates(old, counters, per);
  const dropped = drops.reduce((sum, { perSecond }) => sum + perSecond, 0);
  const top = [
    `podwire top  ${node}  ${time.toTimeString().slice(0, 8)}  up ${duration(up)}  flows ${flows.flows} of ${flows.capacity}`,
    `frames/s  in ${rate(per(counters.received, old.received))}  out ${rate(per(counters.forwarded, old.forwarded))}  dropped ${rate(dropped)}` +
      `    bit/s  in ${rate(8 * other("receivedBytes"))}  out ${rate(8 * other("forwardedBytes"))}`,
    `loop      ${loopText(old.loop, counters.loop, per)}  sleeps/s ${rate(other("sleeps"))}  calls/s ${rate(other("rxCalls") + other("txCalls"))}`,
  ];
  const sections = [serviceRates(old, counters, per), vtepRates(old, counters, per), dropSection(drops)];
  const left = size.rows - top.length - sections.length * 2;
  const shown = share(
    sections.map(({ rows }) => rows.length),
    left,
  );
  const lines = [...top];
  sections.forEach(({ head, rows, right }, i) => {
    const omitted = rows.length - shown[i]!;
    const text = table(head, rows.slice(0, shown[i]), right);
    if (omitted > 0) text[0] += `  (${omitted} more)`;
    lines.push("", ...text);
  });
  return lines.map((line) => line.slice(0, size.columns));
}

type Per = (after: number, earlier: number) => number;

const NONE: TrafficCount = { packets: 0, bytes: 0 };

function cells(after: TrafficCount, earlier: TrafficCount, per: Per): string[] {
  return [rate(per(after.packets, earlier.packets)), rate(8 * per(after.bytes, earlier.bytes))];
}

function serviceRates(old: CounterReport, now: CounterReport, per: Per): Section {
  const keyOf = ({ namespace, name, port, protocol }: CounterReport["services"][number]) =>
    `${namespace}/${name} ${port} ${protocol}`;
  const known = new Map(old.services.map((each) => [keyOf(each), each]));
  const rows = now.services.map((service) => {
    const { requests = NONE, replies = NONE } = known.get(keyOf(service)) ?? {};
    const { namespace, name, l4Port, protocol } = service;
    return {
      busy: per(service.requests.bytes + service.replies.bytes, requests.bytes + replies.bytes),
      cells: [
        `${namespace}/${name}`,
        `${l4Port}/${protocol}`,
        ...cells(service.requests, requests, per),
        ...cells(service.replies, replies, per),
      ],
    };
  });
  return {
    head: ["SERVICE", "PORT", "REQUEST PKT/S", "BIT/S", "REPLY PKT/S", "BIT/S"],
    rows: busiest(rows),
    right: new Set([2, 3, 4, 5]),
  };
}

function vtepRates(old: CounterReport, now: CounterReport, per: Per): Section {
  const known = new Map(old.vteps.map((each) => [each.node, each]));
  const rows = now.vteps.map(({ node, address, received, sent }) => {
    const before = known.get(node);
    return {
      busy: per(received.bytes + sent.bytes, (before?.received.bytes ?? 0) + (before?.sent.bytes ?? 0)),
      cells: [
        node,
        address,
        ...cells(received, before?.received ?? NONE, per),
        ...cells(sent, before?.sent ?? NONE, per),
      ],
    };
  });
  return {
    head: ["NODE", "UNDERLAY", "RX PKT/S", "BIT/S", "TX PKT/S", "BIT/S"],
    rows: busiest(rows),
    right: new Set([2, 3, 4, 5]),
  };
}

function dropRates(old: CounterReport, now: CounterReport, per: Per) {
  return Object.entries(now.dropped)
    .map(([reason, total]) => ({ reason, total, perSecond: per(total, old.dropped[reason] ?? 0) }))
    .sort((a, b) => b.perSecond - a.perSecond || b.total - a.total);
}

function dropSection(drops: ReturnType<typeof dropRates>): Section {
  return {
    head: ["DROPPED BECAUSE", "FRAMES/S", "FRAMES"],
    rows: drops.map(({ reason, total, perSecond }) => [reason, rate(perSecond), String(total)]),
    right: new Set([1, 2]),
  };
}

/** Cells, the busiest first; equals stay in their order. */
function busiest(rows: readonly { busy: number; cells: string[] }[]): string[][] {
  return rows.toSorted((a, b) => b.busy - a.busy).map(({ cells }) => cells);
}

/** Breaths with packets, and the bounds below which half and 99 % of them ended. */
function loopText(old: LoopCounts, now: LoopCounts, per: Per): string {
  const counts = now.counts.map((count, i) => Math.max(0, count - (old.counts[i] ?? 0)));
  const total = counts.reduce((sum, count) => sum + count, 0);
  const breaths = `breaths/s ${rate(per(total, 0))}`;
  if (total === 0) return breaths;
  const bound = (part: number) => {
    let below = 0;
    const i = counts.findIndex((count) => {
      below += count;
      return below >= part * total;
    });
    return i < now.boundsUs.length
      ? `≤ ${microseconds(now.boundsUs[i]!)}`
      : `> ${microseconds(now.boundsUs.at(-1)!)}`;
  };
  return `${breaths}  half ${bound(0.5)}  99% ${bound(0.99)}`;
}

function microseconds(us: number): string {
  return us < 1000 ? `${us} µs` : `${us / 1000} ms`;
}

/** How many rows each list gets of `room`: what one does not need, the others have. */
function share(wanted: readonly number[], room: number): number[] {
  const given = wanted.map(() => 0);
  for (let left = Math.max(0, room); left > 0; ) {
    const hungry = wanted.flatMap((count, i) => (given[i]! < count ? [i] : []));
    if (hungry.length === 0) break;
    const each = Math.max(1, Math.floor(left / hungry.length));
    for (const i of hungry) {
      const more = Math.min(each, wanted[i]! - given[i]!, left);
      given[i]! += more;
      left -= more;
    }
  }
  return given;
}

/** A report of the same things in which nothing has been counted. */
function zeroOf(report: CounterReport): CounterReport {
  return {
    ...report,
    received: 0,
    forwarded: 0,
    answered: 0,
    dropped: {},
    other: {},
    loop: { ...report.loop, counts: report.loop.counts.map(() => 0), sumUs: 0 },
    vteps: [],
    services: [],
  };
}
