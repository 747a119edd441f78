/**
 * Malformed input: seeded mutations of valid frames into TAPs of pods and of the node, and into the
 * tunnel. After every breath:
 *
 *   - every frame is accounted for: received = forwarded + answered + Σ dropped, and no fault
 *   - every frame that was sent stands up to a third party: IPv4 header checksum, lengths, inner and
 *     outer MACs, virtio-net header, size of the overlay, an address that belongs where it went
 *   - Services are there, with backends here, elsewhere and outside, and flows of all that came before
 *   - its data came in with this breath: nothing of another breath or another place leaks out, but for
 *     fragments that waited for the first of their packet
 *   - receive memory outside frames and the headroom that may be written is untouched
 *
 * Throws on the first violation, with what is needed to repeat it.
 */
import { ARENA, HEADROOM, TAP_BUDGET, UDP_SLOT_BYTES, UDP_SLOTS } from "../../src/packet/layout.js";
import { ZERO_SLOT } from "../../src/packet/TxPlan.js";
import type { Sent } from "../../src/port/MemoryIo.js";
import {
  accounted,
  FRAME,
  fromVtep,
  GSO_MAC,
  GSO_PORT,
  MASTER,
  NODE_PORT,
  OTHER_POD_PORT,
  type Outcome,
  POD_PORT,
  TestNode,
  TUNNEL_PORT,
  VNI,
  WORKER01,
  WORKER02,
} from "./dataplane.js";
import {
  ACK,
  ARP,
  address,
  arp,
  BROADCAST,
  concat,
  counting,
  datagrams,
  ethernet,
  GATEWAY,
  get16,
  hex,
  ICMP,
  IPV4,
  IPV6,
  icmpPacket,
  ipv4,
  kernelFrames,
  NO_MAC,
  onesSum,
  type Packet,
  PSH,
  put16,
  put32,
  readFrame,
  readTunnelGso,
  readVxlan,
  SYN,
  TCP,
  tcpPacket,
  toHex,
  UDP,
  udpPacket,
  vnet,
  vnetPartial,
  vxlan,
} from "./frames.js";
import { SCTP, SCTP_INIT, sctpPacket } from "./model/packets.js";
import { Random } from "./random.js";
import { serviceImage, type TestBackend, type TestFrontend } from "./services.js";

/** Something that arrives: a frame with its virtio-net header, or a datagram or train. */
export interface Input {
  port: number;
  bytes: Uint8Array;
  /** Tunnel only. */
  segment: number;
  peer: number;
}

export interface FuzzTotals {
  mutations: number;
  breaths: number;
  sent: number;
  forwarded: number;
  answered: number;
  dropped: Record<string, number>;
}

const VTEPS = [WORKER01, WORKER02];
const CLUSTER_IP = "10.152.183.7";
const NO_ENDPOINTS = "10.152.183.8";
const VIP = "192.168.2.36";
const PC = "192.168.2.99";
const OUTSIDE = "203.0.113.1";
const CANARY = 0xa5;
/** Bytes in front of a TAP frame's virtio-net header that outer headers may be written into. */
const OUTER_HEADERS = 64;
/** Bytes behind the last frame that are watched. */
const WATCHED = 256;
/** Frames that arrive in one breath, at most. */
const MOST = 12;

// ---- valid frames -----------------------------------------------------------------------------

function tap(port: number, packet: Uint8Array, header = vnet()): Input {
  const mac = port === NODE_PORT ? MASTER.vtepMac : port === POD_PORT ? MASTER.podMac : MASTER.otherPodMac;
  return { port, bytes: concat(header, ethernet(GATEWAY, mac, IPV4, packet)), segment: 0, peer: 0 };
}

function tunnel(packets: readonly Uint8Array[], segment?: number, from = WORKER01): Input {
  const frames = packets.map((packet) => fromVtep(from, packet));
  return {
    port: TUNNEL_PORT,
    bytes: concat(...frames),
    segment: segment ?? frames[0].length,
    peer: address(from.underlay),
  };
}

