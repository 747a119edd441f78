/** MemoryIo stands for native in all other tests: what it does is held against plain arithmetic here. */
import { describe, expect, it } from "vitest";
import { Arena } from "../../../src/packet/Arena.js";
import {
  ARENA,
  CSUM_NEXT,
  CSUM_REQUEST,
  CSUM_TO_END,
  CSUM_UDP,
  IOV_CAPACITY,
  IOV_NEXT,
  IOV_OFFSET,
  IOV_STRIDE,
  MAX_IOV,
  MSG_ERRNO,
  MSG_GSO,
  PORT_TAP,
  PORT_UDP,
  RX_LENGTH,
  RX_OFFSET,
  RX_PEER,
  RX_PORT,
  RX_SEGMENT,
  RX_STRIDE,
  STATUS_FAILED,
  STATUS_NOW_US,
  UDP_SLOTS,
} from "../../../src/packet/layout.js";
import { TxPlan } from "../../../src/packet/TxPlan.js";
import { MemoryIo } from "../../../src/port/MemoryIo.js";
import { concat, counting, hex, onesSum, toHex } from "../../support/frames.js";

const AT = ARENA.scratch;

function setUp() {
  const arena = new Arena(new ArrayBuffer(ARENA.bytes));
  const io = new MemoryIo(arena);
  io.addPort(0, PORT_TAP, -1, true);
  io.addPort(1, PORT_UDP, -1, true);
  return { arena, io, plan: new TxPlan(arena) };
}

describe("MemoryIo sends", () => {
  it("the pieces of a message, one behind the other", () => {
    const { arena, io, plan } = setUp();
    arena.bytes.set(counting(50), AT);
    const m = plan.message(1, 7, AT + 10, 5, 0);
    plan.append(m, AT, 3, 0);
    plan.msg[m + MSG_GSO] = 4;
    expect(io.execute(plan.messages)).toBe(0);
    expect(io.sent).toEqual([{ port: 1, peer: 7, gso: 4, bytes: hex("0a0b0c0d0e 000102") }]);
  });

  it("with checksums over one piece, the next piece, and all", () => {
    const { arena, io, plan } = setUp();
    const [a, b, c] = [counting(10, 1), counting(7, 50), counting(6, 90)];
    arena.bytes.set(concat(a, b, c), AT);
    const requests: [number, Uint8Array[]][] = [
      [CSUM_REQUEST | 4 | (2 << 8), [a.subarray(4)]],
      [CSUM_REQUEST | CSUM_NEXT | 4 | (2 << 8), [a.subarray(4), b]],
    ];
    for (const [request, summed] of requests) {
      arena.bytes.set(a, AT);
      plan.reset();
      const m = plan.message(0, 0, AT, 10, request);
      plan.append(m, AT + 10, 7, 0);
      plan.append(m, AT + 17, 6, 0);
      io.execute(1);
      const expected = 0xffff - onesSum(...summed);
      expect(arena.view.getUint16(AT + 6)).toBe(expected);
    }
    // To the end: an even piece in between, since MemoryIo sums piece by piece.
    arena.bytes.set(a, AT);
    plan.reset();
    const m = plan.message(0, 0, AT, 10, CSUM_REQUEST | CSUM_TO_END | 4 | (2 << 8));
    plan.append(m, AT + 10, 6, 0);
    plan.append(m, AT + 16, 7, 0);
    io.execute(1);
    expect(arena.view.getUint16(AT + 6)).toBe(0xffff - onesSum(a.subarray(4), concat(b, c)));
  });

  it("a UDP checksum of zero as 0xffff, another one as it is", () => {
    for (const [flag, stored] of [
      [CSUM_UDP, 0xffff],
      [0, 0],
    ]) {
      const { arena, io, plan } = setUp();
      arena.bytes.set(hex("0000 ffff 0000"), AT);
      plan.message(0, 0, AT, 6, CSUM_REQUEST | flag | (4 << 8));
      io.execute(1);
      expect(arena.view.getUint16(AT + 4)).toBe(stored);
    }
  });

  it.each([
    ["a port that is not there", 9, AT, 19],
    ["a piece in front of the arena", 0, -1, 14],
    ["a piece behind the arena", 0, ARENA.bytes - 4, 14],
  ])("not to %s", (_, port, offset, errno) => {
    const { io, plan } = setUp();
    const m = plan.message(port, 0, offset, 5, 0);
    expect(io.execute(1)).toBe(1);
    expect(plan.msg[m + MSG_ERRNO]).toBe(errno);
    expect(io.sent).toEqual([]);
  });

  it("not more than MAX_IOV pieces", () => {
    const { io, plan } = setUp();
    const m = plan.message(0, 0, AT, 1, 0);
    for (let n = 1; n < MAX_IOV; n++) plan.append(m, AT, 1, 0);
    expect(io.execute(1)).toBe(0);
    plan.append(m, AT, 1, 0);
    expect(io.execute(1)).toBe(1);
    expect(plan.msg[m + MSG_ERRNO]).toBe(90);
  });

  it("what can be sent, and counts what cannot", () => {
    const { arena, io, plan } = setUp();
    io.failures.set(0, 11);
    for (const port of [0, 1, 0]) plan.message(port, 0, AT, 1, 0);
    expect(io.execute(3)).toBe(2);
    expect(arena.status[STATUS_FAILED]).toBe(2);
    expect(io.sent.map((s) => s.port)).toEqual([1]);
  });
});

