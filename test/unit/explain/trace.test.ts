/** Traces of what the walkthrough does, and of what goes wrong in it, in a simulated cluster. */
import { describe, expect, test } from "vitest";
import type { EndpointSliceObject, ServiceObject } from "../../../src/desired/serviceObjects.js";
import { DROP_TEXTS } from "../../../src/explain/trace/dropTexts.js";
import { trace } from "../../../src/explain/trace/journey.js";
import type { Trace, TraceStep } from "../../../src/explain/trace/model.js";
import { type Asked, QuestionError, questionOf } from "../../../src/explain/trace/question.js";
import { type NodeSource, TraceCluster } from "../../../src/explain/trace/TraceCluster.js";
import { traceText } from "../../../src/explain/trace/text.js";
import { traceSvg } from "../../../src/explain/traceSvg.js";
import { DropReason } from "../../../src/packet/DropReason.js";
import { counting, SYN, tcpPacket } from "../../support/frames.js";
import { NODES, PC, PODS, SimulatedCluster } from "../../support/model/SimulatedCluster.js";
import { sourcesOf } from "../../support/traceNodes.js";

const VIP = "192.168.2.100";
const CLUSTER_IP = "10.152.183.10";

function service(name: string, spec: object, ip?: string): ServiceObject {
  return {
    metadata: { name, namespace: "default" },
    spec: { ports: [{ name: "http", protocol: "TCP", port: 80 }], ...spec },
    status: { loadBalancer: ip === undefined ? {} : { ingress: [{ ip }] } },
  } as ServiceObject;
}

function slice(name: string, endpoints: Record<string, string>): EndpointSliceObject {
  return {
    metadata: { name, namespace: "default", labels: { "kubernetes.io/service-name": name } },
    addressType: "IPv4",
    ports: [{ name: "http", protocol: "TCP", port: 8080 }],
    endpoints: Object.entries(endpoints).map(([address, nodeName]) => ({ addresses: [address], nodeName })),
  };
}

/** web: LoadBalancer over a1, b1, c1; empty: a Service without endpoints. */
function cluster(): SimulatedCluster {
  const made = new SimulatedCluster();
  const ports = [{ name: "http", protocol: "TCP", port: 80, nodePort: 30_080 }];
  made.apply(
    [
      service("web", { type: "LoadBalancer", clusterIP: CLUSTER_IP, ports }, VIP),
      service("empty", { clusterIP: "10.152.183.11" }),
      service("here", {
        clusterIP: "10.152.183.12",
        type: "NodePort",
        externalTrafficPolicy: "Local",
        ports: [{ name: "http", protocol: "TCP", port: 80, nodePort: 30_081 }],
      }),
      service(
        "few",
        {
          clusterIP: "10.152.183.13",
          type: "LoadBalancer",
          loadBalancerSourceRanges: ["198.51.100.0/24"],
          ports: [{ name: "http", protocol: "TCP", port: 80, nodePort: 30_082 }],
        },
        "192.168.2.101",
      ),
    ],
    [
      slice("web", { [PODS.a1]: "a", [PODS.b1]: "b", [PODS.c1]: "c" }),
      slice("here", { [PODS.b1]: "b" }),
      slice("few", { [PODS.b1]: "b" }),
    ],
  );
  return made;
}

/** With `owner` answering ARP for VIP. */
function announcedBy(sources: NodeSource[], owner: string): NodeSource[] {
  return sources.map((source) => ({
    ...source,
    tables: {
      ...source.tables,
      announced: [
        {
          address: VIP,
          owner,
          answers: source.tables.node === owner,
          order: ["c", "a", "b"].map((node) => ({ node, up: node !== "c" })),
          problem: "",
        },
      ],
    },
  }));
}

async function traced(asked: Asked, sources: NodeSource[] = sourcesOf(cluster())): Promise<Trace> {
  const world = new TraceCluster(sources);
  return trace(world, questionOf(world, { pc: PC, ...asked }));
}

