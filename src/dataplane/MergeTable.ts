/**
 * Frames to TAPs that may still grow: consecutive TCP segments, or equal-sized UDP datagrams, of one
 * flow become one GSO frame (what the kernel calls GRO). A direct-mapped table of ENTRIES flows;
 * a flow that finds another in its place closes it. Everything is closed at the end of a breath.
 *
 *   message  │scratch: virtio-net, headers│──▶ payload 1 ──▶ payload 2 …
 *
 * Rules for TCP follow tcp_gro_receive: same addresses, ports, TOS, TTL, DF, acknowledgement, window
 * and options; next sequence number; only ACK and PSH set; a segment shorter than the first, or with
 * PSH, is the last. A merged frame's checksums are verified by native before it is written
 * (MSG_FLAG_VERIFY), unless they are all still partial.
 */
import { COUNT_MERGED } from "../packet/counters.js";
import {
  MAX_GSO_SEGMENTS,
  MAX_IOV,
  MSG_FLAG_VERIFY,
  MSG_FLAGS,
  MSG_FRAMES,
  MSG_HEADERS,
  MSG_L4_LENGTH,
  MSG_PSEUDO,
} from "../packet/layout.js";
import * as checksum from "../wire/checksum.js";
import * as ethernet from "../wire/ethernet.js";
import * as ipv4 from "../wire/ipv4.js";
import * as tcp from "../wire/tcp.js";
import * as udp from "../wire/udp.js";
import * as virtioNet from "../wire/virtioNet.js";
import type { Dataplane } from "./Dataplane.js";
import { copyHeader } from "./segment.js";

const ENTRIES = 64;
const L4 = ethernet.HEADER + ipv4.HEADER_MIN;
/** Most bytes of a merged IP packet. */
const MAX_TOTAL = 65535;
/** Most segments: one piece each, and one for the headers. */
const MAX_TCP_SEGMENTS = MAX_IOV - 1;
/** In the word of data offset, flags and window: all but PSH. */
const SAME_TCP_WORD = ~(tcp.PSH << 16);

export class MergeTable {
  /** Slots in use, in order of opening; a closed one stays listed with #segments 0. */
  readonly #opened = new Int32Array(ENTRIES);
  #openCount = 0;
  readonly #segments = new Int32Array(ENTRIES);
  readonly #listed = new Uint8Array(ENTRIES);
  readonly #message = new Int32Array(ENTRIES);
  readonly #slot = new Int32Array(ENTRIES);
  readonly #source = new Int32Array(ENTRIES);
  readonly #destination = new Int32Array(ENTRIES);
  readonly #ports = new Int32Array(ENTRIES);
  readonly #protocol = new Int32Array(ENTRIES);
  /** Payload size of all but the last segment. */
  readonly #size = new Int32Array(ENTRIES);
  readonly #payload = new Int32Array(ENTRIES);
  readonly #next = new Int32Array(ENTRIES);
  readonly #l4Header = new Int32Array(ENTRIES);
  readonly #partial = new Int32Array(ENTRIES);

  /** Place of a flow. */
  place(source: number, ports: number): number {
    const h = Math.imul(source ^ ports, 0x9e3779b1);
    return h >>> 26;
  }

  /** Whether this place holds this flow. */
  holds(p: number, source: number, destination: number, ports: number, protocol: number): boolean {
    return (
      this.#segments[p] !== 0 &&
      this.#ports[p] === ports &&
      this.#source[p] === source &&
      this.#destination[p] === destination &&
      this.#protocol[p] === protocol
    );
  }

  isOpen(p: number): boolean {
    return this.#segments[p] !== 0;
  }

