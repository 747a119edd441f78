/**
 * Program: pushes packets of every kind through Breather and prints, as JSON, by how much the heap
 * grew and how often it was collected. Run with --expose-gc and a small young generation, so that
 * garbage cannot hide.
 *
 *   node --expose-gc --max-semi-space-size=1 heapGrowth.js [packets]
 */
import { PerformanceObserver } from "node:perf_hooks";
import { setImmediate } from "node:timers/promises";
import { newCaptureBuffer, RingWriter } from "../../src/capture/CaptureRing.js";
import { compileFilter } from "../../src/capture/filter.js";
import {
  COUNT_LOST,
  COUNT_MATCHED,
  COUNT_SEEN,
  INTERFACES,
  POINTS,
  WORD_HEAD,
  WORD_TAIL,
} from "../../src/capture/layout.js";
import { PacketCapture } from "../../src/capture/PacketCapture.js";
import { Arena } from "../../src/packet/Arena.js";
import {
  COUNT_BFD_SENT,
  COUNT_BREATHS,
  COUNT_DROPS,
  COUNT_FRAGMENTS,
  COUNT_ICMP_ERRORS,
  COUNT_MERGED,
  COUNT_RECEIVED,
  COUNT_RESETS,
  COUNT_SEGMENTS,
  COUNT_TUNNEL_GSO,
  COUNTERS,
} from "../../src/packet/counters.js";
import { DropReason } from "../../src/packet/DropReason.js";
import { ARENA, PORT_BFD, PORT_LINK, PORT_TAP, PORT_UDP } from "../../src/packet/layout.js";
import { FlowTable, newFlowTable } from "../../src/tables/FlowTable.js";
import {
  FLAG_DNAT,
  FLAG_EGRESS,
  FLOW_FLAGS,
  FLOW_STATE,
  FlowCounter,
  HEADER_USED,
  STATE_FREE,
} from "../../src/tables/flowLayout.js";
import { buildTableImage, Tables } from "../../src/tables/TableImage.js";
import { THIS_NODE } from "../../src/tables/VipTable.js";
import { Announcement } from "../../src/worker/Announcement.js";
import { Breather } from "../../src/worker/Breather.js";
import { PeerLiveness } from "../../src/worker/PeerLiveness.js";
import {
  BFD_RECEIVE_PORT,
  fromVtep,
  LAN_PORT,
  MASTER,
  NODE_PORT,
  OTHER_POD_PORT,
  POD_PORT,
  TUNNEL_PORT,
  tableInput,
  VNI,
  WORKER01,
  WORKER02,
} from "./dataplane.js";
import {
  ARP,
  address,
  arp,
  BROADCAST,
  concat,
  counting,
  ethernet,
  GATEWAY,
  IPV4,
  icmpPacket,
  ipv4,
  NO_MAC,
  SYN,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
  vnet,
  vnetPartial,
  vxlan,
} from "./frames.js";
import { NullIo, type Template } from "./NullIo.js";
import { serviceImage, type TestBackend } from "./services.js";

const { pod, otherPod, podMac, tunnel, vtepMac } = MASTER;

function tap(port: number, packet: Uint8Array, header = vnet()): Template {
  const mac = port === NODE_PORT ? vtepMac : podMac;
  const bytes = concat(header, ethernet(GATEWAY, mac, IPV4, packet));
  return { port, kind: PORT_TAP, bytes, segment: 0, peer: 0 };
}

const CLUSTER_IP = "10.152.183.7";
const EMPTY_IP = "10.152.183.8";
const OUTSIDE = "203.0.113.9";
const PC = "192.168.2.99";
const VIP = "192.168.2.36";
/** Source port of a frame of a TAP: behind the virtio-net, Ethernet and IPv4 headers. */
const SOURCE_PORT = 10 + 14 + 20;

function underlay(peer: string, bytes: Uint8Array, segment = bytes.length): Template {
  return { port: TUNNEL_PORT, kind: PORT_UDP, bytes, segment, peer: address(peer) };
}