function templates(): Input[] {
  const { pod, otherPod, podMac, vtepMac } = MASTER;
  const inward = { source: WORKER01.pod, destination: pod };
  const partial = { l4Checksum: "partial" } as const;
  const options = hex("94040000");
  const asks = (senderMac: string, sender: string, target: string) =>
    ethernet(BROADCAST, senderMac, ARP, arp({ operation: 1, senderMac, sender, targetMac: NO_MAC, target }));
  const list: Input[] = [];
  for (const port of [POD_PORT, OTHER_POD_PORT, NODE_PORT]) {
    const source = port === POD_PORT ? pod : port === OTHER_POD_PORT ? otherPod : MASTER.tunnel;
    for (const destination of [
      WORKER01.pod,
      WORKER02.tunnel,
      pod,
      MASTER.tunnel,
      "203.0.113.1",
      "10.1.235.222",
    ]) {
      const way = { source, destination };
      list.push(tap(port, udpPacket(way, counting(64))));
      list.push(tap(port, udpPacket({ ...way, ...partial }, counting(65)), vnetPartial(UDP)));
      list.push(
        tap(
          port,
          tcpPacket({ ...way, ...partial, flags: ACK | PSH }, counting(3000)),
          vnetPartial(TCP, 1000),
        ),
      );
      list.push(tap(port, udpPacket({ ...way, ...partial }, counting(2000)), vnetPartial(UDP, 333)));
    }
    const way = { source, destination: WORKER01.pod };
    list.push(tap(port, icmpPacket({ ...way, type: 8 }, counting(56))));
    list.push(tap(port, udpPacket({ ...way, fragment: 0 }, counting(2900))));
    list.push(tap(port, udpPacket(way, counting(1423))));
    list.push(tap(port, tcpPacket({ ...way, options, tcpOptions: options }, counting(40))));
    list.push(
      tap(port, tcpPacket({ ...way, options, ...partial }, counting(2000)), vnetPartial(TCP, 900, 38)),
    );
    list.push(tap(port, ipv4({ ...way, protocol: UDP, fragment: 0x2005 }, counting(80))));
    list.push(tap(port, ipv4({ ...way, protocol: 132 }, counting(80))));
    list.push({ port, bytes: concat(vnet(), asks(podMac, source, "169.254.1.1")), segment: 0, peer: 0 });
    list.push({
      port,
      bytes: concat(vnet(), ethernet(GATEWAY, podMac, IPV6, counting(60))),
      segment: 0,
      peer: 0,
    });
  }
  for (const destination of [WORKER01.underlay, WORKER02.tunnel, MASTER.underlay]) {
    list.push(tap(POD_PORT, udpPacket({ source: pod, destination, destinationPort: 4789 }, counting(60))));
  }
  const long = { source: pod, destination: WORKER01.pod, fragment: 0, options };
  list.push(tap(POD_PORT, udpPacket(long, counting(1500))));
  list.push(...serviceTemplates());
  // A TAP that the tables do not know.
  list.push({ ...list[0], port: GSO_PORT });
  for (const destination of [pod, otherPod, MASTER.tunnel]) {
    const way = { ...inward, destination };
    const stream = (n: number, size = 100) => tcpPacket({ ...way, sequence: n * 100 }, counting(size, n));
    list.push(tunnel([stream(0)]));
    list.push(tunnel(Array.from({ length: 20 }, (_, n) => stream(n))));
    list.push(tunnel([stream(0), stream(1), stream(2, 33)]));
    list.push(tunnel(Array.from({ length: 9 }, (_, n) => udpPacket({ ...way, id: n }, counting(70, n)))));
    list.push(
      tunnel([0, 1, 2].map((n) => tcpPacket({ ...way, ...partial, sequence: n * 50 }, counting(50)))),
    );
    list.push(tunnel([tcpPacket({ ...way, ...partial }, counting(4000))]));
    list.push(tunnel([tcpPacket({ ...way, options }, counting(50))]));
    list.push(tunnel([udpPacket({ ...way, ...partial }, counting(2500))], 1000));
    list.push(tunnel([udpPacket({ ...way, ...partial, options }, counting(2500))], 1000));
    list.push(tunnel([ipv4({ ...way, protocol: UDP, fragment: 0x0007 }, counting(60))]));
    list.push(tunnel([icmpPacket({ ...way, type: 0 }, counting(56))]));
    list.push(tunnel([udpPacket({ ...way, ttl: 1 }, counting(20))]));
  }
  list.push(tunnel([udpPacket({ ...inward, source: WORKER02.pod }, counting(20))], undefined, WORKER02));
  list.push(tunnel([udpPacket({ ...inward, destination: "10.1.235.222" }, counting(20))]));
  list.push({
    ...list.at(-1)!,
    bytes: vxlan(VNI, asks(WORKER01.vtepMac, WORKER01.tunnel, MASTER.tunnel)),
    segment: 50,
  });
  list.push({ ...list.at(-1)!, bytes: vxlan(VNI, ethernet(vtepMac, WORKER01.vtepMac, IPV6, counting(50))) });
  return list;
}

