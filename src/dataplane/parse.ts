/**
 * Stage parse: checks lengths once, then writes offsets and the 5-tuple into columns, so that no
 * later stage has to ask whether it may read. Steps, in order:
 *   1. Ethernet: length, destination MAC, EtherType
 *   2. IPv4: version, header length, total length, header checksum; Ethernet padding is cut off
 *   3. TCP, UDP, SCTP: header and length; ports; ICMP echo: what stands for them
 *   4. the virtio-net header of frames from TAPs: untrusted, must fit what was parsed
 */
import { type Batch, KIND_ARP, KIND_IPV4, PENDING } from "../packet/Batch.js";
import { DropReason } from "../packet/DropReason.js";
import { SCRATCH_BYTES } from "../packet/layout.js";
import { echoPorts } from "../tables/flowLayout.js";
import * as checksum from "../wire/checksum.js";
import * as ethernet from "../wire/ethernet.js";
import * as icmp from "../wire/icmp.js";
import * as ipv4 from "../wire/ipv4.js";
import * as sctp from "../wire/sctp.js";
import * as tcp from "../wire/tcp.js";
import * as udp from "../wire/udp.js";
import * as virtioNet from "../wire/virtioNet.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";

const FINE = -1;
/** A GSO frame must not fall into more segments than 64 KiB of the smallest sensible MSS give. */
const MAX_SEGMENTS = 1366;
/** Headers of a GSO frame must fit a scratch slot behind a virtio-net or VXLAN header. */
const MAX_HEADERS = SCRATCH_BYTES - 12;
/** A checksum request counts in bytes of eight bits, from the VXLAN header on. */
const MAX_CSUM_START = 255 - vxlan.HEADER;

export function parse(dp: Dataplane): void {
  const { batch, view, tables } = dp;
  const { verdict, offset, length, port, kind } = batch;
  const { tunnelPort } = tables;
  for (let i = 0; i < batch.count; i++) {
    if (verdict[i] !== PENDING) continue;
    const o = offset[i];
    if (length[i] < ethernet.HEADER) {
      dp.drop(i, DropReason.runt);
      continue;
    }
    const type = ethernet.type(view, o);
    if (type === ethernet.TYPE_ARP) {
      kind[i] = KIND_ARP;
      continue;
    }
    if (port[i] !== tunnelPort && !ethernet.isTo(view, o, ethernet.GATEWAY_HI, ethernet.GATEWAY_LO)) {
      dp.drop(i, ethernet.isMulticast(view, o) ? DropReason.multicast : DropReason.wrongMac);
      continue;
    }
    if (type !== ethernet.TYPE_IPV4) {
      dp.drop(i, DropReason.etherType);
      continue;
    }
    const failed = parseIpv4(batch, view, i, o);
    if (failed !== FINE) dp.drop(i, failed as DropReason);
  }
}

/** Steps 2 to 4 for one row. Returns FINE or a DropReason. */
function parseIpv4(batch: Batch, view: DataView, i: number, o: number): number {
  const l3 = o + ethernet.HEADER;
  const available = batch.length[i] - ethernet.HEADER;
  if (available < ipv4.HEADER_MIN) return DropReason.runt;
  // Each word is read once, for the checksum and for what it holds.
  const w0 = view.getInt32(l3);
  const w1 = view.getInt32(l3 + ipv4.IDENTIFICATION);
  const w2 = view.getInt32(l3 + ipv4.TTL);
  const source = ipv4.source(view, l3);
  const destination = ipv4.destination(view, l3);
  const headerLength = (w0 >>> 22) & 0x3c;
  const total = w0 & 0xffff;
  if (w0 >>> 28 !== 4 || headerLength < ipv4.HEADER_MIN || total < headerLength || total > available) {
    return DropReason.malformedIpv4;
  }
  const sum = ipv4.headerSum(w0, w1, w2, source, destination);
  if (!ipv4.checksumOk(view, l3, headerLength, sum)) return DropReason.ipv4Checksum;
  const l4 = l3 + headerLength;
  const end = l3 + total;
  const protocol = (w2 >>> 16) & 0xff;
  const fragment = w1 & (ipv4.MORE_FRAGMENTS | ipv4.FRAGMENT_OFFSET);
  let ports = 0;
  // Later fragments have no transport header. A first one holds all of it, or it is not worth having
  // (RFC 1858: tiny fragments).
  if ((fragment & ipv4.FRAGMENT_OFFSET) === 0) {
    if (protocol === ipv4.PROTOCOL_TCP) {
      if (end - l4 < tcp.HEADER_MIN) return DropReason.malformedL4;
      const tcpLength = tcp.headerLength(view, l4);
      if (tcpLength < tcp.HEADER_MIN || tcpLength > end - l4) return DropReason.malformedL4;
      ports = view.getInt32(l4);
    } else if (protocol === ipv4.PROTOCOL_UDP) {
      if (end - l4 < udp.HEADER) return DropReason.malformedL4;
      const udpLength = view.getUint16(l4 + udp.LENGTH);
      // A fragment's length field counts the whole datagram; a GSO frame's may be that of the frame.
      if (udpLength < udp.HEADER || (fragment === 0 && udpLength > end - l4)) return DropReason.malformedL4;
      ports = view.getInt32(l4);
    } else if (protocol === ipv4.PROTOCOL_SCTP) {
      if (end - l4 < sctp.HEADER) return DropReason.malformedL4;
      ports = view.getInt32(l4);
    } else if (protocol === ipv4.PROTOCOL_ICMP && end - l4 >= icmp.HEADER) {
      ports = echoPorts(view.getUint8(l4), view.getUint16(l4 + icmp.IDENTIFIER));
    }
  }
  batch.kind[i] = KIND_IPV4;
  batch.length[i] = ethernet.HEADER + total;
  batch.l3[i] = l3;
  batch.l4[i] = l4;
  batch.end[i] = end;
  batch.protocol[i] = protocol;
  batch.source[i] = source;
  batch.destination[i] = destination;
  batch.ports[i] = ports;
  batch.fragment[i] = fragment;
  if (batch.csumStart[i] >= 0 || batch.gsoType[i] !== 0) return checkOffloads(batch, view, i, l4 - o);
  return FINE;
}

