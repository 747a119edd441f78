/**
 * Load-balancer addresses on the LAN: decides which of them this node owns, answers ARP for those,
 * and tells the LAN by gratuitous ARP. IPv4. Frames and the time go in, frames go out through a
 * sink; it knows neither socket nor clock, and allocates nothing for a frame.
 *
 *   elect     the first node of each address's order that is up owns it (tables/VipTable)
 *             ours now → announce at once, then again by REPEATS_US, then every PERIOD_US
 *   receive   request for an address that we own → reply; somebody else claims it → below
 *   advance   announcements that are due, handovers that nobody took
 *   peerUp    what we own is announced once to a node that can be heard (again)
 *
 * Handing over. When a node that stands before this one comes up, this one goes on answering until
 * it hears the other's announcement, for HANDOVER_US at the longest: who has just started waits until
 * it knows its peers, and meanwhile nobody would answer.
 *
 * Two claimants. What counts is the order, which all compute alike: a claim from a node that stands
 * before us is yielded to, also while BFD does not reach it, for as long as it is heard; one that
 * stands behind us is told again, at most every PEER_DEFENCE_US, and yields. Where the order has changed,
 * nodes learn of it one after another: between such that hear each other it is a conflict only when it lasts
 * longer than a handover. A device that is no node
 * cannot be asked to yield: it is reported, and answered with one announcement in
 * FOREIGN_DEFENCE_US (RFC 5227 §2.4 c).
 */
import { NO_NODE, THIS_NODE, type VipTable } from "../tables/VipTable.js";
import * as arp from "../wire/arp.js";
import * as ethernet from "../wire/ethernet.js";

const SECOND_US = 1_000_000;
/** Times of the announcements of a new owner, after it has become that. */
export const REPEATS_US = [0, 100_000, 300_000, SECOND_US, 2 * SECOND_US, 4 * SECOND_US] as const;
/** Afterwards: for caches and switches that have forgotten. */
export const PERIOD_US = 30 * SECOND_US;
/** How long a claim counts that was yielded to while BFD did not reach its node. */
export const YIELD_US = 2.5 * PERIOD_US;
/** Longest overlap of the old owner with a new one that is not heard. Longer than liveness SETTLE_US. */
export const HANDOVER_US = 3 * SECOND_US;
export const PEER_DEFENCE_US = 100_000;
/** DEFEND_INTERVAL of RFC 5227. */
export const FOREIGN_DEFENCE_US = 10 * SECOND_US;
/** Least time between two reports about a conflict over one address. */
export const REPORT_US = 60 * SECOND_US;
/** Addresses announced in one go; the rest a millisecond later. */
export const BURST = 256;
const BURST_GAP_US = 1000;

export const FRAME = ethernet.HEADER + arp.LENGTH;
const NEVER = Number.POSITIVE_INFINITY;

/** What became of a frame. */
export const ANSWERED = 0;
/** It claims an address of ours, or is nothing that is answered. */
export const HEARD = 1;
export const MALFORMED = 2;

/** Where frames go. */
export interface LanSink {
  /** The memory that `room` is in. */
  readonly view: DataView;
  /** Offset of FRAME bytes for the next frame. */
  room(): number;
  send(start: number, length: number): void;
}

export interface AnnounceListener {
  /** This node has taken over an address (owner THIS_NODE), or gave it up in favour of `owner` (or NO_NODE). */
  ownerChanged(address: number, owner: number): void;
  /**
   * Somebody else claims an address that this node owns: the node, or NO_NODE for a foreign device,
   * its MAC, and whether this node has yielded. At most once in REPORT_US for an address, but always
   * where it has yielded.
   */
  conflict(address: number, claimant: number, macHi: number, macLo: number, yielded: boolean): void;
}

