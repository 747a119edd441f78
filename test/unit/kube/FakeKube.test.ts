/** FakeKube keeps the API server's rules: what is tested against it must hold against the server. */
import { beforeEach, describe, expect, test } from "vitest";
import { settle } from "../../../src/kube/Clock.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import type { KubeObject, WatchEvent } from "../../../src/kube/KubeApi.js";
import { KubeError } from "../../../src/kube/KubeError.js";
import { CONFIGMAPS, DEPLOYMENTS, IPPOOLS, NODES, PODS } from "../../../src/kube/resources.js";
import type { ConfigMap, Deployment, Node, Pod } from "../../../src/kube/types.js";

let kube: FakeKube;
beforeEach(() => {
  kube = new FakeKube({ now: () => new Date("2024-01-01T00:00:00Z") });
});

const map = (name: string, labels: Record<string, string> = {}): ConfigMap => ({
  metadata: { name, namespace: "default", labels },
});
const pod = (name: string, node = ""): Pod => ({
  metadata: { name, namespace: "default" },
  spec: { containers: [], ...(node === "" ? {} : { nodeName: node }) },
});
const failure = (work: Promise<unknown>) =>
  work.then(
    () => "no error",
    (error: unknown) => (error instanceof KubeError ? `${error.code} ${error.reason}` : String(error)),
  );

/** Events of a watch as "ADDED a", until it ends. */
function watch(options: { labelSelector?: string; fieldSelector?: string; resourceVersion?: string } = {}) {
  const events: string[] = [];
  const abort = new AbortController();
  const ended = kube.watch<KubeObject>(
    CONFIGMAPS,
    { resourceVersion: kube.resourceVersion, ...options },
    (event: WatchEvent<KubeObject>) =>
      events.push(
        event.type === "BOOKMARK"
          ? `BOOKMARK ${event.resourceVersion}`
          : `${event.type} ${event.object.metadata.name}`,
      ),
    abort.signal,
  );
  return { events, abort, ended };
}

