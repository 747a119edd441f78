import { describe } from "vitest";
import {
  GSO_PORT,
  MASTER,
  NODE_PORT,
  POD_PORT,
  TUNNEL_PORT,
  VNI,
  WORKER01,
} from "../../support/dataplane.js";
import {
  ARP,
  type ArpFields,
  arp,
  BROADCAST,
  concat,
  ethernet,
  GATEWAY,
  NO_MAC,
  patched,
  vnet,
  vxlan,
} from "../../support/frames.js";
import { type Fixture, fixtureTests } from "./fixtures.js";

const { pod, podMac, tunnel, vtepMac } = MASTER;

function request(senderMac: string, sender: string, target: string): ArpFields {
  return { operation: 1, senderMac, sender, targetMac: NO_MAC, target };
}

function frame(f: ArpFields, destination = BROADCAST): Uint8Array {
  return ethernet(destination, f.senderMac, ARP, arp(f));
}

/** The answer that `target` is at `mac`. */
function answer(f: ArpFields, mac: string): Uint8Array {
  const reply = {
    operation: 2,
    senderMac: mac,
    sender: f.target,
    targetMac: f.senderMac,
    target: f.sender,
  };
  return ethernet(f.senderMac, mac, ARP, arp(reply));
}

const FROM_POD = request(podMac, pod, "169.254.1.1");
const FROM_NODE = request(vtepMac, tunnel, WORKER01.pod);
const FROM_VTEP = request(WORKER01.vtepMac, WORKER01.tunnel, tunnel);

const FIXTURES: Fixture[] = [
  {
    description: "a pod that asks for its gateway gets the gateway's MAC",
    arrives: (n) => n.fromTap(POD_PORT, frame(FROM_POD)),
    verdict: "answered",
    leaves: [{ port: POD_PORT, bytes: concat(vnet(), answer(FROM_POD, GATEWAY)) }],
  },
  {
    description: "a pod that asks for another pod gets the gateway's MAC, too",
    arrives: (n) => n.fromTap(POD_PORT, frame(request(podMac, pod, MASTER.otherPod))),
    verdict: "answered",
    leaves: [
      { port: POD_PORT, bytes: concat(vnet(), answer(request(podMac, pod, MASTER.otherPod), GATEWAY)) },
    ],
  },
  {
    description: "a pod that asks by unicast to refresh its entry",
    arrives: (n) => n.fromTap(POD_PORT, frame(FROM_POD, GATEWAY)),
    verdict: "answered",
    leaves: [{ port: POD_PORT, bytes: concat(vnet(), answer(FROM_POD, GATEWAY)) }],
  },
  {
    description: "a request with Ethernet padding gets a reply without",
    arrives: (n) => n.fromTap(POD_PORT, concat(frame(FROM_POD), new Uint8Array(18).fill(0xa5))),
    verdict: "answered",
    leaves: [{ port: POD_PORT, bytes: concat(vnet(), answer(FROM_POD, GATEWAY)) }],
  },
  {
    description: "a request whose virtio-net header is not empty gets a reply with an empty one",
    arrives: (n) => n.fromTap(POD_PORT, frame(FROM_POD), vnet({ flags: 2 })),
    verdict: "answered",
    leaves: [{ port: POD_PORT, bytes: concat(vnet(), answer(FROM_POD, GATEWAY)) }],
  },
  {
    description: "the node that asks for a remote pod gets the gateway's MAC",
    arrives: (n) => n.fromTap(NODE_PORT, frame(FROM_NODE)),
    verdict: "answered",
    leaves: [{ port: NODE_PORT, bytes: concat(vnet(), answer(FROM_NODE, GATEWAY)) }],
  },
  {
    description: "a VTEP that asks for the tunnel address gets the VTEP MAC",
    arrives: (n) => n.fromUnderlay(WORKER01.underlay, vxlan(VNI, frame(FROM_VTEP))),
    verdict: "answered",
    leaves: [{ port: TUNNEL_PORT, bytes: vxlan(VNI, answer(FROM_VTEP, vtepMac)) }],
  },
  {
    description: "a VTEP that asks by unicast",
    arrives: (n) => n.fromUnderlay(WORKER01.underlay, vxlan(VNI, frame(FROM_VTEP, vtepMac))),
    verdict: "answered",
    leaves: [{ port: TUNNEL_PORT, bytes: vxlan(VNI, answer(FROM_VTEP, vtepMac)) }],
  },
  {
    description: "reserved bits of the request's VXLAN header do not come back",
    arrives: (n) => n.fromUnderlay(WORKER01.underlay, patched(vxlan(VNI, frame(FROM_VTEP)), 0, [0xff, 0xff])),
    verdict: "answered",
    leaves: [{ port: TUNNEL_PORT, bytes: vxlan(VNI, answer(FROM_VTEP, vtepMac)) }],
  },
  ...(
    [
      ["a probe for the pod's own address (RFC 5227)", POD_PORT, request(podMac, "0.0.0.0", pod)],
      ["the node's probe for its tunnel address", NODE_PORT, request(vtepMac, "0.0.0.0", tunnel)],
      ["an announcement of the pod's own address", POD_PORT, request(podMac, pod, pod)],
      ["an announcement of another address", POD_PORT, request(podMac, "192.0.2.1", "192.0.2.1")],
      ["a reply", POD_PORT, { ...FROM_POD, operation: 2, targetMac: GATEWAY }],
      ["an unknown operation", POD_PORT, { ...FROM_POD, operation: 3 }],
      ["a port that no table knows", GSO_PORT, FROM_POD],
    ] as const
  ).map(
    ([description, port, fields]): Fixture => ({
      description: `no answer: ${description}`,
      arrives: (n) => n.fromTap(port, frame(fields)),
      verdict: "arpIgnored",
      leaves: [],
    }),
  ),
  {
    description: "no answer to a VTEP about a pod: pods are behind routes, not neighbours",
    arrives: (n) =>
      n.fromUnderlay(WORKER01.underlay, vxlan(VNI, frame(request(WORKER01.vtepMac, WORKER01.tunnel, pod)))),
    verdict: "arpIgnored",
    leaves: [],
  },
  {
    description: "ARP cut off one byte short",
    arrives: (n) => n.fromTap(POD_PORT, frame(FROM_POD).subarray(0, 41)),
    verdict: "malformedArp",
    leaves: [],
  },
  {
    description: "ARP for IPv6",
    arrives: (n) => n.fromTap(POD_PORT, patched(frame(FROM_POD), 16, [0x86, 0xdd])),
    verdict: "malformedArp",
    leaves: [],
  },
  {
    description: "ARP with hardware addresses of eight bytes",
    arrives: (n) => n.fromTap(POD_PORT, patched(frame(FROM_POD), 18, [8])),
    verdict: "malformedArp",
    leaves: [],
  },
];

describe("ARP", () => {
  fixtureTests(FIXTURES);
});
