/**
 * Which load-balancer address and port a flow tag (wire/flowTag) stands for. A tag is a hash, so the
 * answer is a table of the tags of all load-balancer frontends. It is asked for only where a node that
 * was an ingress has gone, and made when it is asked for first after Services have changed: 15 ns a
 * frontend.
 *
 *   slot: [tag, address, protocol << 16 | port]      tag 0: empty; key 0: two frontends have the tag
 */
import * as flowTag from "../wire/flowTag.js";
import { bucketsFor } from "./hash.js";
import { FRONTEND_LOAD_BALANCER, type ServiceTable } from "./ServiceTable.js";

const SLOT = 3;

export class VipTags {
  readonly #services: ServiceTable;
  #slots = new Int32Array(SLOT * bucketsFor(0));
  #last = bucketsFor(0) - 1;
  #generation = 0;
  readonly #insert: (address: number, key: number, row: number) => void;

  constructor(services: ServiceTable) {
    this.#services = services;
    this.#insert = (address, key, row) => {
      if (address === 0 || key === 0 || (services.flags(row) & FRONTEND_LOAD_BALANCER) === 0) return;
      this.#put(flowTag.of(address, key & 0xffff, key >>> 16), address, key);
    };
  }

  /** Slot of a tag, -1 where it is no load-balancer frontend's, or that of two. Good until Services change. */
  find(tag: number): number {
    if (tag === 0 || this.#services.size === 0) return -1;
    if (this.#generation !== this.#services.generation) this.#rebuild();
    const slots = this.#slots;
    for (let b = tag & this.#last; ; b = (b + 1) & this.#last) {
      const found = slots[SLOT * b];
      if (found === 0) return -1;
      if (found === tag) return slots[SLOT * b + 2] === 0 ? -1 : b;
    }
  }

  /** Address in a slot. */
  address(slot: number): number {
    return this.#slots[SLOT * slot + 1];
  }

  /** Port (TCP, UDP, SCTP) in a slot. */
  l4Port(slot: number): number {
    return this.#slots[SLOT * slot + 2] & 0xffff;
  }

  /** Protocol (IANA number) in a slot. */
  protocol(slot: number): number {
    return this.#slots[SLOT * slot + 2] >>> 16;
  }

  #rebuild(): void {
    const buckets = bucketsFor(this.#services.size);
    if (this.#slots.length === SLOT * buckets) this.#slots.fill(0);
    else this.#slots = new Int32Array(SLOT * buckets);
    this.#last = buckets - 1;
    this.#services.forEachFrontend(this.#insert);
    this.#generation = this.#services.generation;
  }

  #put(tag: number, address: number, key: number): void {
    const slots = this.#slots;
    let b = tag & this.#last;
    while (slots[SLOT * b] !== 0 && slots[SLOT * b] !== tag) b = (b + 1) & this.#last;
    const taken = slots[SLOT * b] === tag;
    slots[SLOT * b] = tag;
    slots[SLOT * b + 1] = taken ? 0 : address;
    slots[SLOT * b + 2] = taken ? 0 : key;
  }
}
