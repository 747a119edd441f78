/** The service table: builder and reader against a plain map, over many images in one memory. */
import { describe, expect, it } from "vitest";
import { ringHash } from "../../../src/tables/MaglevRing.js";
import { SegmentArena } from "../../../src/tables/SegmentArena.js";
import {
  BACKEND_LOCAL,
  FRONTEND_CLUSTER_IP,
  FRONTEND_NODE_PORT,
  MAX_BACKENDS,
  RING_DROP,
  RING_REJECT,
  ServiceTable,
  ServiceTableBuilder,
} from "../../../src/tables/ServiceTable.js";
import { BACKEND_WORDS, type FrontendRow } from "../../../src/tables/serviceLayout.js";
import { address } from "../../support/frames.js";
import { Random } from "../../support/random.js";

const TCP = 6;
const UDP = 17;
const VIP = address("10.152.183.7");

function backends(...hosts: number[]): Int32Array {
  return Int32Array.from(hosts.flatMap((host) => [(address("10.1.0.0") + host) | 0, 80, 0, 1000 + host]));
}

function row(over: Partial<FrontendRow> = {}): FrontendRow {
  return {
    flags: FRONTEND_CLUSTER_IP,
    affinitySeconds: 0,
    affinityKey: 0,
    inside: RING_REJECT,
    outside: RING_DROP,
    ranges: 0,
    service: 1,
    ...over,
  };
}

/** Commits, adopts and acknowledges. */
function swap(builder: ServiceTableBuilder, table: ServiceTable): void {
  const image = builder.commit();
  table.adopt(image);
  builder.acknowledge(image);
}

function members(table: ServiceTable, ring: number): number[] {
  return Array.from({ length: table.count(ring) }, (_, i) => table.backendId(table.member(ring, i)));
}

