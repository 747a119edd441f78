/**
 * For how long an address could not be reached, from connections that were begun one after another.
 * Pure; times in milliseconds of one clock.
 */

/** One attempt. */
export interface Attempt {
  /** When it was begun. */
  at: number;
  /** It came to an answer in time. */
  good: boolean;
}

/** What a fault did to those who connect. */
export interface Outage {
  /** From the start of the last good attempt before to that of the first good one after. */
  gapMs: number;
  /** Attempts that failed, begun at the fault or later. */
  failed: number;
  /** Longest time between two starts around the gap: what the attempts can resolve. */
  stepMs: number;
}

/** How long before a fault an attempt may begin and still be hit by it. */
const UNDER_WAY_MS = 250;

/**
 * The longest time between two good attempts that follow one another with nothing but failed ones in
 * between, begun at the fault or hit by it; where none failed, the time between the two around the
 * fault. Null where there is no good attempt before or after.
 *
 * @param attempts in the order of their starts
 */
export function outageOf(attempts: readonly Attempt[], faultAt: number): Outage | null {
  const good = attempts.filter((each) => each.good);
  let longest: [number, number] | null = null;
  for (let n = 1; n < good.length; n++) {
    const [from, to] = [good[n - 1].at, good[n].at];
    if (to <= faultAt - UNDER_WAY_MS) continue;
    const around = from <= faultAt && to > faultAt;
    const hit = attempts.some(({ at, good: ok }) => !ok && at > from && at < to);
    if (!around && !hit) continue;
    if (longest === null || to - from > longest[1] - longest[0]) longest = [from, to];
  }
  const after = good.at(-1)?.at ?? Number.NEGATIVE_INFINITY;
  if (longest === null || after <= faultAt) return null;
  const [from, to] = longest;
  const near = attempts.filter(({ at }) => at >= from && at <= to);
  const steps = near.slice(1).map(({ at }, n) => at - near[n].at);
  return {
    gapMs: to - from,
    failed: attempts.filter(({ at, good: ok }) => !ok && at >= faultAt - UNDER_WAY_MS).length,
    stepMs: Math.max(...steps),
  };
}
