/** What a trace is: plain values for text, pictures and other programs. Addresses are dotted decimal. */

/** Who takes part: a node by its name, or "pc", "LAN", or the address of a machine outside. */
export type Lane = string;

/** Where a step takes place. */
export type TraceStage =
  | "send"
  | "arp"
  | "kernel"
  | "decap"
  | "parse"
  | "neighbor"
  | "policy"
  | "conntrack"
  | "service"
  | "translate"
  | "route"
  | "encap"
  | "deliver"
  | "drop";

/** A packet as its headers say. Ports are those of TCP, UDP and SCTP; of ICMP echo, the identifier. */
export interface PacketView {
  protocol: string;
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  ttl: number;
  /** IPv4 header and all behind it. */
  bytes: number;
  /** TCP flags ("SYN", "SYN ACK"), what an ICMP message is, else "". */
  info: string;
  /** Type of an ICMP message. */
  icmpType?: number;
}

export interface EndpointView {
  address: string;
  l4Port: number;
  /** Name of its pod, "" where none is known. */
  pod: string;
  /** Its node, "" where it is not said. */
  node: string;
  /** The node that chooses holds this one's for dead: new connections do not get it while another lives. */
  dead: boolean;
  chosen: boolean;
}

/** Which Service was asked for, and how its endpoint was chosen. */
export interface ServiceView {
  /** namespace/name:port */
  name: string;
  /** What was asked: ClusterIP, NodePort, load-balancer address, external address. */
  frontend: string;
  /** Endpoints of the ring; empty where there is none to choose from. */
  endpoints: EndpointView[];
  /** Slots of the ring, and the one that the client's address and port lead to; -1 without. */
  slots: number;
  slot: number;
  /** The slot taken: another one where the endpoint of `slot` is on a dead node. */
  taken: number;
  /** Session affinity in seconds, 0 without. */
  affinitySeconds: number;
}

/** The flow that a packet belongs to, or begins. */
export interface FlowFacts {
  found: boolean;
  state: string;
  /** Whether the packet goes the way of the first one. */
  original: boolean;
  ageSeconds: number;
  flags: string[];
}

/** The frame between two nodes. */
export interface OuterView {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  vni: number;
  innerSourceMac: string;
  innerDestinationMac: string;
  /** Tag in the inner source MAC, 0 without. */
  tag: number;
  /** Bytes of the UDP payload. */
  bytes: number;
}

export interface DropView {
  /** Name of the DropReason, or what the network outside of podwire does. */
  reason: string;
  why: string;
  /** What would change it. */
  remedy: string;
}

export interface TraceStep {
  lane: Lane;
  stage: TraceStage;
  /** What was decided, and why. */
  what: string;
  because: string;
  /** The packet after this step, where it is another than before. */
  packet?: PacketView;
  before?: PacketView;
  service?: ServiceView;
  flow?: FlowFacts;
  outer?: OuterView;
  drop?: DropView;
}

/** How a packet ends. */
export type End =
  | {
      kind: "delivered";
      lane: Lane;
      /** "pod default/x", "a program of the node", "192.168.2.10" */
      to: string;
      packet: PacketView;
    }
  | { kind: "dropped"; lane: Lane; drop: DropView }
  /** It goes where nothing can be looked at. */
  | { kind: "unseen"; lane: Lane; why: string; packet: PacketView };

/** The way of one packet. */
export interface Way {
  packet: PacketView;
  /** As it is where it ends. */
  packetAtEnd: PacketView;
  steps: TraceStep[];
  end: End;
}

/** What really became of a flow, by the nodes' flow tables. */
export interface LiveView {
  /** In the manner of conntrack -L, from each node that knows it. */
  flows: { node: string; line: string }[];
  /** Whether it went as the trace says. */
  agrees: boolean;
  /** "" where it agrees. */
  difference: string;
}

export interface Trace {
  version: 1;
  /** What was asked, in words: "pc", "svc/web". */
  from: string;
  to: string;
  /** The real flow that it was held against; null where the packet is only made up. */
  live: LiveView | null;
  request: Way;
  /** The answer, a refusal included; null where none comes. */
  reply: Way | null;
  /** "answered": the reply reaches who asked. */
  verdict: "answered" | "refused" | "delivered" | "dropped" | "unseen";
  /** What could not be looked at. */
  notes: string[];
}
