/**
 * Services on one node, as truth tables: a state of the cluster, and where a packet of each class
 * goes. Read through the table that the dataplane reads. Cases and their outcomes are kube-proxy's
 * (pkg/proxy/topology_test.go and the "internal and external traffic" tests of its proxiers).
 *
 * Node is node-a in zone east. Endpoint N has address 10.1.0.N and port 8080:
 *
 *   l  on this node    r  on another node
 */
import { describe, expect, test } from "vitest";
import type { EndpointSliceObject, ServiceObject } from "../../../src/desired/serviceObjects.js";
import { type SavedServices, Services, type ServicesChange } from "../../../src/desired/services.js";
import { formatIpv4, parseCidr } from "../../../src/model/ipv4.js";
import {
  BACKEND_LOCAL,
  BACKEND_OUTSIDE_POOL,
  FRONTEND_CLUSTER_IP,
  FRONTEND_EXTERNAL_IP,
  FRONTEND_LOAD_BALANCER,
  FRONTEND_LOCAL,
  FRONTEND_NODE_PORT,
  RING_DROP,
  RING_REJECT,
  SERVICE_SLOTS,
  ServiceTable,
} from "../../../src/tables/ServiceTable.js";
import { address } from "../../support/frames.js";
import { Random } from "../../support/random.js";

const TCP = 6;
const UDP = 17;
const SCTP = 132;
const CLUSTER_IP = "10.152.183.50";
const LB = "192.168.2.36";
const EXTERNAL = "203.0.113.10";
const NODE_PORT = 30080;

type Spec = NonNullable<ServiceObject["spec"]>;
type SliceEndpoint = NonNullable<EndpointSliceObject["endpoints"]>[number];

/** A Service that has every kind of address. */
function service(spec: Partial<Spec> = {}, name = "web", more: object = {}): ServiceObject {
  return {
    metadata: { name, namespace: "default" },
    spec: {
      type: "LoadBalancer",
      clusterIP: CLUSTER_IP,
      ports: [{ name: "http", protocol: "TCP", port: 80, nodePort: NODE_PORT }],
      externalIPs: [EXTERNAL],
      ...spec,
    },
    status: { loadBalancer: { ingress: [{ ip: LB, ipMode: "VIP" }] } },
    ...more,
  };
}

function slice(endpoints: SliceEndpoint[], name = "web-1", more: Partial<EndpointSliceObject> = {}) {
  return {
    metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": "web" } },
    addressType: "IPv4",
    ports: [{ name: "http", protocol: "TCP", port: 8080 }],
    endpoints,
    ...more,
  };
}

/** "l1": endpoint 1 on this node. States: ready unless said; zones and nodes as hints. */
function endpoint(text: string): SliceEndpoint {
  const [id, ...words] = text.split(" ");
  const conditions =
    words.includes("unready") || words.includes("leaving") || words.includes("gone")
      ? {
          ready: false,
          serving: words.includes("leaving"),
          terminating: words.includes("leaving") || words.includes("gone"),
        }
      : {};
  const hinted = (prefix: string) =>
    words.filter((word) => word.startsWith(prefix)).map((word) => ({ name: word.slice(prefix.length) }));
  const [forZones, forNodes] = [hinted("zone="), hinted("node=")];
  return {
    addresses: [`10.1.0.${id!.slice(1)}`],
    nodeName: id!.startsWith("l") ? "node-a" : "node-b",
    conditions,
    hints: { ...(forZones.length > 0 && { forZones }), ...(forNodes.length > 0 && { forNodes }) },
  };
}

class World {
  readonly services = new Services({ node: "node-a", externalIpRanges: [parseCidr("203.0.113.0/24")!] });
  readonly table = new ServiceTable();

  constructor() {
    this.services.setPools([parseCidr("10.1.0.0/16")!]);
    this.services.setNode({
      metadata: { name: "node-a", labels: { "topology.kubernetes.io/zone": "east" } },
    });
  }

  compile(): ServicesChange {
    const change = this.services.compile();
    this.table.adopt(change.image);
    this.services.acknowledge(change.image);
    return change;
  }

  /** "1 2": the endpoints that it may go to; or reject, drop, or none where there is no such service. */
  goes(from: "inside" | "outside", to: string, port = 80, protocol = TCP): string {
    const { table } = this;
    const row =
      to === "node" ? table.findNodePort(protocol, NODE_PORT) : table.find(address(to), protocol, port);
    if (row < 0) return "none";
    const ring = from === "inside" ? table.insideRing(row) : table.outsideRing(row);
    if (ring === RING_REJECT) return "reject";
    if (ring === RING_DROP) return "drop";
    const hit = new Set<string>();
    for (let slot = 0; slot < table.slots(ring); slot++)
      hit.add(formatIpv4(table.address(table.pick(ring, slot))).replace("10.1.0.", ""));
    return [...hit].sort().join(" ");
  }
}

function world(objects: { service?: ServiceObject; slices?: EndpointSliceObject[] }): World {
  const made = new World();
  if (objects.service !== undefined) made.services.setService(objects.service);
  for (const each of objects.slices ?? []) made.services.setSlice(each);
  made.compile();
  return made;
}

