/** PodManager on a FakeEngine, a FakeKube and a FakeClock: what a Kubernetes user sees of pods and when. */
import { beforeEach, describe, expect, test } from "vitest";
import { FakeClock, settle } from "../../../src/kube/Clock.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { KubeError } from "../../../src/kube/KubeError.js";
import { CONFIGMAPS, EVENTS, PODS } from "../../../src/kube/resources.js";
import type { ConfigMap, Event, Pod } from "../../../src/kube/types.js";
import { DEFAULT_IMAGES, type ImageTable } from "../../../src/runtime/images.js";
import { PodManager } from "../../../src/runtime/PodManager.js";
import { FakeEngine } from "../../support/FakeEngine.js";
import { boundPod } from "../../support/pods.js";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

let clock: FakeClock;
let kube: FakeKube;
let engine: FakeEngine;
let manager: PodManager;
let images: ImageTable;
let attached: boolean;
let errors: unknown[];

async function begin(): Promise<void> {
  manager = new PodManager({
    api: kube,
    engine,
    node: "n1",
    nodeAddress: "192.0.2.1",
    netnsOf: ({ metadata }) => `/run/netns/${metadata.name}`,
    attached: async () => attached,
    images: () => images,
    imageFile: "/etc/podwire/images.yaml",
    resolvConf: () => "",
    onError: (error) => errors.push(error),
    clock,
    random: () => 0.5,
  });
  await manager.start();
  await quiet();
}

beforeEach(async () => {
  clock = new FakeClock();
  kube = new FakeKube({ now: () => clock.date() });
  engine = new FakeEngine(clock);
  images = DEFAULT_IMAGES;
  attached = true;
  errors = [];
  await begin();
});

/** Lets everything run that waits for no timer: requests and turns take a few rounds. */
async function quiet(): Promise<void> {
  for (let i = 0; i < 6; i++) await settle();
}
async function pass(ms: number): Promise<void> {
  await quiet();
  await clock.advance(ms);
  await quiet();
}
/** Makes a Pod, and returns its uid. */
async function create(...given: Parameters<typeof boundPod>): Promise<string> {
  const { metadata } = kube.put(PODS, boundPod(...given));
  await quiet();
  return metadata.uid!;
}
const get = (name: string) => kube.peek<Pod>(PODS, name, "default");
const statusOf = (name: string, container = "c0") => {
  const { containerStatuses = [], initContainerStatuses = [] } = get(name)!.status!;
  return [...initContainerStatuses, ...containerStatuses].find((each) => each.name === container)!;
};
const phaseOf = (name: string) => get(name)!.status!.phase;
const condition = (name: string, wanted: string) =>
  get(name)!.status!.conditions!.find(({ type }) => type === wanted)!;
const eventsOf = (name: string) =>
  kube
    .all<Event>(EVENTS)
    .filter(({ involvedObject }) => involvedObject.name === name)
    .map(({ reason, message, count }) => ({ text: `${reason}: ${message}`, count }));
const told = (name: string) => eventsOf(name).map(({ text }) => text);
/** The fake clock's, as a status shows it. */
const now = () =>
  clock
    .date()
    .toISOString()
    .replace(/\.\d+Z$/, "Z");
const remove = async (name: string, options: object = {}) => {
  await kube.delete(PODS, name, "default", options);
  await quiet();
};

