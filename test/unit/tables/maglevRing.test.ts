/** Maglev rings: the properties that the paper measures, and the ladder of sizes. */
import { describe, expect, it } from "vitest";
import { hashAddress } from "../../../src/tables/hash.js";
import {
  MaglevRing,
  RING_SIZES,
  reducedWeights,
  ringHash,
  ringSize,
} from "../../../src/tables/MaglevRing.js";
import { address } from "../../support/frames.js";
import { Random } from "../../support/random.js";

/** Backends 10.1.0.0:80, 10.1.0.1:80, … as words. */
function backends(count: number, without = -1): Int32Array {
  const words: number[] = [];
  for (let i = 0; i < count; i++) if (i !== without) words.push((address("10.1.0.0") + i) | 0, 80);
  return Int32Array.from(words);
}

function ring(words: Int32Array, weights: number[] | null = null, size?: number): Uint16Array {
  const count = words.length / 2;
  const weight = weights === null ? count : weights.reduce((sum, each) => sum + each, 0);
  const slots = new Uint16Array(size ?? ringSize(weight)).fill(0xa5a5);
  new MaglevRing().fill(slots, words, 0, 2, count, weights);
  return slots;
}

function shares(slots: Uint16Array, count: number): number[] {
  const sums = new Array<number>(count).fill(0);
  for (const i of slots) sums[i]!++;
  return sums;
}

/** The paper's pseudocode as it stands, over numbers of any size. */
function reference(words: Int32Array, size: number): number[] {
  const count = words.length / 2;
  const permutation = Array.from({ length: count }, (_, i) => {
    const identity = words[2 * i]! ^ hashAddress(words[2 * i + 1]! ^ 0x1b873593);
    const offset = (hashAddress(identity) >>> 1) % size;
    const skip = ((hashAddress(identity ^ 0x5bd1e995) >>> 1) % (size - 1)) + 1;
    return (j: number) => (offset + j * skip) % size;
  });
  const next = new Array<number>(count).fill(0);
  const entry = new Array<number>(size).fill(-1);
  for (let n = 0; ; ) {
    for (let i = 0; i < count; i++) {
      let c = permutation[i]!(next[i]!);
      while (entry[c]! >= 0) c = permutation[i]!(++next[i]!);
      entry[c] = i;
      next[i]!++;
      if (++n === size) return entry;
    }
  }
}

/** Part of the slots of other backends that another ring gives to somebody else; `gone`: number in `before`. */
function disturbance(before: Uint16Array, after: Uint16Array, gone: number): number {
  let others = 0;
  let moved = 0;
  before.forEach((i, slot) => {
    if (i === gone) return;
    others++;
    if (after[slot] !== (i > gone ? i - 1 : i)) moved++;
  });
  return moved / others;
}

describe("the ladder", () => {
  it("has primes", () => {
    for (const size of RING_SIZES)
      for (let d = 2; d * d <= size; d++) expect(size % d, `${size} / ${d}`).not.toBe(0);
  });

  it.each([
    [1, 1],
    [2, 1021],
    [10, 1021],
    [11, 8191],
    [81, 8191],
    [82, 65521],
    [655, 65521],
    [656, 131071],
    [1310, 131071],
    [5000, 131071],
  ])("%i backends: %i slots", (count, slots) => expect(ringSize(count)).toBe(slots));
});

describe("population", () => {
  it.each([
    [2, 1021],
    [10, 1021],
    [50, 8191],
    [97, 65521],
    [1000, 131071],
  ])("%i backends in %i slots: as the paper's pseudocode has it", (count, size) => {
    expect([...ring(backends(count), null, size)]).toEqual(reference(backends(count), size));
  });

  it("a lone backend has its one slot, and more backends than slots are refused", () => {
    expect([...ring(backends(1))]).toEqual([0]);
    expect(() => ring(backends(2), null, 1)).toThrow(RangeError);
    expect(() => ring(new Int32Array(0), null, 1021)).toThrow(RangeError);
  });

  it("leaves nothing of the ring before", () => {
    const filler = new MaglevRing();
    const slots = new Uint8Array(1021);
    filler.fill(new Uint16Array(65521), backends(200), 0, 2, 200);
    filler.fill(slots, backends(3), 0, 2, 3);
    expect([...slots]).toEqual([...ring(backends(3))]);
  });
});

