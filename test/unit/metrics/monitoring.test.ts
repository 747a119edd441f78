/**
 * The dashboard and the alert rules: well-formed, every expression parses as PromQL, and every metric,
 * label and label value in them is one that is exported.
 */
import { readFileSync } from "node:fs";
import { parser } from "@prometheus-io/lezer-promql";
import { Registry } from "prom-client";
import { beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { AgentMetrics } from "../../../src/agent/agentMetrics.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { registerIpam, registerLoadBalancer } from "../../../src/metrics/clusterMetrics.js";
import { registerProcess } from "../../../src/metrics/processMetrics.js";
import { OTHER_COUNTERS } from "../../../src/packet/counters.js";
import { DROP_REASON_NAMES } from "../../../src/packet/DropReason.js";
import { FLOW_COUNTER_NAMES } from "../../../src/tables/flowLayout.js";
import { fakeSources } from "../../support/metricSources.js";

const read = (name: string) =>
  readFileSync(new URL(`../../../manifests/monitoring/${name}`, import.meta.url), "utf8");

/** What Prometheus puts on every series, and makes itself. */
const OF_PROMETHEUS = ["instance", "job"];
const UP = "up";

/** Labels of each series that is exported. */
const exported = new Map<string, Set<string>>([[UP, new Set()]]);

beforeAll(async () => {
  const kube = new FakeKube();
  const cluster = new Registry();
  registerIpam(cluster, kube, () => ({ suspected: 0, released: 0 }));
  registerLoadBalancer(cluster, () => [{ pool: "p", assigned: 0, available: 0 }]);
  registerProcess(cluster);
  const agent = new AgentMetrics(fakeSources());
  agent.published(1, [Date.now()]);
  agent.queued();
  for (const registry of [agent.registry, cluster])
    for (const { name, type, values } of (await registry.getMetricsAsJSON()) as unknown as {
      name: string;
      type: string;
      values: { metricName?: string; labels: object }[];
    }[]) {
      exported.set(
        name,
        new Set(type === "histogram" ? [] : values.flatMap(({ labels }) => Object.keys(labels))),
      );
      for (const { metricName = name, labels } of values) {
        const known = exported.get(metricName) ?? new Set();
        for (const label of Object.keys(labels)) known.add(label);
        exported.set(metricName, known);
      }
    }
  // A FakeKube without blocks has no sample of these.
  for (const name of exported.keys())
    if (/^ipam_(allocations_(in_use|borrowed)|blocks|ippool_size)$/.test(name))
      exported.set(name, new Set(["ippool", "node"]));
});

/** Values that a label can have, where they are ours to choose. */
const VALUES: Record<string, readonly string[]> = {
  reason: DROP_REASON_NAMES,
  event: FLOW_COUNTER_NAMES,
  operation: Object.keys(OTHER_COUNTERS),
  direction: ["sent", "received", "request", "reply"],
  state: ["up", "failed"],
};

/** Everything that is wrong with an expression. */
function faults(expression: string): string[] {
  // Grafana puts these in before Prometheus sees it.
  const text = expression.replaceAll("$__rate_interval", "5m");
  const found: string[] = [];
  const metrics = new Set<string>();
  const labels: string[] = [];
  parser.parse(text).iterate({
    enter({ type, name, from, to }) {
      const slice = text.slice(from, to);
      if (type.isError) found.push(`no PromQL at ${from}: ${text.slice(from, from + 20)}`);
      else if (name === "VectorSelector") metrics.add(/^[\w:]*/.exec(slice)![0]);
      else if (name === "LabelName") labels.push(slice);
      else if (name === "UnquotedLabelMatcher") {
        const [, label = "", value = ""] = /^(\w+)\s*[=!~]+\s*"(.*)"$/.exec(slice) ?? [];
        const allowed = VALUES[label];
        if (allowed === undefined) return;
        for (const each of value.split("|"))
          if (!allowed.includes(each)) found.push(`no ${label} is ${each}`);
      }
    },
  });
  if (metrics.size === 0) found.push("no metric");
  for (const metric of metrics) if (!exported.has(metric)) found.push(`nobody exports ${metric}`);
  const known = new Set([...metrics].flatMap((metric) => [...(exported.get(metric) ?? [])]));
  for (const label of labels)
    if (!known.has(label) && !OF_PROMETHEUS.includes(label)) found.push(`nothing here has label ${label}`);
  return found;
}

test("the check finds what is wrong", () => {
  expect(faults("podwire_flows / podwire_flows_limit > 0.9")).toEqual([]);
  expect(faults("podwire_flow > 1")).toEqual(["nobody exports podwire_flow"]);
  expect(faults('rate(podwire_drops_total{reason=~"noRoute|typo"}[5m])')).toEqual(["no reason is typo"]);
  expect(faults("sum by (nod) (podwire_bfd_session_up)")).toEqual(["nothing here has label nod"]);
  expect(faults('podwire_flows{reason="noRoute"}')).toEqual(["nothing here has label reason"]);
  expect(faults("sum(podwire_flows")[0]).toMatch(/^no PromQL/);
  expect(faults("histogram_quantile(0.5, podwire_loop_duration_seconds_bucket)")).toEqual([]);
  expect(faults("podwire_loop_duration_seconds_buckets")).toHaveLength(1);
  expect(faults("1 + 1")).toEqual(["no metric"]);
});

describe("alert rules", () => {
  const DURATION = /^\d+(ms|[smhd])$/;
  const text = z.string().min(1);
  const schema = z.strictObject({
    groups: z.array(
      z.strictObject({
        name: text,
        interval: z.string().regex(DURATION).optional(),
        rules: z
          .array(
            z.strictObject({
              alert: z.string().regex(/^Podwire[A-Z]\w+$/),
              expr: text,
              for: z.string().regex(DURATION).optional(),
              labels: z.strictObject({ severity: z.enum(["critical", "warning"]) }),
              annotations: z.strictObject({ summary: text, description: text }),
            }),
          )
          .min(1),
      }),
    ),
  });
  const { groups } = schema.parse(parse(read("alerts.yaml")));
  const rules = groups.flatMap((group) => group.rules);

  test("names are of one rule, and of one group", () => {
    for (const names of [rules.map(({ alert }) => alert), groups.map(({ name }) => name)])
      expect(new Set(names).size).toBe(names.length);
  });
  test.each(rules)("$alert", ({ expr, annotations }) => {
    expect(faults(expr)).toEqual([]);
    // What an aggregation leaves is all that a text can name.
    const by = /\b(?:sum|count) by \(([^)]*)\)/.exec(expr)?.[1]?.split(/, */);
    for (const [, label] of Object.values(annotations)
      .join(" ")
      .matchAll(/\$labels\.(\w+)/g))
      if (by !== undefined) expect(by).toContain(label);
      else expect(faults(`sum by (${label}) (${expr})`)).toEqual([]);
  });
});

