/**
 * The truth table of Services: a state of the cluster as the API has it, and what becomes of a packet
 * from a pod, a node, another node, or the LAN. Every row goes the whole way: API objects, compiler,
 * tables, pipelines of all nodes it passes, and the answer back to who asked, with the address that
 * was asked. The nodes: test/support/model/SimulatedCluster.ts. The cases: kube-proxy's
 * (pkg/proxy/iptables/proxier_test.go, "internal/external traffic policy"; test/e2e/network).
 *
 *   from    a1, k1   a pod              a        a program of node a (the tunnel address)
 *           a lan    a program of node a that is bound to its LAN address
 *           b to a   a program of node b, over the LAN to node a
 *           pc to a  a machine of the LAN, arriving at node a
 *   to      cluster, node a, lb, external, or a pod's name; with a port where it is not the Service's
 *   goes    the backends that clients with many source ports reach, or
 *           reject (a TCP reset, ICMP port unreachable), or the reason of a drop, which is silent
 *   seen    the source that a backend sees: client (its own), tunnel a or node a
 */
import { describe, expect, it } from "vitest";
import { reconcileEndpoints } from "../../../src/controllers/endpoints.js";
import type { EndpointSliceObject, ServiceObject } from "../../../src/desired/serviceObjects.js";
import { ENDPOINTSLICES } from "../../../src/kube/resources.js";
import type { Node, Pod, Service } from "../../../src/kube/types.js";
import {
  ACK,
  counting,
  get16,
  ICMP,
  icmpPacket,
  ipv4,
  type Packet,
  PSH,
  RST,
  SYN,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
} from "../../support/frames.js";
import { SCTP_INIT, SCTP_INIT_ACK, sctpPacket } from "../../support/model/packets.js";
import {
  type Journey,
  NODES,
  type NodeName,
  PC,
  PODS,
  type PodName,
  SimulatedCluster,
  ZONES,
} from "../../support/model/SimulatedCluster.js";

const CLUSTER_IP = "10.152.183.50";
const LB = "192.168.2.36";
const EXTERNAL = "203.0.113.10";
const NODE_PORT = 30080;
const NOTHING = new Uint8Array(0);

type Spec = NonNullable<ServiceObject["spec"]>;
type SliceEndpoint = NonNullable<EndpointSliceObject["endpoints"]>[number];
type Protocol = "TCP" | "UDP" | "SCTP";

// ---- the cluster's state ------------------------------------------------------------------------

/** A Service that has every kind of address, with what `spec` changes. */
function service(spec: Partial<Spec> = {}, protocol: Protocol = "TCP"): ServiceObject {
  return {
    metadata: { name: "web", namespace: "default" },
    spec: {
      type: "LoadBalancer",
      clusterIP: CLUSTER_IP,
      ports: [{ name: "http", protocol, port: 80, nodePort: NODE_PORT }],
      externalIPs: [EXTERNAL],
      ...spec,
    },
    status: { loadBalancer: { ingress: [{ ip: LB, ipMode: "VIP" }] } },
  };
}

/** "a1", "a1 unready", "a1 leaving" (terminating, serving), "a1 gone" (terminating), hints "a1 zone=east", "a1 node=a"; or an address. */
function endpoint(text: string): SliceEndpoint {
  const [who, ...words] = text.split(" ");
  const conditions = words.includes("unready")
    ? { ready: false, serving: false, terminating: false }
    : words.includes("leaving")
      ? { ready: false, serving: true, terminating: true }
      : words.includes("gone")
        ? { ready: false, serving: false, terminating: true }
        : { ready: true };
  const hint = (kind: string) =>
    words.filter((word) => word.startsWith(kind)).map((word) => ({ name: word.slice(kind.length) }));
  const [forZones, forNodes] = [hint("zone="), hint("node=")];
  const known = who! in PODS;
  return {
    addresses: [known ? PODS[who as PodName] : who!],
    ...(known && { nodeName: who![0]! }),
    conditions,
    hints: { ...(forZones.length > 0 && { forZones }), ...(forNodes.length > 0 && { forNodes }) },
  };
}

/** Endpoints by commas. */
function slice(endpoints: string, protocol: Protocol = "TCP", port = 8080): EndpointSliceObject {
  return {
    metadata: {
      name: `web-${port}`,
      namespace: "default",
      labels: { "kubernetes.io/service-name": "web" },
    },
    addressType: "IPv4",
    ports: [{ name: "http", protocol, port }],
    endpoints: endpoints === "" ? [] : endpoints.split(", ").map(endpoint),
  };
}

interface State {
  spec?: Partial<Spec>;
  protocol?: Protocol;
  /** The Service instead of one with `spec`; null: none. */
  service?: ServiceObject | null;
  endpoints: string;
  slices?: EndpointSliceObject[];
}

function clusterOf({ spec, protocol, service: given, endpoints, slices }: State): SimulatedCluster {
  const cluster = new SimulatedCluster();
  const object = given === undefined ? service(spec, protocol) : given;
  cluster.apply(object === null ? [] : [object], slices ?? [slice(endpoints, protocol)]);
  return cluster;
}

// ---- asking and answering -----------------------------------------------------------------------

interface Client {
  at: PodName | NodeName | "lan";
  address: string;
  send(cluster: SimulatedCluster, packet: Uint8Array): Journey;
}

