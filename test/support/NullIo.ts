/**
 * An Io that receives the same frames in every breath, but for ports that count up, and sends nowhere, without allocating a byte:
 * what grows on the heap while it breathes, the packet path has allocated. Checksums are not
 * finished; every so many executions one message "fails", so that accounting is part of the path.
 */
import type { NativeIo } from "../../src/binding/types.js";
import type { Arena } from "../../src/packet/Arena.js";
import {
  ARENA,
  HEADROOM,
  MSG_ERRNO,
  MSG_STRIDE,
  PORT_UDP,
  RX_FLAGS,
  RX_LENGTH,
  RX_OFFSET,
  RX_PEER,
  RX_PORT,
  RX_SEGMENT,
  RX_STRIDE,
  STATUS_FAILED,
  STATUS_NOW_US,
  STATUS_SENT_US,
  UDP_SLOT_BYTES,
} from "../../src/packet/layout.js";

/** One descriptor that arrives in every breath. */
export interface Template {
  port: number;
  kind: number;
  bytes: Uint8Array;
  /** UDP: size of the datagrams of a train, and the sender. */
  segment: number;
  peer: number;
  /** Where 16 bits count up with every breath: a source port, so that each is of another flow. */
  counts?: number;
}

const EAGAIN = 11;
const FAIL_EVERY = 16;
const BREATH_US = 2000;
/** How long the breath before took. */
const BUSY_US = 150;
/** A machine that has been up for long: a time that is no small integer. */
const UPTIME_US = 2 ** 40;

export class NullIo implements NativeIo {
  readonly #arena: Arena;
  readonly #bytes: Uint8Array[] = [];
  readonly #counts: number[] = [];
  readonly #at: number[] = [];
  readonly #rx: Int32Array;
  /** Messages that were to be sent. */
  messages = 0;
  #executions = 0;

  /** Lays the templates out once, as native would in each breath. */
  constructor(arena: Arena, templates: readonly Template[]) {
    this.#arena = arena;
    arena.status[STATUS_NOW_US] = UPTIME_US;
    this.#rx = new Int32Array(templates.length * RX_STRIDE);
    let tap = ARENA.rxTap;
    let slot = 0;
    templates.forEach((template, n) => {
      const isUdp = template.kind === PORT_UDP;
      const at = isUdp ? ARENA.rxUdp + slot++ * UDP_SLOT_BYTES + HEADROOM + 2 : tap + HEADROOM;
      if (!isUdp) tap = (at + template.bytes.length + 63) & ~63;
      if (tap > ARENA.rxUdp || slot * UDP_SLOT_BYTES > ARENA.scratch - ARENA.rxUdp) {
        throw new RangeError("more templates than a breath holds");
      }
      this.#bytes.push(template.counts === undefined ? template.bytes : Uint8Array.from(template.bytes));
      this.#counts.push(template.counts ?? -1);
      this.#at.push(at);
      const d = n * RX_STRIDE;
      this.#rx[d + RX_OFFSET] = at;
      this.#rx[d + RX_LENGTH] = template.bytes.length;
      this.#rx[d + RX_PORT] = template.port;
      this.#rx[d + RX_SEGMENT] = template.segment;
      this.#rx[d + RX_PEER] = template.peer;
      this.#rx[d + RX_FLAGS] = 0;
    });
  }

  breathe(messages: number, _timeoutMs: number, _spinUs: number): number {
    this.execute(messages);
    const { bytes, rx, status } = this.#arena;
    const frames = this.#bytes;
    for (let n = 0; n < frames.length; n++) {
      const at = this.#counts[n];
      if (at >= 0) {
        frames[n][at + 1]++;
        if (frames[n][at + 1] === 0) frames[n][at]++;
      }
      bytes.set(frames[n], this.#at[n]);
    }
    rx.set(this.#rx);
    status[STATUS_NOW_US] += BREATH_US;
    return frames.length;
  }

  execute(messages: number): number {
    const { msg, status } = this.#arena;
    this.messages += messages;
    for (let n = 0; n < messages; n++) msg[n * MSG_STRIDE + MSG_ERRNO] = 0;
    const fails = messages > 0 && ++this.#executions % FAIL_EVERY === 0;
    if (fails) msg[MSG_ERRNO] = EAGAIN;
    status[STATUS_SENT_US] = status[STATUS_NOW_US] + BUSY_US;
    status[STATUS_FAILED] = fails ? 1 : 0;
    return fails ? 1 : 0;
  }

  addPort(): void {}
  removePort(): void {}
  setPeer(): void {}
  close(): void {}
}
