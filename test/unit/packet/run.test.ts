import { describe, expect, it } from "vitest";
import { runLength } from "../../../src/packet/run.js";
import { MASTER, VNI, WORKER01 } from "../../support/dataplane.js";
import {
  ACK,
  concat,
  counting,
  ECE,
  ethernet,
  FIN,
  hex,
  IPV4,
  IPV6,
  icmpPacket,
  PSH,
  patched,
  RST,
  SYN,
  type TcpFields,
  tcpPacket,
  type UdpFields,
  URG,
  udpPacket,
  vxlan,
} from "../../support/frames.js";

const FLOW = { source: WORKER01.pod, destination: MASTER.pod };
const SIZE = 100;

function carried(packet: Uint8Array, type = IPV4): Uint8Array {
  return vxlan(VNI, ethernet(MASTER.vtepMac, WORKER01.vtepMac, type, packet));
}

function tcpAt(n: number, fields: Partial<TcpFields> = {}, size = SIZE): Uint8Array {
  return carried(
    tcpPacket({ ...FLOW, sequence: 0xffffff00 + n * SIZE, id: n, ...fields }, counting(size, n)),
  );
}

function udpAt(n: number, fields: Partial<UdpFields> = {}, size = SIZE): Uint8Array {
  return carried(udpPacket({ ...FLOW, id: n, ...fields }, counting(size, n)));
}

/** Length of the run at the start of a train; datagrams lie as far apart as the first is long. */
function run(...datagrams: Uint8Array[]): number {
  const bytes = concat(...datagrams);
  // Whatever lies around must not matter.
  const memory = new Uint8Array(bytes.length + 300).fill(0xa5);
  memory.set(bytes, 130);
  return runLength(new DataView(memory.buffer), 130, datagrams[0].length, 130 + bytes.length);
}

