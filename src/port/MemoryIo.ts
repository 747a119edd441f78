/**
 * Ports in memory: the plain reference of native/io. Frames are injected instead of received, and
 * what the plan sends is kept. It does what native does, checksum finishing and verification of
 * merged frames included, one byte pair at a time. For tests, benchmarks and explanations.
 */
import type { NativeIo } from "../binding/types.js";
import type { Arena } from "../packet/Arena.js";
import {
  ARENA,
  HEADROOM,
  IOV_LENGTH,
  IOV_OFFSET,
  MAX_IOV,
  MSG_ERRNO,
  MSG_FLAG_VERIFY,
  MSG_FLAGS,
  MSG_GSO,
  MSG_HEADERS,
  MSG_IOV_COUNT,
  MSG_L4_LENGTH,
  MSG_PEER,
  MSG_PORT,
  MSG_PSEUDO,
  MSG_STRIDE,
  PORT_BFD,
  PORT_RAW,
  PORT_UDP,
  RX_CAPACITY,
  RX_FLAGS,
  RX_LENGTH,
  RX_OFFSET,
  RX_PEER,
  RX_PEER_PORT,
  RX_PORT,
  RX_SEGMENT,
  RX_STRIDE,
  STATUS_FAILED,
  STATUS_NOW_US,
  STATUS_SENT_US,
  STATUS_UNMERGED,
  TAP_FRAME_MAX,
  UDP_SLOT_BYTES,
  UDP_SLOTS,
  VNET_BYTES,
} from "../packet/layout.js";
import { finishChecksums, piecesOf, plannedBytes } from "../packet/planned.js";
import * as checksum from "../wire/checksum.js";

/** One system call that would have been made. */
export interface Sent {
  port: number;
  /** UDP: peer number and its address. */
  peer: number;
  /** UDP_SEGMENT size, 0 without. */
  gso: number;
  bytes: Uint8Array;
}

interface Injected {
  port: number;
  bytes: Uint8Array;
  segment: number;
  peer: number;
  flags: number;
}

/** virtio-net and Ethernet headers. */
const RAW_FRONT = VNET_BYTES + 14;
const EMSGSIZE = 90;
const EFAULT = 14;
const ENODEV = 19;

export class MemoryIo implements NativeIo {
  /** What was sent, oldest first. Tests empty it. */
  sent: Sent[] = [];
  /** Time in microseconds; advanced by whoever tests. */
  nowUs = 0;
  /** Microseconds that sending takes. */
  sendingUs = 0;
  /** Errno of further sends by port number: 0 or absent for success. */
  readonly failures = new Map<number, number>();
  readonly #ports = new Map<number, number>();
  readonly #queue: Injected[] = [];

  constructor(readonly arena: Arena) {}

  addPort(port: number, kind: number, _fd: number, _receive: boolean): void {
    this.#ports.set(port, kind);
  }

  removePort(port: number): void {
    this.#ports.delete(port);
  }

  setPeer(_peer: number, _address: number, _port: number): void {}

  close(): void {
    this.#ports.clear();
  }

  /** Frames injected and not yet received. */
  get pending(): number {
    return this.#queue.length;
  }

  /** Queues a frame with its virtio-net header as if a TAP had it, or a packet socket without one. */
  injectTap(port: number, bytes: Uint8Array): void {
    this.#queue.push({ port, bytes, segment: 0, peer: 0, flags: 0 });
  }

  /** Queues an IPv4 packet as if a raw socket had it. */
  injectRaw(port: number, bytes: Uint8Array): void {
    this.#queue.push({ port, bytes, segment: bytes.length, peer: 0, flags: 0 });
  }

  /** Queues a datagram or, with `segment`, a train, from an address (big-endian number). */
  injectUdp(port: number, peer: number, bytes: Uint8Array, segment = bytes.length, flags = 0): void {
    this.#queue.push({ port, bytes, segment, peer, flags });
  }

