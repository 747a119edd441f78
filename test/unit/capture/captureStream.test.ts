import { describe, expect, it } from "vitest";
import { newCaptureBuffer, RingWriter } from "../../../src/capture/CaptureRing.js";
import { CaptureStream, type CaptureStreamOptions } from "../../../src/capture/CaptureStream.js";
import {
  COUNT_LOST,
  COUNT_MATCHED,
  COUNT_SEEN,
  INTERFACE_DROPPED,
  MIN_CAPACITY,
  POINT_DROPPED,
  POINT_INNER,
  RECORD_DIRECTION,
  RECORD_FLAG_IN,
  RECORD_FLAG_PARTIAL,
  RECORD_FLAGS,
  RECORD_GSO,
  RECORD_INTERFACE,
  RECORD_LENGTH,
  RECORD_OUT,
  RECORD_PORT,
  RECORD_TIME,
  RECORD_VERDICT,
  RECORD_VTEP,
  RECORD_WORDS,
} from "../../../src/capture/layout.js";
import {
  enhancedPacket,
  FLAG_CHECKSUM_NOT_READY,
  FLAG_INBOUND,
  FLAG_SEGMENTATION_OFFLOADED,
  interfaceDescription,
  interfaceStatistics,
  LINK_ETHERNET,
  LINK_IPV4,
  sectionHeader,
} from "../../../src/capture/pcapng.js";
import { DROPPED } from "../../../src/packet/Batch.js";
import { DropReason } from "../../../src/packet/DropReason.js";

const OFFSET = 1_700_000_000_000_000_000n;
const PORT = 2;

function setUp(change: Partial<CaptureStreamOptions> = {}, rings = 1) {
  const buffers = Array.from({ length: rings }, () => newCaptureBuffer(MIN_CAPACITY));
  const stream = new CaptureStream({
    buffers,
    points: POINT_INNER | POINT_DROPPED,
    ports: [PORT],
    snapLength: 100,
    filter: "tcp",
    count: 0,
    node: "node-a",
    os: "Linux",
    application: "podwire",
    names: { port: (port) => (port === PORT ? "default/a" : ""), vtep: () => "", service: () => "" },
    clockOffsetNs: () => OFFSET,
    ...change,
  });
  return { stream, writers: buffers.map((buffer) => new RingWriter(buffer)) };
}

function write(writer: RingWriter, at: number, timeUs: number, value: number, length = 4): void {
  const record = writer.reserve(4);
  const { words, view } = writer;
  words.fill(0, record + RECORD_LENGTH, record + RECORD_WORDS);
  words[record + RECORD_INTERFACE] = at;
  words[record + RECORD_LENGTH] = length;
  words[record + RECORD_FLAGS] = RECORD_FLAG_IN;
  words[record + RECORD_VERDICT] = DROPPED;
  words[record + RECORD_OUT] = DropReason.noRoute;
  words[record + RECORD_PORT] = PORT;
  words[record + RECORD_VTEP] = -1;
  words[record + RECORD_DIRECTION] = -1;
  view.setFloat64((record + RECORD_TIME) * 4, timeUs, true);
  view.setUint32((record + RECORD_WORDS) * 4, value);
  writer.commit();
}

const packet = (number: number, timeUs: number, value: number, change = {}) => ({
  interface: number,
  timeNs: OFFSET + BigInt(timeUs) * 1000n,
  data: Uint8Array.of(0, 0, 0, value),
  originalLength: 4,
  flags: FLAG_INBOUND,
  comment: "from=default/a verdict=dropped reason=noRoute",
  ...change,
});
const described = (name: string, description: string, linkType = LINK_ETHERNET) =>
  interfaceDescription({ linkType, snapLength: 100, name, description, filter: "tcp" });
const bytes = (...blocks: Uint8Array[]) => Buffer.concat(blocks).toString("hex");
const hex = (piece: Uint8Array | null) => (piece === null ? null : Buffer.from(piece).toString("hex"));