function clientOf(from: string): Client {
  const [who, , to] = from.split(" ");
  if (who === "pc") {
    return { at: "lan", address: PC, send: (cluster, packet) => cluster.fromLan(to as NodeName, packet) };
  }
  if (who! in PODS) {
    const pod = who as PodName;
    return { at: pod, address: PODS[pod], send: (cluster, packet) => cluster.fromPod(pod, packet) };
  }
  const node = who as NodeName;
  const { underlay, tunnel } = NODES[node];
  if (to !== undefined)
    return {
      at: node,
      address: underlay,
      send: (cluster, packet) => cluster.fromLan(to as NodeName, packet),
    };
  const address = from.endsWith(" lan") ? underlay : tunnel;
  return { at: node, address, send: (cluster, packet) => cluster.fromNode(node, packet) };
}

/** Address and port of what is asked. */
function target(to: string): [string, number] {
  const [where, port] = to.split(":");
  const [word, name] = where!.split(" ");
  const plain: Record<string, string> = { cluster: CLUSTER_IP, lb: LB, external: EXTERNAL };
  if (word === "node") return [NODES[name as NodeName].underlay, Number(port ?? NODE_PORT)];
  return [plain[word!] ?? PODS[word as PodName] ?? word!, Number(port ?? 80)];
}

interface Ends {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
}

function question(protocol: Protocol, ends: Ends): Uint8Array {
  if (protocol === "UDP") return udpPacket(ends, counting(20));
  if (protocol === "SCTP") return sctpPacket({ ...ends, chunk: SCTP_INIT, initiateTag: 77 }, NOTHING);
  return tcpPacket({ ...ends, flags: SYN, acknowledgement: 0 }, NOTHING);
}

function answer(protocol: Protocol, ends: Ends): Uint8Array {
  if (protocol === "UDP") return udpPacket(ends, counting(30));
  if (protocol === "SCTP") {
    return sctpPacket({ ...ends, chunk: SCTP_INIT_ACK, initiateTag: 78, verificationTag: 77 }, NOTHING);
  }
  return tcpPacket({ ...ends, flags: SYN | ACK, sequence: 500, acknowledgement: 1001 }, NOTHING);
}

function endsOf({ source, destination, l4 }: Packet): Ends {
  return { source, destination, sourcePort: get16(l4, 0), destinationPort: get16(l4, 2) };
}

function turned({ source, destination, sourcePort, destinationPort }: Ends): Ends {
  return {
    source: destination,
    destination: source,
    sourcePort: destinationPort,
    destinationPort: sourcePort,
  };
}

const CLIENTS = 48;

/** What becomes of questions from many source ports: the backends and the sources they saw, or how it was refused. */
function ask(cluster: SimulatedCluster, from: string, to: string, protocol: Protocol, firstPort = 40_000) {
  const client = clientOf(from);
  const [destination, destinationPort] = target(to);
  const goes = new Set<string>();
  const seen = new Set<string>();
  for (let n = 0; n < CLIENTS; n++) {
    const ends = { source: client.address, destination, sourcePort: firstPort + n, destinationPort };
    const journey = client.send(cluster, question(protocol, ends));
    const [arrival] = journey.arrivals;
    if (arrival === undefined) {
      goes.add(journey.hops.at(-1)!.dropped.join());
      continue;
    }
    if (isRefusal(arrival.packet, ends)) {
      expect(arrival.at).toBe(client.at);
      goes.add("reject");
      continue;
    }
    goes.add(`${arrival.at}`);
    seen.add(sourceName(arrival.packet.source, client.address));
    const back = cluster.fromArrival(arrival, answer(protocol, turned(endsOf(arrival.packet))));
    expect(back.arrivals.map(({ at, packet }) => ({ at, ...endsOf(packet) }))).toEqual([
      { at: client.at, ...turned(ends) },
    ]);
  }
  return { goes: [...goes].sort().join(" "), seen: [...seen].sort().join(", ") };
}

/** A TCP reset from the address that was asked, or an ICMP port unreachable about the question. */
function isRefusal({ protocol, source, l4 }: Packet, ends: Ends): boolean {
  if (protocol === TCP) return source === ends.destination && (l4[13]! & RST) !== 0;
  return protocol === ICMP && l4[0] === 3 && l4[1] === 3 && get16(l4, 8 + 20) === ends.sourcePort;
}

function sourceName(source: string, client: string): string {
  if (source === client) return "client";
  for (const [name, { tunnel, underlay }] of Object.entries(NODES)) {
    if (source === tunnel) return `tunnel ${name}`;
    if (source === underlay) return `node ${name}`;
  }
  return source;
}

type Row = [from: string, to: string, goes: string, seen?: string];

/** One feature: a state, and rows of questions. Each row has a cluster of its own. */
function feature(title: string, state: State, rows: readonly Row[]): void {
  describe(title, () => {
    it.each(rows)("%s to %s: %s", (from, to, goes, seen = "") => {
      const cluster = clusterOf(state);
      expect(ask(cluster, from, to, state.protocol ?? "TCP")).toEqual({ goes, seen });
    });
  });
}

const EVERYWHERE = "a1, b1, c1";

// ---- kinds of Services --------------------------------------------------------------------------

