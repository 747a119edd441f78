/**
 * Counters of one dataplane thread: doubles (exact to 2^53) in shared memory, written by the thread
 * alone, read by whoever wants to. DropReason numbers follow from COUNT_DROPS on.
 *
 *   received = forwarded + answered + Σ dropped      at the end of every breath
 */
import { DROP_REASONS } from "./DropReason.js";
import { MAX_PEERS } from "./layout.js";

/** Frames received; each datagram of a GRO train is one. */
export const COUNT_RECEIVED = 0;
/** Frames handed on to a TAP or a VTEP. */
export const COUNT_FORWARDED = 1;
/** Frames that the dataplane answered itself (ARP). */
export const COUNT_ANSWERED = 2;
/** Bytes of received frames, from the Ethernet header on. */
export const COUNT_RECEIVED_BYTES = 3;
/** Bytes of forwarded frames, from the Ethernet header on. */
export const COUNT_FORWARDED_BYTES = 4;
/** ICMP errors made. */
export const COUNT_ICMP_ERRORS = 5;
/** ICMP errors and resets not made since too many were. */
export const COUNT_ICMP_LIMITED = 6;
/** Segments made of GSO frames. */
export const COUNT_SEGMENTS = 7;
/** Frames given whole to the tunnel GSO device. */
export const COUNT_TUNNEL_GSO = 8;
/** Frames merged into others on the way to a TAP. */
export const COUNT_MERGED = 9;
/** Merged frames that were written unmerged since a checksum in them was wrong. */
export const COUNT_UNMERGED = 10;
export const COUNT_BREATHS = 11;
export const COUNT_SLEEPS = 12;
export const COUNT_SPIN_HITS = 13;
export const COUNT_WAKES = 14;
export const COUNT_RX_CALLS = 15;
export const COUNT_TX_CALLS = 16;
/** Messages that could not be sent and carry no frame in the accounts: own replies and errors, later segments. */
export const COUNT_REPLIES_LOST = 17;
/** Fragments made of packets that were too long. */
export const COUNT_FRAGMENTS = 18;
/** Times that the thread asked for wake-ups without delay (worker/CpuLatency). */
export const COUNT_CPU_LATENCY_REQUESTS = 19;
/** TCP resets made. */
export const COUNT_RESETS = 20;
/**
 * BFD packets received, and of these the ones that were discarded (RFC 5880 §6.8.6), and sent. These,
 * and frames of the packet socket on the LAN, are not among the frames received.
 */
export const COUNT_BFD_RECEIVED = 21;
export const COUNT_BFD_DISCARDED = 22;
export const COUNT_BFD_SENT = 23;
/** ARP of the LAN about load-balancer addresses: frames heard, requests answered, announcements sent. */
export const COUNT_LAN_RECEIVED = 24;
export const COUNT_LAN_REPLIES = 25;
export const COUNT_LAN_ANNOUNCEMENTS = 26;
/** Claims of others to addresses that this node owned. */
export const COUNT_LAN_CONFLICTS = 27;
/** Addresses taken over. */
export const COUNT_TAKEOVERS = 28;
/** Table images, and images of Services, put in the place of others; counted by the first thread. */
export const COUNT_TABLE_SWAPS = 30;
export const COUNT_SERVICE_SWAPS = 31;
/** Records of flows that other nodes were told of (dataplane/FlowSharing). */
export const COUNT_FLOWS_SHARED = 32;
/** Records that other nodes told of, and of these: not taken. */
export const COUNT_STANDBY_HEARD = 33;
export const COUNT_STANDBY_REFUSED = 34;
/** Flows of other nodes that were gone on with here. */
export const COUNT_STANDBY_WOKEN = 35;
/** Tagged replies of no flow that were taken up (dataplane/adoptReply). */
export const COUNT_REPLIES_ADOPTED = 36;
/** Microseconds of all breaths that LOOP_COUNTS counts. */
export const LOOP_SUM_US = 39;
/**
 * First of the counters of breaths with packets by their duration: from waking up to the last frame
 * sent. One for each of LOOP_BOUNDS_US, and one for what is longer.
 */
