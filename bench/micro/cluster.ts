/** The tables of a made-up cluster, and a dataplane over them whose plans go nowhere. */

import { Dataplane } from "../../src/dataplane/Dataplane.js";
import { Arena } from "../../src/packet/Arena.js";
import { COUNTERS } from "../../src/packet/counters.js";
import { ARENA } from "../../src/packet/layout.js";
import { TxPlan } from "../../src/packet/TxPlan.js";
import { FlowTable, newFlowTable } from "../../src/tables/FlowTable.js";
import {
  FLOW_ORIGINAL,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_STATE,
  FLOW_WORDS,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  UDP_STREAM,
} from "../../src/tables/flowLayout.js";
import {
  FRONTEND_CLUSTER_IP,
  RING_REJECT,
  type ServiceImage,
  ServiceTableBuilder,
} from "../../src/tables/ServiceTable.js";
import { buildTableImage, Tables } from "../../src/tables/TableImage.js";
import { NO_ANNOUNCEMENT, NO_BFD, type TableInput } from "../../src/tables/TableInput.js";
import * as ipv4 from "../../src/wire/ipv4.js";

/** Port numbers of the node measured. */
export const NODE_PORT = 0;
export const TUNNEL_PORT = 1;
export const GSO_PORT = 2;
export const POD_PORT = 3;
export const OTHER_POD_PORT = 4;

/** 10.1.235.192/26 and its pods; the peers' blocks lie in 10.2.0.0/15 and up. */
export const TUNNEL_ADDRESS = address(10, 1, 235, 192);
export const POD_ADDRESS = address(10, 1, 235, 211);
export const OTHER_POD_ADDRESS = address(10, 1, 235, 212);
const BLOCK_LENGTH = 26;
const FIRST_BLOCK = address(10, 2, 0, 0);
const BLOCK_SIZE = 64;

export const UNDERLAY_ADDRESS = address(192, 168, 2, 30);
const FIRST_PEER = address(172, 16, 0, 1);
export const VNI = 4096;
export const VXLAN_PORT = 4789;
/** MTU of the overlay. */
export const MTU = 1450;
export const NODE_MAC = { hi: 0x6600, lo: 0x0a };
const LAST_WORD = 0x0b;

/** An IPv4 address as the tables have it. */
export function address(a: number, b: number, c: number, d: number): number {
  return (a << 24) | (b << 16) | (c << 8) | d;
}

/** Underlay address of peer `index`. */
export function peerAddress(index: number): number {
  return (FIRST_PEER + index) | 0;
}

/** Address of the first pod behind peer `index`. */
export function peerPod(index: number): number {
  return (FIRST_BLOCK + index * BLOCK_SIZE + 1) | 0;
}

/** Capacity of the flow table. */
const FLOWS = 262_144;

const FIRST_CLUSTER_IP = address(10, 152, 0, 1);
const FIRST_STRANGER = address(100, 64, 0, 1);
export const SERVICE_PORT = 80;
export const BACKEND_PORT = 8080;

