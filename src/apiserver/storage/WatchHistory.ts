/**
 * The last changes of the store in order, for watchers that resume and for lists of a moment ago.
 * Bounded by a number of events; what is older is "Expired". Knows nothing of disks or HTTP.
 */
import type { Entry } from "./Store.js";

/** One committed change. `entry` is undefined only never: a deletion carries the last state with the deletion's revision. */
export interface StoreEvent {
  type: "ADDED" | "MODIFIED" | "DELETED";
  /** "group/plural" */
  resource: string;
  entry: Entry;
  /** State before, for MODIFIED and DELETED. */
  previous: Entry | undefined;
}

export class WatchHistory {
  private events: StoreEvent[] = [];
  private first = 0;

  /** `floor`: the revision up to which nothing is remembered. */
  constructor(
    private readonly limit: number,
    private floor: number,
  ) {}

  /** Revision before the oldest remembered event: who has seen at least this much can resume. */
  get oldest(): number {
    return this.floor;
  }

  push(event: StoreEvent): void {
    this.events.push(event);
    while (this.events.length - this.first > this.limit)
      this.floor = this.events[this.first++]!.entry.revision;
    if (this.first > this.limit) {
      this.events = this.events.slice(this.first);
      this.first = 0;
    }
  }

  /** Events of a resource after `revision`, oldest first; undefined where they are no longer all known. */
  since(resource: string, revision: number): StoreEvent[] | undefined {
    if (revision < this.floor) return undefined;
    const found: StoreEvent[] = [];
    for (let i = this.events.length - 1; i >= this.first; i--) {
      const event = this.events[i]!;
      if (event.entry.revision <= revision) break;
      if (event.resource === resource) found.push(event);
    }
    return found.reverse();
  }
}