const stages = (steps: readonly TraceStep[]) => steps.map(({ lane, stage }) => `${lane} ${stage}`);
const stepOf = ({ request }: Trace, stage: string) => request.steps.find((step) => step.stage === stage)!;
const chosen = (result: Trace) => stepOf(result, "service").service!.endpoints.find((each) => each.chosen)!;

describe("a trace", () => {
  test("from the pc through a load-balancer address: every step, and the way back", async () => {
    const result = await traced(
      { from: "pc", to: `${VIP}:80`, sourcePort: 40_003 },
      announcedBy(sourcesOf(cluster()), "a"),
    );
    expect(result.verdict).toBe("answered");
    const to = chosen(result);
    expect(to.node).toBe("b");
    expect(stages(result.request.steps)).toEqual([
      "pc send",
      "LAN arp",
      ...["kernel", "parse", "policy", "conntrack", "service", "translate", "route", "encap"].map(
        (stage) => `a ${stage}`,
      ),
      ...["decap", "parse", "policy", "conntrack", "route"].map((stage) => `b ${stage}`),
      "default/b1 deliver",
    ]);
    expect(stages(result.reply!.steps)).toEqual([
      "default/b1 send",
      ...["parse", "policy", "conntrack", "route", "encap"].map((stage) => `b ${stage}`),
      ...["decap", "parse", "policy", "conntrack", "translate", "route", "kernel"].map(
        (stage) => `a ${stage}`,
      ),
      "pc deliver",
    ]);
    expect(stepOf(result, "arp")).toMatchObject({
      what: `a answers ARP for ${VIP}`,
      because: "the first that is up of c (down), a, b",
    });
    expect(stepOf(result, "service").service).toMatchObject({
      name: "default/web:http",
      frontend: "load-balancer address",
      slots: 1021,
      endpoints: [
        { pod: "default/c1", node: "c" },
        { pod: "default/b1", node: "b", chosen: true },
        { pod: "default/a1", node: "a" },
      ],
    });
    expect(stepOf(result, "translate")).toMatchObject({
      before: { source: PC, sourcePort: 40_003, destination: VIP, destinationPort: 80 },
      packet: { source: PC, sourcePort: 40_003, destination: PODS.b1, destinationPort: 8080 },
    });
    expect(stepOf(result, "encap").outer).toMatchObject({
      source: NODES.a.underlay,
      destination: NODES.b.underlay,
      destinationPort: 4789,
      vni: 4096,
      innerDestinationMac: NODES.b.vtepMac,
    });
    expect(stepOf(result, "encap").outer!.innerSourceMac).toMatch(/^02:74:/);
    expect(result.reply!.packetAtEnd).toMatchObject({
      source: VIP,
      sourcePort: 80,
      destination: PC,
      info: "SYN ACK",
    });
    // The pc's kernel sends 64; a's kernel, and b's dataplane, are routers.
    expect(result.request.packetAtEnd.ttl).toBe(62);
  });

  test("says what conntrack knows where the connection is there already, and takes its endpoint", async () => {
    const world = cluster();
    const ends = { source: PODS.a2, destination: CLUSTER_IP, sourcePort: 50_000, destinationPort: 80 };
    const { arrivals } = world.fromPod("a2", tcpPacket({ ...ends, flags: SYN, sequence: 999 }, counting(0)));
    // Its endpoint is none any more; the connection stays with it.
    const others = { a: PODS.a1, b: PODS.b1, c: PODS.c1 };
    const rest = Object.entries(others).filter(([, address]) => address !== arrivals[0]!.packet.destination);
    world.apply([], [slice("web", Object.fromEntries(rest.map(([node, address]) => [address, node])))]);
    const asked = { from: "pod/a2", to: "svc/web", sourcePort: 50_000 };
    const result = await traced(asked, sourcesOf(world));
    expect(stepOf(result, "conntrack")).toMatchObject({
      what: "belongs to a flow in SYN_SENT, of default/web:http",
      flow: { found: true, original: true, state: "SYN_SENT" },
    });
    expect(result.request.steps.some(({ stage }) => stage === "service")).toBe(false);
    expect(result.request.packetAtEnd.destination).toBe(arrivals[0]!.packet.destination);
    // Without that flow it gets another.
    const fresh = await traced({ ...asked, sourcePort: 50_001 }, sourcesOf(world));
    expect(rest.map(([, address]) => address)).toContain(fresh.request.packetAtEnd.destination);
  });

  test("knows which endpoint a client has by session affinity, and says that it stays", async () => {
    const affine = service("web", { clusterIP: CLUSTER_IP, sessionAffinity: "ClientIP" });
    const all = slice("web", { [PODS.a1]: "a", [PODS.b1]: "b", [PODS.c1]: "c" });
    const fresh = new SimulatedCluster();
    fresh.apply([affine], [all]);
    for (const client of ["a2", "b2", "c2"] as const) {
      const asked = { from: `pod/${client}`, to: "svc/web", sourcePort: 40_100 };
      const ring = chosen(await traced(asked, sourcesOf(fresh))).address;
      // The client's endpoint of before is another than that.
      const [before] = [PODS.a1, PODS.b1, PODS.c1].filter((address) => address !== ring);
      const world = new SimulatedCluster();
      world.apply([affine], [slice("web", { [before!]: "" })]);
      const ends = { source: PODS[client], destination: CLUSTER_IP, sourcePort: 50_000, destinationPort: 80 };
      world.fromPod(client, tcpPacket({ ...ends, flags: SYN, sequence: 999 }, counting(0)));
      world.apply([], [all]);
      const result = await traced(asked, sourcesOf(world));
      expect(chosen(result).address).toBe(before);
      expect(stepOf(result, "service").because).toMatch(
        new RegExp(`by the client's address \\(session affinity\\); that is ${ring}:8080, but .* it stays$`),
      );
    }
  });

  test("says that an endpoint was passed over because its node is dead, where new connections avoid it", async () => {
    const world = cluster();
    const asked = { from: "pod/a2", to: "svc/web", sourcePort: 40_000 };
    const before = chosen(await traced(asked, sourcesOf(world)));
    expect([before.node, before.dead]).toEqual(["c", false]);
    world.setAlive("c", false);
    const result = await traced(asked, sourcesOf(world));
    const after = chosen(result);
    expect(["a", "b"]).toContain(after.node);
    expect(result.request.packetAtEnd.destination).toBe(after.address);
    const { service: view, because } = stepOf(result, "service");
    expect(view!.endpoints.map(({ node, dead }) => [node, dead]).sort()).toEqual([
      ["a", false],
      ["b", false],
      ["c", true],
    ]);
    expect(view!.taken).not.toBe(view!.slot);
    expect(because).toContain(
      `slot ${view!.slot} of 1021 in the ring of 3 for traffic from inside, by the client's address, port and protocol; ` +
        `that is ${PODS.c1}:8080, whose node c is dead, so slot ${view!.taken}, the next one of a node that lives`,
    );
    expect(traceText(result)).toMatch(/^ +10\.1\.69\.193:8080 default\/c1 on c \(node is dead\)$/m);
    expect(traceSvg(result)).toContain("default/c1 on c (dead)");
    // The pod's node holds nobody for dead, and says so.
    const others = await traced({ ...asked, from: "pod/c2" }, sourcesOf(world));
    expect(stepOf(others, "service").service!.endpoints.some(({ dead }) => dead)).toBe(false);
    // Where all are, there is nothing better.
    for (const name of ["a", "b", "c"] as const) world.setAlive(name, false);
    world.apply([], [slice("web", { [PODS.b1]: "b", [PODS.c1]: "c" })]);
    const last = await traced(asked, sourcesOf(world));
    expect(stepOf(last, "service").because).toMatch(/; its node is dead, as are those of all others, so/);
  });

  test("says the same of an endpoint that a client had by session affinity", async () => {
    const world = new SimulatedCluster();
    world.apply(
      [service("web", { clusterIP: CLUSTER_IP, sessionAffinity: "ClientIP" })],
      [slice("web", { [PODS.b1]: "b", [PODS.c1]: "c" })],
    );
    const ends = { source: PODS.a2, destination: CLUSTER_IP, sourcePort: 50_000, destinationPort: 80 };
    world.fromPod("a2", tcpPacket({ ...ends, flags: SYN, sequence: 999 }, counting(0)));
    const asked = { from: "pod/a2", to: "svc/web", sourcePort: 50_001 };
    const had = chosen(await traced(asked, sourcesOf(world)));
    world.setAlive(had.node as "b" | "c", false);
    const result = await traced(asked, sourcesOf(world));
    expect(chosen(result).node).toBe(had.node === "b" ? "c" : "b");
    expect(stepOf(result, "service").because).toContain(
      `that is ${had.address}:8080, whose node ${had.node} is dead`,
    );
  });

  test.each([
    ["a pod to a pod on another node", { from: "pod/a1", to: "pod/b1:8080" }, "answered", PODS.b1],
    ["a pod to a pod on its node", { from: "default/a1", to: `${PODS.a2}:80` }, "answered", PODS.a2],
    ["a ping", { from: "pod/a1", to: PODS.c1 }, "answered", PODS.c1],
    ["a datagram", { from: "pod/a1", to: `${PODS.c1}:53`, protocol: "udp" as const }, "answered", PODS.c1],
    ["a node's program to a pod", { from: "node/a", to: "pod/b2:80" }, "answered", PODS.b2],
    ["a node's program to its own NodePort", { from: "node/b", to: "nodeport b:30080" }, "answered", null],
    ["a node to another's NodePort", { from: "node/a", to: "nodeport/b:30080" }, "answered", null],
    ["the pc to a NodePort", { from: "pc", to: "nodeport c:30080" }, "answered", null],
    ["the pc to a Service: its load-balancer address", { from: PC, to: "svc/web" }, "answered", null],
    ["a pod to the outside", { from: "pod/a1", to: "198.51.100.1:443" }, "answered", "198.51.100.1"],
    ["a ping to the outside", { from: "pod/a1", to: "198.51.100.1" }, "answered", "198.51.100.1"],
    ["a node to another's program", { from: "node/a", to: "node/b:22" }, "answered", NODES.b.underlay],
    ["the pc to a pod by a node", { from: "pc", to: `${PODS.a1}:80`, via: "b" }, "answered", PODS.a1],
  ])("%s", async (_, asked, verdict, destination) => {
    const result = await traced(asked, announcedBy(sourcesOf(cluster()), "b"));
    expect([result.verdict, result.request.end.kind]).toEqual([verdict, "delivered"]);
    if (destination !== null) expect(result.request.packetAtEnd.destination).toBe(destination);
    else expect([PODS.a1, PODS.b1, PODS.c1]).toContain(result.request.packetAtEnd.destination);
    const { source, destination: back } = result.reply!.packetAtEnd;
    expect([source, back]).toEqual([result.request.packet.destination, result.request.packet.source]);
  });

  test.each([
    [
      "a Service without endpoints",
      { from: "pod/a1", to: "svc/empty" },
      "refused",
      "noEndpoint",
      /Running and Ready/,
    ],
    [
      "a port that no Service has",
      { from: "pod/a1", to: `${CLUSTER_IP}:81` },
      "refused",
      "noServicePort",
      /kubectl get svc/,
    ],
    [
      "an address that no pod has",
      { from: "pod/a1", to: "10.1.235.200:80" },
      "refused",
      "hostUnreachable",
      /podwire status/,
    ],
    [
      "Local with none here",
      { from: "pc", to: "nodeport a:30081" },
      "dropped",
      "noLocalEndpoint",
      /traffic policy/,
    ],
    [
      "a client outside the source ranges",
      { from: "pc", to: "192.168.2.101:80", via: "a" },
      "dropped",
      "sourceRange",
      /loadBalancerSourceRanges/,
    ],
    [
      "a ClusterIP from outside, by a route",
      { from: "pc", to: "svc/empty", via: "a" },
      "dropped",
      "clusterIpFromOutside",
      /LoadBalancer/,
    ],
    [
      "a ClusterIP from outside",
      { from: "pc", to: "svc/empty" },
      "dropped",
      "noRouteFromOutside",
      /NodePort/,
    ],
    [
      "an address that nobody announces",
      { from: "pc", to: `${VIP}:80` },
      "dropped",
      "noArpReply",
      /L2Advertisement/,
    ],
    [
      "a pod that speaks VXLAN",
      { from: "pod/a1", to: "node/b:4789", protocol: "udp" as const },
      "dropped",
      "podVxlan",
      /must not/,
    ],
  ])("says why %s gets nothing, and what would change it", async (_, asked, verdict, reason, remedy) => {
    const result = await traced(asked);
    const { end } = result.request;
    expect([result.verdict, end.kind]).toEqual([verdict, "dropped"]);
    if (end.kind !== "dropped") throw new Error("unreachable");
    expect(end.drop.reason).toBe(reason);
    expect(end.drop.remedy).toMatch(remedy);
    expect(traceText(result)).toContain(end.drop.why);
    if (verdict === "refused") {
      // Who asked is told, by a reset or an ICMP error.
      expect(result.reply!.end).toMatchObject({ kind: "delivered", lane: "default/a1" });
      expect(result.reply!.packet.info).toMatch(/^(RST ACK|host unreachable)$/);
    }
  });

  test("ends where nobody tells of the tables: a kernel VTEP, a node that does not answer", async () => {
    const kernel = await traced({ from: "pod/a1", to: `${PODS.k1}:80` });
    expect(kernel).toMatchObject({ verdict: "unseen", request: { end: { kind: "unseen", lane: "k" } } });
    const sources = sourcesOf(cluster()).filter(({ tables }) => tables.node !== "b");
    const world = new TraceCluster(sources, ["node b does not tell of its tables: no answer"]);
    const result = await trace(world, questionOf(world, { from: "pod/a1", to: `${PODS.b1}:80` }));
    expect(result.request.end).toMatchObject({ kind: "unseen", lane: "b" });
    expect(traceText(result)).toContain("Note: node b does not tell of its tables");
  });

  test.each([
    ["its own NodePort", "node/b:30080", NODES.b.tunnel],
    ["a NodePort by loopback", "127.0.0.1:30080", NODES.b.tunnel],
    ["a program of its own", "node/b:22", NODES.b.underlay],
    ["loopback", "127.0.0.1:22", "127.0.0.1"],
    ["another node's NodePort", "node/a:30080", NODES.b.underlay],
  ])("a program that asks %s has the source that its kernel prefers", async (_, to, source) => {
    const { request } = await traced({ from: "node/b", to });
    expect(request.packet.source).toBe(source);
  });

  test("changes nothing of what it looks at", async () => {
    const world = cluster();
    const before = world.all.map((node) => node.lines());
    await traced({ from: "pod/a1", to: "svc/web" }, sourcesOf(world));
    expect(world.all.map((node) => node.lines())).toEqual(before);
  });

  test("is deterministic, and the source port decides about the endpoint", async () => {
    const ask = (sourcePort: number) => traced({ from: "pod/a2", to: "svc/web", sourcePort });
    expect(await ask(40_000)).toEqual(await ask(40_000));
    const found = new Set<string>();
    for (let port = 40_000; port < 40_020; port++)
      found.add((await ask(port)).request.packetAtEnd.destination);
    expect(found.size).toBe(3);
  });
});

