/**
 * The UDP sockets of BFD (native/bfd.cc): one receives on port 3784, the other sends from a port of
 * its own. A received packet begins at its descriptor's offset; sent ones are planned here.
 */
import { BFD_PEERS } from "../packet/layout.js";
import { type Planner, planMessage, planSlot } from "./plan.js";

export class BfdPort {
  /** Number of the port to send from, -1 without: then what is sent goes nowhere. */
  port = -1;
  readonly view: DataView;
  readonly #planner: Planner;
  /** Packets planned. */
  sent = 0;

  constructor(planner: Planner) {
    this.view = planner.view;
    this.#planner = planner;
  }

  /** Offset of SCRATCH_BYTES for the next packet. */
  room(): number {
    return planSlot(this.#planner);
  }

  /** Sends to the BFD socket of a peer, given by VTEP index. */
  send(peer: number, start: number, length: number): void {
    if (this.port < 0) return;
    planMessage(this.#planner, this.port, BFD_PEERS + peer, start, length);
    this.sent++;
  }
}
