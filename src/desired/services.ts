/**
 * Services as the API describes them, compiled into the service table of one node. Objects come one
 * by one and are boiled down at once; `compile` looks at the Services that something changed for, and
 * at no other. Pure, but for the table's memory, which it owns. The order of processing for each:
 *
 *   1. endpoints    of all slices, by service port            serviceEndpoints
 *   2. categories   what either traffic policy leads to       serviceEndpoints
 *   3. rings        acquired before the old ones go, so that what stays the same is not built again
 *   4. frontends    each address with its two rings; of two Services that claim one, one has it
 *   5. differences  endpoints that no longer serve, for the flow table
 *
 * Inside is traffic of this node's pods and of the node itself, outside everybody else's:
 *
 *   |                                   | inside          | outside         |
 *   | cluster IP                        | internal policy | drop            |
 *   | node port, load balancer, external| policy Cluster  | external policy |
 *
 * (kube-proxy sends a node's own traffic for an external address to all endpoints whatever the
 * policy, as if it had gone out to the load balancer and come back.) Without an endpoint in the
 * whole cluster: reject. Policy Local and none here: drop.
 */
import { containsAddress, formatIpv4, type Ipv4Prefix, maskOf } from "../model/ipv4.js";
import {
  SERVICE_PROTOCOLS,
  type Service,
  type ServiceEndpoint,
  type ServiceNode,
  type ServicePort,
  type ServiceProtocol,
  type ServiceSlice,
} from "../model/Service.js";
import {
  BACKEND_LOCAL,
  BACKEND_OUTSIDE_POOL,
  FRONTEND_CLUSTER_IP,
  FRONTEND_EXTERNAL_IP,
  FRONTEND_LOAD_BALANCER,
  FRONTEND_LOCAL,
  FRONTEND_NODE_PORT,
  MAX_BACKENDS,
  RING_DROP,
  RING_REJECT,
  SERVICE_SLOTS,
  type ServiceImage,
  ServiceTableBuilder,
} from "../tables/ServiceTable.js";
import { BACKEND_WORDS, type FrontendRow } from "../tables/serviceLayout.js";
import { categorize, type EndpointKey, endpointsOf, keyAddress, keyPort } from "./serviceEndpoints.js";
import {
  type EndpointSliceObject,
  type ServiceObject,
  serviceFacts,
  serviceKey,
  sliceFacts,
  sliceServiceKey,
  ZONE_LABEL,
} from "./serviceObjects.js";

/** What is read of this node's Node. */
export interface ServiceNodeObject {
  metadata: { name?: string; labels?: Record<string, string> };
}

export interface ServicesOptions {
  /** Name of this node. */
  node: string;
  /** External addresses are honoured inside these alone: else a Service could capture any address. */
  externalIpRanges: readonly Ipv4Prefix[];
}

/** An endpoint that a service port had, and that no longer serves. */
export interface RemovedBackend {
  /** Number of the service port, as rows of the table have it. */
  service: number;
  protocol: ServiceProtocol;
  /** Number of the backend, as rings have it. */
  backend: number;
  address: number;
  l4Port: number;
}

/** What a Service's healthCheckNodePort answers. */
export interface HealthCheck {
  namespace: string;
  name: string;
  port: number;
  /** Ready endpoints on this node, each address once. */
  localEndpoints: number;
}

export interface ServicesChange {
  /** To be published, and acknowledged when every worker has it. */
  image: ServiceImage;
  /** Services (namespace/name) that something is different for, in the table or in its endpoints. */
  services: string[];
  /**
   * kube-proxy clears the UDP flows to these (pkg/proxy/conntrack/cleanup.go), and leaves those of
   * other protocols to end by themselves. It waits where no endpoint is left; here they are named at
   * once, so that the client hears that nobody is there. A change of policy, hints or a Service's addresses removes
   * none, nor does an endpoint that terminates and still serves.
   */
  removedBackends: RemovedBackend[];
  /** Numbers of service ports that are gone. Their flows go on, as kube-proxy's do. */
  removedServices: number[];
  /** When the pods or Services changed that slices taken over since the last time follow; Unix milliseconds. */
  triggers: number[];
  problems: string[];
}

