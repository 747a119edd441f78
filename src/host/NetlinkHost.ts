/**
 * Host over rtnetlink (the package `netlink`), /proc/sys and the native binding.
 *
 * A netlink socket stays in the namespace in which it was made, so one is made inside
 * native.withNetns and used from outside. Each lives only as long as the work it was opened for:
 * an open one pins its namespace, and a thread that ends with an open one takes the process along.
 */
import { closeSync, openSync, readFileSync, statfsSync, statSync, writeFileSync } from "node:fs";
import type { LinkAttrs } from "netlink/dist/rt/ifla.js";
// Only this module of the package: its index loads nl80211 and more, 5 MB that nobody needs.
import { createRtNetlink, type RtNetlinkSocket } from "netlink/dist/rt/rt.js";
import type { LinkMessage, RouteMessage, RuleMessage } from "netlink/dist/rt/structs.js";
import type { Native } from "../binding/types.js";
import {
  type AddressInfo,
  type BfdOptions,
  type Host,
  type HostNamespace,
  type LinkChange,
  type LinkEventsOptions,
  type LinkInfo,
  type NeighbourInfo,
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

const AF_INET = 2;
const NLM_F_REPLACE = 0x100;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
/** In place of a table number that needs more than 8 bits and stands in an attribute. */
const RT_TABLE_COMPAT = 252;
const RT_SCOPE_UNIVERSE = 0;
const RTN_UNICAST = 1;
const RTA_GATEWAY = 5;
/** struct rtnexthop. */
const RTNEXTHOP_BYTES = 8;
const RTNH_F_ONLINK = 4;
const FR_ACT_TO_TBL = 1;
// Multicast groups of rtnetlink (linux/rtnetlink.h).
const RTNLGRP_LINK = 1;
const RTNLGRP_IPV4_IFADDR = 5;
const RTNLGRP_IPV4_ROUTE = 7;
const RTNLGRP_IPV4_RULE = 8;
const RTNLGRP_IPV4_NETCONF = 24;
// Of links too: routes that go with one are not reported.
const WATCHED_GROUPS = [
  RTNLGRP_LINK,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV4_RULE,
  RTNLGRP_IPV4_NETCONF,
];
const IFLA_INFO_KIND = 1;
const RTEXT_FILTER_SKIP_STATS = 8;
/** f_type of the file system that namespaces are files of. */
const NSFS_MAGIC = 0x6e736673;
/** The kernel answers at once; a request without an answer must not hang the agent. */
const REQUEST_TIMEOUT_MS = 5000;

/** Bit numbers (linux/capability.h): TAP devices and netlink need the first, setns the second. */
const CAPABILITIES = { CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21 };

/** The parts of the binding that this needs. */
export type HostBinding = Pick<
  Native,
  | "withNetns"
  | "openTap"
  | "setTapPersist"
  | "openUdp"
  | "openRaw"
  | "openPacket"
  | "setFilter"
  | "openBfd"
  | "openLinkEvents"
  | "close"
>;

export class NetlinkHost implements Host {
  constructor(private readonly native: HostBinding) {}

  netnsIdentity(path: string): string | null {
    try {
      if (statfsSync(path).type !== NSFS_MAGIC) return null;
      const { dev, ino } = statSync(path);
      return `${dev}:${ino}`;
    } catch {
      return null;
    }
  }

  async within<T>(path: string, fn: (namespace: HostNamespace) => Promise<T>): Promise<T> {
    let socket: RtNetlinkSocket;
    try {
      socket = this.inside(path, () => createRtNetlink());
    } catch (error) {
      throw HostError.from(error, "open a netlink socket", path);
    }
    // A request that an error of the socket leaves without answer ends by its timeout.
    socket.socket.on("error", () => {});
    try {
      return await fn(new NetlinkNamespace(path, socket, (work) => this.inside(path, work)));
    } finally {
      socket.socket.close();
    }
  }

  openTap(options: TapOptions): TapHandle {
    const verb = { create: "create", attach: "attach to", either: "open" }[options.mode];
    try {
      return this.native.openTap(options);
    } catch (error) {
      throw HostError.from(error, `${verb} TAP device`, `${options.name}${inNamespace(options.netns)}`);
    }
  }

  setTapPersist(fd: number, persist: boolean): void {
    try {
      this.native.setTapPersist(fd, persist);
    } catch (error) {
      throw HostError.from(error, "set persistence of a TAP device", "");
    }
  }

  openUdp(options: UdpOptions): number {
    try {
      return this.native.openUdp(options);
    } catch (error) {
      throw HostError.from(error, `bind UDP ${options.address}:${options.port}`, options.netns);
    }
  }

  openRaw(options: RawOptions): number {
    try {
      return this.native.openRaw(options);
    } catch (error) {
      throw HostError.from(error, `open a raw socket of protocol ${options.protocol}`, options.netns);
    }
  }

  openPacket(options: PacketOptions): number {
    try {
      return this.native.openPacket(options);
    } catch (error) {
      throw HostError.from(error, "open a packet socket", `${options.ifname}${inNamespace(options.netns)}`);
    }
  }

  setFilter(fd: number, filter: number[]): void {
    try {
      this.native.setFilter(fd, filter);
    } catch (error) {
      throw HostError.from(error, "set the filter of a packet socket", "");
    }
  }

  openBfd(options: BfdOptions): number {
    try {
      return this.native.openBfd(options);
    } catch (error) {
      throw HostError.from(error, `bind BFD ${options.address}:${options.port}`, options.netns);
    }
  }

  openLinkEvents(options: LinkEventsOptions): number {
    try {
      return this.native.openLinkEvents(options);
    } catch (error) {
      throw HostError.from(error, `follow interface ${options.ifindex}`, options.netns);
    }
  }

  close(fd: number): void {
    this.native.close(fd);
  }

  watch(protocol: number, changed: () => void): () => void {
    const socket = createRtNetlink();
    // ENOBUFS: notifications were lost.
    socket.socket.on("error", changed);
    socket.on("message", (messages) => {
      // Routes of ours, and of the main table, which egress goes by.
      if (messages.some((each) => each.kind !== "route" || concerns(each, protocol))) changed();
    });
    // The package knows no message about forwarding settings.
    socket.on("invalid", changed);
    for (const group of WATCHED_GROUPS) socket.addMembership(group);
    return () => socket.socket.close();
  }

  missingCapabilities(): string[] {
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    const bits = BigInt(`0x${effective ?? "0"}`);
    return Object.entries(CAPABILITIES)
      .filter(([, bit]) => ((bits >> BigInt(bit)) & 1n) === 0n)
      .map(([name]) => name);
  }

  checkTun(): void {
    try {
      closeSync(openSync("/dev/net/tun", "r+"));
    } catch (error) {
      throw HostError.from(error, "open /dev/net/tun", "");
    }
  }

  private inside<T>(path: string, work: () => T): T {
    return path === "" ? work() : this.native.withNetns(path, work);
  }
}

class NetlinkNamespace implements HostNamespace {
  constructor(
    private readonly path: string,
    private readonly socket: RtNetlinkSocket,
    private readonly inside: <T>(work: () => T) => T,
  ) {}

  async link(name: string): Promise<LinkInfo | null> {
    try {
      const [answer] = await this.socket.getLink({}, { ifname: name, extMask: SKIP_STATS }, TIMEOUT);
      return answer === undefined ? null : linkInfo(answer);
    } catch (error) {
      const wrapped = HostError.from(error, "look up link", this.at(name));
      if (wrapped.code === "ENODEV") return null;
      throw wrapped;
    }
  }

  async links(): Promise<LinkInfo[]> {
    const answers = await this.try("list links", "", () =>
      this.socket.getLinks({}, { extMask: SKIP_STATS }, TIMEOUT),
    );
    return answers.map(linkInfo);
  }

  async setLink(link: LinkInfo, change: LinkChange): Promise<void> {
    const attrs: LinkAttrs = {};
    if (change.mac !== undefined) attrs.address = macBytes(change.mac);
    if (change.mtu !== undefined) attrs.mtu = change.mtu;
    if (change.txQueueLength !== undefined) attrs.txqlen = change.txQueueLength;
    if (change.alias !== undefined) attrs.ifalias = change.alias;
    const header =
      change.up === undefined
        ? { index: link.index }
        : { index: link.index, change: { up: true as const }, flags: change.up ? { up: true as const } : {} };
    const what = Object.entries(change).map(([key, value]) => `${key} ${value}`);
    await this.try(`set ${what.join(", ")}`, link.name, () => this.socket.setLink(header, attrs, TIMEOUT));
  }

  async deleteLink(link: LinkInfo): Promise<void> {
    await this.try("delete link", link.name, () => this.socket.delLink({ index: link.index }, {}, TIMEOUT), [
      "ENODEV",
    ]);
  }

  async addresses(index?: number): Promise<AddressInfo[]> {
    const answers = await this.try("list addresses", "", () =>
      this.socket.getAddresses({ family: AF_INET }, {}, TIMEOUT),
    );
    return answers
      .filter(({ data }) => index === undefined || data.index === index)
      .map(({ data, attrs }) => ({
        index: data.index ?? 0,
        address: (attrs.local ?? attrs.address)!.readInt32BE(0),
        length: data.prefixlen ?? 0,
        secondary: data.flags?.secondary === true,
        scope: data.scope ?? 0,
      }));
  }

  async addAddress(link: LinkInfo, address: number, length: number): Promise<void> {
    const bytes = addressBytes(address);
    await this.try(`add address ${dotted(bytes)}/${length}`, link.name, () =>
      this.socket.newAddress(
        { family: AF_INET, index: link.index, prefixlen: length },
        { local: bytes, address: bytes },
        { ...TIMEOUT, flags: NLM_F_CREATE | NLM_F_REPLACE },
      ),
    );
  }

  async deleteAddress(link: LinkInfo, address: number, length: number): Promise<void> {
    const bytes = addressBytes(address);
    const header = { family: AF_INET, index: link.index, prefixlen: length };
    await this.try(
      `delete address ${dotted(bytes)}/${length}`,
      link.name,
      () => this.socket.delAddress(header, { local: bytes, address: bytes }, TIMEOUT),
      ["EADDRNOTAVAIL"],
    );
  }

  async routes(): Promise<RouteInfo[]> {
    const answers = await this.try("list routes", "", () =>
      this.socket.getRoutes({ family: AF_INET }, {}, TIMEOUT),
    );
    return answers.map((answer) => routeInfo(answer)).filter(({ table }) => table !== RT_TABLE_LOCAL);
  }

  async addRoute(link: LinkInfo, route: RouteInfo, replace: boolean): Promise<void> {
    const { data, attrs, text } = routeRequest(route, link.index);
    await this.try(`add route ${text}`, link.name, () =>
      this.socket.newRoute({ ...data, flags: { __unknown: RTNH_F_ONLINK } }, attrs, {
        ...TIMEOUT,
        flags: NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL),
      }),
    );
  }

  async deleteRoute(route: RouteInfo): Promise<void> {
    const { data, attrs, text } = routeRequest(route, route.index);
    await this.try(`delete route ${text}`, "", () => this.socket.delRoute(data, attrs, TIMEOUT), ["ESRCH"]);
  }

  async rules(): Promise<RuleInfo[]> {
    const answers = await this.try("list rules", "", () =>
      this.socket.getRules({ family: AF_INET }, {}, TIMEOUT),
    );
    return answers.map(ruleInfo);
  }

  async addRule(rule: RuleInfo): Promise<void> {
    const { data, attrs, text } = ruleRequest(rule);
    const options = { ...TIMEOUT, flags: NLM_F_CREATE | NLM_F_EXCL };
    await this.try(`add rule ${text}`, "", () => this.socket.newRule(data, attrs, options), ["EEXIST"]);
  }

  async deleteRule(rule: RuleInfo): Promise<void> {
    const { data, attrs, text } = ruleRequest(rule);
    await this.try(`delete rule ${text}`, "", () => this.socket.delRule(data, attrs, TIMEOUT), ["ENOENT"]);
  }

  async neighbours(index: number): Promise<NeighbourInfo[]> {
    const answers = await this.try("list neighbours", "", () =>
      this.socket.getNeighbors({ family: AF_INET }, {}, TIMEOUT),
    );
    return answers
      .filter(({ data, attrs }) => data.ifindex === index && attrs.dst !== undefined)
      .map(({ data, attrs }) => ({
        index,
        address: dotted(attrs.dst!),
        mac: macText(attrs.lladdr),
        permanent: data.state?.permanent === true,
      }));
  }

  async setNeighbour(link: LinkInfo, address: string, mac: string): Promise<void> {
    await this.try(`set neighbour ${address} ${mac}`, link.name, () =>
      this.socket.newNeighbor(
        { family: AF_INET, ifindex: link.index, state: { permanent: true } },
        { dst: dottedBytes(address), lladdr: macBytes(mac) },
        { ...TIMEOUT, flags: NLM_F_CREATE | NLM_F_REPLACE },
      ),
    );
  }

  // /proc/sys/net shows the namespace of the thread that opens it, hence the synchronous calls.
  async readSysctl(key: string): Promise<string | null> {
    try {
      return this.inside(() => readFileSync(`/proc/sys/${key}`, "utf8")).trim();
    } catch (error) {
      const wrapped = HostError.from(error, `read sysctl ${key}`, this.path);
      if (wrapped.code === "ENOENT") return null;
      throw wrapped;
    }
  }

  async writeSysctl(key: string, value: string): Promise<void> {
    await this.try(`set sysctl ${key}=${value}`, "", async () =>
      this.inside(() => writeFileSync(`/proc/sys/${key}`, `${value}\n`)),
    );
  }

  private async try<T>(action: string, device: string, request: () => Promise<T>): Promise<T>;
  private async try<T>(
    action: string,
    device: string,
    request: () => Promise<T>,
    tolerated: string[],
  ): Promise<T | undefined>;
  /** The request's answer, or a HostError; undefined on an errno that means "gone already". */
  private async try<T>(
    action: string,
    device: string,
    request: () => Promise<T>,
    tolerated: string[] = [],
  ): Promise<T | undefined> {
    try {
      return await request();
    } catch (error) {
      const wrapped = HostError.from(error, action, this.at(device));
      if (tolerated.includes(wrapped.code)) return undefined;
      throw wrapped;
    }
  }

  private at(device: string): string {
    return device === "" ? this.path : `${device}${inNamespace(this.path)}`;
  }
}

