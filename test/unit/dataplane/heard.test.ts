/** What raw sockets hear: echo replies, ICMP errors and datagrams that the kernel put together. */
import { describe, expect, it } from "vitest";
import {
  accounted,
  MASTER,
  MTU,
  NODE_PORT,
  type Outcome,
  POD_PORT,
  REASSEMBLY_PORT,
  TestNode,
  TUNNEL_PORT,
  WORKER01,
} from "../../support/dataplane.js";
import { fragmentsOf, reassembled } from "../../support/fragments.js";
import {
  counting,
  datagrams,
  get16,
  get32,
  icmpPacket,
  kernelFrames,
  l4ChecksumOk,
  type Packet,
  patched,
  payloadOf,
  readFrame,
  readPacket,
  readVxlan,
  SYN,
  tcpPacket,
  UDP,
  udpPacket,
} from "../../support/frames.js";
import { serviceImage } from "../../support/services.js";

const SERVER = "203.0.113.9";
const ROUTER = "192.168.2.1";
const PC = "192.168.2.99";
/** One that makes the word of ports negative. */
const ID = 0xc077;

function sent(outcome: Outcome): { port: number; packet: Packet }[] {
  expect(accounted(outcome)).toBe(true);
  return outcome.sent.flatMap(({ port, bytes, gso }) =>
    (port === TUNNEL_PORT
      ? datagrams(bytes, gso).map((part) => readVxlan(part).frame)
      : kernelFrames(bytes)
    ).map((each) => ({ port, packet: readFrame(each).packet! })),
  );
}

function one(outcome: Outcome): { port: number; packet: Packet } {
  const all = sent(outcome);
  expect(all).toHaveLength(1);
  if (all[0]!.packet.fragment === 0) expect(l4ChecksumOk(all[0]!.packet)).toBe(true);
  return all[0]!;
}

/** Pings the server from a pod; what leaves. */
function pinged(node: TestNode, source = MASTER.pod, port = POD_PORT): Packet {
  const ask = icmpPacket({ source, destination: SERVER, type: 8, rest: (ID << 16) | 1 }, counting(56));
  return one(node.fromPod(ask, undefined, port).run()).packet;
}

/** A router's error about a packet, quoting `bytes` of it. */
function error(cause: Uint8Array, type: number, code: number, rest = 0, bytes = 548): Uint8Array {
  const quoted = cause.subarray(0, bytes);
  return icmpPacket({ source: ROUTER, destination: MASTER.underlay, type, code, rest, ttl: 60 }, quoted);
}

/** The packet that an error quotes; its header checksum is right. */
function quotation(packet: Packet): { source: string; destination: string; l4: Uint8Array } {
  const bytes = packet.l4.subarray(8);
  const header = patched(bytes.subarray(0, 20), 2, [0, 20]);
  // Only the total length is another: the sum is off by its difference.
  const length = get16(bytes, 2) - 20;
  const sum = ((~get16(bytes, 10) & 0xffff) - length + 0xffff * 2) % 0xffff;
  const { source, destination } = readPacket(patched(header, 10, [(~sum >>> 8) & 255, ~sum & 255]));
  return { source, destination, l4: bytes.subarray(20) };
}

describe("ping to the outside", () => {
  it("answers come back to the pod that asked, with its identifier", () => {
    const node = new TestNode({ egress: true });
    const asked = [pinged(node), pinged(node, MASTER.otherPod, 3)];
    const ids = asked.map(({ l4 }) => get16(l4, 4));
    expect(new Set(ids).size).toBe(2);
    for (const [n, id] of ids.entries()) {
      const answer = { source: SERVER, destination: MASTER.underlay, type: 0, rest: (id << 16) | 1, ttl: 50 };
      const { port, packet } = one(node.heard(icmpPacket(answer, counting(56))).run());
      expect([port, packet.source, packet.destination, get16(packet.l4, 4), packet.ttl]).toEqual([
        POD_PORT + n,
        SERVER,
        n === 0 ? MASTER.pod : MASTER.otherPod,
        ID,
        49,
      ]);
    }
  });

  it.each([
    ["time exceeded", 11, 0],
    ["host unreachable", 3, 1],
    ["fragmentation needed", 3, 4],
  ])("%s, about what the pod sent", (_, type, code) => {
    const node = new TestNode({ egress: true });
    const out = pinged(node);
    const { port, packet } = one(node.heard(error(out.bytes, type, code, 1300)).run());
    expect([
      port,
      packet.source,
      packet.destination,
      packet.l4[0],
      packet.l4[1],
      get32(packet.l4, 4),
    ]).toEqual([POD_PORT, ROUTER, MASTER.pod, type, code, 1300]);
    const { source, destination, l4 } = quotation(packet);
    expect([source, destination, l4[0], get16(l4, 4)]).toEqual([MASTER.pod, SERVER, 8, ID]);
  });
});

