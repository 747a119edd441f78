/** The CRDs accept what this program writes, and nothing that it does not know. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { assign, claimedBlock, writeBlock } from "../../../src/ipam/block.js";
import { prefixOf } from "../../../src/ipam/blockMath.js";
import { IPAM_API_VERSION, type IPPool } from "../../../src/ipam/types.js";
import { IPAMBLOCKS, IPPOOLS } from "../../../src/kube/resources.js";

interface Schema {
  type: string;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema;
  items?: Schema;
  enum?: unknown[];
  required?: string[];
  pattern?: string;
}

interface Definition {
  metadata: { name: string };
  spec: {
    group: string;
    scope: string;
    names: { kind: string; plural: string };
    versions: { name: string; schema: { openAPIV3Schema: Schema } }[];
  };
}

function definition(plural: string): Definition {
  const file = new URL(`../../../manifests/crd/${plural}.podwire.dev.yaml`, import.meta.url);
  return parse(readFileSync(file, "utf8")) as Definition;
}

/** Faults of a value under a schema; as much of JSON Schema as the manifests use. */
function faults(schema: Schema, value: unknown, path: string): string[] {
  const is = Array.isArray(value) ? "array" : Number.isInteger(value) ? "integer" : typeof value;
  if (is !== schema.type) return [`${path} is ${is}`];
  if (schema.enum && !schema.enum.includes(value)) return [`${path} is ${value}`];
  if (schema.pattern && !new RegExp(schema.pattern).test(String(value))) return [`${path} is ${value}`];
  if (Array.isArray(value)) return value.flatMap((each, i) => faults(schema.items!, each, `${path}[${i}]`));
  if (is !== "object" || path === ".metadata") return [];
  const object = value as Record<string, unknown>;
  return [
    ...(schema.required ?? [])
      .filter((key) => object[key] === undefined)
      .map((key) => `${path}.${key} is missing`),
    ...Object.entries(object).flatMap(([key, each]) => {
      const inner = schema.properties?.[key] ?? schema.additionalProperties;
      return inner === undefined ? [`${path}.${key} is unknown`] : faults(inner, each, `${path}.${key}`);
    }),
  ];
}

test.each([IPPOOLS, IPAMBLOCKS])("names of $kind", ({ plural, kind, group, version, namespaced }) => {
  const { metadata, spec } = definition(plural);
  expect(metadata.name).toBe(`${plural}.${group}`);
  expect(spec).toMatchObject({
    group,
    scope: namespaced ? "Namespaced" : "Cluster",
    names: { kind, plural },
  });
  expect(`${group}/${version}`).toBe(IPAM_API_VERSION);
  expect(spec.versions.map(({ name }) => name)).toEqual([version]);
});

test("a block as it is written", () => {
  const { openAPIV3Schema } = definition("ipamblocks").spec.versions[0]!.schema;
  const attributes = { pod: "x", namespace: "default", uid: "1", node: "a" };
  const claimed = { ...claimedBlock(prefixOf("10.1.0.0/29"), "b", true, 1_700_000_000_000), pinned: true };
  const { block } = assign(claimed, { handle: "1", attributes, now: 1_700_000_000_000 })!;
  expect(faults(openAPIV3Schema, writeBlock(block), "")).toEqual([]);
});

test("a pool with everything", () => {
  const { openAPIV3Schema } = definition("ippools").spec.versions[0]!.schema;
  const pool: IPPool = {
    metadata: { name: "default" },
    spec: {
      cidr: "10.1.0.0/16",
      blockSize: 26,
      nodeSelector: {
        matchLabels: { rack: "1" },
        matchExpressions: [{ key: "a", operator: "In", values: ["b"] }],
      },
      disabled: false,
      reservedRanges: ["10.1.0.0/28", "10.1.1.1-10.1.1.9"],
      strictAffinity: true,
    },
  };
  expect(faults(openAPIV3Schema, pool, "")).toEqual([]);
});