describe("phases and conditions", () => {
  test("a pod waits for its address, starts, and is ready", async () => {
    attached = false;
    await create("web", [{}]);
    expect(phaseOf("web")).toBe("Pending");
    expect(statusOf("web")).toMatchObject({
      state: { waiting: { reason: "ContainerCreating" } },
      ready: false,
      started: false,
      restartCount: 0,
    });
    expect(condition("web", "PodReadyToStartContainers").status).toBe("False");
    expect(condition("web", "Ready")).toMatchObject({
      status: "False",
      reason: "ContainersNotReady",
      message: "containers with unready status: [c0]",
      lastTransitionTime: now(),
    });
    const before = now();
    await pass(5 * SECOND);
    attached = true;
    await pass(SECOND);
    expect(engine.running()).toHaveLength(1);
    expect(phaseOf("web")).toBe("Running");
    const [ready, initialized] = [condition("web", "Ready"), condition("web", "Initialized")];
    expect(ready).toMatchObject({ status: "True" });
    expect(ready.lastTransitionTime! > before).toBe(true);
    expect(ready).not.toHaveProperty("reason");
    expect(initialized).toMatchObject({ status: "True", lastTransitionTime: before });
    expect(get("web")!.status!.startTime).toBe(before);
    expect(statusOf("web")).toMatchObject({ ready: true, started: true, state: { running: {} } });
    expect(told("web").map((each) => each.split(":")[0])).toEqual(["Pulled", "Created", "Started"]);
    expect(errors).toEqual([]);
  });

  test.each([
    ["Always", [0, 1], "Running"],
    ["OnFailure", [0, 0], "Succeeded"],
    ["OnFailure", [0, 1], "Running"],
    ["Never", [0, 0], "Succeeded"],
    ["Never", [0, 1], "Failed"],
  ])("restartPolicy %s, exit codes %j: %s", async (restartPolicy, codes, phase) => {
    const uid = await create("done", [{}, {}], { restartPolicy });
    engine.exit(uid, "c0", codes[0]!);
    await quiet();
    expect(phaseOf("done")).toBe("Running");
    engine.exit(uid, "c1", codes[1]!);
    await quiet();
    expect(phaseOf("done")).toBe(phase);
    const restarted = engine.running().map((each) => each.slice(uid.length + 1));
    const expected = codes.flatMap((code, at) =>
      restartPolicy === "Always" || (restartPolicy === "OnFailure" && code !== 0) ? [`c${at}.1`] : [],
    );
    expect(restarted).toEqual(expected);
    if (phase === "Running") return;
    expect(condition("done", "Ready")).toMatchObject({
      status: "False",
      reason: phase === "Succeeded" ? "PodCompleted" : "PodFailed",
    });
    expect(statusOf("done", "c1")).toMatchObject({
      state: { terminated: { exitCode: codes[1], finishedAt: now() } },
      lastState: {},
    });
    // Its address goes back; its containers' records stay.
    expect(engine.sandbox(uid)).toMatchObject({ alive: false, containers: [{}, {}] });
  });

  test("several containers: the pod is ready when all are", async () => {
    let ok = false;
    engine.onExec = () => ({ code: ok ? 0 : 1 });
    await create("two", [{}, { readinessProbe: { exec: { command: ["true"] }, periodSeconds: 1 } }]);
    expect(condition("two", "Ready").message).toBe("containers with unready status: [c1]");
    ok = true;
    await pass(SECOND);
    expect(condition("two", "Ready").status).toBe("True");
    expect(condition("two", "ContainersReady").status).toBe("True");
  });
});

