/**
 * The memory that a worker and the native binding share: one arena per worker, no locks, no
 * ownership to hand over. Both sides work on it in turn, within one thread.
 *
 *   arena
 *   ├── rxTap    frames read from TAP and AF_PACKET descriptors, packed by a bump pointer
 *   ├── rxUdp    datagrams from UDP sockets, one slot each (a slot may hold a GRO train)
 *   ├── scratch  header slots: headers of segments, merged frames, replies, ICMP errors
 *   ├── rx       receive descriptors, RX_STRIDE int32 each, written by native
 *   ├── msg      transmit messages, MSG_STRIDE int32 each, written by the dataplane
 *   ├── iov      pieces of messages, IOV_STRIDE int32 each, linked into chains
 *   ├── status   STATUS_* doubles, written by native
 *   └── held     fragments that wait for the first of their packet; native only sends from it
 *
 * All but the last is reset with every breath: what is received is sent, consumed or dropped before
 * the next receive. native/layout.h repeats these numbers; a test holds the two together.
 */

// ---- port kinds -----------------------------------------------------------------------------
/** A TAP device with a virtio-net header in front of every frame. */
export const PORT_TAP = 1;
/** A UDP socket that carries VXLAN. */
export const PORT_UDP = 2;
/** An AF_PACKET socket on a LAN interface. */
export const PORT_LINK = 3;
/** A raw IPv4 socket; received from only. */
export const PORT_RAW = 4;
/** A UDP socket of BFD: read before all others, so that no load looks like a dead node. */
export const PORT_BFD = 5;
/** A netlink socket; received from only, one message a descriptor. */
export const PORT_NETLINK = 6;

/** Highest number of ports of one worker; port numbers are 0 … MAX_PORTS - 1. */
export const MAX_PORTS = 1024;
/** Highest number of peers (VTEPs) of one worker; peer numbers are 0 … MAX_PEERS - 1. */
export const MAX_PEERS = 8192;
/** Destinations of datagrams (NativeIo.setPeer): the peers' VXLAN sockets by peer number … */
export const IO_PEERS = 2 * MAX_PEERS;
/** … and from here on their BFD sockets. */
export const BFD_PEERS = MAX_PEERS;

// ---- receive descriptors --------------------------------------------------------------------
export const RX_STRIDE = 8;
/** Byte offset in the arena of the first byte received (TAP: of the virtio-net header). */
export const RX_OFFSET = 0;
/** Bytes received; for a descriptor with RX_FLAG_ERROR, the errno. */
export const RX_LENGTH = 1;
/** Port number. */
export const RX_PORT = 2;
/** UDP: size of one datagram of a GRO train (the last may be shorter); RX_LENGTH without GRO. */
export const RX_SEGMENT = 3;
/** UDP: sender's IPv4 address as the big-endian number, int32. */
export const RX_PEER = 4;
/** UDP: sender's port. */
export const RX_PEER_PORT = 5;
export const RX_FLAGS = 6;
/** The port failed and is no longer polled (a TAP whose namespace is gone). RX_LENGTH: errno. */
export const RX_FLAG_ERROR = 1;
/** The datagram was longer than its slot and was cut. */
export const RX_FLAG_TRUNCATED = 2;

// ---- transmit messages: one system call each ------------------------------------------------
export const MSG_STRIDE = 16;
/** Port number to send on. */
export const MSG_PORT = 0;
/** Index of the first piece. */
export const MSG_IOV = 1;
/** Number of pieces, at most MAX_IOV. */
export const MSG_IOV_COUNT = 2;
/** UDP: peer number. */
export const MSG_PEER = 3;
/** UDP: UDP_SEGMENT size in bytes, 0 for a single datagram. */
export const MSG_GSO = 4;
export const MSG_FLAGS = 5;
/**
 * The message is a merged TCP frame (first piece: virtio-net header and headers; each further
 * piece: the payload of one received segment, which still has its own headers in front of it).
 * Native verifies each segment's TCP checksum before it writes the merged frame. Where one is
 * wrong it writes every segment by itself, unmerged and with its own checksum, and the receiver
 * judges: nothing bad is made to look good.
 */
export const MSG_FLAG_VERIFY = 1;
/** Bytes of the TCP header in front of each payload piece (MSG_FLAG_VERIFY). */
export const MSG_L4_LENGTH = 6;
/** Pseudo-header sum without the length: big-endian 16-bit words added up, not folded. */
export const MSG_PSEUDO = 7;
/** Bytes of all headers (Ethernet, IP, TCP) in front of each payload piece (MSG_FLAG_VERIFY). */
export const MSG_HEADERS = 8;
/** Number of frames in the message: for accounting, not read by native. */
export const MSG_FRAMES = 9;
/** Written by native: 0, or the errno with which the system call failed. */
export const MSG_ERRNO = 10;

