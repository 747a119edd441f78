/**
 * Search for the highest packet rate at which less than one packet in a hundred is lost. Knows
 * nothing of programs and networks: a probe offers a rate and says what came of it.
 *
 * The unpaced rate comes first. If that alone loses nothing, the sender is the limit and the
 * search is over. Otherwise short probes narrow the rate down, and one long probe confirms it;
 * while that one loses too much, the rate goes down and it is repeated.
 */

/** What one run at some rate gave, in packets/s. */
export interface RateProbe {
  offered: number;
  received: number;
}

/** Offers `rate` packets/s (0: as many as the sender can) for `seconds`. */
export type ProbeRate<P extends RateProbe> = (rate: number, seconds: number) => Promise<P>;

/** The highest rate found. */
export interface RateResult<P extends RateProbe> {
  /** The confirming run, null where no rate was good enough. */
  best: P | null;
  /** No loss even with an unpaced sender, or the sender did not reach the rate it was asked for. */
  senderLimited: boolean;
  /** Runs made, the unpaced one not counted. */
  runs: number;
}

/** Most loss that counts as none: 1 %. */
const LOSS_LIMIT = 0.01;
/** Share of the asked rate below which the sender did not keep up. */
const KEPT_UP = 0.93;
/** Short probes at most. */
const MAX_PROBES = 6;
/** The interval is small enough when its ends differ by this factor. */
const CLOSE_ENOUGH = 1.12;
/** Step down while nothing was good, in the first repetition. */
const FIRST_DOWN = 0.5;
/** Later ones start this much above what was found before, and go down or up from there. */
const LATER_START = 1.05;
const LATER_DOWN = 0.85;
const LATER_UP = 1.3;
const CONFIRM_TRIES = 5;
const CONFIRM_STEP = 0.93;

/** Share of packets lost. */
export function lossOf(probe: RateProbe): number {
  return probe.offered > 0 ? Math.max(0, 1 - probe.received / probe.offered) : 1;
}

/**
 * Searches. `unpaced` is the result of a run at rate 0; `before` the rate found in an earlier
 * repetition, null in the first; short probes last `shortSeconds`, the confirming one `seconds`.
 */
export async function searchRate<P extends RateProbe>(
  probe: ProbeRate<P>,
  unpaced: P,
  before: number | null,
  shortSeconds: number,
  seconds: number,
): Promise<RateResult<P>> {
  if (lossOf(unpaced) < LOSS_LIMIT) return { best: unpaced, senderLimited: true, runs: 0 };
  // Without loss at `low`, too much of it at `high`.
  let low = 0;
  let high = unpaced.offered;
  let tooMuchSeen = false;
  let senderLimited = false;
  let runs = 0;
  // What arrives of too much is a good first guess at what would arrive of less.
  let next = Math.min(before === null ? unpaced.received : before * LATER_START, high * 0.9);
  while (runs < MAX_PROBES && high > low * CLOSE_ENOUGH) {
    const result = await probe(next, shortSeconds);
    runs++;
    if (lossOf(result) >= LOSS_LIMIT) {
      high = next;
      tooMuchSeen = true;
    } else if (result.offered < next * KEPT_UP) {
      low = result.offered;
      senderLimited = true;
      break;
    } else {
      low = next;
    }
    const middle = (low + high) / 2;
    if (low === 0) next = high * (before === null ? FIRST_DOWN : LATER_DOWN);
    else next = tooMuchSeen || before === null ? middle : Math.min(low * LATER_UP, middle);
  }
  let rate = low === 0 ? next : low;
  for (let attempt = 0; attempt < CONFIRM_TRIES; attempt++) {
    const result = await probe(rate, seconds);
    runs++;
    if (lossOf(result) < LOSS_LIMIT) return { best: result, senderLimited, runs };
    senderLimited = false;
    rate *= CONFIRM_STEP;
  }
  return { best: null, senderLimited: false, runs };
}
