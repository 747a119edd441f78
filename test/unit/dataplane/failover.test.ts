/**
 * Connections to a load-balancer address whose owner changes, packet by packet on three nodes: who takes
 * them up, by which way replies return, and who can not make them return elsewhere.
 *
 *   pc ── 192.168.2.36:8080 ── a, then b, then c ── pod
 */
import { beforeEach, describe, expect, it } from "vitest";
import { ringHash } from "../../../src/tables/MaglevRing.js";
import * as flowTag from "../../../src/wire/flowTag.js";
import {
  CLIENT_PORT,
  DATA,
  failoverCluster,
  kill,
  NOTHING,
  OTHER_VIP,
  Stream,
  serve,
  VIP,
  VIP_PORT,
} from "../../support/failover.js";
import { ACK, address, FIN, PSH, RST, SYN, TCP, tcpPacket, UDP, udpPacket } from "../../support/frames.js";
import { parsePacket } from "../../support/model/packets.js";
import {
  NODE_NAMES,
  NODES,
  type NodeName,
  PC,
  PODS,
  type PodName,
  SimulatedCluster,
} from "../../support/model/SimulatedCluster.js";

let cluster: SimulatedCluster;

beforeEach(() => {
  cluster = failoverCluster();
});

describe("the ingress of a connection moves", () => {
  it("from node to node, the pod on a third: taken up in mid-stream, replies turn", () => {
    serve(cluster, ["c1"]);
    const stream = new Stream(cluster).open("a");
    stream.talk("a");
    stream.talk("b");
    stream.talk("a");
    expect(cluster.nodes.b.test.flows.size).toBe(1);
  });

  it("what travels between the nodes, as bytes", () => {
    serve(cluster, ["c1"]);
    const stream = new Stream(cluster).open("a");
    const { hops } = cluster.fromLan("b", stream.segment(ACK | PSH, DATA));
    expect(hops.map(({ node, from }) => `${from} → ${node}`)).toEqual(["node → b", "b → c"]);
    const [, inner] = hops;
    // 192.168.2.36:8080, TCP: the tag is a hash of these alone, whichever node sends it.
    expect(inner!.tag).toBe(flowTag.of(address(VIP), VIP_PORT, TCP));
    // 192.168.2.99:40000 → 10.1.69.193:80, TTL one less than sent by the second hop only.
    const hex = Buffer.from(inner!.packet).toString("hex");
    expect(hex.slice(0, 4)).toBe("4500");
    expect(hex.slice(24, 48)).toBe("c0a802630a0145c19c400050");
  });

  it("from the pod's own node to another", () => {
    serve(cluster, ["a1"]);
    const stream = new Stream(cluster).open("a");
    stream.talk("a");
    stream.talk("b");
    stream.talk("c");
    // One record for the pod's node, whoever is the ingress, and the one that sleeps since it was that itself.
    expect(cluster.nodes.a.test.flows.size).toBe(2);
  });

  it("and back, where endpoints have changed and nobody has told of it", () => {
    serve(cluster, ["a1"]);
    const stream = new Stream(cluster).open("a");
    stream.talk("a");
    stream.talk("b");
    serve(cluster, ["c1"]);
    for (const by of ["a", "b", "a", "b"] as const) stream.talk(by);
    // A node by which its client never came would go by the ring.
    expect(stream.client("c", ACK, DATA)).toBe("c1");
  });

  it("and is over there: nothing is kept of it", () => {
    serve(cluster, ["a1"]);
    const stream = new Stream(cluster).open("a");
    stream.client("a", FIN | ACK);
    stream.server(FIN | ACK);
    stream.client("a", ACK);
    stream.client("b", ACK);
    expect(cluster.nodes.a.test.flows.size).toBe(1);
  });

  it("from another node to the pod's own", () => {
    serve(cluster, ["b1"]);
    const stream = new Stream(cluster).open("a");
    stream.talk("b");
    stream.talk("a");
    stream.talk("b");
    expect(cluster.nodes.b.test.flows.size).toBe(1);
  });

  it("keeps what is known of the connection: one that is closed stays closed", () => {
    serve(cluster, ["b1"]);
    const stream = new Stream(cluster).open("a");
    stream.client("a", FIN | ACK);
    stream.server(FIN | ACK);
    stream.client("a", ACK);
    const before = cluster.nodes.b.lines();
    stream.client("b", ACK);
    expect(cluster.nodes.b.lines()).not.toEqual(before);
    cluster.pass(121_000);
    expect(cluster.nodes.b.test.flows.size).toBe(0);
  });

  it("a new connection with the ports of a closed one, by another node", () => {
    serve(cluster, ["b1"]);
    const stream = new Stream(cluster).open("a");
    stream.client("a", RST | ACK);
    new Stream(cluster).open("b").talk("b");
    cluster.pass(121_000);
    expect(cluster.nodes.b.test.flows.size).toBe(1);
  });

  it("two connections of one client port to one pod by two addresses keep apart, by whichever node", () => {
    serve(cluster, ["b1"]);
    const first = new Stream(cluster).open("a");
    const second = new Stream(cluster, CLIENT_PORT, OTHER_VIP).open("a");
    for (const by of ["a", "c", "b"] as const) {
      first.talk(by);
      second.talk(by);
    }
  });

  it("UDP as well", () => {
    serve(cluster, ["b1"]);
    const ask = { source: PC, destination: VIP, sourcePort: 5000, destinationPort: 53 };
    const answer = { source: PODS.b1, destination: PC, sourcePort: 5353, destinationPort: 5000 };
    for (const by of ["a", "b", "c", "a"] as const) {
      expect(cluster.fromLan(by, udpPacket(ask, DATA)).arrivals[0]!.at).toBe("b1");
      const { hops, arrivals } = cluster.fromPod("b1", udpPacket(answer, DATA));
      expect([hops.at(-1)!.node, arrivals[0]!.at, arrivals[0]!.packet.source]).toEqual([by, "lan", VIP]);
    }
  });

  it("a NodePort's connection does not move: another node's address is another server", () => {
    serve(cluster, ["b1"]);
    const ends = { source: PC, destination: NODES.a.underlay, sourcePort: 6000, destinationPort: 30_800 };
    const syn = tcpPacket({ ...ends, flags: SYN, acknowledgement: 0 }, NOTHING);
    expect(cluster.fromLan("a", syn).arrivals[0]!.at).toBe("b1");
    const elsewhere = { ...ends, destination: NODES.c.underlay };
    const [arrival] = cluster.fromLan("c", tcpPacket({ ...elsewhere, flags: ACK }, DATA)).arrivals;
    expect(parsePacket(arrival!.packet.bytes).sourcePort).not.toBe(6000);
  });
});

