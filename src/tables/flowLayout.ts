/**
 * The memory of the flow table: int32 words in machine order, in one buffer (shared memory, or a
 * file mapping that the next agent adopts). FlowTable writes it, FlowReader reads it.
 *
 *   header    FLOW_HEADER words: what this is, counters, list heads, the lock
 *   index     4 × capacity slots of [hash, reference]; reference = 2 × record + direction + 1, 0: empty
 *   records   FLOW_WORDS each, one for both directions of a flow; the first cache line is what a
 *             packet needs, the second what only its protocol's state machine and people ask for
 *   affinities   AFFINITY_WORDS each (AffinityTable)
 *
 * Direction 0 is the original one (that of the first packet), 1 the reply's. Each has a key: what
 * arrives in that direction looks like it. What leaves is the other direction's key turned round
 * (source and destination exchanged), its tag included: the two keys are the whole translation.
 *
 *   pc:5000 → VIP:80                                        pod:80 → pc:5000, tag T
 *   original key  ──── leaves as pc:5000 → pod:80, tag T ──── turned reply key
 *
 * Ports are one word, source << 16 | destination. ICMP echo has no ports; echoPorts() says what
 * stands for them.
 *
 * IPv6: a table of its own with the same header, index and list heads, its records 48 words: these
 * 32, whose address words hold the last 32 bits, and 12 more for the upper 96 bits of each address.
 * Ageing, eviction, lists, state machines and reader use words that both have; hash and comparison
 * are what an IPv6 table adds.
 */

export const FLOW_MAGIC = 0x5077466c; // "PwFl"
/** Goes up with every change of meaning of a word, here or in what others keep in FLOW_FLAGS. */
export const FLOW_VERSION = 2;

// ---- header ---------------------------------------------------------------------------------
export const HEADER_MAGIC = 0;
export const HEADER_VERSION = 1;
/** Flows that the table holds at most; a power of two. */
export const HEADER_CAPACITY = 2;
/** Records: capacity and reserve. */
export const HEADER_RECORDS = 3;
/** Words of a record. */
export const HEADER_RECORD_WORDS = 4;
/** Key of the hash. */
export const HEADER_KEY_0 = 5;
export const HEADER_KEY_1 = 6;
/** 0, or 1 + number of the thread that is changing index, lists or keys. */
export const HEADER_LOCK = 7;
/** Odd while slots of the index are moved: a lookup that missed meanwhile is repeated. */
export const HEADER_MOVES = 8;
/** Flows in the table. */
export const HEADER_COUNT = 9;
/** Records that were ever used: all others are zero. */
export const HEADER_USED = 10;
/** Records that may be given out again: a list by FLOW_NEXT of record + 1, 0 at the end. */
export const HEADER_FREE = 11;
/** Lists of [head, tail], record + 1, oldest first; see EVICTION_OF. */
export const HEADER_LISTS = 12;
/** Removed records that somebody may still hold: collected, and waiting for HEADER_SEEN. */
export const HEADER_LIMBO = 18;
export const HEADER_WAITING = 20;
/** Breath counters of the threads, odd within a breath. */
export const HEADER_BREATHS = 24;
/** Breath counters as they were when HEADER_WAITING was filled. */
export const HEADER_SEEN = 28;
/** Counters: doubles from this word on. */
export const HEADER_COUNTERS = 32;
export const FLOW_HEADER = 64;

/** Most threads that use one table. */
export const FLOW_THREADS = 4;

/** Counters, by index into the doubles at HEADER_COUNTERS. */
export const FlowCounter = {
  inserted: 0,
  /** Removed by ageing. */
  expired: 1,
  /** Removed on request: a closed connection's successor, a flush, a removed backend. */
  removed: 2,
  /** Evicted since the table was full: flows past their time. */
  evictedExpired: 3,
  /** Evicted: flows that were never answered or never completed. */
  evictedUnreplied: 4,
  /** Evicted: flows that were closing, or short exchanges. */
  evictedClosing: 5,
  /** Not inserted: full, and nothing may go. */
  refused: 6,
} as const;

export const FLOW_COUNTER_NAMES = Object.keys(FlowCounter) as readonly (keyof typeof FlowCounter)[];

