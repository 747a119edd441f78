/** SCTP packets by hand, and packets as plain objects: what the reference model reads and writes. */
import {
  concat,
  get16,
  get32,
  ICMP,
  type Ipv4Fields,
  ipv4,
  put16,
  put32,
  readPacket,
  TCP,
  UDP,
} from "../frames.js";

export const SCTP = 132;

export const SCTP_INIT = 1;
export const SCTP_INIT_ACK = 2;
export const SCTP_DATA = 0;
export const SCTP_ABORT = 6;
export const SCTP_SHUTDOWN = 7;
export const SCTP_SHUTDOWN_ACK = 8;
export const SCTP_COOKIE_ECHO = 10;
export const SCTP_COOKIE_ACK = 11;
export const SCTP_SHUTDOWN_COMPLETE = 14;

/** CRC32c, one bit at a time (RFC 9260 appendix A). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) !== 0 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc | 0;
}

/** Whether the checksum of an SCTP packet is right; it stands there low byte first. */
export function sctpChecksumOk(l4: Uint8Array): boolean {
  const copy = Uint8Array.from(l4);
  put32(copy, 8, 0);
  const crc = crc32c(copy);
  return [0, 8, 16, 24].every((shift, n) => l4[8 + n] === ((crc >>> shift) & 0xff));
}

export interface SctpFields extends Ipv4Fields {
  sourcePort?: number;
  destinationPort?: number;
  verificationTag?: number;
  chunk: number;
  /** Of INIT and INIT ACK. */
  initiateTag?: number;
}

/** An IPv4 packet with an SCTP packet of one chunk. */
export function sctpPacket(f: SctpFields, payload: Uint8Array): Uint8Array {
  const body = f.chunk === SCTP_INIT || f.chunk === SCTP_INIT_ACK ? new Uint8Array(16) : payload;
  if (f.initiateTag !== undefined) put32(body, 0, f.initiateTag);
  const l4 = concat(new Uint8Array(16), body);
  put16(l4, 0, f.sourcePort ?? 40_000);
  put16(l4, 2, f.destinationPort ?? 80);
  put32(l4, 4, f.verificationTag ?? 0);
  l4[12] = f.chunk;
  put16(l4, 14, 4 + body.length);
  const crc = crc32c(l4);
  [0, 8, 16, 24].forEach((shift, n) => {
    l4[8 + n] = (crc >>> shift) & 0xff;
  });
  return ipv4({ ...f, protocol: SCTP }, l4);
}

/** A packet as one reads it. Ports of an ICMP echo are its identifier, on the asker's side, and 8. */
export interface Parsed {
  source: string;
  destination: string;
  protocol: number;
  sourcePort: number;
  destinationPort: number;
  ttl: number;
  id: number;
  /** A fragment, and not the first. */
  later: boolean;
  fragmented: boolean;
  /** UDP without a checksum. */
  unchecked: boolean;
  tcp: { flags: number; sequence: number; acknowledgement: number; length: number; window: number } | null;
  sctp: { tag: number; chunk: number; initiateTag: number } | null;
  /** An ICMP echo request. */
  asksEcho: boolean;
  /** ICMP, not echo. */
  icmp: { type: number; code: number; quoted: Parsed | null } | null;
  /** What is behind the transport header. */
  payload: Uint8Array;
}

const ECHO_PORT = 8;

/** Reads a packet; a quotation may be cut off. */
export function parsePacket(bytes: Uint8Array, quoted = false): Parsed {
  const packet = quoted ? readQuoted(bytes) : readPacket(bytes);
  const { l4, protocol } = packet;
  const later = (packet.fragment & 0x1fff) !== 0;
  const parsed: Parsed = {
    source: packet.source,
    destination: packet.destination,
    protocol,
    sourcePort: 0,
    destinationPort: 0,
    ttl: packet.ttl,
    id: packet.id,
    later,
    fragmented: (packet.fragment & 0x3fff) !== 0,
    unchecked: false,
    tcp: null,
    sctp: null,
    asksEcho: protocol === ICMP && !later && l4[0] === 8,
    icmp: null,
    payload: l4,
  };
  if (later) return parsed;
  if (protocol === TCP || protocol === UDP || protocol === SCTP) {
    parsed.sourcePort = get16(l4, 0);
    parsed.destinationPort = get16(l4, 2);
  }
  if (quoted && protocol !== ICMP) return parsed;
  if (protocol === TCP) {
    const header = (l4[12] >>> 4) * 4;
    parsed.tcp = {
      flags: l4[13],
      sequence: get32(l4, 4) >>> 0,
      acknowledgement: get32(l4, 8) >>> 0,
      length: l4.length - header,
      window: get16(l4, 14),
    };
    parsed.payload = l4.subarray(header);
  } else if (protocol === UDP) {
    parsed.unchecked = get16(l4, 6) === 0;
    parsed.payload = l4.subarray(8);
  } else if (protocol === SCTP) {
    parsed.sctp = { tag: get32(l4, 4), chunk: l4[12], initiateTag: l4.length >= 20 ? get32(l4, 16) : 0 };
    parsed.payload = l4.subarray(12);
  } else if (protocol === ICMP) {
    if (l4[0] === 8) [parsed.sourcePort, parsed.destinationPort] = [get16(l4, 4), ECHO_PORT];
    else if (l4[0] === 0) [parsed.sourcePort, parsed.destinationPort] = [ECHO_PORT, get16(l4, 4)];
    else
      parsed.icmp = { type: l4[0], code: l4[1], quoted: quoted ? null : parsePacket(l4.subarray(8), true) };
    parsed.payload = l4.subarray(6);
  }
  return parsed;
}

/** A packet of which only the first bytes are there; its header must be right. */
function readQuoted(bytes: Uint8Array) {
  const header = readPacket(headerOnly(bytes));
  return { ...header, l4: bytes.subarray(header.headerLength) };
}

/** The IPv4 header alone, as a packet without data: length and checksum are those that belong to it. */
function headerOnly(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice(0, (bytes[0] & 15) * 4);
  const length = get16(copy, 2);
  put16(copy, 2, copy.length);
  // The sum stays right when what is taken from one word is added to another.
  const sum = get16(copy, 10) + length - copy.length;
  put16(copy, 10, (sum & 0xffff) + (sum >>> 16));
  return copy;
}
