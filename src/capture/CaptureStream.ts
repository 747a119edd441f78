/**
 * From capture rings to pcapng: reads what the dataplane's threads have written, numbers interfaces as
 * they come up, and adds comments. Knows neither threads nor sockets; time comes from its caller.
 */

import { RingReader } from "./CaptureRing.js";
import { type CaptureNames, commentOf } from "./comment.js";
import {
  COUNT_LOST,
  COUNT_MATCHED,
  COUNT_SEEN,
  INTERFACE_AFTER,
  INTERFACE_BEFORE,
  INTERFACE_DROPPED,
  INTERFACE_DROPPED_OUTER,
  INTERFACE_OUTER,
  INTERFACES,
  POINT_AFTER,
  POINT_BEFORE,
  POINT_DROPPED,
  POINT_INNER,
  POINT_OUTER,
  RECORD_FLAG_IN,
  RECORD_FLAG_OUT,
  RECORD_FLAG_PARTIAL,
  RECORD_FLAGS,
  RECORD_GSO,
  RECORD_INTERFACE,
  RECORD_LENGTH,
  RECORD_TIME,
} from "./layout.js";
import {
  enhancedPacket,
  FLAG_CHECKSUM_NOT_READY,
  FLAG_INBOUND,
  FLAG_OUTBOUND,
  FLAG_SEGMENTATION_OFFLOADED,
  interfaceDescription,
  interfaceStatistics,
  LINK_ETHERNET,
  LINK_IPV4,
  sectionHeader,
} from "./pcapng.js";

export interface CaptureStreamOptions {
  /** Buffers that the threads write to, one each. */
  buffers: readonly SharedArrayBuffer[];
  /** POINT_* bits. */
  points: number;
  /** Port numbers of the TAPs that there are; of others an interface is described when it comes up. */
  ports: readonly number[];
  snapLength: number;
  /** As the user wrote it. */
  filter: string;
  /** Packets after which it ends; 0: it does not by itself. */
  count: number;
  /** Name of the node. */
  node: string;
  /** Operating system and program, for the section header. */
  os: string;
  application: string;
  names: CaptureNames;
  /** CLOCK_REALTIME less CLOCK_MONOTONIC, in nanoseconds, as of now. */
  clockOffsetNs: () => bigint;
}

/** The interfaces that are no TAP. */
const FIXED: Readonly<
  Record<number, { point: number; name: string; linkType: number; description: string }>
> = {
  [INTERFACE_OUTER]: {
    point: POINT_OUTER,
    name: "outer",
    linkType: LINK_IPV4,
    description: "VXLAN as on the underlay; outer IPv4 and UDP headers as the kernel makes them",
  },
  [INTERFACE_BEFORE]: {
    point: POINT_BEFORE,
    name: "before",
    linkType: LINK_ETHERNET,
    description: "before translation",
  },
  [INTERFACE_AFTER]: {
    point: POINT_AFTER,
    name: "after",
    linkType: LINK_ETHERNET,
    description: "after translation",
  },
  [INTERFACE_DROPPED]: {
    point: POINT_DROPPED,
    name: "dropped",
    linkType: LINK_ETHERNET,
    description: "dropped frames",
  },
  [INTERFACE_DROPPED_OUTER]: {
    point: POINT_DROPPED,
    name: "dropped-outer",
    linkType: LINK_IPV4,
    description: "dropped tunnel datagrams",
  },
};

export class CaptureStream {
  readonly #options: CaptureStreamOptions;
  readonly #readers: RingReader[];
  /** Numbers in the file, by INTERFACE_*. */
  readonly #interfaces = new Map<number, number>();
  readonly #startNs: bigint;
  #packets = 0;

  constructor(options: CaptureStreamOptions) {
    this.#options = options;
    this.#readers = options.buffers.map((buffer) => new RingReader(buffer));
    this.#startNs = now(options);
  }

  /** Whether as many packets were taken as were wanted. */
  get full(): boolean {
    return this.#options.count > 0 && this.#packets >= this.#options.count;
  }

  /** What the file begins with. */
  begin(): Uint8Array {
    const { os, application, node, points, ports } = this.#options;
    const blocks = [sectionHeader({ os, application, comment: `podwire capture on ${node}` })];
    if ((points & POINT_INNER) !== 0) for (const port of ports) this.#interface(port, blocks);
    for (const [at, { point }] of Object.entries(FIXED))
      if ((points & point) !== 0) this.#interface(Number(at), blocks);
    return Buffer.concat(blocks);
  }

