/**
 * TAP devices and packet sockets in a namespace of the test's own. A packet socket on the TAP's
 * interface is the other end: what it sends comes out of the TAP's descriptor, and it hears what is
 * written into it.
 *
 *   Bench ── PORT_TAP ── /dev/net/tun ── interface pw0 ── AF_PACKET ── PORT_LINK ── Bench
 */

import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { native, type TapHandle, type TapOptions } from "../../../src/binding/index.js";
import * as L from "../../../src/packet/layout.js";
import { Bench, Namespace, noNamespaces, type Piece, random, sum16 } from "./support.js";

const { errno } = constants;
const EBADFD = 77; // not among os.constants
const TUN_F_CSUM = 1;
const TUN_F_TSO4 = 2;
const TUN_F_TSO6 = 4;
const TUN_F_USO = 0x60; // USO4 and USO6, which go together
const ETH_P_ALL = 3;
const ETH_P_ARP = 0x0806;
const TAP = 0;
const LINK = 1;

const reason = noNamespaces();
if (reason) console.warn(`TAP tests skipped: ${reason}`);

describe.skipIf(reason !== "")("TAP", () => {
  let ns: Namespace;
  let bench: Bench;
  beforeAll(() => {
    ns = new Namespace().quiet();
  });
  afterAll(() => ns.remove());
  beforeEach(() => {
    bench = new Bench();
  });
  afterEach(() => bench.close());

  function open(options: Partial<TapOptions> = {}): TapHandle {
    const handle = native.openTap({
      netns: ns.path,
      name: "pw0",
      multiQueue: false,
      vnetHeader: L.VNET_BYTES,
      offloads: TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
      optionalOffloads: [],
      persist: false,
      mode: "create",
      ...options,
    });
    bench.own(handle.fd);
    return handle;
  }

  /** The TAP as port 0, and a packet socket on its interface as port 1. */
  function openBoth(mtu = 1500): TapHandle {
    const tap = open();
    ns.ip("link", "set", "pw0", "mtu", String(mtu), "up");
    bench.io.addPort(TAP, L.PORT_TAP, tap.fd, true);
    bench.io.addPort(LINK, L.PORT_LINK, openLink(), true);
    return tap;
  }

  function openLink(filter: number[] = [], protocol = ETH_P_ALL, ifname = "pw0"): number {
    return bench.own(native.openPacket({ netns: ns.path, ifname, protocol, filter }));
  }

  const names = () => [...ns.ip("-o", "link").matchAll(/^\d+: ([^:@]+)/gm)].map((match) => match[1]);

  describe("opening", () => {
    test("makes a device in the namespace, and only there", () => {
      const tap = open();
      expect(tap).toMatchObject({ created: true, offloads: 7 });
      const line = ns.ip("-d", "-o", "link", "show", "pw0");
      expect(line).toMatch(new RegExp(`^${tap.ifindex}: pw0:`));
      expect(line).toContain("tun type tap pi off vnet_hdr on persist off");
      expect(readFileSync("/proc/net/dev", "utf8")).not.toContain("pw0:");
      bench.drop(tap.fd);
      expect(names()).toEqual(["lo"]);
    });

    test("refused optional offloads are left out, each tried on top of those before", () => {
      const unknown = 0x40000000;
      expect(
        open({ offloads: TUN_F_CSUM, optionalOffloads: [TUN_F_TSO4, unknown, TUN_F_TSO6] }).offloads,
      ).toBe(7);
      const uso = open({ name: "pw1", optionalOffloads: [TUN_F_USO] }).offloads;
      expect([7, 7 | TUN_F_USO]).toContain(uso);
    });

    test("a refused required offload undoes everything", () => {
      expect(() => open({ offloads: 0x40000000, persist: true })).toThrow(/^TUNSETOFFLOAD: EINVAL/);
      expect(() => open({ vnetHeader: 3, persist: true })).toThrow(/^TUNSETVNETHDRSZ: EINVAL/);
      expect(names()).toEqual(["lo"]);
    });

    test("create refuses a name that is taken, attach one that is not", () => {
      const first = open({ persist: true });
      expect(() => open()).toThrow(/^TUNSETIFF: EEXIST/);
      expect(() => open({ name: "pw1", mode: "attach" })).toThrow(/^TUNSETIFF: ENODEV/);
      expect(() => open({ mode: "attach" })).toThrow(/^TUNSETIFF: EBUSY/);
      bench.drop(first.fd);
      expect(names()).toEqual(["lo", "pw0"]);
      expect(() => open({ mode: "attach", multiQueue: true })).toThrow(/^TUNSETIFF: EINVAL/);
      const second = open({ mode: "attach", persist: true });
      expect(second).toMatchObject({ created: false, ifindex: first.ifindex });
      native.setTapPersist(second.fd, false);
      bench.drop(second.fd);
      expect(names()).toEqual(["lo"]);
      expect(open({ mode: "either" }).created).toBe(true);
    });

    test("a device of another kind is refused", () => {
      expect(() => open({ name: "lo", mode: "attach" })).toThrow(/^TUNSETIFF: EINVAL/);
      expect(() => open({ name: "lo", mode: "either" })).toThrow(/^TUNSETIFF: EINVAL/);
    });

    test("several queues of one device", () => {
      const first = open({ multiQueue: true });
      const second = open({ multiQueue: true, mode: "attach" });
      expect(second).toMatchObject({ created: false, ifindex: first.ifindex });
    });

    test("an attached device takes the header length it is told", () => {
      const first = open({ persist: true });
      bench.drop(first.fd);
      const second = open({ mode: "attach", vnetHeader: 24, persist: false });
      ns.ip("link", "set", "pw0", "up");
      bench.io.addPort(TAP, L.PORT_TAP, second.fd, true);
      bench.io.addPort(LINK, L.PORT_LINK, openLink(), true);
      bench.plan({ port: LINK, pieces: [{ bytes: frame(60, 1) }] });
      expect(bench.collect(1).map((r) => r.length)).toEqual([24 + 60]);
    });
  });

  describe("frames", () => {
    test("come out behind a virtio-net header, aligned, and go in the same way", () => {
      openBoth();
      const [out, back] = [frame(74, 1), frame(1514, 2)];
      bench.plan({ port: LINK, pieces: [{ bytes: out }] });
      const read = bench.collect(1);
      expect(read).toHaveLength(1);
      expect(read[0]).toMatchObject({ port: TAP, length: L.VNET_BYTES + 74, flags: 0 });
      expect(read[0]!.bytes.subarray(L.VNET_BYTES).equals(out)).toBe(true);
      expect(read[0]!.offset % 64).toBe(0);
      expect(read[0]!.offset - L.ARENA.rxTap).toBe(L.HEADROOM);

      bench.plan({
        port: TAP,
        pieces: [
          { bytes: Buffer.alloc(L.VNET_BYTES) },
          { bytes: back.subarray(0, 14) },
          { bytes: back.subarray(14) },
        ],
      });
      const heard = bench.collect(1);
      expect(bench.errno()).toBe(0);
      expect(heard).toHaveLength(1);
      expect(heard[0]).toMatchObject({ port: LINK, length: 1514, flags: 0 });
      expect(heard[0]!.bytes.equals(back)).toBe(true);
      expect((heard[0]!.offset + 14) % 4).toBe(0);
    });

    test("at most TAP_FRAMES a breath, in order, without overlap and with headroom", () => {
      openBoth();
      for (let i = 0; i < 100; i++) bench.plan({ port: LINK, pieces: [{ bytes: frame(60 + i, i) }] });
      expect(bench.execute()).toBe(0);
      const first = bench.breathe();
      const second = bench.breathe();
      expect([first.length, second.length]).toEqual([L.TAP_FRAMES, 100 - L.TAP_FRAMES]);
      [...first, ...second].forEach((one, i) => {
        expect(one.bytes.subarray(L.VNET_BYTES).equals(frame(60 + i, i))).toBe(true);
      });
      for (let i = 1; i < first.length; i++) {
        const gap = first[i]!.offset - (first[i - 1]!.offset + first[i - 1]!.length);
        expect(gap).toBeGreaterThanOrEqual(L.HEADROOM);
        expect(first[i]!.offset % 64).toBe(0);
      }
    });

    test("at most TAP_BUDGET bytes a breath, beginning with another port each time", () => {
      openBoth(60000);
      const other = open({ name: "pw1" });
      ns.ip("link", "set", "pw1", "mtu", "60000", "up");
      bench.io.addPort(2, L.PORT_TAP, other.fd, true);
      bench.io.addPort(3, L.PORT_LINK, openLink([], ETH_P_ALL, "pw1"), true);
      const large = frame(60000, 7);
      const at = bench.place(large);
      for (let i = 0; i < 24; i++)
        bench.plan({ port: i % 2 === 0 ? LINK : 3, pieces: [{ offset: at, length: large.length }] });
      expect(bench.execute()).toBe(0);
      const firsts: number[] = [];
      let total = 0;
      for (let breath = 0; breath < 10 && total < 24; breath++) {
        const some = bench.breathe();
        expect(some.length).toBeLessThanOrEqual(5);
        for (const one of some) {
          expect(one.bytes.subarray(L.VNET_BYTES).equals(large)).toBe(true);
          expect(one.offset + one.length).toBeLessThanOrEqual(L.ARENA.rxTap + L.ARENA.rxTapBytes);
        }
        firsts.push(some[0]!.port);
        total += some.length;
      }
      expect(total).toBe(24);
      expect(firsts[0]).not.toBe(firsts[1]);
      expect(firsts[1]).not.toBe(firsts[2]);
    });
  });

  describe("a TAP that is down or gone", () => {
    /** How long a breath without anything to read took. */
    function idle(ms: number): number {
      const start = performance.now();
      expect(bench.breathe(ms)).toEqual([]);
      return performance.now() - start;
    }

    test("down: nothing to read, no busy loop, and it works when it is up again", () => {
      const tap = open();
      bench.io.addPort(TAP, L.PORT_TAP, tap.fd, true);
      expect(idle(50)).toBeGreaterThan(45);
      ns.ip("link", "set", "pw0", "up");
      expect(idle(20)).toBeGreaterThan(15);
      ns.ip("link", "set", "pw0", "down");
      expect(idle(50)).toBeGreaterThan(45);
      bench.plan({ port: TAP, pieces: [{ bytes: Buffer.alloc(L.VNET_BYTES) }, { bytes: frame(60, 1) }] });
      bench.execute();
      expect(bench.errno()).toBe(errno.EIO);

      ns.ip("link", "set", "pw0", "up");
      bench.io.addPort(LINK, L.PORT_LINK, openLink(), true);
      bench.plan({ port: LINK, pieces: [{ bytes: frame(60, 2) }] });
      expect(bench.collect(1).map((r) => [r.port, r.flags])).toEqual([[TAP, 0]]);
    });

    test("down with frames in its queue: no busy loop", () => {
      openBoth();
      bench.plan({ port: LINK, pieces: [{ bytes: frame(60, 1) }] });
      bench.execute();
      ns.ip("link", "set", "pw0", "down");
      bench.breathe(0); // reads what was queued, if the kernel kept it, and the packet socket's ENETDOWN
      expect(idle(50)).toBeGreaterThan(45);
      ns.ip("link", "set", "pw0", "up");
      bench.plan({ port: LINK, pieces: [{ bytes: frame(60, 2) }] });
      expect(bench.collect(1).map((r) => [r.port, r.flags])).toEqual([[TAP, 0]]);
    });

    test("gone: said once, then silent; writing says why", () => {
      const tap = open();
      ns.ip("link", "set", "pw0", "up");
      bench.io.addPort(TAP, L.PORT_TAP, tap.fd, true);
      ns.ip("link", "del", "pw0");
      expect(bench.breathe()).toMatchObject([{ port: TAP, flags: L.RX_FLAG_ERROR, length: EBADFD }]);
      expect(idle(50)).toBeGreaterThan(45);
      bench.plan({ port: TAP, pieces: [{ bytes: Buffer.alloc(L.VNET_BYTES) }, { bytes: frame(60, 1) }] });
      bench.execute();
      expect(bench.errno()).toBe(EBADFD);
      bench.io.removePort(TAP);
    });

    test("gone while the worker sleeps: it wakes", async () => {
      const tap = open();
      ns.ip("link", "set", "pw0", "up");
      bench.io.addPort(TAP, L.PORT_TAP, tap.fd, true);
      const { spawn } = await import("node:child_process");
      const deleted = spawn("sh", ["-c", `sleep 0.1; ip -n ${ns.name} link del pw0`]);
      const start = performance.now();
      expect(bench.breathe(5000)).toMatchObject([{ port: TAP, flags: L.RX_FLAG_ERROR }]);
      expect(performance.now() - start).toBeLessThan(4000);
      await new Promise((resolve) => deleted.on("exit", resolve));
    });

    test("an open descriptor holds on to its namespace, although the name is gone", () => {
      const own = new Namespace().quiet();
      const tap = open({ netns: own.path });
      own.ip("link", "set", "pw0", "up");
      bench.io.addPort(TAP, L.PORT_TAP, tap.fd, true);
      own.remove();
      expect(idle(20)).toBeGreaterThan(15);
      bench.plan({ port: TAP, pieces: [{ bytes: Buffer.alloc(L.VNET_BYTES) }, { bytes: frame(60, 1) }] });
      bench.execute();
      expect(bench.errno()).toBe(0);
    });
  });

  describe("merged TCP frames (MSG_FLAG_VERIFY)", () => {
    const SEGMENT = 1000;

    test.each([
      ["even segments", [SEGMENT, SEGMENT, SEGMENT]],
      ["a short odd last segment", [SEGMENT, SEGMENT, 333]],
      ["one byte", [SEGMENT, 1]],
    ])("%s, all correct: one frame is written", (_, lengths) => {
      openBoth();
      const merged = merge(lengths);
      planMerged(merged);
      const heard = bench.collect(1);
      expect(bench.errno()).toBe(0);
      expect(heard.map((r) => r.length)).toEqual([
        merged.header.length - L.VNET_BYTES + merged.payload.length,
      ]);
      expect(heard[0]!.bytes.subarray(54).equals(merged.payload)).toBe(true);
      expect(bench.status[L.STATUS_UNMERGED]).toBe(0);
      expect(bench.breathe(20)).toEqual([]);
    });

    test.each([0, 1, 2])("segment %i is wrong: each is written by itself, as it came", (bad) => {
      openBoth();
      const merged = merge([SEGMENT, SEGMENT, 500]);
      const broken = merged.segments[bad]!;
      broken[54 + 77]! ^= 0x10;
      planMerged(merged);
      const heard = bench.collect(3);
      expect(bench.errno()).toBe(0);
      expect(bench.status[L.STATUS_UNMERGED]).toBe(1);
      expect(heard.map((r) => r.bytes.toString("hex"))).toEqual(
        merged.segments.map((s) => s.toString("hex")),
      );
    });

    test("a wrong pseudo-header sum unmerges too", () => {
      openBoth();
      const merged = merge([SEGMENT, SEGMENT]);
      planMerged({ ...merged, pseudo: merged.pseudo + 1 });
      expect(bench.collect(2)).toHaveLength(2);
      expect(bench.status[L.STATUS_UNMERGED]).toBe(1);
    });

    test("headers that would lie in front of the arena are refused", () => {
      openBoth();
      for (const wrong of [{ headers: 100_000_000 }, { l4: 60, headers: 54 }, { l4: -1 }, { headers: -1 }]) {
        planMerged({ ...merge([100, 100]), ...wrong });
        bench.execute();
        expect(bench.errno()).toBe(errno.EFAULT);
      }
      expect(bench.breathe(20)).toEqual([]);
    });

    function planMerged(merged: Merged & { l4?: number; headers?: number }): void {
      const pieces: Piece[] = [{ bytes: merged.header }];
      for (const segment of merged.segments) {
        pieces.push({ offset: bench.place(segment) + 54, length: segment.length - 54 });
      }
      bench.plan({
        port: TAP,
        pieces,
        flags: L.MSG_FLAG_VERIFY,
        l4Length: merged.l4 ?? 20,
        headers: merged.headers ?? 54,
        pseudo: merged.pseudo,
      });
    }
  });

  describe("a packet socket", () => {
    // ldh [12]; jeq #0x0806 ret 65535; ret 0
    const ONLY_ARP = [0x28, 0, 0, 12, 0x15, 0, 1, ETH_P_ARP, 0x06, 0, 0, 65535, 0x06, 0, 0, 0];

    test("hears what its filter lets through, and nothing of what is sent", () => {
      const tap = open();
      ns.ip("link", "set", "pw0", "up");
      bench.io.addPort(TAP, L.PORT_TAP, tap.fd, false);
      bench.io.addPort(LINK, L.PORT_LINK, openLink(ONLY_ARP), true);
      bench.io.addPort(2, L.PORT_LINK, openLink(), false);
      const vnet = { bytes: Buffer.alloc(L.VNET_BYTES) };
      bench.plan({ port: TAP, pieces: [vnet, { bytes: frame(60, 1) }] });
      bench.plan({ port: TAP, pieces: [vnet, { bytes: frame(60, 2, ETH_P_ARP) }] });
      bench.plan({ port: LINK, pieces: [{ bytes: frame(60, 3, ETH_P_ARP) }] });
      bench.plan({ port: 2, pieces: [{ bytes: frame(60, 4, ETH_P_ARP) }] });
      const heard = [...bench.breathe(), ...bench.breathe(20)];
      expect(heard).toHaveLength(1);
      expect(heard[0]!.bytes.equals(frame(60, 2, ETH_P_ARP))).toBe(true);
    });

    test("outlives its interface going down, and says when it is removed", () => {
      const tap = open();
      ns.ip("link", "set", "pw0", "up");
      bench.io.addPort(TAP, L.PORT_TAP, tap.fd, false);
      bench.io.addPort(LINK, L.PORT_LINK, openLink(), true);
      ns.ip("link", "set", "pw0", "down");
      expect(bench.breathe(20)).toEqual([]);
      ns.ip("link", "set", "pw0", "up");
      bench.plan({ port: TAP, pieces: [{ bytes: Buffer.alloc(L.VNET_BYTES) }, { bytes: frame(60, 1) }] });
      expect(bench.collect(1)).toMatchObject([{ port: LINK, length: 60, flags: 0 }]);
      ns.ip("link", "del", "pw0");
      const end = bench.collect(1);
      expect(end).toMatchObject([{ port: LINK, flags: L.RX_FLAG_ERROR, length: errno.ENODEV }]);
      expect(bench.breathe(20)).toEqual([]);
    });
  });
});

