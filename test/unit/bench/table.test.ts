import { describe, expect, it } from "vitest";
import { formatDuration, formatSummary, renderTable } from "../../../bench/table.js";

describe("renderTable", () => {
  it("pads to the widest cell, counting characters and not bytes", () => {
    expect(
      renderTable({
        head: ["", "unit", "a"],
        rows: [
          ["ping", "µs", "17 [16–18]"],
          ["TCP", "Gbit/s", "1"],
        ],
      }),
    ).toBe(
      [
        "|      |   unit |          a |",
        "|------|-------:|-----------:|",
        "| ping |     µs | 17 [16–18] |",
        "| TCP  | Gbit/s |          1 |",
      ].join("\n"),
    );
  });

  it("fills short rows", () => {
    expect(renderTable({ head: ["a", "b"], rows: [["x"]] }).split("\n")[2]).toBe("| x   |     |");
  });
});

describe("formatSummary", () => {
  it("shows median and spread", () => {
    expect(formatSummary({ n: 5, median: 1.234, min: 1, max: 2 }, 2)).toBe("1.23 [1.00–2.00]");
  });

  it("shows one repetition without a spread, and nothing as a dash", () => {
    expect(formatSummary({ n: 1, median: 17.4, min: 17.4, max: 17.4 }, 0)).toBe("17");
    expect(formatSummary(null, 2)).toBe("–");
  });
});

describe("formatDuration", () => {
  it("speaks in seconds, then in minutes", () => {
    expect(formatDuration(44.6)).toBe("45 s");
    expect(formatDuration(1000)).toBe("17 min");
  });
});
