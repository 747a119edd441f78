import { describe, expect, it } from "vitest";
import { Arena } from "../../../src/packet/Arena.js";
import {
  BATCH_CAPACITY,
  Batch,
  DROPPED,
  KIND_UNKNOWN,
  PENDING,
  VIA_ROUTE,
} from "../../../src/packet/Batch.js";
import * as counters from "../../../src/packet/counters.js";
import { DROP_REASON_NAMES, DROP_REASONS, DropReason } from "../../../src/packet/DropReason.js";
import {
  ARENA,
  IOV_CAPACITY,
  IOV_STRIDE,
  MSG_CAPACITY,
  MSG_FRAMES,
  MSG_IOV,
  MSG_IOV_COUNT,
  MSG_PEER,
  MSG_PORT,
  MSG_STRIDE,
  RX_CAPACITY,
  RX_STRIDE,
  SCRATCH_BYTES,
  SCRATCH_SLOTS,
  STATUS_LENGTH,
  UDP_SLOT_BYTES,
  UDP_SLOTS,
} from "../../../src/packet/layout.js";
import { MSG_BYTES, MSG_SEGMENTS, TxPlan, ZERO_SLOT } from "../../../src/packet/TxPlan.js";

describe("layout", () => {
  it("areas follow one another without overlapping, on cache lines", () => {
    const areas = [
      [ARENA.rxTap, ARENA.rxTapBytes],
      [ARENA.rxUdp, UDP_SLOTS * UDP_SLOT_BYTES],
      [ARENA.scratch, SCRATCH_SLOTS * SCRATCH_BYTES],
      [ARENA.rx, RX_CAPACITY * RX_STRIDE * 4],
      [ARENA.msg, MSG_CAPACITY * MSG_STRIDE * 4],
      [ARENA.iov, IOV_CAPACITY * IOV_STRIDE * 4],
      [ARENA.status, STATUS_LENGTH * 8],
      [ARENA.bytes, 0],
    ];
    for (let n = 1; n < areas.length; n++) {
      expect(areas[n][0]).toBeGreaterThanOrEqual(areas[n - 1][0] + areas[n - 1][1]);
      expect(areas[n][0] % 64).toBe(0);
    }
  });

  it("an arena that is too small is refused", () => {
    expect(() => new Arena(new ArrayBuffer(ARENA.bytes - 1))).toThrow(RangeError);
    expect(() => new Arena(new ArrayBuffer(ARENA.bytes))).not.toThrow();
  });
});

describe("DropReason", () => {
  it("numbers are 0, 1, 2 … and index the names", () => {
    expect(Object.values(DropReason)).toEqual(Array.from({ length: DROP_REASONS }, (_, n) => n));
    for (const [name, reason] of Object.entries(DropReason)) expect(DROP_REASON_NAMES[reason]).toBe(name);
  });
});

describe("counters", () => {
  it("no two share an index, and all lie in front of the drops", () => {
    const indices = Object.entries(counters)
      .filter(([name]) => name.startsWith("COUNT_") && name !== "COUNT_DROPS")
      .map(([, index]) => index as number);
    expect(new Set(indices).size).toBe(indices.length);
    expect(Math.max(...indices)).toBeLessThan(counters.COUNT_DROPS);
    expect(counters.COUNTERS).toBe(counters.COUNT_DROPS + DROP_REASONS);
  });

  it("every counter that is no total of frames has a name", () => {
    const totals = [counters.COUNT_RECEIVED, counters.COUNT_FORWARDED, counters.COUNT_ANSWERED];
    const indices = Object.entries(counters)
      .filter(([name]) => name.startsWith("COUNT_") && name !== "COUNT_DROPS")
      .map(([, index]) => index as number)
      .filter((index) => !totals.includes(index));
    expect(Object.values(counters.OTHER_COUNTERS).sort((a, b) => a - b)).toEqual(
      indices.sort((a, b) => a - b),
    );
  });
});

