import { describe, expect, it } from "vitest";
import {
  ADMIN_KUBECONFIG,
  agentArguments,
  asNobody,
  findPlace,
  fixedNamespaces,
  hostBatch,
  inNamespace,
  isNode,
  joinArguments,
  kubeEnvironment,
  LAB_DIRECTORY,
  lanBatch,
  macOf,
  ourNamespaces,
  podNamespace,
  programCommand,
  programConfig,
} from "../../../src/lab/plan.js";
import { NODES, PC } from "../../../src/lab/walkthrough.js";
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
    const pod = podNamespace({ namespace: "default", name: "nginx-ds-abcde" });
    expect(pod).toBe("podwire-pod-default.nginx-ds-abcde");
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
      `agent --kubeconfig ${kubeconfig} --node k8s-worker01 --underlay-address 192.168.2.31 ` +
        `--state-dir ${LAB_DIRECTORY}/nodes/k8s-worker01/state --pod-netns /run/netns/podwire-pod-{namespace}.{name}`,
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

describe("programs", () => {
  it("listen on the pod's port and keep to the pod's directory", () => {
    const listen = { nginx: "listen 0.0.0.0:80;", apache: "Listen 0.0.0.0:90", redis: "port 6379" };
    for (const pod of PODS) {
      const config = programConfig(pod);
      expect(config).toContain(listen[pod.application]);
      expect(config).toContain(`${LAB_DIRECTORY}/pods/default.${pod.name}/`);
      expect(programCommand(pod)).toContain(`${LAB_DIRECTORY}/pods/default.${pod.name}/program.conf`);
    }
  });

  it("run as nobody, with and without root", () => {
    expect(asNobody(["nginx"], false)).toEqual([
      "setpriv",
      "--reuid=65534",
      "--regid=65534",
      "--clear-groups",
      "--no-new-privs",
      "--",
      "nginx",
    ]);
    expect(asNobody(["nginx"], true)).toEqual([
      "unshare",
      "--user",
      "--map-user=65534",
      "--map-group=65534",
      "--",
      "nginx",
    ]);
  });

  it("run in a namespace", () => {
    expect(inNamespace("podwire-pc", ["true"])).toEqual(["ip", "netns", "exec", "podwire-pc", "true"]);
  });
});

describe("findPlace", () => {
  it.each([
    ["k8s-master", "podwire-k8s-master"],
    ["pc", "podwire-pc"],
    ["lan", "podwire-lan"],
    ["nginx-ds-x7k2b", "podwire-pod-default.nginx-ds-x7k2b"],
    ["redis-ds-x7k2c", "podwire-pod-default.redis-ds-x7k2c"],
    ["n0", "podwire-pod-default.nginx-ds-x7k2b"],
    ["R3", `podwire-pod-default.${PODS[11]!.name}`],
    ["k8s-m", "podwire-k8s-master"],
  ])("finds %s", (name, namespace) => {
    expect(findPlace(name, PODS)).toMatchObject({ namespace });
  });

  it("names the choices when a beginning fits several", () => {
    expect(findPlace("k8s-worker", PODS)).toEqual({
      problem: '"k8s-worker" could be k8s-worker01, k8s-worker02, k8s-worker03',
    });
  });

  it.each(["", "x", "k8s-worker04"])("says that there is no %j", (name) => {
    expect(findPlace(name, PODS)).toHaveProperty("problem", expect.stringContaining(`no "${name}" here`));
  });

  it("names the pods when a label fits several, and those of other namespaces in full", () => {
    const other = { ...PODS[0]!, namespace: "test", name: "nginx-abcde" };
    expect(findPlace("n0", [...PODS, other])).toEqual({
      problem: '"n0" could be nginx-ds-x7k2b, test/nginx-abcde',
    });
    expect(findPlace("test/nginx", [...PODS, other])).toMatchObject({ name: "test/nginx-abcde" });
  });

  it("tells nodes from the rest", () => {
    const nodes = ["k8s-worker03", "pc", "lan", "n0"].map((name) => {
      const place = findPlace(name, PODS);
      return "problem" in place ? null : isNode(place);
    });
    expect(nodes).toEqual([true, false, false, false]);
  });
});
