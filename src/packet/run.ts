/**
 * Runs: consecutive datagrams of a train that hold consecutive TCP segments, or equal-sized UDP
 * datagrams, of one flow with the same headers. A run goes through the stages as one row: what
 * holds for the first holds for all. A train is measured in one tight loop of comparisons, before
 * anything is believed: parse checks the first, equality with it covers the others.
 *
 * The rules are those of merging (MergeTable): only ACK, and PSH on the last; no options in IPv4,
 * no fragments; TOS, TTL, DF, acknowledgement, window and TCP options equal; the last may be shorter.
 */
import * as checksum from "../wire/checksum.js";
import * as ethernet from "../wire/ethernet.js";
import * as ipv4 from "../wire/ipv4.js";
import * as tcp from "../wire/tcp.js";
import * as udp from "../wire/udp.js";
import * as vxlan from "../wire/vxlan.js";

const FRAME = vxlan.HEADER;
const IP = FRAME + ethernet.HEADER;
const L4 = IP + ipv4.HEADER_MIN;
/** In the word of data offset, flags and window: all but PSH. */
const SAME_TCP_WORD = ~(tcp.PSH << 16);

/**
 * Number of datagrams, from the one at `start` on, that are one run; 1 where the first is nothing to
 * merge. Datagrams lie `stride` bytes apart and end before `end`; the first has `stride` bytes.
 */
export function runLength(view: DataView, start: number, stride: number, end: number): number {
  if (end - start < stride + L4 || stride < L4 + udp.HEADER) return 1;
  const ip = start + IP;
  if (
    ethernet.type(view, start + FRAME) !== ethernet.TYPE_IPV4 ||
    view.getUint8(ip) !== 0x45 ||
    (ipv4.fragment(view, ip) & (ipv4.MORE_FRAGMENTS | ipv4.FRAGMENT_OFFSET)) !== 0 ||
    ipv4.totalLength(view, ip) !== stride - IP
  ) {
    return 1;
  }
  const protocol = ipv4.protocol(view, ip);
  if (protocol === ipv4.PROTOCOL_TCP) return tcpRun(view, start, stride, end);
  if (protocol === ipv4.PROTOCOL_UDP) return udpRun(view, start, stride, end);
  return 1;
}

/** Sum of what may differ in the network headers of a run, and the checksum that makes up for it. */
function variableSum(view: DataView, ip: number): number {
  return checksum.fold(
    ipv4.totalLength(view, ip) +
      view.getUint16(ip + ipv4.IDENTIFICATION) +
      view.getUint16(ip + ipv4.CHECKSUM),
  );
}

/** Whether VXLAN, Ethernet and IPv4 headers at `o` equal those at `start`, and the length is `bytes`. */
function sameHeaders(view: DataView, start: number, o: number, bytes: number): boolean {
  return (
    view.getInt32(o) === view.getInt32(start) &&
    view.getInt32(o + 4) === view.getInt32(start + 4) &&
    view.getInt32(o + 8) === view.getInt32(start + 8) &&
    view.getInt32(o + 12) === view.getInt32(start + 12) &&
    view.getInt32(o + 16) === view.getInt32(start + 16) &&
    view.getInt32(o + 20) === view.getInt32(start + 20) &&
    ipv4.totalLength(view, o + IP) === bytes - IP &&
    view.getInt32(o + IP + ipv4.FRAGMENT) === view.getInt32(start + IP + ipv4.FRAGMENT) &&
    ipv4.source(view, o + IP) === ipv4.source(view, start + IP) &&
    ipv4.destination(view, o + IP) === ipv4.destination(view, start + IP) &&
    view.getInt32(o + L4) === view.getInt32(start + L4)
  );
}

/** Unfolded pseudo-header sum without length. */
function pseudoOf(view: DataView, ip: number): number {
  return checksum.pseudo4(ipv4.source(view, ip), ipv4.destination(view, ip), ipv4.protocol(view, ip));
}

function tcpRun(view: DataView, start: number, stride: number, end: number): number {
  const t = start + L4;
  const header = tcp.headerLength(view, t);
  const payload = stride - L4 - header;
  const flags = view.getUint8(t + tcp.FLAGS);
  if (header < tcp.HEADER_MIN || payload <= 0 || flags !== tcp.ACK) return 1;
  const sequence = view.getInt32(t + tcp.SEQUENCE);
  const acknowledgement = view.getInt32(t + tcp.ACKNOWLEDGEMENT);
  const offsetFlagsWindow = view.getInt32(t + tcp.DATA_OFFSET);
  const variable = variableSum(view, start + IP);
  const pseudo = pseudoOf(view, start + IP);
  const partial = view.getUint16(t + tcp.CHECKSUM) === checksum.fold(pseudo + stride - L4);
  let n = 1;
  for (let o = start + stride; o < end; o += stride) {
    const bytes = Math.min(stride, end - o);
    const s = o + L4;
    if (
      bytes <= L4 + header ||
      !sameHeaders(view, start, o, bytes) ||
      view.getInt32(s + tcp.SEQUENCE) !== ((sequence + n * payload) | 0) ||
      view.getInt32(s + tcp.ACKNOWLEDGEMENT) !== acknowledgement ||
      ((view.getInt32(s + tcp.DATA_OFFSET) ^ offsetFlagsWindow) & SAME_TCP_WORD) !== 0 ||
      variableSum(view, o + IP) !== variable ||
      (view.getUint16(s + tcp.CHECKSUM) === checksum.fold(pseudo + bytes - L4)) !== partial
    ) {
      return n;
    }
    for (let x = tcp.HEADER_MIN; x < header; x += 4) {
      if (view.getInt32(s + x) !== view.getInt32(t + x)) return n;
    }
    n++;
    if (bytes < stride || (view.getUint8(s + tcp.FLAGS) & tcp.PSH) !== 0) return n;
  }
  return n;
}

function udpRun(view: DataView, start: number, stride: number, end: number): number {
  const u = start + L4;
  const stored = view.getUint16(u + udp.CHECKSUM);
  if (stride <= L4 + udp.HEADER || view.getUint16(u + udp.LENGTH) !== stride - L4 || stored === 0) return 1;
  const variable = variableSum(view, start + IP);
  const pseudo = pseudoOf(view, start + IP);
  const partial = stored === checksum.fold(pseudo + stride - L4);
  let n = 1;
  for (let o = start + stride; o < end; o += stride) {
    const bytes = Math.min(stride, end - o);
    const s = o + L4;
    if (
      bytes <= L4 + udp.HEADER ||
      !sameHeaders(view, start, o, bytes) ||
      view.getUint16(s + udp.LENGTH) !== bytes - L4 ||
      view.getUint16(s + udp.CHECKSUM) === 0 ||
      variableSum(view, o + IP) !== variable ||
      (view.getUint16(s + udp.CHECKSUM) === checksum.fold(pseudo + bytes - L4)) !== partial
    ) {
      return n;
    }
    n++;
    if (bytes < stride) return n;
  }
  return n;
}
