/** `podwire capture`: packets from any point of their way through this node, as pcapng. */
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { Command, Option } from "commander";
import type { CaptureHead, CaptureRequest } from "../agent/Captures.js";
import { POINT_NAMES, type PointName } from "../capture/layout.js";
import { seconds, wholeNumber } from "./arguments.js";

interface Options {
  config?: string;
  stateDir?: string;
  point?: PointName[];
  filter?: string;
  pod?: string;
  count?: number;
  duration?: number;
  snapshotLength?: number;
  bufferSize?: number;
  write?: string;
}

/** The subcommand. */
export function captureCommand(): Command {
  return new Command("capture")
    .description(
      "Capture packets on their way through this node, as pcapng with comments: where a packet came from, its\n" +
        "flow, and what became of it and why. Without -w, or with -w -, to standard output:\n\n" +
        "  podwire capture -w - | tshark -r - -T fields -e frame.interface_name -e _ws.col.Info -e frame.comment",
    )
    .option("--config <file>", "config file that names the state directory")
    .option("-d, --state-dir <dir>", "the state directory (default: /run/podwire)")
    .addOption(
      new Option(
        "-p, --point <points...>",
        "inner: at the pods' interfaces and the node's; outer: on the tunnel; before, after: translation;\n" +
          "dropped: what is dropped (default: inner)",
      ).choices([...POINT_NAMES]),
    )
    .option(
      "-f, --filter <expression>",
      "a part of pcap-filter(7): host, net, port, portrange, proto, ip, arp, tcp, udp, icmp, sctp, with src, dst,\n" +
        "and, or, not, (). Holds for a translated packet if it holds before or after",
    )
    .option("--pod <namespace/name>", "packets that a pod of this node sends or gets")
    .option("-c, --count <packets>", "end after so many", wholeNumber(1))
    .option("--duration <seconds>", "end after this time", seconds(0.001))
    .option(
      "-s, --snapshot-length <bytes>",
      "most bytes of a packet, 64 or more (default: 262144)",
      wholeNumber(64),
    )
    .option(
      "-B, --buffer-size <MiB>",
      "ring between dataplane and agent, a power of two (default: 16)",
      wholeNumber(1),
    )
    .option("-w, --write <file>", "file to write; -: standard output")
    .action(run);
}

async function run(options: Options): Promise<void> {
  try {
    await capture(options);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}

async function capture(options: Options): Promise<void> {
  const { stateDirectory } = await import("./stateDirectory.js");
  const { openStream } = await import("../agent/StatusServer.js");
  const { Tally } = await import("../capture/Tally.js");
  const toStdout = options.write === undefined || options.write === "-";
  if (toStdout && process.stdout.isTTY)
    throw new Error("a capture is no text: give a file with -w, or a pipe: podwire capture | tshark -r -");
  const directory = await stateDirectory(options);
  const { head, bytes, stop } = await openStream<CaptureHead>(
    join(directory, "agent.sock"),
    "capture",
    requestOf(options),
  ).catch((error: NodeJS.ErrnoException) => {
    const none = error.code === "ENOENT" || error.code === "ECONNREFUSED";
    throw new Error(none ? `no agent runs on ${directory}; start one with podwire agent` : error.message);
  });
  const out = toStdout ? process.stdout : createWriteStream(options.write!);
  let gone: NodeJS.ErrnoException | null = null;
  out.on("error", (error) => {
    gone = error;
    stop();
  });
  // The second one ends us at once.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, stop);
  process.stderr.write(`capturing ${head.points.join(", ")} on ${head.node}\n`);
  const tally = new Tally();
  for await (const piece of bytes) {
    tally.take(piece);
    if (gone === null && !out.write(piece)) await drained(out);
  }
  if (!toStdout && gone === null) {
    out.end();
    await finished(out);
  }
  const error = gone as NodeJS.ErrnoException | null;
  // Who reads has seen enough.
  if (error !== null && error.code !== "EPIPE") throw error;
  const { packets, lost, complete } = tally;
  process.stderr.write(`${packets} packets captured, ${lost} lost since the ring was full\n`);
  if (!complete) throw new Error("the agent ended before the capture did: statistics are missing");
}

/** Resolves when there is room for more, or nobody takes it. */
function drained(out: NodeJS.WritableStream): Promise<void> {
  return new Promise((resolve) => {
    const go = () => {
      out.off("drain", go).off("error", go).off("close", go);
      resolve();
    };
    out.on("drain", go).on("error", go).on("close", go);
  });
}

function requestOf(options: Options): CaptureRequest {
  const { point = ["inner"], filter, pod, count, duration, snapshotLength: snapLength, bufferSize } = options;
  return {
    points: point,
    filter,
    pod,
    count,
    duration,
    snapLength,
    buffer: bufferSize,
  };
}
