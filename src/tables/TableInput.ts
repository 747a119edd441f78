/**
 * What a table image is built from: plain numbers, already validated. IPv4 addresses are
 * big-endian numbers as int32 (192.168.2.30 is 0xc0a8021e | 0), MACs are a high 16-bit and a low
 * 32-bit number. IPv6 will be further fields beside the IPv4 ones.
 */

export interface Mac {
  /** First two bytes, as a number. */
  hi: number;
  /** Last four bytes, as int32. */
  lo: number;
}

/** Load-balancer addresses on the LAN (VipTable). */
export interface AnnounceInput {
  /** Port number of the packet socket on the LAN interface, -1 without. */
  port: number;
  /** MAC of the LAN interface. */
  mac: Mac;
  /** LAN interfaces of other nodes, by VTEP index. */
  nodes: { node: number; mac: Mac }[];
  /** `order`: VTEP indices, THIS_NODE for this one; the first that is alive owns the address. */
  vips: { address: number; order: number[] }[];
}

/** BFD sessions with other nodes (BfdTable). */
export interface BfdInput {
  /** Port number of the socket to send from, -1 without: then there are no sessions. */
  sendPort: number;
  /** bfd.DesiredMinTxInterval and bfd.RequiredMinRxInterval, microseconds, and bfd.DetectMult. */
  desiredMinTxUs: number;
  requiredMinRxUs: number;
  detectMult: number;
  /** VTEP indices of the nodes to have sessions with. */
  peers: number[];
}

/** No sessions. */
export const NO_BFD: BfdInput = {
  sendPort: -1,
  desiredMinTxUs: 0,
  requiredMinRxUs: 0,
  detectMult: 0,
  peers: [],
};

/** Nothing to announce. */
export const NO_ANNOUNCEMENT: AnnounceInput = { port: -1, mac: { hi: 0, lo: 0 }, nodes: [], vips: [] };

export interface TableInput {
  node: {
    /** podwire0's address, also the source of ICMP errors. */
    tunnelAddress: number;
    /** Address of the VXLAN socket. */
    underlayAddress: number;
    /** MAC of podwire0, which is this node's VTEP MAC. */
    mac: Mac;
    vni: number;
    vxlanPort: number;
    /** MTU of the overlay: underlay MTU - 50. */
    mtu: number;
    /** Port number of podwire0's TAP. */
    nodePort: number;
    /** Port number of the VXLAN socket. */
    tunnelPort: number;
    /** Port number of the raw ICMP socket, -1 without. */
    icmpPort: number;
    /** Port number of the raw UDP socket, which hears what the kernel put together; -1 without. */
    reassemblyPort: number;
    /** Port number of the tunnel GSO TAP, -1 without. */
    gsoPort: number;
    /** MAC of the tunnel GSO TAP. */
    gsoMac: Mac;
  };
  /** Pod pools. */
  pools: { address: number; length: number }[];
  /** Ranges of ClusterIPs: an address in them that no Service has leads nowhere. */
  serviceRanges: { address: number; length: number }[];
  /** The node's addresses at which NodePorts answer, but for 127.0.0.1. */
  nodePortAddresses: number[];
  /** TAPs of pods and of the node. */
  ports: {
    port: number;
    role: "pod" | "node";
    mac: Mac;
    /** The pod's address; the tunnel address for the node. */
    address: number;
    /** The device takes UDP GSO frames (USO). */
    uso: boolean;
  }[];
  /** Other nodes; `index` numbers are the caller's, stable over images, below MAX_PEERS. */
  vteps: {
    index: number;
    address: number;
    udpPort: number;
    mac: Mac;
    tunnelAddress: number;
    /** It is a podwire agent, which sends replies back to where a flow came through. */
    tags: boolean;
  }[];
  announce: AnnounceInput;
  bfd: BfdInput;
  /**
   * Source addresses with which the node's own routes leave for the outside, by prefix; 0 where they
   * do not lead there.
   */
  egress: { address: number; length: number; source: number }[];
  /** Source ports of what leaves for the outside; the node's rules bring these back. */
  egressPorts: { first: number; last: number };
  routes: {
    address: number;
    length: number;
    /**
     * port: deliver to TAP `target`; vtep: send to VTEP `target`; unreachable: part of an own block
     * that no pod has (ICMP host unreachable).
     */
    to: "port" | "vtep" | "unreachable";
    target: number;
  }[];
}