for (const protocol of ["TCP", "UDP", "SCTP"] as const) {
  feature(`${protocol}: all addresses, policy Cluster`, { protocol, endpoints: EVERYWHERE }, [
    ["a2", "cluster", "a1 b1 c1", "client"],
    ["a", "cluster", "a1 b1 c1", "client"],
    ["a lan", "cluster", "a1 b1 c1", "client, tunnel a"],
    ["pc to a", "cluster", "clusterIpFromOutside"],
    ["b to a", "cluster", "clusterIpFromOutside"],
    ["a2", "node a", "a1 b1 c1", "client"],
    ["a2", "node b", "a1 b1 c1", "node a, tunnel b"],
    ["a lan", "node a", "a1 b1 c1", "client, tunnel a"],
    ["b to a", "node a", "a1 b1 c1", "client, tunnel a"],
    ["pc to a", "node a", "a1 b1 c1", "client"],
    ["pc to b", "node b", "a1 b1 c1", "client"],
    ["a2", "lb", "a1 b1 c1", "client"],
    ["a", "lb", "a1 b1 c1", "client"],
    ["pc to a", "lb", "a1 b1 c1", "client"],
    ["b to a", "lb", "a1 b1 c1", "client, tunnel a"],
    ["a2", "external", "a1 b1 c1", "client"],
    ["pc to a", "external", "a1 b1 c1", "client"],
    // A port that no Service has: of a Service's address rejected, of a node's its own business.
    ["a2", "cluster:81", "reject"],
    ["a2", "lb:81", "reject"],
    ["pc to a", "lb:81", "reject"],
    ["pc to a", "node a:30999", "a", "client"],
  ]);

  feature(`${protocol}: no endpoints`, { protocol, endpoints: "" }, [
    ["a2", "cluster", "reject"],
    ["a", "cluster", "reject"],
    ["pc to a", "cluster", "clusterIpFromOutside"],
    ["a2", "node a", "reject"],
    ["pc to a", "node a", "reject"],
    ["b to a", "node a", "reject"],
    ["a2", "lb", "reject"],
    ["pc to a", "lb", "reject"],
    ["pc to a", "external", "reject"],
  ]);

  feature(`${protocol}: a pod that reaches itself`, { protocol, endpoints: "a1" }, [
    ["a1", "cluster", "a1", "tunnel a"],
    ["a1", "node a", "a1", "tunnel a"],
    ["a1", "lb", "a1", "tunnel a"],
    ["a1", "node b", "a1", "tunnel b"],
  ]);

  feature(`${protocol}: endpoints that are no pods of ours`, { protocol, endpoints: "192.0.2.20" }, [
    ["a1", "cluster", "lan", "node a"],
    ["a", "cluster", "lan", "node a"],
    ["pc to a", "lb", "lan", "node a"],
  ]);
}

feature("an endpoint in a node's network", { endpoints: "192.168.2.30" }, [
  ["a1", "cluster", "a", "client"],
  ["b1", "cluster", "a", "node b"],
  ["pc to b", "node b", "a", "node b"],
]);

feature("an endpoint behind a kernel's VTEP", { endpoints: "k1" }, [
  ["a1", "cluster", "k1", "client"],
  ["a", "cluster", "k1", "client"],
  ["a lan", "cluster", "k1", "tunnel a"],
  ["pc to a", "node a", "k1", "tunnel a"],
]);

describe("Services with nothing to do", () => {
  const nothing: [string, Partial<Spec>][] = [
    ["headless", { type: "ClusterIP", clusterIP: "None" }],
    ["ExternalName", { type: "ExternalName", clusterIP: "" }],
  ];
  it.each(nothing)("%s: no address of it is a Service's", (_, spec) => {
    const cluster = clusterOf({ spec, endpoints: EVERYWHERE });
    expect(ask(cluster, "a2", "cluster", "TCP").goes).toBe("unallocatedClusterIp");
    expect(ask(cluster, "pc to a", "node a", "TCP")).toEqual({ goes: "a", seen: "client" });
  });

  it("a Service of another proxy", () => {
    const other = service();
    other.metadata.labels = { "service.kubernetes.io/service-proxy-name": "other" };
    const cluster = clusterOf({ service: other, endpoints: EVERYWHERE });
    expect(ask(cluster, "a2", "cluster", "TCP").goes).toBe("unallocatedClusterIp");
  });
});

feature(
  "external addresses in no permitted range",
  { spec: { externalIPs: ["198.51.100.7"] }, endpoints: "b1" },
  [
    ["a1", "198.51.100.7", "lan", "node a"],
    ["a1", "cluster", "b1", "client"],
  ],
);

// ---- where it may go ----------------------------------------------------------------------------

feature("internalTrafficPolicy Local", { spec: { internalTrafficPolicy: "Local" }, endpoints: "a1, b1" }, [
  ["a2", "cluster", "a1", "client"],
  ["b2", "cluster", "b1", "client"],
  ["a", "cluster", "a1", "client"],
  ["c1", "cluster", "noLocalEndpoint"],
  ["c", "cluster", "noLocalEndpoint"],
  // Of the internal address alone.
  ["c1", "lb", "a1 b1", "client"],
  ["pc to c", "node c", "a1 b1", "client"],
]);

feature(
  "internalTrafficPolicy Local, none anywhere",
  { spec: { internalTrafficPolicy: "Local" }, endpoints: "" },
  [["a2", "cluster", "reject"]],
);

feature("externalTrafficPolicy Local", { spec: { externalTrafficPolicy: "Local" }, endpoints: "a1, b1" }, [
  ["pc to a", "node a", "a1", "client"],
  ["pc to b", "node b", "b1", "client"],
  ["pc to c", "node c", "noLocalEndpoint"],
  ["pc to a", "lb", "a1", "client"],
  ["pc to c", "lb", "noLocalEndpoint"],
  ["pc to c", "external", "noLocalEndpoint"],
  ["b to a", "node a", "a1", "client"],
  ["b to c", "node c", "noLocalEndpoint"],
  ["a2", "node c", "noLocalEndpoint"],
  // A node's own traffic, and that of its pods, is not from outside.
  ["c1", "node c", "a1 b1", "client"],
  ["c1", "lb", "a1 b1", "client"],
  ["c", "lb", "a1 b1", "client"],
  ["c lan", "node c", "a1 b1", "tunnel c"],
  ["c1", "cluster", "a1 b1", "client"],
]);