const TIMEOUT = { timeout: REQUEST_TIMEOUT_MS };
const SKIP_STATS = u32(RTEXT_FILTER_SKIP_STATS);

function u32(value: number): Buffer {
  return Buffer.from(Uint32Array.of(value).buffer);
}

function linkInfo({ data, attrs }: LinkMessage): LinkInfo {
  return {
    index: data.index ?? 0,
    name: attrs.ifname ?? "",
    mac: macText(attrs.address),
    mtu: attrs.mtu ?? 0,
    txQueueLength: attrs.txqlen ?? 0,
    up: data.flags?.up === true,
    kind: linkKind(attrs.linkinfo),
    alias: attrs.ifalias ?? "",
  };
}

/** IFLA_INFO_KIND in the raw IFLA_LINKINFO attribute: nested (length, type, bytes), padded to 4. */
function linkKind(info: Buffer | undefined): string {
  if (info === undefined) return "";
  const words = new DataView(info.buffer, info.byteOffset, info.length);
  const littleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  for (let at = 0; at + 4 <= info.length; ) {
    const length = words.getUint16(at, littleEndian);
    if (length < 4) break;
    if (words.getUint16(at + 2, littleEndian) === IFLA_INFO_KIND)
      return info.toString("latin1", at + 4, at + length).replace(/\0+$/, "");
    at += (length + 3) & ~3;
  }
  return "";
}

