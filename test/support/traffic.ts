/**
 * Traffic between namespaces by programs that we did not write, or that know nothing of us
 * (traffic.py, inject.py). Every function throws when something is lost, changed or refused.
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type TestNet, type TestProcess, waitFor } from "./netns.js";

/** The program of traffic.py. */
export const TRAFFIC = fileURLToPath(new URL("./traffic.py", import.meta.url));
const INJECT = fileURLToPath(new URL("./inject.py", import.meta.url));
const CABLE = fileURLToPath(new URL("./cable.py", import.meta.url));

export const TCP_PORT = 21001;
export const UDP_PORT = 21002;
const IPERF_PORT = 5201;
/** Of a measurement that a busy machine may spoil. */
const RUNS = 5;

let interpreter = "";

/** The Python interpreter itself: what is first in PATH may be a wrapper that takes longer than a test. */
export function python(): string {
  if (interpreter === "")
    interpreter = execFileSync("python3", ["-c", "import sys; print(sys.executable)"], {
      encoding: "utf8",
    }).trim();
  return interpreter;
}

/** A namespace, and the address that others reach it at. */
export interface Peer {
  ns: string;
  address: string;
}

/** Starts a server and waits for the word that it prints once it listens. */
export async function startServer(
  net: TestNet,
  ns: string,
  command: string,
  args: string[],
  word: string,
): Promise<TestProcess> {
  const server = net.spawn(ns, command, args);
  await waitFor(() => server.stdout.includes(word) || server.stderr.includes(word) || server.code !== null, {
    deadlineMs: 30_000,
    what: `${command} ${args.join(" ")}: "${word}"`,
  });
  if (server.code !== null) throw new Error(`${command} ended: ${server.stderr}${server.stdout}`);
  return server;
}

/** Checksumming TCP and echoing UDP servers in each of the namespaces. */
export async function startServers(net: TestNet, ...namespaces: string[]): Promise<void> {
  await Promise.all(
    namespaces.flatMap((ns) => [
      startServer(net, ns, python(), [TRAFFIC, "tcp-serve", String(TCP_PORT)], "ready"),
      startServer(net, ns, python(), [TRAFFIC, "udp-serve", String(UDP_PORT)], "ready"),
    ]),
  );
}

// biome-ignore lint/suspicious/noExplicitAny: each command has its own report.
async function run(net: TestNet, ns: string, ...args: (string | number)[]): Promise<any> {
  const { stdout } = await net.exec(ns, python(), [TRAFFIC, ...args.map(String)]);
  return JSON.parse(stdout);
}

let seed = 1;

/** `bytes` seeded bytes by TCP, each end's SHA-256 equal. put: to the server; get: from it. */
export async function transfer(
  net: TestNet,
  from: string,
  to: string,
  direction: "put" | "get",
  bytes: number,
): Promise<void> {
  await run(net, from, `tcp-${direction}`, to, TCP_PORT, bytes, seed++);
}

/** Both directions at the same time. */
export async function transferBothWays(net: TestNet, a: Peer, b: Peer, bytes: number): Promise<void> {
  await Promise.all([
    transfer(net, a.ns, b.address, "put", bytes),
    transfer(net, b.ns, a.address, "put", bytes),
  ]);
}

/** Starts a TCP stream that lasts until endStream(); `rate` in bytes per second. */
export function startStream(net: TestNet, from: string, to: string, rate: number): TestProcess {
  const args = [TRAFFIC, "tcp-stream", to, TCP_PORT, seed++, rate].map(String);
  return net.spawn(from, python(), args);
}

/** Ends a stream and throws unless all of it arrived unchanged. Returns the bytes. */
export async function endStream(stream: TestProcess): Promise<number> {
  stream.kill("SIGTERM");
  const code = await stream.exited;
  if (code !== 0) throw new Error(`stream: exit ${code}: ${stream.stderr}${stream.stdout}`);
  return Number(JSON.parse(stream.stdout).received[1]);
}

/** Starts a TCP server that prints what it has received so far; one stream at a time. */
export async function startMeter(net: TestNet, ns: string): Promise<() => number> {
  const server = await startServer(net, ns, python(), [TRAFFIC, "tcp-serve", String(TCP_PORT)], "ready");
  return () => Number(/received (\d+)\n$/.exec(server.stdout)?.[1] ?? 0);
}

/** `count` datagrams of each size there and back; sent without UDP checksums on request. */
export async function echo(
  net: TestNet,
  from: string,
  to: string,
  count: number,
  sizes: number[],
  checksums: "summed" | "unsummed" = "summed",
): Promise<void> {
  const command = checksums === "summed" ? "udp-echo" : "udp-echo-unsummed";
  const { echoed } = await run(net, from, command, to, UDP_PORT, seed++, count, ...sizes);
  if (echoed !== count * sizes.length) throw new Error(`${echoed} of ${count * sizes.length} echoed`);
}

/** Datagrams that the sender's kernel is given in one call: `count` of `size` bytes, the last of `last`. */
export interface Train {
  size: number;
  count: number;
  last: number;
}

