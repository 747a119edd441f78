/** The fast checksum routines against the plain one, and the plain one against arithmetic. */

import { expect, test } from "vitest";
import { native } from "../../../src/binding/index.js";
import { random, sum16 } from "./support.js";

const LONGEST = 9000;
const next = random(1071);
const buffer = new ArrayBuffer(1 << 17);
const bytes = new Uint8Array(buffer);
for (let i = 0; i < bytes.length; i++) bytes[i] = next() * 256;

test("the example of RFC 1071 §3", () => {
  const example = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  expect(native.checksumPlain(example.buffer, 0, 8, 0)).toBe(0xddf2);
  expect(native.checksum(example.buffer, 0, 8, 0)).toBe(0xddf2);
  expect(native.checksum(example.buffer, 0, 7, 0)).toBe(0xdcfb);
  expect(native.checksum(example.buffer, 0, 0, 0)).toBe(0);
});

test("the plain routine agrees with arithmetic", () => {
  for (let i = 0; i < 200; i++) {
    const length = Math.floor(next() * 300);
    const offset = Math.floor(next() * 64);
    const initial = Math.floor(next() * 0x100000000);
    const expected = sum16(bytes.subarray(offset, offset + length), initial);
    expect(native.checksumPlain(buffer, offset, length, initial)).toBe(expected);
  }
});

test("the routine in use is the best one, and plain is always there", () => {
  expect(native.checksumKernel).toBe(native.checksumKernels[0]);
  expect(native.checksumKernels.at(-1)).toBe("plain");
});

/** Where `kernel` differs from the plain routine, or nothing. */
function differs(kernel: string, offset: number, length: number, initial: number): string | undefined {
  const expected = native.checksumPlain(buffer, offset, length, initial);
  const sum = native.checksum(buffer, offset, length, initial, kernel);
  return sum === expected ? undefined : `${length} bytes at ${offset}: ${sum}, not ${expected}`;
}

for (const kernel of native.checksumKernels) {
  test(`${kernel}: every length from 0 to ${LONGEST} at every alignment of a word`, () => {
    for (let length = 0; length <= LONGEST; length++) {
      for (let offset = 0; offset < 8; offset++) {
        const wrong = differs(kernel, offset, length, length);
        if (wrong) throw new Error(wrong);
      }
    }
  });

  test(`${kernel}: short lengths at every alignment of a cache line, long ones at random`, () => {
    for (let offset = 0; offset < 64; offset++) {
      for (let length = 0; length < 400; length++) {
        const wrong = differs(kernel, offset, length, 0);
        if (wrong) throw new Error(wrong);
      }
    }
    for (let i = 0; i < 2000; i++) {
      const length = Math.floor(next() * 66000);
      const wrong = differs(kernel, Math.floor(next() * 64), length, Math.floor(next() * 0x100000000));
      if (wrong) throw new Error(wrong);
    }
  });

  test(`${kernel}: all zeros give 0, all ones 0xffff, and bytes behind the end do not count`, () => {
    const uniform = new Uint8Array(70000);
    for (const length of [1, 2, 3, 40, 127, 128, 129, 191, 192, 255, 256, 1400, 65535]) {
      uniform.fill(0).fill(0xa5, length);
      expect(native.checksum(uniform.buffer, 0, length, 0, kernel)).toBe(0);
      uniform.fill(0xff, 0, length);
      expect(native.checksum(uniform.buffer, 0, length, 0, kernel)).toBe(
        length === 1 ? 0xff00 : sum16(uniform.subarray(0, length)),
      );
    }
  });
}

test("what lies outside the buffer is refused", () => {
  const small = new ArrayBuffer(8);
  expect(() => native.checksum(small, 0, 9, 0)).toThrow(RangeError);
  expect(() => native.checksum(small, 9, 0, 0)).toThrow(RangeError);
  expect(() => native.checksum(small, 4, -1, 0)).toThrow(RangeError);
  expect(() => native.checksum(small, 0, 8, 0, "none")).toThrow(RangeError);
  expect(native.checksum(small, 8, 0, 0)).toBe(0);
});
