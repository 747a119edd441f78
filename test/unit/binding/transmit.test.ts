/** Checksum finishing and malformed plans, over a UDP socket that sends to itself. */

import { constants } from "node:os";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import * as L from "../../../src/packet/layout.js";
import { addLoopback, Bench, type Piece, random, sum16 } from "./support.js";

const { errno } = constants;
let bench: Bench;
beforeEach(() => {
  bench = new Bench();
  addLoopback(bench, 0);
});
afterEach(() => bench.close());

/** Sends the pieces as one datagram and returns what arrives. */
function send(pieces: Piece[]): Buffer {
  bench.plan({ port: 0, pieces });
  const received = bench.collect(1);
  expect(bench.errno()).toBe(0);
  expect(received).toHaveLength(1);
  return received[0]!.bytes;
}

const csum = (start: number, field: number, flags = 0) => L.CSUM_REQUEST | start | (field << 8) | flags;

/** What the field must hold when `bytes` are summed with `pseudo` in it. */
const complement = (bytes: Uint8Array, pseudo: number) => ~sum16(bytes, pseudo) & 0xffff;

describe("finishing checksums", () => {
  const next = random(793);
  const noise = (length: number) => Buffer.from(Uint8Array.from({ length }, () => next() * 256));

  /** Header with `pseudo` at start + field. */
  function header(length: number, at: number, pseudo: number): Buffer {
    const bytes = noise(length);
    bytes.writeUInt16BE(pseudo, at);
    return bytes;
  }

  test("over the rest of one piece", () => {
    for (const [length, start, field] of [
      [100, 42, 16],
      [101, 34, 6],
      [60, 0, 2],
      [1438, 255, 254],
      [24, 22, 0],
    ] as const) {
      const piece = header(length, start + field, 0x1234);
      const zeroed = Buffer.from(piece);
      zeroed.writeUInt16BE(0, start + field);
      const arrived = send([{ bytes: piece, csum: csum(start, field) }]);
      expect(arrived.readUInt16BE(start + field)).toBe(complement(zeroed.subarray(start), 0x1234));
      expect(arrived.subarray(0, start).equals(piece.subarray(0, start))).toBe(true);
      // Whoever verifies sees all ones, the pseudo header's sum added.
      expect(sum16(arrived.subarray(start), 0x1234)).toBe(0xffff);
    }
  });

  test("through the next piece only (CSUM_NEXT), for each segment of a message", () => {
    const pieces: Piece[] = [];
    const lengths = [1400, 1400, 1401, 1, 0];
    for (const length of lengths) {
      pieces.push({ bytes: header(62, 42 + 16, 0xbeef), csum: csum(42, 16, L.CSUM_NEXT) });
      pieces.push({ bytes: noise(length) });
    }
    const arrived = send(pieces);
    let offset = 0;
    for (const length of lengths) {
      expect(sum16(arrived.subarray(offset + 42, offset + 62 + length), 0xbeef)).toBe(0xffff);
      offset += 62 + length;
    }
    expect(offset).toBe(arrived.length);
  });

  test("CSUM_NEXT on the last piece ends with it", () => {
    const arrived = send([
      { bytes: noise(10) },
      { bytes: header(30, 12, 0), csum: csum(10, 2, L.CSUM_NEXT) },
    ]);
    expect(sum16(arrived.subarray(20))).toBe(0xffff);
  });

  test("through all further pieces (CSUM_TO_END), odd lengths among them", () => {
    for (const lengths of [[8], [7, 9], [1, 1, 1], [0, 3, 0, 5], [1400, 33, 1399, 2]]) {
      const pieces: Piece[] = [{ bytes: header(43, 36, 0), csum: csum(34, 2, L.CSUM_TO_END) }];
      for (const length of lengths) pieces.push({ bytes: noise(length) });
      const arrived = send(pieces);
      expect(sum16(arrived.subarray(34))).toBe(0xffff);
    }
  });

  test("a sum of zero is stored as 0xffff with CSUM_UDP, as 0 without", () => {
    for (const [flag, expected] of [
      [0, 0],
      [L.CSUM_UDP, 0xffff],
    ] as const) {
      const arrived = send([{ bytes: Buffer.of(0xff, 0xff, 0, 0, 0, 0), csum: csum(0, 2, flag) }]);
      expect(arrived.readUInt16BE(2)).toBe(expected);
    }
    const ordinary = send([{ bytes: Buffer.of(0x12, 0x34, 0, 0), csum: csum(0, 2, L.CSUM_UDP) }]);
    expect(ordinary.readUInt16BE(2)).toBe(0xedcb);
  });

  test("all zeros give 0xffff either way", () => {
    expect(send([{ bytes: Buffer.alloc(8), csum: csum(0, 2) }]).readUInt16BE(2)).toBe(0xffff);
  });
});

