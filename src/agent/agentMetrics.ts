/**
 * What an agent tells Prometheus. Our own names begin with podwire_; kubeproxy_* and metallb_* are those
 * that dashboards of the systems in our place look for, with their labels and buckets, where podwire has
 * the thing. All but what an observer counts is read when it is asked for.
 *
 * Service ports without traffic through this node have no series: a node knows thousands of Services,
 * and carries few.
 */
import { Gauge, Histogram, Registry } from "prom-client";
import type { ServiceChanges } from "../desired/services.js";
import { registerProcess } from "../metrics/processMetrics.js";
import { readCounter, readGauge, readHistogram, type Sample } from "../metrics/read.js";
import type { PublishObserver } from "../reconcile/ServicePublisher.js";
import type { TrafficCount } from "../worker/control.js";
import type { CounterReport } from "./counterReport.js";
import type { FlowStats } from "./flowReport.js";

/** What this node has to do with load-balancer addresses. */
export interface Announcement {
  /** Those that it owns now, and a Service (namespace/name) that has each. */
  announced: { service: string; address: string }[];
  /** BFD sessions: whether each is up, by the other node. */
  sessions: { node: string; up: boolean }[];
}

/** Where the values come from. Each is asked once for a scrape at most. */
export interface MetricSources {
  node: string;
  counters(): CounterReport;
  /** Drop reasons that there are: each is a series from the start, so that its first drop shows. */
  dropReasons: readonly string[];
  flows(): FlowStats;
  services(): {
    count: number;
    memory: number;
    changes: ServiceChanges;
    withoutLocalEndpoints: { internal: number; external: number };
  };
  /** Pods by state of their interface. */
  pods(): Readonly<Record<string, number>>;
  /** As /livez has it. */
  healthy(): boolean;
  /** Left out where this node announces no load-balancer address. */
  announcement?: () => Promise<Announcement>;
}

/** As kube-proxy has them: 1 ms … 16 s. */
const SYNC_BUCKETS = Array.from({ length: 15 }, (_, n) => 0.001 * 2 ** n);
/** As kube-proxy has them: to 0.5 s, to 59 s, to 115 s, to 5 min. */
const PROGRAMMING_BUCKETS = [
  0.25,
  0.5,
  ...Array.from({ length: 59 }, (_, n) => 1 + n),
  ...Array.from({ length: 12 }, (_, n) => 60 + 5 * n),
  ...Array.from({ length: 7 }, (_, n) => 120 + 30 * n),
];
/** kube-proxy since 1.33 has one proxier, and one series, for each family. */
const FAMILY = { ip_family: "IPv4" };

export class AgentMetrics implements PublishObserver {
  readonly registry = new Registry();
  readonly #syncDuration: Histogram;
  readonly #programming: Histogram;
  readonly #lastSync: Gauge;
  readonly #lastQueued: Gauge;
  readonly #startedAt: number;
  readonly #counters = this.#shared(() => this.sources.counters());