describe("restarts", () => {
  const waits = () => statusOf("crash").state?.waiting;

  test("back-off: none, then 10 s, doubling to 300 s", async () => {
    const uid = await create("crash", [{}]);
    for (const [count, seconds] of [0, 10, 20, 40, 80, 160, 300, 300].entries()) {
      engine.exit(uid, "c0", 7, { message: "last words" });
      await quiet();
      if (seconds > 0) {
        expect(engine.running()).toEqual([]);
        expect(waits()).toEqual({
          reason: "CrashLoopBackOff",
          message: `back-off ${seconds < 60 ? "" : `${Math.floor(seconds / 60)}m`}${seconds % 60}s restarting failed container=c0 pod=crash_default(${uid})`,
        });
        expect(statusOf("crash")).toMatchObject({
          restartCount: count,
          ready: false,
          lastState: { terminated: { exitCode: 7, reason: "Error", message: "last words" } },
        });
        await pass(seconds * SECOND - 100);
        expect(engine.running()).toEqual([]);
        await pass(100);
      }
      expect(engine.running()).toEqual([`${uid}/c0.${count + 1}`]);
      expect(statusOf("crash")).toMatchObject({
        restartCount: count + 1,
        state: { running: { startedAt: now() } },
        lastState: { terminated: { exitCode: 7, containerID: `fake://${uid}.c0.${count}` } },
      });
    }
    const backOffs = eventsOf("crash").filter(({ text }) => text.startsWith("BackOff"));
    // The same event within ten minutes is a higher count; one pod does not flood the server.
    expect(Math.max(...backOffs.map(({ count = 0 }) => count))).toBeGreaterThan(3);
    expect(backOffs.reduce((sum, { count = 0 }) => sum + count, 0)).toBeLessThanOrEqual(7);
  });

  test("ten minutes of running begin the back-off anew", async () => {
    const uid = await create("crash", [{}]);
    for (let i = 0; i < 4; i++) {
      engine.exit(uid, "c0", 1);
      await pass(40 * SECOND);
    }
    await pass(10 * MINUTE + SECOND);
    engine.exit(uid, "c0", 1);
    await quiet();
    expect(engine.running()).toEqual([`${uid}/c0.5`]);
    engine.exit(uid, "c0", 1);
    await quiet();
    expect(waits()?.message).toMatch(/^back-off 10s /);
    expect(statusOf("crash").restartCount).toBe(5);
  });

  test("one container's back-off holds up no other", async () => {
    const uid = await create("crash", [{}, {}]);
    for (let i = 0; i < 2; i++) {
      engine.exit(uid, "c0", 1);
      await quiet();
    }
    expect(waits()?.reason).toBe("CrashLoopBackOff");
    engine.exit(uid, "c1", 1);
    await quiet();
    expect(engine.running()).toEqual([`${uid}/c1.1`]);
    expect(phaseOf("crash")).toBe("Running");
  });

  test("a program that cannot be started counts as one that ended", async () => {
    engine.startErrors.set("c0", "no such file or directory");
    const uid = await create("crash", [{}]);
    expect(statusOf("crash")).toMatchObject({
      restartCount: 1,
      state: { waiting: { reason: "CrashLoopBackOff" } },
      lastState: {
        terminated: { exitCode: 128, reason: "StartError", message: "no such file or directory" },
      },
    });
    expect(told("crash")).toContain("Failed: Error: no such file or directory");
    engine.startErrors.clear();
    await pass(10 * SECOND);
    expect(engine.running()).toEqual([`${uid}/c0.2`]);
  });

  test("a changed image ends the container, and starts it again whatever the policy", async () => {
    const uid = await create("crash", [{ image: "nginx" }], { restartPolicy: "Never" });
    await kube.patch(PODS, "crash", "default", "strategic", {
      spec: { containers: [{ name: "c0", image: "redis" }] },
    });
    await pass(SECOND);
    expect(told("crash")).toContain("Killing: Container c0 definition changed, will be restarted");
    expect(engine.running()).toEqual([`${uid}/c0.1`]);
    expect(statusOf("crash")).toMatchObject({ image: "redis", imageID: "podwire://redis", restartCount: 1 });
    expect(phaseOf("crash")).toBe("Running");
  });
});

