/** A token bucket: `rate` tokens a second, at most `burst` at once. Counts in thousandths of a token. */
const TOKEN = 1000;
const TOKENS = 0;
const LAST_MS = 1;

export class TokenBucket {
  readonly #state: Int32Array;

  /** `burst`: up to two million. */
  constructor(
    readonly rate: number,
    readonly burst: number,
  ) {
    this.#state = Int32Array.of(burst * TOKEN, 0);
  }

  /**
   * Takes a token if there is one. The time in milliseconds, modulo 2^32: an integer, since a double
   * that is handed to a function which the compiler does not inline is boxed, 16 bytes each time.
   */
  take(nowMs: number): boolean {
    const state = this.#state;
    const gained = ((nowMs - state[LAST_MS]) >>> 0) * this.rate;
    state[TOKENS] = Math.min(this.burst * TOKEN, state[TOKENS] + gained);
    state[LAST_MS] = nowMs;
    if (state[TOKENS] < TOKEN) return false;
    state[TOKENS] -= TOKEN;
    return true;
  }
}
