import { describe, expect, it } from "vitest";
import {
  COUNT_ANSWERED,
  COUNT_BREATHS,
  COUNT_FORWARDED,
  COUNT_MERGED,
  COUNT_REPLIES_LOST,
  COUNT_RX_CALLS,
  COUNT_SLEEPS,
  COUNT_SPIN_HITS,
  COUNT_TX_CALLS,
  COUNT_WAKES,
  LOOP_BOUNDS_US,
  LOOP_COUNTS,
  LOOP_SUM_US,
} from "../../../src/packet/counters.js";
import {
  RX_FLAG_ERROR,
  STATUS_RX_CALLS,
  STATUS_SLEEPS,
  STATUS_SPIN_HITS,
  STATUS_TX_CALLS,
  STATUS_WAKES,
} from "../../../src/packet/layout.js";
import { buildTableImage, Tables } from "../../../src/tables/TableImage.js";
import { EMPTY_TABLES } from "../../../src/worker/emptyTables.js";
import {
  accounted,
  MASTER,
  OTHER_POD_PORT,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  tableInput,
  WORKER01,
} from "../../support/dataplane.js";
import {
  ARP,
  arp,
  BROADCAST,
  counting,
  datagrams,
  ethernet,
  IPV4,
  kernelFrames,
  NO_MAC,
  TCP,
  tcpPacket,
  udpPacket,
  vnetPartial,
} from "../../support/frames.js";

const { pod, otherPod, podMac } = MASTER;
const out = (n = 0) => udpPacket({ source: pod, destination: WORKER01.pod, id: n }, counting(100, n));
const local = () => udpPacket({ source: pod, destination: otherPod }, counting(100));
const inbound = (n: number, sourcePort = 40_000) =>
  tcpPacket({ source: WORKER01.pod, destination: pod, sourcePort, sequence: 100 * n }, counting(100));
const tso = (bytes: number) =>
  tcpPacket({ source: pod, destination: WORKER01.pod, l4Checksum: "partial" }, counting(bytes));
const EAGAIN = 11;

describe("accounts of what could not be sent", () => {
  it("every frame of a train is lost with its message", () => {
    const node = new TestNode();
    for (let n = 0; n < 5; n++) node.fromPod(out(n));
    node.fromPod(local());
    node.io.failures.set(TUNNEL_PORT, EAGAIN);
    const outcome = node.run();
    expect(outcome).toMatchObject({ forwarded: 1, dropped: { txBusy: 5 } });
  });

  it("every frame in a merged one is lost with it", () => {
    const node = new TestNode().trainFromWorker01([inbound(0), inbound(1), inbound(2)]);
    node.io.failures.set(POD_PORT, 77);
    const outcome = node.run();
    expect(node.counters[COUNT_MERGED]).toBe(2);
    expect(outcome).toMatchObject({ forwarded: 0, dropped: { portDown: 3 } });
  });

  it("a TSO frame is one frame, however many segments and messages are lost", () => {
    const node = new TestNode().fromPod(tso(64_000), vnetPartial(TCP, 500));
    node.io.failures.set(TUNNEL_PORT, EAGAIN);
    const outcome = node.run();
    expect(outcome).toMatchObject({ received: 1, forwarded: 0, dropped: { txBusy: 1 } });
    // 128 segments: the second message carries no frame of its own.
    expect(node.counters[COUNT_REPLIES_LOST]).toBe(1);
  });

  it("a TSO frame between small ones, which share its train", () => {
    const node = new TestNode();
    const small = udpPacket({ source: pod, destination: WORKER01.pod }, counting(512));
    node.fromPod(small).fromPod(tso(5000), vnetPartial(TCP, 500)).fromPod(small);
    node.io.failures.set(TUNNEL_PORT, EAGAIN);
    expect(node.run()).toMatchObject({ received: 3, forwarded: 0, dropped: { txBusy: 3 } });
  });

  it("UDP GSO to a TAP without USO is one frame", () => {
    const packet = udpPacket({ source: pod, destination: otherPod, l4Checksum: "partial" }, counting(3000));
    const node = new TestNode({ uso: false }).fromPod(packet, vnetPartial(17, 500));
    node.io.failures.set(OTHER_POD_PORT, 5);
    expect(node.run()).toMatchObject({ received: 1, forwarded: 0, dropped: { portDown: 1 } });
  });

  it("an ARP reply that cannot be sent stays answered", () => {
    const request = arp({
      operation: 1,
      senderMac: podMac,
      sender: pod,
      targetMac: NO_MAC,
      target: "10.1.1.1",
    });
    const node = new TestNode().fromTap(POD_PORT, ethernet(BROADCAST, podMac, ARP, request));
    node.io.failures.set(POD_PORT, 5);
    expect(node.run()).toMatchObject({ answered: 1, dropped: {} });
    expect(node.counters[COUNT_REPLIES_LOST]).toBe(1);
  });

  it("one bad port costs the others nothing, and failures are not counted twice", () => {
    const node = new TestNode();
    node.io.failures.set(TUNNEL_PORT, 22);
    expect(node.fromPod(out()).fromPod(local()).run()).toMatchObject({
      forwarded: 1,
      dropped: { txFailed: 1 },
    });
    node.io.failures.clear();
    expect(node.fromPod(out()).run()).toMatchObject({ forwarded: 1, dropped: {} });
  });

  it("a failure in the middle of a breath is accounted, too", () => {
    const node = new TestNode();
    for (let n = 0; n < 4; n++) node.fromPod(tso(60_000), vnetPartial(TCP, 48));
    node.io.failures.set(TUNNEL_PORT, EAGAIN);
    expect(node.run()).toMatchObject({ received: 4, forwarded: 0, dropped: { txBusy: 4 } });
  });
});

