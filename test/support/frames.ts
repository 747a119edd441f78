/**
 * Frames as literal bytes, and plain readers of frames. Nothing here uses src/: what the dataplane
 * writes is held against what an independent hand writes. Clear before fast.
 *
 *   builders   hex, ethernet, arp, ipv4, udpPacket, tcpPacket, icmpPacket, vnet, vxlan
 *   readers    readFrame (throws where a third party would find fault), checksum
 *   models     segments (a GSO frame as its segments), kernelFrames (what a kernel makes of a frame
 *              written to a TAP), datagrams (what a UDP_SEGMENT call puts on the wire), gro (UDP_GRO)
 */

/** Hexadecimal digits, white space between them as one likes. */
export function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replace(/\s+/g, ""), "hex"));
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

/** Bytes 0, 1, 2 … from `first` on: a payload in which every displacement shows. */
export function counting(length: number, first = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (first + i + ((first + i) >>> 8)) & 0xff);
}

export function get16(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1];
}

export function get32(bytes: Uint8Array, at: number): number {
  return (get16(bytes, at) << 16) | get16(bytes, at + 2);
}

export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = (value >>> 8) & 0xff;
  bytes[at + 1] = value & 0xff;
}

export function put32(bytes: Uint8Array, at: number, value: number): void {
  put16(bytes, at, value >>> 16);
  put16(bytes, at + 2, value & 0xffff);
}

/** A copy of `bytes` with `part` written at `at`. */
export function patched(bytes: Uint8Array, at: number, part: Uint8Array | number[]): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy.set(part, at);
  return copy;
}

// ---- addresses --------------------------------------------------------------------------------

/** An IPv4 address as the dataplane has it: the big-endian int32. */
export function address(dotted: string): number {
  const [a, b, c, d] = dotted.split(".").map(Number);
  return (a << 24) | (b << 16) | (c << 8) | d;
}

export function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 0xff).join(".");
}

function addressBytes(text: string): Uint8Array {
  return Uint8Array.from(text.split("."), Number);
}

export function macBytes(text: string): Uint8Array {
  return hex(text.replaceAll(":", ""));
}

function macText(bytes: Uint8Array, at: number): string {
  return Array.from(bytes.subarray(at, at + 6), (b) => b.toString(16).padStart(2, "0")).join(":");
}

export function macNumbers(text: string): { hi: number; lo: number } {
  const bytes = macBytes(text);
  return { hi: get16(bytes, 0), lo: get32(bytes, 2) };
}

// ---- checksums --------------------------------------------------------------------------------

/** RFC 1071 sum of big-endian words, folded; an odd last byte is padded with zero. */
export function onesSum(...parts: readonly Uint8Array[]): number {
  const bytes = parts.length === 1 ? parts[0] : concat(...parts);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i] << 8) | (i + 1 < bytes.length ? bytes[i + 1] : 0);
  }
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

function pseudoHeader(packet: Uint8Array, l4Length: number): Uint8Array {
  const pseudo = new Uint8Array(12);
  pseudo.set(packet.subarray(12, 20));
  pseudo[9] = packet[9];
  put16(pseudo, 10, l4Length);
  return pseudo;
}

/** full: right; partial: sum of the pseudo-header only, as a kernel leaves it; or this very value. */
export type Checksum = "full" | "partial" | number;

function setL4Checksum(packet: Uint8Array, field: number, kind: Checksum): void {
  const l4 = (packet[0] & 15) * 4;
  const segment = packet.subarray(l4);
  const pseudo = pseudoHeader(packet, segment.length);
  put16(segment, field, 0);
  if (kind === "full") {
    const value = 0xffff - onesSum(pseudo, segment);
    put16(segment, field, value === 0 && packet[9] === UDP ? 0xffff : value);
  } else put16(segment, field, kind === "partial" ? onesSum(pseudo) : kind);
}

// ---- layers -----------------------------------------------------------------------------------

export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;

export const IPV4 = 0x0800;
export const ARP = 0x0806;
export const IPV6 = 0x86dd;

export const GATEWAY = "ee:ee:ee:ee:ee:ee";
export const BROADCAST = "ff:ff:ff:ff:ff:ff";
export const NO_MAC = "00:00:00:00:00:00";

export function ethernet(destination: string, source: string, type: number, payload: Uint8Array): Uint8Array {
  return concat(macBytes(destination), macBytes(source), Uint8Array.of(type >>> 8, type & 0xff), payload);
}

