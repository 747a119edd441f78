/**
 * ICMP errors, made where routers make them (RFC 1812 §4.3): back the way the packet came, from the
 * node's tunnel address, quoting as much of the packet as 576 bytes hold. None about ICMP errors,
 * later fragments, group or broadcast packets (the caller has dropped those), and not more than the
 * budget allows.
 */
import { COUNT_ICMP_ERRORS, COUNT_ICMP_LIMITED } from "../packet/counters.js";
import { CSUM_REQUEST, CSUM_TO_END, MSG_FRAMES } from "../packet/layout.js";
import * as ethernet from "../wire/ethernet.js";
import * as icmp from "../wire/icmp.js";
import * as ipv4 from "../wire/ipv4.js";
import * as virtioNet from "../wire/virtioNet.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";

const HEADERS = ethernet.HEADER + ipv4.HEADER_MIN + icmp.HEADER;
const TTL = 64;

/** Plans an ICMP error about row `i`. `mtu` is for FRAGMENTATION_NEEDED, else 0. */
export function sendIcmpError(dp: Dataplane, i: number, type: number, code: number, mtu: number): void {
  const { batch, view, tables, plan } = dp;
  const l3 = batch.l3[i];
  if ((batch.fragment[i] & ipv4.FRAGMENT_OFFSET) !== 0) return;
  if (batch.protocol[i] === ipv4.PROTOCOL_ICMP) {
    if (batch.l4[i] >= batch.end[i] || icmp.isError(view.getUint8(batch.l4[i]))) return;
  }
  if (!dp.icmpBudget.take(dp.nowUs)) {
    dp.counters[COUNT_ICMP_LIMITED]++;
    return;
  }
  dp.reserve(1, 2, 1);
  const vtep = batch.vtep[i];
  const port = batch.port[i];
  // [virtio-net or VXLAN][Ethernet][IPv4][ICMP] in a scratch slot, then the quoted packet.
  const prefix = vtep >= 0 ? vxlan.HEADER : virtioNet.HEADER;
  const slot = plan.slot();
  const frame = slot + prefix;
  const ip = frame + ethernet.HEADER;
  const message = ip + ipv4.HEADER_MIN;
  const quoted = Math.min(batch.end[i] - l3, icmp.ERROR_MAX - ipv4.HEADER_MIN - icmp.HEADER);
  ipv4.emit(
    view,
    ip,
    ipv4.HEADER_MIN + icmp.HEADER + quoted,
    dp.nextIdentification(),
    0,
    TTL,
    ipv4.PROTOCOL_ICMP,
    tables.tunnelAddress,
    batch.source[i],
  );
  icmp.emitError(view, message, type, code, mtu);
  const csum = CSUM_REQUEST | CSUM_TO_END | (message - slot) | (icmp.CHECKSUM << 8);
  let m: number;
  if (vtep >= 0) {
    vxlan.emit(view, slot, tables.vni);
    const { fdb } = tables;
    ethernet.emit(
      view,
      frame,
      fdb.macHi(vtep),
      fdb.macLo(vtep),
      tables.macHi,
      tables.macLo,
      ethernet.TYPE_IPV4,
    );
    m = plan.message(tables.tunnelPort, vtep, slot, prefix + HEADERS, csum);
    dp.trains.close(vtep);
  } else {
    virtioNet.emit(view, slot, 0, 0, 0, 0, 0, 0);
    const { ports } = tables;
    ethernet.emit(
      view,
      frame,
      ports.macHi(port),
      ports.macLo(port),
      ethernet.GATEWAY_HI,
      ethernet.GATEWAY_LO,
      ethernet.TYPE_IPV4,
    );
    m = plan.message(port, 0, slot, prefix + HEADERS, csum);
  }
  plan.append(m, l3, quoted, 0);
  // The cause is accounted for as dropped; the error itself was never received.
  plan.msg[m + MSG_FRAMES] = 0;
  dp.counters[COUNT_ICMP_ERRORS]++;
}
