/** What a node's stages decided about a packet, step by step, in words. Reads records; decides nothing. */
import { isOwn, isReachable } from "../../dataplane/loadBalance.js";
import { formatIpv4 } from "../../model/ipv4.js";
import { VIA_NODE, VIA_ROUTE } from "../../packet/Batch.js";
import { DROP_REASON_NAMES, type DropReason } from "../../packet/DropReason.js";
import type { FlowRecord } from "../../tables/FlowReader.js";
import { ROLE_POD } from "../../tables/PortTable.js";
import { ROUTE_PORT, ROUTE_VTEP, routeTarget, routeTo } from "../../tables/RouteTable.js";
import {
  FRONTEND_CLUSTER_IP,
  FRONTEND_EXTERNAL_IP,
  FRONTEND_LOAD_BALANCER,
  FRONTEND_NODE_PORT,
  RING_REJECT,
} from "../../tables/ServiceTable.js";
import * as ethernet from "../../wire/ethernet.js";
import * as flowTag from "../../wire/flowTag.js";
import * as vxlan from "../../wire/vxlan.js";
import { DROP_TEXTS } from "./dropTexts.js";
import type { DropView, FlowFacts, OuterView, PacketView, ServiceView, TraceStep } from "./model.js";
import { packetView } from "./packets.js";
import type { KnownNode, TraceCluster } from "./TraceCluster.js";
import type { HopRecord, Leaving, Row, ServiceChoice, StageRecord, TraceNode } from "./TraceNode.js";

/** Where a hop took place. */
export interface HopPlace {
  cluster: TraceCluster;
  known: KnownNode;
  node: TraceNode;
}

const FRONTENDS: readonly (readonly [number, string])[] = [
  [FRONTEND_CLUSTER_IP, "ClusterIP"],
  [FRONTEND_NODE_PORT, "NodePort"],
  [FRONTEND_LOAD_BALANCER, "load-balancer address"],
  [FRONTEND_EXTERNAL_IP, "external address"],
];
const FLAG_TEXTS: Readonly<Record<string, string>> = {
  dnat: "to the endpoint",
  snat: "source translated",
  hairpin: "a pod that reaches itself",
  egress: "leaves behind the node's address",
  portCollision: "another source port, since its own is taken",
  adopted: "taken up in mid-stream",
};

/** The steps of one hop, in the order in which they were taken; what leaves is told by `leavingStep`. */
export function hopSteps(place: HopPlace, hop: HopRecord): TraceStep[] {
  return hop.stages.flatMap((record) => {
    const steps = stageSteps(place, hop, record);
    if (record.drop < 0) return steps;
    const drop = dropOf(record.drop as DropReason);
    return [...steps, step(place, "drop", `dropped by ${record.stage}: ${drop.reason}`, drop.why, { drop })];
  });
}

/** A drop in words. */
export function dropOf(reason: DropReason): DropView {
  const name = DROP_REASON_NAMES[reason] as keyof typeof DROP_TEXTS;
  const [why, remedy] = DROP_TEXTS[name];
  return { reason: name, why, remedy };
}

function step(
  { known }: HopPlace,
  stage: TraceStep["stage"],
  what: string,
  because: string,
  more: Partial<TraceStep> = {},
): TraceStep {
  return { lane: known.name, stage, what, because, ...more };
}

function stageSteps(place: HopPlace, hop: HopRecord, record: StageRecord): TraceStep[] {
  switch (record.stage) {
    case "decap":
      return record.drop < 0 ? [decapStep(place, hop, record)] : [];
    case "parse":
      return record.drop < 0 ? [parseStep(place, hop, record)] : [];
    case "policy":
      return record.drop < 0 ? [policyStep(place, record.before, hop)] : [];
    case "conntrack":
      return conntrackSteps(place, record);
    case "route":
      return record.drop < 0 ? [routeStep(place, record)] : [];
    default:
      return [];
  }
}

// ---- decap, parse, policy ---------------------------------------------------------------------

function decapStep(place: HopPlace, hop: HopRecord, { after }: StageRecord): TraceStep {
  const peer = hop.arriving.by === "tunnel" ? formatIpv4(hop.arriving.peer) : "";
  const tagged = after.tag === 0 ? "" : `; tag ${hex(after.tag)}: which address the client asked for`;
  const { vni } = place.node.tables;
  return step(
    place,
    "decap",
    `VXLAN header removed${tagged}`,
    `${place.cluster.named(peer)} is a VTEP, VNI ${vni} is ours, and so is the inner destination MAC`,
  );
}