describe("runLength of TCP", () => {
  it("one datagram is a run of one", () => expect(run(tcpAt(0))).toBe(1));

  it("consecutive segments are a run, across the end of the sequence space", () => {
    expect(run(...Array.from({ length: 64 }, (_, n) => tcpAt(n)))).toBe(64);
  });

  it("the last may be shorter", () => {
    expect(run(tcpAt(0), tcpAt(1), tcpAt(2, {}, 1))).toBe(3);
  });

  it("PSH is the last's alone", () => {
    expect(run(tcpAt(0), tcpAt(1, { flags: ACK | PSH }), tcpAt(2))).toBe(2);
    expect(run(tcpAt(0, { flags: ACK | PSH }), tcpAt(1), tcpAt(2))).toBe(1);
  });

  it("equal options are no hindrance", () => {
    const tcpOptions = hex("0101080a0000000100000002");
    expect(run(tcpAt(0, { tcpOptions }), tcpAt(1, { tcpOptions }), tcpAt(2, { tcpOptions }))).toBe(3);
  });

  it("all checksums partial", () => {
    const l4Checksum = "partial" as const;
    expect(run(tcpAt(0, { l4Checksum }), tcpAt(1, { l4Checksum }))).toBe(2);
  });

  it.each<[string, Partial<TcpFields>]>([
    ["source port", { sourcePort: 9 }],
    ["destination port", { destinationPort: 9 }],
    ["source", { source: WORKER01.otherPod }],
    ["destination", { destination: MASTER.otherPod }],
    ["sequence", { sequence: 7 }],
    ["acknowledgement", { acknowledgement: 7 }],
    ["SYN", { flags: ACK | SYN }],
    ["FIN", { flags: ACK | FIN }],
    ["RST", { flags: ACK | RST }],
    ["URG", { flags: ACK | URG }],
    ["ECE", { flags: ACK | ECE }],
    ["no ACK", { flags: 0 }],
    ["TOS", { tos: 4 }],
    ["TTL", { ttl: 17 }],
    ["DF", { fragment: 0 }],
    ["a fragment", { fragment: 0x2000 }],
    ["partial checksum", { l4Checksum: "partial" }],
    ["wrong IPv4 checksum", { checksum: 0x1234 }],
    ["other options", { tcpOptions: hex("0101080a0000000100000003") }],
  ])("a change ends it: %s", (_, change) => {
    const options = change.tcpOptions ? { tcpOptions: hex("0101080a0000000100000002") } : {};
    expect(run(tcpAt(0, options), tcpAt(1, options), tcpAt(2, { ...options, ...change }))).toBe(2);
    expect(run(tcpAt(0, options), tcpAt(1, { ...options, ...change }), tcpAt(2, options))).toBe(1);
  });

  it.each<[string, (d: Uint8Array) => Uint8Array]>([
    ["VXLAN flags", (d) => patched(d, 0, [0])],
    ["VNI", (d) => patched(d, 6, [1])],
    ["inner destination MAC", (d) => patched(d, 13, [1])],
    ["inner source MAC", (d) => patched(d, 19, [1])],
    ["EtherType", (d) => patched(d, 20, [0x86, 0xdd])],
    ["IPv4 version", (d) => patched(d, 22, [0x65])],
    ["total length", (d) => patched(d, 25, [99])],
    ["data offset", (d) => patched(d, 54, [0x60])],
  ])("a change of bytes ends it: %s", (_, change) => {
    expect(run(tcpAt(0), tcpAt(1), change(tcpAt(2)))).toBe(2);
    expect(run(tcpAt(0), change(tcpAt(1)), tcpAt(2))).toBe(1);
  });

  it("a first datagram that is nothing to merge", () => {
    const [syn, empty] = [tcpAt(0, { flags: ACK | SYN }), tcpAt(0, {}, 0)];
    expect(run(syn, syn)).toBe(1);
    expect(run(empty, empty)).toBe(1);
    const options = tcpAt(0, { options: hex("94040000") });
    expect(run(options, options)).toBe(1);
    const padded = concat(tcpAt(0), new Uint8Array(6));
    expect(run(padded, padded)).toBe(1);
    const tail = tcpAt(0, {}, 0);
    expect(run(tcpAt(0), tail)).toBe(1);
    const ping = carried(icmpPacket({ ...FLOW, type: 8, code: 0 }, counting(60)));
    expect(run(ping, ping)).toBe(1);
    const ipv6 = carried(counting(100), IPV6);
    expect(run(ipv6, ipv6)).toBe(1);
    expect(run(counting(20), counting(20))).toBe(1);
  });
});

describe("runLength of UDP", () => {
  it("equal datagrams, the last may be shorter", () => {
    expect(run(udpAt(0), udpAt(1), udpAt(2))).toBe(3);
    expect(run(udpAt(0), udpAt(1), udpAt(2, {}, 1))).toBe(3);
    expect(run(udpAt(0), udpAt(1), udpAt(2, {}, 0))).toBe(2);
  });

  it.each<[string, Partial<UdpFields>]>([
    ["source port", { sourcePort: 9 }],
    ["destination", { destination: MASTER.otherPod }],
    ["no checksum", { l4Checksum: 0 }],
    ["partial checksum", { l4Checksum: "partial" }],
    ["UDP length", { udpLength: 50 }],
    ["TOS", { tos: 4 }],
    ["TTL", { ttl: 17 }],
    ["a fragment", { fragment: 0x2000 }],
    ["wrong IPv4 checksum", { checksum: 0x1234 }],
  ])("a change ends it: %s", (_, change) => {
    expect(run(udpAt(0), udpAt(1), udpAt(2, change))).toBe(2);
    expect(run(udpAt(0), udpAt(1, change), udpAt(2))).toBe(1);
    if (change.l4Checksum === "partial") return;
    expect(run(udpAt(0, change), udpAt(1, change))).toBe(
      // What is equally different is a run all the same.
      ["sourcePort", "destination", "tos", "ttl"].some((k) => k in change) ? 2 : 1,
    );
  });
});