interface Case {
  name: string;
  /** Policies: internal/external. */
  policy?: `${"Cluster" | "Local"}/${"Cluster" | "Local"}`;
  endpoints: string[];
  /** Cluster IP from this node's pods, and from the node itself. */
  cluster: string;
  /** Node port, load-balancer and external address from the same. */
  inside: string;
  /** The same three from outside; a cluster IP is never reached from there. */
  outside: string;
}

const CASES: Case[] = [
  {
    name: "ready endpoints, wherever",
    endpoints: ["l1", "r2"],
    cluster: "1 2",
    inside: "1 2",
    outside: "1 2",
  },
  { name: "no endpoint anywhere", endpoints: [], cluster: "reject", inside: "reject", outside: "reject" },
  {
    name: "none that is ready",
    endpoints: ["l1 unready", "r2 unready"],
    cluster: "reject",
    inside: "reject",
    outside: "reject",
  },
  { name: "some that are ready", endpoints: ["l1 unready", "r2"], cluster: "2", inside: "2", outside: "2" },
  {
    name: "one terminates and still serves: not while others are ready",
    endpoints: ["l1 leaving", "r2"],
    cluster: "2",
    inside: "2",
    outside: "2",
  },
  {
    name: "all terminate: those that still serve",
    endpoints: ["l1 leaving", "r2 leaving", "r3 gone"],
    cluster: "1 2",
    inside: "1 2",
    outside: "1 2",
  },
  {
    name: "internal Local, some here",
    policy: "Local/Cluster",
    endpoints: ["l1", "r2"],
    cluster: "1",
    inside: "1 2",
    outside: "1 2",
  },
  {
    name: "internal Local, none here",
    policy: "Local/Cluster",
    endpoints: ["r1", "r2"],
    cluster: "drop",
    inside: "1 2",
    outside: "1 2",
  },
  {
    name: "internal Local, none anywhere",
    policy: "Local/Cluster",
    endpoints: ["r1 unready"],
    cluster: "reject",
    inside: "reject",
    outside: "reject",
  },
  {
    name: "external Local, some here: the node's own traffic is not bound by it",
    policy: "Cluster/Local",
    endpoints: ["l1", "r2"],
    cluster: "1 2",
    inside: "1 2",
    outside: "1",
  },
  {
    name: "external Local, none here",
    policy: "Cluster/Local",
    endpoints: ["r1", "r2"],
    cluster: "1 2",
    inside: "1 2",
    outside: "drop",
  },
  {
    name: "external Local, none anywhere: reject, not drop",
    policy: "Cluster/Local",
    endpoints: ["l1 unready"],
    cluster: "reject",
    inside: "reject",
    outside: "reject",
  },
  {
    name: "external Local, the one here terminates: it goes on for the outside alone",
    policy: "Cluster/Local",
    endpoints: ["r1", "l2 gone", "l3 leaving", "r4 leaving"],
    cluster: "1",
    inside: "1",
    outside: "3",
  },
  {
    name: "both Local, some here",
    policy: "Local/Local",
    endpoints: ["l1", "r2"],
    cluster: "1",
    inside: "1 2",
    outside: "1",
  },
  {
    name: "both Local, none here",
    policy: "Local/Local",
    endpoints: ["r1", "r2"],
    cluster: "drop",
    inside: "1 2",
    outside: "drop",
  },
  {
    name: "both Local, all elsewhere and terminating",
    policy: "Local/Local",
    endpoints: ["r1 leaving", "r2 leaving"],
    cluster: "drop",
    inside: "1 2",
    outside: "drop",
  },
  {
    name: "hints for zones: those for ours",
    endpoints: ["r1 zone=east", "r2 zone=west", "r3 zone=west zone=east"],
    cluster: "1 3",
    inside: "1 3",
    outside: "1 3",
  },
  {
    name: "hints for zones: none for ours",
    endpoints: ["l1 zone=west", "r2 zone=north"],
    cluster: "1 2",
    inside: "1 2",
    outside: "1 2",
  },
  {
    name: "hints for zones: one ready endpoint without",
    endpoints: ["r1 zone=east", "r2 zone=west", "r3"],
    cluster: "1 2 3",
    inside: "1 2 3",
    outside: "1 2 3",
  },
  {
    name: "hints for zones: an endpoint without that is not ready does not count",
    endpoints: ["r1 zone=east", "r2 zone=west", "r3 unready"],
    cluster: "1",
    inside: "1",
    outside: "1",
  },
  {
    name: "hints for zones: ours has only some that are not ready",
    endpoints: ["r1 zone=east unready", "r2 zone=west", "r3 zone=north"],
    cluster: "2 3",
    inside: "2 3",
    outside: "2 3",
  },
  {
    name: "hints for zones and policy Local, which knows no zones",
    policy: "Cluster/Local",
    endpoints: ["l1 zone=east", "l2 zone=west", "r3 zone=west", "r4 zone=east"],
    cluster: "1 4",
    inside: "1 4",
    outside: "1 2",
  },
  {
    name: "hints for nodes come before those for zones",
    endpoints: ["l1 node=node-a zone=east", "r2 node=node-b zone=east"],
    cluster: "1",
    inside: "1",
    outside: "1",
  },
  {
    name: "hints for nodes: none for ours, so those for zones",
    endpoints: ["r1 node=node-b zone=east", "r2 node=node-c zone=west"],
    cluster: "1",
    inside: "1",
    outside: "1",
  },
  {
    name: "hints for nodes: an endpoint without",
    endpoints: ["l1 node=node-a", "r2"],
    cluster: "1 2",
    inside: "1 2",
    outside: "1 2",
  },
];

