/** What an agent tells Prometheus, from sources of a test. */
import { beforeEach, expect, test } from "vitest";
import { AgentMetrics, type MetricSources } from "../../../src/agent/agentMetrics.js";
import { fakeSources } from "../../support/metricSources.js";

const START = Date.UTC(2026, 0, 1);
let now: number;
let asked: number;
let sources: MetricSources;
let metrics: AgentMetrics;
const all = fakeSources();
const { announcement, ...rest } = all;

beforeEach(() => {
  now = START;
  asked = 0;
  const counters = () => {
    asked++;
    return all.counters();
  };
  sources = { ...rest, counters };
  metrics = new AgentMetrics(sources, () => now);
});

/** Lines of the text without comments. */
async function lines(): Promise<string[]> {
  return (await metrics.registry.metrics())
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"));
}

test("everything that was counted, under its name and labels", async () => {
  const text = await lines();
  const service = 'namespace="default",service="lb-nginx-ds",port="http",protocol="TCP"';
  for (const line of [
    "podwire_frames_received_total 10",
    "podwire_frames_forwarded_total 7",
    "podwire_frames_answered_total 1",
    "podwire_received_bytes_total 1000",
    "podwire_forwarded_bytes_total 700",
    'podwire_drops_total{reason="noRoute"} 2',
    'podwire_drops_total{reason="martian"} 0',
    'podwire_vtep_packets_total{node="k8s-worker01",direction="received"} 1',
    'podwire_vtep_bytes_total{node="k8s-worker01",direction="sent"} 200',
    `podwire_service_packets_total{${service},direction="request"} 3`,
    `podwire_service_bytes_total{${service},direction="reply"} 400`,
    "podwire_ring_rebuilds_total 9",
    'podwire_table_swaps_total{table="addresses"} 3',
    'podwire_table_swaps_total{table="services"} 5',
    'podwire_dataplane_operations_total{operation="breaths"} 4',
    'podwire_loop_duration_seconds_bucket{le="0.00001"} 3',
    'podwire_loop_duration_seconds_bucket{le="0.001"} 4',
    'podwire_loop_duration_seconds_bucket{le="+Inf"} 5',
    "podwire_loop_duration_seconds_sum 0.012345",
    "podwire_loop_duration_seconds_count 5",
    "podwire_flows 11",
    "podwire_flows_limit 1024",
    "podwire_flows_egress 2",
    'podwire_flow_events_total{event="inserted"} 20',
    'podwire_pods{state="up"} 3',
    'podwire_pods{state="failed"} 1',
    "podwire_vteps 1",
    "podwire_services 3",
    "podwire_service_table_bytes 4096",
    "podwire_healthy 1",
    "kubeproxy_sync_proxy_rules_service_changes_total 6",
    "kubeproxy_sync_proxy_rules_service_changes_pending 1",
    "kubeproxy_sync_proxy_rules_endpoint_changes_total 12",
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending 2",
    'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="internal"} 0',
    'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 1',
  ])
    expect(text).toContain(line);
  expect(text.filter((line) => /operation="(receivedBytes|tableSwaps)"/.test(line))).toEqual([]);
});

test("one scrape asks once", async () => {
  await lines();
  expect(asked).toBe(1);
  await new Promise((resolve) => setImmediate(resolve));
  await lines();
  expect(asked).toBe(2);
});

test("publishing, as kube-proxy's rounds: how long, when, and since when it was due", async () => {
  now = START + 10_000;
  metrics.queued();
  now = START + 10_300;
  // The first happened before this agent started, the last in a clock that is ahead.
  metrics.published(3, [START - 1, START + 9_000, START + 20_000]);
  const text = await lines();
  const family = 'ip_family="IPv4"';
  for (const line of [
    `kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.002",${family}} 0`,
    `kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.004",${family}} 1`,
    `kubeproxy_sync_proxy_rules_duration_seconds_sum{${family}} 0.003`,
    `kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{${family}} ${(START + 10_000) / 1000}`,
    `kubeproxy_sync_proxy_rules_last_timestamp_seconds{${family}} ${(START + 10_300) / 1000}`,
    `kubeproxy_network_programming_duration_seconds_bucket{le="1",${family}} 0`,
    `kubeproxy_network_programming_duration_seconds_bucket{le="2",${family}} 1`,
    `kubeproxy_network_programming_duration_seconds_count{${family}} 1`,
  ])
    expect(text).toContain(line);
});

test("announcement, where there is one", async () => {
  expect((await lines()).filter((line) => /^(metallb|podwire_bfd)/.test(line))).toEqual([]);
  metrics = new AgentMetrics({ ...sources, announcement }, () => now);
  const text = await lines();
  for (const line of [
    'metallb_speaker_announced{service="default/lb-nginx-ds",protocol="layer2",node="k8s-master",ip="192.168.2.36"} 1',
    'podwire_bfd_session_up{node="k8s-worker01"} 1',
    'podwire_bfd_session_up{node="k8s-worker02"} 0',
  ])
    expect(text).toContain(line);
});
