/**
 * Copies packets into a capture ring on their way through the stages (capture/CaptureRing), with what
 * became of them: there only while somebody captures. Makes no garbage and waits for nobody.
 *
 *   received      inner, outer       what TAPs and the tunnel brought
 *   translating   before
 *   translated    after
 *   decided       inner, outer       what leaves; dropped
 *                 then every record of the batch gets verdict and flow, and the reader sees them
 *
 * Frames are taken as they are here: a GSO frame whole, a partial checksum partial, a run frame by
 * frame. Outer IPv4 and UDP headers, which the kernel makes and takes away, are written anew.
 */

import type { Dataplane } from "../dataplane/Dataplane.js";
import type { PacketTap } from "../dataplane/PacketTap.js";
import {
  ANSWERED,
  BATCH_CAPACITY,
  DROPPED,
  KIND_ARP,
  KIND_IPV4,
  PENDING,
  TO_TAP,
  TO_VTEP,
} from "../packet/Batch.js";
import { DropReason } from "../packet/DropReason.js";
import {
  CSUM_REQUEST,
  IOV_CSUM,
  IOV_LENGTH,
  IOV_NEXT,
  IOV_OFFSET,
  IOV_STRIDE,
  MSG_GSO,
  MSG_IOV,
  MSG_PEER,
  MSG_PORT,
} from "../packet/layout.js";
import { MSG_BYTES } from "../packet/TxPlan.js";
import {
  echoPorts,
  FLOW_FLAGS,
  FLOW_ORIGINAL,
  FLOW_PROTOCOL,
  FLOW_REPLY,
  FLOW_SERVICE,
  FLOW_STATE,
  KEY_DESTINATION,
  KEY_PORTS,
  KEY_SOURCE,
  STATE_FREE,
  turnedPorts,
} from "../tables/flowLayout.js";
import { ROLE_NONE } from "../tables/PortTable.js";
import * as arp from "../wire/arp.js";
import * as checksum from "../wire/checksum.js";
import * as ethernet from "../wire/ethernet.js";
import * as flowTag from "../wire/flowTag.js";
import * as icmp from "../wire/icmp.js";
import * as ipv4 from "../wire/ipv4.js";
import * as udp from "../wire/udp.js";
import * as virtioNet from "../wire/virtioNet.js";
import * as vxlan from "../wire/vxlan.js";
import type { RingWriter } from "./CaptureRing.js";
import { matchesFilter, NO_PROTOCOL, SHAPE_WORDS } from "./filterProgram.js";
import {
  type CaptureSpec,
  COUNT_LOST,
  COUNT_MATCHED,
  COUNT_SEEN,
  INTERFACE_AFTER,
  INTERFACE_BEFORE,
  INTERFACE_DROPPED,
  INTERFACE_DROPPED_OUTER,
  INTERFACE_OUTER,
  POINT_AFTER,
  POINT_BEFORE,
  POINT_DROPPED,
  POINT_INNER,
  POINT_OUTER,
  RECORD_CAPTURED,
  RECORD_DIRECTION,
  RECORD_FLAG_HEARD,
  RECORD_FLAG_IN,
  RECORD_FLAG_MADE,
  RECORD_FLAG_OUT,
  RECORD_FLAG_PARTIAL,
  RECORD_FLAGS,
  RECORD_FLOW_FLAGS,
  RECORD_GSO,
  RECORD_INTERFACE,
  RECORD_LENGTH,
  RECORD_ORIGINAL,
  RECORD_OUT,
  RECORD_PORT,
  RECORD_PROTOCOL,
  RECORD_REPLY,
  RECORD_ROW,
  RECORD_SERVICE,
  RECORD_STATE,
  RECORD_TIME,
  RECORD_VERDICT,
  RECORD_VTEP,
  RECORD_WORDS,
} from "./layout.js";

/** Outer headers up to and with VXLAN. */
const OUTER = ipv4.HEADER_MIN + udp.HEADER + vxlan.HEADER;
/** Longest IPv4 packet. */
const MAX_PACKET = 65_535;
const OUTER_TTL = 64;
/** The packet, what it was or will be (two), its outer addresses. */
const MAX_SHAPES = 4;
const NO_ROW = -1;

