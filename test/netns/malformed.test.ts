/**
 * What podwire must not believe: from the LAN and from its own pod, through real sockets.
 *
 *   node A: podwire                           node B's address: a VTEP in A's config, here a plain
 *   ┌─────────────┐      192.168.2.0/24       host that sends prepared datagrams
 *   │ pod a1 ─TAP─┤ eth0 ──── br0 ──── eth0 ─ .31
 *   └─▲───────────┘            └────── eth0 ─ .40  a stranger
 *     └ raw frames by a packet socket
 *
 * Every case says which counter it belongs to; nothing else may change. Then thousands of seeded
 * random and mutated packets: no reason is predicted, but the accounts must stay even, and the agent
 * must go on as if nothing had been.
 */
import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GATEWAY_MAC, vtepMac } from "../../src/desired/mac.js";
import { PODWIRE, type TestAgent } from "../support/agent.js";
import {
  ARP,
  arp,
  concat,
  ethernet,
  IPV4,
  IPV6,
  icmpPacket,
  ipv4,
  NO_MAC,
  patched,
  TCP,
  tcpPacket,
  type UdpFields,
  udpPacket,
  vxlan,
} from "../support/frames.js";
import { netnsUnavailable, TestNet, waitFor } from "../support/netns.js";
import {
  A,
  B,
  evenCounters,
  HOST,
  type Lan,
  makeLan,
  type NodePlan,
  startNode,
  VNI,
} from "../support/overlay.js";
import { requirePrograms } from "../support/programs.js";
import { Random } from "../support/random.js";
import {
  kernelCounter,
  type Peer,
  ping,
  sendDatagrams,
  sendFrames,
  startServers,
  UDP_PORT,
} from "../support/traffic.js";

const why = netnsUnavailable();
const skipped = why && ` (skipped: ${why})`;
const PORT = 4789;
const A1 = A.pods.a1!;
const B1 = B.pods.b1!;
/** A third node, which nobody plays. */
const C: NodePlan = {
  name: "node-c",
  address: "192.168.2.32",
  block: "10.1.44.0/26",
  tunnel: "10.1.44.0",
  pods: {},
};
const C1 = "10.1.44.5";
const OUTSIDE = "203.0.113.9";
/** Addresses that are never routed: 127/8, 0/8, 240/4. */
const NEVER = ["127.0.0.1", "0.0.0.1", "240.0.0.1"];
const DATA = Buffer.alloc(100, "podwire ");

type Reasons = Record<string, number>;

// ---- packets ------------------------------------------------------------------------------------

function udp(source: string, destination: string, fields: Partial<UdpFields> = {}): Uint8Array {
  return udpPacket({ source, destination, sourcePort: 5000, destinationPort: UDP_PORT, ...fields }, DATA);
}

function tcp(source: string, destination: string, dataOffset: number): Uint8Array {
  return tcpPacket({ source, destination, sourcePort: 5000, destinationPort: 5001, dataOffset }, DATA);
}

function echo(source: string, destination: string, ttl = 64): Uint8Array {
  return icmpPacket({ source, destination, ttl, type: 8, rest: 0x1234_0001 }, DATA);
}

/** As VTEP B sends it. */
function fromB(packet: Uint8Array, type = IPV4, mac = vtepMac(A.name)): Uint8Array {
  return vxlan(VNI, ethernet(mac, vtepMac(B.name), type, packet));
}

/** As pod a1's kernel would send it. */
function fromPod(packet: Uint8Array, type = IPV4, mac = GATEWAY_MAC): Uint8Array {
  return ethernet(mac, "02:70:0a:01:eb:d3", type, packet);
}

function arpRequest(target: string): Uint8Array {
  return arp({ operation: 1, senderMac: vtepMac(B.name), sender: B.tunnel, targetMac: NO_MAC, target });
}

const good = fromB(udp(B1, A1));
const wrongHardware = patched(arpRequest(A.tunnel), 0, [0, 6]);
const cutIp = udp(B1, A1).subarray(0, 60);