  /**
   * Opens row `i`, whose MACs stand and which is IPv4 without options, as a frame that may grow.
   * The place must be free; a message, a slot, and a piece for the headers
   * and one for each segment must be reserved.
   */
  open(dp: Dataplane, p: number, i: number, l4Header: number, payload: number, partial: number): void {
    const { batch, view, plan } = dp;
    const frame = batch.offset[i];
    const slot = plan.slot();
    const headers = L4 + l4Header;
    copyHeader(view, slot + virtioNet.HEADER, frame, headers);
    const m = plan.message(batch.out[i], 0, slot, virtioNet.HEADER + headers, 0);
    plan.msg[m + MSG_FRAMES] = 0;
    if (this.#listed[p] === 0) {
      this.#listed[p] = 1;
      this.#opened[this.#openCount++] = p;
    }
    this.#segments[p] = 0;
    this.#message[p] = m;
    this.#slot[p] = slot;
    this.#source[p] = batch.source[i];
    this.#destination[p] = batch.destination[i];
    this.#ports[p] = batch.ports[i];
    this.#protocol[p] = batch.protocol[i];
    this.#size[p] = payload;
    this.#payload[p] = 0;
    this.#l4Header[p] = l4Header;
    this.#partial[p] = partial;
    this.#next[p] = view.getInt32(batch.l4[i] + tcp.SEQUENCE);
    this.#take(dp, p, i, payload);
  }

