import { describe, expect, it } from "vitest";
import * as vxlan from "../../../src/wire/vxlan.js";
import { hex, toHex } from "../../support/frames.js";
import { prefilled, viewOf } from "./buffers.js";

describe("vxlan", () => {
  it("reads flag and VNI, whatever the reserved fields hold", () => {
    const view = viewOf("a5 08ffffff 001000ff");
    expect(vxlan.hasVni(view, 1)).toBe(true);
    expect(vxlan.vni(view, 1)).toBe(4096);
  });

  it("a VNI with its highest bit is no negative number", () => {
    expect(vxlan.vni(viewOf("08000000 ffffff00"), 0)).toBe(0xffffff);
  });

  it("misses the flag", () => {
    expect(vxlan.hasVni(viewOf("f7000000 00100000"), 0)).toBe(false);
  });

  it.each([0, 1, 4096, 0xffffff])("emits VNI %i in eight bytes and no more", (vni) => {
    const { bytes, view } = prefilled(12);
    vxlan.emit(view, 2, vni);
    const digits = vni.toString(16).padStart(6, "0");
    expect(toHex(bytes)).toBe(toHex(hex(`a5a5 08000000 ${digits}00 a5a5`)));
    expect(vxlan.vni(view, 2)).toBe(vni);
  });

  it("adds fifty bytes over IPv4", () => {
    expect(vxlan.OVERHEAD_IPV4).toBe(50);
  });
});