export class PacketCapture implements PacketTap {
  readonly #ring: RingWriter;
  readonly #spec: CaptureSpec;
  readonly #shapes = new Int32Array(MAX_SHAPES * SHAPE_WORDS);
  #shapeCount = 0;
  #type = 0;
  /** UDP port of the sender, by row. */
  readonly #peerPorts = new Int32Array(BATCH_CAPACITY);
  /** Within a batch: what is written waits for its verdict. */
  #open = false;

  constructor(ring: RingWriter, spec: CaptureSpec) {
    this.#ring = ring;
    this.#spec = spec;
  }

  arrivedFrom(from: number, to: number, l4Port: number): void {
    for (let i = from; i < to; i++) this.#peerPorts[i] = l4Port;
  }

  received(dp: Dataplane, resumed: boolean): void {
    this.#open = true;
    if (resumed) {
      this.#peerPorts.fill(0);
      return;
    }
    const { batch, tables } = dp;
    const { points } = this.#spec;
    if ((points & (POINT_INNER | POINT_OUTER)) === 0) return;
    for (let i = 0; i < batch.count; i++) {
      if (batch.port[i] === tables.tunnelPort) {
        if ((points & POINT_OUTER) !== 0) this.#datagrams(dp, i, INTERFACE_OUTER);
      } else if ((points & POINT_INNER) !== 0) {
        this.#frames(dp, i, batch.port[i], RECORD_FLAG_IN, true);
      }
    }
  }

