/**
 * Stage route: where a packet goes, as a router decides it (RFC 1812 §5.2). Steps, in order:
 *   1. destinations that are never routed
 *   2. the way that the packet's flow says, else the longest matching prefix
 *   3. what comes from the tunnel does not go back into it
 *   4. TTL, unless the packet is for the node itself or was routed by its kernel, which has done it;
 *      that of what raw sockets heard always, so that it ends if it goes round
 *   5. length against the MTU
 * A packet that fails gets the ICMP error that a router sends.
 */
import { KIND_IPV4, PENDING, TO_TAP, TO_VTEP, VIA_NODE, VIA_ROUTE } from "../packet/Batch.js";
import { DropReason } from "../packet/DropReason.js";
import {
  NO_ROUTE,
  ROUTE_PORT,
  ROUTE_UNREACHABLE,
  ROUTE_VTEP,
  routeOf,
  routeTarget,
  routeTo,
} from "../tables/RouteTable.js";
import * as ethernet from "../wire/ethernet.js";
import * as icmp from "../wire/icmp.js";
import * as ipv4 from "../wire/ipv4.js";
import * as tcp from "../wire/tcp.js";
import * as udp from "../wire/udp.js";
import * as virtioNet from "../wire/virtioNet.js";
import type { Dataplane } from "./Dataplane.js";
import { sendIcmpError } from "./icmpError.js";

export function route(dp: Dataplane): void {
  const { batch, tables, view } = dp;
  const { verdict, kind, destination, vtep, port, l3, length, gsoType, out, via, heard } = batch;
  const { nodePort, routes } = tables;
  const limit = tables.mtu + ethernet.HEADER;
  // Runs of one flow: what held for the row before often holds.
  let lastDestination = tables.tunnelAddress;
  let lastRoute = routes.lookup(lastDestination);
  for (let i = 0; i < batch.count; i++) {
    if (verdict[i] !== PENDING || kind[i] !== KIND_IPV4) continue;
    const dst = destination[i];
    let found = NO_ROUTE;
    if (via[i] !== VIA_ROUTE) {
      found = via[i] === VIA_NODE ? routeOf(ROUTE_PORT, nodePort) : routeOf(ROUTE_VTEP, via[i]);
    } else if (dst !== lastDestination) {
      if (ipv4.isMulticast(dst)) {
        dp.drop(i, DropReason.multicast);
        continue;
      }
      if (ipv4.isLoopback(dst) || ipv4.isThisNetwork(dst) || ipv4.isReserved(dst)) {
        dp.drop(i, DropReason.martian);
        continue;
      }
      lastDestination = dst;
      lastRoute = routes.lookup(dst);
    }
    if (via[i] === VIA_ROUTE) found = lastRoute;
    if (found === NO_ROUTE || (via[i] === VIA_NODE && nodePort < 0)) {
      sendIcmpError(dp, i, icmp.UNREACHABLE, icmp.NETWORK_UNREACHABLE, 0);
      dp.drop(i, DropReason.noRoute);
      continue;
    }
    const to = routeTo(found);
    const target = routeTarget(found);
    if (to === ROUTE_UNREACHABLE) {
      sendIcmpError(dp, i, icmp.UNREACHABLE, icmp.HOST_UNREACHABLE, 0);
      dp.drop(i, DropReason.hostUnreachable);
      continue;
    }
    const fromTunnel = vtep[i] >= 0;
    const fromNode = port[i] === nodePort;
    const toNode = to === ROUTE_PORT && target === nodePort;
    // What a rule brought to podwire0 and is no Service goes back to the node's own programs.
    const back = via[i] !== VIA_ROUTE || dst !== tables.tunnelAddress;
    if ((fromTunnel && to === ROUTE_VTEP) || (fromNode && toNode && !back)) {
      dp.drop(i, DropReason.transit);
      continue;
    }
    if ((!fromNode && !toNode) || heard[i] !== 0) {
      if (ipv4.ttl(view, l3[i]) <= 1) {
        sendIcmpError(dp, i, icmp.TIME_EXCEEDED, 0, 0);
        dp.drop(i, DropReason.ttlExceeded);
        continue;
      }
      ipv4.decrementTtl(view, l3[i]);
    }
    out[i] = target;
    verdict[i] = to === ROUTE_VTEP ? TO_VTEP : TO_TAP;
    // What the tunnel brought may be a whole TSO frame of a virtual link: it is not measured.
    if (!fromTunnel && length[i] > limit) {
      if (gsoType[i] === virtioNet.GSO_NONE || segmentHeaders(dp, i) + batch.gsoSize[i] > limit)
        tooLong(dp, i);
    }
  }
}

/** Bytes of a GSO frame that each of its segments has again, from the Ethernet header on. */
export function segmentHeaders(dp: Dataplane, i: number): number {
  const { batch, view } = dp;
  const l4 = batch.l4[i];
  const header = batch.protocol[i] === ipv4.PROTOCOL_TCP ? tcp.headerLength(view, l4) : udp.HEADER;
  return l4 + header - batch.offset[i];
}

/** Step 5 for a packet that is too long. What may be fragmented is, on its way out. */
function tooLong(dp: Dataplane, i: number): void {
  const { batch, view, tables } = dp;
  if ((ipv4.fragment(view, batch.l3[i]) & ipv4.DONT_FRAGMENT) !== 0) {
    sendIcmpError(dp, i, icmp.UNREACHABLE, icmp.FRAGMENTATION_NEEDED, tables.mtu);
    dp.drop(i, DropReason.fragmentationNeeded);
  } else if (batch.gsoType[i] === virtioNet.GSO_TCPV4) {
    const l4 = batch.l4[i];
    batch.gsoSize[i] = tables.mtu - (l4 - batch.l3[i]) - tcp.headerLength(view, l4);
  } else if (batch.gsoType[i] !== virtioNet.GSO_NONE || batch.l4[i] - batch.l3[i] > ipv4.HEADER_MIN) {
    // UDP segments of a size the sender asked for, or options, which fragments would have to sort.
    dp.drop(i, DropReason.oversize);
  }
}
