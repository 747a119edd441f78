/**
 * Keeps the host and the worker as the config wants them. Owns the descriptors (TAPs, the
 * tunnel socket, raw sockets, those of announcement), the port numbers and VTEP indices, and what was published last. Must not know
 * where the config comes from, nor how a packet is handled.
 *
 * One pass at a time, in this order, so that the worker never has a table that names a port which
 * is not attached, and no descriptor is closed which the worker polls:
 *
 *   1. what has to go: publish without it, detach its port, close its descriptor (persistence off
 *      before, where the device shall go too), free its number
 *   2. what is missing: record it, open the device, configure it, attach its port
 *   3. what is there: compare with its spec, repair
 *   4. publish, if the tables differ from the last ones
 *   5. the node's routing for Services, once the dataplane can take what is routed to it
 *   6. remove devices that the record names and nobody wants any more
 *
 * A pass may fail anywhere and is then simply repeated: on change, on a fault, every resync. One
 * failing device does not stop the others. Only the first pass (start) is strict: it throws, and
 * takes back what it made and had not found.
 */

import { heardElsewhere, ICMP, UDP } from "../desired/heard.js";
import {
  type DeviceSpec,
  desiredHost,
  type HostState,
  overlayMtu,
  podDeviceId,
  type RawSocketSpec,
  TUN_F_USO,
  type TunnelSpec,
} from "../desired/host.js";
import { IndexAllocator } from "../desired/IndexAllocator.js";
import { type LanInterface, lanSpec } from "../desired/lan.js";
import { type NodeAddress, nodePortAddresses } from "../desired/routing.js";
import { type AttachedPort, tableInput } from "../desired/tables.js";
import type { Host, TapHandle } from "../host/Host.js";
import type { AgentConfig } from "../model/AgentConfig.js";
import { formatIpv4, parseIpv4 } from "../model/ipv4.js";
import { MAX_PEERS, MAX_PORTS, PORT_RAW, PORT_TAP, PORT_UDP } from "../packet/layout.js";
import type { TableInput } from "../tables/TableInput.js";
import type { WorkerControl } from "../worker/control.js";
import { nodeAddresses, readAddresses, readLan } from "./addresses.js";
import { DeviceError } from "./DeviceError.js";
import { delta } from "./delta.js";
import {
  configureDevice,
  type DevicePlace,
  deleteDevice,
  hasTunnelGso,
  type OpenTap,
  openDevice,
} from "./device.js";
import { readEgress } from "./egress.js";
import { LAN_PORTS, LanSockets } from "./LanSockets.js";
import { type Log, SILENT } from "./Log.js";
import { applyRouting, type RoutingStore, restoreRouting } from "./routing.js";

/** Port number of the tunnel socket. */
export const TUNNEL_PORT = 0;
/** Ports of the raw sockets, by IPv4 protocol: the last ones. */
const RAW_PORTS: ReadonlyMap<number, number> = new Map([
  [ICMP, MAX_PORTS - 2],
  [UDP, MAX_PORTS - 1],
]);
const FIRST_POD_PORT = 3;
/** Ports behind those of pods: raw sockets, announcement. */
const LAST_PORTS = RAW_PORTS.size + LAN_PORTS;
/** Ports that are no pods': tunnel, node, tunnel GSO, and the last ones. */
export const RESERVED_PORTS = FIRST_POD_PORT + LAST_PORTS;

/** A device that was lost is opened again no sooner than this after it was opened last. */
const REOPEN_MS = 1000;
/** Wanted socket buffers of the tunnel: some 5,000 full frames, for when the worker is held up. */
const SOCKET_BUFFER = 8 * 1024 * 1024;
/** Of raw sockets: some datagrams of 64 KiB. */
const RAW_BUFFER = 1024 * 1024;

/** What status calls the node's routing for Services. */
const ROUTING_ID = "routing";
/** What it calls the sockets of announcement. */
const LAN_ID = "announcement";

/** What status calls raw sockets that failed. */
const RAW_IDS = [...RAW_PORTS.keys()].map((protocol) => rawId({ protocol }));

