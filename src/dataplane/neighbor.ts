/**
 * Stage neighbor: answers ARP. A pod or the node that asks for any address gets the gateway's MAC,
 * except about its own address (a probe, RFC 5227: an answer would look like a conflict). A VTEP
 * that asks for our tunnel address gets our VTEP MAC: a kernel vxlan peer without a static
 * neighbour entry asks, and refreshes by asking.
 */
import { ANSWERED, KIND_ARP, PENDING } from "../packet/Batch.js";
import { COUNT_ANSWERED } from "../packet/counters.js";
import { DropReason } from "../packet/DropReason.js";
import { MSG_FRAMES } from "../packet/layout.js";
import { ROLE_NONE } from "../tables/PortTable.js";
import * as arp from "../wire/arp.js";
import * as ethernet from "../wire/ethernet.js";
import * as virtioNet from "../wire/virtioNet.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";

const FRAME = ethernet.HEADER + arp.LENGTH;

export function neighbor(dp: Dataplane): void {
  const { batch } = dp;
  const { kind, verdict } = batch;
  for (let i = 0; i < batch.count; i++) {
    if (kind[i] === KIND_ARP && verdict[i] === PENDING) answer(dp, i);
  }
}

function answer(dp: Dataplane, i: number): void {
  const { batch, view, tables, plan } = dp;
  const frame = batch.offset[i];
  const o = frame + ethernet.HEADER;
  if (batch.length[i] < FRAME || !arp.isEthernetIpv4(view, o)) {
    dp.drop(i, DropReason.malformedArp);
    return;
  }
  const vtep = batch.vtep[i];
  const port = batch.port[i];
  const target = arp.targetAddress(view, o);
  const wanted =
    vtep >= 0
      ? target === tables.tunnelAddress
      : tables.ports.role(port) !== ROLE_NONE && target !== tables.ports.address(port);
  if (!wanted || arp.operation(view, o) !== arp.REQUEST || arp.senderAddress(view, o) === target) {
    dp.drop(i, DropReason.arpIgnored);
    return;
  }
  const hi = vtep >= 0 ? tables.macHi : ethernet.GATEWAY_HI;
  const lo = vtep >= 0 ? tables.macLo : ethernet.GATEWAY_LO;
  const askerHi = view.getUint16(o + arp.SENDER_HARDWARE);
  const askerLo = view.getInt32(o + arp.SENDER_HARDWARE + 2);
  dp.reserve(1, 1, 0);
  arp.turnIntoReply(view, o, hi, lo);
  ethernet.setMacs(view, frame, askerHi, askerLo, hi, lo);
  let m: number;
  if (vtep >= 0) {
    vxlan.emit(view, frame - vxlan.HEADER, tables.vni);
    m = plan.message(tables.tunnelPort, vtep, frame - vxlan.HEADER, vxlan.HEADER + FRAME, 0);
  } else {
    // A TAP's frame has its own virtio-net header in front, which is rewritten in place.
    virtioNet.emit(view, frame - virtioNet.HEADER, 0, 0, 0, 0, 0, 0);
    m = plan.message(port, 0, frame - virtioNet.HEADER, virtioNet.HEADER + FRAME, 0);
  }
  plan.msg[m + MSG_FRAMES] = 0;
  batch.verdict[i] = ANSWERED;
  dp.counters[COUNT_ANSWERED]++;
}