/**
 * Step 4. `start` is where the transport header begins, in bytes from the start of the frame. A UDP
 * GSO frame that came through the tunnel (a virtual link hands it over whole) has no virtio-net
 * header: its checksum must be partial, and is noted as such. A sum that starts further back is that
 * of a tunnel of the pod's own (VXLAN, GRE), whose inner checksum its kernel left to us.
 */
function checkOffloads(batch: Batch, view: DataView, i: number, start: number): number {
  const protocol = batch.protocol[i];
  const field =
    protocol === ipv4.PROTOCOL_TCP ? tcp.CHECKSUM : protocol === ipv4.PROTOCOL_UDP ? udp.CHECKSUM : -1;
  if (batch.fragment[i] !== 0) return DropReason.vnetHeader;
  if (batch.csumStart[i] > start) return checkInnerChecksum(batch, i);
  if (field < 0) return DropReason.vnetHeader;
  if (batch.vtep[i] >= 0 && batch.csumStart[i] < 0) {
    const bytes = batch.end[i] - batch.l4[i];
    const pseudo = checksum.pseudo4(batch.source[i], batch.destination[i], protocol);
    if (view.getUint16(batch.l4[i] + field) !== checksum.fold(pseudo + bytes)) return DropReason.vnetHeader;
    batch.csumStart[i] = start;
    batch.csumOffset[i] = field;
  }
  if (batch.csumStart[i] !== start || batch.csumOffset[i] !== field) return DropReason.vnetHeader;
  const gsoType = batch.gsoType[i];
  if (gsoType === virtioNet.GSO_NONE) return FINE;
  const wanted = protocol === ipv4.PROTOCOL_TCP ? virtioNet.GSO_TCPV4 : virtioNet.GSO_UDP_L4;
  const size = batch.gsoSize[i];
  if (gsoType !== wanted || size === 0) return DropReason.vnetHeader;
  const l4 = batch.l4[i];
  const header = protocol === ipv4.PROTOCOL_TCP ? tcp.headerLength(view, l4) : udp.HEADER;
  const payload = batch.end[i] - l4 - header;
  if (payload > size * MAX_SEGMENTS || start + header > MAX_HEADERS) return DropReason.vnetHeader;
  if (payload <= size) batch.gsoType[i] = virtioNet.GSO_NONE;
  return FINE;
}

/** A partial checksum behind the transport header: inside the packet, within reach, and no GSO. */
function checkInnerChecksum(batch: Batch, i: number): number {
  const start = batch.csumStart[i];
  const field = batch.csumOffset[i];
  const fits =
    batch.gsoType[i] === virtioNet.GSO_NONE &&
    (field & 1) === 0 &&
    start <= MAX_CSUM_START &&
    field <= MAX_CSUM_START &&
    start + field + 2 <= batch.length[i];
  return fits ? FINE : DropReason.vnetHeader;
}
