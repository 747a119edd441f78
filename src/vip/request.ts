/** What a Service asks of the allocator, read by MetalLB's rules (controller/service.go). Pure. */
import { isIP, isIPv4 } from "node:net";
import type { Service } from "../kube/types.js";
import {
  ADDRESS_POOL,
  ALLOW_SHARED_IP,
  LOAD_BALANCER_CLASS,
  LOAD_BALANCER_IPS,
  METALLB_PREFIXES,
  metallbAnnotation,
} from "../model/metallb.js";
import type { Claim } from "./Allocator.js";
import { canonicalAddress, quoted } from "./addressRange.js";

/** A Service that asks for what cannot be given. */
export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly code = "BadRequest";
}

export type Family = "ipv4" | "ipv6" | "dual";

/** namespace/name. */
export function serviceKey({ metadata }: Service): string {
  return `${metadata.namespace}/${metadata.name}`;
}

/**
 * Whether the Service is this load balancer's. With `onlyClass` only those of that class, as MetalLB's
 * --lb-class; else those without a class and those of ours.
 */
export function isOurs({ spec }: Service, onlyClass: string | undefined): boolean {
  const wish = spec?.loadBalancerClass;
  if (onlyClass !== undefined) return wish === onlyClass;
  return wish === undefined || wish === LOAD_BALANCER_CLASS;
}

/** What the Service needs an address for. */
export function claimOf(service: Service): Claim {
  const { metadata, spec = {} } = service;
  return {
    service: serviceKey(service),
    namespace: metadata.namespace!,
    labels: metadata.labels ?? {},
    ports: (spec.ports ?? []).map(({ protocol = "TCP", port }) => ({ protocol, l4Port: port })),
    sharingKey: metallbAnnotation(metadata.annotations, ALLOW_SHARED_IP),
    backendKey: spec.externalTrafficPolicy === "Local" ? selectorText(spec.selector ?? {}) : "",
  };
}

/** Name of the pool that the address shall come from; empty where it is all the same. */
export function requestedPool({ metadata }: Service): string {
  return metallbAnnotation(metadata.annotations, ADDRESS_POOL);
}

/** Addresses that the Service wants, as text. Throws RequestError. */
export function requestedAddresses({ metadata, spec }: Service): string[] {
  const annotation = `${METALLB_PREFIXES[0]}/${LOAD_BALANCER_IPS}`;
  const wish = metallbAnnotation(metadata.annotations, LOAD_BALANCER_IPS);
  const field = spec?.loadBalancerIP ?? "";
  if (wish !== "" && field !== "")
    throw new RequestError(`service can not have both ${annotation} and svc.Spec.LoadBalancerIP`);
  if (field !== "") {
    const address = canonicalAddress(field);
    if (address === null) throw new RequestError(`invalid spec.loadBalancerIP ${quoted(field)}`);
    return [address];
  }
  if (wish === "") return [];
  const addresses = wish.split(",").map((text) => {
    const address = canonicalAddress(text.trim());
    if (address === null) throw new RequestError(`invalid ${annotation}: ${quoted(wish)}`);
    return address;
  });
  familyOf(addresses);
  return addresses;
}

/** Family of one address, or of two of different families. Throws RequestError for anything else. */
export function familyOf(addresses: readonly string[]): Family {
  if (addresses.length === 1) return isIPv4(addresses[0]!) ? "ipv4" : "ipv6";
  if (addresses.length !== 2)
    throw new RequestError(
      `IPFamilyForAddresses: invalid ips length ${addresses.length} ${quotedList(addresses)}`,
    );
  const families = addresses.map(isIP);
  if (families.includes(0))
    throw new RequestError(`IPFamilyForAddresses: Invalid address ${quotedList(addresses)}`);
  if (families[0] === families[1])
    throw new RequestError(`IPFamilyForAddresses: same address family ${quotedList(addresses)}`);
  return "dual";
}

/** ClusterIPs of a Service; they say which family its addresses are of. */
export function clusterIpsOf({ spec }: Service): string[] {
  if (spec?.clusterIPs?.length) return spec.clusterIPs;
  return spec?.clusterIP ? [spec.clusterIP] : [];
}

/** Go's %q of a list of addresses. */
export function quotedList(addresses: readonly string[]): string {
  return `[${addresses.map(quoted).join(" ")}]`;
}

/** labels.Set.String of apimachinery. */
function selectorText(selector: Record<string, string>): string {
  return Object.keys(selector)
    .sort()
    .map((key) => `${key}=${selector[key]}`)
    .join(",");
}
