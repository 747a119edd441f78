/**
 * The tests: what each one runs in the client pod, and the figures that it reads from the output.
 * The programs are ones we did not write; where they are the limit, the figure says so.
 */

import type { Launcher } from "../command.js";
import { quantile, type Target } from "../stats.js";
import { accounted, type CpuUse } from "./accounting.js";
import { lossOf, type RateProbe, searchRate } from "./rateSearch.js";
import { HTTP_PORT, SERVER, type Testbed } from "./testbed.js";
import type { Variant } from "./variants.js";

/** One row of the tables. */
export interface Figure {
  key: string;
  title: string;
  unit: string;
  decimals: number;
  better: "higher" | "lower";
  /** What the ratio to kernel vxlan must reach, by variant's kind. */
  targets?: Record<NonNullable<Variant["target"]>, Target>;
}

/** A test: one or several figures from one run. */
export interface Measure {
  key: string;
  figures: readonly Figure[];
  /** Seconds that one run takes, about, with tests of `seconds`. */
  estimate: (seconds: number) => number;
  run: (context: MeasureContext) => Promise<Measured>;
}

/** What a test works with. */
export interface MeasureContext {
  launcher: Launcher;
  bed: Testbed;
  /** Length of a run. */
  seconds: number;
}

/** Outcome of a test. */
export interface Measured {
  /** Value by figure's key; a figure that the run could not give is left out. */
  values: Record<string, number>;
  /** CPU time of the run that gave the figures. */
  cpu: CpuUse;
  /** Anything that qualifies the figures. */
  details: Record<string, number | boolean>;
}

/** A program's run gave no figure. */
export class MeasureError extends Error {
  override name = "MeasureError";
}

/** A run at some rate, with its CPU time. */
interface UdpRun extends RateProbe {
  cpu: CpuUse;
}

const TIMEOUT_EXTRA_MS = 8_000;
/** What iperf3 needs beside the time it measures. */
const IPERF_EXTRA_S = 0.35;
const SHORT_PROBE_S = 1;
const PINGS = 500;
const PING_INTERVAL_S = 0.002;
const HTTP_CONNECTIONS = 32;

const TCP_1_TARGETS = { portable: { floor: 0.75, goal: 1 }, tunnel: { floor: 1, goal: 1.2 } };
const TCP_4_TARGETS = { portable: { floor: 0.35, goal: 0.8 }, tunnel: { floor: 0.5, goal: 1 } };
const UDP_64_TARGETS = { portable: { floor: 1.3, goal: 2 }, tunnel: { floor: 1.3, goal: 2 } };
const PING_TARGETS = { portable: { floor: 4, goal: 2 }, tunnel: { floor: 4, goal: 2 } };

/** All tests, in the order in which they run. */
export const MEASURES: readonly Measure[] = [
  tcp("tcp1", "TCP, 1 stream", 1, false, TCP_1_TARGETS),
  tcp("tcp1R", "TCP, 1 stream, reverse", 1, true, TCP_1_TARGETS),
  tcp("tcp4", "TCP, 4 streams", 4, false, TCP_4_TARGETS),
  tcp("tcp4R", "TCP, 4 streams, reverse", 4, true, TCP_4_TARGETS),
  udpUnpaced(64),
  udpHighest(64, UDP_64_TARGETS),
  udpUnpaced(1400),
  udpHighest(1400),
  ping(),
  http(),
];

/** Tests by key. Throws for an unknown one. */
export function selectMeasures(keys: readonly string[]): Measure[] {
  return keys.map((key) => {
    const measure = MEASURES.find((candidate) => candidate.key === key);
    if (measure === undefined) {
      throw new Error(`unknown test ${key}; there are ${MEASURES.map((known) => known.key).join(", ")}`);
    }
    return measure;
  });
}

/** A short TCP run whose figure nobody wants: warms up, or makes frames to look at. */
export async function someTcp(launcher: Launcher, bed: Testbed, seconds: number): Promise<void> {
  await iperf(launcher, bed, seconds, ["-C", "cubic"]);
}

