/** Datagrams over the loopback interface: trains out and in, errors, waiting and waking. */

import { constants } from "node:os";
import { afterEach, beforeEach, expect, test } from "vitest";
import { native } from "../../../src/binding/index.js";
import * as L from "../../../src/packet/layout.js";
import { addLoopback, Bench, LOOPBACK, random } from "./support.js";

const { errno } = constants;
let bench: Bench;
beforeEach(() => {
  bench = new Bench();
});
afterEach(() => bench.close());

function noise(length: number, seed = 1): Buffer {
  const next = random(seed);
  return Buffer.from(Uint8Array.from({ length }, () => next() * 256));
}

test("one datagram goes out in pieces and comes back whole, with its sender", () => {
  const l4Port = addLoopback(bench, 7);
  const content = noise(1400);
  bench.plan({
    port: 7,
    pieces: [
      { bytes: content.subarray(0, 3) },
      { bytes: content.subarray(3, 700) },
      { bytes: content.subarray(700) },
    ],
  });
  const received = bench.breathe();
  expect(bench.errno()).toBe(0);
  expect(received).toHaveLength(1);
  expect(received[0]).toMatchObject({
    port: 7,
    length: 1400,
    segment: 1400,
    peer: LOOPBACK,
    peerPort: l4Port,
    flags: 0,
  });
  expect(received[0]!.bytes.equals(content)).toBe(true);
  // VXLAN and Ethernet headers in front, inner IP is aligned.
  expect((received[0]!.offset + 22) % 4).toBe(0);
  expect(received[0]!.offset - L.ARENA.rxUdp).toBeGreaterThanOrEqual(L.HEADROOM);
  expect(bench.status[L.STATUS_TX_CALLS]).toBe(1);
  expect(bench.status[L.STATUS_RX_CALLS]).toBe(1);
});

test("a UDP_SEGMENT train comes in as one with UDP_GRO", () => {
  addLoopback(bench, 0);
  const content = noise(50 * 1000 + 137);
  bench.plan({
    port: 0,
    gso: 1000,
    pieces: [{ bytes: content.subarray(0, 33333) }, { bytes: content.subarray(33333) }],
  });
  const received = bench.collect(1);
  expect(bench.errno()).toBe(0);
  expect(received).toHaveLength(1);
  expect(received[0]).toMatchObject({ length: content.length, segment: 1000 });
  expect(received[0]!.bytes.equals(content)).toBe(true);
});

test("trains and single datagrams take turns in one slot", () => {
  addLoopback(bench, 0);
  const content = noise(3000);
  for (let i = 0; i < 4; i++) {
    for (const gso of [0, 1000]) {
      bench.plan({ port: 0, gso, pieces: [{ bytes: content }] });
      expect(bench.collect(1)).toMatchObject([{ length: 3000, segment: gso || 3000, flags: 0 }]);
    }
  }
});

test("without UDP_GRO it comes in as single datagrams, UDP_SLOTS a breath", () => {
  addLoopback(bench, 0, false);
  const content = noise(40 * 500);
  bench.plan({ port: 0, gso: 500, pieces: [{ bytes: content }] });
  const sizes: number[] = [];
  const all: Buffer[] = [];
  while (all.length < 40) {
    const some = bench.breathe();
    sizes.push(some.length);
    for (const one of some) {
      expect(one).toMatchObject({ length: 500, segment: 500 });
      all.push(one.bytes);
    }
  }
  expect(sizes).toEqual([16, 16, 8]);
  expect(Buffer.concat(all).equals(content)).toBe(true);
});

test("the longest datagram fits its slot, an empty one has a descriptor too", () => {
  addLoopback(bench, 0);
  const content = noise(65507);
  bench.plan({ port: 0, pieces: [{ bytes: content }] });
  bench.plan({ port: 0, pieces: [{ offset: 0, length: 0 }] });
  const received = bench.collect(2);
  expect(received.map((r) => [r.length, r.segment, r.flags])).toEqual([
    [65507, 65507, 0],
    [0, 0, 0],
  ]);
  expect(received[0]!.bytes.equals(content)).toBe(true);
});

