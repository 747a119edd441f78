/** What `podwire top` and `podwire get` print, from reports of a test. */
import { describe, expect, test } from "vitest";
import type { CounterReport } from "../../../src/agent/counterReport.js";
import type { FlowView } from "../../../src/agent/flowReport.js";
import { lines } from "../../../src/cli/get.js";
import {
  byteCount,
  DROPS,
  dropViews,
  duration,
  FLOWS,
  rate,
  SERVICES,
  VTEPS,
} from "../../../src/cli/getViews.js";
import { table } from "../../../src/cli/table.js";
import { type TopStatus, topScreen } from "../../../src/cli/topView.js";

const count = (packets: number, bytes = packets * 100) => ({ packets, bytes });

function service(name: string, requests: number, replies: number): CounterReport["services"][number] {
  return {
    namespace: "default",
    name,
    port: "80",
    protocol: "TCP",
    clusterIP: "10.152.183.7",
    l4Port: 80,
    nodePort: 0,
    externalIPs: [],
    endpoints: 4,
    requests: count(requests),
    replies: count(replies),
  };
}

function status(takenAtMs: number, change: Partial<CounterReport> = {}): TopStatus {
  return {
    node: "k8s-master",
    startedAt: "2026-01-01T00:00:00Z",
    flows: { flows: 12, capacity: 131_072, egress: 1 },
    counters: {
      received: 0,
      forwarded: 0,
      answered: 0,
      dropped: {},
      other: {},
      loop: { boundsUs: [10, 100, 1000], counts: [0, 0, 0, 0], sumUs: 0 },
      takenAtMs,
      vteps: [],
      services: [],
      otherFlows: { requests: count(0), replies: count(0) },
      ringsBuilt: 0,
      ...change,
    },
  };
}

const TIME = new Date("2026-01-01T01:02:03Z");
const PAPER = { columns: Number.POSITIVE_INFINITY, rows: Number.POSITIVE_INFINITY };