/** IPv4 and above: the same faults from either side; `wrap` puts a frame around a packet. */
function packetFaults(
  source: string,
  destination: string,
  wrap: (packet: Uint8Array) => Uint8Array,
): [string, Uint8Array[], Reasons][] {
  const header = { source, destination };
  return [
    ["less than an IPv4 header", [wrap(Buffer.alloc(19, 0x45)), wrap(Buffer.alloc(0))], { runt: 2 }],
    [
      "an IPv4 header that contradicts the frame",
      [
        wrap(udp(source, destination, { version: 6 })),
        wrap(udp(source, destination, { headerWords: 4 })),
        wrap(udp(source, destination, { total: 19 })),
        wrap(udp(source, destination, { total: 129 })),
        wrap(ipv4({ ...header, headerWords: 15 }, Buffer.alloc(8))),
      ],
      { malformedIpv4: 5 },
    ],
    [
      "an IPv4 header checksum that is wrong",
      [wrap(udp(source, destination, { checksum: 1 }))],
      { ipv4Checksum: 1 },
    ],
    [
      "TCP and UDP lengths that contradict the packet",
      [
        wrap(udp(source, destination, { udpLength: 7 })),
        wrap(udp(source, destination, { udpLength: 109 })),
        wrap(tcp(source, destination, 4)),
        wrap(tcp(source, destination, 15).subarray(0, 54)),
        wrap(ipv4(header, Buffer.alloc(7))),
        wrap(ipv4({ ...header, protocol: TCP }, Buffer.alloc(19))),
        // A first fragment that hides its ports (RFC 1858).
        wrap(ipv4({ ...header, fragment: 0x2000 }, Buffer.alloc(4))),
      ],
      { malformedL4: 6, malformedIpv4: 1 },
    ],
    [
      "destinations that are never routed",
      NEVER.map((address) => wrap(udp(source, address))),
      { martian: NEVER.length },
    ],
    [
      "sources that are never routed",
      NEVER.map((address) => wrap(udp(address, destination))),
      { martian: 3 },
    ],
    ["a group address as source", [wrap(udp("224.0.0.1", destination))], { martian: 1 }],
    ["a group address as destination", [wrap(udp(source, "224.0.0.251"))], { multicast: 1 }],
    ["a destination without a route", [wrap(udp(source, OUTSIDE))], { noRoute: 1 }],
    ["an address of our block that nobody has", [wrap(udp(source, "10.1.235.230"))], { hostUnreachable: 1 }],
    [
      "a TTL that ends here",
      [wrap(udp(source, destination, { ttl: 1 })), wrap(udp(source, destination, { ttl: 0 }))],
      { ttlExceeded: 2 },
    ],
  ];
}

const FROM_KNOWN: [string, Uint8Array[], Reasons][] = [
  ["a right one", [good], {}],
  ["less than VXLAN and Ethernet", [0, 1, 7, 8, 21].map((n) => good.subarray(0, n)), { runt: 5 }],
  ["no VNI flag", [vxlan(VNI, good.subarray(8), 0), vxlan(VNI, good.subarray(8), 0xf7)], { vxlanHeader: 2 }],
  [
    "another VNI",
    [0, 1, VNI - 1, VNI + 1, 0xffffff].map((vni) => vxlan(vni, good.subarray(8))),
    { wrongVni: 5 },
  ],
  ["another VTEP's MAC", [fromB(udp(B1, A1), IPV4, vtepMac(C.name))], { wrongMac: 1 }],
  [
    "broadcast and group frames that are not ARP",
    ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb"].map((mac) => fromB(udp(B1, A1), IPV4, mac)),
    { multicast: 2 },
  ],
  ["what is not carried", [IPV6, 0x8100, 0x0101].map((type) => fromB(udp(B1, A1), type)), { etherType: 3 }],
  ["a truncated inner frame", [fromB(cutIp)], { malformedIpv4: 1 }],
  [
    "an inner source that does not belong behind the sender",
    [
      A1, // a pod of ours
      "10.1.235.230", // our block
      C1, // another VTEP's
      C.tunnel,
      "10.1.200.1", // the pool, nobody's
      A.address, // nodes
      B.address,
      C.address,
      "169.254.1.1", // the gateway
    ].map((source) => fromB(udp(source, A1))),
    { vtepSource: 9 },
  ],
  [
    "a destination behind a VTEP",
    [C1, C.tunnel, B1, B.tunnel].map((destination) => fromB(udp(B1, destination))),
    { transit: 4 },
  ],
  [
    "ARP that is cut or not for Ethernet and IPv4",
    [fromB(arpRequest(A.tunnel).subarray(0, 27), ARP), fromB(wrongHardware, ARP)],
    { malformedArp: 2 },
  ],
  [
    "ARP for somebody else",
    [fromB(arpRequest(C.tunnel), ARP), fromB(arpRequest(A1), ARP)],
    { arpIgnored: 2 },
  ],
  ...packetFaults(B1, A1, fromB),
];