/** A load-balancer address that Services show, and what matters of these to who may announce it. */
export interface ServiceVip {
  /** int32. */
  address: number;
  /** IPAddressPool that it is from, as the oldest of its Services says; empty where none says it. */
  pool: string;
  /** The oldest first. */
  services: {
    /** namespace/name. */
    name: string;
    labels: Record<string, string>;
    /** externalTrafficPolicy Local. */
    local: boolean;
    /** Names of the nodes that have an endpoint that is ready or serving; "" for one without a node. */
    endpointNodes: ReadonlySet<string>;
  }[];
}

/** How much has changed. */
export interface ServiceChanges {
  services: { total: number; pending: number };
  endpoints: { total: number; pending: number };
}

/** A service port, for those who list them. */
export interface ServicePortSummary {
  /** Number of the service port. */
  id: number;
  namespace: string;
  name: string;
  port: ServicePort;
  /** Addresses as int32. */
  clusterIp: number;
  loadBalancerIps: readonly number[];
  externalIps: readonly number[];
  /** Endpoints that serve, in the whole cluster. */
  serving: number;
}

/** Who has a number, for those who show it. */
export interface ServicePortInfo {
  /** namespace/name. */
  service: string;
  port: ServicePort;
  endpoints: { endpoint: ServiceEndpoint; l4Port: number }[];
}

/** All that is known, as plain values: to be kept for a start without an API. */
export interface SavedServices {
  /** This node's zone. */
  zone: string;
  services: Iterable<SavedService>;
}

/** All that is known of one Service. */
export interface SavedService {
  /** namespace/name. */
  key: string;
  /** Null where only slices of it are known. */
  facts: Service | null;
  /** By name. */
  slices: Record<string, ServiceSlice>;
}

interface State {
  facts: Service | null;
  slices: Map<string, ServiceSlice>;
  /** Problems of the Service object, and of each slice. */
  problems: Map<string, string[]>;
  ports: Map<string, PortState>;
}

interface PortState {
  id: number;
  port: ServicePort;
  /** Endpoints in the slices, and those of them that serve. Ascending. */
  endpoints: EndpointKey[];
  serving: EndpointKey[];
  claims: Claim[];
  /** Segments that its rows name. */
  segments: number[];
}

/** A row that a service port wants. */
interface Claim {
  address: number;
  protocol: ServiceProtocol;
  l4Port: number;
  row: FrontendRow;
  /** Which of several claims counts: cluster IPs first, then the older Service. */
  order: string;
  owner: string;
}

interface Backend {
  id: number;
  /** Service ports that have it. */
  users: number;
}

/** When what made an EndpointSlice change happened (EndpointSlice API). */
const TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time";
const SLOT_MASK = SERVICE_SLOTS - 1;
/** Keys of a State's problems that are the Service object's own, and of those with its endpoints. */
const OWN = "";
const ENDPOINTS = " ";

export class Services {
  readonly #table = new ServiceTableBuilder();
  readonly #services = new Map<string, State>();
  /** Service of each slice, by namespace/name of the slice. */
  readonly #sliceOwners = new Map<string, string>();
  readonly #changed = new Set<string>();
  /** Services and slices, by namespace/name, that were restored and not heard of since. */
  readonly #restoredServices = new Set<string>();
  readonly #restoredSlices = new Set<string>();
  readonly #backends = new Map<EndpointKey, Backend>();
  /** Endpoints at each UDP port, over all service ports. */
  readonly #udpPorts = new Map<number, number>();
  readonly #claims = new Map<number, Claim[]>();
  readonly #contested = new Set<number>();
  readonly #byId = new Map<number, { key: string; port: string }>();
  /** States with problems. */
  readonly #troubled = new Set<string>();
  #pools: readonly Ipv4Prefix[] = [];
  #node: ServiceNode;
  #lastService = 0;
  /** Changes taken over so far, and how many of them the last `compile` has seen. */
  readonly #seen = { services: 0, endpoints: 0 };
  #compiled = { services: 0, endpoints: 0 };
  /** Of slices that changed since: when what made them change happened (EndpointSlice's annotation). */
  #triggers: number[] = [];
  /** Low bits of the numbers in use, and 0, which stands for no Service. */
  readonly #slots = new Set([0]);
  #lastBackend = 0;

