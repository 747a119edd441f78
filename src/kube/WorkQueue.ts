/**
 * Keys that want work. A key waits at most once, is never worked on twice at a time, and comes back
 * after a failure, later each time (client-go's workqueue). What is to be done is looked up when the
 * key's turn comes: a hundred changes of one object while it waits are one turn.
 */
import { type BackoffOptions, backoff, type Clock, SYSTEM_CLOCK } from "./Clock.js";

export interface WorkQueueOptions {
  /** Does what `key` needs. A rejection brings the key back. */
  process: (key: string) => Promise<void>;
  /** Keys in work at a time. Default 1. */
  concurrency?: number;
  backoff?: BackoffOptions;
  clock?: Clock;
  random?: () => number;
  /** Told of each failure. */
  onError?: (key: string, error: unknown, failures: number) => void;
}

const BACKOFF: BackoffOptions = { first: 20, most: 30_000 };

export class WorkQueue {
  private readonly waiting = new Set<string>();
  private readonly working = new Set<string>();
  /** Keys to add later, with how to call it off. */
  private readonly delayed = new Map<string, { at: number; cancel: () => void }>();
  private readonly failures = new Map<string, number>();
  private readonly clock: Clock;
  private idlers: (() => void)[] = [];
  private stopped = false;

  constructor(private readonly options: WorkQueueOptions) {
    this.clock = options.clock ?? SYSTEM_CLOCK;
  }

  /** Asks for work on `key`. */
  add(key: string): void {
    if (this.stopped) return;
    this.delayed.get(key)?.cancel();
    this.delayed.delete(key);
    this.waiting.add(key);
    this.pump();
  }

  /** Asks for work on `key` after `ms`; the earliest of several such requests counts. */
  addAfter(key: string, ms: number): void {
    if (this.stopped || this.waiting.has(key)) return;
    const at = this.clock.now() + ms;
    const before = this.delayed.get(key);
    if (before !== undefined && before.at <= at) return;
    before?.cancel();
    this.delayed.set(key, { at, cancel: this.clock.after(ms, () => this.add(key)) });
  }

  /** Keys that wait or are in work, those to come later not counted. */
  get size(): number {
    return this.waiting.size + this.working.size;
  }

  /** Resolves when nothing waits and nothing is in work; what comes later does not count. */
  idle(): Promise<void> {
    if (this.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.idlers.push(resolve));
  }

  /** Forgets what waits. Resolves when nothing is in work any more. */
  stop(): Promise<void> {
    this.stopped = true;
    this.waiting.clear();
    for (const { cancel } of this.delayed.values()) cancel();
    this.delayed.clear();
    return this.idle();
  }

  private pump(): void {
    for (const key of this.waiting) {
      if (this.working.size >= (this.options.concurrency ?? 1)) return;
      if (this.working.has(key)) continue;
      this.waiting.delete(key);
      this.working.add(key);
      void this.work(key);
    }
  }

  private async work(key: string): Promise<void> {
    try {
      await this.options.process(key);
      this.failures.delete(key);
    } catch (error) {
      const failures = (this.failures.get(key) ?? 0) + 1;
      this.failures.set(key, failures);
      this.options.onError?.(key, error, failures);
      const { backoff: limits = BACKOFF, random = Math.random } = this.options;
      this.addAfter(key, backoff(failures, limits, random));
    } finally {
      this.working.delete(key);
      this.pump();
      if (this.size === 0) for (const resolve of this.idlers.splice(0)) resolve();
    }
  }
}
