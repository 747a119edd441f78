/**
 * ICMP errors, made where routers make them (RFC 1812 §4.3): back the way the packet came, from the
 * node's tunnel address, quoting as much of the packet as 576 bytes hold. None about ICMP errors,
 * later fragments, group or broadcast packets (the caller has dropped those), and not more than the
 * budget allows.
 */
import { COUNT_ICMP_ERRORS, COUNT_ICMP_LIMITED } from "../packet/counters.js";
import { CSUM_REQUEST, CSUM_TO_END } from "../packet/layout.js";
import * as icmp from "../wire/icmp.js";
import * as ipv4 from "../wire/ipv4.js";
import type { Dataplane } from "./Dataplane.js";
import { untranslate } from "./followFlow.js";
import { emitReply, planReply, replyFront } from "./reply.js";

/**
 * Plans an ICMP error about row `i`, which its caller drops. `mtu` is for FRAGMENTATION_NEEDED, else 0.
 * What was translated is quoted as its sender sent it.
 */
export function sendIcmpError(dp: Dataplane, i: number, type: number, code: number, mtu: number): void {
  const { batch, view, tables, plan } = dp;
  const l3 = batch.l3[i];
  if ((batch.fragment[i] & ipv4.FRAGMENT_OFFSET) !== 0) return;
  if (batch.protocol[i] === ipv4.PROTOCOL_ICMP) {
    if (batch.l4[i] >= batch.end[i] || icmp.isError(view.getUint8(batch.l4[i]))) return;
  }
  if (!dp.icmpBudget.take(dp.nowMs)) {
    dp.counters[COUNT_ICMP_LIMITED]++;
    return;
  }
  untranslate(dp, i);
  dp.reserve(1, 2, 1);
  const slot = plan.slot();
  const front = replyFront(dp, i);
  const message = slot + front + ipv4.HEADER_MIN;
  const quoted = Math.min(batch.end[i] - l3, icmp.ERROR_MAX - ipv4.HEADER_MIN - icmp.HEADER);
  const total = ipv4.HEADER_MIN + icmp.HEADER + quoted;
  emitReply(dp, i, slot, total, ipv4.PROTOCOL_ICMP, tables.tunnelAddress, batch.source[i]);
  icmp.emitError(view, message, type, code, mtu);
  const csum = CSUM_REQUEST | CSUM_TO_END | (message - slot) | (icmp.CHECKSUM << 8);
  const m = planReply(dp, i, slot, front + ipv4.HEADER_MIN + icmp.HEADER, csum);
  plan.append(m, l3, quoted, 0);
  dp.tap?.answered(dp, i, m);
  dp.counters[COUNT_ICMP_ERRORS]++;
}
