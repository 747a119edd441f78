/**
 * What a packet that belongs to no flow begins. By where it comes from and goes to:
 *
 *   from            to                        what becomes of it
 *   pod, node       a Service                 a backend's, destination translated
 *   pod, node       address of a Service, no  rejected, never routed on
 *                   such port
 *   any             a ClusterIP that no       dropped
 *                   Service has
 *   pod, node       pod                       passes; a TCP connection is noted, and UDP to a port at
 *                   which Services have endpoints (conntrack)
 *   outside (LAN)   NodePort, LoadBalancer    as above; source kept, the reply returns through us
 *   outside (LAN)   pod                       source kept, the reply returns through us
 *   other node      pod, source outside       source kept, the reply returns through that node
 *   pod, by another outside, with a tag       the reply of a connection whose ingress has died
 *     node            of an address of ours     (adoptReply)
 *   other node      our tunnel address        flows that it tells of (StandbyFlows)
 *   pod             outside                   egress: source translated
 *
 * The source is translated as well where the reply would else not come back: a pod that reaches
 * itself, the node's loopback, any node's LAN address towards another node (no frame of the tunnel may
 * come from one), a backend outside of the pod pools, a VTEP that is not one of ours (it would not send
 * the reply back the way it came).
 */
import { VIA_NODE } from "../packet/Batch.js";
import { DropReason } from "../packet/DropReason.js";
import { INSERT_FULL, INSERT_ORIGINAL_TAKEN, INSERT_REPLY_TAKEN } from "../tables/FlowTable.js";
import {
  echoPorts,
  FLAG_ADOPTED,
  FLAG_DNAT,
  FLAG_EGRESS,
  FLAG_HAIRPIN,
  FLAG_PORT_COLLISION,
  FLAG_SNAT,
  FLOW_BACKEND,
  FLOW_FLAGS,
  FLOW_INGRESS,
  FLOW_ORIGINAL,
  FLOW_OUT,
  FLOW_PRIVATE,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_SERVICE,
  FLOW_STATE,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  KEY_TAG,
  OUT_INGRESS,
  OUT_NODE,
  OUT_ROUTE,
  TCP_ADOPTED,
  TCP_CLOSE,
  TCP_END,
  TCP_TIME_WAIT,
  turnedPorts,
} from "../tables/flowLayout.js";
import { ROUTE_PORT, ROUTE_VTEP, routeTarget, routeTo } from "../tables/RouteTable.js";
import { BACKEND_OUTSIDE_POOL } from "../tables/ServiceTable.js";
import type { Tables } from "../tables/TableImage.js";
import * as flowTag from "../wire/flowTag.js";
import * as icmp from "../wire/icmp.js";
import * as ipv4 from "../wire/ipv4.js";
import * as tcp from "../wire/tcp.js";
import { adoptReply } from "./adoptReply.js";
import type { Dataplane } from "./Dataplane.js";
import { applyFlow, followFlow } from "./followFlow.js";
import {
  BALANCE_NO_LOCAL_ENDPOINT,
  BALANCE_OUTSIDE_CLUSTER,
  BALANCE_REJECT,
  BALANCE_SOURCE_RANGE,
  frontendOf,
  isFromInside,
  isLoopbackOfNode,
  isOwn,
  loadBalance,
  nodePortOf,
} from "./loadBalance.js";
import { replaceMoved } from "./movedIngress.js";
import { speaksAsNode } from "./policy.js";
import { reject } from "./reject.js";
import { isFlowShare } from "./StandbyFlows.js";
import { firstState, trackRow } from "./trackRow.js";

/** Ports that are tried where a tuple is taken, before the packet is given up. */
const PORT_TRIES = 128;
/** Of these, the last ones that may end a closing connection (Linux: NF_NAT_HARDER_THRESH). */
const REUSE_TRIES = 32;
/** Where another source port is taken from: above those of servers, below the node's own ranges. */
const FIRST_PORT = 1024;
const PORT_COUNT = 28_000;

