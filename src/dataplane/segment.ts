/**
 * Segmentation of GSO frames, as the kernel's tcp_gso_segment and __udp_gso_segment do it: headers
 * are copied into scratch slots and patched, payload stays where it is (gather I/O), native fills
 * in the checksums.
 *
 *   frame  │hdr│ payload                                │
 *   pieces │hdr₀│──▶ payload 0 │hdr₁│──▶ payload 1 …
 */
import { COUNT_SEGMENTS } from "../packet/counters.js";
import { CSUM_NEXT, CSUM_REQUEST, CSUM_UDP, MSG_FRAMES } from "../packet/layout.js";
import * as checksum from "../wire/checksum.js";
import * as ipv4 from "../wire/ipv4.js";
import * as tcp from "../wire/tcp.js";
import * as udp from "../wire/udp.js";
import * as virtioNet from "../wire/virtioNet.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";
import { sendToVtep } from "./encap.js";

/** Copies `length` bytes, up to three more (slots have room), in words. */
export function copyHeader(view: DataView, to: number, from: number, length: number): void {
  for (let x = 0; x < length; x += 4) view.setInt32(to + x, view.getInt32(from + x));
}

/** Sum of an IPv4 header without total length, identification and checksum. */
function fixedSum(view: DataView, l3: number, headerLength: number): number {
  const s = view.getUint16(l3) + view.getUint16(l3 + ipv4.FRAGMENT) + view.getUint16(l3 + ipv4.TTL);
  return checksum.sum(view, l3 + ipv4.SOURCE, headerLength - ipv4.SOURCE, s);
}

/** Writes total length, identification and checksum of a segment's IPv4 header. */
function patchIpv4(view: DataView, l3: number, total: number, id: number, fixed: number): void {
  view.setUint16(l3 + ipv4.TOTAL_LENGTH, total);
  view.setUint16(l3 + ipv4.IDENTIFICATION, id);
  view.setUint16(l3 + ipv4.CHECKSUM, checksum.finish(fixed + total + id));
}

/** Sends GSO row `i`, whose VXLAN header and MACs stand, to its VTEP as segments. */
export function segmentToVtep(dp: Dataplane, i: number): void {
  const { batch, view, plan } = dp;
  const from = batch.offset[i] - vxlan.HEADER;
  const vtep = batch.out[i];
  const isTcp = batch.gsoType[i] === virtioNet.GSO_TCPV4;
  const l4 = batch.l4[i];
  const l4Header = isTcp ? tcp.headerLength(view, l4) : udp.HEADER;
  const ipBytes = l4 - batch.l3[i] + l4Header;
  const payload = l4 + l4Header;
  const end = batch.end[i];
  const headers = payload - from;
  const size = batch.gsoSize[i];
  const count = Math.ceil((end - payload) / size);
  dp.reserve(count, 2 * count, count);
  const l3At = batch.l3[i] - from;
  const l4At = l4 - from;
  const fixed = fixedSum(view, batch.l3[i], l4 - batch.l3[i]);
  const pseudo = checksum.pseudo4(batch.source[i], batch.destination[i], batch.protocol[i]);
  const id = view.getUint16(batch.l3[i] + ipv4.IDENTIFICATION);
  const csum = isTcp
    ? CSUM_REQUEST | CSUM_NEXT | l4At | (tcp.CHECKSUM << 8)
    : CSUM_REQUEST | CSUM_NEXT | CSUM_UDP | l4At | (udp.CHECKSUM << 8);
  const sequence = isTcp ? view.getInt32(l4 + tcp.SEQUENCE) : 0;
  const flags = isTcp ? view.getUint8(l4 + tcp.FLAGS) : 0;
  let n = 0;
  for (let at = payload; at < end; at += size, n++) {
    const bytes = Math.min(end - at, size);
    const slot = plan.slot();
    copyHeader(view, slot, from, headers);
    patchIpv4(view, slot + l3At, ipBytes + bytes, (id + n) & 0xffff, fixed);
    const t = slot + l4At;
    if (isTcp) {
      view.setInt32(t + tcp.SEQUENCE, sequence + (at - payload));
      // FIN and PSH belong to the last segment, CWR to the first (RFC 3168 §6.1.2).
      let f = flags;
      if (at + bytes < end) f &= ~(tcp.FIN | tcp.PSH);
      if (n > 0) f &= ~tcp.CWR;
      view.setUint8(t + tcp.FLAGS, f);
      view.setUint16(t + tcp.CHECKSUM, checksum.fold(pseudo + l4Header + bytes));
    } else {
      view.setUint16(t + udp.LENGTH, udp.HEADER + bytes);
      view.setUint16(t + udp.CHECKSUM, checksum.fold(pseudo + udp.HEADER + bytes));
    }
    const m = sendToVtep(dp, vtep, slot, headers, csum, at, bytes);
    // One frame came in; the first of its segments carries it in the accounts.
    if (n > 0) plan.msg[m + MSG_FRAMES]--;
  }
  dp.counters[COUNT_SEGMENTS] += n;
}

/**
 * Sends UDP GSO row `i`, whose MACs stand, to a TAP that cannot take it whole. Each datagram keeps a
 * partial checksum, which every TAP takes.
 */
export function segmentUdpToTap(dp: Dataplane, i: number): void {
  const { batch, view, plan } = dp;
  const from = batch.offset[i];
  const l4 = batch.l4[i];
  const payload = l4 + udp.HEADER;
  const end = batch.end[i];
  const headers = payload - from;
  const size = batch.gsoSize[i];
  const count = Math.ceil((end - payload) / size);
  dp.reserve(count, 2 * count, count);
  const fixed = fixedSum(view, batch.l3[i], l4 - batch.l3[i]);
  const pseudo = checksum.pseudo4(batch.source[i], batch.destination[i], batch.protocol[i]);
  const id = view.getUint16(batch.l3[i] + ipv4.IDENTIFICATION);
  let n = 0;
  for (let at = payload; at < end; at += size, n++) {
    const bytes = Math.min(end - at, size);
    const slot = plan.slot();
    const frame = slot + virtioNet.HEADER;
    virtioNet.emit(view, slot, virtioNet.NEEDS_CSUM, 0, 0, 0, l4 - from, udp.CHECKSUM);
    copyHeader(view, frame, from, headers);
    patchIpv4(
      view,
      frame + batch.l3[i] - from,
      l4 - batch.l3[i] + udp.HEADER + bytes,
      (id + n) & 0xffff,
      fixed,
    );
    const t = frame + l4 - from;
    view.setUint16(t + udp.LENGTH, udp.HEADER + bytes);
    view.setUint16(t + udp.CHECKSUM, checksum.fold(pseudo + udp.HEADER + bytes));
    const m = plan.message(batch.out[i], 0, slot, virtioNet.HEADER + headers, 0);
    plan.append(m, at, bytes, 0);
    // One frame came in; the first of its datagrams carries it in the accounts.
    plan.msg[m + MSG_FRAMES] = n === 0 ? 1 : 0;
  }
  dp.counters[COUNT_SEGMENTS] += n;
}
