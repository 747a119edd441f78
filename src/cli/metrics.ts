/** --metrics of the commands that run for the cluster. */
import { Option } from "commander";
import type { Logger } from "pino";
import type { Registry } from "prom-client";
import { ipv4AndPort } from "./arguments.js";

/** An agent on the same machine has 9475. */
const DEFAULT_METRICS = "127.0.0.1:9476";

/** The option; its value is ADDRESS:PORT, or null for "off". */
export function metricsOption(): Option {
  return new Option("--metrics <ip:port>", 'where metrics are served; "off" for nowhere')
    .argParser((text) => (text === "off" ? null : ipv4AndPort(text)))
    .default(DEFAULT_METRICS);
}

/** Serves what `register` registers, and the process's own. Returns what ends it. */
export async function serveMetrics(
  address: string | null,
  log: Logger,
  register: (registry: Registry) => void,
): Promise<() => Promise<void>> {
  if (address === null) return async () => {};
  const [{ Registry }, { MetricsServer }, { registerProcess }] = await Promise.all([
    import("prom-client"),
    import("../metrics/MetricsServer.js"),
    import("../metrics/processMetrics.js"),
  ]);
  const registry = new Registry();
  register(registry);
  registerProcess(registry);
  const server = new MetricsServer(registry, {
    names: [],
    onError: (err) => log.warn({ err, address }, "metrics cannot be served; will try again"),
  });
  server.sync(address);
  return () => server.close();
}
