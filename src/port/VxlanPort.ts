/**
 * Receiving from the VXLAN socket: a descriptor is one datagram, or a train of equal-sized ones that
 * UDP_GRO put together. Each datagram, or each run of datagrams that belong together (packet/run),
 * becomes a row that begins with a VXLAN header.
 *
 * A virtual link can also hand over one datagram that holds a whole inner UDP GSO frame; the kernel
 * then reports the inner segment size as if it were a train's. The inner IP length tells the two
 * apart: a train's first packet ends within its first segment.
 */
import type { Arena } from "../packet/Arena.js";
import { type Batch, DROPPED } from "../packet/Batch.js";
import { COUNT_DROPS, COUNT_RECEIVED } from "../packet/counters.js";
import { DropReason } from "../packet/DropReason.js";
import {
  RX_FLAG_TRUNCATED,
  RX_FLAGS,
  RX_LENGTH,
  RX_OFFSET,
  RX_PEER,
  RX_PORT,
  RX_SEGMENT,
} from "../packet/layout.js";
import { runLength } from "../packet/run.js";
import * as ethernet from "../wire/ethernet.js";
import * as ipv4 from "../wire/ipv4.js";
import * as virtioNet from "../wire/virtioNet.js";
import * as vxlan from "../wire/vxlan.js";

/**
 * Most datagrams of a descriptor. UDP_GRO puts 64 together; a virtual link hands over what a sender
 * sent in one call, up to 128 (UDP_MAX_SEGMENTS since kernel 6.9).
 */
export const MAX_TRAIN = 128;

const INNER_IP = vxlan.HEADER + ethernet.HEADER;

/** Adds the datagrams of the receive descriptor with base index `d` to the batch: up to MAX_TRAIN rows. */
export function receiveVxlan(arena: Arena, d: number, batch: Batch, counters: Float64Array): void {
  const { rx, view } = arena;
  const start = rx[d + RX_OFFSET];
  const bytes = rx[d + RX_LENGTH];
  const port = rx[d + RX_PORT];
  const peer = rx[d + RX_PEER];
  const segment = rx[d + RX_SEGMENT];
  if ((rx[d + RX_FLAGS] & RX_FLAG_TRUNCATED) !== 0) {
    const i = batch.push(start, bytes, port);
    batch.peer[i] = peer;
    batch.verdict[i] = DROPPED;
    batch.out[i] = DropReason.truncated;
    counters[COUNT_DROPS + DropReason.truncated]++;
    return;
  }
  if (segment <= 0 || segment >= bytes || isUdpGsoFrame(view, start, bytes)) {
    const i = batch.push(start, bytes, port);
    batch.peer[i] = peer;
    if (segment > 0 && segment < bytes) {
      batch.gsoType[i] = virtioNet.GSO_UDP_L4;
      batch.gsoSize[i] = segment;
    }
    return;
  }
  const end = start + bytes;
  const limit = Math.min(end, start + MAX_TRAIN * segment);
  let o = start;
  while (o < limit) {
    const i = batch.push(o, Math.min(limit - o, segment), port);
    batch.peer[i] = peer;
    const run = runLength(view, o, segment, limit);
    o += run * segment;
    if (run > 1) {
      batch.segments[i] = run;
      batch.stride[i] = segment;
      batch.short[i] = Math.max(0, o - limit);
    }
  }
  if (o < end) {
    // No kernel makes such a train; a virtual link may hand over one that a sender made.
    const rest = Math.ceil((end - o) / segment);
    counters[COUNT_RECEIVED] += rest;
    counters[COUNT_DROPS + DropReason.truncated] += rest;
  }
}

function isUdpGsoFrame(view: DataView, start: number, bytes: number): boolean {
  return (
    bytes >= INNER_IP + ipv4.HEADER_MIN &&
    ethernet.type(view, start + vxlan.HEADER) === ethernet.TYPE_IPV4 &&
    ipv4.totalLength(view, start + INNER_IP) === bytes - INNER_IP
  );
}
