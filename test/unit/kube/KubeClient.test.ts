/** The client, a node that joins and an agent's source, against the embedded server over TLS. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { KubeSource } from "../../../src/agent/kubeSource.js";
import type { Machine } from "../../../src/agent/machine.js";
import { ApiServer } from "../../../src/apiserver/ApiServer.js";
import { loadSchemas } from "../../../src/apiserver/openapi/index.js";
import { kubeconfig } from "../../../src/apiserver/pki/kubeconfig.js";
import { RESOURCES } from "../../../src/apiserver/resources/index.js";
import { joinCommand } from "../../../src/cli/join.js";
import { Allocator } from "../../../src/ipam/Allocator.js";
import type { IPPool } from "../../../src/ipam/types.js";
import { Informer } from "../../../src/kube/Informer.js";
import { join } from "../../../src/kube/join.js";
import { KubeClient } from "../../../src/kube/KubeClient.js";
import { KubeError } from "../../../src/kube/KubeError.js";
import { plainCredentials } from "../../../src/kube/kubeconfig.js";
import {
  CONFIGMAPS,
  ENDPOINTSLICES,
  EVENTS,
  IPADDRESSPOOLS,
  IPPOOLS,
  L2ADVERTISEMENTS,
  NAMESPACES,
  NODES,
  PODS,
  SERVICES,
} from "../../../src/kube/resources.js";
import type {
  ConfigMap,
  EndpointSlice,
  Event,
  IPAddressPool,
  L2Advertisement,
  Namespace,
  Node,
  Pod,
  Service,
} from "../../../src/kube/types.js";
import type { AnnounceConfig } from "../../../src/model/AgentConfig.js";
import { METALLB_NAMESPACE } from "../../../src/model/metallb.js";
import { SILENT } from "../../../src/reconcile/Log.js";
import { agentBase } from "../../support/agentBase.js";
import { waitFor } from "../../support/netns.js";

let directory: string;
let server: ApiServer;
let admin: KubeClient;
let closing: (() => Promise<void> | void)[];

async function serve(port = 0): Promise<void> {
  server = await ApiServer.start({
    dataDir: joinPath(directory, "data"),
    address: "127.0.0.1",
    port,
    serviceRange: "10.152.183.0/24",
    definitions: RESOURCES,
    schemas: loadSchemas(),
  });
}

beforeEach(async () => {
  directory = mkdtempSync(joinPath(tmpdir(), "podwire-client-"));
  await serve();
  admin = await KubeClient.fromFile(server.kubeconfigFile);
  closing = [];
});
afterEach(async () => {
  for (const close of closing.reverse()) await close();
  admin.close();
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

const url = () => `https://127.0.0.1:${server.port}`;
const map = (name: string, x = ""): ConfigMap => ({ metadata: { name, namespace: "default" }, data: { x } });
const failure = (work: Promise<unknown>) =>
  work.then(
    () => "no error",
    (error: unknown) =>
      error instanceof KubeError ? `${error.code} ${error.reason}` : (error as Error).message,
  );

describe("requests", () => {
  test("verbs, and errors by code and reason", async () => {
    const made = await admin.create(CONFIGMAPS, map("a", "1"));
    expect(made.metadata.uid).toBeTruthy();
    expect(await failure(admin.create(CONFIGMAPS, map("a")))).toBe("409 AlreadyExists");
    const second = await admin.update<ConfigMap>(CONFIGMAPS, { ...made, data: { x: "2" } });
    expect(await failure(admin.update(CONFIGMAPS, made))).toBe("409 Conflict");
    await admin.patch(CONFIGMAPS, "a", "default", "merge", { data: { y: "ü" } });
    await admin.patch(CONFIGMAPS, "a", "default", "json", [{ op: "remove", path: "/data/x" }]);
    const got = await admin.get<ConfigMap>(CONFIGMAPS, "a", "default");
    expect(got.data).toEqual({ y: "ü" });
    const { items } = await admin.list<ConfigMap>(CONFIGMAPS, { namespace: "default" });
    expect(items).toMatchObject([{ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "a" } }]);
    const { resourceVersion } = second.metadata;
    expect(
      await failure(admin.delete(CONFIGMAPS, "a", "default", { resourceVersion: resourceVersion! })),
    ).toBe("409 Conflict");
    await admin.delete(CONFIGMAPS, "a", "default", { uid: made.metadata.uid! });
    expect(await failure(admin.get(CONFIGMAPS, "a", "default"))).toBe("404 NotFound");
  });

  test("without rights, without the right CA, without a server", async () => {
    const fields = { server: url(), caCertificate: "", user: "x", certificate: "", key: "" };
    const file = joinPath(directory, "kubeconfig");
    writeFileSync(file, kubeconfig(fields));
    const stranger = await KubeClient.fromFile(file);
    expect(await failure(stranger.get(NODES, "n"))).toBe("0 Unreachable");
    stranger.close();
    const text = readFileSync(server.kubeconfigFile, "utf8");
    writeFileSync(file, text.replace(/127\.0\.0\.1:\d+/, "127.0.0.1:1"));
    const nobody = await KubeClient.fromFile(file);
    expect(await failure(nobody.get(NODES, "n"))).toBe("0 Unreachable");
  });
});

test("a kubeconfig that asks for more is client-node's, with the same result", async () => {
  const file = joinPath(directory, "kubeconfig");
  const text = readFileSync(server.kubeconfigFile, "utf8");
  writeFileSync(file, text.replace(/^( *)server: /m, "$1disable-compression: true\n$1server: "));
  expect(plainCredentials(file)).toBeNull();
  expect(plainCredentials(server.kubeconfigFile)).not.toBeNull();
  const client = await KubeClient.fromFile(file);
  closing.push(() => client.close());
  expect((await client.create(CONFIGMAPS, map("a"))).metadata.name).toBe("a");
});

describe("watch", () => {
  test("an informer follows, over a restart of the server", async () => {
    await admin.create(CONFIGMAPS, map("a", "1"));
    const copy = new Informer<ConfigMap>(admin, CONFIGMAPS, { namespace: "default" });
    closing.push(() => copy.stop());
    const told: string[] = [];
    copy.addHandler({
      added: ({ metadata, data }) => told.push(`+${metadata.name}${data?.x}`),
      updated: ({ metadata, data }) => told.push(`~${metadata.name}${data?.x}`),
      deleted: ({ metadata }) => told.push(`-${metadata.name}`),
    });
    copy.start();
    await copy.synced;
    await admin.patch(CONFIGMAPS, "a", "default", "merge", { data: { x: "2" } });
    await waitFor(() => told.length === 2, { what: "a change" });
    const { port } = server;
    await server.stop();
    await serve(port);
    await admin.list(CONFIGMAPS);
    await admin.create(CONFIGMAPS, map("b", "1"));
    await admin.delete(CONFIGMAPS, "a", "default");
    await waitFor(() => told.length === 4, { what: "what came after the restart" });
    expect([...told].sort()).toEqual(["+a1", "+b1", "-a", "~a2"].sort());
  });

  test("410 for a version of another life", async () => {
    const end = new AbortController();
    const watched = admin.watch(CONFIGMAPS, { resourceVersion: "999999" }, () => {}, end.signal);
    const result = await Promise.race([
      failure(watched),
      new Promise((resolve) => setTimeout(resolve, 500, "open")),
    ]);
    end.abort();
    await watched.catch(() => {});
    // Either is fine for an informer: a refusal, or a watch that waits for that version.
    expect(["410 Expired", "410 Gone", "504 Timeout", "open"]).toContain(result);
  });
});

describe("join", () => {
  const options = () => ({
    server: url(),
    token: server.tokens.create(60),
    caHash: server.caHash,
    node: "k8s-worker01",
  });
  const machine: Machine = {
    architecture: "amd64",
    kernelVersion: "5.15.0",
    osImage: "Ubuntu 22.04.3 LTS",
    machineId: "m",
    systemUuid: "s",
    bootId: "b",
    cpus: 2,
    memoryKib: 2048,
  };

  async function nodeClient(): Promise<KubeClient> {
    const { caCertificate, certificate, key } = await join(options());
    const file = joinPath(directory, "node.kubeconfig");
    const user = "system:node:k8s-worker01";
    writeFileSync(file, kubeconfig({ server: url(), caCertificate, user, certificate, key }));
    const client = await KubeClient.fromFile(file);
    closing.push(() => client.close());
    return client;
  }

  test("gives a certificate for one node, and no more rights than that", async () => {
    const node = await nodeClient();
    await node.create<Node>(NODES, { metadata: { name: "k8s-worker01" } });
    expect(await failure(node.create<Node>(NODES, { metadata: { name: "k8s-master" } }))).toBe(
      "403 Forbidden",
    );
    expect(await failure(node.create(CONFIGMAPS, map("a")))).toBe("403 Forbidden");
  });

  test("a wrong token, an expired one, a wrong hash", async () => {
    expect(await failure(join({ ...options(), token: "aaaaaa.bbbbbbbbbbbbbbbb" }))).toBe("401 Unauthorized");
    expect(await failure(join({ ...options(), token: server.tokens.create(-1) }))).toBe("401 Unauthorized");
    const wrong = `sha256:${"0".repeat(64)}`;
    expect(await failure(join({ ...options(), caHash: wrong }))).toMatch(
      /has the CA sha256:.*, not sha256:000/,
    );
    expect(await failure(join({ ...options(), caHash: "sha256:12" }))).toMatch(/is no CA hash/);
  });

  test("the command writes a kubeconfig for its owner only, once", async () => {
    const { token, caHash } = options();
    const file = joinPath(directory, "etc", "kubeconfig");
    const args = ["--server", url(), "--token", token, "--ca-hash", caHash, "--node", "k8s-worker01"];
    const run = () => joinCommand().parseAsync([...args, "--kubeconfig", file], { from: "user" });
    await run();
    expect(process.exitCode ?? 0).toBe(0);
    expect(existsSync(file)).toBe(true);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const before = readFileSync(file, "utf8");
    await run();
    expect(process.exitCode).toBe(1);
    process.exitCode = 0;
    expect(readFileSync(file, "utf8")).toBe(before);
  });

  test("a node's rights are enough for its agent", async () => {
    const api = await nodeClient();
    await admin.create<IPPool>(IPPOOLS, { metadata: { name: "default" }, spec: { cidr: "10.1.0.0/16" } });
    const source = new KubeSource({
      api,
      claimer: new Allocator(api, "k8s-worker01"),
      base: agentBase("k8s-worker01", "192.168.2.31"),
      podNetns: "/run/netns/{uid}",
      announce: { interface: null, bfd: { intervalMs: 100, multiplier: 3 } },
      probe: async () => "",
      description: { labels: {}, machine, version: "0.1.0" },
      log: SILENT,
    });
    closing.push(() => source.stop());
    source.start();
    const config = await source.ready;
    expect(config.blocks[0]).toMatch(/^10\.1\.\d+\.\d+\/26$/);
    let announced: AnnounceConfig | null = null;
    await source.feed(config, async ({ announce }) => {
      announced = announce;
    });
    const readiness = async () => {
      const { status } = await admin.get<Node>(NODES, "k8s-worker01");
      return status?.conditions?.find(({ type }) => type === "Ready")?.status;
    };
    await waitFor(async () => (await readiness()) === "True", { what: "Ready" });
    await admin.create<Pod>(PODS, {
      metadata: { name: "a", namespace: "default" },
      spec: { nodeName: "k8s-worker01", containers: [{ name: "c", image: "nginx" }] },
    });
    let ip: string | undefined;
    await waitFor(
      async () => {
        ip = (await admin.get<Pod>(PODS, "a", "default")).status?.podIP;
        return ip !== undefined;
      },
      { what: "the pod's address" },
    );
    expect(ip).toMatch(/^10\.1\./);
    // What it announces: MetalLB's objects are read, its own Node written, probes answered.
    source.setLan({ name: "eth0", mac: "02:00:c0:a8:02:1f" });
    await admin.create<Namespace>(NAMESPACES, { metadata: { name: METALLB_NAMESPACE } });
    await admin.create<IPAddressPool>(IPADDRESSPOOLS, {
      metadata: { name: "default", namespace: METALLB_NAMESPACE },
      spec: { addresses: ["192.168.2.36-192.168.2.40"] },
    });
    await admin.create<L2Advertisement>(L2ADVERTISEMENTS, {
      metadata: { name: "all", namespace: METALLB_NAMESPACE },
    });
    const metadata = {
      name: "lb",
      namespace: "default",
      annotations: { "metallb.io/ip-allocated-from-pool": "default" },
    };
    const port = { port: 80, protocol: "TCP" };
    await admin.create<Service>(SERVICES, {
      metadata,
      spec: { type: "LoadBalancer", clusterIP: "10.152.183.20", ports: [port] },
    });
    await admin.create<EndpointSlice>(ENDPOINTSLICES, {
      metadata: { name: "lb-1", namespace: "default", labels: { "kubernetes.io/service-name": "lb" } },
      addressType: "IPv4",
      ports: [port],
      endpoints: [{ addresses: [ip!], nodeName: "k8s-worker01" }],
    });
    const status = { loadBalancer: { ingress: [{ ip: "192.168.2.36" }] } };
    await admin.patch(SERVICES, "lb", "default", "merge", { status }, "status");
    const vips = () => JSON.stringify(announced?.vips ?? null);
    const wanted = JSON.stringify([{ address: "192.168.2.36", nodes: ["k8s-worker01"] }]);
    await waitFor(() => vips() === wanted, { what: `the announcement, not ${vips()}` });
    source.reportAddress({ type: "owner", address: "192.168.2.36", owned: true });
    await waitFor(
      async () => (await admin.list<Event>(EVENTS)).items.some(({ reason }) => reason === "nodeAssigned"),
      { what: "the owner's Event" },
    );
    const request = { "podwire.dev/address-probe-request": '{"192.168.2.37":"7"}' };
    await admin.patch(NODES, "k8s-worker01", undefined, "merge", { metadata: { annotations: request } });
    await waitFor(
      async () => {
        const { annotations } = (await admin.get<Node>(NODES, "k8s-worker01")).metadata;
        return annotations?.["podwire.dev/address-probe-result"] === '{"192.168.2.37":{"id":"7","mac":""}}';
      },
      { what: "the answer to a probe" },
    );
  });
});
