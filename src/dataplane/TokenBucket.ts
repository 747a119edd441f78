/** A token bucket: `rate` tokens a second, at most `burst` at once. Time is given in microseconds. */
const TOKENS = 0;
const LAST = 1;

export class TokenBucket {
  /** Doubles in fields of their own would be boxed anew with every change. */
  readonly #state: Float64Array;

  constructor(
    readonly rate: number,
    readonly burst: number,
  ) {
    this.#state = Float64Array.of(burst, 0);
  }

  /** Takes a token if there is one. */
  take(nowUs: number): boolean {
    const state = this.#state;
    const gained = ((nowUs - state[LAST]) * this.rate) / 1e6;
    if (gained > 0) {
      state[TOKENS] = Math.min(this.burst, state[TOKENS] + gained);
      state[LAST] = nowUs;
    }
    if (state[TOKENS] < 1) return false;
    state[TOKENS] -= 1;
    return true;
  }
}
