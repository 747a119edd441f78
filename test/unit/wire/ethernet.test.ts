import { describe, expect, it } from "vitest";
import * as ethernet from "../../../src/wire/ethernet.js";
import { toHex } from "../../support/frames.js";
import { prefilled, viewOf } from "./buffers.js";

const FRAME = "eeeeeeeeeeee 02700a01ebc1 0800 4500";

describe("ethernet", () => {
  it("reads type and destination", () => {
    const view = viewOf(`a5a5a5 ${FRAME}`);
    expect(ethernet.type(view, 3)).toBe(ethernet.TYPE_IPV4);
    expect(ethernet.isTo(view, 3, ethernet.GATEWAY_HI, ethernet.GATEWAY_LO)).toBe(true);
    expect(ethernet.isTo(view, 3, ethernet.BROADCAST_HI, ethernet.BROADCAST_LO)).toBe(false);
  });

  it.each([
    ["first byte", "efeeeeeeeeee"],
    ["second byte", "eeefeeeeeeee"],
    ["third byte", "eeeeefeeeeee"],
    ["last byte", "eeeeeeeeeeef"],
  ])("isTo compares the %s", (_, mac) => {
    const view = viewOf(`${mac} 02700a01ebc1 0800`);
    expect(ethernet.isTo(view, 0, ethernet.GATEWAY_HI, ethernet.GATEWAY_LO)).toBe(false);
  });

  it.each([
    ["a pod's", "02700a01ebc1", false],
    ["the gateway's", "eeeeeeeeeeee", false],
    ["broadcast", "ffffffffffff", true],
    ["IPv6 all nodes", "333300000001", true],
    ["mDNS", "01005e0000fb", true],
  ])("isMulticast of %s", (_, mac, expected) => {
    expect(ethernet.isMulticast(viewOf(mac), 0)).toBe(expected);
  });

  it("the broadcast constants are ff:ff:ff:ff:ff:ff", () => {
    expect(ethernet.isTo(viewOf("ffffffffffff"), 0, ethernet.BROADCAST_HI, ethernet.BROADCAST_LO)).toBe(true);
  });

  it("setMacs writes twelve bytes and no more", () => {
    const { bytes, view } = prefilled(18);
    ethernet.setMacs(view, 2, 0x0270, 0x0a01ebc1, 0xeeee, 0xeeeeeeee | 0);
    expect(toHex(bytes)).toBe(`a5a5${"02700a01ebc1"}${"eeeeeeeeeeee"}a5a5a5a5`);
  });

  it("emit writes fourteen bytes and no more", () => {
    const { bytes, view } = prefilled(18);
    ethernet.emit(view, 2, 0xffff, -1, 0x661e, 0x1e, ethernet.TYPE_ARP);
    expect(toHex(bytes)).toBe(`a5a5${"ffffffffffff"}${"661e0000001e"}0806a5a5`);
  });
});
