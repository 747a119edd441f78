import { describe, expect, test } from "vitest";
import { View } from "../../../src/controllers/View.js";
import type { Handler } from "../../../src/kube/Informer.js";
import { PODS } from "../../../src/kube/resources.js";
import type { Pod } from "../../../src/kube/types.js";
import { NOW, pod } from "./objects.js";

/** A view, and the hand that plays its informer. */
function setUp() {
  let informer!: Handler<Pod>;
  const view = new View<Pod>(
    PODS,
    {
      addHandler(handler: Handler<Pod>) {
        informer = handler;
        return undefined as never;
      },
    },
    { node: ({ spec }) => (spec?.nodeName ? [spec.nodeName] : []) },
  );
  return { view, informer };
}

const at = (version: number, node?: string, uid = "u1"): Pod => {
  const made = pod("a", node === undefined ? {} : { node });
  return { ...made, metadata: { ...made.metadata, uid, resourceVersion: String(version) } };
};

describe("the newer one wins", () => {
  test("an answer is there before the watch tells, and an old event does not undo it", () => {
    const { view, informer } = setUp();
    informer.added!(at(5));
    view.written(at(7, "n"));
    expect(view.by("node", "n")).toHaveLength(1);
    informer.updated!(at(6), at(5));
    expect(view.get("default/a")!.spec!.nodeName).toBe("n");
    // As numbers: 10 is after 9.
    view.written(at(9));
    informer.updated!(at(10, "m"), at(7));
    expect(view.by("node", "m")).toHaveLength(1);
    expect(view.by("node", "n")).toEqual([]);
  });

  test("a late answer does not bring back what went", () => {
    const { view, informer } = setUp();
    informer.added!(at(5));
    informer.deleted!(at(6));
    view.written(at(5));
    expect(view.list()).toEqual([]);
  });

  test("the end of the former one leaves its successor", () => {
    const { view, informer } = setUp();
    informer.added!(at(5));
    view.written(at(8, undefined, "u2"));
    informer.deleted!(at(7));
    expect(view.get("default/a")!.metadata.uid).toBe("u2");
  });

  test("what we deleted is terminating at once", () => {
    const { view, informer } = setUp();
    informer.added!(at(5));
    view.deleting(at(5), NOW);
    expect(view.get("default/a")!.metadata.deletionTimestamp).toBe("2024-01-01T00:00:00Z");
    informer.updated!(at(6), at(5));
    expect(view.get("default/a")!.metadata.deletionTimestamp).toBeUndefined();
  });
});

test("items of a list get their kind", () => {
  const { view, informer } = setUp();
  const { kind: _, ...plain } = at(5);
  informer.added!(plain as Pod);
  expect(view.get("default/a")).toMatchObject({ apiVersion: "v1", kind: "Pod" });
});

test("listeners see now and before", () => {
  const { view, informer } = setUp();
  const seen: (string | undefined)[][] = [];
  informer.added!(at(5));
  view.onChange((now, before) =>
    seen.push([now?.metadata.resourceVersion, before?.metadata.resourceVersion]),
  );
  informer.updated!(at(6), at(5));
  informer.deleted!(at(7));
  expect(seen).toEqual([
    ["5", undefined],
    ["6", "5"],
    [undefined, "7"],
  ]);
});