describe("errors about other flows", () => {
  it.each([28, 548])("of a pod to the outside, %i bytes quoted", (bytes) => {
    const node = new TestNode({ egress: true });
    const ask = { source: MASTER.pod, destination: SERVER, flags: SYN, acknowledgement: 0 };
    const out = one(node.fromPod(tcpPacket(ask, new Uint8Array(0))).run()).packet;
    const { packet } = one(node.heard(error(out.bytes, 3, 4, 1300, bytes)).run());
    const { source, destination, l4 } = quotation(packet);
    expect([source, destination, get16(l4, 0), get16(l4, 2)]).toEqual([MASTER.pod, SERVER, 40_000, 80]);
  });

  it("of an endpoint on another node to a NodePort's client", () => {
    const node = new TestNode({ egress: true });
    const inside = [{ address: WORKER01.pod, l4Port: 8080 }];
    node.breather.dataplane.services.adopt(
      serviceImage([{ kind: "nodePort", protocol: UDP, l4Port: 30080, inside }]),
    );
    node
      .fromNode(udpPacket({ source: PC, destination: MASTER.underlay, destinationPort: 30080 }, counting(9)))
      .run();
    const answer = udpPacket(
      { source: MASTER.underlay, destination: PC, sourcePort: 30080, destinationPort: 40_000 },
      counting(9),
    );
    const { port, packet } = one(node.heard(error(answer, 3, 3)).run());
    expect([port, packet.destination]).toEqual([TUNNEL_PORT, WORKER01.pod]);
    const { source, l4 } = quotation(packet);
    expect([source, get16(l4, 0)]).toEqual([WORKER01.pod, 8080]);
  });
});

describe("what is no business of ours", () => {
  const cases: [string, Uint8Array][] = [
    [
      "an answer to nobody",
      icmpPacket({ source: SERVER, destination: MASTER.underlay, type: 0, rest: 5 << 16 }, counting(8)),
    ],
    [
      "a question to the node",
      icmpPacket({ source: SERVER, destination: MASTER.underlay, type: 8, rest: 5 << 16 }, counting(8)),
    ],
    [
      "an error about the node's own",
      error(udpPacket({ source: MASTER.underlay, destination: SERVER }, counting(8)), 3, 3),
    ],
    [
      "a datagram to the node",
      udpPacket({ source: SERVER, destination: MASTER.underlay, destinationPort: 61_500 }, counting(8)),
    ],
  ];
  it.each(cases)("%s is left to the kernel", (_, packet) => {
    const node = new TestNode({ egress: true });
    pinged(node);
    const outcome = node.heard(packet).run();
    expect([outcome.sent, outcome.dropped]).toEqual([[], { notOurs: 1 }]);
  });

  it("what podwire0 gave the node does not go back to it, where it would be heard again", () => {
    const node = new TestNode({ egress: true });
    const ask = { source: MASTER.underlay, destination: MASTER.pod, flags: SYN, acknowledgement: 0 };
    node.fromNode(tcpPacket(ask, new Uint8Array(0))).run();
    const outcome = node.heard(error(tcpPacket(ask, new Uint8Array(0)), 3, 1)).run();
    expect([outcome.sent, outcome.dropped]).toEqual([[], { notOurs: 1 }]);
  });
});