describe("what keeps a container from starting", () => {
  test("an image without an entry: ErrImagePull, ImagePullBackOff, and started when there is one", async () => {
    const uid = await create("odd", [{ image: "example.org/thing:1" }]);
    expect(statusOf("odd").state?.waiting).toMatchObject({
      reason: "ErrImagePull",
      message: expect.stringContaining('"example.org/thing:1": add an entry'),
    });
    expect(phaseOf("odd")).toBe("Pending");
    await pass(10 * SECOND);
    expect(statusOf("odd").state?.waiting).toMatchObject({
      reason: "ImagePullBackOff",
      message: expect.stringMatching(
        /^Back-off pulling image "example\.org\/thing:1": ErrImagePull: no program/,
      ),
    });
    await pass(30 * SECOND);
    expect(eventsOf("odd")).toContainEqual({
      text: 'BackOff: Back-off pulling image "example.org/thing:1"',
      count: 4,
    });
    expect(told("odd")).toContain("Failed: Error: ErrImagePull");
    images = { ...images, "example.org/thing": DEFAULT_IMAGES.busybox! };
    await pass(10 * SECOND);
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    expect(statusOf("odd").state).toHaveProperty("running");
  });

  test("a ConfigMap that is not there: CreateContainerConfigError until it is", async () => {
    const uid = await create("odd", [{ envFrom: [{ configMapRef: { name: "m" } }] }]);
    expect(statusOf("odd").state?.waiting).toEqual({
      reason: "CreateContainerConfigError",
      message: 'configmap "m" not found',
    });
    expect(told("odd")).toContain('Failed: Error: configmap "m" not found');
    kube.put<ConfigMap>(CONFIGMAPS, { metadata: { name: "m", namespace: "default" }, data: { A: "b" } });
    await pass(10 * SECOND);
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    expect(engine.started[0]!.env).toContain("A=b");
  });

  test("a pod that is refused stays Pending, and says why once", async () => {
    await create("odd", [{}], { hostNetwork: true });
    await kube.patch(PODS, "odd", "default", "merge", { metadata: { labels: { a: "b" } } });
    await quiet();
    expect(phaseOf("odd")).toBe("Pending");
    expect(statusOf("odd").state?.waiting?.reason).toBe("CreateContainerConfigError");
    expect(eventsOf("odd")).toEqual([{ text: expect.stringContaining("hostNetwork is refused"), count: 1 }]);
    expect(engine.sandboxes()).toEqual([]);
    await remove("odd");
    expect(get("odd")).toBeUndefined();
  });
});

describe("init containers", () => {
  const init = (...names: string[]) => ({
    initContainers: names.map((name) => ({ name, image: "busybox" })),
  });

  test("run one after another, then the containers", async () => {
    const uid = await create("init", [{}], init("i0", "i1"));
    expect(engine.running()).toEqual([`${uid}/i0.0`]);
    expect(phaseOf("init")).toBe("Pending");
    expect(statusOf("init", "i0").state).toHaveProperty("running");
    for (const name of ["i1", "c0"])
      expect(statusOf("init", name).state).toEqual({ waiting: { reason: "PodInitializing" } });
    expect(condition("init", "Initialized")).toMatchObject({
      status: "False",
      reason: "ContainersNotInitialized",
      message: "containers with incomplete status: [i0 i1]",
    });
    engine.exit(uid, "i0", 0);
    await quiet();
    expect(engine.running()).toEqual([`${uid}/i1.0`]);
    expect(statusOf("init", "i0")).toMatchObject({ ready: true, restartCount: 0 });
    expect(condition("init", "Initialized").message).toBe("containers with incomplete status: [i1]");
    engine.exit(uid, "i1", 0);
    await quiet();
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    expect(phaseOf("init")).toBe("Running");
    expect(condition("init", "Initialized").status).toBe("True");
    expect(statusOf("init", "i1").state).toMatchObject({ terminated: { reason: "Completed" } });
    // A container that is restarted does not bring them back.
    engine.exit(uid, "c0", 1);
    await quiet();
    expect(engine.running()).toEqual([`${uid}/c0.1`]);
  });

  test("one that fails is restarted with back-off", async () => {
    const uid = await create("init", [{}], init("i0"));
    for (let i = 0; i < 2; i++) {
      engine.exit(uid, "i0", 3);
      await quiet();
    }
    expect(phaseOf("init")).toBe("Pending");
    expect(statusOf("init", "i0")).toMatchObject({
      restartCount: 1,
      ready: false,
      state: { waiting: { reason: "CrashLoopBackOff" } },
      lastState: { terminated: { exitCode: 3 } },
    });
    await pass(10 * SECOND);
    engine.exit(uid, "i0", 0);
    await quiet();
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    expect(statusOf("init", "i0")).toMatchObject({ restartCount: 2, ready: true });
  });

  test("one that fails fails a pod that is not restarted", async () => {
    const uid = await create("init", [{}], { ...init("i0"), restartPolicy: "Never" });
    engine.exit(uid, "i0", 3);
    await quiet();
    expect(phaseOf("init")).toBe("Failed");
    expect(statusOf("init", "i0").state).toMatchObject({ terminated: { exitCode: 3, reason: "Error" } });
    expect(statusOf("init").state).toEqual({ waiting: { reason: "PodInitializing" } });
    await pass(MINUTE);
    expect(engine.started.map(({ container }) => container)).toEqual(["i0"]);
  });

  test("another agent goes on where the last one was", async () => {
    const uid = await create("init", [{}], init("i0", "i1"));
    engine.exit(uid, "i0", 0);
    await quiet();
    await manager.stop();
    engine.exit(uid, "i1", 0);
    await begin();
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    expect(engine.started.map(({ container }) => container)).toEqual(["i0", "i1", "c0"]);
  });
});