  /** Whether TCP row `i` of the flow at `p` continues the open frame. */
  continuesTcp(
    dp: Dataplane,
    p: number,
    i: number,
    l4Header: number,
    payload: number,
    partial: number,
  ): boolean {
    const { view, batch } = dp;
    const l3 = batch.l3[i];
    const l4 = batch.l4[i];
    const ip = this.#slot[p] + virtioNet.HEADER + ethernet.HEADER;
    const t = ip + ipv4.HEADER_MIN;
    if (
      view.getInt32(l4 + tcp.SEQUENCE) !== this.#next[p] ||
      payload > this.#size[p] ||
      (payload < this.#size[p] && batch.segments[i] > 1) ||
      partial !== this.#partial[p] ||
      this.#segments[p] + batch.segments[i] > MAX_TCP_SEGMENTS ||
      ipv4.HEADER_MIN + l4Header + this.#payload[p] + payload * batch.segments[i] > MAX_TOTAL ||
      view.getInt32(l4 + tcp.ACKNOWLEDGEMENT) !== view.getInt32(t + tcp.ACKNOWLEDGEMENT) ||
      ((view.getInt32(l4 + tcp.DATA_OFFSET) ^ view.getInt32(t + tcp.DATA_OFFSET)) & SAME_TCP_WORD) !== 0 ||
      !sameNetworkHeader(view, ip, l3)
    ) {
      return false;
    }
    for (let x = tcp.HEADER_MIN; x < l4Header; x += 4) {
      if (view.getInt32(l4 + x) !== view.getInt32(t + x)) return false;
    }
    return true;
  }

  /** Whether UDP row `i` of the flow at `p` continues the open frame. */
  continuesUdp(dp: Dataplane, p: number, i: number, payload: number, partial: number): boolean {
    const { view, batch } = dp;
    const ip = this.#slot[p] + virtioNet.HEADER + ethernet.HEADER;
    return (
      payload <= this.#size[p] &&
      (payload === this.#size[p] || batch.segments[i] === 1) &&
      partial === this.#partial[p] &&
      this.#segments[p] + batch.segments[i] <= MAX_GSO_SEGMENTS &&
      L4 + udp.HEADER + this.#payload[p] + payload * batch.segments[i] <= MAX_TOTAL &&
      sameNetworkHeader(view, ip, batch.l3[i])
    );
  }

  /** Adds row `i` to the open frame at `p`. Pieces for its segments must be reserved. */
  add(dp: Dataplane, p: number, i: number, payload: number): void {
    dp.counters[COUNT_MERGED]++;
    this.#take(dp, p, i, payload);
  }

  /** Takes in the segments of row `i`; closes the frame where nothing may follow. */
  #take(dp: Dataplane, p: number, i: number, payload: number): void {
    const { plan, batch, view } = dp;
    const m = this.#message[p];
    const segments = batch.segments[i];
    const stride = batch.stride[i];
    const last = payload - batch.short[i];
    let at = batch.end[i] - payload;
    for (let n = 1; n < segments; n++, at += stride) plan.append(m, at, payload, 0);
    plan.append(m, at, last, 0);
    plan.msg[m + MSG_FRAMES] += segments;
    const bytes = payload * segments - batch.short[i];
    this.#segments[p] += segments;
    this.#payload[p] += bytes;
    this.#next[p] += bytes;
    dp.counters[COUNT_MERGED] += segments - 1;
    let push = 0;
    if (this.#protocol[p] === ipv4.PROTOCOL_TCP) {
      push = view.getUint8(at - this.#l4Header[p] + tcp.FLAGS) & tcp.PSH;
      if (push !== 0) {
        const flags = this.#slot[p] + virtioNet.HEADER + L4 + tcp.FLAGS;
        view.setUint8(flags, view.getUint8(flags) | tcp.PSH);
      }
    }
    if (push !== 0 || last < this.#size[p]) this.close(dp, p);
  }

  /** Finishes the frame at `p`: lengths, checksums, virtio-net header. */
  close(dp: Dataplane, p: number): void {
    const segments = this.#segments[p];
    if (segments === 0) return;
    this.#segments[p] = 0;
    const { view } = dp;
    const slot = this.#slot[p];
    const partial = this.#partial[p];
    const isTcp = this.#protocol[p] === ipv4.PROTOCOL_TCP;
    const field = isTcp ? tcp.CHECKSUM : udp.CHECKSUM;
    if (segments === 1) {
      const flags = partial !== 0 ? virtioNet.NEEDS_CSUM : 0;
      virtioNet.emit(view, slot, flags, 0, 0, 0, partial !== 0 ? L4 : 0, partial !== 0 ? field : 0);
      return;
    }
    const l4Header = this.#l4Header[p];
    const l4Bytes = l4Header + this.#payload[p];
    const ip = slot + virtioNet.HEADER + ethernet.HEADER;
    const t = ip + ipv4.HEADER_MIN;
    view.setUint16(ip + ipv4.TOTAL_LENGTH, ipv4.HEADER_MIN + l4Bytes);
    ipv4.setChecksum(view, ip, ipv4.HEADER_MIN);
    const pseudo = checksum.pseudo4(this.#source[p], this.#destination[p], this.#protocol[p]);
    view.setUint16(t + field, checksum.fold(pseudo + l4Bytes));
    if (!isTcp) view.setUint16(t + udp.LENGTH, l4Bytes);
    virtioNet.emit(
      view,
      slot,
      virtioNet.NEEDS_CSUM,
      isTcp ? virtioNet.GSO_TCPV4 : virtioNet.GSO_UDP_L4,
      L4 + l4Header,
      this.#size[p],
      L4,
      field,
    );
    if (partial === 0) {
      const { msg } = dp.plan;
      const m = this.#message[p];
      msg[m + MSG_FLAGS] = MSG_FLAG_VERIFY;
      msg[m + MSG_L4_LENGTH] = l4Header;
      msg[m + MSG_PSEUDO] = pseudo;
      msg[m + MSG_HEADERS] = L4 + l4Header;
    }
  }

  /** Forgets all, finished or not. */
  discard(): void {
    this.#segments.fill(0);
    this.#listed.fill(0);
    this.#openCount = 0;
  }

  /** Closes all. */
  closeAll(dp: Dataplane): void {
    for (let n = 0; n < this.#openCount; n++) {
      const p = this.#opened[n];
      this.close(dp, p);
      this.#listed[p] = 0;
    }
    this.#openCount = 0;
  }
}

/** Whether TOS, DF, TTL and protocol are equal; identification and lengths may differ. */
function sameNetworkHeader(view: DataView, a: number, b: number): boolean {
  return (
    view.getUint16(a) === view.getUint16(b) &&
    view.getUint16(a + ipv4.FRAGMENT) === view.getUint16(b + ipv4.FRAGMENT) &&
    view.getUint16(a + ipv4.TTL) === view.getUint16(b + ipv4.TTL)
  );
}
