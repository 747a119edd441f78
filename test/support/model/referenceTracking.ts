/**
 * Connection tracking by the book, one plain object a flow: Linux's states and timeouts
 * (nf_conntrack_proto_tcp.c, _udp.c, _icmp.c, _sctp.c), with the differences that dataplane/tcpState
 * names. Numbers are plain numbers: no sequence number of a test wraps.
 */
import { ACK, FIN, ICMP, RST, SYN, TCP, UDP } from "../frames.js";
import {
  type Parsed,
  SCTP,
  SCTP_ABORT,
  SCTP_COOKIE_ACK,
  SCTP_COOKIE_ECHO,
  SCTP_INIT,
  SCTP_INIT_ACK,
  SCTP_SHUTDOWN,
  SCTP_SHUTDOWN_ACK,
  SCTP_SHUTDOWN_COMPLETE,
} from "./packets.js";

/** What one side of a TCP connection has shown. */
interface Side {
  known: boolean;
  /** Taken up in mid-stream: its window may be scaled by anything. */
  guessed: boolean;
  finished: boolean;
  /** The number after its last byte. */
  end: number;
  /** The largest window that it offered. */
  window: number;
  /** What it acknowledged, and the right edge of what it is ready for; undefined before it has. */
  acked: number | undefined;
  edge: number;
}

export interface Track {
  protocol: number;
  state: string;
  created: number;
  seen: number;
  tcp: [Side, Side];
  /** End of a SYN that came while the connection was believed alive. */
  pendingSyn: number | undefined;
  /** SCTP: the tag that packets of each direction carry, 0: not known. */
  tags: [number, number];
}

const SECONDS: Readonly<Record<string, number>> = {
  SYN_SENT: 120,
  SYN_SENT2: 120,
  SYN_RECV: 60,
  ESTABLISHED: 86_400,
  FIN_WAIT: 120,
  CLOSE_WAIT: 60,
  LAST_ACK: 30,
  TIME_WAIT: 120,
  CLOSE: 10,
  ADOPTED: 120,
  UNREPLIED: 30,
  REPLIED: 30,
  STREAM: 120,
  SCTP_CLOSED: 10,
  SCTP_COOKIE_WAIT: 3,
  SCTP_COOKIE_ECHOED: 3,
  SCTP_ESTABLISHED: 210,
  SCTP_SHUTDOWN_SENT: 3,
  SCTP_SHUTDOWN_RECD: 3,
  SCTP_SHUTDOWN_ACK_SENT: 3,
  SCTP_HEARTBEAT_SENT: 30,
};
const UNACKNOWLEDGED = 300;
const ANY_ACK_LAG = 66_000;
const STREAM_AGE_MS = 2000;

/** Milliseconds without a packet after which a flow is over. */
export function timeoutOf({ protocol, state, tcp: [client, server] }: Track): number {
  if (protocol === TCP && state === "ESTABLISHED" && client.known && server.known) {
    const open = client.end > (server.acked ?? 0) || server.end > (client.acked ?? 0);
    if (open) return UNACKNOWLEDGED * 1000;
  }
  return SECONDS[state]! * 1000;
}

/** The state that a packet begins a flow with; empty where none begins like that. */
export function firstStateOf({ protocol, tcp, sctp }: Parsed): string {
  if (protocol === TCP) {
    const { flags } = tcp!;
    if ((flags & (SYN | ACK | RST | FIN)) === SYN) return "SYN_SENT";
    return (flags & (SYN | RST)) === 0 && (flags & ACK) !== 0 ? "ADOPTED" : "";
  }
  if (protocol === SCTP) {
    const { chunk, tag } = sctp!;
    if (chunk === SCTP_INIT) return tag === 0 ? "SCTP_CLOSED" : "";
    const never = [SCTP_ABORT, SCTP_SHUTDOWN_COMPLETE, SCTP_COOKIE_ACK].includes(chunk);
    return never ? "" : "SCTP_HEARTBEAT_SENT";
  }
  return "UNREPLIED";
}

export function newTrack(protocol: number, state: string, now: number): Track {
  const side = (): Side => ({
    known: false,
    guessed: false,
    finished: false,
    end: 0,
    window: 0,
    acked: undefined,
    edge: 0,
  });
  const tcp: [Side, Side] = [side(), side()];
  return { protocol, state, created: now, seen: now, tcp, pendingSyn: undefined, tags: [0, 0] };
}

