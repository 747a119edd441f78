import { describe, expect, test } from "vitest";
import { loadSchemas } from "../../../../src/apiserver/openapi/index.js";
import { RESOURCES } from "../../../../src/apiserver/resources/index.js";
import type { Loose } from "../../../../src/apiserver/resources/loose.js";

const catalog = loadSchemas();

test("every group-version has a document", () => {
  expect(catalog.paths()).toEqual([
    "api/v1",
    "apis/apps/v1",
    "apis/authentication.k8s.io/v1",
    "apis/authorization.k8s.io/v1",
    "apis/coordination.k8s.io/v1",
    "apis/discovery.k8s.io/v1",
    "apis/events.k8s.io/v1",
    "apis/metallb.io/v1beta1",
    "apis/podwire.dev/v1alpha1",
  ]);
  expect(catalog.document("apis/batch/v1")).toBeUndefined();
});

describe.each(catalog.paths())("%s", (path) => {
  const document = catalog.document(path) as Loose;

  test("every reference leads somewhere in the document", () => {
    const text = JSON.stringify(document);
    for (const [, name] of text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)) {
      expect(document.components.schemas, name).toHaveProperty([name!]);
    }
  });

  test("every kind is found by its group, version and kind, and its patches take fieldValidation", () => {
    for (const { group, version, kind, plural, namespaced, verbs } of RESOURCES) {
      if ((group === "" ? "api/v1" : `apis/${group}/${version}`) !== path) continue;
      const gvk = { group, version, kind };
      const schemas = Object.values<Loose>(document.components.schemas);
      const found = schemas.filter((schema) =>
        (schema["x-kubernetes-group-version-kind"] ?? []).some((one: Loose) => one.kind === kind),
      );
      expect(found, kind).toHaveLength(1);
      expect(found[0]["x-kubernetes-group-version-kind"]).toEqual([gvk]);
      if (verbs !== undefined) {
        const collection = `/${path}/${namespaced ? "namespaces/{namespace}/" : ""}${plural}`;
        expect(Object.keys(document.paths[collection])).toEqual(["post", "parameters"]);
        continue;
      }
      const item = document.paths[`/${path}/${namespaced ? "namespaces/{namespace}/" : ""}${plural}/{name}`];
      expect(item.patch["x-kubernetes-group-version-kind"]).toEqual(gvk);
      expect(item.patch["x-kubernetes-action"]).toBe("patch");
      for (const verb of ["patch", "put"]) {
        expect(item[verb].parameters.map((parameter: Loose) => parameter.name)).toContain("fieldValidation");
      }
      const strategic = "application/strategic-merge-patch+json" in item.patch.requestBody.content;
      expect(strategic, kind).toBe(!path.includes("podwire") && !path.includes("metallb"));
    }
  });

  test("operation ids are unique", () => {
    const ids = Object.values<Loose>(document.paths).flatMap((item) =>
      ["get", "post", "put", "patch", "delete"].flatMap((method) => item[method]?.operationId ?? []),
    );
    expect(ids.filter((id, i) => ids.indexOf(id) !== i)).toEqual([]);
  });
});

