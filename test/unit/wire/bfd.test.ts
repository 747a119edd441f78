import { describe, expect, it } from "vitest";
import * as bfd from "../../../src/wire/bfd.js";
import { hex, toHex } from "../../support/frames.js";
import { prefilled, viewOf } from "./buffers.js";

/** Up, Poll, multiplier 3, 300 ms and 50 ms. */
const UP = "20 e0 03 18 00010203 a0b0c0d0 000493e0 0000c350 00000000";

describe("bfd", () => {
  it("reads a packet", () => {
    const view = viewOf(`a5a5 ${UP}`);
    expect(bfd.check(view, 2, 24)).toBe(bfd.VALID);
    expect(bfd.state(view, 2)).toBe(bfd.UP);
    expect(bfd.flags(view, 2)).toBe(bfd.FLAG_POLL);
    expect(bfd.diagnostic(view, 2)).toBe(bfd.DIAG_NONE);
    expect(bfd.detectMult(view, 2)).toBe(3);
    expect(bfd.myDiscriminator(view, 2)).toBe(0x00010203);
    expect(bfd.yourDiscriminator(view, 2)).toBe(0xa0b0c0d0 | 0);
    expect(bfd.desiredMinTx(view, 2)).toBe(300_000);
    expect(bfd.requiredMinRx(view, 2)).toBe(50_000);
  });

  it("writes every byte of a packet, and no other", () => {
    const { bytes, view } = prefilled(28);
    const { DIAG_DETECTION_TIME_EXPIRED, DOWN, FLAG_FINAL } = bfd;
    bfd.emit(
      view,
      2,
      DIAG_DETECTION_TIME_EXPIRED,
      DOWN,
      FLAG_FINAL,
      5,
      0xdeadbeef | 0,
      7,
      1_000_000,
      4_000_000_000,
    );
    expect(toHex(bytes)).toBe(
      toHex(hex("a5a5 21 50 05 18 deadbeef 00000007 000f4240 ee6b2800 00000000 a5a5")),
    );
    expect(bfd.check(view, 2, 24)).toBe(bfd.VALID);
    expect(bfd.requiredMinRx(view, 2)).toBe(4_000_000_000);
  });

  it.each([
    ["a byte too few", bfd.TOO_SHORT, UP, 23],
    ["nothing", bfd.TOO_SHORT, UP, 0],
    ["version 0", bfd.BAD_VERSION, `00${UP.slice(2)}`, 24],
    ["version 2", bfd.BAD_VERSION, `40${UP.slice(2)}`, 24],
    ["length below the header", bfd.BAD_LENGTH, UP.replace("03 18", "03 17"), 24],
    ["length beyond the datagram", bfd.BAD_LENGTH, UP.replace("03 18", "03 19"), 24],
    ["authentication that does not fit", bfd.BAD_LENGTH, UP.replace("e0 03", "e4 03"), 24],
    [
      "authentication, which is not in use",
      bfd.AUTHENTICATED,
      `${UP.replace("e0 03 18", "e4 03 1a")} 0102`,
      26,
    ],
    ["multiplier 0", bfd.ZERO_DETECT_MULT, UP.replace("e0 03", "e0 00"), 24],
    ["multipoint", bfd.MULTIPOINT, UP.replace("e0 03", "e1 03"), 24],
    ["my discriminator 0", bfd.ZERO_MY_DISCRIMINATOR, UP.replace("00010203", "00000000"), 24],
    ["Up to nobody", bfd.ZERO_YOUR_DISCRIMINATOR, UP.replace("a0b0c0d0", "00000000"), 24],
    [
      "Init to nobody",
      bfd.ZERO_YOUR_DISCRIMINATOR,
      UP.replace("e0", "80").replace("a0b0c0d0", "00000000"),
      24,
    ],
  ])("refuses %s", (_, fault, text, length) => {
    expect(bfd.check(viewOf(text), 0, length)).toBe(fault);
  });

  it.each([
    ["Down to nobody", UP.replace("e0", "40").replace("a0b0c0d0", "00000000"), 24],
    ["AdminDown to nobody", UP.replace("e0", "00").replace("a0b0c0d0", "00000000"), 24],
    ["bytes behind the stated length", `${UP} 0000`, 26],
    ["demand", UP.replace("e0 03", "e2 03"), 24],
  ])("takes %s", (_, text, length) => {
    expect(bfd.check(viewOf(text), 0, length)).toBe(bfd.VALID);
  });
});
