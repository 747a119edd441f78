/**
 * Why a frame was dropped. One reason a drop, one counter a reason. The numbers index counter
 * arrays; the names are what users see. A new reason goes to the end of its group.
 */
export const DropReason = {
  /** Shorter than the headers it must have. */
  runt: 0,
  /** Longer than the receive slot, or behind the 128th datagram of a train. */
  truncated: 1,
  /** An EtherType that is not carried (IPv6 so far among them). */
  etherType: 2,
  /** Not addressed to the gateway's MAC. */
  wrongMac: 3,
  /** IPv4 version, header length or total length contradict the frame. */
  malformedIpv4: 4,
  ipv4Checksum: 5,
  /** TCP or UDP lengths contradict the packet. */
  malformedL4: 6,
  malformedArp: 7,
  /** ARP that wants no answer: replies, announcements, probes for the pod's own address. */
  arpIgnored: 8,
  /** virtio-net header: offsets outside the packet, GSO without size, types that do not fit. */
  vnetHeader: 9,
  /** Datagram from an address that is no VTEP. */
  unknownVtep: 10,
  /** VXLAN header without VNI flag. */
  vxlanHeader: 11,
  wrongVni: 12,
  /** Source address is not the pod's own. */
  forgedSource: 13,
  /** A pod that speaks VXLAN, or BFD, to a node. */
  podVxlan: 14,
  /** Inner source that does not belong behind the sending VTEP. */
  vtepSource: 15,
  /** Source or destination that is never routed: loopback, 0/8, 240/4. */
  martian: 16,
  multicast: 17,
  /** No route (ICMP network unreachable). */
  noRoute: 18,
  /** An address of an own block that no pod has (ICMP host unreachable). */
  hostUnreachable: 19,
  /** From the tunnel, to a destination behind another VTEP. */
  transit: 20,
  ttlExceeded: 21,
  /** Too long for the way out and not to be fragmented (ICMP fragmentation needed). */
  fragmentationNeeded: 22,
  /** Too long for the way out and not divisible. */
  oversize: 23,
  /** The way out was full (EAGAIN, ENOBUFS). */
  txBusy: 24,
  /** The way out refused (another errno). */
  txFailed: 25,
  /** The way out is gone or down (EIO, EBADFD). */
  portDown: 26,
  /** The dataplane threw. */
  internalError: 27,
  /** A Service's address, but no port of it (rejected). */
  noServicePort: 28,
  /** A Service without endpoints (rejected). */
  noEndpoint: 29,
  /** A Service whose traffic policy is Local, without an endpoint here. */
  noLocalEndpoint: 30,
  /** A ClusterIP asked for from outside the cluster. */
  clusterIpFromOutside: 31,
  /** Not in loadBalancerSourceRanges. */
  sourceRange: 32,
  /** In mid-stream, and of no flow that is known. */
  noFlow: 33,
  /** Every source port that was tried is taken towards this destination. */
  tupleTaken: 34,
  /** The flow table is full of flows that may not go. */
  conntrackFull: 35,
  /** A protocol that cannot leave the cluster behind the node's address. */
  egressProtocol: 36,
  /** No egress port is free towards this destination. */
  egressPorts: 37,
  /** The node through which the connection came in is gone. */
  ingressGone: 38,
  /** Cannot be translated: ports of a fragmented SCTP packet. */
  untranslatable: 39,
  /** A later fragment whose first one did not come in time, or was dropped. */
  fragmentOrphan: 40,
  /** Heard by a raw socket and no business of ours: the node's kernel has it. */
  notOurs: 41,
  /** In a range of ClusterIPs, and no Service's. */
  unallocatedClusterIp: 42,
  /** A message about flows (wire/flowShare) that is malformed, or not from a node of ours. */
  flowShare: 43,
} as const;

export type DropReason = (typeof DropReason)[keyof typeof DropReason];

/** Names by number. */
export const DROP_REASON_NAMES: readonly string[] = Object.keys(DropReason);
export const DROP_REASONS = DROP_REASON_NAMES.length;
