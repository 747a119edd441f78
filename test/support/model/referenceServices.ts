/**
 * kube-proxy's Services, read anew from the API's objects for every packet (pkg/proxy/topology.go and
 * the table of the virtual-IP documentation): plain arrays, no table. Only the Maglev ring is the
 * product's, since every node must choose alike.
 */
import type { EndpointSliceObject, ServiceObject } from "../../../src/desired/serviceObjects.js";
import { MaglevRing, ringHash, ringSize } from "../../../src/tables/MaglevRing.js";
import { address, TCP, UDP } from "../frames.js";
import { SCTP } from "./packets.js";

const NUMBERS = { TCP, UDP, SCTP } as const;

export interface Backend {
  address: string;
  port: number;
}

/** One port of a Service as long as it exists: flows know it by this object. */
export interface ServicePortIdentity {
  name: string;
  serving: Set<string>;
}

/** An address and port that a client may ask for. */
export interface Asked {
  kind: "clusterIp" | "nodePort" | "loadBalancer" | "external";
  service: ServiceObject;
  port: NonNullable<NonNullable<ServiceObject["spec"]>["ports"]>[number];
  identity: ServicePortIdentity;
}

interface Endpoint extends Backend {
  node: string;
  ready: boolean;
  /** Terminating, and still serving. */
  leaving: boolean;
  serving: boolean;
  zones: string[];
  nodes: string[];
}

export type Choice =
  | { backend: Backend }
  | { refused: "noEndpoint" | "noLocalEndpoint" | "clusterIpFromOutside" | "sourceRange" };

/** Which endpoint a client of a service port had last at a node, and when it began a flow, in milliseconds. */
export type Affinities = Map<string, { backend: string; since: number }>;

/** Of sessionAffinityConfig, in seconds (core/v1 defaults). */
const AFFINITY_SECONDS = 10_800;

/** The objects of the cluster. */
export class ReferenceServices {
  /** Nodes that all others hold for dead. */
  readonly dead = new Set<string>();
  readonly services = new Map<string, ServiceObject>();
  readonly slices = new Map<string, EndpointSliceObject>();

  /** `nodeOf`: the node that has an address, or a block with it. */
  constructor(readonly nodeOf: (wanted: string) => string | undefined) {}
  #identities = new Map<string, ServicePortIdentity>();

  /**
   * Takes note of what has changed. Returns the endpoints that service ports had and that traffic may
   * no longer go to.
   */
  update(): { identity: ServicePortIdentity; backend: string }[] {
    const gone: { identity: ServicePortIdentity; backend: string }[] = [];
    const now = new Map<string, ServicePortIdentity>();
    for (const [name, service] of this.services) {
      for (const port of service.spec?.ports ?? []) {
        const key = `${name} ${port.name} ${port.protocol}`;
        const identity = this.#identities.get(key) ?? { name: key, serving: new Set() };
        const able = this.#endpoints(service, port).filter(({ ready, serving }) => ready || serving);
        const serving = new Set(able.map((each) => `${each.address}:${each.port}`));
        for (const backend of identity.serving) if (!serving.has(backend)) gone.push({ identity, backend });
        identity.serving = serving;
        now.set(key, identity);
      }
    }
    this.#identities = now;
    return gone;
  }

  /** Whether there is any Service. */
  get any(): boolean {
    return this.#identities.size > 0;
  }

  /** Whether an address is a Service's, whichever port. */
  isServiceAddress(wanted: string): boolean {
    return [...this.services.values()].some((service) => addressesOf(service).has(wanted));
  }

  /** Whether a UDP service port has an endpoint, in whatever condition, at this port. */
  isUdpEndpointPort(l4Port: number): boolean {
    return [...this.services.values()].some((service) =>
      (service.spec?.ports ?? []).some(
        (port) =>
          port.protocol === "UDP" && this.#endpoints(service, port).some((each) => each.port === l4Port),
      ),
    );
  }

  /** What a packet asks for; undefined where it is no Service. `nodeAddress` is that of the node it is at. */
  find(to: string, protocol: number, l4Port: number, nodeAddress: string): Asked | undefined {
    for (const [name, service] of this.services) {
      for (const port of service.spec?.ports ?? []) {
        if (NUMBERS[port.protocol as keyof typeof NUMBERS] !== protocol) continue;
        const identity = this.#identities.get(`${name} ${port.name} ${port.protocol}`)!;
        const kind = addressesOf(service).get(to);
        if (kind !== undefined && port.port === l4Port) return { kind, service, port, identity };
        if (to === nodeAddress && port.nodePort === l4Port)
          return { kind: "nodePort", service, port, identity };
      }
    }
    return undefined;
  }

