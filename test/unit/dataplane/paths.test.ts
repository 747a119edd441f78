import { describe, expect, it } from "vitest";
import {
  fromVtep,
  MASTER,
  NODE_PORT,
  OTHER_POD_PORT,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  toVtep,
  VNI,
  WORKER01,
  WORKER02,
} from "../../support/dataplane.js";
import {
  concat,
  counting,
  ethernet,
  GATEWAY,
  hex,
  ICMP,
  IPV4,
  icmpPacket,
  ipv4,
  tcpPacket,
  UDP,
  udpPacket,
  vnet,
  vnetPartial,
  vxlan,
} from "../../support/frames.js";
import { expectSent, type Fixture, fixtureTests, verdictOf } from "./fixtures.js";

const { pod, otherPod, podMac, otherPodMac, tunnel, underlay, vtepMac } = MASTER;
const DATA = counting(32);

/** A frame that the dataplane writes to a pod's TAP. */
function toTap(port: number, packet: Uint8Array, vnetHeader = vnet()) {
  const mac = { [POD_PORT]: podMac, [OTHER_POD_PORT]: otherPodMac, [NODE_PORT]: vtepMac }[port]!;
  return { port, bytes: concat(vnetHeader, ethernet(mac, GATEWAY, IPV4, packet)) };
}

const ROUTER_ALERT = hex("94040000");

