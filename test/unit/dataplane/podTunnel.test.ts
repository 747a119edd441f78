import { describe, expect, it } from "vitest";
import { MASTER, TestNode, TUNNEL_PORT, WORKER01 } from "../../support/dataplane.js";
import {
  concat,
  counting,
  ethernet,
  GATEWAY,
  IPV4,
  l4ChecksumOk,
  readPacket,
  readVxlan,
  tcpPacket,
  udpPacket,
  vnet,
  vxlan,
} from "../../support/frames.js";

/** A pod's own VXLAN: its kernel leaves the inner TCP checksum to the device (csum_start far back). */
const inner = tcpPacket(
  { source: "198.51.100.1", destination: "198.51.100.2", l4Checksum: "partial" },
  counting(200),
);
const own = vxlan(77, ethernet("02:00:00:00:00:02", "02:00:00:00:00:01", IPV4, inner));
const INNER_TCP = 14 + 20 + 8 + 8 + 14 + 20;

function frame(destination: string): Uint8Array {
  const packet = udpPacket({ source: MASTER.pod, destination, destinationPort: 8472, l4Checksum: 0 }, own);
  return ethernet(GATEWAY, MASTER.podMac, IPV4, packet);
}

const raw = (bytes: Uint8Array, csumStart: number, csumOffset = 16, rest = {}) =>
  concat(vnet({ flags: 1, csumStart, csumOffset, ...rest }), bytes);

describe("a tunnel of the pod's own", () => {
  it("to another node: the inner checksum is completed", () => {
    const node = new TestNode();
    node.io.injectTap(2, raw(frame(WORKER01.pod), INNER_TCP));
    const { sent, forwarded } = node.run();
    expect(forwarded).toBe(1);
    expect(sent[0].port).toBe(TUNNEL_PORT);
    const carried = readVxlan(sent[0].bytes).frame.subarray(INNER_TCP - 20);
    expect(l4ChecksumOk(readPacket(carried))).toBe(true);
  });

  it("to a pod of this node: the checksum stays partial", () => {
    const node = new TestNode();
    node.io.injectTap(2, raw(frame(MASTER.otherPod), INNER_TCP));
    const { sent } = node.run();
    expect(Array.from(sent[0].bytes.subarray(0, 10))).toEqual([1, 0, 0, 0, 0, 0, INNER_TCP, 0, 16, 0]);
  });

  it.each([
    ["past the end", 340, 16, {}],
    ["field past the end", INNER_TCP, 300, {}],
    ["odd field", INNER_TCP, 17, {}],
    ["beyond reach", 250, 2, {}],
    ["with GSO", INNER_TCP, 16, { gsoType: 1, gsoSize: 100 }],
  ])("a sum that cannot be: %s", (_, start, field, rest) => {
    const node = new TestNode();
    node.io.injectTap(2, raw(frame(WORKER01.pod), start, field, rest));
    expect(node.run()).toMatchObject({ forwarded: 0, dropped: { vnetHeader: 1 } });
  });
});
