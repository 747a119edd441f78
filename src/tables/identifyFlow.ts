/**
 * Which Service and backend a flow belongs to, found out by its addresses where its record does not
 * say; and UDP flows that began before the address they ask for became a Service's.
 */
import type { FlowTable } from "./FlowTable.js";
import {
  FLAG_DNAT,
  FLOW_BACKEND,
  FLOW_FLAGS,
  FLOW_ORIGINAL,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_SERVICE,
  FLOW_STATE,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  STATE_FREE,
} from "./flowLayout.js";
import type { ServiceTable } from "./ServiceTable.js";

const UDP = 17;

/**
 * Gives the flow in a record its numbers if it lacks them: what the client asked for is a Service's
 * address, or else a node port. A UDP flow whose backend does not belong to that Service (no longer, or
 * it goes to the address itself, by egress) is removed, as kube-proxy does (conntrack/cleanup.go): its
 * client may never begin another. Within a breath. False where it is a Service's and nobody has that
 * address now.
 */
export function identifyFlow(flows: FlowTable, services: ServiceTable, record: number): boolean {
  const { words } = flows;
  const base = flows.base(record);
  if (words[base + FLOW_STATE] === STATE_FREE || words[base + FLOW_SERVICE] !== 0) return true;
  const protocol = words[base + FLOW_PROTOCOL];
  const translated = (words[base + FLOW_FLAGS] & FLAG_DNAT) !== 0;
  if (!translated && protocol !== UDP) return true;
  const destination = words[base + FLOW_ORIGINAL + KEY_DESTINATION];
  const l4Port = words[base + FLOW_ORIGINAL + KEY_PORTS] & 0xffff;
  let row = services.find(destination, protocol, l4Port);
  if (!translated) {
    if (row >= 0) flows.remove(record);
    return true;
  }
  if (row < 0 && !services.isServiceAddress(destination)) row = services.findNodePort(protocol, l4Port);
  if (row < 0) return false;
  const address = words[base + FLOW_REPLY + KEY_SOURCE];
  const port = words[base + FLOW_REPLY + KEY_PORTS] >>> 16;
  const inside = memberOf(services, services.insideRing(row), address, port);
  const backend = inside >= 0 ? inside : memberOf(services, services.outsideRing(row), address, port);
  if (backend < 0 && protocol === UDP) {
    flows.remove(record);
    return true;
  }
  words[base + FLOW_SERVICE] = services.service(row);
  if (backend >= 0) words[base + FLOW_BACKEND] = services.backendId(backend);
  return true;
}

/** The backend of a ring with this address and port; -1 without. */
function memberOf(services: ServiceTable, ring: number, address: number, port: number): number {
  if (ring < 0) return -1;
  for (let i = 0; i < services.count(ring); i++) {
    const member = services.member(ring, i);
    if (services.address(member) === address && services.l4Port(member) === port) return member;
  }
  return -1;
}
