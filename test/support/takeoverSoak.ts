/**
 * Random failovers among four nodes, seen by a fifth computer on the LAN that asks for every address all
 * the time. What must hold: a node that decides to own an address says so by a gratuitous request and a
 * reply at once; two nodes that hear each other do not both answer for longer than a BFD interval; and
 * after each fault those that are well agree on the owner. What is done follows from the seed alone.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  AnnounceBed,
  BFD_INTERVAL_MS,
  type Claim,
  type Decision,
  FAULTS,
  type Fault,
  type Profile,
} from "./announceBed.js";
import { TestNet, waitFor } from "./netns.js";
import { Random } from "./random.js";

export interface TakeoverSoakOptions {
  seed: number;
  /** Faults. */
  count: number;
  profile: Profile;
  say?: (line: string) => void;
  signal?: AbortSignal;
}

export interface TakeoverSoakResult {
  faults: Record<Fault, number>;
  decisions: Announced[];
  /** What nodes said of addresses that were no longer theirs. */
  secondAnswers: SecondAnswer[];
}

/** A decision, and what came of it. */
export interface Announced extends Decision {
  /** Milliseconds until its gratuitous request and its reply were seen, both; null where they never were. */
  ms: number | null;
  /** The fault before it, counted from 1. */
  fault: number;
}

/** A frame that says a node has an address which another one has taken over. */
export interface SecondAnswer {
  address: string;
  node: string;
  owner: string;
  /** Milliseconds since the owner decided to be that. */
  ms: number;
}

/** How soon an announcement is to follow its decision. */
export const ANNOUNCE_MS = 5;
const COUNT_NODES = 4;
/** At most so many nodes are away at a time. */
const MOST_AWAY = 2;
/** A freeze that may be over before anybody has noticed. */
const SHORT_FREEZE_MS = { least: 20, most: 600 };
/** An announcement that comes so late counts as missing. */
const SEEN_MS = 2_000;
/** How long the watch of the LAN may take to tell of what it has seen. */
const TOLD_MS = 20_000;

/** Runs it. Throws where nodes do not come to agree; what a capture shows is in the result. */
export async function takeoverSoak(options: TakeoverSoakOptions): Promise<TakeoverSoakResult> {
  const net = new TestNet();
  try {
    const bed = await AnnounceBed.start(net, COUNT_NODES, options.profile);
    net.onCleanup(() => bed.thaw());
    return await run(bed, options);
  } finally {
    await net.cleanup();
  }
}

async function run(bed: AnnounceBed, { seed, count, say, signal }: TakeoverSoakOptions) {
  const random = new Random(seed);
  const watch = await bed.watch();
  const watchedUs = monotonicUs();
  const names = bed.nodes.map(({ name }) => name);
  const away = new Map<string, Fault>();
  const faults: Record<Fault, number> = { kill: 0, freeze: 0, link: 0, drain: 0 };
  /** When each fault was, CLOCK_MONOTONIC in microseconds. */
  const times: number[] = [];
  const agreed = () => bed.agreed(new Set(names.filter((name) => !away.has(name))));
  const comeBack = async (name: string) => {
    await bed.recover(name, away.get(name)!);
    away.delete(name);
    await agreed();
  };
  for (let n = 0; n < count && signal?.aborted !== true; n++) {
    const name = random.pick(names.filter((each) => !away.has(each)));
    const fault = random.pick(FAULTS);
    faults[fault]++;
    times.push(monotonicUs());
    say?.(`${n + 1}: ${fault} ${name}${away.size === 0 ? "" : `, away: ${[...away.keys()].join(", ")}`}`);
    await bed.inject(name, fault);
    away.set(name, fault);
    if (fault === "freeze" && random.oneIn(3))
      await sleep(random.between(SHORT_FREEZE_MS.least, SHORT_FREEZE_MS.most));
    else await agreed();
    if (away.size >= MOST_AWAY || !random.oneIn(3)) await comeBack(random.pick([...away.keys()]));
  }
  for (const name of [...away.keys()]) await comeBack(name);
  const all = bed.decisions();
  const decisions = all.filter(({ atUs }) => atUs >= watchedUs);
  const announcements = () => watch.claims().filter(({ kind }) => kind !== "answer");
  await waitFor(() => decisions.every((each) => announcedAfter(bed, each, announcements()) !== null), {
    what: "every announcement",
    deadlineMs: TOLD_MS,
  }).catch(() => {});
  const seen = announcements();
  return {
    faults,
    decisions: decisions.map((each) => ({
      ...each,
      ms: announcedAfter(bed, each, seen),
      fault: times.findLastIndex((at) => at <= each.atUs) + 1,
    })),
    secondAnswers: secondAnswersOf(watch.claims(), all, bed.macs),
  };
}

/** CLOCK_MONOTONIC, microseconds. */
function monotonicUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

/** Milliseconds until both announcements of a decision were seen; null where one was not. */
function announcedAfter(bed: AnnounceBed, decision: Decision, claims: readonly Claim[]): number | null {
  const mac = bed.macs[decision.node];
  const first = (kind: Claim["kind"]) =>
    claims.find(
      (each) =>
        each.kind === kind &&
        each.mac === mac &&
        each.address === decision.address &&
        each.atUs >= decision.atUs,
    )?.atUs ?? Number.POSITIVE_INFINITY;
  const seen = Math.max(first("request"), first("reply"));
  return seen - decision.atUs > SEEN_MS * 1000 ? null : (seen - decision.atUs) / 1000;
}

/**
 * Claims of nodes that are not the last one to have decided for the address: those of the owner before,
 * until it has heard of its successor. Claims before the first decision are passed over. Pure.
 *
 * @param macs of the nodes, by name
 */
export function secondAnswersOf(
  claims: readonly Claim[],
  decisions: readonly Decision[],
  macs: Readonly<Record<string, string>>,
): SecondAnswer[] {
  const nodes = new Map(Object.entries(macs).map(([node, mac]) => [mac, node]));
  const found: SecondAnswer[] = [];
  for (const address of new Set(claims.map((each) => each.address))) {
    const decided = decisions.filter((each) => each.address === address).sort((a, b) => a.atUs - b.atUs);
    const said = claims.filter((each) => each.address === address).sort((a, b) => a.atUs - b.atUs);
    let next = 0;
    for (const { mac, atUs } of said) {
      while (next < decided.length && decided[next]!.atUs <= atUs) next++;
      const last = decided[next - 1];
      const node = nodes.get(mac) ?? mac;
      if (last !== undefined && last.node !== node)
        found.push({ address, node, owner: last.node, ms: (atUs - last.atUs) / 1000 });
    }
  }
  return found;
}

/** What is not as it must be, in words. */
export function takeoverFindings(result: TakeoverSoakResult, profile: Profile): string[] {
  const late = result.decisions.filter(({ ms }) => ms === null || ms > ANNOUNCE_MS);
  const long = result.secondAnswers.filter(({ ms }) => ms > BFD_INTERVAL_MS[profile]);
  return [
    ...late.map(
      ({ node, address, fault, ms }) =>
        `${node} took ${address} over after fault ${fault} and announced it ${ms === null ? "never" : `${ms.toFixed(1)} ms later`}`,
    ),
    ...long.map(
      ({ address, node, owner, ms }) =>
        `${node} answered for ${address} ${ms.toFixed(0)} ms after ${owner} had taken it over`,
    ),
  ];
}
