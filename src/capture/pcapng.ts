/**
 * Blocks of the pcapng format (draft-ietf-opsawg-pcapng), as many as a capture needs. Little-endian.
 * Every block begins and ends with its length; options end with opt_endofopt; all is padded to 32 bits.
 *
 *    0       4       8                                 n-4
 *   ┌───────┬───────┬───────────────┬─────────────────┬───────┐
 *   │ type  │length │ body          │ options         │length │
 *   └───────┴───────┴───────────────┴─────────────────┴───────┘
 */

const BLOCK_SECTION_HEADER = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
export const BLOCK_STATISTICS = 5;
export const BLOCK_PACKET = 6;

/** Link types (LINKTYPE_ values): Ethernet, and IPv4 without anything in front. */
export const LINK_ETHERNET = 1;
export const LINK_IPV4 = 228;

/** epb_flags: direction in bits 0 and 1, then what offloads have left open. */
export const FLAG_INBOUND = 1;
export const FLAG_OUTBOUND = 2;
export const FLAG_CHECKSUM_NOT_READY = 1 << 9;
export const FLAG_SEGMENTATION_OFFLOADED = 1 << 11;

const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const OPT_END = 0;
const OPT_COMMENT = 1;
const SHB_OS = 3;
const SHB_APPLICATION = 4;
const IF_NAME = 2;
const IF_DESCRIPTION = 3;
const IF_TIME_RESOLUTION = 9;
const IF_FILTER = 11;
const EPB_FLAGS = 2;
const ISB_START = 2;
const ISB_END = 3;
const ISB_RECEIVED = 4;
export const ISB_LOST = 5;
const ISB_ACCEPTED = 6;

/** if_tsresol: 10^-9 seconds. */
const NANOSECONDS = 9;
/** The first byte of if_filter: a filter in the language of libpcap. */
const FILTER_TEXT = 0;
/** Bytes of type, and length at both ends. */
const FRAME = 12;

type Option = readonly [code: number, value: Uint8Array];

const encoder = new TextEncoder();

function padded(length: number): number {
  return (length + 3) & ~3;
}

function text(code: number, value: string): Option[] {
  return value === "" ? [] : [[code, encoder.encode(value)]];
}

/** A 64-bit number, as a counter. */
function count(code: number, value: number): Option {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return [code, bytes];
}

/** A time, as two words, the high one first. */
function time(code: number, ns: bigint): Option {
  const bytes = new Uint8Array(8);
  setTime(new DataView(bytes.buffer), 0, ns);
  return [code, bytes];
}

function setTime(view: DataView, at: number, ns: bigint): void {
  view.setUint32(at, Number(ns >> 32n), true);
  view.setUint32(at + 4, Number(ns & 0xffff_ffffn), true);
}

/** A block with `body` bytes that the caller fills through `fill`, and options behind them. */
function block(
  type: number,
  body: number,
  options: readonly Option[],
  fill: (view: DataView, bytes: Uint8Array) => void,
): Uint8Array {
  let length = FRAME + padded(body);
  for (const [, value] of options) length += 4 + padded(value.length);
  if (options.length > 0) length += 4;
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  view.setUint32(length - 4, length, true);
  fill(new DataView(bytes.buffer, 8), bytes.subarray(8));
  let at = 8 + padded(body);
  for (const [code, value] of options) {
    view.setUint16(at, code, true);
    view.setUint16(at + 2, value.length, true);
    bytes.set(value, at + 4);
    at += 4 + padded(value.length);
  }
  if (options.length > 0) view.setUint32(at, OPT_END, true);
  return bytes;
}

/** Section Header Block (§4.1), of a section whose length is not known. */
export function sectionHeader(options: { os: string; application: string; comment: string }): Uint8Array {
  const { os, application, comment } = options;
  const list = [...text(OPT_COMMENT, comment), ...text(SHB_OS, os), ...text(SHB_APPLICATION, application)];
  return block(BLOCK_SECTION_HEADER, 16, list, (view) => {
    view.setUint32(0, BYTE_ORDER_MAGIC, true);
    view.setUint16(4, 1, true);
    view.setUint16(6, 0, true);
    view.setBigInt64(8, -1n, true);
  });
}

export interface InterfaceDescription {
  /** LINK_*. */
  linkType: number;
  /** Most bytes of a packet. */
  snapLength: number;
  name: string;
  description: string;
  /** "" for none. */
  filter: string;
}

/** Interface Description Block (§4.2). Interfaces are numbered in the order of their blocks, from 0. */
export function interfaceDescription(of: InterfaceDescription): Uint8Array {
  const filter: Option[] =
    of.filter === "" ? [] : [[IF_FILTER, Uint8Array.from([FILTER_TEXT, ...encoder.encode(of.filter)])]];
  const options: Option[] = [
    ...text(IF_NAME, of.name),
    ...text(IF_DESCRIPTION, of.description),
    [IF_TIME_RESOLUTION, Uint8Array.of(NANOSECONDS)],
    ...filter,
  ];
  return block(BLOCK_INTERFACE, 8, options, (view) => {
    view.setUint16(0, of.linkType, true);
    view.setUint32(4, of.snapLength, true);
  });
}

export interface EnhancedPacket {
  /** Number of its interface. */
  interface: number;
  /** Since 1970-01-01 UTC. */
  timeNs: bigint;
  /** What was captured of it. */
  data: Uint8Array;
  /** Bytes that it had. */
  originalLength: number;
  /** FLAG_*. */
  flags: number;
  /** "" for none. */
  comment: string;
}

/** Enhanced Packet Block (§4.3). */
export function enhancedPacket(packet: EnhancedPacket): Uint8Array {
  const { data } = packet;
  const flags = new Uint8Array(4);
  new DataView(flags.buffer).setUint32(0, packet.flags, true);
  const options: Option[] = [...text(OPT_COMMENT, packet.comment), [EPB_FLAGS, flags]];
  return block(BLOCK_PACKET, 20 + data.length, options, (view, bytes) => {
    view.setUint32(0, packet.interface, true);
    setTime(view, 4, packet.timeNs);
    view.setUint32(12, data.length, true);
    view.setUint32(16, packet.originalLength, true);
    bytes.set(data, 20);
  });
}

export interface InterfaceStatistics {
  interface: number;
  /** Of the capture, since 1970-01-01 UTC. */
  startNs: bigint;
  endNs: bigint;
  /** Packets that came by. */
  received: number;
  /** Of these, the ones that passed the filter. */
  accepted: number;
  /** Of those, the ones that could not be kept. */
  lost: number;
}

/** Interface Statistics Block (§4.6). */
export function interfaceStatistics(of: InterfaceStatistics): Uint8Array {
  const options = [
    time(ISB_START, of.startNs),
    time(ISB_END, of.endNs),
    count(ISB_RECEIVED, of.received),
    count(ISB_LOST, of.lost),
    count(ISB_ACCEPTED, of.accepted),
  ];
  return block(BLOCK_STATISTICS, 12, options, (view) => {
    view.setUint32(0, of.interface, true);
    setTime(view, 4, of.endNs);
  });
}
