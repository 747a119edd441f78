/**
 * Names that come with MetalLB's objects: its namespace, and its annotations on Services with the
 * prefix of today and the one of before 0.15, which is still read.
 */

/** Where IPAddressPools and L2Advertisements live. */
export const METALLB_NAMESPACE = "metallb-system";

/** Annotation prefixes; the first one that is there counts. */
export const METALLB_PREFIXES = ["metallb.io", "metallb.universe.tf"] as const;

/** Service: name of the pool that its address shall come from. */
export const ADDRESS_POOL = "address-pool";
/** Service: the address that it shall have. */
export const LOAD_BALANCER_IPS = "loadBalancerIPs";
/** Service: key of those that may share an address. */
export const ALLOW_SHARED_IP = "allow-shared-ip";
/** Service, written by the controller: name of the pool that its address is from. */
export const IP_ALLOCATED_FROM_POOL = "ip-allocated-from-pool";

/** `spec.loadBalancerClass` of Services that are for podwire, where another load balancer is there too. */
export const LOAD_BALANCER_CLASS = "podwire.dev/load-balancer";

/** Value of a MetalLB annotation under whichever prefix it stands; empty where it does not. */
export function metallbAnnotation(annotations: Record<string, string> | undefined, name: string): string {
  for (const prefix of METALLB_PREFIXES) {
    const value = annotations?.[`${prefix}/${name}`];
    if (value !== undefined) return value;
  }
  return "";
}
