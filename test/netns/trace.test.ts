/**
 * Traces against agents that run: random packets in random states of a cluster go where the trace says,
 * byte for byte, or are dropped for the reason that it says. The long version is `npm run soak -- trace`.
 */
import { describe, expect, test } from "vitest";
import { netnsUnavailable } from "../support/netns.js";
import { requirePrograms } from "../support/programs.js";
import { traceSoak } from "../support/traceSoak.js";

const reason = netnsUnavailable();
const SEED = 7;
const PACKETS = 75;

describe.skipIf(reason !== "")(`trace and agents ${reason}`, () => {
  test(`${PACKETS} random packets go as traced`, async () => {
    requirePrograms("python3");
    const { packets, ends } = await traceSoak({ seed: SEED, count: PACKETS, perState: 25 });
    expect(packets).toBe(PACKETS);
    const ways = Object.keys(ends).map((end) => end.split(":")[0]!);
    // A run has a bit of everything, or it says nothing.
    for (const way of ["delivered to pod", "delivered to lan", "dropped", "refused"])
      expect(ways, JSON.stringify(ends)).toContain(way);
  });
});
