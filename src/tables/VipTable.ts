/**
 * Load-balancer addresses and who may own them: for each the nodes that may announce it, in the
 * order that every node computes alike (announce/owners). The owner is the first that is alive, so
 * that a takeover is a walk over a few words, done in the worker.
 *
 * Nodes are numbered as VTEPs are (the caller's numbers, different on every node); THIS_NODE stands
 * for the node itself.
 *
 *   section: [rows, start of rows, buckets - 1, start of buckets, nodes, start of nodes]
 *   row:     [address, length of its order, start of its order]
 *   order:   node, node, …          bucket: row + 1          nodes: [node, MAC hi, MAC lo]
 */
import { bucketsFor, hashAddress } from "./hash.js";
import type { TableInput } from "./TableInput.js";

/** Numbers of other nodes are below: MAX_PEERS of the worker. */
export const THIS_NODE = 8192;
/** No node, where one is asked for. */
export const NO_NODE = -1;

const HEAD = 6;
const ROW = 3;
const NODE = 3;

/** Builds the section. Throws RangeError on a node out of range, twice in an order, or a duplicate address. */
export function buildVipTable({ vips, nodes }: TableInput["announce"]): Int32Array {
  const rows = HEAD;
  const orders = rows + vips.length * ROW;
  const buckets = bucketsFor(vips.length);
  const bucketStart = orders + vips.reduce((sum, { order }) => sum + order.length, 0);
  const nodeStart = bucketStart + buckets;
  const section = new Int32Array(nodeStart + nodes.length * NODE);
  section.set([vips.length, rows, buckets - 1, bucketStart, nodes.length, nodeStart]);
  let at = orders;
  vips.forEach(({ address, order }, row) => {
    if (order.some((node) => !isNode(node))) throw new RangeError("node out of range");
    if (new Set(order).size !== order.length) throw new RangeError("a node twice in one order");
    section.set([address, order.length, at], rows + row * ROW);
    section.set(order, at);
    at += order.length;
    let b = hashAddress(address) & (buckets - 1);
    while (section[bucketStart + b] !== 0) {
      if (section[rows + (section[bucketStart + b] - 1) * ROW] === address)
        throw new RangeError("two orders for one address");
      b = (b + 1) & (buckets - 1);
    }
    section[bucketStart + b] = row + 1;
  });
  nodes.forEach(({ node, mac }, i) => {
    if (!isNode(node)) throw new RangeError("node out of range");
    section.set([node, mac.hi, mac.lo], nodeStart + i * NODE);
  });
  return section;
}

function isNode(node: number): boolean {
  return Number.isInteger(node) && node >= 0 && node <= THIS_NODE;
}

export class VipTable {
  readonly #image: Int32Array;
  readonly #start: number;
  /** Number of addresses; rows are numbered from 0. */
  readonly size: number;

  constructor(image: Int32Array, start: number) {
    this.#image = image;
    this.#start = start;
    this.size = image[start];
  }

  /** Row of an address, -1 where it is none of ours. */
  find(address: number): number {
    const image = this.#image;
    const start = this.#start;
    const rows = start + image[start + 1];
    const last = image[start + 2];
    const buckets = start + image[start + 3];
    let b = hashAddress(address) & last;
    for (;;) {
      const row = image[buckets + b] - 1;
      if (row < 0 || image[rows + row * ROW] === address) return row;
      b = (b + 1) & last;
    }
  }

  address(row: number): number {
    return this.#image[this.#row(row)];
  }

  /** Number of nodes that may own it. */
  candidates(row: number): number {
    return this.#image[this.#row(row) + 1];
  }

  /** The node at a place of its order, 0 the first. */
  candidate(row: number, place: number): number {
    return this.#image[this.#start + this.#image[this.#row(row) + 2] + place];
  }

  /** Place of a node in the order of a row, -1 where it may not own it. */
  place(row: number, node: number): number {
    const count = this.candidates(row);
    for (let place = 0; place < count; place++) if (this.candidate(row, place) === node) return place;
    return -1;
  }

  /**
   * The node that owns a row: the first of its order that is up. `isUp` holds one byte for each node
   * number, THIS_NODE's included; not 0: it is alive and may own addresses. NO_NODE without any.
   */
  owner(row: number, isUp: Uint8Array): number {
    const image = this.#image;
    const at = this.#row(row);
    const first = this.#start + image[at + 2];
    for (let i = first, end = first + image[at + 1]; i < end; i++) if (isUp[image[i]] !== 0) return image[i];
    return NO_NODE;
  }

  /** The node whose LAN interface has this MAC, NO_NODE where it is none of the cluster's. */
  nodeOfMac(hi: number, lo: number): number {
    const image = this.#image;
    const first = this.#start + image[this.#start + 5];
    for (let i = first, end = first + image[this.#start + 4] * NODE; i < end; i += NODE) {
      if (image[i + 2] === lo && image[i + 1] === hi) return image[i];
    }
    return NO_NODE;
  }

  #row(row: number): number {
    return this.#start + this.#image[this.#start + 1] + row * ROW;
  }
}
