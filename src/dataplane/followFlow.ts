/** What becomes of a packet that belongs to a flow: its state machine, its translation, its way out. */
import { VIA_NODE } from "../packet/Batch.js";
import { DropReason } from "../packet/DropReason.js";
import {
  FLOW_INGRESS,
  FLOW_ORIGINAL,
  FLOW_OUT,
  FLOW_REPLY,
  FLOW_STATE,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  KEY_TAG,
  OUT_INGRESS,
  OUT_NODE,
  STATE_FREE,
  STATE_STANDBY,
  turnedPorts,
} from "../tables/flowLayout.js";
import type { Dataplane } from "./Dataplane.js";
import { hasDeadIngress, noteIngress, turnReply } from "./movedIngress.js";
import { wakeStandby } from "./StandbyFlows.js";
import { trackRow } from "./trackRow.js";
import { translate } from "./translate.js";

/**
 * Takes row `i` along with the flow in its columns. False where that flow has ended, or ends with
 * this packet, which is then the first of another.
 */
export function followFlow(dp: Dataplane, i: number): boolean {
  const { batch, flows } = dp;
  const state = flows.words[flows.base(batch.flow[i]) + FLOW_STATE];
  if (state === STATE_FREE || (state === STATE_STANDBY && !wakeStandby(dp, i)) || !trackRow(dp, i)) {
    batch.flow[i] = -1;
    return false;
  }
  noteIngress(dp, i);
  if (batch.fragment[i] !== 0) dp.fragments.noteFlow(dp, i);
  applyFlow(dp, i);
  return true;
}

/** Translates row `i`, a packet of the flow in its columns, and says where it goes. */
export function applyFlow(dp: Dataplane, i: number): void {
  const { batch, flows } = dp;
  const { words } = flows;
  const direction = batch.direction[i];
  let base = flows.base(batch.flow[i]);
  if (direction === 1 && words[base + FLOW_OUT + 1] === OUT_INGRESS && hasDeadIngress(dp, base)) {
    turnReply(dp, i);
    base = flows.base(batch.flow[i]);
  }
  // What leaves is the other direction's key turned round.
  const key = base + (direction === 0 ? FLOW_REPLY : FLOW_ORIGINAL);
  const ports = turnedPorts(words[key + KEY_PORTS]);
  if (!translate(dp, i, words[key + KEY_DESTINATION], words[key + KEY_SOURCE], ports)) {
    dp.drop(i, DropReason.untranslatable);
    if (batch.fragment[i] !== 0) dp.fragments.noteVerdict(dp, i);
    return;
  }
  batch.tag[i] = words[key + KEY_TAG];
  takeWayOut(dp, i, base, direction);
}

/** Says where row `i` goes that travels in `direction` of the flow with base index `base`. */
export function takeWayOut(dp: Dataplane, i: number, base: number, direction: number): void {
  const { batch, flows, tables } = dp;
  const { words } = flows;
  const out = words[base + FLOW_OUT + direction];
  if (out === OUT_NODE) batch.via[i] = VIA_NODE;
  else if (out === OUT_INGRESS) {
    const vtep = tables.fdb.byUnderlay(words[base + FLOW_INGRESS]);
    if (vtep >= 0) batch.via[i] = vtep;
    else dp.drop(i, DropReason.ingressGone);
  }
}

/** Gives row `i` back the addresses, ports and tag with which it arrived. */
export function untranslate(dp: Dataplane, i: number): void {
  const { batch, flows } = dp;
  if (batch.flow[i] < 0) return;
  const { words } = flows;
  const key = flows.base(batch.flow[i]) + (batch.direction[i] === 0 ? FLOW_ORIGINAL : FLOW_REPLY);
  translate(dp, i, words[key + KEY_SOURCE], words[key + KEY_DESTINATION], words[key + KEY_PORTS]);
  batch.tag[i] = words[key + KEY_TAG];
}
