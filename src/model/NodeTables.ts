/**
 * What an agent says of the tables that its dataplane works by, for those who explain a packet's way
 * or draw the cluster: `podwire/tables` and `podwire/records` of the pod port. Plain values; bytes are
 * base64 of int32 words in little-endian order.
 */
import type { PortRange } from "./portRanges.js";

export const NODE_TABLES_VERSION = 2;

/** The tables in force on one node, with the names of what is in them. */
export interface NodeTables {
  version: typeof NODE_TABLES_VERSION;
  node: string;
  /** Table image (tables/TableImage). */
  image: string;
  /** Service table (tables/serviceSnapshot). */
  services: string;
  /** Pods that are attached here; `port` is their port number in the image. */
  pods: { name: string; address: string; port: number; interface: string }[];
  /** The other nodes, by underlay address as in the image. */
  vteps: { node: string; address: string; tunnelAddress: string; mac: string; blocks: string[] }[];
  /** What the dataplane goes by: which nodes it holds for alive or dead, by name. */
  liveness: {
    /** May own load-balancer addresses; this node included. */
    up: string[];
    /** BFD has lost them: new flows pass over the endpoints on them. */
    down: string[];
  };
  /** Service ports by their number in the table, and the endpoints that their slices name. */
  servicePorts: {
    id: number;
    /** namespace/name */
    service: string;
    /** "" where the only port has none. */
    port: string;
    protocol: string;
    l4Port: number;
    endpoints: { address: string; l4Port: number; node: string }[];
  }[];
  /** What the node's kernel is told about Services: null where the node carries none. */
  host: NodeHost | null;
  /** Load-balancer addresses, as this node sees them. */
  announced: {
    address: string;
    /** Name of the node that owns it, "" where none does. */
    owner: string;
    /** This node answers ARP for it. */
    answers: boolean;
    /** The nodes that may own it: the first that is up does. */
    order: { node: string; up: boolean }[];
    /** Why no node may own it, "" where one may. */
    problem: string;
  }[];
}

/** What the rules and routes of a node lead to podwire0. */
export interface NodeHost {
  /** Addresses at which NodePorts answer, and whether 127.0.0.1 does. */
  nodePortAddresses: string[];
  localhostNodePorts: boolean;
  nodePorts: PortRange;
  egressPorts: PortRange;
  egress: boolean;
  /** Ranges of ClusterIPs. */
  ranges: string[];
  /** Load-balancer and external addresses. */
  vips: string[];
  /** The node's own addresses, on links that are not ours. */
  addresses: string[];
}

/** Records of the flow table, raw. */
export interface NodeFlowRecords {
  /** The table's clock: milliseconds, modulo 2^32, as int32. */
  nowMs: number;
  /** Words of one record (tables/flowLayout). */
  recordWords: number;
  /** The records, one after another. */
  records: string;
  /** Affinities of the addresses as clients (tables/AffinityTable). */
  affinities: string;
  /** There are more than are handed out at once. */
  truncated: boolean;
}
