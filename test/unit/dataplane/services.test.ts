/**
 * Services through the whole pipeline, one node at a time: what leaves, byte for byte where it
 * matters, and that replies find their way back.
 */
import { describe, expect, it } from "vitest";
import { ServiceTableBuilder } from "../../../src/tables/ServiceTable.js";
import { buildTableImage, Tables } from "../../../src/tables/TableImage.js";
import * as flowTag from "../../../src/wire/flowTag.js";
import {
  accounted,
  MASTER,
  NODE_PORT,
  OTHER_POD_PORT,
  type Outcome,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  tableInput,
  VNI,
  WORKER01,
  WORKER02,
} from "../../support/dataplane.js";
import {
  ACK,
  address,
  concat,
  counting,
  ethernet,
  FIN,
  get16,
  get32,
  ICMP,
  IPV4,
  icmpPacket,
  ipv4,
  kernelFrames,
  l4ChecksumOk,
  type Packet,
  PSH,
  payloadOf,
  RST,
  readFrame,
  readVxlan,
  SYN,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
  vnetPartial,
  vxlan,
} from "../../support/frames.js";
import { serviceImage, type TestBackend, type TestFrontend } from "../../support/services.js";

const VIP = "10.152.183.7";
const PC = "192.168.2.99";
const LOCAL: TestBackend = { address: MASTER.pod, l4Port: 8080, local: true };
const OTHER: TestBackend = { address: MASTER.otherPod, l4Port: 8080, local: true };
const REMOTE: TestBackend = { address: WORKER01.pod, l4Port: 8080 };

function clusterIp(inside: TestFrontend["inside"], protocol = TCP): TestFrontend {
  return { kind: "clusterIp", address: VIP, protocol, l4Port: 80, inside };
}

function nodePort(inside: TestFrontend["inside"], protocol = TCP): TestFrontend {
  return { kind: "nodePort", protocol, l4Port: 30080, inside };
}

function nodeWith(...frontends: TestFrontend[]): TestNode {
  const node = new TestNode({ egress: true });
  node.breather.dataplane.services.adopt(serviceImage(frontends));
  return node;
}

const syn = { flags: SYN, acknowledgement: 0 };
const NOTHING = new Uint8Array(0);

interface Leaving {
  /** "pod", "other", "node", or the VTEP's address. */
  to: string;
  packet: Packet;
  sourceMac: string;
}

const PORT_NAMES: Record<number, string> = {
  [NODE_PORT]: "node",
  [POD_PORT]: "pod",
  [OTHER_POD_PORT]: "other",
};

/** Everything that was sent, with every checksum checked. */
function leaving(outcome: Outcome): Leaving[] {
  expect(accounted(outcome)).toBe(true);
  return outcome.sent.flatMap(({ port, peer, bytes, gso }) => {
    const parts = port === TUNNEL_PORT && gso > 0 ? split(bytes, gso) : [bytes];
    return parts.flatMap((part) => {
      const to = port === TUNNEL_PORT ? [WORKER01, WORKER02][peer]!.underlay : PORT_NAMES[port]!;
      const frames = port === TUNNEL_PORT ? [readVxlan(part).frame] : kernelFrames(part);
      return frames.map((bytes) => {
        const frame = readFrame(bytes);
        const packet = frame.packet!;
        if ((packet.fragment & 0x3fff) === 0) expect(l4ChecksumOk(packet)).toBe(true);
        return { to, packet, sourceMac: frame.sourceMac };
      });
    });
  });
}

function split(bytes: Uint8Array, size: number): Uint8Array[] {
  const parts = [];
  for (let at = 0; at < bytes.length; at += size) parts.push(bytes.subarray(at, at + size));
  return parts;
}

/** "to source:port>destination:port" of all that leaves. */
function said(outcome: Outcome): string[] {
  return leaving(outcome).map(({ to, packet }) => {
    const ports =
      packet.protocol === ICMP ? ["", ""] : [`:${get16(packet.l4, 0)}`, `:${get16(packet.l4, 2)}`];
    return `${to} ${packet.source}${ports[0]}>${packet.destination}${ports[1]}`;
  });
}

