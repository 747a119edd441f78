import { describe, expect, test } from "vitest";
import { allows } from "../../../../src/apiserver/auth/authorize.js";
import { isReferred } from "../../../../src/apiserver/auth/nodeReferences.js";
import type { KubeObject } from "../../../../src/kube/KubeApi.js";

const pod = (spec: object): KubeObject =>
  ({
    metadata: { name: "p", namespace: "ns" },
    spec: { containers: [{ name: "c", image: "busybox" }], ...spec },
  }) as unknown as KubeObject;
const container = (fields: object) => ({ containers: [{ name: "c", image: "busybox", ...fields }] });

describe("what a pod refers to", () => {
  test.each<[string, object, object]>([
    [
      "a variable",
      container({ env: [{ name: "V", valueFrom: { secretKeyRef: { name: "x", key: "k" } } }] }),
      container({ env: [{ name: "V", valueFrom: { configMapKeyRef: { name: "x", key: "k" } } }] }),
    ],
    [
      "all variables of one",
      container({ envFrom: [{ secretRef: { name: "x" } }] }),
      container({ envFrom: [{ configMapRef: { name: "x" } }] }),
    ],
    [
      "a variable of an init container",
      { initContainers: container({ envFrom: [{ secretRef: { name: "x" } }] }).containers },
      { initContainers: container({ envFrom: [{ configMapRef: { name: "x" } }] }).containers },
    ],
    [
      "a volume",
      { volumes: [{ name: "v", secret: { secretName: "x" } }] },
      { volumes: [{ name: "v", configMap: { name: "x" } }] },
    ],
    [
      "a projected volume",
      { volumes: [{ name: "v", projected: { sources: [{ secret: { name: "x" } }] } }] },
      { volumes: [{ name: "v", projected: { sources: [{ configMap: { name: "x" } }] } }] },
    ],
  ])("%s", (_, secret, configMap) => {
    expect(isReferred([pod(secret)], "secrets", "x")).toBe(true);
    expect(isReferred([pod(secret)], "configmaps", "x")).toBe(false);
    expect(isReferred([pod(configMap)], "configmaps", "x")).toBe(true);
    expect(isReferred([pod(configMap)], "secrets", "x")).toBe(false);
    expect(isReferred([pod(secret), pod(configMap)], "secrets", "y")).toBe(false);
  });

  test("what images are pulled with", () => {
    expect(isReferred([pod({ imagePullSecrets: [{ name: "x" }] })], "secrets", "x")).toBe(true);
  });

  test("nothing, where it refers to nothing", () => {
    const empty = pod({ volumes: [{ name: "v", emptyDir: {} }], ...container({ env: [{ name: "V" }] }) });
    for (const kind of ["secrets", "configmaps"] as const) {
      expect(isReferred([empty], kind, "x")).toBe(false);
      expect(isReferred([empty], kind, "undefined")).toBe(false);
      expect(isReferred([], kind, "x")).toBe(false);
    }
  });
});

describe("a node", () => {
  const n1 = { name: "system:node:n1", groups: ["system:nodes", "system:authenticated"] };
  const using = pod({ volumes: [{ name: "v", secret: { secretName: "x" } }] });
  const podsOn = (node: string, namespace: string) => (node === "n1" && namespace === "ns" ? [using] : []);
  const may = (change: object = {}, user = n1) =>
    allows(
      user,
      { verb: "get", group: "", resource: "secrets", namespace: "ns", name: "x", ...change },
      podsOn,
    );

  test("gets what its pods refer to", () => expect(may()).toBe(true));

  test.each<[string, object]>([
    ["another object", { name: "y" }],
    ["one of its name in another namespace", { namespace: "other" }],
    ["another kind of its name", { resource: "configmaps" }],
    ["a list", { verb: "list", name: undefined }],
    ["a watch", { verb: "watch" }],
    ["a change", { verb: "update" }],
    ["a deletion", { verb: "delete" }],
  ])("does not get %s", (_, change) => expect(may(change)).toBe(false));

  test("does not get what another node's pods refer to", () => {
    expect(may({}, { ...n1, name: "system:node:n2" })).toBe(false);
    expect(may({}, { name: "bob", groups: ["system:authenticated"] })).toBe(false);
  });
});