describe("ServiceTable", () => {
  it("finds nothing before the first image, and in an empty one", () => {
    const table = new ServiceTable();
    expect(table.find(VIP, TCP, 80)).toBe(-1);
    expect(table.isServiceAddress(VIP)).toBe(false);
    swap(new ServiceTableBuilder(), table);
    expect(table.find(VIP, TCP, 80)).toBe(-1);
    expect(table.size).toBe(0);
  });

  it("has rows by address, protocol and port, node ports, and addresses without such a port", () => {
    const builder = new ServiceTableBuilder();
    const table = new ServiceTable();
    const ring = builder.acquireRing(backends(1, 2, 3));
    const affinity = { affinitySeconds: 10800, affinityKey: -9 };
    builder.setFrontend(VIP, TCP, 80, row({ inside: ring, ...affinity, service: 7 }));
    builder.setFrontend(VIP, UDP, 80, row({ service: 8 }));
    builder.setFrontend(0, TCP, 30080, row({ flags: FRONTEND_NODE_PORT, outside: ring, service: 7 }));
    swap(builder, table);
    const at = table.find(VIP, TCP, 80);
    expect(table.flags(at)).toBe(FRONTEND_CLUSTER_IP);
    expect(table.affinitySeconds(at)).toBe(10800);
    expect(table.affinityKey(at)).toBe(-9);
    expect(table.service(at)).toBe(7);
    expect(table.insideRing(at)).toBe(ring);
    expect(table.outsideRing(at)).toBe(RING_DROP);
    expect(table.service(table.find(VIP, UDP, 80))).toBe(8);
    expect(table.insideRing(table.find(VIP, UDP, 80))).toBe(RING_REJECT);
    expect(table.flags(table.findNodePort(TCP, 30080))).toBe(FRONTEND_NODE_PORT);
    expect(table.findNodePort(UDP, 30080)).toBe(-1);
    expect(table.find(VIP, TCP, 81)).toBe(-1);
    expect(table.isServiceAddress(VIP)).toBe(true);
    expect(table.isServiceAddress((VIP + 1) | 0)).toBe(false);
    expect(table.isServiceAddress(0)).toBe(false);
    expect(table.size).toBe(3);
  });

  it("knows at which UDP ports there are endpoints", () => {
    const builder = new ServiceTableBuilder();
    const table = new ServiceTable();
    const used = () =>
      [0, 31, 32, 53, 5353, 32_768, 65_535].filter((l4Port) => table.isUdpEndpointPort(l4Port));
    expect(used()).toEqual([]);
    for (const l4Port of [32, 53, 65_535]) builder.setUdpPort(l4Port, true);
    swap(builder, table);
    expect(used()).toEqual([32, 53, 65_535]);
    const { generation } = builder.commit();
    builder.setUdpPort(53, true);
    builder.setUdpPort(54, false);
    expect(builder.commit().generation).toBe(generation);
    builder.setUdpPort(32, false);
    builder.setUdpPort(65_535, false);
    builder.setUdpPort(32_768, true);
    swap(builder, table);
    expect(used()).toEqual([53, 32_768]);
  });

  it("finds a backend of a ring by address and port, in unsigned order", () => {
    const builder = new ServiceTableBuilder();
    const table = new ServiceTable();
    const places: [string, number][] = [
      ["10.1.0.1", 80],
      ["10.1.0.1", 443],
      ["127.255.255.250", 80],
      ["128.0.0.0", 80],
      ["198.51.100.7", 79],
    ];
    const words = places.flatMap(([at, l4Port], n) => [address(at), l4Port, 0, n]);
    builder.setFrontend(VIP, TCP, 80, row({ inside: builder.acquireRing(Int32Array.from(words)) }));
    swap(builder, table);
    const ring = table.insideRing(table.find(VIP, TCP, 80));
    places.forEach(([at, l4Port], n) => {
      expect(table.backendId(table.memberAt(ring, address(at), l4Port))).toBe(n);
      expect(table.memberAt(ring, address(at), l4Port + 1)).toBe(-1);
      expect(table.memberAt(ring, address(at) - 1, l4Port)).toBe(-1);
    });
  });

  it("picks each backend, with its words, and goes on to the next slot", () => {
    const builder = new ServiceTableBuilder();
    const table = new ServiceTable();
    const words = backends(1, 2, 3);
    words[BACKEND_WORDS + 2] = BACKEND_LOCAL;
    const ring = builder.acquireRing(words);
    swap(builder, table);
    expect(table.slots(ring)).toBe(1021);
    const found = new Map<number, number>();
    for (let slot = table.next(ring, 1020), i = 0; i < 1021; i++, slot = table.next(ring, slot)) {
      expect(slot).toBe(i);
      const backend = table.pick(ring, slot);
      found.set(backend, (found.get(backend) ?? 0) + 1);
    }
    expect([...found.keys()].sort((a, b) => a - b)).toEqual([0, 1, 2].map((i) => table.member(ring, i)));
    for (const slots of found.values()) expect(slots).toBeGreaterThanOrEqual(340);
    const second = table.member(ring, 1);
    expect(table.address(second)).toBe(address("10.1.0.2"));
    expect(table.l4Port(second)).toBe(80);
    expect(table.backendFlags(second)).toBe(BACKEND_LOCAL);
    expect(table.backendId(second)).toBe(1002);
    expect(table.slot(ring, ringHash(1, 2, 3))).toBe(ringHash(1, 2, 3) % 1021);
  });

  it.each([1, 2, 256, 257, 1000])("every one of %i backends has slots", (count) => {
    const builder = new ServiceTableBuilder();
    const table = new ServiceTable();
    const ring = builder.acquireRing(backends(...Array.from({ length: count }, (_, i) => i)));
    swap(builder, table);
    const ids = new Set<number>();
    for (let slot = 0; slot < table.slots(ring); slot++) ids.add(table.backendId(table.pick(ring, slot)));
    expect(ids).toEqual(new Set(members(table, ring)));
    expect(ids.size).toBe(count);
  });

  it("equal sets have one ring, as long as anybody uses it", () => {
    const builder = new ServiceTableBuilder();
    const ring = builder.acquireRing(backends(1, 2));
    expect(builder.acquireRing(backends(1, 2))).toBe(ring);
    expect(builder.acquireRing(backends(1, 3))).not.toBe(ring);
    builder.release(ring);
    builder.release(ring);
    // Not gone before the next image.
    expect(builder.acquireRing(backends(1, 2))).toBe(ring);
    expect(() => builder.acquireRing(new Int32Array(0))).toThrow(RangeError);
    expect(() => builder.acquireRing(new Int32Array((MAX_BACKENDS + 1) * BACKEND_WORDS))).toThrow(RangeError);
  });

  it("lets in whom the source ranges name", () => {
    const builder = new ServiceTableBuilder();
    const table = new ServiceTable();
    const ranges = builder.acquireRanges(
      Int32Array.of(address("192.0.2.0"), -256, address("203.0.113.9"), -1),
    );
    builder.setFrontend(VIP, TCP, 80, row({ ranges }));
    builder.setFrontend(VIP, TCP, 81, row());
    swap(builder, table);
    const at = table.find(VIP, TCP, 80);
    const accepted = ["192.0.2.1", "192.0.2.255", "203.0.113.9"];
    for (const source of accepted) expect(table.accepts(at, address(source))).toBe(true);
    for (const source of ["192.0.3.1", "203.0.113.8"]) expect(table.accepts(at, address(source))).toBe(false);
    expect(table.accepts(table.find(VIP, TCP, 81), address("192.0.3.1"))).toBe(true);
  });

  it("an image that was not acknowledged stays readable", () => {
    const builder = new ServiceTableBuilder();
    const [old, current] = [new ServiceTable(), new ServiceTable()];
    let ring = builder.acquireRing(backends(1, 2));
    builder.setFrontend(VIP, TCP, 80, row({ inside: ring }));
    const first = builder.commit();
    old.adopt(first);
    for (let host = 3; host < 40; host++) {
      builder.release(ring);
      ring = builder.acquireRing(backends(1, host));
      builder.setFrontend(VIP, TCP, 80, row({ inside: ring }));
      current.adopt(builder.commit());
      expect(members(current, current.insideRing(current.find(VIP, TCP, 80)))).toEqual([1001, 1000 + host]);
      expect(members(old, old.insideRing(old.find(VIP, TCP, 80)))).toEqual([1001, 1002]);
    }
    builder.acknowledge(first);
    expect(members(old, old.insideRing(old.find(VIP, TCP, 80)))).toEqual([1001, 1002]);
  });

  it("no change, no new image", () => {
    const builder = new ServiceTableBuilder();
    builder.setFrontend(VIP, TCP, 80, row());
    const image = builder.commit();
    expect(builder.commit()).toEqual(image);
  });

  it("refuses a buffer of something else", () => {
    const image = { chunks: [new SharedArrayBuffer(4096)], root: 1, generation: 1 };
    expect(() => new ServiceTable().adopt(image)).toThrow(RangeError);
    expect(() => new ServiceTable().adopt({ ...image, chunks: [] })).toThrow(RangeError);
  });

  it.each([1, 2, 3])("seed %i: random changes, against a plain map", (seed) => {
    const random = new Random(seed);
    const builder = new ServiceTableBuilder();
    const table = new ServiceTable();
    const model = new Map<string, { row: FrontendRow; hosts: number[] }>();
    const key = () => [random.below(60), random.pick([TCP, UDP]), 1 + random.below(6)] as const;
    for (let round = 0; round < 80; round++) {
      for (let i = random.below(20); i >= 0; i--) {
        const [host, protocol, port] = key();
        const where = host === 0 ? 0 : (VIP + host) | 0;
        const name = `${where} ${protocol} ${port}`;
        const old = model.get(name);
        if (old !== undefined) builder.release(old.row.inside);
        if (old !== undefined && random.oneIn(3)) {
          builder.removeFrontend(where, protocol, port);
          model.delete(name);
          continue;
        }
        const hosts = [...new Set(Array.from({ length: 1 + random.below(4) }, () => random.below(30)))].sort(
          (a, b) => a - b,
        );
        const made = row({ inside: builder.acquireRing(backends(...hosts)), service: random.below(1000) });
        builder.setFrontend(where, protocol, port, made);
        model.set(name, { row: made, hosts });
      }
      if (random.oneIn(3)) table.adopt(builder.commit());
      else swap(builder, table);
      expect(table.size).toBe(model.size);
      for (let host = 0; host < 60; host++) {
        const where = host === 0 ? 0 : (VIP + host) | 0;
        let any = false;
        for (const protocol of [TCP, UDP])
          for (let port = 1; port <= 6; port++) {
            const wanted = model.get(`${where} ${protocol} ${port}`);
            const at = table.find(where, protocol, port);
            expect(at >= 0).toBe(wanted !== undefined);
            if (wanted === undefined) continue;
            any = true;
            expect(table.service(at)).toBe(wanted.row.service);
            expect(members(table, table.insideRing(at))).toEqual(wanted.hosts.map((each) => 1000 + each));
          }
        expect(table.isServiceAddress(where)).toBe(any && where !== 0);
      }
    }
    for (const [name, { row: made }] of model) {
      const [where, protocol, port] = name.split(" ").map(Number) as [number, number, number];
      builder.removeFrontend(where, protocol, port);
      builder.release(made.inside);
    }
    swap(builder, table);
    // A root with 8 KiB of ports, and nothing else.
    expect(builder.memory.used).toBeLessThan(2 * 8192);
    expect(builder.memory.reserved).toBe(4 << 20);
  });
});