feature(
  "externalTrafficPolicy Local, none anywhere",
  { spec: { externalTrafficPolicy: "Local" }, endpoints: "" },
  [
    ["pc to a", "node a", "reject"],
    ["pc to a", "lb", "reject"],
  ],
);

feature("endpoints that are not ready", { endpoints: "a1 unready, b1, c1 gone" }, [
  ["a2", "cluster", "b1", "client"],
  ["pc to a", "node a", "b1", "client"],
]);

feature("no endpoint is ready", { endpoints: "a1 unready, c1 gone" }, [["a2", "cluster", "reject"]]);

feature("terminating endpoints beside ready ones", { endpoints: "a1 leaving, b1" }, [
  ["a2", "cluster", "b1", "client"],
]);

feature("terminating endpoints alone", { endpoints: "a1 leaving, b1 leaving, c1 gone" }, [
  ["a2", "cluster", "a1 b1", "client"],
  ["pc to c", "node c", "a1 b1", "client"],
]);

feature(
  "terminating endpoints of this node, policy Local",
  {
    spec: { externalTrafficPolicy: "Local", internalTrafficPolicy: "Local" },
    endpoints: "a1 leaving, b1, b2 leaving",
  },
  [
    ["pc to a", "node a", "a1", "client"],
    ["a2", "cluster", "a1", "client"],
    ["pc to b", "node b", "b1", "client"],
    ["b2", "cluster", "b1", "client"],
    ["pc to c", "node c", "noLocalEndpoint"],
  ],
);

feature("hints for zones", { endpoints: "a1 zone=east, b1 zone=east, c1 zone=west" }, [
  ["a2", "cluster", "a1 b1", "client"],
  ["c2", "cluster", "c1", "client"],
  ["pc to a", "node a", "a1 b1", "client"],
  ["pc to c", "lb", "c1", "client"],
]);

feature("hints for zones, one endpoint without", { endpoints: "a1 zone=east, b1, c1 zone=west" }, [
  ["a2", "cluster", "a1 b1 c1", "client"],
]);

feature("hints for zones, none for ours", { endpoints: "a1 zone=east, b1 zone=east" }, [
  ["c2", "cluster", "a1 b1", "client"],
]);

feature("hints for nodes before those for zones", { endpoints: "a1 node=a zone=east, b1 node=b zone=east" }, [
  ["a2", "cluster", "a1", "client"],
  ["b2", "cluster", "b1", "client"],
  ["c2", "cluster", "a1 b1", "client"],
]);

feature(
  "loadBalancerSourceRanges with the client",
  { spec: { loadBalancerSourceRanges: ["192.168.2.96/28"] }, endpoints: "b1" },
  [
    ["pc to a", "lb", "b1", "client"],
    ["a1", "lb", "sourceRange"],
  ],
);

feature(
  "loadBalancerSourceRanges without the client",
  { spec: { loadBalancerSourceRanges: ["198.51.100.0/24"] }, endpoints: "b1" },
  [
    ["pc to a", "lb", "sourceRange"],
    // Of the load-balancer address alone.
    ["pc to a", "node a", "b1", "client"],
    ["pc to a", "external", "b1", "client"],
    ["a1", "cluster", "b1", "client"],
  ],
);

describe("sessionAffinity ClientIP", () => {
  const cluster = () =>
    clusterOf({ spec: { sessionAffinity: "ClientIP" }, endpoints: "a1, a2, b1, b2, c1, c2" });

  it.each(["a1", "b2", "c", "pc to a"])("%s: one backend, whichever its port", (from) => {
    const { goes } = ask(cluster(), from, "lb", "TCP");
    expect(goes.split(" ")).toHaveLength(1);
  });

  it("the same for a client whichever node it enters by, and whichever address it asks", () => {
    const all = (["a", "b", "c"] as const).flatMap((node) =>
      [`node ${node}`, "lb", "external"].map((to) => ask(cluster(), `pc to ${node}`, to, "TCP").goes),
    );
    expect(new Set(all).size).toBe(1);
  });

  // A client whose ring's choice changes where the endpoints do, so that staying is no accident.
  const everywhere = "a1, a2, b1, b2, c1, c2";
  const sticky = (endpoints: string, timeoutSeconds = 60) =>
    clusterOf({
      spec: { sessionAffinity: "ClientIP", sessionAffinityConfig: { clientIP: { timeoutSeconds } } },
      endpoints,
    });
  let asked = 0;
  /** Connections that nobody had before. */
  const one = (cluster: SimulatedCluster, to = "lb", from = "pc to a") =>
    ask(cluster, from, to, "TCP", 1024 + CLIENTS * asked++).goes;
  /** An endpoint that the pc's ring leads to neither beside `usual` nor among all. */
  const unusual = (usual: string) =>
    everywhere.split(", ").find((each) => each !== usual && one(sticky(`${each}, ${usual}`)) === usual)!;

  it("a client stays while endpoints come", () => {
    const usual = one(sticky(everywhere));
    const first = unusual(usual);
    const cluster = sticky(first);
    expect(one(cluster)).toBe(first);
    cluster.apply([], [slice(`${first}, ${usual}`)]);
    expect(one(cluster, "node a")).toBe(first);
    cluster.apply([], [slice(everywhere)]);
    expect([one(cluster), one(cluster, "external")]).toEqual([first, first]);
    // Each ingress node keeps its own: another one has never seen the client.
    expect(one(cluster, "lb", "pc to b")).toBe(usual);
  });

  it("until it has begun no connection for the timeout", () => {
    const usual = one(sticky(everywhere));
    const first = unusual(usual);
    const cluster = sticky(first);
    one(cluster);
    cluster.apply([], [slice(everywhere)]);
    for (let n = 0; n < 3; n++) {
      cluster.pass(59_000);
      expect(one(cluster)).toBe(first);
    }
    cluster.pass(60_000);
    expect(one(cluster)).toBe(usual);
  });

  it.each([
    ["has gone", "c1"],
    ["is not ready", "b1 unready, c1"],
    ["terminates", "b1 leaving, c1"],
  ])("or its endpoint %s; it does not go back", (_, then) => {
    const cluster = sticky("b1");
    expect(one(cluster)).toBe("b1");
    cluster.apply([], [slice(then)]);
    expect(one(cluster)).toBe("c1");
    cluster.apply([], [slice("b1, c1")]);
    expect(one(cluster)).toBe("c1");
  });

  it("an endpoint that a traffic policy rules out is none", () => {
    const spec = { sessionAffinity: "ClientIP", externalTrafficPolicy: "Local" } as const;
    const cluster = clusterOf({ spec, endpoints: "a1" });
    expect(one(cluster)).toBe("a1");
    cluster.apply([], [slice("a2, b1")]);
    expect(one(cluster)).toBe("a2");
  });

  it("without it, one connection has the same backend by whichever node it enters", () => {
    const plain = clusterOf({ endpoints: EVERYWHERE });
    for (let n = 0; n < CLIENTS; n++) {
      const backends = (["a", "b", "c"] as const).map((node) => {
        const ends = { source: PC, destination: LB, sourcePort: 40_000 + n, destinationPort: 80 };
        return plain.fromLan(node, question("TCP", ends)).arrivals[0]!.at;
      });
      expect(new Set(backends).size).toBe(1);
    }
  });
});