// ---- index ----------------------------------------------------------------------------------
export const SLOT_WORDS = 2;
/** Slots per flow of capacity: two of them used, so that a full table is half-full here. */
export const SLOTS_PER_FLOW = 4;

// ---- records --------------------------------------------------------------------------------
export const FLOW_WORDS = 32;
/** log2 of FLOW_WORDS. */
export const FLOW_SHIFT = 5;

/** Odd while keys are being written; changes with each flow that the record holds. */
export const FLOW_SEQUENCE = 0;
/** IPv4 protocol number. */
export const FLOW_PROTOCOL = 1;
/** Key of the original direction: four words from here on, in the order of KEY_*. */
export const FLOW_ORIGINAL = 2;
/** Key of the reply direction. */
export const FLOW_REPLY = 6;
export const KEY_WORDS = 4;
export const KEY_SOURCE = 0;
export const KEY_DESTINATION = 1;
/** Source port << 16 | destination port. */
export const KEY_PORTS = 2;
/** Tag from the inner source MAC, 0 without. */
export const KEY_TAG = 3;
/** One of STATE_*. Written under the lock only: FlowTable.setState. */
export const FLOW_STATE = 10;
/** Milliseconds (monotonic, modulo 2^32) of the last packet, exact to TOUCH_MS. */
export const FLOW_SEEN = 11;
/** FLAG_* bits. */
export const FLOW_FLAGS = 12;
/** What becomes of frames of direction 0 and 1, one of OUT_*. */
export const FLOW_OUT = 13;
/**
 * Underlay address of the VTEP that the flow came through and its replies return to; 0 without.
 * An address, since VTEP indices may differ after a restart.
 */
export const FLOW_INGRESS = 15;
/** Milliseconds, as FLOW_SEEN, of the first packet. */
export const FLOW_CREATED = 16;
/** Numbers of the Service port and of the backend, as the service table has them; 0 without. */
export const FLOW_SERVICE = 17;
export const FLOW_BACKEND = 18;
/** Neighbours in the list that the record is in: record + 1. */
export const FLOW_NEXT = 19;
export const FLOW_PREVIOUS = 20;
/** The protocol's own words, from here to the end. */
export const FLOW_PRIVATE = 21;

// ---- FLOW_PRIVATE of TCP: TCP_WORDS per direction, each written by packets of that direction -----
export const TCP_WORDS = 5;
/** TCP_* bits and the window scale. */
export const TCP_BITS = 0;
/** Highest sequence number sent, the one after its last byte. */
export const TCP_END = 1;
/** Right edge of the window that this side offered: highest acknowledgement + window. */
export const TCP_EDGE = 2;
/** Highest acknowledgement sent. */
export const TCP_ACKED = 3;
/** Largest window offered, in bytes. */
export const TCP_WINDOW = 4;
/** TCP_BITS: a packet of this direction was seen, and the words above hold. */
export const TCP_KNOWN = 1;
/** An acknowledgement was seen: TCP_EDGE and TCP_ACKED hold. */
export const TCP_ACK_KNOWN = 2;
/** The SYN offered a window scale (RFC 7323), in the bits from TCP_SCALE_SHIFT on. */
export const TCP_SCALED = 4;
/** Taken up in mid-stream: the scale is not known, the largest one is assumed. */
export const TCP_GUESSED = 8;
/** A FIN was seen. */
export const TCP_FINISHED = 16;
/** FLOW_TCP_SYN_END holds; the window scale of that SYN + 1, or 0, is in the bits from TCP_SYN_SCALE_SHIFT on. */
export const TCP_SYN_PENDING = 32;
export const TCP_SCALE_SHIFT = 8;
export const TCP_SYN_SCALE_SHIFT = 16;
/** End of a SYN that arrived on a connection believed alive. */
export const FLOW_TCP_SYN_END = FLOW_PRIVATE + 2 * TCP_WORDS;

// ---- FLOW_PRIVATE of SCTP: the verification tag that packets of each direction carry, 0: unknown ----
export const FLOW_SCTP_TAG = FLOW_PRIVATE;

// ---- FLOW_PRIVATE of STATE_STANDBY: number of the sweep that told of it last (wire/flowShare) -------
export const FLOW_SWEEP = FLOW_PRIVATE;

