/**
 * Packets that the dataplane makes itself and sends back the way a row came: ICMP errors, TCP resets.
 * What came with a tag goes back with it: the sender finds by it which flow it concerns.
 *
 *   scratch slot: │virtio-net 10 or VXLAN 8│Ethernet 14│IPv4 20│ message …
 */
import { MSG_FRAMES } from "../packet/layout.js";
import * as ethernet from "../wire/ethernet.js";
import * as flowTag from "../wire/flowTag.js";
import * as ipv4 from "../wire/ipv4.js";
import * as virtioNet from "../wire/virtioNet.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";

const TTL = 64;

/** Bytes in front of the IPv4 header of a reply to row `i`. */
export function replyFront(dp: Dataplane, i: number): number {
  return (dp.batch.vtep[i] >= 0 ? vxlan.HEADER : virtioNet.HEADER) + ethernet.HEADER;
}

/** Writes everything up to and with the IPv4 header of `total` bytes (header included) into a slot. */
export function emitReply(
  dp: Dataplane,
  i: number,
  slot: number,
  total: number,
  protocol: number,
  source: number,
  destination: number,
): void {
  const { batch, view, tables } = dp;
  const vtep = batch.vtep[i];
  const ip = slot + replyFront(dp, i);
  const frame = ip - ethernet.HEADER;
  if (vtep >= 0) {
    const { fdb } = tables;
    const tag = batch.tag[i];
    vxlan.emit(view, slot, tables.vni);
    ethernet.emit(
      view,
      frame,
      fdb.macHi(vtep),
      fdb.macLo(vtep),
      tag === 0 ? tables.macHi : flowTag.HI,
      tag === 0 ? tables.macLo : tag,
      ethernet.TYPE_IPV4,
    );
  } else {
    const { ports } = tables;
    const port = batch.port[i];
    virtioNet.emit(view, slot, 0, 0, 0, 0, 0, 0);
    ethernet.emit(
      view,
      frame,
      ports.macHi(port),
      ports.macLo(port),
      ethernet.GATEWAY_HI,
      ethernet.GATEWAY_LO,
      ethernet.TYPE_IPV4,
    );
  }
  ipv4.emit(view, ip, total, dp.nextIdentification(), 0, TTL, protocol, source, destination);
}

/** Plans the reply in a slot, `bytes` of it; returns the message. The caller has reserved for it. */
export function planReply(dp: Dataplane, i: number, slot: number, bytes: number, csum: number): number {
  const { batch, tables, plan } = dp;
  const vtep = batch.vtep[i];
  let m: number;
  if (vtep >= 0) {
    m = plan.message(tables.tunnelPort, vtep, slot, bytes, csum);
    dp.trains.close(vtep);
  } else {
    m = plan.message(batch.port[i], 0, slot, bytes, csum);
  }
  // The cause is accounted for as dropped; the reply itself was never received.
  plan.msg[m + MSG_FRAMES] = 0;
  return m;
}