/** An Ethernet frame of `length` bytes that nobody answers (local experimental EtherType by default). */
function frame(length: number, seed: number, type = 0x88b5): Buffer {
  const next = random(seed + 1);
  const bytes = Buffer.from(Uint8Array.from({ length }, () => next() * 256));
  Buffer.from("0200000000010200000000ff", "hex").copy(bytes);
  bytes.writeUInt16BE(type, 12);
  return bytes;
}

interface Merged {
  /** virtio-net header and the merged frame's headers. */
  header: Buffer;
  /** The segments as they came, each with its own headers. */
  segments: Buffer[];
  payload: Buffer;
  /** As MSG_PSEUDO wants it. */
  pseudo: number;
}

/** TCP segments from 192.0.2.1 to 192.0.2.2 with payloads of these lengths, and the header of their merger. */
function merge(lengths: number[]): Merged {
  const next = random(lengths.length);
  const payloads = lengths.map((length) => Buffer.from(Uint8Array.from({ length }, () => next() * 256)));
  const pseudo = 0xc000 + 0x0201 + 0xc000 + 0x0202 + 6;
  const headers = (payloadLength: number, sequence: number): Buffer => {
    const bytes = Buffer.alloc(54);
    Buffer.from("0200000000010200000000ff0800", "hex").copy(bytes);
    bytes.writeUInt8(0x45, 14);
    bytes.writeUInt16BE(40 + payloadLength, 16);
    bytes.writeUInt16BE(0x4000, 20);
    bytes.writeUInt16BE((64 << 8) | 6, 22);
    Buffer.from("c0000201c0000202", "hex").copy(bytes, 26);
    bytes.writeUInt16BE(~sum16(bytes.subarray(14, 34)) & 0xffff, 24);
    bytes.writeUInt16BE(40000, 34);
    bytes.writeUInt16BE(80, 36);
    bytes.writeUInt32BE(sequence, 38);
    bytes.writeUInt16BE(0x5010, 46);
    bytes.writeUInt16BE(1000, 48);
    return bytes;
  };
  let sequence = 1;
  const segments = payloads.map((payload) => {
    const segment = Buffer.concat([headers(payload.length, sequence), payload]);
    segment.writeUInt16BE(~sum16(segment.subarray(34), pseudo + 20 + payload.length) & 0xffff, 50);
    sequence += payload.length;
    return segment;
  });
  const payload = Buffer.concat(payloads);
  const frameHeaders = headers(payload.length, 1);
  frameHeaders.writeUInt16BE(sum16(new Uint8Array(0), pseudo + 20 + payload.length), 50);
  const vnet = Buffer.alloc(L.VNET_BYTES);
  vnet.writeUInt8(1, 0); // VIRTIO_NET_HDR_F_NEEDS_CSUM
  vnet.writeUInt8(1, 1); // VIRTIO_NET_HDR_GSO_TCPV4
  vnet.writeUInt16LE(54, 2);
  vnet.writeUInt16LE(lengths[0]!, 4);
  vnet.writeUInt16LE(34, 6);
  vnet.writeUInt16LE(16, 8);
  return { header: Buffer.concat([vnet, frameHeaders]), segments, payload, pseudo };
}