// ---- what the endpoints controller makes of pods -------------------------------------------------

describe("from pods", () => {
  const pods = (ready: boolean): Pod[] =>
    (["a1", "b1", "c1"] as const).map((name, n) => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default", uid: `uid-${name}`, labels: { app: "web" } },
      spec: {
        nodeName: name[0]!,
        // Each pod has another number behind the name.
        containers: [{ name: "web", ports: [{ name: "web-port", containerPort: 8081 + n }] }],
      },
      status: {
        phase: "Running",
        podIP: PODS[name],
        conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
      },
    }));
  const node = (name: string): Node => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "topology.kubernetes.io/zone": ZONES[name as NodeName] } },
  });

  function clusterFrom(spec: object, ready = true): SimulatedCluster {
    const ports = [{ name: "http", protocol: "TCP", port: 80, nodePort: NODE_PORT, targetPort: "web-port" }];
    const object = service({ ...spec, ports });
    const selecting = { ...object, spec: { ...object.spec, selector: { app: "web" } } };
    const { actions } = reconcileEndpoints({
      service: selecting as Service,
      pods: pods(ready),
      node,
      slices: [],
      endpoints: undefined,
    });
    const slices = actions.flatMap((action, n) => {
      if (action.verb !== "create" || action.resource !== ENDPOINTSLICES) return [];
      const made = action.object as EndpointSliceObject;
      return [{ ...made, metadata: { ...made.metadata, name: `web-${n}` } }];
    });
    return clusterOf({ service: object, endpoints: "", slices });
  }

  it("named target ports, another number in each pod", () => {
    const cluster = clusterFrom({});
    expect(ask(cluster, "a2", "cluster", "TCP").goes).toBe("a1 b1 c1");
    const ports = new Set<string>();
    for (let n = 0; n < CLIENTS; n++) {
      const ends = { source: PODS.a2, destination: CLUSTER_IP, sourcePort: 41_000 + n, destinationPort: 80 };
      const [arrival] = cluster.fromPod("a2", question("TCP", ends)).arrivals;
      ports.add(`${arrival!.at}:${get16(arrival!.packet.l4, 2)}`);
    }
    expect([...ports].sort()).toEqual(["a1:8081", "b1:8082", "c1:8083"]);
  });

  it.each([
    ["PreferClose", "a1 b1", "c1"],
    ["PreferSameZone", "a1 b1", "c1"],
    ["PreferSameNode", "a1", "c1"],
    [undefined, "a1 b1 c1", "a1 b1 c1"],
  ])("trafficDistribution %s: a goes to %s, c to %s", (trafficDistribution, fromA, fromC) => {
    const cluster = clusterFrom({ trafficDistribution });
    expect(ask(cluster, "a2", "cluster", "TCP").goes).toBe(fromA);
    expect(ask(cluster, "c2", "cluster", "TCP").goes).toBe(fromC);
  });

  it("publishNotReadyAddresses", () => {
    const unready = (spec: object) => ask(clusterFrom(spec, false), "a2", "cluster", "TCP").goes;
    expect(unready({})).toBe("reject");
    expect(unready({ publishNotReadyAddresses: true })).toBe("a1 b1 c1");
  });
});

describe("a cluster IP that no Service has (kube-proxy's nftables: drop)", () => {
  it.each(["TCP", "UDP", "SCTP"] as const)("%s", (protocol) => {
    const cluster = clusterOf({ protocol, endpoints: "a1, b1" });
    for (const from of ["a1", "b2", "a", "c lan", "pc to a"]) {
      const { goes } = ask(cluster, from, "10.152.183.51", protocol);
      expect([from, goes]).toEqual([from, "unallocatedClusterIp"]);
    }
    expect(cluster.all.map(({ test }) => test.flows.size)).toEqual([0, 0, 0]);
  });

  it("a ping", () => {
    const cluster = clusterOf({ endpoints: "a1" });
    const ping = icmpPacket({ source: PODS.a1, destination: "10.152.183.51", type: 8 }, counting(16));
    const { hops, arrivals } = cluster.fromPod("a1", ping);
    expect([hops[0]!.dropped, arrivals]).toEqual([["unallocatedClusterIp"], []]);
  });
});

