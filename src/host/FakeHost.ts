/**
 * Host in memory, for tests: namespaces, links, addresses, routes, neighbours, sysctls and TAP
 * descriptors behave as the kernel's do where the control side relies on it. Tests reach into its
 * fields to look, and to break things.
 */
import {
  type AddressInfo,
  type BfdOptions,
  type Host,
  type HostNamespace,
  type LinkChange,
  type LinkEventsOptions,
  type LinkInfo,
  type NeighbourInfo,
  OWN_NETNS,
  type PacketOptions,
  type RawOptions,
  type RouteInfo,
  RT_TABLE_LOCAL,
  RT_TABLE_MAIN,
  type RuleInfo,
  type TapHandle,
  type TapOptions,
  type UdpOptions,
} from "./Host.js";
import { HostError, inNamespace } from "./HostError.js";

export interface FakeTap {
  netns: string;
  index: number;
  name: string;
  persist: boolean;
}

/** One namespace; removed from FakeHost.namespaces it is gone for new users of its path. */
export class FakeNamespace implements HostNamespace {
  linkTable: LinkInfo[] = [];
  addressTable: AddressInfo[] = [];
  routeTable: RouteInfo[] = [];
  neighbourTable: NeighbourInfo[] = [];
  /** As a new namespace has them: every table of the kernel's own is looked up. */
  ruleTable: RuleInfo[] = [
    plainRule(0, RT_TABLE_LOCAL),
    plainRule(32766, RT_TABLE_MAIN),
    plainRule(32767, RT_TABLE_DEFAULT),
  ];
  sysctls = new Map<string, string>([
    ["net/ipv4/ip_local_reserved_ports", ""],
    ["net/ipv4/tcp_early_demux", "1"],
    ["net/ipv4/udp_early_demux", "1"],
  ]);

  constructor(
    private readonly host: FakeHost,
    readonly path: string,
    readonly identity: string,
  ) {}

  /** Adds a link as a test's starting point. */
  addLink(name: string, fields: Partial<LinkInfo> = {}): LinkInfo {
    const index = this.host.nextIndex++;
    const link: LinkInfo = {
      index,
      name,
      mac: "02:00:00:00:00:01",
      mtu: 1500,
      txQueueLength: 1000,
      up: false,
      kind: "",
      alias: "",
      ...fields,
    };
    this.linkTable.push(link);
    for (const key of ["accept_local", "rp_filter", "forwarding", "route_localnet"])
      this.sysctls.set(`net/ipv4/conf/${name}/${key}`, "0");
    this.sysctls.set(`net/ipv6/conf/${name}/disable_ipv6`, "0");
    return link;
  }

  async link(name: string): Promise<LinkInfo | null> {
    const found = this.linkTable.find((each) => each.name === name);
    return found === undefined ? null : { ...found };
  }

  async links(): Promise<LinkInfo[]> {
    return this.linkTable.map((each) => ({ ...each }));
  }

  async setLink(link: LinkInfo, change: LinkChange): Promise<void> {
    this.host.act(`set link ${link.name} ${Object.keys(change).join(",")}`, this.path);
    Object.assign(this.own(link), change);
  }

  async deleteLink(link: LinkInfo): Promise<void> {
    this.host.act(`delete link ${link.name}`, this.path);
    this.drop(link.index);
  }

  async addresses(index?: number): Promise<AddressInfo[]> {
    return this.addressTable.filter((each) => index === undefined || each.index === index);
  }

  async addAddress(link: LinkInfo, address: number, length: number): Promise<void> {
    this.host.act(`add address ${link.name}`, this.path);
    this.addressTable.push({ index: this.own(link).index, address, length });
  }

  async deleteAddress(link: LinkInfo, address: number, length: number): Promise<void> {
    this.host.act(`delete address ${link.name}`, this.path);
    this.addressTable = this.addressTable.filter(
      (each) => each.index !== link.index || each.address !== address || each.length !== length,
    );
  }

  async routes(): Promise<RouteInfo[]> {
    return this.routeTable.map((each) => ({ ...each }));
  }

  async addRoute(link: LinkInfo, route: RouteInfo, replace: boolean): Promise<void> {
    this.host.act(`${replace ? "replace" : "add"} route ${link.name}`, this.path);
    if (!this.own(link).up) throw new HostError("add route", link.name, "ENETDOWN", "");
    const same = (each: RouteInfo) =>
      each.table === route.table &&
      each.destination.address === route.destination.address &&
      each.destination.length === route.destination.length &&
      each.priority === route.priority;
    if (!replace && this.routeTable.some(same)) throw new HostError("add route", link.name, "EEXIST", "");
    this.routeTable = [...this.routeTable.filter((each) => !same(each)), { ...route, index: link.index }];
  }

