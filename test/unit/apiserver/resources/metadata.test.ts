import { describe, expect, test } from "vitest";
import { configMaps, secrets } from "../../../../src/apiserver/resources/configuration.js";
import { endpointSlices } from "../../../../src/apiserver/resources/endpoints.js";
import { leases } from "../../../../src/apiserver/resources/lease.js";
import { namespaces } from "../../../../src/apiserver/resources/namespace.js";
import { cells, created, faults, headers, refused, updated } from "./support.js";

const SUBDOMAIN =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

describe("metadata", () => {
  test("names", () => {
    expect(refused(configMaps, { metadata: { name: "My_Map" } })).toEqual([
      `metadata.name: Invalid value: "My_Map": ${SUBDOMAIN}`,
    ]);
    expect(refused(namespaces, { metadata: { name: "a.b" } })).toContain(
      `metadata.name: Invalid value: "a.b": ${LABEL}`,
    );
    expect(refused(configMaps, { metadata: {} })).toEqual([
      "metadata.name: Required value: name or generateName is required",
    ]);
    expect(refused(configMaps, { metadata: { name: "a".repeat(254) } })).toEqual([
      `metadata.name: Invalid value: "${"a".repeat(254)}": must be no more than 253 characters`,
    ]);
  });

  test("labels and annotations", () => {
    expect(refused(configMaps, { metadata: { name: "m", labels: { "a/b/c": "x" } } })).toEqual([
      `metadata.labels: Invalid value: "a/b/c": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ]);
    expect(refused(configMaps, { metadata: { name: "m", labels: { app: "a b" } } })).toEqual([
      `metadata.labels: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
    ]);
    expect(
      refused(configMaps, { metadata: { name: "m", annotations: { big: "x".repeat(262_144) } } }),
    ).toEqual(["metadata.annotations: Too long: may not be more than 262144 bytes"]);
    expect(
      refused(configMaps, { metadata: { name: "m", annotations: { "Example.com/Big": "free text" } } }),
    ).toEqual([]);
  });

  test("finalizers", () => {
    expect(refused(configMaps, { metadata: { name: "m", finalizers: ["mine"] } })).toEqual([
      'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified',
    ]);
    const old = created(configMaps, { metadata: { name: "m" } });
    old.metadata.deletionTimestamp = "2024-05-01T11:59:00Z";
    const late = updated(configMaps, old, (map) => {
      map.metadata.finalizers = ["example.com/late"];
    });
    expect(faults(configMaps, late, old)).toEqual([
      'metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"example.com/late"}',
    ]);
  });

  test("what only the server writes stays", () => {
    const old = created(configMaps, { metadata: { name: "m", uid: "1" } });
    const replaced = updated(configMaps, old, (map) => {
      delete map.metadata.uid;
      delete map.metadata.creationTimestamp;
      map.metadata.generation = 7;
    });
    expect(replaced.metadata).toEqual(old.metadata);
  });
});

describe("small kinds", () => {
  test("Namespace", () => {
    const namespace = created(namespaces, { metadata: { name: "shop" } });
    expect(namespace).toMatchObject({
      metadata: { labels: { "kubernetes.io/metadata.name": "shop" } },
      spec: { finalizers: ["kubernetes"] },
      status: { phase: "Active" },
    });
    expect(headers(namespaces)).toEqual(["NAME", "STATUS", "AGE"]);
    expect(cells(namespaces, namespace)).toEqual(["shop", "Active", "5m"]);
    expect(namespaces.selectableFields(namespace)).toEqual({ "status.phase": "Active" });
  });

  test("ConfigMap", () => {
    const map = created(configMaps, { metadata: { name: "m" }, data: { a: "1" }, binaryData: { b: "AA==" } });
    expect(headers(configMaps)).toEqual(["NAME", "DATA", "AGE"]);
    expect(cells(configMaps, map)).toEqual(["m", 2, "5m"]);
    expect(refused(configMaps, { metadata: { name: "m" }, data: { "a b": "1" } })).toEqual([
      `data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`,
    ]);
    const frozen = { ...map, immutable: true };
    expect(faults(configMaps, { ...frozen, data: { a: "2" } }, frozen)).toEqual([
      "data: Forbidden: field is immutable when `immutable` is set",
    ]);
  });

  test("Secret", () => {
    const secret = created(secrets, { metadata: { name: "s" }, stringData: { password: "hunter2" } });
    expect(secret).toMatchObject({ type: "Opaque", data: { password: "aHVudGVyMg==" } });
    expect(secret.stringData).toBeUndefined();
    expect(cells(secrets, secret)).toEqual(["s", "Opaque", 1, "5m"]);
    expect(faults(secrets, { ...secret, type: "other" }, secret)).toEqual([
      'type: Invalid value: "other": field is immutable',
    ]);
    expect(
      refused(secrets, { metadata: { name: "s" }, type: "kubernetes.io/tls", data: { "tls.crt": "AA==" } }),
    ).toEqual(["data[tls.key]: Required value"]);
  });

  test("Lease", () => {
    const lease = created(leases, {
      metadata: { name: "k8s-master" },
      spec: { holderIdentity: "k8s-master" },
    });
    expect(headers(leases)).toEqual(["NAME", "HOLDER", "AGE"]);
    expect(cells(leases, lease)).toEqual(["k8s-master", "k8s-master", "5m"]);
    expect(refused(leases, { metadata: { name: "l" }, spec: { leaseDurationSeconds: 0 } })).toEqual([
      "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
    ]);
  });

  test("EndpointSlice", () => {
    const slice = created(endpointSlices, {
      metadata: { name: "kubernetes" },
      addressType: "IPv4",
      endpoints: [{ addresses: ["192.168.2.30"] }],
      ports: [{ name: "https", port: 443 }],
    });
    expect(slice.ports[0]).toEqual({ name: "https", port: 443, protocol: "TCP" });
    expect(headers(endpointSlices)).toEqual(["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"]);
    expect(cells(endpointSlices, slice)).toEqual(["kubernetes", "IPv4", "443", "192.168.2.30", "5m"]);
    expect(cells(endpointSlices, { ...slice, ports: [], endpoints: [] })).toEqual([
      "kubernetes",
      "IPv4",
      "<unset>",
      "<unset>",
      "5m",
    ]);
    expect(
      refused(endpointSlices, {
        metadata: { name: "s" },
        addressType: "IPv4",
        endpoints: [{ addresses: ["::1"] }],
      }),
    ).toContain('endpoints[0].addresses[0]: Invalid value: "::1": must be a valid IPv4 address');
    expect(refused(endpointSlices, { metadata: { name: "s" }, addressType: "IPX" })).toEqual([
      'addressType: Unsupported value: "IPX": supported values: "FQDN", "IPv4", "IPv6"',
    ]);
  });
});