const FROM_POD: [string, Uint8Array[], Reasons][] = [
  ["a right one", [fromPod(udp(A1, A.tunnel))], {}],
  [
    "a source that is not the pod's own",
    [A.pods.a2!, "10.1.235.230", B1, A.tunnel, A.address, B.address, OUTSIDE, "169.254.1.1"].map((source) =>
      fromPod(udp(source, A.tunnel)),
    ),
    { forgedSource: 8 },
  ],
  [
    "VXLAN to a VTEP, by each of its addresses",
    [A, B, C]
      .flatMap(({ address, tunnel }) => [address, tunnel])
      .map((destination) =>
        fromPod(udpPacket({ source: A1, destination, sourcePort: PORT, destinationPort: PORT }, good)),
      ),
    { podVxlan: 6 },
  ],
  [
    "VXLAN to a VTEP, in fragments",
    [
      fromPod(
        udpPacket(
          {
            source: A1,
            destination: A.address,
            sourcePort: PORT,
            destinationPort: PORT,
            fragment: 0x2000,
            udpLength: 1000,
          },
          good,
        ),
      ),
    ],
    { podVxlan: 1 },
  ],
  ["a MAC that nobody has", [fromPod(udp(A1, B1), IPV4, vtepMac(A.name))], { wrongMac: 1 }],
  [
    "broadcast and group frames",
    ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb"].map((mac) => fromPod(udp(A1, B1), IPV4, mac)),
    { multicast: 2 },
  ],
  ["what is not carried", [IPV6, 0x8100].map((type) => fromPod(udp(A1, B1), type)), { etherType: 2 }],
  ...packetFaults(A1, B1, fromPod),
];

/** `count` packets: right ones of many kinds, most of them changed, cut, lengthened or replaced. */
function mutated(seed: number, count: number, base: Uint8Array[]): Uint8Array[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => {
    let packet: Uint8Array = Uint8Array.from(random.pick(base));
    const kind = random.below(8);
    if (kind === 0) packet = packet.subarray(0, random.below(packet.length + 1));
    if (kind === 1) packet = concat(packet, new Uint8Array(random.below(600)).fill(random.below(256)));
    if (kind === 2) packet = random.bytes(random.below(200));
    if (kind >= 3 && kind < 7)
      for (let n = random.between(1, 4); n > 0; n--) packet[random.below(packet.length)] = random.below(256);
    return packet;
  });
}

function bases(
  source: string,
  destination: string,
  wrap: (packet: Uint8Array, type?: number) => Uint8Array,
): Uint8Array[] {
  const header = { source, destination };
  return [
    wrap(udp(source, destination)),
    wrap(udp(source, A.tunnel)),
    wrap(tcp(source, destination, 5)),
    wrap(echo(source, destination)),
    wrap(echo(source, A.tunnel, 2)),
    wrap(ipv4({ ...header, protocol: 132 }, DATA)),
    wrap(udp(source, destination, { fragment: 0x2000 })),
    wrap(ipv4({ ...header, fragment: 0x0010 }, DATA)),
    wrap(arpRequest(A.tunnel), ARP),
  ];
}

// ---- the tests ------------------------------------------------------------------------------------