describe("top", () => {
  const before = status(1_000, {
    received: 100,
    forwarded: 90,
    dropped: { noRoute: 10 },
    other: { receivedBytes: 10_000, forwardedBytes: 9_000, sleeps: 5, rxCalls: 1, txCalls: 2 },
    loop: { boundsUs: [10, 100, 1000], counts: [5, 5, 5, 5], sumUs: 1 },
    services: [service("a", 10, 20)],
    vteps: [{ node: "w1", address: "192.168.2.31", received: count(1), sent: count(2) }],
  });
  const after = status(3_000, {
    received: 2_100,
    forwarded: 1_690,
    dropped: { noRoute: 10, ttlExceeded: 400 },
    other: { receivedBytes: 260_000, forwardedBytes: 9_000, sleeps: 15, rxCalls: 101, txCalls: 102 },
    loop: { boundsUs: [10, 100, 1000], counts: [5, 205, 5, 6], sumUs: 1 },
    services: [service("a", 30, 20), service("b", 4_000, 0)],
    vteps: [
      { node: "w1", address: "192.168.2.31", received: count(1), sent: count(2) },
      { node: "w2", address: "192.168.2.32", received: count(10), sent: count(20) },
    ],
  });

  test("rates over the time between two looks, the busiest first", () => {
    const text = topScreen(before, after, TIME, PAPER);
    expect(text.slice(0, 3)).toEqual([
      `podwire top  k8s-master  ${TIME.toTimeString().slice(0, 8)}  up 62m  flows 12 of 131072`,
      "frames/s  in 1.0k  out 800  dropped 200    bit/s  in 1.0M  out 0",
      "loop      breaths/s 101  half ≤ 100 µs  99% ≤ 100 µs  sleeps/s 5  calls/s 100",
    ]);
    expect(text.slice(3).map((line) => line.replace(/ +/g, " ").trim())).toEqual([
      "",
      "SERVICE PORT REQUEST PKT/S BIT/S REPLY PKT/S BIT/S",
      "default/b 80/TCP 2.0k 1.6M 0 0",
      "default/a 80/TCP 10 8.0k 0 0",
      "",
      "NODE UNDERLAY RX PKT/S BIT/S TX PKT/S BIT/S",
      "w2 192.168.2.32 5 4.0k 10 8.0k",
      "w1 192.168.2.31 0 0 0 0",
      "",
      "DROPPED BECAUSE FRAMES/S FRAMES",
      "ttlExceeded 200 400",
      "noRoute 0 10",
    ]);
  });

  test("a dataplane that was started again counts from zero: no rate is negative", () => {
    const text = topScreen(
      after,
      { ...before, counters: { ...before.counters, takenAtMs: 4_000 } },
      TIME,
      PAPER,
    );
    expect(text[1]).toBe("frames/s  in 100  out 90  dropped 10    bit/s  in 80k  out 72k");
    expect(text.join("\n")).not.toContain("-1");
  });

  test("nothing to do: no quantile, and no rows", () => {
    const text = topScreen(status(1_000), status(2_000), TIME, PAPER);
    expect(text[2]).toBe("loop      breaths/s 0  sleeps/s 0  calls/s 0");
    expect(text).toHaveLength(3 + 3 * 2);
  });

  test("beyond the last bound", () => {
    const slow = { loop: { boundsUs: [10, 2000], counts: [0, 0, 9], sumUs: 1 } };
    expect(topScreen(status(0), status(1000, slow), TIME, PAPER)[2]).toContain("half > 2 ms");
  });

  test("fits the terminal, and says what it leaves out", () => {
    const many = Array.from({ length: 40 }, (_, n) => service(`s${n}`, n, 0));
    const vteps = Array.from({ length: 3 }, (_, n) => ({
      node: `w${n}`,
      address: "192.0.2.1",
      received: count(n),
      sent: count(n),
    }));
    for (const rows of [9, 12, 24, 50, 100]) {
      const text = topScreen(status(0), status(1000, { services: many, vteps }), TIME, { columns: 60, rows });
      expect(text.length).toBeLessThanOrEqual(Math.max(9, rows));
      for (const line of text) expect(line.length).toBeLessThanOrEqual(60);
      if (rows === 24) {
        expect(text).toHaveLength(24);
        expect(text.filter((line) => line.startsWith("default/s"))).toHaveLength(12);
        expect(text.filter((line) => /^w\d/.test(line))).toHaveLength(3);
        expect(text.join("\n")).toContain("default/s39");
      }
    }
    const [, , , , head] = topScreen(status(0), status(1000, { services: many }), TIME, {
      columns: 90,
      rows: 20,
    });
    expect(head).toMatch(/^SERVICE .*\(29 more\)$/);
  });
});