  /** @param now Unix milliseconds */
  constructor(
    private readonly sources: MetricSources,
    private readonly now: () => number = Date.now,
  ) {
    this.#startedAt = now();
    const registers = [this.registry];
    const labelNames = ["ip_family"];
    this.#syncDuration = new Histogram({
      name: "kubeproxy_sync_proxy_rules_duration_seconds",
      help: "Time from compiling changed Services until the dataplane goes by them.",
      buckets: SYNC_BUCKETS,
      labelNames,
      registers,
    });
    this.#programming = new Histogram({
      name: "kubeproxy_network_programming_duration_seconds",
      help: "Time from a change of a pod or Service, by its EndpointSlice's last-change-trigger-time, until the dataplane goes by it.",
      buckets: PROGRAMMING_BUCKETS,
      labelNames,
      registers,
    });
    this.#lastSync = new Gauge({
      name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
      help: "When Services were last brought to the dataplane, in Unix time.",
      labelNames,
      registers,
    });
    this.#lastQueued = new Gauge({
      name: "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
      help: "When that was last asked for, in Unix time.",
      labelNames,
      registers,
    });
    this.#registerServices();
    this.#registerFrames();
    this.#registerTraffic();
    this.#registerState();
    this.#registerAnnouncement();
    registerProcess(this.registry);
  }

  queued(): void {
    this.#lastQueued.set(FAMILY, this.now() / 1000);
  }

  published(durationMs: number, triggers: readonly number[]): void {
    const now = this.now();
    this.#syncDuration.observe(FAMILY, durationMs / 1000);
    this.#lastSync.set(FAMILY, now / 1000);
    // As kube-proxy: what had happened before it started says nothing of it.
    for (const trigger of triggers)
      if (trigger >= this.#startedAt && trigger <= now)
        this.#programming.observe(FAMILY, (now - trigger) / 1000);
  }

  #registerServices(): void {
    const { registry } = this;
    const services = this.#shared(() => this.sources.services());
    for (const kind of ["service", "endpoint"] as const) {
      const of = () => services().changes[kind === "service" ? "services" : "endpoints"];
      readCounter(
        registry,
        { name: `kubeproxy_sync_proxy_rules_${kind}_changes_total`, help: `Changes of a ${kind} seen.` },
        () => of().total,
      );
      readGauge(
        registry,
        {
          name: `kubeproxy_sync_proxy_rules_${kind}_changes_pending`,
          help: `Changes of a ${kind} seen and not yet compiled.`,
        },
        () => of().pending,
      );
    }
    readGauge(
      registry,
      {
        name: "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        help: "Service ports with traffic policy Local and endpoints on other nodes only.",
      },
      () =>
        Object.entries(services().withoutLocalEndpoints).map(([policy, value]) => ({
          labels: { ...FAMILY, traffic_policy: policy },
          value,
        })),
    );
    readGauge(
      registry,
      { name: "podwire_services", help: "Services with an address." },
      () => services().count,
    );
    readGauge(
      registry,
      { name: "podwire_service_table_bytes", help: "Bytes of the service table in use." },
      () => services().memory,
    );
  }

  #registerFrames(): void {
    const { registry } = this;
    const counters = this.#counters;
    const total = (name: string, help: string, read: (report: CounterReport) => number) =>
      readCounter(registry, { name, help }, () => read(counters()));
    total(
      "podwire_frames_received_total",
      "Frames received from pods, the node and the tunnel.",
      (c) => c.received,
    );
    total("podwire_frames_forwarded_total", "Frames handed on.", (c) => c.forwarded);
    total(
      "podwire_frames_answered_total",
      "Frames that the dataplane answered itself (ARP).",
      (c) => c.answered,
    );
    total("podwire_received_bytes_total", "Bytes of received frames.", (c) => c.other.receivedBytes ?? 0);
    total("podwire_forwarded_bytes_total", "Bytes of forwarded frames.", (c) => c.other.forwardedBytes ?? 0);
    total("podwire_ring_rebuilds_total", "Rings of endpoints (Maglev) built.", (c) => c.ringsBuilt);
    readCounter(registry, { name: "podwire_drops_total", help: "Frames dropped, by reason." }, () => {
      const { dropped } = counters();
      return this.sources.dropReasons.map((reason) => ({ labels: { reason }, value: dropped[reason] ?? 0 }));
    });
    readCounter(
      registry,
      {
        name: "podwire_table_swaps_total",
        help: "Tables put in the place of others: addresses, or Services.",
      },
      () => {
        const { tableSwaps = 0, serviceSwaps = 0 } = counters().other;
        return [
          { labels: { table: "addresses" }, value: tableSwaps },
          { labels: { table: "services" }, value: serviceSwaps },
        ];
      },
    );
    readCounter(
      registry,
      {
        name: "podwire_dataplane_operations_total",
        help: "What the dataplane did beside forwarding, by kind: breaths, system calls, sleeps, ICMP errors, …",
      },
      () =>
        Object.entries(counters().other)
          .filter(([name]) => !name.endsWith("Bytes") && !name.endsWith("Swaps"))
          .map(([operation, value]) => ({ labels: { operation }, value })),
    );
    readHistogram(
      registry,
      {
        name: "podwire_loop_duration_seconds",
        help: "Time that the dataplane needed for what was ready at once: from waking up until the last frame was sent.",
      },
      () => {
        const { boundsUs, counts, sumUs } = counters().loop;
        return { bounds: boundsUs.map((us) => us / 1e6), counts, sum: sumUs / 1e6 };
      },
    );
  }

  #registerTraffic(): void {
    const { registry } = this;
    const counters = this.#counters;
    const both = (
      what: string,
      help: string,
      rows: () => Iterable<{ labels: Record<string, string>; count: TrafficCount }>,
    ) => {
      for (const unit of ["packets", "bytes"] as const)
        readCounter(
          registry,
          { name: `podwire_${what}_${unit}_total`, help: `${help}, ${unit}.` },
          function* (): Generator<Sample> {
            for (const { labels, count } of rows()) yield { labels, value: count[unit] };
          },
        );
    };
    both("vtep", "Traffic with another node's VTEP, inner frames", function* () {
      for (const { node, received, sent } of counters().vteps) {
        yield { labels: { node, direction: "received" }, count: received };
        yield { labels: { node, direction: "sent" }, count: sent };
      }
    });
    both("service", "Traffic of a Service that this node translates, by service port", function* () {
      for (const { namespace, name, port, protocol, requests, replies } of counters().services) {
        const labels = { namespace, service: name, port, protocol };
        yield { labels: { ...labels, direction: "request" }, count: requests };
        yield { labels: { ...labels, direction: "reply" }, count: replies };
      }
    });
  }

  #registerState(): void {
    const { registry, sources } = this;
    const flows = this.#shared(() => sources.flows());
    readGauge(registry, { name: "podwire_flows", help: "Flows that are tracked." }, () => flows().flows);
    readGauge(registry, { name: "podwire_flows_limit", help: "Flows at most." }, () => flows().capacity);
    readGauge(
      registry,
      { name: "podwire_flows_egress", help: "Of the flows, those behind a port of the node." },
      () => flows().egress,
    );
    readCounter(
      registry,
      {
        name: "podwire_flow_events_total",
        help: "What became of flows: inserted, expired, removed, evicted, refused.",
      },
      () => Object.entries(flows().counters).map(([event, value]) => ({ labels: { event }, value })),
    );
    readGauge(
      registry,
      { name: "podwire_pods", help: "Pods of this node, by state of their interface." },
      () => Object.entries(sources.pods()).map(([state, value]) => ({ labels: { state }, value })),
    );
    readGauge(registry, { name: "podwire_vteps", help: "Other nodes." }, () => this.#counters().vteps.length);
    readGauge(
      registry,
      {
        name: "podwire_healthy",
        help: "1 where the dataplane has what was asked of it, in time (as /livez).",
      },
      () => (sources.healthy() ? 1 : 0),
    );
  }

  #registerAnnouncement(): void {
    const { registry, sources } = this;
    const now = async () => (await sources.announcement?.()) ?? { announced: [], sessions: [] };
    readGauge(
      registry,
      { name: "metallb_speaker_announced", help: "Load-balancer addresses that this node announces." },
      async () =>
        (await now()).announced.map(({ service, address }) => ({
          labels: { service, protocol: "layer2", node: sources.node, ip: address },
          value: 1,
        })),
    );
    readGauge(
      registry,
      { name: "podwire_bfd_session_up", help: "Whether the BFD session with another node is up." },
      async () => (await now()).sessions.map(({ node, up }) => ({ labels: { node }, value: up ? 1 : 0 })),
    );
  }

  /** A source that several metrics of a scrape read is asked once for all of them. */
  #shared<T extends object>(read: () => T): () => T {
    let value: T | null = null;
    return () => {
      if (value === null) {
        value = read();
        setImmediate(() => {
          value = null;
        });
      }
      return value;
    };
  }
}