/** Tells a flow about a packet. False: it has ended, and the packet begins another. */
export function track(flow: Track, packet: Parsed, direction: 0 | 1, now: number): boolean {
  if (flow.protocol === TCP) return trackTcp(flow, packet.tcp!, direction, now);
  if (flow.protocol === SCTP) trackSctp(flow, packet.sctp!, direction, now);
  else {
    flow.seen = now;
    if (flow.state === "REPLIED" && flow.protocol === UDP && now - flow.created > STREAM_AGE_MS)
      flow.state = "STREAM";
    else if (flow.state === "UNREPLIED" && direction === 1) flow.state = "REPLIED";
    if (flow.protocol !== UDP && flow.protocol !== ICMP) throw new Error(`protocol ${flow.protocol}`);
  }
  return true;
}

function trackTcp(flow: Track, segment: NonNullable<Parsed["tcp"]>, direction: 0 | 1, now: number): boolean {
  const { flags, sequence, acknowledgement, length, window } = segment;
  const me = flow.tcp[direction];
  const peer = flow.tcp[1 - direction]!;
  if ((flags & RST) !== 0) {
    if (resets(flow, segment, direction)) {
      flow.state = "CLOSE";
      flow.seen = now;
    }
    return true;
  }
  if ((flags & SYN) !== 0) return trackSyn(flow, segment, direction, now);
  flow.seen = now;
  if ((flags & ACK) === 0 || flow.state === "SYN_SENT" || flow.state === "SYN_SENT2") return true;
  const end = sequence + length + ((flags & FIN) !== 0 ? 1 : 0);
  if (!inWindow(me, peer, sequence, end, acknowledgement)) return true;
  const scale = me.guessed || !me.known ? 14 : 0;
  if (!me.known) Object.assign(me, { known: true, guessed: true, end, window: 1 });
  else if (end > sequence) me.end = Math.max(me.end, end);
  const bytes = window * 2 ** scale;
  me.window = Math.max(me.window, bytes);
  const edge = acknowledgement + Math.max(bytes, 1);
  me.edge = me.acked === undefined ? edge : Math.max(me.edge, edge);
  me.acked = Math.max(me.acked ?? 0, acknowledgement);
  if ((flags & FIN) !== 0) me.finished = true;
  if (flow.state !== "CLOSE" && flow.state !== "TIME_WAIT") flow.state = nextTcpState(flow, direction);
  return true;
}

/** I to IV of Linux's tcp_in_window: what is not known bounds nothing. */
function inWindow(me: Side, peer: Side, sequence: number, end: number, acknowledgement: number): boolean {
  if (peer.known) {
    if (acknowledgement > peer.end) return false;
    if (acknowledgement < peer.end - Math.max(me.window, ANY_ACK_LAG)) return false;
  }
  if (peer.acked === undefined) return true;
  if (sequence > peer.edge) return false;
  return !me.known || end >= me.end - peer.window - 1;
}

function nextTcpState({ state, tcp: [client, server] }: Track, direction: 0 | 1): string {
  const clientDone = client.finished && server.acked === client.end;
  const serverDone = server.finished && client.acked === server.end;
  if (client.finished && server.finished) return clientDone && serverDone ? "TIME_WAIT" : "LAST_ACK";
  if (clientDone || serverDone) return "CLOSE_WAIT";
  if (client.finished || server.finished) return "FIN_WAIT";
  if (state === "SYN_RECV" && direction === 0) return "ESTABLISHED";
  if (state === "ADOPTED" && client.known && server.known) return "ESTABLISHED";
  return state;
}

function begins(side: Side, end: number, window: number): void {
  Object.assign(side, {
    known: true,
    guessed: false,
    finished: false,
    end,
    window: Math.max(window, 1),
    acked: undefined,
    edge: 0,
  });
}