/** Decides about row `i`, a packet of no flow. */
export function beginFlow(dp: Dataplane, i: number): void {
  const { batch, tables, services } = dp;
  const source = batch.source[i];
  const destination = batch.destination[i];
  if (batch.vtep[i] >= 0) {
    // Between pods, the sender's node keeps track.
    if (destination === tables.tunnelAddress && isFlowShare(dp, i)) dp.standby.hear(i);
    else if (tables.inPool(source)) {
      if (batch.tag[i] !== 0) adoptReply(dp, i);
    } else if (leadsToPod(tables, destination)) beginPlain(dp, i, source, OUT_INGRESS);
    return;
  }
  const fromNode = batch.port[i] === tables.nodePort;
  const inside = isFromInside(dp, i);
  if (services.size > 0) {
    // Most packets are for no Service: one lookup tells.
    const asked = services.isServiceAddress(destination);
    const row = asked ? frontendOf(dp, i) : nodePortOf(dp, i);
    if (row >= 0) {
      beginService(dp, i, row, inside, fromNode);
      return;
    }
    if (asked) {
      reject(dp, i);
      dp.drop(i, DropReason.noServicePort);
      return;
    }
  }
  if (isLoopbackOfNode(dp, i)) {
    // No NodePort, or one of a program of the node's own: back to the kernel as it was.
    batch.via[i] = VIA_NODE;
  } else if (tables.inPool(destination)) {
    const replyOut = fromNode ? OUT_NODE : OUT_ROUTE;
    if (!inside || !tables.inPool(source)) beginPlain(dp, i, source, replyOut);
    else if (services.size > 0 && (opensTcp(dp, i) || isToUdpEndpoint(dp, i)))
      beginPlain(dp, i, source, replyOut);
  } else if (tables.inServiceRange(destination)) {
    // kube-proxy's nftables rules drop these, so that they do not leave for the default gateway.
    dp.drop(i, DropReason.unallocatedClusterIp);
  } else if (!fromNode && !isOwn(tables, destination)) {
    beginEgress(dp, i);
  }
}

/** A flow whose destination stays. */
function beginPlain(dp: Dataplane, i: number, source: number, replyOut: number): void {
  const { batch } = dp;
  const destination = batch.destination[i];
  insertFlow(
    dp,
    i,
    sourceTowards(dp, destination, source),
    destination,
    batch.ports[i] & 0xffff,
    0,
    0,
    OUT_ROUTE,
    replyOut,
  );
}

function beginService(dp: Dataplane, i: number, row: number, inside: boolean, fromNode: boolean): void {
  const { batch, tables, services } = dp;
  const backend = loadBalance(dp, i, row, inside);
  if (backend < 0) {
    if (backend === BALANCE_REJECT) reject(dp, i);
    dp.drop(i, refusalOf(backend));
    return;
  }
  const source = batch.source[i];
  const to = services.address(backend);
  const l4Port = services.l4Port(backend);
  const id = services.backendId(backend);
  const service = services.service(row);
  const replyOut = fromNode ? OUT_NODE : OUT_ROUTE;
  if ((services.backendFlags(backend) & BACKEND_OUTSIDE_POOL) === 0) {
    insertFlow(dp, i, sourceTowards(dp, to, source), to, l4Port, service, id, OUT_ROUTE, replyOut);
  } else if (isOwn(tables, to) && !fromNode) {
    // A program of this node: the pod's address leads back to us.
    insertFlow(dp, i, source, to, l4Port, service, id, OUT_NODE, replyOut);
  } else {
    insertEgress(dp, i, to, l4Port, service, id, replyOut);
  }
}

function refusalOf(balance: number): DropReason {
  if (balance === BALANCE_NO_LOCAL_ENDPOINT) return DropReason.noLocalEndpoint;
  if (balance === BALANCE_OUTSIDE_CLUSTER) return DropReason.clusterIpFromOutside;
  if (balance === BALANCE_SOURCE_RANGE) return DropReason.sourceRange;
  return DropReason.noEndpoint;
}

/** The source with which a packet reaches a pod so that its reply comes back to us. */
function sourceTowards(dp: Dataplane, to: number, source: number): number {
  const { tables } = dp;
  if (to === source || ipv4.isLoopback(source)) return tables.tunnelAddress;
  if (tables.inPool(source)) return source;
  const route = tables.routes.lookup(to);
  if (routeTo(route) !== ROUTE_VTEP) return source;
  if (isNodes(tables, source) || !tables.fdb.tags(routeTarget(route))) return tables.tunnelAddress;
  return source;
}

// ---- egress -----------------------------------------------------------------------------------

/** From a pod to the outside. */
function beginEgress(dp: Dataplane, i: number): void {
  const { batch, tables } = dp;
  // The route stage answers for what has no way out.
  if (tables.egressSource(batch.destination[i]) === 0) return;
  const protocol = batch.protocol[i];
  if (
    (protocol === ipv4.PROTOCOL_TCP && !opensTcp(dp, i)) ||
    (protocol === ipv4.PROTOCOL_ICMP && dp.view.getUint8(batch.l4[i]) !== icmp.ECHO_REQUEST)
  ) {
    dp.drop(i, DropReason.noFlow);
    return;
  }
  insertEgress(dp, i, batch.destination[i], batch.ports[i] & 0xffff, 0, 0, OUT_ROUTE);
}

