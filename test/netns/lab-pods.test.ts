/**
 * Pods of the lab as their user sees them, with the machine's kubectl: workloads, logs and commands,
 * what goes wrong, what a pod may reach, and that all of it outlives the agents. One lab for all tests.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hostNamespace, inNamespace, nodePaths, podNamespace } from "../../src/lab/plan.js";
import { NODES } from "../../src/lab/walkthrough.js";
import { recordedPods } from "../../src/runtime/recordedPods.js";
import { PTY } from "../support/LocalPodAccess.js";
import {
  agentPid,
  containerOf,
  create,
  ENV,
  eventsOf,
  inside,
  kubectl,
  kubectlCommand,
  LONG,
  lab,
  podOf,
  podsOf,
  processesOf,
  raw,
  recorded,
  run,
  shellPod,
  until,
} from "../support/lab.js";
import { netnsUnavailable, waitFor } from "../support/netns.js";
import { requirePrograms } from "../support/programs.js";

describe.skipIf(netnsUnavailable() !== "")("pods of the lab", () => {
  let scratch: string;

  beforeAll(() => {
    requirePrograms("curl", "iperf3", "python3");
    lab("down");
    const { code, stderr } = lab("up", "--no-install");
    expect(code, stderr).toBe(0);
    scratch = mkdtempSync(join(tmpdir(), "podwire-lab-test-"));
  });

  afterAll(() => {
    rmSync(scratch, { recursive: true, force: true });
    const pods = NODES.flatMap(({ name }) => recordedPods(nodePaths(name).runtimeDir));
    const processes = pods.flatMap((pod) => (existsSync(pod.netns) ? processesOf(pod) : []));
    expect(lab("down").code).toBe(0);
    // Nothing is left of them: no process, no mount, no cgroup, no file.
    expect(processes.length).toBeGreaterThan(12);
    for (const pid of processes) expect(existsSync(`/proc/${pid}`), pid).toBe(false);
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toMatch(/podwire-(lab|pod)/);
    const hierarchies = ["", ...readdirSync("/sys/fs/cgroup")].map((each) => join("/sys/fs/cgroup", each));
    for (const { uid } of pods)
      for (const each of hierarchies) expect(existsSync(join(each, "podwire", uid)), each).toBe(false);
    expect(existsSync("/run/podwire-lab")).toBe(false);
  });

  test("a DaemonSet's pod is replaced, and all of them by rollout restart", async () => {
    const before = await podsOf("name=nginx");
    const victim = before.find(({ spec }) => spec?.nodeName === "k8s-worker02")!;
    await kubectl("delete", "pod", victim.metadata.name!);
    expect(await kubectl("rollout", "status", "ds/nginx-ds", "--timeout=60s")).toContain(
      "successfully rolled out",
    );
    const after = await podsOf("name=nginx");
    expect(after).toHaveLength(4);
    const replacement = after.find(({ spec }) => spec?.nodeName === "k8s-worker02")!;
    expect(replacement.metadata.name).not.toBe(victim.metadata.name);
    // The next address of the block; those given back come last.
    expect(victim.status?.podIP).toBe("10.1.69.193");
    expect(replacement.status?.podIP).toBe("10.1.69.196");
    const uids = new Set(after.map(({ metadata }) => metadata.uid));
    await kubectl("rollout", "restart", "ds/nginx-ds");
    await kubectl("rollout", "status", "ds/nginx-ds", "--timeout=60s");
    const renewed = await podsOf("name=nginx");
    expect(renewed).toHaveLength(4);
    for (const { metadata } of renewed) expect(uids.has(metadata.uid)).toBe(false);
    const { code, stderr } = lab("walk", "--step", "1", "--json");
    expect(code, stderr).toBe(0);
  });

  test("create deployment, scale, expose, rollout restart", async () => {
    await kubectl("create", "deployment", "echo", "--image=podwire/echo", "--port=8080");
    await kubectl("scale", "deployment/echo", "--replicas=3");
    expect(await kubectl("rollout", "status", "deployment/echo", "--timeout=60s")).toContain(
      "successfully rolled out",
    );
    await kubectl("expose", "deployment/echo", "--port=80", "--target-port=8080");
    expect(await kubectl("get", "service", "echo")).toMatch(
      /echo +ClusterIP +10\.152\.183\.\d+ +<none> +80\/TCP/,
    );
    const pods = await podsOf("app=echo");
    const addresses = pods.map(({ status }) => status!.podIP!).sort();
    expect(addresses).toHaveLength(3);
    const endpoints = async () => {
      const path = "{range .items[*].endpoints[*]}{.addresses[0]} {.conditions.ready}{'\\n'}{end}";
      const label = "kubernetes.io/service-name=echo";
      const out = await kubectl("get", "endpointslices", "-l", label, "-o", `jsonpath=${path}`);
      return out.split("\n").filter(Boolean).sort();
    };
    await waitFor(async () => (await endpoints()).join() === addresses.map((each) => `${each} true`).join(), {
      ...LONG,
      what: "endpoints of all pods",
    });
    const path = "jsonpath={.items[*].endpoints[*].targetRef.name}";
    for (const { metadata } of pods)
      expect(await kubectl("get", "endpointslices", "-o", path)).toContain(metadata.name);

    // The program says who it is, and whom it answers.
    const [one, two] = pods;
    const asked = await raw(
      "exec",
      one!.metadata.name!,
      "--",
      "curl",
      "-sS",
      `${two!.status!.podIP}:8080/hi`,
    );
    expect(asked.stdout, asked.stderr).toBe(
      `pod ${two!.metadata.name}\nnode ${two!.spec!.nodeName}\naddress ${two!.status!.podIP}:8080\n` +
        `client ${/client (\S+)/.exec(asked.stdout)?.[1]}\nrequest GET /hi\n`,
    );
    expect(asked.stdout).toContain(`client ${one!.status!.podIP}:`);

    await kubectl("rollout", "restart", "deployment/echo");
    await kubectl("rollout", "status", "deployment/echo", "--timeout=60s");
    await waitFor(async () => (await podsOf("app=echo")).length === 3, { ...LONG, what: "old pods gone" });
    const old = new Set(pods.map(({ metadata }) => metadata.uid));
    for (const { metadata } of await podsOf("app=echo")) expect(old.has(metadata.uid)).toBe(false);
    await kubectl("delete", "service,deployment", "echo");
  });

  test("logs, and logs -f until the pod is gone", async () => {
    const count = "i=0; trap 'exit 0' TERM; while :; do i=$((i+1)); echo line $i; sleep 0.1; done";
    await create(shellPod("talker", count));
    await kubectl("wait", "--for=condition=Ready", "pod/talker", "--timeout=60s");
    await waitFor(async () => (await kubectl("logs", "talker")).includes("line 5\n"), LONG);
    expect(await kubectl("logs", "talker")).toMatch(/^line 1\nline 2\n/);
    expect(await kubectl("logs", "talker", "--tail=1", "--timestamps")).toMatch(
      /^\d{4}-\d\d-\d\dT\S+Z line \d+\n$/,
    );
    const following = run(kubectlCommand(["logs", "-f", "talker"]));
    const seen = Number(/(\d+)\n$/.exec(await kubectl("logs", "talker", "--tail=1"))![1]);
    await waitFor(async () => (await kubectl("logs", "talker")).includes(`line ${seen + 10}\n`), LONG);
    await kubectl("delete", "pod", "talker");
    const { code, stdout } = await following;
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines.length).toBeGreaterThan(seen + 10);
    expect(lines).toEqual(lines.map((_, i) => `line ${i + 1}`));
  });

  test("exec: output, exit codes, and a terminal", async () => {
    await create(shellPod("shell", "exec sleep 1000", { env: [{ name: "GREETING", value: "hello" }] }));
    await kubectl("wait", "--for=condition=Ready", "pod/shell", "--timeout=60s");
    expect(await inside("shell", "echo $GREETING; hostname; echo bad >&2; exit 3")).toMatchObject({
      code: 3,
      stdout: "hello\nshell\n",
      stderr: expect.stringMatching(/^bad\n/),
    });
    const input = await run(kubectlCommand(["exec", "-i", "shell", "--", "wc", "-c"]), "x".repeat(100_000));
    expect(input).toMatchObject({ code: 0, stdout: "100000\n" });
    const [program, ...args] = kubectlCommand(["exec", "-it", "shell", "--", "sh"]);
    const terminal = spawn("python3", [PTY, "100", "30", program!, ...args], {
      stdio: ["pipe", "pipe", "inherit", "pipe"],
      env: ENV,
    });
    try {
      let text = "";
      terminal.stdout!.setEncoding("utf8").on("data", (piece: string) => {
        text += piece;
      });
      const ended = once(terminal, "exit");
      const type = (line: string) => terminal.stdin!.write(`${line}\r`);
      const sizeIs = (size: string, mark: string) =>
        type(`until [ "$(stty size)" = '${size}' ]; do sleep 0.1; done; echo is-$((${mark}))`);
      sizeIs("30 100", "40+2");
      await waitFor(() => text.includes("is-42"), { ...LONG, what: "the terminal's size" });
      (terminal.stdio[3] as Writable).write("132 43\n");
      sizeIs("43 132", "40+3");
      await waitFor(() => text.includes("is-43"), { ...LONG, what: "the terminal's new size" });
      // ^C ends what runs in it, and not the session.
      type("echo asleep-$((40+4)); sleep 1000");
      await waitFor(() => text.includes("asleep-44"), { ...LONG, what: "a command that does not end" });
      terminal.stdin!.write("\u0003");
      type("echo awake-$((40+5))");
      await waitFor(() => text.includes("awake-45"), { ...LONG, what: "the shell after ^C" });
      type("exit 7");
      expect((await ended)[0]).toBe(7);
    } finally {
      terminal.kill("SIGKILL");
    }
  });

  test("Secrets and ConfigMaps that a pod refers to", async () => {
    await kubectl("create", "secret", "generic", "login", "--from-literal=password=s3cret");
    await kubectl("create", "configmap", "settings", "--from-literal=mode=fast");
    await kubectl("create", "secret", "generic", "foreign", "--from-literal=key=value");
    const { env, volumeMounts } = {
      env: [
        { name: "PASSWORD", valueFrom: { secretKeyRef: { name: "login", key: "password" } } },
        { name: "MODE", valueFrom: { configMapKeyRef: { name: "settings", key: "mode" } } },
      ],
      volumeMounts: [
        { name: "login", mountPath: "/login" },
        { name: "settings", mountPath: "/settings" },
      ],
    };
    const volumes = [
      { name: "login", secret: { secretName: "login" } },
      { name: "settings", configMap: { name: "settings" } },
    ];
    const spec = { volumes, nodeName: "k8s-worker01" };
    await create(shellPod("reader", "exec sleep 1000", { env, volumeMounts }, spec));
    await kubectl("wait", "--for=condition=Ready", "pod/reader", "--timeout=60s");
    const told = await inside("reader", "echo $PASSWORD $MODE; cat /login/password /settings/mode");
    expect(told.stdout, told.stderr).toBe("s3cret fast\ns3cretfast");
    // Its node may read what it refers to; another node may not, nor may it read others.
    const as = (node: string, secret: string) =>
      run(
        inNamespace(hostNamespace(node), [
          "kubectl",
          `--kubeconfig=${nodePaths(node).kubeconfig}`,
          "get",
          "secret",
          secret,
          "-o",
          "name",
        ]),
      );
    expect(await as("k8s-worker01", "login")).toMatchObject({ code: 0, stdout: "secret/login\n" });
    for (const [node, secret] of [
      ["k8s-worker01", "foreign"],
      ["k8s-worker02", "login"],
    ] as const)
      expect((await as(node, secret)).stderr).toContain(`no relationship found between node '${node}'`);
  });

  test("pods that go wrong, as kubectl shows them", async () => {
    const never = { httpGet: { path: "/", port: 81 }, periodSeconds: 1, failureThreshold: 1 };
    await create(
      shellPod("exits", "echo going; exit 7"),
      shellPod("unready", "exec sleep 1000", { readinessProbe: never }),
      shellPod("missing", "", { command: ["/no/such/program"] }),
      shellPod("unknown", "", { image: "example.org/thing:1.2" }),
      shellPod("stubborn", "trap '' TERM; echo up; while :; do sleep 0.1; done"),
      shellPod("done", "echo finished", {}, { restartPolicy: "Never" }),
    );
    // Exits: restarted at once, then waits.
    const exits = await until("exits", "in back-off", (pod) => {
      const { state, restartCount } = containerOf(pod);
      return state?.waiting?.reason === "CrashLoopBackOff" && restartCount >= 1;
    });
    expect(containerOf(exits).lastState?.terminated).toMatchObject({ exitCode: 7, reason: "Error" });
    expect(containerOf(exits).state?.waiting?.message).toMatch(
      /^back-off \d+s restarting failed container=main pod=exits_default\(/,
    );
    expect(await kubectl("logs", "exits", "--previous")).toBe("going\n");
    await waitFor(
      async () =>
        /exits +0\/1 +CrashLoopBackOff +\d+ \(\d+s ago\)/.test(await kubectl("get", "pod", "exits")),
      { ...LONG, what: "CrashLoopBackOff as kubectl shows it" },
    );
    await waitFor(
      async () =>
        (await eventsOf("exits")).some((each) =>
          each.startsWith("Warning BackOff Back-off restarting failed container main in pod exits_default("),
        ),
      { ...LONG, what: "event of the back-off" },
    );

    const unready = await until("unready", "running", ({ status }) => status?.phase === "Running");
    expect(containerOf(unready)).toMatchObject({ ready: false, started: true, restartCount: 0 });
    expect(unready.status?.conditions?.find(({ type }) => type === "Ready")).toMatchObject({
      status: "False",
      reason: "ContainersNotReady",
    });
    await waitFor(
      async () =>
        (await eventsOf("unready")).some((each) =>
          /^Warning Unhealthy Readiness probe failed: .*:81\/.*refused/.test(each),
        ),
      { ...LONG, what: "event of the probe" },
    );

    const missing = await until("missing", "told", (pod) => containerOf(pod).lastState?.terminated);
    expect(containerOf(missing).lastState?.terminated).toMatchObject({ exitCode: 128, reason: "StartError" });
    expect(containerOf(missing).lastState?.terminated?.message).toContain("/no/such/program");
    await waitFor(
      async () =>
        (await eventsOf("missing")).some((each) => /^Warning Failed Error: .*\/no\/such\/program/.test(each)),
      { ...LONG, what: "event of the program" },
    );

    const unknown = await until("unknown", "told", (pod) => containerOf(pod).state?.waiting?.message);
    expect(unknown.status?.phase).toBe("Pending");
    expect(containerOf(unknown).state?.waiting?.reason).toMatch(/^(ErrImagePull|ImagePullBackOff)$/);
    expect(containerOf(unknown).state?.waiting?.message).toContain(
      'no program is known for image "example.org/thing:1.2": add an entry for it under "images" in /etc/podwire/images.yaml on node k8s-',
    );
    await waitFor(
      async () => (await eventsOf("unknown")).some((each) => each === "Warning Failed Error: ErrImagePull"),
      { ...LONG, what: "event of the image" },
    );
    expect(await kubectl("describe", "pod", "unknown")).toContain("/etc/podwire/images.yaml");

    await until("done", "completed", ({ status }) => status?.phase === "Succeeded");
    expect(await kubectl("get", "pod", "done")).toMatch(/done +0\/1 +Completed +0/);
    expect(await kubectl("logs", "done")).toBe("finished\n");

    // Ignores SIGTERM: is Terminating for its grace period, and killed then.
    await waitFor(async () => (await kubectl("logs", "stubborn")) === "up\n", LONG);
    await kubectl("expose", "pod", "stubborn", "--port=80");
    const endpoint = async () => {
      const path = "jsonpath={.items[*].endpoints[*].conditions}";
      const conditions = await kubectl(
        "get",
        "endpointslices",
        "-l",
        "kubernetes.io/service-name=stubborn",
        "-o",
        path,
      );
      return conditions === "" ? null : JSON.parse(conditions);
    };
    await waitFor(async () => (await endpoint())?.ready, { ...LONG, what: "endpoint" });
    const at = performance.now();
    await kubectl("delete", "pod", "stubborn", "--grace-period=8", "--wait=false");
    expect(await kubectl("get", "pod", "stubborn")).toMatch(/stubborn +1\/1 +Terminating/);
    // It takes no new connections, and is told apart from one that is gone.
    await waitFor(async () => (await endpoint()).terminating, { ...LONG, what: "endpoint terminating" });
    expect(await endpoint()).toEqual({ ready: false, serving: true, terminating: true });
    await kubectl("wait", "--for=delete", "pod/stubborn", "--timeout=60s");
    expect(performance.now() - at).toBeGreaterThan(7_900);
    await waitFor(
      async () => (await eventsOf("stubborn")).includes("Normal Killing Stopping container main"),
      { ...LONG, what: "event of the end" },
    );
    await kubectl("delete", "service", "stubborn");
    await kubectl("delete", "pod", "exits", "unready", "missing", "unknown", "done");
  });

  test("from inside a pod: no keys, no other pods, nothing of the host's network", async () => {
    const on = { nodeName: "k8s-master" };
    const volumes = [{ name: "v", emptyDir: {} }];
    const mounts = { volumeMounts: [{ name: "v", mountPath: "/v" }] };
    await create(
      shellPod("victim", "echo mine > /tmp/file; echo mine > /v/file; exec sleep 54321", mounts, {
        ...on,
        volumes,
      }),
      shellPod("thief", "exec sleep 1000", {}, on),
    );
    await kubectl("wait", "--for=condition=Ready", "pod/victim", "pod/thief", "--timeout=60s");
    const attempt = async (script: string) => (await inside("thief", script)).stdout;

    // Keys of the cluster, of the node and of its administrator, and whatever else is the host's.
    const { kubeconfig, stateDir, runtimeDir } = nodePaths("k8s-master");
    const secrets = [
      "/run/podwire-lab/apiserver/admin.kubeconfig",
      kubeconfig,
      stateDir,
      runtimeDir,
      "/etc/shadow",
    ];
    for (const path of secrets) {
      expect(existsSync(path), path).toBe(true);
      for (const root of ["", "/proc/1/root", "/proc/self/root"])
        expect(await attempt(`cat ${root}${path} || ls -A ${root}${path}`), path).toBe("");
    }
    expect(await attempt("find / -xdev -name '*.kubeconfig' -o -xdev -name 'ca.key' 2>/dev/null")).toBe("");
    expect(await attempt("env | grep -iE 'kubeconfig|podwire|secret|token'")).toBe("");
    expect(await attempt("ls -A /var/run/secrets 2>/dev/null")).toBe("");

    // The other pod on this node: its files, volumes and processes.
    const { uid } = recorded("k8s-master", "victim");
    expect((await inside("victim", "cat /tmp/file /v/file")).stdout).toBe("mine\nmine\n");
    expect(await attempt("cat /tmp/file /v/file 2>/dev/null")).toBe("");
    expect(await attempt(`cat ${runtimeDir}/pods/${uid}/volumes/v/file 2>/dev/null`)).toBe("");
    expect(await attempt("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).not.toContain("54321");
    expect(await attempt("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).toContain("sleep 1000");
    const pid = processesOf({ uid })[0]!;
    expect(readFileSync(`/proc/${pid}/cmdline`, "utf8")).toContain("54321");
    await attempt(`kill -9 ${pid}`);
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    expect(await attempt(`nsenter -t ${pid} -a true 2>/dev/null && echo DONE`)).toBe("");

    // The network: an interface of its own, no way to the node's loopback or interfaces.
    expect((await attempt("ls /sys/class/net")).split("\n").filter(Boolean).sort()).toEqual(["eth0", "lo"]);
    expect(await attempt("ip -brief -4 address show dev eth0")).toContain("10.1.235.");
    const listener = spawn(
      "ip",
      [
        ...["netns", "exec", hostNamespace("k8s-master"), process.execPath, "-e"],
        "require('net').createServer((s) => s.end('host')).listen(31999, '127.0.0.1', () => console.log('up'))",
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    try {
      await once(listener.stdout!, "data");
      const refused = await inside("thief", "curl -s -m 2 telnet://127.0.0.1:31999 < /dev/null");
      expect(refused).toMatchObject({ stdout: "", stderr: expect.stringContaining("exit code 7") });
    } finally {
      await end(listener);
    }
    for (const script of [
      "ip link set eth0 down",
      "ip address add 192.168.2.30/24 dev eth0",
      "ip route add 192.168.2.0/24 dev eth0",
      "echo 1 > /proc/sys/net/ipv4/ip_forward",
      "cat /dev/net/tun || ls /dev/net",
      "nsenter --net=/proc/1/ns/net ip link show br0",
      "mount -t proc proc /mnt",
      "unshare --mount true",
    ])
      expect(await attempt(`(${script}) 2>/dev/null && echo DONE`), script).toBe("");
    // Somebody else's address is not carried from here.
    const other = (await podsOf("name=nginx")).find(({ spec }) => spec?.nodeName === "k8s-worker01")!;
    const spoof = "python3 -c \"import socket; s=socket.socket(); s.bind(('10.1.235.193',0))\"";
    expect((await inside("thief", spoof)).stderr).toContain("Cannot assign requested address");
    expect(await attempt(`curl -sS -m 5 ${other.status!.podIP}`)).toContain("on k8s-worker01");
  });

  test("agents are killed under traffic: processes, connections and logs go on", async () => {
    const count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";
    const listens = { exec: { command: ["sh", "-c", "ss -ltn | grep -q :5201"] }, periodSeconds: 1 };
    await create(
      shellPod("server", "exec iperf3 -s", { readinessProbe: listens }, { nodeName: "k8s-worker01" }),
      shellPod("ticker", count, {}, { nodeName: "k8s-worker01" }),
      shellPod("web", "", { image: "nginx", command: undefined }, { nodeName: "k8s-worker02" }),
    );
    await kubectl("wait", "--for=condition=Ready", "pod/server", "pod/ticker", "pod/web", "--timeout=60s");
    const address = (await podOf("server")).status!.podIP!;
    const client = `exec iperf3 -c ${address} -t 15 -b 50M -J`;
    await create(shellPod("client", client, {}, { nodeName: "k8s-worker02", restartPolicy: "Never" }));
    await kubectl("wait", "--for=condition=Ready", "pod/client", "--timeout=60s");
    const established = () =>
      run(
        inNamespace(podNamespace(recorded("k8s-worker02", "client")), ["ss", "-tnH", "state", "established"]),
      );
    await waitFor(async () => ((await established()).stdout.match(/:5201/g) ?? []).length === 2, {
      ...LONG,
      what: "iperf3 under way",
    });
    const nodes = ["k8s-worker01", "k8s-worker02"];
    const names = ["server", "ticker", "web", "client"];
    const before = await Promise.all(names.map(podOf));
    const processes = () =>
      nodes.flatMap((node) =>
        recordedPods(nodePaths(node).runtimeDir)
          .filter(({ name }) => names.includes(name))
          .map((pod) => [pod.name, processesOf(pod)[0]]),
      );
    const running = processes();
    const connections = (await established()).stdout;
    for (const node of nodes) process.kill(agentPid(node), "SIGKILL");
    await waitFor(() => nodes.every((node) => !existsSync(`/proc/${agentPid(node)}/exe`)), LONG);
    expect(lab("status").stdout).toMatch(/k8s-worker01.*ended/);
    expect(processes()).toEqual(running);
    // Nothing answers across nodes while they are away.
    const web = before[2]!.status!.podIP!;
    const ask = () =>
      run(inNamespace(podNamespace(recorded("k8s-worker01", "server")), ["curl", "-s", "-m", "2", web]));
    expect((await ask()).code).not.toBe(0);
    for (const node of nodes) {
      const { code, stderr } = lab("restart", node);
      expect(code, stderr).toBe(0);
    }
    await waitFor(async () => (await ask()).stdout === "web on k8s-worker02\n", {
      ...LONG,
      what: "traffic flows again",
    });
    expect(processes()).toEqual(running);
    expect((await established()).stdout.match(/:\d+ /g)?.sort()).toEqual(connections.match(/:\d+ /g)?.sort());
    // The transfer ends well, with what it was to carry but for the gap.
    const ended = await until("client", "succeeded", ({ status }) => status?.phase === "Succeeded");
    expect(containerOf(ended).state?.terminated?.exitCode).toBe(0);
    const report = JSON.parse(await kubectl("logs", "client")) as {
      error?: string;
      end: { sum_received: { bytes: number; seconds: number } };
    };
    expect(report.error).toBeUndefined();
    expect(report.end.sum_received.seconds).toBeGreaterThan(14);
    expect(report.end.sum_received.bytes).toBeGreaterThan(20e6);
    // Same instances, and nothing was lost of what they said meanwhile.
    const after = await Promise.all(names.slice(0, 3).map(podOf));
    expect(
      after
        .map(containerOf)
        .map(({ containerID, restartCount, ready }) => [containerID, restartCount, ready]),
    ).toEqual(before.slice(0, 3).map((pod) => [containerOf(pod).containerID, 0, true]));
    const lines = (await kubectl("logs", "ticker")).trimEnd().split("\n");
    expect(lines).toEqual(lines.map((_, i) => String(i + 1)));
    expect(await inside("ticker", "echo there")).toMatchObject({ code: 0, stdout: "there\n" });
    expect(lab("walk", "--step", "1").code).toBe(0);
  });
});

async function end(child: ChildProcess): Promise<void> {
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}