describe("where traffic goes", () => {
  test.each(CASES)("$name", ({ policy = "Cluster/Cluster", endpoints, cluster, inside, outside }) => {
    const [internalTrafficPolicy, externalTrafficPolicy] = policy.split("/");
    const made = world({
      service: service({ internalTrafficPolicy, externalTrafficPolicy }),
      slices: [slice(endpoints.map(endpoint))],
    });
    const goes = made.goes.bind(made);
    const kinds = ["node", LB, EXTERNAL];
    expect({
      cluster: goes("inside", CLUSTER_IP),
      inside: kinds.map((to) => goes("inside", to)),
      clusterIpFromOutside: goes("outside", CLUSTER_IP),
      outside: kinds.map((to) => goes("outside", to)),
    }).toEqual({
      cluster,
      inside: [inside, inside, inside],
      clusterIpFromOutside: "drop",
      outside: [outside, outside, outside],
    });
  });

  test("without addresses for the outside its policy means nothing", () => {
    const made = world({
      service: service(
        {
          type: "ClusterIP",
          externalTrafficPolicy: "Local",
          externalIPs: [],
          ports: [{ name: "http", port: 80 }],
        },
        "web",
        { status: {} },
      ),
      slices: [slice(["r1", "l2"].map(endpoint))],
    });
    expect(made.goes("inside", CLUSTER_IP)).toBe("1 2");
    expect(made.table.flags(made.table.find(address(CLUSTER_IP), TCP, 80))).toBe(FRONTEND_CLUSTER_IP);
  });

  test("endpoints that are published before they are ready come as ready", () => {
    const made = world({
      service: service(),
      slices: [
        slice([{ ...endpoint("l1"), conditions: { ready: true, serving: false, terminating: false } }]),
      ],
    });
    expect(made.goes("inside", CLUSTER_IP)).toBe("1");
  });

  test("a zone of another name: hints are looked at again", () => {
    const made = world({
      service: service(),
      slices: [slice(["r1 zone=east", "r2 zone=west"].map(endpoint))],
    });
    expect(made.goes("inside", CLUSTER_IP)).toBe("1");
    const labels = { "topology.kubernetes.io/zone": "west" };
    expect(made.services.setNode({ metadata: { name: "node-b", labels } })).toBe(false);
    expect(made.services.setNode({ metadata: { name: "node-a", labels } })).toBe(true);
    made.compile();
    expect(made.goes("inside", CLUSTER_IP)).toBe("2");
    made.services.setNode({ metadata: { name: "node-a" } });
    made.compile();
    expect(made.goes("inside", CLUSTER_IP)).toBe("1 2");
  });
});