function routeInfo({ data, attrs }: RouteMessage): RouteInfo {
  const protocol = data.protocol ?? 0;
  const hop = attrs.multipath === undefined ? attrs : firstHop(attrs.multipath);
  return {
    table: attrs.table ?? data.table ?? 0,
    destination: { address: attrs.dst?.readInt32BE(0) ?? 0, length: data.dstLen ?? 0 },
    index: hop.oif ?? 0,
    gateway: hop.gateway === undefined ? null : dotted(hop.gateway),
    source: attrs.prefsrc === undefined ? null : dotted(attrs.prefsrc),
    // The package turns numbers that it has a name for into that name; ours has none.
    protocol: typeof protocol === "number" ? protocol : -1,
    priority: attrs.priority ?? 0,
  };
}

function concerns({ data, attrs }: RouteMessage, protocol: number): boolean {
  return data.protocol === protocol || (attrs.table ?? data.table) === RT_TABLE_MAIN;
}

/**
 * The first of RTA_MULTIPATH's hops (linux/rtnetlink.h): length (2), flags, hops, interface (4), then
 * attributes of (length, type, bytes), padded to 4.
 */
function firstHop(hops: Buffer): { oif?: number; gateway?: Buffer } {
  const words = new DataView(hops.buffer, hops.byteOffset, hops.length);
  if (hops.length < RTNEXTHOP_BYTES) return {};
  const littleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  const end = Math.min(words.getUint16(0, littleEndian), hops.length);
  const oif = words.getInt32(4, littleEndian);
  for (let at = RTNEXTHOP_BYTES; at + 4 <= end; ) {
    const length = words.getUint16(at, littleEndian);
    if (length < 4) break;
    if (words.getUint16(at + 2, littleEndian) === RTA_GATEWAY && length === 8)
      return { oif, gateway: hops.subarray(at + 4, at + 8) };
    at += (length + 3) & ~3;
  }
  return { oif };
}