/** Traffic of Services in all directions: questions, and what comes back where flows have begun. */
function serviceTemplates(): Input[] {
  const list: Input[] = [];
  const partial = { l4Checksum: "partial" } as const;
  const asked: [string, number][] = [
    [CLUSTER_IP, 80],
    [CLUSTER_IP, 81],
    [NO_ENDPOINTS, 80],
    [VIP, 80],
    [MASTER.underlay, 30080],
    [MASTER.underlay, 61_000],
    [OUTSIDE, 443],
  ];
  const senders: [number, string][] = [
    [POD_PORT, MASTER.pod],
    [OTHER_POD_PORT, MASTER.otherPod],
    [NODE_PORT, MASTER.tunnel],
    [NODE_PORT, MASTER.underlay],
    [NODE_PORT, PC],
    [NODE_PORT, OUTSIDE],
  ];
  for (const [port, source] of senders) {
    for (const [destination, destinationPort] of asked) {
      const way = { source, destination, destinationPort };
      list.push(tap(port, tcpPacket({ ...way, flags: SYN, acknowledgement: 0 }, new Uint8Array(0))));
      list.push(tap(port, tcpPacket({ ...way, ...partial }, counting(3000)), vnetPartial(TCP, 1000)));
      list.push(tap(port, udpPacket({ ...way, ...partial }, counting(2000)), vnetPartial(UDP, 333)));
      list.push(tap(port, sctpPacket({ ...way, chunk: SCTP_INIT, initiateTag: 7 }, new Uint8Array(0))));
      list.push(tap(port, udpPacket({ ...way, id: 77, fragment: 0x2000 }, counting(72))));
      list.push(tap(port, ipv4({ ...way, id: 77, protocol: UDP, fragment: 0x000a }, counting(40))));
      const seen = { source, destination: WORKER01.pod, destinationPort: 8080 };
      const cause = udpPacket(seen, counting(30));
      list.push(tunnel([icmpPacket({ source: WORKER01.pod, destination: source, type: 3, code: 3 }, cause)]));
    }
  }
  for (const destination of [MASTER.pod, MASTER.tunnel, PC, MASTER.underlay]) {
    const back = { source: WORKER01.pod, sourcePort: 8080, destination, destinationPort: 40_000 };
    const replies = Array.from({ length: 5 }, (_, n) =>
      tcpPacket({ ...back, sequence: n * 100 }, counting(100, n)),
    );
    list.push(tunnel(replies));
    list.push(tunnel([udpPacket(back, counting(90))]));
    list.push(tunnel([tcpPacket({ ...back, ...partial }, counting(4000))]));
  }
  // Of a client of another node, with a tag.
  for (const destination of [MASTER.pod, MASTER.otherPod, "10.1.235.222"]) {
    const packet = tcpPacket(
      { source: PC, destination, destinationPort: 8080, flags: SYN },
      new Uint8Array(0),
    );
    const frame = ethernet(MASTER.vtepMac, "02:74:01:02:03:04", IPV4, packet);
    const bytes = vxlan(VNI, frame);
    list.push({ port: TUNNEL_PORT, bytes, segment: bytes.length, peer: address(WORKER02.underlay) });
  }
  for (const [port, source] of [
    [POD_PORT, MASTER.pod],
    [OTHER_POD_PORT, MASTER.otherPod],
  ] as const) {
    const back = { source, sourcePort: 8080, destinationPort: 40_000 };
    for (const destination of [PC, MASTER.tunnel, WORKER01.pod, OUTSIDE]) {
      list.push(
        tap(port, tcpPacket({ ...back, destination, ...partial }, counting(3000)), vnetPartial(TCP, 900)),
      );
      list.push(tap(port, udpPacket({ ...back, destination }, counting(80))));
    }
  }
  return list;
}