/** What arrives in each breath: every way through the dataplane, the common ones often. */
function templates(): Template[] {
  const out = { source: pod, destination: WORKER01.pod };
  const inward = { source: WORKER01.pod, destination: pod };
  const partial = { l4Checksum: "partial" } as const;
  const list: Template[] = [];
  for (let n = 0; n < 64; n++) {
    list.push(
      tap(POD_PORT, udpPacket({ ...out, sourcePort: n, ...partial }, counting(64)), vnetPartial(UDP)),
    );
  }
  for (let n = 0; n < 3; n++) {
    list.push(
      tap(POD_PORT, tcpPacket({ ...out, sequence: n, ...partial }, counting(9000)), vnetPartial(TCP, 1410)),
    );
  }
  list.push(tap(POD_PORT, udpPacket({ ...out, ...partial }, counting(4000)), vnetPartial(UDP, 500)));
  list.push(
    tap(
      POD_PORT,
      udpPacket({ source: pod, destination: otherPod, ...partial }, counting(900)),
      vnetPartial(UDP, 300),
    ),
  );
  list.push(tap(OTHER_POD_PORT, tcpPacket({ source: otherPod, destination: pod }, counting(100))));
  list.push(tap(NODE_PORT, udpPacket({ source: tunnel, destination: WORKER02.pod }, counting(100))));
  list.push(tap(POD_PORT, udpPacket({ ...out, fragment: 0 }, counting(3000))));
  list.push(tap(POD_PORT, udpPacket({ ...out, destination: "203.0.113.1" }, counting(100))));
  list.push(tap(POD_PORT, udpPacket({ ...out, ttl: 1 }, counting(100))));
  list.push(tap(POD_PORT, udpPacket({ ...out, source: otherPod }, counting(100))));
  const asks = (senderMac: string, sender: string, target: string) =>
    ethernet(BROADCAST, senderMac, ARP, arp({ operation: 1, senderMac, sender, targetMac: NO_MAC, target }));
  list.push({ ...list[0], bytes: concat(vnet(), asks(podMac, pod, "169.254.1.1")) });
  list.push(underlay(WORKER01.underlay, vxlan(VNI, asks(WORKER01.vtepMac, WORKER01.tunnel, tunnel))));
  for (let train = 0; train < 4; train++) {
    const frames: Uint8Array[] = [];
    for (let n = 0; n < 64; n++) {
      const packet =
        train % 2 === 0
          ? tcpPacket({ ...inward, sourcePort: train, sequence: n * 200 }, counting(200))
          : udpPacket({ ...inward, sourcePort: n % 4 }, counting(200));
      frames.push(fromVtep(WORKER01, packet));
    }
    list.push(underlay(WORKER01.underlay, concat(...frames), frames[0].length));
  }
  list.push(
    underlay(WORKER01.underlay, fromVtep(WORKER01, tcpPacket({ ...inward, ...partial }, counting(8000)))),
  );
  list.push(
    underlay(
      WORKER01.underlay,
      fromVtep(WORKER01, udpPacket({ ...inward, ...partial }, counting(2500))),
      1000,
    ),
  );
  list.push(underlay("192.0.2.1", counting(100)));
  list.push(...flowTemplates());
  return list;
}

/** Translated traffic, new flows, refusals, fragments and egress. */
function flowTemplates(): Template[] {
  const list: Template[] = [];
  const partial = { l4Checksum: "partial" } as const;
  const opens = { flags: SYN, acknowledgement: 0 };
  const none = new Uint8Array(0);
  const asks = { source: pod, destination: CLUSTER_IP, destinationPort: 80 };
  const answers = { source: WORKER01.pod, destination: pod, sourcePort: 8080 };
  // One connection, and one stream of datagrams, that last: out, back, in trains and GSO frames.
  list.push(tap(POD_PORT, tcpPacket({ ...asks, ...opens }, none)));
  list.push(
    tap(POD_PORT, tcpPacket({ ...asks, ...partial, sequence: 1001 }, counting(9000)), vnetPartial(TCP, 1398)),
  );
  list.push(tap(POD_PORT, udpPacket({ ...asks, ...partial }, counting(4000)), vnetPartial(UDP, 500)));
  const train = Array.from({ length: 20 }, (_, n) =>
    fromVtep(WORKER01, tcpPacket({ ...answers, destinationPort: 40_000, sequence: n * 300 }, counting(300))),
  );
  list.push(underlay(WORKER01.underlay, concat(...train), train[0].length));
  list.push(
    underlay(
      WORKER01.underlay,
      fromVtep(WORKER01, udpPacket({ ...answers, destinationPort: 40_000 }, counting(90))),
    ),
  );
  const cause = udpPacket({ source: pod, destination: WORKER01.pod, destinationPort: 8080 }, counting(40));
  const error = icmpPacket({ source: WORKER01.pod, destination: pod, type: 3, code: 3 }, cause);
  list.push(underlay(WORKER01.underlay, fromVtep(WORKER01, error)));
  // In every breath the first packet of another flow: to a Service, from outside, to the outside.
  const fresh = (port: number, packet: Uint8Array) =>
    list.push({ ...tap(port, packet), counts: SOURCE_PORT });
  fresh(POD_PORT, tcpPacket({ ...asks, ...opens }, none));
  fresh(POD_PORT, udpPacket({ ...asks, sourcePort: 1000, l4Checksum: 0 }, counting(30)));
  fresh(
    NODE_PORT,
    tcpPacket({ source: PC, destination: MASTER.underlay, destinationPort: 30080, ...opens }, none),
  );
  fresh(POD_PORT, tcpPacket({ source: pod, destination: OUTSIDE, destinationPort: 443, ...opens }, none));
  fresh(
    POD_PORT,
    udpPacket({ source: pod, destination: OUTSIDE, destinationPort: 53, l4Checksum: 0 }, counting(30)),
  );
  // Refused: with a reset, with an ICMP error, silently.
  list.push(tap(POD_PORT, tcpPacket({ ...asks, destination: EMPTY_IP, ...opens }, none)));
  list.push(tap(POD_PORT, udpPacket({ ...asks, destination: EMPTY_IP }, counting(30))));
  list.push(tap(POD_PORT, tcpPacket({ source: pod, destination: OUTSIDE }, counting(30))));
  list.push(tap(NODE_PORT, tcpPacket({ source: PC, destination: CLUSTER_IP, ...opens }, none)));
  // A datagram in two fragments.
  const whole = udpPacket({ ...asks, sourcePort: 7 }, counting(1000)).subarray(20);
  const part = { source: pod, destination: CLUSTER_IP, protocol: UDP, id: 5 };
  list.push(tap(POD_PORT, ipv4({ ...part, fragment: 0x2000 }, whole.subarray(0, 504))));
  list.push(tap(POD_PORT, ipv4({ ...part, fragment: 504 / 8 }, whole.subarray(504))));
  return list;
}