describe("healthCheckNodePort", () => {
  const local = { externalTrafficPolicy: "Local", healthCheckNodePort: 32_100 } as const;
  it.each([
    ["ready ones of the node count", local, "a1, a2, b1", [2, 1, 0]],
    ["those that are not ready do not", local, "a1 unready, a2 leaving, b1", [0, 1, 0]],
    ["an endpoint of no node counts nowhere", local, "192.0.2.20", [0, 0, 0]],
  ])("%s", (_, spec, endpoints, counts) => {
    const cluster = clusterOf({ spec, endpoints });
    expect(cluster.all.map(({ services }) => services.healthChecks())).toEqual(
      counts.map((localEndpoints) => [{ namespace: "default", name: "web", port: 32_100, localEndpoints }]),
    );
  });

  it("policy Cluster has none", () => {
    const cluster = clusterOf({ spec: { healthCheckNodePort: 32_100 }, endpoints: "a1" });
    expect(cluster.nodes.a.services.healthChecks()).toEqual([]);
  });
});

// ---- connections, and changes while they last -----------------------------------------------------

/** A client with one socket: what it sends goes on where its flow is. */
function socket(
  cluster: SimulatedCluster,
  from: string,
  to: string,
  protocol: Protocol,
  sourcePort = 45_678,
) {
  const client = clientOf(from);
  const [destination, destinationPort] = target(to);
  const ends = { source: client.address, destination, sourcePort, destinationPort };
  return {
    ends,
    send: (packet = question(protocol, ends)) => client.send(cluster, packet),
    /** Where a packet arrives, or how it was refused. */
    where(packet = question(protocol, ends)): string {
      const journey = client.send(cluster, packet);
      const [arrival] = journey.arrivals;
      if (arrival === undefined) return journey.hops.at(-1)!.dropped.join();
      return isRefusal(arrival.packet, ends) ? "reject" : arrival.at;
    },
  };
}

/** Says the same to each of a client's connections until it has one that goes to `backend`. */
function socketTo(cluster: SimulatedCluster, backend: string, from: string, to: string, protocol: Protocol) {
  for (let port = 46_000; port < 46_200; port++) {
    const found = socket(cluster, from, to, protocol, port);
    const journey = found.send();
    const arrival = journey.arrivals[0]!;
    if (arrival.at !== backend) continue;
    cluster.fromArrival(arrival, answer(protocol, turned(endsOf(arrival.packet))));
    return { ...found, arrival };
  }
  throw new Error(`no connection goes to ${backend}`);
}

describe("UDP: a client whose pod is replaced (kube-proxy's conntrack e2e)", () => {
  it.each([
    ["a2", "cluster"],
    ["a", "cluster"],
    ["a2", "node a"],
    ["pc to a", "node a"],
    ["pc to a", "lb"],
    ["b to a", "node a"],
  ])("%s to %s", (from, to) => {
    const cluster = clusterOf({ protocol: "UDP", endpoints: "b1" });
    const client = socket(cluster, from, to, "UDP");
    expect([client.where(), client.where()]).toEqual(["b1", "b1"]);
    cluster.apply([], [slice("c1", "UDP")]);
    expect(client.where()).toBe("c1");
    // None for a while: the client hears it, and then finds the next.
    cluster.apply([], [slice("", "UDP")]);
    expect(client.where()).toBe("reject");
    cluster.apply([], [slice("b2", "UDP")]);
    expect(client.where()).toBe("b2");
    // Becoming not ready is going as well; terminating while it serves is not.
    cluster.apply([], [slice("b2 leaving, c1", "UDP")]);
    expect(client.where()).toBe("b2");
    cluster.apply([], [slice("b2 gone, c1", "UDP")]);
    expect(client.where()).toBe("c1");
  });

  it("an endpoint that comes late: refused until then", () => {
    const cluster = clusterOf({ protocol: "UDP", endpoints: "b1 unready" });
    const client = socket(cluster, "a2", "cluster", "UDP");
    expect(client.where()).toBe("reject");
    cluster.apply([], [slice("b1", "UDP")]);
    expect(client.where()).toBe("b1");
  });

  it("a pod whose address is published before it is ready, and that goes", () => {
    const published = (who: PodName): EndpointSliceObject => ({
      ...slice("", "UDP"),
      endpoints: [
        {
          addresses: [PODS[who]],
          nodeName: who[0]!,
          conditions: { ready: true, serving: false, terminating: false },
        },
      ],
    });
    const cluster = clusterOf({ protocol: "UDP", endpoints: "", slices: [published("b1")] });
    const client = socket(cluster, "a2", "cluster", "UDP");
    expect(client.where()).toBe("b1");
    cluster.apply([], [published("c1")]);
    expect(client.where()).toBe("c1");
  });

  it.each([
    ["its load-balancer address", "lb"],
    ["its external address", "external"],
  ])("a client that asked %s before it was the Service's", (_, to) => {
    const cluster = clusterOf({ protocol: "UDP", service: null, endpoints: "b1" });
    const client = socket(cluster, "a2", to, "UDP");
    const elsewhere = socket(cluster, "a2", "198.51.100.9", "UDP");
    expect([client.where(), client.where(), elsewhere.where()]).toEqual(["lan", "lan", "lan"]);
    cluster.apply([service({}, "UDP")], []);
    expect(client.where()).toBe("b1");
    expect(elsewhere.where()).toBe("lan");
    expect(cluster.nodes.a.test.flows.size).toBe(2);
  });

  it("later fragments go where the first ones of their packet go", () => {
    const cluster = clusterOf({ protocol: "UDP", endpoints: "b1" });
    const { ends, where } = socket(cluster, "a2", "cluster", "UDP");
    const l4 = udpPacket(ends, counting(200)).subarray(20);
    const part = (id: number, from: number, to: number) =>
      ipv4(
        { ...ends, id, protocol: UDP, fragment: (to < l4.length ? 0x2000 : 0) | (from / 8) },
        l4.subarray(from, to),
      );
    expect([where(part(1, 0, 104)), where(part(1, 104, 208))]).toEqual(["b1", "b1"]);
    expect(where(part(2, 0, 104))).toBe("b1");
    cluster.apply([], [slice("c1", "UDP")]);
    // Its first fragment has gone to a pod that is no more.
    expect(where(part(2, 104, 208))).toBe("fragmentOrphan");
    expect([where(part(3, 0, 104)), where(part(3, 104, 208))]).toEqual(["c1", "c1"]);
  });
});