/** What worker01's agent sends with a tag. */
function tagged(packet: Uint8Array, tag: number): Uint8Array {
  const hex = (tag >>> 0).toString(16).padStart(8, "0");
  const mac = `02:74:${hex.match(/../g)!.join(":")}`;
  return vxlan(VNI, ethernet(MASTER.vtepMac, mac, IPV4, packet));
}

function tagOf(mac: string): number {
  return mac.startsWith("02:74:") ? Number.parseInt(mac.slice(6).replaceAll(":", ""), 16) | 0 : 0;
}

describe("ClusterIP", () => {
  it.each([
    ["TCP", TCP],
    ["UDP", UDP],
  ])("%s from a pod to a remote endpoint and back", (_, protocol) => {
    const node = nodeWith(clusterIp([REMOTE], protocol));
    const out =
      protocol === TCP
        ? tcpPacket({ source: MASTER.pod, destination: VIP, ...syn }, NOTHING)
        : udpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 80 }, counting(33));
    expect(said(node.fromPod(out).run())).toEqual([
      `${WORKER01.underlay} ${MASTER.pod}:40000>${WORKER01.pod}:8080`,
    ]);
    const back = { source: WORKER01.pod, destination: MASTER.pod, sourcePort: 8080, destinationPort: 40_000 };
    const reply =
      protocol === TCP
        ? tcpPacket({ ...back, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING)
        : udpPacket(back, counting(12));
    expect(said(node.fromWorker01(reply).run())).toEqual([`pod ${VIP}:80>${MASTER.pod}:40000`]);
    expect(node.flows.size).toBe(1);
  });

  it("an endpoint on this node", () => {
    const node = nodeWith(clusterIp([OTHER]));
    const out = tcpPacket({ source: MASTER.pod, destination: VIP, ...syn }, NOTHING);
    expect(said(node.fromPod(out).run())).toEqual([`other ${MASTER.pod}:40000>${MASTER.otherPod}:8080`]);
    const reply = {
      source: MASTER.otherPod,
      destination: MASTER.pod,
      sourcePort: 8080,
      destinationPort: 40_000,
    };
    const back = tcpPacket({ ...reply, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING);
    expect(said(node.fromPod(back, undefined, OTHER_POD_PORT).run())).toEqual([
      `pod ${VIP}:80>${MASTER.pod}:40000`,
    ]);
  });

  it("a pod reaches itself, by the tunnel address", () => {
    const node = nodeWith(clusterIp([LOCAL]));
    const out = tcpPacket({ source: MASTER.pod, destination: VIP, ...syn }, NOTHING);
    expect(said(node.fromPod(out).run())).toEqual([`pod ${MASTER.tunnel}:40000>${MASTER.pod}:8080`]);
    const reply = {
      source: MASTER.pod,
      destination: MASTER.tunnel,
      sourcePort: 8080,
      destinationPort: 40_000,
    };
    const back = tcpPacket({ ...reply, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING);
    expect(said(node.fromPod(back).run())).toEqual([`pod ${VIP}:80>${MASTER.pod}:40000`]);
  });

  it("from the node itself", () => {
    const node = nodeWith(clusterIp([REMOTE]));
    const out = tcpPacket({ source: MASTER.tunnel, destination: VIP, ...syn }, NOTHING);
    expect(said(node.fromNode(out).run())).toEqual([
      `${WORKER01.underlay} ${MASTER.tunnel}:40000>${WORKER01.pod}:8080`,
    ]);
    const reply = {
      source: WORKER01.pod,
      destination: MASTER.tunnel,
      sourcePort: 8080,
      destinationPort: 40_000,
    };
    const back = tcpPacket({ ...reply, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING);
    expect(said(node.fromWorker01(back).run())).toEqual([`node ${VIP}:80>${MASTER.tunnel}:40000`]);
  });

  it("from the node's LAN address to another node: behind the tunnel address", () => {
    const node = nodeWith(clusterIp([REMOTE]));
    const out = tcpPacket({ source: MASTER.underlay, destination: VIP, ...syn }, NOTHING);
    expect(said(node.fromNode(out).run())).toEqual([
      `${WORKER01.underlay} ${MASTER.tunnel}:40000>${WORKER01.pod}:8080`,
    ]);
  });

  it("does not answer to the outside", () => {
    const node = nodeWith(clusterIp([LOCAL]));
    const outcome = node.fromNode(tcpPacket({ source: PC, destination: VIP, ...syn }, NOTHING)).run();
    expect(outcome.dropped).toEqual({ clusterIpFromOutside: 1 });
    expect(node.flows.size).toBe(0);
  });

  it("rejects without endpoints: TCP by a reset, UDP by port unreachable", () => {
    const node = nodeWith(clusterIp("reject"), clusterIp("reject", UDP));
    const refused = node
      .fromPod(tcpPacket({ source: MASTER.pod, destination: VIP, ...syn, sequence: 77 }, NOTHING))
      .run();
    expect(refused.dropped).toEqual({ noEndpoint: 1 });
    const [reset] = leaving(refused);
    expect(reset!.packet.source).toBe(VIP);
    expect([reset!.packet.l4[13], get32(reset!.packet.l4, 4), get32(reset!.packet.l4, 8)]).toEqual([
      RST | ACK,
      0,
      78,
    ]);
    const query = udpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 80 }, counting(9));
    const [unreachable] = leaving(node.fromPod(query).run());
    expect([...unreachable!.packet.l4.subarray(0, 2)]).toEqual([3, 3]);
    expect(unreachable!.packet.l4.subarray(8, 8 + 28)).toEqual(query.subarray(0, 28));
    expect(node.flows.size).toBe(0);
  });

  it("rejects a port that no Service has, and never routes it on", () => {
    const node = nodeWith(clusterIp([REMOTE]));
    const outcome = node
      .fromPod(tcpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 81, ...syn }, NOTHING))
      .run();
    expect(outcome.dropped).toEqual({ noServicePort: 1 });
    expect(leaving(outcome)[0]!.packet.l4[13]).toBe(RST | ACK);
  });

  it("keeps the endpoint when the Service's have changed", () => {
    const node = new TestNode();
    const builder = new ServiceTableBuilder();
    const { services } = node.breather.dataplane;
    services.adopt(serviceImage([clusterIp([REMOTE])], builder));
    node.fromPod(tcpPacket({ source: MASTER.pod, destination: VIP, ...syn }, NOTHING)).run();
    const reply = {
      source: WORKER01.pod,
      destination: MASTER.pod,
      sourcePort: 8080,
      destinationPort: 40_000,
    };
    node
      .fromWorker01(tcpPacket({ ...reply, flags: SYN | ACK, sequence: 500, acknowledgement: 1001 }, NOTHING))
      .run();
    services.adopt(serviceImage([clusterIp([OTHER])], builder));
    const more = tcpPacket(
      { source: MASTER.pod, destination: VIP, sequence: 1001, acknowledgement: 501 },
      counting(5),
    );
    expect(said(node.fromPod(more).run())).toEqual([
      `${WORKER01.underlay} ${MASTER.pod}:40000>${WORKER01.pod}:8080`,
    ]);
    const another = tcpPacket({ source: MASTER.pod, destination: VIP, sourcePort: 40_001, ...syn }, NOTHING);
    expect(said(node.fromPod(another).run())).toEqual([`other ${MASTER.pod}:40001>${MASTER.otherPod}:8080`]);
  });

  it("takes another source port where a connection of the pod's own has the tuple", () => {
    const node = nodeWith(clusterIp([REMOTE]));
    const direct = { source: MASTER.pod, destination: WORKER01.pod, destinationPort: 8080 };
    expect(said(node.fromPod(tcpPacket({ ...direct, ...syn }, NOTHING)).run())).toEqual([
      `${WORKER01.underlay} ${MASTER.pod}:40000>${WORKER01.pod}:8080`,
    ]);
    const [line] = said(
      node.fromPod(tcpPacket({ source: MASTER.pod, destination: VIP, ...syn }, NOTHING)).run(),
    );
    const port = Number(/:(\d+)>/.exec(line!)![1]);
    expect(port).not.toBe(40_000);
    const back = {
      source: WORKER01.pod,
      destination: MASTER.pod,
      sourcePort: 8080,
      flags: SYN | ACK,
      acknowledgement: 1001,
    };
    expect(said(node.fromWorker01(tcpPacket({ ...back, destinationPort: port }, NOTHING)).run())).toEqual([
      `pod ${VIP}:80>${MASTER.pod}:40000`,
    ]);
    expect(said(node.fromWorker01(tcpPacket({ ...back, destinationPort: 40_000 }, NOTHING)).run())).toEqual([
      `pod ${WORKER01.pod}:8080>${MASTER.pod}:40000`,
    ]);
  });

  it("all packets of one batch follow the flow that its first one begins", () => {
    const node = nodeWith(clusterIp([REMOTE, OTHER], UDP));
    for (let n = 0; n < 5; n++)
      node.fromPod(
        udpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 80, id: n }, counting(20)),
      );
    const lines = said(node.run());
    expect(lines).toHaveLength(5);
    expect(new Set(lines).size).toBe(1);
    expect(node.flows.size).toBe(1);
  });

  it("GSO frames whole, out and back", () => {
    const node = nodeWith(clusterIp([REMOTE]));
    node.fromPod(tcpPacket({ source: MASTER.pod, destination: VIP, ...syn }, NOTHING)).run();
    const back = { source: WORKER01.pod, destination: MASTER.pod, sourcePort: 8080, destinationPort: 40_000 };
    node
      .fromWorker01(
        tcpPacket(
          { ...back, flags: SYN | ACK, sequence: 500, acknowledgement: 1001, window: 65535 },
          NOTHING,
        ),
      )
      .run();
    const data = counting(9000);
    const big = tcpPacket(
      { source: MASTER.pod, destination: VIP, sequence: 1001, acknowledgement: 501, l4Checksum: "partial" },
      data,
    );
    const sent = leaving(node.fromPod(big, vnetPartial(TCP, 1398)).run());
    expect(sent).toHaveLength(7);
    expect(concat(...sent.map(({ packet }) => payloadOf(packet)))).toEqual(data);
    for (const { packet } of sent)
      expect([packet.destination, get16(packet.l4, 2)]).toEqual([WORKER01.pod, 8080]);
    const train = Array.from({ length: 6 }, (_, n) =>
      tcpPacket({ ...back, id: n, sequence: 501 + n * 1000, acknowledgement: 10_001 }, counting(1000, n)),
    );
    const got = leaving(node.trainFromWorker01(train).run());
    expect(concat(...got.map(({ packet }) => payloadOf(packet)))).toEqual(
      concat(...Array.from({ length: 6 }, (_, n) => counting(1000, n))),
    );
    for (const { to, packet } of got)
      expect([to, packet.source, get16(packet.l4, 0)]).toEqual(["pod", VIP, 80]);
  });

  it("checksums that a virtual link left partial", () => {
    const node = nodeWith(clusterIp([REMOTE]));
    node.fromPod(tcpPacket({ source: MASTER.pod, destination: VIP, ...syn }, NOTHING)).run();
    const back = { source: WORKER01.pod, destination: MASTER.pod, sourcePort: 8080, destinationPort: 40_000 };
    const reply = tcpPacket(
      { ...back, flags: SYN | ACK, acknowledgement: 1001, l4Checksum: "partial" },
      NOTHING,
    );
    expect(said(node.fromWorker01(reply).run())).toEqual([`pod ${VIP}:80>${MASTER.pod}:40000`]);
  });

  it("UDP without a checksum stays without", () => {
    const node = nodeWith(clusterIp([REMOTE], UDP));
    const [frame] = leaving(
      node
        .fromPod(
          udpPacket(
            { source: MASTER.pod, destination: VIP, destinationPort: 80, l4Checksum: 0 },
            counting(20),
          ),
        )
        .run(),
    );
    expect(get16(frame!.packet.l4, 6)).toBe(0);
  });

  it("ICMP errors reach the client with the addresses it knows", () => {
    const node = nodeWith(clusterIp([REMOTE], UDP));
    const query = udpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 80 }, counting(40));
    const [forwarded] = leaving(node.fromPod(query).run());
    for (const [router, seen] of [
      [WORKER01.pod, VIP],
      [WORKER01.tunnel, WORKER01.tunnel],
    ]) {
      const error = icmpPacket(
        { source: router!, destination: MASTER.pod, type: 3, code: 3 },
        forwarded!.packet.bytes,
      );
      const [back] = leaving(node.fromWorker01(error).run());
      expect([back!.to, back!.packet.source, back!.packet.destination]).toEqual(["pod", seen, MASTER.pod]);
      const quoted = back!.packet.l4.subarray(8);
      // But for what a router changes: TTL and, with it, the header's checksum.
      expect(quoted.subarray(12)).toEqual(query.subarray(12));
    }
  });

  it("later fragments follow the first", () => {
    const node = nodeWith(clusterIp([REMOTE], UDP));
    const whole = udpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 80 }, counting(100));
    const udp = whole.subarray(20);
    const part = (from: number, to: number, more: boolean) =>
      ipv4(
        {
          source: MASTER.pod,
          destination: VIP,
          id: 9,
          protocol: UDP,
          fragment: (more ? 0x2000 : 0) | (from / 8),
        },
        udp.subarray(from, to),
      );
    const sent = leaving(
      node
        .fromPod(part(0, 64, true))
        .fromPod(part(64, 108, false))
        .run(),
    );
    expect(sent.map(({ packet }) => packet.destination)).toEqual([WORKER01.pod, WORKER01.pod]);
    const joined = concat(...sent.map(({ packet }) => packet.l4));
    const again = ipv4({ source: MASTER.pod, destination: WORKER01.pod, protocol: UDP }, joined);
    expect(l4ChecksumOk(readFrame(ethernet(MASTER.podMac, MASTER.podMac, IPV4, again)).packet!)).toBe(true);
  });
});

