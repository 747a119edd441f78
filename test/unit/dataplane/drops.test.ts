import { describe, expect, it } from "vitest";
import { DROP_REASON_NAMES } from "../../../src/packet/DropReason.js";
import { RX_FLAG_TRUNCATED } from "../../../src/packet/layout.js";
import { buildTableImage, Tables } from "../../../src/tables/TableImage.js";
import {
  fromVtep,
  GSO_PORT,
  MASTER,
  NODE_PORT,
  type NodeOptions,
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
  ARP,
  BROADCAST,
  concat,
  counting,
  ethernet,
  GATEWAY,
  hex,
  IPV4,
  IPV6,
  icmpPacket,
  ipv4,
  patched,
  RST,
  SYN,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
  vnet,
  vnetPartial,
  vxlan,
} from "../../support/frames.js";
import { serviceImage, type TestBackend, type TestFrontend } from "../../support/services.js";
import { verdictOf } from "./fixtures.js";

const { pod, podMac, otherPod, tunnel, underlay, vtepMac } = MASTER;
const DATA = counting(32);

type Case = [
  reason: string,
  description: string,
  arrives: (node: TestNode) => unknown,
  options?: NodeOptions,
];

const VIP = "10.152.183.7";
const PC = "192.168.2.99";
const REMOTE: TestBackend = { address: WORKER01.pod, l4Port: 8080 };
const service = (inside: TestFrontend["inside"], protocol = TCP, more: Partial<TestFrontend> = {}) =>
  ({ kind: "clusterIp", address: VIP, protocol, l4Port: 80, inside, ...more }) satisfies TestFrontend;
/** A node that knows these Services. */
const knowing = (n: TestNode, ...frontends: TestFrontend[]) => {
  n.breather.dataplane.services.adopt(serviceImage(frontends));
  return n;
};
const opens = (fields: object = {}) =>
  tcpPacket({ source: pod, destination: VIP, flags: SYN, acknowledgement: 0, ...fields }, new Uint8Array(0));
/** What worker01 sends on behalf of a client outside, with a tag. */
const onBehalf = (packet: Uint8Array, tag: string) =>
  vxlan(VNI, ethernet(vtepMac, `02:74:00:00:00:${tag}`, IPV4, packet));

const good = (fields: object = {}) => udpPacket({ source: pod, destination: otherPod, ...fields }, DATA);
const goodTcp = (fields: object = {}) => tcpPacket({ source: pod, destination: otherPod, ...fields }, DATA);
const inbound = (fields: object = {}) =>
  udpPacket({ source: WORKER01.pod, destination: pod, ...fields }, DATA);
const innerFrame = (packet: Uint8Array, mac = vtepMac) => ethernet(mac, WORKER01.vtepMac, IPV4, packet);
/** A frame of a pod with this virtio-net header. */
const offload = (packet: Uint8Array, header: Uint8Array) => (n: TestNode) => n.fromPod(packet, header);
const ping = (destination: string) =>
  icmpPacket({ source: pod, destination, type: 8, rest: 0x00070001 }, DATA);
const large = (fields: object = {}) =>
  tcpPacket({ source: pod, destination: WORKER01.pod, l4Checksum: "partial", ...fields }, counting(4000));

