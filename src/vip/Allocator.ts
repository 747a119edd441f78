/**
 * Who has which load-balancer address: MetalLB's rules (internal/allocator) over IPv4 addresses as
 * int32. State in memory only; the caller writes it to the Services and tells it at start what they
 * have. Knows no clock and no API.
 *
 * An address that a Service gives up for another is held back (`retire`) until the Service's status
 * says so (`settle`): at no time do the statuses of two Services show an address that they do not share.
 */
import { containsAddress, formatIpv4 } from "../model/ipv4.js";
import { confusesBuggyFirmware, type Pool, type Pools, poolFits, poolHas, poolSize } from "./pools.js";

export interface ClaimPort {
  protocol: string;
  l4Port: number;
}

/** What a Service needs an address for. */
export interface Claim {
  /** namespace/name. */
  service: string;
  namespace: string;
  labels: Record<string, string>;
  ports: readonly ClaimPort[];
  /** Only Services with the same key that is not empty share an address. */
  sharingKey: string;
  /** Who answers; those that share need the same. Empty under traffic policy Cluster. */
  backendKey: string;
}

export type AllocationCode =
  | "NotAllowed"
  | "PoolNotCompatible"
  | "SharingConflict"
  | "PortConflict"
  | "Retiring"
  | "UnknownPool"
  | "NoAddress";

/** Why a claim gets no address, in MetalLB's words. */
export class AllocationError extends Error {
  override readonly name = "AllocationError";
  constructor(
    readonly code: AllocationCode,
    message: string,
  ) {
    super(message);
  }
}

/** Numbers of an IPAddressPool's status. */
export interface PoolCounters {
  assigned: number;
  available: number;
}

interface Allocation {
  claim: Claim;
  address: number;
  /** Empty where no pool has the address (any more). */
  pool: string;
}

type Usable = (address: number) => boolean;

export class Allocator {
  #pools: Pools = new Map();
  readonly #allocations = new Map<string, Allocation>();
  readonly #servicesOn = new Map<number, Set<string>>();
  /** Addresses that a Service's status may still show, by Service. */
  readonly #retiring = new Map<string, Set<number>>();

