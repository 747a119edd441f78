/**
 * IPv4 packets for traces: one that begins a conversation, the answer that its receiver would give, and
 * what headers say. Bytes begin with the IPv4 header; checksums are complete.
 */
import { formatIpv4 } from "../../model/ipv4.js";
import { echoPorts } from "../../tables/flowLayout.js";
import * as checksum from "../../wire/checksum.js";
import * as icmp from "../../wire/icmp.js";
import * as ipv4 from "../../wire/ipv4.js";
import * as tcp from "../../wire/tcp.js";
import * as udp from "../../wire/udp.js";
import type { PacketView } from "./model.js";

export type TraceProtocol = "tcp" | "udp" | "icmp";

/** What a first packet is made of; addresses int32. `sourcePort` of icmp: the identifier. */
export interface FirstPacket {
  protocol: TraceProtocol;
  source: number;
  destination: number;
  sourcePort: number;
  destinationPort: number;
}

const TTL = 64;
const WINDOW = 64_240;
const SEQUENCE = 1000;
/** Payload of datagrams and echoes: what ping sends (iputils: 56 bytes). */
const PAYLOAD = 56;
const PROTOCOL_NAMES: Readonly<Record<number, string>> = {
  [ipv4.PROTOCOL_ICMP]: "icmp",
  [ipv4.PROTOCOL_TCP]: "tcp",
  [ipv4.PROTOCOL_UDP]: "udp",
  [ipv4.PROTOCOL_SCTP]: "sctp",
};
const TCP_FLAGS: readonly (readonly [number, string])[] = [
  [tcp.SYN, "SYN"],
  [tcp.FIN, "FIN"],
  [tcp.RST, "RST"],
  [tcp.PSH, "PSH"],
  [tcp.ACK, "ACK"],
];
const ICMP_TEXTS: Readonly<Record<string, string>> = {
  [`${icmp.ECHO_REPLY}`]: "echo reply",
  [`${icmp.ECHO_REQUEST}`]: "echo request",
  [`${icmp.UNREACHABLE}/${icmp.NETWORK_UNREACHABLE}`]: "network unreachable",
  [`${icmp.UNREACHABLE}/${icmp.HOST_UNREACHABLE}`]: "host unreachable",
  [`${icmp.UNREACHABLE}/${icmp.PORT_UNREACHABLE}`]: "port unreachable",
  [`${icmp.UNREACHABLE}/${icmp.FRAGMENTATION_NEEDED}`]: "fragmentation needed",
  [`${icmp.TIME_EXCEEDED}`]: "time exceeded",
};

/** A TCP SYN, a datagram, or an echo request. */
export function firstPacket({
  protocol,
  source,
  destination,
  sourcePort,
  destinationPort,
}: FirstPacket): Uint8Array {
  const make = { source, destination, sourcePort, destinationPort };
  if (protocol === "tcp")
    return tcpPacket({ ...make, flags: tcp.SYN, sequence: SEQUENCE, acknowledgement: 0 });
  if (protocol === "udp") return udpPacket(make);
  return echoPacket(source, destination, icmp.ECHO_REQUEST, sourcePort);
}

/**
 * What the receiver of a packet sends back: SYN ACK, a datagram, an echo reply; null where nobody answers
 * such a packet, or it is no beginning.
 */
export function answerTo(packet: Uint8Array): Uint8Array | null {
  const view = viewOver(packet);
  const l4 = ipv4.headerLength(view, 0);
  const source = ipv4.destination(view, 0);
  const destination = ipv4.source(view, 0);
  const protocol = ipv4.protocol(view, 0);
  if (protocol === ipv4.PROTOCOL_ICMP) {
    if (view.getUint8(l4) !== icmp.ECHO_REQUEST) return null;
    return echoPacket(source, destination, icmp.ECHO_REPLY, view.getUint16(l4 + icmp.IDENTIFIER));
  }
  if (protocol !== ipv4.PROTOCOL_TCP && protocol !== ipv4.PROTOCOL_UDP) return null;
  const make = {
    source,
    destination,
    sourcePort: view.getUint16(l4 + 2),
    destinationPort: view.getUint16(l4),
  };
  if (protocol === ipv4.PROTOCOL_UDP) return udpPacket(make);
  if ((view.getUint8(l4 + tcp.FLAGS) & (tcp.SYN | tcp.ACK | tcp.RST)) !== tcp.SYN) return null;
  const acknowledgement = (view.getInt32(l4 + tcp.SEQUENCE) + 1) | 0;
  return tcpPacket({ ...make, flags: tcp.SYN | tcp.ACK, sequence: SEQUENCE, acknowledgement });
}

