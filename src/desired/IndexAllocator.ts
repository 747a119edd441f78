/**
 * Numbers for things with names: port numbers and VTEP indices. A name keeps its number until it
 * is released, whatever comes and goes around it; only then may another name get that number.
 * The number released longest ago is given out first. Pure state, no effects.
 */
export class IndexAllocator {
  private readonly byKey = new Map<string, number>();
  private readonly released: number[] = [];
  private next: number;

  /** Gives out numbers from `first` up to, not including, `limit`. */
  constructor(
    first: number,
    private readonly limit: number,
    private readonly what: string,
  ) {
    this.next = first;
  }

  /** The number of `key`; a new one at first sight. Throws a RangeError when none is left. */
  acquire(key: string): number {
    const known = this.byKey.get(key);
    if (known !== undefined) return known;
    const free = this.released.shift() ?? (this.next < this.limit ? this.next++ : undefined);
    if (free === undefined) throw new RangeError(`no ${this.what} left (${this.limit} in use)`);
    this.byKey.set(key, free);
    return free;
  }

  /** The number of `key`, undefined where it has none. */
  get(key: string): number | undefined {
    return this.byKey.get(key);
  }

  /** Makes the number of `key` free. Unknown keys are ignored. */
  release(key: string): void {
    const index = this.byKey.get(key);
    if (index === undefined) return;
    this.byKey.delete(key);
    this.released.push(index);
  }

  /** Names that hold a number. */
  keys(): string[] {
    return [...this.byKey.keys()];
  }
}
