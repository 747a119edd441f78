/**
 * The node's process: wires the config file, the reconciler, the dataplane worker, the state
 * directory and the status socket, and says in which order they start and stop. All its parts can
 * be replaced, so that it is tested without rights.
 *
 * Start: look at the machine, take the state directory, start the worker, bring the host to its
 * desired state, answer. What fails on the way takes everything before it back.
 * Stop: other nodes take over its load-balancer addresses, the worker ends, descriptors close; devices, routes and the record stay for the next agent.
 */
import { release, type } from "node:os";
import { NODE_DEVICE, ROUTE_PROTOCOL } from "../desired/host.js";
import type { LanInterface } from "../desired/lan.js";
import { formatMac, macOf } from "../desired/mac.js";
import { Services } from "../desired/services.js";
import { StaticServices } from "../desired/staticServices.js";
import type { AnnouncedAddress } from "../desired/vips.js";
import { type Host, OWN_NETNS } from "../host/Host.js";
import { type Clock, SYSTEM_CLOCK } from "../kube/Clock.js";
import { MetricsServer } from "../metrics/MetricsServer.js";
import type { AgentConfig } from "../model/AgentConfig.js";
import { formatIpv4 } from "../model/ipv4.js";
import type { NodeFlowRecords, NodeTables } from "../model/NodeTables.js";
import { DROP_REASON_NAMES } from "../packet/DropReason.js";
import type { Log } from "../reconcile/Log.js";
import { Reconciler, type ReconcilerStatus } from "../reconcile/Reconciler.js";
import { ServicePublisher } from "../reconcile/ServicePublisher.js";
import { FlowReader } from "../tables/FlowReader.js";
import { FlowTable } from "../tables/FlowTable.js";
import { FLAG_EGRESS } from "../tables/flowLayout.js";
import type { Mac, TableInput } from "../tables/TableInput.js";
import type { WorkerControl, WorkerEvent, WorkerOptions } from "../worker/control.js";
import { type AddressReport, AnnouncementReport } from "./AnnouncementReport.js";
import { AgentMetrics, type Announcement } from "./agentMetrics.js";
import { type AnnounceStatus, announcedBy, announceStatus } from "./announceStatus.js";
import { type CapturePort, Captures } from "./Captures.js";
import { ConfigError } from "./ConfigError.js";
import { type LoadedConfig, parseConfig } from "./config.js";
import {
  type CounterReport,
  type CounterSources,
  counterReport,
  serviceViews,
  vtepViews,
} from "./counterReport.js";
import { checkEnvironment, explain } from "./environment.js";
import { type MapFile, type OpenFlows, openFlows } from "./flowMemory.js";
import { type FlowQuery, FlowReport, type FlowStats, type FlowView } from "./flowReport.js";
import { HealthServers } from "./health/HealthServers.js";
import { ProxyHealth } from "./health/ProxyHealth.js";
import { nodeTables } from "./nodeTables.js";
import { devicesIn, readRecord, StateDir, StateRecord } from "./StateDir.js";
import { type Arguments, StatusServer } from "./StatusServer.js";
import { UdpPortHolder } from "./UdpPortHolder.js";

/** Repair of what was changed behind our back. */
const RESYNC_MS = 30_000;
/** After a notification that rules, routes or addresses changed: what comes in bursts is looked at once. */
const CHANGED_MS = 200;
/** Namespaces that came or went. */
const NAMESPACES_MS = 1_000;
/** How often the dataplane is asked for a sign of life. */
const PING_MS = 5_000;
/** Before a worker that ended is started again. */
const WORKER_RESTART_MS = 1_000;

export interface AgentParts {
  host: Host;
  startWorker: (options: WorkerOptions) => Promise<WorkerControl>;
  buildImage: (input: TableInput) => SharedArrayBuffer;
  log: Log;
  /** Native code's: memory for the flow table that outlives this process. */
  mapFile: MapFile;
  /** Pods come and go by others' hands: one that cannot be attached does not stop the start. */
  lenientPods?: boolean;
  /** A Service's health check cannot be served here; for an Event. */
  onServiceHealthFailed?: (namespace: string, name: string, message: string) => void;
  /** What became of a load-balancer address; for an Event. */
  onAddress?: (report: AddressReport) => void;
  /** Interface on the LAN where the config names none (yet). Default: the one with the underlay address. */
  lanInterface?: string | null;
  /** Told of that interface when it is known and when it changes; null where it is not there. */
  onLan?: (lan: LanInterface | null) => void;
  /** Asks a LAN for an address (worker/probeLan). Without: probeAddress rejects. */
  probeLan?: (options: { ifname: string; mac: Mac; address: number }) => Promise<Mac | null>;
  /** Load-balancer addresses with what is said of them elsewhere. Default: what Services say. */
  announced?: () => readonly AnnouncedAddress[];
  clock?: Clock;
  /** Services that somebody else feeds; he calls publishServices. Default: those of the config. */
  services?: Services;
}

