import { expect, test } from "vitest";
import {
  containsAddress,
  containsPrefix,
  formatCidr,
  formatIpv4,
  hasHostBits,
  maskOf,
  networkOf,
  overlaps,
  parseCidr,
  parseIpv4,
} from "../../../src/model/ipv4.js";

test("addresses are int32 in network order", () => {
  expect(parseIpv4("192.168.2.30")).toBe(0xc0a8021e | 0);
  expect(parseIpv4("0.0.0.0")).toBe(0);
  expect(parseIpv4("255.255.255.255")).toBe(-1);
  for (const text of ["192.168.2.30", "0.0.0.0", "255.255.255.255", "10.1.235.192"])
    expect(formatIpv4(parseIpv4(text)!)).toBe(text);
});

test.each([
  "",
  "1.2.3",
  "1.2.3.4.5",
  "1.2.3.256",
  "01.2.3.4",
  " 1.2.3.4",
  "1.2.3.4 ",
  "::1",
  "1.2.3.x",
  "1e1.2.3.4",
])("%j is no address", (text) => expect(parseIpv4(text)).toBeNull());

test("prefixes", () => {
  expect(parseCidr("10.1.235.192/26")).toEqual({ address: 0x0a01ebc0, length: 26 });
  for (const text of ["10.1.235.192", "10.1.235.192/33", "10.1/16", "10.1.0.0/", "10.1.0.0/-1"])
    expect(parseCidr(text)).toBeNull();
  expect(maskOf(0)).toBe(0);
  expect(maskOf(32)).toBe(-1);
  expect(maskOf(26) >>> 0).toBe(0xffffffc0);
  const odd = parseCidr("10.1.235.193/26")!;
  expect(hasHostBits(odd)).toBe(true);
  expect(formatCidr(networkOf(odd))).toBe("10.1.235.192/26");
  expect(hasHostBits(parseCidr("0.0.0.0/0")!)).toBe(false);
});

test("containment and overlap", () => {
  const pool = parseCidr("10.1.0.0/16")!;
  const block = parseCidr("10.1.235.192/26")!;
  expect(containsAddress(block, parseIpv4("10.1.235.255")!)).toBe(true);
  expect(containsAddress(block, parseIpv4("10.1.236.0")!)).toBe(false);
  expect(containsPrefix(pool, block)).toBe(true);
  expect(containsPrefix(block, pool)).toBe(false);
  expect(overlaps(pool, block) && overlaps(block, pool)).toBe(true);
  expect(overlaps(block, parseCidr("10.1.235.128/26")!)).toBe(false);
  expect(overlaps(parseCidr("0.0.0.0/0")!, parseCidr("200.0.0.0/8")!)).toBe(true);
});
