/**
 * One node against the API: what its agent works by, what its tables hold, and what the kernel of the
 * host and of its pods has. The description that the API gives is compiled here anew, so that a
 * change which the agent missed shows; the rest is compared with that.
 */
import type { AgentStatus } from "../agent/Agent.js";
import { type DeviceSpec, desiredHost, ROUTE_PROTOCOL } from "../desired/host.js";
import { NO_LAN_PORTS } from "../desired/lan.js";
import { vtepMac } from "../desired/mac.js";
import { type BlockObject, Overlay, type PoolObject } from "../desired/nodes.js";
import { LocalPods } from "../desired/pods.js";
import { type AttachedPort, tableInput } from "../desired/tables.js";
import type { Host } from "../host/Host.js";
import type { IpamObjects } from "../ipam/check.js";
import type { AgentConfig, PodConfig, VtepConfig } from "../model/AgentConfig.js";
import { REGISTERED, TUNNEL_ADDRESS, UNDERLAY_ADDRESS, VTEP_MAC, VXLAN_PORT } from "../model/annotations.js";
import { formatCidr, formatIpv4, parseIpv4 } from "../model/ipv4.js";
import { nodeAddresses, readAddresses } from "../reconcile/addresses.js";
import { DeviceError } from "../reconcile/DeviceError.js";
import { inspectDevice } from "../reconcile/device.js";
import { inspectRouting } from "../reconcile/routing.js";
import type { TableInput } from "../tables/TableInput.js";
import type { Disagreement } from "./disagreement.js";

/** What an agent says of itself on its status socket. */
export interface AgentFacts {
  status: AgentStatus;
  /** What its dataplane's tables hold. */
  tables: TableInput;
}

type Find = (kind: string, subject: string, message: string, remedy: string) => void;

/** Everything in which a node disagrees with the API. `host` is the node's own; it is only read. */
export async function checkNode(
  objects: IpamObjects,
  facts: AgentFacts,
  host: Host,
): Promise<Disagreement[]> {
  const { status, tables } = facts;
  const found: Disagreement[] = [];
  const find: Find = (kind, subject, message, remedy) =>
    found.push({ severity: "error", kind, where: `node ${status.node}`, subject, message, remedy });
  const resync = `The agent mends this within 30 s, at once after kill -HUP ${status.pid}.`;
  checkRegistration(objects, status, find);
  const wanted = describe(objects, status);
  checkConfig(wanted, status, find);
  checkDevices(status, find);
  checkTables(wanted, status, tables, find);
  await checkHost(wanted, status, host, resync, find);
  return found;
}

// ---- what the API says ----------------------------------------------------------------------------

/** The config that the API gives this node now; what it does not say comes from the agent. */
function describe({ pools, blocks, nodes, pods }: IpamObjects, status: AgentStatus): AgentConfig {
  const { node, underlay } = status;
  const overlay = new Overlay({ node, underlayAddress: underlay.address, vxlanPort: underlay.port });
  for (const pool of pools) overlay.setPool(pool as PoolObject);
  for (const block of blocks) overlay.setBlock(block as BlockObject);
  for (const each of nodes) overlay.setNode(each);
  const { podPool, blocks: own, vteps } = overlay.compile();
  const local = new LocalPods("/{uid}", Number.POSITIVE_INFINITY);
  for (const pod of pods) if (pod.spec?.nodeName === node) local.set(pod);
  const registered = nodes.find(({ metadata }) => metadata.name === node);
  return {
    node,
    stateDir: "",
    underlay: { ...underlay },
    podPool,
    blocks: own,
    tunnelAddress: registered?.metadata.annotations?.[TUNNEL_ADDRESS] ?? status.tunnelAddress,
    vteps,
    // The path is the agent's to choose.
    pods: local.compile(podPool).pods.map((pod) => {
      const known = status.pods.find(({ name }) => name === pod.name);
      return known === undefined ? pod : { ...pod, netns: known.netns, interface: known.interface };
    }),
    serviceHost: status.serviceHost,
    announce: null,
    metrics: status.metrics,
    services: [],
    dataplane: {
      tunnelGso: status.dataplane.send === "tunnel-gso" ? "on" : "off",
      uso: "auto",
      threads: status.dataplane.threads === 2 ? 2 : 1,
      spinMicroseconds: 0,
      cpuLatency: "off",
      maxFlows: status.flows.capacity,
    },
  };
}