  translating(dp: Dataplane): void {
    if ((this.#spec.points & POINT_BEFORE) !== 0) this.#pending(dp, INTERFACE_BEFORE, true);
  }

  translated(dp: Dataplane): void {
    if ((this.#spec.points & POINT_AFTER) !== 0) this.#pending(dp, INTERFACE_AFTER, false);
  }

  decided(dp: Dataplane): void {
    const { batch } = dp;
    const { points } = this.#spec;
    for (let i = 0; i < batch.count; i++) {
      const verdict = batch.verdict[i];
      if (verdict === DROPPED) {
        if ((points & POINT_DROPPED) !== 0) this.#dropped(dp, i);
      } else if (verdict === TO_TAP) {
        if ((points & POINT_INNER) !== 0) this.#frames(dp, i, batch.out[i], RECORD_FLAG_OUT, false);
      } else if (verdict === TO_VTEP) {
        if ((points & POINT_OUTER) !== 0) this.#toVtep(dp, i, batch.out[i], 0);
      } else if (verdict === ANSWERED && batch.kind[i] === KIND_ARP) {
        if (batch.vtep[i] >= 0) {
          if ((points & POINT_OUTER) !== 0) this.#toVtep(dp, i, batch.vtep[i], RECORD_FLAG_MADE);
        } else if ((points & POINT_INNER) !== 0) {
          this.#frames(dp, i, batch.port[i], RECORD_FLAG_OUT | RECORD_FLAG_MADE, false);
        }
      }
    }
    this.#settle(dp);
  }

  answered(dp: Dataplane, i: number, m: number): void {
    const { batch, plan, tables } = dp;
    const { points } = this.#spec;
    const flags = RECORD_FLAG_OUT | RECORD_FLAG_MADE;
    const bytes = plan.msg[m + MSG_BYTES];
    if (batch.vtep[i] < 0) {
      const port = batch.port[i];
      if ((points & POINT_INNER) === 0 || !this.#wantsPort(port)) return;
      const front = virtioNet.HEADER;
      this.#shapeMessage(dp, m, front);
      this.#message(dp, port, i, flags, m, front, bytes - front);
    } else if ((points & POINT_OUTER) !== 0) {
      const { fdb } = tables;
      const vtep = batch.vtep[i];
      this.#shapeMessage(dp, m, vxlan.HEADER);
      this.#addShape(tables.underlayAddress, fdb.address(vtep), 0, NO_PROTOCOL);
      this.#message(dp, INTERFACE_OUTER, i, flags, m, 0, bytes);
    }
  }

  gaveUp(dp: Dataplane, offset: number, length: number, port: number, reason: DropReason): void {
    if ((this.#spec.points & POINT_DROPPED) === 0) return;
    this.#shape(dp.view, offset, length);
    if (!this.#passes(INTERFACE_DROPPED, port, 1)) return;
    const record = this.#record(dp, INTERFACE_DROPPED, NO_ROW, port, length, 0, 0);
    if (record >= 0) {
      this.#copyRest(dp.view, offset, record, 0);
      this.#judge(record, DROPPED, reason);
    }
    this.#commitAlone();
  }

  refused(dp: Dataplane, m: number, reason: DropReason): void {
    if ((this.#spec.points & POINT_DROPPED) === 0) return;
    const { plan, tables } = dp;
    const { msg } = plan;
    const port = msg[m + MSG_PORT];
    const bytes = msg[m + MSG_BYTES];
    if (port !== tables.tunnelPort) {
      // BFD and the LAN are no packets' way.
      if (port !== tables.gsoPort && tables.ports.role(port) === ROLE_NONE) return;
      const front = port === tables.gsoPort ? virtioNet.HEADER_TUNNEL : virtioNet.HEADER;
      this.#shapeMessage(dp, m, front);
      const record = this.#message(dp, INTERFACE_DROPPED, NO_ROW, RECORD_FLAG_OUT, m, front, bytes - front);
      if (record >= 0) this.#judge(record, DROPPED, reason);
    } else {
      const size = msg[m + MSG_GSO] === 0 ? bytes : msg[m + MSG_GSO];
      for (let at = 0; at < bytes; at += size) {
        const part = Math.min(size, bytes - at);
        this.#shapeMessage(dp, m, at + vxlan.HEADER);
        this.#addShape(tables.underlayAddress, tables.fdb.address(msg[m + MSG_PEER]), 0, NO_PROTOCOL);
        const record = this.#message(dp, INTERFACE_DROPPED_OUTER, NO_ROW, RECORD_FLAG_OUT, m, at, part);
        if (record < 0) continue;
        this.#ring.words[record + RECORD_VTEP] = msg[m + MSG_PEER];
        this.#judge(record, DROPPED, reason);
      }
    }
    this.#commitAlone();
  }

  abandoned(dp: Dataplane): void {
    const { batch } = dp;
    for (let i = 0; i < batch.count; i++) {
      if (batch.verdict[i] === DROPPED) continue;
      batch.verdict[i] = DROPPED;
      batch.out[i] = DropReason.internalError;
    }
    this.decided(dp);
  }

  // ---- rows -----------------------------------------------------------------------------------

  /** What is PENDING and IPv4, as it is between two stages. */
  #pending(dp: Dataplane, at: number, looksUp: boolean): void {
    const { batch } = dp;
    for (let i = 0; i < batch.count; i++) {
      if (batch.verdict[i] !== PENDING || batch.kind[i] !== KIND_IPV4) continue;
      this.#rowFrames(dp, i, at, 0, looksUp);
    }
  }

  #dropped(dp: Dataplane, i: number): void {
    const { batch, tables } = dp;
    // Dropped before decap had done its work: a datagram.
    if (batch.port[i] === tables.tunnelPort && batch.vtep[i] < 0) {
      this.#datagrams(dp, i, INTERFACE_DROPPED_OUTER);
    } else {
      this.#rowFrames(dp, i, INTERFACE_DROPPED, 0, false);
    }
  }

  #wantsPort(port: number): boolean {
    return this.#spec.innerPort < 0 || port === this.#spec.innerPort;
  }

  /** The frames of row `i` at the TAP `port`. */
  #frames(dp: Dataplane, i: number, port: number, flags: number, looksUp: boolean): void {
    if (this.#wantsPort(port)) this.#rowFrames(dp, i, port, flags, looksUp);
  }

  /** The frames of row `i` at interface `at`. */
  #rowFrames(dp: Dataplane, i: number, at: number, flags: number, looksUp: boolean): void {
    const { batch, view } = dp;
    const segments = batch.segments[i];
    const start = batch.offset[i];
    const length = batch.length[i];
    this.#shape(view, start, length);
    this.#addFlow(dp, i, looksUp, batch.tag[i]);
    if (!this.#passes(at, batch.port[i], segments)) return;
    const gso = batch.gsoType[i] === virtioNet.GSO_NONE ? 0 : batch.gsoSize[i];
    const all = flags | this.#flagsOf(dp, i);
    for (let n = 0; n < segments; n++) {
      const bytes = n === segments - 1 ? length - batch.short[i] : length;
      const record = this.#record(dp, at, i, batch.port[i], bytes, all, gso);
      if (record < 0) continue;
      this.#copyRest(view, start + n * batch.stride[i], record, 0);
    }
  }

  /** The datagrams of row `i`, which begin with a VXLAN header, as they came from the tunnel. */
  #datagrams(dp: Dataplane, i: number, at: number): void {
    const { batch, view, tables } = dp;
    const segments = batch.segments[i];
    const start = batch.offset[i];
    const length = batch.length[i];
    const frame = start + vxlan.HEADER;
    this.#shape(view, frame, length - vxlan.HEADER);
    const tag = length >= vxlan.HEADER + ethernet.HEADER ? flowTag.read(view, frame) : 0;
    this.#addFlow(dp, i, true, tag);
    this.#addShape(batch.peer[i], tables.underlayAddress, 0, NO_PROTOCOL);
    if (!this.#passes(at, batch.port[i], segments)) return;
    const gso = batch.gsoType[i] === virtioNet.GSO_NONE ? 0 : batch.gsoSize[i];
    const flags = RECORD_FLAG_IN | this.#flagsOf(dp, i);
    for (let n = 0; n < segments; n++) {
      const payload = n === segments - 1 ? length - batch.short[i] : length;
      const total = Math.min(MAX_PACKET, ipv4.HEADER_MIN + udp.HEADER + payload);
      const record = this.#record(dp, at, i, batch.port[i], total, flags, gso);
      if (record < 0) continue;
      const ports = (this.#peerPorts[i] << 16) | tables.vxlanPort;
      const written = this.#outer(record, total, batch.peer[i], tables.underlayAddress, ports);
      this.#copyRest(view, start + n * batch.stride[i], record, written);
    }
  }

  /** Row `i`, a frame whose MACs stand, as it leaves for a VTEP. */
  #toVtep(dp: Dataplane, i: number, vtep: number, more: number): void {
    const { batch, view, tables } = dp;
    const { fdb } = tables;
    const frame = batch.offset[i];
    this.#shape(view, frame, batch.length[i]);
    this.#addFlow(dp, i, false, 0);
    this.#addShape(tables.underlayAddress, fdb.address(vtep), 0, NO_PROTOCOL);
    if (!this.#passes(INTERFACE_OUTER, batch.port[i], 1)) return;
    const gso = batch.gsoType[i] === virtioNet.GSO_NONE ? 0 : batch.gsoSize[i];
    const total = Math.min(MAX_PACKET, OUTER + batch.length[i]);
    const flags = RECORD_FLAG_OUT | more | this.#flagsOf(dp, i);
    const record = this.#record(dp, INTERFACE_OUTER, i, batch.port[i], total, flags, gso);
    if (record < 0) return;
    const ports = (tables.vxlanPort << 16) | fdb.udpPort(vtep);
    const written = this.#outer(record, total, tables.underlayAddress, fdb.address(vtep), ports);
    // Fragments and frames of tunnel GSO have theirs elsewhere.
    vxlan.emit(this.#ring.view, this.#at(record, written), tables.vni);
    this.#copyRest(view, frame, record, OUTER);
  }

  #flagsOf(dp: Dataplane, i: number): number {
    const { batch } = dp;
    const partial = batch.csumStart[i] >= 0 ? RECORD_FLAG_PARTIAL : 0;
    return batch.heard[i] === 0 ? partial : partial | RECORD_FLAG_HEARD;
  }

  // ---- messages of the plan -------------------------------------------------------------------

  /**
   * `length` bytes of message `m` from `skip` on, as a record at interface `at`; outer headers come in
   * front where the message has a VXLAN header. A checksum that is still to be finished is finished.
   */
  #message(
    dp: Dataplane,
    at: number,
    i: number,
    flags: number,
    m: number,
    skip: number,
    length: number,
  ): number {
    const { batch, plan, tables } = dp;
    const { msg } = plan;
    const port = i === NO_ROW ? msg[m + MSG_PORT] : batch.port[i];
    if (!this.#passes(at, port, 1)) return -1;
    const outer = at === INTERFACE_OUTER || at === INTERFACE_DROPPED_OUTER;
    const total = outer ? Math.min(MAX_PACKET, ipv4.HEADER_MIN + udp.HEADER + length) : length;
    const record = this.#record(dp, at, i, port, total, flags, 0);
    if (record < 0) return -1;
    let written = 0;
    if (outer) {
      const vtep = msg[m + MSG_PEER];
      const ports = (tables.vxlanPort << 16) | tables.fdb.udpPort(vtep);
      written = this.#outer(record, total, tables.underlayAddress, tables.fdb.address(vtep), ports);
    }
    const captured = this.#ring.words[record + RECORD_CAPTURED];
    const first = written;
    const { iov } = plan;
    let left = skip;
    for (let p = msg[m + MSG_IOV]; p >= 0 && written < captured; p = iov[p * IOV_STRIDE + IOV_NEXT]) {
      const offset = iov[p * IOV_STRIDE + IOV_OFFSET];
      const bytes = iov[p * IOV_STRIDE + IOV_LENGTH];
      if (left >= bytes) {
        left -= bytes;
        continue;
      }
      const part = Math.min(bytes - left, captured - written);
      this.#copy(dp.view, offset + left, record, written, part);
      written += part;
      left = 0;
    }
    const csum = iov[msg[m + MSG_IOV] * IOV_STRIDE + IOV_CSUM];
    if (i !== NO_ROW && (csum & CSUM_REQUEST) !== 0 && captured === total) {
      this.#finishChecksum(record, first - skip + (csum & 0xff), (csum >>> 8) & 0xff);
    }
    return record;
  }

  /** Completes the checksum that starts `start` bytes into a packet and is stored `field` bytes on. */
  #finishChecksum(record: number, start: number, field: number): void {
    const { view, words } = this.#ring;
    const from = this.#at(record, start);
    const bytes = words[record + RECORD_CAPTURED] - start;
    view.setUint16(from + field, checksum.finish(checksum.sum(view, from, bytes, 0)));
  }

  // ---- records --------------------------------------------------------------------------------

  /** Counts what comes by at interface `at`, and says whether the filter wants it. */
  #passes(at: number, port: number, packets: number): boolean {
    const { counts } = this.#ring;
    counts[COUNT_SEEN + at] += packets;
    if (!matchesFilter(this.#spec.filter, this.#shapes, this.#shapeCount, this.#type, port)) return false;
    counts[COUNT_MATCHED + at] += packets;
    return true;
  }

  /** Begins a record of a packet of `length` bytes; -1 where there is no room for it. */
  #record(
    dp: Dataplane,
    at: number,
    row: number,
    port: number,
    length: number,
    flags: number,
    gso: number,
  ): number {
    const ring = this.#ring;
    // A row may be too short for anything.
    const bytes = Math.max(0, length);
    const record = ring.reserve(Math.min(bytes, this.#spec.snapLength));
    if (record < 0) {
      ring.counts[COUNT_LOST + at]++;
      return -1;
    }
    const { words } = ring;
    words[record + RECORD_INTERFACE] = at;
    words[record + RECORD_LENGTH] = bytes;
    words[record + RECORD_FLAGS] = flags;
    words[record + RECORD_ROW] = row;
    ring.view.setFloat64((record + RECORD_TIME) * 4, dp.nowUs, true);
    words[record + RECORD_PORT] = port;
    words[record + RECORD_VTEP] = row === NO_ROW ? -1 : dp.batch.vtep[row];
    words[record + RECORD_GSO] = gso;
    words[record + RECORD_DIRECTION] = -1;
    return record;
  }

  #judge(record: number, verdict: number, out: number): void {
    const { words } = this.#ring;
    words[record + RECORD_VERDICT] = verdict;
    words[record + RECORD_OUT] = out;
  }

  /** Gives the batch's records verdict and flow, and shows them to the reader. */
  #settle(dp: Dataplane): void {
    const { batch, flows } = dp;
    const ring = this.#ring;
    const { words } = ring;
    ring.rewind();
    for (let record = ring.walk(); record >= 0; record = ring.walk()) {
      const row = words[record + RECORD_ROW];
      if (row === NO_ROW) continue;
      this.#judge(record, batch.verdict[row], batch.out[row]);
      words[record + RECORD_VTEP] = batch.vtep[row];
      const flow = batch.flow[row];
      if (flow < 0) continue;
      const base = flows.base(flow);
      if (flows.words[base + FLOW_STATE] === STATE_FREE) continue;
      words[record + RECORD_DIRECTION] = batch.direction[row];
      words[record + RECORD_PROTOCOL] = flows.words[base + FLOW_PROTOCOL];
      words[record + RECORD_STATE] = flows.words[base + FLOW_STATE];
      words[record + RECORD_FLOW_FLAGS] = flows.words[base + FLOW_FLAGS];
      words[record + RECORD_SERVICE] = flows.words[base + FLOW_SERVICE];
      for (let w = 0; w < 3; w++) {
        words[record + RECORD_ORIGINAL + w] = flows.words[base + FLOW_ORIGINAL + w];
        words[record + RECORD_REPLY + w] = flows.words[base + FLOW_REPLY + w];
      }
    }
    this.#open = false;
    ring.commit();
  }

  /** Shows what was written outside of a batch. */
  #commitAlone(): void {
    if (!this.#open) this.#ring.commit();
  }

  /** Where byte `n` of a record's packet is. */
  #at(record: number, n: number): number {
    return (record + RECORD_WORDS) * 4 + n;
  }

  /** Writes outer IPv4 and UDP headers (RFC 7348 §5: a UDP checksum of zero) in front. Returns their bytes. */
  #outer(record: number, total: number, source: number, destination: number, ports: number): number {
    const { view } = this.#ring;
    const at = this.#at(record, 0);
    ipv4.emit(view, at, total, 0, 0, OUTER_TTL, ipv4.PROTOCOL_UDP, source, destination);
    const u = at + ipv4.HEADER_MIN;
    view.setInt32(u, ports);
    view.setUint16(u + udp.LENGTH, total - ipv4.HEADER_MIN);
    view.setUint16(u + udp.CHECKSUM, 0);
    return ipv4.HEADER_MIN + udp.HEADER;
  }

  #copyRest(from: DataView, offset: number, record: number, written: number): void {
    this.#copy(from, offset, record, written, this.#ring.words[record + RECORD_CAPTURED] - written);
  }

  /** Copies in words: a typed array's `set` wants an object, and is no faster into shared memory. */
  #copy(from: DataView, offset: number, record: number, written: number, bytes: number): void {
    const { view } = this.#ring;
    const to = this.#at(record, written);
    const inWords = bytes & ~3;
    for (let x = 0; x < inWords; x += 4) view.setInt32(to + x, from.getInt32(offset + x));
    for (let x = inWords; x < bytes; x++) view.setUint8(to + x, from.getUint8(offset + x));
  }

  // ---- shapes: what the filter looks at ---------------------------------------------------------

  #addShape(source: number, destination: number, ports: number, protocol: number): void {
    const at = this.#shapeCount++ * SHAPE_WORDS;
    const shapes = this.#shapes;
    shapes[at] = source;
    shapes[at + 1] = destination;
    shapes[at + 2] = ports;
    shapes[at + 3] = protocol;
  }

  /** Begins with the frame of `length` bytes at `o`, which nobody has checked. */
  #shape(view: DataView, o: number, length: number): void {
    this.#shapeCount = 0;
    this.#type = 0;
    // Nothing is asked.
    if (this.#spec.filter.length === 0 || length < ethernet.HEADER) return;
    this.#type = ethernet.type(view, o);
    const l3 = o + ethernet.HEADER;
    const bytes = length - ethernet.HEADER;
    if (this.#type === ethernet.TYPE_ARP) {
      if (bytes >= arp.LENGTH)
        this.#addShape(arp.senderAddress(view, l3), arp.targetAddress(view, l3), 0, NO_PROTOCOL);
    } else if (this.#type === ethernet.TYPE_IPV4 && bytes >= ipv4.HEADER_MIN) {
      const protocol = ipv4.protocol(view, l3);
      const header = ipv4.headerLength(view, l3);
      const first = (ipv4.fragment(view, l3) & ipv4.FRAGMENT_OFFSET) === 0;
      const ports = first ? portsOf(view, l3 + header, bytes - header, protocol) : 0;
      this.#addShape(ipv4.source(view, l3), ipv4.destination(view, l3), ports, protocol);
    }
  }

  /** The same for the frame that begins `skip` bytes into message `m`: its headers lie in one piece. */
  #shapeMessage(dp: Dataplane, m: number, skip: number): void {
    const { iov, msg } = dp.plan;
    let left = skip;
    let p = msg[m + MSG_IOV];
    while (p >= 0 && left >= iov[p * IOV_STRIDE + IOV_LENGTH]) {
      left -= iov[p * IOV_STRIDE + IOV_LENGTH];
      p = iov[p * IOV_STRIDE + IOV_NEXT];
    }
    if (p < 0) this.#shape(dp.view, 0, 0);
    else
      this.#shape(dp.view, iov[p * IOV_STRIDE + IOV_OFFSET] + left, iov[p * IOV_STRIDE + IOV_LENGTH] - left);
  }

  /**
   * Adds what the packet of row `i` looks like as it arrives and as it leaves, where it belongs to a
   * flow. `looksUp`: before conntrack, by the packet's first shape.
   */
  #addFlow(dp: Dataplane, i: number, looksUp: boolean, tag: number): void {
    if (this.#shapeCount === 0 || this.#shapes[3] === NO_PROTOCOL) return;
    const { batch, flows } = dp;
    const shapes = this.#shapes;
    let record = batch.flow[i];
    let direction = batch.direction[i];
    if (looksUp) {
      const found = flows.find(shapes[0], shapes[1], shapes[2], shapes[3], tag);
      record = found >> 1;
      direction = found & 1;
    }
    if (record < 0) return;
    const { words } = flows;
    const base = flows.base(record);
    if (words[base + FLOW_STATE] === STATE_FREE) return;
    const arrives = base + (direction === 0 ? FLOW_ORIGINAL : FLOW_REPLY);
    const leaves = base + (direction === 0 ? FLOW_REPLY : FLOW_ORIGINAL);
    const protocol = words[base + FLOW_PROTOCOL];
    this.#addShape(
      words[arrives + KEY_SOURCE],
      words[arrives + KEY_DESTINATION],
      words[arrives + KEY_PORTS],
      protocol,
    );
    const ports = turnedPorts(words[leaves + KEY_PORTS]);
    this.#addShape(words[leaves + KEY_DESTINATION], words[leaves + KEY_SOURCE], ports, protocol);
  }
}

/** Ports as the flow table has them, of a transport header of which `bytes` bytes are there. */
function portsOf(view: DataView, l4: number, bytes: number, protocol: number): number {
  if (protocol === ipv4.PROTOCOL_ICMP) {
    return bytes < icmp.HEADER ? 0 : echoPorts(view.getUint8(l4), view.getUint16(l4 + icmp.IDENTIFIER));
  }
  const has =
    protocol === ipv4.PROTOCOL_TCP || protocol === ipv4.PROTOCOL_UDP || protocol === ipv4.PROTOCOL_SCTP;
  return has && bytes >= 4 ? view.getInt32(l4) : 0;
}
