/** Packet in, packet out: a fixture says what arrives, what is decided, and every byte that leaves. */
import { expect, it } from "vitest";
import { accounted, type NodeOptions, type Outcome, TestNode } from "../../support/dataplane.js";
import { toHex } from "../../support/frames.js";

/** One message that is sent. */
export interface Leaves {
  port: number;
  /** Index of the VTEP, for the tunnel port. */
  vtep?: number;
  bytes: Uint8Array;
  gso?: number;
}

export interface Fixture {
  description: string;
  options?: NodeOptions;
  /** Injects what arrives. */
  arrives: (node: TestNode) => unknown;
  /** forwarded, answered, or the name of a drop reason. */
  verdict: string;
  leaves: Leaves[];
}

/** One test for each fixture; each brings one frame in. */
export function fixtureTests(fixtures: readonly Fixture[]): void {
  it.each(fixtures)("$description", ({ options, arrives, verdict, leaves }) => {
    const node = new TestNode(options);
    arrives(node);
    const outcome = node.run();
    expect(node.faults).toEqual([]);
    expect(verdictOf(outcome)).toEqual({ [verdict]: 1 });
    expect(outcome.received).toBe(1);
    expectSent(outcome, leaves);
  });
}

/** What became of the frames, in one object. */
export function verdictOf(outcome: Outcome): Record<string, number> {
  const verdict = { ...outcome.dropped };
  if (outcome.forwarded !== 0) verdict.forwarded = outcome.forwarded;
  if (outcome.answered !== 0) verdict.answered = outcome.answered;
  return verdict;
}

export function expectSent(outcome: Outcome, leaves: readonly Leaves[]): void {
  expect(
    outcome.sent.map(({ port, peer, gso, bytes }) => ({ port, vtep: peer, gso, bytes: toHex(bytes) })),
  ).toEqual(leaves.map(({ port, vtep = 0, gso = 0, bytes }) => ({ port, vtep, gso, bytes: toHex(bytes) })));
  expect(accounted(outcome)).toBe(true);
}