function routeRequest(route: RouteInfo, index: number) {
  const destination = addressBytes(route.destination.address);
  const data = {
    family: AF_INET,
    dstLen: route.destination.length,
    table: tableByte(route.table),
    protocol: route.protocol,
    scope: RT_SCOPE_UNIVERSE,
    type: RTN_UNICAST,
  };
  const attrs = {
    table: route.table,
    ...(route.destination.length === 0 ? {} : { dst: destination }),
    ...(index === 0 ? {} : { oif: index }),
    ...(route.gateway === null ? {} : { gateway: dottedBytes(route.gateway) }),
    ...(route.source === null ? {} : { prefsrc: dottedBytes(route.source) }),
    ...(route.priority === 0 ? {} : { priority: route.priority }),
  };
  const via = route.gateway === null ? "" : ` via ${route.gateway}`;
  return { data, attrs, text: `${dotted(destination)}/${route.destination.length}${via}` };
}

/** Attributes that a RuleInfo can express; a rule with any other is a special one. */
const PLAIN_RULE = new Set(["dst", "iifname", "priority", "table", "protocol", "ipProto", "dportRange"]);

function ruleInfo({ data, attrs }: RuleMessage): RuleInfo {
  const { action, flags } = data;
  const looksUp = action === FR_ACT_TO_TBL || action === "toTbl";
  const selectors = Object.entries(attrs as Record<string, unknown>)
    .filter(([, value]) => value !== undefined)
    .map(([name]) => name)
    // -1 in all bits: no suppression, which every dump says.
    .filter((name) => name !== "suppressPrefixlen" || !isAllOnes(attrs.suppressPrefixlen));
  return {
    preference: attrs.priority ?? 0,
    to: attrs.dst === undefined ? null : { address: attrs.dst.readInt32BE(0), length: data.dstLen ?? 0 },
    inputLink: attrs.iifname ?? "",
    ipProtocol: attrs.ipProto ?? 0,
    ports:
      attrs.dportRange === undefined
        ? null
        : { first: attrs.dportRange.start ?? 0, last: attrs.dportRange.end ?? 0 },
    table: looksUp ? (attrs.table ?? data.table ?? 0) : 0,
    protocol: attrs.protocol ?? 0,
    special:
      !looksUp ||
      (data.tos ?? 0) !== 0 ||
      flags?.invert === true ||
      selectors.some((name) => !PLAIN_RULE.has(name)),
  };
}

