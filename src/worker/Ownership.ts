/**
 * Which load-balancer addresses this node owns, moment by moment: BFD says who is alive, the table
 * in which order nodes come, the Announcer acts on the LAN. Lives in the dataplane thread, so that a
 * takeover waits for nothing and a slow control thread is not a dead node. Pure: packets and time in,
 * packets out.
 *
 *   begin     did this node stand still? then it owns nothing, before it reads what was queued
 *   receive*  BFD packets, ARP frames of this breath
 *   end       detection times and packets that are due, election where something changed, announcements
 *
 * After a late breath nobody is given up before the queued BFD packets are read, which may take
 * several breaths.
 */
import { type AnnounceListener, Announcer, type LanSink } from "../dataplane/Announcer.js";
import { Bfd, type BfdListener, type BfdSink, type BfdTimers, INIT, UP } from "../liveness/Bfd.js";
import { NO_NODE, THIS_NODE, type VipTable } from "../tables/VipTable.js";
import { PeerLiveness } from "./PeerLiveness.js";

/** A breath is late where it comes this long after something was due. */
const LATE_US = 20_000;
/** Longest time that queued BFD packets keep detection times from being looked at. */
const DRAIN_US = 100_000;
const MIN_WELCOME_US = 50_000;

/**
 * Microseconds for which a node that knows its peers again leaves them the addresses that they own: in
 * that time they tell it of the connections that it will have to take up (dataplane/FlowSharing). They
 * answer until they hear it claim, so nobody waits; but where all have stood still at once, all wait, and
 * so it is no longer than two intervals, or what a sweep of flows takes.
 */
export function welcomeUs({ desiredMinTxUs, requiredMinRxUs }: BfdTimers): number {
  return Math.max(MIN_WELCOME_US, 2 * Math.max(desiredMinTxUs, requiredMinRxUs));
}

/** A node to have a BFD session with, by its VTEP index. */
export interface BfdPeer {
  peer: number;
  /** IPv4 address, int32. */
  address: number;
  timers: BfdTimers;
}

export class Ownership {
  readonly bfd: Bfd;
  readonly announcer: Announcer;
  /** By node number: it is alive and may own addresses. */
  readonly isUp: Uint8Array;
  /** What follows from BFD, for every thread to read. */
  readonly liveness: PeerLiveness;
  readonly #peers = new Set<number>();
  /** The LAN interface has carrier and this node is not being drained. */
  #carrier = false;
  #drained = false;
  #changed = false;
  #started = false;
  #wasSettled = false;
  /** Until then others keep what they own; 0 otherwise. */
  #welcomeUntilUs = 0;
  /** How long, as sessions are configured. */
  #welcomeUs = 0;
  /** Reading what was queued while this node was late, at most until then; 0 otherwise. */
  #drainUntilUs = 0;
  #heard = 0;
  /** `bfd.silences` as it was published. */
  #silences = 0;

  /**
   * `seed`: as for Bfd. `bfdChanged` is told of every change of a session's state. `liveness`: memory
   * that other threads go by.
   */
  constructor(
    bfdSink: BfdSink,
    lanSink: LanSink,
    vips: VipTable,
    listener: AnnounceListener,
    bfdChanged: BfdListener,
    seed: number,
    liveness = new PeerLiveness(),
  ) {
    this.liveness = liveness;
    this.isUp = liveness.up;
    this.bfd = new Bfd(
      THIS_NODE,
      bfdSink,
      (peer, from, to, diagnostic) => {
        this.isUp[peer] = to === UP ? 1 : 0;
        this.#changed = true;
        if (to === UP) this.announcer.peerUp(peer, this.bfd.upSinceUs[peer]);
        bfdChanged(peer, from, to, diagnostic);
      },
      seed,
    );
    const announceListener: AnnounceListener = {
      ownerChanged: (address, owner) => listener.ownerChanged(address, owner),
      conflict: (address, claimant, macHi, macLo, yielded) => {
        // Its announcement has overtaken its last packet of the session's coming up: that is no conflict.
        if (claimant !== NO_NODE && this.bfd.state[claimant] === INIT) return;
        listener.conflict(address, claimant, macHi, macLo, yielded);
      },
    };
    this.announcer = new Announcer(lanSink, announceListener, vips, this.isUp, this.bfd.upSinceUs);
  }

  /** Time until which a breath without packets would have nothing to do. */
  get nextUs(): number {
    const nextUs = Math.min(this.bfd.nextUs, this.announcer.nextUs, this.bfd.settleUs);
    return this.#welcomeUntilUs === 0 ? nextUs : Math.min(nextUs, this.#welcomeUntilUs);
  }