/** A file is the node's owner's word: every external address in it counts. */
const ANYWHERE = [{ address: 0, length: 0 }];

export interface PodStatus {
  name: string;
  address: string;
  netns: string;
  interface: string;
  state: "up" | "failed";
  message: string;
  port: number;
}

/** What `podwire status` shows. */
export interface AgentStatus {
  node: string;
  pid: number;
  configFile: string;
  startedAt: string;
  underlay: { address: string; port: number; vni: number; mtu: number };
  overlayMtu: number;
  tunnelAddress: string;
  podPool: string[];
  blocks: string[];
  dataplane: { send: "tunnel-gso" | "udp-segment"; uso: boolean; threads: number };
  devices: ReconcilerStatus["devices"];
  pods: PodStatus[];
  vteps: AgentConfig["vteps"];
  serviceHost: AgentConfig["serviceHost"];
  services: {
    /** Services with an address. */
    count: number;
    /** Bytes of their table that are in use. */
    memory: number;
  };
  flows: Omit<FlowStats, "counters">;
  /** Where metrics are served, ADDRESS:PORT; null for nowhere. */
  metrics: string | null;
  counters: CounterReport;
}

export class Agent {
  private readonly startedAt = new Date();
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly server: StatusServer;
  private reconciler: Reconciler | null = null;
  private worker: WorkerControl | null = null;
  /** Outlives the worker: flows go on where a thread had to be started again. */
  private flows!: OpenFlows;
  private flowReport!: FlowReport;
  private readonly services: Services;
  /** Null where somebody else feeds them. */
  private readonly staticServices: StaticServices | null;
  private publisher: ServicePublisher | null = null;
  private readonly announcement: AnnouncementReport;
  /** What onLan was told last. */
  private lan: LanInterface | null | undefined;
  private stopping = false;
  private readonly health: ProxyHealth;
  private readonly healthServers: HealthServers;
  private readonly captures: Captures;
  private readonly udpPorts: UdpPortHolder;
  private readonly metrics: AgentMetrics;
  private readonly metricsServer: MetricsServer;
  private pinging = false;
  private unwatch = () => {};
  private changed: NodeJS.Timeout | null = null;

  private constructor(
    private loaded: LoadedConfig,
    private readonly parts: AgentParts,
    private readonly stateDir: StateDir,
  ) {
    const { clock = SYSTEM_CLOCK, log } = parts;
    this.health = new ProxyHealth(clock);
    this.udpPorts = new UdpPortHolder(parts.host, log);
    this.healthServers = new HealthServers({
      health: this.health,
      clock,
      log,
      onFailed: ({ namespace, name, port }, message) =>
        parts.onServiceHealthFailed?.(
          namespace,
          name,
          `node ${loaded.config.node} failed to start healthcheck "${namespace}/${name}" on port ${port}: ${message}`,
        ),
    });
    const { node } = loaded.config;
    this.announcement = new AnnouncementReport({
      node,
      log,
      nodeName: (index) => this.reconciler?.nodeName(index) ?? "",
      onAddress: parts.onAddress,
    });
    this.services = parts.services ?? new Services({ node, externalIpRanges: ANYWHERE });
    this.staticServices = parts.services === undefined ? new StaticServices(this.services) : null;
    this.metrics = new AgentMetrics({
      node,
      counters: () => this.counters(),
      dropReasons: DROP_REASON_NAMES,
      flows: () => this.flowStats(),
      services: () => ({
        count: this.services.size,
        memory: this.services.memory.used,
        changes: this.services.changes,
        withoutLocalEndpoints: this.services.withoutLocalEndpoints(),
      }),
      pods: () => this.podStates(),
      healthy: () => this.health.healthy,
      announcement: () => this.announced(),
    });
    this.metricsServer = new MetricsServer(this.metrics.registry, {
      names: [node.toLowerCase()],
      clock,
      onError: (err) => log.error({ err }, "metrics cannot be served; will try again"),
    });
    this.server = new StatusServer({
      status: () => this.status(),
      counters: () => this.counters(),
      announcement: () => this.announcementStatus(),
      tables: () => this.reconciler?.tables(),
      nodeTables: () => this.nodeTables(),
      services: () => serviceViews(this.sources()),
      vteps: () => vtepViews(this.sources()).values(),
      flows: (query) => this.flowReport.list(query),
      flowRecords: (query) => this.flowReport.records(query),
      flowStats: () => this.flowStats(),
      flushFlows: (query) => this.flushFlows(query),
      capture: (request) => this.captures.start(request),
    });
    this.captures = new Captures({
      node,
      os: `${type()} ${release()}`,
      application: "podwire",
      worker: () => this.worker!,
      threads: loaded.config.dataplane.threads,
      ports: () => this.capturePorts(),
      vtepName: (index) => this.reconciler?.nodeName(index) ?? "",
      serviceName: (id) => this.services.nameOf(id) ?? "",
    });
  }