export const LOOP_COUNTS = 40;
/** Upper bounds of the counters from LOOP_COUNTS on, inclusive, in microseconds. */
export const LOOP_BOUNDS_US: readonly number[] = [
  10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000,
];
/** First drop counter. */
export const COUNT_DROPS = 64;
export const COUNTERS = COUNT_DROPS + DROP_REASONS;

/**
 * Traffic by VTEP and by Service is counted in an array of its own, TRAFFIC doubles, of which each has
 * four: packets and bytes of direction 0, then of direction 1.
 *
 *   VTEP      0 … MAX_PEERS - 1, by its index; 0: received from it, 1: sent to it
 *   Service   SERVICE_SLOTS of them, by the low bits of its number; 0: from clients, 1: replies.
 *             Slot 0 has what belongs to flows of no Service
 *
 * Packets are those on the wire: a GSO frame is as many as it will be divided into (one that has to be
 * fragmented is one). Bytes count from the (inner) Ethernet header on.
 */
export const TRAFFIC_WORDS = 4;
/** Slots for Services; a power of two. The control side numbers Services so that no two share one. */
export const SERVICE_SLOTS = 65_536;
/** First counter of Services. */
export const TRAFFIC_SERVICES = MAX_PEERS * TRAFFIC_WORDS;
export const TRAFFIC = TRAFFIC_SERVICES + SERVICE_SLOTS * TRAFFIC_WORDS;

/** First counter of the Service port with number `service`. */
export function serviceTraffic(service: number): number {
  return TRAFFIC_SERVICES + (service & (SERVICE_SLOTS - 1)) * TRAFFIC_WORDS;
}

/** Names of the counters that are neither totals of frames nor drops, by index. */
export const OTHER_COUNTERS: Readonly<Record<string, number>> = {
  receivedBytes: COUNT_RECEIVED_BYTES,
  forwardedBytes: COUNT_FORWARDED_BYTES,
  icmpErrors: COUNT_ICMP_ERRORS,
  icmpLimited: COUNT_ICMP_LIMITED,
  segments: COUNT_SEGMENTS,
  tunnelGso: COUNT_TUNNEL_GSO,
  merged: COUNT_MERGED,
  unmerged: COUNT_UNMERGED,
  breaths: COUNT_BREATHS,
  sleeps: COUNT_SLEEPS,
  spinHits: COUNT_SPIN_HITS,
  wakes: COUNT_WAKES,
  rxCalls: COUNT_RX_CALLS,
  txCalls: COUNT_TX_CALLS,
  repliesLost: COUNT_REPLIES_LOST,
  fragments: COUNT_FRAGMENTS,
  cpuLatencyRequests: COUNT_CPU_LATENCY_REQUESTS,
  resets: COUNT_RESETS,
  bfdReceived: COUNT_BFD_RECEIVED,
  bfdDiscarded: COUNT_BFD_DISCARDED,
  bfdSent: COUNT_BFD_SENT,
  lanReceived: COUNT_LAN_RECEIVED,
  lanReplies: COUNT_LAN_REPLIES,
  lanAnnouncements: COUNT_LAN_ANNOUNCEMENTS,
  lanConflicts: COUNT_LAN_CONFLICTS,
  takeovers: COUNT_TAKEOVERS,
  tableSwaps: COUNT_TABLE_SWAPS,
  serviceSwaps: COUNT_SERVICE_SWAPS,
  flowsShared: COUNT_FLOWS_SHARED,
  standbyHeard: COUNT_STANDBY_HEARD,
  standbyRefused: COUNT_STANDBY_REFUSED,
  standbyWoken: COUNT_STANDBY_WOKEN,
  repliesAdopted: COUNT_REPLIES_ADOPTED,
};
