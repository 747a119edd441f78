import { describe, expect, it } from "vitest";
import { COUNT_ICMP_ERRORS, COUNT_ICMP_LIMITED, COUNT_REPLIES_LOST } from "../../../src/packet/counters.js";
import {
  MASTER,
  NODE_PORT,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  toVtep,
  WORKER01,
} from "../../support/dataplane.js";
import {
  concat,
  counting,
  ethernet,
  GATEWAY,
  get16,
  hex,
  IPV4,
  icmpError,
  icmpPacket,
  ipv4,
  l4ChecksumOk,
  readFrame,
  TCP,
  tcpPacket,
  udpPacket,
  vnet,
  vnetPartial,
} from "../../support/frames.js";
import { expectSent, type Fixture, fixtureTests, verdictOf } from "./fixtures.js";

const { pod, podMac, tunnel, vtepMac } = MASTER;
const DATA = counting(32);

/** The ICMP error about `cause` as the pod gets it; the dataplane's first packet has identification 1. */
function toPod(type: number, code: number, mtu: number, cause: Uint8Array) {
  const error = icmpError(tunnel, pod, 1, type, code, mtu, cause);
  return { port: POD_PORT, bytes: concat(vnet(), ethernet(podMac, GATEWAY, IPV4, error)) };
}

const toNowhere = udpPacket({ source: pod, destination: "203.0.113.1" }, DATA);
const toUnused = tcpPacket({ source: pod, destination: "10.1.235.200" }, DATA);
const lastHop = icmpPacket({ source: pod, destination: WORKER01.pod, type: 8, ttl: 1 }, DATA);
const tooLong = (ttl?: number) =>
  udpPacket({ source: pod, destination: WORKER01.pod, ...(ttl && { ttl }) }, counting(1423));
const fromTunnel = udpPacket({ source: WORKER01.pod, destination: "10.1.235.200" }, DATA);
const odd = udpPacket({ source: pod, destination: "203.0.113.1" }, counting(33));
const optionsCase = udpPacket({ source: pod, destination: "203.0.113.1", options: hex("94040000") }, DATA);
const firstFragment = udpPacket(
  { source: pod, destination: "203.0.113.1", fragment: 0x2000, udpLength: 3000 },
  DATA,
);

const FIXTURES: Fixture[] = [
  {
    description: "network unreachable, back to the pod",
    arrives: (n) => n.fromPod(toNowhere),
    verdict: "noRoute",
    leaves: [toPod(3, 0, 0, toNowhere)],
  },
  {
    description: "network unreachable about a packet of odd length",
    arrives: (n) => n.fromPod(odd),
    verdict: "noRoute",
    leaves: [toPod(3, 0, 0, odd)],
  },
  {
    description: "network unreachable quotes options, and without Ethernet padding",
    arrives: (n) => n.fromPod(concat(optionsCase, new Uint8Array(6).fill(0xa5))),
    verdict: "noRoute",
    leaves: [toPod(3, 0, 0, optionsCase)],
  },
  {
    description: "network unreachable about a first fragment",
    arrives: (n) => n.fromPod(firstFragment),
    verdict: "noRoute",
    leaves: [toPod(3, 0, 0, firstFragment)],
  },
  {
    description: "host unreachable",
    arrives: (n) => n.fromPod(toUnused),
    verdict: "hostUnreachable",
    leaves: [toPod(3, 1, 0, toUnused)],
  },
  {
    description: "time exceeded about an echo request quotes the TTL that arrived",
    arrives: (n) => n.fromPod(lastHop),
    verdict: "ttlExceeded",
    leaves: [toPod(11, 0, 0, lastHop)],
  },
  {
    description: "fragmentation needed, with the MTU and 548 bytes of the packet",
    arrives: (n) => n.fromPod(tooLong()),
    verdict: "fragmentationNeeded",
    leaves: [toPod(3, 4, 1450, tooLong(63))],
  },
  {
    description: "host unreachable, back into the tunnel",
    arrives: (n) => n.fromWorker01(fromTunnel),
    verdict: "hostUnreachable",
    leaves: [
      {
        port: TUNNEL_PORT,
        bytes: toVtep(WORKER01, icmpError(tunnel, WORKER01.pod, 1, 3, 1, 0, fromTunnel)),
      },
    ],
  },
  {
    description: "network unreachable, back to the node's kernel",
    arrives: (n) => n.fromNode(udpPacket({ source: tunnel, destination: "10.1.1.1" }, DATA)),
    verdict: "noRoute",
    leaves: [
      {
        port: NODE_PORT,
        bytes: concat(
          vnet(),
          ethernet(
            vtepMac,
            GATEWAY,
            IPV4,
            icmpError(
              tunnel,
              tunnel,
              1,
              3,
              0,
              0,
              udpPacket({ source: tunnel, destination: "10.1.1.1" }, DATA),
            ),
          ),
        ),
      },
    ],
  },
];