/** Tables of a node with two pods and `peers` other nodes. */
export function clusterTables(peers: number, gso: boolean): Tables {
  const vteps: TableInput["vteps"] = [];
  const routes: TableInput["routes"] = [
    { address: TUNNEL_ADDRESS, length: BLOCK_LENGTH, to: "unreachable", target: 0 },
    { address: TUNNEL_ADDRESS, length: 32, to: "port", target: NODE_PORT },
    { address: POD_ADDRESS, length: 32, to: "port", target: POD_PORT },
    { address: OTHER_POD_ADDRESS, length: 32, to: "port", target: OTHER_POD_PORT },
  ];
  for (let index = 0; index < peers; index++) {
    const block = (FIRST_BLOCK + index * BLOCK_SIZE) | 0;
    vteps.push({
      index,
      address: peerAddress(index),
      udpPort: VXLAN_PORT,
      mac: { hi: 0x6600, lo: LAST_WORD + index },
      tunnelAddress: block,
      tags: true,
    });
    routes.push({ address: block, length: BLOCK_LENGTH, to: "vtep", target: index });
  }
  const pod = (port: number, podAddress: number) =>
    ({ port, role: "pod", mac: { hi: 0x0270, lo: podAddress }, address: podAddress, uso: true }) as const;
  return new Tables(
    buildTableImage({
      node: {
        tunnelAddress: TUNNEL_ADDRESS,
        underlayAddress: UNDERLAY_ADDRESS,
        mac: NODE_MAC,
        vni: VNI,
        vxlanPort: VXLAN_PORT,
        mtu: MTU,
        nodePort: NODE_PORT,
        tunnelPort: TUNNEL_PORT,
        icmpPort: -1,
        reassemblyPort: -1,
        gsoPort: gso ? GSO_PORT : -1,
        gsoMac: { hi: 0x0271, lo: 1 },
      },
      pools: [{ address: address(10, 0, 0, 0), length: 8 }],
      serviceRanges: [],
      nodePortAddresses: [UNDERLAY_ADDRESS],
      ports: [
        { port: NODE_PORT, role: "node", mac: NODE_MAC, address: TUNNEL_ADDRESS, uso: true },
        pod(POD_PORT, POD_ADDRESS),
        pod(OTHER_POD_PORT, OTHER_POD_ADDRESS),
      ],
      vteps,
      routes,
      egress: [],
      egressPorts: { first: 0, last: 0 },
      announce: NO_ANNOUNCEMENT,
      bfd: NO_BFD,
    }),
  );
}

/** ClusterIP of Service `index`, which takes UDP and TCP at SERVICE_PORT. */
export function clusterIp(index: number): number {
  return (FIRST_CLUSTER_IP + index) | 0;
}

/** `count` Services; the only backend of each is the first pod behind peer 0. */
export function clusterServices(count: number): ServiceImage {
  const builder = new ServiceTableBuilder();
  const ring = builder.acquireRing(Int32Array.of(peerPod(0), BACKEND_PORT, 0, 1));
  for (let index = 0; index < count; index++) {
    for (const protocol of [ipv4.PROTOCOL_TCP, ipv4.PROTOCOL_UDP])
      builder.setFrontend(clusterIp(index), protocol, SERVICE_PORT, {
        flags: FRONTEND_CLUSTER_IP,
        affinitySeconds: 0,
        affinityKey: 0,
        inside: ring,
        outside: RING_REJECT,
        ranges: 0,
        service: index + 1,
      });
  }
  return builder.commit();
}

/** Puts `count` flows into a table that no packet of a benchmark belongs to. Throws where it is full. */
export function addStrangers(flows: FlowTable, count: number): void {
  const draft = new Int32Array(FLOW_WORDS);
  draft[FLOW_PROTOCOL] = ipv4.PROTOCOL_UDP;
  draft[FLOW_STATE] = UDP_STREAM;
  for (let index = 0; index < count; index++) {
    const client = (FIRST_STRANGER + index) | 0;
    draft[FLOW_ORIGINAL + KEY_SOURCE] = client;
    draft[FLOW_ORIGINAL + KEY_DESTINATION] = clusterIp(0);
    draft[FLOW_ORIGINAL + KEY_PORTS] = (5000 << 16) | SERVICE_PORT;
    draft[FLOW_REPLY + KEY_SOURCE] = peerPod(0);
    draft[FLOW_REPLY + KEY_DESTINATION] = client;
    draft[FLOW_REPLY + KEY_PORTS] = (BACKEND_PORT << 16) | 5000;
    if (flows.insert(draft, 0) < 0) throw new Error("the flow table is full");
  }
}

/** A dataplane whose sink forgets every plan. */
export function idleDataplane(tables: Tables): Dataplane {
  const arena = new Arena(new ArrayBuffer(ARENA.bytes));
  const plan = new TxPlan(arena);
  const sink = { execute: () => plan.reset() };
  return new Dataplane(
    arena,
    new Float64Array(COUNTERS),
    tables,
    sink,
    new FlowTable(newFlowTable(FLOWS)),
    plan,
  );
}

/** Closes and forgets what a breath planned. */
export function endBreath(dp: Dataplane): void {
  dp.closeOpen();
  dp.sink.execute();
}