/** The Node against what the agent runs by. */
function checkRegistration({ nodes }: IpamObjects, status: AgentStatus, find: Find): void {
  const subject = `node ${status.node}`;
  const restart = "Restart the agent.";
  const node = nodes.find(({ metadata }) => metadata.name === status.node);
  if (node === undefined) {
    find(
      "node-unregistered",
      subject,
      "has an agent that runs, and no Node in the API",
      "Restart the agent to register it, or stop it and run podwire cleanup.",
    );
    return;
  }
  const annotations = node.metadata.annotations ?? {};
  const wanted: [string, string][] = [
    [UNDERLAY_ADDRESS, status.underlay.address],
    [VXLAN_PORT, String(status.underlay.port)],
    [TUNNEL_ADDRESS, status.tunnelAddress],
    [VTEP_MAC, vtepMac(status.node)],
  ];
  for (const [key, value] of wanted)
    if (annotations[key] !== value)
      find(
        "node-annotation",
        subject,
        `has ${key}=${annotations[key] ?? ""} in the API, and its agent runs by ${value}`,
        restart,
      );
  const internal = node.status?.addresses?.find(({ type }) => type === "InternalIP")?.address;
  if (annotations[REGISTERED] === "true" && internal !== status.underlay.address)
    find(
      "node-annotation",
      subject,
      `has the InternalIP ${internal ?? "none"} in the API, and its agent runs by ${status.underlay.address}`,
      restart,
    );
}

// ---- what the agent works by ----------------------------------------------------------------------

/** How an agent that lags behind is helped. */
const LAGS = "If it does not pass within seconds: see the agent's log for why it lags behind the API.";

function checkConfig(wanted: AgentConfig, status: AgentStatus, find: Find): void {
  sameList("pool", wanted.podPool, status.podPool, find);
  sameList("block", wanted.blocks, status.blocks, find);
  const vtep = ({ address, port, tunnelAddress, mac, blocks }: VtepConfig) =>
    `${address}:${port} tunnel ${tunnelAddress} ${mac} ${[...blocks].sort().join(" ")}`;
  compare(
    entries(wanted.vteps, ({ node }) => `VTEP of ${node}`, vtep),
    entries(status.vteps, ({ node }) => `VTEP of ${node}`, vtep),
    "agent-vtep",
    "the agent",
    LAGS,
    find,
  );
  const pod = ({ address }: Pick<PodConfig, "address">) => address;
  compare(
    entries(wanted.pods, ({ name }) => `pod ${name}`, pod),
    entries(status.pods, ({ name }) => `pod ${name}`, pod),
    "agent-pod",
    "the agent",
    LAGS,
    find,
  );
}

function sameList(what: "pool" | "block", wanted: string[], present: string[], find: Find): void {
  const own = (each: string) => `${what} ${each}`;
  const kind = `agent-${what}`;
  compare(
    entries(wanted, own, () => ""),
    entries(present, own, () => ""),
    kind,
    "the agent",
    LAGS,
    find,
  );
}

/** What the agent itself knows to be wrong. */
function checkDevices({ devices }: AgentStatus, find: Find): void {
  for (const { id, state, message } of devices)
    if (state === "failed")
      find("device-failed", `device of ${id}`, `failed: ${message}`, "The agent goes on trying.");
}

// ---- what the tables hold -------------------------------------------------------------------------

const NOT_PUBLISHED = "If it does not pass within seconds, restart the agent: connections survive that.";

function checkTables(wanted: AgentConfig, status: AgentStatus, tables: TableInput, find: Find): void {
  const device = (id: string): AttachedPort | undefined => {
    const port = status.devices.find((each) => each.id === id)?.port ?? -1;
    const held = tables.ports.find((each) => each.port === port);
    return port < 0 ? undefined : { port, uso: held?.uso ?? false };
  };
  const indices = new Map(tables.vteps.map(({ address, index }) => [formatIpv4(address), index]));
  const unknown = 1 + Math.max(-1, ...indices.values());
  const node = device("node") ?? null;
  const expected = tableInput(wanted, {
    underlayMtu: status.underlay.mtu,
    tunnelPort: tables.node.tunnelPort,
    node,
    // What is the kernel's to say is taken as it is.
    addresses: tables.routes
      .filter(({ to, target, length }) => to === "port" && target === node?.port && length === 32)
      .map(({ address }) => address),
    nodePortAddresses: tables.nodePortAddresses,
    egress: tables.egress,
    lan: null,
    lanPorts: NO_LAN_PORTS,
    icmpPort: tables.node.icmpPort,
    reassemblyPort: tables.node.reassemblyPort,
    gsoPort: device("gso")?.port ?? -1,
    pods: new Map(
      wanted.pods.flatMap(({ name }) => {
        const attached = device(`pod ${name}`);
        return attached === undefined ? [] : [[name, attached] as const];
      }),
    ),
    // VTEP indices are the agent's own: taken over by address, and new ones where the table has none.
    vteps: new Map(wanted.vteps.map(({ node, address }, i) => [node, indices.get(address) ?? unknown + i])),
  });
  const say = (kind: string, want: Map<string, string>, have: Map<string, string>) =>
    compare(want, have, kind, "the dataplane", NOT_PUBLISHED, find);
  const nodeFields = (input: TableInput) =>
    entries(
      Object.entries(input.node),
      ([field]) => `node table's ${field}`,
      ([, value]) => JSON.stringify(value),
    );
  say("table-node", nodeFields(expected), nodeFields(tables));
  const targets = (input: TableInput) => {
    const vteps = new Map(input.vteps.map(({ index, address }) => [index, `VTEP ${formatIpv4(address)}`]));
    return entries(
      input.routes,
      (route) => `route ${formatCidr(route)}`,
      ({ to, target }) =>
        to === "vtep" ? (vteps.get(target) ?? `VTEP ${target}`) : to === "port" ? `port ${target}` : to,
    );
  };
  say("table-route", targets(expected), targets(tables));
  const vteps = (input: TableInput) =>
    entries(
      input.vteps,
      ({ address }) => `VTEP ${formatIpv4(address)}`,
      ({ udpPort, mac, tunnelAddress }) =>
        `port ${udpPort} tunnel ${formatIpv4(tunnelAddress)} ${macText(mac)}`,
    );
  say("table-vtep", vteps(expected), vteps(tables));
  const ports = (input: TableInput) =>
    entries(
      input.ports,
      ({ port }) => `port ${port}`,
      ({ role, mac, address }) => `${role} ${formatIpv4(address)} ${macText(mac)}`,
    );
  say("table-port", ports(expected), ports(tables));
  const pools = (input: TableInput) =>
    entries(
      input.pools,
      (pool) => `pool ${formatCidr(pool)}`,
      () => "",
    );
  say("table-pool", pools(expected), pools(tables));
}