/** State of each address, in columns by row of the table. */
class Rows {
  readonly owned: Uint8Array;
  /** Who owns it as far as this node knows, and since when. */
  readonly owner: Int32Array;
  readonly ownerSinceUs: Float64Array;
  /** This node has given it up to another, whose claim it has not heard yet. */
  readonly unclaimed: Uint8Array;
  /** Announcements made since the takeover, up to REPEATS_US.length. */
  readonly announced: Uint8Array;
  readonly dueUs: Float64Array;
  readonly yieldedTo: Int32Array;
  readonly yieldUntilUs: Float64Array;
  readonly defendedUs: Float64Array;
  readonly reportedUs: Float64Array;
  /** First and last of claims of nodes behind us that follow one another. */
  readonly contestedUs: Float64Array;
  readonly claimedUs: Float64Array;

  constructor(size: number) {
    this.owned = new Uint8Array(size);
    this.owner = new Int32Array(size).fill(NO_NODE);
    this.ownerSinceUs = new Float64Array(size);
    this.unclaimed = new Uint8Array(size);
    this.announced = new Uint8Array(size);
    this.dueUs = new Float64Array(size).fill(NEVER);
    this.yieldedTo = new Int32Array(size).fill(NO_NODE);
    this.yieldUntilUs = new Float64Array(size);
    this.defendedUs = new Float64Array(size).fill(-NEVER);
    this.reportedUs = new Float64Array(size).fill(-NEVER);
    this.contestedUs = new Float64Array(size).fill(-NEVER);
    this.claimedUs = new Float64Array(size).fill(-NEVER);
  }

  /** Takes over row `from` of another table's rows as row `to`; numbers of nodes stay the same. */
  copy(to: number, other: Rows, from: number): void {
    this.owned[to] = other.owned[from];
    this.owner[to] = other.owner[from];
    this.ownerSinceUs[to] = other.ownerSinceUs[from];
    this.unclaimed[to] = other.unclaimed[from];
    this.announced[to] = other.announced[from];
    this.dueUs[to] = other.dueUs[from];
    this.yieldedTo[to] = other.yieldedTo[from];
    this.yieldUntilUs[to] = other.yieldUntilUs[from];
    this.defendedUs[to] = other.defendedUs[from];
    this.reportedUs[to] = other.reportedUs[from];
    this.contestedUs[to] = other.contestedUs[from];
    this.claimedUs[to] = other.claimedUs[from];
  }
}

export class Announcer {
  /** Time until which `advance` need not be called. */
  nextUs = NEVER;
  /** Claims of others to addresses that this node owned. */
  conflicts = 0;
  /** Gratuitous ARP frames sent. */
  announcements = 0;
  /** Requests answered. */
  replies = 0;

  readonly #sink: LanSink;
  readonly #listener: AnnounceListener;
  readonly #isUp: Uint8Array;
  readonly #upSinceUs: Float64Array;
  #vips: VipTable;
  #rows: Rows;
  #macHi = 0;
  #macLo = 0;
  #adoptedUs = -NEVER;
  #electUs = NEVER;

  /**
   * `isUp`: a byte for each node number up to THIS_NODE, not 0 where the node may own addresses;
   * `upSinceUs`: since when, by node number below THIS_NODE. Both are the caller's to write, followed
   * by `elect`.
   */
  constructor(
    sink: LanSink,
    listener: AnnounceListener,
    vips: VipTable,
    isUp: Uint8Array,
    upSinceUs: Float64Array,
  ) {
    this.#sink = sink;
    this.#listener = listener;
    this.#vips = vips;
    this.#rows = new Rows(vips.size);
    this.#isUp = isUp;
    this.#upSinceUs = upSinceUs;
  }

  /** Whether this node owns an address. */
  owns(address: number): boolean {
    const row = this.#vips.find(address);
    return row >= 0 && this.#rows.owned[row] === 1;
  }

  /** Who owns a row of the table as far as this node knows: a node number, THIS_NODE or NO_NODE. */
  owner(row: number): number {
    return this.#rows.owner[row];
  }

  /** Since when that is so, microseconds. */
  ownerSinceUs(row: number): number {
    return this.#rows.ownerSinceUs[row];
  }

  /** The table in force. */
  get vips(): VipTable {
    return this.#vips;
  }