describe("a stage that throws", () => {
  /**
   * Makes the tables throw at the `n`-th access to one of their fields by the stages, once. Returns
   * what takes the poison away again.
   */
  function poison(node: TestNode, n: number): () => void {
    const { tables } = node.breather.dataplane;
    const own = tables as unknown as Record<string, unknown>;
    let left = n;
    for (const key of Object.keys(tables)) {
      // Breather itself reads the port numbers of sockets, outside the stages.
      if (key === "tunnelPort" || key === "icmpPort" || key === "reassemblyPort") continue;
      const value = own[key];
      Object.defineProperty(tables, key, {
        get: () => {
          if (left-- === 0) throw new Error(`poisoned ${key}`);
          return value;
        },
      });
    }
    return () => {
      left = -1;
    };
  }

  /** Frames of every kind, in more than one batch. */
  function mixture(node: TestNode): void {
    for (let n = 0; n < 3; n++) node.fromPod(out(n));
    node.fromPod(tso(4000), vnetPartial(TCP, 1000));
    node.fromPod(local());
    node.fromPod(udpPacket({ source: pod, destination: "203.0.113.1" }, counting(8)));
    node.fromPod(udpPacket({ source: pod, destination: WORKER01.pod, fragment: 0 }, counting(3000)));
    // Eight flows take turns, so that each datagram is a row and there are several batches.
    for (let n = 0; n < 4; n++) {
      node.trainFromWorker01(Array.from({ length: 64 }, (_, i) => inbound(8 * n + (i >> 3), 1 + (i & 7))));
    }
  }

  it("is reported and counted wherever it happens, and the next breath works", () => {
    let faults = 0;
    // Every access of the first stages, then here and there to behind the last of the last batch.
    for (let n = 0; n < 1200; n += n < 60 ? 1 : 13) {
      const node = new TestNode();
      expect(node.fromPod(out()).fromWorker01(inbound(0)).run().forwarded).toBe(2);
      const cure = poison(node, n);
      mixture(node);
      const outcome = node.run();
      expect(outcome.received, `access ${n}`).toBe(7 + 4 * 64);
      expect(accounted(outcome), `access ${n}`).toBe(true);
      expect(outcome.forwarded).toBeGreaterThanOrEqual(0);
      for (const count of Object.values(outcome.dropped)) expect(count).toBeGreaterThan(0);
      if (node.faults.length > 0) {
        faults++;
        expect(node.faults).toHaveLength(1);
        expect(outcome.dropped.internalError).toBeGreaterThan(0);
      } else expect(outcome.dropped.internalError).toBeUndefined();
      // What counts as forwarded was sent, whole.
      const tunnel = outcome.sent
        .filter((s) => s.port === TUNNEL_PORT)
        .flatMap((s) => datagrams(s.bytes, s.gso));
      const tap = outcome.sent.filter((s) => s.port === POD_PORT).flatMap((s) => kernelFrames(s.bytes));
      const other = outcome.sent.filter((s) => s.port === OTHER_POD_PORT);
      if (outcome.forwarded === 0) expect(tunnel).toHaveLength(0);
      // TSO: four datagrams for one frame; fragments: three; ICMP error: none.
      const whole = tunnel.length > 0 ? tunnel.length - 3 - 2 : 0;
      const errors = tap.filter((f) => f[23] === 1).length;
      expect(outcome.forwarded, `access ${n}`).toBe(whole + tap.length - errors + other.length);

      node.faults.length = 0;
      cure();
      mixture(node);
      expect(node.run()).toMatchObject({ forwarded: 6 + 4 * 64, dropped: { noRoute: 1 } });
      expect(node.faults).toEqual([]);
    }
    expect(faults).toBeGreaterThan(50);
  });
});

