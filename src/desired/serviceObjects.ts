/**
 * Services and EndpointSlices as the API describes them, boiled down to plain values. Pure. What
 * kube-proxy leaves alone is left alone here: Services of another proxy, headless ones, ExternalName.
 */
import { hasHostBits, type Ipv4Prefix, networkOf, parseCidr, parseIpv4 } from "../model/ipv4.js";
import { IP_ALLOCATED_FROM_POOL, metallbAnnotation } from "../model/metallb.js";
import {
  SERVICE_PROTOCOLS,
  type Service,
  type ServiceEndpoint,
  type ServicePort,
  type ServiceProtocol,
  type ServiceSlice,
} from "../model/Service.js";

/** What is read of a Service. */
export interface ServiceObject {
  metadata: {
    name?: string;
    namespace?: string;
    creationTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  spec?: {
    type?: string;
    clusterIP?: string;
    clusterIPs?: string[];
    ports?: { name?: string; protocol?: string; port: number; nodePort?: number }[];
    externalIPs?: string[];
    loadBalancerSourceRanges?: string[];
    sessionAffinity?: string;
    sessionAffinityConfig?: { clientIP?: { timeoutSeconds?: number } };
    internalTrafficPolicy?: string;
    externalTrafficPolicy?: string;
    healthCheckNodePort?: number;
  };
  status?: { loadBalancer?: { ingress?: { ip?: string; ipMode?: string }[] } };
}

/** What is read of an EndpointSlice. */
export interface EndpointSliceObject {
  metadata: {
    name?: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  addressType: string;
  ports?: { name?: string; protocol?: string; port?: number }[] | null;
  endpoints?:
    | {
        addresses: string[];
        nodeName?: string;
        conditions?: { ready?: boolean; serving?: boolean; terminating?: boolean };
        hints?: { forZones?: { name: string }[]; forNodes?: { name: string }[] };
      }[]
    | null;
}

/** Label of a Node: its zone. */
export const ZONE_LABEL = "topology.kubernetes.io/zone";

/** Names the Service that an EndpointSlice belongs to. */
const SERVICE_NAME = "kubernetes.io/service-name";
/** Objects with one of these labels, whatever its value, are not for this proxy. */
const NOT_OURS = ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];
/** Where the object does not say (the API server always does). */
const DEFAULT_AFFINITY_SECONDS = 10800;
const NO_HINTS: readonly string[] = [];

/** namespace/name of a Service. */
export function serviceKey({ metadata }: ServiceObject): string {
  return `${metadata.namespace ?? "default"}/${metadata.name ?? ""}`;
}

/** namespace/name of the Service of a slice; null where it has none or is not for this proxy. */
export function sliceServiceKey({ metadata, addressType }: EndpointSliceObject): string | null {
  const name = metadata.labels?.[SERVICE_NAME];
  if (!name || addressType !== "IPv4" || isNotOurs(metadata.labels)) return null;
  return `${metadata.namespace ?? "default"}/${name}`;
}

/**
 * A Service's facts; null where there is nothing to do for it. What cannot be used is left out, and
 * said in `problems`.
 */
export function serviceFacts(object: ServiceObject, problems: string[]): Service | null {
  const { metadata, spec = {}, status } = object;
  if (isNotOurs(metadata.labels) || spec.type === "ExternalName") return null;
  const clusterIp = [...(spec.clusterIPs ?? []), spec.clusterIP ?? ""].map(parseIpv4).find(isUnicast);
  if (clusterIp === undefined) return null;
  const what = `service ${serviceKey(object)}`;
  const addresses = (texts: (string | undefined)[], field: string) => {
    const found = texts.filter((text): text is string => !!text && !text.includes(":"));
    for (const text of found.filter((each) => !isUnicast(parseIpv4(each))))
      problems.push(`${what}: ${field} ${text} cannot be a service's address`);
    return [...new Set(found.map(parseIpv4).filter(isUnicast))];
  };
  const ingress = status?.loadBalancer?.ingress ?? [];
  const loadBalancerIps =
    spec.type === "LoadBalancer"
      ? addresses(
          ingress.filter(({ ipMode }) => (ipMode ?? "VIP") === "VIP").map(({ ip }) => ip),
          "load-balancer address",
        )
      : [];
  const externalIps = addresses(spec.externalIPs ?? [], "external address");
  // The policy means nothing where no traffic comes from outside (apiservice.ExternalPolicyLocal).
  const external = spec.type === "NodePort" || spec.type === "LoadBalancer" || externalIps.length > 0;
  const externalPolicy = external && spec.externalTrafficPolicy === "Local" ? "Local" : "Cluster";
  return {
    namespace: metadata.namespace ?? "default",
    name: metadata.name ?? "",
    created: metadata.creationTimestamp ?? "",
    clusterIp,
    ports: (spec.ports ?? []).flatMap((port) => servicePort(port, what, problems)),
    externalIps,
    loadBalancerIps,
    advertised:
      loadBalancerIps.length === 0
        ? null
        : {
            pool: metallbAnnotation(metadata.annotations, IP_ALLOCATED_FROM_POOL),
            labels: metadata.labels ?? {},
          },
    sourceRanges: sourceRanges(spec.loadBalancerSourceRanges ?? [], what, problems),
    affinitySeconds:
      spec.sessionAffinity === "ClientIP"
        ? (spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? DEFAULT_AFFINITY_SECONDS)
        : 0,
    internalPolicy: spec.internalTrafficPolicy === "Local" ? "Local" : "Cluster",
    externalPolicy,
    healthCheckNodePort:
      spec.type === "LoadBalancer" && externalPolicy === "Local" ? (spec.healthCheckNodePort ?? 0) : 0,
  };
}

/** A slice's facts. What cannot be used is left out, and said in `problems`. */
export function sliceFacts(object: EndpointSliceObject, problems: string[]): ServiceSlice {
  const ports = (object.ports ?? []).flatMap(({ name = "", protocol = "TCP", port }) =>
    isProtocol(protocol) && port !== undefined && isPort(port) ? [{ name, protocol, l4Port: port }] : [],
  );
  const endpoints: ServiceEndpoint[] = [];
  for (const { addresses, nodeName, conditions, hints } of object.endpoints ?? []) {
    // Only the first has ever had a meaning (EndpointSlice API).
    const address = parseIpv4(addresses[0] ?? "");
    if (!isUnicast(address)) {
      problems.push(`endpoint slice ${object.metadata.name}: ${addresses[0]} cannot be an endpoint`);
      continue;
    }
    endpoints.push({
      address,
      node: nodeName ?? "",
      ready: conditions?.ready ?? true,
      serving: conditions?.serving ?? true,
      terminating: conditions?.terminating ?? false,
      zones: hints?.forZones?.map(({ name }) => name) ?? NO_HINTS,
      nodes: hints?.forNodes?.map(({ name }) => name) ?? NO_HINTS,
    });
  }
  return { ports, endpoints };
}

function servicePort(
  port: { name?: string; protocol?: string; port: number; nodePort?: number },
  what: string,
  problems: string[],
): ServicePort[] {
  const { name = "", protocol = "TCP", port: l4Port, nodePort = 0 } = port;
  if (!isProtocol(protocol) || !isPort(l4Port) || (nodePort !== 0 && !isPort(nodePort))) {
    problems.push(`${what}: port ${l4Port}/${protocol} is none`);
    return [];
  }
  return [{ name, protocol, l4Port, nodePort }];
}

function sourceRanges(texts: string[], what: string, problems: string[]): Ipv4Prefix[] {
  const ranges: Ipv4Prefix[] = [];
  for (const text of texts) {
    // Validation lets white space through.
    const range = parseCidr(text.trim());
    if (range !== null) ranges.push(hasHostBits(range) ? networkOf(range) : range);
    else if (!text.includes(":")) problems.push(`${what}: source range ${text} is no prefix`);
  }
  return ranges;
}

function isNotOurs(labels: Record<string, string> | undefined): boolean {
  return labels !== undefined && NOT_OURS.some((label) => labels[label] !== undefined);
}

function isProtocol(text: string): text is ServiceProtocol {
  return Object.hasOwn(SERVICE_PROTOCOLS, text);
}

function isPort(number: number): boolean {
  return Number.isInteger(number) && number > 0 && number < 65536;
}

/** Not unspecified, loopback, link-local, multicast or broadcast: what an endpoint or a service may have. */
function isUnicast(address: number | null): address is number {
  if (address === null) return false;
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224 && address >>> 16 !== 0xa9fe;
}
