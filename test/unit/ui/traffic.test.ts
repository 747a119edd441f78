/** Two looks at counters to rates. */
import { expect, test } from "vitest";
import { type Look, type NodeCounters, trafficOf } from "../../../src/ui/traffic.js";

const counters = (n: number, more: Partial<NodeCounters> = {}): NodeCounters => ({
  received: 100 * n,
  forwarded: 90 * n,
  dropped: { noRoute: 10 * n },
  ...more,
});

function look(
  atMs: number,
  nodes: Record<string, NodeCounters>,
  announcements: Look["announcements"] = new Map(),
): Look {
  return { atMs, counters: new Map(Object.entries(nodes)), announcements };
}

test("the first look has totals and no rates", () => {
  const { seconds, nodes, drops } = trafficOf(null, look(0, { a: counters(3) }));
  expect(seconds).toBe(0);
  expect(nodes).toEqual([{ node: "a", received: 0, forwarded: 0, dropped: 0 }]);
  expect(drops).toEqual([{ node: "a", reason: "noRoute", total: 30, perSecond: 0 }]);
});

test("rates go by the agent's clock where it has one, else by ours", () => {
  const before = look(0, { a: counters(1), b: counters(1, { takenAtMs: 1000 }) });
  const { nodes } = trafficOf(before, look(2000, { a: counters(3), b: counters(3, { takenAtMs: 5000 }) }));
  expect(nodes).toEqual([
    { node: "a", received: 100, forwarded: 90, dropped: 10 },
    { node: "b", received: 50, forwarded: 45, dropped: 5 },
  ]);
});

test("an agent that has started again, and one that is new, have no rate", () => {
  const now = look(1000, { a: counters(1), c: counters(9) });
  const { nodes } = trafficOf(look(0, { a: counters(5) }), now);
  expect(nodes.map(({ received }) => received)).toEqual([0, 0]);
});

test("a drop reason and a Service that were not there before count from nothing", () => {
  const service = (n: number) => ({
    namespace: "default",
    name: "web",
    requests: { packets: 10 * n, bytes: 1000 * n },
    replies: { packets: 20 * n, bytes: 3000 * n },
  });
  const before = look(0, { a: counters(1), b: counters(1, { services: [service(1)] }) });
  const now = look(1000, {
    a: counters(1, { dropped: { noRoute: 10, malformedIpv4: 4 }, services: [service(1)] }),
    b: counters(1, { services: [service(2)] }),
  });
  const { drops, services } = trafficOf(before, now);
  expect(drops).toContainEqual({ node: "a", reason: "malformedIpv4", total: 4, perSecond: 4 });
  // Both nodes' and both directions'.
  expect(services).toEqual([{ key: "default/web", packetsPerSecond: 60, bitsPerSecond: 64_000 }]);
});

test("an address is told once: as by the node that answers for it", () => {
  const report = (owner: string, answers: boolean, since: string) => ({
    addresses: [{ address: "192.168.2.36", owner, since, answers }],
    neighbors: [],
  });
  const announcements = new Map([
    ["a", report("a", false, "2024-01-01T00:00:00Z")],
    ["b", report("b", true, "2024-01-01T00:00:01Z")],
  ]);
  expect(trafficOf(null, look(0, {}, announcements)).addresses).toEqual([
    { address: "192.168.2.36", owner: "b", since: "2024-01-01T00:00:01Z" },
  ]);
});
