/** Traffic by VTEP and by Service, held against what is seen on the wire. */
import { describe, expect, it } from "vitest";
import * as counters from "../../../src/packet/counters.js";
import { serviceTraffic, TRAFFIC_WORDS } from "../../../src/packet/counters.js";
import * as serviceTable from "../../../src/tables/ServiceTable.js";
import {
  MASTER,
  type NodeOptions,
  OTHER_POD_PORT,
  TestNode,
  TUNNEL_PORT,
  WORKER01,
  WORKER02,
} from "../../support/dataplane.js";
import { fragmentsOf } from "../../support/fragments.js";
import {
  ACK,
  counting,
  SYN,
  TCP,
  tcpPacket,
  UDP,
  udpPacket,
  vnetPartial,
  vxlan,
} from "../../support/frames.js";
import { Random } from "../../support/random.js";
import { serviceImage } from "../../support/services.js";

const { pod, otherPod } = MASTER;
const VIP = "10.152.183.7";
const ETHERNET = 14;
const VXLAN = 8;

type Counts = { packets: number; bytes: number };

/** Both directions of what counts from `at` on. */
function countsAt(node: TestNode, at: number): [Counts, Counts] {
  const [a, b, c, d] = node.breather.dataplane.traffic.subarray(at, at + TRAFFIC_WORDS);
  return [
    { packets: a, bytes: b },
    { packets: c, bytes: d },
  ];
}
const vtep = (node: TestNode, index: number) => countsAt(node, index * TRAFFIC_WORDS);
const service = (node: TestNode, id: number) => countsAt(node, serviceTraffic(id));
const NONE = { packets: 0, bytes: 0 };

/** Datagrams that were sent to each VTEP, and the bytes of their frames. */
function onTheWire(sent: ReturnType<TestNode["run"]>["sent"]): Counts[] {
  const counts = [WORKER01, WORKER02].map(() => ({ packets: 0, bytes: 0 }));
  for (const { port, peer, gso, bytes } of sent) {
    if (port !== TUNNEL_PORT) continue;
    const datagrams = gso === 0 ? 1 : Math.ceil(bytes.length / gso);
    counts[peer].packets += datagrams;
    counts[peer].bytes += bytes.length - datagrams * VXLAN;
  }
  return counts;
}

function withServices(options: NodeOptions = {}): TestNode {
  const node = new TestNode(options);
  node.breather.dataplane.services.adopt(
    serviceImage([
      { kind: "clusterIp", address: "10.152.183.6", protocol: UDP, l4Port: 53, inside: "reject" },
      {
        kind: "clusterIp",
        address: VIP,
        protocol: UDP,
        l4Port: 53,
        inside: [{ address: WORKER01.pod, l4Port: 5353 }],
      },
      {
        kind: "clusterIp",
        address: VIP,
        protocol: TCP,
        l4Port: 80,
        inside: [{ address: WORKER02.pod, l4Port: 8080 }],
      },
    ]),
  );
  return node;
}

describe("VTEPs", () => {
  it("each direction by itself; pods of this node concern none", () => {
    const node = new TestNode();
    const small = (destination: string, size: number) =>
      udpPacket({ source: pod, destination }, counting(size));
    node.fromPod(small(WORKER01.pod, 10)).fromPod(small(WORKER02.pod, 20)).fromPod(small(WORKER01.pod, 30));
    node.fromPod(small(otherPod, 40));
    node.fromWorker01(udpPacket({ source: WORKER01.pod, destination: pod }, counting(50)));
    node.run();
    const frame = (size: number) => ETHERNET + 28 + size;
    expect(vtep(node, 0)).toEqual([
      { packets: 1, bytes: frame(50) },
      { packets: 2, bytes: frame(10) + frame(30) },
    ]);
    expect(vtep(node, 1)).toEqual([NONE, { packets: 1, bytes: frame(20) }]);
  });

  it("what is received counts though it is dropped behind decap, what decap refuses does not", () => {
    const node = new TestNode();
    node.fromWorker01(udpPacket({ source: WORKER02.pod, destination: pod }, counting(9)));
    node.fromUnderlay(WORKER01.underlay, vxlan(77, counting(60)));
    expect(node.run().dropped).toEqual({ vtepSource: 1, wrongVni: 1 });
    expect(vtep(node, 0)).toEqual([{ packets: 1, bytes: ETHERNET + 28 + 9 }, NONE]);
  });

  it("a train is as many packets as its datagrams one by one, the short last one included", () => {
    const part = (n: number, size = 100) =>
      tcpPacket({ source: WORKER01.pod, destination: pod, sequence: 5000 + n * 100, id: n }, counting(size));
    const packets = [part(0), part(1), part(2), part(3, 60)];
    const train = new TestNode();
    train.trainFromWorker01(packets).run();
    const single = new TestNode();
    for (const packet of packets) single.fromWorker01(packet);
    single.run();
    expect(vtep(train, 0)).toEqual(vtep(single, 0));
    expect(vtep(train, 0)[0].packets).toBe(4);
  });

  it("equals what is on the wire, and what the other end counts, for any mixture of frames", () => {
    const random = new Random(6081);
    for (let round = 0; round < 60; round++) {
      const node = new TestNode();
      const frames = 1 + random.below(40);
      for (let n = 0; n < frames; n++) {
        const { pod: destination } = random.pick([WORKER01, WORKER02]);
        const flow = { source: pod, destination, sourcePort: 1 + random.below(3) };
        const mss = 500 + random.below(900);
        const partial = { ...flow, l4Checksum: "partial" } as const;
        switch (random.below(4)) {
          case 0:
            node.fromPod(udpPacket(flow, counting(random.below(1400))));
            break;
          case 1:
            node.fromPod(tcpPacket({ ...flow, flags: ACK }, counting(random.below(1400))));
            break;
          case 2:
            node.fromPod(tcpPacket(partial, counting(mss + 1 + random.below(40_000))), vnetPartial(TCP, mss));
            break;
          default:
            node.fromPod(udpPacket(partial, counting(mss + 1 + random.below(20_000))), vnetPartial(UDP, mss));
        }
      }
      const { sent, dropped } = node.run();
      expect(dropped).toEqual({});
      const seen = onTheWire(sent);
      expect([vtep(node, 0)[1], vtep(node, 1)[1]]).toEqual(seen);
      const other = new TestNode({ self: WORKER01, peers: [MASTER] });
      for (const { port, peer, gso, bytes } of sent) {
        if (port === TUNNEL_PORT && peer === 0) other.fromUnderlay(MASTER.underlay, bytes, gso || undefined);
      }
      other.run();
      expect(vtep(other, 0)[0]).toEqual(seen[0]);
    }
  });
});