  async deleteRoute(route: RouteInfo): Promise<void> {
    this.host.act("delete route", this.path);
    this.routeTable = this.routeTable.filter(
      (each) =>
        each.index !== route.index ||
        each.table !== route.table ||
        each.destination.address !== route.destination.address ||
        each.destination.length !== route.destination.length,
    );
  }

  async rules(): Promise<RuleInfo[]> {
    return this.ruleTable.map((each) => ({ ...each }));
  }

  async addRule(rule: RuleInfo): Promise<void> {
    this.host.act(`add rule ${rule.preference} lookup ${rule.table}`, this.path);
    if (this.ruleTable.some((each) => sameRule(each, rule))) return;
    // Behind those of the same preference, as the kernel does.
    const at = this.ruleTable.findIndex((each) => each.preference > rule.preference);
    this.ruleTable.splice(at < 0 ? this.ruleTable.length : at, 0, { ...rule });
  }

  async deleteRule(rule: RuleInfo): Promise<void> {
    this.host.act(`delete rule ${rule.preference} lookup ${rule.table}`, this.path);
    this.ruleTable = this.ruleTable.filter((each) => !sameRule(each, rule));
  }

  async neighbours(index: number): Promise<NeighbourInfo[]> {
    return this.neighbourTable.filter((each) => each.index === index);
  }

  async setNeighbour(link: LinkInfo, address: string, mac: string): Promise<void> {
    this.host.act(`set neighbour ${link.name}`, this.path);
    this.neighbourTable = this.neighbourTable.filter(
      (each) => each.index !== link.index || each.address !== address,
    );
    this.neighbourTable.push({ index: link.index, address, mac, permanent: true });
  }

  async readSysctl(key: string): Promise<string | null> {
    return this.sysctls.get(key) ?? null;
  }

  async writeSysctl(key: string, value: string): Promise<void> {
    this.host.act(`sysctl ${key}`, this.path);
    if (!this.sysctls.has(key)) throw new HostError(`set sysctl ${key}`, this.path, "ENOENT", "");
    this.sysctls.set(key, value);
  }

  /** Removes a link with all that hangs on it. */
  drop(index: number): void {
    const gone = this.linkTable.find((each) => each.index === index);
    this.linkTable = this.linkTable.filter((each) => each.index !== index);
    this.addressTable = this.addressTable.filter((each) => each.index !== index);
    this.routeTable = this.routeTable.filter((each) => each.index !== index);
    this.neighbourTable = this.neighbourTable.filter((each) => each.index !== index);
    if (gone !== undefined)
      for (const key of [...this.sysctls.keys()])
        if (key.includes(`/conf/${gone.name}/`)) this.sysctls.delete(key);
  }

  private own(link: LinkInfo): LinkInfo {
    const found = this.linkTable.find((each) => each.index === link.index);
    if (found === undefined) throw new HostError("change link", link.name, "ENODEV", "");
    return found;
  }
}

const RT_TABLE_DEFAULT = 253;
const RTPROT_KERNEL = 2;

/** A rule that selects every packet. */
function plainRule(preference: number, table: number): RuleInfo {
  const everything = { to: null, inputLink: "", ipProtocol: 0, ports: null };
  return { preference, ...everything, table, protocol: RTPROT_KERNEL, special: false };
}

function sameRule(a: RuleInfo, b: RuleInfo): boolean {
  const key = ({ preference, to, inputLink, ipProtocol, ports, table, special }: RuleInfo) =>
    JSON.stringify([preference, to, inputLink, ipProtocol, ports, table, special]);
  return key(a) === key(b);
}

export class FakeHost implements Host {
  readonly namespaces = new Map<string, FakeNamespace>();
  readonly taps = new Map<number, FakeTap>();
  readonly sockets = new Map<number, UdpOptions>();
  readonly rawSockets = new Map<number, RawOptions>();
  readonly packetSockets = new Map<number, PacketOptions>();
  readonly bfdSockets = new Map<number, BfdOptions>();
  readonly linkEvents = new Map<number, LinkEventsOptions>();
  /** Every change that was attempted, in order. */
  readonly actions: string[] = [];
  /** TUN_F_* bits that the kernel of this host knows. */
  offloads = 0x6f;
  /** What watch was given: tests call them. */
  readonly watchers = new Set<() => void>();
  /** What missingCapabilities answers. */
  missing: string[] = [];
  nextIndex = 1;
  private nextFd = 100;
  private nextIdentity = 1;
  private readonly failures: { pattern: RegExp; code: string }[] = [];

  constructor() {
    this.addNamespace("").addLink("lo");
  }

  /** Makes a namespace with lo at `path`, a new one even where there was one before. */
  addNamespace(path: string): FakeNamespace {
    const made = new FakeNamespace(this, path, `ns:${this.nextIdentity++}`);
    this.namespaces.set(path, made);
    if (path !== "") made.addLink("lo");
    return made;
  }

  /** Lets every action that matches fail with `code`, until the returned function is called. */
  failOn(pattern: RegExp, code: string): () => void {
    const failure = { pattern, code };
    this.failures.push(failure);
    return () => this.failures.splice(this.failures.indexOf(failure), 1);
  }

