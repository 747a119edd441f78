/**
 * What really crosses the LAN: captures a moment of traffic on the bridge and finds the longest
 * frame. "Segmentation offloads off" is a claim about the wire, and is checked there.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { inNetns, type Launcher } from "../command.js";
import { LAN_MTU, type NetSet, SIDE_A, workDirectory } from "../testbed/topology.js";

/** Frames looked at, and how long to wait for them. */
const CAPTURE_FRAMES = 20_000;
const CAPTURE_TIMEOUT_MS = 8_000;
const ETHERNET_HEADER = 14;

/** The longest Ethernet frame that fits the LAN's MTU. */
export const LONGEST_WIRE_FRAME = LAN_MTU + ETHERNET_HEADER;

/** Frames of a capture. */
export interface WireCheck {
  frames: number;
  /** Bytes of the longest one, its Ethernet header included. */
  longest: number;
}

/**
 * Captures on the bridge's port to node A, both directions, while `traffic` runs.
 */
export async function captureWire(
  launcher: Launcher,
  set: NetSet,
  traffic: () => Promise<unknown>,
): Promise<WireCheck> {
  const file = join(workDirectory(), "wire.pcap");
  const capture = launcher.start(
    inNetns(set.lan, [
      "tcpdump",
      "-Z",
      "root",
      "-i",
      SIDE_A.bridgePort,
      "-n",
      "-s",
      "64",
      "-U",
      "-c",
      String(CAPTURE_FRAMES),
      "-w",
      file,
      "udp or tcp",
    ]),
    join(workDirectory(), "tcpdump.log"),
  );
  await new Promise((resolve) => setTimeout(resolve, 400));
  await traffic();
  await launcher.stop([capture], CAPTURE_TIMEOUT_MS);
  return longestFrame(readFileSync(file));
}

/** Reads a capture in the classic pcap format, in this machine's byte order. */
export function longestFrame(capture: Buffer): WireCheck {
  const GLOBAL_HEADER = 24;
  const RECORD_HEADER = 16;
  const INCLUDED_LENGTH = 8;
  const ORIGINAL_LENGTH = 12;
  let frames = 0;
  let longest = 0;
  let at = GLOBAL_HEADER;
  while (at + RECORD_HEADER <= capture.length) {
    frames++;
    longest = Math.max(longest, capture.readUInt32LE(at + ORIGINAL_LENGTH));
    at += RECORD_HEADER + capture.readUInt32LE(at + INCLUDED_LENGTH);
  }
  return { frames, longest };
}
