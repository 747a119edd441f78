import { describe, expect, test } from "vitest";
import { ServiceAllocator } from "../../../src/controllers/ServiceAllocator.js";
import { prepareService } from "../../../src/controllers/serviceFields.js";
import type { Service } from "../../../src/kube/types.js";
import { service } from "./objects.js";

const allocator = (range = "10.152.183.0/24") =>
  new ServiceAllocator({ serviceRange: range, random: () => 0 });
const nodePort = (name: string, port?: number, extra: object = {}): Service =>
  service(name, {
    type: "NodePort",
    ports: [{ port: 80, protocol: "TCP", ...(port && { nodePort: port }) }],
    ...extra,
  });

describe("addresses", () => {
  test("the API's address is the first, automatic ones come from behind the reserved part", () => {
    const a = allocator();
    expect(a.apiAddress).toBe("10.152.183.1");
    const s = service("a");
    expect(a.allocate(s)).toEqual([]);
    expect(s.spec).toMatchObject({
      clusterIP: "10.152.183.17",
      clusterIPs: ["10.152.183.17"],
      ipFamilies: ["IPv4"],
      ipFamilyPolicy: "SingleStack",
    });
  });

  test("the upper part first, then the lower one, then the range is full", () => {
    const a = allocator("192.0.2.0/27");
    const got: string[] = [];
    for (let i = 0; i < 30; i++) {
      const s = service(`s${i}`);
      expect(a.allocate(s)).toEqual([]);
      got.push(s.spec!.clusterIP!);
    }
    expect(got[0]).toBe("192.0.2.17");
    expect(got[13]).toBe("192.0.2.30");
    expect(got[14]).toBe("192.0.2.1");
    expect(new Set(got).size).toBe(30);
    const s = service("one-more");
    expect(a.allocate(s)).toEqual([
      { type: "InternalError", field: "", detail: "failed to allocate a serviceIP: range is full" },
    ]);
    expect(s.spec!.clusterIP).toBeUndefined();
  });

  test.each([
    [
      "10.152.183.7",
      'Invalid value: []string{"10.152.183.7"}: failed to allocate IP 10.152.183.7: provided IP is already allocated',
    ],
    [
      "10.1.2.3",
      'Invalid value: []string{"10.1.2.3"}: failed to allocate IP 10.1.2.3: the provided IP (10.1.2.3) is not in the valid range. The range of valid IPs is 10.152.183.0/24',
    ],
    [
      "10.152.183.0",
      'Invalid value: []string{"10.152.183.0"}: failed to allocate IP 10.152.183.0: the provided IP (10.152.183.0) is not in the valid range. The range of valid IPs is 10.152.183.0/24',
    ],
  ])("%s is refused in Kubernetes' words", (clusterIP, detail) => {
    const a = allocator();
    expect(a.allocate(service("first", { clusterIP: "10.152.183.7" }))).toEqual([]);
    const s = service("second", { clusterIP, clusterIPs: [clusterIP] });
    expect(a.allocate(s)).toEqual([{ type: "FieldValueInvalid", field: "spec.clusterIPs", detail }]);
  });

  test.each([
    ["None", { clusterIP: "None", clusterIPs: ["None"] }, "None"],
    ["ExternalName", { type: "ExternalName" as const, externalName: "example.com" }, undefined],
  ])("%s gets none", (_, spec, clusterIP) => {
    const s = service("s", spec);
    expect(allocator().allocate(s)).toEqual([]);
    expect(s.spec!.clusterIP).toBe(clusterIP);
  });

  test("families that the cluster has not", () => {
    const a = allocator();
    expect(a.allocate(service("s", { ipFamilyPolicy: "RequireDualStack" }))[0]?.detail).toBe(
      'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
    );
    expect(a.allocate(service("s", { ipFamilies: ["IPv6"] }))).toEqual([
      {
        type: "FieldValueInvalid",
        field: "spec.ipFamilies[0]",
        detail: 'Invalid value: "IPv6": not configured on this cluster',
      },
    ]);
    const headless = service("h", { clusterIP: "None", selector: {} });
    a.allocate(headless);
    expect(headless.spec!.ipFamilies).toEqual(["IPv4", "IPv6"]);
  });
});

