import { describe, expect, test } from "vitest";
import { strategicMerge } from "../../../src/apiserver/verbs/strategicMerge.js";

const strategyOf = (path: string[]) =>
  path.at(-1) === "containers"
    ? ({ strategy: "merge", mergeKey: "name" } as const)
    : path.at(-1) === "finalizers"
      ? ({ strategy: "merge" } as const)
      : undefined;
const merge = (original: object, patch: object) =>
  strategicMerge(original as Record<string, unknown>, patch as Record<string, unknown>, strategyOf);
const two = {
  containers: [
    { name: "a", image: "1" },
    { name: "b", image: "1" },
  ],
};

describe("strategic merge patch", () => {
  test("maps merge, null deletes, plain lists are replaced", () => {
    expect(merge({ a: { x: 1, y: 2 }, l: [1, 2] }, { a: { x: null, z: 3 }, l: [3] })).toEqual({
      a: { y: 2, z: 3 },
      l: [3],
    });
  });
  test("lists with a merge key merge by it; a new element stands before what the server has", () => {
    expect(merge(two, { containers: [{ name: "b", image: "2" }] })).toEqual({
      containers: [
        { name: "a", image: "1" },
        { name: "b", image: "2" },
      ],
    });
    expect(merge(two, { containers: [{ name: "c" }] }).containers).toEqual([
      { name: "c" },
      ...two.containers,
    ]);
  });
  test("$patch delete and replace in lists and maps", () => {
    expect(merge(two, { containers: [{ $patch: "delete", name: "a" }] }).containers).toEqual([
      two.containers[1],
    ]);
    expect(merge(two, { containers: [{ name: "z" }, { $patch: "replace" }] }).containers).toEqual([
      { name: "z" },
    ]);
    expect(merge({ m: { a: 1 } }, { m: { $patch: "replace", b: 2 } })).toEqual({ m: { b: 2 } });
    expect(merge({ m: { a: 1 } }, { m: { $patch: "delete" } })).toEqual({ m: {} });
  });
  test("$setElementOrder", () => {
    const patch = { "$setElementOrder/containers": [{ name: "b" }, { name: "a" }] };
    expect(merge(two, patch).containers).toEqual([two.containers[1], two.containers[0]]);
  });
  test("$deleteFromPrimitiveList and merging primitives", () => {
    expect(merge({ finalizers: ["a", "b"] }, { "$deleteFromPrimitiveList/finalizers": ["a"] })).toEqual({
      finalizers: ["b"],
    });
    expect(merge({ finalizers: ["a"] }, { finalizers: ["a", "b"] })).toEqual({ finalizers: ["a", "b"] });
  });
  test("$retainKeys", () => {
    expect(merge({ s: { type: "R", r: 1 } }, { s: { $retainKeys: ["type"], type: "X" } })).toEqual({
      s: { type: "X" },
    });
  });
});