describe("probes and hooks", () => {
  const probe = { exec: { command: ["probe"] }, periodSeconds: 1, failureThreshold: 2 };

  test("readiness: in and out of service", async () => {
    let ok = true;
    engine.onExec = () => ({ code: ok ? 0 : 1, message: "broken" });
    const uid = await create("app", [{ readinessProbe: probe }]);
    await pass(SECOND);
    expect(statusOf("app")).toMatchObject({ ready: true, started: true });
    ok = false;
    await pass(2 * SECOND);
    expect(statusOf("app")).toMatchObject({ ready: false, started: true, restartCount: 0 });
    expect(condition("app", "Ready")).toMatchObject({ status: "False", lastTransitionTime: now() });
    expect(eventsOf("app")).toContainEqual({
      text: "Unhealthy: Readiness probe failed: broken",
      count: 2,
    });
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
  });

  test.each(["liveness", "startup"])("%s: the container is restarted", async (kind) => {
    engine.onExec = () => ({ code: engine.signals.length > 0 ? 0 : 1 });
    const uid = await create("app", [{ [`${kind}Probe`]: probe }], { terminationGracePeriodSeconds: 5 });
    engine.stubborn.add("c0");
    expect(statusOf("app").started).toBe(kind === "liveness");
    await pass(2 * SECOND);
    expect(told("app")).toContain(`Killing: Container c0 failed ${kind} probe, will be restarted`);
    expect(engine.signals).toEqual(["c0 SIGTERM"]);
    await pass(6 * SECOND);
    expect(engine.signals).toEqual(["c0 SIGTERM", "c0 SIGKILL"]);
    expect(engine.running()).toEqual([`${uid}/c0.1`]);
    expect(statusOf("app")).toMatchObject({ restartCount: 1, lastState: { terminated: { exitCode: 137 } } });
  });

  test("startup holds back readiness and liveness", async () => {
    let up = false;
    engine.onExec = (command) => ({ code: command === "start" && !up ? 1 : 0 });
    const startupProbe = { exec: { command: ["start"] }, periodSeconds: 1, failureThreshold: 100 };
    await create("app", [{ startupProbe, readinessProbe: probe, livenessProbe: probe }]);
    await pass(10 * SECOND);
    expect(engine.commands).not.toContain("probe");
    expect(statusOf("app")).toMatchObject({ ready: false, started: false });
    up = true;
    await pass(2 * SECOND);
    expect(statusOf("app")).toMatchObject({ ready: true, started: true });
  });

  test("postStart: probed and running only after it; a failure ends the container", async () => {
    let end = (_: { code: number }) => {};
    engine.onExec = () => new Promise((resolve) => (end = resolve));
    const lifecycle = { postStart: { exec: { command: ["hook"] } } };
    const uid = await create("app", [{ lifecycle }], { terminationGracePeriodSeconds: 5 });
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    expect(statusOf("app")).toMatchObject({
      ready: false,
      state: { waiting: { reason: "ContainerCreating" } },
    });
    end({ code: 1 });
    await pass(SECOND);
    expect(told("app")).toContain(
      'FailedPostStartHook: PostStartHook failed: command ["hook"] exited with 1',
    );
    expect(engine.running()).toEqual([`${uid}/c0.1`]);
    end({ code: 0 });
    await quiet();
    expect(statusOf("app")).toMatchObject({ ready: true, restartCount: 1, state: { running: {} } });
  });

  test("preStop runs before the stop signal, within the grace period", async () => {
    engine.onExec = () => new Promise(() => {});
    const lifecycle = { preStop: { exec: { command: ["bye"] } } };
    await create("app", [{ lifecycle }], { terminationGracePeriodSeconds: 10 });
    await remove("app");
    await pass(9 * SECOND);
    expect(engine.commands).toEqual(["bye"]);
    expect(engine.signals).toEqual([]);
    engine.stubborn.add("c0");
    await pass(SECOND);
    expect(engine.signals).toEqual(["c0 SIGTERM"]);
    expect(told("app")).toContain("FailedPreStopHook: PreStopHook failed: its time is over");
    // Two seconds are left to the program in any case.
    await pass(1_900);
    expect(engine.signals).toEqual(["c0 SIGTERM"]);
    await pass(200);
    expect(engine.signals).toEqual(["c0 SIGTERM", "c0 SIGKILL"]);
    expect(get("app")).toBeUndefined();
  });

  test("a sleep as preStop", async () => {
    // In the API since 1.29, and not in the types.
    const lifecycle = { preStop: { sleep: { seconds: 3 } } as object };
    await create("app", [{ lifecycle }]);
    await remove("app");
    await pass(2_900);
    expect(engine.signals).toEqual([]);
    await pass(200);
    expect(engine.signals).toEqual(["c0 SIGTERM"]);
    expect(get("app")).toBeUndefined();
  });
});

