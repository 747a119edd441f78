/**
 * The second send mode: a TSO frame goes whole, with its outer headers, into a TAP that has UDP
 * tunnel GSO (kernel >= 6.17); the kernel routes it and segments it as late as it can. Everything
 * is written in place in front of the inner frame:
 *
 *   │virtio-net 24│Ethernet 14│IPv4 20│UDP 8│VXLAN 8│ inner frame
 *   csum_start: inner TCP; outer_th_offset 34; inner_nh_offset 64
 */
import { COUNT_TUNNEL_GSO } from "../packet/counters.js";
import * as checksum from "../wire/checksum.js";
import * as ethernet from "../wire/ethernet.js";
import * as ipv4 from "../wire/ipv4.js";
import * as tcp from "../wire/tcp.js";
import * as udp from "../wire/udp.js";
import * as virtioNet from "../wire/virtioNet.js";
import * as vxlan from "../wire/vxlan.js";
import type { Dataplane } from "./Dataplane.js";

const OUTER_TRANSPORT = ethernet.HEADER + ipv4.HEADER_MIN;
const OUTER = OUTER_TRANSPORT + udp.HEADER + vxlan.HEADER;
const FRONT = virtioNet.HEADER_TUNNEL + OUTER;
/** The kernel's forwarding takes one off: 64 on the wire. */
const OUTER_TTL = 65;
const GSO = virtioNet.GSO_TCPV4 | virtioNet.GSO_UDP_TUNNEL_IPV4;
const FLAGS = virtioNet.NEEDS_CSUM | virtioNet.UDP_TUNNEL_CSUM;
/** Source MAC of the frames that we write into the device. */
const SOURCE_HI = 0x0200;
const SOURCE_LO = 1;

/**
 * Sends GSO row `i`, whose MACs stand, in this mode. False where the mode is off, or the frame is not
 * TCP or too long for an outer total length: the caller then segments it.
 */
export function sendByTunnelGso(dp: Dataplane, i: number): boolean {
  const { batch, view, tables, plan } = dp;
  const inner = batch.offset[i];
  const bytes = batch.length[i];
  const total = ipv4.HEADER_MIN + udp.HEADER + vxlan.HEADER + bytes;
  if (tables.gsoPort < 0 || batch.gsoType[i] !== virtioNet.GSO_TCPV4 || total > 0xffff) return false;
  dp.reserve(1, 1, 0);
  const vtep = batch.out[i];
  const destination = tables.fdb.address(vtep);
  const start = inner - FRONT;
  const frame = start + virtioNet.HEADER_TUNNEL;
  const l4 = batch.l4[i];
  const headers = l4 - inner + tcp.headerLength(view, l4);
  virtioNet.emit(
    view,
    start,
    FLAGS,
    GSO,
    OUTER + headers,
    batch.gsoSize[i],
    OUTER + l4 - inner,
    tcp.CHECKSUM,
  );
  virtioNet.emitTunnel(view, start, OUTER_TRANSPORT, OUTER + ethernet.HEADER);
  ethernet.emit(view, frame, tables.gsoMacHi, tables.gsoMacLo, SOURCE_HI, SOURCE_LO, ethernet.TYPE_IPV4);
  ipv4.emit(
    view,
    frame + ethernet.HEADER,
    total,
    dp.nextIdentification(),
    0,
    OUTER_TTL,
    ipv4.PROTOCOL_UDP,
    tables.underlayAddress,
    destination,
  );
  const u = frame + OUTER_TRANSPORT;
  const udpBytes = total - ipv4.HEADER_MIN;
  view.setUint16(u + udp.SOURCE_PORT, tables.vxlanPort);
  view.setUint16(u + udp.DESTINATION_PORT, tables.fdb.udpPort(vtep));
  view.setUint16(u + udp.LENGTH, udpBytes);
  // Partial, as the inner one: the kernel completes both for each segment.
  const pseudo = checksum.pseudo4(tables.underlayAddress, destination, ipv4.PROTOCOL_UDP);
  view.setUint16(u + udp.CHECKSUM, checksum.fold(pseudo + udpBytes));
  vxlan.emit(view, u + udp.HEADER, tables.vni);
  plan.message(tables.gsoPort, 0, start, FRONT + bytes, 0);
  // A frame that joined a train opened earlier would overtake this one.
  dp.trains.close(vtep);
  dp.counters[COUNT_TUNNEL_GSO]++;
  return true;
}
