/** BFD machines on a network in memory, whose time is a number: seeded loss, delay and reordering. */
import { Bfd, type BfdSink, type BfdTimers } from "../../src/liveness/Bfd.js";
import * as wire from "../../src/wire/bfd.js";
import { Random } from "./random.js";

/** The two profiles of configuration. */
export const DEFAULT_TIMERS: BfdTimers = { desiredMinTxUs: 100_000, requiredMinRxUs: 100_000, detectMult: 3 };
export const FAST_TIMERS: BfdTimers = { desiredMinTxUs: 10_000, requiredMinRxUs: 10_000, detectMult: 3 };

/** A packet as a third party reads it (RFC 5880 §4.1). */
export interface Packet {
  diag: number;
  state: number;
  flags: number;
  mult: number;
  mine: number;
  yours: number;
  minTx: number;
  minRx: number;
}

export function readPacket(bytes: Uint8Array): Packet {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    diag: bytes[0] & 0x1f,
    state: bytes[1] >> 6,
    flags: bytes[1] & 0x3f,
    mult: bytes[2],
    mine: view.getInt32(4),
    yours: view.getInt32(8),
    minTx: view.getUint32(12),
    minRx: view.getUint32(16),
  };
}

/** Bytes of a packet: Down, nobody known, 1 s and 100 ms, but for what is given. */
export function packet(fields: Partial<Packet>): Uint8Array {
  const p = {
    diag: 0,
    state: 1,
    flags: 0,
    mult: 3,
    mine: 9,
    yours: 0,
    minTx: 1_000_000,
    minRx: 100_000,
    ...fields,
  };
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  bytes.set([0x20 | p.diag, (p.state << 6) | p.flags, p.mult, 24]);
  view.setInt32(4, p.mine);
  view.setInt32(8, p.yours);
  view.setUint32(12, p.minTx);
  view.setUint32(16, p.minRx);
  return bytes;
}

/** A change of state as the listener was told. */
export interface Change {
  atUs: number;
  peer: number;
  from: number;
  to: number;
  diag: number;
}

/** One node: its machine, what it sent, and what became of its sessions. */
export class Station implements BfdSink {
  /** Written over with 0xa5 before each packet, so that a byte nobody wrote shows. */
  readonly #memory = new Uint8Array(64);
  readonly view = new DataView(this.#memory.buffer);
  readonly bfd: Bfd;
  readonly sent: { atUs: number; peer: number; bytes: Uint8Array }[] = [];
  readonly changes: Change[] = [];
  nowUs: number;

  constructor(seed: number, nowUs = 0, capacity = 16) {
    this.nowUs = nowUs;
    this.bfd = new Bfd(
      capacity,
      this,
      (peer, from, to, diag) => this.changes.push({ atUs: this.nowUs, peer, from, to, diag }),
      seed,
    );
  }

  room(): number {
    this.#memory.fill(0xa5);
    return 8;
  }

  send(start: number, length: number, peer: number): void {
    this.sent.push({ atUs: this.nowUs, peer, bytes: this.#memory.slice(start, start + length) });
  }

  receive(bytes: Uint8Array, source: number): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return this.bfd.receive(view, 0, bytes.length, source, this.nowUs);
  }

  advanceTo(nowUs: number): void {
    this.nowUs = nowUs;
    this.bfd.advance(nowUs);
  }

  /** What was sent since the last call, read. */
  take(): Packet[] {
    return this.sent.splice(0).map(({ bytes }) => readPacket(bytes));
  }
}

export interface Weather {
  /** One packet in this many is lost; 0: none. */
  lossOneIn: number;
  /** Delay of each packet, microseconds; different ones reorder. */
  delayUs: [least: number, most: number];
}

const CALM: Weather = { lossOneIn: 0, delayUs: [50, 50] };

/** Stations that all have sessions with one another; number i is peer i at the others, address 100 + i. */
export class Mesh {
  nowUs = 0;
  weather = CALM;
  readonly stations: Station[] = [];
  /** Stations that stand still: they neither receive nor advance; what comes is queued. */
  readonly frozen = new Set<number>();
  /** Stations that are gone. */
  readonly dead = new Set<number>();
  /** Pairs "from-to" that do not reach one another. */
  readonly cut = new Set<string>();
  readonly #random: Random;
  #flying: { dueUs: number; from: number; to: number; bytes: Uint8Array }[] = [];

  constructor(
    readonly size: number,
    readonly seed: number,
    readonly timers: BfdTimers = DEFAULT_TIMERS,
  ) {
    this.#random = new Random(seed);
    for (let i = 0; i < size; i++) this.restart(i);
  }

  /** A new machine in the place of number i, as after a restart of the agent. */
  restart(i: number): Station {
    const station = new Station(this.#random.word(), this.nowUs);
    this.stations[i] = station;
    this.dead.delete(i);
    this.frozen.delete(i);
    for (let peer = 0; peer < this.size; peer++)
      if (peer !== i) station.bfd.add(peer, 100 + peer, this.timers, this.nowUs);
    station.bfd.unsettle(this.nowUs);
    return station;
  }

  /** Runs for a time, a step of 100 µs after the other; `each` looks after every step. */
  run(us: number, each: () => void = () => {}): void {
    const end = this.nowUs + us;
    for (; this.nowUs < end; this.nowUs += 100) {
      this.#deliver();
      this.stations.forEach((station, i) => {
        station.nowUs = this.nowUs;
        if (!this.frozen.has(i) && !this.dead.has(i)) station.bfd.advance(this.nowUs);
        this.#collect(i);
      });
      each();
    }
  }

  /** Whether all living stations see all others Up. */
  allUp(): boolean {
    return this.stations.every((_, i) =>
      this.stations.every((_, j) => i === j || this.state(i, j) === wire.UP),
    );
  }

  /** State of i's session with j. */
  state(i: number, j: number): number {
    return this.stations[i].bfd.state[j];
  }

  #collect(from: number): void {
    for (const { peer: to, bytes } of this.stations[from].sent.splice(0)) {
      if (this.weather.lossOneIn > 0 && this.#random.oneIn(this.weather.lossOneIn)) continue;
      if (this.cut.has(`${from}-${to}`)) continue;
      const dueUs = this.nowUs + this.#random.between(...this.weather.delayUs);
      this.#flying.push({ dueUs, from, to, bytes });
    }
  }

  #deliver(): void {
    const due = this.#flying.filter((p) => p.dueUs <= this.nowUs && !this.frozen.has(p.to));
    if (due.length === 0) return;
    this.#flying = this.#flying.filter((p) => !due.includes(p));
    due.sort((a, b) => a.dueUs - b.dueUs);
    for (const { from, to, bytes } of due) {
      if (this.dead.has(to)) continue;
      this.stations[to].nowUs = this.nowUs;
      this.stations[to].receive(bytes, 100 + from);
      this.#collect(to);
    }
  }
}
