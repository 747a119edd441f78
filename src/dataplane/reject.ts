/**
 * How a packet is refused: TCP by a reset, everything else by ICMP port unreachable, which is what
 * kube-proxy's REJECT rules answer. The reset is that of a closed port (RFC 9293 §3.10.7.1).
 */
import { COUNT_ICMP_LIMITED, COUNT_RESETS } from "../packet/counters.js";
import { CSUM_REQUEST, CSUM_TO_END } from "../packet/layout.js";
import { turnedPorts } from "../tables/flowLayout.js";
import * as checksum from "../wire/checksum.js";
import * as icmp from "../wire/icmp.js";
import * as ipv4 from "../wire/ipv4.js";
import * as tcp from "../wire/tcp.js";
import type { Dataplane } from "./Dataplane.js";
import { sendIcmpError } from "./icmpError.js";
import { emitReply, planReply, replyFront } from "./reply.js";

/** Refuses row `i`, whose addresses are as they arrived; its caller drops it. */
export function reject(dp: Dataplane, i: number): void {
  if (dp.batch.protocol[i] === ipv4.PROTOCOL_TCP) sendReset(dp, i);
  else sendIcmpError(dp, i, icmp.UNREACHABLE, icmp.PORT_UNREACHABLE, 0);
}

function sendReset(dp: Dataplane, i: number): void {
  const { batch, view, plan } = dp;
  const l4 = batch.l4[i];
  const flags = view.getUint8(l4 + tcp.FLAGS);
  if (batch.fragment[i] !== 0 || (flags & tcp.RST) !== 0) return;
  if (!dp.icmpBudget.take(dp.nowMs)) {
    dp.counters[COUNT_ICMP_LIMITED]++;
    return;
  }
  dp.reserve(1, 1, 1);
  const slot = plan.slot();
  const front = replyFront(dp, i);
  const segment = slot + front + ipv4.HEADER_MIN;
  const source = batch.destination[i];
  const destination = batch.source[i];
  emitReply(dp, i, slot, ipv4.HEADER_MIN + tcp.HEADER_MIN, ipv4.PROTOCOL_TCP, source, destination);
  view.setInt32(segment, turnedPorts(batch.ports[i]));
  const acknowledges = (flags & tcp.ACK) !== 0;
  const payload = batch.end[i] - l4 - tcp.headerLength(view, l4);
  const length = payload + ((flags & tcp.SYN) !== 0 ? 1 : 0) + ((flags & tcp.FIN) !== 0 ? 1 : 0);
  view.setInt32(segment + tcp.SEQUENCE, acknowledges ? view.getInt32(l4 + tcp.ACKNOWLEDGEMENT) : 0);
  view.setInt32(
    segment + tcp.ACKNOWLEDGEMENT,
    acknowledges ? 0 : (view.getInt32(l4 + tcp.SEQUENCE) + length) | 0,
  );
  view.setUint8(segment + tcp.DATA_OFFSET, (tcp.HEADER_MIN >>> 2) << 4);
  view.setUint8(segment + tcp.FLAGS, acknowledges ? tcp.RST : tcp.RST | tcp.ACK);
  view.setUint16(segment + tcp.WINDOW, 0);
  const pseudo = checksum.pseudo4(source, destination, ipv4.PROTOCOL_TCP);
  view.setUint16(segment + tcp.CHECKSUM, checksum.fold(pseudo + tcp.HEADER_MIN));
  view.setUint16(segment + tcp.URGENT, 0);
  const csum = CSUM_REQUEST | CSUM_TO_END | (segment - slot) | (tcp.CHECKSUM << 8);
  const m = planReply(dp, i, slot, front + ipv4.HEADER_MIN + tcp.HEADER_MIN, csum);
  dp.tap?.answered(dp, i, m);
  dp.counters[COUNT_RESETS]++;
}
