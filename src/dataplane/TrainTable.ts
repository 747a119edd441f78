/**
 * Open trains: for each VTEP the message that equal-sized frames may still join (UDP_SEGMENT sends
 * them in one call). Only the latest message to a VTEP stays open, so frames to one VTEP never
 * overtake one another. A generation number makes forgetting them all one increment.
 */
import { MAX_PEERS } from "../packet/layout.js";

export class TrainTable {
  #generation = 1;
  readonly #stamp = new Int32Array(MAX_PEERS);
  readonly #message = new Int32Array(MAX_PEERS);
  readonly #size = new Int32Array(MAX_PEERS);

  /** Base index of the open message to a VTEP, -1 without one. */
  message(vtep: number): number {
    return this.#stamp[vtep] === this.#generation ? this.#message[vtep] : -1;
  }

  /** Size of the frames of the open message. */
  size(vtep: number): number {
    return this.#size[vtep];
  }

  open(vtep: number, message: number, size: number): void {
    this.#stamp[vtep] = this.#generation;
    this.#message[vtep] = message;
    this.#size[vtep] = size;
  }

  close(vtep: number): void {
    this.#stamp[vtep] = 0;
  }

  /** Closes all. */
  reset(): void {
    this.#generation = (this.#generation + 1) | 0 || 1;
  }
}