describe("CaptureStream", () => {
  it("begins with the section and the interfaces that are known", () => {
    expect(hex(setUp().stream.begin())).toBe(
      bytes(
        sectionHeader({ os: "Linux", application: "podwire", comment: "podwire capture on node-a" }),
        described("inner:default/a", "frames from and to a TAP"),
        described("dropped", "dropped frames"),
        described("dropped-outer", "dropped tunnel datagrams", LINK_IPV4),
      ),
    );
  });

  it("describes an interface where its first packet comes", () => {
    const { stream, writers } = setUp();
    stream.begin();
    expect(stream.take(1)).toBeNull();
    write(writers[0], 9, 1500, 1);
    write(writers[0], 9, 1500, 2);
    expect(hex(stream.take(10_000))).toBe(
      bytes(
        described("inner:port 9", "frames from and to a TAP"),
        enhancedPacket(packet(3, 1500, 1)),
        enhancedPacket(packet(3, 1500, 2)),
      ),
    );
  });

  it("says what offloads have left open, and how long a packet was", () => {
    const { stream, writers } = setUp();
    stream.begin();
    write(writers[0], PORT, 7, 1, 9000);
    const record = writers[0].words.indexOf(9000) - RECORD_LENGTH;
    writers[0].words[record + RECORD_FLAGS] |= RECORD_FLAG_PARTIAL;
    writers[0].words[record + RECORD_GSO] = 1398;
    const flags = FLAG_INBOUND | FLAG_CHECKSUM_NOT_READY | FLAG_SEGMENTATION_OFFLOADED;
    const comment = "from=default/a verdict=dropped reason=noRoute checksum=partial gso-size=1398";
    expect(hex(stream.take(1))).toBe(
      bytes(enhancedPacket(packet(0, 7, 1, { flags, comment, originalLength: 9000 }))),
    );
  });

  it("takes what two threads wrote in the order of time", () => {
    const { stream, writers } = setUp({}, 2);
    stream.begin();
    write(writers[0], PORT, 10, 1);
    write(writers[0], PORT, 30, 3);
    write(writers[1], PORT, 20, 2);
    write(writers[1], PORT, 40, 4);
    expect(hex(stream.take(10_000))).toBe(
      bytes(...[1, 2, 3, 4].map((n) => enhancedPacket(packet(0, 10 * n, n)))),
    );
    expect(stream.take(10_000)).toBeNull();
  });

  it("ends after as many packets as were wanted", () => {
    const { stream, writers } = setUp({ count: 2 });
    stream.begin();
    for (const n of [1, 2, 3]) write(writers[0], PORT, n, n);
    expect(stream.full).toBe(false);
    expect(hex(stream.take(10_000))).toBe(bytes(...[1, 2].map((n) => enhancedPacket(packet(0, n, n)))));
    expect(stream.full).toBe(true);
    expect(stream.take(10_000)).toBeNull();
  });

  it("ends with what was seen, accepted and lost, of all threads", () => {
    const { stream, writers } = setUp({ points: POINT_DROPPED, ports: [] }, 2);
    stream.begin();
    for (const { counts } of writers) {
      counts[COUNT_SEEN + INTERFACE_DROPPED] = 50;
      counts[COUNT_MATCHED + INTERFACE_DROPPED] = 20;
      counts[COUNT_LOST + INTERFACE_DROPPED] = 5;
    }
    // Nothing of it could be kept.
    writers[1].counts[COUNT_LOST + 9] = 1;
    const end = Buffer.from(stream.end());
    const blocks: Buffer[] = [];
    for (let rest = end; rest.length > 0; rest = rest.subarray(rest.readUInt32LE(4)))
      blocks.push(rest.subarray(0, rest.readUInt32LE(4)));
    expect(blocks).toHaveLength(4);
    expect(hex(blocks[0])).toBe(bytes(described("inner:port 9", "frames from and to a TAP")));
    const timed = { startNs: 0n, endNs: 0n };
    const counts = (block: Buffer) => block.toString("hex").slice(2 * 44);
    const statistics = [
      { interface: 2, received: 0, accepted: 0, lost: 1 },
      { interface: 0, received: 100, accepted: 40, lost: 10 },
      { interface: 1, received: 0, accepted: 0, lost: 0 },
    ];
    statistics.forEach((each, n) => {
      expect(blocks[n + 1].readUInt32LE(8)).toBe(each.interface);
      expect(counts(blocks[n + 1])).toBe(counts(Buffer.from(interfaceStatistics({ ...timed, ...each }))));
    });
  });
});
