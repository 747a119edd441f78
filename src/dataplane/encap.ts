/**
 * Stage encap: frames for VTEPs get the inner MACs and the VXLAN header, and join a train: frames
 * of one size to one VTEP leave in one call (UDP_SEGMENT), whichever flows they belong to; the last
 * may be shorter. GSO frames go through segment.ts.
 *
 *   in place:  …│virtio-net 10│Ethernet│IPv4│…      from a TAP
 *              …··│VXLAN 8    │Ethernet│IPv4│…      to a VTEP
 */
import { TO_VTEP } from "../packet/Batch.js";
import { COUNT_FORWARDED, COUNT_FORWARDED_BYTES } from "../packet/counters.js";
import {
  CSUM_REQUEST,
  CSUM_UDP,
  MAX_GSO_BYTES,
  MAX_GSO_SEGMENTS,
  MAX_IOV,
  MSG_FRAMES,
  MSG_GSO,
  MSG_IOV_COUNT,
} from "../packet/layout.js";
import { MSG_BYTES, MSG_SEGMENTS } from "../packet/TxPlan.js";
import * as ethernet from "../wire/ethernet.js";
import * as flowTag from "../wire/flowTag.js";
import * as udp from "../wire/udp.js";
import * as virtioNet from "../wire/virtioNet.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";
import { fragmentPacket } from "./fragment.js";
import { segmentToVtep } from "./segment.js";
import { sendByTunnelGso } from "./tunnelGso.js";

export function encap(dp: Dataplane): void {
  const { batch, view, tables, counters } = dp;
  const { verdict, offset, length, out, gsoType, csumStart, csumOffset, tag } = batch;
  const { fdb, macHi, macLo, vni } = tables;
  const limit = tables.mtu + ethernet.HEADER;
  let forwarded = 0;
  let forwardedBytes = 0;
  for (let i = 0; i < batch.count; i++) {
    if (verdict[i] !== TO_VTEP) continue;
    const o = offset[i];
    const vtep = out[i];
    if (tag[i] === 0) ethernet.setMacs(view, o, fdb.macHi(vtep), fdb.macLo(vtep), macHi, macLo);
    else ethernet.setMacs(view, o, fdb.macHi(vtep), fdb.macLo(vtep), flowTag.HI, tag[i]);
    forwarded++;
    forwardedBytes += length[i];
    if (gsoType[i] !== virtioNet.GSO_NONE) {
      if (sendByTunnelGso(dp, i)) continue;
      vxlan.emit(view, o - vxlan.HEADER, vni);
      segmentToVtep(dp, i);
      continue;
    }
    if (length[i] > limit) {
      fragmentPacket(dp, i);
      continue;
    }
    vxlan.emit(view, o - vxlan.HEADER, vni);
    let csum = 0;
    if (csumStart[i] >= 0) {
      csum = CSUM_REQUEST | (csumStart[i] + vxlan.HEADER) | (csumOffset[i] << 8);
      if (csumOffset[i] === udp.CHECKSUM) csum |= CSUM_UDP;
    }
    dp.reserve(1, 1, 0);
    sendToVtep(dp, vtep, o - vxlan.HEADER, length[i] + vxlan.HEADER, csum, 0, 0);
  }
  counters[COUNT_FORWARDED] += forwarded;
  counters[COUNT_FORWARDED_BYTES] += forwardedBytes;
}

/**
 * Plans one frame (VXLAN header first) to a VTEP, as one piece or two. It joins the open train where
 * it may. The caller has reserved a message and the pieces. Returns the message's base index.
 */
export function sendToVtep(
  dp: Dataplane,
  vtep: number,
  offset: number,
  bytes: number,
  csum: number,
  payload: number,
  payloadBytes: number,
): number {
  const { plan, trains } = dp;
  const { msg } = plan;
  const size = bytes + payloadBytes;
  let m = trains.message(vtep);
  if (
    m >= 0 &&
    size <= trains.size(vtep) &&
    msg[m + MSG_SEGMENTS] < MAX_GSO_SEGMENTS &&
    msg[m + MSG_BYTES] + size <= MAX_GSO_BYTES &&
    msg[m + MSG_IOV_COUNT] + 2 <= MAX_IOV
  ) {
    plan.append(m, offset, bytes, csum);
    msg[m + MSG_FRAMES]++;
    msg[m + MSG_SEGMENTS]++;
    msg[m + MSG_GSO] = trains.size(vtep);
    if (size < trains.size(vtep)) trains.close(vtep);
  } else {
    m = plan.message(dp.tables.tunnelPort, vtep, offset, bytes, csum);
    trains.open(vtep, m, size);
  }
  if (payloadBytes > 0) plan.append(m, payload, payloadBytes, 0);
  return m;
}
