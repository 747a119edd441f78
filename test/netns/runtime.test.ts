/**
 * The runtime on runc and conmon: pods of a FakeKube, processes of this machine. What a pod may reach,
 * how its containers end, and that all of it outlives the manager.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeKube } from "../../src/kube/FakeKube.js";
import { EVENTS, PODS } from "../../src/kube/resources.js";
import type { Event, Pod } from "../../src/kube/types.js";
import { DEFAULT_IMAGES } from "../../src/runtime/images.js";
import { AccessError } from "../../src/runtime/PodAccess.js";
import { PodManager } from "../../src/runtime/PodManager.js";
import { RuncEngine } from "../../src/runtime/RuncEngine.js";
import { RuntimeAccess } from "../../src/runtime/RuntimeAccess.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";
import { boundPod } from "../support/pods.js";
import { runtimeUnavailable } from "../support/runtime.js";

const ECHO = DEFAULT_IMAGES["podwire/echo"]!;
/** The built-in table, with the echo server as it is built. */
const IMAGES = {
  ...DEFAULT_IMAGES,
  "podwire/echo": {
    ...ECHO,
    mounts: {
      ...ECHO.mounts,
      "/podwire/echo.mjs": fileURLToPath(new URL("../../dist/runtime/echoServer.js", import.meta.url)),
    },
  },
};

/** Bytes at which a log is rotated. */
const LIMIT = 10 * 2 ** 20;
const LOG = { follow: false, previous: false, timestamps: false };

const reason = netnsUnavailable() || runtimeUnavailable();

