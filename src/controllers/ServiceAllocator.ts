/**
 * ClusterIPs and nodePorts of Services, as Kubernetes' API server hands them out. Synchronous: the
 * API server calls it between validation and the write, so that a create's answer already shows what
 * was allocated. It must not know about storage; whoever calls it reverts when the write fails.
 *
 *   prepareService(service, old)          serviceFields.ts; before validation
 *   allocate(service, old): FieldError[]  fills in what is missing; changes nothing on errors
 *   write …; if it fails: revert(service, old)          a dry run: always revert
 *   committed(service, old)               after a successful update: frees what `old` alone had
 *   release(service)                      after the object is gone from the store
 *   rebuild(services)                     at start, and by the repair loop
 *
 * Every address and port has an owner ("namespace/name"), so that a release never frees what belongs
 * to another Service. Order as in Kubernetes: the lower part of a range is left to those who ask for
 * a certain value; without a wish the upper part is taken first, at random, the lower part when it is full.
 */
import type { FieldError } from "../apiserver/resource.js";
import type { Service } from "../kube/types.js";
import { formatIpv4, parseIpv4 as parseSigned } from "../model/ipv4.js";

export interface ServiceAllocatorOptions {
  /** "10.152.183.0/24" */
  serviceRange: string;
  /** Both ends belong to it. */
  nodePorts?: { first: number; last: number };
  /** In [0, 1). */
  random?: () => number;
}

/** Something that rebuild found and could not take as it stands. */
export interface AllocationFault {
  service: string;
  /** Kubernetes' event reasons of its repair loops. */
  reason:
    | "ClusterIPNotValid"
    | "ClusterIPOutOfRange"
    | "ClusterIPAlreadyAllocated"
    | "PortOutOfRange"
    | "PortAlreadyAllocated";
  message: string;
}

/** A range of numbers with owners. Values are absolute (an address, a port). */
class OwnedRange {
  readonly #owners = new Map<number, string>();

  constructor(
    readonly first: number,
    readonly last: number,
    /** Where the part starts that is used without a wish. */
    readonly dynamicFrom: number,
  ) {}

  has(value: number): boolean {
    return value >= this.first && value <= this.last;
  }

  owner(value: number): string | undefined {
    return this.#owners.get(value);
  }

  take(value: number, owner: string): void {
    this.#owners.set(value, owner);
  }

  free(value: number, owner: string): void {
    if (this.#owners.get(value) === owner) this.#owners.delete(value);
  }

  clear(): void {
    this.#owners.clear();
  }

  next(random: () => number): number | undefined {
    return (
      this.#nextIn(this.dynamicFrom, this.last, random) ??
      this.#nextIn(this.first, this.dynamicFrom - 1, random)
    );
  }

  #nextIn(from: number, to: number, random: () => number): number | undefined {
    const size = to - from + 1;
    if (size <= 0) return undefined;
    const start = Math.min(size - 1, Math.floor(random() * size));
    for (let step = 0; step < size; step++) {
      const value = from + ((start + step) % size);
      if (!this.#owners.has(value)) return value;
    }
    return undefined;
  }
}

const IP_FAMILY = "IPv4";

/** The address as a number that grows with the address; undefined where the text is none. */
function parseIpv4(text: string): number | undefined {
  const value = parseSigned(text);
  return value === null ? undefined : value >>> 0;
}

export class ServiceAllocator {
  readonly #addresses: OwnedRange;
  readonly #ports: OwnedRange;
  readonly #range: string;
  readonly #random: () => number;

