/**
 * TCP's part of connection tracking: what a segment does to the state of its flow (states and timeouts
 * as Linux's nf_conntrack_proto_tcp.c). The order is that of a segment: RST, SYN, then everything else
 * by window, acknowledgement and FIN.
 *
 * A segment that does not fit is translated and forwarded like any other, and changes nothing:
 * were it dropped or let through untranslated, its receiver would answer with a reset (what
 * nf_conntrack_tcp_be_liberal is for). So the verdicts say what was learned, not what to do with
 * the packet; but for TCP_REOPEN.
 *
 * A RST closes an open connection only with the very sequence number that its receiver expects, or
 * that its sender has come to; one that merely lies in the window provokes a challenge ACK
 * (RFC 5961 §3.2) and may be forged. While a connection closes, anywhere in the window will do.
 *
 * Other than in Linux, a FIN belongs to its direction: a retransmitted one is not the other side's,
 * and CLOSE_WAIT and TIME_WAIT are reached by acknowledgements of the FINs, not by any ACK.
 *
 * Each segment writes the window words of its own direction alone, so that the threads of the two
 * directions do not disturb each other; the state changes through FlowTable.setState.
 */
import type { FlowTable } from "../tables/FlowTable.js";
import {
  FLOW_PRIVATE,
  FLOW_STATE,
  FLOW_TCP_SYN_END,
  TCP_ACK_KNOWN,
  TCP_ACKED,
  TCP_ADOPTED,
  TCP_BITS,
  TCP_CLOSE,
  TCP_CLOSE_WAIT,
  TCP_EDGE,
  TCP_END,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT,
  TCP_FINISHED,
  TCP_GUESSED,
  TCP_KNOWN,
  TCP_LAST_ACK,
  TCP_SCALE_SHIFT,
  TCP_SCALED,
  TCP_SYN_PENDING,
  TCP_SYN_RECV,
  TCP_SYN_SCALE_SHIFT,
  TCP_SYN_SENT,
  TCP_SYN_SENT2,
  TCP_TIME_WAIT,
  TCP_WINDOW,
  TCP_WORDS,
} from "../tables/flowLayout.js";
import { ACK, FIN, RST, SYN } from "../wire/tcp.js";

/** The segment belongs where it is; the flow's time has started again. */
const TCP_TRACKED = 0;
/** The segment fits no window, or no state: nothing changed, but for the flow's time. */
const TCP_OUTSIDE = 1;
/** A RST that must not close anything: not even the flow's time started again. */
const TCP_RST_IGNORED = 2;
/** A SYN after the connection ended: remove the flow, and treat the segment as the first of another. */
export const TCP_REOPEN = 3;

/** Largest window scale (RFC 7323 §2.3). */
const MAX_SCALE = 14;
/** An acknowledgement may lag behind by this much, whatever the window (Linux: MAXACKWINCONST). */
const MAX_ACK_LAG = 66_000;
/** Window assumed of a SYN that was forwarded but not believed. */
const UNSCALED_WINDOW = 0xffff;

/**
 * State of a flow whose first segment has these flags: TCP_SYN_SENT, TCP_ADOPTED for one in
 * mid-stream (whether it may be adopted, the caller knows), or 0 where no flow begins like that.
 */
export function firstTcpState(flags: number): number {
  const kind = flags & (SYN | ACK | RST | FIN);
  if (kind === SYN) return TCP_SYN_SENT;
  return (flags & (SYN | RST)) === 0 && (flags & ACK) !== 0 ? TCP_ADOPTED : 0;
}

/**
 * Tracks a segment of `record`, the first one included. `direction` is 0 or 1, `length` the bytes of
 * payload (of all segments of a run or GSO frame), `window` as in the header, `scale` the window
 * scale option of a SYN or -1. Returns TCP_TRACKED, TCP_OUTSIDE, TCP_RST_IGNORED or TCP_REOPEN.
 */
