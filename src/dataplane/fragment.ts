/**
 * IPv4 fragmentation (RFC 791 §3.2) of a packet that is too long for the way out and may be
 * fragmented. Rare: pods and the node have the overlay's MTU. Headers without options only.
 */
import { TO_VTEP } from "../packet/Batch.js";
import { COUNT_FRAGMENTS } from "../packet/counters.js";
import { MSG_FRAMES } from "../packet/layout.js";
import * as checksum from "../wire/checksum.js";
import * as ethernet from "../wire/ethernet.js";
import * as ipv4 from "../wire/ipv4.js";
import * as udp from "../wire/udp.js";
import * as virtioNet from "../wire/virtioNet.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";

/** Sends row `i`, whose MACs stand, as fragments of at most the overlay's MTU. */
export function fragmentPacket(dp: Dataplane, i: number): void {
  const { batch, view, tables, plan } = dp;
  const toVtep = batch.verdict[i] === TO_VTEP;
  const out = batch.out[i];
  const frame = batch.offset[i];
  const l3 = batch.l3[i];
  const l4 = batch.l4[i];
  const end = batch.end[i];
  if (batch.csumStart[i] >= 0) finishChecksum(dp, i);
  const original = ipv4.fragment(view, l3);
  const headers = l4 - frame;
  const step = (tables.mtu - (l4 - l3)) & ~7;
  const count = Math.ceil((end - l4) / step);
  dp.reserve(count, 2 * count, count);
  if (toVtep) dp.trains.close(out);
  const prefix = toVtep ? vxlan.HEADER : virtioNet.HEADER;
  for (let at = l4; at < end; at += step) {
    const bytes = Math.min(step, end - at);
    const slot = plan.slot();
    if (toVtep) vxlan.emit(view, slot, tables.vni);
    else virtioNet.emit(view, slot, 0, 0, 0, 0, 0, 0);
    for (let x = 0; x < headers; x++) view.setUint8(slot + prefix + x, view.getUint8(frame + x));
    const ip = slot + prefix + ethernet.HEADER;
    view.setUint16(ip + ipv4.TOTAL_LENGTH, l4 - l3 + bytes);
    const more = at + bytes < end ? ipv4.MORE_FRAGMENTS : original & ipv4.MORE_FRAGMENTS;
    view.setUint16(ip + ipv4.FRAGMENT, more | ((original & ipv4.FRAGMENT_OFFSET) + ((at - l4) >>> 3)));
    ipv4.setChecksum(view, ip, l4 - l3);
    const m = plan.message(toVtep ? tables.tunnelPort : out, toVtep ? out : 0, slot, prefix + headers, 0);
    plan.append(m, at, bytes, 0);
    plan.msg[m + MSG_FRAMES] = at === l4 ? 1 : 0;
  }
  dp.counters[COUNT_FRAGMENTS] += count;
}

/** Completes a partial checksum in place; slow, and needed only before fragmentation. */
function finishChecksum(dp: Dataplane, i: number): void {
  const { batch, view } = dp;
  const start = batch.offset[i] + batch.csumStart[i];
  const field = start + batch.csumOffset[i];
  let value = checksum.finish(checksum.sum(view, start, batch.end[i] - start, 0));
  if (value === 0 && batch.csumOffset[i] === udp.CHECKSUM) value = 0xffff;
  view.setUint16(field, value);
  batch.csumStart[i] = -1;
}
