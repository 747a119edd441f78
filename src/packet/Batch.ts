/**
 * A batch of frames as columns. A row is filled by a port, refined by each stage, and done when
 * its verdict is set. Columns are Int32Arrays; offsets count from the start of the arena.
 *
 *   set by      columns
 *   port        offset length port peer gsoType gsoSize csumStart csumOffset segments stride short
 *               heard (verdict)
 *   decap       vtep tag; offset and length move forward
 *   parse       kind l3 l4 end protocol source destination ports fragment
 *   conntrack   flow direction via; source destination ports and tag are what leaves
 *   route       verdict out
 */

/** Verdicts. */
export const PENDING = 0;
/** For the DropReason in `out`. */
export const DROPPED = 1;
/** The frame was answered or replaced by the dataplane and needs nothing more. */
export const ANSWERED = 2;
/** To the TAP with port number `out`. */
export const TO_TAP = 3;
/** To the VTEP with index `out`. */
export const TO_VTEP = 4;
/** A later fragment that waits for its first one (dataplane/FragmentTable). */
export const HELD = 5;

/** Kinds. */
export const KIND_UNKNOWN = 0;
export const KIND_IPV4 = 4;
export const KIND_ARP = 1;

/** Ways out that are not left to the route table (`via`); 0 or more is a VTEP's index. */
export const VIA_ROUTE = -1;
export const VIA_NODE = -2;

/** Rows of a batch. A GRO train has up to 64 frames and is not divided. */
export const BATCH_CAPACITY = 256;

function column(): Int32Array {
  return new Int32Array(BATCH_CAPACITY);
}

export class Batch {
  /** Rows in use. */
  count = 0;
  /** Start of the Ethernet header (from the tunnel, before decap: of the VXLAN header). */
  readonly offset = column();
  /** Bytes from `offset`; after parse without Ethernet padding. */
  readonly length = column();
  /** Port number of arrival. */
  readonly port = column();
  /** From the tunnel: address of the sender; undefined otherwise. */
  readonly peer = column();
  /** From the tunnel: index of the sending VTEP; -1 otherwise. */
  readonly vtep = column();
  /** virtio-net gso_type without the ECN bit; 0 for a single frame. */
  readonly gsoType = column();
  /** Undefined where gsoType is 0. */
  readonly gsoSize = column();
  /** Partial checksum: bytes from `offset` to where the sum starts; -1 where it is complete. */
  readonly csumStart = column();
  /** Undefined where csumStart is -1. */
  readonly csumOffset = column();
  /** Frames that the row stands for: 1, or the length of a run (run.ts), whose first is described. */
  readonly segments = column();
  /** Distance between the frames of a run. */
  readonly stride = column();
  /** Bytes by which the last frame of a run is shorter. */
  readonly short = column();
  /** 1 where the node's kernel was given the packet, and we hear it (raw sockets). */
  readonly heard = column();
  readonly kind = column();
  /** Start of the network header. */
  readonly l3 = column();
  /** Start of the transport header. */
  readonly l4 = column();
  /** End of the packet: l3 + total length. */
  readonly end = column();
  readonly protocol = column();
  readonly source = column();
  readonly destination = column();
  /** Source port << 16 | destination port, or echoPorts; 0 without. */
  readonly ports = column();
  /** IPv4 fragment word without DF: 0 for a whole packet. */
  readonly fragment = column();
  /** Tag of the inner source MAC (wire/flowTag): of the frame that arrived, then of the one that leaves. */
  readonly tag = column();
  /** Record in the flow table, -1 without. */
  readonly flow = column();
  /** Direction of that flow, 0 or 1. */
  readonly direction = column();
  /** VIA_ROUTE, VIA_NODE or the index of a VTEP. */
  readonly via = column();
  readonly verdict = column();
  /** Port number, index of a VTEP, or why it was dropped (DropReason), as the verdict has it. */
  readonly out = column();

  /**
   * Adds a row and returns its number. The caller has made sure that there is room.
   * `length` may be too short for anything; parse looks at it. Columns that another one says the
   * meaning of keep what they had.
   */
  push(offset: number, length: number, port: number): number {
    const i = this.count++;
    this.offset[i] = offset;
    this.length[i] = length;
    this.port[i] = port;
    this.vtep[i] = -1;
    this.gsoType[i] = 0;
    this.csumStart[i] = -1;
    this.segments[i] = 1;
    this.short[i] = 0;
    this.heard[i] = 0;
    this.kind[i] = KIND_UNKNOWN;
    this.tag[i] = 0;
    this.flow[i] = -1;
    this.via[i] = VIA_ROUTE;
    this.verdict[i] = PENDING;
    return i;
  }
}
