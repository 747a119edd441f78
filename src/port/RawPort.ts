/**
 * Receiving from raw sockets: a descriptor is one IPv4 packet that the kernel delivered to the node,
 * put together if it came in fragments. It becomes a frame as though the kernel had routed it to
 * podwire0, and is marked as heard, since the kernel has it as well.
 */
import type { Arena } from "../packet/Arena.js";
import type { Batch } from "../packet/Batch.js";
import { RX_LENGTH, RX_OFFSET } from "../packet/layout.js";
import * as ethernet from "../wire/ethernet.js";

/** Adds the packet of the receive descriptor with base index `d`, as one of port `nodePort`. */
export function receiveRaw(arena: Arena, d: number, batch: Batch, nodePort: number): void {
  const { rx, view } = arena;
  const start = rx[d + RX_OFFSET] - ethernet.HEADER;
  const { GATEWAY_HI, GATEWAY_LO, TYPE_IPV4 } = ethernet;
  ethernet.emit(view, start, GATEWAY_HI, GATEWAY_LO, 0, 0, TYPE_IPV4);
  const i = batch.push(start, rx[d + RX_LENGTH] + ethernet.HEADER, nodePort);
  batch.heard[i] = 1;
}
