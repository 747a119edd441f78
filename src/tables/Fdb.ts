/**
 * The forwarding database: which VTEP has which MAC and which underlay address. ARP maps an IP to
 * an inner MAC, the FDB an inner MAC to an outer IP; here both are one row, found by VTEP index
 * (from a route) or by underlay address (of a datagram that arrived).
 *
 *   section: [rows, buckets - 1, start of buckets] rows × ROW words, buckets × [address, index + 1]
 */
import { bucketsFor, hashAddress } from "./hash.js";
import type { TableInput } from "./TableInput.js";

const ROW = 7;
const ADDRESS = 0;
const UDP_PORT = 1;
const MAC_HI = 2;
const MAC_LO = 3;
const TUNNEL_ADDRESS = 4;
const USED = 5;
const TAGS = 6;
const HEAD = 3;
/** Indices are dense: the table has a row for each up to the highest. */
const MAX_INDEX = 0xffff;

/** Builds the section. Rows of unused indices stay empty. Throws RangeError on an index out of range or a duplicate. */
export function buildFdb(vteps: TableInput["vteps"]): Int32Array {
  if (vteps.some((v) => v.index < 0 || v.index > MAX_INDEX)) throw new RangeError("VTEP index out of range");
  const rows = vteps.reduce((most, v) => Math.max(most, v.index + 1), 0);
  // Both addresses of a VTEP are keys: the check for pods that speak VXLAN asks for either.
  const buckets = bucketsFor(2 * vteps.length);
  const start = HEAD + rows * ROW;
  const section = new Int32Array(start + 2 * buckets);
  section.set([rows, buckets - 1, start]);
  const insert = (address: number, index: number) => {
    let b = hashAddress(address) & (buckets - 1);
    while (section[start + 2 * b + 1] !== 0) {
      if (section[start + 2 * b] === address) throw new RangeError("two VTEPs with one address");
      b = (b + 1) & (buckets - 1);
    }
    section.set([address, index + 1], start + 2 * b);
  };
  for (const v of vteps) {
    const at = HEAD + v.index * ROW;
    if (section[at + USED] !== 0) throw new RangeError("two VTEPs with one index");
    section.set([v.address, v.udpPort, v.mac.hi, v.mac.lo, v.tunnelAddress, 1, v.tags ? 1 : 0], at);
    insert(v.address, v.index);
    if (v.tunnelAddress !== v.address) insert(v.tunnelAddress, v.index);
  }
  return section;
}

export class Fdb {
  readonly #image: Int32Array;
  readonly #start: number;
  /** Rows, used or not: indices are below. */
  readonly size: number;

  constructor(image: Int32Array, start: number) {
    this.#image = image;
    this.#start = start;
    this.size = image[start];
  }

  /** UDP ports of all VTEPs, as [lowest, highest]; [65536, -1] without VTEPs. */
  udpPorts(): [number, number] {
    let lowest = 0x10000;
    let highest = -1;
    for (let index = 0; index < this.size; index++) {
      if (!this.used(index)) continue;
      lowest = Math.min(lowest, this.udpPort(index));
      highest = Math.max(highest, this.udpPort(index));
    }
    return [lowest, highest];
  }

  /** Index of the VTEP that has this underlay or tunnel address, -1 if none. */
  find(address: number): number {
    const image = this.#image;
    const last = image[this.#start + 1];
    const buckets = this.#start + image[this.#start + 2];
    let b = hashAddress(address) & last;
    for (;;) {
      const at = buckets + 2 * b;
      const index = image[at + 1];
      if (index === 0) return -1;
      if (image[at] === address) return index - 1;
      b = (b + 1) & last;
    }
  }

  /** Index of the VTEP that has this underlay address, -1 if none. */
  byUnderlay(address: number): number {
    const index = this.find(address);
    return index >= 0 && this.address(index) === address ? index : -1;
  }

  used(index: number): boolean {
    return this.#word(index, USED) !== 0;
  }

  address(index: number): number {
    return this.#word(index, ADDRESS);
  }

  udpPort(index: number): number {
    return this.#word(index, UDP_PORT);
  }

  macHi(index: number): number {
    return this.#word(index, MAC_HI);
  }

  macLo(index: number): number {
    return this.#word(index, MAC_LO);
  }

  tunnelAddress(index: number): number {
    return this.#word(index, TUNNEL_ADDRESS);
  }

  /** Whether it knows the tag of the inner source MAC (wire/flowTag). */
  tags(index: number): boolean {
    return this.#word(index, TAGS) !== 0;
  }

  #word(index: number, word: number): number {
    return this.#image[this.#start + HEAD + index * ROW + word];
  }
}
