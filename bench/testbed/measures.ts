/**
 * The tests: what each one runs in the client pod, and the figures that it reads from the output.
 * The programs are ones we did not write; where they are the limit, the figure says so.
 */

import type { Launcher } from "../command.js";
import { quantile } from "../stats.js";
import { accounted, type CpuUse } from "./accounting.js";
import { lossOf, type RateProbe, searchRate } from "./rateSearch.js";
import type { TestPath } from "./TestPath.js";

/** One row of the tables. */
export interface Figure {
  key: string;
  title: string;
  unit: string;
  decimals: number;
  better: "higher" | "lower";
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
  path: TestPath;
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
const REDIS_CLIENTS = 20;
/** Requests for each second of a test: about what a slow path answers in it. */
const REDIS_REQUESTS_PER_S = 30_000;

/** A short TCP run whose figure nobody wants: warms up, or makes frames to look at. */
export async function someTcp(launcher: Launcher, path: TestPath, seconds: number): Promise<void> {
  await iperf(launcher, path, seconds, ["-C", "cubic"]);
}

/** A short unpaced UDP run of small packets, to warm up. */
export async function someUdp(launcher: Launcher, path: TestPath, seconds: number): Promise<void> {
  await iperf(launcher, path, seconds, ["-u", "-b", "0", "-l", "64"]);
}

/** Bits received over `streams` TCP connections; `reverse`: towards the client. */
export function tcp(key: string, title: string, streams: number, reverse: boolean): Measure {
  return {
    key,
    figures: [{ key, title, unit: "Gbit/s", decimals: 2, better: "higher" }],
    estimate: (seconds) => seconds + IPERF_EXTRA_S,
    async run({ launcher, path, seconds }) {
      // The congestion control is named: the default differs between machines.
      const args = ["-C", "cubic", "-P", String(streams), ...(reverse ? ["-R"] : [])];
      const { report, cpu } = await iperf(launcher, path, seconds, args);
      const received = numberAt(report, ["end", "sum_received", "bits_per_second"]);
      return {
        values: { [key]: received / 1e9 },
        cpu,
        details: { retransmits: numberAt(report, ["end", "sum_sent", "retransmits"]) },
      };
    },
  };
}

/** Datagrams of `length` bytes received from a sender that does its utmost. */
export function udpUnpaced(length: number): Measure {
  const key = `udp${length}`;
  return {
    key,
    figures: [
      { key, title: `UDP ${length} B, unpaced, received`, unit: "kpps", decimals: 1, better: "higher" },
    ],
    estimate: (seconds) => seconds + IPERF_EXTRA_S,
    async run({ launcher, path, seconds }) {
      const run = await udpRun(launcher, path, length, 0, seconds);
      path.unpaced.set(length, run);
      return {
        values: { [key]: run.received / 1000 },
        cpu: run.cpu,
        details: { offered: run.offered / 1000, loss: lossOf(run) },
      };
    },
  };
}

/** The highest rate of datagrams of `length` bytes at which less than 1 % is lost. */
export function udpHighest(length: number): Measure {
  const key = `udp${length}max`;
  const title = `UDP ${length} B, highest under 1 % loss`;
  return {
    key,
    figures: [{ key, title, unit: "kpps", decimals: 1, better: "higher" }],
    // Three short probes and the confirming run, mostly.
    estimate: (seconds) => seconds + IPERF_EXTRA_S + 3 * (SHORT_PROBE_S + IPERF_EXTRA_S),
    async run({ launcher, path, seconds }) {
      const probe = (rate: number, duration: number) => udpRun(launcher, path, length, rate, duration);
      const known = path.unpaced.get(length) as UdpRun | undefined;
      const unpaced = known ?? (await probe(0, seconds));
      const found = await searchRate(
        probe,
        unpaced,
        path.lastRate.get(length) ?? null,
        Math.min(SHORT_PROBE_S, seconds),
        seconds,
      );
      if (found.best === null) {
        // Leaving the repetition out would make a path look better than it is.
        return { values: { [key]: 0 }, cpu: unpaced.cpu, details: { noRate: true, runs: found.runs } };
      }
      path.lastRate.set(length, found.best.offered);
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

/** Round-trip times of echoes. */
export function ping(): Measure {
  const common = { unit: "µs", decimals: 0, better: "lower" } as const;
  return {
    key: "ping",
    figures: [
      { key: "ping", title: "ping RTT, mean", ...common },
      { key: "pingP50", title: "ping RTT, median", ...common },
      { key: "pingP99", title: "ping RTT, 99th percentile", ...common },
    ],
    estimate: () => PINGS * PING_INTERVAL_S + 0.2,
    async run({ launcher, path }) {
      const argv = [
        "ping",
        "-n",
        "-i",
        String(PING_INTERVAL_S),
        "-c",
        String(PINGS),
        path.target.iperf.address,
      ];
      const { result, cpu } = await accounted(path.agentPids(), () =>
        launcher.run(path.inClient(argv), PINGS * PING_INTERVAL_S * 1000 + TIMEOUT_EXTRA_MS),
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

/** HTTP requests, each on a connection of its own. */
export function http(): Measure {
  return {
    key: "http",
    figures: [{ key: "http", title: "HTTP, new connections", unit: "1/s", decimals: 0, better: "higher" }],
    estimate: (seconds) => seconds + 0.2,
    async run(context) {
      const { rate, socketErrors, cpu } = await httpRun(context);
      return { values: { http: rate }, cpu, details: { socketErrors } };
    },
  };
}

/**
 * `times` runs of new connections, `seconds` each, without a pause. The figure is the last one's: by
 * then a translator meets the leavings of the connections before.
 */
export function httpInARow(times: number, seconds: number): Measure {
  const title = `HTTP, new connections, run ${times} in a row`;
  return {
    key: "httpRow",
    figures: [
      { key: "httpLast", title, unit: "1/s", decimals: 0, better: "higher" },
      { key: "httpKept", title: `${title}, of run 1`, unit: "", decimals: 2, better: "higher" },
    ],
    estimate: () => times * (seconds + 0.2),
    async run(context) {
      const details: Record<string, number> = {};
      for (let i = 1; ; i++) {
        const { rate, socketErrors, cpu } = await httpRun({ ...context, seconds });
        details[`run${i}`] = rate;
        details[`socketErrors${i}`] = socketErrors;
        if (i === times) return { values: { httpLast: rate, httpKept: rate / details.run1 }, cpu, details };
      }
    },
  };
}

/** redis-benchmark's GETs over connections that stay. */
export function redis(): Measure {
  const common = { decimals: 0, better: "lower", unit: "µs" } as const;
  return {
    key: "redis",
    figures: [
      { key: "redisP50", title: "redis GET, median", ...common },
      { key: "redisP99", title: "redis GET, 99th percentile", ...common },
    ],
    estimate: (seconds) => seconds + 0.2,
    async run({ launcher, path, seconds }) {
      const argv = [
        ...["redis-benchmark", "-h", path.target.redis.address, "-p", String(path.target.redis.port)],
        ...["-t", "get", "-c", String(REDIS_CLIENTS), "-n", String(REDIS_REQUESTS_PER_S * seconds), "--csv"],
      ];
      const { result, cpu } = await accounted(path.agentPids(), () =>
        launcher.run(path.inClient(argv), 10 * seconds * 1000 + TIMEOUT_EXTRA_MS),
      );
      // "test","rps","avg_latency_ms","min","p50","p95","p99","max"
      const row = /^"GET",(.*)$/m
        .exec(result.output)?.[1]
        .split(",")
        .map((cell) => Number(cell.replaceAll('"', "")));
      if (row === undefined || row.length < 7)
        throw new MeasureError(`redis-benchmark: ${(result.errors || result.output).trim().slice(-200)}`);
      return {
        values: { redisP50: row[3] * 1000, redisP99: row[5] * 1000 },
        cpu,
        details: { requestsPerSecond: row[0] },
      };
    },
  };
}

/** One run of wrk. Throws MeasureError where no request was answered. */
async function httpRun({
  launcher,
  path,
  seconds,
}: MeasureContext): Promise<{ rate: number; socketErrors: number; cpu: CpuUse }> {
  const argv = [
    ...["wrk", "--latency", "-c", String(HTTP_CONNECTIONS), "-d", `${seconds}s`, "-H", "Connection: close"],
    `http://${path.target.http.address}:${path.target.http.port}/`,
  ];
  const { result, cpu } = await accounted(path.agentPids(), () =>
    launcher.run(path.inClient(argv), seconds * 1000 + TIMEOUT_EXTRA_MS),
  );
  const rate = /Requests\/sec:\s+([\d.]+)/.exec(result.output);
  if (rate === null || Number(rate[1]) === 0)
    throw new MeasureError(`wrk: ${(result.errors || result.output).trim().slice(-200)}`);
  const failed = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(result.output);
  return {
    rate: Number(rate[1]),
    socketErrors: failed === null ? 0 : failed.slice(1).reduce((sum, n) => sum + Number(n), 0),
    cpu,
  };
}

/** One UDP run at `rate` packets/s (0: unpaced). */
async function udpRun(
  launcher: Launcher,
  path: TestPath,
  length: number,
  rate: number,
  seconds: number,
): Promise<UdpRun> {
  const bits = Math.round(rate * length * 8);
  const args = ["-u", "-l", String(length), "-b", String(bits)];
  const { report, cpu } = await iperf(launcher, path, seconds, args);
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
  path: TestPath,
  seconds: number,
  args: readonly string[],
): Promise<{ report: unknown; cpu: CpuUse }> {
  const argv = [
    "iperf3",
    "-c",
    path.target.iperf.address,
    "-p",
    String(path.target.iperf.port),
    "-J",
    "-t",
    String(seconds),
    "--connect-timeout",
    "3000",
    ...args,
  ];
  for (let attempt = 0; ; attempt++) {
    const { result, cpu } = await accounted(path.agentPids(), () =>
      launcher.run(path.inClient(argv), seconds * 1000 + TIMEOUT_EXTRA_MS),
    );
    const report = parse(result.output);
    const error = report === null ? result.errors.trim() : stringAt(report, "error");
    if (report !== null && error === null && result.code === 0) return { report, cpu };
    await path.restartIperf();
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
