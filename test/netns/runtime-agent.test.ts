/**
 * Pods of an agent that is a process of its own: killed, started again, cleaned up after. The kernel's
 * processes, mounts, namespaces and cgroups are the witnesses.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { isNotFound } from "../../src/kube/KubeError.js";
import { EVENTS, PODS } from "../../src/kube/resources.js";
import type { Event, Pod } from "../../src/kube/types.js";
import { API_NODE, isReady, TestCluster } from "../support/cluster.js";
import { netnsUnavailable, waitFor } from "../support/netns.js";
import { runtimeUnavailable } from "../support/runtime.js";

const reason = netnsUnavailable() || runtimeUnavailable();

type Spec = Partial<NonNullable<Pod["spec"]>>;
type Container = NonNullable<Pod["spec"]>["containers"][number];

describe.skipIf(reason !== "")(`pods of an agent process ${reason}`, () => {
  let cluster: TestCluster;
  const node = () => cluster.node(API_NODE);

  beforeAll(async () => {
    cluster = await TestCluster.start({ nodes: 1, runPods: true });
  });
  afterEach(async () => {
    // Whatever a test left: the next one begins with a node that has nothing.
    for (const { metadata } of (await cluster.kube.list<Pod>(PODS)).items)
      await cluster.kube.delete(PODS, metadata.name!, "default", { gracePeriodSeconds: 0 }).catch((error) => {
        if (!isNotFound(error)) throw error;
      });
    if (node().agent?.code !== null) cluster.startAgent(API_NODE);
    await waitFor(() => processes().length === 0, { what: "pods gone", deadlineMs: 30_000 });
  });
  afterAll(async () => {
    await cluster?.endAgent(API_NODE, "SIGKILL");
    await cluster?.podwire(API_NODE, ["cleanup", "-d", node().stateDir]);
    await cluster?.close();
  });

  const create = (name: string, container: Partial<Container>, spec: Spec = {}) =>
    cluster.kube.create<Pod>(PODS, {
      metadata: { name, namespace: "default" },
      spec: { nodeName: API_NODE, ...spec, containers: [{ name: "c0", image: "busybox", ...container }] },
    });
  const get = (name: string) => cluster.kube.get<Pod>(PODS, name, "default");
  const until = (name: string, what: string, condition: (pod: Pod) => unknown) =>
    waitFor(
      async () => {
        const pod = await get(name);
        return condition(pod) ? pod : null;
      },
      { what: `${name} ${what}\n${cluster.logs()}`, deadlineMs: 30_000 },
    );
  const statusOf = (pod: Pod) => pod.status!.containerStatuses![0]!;
  /** Processes of this runtime's: those whose root lies in it, and their conmons. */
  const processes = () =>
    readdirSync("/proc")
      .filter((each) => /^\d+$/.test(each))
      .filter((pid) => {
        try {
          const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
          const mounts = readFileSync(`/proc/${pid}/mountinfo`, "utf8").split("\n")[0]!;
          return (
            command.split("\0").includes(join(node().runtimeDir, "exits")) ||
            mounts.includes(`${node().runtimeDir}/`) ||
            readlinkSync(`/proc/${pid}/root`).startsWith(node().runtimeDir)
          );
        } catch {
          return false;
        }
      });
  const startTimes = () =>
    processes()
      .map((pid) => `${pid} ${readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")[19]}`)
      .sort();
  /** What is left of pods anywhere on this machine. */
  const traces = (uids: string[]) => {
    const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
    const cgroups = execFileSync("find", ["/sys/fs/cgroup", "-type", "d", "-path", "*podwire*"], {
      encoding: "utf8",
    }).split("\n");
    const netns = readdirSync("/run/netns");
    return {
      processes: processes(),
      directory: existsSync(node().runtimeDir),
      netns: netns.filter((each) => uids.some((uid) => each.includes(uid))),
      mounts: mounts.filter(
        (each) => each.includes(node().runtimeDir) || uids.some((uid) => each.includes(uid)),
      ),
      cgroups: cgroups.filter((each) => uids.some((uid) => each.includes(uid))),
    };
  };
  const NOTHING = { processes: [], directory: false, netns: [], mounts: [], cgroups: [] };
  /** A connection from the node to a pod, as whoever is on the machine would open it. */
  const ask = async (pod: Pod, port: number) => {
    const { stdout } = await cluster.net.tryExec(node().ns, "curl", [
      "-s",
      "-m",
      "2",
      `${pod.status!.podIP}:${port}`,
    ]);
    return stdout;
  };

  test("kill -9 and a new agent: the same processes, addresses, restart counts and probes", async () => {
    const probe = { httpGet: { port: 8080 }, periodSeconds: 1, failureThreshold: 3 };
    await create(
      "echo",
      { image: "podwire/echo", readinessProbe: probe, livenessProbe: probe },
      { terminationGracePeriodSeconds: 1 },
    );
    await create(
      "flaky",
      {
        command: ["sh", "-c", "test -e /data/second && exec sleep 1000; touch /data/second; exit 3"],
        volumeMounts: [{ name: "data", mountPath: "/data" }],
      },
      { volumes: [{ name: "data", emptyDir: {} }] },
    );
    const echo = await until("echo", "ready", isReady);
    const flaky = await until(
      "flaky",
      "restarted",
      (pod) => isReady(pod) && statusOf(pod).restartCount === 1,
    );
    // A process and its conmon each.
    const before = startTimes();
    expect(before).toHaveLength(4);
    await create(
      "once",
      {
        command: ["sh", "-c", "until [ -e /data/go ]; do sleep 0.1; done; exit 9"],
        volumeMounts: [{ name: "data", mountPath: "/data" }],
      },
      { volumes: [{ name: "data", emptyDir: {} }], restartPolicy: "Never" },
    );
    const once = await until("once", "running", isReady);
    await waitFor(async () => (await ask(echo, 8080)).includes("pod echo"), { what: "echo answers" });
    const podNs = `${cluster.net.prefix}-${flaky.metadata.uid}`;
    const go = join(cluster.directory, "go");
    const script = `exec 3<>/dev/tcp/${echo.status!.podIP}/8080; echo open
      until [ -e ${go} ]; do sleep 0.1; done
      printf 'GET / HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3`;
    const held = cluster.net.spawn("", "nsenter", [`--net=${cluster.net.path(podNs)}`, "bash", "-c", script]);
    await waitFor(() => held.stdout.includes("open") || held.code !== null, { what: "connection" });
    expect(held.stderr).toBe("");

    await cluster.endAgent(API_NODE, "SIGKILL");
    writeFileSync(join(node().runtimeDir, "pods", once.metadata.uid!, "volumes/data/go"), "");
    await waitFor(() => processes().length === 4, { what: "once has ended without an agent" });
    expect(startTimes()).toEqual(before);
    cluster.startAgent(API_NODE);
    const failed = await until("once", "failed", (pod) => pod.status?.phase === "Failed");
    expect(statusOf(failed).state?.terminated).toMatchObject({ exitCode: 9, reason: "Error" });
    expect(failed.metadata.uid).toBe(once.metadata.uid);
    await waitFor(async () => (await ask(echo, 8080)).includes("pod echo"), {
      what: "echo answers again",
      deadlineMs: 30_000,
    });
    // The connection from before goes on.
    writeFileSync(go, "");
    await waitFor(() => held.stdout.includes("pod echo") || held.code !== null, { what: "old connection" });
    expect(held.stdout).toContain("pod echo");
    expect(startTimes()).toEqual(before);
    for (const old of [echo, flaky]) {
      const pod = await get(old.metadata.name!);
      expect(pod.status!.podIP).toBe(old.status!.podIP);
      expect(statusOf(pod)).toEqual(statusOf(old));
      expect(isReady(pod)).toBe(true);
    }
    // Probes go on: a program that no longer answers is found out, and restarted.
    const [pid] = processes().filter((each) =>
      readFileSync(`/proc/${each}/cmdline`, "utf8").includes("echo.mjs"),
    );
    process.kill(Number(pid), "SIGSTOP");
    const restarted = await until("echo", "restarted", (pod) => statusOf(pod).restartCount === 1);
    expect(restarted.metadata.uid).toBe(echo.metadata.uid);
    const events = (await cluster.kube.list<Event>(EVENTS)).items.map(({ message }) => message);
    expect(events).toContain("Container c0 failed liveness probe, will be restarted");
  });

  test("cleanup after a crash leaves nothing, and an agent begins anew", async () => {
    const memory = { resources: { limits: { memory: "64Mi" } } };
    const uids = [];
    for (const name of ["one", "two"]) {
      await create(name, {
        ...memory,
        command: ["sh", "-c", "trap '' TERM; sleep 1000 & sleep 1001 & wait; wait"],
      });
      uids.push((await until(name, "running", isReady)).metadata.uid!);
    }
    expect(processes().length).toBeGreaterThanOrEqual(6);
    expect(traces(uids).netns).toHaveLength(2);
    if (existsSync("/sys/fs/cgroup/memory")) expect(traces(uids).cgroups.length).toBeGreaterThan(2);

    await cluster.endAgent(API_NODE, "SIGKILL");
    const done = await cluster.podwire(API_NODE, ["cleanup", "-d", node().stateDir]);
    expect(done).toMatchObject({ code: 0, stderr: "" });
    expect(done.stdout).toContain("removed pod default/one\n");
    await waitFor(() => processes().length === 0, { what: "conmons gone" });
    expect(traces(uids)).toEqual(NOTHING);
    expect((await cluster.podwire(API_NODE, ["cleanup", "-d", node().stateDir])).code).toBe(0);

    cluster.startAgent(API_NODE);
    for (const name of ["one", "two"])
      await until(name, "running anew", (pod) => isReady(pod) && processes().length > 0);
  });

  test("cleanup of pods whose agent was killed while it started them", async () => {
    const names = Array.from({ length: 6 }, (_, i) => `burst${i}`);
    const uids: string[] = [];
    for (const name of names) uids.push((await create(name, { command: ["sleep", "1000"] })).metadata.uid!);
    await waitFor(
      () => existsSync(node().runtimeDir) && readdirSync(join(node().runtimeDir, "runc")).length > 0,
      {
        what: "first container",
        intervalMs: 1,
      },
    );
    await cluster.endAgent(API_NODE, "SIGKILL");
    const { code, stderr } = await cluster.podwire(API_NODE, ["cleanup", "-d", node().stateDir]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    await waitFor(() => processes().length === 0, { what: "conmons gone" });
    expect(traces(uids)).toEqual(NOTHING);
  });
});
