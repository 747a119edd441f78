/**
 * Fragments of packets that flows concern, in whatever order they come: translated as the first one
 * says, whole and right at a third party; and what bounds those that wait.
 */
import { describe, expect, it } from "vitest";
import { COUNT_RECEIVED_BYTES } from "../../../src/packet/counters.js";
import { ServiceTableBuilder } from "../../../src/tables/ServiceTable.js";
import * as flowTag from "../../../src/wire/flowTag.js";
import {
  accounted,
  MASTER,
  MTU,
  NODE_PORT,
  type Outcome,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  VNI,
  WORKER01,
  WORKER02,
} from "../../support/dataplane.js";
import { fragmentsOf, reassembled } from "../../support/fragments.js";
import {
  address,
  counting,
  datagrams,
  ethernet,
  get16,
  hex,
  ICMP,
  IPV4,
  icmpPacket,
  ipv4,
  kernelFrames,
  l4ChecksumOk,
  type Packet,
  payloadOf,
  readFrame,
  readPacket,
  readVxlan,
  UDP,
  udpPacket,
  vxlan,
} from "../../support/frames.js";
import { serviceImage, type TestBackend, type TestFrontend } from "../../support/services.js";

const VIP = "10.152.183.7";
const PC = "192.168.2.99";
const SERVER = "203.0.113.9";
const LOCAL: TestBackend = { address: MASTER.pod, l4Port: 8080, local: true };
const REMOTE: TestBackend = { address: WORKER01.pod, l4Port: 8080 };
/** ipfrag_time. */
const WAIT_US = 30_000_000;

const clusterIp = (...inside: TestBackend[]): TestFrontend => ({
  kind: "clusterIp",
  address: VIP,
  protocol: UDP,
  l4Port: 80,
  inside,
});
const nodePort = (...inside: TestBackend[]): TestFrontend => ({
  kind: "nodePort",
  protocol: UDP,
  l4Port: 30080,
  inside,
});

function nodeWith(...frontends: TestFrontend[]): TestNode {
  const node = new TestNode({ egress: true });
  if (frontends.length > 0) node.breather.dataplane.services.adopt(serviceImage(frontends));
  return node;
}

interface Leaving {
  port: number;
  peer: number;
  sourceMac: string;
  packet: Packet;
}

function leaving(outcome: Outcome): Leaving[] {
  expect(accounted(outcome)).toBe(true);
  return outcome.sent.flatMap(({ port, peer, bytes, gso }) =>
    (port === TUNNEL_PORT
      ? datagrams(bytes, gso).map((part) => readVxlan(part).frame)
      : kernelFrames(bytes)
    ).map((each) => {
      const { sourceMac, packet } = readFrame(each);
      return { port, peer, sourceMac, packet: packet! };
    }),
  );
}

/** The one datagram that leaves in fragments, put together; its checksum is right. */
function whole(outcome: Outcome): Packet {
  const packet = reassembled(leaving(outcome).map((each) => each.packet));
  expect(l4ChecksumOk(packet)).toBe(true);
  return packet;
}

function ends({ source, destination, l4 }: Packet): string {
  return `${source}:${get16(l4, 0)}>${destination}:${get16(l4, 2)}`;
}

function tagged(packet: Uint8Array, tag: number): Uint8Array {
  const digits = (tag >>> 0).toString(16).padStart(8, "0");
  const mac = `02:74:${digits.match(/../g)!.join(":")}`;
  return vxlan(VNI, ethernet(MASTER.vtepMac, mac, IPV4, packet));
}

const ORDERS: [string, (parts: Uint8Array[]) => Uint8Array[]][] = [
  ["in order", (parts) => parts],
  ["the first one last", ([first, ...rest]) => [...rest, first!]],
  ["turned round", (parts) => parts.toReversed()],
  ["the first in the middle", ([first, ...rest]) => rest.toSpliced(rest.length >> 1, 0, first!)],
];
const SIZES = [100, 8 * 1024, 60 * 1024];
const CASES = ORDERS.flatMap(([name, order]) =>
  SIZES.flatMap((size) =>
    [true, false].map((together) => [size, name, together ? "one batch" : "a breath each", order] as const),
  ),
);

