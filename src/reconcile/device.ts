/**
 * One TAP device: open or create it, and bring everything on it to what its spec says. Every
 * function may be called at any moment and any number of times; where all is as desired, nothing
 * is written. Knows nothing of other devices, of the worker, or of what is recorded where.
 *
 * Order in configureDevice: sysctls (IPv6 off before the first packet can leave), link attributes,
 * addresses, up, neighbours (going down flushes them), routes (they need the link up).
 */
import {
  ALIAS_PREFIX,
  type DeviceSpec,
  ROUTE_PROTOCOL,
  type RouteSpec,
  TUN_F_UDP_TUNNEL_GSO,
  TUN_F_UDP_TUNNEL_GSO_CSUM,
  TUN_F_USO,
} from "../desired/host.js";
import { MAIN_TABLE } from "../desired/routing.js";
import type { Host, HostNamespace, LinkChange, LinkInfo, RouteInfo, TapHandle } from "../host/Host.js";
import { HostError, inNamespace } from "../host/HostError.js";
import { formatCidr } from "../model/ipv4.js";
import { DeviceError } from "./DeviceError.js";
import { delta } from "./delta.js";
import { type HostView, readOnly } from "./readOnly.js";

/** An open device. */
export interface OpenTap {
  handle: TapHandle;
  /** Identity of the namespace that the device is in; "" for the agent's own. */
  identity: string;
}

/** Where a device of ours is or was. */
export interface DevicePlace {
  netns: string;
  name: string;
}

/**
 * Whether a link is a device of ours. Between its creation and its alias it has none, so a TUN/TAP
 * device without alias is ours where the record says that we were about to make it.
 */
export function isOurs(link: LinkInfo, recorded: boolean): boolean {
  return link.kind === "tun" && (link.alias.startsWith(ALIAS_PREFIX) || (recorded && link.alias === ""));
}

/**
 * Attaches to the device where it exists and is ours, else creates it. Throws a DeviceError.
 *
 * @param recorded whether the record of what we made (or were about to) names it
 * @param announce called before the device is created
 */
export async function openDevice(
  host: Host,
  spec: DeviceSpec,
  recorded: boolean,
  announce: () => void,
): Promise<OpenTap> {
  const identity = identityOf(host, spec);
  let handle: TapHandle;
  try {
    const link = await host.within(spec.netns, (namespace) => namespace.link(spec.name));
    if (link !== null && !isOurs(link, recorded)) {
      const kind = link.kind === "" ? "device" : `${link.kind} device`;
      throw new DeviceError(
        "foreign-device",
        spec,
        `${kind} ${spec.name} exists already and is not podwire's`,
      );
    }
    if (link === null) announce();
    handle = host.openTap({
      netns: spec.netns,
      name: spec.name,
      multiQueue: false,
      ...spec.tap,
      mode: link === null ? "create" : "attach",
    });
  } catch (error) {
    throw deviceError(spec, error);
  }
  // The namespace at the path may have been replaced between the look and the opening.
  if (identityOf(host, spec) !== identity) {
    host.close(handle.fd);
    throw new DeviceError("lost", spec, `namespace ${spec.netns} was replaced`);
  }
  return { handle, identity };
}

/** Whether an open device takes tunnel GSO frames whose outer checksum is to be made. */
export function hasTunnelGso(handle: TapHandle): boolean {
  const both = TUN_F_UDP_TUNNEL_GSO | TUN_F_UDP_TUNNEL_GSO_CSUM;
  return (handle.offloads & both) === both;
}

/** What configureDevice did, in words; both empty when all was well. */
export interface Configured {
  changes: string[];
  /** Routes that are not to be had since somebody else has them. */
  conflicts: string[];
}

/**
 * Brings an open device to what `spec` says. Throws a DeviceError; fault "lost" where the device is
 * gone, "route-taken" where it cannot do without a route that somebody else has.
 */
