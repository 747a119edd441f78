/** Literal bytes of each block, by draft-ietf-opsawg-pcapng §3 and §4. */
import { describe, expect, it } from "vitest";
import {
  enhancedPacket,
  FLAG_CHECKSUM_NOT_READY,
  FLAG_INBOUND,
  interfaceDescription,
  interfaceStatistics,
  LINK_ETHERNET,
  LINK_IPV4,
  sectionHeader,
} from "../../../src/capture/pcapng.js";
import { Tally } from "../../../src/capture/Tally.js";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const join = (...lines: string[]) => lines.join("").replace(/\s/g, "");
/** 2023-11-14T22:13:20.123456789Z: 0x1797_9cfe_3d85_cd15 ns. */
const TIME = 1_700_000_000_123_456_789n;

describe("pcapng", () => {
  it("section header", () => {
    expect(hex(sectionHeader({ os: "Linux", application: "pw", comment: "abcd" }))).toBe(
      join(
        "0a0d0d0a 3c000000",
        "4d3c2b1a 0100 0000 ffffffffffffffff",
        "0100 0400 61626364",
        "0300 0500 4c696e7578 000000",
        "0400 0200 7077 0000",
        "00000000",
        "3c000000",
      ),
    );
  });

  it("section header without options ends without opt_endofopt", () => {
    expect(hex(sectionHeader({ os: "", application: "", comment: "" }))).toBe(
      join("0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000"),
    );
  });

  it("interface description", () => {
    const description = { linkType: LINK_ETHERNET, snapLength: 262_144, name: "inner", description: "" };
    expect(hex(interfaceDescription({ ...description, filter: "" }))).toBe(
      join(
        "01000000 2c000000",
        "0100 0000 00000400",
        "0200 0500 696e6e6572 000000",
        "0900 0100 09 000000",
        "00000000",
        "2c000000",
      ),
    );
    expect(hex(interfaceDescription({ ...description, linkType: LINK_IPV4, filter: "tcp" }))).toBe(
      join(
        "01000000 34000000",
        "e400 0000 00000400",
        "0200 0500 696e6e6572 000000",
        "0900 0100 09 000000",
        "0b00 0400 00746370",
        "00000000",
        "34000000",
      ),
    );
  });

  it("enhanced packet: data and options are padded, the high word of the time comes first", () => {
    const packet = enhancedPacket({
      interface: 2,
      timeNs: TIME,
      data: Uint8Array.of(1, 2, 3, 4, 5),
      originalLength: 1500,
      flags: FLAG_INBOUND | FLAG_CHECKSUM_NOT_READY,
      comment: "né",
    });
    expect(hex(packet)).toBe(
      join(
        "06000000 3c000000",
        "02000000 fe9c9717 15cd853d 05000000 dc050000",
        "0102030405 000000",
        "0100 0300 6ec3a9 00",
        "0200 0400 01020000",
        "00000000",
        "3c000000",
      ),
    );
  });

  it("interface statistics", () => {
    const statistics = { interface: 1, startNs: 1n, endNs: 1n << 32n, received: 7, accepted: 5, lost: 2 };
    expect(hex(interfaceStatistics(statistics))).toBe(
      join(
        "05000000 58000000",
        "01000000 01000000 00000000",
        "0200 0800 00000000 01000000",
        "0300 0800 01000000 00000000",
        "0400 0800 0700000000000000",
        "0500 0800 0200000000000000",
        "0600 0800 0500000000000000",
        "00000000",
        "58000000",
      ),
    );
  });
});

it("Tally counts packets and losses, wherever the pieces end", () => {
  const packet = enhancedPacket({
    interface: 0,
    timeNs: TIME,
    data: new Uint8Array(61),
    originalLength: 61,
    flags: 0,
    comment: "x",
  });
  const statistics = { interface: 0, startNs: 0n, endNs: TIME, received: 9, accepted: 9, lost: 3 };
  const stream = Buffer.concat([
    sectionHeader({ os: "", application: "", comment: "" }),
    packet,
    packet,
    interfaceStatistics(statistics),
    interfaceStatistics({ ...statistics, interface: 1, lost: 4 }),
  ]);
  for (const size of [1, 7, 64, stream.length]) {
    const tally = new Tally();
    for (let at = 0; at < stream.length; at += size) {
      expect(tally.complete && at < stream.length - 200).toBe(false);
      tally.take(stream.subarray(at, at + size));
    }
    expect({ ...tally }).toEqual({ packets: 2, lost: 7, complete: true });
  }
});
