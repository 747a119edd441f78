import { expect, test } from "vitest";
import { FakeClock } from "../../../src/kube/Clock.js";
import { Prober, type ProberOptions } from "../../../src/runtime/Prober.js";

function world(probes: ProberOptions["probes"], memory = { started: false, ready: false }) {
  const clock = new FakeClock();
  const results = { ok: true };
  const told: string[] = [];
  const prober = new Prober({
    probes,
    memory,
    startedAt: clock.date().getTime(),
    clock,
    run: async () => ({ ok: results.ok, message: "no" }),
    changed: ({ started, ready }) =>
      told.push(`${started ? "started" : "starting"} ${ready ? "ready" : "unready"}`),
    failed: (kind) => told.push(`${kind} failed`),
    unhealthy: (kind) => told.push(`${kind} unhealthy`),
  });
  return { clock, results, told, prober };
}

test("without probes a container is ready at once", () => {
  expect(world({}).told).toEqual(["started ready"]);
});

test("readiness: initial delay, thresholds, both ways", async () => {
  const readiness = { initialDelaySeconds: 5, periodSeconds: 2, successThreshold: 2, failureThreshold: 2 };
  const { clock, results, told } = world({ readiness });
  expect(told.splice(0)).toEqual(["started unready"]);
  await clock.advance(6_900);
  expect(told).toEqual([]);
  await clock.advance(200);
  expect(told.splice(0)).toEqual(["started ready"]);
  results.ok = false;
  await clock.advance(2_000);
  expect(told.splice(0)).toEqual(["readiness failed"]);
  await clock.advance(2_000);
  expect(told).toEqual(["readiness failed", "started unready"]);
});

test("until the startup probe has succeeded no other is run", async () => {
  const { clock, results, told } = world({
    startup: { periodSeconds: 1, failureThreshold: 5 },
    liveness: { periodSeconds: 1, failureThreshold: 2 },
  });
  results.ok = false;
  await clock.advance(2_500);
  expect(told.splice(0)).toEqual(["startup failed", "startup failed", "startup failed"]);
  results.ok = true;
  await clock.advance(1_000);
  expect(told.splice(0)).toEqual(["started ready"]);
  results.ok = false;
  await clock.advance(5_000);
  expect(told).toEqual(["liveness failed", "liveness failed", "liveness unhealthy"]);
  expect(clock.waiting).toBe(0);
});

test("one that was ready before stays ready until a probe says otherwise", async () => {
  const { clock, told, prober } = world(
    { readiness: { periodSeconds: 1 }, startup: { periodSeconds: 1 } },
    { started: true, ready: true },
  );
  await clock.advance(3_000);
  expect(told).toEqual([]);
  prober.stop();
  expect(clock.waiting).toBe(0);
});
