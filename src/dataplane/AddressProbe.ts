/**
 * Asks the LAN whether an IPv4 address is in use (RFC 5227 §2.1.1): before an address is given to a
 * Service for the first time. One address at a time; pure, as Announcer is.
 *
 *   start ─▶ wait 0-PROBE_WAIT ─▶ PROBE_NUM probes, PROBE_MIN-PROBE_MAX apart ─▶ ANNOUNCE_WAIT ─▶ free
 *                                   └── anybody has it, or probes for it too ─────▶ taken
 */
import * as arp from "../wire/arp.js";
import * as ethernet from "../wire/ethernet.js";
import { FRAME, type LanSink } from "./Announcer.js";

/** Times of RFC 5227 §1.1, microseconds. */
export interface ProbeTimes {
  probeWaitUs: number;
  probes: number;
  probeMinUs: number;
  probeMaxUs: number;
  announceWaitUs: number;
}

export const RFC_5227_TIMES: ProbeTimes = {
  probeWaitUs: 1_000_000,
  probes: 3,
  probeMinUs: 1_000_000,
  probeMaxUs: 2_000_000,
  announceWaitUs: 2_000_000,
};

/** For a wired LAN whose devices are up: an address is probed for half a second, a tenth of what RFC 5227 takes. */
export const QUICK_TIMES: ProbeTimes = {
  probeWaitUs: 20_000,
  probes: 3,
  probeMinUs: 100_000,
  probeMaxUs: 150_000,
  announceWaitUs: 200_000,
};

export const PROBING = 0;
export const FREE = 1;
export const TAKEN = 2;

export class AddressProbe {
  /** PROBING, FREE or TAKEN. */
  result = PROBING;
  /** Time at which `advance` is to be called next. */
  nextUs: number;
  /** MAC of who has the address, while TAKEN. */
  takenByHi = 0;
  takenByLo = 0;
  #sent = 0;

  /** `random`: a number from 0 to below 1, for the pauses that keep nodes from probing in step. */
  constructor(
    private readonly sink: LanSink,
    readonly address: number,
    private readonly macHi: number,
    private readonly macLo: number,
    private readonly times: ProbeTimes,
    private readonly random: () => number,
    nowUs: number,
  ) {
    this.nextUs = nowUs + times.probeWaitUs * random();
  }

  /** Takes a frame of the LAN with its Ethernet header at `o`; returns `result`. */
  receive(view: DataView, o: number, length: number): number {
    const a = o + ethernet.HEADER;
    if (this.result !== PROBING || length < FRAME) return this.result;
    if (ethernet.type(view, o) !== ethernet.TYPE_ARP || !arp.isEthernetIpv4(view, a)) return this.result;
    const hi = view.getUint16(a + arp.SENDER_HARDWARE);
    const lo = view.getInt32(a + arp.SENDER_HARDWARE + 2);
    if (hi === this.macHi && lo === this.macLo) return this.result;
    const sender = arp.senderAddress(view, a);
    const probesToo =
      sender === 0 && arp.operation(view, a) === arp.REQUEST && arp.targetAddress(view, a) === this.address;
    if (sender === this.address || probesToo) {
      this.result = TAKEN;
      this.nextUs = Number.POSITIVE_INFINITY;
      this.takenByHi = hi;
      this.takenByLo = lo;
    }
    return this.result;
  }

  /** Sends the probe that is due; returns `result`. */
  advance(nowUs: number): number {
    if (this.result !== PROBING || nowUs < this.nextUs) return this.result;
    const { probes, probeMinUs, probeMaxUs, announceWaitUs } = this.times;
    if (this.#sent === probes) {
      this.result = FREE;
      this.nextUs = Number.POSITIVE_INFINITY;
      return this.result;
    }
    this.#probe();
    this.#sent++;
    const pause = probeMinUs + (probeMaxUs - probeMinUs) * this.random();
    this.nextUs = nowUs + (this.#sent === probes ? announceWaitUs : pause);
    return this.result;
  }

  #probe(): void {
    const { view } = this.sink;
    const start = this.sink.room();
    const { BROADCAST_HI, BROADCAST_LO, TYPE_ARP, HEADER } = ethernet;
    ethernet.emit(view, start, BROADCAST_HI, BROADCAST_LO, this.macHi, this.macLo, TYPE_ARP);
    arp.emit(view, start + HEADER, arp.REQUEST, this.macHi, this.macLo, 0, 0, 0, this.address);
    this.sink.send(start, FRAME);
  }
}
