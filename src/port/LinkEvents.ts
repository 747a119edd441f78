/**
 * The netlink socket that reports the state of the LAN interface (native/link.cc): from its messages to
 * whether there is a carrier, and whether there was none in between.
 */
import * as rtnetlink from "../wire/rtnetlink.js";

export class LinkEvents {
  /** The interface is up and has a carrier. */
  carrier = false;
  /** The carrier was lost since the message before, though it may be there again. */
  lost = false;
  /** IFLA_CARRIER_DOWN_COUNT of the last message, -1 before the first. */
  #losses = -1;

  /** Another socket: its first message says what is so. */
  reset(): void {
    this.carrier = false;
    this.#losses = -1;
  }

  /** Takes a message of `length` bytes at `o`. False where it says nothing about the link. */
  receive(view: DataView, o: number, length: number): boolean {
    if (!rtnetlink.isLink(view, o, length)) return false;
    const losses = rtnetlink.carrierDownCount(view, o);
    this.lost = this.#losses >= 0 && losses !== this.#losses;
    this.#losses = losses;
    this.carrier = rtnetlink.hasCarrier(view, o);
    return true;
  }
}