  /** Sessions from now on. Those that stay keep their state. */
  setPeers(peers: readonly BfdPeer[], nowUs: number): void {
    const wanted = new Set(peers.map(({ peer }) => peer));
    for (const peer of this.#peers) {
      if (wanted.has(peer)) continue;
      this.#peers.delete(peer);
      this.bfd.remove(peer);
      this.isUp[peer] = 0;
      this.liveness.down[peer] = 0;
    }
    for (const { peer, address, timers } of peers) {
      this.bfd.add(peer, address, timers, nowUs);
      this.#welcomeUs = welcomeUs(timers);
      this.#peers.add(peer);
      this.isUp[peer] = this.bfd.state[peer] === UP ? 1 : 0;
      if (this.#drained) this.bfd.setAdminDown(peer, true, nowUs);
    }
    // A node that starts knows nobody yet.
    if (!this.#started) this.bfd.unsettle(nowUs);
    this.#started = true;
    this.#changed = true;
  }

  /** What is said of addresses, and the MAC to say it with. */
  adoptTable(vips: VipTable, macHi: number, macLo: number, nowUs: number): void {
    this.announcer.adopt(vips, macHi, macLo, nowUs);
  }

  /** VTEP indices of the nodes with which there are sessions. */
  get peers(): ReadonlySet<number> {
    return this.#peers;
  }

  get carrier(): boolean {
    return this.#carrier;
  }

  get drained(): boolean {
    return this.#drained;
  }

  /** Whether the LAN interface has carrier. Without it this node owns nothing. */
  setCarrier(carrier: boolean, nowUs: number): void {
    // Who cannot be heard without a link must be heard anew with it.
    if (carrier && !this.#carrier) this.bfd.unsettle(nowUs);
    if (carrier !== this.#carrier) this.#changed = true;
    this.#carrier = carrier;
  }

  /** Withdraws from everything, telling the peers (BFD AdminDown), or comes back. */
  drain(drained: boolean, nowUs: number): void {
    if (drained === this.#drained) return;
    this.#drained = drained;
    for (const peer of this.#peers) this.bfd.setAdminDown(peer, drained, nowUs);
    if (!drained) this.bfd.unsettle(nowUs);
    this.#changed = true;
    this.end(nowUs);
  }

  /** Tells the peers that nothing is forwarded any more, so that new flows skip this node's pods at once. */
  takeLeave(nowUs: number): void {
    for (const peer of this.#peers) this.bfd.takeLeave(peer, nowUs);
  }

  begin(nowUs: number): void {
    this.#heard = 0;
    if (nowUs >= this.nextUs + LATE_US && this.#drainUntilUs === 0) this.#drainUntilUs = nowUs + DRAIN_US;
    this.bfd.noticeStandstill(nowUs);
    this.#electIfChanged(nowUs);
  }

  /** A BFD packet with TTL 255; returns what Bfd.receive does. */
  receiveBfd(view: DataView, o: number, length: number, source: number, nowUs: number): number {
    this.#heard++;
    return this.bfd.receive(view, o, length, source, nowUs);
  }

  /** A frame of the LAN; returns what Announcer.receive does. */
  receiveLan(view: DataView, o: number, length: number, nowUs: number): number {
    // What BFD has said in this breath counts first.
    this.#electIfChanged(nowUs);
    return this.announcer.receive(view, o, length, nowUs);
  }

  end(nowUs: number): void {
    if (this.#drainUntilUs !== 0 && (this.#heard === 0 || nowUs >= this.#drainUntilUs))
      this.#drainUntilUs = 0;
    if (this.#drainUntilUs === 0) this.bfd.advance(nowUs);
    this.#electIfChanged(nowUs);
    this.announcer.advance(nowUs);
  }

  #electIfChanged(nowUs: number): void {
    const settled = this.bfd.settled(nowUs);
    if (settled && !this.#wasSettled) this.#welcomeUntilUs = nowUs + this.#welcomeUs;
    if (nowUs >= this.#welcomeUntilUs || !settled || !this.#isExpected()) this.#welcomeUntilUs = 0;
    const may = this.#carrier && this.#started && !this.#drained && settled;
    const self = may && this.#welcomeUntilUs === 0 ? 1 : 0;
    const { silences } = this.bfd;
    const same = self === this.isUp[THIS_NODE] && settled === this.#wasSettled && silences === this.#silences;
    if (!this.#changed && same) return;
    this.#changed = false;
    this.#silences = silences;
    this.#wasSettled = settled;
    this.isUp[THIS_NODE] = self;
    this.#publishLiveness(settled);
    this.announcer.elect(nowUs);
  }

  /** Whether a peer that is up may own an address that this node may own too. */
  #isExpected(): boolean {
    const { vips } = this.announcer;
    for (let row = 0; row < vips.size; row++) {
      if (vips.place(row, THIS_NODE) < 0) continue;
      const owner = vips.owner(row, this.isUp);
      if (owner !== NO_NODE && owner !== THIS_NODE) return true;
    }
    return false;
  }

  /**
   * Whether a peer's backends are to be avoided. Only where its session was Up: a firewall that keeps BFD
   * back, or a peer that runs none, must not take all remote backends away.
   */
  #isLost(peer: number): boolean {
    const { bfd } = this;
    return this.isUp[peer] === 0 && bfd.hasBeenUp(peer) && !bfd.isWithdrawn(peer);
  }

  #publishLiveness(settled: boolean): void {
    const { down, changes } = this.liveness;
    // Sessions that this node has ended say nothing of the peers, and a peer that withdraws is not dead.
    if (!this.#drained) for (const peer of this.#peers) down[peer] = settled && this.#isLost(peer) ? 1 : 0;
    Atomics.add(changes, 0, 1);
  }
}
