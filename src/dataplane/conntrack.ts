/**
 * Stage conntrack: finds the flow of each packet and does with it what the flow says; a packet that
 * belongs to none may begin one (beginFlow). Steps, for the whole batch:
 *   1. ICMP errors follow the packet that they are about
 *   2. one lookup for all others, but for later fragments
 *   3. hit: state, then translation and way out; miss: beginFlow
 *   4. later fragments follow their first one, which may have come in the same batch, or wait for it
 *
 * What is tracked: flows of Services, flows whose client or server is outside of the pod pools, and,
 * where there are Services, TCP connections that local pods open, and UDP of theirs to ports at which
 * Services have endpoints (so that a client port which talks to a pod is not used for another flow to
 * the same pod by way of a Service). All other packets between pods pass: their way back is that of any
 * packet.
 */
import { type Batch, KIND_IPV4, PENDING, VIA_NODE, VIA_ROUTE } from "../packet/Batch.js";
import { DropReason } from "../packet/DropReason.js";
import { FLAG_EGRESS, FLOW_FLAGS } from "../tables/flowLayout.js";
import * as ipv4 from "../wire/ipv4.js";
import { beginFlow } from "./beginFlow.js";
import type { Dataplane } from "./Dataplane.js";
import { followFlow } from "./followFlow.js";
import { translateIcmpError } from "./icmpFlow.js";
import { frontendOf } from "./loadBalance.js";

export function conntrack(dp: Dataplane): void {
  const { batch, flows, rows, repeats, keys } = dp;
  const { verdict, kind, fragment, protocol, ports, flow, direction } = batch;
  const { source, destination, tag, heard, via } = batch;
  let count = 0;
  let keyCount = 0;
  let laterFragments = 0;
  for (let i = 0; i < batch.count; i++) {
    if (verdict[i] !== PENDING || kind[i] !== KIND_IPV4) continue;
    if ((fragment[i] & ipv4.FRAGMENT_OFFSET) !== 0) laterFragments++;
    else if (protocol[i] === ipv4.PROTOCOL_ICMP && ports[i] === 0) {
      const record = translateIcmpError(dp, i);
      if (record < 0 || staysAtNode(dp, i, record)) dropHeard(dp, i);
      if (fragment[i] !== 0 && record < 0) dp.fragments.noteVerdict(dp, i);
    } else {
      // Packets of one flow often come together: only the first of them is looked up.
      const again = count > 0 && isLike(batch, i, rows[count - 1]);
      repeats[count] = again ? 1 : 0;
      rows[count++] = i;
      if (!again) keys[keyCount++] = i;
    }
  }
  // Without flows there is nothing to look up; the columns say "none" from the start.
  if (flows.size > 0) {
    flows.lookup(keys, keyCount, source, destination, ports, protocol, tag, flow, direction);
  }
  // What began nothing begins nothing the next time.
  let passes = false;
  for (let n = 0; n < count; n++) {
    const i = rows[n];
    if (repeats[n] !== 0) {
      const first = rows[n - 1];
      flow[i] = flow[first];
      direction[i] = direction[first];
      if (passes) continue;
    }
    if (flow[i] < 0 || !followFlow(dp, i)) {
      if (heard[i] === 0 || asksForNodePort(dp, i)) beginFlow(dp, i);
      else dropHeard(dp, i);
    }
    if (flow[i] >= 0 && staysAtNode(dp, i, flow[i])) dropHeard(dp, i);
    if (fragment[i] !== 0 && flow[i] < 0) dp.fragments.noteVerdict(dp, i);
    passes =
      flow[i] < 0 &&
      protocol[i] === ipv4.PROTOCOL_UDP &&
      verdict[i] === PENDING &&
      via[i] === VIA_ROUTE &&
      fragment[i] === 0;
  }
  for (let i = 0; laterFragments > 0; i++) {
    if (verdict[i] !== PENDING || kind[i] !== KIND_IPV4) continue;
    if ((fragment[i] & ipv4.FRAGMENT_OFFSET) === 0) continue;
    dp.fragments.follow(dp, i);
    laterFragments--;
  }
}

/**
 * Packets that raw sockets hear are the node's, unless they belong to a flow that leads away from it:
 * echo replies and ICMP errors, which no rule can bring to podwire0, and datagrams that came in
 * fragments, which rules by port do not see.
 */
function dropHeard(dp: Dataplane, i: number): void {
  if (dp.batch.heard[i] !== 0) dp.drop(i, DropReason.notOurs);
}

/**
 * Whether row `i`, which belongs to the flow `record` or is an error about it, stays with the node.
 * Only what egress sent out comes back by the raw sockets and goes on by podwire0. Of other flows the
 * node hears what podwire0 has just given it, and would hear it for ever.
 */
function staysAtNode(dp: Dataplane, i: number, record: number): boolean {
  const { batch, flows } = dp;
  if (batch.heard[i] === 0 || batch.verdict[i] !== PENDING || batch.via[i] !== VIA_NODE) return false;
  return (flows.words[flows.base(record) + FLOW_FLAGS] & FLAG_EGRESS) === 0;
}

function asksForNodePort(dp: Dataplane, i: number): boolean {
  return dp.batch.protocol[i] === ipv4.PROTOCOL_UDP && dp.services.size > 0 && frontendOf(dp, i) >= 0;
}

/** Whether row `i` came the same way, from and to the same, as `other`, and is no fragment. */
function isLike(batch: Batch, i: number, other: number): boolean {
  const { source, destination, ports, protocol, vtep, port, tag, fragment, heard } = batch;
  return (
    ports[i] === ports[other] &&
    source[i] === source[other] &&
    destination[i] === destination[other] &&
    protocol[i] === protocol[other] &&
    vtep[i] === vtep[other] &&
    port[i] === port[other] &&
    tag[i] === tag[other] &&
    heard[i] === heard[other] &&
    fragment[i] === 0
  );
}