// ---- FLOW_FLAGS -----------------------------------------------------------------------------
/** The destination is translated. */
export const FLAG_DNAT = 1;
/** The source is translated. */
export const FLAG_SNAT = 2;
/** A pod that reaches itself. */
export const FLAG_HAIRPIN = 4;
/** From a pod to the outside, behind an address of the node. */
export const FLAG_EGRESS = 8;
/** Only the source port is translated, since the original tuple was taken under another tag. */
export const FLAG_PORT_COLLISION = 16;
/** Taken up in mid-stream. */
export const FLAG_ADOPTED = 32;

// ---- FLOW_OUT -------------------------------------------------------------------------------
/** Where the route table says. Port numbers and VTEP indices are never kept here: tables change. */
export const OUT_ROUTE = 0;
/** To the VTEP in FLOW_INGRESS. */
export const OUT_INGRESS = 1;
/** To the node's kernel by podwire0. */
export const OUT_NODE = 2;

// ---- states ---------------------------------------------------------------------------------
/** The record is not in use. */
export const STATE_FREE = 0;
/** TCP: Linux's numbers and names, and one of our own. */
export const TCP_SYN_SENT = 1;
export const TCP_SYN_RECV = 2;
export const TCP_ESTABLISHED = 3;
export const TCP_FIN_WAIT = 4;
export const TCP_CLOSE_WAIT = 5;
export const TCP_LAST_ACK = 6;
export const TCP_TIME_WAIT = 7;
export const TCP_CLOSE = 8;
/** Simultaneous open. */
export const TCP_SYN_SENT2 = 9;
/** Taken up in mid-stream, seen in one direction so far. */
export const TCP_ADOPTED = 10;
export const UDP_UNREPLIED = 11;
/** Answered, and younger than STREAM_MS: a question and its answer. */
export const UDP_REPLIED = 12;
export const UDP_STREAM = 13;
export const ICMP_UNREPLIED = 14;
export const ICMP_REPLIED = 15;
/** SCTP: Linux's numbers + 15. */
export const SCTP_CLOSED = 16;
export const SCTP_COOKIE_WAIT = 17;
export const SCTP_COOKIE_ECHOED = 18;
export const SCTP_ESTABLISHED = 19;
export const SCTP_SHUTDOWN_SENT = 20;
export const SCTP_SHUTDOWN_RECD = 21;
export const SCTP_SHUTDOWN_ACK_SENT = 22;
export const SCTP_HEARTBEAT_SENT = 23;
/** Any other protocol. */
export const GENERIC_UNREPLIED = 24;
export const GENERIC_REPLIED = 25;
/**
 * Another node's flow, of an address that this node may come to own: the first packet wakes it. Its
 * FLOW_INGRESS is the node that told of it.
 */
export const STATE_STANDBY = 26;

/** Lists of what may go when the table is full: EVICT_UNREPLIED before EVICT_CLOSING, oldest first. */
export const EVICT_NEVER = 0;
export const EVICT_UNREPLIED = 1;
export const EVICT_CLOSING = 2;

const SECOND = 1000;
const DAY = 86_400 * SECOND;

/**
 * Per state: name, timeout in milliseconds, eviction. Timeouts are Linux's (nf_conntrack_proto_*.c),
 * but for an established TCP connection: one day, as kube-proxy sets it, not five.
 */
