import { describe, expect, it } from "vitest";
import { selectMeasures } from "../../../bench/net/measures.js";
import { parseNetOptions } from "../../../bench/net/options.js";
import { formatLan, type LanResult } from "../../../bench/net/report.js";
import { selectVariants } from "../../../bench/net/variants.js";
import { longestFrame } from "../../../bench/net/wire.js";

describe("parseNetOptions", () => {
  const keys = (args: string[]) => {
    const options = parseNetOptions(args);
    if (options === "help") throw new Error("unexpected");
    return options.variants.map((variant) => variant.key);
  };

  it("always measures kernel vxlan", () => {
    expect(keys(["--variants", "tunnel"])).toEqual(["kernel", "tunnel"]);
  });

  it("gives podwire's variants a column for every number of threads", () => {
    expect(keys(["--variants", "kernel,portable", "--threads", "1,2"])).toEqual([
      "kernel",
      "portable",
      "portable-2t",
    ]);
  });

  it("and one with metrics that are read, beside the one without", () => {
    expect(keys(["--variants", "portable", "--threads", "1,2", "--metrics", "off,on"])).toEqual([
      "kernel",
      "portable",
      "portable-metrics",
      "portable-2t",
      "portable-2t-metrics",
    ]);
    expect(keys(["--variants", "portable", "--metrics", "on"])).toEqual(["kernel", "portable-metrics"]);
  });

  it.each([
    ["--metrics", "maybe"],
    ["--tests", "nothing"],
    ["--variants", "calico"],
    ["--lan", "wet"],
    ["--reps", "0"],
    ["--seconds", "1.5"],
    ["--threads", "3"],
    ["--unknown", "x"],
  ])("refuses %s %s", (...args) => {
    expect(() => parseNetOptions(args)).toThrow();
  });

  it("is quick when told to be", () => {
    expect(parseNetOptions(["--quick"])).toMatchObject({ repetitions: 1, seconds: 1 });
  });
});

describe("formatLan", () => {
  const variants = selectVariants(["kernel", "portable", "5.15"], [1]);
  const measures = selectMeasures(["tcp1", "ping"]);
  const result: LanResult = {
    kind: "no-offload",
    wire: { kernel: { frames: 10, longest: 1514 }, portable: { frames: 10, longest: 1600 } },
    idleCores: 0,
    otherCores: [1.2],
    failed: { "5.15": "an agent ended" },
    values: {
      kernel: { tcp1: [10, 20, 10], ping: [20, 20, 20] },
      portable: { tcp1: [8, 16, 9], ping: [90, 90, null] },
    },
    cpu: {},
    details: {},
    memory: { portable: [{ rss: 80.4, pss: 60.2 }] },
    errors: [{ repetition: 3, test: "ping", variant: "portable", message: "ping got no reply" }],
  };
  const text = formatLan(result, measures, variants);

  it("shows ratios with their spread and verdict", () => {
    expect(text).toMatch(/TCP, 1 stream\s+\| 0\.80 \[0\.80–0\.90\] ✓ \|\s+≥ 0\.75 \|\s+≥ 1 \|/);
    expect(text).toMatch(/ping RTT, mean\s+\| 4\.50 \[4\.50–4\.50\] ✗ \|\s+≤ 4 \|\s+≤ 2 \|/);
  });

  it("shows figures with their spread", () => {
    expect(text).toContain("10.00 [10.00–20.00]");
  });

  it("says what went wrong", () => {
    expect(text).toContain("podwire portable 1600 B in 10 frames ✗");
    expect(text).toContain("5.15 did not come up: an agent ended");
    expect(text).toContain("busy with something else (1.20 cores");
    expect(text).toContain("No figure: ping, portable, repetition 3: ping got no reply");
  });
});

describe("formatLan, with metrics off and on", () => {
  const result: LanResult = {
    kind: "as-is",
    wire: {},
    idleCores: 0,
    otherCores: [],
    failed: {},
    values: {
      kernel: { tcp1: [10, 10, 10] },
      portable: { tcp1: [8, 8, 10] },
      "portable-metrics": { tcp1: [8, 7, 9.9] },
    },
    cpu: {},
    details: {},
    memory: {},
    errors: [],
  };
  const section =
    /Metrics read each second, ratio to metrics off.*\n\n.*\n.*\n.*TCP, 1 stream +\| +([^|]*?) +\|/;
  const format = (metrics: readonly ("off" | "on")[]) =>
    formatLan(result, selectMeasures(["tcp1"]), selectVariants(["kernel", "portable"], [1], metrics));

  it("says what reading them costs", () => {
    expect(section.exec(format(["off", "on"]))?.[1]).toBe("0.990 [0.875–1.000]");
  });

  it("not where there is nothing to compare with", () => {
    for (const metrics of [["off"], ["on"]] as const) expect(format(metrics)).not.toContain("Metrics read");
  });
});

describe("longestFrame", () => {
  it("reads the original length of every record, cut ones included, and stops at a torn end", () => {
    const record = (included: number, original: number) => {
      const bytes = Buffer.alloc(16 + included, 0xa5);
      bytes.writeUInt32LE(included, 8);
      bytes.writeUInt32LE(original, 12);
      return bytes;
    };
    const capture = Buffer.concat([
      Buffer.alloc(24),
      record(60, 60),
      record(64, 1514),
      record(3, 3),
      Buffer.alloc(10),
    ]);
    expect(longestFrame(capture)).toEqual({ frames: 3, longest: 1514 });
  });
});
