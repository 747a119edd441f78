/**
 * The soaks of failover, for a short time: full load without a false takeover, and random failovers with a
 * capture of who claims which address.
 */
import { describe, expect, it } from "vitest";
import { failoverSoak } from "../support/failoverSoak.js";
import { netnsUnavailable } from "../support/netns.js";
import { requirePrograms } from "../support/programs.js";
import { takeoverSoak } from "../support/takeoverSoak.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
/** A BFD session of the default profile is given up after so long without a packet. */
const DETECTION_MS = 300;

describe.skipIf(why !== "")(`failover${skipped}`, () => {
  it("nobody is taken for dead under full load", async () => {
    const result = await failoverSoak({ seconds: 10, profile: "default" });
    expect(result.forwarded).toBeGreaterThan(10_000);
    expect(result.connections).toBeGreaterThan(0);
    // Unless the machine let nobody run for that long: then a node is as good as dead.
    if (result.stalls.longest < DETECTION_MS / 2)
      expect(result).toMatchObject({ takeovers: 0, sessionsLost: 0 });
  });

  it("random failovers: every takeover is announced, and two nodes do not go on answering", async () => {
    requirePrograms("python3");
    const seed = Date.now() & 0x7fffffff;
    const { decisions, secondAnswers } = await takeoverSoak({ seed, count: 10, profile: "default" });
    const about = `seed ${seed}`;
    expect(decisions.length, about).toBeGreaterThan(0);
    expect(
      decisions.filter(({ ms }) => ms === null),
      about,
    ).toEqual([]);
    // How exactly is the soak's matter, on a machine that does nothing else.
    expect(
      secondAnswers.filter(({ ms }) => ms > DETECTION_MS),
      about,
    ).toEqual([]);
  });
});