describe("from outside", () => {
  const client = { source: PC, destination: MASTER.underlay, destinationPort: 30080 };

  it("NodePort to an endpoint here: client address kept, reply by the node", () => {
    const node = nodeWith(nodePort([LOCAL]));
    expect(said(node.fromNode(tcpPacket({ ...client, ...syn }, NOTHING)).run())).toEqual([
      `pod ${PC}:40000>${MASTER.pod}:8080`,
    ]);
    const reply = { source: MASTER.pod, destination: PC, sourcePort: 8080, destinationPort: 40_000 };
    expect(
      said(node.fromPod(tcpPacket({ ...reply, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING)).run()),
    ).toEqual([`node ${MASTER.underlay}:30080>${PC}:40000`]);
  });

  it("NodePort to a remote endpoint: tagged there and back", () => {
    const node = nodeWith(nodePort([REMOTE]));
    const [out] = leaving(node.fromNode(tcpPacket({ ...client, ...syn }, NOTHING)).run());
    expect([out!.to, out!.packet.source, out!.packet.destination]).toEqual([
      WORKER01.underlay,
      PC,
      WORKER01.pod,
    ]);
    const tag = flowTag.of(address(MASTER.underlay), 30080, TCP);
    expect(tagOf(out!.sourceMac)).toBe(tag);
    const reply = { source: WORKER01.pod, destination: PC, sourcePort: 8080, destinationPort: 40_000 };
    const bytes = tcpPacket({ ...reply, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING);
    expect(said(node.fromUnderlay(WORKER01.underlay, tagged(bytes, tag)).run())).toEqual([
      `node ${MASTER.underlay}:30080>${PC}:40000`,
    ]);
  });

  it("one client port towards two addresses with one remote endpoint: two flows", () => {
    const other: TestFrontend = {
      kind: "loadBalancer",
      address: "192.168.2.36",
      protocol: TCP,
      l4Port: 8080,
      inside: [REMOTE],
    };
    const node = nodeWith(nodePort([REMOTE]), other);
    const [a] = leaving(node.fromNode(tcpPacket({ ...client, ...syn }, NOTHING)).run());
    const second = { source: PC, destination: "192.168.2.36", destinationPort: 8080, ...syn };
    const [b] = leaving(node.fromNode(tcpPacket(second, NOTHING)).run());
    expect(a!.packet.destination).toBe(b!.packet.destination);
    expect(tagOf(a!.sourceMac)).not.toBe(tagOf(b!.sourceMac));
    const reply = { source: WORKER01.pod, destination: PC, sourcePort: 8080, destinationPort: 40_000 };
    const bytes = tcpPacket({ ...reply, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING);
    expect(said(node.fromUnderlay(WORKER01.underlay, tagged(bytes, tagOf(b!.sourceMac))).run())).toEqual([
      `node 192.168.2.36:8080>${PC}:40000`,
    ]);
  });

  it("the endpoint's node returns replies the way the flow came, with its tag", () => {
    const node = nodeWith(clusterIp([LOCAL]));
    const tag = 0x01020304;
    const inbound = tcpPacket(
      { source: PC, destination: MASTER.pod, destinationPort: 8080, ...syn },
      NOTHING,
    );
    expect(said(node.fromUnderlay(WORKER01.underlay, tagged(inbound, tag)).run())).toEqual([
      `pod ${PC}:40000>${MASTER.pod}:8080`,
    ]);
    const reply = { source: MASTER.pod, destination: PC, sourcePort: 8080, destinationPort: 40_000 };
    const answer = tcpPacket({ ...reply, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING);
    const [out] = leaving(node.fromPod(answer).run());
    expect([out!.to, tagOf(out!.sourceMac)]).toEqual([WORKER01.underlay, tag]);
    // The ingress moves to worker02: replies follow.
    const more = tcpPacket(
      { source: PC, destination: MASTER.pod, destinationPort: 8080, sequence: 1001, acknowledgement: 1 },
      NOTHING,
    );
    node.fromUnderlay(WORKER02.underlay, tagged(more, tag)).run();
    const [moved] = leaving(node.fromPod(answer).run());
    expect(moved!.to).toBe(WORKER02.underlay);
  });

  it("another tag on a living tuple gets another source port, here only", () => {
    const node = nodeWith(clusterIp([LOCAL]));
    const inbound = tcpPacket(
      { source: PC, destination: MASTER.pod, destinationPort: 8080, ...syn },
      NOTHING,
    );
    node.fromUnderlay(WORKER01.underlay, tagged(inbound, 1)).run();
    const [line] = said(node.fromUnderlay(WORKER02.underlay, tagged(inbound, 2)).run());
    const port = Number(/:(\d+)>/.exec(line!)![1]);
    expect(port).not.toBe(40_000);
    const reply = {
      source: MASTER.pod,
      destination: PC,
      sourcePort: 8080,
      flags: SYN | ACK,
      acknowledgement: 1001,
    };
    const [out] = leaving(node.fromPod(tcpPacket({ ...reply, destinationPort: port }, NOTHING)).run());
    expect([out!.to, tagOf(out!.sourceMac), get16(out!.packet.l4, 2)]).toEqual([
      WORKER02.underlay,
      2,
      40_000,
    ]);
  });

  it("policy Local without an endpoint here, and source ranges: dropped silently", () => {
    const ranges: [string, number][] = [["203.0.113.0", -256]];
    const vip: TestFrontend = {
      kind: "loadBalancer",
      address: "192.168.2.36",
      protocol: TCP,
      l4Port: 8080,
      inside: [REMOTE],
      ranges,
    };
    const node = nodeWith({ ...nodePort([REMOTE]), outside: "drop" }, vip);
    const toPort = node.fromNode(tcpPacket({ ...client, ...syn }, NOTHING)).run();
    expect([toPort.dropped, toPort.sent]).toEqual([{ noLocalEndpoint: 1 }, []]);
    const toVip = node
      .fromNode(
        tcpPacket({ source: PC, destination: "192.168.2.36", destinationPort: 8080, ...syn }, NOTHING),
      )
      .run();
    expect([toVip.dropped, toVip.sent]).toEqual([{ sourceRange: 1 }, []]);
  });

  it("a port in the range that no Service has goes back to the node's own programs", () => {
    const node = nodeWith(nodePort([REMOTE]));
    const packet = tcpPacket(
      { source: PC, destination: MASTER.underlay, destinationPort: 30500, ...syn },
      NOTHING,
    );
    expect(said(node.fromNode(packet).run())).toEqual([`node ${PC}:40000>${MASTER.underlay}:30500`]);
  });

  /** What the pod answers to a connection that was translated to come from the tunnel address. */
  const replyToTunnel = tcpPacket(
    {
      source: MASTER.pod,
      destination: MASTER.tunnel,
      sourcePort: 8080,
      destinationPort: 40_000,
      flags: SYN | ACK,
      acknowledgement: 1001,
    },
    NOTHING,
  );

  it("127.0.0.1 of the node: NodePorts answer, other ports go back to its own programs", () => {
    const node = nodeWith(nodePort([LOCAL]));
    const packet = { source: "127.0.0.1", destination: "127.0.0.1", ...syn };
    expect(said(node.fromNode(tcpPacket({ ...packet, destinationPort: 30080 }, NOTHING)).run())).toEqual([
      `pod ${MASTER.tunnel}:40000>${MASTER.pod}:8080`,
    ]);
    expect(said(node.fromPod(replyToTunnel).run())).toEqual(["node 127.0.0.1:30080>127.0.0.1:40000"]);
    expect(said(node.fromNode(tcpPacket({ ...packet, destinationPort: 30500 }, NOTHING)).run())).toEqual([
      "node 127.0.0.1:40000>127.0.0.1:30500",
    ]);
    const fromPod = tcpPacket(
      { source: MASTER.pod, destination: "127.0.0.1", destinationPort: 30080, ...syn },
      NOTHING,
    );
    expect(node.fromPod(fromPod).run().dropped).toEqual({ martian: 1 });
    const odd = tcpPacket({ source: "127.0.0.1", destination: MASTER.pod, ...syn }, NOTHING);
    expect(node.fromNode(odd).run().dropped).toEqual({ martian: 1 });
  });

  it("127.0.0.1 of the node from the address that the kernel chooses, and from nobody else's", () => {
    const node = nodeWith(nodePort([LOCAL]));
    const ask = (source: string, destinationPort: number) =>
      tcpPacket({ source, destination: "127.0.0.1", destinationPort, ...syn }, NOTHING);
    expect(said(node.fromNode(ask(MASTER.tunnel, 30080)).run())).toEqual([
      `pod ${MASTER.tunnel}:40000>${MASTER.pod}:8080`,
    ]);
    expect(said(node.fromPod(replyToTunnel).run())).toEqual([`node 127.0.0.1:30080>${MASTER.tunnel}:40000`]);
    expect(said(node.fromNode(ask(MASTER.tunnel, 30500)).run())).toEqual([
      `node ${MASTER.tunnel}:40000>127.0.0.1:30500`,
    ]);
    expect(node.fromNode(ask(PC, 30080)).run().dropped).toEqual({ martian: 1 });
  });

  it("at further addresses of the node, those at which NodePorts answer and no others", () => {
    const [ANSWERS, SILENT] = ["198.51.100.7", "198.51.100.8"];
    const node = nodeWith(nodePort([LOCAL]));
    const input = tableInput({ egress: true, nodePortAddresses: [ANSWERS] });
    input.routes.push({ address: address(SILENT), length: 32, to: "port", target: NODE_PORT });
    node.breather.dataplane.tables = new Tables(buildTableImage(input));
    const ask = (source: string, destination: string) =>
      tcpPacket({ source, destination, destinationPort: 30080, ...syn }, NOTHING);
    expect(said(node.fromNode(ask(PC, ANSWERS)).run())).toEqual([`pod ${PC}:40000>${MASTER.pod}:8080`]);
    const other = node.fromPod(ask(MASTER.otherPod, ANSWERS), undefined, OTHER_POD_PORT);
    expect(said(other.run())).toEqual([`pod ${MASTER.otherPod}:40000>${MASTER.pod}:8080`]);
    // The node's own programs may listen there.
    expect(said(node.fromPod(ask(MASTER.pod, SILENT)).run())).toEqual([
      `node ${MASTER.pod}:40000>${SILENT}:30080`,
    ]);
  });

  it("not at the LAN address, where NodePorts answer elsewhere only", () => {
    const node = nodeWith(nodePort([REMOTE]));
    const input = { ...tableInput({ egress: true }), nodePortAddresses: [] };
    node.breather.dataplane.tables = new Tables(buildTableImage(input));
    const ask = { source: MASTER.pod, destination: MASTER.underlay, destinationPort: 30080, ...syn };
    expect(said(node.fromPod(tcpPacket(ask, NOTHING)).run())).toEqual([
      `node ${MASTER.pod}:40000>${MASTER.underlay}:30080`,
    ]);
  });

  it("a pod itself, without a Service: the reply goes out by the node", () => {
    const node = nodeWith();
    expect(
      said(node.fromNode(tcpPacket({ source: PC, destination: MASTER.pod, ...syn }, NOTHING)).run()),
    ).toEqual([`pod ${PC}:40000>${MASTER.pod}:80`]);
    const reply = { source: MASTER.pod, destination: PC, sourcePort: 80, destinationPort: 40_000 };
    expect(
      said(node.fromPod(tcpPacket({ ...reply, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING)).run()),
    ).toEqual([`node ${MASTER.pod}:80>${PC}:40000`]);
  });
});

describe("to the outside", () => {
  const out = { source: MASTER.pod, destination: "203.0.113.5" };

  it("leaves with the node's address and an egress port, and comes back", () => {
    const node = nodeWith();
    expect(said(node.fromPod(tcpPacket({ ...out, ...syn }, NOTHING)).run())).toEqual([
      `node ${MASTER.underlay}:61000>203.0.113.5:80`,
    ]);
    const reply = {
      source: "203.0.113.5",
      destination: MASTER.underlay,
      sourcePort: 80,
      destinationPort: 61_000,
    };
    expect(
      said(node.fromNode(tcpPacket({ ...reply, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING)).run()),
    ).toEqual([`pod 203.0.113.5:80>${MASTER.pod}:40000`]);
  });

  it("hands out the least recently used port", () => {
    const node = nodeWith();
    const lines = [1, 2, 3].map(
      (n) => said(node.fromPod(tcpPacket({ ...out, sourcePort: 5000 + n, ...syn }, NOTHING)).run())[0],
    );
    expect(lines.map((line) => /:(\d+)>/.exec(line!)![1])).toEqual(["61000", "61001", "61002"]);
  });

  it("a segment in mid-stream is dropped, never given another source", () => {
    const node = nodeWith();
    expect(node.fromPod(tcpPacket({ ...out, flags: ACK | PSH }, counting(5))).run().dropped).toEqual({
      noFlow: 1,
    });
    expect(node.fromPod(tcpPacket({ ...out, flags: FIN | ACK }, NOTHING)).run().dropped).toEqual({
      noFlow: 1,
    });
  });

  it("an endpoint outside the pods: on this node with the pod's address, elsewhere behind the node's", () => {
    const own: TestBackend = { address: MASTER.underlay, l4Port: 6443, outside: true };
    const elsewhere: TestBackend = { address: "192.168.2.31", l4Port: 6443, outside: true };
    const api = nodeWith(clusterIp([own]));
    expect(
      said(api.fromPod(tcpPacket({ source: MASTER.pod, destination: VIP, ...syn }, NOTHING)).run()),
    ).toEqual([`node ${MASTER.pod}:40000>${MASTER.underlay}:6443`]);
    const reply = {
      source: MASTER.underlay,
      destination: MASTER.pod,
      sourcePort: 6443,
      destinationPort: 40_000,
    };
    expect(
      said(api.fromNode(tcpPacket({ ...reply, flags: SYN | ACK, acknowledgement: 1001 }, NOTHING)).run()),
    ).toEqual([`pod ${VIP}:80>${MASTER.pod}:40000`]);
    const far = nodeWith(clusterIp([elsewhere]));
    expect(
      said(far.fromPod(tcpPacket({ source: MASTER.pod, destination: VIP, ...syn }, NOTHING)).run()),
    ).toEqual([`node ${MASTER.underlay}:61000>192.168.2.31:6443`]);
    const self = nodeWith(clusterIp([own]));
    expect(
      said(self.fromNode(tcpPacket({ source: MASTER.tunnel, destination: VIP, ...syn }, NOTHING)).run()),
    ).toEqual([`node ${MASTER.underlay}:61000>${MASTER.underlay}:6443`]);
  });
});