describe("schemas carry what patching and explain need", () => {
  const schemas = (catalog.document("api/v1") as Loose).components.schemas;

  test("ServiceSpec", () => {
    const { ports, type, clusterIPs } = schemas["io.k8s.api.core.v1.ServiceSpec"].properties;
    expect(ports).toMatchObject({
      type: "array",
      items: { allOf: [{ $ref: "#/components/schemas/io.k8s.api.core.v1.ServicePort" }] },
      "x-kubernetes-list-map-keys": ["port", "protocol"],
      "x-kubernetes-list-type": "map",
      "x-kubernetes-patch-merge-key": "port",
      "x-kubernetes-patch-strategy": "merge",
    });
    expect(clusterIPs["x-kubernetes-list-type"]).toBe("atomic");
    expect(type.type).toBe("string");
    expect(type.enum).toEqual(["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    expect(type.description).toMatch(/^type determines how the Service is exposed\. Defaults to ClusterIP\./);
  });

  test("kinds that came as names of formats", () => {
    expect(schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]).toMatchObject({
      format: "int-or-string",
      oneOf: [{ type: "integer" }, { type: "string" }],
    });
    expect(schemas["io.k8s.apimachinery.pkg.apis.meta.v1.Time"]).toMatchObject({
      type: "string",
      format: "date-time",
    });
    expect(schemas["io.k8s.api.core.v1.ServicePort"].required).toEqual(["port"]);
  });
});

describe("patch strategies", () => {
  test.each<[string, string, string[], unknown]>([
    ["", "Service", ["spec", "ports"], { strategy: "merge", mergeKey: "port" }],
    ["", "Pod", ["spec", "containers"], { strategy: "merge", mergeKey: "name" }],
    ["", "Pod", ["spec", "containers", "ports"], { strategy: "merge", mergeKey: "containerPort" }],
    ["", "Pod", ["spec", "containers", "env"], { strategy: "merge", mergeKey: "name" }],
    ["", "Pod", ["spec", "volumes"], { strategy: "merge", mergeKey: "name" }],
    ["", "Pod", ["spec", "schedulingGates"], { strategy: "merge", mergeKey: "name" }],
    ["", "Pod", ["spec", "tolerations"], { strategy: "replace" }],
    ["", "Pod", ["metadata", "finalizers"], { strategy: "merge" }],
    ["", "Pod", ["metadata", "ownerReferences"], { strategy: "merge", mergeKey: "uid" }],
    ["", "Node", ["status", "conditions"], { strategy: "merge", mergeKey: "type" }],
    ["", "Node", ["status", "addresses"], { strategy: "merge", mergeKey: "type" }],
    ["apps", "Deployment", ["spec", "strategy"], { strategy: "retainKeys" }],
    [
      "apps",
      "DaemonSet",
      ["spec", "template", "spec", "containers"],
      { strategy: "merge", mergeKey: "name" },
    ],
    ["", "Pod", ["metadata", "labels"], undefined],
    ["", "Pod", ["spec", "nothing"], undefined],
  ])("%s %s %j", (group, kind, path, expected) => {
    expect(catalog.patchStrategy(group, "v1", kind, path)).toEqual(expected);
  });
});

describe("strict decoding", () => {
  const check = (group: string, version: string, kind: string, object: unknown) => {
    const { unknown, invalid } = catalog.check(group, version, kind, object);
    return [...unknown, ...invalid.map(({ field, detail }) => `${field}: ${detail}`)];
  };

  test("a good object", () => {
    expect(
      check("", "v1", "Service", {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "s", labels: { a: "b" }, creationTimestamp: null },
        spec: {
          ports: [
            { port: 80, targetPort: "http" },
            { port: 81, targetPort: 8081 },
          ],
          selector: { a: "b" },
        },
      }),
    ).toEqual([]);
  });

  test("enumerations of built-in kinds are left to validation", () => {
    expect(check("", "v1", "Service", { spec: { type: "Balancer" } })).toEqual([]);
  });

  test("unknown fields", () => {
    expect(check("", "v1", "Service", { spec: { prots: [] }, extra: 1 })).toEqual([
      'unknown field "spec.prots"',
      'unknown field "extra"',
    ]);
    expect(
      check("apps", "v1", "DaemonSet", { spec: { template: { spec: { containers: [{}, { imag: "x" }] } } } }),
    ).toEqual(['unknown field "spec.template.spec.containers[1].imag"']);
    expect(check("podwire.dev", "v1alpha1", "IPPool", { spec: { blocksize: 26 } })).toEqual([
      'unknown field "spec.blocksize"',
    ]);
  });

  test("wrong types, in the words of Go's decoder", () => {
    expect(check("", "v1", "Service", { spec: { ports: [{ port: "80" }] } })).toEqual([
      "spec.ports[0].port: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
    ]);
    expect(check("", "v1", "Service", { spec: { ports: {} } })).toEqual([
      "spec.ports: json: cannot unmarshal object into Go struct field ServiceSpec.spec.ports of type []v1.ServicePort",
    ]);
    expect(check("", "v1", "Service", { spec: [] })).toEqual([
      "spec: json: cannot unmarshal array into Go struct field Service.spec of type v1.ServiceSpec",
    ]);
    expect(check("", "v1", "ConfigMap", { data: { a: 1 } })).toEqual([
      "data.a: json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
    ]);
    expect(check("apps", "v1", "Deployment", { spec: { replicas: 1.5 } })).toEqual([
      "spec.replicas: json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
    ]);
    expect(check("", "v1", "Pod", { metadata: { labels: { a: true } } })).toEqual([
      "metadata.labels.a: json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
    ]);
  });

  test("quantities, times, bytes", () => {
    const limits = { cpu: "1", memory: 1024, storage: "much" };
    expect(check("", "v1", "Pod", { spec: { containers: [{ name: "c", resources: { limits } }] } })).toEqual([
      "spec.containers[0].resources.limits.storage: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    ]);
    expect(
      check("coordination.k8s.io", "v1", "Lease", { spec: { renewTime: "2024-05-01T12:00:00.123456Z" } }),
    ).toEqual([]);
    expect(check("", "v1", "Event", { firstTimestamp: "now" })).toEqual([
      'firstTimestamp: parsing time "now" as "2006-01-02T15:04:05Z07:00": cannot parse "now" as "2006"',
    ]);
    expect(check("", "v1", "Secret", { data: { a: "not base64" } })).toEqual([
      "data.a: illegal base64 data at input byte 3",
    ]);
  });

  test("custom kinds, in the words of structural schemas", () => {
    expect(check("podwire.dev", "v1alpha1", "IPPool", { spec: { blockSize: "26" } })).toEqual([
      'spec.blockSize: Invalid value: "string": spec.blockSize in body must be of type integer: "string"',
    ]);
    expect(check("podwire.dev", "v1alpha1", "IPAMBlock", { spec: { affinityState: "maybe" } })).toEqual([
      'spec.affinityState: Unsupported value: "maybe": supported values: "confirmed", "pending", "pendingDeletion"',
    ]);
  });
});