export interface ArpFields {
  operation: number;
  senderMac: string;
  sender: string;
  targetMac: string;
  target: string;
}

export function arp(f: ArpFields): Uint8Array {
  return concat(
    hex("0001 0800 06 04"),
    Uint8Array.of(0, f.operation),
    macBytes(f.senderMac),
    addressBytes(f.sender),
    macBytes(f.targetMac),
    addressBytes(f.target),
  );
}

export interface Ipv4Fields {
  source: string;
  destination: string;
  protocol?: number;
  tos?: number;
  id?: number;
  /** The fragment word; DF by default. */
  fragment?: number;
  ttl?: number;
  options?: Uint8Array;
  /** Total length, where it is to contradict the packet. */
  total?: number;
  /** Header checksum, where it is to be wrong. */
  checksum?: number;
  version?: number;
  headerWords?: number;
}

export function ipv4(f: Ipv4Fields, payload: Uint8Array): Uint8Array {
  const options = f.options ?? new Uint8Array(0);
  const length = 20 + options.length;
  const packet = concat(new Uint8Array(20), options, payload);
  packet[0] = ((f.version ?? 4) << 4) | (f.headerWords ?? length / 4);
  packet[1] = f.tos ?? 0;
  put16(packet, 2, f.total ?? packet.length);
  put16(packet, 4, f.id ?? 0x1234);
  put16(packet, 6, f.fragment ?? 0x4000);
  packet[8] = f.ttl ?? 64;
  packet[9] = f.protocol ?? UDP;
  packet.set(addressBytes(f.source), 12);
  packet.set(addressBytes(f.destination), 16);
  put16(packet, 10, f.checksum ?? 0xffff - onesSum(packet.subarray(0, length)));
  return packet;
}

export interface UdpFields extends Ipv4Fields {
  sourcePort?: number;
  destinationPort?: number;
  l4Checksum?: Checksum;
  /** UDP length, where it is to contradict the packet. */
  udpLength?: number;
}

/** An IPv4 packet with a UDP datagram. */
export function udpPacket(f: UdpFields, payload: Uint8Array): Uint8Array {
  const header = new Uint8Array(8);
  put16(header, 0, f.sourcePort ?? 40_000);
  put16(header, 2, f.destinationPort ?? 5201);
  put16(header, 4, f.udpLength ?? 8 + payload.length);
  const packet = ipv4({ ...f, protocol: UDP }, concat(header, payload));
  setL4Checksum(packet, 6, f.l4Checksum ?? "full");
  return packet;
}

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const URG = 32;
export const ECE = 64;
export const CWR = 128;

export interface TcpFields extends Ipv4Fields {
  sourcePort?: number;
  destinationPort?: number;
  sequence?: number;
  acknowledgement?: number;
  flags?: number;
  window?: number;
  /** TCP options, a multiple of four bytes. */
  tcpOptions?: Uint8Array;
  /** Data offset, where it is to contradict the packet. */
  dataOffset?: number;
  l4Checksum?: Checksum;
}

/** An IPv4 packet with a TCP segment. */
export function tcpPacket(f: TcpFields, payload: Uint8Array): Uint8Array {
  const options = f.tcpOptions ?? new Uint8Array(0);
  const header = new Uint8Array(20);
  put16(header, 0, f.sourcePort ?? 40_000);
  put16(header, 2, f.destinationPort ?? 80);
  put32(header, 4, f.sequence ?? 1000);
  put32(header, 8, f.acknowledgement ?? 2000);
  header[12] = (f.dataOffset ?? (20 + options.length) / 4) << 4;
  header[13] = f.flags ?? ACK;
  put16(header, 14, f.window ?? 512);
  const packet = ipv4({ ...f, protocol: TCP }, concat(header, options, payload));
  setL4Checksum(packet, 16, f.l4Checksum ?? "full");
  return packet;
}

export interface IcmpFields extends Ipv4Fields {
  type: number;
  code?: number;
  /** Bytes 4-7. */
  rest?: number;
}

/** An IPv4 packet with an ICMP message. */
export function icmpPacket(f: IcmpFields, payload: Uint8Array): Uint8Array {
  const message = concat(Uint8Array.of(f.type, f.code ?? 0, 0, 0, 0, 0, 0, 0), payload);
  put32(message, 4, f.rest ?? 0);
  put16(message, 2, 0xffff - onesSum(message));
  return ipv4({ ...f, protocol: ICMP }, message);
}

