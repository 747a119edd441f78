/**
 * Announcement within a thread's breaths: puts Ownership on the ports of the table image and the plan,
 * reads the carrier, and counts. Owns no rule about who owns what (Ownership), no descriptor, no thread.
 *
 *   begin ─▶ a descriptor of the BFD, LAN or link port each: receive ─▶ end
 *
 * Of a breath without such descriptors, in which nothing is due, it need not know: times are doubles,
 * and one that is handed to a function may become an object.
 */
import type { AnnounceListener } from "../dataplane/Announcer.js";
import type { Dataplane } from "../dataplane/Dataplane.js";
import { type BfdListener, type BfdTimers, VALID } from "../liveness/Bfd.js";
import type { Arena } from "../packet/Arena.js";
import {
  COUNT_BFD_DISCARDED,
  COUNT_BFD_RECEIVED,
  COUNT_BFD_SENT,
  COUNT_LAN_ANNOUNCEMENTS,
  COUNT_LAN_CONFLICTS,
  COUNT_LAN_RECEIVED,
  COUNT_LAN_REPLIES,
  COUNT_TAKEOVERS,
} from "../packet/counters.js";
import {
  BFD_PEERS,
  MAX_PORTS,
  PORT_BFD,
  PORT_LINK,
  PORT_NETLINK,
  RX_LENGTH,
  RX_OFFSET,
  RX_PEER,
  RX_PORT,
} from "../packet/layout.js";
import { LinkEvents } from "../port/LinkEvents.js";
import { SendPort } from "../port/SendPort.js";
import type { Tables } from "../tables/TableImage.js";
import { THIS_NODE } from "../tables/VipTable.js";
import type { AnnouncementStatus, BfdSessionStatus, VipStatus } from "./control.js";
import { type BfdPeer, Ownership } from "./Ownership.js";
import type { PeerLiveness } from "./PeerLiveness.js";

/** How long a drained node waits for others to be heard to claim what it gave up. */
export const HANDOVER_WAIT_US = 1_000_000;

/** What happened, told outside the packet path. */
export interface AnnouncementReports extends AnnounceListener {
  sessionChanged: BfdListener;
}

export class Announcement {
  readonly ownership: Ownership;
  /** One number: the time from which on a breath must call begin and end, microseconds. */
  readonly due = new Float64Array(1);
  readonly #dataplane: Dataplane;
  readonly #arena: Arena;
  readonly #counters: Float64Array;
  readonly #lan: SendPort;
  readonly #bfd: SendPort;
  /** Kinds of the ports whose descriptors are for `receive`, by number; 0 for all others. */
  readonly #kinds = new Uint8Array(MAX_PORTS);
  readonly #link = new LinkEvents();
  #drainedUs = 0;

  /** `seed`: as for Bfd. `liveness`: as for Ownership. */
  constructor(dataplane: Dataplane, reports: AnnouncementReports, seed: number, liveness: PeerLiveness) {
    this.#dataplane = dataplane;
    this.#arena = dataplane.arena;
    this.#counters = dataplane.counters;
    this.#lan = new SendPort(dataplane);
    this.#bfd = new SendPort(dataplane, BFD_PEERS);
    const listener: AnnounceListener = {
      ownerChanged: (address, owner) => {
        if (owner === THIS_NODE) this.#counters[COUNT_TAKEOVERS]++;
        reports.ownerChanged(address, owner);
      },
      conflict: (address, claimant, macHi, macLo, yielded) =>
        reports.conflict(address, claimant, macHi, macLo, yielded),
    };
    this.ownership = new Ownership(
      this.#bfd,
      this.#lan,
      dataplane.tables.vips,
      listener,
      (peer, from, to, diagnostic) => reports.sessionChanged(peer, from, to, diagnostic),
      seed,
      liveness,
    );
  }

  /**
   * A port is in use from now on. What it brings before a table says what for counts too: the first
   * message about the link is the only one, unless something happens.
   */
  attach(port: number, kind: number): void {
    if (kind === PORT_BFD || kind === PORT_LINK || kind === PORT_NETLINK) this.#kinds[port] = kind;
  }

  /** A port is used no longer. */
  detach(port: number): void {
    const kind = this.#kinds[port];
    this.#kinds[port] = 0;
    if (kind !== PORT_NETLINK) return;
    const { nowUs } = this.#dataplane;
    this.#link.reset();
    this.ownership.setCarrier(false, nowUs);
    this.due[0] = nowUs;
  }

