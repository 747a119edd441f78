/**
 * A node of the walkthrough without kernel: Breather over MemoryIo. Frames go in as a TAP or the
 * tunnel would hand them over, and what was sent comes out.
 *
 *   pods 10.1.235.193 .194 ─┐                          ┌─ 192.168.2.31  10.1.79.64/26   VTEP 0
 *   podwire0 10.1.235.192  ─┼─ k8s-master 192.168.2.30 ┤
 *   (tunnel GSO TAP)       ─┘                          └─ 192.168.2.32  10.1.69.192/26  VTEP 1
 */

import { Arena } from "../../src/packet/Arena.js";
import {
  COUNT_ANSWERED,
  COUNT_DROPS,
  COUNT_FORWARDED,
  COUNT_RECEIVED,
  COUNTERS,
} from "../../src/packet/counters.js";
import { DROP_REASON_NAMES } from "../../src/packet/DropReason.js";
import { ARENA, PORT_RAW, PORT_TAP, PORT_UDP } from "../../src/packet/layout.js";
import { MemoryIo, type Sent } from "../../src/port/MemoryIo.js";
import { FlowTable, newFlowTable } from "../../src/tables/FlowTable.js";
import { buildTableImage, Tables } from "../../src/tables/TableImage.js";
import { NO_ANNOUNCEMENT, NO_BFD, type TableInput } from "../../src/tables/TableInput.js";
import { Breather } from "../../src/worker/Breather.js";
import { address, concat, ethernet, GATEWAY, IPV4, macNumbers, vnet, vxlan } from "./frames.js";

export const NODE_PORT = 0;
export const TUNNEL_PORT = 1;
export const POD_PORT = 2;
export const OTHER_POD_PORT = 3;
export const GSO_PORT = 4;
export const ICMP_PORT = 5;
export const REASSEMBLY_PORT = 6;
export const LAN_PORT = 7;
export const BFD_RECEIVE_PORT = 8;
export const BFD_SEND_PORT = 9;
export const LINK_EVENTS_PORT = 10;
/** MAC of k8s-master's LAN interface. */
export const LAN_MAC = "52:54:00:00:00:30";

export const VNI = 4096;
export const MTU = 1450;
/** Longest frame on the overlay. */
export const FRAME = MTU + 14;
export const GSO_MAC = "02:50:57:00:00:01";

export interface NodeAddresses {
  underlay: string;
  tunnel: string;
  block: string;
  vtepMac: string;
  pod: string;
  podMac: string;
  otherPod: string;
  otherPodMac: string;
}

export const MASTER: NodeAddresses = {
  underlay: "192.168.2.30",
  tunnel: "10.1.235.192",
  block: "10.1.235.192",
  vtepMac: "66:1e:00:00:00:1e",
  pod: "10.1.235.193",
  podMac: "02:70:0a:01:eb:c1",
  otherPod: "10.1.235.194",
  otherPodMac: "02:70:0a:01:eb:c2",
};

export const WORKER01: NodeAddresses = {
  underlay: "192.168.2.31",
  tunnel: "10.1.79.64",
  block: "10.1.79.64",
  vtepMac: "66:1f:00:00:00:1f",
  pod: "10.1.79.65",
  podMac: "02:70:0a:01:4f:41",
  otherPod: "10.1.79.66",
  otherPodMac: "02:70:0a:01:4f:42",
};

export const WORKER02: NodeAddresses = {
  underlay: "192.168.2.32",
  tunnel: "10.1.69.192",
  block: "10.1.69.192",
  vtepMac: "66:20:00:00:00:20",
  pod: "10.1.69.193",
  podMac: "02:70:0a:01:45:c1",
  otherPod: "10.1.69.194",
  otherPodMac: "02:70:0a:01:45:c2",
};

export interface NodeOptions {
  self?: NodeAddresses;
  peers?: NodeAddresses[];
  /** Those of the peers that are kernel vxlan devices: they know no tags. */
  kernelPeers?: NodeAddresses[];
  /** The tunnel GSO TAP is there. */
  gso?: boolean;
  /** TAPs take UDP GSO frames. */
  uso?: boolean;
  mtu?: number;
  /** Pods reach the outside behind the node's address. */
  egress?: boolean;
  /** Where NodePorts answer, besides the underlay address: further addresses of the node. */
  nodePortAddresses?: string[];
  /** Load-balancer addresses with the nodes that may own them: VTEP indices, THIS_NODE. */
  announce?: Record<string, number[]>;
  /** Flows at most. */
  maxFlows?: number;
}

