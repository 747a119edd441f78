/**
 * What the control side may do to the host: links, addresses, routes, neighbours, sysctls, TAP
 * devices and the tunnel socket, each in a network namespace of choice. An interface, so that
 * everything above is tested with FakeHost and without rights.
 *
 * A namespace is given by the path of its file (/run/netns/NAME, /proc/PID/ns/net); "" is the
 * thread's own. Must not know what is wanted: desired/ does, and reconcile/ compares.
 */
import type {
  BfdOptions,
  LinkEventsOptions,
  PacketOptions,
  RawOptions,
  TapHandle,
  TapOptions,
  UdpOptions,
} from "../binding/types.js";

export type { BfdOptions, LinkEventsOptions, PacketOptions, RawOptions, TapHandle, TapOptions, UdpOptions };

/** Path of the calling thread's own network namespace, for netnsIdentity. */
export const OWN_NETNS = "/proc/thread-self/ns/net";

export interface LinkInfo {
  index: number;
  name: string;
  /** aa:bb:cc:dd:ee:ff, "" where the device has none. */
  mac: string;
  mtu: number;
  txQueueLength: number;
  up: boolean;
  /** IFLA_INFO_KIND: "tun" for TUN and TAP devices, "veth", "vxlan", …; "" for a physical one. */
  kind: string;
  /** IFLA_IFALIAS, "" without. */
  alias: string;
}

/** What to change on a link; what is left out stays. */
export interface LinkChange {
  mac?: string;
  mtu?: number;
  txQueueLength?: number;
  alias?: string;
  up?: boolean;
}

export interface AddressInfo {
  /** Index of the link. */
  index: number;
  /** int32. */
  address: number;
  /** Prefix length. */
  length: number;
  /** It is in the subnet of an older address of the link, and is never preferred. */
  secondary?: boolean;
  /** ifa_scope: 0 universe (default), 253 link, 254 host. */
  scope?: number;
}

/** An IPv4 unicast route. */
export interface RouteInfo {
  /** Table that it is in: RT_TABLE_MAIN, or another number. */
  table: number;
  /** int32 address and prefix length of the destination. */
  destination: { address: number; length: number };
  /** Index of the output link, of several the first one's; 0 without (blackhole, unreachable, …). */
  index: number;
  /** Dotted decimal, null where the destination is on the link. */
  gateway: string | null;
  /** Preferred source, dotted decimal, null without. */
  source: string | null;
  /** rtm_protocol. */
  protocol: number;
  /** Metric. */
  priority: number;
}

/** An IPv4 policy rule (fib_rules): which table a packet's route is looked up in. */
export interface RuleInfo {
  /** FRA_PRIORITY: rules are tried in ascending order. */
  preference: number;
  /** Destination that it selects, null for every one. */
  to: { address: number; length: number } | null;
  /** Name of the input link that it selects, "" for every one. */
  inputLink: string;
  /** IP protocol that it selects, 0 for every one. */
  ipProtocol: number;
  /** Destination ports that it selects, null for every one. */
  ports: { first: number; last: number } | null;
  /** Table that it looks up; 0 where it does something else. */
  table: number;
  /** FRA_PROTOCOL: who made it. */
  protocol: number;
  /** Selects by more than the above (source, mark, user, …), or everything but that. */
  special: boolean;
}

/** The table of local addresses, which the kernel keeps. */
export const RT_TABLE_LOCAL = 255;
/** The table of ordinary routes. */
export const RT_TABLE_MAIN = 254;

export interface NeighbourInfo {
  index: number;
  address: string;
  mac: string;
  permanent: boolean;
}

/**
 * An open view of one namespace. Valid inside Host.within only. Every method rejects with a
 * HostError.
 */
