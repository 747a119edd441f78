/**
 * Program: pushes packets of every kind through Breather and prints, as JSON, by how much the heap
 * grew and how often it was collected. Run with --expose-gc and a small young generation, so that
 * garbage cannot hide.
 *
 *   node --expose-gc --max-semi-space-size=1 heapGrowth.js [packets]
 */
import { PerformanceObserver } from "node:perf_hooks";
import { setImmediate } from "node:timers/promises";
import { Arena } from "../../src/packet/Arena.js";
import {
  COUNT_FRAGMENTS,
  COUNT_ICMP_ERRORS,
  COUNT_MERGED,
  COUNT_RECEIVED,
  COUNT_SEGMENTS,
  COUNT_TUNNEL_GSO,
  COUNTERS,
} from "../../src/packet/counters.js";
import { ARENA, PORT_TAP, PORT_UDP } from "../../src/packet/layout.js";
import { FlowTable, newFlowTable } from "../../src/tables/FlowTable.js";
import { buildTableImage, Tables } from "../../src/tables/TableImage.js";
import { Breather } from "../../src/worker/Breather.js";
import {
  fromVtep,
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
  NO_MAC,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
  vnet,
  vnetPartial,
  vxlan,
} from "./frames.js";
import { NullIo, type Template } from "./NullIo.js";

const { pod, otherPod, podMac, tunnel, vtepMac } = MASTER;

function tap(port: number, packet: Uint8Array, header = vnet()): Template {
  const mac = port === NODE_PORT ? vtepMac : podMac;
  const bytes = concat(header, ethernet(GATEWAY, mac, IPV4, packet));
  return { port, kind: PORT_TAP, bytes, segment: 0, peer: 0 };
}

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
  return list;
}

const TOTAL = 2 ** 33;

/** A breather and the kinds of work that it must show to have done. */
function setUp(options: { gso: boolean; uso: boolean }) {
  const arena = new Arena(new ArrayBuffer(ARENA.bytes));
  // As after a long time: numbers that are no small integers.
  const counters = new Float64Array(COUNTERS).fill(TOTAL);
  const tables = new Tables(buildTableImage(tableInput(options)));
  const reports = {
    portFailed: () => {},
    fault: (error: unknown) => {
      throw error;
    },
  };
  const breather = new Breather(
    arena,
    new NullIo(arena, templates()),
    counters,
    tables,
    new FlowTable(newFlowTable(4096)),
    reports,
  );
  return { breather, counters };
}

const breathers = [
  setUp({ gso: false, uso: true }),
  setUp({ gso: true, uso: true }),
  setUp({ gso: false, uso: false }),
];

function received(): number {
  let sum = 0;
  for (let n = 0; n < breathers.length; n++) sum += breathers[n].counters[COUNT_RECEIVED];
  return sum;
}

function push(packets: number): void {
  const end = received() + packets;
  while (received() < end) {
    for (let n = 0; n < breathers.length; n++) breathers[n].breather.breathe(0, 0);
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
// The compiler allocates while it still learns.
push(packets / 2);
const runs = [];
for (let n = 0; n < 3; n++) runs.push(await measure(packets));
const [first, second, third] = breathers.map((b) => b.counters.map((count) => count - TOTAL));
const done = {
  segments: first[COUNT_SEGMENTS],
  merged: first[COUNT_MERGED],
  tunnelGso: second[COUNT_TUNNEL_GSO],
  segmentsToTaps: third[COUNT_SEGMENTS] - first[COUNT_SEGMENTS],
  fragments: first[COUNT_FRAGMENTS],
  icmpErrors: first[COUNT_ICMP_ERRORS],
};
console.log(JSON.stringify({ runs, done }));