/** What a pass looks at: everything, the node's own device and routing, or what is wanted otherwise. */
type Repair = "all" | "node" | "changed";

/** The durable list of devices that we made or are about to make, and what else we changed. */
export interface HostRecord extends RoutingStore {
  /** The list; the same array until the next write. */
  devices(): DevicePlace[];
  /** Replaces the list; durable when it returns. */
  write(devices: DevicePlace[]): void;
}

export interface ReconcilerOptions {
  host: Host;
  worker: WorkerControl;
  buildImage: (input: TableInput) => SharedArrayBuffer;
  record: HostRecord;
  log?: Log;
  /** A pod that fails does not stop start(): it is logged and tried again, as later. */
  lenientPods?: boolean;
  /** An error in words for the log; default: its message. */
  describe?: (error: unknown) => string;
  /** Interface on the LAN where the config names none (yet). Default: the one with the underlay address. */
  lanInterface?: string | null;
  /** Milliseconds, monotonic. */
  now?: () => number;
}

/** A pod or node device, or the node's routing ("routing"), as `status` shows it. */
export interface DeviceStatus {
  id: string;
  state: "up" | "failed";
  /** Why it failed. */
  message: string;
  /** Port number, -1 where it has none. */
  port: number;
  ifindex: number;
  mtu: number;
}

export interface ReconcilerStatus {
  underlayMtu: number;
  overlayMtu: number;
  /** How frames leave: whole 64 KiB frames to the kernel, or segments by UDP_SEGMENT. */
  send: "tunnel-gso" | "udp-segment";
  /** podwire0 takes UDP GSO frames. */
  uso: boolean;
  devices: DeviceStatus[];
  published: number;
}

interface OpenDevice {
  spec: DeviceSpec;
  tap: OpenTap;
  port: number;
  /** The worker reported a fault, or the device is gone. */
  lost: boolean;
}

interface RawSocket {
  spec: RawSocketSpec;
  fd: number;
  lost: boolean;
}

interface Tunnel {
  spec: TunnelSpec;
  fd: number;
  lost: boolean;
}

export class Reconciler {
  private readonly host: Host;
  private worker: WorkerControl;
  private readonly log: Log;
  private readonly now: () => number;
  private readonly ports = new IndexAllocator(FIRST_POD_PORT, MAX_PORTS - LAST_PORTS, "port number");
  private readonly vteps = new IndexAllocator(0, MAX_PEERS, "VTEP index");
  private readonly open = new Map<string, OpenDevice>();
  /** Why a device failed at the last attempt, by id. */
  private readonly failures = new Map<string, string>();
  /** Devices whose namespace was missing at the last attempt. */
  private readonly missing = new Set<string>();
  /** When an opening was last attempted, by id. */
  private readonly lastOpened = new Map<string, number>();
  private tunnel: Tunnel | null = null;
  /** By port number. */
  private readonly raw = new Map<number, RawSocket>();
  private readonly lanSockets: LanSockets;
  private lan: LanInterface | null = null;
  private config: AgentConfig | null = null;
  private underlayMtu = 0;
  private addresses: NodeAddress[] = [];
  private egress: TableInput["egress"] = [];
  /** What routing was brought to last. */
  private routed = "";
  /** The kernel refused tunnel GSO: not asked again. */
  private gsoRefused = false;
  private publishedInput = "";
  private inUse: TableInput | null = null;
  private imageInUse: SharedArrayBuffer | null = null;
  /** What publishedInput was made from: compared first, since it is cheaper. */
  private publishedFrom: { config: AgentConfig; devices: string } | null = null;
  private publishedCount = 0;
  private queue: Promise<unknown> = Promise.resolve();
  private retry: NodeJS.Timeout | null = null;
  private pending = false;
  private stopped = false;

  constructor(private readonly options: ReconcilerOptions) {
    this.host = options.host;
    this.worker = options.worker;
    this.log = options.log ?? SILENT;
    this.now = options.now ?? (() => performance.now());
    this.lanSockets = new LanSockets(this.host, (port) => this.detach(port));
  }