test("several sockets share the slots of a breath and keep their port numbers", () => {
  const first = addLoopback(bench, 1);
  const second = addLoopback(bench, 2);
  bench.io.setPeer(1, LOOPBACK, first);
  bench.io.setPeer(2, LOOPBACK, second);
  for (let i = 0; i < 12; i++) {
    bench.plan({ port: 1, peer: 2, pieces: [{ bytes: Buffer.of(2, i) }] });
    bench.plan({ port: 2, peer: 1, pieces: [{ bytes: Buffer.of(1, i) }] });
  }
  const received = bench.collect(24);
  for (const port of [1, 2]) {
    const mine = received.filter((r) => r.port === port);
    expect(mine.map((r) => [...r.bytes])).toEqual(Array.from({ length: 12 }, (_, i) => [port, i]));
    expect(mine.every((r) => r.peerPort === (port === 1 ? second : first))).toBe(true);
  }
});

test("a failed message costs only itself", () => {
  addLoopback(bench, 0);
  const piece = { bytes: Buffer.from("x") };
  bench.plan({ port: 0, peer: 5, pieces: [piece] });
  bench.plan({ port: 0, pieces: [piece] });
  bench.plan({ port: 0, peer: L.MAX_PEERS, pieces: [piece] });
  bench.plan({ port: 0, peer: -1, pieces: [piece] });
  bench.plan({ port: 0, gso: 70000, pieces: [piece] });
  bench.plan({ port: 3, pieces: [piece] });
  bench.plan({ port: -1, pieces: [piece] });
  bench.plan({ port: L.MAX_PORTS, pieces: [piece] });
  bench.plan({ port: 0, pieces: [{ offset: 0, length: 65508 }] });
  bench.plan({ port: 0, pieces: [piece] });
  expect(bench.execute()).toBe(8);
  expect(bench.status[L.STATUS_FAILED]).toBe(8);
  const { EDESTADDRREQ, EINVAL, ENODEV, EMSGSIZE } = { ...errno, EDESTADDRREQ: errno.EDESTADDRREQ };
  expect(Array.from({ length: 10 }, (_, i) => bench.errno(i))).toEqual([
    EDESTADDRREQ,
    0,
    EDESTADDRREQ,
    EDESTADDRREQ,
    EINVAL,
    ENODEV,
    ENODEV,
    ENODEV,
    EMSGSIZE,
    0,
  ]);
  expect(bench.collect(2)).toHaveLength(2);
});

test("a full send buffer or lost datagrams do not stop a plan", () => {
  addLoopback(bench, 0);
  const content = noise(64000);
  for (let i = 0; i < 400; i++)
    bench.plan({
      port: 0,
      gso: 1000,
      pieces: i === 0 ? [{ bytes: content }] : [{ offset: L.ARENA.scratch, length: 64000 }],
    });
  bench.execute();
  expect([0, errno.EAGAIN]).toContain(bench.errno(399));
});

test("an unreachable port does not take the socket out of service", () => {
  addLoopback(bench, 0);
  bench.io.setPeer(1, LOOPBACK, 9);
  for (let i = 0; i < 3; i++) bench.plan({ port: 0, peer: 1, pieces: [{ bytes: Buffer.from("nobody") }] });
  bench.breathe(20);
  bench.plan({ port: 0, pieces: [{ bytes: Buffer.from("somebody") }] });
  expect(bench.collect(1).map((r) => r.bytes.toString())).toEqual(["somebody"]);
});