describe("which addresses a Service has", () => {
  const slices = [slice([endpoint("l1")])];
  const where = (made: World) =>
    [CLUSTER_IP, LB, EXTERNAL, "node"].filter((to) => made.goes("inside", to) !== "none");

  test.each<[string, ServiceObject, string[]]>([
    ["LoadBalancer", service(), [CLUSTER_IP, LB, EXTERNAL, "node"]],
    [
      "LoadBalancer without node ports",
      service({ ports: [{ name: "http", port: 80 }] }),
      [CLUSTER_IP, LB, EXTERNAL],
    ],
    ["pending", service({}, "web", { status: { loadBalancer: {} } }), [CLUSTER_IP, EXTERNAL, "node"]],
    [
      "of a load balancer that is a proxy itself",
      service({}, "web", { status: { loadBalancer: { ingress: [{ ip: LB, ipMode: "Proxy" }] } } }),
      [CLUSTER_IP, EXTERNAL, "node"],
    ],
    ["NodePort", service({ type: "NodePort", externalIPs: [] }), [CLUSTER_IP, "node"]],
    ["external address in no range", service({ externalIPs: ["198.51.100.7"] }), [CLUSTER_IP, LB, "node"]],
    ["headless", service({ clusterIP: "None", clusterIPs: ["None"] }), []],
    ["without an address yet", service({ clusterIP: "" }), []],
    ["ExternalName", service({ type: "ExternalName" }), []],
    ["IPv6 alone", service({ clusterIP: "fd00::1", clusterIPs: ["fd00::1"] }), []],
    [
      "both families, IPv6 first",
      service({ clusterIP: "fd00::1", clusterIPs: ["fd00::1", CLUSTER_IP] }),
      [CLUSTER_IP, LB, EXTERNAL, "node"],
    ],
    [
      "of another proxy",
      service({}, "web", {
        metadata: { name: "web", labels: { "service.kubernetes.io/service-proxy-name": "other" } },
      }),
      [],
    ],
    [
      "labelled headless",
      service({}, "web", { metadata: { name: "web", labels: { "service.kubernetes.io/headless": "" } } }),
      [],
    ],
  ])("%s", (_, object, expected) => {
    expect(where(world({ service: object, slices }))).toEqual(expected);
  });

  test("kinds and policy, as flags", () => {
    const made = world({ service: service({ externalTrafficPolicy: "Local" }), slices });
    const { table } = made;
    expect(table.flags(table.find(address(CLUSTER_IP), TCP, 80))).toBe(FRONTEND_CLUSTER_IP);
    expect(table.flags(table.find(address(LB), TCP, 80))).toBe(FRONTEND_LOAD_BALANCER | FRONTEND_LOCAL);
    expect(table.flags(table.find(address(EXTERNAL), TCP, 80))).toBe(FRONTEND_EXTERNAL_IP | FRONTEND_LOCAL);
    expect(table.flags(table.findNodePort(TCP, NODE_PORT))).toBe(FRONTEND_NODE_PORT | FRONTEND_LOCAL);
    expect(made.services.virtualAddresses()).toEqual([LB, EXTERNAL].map(address));
    for (const each of [CLUSTER_IP, LB, EXTERNAL]) expect(table.isServiceAddress(address(each))).toBe(true);
    expect(table.isServiceAddress(address("192.168.2.37"))).toBe(false);
  });

  test("TCP, UDP and SCTP on one port are three services", () => {
    const protocols = ["TCP", "UDP", "SCTP"];
    const made = world({
      service: service({
        ports: protocols.map((protocol) => ({ name: protocol.toLowerCase(), protocol, port: 53 })),
      }),
      slices: protocols.map((protocol, i) =>
        slice([endpoint(`l${i + 1}`)], protocol, {
          ports: [{ name: protocol.toLowerCase(), protocol, port: 53 }],
        }),
      ),
    });
    expect([TCP, UDP, SCTP].map((protocol) => made.goes("inside", LB, 53, protocol))).toEqual([
      "1",
      "2",
      "3",
    ]);
    const { table } = made;
    const ids = [TCP, UDP, SCTP].map((protocol) => table.service(table.find(address(LB), protocol, 53)));
    expect(new Set(ids).size).toBe(3);
    expect(ids.map((id) => made.services.info(id)?.port.protocol)).toEqual(protocols);
  });

  test("a named target port: each slice has its own number, and other names are other ports", () => {
    const made = world({
      service: service(),
      slices: [
        slice([endpoint("l1")]),
        slice([endpoint("r2")], "web-2", { ports: [{ name: "http", protocol: "TCP", port: 9090 }] }),
        slice([endpoint("r3")], "web-3", { ports: [{ name: "admin", protocol: "TCP", port: 8080 }] }),
        slice([endpoint("r4")], "web-4", { ports: [{ name: "http", protocol: "TCP" }] }),
      ],
    });
    const { table } = made;
    const ring = table.insideRing(table.find(address(CLUSTER_IP), TCP, 80));
    expect(table.count(ring)).toBe(2);
    const places = [0, 1].map((i) => table.member(ring, i));
    expect(places.map((each) => [formatIpv4(table.address(each)), table.l4Port(each)])).toEqual([
      ["10.1.0.1", 8080],
      ["10.1.0.2", 9090],
    ]);
  });

  test("session affinity: its timeout, or the default", () => {
    const seconds = (spec: Partial<Spec>) => {
      const { table } = world({ service: service(spec), slices });
      return table.affinitySeconds(table.find(address(LB), TCP, 80));
    };
    expect(seconds({ sessionAffinity: "None" })).toBe(0);
    expect(seconds({ sessionAffinity: "ClientIP" })).toBe(10800);
    const sessionAffinityConfig = { clientIP: { timeoutSeconds: 60 } };
    expect(seconds({ sessionAffinity: "ClientIP", sessionAffinityConfig })).toBe(60);
  });

  test("session affinity: one key for all addresses of a service port, the same at every start", () => {
    const key = (name: string, to: string, l4Port: number) => {
      const spec = { sessionAffinity: "ClientIP" } as const;
      const object = { ...service(spec), metadata: { ...service(spec).metadata, name } };
      const { table } = world({ service: object, slices: [] });
      return table.affinityKey(table.find(address(to), TCP, l4Port));
    };
    const wanted = key("web", LB, 80);
    expect(wanted).not.toBe(0);
    expect([key("web", CLUSTER_IP, 80), key("web", LB, 80)]).toEqual([wanted, wanted]);
    expect(key("other", LB, 80)).not.toBe(wanted);
  });

  test("source ranges hold for load-balancer addresses alone", () => {
    const { table } = world({
      service: service({ loadBalancerSourceRanges: [" 192.0.2.0/24 ", "198.51.100.7/31", "fd00::/64"] }),
      slices,
    });
    const lets = (to: number) =>
      ["192.0.2.77", "198.51.100.6", "198.51.100.8"].map((source) => table.accepts(to, address(source)));
    expect(lets(table.find(address(LB), TCP, 80))).toEqual([true, true, false]);
    for (const to of [table.find(address(EXTERNAL), TCP, 80), table.findNodePort(TCP, NODE_PORT)])
      expect(lets(to)).toEqual([true, true, true]);
  });

  test("an address that two claim: a cluster IP's, then the older Service's", () => {
    const made = world({
      service: service({}, "web", { metadata: { name: "web", creationTimestamp: "2" } }),
      slices,
    });
    const other = (name: string, spec: Partial<Spec>, created: string) =>
      service({ clusterIP: "10.152.183.60", type: "ClusterIP", ...spec }, name, {
        metadata: { name, creationTimestamp: created },
        status: {},
      });
    const ports = [{ name: "http", port: 80 }];
    made.services.setService(other("thief", { externalIPs: [EXTERNAL], ports }, "3"));
    expect(made.compile().problems).toEqual([
      `service default/thief: ${EXTERNAL}:80/TCP is that of default/web`,
    ]);
    expect(made.goes("inside", EXTERNAL)).toBe("1");
    made.services.setService(
      other("elder", { clusterIP: "10.152.183.61", externalIPs: [EXTERNAL], ports }, "1"),
    );
    made.compile();
    expect(made.goes("inside", EXTERNAL)).toBe("reject");
    made.services.removeService("default", "elder");
    made.services.removeService("default", "thief");
    expect(made.compile().problems).toEqual([]);
    expect(made.goes("inside", EXTERNAL)).toBe("1");
  });
});