describe("objects", () => {
  test("create fills in what the server owns, and refuses a second one", async () => {
    const made = await kube.create(CONFIGMAPS, map("a"));
    expect(made).toMatchObject({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { resourceVersion: "1", creationTimestamp: "2024-01-01T00:00:00Z" },
    });
    expect(made.metadata.uid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(await failure(kube.create(CONFIGMAPS, map("a")))).toBe("409 AlreadyExists");
    expect(await failure(kube.create(CONFIGMAPS, { metadata: { name: "a" } }))).toBe("400 BadRequest");
  });

  test("generateName", async () => {
    const made = await kube.create<ConfigMap>(CONFIGMAPS, {
      metadata: { generateName: "a-", namespace: "default" },
    });
    expect(made.metadata.name).toMatch(/^a-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
  });

  test("an update with an old resourceVersion conflicts; one without does not", async () => {
    const first = await kube.create(CONFIGMAPS, map("a"));
    await kube.update(CONFIGMAPS, { ...first, data: { x: "1" } });
    expect(await failure(kube.update(CONFIGMAPS, { ...first, data: { x: "2" } }))).toBe("409 Conflict");
    const other = { ...first, metadata: { ...first.metadata, uid: "other" } };
    expect(await failure(kube.update(CONFIGMAPS, other))).toBe("409 Conflict");
    expect((await kube.update(CONFIGMAPS, { ...map("a"), data: { x: "3" } })).data).toEqual({ x: "3" });
    expect(await failure(kube.update(CONFIGMAPS, map("b")))).toBe("404 NotFound");
  });

  test("an update of a custom resource needs the resourceVersion", async () => {
    const made = await kube.create<KubeObject>(IPPOOLS, { metadata: { name: "p" } });
    const { resourceVersion: _, ...without } = made.metadata;
    await expect(kube.update(IPPOOLS, { ...made, metadata: without })).rejects.toThrow(
      'ippools.podwire.dev "p" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be specified for an update',
    );
    await kube.update(IPPOOLS, { ...made, metadata: { ...made.metadata, labels: { a: "b" } } });
  });

  test("an update that changes nothing makes no new version", async () => {
    const first = await kube.create(CONFIGMAPS, map("a"));
    expect((await kube.update(CONFIGMAPS, first)).metadata.resourceVersion).toBe("1");
    expect(kube.resourceVersion).toBe("1");
  });

  test("answers are copies", async () => {
    const made = await kube.create(CONFIGMAPS, map("a"));
    made.metadata.labels = { changed: "yes" };
    expect((await kube.get(CONFIGMAPS, "a", "default")).metadata.labels).toEqual({});
  });

  test("status is written by its own subresource only", async () => {
    const made = await kube.create<Node>(NODES, { metadata: { name: "n" }, status: { phase: "x" } });
    expect(made.status).toEqual({ phase: "x" });
    const updated = await kube.update<Node>(NODES, {
      ...made,
      spec: { unschedulable: true },
      status: { phase: "y" },
    });
    expect(updated).toMatchObject({ spec: { unschedulable: true }, status: { phase: "x" } });
    const reported = await kube.update<Node>(
      NODES,
      { ...updated, spec: {}, status: { phase: "z" } },
      "status",
    );
    expect(reported).toMatchObject({ spec: { unschedulable: true }, status: { phase: "z" } });
  });

  test("generation counts changes of the spec", async () => {
    const spec = { selector: {}, template: {} };
    const made = await kube.create<Deployment>(DEPLOYMENTS, {
      metadata: { name: "d", namespace: "default" },
      spec,
    });
    const labelled = await kube.patch<Deployment>(DEPLOYMENTS, "d", "default", "merge", {
      metadata: { labels: { a: "b" } },
    });
    const scaled = await kube.patch<Deployment>(DEPLOYMENTS, "d", "default", "merge", {
      spec: { replicas: 3 },
    });
    expect([made, labelled, scaled].map(({ metadata }) => metadata.generation)).toEqual([1, 1, 2]);
  });

  test("patches: merge, json, strategic", async () => {
    await kube.create<Node>(NODES, {
      metadata: { name: "n", labels: { a: "1", b: "2" } },
      status: { conditions: [{ type: "Ready", status: "False" }] },
    });
    await kube.patch(NODES, "n", undefined, "merge", { metadata: { labels: { a: null, c: "3" } } });
    await kube.patch(NODES, "n", undefined, "json", [{ op: "add", path: "/metadata/labels/d", value: "4" }]);
    const conditions = [
      { type: "Ready", status: "True" },
      { type: "NetworkUnavailable", status: "False" },
    ];
    await kube.patch(NODES, "n", undefined, "strategic", { status: { conditions } }, "status");
    const node = kube.peek<Node>(NODES, "n")!;
    expect(node.metadata.labels).toEqual({ b: "2", c: "3", d: "4" });
    expect(node.status!.conditions).toEqual(conditions);
    const test = [{ op: "test", path: "/metadata/name", value: "other" }];
    expect(await failure(kube.patch(NODES, "n", undefined, "json", test))).toBe("422 Invalid");
    const stale = { metadata: { resourceVersion: "1" } };
    expect(await failure(kube.patch(NODES, "n", undefined, "merge", stale))).toBe("409 Conflict");
  });
});

describe("deletion", () => {
  test("finalizers hold an object back", async () => {
    const made = await kube.create<ConfigMap>(CONFIGMAPS, {
      metadata: { name: "a", namespace: "default", finalizers: ["x/y"] },
    });
    await kube.delete(CONFIGMAPS, "a", "default");
    const held = await kube.get(CONFIGMAPS, "a", "default");
    expect(held.metadata.deletionTimestamp).toBe("2024-01-01T00:00:00Z");
    await kube.update(CONFIGMAPS, { ...held, metadata: { ...held.metadata, finalizers: [] } });
    expect(await failure(kube.get(CONFIGMAPS, "a", "default"))).toBe("404 NotFound");
    expect(made.metadata.deletionTimestamp).toBeUndefined();
  });

  test("a pod on a node ends gracefully, another at once", async () => {
    await kube.create(PODS, pod("waiting"));
    await kube.create(PODS, pod("running", "n"));
    await kube.delete(PODS, "waiting", "default");
    await kube.delete(PODS, "running", "default");
    expect(kube.all<Pod>(PODS).map(({ metadata }) => metadata)).toMatchObject([
      { name: "running", deletionTimestamp: "2024-01-01T00:00:30Z", deletionGracePeriodSeconds: 30 },
    ]);
    await kube.delete(PODS, "running", "default", { gracePeriodSeconds: 0 });
    expect(kube.all(PODS)).toEqual([]);
  });

  test("preconditions", async () => {
    await kube.create(CONFIGMAPS, map("a"));
    expect(await failure(kube.delete(CONFIGMAPS, "a", "default", { uid: "other" }))).toBe("409 Conflict");
    expect(await failure(kube.delete(CONFIGMAPS, "a", "default", { resourceVersion: "9" }))).toBe(
      "409 Conflict",
    );
  });
});

describe("list and watch", () => {
  test("selectors", async () => {
    for (const [name, app] of [
      ["a", "web"],
      ["b", "db"],
      ["c", "web"],
    ] as const)
      await kube.create(CONFIGMAPS, map(name, { app, [name]: "yes" }));
    const names = async (labelSelector: string, fieldSelector?: string) =>
      (await kube.list(CONFIGMAPS, { labelSelector, ...(fieldSelector ? { fieldSelector } : {}) })).items.map(
        ({ metadata }) => metadata.name,
      );
    expect(await names("app=web")).toEqual(["a", "c"]);
    expect(await names("app!=web")).toEqual(["b"]);
    expect(await names("app in (web, db),!c")).toEqual(["a", "b"]);
    expect(await names("app notin (web)")).toEqual(["b"]);
    expect(await names("a")).toEqual(["a"]);
    expect(await names("", "metadata.name=b")).toEqual(["b"]);
    expect(await names("", "metadata.name!=b,metadata.namespace=default")).toEqual(["a", "c"]);
    expect(await failure(names("a=(b"))).toBe("400 BadRequest");
  });

  test("a watch tells what came since, in order, and what leaves its selection as deleted", async () => {
    const first = await kube.create(CONFIGMAPS, map("a", { app: "web" }));
    const since = kube.resourceVersion;
    await kube.create(CONFIGMAPS, map("b", { app: "web" }));
    const { events, abort, ended } = watch({ resourceVersion: since, labelSelector: "app=web" });
    await settle();
    await kube.update(CONFIGMAPS, { ...first, data: { x: "1" } });
    await kube.patch(CONFIGMAPS, "a", "default", "merge", { metadata: { labels: { app: "db" } } });
    await kube.patch(CONFIGMAPS, "a", "default", "merge", { data: { x: "2" } });
    await kube.delete(CONFIGMAPS, "b", "default");
    await settle();
    expect(events).toEqual(["ADDED b", "MODIFIED a", "DELETED a", "DELETED b"]);
    abort.abort();
    await ended;
    expect(kube.openWatches).toBe(0);
  });

  test("410 from before a compaction; bookmarks", async () => {
    await kube.create(CONFIGMAPS, map("a"));
    const since = kube.resourceVersion;
    await kube.create(CONFIGMAPS, map("b"));
    kube.compact();
    expect(await failure(watch({ resourceVersion: since }).ended)).toBe("410 Expired");
    const { events, ended } = watch();
    await settle();
    kube.sendBookmarks();
    await settle();
    kube.disconnectWatches("configmaps");
    await ended;
    expect(events).toEqual(["BOOKMARK 2"]);
  });
});

describe("faults", () => {
  test("a request that fails is not carried out, a lost answer's is", async () => {
    kube.failNext({ verb: "create", plural: "configmaps" });
    kube.failNext({ verb: "create" }, KubeError.of("Forbidden", "no"));
    expect(await failure(kube.create(CONFIGMAPS, map("a")))).toBe("0 Unreachable");
    kube.loseResponse({ name: "a" });
    expect(await failure(kube.create(CONFIGMAPS, map("a")))).toBe("0 Unreachable");
    expect(await failure(kube.create(CONFIGMAPS, map("a")))).toBe("409 AlreadyExists");
  });

  test("delay and offline", async () => {
    let open = () => {};
    kube.delay({ verb: "get" }, new Promise<void>((resolve) => (open = resolve)));
    await kube.create(CONFIGMAPS, map("a"));
    const got = kube.get(CONFIGMAPS, "a", "default");
    kube.goOffline();
    expect(await failure(kube.list(CONFIGMAPS))).toBe("0 Unreachable");
    kube.goOnline();
    open();
    expect((await got).metadata.name).toBe("a");
  });
});