/** ClusterIPs and a NodePort for TCP and UDP. */
function services() {
  const remote: TestBackend = { address: WORKER01.pod, l4Port: 8080 };
  return serviceImage(
    [TCP, UDP].flatMap((protocol) => [
      { kind: "clusterIp", address: CLUSTER_IP, protocol, l4Port: 80, inside: [remote] } as const,
      { kind: "clusterIp", address: EMPTY_IP, protocol, l4Port: 80, inside: "reject" } as const,
      { kind: "nodePort", protocol, l4Port: 30080, inside: [remote] } as const,
    ]),
  );
}

/** Announcement as a thread has it: BFD asks for peers that do not answer, an address is announced. */
function announcing(breather: Breather, tables: Tables): Announcement {
  const reports = { ownerChanged: () => {}, conflict: () => {}, sessionChanged: () => {} };
  const announcement = new Announcement(breather.dataplane, reports, 1, new PeerLiveness());
  announcement.attach(LAN_PORT, PORT_LINK);
  announcement.attach(BFD_RECEIVE_PORT, PORT_BFD);
  announcement.adopt(tables);
  announcement.ownership.setCarrier(true, breather.dataplane.nowUs);
  return announcement;
}

/** Rings of captures, each with a reader that has seen everything at once. */
const rings: Int32Array[] = [];

/** A capture at all points whose filter has to look at every packet. */
function capturing(breather: Breather): RingWriter {
  const ring = new RingWriter(newCaptureBuffer(1 << 22));
  const points = Object.values(POINTS).reduce((all, point) => all | point, 0);
  const filter = compileFilter("not (host 192.0.2.77 or tcp dst port 9999) and (ip or arp)");
  breather.dataplane.tap = new PacketCapture(ring, { points, snapLength: 200, filter, innerPort: -1 });
  rings.push(ring.words);
  return ring;
}

/** Packets of a kind, of all interfaces. */
function captured({ counts }: RingWriter, kind: number): number {
  return counts.subarray(kind, kind + INTERFACES).reduce((sum, count) => sum + count, 0);
}

const TOTAL = 2 ** 33;
/** Records that ageing looks at after each breath. */
const AGE_BUDGET = 64;

/** A breather and the kinds of work that it must show to have done. */
function setUp(options: { gso: boolean; uso: boolean; announces?: true }): {
  breather: Breather;
  counters: Float64Array;
  flows: FlowTable;
} {
  const arena = new Arena(new ArrayBuffer(ARENA.bytes));
  // As after a long time: numbers that are no small integers.
  const counters = new Float64Array(COUNTERS).fill(TOTAL);
  const tables = new Tables(
    buildTableImage(tableInput({ ...options, egress: true, announce: { [VIP]: [THIS_NODE] } })),
  );
  const reports = {
    portFailed: () => {},
    fault: (error: unknown) => {
      throw error;
    },
  };
  const flows = new FlowTable(newFlowTable(4096));
  const breather = new Breather(arena, new NullIo(arena, templates()), counters, tables, flows, reports);
  if (options.announces === true) breather.announcement = announcing(breather, tables);
  breather.dataplane.services.adopt(services());
  return { breather, counters, flows };
}

