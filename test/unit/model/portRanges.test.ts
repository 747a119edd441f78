import { expect, test } from "vitest";
import {
  addPorts,
  formatPortRange,
  parsePortRange,
  portRangesOverlap,
  removePorts,
} from "../../../src/model/portRanges.js";

test.each([
  ["30000-32767", { first: 30000, last: 32767 }],
  ["8080", { first: 8080, last: 8080 }],
  ["0-65535", { first: 0, last: 65535 }],
  ["2-1", null],
  ["1-65536", null],
  ["1-", null],
  ["", null],
  ["a-b", null],
])("range %s", (text, range) => {
  expect(parsePortRange(text)).toEqual(range);
  if (range !== null) expect(formatPortRange(range)).toBe(text);
});

test("overlap", () => {
  const range = { first: 10, last: 20 };
  for (const [first, last, expected] of [
    [1, 9, false],
    [1, 10, true],
    [12, 13, true],
    [20, 30, true],
    [21, 30, false],
  ] as const)
    expect(portRangesOverlap(range, { first, last })).toBe(expected);
});

test.each([
  ["", "30000-32767,61000-65534", "30000-32767,61000-65534"],
  ["8080", "30000-32767", "8080,30000-32767"],
  ["32768-40000,8080", "30000-32767", "8080,30000-40000"],
  ["31000-31010", "30000-32767", "30000-32767"],
  ["0,65535", "1", "0-1,65535"],
])("%s and %s", (a, b, sum) => {
  expect(addPorts(a, b)).toBe(sum);
  expect(addPorts(b, a)).toBe(sum);
});

test.each([
  ["8080,30000-32767", "30000-32767", "8080"],
  ["30000-32767", "31000", "30000-30999,31001-32767"],
  ["", "1-5", ""],
  ["1-5", "", "1-5"],
])("%s without %s", (a, b, rest) => {
  expect(removePorts(a, b)).toBe(rest);
});