export interface HostNamespace {
  /** The link called `name`, null where there is none. */
  link(name: string): Promise<LinkInfo | null>;
  links(): Promise<LinkInfo[]>;
  setLink(link: LinkInfo, change: LinkChange): Promise<void>;
  /** Deletes a link. One that is gone already counts as deleted. */
  deleteLink(link: LinkInfo): Promise<void>;
  /** All IPv4 addresses, or those of one link. */
  addresses(index?: number): Promise<AddressInfo[]>;
  addAddress(link: LinkInfo, address: number, length: number): Promise<void>;
  /** Deletes an address. One that is gone already counts as deleted. */
  deleteAddress(link: LinkInfo, address: number, length: number): Promise<void>;
  /** IPv4 routes of every table but the local one. */
  routes(): Promise<RouteInfo[]>;
  /**
   * Adds a route through a gateway that is on the link (onlink). `replace`: takes the place of a
   * route in that table with the same destination and metric; without it such a route gives EEXIST.
   */
  addRoute(link: LinkInfo, route: RouteInfo, replace: boolean): Promise<void>;
  /** Deletes a route. One that is gone already counts as deleted. */
  deleteRoute(route: RouteInfo): Promise<void>;
  /** IPv4 policy rules, in the order in which they are tried. */
  rules(): Promise<RuleInfo[]>;
  /** Adds a rule (not a special one). One that is there already counts as added. */
  addRule(rule: RuleInfo): Promise<void>;
  /** Deletes a rule (not a special one). One that is gone already counts as deleted. */
  deleteRule(rule: RuleInfo): Promise<void>;
  neighbours(index: number): Promise<NeighbourInfo[]>;
  /** Adds or replaces a permanent neighbour. */
  setNeighbour(link: LinkInfo, address: string, mac: string): Promise<void>;
  /** Value of /proc/sys/KEY without the line end, null where there is no such key. */
  readSysctl(key: string): Promise<string | null>;
  writeSysctl(key: string, value: string): Promise<void>;
}

export interface Host {
  /**
   * Identity of the namespace at `path` (device and inode of its nsfs file), null where the path
   * does not exist or is no network namespace. While a descriptor pins a namespace, no other gets
   * its identity.
   */
  netnsIdentity(path: string): string | null;
  /** Runs `fn` with a view of the namespace at `path`, and closes the view. */
  within<T>(path: string, fn: (namespace: HostNamespace) => Promise<T>): Promise<T>;
  /** Opens a TAP device; synchronous. Throws HostError (EBUSY: another process holds it). */
  openTap(options: TapOptions): TapHandle;
  setTapPersist(fd: number, persist: boolean): void;
  /** Opens and binds the tunnel socket. Throws HostError (EADDRINUSE, EADDRNOTAVAIL). */
  openUdp(options: UdpOptions): number;
  /** Opens a raw socket. Throws HostError. */
  openRaw(options: RawOptions): number;
  /** Opens a packet socket on an interface. Throws HostError. */
  openPacket(options: PacketOptions): number;
  /** Gives a packet socket another filter. Throws HostError. */
  setFilter(fd: number, filter: number[]): void;
  /** Opens a UDP socket for BFD. Throws HostError (EADDRINUSE, EADDRNOTAVAIL). */
  openBfd(options: BfdOptions): number;
  /** Opens a netlink socket about one interface. Throws HostError. */
  openLinkEvents(options: LinkEventsOptions): number;
  /** Closes a descriptor that one of these gave. */
  close(fd: number): void;
  /**
   * Calls `changed` after each change of the IPv4 rules, addresses and forwarding settings of the
   * thread's own namespace, and of its routes with protocol number `protocol`: by anybody, ourselves
   * included. The returned function ends it, and must be called before the thread ends.
   */
  watch(protocol: number, changed: () => void): () => void;
  /** Capabilities that the process needs for all this and has not: CAP_NET_ADMIN, CAP_SYS_ADMIN. */
  missingCapabilities(): string[];
  /** Opens /dev/net/tun and closes it again. Throws HostError where TAP devices are not to be had. */
  checkTun(): void;
}