function parseStep(place: HopPlace, { arriving }: HopRecord, { after }: StageRecord): TraceStep {
  const packet = packetOf(after);
  const { tables } = place.node;
  const pod = arriving.by === "tap" ? place.cluster.podAt(place.known.name, arriving.port) : undefined;
  const from =
    arriving.by === "tunnel"
      ? "out of the tunnel"
      : arriving.by === "heard"
        ? "heard by a raw socket: the node's kernel has it, since it has no port for a rule"
        : arriving.port === tables.nodePort
          ? "from podwire0"
          : `from the TAP of ${pod?.name ?? `port ${arriving.port}`}`;
  return step(place, "parse", textOf(packet), from, { packet });
}

function policyStep(place: HopPlace, row: Row, { arriving }: HopRecord): TraceStep {
  const { tables } = place.node;
  const source = formatIpv4(row.source);
  if (arriving.by === "tunnel") {
    const sender = place.cluster.nodeOf(formatIpv4(arriving.peer));
    const because = tables.inPool(row.source)
      ? `${source} routes back to the VTEP of ${sender}`
      : `${source} is in no pod pool and no node's: a client of the outside, by ${sender}`;
    return step(place, "policy", "source accepted", because);
  }
  const role = arriving.by === "tap" ? tables.ports.role(arriving.port) : 0;
  if (role === ROLE_POD)
    return step(place, "policy", "source accepted", `${source} is the pod's own address`);
  return step(place, "policy", "source accepted", "the node's kernel vouches for what it routes here");
}

// ---- conntrack --------------------------------------------------------------------------------

function conntrackSteps(place: HopPlace, record: StageRecord): TraceStep[] {
  const { before, after, flowBefore, flowAfter, choice, drop } = record;
  const steps: TraceStep[] = [];
  // A flow that has ended gives way to another, in another record.
  const follows = flowBefore !== null && flowAfter?.record === flowBefore.record;
  if (follows) steps.push(followStep(place, flowBefore, after));
  else if (flowAfter !== null) {
    const because = flowBefore === null ? "no flow has this tuple" : "the flow of this tuple has ended";
    steps.push(step(place, "conntrack", "a flow begins", because, { flow: factsOf(flowAfter, false, true) }));
  } else if (drop < 0) {
    const why =
      before.vtep >= 0
        ? "between pods the sender's node keeps track"
        : "of what needs no translation no flow is kept";
    steps.push(step(place, "conntrack", "no flow", why));
  } else {
    steps.push(
      step(place, "conntrack", "no flow has this tuple", "a packet that belongs to none may begin one"),
    );
  }
  if (choice !== null && !follows) steps.push(serviceStep(place, record, choice));
  const packets = [packetOf(before), packetOf(after)] as const;
  if (drop < 0 && tupleText(packets[0]) !== tupleText(packets[1])) {
    steps.push(
      step(
        place,
        "translate",
        `${tupleText(packets[0])} becomes ${tupleText(packets[1])}`,
        translationReason(flowAfter, after.direction === 0),
        {
          before: packets[0],
          packet: packets[1],
        },
      ),
    );
  }
  return steps;
}

function followStep(place: HopPlace, flow: FlowRecord, after: Row): TraceStep {
  const name = serviceName(place.known, flow.service);
  const way = after.direction === 0 ? "the way of its first packet" : "an answer";
  const of = name === "" ? "" : `, of ${name}`;
  return step(
    place,
    "conntrack",
    `belongs to a flow in ${flow.stateName}${of}`,
    `${way}; ${describeKey(flow)} began ${seconds(flow.ageMs)} ago`,
    { flow: factsOf(flow, true, after.direction === 0) },
  );
}

function describeKey({ original }: FlowRecord): string {
  const { source, sourcePort, destination, destinationPort } = original;
  return `${formatIpv4(source)}:${sourcePort} → ${formatIpv4(destination)}:${destinationPort}`;
}

function factsOf(flow: FlowRecord, found: boolean, original: boolean): FlowFacts {
  const { stateName: state, ageMs, flags } = flow;
  return { found, state, original, ageSeconds: Math.floor(ageMs / 1000), flags };
}

