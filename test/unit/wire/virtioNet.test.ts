import { describe, expect, it } from "vitest";
import * as virtioNet from "../../../src/wire/virtioNet.js";
import { hex, toHex } from "../../support/frames.js";
import { prefilled, viewOf } from "./buffers.js";

/** NEEDS_CSUM, TCPv4 with ECN, headers 66, segments of 1398, checksum at 34 + 16; little-endian. */
const HEADER = "01 81 4200 7605 2200 1000";

describe("virtioNet", () => {
  it("reads every field", () => {
    const view = viewOf(`a5 ${HEADER}`);
    expect(virtioNet.flags(view, 1)).toBe(virtioNet.NEEDS_CSUM);
    expect(virtioNet.gsoType(view, 1)).toBe(virtioNet.GSO_TCPV4 | virtioNet.GSO_ECN);
    expect(virtioNet.gsoSize(view, 1)).toBe(1398);
    expect(virtioNet.csumStart(view, 1)).toBe(34);
    expect(virtioNet.csumOffset(view, 1)).toBe(16);
  });

  it("emits ten bytes and no more", () => {
    const { bytes, view } = prefilled(14);
    virtioNet.emit(view, 2, 1, 0x81, 66, 1398, 34, 16);
    expect(toHex(bytes)).toBe(toHex(hex(`a5a5 ${HEADER} a5a5`)));
  });

  it("emits the fields of a tunnel header behind the first ten bytes", () => {
    const { bytes, view } = prefilled(26);
    virtioNet.emitTunnel(view, 1, 34, 64);
    expect(toHex(bytes)).toBe(toHex(hex("a5 a5a5a5a5a5a5a5a5a5a5 0000 00000000 0000 0000 2200 4000 a5")));
  });

  it("lengths are those of struct virtio_net_hdr and virtio_net_hdr_v1_hash_tunnel", () => {
    expect([virtioNet.HEADER, virtioNet.HEADER_TUNNEL]).toEqual([10, 24]);
  });
});
