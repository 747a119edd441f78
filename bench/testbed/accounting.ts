/** CPU time and memory: of processes, threads included, and of the whole machine. Reads /proc. */

import { readFileSync } from "node:fs";

/** Ticks per second in /proc (USER_HZ: 100 on every architecture that Node runs on). */
const TICKS = 100;

/** CPU time over a stretch of work. */
export interface CpuUse {
  /** Wall-clock seconds. */
  seconds: number;
  /** CPU seconds of the processes asked about, user and system. */
  processes: number;
  /** CPU seconds of the whole machine, interrupts included. */
  machine: number;
  /** Seconds that the hypervisor gave to somebody else. */
  stolen: number;
}

/** Memory of one process, in MiB. */
export interface Memory {
  rss: number;
  /** Shared pages counted in proportion. */
  pss: number;
}

/** Runs `work`, and accounts for the CPU time of `pids` and of the machine meanwhile. */
export async function accounted<T>(
  pids: readonly number[],
  work: () => Promise<T>,
): Promise<{ result: T; cpu: CpuUse }> {
  const before = { time: performance.now(), processes: cpuOf(pids), machine: machineCpu() };
  const result = await work();
  const machine = machineCpu();
  return {
    result,
    cpu: {
      seconds: (performance.now() - before.time) / 1000,
      processes: cpuOf(pids) - before.processes,
      machine: machine.busy - before.machine.busy,
      stolen: machine.stolen - before.machine.stolen,
    },
  };
}

/** RSS and PSS of a process; null where it is gone. */
export function memoryOf(pid: number): Memory | null {
  try {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(rollup)?.[1]) / 1024;
    return { rss: field("Rss"), pss: field("Pss") };
  } catch {
    return null;
  }
}

/** CPU seconds of processes since their start: user and system, ended threads included. */
function cpuOf(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      // The name may hold anything; after its closing parenthesis come state and numbers.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // Ended: adds nothing.
    }
  }
  return ticks / TICKS;
}

/** CPU seconds of the machine since boot. */
function machineCpu(): { busy: number; stolen: number } {
  const fields = readFileSync("/proc/stat", "utf8").split("\n")[0].trim().split(/\s+/).slice(1).map(Number);
  const [user, nice, system, , , irq, softirq, steal] = fields;
  return { busy: (user! + nice! + system! + irq! + softirq!) / TICKS, stolen: (steal ?? 0) / TICKS };
}
