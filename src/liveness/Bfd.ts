/**
 * Bidirectional Forwarding Detection, asynchronous mode (RFC 5880, over UDP as in RFC 5881): all
 * sessions of this node, one for each peer, as columns of flat arrays. Pure: packets and the time
 * go in, packets go out through a sink, changes of state to a callback. No clock, no socket, and
 * nothing is allocated for a packet.
 *
 *   receive   check (wire/bfd) → find session → timers, Poll/Final → state machine (§6.8.6)
 *   advance   detection times that are over (§6.8.4), packets that are due (§6.8.7)
 *
 *   state machine (§6.2)        Down ──Down──▶ Init ──Init,Up──▶ Up
 *                               Down ──────────Init────────────▶ Up
 *                               Init, Up ──AdminDown, timer───▶ Down      Up ──Down──▶ Down
 *
 * What is not in use: authentication (such packets are discarded), demand mode of our own (a remote
 * system's is honoured: we then send no periodic packets, only Polls and Finals), echoes (we announce that we loop
 * none back).
 *
 * This node's own standstill is noticed here too: a session over which nothing was sent for longer
 * than the peer waits is one that the peer has given up, whatever its queued packets still say. It
 * goes Down at once, and `settled` turns false until the peers have been heard anew; what depends on
 * who is alive must wait for that (worker).
 */
import * as wire from "../wire/bfd.js";

export interface BfdTimers {
  /** bfd.DesiredMinTxInterval while Up, microseconds. */
  desiredMinTxUs: number;
  /** bfd.RequiredMinRxInterval, microseconds. */
  requiredMinRxUs: number;
  /** bfd.DetectMult, 1-255. */
  detectMult: number;
}

/** Least interval of sending while a session is not Up (RFC 5880 §6.8.3). */
const SLOW_TX_US = 1_000_000;
/**
 * How long a node that has started or stood still waits for its peers before it takes them for dead.
 * A living peer answers the first packet at once; should that be lost, the next comes within SLOW_TX_US.
 */
export const SETTLE_US = 2_500_000;

/** Where packets go. */
export interface BfdSink {
  /** The memory that `room` is in. */
  readonly view: DataView;
  /** Offset of wire.LENGTH bytes for the next packet. */
  room(): number;
  /** Sends the packet at `start` to a peer. */
  send(start: number, length: number, peer: number): void;
}

/**
 * A session's state changed; `diagnostic` is bfd.LocalDiag. The new state is in force already. Must
 * not add or remove sessions.
 */
export type BfdListener = (peer: number, from: number, to: number, diagnostic: number) => void;

/** What became of a packet, beyond the faults of wire/bfd check: no session is meant. */
export const NO_SESSION = 16;
/** … the session is administratively down. */
export const SESSION_ADMIN_DOWN = 17;

export { ADMIN_DOWN, DOWN, INIT, UP, VALID } from "../wire/bfd.js";

const NEVER = Number.POSITIVE_INFINITY;

/** One session for each peer; peers are numbered by the caller, below `capacity`. */
export class Bfd {
  /** bfd.SessionState by peer; 0 (AdminDown) where there is no session. */
  readonly state: Uint8Array;
  /** Time at which a session last became Up, microseconds; 0 while it is not. */
  readonly upSinceUs: Float64Array;
  /** Time until which `advance` need not be called. */
  nextUs = NEVER;
  /** Peers that had withdrawn and then ended or were heard no more, so far: no session's state changes with that. */
  silences = 0;

  readonly #sink: BfdSink;
  readonly #listener: BfdListener;
  /** Peers that have a session, in the first #count places. */
  readonly #peers: Int32Array;
  readonly #used: Uint8Array;
  readonly #hasBeenUp: Uint8Array;
  #count = 0;
  #settleUs = NEVER;
  #settled = true;
  #random: number;