  netnsIdentity(path: string): string | null {
    return this.namespaces.get(path === OWN_NETNS ? "" : path)?.identity ?? null;
  }

  async within<T>(path: string, fn: (namespace: HostNamespace) => Promise<T>): Promise<T> {
    const namespace = this.namespaces.get(path);
    if (namespace === undefined) throw new HostError("open a netlink socket", path, "ENOENT", "");
    return fn(namespace);
  }

  openTap(options: TapOptions): TapHandle {
    this.act(`open ${options.name}`, options.netns);
    const fail = (code: string) => {
      throw new HostError(
        `${options.mode} TAP device`,
        `${options.name}${inNamespace(options.netns)}`,
        code,
        "",
      );
    };
    const namespace = this.namespaces.get(options.netns);
    if (namespace === undefined) return fail("ENOENT") as never;
    let link = namespace.linkTable.find((each) => each.name === options.name);
    if (link === undefined && options.mode === "attach") fail("ENODEV");
    if (link !== undefined && options.mode === "create") fail("EEXIST");
    if ((options.offloads & ~this.offloads) !== 0) fail("EINVAL");
    const created = link === undefined;
    link ??= namespace.addLink(options.name, { kind: "tun" });
    if (link.kind !== "tun") fail("EINVAL");
    for (const tap of this.taps.values()) if (tap.index === link.index) fail("EBUSY");
    const fd = this.nextFd++;
    this.taps.set(fd, {
      netns: options.netns,
      index: link.index,
      name: options.name,
      persist: options.persist,
    });
    const optional = options.optionalOffloads.filter((bits) => (bits & ~this.offloads) === 0);
    const offloads = optional.reduce((all, bits) => all | bits, options.offloads);
    return { fd, ifindex: link.index, created, offloads };
  }

  setTapPersist(fd: number, persist: boolean): void {
    const tap = this.taps.get(fd);
    if (tap === undefined) throw new HostError("set persistence of a TAP device", "", "EBADF", "");
    tap.persist = persist;
  }

  openUdp(options: UdpOptions): number {
    this.act(`bind ${options.address}:${options.port}`, options.netns);
    for (const other of this.sockets.values())
      if (other.address === options.address && other.port === options.port)
        throw new HostError(`bind UDP ${options.address}:${options.port}`, "", "EADDRINUSE", "");
    const fd = this.nextFd++;
    this.sockets.set(fd, options);
    return fd;
  }

  openRaw(options: RawOptions): number {
    this.act(`open raw ${options.protocol}`, options.netns);
    const fd = this.nextFd++;
    this.rawSockets.set(fd, options);
    return fd;
  }

  openPacket(options: PacketOptions): number {
    this.act(`open packet ${options.ifname}`, options.netns);
    return this.opened(this.packetSockets, options);
  }

  setFilter(fd: number, filter: number[]): void {
    const socket = this.packetSockets.get(fd);
    if (socket === undefined) throw new HostError("set the filter of a packet socket", "", "EBADF", "");
    this.packetSockets.set(fd, { ...socket, filter });
  }

  openBfd(options: BfdOptions): number {
    this.act(`bind BFD ${options.address}:${options.port}`, options.netns);
    return this.opened(this.bfdSockets, options);
  }

  openLinkEvents(options: LinkEventsOptions): number {
    this.act(`follow interface ${options.ifindex}`, options.netns);
    return this.opened(this.linkEvents, options);
  }

  close(fd: number): void {
    this.actions.push(`close ${this.taps.get(fd)?.name ?? "socket"}`);
    const tap = this.taps.get(fd);
    if (tap !== undefined && !tap.persist) this.namespaces.get(tap.netns)?.drop(tap.index);
    const { taps, sockets, rawSockets, packetSockets, bfdSockets, linkEvents } = this;
    const tables = [taps, sockets, rawSockets, packetSockets, bfdSockets, linkEvents];
    if (!tables.some((table) => table.delete(fd))) throw new Error(`close of ${fd}, which is not open`);
  }

  watch(_protocol: number, changed: () => void): () => void {
    this.watchers.add(changed);
    return () => this.watchers.delete(changed);
  }

  missingCapabilities(): string[] {
    return this.missing;
  }

  checkTun(): void {
    this.act("open /dev/net/tun", "");
  }

  private opened<T>(table: Map<number, T>, options: T): number {
    const fd = this.nextFd++;
    table.set(fd, options);
    return fd;
  }

  /** Notes an attempted change; throws where failOn says so. */
  act(action: string, netns: string): void {
    const text = `${action}${inNamespace(netns)}`;
    this.actions.push(text);
    const failure = this.failures.find(({ pattern }) => pattern.test(text));
    if (failure !== undefined) throw new HostError(action, netns, failure.code, "injected");
  }
}