describe("SegmentArena", () => {
  it("segments do not overlap, are used again, and memory stays bounded", () => {
    const random = new Random(5);
    const arena = new SegmentArena();
    const held = new Map<number, number>();
    let most = 0;
    for (let i = 0; i < 20_000; i++) {
      if (held.size > 200 || (held.size > 0 && random.oneIn(3))) {
        const segment = random.pick([...held.keys()]);
        const length = held.get(segment)!;
        const words = arena.words[segment >>> 20]!.subarray(segment & 0xfffff, (segment & 0xfffff) + length);
        expect(words.every((word) => word === segment)).toBe(true);
        held.delete(segment);
        arena.free(segment);
      } else {
        const length = random.oneIn(20) ? 1 + random.below(60_000) : 1 + random.below(400);
        const segment = arena.allocate(length);
        arena.words[segment >>> 20]!.fill(segment, segment & 0xfffff, (segment & 0xfffff) + length);
        held.set(segment, length);
      }
      most = Math.max(most, arena.memory.used);
    }
    expect(arena.memory.reserved).toBeLessThan(2 * most + (4 << 20));
    for (const segment of held.keys()) arena.free(segment);
    expect(arena.memory.used).toBe(0);
    expect(() => arena.allocate(1 << 20)).toThrow(RangeError);
  });
});