function frontends(): TestFrontend[] {
  const here: TestBackend = { address: MASTER.pod, l4Port: 8080, local: true };
  const other: TestBackend = { address: MASTER.otherPod, l4Port: 8080, local: true };
  const remote: TestBackend = { address: WORKER01.pod, l4Port: 8080 };
  const outside: TestBackend = { address: OUTSIDE, l4Port: 8443, outside: true };
  const gone: TestBackend = { address: "10.1.235.222", l4Port: 8080, local: true };
  return [TCP, UDP, SCTP].flatMap((protocol): TestFrontend[] => [
    { kind: "clusterIp", address: CLUSTER_IP, protocol, l4Port: 80, inside: [here, other, remote, outside] },
    { kind: "clusterIp", address: NO_ENDPOINTS, protocol, l4Port: 80, inside: "reject" },
    { kind: "loadBalancer", address: VIP, protocol, l4Port: 80, inside: [remote, gone], affinitySeconds: 60 },
    { kind: "nodePort", protocol, l4Port: 30080, inside: [here, remote], outside: [other] },
  ]);
}

// ---- mutations --------------------------------------------------------------------------------

const WORDS = [
  0, 1, 6, 16, 19, 20, 34, 40, 48, 54, 64, 576, 1410, 1450, 1472, 0x0800, 0x0806, 0x2000, 0x4000, 0x4500,
  0x4600, 0x4f00, 0x7fff, 0x8000, 0xfffe, 0xffff,
];
const ADDRESSES = [
  MASTER.pod,
  MASTER.otherPod,
  MASTER.tunnel,
  MASTER.underlay,
  WORKER01.pod,
  WORKER01.tunnel,
  WORKER01.underlay,
  WORKER02.pod,
  "10.1.235.222",
  "203.0.113.1",
  "127.0.0.1",
  "224.0.0.1",
  CLUSTER_IP,
  NO_ENDPOINTS,
  VIP,
  PC,
  "255.255.255.255",
  "0.0.0.0",
  "169.254.1.1",
].map(address);

/** Start of the IPv4 header of the first frame of an input. */
const l3Of = (input: Input) => (input.port === TUNNEL_PORT ? 22 : 24);

