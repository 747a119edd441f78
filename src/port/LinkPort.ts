/**
 * The packet socket on the LAN interface: frames as they are on the wire, without a virtio-net
 * header. A received one begins at its descriptor's offset; sent ones are planned here.
 */
import { type Planner, planMessage, planSlot } from "./plan.js";

export class LinkPort {
  /** Port number, -1 without: then what is sent goes nowhere. */
  port = -1;
  readonly view: DataView;
  readonly #planner: Planner;
  /** Frames planned. */
  sent = 0;

  constructor(planner: Planner) {
    this.view = planner.view;
    this.#planner = planner;
  }

  /** Offset of SCRATCH_BYTES for the next frame. */
  room(): number {
    return planSlot(this.#planner);
  }

  send(start: number, length: number): void {
    if (this.port < 0) return;
    planMessage(this.#planner, this.port, 0, start, length);
    this.sent++;
  }
}
