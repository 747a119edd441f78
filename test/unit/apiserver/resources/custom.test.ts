import { describe, expect, test } from "vitest";
import { findResource, RESOURCES } from "../../../../src/apiserver/resources/index.js";
import { ipamBlocks, ipPools } from "../../../../src/apiserver/resources/ipam.js";
import { ipAddressPools, l2Advertisements } from "../../../../src/apiserver/resources/metallb.js";
import { RESOURCES as CLIENT_RESOURCES } from "../../../../src/kube/resources.js";
import { cells, created, faults, headers, NOW, refused, updated } from "./support.js";

test("the server knows every kind that the client works with", () => {
  for (const { group, plural, kind, version, namespaced } of CLIENT_RESOURCES) {
    expect(findResource(group, plural), plural).toMatchObject({ kind, version, namespaced });
  }
});

test("every definition has as many cells as columns", () => {
  for (const definition of RESOURCES) {
    const row = definition.row({ metadata: { name: "x" } }, NOW);
    expect(row, definition.kind).toHaveLength(definition.columns.length);
  }
});

test("no two kinds share a name that kubectl accepts", () => {
  // Another version of a kind shares its names; kubectl takes the first.
  const names = RESOURCES.filter(({ stored }) => stored === undefined).flatMap((r) => [
    ...new Set([r.plural, r.singular]),
    ...r.shortNames,
  ]);
  expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
});

describe("IPPool", () => {
  test("defaults and table", () => {
    const pool = created(ipPools, { metadata: { name: "default" }, spec: { cidr: "10.1.0.0/16" } });
    expect(pool.spec).toEqual({ cidr: "10.1.0.0/16", blockSize: 26, disabled: false });
    expect(created(ipPools, { metadata: { name: "v6" }, spec: { cidr: "fd00::/48" } }).spec.blockSize).toBe(
      122,
    );
    expect(headers(ipPools)).toEqual(["NAME", "CIDR", "BLOCK SIZE", "DISABLED", "AGE"]);
    expect(cells(ipPools, pool)).toEqual(["default", "10.1.0.0/16", 26, false, "5m"]);
  });

  test("faults", () => {
    const pool = (spec: object) => refused(ipPools, { metadata: { name: "p" }, spec });
    expect(pool({})).toEqual(["spec.cidr: Required value"]);
    expect(pool({ cidr: "10.1.0.0" })).toEqual([
      'spec.cidr: Invalid value: "10.1.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
    ]);
    expect(pool({ cidr: "10.1.0.0/16", blockSize: 12 })).toEqual([
      "spec.blockSize: Invalid value: 12: must be between 20 and 32, inclusive",
    ]);
    expect(pool({ cidr: "10.1.0.0/24", blockSize: 23 })).toEqual([
      "spec.blockSize: Invalid value: 23: must be between the prefix length of the pool (24) and 32, inclusive",
    ]);
    expect(pool({ cidr: "fd00::/48", blockSize: 64 })).toEqual([
      "spec.blockSize: Invalid value: 64: must be between 116 and 128, inclusive",
    ]);
    expect(pool({ cidr: "10.1.0.0/16", reservedRanges: ["10.1.0.1-10.1.0.9", "x"] })).toEqual([
      'spec.reservedRanges[1]: Invalid value: "x": must be a CIDR or a range FIRST-LAST',
    ]);
    const old = created(ipPools, { metadata: { name: "p" }, spec: { cidr: "10.1.0.0/16" } });
    const moved = updated(ipPools, old, (object) => {
      object.spec.cidr = "10.2.0.0/16";
    });
    expect(faults(ipPools, moved, old)).toEqual([
      'spec.cidr: Invalid value: "10.2.0.0/16": field is immutable',
    ]);
  });
});

describe("IPAMBlock", () => {
  const block = {
    metadata: { name: "10-1-235-192-26" },
    spec: { cidr: "10.1.235.192/26", node: "k8s-master", affinityState: "confirmed" },
  };

  test("the walkthrough's pinned block", () => {
    expect(refused(ipamBlocks, block)).toEqual([]);
    expect(cells(ipamBlocks, created(ipamBlocks, block))).toEqual([
      "10-1-235-192-26",
      "10.1.235.192/26",
      "k8s-master",
      "confirmed",
      0,
      "5m",
    ]);
  });

  test("an address cannot have two owners", () => {
    const allocations = [
      { ordinal: 1, handle: "a" },
      { ordinal: 1, handle: "b" },
      { ordinal: 64, handle: "c" },
    ];
    expect(refused(ipamBlocks, { ...block, spec: { ...block.spec, allocations, unallocated: [1] } })).toEqual(
      [
        "spec.allocations[1].ordinal: Duplicate value: 1",
        "spec.allocations[2].ordinal: Invalid value: 64: must be between 0 and 63, inclusive",
        "spec.unallocated[0]: Duplicate value: 1",
      ],
    );
  });

  test("its name says its range", () => {
    expect(refused(ipamBlocks, { ...block, metadata: { name: "mine" } })).toEqual([
      'metadata.name: Invalid value: "mine": must be "10-1-235-192-26" for 10.1.235.192/26',
    ]);
  });
});

describe("MetalLB", () => {
  test("IPAddressPool", () => {
    const pool = {
      metadata: { name: "default-addresspool", namespace: "metallb-system" },
      spec: { addresses: ["192.168.2.36-192.168.2.40"] },
    };
    expect(refused(ipAddressPools, pool)).toEqual([]);
    expect(headers(ipAddressPools)).toEqual(["NAME", "AUTO ASSIGN", "AVOID BUGGY IPS", "ADDRESSES"]);
    expect(cells(ipAddressPools, created(ipAddressPools, pool))).toEqual([
      "default-addresspool",
      true,
      false,
      '["192.168.2.36-192.168.2.40"]',
    ]);
    expect(
      refused(ipAddressPools, { metadata: { name: "p" }, spec: { addresses: ["192.168.2.36"] } }),
    ).toEqual(['spec.addresses[0]: Invalid value: "192.168.2.36": invalid CIDR "192.168.2.36"']);
  });

  test("L2Advertisement without a spec", () => {
    const advertisement = created(l2Advertisements, { metadata: { name: "default-advertise-all-pools" } });
    expect(faults(l2Advertisements, advertisement)).toEqual([]);
    expect(cells(l2Advertisements, advertisement)).toEqual(["default-advertise-all-pools", "", "", ""]);
  });
});
