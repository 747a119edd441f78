/**
 * Stage decap: frames from the tunnel lose their VXLAN header. The outer source must be a known
 * VTEP, flags and VNI right, the inner destination MAC ours (or broadcast, for ARP).
 */
import { PENDING } from "../packet/Batch.js";
import { DropReason } from "../packet/DropReason.js";
import * as ethernet from "../wire/ethernet.js";
import * as flowTag from "../wire/flowTag.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";

export function decap(dp: Dataplane): void {
  const { batch, view, tables } = dp;
  const { port, verdict, offset, length, peer, vtep, tag } = batch;
  const { tunnelPort, vni, fdb, macHi, macLo } = tables;
  // A train comes from one sender: one lookup serves its frames.
  let lastPeer = 0;
  let lastVtep = -1;
  for (let i = 0; i < batch.count; i++) {
    if (port[i] !== tunnelPort || verdict[i] !== PENDING) continue;
    if (peer[i] !== lastPeer || lastVtep < 0) {
      lastPeer = peer[i];
      lastVtep = fdb.byUnderlay(lastPeer);
    }
    if (lastVtep < 0) {
      dp.drop(i, DropReason.unknownVtep);
      continue;
    }
    if (length[i] < vxlan.HEADER + ethernet.HEADER) {
      dp.drop(i, DropReason.runt);
      continue;
    }
    const o = offset[i];
    if (!vxlan.hasVni(view, o)) {
      dp.drop(i, DropReason.vxlanHeader);
      continue;
    }
    if (vxlan.vni(view, o) !== vni) {
      dp.drop(i, DropReason.wrongVni);
      continue;
    }
    const frame = o + vxlan.HEADER;
    if (!ethernet.isTo(view, frame, macHi, macLo)) {
      const broadcast = ethernet.isTo(view, frame, ethernet.BROADCAST_HI, ethernet.BROADCAST_LO);
      if (!broadcast || ethernet.type(view, frame) !== ethernet.TYPE_ARP) {
        dp.drop(i, ethernet.isMulticast(view, frame) ? DropReason.multicast : DropReason.wrongMac);
        continue;
      }
    }
    vtep[i] = lastVtep;
    tag[i] = flowTag.read(view, frame);
    offset[i] = frame;
    length[i] -= vxlan.HEADER;
  }
}