/** A flow that leaves with an address of the node and a port of the egress range. */
function insertEgress(
  dp: Dataplane,
  i: number,
  to: number,
  l4Port: number,
  service: number,
  backend: number,
  replyOut: number,
): void {
  const { batch, tables, egressPorts } = dp;
  const source = tables.egressSource(to);
  const protocol = batch.protocol[i];
  if (protocol === ipv4.PROTOCOL_UDP && speaksAsNode(tables, to, l4Port)) {
    // By way of a Service: policy has seen its address only.
    dp.drop(i, DropReason.podVxlan);
    return;
  }
  if (source === 0 || !egressPorts.carries(protocol)) {
    dp.drop(i, DropReason.egressProtocol);
    return;
  }
  if (!draftFlow(dp, i, source, to, l4Port, service, backend, OUT_NODE, replyOut)) return;
  const { draft } = dp;
  draft[FLOW_FLAGS] |= FLAG_SNAT | FLAG_EGRESS;
  egressPorts.start(to, l4Port, protocol, tables.firstEgressPort, tables.lastEgressPort);
  for (let port = egressPorts.next(); port !== 0; port = egressPorts.next()) {
    draft[FLOW_REPLY + KEY_PORTS] = replyPorts(protocol, l4Port, port);
    const result = dp.flows.insert(draft, dp.nowMs);
    if (settled(dp, i, result)) return;
  }
  dp.drop(i, DropReason.egressPorts);
}

// ---- insertion --------------------------------------------------------------------------------

/**
 * Inserts the flow that row `i` begins and sends the row along. `to` and `l4Port` are where it goes,
 * `source` what it leaves with. Where another flow has the reply's tuple already, the source port is
 * another one (what Linux does where a tuple is taken). A client that opens tens of thousands of
 * connections to one backend by several ways within a TIME_WAIT finds all of those taken as well, by
 * connections that are over: then one of them ends early.
 */
function insertFlow(
  dp: Dataplane,
  i: number,
  source: number,
  to: number,
  l4Port: number,
  service: number,
  backend: number,
  out: number,
  replyOut: number,
): void {
  if (!draftFlow(dp, i, source, to, l4Port, service, backend, out, replyOut)) return;
  const { batch, draft, flows } = dp;
  if (replyOut !== OUT_ROUTE) replaceMoved(dp, i);
  if (settled(dp, i, flows.insert(draft, dp.nowMs))) return;
  const protocol = batch.protocol[i];
  const own = batch.ports[i] >>> 16;
  if (own === 0) {
    dp.drop(i, DropReason.tupleTaken);
    return;
  }
  draft[FLOW_FLAGS] |= FLAG_SNAT | FLAG_PORT_COLLISION;
  for (let n = 1; n <= PORT_TRIES; n++) {
    // Steps of a prime, so that tries of one flow do not follow those of the next.
    const port = FIRST_PORT + ((own + n * 7919) % PORT_COUNT);
    draft[FLOW_REPLY + KEY_PORTS] = replyPorts(protocol, l4Port, port);
    let result = flows.insert(draft, dp.nowMs);
    if (result === INSERT_REPLY_TAKEN && n > PORT_TRIES - REUSE_TRIES && mayReplace(dp, i, flows.conflict)) {
      flows.remove(flows.conflict >> 1);
      result = flows.insert(draft, dp.nowMs);
    }
    if (settled(dp, i, result)) return;
  }
  dp.drop(i, DropReason.tupleTaken);
}

/** Fills the draft. False, and the row is done, where no flow begins with such a packet. */
function draftFlow(
  dp: Dataplane,
  i: number,
  source: number,
  to: number,
  l4Port: number,
  service: number,
  backend: number,
  out: number,
  replyOut: number,
): boolean {
  const { batch, tables, draft } = dp;
  const state = firstState(dp, i);
  if (state === 0) {
    // A stray: for a Service nobody would know whose it is; between pods it finds its way.
    if (service !== 0) dp.drop(i, DropReason.noFlow);
    return false;
  }
  const protocol = batch.protocol[i];
  const ports = batch.ports[i];
  const fromSource = batch.source[i];
  const destination = batch.destination[i];
  const tagged = !tables.inPool(source) && routeTo(tables.routes.lookup(to)) === ROUTE_VTEP;
  draft.fill(0);
  draft[FLOW_PROTOCOL] = protocol;
  draft[FLOW_STATE] = state;
  draft[FLOW_ORIGINAL + KEY_SOURCE] = fromSource;
  draft[FLOW_ORIGINAL + KEY_DESTINATION] = destination;
  draft[FLOW_ORIGINAL + KEY_PORTS] = ports;
  draft[FLOW_ORIGINAL + KEY_TAG] = batch.tag[i];
  draft[FLOW_REPLY + KEY_SOURCE] = to;
  draft[FLOW_REPLY + KEY_DESTINATION] = source;
  draft[FLOW_REPLY + KEY_PORTS] = replyPorts(protocol, l4Port, ports >>> 16);
  draft[FLOW_REPLY + KEY_TAG] = tagged ? flowTag.of(destination, ports & 0xffff, protocol) : 0;
  let flags = state === TCP_ADOPTED ? FLAG_ADOPTED : 0;
  if (to !== destination) flags |= FLAG_DNAT;
  if (source !== fromSource) flags |= to === fromSource ? FLAG_SNAT | FLAG_HAIRPIN : FLAG_SNAT;
  draft[FLOW_FLAGS] = flags;
  draft[FLOW_OUT] = out;
  draft[FLOW_OUT + 1] = replyOut;
  draft[FLOW_INGRESS] = replyOut === OUT_INGRESS ? tables.fdb.address(batch.vtep[i]) : 0;
  draft[FLOW_SERVICE] = service;
  draft[FLOW_BACKEND] = backend;
  return true;
}

