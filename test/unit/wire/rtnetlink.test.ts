import { describe, expect, it } from "vitest";
import { LinkEvents } from "../../../src/port/LinkEvents.js";
import * as rtnetlink from "../../../src/wire/rtnetlink.js";

/** A message about eth0 (index 2) with a name and, unless it is null, a count of lost carriers. */
function message(type: number, flags: number, losses: number | null): DataView {
  const bytes = new Uint8Array(60).fill(0xa5);
  const view = new DataView(bytes.buffer);
  const length = losses === null ? 44 : 52;
  view.setUint32(0, length, true);
  view.setUint16(4, type, true);
  view.setInt32(20, 2, true);
  view.setUint32(24, flags, true);
  // IFLA_IFNAME "eth0", nine bytes and padding.
  bytes.set([9, 0, 3, 0, 0x65, 0x74, 0x68, 0x30, 0, 0, 0, 0], 32);
  if (losses !== null) {
    bytes.set([8, 0, 48, 0], 44);
    view.setUint32(48, losses, true);
  }
  return view;
}

const { RTM_NEWLINK, RTM_DELLINK, IFF_UP, IFF_LOWER_UP } = rtnetlink;

describe("messages of rtnetlink about links", () => {
  it("are read", () => {
    const view = message(RTM_NEWLINK, IFF_UP | IFF_LOWER_UP, 7);
    expect(rtnetlink.isLink(view, 0, 52)).toBe(true);
    expect(rtnetlink.hasCarrier(view, 0)).toBe(true);
    expect(rtnetlink.carrierDownCount(view, 0)).toBe(7);
  });

  it.each([
    ["down", RTM_NEWLINK, IFF_LOWER_UP],
    ["without carrier", RTM_NEWLINK, IFF_UP],
    ["gone", RTM_DELLINK, IFF_UP | IFF_LOWER_UP],
  ])("a link that is %s has no carrier", (_what, type, flags) => {
    expect(rtnetlink.hasCarrier(message(type, flags, 1), 0)).toBe(false);
  });

  it("shorter than they say, or about something else, are none", () => {
    const view = message(RTM_NEWLINK, 0, 1);
    expect(rtnetlink.isLink(view, 0, 51)).toBe(false);
    expect(rtnetlink.isLink(view, 0, 31)).toBe(false);
    expect(rtnetlink.isLink(message(24, 0, 1), 0, 52)).toBe(false);
  });

  it("a count that is not there, or lies behind an attribute that ends outside, is -1", () => {
    expect(rtnetlink.carrierDownCount(message(RTM_NEWLINK, 0, null), 0)).toBe(-1);
    const view = message(RTM_NEWLINK, 0, 7);
    view.setUint16(32, 200, true);
    expect(rtnetlink.carrierDownCount(view, 0)).toBe(-1);
    view.setUint16(32, 0, true);
    expect(rtnetlink.carrierDownCount(view, 0)).toBe(-1);
  });
});

describe("the LAN interface's state", () => {
  it("a carrier that went and came back between two messages was lost", () => {
    const link = new LinkEvents();
    const up = IFF_UP | IFF_LOWER_UP;
    expect(link.receive(message(RTM_NEWLINK, up, 7), 0, 52)).toBe(true);
    expect([link.carrier, link.lost]).toEqual([true, false]);
    link.receive(message(RTM_NEWLINK, up, 7), 0, 52);
    expect([link.carrier, link.lost]).toEqual([true, false]);
    link.receive(message(RTM_NEWLINK, up, 8), 0, 52);
    expect([link.carrier, link.lost]).toEqual([true, true]);
    expect(link.receive(message(24, 0, 8), 0, 52)).toBe(false);
    link.reset();
    expect(link.carrier).toBe(false);
    link.receive(message(RTM_NEWLINK, up, 9), 0, 52);
    expect([link.carrier, link.lost]).toEqual([true, false]);
  });
});