describe("ICMP errors", () => {
  fixtureTests(FIXTURES);

  it("as bytes on the wire: host unreachable", () => {
    // UDP 10.1.235.193:40000 → 10.1.235.200:53, "hi"
    const cause = `4500 001e 1234 4000 4011 3d0f 0a01ebc1 0a01ebc8 9c40 0035 000a 0f6f 6869`;
    const node = new TestNode().fromTap(POD_PORT, hex(`eeeeeeeeeeee 02700a01ebc1 0800 ${cause}`));
    expectSent(node.run(), [
      {
        port: POD_PORT,
        bytes: hex(`00000000000000000000 02700a01ebc1 eeeeeeeeeeee 0800
                    4500 003a 0001 0000 4001 8f3e 0a01ebc0 0a01ebc1
                    0301 e8a6 0000 0000 ${cause}`),
      },
    ]);
  });

  it.each([
    ["an unreachable", 3],
    ["a source quench", 4],
    ["a redirect", 5],
    ["a time exceeded", 11],
    ["a parameter problem", 12],
  ])("none about %s", (_, type) => {
    const node = new TestNode().fromPod(
      icmpPacket({ source: pod, destination: "203.0.113.1", type }, counting(28)),
    );
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ noRoute: 1 });
    expect(outcome.sent).toEqual([]);
  });

  it("none about ICMP without a type", () => {
    const node = new TestNode().fromPod(
      ipv4({ source: pod, destination: "203.0.113.1", protocol: 1 }, new Uint8Array(0)),
    );
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ noRoute: 1 });
    expect(outcome.sent).toEqual([]);
  });

  it("none about a later fragment", () => {
    const node = new TestNode().fromPod(
      ipv4({ source: pod, destination: "10.1.235.250", fragment: 0x0010 }, DATA),
    );
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ hostUnreachable: 1 });
    expect(outcome.sent).toEqual([]);
  });

  it("one about a whole TSO frame, not one a segment", () => {
    const packet = tcpPacket(
      { source: pod, destination: WORKER01.pod, l4Checksum: "partial" },
      counting(9000),
    );
    const node = new TestNode().fromPod(packet, vnetPartial(TCP, 1448));
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ fragmentationNeeded: 1 });
    expect(outcome.sent).toHaveLength(1);
    const error = readFrame(outcome.sent[0].bytes.subarray(10)).packet!;
    expect(l4ChecksumOk(error)).toBe(true);
    expect(error.bytes).toHaveLength(576);
    expect(get16(error.l4, 6)).toBe(1450);
  });

  it("identification counts up", () => {
    const node = new TestNode().fromPod(toNowhere).fromPod(toNowhere).fromPod(toNowhere);
    const ids = node.run().sent.map((s) => readFrame(s.bytes.subarray(10)).packet!.id);
    expect(ids).toEqual([1, 2, 3]);
  });

  it("50 at once, then 1000 a second; drops are counted all the same", () => {
    const node = new TestNode();
    const burst = (frames: number) => {
      for (let n = 0; n < frames; n++) node.fromPod(toNowhere);
      const outcome = node.run();
      expect(verdictOf(outcome)).toEqual({ noRoute: frames });
      return outcome.sent.length;
    };
    expect(burst(80)).toBe(50);
    expect(burst(5)).toBe(0);
    node.io.nowUs += 10_000;
    expect(burst(30)).toBe(10);
    node.io.nowUs += 10_000_000;
    expect(burst(80)).toBe(50);
    expect(node.counters[COUNT_ICMP_ERRORS]).toBe(110);
    expect(node.counters[COUNT_ICMP_LIMITED]).toBe(30 + 5 + 20 + 30);
  });

  it("an error that cannot be sent is no frame's loss", () => {
    const node = new TestNode().fromPod(toNowhere);
    node.io.failures.set(POD_PORT, 5);
    expect(verdictOf(node.run())).toEqual({ noRoute: 1 });
    expect(node.counters[COUNT_REPLIES_LOST]).toBe(1);
  });
});
