import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hostNamespace, manifest, nodePaths, podNamespace } from "../../src/lab/plan.js";
import { type LabNode, NODES } from "../../src/lab/walkthrough.js";
import { recordedPods } from "../../src/runtime/recordedPods.js";
import { agentPid, create, kubectl, LONG, lab, podOf, podsOf, recorded, shellPod } from "../support/lab.js";
import { netnsUnavailable, TestNet, type TestProcess, waitFor } from "../support/netns.js";
import { requirePrograms } from "../support/programs.js";
import { python, startServer, TRAFFIC } from "../support/traffic.js";

const PC = hostNamespace("pc");
const [MASTER, WORKER01, WORKER02, WORKER03] = NODES as [LabNode, LabNode, LabNode, LabNode];
const APPLICATIONS = [
  { name: "nginx-ds", application: "nginx", selector: "name=nginx", port: 80, nodePort: 30080 },
  { name: "apache2-ds", application: "apache", selector: "name=apache", port: 90, nodePort: 30090 },
  { name: "redis-ds", application: "redis", selector: "name=redis", port: 6379, nodePort: 30379 },
];
const ECHO = { port: 31080, local: 31081 };
/** What must not be answered is waited for so long, in seconds. */
const SILENCE = "0.5";

const net = new TestNet();
/** Namespaces of the walkthrough's pods. */
let pods: string[] = [];

/** Standard output of a command in a namespace that has to succeed. */
async function ask(ns: string, command: string, ...args: string[]): Promise<string> {
  return (await net.exec(ns, command, args)).stdout;
}

/** What curl gets from a URL: exit status 7 where it is refused, 28 where nothing answers. */
function curl(ns: string, url: string, ...more: string[]) {
  return net.tryExec(ns, "curl", ["-sS", "-m", "5", ...more, url]);
}

interface Echo {
  pod: string;
  node: string;
  client: string;
}

/** Who answers at a URL behind which podwire/echo is, and whom it sees. */
async function echo(ns: string, url: string): Promise<Echo> {
  const { code, stdout, stderr } = await curl(ns, url, "-H", "Accept: application/json");
  if (code !== 0) throw new Error(`${url} from ${ns}: ${stderr}`);
  return JSON.parse(stdout) as Echo;
}

const addressOf = ({ client }: Echo) => client.replace(/:\d+$/, "");

function service(name: string, selector: object, port: object, spec: object = {}): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name },
    spec: { selector, ports: [{ protocol: "TCP", ...port }], ...spec },
  };
}

async function clusterIpOf(name: string): Promise<string> {
  return kubectl("get", "service", name, "-o", "jsonpath={.spec.clusterIP}");
}

function echoPod(name: string, app: string, node: string): object {
  const container = { name: "main", image: "podwire/echo" };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, labels: { app } },
    spec: { nodeName: node, terminationGracePeriodSeconds: 0, containers: [container] },
  };
}

async function ready(...names: string[]): Promise<void> {
  await kubectl("wait", "--for=condition=Ready", ...names.map((name) => `pod/${name}`), "--timeout=60s");
}

/** Waits until a Service answers, which takes a moment from kubectl on. */
async function answers(ns: string, url: string): Promise<void> {
  await waitFor(async () => (await curl(ns, url)).code === 0, { ...LONG, what: `${url} from ${ns}` });
}

async function refuses(ns: string, url: string): Promise<void> {
  await waitFor(async () => (await curl(ns, url)).code === 7, { ...LONG, what: `${url} refuses ${ns}` });
}

/** What kube-proxy's nftables mode does with a ClusterIP that no Service has: no answer at all. */
async function ignores(ns: string, url: string): Promise<void> {
  await waitFor(async () => (await curl(ns, url)).code === 28, { ...LONG, what: `${url} ignores ${ns}` });
}