  /**
   * Packets that are there, in the order of their times: at least `bytes` of them, if there are so
   * many. Null where there are none.
   */
  take(bytes: number): Uint8Array | null {
    const { clockOffsetNs } = this.#options;
    const offset = clockOffsetNs();
    const blocks: Uint8Array[] = [];
    let length = 0;
    while (length < bytes && !this.full) {
      const reader = this.#oldest();
      if (reader === null) break;
      const before = blocks.length;
      this.#packet(reader, offset, blocks);
      for (let n = before; n < blocks.length; n++) length += blocks[n].length;
    }
    return blocks.length === 0 ? null : Buffer.concat(blocks);
  }

  /** What the file ends with: how much was seen, accepted and lost, by interface. */
  end(): Uint8Array {
    const endNs = now(this.#options);
    const blocks: Uint8Array[] = [];
    for (let at = 0; at < INTERFACES; at++) {
      const lost = this.#sum(COUNT_LOST + at);
      if (lost > 0) this.#interface(at, blocks);
      const number = this.#interfaces.get(at);
      if (number === undefined) continue;
      const received = this.#sum(COUNT_SEEN + at);
      const accepted = this.#sum(COUNT_MATCHED + at);
      blocks.push(
        interfaceStatistics({ interface: number, startNs: this.#startNs, endNs, received, accepted, lost }),
      );
    }
    return Buffer.concat(blocks);
  }

  /** The reader with the oldest packet; null where there is none. */
  #oldest(): RingReader | null {
    let oldest: RingReader | null = null;
    let oldestUs = Number.POSITIVE_INFINITY;
    for (const reader of this.#readers) {
      const record = reader.peek();
      if (record < 0) continue;
      const us = timeOf(reader, record);
      if (us >= oldestUs) continue;
      oldest = reader;
      oldestUs = us;
    }
    return oldest;
  }

  #packet(reader: RingReader, offset: bigint, blocks: Uint8Array[]): void {
    const record = reader.peek();
    const { words } = reader;
    const flags = words[record + RECORD_FLAGS];
    blocks.push(
      enhancedPacket({
        interface: this.#interface(words[record + RECORD_INTERFACE], blocks),
        timeNs: BigInt(Math.round(timeOf(reader, record) * 1000)) + offset,
        data: reader.data(record),
        originalLength: words[record + RECORD_LENGTH],
        flags:
          ((flags & RECORD_FLAG_IN) !== 0 ? FLAG_INBOUND : 0) |
          ((flags & RECORD_FLAG_OUT) !== 0 ? FLAG_OUTBOUND : 0) |
          ((flags & RECORD_FLAG_PARTIAL) !== 0 ? FLAG_CHECKSUM_NOT_READY : 0) |
          (words[record + RECORD_GSO] !== 0 ? FLAG_SEGMENTATION_OFFLOADED : 0),
        comment: commentOf(words, record, this.#options.names),
      }),
    );
    reader.release(record);
    this.#packets++;
  }

  /** Number of an interface in the file; describes it in `blocks` where it is new. */
  #interface(at: number, blocks: Uint8Array[]): number {
    const known = this.#interfaces.get(at);
    if (known !== undefined) return known;
    const number = this.#interfaces.size;
    this.#interfaces.set(at, number);
    const { snapLength, filter, names } = this.#options;
    const fixed = FIXED[at];
    const name = fixed?.name ?? `inner:${names.port(at) || `port ${at}`}`;
    const description = fixed?.description ?? "frames from and to a TAP";
    const linkType = fixed?.linkType ?? LINK_ETHERNET;
    blocks.push(interfaceDescription({ linkType, snapLength, name, description, filter }));
    return number;
  }

  #sum(index: number): number {
    return this.#readers.reduce((sum, { counts }) => sum + counts[index], 0);
  }
}

function timeOf(reader: RingReader, record: number): number {
  return reader.view.getFloat64((record + RECORD_TIME) * 4, true);
}

/** CLOCK_REALTIME in nanoseconds. */
function now({ clockOffsetNs }: CaptureStreamOptions): bigint {
  return process.hrtime.bigint() + clockOffsetNs();
}
