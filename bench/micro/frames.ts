/**
 * Frames that stay in an arena and are received again and again: filling a batch writes back what
 * the stages changed in them (MACs, TTL, addresses, ports, checksums), and the rows as a port would.
 */

import type { Dataplane } from "../../src/dataplane/Dataplane.js";
import { ARENA, HEADROOM } from "../../src/packet/layout.js";
import * as checksum from "../../src/wire/checksum.js";
import * as ethernet from "../../src/wire/ethernet.js";
import * as ipv4 from "../../src/wire/ipv4.js";
import * as tcp from "../../src/wire/tcp.js";
import * as udp from "../../src/wire/udp.js";
import * as virtioNet from "../../src/wire/virtioNet.js";
import * as vxlan from "../../src/wire/vxlan.js";
import { NODE_MAC, peerAddress, TUNNEL_PORT, VNI } from "./cluster.js";

/** What a frame is made of. */
export interface FrameSpec {
  /** Port number that it arrives on; TUNNEL_PORT puts a VXLAN header in front. */
  port: number;
  source: number;
  destination: number;
  protocol: "tcp" | "udp";
  payload: number;
  /** TCP sequence number. */
  sequence: number;
  /** Segment size of a GSO frame, 0 for a single one. */
  gsoSize: number;
  /**
   * Source << 16 | destination port: one for all, or those that frames take in turn. More than one
   * only from a TAP, whose partial checksums do not cover ports.
   */
  ports?: Int32Array;
}

const L3 = ethernet.HEADER;
const L4 = L3 + ipv4.HEADER_MIN;
const TTL = 64;
const PORTS = Int32Array.of((40_000 << 16) | 5201);

export class FrameSource {
  readonly #dp: Dataplane;
  readonly specs: readonly FrameSpec[];
  /** Offset of each Ethernet header in the arena. */
  readonly #offsets: number[] = [];
  readonly #checksums: number[] = [];
  readonly #l4Checksums: number[] = [];
  /** Frames filled in so far: which of its ports a frame gets. */
  #turn = 0;

  /** Writes the frames into the receive area of the dataplane's arena. */
  constructor(dp: Dataplane, specs: readonly FrameSpec[]) {
    this.#dp = dp;
    this.specs = specs;
    let at = ARENA.rxTap + HEADROOM;
    for (const spec of specs) {
      this.#offsets.push(at);
      this.#checksums.push(this.#write(at, spec));
      at = (at + length(spec) + HEADROOM + 63) & ~63;
      if (at > ARENA.rxUdp) throw new RangeError("more frames than the receive area holds");
    }
  }

  /** Frames in a batch. */
  get count(): number {
    return this.specs.length;
  }

  /** Fills the dataplane's batch, which is empty or done with. */
  fill(): void {
    const { batch, view } = this.#dp;
    batch.count = 0;
    for (let n = 0; n < this.specs.length; n++) {
      const spec = this.specs[n];
      const o = this.#offsets[n];
      const bytes = length(spec);
      if (spec.port === TUNNEL_PORT) {
        ethernet.setMacs(view, o, NODE_MAC.hi, NODE_MAC.lo, 0, 0);
        const i = batch.push(o - vxlan.HEADER, bytes + vxlan.HEADER, spec.port);
        batch.peer[i] = peerAddress(0);
      } else {
        ethernet.setMacs(view, o, ethernet.GATEWAY_HI, ethernet.GATEWAY_LO, 0, 0);
        const i = batch.push(o, bytes, spec.port);
        // As a pod's kernel hands frames over: the checksum is left to us.
        batch.csumStart[i] = L4;
        batch.csumOffset[i] = spec.protocol === "tcp" ? tcp.CHECKSUM : udp.CHECKSUM;
        if (spec.gsoSize > 0) {
          batch.gsoType[i] = spec.protocol === "tcp" ? virtioNet.GSO_TCPV4 : virtioNet.GSO_UDP_L4;
          batch.gsoSize[i] = spec.gsoSize;
        }
      }
      view.setUint8(o + L3 + ipv4.TTL, TTL);
      view.setUint16(o + L3 + ipv4.CHECKSUM, this.#checksums[n]);
      view.setInt32(o + L3 + ipv4.SOURCE, spec.source);
      view.setInt32(o + L3 + ipv4.DESTINATION, spec.destination);
      const ports = spec.ports ?? PORTS;
      view.setInt32(o + L4, ports[this.#turn++ % ports.length]);
      view.setUint16(o + L4 + checksumField(spec), this.#l4Checksums[n]);
    }
  }

  /** Writes one frame; returns its IPv4 checksum. */
  #write(o: number, spec: FrameSpec): number {
    const { view } = this.#dp;
    const tcpFrame = spec.protocol === "tcp";
    const proto = tcpFrame ? ipv4.PROTOCOL_TCP : ipv4.PROTOCOL_UDP;
    const total = length(spec) - ethernet.HEADER;
    const l4Bytes = total - ipv4.HEADER_MIN;
    vxlan.emit(view, o - vxlan.HEADER, VNI);
    ethernet.emit(view, o, 0, 0, 0, 0, ethernet.TYPE_IPV4);
    ipv4.emit(view, o + L3, total, 1, ipv4.DONT_FRAGMENT, TTL, proto, spec.source, spec.destination);
    const t = o + L4;
    view.setInt32(t, (spec.ports ?? PORTS)[0]);
    if (tcpFrame) {
      view.setUint32(t + tcp.SEQUENCE, spec.sequence);
      view.setUint32(t + tcp.ACKNOWLEDGEMENT, 1);
      view.setUint8(t + tcp.DATA_OFFSET, (tcp.HEADER_MIN / 4) << 4);
      view.setUint8(t + tcp.FLAGS, tcp.ACK);
      view.setUint16(t + tcp.WINDOW, 0xffff);
    } else {
      view.setUint16(t + udp.LENGTH, l4Bytes);
    }
    const pseudo = checksum.pseudo4(spec.source, spec.destination, proto) + l4Bytes;
    const field = t + checksumField(spec);
    if (spec.port === TUNNEL_PORT) {
      view.setUint16(field, 0);
      view.setUint16(field, checksum.finish(checksum.sum(view, t, l4Bytes, pseudo)));
    } else {
      view.setUint16(field, checksum.fold(pseudo));
    }
    this.#l4Checksums.push(view.getUint16(field));
    return view.getUint16(o + L3 + ipv4.CHECKSUM);
  }
}

/** Offset of the checksum in the transport header. */
function checksumField(spec: FrameSpec): number {
  return spec.protocol === "tcp" ? tcp.CHECKSUM : udp.CHECKSUM;
}

/** Bytes from the Ethernet header on. */
function length(spec: FrameSpec): number {
  return L4 + (spec.protocol === "tcp" ? tcp.HEADER_MIN : udp.HEADER) + spec.payload;
}
