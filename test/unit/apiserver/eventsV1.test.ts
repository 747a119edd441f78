/** events.k8s.io/v1 beside v1: one object, two versions. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ResourceDefinition } from "../../../src/apiserver/resource.js";
import type { Verbs } from "../../../src/apiserver/verbs/Verbs.js";
import { openVerbs, temporaryDirectory } from "../../support/apiserver.js";

const ADMIN = { name: "admin", groups: ["system:masters"] };
const TIME = "2024-05-01T10:00:00.000000Z";
const ABOUT = { kind: "Pod", namespace: "default", name: "p" };
let directory: ReturnType<typeof temporaryDirectory>;
let verbs: Verbs;
let core: ResourceDefinition;
let young: ResourceDefinition;

beforeEach(async () => {
  directory = temporaryDirectory();
  verbs = openVerbs(directory.path);
  core = verbs.definition("", "events")!;
  young = verbs.definition("events.k8s.io", "events")!;
  const namespaces = verbs.definition("", "namespaces")!;
  await verbs.create(namespaces, undefined, { metadata: { name: "default" } }, ADMIN);
});
afterEach(async () => {
  await verbs.store.close();
  directory.remove();
});

const fresh = {
  metadata: { name: "e" },
  eventTime: TIME,
  reportingController: "example.com/c",
  reportingInstance: "c-1",
  action: "Starting",
  reason: "Started",
  regarding: ABOUT,
  note: "it runs",
  type: "Normal",
};

test("what one version writes the other reads, field by field", async () => {
  const made = await verbs.create(young, "default", fresh, ADMIN);
  expect(made).toMatchObject({ ...fresh, apiVersion: "events.k8s.io/v1", kind: "Event" });
  expect(verbs.get(core, "default", "e")).toMatchObject({
    apiVersion: "v1",
    involvedObject: ABOUT,
    message: "it runs",
    reportingComponent: "example.com/c",
  });
  const old = {
    metadata: { name: "o" },
    involvedObject: ABOUT,
    message: "m",
    count: 3,
    source: { component: "k" },
  };
  await verbs.create(core, "default", old, ADMIN);
  expect(verbs.get(young, "default", "o")).toMatchObject({
    regarding: ABOUT,
    note: "m",
    deprecatedCount: 3,
    deprecatedSource: { component: "k" },
  });
  const series = { count: 2, lastObservedTime: TIME };
  const patched = await verbs.patch(young, "default", "e", "merge", { series, note: "again" }, ADMIN);
  expect(patched).toMatchObject({ series, note: "again", regarding: ABOUT });
  expect(verbs.get(core, "default", "e")).toMatchObject({ series, message: "again" });
  await verbs.update(young, "default", "e", { ...patched, note: "third" }, ADMIN);
  expect(verbs.get(core, "default", "e")).toMatchObject({ message: "third" });
});

test("lists, watches and selectors speak their version; a deletion is one for both", async () => {
  const seen: string[] = [];
  const sink = (name: string) => ({
    event: (type: string, object: object) =>
      seen.push(`${name} ${type} ${"note" in object ? "note" : "message"}`),
  });
  verbs.watch(
    young,
    { fieldSelector: "regarding.name=p", resourceVersion: String(verbs.store.revision) },
    sink("young"),
  );
  verbs.watch(
    core,
    { fieldSelector: "involvedObject.name=p", resourceVersion: String(verbs.store.revision) },
    sink("core"),
  );
  await verbs.create(young, "default", fresh, ADMIN);
  const other = { ...fresh, metadata: { name: "q" }, regarding: { ...ABOUT, name: "q" } };
  await verbs.create(young, "default", other, ADMIN);
  expect(verbs.list(young, { fieldSelector: "regarding.name=p" }).items).toMatchObject([{ note: "it runs" }]);
  expect(verbs.list(core, {}).items).toMatchObject([{ message: "it runs" }, { message: "it runs" }]);
  const { object } = await verbs.delete(young, "default", "e", ADMIN);
  expect(object).toMatchObject({ apiVersion: "events.k8s.io/v1", note: "it runs" });
  expect(() => verbs.get(core, "default", "e")).toThrow('events "e" not found');
  expect(() => verbs.get(young, "default", "e")).toThrow('events.events.k8s.io "e" not found');
  expect(seen.sort()).toEqual([
    "core ADDED message",
    "core DELETED message",
    "young ADDED note",
    "young DELETED note",
  ]);
});

test("a new event must use the new fields", async () => {
  const { eventTime: _, action: __, ...less } = fresh;
  const wrong = verbs.create(young, "default", { ...less, type: "Odd", deprecatedCount: 1 }, ADMIN);
  await expect(wrong).rejects.toThrow(
    'Event.events.k8s.io "e" is invalid: [eventTime: Required value, action: Required value, type: Invalid value: "Odd": has invalid value: Odd, deprecatedCount: Invalid value: 1: must be unset]',
  );
});