describe("endpoints", () => {
  test("flags: on this node, outside the pod pool", () => {
    const { table } = world({
      service: service(),
      slices: [
        slice([
          endpoint("l1"),
          endpoint("r2"),
          { addresses: ["192.168.2.30"], nodeName: "node-a" },
          { addresses: ["198.51.100.1"] },
        ]),
      ],
    });
    const ring = table.insideRing(table.find(address(CLUSTER_IP), TCP, 80));
    const flags = Array.from({ length: table.count(ring) }, (_, i) =>
      table.backendFlags(table.member(ring, i)),
    );
    expect(flags).toEqual([BACKEND_LOCAL, 0, BACKEND_LOCAL | BACKEND_OUTSIDE_POOL, BACKEND_OUTSIDE_POOL]);
  });

  test("one in two slices counts once, and as local where either says so", () => {
    const made = world({
      service: service({ externalTrafficPolicy: "Local" }),
      slices: [
        slice([{ addresses: ["10.1.0.1"] }, endpoint("r2")]),
        slice([endpoint("l1"), endpoint("r2")], "web-2"),
        slice([{ addresses: ["10.1.0.1"] }], "web-3"),
      ],
    });
    expect(made.goes("outside", LB)).toBe("1");
    const { table } = made;
    expect(table.count(table.insideRing(table.find(address(LB), TCP, 80)))).toBe(2);
  });

  test("addresses that cannot be an endpoint are left out and named", () => {
    const odd = ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "x"];
    const made = world({ service: service(), slices: [] });
    made.services.setSlice(slice([...odd.map((each) => ({ addresses: [each] })), endpoint("l1")]));
    expect(made.compile().problems).toHaveLength(odd.length);
    expect(made.goes("inside", CLUSTER_IP)).toBe("1");
  });

  test("slices that are not for us", () => {
    const labels = { "kubernetes.io/service-name": "web" };
    const made = world({
      service: service(),
      slices: [
        slice([endpoint("l1")], "six", { addressType: "IPv6" }),
        slice([endpoint("l2")], "nobody", { metadata: { name: "nobody", namespace: "default", labels: {} } }),
        slice([endpoint("l3")], "elsewhere", { metadata: { name: "elsewhere", namespace: "other", labels } }),
        slice([endpoint("l4")], "headless", {
          metadata: {
            name: "headless",
            namespace: "default",
            labels: { ...labels, "service.kubernetes.io/headless": "" },
          },
        }),
      ],
    });
    expect(made.goes("inside", CLUSTER_IP)).toBe("reject");
  });

  test("every node has the same ring, in whichever order things came", () => {
    const endpoints = ["r9", "r2", "r10", "r4"].map(endpoint);
    const order = (objects: EndpointSliceObject[], last: boolean) => {
      const made = new World();
      if (!last) made.services.setService(service());
      for (const each of objects) {
        made.services.setSlice(each);
        made.compile();
      }
      if (last) made.services.setService(service());
      made.compile();
      const { table } = made;
      const ring = table.insideRing(table.find(address(CLUSTER_IP), TCP, 80));
      return Array.from({ length: table.slots(ring) }, (_, slot) => table.address(table.pick(ring, slot)));
    };
    const one = order([slice(endpoints)], false);
    const two = order([slice(endpoints.slice(2).reverse(), "b"), slice(endpoints.slice(0, 2), "a")], true);
    expect(two).toEqual(one);
  });
});