  readonly #address: Int32Array;
  readonly #diag: Uint8Array;
  readonly #localDiscr: Int32Array;
  readonly #remoteDiscr: Int32Array;
  readonly #remoteState: Uint8Array;
  readonly #remoteDiag: Uint8Array;
  readonly #remoteDemand: Uint8Array;
  readonly #remoteMult: Uint8Array;
  readonly #remoteMinRx: Float64Array;
  readonly #remoteMinTx: Float64Array;
  /** What the configuration wants while Up. */
  readonly #wantTx: Float64Array;
  readonly #wantRx: Float64Array;
  readonly #wantMult: Uint8Array;
  /** What packets say, bfd.DesiredMinTxInterval, bfd.RequiredMinRxInterval and bfd.DetectMult. */
  readonly #minTx: Float64Array;
  readonly #minRx: Float64Array;
  readonly #mult: Uint8Array;
  /** What is acted by: differs from what packets say until the remote system has acknowledged (§6.8.3). */
  readonly #activeTx: Float64Array;
  readonly #activeRx: Float64Array;
  /** A Poll Sequence is going on. */
  readonly #poll: Uint8Array;
  /** Something in the packet but P and F has changed since the last one. */
  readonly #news: Uint8Array;
  readonly #lastTx: Float64Array;
  readonly #txDue: Float64Array;
  /** When the peer gives the session up unless it hears more, by what the last packet told it. */
  readonly #peerGivesUp: Float64Array;
  readonly #lastRx: Float64Array;

  /** `seed`: any number that another run of this node does not have; discriminators and jitter follow from it. */
  constructor(capacity: number, sink: BfdSink, listener: BfdListener, seed: number) {
    this.#sink = sink;
    this.#listener = listener;
    this.#random = seed | 0;
    if (capacity > 0xffff) throw new RangeError("BFD peers are numbered with 16 bits");
    const bytes = () => new Uint8Array(capacity);
    const words = () => new Int32Array(capacity);
    const doubles = () => new Float64Array(capacity);
    this.state = bytes();
    this.upSinceUs = doubles();
    this.#peers = words();
    this.#used = bytes();
    this.#hasBeenUp = bytes();
    this.#address = words();
    this.#diag = bytes();
    this.#localDiscr = words();
    this.#remoteDiscr = words();
    this.#remoteState = bytes();
    this.#remoteDiag = bytes();
    this.#remoteDemand = bytes();
    this.#remoteMult = bytes();
    this.#remoteMinRx = doubles();
    this.#remoteMinTx = doubles();
    this.#wantTx = doubles();
    this.#wantRx = doubles();
    this.#wantMult = bytes();
    this.#minTx = doubles();
    this.#minRx = doubles();
    this.#mult = bytes();
    this.#activeTx = doubles();
    this.#activeRx = doubles();
    this.#poll = bytes();
    this.#news = bytes();
    this.#lastTx = doubles();
    this.#txDue = doubles();
    this.#peerGivesUp = doubles();
    this.#lastRx = doubles();
  }

  /** Number of sessions. */
  get sessions(): number {
    return this.#count;
  }

  has(peer: number): boolean {
    return this.#used[peer] === 1;
  }

  /** bfd.LocalDiag: why the session last left Up. */
  diagnostic(peer: number): number {
    return this.#diag[peer];
  }

  /** bfd.RemoteSessionState: AdminDown says that the peer withdraws, which is not a failure. */
  remoteState(peer: number): number {
    return this.#remoteState[peer];
  }

  /** Whether a peer has withdrawn (AdminDown), is still heard to say so and has not taken leave: it forwards. */
  isWithdrawn(peer: number): boolean {
    return (
      this.#remoteState[peer] === wire.ADMIN_DOWN &&
      this.#remoteDiag[peer] !== wire.DIAG_FORWARDING_PLANE_RESET &&
      this.#remoteDiscr[peer] !== 0
    );
  }

  /**
   * Whether a peer's session has been Up since it began. One that never was says nothing of the peer: it
   * may run no BFD, or its packets may not be let through.
   */
  hasBeenUp(peer: number): boolean {
    return this.#hasBeenUp[peer] === 1;
  }

  /** Diagnostic of the peer's last packet. */
  remoteDiagnostic(peer: number): number {
    return this.#remoteDiag[peer];
  }

  /** bfd.LocalDiscr as int32. */
  discriminator(peer: number): number {
    return this.#localDiscr[peer];
  }