// ---- pieces ---------------------------------------------------------------------------------
export const IOV_STRIDE = 4;
export const IOV_OFFSET = 0;
export const IOV_LENGTH = 1;
/** Index of the next piece, -1 at the end. */
export const IOV_NEXT = 2;
/**
 * 0, or a checksum to finish before sending: CSUM_REQUEST | start | field << 8 | flags. The sum
 * runs from `start` (bytes into this piece) to the end of the piece; the 16 bits at start + field
 * hold the pseudo-header sum (uncomplemented, as in a frame with a partial checksum) or 0, and
 * receive the complement of the sum.
 */
export const IOV_CSUM = 3;
export const CSUM_REQUEST = 1 << 16;
/** The sum runs on through all further pieces of the chain (ICMP) or … */
export const CSUM_TO_END = 1 << 17;
/** … through the next piece only (one header piece and one payload piece per segment). */
export const CSUM_NEXT = 1 << 18;
/** A sum of zero is stored as 0xffff (UDP, RFC 768). */
export const CSUM_UDP = 1 << 19;

/** Most pieces in one message (IOV_MAX is 1024; 64 segments of two pieces are the common most). */
export const MAX_IOV = 256;
/** Most datagrams in one UDP_SEGMENT call (UDP_MAX_SEGMENTS of kernels before 6.9). */
export const MAX_GSO_SEGMENTS = 64;
/** Most bytes in one UDP_SEGMENT call: 65535 less IPv4 and UDP headers. */
export const MAX_GSO_BYTES = 65507;

// ---- status (Float64Array) ------------------------------------------------------------------
export const STATUS_LENGTH = 16;
/** CLOCK_MONOTONIC in microseconds, read once per breath, after waiting. */
export const STATUS_NOW_US = 0;
/** Messages of the last execution whose MSG_ERRNO is not 0. */
export const STATUS_FAILED = 1;
/** Merged frames that were written unmerged since a checksum in them was wrong (total). */
export const STATUS_UNMERGED = 2;
/** Wake-ups by the event descriptor (total). */
export const STATUS_WAKES = 3;
/** Times the thread blocked (total). */
export const STATUS_SLEEPS = 4;
/** Times spinning found work before blocking (total). */
export const STATUS_SPIN_HITS = 5;
/** read and recvmmsg calls that returned data (total). */
export const STATUS_RX_CALLS = 6;
/** sendmsg and writev calls (total). */
export const STATUS_TX_CALLS = 7;
/** CLOCK_MONOTONIC in microseconds when a plan had last been executed. */
export const STATUS_SENT_US = 8;

// ---- sizes ----------------------------------------------------------------------------------
/** Free bytes in front of every received frame. */
export const HEADROOM = 128;
/** virtio-net header in front of each TAP frame, in bytes (struct virtio_net_hdr). */
export const VNET_BYTES = 10;
/** Longest frame read from a TAP: 64 KiB and headers. */
export const TAP_FRAME_MAX = 65536 + 64;
/** A breath reads frames from TAPs until this many bytes are in the arena. */
export const TAP_BUDGET = 256 * 1024;
/** Most frames read from one TAP in one breath. */
export const TAP_FRAMES = 64;
/** Datagrams received in one breath. */
export const UDP_SLOTS = 16;
/** Distance between datagram slots; datagrams start HEADROOM + 2 in, so that inner IP is aligned. */
export const UDP_SLOT_BYTES = 65536 + 256;
/** Bytes of a scratch slot. */
export const SCRATCH_BYTES = 128;
export const SCRATCH_SLOTS = 4096;
export const RX_CAPACITY = 512;
export const MSG_CAPACITY = 2048;
export const IOV_CAPACITY = 16384;
/** Bytes for fragments that wait: 16 datagrams of 64 KiB. */
export const HELD_BYTES = 1024 * 1024;

/** Byte offsets of the areas in an arena, and the arena's length. */
export interface ArenaLayout {
  readonly rxTap: number;
  readonly rxTapBytes: number;
  readonly rxUdp: number;
  readonly scratch: number;
  readonly rx: number;
  readonly msg: number;
  readonly iov: number;
  readonly status: number;
  readonly held: number;
  readonly bytes: number;
}

function align64(n: number): number {
  return (n + 63) & ~63;
}

/** The one layout that native and TypeScript use. Offsets are multiples of 64. */
export const ARENA: ArenaLayout = (() => {
  const rxTap = 0;
  const rxTapBytes = align64(TAP_BUDGET + 2 * (TAP_FRAME_MAX + HEADROOM));
  const rxUdp = rxTap + rxTapBytes;
  const scratch = align64(rxUdp + UDP_SLOTS * UDP_SLOT_BYTES);
  const rx = align64(scratch + SCRATCH_SLOTS * SCRATCH_BYTES);
  const msg = align64(rx + RX_CAPACITY * RX_STRIDE * 4);
  const iov = align64(msg + MSG_CAPACITY * MSG_STRIDE * 4);
  const status = align64(iov + IOV_CAPACITY * IOV_STRIDE * 4);
  const held = align64(status + STATUS_LENGTH * 8);
  return {
    rxTap,
    rxTapBytes,
    rxUdp,
    scratch,
    rx,
    msg,
    iov,
    status,
    held,
    bytes: align64(held + HELD_BYTES),
  };
})();
