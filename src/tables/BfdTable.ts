/**
 * BFD as a table image has it: with which nodes, by which socket, how fast.
 *
 *   section: [send port, transmit µs, receive µs, multiplier, peers] peer, peer, …
 */
import type { BfdInput } from "./TableInput.js";

const HEAD = 5;

/** Builds the section. Throws RangeError on a peer that is there twice. */
export function buildBfdTable(input: BfdInput): Int32Array {
  const { sendPort, desiredMinTxUs, requiredMinRxUs, detectMult, peers } = input;
  if (new Set(peers).size !== peers.length) throw new RangeError("two BFD sessions with one node");
  return Int32Array.of(sendPort, desiredMinTxUs, requiredMinRxUs, detectMult, peers.length, ...peers);
}

export class BfdTable {
  readonly sendPort: number;
  readonly desiredMinTxUs: number;
  readonly requiredMinRxUs: number;
  readonly detectMult: number;
  /** Number of sessions. */
  readonly size: number;
  readonly #image: Int32Array;
  readonly #start: number;

  constructor(image: Int32Array, start: number) {
    this.#image = image;
    this.#start = start;
    this.sendPort = image[start];
    this.desiredMinTxUs = image[start + 1];
    this.requiredMinRxUs = image[start + 2];
    this.detectMult = image[start + 3];
    this.size = image[start + 4];
  }

  /** VTEP index of session number `n`. */
  peer(n: number): number {
    return this.#image[this.#start + HEAD + n];
  }
}
