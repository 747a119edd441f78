import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import { parseConfig } from "../../../src/agent/config.js";
import {
  agentConfig,
  allNamespaces,
  asNobody,
  findPlace,
  hostBatch,
  inNamespace,
  LAB_DIRECTORY,
  lanBatch,
  macOf,
  programCommand,
  programConfig,
} from "../../../src/lab/plan.js";
import { NODES, PC, PODS } from "../../../src/lab/walkthrough.js";

describe("namespaces", () => {
  it("has one for the LAN, each node, the pc and each pod", () => {
    const names = allNamespaces();
    expect(names).toHaveLength(1 + 4 + 1 + 12);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain("podwire-k8s-master");
    expect(names).toContain(`podwire-pod-${PODS[0]!.name}`);
    for (const name of names) expect(name).toMatch(/^podwire-/);
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

describe("agent configuration", () => {
  it("describes the node, the other nodes and its own pods", () => {
    expect(parse(agentConfig(NODES[1]!))).toEqual({
      node: "k8s-worker01",
      stateDir: `${LAB_DIRECTORY}/nodes/k8s-worker01/state`,
      underlay: { address: "192.168.2.31" },
      podPool: "10.1.0.0/16",
      blocks: ["10.1.79.64/26"],
      vteps: [
        { node: "k8s-master", address: "192.168.2.30", blocks: ["10.1.235.192/26"] },
        { node: "k8s-worker02", address: "192.168.2.32", blocks: ["10.1.69.192/26"] },
        { node: "k8s-worker03", address: "192.168.2.33", blocks: ["10.1.39.192/26"] },
      ],
      pods: PODS.filter((pod) => pod.node === "k8s-worker01").map((pod) => ({
        name: `default/${pod.name}`,
        netns: `/run/netns/podwire-pod-${pod.name}`,
        address: pod.address,
      })),
    });
  });
});

describe("agent configuration as the agent reads it", () => {
  it.each(NODES)("has no problem on $name, and the defaults are the walkthrough's", (node) => {
    const { config } = parseConfig("agent.yaml", agentConfig(node));
    expect(config.tunnelAddress).toBe(node.tunnelAddress);
    expect(config.underlay).toMatchObject({ port: 4789, vni: 4096 });
    expect(config.pods).toHaveLength(3);
  });
});

describe("programs", () => {
  it("listen on the pod's port and keep to the pod's directory", () => {
    const listen = { nginx: "listen 0.0.0.0:80;", apache: "Listen 0.0.0.0:90", redis: "port 6379" };
    for (const pod of PODS) {
      const config = programConfig(pod);
      expect(config).toContain(listen[pod.application]);
      expect(config).toContain(`${LAB_DIRECTORY}/pods/${pod.name}/`);
      expect(programCommand(pod)).toContain(`${LAB_DIRECTORY}/pods/${pod.name}/program.conf`);
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
    ["nginx-ds-x7k2p", "podwire-pod-nginx-ds-x7k2p"],
    ["nginx-ds-x", "podwire-pod-nginx-ds-x7k2p"],
    ["n0", "podwire-pod-nginx-ds-x7k2p"],
    ["R3", `podwire-pod-${PODS[11]!.name}`],
    ["k8s-m", "podwire-k8s-master"],
  ])("finds %s", (name, namespace) => {
    expect(findPlace(name)).toMatchObject({ namespace });
  });

  it("names the choices when a beginning fits several", () => {
    expect(findPlace("k8s-worker")).toEqual({
      problem: '"k8s-worker" could be k8s-worker01, k8s-worker02, k8s-worker03',
    });
  });

  it.each(["", "x", "k8s-worker04"])("says that there is no %j", (name) => {
    expect(findPlace(name)).toHaveProperty("problem", expect.stringContaining(`no "${name}" here`));
  });
});