describe("node ports", () => {
  test("automatic ones come from behind the reserved 86", () => {
    const s = nodePort("s");
    expect(allocator().allocate(s)).toEqual([]);
    expect(s.spec!.ports![0]!.nodePort).toBe(30086);
  });

  test.each([
    [30080, "Invalid value: 30080: provided port is already allocated"],
    [
      80,
      "Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
    ],
  ])("%i is refused", (port, detail) => {
    const a = allocator();
    a.allocate(nodePort("first", 30080));
    const s = nodePort("second", port);
    expect(a.allocate(s)).toEqual([{ type: "FieldValueInvalid", field: "spec.ports[0].nodePort", detail }]);
    // Nothing of the failed one stays taken, nor in the object.
    expect(s.spec!.clusterIP).toBeUndefined();
    const third = service("third");
    a.allocate(third);
    expect(third.spec!.clusterIP).toBe("10.152.183.18");
  });

  test("one number for all protocols of a port; a health check port under policy Local", () => {
    const s = service("dns", {
      type: "LoadBalancer",
      externalTrafficPolicy: "Local",
      ports: [
        { name: "u", port: 53, protocol: "UDP" },
        { name: "t", port: 53, protocol: "TCP" },
      ],
    });
    expect(allocator().allocate(s)).toEqual([]);
    expect(s.spec!.ports!.map((each) => each.nodePort)).toEqual([30086, 30086]);
    expect(s.spec!.healthCheckNodePort).toBe(30087);
  });

  test("allocateLoadBalancerNodePorts: false", () => {
    const s = service("s", { type: "LoadBalancer", allocateLoadBalancerNodePorts: false });
    expect(allocator().allocate(s)).toEqual([]);
    expect(s.spec!.ports![0]!.nodePort).toBeUndefined();
  });
});

describe("over time", () => {
  test("a release frees once, and never what is another's", () => {
    const a = allocator();
    const first = nodePort("first", 30080, { clusterIP: "10.152.183.7" });
    a.allocate(first);
    a.release(first);
    const second = nodePort("second", 30080, { clusterIP: "10.152.183.7" });
    expect(a.allocate(second)).toEqual([]);
    a.release(first);
    expect(a.allocate(nodePort("third", 30080))).toHaveLength(1);
  });

  test("an update keeps the old values until it is written", () => {
    const a = allocator();
    const old = nodePort("s", 30080);
    a.allocate(old);
    const next = structuredClone(old);
    next.spec!.ports![0]!.nodePort = 30090;
    expect(a.allocate(next, old)).toEqual([]);
    expect(a.allocate(nodePort("other", 30080))).toHaveLength(1);
    a.revert(next, old);
    expect(a.allocate(nodePort("other", 30090))).toEqual([]);
    const again = structuredClone(old);
    again.spec!.ports![0]!.nodePort = 30091;
    a.allocate(again, old);
    a.committed(again, old);
    expect(a.allocate(nodePort("another", 30080))).toEqual([]);
  });

  test("rebuild takes what is there and names doubles", () => {
    const a = allocator();
    const one = nodePort("one", 30080, { clusterIP: "10.152.183.7" });
    const two = nodePort("two", 30080, { clusterIP: "10.152.183.7" });
    const far = service("far", { clusterIP: "10.9.9.9" });
    expect(a.rebuild([one, two, far]).map(({ service: s, reason }) => [s, reason])).toEqual([
      ["default/two", "ClusterIPAlreadyAllocated"],
      ["default/two", "PortAlreadyAllocated"],
      ["default/far", "ClusterIPOutOfRange"],
    ]);
    expect(a.rebuild([one])).toEqual([]);
    expect(a.allocate(nodePort("new", 30080))).toHaveLength(1);
  });
});

describe("fields before validation", () => {
  const old = service("s", {
    type: "NodePort",
    clusterIP: "10.152.183.7",
    clusterIPs: ["10.152.183.7"],
    ipFamilies: ["IPv4"],
    ports: [{ port: 80, protocol: "TCP", nodePort: 30080 }],
  });

  test("a replacement without the allocated values keeps them", () => {
    const next = service("s", { type: "NodePort", ports: [{ port: 80, protocol: "TCP" }] });
    prepareService(next, old);
    expect(next.spec).toMatchObject({ clusterIP: "10.152.183.7", ports: [{ nodePort: 30080 }] });
  });

  test("a ClusterIP service has no node ports, an ExternalName no address", () => {
    const cluster = structuredClone(old);
    cluster.spec!.type = "ClusterIP";
    prepareService(cluster, old);
    expect(cluster.spec!.ports).toEqual([{ port: 80, protocol: "TCP" }]);
    const external = structuredClone(old);
    external.spec!.type = "ExternalName";
    prepareService(external, old);
    expect(external.spec!.clusterIP).toBeUndefined();
    expect(external.spec!.clusterIPs).toBeUndefined();
  });
});