  /** Microseconds between periodic packets before jitter, 0 where none are sent (§6.8.2, §6.8.7). */
  transmitInterval(peer: number): number {
    const rx = this.#remoteMinRx[peer];
    if (rx === 0 || this.#demandActive(peer)) return 0;
    return Math.max(this.#activeTx[peer], rx);
  }

  /** Microseconds without a packet after which the peer is given up (§6.8.4); 0 before the first packet. */
  detectionTime(peer: number): number {
    return this.#remoteMult[peer] * Math.max(this.#activeRx[peer], this.#remoteMinTx[peer]);
  }

  /**
   * Begins a session with a peer at an IPv4 address (int32), or changes the timers of the one there.
   * The first packet goes with the next `advance`. Throws RangeError on timers out of range.
   */
  add(peer: number, address: number, timers: BfdTimers, nowUs: number): void {
    checkTimers(timers);
    if (!Number.isInteger(peer) || peer < 0 || peer >= this.state.length)
      throw new RangeError(`no place for BFD peer ${peer}`);
    if (this.#used[peer] === 1 && this.#address[peer] === address) {
      this.#configure(peer, timers, nowUs);
      return;
    }
    this.remove(peer);
    this.#used[peer] = 1;
    this.#peers[this.#count++] = peer;
    this.#address[peer] = address;
    this.#localDiscr[peer] = this.#newDiscriminator(peer);
    this.#hasBeenUp[peer] = 0;
    this.state[peer] = wire.DOWN;
    this.#diag[peer] = wire.DIAG_NONE;
    this.#forgetRemote(peer);
    this.#remoteState[peer] = wire.DOWN;
    this.#remoteDiag[peer] = wire.DIAG_NONE;
    this.#wantTx[peer] = timers.desiredMinTxUs;
    this.#wantRx[peer] = timers.requiredMinRxUs;
    this.#wantMult[peer] = timers.detectMult;
    this.#adoptTimers(peer);
    this.#poll[peer] = 0;
    this.#lastTx[peer] = nowUs;
    this.#lastRx[peer] = nowUs;
    this.#txDue[peer] = nowUs;
    this.#peerGivesUp[peer] = NEVER;
    this.nextUs = Math.min(this.nextUs, nowUs);
  }

  /** Ends a session without a word to the peer. Unknown peers are ignored. */
  remove(peer: number): void {
    if (this.#used[peer] !== 1) return;
    this.#used[peer] = 0;
    this.state[peer] = wire.ADMIN_DOWN;
    this.upSinceUs[peer] = 0;
    const at = this.#peers.subarray(0, this.#count).indexOf(peer);
    this.#peers[at] = this.#peers[--this.#count];
  }

  /**
   * Sets a session AdminDown, of which the peer is told at once and for as long as it stays so
   * (RFC 5880 §6.8.16), or lets it come up again.
   */
  setAdminDown(peer: number, down: boolean, nowUs: number): void {
    if (this.#used[peer] !== 1) return;
    const now = this.state[peer];
    if (down && now !== wire.ADMIN_DOWN) this.#change(peer, wire.ADMIN_DOWN, wire.DIAG_ADMIN_DOWN, nowUs);
    else if (!down && now === wire.ADMIN_DOWN) this.#change(peer, wire.DOWN, wire.DIAG_NONE, nowUs);
    this.#tell(peer, nowUs);
  }

  /** Tells a peer that this node forwards nothing from now on: AdminDown, Forwarding Plane Reset. */
  takeLeave(peer: number, nowUs: number): void {
    if (this.#used[peer] !== 1) return;
    this.#change(peer, wire.ADMIN_DOWN, wire.DIAG_FORWARDING_PLANE_RESET, nowUs);
    this.#tell(peer, nowUs);
  }

  /** From now on peers are unknown: `settled` is false until all are Up, or SETTLE_US are over. */
  unsettle(nowUs: number): void {
    this.#settled = false;
    this.#settleUs = nowUs + SETTLE_US;
  }

  /** Whether what `state` says of the peers can be relied on. */
  settled(nowUs: number): boolean {
    if (!this.#settled && (nowUs >= this.#settleUs || this.#allKnown())) this.#settled = true;
    return this.#settled;
  }

  /** When an unsettled node settles at the latest. */
  get settleUs(): number {
    return this.#settled ? NEVER : this.#settleUs;
  }

  /**
   * Takes a packet from `source` (IPv4 address, int32) that came with TTL 255; the socket's filter
   * sees to that. Returns VALID, a fault of wire/bfd check, NO_SESSION or SESSION_ADMIN_DOWN.
   */
  receive(view: DataView, o: number, length: number, source: number, nowUs: number): number {
    const fault = wire.check(view, o, length);
    if (fault !== wire.VALID) return fault;
    const yours = wire.yourDiscriminator(view, o);
    const peer = yours === 0 ? this.#byAddress(source) : this.#byDiscriminator(yours, source);
    if (peer < 0) return NO_SESSION;

    // Before a word of what was queued meanwhile is believed.
    if (this.#isGivenUp(peer, nowUs)) this.#giveUp(peer, nowUs);
    const bits = wire.flags(view, o);
    const remote = wire.state(view, o);
    const withdrawn = this.isWithdrawn(peer);
    this.#remoteDiscr[peer] = wire.myDiscriminator(view, o);
    this.#remoteState[peer] = remote;
    this.#remoteDiag[peer] = wire.diagnostic(view, o);
    this.#remoteDemand[peer] = (bits & wire.FLAG_DEMAND) !== 0 ? 1 : 0;
    this.#remoteMult[peer] = wire.detectMult(view, o);
    this.#remoteMinTx[peer] = wire.desiredMinTx(view, o);
    this.#remoteMinRx[peer] = wire.requiredMinRx(view, o);
    if (withdrawn && remote === wire.ADMIN_DOWN && !this.isWithdrawn(peer)) this.silences++;
    if ((bits & wire.FLAG_FINAL) !== 0 && this.#poll[peer] === 1) this.#endPoll(peer);
    if (this.state[peer] === wire.ADMIN_DOWN) return SESSION_ADMIN_DOWN;
    this.#lastRx[peer] = nowUs;
    this.#follow(peer, remote, nowUs);
    this.#reschedule(peer, nowUs);
    if ((bits & wire.FLAG_POLL) !== 0) this.#transmit(peer, nowUs, wire.FLAG_FINAL);
    else this.#tell(peer, nowUs);
    this.#noteDeadline(this.#deadline(peer));
    return wire.VALID;
  }

  /**
   * Gives up sessions that the peers have given up because this node stood still. To be called
   * before packets that were queued meanwhile are read, so that nobody acts for an owner that it no
   * longer is; receive and advance do so too.
   */
  noticeStandstill(nowUs: number): void {
    if (nowUs < this.nextUs) return;
    for (let i = 0; i < this.#count; i++) {
      if (this.#isGivenUp(this.#peers[i], nowUs)) this.#giveUp(this.#peers[i], nowUs);
    }
  }

  /** Gives up peers whose detection time is over, and sends what is due. */
  advance(nowUs: number): void {
    if (nowUs < this.nextUs) return;
    const peers = this.#peers;
    // First of all, since nobody may be taken for dead by a node that has itself stood still.
    this.noticeStandstill(nowUs);
    this.nextUs = NEVER;
    for (let i = 0; i < this.#count; i++) {
      const peer = peers[i];
      if (nowUs >= this.#detectionDue(peer)) {
        if (this.state[peer] >= wire.INIT)
          this.#change(peer, wire.DOWN, wire.DIAG_DETECTION_TIME_EXPIRED, nowUs);
        if (this.isWithdrawn(peer)) this.silences++;
        this.#forgetRemote(peer);
      }
      if (this.#news[peer] === 1 || nowUs >= this.#txDue[peer]) this.#transmit(peer, nowUs, 0);
      this.#noteDeadline(this.#deadline(peer));
    }
  }

  // ---- reception ----------------------------------------------------------------------------

  /** §6.8.6, its state machine. */
  #follow(peer: number, remote: number, nowUs: number): void {
    const own = this.state[peer];
    if (remote === wire.ADMIN_DOWN) {
      if (own !== wire.DOWN) this.#change(peer, wire.DOWN, wire.DIAG_NEIGHBOR_SIGNALED_DOWN, nowUs);
    } else if (own === wire.DOWN) {
      if (remote === wire.DOWN) this.#change(peer, wire.INIT, this.#diag[peer], nowUs);
      else if (remote === wire.INIT) this.#change(peer, wire.UP, wire.DIAG_NONE, nowUs);
    } else if (own === wire.INIT) {
      if (remote >= wire.INIT) this.#change(peer, wire.UP, wire.DIAG_NONE, nowUs);
    } else if (remote === wire.DOWN) {
      this.#change(peer, wire.DOWN, wire.DIAG_NEIGHBOR_SIGNALED_DOWN, nowUs);
    }
  }

  #byAddress(address: number): number {
    for (let i = 0; i < this.#count; i++) {
      if (this.#address[this.#peers[i]] === address) return this.#peers[i];
    }
    return -1;
  }

  /** The session of our discriminator; RFC 5881 §3 lets its packets come from its peer only. */
  #byDiscriminator(discriminator: number, source: number): number {
    const peer = (discriminator & 0xffff) - 1;
    if (peer < 0 || this.#used[peer] !== 1) return -1;
    return this.#localDiscr[peer] === discriminator && this.#address[peer] === source ? peer : -1;
  }

  // ---- state and timers ---------------------------------------------------------------------

  #change(peer: number, to: number, diag: number, nowUs: number): void {
    const from = this.state[peer];
    this.state[peer] = to;
    this.#diag[peer] = diag;
    this.#news[peer] = 1;
    this.upSinceUs[peer] = to === wire.UP ? nowUs : 0;
    if (to === wire.UP) this.#hasBeenUp[peer] = 1;
    if (to === wire.UP || from === wire.UP) this.#adoptTimers(peer);
    // Coming up shortens the interval, which takes a Poll Sequence; one that was going on ends with Up.
    this.#poll[peer] = to === wire.UP ? 1 : 0;
    this.#listener(peer, from, to, diag);
  }

  #configure(peer: number, timers: BfdTimers, nowUs: number): void {
    this.#wantTx[peer] = timers.desiredMinTxUs;
    this.#wantRx[peer] = timers.requiredMinRxUs;
    this.#wantMult[peer] = timers.detectMult;
    if (this.state[peer] !== wire.UP) this.#adoptTimers(peer);
    else if (this.#poll[peer] === 0) this.#beginPoll(peer);
    // Else: the Final that is awaited would be taken for an answer to the later change.
    this.#reschedule(peer, nowUs);
    this.#noteDeadline(this.#deadline(peer));
  }

  /** Puts what is wanted in force at once: nobody acts by the old values (§6.8.3). */
  #adoptTimers(peer: number): void {
    const want = this.#wantTx[peer];
    this.#minTx[peer] = this.state[peer] === wire.UP ? want : Math.max(want, SLOW_TX_US);
    this.#minRx[peer] = this.#wantRx[peer];
    this.#mult[peer] = this.#wantMult[peer];
    this.#activeTx[peer] = this.#minTx[peer];
    this.#activeRx[peer] = this.#minRx[peer];
    this.#news[peer] = 1;
  }

  /**
   * Announces changed intervals while Up: a longer one of ours to send, and a shorter one to expect,
   * are acted by only once the peer has acknowledged (§6.8.3).
   */
  #beginPoll(peer: number): void {
    const tx = this.#wantTx[peer];
    const rx = this.#wantRx[peer];
    this.#mult[peer] = this.#wantMult[peer];
    this.#news[peer] = 1;
    if (tx === this.#minTx[peer] && rx === this.#minRx[peer]) return;
    this.#minTx[peer] = tx;
    this.#minRx[peer] = rx;
    this.#activeTx[peer] = Math.min(this.#activeTx[peer], tx);
    this.#activeRx[peer] = Math.max(this.#activeRx[peer], rx);
    this.#poll[peer] = 1;
  }

  #endPoll(peer: number): void {
    this.#poll[peer] = 0;
    this.#activeTx[peer] = this.#minTx[peer];
    this.#activeRx[peer] = this.#minRx[peer];
    // A change that came meanwhile has its own sequence.
    if (this.state[peer] === wire.UP) this.#beginPollIfWanted(peer);
  }

  #beginPollIfWanted(peer: number): void {
    if (
      this.#wantTx[peer] !== this.#minTx[peer] ||
      this.#wantRx[peer] !== this.#minRx[peer] ||
      this.#wantMult[peer] !== this.#mult[peer]
    )
      this.#beginPoll(peer);
  }

  #forgetRemote(peer: number): void {
    this.#remoteDiscr[peer] = 0;
    this.#remoteDemand[peer] = 0;
    this.#remoteMult[peer] = 0;
    this.#remoteMinTx[peer] = 0;
    // Not 0, which would keep us from sending (§6.8.1).
    this.#remoteMinRx[peer] = 1;
  }

  #demandActive(peer: number): boolean {
    return (
      this.#remoteDemand[peer] === 1 &&
      this.state[peer] === wire.UP &&
      this.#remoteState[peer] === wire.UP &&
      this.#poll[peer] === 0
    );
  }

  /** This node was silent for so long that the peer has given the session up. */
  #isGivenUp(peer: number, nowUs: number): boolean {
    return this.state[peer] === wire.UP && nowUs >= this.#peerGivesUp[peer];
  }

  #giveUp(peer: number, nowUs: number): void {
    this.unsettle(nowUs);
    this.#change(peer, wire.DOWN, wire.DIAG_PATH_DOWN, nowUs);
  }

  #allKnown(): boolean {
    for (let i = 0; i < this.#count; i++) {
      const peer = this.#peers[i];
      const withdrawn = this.#remoteMult[peer] !== 0 && this.#remoteState[peer] === wire.ADMIN_DOWN;
      if (this.state[peer] !== wire.UP && !withdrawn) return false;
    }
    return true;
  }