  /**
   * Starts an agent. Throws a ConfigError where the machine is not fit, a LockedError where another
   * agent has the state directory, a StateError where that cannot be used; then everything is as it
   * was before.
   */
  static async start(loaded: LoadedConfig, parts: AgentParts): Promise<Agent> {
    const { config } = loaded;
    const stateDir = new StateDir(config.stateDir);
    const agent = new Agent(loaded, parts, stateDir);
    const netns = parts.host.netnsIdentity(OWN_NETNS) ?? "";
    const checked = parts.lenientPods ? { ...loaded, config: { ...config, pods: [] } } : loaded;
    await checkEnvironment(checked, parts.host, devicesIn(readRecord(stateDir.recordFile), netns));
    stateDir.acquire();
    try {
      const record = new StateRecord(stateDir.recordFile, config.node, netns);
      agent.openFlows();
      agent.worker = await agent.startWorker();
      agent.publisher = new ServicePublisher(agent.services, agent.worker, parts.log, agent.metrics);
      agent.staticServices?.set(config);
      // Before any tables: rules of before lead to podwire0, and what asks for no Service goes back to the
      // kernel, which would refuse it.
      await agent.publishServices();
      agent.reconciler = new Reconciler({
        ...parts,
        worker: agent.worker,
        record,
        describe: (error) => (explain(error, agent.loaded) as Error).message,
      });
      await agent.reconciler.start(config);
      await agent.server.listen(stateDir.socketFile);
    } catch (error) {
      await agent.worker?.stop().catch(() => {});
      agent.reconciler?.close();
      stateDir.undo();
      throw explain(error, loaded);
    }
    const { reconciler } = agent;
    agent.timers.push(setInterval(() => void agent.resync(), RESYNC_MS));
    agent.timers.push(setInterval(() => reconciler.checkNamespaces(), NAMESPACES_MS));
    agent.timers.push(setInterval(() => void agent.ping(), PING_MS));
    agent.noteHealth();
    agent.metricsServer.sync(config.metrics);
    agent.unwatch = parts.host.watch(ROUTE_PROTOCOL, () => agent.nodeChanged());
    stateDir.setReady(config.node);
    const { send, uso } = reconciler.status();
    parts.log.info({ pods: config.pods.length, vteps: config.vteps.length, send, uso }, "ready");
    return agent;
  }

  /**
   * Takes over a changed config file. A bad one is logged, problem by problem, and changes nothing.
   * Never throws.
   */
  async reload(text: string): Promise<void> {
    const { log } = this.parts;
    try {
      const { config } = await this.takeOver(parseConfig(this.loaded.file, text), "all");
      log.info({ pods: config.pods.length, vteps: config.vteps.length }, "took over the new config");
    } catch (error) {
      if (error instanceof ConfigError)
        for (const line of error.message.split("\n")) log.error({}, `config not taken over: ${line}`);
      else log.error({ err: error }, "config not taken over");
    }
  }

  /** Takes over a config that was made, not read. Throws as start() does; the old one then stays. */
  async update(config: AgentConfig): Promise<void> {
    await this.takeOver({ ...this.loaded, config: structuredClone(config) }, "changed");
  }

  /** Repairs now what was changed behind our back. */
  async resync(what: "all" | "node" = "all"): Promise<void> {
    await this.reconciler!.resync(what);
    this.noteHealth();
    if (what === "all") await this.publishServices();
  }