/** An ICMP error as podwire sends it: TTL 64, no DF, quoting up to 548 bytes. */
export function icmpError(
  source: string,
  destination: string,
  id: number,
  type: number,
  code: number,
  mtu: number,
  cause: Uint8Array,
): Uint8Array {
  const quoted = cause.subarray(0, 548);
  return icmpPacket({ source, destination, id, fragment: 0, type, code, rest: mtu }, quoted);
}

export interface VnetFields {
  flags?: number;
  gsoType?: number;
  headerLength?: number;
  gsoSize?: number;
  csumStart?: number;
  csumOffset?: number;
}

/** A virtio-net header of ten bytes. */
export function vnet(f: VnetFields = {}): Uint8Array {
  const header = new Uint8Array(10);
  const view = new DataView(header.buffer);
  view.setUint8(0, f.flags ?? 0);
  view.setUint8(1, f.gsoType ?? 0);
  view.setUint16(2, f.headerLength ?? 0, true);
  view.setUint16(4, f.gsoSize ?? 0, true);
  view.setUint16(6, f.csumStart ?? 0, true);
  view.setUint16(8, f.csumOffset ?? 0, true);
  return header;
}

/** The virtio-net header with which a kernel hands over a frame whose checksum it left partial. */
export function vnetPartial(protocol: number, gsoSize = 0, l4 = 34): Uint8Array {
  const tcp = protocol === TCP;
  return vnet({
    flags: 1,
    gsoType: gsoSize === 0 ? 0 : tcp ? 1 : 5,
    headerLength: gsoSize === 0 ? 0 : l4 + (tcp ? 20 : 8),
    gsoSize,
    csumStart: l4,
    csumOffset: tcp ? 16 : 6,
  });
}

/** A VXLAN header and the frame behind it. */
export function vxlan(vni: number, frame: Uint8Array, flags = 8): Uint8Array {
  const header = new Uint8Array(8);
  header[0] = flags;
  put32(header, 4, vni << 8);
  return concat(header, frame);
}

// ---- readers ----------------------------------------------------------------------------------

/** An IPv4 packet taken apart. */
export interface Packet {
  bytes: Uint8Array;
  headerLength: number;
  tos: number;
  id: number;
  fragment: number;
  ttl: number;
  protocol: number;
  source: string;
  destination: string;
  l4: Uint8Array;
}

/** Reads an IPv4 packet that fills `bytes`. Throws on a wrong version, length or header checksum. */
export function readPacket(bytes: Uint8Array): Packet {
  if (bytes.length < 20) throw new Error(`IPv4 packet of ${bytes.length} bytes`);
  if (bytes[0] >>> 4 !== 4) throw new Error(`IP version ${bytes[0] >>> 4}`);
  const headerLength = (bytes[0] & 15) * 4;
  if (headerLength < 20 || headerLength > bytes.length) throw new Error(`IPv4 header of ${headerLength}`);
  if (get16(bytes, 2) !== bytes.length) {
    throw new Error(`IPv4 total length ${get16(bytes, 2)} in ${bytes.length} bytes`);
  }
  if (onesSum(bytes.subarray(0, headerLength)) !== 0xffff) throw new Error("IPv4 header checksum");
  return {
    bytes,
    headerLength,
    tos: bytes[1],
    id: get16(bytes, 4),
    fragment: get16(bytes, 6) & 0x3fff,
    ttl: bytes[8],
    protocol: bytes[9],
    source: dotted(get32(bytes, 12)),
    destination: dotted(get32(bytes, 16)),
    l4: bytes.subarray(headerLength),
  };
}

/** Whether the TCP, UDP or ICMP checksum of a whole packet is right. UDP may go without. */
export function l4ChecksumOk(packet: Packet): boolean {
  if (packet.protocol === ICMP) return onesSum(packet.l4) === 0xffff;
  if (packet.protocol === UDP && get16(packet.l4, 6) === 0) return true;
  return onesSum(pseudoHeader(packet.bytes, packet.l4.length), packet.l4) === 0xffff;
}

export interface Frame {
  destinationMac: string;
  sourceMac: string;
  type: number;
  payload: Uint8Array;
  /** Null where the frame is not IPv4. */
  packet: Packet | null;
}