describe.each(CASES)("a datagram of %i bytes, %s, %s", (size, _, when, order) => {
  const payload = counting(size);
  const mtu = size > 1000 ? MTU : 68;

  function send(node: TestNode, packet: Uint8Array, by: (part: Uint8Array) => void): Outcome {
    const parts = order(fragmentsOf(packet, mtu));
    const before = node.counters[COUNT_RECEIVED_BYTES]!;
    const outcomes: Outcome[] = [];
    for (const part of parts) {
      by(part);
      if (when !== "one batch") outcomes.push(node.run());
    }
    outcomes.push(node.run());
    for (const each of outcomes) expect(accounted(each)).toBe(true);
    expect(node.breather.dataplane.fragments.waiting).toBe(0);
    expect(node.faults).toEqual([]);
    const sum = (key: "received" | "forwarded") => outcomes.reduce((n, each) => n + each[key], 0);
    expect([sum("received"), sum("forwarded")]).toEqual([parts.length, parts.length]);
    const bytes = parts.reduce((n, part) => n + part.length + 14, 0);
    expect(node.counters[COUNT_RECEIVED_BYTES]! - before).toBe(bytes);
    return {
      sent: outcomes.flatMap((each) => each.sent),
      received: sum("received"),
      forwarded: sum("forwarded"),
      answered: 0,
      dropped: {},
    };
  }

  it("from a pod to a ClusterIP, and back", () => {
    const node = nodeWith(clusterIp(REMOTE));
    const ask = udpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 80, id: 7 }, payload);
    const out = whole(send(node, ask, (part) => node.fromPod(part)));
    expect(ends(out)).toBe(`${MASTER.pod}:40000>${WORKER01.pod}:8080`);
    expect(payloadOf(out)).toEqual(payload);
    const answer = udpPacket(
      { source: WORKER01.pod, destination: MASTER.pod, sourcePort: 8080, destinationPort: 40_000, id: 8 },
      payload,
    );
    const back = whole(send(node, answer, (part) => node.fromWorker01(part)));
    expect(ends(back)).toBe(`${VIP}:80>${MASTER.pod}:40000`);
    expect(payloadOf(back)).toEqual(payload);
  });

  it("from outside to a NodePort, to a remote endpoint, and back", () => {
    const node = nodeWith(nodePort(REMOTE));
    const ask = udpPacket({ source: PC, destination: MASTER.underlay, destinationPort: 30080 }, payload);
    const sent = send(node, ask, (part) => node.fromNode(part));
    expect(ends(whole(sent))).toBe(`${PC}:40000>${WORKER01.pod}:8080`);
    const tag = flowTag.of(address(MASTER.underlay), 30080, UDP);
    const macs = leaving(sent).map(({ sourceMac }) => sourceMac);
    const digits = (tag >>> 0).toString(16).padStart(8, "0");
    expect(new Set(macs)).toEqual(new Set([`02:74:${digits.match(/../g)!.join(":")}`]));
    const answer = udpPacket(
      { source: WORKER01.pod, destination: PC, sourcePort: 8080, destinationPort: 40_000 },
      payload,
    );
    const back = whole(send(node, answer, (part) => node.fromUnderlay(WORKER01.underlay, tagged(part, tag))));
    expect(ends(back)).toBe(`${MASTER.underlay}:30080>${PC}:40000`);
  });

  it("by another node's NodePort to an endpoint here, and back with the tag", () => {
    const node = nodeWith(clusterIp(LOCAL));
    const ask = udpPacket({ source: PC, destination: MASTER.pod, destinationPort: 8080 }, payload);
    const into = whole(send(node, ask, (part) => node.fromUnderlay(WORKER02.underlay, tagged(part, 77))));
    expect(ends(into)).toBe(`${PC}:40000>${MASTER.pod}:8080`);
    const answer = udpPacket(
      { source: MASTER.pod, destination: PC, sourcePort: 8080, destinationPort: 40_000 },
      payload,
    );
    const sent = send(node, answer, (part) => node.fromPod(part));
    expect(payloadOf(whole(sent))).toEqual(payload);
    expect(new Set(leaving(sent).map(({ peer, sourceMac }) => `${peer} ${sourceMac}`))).toEqual(
      new Set(["1 02:74:00:00:00:4d"]),
    );
  });

  it("from a pod to the outside, and back", () => {
    const node = nodeWith();
    const ask = udpPacket({ source: MASTER.pod, destination: SERVER, destinationPort: 53 }, payload);
    const out = whole(send(node, ask, (part) => node.fromPod(part)));
    const port = get16(out.l4, 0);
    expect(ends(out)).toBe(`${MASTER.underlay}:${port}>${SERVER}:53`);
    const answer = udpPacket(
      { source: SERVER, destination: MASTER.underlay, sourcePort: 53, destinationPort: port },
      payload,
    );
    expect(ends(whole(send(node, answer, (part) => node.fromNode(part))))).toBe(
      `${SERVER}:53>${MASTER.pod}:40000`,
    );
  });

  it("between pods, untouched", () => {
    const node = nodeWith(clusterIp(REMOTE));
    const ask = udpPacket({ source: MASTER.pod, destination: WORKER01.pod, ttl: 9 }, payload);
    const sent = leaving(send(node, ask, (part) => node.fromPod(part))).map(({ packet }) => packet);
    // Nothing is decided about them: they pass as they come.
    const expected = order(
      fragmentsOf(udpPacket({ source: MASTER.pod, destination: WORKER01.pod, ttl: 8 }, payload), mtu),
    );
    expect(sent.map(({ l4 }) => l4)).toEqual(expected.map((part) => part.subarray(20)));
    expect(node.flows.size).toBe(0);
    const answer = udpPacket({ source: WORKER01.pod, destination: MASTER.pod }, payload);
    expect(ends(whole(send(node, answer, (part) => node.fromWorker01(part))))).toBe(
      `${WORKER01.pod}:40000>${MASTER.pod}:5201`,
    );
  });
});

