import { describe, expect, it } from "vitest";
import { hashFlow } from "../../../src/tables/halfSipHash.js";
import { Random } from "../../support/random.js";

describe("hashFlow", () => {
  it("is HalfSipHash-1-3: the reference's vector of 17 bytes, 00 01 02 … 10", () => {
    const hash = hashFlow(0x03020100, 0x07060504, 0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c, 0x10);
    expect(hash >>> 0).toBe(0x2b1cd04b);
  });

  it("depends on every bit of key and message: about half of the bits turn", () => {
    const random = new Random(1);
    const words = Array.from({ length: 6 }, () => random.word());
    const hash = (w: readonly number[]) => hashFlow(w[0]!, w[1]!, w[2]!, w[3]!, w[4]!, w[5]!, 6);
    const bits = (n: number) => n.toString(2).replaceAll("0", "").length;
    let total = 0;
    for (let word = 0; word < 6; word++) {
      for (let bit = 0; bit < 32; bit++) {
        const other = words.map((value, n) => (n === word ? value ^ (1 << bit) : value));
        const turned = bits((hash(words) ^ hash(other)) >>> 0);
        expect(turned, `word ${word}, bit ${bit}`).toBeGreaterThan(3);
        total += turned;
      }
    }
    expect(total / (6 * 32)).toBeGreaterThan(15);
    expect(total / (6 * 32)).toBeLessThan(17);
  });
});