function translationReason(flow: FlowRecord | null, original: boolean): string {
  if (flow === null) return "an error about a packet of a flow speaks as its receiver knows that";
  if (!original) return "back to what who asked knows";
  const texts = flow.flags.flatMap((flag) => FLAG_TEXTS[flag] ?? []);
  return texts.join("; ");
}

function serviceStep(place: HopPlace, record: StageRecord, choice: ServiceChoice): TraceStep {
  const { services } = place.node.dataplane;
  const { row, ring, slot, taken, inside, kept } = choice;
  const backend = record.flowAfter?.backend ?? 0;
  const flags = services.flags(row);
  const frontend = FRONTENDS.find(([flag]) => (flags & flag) !== 0)?.[1] ?? "address";
  const name = serviceName(place.known, services.service(row)) || `service ${services.service(row)}`;
  const port = place.known.tables.servicePorts.find(({ id }) => id === services.service(row));
  const members =
    ring < 0 ? [] : Array.from({ length: services.count(ring) }, (_, i) => services.member(ring, i));
  const endpoints = members.map((member) => {
    const address = formatIpv4(services.address(member));
    const l4Port = services.l4Port(member);
    const pod = place.cluster.podOf(address);
    const said = port?.endpoints.find((each) => each.address === address && each.l4Port === l4Port);
    return {
      address,
      l4Port,
      pod: pod?.name ?? "",
      node: pod?.node ?? (said?.node || place.cluster.nodeOf(address)),
      dead: !isReachable(place.node.dataplane, member),
      chosen: backend !== 0 && services.backendId(member) === backend,
    };
  });
  const affinitySeconds = services.affinitySeconds(row);
  const service: ServiceView = {
    name,
    frontend,
    endpoints,
    slots: ring < 0 ? 0 : services.slots(ring),
    slot,
    taken,
    affinitySeconds,
  };
  const chosen = endpoints.find((each) => each.chosen);
  const side = inside ? "inside" : "outside";
  if (chosen === undefined) {
    const why = ring === RING_REJECT ? "it has no endpoint that serves" : `for traffic from ${side}`;
    return step(place, "service", `asks for the ${frontend} of ${name}`, why, { service });
  }
  const key =
    affinitySeconds > 0
      ? "the client's address (session affinity)"
      : "the client's address, port and protocol";
  const led = services.pick(ring, slot);
  const other = endpoints[members.indexOf(led)]!;
  const that = `; that is ${other.address}:${other.l4Port}`;
  const deviation =
    kept && !other.chosen
      ? `${that}, but the client's last connection went to this one, and it stays`
      : taken !== slot
        ? `${that}, whose node${other.node === "" ? "" : ` ${other.node}`} is dead, so slot ${taken}, the next one of a node that lives`
        : chosen.dead
          ? "; its node is dead, as are those of all others, so the ring's choice stands"
          : "";
  return step(
    place,
    "service",
    `${frontend} of ${name}: endpoint ${chosen.address}:${chosen.l4Port}${chosen.pod === "" ? "" : ` (${chosen.pod})`}`,
    `slot ${slot} of ${service.slots} in the ring of ${endpoints.length} for traffic from ${side}, by ${key}${deviation}`,
    { service },
  );
}

/** "namespace/name:port" of a service port's number, "" where it is unknown. */
export function serviceName({ tables }: KnownNode, id: number): string {
  const found = tables.servicePorts.find((each) => each.id === id);
  return found === undefined ? "" : `${found.service}:${found.port === "" ? found.l4Port : found.port}`;
}

// ---- route and beyond -------------------------------------------------------------------------