/** Changes one thing. Returns the bytes, which may be others. */
function mutateOnce(random: Random, input: Input, pool: readonly Input[]): Uint8Array {
  const { bytes } = input;
  const at =
    bytes.length === 0 ? 0 : random.below(random.oneIn(3) ? bytes.length : Math.min(bytes.length, 80));
  const l3 = l3Of(input);
  switch (random.below(12)) {
    case 0:
    case 1:
      if (bytes.length > 0) bytes[at] ^= 1 << random.below(8);
      return bytes;
    case 2:
      if (bytes.length > 0) bytes[at] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
      return bytes;
    case 3:
      if (at + 2 <= bytes.length) put16(bytes, at & ~1, random.pick(WORDS));
      return bytes;
    case 4:
      return bytes.slice(
        0,
        random.oneIn(2) ? at : bytes.length - random.below(Math.min(20, bytes.length + 1)),
      );
    case 5:
      return concat(bytes, random.bytes(random.between(1, random.oneIn(5) ? 2000 : 40)));
    case 6:
      if (input.port === TUNNEL_PORT) {
        if (random.oneIn(3)) input.peer = random.oneIn(2) ? random.pick(ADDRESSES) : random.word();
        else input.segment = random.oneIn(2) ? random.pick(WORDS) : random.below(bytes.length + 10);
      } else if (bytes.length >= 10) {
        const field = random.below(6);
        if (field < 2) bytes[field] = random.pick([0, 1, 2, 3, 4, 5, 0x20, 0x21, 0x80, 0x81, 0xff]);
        else new DataView(bytes.buffer).setUint16(2 * field - 2, random.pick(WORDS), true);
      }
      return bytes;
    case 7:
      if (bytes.length >= l3 + 20) put32(bytes, l3 + (random.oneIn(2) ? 12 : 16), random.pick(ADDRESSES));
      return bytes;
    case 8:
      if (bytes.length >= l3 + 20) {
        const [offset, values] = random.pick([
          [0, [0x44, 0x46, 0x4f, 0x65]],
          [6, [0, 0x20, 0x40, 0x1f]],
          [8, [0, 1, 2, 255]],
          [9, [ICMP, TCP, UDP, 132]],
        ] as const);
        bytes[l3 + offset] = random.pick(values);
      }
      return bytes;
    case 9:
      // The head of another frame in front of this one's rest: headers of different layers meet.
      return concat(random.pick(pool).bytes.subarray(0, at), bytes.subarray(at));
    case 10: {
      const other = random.pick(pool).bytes;
      const from = random.below(other.length);
      const part = other.subarray(from, from + random.between(1, 60));
      return concat(bytes.subarray(0, at), part, bytes.subarray(at + part.length));
    }
    default:
      if (bytes.length >= l3 + 4) put16(bytes, l3 + 2, bytes.length - l3 + random.between(-4, 4));
      return bytes;
  }
}

/** Puts the checksum of the first IPv4 header right, so that what is wrong lies deeper. */
function repair(input: Input): void {
  const l3 = l3Of(input);
  const length = (input.bytes[l3] & 15) * 4;
  if (input.bytes.length < l3 + Math.max(20, length)) return;
  put16(input.bytes, l3 + 10, 0);
  put16(input.bytes, l3 + 10, 0xffff - onesSum(input.bytes.subarray(l3, l3 + length)));
}

function mutated(random: Random, pool: readonly Input[]): Input {
  const template = random.pick(pool);
  const input = { ...template, bytes: Uint8Array.from(template.bytes) };
  for (let n = random.pick([1, 1, 1, 2, 2, 3, 5]); n > 0; n--) {
    input.bytes = Uint8Array.from(mutateOnce(random, input, pool)).subarray(0, 60_000);
  }
  if (!random.oneIn(4)) repair(input);
  return input;
}

// ---- checks -----------------------------------------------------------------------------------

function fail(what: string): never {
  throw new Error(what);
}

/** Checks an IPv4 packet or ARP reply behind inner MACs; returns the packet. */
function checkFrame(bytes: Uint8Array, destinationMac: string, sourceMac: string) {
  const frame = readFrame(bytes);
  // Flows of clients outside of the pools carry a tag in its place.
  if (frame.sourceMac !== sourceMac && !frame.sourceMac.startsWith("02:74:"))
    fail(`source MAC ${frame.sourceMac}`);
  if (frame.type === ARP) {
    if (frame.payload.length !== 28 || toHex(frame.payload.subarray(0, 8)) !== "0001080006040002")
      fail("ARP");
    if (toHex(frame.payload.subarray(8, 14)) !== sourceMac.replaceAll(":", "")) fail("ARP sender");
    if (toHex(frame.payload.subarray(18, 24)) !== frame.destinationMac.replaceAll(":", ""))
      fail("ARP target");
    return null;
  }
  if (frame.packet === null) fail(`EtherType ${frame.type}`);
  if (frame.destinationMac !== destinationMac) fail(`destination MAC ${frame.destinationMac}`);
  return frame.packet;
}

