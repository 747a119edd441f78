import { describe, expect, it } from "vitest";
import { NODES, PODS } from "../../../src/lab/walkthrough.js";

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

  it("gives each node's pods the addresses behind its tunnel address", () => {
    const of = (node: string) => PODS.filter((pod) => pod.node === node).map((pod) => pod.address);
    expect(of("k8s-master")).toEqual(["10.1.235.193", "10.1.235.194", "10.1.235.195"]);
    expect(of("k8s-worker01")).toEqual(["10.1.79.65", "10.1.79.66", "10.1.79.67"]);
    expect(of("k8s-worker02")).toEqual(["10.1.69.193", "10.1.69.194", "10.1.69.195"]);
    expect(of("k8s-worker03")).toEqual(["10.1.39.193", "10.1.39.194", "10.1.39.195"]);
  });

  it("names twelve pods as a DaemonSet controller would", () => {
    expect(new Set(PODS.map((pod) => pod.name)).size).toBe(12);
    expect(new Set(PODS.map((pod) => pod.label)).size).toBe(12);
    for (const pod of PODS) {
      expect(pod.name).toMatch(/^(nginx|apache|redis)-ds-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    }
    expect(new Set(PODS.map((pod) => `${pod.application} ${pod.l4Port}`))).toEqual(
      new Set(["nginx 80", "apache 90", "redis 6379"]),
    );
  });
});