  /** Whether load balancers may send this node anything new; it is so until said otherwise. */
  setNodeEligible(eligible: boolean): void {
    this.health.setNodeEligible(eligible);
  }

  /** Somebody, perhaps ourselves, changed the node's rules, routes, addresses or forwarding. */
  private nodeChanged(): void {
    if (this.stopping || this.changed !== null) return;
    this.changed = setTimeout(() => {
      this.changed = null;
      void this.resync("node");
    }, CHANGED_MS);
  }

  /** Brings to the dataplane what has changed of Services. Never throws. */
  async publishServices(): Promise<void> {
    await this.noteServices(this.publisher!.publish());
  }

  /** Waits for a publish, which counts as late in /healthz for as long as the dataplane does not have it. */
  private async noteServices(published: Promise<void>): Promise<void> {
    this.health.queued("services");
    await published;
    if (this.publisher!.upToDate) this.health.done("services");
  }

  private async takeOver(loaded: LoadedConfig, repair: "all" | "changed"): Promise<LoadedConfig> {
    this.keepFixed(loaded.config);
    const old = this.loaded;
    // What fails from here on is told in terms of the new config.
    this.loaded = loaded;
    this.health.queued("tables");
    try {
      await this.reconciler!.reconfigure(loaded.config, repair);
    } catch (error) {
      this.loaded = old;
      throw explain(error, loaded);
    }
    // After the routes, so that no Service leads where there is none yet.
    if (this.staticServices !== null) {
      this.staticServices.set(loaded.config);
      await this.publishServices();
    }
    this.noteHealth();
    this.metricsServer.sync(loaded.config.metrics);
    return loaded;
  }

  /** After a pass: whether the dataplane has what it should have, and what is served about that. */
  private noteHealth(): void {
    if (this.stopping) return;
    this.noteLan();
    const { upToDate, nodePortAddresses } = this.reconciler!;
    if (upToDate) this.health.done("tables");
    const { serviceHost } = this.loaded.config;
    this.udpPorts.sync(nodePortAddresses, serviceHost?.udpNodePorts ?? []);
    this.healthServers.sync({
      healthz: serviceHost?.healthz ?? null,
      addresses: nodePortAddresses,
      checks: serviceHost?.healthChecks ?? [],
    });
  }

  private noteLan(): void {
    const { lanInterface } = this.reconciler!;
    if (JSON.stringify(lanInterface) === JSON.stringify(this.lan)) return;
    this.lan = lanInterface;
    this.parts.onLan?.(lanInterface);
  }

  /** Asks the dataplane for a sign of life; one question at a time. */
  private async ping(): Promise<void> {
    if (this.pinging) return;
    this.pinging = true;
    this.health.queued("dataplane");
    // One that has ended does not answer: the next one will.
    await this.worker!.ping().then(
      () => this.health.done("dataplane"),
      () => {},
    );
    this.pinging = false;
  }

  status(): AgentStatus {
    const { config, file } = this.loaded;
    const { devices, underlayMtu, overlayMtu, send, uso } = this.reconciler!.status();
    return {
      node: config.node,
      pid: process.pid,
      configFile: file,
      startedAt: this.startedAt.toISOString(),
      underlay: { ...config.underlay, mtu: underlayMtu },
      overlayMtu,
      tunnelAddress: config.tunnelAddress,
      podPool: config.podPool,
      blocks: config.blocks,
      dataplane: { send, uso, threads: config.dataplane.threads },
      devices,
      pods: config.pods.map((pod) => ({ ...pod, ...podState(devices, pod.name) })),
      vteps: config.vteps,
      serviceHost: config.serviceHost,
      services: { count: this.services.size, memory: this.services.memory.used },
      flows: this.flowCounts(),
      metrics: this.metricsServer.address,
      counters: this.counters(),
    };
  }

  /** How the interface of a pod is; a failed one where there is no such pod. */
  podState(name: string): Pick<PodStatus, "state" | "message" | "port"> {
    return podState(this.reconciler!.status().devices, name);
  }

  /** MTU of pods' interfaces. */
  get overlayMtu(): number {
    return this.reconciler!.status().overlayMtu;
  }

  /** Who owns which load-balancer address, and what BFD says of the neighbors. */
  async announcementStatus(): Promise<AnnounceStatus> {
    const worker = await this.worker!.announcement();
    const { lanInterface } = this.reconciler!;
    const status = this.announcement.status(worker, this.reconciler!.tables()!, lanInterface, new Date());
    return announceStatus(status, this.parts.announced?.() ?? announcedBy(this.services));
  }

