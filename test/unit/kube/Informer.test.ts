/** The local copy: what breaks is taken up again, and nothing is told twice or missed. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeClock, settle } from "../../../src/kube/Clock.js";
import { FakeKube } from "../../../src/kube/FakeKube.js";
import { Informer, type InformerOptions } from "../../../src/kube/Informer.js";
import { KubeError } from "../../../src/kube/KubeError.js";
import { CONFIGMAPS } from "../../../src/kube/resources.js";
import type { ConfigMap } from "../../../src/kube/types.js";
import { Random } from "../../support/random.js";

let kube: FakeKube;
let clock: FakeClock;
let informers: Informer<ConfigMap>[];
let told: string[];
let errors: unknown[];

beforeEach(() => {
  kube = new FakeKube();
  clock = new FakeClock();
  informers = [];
  told = [];
  errors = [];
});
afterEach(async () => {
  for (const informer of informers) await informer.stop();
});

const map = (name: string, x = "", labels: Record<string, string> = {}): ConfigMap => ({
  metadata: { name, namespace: "default", labels },
  data: { x },
});
const set = (name: string, x: string) => kube.patch(CONFIGMAPS, name, "default", "merge", { data: { x } });

function informer(options: InformerOptions<ConfigMap> = {}): Informer<ConfigMap> {
  const made = new Informer<ConfigMap>(kube, CONFIGMAPS, {
    clock,
    random: () => 1,
    onError: (error) => errors.push(error),
    ...options,
  });
  made.addHandler({
    added: ({ metadata, data }) => told.push(`+${metadata.name}${data?.x ?? ""}`),
    updated: ({ metadata, data }, old) => told.push(`~${metadata.name}${old.data?.x}→${data?.x}`),
    deleted: ({ metadata, data }) => told.push(`-${metadata.name}${data?.x ?? ""}`),
  });
  informers.push(made);
  return made.start();
}

test("list, then changes, in the copy before the handler hears of them", async () => {
  await kube.create(CONFIGMAPS, map("a", "1"));
  const copy = informer();
  const seen: unknown[] = [];
  copy.addHandler({ updated: ({ metadata }) => seen.push(copy.get(metadata.name!, "default")?.data) });
  await copy.synced;
  expect(told).toEqual(["+a1"]);
  await kube.create(CONFIGMAPS, map("b", "1"));
  await set("a", "2");
  await kube.delete(CONFIGMAPS, "b", "default");
  await settle();
  expect(told).toEqual(["+a1", "+b1", "~a1→2", "-b1"]);
  expect(seen).toEqual([{ x: "2" }]);
  expect(copy.list().map(({ metadata }) => metadata.name)).toEqual(["a"]);
  expect(copy.connected).toBe(true);
});

test("a watch that ends is taken up where it stopped, without a new list", async () => {
  const copy = informer();
  await copy.synced;
  await settle();
  kube.disconnectWatches();
  await kube.create(CONFIGMAPS, map("a", "1"));
  await clock.advance(200);
  expect(told).toEqual(["+a1"]);
  kube.disconnectWatches(undefined, KubeError.unreachable("reset"));
  await set("a", "2");
  await clock.advance(200);
  expect(told).toEqual(["+a1", "~a1→2"]);
  expect(kube.requests.filter((request) => request.startsWith("list"))).toHaveLength(1);
});

test("410: a new list at once, told as changes", async () => {
  for (const name of ["a", "b", "c"]) await kube.create(CONFIGMAPS, map(name, "1"));
  const copy = informer();
  await copy.synced;
  await settle();
  kube.goOffline();
  kube.goOnline();
  await kube.delete(CONFIGMAPS, "a", "default");
  await set("b", "2");
  await kube.delete(CONFIGMAPS, "c", "default");
  await kube.create(CONFIGMAPS, map("c", "new"));
  await kube.create(CONFIGMAPS, map("d", "1"));
  kube.compact();
  told = [];
  await clock.advance(100);
  expect(told).toEqual(["-a1", "~b1→2", "-c1", "+cnew", "+d1"]);
});

test("bookmarks move the point to go on from", async () => {
  const copy = informer({ labelSelector: "app=web" });
  await copy.synced;
  await settle();
  for (let i = 0; i < 3; i++) await kube.create(CONFIGMAPS, map(`other${i}`));
  kube.sendBookmarks();
  await settle();
  kube.compact();
  kube.disconnectWatches();
  await kube.create(CONFIGMAPS, map("a", "1", { app: "web" }));
  await clock.advance(1000);
  expect(told).toEqual(["+a1"]);
  expect(errors).toEqual([]);
});

test("waits longer after each failure, to a limit, and catches up", async () => {
  kube.goOffline();
  const copy = informer({ backoff: { first: 100, most: 1000 } });
  const lists = () => kube.requests.filter((request) => request.startsWith("list")).length;
  const at: number[] = [];
  for (let seen = 0, t = 0; t < 4000; t += 10) {
    await clock.advance(10);
    if (lists() > seen) at.push(clock.now());
    seen = lists();
  }
  expect(at.map((time) => Math.round(time / 100) * 100)).toEqual([0, 100, 300, 700, 1500, 2500, 3500]);
  expect(copy.connected).toBe(false);
  expect(copy.isSynced).toBe(false);
  kube.goOnline();
  await kube.create(CONFIGMAPS, map("a", "1"));
  await clock.advance(1000);
  expect(told).toEqual(["+a1"]);
  expect(copy.connected).toBe(true);
});

test("a server that ends every watch at once is not hammered", async () => {
  informer();
  await settle();
  for (let t = 0; t < 5000; t += 10) {
    kube.disconnectWatches();
    await clock.advance(10);
  }
  expect(kube.requests.filter((request) => request.startsWith("watch")).length).toBeLessThan(12);
});

test("indices follow the changes", async () => {
  const copy = informer({ indices: { x: ({ data }) => [data?.x ?? ""] } });
  await kube.create(CONFIGMAPS, map("a", "1"));
  await kube.create(CONFIGMAPS, map("b", "1"));
  const under = (x: string) => copy.byIndex("x", x).map(({ metadata }) => metadata.name);
  await settle();
  expect([under("1"), under("2")]).toEqual([["a", "b"], []]);
  await set("a", "2");
  await kube.delete(CONFIGMAPS, "b", "default");
  await settle();
  expect([under("1"), under("2")]).toEqual([[], ["a"]]);
});

test("resync tells of everything again; a late handler is told what is there", async () => {
  await kube.create(CONFIGMAPS, map("a", "1"));
  const copy = informer({ resyncMs: 1000 });
  await copy.synced;
  await clock.advance(2500);
  expect(told).toEqual(["+a1", "~a1→1", "~a1→1"]);
  const late: string[] = [];
  copy.addHandler({ added: ({ metadata }) => late.push(metadata.name!) });
  expect(late).toEqual(["a"]);
});

test("a handler that throws ends nothing", async () => {
  const copy = new Informer<ConfigMap>(kube, CONFIGMAPS, { clock, onError: (error) => errors.push(error) });
  informers.push(copy);
  copy.addHandler({
    added: () => {
      throw new Error("handler");
    },
  });
  copy.addHandler({ added: ({ metadata }) => told.push(metadata.name!) }).start();
  await kube.create(CONFIGMAPS, map("a"));
  await settle();
  expect(told).toEqual(["a"]);
  expect(errors).toMatchObject([{ message: "handler" }]);
});

describe("random", () => {
  test.each([1, 2, 3])("seed %i: the copy ends as the server is, whatever broke on the way", async (seed) => {
    const random = new Random(seed);
    const copy = informer({ random: () => 0.5 });
    const model = new Map<string, string>();
    copy.addHandler({
      added: ({ metadata, data }) => {
        expect(model.has(metadata.name!)).toBe(false);
        model.set(metadata.name!, data!.x!);
      },
      updated: ({ metadata, data }) => {
        expect(model.has(metadata.name!)).toBe(true);
        model.set(metadata.name!, data!.x!);
      },
      deleted: ({ metadata }) => expect(model.delete(metadata.name!)).toBe(true),
    });
    for (let step = 0; step < 600; step++) {
      const name = `m${random.below(12)}`;
      const there = kube.peek(CONFIGMAPS, name, "default") !== undefined;
      if (!there) await kube.create(CONFIGMAPS, map(name, String(step)));
      else if (random.below(3) === 0) await kube.delete(CONFIGMAPS, name, "default");
      else await set(name, String(step));
      const fault = random.below(40);
      if (fault === 0) kube.disconnectWatches();
      if (fault === 1) kube.disconnectWatches(undefined, KubeError.unreachable("reset"));
      if (fault === 2) kube.compact();
      if (fault === 3) kube.sendBookmarks();
      if (fault === 4) kube.failNext({ verb: "list" });
      if (fault === 5) kube.failNext({ verb: "watch" }, KubeError.of("Expired", "too old"));
      if (fault < 8) await clock.advance(random.below(400));
    }
    await clock.advance(20_000);
    const wanted = new Map(
      kube.all<ConfigMap>(CONFIGMAPS).map(({ metadata, data }) => [metadata.name!, data!.x!]),
    );
    expect(model).toEqual(wanted);
    expect(errors.filter((error) => !(error instanceof KubeError))).toEqual([]);
  });
});