describe.skipIf(reason !== "")(`runtime ${reason}`, () => {
  let net: TestNet;
  let kube: FakeKube;
  let engine: RuncEngine;
  let manager: PodManager;
  let access: RuntimeAccess;
  let directory: string;
  let errors: unknown[];

  const begin = async () => {
    engine = new RuncEngine(join(directory, "runtime"));
    manager = new PodManager({
      api: kube,
      engine,
      node: "n1",
      nodeAddress: "192.0.2.1",
      netnsOf: ({ metadata }) => `/run/netns/${net.prefix}-${metadata.name}`,
      attached: async () => true,
      images: () => IMAGES,
      imageFile: "/etc/podwire/images.yaml",
      resolvConf: () => "nameserver 192.0.2.53\n",
      onError: (error) => errors.push(error),
    });
    access = new RuntimeAccess(engine, (namespace, name) => manager.pods.get(name, namespace));
    await manager.start();
  };

  beforeEach(async () => {
    net = new TestNet();
    kube = new FakeKube();
    directory = net.directory();
    errors = [];
    await begin();
  });

  afterEach(async () => {
    await manager.stop();
    const last = new RuncEngine(join(directory, "runtime"));
    await last.start(() => {});
    await last.removeAll();
    await net.cleanup();
  });

  const create = (pod: Pod) => kube.put(PODS, pod);
  const get = (name: string) => kube.get<Pod>(PODS, name, "default");
  const until = (name: string, what: string, condition: (pod: Pod) => unknown) =>
    waitFor(
      async () => {
        const pod = await get(name);
        return condition(pod) ? pod : null;
      },
      { what: `${name} ${what}`, deadlineMs: 30_000 },
    );
  const statusOf = (pod: Pod) => pod.status!.containerStatuses?.[0];
  const running = (name: string) =>
    until(name, "running and ready", (pod) =>
      pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True"),
    );
  const text = async (stream: Readable | null) => {
    let all = "";
    for await (const chunk of stream ?? []) all += chunk;
    return all;
  };
  const logs = async (pod: string, options = {}) =>
    text(
      await access.log({ namespace: "default", pod }, { ...LOG, ...options }, AbortSignal.timeout(20_000)),
    );
  const exec = async (pod: string, command: string[], options = {}) => {
    const session = await access.exec(
      { namespace: "default", pod },
      { command, stdin: false, stdout: true, stderr: true, tty: false, ...options },
      AbortSignal.timeout(20_000),
    );
    session.stdin?.end();
    const [stdout, stderr, ended] = await Promise.all([
      text(session.stdout),
      text(session.stderr),
      session.ended,
    ]);
    return { stdout, stderr, ...ended };
  };
  const eventsOf = async (name: string) =>
    (await kube.list<Event>(EVENTS)).items
      .filter(({ involvedObject }) => involvedObject.name === name)
      .map(({ reason, message }) => `${reason}: ${message}`);
  /** Waits for an event of a pod, which may come after what it is about. */
  const reported = (name: string, start: string) =>
    waitFor(async () => (await eventsOf(name)).some((each) => each.startsWith(start)), {
      what: `event of ${name}: ${start}`,
    });
  const sh = (script: string) => ({ command: ["sh", "-c", script] });

  test("a pod runs, logs, takes commands and goes", async () => {
    await create(
      boundPod("web", [
        {
          name: "shell",
          ...sh("echo hello $(NAME); echo trouble >&2; hostname; exec sleep 1000"),
          env: [
            { name: "NAME", value: "world" },
            { name: "NODE", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
          ],
        },
      ]),
    );
    const pod = await running("web");
    expect(pod.status).toMatchObject({ phase: "Running", podIP: "192.0.2.10" });
    expect(statusOf(pod)).toMatchObject({ ready: true, started: true, restartCount: 0, name: "shell" });
    await waitFor(async () => (await logs("web")).includes("web\n"), { what: "log" });
    expect((await logs("web")).split("\n").sort()).toEqual(["", "hello world", "trouble", "web"]);
    expect(await logs("web", { tailLines: 1, timestamps: true })).toMatch(/^\d{4}-\d\d-\d\dT\S+ \S+\n$/);

    const told = await exec("web", ["sh", "-c", "echo $NODE; echo bad >&2; exit 3"]);
    expect(told).toEqual({ stdout: "n1\n", stderr: "bad\n", code: 3 });
    expect(await exec("web", ["no-such-program"])).toMatchObject({
      code: 127,
      stdout: "",
      stderr: "",
      message: expect.stringContaining('exec: "no-such-program": executable file not found in $PATH'),
    });
    const terminal = await exec("web", ["sh", "-c", "tty; stty size"], { tty: true, stderr: false });
    // runc moves the translation of line ends from one terminal to the other while the command runs already.
    expect(terminal.stdout).toMatch(/^\/dev\/pts\/\d+\r+\n24 80\r+\n$/);
    // Typed before there is a reader: echoed once, by the container's terminal, and then its end.
    const typed = await access.exec(
      { namespace: "default", pod: "web" },
      { command: ["cat"], stdin: true, stdout: true, stderr: false, tty: true },
      AbortSignal.timeout(20_000),
    );
    typed.stdin!.end("typed\r");
    expect(await text(typed.stdout)).toMatch(/^typed\r+\ntyped\r+\n$/);
    expect(await typed.ended).toEqual({ code: 0 });

    const at = performance.now();
    await kube.delete(PODS, "web", "default", { gracePeriodSeconds: 2 });
    await waitFor(async () => (await get("web").catch(() => null)) === null, { what: "pod gone" });
    // sleep is the first process of its namespace, and SIGTERM does nothing to that.
    expect(performance.now() - at).toBeGreaterThan(1900);
    expect(existsSync(`/run/netns/${net.prefix}-web`)).toBe(false);
    expect(engine.sandboxes()).toEqual([]);
    for (const said of ["Pulled:", "Created:", "Started:", "Killing:"]) await reported("web", said);
    await expect(logs("web")).rejects.toThrow(AccessError);
    expect(errors).toEqual([]);
  });

  test("the programs of the image table serve", async () => {
    const ports = {
      nginx: 80,
      "httpd:2.4": 80,
      "shotaohtsuka/my-httpd-image": 90,
      redis: 6379,
      "podwire/echo": 8080,
    };
    for (const [at, [image, port]] of Object.entries(ports).entries()) {
      await create(boundPod(`image${at}`, [{ image }]));
      await running(`image${at}`);
      const ask =
        port === 6379
          ? ["redis-cli", "PING"]
          : ["curl", "-s", "--retry", "10", "--retry-connrefused", "--retry-delay", "1", `127.0.0.1:${port}`];
      await waitFor(
        async () => {
          const { stdout } = await exec(`image${at}`, ask);
          return (
            stdout === "PONG\n" ||
            stdout === `image${at} on n1\n` ||
            stdout.startsWith(`pod image${at}\nnode n1\n`)
          );
        },
        { what: `${image} answers` },
      );
    }
    expect(errors).toEqual([]);
  });

  test("a container that exits is restarted, and then waits", async () => {
    await create(boundPod("crash", [sh("echo going; echo last words > /dev/termination-log; exit 7")]));
    const pod = await until(
      "crash",
      "in back-off",
      (each) => statusOf(each)?.state?.waiting?.reason === "CrashLoopBackOff",
    );
    expect(statusOf(pod)).toMatchObject({
      restartCount: 1,
      ready: false,
      lastState: { terminated: { exitCode: 7, reason: "Error", message: "last words\n" } },
    });
    expect(statusOf(pod)?.state?.waiting?.message).toMatch(
      /^back-off 10s restarting failed container=c0 pod=crash_default/,
    );
    expect(pod.status?.phase).toBe("Running");
    expect(await logs("crash", { previous: true })).toBe("going\n");
    await reported("crash", "BackOff: Back-off restarting failed container c0");
  });

  test("a pod that is not restarted keeps its log", async () => {
    await create(boundPod("once", [sh("echo done")], { restartPolicy: "Never" }));
    const pod = await until("once", "succeeded", ({ status }) => status?.phase === "Succeeded");
    expect(statusOf(pod)?.state?.terminated).toMatchObject({ exitCode: 0, reason: "Completed" });
    await waitFor(() => !existsSync(`/run/netns/${net.prefix}-once`), { what: "namespace gone" });
    expect(await logs("once")).toBe("done\n");
    await create(boundPod("bad", [sh("exit 4")], { restartPolicy: "Never" }));
    await until("bad", "failed", ({ status }) => status?.phase === "Failed");
  });

  test("a program that is missing, and an image without an entry", async () => {
    await create(boundPod("missing", [{ command: ["/no/such/program"] }]));
    const pod = await until("missing", "in back-off", (each) => statusOf(each)?.lastState?.terminated);
    expect(statusOf(pod)?.lastState?.terminated).toMatchObject({ reason: "StartError", exitCode: 128 });
    expect(statusOf(pod)?.lastState?.terminated?.message).toContain("/no/such/program");
    await create(boundPod("unknown", [{ image: "example.org/thing:1" }]));
    const unknown = await until("unknown", "told", (each) => statusOf(each)?.state?.waiting?.message);
    expect(unknown.status?.phase).toBe("Pending");
    expect(statusOf(unknown)?.state?.waiting).toMatchObject({
      reason: "ErrImagePull",
      message: expect.stringContaining("/etc/podwire/images.yaml"),
    });
  });

  test("probes that fail: not ready, then restarted", async () => {
    const period = { periodSeconds: 1, failureThreshold: 1 };
    await create(
      boundPod("sick", [
        {
          ...sh("trap 'exit 0' TERM; touch /tmp/ready; while :; do sleep 0.1; done"),
          readinessProbe: { exec: { command: ["test", "-e", "/tmp/ready"] }, ...period },
          livenessProbe: { exec: { command: ["test", "!", "-e", "/tmp/dead"] }, ...period },
        },
      ]),
    );
    await running("sick");
    await exec("sick", ["rm", "/tmp/ready"]);
    await until("sick", "unready", (pod) => statusOf(pod)?.ready === false);
    await exec("sick", ["touch", "/tmp/dead"]);
    const pod = await until("sick", "restarted", (each) => statusOf(each)?.restartCount === 1);
    expect(statusOf(pod)?.lastState?.terminated).toMatchObject({ exitCode: 0 });
    await reported("sick", "Unhealthy: Readiness probe failed");
    await reported("sick", "Killing: Container c0 failed liveness probe, will be restarted");
  });

  test("init containers prepare what the others use", async () => {
    const volumeMounts = [{ name: "data", mountPath: "/data" }];
    const prepare = (name: string, script: string) => ({
      name,
      image: "busybox",
      ...sh(script),
      volumeMounts,
    });
    await create(
      boundPod("built", [{ ...sh("cat /data/list; exec sleep 1000"), volumeMounts }], {
        volumes: [{ name: "data", emptyDir: {} }],
        initContainers: [
          prepare("first", "echo one >> /data/list"),
          prepare("second", "test -e /data/tried || { touch /data/tried; exit 1; }; echo two >> /data/list"),
        ],
      }),
    );
    const pod = await running("built");
    expect(pod.status!.initContainerStatuses).toMatchObject([
      { name: "first", ready: true, restartCount: 0, state: { terminated: { reason: "Completed" } } },
      { name: "second", ready: true, restartCount: 1, lastState: { terminated: { exitCode: 1 } } },
    ]);
    await waitFor(async () => (await logs("built")) === "one\ntwo\n", { what: "log" });
  });

  test("a changed image replaces the container", async () => {
    await create(boundPod("swap", [{ image: "podwire/echo" }], { terminationGracePeriodSeconds: 1 }));
    await running("swap");
    const containers = [{ name: "c0", image: "redis" }];
    await kube.patch(PODS, "swap", "default", "strategic", { spec: { containers } });
    const pod = await until(
      "swap",
      "running redis",
      (each) => statusOf(each)?.imageID === "podwire://redis" && statusOf(each)?.ready,
    );
    expect(statusOf(pod)).toMatchObject({ restartCount: 1 });
    await waitFor(async () => (await exec("swap", ["redis-cli", "PING"])).stdout === "PONG\n", {
      what: "PONG",
    });
  });

  test("what a container says last", async () => {
    const never = { restartPolicy: "Never" } as const;
    const fallback = { terminationMessagePolicy: "FallbackToLogsOnError" } as const;
    const path = { terminationMessagePath: "/tmp/why" };
    await create(
      boundPod("tells", [{ ...sh("echo noise; echo because > /tmp/why; exit 1"), ...path }], never),
    );
    await create(boundPod("logs", [{ ...sh("seq 1000; printf end >&2; exit 1"), ...fallback }], never));
    await create(boundPod("fine", [{ ...sh("echo noise"), ...fallback }], never));
    const message = async (name: string, phase: string) =>
      statusOf(await until(name, phase, ({ status }) => status?.phase === phase))!.state!.terminated!.message;
    expect(await message("tells", "Failed")).toBe("because\n");
    const said = (await message("logs", "Failed"))!.split("\n");
    expect(said).toHaveLength(80);
    expect([said[0], said.at(-2), said.at(-1)]).toEqual(["922", "1000", "end"]);
    expect(await message("fine", "Succeeded")).toBeUndefined();
  });

  test("user, groups, capabilities, a root that is read-only, and the filter of system calls", async () => {
    const securityContext = {
      runAsUser: 1234,
      runAsGroup: 2345,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"], add: ["NET_BIND_SERVICE"] },
    };
    const volumeMounts = [{ name: "data", mountPath: "/data" }];
    await create(
      boundPod("tight", [{ ...sh("exec sleep 1000"), securityContext, volumeMounts }], {
        volumes: [{ name: "data", emptyDir: {} }],
        securityContext: { supplementalGroups: [3456] },
      }),
    );
    await running("tight");
    const attempt = async (script: string) => (await exec("tight", ["sh", "-c", script])).stdout;
    expect(await attempt("id -u; id -g; id -G")).toBe("1234\n2345\n2345 3456\n");
    expect(await attempt("touch /tmp/x 2>/dev/null && echo DONE; touch /data/x && echo kept")).toBe("kept\n");
    const status = await attempt("grep -E 'CapBnd|Seccomp:' /proc/self/status");
    expect(status).toContain("CapBnd:\t0000000000000400\n");
    expect(status).toContain("Seccomp:\t2\n");
    // A user namespace needs no privilege: only the filter refuses it.
    expect(await attempt("unshare --user true 2>&1 || true")).toContain("Operation not permitted");
    // Threads and processes are made by a system call whose flags the filter does not see.
    const thread =
      "import threading; t = threading.Thread(target=print, args=('runs',)); t.start(); t.join()";
    expect(await attempt(`python3 -c "${thread}"`)).toBe("runs\n");
  });

  const limits = existsSync("/sys/fs/cgroup/memory") || existsSync("/sys/fs/cgroup/cgroup.controllers");
  test.skipIf(!limits)("limits: memory and processor time, and a program that takes more", async () => {
    const resources = { limits: { memory: "64Mi", cpu: "250m" } };
    await create(boundPod("slim", [{ ...sh("exec sleep 1000"), resources }]));
    await running("slim");
    const { uid = "" } = (await get("slim")).metadata;
    const read = (...names: string[]) =>
      names
        .map((name) => `/sys/fs/cgroup/${name}`)
        .filter((name) => existsSync(name))
        .map((name) => readFileSync(name, "utf8").trim());
    const own = `podwire/${uid}/c0-0`;
    expect(read(`memory/${own}/memory.limit_in_bytes`, `${own}/memory.max`)).toEqual([String(64 * 2 ** 20)]);
    expect(read(`cpu/${own}/cpu.cfs_quota_us`, `${own}/cpu.max`)[0]).toMatch(/^25000( 100000)?$/);
    const greedy = "x = bytearray(1 << 28)";
    await create(
      boundPod("greedy", [{ command: ["python3", "-c", greedy], resources }], { restartPolicy: "Never" }),
    );
    const pod = await until("greedy", "failed", ({ status }) => status?.phase === "Failed");
    expect(statusOf(pod)?.state?.terminated).toMatchObject({ exitCode: 137, reason: "OOMKilled" });
  });

  test("a log that is rotated at 10 MiB loses nothing and doubles nothing", async () => {
    // Three bursts of 15 MiB; the next begins when the one before has been rotated and read: two files are
    // kept, and who is slower than that misses one.
    const burst = 300_000;
    const last = 3 * burst;
    const script = [0, 1, 2]
      .map((n) => `until [ -e /tmp/go${n} ]; do sleep 0.05; done; seq ${n * burst + 1} ${(n + 1) * burst}`)
      .join("; ");
    await create(boundPod("loud", [sh(`${script}; sleep 1000`)]));
    const pod = await running("loud");
    const file = join(directory, "runtime/pods", pod.metadata.uid!, "containers/c0/0/log");
    // An inode number may be given out again.
    const files = new Set<string>();
    const watching = setInterval(() => {
      const seen = statSync(file, { throwIfNoEntry: false });
      if (seen !== undefined) files.add(`${seen.ino} ${seen.birthtimeMs}`);
    }, 20);
    const abort = new AbortController();
    const ref = { namespace: "default", pod: "loud" };
    const begin = async (n: number) => {
      const options = {
        command: ["touch", `/tmp/go${n}`],
        stdin: false,
        stdout: true,
        stderr: false,
        tty: false,
      };
      const session = await access.exec(ref, options, new AbortController().signal);
      session.stdout?.resume();
      expect(await session.ended).toEqual({ code: 0 });
    };
    let next = 1;
    // The first file and one for each rotation; what was left of a burst may go with the next.
    const isOver = (bursts: number) =>
      files.size > bursts &&
      (statSync(file, { throwIfNoEntry: false })?.size ?? LIMIT) < LIMIT &&
      next > bursts * burst;
    const bursts = (async () => {
      for (let n = 0; n < 3; n++) {
        await begin(n);
        await waitFor(() => isOver(n + 1), {
          what: `burst ${n}, rotated and read`,
          deadlineMs: 60_000,
          intervalMs: 50,
        });
      }
    })();
    const stream = await access.log(ref, { ...LOG, follow: true }, abort.signal);
    let rest = "";
    for await (const chunk of stream) {
      const all = (rest + chunk).split("\n");
      rest = all.pop()!;
      for (const line of all) {
        if (line !== String(next)) throw new Error(`line ${next} is ${JSON.stringify(line)}`);
        next++;
      }
      if (next > last) abort.abort();
    }
    await bursts;
    clearInterval(watching);
    expect(next).toBe(last + 1);
    // What is kept ends with the last line, and has no gap.
    const kept = (await logs("loud")).trimEnd().split("\n").map(Number);
    expect(kept[0]).toBeGreaterThan(1);
    expect(kept.at(-1)).toBe(last);
    expect(kept.every((line, at) => line === kept[0]! + at)).toBe(true);
    expect(await logs("loud", { tailLines: 3 })).toBe(`${last - 2}\n${last - 1}\n${last}\n`);
    expect(statSync(`${file}.1`).size).toBeGreaterThanOrEqual(LIMIT);
  });

  test("everything outlives the manager", async () => {
    await create(
      boundPod("tough", [
        {
          ...sh("i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"),
          readinessProbe: { exec: { command: ["true"] }, periodSeconds: 1 },
        },
      ]),
    );
    await create(boundPod("mortal", [sh("sleep 1; exit 9")], { restartPolicy: "Never" }));
    await running("tough");
    await running("mortal");
    const { uid = "" } = (await get("tough")).metadata;
    const before = engine.sandbox(uid)!.containers[0]!;
    await manager.stop();
    // As after a kill: another mount namespace, in which the pins are gone.
    const count = (await logs("tough").catch(() => "")).length;
    execFileSync("umount", ["--lazy", `/run/netns/${net.prefix}-tough`]);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    await begin();
    const state = engine.sandbox(uid)!;
    expect(state.alive).toBe(true);
    expect(state.containers).toEqual([before]);
    await until("mortal", "failed", (pod) => statusOf(pod)?.state?.terminated?.exitCode === 9);
    const pod = await get("tough");
    expect(statusOf(pod)).toMatchObject({ restartCount: 0, ready: true });
    await waitFor(async () => (await logs("tough")).length > count + 20, { what: "log goes on" });
    expect(await exec("tough", ["true"])).toMatchObject({ code: 0 });
    expect(errors).toEqual([]);
  });

  test("a pod that was deleted meanwhile is ended", async () => {
    await create(boundPod("orphan", [sh("sleep 1000")]));
    await running("orphan");
    await manager.stop();
    await kube.delete(PODS, "orphan", "default", { gracePeriodSeconds: 0 });
    await begin();
    await waitFor(() => engine.sandboxes().length === 0, { what: "orphan removed" });
    expect(existsSync(`/run/netns/${net.prefix}-orphan`)).toBe(false);
  });

  test("what a pod wants of the host is refused", async () => {
    const refused: [string, Partial<NonNullable<Pod["spec"]>>, object, string][] = [
      ["path", { volumes: [{ name: "v", hostPath: { path: "/" } }] }, {}, "hostPath is refused"],
      ["net", { hostNetwork: true }, {}, "hostNetwork is refused"],
      ["pid", { hostPID: true }, {}, "hostPID is refused"],
      ["root", {}, { securityContext: { privileged: true } }, "privileged is refused"],
    ];
    for (const [name, spec, container, message] of refused) {
      await create(boundPod(name, [container], spec));
      const pod = await until(name, "refused", (each) => statusOf(each)?.state?.waiting?.message);
      expect(statusOf(pod)?.state?.waiting).toMatchObject({
        reason: "CreateContainerConfigError",
        message: expect.stringContaining(message),
      });
      expect(engine.sandboxes()).toEqual([]);
    }
  });

  test("from inside, neither keys nor other pods nor the host's network are reached", async () => {
    const secret = join(directory, "node.key");
    writeFileSync(secret, "PRIVATE-KEY\n", { mode: 0o600 });
    const port = 31_999;
    const listener = net.spawn("", process.execPath, [
      "-e",
      `require("net").createServer().listen(${port}, "127.0.0.1", () => console.log("up"))`,
    ]);
    await waitFor(() => listener.stdout.includes("up"), { what: "listener" });
    mkdirSync(join(directory, "other"));
    await create(boundPod("victim", [sh("echo mine > /tmp/secret; exec sleep 1000")]));
    await create(boundPod("thief", [sh("exec sleep 1000")]));
    await running("victim");
    await running("thief");
    const attempt = async (script: string) => (await exec("thief", ["sh", "-c", script])).stdout;

    for (const path of [
      secret,
      directory,
      "/etc/shadow",
      "/etc/ssh",
      "/root/.ssh",
      "/var/lib/podwire",
      "/run/netns",
    ])
      expect(await attempt(`cat ${path} 2>/dev/null || ls -A ${path} 2>/dev/null`), path).toBe("");
    expect(await attempt("cat /tmp/secret 2>/dev/null")).toBe("");
    expect(await attempt("ls /proc | grep -c '^[0-9]*$'")).toMatch(/^[1-9]\n$/);
    expect(await attempt("cat /proc/1/cmdline | tr '\\0' ' '")).toBe("sleep 1000 ");
    expect(await attempt("ls /sys/class/net")).toBe("lo\n");
    expect((await exec("thief", ["curl", "-s", "-m", "2", `127.0.0.1:${port}`])).code).toBe(7);
    // Nor by way of devices, mounts, namespaces, kernel settings or the programs themselves.
    const number = readFileSync("/proc/self/mountinfo", "utf8").split("\n")[0]!.split(" ")[2]!.split(":");
    expect(await attempt(`mknod /tmp/disk b ${number.join(" ")} && head -c 1 /tmp/disk`)).toBe("");
    for (const script of [
      "mount -t tmpfs none /mnt",
      "unshare --net true",
      "nsenter --net=/proc/1/ns/net --mount=/proc/1/ns/mnt true",
      "echo 1 > /proc/sys/net/ipv4/ip_forward",
      "echo b > /proc/sysrq-trigger",
      "touch /usr/bin/planted",
      "touch /etc/ssl/certs/planted",
      "ip link add dummy0 type dummy",
      "dmesg | grep -q . && cat /proc/kcore | head -c 1 | grep -q .",
    ])
      expect(await attempt(`(${script}) 2>/dev/null && echo DONE`), script).toBe("");
    const status = await attempt("grep -E 'NoNewPrivs|CapBnd' /proc/self/status");
    expect(status).toContain("NoNewPrivs:\t1");
    // Docker's default 14, or 13 without CAP_MKNOD where no cgroup guards devices.
    expect(status).toMatch(/CapBnd:\t00000000a[08]0425fb/);
  });
});