  /** What metrics say of announcement; nothing where there is none, or while the dataplane does not answer. */
  private async announced(): Promise<Announcement> {
    const { node, announce } = this.loaded.config;
    const nothing = { addresses: [], neighbors: [] };
    const { addresses, neighbors } =
      announce === null ? nothing : await this.announcementStatus().catch(() => nothing);
    return {
      announced: addresses
        .filter(({ owner }) => owner === node)
        // One that only the config names has no Service.
        .flatMap(({ address, services: [first = "", ...others] }) =>
          [first, ...others].map((service) => ({ service, address })),
        ),
      sessions: neighbors.map(({ node: neighbor, state }) => ({ node: neighbor, up: state === "Up" })),
    };
  }

  /**
   * Asks the LAN whether somebody has an address (int32), RFC 5227. Resolves to the MAC of who has it, ""
   * for nobody. Rejects where there is no LAN interface or it has no carrier.
   */
  async probeAddress(address: number): Promise<string> {
    const { probeLan } = this.parts;
    const lan = this.reconciler?.lanInterface;
    if (!lan || probeLan === undefined) throw new Error("there is no LAN interface to probe an address on");
    await this.needCarrier(lan);
    const found = await probeLan({ ifname: lan.name, mac: macOf(lan.mac), address });
    if (found !== null) return formatMac(found);
    // Without a carrier nobody could have answered.
    await this.needCarrier(lan);
    return "";
  }

  private async needCarrier({ name }: LanInterface): Promise<void> {
    const { carrier } = await this.worker!.announcement();
    if (!carrier) throw new Error(`${name} has no carrier`);
  }

  /** How many pods' interfaces are up, and how many are not. */
  private podStates(): { up: number; failed: number } {
    const { devices } = this.reconciler!.status();
    const up = new Set(devices.filter(({ state }) => state === "up").map(({ id }) => id));
    const { pods } = this.loaded.config;
    const upPods = pods.filter(({ name }) => up.has(`pod ${name}`)).length;
    return { up: upPods, failed: pods.length - upPods };
  }

  private flowCounts(): AgentStatus["flows"] {
    const { size, capacity } = this.flowReport;
    return { flows: size, capacity, egress: this.flowReport.count({ flags: FLAG_EGRESS }) };
  }

  private flowStats(): FlowStats {
    return { ...this.flowCounts(), counters: this.flowReport.counters() };
  }

  private async flushFlows(query: Arguments): Promise<{ removed: number }> {
    return { removed: await this.worker!.flushFlows(this.flowReport.tests(query)) };
  }

  /** The flows that a query means. Throws where the query is none. */
  listFlows(query: FlowQuery): IterableIterator<FlowView> {
    return this.flowReport.list(query);
  }

  /** Raw records of flows, for those who trace a packet. Throws where the query is none. */
  flowRecords(query: { addresses?: string[] }): NodeFlowRecords {
    return this.flowReport.records(query);
  }

  /** The tables that the dataplane has. Rejects before it has any. */
  async nodeTables(): Promise<NodeTables> {
    const { reconciler, publisher, services } = this;
    if (reconciler === null || publisher === null) throw new Error("the agent is starting");
    const announcement = await this.announcementStatus();
    const { config } = this.loaded;
    return nodeTables({ config, reconciler, publisher, services, announcement });
  }

  /** The TAPs that the dataplane has, by what is behind them. */
  private capturePorts(): CapturePort[] {
    const pods = new Map(this.loaded.config.pods.map(({ name, address }) => [address, name]));
    return (this.reconciler?.tables()?.ports ?? []).map(({ port, role, address }) => {
      if (role === "node") return { name: NODE_DEVICE, port, address: "" };
      const text = formatIpv4(address);
      return { name: pods.get(text) ?? "", port, address: text };
    });
  }

  counters(): CounterReport {
    return counterReport(this.sources(), (this.parts.clock ?? SYSTEM_CLOCK).now());
  }

  private sources(): CounterSources {
    return {
      worker: this.worker!,
      services: this.services,
      vteps: this.loaded.config.vteps,
      vtepIndex: (node) => this.reconciler?.vtepIndex(node),
    };
  }

