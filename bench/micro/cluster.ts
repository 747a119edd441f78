/** The tables of a made-up cluster, and a dataplane over them whose plans go nowhere. */

import { Dataplane } from "../../src/dataplane/Dataplane.js";
import { Arena } from "../../src/packet/Arena.js";
import { COUNTERS } from "../../src/packet/counters.js";
import { ARENA } from "../../src/packet/layout.js";
import { TxPlan } from "../../src/packet/TxPlan.js";
import { FlowTable, newFlowTable } from "../../src/tables/FlowTable.js";
import { buildTableImage, Tables } from "../../src/tables/TableImage.js";
import type { TableInput } from "../../src/tables/TableInput.js";

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
const FLOWS = 65_536;

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
      ports: [
        { port: NODE_PORT, role: "node", mac: NODE_MAC, address: TUNNEL_ADDRESS, uso: true },
        pod(POD_PORT, POD_ADDRESS),
        pod(OTHER_POD_PORT, OTHER_POD_ADDRESS),
      ],
      vteps,
      routes,
      egress: [],
      egressPorts: { first: 0, last: 0 },
    }),
  );
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
