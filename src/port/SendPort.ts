/**
 * A port on which the worker sends messages of its own: the UDP socket of BFD (native/bfd.cc), whose
 * peers are destinations, or the packet socket on the LAN interface, which sends frames as they are on
 * the wire, without a virtio-net header. What they receive begins at its descriptor's offset.
 */
import { type Planner, planMessage, planSlot } from "./plan.js";

export class SendPort {
  /** Port number, -1 without: then what is sent goes nowhere. */
  port = -1;
  readonly view: DataView;
  readonly #planner: Planner;
  readonly #peers: number;
  /** Messages planned. */
  sent = 0;

  /** `peers`: what the plan calls peer 0 of this port (BFD_PEERS); 0 where the port has none. */
  constructor(planner: Planner, peers = 0) {
    this.view = planner.view;
    this.#planner = planner;
    this.#peers = peers;
  }

  /** Offset of SCRATCH_BYTES for the next message. */
  room(): number {
    return planSlot(this.#planner);
  }

  /** Sends what was written there; `peer`: VTEP index of the node that it is for. */
  send(start: number, length: number, peer = 0): void {
    if (this.port < 0) return;
    planMessage(this.#planner, this.port, this.#peers + peer, start, length);
    this.sent++;
  }
}