/** What the headers say. */
export function packetView(packet: Uint8Array): PacketView {
  const view = viewOver(packet);
  const l4 = ipv4.headerLength(view, 0);
  const protocol = ipv4.protocol(view, 0);
  const first = (ipv4.fragment(view, 0) & ipv4.FRAGMENT_OFFSET) === 0;
  const ports = first ? portsOf(view, protocol, l4) : 0;
  const common = {
    protocol: PROTOCOL_NAMES[protocol] ?? String(protocol),
    source: formatIpv4(ipv4.source(view, 0)),
    destination: formatIpv4(ipv4.destination(view, 0)),
    sourcePort: ports >>> 16,
    destinationPort: ports & 0xffff,
    ttl: ipv4.ttl(view, 0),
    bytes: ipv4.totalLength(view, 0),
  };
  if (first && protocol === ipv4.PROTOCOL_ICMP && packet.length >= l4 + icmp.HEADER) {
    const [type, code] = [view.getUint8(l4), view.getUint8(l4 + 1)];
    const info = ICMP_TEXTS[`${type}/${code}`] ?? ICMP_TEXTS[`${type}`] ?? `type ${type} code ${code}`;
    return { ...common, info, icmpType: type };
  }
  return { ...common, info: protocol === ipv4.PROTOCOL_TCP && first ? flagsText(view, l4) : "" };
}

/** The packet after a router: TTL less by one. Null where that was its last hop. */
export function forwarded(packet: Uint8Array): Uint8Array | null {
  const copy = packet.slice();
  const view = viewOver(copy);
  if (ipv4.ttl(view, 0) <= 1) return null;
  ipv4.decrementTtl(view, 0);
  return copy;
}

function portsOf(view: DataView, protocol: number, l4: number): number {
  if (protocol === ipv4.PROTOCOL_TCP || protocol === ipv4.PROTOCOL_UDP || protocol === ipv4.PROTOCOL_SCTP)
    return view.byteLength >= l4 + 4 ? view.getInt32(l4) : 0;
  if (protocol !== ipv4.PROTOCOL_ICMP || view.byteLength < l4 + icmp.HEADER) return 0;
  return echoPorts(view.getUint8(l4), view.getUint16(l4 + icmp.IDENTIFIER));
}

function flagsText(view: DataView, l4: number): string {
  const flags = view.getUint8(l4 + tcp.FLAGS);
  return TCP_FLAGS.filter(([bit]) => (flags & bit) !== 0)
    .map(([, name]) => name)
    .join(" ");
}

// ---- bytes ------------------------------------------------------------------------------------

interface Ends {
  source: number;
  destination: number;
  sourcePort: number;
  destinationPort: number;
}

function tcpPacket({
  flags,
  sequence,
  acknowledgement,
  ...ends
}: Ends & { flags: number; sequence: number; acknowledgement: number }): Uint8Array {
  const packet = begin(ends.source, ends.destination, ipv4.PROTOCOL_TCP, tcp.HEADER_MIN);
  const view = viewOver(packet);
  const l4 = ipv4.HEADER_MIN;
  view.setUint16(l4, ends.sourcePort);
  view.setUint16(l4 + 2, ends.destinationPort);
  view.setInt32(l4 + tcp.SEQUENCE, sequence);
  view.setInt32(l4 + tcp.ACKNOWLEDGEMENT, acknowledgement);
  view.setUint8(l4 + tcp.DATA_OFFSET, (tcp.HEADER_MIN >>> 2) << 4);
  view.setUint8(l4 + tcp.FLAGS, flags);
  view.setUint16(l4 + tcp.WINDOW, WINDOW);
  finish(packet, tcp.CHECKSUM, ipv4.PROTOCOL_TCP);
  return packet;
}

function udpPacket(ends: Ends): Uint8Array {
  const packet = begin(ends.source, ends.destination, ipv4.PROTOCOL_UDP, udp.HEADER + PAYLOAD);
  const view = viewOver(packet);
  const l4 = ipv4.HEADER_MIN;
  view.setUint16(l4 + udp.SOURCE_PORT, ends.sourcePort);
  view.setUint16(l4 + udp.DESTINATION_PORT, ends.destinationPort);
  view.setUint16(l4 + udp.LENGTH, udp.HEADER + PAYLOAD);
  finish(packet, udp.CHECKSUM, ipv4.PROTOCOL_UDP);
  return packet;
}

function echoPacket(source: number, destination: number, type: number, identifier: number): Uint8Array {
  const packet = begin(source, destination, ipv4.PROTOCOL_ICMP, icmp.HEADER + PAYLOAD);
  const view = viewOver(packet);
  const l4 = ipv4.HEADER_MIN;
  view.setUint8(l4, type);
  view.setUint16(l4 + icmp.IDENTIFIER, identifier);
  view.setUint16(l4 + icmp.IDENTIFIER + 2, 1);
  view.setUint16(l4 + icmp.CHECKSUM, checksum.finish(checksum.sum(view, l4, packet.length - l4, 0)));
  return packet;
}

function begin(source: number, destination: number, protocol: number, bytes: number): Uint8Array {
  const packet = new Uint8Array(ipv4.HEADER_MIN + bytes);
  ipv4.emit(viewOver(packet), 0, packet.length, 0, ipv4.DONT_FRAGMENT, TTL, protocol, source, destination);
  return packet;
}

/** Writes the checksum of TCP or UDP. */
function finish(packet: Uint8Array, field: number, protocol: number): void {
  const view = viewOver(packet);
  const l4 = ipv4.HEADER_MIN;
  const bytes = packet.length - l4;
  const pseudo = checksum.pseudo4(ipv4.source(view, 0), ipv4.destination(view, 0), protocol) + bytes;
  const sum = checksum.finish(checksum.sum(view, l4, bytes, pseudo));
  view.setUint16(l4 + field, protocol === ipv4.PROTOCOL_UDP && sum === 0 ? 0xffff : sum);
}

function viewOver(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
