import { describe, expect, it } from "vitest";
import { answerMatrix, examples, failures, spreadLines } from "../../../src/lab/render.js";
import {
  answeredBy,
  type ServiceResult,
  serviceCommand,
  serviceProbes,
  spreadOf,
  unasked,
} from "../../../src/lab/serviceWalk.js";
import { SERVICES } from "../../../src/lab/walkthrough.js";
import { PODS } from "../../support/labPods.js";

const CLUSTER_IPS = new Map([
  ["clusterip-nginx-ds", "10.152.183.10"],
  ["clusterip-apache2-ds", "10.152.183.11"],
  ["clusterip-redis-ds", "10.152.183.12"],
]);
const [nginx, , , , apache, , , , redis] = PODS;
const clusterIps = serviceProbes(2, PODS, CLUSTER_IPS);
const nodePorts = serviceProbes(3, PODS, CLUSTER_IPS);
const said = (code: number, stdout: string, stderr = "") => ({ code, stdout, stderr });

describe("what is asked", () => {
  it("every ClusterIP by nodes, pods and the pc, which is not to be answered", () => {
    expect(clusterIps).toHaveLength((4 + 12 + 1) * 3);
    const silent = clusterIps.filter(({ answers }) => !answers);
    expect(silent.map(({ from, address, l4Port }) => `${from.name} ${address}:${l4Port}`)).toEqual([
      "pc 10.152.183.10:80",
      "pc 10.152.183.11:90",
      "pc 10.152.183.12:6379",
    ]);
  });

  it("every NodePort at every node, by the pc and the nodes", () => {
    expect(nodePorts).toHaveLength(5 * 4 * 3);
    expect(nodePorts.every(({ answers }) => answers)).toBe(true);
    expect(new Set(nodePorts.map(({ address, l4Port }) => `${address}:${l4Port}`)).size).toBe(12);
  });

  it("every load-balancer address by the pc, nodes and pods", () => {
    const addresses = new Map(
      SERVICES[4].map(({ name }, i) => [name, `192.168.2.${36 + i}`] as [string, string]),
    );
    const probes = serviceProbes(4, PODS, addresses);
    expect(probes).toHaveLength((1 + 4 + 12) * 3);
    expect(probes.every(({ answers }) => answers)).toBe(true);
    expect(
      probes.slice(0, 3).map(({ from, address, l4Port }) => `${from.name} ${address}:${l4Port}`),
    ).toEqual(["pc 192.168.2.36:8080", "pc 192.168.2.37:9090", "pc 192.168.2.38:6379"]);
  });

  it("redis for the name that its pod was given, the others for their page", () => {
    const [first, , last] = nodePorts;
    expect(serviceCommand(first!).at(-1)).toBe("http://192.168.2.30:30080/");
    expect(serviceCommand(last!)).toEqual(["redis-cli", "-h", "192.168.2.30", "-p", "30379", "GET", "pod"]);
  });
});

describe("who answered", () => {
  it("is one of the Service's own pods", () => {
    const [web, , cache] = clusterIps;
    expect(answeredBy(web!, PODS, said(0, "nginx-ds-x7k2b on k8s-master\n"))).toBe(nginx);
    expect(answeredBy(cache!, PODS, said(0, "redis-ds-x7k2b\n"))).toBe(redis);
    expect(answeredBy(web!, PODS, said(0, "apache-ds-x7k2b on k8s-master\n"))).toBeUndefined();
    expect(answeredBy(web!, PODS, said(0, "nginx-ds-x7k2b on k8s-worker01\n"))).toBeUndefined();
    expect(answeredBy(web!, PODS, said(7, "nginx-ds-x7k2b on k8s-master\n"))).toBeUndefined();
  });

  it("is told for each Service, and a pod that never answers is", () => {
    const results: ServiceResult[] = clusterIps.map((probe) => ({
      ...probe,
      pods: probe.answers ? PODS.filter(({ application }) => application === probe.service.application) : [],
      said: "",
      reason: "",
    }));
    const spread = spreadOf(2, PODS, results);
    expect(spreadLines(spread).split("\n")[0]).toBe("clusterip-nginx-ds    n0 16, n1 16, n2 16, n3 16");
    expect(unasked(spread)).toEqual([]);
    const without = results.map((each) => ({ ...each, pods: each.pods.filter((pod) => pod !== apache) }));
    expect(unasked(spreadOf(2, PODS, without))).toEqual([
      "clusterip-apache2-ds: no answer from apache-ds-x7k2b",
    ]);
  });
});

describe("tables", () => {
  const result = (index: number, change: Partial<ServiceResult>): ServiceResult => ({
    ...clusterIps[index]!,
    pods: [],
    said: "",
    reason: "",
    ...change,
  });
  const results = [
    result(0, { pods: [nginx!, nginx!], said: "nginx-ds-x7k2b on k8s-master\n" }),
    result(1, { reason: "no", said: "curl: (7) no\n" }),
    result(2, {}),
  ];

  it("hold the pods that answered", () => {
    expect(answerMatrix(results, false)).toBe(
      [
        "            clusterip-nginx-ds  clusterip-apache2-ds  clusterip-redis-ds",
        "k8s-master  n0 n0               ✗                     no answer",
      ].join("\n"),
    );
    expect(answerMatrix(results, true)).toContain("\u001b[32mn0 n0\u001b[0m");
  });

  it("have a row for each node that is asked", () => {
    const rows = answerMatrix(
      nodePorts.map((probe) => ({ ...probe, pods: [], said: "", reason: "" })),
      false,
    ).split("\n");
    expect(rows).toHaveLength(1 + 20);
    expect(rows[2]).toMatch(/^pc → 192\.168\.2\.31 /);
  });

  it("come with commands and what they print, and with what failed", () => {
    expect(examples(results).split("\n").slice(0, 4)).toEqual([
      "k8s-master$ curl http://10.152.183.10:80/",
      "nginx-ds-x7k2b on k8s-master",
      "k8s-master$ curl http://10.152.183.11:90/",
      "curl: (7) no",
    ]);
    expect(failures(results, 5)).toEqual(["k8s-master → clusterip-apache2-ds (10.152.183.11:90): no"]);
  });
});
