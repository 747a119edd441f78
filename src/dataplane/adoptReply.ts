/**
 * A reply of a load-balancer address's backend that comes by a VTEP and belongs to no flow of this
 * node: its connection's ingress was a node that died, and the backend's node sends its replies here,
 * since this node is the address's owner now (movedIngress). The tag says which address and port the
 * client asked for, so that the reply alone begins the flow, and the client need not speak first.
 */
import { COUNT_REPLIES_ADOPTED } from "../packet/counters.js";
import {
  FLAG_ADOPTED,
  FLAG_DNAT,
  FLOW_FLAGS,
  FLOW_ORIGINAL,
  FLOW_OUT,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_STATE,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  KEY_TAG,
  OUT_NODE,
  OUT_ROUTE,
} from "../tables/flowLayout.js";
import { identifyFlow } from "../tables/identifyFlow.js";
import { THIS_NODE } from "../tables/VipTable.js";
import type { Dataplane } from "./Dataplane.js";
import { applyFlow } from "./followFlow.js";
import { firstState, trackRow } from "./trackRow.js";

/** Row `i`, from a pod behind a VTEP, has a tag and no flow: begins one where it is such a reply. */
export function adoptReply(dp: Dataplane, i: number): void {
  const { batch, draft, flows, tables, vipTags } = dp;
  const source = batch.source[i];
  const destination = batch.destination[i];
  const protocol = batch.protocol[i];
  const tag = batch.tag[i];
  if (!tables.fdb.tags(batch.vtep[i]) || tables.inPool(destination)) return;
  const slot = vipTags.find(tag);
  if (slot < 0 || vipTags.protocol(slot) !== protocol) return;
  const address = vipTags.address(slot);
  const row = tables.vips.find(address);
  if (row < 0 || tables.vips.place(row, THIS_NODE) < 0) return;
  const state = firstState(dp, i);
  if (state === 0) return;
  const ports = batch.ports[i];
  draft.fill(0);
  draft[FLOW_PROTOCOL] = protocol;
  draft[FLOW_STATE] = state;
  draft[FLOW_ORIGINAL + KEY_SOURCE] = destination;
  draft[FLOW_ORIGINAL + KEY_DESTINATION] = address;
  draft[FLOW_ORIGINAL + KEY_PORTS] = (ports << 16) | vipTags.l4Port(slot);
  draft[FLOW_REPLY + KEY_SOURCE] = source;
  draft[FLOW_REPLY + KEY_DESTINATION] = destination;
  draft[FLOW_REPLY + KEY_PORTS] = ports;
  draft[FLOW_REPLY + KEY_TAG] = tag;
  draft[FLOW_FLAGS] = FLAG_DNAT | FLAG_ADOPTED;
  draft[FLOW_OUT] = OUT_ROUTE;
  draft[FLOW_OUT + 1] = OUT_NODE;
  const record = flows.insert(draft, dp.nowMs);
  if (record < 0) return;
  dp.counters[COUNT_REPLIES_ADOPTED]++;
  batch.flow[i] = record;
  batch.direction[i] = 1;
  trackRow(dp, i);
  if (batch.fragment[i] !== 0) dp.fragments.noteFlow(dp, i);
  applyFlow(dp, i);
  identifyFlow(flows, dp.services, record);
}