describe("breathing", () => {
  it("tells whether anything arrived, and has sent it on by then", () => {
    const node = new TestNode();
    expect(node.breather.breathe(0, 0)).toBe(false);
    node.fromPod(local());
    expect(node.breather.breathe(0, 0)).toBe(true);
    expect(node.io.sent).toHaveLength(1);
    expect(node.breather.breathe(0, 0)).toBe(false);
    expect(node.io.sent).toHaveLength(1);
  });

  it("execute sends what is planned at once, and only once", () => {
    const node = new TestNode().fromPod(local());
    node.breather.breathe(0, 0);
    node.breather.execute();
    expect(node.io.sent).toHaveLength(1);
    node.breather.execute();
    node.breather.breathe(0, 0);
    expect(node.io.sent).toHaveLength(1);
  });

  it("a failed port is reported, and is no frame", () => {
    const node = new TestNode();
    // The length of a descriptor with this flag is the errno.
    node.io.injectUdp(TUNNEL_PORT, 0, new Uint8Array(77), 77, RX_FLAG_ERROR);
    node.fromPod(local());
    const outcome = node.run();
    expect(node.failedPorts).toEqual([{ port: TUNNEL_PORT, errno: 77 }]);
    expect(outcome).toMatchObject({ received: 1, forwarded: 1 });
  });

  it("publishes native's totals", () => {
    const node = new TestNode();
    const totals: [status: number, counter: number][] = [
      [STATUS_WAKES, COUNT_WAKES],
      [STATUS_SLEEPS, COUNT_SLEEPS],
      [STATUS_SPIN_HITS, COUNT_SPIN_HITS],
      [STATUS_RX_CALLS, COUNT_RX_CALLS],
      [STATUS_TX_CALLS, COUNT_TX_CALLS],
    ];
    for (const [status] of totals) node.arena.status[status] = 1000 + status;
    node.breather.breathe(0, 0);
    for (const [status, counter] of totals) expect(node.counters[counter]).toBe(1000 + status);
    expect(node.counters[COUNT_BREATHS]).toBe(1);
  });

  it("passes timeout, spinning and the number of messages planned since on", () => {
    const node = new TestNode().fromPod(local());
    const { plan } = node.breather.dataplane;
    const calls: number[][] = [];
    const breathe = node.io.breathe.bind(node.io);
    node.io.breathe = (...args) => {
      calls.push(args);
      return breathe(...args);
    };
    node.breather.breathe(7, 50);
    plan.message(POD_PORT, 0, plan.slot(), 60, 0);
    node.breather.breathe(0, 0);
    expect(calls).toEqual([
      [0, 7, 50],
      [1, 0, 0],
    ]);
  });

  it("more rows than a batch holds become several batches", () => {
    const node = new TestNode();
    for (let n = 0; n < 16; n++) {
      node.trainFromWorker01(Array.from({ length: 64 }, (_, i) => inbound(64 * n + i)));
    }
    node.fromPod(local());
    expect(node.run()).toMatchObject({ received: 1025, forwarded: 1025 });
  });

  it("breaths with packets are counted by their duration, from waking up until all is sent", () => {
    const node = new TestNode();
    const { io, counters } = node;
    const loops = () => [...counters.subarray(LOOP_COUNTS, LOOP_COUNTS + LOOP_BOUNDS_US.length + 1)];
    const expected = loops();
    const durations = [10, 11, 77, 100_000, 100_001];
    for (const us of durations) {
      io.nowUs += 1_000_000;
      io.sendingUs = us;
      node.fromPod(local());
      node.breather.breathe(0, 0);
      expected[[...LOOP_BOUNDS_US, Number.POSITIVE_INFINITY].findIndex((bound) => us <= bound)]!++;
    }
    // Nothing comes.
    node.breather.breathe(0, 0);
    expect(loops()).toEqual(expected);
    expect(loops().reduce((sum, n) => sum + n)).toBe(durations.length);
    expect(counters[LOOP_SUM_US]).toBe(10 + 11 + 77 + 100_000 + 100_001);
  });

  it("new tables hold from the next breath on", () => {
    const node = new TestNode();
    expect(node.fromPod(local()).run().forwarded).toBe(1);
    const input = tableInput();
    input.routes = [];
    node.breather.dataplane.tables = new Tables(buildTableImage(input));
    expect(node.fromPod(local()).run().dropped).toEqual({ noRoute: 1 });
  });

  it("empty tables drop everything, and count it", () => {
    const node = new TestNode();
    node.breather.dataplane.tables = new Tables(buildTableImage(EMPTY_TABLES));
    const request = arp({
      operation: 1,
      senderMac: podMac,
      sender: pod,
      targetMac: NO_MAC,
      target: "10.1.1.1",
    });
    node.fromPod(local()).fromWorker01(inbound(0));
    node.fromTap(POD_PORT, ethernet(BROADCAST, podMac, ARP, request));
    node.fromTap(POD_PORT, ethernet(BROADCAST, podMac, IPV4, local()));
    const outcome = node.run();
    expect(outcome).toMatchObject({ received: 4, forwarded: 0, answered: 0, sent: [] });
    expect(accounted(outcome)).toBe(true);
    expect([node.counters[COUNT_FORWARDED], node.counters[COUNT_ANSWERED]]).toEqual([0, 0]);
  });
});