  /** Goes over to the tables of another image. Throws RangeError on BFD timers out of range. */
  adopt(tables: Tables): void {
    const { nowUs } = this.#dataplane;
    this.due[0] = nowUs;
    const { bfd, fdb, vips } = tables;
    this.#bfd.port = bfd.sendPort;
    this.#lan.port = tables.lanPort;
    if (bfd.sendPort >= 0) {
      const { desiredMinTxUs, requiredMinRxUs, detectMult } = bfd;
      const timers: BfdTimers = { desiredMinTxUs, requiredMinRxUs, detectMult };
      const peers: BfdPeer[] = [];
      for (let n = 0; n < bfd.size; n++)
        peers.push({ peer: bfd.peer(n), address: fdb.address(bfd.peer(n)), timers });
      this.ownership.setPeers(peers, nowUs);
    }
    this.ownership.adoptTable(vips, tables.lanMacHi, tables.lanMacLo, nowUs);
  }

  /** Milliseconds that the thread may sleep, at most `longest`. */
  longestWait(longest: number): number {
    const waitUs = this.due[0] - this.#dataplane.nowUs;
    return waitUs >= longest * 1000 ? longest : Math.max(0, Math.ceil(waitUs / 1000));
  }

  /** Whether the descriptors of a port are for `receive`. */
  takes(port: number): boolean {
    return this.#kinds[port] !== 0;
  }

  begin(): void {
    this.ownership.begin(this.#dataplane.nowUs);
  }

  /** Takes the receive descriptor with base index `d`. */
  receive(d: number): void {
    const { nowUs } = this.#dataplane;
    const { rx, view } = this.#arena;
    const counters = this.#counters;
    const kind = this.#kinds[rx[d + RX_PORT]];
    const at = rx[d + RX_OFFSET];
    const length = rx[d + RX_LENGTH];
    if (kind === PORT_BFD) {
      counters[COUNT_BFD_RECEIVED]++;
      if (this.ownership.receiveBfd(view, at, length, rx[d + RX_PEER], nowUs) !== VALID)
        counters[COUNT_BFD_DISCARDED]++;
    } else if (kind === PORT_LINK) {
      counters[COUNT_LAN_RECEIVED]++;
      this.ownership.receiveLan(view, at, length, nowUs);
    } else {
      this.#hearLink(view, at, length, nowUs);
    }
  }

  end(): void {
    this.ownership.end(this.#dataplane.nowUs);
    this.due[0] = this.ownership.nextUs;
    const { announcer } = this.ownership;
    const counters = this.#counters;
    counters[COUNT_BFD_SENT] = this.#bfd.sent;
    counters[COUNT_LAN_REPLIES] = announcer.replies;
    counters[COUNT_LAN_ANNOUNCEMENTS] = announcer.announcements;
    counters[COUNT_LAN_CONFLICTS] = announcer.conflicts;
  }

  /** Withdraws from everything, or comes back. */
  drain(drained: boolean): void {
    const { nowUs } = this.#dataplane;
    this.ownership.drain(drained, nowUs);
    this.#drainedUs = nowUs;
    this.due[0] = nowUs;
  }

  /** Whether others have been heard to claim all that a drained node gave up, or were waited for long enough. */
  handedOver(): boolean {
    return (
      this.ownership.announcer.unclaimed === 0 || this.#dataplane.nowUs >= this.#drainedUs + HANDOVER_WAIT_US
    );
  }

  /** What is so now, for people. */
  status(): AnnouncementStatus {
    const { nowUs } = this.#dataplane;
    const { ownership } = this;
    const { carrier, drained } = ownership;
    return {
      carrier,
      drained,
      settled: ownership.bfd.settled(nowUs),
      vips: this.#vips(nowUs),
      sessions: this.#sessions(nowUs),
    };
  }

  #vips(nowUs: number): VipStatus[] {
    const { announcer } = this.ownership;
    return Array.from({ length: announcer.vips.size }, (_, row) => {
      const address = announcer.vips.address(row);
      const owner = announcer.owner(row);
      const forMs = (nowUs - announcer.ownerSinceUs(row)) / 1000;
      return { address, owner, answers: announcer.owns(address), forMs };
    });
  }

  #sessions(nowUs: number): BfdSessionStatus[] {
    const { bfd, liveness } = this.ownership;
    return [...this.ownership.peers].map((peer) => ({
      peer,
      state: bfd.state[peer],
      remoteState: bfd.remoteState(peer),
      diagnostic: bfd.diagnostic(peer),
      remoteDiagnostic: bfd.remoteDiagnostic(peer),
      down: liveness.down[peer] !== 0,
      upForMs: bfd.upSinceUs[peer] === 0 ? 0 : (nowUs - bfd.upSinceUs[peer]) / 1000,
      transmitUs: bfd.transmitInterval(peer),
      detectionUs: bfd.detectionTime(peer),
    }));
  }

  #hearLink(view: DataView, at: number, length: number, nowUs: number): void {
    const link = this.#link;
    if (!link.receive(view, at, length)) return;
    if (link.lost) this.ownership.setCarrier(false, nowUs);
    this.ownership.setCarrier(link.carrier, nowUs);
  }
}
