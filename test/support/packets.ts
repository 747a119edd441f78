/**
 * Builds packets byte by byte, right ones and wrong ones, with a checksum of its own: it must not
 * agree with the product merely because it is the product.
 */

/** The Internet checksum (RFC 1071). */
export function internetChecksum(...parts: Buffer[]): number {
  const bytes = Buffer.concat(parts);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** Bytes of an IPv4 address. */
export function addressBytes(address: string): Buffer {
  return Buffer.from(address.split(".").map(Number));
}

/** Bytes of a MAC address. */
export function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(":", ""), "hex");
}

export interface Ipv4Options {
  source: string;
  destination: string;
  protocol?: number;
  ttl?: number;
  id?: number;
  /** Flags and offset. */
  fragment?: number;
  /** Instead of the right ones. */
  version?: number;
  headerLength?: number;
  totalLength?: number;
  checksum?: number;
}

export function ipv4(options: Ipv4Options, payload: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header[0] = ((options.version ?? 4) << 4) | ((options.headerLength ?? 20) >>> 2);
  header.writeUInt16BE(options.totalLength ?? 20 + payload.length, 2);
  header.writeUInt16BE(options.id ?? 1, 4);
  header.writeUInt16BE(options.fragment ?? 0, 6);
  header[8] = options.ttl ?? 64;
  header[9] = options.protocol ?? 17;
  addressBytes(options.source).copy(header, 12);
  addressBytes(options.destination).copy(header, 16);
  header.writeUInt16BE(options.checksum ?? internetChecksum(header), 10);
  return Buffer.concat([header, payload]);
}

function pseudoHeader(source: string, destination: string, protocol: number, length: number): Buffer {
  const tail = Buffer.from([0, protocol, length >>> 8, length & 255]);
  return Buffer.concat([addressBytes(source), addressBytes(destination), tail]);
}

export interface Ends {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
}

/** An IPv4 packet with a UDP datagram; `length` instead of the right one. */
export function udpPacket(ends: Ends, data: Buffer, ip: Partial<Ipv4Options> = {}, length?: number): Buffer {
  const udp = Buffer.alloc(8);
  udp.writeUInt16BE(ends.sourcePort, 0);
  udp.writeUInt16BE(ends.destinationPort, 2);
  udp.writeUInt16BE(length ?? 8 + data.length, 4);
  const pseudo = pseudoHeader(ends.source, ends.destination, 17, 8 + data.length);
  udp.writeUInt16BE(internetChecksum(pseudo, udp, data) || 0xffff, 6);
  return ipv4({ ...ends, protocol: 17, ...ip }, Buffer.concat([udp, data]));
}

/** An IPv4 packet with a TCP segment; `dataOffset` and `checksum` instead of the right ones. */
export function tcpPacket(
  ends: Ends,
  data: Buffer,
  options: { flags?: number; dataOffset?: number; checksum?: number } = {},
): Buffer {
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(ends.sourcePort, 0);
  tcp.writeUInt16BE(ends.destinationPort, 2);
  tcp.writeUInt32BE(1, 4);
  tcp[12] = (options.dataOffset ?? 5) << 4;
  tcp[13] = options.flags ?? 0x10;
  tcp.writeUInt16BE(1024, 14);
  const pseudo = pseudoHeader(ends.source, ends.destination, 6, 20 + data.length);
  tcp.writeUInt16BE(options.checksum ?? internetChecksum(pseudo, tcp, data), 16);
  return ipv4({ ...ends, protocol: 6 }, Buffer.concat([tcp, data]));
}

/** An IPv4 packet with an ICMP echo request. */
export function echoPacket(ip: Ipv4Options, data: Buffer): Buffer {
  const icmp = Buffer.concat([Buffer.from([8, 0, 0, 0, 0x12, 0x34, 0, 1]), data]);
  icmp.writeUInt16BE(internetChecksum(icmp), 2);
  return ipv4({ protocol: 1, ...ip }, icmp);
}

/** An ARP request for `target`. */
export function arpRequest(senderMac: string, sender: string, target: string): Buffer {
  return Buffer.concat([
    Buffer.from("0001080006040001", "hex"),
    macBytes(senderMac),
    addressBytes(sender),
    Buffer.alloc(6),
    addressBytes(target),
  ]);
}

export const TYPE_IPV4 = 0x0800;
export const TYPE_ARP = 0x0806;
export const TYPE_IPV6 = 0x86dd;

export function ethernet(destination: string, source: string, type: number, payload: Buffer): Buffer {
  const tail = Buffer.from([type >>> 8, type & 255]);
  return Buffer.concat([macBytes(destination), macBytes(source), tail, payload]);
}

/** A VXLAN header (RFC 7348) in front of a frame. */
export function vxlan(vni: number, frame: Buffer, flags = 0x08): Buffer {
  const header = Buffer.alloc(8);
  header[0] = flags;
  header.writeUInt32BE((vni << 8) >>> 0, 4);
  return Buffer.concat([header, frame]);
}

/** A small seeded generator (mulberry32): whole numbers below `limit`. */
export function seededRandom(seed: number): (limit: number) => number {
  let state = seed | 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}
