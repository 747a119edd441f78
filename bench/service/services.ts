/**
 * The Services of a run: those that are measured, and as many others as the run asks for. Pure.
 * Their shape is that of the agent's config file.
 */

import { HTTP_PORT, IPERF_PORT, REDIS_PORT } from "../testbed/Servers.js";
import type { Place, Target } from "../testbed/TestPath.js";
import { POD_C_ADDRESS, SIDE_A, SIDE_B } from "../testbed/topology.js";

export interface ServicePort {
  protocol: "TCP" | "UDP";
  port: number;
  nodePort?: number;
}

export interface Backend {
  address: string;
  port: number;
  /** Cluster node's name. */
  node: string;
}

/** A Service; every one of its ports leads to all of its backends. */
export interface BenchService {
  /** namespace/name. */
  name: string;
  clusterIP: string;
  ports: ServicePort[];
  backends: Backend[];
}

/** Where the measured Services stand among the others. iptables tries its rules in their order. */
export type Position = "last" | "middle";
export const POSITIONS: readonly Position[] = ["last", "middle"];

/** Range that all ClusterIPs are from. */
export const SERVICE_CIDR = "10.152.0.0/16";

const podB = (port: number): Backend => ({ address: SIDE_B.podAddress, port, node: SIDE_B.name });
const podC = (port: number): Backend => ({ address: POD_C_ADDRESS, port, node: SIDE_A.name });

/** Ports behind `SPREAD`, on each of its pods. */
export const SPREAD_PORTS: readonly number[] = [8090, 8091];

/** iperf3 wants its control connection and its datagrams at one server: a single backend. */
const IPERF: BenchService = {
  name: "bench/iperf",
  clusterIP: "10.152.183.201",
  ports: [
    { protocol: "TCP", port: IPERF_PORT, nodePort: 31201 },
    { protocol: "UDP", port: IPERF_PORT, nodePort: 31201 },
  ],
  backends: [podB(IPERF_PORT)],
};
/**
 * A single backend, on the other node: every connection goes where one from pod to pod goes, and there
 * are 64,512 ports to masquerade connections to it with, which a few runs use up.
 */
const HTTP: BenchService = {
  name: "bench/http",
  clusterIP: "10.152.183.202",
  ports: [{ protocol: "TCP", port: 80, nodePort: 31080 }],
  backends: [podB(HTTP_PORT)],
};
const REDIS: BenchService = {
  name: "bench/redis",
  clusterIP: "10.152.183.203",
  ports: [{ protocol: "TCP", port: REDIS_PORT, nodePort: 31379 }],
  backends: [podB(REDIS_PORT)],
};
/** For the check: two backends on each node. */
export const SPREAD: BenchService = {
  name: "bench/spread",
  clusterIP: "10.152.183.204",
  ports: [{ protocol: "TCP", port: 80, nodePort: 31081 }],
  backends: [...SPREAD_PORTS.map(podB), ...SPREAD_PORTS.map(podC)],
};

/** Services that are used; a run of fewer has these alone. */
export const USED: readonly BenchService[] = [IPERF, HTTP, REDIS, SPREAD];

/** A Service's first port, as it is reached inside the cluster, and from the LAN through node A. */
export function atClusterIp({ clusterIP, ports }: BenchService): Place {
  return { address: clusterIP, port: ports[0].port };
}
export function atNodePort({ ports }: BenchService): Place {
  return { address: SIDE_A.address, port: ports[0].nodePort! };
}

export const CLUSTER_IP_TARGET = targetOf(atClusterIp);
export const NODE_PORT_TARGET = targetOf(atNodePort);

function targetOf(reach: (service: BenchService) => Place): Target {
  return { iperf: reach(IPERF), http: reach(HTTP), redis: reach(REDIS) };
}

/** `count` Services in all, or the used ones where that is more. */
export function makeServices(count: number, position: Position): BenchService[] {
  const others = Array.from({ length: Math.max(0, count - USED.length) }, (_, i) => otherService(i));
  const before = position === "last" ? others.length : Math.floor(others.length / 2);
  return [...others.slice(0, before), ...USED, ...others.slice(before)];
}

/** A Service that nobody uses: a ClusterIP and a backend in each node's block, as Services mostly are. */
function otherService(i: number): BenchService {
  const IN_BLOCK = 40;
  const port = 10_000 + Math.floor(i / IN_BLOCK);
  const inBlock = (side: typeof SIDE_A): Backend => {
    const [a, b, c, first] = side.tunnelAddress.split(".").map(Number);
    return { address: `${a}.${b}.${c}.${first + 21 + (i % IN_BLOCK)}`, port, node: side.name };
  };
  return {
    name: `ns${i % 50}/svc${i}`,
    clusterIP: `10.152.${Math.floor(i / 250)}.${(i % 250) + 1}`,
    ports: [{ protocol: "TCP", port: 80 }],
    backends: [inBlock(SIDE_A), inBlock(SIDE_B)],
  };
}