function isAllOnes(bytes: Buffer | undefined): boolean {
  return bytes?.every((byte) => byte === 0xff) === true;
}

function ruleRequest(rule: RuleInfo) {
  const { preference, to, inputLink, ipProtocol, ports, table, protocol } = rule;
  const data = {
    family: AF_INET,
    dstLen: to?.length ?? 0,
    table: tableByte(table),
    action: FR_ACT_TO_TBL,
  };
  const attrs = {
    priority: preference,
    table,
    protocol,
    ...(to === null ? {} : { dst: addressBytes(to.address) }),
    ...(inputLink === "" ? {} : { iifname: inputLink }),
    ...(ipProtocol === 0 ? {} : { ipProto: ipProtocol }),
    ...(ports === null ? {} : { dportRange: { start: ports.first, end: ports.last } }),
  };
  const words = [
    `${preference}:`,
    ...(to === null ? [] : [`to ${dotted(addressBytes(to.address))}/${to.length}`]),
    ...(inputLink === "" ? [] : [`iif ${inputLink}`]),
    ...(ipProtocol === 0 ? [] : [`ipproto ${ipProtocol}`]),
    ...(ports === null ? [] : [`dport ${ports.first}-${ports.last}`]),
    `lookup ${table}`,
  ];
  return { data, attrs, text: words.join(" ") };
}

function tableByte(table: number): number {
  return table < 256 ? table : RT_TABLE_COMPAT;
}

function addressBytes(address: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(address);
  return bytes;
}

function dotted(bytes: Buffer): string {
  return bytes.join(".");
}

function dottedBytes(address: string): Buffer {
  return Buffer.from(address.split(".").map(Number));
}

function macText(bytes: Buffer | undefined): string {
  return bytes === undefined ? "" : (bytes.toString("hex").match(/../g) ?? []).join(":");
}

function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(":", ""), "hex");
}
