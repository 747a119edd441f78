/** Source ports of what leaves: each towards a destination once, the least recently used first. */
import { describe, expect, it } from "vitest";
import { TCP_TIME_WAIT, TIMEOUT_OF } from "../../../src/tables/flowLayout.js";
import { buildTableImage, Tables } from "../../../src/tables/TableImage.js";
import { accounted, MASTER, TestNode, tableInput } from "../../support/dataplane.js";
import { ACK, FIN, get16, kernelFrames, readFrame, SYN, tcpPacket, udpPacket } from "../../support/frames.js";

const SERVER = "203.0.113.9";
const NOTHING = new Uint8Array(0);
const { first, last } = tableInput().egressPorts;
const PORTS = last - first + 1;
const UDP_UNREPLIED_US = 30_000_000;

function egressNode(egressPorts = { first, last }): TestNode {
  const node = new TestNode({ egress: true, maxFlows: 16_384 });
  node.breather.dataplane.tables = new Tables(
    buildTableImage({ ...tableInput({ egress: true }), egressPorts }),
  );
  return node;
}

/** The port with which a datagram of the pod leaves; null where it is dropped. */
function leaves(
  node: TestNode,
  sourcePort: number,
  destination = SERVER,
  destinationPort = 53,
): number | null {
  const packet = { source: MASTER.pod, destination, sourcePort, destinationPort };
  const outcome = node.fromPod(udpPacket(packet, NOTHING)).run();
  expect(accounted(outcome)).toBe(true);
  if (outcome.sent.length === 0) {
    expect(outcome.dropped).toEqual({ egressPorts: 1 });
    return null;
  }
  return get16(readFrame(kernelFrames(outcome.sent[0]!.bytes)[0]!).packet!.l4, 0);
}

describe("egress ports", () => {
  it("thousands of flows to one destination: every port once, then a counted drop", () => {
    const node = egressNode();
    const ports = new Set<number | null>();
    for (let n = 0; n < PORTS; n++) ports.add(leaves(node, 1024 + n));
    expect(ports.size).toBe(PORTS);
    expect([Math.min(...(ports as Set<number>)), Math.max(...(ports as Set<number>))]).toEqual([first, last]);
    for (let n = 0; n < 100; n++) expect(leaves(node, 1024 + PORTS + n)).toBeNull();
    // Those that have one keep it; another destination has all of them.
    const again = leaves(node, 1024);
    expect(leaves(node, 1024)).toBe(again);
    expect(leaves(node, 1024 + PORTS, SERVER, 54)).not.toBeNull();
    expect(node.flows.size).toBe(PORTS + 1);
  });

  it("a port comes back after all others, and not before its time", () => {
    const node = egressNode({ first: 61_000, last: 61_099 });
    const order: (number | null)[] = [];
    for (let n = 0; n < 50; n++) order.push(leaves(node, 1024 + n));
    // The first fifty end; the other fifty ports come first all the same.
    node.io.nowUs += UDP_UNREPLIED_US + 1_000_000;
    node.run();
    node.flows.age(node.breather.dataplane.nowMs, 1_000_000);
    for (let n = 0; n < 50; n++) order.push(leaves(node, 2024 + n));
    expect(new Set(order).size).toBe(100);
    for (let n = 0; n < 50; n++) order.push(leaves(node, 3024 + n));
    expect(order.slice(100)).toEqual(order.slice(0, 50));
    expect(leaves(node, 4000)).toBeNull();
  });

  it("a closed connection's port waits as long as the other end may", () => {
    const node = egressNode({ first: 61_000, last: 61_000 });
    const out = { source: MASTER.pod, destination: SERVER };
    const back = { source: SERVER, destination: MASTER.underlay, sourcePort: 80, destinationPort: 61_000 };
    node.fromPod(tcpPacket({ ...out, flags: SYN, sequence: 1, acknowledgement: 0 }, NOTHING)).run();
    node.fromNode(tcpPacket({ ...back, flags: SYN | ACK, sequence: 1, acknowledgement: 2 }, NOTHING)).run();
    node.fromPod(tcpPacket({ ...out, flags: FIN | ACK, sequence: 2, acknowledgement: 2 }, NOTHING)).run();
    node.fromNode(tcpPacket({ ...back, flags: FIN | ACK, sequence: 2, acknowledgement: 3 }, NOTHING)).run();
    node.fromPod(tcpPacket({ ...out, flags: ACK, sequence: 3, acknowledgement: 3 }, NOTHING)).run();
    const other = tcpPacket({ ...out, sourcePort: 41_000, flags: SYN, acknowledgement: 0 }, NOTHING);
    const dropsAfter = (us: number) => {
      node.io.nowUs += us;
      node.run();
      node.flows.age(node.breather.dataplane.nowMs, 1_000_000);
      return node.fromPod(other).run().dropped;
    };
    const wait = TIMEOUT_OF[TCP_TIME_WAIT]! * 1000;
    expect(dropsAfter(wait - 1_000_000)).toEqual({ egressPorts: 1 });
    expect(dropsAfter(2_000_000)).toEqual({});
  });
});