export async function configureDevice(
  host: HostView,
  spec: DeviceSpec,
  tap: { identity: string; handle: Pick<TapHandle, "ifindex"> },
): Promise<Configured> {
  if (identityOf(host, spec) !== tap.identity)
    throw new DeviceError("lost", spec, `namespace ${spec.netns} was replaced`);
  try {
    return await host.within(spec.netns, async (namespace) => {
      const link = await namespace.link(spec.name);
      if (link === null || link.index !== tap.handle.ifindex)
        throw new DeviceError("lost", spec, `device ${spec.name}${inNamespace(spec.netns)} is gone`);
      const changes = [
        ...(await setSysctls(namespace, spec)),
        ...(await setAttributes(namespace, spec, link)),
        ...(await setAddresses(namespace, spec, link)),
        ...(await setUp(namespace, spec, link)),
        ...(await setNeighbours(namespace, spec, link)),
      ];
      const routes = await setRoutes(namespace, spec, link);
      return { changes: [...changes, ...routes.changes], conflicts: routes.conflicts };
    });
  } catch (error) {
    throw deviceError(spec, error);
  }
}

/**
 * What configureDevice would have to change on the device, in the same words; changes nothing. Throws
 * a DeviceError where there is no such device, or something is in its way.
 */
export async function inspectDevice(host: Host, spec: DeviceSpec): Promise<string[]> {
  try {
    const identity = identityOf(host, spec);
    const link = await host.within(spec.netns, (namespace) => namespace.link(spec.name));
    if (link === null)
      throw new DeviceError("lost", spec, `there is no device ${spec.name}${inNamespace(spec.netns)}`);
    if (!isOurs(link, false))
      throw new DeviceError("foreign-device", spec, `device ${spec.name} is not podwire's`);
    const tap = { identity, handle: { ifindex: link.index } };
    const { changes, conflicts } = await configureDevice(readOnly(host), spec, tap);
    return [...changes, ...conflicts];
  } catch (error) {
    throw deviceError(spec, error);
  }
}

/**
 * Deletes the device at `place` if it is there and ours. False where there was nothing of ours to
 * delete. Throws a HostError.
 */
export async function deleteDevice(host: Host, place: DevicePlace): Promise<boolean> {
  if (place.netns !== "" && host.netnsIdentity(place.netns) === null) return false;
  return host.within(place.netns, async (namespace) => {
    const link = await namespace.link(place.name);
    if (link === null || !isOurs(link, true)) return false;
    await namespace.deleteLink(link);
    return true;
  });
}

function identityOf(host: HostView, spec: DeviceSpec): string {
  if (spec.netns === "") return "";
  const identity = host.netnsIdentity(spec.netns);
  if (identity === null)
    throw new DeviceError("netns-missing", spec, `there is no network namespace at ${spec.netns}`);
  return identity;
}

async function setSysctls(namespace: HostNamespace, spec: DeviceSpec): Promise<string[]> {
  const changes: string[] = [];
  for (const { key, value, optional } of spec.sysctls) {
    const current = await namespace.readSysctl(key);
    if (current === value || (current === null && optional)) continue;
    await namespace.writeSysctl(key, value);
    changes.push(`${key}=${value}`);
  }
  return changes;
}

async function setAttributes(namespace: HostNamespace, spec: DeviceSpec, link: LinkInfo): Promise<string[]> {
  const change: LinkChange = {};
  if (link.mac !== spec.mac) change.mac = spec.mac;
  if (link.mtu !== spec.mtu) change.mtu = spec.mtu;
  if (link.txQueueLength !== spec.txQueueLength) change.txQueueLength = spec.txQueueLength;
  if (link.alias !== spec.alias) change.alias = spec.alias;
  const names = Object.keys(change);
  if (names.length > 0) await namespace.setLink(link, change);
  return names;
}

/** The device is ours, so its addresses are exactly the wanted ones. */
async function setAddresses(namespace: HostNamespace, spec: DeviceSpec, link: LinkInfo): Promise<string[]> {
  const { add, remove } = delta(
    spec.addresses,
    await namespace.addresses(link.index),
    formatCidr,
    formatCidr,
    () => true,
  );
  for (const { address, length } of add) await namespace.addAddress(link, address, length);
  for (const { address, length } of remove) await namespace.deleteAddress(link, address, length);
  return [
    ...add.map((each) => `address ${formatCidr(each)}`),
    ...remove.map((each) => `no ${formatCidr(each)}`),
  ];
}