test("breathe waits as long as it is told, and counts how it waited", () => {
  addLoopback(bench, 0);
  const timed = (fn: () => unknown) => {
    const start = performance.now();
    fn();
    return performance.now() - start;
  };
  // Others may have the processor meanwhile: the shortest of several is what it takes.
  const shortest = (fn: () => unknown) => Math.min(...Array.from({ length: 10 }, () => timed(fn)));
  expect(shortest(() => bench.breathe(0))).toBeLessThan(5);
  expect(bench.status[L.STATUS_SLEEPS]).toBe(0);
  const slept = shortest(() => bench.breathe(30));
  expect(slept).toBeGreaterThan(28);
  expect(slept).toBeLessThan(500);
  expect(bench.status[L.STATUS_SLEEPS]).toBe(10);
  const nowUs = () => Number(process.hrtime.bigint() / 1000n);
  const before = nowUs();
  expect(timed(() => bench.breathe(0, 20_000))).toBeGreaterThan(19);
  expect(bench.status[L.STATUS_NOW_US]).toBeGreaterThanOrEqual(before);
  expect(bench.status[L.STATUS_NOW_US]).toBeLessThanOrEqual(nowUs() + 1);
  expect(bench.status[L.STATUS_SLEEPS]).toBe(10);
  expect(bench.status[L.STATUS_SPIN_HITS]).toBe(0);
});

test("a signalled event descriptor ends the wait, without a descriptor", () => {
  native.signalEvent(bench.wakeFd);
  native.signalEvent(bench.wakeFd);
  expect(bench.breathe(10_000)).toEqual([]);
  expect(bench.status[L.STATUS_WAKES]).toBe(1);
  expect(bench.breathe(0)).toEqual([]);
  expect(bench.status[L.STATUS_WAKES]).toBe(1);
});

test("a removed port is neither read nor written, and its number is free again", () => {
  const l4Port = addLoopback(bench, 4);
  expect(() => bench.io.addPort(4, L.PORT_UDP, bench.wakeFd, true)).toThrow(/EEXIST/);
  bench.plan({ port: 4, pieces: [{ bytes: Buffer.from("unread") }] });
  bench.execute();
  bench.io.removePort(4);
  bench.io.removePort(4);
  bench.io.removePort(99);
  bench.io.removePort(-5);
  expect(bench.breathe(20)).toEqual([]);
  bench.plan({ port: 4, pieces: [{ bytes: Buffer.from("x") }] });
  expect(bench.execute()).toBe(1);
  expect(bench.errno()).toBe(errno.ENODEV);
  expect(addLoopback(bench, 4)).not.toBe(l4Port);
  bench.plan({ port: 4, pieces: [{ bytes: Buffer.from("again") }] });
  expect(bench.collect(1).map((r) => r.bytes.toString())).toEqual(["again"]);
});

test("two Ios in one process do not mix", () => {
  const other = new Bench();
  addLoopback(bench, 0);
  addLoopback(other, 0);
  bench.plan({ port: 0, pieces: [{ bytes: Buffer.from("mine") }] });
  other.plan({ port: 0, pieces: [{ bytes: Buffer.from("other") }] });
  expect(bench.collect(1).map((r) => r.bytes.toString())).toEqual(["mine"]);
  expect(other.collect(1).map((r) => r.bytes.toString())).toEqual(["other"]);
  other.close();
});

test("numbers out of range are refused, and a closed Io throws", () => {
  expect(() => bench.io.addPort(-1, L.PORT_UDP, 0, true)).toThrow(RangeError);
  expect(() => bench.io.addPort(L.MAX_PORTS, L.PORT_UDP, 0, true)).toThrow(RangeError);
  expect(() => bench.io.addPort(0, 9, 0, true)).toThrow(RangeError);
  expect(() => bench.io.addPort(0, L.PORT_UDP, -1, true)).toThrow(/EBADF/);
  expect(() => bench.io.setPeer(L.IO_PEERS, 0, 0)).toThrow(RangeError);
  expect(() => bench.io.setPeer(0, 0, 65536)).toThrow(RangeError);
  expect(() => bench.io.execute(L.MSG_CAPACITY + 1)).toThrow(RangeError);
  expect(() => bench.io.execute(-1)).toThrow(RangeError);
  expect(() => bench.io.breathe(-1, 0, 0)).toThrow(RangeError);
  const { breathe } = bench.io;
  expect(breathe(0, 0, 0)).toBe(0);
  bench.io.close();
  bench.io.close();
  expect(() => breathe(0, 0, 0)).toThrow(/EBADF/);
  expect(() => bench.io.removePort(0)).toThrow(/EBADF/);
});
