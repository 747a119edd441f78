import { describe, expect, it } from "vitest";
import * as icmp from "../../../src/wire/icmp.js";
import { hex, toHex } from "../../support/frames.js";
import { prefilled } from "./buffers.js";

describe("icmp", () => {
  it("emits fragmentation needed with the next-hop MTU and without checksum", () => {
    const { bytes, view } = prefilled(12);
    icmp.emitError(view, 2, icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED, 1450);
    expect(toHex(bytes)).toBe(toHex(hex("a5a5 03 04 0000 0000 05aa a5a5")));
  });

  it("emits time exceeded with a rest of zero", () => {
    const { bytes, view } = prefilled(12);
    icmp.emitError(view, 2, icmp.TIME_EXCEEDED, 0, 0);
    expect(toHex(bytes)).toBe(toHex(hex("a5a5 0b 00 0000 0000 0000 a5a5")));
  });

  it("knows the errors of RFC 1812 among all types", () => {
    const errors = Array.from({ length: 256 }, (_, type) => type).filter(icmp.isError);
    expect(errors).toEqual([3, 4, 5, 11, 12]);
  });
});