describe.skipIf(why !== "")(`malformed and forged input${skipped}`, () => {
  const net = new TestNet();
  let lan: Lan;
  let agent: TestAgent;
  let known: Peer;
  let a1: string;

  /** Sends, and returns by how much each drop counter grew once all is accounted for. */
  async function dropsOf(packets: number, send: () => Promise<unknown>): Promise<Reasons> {
    const before = await evenCounters(agent);
    await send();
    await waitFor(async () => (await agent.request("counters")).received >= before.received + packets, {
      what: `${packets} packets received`,
    });
    const after = await evenCounters(agent);
    const grown = Object.entries<number>(after.dropped)
      .map(([reason, n]) => [reason, n - (before.dropped[reason] ?? 0)] as const)
      .filter(([, n]) => n > 0);
    return Object.fromEntries(grown);
  }

  beforeAll(async () => {
    requirePrograms("ping", "python3");
    lan = await makeLan(net);
    agent = await startNode(net, lan, A, [B, C], { tunnelGso: "off" });
    known = { ns: lan.node[B.name]!, address: B.address };
    a1 = lan.pod.a1!;
    await startServers(net, a1);
  });
  afterAll(() => net.cleanup());

  it("a datagram from a stranger", async () => {
    const stranger = { ns: lan.host, address: HOST };
    const packets = [good, fromB(arpRequest(A.tunnel), ARP), Buffer.alloc(3)];
    const drops = await dropsOf(3, () => sendDatagrams(net, stranger, PORT, A.address, PORT, packets));
    expect(drops).toEqual({ unknownVtep: 3 });
  });

  it.each(FROM_KNOWN)("from a VTEP: %s", async (_, packets, reasons) => {
    const drops = await dropsOf(packets.length, () =>
      sendDatagrams(net, known, PORT, A.address, PORT, packets),
    );
    expect(drops).toEqual(reasons);
  });

  it.each(FROM_POD)("from a pod: %s", async (_, packets, reasons) => {
    const drops = await dropsOf(packets.length, () => sendFrames(net, a1, "eth0", packets));
    expect(drops).toEqual(reasons);
  });

  it("a wrong inner checksum in a train of right ones stays wrong", async () => {
    const udpCounters = async () => ({
      taken: await kernelCounter(net, a1, "Udp", "InDatagrams"),
      wrong: await kernelCounter(net, a1, "Udp", "InCsumErrors"),
    });
    const train = Array.from({ length: 20 }, () => Buffer.from(good));
    train[7]![train[7]!.length - 1]! ^= 1;
    const before = await udpCounters();
    const { unmerged } = (await agent.request("counters")).other;
    await sendDatagrams(net, known, PORT, A.address, PORT, train, "train");
    const after = await waitFor(
      async () => {
        const now = await udpCounters();
        return now.taken + now.wrong >= before.taken + before.wrong + train.length ? now : null;
      },
      { what: "the train in the pod" },
    );
    expect(after.taken - before.taken).toBe(train.length - 1);
    expect(after.wrong - before.wrong).toBe(1);
    const { uso } = (await agent.request("status")).dataplane;
    if (uso) expect((await agent.request("counters")).other.unmerged).toBe(unmerged + 1);
  });

  it("20,000 random datagrams from a VTEP", async () => {
    const base = bases(B1, A1, fromB);
    for (let chunk = 0; chunk < 20; chunk++)
      await dropsOf(1000, () => sendDatagrams(net, known, PORT, A.address, PORT, mutated(chunk, 1000, base)));
    expect((await evenCounters(agent)).received).toBeGreaterThanOrEqual(20_000);
  });

  it("5,000 random frames from a pod", async () => {
    const base = bases(A1, B1, fromPod);
    for (let chunk = 0; chunk < 5; chunk++) {
      // A packet socket does not send what is shorter than an Ethernet header.
      const packets = mutated(100 + chunk, 1000, base).filter(({ length }) => length >= 14);
      await dropsOf(packets.length, async () => {
        expect(await sendFrames(net, a1, "eth0", packets)).toBe(packets.length);
      });
    }
  });

  it("the agent is none the worse for it", async () => {
    expect(agent.process.code).toBeNull();
    await ping(net, a1, A.tunnel, [56, 1400]);
    await ping(net, lan.node[A.name]!, A1, [56, 1400]);
    const log = agent.process.stderr.split("\n").filter((line) => /"level":"(error|fatal)"/.test(line));
    expect(log).toEqual([]);
    const json = execFileSync(
      process.execPath,
      [PODWIRE, "status", "--state-dir", agent.stateDir, "--json"],
      {
        encoding: "utf8",
      },
    );
    const { pid, counters } = JSON.parse(json);
    expect(pid).toBe(agent.process.pid);
    expect(counters.dropped).not.toHaveProperty("internalError");
    const dropped = Object.values<number>(counters.dropped).reduce((sum, n) => sum + n, 0);
    expect(counters.received).toBe(counters.forwarded + counters.answered + dropped);
  });
});
