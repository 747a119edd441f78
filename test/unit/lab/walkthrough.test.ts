import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { podsOf } from "../../../src/lab/cluster.js";
import { manifest } from "../../../src/lab/plan.js";
import {
  applicationOf,
  DAEMON_SETS,
  IMAGES,
  labelOf,
  NODES,
  POD_POOL,
  SERVICE_MANIFESTS,
  SERVICES,
} from "../../../src/lab/walkthrough.js";

interface Manifest {
  kind: string;
  metadata: { name: string };
  spec: Record<string, unknown>;
}

function documents(name: string): Manifest[] {
  return parseAllDocuments(readFileSync(manifest(name), "utf8")).map((each) => each.toJS() as Manifest);
}

describe("the facts of the walkthrough", () => {
  it("has the four nodes with their blocks", () => {
    expect(NODES.map(({ name, address, block }) => `${name} ${address} ${block}`)).toEqual([
      "k8s-master 192.168.2.30 10.1.235.192/26",
      "k8s-worker01 192.168.2.31 10.1.79.64/26",
      "k8s-worker02 192.168.2.32 10.1.69.192/26",
      "k8s-worker03 192.168.2.33 10.1.39.192/26",
    ]);
    for (const node of NODES) expect(node.block).toBe(`${node.tunnelAddress}/26`);
  });

  it("knows what images stand for", () => {
    expect(["nginx", "nginx:latest", "docker.io/library/redis:7@sha256:00"].map(applicationOf)).toEqual([
      "nginx",
      "nginx",
      "redis",
    ]);
    expect(applicationOf("shotaohtsuka/my-httpd-image")).toBe("apache");
    expect(["busybox", "example.org:5000/nginx", ""].map(applicationOf)).toEqual([null, null, null]);
  });
});

describe("manifests", () => {
  it("pin each node's block", () => {
    const blocks = documents("pool");
    const pool = blocks.pop();
    expect(pool).toMatchObject({ kind: "IPPool", spec: { cidr: POD_POOL, blockSize: 26 } });
    expect(blocks.map(({ metadata, spec }) => [metadata.name, spec])).toEqual(
      NODES.map(({ name, block }) => [
        block.replace(/[./]/g, "-"),
        { cidr: block, node: name, affinityState: "confirmed", pinned: true },
      ]),
    );
  });

  it.each([2, 3, 4] as const)("step %i: names, types, selectors and ports of the walkthrough", (step) => {
    const type = { 2: "ClusterIP", 3: "NodePort", 4: "LoadBalancer" }[step];
    expect(
      documents(SERVICE_MANIFESTS[step]).map(({ kind, metadata, spec }) => [kind, metadata, spec]),
    ).toEqual(
      SERVICES[step].map(({ name, application, l4Port, nodePort }) => [
        "Service",
        { name },
        {
          type,
          selector: { name: application },
          ports: [
            { port: l4Port, targetPort: IMAGES[application].l4Port, ...(nodePort === 0 ? {} : { nodePort }) },
          ],
        },
      ]),
    );
  });

  it.each(DAEMON_SETS)("$name: labels, image and port of the walkthrough", ({ name, application }) => {
    const [daemonSet, ...more] = documents(name);
    expect(more).toEqual([]);
    expect(daemonSet).toMatchObject({ kind: "DaemonSet", metadata: { name } });
    const { template, selector } = daemonSet!.spec as {
      selector: object;
      template: { metadata: object; spec: { containers: { image: string; ports: object[] }[] } };
    };
    expect(selector).toEqual({ matchLabels: { name: application } });
    expect(template.metadata).toEqual({ labels: { name: application } });
    const [container] = template.spec.containers;
    expect(applicationOf(container!.image)).toBe(application);
    expect(container!.ports).toEqual([{ containerPort: IMAGES[application].l4Port }]);
  });
});

describe("pods of the API", () => {
  const item = (name: string, set: string, nodeName: string, image: string, more: object = {}) => ({
    kind: "Pod",
    metadata: {
      uid: `uid-${name}`,
      name,
      namespace: "default",
      ownerReferences: [{ kind: "DaemonSet", name: set }],
      ...more,
    },
    spec: { nodeName, containers: [{ image }] },
    status: { podIP: "10.1.79.66" },
  });

  it("are those of the DaemonSets, in the walkthrough's order", () => {
    const pods = podsOf([
      item("redis-ds-b", "redis-ds", "k8s-master", "redis"),
      item("apache-ds-b", "apache-ds", "k8s-worker01", "shotaohtsuka/my-httpd-image"),
      item("nginx-ds-b", "nginx-ds", "k8s-worker03", "nginx:latest"),
      item("nginx-ds-c", "nginx-ds", "k8s-master", "nginx:latest"),
      item("nginx-ds-old", "nginx-ds", "k8s-master", "nginx", { deletionTimestamp: "2024-01-01T00:00:00Z" }),
      item("mine", "other-ds", "k8s-master", "nginx"),
    ]);
    expect(pods.map(({ label, name }) => `${label} ${name}`)).toEqual([
      "n0 nginx-ds-c",
      "n3 nginx-ds-b",
      "a1 apache-ds-b",
      "r0 redis-ds-b",
    ]);
    expect(pods[2]).toEqual({
      uid: "uid-apache-ds-b",
      namespace: "default",
      name: "apache-ds-b",
      label: labelOf("apache", "k8s-worker01"),
      application: "apache",
      l4Port: 90,
      address: "10.1.79.66",
      node: "k8s-worker01",
    });
  });
});