/** A short unpaced UDP run of small packets, to warm up. */
export async function someUdp(launcher: Launcher, bed: Testbed, seconds: number): Promise<void> {
  await iperf(launcher, bed, seconds, ["-u", "-b", "0", "-l", "64"]);
}

function tcp(
  key: string,
  title: string,
  streams: number,
  reverse: boolean,
  targets: NonNullable<Figure["targets"]>,
): Measure {
  return {
    key,
    figures: [{ key, title, unit: "Gbit/s", decimals: 2, better: "higher", targets }],
    estimate: (seconds) => seconds + IPERF_EXTRA_S,
    async run({ launcher, bed, seconds }) {
      // The congestion control is named: the default differs between machines.
      const args = ["-C", "cubic", "-P", String(streams), ...(reverse ? ["-R"] : [])];
      const { report, cpu } = await iperf(launcher, bed, seconds, args);
      const received = numberAt(report, ["end", "sum_received", "bits_per_second"]);
      return {
        values: { [key]: received / 1e9 },
        cpu,
        details: { retransmits: numberAt(report, ["end", "sum_sent", "retransmits"]) },
      };
    },
  };
}

function udpUnpaced(length: number): Measure {
  const key = `udp${length}`;
  return {
    key,
    figures: [
      { key, title: `UDP ${length} B, unpaced, received`, unit: "kpps", decimals: 1, better: "higher" },
    ],
    estimate: (seconds) => seconds + IPERF_EXTRA_S,
    async run({ launcher, bed, seconds }) {
      const run = await udpRun(launcher, bed, length, 0, seconds);
      bed.unpaced.set(length, run);
      return {
        values: { [key]: run.received / 1000 },
        cpu: run.cpu,
        details: { offered: run.offered / 1000, loss: lossOf(run) },
      };
    },
  };
}

function udpHighest(length: number, targets?: NonNullable<Figure["targets"]>): Measure {
  const key = `udp${length}max`;
  const title = `UDP ${length} B, highest under 1 % loss`;
  return {
    key,
    figures: [{ key, title, unit: "kpps", decimals: 1, better: "higher", ...(targets ? { targets } : {}) }],
    // Three short probes and the confirming run, mostly.
    estimate: (seconds) => seconds + IPERF_EXTRA_S + 3 * (SHORT_PROBE_S + IPERF_EXTRA_S),
    async run({ launcher, bed, seconds }) {
      const probe = (rate: number, duration: number) => udpRun(launcher, bed, length, rate, duration);
      const known = bed.unpaced.get(length) as UdpRun | undefined;
      const unpaced = known ?? (await probe(0, seconds));
      const found = await searchRate(
        probe,
        unpaced,
        bed.lastRate.get(length) ?? null,
        Math.min(SHORT_PROBE_S, seconds),
        seconds,
      );
      if (found.best === null) {
        // Leaving the repetition out would make a path look better than it is.
        return { values: { [key]: 0 }, cpu: unpaced.cpu, details: { noRate: true, runs: found.runs } };
      }
      bed.lastRate.set(length, found.best.offered);
      return {
        values: { [key]: found.best.received / 1000 },
        cpu: found.best.cpu,
        details: {
          offered: found.best.offered / 1000,
          loss: lossOf(found.best),
          senderLimited: found.senderLimited,
          runs: found.runs,
        },
      };
    },
  };
}

function ping(): Measure {
  const common = { unit: "µs", decimals: 0, better: "lower" } as const;
  return {
    key: "ping",
    figures: [
      { key: "ping", title: "ping RTT, mean", targets: PING_TARGETS, ...common },
      { key: "pingP50", title: "ping RTT, median", ...common },
      { key: "pingP99", title: "ping RTT, 99th percentile", ...common },
    ],
    estimate: () => PINGS * PING_INTERVAL_S + 0.2,
    async run({ launcher, bed }) {
      const argv = ["ping", "-n", "-i", String(PING_INTERVAL_S), "-c", String(PINGS), SERVER];
      const { result, cpu } = await accounted(bed.agentPids(), () =>
        launcher.run(bed.inClient(argv), PINGS * PING_INTERVAL_S * 1000 + TIMEOUT_EXTRA_MS),
      );
      const times = [...result.output.matchAll(/time=([\d.]+) ms/g)].map((match) => Number(match[1]) * 1000);
      const mean = /= [\d.]+\/([\d.]+)\//.exec(result.output);
      if (mean === null || times.length === 0) throw new MeasureError("ping got no reply");
      return {
        values: {
          ping: Number(mean[1]) * 1000,
          pingP50: quantile(times, 0.5),
          pingP99: quantile(times, 0.99),
        },
        cpu,
        details: { lost: PINGS - times.length },
      };
    },
  };
}

