/** Service tables for tests of the dataplane, from a few words. */
import {
  BACKEND_LOCAL,
  BACKEND_OUTSIDE_POOL,
  FRONTEND_CLUSTER_IP,
  FRONTEND_LOAD_BALANCER,
  FRONTEND_NODE_PORT,
  RING_DROP,
  RING_REJECT,
  type ServiceImage,
  ServiceTableBuilder,
} from "../../src/tables/ServiceTable.js";
import { address, UDP } from "./frames.js";

export type TestRing = TestBackend[] | "reject" | "drop";

export interface TestBackend {
  address: string;
  l4Port: number;
  local?: boolean;
  outside?: boolean;
}

export interface TestFrontend {
  kind: "clusterIp" | "nodePort" | "loadBalancer";
  /** Left out for a node port. */
  address?: string;
  protocol: number;
  l4Port: number;
  inside: TestRing;
  /** Default: as inside. */
  outside?: TestRing;
  affinitySeconds?: number;
  /** Source ranges, as address and mask. */
  ranges?: [string, number][];
}

const KIND = {
  clusterIp: FRONTEND_CLUSTER_IP,
  nodePort: FRONTEND_NODE_PORT,
  loadBalancer: FRONTEND_LOAD_BALANCER,
};

/** The image of these frontends; the n-th has service number n + 1. A node adopts images of one builder. */
export function serviceImage(
  frontends: readonly TestFrontend[],
  builder = new ServiceTableBuilder(),
): ServiceImage {
  const ids = new Map<string, number>();
  const ring = (backends: TestRing): number => {
    if (backends === "reject") return RING_REJECT;
    if (backends === "drop") return RING_DROP;
    const rows = backends.map((b) => {
      const key = `${b.address}:${b.l4Port}`;
      if (!ids.has(key)) ids.set(key, 100 + ids.size);
      const flags = (b.local ? BACKEND_LOCAL : 0) | (b.outside ? BACKEND_OUTSIDE_POOL : 0);
      return [address(b.address), b.l4Port, flags, ids.get(key)!];
    });
    rows.sort((a, b) => (a[0]! >>> 0) - (b[0]! >>> 0) || a[1]! - b[1]!);
    return builder.acquireRing(Int32Array.from(rows.flat()));
  };
  frontends.forEach((f, n) => {
    const inside = ring(f.inside);
    if (f.protocol === UDP && Array.isArray(f.inside))
      for (const { l4Port } of f.inside) builder.setUdpPort(l4Port, true);
    const ranges = f.ranges?.flatMap(([at, mask]) => [address(at), mask]) ?? [];
    builder.setFrontend(f.address === undefined ? 0 : address(f.address), f.protocol, f.l4Port, {
      flags: KIND[f.kind],
      affinitySeconds: f.affinitySeconds ?? 0,
      affinityKey: n + 1,
      inside,
      outside: ring(f.outside ?? f.inside),
      ranges: ranges.length === 0 ? 0 : builder.acquireRanges(Int32Array.from(ranges)),
      service: n + 1,
    });
  });
  return builder.commit();
}