describe("datagrams that the kernel put together", () => {
  const payload = counting(60 * 1024);

  it("to a NodePort go to its endpoint, in fragments", () => {
    const node = new TestNode({ egress: true });
    const inside = [{ address: WORKER01.pod, l4Port: 8080 }];
    node.breather.dataplane.services.adopt(
      serviceImage([{ kind: "nodePort", protocol: UDP, l4Port: 30080, inside }]),
    );
    const ask = { source: PC, destination: MASTER.underlay, destinationPort: 30080, fragment: 0 };
    const out = sent(node.heard(udpPacket(ask, payload), REASSEMBLY_PORT).run());
    expect(out.every(({ port, packet }) => port === TUNNEL_PORT && packet.bytes.length <= MTU)).toBe(true);
    const packet = reassembled(out.map((each) => each.packet));
    expect([packet.source, packet.destination, l4ChecksumOk(packet)]).toEqual([PC, WORKER01.pod, true]);
    expect(payloadOf(packet)).toEqual(payload);
    expect(fragmentsOf(packet.bytes, MTU)).toHaveLength(out.length);
  });

  it("to an egress port go to the pod", () => {
    const node = new TestNode({ egress: true });
    const ask = udpPacket({ source: MASTER.pod, destination: SERVER, destinationPort: 53 }, counting(20));
    const { port: toNode, packet: out } = one(node.fromPod(ask).run());
    expect(toNode).toBe(NODE_PORT);
    const answer = {
      source: SERVER,
      destination: MASTER.underlay,
      sourcePort: 53,
      destinationPort: get16(out.l4, 0),
      fragment: 0,
    };
    const back = sent(node.heard(udpPacket(answer, payload), REASSEMBLY_PORT).run());
    expect(payloadOf(reassembled(back.map((each) => each.packet)))).toEqual(payload);
  });
});

describe("a NodePort's endpoint outside of the pools", () => {
  const payload = counting(20 * 1024);
  const asks = { source: PC, destination: MASTER.underlay, destinationPort: 30080 };

  function nodeWith(): TestNode {
    const node = new TestNode({ egress: true });
    const inside = [{ address: SERVER, l4Port: 8080, outside: true }];
    node.breather.dataplane.services.adopt(
      serviceImage([{ kind: "nodePort", protocol: UDP, l4Port: 30080, inside }]),
    );
    return node;
  }

  it("gets datagrams that the kernel put together, and answers with such", () => {
    const node = nodeWith();
    const question = udpPacket({ ...asks, fragment: 0 }, payload);
    const asked = sent(node.heard(question, REASSEMBLY_PORT).run());
    expect(new Set(asked.map(({ port }) => port))).toEqual(new Set([NODE_PORT]));
    const out = reassembled(asked.map(({ packet }) => packet));
    expect([out.source, out.destination, get16(out.l4, 2), out.ttl, l4ChecksumOk(out)]).toEqual([
      MASTER.underlay,
      SERVER,
      8080,
      63,
      true,
    ]);
    expect(payloadOf(out)).toEqual(payload);
    const way = { source: SERVER, destination: MASTER.underlay, sourcePort: 8080, fragment: 0 };
    const answer = udpPacket({ ...way, destinationPort: get16(out.l4, 0) }, payload);
    const answered = sent(node.heard(answer, REASSEMBLY_PORT).run());
    const back = reassembled(answered.map(({ packet }) => packet));
    expect(new Set(answered.map(({ port }) => port))).toEqual(new Set([NODE_PORT]));
    expect([back.source, get16(back.l4, 0), back.destination, get16(back.l4, 2)]).toEqual([
      MASTER.underlay,
      30080,
      PC,
      40_000,
    ]);
    expect(payloadOf(back)).toEqual(payload);
  });

  it("has errors about it told to the client", () => {
    const node = nodeWith();
    const out = one(node.fromNode(udpPacket(asks, counting(9))).run()).packet;
    const { port, packet } = one(node.heard(error(out.bytes, 3, 4, 1300)).run());
    expect([port, packet.source, packet.destination]).toEqual([NODE_PORT, ROUTER, PC]);
    const { source, destination, l4 } = quotation(packet);
    expect([source, destination, get16(l4, 0), get16(l4, 2)]).toEqual([PC, MASTER.underlay, 40_000, 30080]);
  });

  it("is not reached by what has gone round too often", () => {
    const outcome = nodeWith()
      .heard(udpPacket({ ...asks, ttl: 1 }, counting(9)), REASSEMBLY_PORT)
      .run();
    expect(outcome.dropped).toEqual({ ttlExceeded: 1 });
  });
});