const FIXTURES: Fixture[] = [
  {
    description: "pod to remote pod: MACs of VTEPs, VXLAN header, TTL one less",
    arrives: (n) => n.fromPod(udpPacket({ source: pod, destination: WORKER01.pod }, DATA)),
    verdict: "forwarded",
    leaves: [
      {
        port: TUNNEL_PORT,
        bytes: toVtep(WORKER01, udpPacket({ source: pod, destination: WORKER01.pod, ttl: 63 }, DATA)),
      },
    ],
  },
  {
    description: "pod to a remote node's tunnel address, to the second VTEP",
    arrives: (n) => n.fromPod(icmpPacket({ source: pod, destination: WORKER02.tunnel, type: 8 }, DATA)),
    verdict: "forwarded",
    leaves: [
      {
        port: TUNNEL_PORT,
        vtep: 1,
        bytes: toVtep(
          WORKER02,
          icmpPacket({ source: pod, destination: WORKER02.tunnel, type: 8, ttl: 63 }, DATA),
        ),
      },
    ],
  },
  {
    description: "pod to another pod of the node",
    arrives: (n) => n.fromPod(udpPacket({ source: pod, destination: otherPod }, DATA)),
    verdict: "forwarded",
    leaves: [toTap(OTHER_POD_PORT, udpPacket({ source: pod, destination: otherPod, ttl: 63 }, DATA))],
  },
  {
    description: "pod to itself by way of its gateway",
    arrives: (n) => n.fromPod(udpPacket({ source: pod, destination: pod }, DATA)),
    verdict: "forwarded",
    leaves: [toTap(POD_PORT, udpPacket({ source: pod, destination: pod, ttl: 63 }, DATA))],
  },
  ...[tunnel, underlay].map(
    (destination): Fixture => ({
      description: `pod to its node at ${destination}: TTL stays`,
      arrives: (n) => n.fromPod(tcpPacket({ source: pod, destination, ttl: 1 }, DATA)),
      verdict: "forwarded",
      leaves: [toTap(NODE_PORT, tcpPacket({ source: pod, destination, ttl: 1 }, DATA))],
    }),
  ),
  {
    description: "node to its pod: TTL stays, the kernel has decremented it",
    arrives: (n) => n.fromNode(tcpPacket({ source: tunnel, destination: pod, ttl: 1 }, DATA)),
    verdict: "forwarded",
    leaves: [toTap(POD_PORT, tcpPacket({ source: tunnel, destination: pod, ttl: 1 }, DATA))],
  },
  {
    description: "node to remote pod",
    arrives: (n) => n.fromNode(udpPacket({ source: tunnel, destination: WORKER01.pod, ttl: 7 }, DATA)),
    verdict: "forwarded",
    leaves: [
      {
        port: TUNNEL_PORT,
        bytes: toVtep(WORKER01, udpPacket({ source: tunnel, destination: WORKER01.pod, ttl: 7 }, DATA)),
      },
    ],
  },
  {
    description: "what the node forwards for a client on the LAN keeps the client's address",
    arrives: (n) => n.fromNode(udpPacket({ source: "192.168.2.99", destination: pod, ttl: 63 }, DATA)),
    verdict: "forwarded",
    leaves: [toTap(POD_PORT, udpPacket({ source: "192.168.2.99", destination: pod, ttl: 63 }, DATA))],
  },
  {
    description: "tunnel to pod",
    arrives: (n) => n.fromWorker01(udpPacket({ source: WORKER01.pod, destination: pod }, DATA)),
    verdict: "forwarded",
    leaves: [toTap(POD_PORT, udpPacket({ source: WORKER01.pod, destination: pod, ttl: 63 }, DATA))],
  },
  {
    description: "tunnel to node at its tunnel address: TTL stays",
    arrives: (n) => n.fromWorker01(tcpPacket({ source: WORKER01.pod, destination: tunnel, ttl: 1 }, DATA)),
    verdict: "forwarded",
    leaves: [toTap(NODE_PORT, tcpPacket({ source: WORKER01.pod, destination: tunnel, ttl: 1 }, DATA))],
  },
  {
    description: "tunnel to pod from a client behind the other node",
    arrives: (n) => n.fromWorker01(udpPacket({ source: "203.0.113.9", destination: pod }, DATA)),
    verdict: "forwarded",
    leaves: [toTap(POD_PORT, udpPacket({ source: "203.0.113.9", destination: pod, ttl: 63 }, DATA))],
  },
  {
    description: "tunnel to pod: a VXLAN header with reserved bits set",
    arrives: (n) => {
      const packet = udpPacket({ source: WORKER01.pod, destination: pod }, DATA);
      const datagram = vxlan(VNI, ethernet(vtepMac, WORKER01.vtepMac, IPV4, packet), 0xff);
      datagram[7] = 0xff;
      return n.fromUnderlay(WORKER01.underlay, datagram);
    },
    verdict: "forwarded",
    leaves: [toTap(POD_PORT, udpPacket({ source: WORKER01.pod, destination: pod, ttl: 63 }, DATA))],
  },
  {
    description: "Ethernet padding is cut off, pod to remote pod",
    arrives: (n) => {
      const packet = udpPacket({ source: pod, destination: WORKER01.pod }, counting(4));
      return n.fromPod(concat(packet, new Uint8Array(14).fill(0xa5)));
    },
    verdict: "forwarded",
    leaves: [
      {
        port: TUNNEL_PORT,
        bytes: toVtep(WORKER01, udpPacket({ source: pod, destination: WORKER01.pod, ttl: 63 }, counting(4))),
      },
    ],
  },
  {
    description: "Ethernet padding is cut off, tunnel to pod",
    arrives: (n) => {
      const packet = udpPacket({ source: WORKER01.pod, destination: pod }, counting(4));
      return n.fromWorker01(concat(packet, new Uint8Array(14).fill(0xa5)));
    },
    verdict: "forwarded",
    leaves: [toTap(POD_PORT, udpPacket({ source: WORKER01.pod, destination: pod, ttl: 63 }, counting(4)))],
  },
  {
    description: "IPv4 options travel, pod to remote pod",
    arrives: (n) =>
      n.fromPod(udpPacket({ source: pod, destination: WORKER01.pod, options: ROUTER_ALERT }, DATA)),
    verdict: "forwarded",
    leaves: [
      {
        port: TUNNEL_PORT,
        bytes: toVtep(
          WORKER01,
          udpPacket({ source: pod, destination: WORKER01.pod, options: ROUTER_ALERT, ttl: 63 }, DATA),
        ),
      },
    ],
  },
  {
    description: "IPv4 options travel, tunnel to pod",
    arrives: (n) =>
      n.fromWorker01(tcpPacket({ source: WORKER01.pod, destination: pod, options: ROUTER_ALERT }, DATA)),
    verdict: "forwarded",
    leaves: [
      toTap(
        POD_PORT,
        tcpPacket({ source: WORKER01.pod, destination: pod, options: ROUTER_ALERT, ttl: 63 }, DATA),
      ),
    ],
  },
  {
    description: "a partial checksum is completed on the way to a VTEP",
    arrives: (n) =>
      n.fromPod(
        udpPacket({ source: pod, destination: WORKER01.pod, l4Checksum: "partial" }, DATA),
        vnetPartial(UDP),
      ),
    verdict: "forwarded",
    leaves: [
      {
        port: TUNNEL_PORT,
        bytes: toVtep(WORKER01, udpPacket({ source: pod, destination: WORKER01.pod, ttl: 63 }, DATA)),
      },
    ],
  },
  {
    description: "a partial checksum behind IPv4 options is completed",
    arrives: (n) =>
      n.fromPod(
        tcpPacket(
          { source: pod, destination: WORKER01.pod, options: ROUTER_ALERT, l4Checksum: "partial" },
          DATA,
        ),
        vnetPartial(6, 0, 38),
      ),
    verdict: "forwarded",
    leaves: [
      {
        port: TUNNEL_PORT,
        bytes: toVtep(
          WORKER01,
          tcpPacket({ source: pod, destination: WORKER01.pod, options: ROUTER_ALERT, ttl: 63 }, DATA),
        ),
      },
    ],
  },
  {
    description: "a partial checksum stays partial from pod to pod, and says so",
    arrives: (n) =>
      n.fromPod(
        udpPacket({ source: pod, destination: otherPod, l4Checksum: "partial" }, DATA),
        vnetPartial(UDP),
      ),
    verdict: "forwarded",
    leaves: [
      toTap(
        OTHER_POD_PORT,
        udpPacket({ source: pod, destination: otherPod, ttl: 63, l4Checksum: "partial" }, DATA),
        vnetPartial(UDP),
      ),
    ],
  },
  {
    description: "a TSO frame stays whole from pod to pod",
    arrives: (n) =>
      n.fromPod(
        tcpPacket({ source: pod, destination: otherPod, l4Checksum: "partial" }, counting(5000)),
        vnetPartial(6, 1410),
      ),
    verdict: "forwarded",
    leaves: [
      toTap(
        OTHER_POD_PORT,
        tcpPacket({ source: pod, destination: otherPod, ttl: 63, l4Checksum: "partial" }, counting(5000)),
        vnetPartial(6, 1410),
      ),
    ],
  },
  {
    description: "a TSO frame stays whole from node to pod",
    arrives: (n) =>
      n.fromNode(
        tcpPacket({ source: tunnel, destination: pod, l4Checksum: "partial" }, counting(3000)),
        vnetPartial(6, 1410),
      ),
    verdict: "forwarded",
    leaves: [
      toTap(
        POD_PORT,
        tcpPacket({ source: tunnel, destination: pod, l4Checksum: "partial" }, counting(3000)),
        vnetPartial(6, 1410),
      ),
    ],
  },
  {
    description: "the ECN bit of gso_type is accepted",
    arrives: (n) => {
      const header = vnetPartial(6, 1410);
      header[1] |= 0x80;
      return n.fromPod(
        tcpPacket({ source: pod, destination: otherPod, l4Checksum: "partial" }, counting(3000)),
        header,
      );
    },
    verdict: "forwarded",
    leaves: [
      toTap(
        OTHER_POD_PORT,
        tcpPacket({ source: pod, destination: otherPod, ttl: 63, l4Checksum: "partial" }, counting(3000)),
        vnetPartial(6, 1410),
      ),
    ],
  },
  {
    description: "an unknown protocol travels as it is",
    arrives: (n) =>
      n.fromPod(ipv4({ source: pod, destination: WORKER01.pod, protocol: 132, fragment: 0 }, DATA)),
    verdict: "forwarded",
    leaves: [
      {
        port: TUNNEL_PORT,
        bytes: toVtep(
          WORKER01,
          ipv4({ source: pod, destination: WORKER01.pod, protocol: 132, fragment: 0, ttl: 63 }, DATA),
        ),
      },
    ],
  },
  {
    description: "a later fragment to another node has no transport header and needs none",
    arrives: (n) =>
      n.fromPod(ipv4({ source: pod, destination: WORKER01.pod, protocol: 6, fragment: 0x2003 }, counting(8))),
    verdict: "forwarded",
    leaves: [
      {
        port: TUNNEL_PORT,
        bytes: toVtep(
          WORKER01,
          ipv4(
            { source: pod, destination: WORKER01.pod, protocol: 6, fragment: 0x2003, ttl: 63 },
            counting(8),
          ),
        ),
      },
    ],
  },
  {
    description: "the longest packet that fits the tunnel",
    arrives: (n) => n.fromPod(udpPacket({ source: pod, destination: WORKER01.pod }, counting(1450 - 28))),
    verdict: "forwarded",
    leaves: [
      {
        port: TUNNEL_PORT,
        bytes: toVtep(
          WORKER01,
          udpPacket({ source: pod, destination: WORKER01.pod, ttl: 63 }, counting(1450 - 28)),
        ),
      },
    ],
  },
  {
    description: "TTL 2 is enough for one hop",
    arrives: (n) => n.fromPod(udpPacket({ source: pod, destination: otherPod, ttl: 2 }, DATA)),
    verdict: "forwarded",
    leaves: [toTap(OTHER_POD_PORT, udpPacket({ source: pod, destination: otherPod, ttl: 1 }, DATA))],
  },
];