export function trackTcp(
  flows: FlowTable,
  record: number,
  direction: number,
  flags: number,
  sequence: number,
  length: number,
  acknowledgement: number,
  window: number,
  scale: number,
  nowMs: number,
): number {
  const { words } = flows;
  const base = flows.base(record);
  const original = base + FLOW_PRIVATE;
  const mine = original + direction * TCP_WORDS;
  const theirs = original + (1 - direction) * TCP_WORDS;
  if ((flags & RST) !== 0) {
    return trackReset(flows, record, direction, flags, sequence, acknowledgement, nowMs);
  }
  if ((flags & SYN) !== 0) {
    return trackSyn(
      flows,
      record,
      direction,
      flags,
      (sequence + length + 1) | 0,
      acknowledgement,
      window,
      scale,
      nowMs,
    );
  }
  const state = words[base + FLOW_STATE];
  flows.touch(base, nowMs);
  // In a handshake, nothing but its own segments teaches anything: this may be the challenge ACK of
  // a connection that one end has forgotten.
  if ((flags & ACK) === 0 || state === TCP_SYN_SENT || state === TCP_SYN_SENT2) return TCP_OUTSIDE;
  const end = (sequence + length + ((flags & FIN) !== 0 ? 1 : 0)) | 0;
  if (!inWindow(words, mine, theirs, sequence, end, acknowledgement)) return TCP_OUTSIDE;
  learn(words, mine, theirs, sequence, end, acknowledgement, window);
  if ((flags & FIN) !== 0) words[mine + TCP_BITS] |= TCP_FINISHED;
  if (state !== TCP_ESTABLISHED || (flags & FIN) !== 0) advance(flows, record, direction, nowMs);
  return TCP_TRACKED;
}

/** Largest left shift of windows that this side sends, after the handshake. */
function scaleOf(words: Int32Array, mine: number, theirs: number): number {
  const bits = words[mine + TCP_BITS];
  if ((bits & TCP_GUESSED) !== 0) return MAX_SCALE;
  // Both SYNs must have offered it (RFC 7323 §2.2).
  if ((bits & words[theirs + TCP_BITS] & TCP_SCALED) === 0) return 0;
  return (bits >>> TCP_SCALE_SHIFT) & 15;
}

/** The four bounds of Linux's tcp_in_window. What is not known bounds nothing. */
function inWindow(
  words: Int32Array,
  mine: number,
  theirs: number,
  sequence: number,
  end: number,
  acknowledgement: number,
): boolean {
  const known = words[theirs + TCP_BITS];
  if ((known & TCP_KNOWN) !== 0) {
    const lag = (words[theirs + TCP_END] - acknowledgement) | 0;
    if (lag < 0 || lag > Math.max(words[mine + TCP_WINDOW], MAX_ACK_LAG)) return false;
  }
  if ((known & TCP_ACK_KNOWN) !== 0) {
    if (((sequence - words[theirs + TCP_EDGE]) | 0) > 0) return false;
    if (
      (words[mine + TCP_BITS] & TCP_KNOWN) !== 0 &&
      ((words[mine + TCP_END] - end) | 0) > words[theirs + TCP_WINDOW] + 1
    ) {
      return false;
    }
  }
  return true;
}

/** Notes what a segment in the window shows of its sender. */
function learn(
  words: Int32Array,
  mine: number,
  theirs: number,
  sequence: number,
  end: number,
  acknowledgement: number,
  window: number,
): void {
  const bits = words[mine + TCP_BITS];
  if ((bits & TCP_KNOWN) === 0) {
    // The middle of a connection: its history is lost.
    words[mine + TCP_BITS] = bits | TCP_KNOWN | TCP_GUESSED;
    words[mine + TCP_END] = end;
    words[mine + TCP_WINDOW] = 1;
  } else if (sequence !== end && ((end - words[mine + TCP_END]) | 0) > 0) {
    words[mine + TCP_END] = end;
  }
  const bytes = window << scaleOf(words, mine, theirs);
  if (bytes > words[mine + TCP_WINDOW]) words[mine + TCP_WINDOW] = bytes;
  const edge = (acknowledgement + Math.max(bytes, 1)) | 0;
  if ((bits & TCP_ACK_KNOWN) === 0) {
    words[mine + TCP_ACKED] = acknowledgement;
    words[mine + TCP_EDGE] = edge;
    words[mine + TCP_BITS] |= TCP_ACK_KNOWN;
    return;
  }
  if (((acknowledgement - words[mine + TCP_ACKED]) | 0) > 0) words[mine + TCP_ACKED] = acknowledgement;
  if (((edge - words[mine + TCP_EDGE]) | 0) > 0) words[mine + TCP_EDGE] = edge;
}