/** The tables of one node of the walkthrough. */
export function tableInput(options: NodeOptions = {}): TableInput {
  const {
    self = MASTER,
    peers = [WORKER01, WORKER02],
    kernelPeers = [],
    gso = false,
    uso = true,
    mtu = MTU,
    egress = false,
    nodePortAddresses = [],
    announce,
  } = options;
  const pod = (port: number, mac: string, podAddress: string) =>
    ({ port, role: "pod", mac: macNumbers(mac), address: address(podAddress), uso }) as const;
  return {
    node: {
      tunnelAddress: address(self.tunnel),
      underlayAddress: address(self.underlay),
      mac: macNumbers(self.vtepMac),
      vni: VNI,
      vxlanPort: 4789,
      mtu,
      nodePort: NODE_PORT,
      tunnelPort: TUNNEL_PORT,
      icmpPort: ICMP_PORT,
      reassemblyPort: REASSEMBLY_PORT,
      gsoPort: gso ? GSO_PORT : -1,
      gsoMac: macNumbers(GSO_MAC),
    },
    pools: [{ address: address("10.1.0.0"), length: 16 }],
    serviceRanges: [{ address: address("10.152.183.0"), length: 24 }],
    nodePortAddresses: [self.underlay, ...nodePortAddresses].map(address),
    ports: [
      { port: NODE_PORT, role: "node", mac: macNumbers(self.vtepMac), address: address(self.tunnel), uso },
      pod(POD_PORT, self.podMac, self.pod),
      pod(OTHER_POD_PORT, self.otherPodMac, self.otherPod),
    ],
    vteps: peers.map((peer, index) => ({
      index,
      address: address(peer.underlay),
      udpPort: 4789,
      mac: macNumbers(peer.vtepMac),
      tunnelAddress: address(peer.tunnel),
      tags: !kernelPeers.includes(peer),
    })),
    routes: [
      { address: address(self.tunnel), length: 32, to: "port", target: NODE_PORT },
      { address: address(self.underlay), length: 32, to: "port", target: NODE_PORT },
      ...nodePortAddresses.map((each) => ({
        address: address(each),
        length: 32,
        to: "port" as const,
        target: NODE_PORT,
      })),
      { address: address(self.pod), length: 32, to: "port", target: POD_PORT },
      { address: address(self.otherPod), length: 32, to: "port", target: OTHER_POD_PORT },
      { address: address(self.block), length: 26, to: "unreachable", target: 0 },
      ...peers.map((peer, target) => ({
        address: address(peer.block),
        length: 26,
        to: "vtep" as const,
        target,
      })),
    ],
    egress: egress ? [{ address: 0, length: 0, source: address(self.underlay) }] : [],
    egressPorts: { first: 61_000, last: 65_534 },
    announce: announce === undefined ? NO_ANNOUNCEMENT : announceInput(announce),
    bfd: announce === undefined ? NO_BFD : BFD_INPUT,
  };
}

/** BFD with both peers, 100 ms × 3. */
const BFD_INPUT: TableInput["bfd"] = {
  sendPort: BFD_SEND_PORT,
  desiredMinTxUs: 100_000,
  requiredMinRxUs: 100_000,
  detectMult: 3,
  peers: [0, 1],
};

function announceInput(vips: Record<string, number[]>): TableInput["announce"] {
  return {
    port: LAN_PORT,
    mac: macNumbers(LAN_MAC),
    nodes: [WORKER01, WORKER02].map((_, node) => ({ node, mac: macNumbers(lanMac(node)) })),
    vips: Object.entries(vips).map(([vip, order]) => ({ address: address(vip), order })),
  };
}

/** MAC of the LAN interface of the peer with a VTEP index. */
export function lanMac(peer: number): string {
  return `52:54:00:00:00:3${peer + 1}`;
}

/** What came of the frames that were injected. */
export interface Outcome {
  sent: Sent[];
  received: number;
  forwarded: number;
  answered: number;
  /** By name; reasons that did not occur are left out. */
  dropped: Record<string, number>;
}

export class TestNode {
  readonly arena = new Arena(new ArrayBuffer(ARENA.bytes));
  readonly io = new MemoryIo(this.arena);
  readonly counters = new Float64Array(COUNTERS);
  /** What Breather reported as thrown. */
  readonly faults: unknown[] = [];
  readonly failedPorts: { port: number; errno: number }[] = [];
  readonly flows: FlowTable;
  readonly breather: Breather;
  #before = new Float64Array(COUNTERS);

