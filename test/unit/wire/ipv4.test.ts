import { describe, expect, it } from "vitest";
import * as ipv4 from "../../../src/wire/ipv4.js";
import { address, get16, hex, onesSum, put16, toHex } from "../../support/frames.js";
import { Random } from "../../support/random.js";
import { prefilled, viewOf } from "./buffers.js";

/** The header of RFC 1071's usual example: 192.168.0.1 to 192.168.0.199, UDP. */
const HEADER = "4500 0073 0000 4000 40 11 b861 c0a80001 c0a800c7";
/** With router alert (RFC 2113): 6 words. */
const WITH_OPTIONS = "46c0 0020 0001 2001 01 02 0000 c0000201 cb007101 94040000";

function checksumOk(view: DataView, length: number): boolean {
  const word = (n: number) => view.getInt32(4 * n);
  const sum = ipv4.headerSum(word(0), word(1), word(2), word(3), word(4));
  return ipv4.checksumOk(view, 0, length, sum);
}

describe("ipv4", () => {
  it("reads every field", () => {
    const view = viewOf(`a5 ${HEADER}`);
    expect(ipv4.headerLength(view, 1)).toBe(20);
    expect(ipv4.totalLength(view, 1)).toBe(0x73);
    expect(ipv4.fragment(view, 1)).toBe(ipv4.DONT_FRAGMENT);
    expect(ipv4.ttl(view, 1)).toBe(64);
    expect(ipv4.protocol(view, 1)).toBe(ipv4.PROTOCOL_UDP);
    expect(ipv4.source(view, 1)).toBe(address("192.168.0.1"));
    expect(ipv4.destination(view, 1)).toBe(address("192.168.0.199"));
  });

  it("accepts a right checksum, with and without options", () => {
    expect(checksumOk(viewOf(HEADER), 20)).toBe(true);
    const bytes = hex(WITH_OPTIONS);
    const view = new DataView(bytes.buffer);
    expect(ipv4.headerLength(view, 0)).toBe(24);
    expect(checksumOk(view, 24)).toBe(false);
    ipv4.setChecksum(view, 0, 24);
    expect(checksumOk(view, 24)).toBe(true);
    expect(onesSum(bytes)).toBe(0xffff);
  });

  it("notices every single flipped bit", () => {
    const bytes = hex(WITH_OPTIONS);
    const view = new DataView(bytes.buffer);
    ipv4.setChecksum(view, 0, 24);
    for (let bit = 0; bit < 24 * 8; bit++) {
      bytes[bit >> 3] ^= 1 << (bit & 7);
      expect(checksumOk(view, 24), `bit ${bit}`).toBe(false);
      bytes[bit >> 3] ^= 1 << (bit & 7);
    }
  });

  it("emits twenty bytes and no more", () => {
    const { bytes, view } = prefilled(24);
    const [source, destination] = [address("192.168.0.1"), address("192.168.0.199")];
    ipv4.emit(view, 2, 0x73, 0, ipv4.DONT_FRAGMENT, 64, ipv4.PROTOCOL_UDP, source, destination);
    expect(toHex(bytes)).toBe(toHex(hex(`a5a5 ${HEADER} a5a5`)));
  });

  it("decrements every TTL, and the checksum equals a recomputed one", () => {
    const random = new Random(1);
    for (let round = 0; round < 50; round++) {
      for (let ttl = 1; ttl < 256; ttl++) {
        const bytes = random.bytes(20);
        bytes[0] = 0x45;
        bytes[8] = ttl;
        put16(bytes, 10, 0);
        put16(bytes, 10, 0xffff - onesSum(bytes));
        const view = new DataView(bytes.buffer);
        ipv4.decrementTtl(view, 0);
        expect(bytes[8]).toBe(ttl - 1);
        const updated = get16(bytes, 10);
        put16(bytes, 10, 0);
        expect(updated).toBe(0xffff - onesSum(bytes));
      }
    }
  });

  it("decrementing leaves the protocol beside the TTL alone", () => {
    const bytes = hex(HEADER);
    ipv4.decrementTtl(new DataView(bytes.buffer), 0);
    expect(toHex(bytes)).toBe(toHex(hex("4500 0073 0000 4000 3f 11 b961 c0a80001 c0a800c7")));
  });

  it.each([
    ["isMulticast", ipv4.isMulticast, ["224.0.0.0", "239.255.255.255"], ["223.255.255.255", "240.0.0.0"]],
    ["isLoopback", ipv4.isLoopback, ["127.0.0.0", "127.255.255.255"], ["126.255.255.255", "128.0.0.0"]],
    ["isLinkLocal", ipv4.isLinkLocal, ["169.254.0.0", "169.254.255.255"], ["169.253.255.255", "169.255.0.0"]],
    ["isThisNetwork", ipv4.isThisNetwork, ["0.0.0.0", "0.255.255.255"], ["1.0.0.0", "255.255.255.255"]],
    ["isReserved", ipv4.isReserved, ["240.0.0.0", "255.255.255.255"], ["239.255.255.255", "0.0.0.0"]],
  ])("%s at its borders", (_, is, inside, outside) => {
    for (const text of inside) expect(is(address(text)), text).toBe(true);
    for (const text of outside) expect(is(address(text)), text).toBe(false);
  });

  it.each(["0.0.0.0", "10.1.235.193", "192.168.2.31", "255.255.255.255"])("formats %s", (text) => {
    expect(ipv4.format(address(text))).toBe(text);
  });
});