const STATES: readonly (readonly [string, number, number])[] = [
  ["FREE", 0, EVICT_NEVER],
  ["SYN_SENT", 120 * SECOND, EVICT_UNREPLIED],
  ["SYN_RECV", 60 * SECOND, EVICT_UNREPLIED],
  ["ESTABLISHED", DAY, EVICT_NEVER],
  ["FIN_WAIT", 120 * SECOND, EVICT_CLOSING],
  ["CLOSE_WAIT", 60 * SECOND, EVICT_CLOSING],
  ["LAST_ACK", 30 * SECOND, EVICT_CLOSING],
  ["TIME_WAIT", 120 * SECOND, EVICT_CLOSING],
  ["CLOSE", 10 * SECOND, EVICT_CLOSING],
  ["SYN_SENT2", 120 * SECOND, EVICT_UNREPLIED],
  ["ADOPTED", 120 * SECOND, EVICT_UNREPLIED],
  ["UNREPLIED", 30 * SECOND, EVICT_UNREPLIED],
  ["REPLIED", 30 * SECOND, EVICT_CLOSING],
  ["STREAM", 120 * SECOND, EVICT_NEVER],
  ["UNREPLIED", 30 * SECOND, EVICT_UNREPLIED],
  ["REPLIED", 30 * SECOND, EVICT_CLOSING],
  ["CLOSED", 10 * SECOND, EVICT_UNREPLIED],
  ["COOKIE_WAIT", 3 * SECOND, EVICT_UNREPLIED],
  ["COOKIE_ECHOED", 3 * SECOND, EVICT_UNREPLIED],
  ["ESTABLISHED", 210 * SECOND, EVICT_NEVER],
  ["SHUTDOWN_SENT", 3 * SECOND, EVICT_CLOSING],
  ["SHUTDOWN_RECD", 3 * SECOND, EVICT_CLOSING],
  ["SHUTDOWN_ACK_SENT", 3 * SECOND, EVICT_CLOSING],
  ["HEARTBEAT_SENT", 30 * SECOND, EVICT_UNREPLIED],
  ["UNREPLIED", 600 * SECOND, EVICT_UNREPLIED],
  ["REPLIED", 600 * SECOND, EVICT_NEVER],
  ["STANDBY", DAY, EVICT_UNREPLIED],
];

/** Number of states. */
export const FLOW_STATES = STATES.length;
/** Names by state. UNREPLIED and REPLIED are those of several protocols. */
export const STATE_NAMES: readonly string[] = STATES.map(([name]) => name);
/** Milliseconds after the last packet until a flow in a state is removed. */
export const TIMEOUT_OF = Int32Array.from(STATES, ([, timeout]) => timeout);
/** EVICT_* by state. */
export const EVICTION_OF = Int32Array.from(STATES, ([, , eviction]) => eviction);

/** An established TCP connection with data that nobody acknowledged (nf_conntrack_tcp_timeout_unacknowledged). */
export const UNACKNOWLEDGED_MS = 300 * SECOND;
/** Age from which on an answered UDP flow is a stream (nf_conntrack_proto_udp.c). */
export const STREAM_MS = 2 * SECOND;
/** FLOW_SEEN is written again when it is this much behind. */
export const TOUCH_MS = 250;

/** ICMP message types of echo (RFC 792). */
const ECHO_REPLY = 0;
const ECHO_REQUEST = 8;

/**
 * What stands for the ports of an ICMP echo message, as though the one who answers had port 8: the
 * identifier is the source port of a request and the destination port of a reply. 0 for any
 * other type. An int32: negative for identifiers from 32768 on.
 */
export function echoPorts(type: number, identifier: number): number {
  if (type === ECHO_REQUEST) return (identifier << 16) | ECHO_REQUEST;
  if (type === ECHO_REPLY) return (ECHO_REQUEST << 16) | identifier;
  return 0;
}

/** Source and destination port exchanged. */
export function turnedPorts(ports: number): number {
  return (ports << 16) | (ports >>> 16);
}

/** Records behind a capacity: the reserve stands in for those that wait for the end of a breath. */
export function flowRecords(capacity: number): number {
  return capacity + Math.min(capacity, 4096);
}

/** Words of an affinity (AffinityTable). */
export const AFFINITY_WORDS = 5;
/** Affinities that lie together. */
export const AFFINITY_WAYS = 8;

/** Affinities in a table for `capacity` flows: a power of two. */
export function affinityEntries(capacity: number): number {
  return Math.max(AFFINITY_WAYS, capacity >> 1);
}

/** Index of the first affinity's first word. */
export function affinityStart(capacity: number): number {
  return FLOW_HEADER + capacity * SLOTS_PER_FLOW * SLOT_WORDS + flowRecords(capacity) * FLOW_WORDS;
}

/** Bytes of a table for `capacity` flows: 170 per flow, and 0.5 MiB for all but small tables. */
export function flowTableBytes(capacity: number): number {
  return 4 * (affinityStart(capacity) + affinityEntries(capacity) * AFFINITY_WORDS);
}
