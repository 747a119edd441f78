import { describe, expect, it } from "vitest";
import { COUNT_SEGMENTS, COUNT_TUNNEL_GSO } from "../../../src/packet/counters.js";
import {
  GSO_MAC,
  GSO_PORT,
  MASTER,
  TestNode,
  TUNNEL_PORT,
  WORKER01,
  WORKER02,
} from "../../support/dataplane.js";
import {
  ACK,
  CWR,
  concat,
  counting,
  ethernet,
  FIN,
  hex,
  IPV4,
  ipv4,
  PSH,
  put16,
  readTunnelGso,
  segments,
  TCP,
  tcpPacket,
  toHex,
  UDP,
  udpPacket,
  vnetPartial,
  vxlan,
} from "../../support/frames.js";
import { expectSent, verdictOf } from "./fixtures.js";

const { pod } = MASTER;
const tcp = (payload: Uint8Array, fields: object = {}) =>
  tcpPacket({ source: pod, destination: WORKER01.pod, l4Checksum: "partial", ...fields }, payload);

describe("tunnel GSO", () => {
  it("a TSO frame goes whole into the device, every byte", () => {
    const node = new TestNode({ gso: true }).fromPod(tcp(counting(4000)), vnetPartial(TCP, 1410));
    const outcome = node.run();
    expect(verdictOf(outcome)).toEqual({ forwarded: 1 });
    const inner = ethernet(WORKER01.vtepMac, MASTER.vtepMac, IPV4, tcp(counting(4000), { ttl: 63 }));
    const vxlanBytes = vxlan(4096, inner);
    const udp = concat(hex("12b5 12b5 0000 0000"), vxlanBytes);
    put16(udp, 4, udp.length);
    // Pseudo-header: c0a8+021e + c0a8+021f + 0011 + length, folded.
    put16(udp, 6, (0xc0a8 + 0x021e + 0xc0a8 + 0x021f + 0x11 + udp.length) % 0xffff || 0xffff);
    const outer = ipv4(
      { source: "192.168.2.30", destination: "192.168.2.31", protocol: UDP, id: 1, fragment: 0, ttl: 65 },
      udp,
    );
    expectSent(outcome, [
      {
        port: GSO_PORT,
        bytes: concat(
          // flags, gso_type, hdr_len 104, gso_size 1410, csum_start 84, csum_offset 16; offsets 34 and 64
          hex("09 21 6800 8205 5400 1000 0000 00000000 0000 0000 2200 4000"),
          ethernet(GSO_MAC, "02:00:00:00:00:01", IPV4, outer),
        ),
      },
    ]);
    expect(node.counters[COUNT_TUNNEL_GSO]).toBe(1);
    expect(node.counters[COUNT_SEGMENTS]).toBe(0);
  });

  it.each([
    ["flags", { flags: ACK | PSH | FIN | CWR }, 34],
    ["TCP options", { tcpOptions: hex("0101080a0000001100000022") }, 34],
    ["IPv4 options", { options: hex("94040000") }, 38],
  ])("what the kernel makes of it equals the reference: %s", (_, fields, l4) => {
    const node = new TestNode({ gso: true }).fromPod(tcp(counting(9000), fields), vnetPartial(TCP, 1300, l4));
    const { sent } = node.run();
    const device = readTunnelGso(sent[0].bytes);
    expect(device).toMatchObject({ destinationMac: GSO_MAC, source: MASTER.underlay, ttl: 65 });
    expect(device.destination).toBe(WORKER01.underlay);
    const routed = ethernet(
      WORKER01.vtepMac,
      MASTER.vtepMac,
      IPV4,
      tcp(counting(9000), { ...fields, ttl: 63 }),
    );
    expect(device.datagrams.map(toHex)).toEqual(segments(routed, 1300).map((f) => toHex(vxlan(4096, f))));
  });

  it("the longest frame whose outer packet still has a length", () => {
    // 65535 = 20 + 8 + 8 + 14 + 20 + 20 + payload
    for (const [payload, port] of [
      [65_445, GSO_PORT],
      [65_446, TUNNEL_PORT],
    ]) {
      const node = new TestNode({ gso: true }).fromPod(tcp(counting(payload)), vnetPartial(TCP, 1410));
      expect(new Set(node.run().sent.map((s) => s.port))).toEqual(new Set([port]));
    }
  });

  it("UDP GSO is divided here", () => {
    const packet = udpPacket(
      { source: pod, destination: WORKER01.pod, l4Checksum: "partial" },
      counting(3000),
    );
    const { sent } = new TestNode({ gso: true }).fromPod(packet, vnetPartial(UDP, 1000)).run();
    expect(sent.map((s) => s.port)).toEqual([TUNNEL_PORT]);
  });

  it("a frame of one segment does not need the device", () => {
    const { sent } = new TestNode({ gso: true }).fromPod(tcp(counting(1000)), vnetPartial(TCP, 1410)).run();
    expect(sent.map((s) => s.port)).toEqual([TUNNEL_PORT]);
  });

  it("later frames to the same VTEP do not overtake it, trains to others go on", () => {
    const small = (destination: string) => udpPacket({ source: pod, destination }, counting(50));
    const node = new TestNode({ gso: true })
      .fromPod(small(WORKER01.pod))
      .fromPod(small(WORKER02.pod))
      .fromPod(tcp(counting(4000)), vnetPartial(TCP, 1410))
      .fromPod(small(WORKER01.pod))
      .fromPod(small(WORKER02.pod));
    const { sent } = node.run();
    expect(sent.map((s) => [s.port, s.peer, s.gso > 0])).toEqual([
      [TUNNEL_PORT, 0, false],
      [TUNNEL_PORT, 1, true],
      [GSO_PORT, 0, false],
      [TUNNEL_PORT, 0, false],
    ]);
  });

  it("outer packets count their identification up", () => {
    const node = new TestNode({ gso: true });
    for (let n = 0; n < 3; n++) node.fromPod(tcp(counting(4000)), vnetPartial(TCP, 1410));
    const ids = node.run().sent.map((s) => (s.bytes[24 + 14 + 4] << 8) | s.bytes[24 + 14 + 5]);
    expect(ids).toEqual([1, 2, 3]);
  });
});
