import { describe, expect, it } from "vitest";
import {
  ADMIN_KUBECONFIG,
  agentArguments,
  findPlace,
  fixedNamespaces,
  hostBatch,
  inNamespace,
  inNetwork,
  isNode,
  joinArguments,
  kubeEnvironment,
  LAB_DIRECTORY,
  lanBatch,
  macOf,
  ourNamespaces,
  type PlacedPod,
  podNamespace,
} from "../../../src/lab/plan.js";
import { IMAGES, NODES, PC } from "../../../src/lab/walkthrough.js";
import { PODS } from "../../support/labPods.js";

describe("namespaces", () => {
  it("has one for the LAN, each node and the pc from the start", () => {
    const names = fixedNamespaces();
    expect(names).toHaveLength(1 + 4 + 1);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain("podwire-k8s-master");
    for (const name of names) expect(name).toMatch(/^podwire-/);
  });

  it("recognises its own, pods last", () => {
    const pod = podNamespace({ uid: "5f0c" });
    expect(pod).toBe("podwire-pod-5f0c");
    expect(ourNamespaces([pod, "other", "podwire-else", "podwire-pc", "podwire-lan"])).toEqual([
      "podwire-lan",
      "podwire-pc",
      pod,
    ]);
  });

  it("runs a cable from the bridge to every machine, with names the kernel accepts", () => {
    const lines = lanBatch();
    for (const { name, address } of [...NODES, PC]) {
      expect(name.length).toBeLessThan(16);
      expect(lines).toContain(
        `link add name ${name} mtu 1500 type veth peer name eth0 mtu 1500 address ${macOf(address)} netns podwire-${name}`,
      );
      expect(lines).toContain(`link set dev ${name} master br0 up`);
    }
  });

  it("derives a MAC from an address", () => {
    expect(macOf("192.168.2.30")).toBe("02:00:c0:a8:02:1e");
  });

  it("addresses a machine", () => {
    expect(hostBatch("192.168.2.31")).toContain("address add 192.168.2.31/24 brd + dev eth0");
  });
});

describe("command lines", () => {
  it("let a node join, and start its agent", () => {
    const node = NODES[1]!;
    const kubeconfig = `${LAB_DIRECTORY}/nodes/k8s-worker01/kubeconfig`;
    expect(joinArguments(node, "abcdef.0123456789abcdef", "sha256:00").join(" ")).toBe(
      `join --server https://192.168.2.30:6443 --token abcdef.0123456789abcdef --ca-hash sha256:00 --node k8s-worker01 --kubeconfig ${kubeconfig}`,
    );
    expect(agentArguments(node).join(" ")).toBe(
      `agent --run-pods --kubeconfig ${kubeconfig} --node k8s-worker01 --underlay-address 192.168.2.31 ` +
        `--state-dir ${LAB_DIRECTORY}/nodes/k8s-worker01/state --pod-netns /run/netns/podwire-pod-{uid} ` +
        `--runtime-dir ${LAB_DIRECTORY}/nodes/k8s-worker01/runtime`,
    );
  });

  it("give kubectl the lab's API server, past any proxy, and a cache of its own", () => {
    expect(kubeEnvironment({ HTTPS_PROXY: "http://proxy", no_proxy: "localhost" })).toEqual({
      HTTPS_PROXY: "http://proxy",
      KUBECONFIG: ADMIN_KUBECONFIG,
      KUBECACHEDIR: `${LAB_DIRECTORY}/kubectl-cache`,
      NO_PROXY: "localhost,192.168.2.30",
      no_proxy: "localhost,192.168.2.30",
    });
  });
});

describe("namespaces entered", () => {
  it("with a /sys of their own, or among our mounts", () => {
    expect(inNamespace("podwire-pc", ["true"])).toEqual(["ip", "netns", "exec", "podwire-pc", "true"]);
    expect(inNetwork("podwire-pc", ["true"])).toEqual([
      "nsenter",
      "--net=/run/netns/podwire-pc",
      "--",
      "true",
    ]);
  });
});

const PLACED: readonly PlacedPod[] = PODS.map(({ application, ...pod }) => ({
  ...pod,
  containers: [{ image: IMAGES[application].repository }],
}));

describe("findPlace", () => {
  it.each([
    ["k8s-master", "podwire-k8s-master"],
    ["pc", "podwire-pc"],
    ["lan", "podwire-lan"],
    ["nginx-ds-x7k2b", `podwire-pod-${PODS[0]!.uid}`],
    ["redis-ds-x7k2c", `podwire-pod-${PODS[9]!.uid}`],
    ["n0", `podwire-pod-${PODS[0]!.uid}`],
    ["R3", `podwire-pod-${PODS[11]!.uid}`],
    ["k8s-m", "podwire-k8s-master"],
  ])("finds %s", (name, namespace) => {
    expect(findPlace(name, PLACED)).toMatchObject({ namespace });
  });

  it("names the choices when a beginning fits several", () => {
    expect(findPlace("k8s-worker", PLACED)).toEqual({
      problem: '"k8s-worker" could be k8s-worker01, k8s-worker02, k8s-worker03',
    });
  });

  it.each(["", "x", "k8s-worker04"])("says that there is no %j", (name) => {
    expect(findPlace(name, PLACED)).toHaveProperty("problem", expect.stringContaining(`no "${name}" here`));
  });

  it("names the pods when a label fits several, and those of other namespaces in full", () => {
    const other = { ...PLACED[0]!, namespace: "test", name: "nginx-abcde" };
    expect(findPlace("n0", [...PLACED, other])).toEqual({
      problem: '"n0" could be nginx-ds-x7k2b, test/nginx-abcde',
    });
    expect(findPlace("test/nginx", [...PLACED, other])).toMatchObject({ name: "test/nginx-abcde" });
  });

  it("finds a pod of any image by its name", () => {
    const other = { ...PLACED[0]!, uid: "e1", name: "web", containers: [{ image: "podwire/echo" }] };
    expect(findPlace("web", [...PLACED, other])).toEqual({ name: "web", namespace: "podwire-pod-e1" });
  });

  it("tells nodes from the rest", () => {
    const nodes = ["k8s-worker03", "pc", "lan", "n0"].map((name) => {
      const place = findPlace(name, PLACED);
      return "problem" in place ? null : isNode(place);
    });
    expect(nodes).toEqual([true, false, false, false]);
  });
});
