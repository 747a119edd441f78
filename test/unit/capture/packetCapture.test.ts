/**
 * A node without kernel that is captured from: what is written at each point, byte by byte, and what the
 * comments say of it.
 */
import { describe, expect, it } from "vitest";
import { newCaptureBuffer, RingReader, RingWriter } from "../../../src/capture/CaptureRing.js";
import { commentOf } from "../../../src/capture/comment.js";
import { both, compileFilter, ofPod } from "../../../src/capture/filter.js";
import {
  type CaptureSpec,
  COUNT_LOST,
  COUNT_MATCHED,
  COUNT_SEEN,
  INTERFACE_AFTER,
  INTERFACE_BEFORE,
  INTERFACE_DROPPED,
  INTERFACE_DROPPED_OUTER,
  INTERFACE_OUTER,
  MIN_CAPACITY,
  POINT_AFTER,
  POINT_BEFORE,
  POINT_DROPPED,
  POINT_INNER,
  POINT_OUTER,
  RECORD_FLAGS,
  RECORD_GSO,
  RECORD_INTERFACE,
  RECORD_LENGTH,
  RECORD_TIME,
} from "../../../src/capture/layout.js";
import { PacketCapture } from "../../../src/capture/PacketCapture.js";
import {
  fromVtep,
  MASTER,
  NODE_PORT,
  type NodeOptions,
  OTHER_POD_PORT,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  toVtep,
  VNI,
  WORKER01,
} from "../../support/dataplane.js";
import {
  ACK,
  ARP,
  address,
  arp,
  BROADCAST,
  concat,
  counting,
  ethernet,
  GATEWAY,
  hex,
  IPV4,
  ipv4,
  l4ChecksumOk,
  NO_MAC,
  readPacket,
  SYN,
  TCP,
  tcpPacket,
  toHex,
  UDP,
  udpPacket,
  vnetPartial,
  vxlan,
} from "../../support/frames.js";
import { serviceImage } from "../../support/services.js";

const { pod, otherPod, podMac } = MASTER;
const ALL = POINT_INNER | POINT_OUTER | POINT_BEFORE | POINT_AFTER | POINT_DROPPED;
const CLUSTER_IP = "10.152.183.10";
const EAGAIN = 11;

const NAMES = {
  port: (port: number) =>
    ({ [POD_PORT]: "default/a", [OTHER_POD_PORT]: "default/b", [NODE_PORT]: "podwire0" })[port] ?? "",
  vtep: (index: number) => ["k8s-worker01", "k8s-worker02"][index] ?? "",
  service: (id: number) => (id === 1 ? "default/web:http" : ""),
};
const WHERE: Record<number, string> = {
  [INTERFACE_OUTER]: "outer",
  [INTERFACE_BEFORE]: "before",
  [INTERFACE_AFTER]: "after",
  [INTERFACE_DROPPED]: "dropped",
  [INTERFACE_DROPPED_OUTER]: "dropped-outer",
};

interface Captured {
  /** Interface, or the name of what is behind the TAP; then > for towards us, < for from us. */
  at: string;
  bytes: string;
  length: number;
  gso: number;
  comment: string;
  timeUs: number;
}

class CapturedNode extends TestNode {
  readonly buffer: SharedArrayBuffer = newCaptureBuffer(MIN_CAPACITY);
  readonly reader = new RingReader(this.buffer);

  constructor(spec: Partial<CaptureSpec> = {}, options: NodeOptions = {}) {
    super(options);
    this.breather.dataplane.tap = new PacketCapture(new RingWriter(this.buffer), {
      points: ALL,
      snapLength: 262_144,
      filter: compileFilter(""),
      innerPort: -1,
      ...spec,
    });
  }

  withService(): this {
    this.breather.dataplane.services.adopt(
      serviceImage([
        {
          kind: "clusterIp",
          address: CLUSTER_IP,
          protocol: TCP,
          l4Port: 80,
          inside: [{ address: WORKER01.pod, l4Port: 8080 }],
        },
        { kind: "clusterIp", address: "10.152.183.11", protocol: TCP, l4Port: 80, inside: "reject" },
        { kind: "clusterIp", address: "10.152.183.11", protocol: UDP, l4Port: 80, inside: "reject" },
      ]),
    );
    return this;
  }

  /** Lets everything through and returns what was captured. */
  capture(): Captured[] {
    this.run();
    expect(this.faults).toEqual([]);
    return this.captured();
  }