describe("replies when the ingress is dead and the client only listens", () => {
  it("return by the new owner, which takes the connection up from the reply", () => {
    serve(cluster, ["c1"]);
    const stream = new Stream(cluster).open("a");
    kill(cluster, "a");
    const { hops } = stream.reply(ACK | PSH, DATA);
    expect(hops.map(({ node, from }) => `${from} → ${node}`)).toEqual(["pod → c", "c → b"]);
    expect(stream.server(ACK | PSH, DATA)).toBe("lan");
    stream.talk("b");
    expect(cluster.nodes.b.test.flows.size).toBe(1);
  });

  it("return by the pod's own node where that is the new owner", () => {
    serve(cluster, ["b1"]);
    const stream = new Stream(cluster).open("a");
    kill(cluster, "a");
    const { hops } = stream.reply(ACK | PSH, DATA);
    expect(hops.map(({ node, from }) => `${from} → ${node}`)).toEqual(["pod → b"]);
    expect(stream.server(ACK | PSH, DATA)).toBe("lan");
    stream.talk("b");
    expect(cluster.nodes.b.test.flows.size).toBe(1);
  });

  it("turn once: when the dead node is back, not before the client comes by it", () => {
    serve(cluster, ["c1"]);
    const stream = new Stream(cluster).open("a");
    kill(cluster, "a");
    stream.server(ACK | PSH, DATA);
    cluster.setAlive("a", true);
    cluster.setOwners(NODE_NAMES);
    expect(stream.reply(ACK | PSH, DATA).hops.at(-1)!.node).toBe("b");
    stream.talk("a");
  });

  it("go on to the dead node where nobody owns the address, or it was a NodePort", () => {
    serve(cluster, ["c1"]);
    const stream = new Stream(cluster).open("a");
    cluster.setAlive("a", false);
    cluster.setOwners([]);
    const [hop] = stream.reply(ACK | PSH, DATA).hops;
    expect(hop!.leaves.map(({ to }) => to)).toEqual(["a"]);
  });

  it("a handshake that nobody knows is not taken up", () => {
    serve(cluster, ["c1"]);
    const stream = new Stream(cluster);
    stream.client("a", SYN);
    kill(cluster, "a");
    const { arrivals } = stream.reply(SYN | ACK);
    expect(arrivals.map(({ at }) => at)).not.toContain("lan");
    expect(cluster.nodes.b.test.flows.size).toBe(0);
  });
});

