/**
 * Nodes under full load: TCP and UDP floods between pods and new connections at a NodePort, for as long as
 * wanted. Nobody is hurt, so that every takeover is a false one: a node was taken for dead that lived.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AnnounceBed, NODE_PORT, type Profile, SERVICE_PORT, support } from "./announceBed.js";
import { TestNet, waitFor } from "./netns.js";
import type { NodePlan } from "./overlay.js";
import { requirePrograms } from "./programs.js";
import { python } from "./traffic.js";

export interface FailoverSoakOptions {
  seconds: number;
  profile: Profile;
  say?: (line: string) => void;
  signal?: AbortSignal;
}

export interface FailoverSoakResult {
  seconds: number;
  /** Addresses that changed their owner though nobody had failed. */
  takeovers: number;
  /** Sessions that BFD gave up, as each side counts them. */
  sessionsLost: number;
  stalls: Stalls;
  /** Frames that the agents forwarded, and connections at the NodePort that were answered. */
  forwarded: number;
  connections: number;
}

/** How late processes were woken that might run, on all processors together. */
export interface Stalls {
  /** How often later than so many milliseconds. */
  over: { ms: number; count: number }[];
  /** Longest, in milliseconds. */
  longest: number;
}

const NODES = 3;
const IPERF_PORT = 5201;
const UDP_PORT = 5202;
const THRESHOLDS_MS = [10, 20, 30, 100, 300];
const SAY_MS = 60_000;
const LOOK_MS = 1000;

/** Runs it. Throws where the load does not come about. */
export async function failoverSoak(options: FailoverSoakOptions): Promise<FailoverSoakResult> {
  requirePrograms("iperf3", "curl", "python3");
  const net = new TestNet();
  try {
    const bed = await AnnounceBed.start(net, NODES, options.profile);
    return await run(net, bed, options);
  } finally {
    await net.cleanup();
  }
}

async function run(net: TestNet, bed: AnnounceBed, { seconds, say, signal }: FailoverSoakOptions) {
  await startServers(net, bed);
  const curls = startLoad(net, bed);
  const began = await totals(bed);
  await waitFor(async () => (await totals(bed)).forwarded > began.forwarded + 10_000, {
    what: "load",
    deadlineMs: 60_000,
  });
  await waitFor(() => curls.every((each) => answered(each) > 0), {
    what: "connections at the NodePort",
    deadlineMs: 60_000,
  });
  const stalls = net.spawn("", python(), [support("stalls.py"), ...THRESHOLDS_MS.map(String)]);
  await waitFor(() => stalls.stdout.includes("ready\n"), { what: "the stalls' observer" });
  const before = { ...(await totals(bed)), connections: sum(curls.map(answered)) };
  const start = performance.now();
  const end = start + seconds * 1000;
  let saidMs = start;
  let lost = 0;
  while (performance.now() < end && signal?.aborted !== true) {
    await sleep(
      Math.min(LOOK_MS, end - performance.now()),
      undefined,
      signal === undefined ? {} : { signal },
    ).catch(() => {});
    const nowMs = performance.now();
    const now = await totals(bed);
    const sessionsLost = now.sessionsLost - before.sessionsLost;
    if (sessionsLost === lost && nowMs < saidMs + SAY_MS && nowMs < end) continue;
    saidMs = nowMs;
    lost = sessionsLost;
    say?.(
      `${Math.round((nowMs - start) / 1000)} s: ${now.takeovers - before.takeovers} takeovers, ${sessionsLost} sessions lost; agents ${niceValues(bed)}`,
    );
  }
  const after = { ...(await totals(bed)), connections: sum(curls.map(answered)) };
  await stalls.stop();
  const seen = JSON.parse(stalls.stdout.trim().split("\n").at(-1)!) as { over: number[]; longest: number };
  return {
    seconds: (performance.now() - start) / 1000,
    takeovers: after.takeovers - before.takeovers,
    sessionsLost: after.sessionsLost - before.sessionsLost,
    forwarded: after.forwarded - before.forwarded,
    connections: after.connections - before.connections,
    stalls: {
      over: THRESHOLDS_MS.map((ms, n) => ({ ms, count: seen.over[n]! })),
      longest: seen.longest,
    },
  };
}

/** iperf3 for TCP and for UDP in the second pod of each node, HTTP in the first. */
async function startServers(net: TestNet, bed: AnnounceBed): Promise<void> {
  const serve = `require("node:http").createServer({ keepAlive: false }, (_, answer) => answer.end("ok\\n")).listen(${SERVICE_PORT}, () => console.log("ready"))`;
  for (const node of bed.nodes) {
    for (const port of [IPERF_PORT, UDP_PORT])
      net.spawn(podOf(bed, node, 1), "iperf3", ["-s", "-p", String(port)]);
    const http = net.spawn(podOf(bed, node, 0), process.execPath, ["-e", serve]);
    await waitFor(() => http.stdout.includes("ready"), { what: "an HTTP server" });
  }
}

/** A TCP and a UDP flood from each node to the next, and connections one after another. Returns the files that count those. */
function startLoad(net: TestNet, bed: AnnounceBed): string[] {
  const again = (command: string) => ["-c", `while :; do ${command} > /dev/null 2>&1 || sleep 0.2; done`];
  bed.nodes.forEach((node, n) => {
    const to = Object.values(bed.nodes[(n + 1) % bed.nodes.length]!.pods)[1]!;
    const client = podOf(bed, node, 0);
    net.spawn(client, "sh", again(`iperf3 -c ${to} -p ${IPERF_PORT} -t 60`));
    net.spawn(client, "sh", again(`iperf3 -c ${to} -p ${UDP_PORT} -u -b 0 -l 1400 -t 60`));
  });
  return bed.nodes.map(({ name, address }) => {
    const url = `http://${address}:${NODE_PORT}/[1-100]`;
    const file = join(net.directory(), `${name}.connections`);
    writeFileSync(file, "");
    const curl = `curl -q -s --max-time 2 -o /dev/null -w '%{exitcode}\\n' '${url}' | grep -c '^0$'`;
    // Into a file: a pipe to us would outlive the loop with the curl that holds it.
    net.spawn(bed.lan.host, "sh", ["-c", `while :; do ${curl}; done >> ${file} 2> /dev/null`]);
    return file;
  });
}

/** Connections of one loop that were answered. */
function answered(file: string): number {
  return sum(readFileSync(file, "utf8").trim().split("\n").map(Number));
}

/** Nice values of the agents' sessions, which their threads raise and lower (worker/priority). */
function niceValues(bed: AnnounceBed): string {
  const values = bed.nodes.map(({ name }) => {
    try {
      const autogroup = readFileSync(`/proc/${bed.agent(name).process.pid}/autogroup`, "utf8");
      return autogroup.trim().split(" ").at(-1);
    } catch {
      return "?";
    }
  });
  return `at nice ${values.join(", ")}`;
}

async function totals(bed: AnnounceBed) {
  const counters = await Promise.all(bed.nodes.map(({ name }) => bed.agent(name).request("counters")));
  return {
    takeovers: sum(counters.map(({ other }) => other.takeovers ?? 0)),
    forwarded: sum(counters.map(({ forwarded }) => forwarded)),
    sessionsLost: bed.sessionsLost(),
  };
}

function podOf(bed: AnnounceBed, node: NodePlan, n: number): string {
  return bed.lan.pod[Object.keys(node.pods)[n]!]!;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