describe("MemoryIo receives", () => {
  it("frames and datagrams with their descriptors, and tells the time", () => {
    const { arena, io } = setUp();
    io.nowUs = 12_345;
    io.injectTap(0, counting(80));
    io.injectUdp(1, -5, counting(300), 100);
    expect(io.breathe(0, 0, 0)).toBe(2);
    const { rx, bytes } = arena;
    const d = RX_STRIDE;
    expect([rx[RX_PORT], rx[RX_LENGTH]]).toEqual([0, 80]);
    expect([rx[d + RX_PORT], rx[d + RX_LENGTH], rx[d + RX_SEGMENT], rx[d + RX_PEER]]).toEqual([
      1, 300, 100, -5,
    ]);
    expect(toHex(bytes.subarray(rx[RX_OFFSET], rx[RX_OFFSET] + 80))).toBe(toHex(counting(80)));
    expect(toHex(bytes.subarray(rx[d + RX_OFFSET], rx[d + RX_OFFSET] + 300))).toBe(toHex(counting(300)));
    // The inner IP header of a datagram is aligned to a word: 8 + 14 bytes in.
    expect((rx[d + RX_OFFSET] + 22) % 4).toBe(0);
    expect(arena.status[STATUS_NOW_US]).toBe(12_345);
  });

  it("no more than there is room for; the rest waits", () => {
    const { io } = setUp();
    for (let n = 0; n < UDP_SLOTS + 3; n++) io.injectUdp(1, 0, counting(10));
    expect([io.breathe(0, 0, 0), io.pending]).toEqual([UDP_SLOTS, 3]);
    expect([io.breathe(0, 0, 0), io.pending]).toEqual([3, 0]);
    for (let n = 0; n < 8; n++) io.injectTap(0, new Uint8Array(65_000));
    const first = io.breathe(0, 0, 0);
    expect(first).toBeGreaterThan(3);
    expect(first).toBeLessThan(8);
    expect(first + io.breathe(0, 0, 0)).toBe(8);
  });
});

it("the end of a chain is where IOV_NEXT says", () => {
  const { arena, io, plan } = setUp();
  const m = plan.message(0, 0, AT, 1, 0);
  plan.append(m, AT + 1, 1, 0);
  expect(arena.iov[IOV_NEXT]).toBe(1);
  expect(arena.iov[IOV_STRIDE + IOV_NEXT]).toBe(-1);
  expect(arena.iov[IOV_STRIDE + IOV_OFFSET]).toBe(AT + 1);
  expect(arena.iov.length).toBe(IOV_CAPACITY * IOV_STRIDE);
  expect(io.execute(1)).toBe(0);
});