/** Reads an Ethernet frame; an IPv4 packet must fill it. */
export function readFrame(bytes: Uint8Array): Frame {
  if (bytes.length < 14) throw new Error(`Ethernet frame of ${bytes.length} bytes`);
  const type = get16(bytes, 12);
  return {
    destinationMac: macText(bytes, 0),
    sourceMac: macText(bytes, 6),
    type,
    payload: bytes.subarray(14),
    packet: type === IPV4 ? readPacket(bytes.subarray(14)) : null,
  };
}

export interface Datagram {
  vni: number;
  frame: Uint8Array;
}

/** Reads a VXLAN datagram. */
export function readVxlan(bytes: Uint8Array): Datagram {
  if (bytes.length < 8) throw new Error(`VXLAN datagram of ${bytes.length} bytes`);
  if (get32(bytes, 0) !== 0x08000000) throw new Error("VXLAN flags");
  if (bytes[7] !== 0) throw new Error("VXLAN reserved byte");
  return { vni: get32(bytes, 4) >>> 8, frame: bytes.subarray(8) };
}

// ---- models -----------------------------------------------------------------------------------

/** Length of the TCP or UDP header of a packet. */
function l4HeaderLength(packet: Packet): number {
  return packet.protocol === TCP ? (packet.l4[12] >>> 4) * 4 : 8;
}

/** TCP or UDP payload of a packet. */
export function payloadOf(packet: Packet): Uint8Array {
  return packet.l4.subarray(l4HeaderLength(packet));
}

/** The segments of a GSO frame, as frames with right checksums (what tcp4_gso_segment and __udp_gso_segment do). */
export function segments(frame: Uint8Array, size: number): Uint8Array[] {
  const packet = readPacket(frame.subarray(14));
  const headers = packet.headerLength + l4HeaderLength(packet);
  const payload = packet.bytes.subarray(headers);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += size) pieces.push(payload.subarray(at, at + size));
  return pieces.map((piece, n) => {
    const segment = concat(packet.bytes.subarray(0, headers), piece);
    put16(segment, 2, segment.length);
    put16(segment, 4, (packet.id + n) & 0xffff);
    put16(segment, 10, 0);
    put16(segment, 10, 0xffff - onesSum(segment.subarray(0, packet.headerLength)));
    const t = packet.headerLength;
    if (packet.protocol === TCP) {
      put32(segment, t + 4, get32(segment, t + 4) + n * size);
      if (n < pieces.length - 1) segment[t + 13] &= ~(FIN | PSH);
      if (n > 0) segment[t + 13] &= ~CWR;
      setL4Checksum(segment, 16, "full");
    } else {
      put16(segment, t + 4, 8 + piece.length);
      setL4Checksum(segment, 6, "full");
    }
    return concat(frame.subarray(0, 14), segment);
  });
}

/** A frame whose partial checksum, `field` bytes behind `start`, is completed over the rest of the frame. */
export function completed(frame: Uint8Array, start: number, field: number): Uint8Array {
  const copy = Uint8Array.from(frame);
  const value = 0xffff - onesSum(copy.subarray(start));
  put16(copy, start + field, value === 0 && field === 6 ? 0xffff : value);
  return copy;
}

/**
 * What a kernel makes of bytes written to a TAP: reads the virtio-net header, completes checksums,
 * divides GSO frames. Throws where the kernel would refuse (EINVAL), and, if `strict`, where a partial
 * checksum is not the pseudo-header's sum.
 */
export function kernelFrames(written: Uint8Array, strict = true): Uint8Array[] {
  const view = new DataView(written.buffer, written.byteOffset, written.byteLength);
  const [flags, gsoType] = [view.getUint8(0), view.getUint8(1)];
  const [headerLength, gsoSize] = [view.getUint16(2, true), view.getUint16(4, true)];
  const [start, field] = [view.getUint16(6, true), view.getUint16(8, true)];
  const frame = written.subarray(10);
  if (flags === 0) {
    if (gsoType !== 0 || gsoSize !== 0 || headerLength !== 0 || start !== 0 || field !== 0) {
      throw new Error("virtio-net fields without NEEDS_CSUM");
    }
    return [Uint8Array.from(frame)];
  }
  if (flags !== 1) throw new Error(`virtio-net flags ${flags}`);
  if (start + field + 2 > frame.length) throw new Error("csum_start past the end");
  const packet = readPacket(frame.subarray(14));
  const pseudo = onesSum(pseudoHeader(packet.bytes, packet.l4.length));
  if (start > 14 + packet.headerLength) {
    // A tunnel of the pod's own: the checksum of what it carries.
    if (gsoType !== 0 || field % 2 !== 0) throw new Error("an inner checksum that cannot be");
    return [completed(frame, start, field)];
  }
  if (start !== 14 + packet.headerLength) throw new Error(`csum_start ${start}`);
  if (field !== (packet.protocol === TCP ? 16 : 6)) throw new Error(`csum_offset ${field}`);
  if (strict && get16(packet.l4, field) !== pseudo) throw new Error("not the sum of the pseudo-header");
  if (gsoType === 0) return [completed(frame, start, field)];
  if (gsoType !== (packet.protocol === TCP ? 1 : 5)) throw new Error(`gso_type ${gsoType}`);
  if (gsoSize === 0) throw new Error("gso_size 0");
  if (headerLength !== start + l4HeaderLength(packet)) throw new Error(`hdr_len ${headerLength}`);
  return segments(frame, gsoSize);
}

