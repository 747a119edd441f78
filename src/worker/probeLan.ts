/**
 * Asks a LAN whether somebody has an IPv4 address: dataplane/AddressProbe on a packet socket of its own,
 * beside the dataplane and on the calling thread, since a few frames a second need no more. Must not know
 * why it is asked.
 */
import { readSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Native } from "../binding/types.js";
import { AddressProbe, type ProbeTimes, QUICK_TIMES, TAKEN } from "../dataplane/AddressProbe.js";
import type { LanSink } from "../dataplane/Announcer.js";
import type { Mac } from "../tables/TableInput.js";

export interface LanProbeOptions {
  native: Pick<Native, "openPacket" | "close">;
  /** Path of the network namespace, "" for the process's own. */
  netns: string;
  /** Interface on the LAN. */
  ifname: string;
  /** MAC of that interface. */
  mac: Mac;
  /** The address, int32. */
  address: number;
  /** Default: QUICK_TIMES, some half a second. */
  times?: ProbeTimes;
}

const ETHERTYPE_ARP = 0x0806;
/** How often the socket is looked at. */
const LOOK_MS = 5;
const MAX_FRAME = 2048;

/**
 * Resolves to the MAC of who has the address, null where the probes stay unanswered. Rejects with a SysError or
 * Node's system error where the interface is not there or is down (ENODEV, ENETDOWN). Whether it has carrier
 * is the caller's to know: without one nobody answers.
 */
export async function probeLan(options: LanProbeOptions): Promise<Mac | null> {
  const { native, netns, ifname, mac, address, times = QUICK_TIMES } = options;
  const fd = native.openPacket({ netns, ifname, protocol: ETHERTYPE_ARP, filter: filterFor(address) });
  try {
    const out = Buffer.alloc(MAX_FRAME);
    const sink: LanSink = {
      view: new DataView(out.buffer, out.byteOffset, out.length),
      room: () => 0,
      send: (start, length) => void writeSync(fd, out, start, length),
    };
    const now = () => performance.now() * 1000;
    const probe = new AddressProbe(sink, address, mac.hi, mac.lo, times, Math.random, now());
    const frame = Buffer.alloc(MAX_FRAME);
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    // What has come counts before the time that it came too late for.
    while (!hearAll(fd, frame, view, probe) && !probe.advance(now())) await sleep(LOOK_MS);
    return probe.result === TAKEN ? { hi: probe.takenByHi, lo: probe.takenByLo } : null;
  } finally {
    native.close(fd);
  }
}

/** Takes every frame that waits. Whether the probe is over. */
function hearAll(fd: number, frame: Buffer, view: DataView, probe: AddressProbe): boolean {
  for (;;) {
    const length = readFrame(fd, frame);
    if (length < 0) return false;
    if (probe.receive(view, 0, length)) return true;
  }
}

/** Length of the frame read, -1 where none waits. */
function readFrame(fd: number, frame: Buffer): number {
  try {
    return readSync(fd, frame, 0, frame.length, null);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return -1;
    throw error;
  }
}

// Classic BPF (linux/filter.h): BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K.
const LOAD_WORD = 0x20;
const JUMP_EQUAL = 0x15;
const RETURN = 0x06;
/** Sender's and target's protocol address of ARP behind an Ethernet header. */
const SENDER_ADDRESS = 28;
const TARGET_ADDRESS = 38;

/** Lets through ARP with the address as the sender's or the target's. */
function filterFor(address: number): number[] {
  const wanted = address >>> 0;
  return [
    [LOAD_WORD, 0, 0, SENDER_ADDRESS],
    [JUMP_EQUAL, 2, 0, wanted],
    [LOAD_WORD, 0, 0, TARGET_ADDRESS],
    [JUMP_EQUAL, 0, 1, wanted],
    [RETURN, 0, 0, MAX_FRAME],
    [RETURN, 0, 0, 0],
  ].flat();
}