  constructor(options: ServiceAllocatorOptions) {
    this.#range = options.serviceRange;
    this.#random = options.random ?? Math.random;
    const [address, length] = options.serviceRange.split("/");
    const base = parseIpv4(address!);
    const prefix = Number(length);
    if (base === undefined || !Number.isInteger(prefix) || prefix < 12 || prefix > 30)
      throw new RangeError(`service range ${options.serviceRange}: want an IPv4 network of /12 to /30`);
    const size = 2 ** (32 - prefix);
    const network = base - (base % size);
    // Neither the network's own address nor the broadcast address.
    const count = size - 2;
    this.#addresses = new OwnedRange(
      network + 1,
      network + count,
      network + 1 + reservedPart(count, { least: 16, most: 256, divisor: 16 }),
    );
    const { first, last } = options.nodePorts ?? { first: 30000, last: 32767 };
    this.#ports = new OwnedRange(
      first,
      last,
      first + reservedPart(last - first + 1, { least: 16, most: 128, divisor: 32 }),
    );
  }

  /** First address of the range: the `kubernetes` Service's. */
  get apiAddress(): string {
    return formatIpv4(this.#addresses.first);
  }

  /**
   * Fills in clusterIP, clusterIPs, ipFamilies, ipFamilyPolicy, nodePorts and healthCheckNodePort. What
   * `old` alone had stays taken until committed(). An error of type "InternalError" (a full range) is
   * Kubernetes' status 500, "Internal error occurred: <detail>", not 422.
   */
  allocate(service: Service, old?: Service): FieldError[] {
    const errors = this.#families(service, old);
    if (errors.length > 0) return errors;
    const owner = ownerOf(service);
    const trial = new Trial(owner);
    const address = this.#allocateAddress(service, trial);
    const ports = address ? undefined : this.#allocatePorts(service, trial);
    const health = (address ?? ports) ? undefined : this.#allocateHealthCheck(service, trial);
    const error = address ?? ports ?? health;
    if (error) {
      trial.undo();
      return [error];
    }
    return [];
  }

  /** The write failed: as if allocate(service, old) had not been. */
  revert(service: Service, old?: Service): void {
    this.#freeExcept(service, old);
  }

  /** The update is written: frees what only the old object had. */
  committed(service: Service, old: Service): void {
    this.#freeExcept(old, service);
  }

  /** The Service is gone. May be called again. */
  release(service: Service): void {
    this.#freeExcept(service, undefined);
  }

  /** Forgets everything and takes what these Services have; the first owner of a value keeps it. */
  rebuild(services: Iterable<Service>): AllocationFault[] {
    this.#addresses.clear();
    this.#ports.clear();
    const faults: AllocationFault[] = [];
    for (const service of services) {
      const owner = ownerOf(service);
      for (const text of addressesOf(service)) {
        const value = parseIpv4(text);
        const of = `Cluster IP [IPv4]:${text}`;
        if (value === undefined)
          faults.push({
            service: owner,
            reason: "ClusterIPNotValid",
            message: `${of} is not a valid IP; please recreate service`,
          });
        else if (!this.#addresses.has(value))
          faults.push({
            service: owner,
            reason: "ClusterIPOutOfRange",
            message: `${of} is not within any configured Service CIDR; please recreate service`,
          });
        else if ((this.#addresses.owner(value) ?? owner) !== owner)
          faults.push({
            service: owner,
            reason: "ClusterIPAlreadyAllocated",
            message: `${of} was assigned to multiple services; please recreate service`,
          });
        else this.#addresses.take(value, owner);
      }
      for (const port of portsOf(service)) {
        if (!this.#ports.has(port))
          faults.push({
            service: owner,
            reason: "PortOutOfRange",
            message: `Port ${port} is not within the port range ${this.#portRange}; please recreate service`,
          });
        else if ((this.#ports.owner(port) ?? owner) !== owner)
          faults.push({
            service: owner,
            reason: "PortAlreadyAllocated",
            message: `Port ${port} was assigned to multiple services; please recreate service`,
          });
        else this.#ports.take(port, owner);
      }
    }
    return faults;
  }

  get #portRange(): string {
    return `${this.#ports.first}-${this.#ports.last}`;
  }

  /** ipFamilyPolicy and ipFamilies; this cluster has one family. */
  #families(service: Service, old: Service | undefined): FieldError[] {
    const spec = specOf(service);
    if (spec.type === "ExternalName") return [];
    const selectorless = Object.keys(spec.selector ?? {}).length === 0;
    const headless = spec.clusterIP === "None";
    spec.ipFamilyPolicy ??=
      old?.spec?.ipFamilyPolicy ?? (headless && selectorless ? "RequireDualStack" : "SingleStack");
    if (headless && selectorless) {
      spec.ipFamilies ??= [];
      if (spec.ipFamilies.length === 0) spec.ipFamilies.push(IP_FAMILY);
      if (spec.ipFamilies.length < 2 && spec.ipFamilyPolicy !== "SingleStack")
        spec.ipFamilies.push(spec.ipFamilies[0] === "IPv4" ? "IPv6" : "IPv4");
      return [];
    }
    if (spec.ipFamilyPolicy === "RequireDualStack")
      return [
        invalid(
          "spec.ipFamilyPolicy",
          `"RequireDualStack"`,
          "this cluster is not configured for dual-stack services",
        ),
      ];
    const foreign = (spec.ipFamilies ?? []).findIndex((family) => family !== IP_FAMILY);
    if (foreign >= 0)
      return [
        invalid(
          `spec.ipFamilies[${foreign}]`,
          JSON.stringify(spec.ipFamilies![foreign]),
          "not configured on this cluster",
        ),
      ];
    if (!spec.ipFamilies || spec.ipFamilies.length === 0) spec.ipFamilies = [IP_FAMILY];
    return [];
  }

  #allocateAddress(service: Service, trial: Trial): FieldError | undefined {
    const spec = specOf(service);
    if (spec.type === "ExternalName" || spec.clusterIP === "None") return undefined;
    const wish = spec.clusterIPs?.[0] || spec.clusterIP;
    let value: number | undefined;
    if (wish) {
      value = parseIpv4(wish);
      let why: string | undefined;
      if (value === undefined || !this.#addresses.has(value))
        why = `the provided IP (${wish}) is not in the valid range. The range of valid IPs is ${this.#range}`;
      else if ((this.#addresses.owner(value) ?? trial.owner) !== trial.owner)
        why = "provided IP is already allocated";
      if (why)
        return invalid(
          "spec.clusterIPs",
          `[]string{${(spec.clusterIPs ?? [wish]).map((ip) => JSON.stringify(ip)).join(", ")}}`,
          `failed to allocate IP ${wish}: ${why}`,
        );
    } else {
      value = this.#addresses.next(this.#random);
      if (value === undefined) return internal("failed to allocate a serviceIP: range is full");
      const had = { clusterIP: spec.clusterIP, clusterIPs: spec.clusterIPs };
      trial.onUndo(() => {
        delete spec.clusterIP;
        delete spec.clusterIPs;
        if (had.clusterIP !== undefined) spec.clusterIP = had.clusterIP;
        if (had.clusterIPs !== undefined) spec.clusterIPs = had.clusterIPs;
      });
      spec.clusterIP = formatIpv4(value);
      spec.clusterIPs = [spec.clusterIP];
    }
    trial.take(this.#addresses, value!);
    return undefined;
  }

  /** One nodePort serves all protocols of the same service port. */
  #allocatePorts(service: Service, trial: Trial): FieldError | undefined {
    const spec = specOf(service);
    if (spec.type !== "NodePort" && spec.type !== "LoadBalancer") return undefined;
    const automatic = spec.type === "NodePort" || spec.allocateLoadBalancerNodePorts !== false;
    const ports = spec.ports ?? [];
    for (const [index, port] of ports.entries()) {
      if (!port.nodePort) continue;
      const why = this.#refusePort(port.nodePort, trial.owner);
      if (why) return invalid(`spec.ports[${index}].nodePort`, String(port.nodePort), why);
      trial.take(this.#ports, port.nodePort);
    }
    if (!automatic) return undefined;
    for (const port of ports) {
      if (port.nodePort) continue;
      const sibling = ports.find(
        (other) => other.port === port.port && other.protocol !== port.protocol && other.nodePort,
      );
      const value = sibling?.nodePort ?? this.#ports.next(this.#random);
      if (value === undefined) return internal("failed to allocate a nodePort: range is full");
      trial.onUndo(() => {
        delete port.nodePort;
      });
      port.nodePort = value;
      trial.take(this.#ports, value);
    }
    return undefined;
  }

  #allocateHealthCheck(service: Service, trial: Trial): FieldError | undefined {
    const spec = specOf(service);
    if (!needsHealthCheck(service)) return undefined;
    if (spec.healthCheckNodePort) {
      const why = this.#refusePort(spec.healthCheckNodePort, trial.owner);
      if (why)
        return internal(
          `failed to allocate requested HealthCheck NodePort ${spec.healthCheckNodePort}: ${why}`,
        );
    } else {
      const value = this.#ports.next(this.#random);
      if (value === undefined) return internal("failed to allocate a HealthCheck NodePort 0: range is full");
      spec.healthCheckNodePort = value;
      trial.onUndo(() => {
        delete spec.healthCheckNodePort;
      });
    }
    trial.take(this.#ports, spec.healthCheckNodePort);
    return undefined;
  }

  #refusePort(port: number, owner: string): string | undefined {
    if (!this.#ports.has(port))
      return `provided port is not in the valid range. The range of valid ports is ${this.#portRange}`;
    return (this.#ports.owner(port) ?? owner) === owner ? undefined : "provided port is already allocated";
  }

  #freeExcept(service: Service, keep: Service | undefined): void {
    const owner = ownerOf(service);
    const addresses = new Set(keep ? addressesOf(keep) : []);
    const ports = new Set(keep ? portsOf(keep) : []);
    for (const text of addressesOf(service)) {
      const value = parseIpv4(text);
      if (value !== undefined && !addresses.has(text)) this.#addresses.free(value, owner);
    }
    for (const port of portsOf(service)) if (!ports.has(port)) this.#ports.free(port, owner);
  }
}

/** What one allocate() took, to give it back. */
class Trial {
  readonly #undo: (() => void)[] = [];
  constructor(readonly owner: string) {}

  take(range: OwnedRange, value: number): void {
    if (range.owner(value) === this.owner) return;
    range.take(value, this.owner);
    this.#undo.push(() => range.free(value, this.owner));
  }

  onUndo(step: () => void): void {
    this.#undo.push(step);
  }

  undo(): void {
    for (const step of this.#undo.reverse()) step();
  }
}

/** How much of a range is kept for those who name a value. */
function reservedPart(
  size: number,
  { least, most, divisor }: { least: number; most: number; divisor: number },
): number {
  if (size <= least) return 0;
  return Math.min(most, Math.max(least, Math.floor(size / divisor)));
}

/** The spec; an object without one gets an empty one. */
export function specOf(service: Service): NonNullable<Service["spec"]> {
  service.spec ??= {};
  return service.spec;
}

export function needsHealthCheck({ spec }: Service): boolean {
  return spec?.type === "LoadBalancer" && spec.externalTrafficPolicy === "Local";
}

function ownerOf({ metadata }: Service): string {
  return `${metadata.namespace}/${metadata.name}`;
}

function addressesOf(service: Service): string[] {
  const spec = specOf(service);
  if (spec.type === "ExternalName") return [];
  const all = spec.clusterIPs?.length ? spec.clusterIPs : spec.clusterIP ? [spec.clusterIP] : [];
  return all.filter((text) => text !== "" && text !== "None");
}

function portsOf(service: Service): number[] {
  const spec = specOf(service);
  const ports = (spec.ports ?? []).flatMap(({ nodePort }) => (nodePort ? [nodePort] : []));
  if (spec.healthCheckNodePort) ports.push(spec.healthCheckNodePort);
  return ports;
}

function invalid(field: string, value: string, why: string): FieldError {
  return { type: "FieldValueInvalid", field, detail: `Invalid value: ${value}: ${why}` };
}

function internal(detail: string): FieldError {
  return { type: "InternalError", field: "", detail };
}
