import { describe, expect, test } from "vitest";
import {
  firstThree,
  formatLabelSelector,
  formatLabels,
  humanDuration,
} from "../../../../src/apiserver/resources/format.js";
import { compareQuantities, parseQuantity } from "../../../../src/kube/quantity.js";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

describe("humanDuration", () => {
  // The table of k8s.io/apimachinery/pkg/util/duration.
  test.each([
    [-2 * SECOND, "<invalid>"],
    [-1 * SECOND, "0s"],
    [0, "0s"],
    [SECOND, "1s"],
    [70 * SECOND, "70s"],
    [119 * SECOND, "119s"],
    [190 * SECOND, "3m10s"],
    [70 * MINUTE, "70m"],
    [47 * HOUR, "47h"],
    [49 * HOUR, "2d1h"],
    [8 * DAY + 2 * HOUR, "8d"],
    [367 * DAY, "367d"],
    [365 * 2 * DAY + 25 * HOUR, "2y1d"],
    [365 * 8 * DAY + 2 * HOUR, "8y"],
    [2 * MINUTE, "2m"],
    [9 * MINUTE + 59 * SECOND, "9m59s"],
    [10 * MINUTE + 5 * SECOND, "10m"],
    [3 * HOUR, "3h"],
    [7 * HOUR + 59 * MINUTE, "7h59m"],
    [2 * DAY, "2d"],
    [365 * 3 * DAY, "3y"],
  ])("%d ms is %s", (milliseconds, text) => {
    expect(humanDuration(milliseconds)).toBe(text);
  });
});

test("labels are sorted", () => {
  expect(formatLabels({ name: "nginx", app: "web" })).toBe("app=web,name=nginx");
  expect(formatLabels({})).toBe("<none>");
  expect(formatLabels(undefined)).toBe("<none>");
});

test("label selectors", () => {
  expect(
    formatLabelSelector({
      matchLabels: { name: "nginx" },
      matchExpressions: [
        { key: "tier", operator: "In", values: ["web", "cache"] },
        { key: "canary", operator: "DoesNotExist" },
        { key: "zone", operator: "Exists" },
        { key: "env", operator: "NotIn", values: ["test"] },
      ],
    }),
  ).toBe("!canary,env notin (test),name=nginx,tier in (cache,web),zone");
  expect(formatLabelSelector({})).toBe("<none>");
  expect(formatLabelSelector(undefined)).toBe("<none>");
});

test("three of a list", () => {
  expect(firstThree(["a", "b", "c"], "<none>")).toBe("a,b,c");
  expect(firstThree(["a", "b", "c", "d", "e"], "<none>")).toBe("a,b,c + 2 more...");
  expect(firstThree([], "<unset>")).toBe("<unset>");
});

test("quantities", () => {
  expect(parseQuantity("500m")).toBe(0.5);
  expect(parseQuantity("1Gi")).toBe(1_073_741_824);
  expect(parseQuantity("1E")).toBe(1e18);
  expect(parseQuantity("2e3")).toBe(2000);
  expect(parseQuantity("x")).toBeNaN();
  expect(compareQuantities("1", "1000m")).toBe(0);
});