  captured(): Captured[] {
    const list: Captured[] = [];
    const { reader } = this;
    for (let record = reader.peek(); record >= 0; record = reader.peek()) {
      const { words } = reader;
      const at = words[record + RECORD_INTERFACE];
      list.push({
        at: (WHERE[at] ?? NAMES.port(at)) + ["", ">", "<"][words[record + RECORD_FLAGS] & 3],
        bytes: toHex(reader.data(record)),
        length: words[record + RECORD_LENGTH],
        gso: words[record + RECORD_GSO],
        comment: commentOf(words, record, NAMES),
        timeUs: reader.view.getFloat64((record + RECORD_TIME) * 4, true),
      });
      reader.release(record);
    }
    return list;
  }

  count(kind: number, at: number): number {
    return this.reader.counts[kind + at];
  }
}

const places = (captured: Captured[]) => captured.map(({ at }) => at);
/** A VXLAN datagram with the outer headers that the capture gives it. */
function underlay(from: string, to: string, payload: Uint8Array, sourcePort = 4789): string {
  const datagram = udpPacket(
    { source: from, destination: to, sourcePort, destinationPort: 4789, l4Checksum: 0, id: 0, fragment: 0 },
    payload,
  );
  return toHex(datagram);
}
const fromPod = (packet: Uint8Array) => toHex(ethernet(GATEWAY, podMac, IPV4, packet));

