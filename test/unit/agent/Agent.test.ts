import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Agent, type AgentParts } from "../../../src/agent/Agent.js";
import { ConfigError } from "../../../src/agent/ConfigError.js";
import { ConfigWatcher } from "../../../src/agent/ConfigWatcher.js";
import { cleanup } from "../../../src/agent/cleanup.js";
import { parseConfig } from "../../../src/agent/config.js";
import type { FlowView } from "../../../src/agent/flowReport.js";
import { ask, askAll } from "../../../src/agent/StatusServer.js";
import { native } from "../../../src/binding/index.js";
import { FakeHost, type FakeNamespace } from "../../../src/host/FakeHost.js";
import { parseIpv4 } from "../../../src/model/ipv4.js";
import { SILENT } from "../../../src/reconcile/Log.js";
import { FlowTable } from "../../../src/tables/FlowTable.js";
import {
  FLAG_DNAT,
  FLAG_EGRESS,
  FLOW_SERVICE,
  HEADER_LOCK,
  HEADER_VERSION,
  UDP_UNREPLIED,
} from "../../../src/tables/flowLayout.js";
import { THIS_NODE } from "../../../src/tables/VipTable.js";
import type { FlowMemory, WorkerOptions } from "../../../src/worker/control.js";
import { FakeWorker } from "../../support/FakeWorker.js";
import { draft } from "../../support/flows.js";
import { waitFor } from "../../support/netns.js";
import { freePort } from "../../support/ports.js";

let base: string;
let host: FakeHost;
let own: FakeNamespace;
let workers: { worker: FakeWorker; options: WorkerOptions }[];
let agents: Agent[];
let logged: string[];
/** The file system has no room. */
let full: boolean;

function text(change: Record<string, unknown> = {}): string {
  return JSON.stringify(
    {
      node: "k8s-master",
      stateDir: join(base, "state"),
      underlay: { address: "192.168.2.30" },
      podPool: "10.1.0.0/16",
      blocks: ["10.1.235.192/26"],
      pods: [{ name: "default/a", netns: "/run/netns/a", address: "10.1.235.193" }],
      metrics: "off",
      ...change,
    },
    null,
    1,
  );
}

function parts(): AgentParts {
  const say = (_: object, message: string) => void logged.push(message);
  return {
    host,
    startWorker: async (options) => {
      const worker = new FakeWorker(workers[0]?.worker);
      workers.push({ worker, options });
      return worker;
    },
    mapFile: (path, bytes) => {
      if (full) throw new Error("no space left on device");
      return native.mapFile(path, bytes);
    },
    buildImage: (input) => workers[0]!.worker.buildImage(input),
    log: { debug: say, info: say, warn: say, error: say },
  };
}

/** The flow table that a worker is given. */
function map(flows: FlowMemory): ArrayBufferLike {
  return flows instanceof SharedArrayBuffer ? flows : native.mapFile(flows.file, flows.bytes);
}

async function start(change: Record<string, unknown> = {}): Promise<Agent> {
  const agent = await Agent.start(parseConfig("agent.yaml", text(change)), parts());
  agents.push(agent);
  return agent;
}

/** Message of the ConfigError that a start ends with. */
async function refused(change: Record<string, unknown> = {}): Promise<string> {
  const error: unknown = await start(change).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ConfigError);
  expect((error as ConfigError).origin).toBe("environment");
  return (error as ConfigError).message;
}

beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "podwire-agent-"));
  host = new FakeHost();
  own = host.namespaces.get("")!;
  const eth0 = own.addLink("eth0", { up: true });
  own.addressTable.push({ index: eth0.index, address: parseIpv4("192.168.2.30")!, length: 24 });
  host.addNamespace("/run/netns/a");
  workers = [];
  agents = [];
  logged = [];
  full = false;
});
afterEach(async () => {
  for (const agent of agents) await agent.stop();
  rmSync(base, { recursive: true, force: true });
});

