/**
 * Connection tracking of protocols without connections: UDP, ICMP echo, and whatever is neither
 * TCP nor SCTP (nf_conntrack_proto_udp.c, _icmp.c, _generic.c). A flow is unreplied until a packet
 * comes back; an answered UDP flow that is still in use after two seconds is a stream.
 */
import type { FlowTable } from "../tables/FlowTable.js";
import {
  FLOW_CREATED,
  FLOW_STATE,
  GENERIC_REPLIED,
  GENERIC_UNREPLIED,
  ICMP_REPLIED,
  ICMP_UNREPLIED,
  STREAM_MS,
  UDP_REPLIED,
  UDP_STREAM,
  UDP_UNREPLIED,
} from "../tables/flowLayout.js";
import { PROTOCOL_ICMP, PROTOCOL_UDP } from "../wire/ipv4.js";

/** State of a new flow of a protocol other than TCP and SCTP. */
export function firstDatagramState(protocol: number): number {
  if (protocol === PROTOCOL_UDP) return UDP_UNREPLIED;
  return protocol === PROTOCOL_ICMP ? ICMP_UNREPLIED : GENERIC_UNREPLIED;
}

/** Tracks a packet of `record` in `direction` (0 or 1), the first one included. */
export function trackDatagram(flows: FlowTable, record: number, direction: number, nowMs: number): void {
  const { words } = flows;
  const base = flows.base(record);
  flows.touch(base, nowMs);
  const state = words[base + FLOW_STATE];
  if (state === UDP_REPLIED) {
    const age = (nowMs - words[base + FLOW_CREATED]) | 0;
    if (age > STREAM_MS) flows.setState(record, UDP_REPLIED, UDP_STREAM, nowMs);
  } else if (direction === 1) {
    // Where the other thread was first, it did the same.
    if (state === UDP_UNREPLIED) flows.setState(record, state, UDP_REPLIED, nowMs);
    else if (state === ICMP_UNREPLIED) flows.setState(record, state, ICMP_REPLIED, nowMs);
    else if (state === GENERIC_UNREPLIED) flows.setState(record, state, GENERIC_REPLIED, nowMs);
  }
}