  /** Addresses that were given up to nodes which have not been heard to claim them yet. */
  get unclaimed(): number {
    let count = 0;
    for (let row = 0; row < this.#vips.size; row++) count += this.#rows.unclaimed[row];
    return count;
  }

  /** Goes over to another table, and the MAC to announce with; what is owned stays so as far as it may. */
  adopt(vips: VipTable, macHi: number, macLo: number, nowUs: number): void {
    const old = this.#vips;
    const before = this.#rows;
    const rows = new Rows(vips.size);
    const otherMac = macHi !== this.#macHi || macLo !== this.#macLo;
    for (let row = 0; row < vips.size; row++) {
      const was = old.find(vips.address(row));
      if (was < 0) continue;
      rows.copy(row, before, was);
      // Caches hold the MAC before.
      if (otherMac && rows.owned[row] === 1) {
        rows.announced[row] = 0;
        rows.dueUs[row] = nowUs;
      }
    }
    this.#vips = vips;
    this.#rows = rows;
    this.#macHi = macHi;
    this.#macLo = macLo;
    this.#adoptedUs = nowUs;
    for (let row = 0; row < old.size; row++) {
      if (before.owned[row] === 1 && vips.find(old.address(row)) < 0)
        this.#listener.ownerChanged(old.address(row), NO_NODE);
    }
    this.elect(nowUs);
  }

  /** Decides about every address anew, and announces what this node has taken over. */
  elect(nowUs: number): void {
    this.#electUs = NEVER;
    for (let row = 0; row < this.#vips.size; row++) this.#decide(row, nowUs);
    this.nextUs = nowUs;
    this.advance(nowUs);
  }

  /**
   * A node can be heard (again): both sides announce what they own, so that two owners of one address
   * know of each other at once.
   */
  peerUp(node: number, nowUs: number): void {
    const { owned, dueUs } = this.#rows;
    for (let row = 0; row < this.#vips.size; row++) {
      if (owned[row] === 0 || this.#vips.place(row, node) < 0) continue;
      dueUs[row] = Math.min(dueUs[row], nowUs);
      this.nextUs = Math.min(this.nextUs, nowUs);
    }
  }

  /** Takes a frame of the LAN with its Ethernet header at `o`. Returns ANSWERED, HEARD or MALFORMED. */
  receive(view: DataView, o: number, length: number, nowUs: number): number {
    const a = o + ethernet.HEADER;
    if (length < FRAME || ethernet.type(view, o) !== ethernet.TYPE_ARP || !arp.isEthernetIpv4(view, a))
      return MALFORMED;
    const hi = view.getUint16(a + arp.SENDER_HARDWARE);
    const lo = view.getInt32(a + arp.SENDER_HARDWARE + 2);
    const operation = arp.operation(view, a);
    if ((hi & 0x0100) !== 0 || (operation !== arp.REQUEST && operation !== arp.REPLY)) return MALFORMED;
    if (lo === this.#macLo && hi === this.#macHi) return HEARD;
    const sender = arp.senderAddress(view, a);
    const claimed = sender === 0 ? -1 : this.#vips.find(sender);
    if (claimed >= 0) this.#hearClaim(claimed, hi, lo, nowUs);
    const target = arp.targetAddress(view, a);
    if (operation !== arp.REQUEST || target === sender) return HEARD;
    const row = this.#vips.find(target);
    if (row < 0 || this.#rows.owned[row] === 0) return HEARD;
    this.#send(arp.REPLY, hi, lo, target, hi, lo, sender);
    this.replies++;
    return ANSWERED;
  }

  /** Sends the announcements that are due, and ends handovers that have taken long enough. */
  advance(nowUs: number): void {
    if (nowUs < this.nextUs) return;
    if (nowUs >= this.#electUs) {
      this.elect(nowUs);
      return;
    }
    const { dueUs } = this.#rows;
    let next = this.#electUs;
    let left = BURST;
    for (let row = 0; row < this.#vips.size; row++) {
      if (dueUs[row] <= nowUs) {
        if (left-- > 0) this.#announceNext(row, nowUs);
        else next = Math.min(next, nowUs + BURST_GAP_US);
      }
      if (dueUs[row] > nowUs && dueUs[row] < next) next = dueUs[row];
    }
    this.nextUs = next;
  }

  // ---- election -----------------------------------------------------------------------------

  #decide(row: number, nowUs: number): void {
    const owned = this.#rows.owned[row] === 1;
    const owner = this.#ownerOf(row, nowUs);
    if (owner === THIS_NODE) {
      if (!owned) this.#takeOver(row, nowUs);
    } else if (!owned) {
      this.#noteOwner(row, owner, nowUs);
    } else if (!this.#waitsForHeir(row, owner, nowUs)) {
      this.#giveUp(row, owner, nowUs);
    }
  }

  /** By the order, in which a node that was yielded to counts as alive. Once BFD reaches it, BFD decides. */
  #ownerOf(row: number, nowUs: number): number {
    const rows = this.#rows;
    const owner = this.#vips.owner(row, this.#isUp);
    const to = rows.yieldedTo[row];
    if (to === NO_NODE) return owner;
    if (this.#isUp[to] !== 0 || nowUs >= rows.yieldUntilUs[row] || !this.#standsBefore(row, to)) {
      rows.yieldedTo[row] = NO_NODE;
      return owner;
    }
    this.#electUs = Math.min(this.#electUs, rows.yieldUntilUs[row]);
    if (owner === NO_NODE) return to;
    return this.#vips.place(row, owner) < this.#vips.place(row, to) ? owner : to;
  }

  #standsBefore(row: number, node: number): boolean {
    const theirs = this.#vips.place(row, node);
    return theirs >= 0 && theirs < this.#vips.place(row, THIS_NODE);
  }

  /** Whether to go on answering until `heir` is heard. */
  #waitsForHeir(row: number, heir: number, nowUs: number): boolean {
    if (heir === NO_NODE || this.#isUp[THIS_NODE] === 0 || this.#rows.yieldedTo[row] === heir) return false;
    if (!this.#standsBefore(row, heir)) return false;
    const until = Math.max(this.#upSinceUs[heir], this.#adoptedUs) + HANDOVER_US;
    if (nowUs >= until) return false;
    this.#electUs = Math.min(this.#electUs, until);
    return true;
  }

  #takeOver(row: number, nowUs: number): void {
    const rows = this.#rows;
    rows.owned[row] = 1;
    rows.announced[row] = 0;
    rows.dueUs[row] = nowUs;
    rows.unclaimed[row] = 0;
    this.#noteOwner(row, THIS_NODE, nowUs);
    this.#listener.ownerChanged(this.#vips.address(row), THIS_NODE);
  }

  #giveUp(row: number, owner: number, nowUs: number): void {
    this.#rows.owned[row] = 0;
    this.#rows.dueUs[row] = NEVER;
    this.#rows.unclaimed[row] = owner === NO_NODE ? 0 : 1;
    this.#noteOwner(row, owner, nowUs);
    this.#listener.ownerChanged(this.#vips.address(row), owner);
  }

  #noteOwner(row: number, owner: number, nowUs: number): void {
    if (this.#rows.owner[row] === owner) return;
    this.#rows.owner[row] = owner;
    this.#rows.ownerSinceUs[row] = nowUs;
  }

  // ---- conflicts ----------------------------------------------------------------------------

  #hearClaim(row: number, hi: number, lo: number, nowUs: number): void {
    const rows = this.#rows;
    const claimant = this.#vips.nodeOfMac(hi, lo);
    if (rows.owned[row] === 0) {
      if (claimant !== NO_NODE) rows.unclaimed[row] = 0;
      if (claimant !== NO_NODE && claimant === rows.yieldedTo[row]) rows.yieldUntilUs[row] = nowUs + YIELD_US;
      return;
    }
    const address = this.#vips.address(row);
    if (claimant !== NO_NODE && this.#standsBefore(row, claimant)) {
      const expected = this.#isUp[claimant] !== 0;
      this.#giveUp(row, expected ? this.#vips.owner(row, this.#isUp) : claimant, nowUs);
      rows.unclaimed[row] = 0;
      // BFD reaches it: the order needs no help.
      if (expected) return;
      rows.yieldedTo[row] = claimant;
      rows.yieldUntilUs[row] = nowUs + YIELD_US;
      this.#electUs = Math.min(this.#electUs, rows.yieldUntilUs[row]);
      this.nextUs = Math.min(this.nextUs, this.#electUs);
      this.conflicts++;
      this.#listener.conflict(address, claimant, hi, lo, true);
      return;
    }
    const pause = claimant === NO_NODE ? FOREIGN_DEFENCE_US : PEER_DEFENCE_US;
    if (nowUs >= rows.defendedUs[row] + pause) {
      rows.defendedUs[row] = nowUs;
      this.#announce(address);
    }
    if (this.#handsOver(row, claimant, nowUs) || this.#goesByOtherOrder(row, claimant, nowUs)) return;
    this.conflicts++;
    if (nowUs >= rows.reportedUs[row] + REPORT_US) {
      rows.reportedUs[row] = nowUs;
      this.#listener.conflict(address, claimant, hi, lo, false);
    }
  }

  /**
   * Whether a node that stands behind us has just handed the address over: its last announcement and our
   * first one have crossed. It was up when we became the owner; after a partition it was not.
   */
  #handsOver(row: number, node: number, nowUs: number): boolean {
    if (node === NO_NODE || this.#isUp[node] === 0) return false;
    const since = this.#rows.ownerSinceUs[row];
    return this.#upSinceUs[node] <= since && nowUs < since + HANDOVER_US;
  }

  /**
   * Whether a node that stands behind us, and was never out of hearing, has only just begun to claim the
   * address: the order has changed, and one of us has not got the new one yet.
   */
  #goesByOtherOrder(row: number, node: number, nowUs: number): boolean {
    if (node === NO_NODE || this.#isUp[node] === 0) return false;
    if (nowUs < this.#upSinceUs[node] + HANDOVER_US) return false;
    const { contestedUs, claimedUs } = this.#rows;
    if (nowUs >= claimedUs[row] + HANDOVER_US) contestedUs[row] = nowUs;
    claimedUs[row] = nowUs;
    return nowUs < contestedUs[row] + HANDOVER_US;
  }

  // ---- frames -------------------------------------------------------------------------------

  #announceNext(row: number, nowUs: number): void {
    const rows = this.#rows;
    this.#announce(this.#vips.address(row));
    const count = ++rows.announced[row];
    if (count < REPEATS_US.length) {
      rows.dueUs[row] = nowUs + REPEATS_US[count] - REPEATS_US[count - 1];
    } else {
      rows.announced[row] = REPEATS_US.length;
      // Addresses that were taken over together need not be announced together for ever.
      rows.dueUs[row] = nowUs + PERIOD_US * (1 - (this.#vips.address(row) & 0xff) / 1024);
    }
  }

  /** Request and reply: there are caches that learn from one of them only. */
  #announce(address: number): void {
    const { BROADCAST_HI, BROADCAST_LO } = ethernet;
    this.#send(arp.REQUEST, BROADCAST_HI, BROADCAST_LO, address, 0, 0, address);
    // A gratuitous reply names the address's MAC as target (RFC 5944 §4.6).
    this.#send(arp.REPLY, BROADCAST_HI, BROADCAST_LO, address, this.#macHi, this.#macLo, address);
    this.announcements += 2;
  }

  #send(
    operation: number,
    toHi: number,
    toLo: number,
    sender: number,
    targetHi: number,
    targetLo: number,
    target: number,
  ): void {
    const { view } = this.#sink;
    const start = this.#sink.room();
    ethernet.emit(view, start, toHi, toLo, this.#macHi, this.#macLo, ethernet.TYPE_ARP);
    const a = start + ethernet.HEADER;
    arp.emit(view, a, operation, this.#macHi, this.#macLo, sender, targetHi, targetLo, target);
    this.#sink.send(start, FRAME);
  }
}
