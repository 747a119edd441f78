/**
 * Maglev rings (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
 * NSDI 2016, §3.4): a table of slots, each of which names a backend. A flow's hash chooses the slot.
 * A ring depends on the set of backends alone, so that every node has the same.
 *
 * Each backend has a permutation of the slots: (offset + j × skip) mod size, both from a hash of its
 * identity (address and port). The backends take turns; at its turn a backend gets the next slot of
 * its permutation that is still free. A backend of weight w takes w turns where the heaviest, of
 * weight W, takes W: the paper's "altering the relative frequency of the backends' turns".
 *
 * Sizes come from a ladder of primes. A ring keeps its size while backends come and go between two
 * steps, and then few flows move: those of a backend that went, and 1-2 % of the others. Where the
 * number of backends crosses a step (10 to 11, 81 to 82, 655 to 656), nearly all flows get a new
 * slot. That concerns new connections only: an established one has its backend in the flow table.
 * Rings of one size with fewer slots would be unbalanced, with more a gigabyte for 10,000 services.
 */
import { hashAddress } from "./hash.js";

/** Sizes of rings, all prime. */
export const RING_SIZES = [1021, 8191, 65521, 131071] as const;

/** Slots for each backend (of weight 1) at least; the paper's figure for a balance within 1-2 %. */
const SLOTS_PER_BACKEND = 100;

/** Second and third hash of an identity: any constants that differ. */
const SKIP_SEED = 0x5bd1e995;
const PORT_SEED = 0x1b873593;

/**
 * Slots of a ring for backends whose weights add up to `weight`: the smallest size with 100 slots
 * for each, the largest of the ladder where there is none. A lone backend needs one slot.
 */
export function ringSize(weight: number): number {
  if (weight <= 1) return 1;
  return RING_SIZES.find((size) => size >= SLOTS_PER_BACKEND * weight) ?? RING_SIZES[3];
}

/**
 * The number by which a flow chooses its slot, 31 bits. The destination is no part of it: the same
 * connection has the same backend at whichever node it enters. With session affinity the client's
 * address is the key alone: `l4Port` and `protocol` are 0.
 */
export function ringHash(clientAddress: number, l4Port: number, protocol: number): number {
  return hashAddress(clientAddress ^ hashAddress((protocol << 16) | l4Port)) >>> 1;
}

/** Weights without their common divisor: 10 and 20 are 1 and 2. */
export function reducedWeights(weights: readonly number[]): number[] {
  let divisor = 0;
  for (const weight of weights) {
    if (!Number.isInteger(weight) || weight < 1) throw new RangeError(`a weight of ${weight}`);
    let [a, b] = [divisor, weight];
    while (b !== 0) [a, b] = [b, a % b];
    divisor = a;
  }
  return weights.map((weight) => weight / divisor);
}

/** Fills rings; keeps its scratch memory from one to the next. */
export class MaglevRing {
  #position = new Int32Array(64);
  #step = new Int32Array(64);
  readonly #taken = new Int32Array((RING_SIZES[3] + 31) >>> 5);

  /**
   * Fills all of `slots`, whose length is a size of the ladder or 1, with numbers of backends.
   * Backend i is at words[at + i × stride] (address) and the word after it (port). They must be in
   * an order that is the same everywhere, since turns are taken in it.
   */
  fill(
    slots: Uint8Array | Uint16Array,
    words: Int32Array,
    at: number,
    stride: number,
    count: number,
    weights: readonly number[] | null = null,
  ): void {
    const size = slots.length;
    if (count < 1 || count > size) throw new RangeError(`${count} backends in ${size} slots`);
    if (count === 1) {
      slots.fill(0);
      return;
    }
    this.#begin(size, words, at, stride, count);
    if (weights === null) this.#populate(slots, count);
    else this.#populateWeighted(slots, weights);
  }

  #begin(size: number, words: Int32Array, at: number, stride: number, count: number): void {
    if (this.#position.length < count) {
      this.#position = new Int32Array(2 * count);
      this.#step = new Int32Array(2 * count);
    }
    this.#taken.fill(0, 0, (size + 31) >>> 5);
    for (let i = 0; i < count; i++) {
      const identity = words[at + i * stride] ^ hashAddress(words[at + i * stride + 1] ^ PORT_SEED);
      this.#position[i] = (hashAddress(identity) >>> 1) % size;
      // Less the size, so that one addition and a mask wrap around.
      this.#step[i] = 1 + ((hashAddress(identity ^ SKIP_SEED) >>> 1) % (size - 1)) - size;
    }
  }

  /** 2 ns a probe, size × ln(size) of them: 2.8 ms for the largest ring. One bit a slot stays in the cache. */
  #populate(slots: Uint8Array | Uint16Array, count: number): void {
    const position = this.#position;
    const step = this.#step;
    const taken = this.#taken;
    const size = slots.length;
    for (let left = size; ; ) {
      for (let i = 0; i < count; i++) {
        let c = position[i];
        const s = step[i];
        while (((taken[c >>> 5] >>> c) & 1) !== 0) {
          c += s;
          c += size & (c >> 31);
        }
        taken[c >>> 5] |= 1 << c;
        slots[c] = i;
        c += s;
        position[i] = c + (size & (c >> 31));
        if (--left === 0) return;
      }
    }
  }

  #populateWeighted(slots: Uint8Array | Uint16Array, weights: readonly number[]): void {
    const position = this.#position;
    const taken = this.#taken;
    const size = slots.length;
    const heaviest = weights.reduce((most, weight) => Math.max(most, weight), 0);
    const credit = new Float64Array(weights.length);
    for (let left = size; ; ) {
      for (let i = 0; i < weights.length; i++) {
        credit[i] += weights[i];
        if (credit[i] < heaviest) continue;
        credit[i] -= heaviest;
        let c = position[i];
        const s = this.#step[i];
        while (((taken[c >>> 5] >>> c) & 1) !== 0) {
          c += s;
          c += size & (c >> 31);
        }
        taken[c >>> 5] |= 1 << c;
        slots[c] = i;
        c += s;
        position[i] = c + (size & (c >> 31));
        if (--left === 0) return;
      }
    }
  }
}