describe("a question", () => {
  const world = () => new TraceCluster(sourcesOf(cluster()));
  test.each([
    [{ from: "nobody", to: "svc/web" }, /"nobody" is nobody: write pc/],
    [{ from: "pod/z", to: "svc/web" }, /no pod "z"; there are default\/a1, default\/a2/],
    [{ from: "default/a", to: "svc/web" }, /"default\/a" could be default\/a1, default\/a2$/],
    [{ from: "node/z", to: "svc/web" }, /no agent of a node "z" answers; there are a, b, c/],
    [{ from: "pod/a1", to: "svc/nothing" }, /there is no Service default\/nothing/],
    [{ from: "pod/a1", to: "svc/web:81" }, /default\/web has no such port; it has 80\/TCP/],
    [{ from: "pod/a1", to: "svc/web", protocol: "udp" as const }, /has no such port/],
    [{ from: "pod/a1", to: "pod/a1:80" }, /reaches its own address within itself/],
    [{ from: "pod/a1", to: "what" }, /"what" is no target/],
    [{ from: "pod/a1", to: `${PODS.b1}:0` }, /"0" is no port/],
    [{ from: "pod/a1", to: `${PODS.b1}:99999` }, /is no port/],
    [{ from: "pod/a1", to: PODS.b1, protocol: "tcp" as const }, /tcp needs a port/],
    [{ from: "pc", to: "svc/web", via: "z" }, /no agent of a node "z"/],
  ])("%j is answered by what would do", (asked, message) => {
    expect(() => questionOf(world(), asked)).toThrow(QuestionError);
    expect(() => questionOf(world(), asked)).toThrow(message);
  });

  test("of nobody at all", () => {
    expect(() => questionOf(new TraceCluster([]), { from: "pc", to: VIP })).toThrow("no agent tells");
  });

  test("the pc has an address that nobody of the cluster has", () => {
    const { packet } = questionOf(world(), { from: "pc", to: `${VIP}:80` });
    expect([...packet.subarray(12, 16)]).toEqual([192, 168, 2, 10]);
  });
});

