/**
 * Connections from outside whose ingress moves to another node, as that of a load-balancer address
 * does when its owner dies. The new ingress comes to the same backend by the ring and takes the
 * connection up in mid-stream (beginFlow); the backend's node finds out by one of these:
 *
 *   the client's packet comes by         while its flow says           what happens
 *   a VTEP                               another VTEP                  noteIngress: replies turn
 *   this node (LAN)                      a VTEP                        replaceMoved: another record in
 *   a VTEP                               this node (LAN)               the old one's place, which sleeps on
 *
 *   a reply leaves                       by a VTEP that is dead        turnReply: by the owner of the
 *                                                                      address, as nodes now stand
 *
 * The last one is for clients that only listen: without it a server's retransmissions would go to the
 * dead node for ever. The new owner that is sent a reply of no flow begins one (adoptReply).
 *
 * What tells that it is one connection is the tag, which stands for the address and port that the
 * client asked for. Only podwire's nodes send tags (Fdb.tags), and no pod can have a frame sent with the
 * source of somebody outside (policy, egress), so no pod can turn another's replies. Known limit: a
 * connection that had another source port in the local form only (two addresses, one client port, one
 * pod) does not survive a move from the pod's own node to another.
 */
import { INSERT_ORIGINAL_TAKEN } from "../tables/FlowTable.js";
import {
  FLAG_ADOPTED,
  FLAG_DNAT,
  FLAG_PORT_COLLISION,
  FLAG_SNAT,
  FLOW_FLAGS,
  FLOW_INGRESS,
  FLOW_ORIGINAL,
  FLOW_OUT,
  FLOW_PRIVATE,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_STATE,
  FLOW_WORDS,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  KEY_TAG,
  OUT_INGRESS,
  OUT_NODE,
  STATE_FREE,
  STATE_STANDBY,
  TCP_CLOSE,
  TCP_SYN_SENT,
  TCP_TIME_WAIT,
} from "../tables/flowLayout.js";
import { THIS_NODE } from "../tables/VipTable.js";
import * as flowTag from "../wire/flowTag.js";
import type { Dataplane } from "./Dataplane.js";

/** Row `i` belongs to a flow: where it is a client's and came by another VTEP than before, replies return there. */
export function noteIngress(dp: Dataplane, i: number): void {
  const { batch, flows, tables } = dp;
  const vtep = batch.vtep[i];
  if (vtep < 0 || batch.direction[i] !== 0) return;
  const { words } = flows;
  const base = flows.base(batch.flow[i]);
  if (words[base + FLOW_OUT + 1] !== OUT_INGRESS) return;
  const address = tables.fdb.address(vtep);
  if (words[base + FLOW_INGRESS] !== address && tables.fdb.tags(vtep)) words[base + FLOW_INGRESS] = address;
}

/**
 * Removes the flow that the draft of row `i` is the other form of, if there is one, and lets the draft
 * go on where it was: state, what its protocol knows, and the client's port as the pod sees it. The form
 * by which this node was the ingress is not forgotten but goes to sleep: the address may come back before
 * its new owner has told of the connection.
 */
export function replaceMoved(dp: Dataplane, i: number): void {
  const { flows, draft } = dp;
  const comesByVtep = draft[FLOW_OUT + 1] === OUT_INGRESS;
  const record = comesByVtep ? localForm(dp, i) : tunnelForm(dp);
  if (record < 0) return;
  const { words } = flows;
  const base = flows.base(record);
  const state = words[base + FLOW_STATE];
  const over = state === TCP_TIME_WAIT || state === TCP_CLOSE;
  if (!over || draft[FLOW_STATE] !== TCP_SYN_SENT) {
    draft[FLOW_STATE] = state;
    for (let w = FLOW_PRIVATE; w < FLOW_WORDS; w++) draft[w] = words[base + w];
  }
  draft[FLOW_REPLY + KEY_PORTS] = words[base + FLOW_REPLY + KEY_PORTS];
  const flags = words[base + FLOW_FLAGS] & (FLAG_SNAT | FLAG_PORT_COLLISION);
  draft[FLOW_FLAGS] |= flags;
  if (comesByVtep && !over && (flags & FLAG_SNAT) === 0) fallAsleep(dp, record, draft[FLOW_INGRESS]);
  else flows.remove(record);
}

/**
 * Puts a standby flow in the place of a record by which this node was the ingress for a pod of its own,
 * as though `ingress`, the underlay address of the node that is it now, had told of it.
 */
function fallAsleep(dp: Dataplane, record: number, ingress: number): void {
  const { flows, sleeper } = dp;
  const { words } = flows;
  const base = flows.base(record);
  const key = base + FLOW_ORIGINAL;
  for (let w = 0; w < FLOW_PRIVATE; w++) sleeper[w] = words[base + w];
  sleeper.fill(0, FLOW_PRIVATE);
  const asked = words[key + KEY_DESTINATION];
  sleeper[FLOW_REPLY + KEY_TAG] = flowTag.of(
    asked,
    words[key + KEY_PORTS] & 0xffff,
    words[base + FLOW_PROTOCOL],
  );
  sleeper[FLOW_STATE] = STATE_STANDBY;
  sleeper[FLOW_FLAGS] = FLAG_DNAT | FLAG_ADOPTED;
  sleeper[FLOW_INGRESS] = ingress;
  flows.remove(record);
  if (dp.tables.vips.find(asked) >= 0) flows.insert(sleeper, dp.nowMs);
}

