/**
 * Connections to load-balancer addresses whose endpoints have changed since they began: the owner tells
 * the next node of them, and they go on there. Messages as bytes; those that are not believed; what is
 * told of no longer.
 */
import { beforeEach, describe, expect, it } from "vitest";
import { LASTING_MS, SWEEP_GAP_MS, SWEEP_MS } from "../../../src/dataplane/FlowSharing.js";
import {
  COUNT_FLOWS_SHARED,
  COUNT_STANDBY_HEARD,
  COUNT_STANDBY_REFUSED,
  COUNT_STANDBY_WOKEN,
} from "../../../src/packet/counters.js";
import { FLOW_STATE, STATE_STANDBY } from "../../../src/tables/flowLayout.js";
import {
  CLIENT_PORT,
  DATA,
  failoverCluster,
  kill,
  NOTHING,
  OTHER_VIP,
  revive,
  Stream,
  serve,
  VIP,
} from "../../support/failover.js";
import { ACK, concat, FIN, hex, put16, RST, tcpPacket, udpPacket } from "../../support/frames.js";
import {
  NODES,
  type NodeName,
  PC,
  PODS,
  type PodName,
  type SimulatedCluster,
} from "../../support/model/SimulatedCluster.js";

const ALL: PodName[] = ["a1", "a2", "b1", "b2", "c1", "c2"];
const PORTS = Array.from({ length: 40 }, (_, n) => 10_000 + n);

let cluster: SimulatedCluster;

beforeEach(() => {
  cluster = failoverCluster();
});

/** Flows of a node that wait to be woken. */
function asleep(name: NodeName): number {
  const { flows } = cluster.nodes[name].test;
  return Array.from(
    { length: flows.used },
    (_, record) => flows.words[flows.base(record) + FLOW_STATE],
  ).filter((state) => state === STATE_STANDBY).length;
}

function counter(name: NodeName, which: number): number {
  return cluster.nodes[name].test.counters[which]!;
}

/** Connections by a node. */
function open(by: NodeName, ports: readonly number[] = PORTS): Stream[] {
  return ports.map((port) => new Stream(cluster, port).open(by));
}

/** Connections whose pod is on one of these nodes. */
function on(streams: readonly Stream[], ...nodes: NodeName[]): Stream[] {
  return streams.filter(({ at }) => nodes.includes(at![0] as NodeName));
}

/** A connection to c1, from when that was the only endpoint; then b1 is. */
function moved(port = CLIENT_PORT): Stream {
  serve(cluster, ["c1"]);
  const stream = new Stream(cluster, port).open("a");
  serve(cluster, ["b1"]);
  return stream;
}

