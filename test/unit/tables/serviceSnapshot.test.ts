/** A service image sent elsewhere says the same there; what is no snapshot is refused. */
import { describe, expect, test } from "vitest";
import { ringHash } from "../../../src/tables/MaglevRing.js";
import {
  FRONTEND_CLUSTER_IP,
  RING_DROP,
  RING_REJECT,
  type ServiceImage,
  ServiceTable,
  ServiceTableBuilder,
} from "../../../src/tables/ServiceTable.js";
import { BACKEND_WORDS } from "../../../src/tables/serviceLayout.js";
import { frontendsOf, restoreServices, snapshotServices } from "../../../src/tables/serviceSnapshot.js";
import { address } from "../../support/frames.js";
import { Random } from "../../support/random.js";

function tableOf(image: ServiceImage): ServiceTable {
  const table = new ServiceTable();
  table.adopt(image);
  return table;
}

/** Everything that a table answers about one key and some clients. */
function answers(table: ServiceTable, at: number, protocol: number, l4Port: number): unknown {
  const row = table.find(at, protocol, l4Port);
  if (row < 0) return null;
  const rings = [table.insideRing(row), table.outsideRing(row)];
  return {
    service: table.service(row),
    affinity: table.affinitySeconds(row),
    is: table.isServiceAddress(at),
    accepts: [address("192.0.2.1"), address("198.51.100.1")].map((source) => table.accepts(row, source)),
    picked: rings.map((ring) => {
      if (ring < 0) return ring;
      return Array.from({ length: 20 }, (_, i) => {
        const backend = table.pick(ring, table.slot(ring, ringHash(i * 77, 1000 + i, protocol)));
        return [
          table.address(backend),
          table.l4Port(backend),
          table.backendFlags(backend),
          table.backendId(backend),
        ];
      });
    }),
  };
}

describe("snapshotServices", () => {
  test("keeps every answer, after many changes in one arena, and nothing else", () => {
    const random = new Random(20);
    const builder = new ServiceTableBuilder();
    const keys = new Map<string, [number, number, number]>();
    let image = builder.commit();
    for (let round = 0; round < 60; round++) {
      for (let n = 0; n < 8; n++) {
        const at = random.oneIn(5) ? 0 : (address("10.152.183.0") + random.below(40)) | 0;
        const key: [number, number, number] = [at, random.pick([6, 17]), random.between(1, 5)];
        if (random.oneIn(4) && keys.delete(key.join())) {
          builder.removeFrontend(...key);
          continue;
        }
        const ring = () => {
          if (random.oneIn(6)) return random.pick([RING_REJECT, RING_DROP]);
          const count = random.oneIn(15) ? 300 : random.between(1, 12);
          const first = random.below(1000);
          const words = Array.from({ length: count }, (_, i) => [
            (address("10.1.0.0") + first + i) | 0,
            80,
            i & 3,
            first + i,
          ]);
          return builder.acquireRing(Int32Array.from(words.flat()));
        };
        builder.setFrontend(...key, {
          flags: FRONTEND_CLUSTER_IP,
          affinitySeconds: random.pick([0, 10_800]),
          affinityKey: random.below(1 << 30),
          inside: ring(),
          outside: ring(),
          ranges: random.oneIn(3) ? builder.acquireRanges(Int32Array.of(address("192.0.2.0"), -256)) : 0,
          service: n + 1,
        });
        keys.set(key.join(), key);
      }
      image = builder.commit();
      builder.acknowledge(image);
    }
    const words = snapshotServices(image);
    const here = tableOf(image);
    const there = tableOf(restoreServices(words.slice()));
    expect(there.size).toBe(here.size);
    expect(there.generation).toBe(here.generation);
    for (const key of keys.values()) {
      expect(answers(here, ...key)).not.toBeNull();
      expect(answers(there, ...key)).toEqual(answers(here, ...key));
    }
    expect(words.byteLength).toBeLessThanOrEqual(builder.memory.used);
    expect(BACKEND_WORDS).toBe(4);
    const listed = frontendsOf(image).map(({ address: at, protocol, l4Port }) =>
      [at, protocol, l4Port].join(),
    );
    expect(listed.sort()).toEqual([...keys.keys()].sort());
  });

  test("of an empty table is one of an empty table", () => {
    const image = new ServiceTableBuilder().commit();
    expect(tableOf(restoreServices(snapshotServices(image))).size).toBe(0);
    expect(frontendsOf(image)).toEqual([]);
  });

  test("is refused where it was cut, or is none", () => {
    const builder = new ServiceTableBuilder();
    const words = snapshotServices(builder.commit());
    expect(() => restoreServices(words.subarray(0, words.length - 1))).toThrow(RangeError);
    expect(() => restoreServices(new Int32Array(8))).toThrow(RangeError);
    expect(() => restoreServices(Int32Array.of(words[0]!, words[1]!))).toThrow(RangeError);
  });
});
