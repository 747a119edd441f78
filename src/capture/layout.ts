/**
 * What a dataplane thread and the control side share while somebody captures: one ring of records per
 * thread, and counts per interface. Numbers only.
 *
 *   buffer: │ header │ counts │ ring: capacity bytes (a power of two) │
 *
 * A record is 8-aligned and lies in one piece; RECORD_BYTES 0 sends the reader to the ring's start.
 */
import { MAX_PORTS } from "../packet/layout.js";

// ---- points -----------------------------------------------------------------------------------
/** Between a TAP and the dataplane, both directions. */
export const POINT_INNER = 1;
/** On the tunnel, both directions, with its outer headers. */
export const POINT_OUTER = 2;
/** What conntrack is given, and what it passes on. */
export const POINT_BEFORE = 4;
export const POINT_AFTER = 8;
/** Whatever is dropped, as it was then. */
export const POINT_DROPPED = 16;

/** Bits by the names that users see. */
export const POINTS = {
  inner: POINT_INNER,
  outer: POINT_OUTER,
  before: POINT_BEFORE,
  after: POINT_AFTER,
  dropped: POINT_DROPPED,
} as const;
export type PointName = keyof typeof POINTS;
export const POINT_NAMES = Object.keys(POINTS) as readonly PointName[];

/** Room for the outer headers, in one piece, and an Ethernet header. */
export const MIN_SNAP_LENGTH = 64;

/** What of packets is captured. */
export interface CaptureSpec {
  /** POINT_* bits. */
  points: number;
  /** Most bytes of a packet: MIN_SNAP_LENGTH at least. */
  snapLength: number;
  /** A filterProgram. */
  filter: Int32Array;
  /** The only TAP of the point inner; -1: all. */
  innerPort: number;
}

// ---- interfaces: inner has one for each TAP, by port number; the others follow -----------------
export const INTERFACE_OUTER = MAX_PORTS;
export const INTERFACE_BEFORE = MAX_PORTS + 1;
export const INTERFACE_AFTER = MAX_PORTS + 2;
/** Dropped frames, and tunnel datagrams that were dropped before they had lost their outer headers. */
export const INTERFACE_DROPPED = MAX_PORTS + 3;
export const INTERFACE_DROPPED_OUTER = MAX_PORTS + 4;
export const INTERFACES = MAX_PORTS + 5;

// ---- header (int32 words); head and tail on cache lines of their own ----------------------------
/** Bytes written and read so far, modulo 2^32. */
export const WORD_HEAD = 0;
export const WORD_TAIL = 16;
const HEADER_BYTES = 128;

// ---- counts (doubles), INTERFACES of each -------------------------------------------------------
/** Packets that came by, … */
export const COUNT_SEEN = 0;
/** … that passed the filter, … */
export const COUNT_MATCHED = INTERFACES;
/** … and that found the ring full. */
export const COUNT_LOST = 2 * INTERFACES;
export const COUNTS = 3 * INTERFACES;
export const COUNTS_OFFSET = HEADER_BYTES;
export const RING_OFFSET = (HEADER_BYTES + COUNTS * 8 + 63) & ~63;

/** Room for the longest record several times over. */
export const MIN_CAPACITY = 1 << 20;
export const MAX_CAPACITY = 1 << 30;

/** Bytes of a buffer whose ring has `capacity` bytes. */
export function captureBytes(capacity: number): number {
  return RING_OFFSET + capacity;
}

// ---- records (int32 words) ----------------------------------------------------------------------
/** Bytes of the record with all its padding; 0: the rest of the ring is not used. */
export const RECORD_BYTES = 0;
/** INTERFACE_*. */
export const RECORD_INTERFACE = 1;
/** Bytes that follow, and bytes that the packet had. */
export const RECORD_CAPTURED = 2;
export const RECORD_LENGTH = 3;
/** RECORD_FLAG_*. */
export const RECORD_FLAGS = 4;
/** Row of the batch, -1 for none: the writer's own. */
export const RECORD_ROW = 5;
/** A double: CLOCK_MONOTONIC in microseconds. */
export const RECORD_TIME = 6;
/** What became of the packet: a verdict of packet/Batch, and its `out`. */
export const RECORD_VERDICT = 8;
export const RECORD_OUT = 9;
/** TAP or tunnel port that it came by; of what the kernel refused, that it was to go by. */
export const RECORD_PORT = 10;
/** VTEP that it came from, or was to go to; -1 for none. */
export const RECORD_VTEP = 11;
/** Size of the segments that it is still to be cut into, 0 for none. */
export const RECORD_GSO = 12;
/** Direction of its flow, -1 without a flow; the words from here on are the flow's. */
export const RECORD_DIRECTION = 13;
export const RECORD_PROTOCOL = 14;
export const RECORD_STATE = 15;
export const RECORD_FLOW_FLAGS = 16;
export const RECORD_SERVICE = 17;
/** Source, destination, ports (tables/flowLayout KEY_*), as in each direction they arrive. */
export const RECORD_ORIGINAL = 18;
export const RECORD_REPLY = 21;
export const RECORD_WORDS = 24;

/** Towards us, and from us: of the interface. */
export const RECORD_FLAG_IN = 1;
export const RECORD_FLAG_OUT = 2;
/** A checksum is still the sum of the pseudo-header. */
export const RECORD_FLAG_PARTIAL = 4;
/** The dataplane made the packet itself, in answer to the one that the record is about. */
export const RECORD_FLAG_MADE = 8;
/** A raw socket heard it. */
export const RECORD_FLAG_HEARD = 16;