  /**
   * The strict first pass. Throws the first DeviceError or HostError, after it has removed what it
   * created and closed what it opened; what it found stays as it is.
   */
  start(config: AgentConfig): Promise<void> {
    return this.enqueue(async () => {
      const recorded = this.options.record.devices();
      const routed = this.options.record.routing() !== null;
      this.config = config;
      try {
        await this.openTunnel(config);
        await this.pass(true);
      } catch (error) {
        await this.undo(recorded, routed);
        throw error;
      }
    });
  }

  /**
   * Takes over a new config. Throws a HostError, and keeps the old one, where the tunnel socket it
   * asks for cannot be had; everything else that fails is logged and tried again.
   *
   * @param repair "changed": looks only at devices that the new config wants otherwise, so that a
   *   change costs what it changes
   */
  reconfigure(config: AgentConfig, repair: "all" | "changed" = "all"): Promise<void> {
    return this.enqueue(async () => {
      await this.openTunnel(config);
      if (config.dataplane.tunnelGso !== this.config?.dataplane.tunnelGso) this.gsoRefused = false;
      this.config = config;
      await this.safePass(repair);
    });
  }

  /**
   * One pass, to repair what was changed behind our back. Never throws.
   *
   * @param what "node": only the node's own device and routing, not the pods' devices
   */
  resync(what: "all" | "node" = "all"): Promise<void> {
    return this.enqueue(() => this.safePass(what));
  }

  /** The worker can no longer use a port. Its descriptor is closed, and the device opened again. */
  portFailed(port: number, errno: number): void {
    if (port === TUNNEL_PORT && this.tunnel !== null) this.tunnel.lost = true;
    const raw = this.raw.get(port);
    if (raw !== undefined) raw.lost = true;
    this.lanSockets.portFailed(port);
    for (const device of this.open.values()) if (device.port === port) device.lost = true;
    this.log.warn({ port, errno }, "a port failed");
    this.kick();
  }

  /**
   * Looks whether a pod's namespace went, came or was replaced, and starts a pass if so. Cheap: one
   * stat(2) per pod. An open TAP descriptor pins a namespace whose path is gone, so this must be
   * called every second or so.
   */
  checkNamespaces(): void {
    for (const pod of this.config?.pods ?? []) {
      const id = podDeviceId(pod.name);
      const open = this.open.get(id);
      const identity = this.host.netnsIdentity(pod.netns);
      if (open === undefined ? identity !== null && this.missing.has(id) : identity !== open.tap.identity) {
        this.kick();
        return;
      }
    }
  }

  /** Goes on with a new worker after the old one ended: attaches every port and publishes. */
  replaceWorker(worker: WorkerControl): Promise<void> {
    return this.enqueue(async () => {
      this.worker = worker;
      this.publishedInput = "";
      this.publishedFrom = null;
      if (this.tunnel !== null) await worker.attachPort(TUNNEL_PORT, PORT_UDP, this.tunnel.fd);
      for (const [port, { fd }] of this.raw) await worker.attachPort(port, PORT_RAW, fd);
      await this.lanSockets.attach(worker);
      for (const { port, tap } of this.open.values()) await worker.attachPort(port, PORT_TAP, tap.handle.fd);
      await this.safePass();
    });
  }

  status(): ReconcilerStatus {
    const node = this.open.get("node");
    const ids = new Set([...this.open.keys(), ...this.failures.keys()]);
    return {
      underlayMtu: this.underlayMtu,
      overlayMtu: overlayMtu(this.underlayMtu),
      send: this.open.has("gso") ? "tunnel-gso" : "udp-segment",
      uso: node !== undefined && takesUso(node.tap.handle),
      devices: [...ids].map((id) => this.deviceStatus(id)),
      published: this.publishedCount,
    };
  }

  /** Index that the worker's tables have for the VTEP of a node; undefined where they have none. */
  vtepIndex(node: string): number | undefined {
    return this.vteps.get(node);
  }

  /** What the worker's tables hold: the last image that it took over. Null before the first. */
  tables(): TableInput | null {
    return this.inUse;
  }

  /** That image itself (tables/TableImage). Null before the first. */
  get image(): SharedArrayBuffer | null {
    return this.imageInUse;
  }

