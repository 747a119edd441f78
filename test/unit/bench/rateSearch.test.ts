import { describe, expect, it } from "vitest";
import { type RateProbe, searchRate } from "../../../bench/testbed/rateSearch.js";

const SHORT = 1;
const LONG = 2;

/** A path that carries `capacity` packets/s, and a sender that offers at most `sender`. */
function path(capacity: number, sender: number) {
  const asked: { rate: number; seconds: number }[] = [];
  const probe = async (rate: number, seconds: number): Promise<RateProbe> => {
    asked.push({ rate, seconds });
    const offered = rate === 0 ? sender : Math.min(rate, sender);
    return { offered, received: Math.min(offered, capacity) };
  };
  return { probe, asked };
}

describe("searchRate", () => {
  it("takes the unpaced run where nothing was lost in it: the sender is the limit", async () => {
    const { probe, asked } = path(200, 100);
    const unpaced = await probe(0, LONG);
    const found = await searchRate(probe, unpaced, null, SHORT, LONG);
    expect(found).toEqual({ best: unpaced, senderLimited: true, runs: 0 });
    expect(asked).toHaveLength(1);
  });

  it.each([50, 77, 99, 140])("comes close to a capacity of %d", async (capacity) => {
    const { probe, asked } = path(capacity, 150);
    const found = await searchRate(probe, await probe(0, LONG), null, SHORT, LONG);
    expect(found.best!.received).toBeLessThanOrEqual(capacity);
    expect(found.best!.received).toBeGreaterThan(capacity * 0.89);
    expect(asked.at(-1)!.seconds).toBe(LONG);
    expect(found.runs).toBe(asked.length - 1);
  });

  it("finds a rate far below what the sender offers", async () => {
    // As overload collapses many userspace paths: what arrives of too much says little.
    const probe = async (rate: number): Promise<RateProbe> => {
      const offered = rate === 0 ? 400 : rate;
      return { offered, received: offered <= 60 ? offered : 10 };
    };
    const found = await searchRate(probe, await probe(0), null, SHORT, LONG);
    expect(found.best!.received).toBeGreaterThan(40);
    expect(found.best!.received).toBeLessThanOrEqual(60);
  });

  it.each([
    [70, "down"],
    [82, "nowhere"],
    [135, "up"],
  ])("starts from the rate of the repetition before, 80, and goes to %d, %s", async (capacity) => {
    const { probe } = path(capacity, 150);
    const found = await searchRate(probe, await probe(0, LONG), 80, SHORT, LONG);
    expect(found.best!.received).toBeGreaterThan(capacity * 0.88);
    expect(found.best!.received).toBeLessThanOrEqual(capacity);
    expect(found.runs).toBeLessThanOrEqual(5);
  });

  it("says that the sender was the limit where a paced one is slower than asked", async () => {
    const probe = async (rate: number): Promise<RateProbe> =>
      rate === 0
        ? { offered: 200, received: 120 }
        : { offered: Math.min(rate, 90), received: Math.min(rate, 90) };
    const found = await searchRate(probe, await probe(0), null, SHORT, LONG);
    expect(found.senderLimited).toBe(true);
    expect(found.best!.received).toBe(90);
  });

  it("gives up where every rate loses too much", async () => {
    const probe = async (rate: number): Promise<RateProbe> => ({
      offered: rate || 100,
      received: (rate || 100) * 0.9,
    });
    const found = await searchRate(probe, await probe(0), null, SHORT, LONG);
    expect(found.best).toBeNull();
  });
});