/** What the reply has for ports, when the one who answers has `l4Port` and the asker is seen with `port`. */
function replyPorts(protocol: number, l4Port: number, port: number): number {
  if (protocol === ipv4.PROTOCOL_ICMP) return echoPorts(icmp.ECHO_REPLY, port);
  return turnedPorts((port << 16) | l4Port);
}

/** Whether row `i` is settled by what insert returned; not where the reply's tuple is taken. */
function settled(dp: Dataplane, i: number, result: number): boolean {
  const { batch, flows } = dp;
  if (result >= 0) {
    batch.flow[i] = result;
    batch.direction[i] = 0;
    trackRow(dp, i);
    if (batch.fragment[i] !== 0) dp.fragments.noteFlow(dp, i);
    applyFlow(dp, i);
    return true;
  }
  if (result === INSERT_FULL) {
    dp.drop(i, DropReason.conntrackFull);
    return true;
  }
  if (result !== INSERT_ORIGINAL_TAKEN) return false;
  // A packet before this one in the batch, or the other thread, began it.
  batch.flow[i] = flows.conflict >> 1;
  batch.direction[i] = flows.conflict & 1;
  if (!followFlow(dp, i)) dp.drop(i, DropReason.tupleTaken);
  return true;
}

// ---- questions --------------------------------------------------------------------------------

/** Whether an address is one of a node, with which nothing may come out of the tunnel (policy). */
function isNodes(tables: Tables, address: number): boolean {
  return isOwn(tables, address) || tables.fdb.find(address) >= 0;
}

function leadsToPod(tables: Tables, address: number): boolean {
  const route = tables.routes.lookup(address);
  return routeTo(route) === ROUTE_PORT && routeTarget(route) !== tables.nodePort;
}

/**
 * Whether row `i`, which opens a TCP connection, may have the tuple of the flow in `conflict`: one
 * that is closed, whose client has another port than it knows itself, and behind whose last sequence
 * number this one begins, so that the server takes the SYN for a new connection's (Linux:
 * nf_nat_may_kill, nf_seq_has_advanced).
 */
function mayReplace(dp: Dataplane, i: number, conflict: number): boolean {
  const { batch, flows, view } = dp;
  if (conflict < 0 || (conflict & 1) === 0 || !opensTcp(dp, i)) return false;
  const { words } = flows;
  const base = flows.base(conflict >> 1);
  const state = words[base + FLOW_STATE];
  if (state !== TCP_TIME_WAIT && state !== TCP_CLOSE) return false;
  if ((words[base + FLOW_FLAGS] & FLAG_SNAT) === 0) return false;
  const sequence = view.getInt32(batch.l4[i] + tcp.SEQUENCE);
  return ((sequence - words[base + FLOW_PRIVATE + TCP_END]) | 0) > 0;
}

/**
 * Whether row `i` is a datagram to a port at which Services have endpoints. Its socket may talk to the
 * same pod by way of a Service, and then one of the two has to have another source port, or answers to
 * one would be translated as those to the other are.
 */
function isToUdpEndpoint(dp: Dataplane, i: number): boolean {
  const { batch, services } = dp;
  return batch.protocol[i] === ipv4.PROTOCOL_UDP && services.isUdpEndpointPort(batch.ports[i] & 0xffff);
}

/** Whether row `i` is the first segment of a TCP connection. */
function opensTcp(dp: Dataplane, i: number): boolean {
  const { batch, view } = dp;
  if (batch.protocol[i] !== ipv4.PROTOCOL_TCP) return false;
  const flags = view.getUint8(batch.l4[i] + tcp.FLAGS);
  return (flags & (tcp.SYN | tcp.ACK | tcp.RST)) === tcp.SYN;
}
