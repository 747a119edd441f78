/** What the binding's tests share: an Io with its arena, plans written piece by piece, namespaces. */

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { type NativeIo, native } from "../../../src/binding/index.js";
import * as L from "../../../src/packet/layout.js";

export interface Received {
  offset: number;
  length: number;
  port: number;
  segment: number;
  peer: number;
  peerPort: number;
  flags: number;
  bytes: Buffer;
}

export interface Piece {
  /** Bytes to put into a scratch slot of their own, or an offset in the arena with a length. */
  bytes?: Uint8Array;
  offset?: number;
  length?: number;
  csum?: number;
}

export interface Message {
  port: number;
  pieces: Piece[];
  peer?: number;
  gso?: number;
  flags?: number;
  l4Length?: number;
  pseudo?: number;
  headers?: number;
}

/** An Io over an arena of its own, with plain means to write plans and read descriptors. */
export class Bench {
  readonly arena = native.createArena(L.ARENA.bytes);
  readonly bytes = Buffer.from(this.arena);
  readonly rx = new Int32Array(this.arena, L.ARENA.rx, L.RX_CAPACITY * L.RX_STRIDE);
  readonly msg = new Int32Array(this.arena, L.ARENA.msg, L.MSG_CAPACITY * L.MSG_STRIDE);
  readonly iov = new Int32Array(this.arena, L.ARENA.iov, L.IOV_CAPACITY * L.IOV_STRIDE);
  readonly status = new Float64Array(this.arena, L.ARENA.status, L.STATUS_LENGTH);
  readonly wakeFd = native.openEvent();
  readonly io: NativeIo = native.createIo(this.arena, this.wakeFd);
  messages = 0;
  private pieces = 0;
  private scratch: number = L.ARENA.scratch;
  private readonly fds: number[] = [this.wakeFd];

  /** Has `fd` closed at the end. */
  own(fd: number): number {
    this.fds.push(fd);
    return fd;
  }

  /** Closes a descriptor now. */
  drop(fd: number): void {
    this.fds.splice(this.fds.indexOf(fd), 1);
    native.close(fd);
  }

  close(): void {
    this.io.close();
    for (const fd of this.fds.splice(0)) native.close(fd);
  }

  /** Adds a message to the plan. Returns the arena offsets of its pieces. */
  plan(message: Message): number[] {
    const m = this.messages++ * L.MSG_STRIDE;
    this.msg.fill(0, m, m + L.MSG_STRIDE);
    this.msg[m + L.MSG_PORT] = message.port;
    this.msg[m + L.MSG_IOV] = this.pieces;
    this.msg[m + L.MSG_IOV_COUNT] = message.pieces.length;
    this.msg[m + L.MSG_PEER] = message.peer ?? 0;
    this.msg[m + L.MSG_GSO] = message.gso ?? 0;
    this.msg[m + L.MSG_FLAGS] = message.flags ?? 0;
    this.msg[m + L.MSG_L4_LENGTH] = message.l4Length ?? 0;
    this.msg[m + L.MSG_PSEUDO] = message.pseudo ?? 0;
    this.msg[m + L.MSG_HEADERS] = message.headers ?? 0;
    this.msg[m + L.MSG_ERRNO] = -1;
    return message.pieces.map((piece, k) => {
      const offset = piece.offset ?? this.place(piece.bytes!);
      const v = this.pieces++ * L.IOV_STRIDE;
      this.iov[v + L.IOV_OFFSET] = offset;
      this.iov[v + L.IOV_LENGTH] = piece.length ?? piece.bytes!.length;
      this.iov[v + L.IOV_NEXT] = k + 1 < message.pieces.length ? this.pieces : -1;
      this.iov[v + L.IOV_CSUM] = piece.csum ?? 0;
      return offset;
    });
  }

  /** Copies bytes into the scratch area. Returns where they are. */
  place(bytes: Uint8Array): number {
    const offset = this.scratch;
    this.bytes.set(bytes, offset);
    this.scratch = (offset + bytes.length + 63) & ~63;
    return offset;
  }

  errno(message = 0): number {
    return this.msg[message * L.MSG_STRIDE + L.MSG_ERRNO]!;
  }

