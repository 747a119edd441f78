import { describe, expect, it } from "vitest";
import { CpuLatency, LATENCY_WINDOW_MS, type LatencyDevice } from "../../../src/worker/CpuLatency.js";

const WINDOW_US = LATENCY_WINDOW_MS * 1000;

class FakeDevice implements LatencyDevice {
  log: string[] = [];
  refuses = false;

  request(): void {
    this.log.push("request");
    if (this.refuses) throw new Error("EACCES");
  }

  release(): void {
    this.log.push("release");
  }
}

/** Sleeps every `everyUs` for a time; the clock goes on from one call to the next. */
class Thread {
  nowUs = 5_000_000;
  sleeps = 7;
  frames = 40;

  constructor(readonly latency: CpuLatency) {}

  sleepEvery(everyUs: number, forUs: number, frames = 2): void {
    for (const end = this.nowUs + forUs; this.nowUs < end; ) {
      this.nowUs += everyUs;
      this.sleeps++;
      this.frames += frames;
      this.latency.look(this.nowUs, this.sleeps, this.frames);
    }
  }

  spinFor(forUs: number): void {
    for (const end = this.nowUs + forUs; this.nowUs < end; ) {
      this.nowUs += 50;
      this.latency.look(this.nowUs, this.sleeps, this.frames);
    }
  }
}

describe("CPU latency", () => {
  it("is requested once a thread is woken often, and released once it is not", () => {
    const device = new FakeDevice();
    const thread = new Thread(new CpuLatency(device));
    thread.sleepEvery(2000, 2 * WINDOW_US);
    expect(thread.latency.held).toBe(true);
    thread.sleepEvery(2000, 20 * WINDOW_US);
    expect(device.log).toEqual(["request"]);
    thread.sleepEvery(WINDOW_US, 2 * WINDOW_US);
    expect(thread.latency.held).toBe(false);
    expect(device.log).toEqual(["request", "release"]);
    thread.sleepEvery(2000, 2 * WINDOW_US);
    expect(thread.latency.requests).toBe(2);
  });

  it("tells load from single packets, as soon as it begins", () => {
    const thread = new Thread(new CpuLatency(null));
    thread.sleepEvery(2000, 3 * WINDOW_US);
    expect(thread.latency.underLoad).toBe(false);
    thread.sleepEvery(50, WINDOW_US / 2);
    expect(thread.latency.underLoad).toBe(true);
    thread.sleepEvery(50, 3 * WINDOW_US);
    expect(thread.latency.underLoad).toBe(true);
    thread.sleepEvery(2000, 2 * WINDOW_US);
    expect(thread.latency.underLoad).toBe(false);
  });

  it("is left alone by a packet now and then", () => {
    const device = new FakeDevice();
    const thread = new Thread(new CpuLatency(device));
    thread.sleepEvery(10_000, 100 * WINDOW_US);
    expect(device.log).toEqual([]);
  });

  it("is left alone by timers that wake the thread without a packet", () => {
    const device = new FakeDevice();
    const thread = new Thread(new CpuLatency(device));
    thread.sleepEvery(1000, 100 * WINDOW_US, 0);
    expect(device.log).toEqual([]);
  });

  it("is not needed by a thread that never sleeps", () => {
    const device = new FakeDevice();
    const thread = new Thread(new CpuLatency(device));
    thread.sleepEvery(1000, 2 * WINDOW_US);
    thread.spinFor(3 * WINDOW_US);
    expect(device.log).toEqual(["request", "release"]);
  });

  it("is let go at once under load, and not asked for", () => {
    const device = new FakeDevice();
    const thread = new Thread(new CpuLatency(device));
    thread.sleepEvery(2000, 2 * WINDOW_US);
    thread.sleepEvery(2000, WINDOW_US / 2, 100);
    expect(device.log).toEqual(["request", "release"]);
    thread.sleepEvery(2000, 20 * WINDOW_US, 100);
    expect(device.log).toEqual(["request", "release"]);
  });

  it("is not asked for again where it is refused", () => {
    const device = new FakeDevice();
    device.refuses = true;
    const thread = new Thread(new CpuLatency(device));
    thread.sleepEvery(1000, 10 * WINDOW_US);
    thread.latency.release();
    expect(device.log).toEqual(["request"]);
    expect(thread.latency.requests).toBe(0);
  });

  it("is released as its thread ends", () => {
    const device = new FakeDevice();
    const thread = new Thread(new CpuLatency(device));
    thread.sleepEvery(1000, 2 * WINDOW_US);
    thread.latency.release();
    thread.latency.release();
    expect(device.log).toEqual(["request", "release"]);
  });
});