describe("balance", () => {
  // With 100 slots each the largest share is at most one slot above the least: turns are taken in order.
  it.each([2, 3, 10, 11, 81, 82, 97, 655, 1000])(
    "%i backends: shares within 1 %% of one another",
    (count) => {
      const all = shares(ring(backends(count)), count);
      expect(Math.max(...all) - Math.min(...all)).toBeLessThanOrEqual(1);
      expect(Math.max(...all) / Math.min(...all)).toBeLessThanOrEqual(1.01);
    },
  );

  it.each([
    [4, 0.02],
    [97, 0.12],
  ])("100,000 flows over %i backends: each within %f of its share", (count, bound) => {
    const slots = ring(backends(count));
    const random = new Random(4);
    const sums = new Array<number>(count).fill(0);
    for (let i = 0; i < 100_000; i++) {
      const client = (address("10.1.0.0") + random.below(200)) | 0;
      sums[slots[ringHash(client, 1024 + random.below(60_000), 6) % slots.length]!]!++;
    }
    // The rest is chance: four standard deviations of a binomial are 4 × √(97 / 100,000) = 12 %.
    for (const sum of sums) expect(Math.abs(sum / (100_000 / count) - 1)).toBeLessThan(bound);
  });
});

describe("disturbance", () => {
  it("of 97 backends one goes: at most 2 % of the others' slots move, whichever it is", () => {
    const before = ring(backends(97));
    for (let gone = 0; gone < 97; gone += 8)
      expect(disturbance(before, ring(backends(97, gone)), gone)).toBeLessThanOrEqual(0.02);
  });

  it("one more: the same seen from the other side", () => {
    const before = ring(backends(96));
    const after = ring(backends(97));
    let moved = 0;
    before.forEach((i, slot) => {
      if (after[slot] !== i && after[slot] !== 96) moved++;
    });
    expect(moved / before.length).toBeLessThanOrEqual(0.02);
  });

  it.each([4, 10, 50, 600])("of %i backends one goes: few of the others' slots move", (count) => {
    const before = ring(backends(count));
    expect(disturbance(before, ring(backends(count, 1)), 1)).toBeLessThanOrEqual(count < 10 ? 0.05 : 0.03);
  });

  it.each([
    [10, 1021, 8191],
    [81, 8191, 65521],
    [655, 65521, 131071],
  ])(
    "a step of the ladder, %i backends and one more, gives nearly every flow a new backend",
    (count, low, high) => {
      const before = ring(backends(count));
      const after = ring(backends(count + 1));
      expect([before.length, after.length]).toEqual([low, high]);
      let kept = 0;
      for (let i = 0; i < 20_000; i++) {
        const hash = ringHash(i, 0, 0);
        if (before[hash % low] === after[hash % high]) kept++;
      }
      // By chance one in `count` stays.
      expect(kept / 20_000).toBeLessThan(1.5 / count + 0.01);
      expect(kept / 20_000).toBeGreaterThan(0.5 / (count + 1));
    },
  );
});

describe("weights", () => {
  it("shares follow them", () => {
    const weights = [1, 2, 3, 10];
    const slots = ring(backends(4), weights);
    expect(slots.length).toBe(8191);
    shares(slots, 4).forEach((share, i) => {
      expect(share / ((slots.length * weights[i]!) / 16)).toBeCloseTo(1, 1);
    });
  });

  it("equal ones are none", () => {
    expect([...ring(backends(5), [1, 1, 1, 1, 1])]).toEqual([...ring(backends(5))]);
  });

  it("lose their common divisor; what is no weight is refused", () => {
    expect(reducedWeights([10, 20, 30])).toEqual([1, 2, 3]);
    expect(reducedWeights([7])).toEqual([1]);
    expect(() => reducedWeights([1, 0])).toThrow(RangeError);
    expect(() => reducedWeights([1.5])).toThrow(RangeError);
  });
});