  /** Ends the worker and lets go of everything; devices, routes and the record stay. */
  async stop(): Promise<void> {
    if (this.stopping) return;
    this.stopping = true;
    for (const timer of this.timers) clearInterval(timer);
    this.unwatch();
    this.captures.stop();
    if (this.changed !== null) clearTimeout(this.changed);
    await Promise.all([this.server.close(), this.healthServers.close(), this.metricsServer.close()]);
    this.udpPorts.close();
    await this.reconciler!.halt();
    // Others take its addresses over while it still forwards what comes for them.
    await this.worker!.drain().catch((error: unknown) => this.parts.log.warn({ err: error }, "drain"));
    await this.worker!.stop().catch((error: unknown) => this.parts.log.warn({ err: error }, "the worker"));
    this.reconciler!.close();
    this.stateDir.release();
    this.parts.log.info({}, "stopped; devices and routes stay for the next agent");
  }

  /** The state directory is ours: nobody else uses the file. */
  private openFlows(): void {
    const { mapFile, log } = this.parts;
    const { maxFlows } = this.loaded.config.dataplane;
    this.flows = openFlows(this.stateDir.flowsFile, maxFlows, mapFile, log);
    this.flowReport = new FlowReport(new FlowReader(this.flows.buffer), this.services);
  }

  private startWorker(): Promise<WorkerControl> {
    const { threads, spinMicroseconds, cpuLatency } = this.loaded.config.dataplane;
    return this.parts.startWorker({
      threads,
      spinUs: spinMicroseconds,
      cpuLatency: cpuLatency !== "off",
      flows: this.flows.memory,
      onEvent: (event) => this.workerEvent(event),
    });
  }

  private workerEvent(event: WorkerEvent): void {
    const { log } = this.parts;
    if (event.type === "vipOwner" || event.type === "vipConflict" || event.type === "bfdSession")
      this.announcement.take(event);
    else if (event.type === "portFailed") this.reconciler?.portFailed(event.port, event.errno);
    else if (event.type === "fault")
      log.error({ stack: event.stack }, `the dataplane dropped a batch: ${event.message}`);
    else if (!this.stopping) {
      log.error({}, `the dataplane worker ended: ${event.message}; starting another`);
      setTimeout(() => void this.restartWorker(), WORKER_RESTART_MS);
    }
  }

  private async restartWorker(): Promise<void> {
    if (this.stopping || this.reconciler === null) return;
    try {
      // With two threads one may still run.
      await this.worker?.stop().catch(() => {});
      this.captures.stop();
      // It may have ended while it was changing the table.
      FlowTable.adopt(this.flows.buffer);
      this.worker = await this.startWorker();
      // As at the start, before any tables.
      if (this.publisher !== null) await this.noteServices(this.publisher.replaceWorker(this.worker));
      await this.reconciler.replaceWorker(this.worker);
      this.parts.log.info({}, "the dataplane runs again");
    } catch (error) {
      this.parts.log.error({ err: error }, "could not start the dataplane worker; will try again");
      setTimeout(() => void this.restartWorker(), WORKER_RESTART_MS);
    }
  }

  /** What cannot change while the agent runs keeps its value, with a word about it. */
  private keepFixed(config: AgentConfig): void {
    const old = this.loaded.config;
    const fixed: [string, boolean][] = [
      ["stateDir", config.stateDir !== old.stateDir],
      ["dataplane.threads", config.dataplane.threads !== old.dataplane.threads],
      ["dataplane.spinMicroseconds", config.dataplane.spinMicroseconds !== old.dataplane.spinMicroseconds],
      ["dataplane.cpuLatency", config.dataplane.cpuLatency !== old.dataplane.cpuLatency],
      ["dataplane.maxFlows", config.dataplane.maxFlows !== old.dataplane.maxFlows],
    ];
    for (const [field, changed] of fixed)
      if (changed) this.parts.log.warn({ field }, `${field} takes effect when the agent is started anew`);
    config.stateDir = old.stateDir;
    config.dataplane.threads = old.dataplane.threads;
    config.dataplane.spinMicroseconds = old.dataplane.spinMicroseconds;
    config.dataplane.cpuLatency = old.dataplane.cpuLatency;
    config.dataplane.maxFlows = old.dataplane.maxFlows;
  }
}

function podState(
  devices: ReconcilerStatus["devices"],
  name: string,
): Pick<PodStatus, "state" | "message" | "port"> {
  const device = devices.find(({ id }) => id === `pod ${name}`);
  const { state = "failed", message = "not attached yet", port = -1 } = device ?? {};
  return { state, message, port };
}