describe("ping in fragments", () => {
  it("to the outside", () => {
    const node = nodeWith();
    const ask = icmpPacket(
      { source: MASTER.pod, destination: SERVER, type: 8, rest: (77 << 16) | 1, id: 5 },
      counting(4000),
    );
    const parts = fragmentsOf(ask, MTU).toReversed();
    for (const part of parts) node.fromPod(part);
    const packet = reassembled(leaving(node.run()).map((each) => each.packet));
    expect([packet.protocol, packet.source, l4ChecksumOk(packet)]).toEqual([ICMP, MASTER.underlay, true]);
    expect(get16(packet.l4, 4)).toBeGreaterThanOrEqual(61_000);
  });
});

describe.each(ORDERS)("an ICMP error in fragments, %s", (_, order) => {
  const ask = { source: MASTER.pod, destination: VIP, destinationPort: 80 };
  const asked = { source: MASTER.pod, destination: WORKER01.pod, destinationPort: 8080 };
  const answered = { source: WORKER01.pod, destination: MASTER.pod, sourcePort: 8080 };
  const payload = counting(100);

  /** Unreachable, port, with what it is about; in fragments. */
  function partsOf(source: string, destination: string, cause: Uint8Array): Uint8Array[] {
    return order(fragmentsOf(icmpPacket({ source, destination, id: 5, type: 3, code: 3 }, cause), 68));
  }

  /** What leaves in fragments, put together: who speaks to whom, and the ends of the quotation, which is whole. */
  function told(...outcomes: Outcome[]): string[] {
    const error = reassembled(outcomes.flatMap(leaving).map(({ packet }) => packet));
    expect(l4ChecksumOk(error)).toBe(true);
    const quoted = readPacket(error.l4.subarray(8));
    expect(l4ChecksumOk(quoted)).toBe(true);
    expect(payloadOf(quoted)).toEqual(payload);
    return [`${error.source}>${error.destination}`, ends(quoted)];
  }

  /** With the flow of a pod that asked a ClusterIP. */
  function asking(): TestNode {
    const node = nodeWith(clusterIp(REMOTE));
    expect(ends(whole(node.fromPod(udpPacket(ask, payload)).run()))).toBe(
      `${MASTER.pod}:40000>${WORKER01.pod}:8080`,
    );
    return node;
  }

  it.each([
    ["of the endpoint comes from the ClusterIP", WORKER01.pod, VIP],
    ["of a router keeps its source", WORKER01.tunnel, WORKER01.tunnel],
  ])("%s, in one batch or a breath each", (_name, source, shown) => {
    for (const together of [true, false]) {
      const node = asking();
      const outcomes: Outcome[] = [];
      for (const part of partsOf(source, MASTER.pod, udpPacket(asked, payload))) {
        node.fromWorker01(part);
        if (!together) outcomes.push(node.run());
      }
      outcomes.push(node.run());
      expect(told(...outcomes)).toEqual([`${shown}>${MASTER.pod}`, `${MASTER.pod}:40000>${VIP}:80`]);
      expect(node.breather.dataplane.fragments.waiting).toBe(0);
    }
  });

  it("of the client goes to the endpoint", () => {
    const node = asking();
    const answer = udpPacket(
      { source: VIP, destination: MASTER.pod, sourcePort: 80, destinationPort: 40_000 },
      payload,
    );
    for (const part of partsOf(MASTER.pod, VIP, answer)) node.fromPod(part);
    const outcome = node.run();
    expect(new Set(leaving(outcome).map(({ port, peer }) => `${port} ${peer}`))).toEqual(
      new Set([`${TUNNEL_PORT} 0`]),
    );
    expect(told(outcome)).toEqual([
      `${MASTER.pod}>${WORKER01.pod}`,
      `${WORKER01.pod}:8080>${MASTER.pod}:40000`,
    ]);
  });

  it("of the endpoint returns to the VTEP that a connection came through, with its tag", () => {
    const node = nodeWith(clusterIp(LOCAL));
    const into = udpPacket({ source: PC, destination: MASTER.pod, destinationPort: 8080 }, payload);
    node.fromUnderlay(WORKER02.underlay, tagged(into, 77)).run();
    for (const part of partsOf(MASTER.pod, PC, into)) node.fromPod(part);
    const outcome = node.run();
    expect(told(outcome)).toEqual([`${MASTER.pod}>${PC}`, `${PC}:40000>${MASTER.pod}:8080`]);
    expect(new Set(leaving(outcome).map(({ peer, sourceMac }) => `${peer} ${sourceMac}`))).toEqual(
      new Set(["1 02:74:00:00:00:4d"]),
    );
  });

  it("about no flow passes as it is", () => {
    const node = nodeWith(clusterIp(REMOTE));
    const cause = udpPacket({ ...answered, destinationPort: 40_000 }, payload);
    for (const part of partsOf(WORKER01.pod, MASTER.pod, cause)) node.fromWorker01(part);
    expect(told(node.run())).toEqual([
      `${WORKER01.pod}>${MASTER.pod}`,
      `${WORKER01.pod}:8080>${MASTER.pod}:40000`,
    ]);
  });
});

