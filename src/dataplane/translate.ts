/**
 * Rewriting of a row's addresses and ports: in the packet, in the further frames of a run, and in the
 * columns. Checksums follow by RFC 1624, so that a wrong one stays wrong; those that are still only
 * the sum of the pseudo-header (partial: a TAP's, or a virtual link's) get that sum updated instead.
 * SCTP's CRC32c (RFC 9260 §6.8) covers ports, not addresses, and is computed anew.
 */
import * as checksum from "../wire/checksum.js";
import * as icmp from "../wire/icmp.js";
import * as ipv4 from "../wire/ipv4.js";
import * as sctp from "../wire/sctp.js";
import * as tcp from "../wire/tcp.js";
import * as udp from "../wire/udp.js";
import type { Dataplane } from "./Dataplane.js";

/** What is added to the complement of a checksum for a 32-bit word that changes (RFC 1624, equation 3). */
function change(from: number, to: number): number {
  return (~(from >>> 16) & 0xffff) + (~from & 0xffff) + (to >>> 16) + (to & 0xffff);
}

/** A checksum field after `delta`, a sum of changes. */
function updated(field: number, delta: number): number {
  return ~checksum.fold((~field & 0xffff) + delta) & 0xffff;
}

/**
 * Gives row `i` other addresses and ports (`ports` as in the column: for an ICMP echo what echoPorts
 * says; ignored for later fragments and protocols without ports). False, with nothing changed, where
 * that cannot be done: a fragmented SCTP packet's ports.
 */
export function translate(
  dp: Dataplane,
  i: number,
  source: number,
  destination: number,
  ports: number,
): boolean {
  const { batch, view } = dp;
  const oldSource = batch.source[i];
  const oldDestination = batch.destination[i];
  const oldPorts = batch.ports[i];
  if (source === oldSource && destination === oldDestination && ports === oldPorts) return true;
  const protocol = batch.protocol[i];
  const fragment = batch.fragment[i];
  const first = (fragment & ipv4.FRAGMENT_OFFSET) === 0;
  if (protocol === ipv4.PROTOCOL_SCTP && first && fragment !== 0 && ports !== oldPorts) return false;
  const addresses = change(oldSource, source) + change(oldDestination, destination);
  const l3 = batch.l3[i];
  const l4 = batch.l4[i];
  const partial = first && isPartial(dp, i);
  const stride = batch.segments[i] > 1 ? batch.stride[i] : 0;
  for (let n = 0; n < batch.segments[i]; n++) {
    translateL3(view, l3 + n * stride, addresses, source, destination);
    if (first) translateL4(view, l4 + n * stride, protocol, partial, addresses, oldPorts, ports);
  }
  if (first && protocol === ipv4.PROTOCOL_SCTP && ports !== oldPorts)
    sctp.setPorts(view, l4, batch.end[i] - l4, ports);
  batch.source[i] = source;
  batch.destination[i] = destination;
  batch.ports[i] = ports;
  return true;
}

function translateL3(
  view: DataView,
  l3: number,
  addresses: number,
  source: number,
  destination: number,
): void {
  view.setUint16(l3 + ipv4.CHECKSUM, updated(view.getUint16(l3 + ipv4.CHECKSUM), addresses));
  view.setInt32(l3 + ipv4.SOURCE, source);
  view.setInt32(l3 + ipv4.DESTINATION, destination);
}

/**
 * The same for the packet that an ICMP error quotes: IPv4 header at `l3`, transport header at `l4`, of
 * which only what lies before `end` is there. Its checksums follow as far as they are quoted.
 */
export function translateQuotation(
  view: DataView,
  l3: number,
  l4: number,
  end: number,
  protocol: number,
  source: number,
  destination: number,
  oldPorts: number,
  ports: number,
): void {
  const addresses = change(ipv4.source(view, l3), source) + change(ipv4.destination(view, l3), destination);
  translateL3(view, l3, addresses, source, destination);
  const field = protocol === ipv4.PROTOCOL_TCP ? tcp.CHECKSUM : udp.CHECKSUM;
  if (protocol === ipv4.PROTOCOL_SCTP) {
    // Its checksum covers more than is quoted, and nobody looks at it.
    view.setInt32(l4, ports);
  } else if (l4 + field + 2 <= end) {
    translateL4(view, l4, protocol, false, addresses, oldPorts, ports);
  } else if (protocol === ipv4.PROTOCOL_TCP) {
    view.setInt32(l4, ports);
  }
}

function translateL4(
  view: DataView,
  l4: number,
  protocol: number,
  partial: boolean,
  addresses: number,
  oldPorts: number,
  ports: number,
): void {
  if (protocol === ipv4.PROTOCOL_TCP) {
    const field = l4 + tcp.CHECKSUM;
    const sum = view.getUint16(field);
    view.setUint16(
      field,
      partial ? checksum.fold(sum + addresses) : updated(sum, addresses + change(oldPorts, ports)),
    );
    view.setInt32(l4, ports);
  } else if (protocol === ipv4.PROTOCOL_UDP) {
    const field = l4 + udp.CHECKSUM;
    const sum = view.getUint16(field);
    if (partial) view.setUint16(field, checksum.fold(sum + addresses));
    else if (sum !== 0) {
      const value = updated(sum, addresses + change(oldPorts, ports));
      view.setUint16(field, value === 0 ? 0xffff : value);
    }
    view.setInt32(l4, ports);
  } else if (protocol === ipv4.PROTOCOL_ICMP && ports !== oldPorts) {
    const request = view.getUint8(l4) === icmp.ECHO_REQUEST;
    const from = view.getUint16(l4 + icmp.IDENTIFIER);
    const to = request ? ports >>> 16 : ports & 0xffff;
    view.setUint16(l4 + icmp.CHECKSUM, checksum.update(view.getUint16(l4 + icmp.CHECKSUM), from, to));
    view.setUint16(l4 + icmp.IDENTIFIER, to);
  }
}

/**
 * Whether the transport checksum of a row is still the sum of the pseudo-header: said by the
 * virtio-net header, or, where the tunnel brought it, seen by its value.
 */
function isPartial(dp: Dataplane, i: number): boolean {
  const { batch, view } = dp;
  const l4 = batch.l4[i];
  if (batch.csumStart[i] >= 0) return batch.csumStart[i] === l4 - batch.offset[i];
  if (batch.vtep[i] < 0 || batch.fragment[i] !== 0) return false;
  const protocol = batch.protocol[i];
  if (protocol !== ipv4.PROTOCOL_TCP && protocol !== ipv4.PROTOCOL_UDP) return false;
  const stored = view.getUint16(l4 + (protocol === ipv4.PROTOCOL_TCP ? tcp.CHECKSUM : udp.CHECKSUM));
  const pseudo = checksum.pseudo4(batch.source[i], batch.destination[i], protocol);
  return stored === checksum.fold(pseudo + batch.end[i] - l4);
}