describe("connections from before endpoints changed", () => {
  it("would else end: the ring leads elsewhere", () => {
    const stream = moved();
    kill(cluster, "a");
    expect([stream.at, stream.client("b", ACK, DATA)]).toEqual(["c1", "b1"]);
  });

  it.each([
    ["endpoints were added", ["a1", "b1", "c1"] as const, ALL],
    ["endpoints were removed", ALL, ["b2", "c2"] as const],
    ["all others were", ["b1", "c1"] as const, ["b2", "c2"] as const],
    ["none is left", ["b1", "c1"] as const, [] as const],
  ])("go on with the next owner: %s", (_, before, after) => {
    serve(cluster, before);
    const streams = open("a");
    serve(cluster, after);
    cluster.tell(["a"]);
    // Not those that the ring leads there anyway.
    expect(asleep("b")).toBeGreaterThan(0);
    expect(asleep("b")).toBeLessThanOrEqual(PORTS.length);
    expect(asleep("c")).toBe(0);
    kill(cluster, "a");
    const living = on(streams, "b", "c");
    expect(living.length).toBeGreaterThan(10);
    for (const stream of living) stream.talk("b");
    expect(counter("b", COUNT_STANDBY_WOKEN)).toBeGreaterThan(0);
  });

  it("are told of at once, those that the ring leads there only when they last", () => {
    serve(cluster, ALL);
    open("a");
    cluster.tell(["a"]);
    expect([asleep("b"), asleep("c"), counter("a", COUNT_FLOWS_SHARED)]).toEqual([0, 0, 0]);
    cluster.tell(["a"], LASTING_MS);
    expect([asleep("b"), asleep("c"), counter("a", COUNT_FLOWS_SHARED)]).toEqual([40, 0, 40]);
  });

  it.each([
    ["the new owner had taken it up", (stream: Stream) => stream.talk("b")],
    ["it was silent since", () => {}],
  ])("go on where endpoints change after the owner's death, and %s", (_, meanwhile) => {
    serve(cluster, ALL);
    const streams = open("a");
    cluster.tell(["a"], LASTING_MS);
    kill(cluster, "a");
    const living = on(streams, "b", "c");
    for (const stream of living) meanwhile(stream);
    serve(cluster, ["b1", "c2"]);
    for (const stream of living) stream.talk("b");
    expect(living.length).toBeGreaterThan(10);
  });

  it("go on where they change before the next owner hears of the death", () => {
    serve(cluster, ALL);
    const streams = open("a");
    cluster.tell(["a"], LASTING_MS);
    cluster.setAlive("a", false);
    serve(cluster, ["b1", "c2"]);
    cluster.setOwners(["b", "c"]);
    for (const stream of on(streams, "b", "c")) stream.talk("b");
  });

  it("go on where nodes see the change at different times", () => {
    serve(cluster, ALL);
    const streams = open("a");
    cluster.tell(["a"], LASTING_MS);
    const { b } = cluster.nodes;
    b.late = true;
    serve(cluster, ["b1", "c2"]);
    cluster.tell(["a"], LASTING_MS);
    kill(cluster, "a");
    const [first, ...others] = on(streams, "b", "c");
    first!.talk("b");
    b.late = false;
    b.compile();
    for (const stream of others) stream.talk("b");
  });

  it("go on where the pod's own node is the next owner, or was the last", () => {
    serve(cluster, ["a1", "b1"]);
    const streams = open("a");
    serve(cluster, ["c1"]);
    cluster.tell(["a"]);
    // Drained: the old owner's pods live.
    cluster.setOwners(["b", "c"]);
    for (const stream of streams) stream.talk("b");
    cluster.tell(["b"]);
    cluster.setOwners(["c"]);
    for (const stream of streams) stream.talk("c");
    // Two records where the pod is: one for its replies, one that sleeps for when the address comes back.
    for (const { test } of cluster.all) expect(test.flows.size).toBeLessThanOrEqual(2 * PORTS.length);
  });

  it("go on where the address goes to the pod's own node, back, and there again at once", () => {
    serve(cluster, ["b1", "b2"]);
    const streams = open("a");
    cluster.tell(["a"], LASTING_MS);
    serve(cluster, ["c1"]);
    for (const by of ["b", "a", "b"] as const) for (const stream of streams) stream.talk(by);
  });

  it("two owners later, without a word of the client in between", () => {
    const stream = moved();
    cluster.tell(["a"]);
    kill(cluster, "a");
    expect(cluster.tell(["b"]).map(({ node }) => node)).toContain("c");
    kill(cluster, "b");
    stream.talk("c");
  });

  it("by an owner that comes back, while the one in between hands over", () => {
    serve(cluster, ["c1"]);
    kill(cluster, "a");
    const stream = new Stream(cluster).open("b");
    serve(cluster, ["b1"]);
    revive(cluster, "a");
    cluster.nodes.b.handingOver.add(VIP);
    cluster.tell(["b"]);
    cluster.nodes.b.handingOver.clear();
    stream.talk("a");
  });

  it("when the next node changes, the new one is told at once and the old one forgets", () => {
    cluster = failoverCluster(["a", "b", "c"]);
    const stream = moved();
    cluster.setOwners(["a", "c"]);
    cluster.tell(["a"]);
    expect([asleep("b"), asleep("c")]).toEqual([0, 1]);
    cluster.setOwners(["a", "b", "c"]);
    cluster.tell(["a"], SWEEP_GAP_MS);
    expect([asleep("b"), asleep("c")]).toEqual([1, 0]);
    kill(cluster, "a");
    stream.talk("b");
  });

  it("chosen while another node was dead", () => {
    serve(cluster, ["b1", "c1"]);
    cluster.setAlive("c", false);
    const streams = open("a");
    expect(on(streams, "c")).toEqual([]);
    cluster.setAlive("c", true);
    cluster.tell(["a"]);
    cluster.setOwners(["b", "c"]);
    for (const stream of streams) stream.talk("b");
  });

  it("with the answer first: the client only listens", () => {
    const stream = moved();
    cluster.tell(["a"]);
    kill(cluster, "a");
    expect(stream.server(ACK, DATA)).toBe("lan");
    expect([asleep("b"), cluster.nodes.b.test.flows.size]).toEqual([0, 1]);
    stream.talk("b");
  });

  it("half-closed ones too", () => {
    const stream = moved();
    stream.client("a", FIN | ACK);
    cluster.tell(["a"]);
    kill(cluster, "a");
    expect(stream.client("b", ACK)).toBe("c1");
    expect(stream.server(ACK, DATA)).toBe("lan");
  });

  it("UDP exchanges that last", () => {
    serve(cluster, ["c1", "b2"]);
    const ask = { source: PC, destination: VIP, destinationPort: 53 };
    const send = (by: NodeName, sourcePort: number) =>
      cluster.fromLan(by, udpPacket({ ...ask, sourcePort }, DATA)).arrivals[0]!.at as PodName;
    const at = new Map(PORTS.map((port) => [port, send("a", port)]));
    for (let n = 0; n < 3; n++) {
      cluster.pass(1100);
      for (const [port, pod] of at) {
        send("a", port);
        cluster.fromPod(
          pod,
          udpPacket({ source: PODS[pod], destination: PC, sourcePort: 5353, destinationPort: port }, DATA),
        );
      }
    }
    serve(cluster, ["c1", "b2", "b1", "c2"]);
    cluster.tell(["a"]);
    expect(asleep("b")).toBeGreaterThan(0);
    kill(cluster, "a");
    for (const [port, pod] of at) expect(send("b", port)).toBe(pod);
  });

  it("a new connection with the ports of one that is told of goes by the ring", () => {
    moved();
    cluster.tell(["a"]);
    kill(cluster, "a");
    const stream = new Stream(cluster).open("b");
    expect(stream.at).toBe("b1");
    expect(asleep("b")).toBe(0);
    stream.talk("b");
  });

  it("policy Local: they end where the address moves", () => {
    serve(cluster, ["a1", "b1"], { externalTrafficPolicy: "Local" });
    open("a");
    serve(cluster, ["a2", "b1"], { externalTrafficPolicy: "Local" });
    cluster.tell(["a"]);
    expect(asleep("b")).toBe(0);
  });

  it("not those that are over, nor other Services', nor NodePorts'", () => {
    const stream = moved();
    stream.client("a", FIN | ACK);
    stream.server(FIN | ACK);
    stream.client("a", ACK);
    const ends = { source: PC, destination: NODES.a.underlay, sourcePort: 6000, destinationPort: 30_800 };
    cluster.fromLan("a", tcpPacket({ ...ends, flags: ACK }, DATA));
    serve(cluster, ["c2"]);
    cluster.tell(["a"]);
    expect(asleep("b")).toBe(0);
  });
});