describe("Services", () => {
  it("requests and replies of each, and no others", () => {
    const node = withServices();
    const ask = (size: number) =>
      udpPacket({ source: pod, destination: VIP, sourcePort: 4000, destinationPort: 53 }, counting(size));
    const answer = (size: number) =>
      udpPacket(
        { source: WORKER01.pod, destination: pod, sourcePort: 5353, destinationPort: 4000 },
        counting(size),
      );
    node.fromPod(ask(10)).fromPod(ask(20)).run();
    node.fromWorker01(answer(30)).fromWorker01(answer(40)).fromWorker01(answer(50)).run();
    node.fromPod(udpPacket({ source: pod, destination: WORKER01.pod }, counting(60))).run();
    const frame = ETHERNET + 28;
    expect(service(node, 2)).toEqual([
      { packets: 2, bytes: 2 * frame + 30 },
      { packets: 3, bytes: 3 * frame + 120 },
    ]);
    expect([service(node, 1), service(node, 3)]).toEqual([
      [NONE, NONE],
      [NONE, NONE],
    ]);
  });

  it("a GSO frame counts as its segments", () => {
    const node = withServices();
    const flow = { source: pod, destination: VIP, sourcePort: 4000, destinationPort: 80 };
    node.fromPod(tcpPacket({ ...flow, flags: SYN, acknowledgement: 0, sequence: 99 }, new Uint8Array(0)));
    node.run();
    const [opening] = service(node, 3);
    expect(opening).toEqual({ packets: 1, bytes: ETHERNET + 40 });
    const data = tcpPacket({ ...flow, sequence: 100, l4Checksum: "partial" }, counting(3500));
    node.fromPod(data, vnetPartial(TCP, 1000)).run();
    expect(service(node, 3)[0]).toEqual({
      packets: 1 + 4,
      bytes: opening.bytes + 4 * (ETHERNET + 40) + 3500,
    });
  });

  it("what is refused is nobody's", () => {
    const node = withServices();
    const flow = { source: pod, destination: "10.152.183.6", destinationPort: 53 };
    expect(node.fromPod(udpPacket(flow, counting(10))).run().dropped).toEqual({ noEndpoint: 1 });
    expect(service(node, 1)).toEqual([NONE, NONE]);
  });

  it("flows of no Service have a place of their own", () => {
    const node = withServices();
    const open = { source: otherPod, destination: pod, flags: SYN, acknowledgement: 0 };
    node.fromPod(tcpPacket(open, new Uint8Array(0)), undefined, OTHER_POD_PORT).run();
    expect(service(node, 0)).toEqual([{ packets: 1, bytes: ETHERNET + 40 }, NONE]);
  });

  it("both sides have the same slots", () => {
    expect(counters.SERVICE_SLOTS).toBe(serviceTable.SERVICE_SLOTS);
    expect(Math.log2(counters.SERVICE_SLOTS) % 1).toBe(0);
    expect(serviceTraffic(counters.SERVICE_SLOTS - 1) + TRAFFIC_WORDS).toBe(counters.TRAFFIC);
    expect(serviceTraffic(counters.SERVICE_SLOTS + 5)).toBe(serviceTraffic(5));
  });
});

describe("waiting fragments", () => {
  it("count once, when they go on", () => {
    const node = withServices();
    const whole = udpPacket(
      { source: pod, destination: VIP, sourcePort: 4000, destinationPort: 53, id: 9 },
      counting(1600),
    );
    const [first, second] = fragmentsOf(whole, 800);
    node.fromPod(second).run();
    expect(service(node, 2)[0]).toEqual(NONE);
    node.fromPod(first).run();
    expect(service(node, 2)[0]).toEqual({ packets: 2, bytes: first.length + second.length + 2 * ETHERNET });
    expect(vtep(node, 0)[1]).toEqual(service(node, 2)[0]);
  });
});