/** The draft is of a client's packet that came from the LAN, for a pod of this node: its flow by a VTEP. */
function tunnelForm(dp: Dataplane): number {
  const { flows, draft } = dp;
  if (draft[FLOW_OUT + 1] !== OUT_NODE || (draft[FLOW_FLAGS] & (FLAG_DNAT | FLAG_SNAT)) !== FLAG_DNAT)
    return -1;
  const ports = draft[FLOW_ORIGINAL + KEY_PORTS];
  const protocol = draft[FLOW_PROTOCOL];
  const found = flows.find(
    draft[FLOW_ORIGINAL + KEY_SOURCE],
    draft[FLOW_REPLY + KEY_SOURCE],
    (ports & ~0xffff) | (draft[FLOW_REPLY + KEY_PORTS] >>> 16),
    protocol,
    flowTag.of(draft[FLOW_ORIGINAL + KEY_DESTINATION], ports & 0xffff, protocol),
  );
  if (found < 0 || (found & 1) !== 0) return -1;
  return flows.words[flows.base(found >> 1) + FLOW_OUT + 1] === OUT_INGRESS ? found >> 1 : -1;
}

/** The draft is of a client's packet that came by a VTEP, for a pod of this node: its flow from the LAN. */
function localForm(dp: Dataplane, i: number): number {
  const { batch, flows, draft, tables } = dp;
  const tag = draft[FLOW_ORIGINAL + KEY_TAG];
  if (tag === 0 || !tables.fdb.tags(batch.vtep[i])) return -1;
  const reply = FLOW_REPLY;
  const protocol = draft[FLOW_PROTOCOL];
  const found = flows.find(
    draft[reply + KEY_SOURCE],
    draft[reply + KEY_DESTINATION],
    draft[reply + KEY_PORTS],
    protocol,
    draft[reply + KEY_TAG],
  );
  if (found < 0 || (found & 1) === 0) return -1;
  const { words } = flows;
  const base = flows.base(found >> 1);
  const key = base + FLOW_ORIGINAL;
  const ports = words[key + KEY_PORTS];
  const same =
    words[base + FLOW_OUT + 1] === OUT_NODE &&
    words[key + KEY_SOURCE] === draft[FLOW_ORIGINAL + KEY_SOURCE] &&
    ports >>> 16 === draft[FLOW_ORIGINAL + KEY_PORTS] >>> 16 &&
    flowTag.of(words[key + KEY_DESTINATION], ports & 0xffff, protocol) === tag;
  return same ? found >> 1 : -1;
}

/** Whether the VTEP that replies of the flow at `base` return by (OUT_INGRESS) is dead, or none any more. */
export function hasDeadIngress(dp: Dataplane, base: number): boolean {
  const vtep = dp.tables.fdb.byUnderlay(dp.flows.words[base + FLOW_INGRESS]);
  return vtep < 0 || dp.liveness.down[vtep] !== 0;
}

/**
 * Row `i` is a reply of a flow whose ingress is dead: from now on its replies return by the owner of
 * the load-balancer address that its tag stands for. Where that is this node, the flow's record is
 * replaced by one of the local form, and so is the flow in the row's columns.
 */
export function turnReply(dp: Dataplane, i: number): void {
  const { batch, flows, tables, vipTags } = dp;
  const base = flows.base(batch.flow[i]);
  const slot = vipTags.find(flows.words[base + FLOW_ORIGINAL + KEY_TAG]);
  if (slot < 0) return;
  const row = tables.vips.find(vipTags.address(slot));
  if (row < 0) return;
  const owner = tables.vips.owner(row, dp.liveness.up);
  if (owner === THIS_NODE) becomeIngress(dp, i, vipTags.address(slot), vipTags.l4Port(slot));
  else if (owner >= 0 && tables.fdb.used(owner)) flows.words[base + FLOW_INGRESS] = tables.fdb.address(owner);
}

function becomeIngress(dp: Dataplane, i: number, address: number, l4Port: number): void {
  const { batch, flows, draft } = dp;
  const { words } = flows;
  const record = batch.flow[i];
  const base = flows.base(record);
  if (words[base + FLOW_STATE] === STATE_FREE) return;
  for (let w = 0; w < FLOW_WORDS; w++) draft[w] = words[base + w];
  draft[FLOW_ORIGINAL + KEY_DESTINATION] = address;
  draft[FLOW_ORIGINAL + KEY_PORTS] = (draft[FLOW_ORIGINAL + KEY_PORTS] & ~0xffff) | l4Port;
  draft[FLOW_ORIGINAL + KEY_TAG] = 0;
  draft[FLOW_FLAGS] |= FLAG_DNAT;
  draft[FLOW_OUT + 1] = OUT_NODE;
  draft[FLOW_INGRESS] = 0;
  flows.remove(record);
  let inserted = flows.insert(draft, dp.nowMs);
  if (inserted === INSERT_ORIGINAL_TAKEN) {
    // Left from an earlier time as ingress, with another backend: the one that speaks is right.
    flows.remove(flows.conflict >> 1);
    inserted = flows.insert(draft, dp.nowMs);
  }
  if (inserted >= 0) batch.flow[i] = inserted;
}