function trackSyn(flow: Track, segment: NonNullable<Parsed["tcp"]>, direction: 0 | 1, now: number): boolean {
  const { flags, sequence, acknowledgement, window } = segment;
  const me = flow.tcp[direction];
  const peer = flow.tcp[1 - direction]!;
  const end = sequence + 1;
  const { state } = flow;
  if ((flags & ACK) === 0) {
    if (state === "TIME_WAIT" || state === "CLOSE") return direction === 1;
    flow.seen = now;
    if (state === "SYN_SENT" || state === "SYN_SENT2") {
      begins(me, end, window);
      if (direction === 1) flow.state = "SYN_SENT2";
    } else if (direction === 0) flow.pendingSyn = end;
    return true;
  }
  flow.seen = now;
  if (direction === 1 && flow.pendingSyn !== undefined && acknowledgement === flow.pendingSyn) {
    begins(peer, flow.pendingSyn, 0xffff);
    flow.pendingSyn = undefined;
  } else {
    const waiting = direction === 1 ? ["SYN_SENT", "SYN_SENT2", "SYN_RECV"] : ["SYN_SENT2"];
    if (!waiting.includes(state) || acknowledgement !== peer.end) return true;
  }
  begins(me, end, window);
  me.acked = acknowledgement;
  me.edge = acknowledgement + Math.max(window, 1);
  flow.state = "SYN_RECV";
  return true;
}

/** RFC 5961: only with the number that is expected, or that its sender has come to, while the connection is open. */
function resets(flow: Track, segment: NonNullable<Parsed["tcp"]>, direction: 0 | 1): boolean {
  const { flags, sequence, acknowledgement } = segment;
  const me = flow.tcp[direction];
  const peer = flow.tcp[1 - direction]!;
  if (flow.state === "SYN_SENT" && direction === 1)
    return (flags & ACK) !== 0 && acknowledgement === peer.end;
  if (me.known && !me.guessed && sequence === me.end) return true;
  if (peer.acked === undefined) return me.known && (sequence === me.end || sequence === me.end - 1);
  if (sequence === peer.acked) return true;
  const open = ["SYN_RECV", "ESTABLISHED", "ADOPTED"].includes(flow.state);
  return !open && sequence >= peer.acked && sequence <= peer.edge;
}

function trackSctp(flow: Track, packet: NonNullable<Parsed["sctp"]>, direction: 0 | 1, now: number): void {
  const { chunk, tag, initiateTag } = packet;
  const other = (1 - direction) as 0 | 1;
  if (chunk === SCTP_INIT ? tag !== 0 : flow.tags[direction] !== 0 && flow.tags[direction] !== tag) return;
  if (chunk === SCTP_INIT || chunk === SCTP_INIT_ACK) {
    const takes = chunk === SCTP_INIT_ACK || flow.state === "SCTP_CLOSED" || flow.tags[other] === 0;
    if (takes) flow.tags[other] = initiateTag;
  } else if (flow.tags[direction] === 0) flow.tags[direction] = tag;
  flow.state = nextSctpState(flow.state, chunk, direction);
  flow.seen = now;
}

function nextSctpState(state: string, chunk: number, direction: 0 | 1): string {
  const client = direction === 0;
  const closing = state === "SCTP_SHUTDOWN_SENT" || state === "SCTP_SHUTDOWN_RECD";
  switch (chunk) {
    case SCTP_INIT:
      if (client && closing) return "SCTP_CLOSED";
      return client && state === "SCTP_HEARTBEAT_SENT" ? "SCTP_COOKIE_WAIT" : state;
    case SCTP_INIT_ACK:
      return !client && state === "SCTP_CLOSED" ? "SCTP_COOKIE_WAIT" : state;
    case SCTP_COOKIE_ECHO:
      return state === "SCTP_COOKIE_WAIT" ? "SCTP_COOKIE_ECHOED" : state;
    case SCTP_COOKIE_ACK:
      return state === "SCTP_COOKIE_ECHOED" ? "SCTP_ESTABLISHED" : state;
    case SCTP_ABORT:
      return "SCTP_CLOSED";
    case SCTP_SHUTDOWN:
      if (state !== "SCTP_ESTABLISHED") return state;
      return client ? "SCTP_SHUTDOWN_SENT" : "SCTP_SHUTDOWN_RECD";
    case SCTP_SHUTDOWN_ACK:
      return closing ? "SCTP_SHUTDOWN_ACK_SENT" : state;
    case SCTP_SHUTDOWN_COMPLETE:
      return state === "SCTP_SHUTDOWN_ACK_SENT" ? "SCTP_CLOSED" : state;
    default:
      return !client && state === "SCTP_HEARTBEAT_SENT" ? "SCTP_ESTABLISHED" : state;
  }
}