  execute(): number {
    const failed = this.io.execute(this.messages);
    this.reset();
    return failed;
  }

  breathe(timeoutMs = 1000, spinUs = 0): Received[] {
    const count = this.io.breathe(this.messages, timeoutMs, spinUs);
    this.reset();
    return Array.from({ length: count }, (_, k) => this.received(k));
  }

  /** Breathes until `wanted` descriptors came, or nothing came for a second. */
  collect(wanted: number): Received[] {
    const all: Received[] = [];
    while (all.length < wanted) {
      const some = this.breathe();
      if (some.length === 0) break;
      all.push(...some);
    }
    return all;
  }

  private reset(): void {
    this.messages = 0;
    this.pieces = 0;
    this.scratch = L.ARENA.scratch;
  }

  private received(k: number): Received {
    const d = this.rx.subarray(k * L.RX_STRIDE, (k + 1) * L.RX_STRIDE);
    const [offset, length, flags] = [d[L.RX_OFFSET]!, d[L.RX_LENGTH]!, d[L.RX_FLAGS]!];
    return {
      offset,
      length,
      port: d[L.RX_PORT]!,
      segment: d[L.RX_SEGMENT]!,
      peer: d[L.RX_PEER]!,
      peerPort: d[L.RX_PEER_PORT]!,
      flags,
      bytes: Buffer.from(this.bytes.subarray(offset, offset + (flags & L.RX_FLAG_ERROR ? 0 : length))),
    };
  }
}

export const LOOPBACK = 0x7f000001;

/** A UDP socket on 127.0.0.1 as port `port` of `bench`, which is its own peer 0. Returns its l4 port. */
export function addLoopback(bench: Bench, port: number, gro = true): number {
  const [fd, l4Port] = bindSomewhere(gro);
  bench.own(fd);
  bench.io.addPort(port, L.PORT_UDP, fd, true);
  bench.io.setPeer(0, LOOPBACK, l4Port);
  return l4Port;
}

/** Binds to a free port in a range outside the ephemeral ones. */
function bindSomewhere(gro: boolean): [number, number] {
  for (let tries = 0; ; tries++) {
    const port = 20000 + Math.floor(Math.random() * 10000);
    try {
      return [
        native.openUdp({
          netns: "",
          address: "127.0.0.1",
          port,
          gro,
          receiveBuffer: 4 << 20,
          sendBuffer: 4 << 20,
        }),
        port,
      ];
    } catch (error) {
      if (tries === 20) throw error;
    }
  }
}

/** Why namespace tests cannot run here, or "". */
export function noNamespaces(): string {
  if (process.getuid?.() !== 0) return "needs root";
  if (!existsSync("/dev/net/tun")) return "needs /dev/net/tun";
  const probe = spawnSync("unshare", ["-n", "true"]);
  return probe.status === 0 ? "" : "needs unshare -n";
}

/** A network namespace by name, as `ip netns add` makes it. */
export class Namespace {
  private static count = 0;
  readonly name = `podwire-test-${process.pid}-${Namespace.count++}`;
  readonly path = `/run/netns/${this.name}`;

  constructor() {
    execFileSync("ip", ["netns", "add", this.name]);
    this.ip("link", "set", "lo", "up");
  }

  ip(...args: string[]): string {
    return execFileSync("ip", ["-n", this.name, ...args], { encoding: "utf8" });
  }

  /** Without IPv6, so that the kernel sends nothing by itself. */
  quiet(): this {
    execFileSync("ip", [
      "netns",
      "exec",
      this.name,
      "sysctl",
      "-qw",
      "net.ipv6.conf.all.disable_ipv6=1",
      "net.ipv6.conf.default.disable_ipv6=1",
    ]);
    return this;
  }

  remove(): void {
    execFileSync("ip", ["netns", "del", this.name]);
  }
}

/** Small seeded generator (mulberry32), so that a failure comes again. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** The reference sum of big-endian words, folded, not complemented. */
export function sum16(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? bytes[i]! << 8 : bytes[i]!;
  while (sum > 0xffff) sum = Math.floor(sum / 0x10000) + (sum & 0xffff);
  return sum;
}