  /** New pools. Services keep their addresses, also those that no pool has now: `assign` will refuse these. */
  setPools(pools: Pools): void {
    this.#pools = pools;
    for (const allocation of this.#allocations.values())
      allocation.pool = this.#poolWith(allocation.address)?.name ?? "";
  }

  /** Takes over what a Service's status shows, whether a pool has it or not. False where others have it. */
  adopt(claim: Claim, address: number): boolean {
    if (this.#conflict(claim, address) !== null) return false;
    this.#put(claim, address);
    return true;
  }

  /** Gives a certain address. Again for one that the Service has. Throws AllocationError. */
  assign(claim: Claim, address: number): void {
    const pool = this.#poolWith(address);
    if (!pool)
      throw new AllocationError("NotAllowed", `[${quotedAddress(address)}] is not allowed in config`);
    if (!poolFits(pool, claim.namespace, claim.labels))
      throw new AllocationError("PoolNotCompatible", `pool ${pool.name} not compatible for ip assignment`);
    const conflict = this.#conflict(claim, address);
    if (conflict) throw conflict;
    this.#put(claim, address);
  }

  /**
   * Gives the first address that is free, or can be shared, and that is `usable`: from the pools that
   * are kept for such a Service, by priority, then from those for everybody. Throws AllocationError.
   */
  allocate(claim: Claim, usable: Usable): number {
    const pools = [...this.#pools.values()].filter(({ autoAssign }) => autoAssign);
    const pinned = pools
      .filter((pool) => pool.allocation && isPinned(pool.allocation))
      .filter((pool) => poolFits(pool, claim.namespace, claim.labels))
      .sort(byPriority);
    const others = pools.filter(({ allocation }) => allocation === null);
    for (const pool of [...pinned, ...others]) {
      const address = this.#firstFree(pool, claim, usable);
      if (address === null) continue;
      this.#put(claim, address);
      return address;
    }
    throw new AllocationError("NoAddress", "no available IPs");
  }

  /** Gives the first such address of one pool. Throws AllocationError. */
  allocateFromPool(claim: Claim, name: string, usable: Usable): number {
    const pool = this.#pools.get(name);
    if (!pool) throw new AllocationError("UnknownPool", `unknown pool ${JSON.stringify(name)}`);
    const address = this.#firstFree(pool, claim, usable);
    if (address === null)
      throw new AllocationError("NoAddress", `no available IPs in pool ${name} for ipv4 IPFamily`);
    this.assign(claim, address);
    return address;
  }

  /** Frees a Service's address at once: nobody has been told of it, or the Service is gone. */
  unassign(service: string): void {
    const allocation = this.#allocations.get(service);
    if (!allocation) return;
    this.#allocations.delete(service);
    const services = this.#servicesOn.get(allocation.address)!;
    services.delete(service);
    if (services.size === 0) this.#servicesOn.delete(allocation.address);
  }

  /** Takes a Service's address away. Others get it when the Service's status no longer shows it. */
  retire(service: string): void {
    const address = this.addressOf(service);
    if (address === null) return;
    const held = this.#retiring.get(service) ?? new Set();
    this.#retiring.set(service, held.add(address));
    this.unassign(service);
  }

  /** The Service's status shows what it has now. Whether that freed an address. */
  settle(service: string): boolean {
    return this.#retiring.delete(service);
  }

  /** Whether another Service's former address waits for its status to be written. */
  isRetiringBeside(service: string): boolean {
    return [...this.#retiring.keys()].some((each) => each !== service);
  }

  /** Address of a Service, or null. */
  addressOf(service: string): number | null {
    return this.#allocations.get(service)?.address ?? null;
  }

  /** Name of the pool that a Service's address is from; empty without. */
  poolOf(service: string): string {
    return this.#allocations.get(service)?.pool ?? "";
  }

  /** Services on an address. */
  servicesOn(address: number): ReadonlySet<string> {
    return this.#servicesOn.get(address) ?? new Set();
  }

  /** What others may depend on of a Service's claim: changes of it may let them in. */
  allocationKey(service: string): string {
    const allocation = this.#allocations.get(service);
    if (!allocation) return "";
    const { sharingKey, backendKey, ports } = allocation.claim;
    return JSON.stringify([allocation.address, sharingKey, backendKey, ports]);
  }

  /** Numbers of a pool's status; of one that is not there, zeros. */
  counters(name: string): PoolCounters {
    const pool = this.#pools.get(name);
    if (!pool) return { assigned: 0, available: 0 };
    let assigned = 0;
    for (const [address, services] of this.#servicesOn) {
      const [one] = services;
      if (this.poolOf(one!) === name && poolHas(pool, address)) assigned++;
    }
    return { assigned, available: poolSize(pool) - assigned };
  }

  #put(claim: Claim, address: number): void {
    this.unassign(claim.service);
    const pool = this.#poolWith(address)?.name ?? "";
    this.#allocations.set(claim.service, { claim, address, pool });
    const services = this.#servicesOn.get(address) ?? new Set();
    this.#servicesOn.set(address, services.add(claim.service));
  }

  #poolWith(address: number): Pool | undefined {
    for (const pool of this.#pools.values()) if (poolHas(pool, address)) return pool;
    return undefined;
  }

  #firstFree(pool: Pool, claim: Claim, usable: Usable): number | null {
    for (const prefix of pool.prefixes)
      for (let address = prefix.address; containsAddress(prefix, address); address = (address + 1) | 0) {
        const good = !(pool.avoidBuggyIps && confusesBuggyFirmware(address)) && usable(address);
        if (good && this.#isFree(claim, address)) return address;
        // The last one of /0 is followed by the first.
        if (address === -1) break;
      }
    return null;
  }

  /** Whether the claim can be on an address: asked of every address of a pool, so without the words. */
  #isFree(claim: Claim, address: number): boolean {
    const services = this.#servicesOn.get(address);
    if (services === undefined) return this.#retiring.size === 0 || this.#conflict(claim, address) === null;
    if (claim.sharingKey === "" && !services.has(claim.service)) return false;
    return this.#conflict(claim, address) === null;
  }

  /** Why the claim cannot be on an address beside those that are there; null where it can. */
  #conflict(claim: Claim, address: number): AllocationError | null {
    for (const [service, addresses] of this.#retiring)
      if (service !== claim.service && addresses.has(address))
        return new AllocationError(
          "Retiring",
          `${quotedAddress(address)} is still being given up by ${service}`,
        );
    const others = [...this.servicesOn(address)]
      .filter((service) => service !== claim.service)
      .sort()
      .map((service) => this.#allocations.get(service)!.claim);
    if (!others.every((other) => mayShare(other, claim)))
      return new AllocationError(
        "SharingConflict",
        `can't change sharing key for ${JSON.stringify(claim.service)}, address also in use by ${others.map(({ service }) => service).join(",")}`,
      );
    for (const { protocol, l4Port } of claim.ports)
      if (others.some(({ ports }) => ports.some((p) => p.protocol === protocol && p.l4Port === l4Port)))
        return new AllocationError(
          "PortConflict",
          `port ${protocol}/${l4Port} is already in use on ${quotedAddress(address)}`,
        );
    return null;
  }
}

/** Whether two Services may be on one address, if their ports allow it. */
function mayShare(a: Claim, b: Claim): boolean {
  return a.sharingKey !== "" && a.sharingKey === b.sharingKey && a.backendKey === b.backendKey;
}

/** A pool that names neither namespaces nor Services is for nobody in particular, and so for nobody by itself. */
function isPinned({ namespaces, serviceSelectors }: NonNullable<Pool["allocation"]>): boolean {
  return namespaces !== null || serviceSelectors.length > 0;
}

/** The lowest number first, those without one last; among equals the order of names, which pools come in. */
function byPriority(a: Pool, b: Pool): number {
  const rank = ({ allocation }: Pool) => allocation?.priority || Number.MAX_SAFE_INTEGER;
  return rank(a) - rank(b);
}

function quotedAddress(address: number): string {
  return JSON.stringify(formatIpv4(address));
}