describe("malformed plans", () => {
  function errnoOf(
    change: (bench: Bench) => void,
    pieces: Piece[] = [{ bytes: Buffer.from("abcdef") }],
  ): number {
    bench.plan({ port: 0, pieces });
    change(bench);
    bench.execute();
    return bench.errno();
  }
  const setMsg = (column: number, value: number) => (b: Bench) => {
    b.msg[column] = value;
  };
  const setIov = (column: number, value: number) => (b: Bench) => {
    b.iov[column] = value;
  };

  test.each<[string, (bench: Bench) => void, number]>([
    ["no pieces", setMsg(L.MSG_IOV_COUNT, 0), errno.EMSGSIZE],
    ["a negative number of pieces", setMsg(L.MSG_IOV_COUNT, -1), errno.EMSGSIZE],
    ["too many pieces", setMsg(L.MSG_IOV_COUNT, L.MAX_IOV + 1), errno.EMSGSIZE],
    ["a chain that ends early", setMsg(L.MSG_IOV_COUNT, 2), errno.EFAULT],
    ["a first piece in front of the area", setMsg(L.MSG_IOV, -1), errno.EFAULT],
    ["a first piece behind the area", setMsg(L.MSG_IOV, L.IOV_CAPACITY), errno.EFAULT],
    ["a piece in front of the arena", setIov(L.IOV_OFFSET, -1), errno.EFAULT],
    ["a piece behind the arena", setIov(L.IOV_OFFSET, L.ARENA.bytes + 1), errno.EFAULT],
    ["a piece far behind the arena", setIov(L.IOV_OFFSET, 0x7fffffff), errno.EFAULT],
    ["a piece that runs out of the arena", setIov(L.IOV_OFFSET, L.ARENA.bytes - 5), errno.EFAULT],
    ["a negative length", setIov(L.IOV_LENGTH, -1), errno.EFAULT],
    ["the longest length", setIov(L.IOV_LENGTH, 0x7fffffff), errno.EFAULT],
    ["a checksum field behind the piece", setIov(L.IOV_CSUM, csum(0, 6)), errno.EFAULT],
    ["a checksum that starts behind the piece", setIov(L.IOV_CSUM, csum(255, 0)), errno.EFAULT],
    ["a checksum field at an odd place", setIov(L.IOV_CSUM, csum(0, 1)), errno.EFAULT],
  ])("%s", (_, change, expected) => {
    expect(errnoOf(change)).toBe(expected);
  });

  test("a chain that bites its tail is bounded by the number of pieces", () => {
    const loop = (b: Bench) => {
      b.iov[L.IOV_NEXT] = 0;
      b.msg[L.MSG_IOV_COUNT] = L.MAX_IOV;
    };
    expect(errnoOf(loop)).toBe(0);
    expect(bench.collect(1)[0]!.bytes.toString()).toBe("abcdef".repeat(L.MAX_IOV));
  });

  test("random numbers in messages and pieces crash nothing", () => {
    const next = random(4242);
    const extremes = [
      -1,
      0,
      1,
      2,
      10,
      64,
      0x7fffffff,
      -0x80000000,
      L.ARENA.bytes,
      L.IOV_CAPACITY - 1,
      L.CSUM_REQUEST,
    ];
    const any = () =>
      next() < 0.5 ? extremes[Math.floor(next() * extremes.length)]! : Math.floor(next() * 3000);
    for (let round = 0; round < 200; round++) {
      for (let m = 0; m < 16; m++)
        bench.plan({ port: 0, pieces: [{ bytes: Buffer.alloc(64) }, { bytes: Buffer.alloc(64) }] });
      for (let i = 0; i < 40; i++) bench.msg[Math.floor(next() * 16 * L.MSG_STRIDE)] = any();
      for (let i = 0; i < 40; i++) bench.iov[Math.floor(next() * 32 * L.IOV_STRIDE)] = any();
      bench.breathe(0);
    }
    expect(bench.status[L.STATUS_FAILED]).toBeGreaterThanOrEqual(0);
  });
});