/** `rounds` times these trains; every datagram comes back by itself, with its own length and content. */
export async function echoTrains(
  net: TestNet,
  from: string,
  to: string,
  rounds: number,
  trains: Train[],
): Promise<void> {
  const words = trains.map(({ size, count, last }) => `${size},${count},${last}`);
  const { echoed } = await run(net, from, "udp-gso", to, UDP_PORT, seed++, rounds, ...words);
  const sent = rounds * trains.reduce((sum, { count }) => sum + count, 0);
  if (echoed !== sent) throw new Error(`${echoed} of ${sent} echoed`);
}

/** Pings three times for each size, every answer received. */
export async function ping(
  net: TestNet,
  from: string,
  to: string,
  sizes: number[] = [56],
  args: string[] = [],
): Promise<void> {
  for (const size of sizes) {
    // Once it has an answer ping waits for the others twice the longest RTT at most, or an interval; -W is
    // for those that have none. Three at once are all under way before the first answer.
    const all = ["-n", "-c", "3", "-l", "3", "-W", "10", "-s", String(size), ...args, to];
    const { stdout } = await net.exec(from, "ping", all);
    if (!/ 3 received/.test(stdout)) throw new Error(stdout);
  }
}

/** What ping prints where no answer is expected. */
export async function pingOutput(net: TestNet, from: string, to: string, args: string[]): Promise<string> {
  const result = await net.tryExec(from, "ping", ["-n", "-c", "1", "-W", "5", ...args, to]);
  return `${result.stdout}${result.stderr}`;
}

export interface CableReport {
  passed: number;
  lost: number;
  doubled: number;
  swapped: number;
  corrupted: number;
  marked: number;
}

/** Joins two devices of a namespace by a bad cable (cable.py); returns what ends it. */
export async function startCable(
  net: TestNet,
  ns: string,
  devices: [string, string],
  each: number,
): Promise<() => Promise<CableReport>> {
  const args = [CABLE, ...devices, String(seed++), String(each)];
  const cable = await startServer(net, ns, python(), args, "ready");
  return async () => {
    if ((await cable.stop()) !== 0) throw new Error(`the cable: ${cable.stderr}`);
    return JSON.parse(cable.stdout.slice("ready\n".length));
  };
}

/** Starts iperf3's server. */
export async function startIperf(net: TestNet, ns: string): Promise<void> {
  await startServer(net, ns, "iperf3", ["-s", "--forceflush"], "Server listening");
}

/**
 * Paced UDP by iperf3; returns its own sum. `rate` in bits per second. A receiver that has to wait for the
 * processor loses what its socket does not hold: a run that lost more than `mayLose`, a part of all packets,
 * is repeated, at most RUNS times in all.
 */
export async function iperfUdp(
  net: TestNet,
  from: string,
  to: string,
  options: { rate: number; length: number; seconds: number; mayLose: number; reverse?: boolean },
): Promise<{ packets: number; lost_packets: number }> {
  const { rate, length, seconds, mayLose, reverse } = options;
  const args = ["-c", to, "-p", IPERF_PORT, "-u", "-b", rate, "-l", length, "-t", seconds, "-J"].map(String);
  for (let run = 1; ; run++) {
    const { stdout } = await net.exec(from, "iperf3", reverse === true ? [...args, "-R"] : args);
    const { sum } = JSON.parse(stdout).end;
    if (run === RUNS || sum.lost_packets <= mayLose * sum.packets) return sum;
  }
}

/** One counter of a namespace's kernel, e.g. Tcp InCsumErrors, IpExt InCEPkts. */
export async function kernelCounter(net: TestNet, ns: string, group: string, name: string): Promise<number> {
  const { stdout } = await net.exec(ns, "cat", ["/proc/net/snmp", "/proc/net/netstat"]);
  const [names, values] = stdout
    .split("\n")
    .filter((line) => line.startsWith(`${group}: `))
    .map((line) => line.split(" "));
  const at = names?.indexOf(name) ?? -1;
  if (at < 0) throw new Error(`the kernel has no counter ${group} ${name}`);
  return Number(values![at]);
}

/** Writes packets the way inject.py reads them. */
function packetFile(net: TestNet, packets: readonly Uint8Array[]): string {
  const file = join(net.directory(), "packets");
  const parts = packets.flatMap((packet) => {
    const length = Buffer.alloc(2);
    length.writeUInt16BE(packet.length);
    return [length, packet];
  });
  writeFileSync(file, Buffer.concat(parts));
  return file;
}

/** Sends prepared datagrams by an ordinary socket, in one call each or all in one. Returns their number. */
export async function sendDatagrams(
  net: TestNet,
  from: Peer,
  sourcePort: number,
  to: string,
  port: number,
  packets: readonly Uint8Array[],
  mode: "udp" | "train" = "udp",
): Promise<number> {
  const file = packetFile(net, packets);
  const args = [INJECT, mode, from.address, String(sourcePort), to, String(port), file];
  return Number((await net.exec(from.ns, python(), args)).stdout);
}

/** Sends prepared frames on a device. Returns how many the kernel took. */
export async function sendFrames(
  net: TestNet,
  ns: string,
  device: string,
  packets: readonly Uint8Array[],
): Promise<number> {
  const args = [INJECT, "frames", device, packetFile(net, packets)];
  return Number((await net.exec(ns, python(), args)).stdout);
}
