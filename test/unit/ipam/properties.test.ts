/**
 * Random operations of eight concurrent allocators, with lost, repeated and late requests and with
 * crashes, over every interleaving that the seed chooses. PODWIRE_IPAM_OPERATIONS makes the long run
 * longer, PODWIRE_IPAM_SEED chooses another.
 */
import { describe, expect, test } from "vitest";
import { World } from "../../support/ipamWorld.js";

const OPERATIONS = Number(process.env.PODWIRE_IPAM_OPERATIONS ?? 100_000);
const SEED = Number(process.env.PODWIRE_IPAM_SEED ?? 20_240_501);

const FAULTS = { unsent: 60, unanswered: 60, late: 80 };
const SHORT = 4000;

describe("random operations", () => {
  test("a hundred thousand: never two owners, never a leak after collection", {
    timeout: 3_600_000,
  }, async () => {
    const world = new World({
      seed: SEED,
      operations: OPERATIONS,
      pools: [{ cidr: "10.1.0.0/25", blockSize: 29, reservedRanges: ["10.1.0.3-10.1.0.5"] }],
      faults: FAULTS,
      podsPerNode: 20,
    });
    const result = await world.run();
    if (process.env.PODWIRE_IPAM_SHOW) console.log(result);
    // The run met what it is about.
    const met = [
      "crash",
      "lost node",
      "gave up",
      "Exhausted",
      "seen borrowed",
      "collected addresses",
      "collected blocks",
    ];
    for (const what of met) expect(result.counts[what], what).toBeGreaterThan(0);
  });

  // Little room and many starts: claims that overlap meet at the start.
  test.each(Array.from({ length: 30 }, (_, i) => 100 + i))("pools that overlap, seed %i", async (seed) => {
    const pools = [
      { cidr: "10.2.0.0/27", blockSize: 29, nodeSelector: { matchLabels: { parity: "odd" } } },
      { cidr: "10.2.0.0/27", blockSize: 30, nodeSelector: { matchLabels: { parity: "even" } } },
    ];
    await new World({ seed, operations: 300, pools, faults: FAULTS }).run();
  });

  test.each([4, 5])("blocks of one address, seed %i", async (seed) => {
    const pools = [{ cidr: "10.3.0.0/26", blockSize: 32 }];
    await new World({ seed, operations: SHORT, pools, faults: FAULTS }).run();
  });

  test.each([6, 7])("strict blocks, seed %i", async (seed) => {
    const pools = [{ cidr: "10.4.0.0/25", blockSize: 29, strictAffinity: true }];
    await new World({ seed, operations: SHORT, pools, faults: FAULTS }).run();
  });

  test.each([10, 11, 12])("with no more rights than a node has, seed %i", async (seed) => {
    const pools = [{ cidr: "10.1.0.0/26", blockSize: 31 }];
    const { counts } = await new World({
      seed,
      operations: SHORT,
      pools,
      faults: FAULTS,
      rights: true,
    }).run();
    expect(counts.refused).toBeGreaterThan(0);
    expect(counts["seen borrowed"]).toBeGreaterThan(0);
  });

  test.each([8, 9])("plenty of room and no faults, seed %i", async (seed) => {
    const pools = [{ cidr: "10.5.0.0/20" }];
    const faults = { unsent: 0, unanswered: 0, late: 0 };
    const { counts } = await new World({ seed, operations: SHORT, pools, faults }).run();
    expect(counts.Exhausted ?? 0).toBe(0);
  });
});
