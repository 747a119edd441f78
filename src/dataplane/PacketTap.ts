/**
 * Who looks at packets on their way while a capture runs (capture/PacketCapture). The pipeline asks
 * once a batch and stage whether there is one; it changes nothing of what it is shown.
 */
import type { DropReason } from "../packet/DropReason.js";
import type { Dataplane } from "./Dataplane.js";

export interface PacketTap {
  /** Rows `from` to `to` - 1 are datagrams that the tunnel brought from UDP port `l4Port`. */
  arrivedFrom(from: number, to: number, l4Port: number): void;
  /** The batch as it came. `resumed`: fragments that have waited, and came before. */
  received(dp: Dataplane, resumed: boolean): void;
  /** What is PENDING is what conntrack is given. */
  translating(dp: Dataplane): void;
  /** What is PENDING is what conntrack passes on. */
  translated(dp: Dataplane): void;
  /** Every row has its verdict, and its bytes are as they leave. */
  decided(dp: Dataplane): void;
  /** Message `m` of the plan answers row `i`: an ICMP error, a reset. */
  answered(dp: Dataplane, i: number, m: number): void;
  /** A frame of `length` bytes that had waited is dropped. */
  gaveUp(dp: Dataplane, offset: number, length: number, port: number, reason: DropReason): void;
  /** The kernel refused message `m`, whose bytes still are what they were. */
  refused(dp: Dataplane, m: number, reason: DropReason): void;
  /** The dataplane threw on the batch. */
  abandoned(dp: Dataplane): void;
}
