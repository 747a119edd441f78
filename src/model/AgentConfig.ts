import type { PortRange } from "./portRanges.js";
import type { ServiceProtocol } from "./Service.js";

/**
 * The static description of one node, as `podwire agent --config FILE` reads it, after validation
 * and with every default filled in. Addresses are dotted decimal, prefixes CIDR.
 */
export interface AgentConfig {
  /** Name of this cluster node. */
  node: string;
  /** Directory for the agent's record of what it made on the host. Default /run/podwire. */
  stateDir: string;
  underlay: {
    /** This node's address on the LAN; the VXLAN socket binds to it. */
    address: string;
    /** UDP port of VXLAN. Default 4789 (RFC 7348). */
    port: number;
    /** VXLAN network identifier. Default 4096. */
    vni: number;
    /** MTU of the underlay; null: that of the interface which holds `address`. */
    mtu: number | null;
  };
  /** Pools that pods get their addresses from; one string or a list in YAML. */
  podPool: string[];
  /** Blocks of this node. */
  blocks: string[];
  /** Address of podwire0. Default: first address of the first block. */
  tunnelAddress: string;
  /** The other nodes. */
  vteps: VtepConfig[];
  /** The pods of this node. */
  pods: PodConfig[];
  /** What Services need of the node's kernel; null where the node carries none. */
  serviceHost: ServiceHostConfig | null;
  /** Load-balancer addresses on the LAN; null where the node announces none and watches nobody. */
  announce: AnnounceConfig | null;
  /** Services of a config file; empty where they come from an API. */
  services: ServiceConfig[];
  /** Where metrics are served, ADDRESS:PORT; null for nowhere. Default 127.0.0.1:9475. */
  metrics: string | null;
  dataplane: {
    /** Tunnel GSO device (kernel >= 6.17). auto: where the kernel has it. Default auto. */
    tunnelGso: "auto" | "on" | "off";
    /** UDP segmentation on TAP devices (kernel >= 6.2). Default auto. */
    uso: "auto" | "on" | "off";
    /** 1, or 2: one thread for each direction. */
    threads: 1 | 2;
    /** Spinning under load before a thread blocks, in microseconds. Default 50. */
    spinMicroseconds: number;
    /** Whether idle processors are kept from sleeping while packets go back and forth. Default auto. */
    cpuLatency: "auto" | "off";
    /** Flows that are tracked at once; a power of two. Default 131072. */
    maxFlows: number;
  };
}

/**
 * What of Services concerns the node's kernel: which traffic is routed to the dataplane. What the
 * dataplane does with it is no matter of this.
 */
export interface ServiceHostConfig {
  /** Ranges of ClusterIPs; a config file's serviceRange. Default 10.152.183.0/24. */
  ranges: string[];
  /** NodePorts; kube-apiserver's --service-node-port-range. Default 30000-32767. */
  nodePorts: PortRange;
  /**
   * Source ports of masqueraded egress traffic. Default 61000-65534: beyond the automatic ports of
   * Linux, and a rule cannot end with 65535.
   */
  egressPorts: PortRange;
  /** Whether pods reach the outside behind an address of the node. Default masquerade. */
  egress: "masquerade" | "off";
  /**
   * At which of the node's addresses NodePorts answer: those in these prefixes, as in kube-proxy's
   * --nodeport-addresses. Empty: at underlay.address only (kube-proxy's "primary").
   */
  nodePortAddresses: string[];
  /** NodePorts answer at 127.0.0.1 too, to the node itself. Default true. */
  localhostNodePorts: boolean;
  /** Load-balancer and external addresses. */
  vips: string[];
  /** NodePorts of UDP, which are held on the node (agent/UdpPortHolder). */
  udpNodePorts: number[];
  /** Services with a healthCheckNodePort. */
  healthChecks: HealthCheckConfig[];
  /** Where /healthz and /livez are served, ADDRESS:PORT; null for nowhere. Default 0.0.0.0:10256. */
  healthz: string | null;
}

/** Load-balancer addresses on the LAN: who may own each, and which nodes watch one another by BFD. */
export interface AnnounceConfig {
  /** Interface on the LAN. Default null: the one that has underlay.address. */
  interface: string | null;
  bfd: BfdConfig;
  /** The other nodes that announce. */
  nodes: {
    /** Name; of one of the vteps. */
    node: string;
    /** MAC of its LAN interface; "" where it is not known: then its claims are taken for a foreign device's. */
    mac: string;
    /** Whether there is a BFD session with it. */
    watched: boolean;
  }[];
  vips: {
    address: string;
    /** Names of the nodes that may own it, this one perhaps among them; the first alive does. */
    nodes: string[];
  }[];
}

/** Times of BFD (RFC 5880), the same on all nodes: the detection time is intervalMs × multiplier. */
export interface BfdConfig {
  /** Packets are sent and expected so often, in milliseconds. Default 100. */
  intervalMs: number;
  /** A node is down after so many without one (bfd.DetectMult). Default 3. */
  multiplier: number;
}

/** A Service whose health on this node is served at a port of its own (healthCheckNodePort). */
export interface HealthCheckConfig {
  namespace: string;
  name: string;
  port: number;
  /** Endpoints on this node that are ready. */
  localEndpoints: number;
}

export interface VtepConfig {
  /** Name of that node. */
  node: string;
  /** Underlay address of that node. */
  address: string;
  /** UDP port of VXLAN there. Default: underlay.port. */
  port: number;
  /** Default: first address of its first block. */
  tunnelAddress: string;
  /** MAC of its VTEP. Default: derived from the node's name. */
  mac: string;
  /** What runs there: a kernel vxlan device does not know our flow tags. Default podwire. */
  peer: "podwire" | "vxlan";
  blocks: string[];
}

export interface PodConfig {
  /** namespace/name. */
  name: string;
  /** Path of the pod's network namespace. */
  netns: string;
  /** The pod's IPv4 address. */
  address: string;
  /** Interface in the pod. Default eth0. */
  interface: string;
}

/** A Service as a config file has it. What is optional may be absent here too: there are thousands. */
export interface ServiceConfig {
  /** namespace/name. */
  name: string;
  clusterIP: string;
  externalIPs?: string[] | undefined;
  loadBalancerIPs?: string[] | undefined;
  /** Timeout of ClientIP affinity; absent: none. */
  sessionAffinitySeconds?: number | undefined;
  /** Default Cluster. */
  internalTrafficPolicy?: "Cluster" | "Local" | undefined;
  externalTrafficPolicy?: "Cluster" | "Local" | undefined;
  ports: ServicePortConfig[];
  backends: BackendConfig[];
}

export interface ServicePortConfig {
  name?: string | undefined;
  /** Default TCP. */
  protocol?: ServiceProtocol | undefined;
  port: number;
  nodePort?: number | undefined;
  /** Port of backends that name none. Default: `port`. */
  targetPort?: number | undefined;
}

export interface BackendConfig {
  address: string;
  /** Default: targetPort of each port. */
  port?: number | undefined;
  /** Node that it is on. Default: the one in whose block the address lies. */
  node?: string | undefined;
  /** Default true. */
  ready?: boolean | undefined;
}
