import { describe, expect, it } from "vitest";
import * as checksum from "../../../src/wire/checksum.js";
import { address, hex, onesSum } from "../../support/frames.js";
import { Random } from "../../support/random.js";
import { viewOf } from "./buffers.js";

describe("checksum", () => {
  it("sums the example of RFC 1071 §3", () => {
    expect(checksum.fold(checksum.sum(viewOf("0001 f203 f4f5 f6f7"), 0, 8, 0))).toBe(0xddf2);
    expect(checksum.finish(checksum.sum(viewOf("0001 f203 f4f5 f6f7"), 0, 8, 0))).toBe(0x220d);
  });

  it("counts an odd last byte as the high half of a word", () => {
    expect(checksum.sum(viewOf("0102 03 ff"), 0, 3, 0)).toBe(0x0402);
  });

  it("equals the plain sum at every length and offset, from any initial value", () => {
    const random = new Random(2);
    const bytes = random.bytes(300);
    const view = new DataView(bytes.buffer as ArrayBuffer);
    for (let length = 0; length <= 200; length++) {
      const offset = random.below(90);
      const initial = random.below(0x10000);
      const plain = onesSum(bytes.subarray(offset, offset + length)) + initial;
      const fast = checksum.sum(view, offset, length, initial);
      expect(checksum.fold(fast)).toBe(checksum.fold(plain));
    }
  });

  it("64 KiB of 0xff behind the largest pseudo-header do not overflow", () => {
    const view = new DataView(new Uint8Array(65_536).fill(0xff).buffer);
    const pseudo = checksum.pseudo4(-1, -1, 255) + 0xffff;
    const sum = checksum.sum(view, 0, 65_536, pseudo);
    expect(sum).toBeLessThan(2 ** 32);
    expect(checksum.fold(sum)).toBe(checksum.fold(pseudo));
  });

  it.each([
    [0, 0],
    [0xffff, 0xffff],
    [0x10000, 1],
    [0x1fffe, 0xffff],
    [0xffff0000, 0xffff],
    [0xffffffff, 0xffff],
    [0xfffeffff, 0xfffe],
    [0x8000_0001, 0x8001],
  ])("folds %d to %d", (sum, folded) => {
    expect(checksum.fold(sum)).toBe(folded);
  });

  it("pseudo4 is the sum of the pseudo-header without its length", () => {
    const random = new Random(3);
    for (let n = 0; n < 1000; n++) {
      const bytes = random.bytes(12);
      bytes[8] = 0;
      bytes.fill(0, 10);
      const view = new DataView(bytes.buffer as ArrayBuffer);
      const pseudo = checksum.pseudo4(view.getInt32(0), view.getInt32(4), bytes[9]);
      expect(checksum.fold(pseudo)).toBe(onesSum(bytes));
    }
  });

  it("a UDP datagram between walkthrough pods has the checksum that adding up by hand gives", () => {
    // 10.1.235.193:40000 → 10.1.79.65:53, "hi"
    const datagram = hex("9c40 0035 000a 0000 6869");
    const pseudo = checksum.pseudo4(address("10.1.235.193"), address("10.1.79.65"), 17);
    const view = new DataView(datagram.buffer);
    expect(checksum.finish(checksum.sum(view, 0, 10, pseudo + 10))).toBe(0xabf6);
  });
});

describe("checksum.update (RFC 1624)", () => {
  /** Checksum of words, computed anew. */
  function recomputed(words: readonly number[]): number {
    return checksum.finish(words.reduce((sum, w) => sum + w, 0));
  }

  it("equals recomputation for random data and random changes", () => {
    const random = new Random(4);
    for (let n = 0; n < 20_000; n++) {
      const words = Array.from({ length: 10 }, () => random.below(0x10000));
      words[0] |= 0x4000; // a header's first word is never 0
      const before = recomputed(words);
      const at = random.between(1, 9);
      const changed = random.oneIn(4) ? random.pick([0, 0xffff]) : random.below(0x10000);
      const after = checksum.update(before, words[at], changed);
      words[at] = changed;
      expect(after).toBe(recomputed(words));
    }
  });

  it("RFC 1624 §4: the case where equation 4 gives 0xffff gives 0", () => {
    expect(checksum.update(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
  });

  it.each([
    ["a word that stays", 0x1234, 0xabcd, 0xabcd],
    ["0 to 0xffff, which is the same sum", 0x1234, 0x0000, 0xffff],
    ["0xffff to 0, which is the same sum", 0x1234, 0xffff, 0x0000],
  ])("%s leaves the checksum", (_, sum, from, to) => {
    expect(checksum.update(sum, from, to)).toBe(sum);
  });

  it("takes 0xffff for 0, as a sender may write it", () => {
    expect(checksum.update(0xffff, 0x4011, 0x3f11)).toBe(checksum.update(0x0000, 0x4011, 0x3f11));
  });
});