describe.skipIf(netnsUnavailable() !== "")("Services of the lab", () => {
  beforeAll(async () => {
    requirePrograms("curl", "python3");
    lab("down");
    const { code, stderr } = lab("up", "--no-install");
    expect(code, stderr).toBe(0);
    pods = NODES.flatMap(({ name }) => recordedPods(nodePaths(name).runtimeDir)).map(podNamespace);
    expect(pods).toHaveLength(12);
    await kubectl("apply", "-f", manifest("clusterip"), "-f", manifest("nodeport"));
    await create(
      echoPod("echo-1", "echo", WORKER01.name),
      echoPod("echo-2", "echo", WORKER02.name),
      service(
        "echo",
        { app: "echo" },
        { port: 80, targetPort: 8080, nodePort: ECHO.port },
        { type: "NodePort" },
      ),
      service(
        "echo-local",
        { app: "echo" },
        { port: 80, targetPort: 8080, nodePort: ECHO.local },
        { type: "LoadBalancer", externalTrafficPolicy: "Local" },
      ),
    );
    await ready("echo-1", "echo-2");
    for (const { address } of NODES) await answers(PC, `http://${address}:${ECHO.port}/`);
  });

  afterAll(async () => {
    await net.cleanup();
    expect(lab("down").code).toBe(0);
    expect(existsSync("/run/podwire-lab")).toBe(false);
  });

  test("kubectl get svc -o wide prints what the walkthrough does", async () => {
    const lines = (await kubectl("get", "svc", "-o", "wide")).trimEnd().split("\n");
    const cells = lines.map((line) => line.trimEnd().split(/ {2,}/));
    expect(cells[0]).toEqual(["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE", "SELECTOR"]);
    const row = (name: string) => cells.find((each) => each[0] === name);
    const some = (pattern: RegExp) => expect.stringMatching(pattern);
    const [address, age] = [some(/^10\.152\.183\.\d+$/), some(/^\d+s$/)];
    for (const { name, port, nodePort, selector } of APPLICATIONS) {
      const [cluster, node] = [`clusterip-${name}`, `nodeport-${name}`];
      expect(row(cluster)).toEqual([cluster, "ClusterIP", address, "<none>", `${port}/TCP`, age, selector]);
      const ports = `${port}:${nodePort}/TCP`;
      expect(row(node)).toEqual([node, "NodePort", address, "<none>", ports, age, selector]);
    }
    const first = "10.152.183.1";
    expect(row("kubernetes")).toEqual([
      "kubernetes",
      "ClusterIP",
      first,
      "<none>",
      "443/TCP",
      some(/./),
      "<none>",
    ]);
  });

  test("every pod reaches every NodePort at every node, and every ClusterIP answers from its own pods", async () => {
    const [nginx, apache, redis] = await Promise.all(
      APPLICATIONS.map(({ name }) => clusterIpOf(`nodeport-${name}`)),
    );
    const urls = [
      `http://${nginx}:80/`,
      `http://${apache}:90/`,
      ...NODES.flatMap(({ address }) => [`http://${address}:30080/`, `http://${address}:30090/`]),
    ];
    for (const ns of pods) {
      // One connection for each.
      const pages = await ask(ns, "curl", "-sS", "-m", "5", "-H", "Connection: close", ...urls);
      const lines = pages.trimEnd().split("\n");
      expect(lines).toHaveLength(urls.length);
      for (const [i, line] of lines.entries())
        expect(line).toMatch(i % 2 === 0 ? /^nginx-ds-\w+ on k8s-/ : /^apache-ds-\w+ on k8s-/);
      for (const address of NODES.map((each) => each.address))
        expect(await ask(ns, "redis-cli", "-h", address, "-p", "30379", "PING")).toBe("PONG\n");
      expect(await ask(ns, "redis-cli", "-h", redis!, "PING")).toBe("PONG\n");
    }
  });

  test("ClusterIPs do not answer to the pc, even if it sends them to a node", async () => {
    const address = await clusterIpOf("clusterip-nginx-ds");
    expect((await curl(PC, `http://${address}/`)).code).toBe(7);
    await ask(PC, "ip", "route", "add", "10.152.183.0/24", "via", WORKER01.address);
    try {
      const { code } = await curl(PC, `http://${address}/`, "-m", SILENCE);
      expect([7, 28]).toContain(code);
    } finally {
      await ask(PC, "ip", "route", "del", "10.152.183.0/24");
    }
  });

  test("the pod sees the client's own address, under both traffic policies", async () => {
    const seen = new Set<string>();
    for (const { address } of NODES) {
      for (let i = 0; i < 4; i++) {
        const told = await echo(PC, `http://${address}:${ECHO.port}/`);
        expect(addressOf(told)).toBe("192.168.2.10");
        seen.add(told.pod);
      }
    }
    expect([...seen].sort()).toEqual(["echo-1", "echo-2"]);
    for (const node of [WORKER01, WORKER02]) {
      const told = await echo(PC, `http://${node.address}:${ECHO.local}/`);
      expect([addressOf(told), told.node]).toEqual(["192.168.2.10", node.name]);
    }
    // Pods are seen as themselves, behind a ClusterIP and behind their own node's NodePort.
    const inside = podNamespace(recorded(WORKER01.name, "echo-1"));
    const own = (await podOf("echo-1")).status!.podIP!;
    for (const url of [`http://${await clusterIpOf("echo")}/`, `http://${WORKER01.address}:${ECHO.port}/`])
      for (let i = 0; i < 8; i++) {
        const told = await echo(inside, url);
        // One that reaches itself must be answered by way of the node.
        expect(addressOf(told)).toBe(told.pod === "echo-1" ? WORKER01.tunnelAddress : own);
      }
  });

  test("externalTrafficPolicy Local: no answer where there is no endpoint, but to the node itself", async () => {
    for (const node of [MASTER, WORKER03]) {
      const url = `http://${node.address}:${ECHO.local}/`;
      expect((await curl(PC, url, "-m", SILENCE)).code).toBe(28);
      expect((await echo(hostNamespace(node.name), url)).pod).toMatch(/^echo-[12]$/);
    }
  });

  test("healthCheckNodePort and /healthz say so, and follow the endpoints", async () => {
    const port = await kubectl("get", "service", "echo-local", "-o", "jsonpath={.spec.healthCheckNodePort}");
    const check = async ({ address }: LabNode) => {
      const { stdout } = await curl(PC, `http://${address}:${port}/`, "-w", " %{http_code}");
      const [, body, status] = /^(.*) (\d+)$/s.exec(stdout)!;
      const { localEndpoints } = JSON.parse(body!) as { localEndpoints: number };
      return `${status} ${localEndpoints}`;
    };
    const become = (node: LabNode, wanted: string) =>
      waitFor(async () => (await check(node)) === wanted, { ...LONG, what: `${wanted} of ${node.name}` });
    await become(WORKER01, "200 1");
    await become(WORKER03, "503 0");
    await create(echoPod("echo-3", "echo", WORKER03.name));
    await become(WORKER03, "200 1");
    await kubectl("delete", "pod", "echo-3");
    await become(WORKER03, "503 0");
    for (const { address } of NODES) {
      const { stdout } = await curl(PC, `http://${address}:10256/healthz`, "-w", " %{http_code}");
      expect(stdout).toMatch(/^\{"lastUpdated": ".*","currentTime": ".*", "nodeEligible": true\} 200$/);
    }
  });

  test("the API server is behind the Service kubernetes, for pods and nodes", async () => {
    for (const ns of [pods[0]!, pods.at(-1)!, ...NODES.map(({ name }) => hostNamespace(name))]) {
      const { stdout, stderr } = await curl(ns, "https://10.152.183.1/version", "-k");
      expect(stdout, `${ns}: ${stderr}`).toContain('"gitVersion"');
    }
  });

  test("sessionAffinity ClientIP keeps a client with its pod", async () => {
    const spec = { sessionAffinity: "ClientIP" };
    await create(service("sticky", { app: "echo" }, { port: 80, targetPort: 8080 }, spec));
    const url = `http://${await clusterIpOf("sticky")}/`;
    const chosen = new Set<string>();
    for (const ns of [...pods, ...NODES.map(({ name }) => hostNamespace(name))]) {
      await answers(ns, url);
      const { pod } = await echo(ns, url);
      for (let i = 0; i < 4; i++) expect((await echo(ns, url)).pod).toBe(pod);
      chosen.add(pod);
    }
    // Not all 16 clients with the same one.
    expect([...chosen].sort()).toEqual(["echo-1", "echo-2"]);
    await kubectl("delete", "service", "sticky");
  });

  test("without endpoints: refused at once; a headless Service is nothing", async () => {
    await create(
      service("nobody", { app: "nobody" }, { port: 80, nodePort: 31082 }, { type: "NodePort" }),
      service("headless", { app: "echo" }, { port: 80, targetPort: 8080 }, { clusterIP: "None" }),
    );
    const url = `http://${await clusterIpOf("nobody")}/`;
    for (const ns of [pods[0]!, hostNamespace(WORKER02.name)]) {
      await refuses(ns, url);
      // A SYN without an answer would go again after a second.
      const refusedAtOnce = async () => {
        const { code, stderr } = await curl(ns, url, "-w", "%{stderr}%{time_total}");
        expect(code).toBe(7);
        return Number(stderr.trim().split("\n").at(-1)) < 1;
      };
      await waitFor(refusedAtOnce, { ...LONG, what: `${url} refuses ${ns} at once` });
    }
    await refuses(PC, `http://${WORKER01.address}:31082/`);
    expect(await clusterIpOf("headless")).toBe("None");
    expect((await echo(PC, `http://${WORKER03.address}:${ECHO.port}/`)).pod).toMatch(/^echo-[12]$/);
    await kubectl("delete", "service", "nobody", "headless");
    // A ClusterIP that is nobody's any more is not routed on either.
    await ignores(pods[0]!, url);
  });

  test("create deployment, expose, scale to 0 and back, delete", async () => {
    await kubectl("create", "deployment", "web", "--image=podwire/echo", "--port=8080");
    await kubectl("expose", "deployment/web", "--port=80", "--target-port=8080", "--type=NodePort");
    const port = await kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}");
    const inside = `http://${await clusterIpOf("web")}/`;
    const outside = `http://${WORKER02.address}:${port}/`;
    await answers(pods[0]!, inside);
    await answers(PC, outside);
    await kubectl("scale", "deployment/web", "--replicas=0");
    await refuses(pods[0]!, inside);
    await refuses(PC, outside);
    await kubectl("scale", "deployment/web", "--replicas=3");
    await kubectl("rollout", "status", "deployment/web", "--timeout=60s");
    const names = (await podsOf("app=web")).map(({ metadata }) => metadata.name!).sort();
    const seen = new Set<string>();
    await waitFor(
      async () => {
        seen.add((await echo(PC, outside)).pod);
        seen.add((await echo(pods[0]!, inside)).pod);
        return [...seen].sort().join() === names.join();
      },
      { ...LONG, what: `answers of ${names}` },
    );
    await kubectl("delete", "service", "web");
    await ignores(pods[0]!, inside);
    await refuses(PC, outside);
    await kubectl("delete", "deployment", "web");
  });

  test("UDP: a client that goes on asking hears the pod that takes the place of another at once", async () => {
    const serve = (name: string) =>
      "import socket; s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',5300))\n" +
      `while True: s.sendto(b'${name}', s.recvfrom(99)[1])`;
    const pod = (name: string, node: LabNode) =>
      shellPod(
        name,
        "",
        { command: ["python3", "-c", serve(name)] },
        { nodeName: node.name, terminationGracePeriodSeconds: 0 },
      );
    const withLabel = (each: object) => ({
      ...each,
      metadata: { ...(each as { metadata: object }).metadata, labels: { app: "who" } },
    });
    await create(
      withLabel(pod("who-1", WORKER01)),
      service(
        "who",
        { app: "who" },
        { protocol: "UDP", port: 53, targetPort: 5300, nodePort: 31053 },
        { type: "NodePort" },
      ),
    );
    await ready("who-1");
    const clients = [
      [pods[0]!, await clusterIpOf("who"), "53"],
      [hostNamespace(MASTER.name), await clusterIpOf("who"), "53"],
      [PC, WORKER03.address, "31053"],
    ].map(([ns, address, port]) => net.spawn(ns!, python(), [TRAFFIC, "udp-ask", address!, port!]));
    const heard = (name: string) =>
      waitFor(() => clients.every(({ stdout }) => stdout.trimEnd().split("\n").at(-1) === name), {
        ...LONG,
        what: `answers of ${name}`,
      });
    await heard("who-1");
    await create(withLabel(pod("who-2", WORKER02)));
    await ready("who-2");
    // The first one serves on: nobody is moved.
    for (const { stdout } of clients) expect(stdout).toBe("who-1\n");
    await kubectl("delete", "pod", "who-1");
    // Well before a UDP flow would end by itself, which is never while the client goes on.
    await heard("who-2");
    await Promise.all(clients.map((client) => client.stop()));
    await kubectl("delete", "service/who", "pod/who-2");
  });

  test("a listener of the node's own in the range goes on; NodePorts answer at 127.0.0.1", async () => {
    const ns = hostNamespace(WORKER02.name);
    const server =
      "import http.server as h; h.HTTPServer(('0.0.0.0',31999),h.SimpleHTTPRequestHandler).serve_forever()";
    const own = net.spawn(ns, python(), ["-u", "-c", server]);
    await waitFor(() => net.exec(ns, "curl", ["-s", "http://127.0.0.1:31999/"]), { what: "the listener" });
    for (const from of [PC, ns, pods[0]!, hostNamespace(MASTER.name)])
      expect((await curl(from, `http://${WORKER02.address}:31999/`, "-o", "/dev/null")).code, from).toBe(0);
    await own.stop();
    expect((await echo(ns, `http://127.0.0.1:${ECHO.port}/`)).pod).toMatch(/^echo-[12]$/);
    expect((await curl(ns, "http://127.0.0.1:30090/")).stdout).toMatch(/^apache-ds-/);
  });

  test("a connection by a NodePort goes on: another endpoint goes, agents are killed, the Service is deleted", async () => {
    const on = { "stream-1": WORKER01, "stream-2": WORKER02 };
    await create(
      ...Object.entries(on).map(([name, { name: nodeName }]) => ({
        ...shellPod(name, "exec sleep 1000", {}, { nodeName, terminationGracePeriodSeconds: 0 }),
        metadata: { name, labels: { app: "stream" } },
      })),
      service("stream", { app: "stream" }, { port: 5000, nodePort: 31500 }, { type: "NodePort" }),
    );
    await ready("stream-1", "stream-2");
    const servers = new Map<string, TestProcess>();
    for (const [name, node] of Object.entries(on)) {
      const ns = podNamespace(recorded(node.name, name));
      servers.set(name, await startServer(net, ns, python(), [TRAFFIC, "tcp-serve", "5000"], "ready"));
    }
    const ingress = WORKER03;
    const connects = async () => {
      const args = [TRAFFIC, "tcp-put", ingress.address, "31500", "1000", "1"];
      return (await net.tryExec(PC, python(), args)).code === 0;
    };
    await waitFor(connects, { ...LONG, what: "the Service" });
    const stream = net.spawn(PC, python(), [TRAFFIC, "tcp-stream", ingress.address, "31500", "7", "8000000"]);
    const received = (name: string) => {
      const lines = servers.get(name)!.stdout.match(/received (\d+)/g) ?? [];
      return lines.length === 0 ? 0 : Number(lines.at(-1)!.split(" ")[1]);
    };
    await waitFor(() => [...servers.keys()].some((name) => received(name) > 0), {
      ...LONG,
      what: "the stream",
    });
    const [serving, other] = received("stream-1") > 0 ? ["stream-1", "stream-2"] : ["stream-2", "stream-1"];
    const goesOn = async (after: string) => {
      const at = received(serving!);
      await waitFor(() => received(serving!) > at + 2_000_000, {
        ...LONG,
        what: `the stream goes on after ${after}`,
      });
      expect(stream.code, stream.stderr).toBeNull();
    };
    await servers.get(other!)!.stop();
    await kubectl("delete", "pod", other!);
    await goesOn("the end of another endpoint");
    for (const node of [ingress, on[serving as keyof typeof on]]) {
      const pid = agentPid(node.name);
      process.kill(pid, "SIGKILL");
      await waitFor(() => !existsSync(`/proc/${pid}/exe`), { ...LONG, what: "the agent's end" });
      const { code, stderr } = lab("restart", node.name);
      expect(code, stderr).toBe(0);
      await goesOn(`kill -9 of the agent of ${node.name}`);
    }
    await waitFor(connects, { ...LONG, what: "the Service again" });
    await kubectl("delete", "service", "stream");
    await refuses(PC, `http://${ingress.address}:31500/`);
    await goesOn("the end of the Service");
    // Both ends agree on every byte.
    expect(await stream.stop(30_000), stream.stderr).toBe(0);
    await servers.get(serving!)!.stop();
    await kubectl("delete", "pod", serving!);
  });
});