describe("UDP: one socket that talks to a pod, and to a Service whose endpoint that pod is", () => {
  // What Linux does: the second flow has another source port at the pod.
  it.each([
    ["a2", "cluster", "b1 first"],
    ["a2", "cluster", "the Service first"],
    ["a2", "node a", "the Service first"],
    ["a", "cluster", "b1 first"],
    ["a", "cluster", "the Service first"],
    ["a2", "lb", "b1 first"],
  ])("%s to %s, %s", (from, to, order) => {
    const cluster = clusterOf({ protocol: "UDP", endpoints: "b1" });
    const sockets = [socket(cluster, from, "b1:8080", "UDP"), socket(cluster, from, to, "UDP")];
    if (order !== "b1 first") sockets.reverse();
    const asked = sockets.map(({ send, ends }) => ({ arrival: send().arrivals[0]!, ends }));
    expect(asked.map(({ arrival }) => arrival.at)).toEqual(["b1", "b1"]);
    expect(asked[0]!.arrival.packet.source).toBe(asked[1]!.arrival.packet.source);
    expect(get16(asked[0]!.arrival.packet.l4, 0)).toBe(sockets[0]!.ends.sourcePort);
    expect(get16(asked[1]!.arrival.packet.l4, 0)).not.toBe(sockets[0]!.ends.sourcePort);
    // Answers in the other order, and twice: each comes from who was asked.
    for (const { arrival, ends } of [...asked.reverse(), ...asked]) {
      const back = cluster.fromArrival(arrival, answer("UDP", turned(endsOf(arrival.packet))));
      expect(back.arrivals.map(({ at, packet }) => ({ at, ...endsOf(packet) }))).toEqual([
        { at: clientOf(from).at, ...turned(ends) },
      ]);
    }
  });

  it("what goes to other ports of pods is not kept track of", () => {
    const cluster = clusterOf({ protocol: "UDP", endpoints: "b1" });
    expect(socket(cluster, "a2", "b1:8081", "UDP").where()).toBe("b1");
    expect(socket(cluster, "a2", "c2:8082", "UDP").where()).toBe("c2");
    expect(cluster.nodes.a.test.flows.size).toBe(0);
    expect(socket(cluster, "a2", "c2:8080", "UDP").where()).toBe("c2");
    expect(cluster.nodes.a.test.flows.size).toBe(1);
  });
});

describe("TCP: established connections stay where they are", () => {
  const data = (ends: Ends) =>
    tcpPacket({ ...ends, sequence: 1001, acknowledgement: 501, flags: ACK | PSH }, counting(10));

  it.each([
    ["endpoints are added", slice("b1, a1, a2, b2, c1, c2")],
    ["other endpoints go", slice("b1")],
    ["their own endpoint terminates", slice("a1, b1 leaving, c1")],
    ["their own endpoint goes from the slices", slice("a1, c1")],
  ])("%s", (_, after) => {
    for (const [from, to] of [
      ["a2", "cluster"],
      ["a", "cluster"],
      ["pc to a", "node a"],
      ["pc to a", "lb"],
    ] as const) {
      const cluster = clusterOf({ endpoints: EVERYWHERE });
      const client = socketTo(cluster, "b1", from, to, "TCP");
      cluster.apply([], [after]);
      expect(client.where(data(client.ends))).toBe("b1");
    }
  });

  it("their Service is deleted", () => {
    const cluster = clusterOf({ endpoints: EVERYWHERE });
    const client = socketTo(cluster, "b1", "a2", "cluster", "TCP");
    cluster.remove(["web"], ["web-8080"]);
    expect(client.where(data(client.ends))).toBe("b1");
  });

  it("the ingress moves to another node, which adopts them", () => {
    const cluster = clusterOf({ endpoints: EVERYWHERE });
    const client = socketTo(cluster, "b1", "pc to a", "lb", "TCP");
    const [moved] = cluster.fromLan("c", data(client.ends)).arrivals;
    expect(moved!.at).toBe("b1");
    const back = cluster.fromPod(
      "b1",
      tcpPacket({ ...turned(endsOf(moved!.packet)), sequence: 501, acknowledgement: 1011 }, counting(4)),
    );
    expect(back.hops.map(({ node }) => node)).toEqual(["b", "c"]);
    expect(back.arrivals.map(({ at, packet }) => ({ at, ...endsOf(packet) }))).toEqual([
      { at: "lan", ...turned(client.ends) },
    ]);
  });
});