  breathe(messages: number, _timeoutMs: number, _spinUs: number): number {
    this.execute(messages);
    const { rx, bytes, status } = this.arena;
    let count = 0;
    let tap = ARENA.rxTap;
    let slot = 0;
    while (this.#queue.length > 0 && count < RX_CAPACITY) {
      const next = this.#queue[0];
      const kind = this.#ports.get(next.port);
      const isUdp = kind === PORT_UDP || kind === PORT_BFD;
      if (isUdp ? slot === UDP_SLOTS : tap + HEADROOM + TAP_FRAME_MAX > ARENA.rxTap + ARENA.rxTapBytes) break;
      this.#queue.shift();
      // In front of a raw socket's packets is room for what a TAP frame has there.
      const front = kind === PORT_RAW ? HEADROOM + RAW_FRONT : HEADROOM;
      const at = isUdp ? ARENA.rxUdp + slot++ * UDP_SLOT_BYTES + HEADROOM + 2 : tap + front;
      bytes.set(next.bytes, at);
      if (!isUdp) tap = (at + next.bytes.length + 63) & ~63;
      const d = count++ * RX_STRIDE;
      rx[d + RX_OFFSET] = at;
      rx[d + RX_LENGTH] = next.bytes.length;
      rx[d + RX_PORT] = next.port;
      rx[d + RX_SEGMENT] = next.segment;
      rx[d + RX_PEER] = next.peer;
      rx[d + RX_PEER_PORT] = 4789;
      rx[d + RX_FLAGS] = next.flags;
    }
    status[STATUS_NOW_US] = this.nowUs;
    return count;
  }

  execute(messages: number): number {
    const { msg, status } = this.arena;
    let failed = 0;
    for (let n = 0; n < messages; n++) {
      const m = n * MSG_STRIDE;
      msg[m + MSG_ERRNO] = this.#send(m);
      if (msg[m + MSG_ERRNO] !== 0) failed++;
    }
    status[STATUS_SENT_US] = this.nowUs + this.sendingUs;
    status[STATUS_FAILED] = failed;
    return failed;
  }

  #send(m: number): number {
    const { msg, iov, bytes } = this.arena;
    const port = msg[m + MSG_PORT];
    if (!this.#ports.has(port)) return ENODEV;
    if (msg[m + MSG_IOV_COUNT] > MAX_IOV) return EMSGSIZE;
    const pieces = piecesOf(this.arena, m);
    if (pieces === null) return EFAULT;
    finishChecksums(this.arena, pieces);
    const failure = this.failures.get(port) ?? 0;
    if (failure !== 0) return failure;
    if ((msg[m + MSG_FLAGS] & MSG_FLAG_VERIFY) !== 0 && !this.#verified(m, pieces)) {
      this.arena.status[STATUS_UNMERGED]++;
      for (const i of pieces.slice(1)) {
        const headers = msg[m + MSG_HEADERS];
        const from = iov[i + IOV_OFFSET] - headers;
        const frame = new Uint8Array(VNET_BYTES + headers + iov[i + IOV_LENGTH]);
        frame.set(bytes.subarray(from, from + headers + iov[i + IOV_LENGTH]), VNET_BYTES);
        this.sent.push({ port, peer: 0, gso: 0, bytes: frame });
      }
      return 0;
    }
    this.sent.push({
      port,
      peer: msg[m + MSG_PEER],
      gso: msg[m + MSG_GSO],
      bytes: plannedBytes(this.arena, pieces),
    });
    return 0;
  }

  #verified(m: number, pieces: number[]): boolean {
    const { msg, iov, view } = this.arena;
    const l4 = msg[m + MSG_L4_LENGTH];
    return pieces.slice(1).every((i) => {
      const length = iov[i + IOV_LENGTH] + l4;
      const s = checksum.sum(view, iov[i + IOV_OFFSET] - l4, length, msg[m + MSG_PSEUDO] + length);
      return checksum.fold(s) === 0xffff;
    });
  }
}
