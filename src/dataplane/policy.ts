/**
 * Stage policy: who may send what.
 *   any frame     source never loopback, 0/8, group or reserved; but for the node's own to a NodePort
 *                 of 127.0.0.1, which a rule brings here
 *   from a pod    source is the pod's own address; no VXLAN or BFD to a node, nothing about flows
 *   from a VTEP   a source in a pod pool must route back to that VTEP; never a node's own address
 *                 or link-local
 *   from the node whatever else its kernel sends
 */
import { KIND_IPV4, PENDING } from "../packet/Batch.js";
import { DropReason } from "../packet/DropReason.js";
import { ROLE_NODE, ROLE_POD } from "../tables/PortTable.js";
import { ROUTE_VTEP, routeTarget, routeTo } from "../tables/RouteTable.js";
import type { Tables } from "../tables/TableImage.js";
import * as ipv4 from "../wire/ipv4.js";
import * as udp from "../wire/udp.js";
import type { Dataplane } from "./Dataplane.js";

export function policy(dp: Dataplane): void {
  const { batch, tables } = dp;
  const { verdict, kind, source, destination, vtep, port, protocol, ports } = batch;
  // Trains hold runs of one flow: the answer for the row before often is the answer.
  let lastSource = 0;
  let lastVtep = -2;
  for (let i = 0; i < batch.count; i++) {
    if (verdict[i] !== PENDING || kind[i] !== KIND_IPV4) continue;
    const src = source[i];
    if (src === lastSource && vtep[i] === lastVtep) continue;
    if (ipv4.isLoopback(src) || ipv4.isThisNetwork(src) || ipv4.isMulticast(src) || ipv4.isReserved(src)) {
      if (
        !ipv4.isLoopback(src) ||
        port[i] !== tables.nodePort ||
        vtep[i] >= 0 ||
        !ipv4.isLoopback(destination[i])
      )
        dp.drop(i, DropReason.martian);
    } else if (vtep[i] >= 0) {
      if (belongsBehind(tables, src, vtep[i])) {
        lastSource = src;
        lastVtep = vtep[i];
      } else {
        dp.drop(i, DropReason.vtepSource);
      }
    } else {
      const role = tables.ports.role(port[i]);
      if (role === ROLE_POD) {
        if (src !== tables.ports.address(port[i])) {
          dp.drop(i, DropReason.forgedSource);
        } else if (
          protocol[i] === ipv4.PROTOCOL_UDP &&
          speaksAsNode(tables, destination[i], ports[i] & 0xffff)
        ) {
          dp.drop(i, DropReason.podVxlan);
        }
      } else if (role !== ROLE_NODE) {
        // The port has gone from the tables while frames of it were still in the queue.
        dp.drop(i, DropReason.portDown);
      }
    }
  }
}

function belongsBehind(tables: Tables, source: number, vtep: number): boolean {
  if (tables.inPool(source)) {
    const route = tables.routes.lookup(source);
    return routeTo(route) === ROUTE_VTEP && routeTarget(route) === vtep;
  }
  return source !== tables.underlayAddress && !ipv4.isLinkLocal(source) && tables.fdb.byUnderlay(source) < 0;
}

/** Whether a datagram to this address and port would reach what nodes tell each other: VXLAN, BFD, flows. */
export function speaksAsNode(tables: Tables, destination: number, l4Port: number): boolean {
  // Hardly any datagram has such a port: a few comparisons in the place of a lookup.
  const { firstVxlanPort, lastVxlanPort } = tables;
  if ((l4Port < firstVxlanPort || l4Port > lastVxlanPort) && !isBetweenNodes(l4Port)) return false;
  if (destination === tables.underlayAddress || destination === tables.tunnelAddress) {
    return l4Port === tables.vxlanPort || isBetweenNodes(l4Port);
  }
  const vtep = tables.fdb.find(destination);
  return vtep >= 0 && (l4Port === tables.fdb.udpPort(vtep) || isBetweenNodes(l4Port));
}

function isBetweenNodes(l4Port: number): boolean {
  return l4Port === udp.PORT_BFD || l4Port === udp.PORT_FLOW_SHARE;
}