describe("out-of-window packets do not reset a connection (kube-proxy's conntrack e2e)", () => {
  it.each([
    ["a2", "cluster"],
    ["pc to a", "node a"],
    ["pc to a", "lb"],
  ])("%s to %s: they are translated like all others, both ways, and change nothing", (from, to) => {
    const cluster = clusterOf({ endpoints: "b1" });
    const client = socketTo(cluster, "b1", from, to, "TCP");
    const seen = endsOf(client.arrival.packet);
    const far = 1_000_000_000;
    const fromServer = (fields: object, payload = counting(8)) =>
      cluster
        .fromPod("b1", tcpPacket({ ...turned(seen), acknowledgement: 1001, ...fields }, payload))
        .arrivals.map(({ packet }) => endsOf(packet));
    const asked = [turned(client.ends)];
    client.send(tcpPacket({ ...client.ends, sequence: 1001, acknowledgement: 501 }, NOTHING));
    expect(fromServer({ sequence: 501 + far })).toEqual(asked);
    expect(
      client.where(tcpPacket({ ...client.ends, sequence: 1001 + far, acknowledgement: 501 }, counting(3))),
    ).toBe("b1");
    expect(fromServer({ sequence: 501 + far, flags: RST | ACK }, NOTHING)).toEqual(asked);
    // It lives on, long after a reset would have ended it.
    cluster.pass(200_000);
    expect(fromServer({ sequence: 501 })).toEqual(asked);
    expect(
      client.where(tcpPacket({ ...client.ends, sequence: 1001, acknowledgement: 509 }, counting(5))),
    ).toBe("b1");
  });
});

describe("ICMP errors reach the client with what it knows (kube-proxy's conntrack e2e)", () => {
  it.each([
    ["a2", "cluster", "UDP"],
    ["a", "cluster", "UDP"],
    ["a lan", "cluster", "UDP"],
    ["pc to a", "node a", "UDP"],
    ["pc to a", "lb", "TCP"],
    ["a2", "node c", "UDP"],
    ["b1", "cluster", "UDP"],
  ] as const)("%s to %s, %s", (from, to, protocol) => {
    const cluster = clusterOf({ protocol, endpoints: "b1" });
    const client = socket(cluster, from, to, protocol);
    const sent = question(protocol, client.ends);
    const [arrival] = client.send(sent).arrivals;
    expect(arrival!.at).toBe("b1");
    const cause = arrival!.packet;
    // The backend itself, and a router on the way.
    for (const [type, code] of [
      [3, 3],
      [3, 4],
    ]) {
      const error = icmpPacket(
        { source: PODS.b1, destination: cause.source, type: type!, code: code! },
        cause.bytes.subarray(0, 28),
      );
      const [back] = cluster.fromPod("b1", error).arrivals;
      expect([back!.at, back!.packet.source, back!.packet.destination]).toEqual([
        clientOf(from).at,
        client.ends.destination,
        client.ends.source,
      ]);
      expect([back!.packet.l4[0], back!.packet.l4[1]]).toEqual([type, code]);
      const quoted = back!.packet.l4.subarray(8);
      expect(quoted.subarray(12, 24)).toEqual(sent.subarray(12, 24));
    }
  });

  it.each([
    ["a2", "cluster"],
    ["pc to a", "node a"],
    ["pc to a", "lb"],
  ])("%s to %s: the TTL runs out at the backend's node", (from, to) => {
    const cluster = clusterOf({ protocol: "UDP", endpoints: "b1" });
    const { ends, send } = socket(cluster, from, to, "UDP");
    // A pod's packet is routed at both nodes, the node's own kernel has done it for what it hands over.
    const sent = udpPacket({ ...ends, ttl: from === "a2" ? 2 : 1 }, counting(20));
    const [back] = send(sent).arrivals;
    expect([back!.at, back!.packet.destination]).toEqual([clientOf(from).at, ends.source]);
    expect(back!.packet.l4[0]).toBe(11);
    expect(back!.packet.l4.subarray(8 + 12, 8 + 24)).toEqual(sent.subarray(12, 24));
  });

  it.each([
    ["a2", "cluster"],
    ["pc to a", "node a"],
  ])("%s to %s: the backend's address has no pod any more", (from, to) => {
    const cluster = clusterOf({ protocol: "UDP", endpoints: "10.1.79.77" });
    const { ends, send } = socket(cluster, from, to, "UDP");
    const [back] = send().arrivals;
    expect([back!.at, back!.packet.destination, back!.packet.l4[0], back!.packet.l4[1]]).toEqual([
      clientOf(from).at,
      ends.source,
      3,
      1,
    ]);
  });
});

describe("one client port towards two addresses of one backend", () => {
  it.each(["TCP", "UDP"] as const)("%s: two flows, and each answer comes from what was asked", (protocol) => {
    const cluster = clusterOf({ protocol, endpoints: "b1" });
    const ways = [
      ["pc to a", "node a"],
      ["pc to c", "node c"],
      ["pc to a", "lb"],
      ["pc to c", "external"],
      ["pc to b", "node b"],
    ] as const;
    const all = ways.map(([from, to]) => {
      const client = socket(cluster, from, to, protocol);
      const arrival = client.send().arrivals[0]!;
      expect([arrival.at, arrival.packet.source]).toEqual(["b1", PC]);
      return { client, arrival };
    });
    const tuples = all.map(({ arrival }) => get16(arrival.packet.l4, 0));
    expect(new Set(tuples).size).toBe(ways.length);
    for (const { client, arrival } of all) {
      const back = cluster.fromArrival(arrival, answer(protocol, turned(endsOf(arrival.packet))));
      expect(back.arrivals.map(({ at, packet }) => ({ at, ...endsOf(packet) }))).toEqual([
        { at: "lan", ...turned(client.ends) },
      ]);
    }
  });
});