function http(): Measure {
  return {
    key: "http",
    figures: [{ key: "http", title: "HTTP, new connections", unit: "1/s", decimals: 0, better: "higher" }],
    estimate: (seconds) => seconds + 0.2,
    async run({ launcher, bed, seconds }) {
      const argv = [
        "wrk",
        "--latency",
        "-c",
        String(HTTP_CONNECTIONS),
        "-d",
        `${seconds}s`,
        "-H",
        "Connection: close",
        `http://${SERVER}:${HTTP_PORT}/`,
      ];
      const { result, cpu } = await accounted(bed.agentPids(), () =>
        launcher.run(bed.inClient(argv), seconds * 1000 + TIMEOUT_EXTRA_MS),
      );
      const rate = /Requests\/sec:\s+([\d.]+)/.exec(result.output);
      if (rate === null || Number(rate[1]) === 0) {
        throw new MeasureError(`wrk: ${(result.errors || result.output).trim().slice(-200)}`);
      }
      const failed = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(
        result.output,
      );
      return {
        values: { http: Number(rate[1]) },
        cpu,
        details: {
          socketErrors: failed === null ? 0 : failed.slice(1).reduce((sum, n) => sum + Number(n), 0),
        },
      };
    },
  };
}

/** One UDP run at `rate` packets/s (0: unpaced). */
async function udpRun(
  launcher: Launcher,
  bed: Testbed,
  length: number,
  rate: number,
  seconds: number,
): Promise<UdpRun> {
  const bits = Math.round(rate * length * 8);
  const args = ["-u", "-l", String(length), "-b", String(bits)];
  const { report, cpu } = await iperf(launcher, bed, seconds, args);
  const duration = numberAt(report, ["end", "sum_sent", "seconds"]);
  // Received bytes count what arrived; iperf3's own loss leaves out what is lost after the last arrival.
  return {
    offered: numberAt(report, ["end", "sum_sent", "packets"]) / duration,
    received: numberAt(report, ["end", "sum_received", "bytes"]) / length / duration,
    cpu,
  };
}

/** Runs an iperf3 client. A run that fails is repeated once with a fresh server. */
async function iperf(
  launcher: Launcher,
  bed: Testbed,
  seconds: number,
  args: readonly string[],
): Promise<{ report: unknown; cpu: CpuUse }> {
  const argv = ["iperf3", "-c", SERVER, "-J", "-t", String(seconds), "--connect-timeout", "3000", ...args];
  for (let attempt = 0; ; attempt++) {
    const { result, cpu } = await accounted(bed.agentPids(), () =>
      launcher.run(bed.inClient(argv), seconds * 1000 + TIMEOUT_EXTRA_MS),
    );
    const report = parse(result.output);
    const error = report === null ? result.errors.trim() : stringAt(report, "error");
    if (report !== null && error === null && result.code === 0) return { report, cpu };
    await bed.restartIperf();
    if (attempt > 0) {
      throw new MeasureError(`iperf3: ${result.timedOut ? "did not end in time" : error || "no report"}`);
    }
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function stringAt(value: unknown, key: string): string | null {
  const found = (value as Record<string, unknown>)[key];
  return typeof found === "string" ? found : null;
}

/** The number at `path` of a report. */
function numberAt(report: unknown, path: readonly string[]): number {
  let value = report;
  for (const key of path) value = (value as Record<string, unknown> | undefined)?.[key];
  if (typeof value !== "number") throw new MeasureError(`iperf3: no ${path.join(".")} in its report`);
  return value;
}
