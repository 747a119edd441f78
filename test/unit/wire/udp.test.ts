import { expect, it } from "vitest";
import * as udp from "../../../src/wire/udp.js";
import { viewOf } from "./buffers.js";

it("udp: fields are where RFC 768 has them", () => {
  const view = viewOf("9c40 12b5 000a abf6 6869");
  expect(view.getUint16(udp.SOURCE_PORT)).toBe(40_000);
  expect(view.getUint16(udp.DESTINATION_PORT)).toBe(4789);
  expect(view.getUint16(udp.LENGTH)).toBe(10);
  expect(view.getUint16(udp.CHECKSUM)).toBe(0xabf6);
  expect(view.getUint16(udp.HEADER)).toBe(0x6869);
});
