import { describe, expect, it } from "vitest";
import { Arena } from "../../../src/packet/Arena.js";
import { Batch, DROPPED, PENDING } from "../../../src/packet/Batch.js";
import { COUNT_DROPS, COUNT_RECEIVED, COUNTERS } from "../../../src/packet/counters.js";
import { DropReason } from "../../../src/packet/DropReason.js";
import {
  ARENA,
  RX_FLAG_TRUNCATED,
  RX_FLAGS,
  RX_LENGTH,
  RX_OFFSET,
  RX_PEER,
  RX_PORT,
  RX_SEGMENT,
} from "../../../src/packet/layout.js";
import { receiveVxlan } from "../../../src/port/VxlanPort.js";
import { MASTER, VNI, WORKER01 } from "../../support/dataplane.js";
import { address, concat, counting, ethernet, IPV4, IPV6, udpPacket, vxlan } from "../../support/frames.js";

const PEER = address(WORKER01.underlay);
const START = ARENA.rxUdp + 130;

function datagram(payload: number, type = IPV4): Uint8Array {
  const packet = udpPacket({ source: WORKER01.pod, destination: MASTER.pod }, counting(payload));
  return vxlan(VNI, ethernet(MASTER.vtepMac, WORKER01.vtepMac, type, packet));
}

function receive(bytes: Uint8Array, segment = bytes.length, flags = 0) {
  const arena = new Arena(new ArrayBuffer(ARENA.bytes));
  const batch = new Batch();
  const counters = new Float64Array(COUNTERS);
  arena.bytes.set(bytes, START);
  arena.rx[RX_OFFSET] = START;
  arena.rx[RX_LENGTH] = bytes.length;
  arena.rx[RX_PORT] = 1;
  arena.rx[RX_SEGMENT] = segment;
  arena.rx[RX_PEER] = PEER;
  arena.rx[RX_FLAGS] = flags;
  receiveVxlan(arena, 0, batch, counters);
  const rows = Array.from({ length: batch.count }, (_, i) => ({
    at: batch.offset[i] - START,
    length: batch.length[i],
    peer: batch.peer[i],
    gsoType: batch.gsoType[i],
    gsoSize: batch.gsoSize[i],
    verdict: batch.verdict[i],
    segments: batch.segments[i],
    short: batch.short[i],
  }));
  return { rows, counters };
}

const row = (at: number, length: number, rest: object = {}) => ({
  at,
  length,
  peer: PEER,
  gsoType: 0,
  gsoSize: 0,
  verdict: PENDING,
  segments: 1,
  short: 0,
  ...rest,
});

describe("receiveVxlan", () => {
  it("one datagram is one row", () => {
    expect(receive(datagram(50)).rows).toEqual([row(0, 100)]);
  });

  it.each([0, -5])("a segment size of %i is none", (segment) => {
    expect(receive(datagram(50), segment).rows).toEqual([row(0, 100)]);
  });

  it("a train of one flow is one row: a run, whose last may be shorter", () => {
    const train = concat(datagram(50), datagram(50), datagram(20));
    expect(receive(train, 100).rows).toEqual([row(0, 100, { segments: 3, short: 30 })]);
  });

  it("a train of different flows is a row for each run", () => {
    const other = datagram(50);
    other[8 + 14 + 15] ^= 1;
    const train = concat(datagram(50), datagram(50), other, datagram(50), datagram(50), datagram(20));
    expect(receive(train, 100).rows).toEqual([
      row(0, 100, { segments: 2 }),
      row(200, 100),
      row(300, 100, { segments: 3, short: 30 }),
    ]);
  });

  it("a train of 128", () => {
    const train = concat(...Array.from({ length: 128 }, () => datagram(50)));
    const { rows, counters } = receive(train, 100);
    expect(rows.map((r) => r.segments)).toEqual([128]);
    expect(counters[COUNT_DROPS + DropReason.truncated]).toBe(0);
  });

  it("what lies behind the 128th datagram is received and dropped", () => {
    const train = concat(...Array.from({ length: 130 }, () => datagram(50)), datagram(0));
    const { rows, counters } = receive(train, 100);
    expect(rows.map((r) => r.segments)).toEqual([128]);
    expect(rows[0].short).toBe(0);
    expect(counters[COUNT_RECEIVED]).toBe(3);
    expect(counters[COUNT_DROPS + DropReason.truncated]).toBe(3);
  });

  it("a whole inner UDP GSO frame is one row with the inner segment size", () => {
    const whole = datagram(3000);
    expect(receive(whole, 1000).rows).toEqual([row(0, whole.length, { gsoType: 5, gsoSize: 1000 })]);
  });

  it.each([
    ["whose first packet ends within its first segment", concat(datagram(50), datagram(50)), 100],
    ["of IPv6", datagram(3000, IPV6), 1000],
    ["too short for an inner header", counting(41), 20],
  ])("a train %s is a train", (_, bytes, segment) => {
    const { rows } = receive(bytes, segment);
    expect(rows.every((r) => r.gsoType === 0)).toBe(true);
    expect(rows.reduce((sum, r) => sum + r.segments, 0)).toBe(Math.ceil(bytes.length / segment));
  });

  it("a truncated datagram is one dropped row, even if it was a train", () => {
    const { rows, counters } = receive(concat(datagram(50), datagram(50)), 100, RX_FLAG_TRUNCATED);
    expect(rows.map((r) => r.verdict)).toEqual([DROPPED]);
    expect(counters[COUNT_DROPS + DropReason.truncated]).toBe(1);
  });
});
