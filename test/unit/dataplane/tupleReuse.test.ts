/**
 * A client that has used up all source ports towards one backend: connections that are over make room
 * for new ones, those that are not keep their tuples.
 */
import { describe, expect, it } from "vitest";
import {
  FLAG_SNAT,
  FLOW_FLAGS,
  FLOW_ORIGINAL,
  FLOW_PRIVATE,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_STATE,
  FLOW_WORDS,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  TCP_CLOSE,
  TCP_END,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT,
  TCP_TIME_WAIT,
  turnedPorts,
} from "../../../src/tables/flowLayout.js";
import { MASTER, TestNode, WORKER01 } from "../../support/dataplane.js";
import { address, SYN, TCP, tcpPacket } from "../../support/frames.js";
import { serviceImage, type TestFrontend } from "../../support/services.js";

const VIP = "10.152.183.7";
const OTHER_VIP = "10.152.183.8";
const CLIENT_PORT = 40_000;
const BACKEND_PORT = 8080;
/** Where the old connections' own sequence numbers ended. */
const OLD_END = 5000;

/** A node whose pod has a connection from every port to the one backend of two Services. */
function exhausted(state: number, flags: number): TestNode {
  const node = new TestNode({ maxFlows: 65_536 });
  const frontend = (vip: string): TestFrontend => ({
    kind: "clusterIp",
    address: vip,
    protocol: TCP,
    l4Port: 80,
    inside: [{ address: WORKER01.pod, l4Port: BACKEND_PORT }],
  });
  node.breather.dataplane.services.adopt(serviceImage([frontend(VIP), frontend(OTHER_VIP)]));
  const draft = new Int32Array(FLOW_WORDS);
  draft[FLOW_PROTOCOL] = TCP;
  draft[FLOW_STATE] = state;
  draft[FLOW_FLAGS] = flags;
  draft[FLOW_PRIVATE + TCP_END] = OLD_END;
  for (let port = 1024; port <= CLIENT_PORT; port++) {
    draft[FLOW_ORIGINAL + KEY_SOURCE] = address(MASTER.pod);
    draft[FLOW_ORIGINAL + KEY_DESTINATION] = address(OTHER_VIP);
    draft[FLOW_ORIGINAL + KEY_PORTS] = (port << 16) | 80;
    draft[FLOW_REPLY + KEY_SOURCE] = address(WORKER01.pod);
    draft[FLOW_REPLY + KEY_DESTINATION] = address(MASTER.pod);
    draft[FLOW_REPLY + KEY_PORTS] = turnedPorts((port << 16) | BACKEND_PORT);
    expect(node.flows.insert(draft, 0)).toBeGreaterThanOrEqual(0);
  }
  return node;
}

function open(node: TestNode, sequence: number) {
  const syn = { source: MASTER.pod, destination: VIP, sourcePort: CLIENT_PORT, destinationPort: 80 };
  return node
    .fromPod(tcpPacket({ ...syn, flags: SYN, sequence, acknowledgement: 0 }, new Uint8Array(0)))
    .run();
}

describe("all source ports towards a backend are taken", () => {
  for (const [name, state] of [
    ["TIME_WAIT", TCP_TIME_WAIT],
    ["CLOSE", TCP_CLOSE],
  ] as const)
    it(`one in ${name} ends for a new connection`, () => {
      const node = exhausted(state, FLAG_SNAT);
      const before = node.flows.size;
      expect(open(node, OLD_END + 1)).toMatchObject({ dropped: {}, forwarded: 1 });
      expect(node.flows.size).toBe(before);
    });

  it.each([
    ["established", TCP_ESTABLISHED, FLAG_SNAT, OLD_END + 1],
    ["closing, but not closed", TCP_FIN_WAIT, FLAG_SNAT, OLD_END + 1],
    ["known to its client by the same port", TCP_TIME_WAIT, 0, OLD_END + 1],
    ["with the sequence numbers of the new one", TCP_TIME_WAIT, FLAG_SNAT, OLD_END],
  ])("one that is %s keeps its tuple", (_, state, flags, sequence) => {
    const node = exhausted(state, flags);
    const before = node.flows.size;
    expect(open(node, sequence).dropped).toEqual({ tupleTaken: 1 });
    expect(node.flows.size).toBe(before);
  });
});