describe("deletion", () => {
  test("stop signal, grace period, SIGKILL; other pods go on meanwhile", async () => {
    engine.stubborn.add("c0");
    const uid = await create("old", [{ image: "nginx" }, {}], { terminationGracePeriodSeconds: 20 });
    await remove("old");
    expect(engine.signals.sort()).toEqual(["c0 SIGQUIT", "c1 SIGTERM"]);
    expect(told("old")).toContain("Killing: Stopping container c0");
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    await create("new", [{ name: "main" }]);
    expect(phaseOf("new")).toBe("Running");
    await pass(19 * SECOND);
    expect(engine.running()).toContain(`${uid}/c0.0`);
    expect(get("old")).toBeDefined();
    await pass(1_100);
    expect(engine.signals).toContain("c0 SIGKILL");
    expect(get("old")).toBeUndefined();
    expect(engine.sandbox(uid)).toBeNull();
  });

  test("the last status of a deleted pod says how its containers ended", async () => {
    await create("old", [{}]);
    const seen: (string | undefined)[] = [];
    const watching = new AbortController();
    void kube.watch<Pod>(
      PODS,
      { resourceVersion: kube.resourceVersion },
      (event) => event.type === "DELETED" && seen.push(event.object.status?.phase),
      watching.signal,
    );
    await remove("old");
    await pass(SECOND);
    watching.abort();
    expect(seen).toEqual(["Failed"]);
  });

  test("a shorter second grace period ends the first one", async () => {
    engine.stubborn.add("c0");
    await create("old", [{}], { terminationGracePeriodSeconds: 600 });
    await remove("old");
    await pass(SECOND);
    await remove("old", { gracePeriodSeconds: 1 });
    await pass(SECOND);
    expect(engine.signals).toEqual(["c0 SIGTERM", "c0 SIGKILL"]);
    expect(get("old")).toBeUndefined();
  });

  test("the next agent takes it over", async () => {
    engine.stubborn.add("c0");
    const uid = await create("old", [{}], { terminationGracePeriodSeconds: 10 });
    await remove("old");
    await manager.stop();
    await pass(SECOND);
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    expect(engine.signals).toEqual(["c0 SIGTERM"]);
    await begin();
    await pass(11 * SECOND);
    expect(engine.signals).toEqual(["c0 SIGTERM", "c0 SIGTERM", "c0 SIGKILL"]);
    expect(get("old")).toBeUndefined();
    expect(engine.sandboxes()).toEqual([]);
  });

  test("what runs without a Pod is ended: deleted by force, or while no agent ran", async () => {
    await create("forced", [{}]);
    const uid = await create("meanwhile", [{}]);
    await remove("forced", { gracePeriodSeconds: 0 });
    await pass(SECOND);
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    await manager.stop();
    await remove("meanwhile", { gracePeriodSeconds: 0 });
    await begin();
    await pass(SECOND);
    expect(engine.sandboxes()).toEqual([]);
  });

  test("nothing is taken for gone before the API has said what there is", async () => {
    const uid = await create("web", [{}]);
    await manager.stop();
    kube.goOffline();
    await begin();
    await pass(MINUTE);
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    kube.goOnline();
    await pass(5 * SECOND);
    expect(engine.running()).toEqual([`${uid}/c0.0`]);
    expect(engine.signals).toEqual([]);
  });

  test("a pod of the same name with another uid waits for the end of the first", async () => {
    engine.stubborn.add("c0");
    const first = await create("same", [{}]);
    await kube.delete(PODS, "same", "default", { gracePeriodSeconds: 0 });
    const second = await create("same", [{}]);
    expect(second).not.toBe(first);
    expect(engine.running()).toEqual([`${first}/c0.0`]);
    await pass(5 * SECOND);
    expect(engine.running()).toEqual([`${second}/c0.0`]);
    expect(engine.sandbox(first)).toBeNull();
    expect(statusOf("same")).toMatchObject({ restartCount: 0, containerID: `fake://${second}.c0.0` });
  });
});

