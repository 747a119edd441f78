/**
 * The worker's counts under the names of what they are about: nodes behind VTEPs, Services. Numbers and
 * indices are this process's, names everybody's. Reads only.
 */
import type { Services } from "../desired/services.js";
import { formatIpv4 } from "../model/ipv4.js";
import type { CounterSnapshot, ServiceTraffic, VtepTraffic, WorkerControl } from "../worker/control.js";

/** Traffic with another node. */
export interface VtepView extends VtepTraffic {
  node: string;
  /** Its underlay address. */
  address: string;
}

/** A service port, and its traffic through this node. */
export interface ServiceView extends ServiceTraffic {
  namespace: string;
  name: string;
  /** Name of the port; its number where it has none. */
  port: string;
  /** TCP, UDP or SCTP. */
  protocol: string;
  clusterIP: string;
  l4Port: number;
  /** 0 without. */
  nodePort: number;
  /** Load-balancer and external addresses. */
  externalIPs: string[];
  /** Endpoints that serve, in the whole cluster. */
  endpoints: number;
}

/** What the worker has counted, and for whom. Totals since the worker started. */
export interface CounterReport extends CounterSnapshot {
  /** Milliseconds of a clock that only goes forward: rates are differences of two reports. */
  takenAtMs: number;
  vteps: VtepView[];
  /** Service ports that had traffic through this node. */
  services: ServiceView[];
  /** Traffic of flows of no Service: to the outside, and those that are only kept track of. */
  otherFlows: ServiceTraffic;
  /** Rings of endpoints built since the agent started. */
  ringsBuilt: number;
}

/** Where the counts and the names come from. */
export interface CounterSources {
  worker: WorkerControl;
  services: Services;
  vteps: readonly { node: string; address: string }[];
  /** Index of a node's VTEP in the worker's tables. */
  vtepIndex(node: string): number | undefined;
}

/** Everything, at one moment. */
export function counterReport(sources: CounterSources, nowMs: number): CounterReport {
  const { worker, services } = sources;
  return {
    ...worker.counters(),
    takenAtMs: nowMs,
    vteps: vtepViews(sources),
    services: [...serviceViews(sources)].filter(hadTraffic),
    otherFlows: worker.serviceTraffic(0),
    ringsBuilt: services.ringsBuilt,
  };
}

/** The other nodes, in the order of the config; those that have no index yet are left out. */
export function vtepViews({ worker, vteps, vtepIndex }: CounterSources): VtepView[] {
  return vteps.flatMap(({ node, address }) => {
    const index = vtepIndex(node);
    return index === undefined ? [] : [{ node, address, ...worker.vtepTraffic(index) }];
  });
}

/** Every service port. */
export function* serviceViews({ worker, services }: CounterSources): Generator<ServiceView> {
  for (const { id, namespace, name, port, serving, ...addresses } of services.ports()) {
    const { loadBalancerIps, externalIps, clusterIp } = addresses;
    yield {
      namespace,
      name,
      port: port.name === "" ? String(port.l4Port) : port.name,
      protocol: port.protocol,
      clusterIP: formatIpv4(clusterIp),
      l4Port: port.l4Port,
      nodePort: port.nodePort,
      externalIPs: [...new Set([...loadBalancerIps, ...externalIps])].map(formatIpv4),
      endpoints: serving,
      ...worker.serviceTraffic(id),
    };
  }
}

/** Whether anything of a Service went through this node. */
function hadTraffic({ requests, replies }: ServiceTraffic): boolean {
  return requests.packets + replies.packets > 0;
}