  /** The node's addresses on other links than ours, dotted decimal. */
  get ownAddresses(): string[] {
    return this.addresses.map(({ address }) => formatIpv4(address));
  }

  /** Whether the dataplane has the tables of the config that is in force. */
  get upToDate(): boolean {
    return this.publishedFrom !== null && this.publishedFrom.config === this.config;
  }

  /** At which addresses NodePorts answer, dotted decimal; none where the node carries no Services. */
  get nodePortAddresses(): string[] {
    const { config } = this;
    if (config === null || config.serviceHost === null) return [];
    return nodePortAddresses(config, config.serviceHost, this.addresses).map(formatIpv4);
  }

  /** Starts no further pass, and waits for the one that runs. The worker is still needed for it. */
  async halt(): Promise<void> {
    this.stopped = true;
    if (this.retry !== null) clearTimeout(this.retry);
    await this.queue;
  }

  /** The LAN interface; null where it is not there. */
  get lanInterface(): LanInterface | null {
    return this.lan;
  }

  /** Name of the node with a VTEP index; "" where there is none. */
  nodeName(index: number): string {
    return this.vteps.keys().find((name) => this.vteps.get(name) === index) ?? "";
  }

  /**
   * Closes every descriptor, after halt() and after the worker has ended. Persistent devices stay,
   * with everything on them.
   */
  close(): void {
    for (const device of this.open.values()) this.host.close(device.tap.handle.fd);
    this.open.clear();
    for (const { fd } of this.raw.values()) this.host.close(fd);
    this.raw.clear();
    this.lanSockets.close();
    if (this.tunnel !== null) this.host.close(this.tunnel.fd);
    this.tunnel = null;
  }

  private deviceStatus(id: string): DeviceStatus {
    const device = this.open.get(id);
    const message = this.failures.get(id) ?? "";
    return {
      id,
      state: message === "" ? "up" : "failed",
      message,
      port: device?.port ?? -1,
      ifindex: device?.tap.handle.ifindex ?? 0,
      mtu: device?.spec.mtu ?? 0,
    };
  }

