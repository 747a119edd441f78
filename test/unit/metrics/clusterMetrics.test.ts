/** What the cluster's side tells Prometheus, from objects of a FakeKube. */
import { Registry } from "prom-client";
import { expect, test } from "vitest";
import type { IPAMBlock, IPPool } from "../../../src/ipam/types.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { IPAMBLOCKS, IPPOOLS } from "../../../src/kube/resources.js";
import { registerIpam, registerLoadBalancer } from "../../../src/metrics/clusterMetrics.js";

const lines = async (registry: Registry) =>
  (await registry.metrics()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));

async function block(kube: FakeKube, cidr: string, node: string, owners: string[]): Promise<void> {
  await kube.create<IPAMBlock>(IPAMBLOCKS, {
    metadata: { name: cidr.replace(/[./]/g, "-") },
    spec: {
      cidr,
      node,
      allocations: owners.map((owner, ordinal) => ({
        ordinal,
        handle: `${owner}-${ordinal}`,
        sequence: ordinal,
        attributes: { node: owner },
      })),
    },
  });
}

test("pods' addresses: by pool and node, borrowed ones by who has them", async () => {
  const kube = new FakeKube();
  await kube.create<IPPool>(IPPOOLS, { metadata: { name: "default" }, spec: { cidr: "10.1.0.0/16" } });
  await kube.create<IPPool>(IPPOOLS, { metadata: { name: "other" }, spec: { cidr: "10.2.0.0/24" } });
  await block(kube, "10.1.0.0/26", "a", ["a", "a", "b"]);
  await block(kube, "10.1.0.64/26", "b", ["b"]);
  await block(kube, "10.2.0.0/26", "a", ["a"]);
  await block(kube, "10.9.0.0/26", "a", []);
  const registry = new Registry();
  registerIpam(registry, kube, () => ({ suspected: 2, released: 7 }));
  const text = await lines(registry);
  for (const line of [
    'ipam_allocations_in_use{ippool="default",node="a"} 2',
    'ipam_allocations_in_use{ippool="default",node="b"} 2',
    'ipam_allocations_in_use{ippool="other",node="a"} 1',
    'ipam_allocations_borrowed{ippool="default",node="a"} 0',
    'ipam_allocations_borrowed{ippool="default",node="b"} 1',
    'ipam_blocks{ippool="default",node="a"} 1',
    'ipam_blocks{ippool="default",node="b"} 1',
    'ipam_blocks{ippool="no_ippool",node="a"} 1',
    'ipam_allocations_per_node{node="a"} 3',
    'ipam_allocations_per_node{node="b"} 2',
    'ipam_allocations_borrowed_per_node{node="b"} 1',
    'ipam_blocks_per_node{node="a"} 3',
    'ipam_blocks_per_node{node="b"} 1',
    'ipam_ippool_size{ippool="default"} 65536',
    'ipam_ippool_size{ippool="other"} 256',
    "ipam_allocations_gc_candidates 2",
    "ipam_allocations_gc_reclamations 7",
  ])
    expect(text).toContain(line);
});

test("load-balancer addresses, by pool", async () => {
  const registry = new Registry();
  registerLoadBalancer(registry, () => [{ pool: "default-addresspool", assigned: 3, available: 2 }]);
  expect(await lines(registry)).toEqual([
    'metallb_allocator_addresses_in_use_total{pool="default-addresspool"} 3',
    'metallb_allocator_addresses_total{pool="default-addresspool"} 5',
  ]);
});
