import { expect, it } from "vitest";
import { runModel } from "../../support/model/model.js";

it.each([1, 20_240_917, 424_242, 7_777_777])(
  "12,500 random packets and changes agree with the reference model: seed %d",
  (seed) => {
    const totals = runModel(seed, 12_500);
    expect(totals.packets).toBeGreaterThan(9000);
    expect(totals.changes).toBeGreaterThan(200);
    expect(totals.arrived).toBeGreaterThan(totals.packets / 3);
  },
);
