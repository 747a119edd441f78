/**
 * Keeps idle processors from sleeping while packets go back and forth. A packet crosses two agents,
 * each of which has to be woken; where a processor has gone to sleep meanwhile, that takes longer
 * than everything else (30 µs on a virtual machine, whose processor is halted and has to be
 * scheduled again, and 50 µs and more for a deep C-state). Linux has an interface for it, the CPU
 * latency QoS: whoever holds /dev/cpu_dma_latency open says how long a wake-up may take
 * (Documentation/power/pm_qos_interface). With 0 the kernel's idle loop polls, at a priority below
 * everything else. It costs power, so it is asked for only while a thread is woken often, and the
 * kernel ends it with the process.
 *
 * The same count of frames tells whether the thread is under load, and spinning pays.
 */
import { closeSync, openSync, writeSync } from "node:fs";

/** Time over which sleeps and frames are counted; a request ends within twice this time of the last packet. */
export const LATENCY_WINDOW_MS = 25;
/**
 * Sleeps, and frames, within a window from which on waking up is what packets wait for. Both: a thread
 * that wakes for timers alone, or for BFD, has nobody waiting.
 */
const OFTEN = 4;
/**
 * Frames within a window up to which it is: a question and its answer at a time. Under load a polling
 * processor helps nobody and slows down its sibling of the same core (15-30 % of throughput here).
 */
const FEW_FRAMES = 250;
const DEVICE = "/dev/cpu_dma_latency";

/** What a request is made of; another one in tests. */
export interface LatencyDevice {
  /** Throws where it cannot be made (no such device, no rights). */
  request(): void;
  release(): void;
}

/** The kernel's. */
export class CpuDmaLatency implements LatencyDevice {
  #fd = -1;

  request(): void {
    this.#fd = openSync(DEVICE, "r+");
    // A 32-bit number in machine order: microseconds.
    writeSync(this.#fd, new Uint8Array(4));
  }

  release(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

/** Decides when to hold the request, from how often its thread sleeps. */
export class CpuLatency {
  /** Whether the request stands; the thread must then look again within LATENCY_WINDOW_MS. */
  held = false;
  /** Requests made so far. */
  requests = 0;
  /** Whether many frames came lately: what one of them costs then matters more than how long it waits. */
  underLoad = false;
  #windowEndUs = 0;
  /** Infinite before the first window: what was before it is nobody's. */
  #sleepsAtStart = Infinity;
  #framesAtStart = Infinity;
  #device: LatencyDevice | null;

  /** Without a device (null) nothing is ever requested. */
  constructor(device: LatencyDevice | null) {
    this.#device = device;
  }

  /**
   * After each breath: the time in microseconds, and how often the thread has slept and how many frames
   * it has received since it started.
   */
  look(nowUs: number, sleeps: number, frames: number): void {
    const received = frames - this.#framesAtStart;
    if (received > FEW_FRAMES) {
      this.underLoad = true;
      this.release();
    }
    if (nowUs < this.#windowEndUs) return;
    this.underLoad = received > FEW_FRAMES;
    const waits = sleeps - this.#sleepsAtStart >= OFTEN && received >= OFTEN && received <= FEW_FRAMES;
    if (!waits) this.release();
    else if (!this.held) this.#request();
    this.#windowEndUs = nowUs + LATENCY_WINDOW_MS * 1000;
    this.#sleepsAtStart = sleeps;
    this.#framesAtStart = frames;
  }

  release(): void {
    if (!this.held) return;
    this.held = false;
    this.#device?.release();
  }

  #request(): void {
    if (this.#device === null) return;
    try {
      this.#device.request();
      this.held = true;
      this.requests++;
    } catch {
      // Not allowed to, or no such device: it works without.
      this.#device = null;
    }
  }
}