const CASES: Case[] = [
  ["runt", "a frame of 13 bytes", (n) => n.fromTap(POD_PORT, new Uint8Array(13))],
  ["runt", "a frame of no bytes", (n) => n.fromTap(POD_PORT, new Uint8Array(0))],
  ["runt", "IPv4 with 19 bytes", (n) => n.fromPod(good().subarray(0, 19))],
  [
    "runt",
    "a datagram without room for an inner Ethernet header",
    (n) => n.fromUnderlay(WORKER01.underlay, fromVtep(WORKER01, inbound()).subarray(0, 21)),
  ],
  ["runt", "an empty datagram", (n) => n.fromUnderlay(WORKER01.underlay, new Uint8Array(0))],
  [
    "truncated",
    "a datagram longer than its slot",
    (n) => n.fromUnderlay(WORKER01.underlay, fromVtep(WORKER01, inbound()), undefined, RX_FLAG_TRUNCATED),
  ],
  ["etherType", "IPv6 from a pod", (n) => n.fromTap(POD_PORT, ethernet(GATEWAY, podMac, IPV6, counting(60)))],
  [
    "etherType",
    "IPv6 from the tunnel",
    (n) =>
      n.fromUnderlay(WORKER01.underlay, vxlan(VNI, ethernet(vtepMac, WORKER01.vtepMac, IPV6, counting(60)))),
  ],
  ["etherType", "a VLAN tag", (n) => n.fromTap(POD_PORT, ethernet(GATEWAY, podMac, 0x8100, good()))],
  [
    "wrongMac",
    "from a pod to another MAC than the gateway's",
    (n) => n.fromTap(POD_PORT, ethernet(MASTER.otherPodMac, podMac, IPV4, good())),
  ],
  [
    "wrongMac",
    "from the tunnel to another MAC than the VTEP's",
    (n) => n.fromUnderlay(WORKER01.underlay, vxlan(VNI, innerFrame(inbound(), WORKER02.vtepMac))),
  ],
  ["malformedIpv4", "version 5", (n) => n.fromPod(good({ version: 5 }))],
  ["malformedIpv4", "version 6 behind the IPv4 EtherType", (n) => n.fromPod(good({ version: 6 }))],
  ["malformedIpv4", "header length 16", (n) => n.fromPod(good({ headerWords: 4 }))],
  [
    "malformedIpv4",
    "header longer than the packet",
    (n) => n.fromPod(ipv4({ source: pod, destination: otherPod, headerWords: 15 }, counting(20))),
  ],
  ["malformedIpv4", "total length shorter than the header", (n) => n.fromPod(good({ total: 19 }))],
  ["malformedIpv4", "total length 0, as BIG TCP has it", (n) => n.fromPod(good({ total: 0 }))],
  [
    "malformedIpv4",
    "total length one more than there is",
    (n) => n.fromPod(good({ total: good().length + 1 })),
  ],
  ["ipv4Checksum", "checksum of zero", (n) => n.fromPod(good({ checksum: 0 }))],
  [
    "ipv4Checksum",
    "a flipped bit in the options",
    (n) => n.fromPod(patched(good({ options: hex("94040000") }), 22, [1])),
  ],
  [
    "malformedL4",
    "TCP with 19 bytes",
    (n) => n.fromPod(ipv4({ source: pod, destination: otherPod, protocol: TCP }, counting(19))),
  ],
  ["malformedL4", "TCP data offset 4", (n) => n.fromPod(goodTcp({ dataOffset: 4 }))],
  [
    "malformedL4",
    "TCP data offset behind the end",
    (n) => n.fromPod(tcpPacket({ source: pod, destination: otherPod, dataOffset: 6 }, counting(3))),
  ],
  [
    "malformedL4",
    "UDP with 7 bytes",
    (n) => n.fromPod(ipv4({ source: pod, destination: otherPod, protocol: UDP }, counting(7))),
  ],
  ["malformedL4", "UDP length 7", (n) => n.fromPod(good({ udpLength: 7 }))],
  ["malformedL4", "UDP length one more than there is", (n) => n.fromPod(good({ udpLength: 41 }))],
  [
    "malformedL4",
    "a first fragment without a whole TCP header (RFC 1858)",
    (n) =>
      n.fromPod(ipv4({ source: pod, destination: otherPod, protocol: TCP, fragment: 0x2000 }, counting(16))),
  ],
  [
    "malformedArp",
    "ARP of 20 bytes",
    (n) => n.fromTap(POD_PORT, ethernet(BROADCAST, podMac, ARP, counting(20))),
  ],
  [
    "arpIgnored",
    "an ARP reply",
    (n) =>
      n.fromTap(
        POD_PORT,
        ethernet(
          BROADCAST,
          podMac,
          ARP,
          hex("0001 0800 0604 0002 02700a01ebc1 0a01ebc1 eeeeeeeeeeee a9fe0101"),
        ),
      ),
  ],
  [
    "vnetHeader",
    "gsoSize 0",
    offload(large(), vnet({ ...{ flags: 1, gsoType: 1, headerLength: 54 }, csumStart: 34, csumOffset: 16 })),
  ],
  [
    "vnetHeader",
    "csumStart past the end",
    offload(goodTcp(), vnet({ flags: 1, csumStart: 60_000, csumOffset: 16 })),
  ],
  [
    "vnetHeader",
    "csumStart in front of the transport header",
    offload(goodTcp(), vnet({ flags: 1, csumStart: 14, csumOffset: 16 })),
  ],
  ["vnetHeader", "csumStart 0", offload(goodTcp(), vnet({ flags: 1, csumOffset: 16 }))],
  [
    "vnetHeader",
    "csumStart for a header without options where there are some",
    offload(goodTcp({ options: hex("94040000") }), vnetPartial(TCP)),
  ],
  [
    "vnetHeader",
    "csumOffset of UDP in a TCP frame",
    offload(goodTcp(), vnet({ flags: 1, csumStart: 34, csumOffset: 6 })),
  ],
  [
    "vnetHeader",
    "csumOffset of TCP in a UDP frame",
    offload(good(), vnet({ flags: 1, csumStart: 34, csumOffset: 16 })),
  ],
  [
    "vnetHeader",
    "GSO type of UDP on a TCP frame",
    offload(large(), vnet({ flags: 1, gsoType: 5, gsoSize: 1000, csumStart: 34, csumOffset: 16 })),
  ],
  [
    "vnetHeader",
    "GSO type of TCP on a UDP frame",
    offload(
      good({ l4Checksum: "partial" }),
      vnet({ flags: 1, gsoType: 1, gsoSize: 10, csumStart: 34, csumOffset: 6 }),
    ),
  ],
  [
    "vnetHeader",
    "GSO type TCPV6 on an IPv4 frame",
    offload(large(), vnet({ flags: 1, gsoType: 4, gsoSize: 1000, csumStart: 34, csumOffset: 16 })),
  ],
  [
    "vnetHeader",
    "GSO type UFO",
    offload(
      good({ l4Checksum: "partial" }),
      vnet({ flags: 1, gsoType: 3, gsoSize: 1000, csumStart: 34, csumOffset: 6 }),
    ),
  ],
  [
    "vnetHeader",
    "GSO type of a tunnel",
    offload(large(), vnet({ flags: 1, gsoType: 0x21, gsoSize: 1000, csumStart: 34, csumOffset: 16 })),
  ],
  ["vnetHeader", "GSO without NEEDS_CSUM", offload(large(), vnet({ gsoType: 1, gsoSize: 1000 }))],
  ["vnetHeader", "GSO on a first fragment", offload(large({ fragment: 0x2000 }), vnetPartial(TCP, 1000))],
  ["vnetHeader", "GSO on a later fragment", offload(large({ fragment: 0x0001 }), vnetPartial(TCP, 1000))],
  [
    "vnetHeader",
    "NEEDS_CSUM on ICMP",
    offload(
      ipv4({ source: pod, destination: otherPod, protocol: 1 }, counting(32)),
      vnet({ flags: 1, csumStart: 34, csumOffset: 2 }),
    ),
  ],
  [
    "vnetHeader",
    "GSO size that makes more segments than 64 KiB of MSS 48",
    offload(
      tcpPacket({ source: pod, destination: WORKER01.pod, l4Checksum: "partial" }, counting(1367)),
      vnetPartial(TCP, 1),
    ),
  ],
  [
    "vnetHeader",
    "headers of a GSO frame that fit no scratch slot",
    offload(
      tcpPacket(
        {
          source: pod,
          destination: WORKER01.pod,
          l4Checksum: "partial",
          options: new Uint8Array(40).fill(1),
          tcpOptions: new Uint8Array(40).fill(1),
        },
        counting(4000),
      ),
      vnet({ flags: 1, gsoType: 1, headerLength: 134, gsoSize: 1000, csumStart: 74, csumOffset: 16 }),
    ),
  ],
  [
    "vnetHeader",
    "a whole UDP GSO frame from the tunnel whose checksum is not partial",
    (n) => {
      const packet = udpPacket({ source: WORKER01.pod, destination: pod }, counting(3000));
      return n.fromUnderlay(WORKER01.underlay, fromVtep(WORKER01, packet), 1000);
    },
  ],
  [
    "unknownVtep",
    "a datagram from an address that is no VTEP",
    (n) => n.fromUnderlay("192.168.2.99", fromVtep(WORKER01, inbound())),
  ],
  [
    "unknownVtep",
    "a datagram from a VTEP's tunnel address",
    (n) => n.fromUnderlay(WORKER01.tunnel, fromVtep(WORKER01, inbound())),
  ],
  ["unknownVtep", "a datagram from 0.0.0.0", (n) => n.fromUnderlay("0.0.0.0", fromVtep(WORKER01, inbound()))],
  [
    "vxlanHeader",
    "VXLAN without VNI flag",
    (n) => n.fromUnderlay(WORKER01.underlay, vxlan(VNI, innerFrame(inbound()), 0xf7)),
  ],
  ["wrongVni", "VNI 4097", (n) => n.fromUnderlay(WORKER01.underlay, vxlan(VNI + 1, innerFrame(inbound())))],
  ["forgedSource", "a pod with another pod's address", (n) => n.fromPod(good({ source: otherPod }))],
  ["forgedSource", "a pod with its node's address", (n) => n.fromPod(good({ source: underlay }))],
  ["forgedSource", "a pod with a link-local address", (n) => n.fromPod(good({ source: "169.254.7.7" }))],
  ...[
    ["a VTEP's underlay address", WORKER01.underlay],
    ["a VTEP's tunnel address", WORKER02.tunnel],
    ["its own node's underlay address", underlay],
    ["its own node's tunnel address", tunnel],
  ].map(
    ([whose, destination]): Case => [
      "podVxlan",
      `a pod that speaks VXLAN to ${whose}`,
      (n) => n.fromPod(good({ destination, destinationPort: 4789 })),
    ],
  ),
  [
    "podVxlan",
    "a pod that tells a node of flows",
    (n) => n.fromPod(good({ destination: WORKER01.tunnel, destinationPort: 4794 })),
  ],
  [
    "flowShare",
    "a pod of another node that tells of flows",
    (n) => n.fromWorker01(inbound({ destination: tunnel, destinationPort: 4794 })),
  ],
  [
    "podVxlan",
    "a first fragment of VXLAN",
    (n) => n.fromPod(good({ destination: WORKER01.underlay, destinationPort: 4789, fragment: 0x2000 })),
  ],
  ["vtepSource", "a pod of ours as source", (n) => n.fromWorker01(inbound({ source: otherPod }))],
  ["vtepSource", "a pod of another node as source", (n) => n.fromWorker01(inbound({ source: WORKER02.pod }))],
  [
    "vtepSource",
    "an address of the pool in no block",
    (n) => n.fromWorker01(inbound({ source: "10.1.1.1" })),
  ],
  ["vtepSource", "our tunnel address as source", (n) => n.fromWorker01(inbound({ source: tunnel }))],
  ["vtepSource", "our underlay address as source", (n) => n.fromWorker01(inbound({ source: underlay }))],
  [
    "vtepSource",
    "a node's underlay address as source",
    (n) => n.fromWorker01(inbound({ source: WORKER01.underlay })),
  ],
  ["vtepSource", "a link-local source", (n) => n.fromWorker01(inbound({ source: "169.254.1.1" }))],
  ...["127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.1", "240.0.0.1", "255.255.255.255"].flatMap(
    (source): Case[] => [
      ["martian", `source ${source} from a pod`, (n) => n.fromPod(good({ source }))],
      ["martian", `source ${source} from the tunnel`, (n) => n.fromWorker01(inbound({ source }))],
    ],
  ),
  ...["127.0.0.1", "0.0.0.0", "240.0.0.1", "255.255.255.255"].map(
    (destination): Case => ["martian", `destination ${destination}`, (n) => n.fromPod(good({ destination }))],
  ),
  [
    "multicast",
    "a group address in IPv4, unicast in Ethernet",
    (n) => n.fromPod(good({ destination: "224.0.0.251" })),
  ],
  [
    "multicast",
    "a group MAC",
    (n) =>
      n.fromTap(POD_PORT, ethernet("01:00:5e:00:00:fb", podMac, IPV4, good({ destination: "224.0.0.251" }))),
  ],
  [
    "multicast",
    "broadcast other than ARP from a pod",
    (n) => n.fromTap(POD_PORT, ethernet(BROADCAST, podMac, IPV4, good())),
  ],
  [
    "multicast",
    "broadcast other than ARP from the tunnel",
    (n) => n.fromUnderlay(WORKER01.underlay, vxlan(VNI, innerFrame(inbound(), BROADCAST))),
  ],
  ["noRoute", "a destination without route", (n) => n.fromPod(good({ destination: "203.0.113.1" }))],
  [
    "hostUnreachable",
    "an address of our block without pod",
    (n) => n.fromPod(good({ destination: "10.1.235.200" })),
  ],
  ["transit", "from one VTEP to another", (n) => n.fromWorker01(inbound({ destination: WORKER02.pod }))],
  ["transit", "from a VTEP back to it", (n) => n.fromWorker01(inbound({ destination: WORKER01.pod }))],
  ["transit", "from the node to itself", (n) => n.fromNode(good({ source: underlay, destination: tunnel }))],
  ["ttlExceeded", "TTL 1 from pod to pod", (n) => n.fromPod(good({ ttl: 1 }))],
  [
    "ttlExceeded",
    "TTL 0 from pod to remote pod",
    (n) => n.fromPod(good({ destination: WORKER01.pod, ttl: 0 })),
  ],
  ["ttlExceeded", "TTL 1 from the tunnel to a pod", (n) => n.fromWorker01(inbound({ ttl: 1 }))],
  [
    "fragmentationNeeded",
    "one byte over the MTU, with DF",
    (n) => n.fromPod(udpPacket({ source: pod, destination: WORKER01.pod }, counting(1423))),
  ],
  [
    "fragmentationNeeded",
    "TSO whose segments are one byte over the MTU, with DF",
    offload(large(), vnetPartial(TCP, 1411)),
  ],
  [
    "oversize",
    "over the MTU without DF, but with options",
    (n) =>
      n.fromPod(
        udpPacket(
          { source: pod, destination: WORKER01.pod, fragment: 0, options: hex("94040000") },
          counting(1419),
        ),
      ),
  ],
  [
    "oversize",
    "UDP GSO whose segments are over the MTU, without DF",
    offload(
      udpPacket(
        { source: pod, destination: WORKER01.pod, fragment: 0, l4Checksum: "partial" },
        counting(4000),
      ),
      vnetPartial(UDP, 1423),
    ),
  ],
  [
    "txBusy",
    "EAGAIN",
    (n) => {
      n.io.failures.set(TUNNEL_PORT, 11);
      return n.fromPod(good({ destination: WORKER01.pod }));
    },
  ],
  [
    "txBusy",
    "ENOBUFS",
    (n) => {
      n.io.failures.set(POD_PORT, 105);
      return n.fromWorker01(inbound());
    },
  ],
  [
    "txFailed",
    "EINVAL",
    (n) => {
      n.io.failures.set(TUNNEL_PORT, 22);
      return n.fromPod(good({ destination: WORKER01.pod }));
    },
  ],
  ...[
    ["EIO", 5],
    ["ENODEV", 19],
    ["EBADFD", 77],
  ].map(
    ([name, errno]): Case => [
      "portDown",
      `${name} from a TAP`,
      (n) => {
        n.io.failures.set(POD_PORT, errno as number);
        return n.fromWorker01(inbound());
      },
    ],
  ),
  [
    "portDown",
    "a frame of a TAP that the tables no longer have",
    (n) => n.fromTap(GSO_PORT, ethernet(GATEWAY, podMac, IPV4, good())),
  ],
  [
    "portDown",
    "to a TAP that is detached",
    (n) => {
      n.io.removePort(NODE_PORT);
      return n.fromPod(good({ destination: tunnel }));
    },
  ],
  [
    "internalError",
    "a stage that throws",
    (n) => {
      Object.defineProperty(n.breather.dataplane.tables, "routes", {
        get: () => {
          throw new Error("poisoned");
        },
      });
      return n.fromPod(good());
    },
  ],
  [
    "noServicePort",
    "a Service's address",
    (n) => knowing(n, service([REMOTE])).fromPod(opens({ destinationPort: 81 })),
  ],
  [
    "unallocatedClusterIp",
    "a cluster IP of no Service",
    (n) => knowing(n, service([REMOTE])).fromPod(opens({ destination: "10.152.183.254" })),
  ],
  ["unallocatedClusterIp", "without any Service", (n) => n.fromNode(opens({ destination: "10.152.183.1" }))],
  ["noServicePort", "a ping to a Service", (n) => knowing(n, service([REMOTE])).fromPod(ping(VIP))],
  ["noEndpoint", "a Service without endpoints", (n) => knowing(n, service("reject")).fromPod(opens())],
  ["noLocalEndpoint", "none here under policy Local", (n) => knowing(n, service("drop")).fromPod(opens())],
  [
    "clusterIpFromOutside",
    "from the LAN",
    (n) => knowing(n, service([REMOTE])).fromNode(opens({ source: PC })),
  ],
  [
    "sourceRange",
    "a source that is not let in",
    (n) => knowing(n, service([REMOTE], TCP, { ranges: [["203.0.113.0", -256]] })).fromPod(opens()),
  ],
  ["noFlow", "a reset to a Service", (n) => knowing(n, service([REMOTE])).fromPod(opens({ flags: RST }))],
  [
    "noFlow",
    "a segment in mid-stream to the outside",
    (n) => n.fromPod(opens({ destination: "203.0.113.1", flags: ACK })),
    { egress: true },
  ],
  [
    "tupleTaken",
    "another tag, and no port to change",
    (n) => {
      const gre = ipv4({ source: PC, destination: pod, protocol: 47 }, DATA);
      n.fromUnderlay(WORKER01.underlay, onBehalf(gre, "01")).run();
      return n.fromUnderlay(WORKER01.underlay, onBehalf(gre, "02"));
    },
  ],
  [
    "conntrackFull",
    "established connections only",
    (n) => {
      knowing(n, service([REMOTE]));
      for (const sourcePort of [1001, 1002]) {
        n.fromPod(opens({ sourcePort })).run();
        const back = {
          source: WORKER01.pod,
          destination: pod,
          sourcePort: 8080,
          destinationPort: sourcePort,
        };
        const reply = { ...back, flags: SYN | ACK, sequence: 500, acknowledgement: 1001 };
        n.fromWorker01(tcpPacket(reply, new Uint8Array(0))).run();
        n.fromPod(opens({ sourcePort, flags: ACK, sequence: 1001, acknowledgement: 501 })).run();
      }
      return n.fromPod(opens({ sourcePort: 1003 }));
    },
    { maxFlows: 2 },
  ],
  [
    "egressProtocol",
    "GRE to the outside",
    (n) => n.fromPod(ipv4({ source: pod, destination: "203.0.113.1", protocol: 47 }, DATA)),
    { egress: true },
  ],
  [
    "egressPorts",
    "all ports towards a destination in use",
    (n) => {
      const { first, last } = tableInput().egressPorts;
      const ports = last - first + 1;
      for (let sourcePort = 1024; sourcePort < 1024 + ports; sourcePort++)
        n.fromPod(opens({ destination: "203.0.113.1", sourcePort })).run();
      return n.fromPod(opens({ destination: "203.0.113.1", sourcePort: 1023 }));
    },
    { egress: true, maxFlows: 8192 },
  ],
  [
    "ingressGone",
    "a reply to a client of a node that is gone",
    (n) => {
      n.fromUnderlay(WORKER01.underlay, onBehalf(opens({ source: PC, destination: pod }), "01")).run();
      n.breather.dataplane.tables = new Tables(buildTableImage(tableInput({ peers: [WORKER02] })));
      return n.fromPod(opens({ destination: PC, sourcePort: 80, destinationPort: 40_000, flags: SYN | ACK }));
    },
  ],
  [
    "untranslatable",
    "the first fragment of an SCTP packet",
    (n) => {
      const sctp = concat(
        hex("9c400050 00000000 00000000"),
        hex("01000014 00000001 00001000 00010001 00000000"),
      );
      const first = ipv4({ source: pod, destination: VIP, protocol: 132, fragment: 0x2000 }, sctp);
      return knowing(n, service([REMOTE], 132)).fromPod(first);
    },
  ],
  [
    "notOurs",
    "an answer to the node's own ping, heard",
    (n) =>
      n.heard(icmpPacket({ source: "203.0.113.1", destination: underlay, type: 0, rest: 7 << 16 }, DATA)),
    { egress: true },
  ],
  [
    "fragmentOrphan",
    "a later fragment of a first one that was refused",
    (n) => {
      const packet = { source: pod, destination: VIP, destinationPort: 81 };
      knowing(n, service([REMOTE], UDP))
        .fromPod(udpPacket({ ...packet, fragment: 0x2000 }, DATA))
        .run();
      n.outcome();
      return n.fromPod(ipv4({ ...packet, fragment: 0x0010 }, DATA));
    },
  ],
];