  constructor(private readonly options: ServicesOptions) {
    this.#node = { name: options.node, zone: "" };
  }

  /** What is known; to be read before the next change. */
  saved(): SavedServices {
    return { zone: this.#node.zone, services: this.#saved() };
  }

  *#saved(): Generator<SavedService> {
    for (const [key, { facts, slices }] of this.#services)
      yield { key, facts, slices: Object.fromEntries(slices) };
  }

  /**
   * Takes over what was kept, into an empty table. It counts until the objects themselves come; those
   * that do not come, `forgetRestored` removes.
   */
  restore({ zone, services }: SavedServices): void {
    this.#node = { ...this.#node, zone };
    for (const { key, facts, slices } of services) {
      const state = this.#newState(key);
      state.facts = facts === null ? null : { ...facts, externalIps: this.#permitted(facts, []) };
      if (facts !== null) this.#restoredServices.add(key);
      for (const [name, slice] of Object.entries(slices)) {
        const sliceKey = `${key.slice(0, key.indexOf("/"))}/${name}`;
        state.slices.set(name, slice);
        this.#sliceOwners.set(sliceKey, key);
        this.#restoredSlices.add(sliceKey);
      }
      this.#changed.add(key);
    }
  }

  /** Every object has come that there is: what was restored and is none of them goes. Whether there was any. */
  forgetRestored(): boolean {
    let changed = false;
    for (const key of [...this.#restoredSlices]) changed = this.removeSlice(...split(key)) || changed;
    for (const key of [...this.#restoredServices]) changed = this.removeService(...split(key)) || changed;
    return changed;
  }

  /** Takes over a Service. Whether that changes anything. */
  setService(object: ServiceObject): boolean {
    const key = serviceKey(object);
    this.#restoredServices.delete(key);
    const problems: string[] = [];
    const facts = serviceFacts(object, problems);
    if (facts !== null) facts.externalIps = this.#permitted(facts, problems);
    const state = this.#services.get(key);
    if (state === undefined && facts === null) return false;
    if (state !== undefined && same(state.facts, facts) && same(state.problems.get(OWN) ?? [], problems))
      return false;
    const own = state ?? this.#newState(key);
    own.facts = facts;
    own.problems.set(OWN, problems);
    this.#changed.add(key);
    this.#seen.services++;
    return true;
  }

  removeService(namespace: string, name: string): boolean {
    const key = `${namespace}/${name}`;
    this.#restoredServices.delete(key);
    const state = this.#services.get(key);
    if (state === undefined || state.facts === null) return false;
    state.facts = null;
    state.problems.delete(OWN);
    this.#changed.add(key);
    this.#seen.services++;
    return true;
  }

  /** Takes over an EndpointSlice; it may come before its Service. Whether that changes anything. */
  setSlice(object: EndpointSliceObject): boolean {
    const { namespace = "default", name = "" } = object.metadata;
    this.#restoredSlices.delete(`${namespace}/${name}`);
    const key = sliceServiceKey(object);
    // It may have been another's until now.
    const moved = this.#sliceOwners.get(`${namespace}/${name}`) !== key && this.removeSlice(namespace, name);
    if (key === null) return moved;
    const problems: string[] = [];
    const facts = sliceFacts(object, problems);
    const state = this.#services.get(key) ?? this.#newState(key);
    const old = state.slices.get(name);
    if (old !== undefined && same(old, facts) && same(state.problems.get(name) ?? [], problems)) return moved;
    state.slices.set(name, facts);
    state.problems.set(name, problems);
    this.#sliceOwners.set(`${namespace}/${name}`, key);
    this.#changed.add(key);
    this.#seen.endpoints++;
    const trigger = Date.parse(object.metadata.annotations?.[TRIGGER_TIME] ?? "");
    if (!Number.isNaN(trigger)) this.#triggers.push(trigger);
    return true;
  }

  removeSlice(namespace: string, name: string): boolean {
    this.#restoredSlices.delete(`${namespace}/${name}`);
    const key = this.#sliceOwners.get(`${namespace}/${name}`);
    if (key === undefined) return false;
    this.#sliceOwners.delete(`${namespace}/${name}`);
    const state = this.#services.get(key)!;
    state.slices.delete(name);
    state.problems.delete(name);
    this.#changed.add(key);
    this.#seen.endpoints++;
    return true;
  }

  /** Takes over this node's Node; others' are ignored. Whether that changes anything. */
  setNode({ metadata }: ServiceNodeObject): boolean {
    const zone = metadata.labels?.[ZONE_LABEL] ?? "";
    if (metadata.name !== this.#node.name || zone === this.#node.zone) return false;
    this.#node = { ...this.#node, zone };
    for (const key of this.#services.keys()) this.#changed.add(key);
    return true;
  }

  /** The pod pools: which endpoints lie outside. Whether that changes anything. */
  setPools(pools: readonly Ipv4Prefix[]): boolean {
    if (same(pools, this.#pools)) return false;
    this.#pools = pools;
    for (const key of this.#services.keys()) this.#changed.add(key);
    return true;
  }

  /** Brings the table up to date. What is reported is the difference to the last time. */
  compile(): ServicesChange {
    const change: Omit<ServicesChange, "image" | "problems"> = {
      triggers: this.#triggers,
      services: [],
      removedBackends: [],
      removedServices: [],
    };
    const touched = new Set<number>();
    const released: number[] = [];
    for (const key of this.#changed) this.#compileService(key, change, touched, released);
    this.#changed.clear();
    this.#triggers = [];
    this.#compiled = { ...this.#seen };
    for (const frontend of touched) this.#settle(frontend);
    for (const segment of released) this.#table.release(segment);
    return { ...change, image: this.#table.commit(), problems: this.#problems() };
  }

  /** Every worker has adopted `image`. */
  acknowledge(image: ServiceImage): void {
    this.#table.acknowledge(image);
  }

  /** What each healthCheckNodePort has to answer, by what was taken over. */
  healthChecks(): HealthCheck[] {
    return [...this.#services.values()].flatMap((state) => this.#healthCheck(state));
  }

  /** Load-balancer and external addresses that some Service has, by what was taken over. Ascending. */
  virtualAddresses(): number[] {
    const found = new Set<number>();
    for (const { facts } of this.#services.values()) {
      if (facts === null || facts.ports.length === 0) continue;
      for (const address of facts.loadBalancerIps) found.add(address);
      for (const address of facts.externalIps) found.add(address);
    }
    for (const { facts } of this.#services.values()) if (facts !== null) found.delete(facts.clusterIp);
    return [...found].sort((a, b) => (a >>> 0) - (b >>> 0));
  }

  /** Load-balancer addresses that Services show, by what was taken over. Ascending. */
  loadBalancerVips(): ServiceVip[] {
    const states = [...this.#services.values()].filter(
      ({ facts }) => facts !== null && facts.loadBalancerIps.length > 0 && facts.ports.length > 0,
    );
    const age = ({ facts }: State) => `${facts!.created} ${facts!.namespace}/${facts!.name}`;
    const found = new Map<number, ServiceVip>();
    for (const state of states.sort((a, b) => (age(a) < age(b) ? -1 : 1))) {
      const { namespace, name, advertised, loadBalancerIps, externalPolicy } = state.facts!;
      const { pool, labels } = advertised!;
      const service = {
        name: `${namespace}/${name}`,
        labels,
        local: externalPolicy === "Local",
        endpointNodes: endpointNodes(state),
      };
      for (const address of loadBalancerIps) {
        const vip = found.get(address);
        if (vip === undefined) found.set(address, { address, pool, services: [service] });
        else {
          vip.pool ||= pool;
          vip.services.push(service);
        }
      }
    }
    return [...found.values()].sort((a, b) => (a.address >>> 0) - (b.address >>> 0));
  }

  /** NodePorts of UDP, ascending. */
  udpNodePorts(): number[] {
    const found = new Set<number>();
    for (const { facts } of this.#services.values())
      for (const { protocol, nodePort } of facts?.ports ?? [])
        if (protocol === "UDP" && nodePort !== 0) found.add(nodePort);
    return [...found].sort((a, b) => a - b);
  }

  /** Services that have an address. */
  get size(): number {
    let count = 0;
    for (const { facts } of this.#services.values()) if (facts !== null) count++;
    return count;
  }

  /** "namespace/name:port" of the service port that has a number; undefined where none has it any more. */
  nameOf(id: number): string | undefined {
    const place = this.#byId.get(id);
    if (place === undefined) return undefined;
    const { name, l4Port } = this.#services.get(place.key)!.ports.get(place.port)!.port;
    return `${place.key}:${name === "" ? l4Port : name}`;
  }

  /** Numbers of a Service's ports; none where there is no such Service. */
  idsOf(namespace: string, name: string): number[] {
    const state = this.#services.get(`${namespace}/${name}`);
    return state === undefined ? [] : [...state.ports.values()].map(({ id }) => id);
  }

  /** The service port that has a number; undefined where none has it any more. */
  info(id: number): ServicePortInfo | undefined {
    const place = this.#byId.get(id);
    if (place === undefined) return undefined;
    const { slices, ports } = this.#services.get(place.key)!;
    const { port } = ports.get(place.port)!;
    const endpoints = endpointsOf(port, inOrder(slices), this.#node.name);
    return {
      service: place.key,
      port,
      endpoints: [...endpoints].map(([key, endpoint]) => ({ endpoint, l4Port: keyPort(key) })),
    };
  }

  /** Every service port that the last `compile` made. */
  *ports(): Generator<ServicePortSummary> {
    for (const { facts, ports } of this.#services.values()) {
      if (facts === null) continue;
      const { namespace, name, clusterIp, loadBalancerIps, externalIps } = facts;
      for (const { id, port, serving } of ports.values())
        yield { id, namespace, name, port, clusterIp, loadBalancerIps, externalIps, serving: serving.length };
    }
  }

  /** Changes taken over so far, and those of them that are not compiled yet. */
  get changes(): ServiceChanges {
    const [seen, compiled] = [this.#seen, this.#compiled];
    return {
      services: { total: seen.services, pending: seen.services - compiled.services },
      endpoints: { total: seen.endpoints, pending: seen.endpoints - compiled.endpoints },
    };
  }

  /** Service ports with traffic policy Local that nobody on this node serves, though somebody elsewhere does. */
  withoutLocalEndpoints(): { internal: number; external: number } {
    const count = { internal: 0, external: 0 };
    for (const { ports } of this.#services.values())
      for (const { claims } of ports.values()) {
        const drops = (clusterIp: boolean, ring: "inside" | "outside") =>
          claims.some(
            ({ row }) => ((row.flags & FRONTEND_CLUSTER_IP) !== 0) === clusterIp && row[ring] === RING_DROP,
          );
        if (drops(true, "inside")) count.internal++;
        if (drops(false, "outside")) count.external++;
      }
    return count;
  }

  /** Rings built so far. */
  get ringsBuilt(): number {
    return this.#table.ringsBuilt;
  }

  /** Bytes of shared memory: in use, and in all. */
  get memory(): { used: number; reserved: number } {
    return this.#table.memory;
  }

  // ---- one Service --------------------------------------------------------------------------

  #newState(key: string): State {
    const state: State = { facts: null, slices: new Map(), problems: new Map(), ports: new Map() };
    this.#services.set(key, state);
    return state;
  }

  #permitted(facts: Service, problems: string[]): number[] {
    return facts.externalIps.filter((address) => {
      const permitted = this.options.externalIpRanges.some((range) => containsAddress(range, address));
      if (!permitted)
        problems.push(
          `service ${facts.namespace}/${facts.name}: external address ${formatIpv4(address)} is in no permitted range`,
        );
      return permitted;
    });
  }

  #compileService(
    key: string,
    change: Omit<ServicesChange, "image" | "problems">,
    touched: Set<number>,
    released: number[],
  ): void {
    const state = this.#services.get(key)!;
    const { facts } = state;
    let different = false;
    const old = state.ports;
    state.ports = new Map();
    for (const port of facts?.ports ?? []) {
      const name = `${port.name}/${port.protocol}`;
      // A second port of this name and protocol, which validation refuses.
      if (state.ports.has(name)) continue;
      const before = old.get(name);
      old.delete(name);
      const after = this.#compilePort(key, state, port, before);
      state.ports.set(name, after);
      if (before === undefined) this.#byId.set(after.id, { key, port: name });
      different = this.#replace(before, after, change, touched, released) || different;
    }
    for (const gone of old.values()) {
      this.#replace(gone, undefined, change, touched, released);
      this.#byId.delete(gone.id);
      if ((gone.id & SLOT_MASK) !== 0) this.#slots.delete(gone.id & SLOT_MASK);
      change.removedServices.push(gone.id);
      different = true;
    }
    const crowded = [...state.ports.values()].filter(({ endpoints }) => endpoints.length > MAX_BACKENDS);
    state.problems.set(
      ENDPOINTS,
      crowded.map(
        ({ port }) => `service ${key}: port ${port.l4Port} has more than ${MAX_BACKENDS} endpoints`,
      ),
    );
    if ([...state.problems.values()].some((problems) => problems.length > 0)) this.#troubled.add(key);
    else this.#troubled.delete(key);
    if (facts === null && state.slices.size === 0) {
      this.#services.delete(key);
      this.#troubled.delete(key);
    }
    if (different) change.services.push(key);
  }

  /**
   * A number that no service port had. Its low bits say where its traffic is counted: those that are
   * there have other ones, as long as there are fewer than SERVICE_SLOTS.
   */
  #nextService(): number {
    do this.#lastService++;
    while (this.#slots.has(this.#lastService & SLOT_MASK) && this.#slots.size < SERVICE_SLOTS);
    this.#slots.add(this.#lastService & SLOT_MASK);
    return this.#lastService;
  }

  /** What a port wants now. Acquires its rings and its backends' numbers. */
  #compilePort(key: string, state: State, port: ServicePort, before: PortState | undefined): PortState {
    const facts = state.facts!;
    const endpoints = endpointsOf(port, inOrder(state.slices), this.#node.name);
    const sorted = [...Float64Array.from(endpoints.keys()).sort()];
    const id = before?.id ?? this.#nextService();
    for (const endpoint of sorted) {
      const known = this.#backends.get(endpoint);
      if (known !== undefined) known.users++;
      else this.#backends.set(endpoint, { id: ++this.#lastBackend, users: 1 });
    }
    const segments: number[] = [];
    const { cluster, local, any } = categorize(facts, port, endpoints, sorted, this.#node);
    const ring = (keys: EndpointKey[]) => {
      if (!any) return RING_REJECT;
      if (keys.length === 0) return RING_DROP;
      const segment = this.#table.acquireRing(this.#backendWords(keys, endpoints));
      segments.push(segment);
      return segment;
    };
    // Equal ones share a ring, but need not be compared to find that out.
    const clusterRing = ring(cluster);
    const localRing =
      facts.internalPolicy === "Local" || facts.externalPolicy === "Local" ? ring(local) : RING_DROP;
    const internal = facts.internalPolicy === "Local" ? localRing : clusterRing;
    const outside = facts.externalPolicy === "Local" ? localRing : clusterRing;
    const claims: Claim[] = [];
    const affinityKey = facts.affinitySeconds > 0 ? nameHash(`${key}:${port.name}/${port.protocol}`) : 0;
    const claim = (address: number, l4Port: number, flags: number, rank: number, ranges = 0) => {
      const clusterIp = flags === FRONTEND_CLUSTER_IP;
      claims.push({
        address,
        protocol: port.protocol,
        l4Port,
        row: {
          flags: facts.externalPolicy === "Local" && !clusterIp ? flags | FRONTEND_LOCAL : flags,
          affinitySeconds: facts.affinitySeconds,
          affinityKey,
          inside: clusterIp ? internal : clusterRing,
          outside: clusterIp ? RING_DROP : outside,
          ranges,
          service: id,
        },
        order: `${rank} ${facts.created} ${key}`,
        owner: key,
      });
    };
    claim(facts.clusterIp, port.l4Port, FRONTEND_CLUSTER_IP, 0);
    if (port.nodePort !== 0) claim(0, port.nodePort, FRONTEND_NODE_PORT, 0);
    if (facts.loadBalancerIps.length > 0) {
      const ranges = facts.sourceRanges.length > 0 ? this.#table.acquireRanges(rangeWords(facts)) : 0;
      if (ranges !== 0) segments.push(ranges);
      for (const address of facts.loadBalancerIps)
        claim(address, port.l4Port, FRONTEND_LOAD_BALANCER, 1, ranges);
    }
    for (const address of facts.externalIps)
      if (!facts.loadBalancerIps.includes(address) && address !== facts.clusterIp)
        claim(address, port.l4Port, FRONTEND_EXTERNAL_IP, 2);
    const serving = sorted.filter((each) => serves(endpoints.get(each)!));
    return { id, port, endpoints: sorted, serving, claims, segments };
  }

  #backendWords(
    keys: readonly EndpointKey[],
    endpoints: ReadonlyMap<EndpointKey, ServiceEndpoint>,
  ): Int32Array {
    const count = Math.min(keys.length, MAX_BACKENDS);
    const words = new Int32Array(count * BACKEND_WORDS);
    for (let i = 0; i < count; i++) {
      const key = keys[i]!;
      const address = keyAddress(key);
      const local = endpoints.get(key)!.node === this.#node.name;
      const inPool = this.#pools.some((pool) => containsAddress(pool, address));
      words[BACKEND_WORDS * i] = address;
      words[BACKEND_WORDS * i + 1] = keyPort(key);
      words[BACKEND_WORDS * i + 2] = (local ? BACKEND_LOCAL : 0) | (inPool ? 0 : BACKEND_OUTSIDE_POOL);
      words[BACKEND_WORDS * i + 3] = this.#backends.get(key)!.id;
    }
    return words;
  }

  /** Puts a port's claims and backends in the place of those before. Whether anything differs. */
  #replace(
    before: PortState | undefined,
    after: PortState | undefined,
    change: Omit<ServicesChange, "image" | "problems">,
    touched: Set<number>,
    released: number[],
  ): boolean {
    let different = before === undefined || after === undefined || !same(before.endpoints, after.endpoints);
    if (before !== undefined && after !== undefined)
      for (const key of missing(before.serving, after.serving)) {
        change.removedBackends.push({
          service: before.id,
          protocol: before.port.protocol,
          backend: this.#backends.get(key)!.id,
          address: keyAddress(key),
          l4Port: keyPort(key),
        });
        different = true;
      }
    for (const key of before?.endpoints ?? []) {
      const backend = this.#backends.get(key)!;
      if (--backend.users === 0) this.#backends.delete(key);
    }
    if (before?.port.protocol === "UDP") this.#countUdpPorts(before.endpoints, -1);
    if (after?.port.protocol === "UDP") this.#countUdpPorts(after.endpoints, 1);
    released.push(...(before?.segments ?? []));
    if (before !== undefined && after !== undefined && same(before.claims, after.claims)) {
      after.claims = before.claims;
      return different;
    }
    for (const claim of before?.claims ?? []) {
      const frontend = frontendKey(claim);
      this.#claims.set(
        frontend,
        this.#claims.get(frontend)!.filter((other) => other !== claim),
      );
      touched.add(frontend);
    }
    for (const claim of after?.claims ?? []) {
      const frontend = frontendKey(claim);
      this.#claims.set(frontend, [...(this.#claims.get(frontend) ?? []), claim]);
      touched.add(frontend);
    }
    return true;
  }

  #countUdpPorts(endpoints: readonly EndpointKey[], by: 1 | -1): void {
    for (const key of endpoints) {
      const l4Port = keyPort(key);
      const count = (this.#udpPorts.get(l4Port) ?? 0) + by;
      if (count > 0) this.#udpPorts.set(l4Port, count);
      else this.#udpPorts.delete(l4Port);
      this.#table.setUdpPort(l4Port, count > 0);
    }
  }

  /** Gives a frontend to the first of those who claim it. */
  #settle(frontend: number): void {
    const claims = this.#claims.get(frontend)!;
    claims.sort((a, b) => (a.order < b.order ? -1 : a.order > b.order ? 1 : 0));
    if (claims.length > 1) this.#contested.add(frontend);
    else this.#contested.delete(frontend);
    const first = claims[0];
    if (first !== undefined)
      this.#table.setFrontend(first.address, SERVICE_PROTOCOLS[first.protocol], first.l4Port, first.row);
    else {
      this.#claims.delete(frontend);
      const { address, protocol, l4Port } = keyFrontend(frontend);
      this.#table.removeFrontend(address, protocol, l4Port);
    }
  }

  #healthCheck({ facts, slices }: State): HealthCheck[] {
    if (facts === null || facts.healthCheckNodePort === 0) return [];
    const here = new Set<number>();
    for (const { ports, endpoints } of slices.values()) {
      if (ports.length === 0) continue;
      for (const { address, node, ready } of endpoints)
        if (ready && node === this.#node.name) here.add(address);
    }
    const { namespace, name, healthCheckNodePort: port } = facts;
    return [{ namespace, name, port, localEndpoints: here.size }];
  }

  #problems(): string[] {
    const problems: string[] = [];
    for (const key of this.#troubled)
      for (const each of this.#services.get(key)!.problems.values()) problems.push(...each);
    for (const frontend of this.#contested) {
      const [first, ...others] = this.#claims.get(frontend)!;
      const { address, protocol, l4Port } = first!;
      const where = address === 0 ? `node port ${l4Port}` : `${formatIpv4(address)}:${l4Port}`;
      for (const { owner } of others)
        problems.push(`service ${owner}: ${where}/${protocol} is that of ${first!.owner}`);
    }
    return problems;
  }
}

/** Nodes with an endpoint that can serve; "" for one without a node. */
function endpointNodes({ slices }: State): Set<string> {
  const nodes = new Set<string>();
  for (const { endpoints } of slices.values())
    for (const endpoint of endpoints) if (serves(endpoint)) nodes.add(endpoint.node);
  return nodes;
}

/** Slices by name: the order in which they came is another on every node. */
function inOrder(slices: ReadonlyMap<string, ServiceSlice>): ServiceSlice[] {
  return [...slices.keys()].sort().map((name) => slices.get(name)!);
}

/** Whether traffic may go to it. Published before it is ready, it is "ready" and does not serve. */
function serves({ ready, serving }: ServiceEndpoint): boolean {
  return ready || serving;
}

/** Those of `before` that `after` lacks. Both ascending. */
function missing(before: readonly number[], after: readonly number[]): number[] {
  let at = 0;
  return before.filter((key) => {
    while (at < after.length && after[at]! < key) at++;
    return after[at] !== key;
  });
}

function split(key: string): [namespace: string, name: string] {
  const at = key.indexOf("/");
  return [key.slice(0, at), key.slice(at + 1)];
}

/** 32 bits for a name, not 0 (FNV-1a, of its UTF-16 units). */
function nameHash(name: string): number {
  let hash = 0x811c9dc5 | 0;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash === 0 ? 1 : hash;
}

function rangeWords({ sourceRanges }: Service): Int32Array {
  return Int32Array.from(sourceRanges.flatMap(({ address, length }) => [address, maskOf(length)]));
}

/** Address (32 bits), protocol (2, its place in PROTOCOLS) and port (16) in one number. */
function frontendKey({ address, protocol, l4Port }: Claim): number {
  return ((address >>> 0) * 4 + PROTOCOLS.indexOf(protocol)) * 65536 + l4Port;
}

function keyFrontend(key: number): { address: number; protocol: number; l4Port: number } {
  const rest = Math.floor(key / 65536);
  return {
    address: Math.floor(rest / 4) | 0,
    protocol: SERVICE_PROTOCOLS[PROTOCOLS[rest % 4]!],
    l4Port: key % 65536,
  };
}

const PROTOCOLS = Object.keys(SERVICE_PROTOCOLS) as ServiceProtocol[];

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