describe("nobody else turns the replies of a connection", () => {
  /** Where the pod's reply goes. */
  function way(stream: Stream): NodeName {
    return stream.reply(ACK).hops.at(-1)!.node;
  }

  it("no pod with the client's address, on the pod's node or another", () => {
    serve(cluster, ["c1"]);
    const stream = new Stream(cluster).open("a");
    for (const pod of ["c2", "b1", "a1"] as const) {
      const ends = { source: PC, destination: PODS.c1, sourcePort: CLIENT_PORT, destinationPort: 80 };
      const { hops } = cluster.fromPod(pod, tcpPacket({ ...ends, flags: ACK }, DATA));
      expect(hops.at(-1)!.dropped).toEqual(["forgedSource"]);
      expect(cluster.fromPod(pod, stream.segment(ACK, DATA)).hops.at(-1)!.dropped).toEqual(["forgedSource"]);
      expect(way(stream)).toBe("a");
    }
  });

  it("no pod that speaks VXLAN to the node", () => {
    serve(cluster, ["c1"]);
    const stream = new Stream(cluster).open("a");
    for (const to of [NODES.c.underlay, NODES.c.tunnel]) {
      const outer = { source: PODS.b1, destination: to, sourcePort: 4789, destinationPort: 4789 };
      expect(cluster.fromPod("b1", udpPacket(outer, stream.segment(ACK, DATA))).hops[0]!.dropped).toEqual([
        "podVxlan",
      ]);
    }
    expect(way(stream)).toBe("a");
  });

  it("no pod behind a VTEP that is not podwire's: what it sends has no tag", () => {
    serve(cluster, ["c1"]);
    const stream = new Stream(cluster).open("a");
    const { c } = cluster.nodes;
    const tag = flowTag.of(address(VIP), VIP_PORT, TCP);
    const ends = { source: PC, destination: PODS.c1, sourcePort: CLIENT_PORT, destinationPort: 80 };
    const forged = tcpPacket({ ...ends, flags: ACK, sequence: 1001, acknowledgement: 5001 }, DATA);
    c.receive("k", forged, tag);
    expect(way(stream)).toBe("a");
    c.receive("k", forged, 0);
    expect(way(stream)).toBe("a");
  });

  it("nor from the pod's own node, by a VTEP that is not podwire's", () => {
    serve(cluster, ["c1"]);
    const stream = new Stream(cluster).open("c");
    const tag = flowTag.of(address(VIP), VIP_PORT, TCP);
    const ends = { source: PC, destination: PODS.c1, sourcePort: CLIENT_PORT, destinationPort: 80 };
    cluster.nodes.c.receive("k", tcpPacket({ ...ends, flags: ACK }, DATA), tag);
    expect(stream.reply(ACK).hops.map(({ node, leaves }) => [node, leaves[0]!.to])).toEqual([["c", "node"]]);
  });

  it("a tag alone begins nothing at a node that may not own the address, nor towards a pod", () => {
    serve(cluster, ["c1"]);
    const alone = new SimulatedCluster([{ address: VIP, order: ["a"] }]);
    const kept = cluster;
    cluster = alone;
    serve(cluster, ["c1"]);
    cluster = kept;
    const tag = flowTag.of(address(VIP), VIP_PORT, TCP);
    const ends = { source: PODS.c1, sourcePort: 80, destinationPort: CLIENT_PORT };
    const toPc = tcpPacket({ ...ends, destination: PC, flags: ACK }, DATA);
    alone.nodes.b.receive("c", toPc, tag);
    expect(alone.nodes.b.test.flows.size).toBe(0);
    cluster.nodes.b.receive("k", toPc, tag);
    cluster.nodes.b.receive("c", tcpPacket({ ...ends, destination: PODS.b1, flags: ACK }, DATA), tag);
    cluster.nodes.b.receive("c", toPc, tag + 1);
    expect(cluster.nodes.b.test.flows.size).toBe(0);
    cluster.nodes.b.receive("c", toPc, tag);
    expect(cluster.nodes.b.test.flows.size).toBe(1);
  });
});