describe("dashboard", () => {
  const target = z.object({ refId: z.string(), expr: z.string(), legendFormat: z.string() });
  const schema = z.object({
    title: z.literal("podwire"),
    uid: z.literal("podwire"),
    schemaVersion: z.number().min(36),
    templating: z.object({ list: z.array(z.object({ name: z.string(), type: z.string() })) }),
    panels: z.array(
      z.object({
        id: z.number().int(),
        type: z.enum(["row", "timeseries", "stat"]),
        title: z.string().min(1),
        gridPos: z.object({ x: z.number(), y: z.number(), w: z.number(), h: z.number() }),
        targets: z.array(target).optional(),
      }),
    ),
  });
  const { panels, templating } = schema.parse(JSON.parse(read("grafana-dashboard.json")));
  const drawn = panels.filter(({ type }) => type !== "row");

  test("panels have an id of their own, a place of their own, and something to show", () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = new Set<string>();
    for (const { gridPos, title } of panels) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(cells.has(`${x},${y}`), title).toBe(false);
          cells.add(`${x},${y}`);
        }
    }
    for (const { title, targets = [] } of drawn) expect(targets.length, title).toBeGreaterThan(0);
    expect(templating.list.map(({ name }) => name)).toEqual(["datasource", "instance"]);
  });
  test.each(drawn)("$title", ({ targets = [] }) => {
    for (const { expr } of targets) expect(faults(expr), expr).toEqual([]);
  });
});
