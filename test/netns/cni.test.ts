/**
 * The CNI plugin as a container runtime calls it, on a node whose Node a kubelet keeps: literal calls, the
 * sandboxes are empty namespaces. On another node a pod of an agent without a kubelet answers.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { IPAMBlock } from "../../src/ipam/types.js";
import { IPAMBLOCKS, NODES, PODS } from "../../src/kube/resources.js";
import type { Node, Pod } from "../../src/kube/types.js";
import { isReady, TestCluster } from "../support/cluster.js";
import { netnsUnavailable, waitFor } from "../support/netns.js";

const PLUGIN = fileURLToPath(new URL("../../dist/cni/main.js", import.meta.url));
const [MASTER, KUBELET] = ["k8s-master", "k8s-worker01"];

interface Printed {
  code: number | null;
  // biome-ignore lint/suspicious/noExplicitAny: what the specification says it is.
  printed: any;
}

describe.skipIf(netnsUnavailable() !== "")("the CNI plugin", () => {
  let cluster: TestCluster;
  /** A pod on the other node. */
  let other: { ns: string; address: string };

  /** One call of the plugin. */
  function call(command: string, environment: Record<string, string> = {}, config: object = {}): Printed {
    const input = JSON.stringify({
      cniVersion: "1.0.0",
      name: "podwire",
      type: "podwire-cni",
      stateDir: cluster.node(KUBELET).stateDir,
      ...config,
    });
    const env = { PATH: process.env.PATH, CNI_COMMAND: command, CNI_PATH: "/opt/cni/bin", ...environment };
    const { status, stdout, stderr } = spawnSync(process.execPath, [PLUGIN], {
      encoding: "utf8",
      env,
      input,
    });
    expect(stderr).toBe("");
    return { code: status, printed: stdout === "" ? null : JSON.parse(stdout) };
  }

  const sandbox = (name: string, containerId = name) => ({
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: "eth0",
    CNI_NETNS: `/run/netns/${cluster.net.prefix}-${name}`,
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=${containerId};K8S_POD_UID=uid-web`,
  });
  /** Until one answers: what was just made takes a moment to be known everywhere. */
  const answers = (ns: string, address: string) =>
    waitFor(async () => (await cluster.net.tryExec(ns, "ping", ["-n", "-c1", "-W1", address])).code === 0, {
      what: `an answer of ${address} in ${ns}`,
      deadlineMs: 30_000,
    });
  /** Addresses that IPAM has given to this node's sandboxes. */
  const allocated = async () =>
    (await cluster.kube.list<IPAMBlock>(IPAMBLOCKS)).items.flatMap(({ spec }) =>
      (spec.allocations ?? []).flatMap(({ handle }) => (handle.startsWith("cni.") ? [handle] : [])),
    );
  const running = () =>
    waitFor(() => call("STATUS", {}, { cniVersion: "1.1.0" }).code === 0, {
      what: `the agent: ${cluster.node(KUBELET).agent?.stderr}`,
      deadlineMs: 30_000,
    });

  beforeAll(async () => {
    cluster = await TestCluster.start({ nodes: 1 });
    await cluster.addMachine(KUBELET!, "192.168.2.31");
    await cluster.join(KUBELET!);
    const spec = { nodeName: MASTER!, containers: [{ name: "pause", image: "pause" }] };
    await cluster.kube.create<Pod>(PODS, { metadata: { name: "other", namespace: "default" }, spec });
    const pod = await waitFor(
      async () => {
        const found = await cluster.kube.get<Pod>(PODS, "other", "default");
        return isReady(found) ? found : null;
      },
      { what: "the other pod", deadlineMs: 60_000 },
    );
    other = { ns: cluster.podNamespace(pod.metadata.uid!), address: pod.status!.podIP! };
    for (const name of ["old", "new", "third"]) await cluster.net.netns(name);
  });
  afterAll(() => cluster?.close());

  test("without an agent: VERSION answers, others say that it is to be tried again", async () => {
    expect(call("VERSION")).toEqual({
      code: 0,
      printed: { cniVersion: "1.0.0", supportedVersions: ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] },
    });
    expect(call("ADD", sandbox("old"))).toMatchObject({
      code: 1,
      printed: { cniVersion: "1.0.0", code: 11 },
    });
    expect(call("STATUS", {}, { cniVersion: "1.1.0" })).toMatchObject({ code: 1, printed: { code: 50 } });
  });

  test("the agent waits for the kubelet's Node, and leaves it the kubelet's", async () => {
    cluster.startAgent(KUBELET!, ["--cni"]);
    const { agent } = cluster.node(KUBELET!);
    await waitFor(() => /not found/.test(agent!.stderr), { what: "word of the Node", deadlineMs: 30_000 });
    await cluster.kube.create<Node>(NODES, {
      metadata: { name: KUBELET!, labels: { kubelet: "yes" } },
      spec: {},
    });
    await running();
    const { metadata, status } = await cluster.kube.get<Node>(NODES, KUBELET!);
    expect(metadata.labels).toEqual({ kubelet: "yes" });
    expect(metadata.annotations).not.toHaveProperty("podwire.dev/registered");
    expect(metadata.annotations).toHaveProperty("podwire.dev/tunnel-address");
    expect(status?.conditions?.map(({ type }) => type)).toEqual(["NetworkUnavailable"]);
  });

  test("ADD: eth0 with an address of the node's block, and a way to other pods and back", async () => {
    const { code, printed } = call("ADD", sandbox("old"));
    expect(code, JSON.stringify(printed)).toBe(0);
    const [{ address, gateway }] = printed.ips;
    expect(printed).toEqual({
      cniVersion: "1.0.0",
      interfaces: [
        { name: "eth0", mac: expect.stringMatching(/^02:70:/), sandbox: sandbox("old").CNI_NETNS },
      ],
      ips: [
        { address: expect.stringMatching(/^10\.1\.\d+\.\d+\/32$/), gateway: "169.254.1.1", interface: 0 },
      ],
      routes: [{ dst: "0.0.0.0/0", gw: gateway }],
      dns: {},
    });
    const ns = `${cluster.net.prefix}-old`;
    const [link] = await cluster.net.ipJson(ns, "address", "show", "dev", "eth0");
    expect(link.address).toBe(printed.interfaces[0].mac);
    expect(link.addr_info).toContainEqual(
      expect.objectContaining({ local: address.replace("/32", ""), prefixlen: 32 }),
    );
    expect(await cluster.net.ipJson(ns, "route", "show", "default")).toMatchObject([
      { gateway, dev: "eth0" },
    ]);
    await answers(ns, other.address);
    await answers(other.ns, address.replace("/32", ""));

    expect(call("ADD", sandbox("old"))).toEqual({ code: 0, printed });
    const older = call("ADD", sandbox("old"), { cniVersion: "0.4.0" }).printed;
    expect(older.ips).toEqual([{ version: "4", address, gateway, interface: 0 }]);
    expect(call("CHECK", sandbox("old"), { prevResult: printed })).toEqual({ code: 0, printed: null });
  });

  test("an agent that was killed goes on where it was", async () => {
    await cluster.endAgent(KUBELET!, "SIGKILL");
    cluster.startAgent(KUBELET!, ["--cni"]);
    await running();
    expect(call("CHECK", sandbox("old"))).toEqual({ code: 0, printed: null });
    await answers(`${cluster.net.prefix}-old`, other.address);
  });

  test("a pod's second sandbox has an address of its own; DEL of the first leaves it", async () => {
    const before = call("ADD", sandbox("old")).printed.ips[0].address;
    const after = call("ADD", sandbox("new")).printed.ips[0].address;
    expect(after).not.toBe(before);
    const ns = `${cluster.net.prefix}-new`;
    await answers(ns, other.address);
    for (let i = 0; i < 2; i++) expect(call("DEL", sandbox("old"))).toEqual({ code: 0, printed: null });
    expect(await allocated()).toEqual(["cni.new.eth0"]);
    await answers(ns, other.address);
    expect(call("CHECK", sandbox("old"))).toMatchObject({ code: 1, printed: { code: 100 } });
  });

  test("GC removes what the runtime does not name; DEL works without a namespace", async () => {
    expect(call("ADD", { ...sandbox("third"), CNI_ARGS: "" }).code).toBe(0);
    const valid = [{ containerID: "third", ifname: "eth0" }];
    expect(call("GC", {}, { cniVersion: "1.1.0", "cni.dev/valid-attachments": valid }).code).toBe(0);
    expect(await allocated()).toEqual(["cni.third.eth0"]);
    await cluster.net.deleteNetns(`${cluster.net.prefix}-third`);
    expect(call("DEL", { ...sandbox("third"), CNI_NETNS: "" }).code).toBe(0);
    expect(await allocated()).toEqual([]);
    const kept = JSON.parse(readFileSync(join(cluster.node(KUBELET!).stateDir, "cni.json"), "utf8"));
    expect(kept.attachments).toEqual([]);
  });

  test("refuses what is none, in the specification's words", async () => {
    expect(call("ADD", sandbox("nowhere"))).toMatchObject({
      code: 1,
      printed: { code: 100, msg: expect.stringContaining("is no network namespace") },
    });
    expect(call("ADD", { CNI_CONTAINERID: "a" })).toMatchObject({ code: 1, printed: { code: 4 } });
    expect(call("ADD", sandbox("new"), { cniVersion: "0.2.0" })).toMatchObject({ printed: { code: 1 } });
    expect(await allocated()).toEqual([]);
  });

  test("its socket goes with the agent, and cleanup takes the rest", async () => {
    expect(call("ADD", sandbox("new")).code).toBe(0);
    const { stateDir } = cluster.node(KUBELET!);
    await cluster.endAgent(KUBELET!, "SIGTERM");
    expect(existsSync(join(stateDir, "cni.sock"))).toBe(false);
    const { code, stderr } = await cluster.podwire(KUBELET!, ["cleanup", "-d", stateDir]);
    expect(code, stderr).toBe(0);
    expect(existsSync(stateDir)).toBe(false);
    expect(await cluster.net.ipJson(`${cluster.net.prefix}-new`, "link", "show")).toHaveLength(1);
  });
});
