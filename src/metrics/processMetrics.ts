/**
 * This process, by the names that every Prometheus client has. prom-client's own set wakes the process
 * a hundred times a second to see how late its timers are; that is left out.
 */
import type { Registry } from "prom-client";
import { readCounter, readGauge } from "./read.js";

/** Registers CPU time, memory and start time of this process. */
export function registerProcess(register: Registry): void {
  const startedAt = Date.now() / 1000 - process.uptime();
  readCounter(
    register,
    { name: "process_cpu_seconds_total", help: "User and system CPU time of all threads." },
    () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    },
  );
  readGauge(register, { name: "process_resident_memory_bytes", help: "Resident memory." }, () =>
    process.memoryUsage.rss(),
  );
  readGauge(
    register,
    { name: "process_start_time_seconds", help: "When the process started, in Unix time." },
    () => startedAt,
  );
}