  /** Passes run one after another. */
  private enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work);
    this.queue = result.catch(() => {});
    return result;
  }

  /** Asks for a pass soon; several requests before it starts give one pass. */
  private kick(): void {
    if (this.pending || this.stopped) return;
    this.pending = true;
    void this.enqueue(async () => {
      this.pending = false;
      await this.safePass();
    });
  }

  private async safePass(repair: Repair = "all"): Promise<void> {
    if (this.stopped) return;
    try {
      await this.pass(false, repair);
    } catch (error) {
      this.log.error({ err: error }, "could not bring the node to its desired state; will try again");
    }
  }

  private async pass(strict: boolean, repair: Repair = "all"): Promise<void> {
    const config = this.config!;
    await this.readUnderlay(config);
    if (this.tunnel?.lost) await this.openTunnel(config);
    const want = desiredHost(config, { underlayMtu: this.underlayMtu, addresses: this.addresses });
    const specs = devicesOf(want, this.gsoRefused);
    this.forgetFailures(specs);

    await this.removeStale(config, specs);
    const missing = specs.filter((spec) => !this.open.has(spec.id));
    const present = specs.filter((spec) => {
      const device = this.open.get(spec.id);
      return (
        device !== undefined &&
        (repair === "all" ||
          (repair === "node" && spec.role === "node") ||
          this.failures.has(spec.id) ||
          !sameSpec(spec, device.spec))
      );
    });
    await this.addMissing(config, missing, strict);
    await this.listen(want.rawSockets);
    await this.openLan(config);
    for (const spec of present) await this.repair(spec);
    if (present.some((spec) => this.open.get(spec.id)?.lost)) this.kick();
    await this.publish(config);
    await this.route(want, repair);
    await this.removeOrphans(specs);
  }

  // ---- underlay -----------------------------------------------------------------------------

  private async readUnderlay(config: AgentConfig): Promise<void> {
    const found = await readAddresses(this.host);
    this.addresses = nodeAddresses(found);
    this.egress = config.serviceHost?.egress === "masquerade" ? await readEgress(this.host) : [];
    const wanted = parseIpv4(config.underlay.address);
    this.lan = await readLan(
      this.host,
      found,
      config.announce?.interface ?? this.options.lanInterface ?? null,
      wanted,
    );
    const mtu = config.underlay.mtu ?? found.find(({ address }) => address === wanted)?.mtu;
    if (mtu !== undefined) this.underlayMtu = mtu;
    else if (this.underlayMtu === 0)
      throw new Error(`no interface has the underlay address ${config.underlay.address}`);
    else
      this.log.warn({ address: config.underlay.address }, "no interface has the underlay address any more");
  }

  /** Opens the tunnel socket that `config` asks for, unless it is open; then lets go of the old one. */
  private async openTunnel(config: AgentConfig): Promise<void> {
    const spec: TunnelSpec = { address: config.underlay.address, port: config.underlay.port };
    const old = this.tunnel;
    const same = old !== null && old.spec.address === spec.address && old.spec.port === spec.port;
    if (same && !old.lost) return;
    // A lost socket still holds the address that the new one needs.
    if (same) await this.closeTunnel();
    const fd = this.host.openUdp({
      netns: "",
      ...spec,
      gro: true,
      receiveBuffer: SOCKET_BUFFER,
      sendBuffer: SOCKET_BUFFER,
    });
    try {
      if (this.tunnel !== null) await this.closeTunnel();
      await this.worker.attachPort(TUNNEL_PORT, PORT_UDP, fd);
    } catch (error) {
      this.host.close(fd);
      throw error;
    }
    this.tunnel = { spec, fd, lost: false };
  }

  private async closeTunnel(): Promise<void> {
    const { fd } = this.tunnel!;
    this.tunnel = null;
    await this.detach(TUNNEL_PORT);
    this.host.close(fd);
  }

  /** Opens the raw sockets that are wanted and closes those that are not; one that fails is reported. */
  private async listen(specs: RawSocketSpec[]): Promise<void> {
    const own = this.open.get("node")?.tap.handle.ifindex ?? 0;
    const wanted = new Map(
      specs.map(({ protocol, filter }) => {
        const spec: RawSocketSpec = { protocol, filter: heardElsewhere(filter, own) };
        return [RAW_PORTS.get(protocol)!, spec];
      }),
    );
    for (const [port, { spec, fd, lost }] of this.raw) {
      if (!lost && JSON.stringify(wanted.get(port)) === JSON.stringify(spec)) continue;
      await this.detach(port);
      this.raw.delete(port);
      this.host.close(fd);
    }
    for (const [port, spec] of wanted) {
      if (this.raw.has(port)) continue;
      const id = rawId(spec);
      try {
        const fd = this.host.openRaw({ netns: "", ...spec, receiveBuffer: RAW_BUFFER });
        this.raw.set(port, { spec, fd, lost: false });
        await this.worker.attachPort(port, PORT_RAW, fd);
        this.succeeded(id);
      } catch (error) {
        this.failed(id, error);
      }
    }
  }

  /** The sockets of announcement; where they cannot be had, this node owns no address. */
  private async openLan(config: AgentConfig): Promise<void> {
    try {
      if (config.announce !== null && this.lan === null)
        throw new Error(`there is no interface ${config.announce.interface ?? "with the underlay address"}`);
      await this.lanSockets.sync(lanSpec(config, this.lan), this.worker);
      this.succeeded(LAN_ID);
    } catch (error) {
      this.failed(LAN_ID, error);
    }
  }

  /** Takes a port from the worker. A worker that cannot answer has ended, and polls nothing. */
  private async detach(port: number): Promise<void> {
    try {
      await this.worker.detachPort(port);
    } catch (error) {
      this.log.warn({ port, err: error }, "the worker did not detach a port");
    }
  }

  // ---- devices ------------------------------------------------------------------------------

  /** Step 1: lets go of what is not wanted any more, or cannot be kept as it is. */
  private async removeStale(config: AgentConfig, specs: DeviceSpec[]): Promise<void> {
    const { change, remove } = delta(
      specs,
      this.open.values(),
      (spec) => spec.id,
      (device) => device.spec.id,
      (spec, device) => !device.lost && this.canKeep(spec, device),
    );
    const leaving = [
      ...change.map(({ actual, desired }) => ({ device: actual, again: desired })),
      ...remove.map((device) => ({ device, again: null })),
    ];
    if (leaving.length === 0) return;
    for (const { device } of leaving) this.open.delete(device.spec.id);
    await this.publish(config);
    for (const { device, again } of leaving) {
      await this.detach(device.port);
      // The device goes with its descriptor, unless this same one is attached again.
      if (again === null || !samePlace(again, device.spec) || this.isReplaced(device)) this.unpersist(device);
      this.host.close(device.tap.handle.fd);
      if (again === null) {
        this.ports.release(device.spec.id);
        this.log.info({ device: device.spec.id }, "removed");
      }
    }
  }

  /** Whether an open device can become `spec` without being opened anew. */
  private canKeep(spec: DeviceSpec, device: OpenDevice): boolean {
    const tap = (each: DeviceSpec) => JSON.stringify(each.tap);
    return samePlace(spec, device.spec) && tap(spec) === tap(device.spec) && !this.isReplaced(device);
  }

  /** Whether the namespace of an open device is gone from its path, or another one is there now. */
  private isReplaced({ spec, tap }: OpenDevice): boolean {
    return spec.netns !== "" && this.host.netnsIdentity(spec.netns) !== tap.identity;
  }

  private unpersist(device: OpenDevice): void {
    try {
      this.host.setTapPersist(device.tap.handle.fd, false);
    } catch (error) {
      // The device went already: there is nothing left to remove.
      this.log.debug({ device: device.spec.id, err: error }, "persistence");
    }
  }

  /** Step 2. */
  private async addMissing(config: AgentConfig, specs: DeviceSpec[], strict: boolean): Promise<void> {
    const ready = specs.filter((spec) => this.mayOpen(spec));
    if (ready.length < specs.length) this.retryLater();
    if (ready.length === 0) return;
    for (const spec of ready) {
      const before = this.options.record.devices();
      try {
        const conflicts = await this.addDevice(config, spec, before);
        this.settle(spec.id, conflicts);
      } catch (error) {
        // It was not made, or is gone again: it must not pass for ours when somebody else makes it.
        if (this.options.record.devices() !== before) this.options.record.write(before);
        const optional =
          spec.role === "gso"
            ? config.dataplane.tunnelGso === "auto"
            : spec.role === "pod" && this.options.lenientPods === true;
        if (strict && !optional) throw error;
        this.failed(spec.id, error);
      }
    }
  }

  /** Returns what stands in the way of parts of it, in words. */
  private async addDevice(config: AgentConfig, spec: DeviceSpec, before: DevicePlace[]): Promise<string[]> {
    const recorded = before.some((place) => samePlace(place, spec));
    const tap = await openDevice(this.host, spec, recorded, () => {
      const { netns, name } = spec;
      if (spec.tap.persist && !recorded) this.options.record.write([...before, { netns, name }]);
    });
    if (spec.role === "gso" && !hasTunnelGso(tap.handle)) {
      this.host.close(tap.handle.fd);
      if (config.dataplane.tunnelGso === "on")
        throw new DeviceError("no-tunnel-gso", spec, "this kernel has no tunnel GSO on TAP devices");
      this.gsoRefused = true;
      this.log.info({}, "the kernel has no tunnel GSO on TAP devices; sending segments");
      return [];
    }
    const device: OpenDevice = { spec, tap, port: this.portNumber(spec), lost: false };
    // From here on undo() and the next pass know of it.
    this.open.set(spec.id, device);
    let conflicts: string[];
    try {
      ({ conflicts } = await configureDevice(this.host, spec, tap));
      await this.worker.attachPort(device.port, PORT_TAP, tap.handle.fd);
    } catch (error) {
      this.open.delete(spec.id);
      if (tap.handle.created) this.unpersist(device);
      this.host.close(tap.handle.fd);
      throw error;
    }
    const { created, ifindex } = tap.handle;
    this.log.info({ device: spec.id, ifindex, port: device.port }, created ? "created" : "attached");
    return conflicts;
  }

  private portNumber(spec: DeviceSpec): number {
    if (spec.role === "node") return 1;
    if (spec.role === "gso") return 2;
    return this.ports.acquire(spec.id);
  }

  /** Step 3. */
  private async repair(spec: DeviceSpec): Promise<void> {
    const device = this.open.get(spec.id);
    if (device === undefined) return;
    try {
      const { changes, conflicts } = await configureDevice(this.host, spec, device.tap);
      device.spec = spec;
      if (changes.length > 0) this.log.info({ device: spec.id, changes }, "repaired");
      this.settle(spec.id, conflicts);
    } catch (error) {
      if (error instanceof DeviceError && error.fault === "lost") device.lost = true;
      this.failed(spec.id, error);
    }
  }

  /** Step 5. Without the node's device what is captured would go nowhere: then it is left as it is. */
  private async route({ routing }: HostState, repair: Repair): Promise<void> {
    const { record } = this.options;
    const wanted = JSON.stringify(routing);
    const same = wanted === this.routed && !this.failures.has(ROUTING_ID);
    if ((repair === "changed" && same) || (routing !== null && !this.open.has("node"))) return;
    try {
      const changes =
        routing === null
          ? await restoreRouting(this.host, record)
          : await applyRouting(this.host, routing, record);
      if (changes.length > 0) this.log.info({ changes }, "set the node's routing for Services");
      this.routed = wanted;
      this.succeeded(ROUTING_ID);
    } catch (error) {
      this.failed(ROUTING_ID, error);
    }
  }

  /** Step 6: devices of ours, by the record, that nobody wants and that are not open. */
  private async removeOrphans(specs: DeviceSpec[]): Promise<void> {
    const recorded = this.options.record.devices();
    const lasting = specs.filter((spec) => spec.tap.persist);
    const keep = recorded.filter((place) => lasting.some((spec) => samePlace(spec, place)));
    for (const place of recorded) {
      if (keep.includes(place)) continue;
      try {
        if (await deleteDevice(this.host, place)) this.log.info({ ...place }, "removed a device left over");
      } catch (error) {
        this.log.error({ ...place, err: error }, "could not remove a device left over");
        keep.push(place);
      }
    }
    if (keep.length < recorded.length) this.options.record.write(keep);
  }

  // ---- tables -------------------------------------------------------------------------------

  /** Step 4: publishes what the open devices and the config give, if it is not what was published. */
  private async publish(config: AgentConfig): Promise<void> {
    const devices = JSON.stringify([
      this.underlayMtu,
      this.addresses,
      this.egress,
      [...this.raw.keys()],
      [this.lan, this.lanSockets.ports],
      ...[...this.open.values()].map((device) => [device.spec.id, device.port, takesUso(device.tap.handle)]),
    ]);
    if (this.publishedFrom?.config === config && this.publishedFrom.devices === devices) return;
    const names = new Set(config.vteps.map((vtep) => vtep.node));
    const vteps = new Map<string, number>();
    for (const name of names) vteps.set(name, this.vteps.acquire(name));
    const pods = new Map<string, AttachedPort>();
    for (const pod of config.pods) {
      const device = this.open.get(podDeviceId(pod.name));
      if (device !== undefined) pods.set(pod.name, attachedPort(device));
    }
    const node = this.open.get("node");
    const input = tableInput(config, {
      underlayMtu: this.underlayMtu,
      tunnelPort: TUNNEL_PORT,
      node: node === undefined ? null : attachedPort(node),
      gsoPort: this.open.get("gso")?.port ?? -1,
      pods,
      vteps,
      addresses: this.addresses.map(({ address }) => address),
      nodePortAddresses:
        config.serviceHost === null ? [] : nodePortAddresses(config, config.serviceHost, this.addresses),
      egress: this.egress,
      icmpPort: this.rawPort(ICMP),
      reassemblyPort: this.rawPort(UDP),
      lan: this.lan,
      lanPorts: this.lanSockets.ports,
    });
    const text = JSON.stringify(input);
    if (text !== this.publishedInput) {
      const image = this.options.buildImage(input);
      await this.worker.publish(image);
      this.publishedInput = text;
      this.inUse = input;
      this.imageInUse = image;
      this.publishedCount++;
    }
    this.publishedFrom = { config, devices };
    // Only now no table names them any more.
    for (const name of this.vteps.keys()) if (!names.has(name)) this.vteps.release(name);
  }

  // ---- failures -----------------------------------------------------------------------------

  /** Port number of a raw socket that is open, -1 without. */
  private rawPort(protocol: number): number {
    const port = RAW_PORTS.get(protocol)!;
    return this.raw.has(port) ? port : -1;
  }

  private mayOpen(spec: DeviceSpec): boolean {
    const last = this.lastOpened.get(spec.id);
    if (last !== undefined && this.now() - last < REOPEN_MS) return false;
    this.lastOpened.set(spec.id, this.now());
    return true;
  }

  private retryLater(): void {
    if (this.retry !== null || this.stopped) return;
    this.retry = setTimeout(() => {
      this.retry = null;
      this.kick();
    }, REOPEN_MS);
    this.retry.unref();
  }

  /** Logs a failure once, until it changes or is over. */
  private failed(id: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    if (error instanceof DeviceError && error.fault === "netns-missing") this.missing.add(id);
    else this.missing.delete(id);
    if (this.failures.get(id) === message) return;
    this.failures.set(id, message);
    this.log.error({ device: id }, this.options.describe?.(error) ?? `${id}: ${message}`);
  }

  /** A device that works is well unless something stands in the way of a part of it. */
  private settle(id: string, conflicts: string[]): void {
    if (conflicts.length === 0) this.succeeded(id);
    else this.failed(id, new Error(conflicts.join("; ")));
  }

  private succeeded(id: string): void {
    this.missing.delete(id);
    if (this.failures.delete(id)) this.log.info({ device: id }, "is well again");
  }

  private forgetFailures(specs: DeviceSpec[]): void {
    const wanted = new Set([ROUTING_ID, LAN_ID, ...RAW_IDS, ...specs.map((spec) => spec.id)]);
    for (const map of [this.failures, this.lastOpened])
      for (const id of map.keys()) if (!wanted.has(id)) map.delete(id);
    for (const id of this.missing) if (!wanted.has(id)) this.missing.delete(id);
  }

  /** Takes back what a failed start made. */
  private async undo(recorded: DevicePlace[], routed: boolean): Promise<void> {
    if (!routed)
      await restoreRouting(this.host, this.options.record).catch((error: unknown) =>
        this.log.warn({ err: error }, "could not restore the node's routing"),
      );
    for (const device of this.open.values()) {
      await this.detach(device.port);
      if (device.tap.handle.created) this.unpersist(device);
      this.host.close(device.tap.handle.fd);
    }
    this.open.clear();
    await this.listen([]);
    await this.lanSockets.sync(null, this.worker);
    if (this.tunnel !== null) await this.closeTunnel();
    if (this.options.record.devices() !== recorded) this.options.record.write(recorded);
  }
}

/** MTU of the interface that has `address` (dotted decimal) in the agent's namespace; null without one. */
export async function underlayMtu(host: Host, address: string): Promise<number | null> {
  const wanted = parseIpv4(address);
  return (await readAddresses(host)).find((each) => each.address === wanted)?.mtu ?? null;
}

function devicesOf(want: HostState, gsoRefused: boolean): DeviceSpec[] {
  return [want.node, ...(want.gso === null || gsoRefused ? [] : [want.gso]), ...want.pods];
}

function attachedPort({ port, tap }: OpenDevice): AttachedPort {
  return { port, uso: takesUso(tap.handle) };
}

function rawId({ protocol }: Pick<RawSocketSpec, "protocol">): string {
  return `raw socket of protocol ${protocol}`;
}

function takesUso(handle: TapHandle): boolean {
  return (handle.offloads & TUN_F_USO) === TUN_F_USO;
}

function sameSpec(a: DeviceSpec, b: DeviceSpec): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function samePlace(a: DevicePlace, b: DevicePlace): boolean {
  return a.netns === b.netns && a.name === b.name;
}