  constructor(options: NodeOptions = {}) {
    this.flows = new FlowTable(newFlowTable(options.maxFlows ?? 4096));
    const kinds: [number, number][] = [
      [NODE_PORT, PORT_TAP],
      [TUNNEL_PORT, PORT_UDP],
      [POD_PORT, PORT_TAP],
      [OTHER_POD_PORT, PORT_TAP],
      [GSO_PORT, PORT_TAP],
      [ICMP_PORT, PORT_RAW],
      [REASSEMBLY_PORT, PORT_RAW],
    ];
    for (const [port, kind] of kinds) this.io.addPort(port, kind, -1, true);
    this.breather = new Breather(
      this.arena,
      this.io,
      this.counters,
      new Tables(buildTableImage(tableInput(options))),
      this.flows,
      {
        portFailed: (port, errno) => this.failedPorts.push({ port, errno }),
        fault: (error) => this.faults.push(error),
      },
    );
  }

  /** A whole frame from a TAP. */
  fromTap(port: number, frame: Uint8Array, vnetHeader: Uint8Array = vnet()): this {
    this.io.injectTap(port, concat(vnetHeader, frame));
    return this;
  }

  /** An IPv4 packet that the pod on `port` sends to its gateway. */
  fromPod(packet: Uint8Array, vnetHeader?: Uint8Array, port = POD_PORT): this {
    const mac = port === POD_PORT ? MASTER.podMac : MASTER.otherPodMac;
    return this.fromTap(port, ethernet(GATEWAY, mac, IPV4, packet), vnetHeader);
  }

  /** An IPv4 packet that the node's kernel routes to podwire0. */
  fromNode(packet: Uint8Array, vnetHeader?: Uint8Array): this {
    return this.fromTap(NODE_PORT, ethernet(GATEWAY, MASTER.vtepMac, IPV4, packet), vnetHeader);
  }

  /** An IPv4 packet that the node's kernel delivers to itself, as a raw socket hears it. */
  heard(packet: Uint8Array, port = ICMP_PORT): this {
    this.io.injectRaw(port, packet);
    return this;
  }

  /** A datagram, or with `segment` a train, from an underlay address. */
  fromUnderlay(source: string, bytes: Uint8Array, segment?: number, flags?: number): this {
    this.io.injectUdp(TUNNEL_PORT, address(source), bytes, segment, flags);
    return this;
  }

  /** An IPv4 packet that k8s-worker01 sends through the tunnel. */
  fromWorker01(packet: Uint8Array): this {
    return this.fromUnderlay(WORKER01.underlay, fromVtep(WORKER01, packet));
  }

  /** IPv4 packets of equal length that UDP_GRO made a train of. */
  trainFromWorker01(packets: readonly Uint8Array[]): this {
    const parts = packets.map((packet) => fromVtep(WORKER01, packet));
    return this.fromUnderlay(WORKER01.underlay, concat(...parts), parts[0].length);
  }

  /** Breathes until everything is received and sent, and tells what came of it since the last time. */
  run(): Outcome {
    do this.breather.breathe(0, 0);
    while (this.io.pending > 0);
    this.breather.breathe(0, 0);
    return this.outcome();
  }

  /** What was sent and counted since the last time. */
  outcome(): Outcome {
    const delta = this.counters.map((count, i) => count - this.#before[i]);
    this.#before = this.counters.slice();
    const { sent } = this.io;
    this.io.sent = [];
    const dropped: Record<string, number> = {};
    DROP_REASON_NAMES.forEach((name, reason) => {
      if (delta[COUNT_DROPS + reason] !== 0) dropped[name] = delta[COUNT_DROPS + reason];
    });
    return {
      sent,
      received: delta[COUNT_RECEIVED],
      forwarded: delta[COUNT_FORWARDED],
      answered: delta[COUNT_ANSWERED],
      dropped,
    };
  }
}

/** The VXLAN datagram in which a VTEP sends a packet to k8s-master. */
export function fromVtep(vtep: NodeAddresses, packet: Uint8Array): Uint8Array {
  return vxlan(VNI, ethernet(MASTER.vtepMac, vtep.vtepMac, IPV4, packet));
}

/** The VXLAN datagram in which k8s-master sends a packet to a VTEP. */
export function toVtep(vtep: NodeAddresses, packet: Uint8Array): Uint8Array {
  return vxlan(VNI, ethernet(vtep.vtepMac, MASTER.vtepMac, IPV4, packet));
}

/** received = forwarded + answered + Σ dropped. */
export function accounted(outcome: Outcome): boolean {
  const drops = Object.values(outcome.dropped).reduce((sum, n) => sum + n, 0);
  return outcome.received === outcome.forwarded + outcome.answered + drops;
}