const breathers = [
  setUp({ gso: false, uso: true, announces: true }),
  setUp({ gso: true, uso: true }),
  setUp({ gso: false, uso: false }),
  setUp({ gso: true, uso: true }),
];
const capture = capturing(breathers[3].breather);

/** Frames received by all. A double that a function returns may be boxed: it is left here. */
const received = new Float64Array(1);

function push(packets: number): void {
  const end = received[0] + packets;
  while (received[0] < end) {
    for (let n = 0; n < breathers.length; n++) {
      const { breather, counters, flows } = breathers[n];
      received[0] -= counters[COUNT_RECEIVED];
      breather.breathe(0, 0);
      received[0] += counters[COUNT_RECEIVED];
      flows.age(breather.dataplane.nowMs, AGE_BUDGET);
    }
    for (let n = 0; n < rings.length; n++) rings[n][WORD_TAIL] = rings[n][WORD_HEAD];
  }
}

let collections = 0;
new PerformanceObserver((list) => {
  collections += list.getEntries().length;
}).observe({ entryTypes: ["gc"] });

/** One measurement over `packets`, behind a collection and the work that follows it. */
async function measure(packets: number) {
  globalThis.gc!();
  push(packets / 4);
  await settled();
  collections = 0;
  const before = process.memoryUsage().heapUsed;
  push(packets);
  const grown = process.memoryUsage().heapUsed - before;
  await settled();
  return { packets, grown, collections };
}

/** Reports of the collector arrive by the event loop. */
async function settled(): Promise<void> {
  for (let n = 0; n < 3; n++) await setImmediate();
}

const packets = Number(process.argv[2] ?? 2_000_000);
// The compiler allocates while it still learns, and some ways are taken once a breath.
push(2 * packets);
const runs = [];
/** On a busy machine the compiler is at work for longer; what grows with packets does so every time. */
const MOST_RUNS = 8;
const isStill = (run: { grown: number; collections: number } | undefined) =>
  run !== undefined && run.collections === 0 && run.grown < packets / 100;
while (runs.length < MOST_RUNS && !isStill(runs.at(-1))) runs.push(await measure(packets));

/** Flows of the first breather with a flag. */
function flowsWith(flag: number): number {
  const { words } = breathers[0].flows;
  let found = 0;
  for (let record = 0; record < words[HEADER_USED]; record++) {
    const base = breathers[0].flows.base(record);
    if (words[base + FLOW_STATE] !== STATE_FREE && (words[base + FLOW_FLAGS] & flag) !== 0) found++;
  }
  return found;
}

const [first, second, third] = breathers.map((b) => b.counters.map((count) => count - TOTAL));
const done = {
  segments: first[COUNT_SEGMENTS],
  merged: first[COUNT_MERGED],
  tunnelGso: second[COUNT_TUNNEL_GSO],
  segmentsToTaps: third[COUNT_SEGMENTS] - first[COUNT_SEGMENTS],
  fragments: first[COUNT_FRAGMENTS],
  icmpErrors: first[COUNT_ICMP_ERRORS],
  resets: first[COUNT_RESETS],
  newFlows: breathers[0].flows.counter(FlowCounter.inserted),
  evictedFlows: breathers[0].flows.counter(FlowCounter.evictedUnreplied),
  translatedFlows: flowsWith(FLAG_DNAT),
  egressFlows: flowsWith(FLAG_EGRESS),
  noEndpoint: first[COUNT_DROPS + DropReason.noEndpoint],
  noFlow: first[COUNT_DROPS + DropReason.noFlow],
  clusterIpFromOutside: first[COUNT_DROPS + DropReason.clusterIpFromOutside],
  laterFragments: first[COUNT_BREATHS] - first[COUNT_DROPS + DropReason.fragmentOrphan],
};
// Once a second to each peer that does not answer.
const bfdSent = breathers[0].counters[COUNT_BFD_SENT];
const captures = {
  seen: captured(capture, COUNT_SEEN),
  matched: captured(capture, COUNT_MATCHED),
  lost: captured(capture, COUNT_LOST),
};
console.log(JSON.stringify({ runs, done, bfdSent, captures }));