function macText({ hi, lo }: { hi: number; lo: number }): string {
  const digits = hi.toString(16).padStart(4, "0") + (lo >>> 0).toString(16).padStart(8, "0");
  return digits.match(/../g)!.join(":");
}

// ---- what the kernel has --------------------------------------------------------------------------

async function checkHost(
  wanted: AgentConfig,
  status: AgentStatus,
  host: Host,
  resync: string,
  find: Find,
): Promise<void> {
  // A pod that the agent does not know has been told of, and its namespace is not known.
  const known = wanted.pods.filter((pod) => status.pods.some(({ name }) => name === pod.name));
  const { node, gso, pods, routing } = desiredHost(
    { ...wanted, pods: known },
    { underlayMtu: status.underlay.mtu, addresses: nodeAddresses(await readAddresses(host)) },
  );
  const underlay = parseIpv4(wanted.underlay.address);
  const [addresses, routes, links] = await host.within("", async (own) => [
    await own.addresses(),
    await own.routes(),
    await own.links(),
  ]);
  const carrier = addresses.find(({ address }) => address === underlay);
  const mtu = links.find(({ index }) => index === carrier?.index)?.mtu;
  if (carrier === undefined)
    find(
      "host-underlay",
      "host",
      `no interface has the underlay address ${wanted.underlay.address}`,
      "Give the address back, or restart the agent with the new one.",
    );
  else if (mtu !== undefined && mtu < status.underlay.mtu)
    find(
      "host-underlay",
      "host",
      `the interface with ${wanted.underlay.address} has MTU ${mtu}, and the agent works by ${status.underlay.mtu}`,
      resync,
    );
  for (const spec of [node, ...(gso === null ? [] : [gso]), ...pods])
    await checkDevice(spec, host, resync, find);
  const unrouted = routing === null ? [] : await inspectRouting(host, routing);
  if (unrouted.length > 0)
    find("host-routing", "routing for Services", `is not as it should be: ${unrouted.join(", ")}`, resync);
  const device = links.find(({ name }) => name === node.name);
  for (const { destination, index, protocol } of routes)
    if (protocol === ROUTE_PROTOCOL && index !== device?.index)
      find(
        "host-route",
        `route ${formatCidr(destination)}`,
        `of ours leads to ${links.find((link) => link.index === index)?.name ?? "no device"}, not to ${node.name}`,
        "Delete the route: ip route del.",
      );
}

async function checkDevice(spec: DeviceSpec, host: Host, resync: string, find: Find): Promise<void> {
  const where = spec.netns === "" ? "" : ` in ${spec.netns}`;
  const subject = `device ${spec.name}${where}`;
  try {
    const changes = await inspectDevice(host, spec);
    if (changes.length > 0)
      find("host-device", subject, `(${spec.id}) is not as it should be: ${changes.join(", ")}`, resync);
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    find("host-device", subject, `(${spec.id}): ${error.message}`, resync);
  }
}

// ---- comparing ------------------------------------------------------------------------------------

function entries<T>(
  items: Iterable<T>,
  key: (item: T) => string,
  value: (item: T) => string,
): Map<string, string> {
  return new Map([...items].map((item) => [key(item), value(item)]));
}

/** One finding for each key that is on one side only, or has another value. */
function compare(
  wanted: Map<string, string>,
  present: Map<string, string>,
  kind: string,
  who: string,
  remedy: string,
  find: Find,
): void {
  for (const [subject, value] of wanted) {
    const has = present.get(subject);
    const so = value === "" ? "is" : `is ${value}`;
    if (has === undefined) find(kind, subject, `${so} by the API, and ${who} does not have it`, remedy);
    else if (has !== value) find(kind, subject, `${so} by the API, and ${who} has ${has}`, remedy);
  }
  for (const [subject, value] of present)
    if (!wanted.has(subject))
      find(kind, subject, `is not in the API, and ${who} has it${value === "" ? "" : `: ${value}`}`, remedy);
}
