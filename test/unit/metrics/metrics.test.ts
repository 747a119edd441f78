/** Serving metrics: who is answered, what it looks like, and a port that is in use. */
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { Counter, Registry } from "prom-client";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../../../src/kube/Clock.js";
import { isOwnHost } from "../../../src/metrics/hostHeader.js";
import { MetricsServer } from "../../../src/metrics/MetricsServer.js";
import { registerProcess } from "../../../src/metrics/processMetrics.js";
import { readCounter, readGauge, readHistogram } from "../../../src/metrics/read.js";
import { waitFor } from "../../support/netns.js";

describe("Host header", () => {
  test.each([
    ["127.0.0.1:9475", true],
    ["127.0.0.1", true],
    ["192.168.2.30:9475", true],
    ["localhost:9475", true],
    ["LOCALHOST", true],
    ["[::1]:9475", true],
    ["k8s-master:9475", true],
    ["K8S-master", true],
    ["evil.example:9475", false],
    ["127.0.0.1.evil.example", false],
    ["[evil]:1", false],
    ["localhost.evil.example", false],
    ["k8s-master:9475:1", false],
    ["", false],
    [undefined, false],
  ])("%s: %s", (header, expected) => {
    expect(isOwnHost(header, ["k8s-master"])).toBe(expected);
  });
});

describe("metrics that are read", () => {
  test("look as Prometheus reads them, with what they are at the moment", async () => {
    const registry = new Registry();
    let value = 1;
    readCounter(registry, { name: "a_total", help: "A." }, () => value);
    readGauge(registry, { name: "b", help: 'B "quoted"\nline.' }, async () => [
      { labels: { node: 'x"y\\z' }, value: 2 },
      { labels: { node: "z", way: "in" }, value: 2 ** 40 },
    ]);
    readHistogram(registry, { name: "c_seconds", help: "C." }, () => ({
      bounds: [0.1, 1],
      counts: [3, 0, 2],
      sum: 7.5,
    }));
    value = 5;
    expect(await registry.metrics()).toBe(
      [
        "# HELP a_total A.",
        "# TYPE a_total counter",
        "a_total 5",
        "",
        '# HELP b B "quoted"\\nline.',
        "# TYPE b gauge",
        'b{node="x\\"y\\\\z"} 2',
        `b{node="z",way="in"} ${2 ** 40}`,
        "",
        "# HELP c_seconds C.",
        "# TYPE c_seconds histogram",
        'c_seconds_bucket{le="0.1"} 3',
        'c_seconds_bucket{le="1"} 3',
        'c_seconds_bucket{le="+Inf"} 5',
        "c_seconds_sum 7.5",
        "c_seconds_count 5",
        "",
      ].join("\n"),
    );
  });

  test("of the process: its CPU time grows, its memory is there", async () => {
    const registry = new Registry();
    registerProcess(registry);
    const read = async () => {
      const values = (await registry.getMetricsAsJSON()).map(({ name, values }) => [name, values[0]!.value]);
      return Object.fromEntries(values) as Record<string, number>;
    };
    const before = await read();
    await waitFor(async () => (await read()).process_cpu_seconds_total! > before.process_cpu_seconds_total!);
    expect(before.process_resident_memory_bytes).toBeGreaterThan(2 ** 20);
    expect(before.process_start_time_seconds).toBeLessThanOrEqual(Date.now() / 1000);
  });
});

describe("server", () => {
  let registry: Registry;
  let server: MetricsServer;
  let clock: FakeClock;
  let errors: unknown[];
  beforeEach(() => {
    registry = new Registry();
    new Counter({ name: "asked_total", help: "Asked.", registers: [registry] }).inc(3);
    clock = new FakeClock();
    errors = [];
    server = new MetricsServer(registry, { names: ["k8s-master"], clock, onError: (e) => errors.push(e) });
  });
  afterEach(() => server.close());

  async function listening(): Promise<string> {
    server.sync("127.0.0.1:0");
    await waitFor(() => server.address !== null);
    return server.address!;
  }

  function ask(address: string, path: string, method = "GET", host = address) {
    const [hostname, port] = address.split(":");
    return new Promise<{ status: number; type: string; body: string }>((resolve, reject) => {
      const sent = request({ hostname, port, path, method, headers: { host }, agent: false }, (answer) => {
        let body = "";
        answer.setEncoding("utf8").on("data", (text: string) => {
          body += text;
        });
        answer.on("end", () =>
          resolve({ status: answer.statusCode!, type: answer.headers["content-type"] ?? "", body }),
        );
      });
      sent.on("error", reject).end();
    });
  }

  test("serves the registry at /metrics and nothing else", async () => {
    const address = await listening();
    const { status, type, body } = await ask(address, "/metrics?x=1");
    expect(status).toBe(200);
    expect(type).toBe("text/plain; version=0.0.4; charset=utf-8");
    expect(body).toContain("\nasked_total 3\n");
    expect(await ask(address, "/")).toMatchObject({ status: 404 });
    expect(await ask(address, "/metrics", "HEAD")).toMatchObject({ status: 200, body: "" });
    expect(await ask(address, "/metrics", "POST")).toMatchObject({ status: 405 });
  });

  test("a page whose name leads here gets nothing", async () => {
    const address = await listening();
    expect(await ask(address, "/metrics", "GET", "evil.example")).toMatchObject({ status: 403 });
    expect((await ask(address, "/metrics", "GET", "evil.example")).body).not.toContain("asked_total");
    expect(await ask(address, "/metrics", "GET", "k8s-master:9475")).toMatchObject({ status: 200 });
  });

  test("a metric that cannot be read is an error, said once, and the server goes on", async () => {
    const address = await listening();
    readGauge(registry, { name: "broken", help: "." }, () => {
      throw new Error("no worker");
    });
    expect(await ask(address, "/metrics")).toMatchObject({ status: 500 });
    expect(errors.map(String)).toEqual(["Error: no worker"]);
    registry.removeSingleMetric("broken");
    expect(await ask(address, "/metrics")).toMatchObject({ status: 200 });
  });

  test("moves, and goes away", async () => {
    const first = await listening();
    server.sync(null);
    await waitFor(() =>
      ask(first, "/metrics").then(
        () => false,
        () => true,
      ),
    );
    server.sync(first);
    await waitFor(() => server.address === first);
    expect(await ask(first, "/metrics")).toMatchObject({ status: 200 });
    await server.close();
    await expect(ask(first, "/metrics")).rejects.toThrow();
  });

  test("tries again where the port is in use", async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
    const address = `127.0.0.1:${(holder.address() as AddressInfo).port}`;
    server.sync(address);
    await waitFor(() => errors.length === 1);
    expect(String(errors[0])).toMatch(/EADDRINUSE/);
    await new Promise((resolve) => holder.close(resolve));
    await clock.advance(5_000);
    await waitFor(() => server.address === address);
  });
});