describe("get", () => {
  test("services, wide and not", () => {
    const item = { ...service("web", 3, 2_000), nodePort: 30080, externalIPs: ["192.168.2.36", "192.0.2.1"] };
    expect(lines(SERVICES, [item], undefined, true).replace(/ +/g, " ")).toBe(
      "NAMESPACE NAME PORT CLUSTER-IP ENDPOINTS REQUESTS BYTES REPLIES BYTES\n" +
        "default web 80/TCP 10.152.183.7 4 3 300 2000 195KiB\n",
    );
    expect(lines(SERVICES, [item], "wide", false).trim().split(/ +/).slice(-2)).toEqual([
      "30080",
      "192.168.2.36,192.0.2.1",
    ]);
    expect(lines(SERVICES, [service("web", 0, 0)], "wide", false).trim()).toMatch(/<none> +<none>$/);
  });

  test("nodes; JSON is an object a line", () => {
    const item = { node: "w1", address: "192.168.2.31", received: count(1), sent: count(2, 2048) };
    expect(lines(VTEPS, [item], undefined, true).replace(/ +/g, " ")).toBe(
      "NODE UNDERLAY RX PACKETS RX BYTES TX PACKETS TX BYTES\nw1 192.168.2.31 1 100 2 2.0KiB\n",
    );
    expect(
      lines(VTEPS, [item, item], "json", true)
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual([item, item]);
  });

  test("drops, most first", () => {
    const drops = dropViews({ dropped: { noRoute: 1, martian: 5, arpIgnored: 1 } });
    expect(lines(DROPS, drops, undefined, true)).toBe(
      "REASON      FRAMES\nmartian     5\narpIgnored  1\nnoRoute     1\n",
    );
    expect(lines(DROPS, [], undefined, true)).toBe("REASON  FRAMES\n");
  });

  test("flows: TCP of a Service, and an echo", () => {
    const key = (source: string, sourcePort: number, destination: string, destinationPort: number) => ({
      source,
      sourcePort,
      destination,
      destinationPort,
      tag: 0,
    });
    const tcp: FlowView = {
      protocol: "tcp",
      protocolNumber: 6,
      state: "ESTABLISHED",
      timeout: 86_399,
      age: 61,
      began: 1000,
      unreplied: false,
      original: key("10.1.1.1", 4000, "10.152.183.7", 80),
      reply: key("10.1.2.2", 8080, "10.1.1.1", 4000),
      service: "default/web:http",
      ingress: "",
      flags: ["dnat"],
    };
    expect(FLOWS.row(tcp)).toEqual([
      "tcp",
      "ESTABLISHED",
      "10.1.1.1:4000",
      "10.152.183.7:80",
      "10.1.2.2:8080",
      "default/web:http",
      "61s",
      "23h",
      "10.1.1.1:4000",
      "<none>",
      "dnat",
    ]);
    const echo = {
      ...tcp,
      protocol: "icmp",
      protocolNumber: 1,
      original: key("10.1.1.1", 7, "192.0.2.1", 8),
    };
    expect(FLOWS.row(echo).slice(2, 4)).toEqual(["10.1.1.1 id 7", "192.0.2.1"]);
    expect(FLOWS.key(tcp)).not.toBe(FLOWS.key(echo));
  });

  test.each([SERVICES, VTEPS, DROPS, FLOWS])("as many cells as titles", (view) => {
    const items = { requests: count(1), replies: count(1), received: count(1), sent: count(1) };
    const key = { source: "", destination: "", sourcePort: 0, destinationPort: 0, tag: 0 };
    const item = { ...service("a", 1, 1), ...items, reason: "x", frames: 1, flags: [], service: "" };
    const any = { ...item, original: key, reply: key, ingress: "", age: 1, timeout: 1 };
    expect((view.row as (item: unknown) => string[])(any)).toHaveLength(view.head.length + view.wide.length);
  });
});

describe("units", () => {
  test.each([
    [0, "0"],
    [999, "999"],
    [1000, "1.0k"],
    [9_949, "9.9k"],
    [9_951, "10k"],
    [999_499, "999k"],
    [999_500, "1.0M"],
    [2.5e9, "2.5G"],
  ])("%d a second is %s", (value, text) => expect(rate(value)).toBe(text));
  test.each([
    [0, "0"],
    [1023, "1023"],
    [1024, "1.0KiB"],
    [1024 ** 2, "1.0MiB"],
    [15 * 1024 ** 3, "15GiB"],
  ])("%d bytes are %s", (value, text) => expect(byteCount(value)).toBe(text));
  test.each([
    [0, "0s"],
    [119, "119s"],
    [120, "2m"],
    [121, "2m1s"],
    [3600, "60m"],
    [4 * 3600 + 60, "4h1m"],
    [86_399, "23h"],
    [3 * 86_400, "3d"],
  ])("%d seconds are %s", (value, text) => expect(duration(value)).toBe(text));
});

test("columns are aligned, numbers to the right", () => {
  expect(table(["A", "NUMBER"], [["long", "7"]], new Set([1]))).toEqual(["A     NUMBER", "long       7"]);
});