/** Brings the state up to what both directions have shown. The other thread may be doing the same. */
function advance(flows: FlowTable, record: number, direction: number, nowMs: number): void {
  const { words } = flows;
  const base = flows.base(record);
  for (;;) {
    const state = words[base + FLOW_STATE];
    const next = nextState(words, base + FLOW_PRIVATE, state, direction);
    if (next === state || flows.setState(record, state, next, nowMs)) return;
  }
}

function nextState(words: Int32Array, original: number, state: number, direction: number): number {
  if (state === 0 || state === TCP_CLOSE || state === TCP_TIME_WAIT) return state;
  const reply = original + TCP_WORDS;
  const bits0 = words[original + TCP_BITS];
  const bits1 = words[reply + TCP_BITS];
  const finished = bits0 & bits1 & TCP_FINISHED;
  const acked0 = finishAcked(words, original, reply);
  const acked1 = finishAcked(words, reply, original);
  if (finished !== 0) return acked0 && acked1 ? TCP_TIME_WAIT : TCP_LAST_ACK;
  if (acked0 || acked1) return TCP_CLOSE_WAIT;
  if (((bits0 | bits1) & TCP_FINISHED) !== 0) return TCP_FIN_WAIT;
  if (state === TCP_SYN_RECV) return direction === 0 ? TCP_ESTABLISHED : state;
  if (state === TCP_ADOPTED) return (bits0 & bits1 & TCP_KNOWN) !== 0 ? TCP_ESTABLISHED : state;
  return state;
}

/** Whether one side has sent a FIN, and the other acknowledged all that it sent. */
function finishAcked(words: Int32Array, side: number, other: number): boolean {
  return (
    (words[side + TCP_BITS] & TCP_FINISHED) !== 0 &&
    (words[other + TCP_BITS] & TCP_ACK_KNOWN) !== 0 &&
    words[other + TCP_ACKED] === words[side + TCP_END]
  );
}

function trackSyn(
  flows: FlowTable,
  record: number,
  direction: number,
  flags: number,
  end: number,
  acknowledgement: number,
  window: number,
  scale: number,
  nowMs: number,
): number {
  const { words } = flows;
  const base = flows.base(record);
  const original = base + FLOW_PRIVATE;
  const mine = original + direction * TCP_WORDS;
  const theirs = original + (1 - direction) * TCP_WORDS;
  const state = words[base + FLOW_STATE];
  if ((flags & ACK) === 0) {
    if (state === TCP_TIME_WAIT || state === TCP_CLOSE) {
      // RFC 9293 §3.6.1: a new SYN may reopen from TIME-WAIT. The server's side does not.
      return direction === 0 ? TCP_REOPEN : TCP_OUTSIDE;
    }
    flows.touch(base, nowMs);
    if (state === TCP_SYN_SENT || state === TCP_SYN_SENT2) {
      learnSyn(words, mine, end, window, scale);
      if (direction === 1) flows.setState(record, TCP_SYN_SENT, TCP_SYN_SENT2, nowMs);
      return TCP_TRACKED;
    }
    if (direction === 0) {
      // The client may have forgotten the connection, and the server too: its answer will tell.
      words[base + FLOW_TCP_SYN_END] = end;
      words[mine + TCP_BITS] =
        (words[mine + TCP_BITS] & ((1 << TCP_SYN_SCALE_SHIFT) - 1)) |
        TCP_SYN_PENDING |
        (scale >= 0 ? (Math.min(scale, MAX_SCALE) + 1) << TCP_SYN_SCALE_SHIFT : 0);
    }
    return TCP_OUTSIDE;
  }
  flows.touch(base, nowMs);
  const pending =
    direction === 1 &&
    (words[theirs + TCP_BITS] & TCP_SYN_PENDING) !== 0 &&
    acknowledgement === words[base + FLOW_TCP_SYN_END];
  if (pending) {
    // Both ends have begun anew; so does the flow.
    const pendingScale = words[theirs + TCP_BITS] >>> TCP_SYN_SCALE_SHIFT;
    learnSyn(words, theirs, words[base + FLOW_TCP_SYN_END], UNSCALED_WINDOW, pendingScale - 1);
  } else {
    const answers =
      direction === 1
        ? state === TCP_SYN_SENT || state === TCP_SYN_SENT2 || state === TCP_SYN_RECV
        : state === TCP_SYN_SENT2;
    if (!answers || acknowledgement !== words[theirs + TCP_END]) return TCP_OUTSIDE;
  }
  learnSyn(words, mine, end, window, scale);
  words[mine + TCP_ACKED] = acknowledgement;
  words[mine + TCP_EDGE] = (acknowledgement + Math.max(window, 1)) | 0;
  words[mine + TCP_BITS] |= TCP_ACK_KNOWN;
  if (state !== TCP_SYN_RECV) flows.setState(record, state, TCP_SYN_RECV, nowMs);
  return TCP_TRACKED;
}