describe("drops", () => {
  it.each(CASES)("%s: %s", (reason, _, arrives, options) => {
    const node = new TestNode(options);
    arrives(node);
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ [reason]: 1 });
    expect(outcome.received).toBe(1);
    expect(node.faults).toHaveLength(reason === "internalError" ? 1 : 0);
  });

  it("every reason has a case", () => {
    const covered = new Set(CASES.map(([reason]) => reason));
    expect(DROP_REASON_NAMES.filter((name) => !covered.has(name))).toEqual([]);
  });

  it("UDP to a VTEP on another port is no VXLAN", () => {
    // There is no route to the LAN in these tables: the address is judged, not forwarded.
    const node = new TestNode().fromPod(good({ destination: WORKER02.tunnel, destinationPort: 4790 }));
    expect(verdictOf(node.run())).toEqual({ forwarded: 1 });
  });

  it("TCP to port 4789 of a VTEP is no VXLAN", () => {
    const node = new TestNode().fromPod(goodTcp({ destination: WORKER02.tunnel, destinationPort: 4789 }));
    expect(verdictOf(node.run())).toEqual({ forwarded: 1 });
  });

  it("UDP to port 4789 of a remote pod is the pod's own business", () => {
    const node = new TestNode().fromPod(good({ destination: WORKER01.pod, destinationPort: 4789 }));
    expect(verdictOf(node.run())).toEqual({ forwarded: 1 });
  });

  it("a bad frame in a train costs only itself", () => {
    const packets = [inbound(), inbound({ ttl: 1 }), inbound({ checksum: 1 }), inbound()];
    const outcome = new TestNode().trainFromWorker01(packets).run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 2, ttlExceeded: 1, ipv4Checksum: 1 });
  });

  it("drops alternate with frames of another sender: the VTEP of one is not remembered for the next", () => {
    const node = new TestNode();
    for (const source of ["192.168.2.99", WORKER01.underlay, "192.168.2.99", WORKER02.underlay]) {
      node.fromUnderlay(source, fromVtep(WORKER01, inbound()));
    }
    // From worker02 the source is behind the wrong VTEP.
    expect(verdictOf(node.run())).toEqual({ unknownVtep: 2, forwarded: 1, vtepSource: 1 });
  });

  it("exactly as many segments as are sensible are made", () => {
    const packet = tcpPacket(
      { source: pod, destination: WORKER01.pod, l4Checksum: "partial" },
      counting(1366),
    );
    const outcome = new TestNode().fromPod(packet, vnetPartial(TCP, 1)).run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 1 });
  });
});
