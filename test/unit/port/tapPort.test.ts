import { describe, expect, it } from "vitest";
import { Arena } from "../../../src/packet/Arena.js";
import { Batch, PENDING } from "../../../src/packet/Batch.js";
import { ARENA, RX_LENGTH, RX_OFFSET, RX_PORT, RX_STRIDE } from "../../../src/packet/layout.js";
import { receiveTap } from "../../../src/port/TapPort.js";
import { concat, counting, vnet } from "../../support/frames.js";

/** The row that a frame with this virtio-net header becomes. */
function row(header: Uint8Array, frame = counting(60)) {
  const arena = new Arena(new ArrayBuffer(ARENA.bytes));
  const batch = new Batch();
  const d = 3 * RX_STRIDE;
  arena.bytes.set(concat(header, frame), 1000);
  arena.rx[d + RX_OFFSET] = 1000;
  arena.rx[d + RX_LENGTH] = header.length + frame.length;
  arena.rx[d + RX_PORT] = 17;
  receiveTap(arena, d, batch);
  expect(batch.count).toBe(1);
  return {
    offset: batch.offset[0],
    length: batch.length[0],
    port: batch.port[0],
    vtep: batch.vtep[0],
    gsoType: batch.gsoType[0],
    gsoSize: batch.gsoSize[0],
    csumStart: batch.csumStart[0],
    csumOffset: batch.csumOffset[0],
    verdict: batch.verdict[0],
  };
}

const PLAIN = {
  offset: 1010,
  length: 60,
  port: 17,
  vtep: -1,
  gsoType: 0,
  gsoSize: 0,
  csumStart: -1,
  csumOffset: 0,
  verdict: PENDING,
};

describe("receiveTap", () => {
  it.each([
    ["an empty header", vnet(), {}],
    ["DATA_VALID alone", vnet({ flags: 2 }), {}],
    ["offsets without NEEDS_CSUM are nothing", vnet({ csumStart: 34, csumOffset: 16 }), {}],
    [
      "a partial checksum",
      vnet({ flags: 1, csumStart: 34, csumOffset: 6 }),
      { csumStart: 34, csumOffset: 6 },
    ],
    [
      "TSO",
      vnet({ flags: 1, gsoType: 1, gsoSize: 1410, csumStart: 34, csumOffset: 16 }),
      { gsoType: 1, gsoSize: 1410, csumStart: 34, csumOffset: 16 },
    ],
    [
      "TSO with ECN",
      vnet({ flags: 1, gsoType: 0x81, gsoSize: 1410, csumStart: 34, csumOffset: 16 }),
      { gsoType: 1, gsoSize: 1410, csumStart: 34, csumOffset: 16 },
    ],
    ["ECN without GSO", vnet({ gsoType: 0x80, gsoSize: 9 }), {}],
    [
      "the largest values, untrusted",
      vnet({ flags: 0xff, gsoType: 0xff, gsoSize: 0xffff, csumStart: 0xffff, csumOffset: 0xffff }),
      {
        gsoType: 0x7f,
        gsoSize: 0xffff,
        csumStart: 0xffff,
        csumOffset: 0xffff,
      },
    ],
  ])("%s", (_, header, expected) => {
    expect(row(header)).toEqual({ ...PLAIN, ...expected });
  });
});