/** The datagrams that one sendmsg call with UDP_SEGMENT `gso` (0: without) puts on the wire. */
export function datagrams(bytes: Uint8Array, gso: number): Uint8Array[] {
  if (gso === 0) return [bytes];
  const result: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += gso) result.push(bytes.subarray(at, at + gso));
  if (result.length > 64) throw new Error(`${result.length} segments`);
  if (bytes.length > 65507) throw new Error(`UDP_SEGMENT call of ${bytes.length} bytes`);
  return result;
}

/** A train that UDP_GRO made: equal-sized datagrams, the last may be shorter. */
export interface Train {
  bytes: Uint8Array;
  segment: number;
}

/** What UDP_GRO makes of datagrams of one sender that arrive together; `most` limits a train. */
export function gro(received: readonly Uint8Array[], most = 64): Train[] {
  const trains: Train[] = [];
  let open: Uint8Array[] = [];
  const close = () => {
    if (open.length > 0) trains.push({ bytes: concat(...open), segment: open[0].length });
    open = [];
  };
  for (const datagram of received) {
    const total = open.reduce((sum, d) => sum + d.length, datagram.length);
    if (open.length > 0 && (datagram.length > open[0].length || open.length >= most || total > 65507))
      close();
    open.push(datagram);
    if (datagram.length < open[0].length) close();
  }
  close();
  return trains;
}

/** What the tunnel GSO device was given: the outer addresses, and the datagrams the kernel makes of it. */
export interface TunnelGso {
  destinationMac: string;
  source: string;
  destination: string;
  ttl: number;
  datagrams: Uint8Array[];
}

/** Reads a frame for the tunnel GSO device, its header of 24 bytes first. Throws where the kernel would refuse. */
export function readTunnelGso(written: Uint8Array): TunnelGso {
  const view = new DataView(written.buffer, written.byteOffset, written.byteLength);
  const frame = written.subarray(24);
  if (view.getUint8(0) !== (1 | 8)) throw new Error(`flags ${view.getUint8(0)}`);
  if (view.getUint8(1) !== 0x21) throw new Error(`gso_type ${view.getUint8(1)}`);
  if (view.getUint16(20, true) !== 34) throw new Error("outer_th_offset");
  if (view.getUint16(22, true) !== 64) throw new Error("inner_nh_offset");
  for (let i = 10; i < 20; i++) if (written[i] !== 0) throw new Error(`byte ${i} of the header is not 0`);
  const outer = readFrame(frame);
  const packet = outer.packet!;
  const u = packet.l4;
  if (packet.protocol !== UDP || get16(u, 4) !== u.length) throw new Error("outer UDP");
  if (get16(u, 0) !== 4789 || get16(u, 2) !== 4789) throw new Error("outer ports");
  if (get16(u, 6) !== onesSum(pseudoHeader(packet.bytes, u.length))) throw new Error("outer UDP checksum");
  const inner = readVxlan(u.subarray(8));
  const innerPacket = readPacket(inner.frame.subarray(14));
  const start = 50 + 14 + innerPacket.headerLength;
  if (view.getUint16(6, true) !== start || view.getUint16(8, true) !== 16) throw new Error("csum_start");
  if (view.getUint16(2, true) !== start + l4HeaderLength(innerPacket)) throw new Error("hdr_len");
  return {
    destinationMac: outer.destinationMac,
    source: packet.source,
    destination: packet.destination,
    ttl: packet.ttl,
    datagrams: segments(inner.frame, view.getUint16(4, true)).map((frame) => vxlan(inner.vni, frame)),
  };
}