describe("what is counted", () => {
  const worker01 = { node: "k8s-worker01", address: "192.168.2.31", blocks: ["10.1.79.64/26"] };
  const worker02 = { node: "k8s-worker02", address: "192.168.2.32", blocks: ["10.1.69.192/26"] };
  const services = [
    { name: "default/dns", clusterIP: "10.152.183.10", ports: [{ port: 53, protocol: "UDP" }], backends: [] },
    {
      name: "default/web",
      clusterIP: "10.152.183.11",
      loadBalancerIPs: ["192.168.2.36"],
      ports: [{ name: "http", port: 80, nodePort: 30080 }],
      backends: [{ address: "10.1.79.65" }, { address: "10.1.79.66" }],
    },
  ];
  const change = { vteps: [worker01, worker02], services, serviceHost: { healthz: null } };
  const count = (packets: number) => ({ packets, bytes: 10 * packets });
  const none = count(0);

  /** An agent whose worker has counted traffic with the second VTEP, and of the second Service. */
  async function counted(more: Record<string, unknown> = {}): Promise<Agent> {
    const agent = await start({ ...change, ...more });
    const { worker } = workers[0]!;
    const index = worker.tables.vteps.find(({ address }) => address === parseIpv4("192.168.2.32"))!.index;
    worker.vteps.set(index, { received: count(1), sent: count(2) });
    const row = worker.services.find(parseIpv4("10.152.183.11")!, 6, 80);
    worker.served.set(worker.services.service(row), { requests: count(3), replies: count(4) });
    return agent;
  }

  test("stands under names of nodes and Services", async () => {
    await counted();
    const socket = join(base, "state/agent.sock");
    const all = async (topic: "services" | "vteps") => {
      const items: unknown[] = [];
      for await (const item of askAll(socket, topic)) items.push(item);
      return items;
    };
    expect(await all("vteps")).toEqual([
      { node: "k8s-worker01", address: "192.168.2.31", received: none, sent: none },
      { node: "k8s-worker02", address: "192.168.2.32", received: count(1), sent: count(2) },
    ]);
    const [dns, web] = (await all("services")) as [object, object];
    expect(dns).toMatchObject({ name: "dns", port: "53", protocol: "UDP", endpoints: 0, requests: none });
    expect(web).toEqual({
      namespace: "default",
      name: "web",
      port: "http",
      protocol: "TCP",
      clusterIP: "10.152.183.11",
      l4Port: 80,
      nodePort: 30080,
      externalIPs: ["192.168.2.36"],
      endpoints: 2,
      requests: count(3),
      replies: count(4),
    });
    // Of the many Services of a cluster, those that this node had to do with.
    const { services: served } = await ask<ReturnType<Agent["counters"]>>(socket, "counters");
    expect(served).toEqual([web]);
  });

  test("has what this node announces and hears; not while the dataplane does not answer", async () => {
    const port = await freePort();
    const announce = { addresses: [{ address: "192.168.2.36" }, { address: "192.168.2.37" }] };
    await counted({ announce, metrics: `127.0.0.1:${port}` });
    const { worker } = workers[0]!;
    const peer = worker.tables.vteps.find(({ address }) => address === parseIpv4("192.168.2.31"))!.index;
    const vip = (address: string, owner: number) => ({
      address: parseIpv4(address)!,
      owner,
      answers: owner === THIS_NODE,
      forMs: 0,
    });
    const session = {
      remoteState: 3,
      diagnostic: 0,
      remoteDiagnostic: 0,
      down: false,
      upForMs: 1,
      transmitUs: 1,
      detectionUs: 3,
    };
    worker.announces = {
      carrier: true,
      drained: false,
      settled: true,
      vips: [vip("192.168.2.36", THIS_NODE), vip("192.168.2.37", peer)],
      sessions: [{ ...session, peer, state: 3 }],
    };
    const lines = async () => {
      const body = await waitFor(async () => (await fetch(`http://127.0.0.1:${port}/metrics`)).text());
      return body
        .split("\n")
        .filter((line) => /^(metallb_speaker_announced|podwire_bfd_session_up)\{/.test(line));
    };
    expect(await lines()).toEqual([
      'metallb_speaker_announced{service="default/web",protocol="layer2",node="k8s-master",ip="192.168.2.36"} 1',
      'podwire_bfd_session_up{node="k8s-worker01"} 1',
    ]);
    worker.announces = { ...worker.announces, vips: [], sessions: [{ ...session, peer, state: 1 }] };
    expect(await lines()).toEqual(['podwire_bfd_session_up{node="k8s-worker01"} 0']);
    worker.announces = new Error("the dataplane thread has ended");
    expect(await lines()).toEqual([]);
  });

  test("is served to Prometheus where the config says, while it says so", async () => {
    const port = await freePort();
    const agent = await counted({ metrics: `127.0.0.1:${port}` });
    const scrape = async () => (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    const body = await waitFor(scrape);
    expect(body).toContain('podwire_vtep_packets_total{node="k8s-worker02",direction="sent"} 2\n');
    expect(body).toContain(
      'podwire_service_bytes_total{namespace="default",service="web",port="http",protocol="TCP",direction="reply"} 40\n',
    );
    expect(body).toMatch(/^kubeproxy_sync_proxy_rules_duration_seconds_count\{ip_family="IPv4"\} 1$/m);
    expect(body).toContain('podwire_drops_total{reason="noRoute"} 1\n');
    expect(body).toContain('podwire_drops_total{reason="ttlExceeded"} 0\n');
    expect(agent.status().metrics).toBe(`127.0.0.1:${port}`);
    await agent.reload(text(change));
    await waitFor(() =>
      scrape().then(
        () => false,
        () => true,
      ),
    );
    expect(agent.status().metrics).toBeNull();
  });
});

describe("a machine that is not fit", () => {
  const nothingLeft = async () => {
    expect((await own.links()).map(({ name }) => name)).toEqual(["lo", "eth0"]);
    expect(host.taps.size + host.sockets.size).toBe(0);
    expect(existsSync(join(base, "state"))).toBe(false);
    for (const { worker } of workers) expect(worker.stopped).toBe(true);
  };

  test("no rights", async () => {
    host.missing = ["CAP_NET_ADMIN"];
    expect(await refused()).toMatch(/^agent\.yaml: the agent lacks CAP_NET_ADMIN\. Run it as root/);
    await nothingLeft();
  });
  test.each([
    ["ENOENT", /agent\.yaml: \/dev\/net\/tun cannot be opened: ENOENT\. Load the driver: `modprobe tun`/],
    ["ENODEV", /CONFIG_TUN/],
    ["EACCES", /Run the agent as root/],
  ])("/dev/net/tun: %s", async (code, expected) => {
    host.failOn(/dev\/net\/tun/, code);
    expect(await refused()).toMatch(expected);
    await nothingLeft();
  });
  test("underlay address elsewhere, missing namespace: both at once", async () => {
    const message = await refused({
      underlay: { address: "192.168.2.99" },
      pods: [{ name: "default/x", netns: "/run/netns/x", address: "10.1.235.193" }],
    });
    expect(message).toMatch(
      /agent\.yaml:5:14: underlay\.address: no interface of this node has 192\.168\.2\.99\. Write/,
    );
    expect(message).toMatch(
      /agent\.yaml:14:\d+: pods\[0\]\.netns: there is no network namespace at \/run\/netns\/x\. Make it/,
    );
    await nothingLeft();
  });
  test("port in use", async () => {
    host.failOn(/bind/, "EADDRINUSE");
    expect(await refused()).toMatch(
      /underlay\.port: UDP port 4789 of 192\.168\.2\.30 is in use\. Another VXLAN .*ss -ulpn/,
    );
    await nothingLeft();
  });
  test("MTU", async () => {
    (await own.links()).length;
    own.linkTable.find(({ name }) => name === "eth0")!.mtu = 600;
    expect(await refused()).toMatch(
      /underlay\.address: the interface that has 192\.168\.2\.30 has an MTU of 600/,
    );
    expect(await refused({ underlay: { address: "192.168.2.30", mtu: 1500 } })).toMatch(
      /underlay\.mtu: 1500 is more/,
    );
    await nothingLeft();
  });
  test("a device of somebody else in the pod", async () => {
    host.namespaces.get("/run/netns/a")!.addLink("eth0", { kind: "veth" });
    expect(await refused()).toMatch(
      /pods\[0\]\.interface: the namespace of pod default\/a has a veth device eth0 already/,
    );
    await nothingLeft();
  });
  test("tunnel GSO and USO that the kernel has not", async () => {
    host.offloads = 0x0f;
    expect(await refused({ dataplane: { tunnelGso: "on" } })).toMatch(/dataplane\.tunnelGso: .*Linux 6\.17/);
    expect(await refused({ dataplane: { uso: "on" } })).toMatch(/dataplane\.uso: .*Linux 6\.2/);
    await nothingLeft();
  });
  test("a second agent", async () => {
    await start();
    const error: unknown = await start().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "LockedError", pid: process.pid });
    expect(existsSync(join(base, "state/agent.sock"))).toBe(true);
  });
});