describe("points", () => {
  const out = { source: pod, destination: WORKER01.pod };

  it("from a pod into the tunnel: inner, before, after, outer", () => {
    const node = new CapturedNode();
    node.io.nowUs = 1_234_567;
    const captured = node.fromPod(udpPacket({ ...out, ttl: 64 }, counting(100))).capture();
    expect(places(captured)).toEqual(["default/a>", "before", "after", "outer<"]);
    const arrived = fromPod(udpPacket({ ...out, ttl: 64 }, counting(100)));
    for (const n of [0, 1, 2]) expect(captured[n].bytes).toBe(arrived);
    const leaves = toVtep(WORKER01, udpPacket({ ...out, ttl: 63 }, counting(100)));
    expect(captured[3].bytes).toBe(underlay(MASTER.underlay, WORKER01.underlay, leaves));
    for (const { comment, timeUs, length, bytes } of captured) {
      expect(comment).toBe("from=default/a verdict=tunnel to=k8s-worker01");
      expect(length).toBe(bytes.length / 2);
      expect(timeUs).toBe(captured[0].timeUs);
    }
    expect(captured[0].timeUs).toBeGreaterThanOrEqual(1_234_567);
  });

  it("from the tunnel to a pod, in a run: outer frame by frame, delivered frame by frame", () => {
    const packets = Array.from({ length: 3 }, (_, n) =>
      tcpPacket(
        { source: WORKER01.pod, destination: pod, sequence: 100 * n, ttl: 64 },
        counting(n === 2 ? 60 : 100),
      ),
    );
    const node = new CapturedNode({ points: POINT_OUTER | POINT_INNER });
    node.io.injectUdp(
      TUNNEL_PORT,
      address(WORKER01.underlay),
      concat(...packets.map((packet) => fromVtep(WORKER01, packet))),
      fromVtep(WORKER01, packets[0]).length,
    );
    const captured = node.capture();
    expect(places(captured)).toEqual([
      "outer>",
      "outer>",
      "outer>",
      "default/a<",
      "default/a<",
      "default/a<",
    ]);
    packets.forEach((packet, n) => {
      const datagram = underlay(WORKER01.underlay, MASTER.underlay, fromVtep(WORKER01, packet));
      expect(captured[n].bytes).toBe(datagram);
      const sequence = { source: WORKER01.pod, destination: pod, sequence: 100 * n, ttl: 63 };
      const delivered = tcpPacket(sequence, counting(n === 2 ? 60 : 100));
      expect(captured[n + 3].bytes).toBe(toHex(ethernet(podMac, GATEWAY, IPV4, delivered)));
      expect(captured[n + 3].comment).toBe("from=k8s-worker01 verdict=deliver to=default/a");
    });
    expect(node.count(COUNT_SEEN, INTERFACE_OUTER)).toBe(3);
    expect(node.count(COUNT_SEEN, POD_PORT)).toBe(3);
  });

  it("a ClusterIP's flow: before and after translation, both ways", () => {
    const node = new CapturedNode({ points: POINT_BEFORE | POINT_AFTER }).withService();
    const asks = { source: pod, destination: CLUSTER_IP, sourcePort: 40_000, destinationPort: 80 };
    const [before, after] = node
      .fromPod(tcpPacket({ ...asks, flags: SYN, acknowledgement: 0 }, new Uint8Array(0)))
      .capture();
    const translated = { ...asks, destination: WORKER01.pod, destinationPort: 8080 };
    expect(before.at).toBe("before");
    expect(before.bytes).toBe(
      fromPod(tcpPacket({ ...asks, flags: SYN, acknowledgement: 0 }, new Uint8Array(0))),
    );
    expect(after.at).toBe("after");
    expect(after.bytes).toBe(
      fromPod(tcpPacket({ ...translated, flags: SYN, acknowledgement: 0 }, new Uint8Array(0))),
    );
    const flow = (state: string, direction: string) =>
      `tcp ${state} ${direction} src=${pod} dst=${CLUSTER_IP} sport=40000 dport=80 ` +
      `src=${WORKER01.pod} dst=${pod} sport=8080 dport=40000 flags=dnat service=default/web:http ` +
      `backend=${WORKER01.pod}:8080`;
    expect(after.comment).toBe(
      `from=default/a verdict=tunnel to=k8s-worker01 ${flow("SYN_SENT", "original")}`,
    );
    // What was not known yet when it was copied.
    expect(before.comment).toBe(after.comment);
    const answer = { source: WORKER01.pod, destination: pod, sourcePort: 8080, destinationPort: 40_000 };
    const [reply, turned] = node
      .fromWorker01(tcpPacket({ ...answer, flags: SYN | ACK, acknowledgement: 1001 }, new Uint8Array(0)))
      .capture();
    expect(reply.comment).toBe(`from=k8s-worker01 verdict=deliver to=default/a ${flow("SYN_RECV", "reply")}`);
    expect(turned.bytes.slice(0, -40)).not.toBe(reply.bytes.slice(0, -40));
    expect(turned.bytes).toContain(hexAddress(CLUSTER_IP));
    expect(reply.bytes).not.toContain(hexAddress(CLUSTER_IP));
  });

  it("what is dropped, with its reason; what the dataplane answers", () => {
    const node = new CapturedNode({ points: POINT_DROPPED | POINT_INNER }).withService();
    const refused = { source: pod, destination: "10.152.183.11", destinationPort: 80 };
    const captured = node
      .fromPod(tcpPacket({ ...refused, flags: SYN, acknowledgement: 0 }, new Uint8Array(0)))
      .fromPod(udpPacket(refused, counting(20)))
      .fromPod(udpPacket({ source: otherPod, destination: pod }, counting(20)))
      .capture();
    const dropped = captured.filter(({ at }) => at === "dropped");
    expect(dropped.map(({ comment }) => comment)).toEqual([
      "from=default/a verdict=dropped reason=noEndpoint",
      "from=default/a verdict=dropped reason=noEndpoint",
      "from=default/a verdict=dropped reason=forgedSource",
    ]);
    expect(dropped[1].bytes).toBe(fromPod(udpPacket(refused, counting(20))));
    const answers = captured.filter(({ at }) => at === "default/a<");
    expect(answers.map(({ comment }) => comment)).toEqual([
      "made-by=podwire in-answer-to: from=default/a verdict=dropped reason=noEndpoint",
      "made-by=podwire in-answer-to: from=default/a verdict=dropped reason=noEndpoint",
    ]);
    // Native code has yet to complete the checksums of what is sent.
    for (const { bytes } of answers) expect(l4ChecksumOk(readPacket(hex(bytes).subarray(14)))).toBe(true);
    expect(captured.filter(({ at }) => at === "default/a>").map(({ comment }) => comment)).toEqual(
      dropped.map(({ comment }) => comment),
    );
  });

  it("datagrams that are dropped before decap have their outer headers, and the sender's port", () => {
    const node = new CapturedNode({ points: POINT_DROPPED });
    const bytes = vxlan(
      7,
      ethernet(
        MASTER.vtepMac,
        WORKER01.vtepMac,
        IPV4,
        udpPacket({ source: WORKER01.pod, destination: pod }, counting(9)),
      ),
    );
    const [stranger, wrong] = node
      .fromUnderlay("192.0.2.1", counting(40))
      .fromUnderlay(WORKER01.underlay, bytes)
      .capture();
    expect(stranger.at).toBe("dropped-outer>");
    expect(stranger.comment).toBe("verdict=dropped reason=unknownVtep");
    expect(stranger.bytes).toBe(underlay("192.0.2.1", MASTER.underlay, counting(40)));
    expect(wrong.comment).toBe("verdict=dropped reason=wrongVni");
    expect(VNI).not.toBe(7);
  });

  it("ARP and its answer", () => {
    const asks = arp({
      operation: 1,
      senderMac: podMac,
      sender: pod,
      targetMac: NO_MAC,
      target: "169.254.1.1",
    });
    const answer = {
      operation: 2,
      senderMac: GATEWAY,
      sender: "169.254.1.1",
      targetMac: podMac,
      target: pod,
    };
    const captured = new CapturedNode().fromTap(POD_PORT, ethernet(BROADCAST, podMac, ARP, asks)).capture();
    expect(captured).toMatchObject([
      { at: "default/a>", bytes: toHex(ethernet(BROADCAST, podMac, ARP, asks)) },
      { at: "default/a<", bytes: toHex(ethernet(podMac, GATEWAY, ARP, arp(answer))) },
    ]);
    expect(captured[1].comment).toBe("made-by=podwire in-answer-to: from=default/a verdict=answered");
  });

  it("a GSO frame is whole, and its checksum partial", () => {
    const packet = tcpPacket({ ...out, l4Checksum: "partial" }, counting(9000));
    const captured = new CapturedNode().fromPod(packet, vnetPartial(TCP, 1398)).capture();
    expect(places(captured)).toEqual(["default/a>", "before", "after", "outer<"]);
    for (const { comment, gso } of captured) {
      expect(gso).toBe(1398);
      expect(comment).toContain(" checksum=partial gso-size=1398");
    }
    expect(captured[3].length).toBe(captured[0].length + 36);
  });

  it("a fragment that waits comes by once, and is held; what is given up is dropped", () => {
    const node = new CapturedNode({ points: POINT_INNER | POINT_DROPPED }).withService();
    const part = { source: pod, destination: CLUSTER_IP, protocol: TCP, id: 5 };
    const later = ipv4({ ...part, fragment: 64 }, counting(40));
    expect(node.fromPod(later).capture()).toMatchObject([
      { at: "default/a>", comment: "from=default/a verdict=held" },
    ]);
    node.io.nowUs += 31_000_000;
    expect(node.capture()).toMatchObject([
      {
        at: "dropped",
        bytes: fromPod(later),
        comment: "from=default/a verdict=dropped reason=fragmentOrphan",
      },
    ]);
  });

  it("what the kernel refuses is dropped", () => {
    const node = new CapturedNode({ points: POINT_DROPPED });
    node.io.failures.set(TUNNEL_PORT, EAGAIN);
    const captured = node.fromPod(udpPacket({ ...out, ttl: 64 }, counting(100))).capture();
    const leaves = toVtep(WORKER01, udpPacket({ ...out, ttl: 63 }, counting(100)));
    expect(captured).toMatchObject([
      {
        at: "dropped-outer<",
        bytes: underlay(MASTER.underlay, WORKER01.underlay, leaves),
        comment: "to=k8s-worker01 verdict=dropped reason=txBusy",
      },
    ]);
  });

  it("what a pod's device refuses is dropped, without a header of the TAP's", () => {
    const node = new CapturedNode({ points: POINT_DROPPED });
    node.io.failures.set(POD_PORT, EAGAIN);
    const packet = { source: WORKER01.pod, destination: pod };
    const frame = ethernet(podMac, GATEWAY, IPV4, udpPacket({ ...packet, ttl: 63 }, counting(100)));
    expect(node.fromWorker01(udpPacket(packet, counting(100))).capture()).toMatchObject([
      { at: "dropped<", bytes: toHex(frame), comment: "to=default/a verdict=dropped reason=txBusy" },
    ]);
  });

  it("what the dataplane threw on is dropped", () => {
    const node = new CapturedNode({ points: POINT_DROPPED });
    node.breather.dataplane.tables.routes.lookup = () => {
      throw new Error("broken");
    };
    node.fromPod(udpPacket(out, counting(100))).run();
    expect(node.faults).toHaveLength(1);
    expect(node.breather.dataplane.tap).toBeNull();
    expect(node.captured()).toMatchObject([
      { comment: "from=default/a verdict=dropped reason=internalError" },
    ]);
  });

  it("a capture that throws ends, and costs the dataplane one batch", () => {
    const node = new CapturedNode();
    const { tap } = node.breather.dataplane;
    const broken = (name: string) => () => {
      throw new Error(name);
    };
    Object.assign(tap!, { received: broken("received"), abandoned: broken("abandoned") });
    node.fromPod(udpPacket(out, counting(100)));
    expect(node.run().dropped).toEqual({ internalError: 1 });
    expect(node.faults).toEqual([new Error("abandoned"), new Error("received")]);
    expect(node.fromPod(udpPacket(out, counting(100))).run().forwarded).toBe(1);
  });
});

