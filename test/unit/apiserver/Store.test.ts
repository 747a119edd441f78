import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Store } from "../../../src/apiserver/storage/Store.js";
import { temporaryDirectory } from "../../support/apiserver.js";

const R = "/configmaps";
let directory: ReturnType<typeof temporaryDirectory>;
let store: Store;

beforeEach(() => {
  directory = temporaryDirectory();
  store = Store.open(directory.path, { historyLimit: 5 });
});
afterEach(async () => {
  await store.close();
  directory.remove();
});

const put = (name: string, more: object = {}) =>
  store.transact((t) => t.put(R, name, { metadata: { name }, ...more }));

describe("store", () => {
  test("revisions grow over all resources, and events come after the write is durable", async () => {
    const seen: string[] = [];
    store.subscribe(R, ({ type, entry }) => seen.push(`${type} ${entry.key} ${entry.revision}`));
    const first = put("a");
    expect(seen).toEqual([]);
    expect(store.get(R, "a")).toBeUndefined();
    await first;
    await store.transact((t) => t.remove(R, "a"));
    expect(seen).toEqual(["ADDED a 2", "DELETED a 3"]);
    expect(store.revision).toBe(3);
  });

  test("transactions see what earlier ones wrote, durable or not; a failed one leaves nothing", async () => {
    const first = put("a", { n: 1 });
    const failed = store.transact((t) => {
      expect(t.get(R, "a")).toBeDefined();
      t.put(R, "a", { metadata: { name: "a" } });
      throw new Error("no");
    });
    await expect(failed).rejects.toThrow("no");
    await first;
    expect(store.get(R, "a")?.object).toMatchObject({ n: 1, metadata: { resourceVersion: "2" } });
    await put("b");
    expect(store.get(R, "b")?.revision).toBe(3);
  });

  test("objects, revision and history outlive a restart", async () => {
    await put("a");
    await put("b");
    await store.transact((t) => t.remove(R, "a"));
    const { id } = store;
    await store.close();
    store = Store.open(directory.path, { historyLimit: 5 });
    expect(store.id).toBe(id);
    expect(store.revision).toBe(4);
    expect(store.list(R).map(({ key }) => key)).toEqual(["b"]);
    expect(store.since(R, 2)?.map(({ type, entry }) => `${type} ${entry.key}`)).toEqual([
      "ADDED b",
      "DELETED a",
    ]);
    expect(store.listAt(R, 3)?.map(({ key }) => key)).toEqual(["a", "b"]);
  });

  test("what is too long ago is not known", async () => {
    for (let i = 0; i < 8; i++) await put(`a${i}`);
    expect(store.since(R, 3)).toBeUndefined();
    expect(store.since(R, 4)).toHaveLength(5);
    await store.close();
    store = Store.open(directory.path, { historyLimit: 5 });
    expect(store.since(R, 3)).toBeUndefined();
    expect(store.since(R, 4)).toHaveLength(5);
  });
});

test("every acknowledged write survives kill -9", async () => {
  const program = `
    import { open } from "lmdb";
    const database = open({ path: process.argv[1] + "/objects.lmdb", encoding: "string", overlappingSync: false });
    for (let i = 0; ; i++) {
      database.transactionSync(() => {
        database.put(["o", "${R}", "k" + i], JSON.stringify({ metadata: { name: "k" + i, resourceVersion: String(i + 2) } }));
        database.put(["m", "revision"], String(i + 2));
      });
      process.stdout.write(i + "\\n");
    }`;
  const place = temporaryDirectory();
  const child = spawn(process.execPath, ["--input-type=module", "-e", program, place.path]);
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
    if (text.split("\n").length > 50) child.kill("SIGKILL");
  });
  await once(child, "close");
  const acknowledged = Number(text.trim().split("\n").at(-1));
  const reopened = Store.open(place.path);
  expect(acknowledged).toBeGreaterThan(40);
  for (let i = 0; i <= acknowledged; i++) expect(reopened.get(R, `k${i}`)).toBeDefined();
  await reopened.close();
  place.remove();
});