describe("messages", () => {
  /** What a has to tell b. */
  const told = (ms = SWEEP_MS) => cluster.nodes.a.tell(ms).map(({ to, packet }) => ({ to, packet }));

  it("as bytes: one flow, then the end of the sweep", () => {
    moved();
    const [flows, end, ...more] = told();
    expect(more).toEqual([]);
    expect([flows!.to, end!.to]).toEqual(["b", "b"]);
    // From tunnel address to tunnel address, UDP 4794 to 4794.
    expect(Buffer.from(flows!.packet.bytes.subarray(8, 20)).toString("hex").slice(0, 4)).toBe("4011");
    expect([flows!.packet.source, flows!.packet.destination]).toEqual([NODES.a.tunnel, NODES.b.tunnel]);
    expect(Buffer.from(flows!.packet.l4.subarray(0, 6)).toString("hex")).toBe("12ba12ba0028");
    const sweep = Buffer.from(flows!.packet.l4.subarray(12, 16)).toString("hex");
    expect(Buffer.from(flows!.packet.l4.subarray(8)).toString("hex")).toBe(
      // version 1, one record; 192.168.2.99:40000, 192.168.2.36:8080, 10.1.69.193:80, TCP
      `01000001${sweep}00000000${"c0a80263c0a802240a0145c19c401f9000500600"}`,
    );
    expect(Buffer.from(end!.packet.l4.subarray(8)).toString("hex")).toBe(`01010000${sweep}00000001`);
  });

  it("many flows: whole messages that fit the MTU, in order, and their number", () => {
    serve(cluster, ["c1"]);
    open(
      "a",
      Array.from({ length: 200 }, (_, n) => 20_000 + n),
    );
    serve(cluster, ["b1"]);
    const messages = told();
    const counts = messages.map(({ packet }) => packet.l4[8 + 3]!);
    expect(counts).toEqual([66, 66, 66, 2, 0]);
    expect(Math.max(...messages.map(({ packet }) => packet.bytes.length))).toBeLessThanOrEqual(1450);
    expect(Buffer.from(messages.at(-1)!.packet.l4.subarray(16, 20)).readUInt32BE()).toBe(200);
    expect(counter("a", COUNT_FLOWS_SHARED)).toBe(200);
  });

  /** Connections to c1 by node a, which are established with one segment each way. */
  function crowd(count: number): void {
    for (let port = 20_000; port < 20_000 + count; port++) {
      const ends = { source: PC, destination: VIP, sourcePort: port, destinationPort: 8080 };
      const answer = { source: PODS.c1, destination: PC, sourcePort: 80, destinationPort: port };
      cluster.fromLan("a", tcpPacket({ ...ends, flags: ACK }, DATA));
      cluster.fromPod("c1", tcpPacket({ ...answer, flags: ACK }, DATA));
    }
  }

  it("more than are staged at once", () => {
    serve(cluster, ["c1"]);
    crowd(1500);
    serve(cluster, ["b1"]);
    cluster.tell(["a"]);
    expect(asleep("b")).toBe(1500);
  });

  it("less often the more there is to tell, but at once to a node that is back", () => {
    serve(cluster, ["c1"]);
    crowd(1500);
    serve(cluster, ["b1"]);
    expect(told(SWEEP_GAP_MS)).not.toHaveLength(0);
    // 1500 × (4 + 20) µs.
    serve(cluster, ["b2"]);
    expect(told(35)).toHaveLength(0);
    expect(told(1)).not.toHaveLength(0);
    cluster.setAlive("b", true);
    expect(told(SWEEP_GAP_MS)).not.toHaveLength(0);
  });

  it("at once when something has changed, else five times a second; nothing without an heir", () => {
    moved();
    expect(told(SWEEP_GAP_MS)).toHaveLength(2);
    expect(told(SWEEP_GAP_MS)).toHaveLength(0);
    expect(told(SWEEP_MS - 2 * SWEEP_GAP_MS)).toHaveLength(0);
    expect(told(SWEEP_GAP_MS)).toHaveLength(2);
    serve(cluster, ["b2"]);
    expect(told(SWEEP_GAP_MS - 1)).toHaveLength(0);
    expect(told(1)).toHaveLength(2);
    cluster.setOwners(["a"]);
    expect(told()).toHaveLength(0);
    cluster.setOwners(["b", "c"]);
    expect(told()).toHaveLength(0);
  });

  it("flows of one address to its next owner, of another to its own", () => {
    serve(cluster, ["c1"]);
    new Stream(cluster).open("a");
    new Stream(cluster, 41_000, OTHER_VIP).open("a");
    serve(cluster, ["b1"]);
    const messages = told();
    expect(messages.map(({ packet }) => packet.l4[8 + 3])).toEqual([2, 0]);
  });

  describe("are believed only from nodes of ours", () => {
    /** A message with one record, as b's owner sends it. */
    function message(change: (payload: Uint8Array) => Uint8Array = (payload) => payload): Uint8Array {
      const record = hex("c0a80263 c0a80224 0a0145c1 9c40 1f90 0050 06 00");
      return change(concat(hex("01 01 0001 00000005 00000001"), record));
    }
    const between = { source: NODES.a.tunnel, destination: NODES.b.tunnel };
    const udp = (payload: Uint8Array, fields = {}) =>
      udpPacket({ ...between, sourcePort: 4794, destinationPort: 4794, ...fields }, payload);

    beforeEach(() => {
      serve(cluster, ["b1"]);
    });

    it("a good one", () => {
      const hop = cluster.nodes.b.receive("a", udp(message()));
      expect([hop.dropped, hop.leaves, hop.received]).toEqual([[], [], 1]);
      expect(asleep("b")).toBe(1);
      expect([counter("b", COUNT_STANDBY_HEARD), counter("b", COUNT_STANDBY_REFUSED)]).toEqual([1, 0]);
    });

    const set = (at: number, value: number) => (payload: Uint8Array) => {
      payload[at] = value;
      return payload;
    };
    it.each<[string, (payload: Uint8Array) => Uint8Array, object?]>([
      ["another version", set(0, 2)],
      ["more records than it holds", set(3, 2)],
      ["fewer", set(3, 0)],
      ["cut off", (payload) => payload.subarray(0, 31)],
      ["without a header", (payload) => payload.subarray(0, 8)],
      ["empty", () => NOTHING],
      ["a wrong checksum", (payload) => payload, { l4Checksum: 0x1234 }],
      ["no checksum", (payload) => payload, { l4Checksum: 0 }],
      ["from a pod of that node", (payload) => payload, { source: PODS.a1 }],
    ])("not %s", (_, change, fields) => {
      const hop = cluster.nodes.b.receive("a", udp(message(change), fields));
      expect(hop.dropped).toEqual(["flowShare"]);
      expect(cluster.nodes.b.test.flows.size).toBe(0);
    });

    it("not through the VTEP of another node, nor one that is not podwire's", () => {
      expect(cluster.nodes.b.receive("c", udp(message())).dropped).toEqual(["vtepSource"]);
      expect(cluster.nodes.b.receive("c", udp(message(), { source: NODES.c.tunnel })).dropped).toEqual([]);
      const kernel = udp(message(), { source: "10.1.44.0" });
      expect(cluster.nodes.b.receive("k", kernel).dropped).toEqual(["flowShare"]);
    });

    it("not from a pod, by its own address or the node's", () => {
      for (const destination of [NODES.b.tunnel, NODES.b.underlay, NODES.a.tunnel]) {
        const { hops } = cluster.fromPod("a1", udp(message(), { source: PODS.a1, destination }));
        expect(hops.map(({ dropped }) => dropped)).toEqual([["podVxlan"]]);
      }
      expect(cluster.fromPod("a1", udp(message())).hops[0]!.dropped).toEqual(["forgedSource"]);
      expect(cluster.nodes.b.test.flows.size).toBe(0);
    });

    it.each<[string, number, string]>([
      ["an address that is none of ours", 12 + 4, "c0a80229"],
      ["a backend outside of the pods", 12 + 8, "c0a80263"],
      ["a pod as client", 12, "0a0145c1"],
      ["this node as client", 12, "c0a8021f"],
      ["loopback as client", 12, "7f000001"],
      ["a group as client", 12, "e0000001"],
      ["a pod behind a VTEP without tags", 12 + 8, "0a012c01"],
      ["no port of the client", 12 + 12, "00001f90"],
      ["no port asked for", 12 + 12, "9c400000"],
      ["no port of the backend, or a protocol without ports", 12 + 16, "00000600"],
      ["another protocol", 12 + 16, "00500100"],
    ])("not a record with %s", (_, at, bytes) => {
      const payload = message((each) => {
        each.set(hex(bytes), at);
        return each;
      });
      expect(cluster.nodes.b.receive("a", udp(payload)).dropped).toEqual([]);
      expect(cluster.nodes.b.test.flows.size).toBe(0);
      expect(counter("b", COUNT_STANDBY_REFUSED)).toBe(1);
    });

    it("not about flows of the owner's own", () => {
      kill(cluster, "a");
      const stream = new Stream(cluster).open("b");
      expect(stream.at).toBe("b1");
      cluster.setAlive("a", true);
      cluster.nodes.b.receive("a", udp(message()));
      stream.talk("b");
    });

    it("but of one that is left from before, where another is the owner", () => {
      const stream = new Stream(cluster).open("b");
      expect(stream.at).toBe("b1");
      cluster.nodes.b.receive("a", udp(message()));
      expect(asleep("b")).toBe(1);
    });

    it("only while a quarter of the table is free", () => {
      const { flows } = cluster.nodes.b.test;
      const records = (n: number) => {
        const some = Array.from({ length: 60 }, (_, r) => {
          const record = hex("c0a80263 c0a80224 0a0145c1 0000 1f90 0050 06 00");
          put16(record, 12, 1024 + 60 * n + r);
          return record;
        });
        const head = hex("01 00 003c 00000005 00000000");
        return concat(head, ...some);
      };
      for (let n = 0; n < 60; n++) cluster.nodes.b.receive("a", udp(records(n)));
      expect(asleep("b")).toBe((flows.capacity * 3) / 4);
      expect(counter("b", COUNT_STANDBY_REFUSED)).toBe(3600 - (flows.capacity * 3) / 4);
    });

    it("several in one train", () => {
      const { test } = cluster.nodes.b;
      const before = counter("b", COUNT_STANDBY_HEARD);
      for (let n = 0; n < 3; n++) cluster.nodes.b.receive("a", udp(message(set(12 + 13, n))));
      expect(counter("b", COUNT_STANDBY_HEARD) - before).toBe(3);
      expect(test.flows.size).toBe(3);
    });
  });
});

