import { expect, test } from "vitest";
import { native } from "../../../src/binding/index.js";
import * as layout from "../../../src/packet/layout.js";

test("native/layout.h has the numbers of packet/layout.ts, all of them and no others", () => {
  const expected: Record<string, number> = {};
  for (const [name, value] of Object.entries(layout)) {
    if (typeof value === "number") expected[name] = value;
  }
  for (const [name, value] of Object.entries(layout.ARENA)) expected[`ARENA_${name}`] = value as number;
  expect(native.layout).toEqual(expected);
});