describe("what is kept", () => {
  const asks = { source: pod, destination: CLUSTER_IP, sourcePort: 40_000, destinationPort: 80 };
  const syn = tcpPacket({ ...asks, flags: SYN, acknowledgement: 0 }, new Uint8Array(0));
  const other = udpPacket({ source: pod, destination: WORKER01.pod }, counting(10));

  it("a filter finds both sides of a translated flow, at every point", () => {
    for (const text of [`host ${CLUSTER_IP}`, `host ${WORKER01.pod} and tcp`, "port 8080", "port 80"]) {
      const node = new CapturedNode({ filter: compileFilter(text) }).withService();
      node.fromPod(syn).fromPod(other).run();
      node.captured();
      const answer = { source: WORKER01.pod, destination: pod, sourcePort: 8080, destinationPort: 40_000 };
      const captured = node
        .fromWorker01(tcpPacket({ ...answer, flags: SYN | ACK, acknowledgement: 1001 }, new Uint8Array(0)))
        .fromPod(other)
        .fromPod(tcpPacket({ ...asks, sequence: 1001 }, counting(10)))
        .capture();
      expect(places(captured).sort(), text).toEqual(
        ["outer>", "before", "after", "default/a<", "default/a>", "before", "after", "outer<"].sort(),
      );
    }
  });

  it("counts what came by, and what the filter took", () => {
    const node = new CapturedNode({ points: POINT_INNER, filter: compileFilter("tcp") }).withService();
    node.fromPod(syn).fromPod(other).fromPod(other).run();
    expect(places(node.captured())).toEqual(["default/a>"]);
    expect(node.count(COUNT_SEEN, POD_PORT)).toBe(3);
    expect(node.count(COUNT_MATCHED, POD_PORT)).toBe(1);
    expect(node.count(COUNT_LOST, POD_PORT)).toBe(0);
  });

  it("a pod's TAP only, and whatever it sends", () => {
    const filter = both(ofPod(POD_PORT, address(pod)), compileFilter(""));
    const node = new CapturedNode({ points: POINT_INNER | POINT_DROPPED, filter, innerPort: POD_PORT });
    const captured = node
      .fromPod(udpPacket({ source: otherPod, destination: pod }, counting(20)), undefined, OTHER_POD_PORT)
      .fromPod(udpPacket({ source: "10.1.1.1", destination: otherPod }, counting(20)))
      .fromPod(
        udpPacket({ source: otherPod, destination: WORKER01.pod }, counting(20)),
        undefined,
        OTHER_POD_PORT,
      )
      .capture();
    expect(places(captured)).toEqual(["default/a>", "default/a<", "dropped"]);
    expect(captured[2].comment).toContain("forgedSource");
  });

  it("no more than the snap length, headers of the capture's own included", () => {
    for (const snapLength of [64, 67, 80]) {
      const node = new CapturedNode({ snapLength, points: POINT_INNER | POINT_OUTER });
      const [arrives, leaves] = node.fromPod(other).capture();
      expect(arrives.bytes).toBe(fromPod(other).slice(0, 2 * snapLength));
      expect(leaves.bytes).toHaveLength(2 * snapLength);
      expect(leaves.length).toBe(arrives.length + 36);
      const routed = udpPacket({ source: pod, destination: WORKER01.pod, ttl: 63 }, counting(10));
      const datagram = underlay(MASTER.underlay, WORKER01.underlay, toVtep(WORKER01, routed));
      expect(leaves.bytes).toBe(datagram.slice(0, 2 * snapLength));
    }
  });

  it("a full ring costs packets, which are counted, and nothing else", () => {
    const node = new CapturedNode({ points: POINT_INNER });
    const big = udpPacket(
      { source: pod, destination: WORKER01.pod, l4Checksum: "partial" },
      counting(60_000),
    );
    let forwarded = 0;
    for (let n = 0; n < 40; n++) forwarded += node.fromPod(big, vnetPartial(UDP, 1400)).run().forwarded;
    expect(forwarded).toBe(40);
    const kept = node.captured().length;
    expect(kept).toBe(17);
    expect(node.count(COUNT_LOST, POD_PORT)).toBe(40 - kept);
    expect(node.count(COUNT_MATCHED, POD_PORT)).toBe(40);
    // There is room again.
    node.fromPod(big, vnetPartial(UDP, 1400)).run();
    expect(node.captured()).toHaveLength(1);
  });
});

function hexAddress(text: string): string {
  return (address(text) >>> 0).toString(16).padStart(8, "0");
}
