/** What an agent's metrics are read from, with something in everything. */
import type { MetricSources } from "../../src/agent/agentMetrics.js";
import type { CounterReport } from "../../src/agent/counterReport.js";

const count = (packets: number) => ({ packets, bytes: packets * 100 });
const report: CounterReport = {
  received: 10,
  forwarded: 7,
  answered: 1,
  dropped: { noRoute: 2 },
  other: { receivedBytes: 1000, forwardedBytes: 700, breaths: 4, tableSwaps: 3, serviceSwaps: 5 },
  loop: { boundsUs: [10, 1000], counts: [3, 1, 1], sumUs: 12_345 },
  takenAtMs: 1,
  vteps: [{ node: "k8s-worker01", address: "192.168.2.31", received: count(1), sent: count(2) }],
  services: [
    {
      namespace: "default",
      name: "lb-nginx-ds",
      port: "http",
      protocol: "TCP",
      clusterIP: "10.152.183.7",
      l4Port: 8080,
      nodePort: 30800,
      externalIPs: ["192.168.2.36"],
      endpoints: 4,
      requests: count(3),
      replies: count(4),
    },
  ],
  otherFlows: { requests: count(5), replies: count(6) },
  ringsBuilt: 9,
};

/** Sources that always say the same. */
export function fakeSources(): Required<MetricSources> {
  return SOURCES;
}

const SOURCES: Required<MetricSources> = {
  node: "k8s-master",
  counters: () => report,
  dropReasons: ["noRoute", "martian"],
  flows: () => ({
    flows: 11,
    capacity: 1024,
    egress: 2,
    counters: {
      inserted: 20,
      expired: 8,
      removed: 1,
      evictedExpired: 0,
      evictedUnreplied: 0,
      evictedClosing: 0,
      refused: 0,
    },
  }),
  services: () => ({
    count: 3,
    memory: 4096,
    changes: { services: { total: 6, pending: 1 }, endpoints: { total: 12, pending: 2 } },
    withoutLocalEndpoints: { internal: 0, external: 1 },
  }),
  pods: () => ({ up: 3, failed: 1 }),
  healthy: () => true,
  announcement: async () => ({
    announced: [{ service: "default/lb-nginx-ds", address: "192.168.2.36" }],
    sessions: [
      { node: "k8s-worker01", up: true },
      { node: "k8s-worker02", up: false },
    ],
  }),
};
