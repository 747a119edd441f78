/** A token bucket: `rate` tokens a second, at most `burst` at once. Time is given in microseconds. */
export class TokenBucket {
  #tokens: number;
  #last = 0;

  constructor(
    readonly rate: number,
    readonly burst: number,
  ) {
    this.#tokens = burst;
  }

  /** Takes a token if there is one. */
  take(nowUs: number): boolean {
    const gained = ((nowUs - this.#last) * this.rate) / 1e6;
    if (gained > 0) {
      this.#tokens = Math.min(this.burst, this.#tokens + gained);
      this.#last = nowUs;
    }
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