/** Starts a direction's words with what a SYN says; its window is never scaled. */
function learnSyn(words: Int32Array, mine: number, end: number, window: number, scale: number): void {
  words[mine + TCP_BITS] =
    TCP_KNOWN | (scale >= 0 ? TCP_SCALED | (Math.min(scale, MAX_SCALE) << TCP_SCALE_SHIFT) : 0);
  words[mine + TCP_END] = end;
  words[mine + TCP_WINDOW] = Math.max(window, 1);
  words[mine + TCP_ACKED] = 0;
  words[mine + TCP_EDGE] = 0;
}

function trackReset(
  flows: FlowTable,
  record: number,
  direction: number,
  flags: number,
  sequence: number,
  acknowledgement: number,
  nowMs: number,
): number {
  const { words } = flows;
  const base = flows.base(record);
  const original = base + FLOW_PRIVATE;
  const mine = original + direction * TCP_WORDS;
  const theirs = original + (1 - direction) * TCP_WORDS;
  for (;;) {
    const state = words[base + FLOW_STATE];
    if (!resetFits(words, state, direction, mine, theirs, flags, sequence, acknowledgement)) {
      return TCP_RST_IGNORED;
    }
    if (state === TCP_CLOSE) {
      flows.touch(base, nowMs);
      return TCP_TRACKED;
    }
    if (state === 0 || flows.setState(record, state, TCP_CLOSE, nowMs)) return TCP_TRACKED;
  }
}

function resetFits(
  words: Int32Array,
  state: number,
  direction: number,
  mine: number,
  theirs: number,
  flags: number,
  sequence: number,
  acknowledgement: number,
): boolean {
  const bits = words[mine + TCP_BITS];
  const end = words[mine + TCP_END];
  if (state === TCP_SYN_SENT && direction === 1) {
    // RFC 9293 §3.10.7.3: in SYN-SENT a RST is acceptable if it acknowledges the SYN.
    return (flags & ACK) !== 0 && acknowledgement === words[theirs + TCP_END];
  }
  // The end that a guessed window let through may be somebody's invention.
  if ((bits & (TCP_KNOWN | TCP_GUESSED)) === TCP_KNOWN && sequence === end) return true;
  if ((words[theirs + TCP_BITS] & TCP_ACK_KNOWN) === 0) {
    // Nothing says what is expected. Before the other side has said anything, the SYN's own number does.
    return (bits & TCP_KNOWN) !== 0 && (sequence === end || sequence === ((end - 1) | 0));
  }
  const expected = words[theirs + TCP_ACKED];
  if (sequence === expected) return true;
  if (state === TCP_SYN_RECV || state === TCP_ESTABLISHED || state === TCP_ADOPTED) return false;
  return ((sequence - expected) | 0) >= 0 && ((sequence - words[theirs + TCP_EDGE]) | 0) <= 0;
}
