/** The kinds that the embedded server serves are those that the manifests install on another one. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { CUSTOM_SCHEMAS } from "../../../../src/apiserver/openapi/customSchemas.js";
import type { Schema } from "../../../../src/apiserver/openapi/schema.js";
import { findResource } from "../../../../src/apiserver/resources/index.js";

/** Paths of all fields below a schema: "spec.allocations.handle integer". */
function fields(schema: Schema, path: string): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
    const at = `${path}.${name}`;
    const inner = property.items ?? property;
    // A label selector is a reference here, spelt out there.
    if (inner.allOf || inner.properties?.matchLabels) return [`${at} selector`];
    return [`${at} ${property.type}`, ...fields(inner, at)];
  });
}

describe.each([
  ["ippools", "IPPool"],
  ["ipamblocks", "IPAMBlock"],
])("%s", (plural, kind) => {
  const file = new URL(`../../../../manifests/crd/${plural}.podwire.dev.yaml`, import.meta.url);
  const { spec } = parse(readFileSync(file, "utf8"));
  const definition = findResource("podwire.dev", plural)!;

  test("names", () => {
    expect(definition).toMatchObject({ kind, singular: spec.names.singular, listKind: spec.names.listKind });
    expect(definition.shortNames).toEqual(spec.names.shortNames);
    expect(definition.categories).toEqual(spec.names.categories);
    expect(definition.namespaced).toBe(spec.scope === "Namespaced");
  });

  test("fields", () => {
    const installed = spec.versions[0].schema.openAPIV3Schema.properties.spec;
    const served = CUSTOM_SCHEMAS[`dev.podwire.v1alpha1.${kind}`]!.properties!.spec!;
    expect(fields(served, "spec").sort()).toEqual(fields(installed, "spec").sort());
    expect(served.required).toEqual(installed.required);
  });
});

test("MetalLB's kinds have the names, the status and the columns that they have here", () => {
  const file = new URL("../../../../manifests/metallb/crd.yaml", import.meta.url);
  const kinds = parseAllDocuments(readFileSync(file, "utf8")).map((each) => each.toJS());
  expect(kinds.map(({ metadata }) => metadata.name)).toEqual([
    "ipaddresspools.metallb.io",
    "l2advertisements.metallb.io",
  ]);
  for (const { spec } of kinds) {
    const [version] = spec.versions;
    const { columns, ...definition } = findResource(spec.group, spec.names.plural)!;
    const { kind, listKind, singular } = spec.names;
    expect(definition).toMatchObject({ kind, listKind, singular, version: version.name, namespaced: true });
    expect(definition.subresources.status).toBe("status" in version.subresources);
    const names = columns.map(({ name }) => name);
    for (const { name } of version.additionalPrinterColumns) expect(names).toContain(name);
    expect(version.schema.openAPIV3Schema.properties.spec["x-kubernetes-preserve-unknown-fields"]).toBe(true);
  }
});