function routeStep(place: HopPlace, { before, after }: StageRecord): TraceStep {
  const { node, cluster, known } = place;
  const { tables } = node;
  const packet = packetOf(after);
  const ttl = packetOf(before).ttl === packet.ttl ? "" : `, TTL ${packet.ttl}`;
  if (after.via === VIA_NODE)
    return step(place, "route", `to the node's kernel by podwire0${ttl}`, "the flow's way out", { packet });
  if (after.via !== VIA_ROUTE) {
    const vtep = cluster.named(formatIpv4(tables.fdb.address(after.via)));
    return step(place, "route", `to VTEP ${vtep}${ttl}`, "answers of this connection return through it", {
      packet,
    });
  }
  const route = tables.routes.lookup(after.destination);
  const prefix = `${formatIpv4(maskedBy(after.destination, tables.routes.prefixLength(after.destination)))}/${tables.routes.prefixLength(after.destination)}`;
  if (routeTo(route) === ROUTE_VTEP) {
    const vtep = cluster.named(formatIpv4(tables.fdb.address(routeTarget(route))));
    return step(place, "route", `to VTEP ${vtep}${ttl}`, `route ${prefix}, longest prefix`, { packet });
  }
  const toNode = routeTo(route) === ROUTE_PORT && routeTarget(route) === tables.nodePort;
  const pod = cluster.podAt(known.name, routeTarget(route));
  const to = toNode
    ? "the node's kernel by podwire0"
    : `the TAP of ${pod?.name ?? `port ${routeTarget(route)}`}`;
  const because =
    toNode && isOwn(tables, after.destination) ? `${prefix} is the node's own` : `route ${prefix}`;
  return step(place, "route", `to ${to}${ttl}`, because, { packet });
}

function maskedBy(address: number, length: number): number {
  return length === 0 ? 0 : address & (-1 << (32 - length));
}

/** What leaves by the tunnel: the frame between the nodes. */
export function encapStep(place: HopPlace, leaving: Leaving & { by: "tunnel" }): TraceStep {
  const { tables } = place.node;
  const view = new DataView(
    leaving.datagram.buffer,
    leaving.datagram.byteOffset,
    leaving.datagram.byteLength,
  );
  const tag = flowTag.read(view, vxlan.HEADER);
  const outer: OuterView = {
    source: formatIpv4(tables.underlayAddress),
    destination: formatIpv4(tables.fdb.address(leaving.vtep)),
    sourcePort: tables.vxlanPort,
    destinationPort: tables.fdb.udpPort(leaving.vtep),
    vni: vxlan.vni(view, 0),
    innerDestinationMac: macText(view, vxlan.HEADER + ethernet.DESTINATION),
    innerSourceMac: macText(view, vxlan.HEADER + ethernet.SOURCE),
    tag,
    bytes: leaving.datagram.length,
  };
  const tagged = tag === 0 ? "" : `, tag ${hex(tag)} in the inner source MAC`;
  return step(
    place,
    "encap",
    `UDP ${outer.source}:${outer.sourcePort} → ${outer.destination}:${outer.destinationPort}, VXLAN ${outer.vni}, inner MAC ${outer.innerSourceMac} → ${outer.innerDestinationMac}`,
    `the FDB's entry of ${place.cluster.nodeOf(outer.destination) || outer.destination}${tagged}`,
    { outer },
  );
}

/** The inner packet of a VXLAN datagram. */
export function innerPacket(datagram: Uint8Array): Uint8Array {
  return datagram.slice(vxlan.HEADER + ethernet.HEADER);
}

// ---- words ------------------------------------------------------------------------------------

function packetOf({ frame }: Row): PacketView {
  return packetView(frame.slice(ethernet.HEADER));
}

/** "tcp 192.0.2.1:40000 → 192.0.2.2:80 SYN" */
export function textOf(packet: PacketView): string {
  const info = packet.info === "" ? "" : ` ${packet.info}`;
  return `${packet.protocol} ${tupleText(packet)}${info}, ${packet.bytes} bytes, TTL ${packet.ttl}`;
}

/** "192.0.2.1:40000 → 192.0.2.2:80"; of an echo the identifier stands behind. */
export function tupleText(packet: PacketView): string {
  const { source, destination, sourcePort, destinationPort, protocol, icmpType } = packet;
  if (protocol === "icmp") {
    const id = icmpType === 0 ? destinationPort : sourcePort;
    return id === 0 ? `${source} → ${destination}` : `${source} → ${destination} id ${id}`;
  }
  return `${source}:${sourcePort} → ${destination}:${destinationPort}`;
}

function seconds(ms: number): string {
  return ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`;
}

function hex(tag: number): string {
  return `0x${(tag >>> 0).toString(16).padStart(8, "0")}`;
}

function macText(view: DataView, at: number): string {
  return Array.from({ length: 6 }, (_, i) =>
    view
      .getUint8(at + i)
      .toString(16)
      .padStart(2, "0"),
  ).join(":");
}