/** Whether an address lies in the block of 64 that begins at `block`. */
function inBlock(dotted: string, block: string): boolean {
  return address(dotted) >>> 6 === address(block) >>> 6;
}

function inPool(dotted: string): boolean {
  return dotted.startsWith("10.1.");
}

/**
 * Checks the last bytes of a packet: they must have arrived in this breath, or those of a later
 * fragment since some wait.
 */
function checkOrigin(
  { protocol, l4, fragment }: Packet,
  inputs: readonly Input[],
  kept: readonly Input[],
): void {
  // Headers in front are written anew, TCP's with up to 60 bytes; ICMP errors quote a header first.
  // and of what an error quotes, addresses, ports and checksums may be others.
  const error = protocol === ICMP && l4[0] !== 0 && l4[0] !== 8;
  const tail = l4.subarray(Math.max(protocol === TCP ? 60 : error ? 90 : 28, l4.length - 40));
  if (tail.length < 8) return;
  // A checksum far inside, of a tunnel of the pod's own, is completed in the midst of its data.
  if (inputs.some(({ bytes }) => (bytes[0] & 1) !== 0 && get16(bytes, 6) !== 0x2200)) return;
  if (
    !((fragment & 0x1fff) === 0 ? inputs : [...inputs, ...kept]).some(({ bytes }) =>
      Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).includes(Buffer.from(tail)),
    )
  ) {
    fail(`data that did not arrive: ${toHex(tail)}`);
  }
}

/** What pods send through the tunnel has a pod's source, and is no VXLAN to a VTEP. The node may do more. */
function checkSource(packet: Packet, inputs: readonly Input[], kept: readonly Input[]): void {
  if (inputs.some(({ port }) => port === NODE_PORT)) return;
  if ((packet.fragment & 0x1fff) !== 0 && kept.some(({ port }) => port === NODE_PORT)) return;
  const ours = packet.source === MASTER.tunnel && packet.protocol === ICMP;
  if (!ours && packet.source !== MASTER.pod && packet.source !== MASTER.otherPod)
    fail(`from ${packet.source}`);
  const whole = packet.protocol === UDP && (packet.fragment & 0x1fff) === 0;
  if (whole && get16(packet.l4, 2) === 4789 && VTEPS.some((v) => v.tunnel === packet.destination)) {
    fail(`VXLAN to ${packet.destination}`);
  }
}

/**
 * `kept`: what came before, and may wait; `nodeSources`: addresses with which the node's kernel has
 * sent anything so far.
 */
function checkSent(
  sent: Sent,
  inputs: readonly Input[],
  kept: readonly Input[],
  nodeSources: ReadonlySet<string>,
): void {
  if (sent.port === TUNNEL_PORT || sent.port === GSO_PORT) {
    let vtep = VTEPS[sent.peer];
    let wire: Uint8Array[];
    if (sent.port === GSO_PORT) {
      const device = readTunnelGso(sent.bytes);
      if (device.destinationMac !== GSO_MAC || device.source !== MASTER.underlay) fail("tunnel GSO device");
      vtep = VTEPS.find((v) => v.underlay === device.destination) ?? fail(`to ${device.destination}`);
      wire = device.datagrams;
    } else wire = datagrams(sent.bytes, sent.gso);
    for (const datagram of wire) {
      const { vni, frame } = readVxlan(datagram);
      if (vni !== VNI) fail(`VNI ${vni}`);
      if (frame.length > FRAME) fail(`frame of ${frame.length} bytes`);
      const packet = checkFrame(frame, vtep.vtepMac, MASTER.vtepMac);
      if (packet === null) continue;
      // An ICMP error goes back to whoever sent through that VTEP; all else to its block.
      const ours = packet.source === MASTER.tunnel && packet.protocol === ICMP;
      checkSource(packet, inputs, kept);
      // What a client outside of the pools began goes back the way it came.
      if (!ours && inPool(packet.destination) && !inBlock(packet.destination, vtep.block))
        fail(`${packet.destination} to ${vtep.underlay}`);
      checkOrigin(packet, inputs, kept);
    }
    return;
  }
  const [mac, addresses] =
    sent.port === POD_PORT
      ? [MASTER.podMac, [MASTER.pod]]
      : sent.port === OTHER_POD_PORT
        ? [MASTER.otherPodMac, [MASTER.otherPod]]
        : [MASTER.vtepMac, [MASTER.tunnel, MASTER.underlay]];
  for (const frame of kernelFrames(sent.bytes, false)) {
    const packet = checkFrame(frame, mac, GATEWAY);
    if (packet === null) continue;
    const ours = packet.source === MASTER.tunnel && packet.protocol === ICMP;
    // Replies and egress, to the node's clients, its loopback among them, and to the outside.
    const byFlow = !inPool(packet.destination) || nodeSources.has(packet.destination);
    if (!addresses.includes(packet.destination) && !((ours || byFlow) && sent.port === NODE_PORT)) {
      fail(`${packet.destination} to port ${sent.port}`);
    }
    checkOrigin(packet, inputs, kept);
  }
}