it("an ICMP error in two fragments, byte for byte", () => {
  const node = nodeWith(clusterIp(REMOTE));
  node.fromPod(udpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 80 }, counting(20))).run();
  // 10.1.79.65 → 10.1.235.193, ICMP 3/3 about 10.1.235.193:40000 → 10.1.79.65:8080, MF and offset 5.
  const first = hex(`4500003c 00052000 40010bb8 0a014f41 0a01ebc1 03034c2f 00000000 45000030
    00014000 3f11ecb7 0a01ebc1 0a014f41 9c401f90 001c9a7c 00010203`);
  const later = hex(`45000024 00050005 40012bcb 0a014f41 0a01ebc1 04050607 08090a0b 0c0d0e0f
    10111213`);
  const outcome = node.fromWorker01(first).fromWorker01(later).run();
  // 10.152.183.7 in place of 10.1.79.65, port 80 in that of 8080; TTL 63.
  const firstLeft = hex(`4500003c 00052000 3f01a45a 0a98b707 0a01ebc1 0303b48c 00000000 45000030
    00014000 3f11845a 0a01ebc1 0a98b707 9c400050 001c515f 00010203`);
  const laterLeft = hex(`45000024 00050005 3f01c46d 0a98b707 0a01ebc1 04050607 08090a0b 0c0d0e0f
    10111213`);
  expect(leaving(outcome).map(({ port, packet }) => [port, packet.bytes])).toEqual([
    [POD_PORT, firstLeft],
    [POD_PORT, laterLeft],
  ]);
});

