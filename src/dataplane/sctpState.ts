/**
 * SCTP's part of connection tracking (RFC 9260; states and timeouts as Linux's
 * nf_conntrack_proto_sctp.c): chunks move the state, and the verification tag says who may. A packet
 * whose tag is wrong is forwarded and changes nothing.
 *
 *   CLOSED ─INIT ACK→ COOKIE_WAIT ─COOKIE ECHO→ COOKIE_ECHOED ─COOKIE ACK→ ESTABLISHED
 *   ESTABLISHED ─SHUTDOWN→ SHUTDOWN_SENT (by the client), SHUTDOWN_RECD (by the server)
 *               ─SHUTDOWN ACK→ SHUTDOWN_ACK_SENT ─SHUTDOWN COMPLETE→ CLOSED;   ABORT → CLOSED
 */
import type { FlowTable } from "../tables/FlowTable.js";
import {
  FLOW_SCTP_TAG,
  FLOW_STATE,
  SCTP_CLOSED,
  SCTP_COOKIE_ECHOED,
  SCTP_COOKIE_WAIT,
  SCTP_ESTABLISHED,
  SCTP_HEARTBEAT_SENT,
  SCTP_SHUTDOWN_ACK_SENT,
  SCTP_SHUTDOWN_RECD,
  SCTP_SHUTDOWN_SENT,
  STATE_FREE,
} from "../tables/flowLayout.js";
import * as sctp from "../wire/sctp.js";

/** The packet belongs to the association; the flow's time has started again. */
const SCTP_TRACKED = 0;
/** Wrong verification tag, or no whole chunk: nothing changed. */
const SCTP_OUTSIDE = 1;

/**
 * State of a flow whose first packet has its SCTP header at `o` and ends at `end`: SCTP_CLOSED for an
 * INIT (until it is answered), SCTP_HEARTBEAT_SENT for a heartbeat or data in mid-stream, 0 where no
 * flow begins like that (ABORT, SHUTDOWN COMPLETE, COOKIE ACK: RFC 9260 §8.4).
 */
export function firstSctpState(view: DataView, o: number, end: number): number {
  const c = o + sctp.HEADER;
  if (c + sctp.CHUNK_HEADER > end) return 0;
  const type = view.getUint8(c + sctp.CHUNK_TYPE);
  if (type === sctp.INIT) return sctp.verificationTag(view, o) === 0 ? SCTP_CLOSED : 0;
  const none = type === sctp.ABORT || type === sctp.SHUTDOWN_COMPLETE || type === sctp.COOKIE_ACK;
  return none ? 0 : SCTP_HEARTBEAT_SENT;
}

/**
 * Tracks a packet of `record` in `direction` (0 or 1), the first one included: SCTP header at `o`,
 * readable up to `end`. Returns SCTP_TRACKED or SCTP_OUTSIDE.
 */
export function trackSctp(
  flows: FlowTable,
  record: number,
  direction: number,
  view: DataView,
  o: number,
  end: number,
  nowMs: number,
): number {
  const { words } = flows;
  const base = flows.base(record);
  const mine = base + FLOW_SCTP_TAG + direction;
  const theirs = base + FLOW_SCTP_TAG + 1 - direction;
  const tag = sctp.verificationTag(view, o);
  let result = SCTP_OUTSIDE;
  for (let c = o + sctp.HEADER; c + sctp.CHUNK_HEADER <= end; c = sctp.nextChunk(view, c)) {
    const type = view.getUint8(c + sctp.CHUNK_TYPE);
    if (type === sctp.INIT) {
      if (tag !== 0) return SCTP_OUTSIDE;
    } else if (!tagFits(words, mine, theirs, tag, type, view.getUint8(c + sctp.CHUNK_FLAGS))) {
      return SCTP_OUTSIDE;
    }
    if (type === sctp.INIT || type === sctp.INIT_ACK) {
      if (c + sctp.CHUNK_HEADER + 4 > end) return SCTP_OUTSIDE;
      const state = words[base + FLOW_STATE];
      // An INIT on a living association may be forged: the other side's tag stays until it closes.
      if (type === sctp.INIT_ACK || state === SCTP_CLOSED || words[theirs] === 0) {
        words[theirs] = view.getInt32(c + sctp.INITIATE_TAG);
      }
    } else if (words[mine] === 0) {
      words[mine] = tag;
    }
    advance(flows, record, direction, type, nowMs);
    result = SCTP_TRACKED;
  }
  if (result === SCTP_TRACKED) flows.touch(base, nowMs);
  return result;
}

/** RFC 9260 §8.5. A tag that is not known yet fits. */
function tagFits(
  words: Int32Array,
  mine: number,
  theirs: number,
  tag: number,
  type: number,
  flags: number,
): boolean {
  const reflected = (type === sctp.ABORT || type === sctp.SHUTDOWN_COMPLETE) && (flags & sctp.FLAG_T) !== 0;
  const expected = words[reflected ? theirs : mine];
  return expected === 0 || expected === tag;
}

function advance(flows: FlowTable, record: number, direction: number, type: number, nowMs: number): void {
  const { words } = flows;
  const base = flows.base(record);
  for (;;) {
    const state = words[base + FLOW_STATE];
    const next = nextSctpState(state, direction, type);
    if (next === state || flows.setState(record, state, next, nowMs)) return;
  }
}

/** The state after a chunk of `type` in `direction`. Chunks that change nothing leave it. */
export function nextSctpState(state: number, direction: number, type: number): number {
  if (state === STATE_FREE) return state;
  switch (type) {
    case sctp.INIT:
      // A client that begins anew.
      if (direction === 0 && (state === SCTP_SHUTDOWN_SENT || state === SCTP_SHUTDOWN_RECD))
        return SCTP_CLOSED;
      return state === SCTP_HEARTBEAT_SENT && direction === 0 ? SCTP_COOKIE_WAIT : state;
    case sctp.INIT_ACK:
      return state === SCTP_CLOSED && direction === 1 ? SCTP_COOKIE_WAIT : state;
    case sctp.COOKIE_ECHO:
      return state === SCTP_COOKIE_WAIT ? SCTP_COOKIE_ECHOED : state;
    case sctp.COOKIE_ACK:
      return state === SCTP_COOKIE_ECHOED ? SCTP_ESTABLISHED : state;
    case sctp.ERROR:
      // A stale cookie.
      return state === SCTP_COOKIE_ECHOED && direction === 1 ? SCTP_CLOSED : state;
    case sctp.ABORT:
      return SCTP_CLOSED;
    case sctp.SHUTDOWN:
      if (state !== SCTP_ESTABLISHED) return state;
      return direction === 0 ? SCTP_SHUTDOWN_SENT : SCTP_SHUTDOWN_RECD;
    case sctp.SHUTDOWN_ACK:
      return state === SCTP_SHUTDOWN_SENT || state === SCTP_SHUTDOWN_RECD ? SCTP_SHUTDOWN_ACK_SENT : state;
    case sctp.SHUTDOWN_COMPLETE:
      return state === SCTP_SHUTDOWN_ACK_SENT ? SCTP_CLOSED : state;
    default:
      // Whatever the server says on a flow that began in mid-stream shows that the association lives.
      return state === SCTP_HEARTBEAT_SENT && direction === 1 ? SCTP_ESTABLISHED : state;
  }
}