describe("backends on dead nodes", () => {
  /** Where new connections of these ports go. */
  function spread(by: NodeName, ports: Iterable<number>): Map<number, PodName | undefined> {
    return new Map([...ports].map((port) => [port, new Stream(cluster, port).client(by, SYN)]));
  }

  const ports = Array.from({ length: 300 }, (_, n) => 10_000 + n);

  it("get no new connection; what others have stays theirs; every node chooses alike", () => {
    serve(cluster, ["a1", "a2", "b1", "b2", "c1", "c2"]);
    const before = spread("a", ports);
    cluster.pass(400_000);
    kill(cluster, "c");
    const after = spread("a", ports);
    for (const [port, pod] of before) {
      if (pod![0] !== "c") expect(after.get(port)).toBe(pod);
      expect(["a", "b"]).toContain(after.get(port)![0]);
    }
    // What the dead node had spreads over all that are left.
    const moved = ports.filter((port) => before.get(port)![0] === "c").map((port) => after.get(port));
    expect(new Set(moved)).toEqual(new Set(["a1", "a2", "b1", "b2"]));
    cluster.pass(400_000);
    expect(spread("b", ports)).toEqual(after);
    cluster.pass(400_000);
    cluster.setAlive("c", true);
    expect(spread("b", ports)).toEqual(before);
  });

  it("keep the connections that they have", () => {
    serve(cluster, ["a1", "b1", "c1"]);
    const stream = ports
      .map((port) => new Stream(cluster, port))
      .find((each) => each.client("a", SYN) === "c1")!;
    cluster.setAlive("c", false);
    expect(stream.client("a", ACK)).toBe("c1");
  });

  it("are skipped for pods and NodePorts too, and with session affinity", () => {
    serve(cluster, ["b1", "c1"], { sessionAffinity: "ClientIP" });
    kill(cluster, "c");
    expect(new Set(spread("a", ports).values())).toEqual(new Set(["b1"]));
    for (const port of ports) {
      const fromPod = { source: PODS.a1, destination: "10.152.183.10", sourcePort: port };
      const syn = tcpPacket(
        { ...fromPod, destinationPort: VIP_PORT, flags: SYN, acknowledgement: 0 },
        NOTHING,
      );
      expect(cluster.fromPod("a1", syn).arrivals[0]!.at).toBe("b1");
    }
    const nodePort = { source: PC, destination: NODES.a.underlay, sourcePort: 7000, destinationPort: 30_800 };
    const syn = tcpPacket({ ...nodePort, flags: SYN, acknowledgement: 0 }, NOTHING);
    expect(cluster.fromLan("a", syn).arrivals[0]!.at).toBe("b1");
  });

  it("are chosen as ever where all are dead", () => {
    serve(cluster, ["b1", "b2", "c1"]);
    const before = spread("a", ports);
    cluster.pass(400_000);
    cluster.setAlive("b", false);
    cluster.setAlive("c", false);
    expect(spread("a", ports)).toEqual(before);
  });

  it("a connection that began while a node was dead is taken up by the same choice", () => {
    serve(cluster, ["a1", "b1", "c1"]);
    kill(cluster, "c");
    const streams = ports.slice(0, 60).map((port) => new Stream(cluster, port).open("a"));
    for (const stream of streams) stream.talk("b");
  });

  it("a program of the node itself is skipped with it", () => {
    serve(cluster, ["b1"]);
    cluster.apply(
      [],
      [
        {
          metadata: {
            name: "nginx",
            namespace: "default",
            labels: { "kubernetes.io/service-name": "nginx" },
          },
          addressType: "IPv4",
          ports: [{ name: "tcp", protocol: "TCP", port: 80 }],
          endpoints: [
            { addresses: [PODS.b1], nodeName: "b", conditions: { ready: true } },
            { addresses: [NODES.c.underlay], nodeName: "c", conditions: { ready: true } },
          ],
        },
      ],
    );
    expect(new Set(spread("a", ports).values())).toEqual(new Set(["b1", undefined]));
    cluster.pass(400_000);
    cluster.setAlive("c", false);
    expect(new Set(spread("a", ports).values())).toEqual(new Set(["b1"]));
  });
});

it("the client's port and protocol choose the backend, not the address asked", () => {
  serve(cluster, ["a1", "b1", "c1"]);
  expect(ringHash(address(PC), CLIENT_PORT, TCP)).not.toBe(ringHash(address(PC), CLIENT_PORT, UDP));
  const at = new Stream(cluster, CLIENT_PORT).client("a", SYN);
  expect(new Stream(cluster, CLIENT_PORT, OTHER_VIP).client("b", SYN)).toBe(at);
});
