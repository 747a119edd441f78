/** One fault, measured: who asks all the time, and who has long-lived connections meanwhile. */

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { inNetns, type Launcher } from "../command.js";
import { formatNumber } from "../table.js";
import { MeasureError } from "../testbed/measures.js";
import { REDIS_PORT } from "../testbed/Servers.js";
import { sleep } from "../testbed/session.js";
import { workDirectory } from "../testbed/topology.js";
import type { Bed, Fault } from "./Bed.js";
import { monotonicMs } from "./clock.js";
import { type Attempt, type Outage, outageOf } from "./gap.js";
import type { Connection, LongLived } from "./longLived.js";
import { OWNER, VIP } from "./nodes.js";
import { type Endpoints, type PodwireBed, STREAM_PORT } from "./PodwireBed.js";

/** Long-lived streams beside the redis client. */
const STREAMS = 10;
/** With which endpoints a fault is measured: always the same, or some that come and go. */
export type Churn = "stable" | "changing";

/** Long-lived connections of one trial whose backends are on living nodes, or on the one that is hit. */
export interface Kept {
  connections: number;
  intact: number;
  /** Longest time without anything heard. */
  silenceMs: number;
  errors: string[];
}

/** What one trial gave. */
export interface Trial {
  /** When the fault was, and when it began to be undone; by monotonicMs. */
  at: number;
  backAt: number;
  outage: Outage;
  /** The way back to the owner. */
  back: Outage;
  /** New connections one after another while the fault lasts, and those of them that failed. */
  connections: number;
  refused: number;
  /** Null where there were no long-lived connections. */
  living: Kept | null;
  hit: Kept | null;
}

export interface TrialOptions {
  /** New connections in a row, after the fault. */
  connections: number;
  /** How long is asked after the fault. */
  afterMs: number;
}

/** Asking before the fault, so that it is seen to be well. */
const BEFORE_MS = 500;
/** After the way back. */
const BACK_MS = 500;
/** Endpoints change so often. */
const CHURN_MS = 1_000;
const READY_TIMEOUT_MS = 15_000;
const READY_STEP_MS = 10;
const END_TIMEOUT_MS = 15_000;
/** Connections in one run of curl. */
const BATCH = 100;
const CONNECT_SECONDS = 0.5;
/** All of them; those that fail take long. */
const ALL_CONNECT_MS = 30_000;

/**
 * Measures one fault of a bed that is well, and leaves it well. Throws MeasureError where nothing is to be
 * measured, TestbedError where the bed does not come back.
 */
export async function measureFault(
  launcher: Launcher,
  bed: Bed,
  fault: Fault,
  { connections, afterMs }: TrialOptions,
): Promise<Trial> {
  const asking = await startAsking(launcher, bed);
  await sleep(BEFORE_MS);
  const at = await bed.inject(fault);
  await sleep(afterMs);
  const outage = outageOf(await asking.stop(), at);
  const row = outage === null ? null : await connectInRow(launcher, bed, connections);
  const again = outage === null ? null : await startAsking(launcher, bed);
  const backAt = monotonicMs();
  await bed.recover(fault);
  await sleep(BACK_MS);
  if (outage === null || row === null || again === null)
    throw new MeasureError(`no answer after the fault\n${bed.logs()}`);
  const back = outageOf(await again.stop(), backAt);
  if (back === null) throw new MeasureError(`no answer after the owner was back\n${bed.logs()}`);
  return { at, backAt, outage, back, ...row, living: null, hit: null };
}

/** The same with long-lived connections all the while, and with endpoints that come and go or do not. */
export async function measureKeeping(
  launcher: Launcher,
  bed: PodwireBed,
  fault: Fault,
  churn: Churn,
  options: TrialOptions,
): Promise<Trial> {
  const longLived = await startLongLived(launcher, bed);
  let endpoints: Endpoints = "steady";
  const change = () => {
    endpoints = endpoints === "steady" ? "all" : "steady";
    bed.setEndpoints(endpoints);
  };
  const changing = churn === "changing" ? setInterval(change, CHURN_MS) : undefined;
  try {
    const trial = await measureFault(launcher, bed, fault, options);
    clearInterval(changing);
    const { streams, redis } = await longLived.stop();
    // Redis is on a node that nothing happens to.
    const onHit = ({ backend }: Connection) => backend === OWNER.pod.name;
    return {
      ...trial,
      living: keptOf([...streams.filter((each) => !onHit(each)), redis], trial),
      hit: keptOf(streams.filter(onHit), trial),
    };
  } finally {
    clearInterval(changing);
    bed.setEndpoints("steady");
    await longLived.kill();
  }
}

