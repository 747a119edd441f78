/** Time as an argument: the system's, or a test's. */

export interface Clock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Wall clock. */
  date(): Date;
  /** Calls `work` once after `ms`, unless the returned function is called before. */
  after(ms: number, work: () => void): () => void;
}

export const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  date: () => new Date(),
  after: (ms, work) => {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
};

/** Resolves after `ms`, or at once when `signal` aborts. */
export function sleep(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      cancel();
      signal.removeEventListener("abort", done);
      resolve();
    };
    const cancel = clock.after(ms, done);
    signal.addEventListener("abort", done, { once: true });
  });
}

export interface BackoffOptions {
  /** First wait in milliseconds. */
  first: number;
  /** Longest wait in milliseconds. */
  most: number;
}

/**
 * Wait before attempt `failures` + 1, in milliseconds: doubles with each failure, and is spread over
 * its upper half, so that clients which lost one server do not come back in one moment.
 */
export function backoff(failures: number, { first, most }: BackoffOptions, random: () => number): number {
  const full = Math.min(most, first * 2 ** Math.min(failures - 1, 30));
  return full * (0.5 + random() / 2);
}

/** A clock that stands still until it is told to go on. */
export class FakeClock implements Clock {
  private time = 0;
  private timers: { at: number; work: () => void }[] = [];

  constructor(private readonly epoch = Date.parse("2024-01-01T00:00:00Z")) {}

  now(): number {
    return this.time;
  }

  date(): Date {
    return new Date(this.epoch + this.time);
  }

  after(ms: number, work: () => void): () => void {
    const timer = { at: this.time + ms, work };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((each) => each !== timer);
    };
  }

  /** Timers that wait. */
  get waiting(): number {
    return this.timers.length;
  }

  /** Lets `ms` pass, timer by timer; what they start gets to run in between. */
  async advance(ms: number): Promise<void> {
    const end = this.time + ms;
    await settle();
    for (;;) {
      const next = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.time = Math.max(this.time, next.at);
      this.timers = this.timers.filter((each) => each !== next);
      next.work();
      await settle();
    }
    this.time = end;
  }
}

/** Lets everything run that waits for no timer. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}