describe("announcement", () => {
  test("a stop hands load-balancer addresses over before the worker ends", async () => {
    const agent = await start();
    const { worker } = workers[0]!;
    let stoppedAtDrain: boolean | null = null;
    worker.drain = async () => {
      stoppedAtDrain = worker.stopped;
    };
    await agent.stop();
    expect([stoppedAtDrain, worker.stopped]).toEqual([false, true]);
  });

  test("a worker that cannot hand over does not keep the agent from stopping", async () => {
    const agent = await start();
    workers[0]!.worker.drain = () => Promise.reject(new Error("gone"));
    await agent.stop();
    expect(workers[0]!.worker.stopped).toBe(true);
  });
});

describe("a node that carries Services", () => {
  const serviceHost = { healthz: null, vips: ["192.168.2.36"] };
  const rules = () => own.ruleTable.map(({ preference, table }) => `${preference} ${table}`);

  test("is routed for them, is recorded, and is brought back by cleanup", async () => {
    const before = [...own.ruleTable];
    await (await start({ serviceHost })).stop();
    expect(rules()).toEqual(expect.arrayContaining(["40 255", "50 4789", "60 4789", "100 255"]));
    expect(own.sysctls.get("net/ipv4/conf/eth0/forwarding")).toBe("1");
    const { restored, failed } = await cleanup(join(base, "state"), host, false);
    expect(restored).toEqual(expect.arrayContaining(["rule 0: lookup local", "net/ipv4/tcp_early_demux=1"]));
    expect(failed).toEqual([]);
    expect(own.ruleTable).toEqual(before);
    expect(own.sysctls.get("net/ipv4/conf/eth0/forwarding")).toBe("0");
    expect(existsSync(join(base, "state"))).toBe(false);
  });

  test("what cannot be restored stays in the record", async () => {
    await (await start({ serviceHost })).stop();
    const mend = host.failOn(/delete rule 60/, "EPERM");
    const { failed } = await cleanup(join(base, "state"), host, false);
    expect(failed).toMatchObject([{ device: "the node's routing" }]);
    mend();
    expect((await cleanup(join(base, "state"), host, false)).failed).toEqual([]);
    expect(rules()).toEqual(["0 255", "32766 254", "32767 253"]);
  });

  test("runs on where its routing cannot be set, says so, and tries again", async () => {
    const mend = host.failOn(/add rule 50/, "EPERM");
    const agent = await start({ serviceHost });
    expect(agent.status().devices).toContainEqual(
      expect.objectContaining({ id: "routing", state: "failed", message: expect.stringMatching(/EPERM/) }),
    );
    mend();
    await agent.resync();
    expect(agent.status().devices.map(({ id }) => id)).not.toContain("routing");
    expect(rules()).toContain("50 4789");
  });

  test("a load-balancer address that somebody else routes is said, and the rest is carried", async () => {
    const eth0 = (await own.link("eth0"))!;
    own.routeTable.push({
      table: 254,
      destination: { address: parseIpv4("192.168.2.36")!, length: 32 },
      index: eth0.index,
      gateway: null,
      source: null,
      protocol: 4,
      priority: 0,
    });
    const agent = await start({ serviceHost });
    expect(agent.status().devices.find(({ id }) => id === "node")).toMatchObject({
      state: "failed",
      message: "a route 192.168.2.36/32 dev eth0 exists",
    });
    expect(own.routeTable).toContainEqual(expect.objectContaining({ table: 4789, protocol: 112 }));
    own.routeTable.shift();
    await agent.resync("node");
    expect(agent.status().devices.find(({ id }) => id === "node")).toMatchObject({ state: "up" });
  });

  test("a rule that is taken away is noticed", async () => {
    await start({ serviceHost });
    own.ruleTable = own.ruleTable.filter(({ preference }) => preference !== 50);
    for (const changed of host.watchers) changed();
    await waitFor(() => rules().includes("50 4789"));
  });

  test("its health: tables and Services in time, and a dataplane that answers", async () => {
    let now = 0;
    const clock = { now: () => now, date: () => new Date(0), after: () => () => {} };
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const changed = { serviceHost: { ...serviceHost, healthz: `127.0.0.1:${port}` } };
    const loaded = parseConfig("agent.yaml", text(changed));
    const agent = await Agent.start(loaded, { ...parts(), clock });
    agents.push(agent);
    const ask = async () => (await fetch(`http://127.0.0.1:${port}/healthz`)).status;
    await waitFor(async () => (await ask()) === 200);
    // A table that the dataplane does not take.
    const mend = workers[0]!.worker.refuse();
    await agent.reload(text({ ...changed, blocks: ["10.1.235.192/26", "10.1.79.64/26"] }));
    now += 60_000;
    expect(await ask()).toBe(503);
    mend();
    await agent.resync();
    expect(await ask()).toBe(200);
    // Services that it does not take.
    const { worker } = workers[0]!;
    const service = { name: "default/web", clusterIP: "10.152.183.10", ports: [{ port: 80 }], backends: [] };
    worker.failure = new Error("refused");
    await agent.reload(text({ ...changed, services: [service] }));
    expect(await ask()).toBe(200);
    now += 60_000;
    expect(await ask()).toBe(503);
    worker.failure = null;
    await agent.resync();
    expect(await ask()).toBe(200);
    agent.setNodeEligible(false);
    expect(await ask()).toBe(503);
  });
});

