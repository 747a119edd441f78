import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ResourceDefinition } from "../../../src/apiserver/resource.js";
import type { Verbs } from "../../../src/apiserver/verbs/Verbs.js";
import type { KubeObject } from "../../../src/kube/KubeApi.js";
import { openVerbs, temporaryDirectory } from "../../support/apiserver.js";

const ADMIN = { name: "admin", groups: ["system:masters"] };
let directory: ReturnType<typeof temporaryDirectory>;
let verbs: Verbs;
let maps: ResourceDefinition;
let pods: ResourceDefinition;

beforeEach(async () => {
  directory = temporaryDirectory();
  verbs = openVerbs(directory.path);
  maps = verbs.definition("", "configmaps")!;
  pods = verbs.definition("", "pods")!;
  await verbs.create(
    verbs.definition("", "namespaces")!,
    undefined,
    { metadata: { name: "default" } },
    ADMIN,
  );
});
afterEach(async () => {
  await verbs.store.close();
  directory.remove();
});

const create = (metadata: object, more: object = {}) =>
  verbs.create(maps, "default", { metadata, ...more }, ADMIN);
const patch = (name: string, body: object) => verbs.patch(maps, "default", name, "merge", body, ADMIN);
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: Error) => error.message,
  );

function watched(request: object): string[] {
  const seen: string[] = [];
  verbs.watch(maps, request, {
    event: (type, { metadata }: KubeObject) => seen.push(`${type} ${metadata.name}`),
  });
  return seen;
}

describe("writes", () => {
  test("an update that changes nothing is none", async () => {
    const made = await create({ name: "a" }, { data: { x: "1" } });
    const again = await patch("a", { data: { x: "1" } });
    expect(again.metadata.resourceVersion).toBe(made.metadata.resourceVersion);
  });

  test("an update of a custom resource needs the resourceVersion, one of a ConfigMap does not", async () => {
    const pools = verbs.definition("podwire.dev", "ippools")!;
    const made = await verbs.create(
      pools,
      undefined,
      { metadata: { name: "p" }, spec: { cidr: "10.1.0.0/16" } } as KubeObject,
      ADMIN,
    );
    const { resourceVersion: _, ...metadata } = made.metadata;
    expect(await failure(verbs.update(pools, undefined, "p", { ...made, metadata }, ADMIN))).toBe(
      'ippools.podwire.dev "p" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update',
    );
    await verbs.update(pools, undefined, "p", made, ADMIN);
    await create({ name: "a" });
    await verbs.update(maps, "default", "a", { metadata: { name: "a" } }, ADMIN);
  });

  test("generateName, dry run, AlreadyExists, no namespace", async () => {
    expect((await create({ generateName: "g-" })).metadata.name).toMatch(/^g-[a-z0-9]{5}$/);
    await verbs.create(maps, "default", { metadata: { name: "dry" } }, ADMIN, { dryRun: true });
    expect(() => verbs.get(maps, "default", "dry")).toThrow('configmaps "dry" not found');
    await create({ name: "a" });
    expect(await failure(create({ name: "a" }))).toBe('configmaps "a" already exists');
    expect(await failure(verbs.create(maps, "no", { metadata: { name: "a" } }, ADMIN))).toBe(
      'namespaces "no" not found',
    );
  });

  test("two writers of one revision: the second is told", async () => {
    const made = await create({ name: "a" });
    const both = ["1", "2"].map((x) =>
      failure(verbs.update(maps, "default", "a", { ...made, data: { x } }, ADMIN)),
    );
    expect(await Promise.all(both)).toEqual([
      undefined,
      expect.stringContaining("Operation cannot be fulfilled"),
    ]);
  });

  test("unknown fields: refused, told, or dropped", async () => {
    const body = { metadata: { name: "u" }, dta: {} };
    expect(await failure(verbs.create(maps, "default", body, ADMIN, { fieldValidation: "Strict" }))).toBe(
      'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"',
    );
    const warnings: string[] = [];
    const made = await verbs.create(maps, "default", body, ADMIN, {
      fieldValidation: "Warn",
      warn: (text) => warnings.push(text),
    });
    expect(warnings).toEqual(['unknown field "dta"']);
    expect(made).not.toHaveProperty("dta");
  });
});

describe("deletion", () => {
  test("finalizers hold an object until the last is gone", async () => {
    await create({ name: "a", finalizers: ["x.dev/f"] });
    expect((await verbs.delete(maps, "default", "a", ADMIN)).gone).toBe(false);
    expect(verbs.get(maps, "default", "a").metadata.deletionTimestamp).toBeDefined();
    await patch("a", { metadata: { finalizers: null } });
    expect(() => verbs.get(maps, "default", "a")).toThrow("not found");
  });

  test("propagation policies are finalizers", async () => {
    await create({ name: "a" });
    await verbs.delete(maps, "default", "a", ADMIN, { propagationPolicy: "Foreground" });
    expect(verbs.get(maps, "default", "a").metadata.finalizers).toEqual(["foregroundDeletion"]);
  });

  test("preconditions", async () => {
    await create({ name: "a" });
    expect(
      await failure(verbs.delete(maps, "default", "a", ADMIN, { preconditions: { uid: "other" } })),
    ).toContain("Precondition failed: UID in precondition: other");
  });

  test("a pod on a node gets its grace period, which can only be shortened", async () => {
    const pod = { metadata: { name: "p" }, spec: { nodeName: "n", containers: [{ name: "c", image: "i" }] } };
    await verbs.create(pods, "default", pod, ADMIN);
    const { gone, object } = await verbs.delete(pods, "default", "p", ADMIN);
    expect([gone, object.metadata.deletionGracePeriodSeconds]).toEqual([false, 30]);
    await verbs.delete(pods, "default", "p", ADMIN, { gracePeriodSeconds: 60 });
    expect(verbs.get(pods, "default", "p").metadata.deletionGracePeriodSeconds).toBe(30);
    expect((await verbs.delete(pods, "default", "p", ADMIN, { gracePeriodSeconds: 0 })).gone).toBe(true);
  });
});

describe("lists and watches", () => {
  test("an object that begins or ceases to match comes and goes", async () => {
    const seen = watched({ labelSelector: "x in (1,2)" });
    await create({ name: "a" });
    await patch("a", { metadata: { labels: { x: "1" } } });
    await patch("a", { metadata: { labels: { x: "2" } } });
    await patch("a", { metadata: { labels: { x: "3" } } });
    await verbs.delete(maps, "default", "a", ADMIN);
    expect(seen).toEqual(["ADDED a", "MODIFIED a", "DELETED a"]);
  });

  test("a watch resumes where a list ended; without a revision it begins with what there is", async () => {
    await create({ name: "a" });
    const { resourceVersion } = verbs.list(maps, {});
    await create({ name: "b" });
    expect(watched({ resourceVersion })).toEqual(["ADDED b"]);
    expect(watched({ fieldSelector: "metadata.name!=b" })).toEqual(["ADDED a"]);
    expect(() => watched({ fieldSelector: "spec.x=1" })).toThrow("field label not supported: spec.x");
  });

  test("resourceVersionMatch=Exact shows an earlier state", async () => {
    await create({ name: "a" });
    const { resourceVersion } = verbs.list(maps, {});
    await create({ name: "b" });
    const exact = verbs.list(maps, { resourceVersion, resourceVersionMatch: "Exact" });
    expect(exact.items).toHaveLength(1);
    expect(verbs.list(maps, { resourceVersion, resourceVersionMatch: "NotOlderThan" }).items).toHaveLength(2);
  });
});
