import { beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../../../src/kube/Clock.js";
import { EventRecorder } from "../../../src/kube/EventRecorder.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { LeaderElector, NodeHeartbeat } from "../../../src/kube/Lease.js";
import { EVENTS, LEASES, NODES } from "../../../src/kube/resources.js";
import type { Event, Lease } from "../../../src/kube/types.js";

let kube: FakeKube;
let clock: FakeClock;
beforeEach(() => {
  clock = new FakeClock();
  kube = new FakeKube({ now: () => clock.date() });
});

describe("NodeHeartbeat", () => {
  const owner = { apiVersion: "v1", kind: "Node", name: "n", uid: "u" };
  const renewed = () => kube.peek<Lease>(LEASES, "n", "kube-node-lease")?.spec?.renewTime;

  test("renews, through lost answers, conflicts and a server that is away", async () => {
    const beat = new NodeHeartbeat(kube, "n", () => owner, { clock });
    kube.loseResponse({ verb: "create", plural: "leases" });
    beat.start();
    await clock.advance(1_000);
    expect(kube.peek<Lease>(LEASES, "n", "kube-node-lease")).toMatchObject({
      metadata: { ownerReferences: [owner] },
      spec: { holderIdentity: "n", leaseDurationSeconds: 40, renewTime: "2024-01-01T00:00:01.000000Z" },
    });
    await kube.patch(LEASES, "n", "kube-node-lease", "merge", { metadata: { labels: { a: "b" } } });
    await clock.advance(12_000);
    expect(renewed()).toBe("2024-01-01T00:00:12.000000Z");
    kube.goOffline();
    await clock.advance(60_000);
    kube.goOnline();
    await clock.advance(1_000);
    expect(clock.date().getTime() - Date.parse(renewed()!)).toBeLessThanOrEqual(1_000);
    await beat.stop();
    expect(clock.waiting).toBe(0);
  });
});

describe("LeaderElector", () => {
  function candidate(identity: string) {
    const log: string[] = [];
    const elector = new LeaderElector(kube, {
      namespace: "kube-system",
      name: "leader",
      identity,
      clock,
      onStarted: () => log.push(`+${clock.now()}`),
      onStopped: () => log.push(`-${clock.now()}`),
    });
    elector.start();
    return { elector, log };
  }

  test("one leads; another takes over when it stops, or falls silent", async () => {
    const a = candidate("a");
    await clock.advance(500);
    const b = candidate("b");
    await clock.advance(60_000);
    expect([a.elector.isLeader, b.elector.isLeader]).toEqual([true, false]);
    await a.elector.stop();
    await clock.advance(2_500);
    expect([a.elector.isLeader, b.elector.isLeader]).toEqual([false, true]);
    expect(kube.peek<Lease>(LEASES, "leader", "kube-system")!.spec!.leaseTransitions).toBe(1);
    await b.elector.stop();
  });

  test("a leader without a server gives up before another may lead", async () => {
    const a = candidate("a");
    await clock.advance(500);
    const b = candidate("b");
    await clock.advance(20_000);
    kube.goOffline();
    const away = clock.now();
    await clock.advance(12_500);
    expect(a.elector.isLeader).toBe(false);
    expect(Number(a.log[1]!.slice(1)) - away).toBeLessThanOrEqual(10_000);
    kube.goOnline();
    await clock.advance(30_000);
    expect([a, b].filter(({ elector }) => elector.isLeader)).toHaveLength(1);
    await a.elector.stop();
    await b.elector.stop();
  });
});

describe("EventRecorder", () => {
  const node = { metadata: { name: "n", uid: "u" } };
  const events = () =>
    kube.all<Event>(EVENTS).map(({ reason, count, message }) => `${reason} ${count} ${message}`);

  test("the same again is a higher count", async () => {
    const recorder = new EventRecorder(kube, { component: "podwire-agent", host: "n", clock });
    for (let i = 0; i < 3; i++) recorder.record(NODES, node, "Normal", "Ready", "ready");
    recorder.record(NODES, node, "Warning", "NoBlock", "no pool");
    await recorder.flush();
    expect(events()).toEqual(["Ready 3 ready", "NoBlock 1 no pool"]);
    expect(kube.all<Event>(EVENTS)[0]).toMatchObject({
      metadata: { namespace: "default" },
      involvedObject: { apiVersion: "v1", kind: "Node", name: "n", uid: "u" },
      source: { component: "podwire-agent", host: "n" },
    });
    await clock.advance(700_000);
    recorder.record(NODES, node, "Normal", "Ready", "ready");
    await recorder.flush();
    expect(events()).toHaveLength(3);
  });

  test("one object cannot flood the server; failures are told", async () => {
    const errors: unknown[] = [];
    const recorder = new EventRecorder(kube, {
      component: "c",
      clock,
      onError: (error) => errors.push(error),
    });
    kube.failNext({ verb: "create" });
    for (let i = 0; i < 100; i++) recorder.record(NODES, node, "Normal", "Ready", `message ${i}`);
    await recorder.flush();
    expect(events()).toHaveLength(24);
    expect(errors).toHaveLength(1);
  });
});