  #detectionDue(peer: number): number {
    return this.#remoteMult[peer] === 0 ? NEVER : this.#lastRx[peer] + this.detectionTime(peer);
  }

  #deadline(peer: number): number {
    return this.#news[peer] === 1 ? 0 : Math.min(this.#txDue[peer], this.#detectionDue(peer));
  }

  #noteDeadline(deadline: number): void {
    if (deadline < this.nextUs) this.nextUs = deadline;
  }

  // ---- transmission (§6.8.7) ----------------------------------------------------------------

  /** Sends at once where the last packet says something else than is so now. */
  #tell(peer: number, nowUs: number): void {
    if (this.#news[peer] === 1) this.#transmit(peer, nowUs, 0);
    this.#noteDeadline(this.#deadline(peer));
  }

  #transmit(peer: number, nowUs: number, final: number): void {
    const { view } = this.#sink;
    const at = this.#sink.room();
    // A packet has never both P and F; the Poll goes on with the next.
    const bits = final !== 0 ? final : this.#poll[peer] === 1 ? wire.FLAG_POLL : 0;
    wire.emit(
      view,
      at,
      this.#diag[peer],
      this.state[peer],
      bits,
      this.#mult[peer],
      this.#localDiscr[peer],
      this.#remoteDiscr[peer],
      this.#minTx[peer],
      this.#minRx[peer],
    );
    this.#sink.send(at, wire.LENGTH, peer);
    this.#news[peer] = 0;
    this.#lastTx[peer] = nowUs;
    this.#schedule(peer);
    this.#peerGivesUp[peer] =
      this.#txDue[peer] === NEVER
        ? NEVER
        : nowUs + this.#mult[peer] * Math.max(this.#minTx[peer], this.#remoteMinRx[peer]);
  }

  #schedule(peer: number): void {
    const interval = this.transmitInterval(peer);
    this.#txDue[peer] = interval === 0 ? NEVER : this.#lastTx[peer] + this.#jittered(peer, interval);
  }

  /** A packet that changed the interval moves the next one (§6.8.3); otherwise it stays where it was. */
  #reschedule(peer: number, nowUs: number): void {
    const interval = this.transmitInterval(peer);
    const due = this.#txDue[peer];
    const last = this.#lastTx[peer];
    // A peer that wants to hear nothing does not give up.
    if (interval === 0) this.#peerGivesUp[peer] = NEVER;
    const fits = interval === 0 ? due === NEVER : due <= last + interval && due >= last + 0.75 * interval;
    if (fits) return;
    this.#schedule(peer);
    // What is late already goes with the next advance.
    if (this.#txDue[peer] < nowUs) this.#txDue[peer] = nowUs;
  }

  /** 75 to 100 % of the interval, to 90 % where one lost packet is the limit (§6.8.7). */
  #jittered(peer: number, interval: number): number {
    const most = this.#mult[peer] === 1 ? 0.9 : 1;
    return interval * (0.75 + (most - 0.75) * ((this.#word() >>> 0) / 2 ** 32));
  }

  /** Our number for the session: who it is with, and 16 bits that the session before did not have. */
  #newDiscriminator(peer: number): number {
    const salt = (this.#localDiscr[peer] >>> 16) ^ (1 + ((this.#word() >>> 1) % 0xffff));
    return (salt << 16) | (peer + 1);
  }

  /** 32 bits that are spread well enough for jitter and discriminators (mulberry32). */
  #word(): number {
    this.#random = (this.#random + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#random ^ (this.#random >>> 15), 1 | this.#random);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return t ^ (t >>> 14);
  }
}

function checkTimers({ desiredMinTxUs, requiredMinRxUs, detectMult }: BfdTimers): void {
  const interval = (us: number) => Number.isInteger(us) && us >= 1000 && us <= 0xffffffff;
  if (!interval(desiredMinTxUs)) throw new RangeError(`a BFD transmit interval of ${desiredMinTxUs} µs`);
  if (!interval(requiredMinRxUs)) throw new RangeError(`a BFD receive interval of ${requiredMinRxUs} µs`);
  if (!Number.isInteger(detectMult) || detectMult < 1 || detectMult > 255)
    throw new RangeError(`a BFD detect multiplier of ${detectMult}`);
}