function keptOf(connections: readonly Connection[], { at, backAt }: Trial): Kept {
  const when = (failedAt: number) =>
    failedAt < backAt
      ? `${formatNumber((failedAt - at) / 1000, 2)} s after the fault`
      : `${formatNumber((failedAt - backAt) / 1000, 2)} s after the start of the way back`;
  return {
    connections: connections.length,
    intact: connections.filter(({ intact }) => intact).length,
    silenceMs: Math.max(0, ...connections.map(({ silenceMs }) => silenceMs)),
    errors: connections
      .filter(({ intact }) => !intact)
      .map(({ backend, error, failedAt }) => `${backend}: ${error} ${when(failedAt)}`),
  };
}

// ---- programs on the pc -------------------------------------------------------------------------

/** A curl every 10 ms. */
async function startAsking(launcher: Launcher, bed: Bed): Promise<{ stop(): Promise<Attempt[]> }> {
  const client = await startClient(launcher, bed, "probe", [bed.url]);
  return {
    stop: async () =>
      [...(await client.finish()).matchAll(/^(\S+) (-?\d+)$/gm)].map(([, at, code]) => ({
        at: Number(at),
        good: code === "0",
      })),
  };
}

async function startLongLived(launcher: Launcher, bed: Bed) {
  const args = [VIP, String(STREAM_PORT), String(STREAMS), String(REDIS_PORT)];
  const client = await startClient(launcher, bed, "longLived", args);
  return {
    stop: async () => {
      const text = await client.finish();
      const line = text.split("\n").find((each) => each.startsWith("{"));
      if (line === undefined)
        throw new MeasureError(`the long-lived connections: ${text.trim().slice(-300)}`);
      return JSON.parse(line) as LongLived;
    },
    kill: () => client.kill(),
  };
}

/** Starts one of our programs on the pc and waits for its "ready". */
async function startClient(launcher: Launcher, bed: Bed, name: string, args: readonly string[]) {
  const program = fileURLToPath(new URL(`${name}.js`, import.meta.url));
  const log = join(workDirectory(), `${name}.log`);
  const child = launcher.start(inNetns(bed.pc, [process.execPath, program, ...args]), log);
  const ended = () => child.exitCode !== null || child.signalCode !== null;
  const deadline = performance.now() + READY_TIMEOUT_MS;
  while (!/^ready$/m.test(readFileSync(log, "utf8"))) {
    if (ended() || performance.now() > deadline) {
      child.kill("SIGKILL");
      throw new MeasureError(`${name}: ${readFileSync(log, "utf8").trim().slice(-300) || "no answer"}`);
    }
    await sleep(READY_STEP_MS);
  }
  return {
    /** Asks it to come to its end; what it printed. */
    finish: async () => {
      await launcher.stop([child], END_TIMEOUT_MS);
      return readFileSync(log, "utf8");
    },
    kill: async () => {
      if (!ended()) await killed(child);
    },
  };
}

async function killed(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  await once(child, "exit");
}

/** New connections one after another; gives up with what was tried when they take too long. */
async function connectInRow(
  launcher: Launcher,
  bed: Bed,
  wanted: number,
): Promise<{ connections: number; refused: number }> {
  const deadline = performance.now() + ALL_CONNECT_MS;
  let connections = 0;
  let refused = 0;
  while (connections < wanted && performance.now() < deadline) {
    const count = Math.min(BATCH, wanted - connections);
    const argv = ["curl", "-q", "-s", "--max-time", String(CONNECT_SECONDS), "-H", "Connection: close"];
    // One word for each: curl's own code of what became of it.
    argv.push("-o", "/dev/null", "-w", "%{exitcode}\n", `${bed.url}[1-${count}]`);
    const { output } = await launcher.run(inNetns(bed.pc, argv), count * CONNECT_SECONDS * 2000);
    const codes = output.split("\n").filter((line) => /^\d+$/.test(line));
    connections += count;
    refused += count - codes.filter((code) => code === "0").length;
  }
  return { connections, refused };
}