describe("another agent", () => {
  test("finds what runs, what has ended and what is unknown", async () => {
    const ready = { exec: { command: ["true"] }, periodSeconds: 5 };
    const runs = await create("runs", [{ readinessProbe: ready }]);
    const ended = await create("ended", [{}], { restartPolicy: "Never" });
    const lost = await create("lost", [{}]);
    await pass(5 * SECOND);
    const before = statusOf("runs");
    await manager.stop();
    engine.exit(ended, "c0", 5);
    const unknown = { reason: "ContainerStatusUnknown", message: "could not be located" } as const;
    engine.exit(lost, "c0", 137, unknown);
    await pass(SECOND);
    const writes = kube.requests.filter((each) => each === "patch pods runs").length;
    await begin();
    expect(statusOf("runs")).toEqual(before);
    // Nothing has changed for it: neither a status nor an interruption of its service.
    const written = kube.requests.filter((each) => each === "patch pods runs").length - writes;
    expect(written).toBeLessThanOrEqual(1);
    expect(phaseOf("ended")).toBe("Failed");
    expect(statusOf("ended").state?.terminated?.exitCode).toBe(5);
    expect(statusOf("lost")).toMatchObject({
      restartCount: 1,
      lastState: { terminated: { exitCode: 137, reason: "ContainerStatusUnknown" } },
    });
    expect(engine.running().sort()).toEqual([`${lost}/c0.1`, `${runs}/c0.0`].sort());
    engine.onExec = () => ({ code: 1 });
    await pass(15 * SECOND);
    expect(statusOf("runs").ready).toBe(false);
  });

  test("restart counts go on, the back-off begins anew", async () => {
    const uid = await create("crash", [{}]);
    for (let i = 0; i < 3; i++) {
      engine.exit(uid, "c0", 1);
      await pass(20 * SECOND);
    }
    await manager.stop();
    engine.exit(uid, "c0", 1);
    await begin();
    expect(statusOf("crash")).toMatchObject({ restartCount: 4, state: { running: {} } });
    engine.exit(uid, "c0", 1);
    await quiet();
    expect(statusOf("crash").state?.waiting?.message).toMatch(/^back-off 10s /);
  });

  test("after a restart of the machine pods are made anew, init containers first", async () => {
    const initContainers = [{ name: "i0", image: "busybox" }];
    const uid = await create("web", [{}], { initContainers });
    const once = await create("once", [{ name: "job" }], { restartPolicy: "Never" });
    engine.exit(uid, "i0", 0);
    await pass(SECOND);
    await manager.stop();
    const end = { reason: "ContainerStatusUnknown" } as const;
    engine.exit(uid, "c0", 137, end);
    engine.exit(once, "job", 137, end);
    engine.breakSandbox(uid);
    engine.breakSandbox(once);
    await pass(MINUTE);
    await begin();
    expect(told("web")).toContain("SandboxChanged: Pod sandbox changed, it will be killed and re-created.");
    expect(engine.running()).toEqual([`${uid}/i0.1`]);
    engine.exit(uid, "i0", 0);
    await quiet();
    expect(engine.running()).toEqual([`${uid}/c0.1`]);
    expect(statusOf("web").restartCount).toBe(1);
    expect(phaseOf("once")).toBe("Failed");
    expect(told("once").filter((each) => each.startsWith("SandboxChanged"))).toEqual([]);
  });

  test("a sandbox that breaks under running containers is made anew, and they with it", async () => {
    const uid = await create("web", [{}]);
    attached = false;
    engine.breakSandbox(uid);
    await kube.patch(PODS, "web", "default", "merge", { metadata: { labels: { a: "b" } } });
    await pass(SECOND);
    expect(engine.running()).toEqual([]);
    expect(condition("web", "PodReadyToStartContainers").status).toBe("False");
    attached = true;
    await pass(SECOND);
    expect(engine.running()).toEqual([`${uid}/c0.1`]);
    expect(engine.sandbox(uid)?.alive).toBe(true);
  });
});

