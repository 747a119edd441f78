/**
 * How long a container that ended waits for its restart (client-go's flowcontrol.Backoff as a kubelet
 * uses it): the first time not at all, then 10 s after its end, doubling to 300 s; one that ran
 * 10 minutes begins anew. Times are milliseconds of one clock.
 */
const FIRST_MS = 10_000;
const MOST_MS = 300_000;
const RESET_MS = 2 * MOST_MS;

interface Entry {
  delayMs: number;
  /** When it was last raised. */
  updated: number;
}

export class Backoffs {
  private readonly entries = new Map<string, Entry>();

  /** What is left to wait for a container that ended at `finishedAt`; null where it may start. */
  remaining(key: string, finishedAt: number, now: number): { delayMs: number; leftMs: number } | null {
    const entry = this.entries.get(key);
    if (entry === undefined || finishedAt - entry.updated > RESET_MS) return null;
    const leftMs = finishedAt + entry.delayMs - now;
    return leftMs > 0 ? { delayMs: entry.delayMs, leftMs } : null;
  }

  /** A container that ended at `finishedAt` starts now. */
  next(key: string, finishedAt: number, now: number): void {
    const entry = this.entries.get(key);
    const fresh = entry === undefined || finishedAt - entry.updated > RESET_MS;
    this.entries.set(key, {
      delayMs: fresh ? FIRST_MS : Math.min(MOST_MS, entry.delayMs * 2),
      updated: now,
    });
  }

  /** Forgets a pod's. */
  forget(uid: string): void {
    for (const key of this.entries.keys()) if (key.startsWith(`${uid}/`)) this.entries.delete(key);
  }
}
