/**
 * Services and their endpoints as plain values: what is left of the API's objects once they are
 * read. Addresses are int32 as in model/ipv4. IPv4.
 */
import type { Ipv4Prefix } from "./ipv4.js";

/** Protocols that a Service can have, by their IANA numbers. */
export const SERVICE_PROTOCOLS = { TCP: 6, UDP: 17, SCTP: 132 } as const;
export type ServiceProtocol = keyof typeof SERVICE_PROTOCOLS;

export interface ServicePort {
  /** Empty where the only port has none. */
  name: string;
  protocol: ServiceProtocol;
  l4Port: number;
  /** 0 without. */
  nodePort: number;
}

/** A Service that has an address: neither headless nor ExternalName. */
export interface Service {
  namespace: string;
  name: string;
  /** Creation time as the API writes it: the older one has an address that two claim. */
  created: string;
  clusterIp: number;
  ports: ServicePort[];
  externalIps: number[];
  /** Of its status, those that are virtual addresses (ipMode VIP), not another proxy's. */
  loadBalancerIps: number[];
  /** What advertisements choose these by; null without any. */
  advertised: {
    /** Name of the IPAddressPool that they are from; empty where it is not said. */
    pool: string;
    labels: Record<string, string>;
  } | null;
  /** Empty: every source. */
  sourceRanges: Ipv4Prefix[];
  /** Timeout of SessionAffinity ClientIP in seconds, 0 without. */
  affinitySeconds: number;
  internalPolicy: "Cluster" | "Local";
  externalPolicy: "Cluster" | "Local";
  /** 0 without. */
  healthCheckNodePort: number;
}

/** One address of an EndpointSlice. */
export interface ServiceEndpoint {
  address: number;
  /** Name of its cluster node; empty where it is not said. */
  node: string;
  ready: boolean;
  serving: boolean;
  terminating: boolean;
  /** Topology hints: zones and nodes whose traffic it is for. */
  zones: readonly string[];
  nodes: readonly string[];
}

/** What is kept of an EndpointSlice. */
export interface ServiceSlice {
  ports: { name: string; protocol: ServiceProtocol; l4Port: number }[];
  endpoints: ServiceEndpoint[];
}

/** This node, as far as the choice of endpoints goes. */
export interface ServiceNode {
  name: string;
  /** Label topology.kubernetes.io/zone; empty without. */
  zone: string;
}
