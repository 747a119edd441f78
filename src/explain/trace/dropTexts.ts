/** Each drop reason in a user's words: why the packet ends there, and what would change it. */
import type { DropReason } from "../../packet/DropReason.js";

type ReasonName = keyof typeof DropReason;

/** [why, remedy] */
export const DROP_TEXTS: Readonly<Record<ReasonName, readonly [string, string]>> = {
  runt: ["the frame is shorter than its headers", "The sender, or something on the way, cuts frames."],
  truncated: ["the frame is longer than what can be received", "Lower the sender's MTU."],
  etherType: ["neither IPv4 nor ARP", "IPv6 is not carried yet."],
  wrongMac: [
    "not addressed to this node's MAC",
    "The sender has a wrong neighbour entry: delete it, or check the VTEP MAC in the node's annotations.",
  ],
  malformedIpv4: ["the IPv4 header contradicts the frame", "The sender makes bad packets."],
  ipv4Checksum: ["the IPv4 header's checksum is wrong", "Something on the way damages packets."],
  malformedL4: ["the transport header contradicts the packet", "The sender makes bad packets."],
  malformedArp: ["an ARP message that is none", "The sender makes bad frames."],
  arpIgnored: ["an ARP message that wants no answer", "Nothing: it is no fault."],
  vnetHeader: [
    "offload fields that do not fit the packet",
    "The pod's kernel, or who writes to its TAP, is at fault.",
  ],
  unknownVtep: [
    "it comes from an address that is no node's",
    "The sender is no node of this cluster, or its Node has another InternalIP: podwire check says which.",
  ],
  vxlanHeader: ["no VXLAN header with a VNI", "Something else sends to the VXLAN port."],
  wrongVni: ["another VXLAN network", "Give all nodes the same --vni."],
  forgedSource: [
    "the source is not the pod's own address",
    "A pod may send from its own address only; one that routes for others is not supported.",
  ],
  podVxlan: ["a pod that speaks VXLAN or BFD to a node", "Pods must not speak as nodes; use another port."],
  vtepSource: [
    "the source does not belong behind the node that sent it",
    "Tables differ between nodes: podwire check on both says where, and a moved block settles within seconds.",
  ],
  martian: ["an address that is never routed", "Use an address that is one."],
  multicast: ["a group or broadcast address", "The overlay carries no multicast."],
  noRoute: [
    "no route leads there",
    "The address is in no node's block and the node has no route to it; with --egress off pods do not reach the outside.",
  ],
  hostUnreachable: [
    "an address of this node's block that no pod has",
    "The pod is gone or not attached yet: kubectl get pod -o wide, podwire status.",
  ],
  transit: [
    "what comes from the tunnel does not go back into it",
    "The sender's tables name the wrong node for this address: podwire check says where.",
  ],
  ttlExceeded: ["the packet's time to live is over", "Raise the sender's TTL, or look for a loop."],
  fragmentationNeeded: [
    "longer than the overlay's MTU, and not to be fragmented",
    "The sender is told the MTU by ICMP; let that through, or lower the sender's MTU.",
  ],
  oversize: ["longer than the overlay's MTU, and not divisible", "Lower the sender's MTU."],
  txBusy: ["the way out was full", "Nothing, if seldom; otherwise the receiver does not keep up."],
  txFailed: ["the kernel refused to send it", "The agent's log says with which error."],
  portDown: [
    "the device it came from, or goes to, is gone",
    "The pod is being removed; otherwise podwire status says what failed.",
  ],
  internalError: ["the dataplane failed on it", "The agent's log has the fault: please report it."],
  noServicePort: [
    "the Service has no such port",
    "Ask for one of its ports (kubectl get svc), with the right protocol.",
  ],
  noEndpoint: [
    "the Service has no endpoint that serves",
    "Is a pod with its labels Running and Ready? kubectl get endpointslices",
  ],
  noLocalEndpoint: [
    "the traffic policy is Local, and no endpoint is on this node",
    "Ask a node that has one, or set the Service's traffic policy to Cluster.",
  ],
  clusterIpFromOutside: [
    "a ClusterIP does not answer machines outside of the cluster",
    "Make the Service a NodePort or LoadBalancer.",
  ],
  sourceRange: [
    "the client is not in the Service's loadBalancerSourceRanges",
    "Add the client's address to loadBalancerSourceRanges.",
  ],
  noFlow: [
    "in the middle of a connection that nobody knows",
    "The connection is over, or was translated elsewhere: open it anew.",
  ],
  tupleTaken: [
    "all source ports that were tried are in use towards this endpoint",
    "Another client port, or more endpoints.",
  ],
  conntrackFull: ["the flow table is full of flows that may not go", "Raise --max-flows."],
  egressProtocol: [
    "this protocol cannot leave the cluster behind the node's address",
    "TCP, UDP, SCTP and ping can; or the node has no route there.",
  ],
  egressPorts: [
    "no egress port is free towards this destination",
    "Widen --egress-ports, or open fewer connections to it.",
  ],
  ingressGone: ["the node through which the connection came is gone", "Open the connection anew."],
  untranslatable: ["ports of a fragmented SCTP packet cannot be translated", "Lower the sender's MTU."],
  fragmentOrphan: ["the first fragment did not come, or was dropped", "Lower the sender's MTU."],
  unallocatedClusterIp: [
    "it lies in the range of ClusterIPs, and no Service has it",
    "Ask for an address that one has: kubectl get svc",
  ],
  notOurs: ["heard by the agent, and the node's own", "Nothing: the node's kernel has it."],
  flowShare: [
    "a message about flows that is malformed, or not from a node of this cluster",
    "All nodes have to run releases that speak the same version.",
  ],
};
