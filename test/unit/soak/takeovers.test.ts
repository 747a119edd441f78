import { describe, expect, it } from "vitest";
import type { Claim } from "../../support/announceBed.js";
import { secondAnswersOf, takeoverFindings } from "../../support/takeoverSoak.js";

const VIP = "192.168.2.100";

/** Claims of `macs`, one every 10 ms, for each letter one. */
function claims(macs: string, address = VIP): Claim[] {
  return [...macs].map((mac, n) => ({ atUs: n * 10_000, kind: "answer", address, mac }));
}

const MACS = { "node-a": "a", "node-b": "b" };
const by = (node: string, atUs: number, address = VIP) => ({ node, atUs, address });

describe("answers of two", () => {
  it("there are none where an address changes hands, there and back", () => {
    const decisions = [by("node-a", 0), by("node-b", 55_000), by("node-a", 105_000)];
    expect(secondAnswersOf(claims("aaaaaabbbbbaaaa"), decisions, MACS)).toEqual([]);
  });

  it("are those of the owner before, by the time since the decision", () => {
    const decisions = [by("node-b", 25_000), by("node-a", 0), by("node-a", 0, "192.168.2.101")];
    const both = [...claims("aaabab"), ...claims("aaaaaa", "192.168.2.101")];
    expect(secondAnswersOf(both, decisions, MACS)).toEqual([
      { address: VIP, node: "node-a", owner: "node-b", ms: 15 },
    ]);
  });

  it("are a stranger's too, and nothing before the first decision", () => {
    expect(secondAnswersOf(claims("aabxb"), [by("node-b", 20_000)], MACS)).toEqual([
      { address: VIP, node: "x", owner: "node-b", ms: 10 },
    ]);
  });
});

describe("findings", () => {
  const decision = { node: "node-a", address: VIP, atUs: 0, fault: 3 };
  const faults = { kill: 0, freeze: 0, link: 0, drain: 0 };

  it("there are none where all is as it must be", () => {
    const second = { address: VIP, node: "node-a", owner: "node-b", ms: 99 };
    const result = { faults, decisions: [{ ...decision, ms: 4.9 }], secondAnswers: [second] };
    expect(takeoverFindings(result, "default")).toEqual([]);
  });

  it("are a late announcement, none at all, and two who answer for longer than an interval", () => {
    const secondAnswers = [{ address: VIP, node: "node-a", owner: "node-b", ms: 11 }];
    const decisions = [5.1, null].map((ms) => ({ ...decision, ms }));
    expect(takeoverFindings({ faults, decisions, secondAnswers }, "fast")).toEqual([
      `node-a took ${VIP} over after fault 3 and announced it 5.1 ms later`,
      `node-a took ${VIP} over after fault 3 and announced it never`,
      `node-a answered for ${VIP} 11 ms after node-b had taken it over`,
    ]);
  });
});