test("every drop reason has words, and a remedy that is a sentence", () => {
  for (const name of Object.keys(DropReason)) {
    const [why, remedy] = DROP_TEXTS[name as keyof typeof DROP_TEXTS];
    expect(why, name).toMatch(/^[a-zA-Z].*[^.]$/);
    expect(remedy, name).toMatch(/^[A-Z].*[.?a-z]$/);
  }
});

describe("output", () => {
  test("text groups steps by who takes them, and ends with what becomes of it", async () => {
    const text = traceText(await traced({ from: "pod/a1", to: "svc/web", sourcePort: 40_001 }));
    expect(text).toContain("\na\n  parse      tcp ");
    expect(text).toMatch(/\n {13}▸ 10\.1\.\d+\.\d+:8080 default\/[abc]1 on [abc]\n/);
    expect(text).toContain("\nThe way back: tcp ");
    expect(text).toMatch(
      /\nAnswered: pod default\/[abc]1 receives .* comes back as 10\.152\.183\.10:80 → .*\.\n$/,
    );
    for (const line of text.split("\n").slice(1, -2)) expect(line.length).toBeLessThanOrEqual(118);
  });

  test("SVG has a lane for each who takes part, and nothing that breaks out of its text", async () => {
    const result = await traced({ from: "pod/a1", to: "svc/web", sourcePort: 40_001 });
    const hostile = { ...result, from: '<script>"&' };
    const svg = traceSvg(hostile);
    expect(svg).toMatch(/^<svg [^>]*width="\d+" height="\d+"/);
    const lanes = new Set([...result.request.steps, ...result.reply!.steps].map(({ lane }) => lane));
    expect(svg).not.toContain("<script");
    // Headings are as wide as the picture at most: a bold letter of 12 px has 7.8 px or less.
    const [, width] = /^<svg [^>]*width="(\d+)"/.exec(svg)!;
    const heads = [...svg.matchAll(/class="head"[^>]*>([^<]*)</g)].map(([, head]) => head!);
    for (const head of heads.filter((each) => !lanes.has(each)))
      expect(head.replace(/&#\d+;/g, "?").length * 7.8, head).toBeLessThanOrEqual(Number(width) - 48);
    expect(svg.match(/<line class="lane"/g)).toHaveLength(lanes.size);
    const steps = result.request.steps.length + result.reply!.steps.length;
    expect(svg.match(/<rect class="box"/g)).toHaveLength(steps);
    // Well-formed: every tag closes, in order.
    const open: string[] = [];
    for (const [, close, name, self] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
      if (self !== "") continue;
      if (close === "") open.push(name!);
      else expect(open.pop()).toBe(name);
    }
    expect(open).toEqual([]);
  });
});
