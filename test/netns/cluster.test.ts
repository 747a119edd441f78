/**
 * Four nodes that join an API server with tokens; what is said to those that may not; and how soon a
 * node that comes, goes or moves is known to the others.
 *
 *   lan: br0, 192.168.2.0/24
 *     .30 k8s-master: apiserver, agent    .31 .32 .33 k8s-worker0N: agent    .34 k8s-worker04: comes and goes
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ClusterCa } from "../../src/apiserver/pki/ClusterCa.js";
import { kubeconfig } from "../../src/apiserver/pki/kubeconfig.js";
import { Informer } from "../../src/kube/Informer.js";
import { NODES, PODS } from "../../src/kube/resources.js";
import type { Node, Pod } from "../../src/kube/types.js";
import { TUNNEL_ADDRESS, UNDERLAY_ADDRESS } from "../../src/model/annotations.js";
import { API_ADDRESS, API_NODE, API_PORT, isReady, TestCluster } from "../support/cluster.js";
import { clusterSoak } from "../support/clusterSoak.js";
import { netnsUnavailable, waitFor } from "../support/netns.js";

const reason = netnsUnavailable();
const DAY = 86_400_000;
const WORKERS = ["k8s-worker01", "k8s-worker02", "k8s-worker03"];
const GUEST = "k8s-worker04";

describe.skipIf(reason !== "")(`a cluster of four nodes ${reason}`, () => {
  let cluster: TestCluster;
  let nodes: Informer<Node>;
  /** When each Node's annotation came to have a value, by "node key value"; performance.now(). */
  const announced = new Map<string, number>();

  beforeAll(async () => {
    cluster = await TestCluster.start();
    nodes = new Informer<Node>(cluster.kube, NODES);
    const note = ({ metadata }: Node) => {
      for (const [key, value] of Object.entries(metadata.annotations ?? {})) {
        const what = `${metadata.name} ${key} ${value}`;
        if (!announced.has(what)) announced.set(what, performance.now());
      }
    };
    nodes.addHandler({ added: note, updated: note }).start();
    await nodes.synced;
  });
  afterAll(async () => {
    await nodes?.stop();
    await cluster?.close();
  });

  const runPod = async (name: string, node: string): Promise<{ ns: string; address: string }> => {
    const spec = { nodeName: node, containers: [{ name: "pause", image: "pause" }] };
    await cluster.kube.create<Pod>(PODS, { metadata: { name, namespace: "default" }, spec });
    const pod = await waitFor(
      async () => {
        const found = await cluster.kube.get<Pod>(PODS, name, "default");
        return isReady(found) ? found : null;
      },
      { what: `pod ${name}`, deadlineMs: 30_000 },
    );
    return { ns: cluster.podNamespace(pod.metadata.uid!), address: pod.status!.podIP! };
  };
  const pings = async (ns: string, address: string) =>
    (await cluster.net.tryExec(ns, "ping", ["-n", "-c1", "-W1", address])).code === 0;
  const agrees = async () => {
    for (const name of [API_NODE, ...WORKERS]) {
      const { code, stdout, stderr } = await cluster.check(name, 20);
      expect({ name, code, stdout, stderr }).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/The API and this node agree\.\n$/),
      });
    }
  };

  test("all have joined, and every check passes", async () => {
    const { stdout } = await cluster.kubectl(["get", "node", "--no-headers"]);
    expect(stdout.match(/^k8s-\w+ +Ready +/gm)).toHaveLength(4);
    await agrees();
  });

  describe("what a stranger is told", () => {
    beforeAll(() => cluster.addMachine(GUEST, "192.168.2.34"));

    const refused = (stderr: string) =>
      expect(stderr).toBe(
        "podwire join: Unauthorized (the token is wrong or has expired: `podwire token create` makes a new one)\n",
      );

    test("a wrong token", async () => {
      const { caHash } = await cluster.token();
      const { code, stderr } = await cluster.tryJoin(GUEST, { token: "abcdef.0123456789abcdef", caHash });
      expect(code).toBe(1);
      refused(stderr);
    });

    test("a token that has expired", async () => {
      const short = await cluster.token("1s");
      const listed = async () =>
        (await cluster.podwire(API_NODE, ["token", "list", "-d", cluster.apiDirectory])).stdout;
      await waitFor(async () => !(await listed()).includes(short.token.split(".")[0]!), { what: "expiry" });
      const { code, stderr } = await cluster.tryJoin(GUEST, short);
      expect(code).toBe(1);
      refused(stderr);
    });

    test("the hash of another cluster's CA", async () => {
      const { token } = await cluster.token();
      const { code, stderr } = await cluster.tryJoin(GUEST, { token, caHash: `sha256:${"0".repeat(64)}` });
      expect(code).toBe(1);
      expect(stderr).toMatch(/has the CA sha256:[0-9a-f]{64}, not sha256:0{64}/);
    });

    test("a client certificate that has expired", async () => {
      // The cluster's own CA, as it was two years ago.
      const ca = await ClusterCa.open(join(cluster.apiDirectory, "pki"), () => Date.now() - 730 * DAY);
      const admin = await ca.issue({ commonName: "kubernetes-admin", organizations: ["system:masters"] });
      const file = join(cluster.directory, "expired.kubeconfig");
      const server = `https://${API_ADDRESS}:${API_PORT}`;
      writeFileSync(
        file,
        kubeconfig({ server, caCertificate: ca.certificate, user: "kubernetes-admin", ...admin }),
      );
      const { code, stderr } = await cluster.kubectl(["get", "pods"], file);
      expect(code).toBe(1);
      expect(stderr).toMatch(/error: You must be logged in to the server \(Unauthorized\)\n$/);
    });

    test("a manifest with a wrong field", async () => {
      const file = join(cluster.directory, "wrong.yaml");
      writeFileSync(
        file,
        `apiVersion: v1
kind: Pod
metadata: { name: wrong }
spec:
  containers: [{ name: c, imagee: nginx }]
`,
      );
      const { code, stderr } = await cluster.kubectl(["create", "-f", file]);
      expect(code).toBe(1);
      expect(stderr).toBe(
        `Error from server (BadRequest): error when creating "${file}": Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containers[0].imagee"\n`,
      );
    });
  });

  describe("the others know within a second", () => {
    /** What the others' agents send to a node by, "" where they do not know it. */
    const seenBy = async (name: string, others: string[]): Promise<string[]> => {
      const all = await Promise.all(others.map((other) => cluster.node(other).status()));
      return all.map(({ vteps }) => vteps.find(({ node }) => node === name)?.address ?? "");
    };
    /** Waits until all others have `address` for the node; says how long after `since` that was. */
    const known = async (what: string, name: string, address: string, since: () => number) => {
      const others = [API_NODE, ...WORKERS].filter((other) => other !== name);
      await waitFor(async () => (await seenBy(name, others)).every((each) => each === address), {
        what: `${what} known to all others`,
        deadlineMs: 30_000,
        intervalMs: 5,
      });
      // The condition is the test; the figure is for whoever reads the log.
      console.log(
        `${what}: known to all others after ${Math.max(0, performance.now() - since()).toFixed(0)} ms`,
      );
    };

    test("a node that comes", async () => {
      const here = await runPod("here", "k8s-worker01");
      await cluster.join(GUEST);
      cluster.startAgent(GUEST);
      const tunnel = await waitFor(() => nodes.get(GUEST)?.metadata.annotations?.[TUNNEL_ADDRESS], {
        what: "tunnel address",
        deadlineMs: 30_000,
        intervalMs: 5,
      });
      await known(
        "a node that comes",
        GUEST,
        "192.168.2.34",
        () => announced.get(`${GUEST} ${TUNNEL_ADDRESS} ${tunnel}`)!,
      );
      await waitFor(() => cluster.ready([GUEST]), { what: "Ready" });
      const there = await runPod("there", GUEST);
      await waitFor(() => pings(here.ns, there.address), { what: "answer from the new node" });
      await agrees();
    });

    test("a node that moves to another address", async () => {
      const moved = await runPod("moved", "k8s-worker02");
      const { ns } = await runPod("still", "k8s-worker03");
      await waitFor(() => pings(ns, moved.address), { what: "answer before" });
      await cluster.renumber("k8s-worker02", "192.168.2.132");
      await known(
        "a node that moves",
        "k8s-worker02",
        "192.168.2.132",
        () => announced.get(`k8s-worker02 ${UNDERLAY_ADDRESS} 192.168.2.132`)!,
      );
      await waitFor(() => pings(ns, moved.address), { what: "answer from the moved node" });
      const hostIp = async () => (await cluster.kube.get<Pod>(PODS, "moved", "default")).status?.hostIP;
      await waitFor(async () => (await hostIp()) === "192.168.2.132", { what: "the pod's hostIP" });
      await agrees();
    });

    test("a node that goes", async () => {
      await cluster.endAgent(GUEST, "SIGTERM");
      const { code, stderr } = await cluster.kubectl(["delete", "node", GUEST]);
      expect(code, stderr).toBe(0);
      const deleted = performance.now();
      await known("a node that goes", GUEST, "", () => deleted);
    });
  });
});

describe.skipIf(reason !== "")(`operations and kill -9 ${reason}`, () => {
  test("objects, addresses and routes agree afterwards, and pods reach one another", async () => {
    const result = await clusterSoak({ seed: 1, operations: 500, kills: 15, convergeMs: 120_000 });
    expect(Object.values(result.operations).reduce((sum, each) => sum + each, 0)).toBe(500);
    expect(Object.keys(result.kills).sort()).toEqual(["agent", "all", "api"]);
    expect(result.pods).toBeGreaterThan(0);
    expect(result.pings).toBeGreaterThan(0);
  }, 400_000);
});