describe("paths", () => {
  fixtureTests(FIXTURES);

  it("the first hop as bytes on the wire", () => {
    // ICMP echo 10.1.235.193 → 10.1.79.65, written by hand.
    const node = new TestNode().fromTap(
      POD_PORT,
      hex(`eeeeeeeeeeee 02700a01ebc1 0800
           4500 0020 0001 4000 4001 ebd7 0a01ebc1 0a014f41
           0800 192c 0001 0002 70696e67`),
    );
    expectSent(node.run(), [
      {
        port: TUNNEL_PORT,
        bytes: hex(`0800 0000 0010 0000
                    661f0000001f 661e0000001e 0800
                    4500 0020 0001 4000 3f01 ecd7 0a01ebc1 0a014f41
                    0800 192c 0001 0002 70696e67`),
      },
    ]);
  });

  it("frames of a train go each their own way", () => {
    const to = (destination: string, sourcePort: number) =>
      udpPacket({ source: WORKER01.pod, destination, sourcePort }, DATA);
    const node = new TestNode().trainFromWorker01([to(pod, 1), to(otherPod, 2), to(tunnel, 3), to(pod, 1)]);
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 4 });
    expect(outcome.sent.map((s) => s.port)).toEqual([POD_PORT, OTHER_POD_PORT, NODE_PORT]);
  });

  it("bytes received and forwarded count from the Ethernet header on", () => {
    const packet = (source: string, destination: string) => udpPacket({ source, destination }, DATA);
    const node = new TestNode().fromPod(packet(pod, WORKER01.pod)).fromWorker01(packet(WORKER01.pod, pod));
    node.run();
    const frame = 14 + 28 + DATA.length;
    expect([node.counters[3], node.counters[4]]).toEqual([2 * frame, 2 * frame]);
  });

  it("a datagram from an address that is a VTEP's, whatever its UDP source port", () => {
    const outcome = new TestNode()
      .fromUnderlay(
        WORKER02.underlay,
        fromVtep(WORKER02, udpPacket({ source: WORKER02.pod, destination: pod }, DATA)),
      )
      .run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 1 });
  });

  it("ICMP between pods both ways", () => {
    const node = new TestNode()
      .fromPod(icmpPacket({ source: pod, destination: WORKER01.pod, type: 8, rest: 0x00010001 }, DATA))
      .fromWorker01(icmpPacket({ source: WORKER01.pod, destination: pod, type: 0, rest: 0x00010001 }, DATA));
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 2 });
    expect(outcome.sent.map((s) => s.port)).toEqual([TUNNEL_PORT, POD_PORT]);
    expect(outcome.sent[1].bytes[10 + 14 + 9]).toBe(ICMP);
  });
});