describe("what is told of no longer", () => {
  it("is forgotten when a sweep without it has come whole", () => {
    const stream = moved();
    cluster.tell(["a"]);
    expect(asleep("b")).toBe(1);
    stream.client("a", FIN | ACK);
    stream.server(FIN | ACK);
    stream.client("a", ACK);
    cluster.tell(["a"], SWEEP_MS);
    expect(asleep("b")).toBe(0);
  });

  it("is kept where a message was lost, and comes again", () => {
    serve(cluster, ["c1"]);
    const streams = open("a");
    serve(cluster, ["b1"]);
    cluster.tell(["a"]);
    expect(asleep("b")).toBe(PORTS.length);
    let first = true;
    const lost = () => {
      const is = first;
      first = false;
      return !is;
    };
    cluster.tell(["a"], SWEEP_MS, lost);
    expect(asleep("b")).toBe(PORTS.length);
    cluster.tell(["a"], SWEEP_MS, ({ packet }) => packet.l4[8 + 1] === 0);
    expect(asleep("b")).toBe(PORTS.length);
    cluster.tell(["a"], SWEEP_MS);
    kill(cluster, "a");
    for (const stream of streams) stream.talk("b");
  });

  it("is kept by who owns the address meanwhile, whatever the old owner says", () => {
    const stream = moved();
    cluster.tell(["a"]);
    serve(cluster, ["c1"]);
    // The old owner still thinks it is that; the connection is by the ring again, so it names none.
    const messages = cluster.nodes.a.tell(SWEEP_MS);
    kill(cluster, "a");
    for (const { packet } of messages) cluster.nodes.b.receive("a", packet.bytes);
    cluster.nodes.b.forget();
    expect(asleep("b")).toBe(1);
    stream.talk("b");
  });

  it("is not taken for what a sweep tells that has begun since", () => {
    moved();
    cluster.tell(["a"]);
    const { a, b } = cluster.nodes;
    for (const { packet } of a.tell(SWEEP_MS)) b.receive("a", packet.bytes);
    // Before b has looked at its flows, the next sweep tells of another one.
    serve(cluster, ["c1"]);
    new Stream(cluster, 41_000).open("a");
    serve(cluster, ["b1"]);
    b.receive("a", a.tell(SWEEP_MS)[0]!.packet.bytes);
    b.forget();
    expect(asleep("b")).toBe(2);
  });

  it("goes within a day", () => {
    moved();
    cluster.tell(["a"]);
    cluster.pass(86_399_000);
    expect(asleep("b")).toBe(1);
    cluster.pass(3000);
    expect(asleep("b")).toBe(0);
  });

  it("follows the endpoint that it is told of last", () => {
    const stream = moved();
    cluster.tell(["a"]);
    stream.client("a", FIN | ACK);
    stream.server(FIN | ACK);
    stream.client("a", ACK);
    cluster.pass(121_000);
    serve(cluster, ["b2"]);
    const again = new Stream(cluster).open("a");
    serve(cluster, ["b1"]);
    cluster.tell(["a"], SWEEP_MS);
    kill(cluster, "a");
    expect(again.at).toBe("b2");
    again.talk("b");
  });
});

it("a reset for a standby flow's connection goes to its server", () => {
  const stream = moved();
  cluster.tell(["a"]);
  kill(cluster, "a");
  const { arrivals } = cluster.fromLan("b", stream.segment(RST | ACK));
  expect(arrivals[0]!.at).toBe("c1");
});
