/**
 * ICMP errors about packets of flows (RFC 5508 §4.2): the packet that an error quotes left us
 * translated, so both the error's own addresses and those of the quotation are given back what its
 * sender knows.
 *
 *   router ─▶ │IPv4 router → client│ICMP│ IPv4 client:5000 → pod:80 …│      arrives
 *             │IPv4 router → client│ICMP│ IPv4 client:5000 → VIP:80 …│      leaves
 *
 * Of an error in fragments the first one has the quotation; later ones get its addresses (FragmentTable).
 */
import {
  echoPorts,
  FLOW_ORIGINAL,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  KEY_TAG,
  KEY_WORDS,
  turnedPorts,
} from "../tables/flowLayout.js";
import * as checksum from "../wire/checksum.js";
import * as icmp from "../wire/icmp.js";
import * as ipv4 from "../wire/ipv4.js";
import type { Dataplane } from "./Dataplane.js";
import { takeWayOut } from "./followFlow.js";
import { translate, translateQuotation } from "./translate.js";

/** Bytes of the quoted transport header that every router quotes (RFC 792). */
const QUOTED_L4 = 8;

/**
 * Translates row `i`, an ICMP packet that is no echo, where it is an error about a flow. The record of
 * that flow, -1 where it is none's.
 */
export function translateIcmpError(dp: Dataplane, i: number): number {
  const { batch, flows, view } = dp;
  const l4 = batch.l4[i];
  const end = batch.end[i];
  const quoted = l4 + icmp.HEADER;
  if (flows.size === 0 || quoted + ipv4.HEADER_MIN > end || !icmp.isError(view.getUint8(l4))) return -1;
  const header = ipv4.headerLength(view, quoted);
  const quotedL4 = quoted + header;
  if (header < ipv4.HEADER_MIN || quotedL4 + QUOTED_L4 > end) return -1;
  // A later fragment has no ports to find its flow by.
  if ((ipv4.fragment(view, quoted) & ipv4.FRAGMENT_OFFSET) !== 0) return -1;
  const protocol = ipv4.protocol(view, quoted);
  const ports = quotedPorts(view, quotedL4, protocol);
  const source = ipv4.source(view, quoted);
  const destination = ipv4.destination(view, quoted);
  const found = flows.find(destination, source, turnedPorts(ports), protocol, batch.tag[i]);
  if (found < 0) return -1;
  const record = found >> 1;
  const direction = found & 1;
  if (batch.fragment[i] !== 0) dp.fragments.noteError(dp, i, record, direction);
  giveBack(dp, i, record, direction, quoted, quotedL4, protocol, ports);
  applyIcmpError(dp, i, record, direction);
  return record;
}

/**
 * Gives row `i`, a whole ICMP error or a fragment of one that travels in `direction` of the flow `record`,
 * the addresses that its receiver knows, and says where it goes.
 */
export function applyIcmpError(dp: Dataplane, i: number, record: number, direction: number): void {
  const { batch, flows } = dp;
  const { words } = flows;
  const base = flows.base(record);
  const key = base + FLOW_ORIGINAL + (1 - direction) * KEY_WORDS;
  const wasTo = words[base + FLOW_ORIGINAL + direction * KEY_WORDS + KEY_SOURCE];
  const source = batch.source[i];
  // What the backend itself says comes from the address that was asked.
  const from = source === wasTo ? words[key + KEY_DESTINATION] : source;
  translate(dp, i, from, words[key + KEY_SOURCE], 0);
  batch.tag[i] = words[key + KEY_TAG];
  takeWayOut(dp, i, base, direction);
}

function quotedPorts(view: DataView, l4: number, protocol: number): number {
  if (protocol === ipv4.PROTOCOL_ICMP)
    return echoPorts(view.getUint8(l4), view.getUint16(l4 + icmp.IDENTIFIER));
  const has =
    protocol === ipv4.PROTOCOL_TCP || protocol === ipv4.PROTOCOL_UDP || protocol === ipv4.PROTOCOL_SCTP;
  return has ? view.getInt32(l4) : 0;
}

/**
 * Translates the quotation. The error travels in `direction` of the flow, the quoted packet travelled in
 * the other.
 */
function giveBack(
  dp: Dataplane,
  i: number,
  record: number,
  direction: number,
  quoted: number,
  quotedL4: number,
  protocol: number,
  ports: number,
): void {
  const { batch, flows, view } = dp;
  const { words } = flows;
  const key = flows.base(record) + FLOW_ORIGINAL + (1 - direction) * KEY_WORDS;
  const l4 = batch.l4[i];
  const end = batch.end[i];
  const bytes = end - quoted;
  const before = checksum.fold(checksum.sum(view, quoted, bytes, 0));
  const asked = words[key + KEY_DESTINATION];
  const asker = words[key + KEY_SOURCE];
  translateQuotation(view, quoted, quotedL4, end, protocol, asker, asked, ports, words[key + KEY_PORTS]);
  const after = checksum.fold(checksum.sum(view, quoted, bytes, 0));
  const field = l4 + icmp.CHECKSUM;
  view.setUint16(field, checksum.update(view.getUint16(field), before, after));
}