/** Which part of the receive areas holds what, as MemoryIo lays it out. */
function untouchedRanges(inputs: readonly Input[]): [number, number][] {
  const ranges: [number, number][] = [];
  let free = ARENA.rxTap;
  let slot = 0;
  for (const { port, bytes } of inputs) {
    if (port === TUNNEL_PORT) {
      const start = ARENA.rxUdp + slot++ * UDP_SLOT_BYTES;
      const at = start + HEADROOM + 2;
      ranges.push([start, at], [at + bytes.length, at + bytes.length + WATCHED]);
    } else {
      const at = ((free + 63) & ~63) + HEADROOM;
      ranges.push([free, at - OUTER_HEADERS]);
      free = at + bytes.length;
    }
  }
  ranges.push([free, free + WATCHED]);
  return ranges;
}

/** How long fragments wait. */
const WAIT_US = 30_000_000;

/** How the node under test is made; the variants take turns. */
const VARIANTS = [
  { gso: false, uso: true, egress: true },
  { gso: true, uso: true, egress: true },
  { gso: false, uso: false, egress: false },
];

/** A node, and what is known of it. */
class Subject {
  readonly node: TestNode;
  readonly #nodeSources = new Set<string>();
  /** Inputs since fragments wait, and when they came. */
  #kept: { input: Input; nowUs: number }[] = [];
  readonly #canary = Buffer.alloc(HEADROOM + WATCHED, CANARY);

  constructor(variant: (typeof VARIANTS)[number]) {
    this.node = new TestNode(variant);
    this.node.breather.dataplane.services.adopt(serviceImage(frontends()));
    this.node.arena.bytes.fill(CANARY, ARENA.rxTap, ARENA.scratch);
  }