describe("changes", () => {
  const udp = { ports: [{ name: "dns", protocol: "UDP", port: 53, nodePort: NODE_PORT }] };
  const dns = (endpoints: string[], name = "web-1") =>
    slice(endpoints.map(endpoint), name, { ports: [{ name: "dns", protocol: "UDP", port: 5353 }] });

  test("what does not change anything says so", () => {
    const made = world({ service: service(), slices: [slice([endpoint("l1")])] });
    expect(made.services.setService(service())).toBe(false);
    expect(made.services.setSlice(slice([endpoint("l1")]))).toBe(false);
    expect(made.services.removeSlice("default", "other")).toBe(false);
    expect(made.services.removeService("default", "other")).toBe(false);
    expect(made.services.setPools([parseCidr("10.1.0.0/16")!])).toBe(false);
    const before = made.table.generation;
    const change = made.compile();
    expect(change.services).toEqual([]);
    expect(made.table.generation).toBe(before);
  });

  test.each<[string, string[], string[], number[]]>([
    ["a pod is replaced", ["l1"], ["l2"], [1]],
    ["one of two goes", ["l1", "r2"], ["l1"], [2]],
    ["the last one goes", ["l1"], [], [1]],
    ["one becomes unready", ["l1", "r2"], ["l1", "r2 unready"], []],
    ["one stops serving", ["l1", "r2"], ["l1", "r2 gone"], [2]],
    ["one terminates and still serves", ["l1", "r2"], ["l1", "r2 leaving"], []],
    ["one comes", ["l1"], ["l1", "r2"], []],
    ["hints move traffic, not flows", ["l1", "r2"], ["l1 zone=east", "r2 zone=west"], []],
  ])("flows are cleared when %s", (_, before, after, removed) => {
    // An endpoint that is not ready serves unless it is said not to: only the controller's word counts.
    const serving = (texts: string[]) => {
      const made = dns(texts);
      for (const [i, text] of texts.entries())
        if (text.includes("unready")) made.endpoints![i]!.conditions = { ready: false, serving: true };
      return made;
    };
    const made = world({ service: service(udp), slices: [serving(before)] });
    const { table } = made;
    const id = table.service(table.find(address(CLUSTER_IP), UDP, 53));
    made.services.setSlice(serving(after));
    const change = made.compile();
    expect(change.services).toEqual(["default/web"]);
    expect(change.removedBackends.map(({ backend: _, ...each }) => each)).toEqual(
      removed.map((n) => ({ service: id, protocol: "UDP", address: address(`10.1.0.${n}`), l4Port: 5353 })),
    );
  });

  test("the table knows the UDP ports of endpoints for as long as a Service has one there", () => {
    const udp = (name: string): ServiceObject => {
      const object = service({ ports: [{ name: "http", protocol: "UDP", port: 80 }] });
      return { ...object, metadata: { ...object.metadata, name } };
    };
    const at = (name: string, port: number, endpoints: SliceEndpoint[]): EndpointSliceObject => ({
      ...slice(endpoints),
      metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": name } },
      ports: [{ name: "http", protocol: "UDP", port }],
    });
    const made = world({ service: udp("a"), slices: [at("a", 5353, [endpoint("l1"), endpoint("r2 gone")])] });
    const used = () => [5353, 53, 8080].filter((port) => made.table.isUdpEndpointPort(port));
    expect(used()).toEqual([5353]);
    made.services.setService(udp("b"));
    made.services.setSlice(at("b", 5353, [endpoint("l1")]));
    made.services.setSlice(at("a", 53, [endpoint("l1")]));
    made.compile();
    expect(used()).toEqual([5353, 53]);
    made.services.removeService("default", "b");
    made.compile();
    expect(used()).toEqual([53]);
    made.services.setSlice(at("a", 53, []));
    made.compile();
    expect(used()).toEqual([]);
  });

  test("an endpoint that moves to another slice is not removed, and keeps its number", () => {
    const made = world({ service: service(udp), slices: [dns(["l1", "r2"])] });
    const { table } = made;
    const backends = () => {
      const ring = table.insideRing(table.find(address(CLUSTER_IP), UDP, 53));
      return Array.from({ length: table.count(ring) }, (_, i) => table.backendId(table.member(ring, i)));
    };
    const before = backends();
    made.services.setSlice(dns(["r2"], "web-2"));
    made.services.setSlice(dns(["l1"]));
    expect(made.compile().removedBackends).toEqual([]);
    expect(backends()).toEqual(before);
    made.services.removeSlice("default", "web-2");
    expect(made.compile().removedBackends.map(({ backend }) => backend)).toEqual([before[1]]);
    expect(backends()).toEqual([before[0]]);
    // Whoever comes again is somebody else.
    made.services.setSlice(dns(["l1", "r2"]));
    made.compile();
    expect(backends()[1]).toBeGreaterThan(before[1]!);
  });

  test("a slice that is given to another Service leaves the first", () => {
    const made = world({ service: service(), slices: [slice([endpoint("l1")])] });
    const labels = { "kubernetes.io/service-name": "other" };
    made.services.setSlice(
      slice([endpoint("l1")], "web-1", { metadata: { name: "web-1", namespace: "default", labels } }),
    );
    expect(made.compile().removedBackends).toHaveLength(1);
    expect(made.goes("inside", CLUSTER_IP)).toBe("reject");
  });

  test("policies and addresses change: no flow is cleared, numbers stay", () => {
    const made = world({ service: service(udp), slices: [dns(["l1", "r2"])] });
    const id = () => made.table.service(made.table.find(address(CLUSTER_IP), UDP, 53));
    const before = id();
    made.services.setService(
      service({ ...udp, internalTrafficPolicy: "Local", externalTrafficPolicy: "Local", externalIPs: [] }),
    );
    expect(made.compile()).toMatchObject({
      services: ["default/web"],
      removedBackends: [],
      removedServices: [],
    });
    expect(made.goes("inside", CLUSTER_IP, 53, UDP)).toBe("1");
    expect(made.goes("inside", EXTERNAL, 53, UDP)).toBe("none");
    expect(id()).toBe(before);
  });

  test("a Service goes: its addresses, its numbers, its health check; its flows are not cleared", () => {
    const made = world({
      service: service({ externalTrafficPolicy: "Local", healthCheckNodePort: 32000 }),
      slices: [slice([endpoint("l1")])],
    });
    const id = made.table.service(made.table.find(address(LB), TCP, 80));
    expect(made.services.info(id)).toMatchObject({
      service: "default/web",
      port: { name: "http", l4Port: 80 },
      endpoints: [{ l4Port: 8080, endpoint: { node: "node-a", address: address("10.1.0.1") } }],
    });
    expect(made.services.healthChecks()).toHaveLength(1);
    made.services.removeService("default", "web");
    expect(made.compile()).toMatchObject({
      services: ["default/web"],
      removedBackends: [],
      removedServices: [id],
    });
    for (const to of [CLUSTER_IP, LB, EXTERNAL, "node"]) expect(made.goes("inside", to)).toBe("none");
    expect(made.table.isServiceAddress(address(LB))).toBe(false);
    expect(made.services.info(id)).toBeUndefined();
    expect(made.services.healthChecks()).toEqual([]);
    expect(made.services.virtualAddresses()).toEqual([]);
    // The slice is still there for who comes next under the name.
    made.services.setService(service());
    made.compile();
    expect(made.goes("inside", LB)).toBe("1");
    expect(made.table.service(made.table.find(address(LB), TCP, 80))).toBeGreaterThan(id);
  });

  test("another Service's rings stay where they are", () => {
    const made = world({ service: service(), slices: [slice(["l1", "r2"].map(endpoint))] });
    const { table } = made;
    const ring = () => table.insideRing(table.find(address(CLUSTER_IP), TCP, 80));
    const before = ring();
    // Cluster IP, node port and the others share one.
    expect(table.outsideRing(table.findNodePort(TCP, NODE_PORT))).toBe(before);
    made.services.setService(
      service(
        { type: "ClusterIP", clusterIP: "10.152.183.99", externalIPs: [], ports: [{ port: 1 }] },
        "other",
      ),
    );
    expect(made.compile().services).toEqual(["default/other"]);
    expect(ring()).toBe(before);
  });

  test("rings are counted where they are built, not where an equal one is there", () => {
    const made = world({ service: service(), slices: [slice(["l1", "r2"].map(endpoint))] });
    expect(made.services.ringsBuilt).toBe(1);
    made.services.setService(service({ externalIPs: [] }));
    made.compile();
    expect(made.services.ringsBuilt).toBe(1);
    made.services.setSlice(slice(["l1", "r2", "r3"].map(endpoint)));
    made.compile();
    expect(made.services.ringsBuilt).toBe(2);
  });

  test("numbers are never given again, and their low bits not while somebody has them", () => {
    const made = new World();
    const plain = (name: string) =>
      service({ type: "ClusterIP", clusterIP: "10.152.183.99", externalIPs: [], ports: [{ port: 1 }] }, name);
    const slots = new Set<number>();
    const idOf = (name: string) => made.services.idsOf("default", name)[0]!;
    made.services.setService(plain("stays"));
    made.services.compile();
    const stays = idOf("stays");
    let last = stays;
    for (let n = 0; n <= SERVICE_SLOTS; n++) {
      made.services.setService(plain("comes"));
      made.services.compile();
      const id = idOf("comes");
      if (id <= last) throw new Error(`${id} after ${last}`);
      last = id;
      slots.add(id % SERVICE_SLOTS);
      made.services.removeService("default", "comes");
      made.services.compile();
    }
    expect(last).toBeGreaterThan(SERVICE_SLOTS);
    expect(slots.size).toBe(SERVICE_SLOTS - 2);
    expect([slots.has(0), slots.has(stays)]).toEqual([false, false]);
  });

  test("pools change which endpoints lie outside", () => {
    const made = world({ service: service(), slices: [slice([endpoint("r2")])] });
    made.services.setPools([parseCidr("10.2.0.0/16")!]);
    made.compile();
    const { table } = made;
    const ring = table.insideRing(table.find(address(CLUSTER_IP), TCP, 80));
    expect(table.backendFlags(table.pick(ring, 0))).toBe(BACKEND_OUTSIDE_POOL);
  });
});

