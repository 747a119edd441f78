import { expect, test } from "vitest";
import { delta } from "../../../src/reconcile/delta.js";

const run = (desired: [string, number][], actual: [string, number][]) =>
  delta(
    desired,
    actual,
    ([key]) => key,
    ([key]) => key,
    (d, a) => d[1] === a[1],
  );

test("splits into what to add, change and remove", () => {
  expect(
    run(
      [
        ["a", 1],
        ["b", 2],
        ["c", 3],
      ],
      [
        ["b", 2],
        ["c", 4],
        ["d", 5],
      ],
    ),
  ).toEqual({
    add: [["a", 1]],
    change: [{ desired: ["c", 3], actual: ["c", 4] }],
    remove: [["d", 5]],
  });
});

test("is empty when all is as desired, in whatever order", () => {
  expect(
    run(
      [
        ["a", 1],
        ["b", 2],
      ],
      [
        ["b", 2],
        ["a", 1],
      ],
    ),
  ).toEqual({ add: [], change: [], remove: [] });
});