  /** One breath with these inputs. */
  breathe(inputs: readonly Input[], failing: number): Outcome {
    const { node } = this;
    for (const { port, bytes, segment, peer } of inputs) {
      if (port === TUNNEL_PORT) node.io.injectUdp(port, peer, bytes, segment);
      else node.io.injectTap(port, bytes);
      if (port === NODE_PORT && bytes.length >= 44) this.#nodeSources.add(bytes.subarray(36, 40).join("."));
    }
    if (failing >= 0) node.io.failures.set(failing, inputs.length % 2 === 0 ? 11 : 5);
    // Errors are not to run out: time goes on.
    node.io.nowUs += 100_000;
    const { fragments } = node.breather.dataplane;
    const waited = fragments.waiting;
    node.flows.age(Math.floor(node.io.nowUs / 1000) | 0, node.flows.capacity);
    const outcome = node.run();
    node.io.failures.clear();
    if (node.faults.length > 0) throw node.faults[0];
    if (!accounted(outcome)) fail(`accounts: ${JSON.stringify({ ...outcome, sent: undefined })}`);
    // Fragments that wait are received when they go on.
    const received = outcome.received + fragments.waiting - waited;
    if (received < inputs.length) fail(`${received} received of ${inputs.length}`);
    for (const count of [outcome.forwarded, outcome.answered, ...Object.values(outcome.dropped)]) {
      if (count < 0) fail(`a negative count: ${JSON.stringify(outcome.dropped)}`);
    }
    const { nowUs } = node.io;
    const kept = this.#kept.map(({ input }) => input);
    for (const sent of outcome.sent) checkSent(sent, inputs, kept, this.#nodeSources);
    const young = this.#kept.filter((each) => nowUs - each.nowUs <= WAIT_US);
    this.#kept = fragments.waiting === 0 ? [] : [...young, ...inputs.map((input) => ({ input, nowUs }))];
    this.#checkMemory(inputs);
    return outcome;
  }

  #checkMemory(inputs: readonly Input[]): void {
    const { bytes } = this.node.arena;
    for (const [from, to] of untouchedRanges(inputs)) {
      for (let at = from; at < to; at += this.#canary.length) {
        const part = bytes.subarray(at, Math.min(to, at + this.#canary.length));
        if (Buffer.compare(part, this.#canary.subarray(0, part.length)) !== 0)
          fail(`memory at ${at} was written`);
      }
    }
    for (let x = 0; x < 64; x++) if (bytes[ZERO_SLOT + x] !== 0) fail("the zero slot was written");
    let tap = ARENA.rxTap;
    let slot = 0;
    for (const input of inputs) {
      if (input.port === TUNNEL_PORT) {
        const start = ARENA.rxUdp + slot++ * UDP_SLOT_BYTES;
        bytes.fill(CANARY, start, start + HEADROOM + 2 + input.bytes.length + WATCHED);
      } else {
        const next = ((tap + 63) & ~63) + HEADROOM + input.bytes.length;
        bytes.fill(CANARY, tap, next + WATCHED);
        tap = next;
      }
    }
  }
}

/** Feeds `count` mutated frames; `progress` is told now and then. */
export function fuzz(
  count: number,
  seed: number,
  progress: (totals: FuzzTotals) => void = () => {},
): FuzzTotals {
  const random = new Random(seed);
  const pool = templates();
  const subjects = VARIANTS.map((variant) => new Subject(variant));
  const totals: FuzzTotals = { mutations: 0, breaths: 0, sent: 0, forwarded: 0, answered: 0, dropped: {} };
  while (totals.mutations < count) {
    const inputs: Input[] = [];
    let tapBytes = 0;
    for (let n = random.between(1, MOST); n > 0; n--) {
      const input = random.oneIn(6) ? { ...random.pick(pool) } : mutated(random, pool);
      if (input.port !== TUNNEL_PORT) tapBytes += input.bytes.length + 2 * HEADROOM;
      // All of it is to arrive in one breath.
      if (tapBytes > TAP_BUDGET || inputs.length >= UDP_SLOTS) break;
      inputs.push(input);
    }
    const failing = random.oneIn(50) ? random.below(5) : -1;
    let outcome: Outcome;
    try {
      outcome = random.pick(subjects).breathe(inputs, failing);
    } catch (error) {
      const dump = inputs.map(
        (i) => `  port ${i.port} segment ${i.segment} peer ${i.peer} ${toHex(i.bytes)}`,
      );
      throw new Error(`seed ${seed}, breath ${totals.breaths}: ${error}\n${dump.join("\n")}`, {
        cause: error,
      });
    }
    totals.mutations += inputs.length;
    totals.breaths++;
    totals.sent += outcome.sent.length;
    totals.forwarded += outcome.forwarded;
    totals.answered += outcome.answered;
    for (const [reason, n] of Object.entries(outcome.dropped)) {
      totals.dropped[reason] = (totals.dropped[reason] ?? 0) + n;
    }
    if (totals.breaths % 1000 === 0) progress(totals);
  }
  return totals;
}
