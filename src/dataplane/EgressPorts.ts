/**
 * Source ports of flows that leave the cluster behind the node's address. The least recently used one
 * comes first: a port that is reused soon meets TIME_WAIT at the other end, and the connection
 * stalls. One counter for each of many groups of destinations walks round the range; whether a port
 * is free towards a destination, the flow table knows.
 */
import { hashAddress } from "../tables/hash.js";
import * as ipv4 from "../wire/ipv4.js";

const GROUPS = 4096;
/** Ports tried for one packet; the next packet goes on behind them. */
const TRIES = 256;

export class EgressPorts {
  readonly #next = new Uint16Array(GROUPS);
  #group = 0;
  #left = 0;
  #first = 0;
  #count = 0;

  /** Goes on where another was (`state`). */
  restore(state: Uint16Array): void {
    this.#next.set(state);
  }

  /** A copy of where the search towards each group of destinations goes on. */
  state(): Uint16Array {
    return this.#next.slice();
  }

  /**
   * Whether replies of a protocol come back: the node's rules bring those that have ports, the raw
   * ICMP socket hears those of ICMP echo, whose identifiers are of the same range.
   */
  carries(protocol: number): boolean {
    return (
      protocol === ipv4.PROTOCOL_TCP ||
      protocol === ipv4.PROTOCOL_UDP ||
      protocol === ipv4.PROTOCOL_SCTP ||
      protocol === ipv4.PROTOCOL_ICMP
    );
  }

  /** Begins the search for a port towards a destination, among those from `first` to `last`. */
  start(destination: number, l4Port: number, protocol: number, first: number, last: number): void {
    this.#first = first;
    this.#count = last - first + 1;
    this.#group = hashAddress(destination ^ Math.imul((protocol << 16) | l4Port, 0x9e3779b1)) & (GROUPS - 1);
    this.#left = Math.min(TRIES, this.#count);
  }

  /** The next port to try, 0 at the end. */
  next(): number {
    if (this.#left-- === 0) return 0;
    // The range may have become smaller.
    const n = this.#next[this.#group] < this.#count ? this.#next[this.#group] : 0;
    this.#next[this.#group] = n + 1;
    return this.#first + n;
  }
}