  /** Where a new flow goes. `inside`: it comes from the node itself or one of its pods. */
  choose(
    { kind, service, port, identity }: Asked,
    client: { address: string; port: number; protocol: number },
    inside: boolean,
    node: { name: string; zone: string; affinities: Affinities; now: number },
  ): Choice {
    const spec = service.spec!;
    if (kind === "clusterIp" && !inside) return { refused: "clusterIpFromOutside" };
    const all = this.#endpoints(service, port);
    const ready = all.filter((each) => each.ready);
    const usable = ready.length > 0 ? ready : all.filter((each) => each.leaving);
    if (usable.length === 0) return { refused: "noEndpoint" };
    const ranges = kind === "loadBalancer" ? (spec.loadBalancerSourceRanges ?? []) : [];
    if (ranges.length > 0 && !ranges.some((range) => contains(range, client.address)))
      return { refused: "sourceRange" };
    const policy =
      kind === "clusterIp" ? spec.internalTrafficPolicy : inside ? "Cluster" : spec.externalTrafficPolicy;
    let candidates = usable;
    if (policy === "Local") {
      const here = ready.filter((each) => each.node === node.name);
      candidates = here.length > 0 ? here : all.filter((each) => each.leaving && each.node === node.name);
      if (candidates.length === 0) return { refused: "noLocalEndpoint" };
    } else if (ready.length > 0) candidates = hinted(ready, node);
    const living = (each: Backend) => {
      const at = this.nodeOf(each.address);
      return at === undefined || at === node.name || !this.dead.has(at);
    };
    if (spec.sessionAffinity !== "ClientIP") return { backend: byRing(candidates, client, false, living) };
    const seconds = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? AFFINITY_SECONDS;
    const key = `${identity.name} ${client.address}`;
    const last = node.affinities.get(key);
    const holds = last !== undefined && node.now - last.since < seconds * 1000;
    const same = holds
      ? candidates.find((each) => `${each.address}:${each.port}` === last.backend && living(each))
      : undefined;
    const backend = same ?? byRing(candidates, client, true, living);
    node.affinities.set(key, { backend: `${backend.address}:${backend.port}`, since: node.now });
    return { backend };
  }

  #endpoints(service: ServiceObject, port: Asked["port"]): Endpoint[] {
    const found: Endpoint[] = [];
    for (const { metadata, ports, endpoints } of this.slices.values()) {
      if (metadata.labels?.["kubernetes.io/service-name"] !== service.metadata.name) continue;
      for (const own of ports ?? []) {
        if (own.name !== port.name || own.protocol !== port.protocol) continue;
        for (const { addresses, nodeName, conditions = {}, hints = {} } of endpoints ?? [])
          found.push({
            address: addresses[0]!,
            port: own.port!,
            node: nodeName ?? "",
            ready: conditions.ready !== false,
            serving: conditions.serving !== false,
            leaving: conditions.serving !== false && conditions.terminating === true,
            zones: (hints.forZones ?? []).map(({ name }) => name),
            nodes: (hints.forNodes ?? []).map(({ name }) => name),
          });
      }
    }
    return found;
  }
}

/** The addresses of a Service, and what kind each is. */
function addressesOf({ spec, status }: ServiceObject): Map<string, Asked["kind"]> {
  const found = new Map<string, Asked["kind"]>();
  for (const each of spec?.externalIPs ?? []) found.set(each, "external");
  if (spec?.type === "LoadBalancer")
    for (const { ip } of status?.loadBalancer?.ingress ?? []) found.set(ip!, "loadBalancer");
  found.set(spec!.clusterIP!, "clusterIp");
  return found;
}

/** Hints count where every ready endpoint has one, and one of them is for us; nodes before zones. */
function hinted(ready: Endpoint[], { name, zone }: { name: string; zone: string }): Endpoint[] {
  for (const [hints, wanted] of [
    [(each: Endpoint) => each.nodes, name],
    [(each: Endpoint) => each.zones, zone],
  ] as const) {
    const ours = ready.filter((each) => hints(each).includes(wanted));
    if (ready.every((each) => hints(each).length > 0) && ours.length > 0) return ours;
  }
  return ready;
}

const rings = new Map<string, Uint8Array | Uint16Array>();
const filler = new MaglevRing();

function byRing(
  candidates: Backend[],
  client: { address: string; port: number; protocol: number },
  affinity: boolean,
  living: (backend: Backend) => boolean,
): Backend {
  const number = (text: string) => address(text) >>> 0;
  const sorted = [...candidates].sort((a, b) => number(a.address) - number(b.address) || a.port - b.port);
  const key = sorted.map((each) => `${each.address}:${each.port}`).join(" ");
  let ring = rings.get(key);
  if (ring === undefined) {
    ring = new Uint8Array(ringSize(sorted.length));
    const words = Int32Array.from(sorted.flatMap((each) => [address(each.address), each.port]));
    filler.fill(ring, words, 0, 2, sorted.length);
    rings.set(key, ring);
  }
  const hash = affinity
    ? ringHash(address(client.address), 0, 0)
    : ringHash(address(client.address), client.port, client.protocol);
  const slots = [...ring.subarray(hash % ring.length), ...ring.subarray(0, hash % ring.length)];
  return sorted[slots.find((i) => living(sorted[i]!)) ?? slots[0]!]!;
}

/** Whether a prefix has an address in it. */
export function contains(range: string, wanted: string): boolean {
  const [base, length] = range.split("/");
  const size = 2 ** (32 - Number(length));
  return Math.floor((address(base!) >>> 0) / size) === Math.floor((address(wanted) >>> 0) / size);
}