describe("the API server", () => {
  test("is away: pods go on, and their status is written when it is back", async () => {
    const uid = await create("web", [{}]);
    kube.goOffline();
    engine.exit(uid, "c0", 1);
    await pass(SECOND);
    expect(engine.running()).toEqual([`${uid}/c0.1`]);
    expect(statusOf("web").restartCount).toBe(0);
    kube.goOnline();
    await pass(20 * SECOND);
    expect(statusOf("web")).toMatchObject({ restartCount: 1, state: { running: {} } });
  });

  test("is away: a deleted pod's end waits for it", async () => {
    await create("web", [{}]);
    kube.failNext({ verb: "delete", plural: "pods" });
    await kube.delete(PODS, "web", "default").catch(() => {});
    await remove("web");
    kube.failNext({ verb: "delete", plural: "pods" }, KubeError.unreachable("away"), 2);
    await pass(10 * SECOND);
    expect(get("web")).toBeUndefined();
    expect(engine.sandboxes()).toEqual([]);
  });

  test("refuses a status as a conflict, or loses its answer: it is written again", async () => {
    const uid = await create("web", [{}]);
    kube.failNext({ verb: "patch", plural: "pods" }, KubeError.of("Conflict", "busy"));
    engine.exit(uid, "c0", 1);
    await pass(10 * SECOND);
    expect(statusOf("web").restartCount).toBe(1);
    kube.loseResponse({ verb: "patch", plural: "pods" });
    engine.exit(uid, "c0", 1);
    await pass(10 * SECOND);
    expect(statusOf("web").restartCount).toBe(2);
  });

  test("has a pod with another uid by now: its status is left alone", async () => {
    const uid = await create("web", [{}]);
    let release = () => {};
    kube.delay(
      { verb: "patch", plural: "pods" },
      new Promise<void>((resolve) => {
        release = resolve;
      }),
    );
    engine.exit(uid, "c0", 1);
    await quiet();
    await kube.delete(PODS, "web", "default", { gracePeriodSeconds: 0 });
    kube.put(PODS, boundPod("web", [{}]));
    release();
    await pass(10 * SECOND);
    expect(statusOf("web").restartCount).toBe(0);
    expect(engine.running()).toHaveLength(1);
  });
});
