/** Which state machine a row's protocol has, and what of the packet it is told. */
import * as icmp from "../wire/icmp.js";
import * as ipv4 from "../wire/ipv4.js";
import * as tcp from "../wire/tcp.js";
import type { Dataplane } from "./Dataplane.js";
import { firstDatagramState, trackDatagram } from "./datagramState.js";
import { firstSctpState, trackSctp } from "./sctpState.js";
import { firstTcpState, TCP_REOPEN, trackTcp } from "./tcpState.js";

/** The state of a flow that begins with row `i`; 0 where none begins like that. */
export function firstState(dp: Dataplane, i: number): number {
  const { batch, view } = dp;
  const protocol = batch.protocol[i];
  if (protocol === ipv4.PROTOCOL_TCP) return firstTcpState(view.getUint8(batch.l4[i] + tcp.FLAGS));
  if (protocol === ipv4.PROTOCOL_SCTP) return firstSctpState(view, batch.l4[i], batch.end[i]);
  // An answer to a question that nobody asked by us.
  if (protocol === ipv4.PROTOCOL_ICMP && view.getUint8(batch.l4[i]) === icmp.ECHO_REPLY) return 0;
  return firstDatagramState(protocol);
}

/**
 * Tells the flow in the columns of row `i` about the packet. False where the flow has ended, and the
 * packet is the first of another: the flow has then been removed.
 */
export function trackRow(dp: Dataplane, i: number): boolean {
  const { batch, flows, view, nowMs } = dp;
  const record = batch.flow[i];
  const direction = batch.direction[i];
  const protocol = batch.protocol[i];
  const l4 = batch.l4[i];
  if (protocol === ipv4.PROTOCOL_TCP) {
    const flags = view.getUint8(l4 + tcp.FLAGS);
    const header = tcp.headerLength(view, l4);
    const verdict = trackTcp(
      flows,
      record,
      direction,
      flags,
      view.getInt32(l4 + tcp.SEQUENCE),
      payloadOf(dp, i, header),
      view.getInt32(l4 + tcp.ACKNOWLEDGEMENT),
      view.getUint16(l4 + tcp.WINDOW),
      (flags & tcp.SYN) !== 0 ? tcp.windowScale(view, l4, header) : -1,
      nowMs,
    );
    if (verdict !== TCP_REOPEN) return true;
    flows.remove(record);
    return false;
  }
  if (protocol === ipv4.PROTOCOL_SCTP) trackSctp(flows, record, direction, view, l4, batch.end[i], nowMs);
  else trackDatagram(flows, record, direction, nowMs);
  return true;
}

/** Bytes behind a transport header of `header` bytes, of all frames of a run. */
function payloadOf(dp: Dataplane, i: number, header: number): number {
  const { batch } = dp;
  return (batch.end[i] - batch.l4[i] - header) * batch.segments[i] - batch.short[i];
}
