import { describe, expect, it } from "vitest";
import * as tcp from "../../../src/wire/tcp.js";
import { viewOf } from "./buffers.js";

/** 40000 → 80, sequence 1, acknowledgement 2, PSH ACK, window 512, NOP NOP timestamps. */
const HEADER = "9c40 0050 00000001 00000002 80 18 0200 beef 0000 0101080a 0000000a 0000000b";

describe("tcp", () => {
  it("fields are where RFC 9293 has them", () => {
    const view = viewOf(`a5 ${HEADER}`);
    expect(view.getInt32(1 + tcp.SEQUENCE)).toBe(1);
    expect(view.getInt32(1 + tcp.ACKNOWLEDGEMENT)).toBe(2);
    expect(view.getUint8(1 + tcp.FLAGS)).toBe(tcp.PSH | tcp.ACK);
    expect(view.getUint16(1 + tcp.WINDOW)).toBe(512);
    expect(view.getUint16(1 + tcp.CHECKSUM)).toBe(0xbeef);
  });

  it.each([
    ["5f", 20],
    ["80", 32],
    ["f0", 60],
    ["40", 16],
    ["00", 0],
  ])("header length of data offset byte 0x%s", (byte, length) => {
    const view = viewOf(HEADER);
    view.setUint8(tcp.DATA_OFFSET, Number.parseInt(byte, 16));
    expect(tcp.headerLength(view, 0)).toBe(length);
  });

  it("flags are the bits of RFC 9293 and RFC 3168", () => {
    const { FIN, SYN, RST, PSH, ACK, URG, ECE, CWR } = tcp;
    expect([FIN, SYN, RST, PSH, ACK, URG, ECE, CWR]).toEqual([1, 2, 4, 8, 16, 32, 64, 128]);
  });
});