describe("Batch", () => {
  it("push leaves nothing that has a meaning of the row that was there before", () => {
    const batch = new Batch();
    const columns = [
      batch.vtep,
      batch.gsoType,
      batch.csumStart,
      batch.segments,
      batch.short,
      batch.heard,
      batch.tag,
      batch.flow,
      batch.via,
      batch.kind,
      batch.verdict,
    ];
    for (const column of columns) column.fill(77);
    batch.verdict[1] = DROPPED;
    batch.count = 1;
    expect(batch.push(1000, 60, 5)).toBe(1);
    expect(batch.count).toBe(2);
    expect([batch.offset[1], batch.length[1], batch.port[1]]).toEqual([1000, 60, 5]);
    expect(columns.map((column) => column[1])).toEqual([
      -1,
      0,
      -1,
      1,
      0,
      0,
      0,
      -1,
      VIA_ROUTE,
      KIND_UNKNOWN,
      PENDING,
    ]);
    expect(columns.map((column) => column[0])).toEqual(columns.map(() => 77));
  });

  it("every column has room for a batch", () => {
    const columns = Object.values(new Batch()).filter((c) => c instanceof Int32Array);
    expect(columns.length).toBeGreaterThan(15);
    for (const column of columns) expect(column).toHaveLength(BATCH_CAPACITY);
  });
});

describe("TxPlan", () => {
  function plan() {
    return new TxPlan(new Arena(new ArrayBuffer(ARENA.bytes)));
  }

  it("messages grow at the same time, each in its own chain", () => {
    const p = plan();
    const a = p.message(1, 2, 100, 10, 0);
    const b = p.message(3, 4, 200, 20, 0);
    p.append(a, 300, 30, 0);
    p.append(b, 400, 40, 0);
    p.append(a, 500, 50, 0);
    const chain = (m: number) => {
      const pieces: number[][] = [];
      for (let i = p.msg[m + MSG_IOV]; i !== -1; i = p.iov[i * IOV_STRIDE + 2]) {
        pieces.push([p.iov[i * IOV_STRIDE], p.iov[i * IOV_STRIDE + 1]]);
      }
      return pieces;
    };
    expect([p.msg[a + MSG_PORT], p.msg[a + MSG_PEER], p.msg[a + MSG_IOV_COUNT]]).toEqual([1, 2, 3]);
    expect(chain(a)).toEqual([
      [100, 10],
      [300, 30],
      [500, 50],
    ]);
    expect(chain(b)).toEqual([
      [200, 20],
      [400, 40],
    ]);
    expect([p.msg[a + MSG_BYTES], p.msg[b + MSG_BYTES]]).toEqual([90, 60]);
    expect([p.msg[a + MSG_FRAMES], p.msg[a + MSG_SEGMENTS], p.messages]).toEqual([1, 1, 2]);
  });

  it("fits knows each limit to the last one", () => {
    const p = plan();
    expect(p.fits(MSG_CAPACITY, IOV_CAPACITY, SCRATCH_SLOTS - 1)).toBe(true);
    expect(p.fits(MSG_CAPACITY + 1, 0, 0)).toBe(false);
    expect(p.fits(0, IOV_CAPACITY + 1, 0)).toBe(false);
    expect(p.fits(0, 0, SCRATCH_SLOTS)).toBe(false);
    p.append(p.message(0, 0, 0, 0, 0), 0, 0, 0);
    p.slot();
    expect(p.fits(MSG_CAPACITY - 1, IOV_CAPACITY - 2, SCRATCH_SLOTS - 2)).toBe(true);
    expect(p.fits(MSG_CAPACITY, 0, 0)).toBe(false);
    expect(p.fits(0, IOV_CAPACITY - 1, 0)).toBe(false);
    expect(p.fits(0, 0, SCRATCH_SLOTS - 1)).toBe(false);
    p.reset();
    expect(p.fits(MSG_CAPACITY, IOV_CAPACITY, SCRATCH_SLOTS - 1)).toBe(true);
  });

  it("slots are apart, inside the scratch area, and never the one that is always zero", () => {
    const p = plan();
    const slots = Array.from({ length: SCRATCH_SLOTS - 1 }, () => p.slot());
    expect(new Set(slots).size).toBe(slots.length);
    expect(Math.min(...slots)).toBe(ZERO_SLOT + SCRATCH_BYTES);
    expect(Math.max(...slots) + SCRATCH_BYTES).toBe(ARENA.scratch + SCRATCH_SLOTS * SCRATCH_BYTES);
  });
});