describe("in small steps and all at once", () => {
  /** A Service of one or two ports, sharing addresses with others. */
  const anyService = (random: Random, name: string): ServiceObject => ({
    metadata: { name, namespace: "default", creationTimestamp: String(random.below(3)) },
    spec: {
      type: random.pick(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"]),
      clusterIP: random.oneIn(8) ? "None" : `10.152.183.${name.slice(1)}`,
      ports: ["http", "dns"].slice(random.below(2)).map((port, i) => ({
        name: port,
        protocol: port === "dns" ? "UDP" : "TCP",
        port: 80 + random.below(3),
        nodePort: random.oneIn(2) ? 0 : 30000 + 3 * i + random.below(3),
      })),
      externalIPs: random.oneIn(2) ? [] : [`203.0.113.${random.below(4) + 1}`],
      loadBalancerSourceRanges: random.oneIn(3) ? ["192.0.2.0/24"] : [],
      internalTrafficPolicy: random.pick(["Cluster", "Local"]),
      externalTrafficPolicy: random.pick(["Cluster", "Local"]),
    },
    status: {
      loadBalancer: { ingress: random.oneIn(2) ? [] : [{ ip: `192.168.2.${36 + random.below(3)}` }] },
    },
  });
  const anySlice = (random: Random, name: string, owner: string): EndpointSliceObject => ({
    metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": owner } },
    addressType: "IPv4",
    ports: ["http", "dns"].slice(random.below(2)).map((port) => ({
      name: port,
      protocol: port === "dns" ? "UDP" : "TCP",
      port: 8080,
    })),
    endpoints: Array.from({ length: random.below(4) }, () =>
      endpoint(
        `${random.pick(["l", "r"])}${1 + random.below(6)}${random.pick(["", "", " unready", " leaving", " zone=east"])}`,
      ),
    ),
  });

  /** Everything that the table says, in words. */
  function everything(made: World): string[] {
    const { table } = made;
    const lines: string[] = [];
    const places = [
      ...Array.from({ length: 6 }, (_, i) => `10.152.183.${i}`),
      ...[1, 2, 3, 4].map((i) => `203.0.113.${i}`),
      ...[36, 37, 38].map((i) => `192.168.2.${i}`),
    ];
    for (const protocol of [TCP, UDP]) {
      for (const place of places)
        for (const port of [80, 81, 82]) {
          const row = table.find(address(place), protocol, port);
          const lets = row < 0 || table.accepts(row, address("192.0.2.1"));
          const others = row < 0 || table.accepts(row, address("192.0.3.1"));
          const both = (["inside", "outside"] as const).map((from) => made.goes(from, place, port, protocol));
          lines.push(`${place}:${port}/${protocol} ${both.join(" | ")} ${lets} ${others}`);
        }
      for (let port = 30000; port < 30006; port++) {
        const row = table.findNodePort(protocol, port);
        lines.push(`${port}/${protocol} ${row < 0 ? "none" : table.flags(row)}`);
      }
    }
    for (const place of places) lines.push(`${place} ${table.isServiceAddress(address(place))}`);
    lines.push(`endpoints at UDP port 8080: ${table.isUdpEndpointPort(8080)}`);
    return lines;
  }

  test.each([1, 2, 3, 4])("seed %i: the same table", (seed) => {
    const random = new Random(seed);
    const names = ["s1", "s2", "s3", "s4", "s5"];
    const made = new World();
    const services = new Map<string, ServiceObject>();
    const slices = new Map<string, EndpointSliceObject>();
    for (let round = 0; round < 150; round++) {
      for (let i = random.below(4); i >= 0; i--) {
        const name = random.pick(names);
        const sliceName = `slice-${random.below(8)}`;
        const dice = random.below(8);
        if (dice === 0) {
          made.services.removeService("default", name);
          services.delete(name);
        } else if (dice === 1) {
          made.services.removeSlice("default", sliceName);
          slices.delete(sliceName);
        } else if (dice < 5) {
          services.set(name, anyService(random, name));
          made.services.setService(services.get(name)!);
        } else {
          slices.set(sliceName, anySlice(random, sliceName, name));
          made.services.setSlice(slices.get(sliceName)!);
        }
      }
      const { problems } = made.compile();
      const fresh = new World();
      for (const each of slices.values()) fresh.services.setSlice(each);
      for (const each of services.values()) fresh.services.setService(each);
      expect([...problems].sort()).toEqual([...fresh.compile().problems].sort());
      expect(everything(made)).toEqual(everything(fresh));
      if (round % 10 !== 0) continue;
      // What was kept gives the same table; then the objects come, and some have gone meanwhile.
      const again = new World();
      const kept = made.services.saved();
      const text = JSON.stringify({ ...kept, services: [...kept.services] });
      again.services.restore(JSON.parse(text) as SavedServices);
      again.compile();
      expect(everything(again)).toEqual(everything(made));
      const [goneService, goneSlice] = [random.pick(names), `slice-${random.below(8)}`];
      const rest = new World();
      for (const [name, each] of slices)
        if (name !== goneSlice) for (const { services } of [again, rest]) services.setSlice(each);
      for (const [name, each] of services)
        if (name !== goneService) for (const { services } of [again, rest]) services.setService(each);
      again.compile();
      again.services.forgetRestored();
      again.compile();
      rest.compile();
      expect(everything(again)).toEqual(everything(rest));
      expect(again.services.forgetRestored()).toBe(false);
    }
    for (const name of names) made.services.removeService("default", name);
    for (const name of slices.keys()) made.services.removeSlice("default", name);
    made.compile();
    // Nothing stays behind but a root, with its 8 KiB of ports.
    expect(made.services.memory.used).toBeLessThan(8192 + 4096);
  });
});

describe("health checks", () => {
  test.each<[string, Partial<Spec>, string[], number | null]>([
    ["ready ones here, each address once", {}, ["l1", "l2", "l3 unready", "l4 leaving", "r5"], 2],
    ["none here", {}, ["r1"], 0],
    ["policy Cluster", { externalTrafficPolicy: "Cluster" }, ["l1"], null],
    ["no LoadBalancer", { type: "NodePort" }, ["l1"], null],
    ["no port", { healthCheckNodePort: 0 }, ["l1"], null],
  ])("%s", (_, spec, endpoints, expected) => {
    const { services } = world({
      service: service({ externalTrafficPolicy: "Local", healthCheckNodePort: 32000, ...spec }),
      slices: [
        slice(endpoints.map(endpoint)),
        slice([endpoint("l1")], "web-2", { ports: [{ name: "http", protocol: "TCP", port: 9090 }] }),
      ].slice(0, endpoints[0] === "l1" ? 2 : 1),
    });
    const found = services.healthChecks();
    if (expected === null) expect(found).toEqual([]);
    else
      expect(found).toEqual([{ namespace: "default", name: "web", port: 32000, localEndpoints: expected }]);
  });
});
