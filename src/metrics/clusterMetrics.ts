/**
 * What the cluster's side tells Prometheus, by the names of the systems in our place: MetalLB's
 * controller (load-balancer addresses by pool) and Calico's kube-controllers (pods' addresses), the
 * latter's of now and, with _per_node, of before 3.24. All are read when they are asked for.
 */
import type { Registry } from "prom-client";
import { containsPrefix, sizeOf } from "../ipam/blockMath.js";
import type { Pool } from "../ipam/pools.js";
import { Store } from "../ipam/Store.js";
import type { KubeApi } from "../kube/KubeApi.js";
import { readCounter, readGauge, type Sample } from "./read.js";

/** Addresses of a pool of load-balancer addresses. */
export interface PoolUsage {
  pool: string;
  /** That Services have, and that are left. */
  assigned: number;
  available: number;
}

/** What the collector of lost addresses has done. */
export interface CollectorCounts {
  /** Seen without owner in its last round; they are looked at again. */
  suspected: number;
  /** Freed since it started. */
  released: number;
}

/** Calico's name for the pool of a block that lies in none. */
const NO_POOL = "no_ippool";

/** Registers MetalLB's names. `usage` is empty where no configuration holds, or another instance leads. */
export function registerLoadBalancer(register: Registry, usage: () => readonly PoolUsage[]): void {
  const samples = (read: (pool: PoolUsage) => number) => () =>
    usage().map((each) => ({ labels: { pool: each.pool }, value: read(each) }));
  readGauge(
    register,
    { name: "metallb_allocator_addresses_in_use_total", help: "Load-balancer addresses in use, by pool." },
    samples(({ assigned }) => assigned),
  );
  readGauge(
    register,
    { name: "metallb_allocator_addresses_total", help: "Usable load-balancer addresses, by pool." },
    samples(({ assigned, available }) => assigned + available),
  );
}

/** Registers Calico's names. Pools and blocks are listed once for a scrape. */
export function registerIpam(register: Registry, kube: KubeApi, collector: () => CollectorCounts): void {
  const store = new Store(kube);
  let reading: Promise<Ipam> | null = null;
  const read = (): Promise<Ipam> => {
    reading ??= readIpam(store).finally(() => {
      reading = null;
    });
    return reading;
  };
  const gauge = (name: string, help: string, sum: (ipam: Ipam) => Sample[]) =>
    readGauge(register, { name, help }, async () => sum(await read()));
  const kinds = [
    [
      "allocations_in_use",
      "allocations_per_node",
      "Addresses in use, by the node that has them.",
      "allocations",
    ],
    [
      "allocations_borrowed",
      "allocations_borrowed_per_node",
      "Of these, the ones in another node's block.",
      "borrowed",
    ],
    ["blocks", "blocks_per_node", "Blocks, by the node that has them.", "blocks"],
  ] as const;
  for (const [name, perNode, help, field] of kinds) {
    gauge(`ipam_${name}`, help, ({ usage }) =>
      usage.map(({ ippool, node, ...counts }) => ({ labels: { ippool, node }, value: counts[field] })),
    );
    gauge(`ipam_${perNode}`, `${help} Over all pools.`, ({ usage }) => {
      const nodes = new Map<string, number>();
      for (const each of usage) nodes.set(each.node, (nodes.get(each.node) ?? 0) + each[field]);
      return [...nodes].map(([node, value]) => ({ labels: { node }, value }));
    });
  }
  gauge("ipam_ippool_size", "Addresses of a pool.", ({ pools }) =>
    pools.map(({ name, prefix }) => ({ labels: { ippool: name }, value: sizeOf(prefix) })),
  );
  readGauge(
    register,
    {
      name: "ipam_allocations_gc_candidates",
      help: "Addresses and blocks without owner that are looked at again before they are taken back.",
    },
    () => collector().suspected,
  );
  readCounter(
    register,
    { name: "ipam_allocations_gc_reclamations", help: "Addresses without owner that were taken back." },
    () => collector().released,
  );
}

interface Usage {
  ippool: string;
  node: string;
  allocations: number;
  borrowed: number;
  blocks: number;
}

interface Ipam {
  pools: Pool[];
  usage: Usage[];
}

async function readIpam(store: Store): Promise<Ipam> {
  const [pools, blocks] = await Promise.all([store.pools(), store.blocks()]);
  const found = new Map<string, Usage>();
  const of = (ippool: string, node: string): Usage => {
    const key = `${ippool} ${node}`;
    const known = found.get(key) ?? { ippool, node, allocations: 0, borrowed: 0, blocks: 0 };
    found.set(key, known);
    return known;
  };
  for (const { block } of blocks) {
    const pool = pools.find(({ prefix }) => containsPrefix(prefix, block.prefix))?.name ?? NO_POOL;
    of(pool, block.node).blocks++;
    for (const { attributes } of block.allocations) {
      const node = attributes.node ?? block.node;
      const usage = of(pool, node);
      usage.allocations++;
      if (node !== block.node) usage.borrowed++;
    }
  }
  return { pools, usage: [...found.values()] };
}
