/**
 * One Service's turn: does what it has still hold, and if not, what does it get? MetalLB's
 * convergeBalancer, with the effects left to the caller: the allocator is changed, the Service and its
 * Events are not. In order: what the status shows is asked for again, then the requested pool and
 * addresses are held against it, then a new address is looked for.
 */
import type { Service } from "../kube/types.js";
import { formatIpv4, parseIpv4 } from "../model/ipv4.js";
import { AllocationError, type Allocator, type Claim } from "./Allocator.js";
import { quoted } from "./addressRange.js";
import {
  claimOf,
  clusterIpsOf,
  familyOf,
  quotedList,
  RequestError,
  requestedAddresses,
  requestedPool,
  serviceKey,
} from "./request.js";

/** An Event of a Service, with MetalLB's reason and words. */
export interface ServiceEvent {
  type: "Normal" | "Warning";
  reason: string;
  message: string;
}

/** Others on the LAN. */
export interface Lan {
  /** MAC of the device that has the address (int32) without being ours; null where none is known. */
  taken(address: number): string | null;
}

/** What a Service shall have. */
export interface Step {
  /** Address that its status shall show; null: none. */
  address: number | null;
  /** Whether it is found just now. */
  isNew: boolean;
  /** To be told when the status is written. */
  events: ServiceEvent[];
}

/** Nothing is wrong, and there is nothing to have: no address, no Event. */
const NOTHING: Step = { address: null, isNew: false, events: [] };

/** Decides for a Service of type LoadBalancer that is ours. Throws nothing that the Service is the cause of. */
export function converge(service: Service, allocator: Allocator, lan: Lan): Step {
  const claim = claimOf(service);
  const key = claim.service;
  const clusterIps = clusterIpsOf(service);
  if (clusterIps.length === 0) {
    allocator.retire(key);
    return NOTHING;
  }
  const events: ServiceEvent[] = [];
  let address = keep(service, claim, allocator, events);
  if (address !== null) {
    const pool = requestedPool(service);
    let wishes: string[];
    try {
      wishes = requestedAddresses(service);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      events.push(warning("LoadBalancerFailed", `invalid requested loadbalancer IPs: ${error.message}`));
      return { address, isNew: false, events };
    }
    const unwanted = wishes.length > 0 && (wishes.length > 1 || wishes[0] !== formatIpv4(address));
    if ((pool !== "" && allocator.poolOf(key) !== pool) || unwanted) {
      allocator.retire(key);
      address = null;
    }
  }
  if (address !== null) return { address, isNew: false, events };
  try {
    address = find(service, claim, allocator, lan);
  } catch (error) {
    if (!(error instanceof RequestError) && !(error instanceof AllocationError)) throw error;
    // Somebody's former address may be the one: this Service gets another turn when it is free.
    if (!allocator.isRetiringBeside(key))
      events.push(warning("AllocationFailed", `Failed to allocate IP for ${quoted(key)}: ${error.message}`));
    return { address: null, isNew: false, events };
  }
  events.push(normal("IPAllocated", `Assigned IP ${quotedList([formatIpv4(address)])}`));
  return { address, isNew: true, events };
}

/** Addresses that the status shows; hostnames are other load balancers'. */
export function statusAddresses({ status }: Service): string[] {
  return (status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => (ip ? [ip] : []));
}

/** The address that the Service has, where it may keep it. What the status shows wins over what we remember. */
function keep(service: Service, claim: Claim, allocator: Allocator, events: ServiceEvent[]): number | null {
  const shown = statusAddresses(service);
  const remembered = allocator.addressOf(claim.service);
  const address = shown.length > 0 ? parseIpv4(shown[0]!) : remembered;
  if (shown.length === 0 && address === null) return null;
  try {
    if (service.spec?.ipFamilyPolicy === "RequireDualStack") throw new RequestError(NO_DUAL_STACK);
    if (address === null || shown.length > 1)
      throw new AllocationError("NotAllowed", `${quotedList(shown)} is not allowed in config`);
    allocator.assign(claim, address);
    return address;
  } catch (error) {
    if (!(error instanceof AllocationError) && !(error instanceof RequestError)) throw error;
    allocator.retire(claim.service);
    if (shown.length > 0)
      events.push(
        normal(
          "ClearAssignment",
          `current IP for ${quoted(claim.service)} not allowed by config, will attempt for new IP assignment: ${error.message}`,
        ),
      );
    return null;
  }
}

const NO_DUAL_STACK = "dual-stack is not supported, only IPv4 addresses are given out";
const NO_IPV6 = "IPv6 is not supported, only IPv4 addresses are given out";

/** Looks for an address. Throws RequestError and AllocationError. */
function find(service: Service, claim: Claim, allocator: Allocator, lan: Lan): number {
  const family = familyOf(clusterIpsOf(service));
  if (service.spec?.ipFamilyPolicy === "RequireDualStack") throw new RequestError(NO_DUAL_STACK);
  if (family === "ipv6") throw new RequestError(NO_IPV6);
  const wishes = requestedAddresses(service);
  const pool = requestedPool(service);
  if (wishes.length > 0) {
    if (familyOf(wishes) !== family)
      throw new RequestError(
        `requested loadBalancer IP(s) ${quotedList(wishes)} does not match the ipFamily of the service`,
      );
    if (wishes.length > 1) throw new RequestError(NO_DUAL_STACK);
    const address = parseIpv4(wishes[0]!)!;
    allocator.assign(claim, address);
    const key = serviceKey(service);
    if (pool !== "" && allocator.poolOf(key) !== pool) {
      allocator.unassign(key);
      throw new RequestError(
        `requested loadBalancer IP(s) ${quotedList(wishes)} is not compatible with requested address pool ${pool}`,
      );
    }
    const mac = lan.taken(address);
    if (mac !== null) {
      allocator.unassign(key);
      throw new RequestError(`${quoted(formatIpv4(address))} is in use by ${mac} on the LAN`);
    }
    return address;
  }
  const usable = (address: number) => lan.taken(address) === null;
  if (pool !== "") return allocator.allocateFromPool(claim, pool, usable);
  return allocator.allocate(claim, usable);
}

function normal(reason: string, message: string): ServiceEvent {
  return { type: "Normal", reason, message };
}

function warning(reason: string, message: string): ServiceEvent {
  return { type: "Warning", reason, message };
}