describe("running", () => {
  test("answers on its socket", async () => {
    const agent = await start();
    const status = await ask<ReturnType<Agent["status"]>>(join(base, "state/agent.sock"), "status");
    const now = JSON.parse(JSON.stringify(agent.status())) as typeof status;
    expect(status).toEqual({ ...now, counters: { ...now.counters, takenAtMs: status.counters.takenAtMs } });
    expect(now.counters.takenAtMs).toBeGreaterThan(status.counters.takenAtMs);
    expect(status).toMatchObject({
      node: "k8s-master",
      underlay: { mtu: 1500 },
      overlayMtu: 1450,
      dataplane: { send: "udp-segment", threads: 1 },
      pods: [{ name: "default/a", state: "up", port: 3 }],
    });
    expect(await ask(join(base, "state/agent.sock"), "counters")).toMatchObject({
      received: 7,
      dropped: { noRoute: 1 },
    });
  });

  test("takes over a good config and refuses a bad one", async () => {
    const agent = await start();
    host.addNamespace("/run/netns/b");
    const pods = [{ name: "default/b", netns: "/run/netns/b", address: "10.1.235.194" }];
    await agent.reload(text({ pods }));
    expect(agent.status().pods.map(({ name, state }) => `${name} ${state}`)).toEqual(["default/b up"]);
    await agent.reload(text({ pods, blocks: ["10.2.0.0/26"] }));
    expect(logged.at(-1)).toMatch(/^config not taken over: agent\.yaml:\d+:\d+: pods\[0\]\.address/);
    expect(agent.status().blocks).toEqual(["10.1.235.192/26"]);
    await agent.reload(text({ pods, dataplane: { threads: 2 } }));
    expect(logged).toContain("dataplane.threads takes effect when the agent is started anew");
    expect(agent.status().dataplane.threads).toBe(1);
  });

  describe("Services of the file", () => {
    const service = (name: string, clusterIP: string, ...backends: string[]) => ({
      name,
      clusterIP,
      ports: [{ protocol: "UDP", port: 53 }],
      backends: backends.map((address) => ({ address })),
    });
    const web = service("default/web", "10.152.183.10", "10.1.235.193", "10.1.235.194");
    /** Of the tests' own machine no port is taken. */
    const NO_HEALTHZ = { healthz: null };
    const backends = (worker: FakeWorker) => {
      const row = worker.services.find(parseIpv4("10.152.183.10")!, 17, 53);
      return row < 0 ? -1 : worker.services.count(worker.services.insideRing(row));
    };

    test("are there when the agent is ready, change with it, and come to another worker", async () => {
      const agent = await start({ serviceHost: NO_HEALTHZ, services: [web] });
      expect(backends(workers[0]!.worker)).toBe(2);
      /** A worker has them before it forwards anything: nothing for a NodePort goes back to the kernel. */
      const comeFirst = ({ commands }: FakeWorker) =>
        expect(commands.indexOf("publish")).toBeGreaterThan(commands.indexOf("publishServices"));
      comeFirst(workers[0]!.worker);
      expect(agent.status().services).toMatchObject({ count: 1 });
      await agent.reload(
        text({
          serviceHost: NO_HEALTHZ,
          services: [service("default/web", "10.152.183.10", "10.1.235.193")],
        }),
      );
      expect(backends(workers[0]!.worker)).toBe(1);
      workers[0]!.options.onEvent({ type: "exit", message: "out of memory" });
      await waitFor(() => workers[1]?.worker.commands.includes("publish"), {
        what: "the second worker's tables",
      });
      expect(backends(workers[1]!.worker)).toBe(1);
      comeFirst(workers[1]!.worker);
      await agent.reload(text({ serviceHost: NO_HEALTHZ }));
      expect(backends(workers[1]!.worker)).toBe(-1);
      expect(agent.status().services).toMatchObject({ count: 0 });
    });

    test("flows are listed by their names, counted and removed over the socket", async () => {
      await start({ serviceHost: NO_HEALTHZ, services: [web], dataplane: { maxFlows: 1024 } });
      const { options, worker } = workers[0]!;
      const table = new FlowTable(map(options.flows));
      const nowMs = Number(process.hrtime.bigint() / 1_000_000n) | 0;
      const row = worker.services.find(parseIpv4("10.152.183.10")!, 17, 53);
      for (let n = 0; n < 10; n++) {
        const words = draft(
          17,
          { source: "10.1.79.65", destination: "10.152.183.10", sourcePort: 1000 + n, destinationPort: 53 },
          { source: "10.1.235.193", destination: "10.1.79.65", sourcePort: 53, destinationPort: 1000 + n },
          UDP_UNREPLIED,
          n < 3 ? FLAG_EGRESS : FLAG_DNAT,
        );
        words[FLOW_SERVICE] = n < 5 ? worker.services.service(row) : 0;
        table.insert(words, nowMs);
      }
      // The threads work on the same memory.
      workers[0]!.worker.flows = table;
      const socket = join(base, "state/agent.sock");
      const flows: FlowView[] = [];
      for await (const flow of askAll<FlowView>(socket, "flows", { service: "web" })) flows.push(flow);
      expect(flows.map(({ original }) => original.sourcePort)).toEqual([1000, 1001, 1002, 1003, 1004]);
      expect(flows[4]).toMatchObject({
        protocol: "udp",
        state: "UNREPLIED",
        unreplied: true,
        timeout: 30,
        service: "default/web:53",
        reply: { source: "10.1.235.193", sourcePort: 53 },
        flags: ["dnat"],
      });
      expect(await ask(socket, "flowStats")).toMatchObject({
        flows: 10,
        capacity: 1024,
        egress: 3,
        counters: { inserted: 10 },
      });
      const wrong = ask(socket, "flushFlows", { service: "default/none" });
      await expect(wrong).rejects.toThrow("there is no service default/none");
      await expect(ask(socket, "flushFlows", { sourcePort: 70_000 })).rejects.toThrow(/^sourcePort: /);
      await expect(ask(socket, "flushFlows", { colour: "red" })).rejects.toThrow(/colour/);
      expect(table.size).toBe(10);
      expect(await ask(socket, "flushFlows", { service: "web", sourcePort: 1004 })).toEqual({ removed: 1 });
      expect(await ask(socket, "flushFlows", { source: "10.1.79.0/24" })).toEqual({ removed: 9 });
    });
  });

  describe("the flow table", () => {
    const insert = (table: FlowTable, n: number) => {
      const words = draft(
        17,
        { source: "10.1.79.65", destination: "10.152.183.10", sourcePort: n, destinationPort: 53 },
        { source: "10.1.235.193", destination: "10.1.79.65", sourcePort: 53, destinationPort: n },
        UDP_UNREPLIED,
        FLAG_DNAT,
      );
      words[FLOW_SERVICE] = 77;
      return table.insert(words, Number(process.hrtime.bigint() / 1_000_000n) | 0);
    };
    const stored = () => readdirSync(join(base, "state")).filter((name) => name.startsWith("flows-"));

    test("is the next agent's too, whose numbers of Services are others", async () => {
      const first = await start({ dataplane: { maxFlows: 1024 } });
      insert(new FlowTable(map(workers[0]!.options.flows)), 1);
      await first.stop();
      expect(statSync(join(base, "state", stored()[0]!)).mode & 0o777).toBe(0o600);
      const second = await start({ dataplane: { maxFlows: 1024 } });
      expect(second.status().flows).toEqual({ flows: 1, capacity: 1024, egress: 0 });
      const table = new FlowTable(map(workers[1]!.options.flows));
      const found = table.find(parseIpv4("10.1.79.65")!, parseIpv4("10.152.183.10")!, (1 << 16) | 53, 17, 0);
      expect(found & 1).toBe(0);
      expect(table.words[table.base(found >> 1) + FLOW_SERVICE]).toBe(0);
      await second.stop();
      await cleanup(join(base, "state"), host, false);
      expect(existsSync(join(base, "state"))).toBe(false);
    });

    test("an agent that died with the lock in its hand, or within a breath, leaves a table that works", async () => {
      const first = await start({ dataplane: { maxFlows: 1024 } });
      const left = new FlowTable(map(workers[0]!.options.flows), 1);
      insert(left, 1);
      left.enterBreath();
      left.words[HEADER_LOCK] = 2;
      await first.stop();
      const second = await start({ dataplane: { maxFlows: 1024 } });
      const table = new FlowTable(map(workers[1]!.options.flows));
      expect(insert(table, 2)).toBeGreaterThanOrEqual(0);
      expect(second.status().flows.flows).toBe(2);
    });

    test.each([
      ["of another size", { maxFlows: 2048 }, () => {}],
      [
        "of another version",
        { maxFlows: 1024 },
        (words: Int32Array) => void words.fill(-1, HEADER_VERSION, HEADER_VERSION + 1),
      ],
    ])("one %s is refused, and made anew", async (_, dataplane, spoil) => {
      const first = await start({ dataplane: { maxFlows: 1024 } });
      const table = new FlowTable(map(workers[0]!.options.flows));
      insert(table, 1);
      spoil(table.words);
      await first.stop();
      const second = await start({ dataplane });
      expect(second.status().flows).toMatchObject({ flows: 0, capacity: dataplane.maxFlows });
      expect(logged).toContain("could not take over the flows of the agent before");
      expect(stored()).toHaveLength(1);
    });

    test("that of another boot goes", async () => {
      const first = await start();
      await first.stop();
      renameSync(join(base, "state", stored()[0]!), join(base, "state", "flows-elsewhen"));
      await start();
      expect(stored()).toHaveLength(1);
      expect(stored()).not.toContain("flows-elsewhen");
    });

    test("without room for a file the agent runs with memory of its own", async () => {
      full = true;
      const agent = await start();
      expect(workers[0]!.options.flows).toBeInstanceOf(SharedArrayBuffer);
      expect(agent.status().flows.flows).toBe(0);
      expect(stored()).toEqual([]);
    });
  });

  test("starts another worker when one ends", async () => {
    await start();
    workers[0]!.options.onEvent({ type: "exit", message: "out of memory" });
    await waitFor(() => workers[1]?.worker.commands.includes("publish"), { what: "second worker" });
    expect(workers[1]!.worker.ports.size).toBe(3);
  });

  test("stop leaves the devices, cleanup removes them", async () => {
    const agent = await start();
    await expect(cleanup(join(base, "state"), host, false)).rejects.toThrow(/belongs to a running agent/);
    await agent.stop();
    expect(await own.link("podwire0")).not.toBeNull();
    expect(await cleanup(join(base, "state"), host, false)).toEqual({
      removed: ["podwire0", "eth0 in /run/netns/a"],
      gone: [],
      failed: [],
      restored: [],
    });
    expect(await own.link("podwire0")).toBeNull();
    expect(existsSync(join(base, "state"))).toBe(false);
    expect((await cleanup(join(base, "state"), host, false)).removed).toEqual([]);
  });

  test("cleanup in another namespace does not touch its devices", async () => {
    const agent = await start();
    await agent.stop();
    const other = new FakeHost();
    other.addNamespace("/run/other");
    other.addNamespace("");
    other.namespaces.get("")!.addLink("podwire0", { kind: "tun", alias: "podwire: node x" });
    await expect(cleanup(join(base, "state"), other, false)).rejects.toThrow(/another network namespace/);
    expect(await cleanup(join(base, "state"), other, true)).toEqual({
      removed: [],
      gone: ["podwire0", "eth0 in /run/netns/a"],
      failed: [],
      restored: [],
    });
    expect(await other.namespaces.get("")!.link("podwire0")).not.toBeNull();
  });

  test("cleanup keeps in the record what it could not remove", async () => {
    const agent = await start();
    await agent.stop();
    const undo = host.failOn(/delete link eth0/, "EPERM");
    expect((await cleanup(join(base, "state"), host, false)).failed).toHaveLength(1);
    undo();
    expect((await cleanup(join(base, "state"), host, false)).removed).toEqual(["eth0 in /run/netns/a"]);
  });
});

describe("ConfigWatcher", () => {
  test("reports new texts, written in place or by rename, and no others", async () => {
    const file = join(base, "agent.yaml");
    writeFileSync(file, "1");
    const seen: string[] = [];
    const watcher = new ConfigWatcher(file, "1", async (changed) => void seen.push(changed), SILENT);
    watcher.start();
    try {
      writeFileSync(file, "2");
      await waitFor(() => seen.length === 1, { what: "write in place" });
      writeFileSync(`${file}.new`, "3");
      renameSync(`${file}.new`, file);
      await waitFor(() => seen.length === 2, { what: "rename" });
      rmSync(file);
      writeFileSync(file, "3");
      writeFileSync(join(base, "other"), "x");
      writeFileSync(file, "4");
      await waitFor(() => seen.at(-1) === "4", { what: "removed and written" });
      expect(seen).toEqual(["2", "3", "4"]);
      await watcher.look(true);
      expect(seen.at(-1)).toBe("4");
      expect(seen).toHaveLength(4);
    } finally {
      watcher.stop();
    }
  });
});