async function setUp(namespace: HostNamespace, spec: DeviceSpec, link: LinkInfo): Promise<string[]> {
  const changes: string[] = [];
  if (!link.up) {
    await namespace.setLink(link, { up: true });
    changes.push("up");
  }
  if (spec.loopbackUp) {
    const loopback = await namespace.link("lo");
    if (loopback !== null && !loopback.up) {
      await namespace.setLink(loopback, { up: true });
      changes.push("lo up");
    }
  }
  return changes;
}

async function setNeighbours(namespace: HostNamespace, spec: DeviceSpec, link: LinkInfo): Promise<string[]> {
  if (spec.neighbours.length === 0) return [];
  const { add, change } = delta(
    spec.neighbours,
    await namespace.neighbours(link.index),
    (each) => each.address,
    (each) => each.address,
    (wanted, present) => present.mac === wanted.mac && present.permanent,
  );
  const missing = [...add, ...change.map((each) => each.desired)];
  for (const { address, mac } of missing) await namespace.setNeighbour(link, address, mac);
  return missing.map((each) => `neighbour ${each.address}`);
}

/** Routes through the device that carry our protocol number are exactly the wanted ones. */
async function setRoutes(namespace: HostNamespace, spec: DeviceSpec, link: LinkInfo): Promise<Configured> {
  if (spec.role === "gso") return { changes: [], conflicts: [] };
  const all = await namespace.routes();
  const taken = new Map<string, RouteInfo>();
  for (const route of all) if (route.priority === 0) taken.set(routeKey(route), route);
  const { add, change, remove } = delta(
    spec.routes,
    all.filter((route) => route.index === link.index && route.protocol === ROUTE_PROTOCOL),
    routeKey,
    routeKey,
    (wanted, present) =>
      present.gateway === wanted.gateway && present.source === wanted.source && present.priority === 0,
  );
  const conflicts: string[] = [];
  const added: RouteSpec[] = [];
  for (const route of add) {
    const present = taken.get(routeKey(route));
    // One of ours on another link is what an earlier device of ours left; the rest is not ours.
    if (present !== undefined && present.protocol !== ROUTE_PROTOCOL) {
      const other = (await namespace.links()).find((each) => each.index === present.index);
      const via = `${present.gateway === null ? "" : ` via ${present.gateway}`} dev ${other?.name ?? present.index}`;
      const message = `a route ${routeText(route)}${via} exists${inNamespace(spec.netns)}`;
      if (route.required) throw new DeviceError("route-taken", spec, message);
      conflicts.push(message);
      continue;
    }
    await namespace.addRoute(link, routeInfo(route, link), present !== undefined);
    added.push(route);
  }
  for (const { desired } of change) await namespace.addRoute(link, routeInfo(desired, link), true);
  for (const route of remove) await namespace.deleteRoute(route);
  const changes = [
    ...[...added, ...change.map((each) => each.desired)].map((each) => `route ${routeText(each)}`),
    ...remove.map((each) => `no route ${routeText(each)}`),
  ];
  return { changes, conflicts };
}

type RouteName = Pick<RouteInfo, "table" | "destination">;

function routeKey({ table, destination }: RouteName): string {
  return `${table} ${formatCidr(destination)}`;
}

function routeText({ table, destination }: RouteName): string {
  return `${formatCidr(destination)}${table === MAIN_TABLE ? "" : ` table ${table}`}`;
}

function routeInfo({ table, destination, gateway, source }: RouteSpec, link: LinkInfo): RouteInfo {
  return {
    table,
    destination,
    gateway,
    source,
    index: link.index,
    protocol: ROUTE_PROTOCOL,
    priority: 0,
  };
}

/** Whatever was thrown while working on `spec`, as a DeviceError. */
function deviceError(spec: DeviceSpec, error: unknown): DeviceError {
  if (error instanceof DeviceError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const options = { cause: error };
  const code = error instanceof HostError ? error.code : "";
  if (code === "EBUSY")
    return new DeviceError("device-busy", spec, `${message}: another process holds the device`, options);
  if (code === "EINVAL" && spec.role !== "gso" && (spec.tap.offloads & TUN_F_USO) !== 0)
    return new DeviceError("no-uso", spec, `${message}: this kernel has no UDP segmentation on TAP`, options);
  return new DeviceError("failed", spec, message, options);
}