it("later fragments of an ICMP error whose flow has gone meanwhile are dropped", () => {
  const node = nodeWith(clusterIp(REMOTE));
  node.fromPod(udpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 80 }, counting(20))).run();
  const cause = udpPacket(
    { source: MASTER.pod, destination: WORKER01.pod, destinationPort: 8080 },
    counting(20),
  );
  const error = icmpPacket({ source: WORKER01.pod, destination: MASTER.pod, type: 3, code: 3 }, cause);
  const [first, later] = fragmentsOf(error, 60);
  expect(node.fromWorker01(first!).run().forwarded).toBe(1);
  node.flows.remove(0);
  const outcome = node.fromWorker01(later!).run();
  expect([accounted(outcome), outcome.dropped]).toEqual([true, { fragmentOrphan: 1 }]);
});

/** A later fragment that only `id` tells from others. */
function orphan(id: number, bytes = 40, source = MASTER.pod, destination = VIP): Uint8Array {
  return ipv4({ source, destination, id, protocol: UDP, fragment: 8 }, counting(bytes));
}

describe("what waits", () => {
  it("is dropped after 30 s, and counted then", () => {
    const node = nodeWith(clusterIp(REMOTE));
    const start = node.fromPod(orphan(1)).run();
    expect([start.received, start.dropped]).toEqual([0, {}]);
    node.io.nowUs += WAIT_US - 1_000_000;
    expect(node.run().dropped).toEqual({});
    node.io.nowUs += 2_000_000;
    const end = node.run();
    expect(accounted(end)).toBe(true);
    expect([end.received, end.dropped]).toEqual([1, { fragmentOrphan: 1 }]);
    expect(node.breather.dataplane.fragments.waiting).toBe(0);
  });

  it("makes room for younger ones, the oldest first", () => {
    const node = nodeWith(clusterIp(REMOTE));
    const first = fragmentsOf(
      udpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 80, id: 9999 }, counting(100)),
      68,
    );
    const later = first.slice(1);
    let lost = 0;
    for (let id = 0; id < 3000; id++) {
      if (id === 2500) for (const part of later) node.fromPod(part);
      const outcome = node.fromPod(orphan(id, 1000)).run();
      expect(accounted(outcome)).toBe(true);
      lost += outcome.dropped.fragmentOrphan ?? 0;
    }
    const { waiting } = node.breather.dataplane.fragments;
    expect(lost + waiting).toBe(3000 + later.length);
    expect(waiting).toBeGreaterThan(500);
    // Those of 500 packets ago still wait.
    const sent = whole(node.fromPod(first[0]!).run());
    expect(ends(sent)).toBe(`${MASTER.pod}:40000>${WORKER01.pod}:8080`);
    expect(node.faults).toEqual([]);
  });

  it("of one packet is not more than a packet can have", () => {
    const node = nodeWith(clusterIp(REMOTE));
    for (let n = 0; n < 300; n++) node.fromPod(orphan(1, 1400));
    const outcome = node.run();
    expect(outcome.dropped.fragmentOrphan).toBeGreaterThan(100);
    expect(accounted(outcome)).toBe(true);
    // Another packet's still have room.
    expect(node.fromPod(orphan(2, 1400)).run().dropped).toEqual({});
  });

  it("goes the way of a first fragment that was refused", () => {
    const node = nodeWith(clusterIp(REMOTE));
    const parts = fragmentsOf(
      udpPacket({ source: MASTER.pod, destination: VIP, destinationPort: 81, id: 3 }, counting(200)),
      100,
    );
    for (const part of parts.toReversed()) node.fromPod(part);
    const outcome = node.run();
    expect(accounted(outcome)).toBe(true);
    expect(outcome.dropped).toEqual({ noServicePort: 1, fragmentOrphan: parts.length - 1 });
  });

  it("does not hold up the memory of what is planned", () => {
    const node = nodeWith(clusterIp(REMOTE));
    // Every datagram waits, goes on and is sent while the next ones are copied in behind it.
    const payload = counting(60 * 1024);
    for (let round = 0; round < 40; round++) {
      const packet = udpPacket(
        { source: MASTER.pod, destination: VIP, destinationPort: 80, id: round },
        payload,
      );
      const [first, ...rest] = fragmentsOf(packet, MTU);
      for (const part of rest.toReversed()) node.fromPod(part);
      const out = whole(node.fromPod(first!).run());
      expect(payloadOf(out)).toEqual(payload);
    }
  });

  it("go on when the first one comes after the last Service has gone", () => {
    const node = nodeWith();
    const { services } = node.breather.dataplane;
    const builder = new ServiceTableBuilder();
    services.adopt(serviceImage([clusterIp(LOCAL)], builder));
    const packet = udpPacket({ source: MASTER.pod, destination: MASTER.otherPod }, counting(200));
    const [first, ...rest] = fragmentsOf(packet, 100);
    for (const part of rest) node.fromPod(part);
    expect(leaving(node.run())).toEqual([]);
    builder.removeFrontend(address(VIP), UDP, 80);
    services.adopt(builder.commit());
    expect(payloadOf(whole(node.fromPod(first!).run()))).toEqual(counting(200));
  });

  it("is none of a packet whose first fragment came before the first Service", () => {
    const node = nodeWith();
    // 10.1.79.65 → 10.1.235.193, ICMP echo request in two fragments: MF, and offset 2.
    const first = hex("45000024 00092000 40010bcc 0a014f41 0a01ebc1 0800bfb7 00070001 00010203 04050607");
    const later = hex("4500001c 00090002 40012bd2 0a014f41 0a01ebc1 08090a0b 0c0d0e0f");
    const outcomes = [node.fromWorker01(first).run()];
    node.breather.dataplane.services.adopt(serviceImage([clusterIp(REMOTE)]));
    outcomes.push(node.fromWorker01(later).run());
    // TTL 63.
    const firstLeft = hex("45000024 00092000 3f010ccc 0a014f41 0a01ebc1 0800bfb7 00070001 00010203 04050607");
    const laterLeft = hex("4500001c 00090002 3f012cd2 0a014f41 0a01ebc1 08090a0b 0c0d0e0f");
    expect(outcomes.flatMap(leaving).map(({ port, packet }) => [port, packet.bytes])).toEqual([
      [POD_PORT, firstLeft],
      [POD_PORT, laterLeft],
    ]);
  });

  it("waits without Services too: the node's own traffic has its tunnel address there", () => {
    const node = nodeWith();
    const ask = { source: MASTER.underlay, destination: WORKER01.pod, destinationPort: 5201 };
    expect(ends(whole(node.fromNode(udpPacket(ask, counting(16))).run()))).toBe(
      `${MASTER.tunnel}:40000>${WORKER01.pod}:5201`,
    );
    // 10.1.79.65:5201 → 10.1.235.192:40000, UDP in two fragments: offset 2, and MF.
    const later = hex("4500001c 00090002 40112bc3 0a014f41 0a01ebc0 08090a0b 0c0d0e0f");
    const first = hex("45000024 00092000 40110bbd 0a014f41 0a01ebc0 14519c40 0018c7e8 00010203 04050607");
    const outcomes = [node.fromWorker01(later).run(), node.fromWorker01(first).run()];
    // 192.168.2.30 in place of 10.1.235.192.
    const firstLeft = hex("45000024 00092000 40113eb8 0a014f41 c0a8021e 14519c40 0018fae3 00010203 04050607");
    const laterLeft = hex("4500001c 00090002 40115ebe 0a014f41 c0a8021e 08090a0b 0c0d0e0f");
    expect(outcomes.flatMap(leaving).map(({ port, packet }) => [port, packet.bytes])).toEqual([
      [NODE_PORT, firstLeft],
      [NODE_PORT, laterLeft],
    ]);
  });

  it("waits where the last Service has gone and its flows have not", () => {
    const node = nodeWith();
    const { services } = node.breather.dataplane;
    const builder = new ServiceTableBuilder();
    services.adopt(serviceImage([clusterIp(REMOTE)], builder));
    const ask = { source: MASTER.pod, destination: VIP, destinationPort: 80 };
    node.fromPod(udpPacket(ask, counting(20))).run();
    builder.removeFrontend(address(VIP), UDP, 80);
    services.adopt(builder.commit());
    const answer = udpPacket(
      { source: WORKER01.pod, destination: MASTER.pod, sourcePort: 8080, destinationPort: 40_000 },
      counting(200),
    );
    for (const part of fragmentsOf(answer, 100).toReversed()) node.fromWorker01(part);
    expect(ends(whole(node.run()))).toBe(`${VIP}:80>${MASTER.pod}:40000`);
  });

  it("wait their full time where older ones of their own packet have made room", () => {
    const node = nodeWith(clusterIp(REMOTE));
    const way = { source: MASTER.pod, destination: VIP, protocol: UDP, id: 7 };
    const part = (n: number) => ipv4({ ...way, fragment: 0x2000 | n }, counting(8));
    for (let n = 1; n <= 1024; n++) node.fromPod(part(n)).run();
    node.io.nowUs += WAIT_US - 1_000_000;
    expect(node.fromPod(part(1025)).run().dropped).toEqual({ fragmentOrphan: 1024 });
    node.io.nowUs += WAIT_US;
    const first = udpPacket({ ...way, destinationPort: 80, fragment: 0x2000 }, counting(0));
    expect(leaving(node.fromPod(first).run())).toHaveLength(2);
  });

  it("tells ports of arrival and tags apart", () => {
    const node = nodeWith(nodePort(REMOTE));
    const answer = fragmentsOf(
      udpPacket(
        { source: WORKER01.pod, destination: PC, sourcePort: 8080, destinationPort: 40_000 },
        counting(200),
      ),
      100,
    );
    const ask = udpPacket({ source: PC, destination: MASTER.underlay, destinationPort: 30080 }, counting(8));
    node.fromNode(ask).run();
    const tag = flowTag.of(address(MASTER.underlay), 30080, UDP);
    const other = tag ^ 1;
    for (const part of answer.slice(1)) node.fromUnderlay(WORKER01.underlay, tagged(part, other));
    const sent = leaving(node.fromUnderlay(WORKER01.underlay, tagged(answer[0]!, tag)).run());
    expect(sent.map(({ port }) => port)).toEqual([NODE_PORT]);
    expect(node.breather.dataplane.fragments.waiting).toBe(answer.length - 1);
    expect(sent.every(({ port }) => port !== POD_PORT)).toBe(true);
  });
});
